// Formulas that fit the screen. A style sheet shrinks what is a little too wide; what would become too small to read is
// set anew in several lines: first broken at wide spaces, then before relations, then before plus and minus.
(() => {
  "use strict";

  const SMALLEST = 0.66; // of the size of the text
  const QUIET = 200; // milliseconds that a width has to last
  const BREAKS = [
    /^\\q?quad(?![a-z])/i,
    /^(?:=|\\(?:approx|propto|leq?|geq?|sim|to|in|iff|Longrightarrow|Rightarrow)(?![a-z]))/i,
    /^[+-]/,
  ];

  // The pieces of TeX between places outside all groups where `patterns` match; a wide space itself is dropped.
  function split(tex, patterns) {
    const pieces = [""];
    let depth = 0;
    for (let i = 0; i < tex.length; ) {
      const rest = tex.slice(i);
      const [token] = /^(?:\\[a-zA-Z]+|\\.|.)/s.exec(rest);
      if (/^(?:\{|\[|\(|\\left|\\bigl|\\begin|\\langle|\\lVert)/i.test(token)) depth += 1;
      const match = depth === 0 && pieces.at(-1).trim() && patterns.map((p) => p.exec(rest)?.[0]).find(Boolean);
      if (match) pieces.push(/quad/.test(match) ? "" : match);
      else pieces[pieces.length - 1] += token;
      if (/^(?:\}|\]|\)|\\right(?!arrow)|\\bigr|\\end|\\rangle|\\rVert)/i.test(token)) depth -= 1;
      i += match ? match.length : token.length;
    }
    return pieces.map((piece) => piece.trim()).filter(Boolean);
  }

  // The formula in lines: the first flush left, the others set in.
  function inLines(tex, level) {
    const pieces = split(tex, BREAKS.slice(0, level));
    return `\\begin{aligned}&${pieces.map((piece) => `{}${piece}`).join("\\\\&\\quad ")}\\end{aligned}`;
  }

  // How much a formula is shrunk: 1 is not at all.
  function shrinkage(container) {
    const svg = container.querySelector("svg");
    const fits = svg.getBoundingClientRect().width;
    svg.style.maxWidth = "none";
    const natural = svg.getBoundingClientRect().width;
    svg.style.maxWidth = "";
    return natural ? fits / natural : 1;
  }

  const originals = new Map(); // where a formula stands -> {tex, container}: as the author wrote it

  async function fit({ tex, place, container }) {
    place.replaceChildren(...[...place.childNodes].map((node) => (node.nodeName === "MJX-CONTAINER" ? container : node)));
    if (shrinkage(container) >= SMALLEST || /\\begin|\\\\|&/.test(tex)) return;
    let best = container;
    let size = shrinkage(container);
    for (let level = 1; level <= BREAKS.length && size < SMALLEST; level += 1) {
      const lines = await window.MathJax.tex2svgPromise(inLines(tex, level), { display: true });
      if (lines.querySelector("[data-mjx-error], mjx-merror")) continue;
      best.replaceWith(lines);
      const now = shrinkage(lines);
      if (now > size) [best, size] = [lines, now];
      else lines.replaceWith(best);
    }
  }

  async function fitAll() {
    for (const formula of originals.values()) await fit(formula);
  }

  async function start() {
    await window.MathJax?.startup?.promise;
    for (const { math, display, typesetRoot } of window.MathJax?.startup?.document?.math ?? []) {
      const place = typesetRoot?.parentElement;
      if (display && place) originals.set(place, { tex: math, place, container: typesetRoot });
    }
    await fitAll();
    document.documentElement.dataset.formulas = "fit";
    let quiet;
    window.addEventListener("resize", () => {
      clearTimeout(quiet);
      quiet = setTimeout(fitAll, QUIET);
    });
  }

  window.addEventListener("load", start);
})();
