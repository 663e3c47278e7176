// The page's side of the worker: questions and answers, and never more than one question of a kind waiting.
ownPicture.define("calls", (use) => {
  "use strict";

  function toBits(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return new Uint16Array(bytes.buffer);
  }

  // Starts the worker. Its `encode` and `decode` return promises; `tell(share)` hears how much is done.
  function startAutoencoder() {
    const source = new Blob([ownPicture.script(["kernels", "network", "worker"])], { type: "text/javascript" });
    const address = URL.createObjectURL(source);
    const worker = new Worker(address);
    const waiting = new Map();
    let count = 0;

    worker.onmessage = ({ data: { id, share, answer, error } }) => {
      const { resolve, reject, tell } = waiting.get(id);
      if (share !== undefined) return tell(share);
      waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(answer);
    };
    worker.onerror = (event) => {
      for (const { reject } of waiting.values()) reject(new Error(event.message || "the worker does not start"));
      waiting.clear();
    };
    const ask = (task, value, tell = () => {}) =>
      new Promise((resolve, reject) => {
        waiting.set(++count, { resolve, reject, tell });
        worker.postMessage({ id: count, task, value });
      });
    const model = use("autoencoder");
    const opened = ask("open", { ...model, bits: toBits(model.bits) }).finally(() => URL.revokeObjectURL(address));
    const after = (task) => async (value, tell) => {
      await opened;
      return ask(task, value, tell);
    };
    return { encode: after("encode"), decode: after("decode") };
  }

  // Of calls that come while `work` is still busy only the last is done, when it is free again.
  function latest(work) {
    let busy = false;
    let next = null;
    return async function run(...args) {
      next = args;
      if (busy) return;
      busy = true;
      try {
        while (next) {
          const now = next;
          next = null;
          await work(...now);
        }
      } finally {
        busy = false;
      }
    };
  }

  return { startAutoencoder, latest };
});
