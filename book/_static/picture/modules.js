// "Your own picture": modules that run in the page and in a worker alike.
//
// A page that is opened from a disk may load neither ES modules nor a worker's script. So a module is a function that is
// registered under a name, and a worker is made of the text of those functions.
self.ownPicture = (() => {
  "use strict";

  const factories = {};
  const made = {};

  const use = (name) => {
    if (!factories[name]) throw new Error(`there is no module ${name}`);
    return (made[name] ??= factories[name](use));
  };

  return {
    // Registers a module: `factory(use)` returns what it offers, and is called when it is first used.
    define(name, factory) {
      factories[name] = factory;
    },
    use,
    // A script for a worker that has these modules, and runs the last of them.
    script(names) {
      const registered = names.map((name) => `modules[${JSON.stringify(name)}] = ${factories[name]};`);
      return `"use strict"; const modules = {}, made = {};
        const use = (name) => (made[name] ??= modules[name](use));
        ${registered.join("\n")} use(${JSON.stringify(names.at(-1))});`;
    },
  };
})();
