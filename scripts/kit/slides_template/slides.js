// Starts the slides once the formulas are set. Text that is too tall for its slide becomes smaller until it fits; a figure
// or an explorer takes the height that is left.
(async () => {
  "use strict";

  const SMALLEST = 0.45;
  const LARGEST = 1.6; // of a figure, times its size on the page
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

  function fit() {
    const slide = window.Reveal.getCurrentSlide();
    const { height, width } = window.Reveal.getConfig();
    if (!slide || slide.dataset.fitted) return;
    slide.dataset.fitted = "true";
    const drawn = slide.querySelector(":scope > .output:has(.book-figure)");
    if (drawn) {
      const below = extent(slide).height - drawn.offsetTop - drawn.offsetHeight;
      const left = height - MARGIN - drawn.offsetTop - below;
      drawn.style.zoom = Math.min(LARGEST, left / drawn.offsetHeight);
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
