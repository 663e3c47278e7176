"""The chapters as a course sees them, and what their references point at.

A chapter is numbered by its file, an equation and an exercise within its chapter: ``(6.2)``, ``Exercise 6.2``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import book_quiz  # of the book's Sphinx extension
import jupytext
from nbformat import NotebookNode
from pybtex.database import Person, parse_file

ROOT = Path(__file__).resolve().parents[2]

LABEL = re.compile(r"^\((\S+)\)=\s*$", re.MULTILINE)
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
EQUATION = re.compile(r"^.*\$\$[ \t]*\((eq-[\w-]+)\)[ \t]*$", re.MULTILINE)
EXERCISE = re.compile(r"^(`{3,})\{exercise\}[ \t]*(.*?)[ \t]*(★{1,3})?\n:label:[ \t]*(\S+)\n", re.MULTILINE)


@dataclass(frozen=True)
class Chapter:
    """One chapter: its file, its number and its title, and its cells."""

    path: Path
    number: int
    title: str
    label: str  # such as chap-se
    notebook: NotebookNode = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The file's name without its ending, such as ``06_scale_equivariance``."""
        return self.path.stem

    def markdown(self) -> Iterator[str]:
        """The text of each Markdown cell."""
        return (cell.source for cell in self.notebook.cells if cell.cell_type == "markdown")


@dataclass(frozen=True)
class Exercise:
    """An exercise's place in the book: ``number`` is such as ``6.2``, ``stars`` 0 where it is not marked."""

    label: str
    title: str
    number: str
    stars: int


@dataclass(frozen=True)
class References:
    """What a reference's target is called in plain text, by label."""

    chapters: dict[str, Chapter]
    equations: dict[str, str]  # label -> 6.2
    exercises: dict[str, Exercise]
    works: dict[str, tuple[str, str]]  # key -> (authors, year)
    quizzes: dict[str, list[dict[str, Any]]]  # of each chapter, by the name of its file


def read_chapter(path: Path) -> Chapter:
    """Read one chapter.

    Raises:
        ValueError: It has no title or no label.
    """
    notebook = jupytext.read(path)
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    label, title = LABEL.search(first), TITLE.search(first)
    if label is None or title is None:
        raise ValueError(f"{path.name}: the first text cell has no label or no title")
    return Chapter(path, int(path.stem[:2]), title[1].strip(), label[1], notebook)


def read_chapters(root: Path = ROOT) -> list[Chapter]:
    """Read every chapter, in order."""
    return [read_chapter(path) for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.py"))]


def list_exercises(chapter: Chapter) -> list[Exercise]:
    """The exercises of a chapter, in order."""
    found = [match for text in chapter.markdown() for match in EXERCISE.finditer(text)]
    return [
        Exercise(label, title, f"{chapter.number}.{i}", len(stars or ""))
        for i, (_, title, stars, label) in enumerate((match.groups() for match in found), 1)
    ]


def collect_references(chapters: list[Chapter], root: Path = ROOT) -> References:
    """Collect what the chapters refer to, and their quizzes."""
    equations = {}
    for chapter in chapters:
        labels = [label for text in chapter.markdown() for label in EQUATION.findall(text)]
        equations |= {label: f"{chapter.number}.{i}" for i, label in enumerate(labels, 1)}
    return References(
        chapters={chapter.label: chapter for chapter in chapters},
        equations=equations,
        exercises={e.label: e for chapter in chapters for e in list_exercises(chapter)},
        works=read_works(root / "book" / "references.bib"),
        quizzes=book_quiz.read_quizzes(root / book_quiz.QUIZZES),
    )


def read_works(bibliography: Path) -> dict[str, tuple[str, str]]:
    """Authors and year of every cited work: ``("Ho and Salimans", "2022")``."""
    entries = parse_file(str(bibliography)).entries
    return {
        key: (name_authors(e.persons.get("author", [])), e.fields.get("year", "n.d.")) for key, e in entries.items()
    }


def name_authors(people: list[Person]) -> str:
    """Family names for a citation in a sentence: one, two, or the first with *et al.*"""
    names = [re.sub(r"[{}]", "", " ".join([*p.prelast_names, *p.last_names])) for p in people]
    if len(names) > 2:
        return f"{names[0]} et al."
    return " and ".join(names)
