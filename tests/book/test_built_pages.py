"""The built book as files: nothing from elsewhere, nothing missing, nothing heavy."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from test_sources import PAGES

MAX_PAGE_BYTES = 1_500_000
LOADING_LINKS = {
    "stylesheet",
    "icon",
    "preload",
    "modulepreload",
    "shortcut icon",
    "manifest",
    "prefetch",
    "dns-prefetch",
}


class Page(HTMLParser):
    """Collects what a browser loads without being asked, and the title."""

    def __init__(self, text: str):
        super().__init__()
        self.loads: list[str] = []
        self.title = ""
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self._in_title = tag == "title"
        if tag == "link" and attributes.get("rel") in LOADING_LINKS:
            self.loads.append(attributes["href"])
        elif tag != "a" and attributes.get("src"):
            self.loads.append(attributes["src"])
        self.loads += [part.split()[0] for part in (attributes.get("srcset") or "").split(",") if part.strip()]

    def handle_data(self, data):
        if self._in_title:
            self.title += data

    def handle_endtag(self, tag):
        self._in_title = False


def pages(built_book):
    """Every page; what lies in _static are the theme's templates."""
    found = sorted(path for path in built_book.rglob("*.html") if "_static" not in path.parts)
    assert len(found) >= len(PAGES)
    return found


def test_every_page_of_the_contents_was_built(built_book):
    assert [page for page in PAGES if not (built_book / f"{page}.html").is_file()] == []


def test_no_page_loads_anything_from_elsewhere(built_book):
    remote = [
        (path.relative_to(built_book).as_posix(), url)
        for path in pages(built_book)
        for url in Page(path.read_text()).loads
        if urlsplit(url).scheme in {"http", "https"} or url.startswith("//")
    ]
    assert remote == []


def test_everything_a_page_loads_is_there(built_book):
    missing = []
    for path in pages(built_book):
        for url in Page(path.read_text()).loads:
            if urlsplit(url).scheme == "data":
                continue
            target = path.parent / unquote(urlsplit(url).path)
            if not target.is_file():
                missing.append((path.relative_to(built_book).as_posix(), url))
    assert missing == []


def test_no_style_sheet_loads_anything_from_elsewhere(built_book):
    for path in built_book.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text()), path.name


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_light(built_book, page):
    assert (built_book / f"{page}.html").stat().st_size <= MAX_PAGE_BYTES


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_a_title(built_book, page):
    title = Page((built_book / f"{page}.html").read_text()).title
    assert re.search(r"\w{3}", title.partition("—")[0])


def meta(text):
    return dict(re.findall(r'<meta (?:property|name)="([^"]+)" content="([^"]*)"', text))


def test_titles_and_descriptions_tell_pages_apart(built_book):
    texts = [(built_book / f"{page}.html").read_text() for page in PAGES]
    titles = [Page(text).title for text in texts]
    assert len(set(titles)) == len(titles)
    assert all(title.count("Diffusability") == 1 for title in titles)
    descriptions = [meta(text)["description"] for text in texts]
    assert len(set(descriptions)) == len(descriptions)
    assert min(map(len, descriptions)) > 40
    assert all(meta(text)["twitter:card"] == "summary_large_image" for text in texts)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_its_buttons(built_book, page):
    text = (built_book / f"{page}.html").read_text()
    links = re.findall(r'<a href="([^"]+)" target="_blank"\s+class="btn', text)
    card = meta(text)["og:image"]
    assert (built_book / card.partition("/_static/")[1].strip("/") / card.rpartition("/")[2]).is_file()
    assert sum("/issues/new" in url for url in links) == 1
    here = built_book / f"{page}.html"
    about = [url.partition("#")[0] or here.name for url in links if "#licence" in url or "#citing" in url]
    assert len(about) == 2
    assert {(here.parent / url).resolve() for url in about} == {(built_book / "book" / "about.html").resolve()}
    if page.startswith("notebooks/"):
        assert sum(url.endswith(f"{page}.ipynb") and url.startswith("https://") for url in links) == 2
        (download,) = [url for url in links if url.startswith("../_sources/") and url.endswith(".ipynb")]
        notebook = json.loads((built_book / page).parent.joinpath(download).read_text())
        assert notebook["cells"][0]["id"] == "install"
        assert any(cell.get("outputs") for cell in notebook["cells"])


def test_the_map_holds_every_chapter(built_book):
    text = (built_book / "book" / "map.html").read_text()
    drawing = re.search(r'<div class="book-map".*?</svg>', text, re.S)[0]
    chapters = [page for page in PAGES if page.startswith("notebooks/")]
    assert sorted(re.findall(r'<a href="\.\./(\S+)\.html"', drawing)) == sorted(chapters)
    assert "not run" not in text
    for page in chapters:
        assert re.search(r"About \d+ min to read\. Builds on ", (built_book / f"{page}.html").read_text()), page


def test_every_figure_has_alt_text_and_data(built_book):
    text = "".join((built_book / f"{page}.html").read_text() for page in PAGES)
    boxes = re.findall(
        r'<div class="book-figure" role="img" aria-label="([^"]*)".*?<script[^>]*>(.*?)</script>', text, re.S
    )
    assert len(boxes) >= 5
    for alt, data in boxes:
        assert len(alt) >= 20
        assert json.loads(data)["data"]


def test_runtimes_are_measured(built_book):
    table = (built_book / "book" / "runtimes.html").read_text()
    for page in PAGES:
        if page.startswith("notebooks/"):
            assert re.search(r"This page ran in (under a second|[\d min]+ s) on \d+ CPU core",
                             (built_book / f"{page}.html").read_text())  # fmt: skip
            assert f'href="../{page}.html"' in table
    assert re.search(r"\d+\.\d s</p>", table)


def test_no_widget_is_embedded(built_book):
    for page in PAGES:
        text = (built_book / f"{page}.html").read_text()
        assert "application/vnd.jupyter.widget" not in text
        assert "require.js" not in text
