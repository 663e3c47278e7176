"""Chapters that are executed beside each other: once, kept apart from failures, found by Sphinx."""

from pathlib import Path

import book_execution
import pytest
from jupyter_cache import get_cache

CHAPTER = "# %% [markdown]\n# # {title}\n\n# %%\n{code}\n"


@pytest.fixture
def book(tmp_path) -> Path:
    """A book of three chapters, each of which leaves a file behind; the third is a page without code."""
    (tmp_path / "book").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_config.yml").write_text("execute: {timeout: 60}\n")
    (tmp_path / "book" / "_toc.yml").write_text(
        "parts:\n- chapters:\n  - file: book/map\n- chapters:\n  - file: notebooks/a\n  - file: notebooks/b\n"
    )
    for name in "ab":
        code = f"open('ran_{name}', 'a').write('x')\nprint('this is {name}')"
        (tmp_path / "notebooks" / f"{name}.py").write_text(CHAPTER.format(title=name, code=code))
    return tmp_path


def execute(book: Path, workers: int = 2) -> tuple[list[Path], list[str]]:
    """The chapters that failed, and the lines that were said."""
    said: list[str] = []
    return book_execution.execute_all(book, book / "cache", workers, said.append), said


def runs(book: Path) -> dict[str, int]:
    """How often each chapter ran."""
    return {name: len((book / "notebooks" / f"ran_{name}").read_text()) for name in "ab"}


def test_each_chapter_runs_once_in_its_folder_and_its_output_is_found(book):
    failed, said = execute(book)
    assert failed == []
    assert said[0] == "Executing 2 of 2 chapters, 2 at once ..."
    assert {line.split("]")[1].split(":")[0].strip() for line in said[1:]} == {"a.py", "b.py"}
    cache = get_cache(str(book / "cache"))
    for name in "ab":
        notebook = book_execution.book_notebooks.read_notebook((book / "notebooks" / f"{name}.py").read_text())
        assert cache.match_cache_notebook(notebook).data["execution_seconds"] > 0
        merged = cache.merge_match_into_notebook(notebook)[1]
        assert [output["text"] for cell in merged.cells for output in cell.get("outputs", [])] == [f"this is {name}\n"]
    # prose is no reason to compute again, code is
    page = book / "notebooks" / "a.py"
    page.write_text(page.read_text().replace("# # a", "# # another title"))
    assert execute(book) == ([], [])
    page.write_text(page.read_text().replace("this is a", "this is still a"))
    assert execute(book)[1][0] == "Executing 1 of 2 chapters, 1 at once ..."
    assert runs(book) == {"a": 2, "b": 1}


def test_a_chapter_that_fails_is_named_with_its_traceback_and_the_others_are_kept(book):
    page = book / "notebooks" / "a.py"
    page.write_text(page.read_text() + "assert 1 == 2, 'one is not two'\n")
    failed, said = execute(book, workers=1)
    assert failed == [page]
    assert any("a.py failed" in line and "one is not two" in line for line in said)
    assert execute(book)[1][0] == "Executing 1 of 2 chapters, 1 at once ..."
    assert runs(book) == {"a": 2, "b": 1}


def test_every_chapter_of_the_contents_is_executed():
    root = book_execution.ROOT
    assert book_execution.chapters(root) == sorted((root / "notebooks").glob("[0-9]*.py"))


def test_workers_fit_the_machine(monkeypatch):
    monkeypatch.setattr(book_execution.os, "cpu_count", lambda: 64)
    memory = 5 * 2**30
    monkeypatch.setattr(book_execution.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": memory // 4096}.get)
    assert book_execution.default_workers() == 2
    monkeypatch.setattr(book_execution.os, "cpu_count", lambda: 1)
    assert book_execution.default_workers() == 1
