// What the theme leaves to pointers and eyes: a name for the arrows that unfold parts of the contents, which are bare signs,
// and a way to scroll wide tables from the keyboard.
(() => {
  "use strict";

  function nameArrows() {
    for (const summary of document.querySelectorAll("summary:not([aria-label])")) {
      if (summary.textContent.trim()) continue;
      const part = summary.closest("li")?.querySelector("a")?.textContent.trim();
      summary.setAttribute("aria-label", part ? `Pages under ${part}` : "More");
    }
  }

  function reachTables() {
    for (const box of document.querySelectorAll(".book-table, .pst-scrollable-table-container")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }

  // Entries of the bibliography hold links back beside their text, which a list in ARIA's sense must not.
  function plainReferences() {
    for (const list of document.querySelectorAll(".citation-list[role=list]")) list.removeAttribute("role");
  }

  document.addEventListener("DOMContentLoaded", () => {
    nameArrows();
    plainReferences();
  });
  window.addEventListener("load", reachTables);
  window.addEventListener("resize", reachTables);
  document.addEventListener("toggle", reachTables, true); // a folded table has no width before it is unfolded
})();
