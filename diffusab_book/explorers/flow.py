r"""Explorers of a rectified flow at work: points in the plane, and latents that decode to pictures.

Euler's method follows straight segments, so between two of its times the state lies on the line between the states
there; :func:`states_at` uses this to show a sampler at any time, however few steps it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import plotly.graph_objects as go
import torch
from torch import Tensor

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_book.figures import mosaic
from diffusab_core import flow

TIMES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)


def states_at(trajectory: Tensor, t: float) -> Tensor:
    r"""The state of an Euler sampler at time t, on the segment between the two states around it.

    Args:
        trajectory: States on an even grid of times from 1 down to 0, ``(steps + 1, N, ...)``, as
            :func:`diffusab_core.flow.sample` returns them with ``trajectory=True`` and no shift.
        t: A time in [0, 1].

    Returns:
        ``(N, ...)``.

    Raises:
        ValueError: A time outside [0, 1], or a trajectory of fewer than two states.
    """
    if not 0 <= t <= 1:
        raise ValueError(f"time must lie in [0, 1] (0 is data, 1 is noise), got {t}")
    steps = len(trajectory) - 1
    if steps < 1:
        raise ValueError(f"a trajectory needs at least two states, got {len(trajectory)}")
    position = (1 - t) * steps
    before = min(int(position), steps - 1)
    return torch.lerp(trajectory[before], trajectory[before + 1], position - before)


def path_line(trajectory: Tensor) -> tuple[list[float | None], list[float | None]]:
    """Paths of points in the plane ``(steps + 1, N, 2)`` as the x and y of one line, broken between points."""
    gaps = trajectory.new_full((1, *trajectory.shape[1:]), float("nan"))
    flat = torch.cat([trajectory, gaps]).transpose(0, 1).flatten(0, 1)  # (N · (steps + 2), 2)
    return _rounded(flat)


def _rounded(points: Tensor) -> tuple[list[float | None], list[float | None]]:
    """Points ``(N, 2)`` as lists of x and y with two decimals, which is finer than a pixel; NaN becomes None, a gap."""
    return tuple([None if v != v else round(v, 2) for v in column.tolist()] for column in points.T)


def flow_explorer(
    model: flow.Velocity,
    data: Tensor,
    noise: Tensor,
    steps: tuple[int, ...] = (64, 8, 3),
    times: tuple[float, ...] = TIMES,
    paths: int = 24,
) -> Explorer:
    r"""Points in the plane on their way from noise to data, for several numbers of Euler steps.

    Args:
        model: Velocity ``model(x, t)`` of points ``(N, 2)``.
        data: Points of the data set, ``(M, 2)``, drawn faintly behind.
        noise: Where the points start, ``(N, 2)``.
        steps: The numbers of steps offered; the first is shown first.
        times: The times offered, in [0, 1].
        paths: Of how many points the whole path is drawn.
    """
    walks = {k: flow.sample(model, noise, k, trajectory=True) for k in steps}  # (k + 1, N, 2) each
    data_x, data_y = _rounded(data)
    limit = 1.05 * max(data.abs().max().item(), noise.abs().quantile(0.99).item())  # a far outlier may start outside
    looks = {
        "data": {"mode": "markers", "size": 4, "color": figures.GREY, "opacity": 0.5},
        "paths": {"color": figures.ORANGE, "width": 1, "dash": "solid"},
        "samples on their way": {"mode": "markers", "size": 6, "color": figures.BLUE},
    }
    looks = {name: {**look, "symbol": 0, "hovertemplate": None, "hoverinfo": "skip"} for name, look in looks.items()}

    def draw(t: float, steps: int) -> go.Figure:
        now_x, now_y = _rounded(states_at(walks[steps], t))
        line_x, line_y = path_line(walks[steps][:, :paths])
        series = {"data": (data_x, data_y), "paths": (line_x, line_y), "samples on their way": (now_x, now_y)}
        fig = figures.lines(series, styles=looks, height=500, alt=(
            "Explorer over time: at t = 1 the blue points are a round cloud of noise, and as t falls to 0 they move "
            "along curved orange paths onto the grey points of the data. With few steps the paths have corners and "
            "many points miss."
        ))  # fmt: skip
        axis = {"range": [-limit, limit], "zeroline": False, "constrain": "domain"}
        fig.update_xaxes(**axis).update_yaxes(scaleanchor="x", **axis)
        return fig.update_layout(margin={"l": 36, "r": 8, "b": 28}, legend_itemsizing="constant")

    return Explorer(
        draw,
        [
            Control("t", "time t", times, times[0], "slider", lambda t: f"{t:g}"),
            Control("steps", "Euler steps:", steps, steps[0], "menu"),
        ],
    )


def sampling_explorer(
    model: flow.Velocity,
    decode: Callable[[Tensor], Tensor],
    noise: Tensor,
    steps: int = 32,
    times: Sequence[float] = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0),
    columns: int = 4,
) -> Explorer:
    r"""Pictures being sampled: the decoded state, and the decoded estimate of where it is going.

    The estimate of the clean latent at time t is :math:`\hat x_0 = x_t - t\, v(x_t, t)`, the end of the straight line
    along the present velocity; for the exact velocity it is :math:`\mathbb E[x_0 \mid x_t]`.

    Args:
        model: Velocity ``model(x, t)`` of latents ``(N, C, h, w)``.
        decode: From such latents to images ``(N, 3, H, W)`` in [-1, 1].
        noise: Where sampling starts, ``(N, C, h, w)``.
        steps: Number of Euler steps.
        times: The times offered, in [0, 1].
        columns: Images in a row of the mosaics; N is a multiple of it.
    """
    times = tuple(times)
    walk = flow.sample(model, noise, steps, trajectory=True)  # (steps + 1, N, C, h, w)

    @cache
    def pictures(t: float) -> list[go.Figure]:
        state = states_at(walk, t)
        with torch.no_grad():
            estimate = state - t * model(state, state.new_full((len(state),), t))
            return [figures.picture(mosaic(decode(z), columns), 60) for z in (state, estimate)]

    def draw(t: float) -> go.Figure:
        return figures.panels(
            pictures(t),
            ["state, decoded", "estimate of the clean latent, decoded"],
            "Explorer over time: on the left a mosaic of decoded latents that begins as noise at t = 1, on the right "
            "the decoded estimate of the clean latents, which begins as a dull blur and gains contrast and layout, "
            "then detail, as t falls to 0.",
            height=360,
        )

    return Explorer(draw, [Control("t", "time t", times, times[0], "slider", lambda t: f"{t:g}")])
