"""Plotly figures in published pages: the figure's JSON in the page, drawn by ``book/_static/figures.js``.

myst-nb does not know ``application/vnd.plotly.v1+json`` and would drop it. Here it becomes a ``<div>`` that holds the
JSON; one shared plotly.js draws it when it scrolls into view, so a page carries its data and nothing else.
"""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

from docutils import nodes
from myst_nb.core import render

from diffusab_book.figures import shorten

if TYPE_CHECKING:
    from myst_nb.core.render import MimeData, NbElementRenderer

PLOTLY_MIME = "application/vnd.plotly.v1+json"
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
DEFAULT_HEIGHT = 450  # pixels; what plotly.js takes when the layout says nothing


def alt_text(figure: dict[str, Any]) -> str:
    """Return the figure's text for those who do not see it: ``layout.meta["alt"]``, or an empty string."""
    meta = figure.get("layout", {}).get("meta")
    return str(meta.get("alt") or "").strip() if isinstance(meta, dict) else ""


def figure_html(figure: dict[str, Any]) -> str:
    """Return the element that ``figures.js`` draws into.

    Args:
        figure: Plotly's JSON, with ``data``, ``layout`` and maybe ``frames``. The text for readers who do not see it
            is ``layout.meta["alt"]``.

    Returns:
        HTML. ``role="img"`` and its label sit on the element; height is reserved, so that the page does not jump.
        Numbers are rounded to four significant digits.
    """
    alt = html.escape(alt_text(figure), quote=True)
    height = int(figure.get("layout", {}).get("height") or DEFAULT_HEIGHT)
    # Escaping "<" keeps any "</script>" inside the data from ending the element; JSON.parse undoes it.
    data = json.dumps(shorten(figure), separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<div class="book-figure" role="img" aria-label="{alt}" style="min-height:{height}px">'
        f'<script type="application/json" class="book-figure-data">{data}</script>'
        f"<noscript><p>{alt}</p></noscript></div>"
    )


class PlotlyFigures:
    """A mime renderer in myst-nb's sense (``myst_nb.core.render.MimeRenderPlugin``)."""

    mime_priority_overrides = (("html", PLOTLY_MIME, 1),)

    @staticmethod
    def handle_mime(renderer: NbElementRenderer, data: MimeData, inline: bool) -> list[nodes.Element] | None:
        """Render a Plotly figure; warn (an error in the build) about one without alt text and about live widgets."""
        if data.mime_type == WIDGET_MIME:
            renderer.logger.warning(
                "a live widget computes nothing in a published page: show its published twin when "
                "DIFFUSAB_PUBLISH=1 is set",
                subtype="widget",
                line=data.line,
            )
            return []
        if data.mime_type != PLOTLY_MIME or inline:
            return None
        figure = data.content if isinstance(data.content, dict) else json.loads(data.string)
        if not alt_text(figure):
            renderer.logger.warning(
                'a figure without alt text: set fig.layout.meta = {"alt": "..."}', subtype="alt_text", line=data.line
            )
        return [nodes.raw(text=figure_html(figure), format="html", classes=["output"])]


def install() -> None:
    """Let myst-nb use :class:`PlotlyFigures`.

    myst-nb finds mime renderers by the entry points of installed packages only; this one belongs to the book, which
    is no package, so it is put in front of the ones found.
    """
    found = tuple(plugin for plugin in render.load_mime_renders() if plugin is not PlotlyFigures)
    render.load_mime_renders = lambda: [PlotlyFigures, *found]
