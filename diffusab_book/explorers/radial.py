"""An explorer of a radius in two spaces: the low and high frequencies of a picture, and what its latent's decode to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache

import plotly.graph_objects as go
import torch
from torch import Tensor

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.metrics import psnr
from diffusab_core.metrics.probes import reconstructions_by_part
from diffusab_core.spectrum.bands import energy_shares
from diffusab_core.spectrum.radial import radial_split


def radius_explorer(
    image: Tensor,
    autoencoders: Mapping[str, Autoencoder],
    radii: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4),
    start: float = 0.2,
) -> Explorer:
    r"""One radius in both spaces: above the picture within and beyond it, below what the latent's two parts decode to.

    The same number is two lengths: in cycles per pixel of the picture above, of the latent below, where a pixel is f
    times larger. High-passed pictures are shown about mid-grey. Energies are about the mean of each channel, PSNR is
    against the picture.

    Args:
        image: ``(3, H, W)`` in [-1, 1]; sides must be multiples of every compression.
        autoencoders: From :func:`diffusab_core.autoencoders.load`, by the name shown in the menu.
        radii: That the slider offers, in cycles per pixel.
        start: The radius shown first.

    Raises:
        ValueError: No autoencoder, or as :func:`diffusab_core.spectrum.radial.radial_mask`.
    """
    if not autoencoders:
        raise ValueError("the explorer needs at least one autoencoder to decode with")
    x = image[None]
    with torch.no_grad():
        latents = {name: autoencoder.encode(x).mean for name, autoencoder in autoencoders.items()}

    def pair(low: Tensor, high: Tensor) -> list[go.Figure]:
        return [figures.picture(part[0], 60) for part in (low, high)]

    @cache
    def of_picture(radius: float) -> tuple[list[go.Figure], list[str]]:
        low, high = radial_split(x, radius)
        within, beyond = energy_shares(x, radius)
        return pair(low, high), [
            f"picture within r: {100 * within:.1f}% of energy<br>{psnr(low, x).item():.1f} dB",
            f"picture beyond r: {100 * beyond:.1f}% of energy<br>about mid-grey",
        ]

    @cache
    def of_latent(radius: float, model: str) -> tuple[list[go.Figure], list[str]]:
        z = latents[model]
        parts = reconstructions_by_part(autoencoders[model], z, radius)
        within, beyond = energy_shares(z, radius)
        return pair(parts.low, parts.high), [
            f"Dec(Z_low), {100 * within:.1f}% of energy<br>{psnr(parts.low, x).item():.1f} dB "
            f"(Dec(Z): {psnr(parts.whole, x).item():.1f} dB)",
            f"Dec(Z_high), {100 * beyond:.1f}% of energy<br>{psnr(parts.high, x).item():.1f} dB",
        ]

    def draw(radius: float, model: str = next(iter(autoencoders))) -> go.Figure:
        (above, upper), (below, lower) = of_picture(radius), of_latent(radius, model)
        return figures.panels(
            [*above, *below], [*upper, *lower],
            "Explorer over a radius in the Fourier plane: above, a photograph with frequencies within the radius, and "
            "those beyond it; below, the pictures decoded from the same two parts of its latent. With a growing "
            "radius the left pictures become sharper and the right ones emptier.",
            columns=2, height=640,
        )  # fmt: skip

    models = tuple(autoencoders)
    return Explorer(
        draw,
        [
            Control("radius", "r, cycles per pixel of each space", tuple(radii), start, "slider", lambda r: f"{r:g}"),
            Control("model", "autoencoder:", models, models[0], "menu"),
        ],
    )


def cutoff_curves(bands: Mapping[str, Mapping[str, Tensor]], cutoffs: Sequence[float], alt: str) -> go.Figure:
    """How strong bands of latents are, against the radius at which pictures are low-passed; one panel for each band.

    Args:
        bands: By the panel's title, by autoencoder, amplitudes over those of unfiltered pictures, ``(draws, R)``: a
            line through the means, and their range.
        cutoffs: The R radii in cycles per pixel of the picture; infinite: unfiltered.
        alt: As :func:`diffusab_book.figures.axes`.
    """
    places = [f"{r:g}" if r < math.inf else "all" for r in cutoffs]
    options = {"x": places, "xlabel": "r, cycles per picture pixel", "ylabel": "% of unfiltered"}
    parts = []
    for values in bands.values():
        ends = {name: (100 * v.amin(0), 100 * v.amax(0)) for name, v in values.items()}
        parts.append(figures.lines({name: 100 * v.mean(0) for name, v in values.items()}, band=ends, **options))
    fig = figures.panels(parts, list(bands), alt, height=480, share_y=True)
    return fig.update_xaxes(type="category", tickangle=-45).update_layout(margin_b=80)
