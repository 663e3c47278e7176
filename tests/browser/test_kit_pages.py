"""The course kit in a real browser: slides as a lecturer opens them, and the book on paper."""

import io
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "book" / "_ext")]

from kit import pdf, sheets, slides, sources  # noqa: E402
from pypdf import PdfReader  # noqa: E402

pytestmark = pytest.mark.browser

# Of the figure on the slide, in pixels of a slide; the arrow of a menu does not count.
SMALLEST_TEXT = """Math.min(...[
  ...Reveal.getCurrentSlide().querySelectorAll(".main-svg text:not(.updatemenu-header-arrow)"),
].map((text) => parseFloat(getComputedStyle(text).fontSize) * (text.closest(".output").style.zoom || 1)))"""
# Where a slide's last thing ends, figures as zoomed.
BOTTOM = """(slide) => Math.max(...[...slide.children].filter((child) => !child.matches("aside")).map(
  (child) => child.getBoundingClientRect().bottom - slide.getBoundingClientRect().top)) / Reveal.getScale()"""


@pytest.fixture(scope="module")
def deck(tmp_path_factory) -> Path:
    """Slides of one chapter, every tagged cell with a small figure, or with one that is too tall and has a menu."""
    folder = tmp_path_factory.mktemp("slides")
    chapters = sources.read_chapters()
    known = sources.collect_references(chapters)
    [chapter] = [chapter for chapter in chapters if chapter.name == "06_scale_equivariance"]
    figure = {"data": [{"y": [1, 2]}], "layout": {"meta": {"alt": "Two points."}, "height": 300}}
    buttons = [{"label": word, "method": "skip", "args": []} for word in ("this", "that")]
    tall = {
        "meta": {"alt": "Two."},
        "height": 1200,
        "xaxis": {"title": {"text": "x"}},
        "updatemenus": [{"buttons": buttons}],
    }
    shown = [figure, {"data": figure["data"], "layout": tall}]
    outputs = [nbformat.v4.new_output("display_data", {slides.PLOTLY: figure}) for figure in shown]
    code = [cell.source for cell in chapter.notebook.cells if cell.cell_type == "code"]
    cells = [nbformat.v4.new_code_cell(source, outputs=[outputs[i % 2]]) for i, source in enumerate(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "executed.ipynb")
    page = folder / "deck.html"
    outputs = slides.outputs_by_source(folder / "executed.ipynb")
    page.write_text(slides.render(slides.write_slides(chapter, known, outputs)), encoding="utf8")
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
    left, drawn, formulas, menus = [], 0, 0, 0
    for i in range(total):
        assert page.locator(".keys").is_visible() == (i == 0)
        slide = page.locator("section.present:not(.stack)").last
        if slide.locator(".book-figure").count():
            slide.locator(".book-figure[data-drawn]").first.wait_for()
            drawn += 1
            page.wait_for_function(SMALLEST_TEXT + " >= 11.9")
        if slide.locator("select").count():
            menus += 1
            assert slide.locator(".book-figure-menus").bounding_box()["width"] < 2, "Plotly's own menu is there"
            slide.locator("select").focus()
            assert slide.locator(".book-figure-menus").bounding_box()["width"] > 20
            page.keyboard.press("ArrowDown")
            page.keyboard.press("ArrowRight")
            assert slide.evaluate("s => s.classList.contains('present')"), "a list keeps its arrows"
            slide.locator("select").blur()
        formulas += slide.locator("mjx-container").count()
        left += [text for text in slide.locator(".text").all_text_contents() if "$" in text]
        assert slide.evaluate(BOTTOM) <= 720
        page.keyboard.press("ArrowRight")
    assert page.evaluate("Reveal.isLastSlide() && Reveal.getProgress()") == 1, "the right arrow goes through all slides"
    page.close()
    assert left == []
    assert drawn >= 5
    assert menus >= 2
    assert formulas > 10
    assert trouble == []


def test_quizzes_print_a_chapter_on_a_sheet(browser, tmp_path):
    """Formulas are set, nothing is asked for, and paper has a page for each chapter."""
    chapters = sources.read_chapters()
    chosen = [chapter for chapter in chapters if chapter.number in (1, 2, 13)]
    known = sources.collect_references(chapters)
    (tmp_path / "quizzes.html").write_text(sheets.write_quizzes(chosen, known, answers=False), encoding="utf8")
    page, asked = browser.new_page(), []
    page.on("request", lambda r: asked.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    page.goto((tmp_path / "quizzes.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    assert "$" not in page.inner_text("body")
    assert page.locator("mjx-container").count() >= 3
    printed = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True)))
    page.close()
    assert [f"Chapter {c.number}." in sheet.extract_text() for c, sheet in zip(chosen, printed.pages, strict=True)] == [
        True
    ] * 3
    assert asked == []


def page_of(title: str, body: str) -> str:
    return f"<!DOCTYPE html><title>{title}</title><h1>{title}<a>#</a></h1>{body}"


def test_the_book_on_paper(browser, tmp_path):
    """Bookmarks as the contents have them, links inside the PDF, folded solutions open, a number on each page."""
    tall = '<div style="height: 3000px"></div>'
    folded = '<style>.toggle-hidden > p { display: none }</style><div class="toggle-hidden"><p>The solution.</p></div>'
    links = '<a href="two.html#there">next</a> <a href="gone.html">lost</a> <a href="https://example.org/">away</a>'
    (tmp_path / "one.html").write_text(page_of("One", f"{links}{folded}{tall}"))
    numbered = '<article><h1><span class="section-number">2. </span>Two</h1><p id="there">Here.</p></article>'
    (tmp_path / "two.html").write_text(page_of("Two", numbered))
    (tmp_path / "three.html").write_text(page_of("Three", ""))
    contents = tmp_path / "toc.yml"
    contents.write_text(
        "root: one\nparts:\n  - chapters:\n      - file: two\n        sections:\n          - file: three\n"
        "      - file: book/api\n      - file: book/teaching/index\n"
    )
    pages = pdf.list_pages(contents)
    assert pages == [("one", 0), ("two", 0), ("three", 1)]
    out = io.BytesIO()
    pdf.print_pages(browser, tmp_path, pages).write(out)
    book = PdfReader(out)
    one, two, [three] = book.outline
    assert [item.title for item in (one, two, three)] == ["One", "2. Two", "Three"]
    assert book.get_destination_page_number(one) == 0
    place = book.get_destination_page_number(two)
    assert place >= 2, "the first page is a tall one"
    assert book.get_destination_page_number(three) == place + 1 == len(book.pages) - 1
    assert book.pages[place].extract_text().startswith("2. Two"), "the heading, too"
    assert "The solution." in book.pages[0].extract_text()
    for number, page in enumerate(book.pages, 1):
        assert page.extract_text().split()[-1] == str(number)
    actions = [a.get_object().get("/A") for a in book.pages[0]["/Annots"]]
    inside, lost, away = [action and action.get_object() for action in actions]
    assert inside["/S"] == "/GoTo"
    assert inside["/D"][0] == place
    assert lost is None
    assert away["/URI"] == "https://example.org/"


def test_a_page_that_is_missing_is_named(tmp_path):
    contents = tmp_path / "toc.yml"
    contents.write_text("root: one\nparts: []\n")
    with pytest.raises(pdf.PrintError, match=r"no one\.html"):
        pdf.print_book(tmp_path, contents, tmp_path / "out.pdf")
