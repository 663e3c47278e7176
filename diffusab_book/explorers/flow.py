r"""Explorers of a flow at work: points in the plane, and latents that decode to pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core import denoisers, flow, spectrum

TIMES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
SAMPLING_TIMES = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0)
EULER_STEPS = (64, 8, 3)


def flow_explorer(model: flow.Velocity, data: Tensor, noise: Tensor, paths: int = 24) -> Explorer:
    r"""Points in the plane on their way from noise to data, for several numbers of Euler steps.

    Args:
        model: Velocity ``model(x, t)`` of points ``(N, 2)``.
        data: Points of the data set, ``(M, 2)``, drawn faintly behind.
        noise: Where the points start, ``(N, 2)``.
        paths: Of how many points the whole path is drawn.
    """
    walks = {k: flow.sample(model, noise, k, trajectory=True) for k in EULER_STEPS}  # (k + 1, N, 2) each
    limit = 1.05 * max(data.abs().max().item(), noise.abs().quantile(0.99).item())  # a far outlier may start outside
    quiet = {"symbol": 0, "hovertemplate": None, "hoverinfo": "skip"}
    looks = {
        "data": {"mode": "markers", "size": 4, "color": figures.GREY, "opacity": 0.5, **quiet},
        "paths": {"color": figures.ORANGE, "width": 1, "dash": "solid", **quiet},
        "samples on their way": {"mode": "markers", "size": 6, "color": figures.BLUE, **quiet},
    }

    def draw(t: float, steps: int) -> go.Figure:
        points = data, _path_lines(walks[steps][:, :paths]), flow.states_at(walks[steps], t)
        series = {name: tuple(xy.T) for name, xy in zip(looks, points, strict=True)}
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
            Control("t", "time t", TIMES, 1.0, "slider", lambda t: f"{t:g}"),
            Control("steps", "Euler steps:", EULER_STEPS, EULER_STEPS[0], "menu"),
        ],
    )


def _path_lines(trajectory: Tensor) -> Tensor:
    """Paths of points in the plane ``(steps + 1, N, 2)`` as one line ``(N · (steps + 2), 2)``, broken by NaN."""
    gaps = trajectory.new_full((1, *trajectory.shape[1:]), float("nan"))
    return torch.cat([trajectory, gaps]).transpose(0, 1).flatten(0, 1)


def sampling_explorer(
    model: flow.Velocity,
    decode: Callable[[Tensor], Tensor],
    noise: Tensor,
    steps: int = 32,
) -> Explorer:
    r"""Pictures being sampled: the decoded state, and the decoded estimate of where it is going.

    The estimate is that of :func:`diffusab_core.flow.walk`; for the exact velocity it is
    :math:`\mathbb E[x_0 \mid x_t]`.

    Args:
        model: Velocity ``model(x, t)`` of latents ``(N, C, h, w)``.
        decode: From such latents to images ``(N, 3, H, W)`` in [-1, 1].
        noise: Where sampling starts, ``(N, C, h, w)``.
        steps: Number of Euler steps, a multiple of 8.
    """
    return _walks_explorer(
        {1.0: flow.walk(model, noise, steps)}, decode, 4,
        lambda step: ("state, decoded", "estimate of the clean latent, decoded"),
        Control("t", "time t", SAMPLING_TIMES, 1.0, "slider", lambda t: f"{t:g}"), lambda t: round((1 - t) * steps),
        "Explorer over time: on the left a mosaic of decoded latents that begins as noise at t = 1, on the right the "
        "decoded estimate of the clean latents, which begins as a dull blur and gains contrast and layout, then "
        "detail, as t falls to 0.",
    )  # fmt: skip


def film_strip(
    model: flow.Velocity,
    decode: Callable[[Tensor], Tensor],
    noise: Tensor,
    radii: Sequence[float] = (1 / 16, 1 / 8),
    steps: int = 32,
    frames: int = 8,
) -> go.Figure:
    r"""One sample's estimate of the clean picture along sampling, whole and in three bands; and when each is settled.

    Args:
        model: Velocity ``model(x, t)`` of latents ``(N, C, h, w)``.
        decode: From such latents to images ``(N, 3, H, W)`` in [-1, 1].
        noise: Where sampling starts, ``(N, C, h, w)``: the strip shows the first, the curves are over all N.
        radii: Where the bands part, two ascending radii in cycles per pixel of the image.
        steps: Number of Euler steps, a multiple of ``frames``.
        frames: Pictures in a row, besides the first.
    """
    if len(radii) != 2 or steps % frames:
        raise ValueError(f"the strip wants two radii and a multiple of {frames} steps, got {tuple(radii)} and {steps}")
    _, predictions = flow.walk(model, noise, steps)
    with torch.no_grad():
        pictures = torch.stack([decode(z) for z in predictions])  # (steps + 1, N, 3, H, W)
    bands = spectrum.radial_bands(pictures, radii)  # (3, steps + 1, N, 3, H, W)
    waves = [f"{1 / radius:g}" for radius in radii]
    names = [f"waves over {waves[0]} pixels", f"{waves[0]} to {waves[1]} pixels", f"under {waves[1]} pixels"]
    times = flow.sampling_times(steps).tolist()

    shown = slice(None, None, steps // frames)
    fine = [band[shown, 0] / band[-1, 0].abs().max() for band in bands[1:]]  # as strong as a picture can show them
    strip = torch.cat([pictures[shown, 0], bands[0][shown, 0], *fine])  # (4 · (frames + 1), 3, H, W)
    film = figures.picture(figures.mosaic(strip.repeat_interleave(2, -1).repeat_interleave(2, -2), frames + 1, 4), 88)
    side = 2 * pictures.shape[-1] + 4
    film.update_xaxes(
        visible=True, showgrid=False, ticks="", side="top", tickvals=[(i + 0.5) * side for i in range(frames + 1)],
        ticktext=[f"{times[i]:.2g}" for i in range(0, steps + 1, steps // frames)],
    ).update_yaxes(
        visible=True, showgrid=False, ticks="", tickvals=[(i + 0.5) * side for i in range(4)],
        ticktext=["whole", "coarse", "middle", "fine"],
    )  # fmt: skip
    shares = {name: flow.settled_share(band) for name, band in zip(names, bands, strict=True)}
    lowest = min(0.0, *(share.min().item() for share in shares.values()))
    settled = figures.lines(
        shares, x=times, xlabel="time t (sampling runs from 1 to 0)", ylabel="share settled",
    ).update_xaxes(autorange="reversed").update_yaxes(range=[lowest - 0.05, 1.05])  # fmt: skip
    alt = (
        "A film strip of the estimate of one clean picture from t = 1 to t = 0, in four rows: the whole, its long, its "
        "middle and its short waves. Below, the share of each band that is settled, against time: the curve of the "
        "long waves rises first, that of the short ones last."
    )
    fig = figures.panels([film, settled], ["", ""], alt, columns=1, height=680, heights=(0.52, 0.48))
    return fig.update_layout(margin_l=64, margin_t=64)


def trajectory_explorer(
    model: nn.Module,
    decode: Callable[[Tensor], Tensor],
    noise: Tensor,
    y: Tensor | None = None,
    steps: int = 16,
    shown: Sequence[int] | None = None,
    guidances: Sequence[float] = (1.0,),
) -> Explorer:
    r"""A denoiser's samples on their way: the decoded state beside the decoded prediction of the clean latent.

    Args:
        model: From :func:`diffusab_core.denoisers.build`, in evaluation mode. With self-conditioning its velocity
            depends on the calls before: shown is what it said on the way.
        decode: From what the model makes to images ``(N, 3, H, W)`` in [-1, 1].
        noise: ``(N, C, h, w)``, shown five in a row.
        y: Classes, ``(N,)``.
        steps: Number of Euler steps.
        shown: The steps that the slider offers, in order; ``None``: all, from 0 (noise) to ``steps``.
        guidances: Scales of classifier-free guidance offered in a menu; 1 is none.

    Raises:
        ValueError: A step that the sampler does not reach, guidance without classes, or a denoiser that predicts the
            noise.
    """
    shown = tuple(range(steps + 1)) if shown is None else tuple(shown)
    if len(shown) < 2 or not all(0 <= step <= steps for step in shown):
        raise ValueError(f"the slider needs two or more of the steps 0 to {steps}, got {shown}")
    if (prediction := denoisers.prediction_of(model)) != "velocity":
        raise ValueError(f"these walks follow a velocity, the denoiser predicts the {prediction}")
    if y is None and set(guidances) != {1}:
        raise ValueError(f"guidance by {tuple(guidances)} needs classes y")
    walks = {
        scale: flow.walk(
            flow.guided(denoisers.SelfConditioned(model), denoisers.SelfConditioned(model), scale), noise, steps, y=y
        )
        for scale in guidances
    }
    times = flow.sampling_times(steps).tolist()
    return _walks_explorer(
        walks, decode, 5, lambda step: (f"state at t = {times[step]:.2f}", "predicted clean latent"),
        Control("step", "step", shown, shown[len(shown) // 2], "slider"), lambda step: step,
        "Explorer over the steps of sampling: on the left a mosaic of decoded states that begins as the picture of "
        "noise, on the right the decoded predictions of the clean latents, which begin as blurs in the colours of "
        "their class and gain contrast, layout and then detail. At the last step both are the same.",
    )  # fmt: skip


def _walks_explorer(
    walks: Mapping[float, tuple[Tensor, Tensor]],
    decode: Callable[[Tensor], Tensor],
    columns: int,
    titles: Callable[[int], Sequence[str]],
    slider: Control,
    step_of: Callable[[Any], int],
    alt: str,
) -> Explorer:
    """States and predictions of walks, by guidance, at the step that the slider's value stands for."""

    @cache
    def pictures(step: int, guidance: float) -> list[go.Figure]:
        with torch.no_grad():
            return [figures.picture(figures.mosaic(decode(kept[step]), columns), 60) for kept in walks[guidance]]

    def draw(guidance: float = next(iter(walks)), **place: Any) -> go.Figure:
        step = step_of(place[slider.name])
        return figures.panels(pictures(step, guidance), titles(step), alt, height=370)

    scales = tuple(walks)
    return Explorer(draw, [slider, Control("guidance", "guidance:", scales, scales[0], "menu", lambda w: f"{w:g}")])
