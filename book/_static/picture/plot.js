// Curves over the zigzag rank with a logarithmic axis, as SVG in the theme's colours; as wide as its box.
ownPicture.define("plot", () => {
  "use strict";

  const HEIGHT = 290;
  const MARGIN = { top: 12, right: 14, bottom: 46, left: 58 }; // pixels
  const SPACE = "http://www.w3.org/2000/svg";

  function svg(name, attributes = {}, ...children) {
    const element = document.createElementNS(SPACE, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  const raise = (character) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(character)];
  const power = (exponent) => `10${[...String(exponent)].map(raise).join("")}`;

  // M and L for what lies on a logarithmic axis at all; a gap for what does not.
  function path(values, x, y) {
    let pen = "M";
    return values.map((value, k) => {
      if (!(value > 0 && value < Infinity)) {
        pen = "M";
        return "";
      }
      const point = `${pen}${x(k).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
      return point;
    }).join("");
  }

  // spec: {series: [{name, values, look}], ylabel, decades: [lowest, highest], markX, markY, alt}
  function drawing(spec, width) {
    const [inner, tall] = [width - MARGIN.left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom];
    const ranks = spec.series[0].values.length;
    const [low, high] = spec.decades;
    const x = (k) => ((k + 0.5) / ranks) * inner;
    const y = (value) => ((high - Math.log10(value)) / (high - low)) * tall;
    const grid = svg("g", { class: "own-grid" });
    const labels = svg("g", { class: "own-labels" });
    const step = Math.ceil((high - low) / 6);
    for (let e = Math.ceil(low); e <= high; e += step) {
      grid.append(svg("path", { d: `M0 ${y(10 ** e)}H${inner}` }));
      labels.append(svg("text", { x: -8, y: y(10 ** e) + 4, "text-anchor": "end" }, power(e)));
    }
    for (let k = 0; k < ranks; k += width < 420 ? 16 : 8) {
      labels.append(svg("text", { x: x(k), y: tall + 18, "text-anchor": "middle" }, String(k)));
    }
    labels.append(
      svg("text", { x: inner / 2, y: tall + 38, "text-anchor": "middle" }, "zigzag rank: from coarse to fine"),
      svg("text", { transform: `translate(-44 ${tall / 2}) rotate(-90)`, "text-anchor": "middle" }, spec.ylabel),
    );
    // An SVG in the SVG cuts off what lies beyond the axes.
    const curves = svg("svg", { width: inner, height: tall, class: "own-curves" });
    if (spec.markX !== undefined) curves.append(svg("path", { class: "own-mark", d: `M${x(spec.markX)} 0V${tall}` }));
    if (spec.markY !== undefined) curves.append(svg("path", { class: "own-mark", d: `M0 ${y(spec.markY)}H${inner}` }));
    for (const { values, look } of spec.series) {
      curves.append(svg("path", { class: `own-line-${look}`, d: path(values, x, y) }));
    }
    const frame = svg("rect", { class: "own-frame", width: inner, height: tall });
    const shifted = svg("g", { transform: `translate(${MARGIN.left} ${MARGIN.top})` }, grid, frame, curves, labels);
    const attributes = { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": spec.alt };
    return svg("svg", attributes, shifted);
  }

  function legend(series) {
    const list = Object.assign(document.createElement("ul"), { className: "own-legend" });
    for (const { name, look } of series) {
      const entry = document.createElement("li");
      const line = svg("path", { class: `own-line-${look}`, d: "M0 5H30" });
      entry.append(svg("svg", { width: 30, height: 10, "aria-hidden": "true" }, line), name);
      list.append(entry);
    }
    return list;
  }

  // A box whose `draw(spec)` draws, and draws anew when its width changes. `spec` is what is drawn.
  function makePlot() {
    const box = Object.assign(document.createElement("div"), { className: "own-plot" });
    let drawn = 0;
    const redraw = () => {
      const width = Math.round(box.clientWidth);
      if (!box.spec || !width) return;
      drawn = width;
      box.replaceChildren(legend(box.spec.series), drawing(box.spec, width));
    };
    box.draw = (spec) => {
      box.spec = spec;
      redraw();
    };
    new ResizeObserver(() => Math.round(box.clientWidth) !== drawn && redraw()).observe(box);
    return box;
  }

  return { makePlot };
});
