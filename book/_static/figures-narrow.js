// Where the panels of a Plotly figure go on a narrow screen: under each other instead of side by side.
//
// Pure functions on Plotly's JSON. Panels with axes get a row each; pictures stay in pairs, since they are there to be
// compared. Titles and legends move with their panel, in the figure's layout as well as in its frames and menus.
(() => {
  "use strict";

  const PICTURE_HEIGHT = 220; // pixels, at most
  const CHART_HEIGHT = [170, 240]; // pixels, at least and at most
  const GAP = 108; // pixels between two rows: labels of the upper one, rotated ones too, and title of the lower
  const PICTURE_GAP = 60; // between two rows of pictures: a title of three lines
  const MENU_HEIGHT = 40;
  const LABEL_SIZE = 11.5;
  const SLIDER_ROOM = 22; // more pixels above a slider: labels of an axis may be rotated here, and its title is lower
  const LEGEND_ROOM = 24; // and below a menu: a legend may take a second line here

  // The panels of a figure, in reading order: {x, y: axis names, xd, yd: domains, picture: whether it holds images}.
  function panels(figure) {
    const layout = figure.layout ?? {};
    const found = [];
    for (const [name, axis] of Object.entries(layout)) {
      if (!/^xaxis\d*$/.test(name) || !axis.domain) continue;
      const yName = `yaxis${(axis.anchor ?? "y").slice(1)}`;
      const reference = `x${name.slice(5)}`;
      const traces = (figure.data ?? []).filter((trace) => (trace.xaxis ?? "x") === reference);
      if (!layout[yName]?.domain || !traces.length) continue;
      const picture = traces.every((trace) => trace.type === "image");
      found.push({ x: name, y: yName, xd: axis.domain, yd: layout[yName].domain, picture });
    }
    return found.sort((a, b) => b.yd[1] - a.yd[1] || a.xd[0] - b.xd[0]);
  }

  // The rows of the narrow figure: lists of panels.
  function rows(all) {
    const old = [];
    for (const panel of all) {
      const row = old.find((r) => Math.abs(r[0].yd[1] - panel.yd[1]) < 1e-6);
      if (row) row.push(panel);
      else old.push([panel]);
    }
    return old.flatMap((row) => {
      const width = row.every((panel) => panel.picture) ? 2 : 1;
      return Array.from({ length: Math.ceil(row.length / width) }, (_, i) => row.slice(i * width, (i + 1) * width));
    });
  }

  const scale = (value, [a, b], [c, d]) => c + ((value - a) / (b - a || 1)) * (d - c);
  const distance = (value, [a, b]) => Math.max(a - value, value - b, 0);

  // Gives each panel its new place (nx, ny: domains) and returns the height of the plotting area in pixels.
  function place(all, oldHeight) {
    const stack = rows(all);
    const pictures = stack.map((row) => row.every((panel) => panel.picture));
    const gaps = pictures.slice(1).map((below, i) => (below && pictures[i] ? PICTURE_GAP : GAP));
    const heights = stack.map((row, i) => {
      const old = Math.max(...row.map((panel) => (panel.yd[1] - panel.yd[0]) * oldHeight));
      if (pictures[i]) return Math.min(old, PICTURE_HEIGHT * (row.length > 1 ? 0.8 : 1));
      return Math.min(Math.max(old, CHART_HEIGHT[0]), CHART_HEIGHT[1]);
    });
    const total = [...heights, ...gaps].reduce((a, b) => a + b, 0);
    let top = total;
    stack.forEach((row, i) => {
      row.forEach((panel, j) => {
        panel.nx = row.length === 1 ? [0, 1] : [j * 0.52, j * 0.52 + 0.48];
        panel.ny = [(top - heights[i]) / total, top / total];
      });
      top -= heights[i] + (gaps[i] ?? 0);
    });
    return total;
  }

  // The panel that something placed in paper coordinates belongs to, or undefined for what is placed otherwise.
  function home(item, all) {
    if ((item.xref ?? "paper") !== "paper" || (item.yref ?? "paper") !== "paper") return undefined;
    if (typeof item.x !== "number" || typeof item.y !== "number") return undefined;
    const far = (panel) => distance(item.x, panel.xd) + distance(item.y, panel.yd);
    return all.reduce((best, panel) => (far(panel) < far(best) ? panel : best));
  }

  const moved = (item, panel) =>
    panel ? { ...item, x: scale(item.x, panel.xd, panel.nx), y: scale(item.y, panel.yd, panel.ny) } : item;

  // A title over half the width breaks after its first comma or colon.
  const broken = (text, panel) =>
    panel?.nx[1] - panel?.nx[0] < 0.6 && text?.length > 18 ? text.replace(/([,:]) /, "$1<br>") : text;

  // A panel that left its title, or its numbers too, to the one beside it needs them when it has a row of its own.
  function scaleOf(panel, part) {
    const axis = part[panel.y];
    if (!axis.matches || panel.nx[0] > 0) return {};
    return { showticklabels: true, title: part[`yaxis${axis.matches.slice(1)}`]?.title };
  }

  // Rewrites a piece of layout: the figure's own, a frame's, or what a menu entry sets.
  function rewrite(part, all) {
    const out = { ...part };
    for (const panel of all) {
      if (out[panel.x]) out[panel.x] = { ...out[panel.x], domain: panel.nx };
      if (out[panel.y]) out[panel.y] = { ...out[panel.y], domain: panel.ny, ...scaleOf(panel, part) };
    }
    if (out.annotations) {
      out.annotations = out.annotations.map((note) => {
        const panel = home(note, all);
        const size = Math.min(note.font?.size ?? LABEL_SIZE, LABEL_SIZE);
        return { ...moved(note, panel), text: broken(note.text, panel), font: { ...note.font, size } };
      });
    }
    const inside = (value) => value > 0 && value < 1;
    if (out.legend && inside(out.legend.y)) out.legend = moved(out.legend, home(out.legend, all));
    return out;
  }

  // Puts the sliders of a piece of layout lower.
  function lower(part) {
    if (!part.sliders) return part;
    const pad = (slider) => ({ ...slider.pad, t: (slider.pad?.t ?? 0) + SLIDER_ROOM });
    return { ...part, sliders: part.sliders.map((slider) => ({ ...slider, pad: pad(slider) })) };
  }

  const MENU_ARGUMENT = { update: 1, relayout: 0 }; // which argument of a menu's method is a layout

  // Returns the figure {data, layout, frames} as it should be on a narrow screen; the original stays as it is.
  function narrow(figure) {
    const layout = { ...(figure.layout ?? {}) };
    const margin = { t: 48, b: 48, ...(layout.margin ?? {}) };
    margin.l = Math.min(margin.l ?? 48, 56);
    margin.r = Math.min(margin.r ?? 12, 20);
    const out = { ...figure, layout: { ...layout, margin } };
    const menus = layout.updatemenus ?? [];
    let height = layout.height ?? 450;

    const all = panels(figure);
    const several = all.length > 1;
    const change = (part) => lower(several ? rewrite(part, all) : part);
    const before = height - margin.t - margin.b;
    if (several) {
      height = place(all, before) + margin.t + margin.b;
      out.frames = (figure.frames ?? []).map((frame) =>
        frame.layout ? { ...frame, layout: rewrite(frame.layout, all) } : frame,
      );
    }
    out.layout = change(out.layout);
    const legend = out.layout.legend;
    if (legend?.y > 1) {
      // Above the panels it keeps its distance in pixels, which was given as a share of their old height.
      const y = 1 + ((legend.y - 1) * before) / (height - margin.t - margin.b);
      out.layout.legend = { ...legend, y };
    }
    if (layout.sliders) {
      margin.b += SLIDER_ROOM;
      height += SLIDER_ROOM;
    }
    const named = layout.showlegend !== false && (figure.data ?? []).some((trace) => trace.name && trace.showlegend !== false);
    const room = menus.length && named ? LEGEND_ROOM : 0;
    const extra = MENU_HEIGHT * Math.max(menus.length - 1, 0) + room;
    out.layout.updatemenus = menus.map((menu, i) => ({
      ...menu,
      x: 0,
      xanchor: "left",
      pad: { ...menu.pad, b: (menu.pad?.b ?? 0) + room + MENU_HEIGHT * (menus.length - 1 - i) },
      buttons: (menu.buttons ?? []).map((button) => {
        const at = MENU_ARGUMENT[button.method];
        if (at === undefined || !button.args?.[at]) return button;
        return { ...button, args: button.args.map((value, k) => (k === at ? change(value) : value)) };
      }),
    }));
    out.layout.margin = { ...margin, t: margin.t + extra };
    out.layout.height = height + extra;
    return out;
  }

  window.bookNarrow = narrow;
})();
