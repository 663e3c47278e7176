"""The book as one PDF: Chromium prints the pages of the built book, and they are put together.

The API reference and the pages for teachers stay out.

The parts keep the order of the contents and get bookmarks. Links between pages of the book lead to the page inside the
PDF, links to elsewhere stay. No TeX is needed.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from playwright.sync_api import Browser, Page, sync_playwright
from pypdf import PageObject, PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, NumberObject

from kit.browser import find_chromium, list_flags

# A4 with margins: what is left is 180 mm wide. Pages are laid out at this width, so nothing is cut off on paper.
MARGIN = {"top": "18mm", "bottom": "20mm", "left": "15mm", "right": "15mm"}
SCALE = 0.8  # of letters, which the book sets for a screen
WIDTH, HEIGHT = 850, 1225  # 180 × 259 mm at this scale, in pixels of 1/96 inch
PAPER = """
  #jb-print-toc { display: none; }
  details.hide:not([open]) { display: none; }
  div.highlight pre { white-space: pre-wrap; overflow: visible; }
  .math, .math mjx-container { overflow: visible !important; }
"""
# How the files begin that are not printed: the reference is as many sheets as all else, and nobody looks things up on
# paper; teachers have their pages in the kit.
LEFT_OUT = ("book/api", "book/teaching")
PATIENCE = 180_000  # milliseconds for the figures and formulas of one page

# Solutions and other folded boxes are opened: paper cannot be clicked. Questions of a quiz stay unanswered.
UNFOLD = """() => {
  for (const box of document.querySelectorAll(".toggle-hidden")) box.classList.remove("toggle-hidden");
  for (const button of document.querySelectorAll(".toggle-button")) button.remove();
}"""
# The heading that is printed is a copy without the chapter's number.
NUMBER = """() => {
  const number = document.querySelector("article h1 .section-number");
  const heading = document.querySelector("h1");
  if (number && !heading.contains(number)) heading.prepend(number.textContent);
}"""
READY = """() => [...document.querySelectorAll(".book-figure")].every((box) => box.dataset.drawn === "true")
  && [...document.querySelectorAll("[data-own-picture]")].every((box) => box.dataset.state === "ready")
  && document.fonts.status === "loaded" """


class PrintError(RuntimeError):
    """The book could not be printed: no browser, no page, or a page that never gets ready."""


@dataclass(frozen=True)
class Sheet:
    """A printed page of the book: its file, its title, its PDF, and how deep it lies in the contents."""

    path: Path
    title: str
    printed: bytes
    depth: int


def list_pages(contents: Path) -> list[tuple[str, int]]:
    """The pages of ``_toc.yml`` to be printed, in order, with their depth: 0 for the root, parts and sections below."""
    table = yaml.safe_load(contents.read_text(encoding="utf8"))

    def walk(entries: list[dict], depth: int) -> list[tuple[str, int]]:
        return [found for e in entries for found in [(e["file"], depth), *walk(e.get("sections", []), depth + 1)]]

    pages = [(table["root"], 0), *(page for part in table["parts"] for page in walk(part["chapters"], 0))]
    return [(name, depth) for name, depth in pages if not name.startswith(LEFT_OUT)]


def print_page(page: Page, path: Path) -> tuple[str, bytes]:
    """Print one page of the built book; returns its title and its PDF.

    Raises:
        PrintError: A figure of it is never drawn.
    """
    page.goto(path.as_uri(), timeout=PATIENCE)
    page.evaluate("() => window.MathJax?.startup?.promise")
    page.evaluate(UNFOLD)
    page.evaluate(NUMBER)
    page.add_style_tag(content=PAPER)
    try:
        page.wait_for_function(READY, timeout=PATIENCE)
    except Exception as error:
        raise PrintError(f"{path.name}: its figures were not drawn: {error}") from error
    heading = page.locator("h1").first
    title = heading.inner_text() if heading.count() else page.title()
    printed = page.pdf(format="A4", margin=MARGIN, scale=SCALE, print_background=True)
    return re.sub(r"\s*#\s*$", "", " ".join(title.split())), printed


def print_numbers(page: Page, count: int) -> PdfReader:
    """As many empty pages with their numbers below."""
    breaks = '<div style="break-after: page">&nbsp;</div>' * (count - 1)
    page.set_content(f"<!DOCTYPE html><title>-</title><body>{breaks}<div>&nbsp;</div></body>")
    footer = '<div style="width: 100%; text-align: center; font-size: 9px"><span class="pageNumber"></span></div>'
    numbers = page.pdf(
        format="A4", margin=MARGIN, display_header_footer=True, header_template="<span></span>", footer_template=footer
    )
    return PdfReader(io.BytesIO(numbers))


def lead_inside(page: PageObject, first: dict[Path, int]) -> None:
    """Let links of a page that lead to other pages of the book lead to them inside the PDF.

    Args:
        page: A page of the whole PDF.
        first: The number of the first sheet of each page of the book.
    """
    for annotation in page.get("/Annots", ArrayObject()):
        link = annotation.get_object()
        action = link.get("/A")
        uri = action.get_object().get("/URI") if action else None
        if not uri or urlsplit(uri).scheme != "file":
            continue
        target = first.get(Path(unquote(urlsplit(uri).path)))
        if target is None:
            del link["/A"]  # a file that is not in the PDF: no link is better than one into somebody's disk
            continue
        place = ArrayObject([NumberObject(target), NameObject("/Fit")])
        link[NameObject("/A")] = DictionaryObject({NameObject("/S"): NameObject("/GoTo"), NameObject("/D"): place})


def put_together(sheets: list[Sheet], browser: Browser) -> PdfWriter:
    """Put the printed pages together, with bookmarks, links and numbers."""
    writer, first, above = PdfWriter(), {}, {}
    for sheet in sheets:
        first[sheet.path] = len(writer.pages)
        writer.append(io.BytesIO(sheet.printed), import_outline=False)
        above[sheet.depth] = writer.add_outline_item(sheet.title, first[sheet.path], above.get(sheet.depth - 1))
    page = browser.new_page()
    numbers = print_numbers(page, len(writer.pages))
    page.close()
    for sheet, number in zip(writer.pages, numbers.pages, strict=True):
        lead_inside(sheet, first)
        sheet.merge_page(number)
        sheet.compress_content_streams()  # what was merged is plain text
    writer.add_metadata({"/Title": "Diffusability"})
    return writer


def print_pages(browser: Browser, html: Path, pages: list[tuple[str, int]]) -> PdfWriter:
    """Print pages of the built book, given as :func:`list_pages` gives them, and put them together."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    page.emulate_media(media="print")
    sheets = []
    for name, depth in pages:
        path = (html / f"{name}.html").resolve()
        sheets.append(Sheet(path, *print_page(page, path), depth))
    page.close()
    return put_together(sheets, browser)


def print_book(html: Path, contents: Path, out: Path) -> int:
    """Print the built book.

    Args:
        html: The folder of the built book.
        contents: Its ``_toc.yml``.
        out: The PDF.

    Returns:
        The number of pages.

    Raises:
        PrintError: There is no browser, a page of the contents is missing, or one never gets ready.
    """
    pages = list_pages(contents)
    if missing := [name for name, _ in pages if not (html / f"{name}.html").is_file()]:
        raise PrintError(f"{html} has no {missing[0]}.html: run `make book`, or say --no-pdf")
    executable = find_chromium()
    if executable is None:
        raise PrintError("no Chromium: install it (make browser), set CHROMIUM=/path/to/it, or say --no-pdf")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list_flags())
        writer = print_pages(browser, html, pages)
        browser.close()
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file:
        writer.write(file)
    return len(writer.pages)
