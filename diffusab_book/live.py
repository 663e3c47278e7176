r"""Figures that are drawn anew while a notebook runs, in JupyterLab and under papermill alike, and stay as its output.

Each is shown where it is made, as one output that later drawings replace (``display(..., display_id=...)``), so an
executed notebook keeps the last one only. Drawings are a few seconds apart, so that watching costs next to nothing.
All are called as ``watch(step, values)``, as training functions call what they are given to ``watch``, take of
``values`` what they draw, and leave the rest alone. Outside a notebook nothing is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import plotly.graph_objects as go
import torch

from diffusab_book import figures

Watch = Callable[[float, Mapping[str, Any]], None]

EVERY = 4.0  #: Seconds between two drawings of a figure
_POINTS = 400  # of a curve, at most: more are not seen
_MIME = "application/vnd.plotly.v1+json"


class LiveFigure:
    """One output of a notebook, in its place from the start, though it may be empty for a while.

    :meth:`update` draws it if the last drawing is long enough ago, :meth:`finish` now.

    Args:
        draw: Makes the figure; ``None`` from it means that there is nothing to draw yet.
        every: Seconds from one drawing to the next.
    """

    def __init__(self, draw: Callable[[], go.Figure | None], every: float = EVERY) -> None:
        self.draw, self.every = draw, every
        self._place, self._last = f"live-{uuid4().hex}", -float("inf")
        self.drawings = 0  #: How often it was drawn
        if _in_notebook():
            self._display({"text/plain": ""}, update=False)

    def update(self) -> None:
        if time.monotonic() - self._last >= self.every:
            self.finish()

    def finish(self) -> None:
        """Draw what there is now."""
        if not _in_notebook() or (figure := self.draw()) is None:
            return
        # The bundle itself: a figure would show itself by plotly's own means, as an output that nothing can replace.
        content = figures.shorten({k: v for k, v in figure.to_dict().items() if k in ("data", "layout")})
        content["layout"].pop("template", None)  # 7 kB that repeat what is set below
        content["layout"] = _plain_template(figure) | content["layout"]
        alt = content["layout"].get("meta", {}).get("alt", "a figure that is drawn while the notebook runs")
        self._display({_MIME: content, "text/plain": alt}, update=True)
        self._last = time.monotonic()
        self.drawings += 1

    def _display(self, content: dict[str, Any], update: bool) -> None:
        from IPython.display import display

        display(content, raw=True, display_id=self._place, update=update)


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def _plain_template(figure: go.Figure) -> dict[str, Any]:
    """The book's look as a template without what other kinds of figures would need."""
    return {"template": {"layout": figures.shorten(figure.layout.template.layout.to_plotly_json())}}


