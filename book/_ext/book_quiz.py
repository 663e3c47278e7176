"""Quizzes that check their answers in the page, without a script: each answer unfolds and says why it is right or not.

The directive ``{quiz}`` shows the questions of the chapter that it stands in, from ``book/teaching/quizzes.yaml``. The
text in the directive is for JupyterLab, which does not know it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

QUIZZES = Path("book") / "teaching" / "quizzes.yaml"


class OptionNode(nodes.General, nodes.Element):
    """A possible answer, which unfolds."""


class SummaryNode(nodes.General, nodes.TextElement):
    """What an answer says before it is unfolded."""


def read_quizzes(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The questions of each chapter, by the name of its file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def order_options(question: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Answers as ``(what it says, why, right or not)``, in an order that tells nothing and is always the same."""
    options = [(question["right"], question["because"], True)]
    options += [(wrong["say"], wrong["because"], False) for wrong in question["wrong"]]
    return sorted(options, key=lambda option: hashlib.sha256(f"{question['ask']}{option[0]}".encode()).hexdigest())


class QuizDirective(SphinxDirective):
    """The questions of the chapter that it stands in."""

    has_content = True

    def parse_text(self, text: str) -> list[nodes.Node]:
        """A Markdown text as nodes."""
        holder = nodes.Element()
        self.state.nested_parse(StringList([text], source=str(QUIZZES)), 0, holder)
        return holder.children

    def make_option(self, say: str, because: str, right: bool) -> OptionNode:
        """An answer that unfolds."""
        [spoken] = self.parse_text(say)
        verdict = nodes.strong(text="Right." if right else "No.")
        [reason] = self.parse_text(because)
        option = OptionNode(classes=["quiz-option", "right" if right else "wrong"])
        option += [
            SummaryNode("", "", *spoken.children),
            nodes.paragraph("", "", verdict, nodes.Text(" "), *reason.children),
        ]
        return option

    def run(self) -> list[nodes.Node]:
        source = Path(self.env.srcdir) / QUIZZES
        self.env.note_dependency(str(source))
        questions = read_quizzes(source).get(Path(self.env.docname).name)
        if not questions:
            raise self.error(f"{QUIZZES} has no quiz for {self.env.docname}")
        listed = nodes.enumerated_list(classes=["quiz"], enumtype="arabic", prefix="", suffix=".")
        for question in questions:
            item = nodes.list_item("", *self.parse_text(question["ask"]))
            item += [self.make_option(*option) for option in order_options(question)]
            listed += item
        return [listed]


def open_option(self: HTML5Translator, node: OptionNode) -> None:
    self.body.append(self.starttag(node, "details"))


def close_option(self: HTML5Translator, node: OptionNode) -> None:
    self.body.append("</details>\n")


def open_summary(self: HTML5Translator, node: SummaryNode) -> None:
    self.body.append("<summary>")


def close_summary(self: HTML5Translator, node: SummaryNode) -> None:
    self.body.append("</summary>\n")


def setup(app: Sphinx) -> None:
    """Register directive and nodes."""
    app.add_node(OptionNode, html=(open_option, close_option))
    app.add_node(SummaryNode, html=(open_summary, close_summary))
    app.add_directive("quiz", QuizDirective)
