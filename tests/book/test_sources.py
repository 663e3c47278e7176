"""The book's sources hang together: contents, titles, references, style sheets; chapters keep to one form."""

import ast
import re
from pathlib import Path

import jupytext
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TOC = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
LISTED = [entry for part in TOC["parts"] for entry in part["chapters"]]
PAGES = [TOC["root"], *(page["file"] for entry in LISTED for page in [entry, *entry.get("sections", [])])]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))

# What modules were called before the rooms; a reader who meets such a word looks for a module that is not there.
OLD_MODULES = {
    "compute", "controls", "curriculum", "diagnosis", "distributed", "encoding", "explore", "flow_exact",
    "latent_cache", "latent_files", "latent_identity", "leaf_shapes", "manifolds", "noise_prediction", "notebooks",
    "offline_features", "perturbation", "sample_metrics", "sample_streams", "sharded_checkpoints", "sources",
    "stored", "summaries", "video_features",
}  # fmt: skip


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
    pages = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for pattern in ("*.md", "teaching/*.md")
        for path in (ROOT / "book").glob(pattern)
    }
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


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_keeps_to_one_form(path):
    cells = jupytext.read(path).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert [cell for cell in code if len(cell.splitlines()) > 25] == [], "no code cell is above 25 lines"
    assert [cell for cell in code if "Markdown(" in cell] == [], "no sentence is assembled by code"
    assert sum("chapters.start(" in cell for cell in code) == 1
    assert sum("chapters.finish(" in cell for cell in code) == 1
    assert re.search(r"^## What this chapter claims$", markdown(f"notebooks/{path.stem}"), flags=re.MULTILINE)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_begins_with_its_verdict_and_a_picture_and_ends_with_what_to_take_away(path):
    text = markdown(f"notebooks/{path.stem}")
    assert re.search(r"^# .+\n\n\*\*In short\.\*\* ", text, flags=re.MULTILINE)
    [points] = re.findall(r"^## To take away\n\n((?:- .+\n(?:  .+\n)*)+)\n## Quiz$", text, flags=re.MULTILINE)
    assert 3 <= points.count("\n- ") + 1 <= 5
    assert max(map(len, points.split("\n- "))) < 300


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_modules_go_by_their_own_names(path):
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").startswith(("diffusab_core", "diffusab_book"))]
    aliases = {name.asname for node in ours for name in node.names if name.asname}
    assert {alias for alias in aliases if alias in OLD_MODULES or alias.startswith(("explore_", "diagnosis_"))} == set()


def rows(heading: str) -> list[list[str]]:
    """The rows of the table under a heading of the notation page."""
    part = markdown("book/notation").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return lines[2:]


def test_new_letters_are_in_the_chapter_that_the_notation_page_names():
    texts = [markdown(f"notebooks/{path.stem}").replace(" ", "") for path in CHAPTERS]
    chapters = {re.search(r"^\((chap-\S+)\)=", text, re.MULTILINE)[1]: text for text in texts}
    found = [(re.search(r"`(chap-\S+)`", chapter)[1], letters) for chapter, letters in rows("On one page")]
    named = {label: re.findall(r"\$([^$]+)\$", letters) for label, letters in found}
    assert len(named) == len(CHAPTERS) - 2, "the last two bring no letters"
    missing = {(label, tex) for label, letters in named.items() for tex in letters
               if tex.replace(" ", "") not in chapters[label]}  # fmt: skip
    assert missing == set()


@pytest.mark.parametrize("row", rows("Greek letters"), ids=lambda row: row[0])
def test_a_greek_letter_is_used_where_the_notation_page_says(row):
    tex, _, where = row
    sign = {r"\beta": "β", r"\gamma": "γ", r"\Gamma": "Γ", r"\zeta": "ζ", r"\kappa": "κ", r"\nu": "ν", r"\rho": "ρ",
            r"\xi": "ξ", r"\chi": "χ", r"\varsigma": "ς"}[tex.strip("$")]  # fmt: skip
    pattern = re.compile(rf"{re.escape(tex.strip('$'))}(?![a-zA-Z])|{sign}")
    used = {int(path.stem[:2]) for path in CHAPTERS if pattern.search(path.read_text())}
    assert used == set(map(int, where.split(", ")))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_speaks_to_you(page):
    assert re.findall(r"(?i)\bwhoever\b.*", markdown(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_no_picture_comes_from_elsewhere(page):
    assert not re.search(r"!\[[^\]]*\]\(https?:|<img[^>]+src=[\"']https?:", source(page).read_text())


def test_numbers_of_the_front_page_are_those_of_the_chapters():
    """A chapter's assertions guard its numbers; the front page repeats them, first those of the dial."""
    texts = [markdown(f"notebooks/{path.stem}") for path in CHAPTERS]
    chapters = {re.search(r"^\((chap-[\w-]+)\)=", text, re.MULTILINE)[1]: text for text in texts}
    before, *named = re.split(r"\{numref\}`(chap-[\w-]+)`", markdown("book/index"))
    said = [("chap-dial", before), *zip(named[::2], named[1::2], strict=True)]
    missing = [(name, n) for name, text in said for n in re.findall(r"\d+%", text) if n not in chapters[name]]
    assert len(re.findall(r"\d+%", before)) >= 4
    assert missing == []


def test_every_citation_has_an_entry():
    entries = re.findall(r"^@\w+\{(\S+),", (ROOT / "book" / "references.bib").read_text(), flags=re.MULTILINE)
    assert len(entries) == len(set(entries))
    cited = {key for page in PAGES for keys in re.findall(r"\{cite[^}]*\}`([^`]+)`", markdown(page))
             for key in keys.split(",")}  # fmt: skip
    assert cited <= set(entries)


def test_the_book_brings_its_own_style_and_scripts():
    for path in (ROOT / "book" / "_static").rglob("*.*"):
        if path.suffix in {".css", ".js", ".svg"}:
            remote = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.M))
            assert [url for url in remote if "www.w3.org" not in url] == [], path.name


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("notebooks/")])
def test_cells_that_the_page_hides_are_folded_in_jupyterlab_too(page):
    heads = re.findall(r"^# %% .*hide-input.*$", source(page).read_text(), flags=re.MULTILINE)
    assert heads
    assert [head for head in heads if '"source_hidden": true' not in head] == []
