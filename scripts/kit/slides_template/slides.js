// Starts the slides once the formulas are set. Text that is too tall for its slide becomes smaller until it fits; a figure
// or an explorer takes the height that is left.
(async () => {
  "use strict";

  const SMALLEST = 0.45;
  const LARGEST = 1.6; // of a figure, times its size on the page
  const LEAST = 12; // pixels of a figure's text, on a slide of 1180
  const MARGIN = 20; // pixels below a slide, for the number of the page

  // Height and width of what a slide shows. (Its own scroll height counts the formulas' hidden spoken form, too.)
  function extent(slide) {
    const shown = [...slide.children].filter((child) => !child.matches("aside"));
    const tables = [...slide.querySelectorAll("table, mjx-container[display='true'] > svg")];
    return {
      height: Math.max(0, ...shown.map((child) => child.offsetTop + child.offsetHeight)),
      width: Math.max(0, ...tables.map((wide) => wide.getBoundingClientRect().width)) / window.Reveal.getScale(),
    };
  }

  // Lets no text of a figure be smaller than this, in its own pixels, once it is drawn.
  async function enlarge(box, least) {
    while (!box.dataset.drawn) await new Promise((resolve) => setTimeout(resolve, 50));
    const plot = box.querySelector(".book-figure-plot");
    const changes = {};
    const raise = (path, size) => {
      if (size < least) changes[`${path}.size`] = least;
    };
    const visit = (part, path) => {
      for (const [key, value] of Object.entries(part)) {
        if (key === "template" || key === "meta" || !value || typeof value !== "object") continue;
        const here = Array.isArray(part) ? `${path}[${key}]` : path ? `${path}.${key}` : key;
        if (key.endsWith("font")) raise(here, value.size);
        else visit(value, here);
      }
    };
    visit(plot.layout, "");
    raise("font", plot._fullLayout.font.size);
    for (const [key, axis] of Object.entries(plot._fullLayout)) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      if (axis.title?.text) raise(`${key}.title.font`, axis.title.font.size);
      if (axis.tickfont) raise(`${key}.tickfont`, axis.tickfont.size);
    }
    if (Object.keys(changes).length) await window.Plotly.relayout(plot, changes);
  }

  function fit() {
    const slide = window.Reveal.getCurrentSlide();
    const { height, width } = window.Reveal.getConfig();
    if (!slide || slide.dataset.fitted) return;
    slide.dataset.fitted = "true";
    const drawn = slide.querySelector(":scope > .output:has(.book-figure)");
    if (drawn) {
      const below = extent(slide).height - drawn.offsetTop - drawn.offsetHeight;
      const left = height - MARGIN - drawn.offsetTop - below;
      const zoom = Math.min(LARGEST, left / drawn.offsetHeight);
      drawn.style.zoom = zoom;
      for (const box of drawn.querySelectorAll(".book-figure")) enlarge(box, LEAST / zoom);
      return;
    }
    for (let size = 1; size > SMALLEST; size -= 0.05) {
      slide.style.fontSize = `${size}em`;
      const needed = extent(slide);
      if (needed.height <= height - MARGIN && needed.width <= width) break;
    }
  }

  await window.MathJax.startup.promise;
  await window.MathJax.typesetPromise();
  await window.Reveal.initialize({
    controls: false, // its arrows lie on top of sliders; the first slide names the keys
    navigationMode: "linear", // the right arrow goes through all slides, those below others too
    progress: true,
    hash: true,
    slideNumber: "c/t",
    transition: "none",
    center: false,
    width: 1180,
    height: 720,
    plugins: [window.RevealNotes],
  });
  // A list has the arrows while it has the focus. (A figure's slider takes them itself, see figures.js.)
  document.querySelector(".reveal").addEventListener("keydown", (event) => {
    if (event.target.matches("select")) event.stopPropagation();
  });
  const show = () => {
    fit();
    window.dispatchEvent(new Event("resize")); // a figure that was drawn while its slide was hidden takes its width
  };
  window.Reveal.on("slidechanged", show);
  show();
  document.body.dataset.ready = "true";
})();
