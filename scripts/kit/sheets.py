"""Quizzes on paper: one page of HTML to print, a chapter on a sheet, with the answers or without them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase

import book_quiz
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from nbconvert.filters import markdown2html

from kit import slides
from kit.plain import make_plain
from kit.sources import Chapter, References

TEMPLATE = Path(__file__).with_name("quiz_sheet.html.j2")


def show(text: str, known: References) -> Markup:
    """A text of a quiz as HTML; its formulas are left to MathJax."""
    return Markup(re.sub(r"^<p>(.*)</p>$", r"\1", markdown2html(make_plain(text, known)).strip(), flags=re.DOTALL))


def write_quizzes(chapters: Sequence[Chapter], known: References, answers: bool) -> str:
    """All quizzes as one page to print, a chapter on a sheet of its own.

    Args:
        chapters: Whose quizzes.
        known: What references point at.
        answers: For the person in front of the class: the right letters, and why each answer is right or wrong. Without
            them the page is for the class: nothing in it tells which answer is right.
    """
    sheets = []
    for chapter in chapters:
        questions, letters = [], []
        for question in known.quizzes[chapter.name]:
            ordered = book_quiz.order_options(question)
            letters.append(ascii_uppercase[[right for *_, right in ordered].index(True)])
            said = [
                {"say": show(say, known), "right": right, "because": show(because, known)}
                for say, because, right in ordered
            ]
            questions.append({"ask": show(question["ask"], known), "options": said})
        key = " · ".join(f"{i} {letter}" for i, letter in enumerate(letters, 1))
        sheets.append({"number": chapter.number, "title": chapter.title, "key": key, "questions": questions})
    mathjax = slides.vendored_file(*slides.VENDORED["vendor/tex-svg.js"]).read_text(encoding="utf8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf8"))
    return page.render(sheets=sheets, answers=answers, mathjax=Markup(mathjax)) + "\n"
