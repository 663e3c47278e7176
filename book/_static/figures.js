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
  const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false, showTips: false };
  const drawn = new Map(); // box -> {plot: element, figure: its JSON, narrow: whether it was drawn for a narrow screen}
  const queues = new Map(); // box -> what happens to it, one after another
  const QUIET = 150; // milliseconds that a width has to last before figures are drawn for it

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
  const merge = (base, over) => ({ ...(base ?? {}), ...over });

  // The figure's own template with everything on top that must be readable on this theme's background.
  function template(figure) {
    const { data = {}, layout = {} } = figure.layout?.template ?? {};
    const text = colour("--book-figure-text");
    const grid = colour("--book-figure-grid");
    const line = colour("--book-figure-line");
    const raised = colour("--book-figure-raised");
    const clear = "rgba(0,0,0,0)";
    const font = { color: text };
    const axis = (own) => ({
      ...own,
      automargin: true,
      gridcolor: grid,
      linecolor: line,
      zerolinecolor: line,
      tickcolor: line,
      title: merge(own?.title, { font: { size: 13 } }),
    });
    const colorbar = { outlinewidth: 0, tickcolor: line };
    const withColorbar = Object.fromEntries(
      ["heatmap", "contour", "surface"].map((type) => [type, [merge(data[type]?.[0], { colorbar })]]),
    );
    return {
      data: { ...data, ...withColorbar },
      layout: {
        ...layout,
        font: merge(layout.font, { color: text, family: colour("--book-figure-font") }),
        paper_bgcolor: clear,
        plot_bgcolor: clear,
        xaxis: axis(layout.xaxis),
        yaxis: axis(layout.yaxis),
        coloraxis: merge(layout.coloraxis, { colorbar }),
        legend: merge(layout.legend, { bgcolor: clear }),
        hoverlabel: merge(layout.hoverlabel, { bgcolor: raised, bordercolor: line, font }),
        annotationdefaults: merge(layout.annotationdefaults, { font }),
        shapedefaults: merge(layout.shapedefaults, { line: { color: line } }),
        sliderdefaults: merge(layout.sliderdefaults, {
          bgcolor: grid,
          bordercolor: line,
          borderwidth: 0,
          tickcolor: line,
          font,
          currentvalue: { font },
        }),
        updatemenudefaults: merge(layout.updatemenudefaults, { bgcolor: raised, bordercolor: line, font }),
      },
    };
  }

  // Sets layout["legend"]["y"] for the path "legend.y".
  function setIn(target, path, value) {
    const keys = path.split(".");
    const last = keys.pop();
    for (const key of keys) target = target[key] ??= {};
    target[last] = value;
  }

  // The figure for this screen. layout.meta.narrow holds what its author wants otherwise on a narrow one.
  function prepare(source) {
    const copy = structuredClone(source);
    const figure = NARROW.matches ? window.bookNarrow(copy) : copy;
    const { width, paper_bgcolor, plot_bgcolor, ...layout } = figure.layout ?? {};
    layout.autosize = true;
    layout.template = template(source);
    if (COARSE.matches || NARROW.matches) layout.dragmode = false; // a finger scrolls the page, it does not zoom
    if (NARROW.matches) {
      for (const [path, value] of Object.entries(layout.meta?.narrow ?? {})) setIn(layout, path, value);
    }
    for (const frame of figure.frames ?? []) delete frame.layout?.template;
    return { data: figure.data ?? [], layout, frames: figure.frames ?? [] };
  }

  async function draw(box) {
    const figure = JSON.parse(box.querySelector(".book-figure-data").textContent);
    const plot = document.createElement("div");
    plot.className = "book-figure-plot";
    box.append(plot);
    if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise; // labels may hold formulas
    const Plotly = await loadPlotly();
    const narrow = NARROW.matches;
    const { data, layout, frames } = prepare(figure);
    await Plotly.newPlot(plot, data, layout, CONFIG);
    if (frames.length) await Plotly.addFrames(plot, frames);
    // A menu that changes what is drawn brings its own slider, at its default: put it back to where the reader had it.
    plot.on("plotly_sliderchange", ({ slider }) => (plot.bookPosition = slider.active));
    plot.on("plotly_buttonclicked", ({ button, menu, active }) => {
      keepPosition(plot, button);
      const select = menuKeys(box)[menu._index];
      if (select) select.value = active;
    });
    plot.on("plotly_afterplot", () => scalable(plot));
    scalable(plot);
    box.style.minHeight = `${plot.offsetHeight}px`;
    drawn.set(box, { plot, figure, narrow });
    offerMenus(box, plot);
    box.dataset.drawn = "true";
  }

  // A change of theme keeps data, zoom and slider position: only the template is exchanged.
  function recolour() {
    for (const { plot, figure } of drawn.values()) window.Plotly.relayout(plot, { template: template(figure) });
  }

  // Draws a figure unless it is there as this screen wants it. One that was drawn for the other width is drawn anew, with
  // the entries of its menus and the position of its slider that were reached.
  async function update(box) {
    const before = drawn.get(box);
    if (before?.narrow === NARROW.matches) return;
    if (!before) return draw(box);
    const active = before.plot.layout?.sliders?.[0]?.active;
    const chosen = (before.plot._fullLayout?.updatemenus ?? []).map((menu) => menu.active);
    window.Plotly.purge(before.plot);
    before.plot.remove();
    drawn.delete(box);
    await draw(box);
    const { plot } = drawn.get(box);
    for (const [i, entry] of chosen.entries()) {
      if (plot._fullLayout.updatemenus?.[i]?.active !== entry) await choose(plot, i, entry);
    }
    if (active !== undefined) goTo(plot, active);
  }

  // One thing after another for each figure, or a figure is drawn twice.
  function enqueue(box) {
    const next = (queues.get(box) ?? Promise.resolve()).then(() => update(box));
    queues.set(box, next.catch(() => {}));
    return next;
  }

  // Lets style sheets scale the drawing, as they do on paper: Plotly's own SVG would be cut off.
  function scalable(plot) {
    const svgs = [...plot.querySelectorAll(".main-svg")];
    for (const svg of svgs) svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
    if (svgs[0]) plot.style.setProperty("--shape", `${svgs[0].getAttribute("width")} / ${svgs[0].getAttribute("height")}`);
  }

  // What a click on an entry of a menu does.
  async function choose(plot, index, entry) {
    const button = plot._fullLayout.updatemenus[index].buttons[entry];
    await window.Plotly.relayout(plot, { [`updatemenus[${index}].active`]: entry });
    if (button.method !== "skip") await window.Plotly[button.method](plot, ...button.args);
    keepPosition(plot, button);
  }

  function keepPosition(plot, button) {
    if (button.method === "update" && plot.bookPosition !== undefined) goTo(plot, plot.bookPosition);
  }

  const menuKeys = (box) => [...(box.previousElementSibling?.matches(".book-figure-menus")
    ? box.previousElementSibling.querySelectorAll("select") : [])];

  // Plotly's menus are for pointers. For the keyboard the same entries stand in lists before the figure, seen on focus.
  function offerMenus(box, plot) {
    const menus = plot._fullLayout.updatemenus ?? [];
    if (!menus.length || menuKeys(box).length) return;
    const group = document.createElement("div");
    group.className = "book-figure-menus";
    for (const [index, menu] of menus.entries()) {
      const select = document.createElement("select");
      select.setAttribute("aria-label", `What the next figure shows, menu ${index + 1} of ${menus.length}`);
      for (const [entry, button] of menu.buttons.entries()) {
        select.add(new Option(button.label.replace(/<[^>]*>/g, " "), entry, false, entry === menu.active));
      }
      select.addEventListener("change", () => choose(drawn.get(box).plot, index, Number(select.value)));
      group.append(select);
    }
    box.before(group);
  }

  function goTo(plot, position) {
    const slider = plot._fullLayout?.sliders?.[0];
    if (!slider) return;
    const active = Math.min(Math.max(position, 0), slider.steps.length - 1);
    const { method, args } = slider.steps[active];
    plot.bookPosition = active;
    window.Plotly.relayout(plot, { "sliders[0].active": active });
    if (method !== "skip") window.Plotly[method](plot, ...args);
  }

  // Left and right arrows move a figure's first slider while the figure has the keyboard's focus.
  function onKey(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const plot = drawn.get(event.currentTarget)?.plot;
    if (!by || !plot || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    goTo(plot, (plot._fullLayout.sliders?.[0]?.active ?? 0) + by);
  }

  function start() {
    const boxes = document.querySelectorAll(".book-figure");
    const near = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          if (!isIntersecting) continue;
          near.unobserve(target);
          enqueue(target);
        }
      },
      { rootMargin: "300px" },
    );
    for (const box of boxes) {
      near.observe(box);
      if (!box.querySelector(".book-figure-data").textContent.includes('"sliders":')) continue;
      box.tabIndex = 0;
      box.addEventListener("keydown", onKey);
    }
    // What was never scrolled to is drawn when the page has nothing else to do, so that printing finds it.
    const whenIdle = window.requestIdleCallback ?? ((later) => setTimeout(later, 300));
    const waiting = [...boxes];
    async function drawNext() {
      const box = waiting.shift();
      if (!box) return;
      near.unobserve(box);
      await enqueue(box);
      whenIdle(drawNext);
    }
    window.addEventListener("load", () => setTimeout(() => whenIdle(drawNext), 1500));
    new MutationObserver(recolour).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    let quiet;
    NARROW.addEventListener("change", () => {
      clearTimeout(quiet);
      quiet = setTimeout(() => [...queues.keys()].forEach(enqueue), QUIET);
    });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
