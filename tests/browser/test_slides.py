"""Slides of the course kit as a lecturer opens them: from the disk, without a network."""

import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "book" / "_ext")]

from kit import slides, sources  # noqa: E402

pytestmark = pytest.mark.browser

BOTTOM = "s => Math.max(...[...s.children].filter(c => !c.matches('aside')).map(c => c.offsetTop + c.offsetHeight))"


@pytest.fixture(scope="module")
def deck(tmp_path_factory) -> Path:
    """Slides of one chapter, every tagged cell with a small figure."""
    folder = tmp_path_factory.mktemp("slides")
    chapters = sources.read_chapters()
    known = sources.collect_references(chapters)
    [chapter] = [chapter for chapter in chapters if chapter.name == "06_scale_equivariance"]
    figure = {"data": [{"y": [1, 2]}], "layout": {"meta": {"alt": "Two points."}, "height": 300}}
    output = nbformat.v4.new_output("display_data", {slides.PLOTLY: figure})
    code = [cell.source for cell in chapter.notebook.cells if cell.cell_type == "code"]
    cells = [nbformat.v4.new_code_cell(source, outputs=[output]) for source in code]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "executed.ipynb")
    page = folder / "deck.html"
    page.write_text(slides.render(slides.write_slides(chapter, known, folder / "executed.ipynb")), encoding="utf8")
    slides.write_shared(folder)
    return page


def test_slides_open_from_the_disk(browser, deck):
    page = browser.new_page(viewport={"width": 1180, "height": 720})
    trouble = []
    page.on("request", lambda r: trouble.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    page.goto(deck.as_uri())
    page.wait_for_selector("body[data-ready]")
    total = page.evaluate("Reveal.getTotalSlides()")
    assert total > 15
    left, drawn, formulas = [], 0, 0
    for _ in range(total):
        slide = page.locator("section.present:not(.stack)").last
        if slide.locator(".book-figure").count():
            slide.locator(".book-figure[data-drawn]").first.wait_for()
            drawn += 1
        formulas += slide.locator("mjx-container").count()
        left += [text for text in slide.locator(".text").all_text_contents() if "$" in text]
        below = (
            "s => Math.max(...[...s.children].filter(c => !c.matches('aside')).map(c => c.offsetTop + c.offsetHeight))"
        )
        assert slide.evaluate(below) <= 720
        page.evaluate("Reveal.next()")
    page.close()
    assert left == []
    assert drawn >= 5
    assert formulas > 10
    assert trouble == []
