"""An explorer of a decoder that samples: what it draws in so many steps, and what of that is kept or invented."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import plotly.graph_objects as go
from torch import Tensor

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core import metrics
from diffusab_core.metrics.invention import Invention


def decoder_explorer(
    picture: Tensor,
    decode: Callable[[int, int], Tensor],
    compare: Callable[[int], Invention],
    beside: Mapping[str, Tensor],
    steps: Sequence[int],
    seeds: Sequence[int],
    start: int,
) -> Explorer:
    """A picture beside what is drawn of its latent, and energies by zigzag rank from 1 on.

    Titles have the PSNR and the share of the energy that is invented.

    Args:
        picture: ``(3, H, W)`` or ``(1, H, W)`` in [-1, 1].
        decode: Of a number of steps and a seed, a picture of the same shape.
        compare: Of a number of steps, what seeds agree on, over many pictures.
        beside: Energies ``(B²,)`` of other decoders by name, on the same pictures.
        steps: That the slider offers.
        seeds: That the menu offers.
        start: The number of steps shown first.
    """
    of_pictures = compare(start).energy[1:]  # rank 0, the brightness, would be far above all others
    ranks = list(range(1, len(of_pictures) + 1))
    limits = [math.floor(of_pictures.min().log10().item()) - 1, math.ceil(of_pictures.max().log10().item())]

    @cache
    def found(number: int) -> tuple[go.Figure, float]:
        invented, kept = (part[1:] for part in compare(number)[:2])
        decoded = (invented + kept).clamp(min=0)
        curves = {"picture": of_pictures, "decoded": decoded, "of it, invented": invented}
        curves |= {name: energy[1:] for name, energy in beside.items()}
        plot = figures.lines(
            curves, x=ranks, log_y=True, xlabel="zigzag rank", ylabel="energy",
            styles={"picture": {"color": figures.GREY, "dash": "solid"}, "decoded": {"dash": "solid", "width": 4}},
        ).update_yaxes(range=limits)  # fmt: skip
        return plot, 100 * float(invented.sum() / decoded.sum())

    def draw(steps: int, seed: int = seeds[0]) -> go.Figure:
        made = decode(steps, seed)
        plot, share = found(steps)
        distance = metrics.psnr(picture[None], made[None].clamp(-1, 1)).item()
        return figures.panels(
            [figures.picture(picture), figures.picture(made), plot],
            ["the picture", f"drawn from its latent<br>PSNR {distance:.1f} dB", f"{share:.0f}% invented above rank 0"],
            "Explorer over the steps and the seed of a decoder that samples. Left a picture, beside it what is decoded "
            "from its latent: a blur in one step, more texture with more steps, other texture for another seed. Right, "
            "energy by zigzag rank of pictures and of what is decoded, and how much of that differs from seed to seed.",
            columns=3, height=420, widths=(0.3, 0.3, 0.4),
        )  # fmt: skip

    controls = [
        Control("steps", "steps of the decoder", tuple(steps), start, "slider"),
        Control("seed", "seed", tuple(seeds), seeds[0], "menu"),
    ]
    return Explorer(draw, controls)
