"""Quizzes in plain Markdown: with solutions each answer unfolds, students get the letters of the printed sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

import book_quiz

from kit.plain import make_plain
from kit.sources import References


def write_option(say: str, because: str, right: bool, known: References) -> str:
    """An answer that unfolds; empty lines let Markdown and formulas be read inside."""
    verdict = "Right." if right else "No."
    summary = f"<details><summary>{make_plain(say, known)}</summary>"
    return f"{summary}\n\n**{verdict}** {make_plain(because, known)}\n\n</details>"


def write_quiz(questions: Sequence[Mapping[str, Any]], known: References, answers: bool) -> str:
    """A chapter's quiz as Markdown: what is right and why unfolds, or stands nowhere in it."""
    parts = []
    for i, question in enumerate(questions, 1):
        parts.append(f"**{i}.** {make_plain(question['ask'], known)}")
        options = book_quiz.order_options(question)
        if answers:
            parts += [write_option(*option, known) for option in options]
        else:
            lettered = zip(ascii_uppercase, options, strict=False)
            parts.append("\n".join(f"- **{letter}.** {make_plain(say, known)}" for letter, (say, *_) in lettered))
    return "\n\n".join(parts)