class Curves:
    """Numbers against the step, such as losses, as :func:`diffusab_book.figures.lines` draws them.

    Args:
        names: Which of the values, and how they are called; a value that never comes is left out.
        alt: What a reader who cannot see the figure has to know.
        every: As :class:`LiveFigure`.
        options: As :func:`diffusab_book.figures.lines`.
    """

    def __init__(self, names: Mapping[str, str], alt: str, every: float = EVERY, **options: Any) -> None:
        self.names, self.alt = dict(names), alt
        self.options = {"xlabel": "step", "height": 300, **options}
        self.points: dict[str, dict[float, float]] = {name: {} for name in names}
        self.figure = LiveFigure(self._draw, every)

    def __call__(self, step: float, values: Mapping[str, Any]) -> None:
        new = {name: values[name] for name in self.names if isinstance(values.get(name), int | float)}
        for name, value in new.items():
            self.points[name][step] = float(value)
        if new:
            self.figure.update()

    def _draw(self) -> go.Figure | None:
        lines = {}
        for name, label in self.names.items():
            points = sorted(self.points[name].items())
            if points:
                kept = points[:: -(-len(points) // _POINTS)]
                kept += [points[-1]] if kept[-1] != points[-1] else []
                lines[label] = tuple(map(list, zip(*kept, strict=True)))
        return figures.lines(lines, alt=self.alt, **self.options) if lines else None

    def finish(self, series: Mapping[str, Sequence[float]] | None = None, place: str = "step") -> None:
        """Draw the last time; ``series``, as a record has it, adds what an earlier attempt of the run has seen."""
        for name in self.names if series is not None and place in series else ():
            if len(series.get(name, ())) == len(series[place]):
                self.points[name] |= {int(s): v for s, v in zip(series[place], series[name], strict=True)}
        self.figure.finish()


class Spectra:
    """Profiles by zigzag rank, the last few of those that came along the training, light to dark.

    Args:
        name: Which of the values is a profile.
        alt: As :class:`Curves`.
        reference: Profiles to draw beside them, by name.
        keep: How many of the run's own to draw: the first, the last, and others evenly between.
        every: As :class:`LiveFigure`.
        options: As :func:`diffusab_book.figures.axes`.
    """

    def __init__(
        self,
        name: str,
        alt: str,
        reference: Mapping[str, Sequence[float]] | None = None,
        keep: int = 5,
        every: float = EVERY,
        **options: Any,
    ) -> None:
        self.name, self.alt, self.keep, self.reference = name, alt, keep, dict(reference or {})
        self.options = {"xlabel": "zigzag rank", "log_y": True, "height": 320, **options}
        self.found: dict[int, list[float]] = {}
        self.figure = LiveFigure(self._draw, every)

    def __call__(self, step: float, values: Mapping[str, Any]) -> None:
        if self.name in values:
            self.found[step] = [float(value) for value in values[self.name]]
            self.figure.update()

    def _draw(self) -> go.Figure | None:
        if not self.found:
            return None
        steps, keep = sorted(self.found), min(self.keep, len(self.found))
        chosen = [steps[round(i * (len(steps) - 1) / max(1, keep - 1))] for i in range(keep)]
        lines = {f"step {step:,}".replace(",", " "): self.found[step] for step in chosen}
        share = [(i + 1) / len(chosen) for i in range(len(chosen))]
        styles = {
            name: {"color": figures.BLUE, "dash": "solid", "opacity": 0.2 + 0.8 * s, "width": 1.5 + s}
            for name, s in zip(lines, share, strict=True)
        }
        styles |= {name: {"color": 1 + i, "dash": "dash"} for i, name in enumerate(self.reference)}
        return figures.lines(lines | self.reference, alt=self.alt, styles=styles, **self.options)

    def finish(self) -> None:
        self.figure.finish()


class Pictures:
    """A grid of images, of which the newest replaces the last.

    Args:
        name: Which of the values are images, ``(N, 3, H, W)`` in [-1, 1].
        alt: As :class:`Curves`.
        columns: Images in a row.
        word: What the steps are, in the title.
        every: As :class:`LiveFigure`.
    """

    def __init__(self, name: str, alt: str, columns: int = 8, word: str = "step", every: float = EVERY) -> None:
        self.name, self.alt, self.columns, self.word = name, alt, columns, word
        self.images: torch.Tensor | None = None
        self.step: float = 0
        self.figure = LiveFigure(self._draw, every)

    def __call__(self, step: float, values: Mapping[str, Any]) -> None:
        if self.name in values:
            self.images, self.step = values[self.name].detach().float().cpu(), step
            self.figure.update()

    def _draw(self) -> go.Figure | None:
        if self.images is None:
            return None
        grid = figures.mosaic(self.images, self.columns)
        height = min(640, 80 + round(560 * grid.shape[1] / grid.shape[2]))
        return figures.panels([figures.picture(grid)], [f"{self.word} {self.step:g}"], self.alt, height=height)

    def finish(self) -> None:
        self.figure.finish()


def together(*watching: Watch) -> Watch:
    """One watch that tells several."""

    def watch(step: float, values: Mapping[str, Any]) -> None:
        for each in watching:
            each(step, values)

    return watch
