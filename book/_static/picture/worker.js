// What runs in the worker: the autoencoder, one question after another. Its script is made by calls.js.
ownPicture.define("worker", (use) => {
  "use strict";

  const { unpack, build } = use("network");
  let network;
  let asked; // the number of the question that is being answered

  self.onmessage = ({ data: { id, task, value } }) => {
    asked = id;
    try {
      if (task === "open") network = build(unpack(value), (share) => self.postMessage({ id: asked, share }));
      const answer = task === "open" ? null : network[task](value);
      self.postMessage({ id, answer });
    } catch (error) {
      self.postMessage({ id, error: String(error) });
    }
  };
});
