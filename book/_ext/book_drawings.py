"""Drawings in pages: an SVG of ``book/drawings`` becomes a part of the page, so that it takes the colours of its theme.

JupyterLab shows the same file as a picture, in the middle greys that its style falls back to.
"""

from __future__ import annotations

import html
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

DRAWINGS = "book/drawings/"


def embed(svg: str, alt: str) -> str:
    """Return a drawing as an element of a page: a scrolling box, one picture to those who do not see it.

    Raises:
        ValueError: ``alt`` is empty.
    """
    if not alt.strip():
        raise ValueError("a drawing needs a text for readers who do not see it: ![what it shows](...)")
    label = html.escape(" ".join(alt.split()), quote=True)
    return f'<div class="book-drawing">{svg.replace("<svg ", f"""<svg role="img" aria-label="{label}" """, 1)}</div>'


class EmbedDrawings(SphinxPostTransform):
    """Replaces pictures that are drawings of the book; their paths are known once the page was read."""

    default_priority = 5
    formats = ("html",)

    def run(self, **kwargs: object) -> None:
        """Replace each drawing of the page."""
        for node in list(self.document.findall(nodes.image)):
            if node["uri"].startswith(DRAWINGS) and node["uri"].endswith(".svg"):
                svg = (Path(self.app.srcdir) / node["uri"]).read_text(encoding="utf8")
                node.replace_self(nodes.raw("", embed(svg, node.get("alt", "")), format="html"))


def setup(app: Sphinx) -> None:
    """Register the step."""
    app.add_post_transform(EmbedDrawings)
