// Draws the book's Plotly figures: on demand, in the colours of the page's theme, as wide as the page.
//
// A figure is <div class="book-figure"> with its JSON in a <script> (see book/_ext/book_figures.py). plotly.js is
// fetched from this book's own folder when the first figure comes near the screen. What a figure says about colours
// wins; what it leaves open (text, axes, sliders, backgrounds) follows the theme, by way of Plotly's templates.
(() => {
  "use strict";

  const PLOTLY = new URL("vendor/plotly.min.js", document.currentScript.src).href;
  const NARROW = window.matchMedia("(max-width: 600px)");
  const COARSE = window.matchMedia("(pointer: coarse)");
  const drawn = new Map(); // element -> the figure's own JSON

  let plotly;
  const loadPlotly = () =>
    (plotly ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = PLOTLY;
      script.onload = () => resolve(window.Plotly);
      script.onerror = () => reject(new Error(`cannot load ${PLOTLY}`));
      document.head.append(script);
    }));

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // The template: the figure's own, with everything that must be readable on this theme's background on top.
  function template(figure) {
    const own = figure.layout?.template ?? {};
    const text = colour("--book-figure-text");
    const grid = colour("--book-figure-grid");
    const line = colour("--book-figure-line");
    const raised = colour("--book-figure-raised");
    const clear = "rgba(0,0,0,0)";
    const axis = { gridcolor: grid, linecolor: line, zerolinecolor: line, tickcolor: line };
    const merge = (base, over) => ({ ...(base ?? {}), ...over });
    const layout = own.layout ?? {};
    const colorbar = { outlinewidth: 0, tickcolor: line };
    const font = merge(layout.font, { color: text, family: colour("--book-figure-font") });
    const data = { ...(own.data ?? {}) };
    for (const type of ["heatmap", "contour", "surface"]) {
      data[type] = [merge(data[type]?.[0], { colorbar })];
    }
    return {
      data,
      layout: {
        ...layout,
        font,
        paper_bgcolor: clear,
        plot_bgcolor: clear,
        xaxis: merge(layout.xaxis, axis),
        yaxis: merge(layout.yaxis, axis),
        coloraxis: merge(layout.coloraxis, { colorbar }),
        legend: merge(layout.legend, { bgcolor: clear }),
        hoverlabel: merge(layout.hoverlabel, { bgcolor: raised, bordercolor: line, font: { color: text } }),
        annotationdefaults: merge(layout.annotationdefaults, { font: { color: text } }),
        shapedefaults: merge(layout.shapedefaults, { line: { color: line } }),
        sliderdefaults: merge(layout.sliderdefaults, {
          bgcolor: grid,
          activebgcolor: colour("--book-accent"),
          bordercolor: line,
          borderwidth: 0,
          tickcolor: line,
          font: { color: text },
          currentvalue: { font: { color: text } },
        }),
        updatemenudefaults: merge(layout.updatemenudefaults, {
          bgcolor: raised,
          bordercolor: line,
          font: { color: text },
        }),
      },
    };
  }

  // The layout for this screen. layout.meta.narrow holds what the author wants otherwise on a narrow one.
  function layoutFor(figure) {
    const { width, paper_bgcolor, plot_bgcolor, ...rest } = structuredClone(figure.layout ?? {});
    const layout = { ...rest, autosize: true, template: template(figure) };
    if (COARSE.matches || NARROW.matches) layout.dragmode = false; // a finger scrolls the page, it does not zoom
    if (NARROW.matches) {
      layout.margin = { l: 48, r: 12, ...pickMargin(layout.margin) };
      for (const [key, value] of Object.entries(rest.meta?.narrow ?? {})) setIn(layout, key, value);
    }
    return layout;
  }

  // Side margins beyond these leave a phone no room for the figure; top and bottom stay the author's.
  function pickMargin(margin = {}) {
    return { ...margin, l: Math.min(margin.l ?? 48, 56), r: Math.min(margin.r ?? 12, 20) };
  }

  // setIn(layout, "legend.y", -0.2), as Plotly.relayout would write it.
  function setIn(target, path, value) {
    const keys = path.split(".");
    const last = keys.pop();
    for (const key of keys) target = target[key] ??= {};
    target[last] = value;
  }

  const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false, showTips: false };

  async function draw(box) {
    const figure = JSON.parse(box.querySelector(".book-figure-data").textContent);
    const plot = document.createElement("div");
    plot.className = "book-figure-plot";
    box.append(plot);
    if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise; // labels may hold formulas
    const Plotly = await loadPlotly();
    await Plotly.newPlot(plot, structuredClone(figure.data ?? []), layoutFor(figure), CONFIG);
    if (figure.frames?.length) {
      for (const frame of figure.frames) delete frame.layout?.template;
      await Plotly.addFrames(plot, figure.frames);
    }
    drawn.set(plot, figure);
    box.dataset.drawn = "true";
  }

  // A change of theme keeps data, zoom and slider position: only the template is exchanged.
  function recolour() {
    for (const [plot, figure] of drawn) window.Plotly.relayout(plot, { template: template(figure) });
  }

  function rearrange() {
    for (const [plot, figure] of drawn) {
      const now = plot.layout;
      const layout = layoutFor(figure);
      (layout.sliders ?? []).forEach((slider, i) => (slider.active = now.sliders?.[i]?.active ?? slider.active));
      window.Plotly.react(plot, plot.data, layout, CONFIG);
    }
  }

  // Left and right arrows move a figure's first slider when the figure has the keyboard's focus.
  function step(plot, by) {
    const slider = plot._fullLayout?.sliders?.[0];
    if (!slider) return;
    const active = Math.min(Math.max((slider.active ?? 0) + by, 0), slider.steps.length - 1);
    const { method, args } = slider.steps[active];
    window.Plotly.relayout(plot, { "sliders[0].active": active });
    if (method !== "skip") window.Plotly[method](plot, ...args);
  }

  function start() {
    const boxes = document.querySelectorAll(".book-figure");
    const seen = new IntersectionObserver(
      (entries) => {
        for (const entry of entries.filter((e) => e.isIntersecting)) {
          seen.unobserve(entry.target);
          draw(entry.target);
        }
      },
      { rootMargin: "300px" },
    );
    for (const box of boxes) {
      seen.observe(box);
      if (box.querySelector(".book-figure-data").textContent.includes('"sliders"')) {
        box.tabIndex = 0;
        box.addEventListener("keydown", (event) => {
          const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
          const plot = box.querySelector(".book-figure-plot");
          if (!by || !plot || event.altKey || event.ctrlKey || event.metaKey) return;
          event.preventDefault();
          event.stopPropagation();
          step(plot, by);
        });
      }
    }
    new MutationObserver(recolour).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    NARROW.addEventListener("change", rearrange);
    window.addEventListener("beforeprint", () => boxes.forEach((box) => box.dataset.drawn || draw(box)));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
