"""Quizzes in plain Markdown: each answer unfolds, in notebooks as in the built book."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import book_quiz

from kit.plain import make_plain
from kit.sources import References


def write_option(say: str, because: str, right: bool, known: References) -> str:
    """An answer that unfolds; empty lines let Markdown and formulas be read inside."""
    verdict = "Right." if right else "No."
    summary = f"<details><summary>{make_plain(say, known)}</summary>"
    return f"{summary}\n\n**{verdict}** {make_plain(because, known)}\n\n</details>"


def write_quiz(questions: Sequence[Mapping[str, Any]], known: References) -> str:
    """A chapter's quiz as Markdown with a few tags of HTML."""
    parts = []
    for i, question in enumerate(questions, 1):
        parts.append(f"**{i}.** {make_plain(question['ask'], known)}")
        parts += [write_option(*option, known) for option in book_quiz.order_options(question)]
    return "\n\n".join(parts)
