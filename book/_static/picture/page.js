// The page: where a picture comes from, and the explorers that it is shown in.
(() => {
  "use strict";

  const { read, show } = ownPicture.use("pixels");
  const { element } = ownPicture.use("controls");
  const { startAutoencoder, latest } = ownPicture.use("calls");
  const explorers = ownPicture.use("explorers");

  const SIDE = 192; // pixels; a multiple of 32, which is the block of the autoencoder's compression times 8

  function firstPicture() {
    const bytes = Uint8Array.from(atob(ownPicture.use("photograph")), (character) => character.charCodeAt(0));
    return new Blob([bytes], { type: "image/png" });
  }

  // Choosing: a file, the button back to the book's picture, dropping and pasting. `take(blob, name)` gets what was chosen.
  function fillChooser(box, take) {
    const canvas = element("canvas", { className: "own-chosen" });
    canvas.setAttribute("role", "img");
    const status = element("p", { className: "own-status" });
    status.setAttribute("role", "status");
    const file = element("input", { type: "file", accept: "image/*", id: "own-file" });
    const back = element("button", { type: "button", textContent: "The book's picture" });
    file.addEventListener("change", () => file.files[0] && take(file.files[0], file.files[0].name));
    back.addEventListener("click", () => {
      file.value = "";
      take(firstPicture(), null);
    });
    const label = element("label", { htmlFor: "own-file", textContent: "Choose a picture of your own:" });
    const hint = element("p", { className: "own-hint" });
    hint.textContent = "Or drop one here, or paste one. It is not sent anywhere: all is computed in this page.";
    box.append(canvas, element("div", {}, element("p", {}, label, file), hint, back, status));

    const drop = (event) => {
      event.preventDefault(); // or the browser would leave the page for the picture
      box.classList.toggle("own-over", event.type === "dragover" && box.contains(event.target));
      const [dropped] = event.type === "drop" ? event.dataTransfer.files : [];
      if (dropped) take(dropped, dropped.name);
    };
    for (const type of ["dragover", "drop"]) document.addEventListener(type, drop);
    document.addEventListener("dragleave", () => box.classList.remove("own-over"));
    document.addEventListener("paste", (event) => {
      const [pasted] = [...event.clipboardData.files].filter((found) => found.type.startsWith("image/"));
      if (pasted) take(pasted, "what you pasted");
    });
    const lines = { trouble: "", progress: "" }; // what went wrong stands until the next picture, whatever still runs
    return {
      say(kind, text) {
        lines[kind] = text;
        status.textContent = `${lines.trouble} ${lines.progress}`.trim();
      },
      show(image, name) {
        show(canvas, image);
        const label = name ? `The middle square of ${name}` : "The book's picture: a cup of coffee, from near";
        canvas.setAttribute("aria-label", label);
      },
    };
  }

  function start() {
    const found = [...document.querySelectorAll("[data-own-picture]")];
    const boxes = Object.fromEntries(found.map((box) => [box.dataset.ownPicture, box]));
    if (!boxes.choose) return;
    const autoencoder = startAutoencoder();
    const names = Object.keys(explorers).filter((name) => boxes[name]);
    const shown = names.map((name) => explorers[name](boxes[name], autoencoder));
    let asked = 0; // pictures handed over
    let chosen = 0; // the one that is shown; a file that is no picture leaves it

    const encode = latest(async (image, number) => {
      chooser.say("progress", "Encoding ...");
      const latent = await autoencoder.encode(image);
      if (number !== chosen) return;
      chooser.say("progress", "");
      for (const tell of shown) tell({ image, latent });
      boxes.choose.dataset.state = "ready";
    });

    async function take(blob, name) {
      const number = ++asked;
      chooser.say("trouble", "");
      let image;
      try {
        image = await read(blob, SIDE);
      } catch {
        if (number === asked) chooser.say("trouble", `Your browser cannot read ${name} as a picture.`);
        return;
      }
      if (number < chosen) return;
      chosen = number;
      boxes.choose.dataset.state = "busy";
      chooser.show(image, name);
      for (const tell of shown) tell({ image, latent: null });
      encode(image, number).catch((error) => chooser.say("trouble", `The autoencoder does not run here: ${error.message}`));
    }

    const chooser = fillChooser(boxes.choose, take);
    take(firstPicture(), null);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
