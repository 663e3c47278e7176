"""An explorer of speed: a picture that moves, seen from the side, and where in space and time its energy lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import plotly.graph_objects as go
import torch
from torch import Tensor

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer

FLOOR = -4.0  # decades below the largest energy that are drawn


def motion_explorer(
    row: Tensor,
    move: Callable[[Tensor, float], Tensor],
    energies: Callable[[Tensor], Tensor],
    speeds: Sequence[float],
    start: float,
    every: int = 4,
) -> Explorer:
    r"""One row of pixels over time, and its energy over frequency in space and in time.

    The title says what share of the energy changes faster than every ``every``-th frame can follow, which is
    :math:`1/(2\,\text{every})` cycles a frame.

    Args:
        row: Pixels ``(W,)`` in [-1, 1].
        move: The row at a speed in pixels a frame, ``(T, W)``.
        energies: Of ``(T, W)``, over frequencies :math:`\omega` from -1/2 up, below 1/2, and :math:`\nu` from 0 to 1/2:
            ``(T, W // 2 + 1)``; the row's mean left out.
        speeds: That the slider offers, in pixels a frame.
        start: The speed shown first.
        every: Frames that become one.
    """

    @cache
    def drawn(speed: float) -> tuple[go.Figure, go.Figure, str]:
        seen = move(row, speed)  # (T, W)
        energy = energies(seen)
        frames, width = seen.shape
        omega = [k / frames - 0.5 for k in range(frames)]
        nu = [k / width for k in range(energy.shape[1])]
        decades = (energy / energy.max()).clamp(min=10**FLOOR).log10()
        plane = figures.heatmap(
            [[round(v, 2) for v in line] for line in decades.tolist()],
            x=nu, y=omega, label="decades", limits=(FLOOR, 0.0), square=False,
            xlabel="ν, cycles per pixel", ylabel="ω, cycles per frame",
        ).update_yaxes(autorange=True)  # fmt: skip
        for at in (-0.5 / every, 0.5 / every):
            figures.mark(plane, y=at)
        fast = energy[torch.tensor(omega).abs() > 0.5 / every + 1e-9].sum() / energy.sum()
        return figures.picture(seen[None], 75), plane, f"{100 * fast:.0f}% beyond the dotted lines"

    def draw(speed: float) -> go.Figure:
        seen, plane, title = drawn(speed)
        return figures.panels(
            [seen, plane],
            ["one row of pixels,<br>time runs downwards", title],
            "Explorer over the speed of a picture. Left, one row of its pixels, frame below frame: upright stripes if "
            "it stands still, the more slanted the faster it moves. Right, its energy over frequency in space and in "
            "time: it lies on a line whose slope is the speed, and which is folded back at half a cycle per frame.",
            columns=2, height=420, widths=(0.36, 0.64),
        )  # fmt: skip

    return Explorer(
        draw, [Control("speed", "speed u, pixels a frame", tuple(speeds), start, "slider", lambda u: f"{u:g}")]
    )
