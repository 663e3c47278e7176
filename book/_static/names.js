// Gives a name to what the theme draws as a bare sign: the arrows that unfold parts of the contents.
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("summary:not([aria-label])")) {
    if (summary.textContent.trim()) continue;
    const part = summary.closest("li")?.querySelector("a")?.textContent.trim();
    summary.setAttribute("aria-label", part ? `Pages under ${part}` : "More");
  }
});
