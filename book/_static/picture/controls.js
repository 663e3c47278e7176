// The parts that explorers are made of: sliders, menus, and pictures with a caption and a sign that they are not ready.
ownPicture.define("controls", (use) => {
  "use strict";

  const { show } = use("pixels");
  let count = 0;

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // A slider over a list of values. `value()` is where it stands.
  function makeSlider({ label, values, start, text, change }) {
    const id = `own-control-${++count}`;
    const input = element("input", { type: "range", id, min: 0, max: values.length - 1, step: 1 });
    input.value = values.indexOf(start);
    const said = element("output", { htmlFor: id });
    const value = () => values[Number(input.value)];
    const tell = () => {
      said.textContent = text(value());
      input.setAttribute("aria-valuetext", text(value()));
    };
    input.addEventListener("input", () => {
      tell();
      change();
    });
    tell();
    const name = element("label", { htmlFor: id, textContent: label });
    return { box: element("div", { className: "own-slider" }, name, input, said), value };
  }

  // A menu; `options` are [value, text] pairs.
  function makeMenu({ label, options, start, change }) {
    const id = `own-control-${++count}`;
    const entries = options.map(([value, text]) => new Option(text, value, false, value === start));
    const select = element("select", { id }, ...entries);
    select.addEventListener("change", change);
    const name = element("label", { htmlFor: id, textContent: label });
    return { box: element("div", { className: "own-menu" }, name, select), value: () => select.value };
  }

  // A picture with a caption. `show(x, note)` draws it; `wait(share)` dims it until then.
  function makePicture(title) {
    const canvas = element("canvas");
    canvas.setAttribute("role", "img");
    const bar = element("progress", { max: 1, hidden: true });
    bar.setAttribute("aria-label", `${title}: being computed`);
    const note = element("span", { className: "own-note" });
    const caption = element("figcaption", {}, element("strong", { textContent: title }), note, bar);
    const box = element("figure", {}, canvas, caption);
    canvas.setAttribute("aria-label", `${title}: not computed yet`);
    return {
      box,
      show(x, said = "") {
        show(canvas, x);
        canvas.classList.toggle("own-coarse", x.w < 100);
        note.textContent = said;
        canvas.setAttribute("aria-label", said ? `${title}: ${said}` : title);
        box.classList.remove("own-waiting");
        bar.hidden = true;
      },
      wait(share = 0) {
        box.classList.add("own-waiting");
        bar.hidden = false;
        bar.value = share;
      },
    };
  }

  const row = (name, ...parts) => element("div", { className: name }, ...parts.map((part) => part.box ?? part));

  return { element, makeSlider, makeMenu, makePicture, row };
});
