"""Numbers in pages: the space inside ``9 600`` does not break a line."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

GROUPED = re.compile(r"(?<!\d)\d{1,3}(?:[ \n]\d{3})+(?!\d)")
AS_IT_STANDS = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, nodes.comment)


def keep_together(text: str) -> str:
    """Put spaces that do not break between the groups of three digits of a number."""
    return GROUPED.sub(lambda found: re.sub(r"\s", "\N{NO-BREAK SPACE}", found[0]), text)


class KeepNumbersTogether(SphinxPostTransform):
    """Changes the words of a page, and neither its code nor its formulas."""

    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs: object) -> None:
        """Replace each text of the page that holds such a number."""
        for text in list(self.document.findall(nodes.Text)):
            kept = keep_together(text)
            if kept != text and not _inside(text, AS_IT_STANDS):
                text.parent.replace(text, nodes.Text(kept))


def _inside(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    while node is not None and not isinstance(node, kinds):
        node = node.parent
    return node is not None


def setup(app: Sphinx) -> None:
    """Register the step."""
    app.add_post_transform(KeepNumbersTogether)
