"""Student notebooks without solutions, and the same notebooks with them, as ``.ipynb`` in plain Markdown."""

from __future__ import annotations

import re

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from kit.claims import leave_out_claims
from kit.plain import Block, make_plain, split_blocks
from kit.quizzes import write_quiz
from kit.sources import Chapter, References, list_exercises

PYTHON = re.compile(r"^```python\n(.*?)^```[ \t]*\n?", re.MULTILINE | re.DOTALL)
KEPT = ("tags", "jupyter")  # metadata of cells that a notebook program understands
QUESTIONS = {"exercise", "solution", "quiz"}


def plain_cell(text: str, known: References) -> list[NotebookNode]:
    """A text as a Markdown cell, or none where nothing is left of it."""
    plain = make_plain(text, known).strip()
    return [new_markdown_cell(plain)] if plain else []


def answer_cells(label: str) -> list[NotebookNode]:
    """Room for an answer: a text cell and a code cell."""
    where = {"tags": ["answer"], "exercise": label}
    return [
        new_markdown_cell("*Your answer:*", metadata=where),
        new_code_cell("# your code", metadata=where),
    ]


def solution_cells(block: Block, known: References) -> list[NotebookNode]:
    """A solution, its code in cells that run."""
    where = {"tags": ["solution"], "exercise": block.argument}
    head = f"**Solution of Exercise {known.exercises[block.argument].number}**\n\n"
    cells, start = [], 0
    for match in PYTHON.finditer(block.body):
        cells += plain_cell(head + block.body[start : match.start()], known)
        cells.append(new_code_cell(match[1].rstrip("\n")))
        head, start = "", match.end()
    cells += plain_cell(head + block.body[start:], known)
    for cell in cells:
        cell.metadata.update(where)
    return cells


def text_cells(source: str, chapter: Chapter, known: References, solved: bool) -> list[NotebookNode]:
    """A text cell of a chapter as cells: each exercise its own, then room for an answer or the solution."""
    cells = []
    for part in split_blocks(source, QUESTIONS):
        if isinstance(part, str):
            cells += plain_cell(part, known)
        elif part.kind == "quiz":
            cells.append(new_markdown_cell(write_quiz(known.quizzes[chapter.name], known, answers=solved)))
        elif part.kind == "exercise":
            label = part.options["label"]
            statement = f"**Exercise {known.exercises[label].number}. {part.argument}**\n\n{part.body}"
            cells += plain_cell(statement, known)
            cells += [] if solved else answer_cells(label)
        elif solved:
            cells += solution_cells(part, known)
    return cells


def write_notebook(chapter: Chapter, known: References, solved: bool) -> NotebookNode:
    """A chapter for a class.

    Args:
        chapter: The chapter.
        known: What references point at.
        solved: With the solutions in place; or without them, without the answers of the quiz and without the section of
            claims, with room for answers.

    Returns:
        A notebook without outputs. Its cells' ids are counted, so that the same sources make the same file.
    """
    kind = "with solutions" if solved else "for students"
    exercises = len(list_exercises(chapter))
    head = (
        f"*Chapter {chapter.number} of the book* Diffusability, *{kind}: {exercises} exercises; "
        "★ takes minutes, ★★ about half an hour, ★★★ an hour and more.*"
    )
    cells = [new_markdown_cell(head)]
    for cell in chapter.notebook.cells if solved else leave_out_claims(chapter.notebook.cells):
        if cell.cell_type == "markdown":
            cells += text_cells(cell.source, chapter, known, solved)
        else:
            metadata = {key: cell.metadata[key] for key in KEPT if key in cell.metadata}
            cells.append(new_code_cell(cell.source, metadata=metadata))
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i:03d}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
