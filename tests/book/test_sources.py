"""The book's sources hang together: contents, titles, references, style sheets."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOC = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
PAGES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]


def source(page: str):
    return next(path for suffix in (".md", ".py") if (path := ROOT / f"{page}{suffix}").is_file())


def markdown(page: str) -> str:
    """The text of a page; of a percent notebook its Markdown cells."""
    path = source(page)
    text = path.read_text()
    if path.suffix == ".md":
        return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)[1:]
    return "\n".join(re.sub(r"^# ?", "", cell, flags=re.MULTILINE) for cell in cells if cell.startswith(" [markdown]"))


def without_code(text: str) -> str:
    return re.sub(r"^(`{3,})(?!\{).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)


def test_no_page_is_listed_twice():
    assert len(PAGES) == len(set(PAGES))


def test_every_notebook_and_every_page_is_in_the_contents():
    notebooks = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.py")}
    pages = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    assert notebooks | pages == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_one_title(page):
    titles = re.findall(r"^# .+", without_code(markdown(page)), flags=re.MULTILINE)
    assert len(titles) == 1, titles


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("notebooks/")])
def test_every_chapter_has_what_a_chapter_has(page):
    text = markdown(page)
    assert "```{measured-runtime}" in text
    assert ":class: goals" in text
    exercises = re.findall(r"^`{3,}\{exercise\}.*\n:label: (\S+)", text, flags=re.MULTILINE)
    solutions = re.findall(r"^`{3,}\{solution\} (\S+)\n:class: dropdown", text, flags=re.MULTILINE)
    assert exercises
    assert sorted(solutions) == sorted(exercises), "every exercise has one collapsed solution"
    assert len(set(exercises)) == len(exercises)


@pytest.mark.parametrize("page", PAGES)
def test_no_picture_comes_from_elsewhere(page):
    assert not re.search(r"!\[[^\]]*\]\(https?:|<img[^>]+src=[\"']https?:", source(page).read_text())


def test_every_citation_has_an_entry():
    entries = re.findall(r"^@\w+\{(\S+),", (ROOT / "book" / "references.bib").read_text(), flags=re.MULTILINE)
    assert len(entries) == len(set(entries))
    cited = {key for page in PAGES for keys in re.findall(r"\{cite[^}]*\}`([^`]+)`", markdown(page))
             for key in keys.split(",")}  # fmt: skip
    assert cited <= set(entries)


def test_the_book_brings_its_own_style_and_scripts():
    for path in (ROOT / "book" / "_static").glob("*.*"):
        if path.suffix in {".css", ".js", ".svg"}:
            remote = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.M))
            assert [url for url in remote if "www.w3.org" not in url] == [], path.name


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("notebooks/")])
def test_cells_that_the_page_hides_are_folded_in_jupyterlab_too(page):
    heads = re.findall(r"^# %% .*hide-input.*$", source(page).read_text(), flags=re.MULTILINE)
    assert heads
    assert [head for head in heads if '"source_hidden": true' not in head] == []
