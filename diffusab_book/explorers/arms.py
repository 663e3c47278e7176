"""Arms of one denoiser recipe along the training: samples, errors by rank, gaps over shifts, each beside its control.

All is drawn from records of the run notebook ``denoiser``: a frame with the arms' labels in the column ``arm``, in the
order in which they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from diffusab_book import figures, results
from diffusab_book.explorer import Control, Explorer
from diffusab_book.explorers import dial
from diffusab_book.results import Paired


def samples_explorer(runs: pd.DataFrame, alt: str) -> Explorer:
    """Slider over the length of training: one grid of samples for each arm, of the smallest seed.

    Args:
        runs: From :func:`diffusab_book.explorers.dial.read`, with an arm once for each length and seed.
    """
    arms = list(dict.fromkeys(runs.arm))

    def draw(steps: int) -> go.Figure:
        grids = [dial.samples(runs, arm=arm, steps=steps) for arm in arms]
        return figures.panels(grids, arms, alt, height=380)

    return Explorer(draw, [_over_steps(runs)])


def errors(trained: Mapping[str, Sequence[float]], bounds: Mapping[str, Sequence[float]], alt: str) -> go.Figure:
    """Relative error at each zigzag rank at t = 0.5, an arm in one colour: of its denoiser, and dotted what bounds it.

    Args:
        trained: For each arm :func:`~diffusab_core.metrics.yardsticks.relative_errors`.
        bounds: For the same arms :func:`~diffusab_core.methods.diffusability.expected_error`.
    """
    dotted = {f"{arm}, each coefficient alone": values for arm, values in bounds.items()}
    looks: dict[str, dict[str, Any]] = {arm: {"color": i} for i, arm in enumerate(trained)}
    looks |= {name: {"color": i, "dash": "dot", "width": 1} for i, name in enumerate(dotted)}
    return figures.profiles({**trained, **dotted}, alt, ylabel="relative error η at t = 0.5", styles=looks)


def errors_explorer(runs: pd.DataFrame, bounds: Mapping[str, Sequence[float]], alt: str) -> Explorer:
    """Slider over the length of training: :func:`errors` of each arm, means over seeds."""

    def draw(steps: int) -> go.Figure:
        of = runs[runs.steps == steps]
        return errors({arm: results.mean_series(of, "error_0.5", arm) for arm in bounds}, bounds, alt)

    return Explorer(draw, [_over_steps(runs)])


def shifts_explorer(runs: pd.DataFrame, alt: str, name: str = "shift_gap_offline", ylabel: str = "gap") -> Explorer:
    """Slider over the length of training: a distance against the time shift of the sampler, a marker for each run."""
    arms = list(dict.fromkeys(runs.arm))

    def draw(steps: int) -> go.Figure:
        of = runs[runs.steps == steps]
        curves = {arm: results.by_place(of, "shift", name, arm) for arm in arms}
        return dial.with_ticks(figures.over_seeds(curves, alt, "time shift χ at inference", ylabel))

    return Explorer(draw, [_over_steps(runs)])


def beside(runs: pd.DataFrame, controls: Mapping[str, Mapping[str, str]], metric: str) -> dict[str, Paired]:
    """What each arm has over its own control, in shares of it, by the arm's label.

    Args:
        runs: The frame.
        controls: For each control the arms that are compared with it, ``{arm: label}``.
        metric: A column.
    """
    return {
        label: results.paired(runs, metric, arm, control, relative=True)
        for control, arms in controls.items()
        for arm, label in arms.items()
    }


def against_controls(
    runs: pd.DataFrame, controls: Mapping[str, Mapping[str, str]], metrics: Mapping[str, str], alt: str
) -> go.Figure:
    """:func:`beside` in per cent, for each metric, ``{column: label}``: bars, and whiskers from seed to seed."""
    groups = {}
    for metric, group in metrics.items():
        found = beside(runs, controls, metric)
        groups[group] = {n: tuple(100 * v for v in (d.mean, min(d.values), max(d.values))) for n, d in found.items()}
    fig = figures.bars(groups, ylabel="over the arm's control, %", alt=alt, height=460)
    return fig.update_xaxes(automargin=True, tickangle=-90)  # names of arms are long


def _over_steps(runs: pd.DataFrame) -> Control:
    lengths = tuple(sorted(set(runs.steps)))
    return Control("steps", "training steps", lengths, lengths[0], "slider", results.count)
