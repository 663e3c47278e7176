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
    """A picture beside what is drawn of its latent, and energies by zigzag rank; the title has PSNR and invented share.

    Args:
        picture: ``(3, H, W)`` or ``(1, H, W)`` in [-1, 1].
        decode: Of a number of steps and a seed, a picture of the same shape.
        compare: Of a number of steps, what seeds agree on, over many pictures.
        beside: Energies ``(B²,)`` of other decoders by name, on the same pictures.
        steps: That the slider offers.
        seeds: That the menu offers.
        start: The number of steps shown first.
    """
    of_pictures = compare(start).energy
    lowest = min(float(curve[1:].min()) for curve in (of_pictures, *beside.values()))
    limits = [math.floor(math.log10(lowest)), math.ceil(math.log10(float(of_pictures.max())))]

    @cache
    def found(number: int) -> tuple[go.Figure, float]:
        seen = compare(number)
        decoded = (seen.variance + seen.kept).clamp(min=0)
        curves = {"picture": of_pictures, "decoded": decoded, "of it, invented": seen.variance, **beside}
        plot = figures.lines(
            curves, log_y=True, xlabel="zigzag rank", ylabel="energy",
            styles={"picture": {"color": figures.GREY, "dash": "solid"}},
        ).update_yaxes(range=limits)  # fmt: skip
        return plot, 100 * float(seen.variance[1:].sum() / decoded[1:].sum())

    def draw(steps: int, seed: int = seeds[0]) -> go.Figure:
        made = decode(steps, seed)
        plot, share = found(steps)
        distance = metrics.psnr(picture[None], made[None].clamp(-1, 1)).item()
        return figures.panels(
            [figures.picture(picture), figures.picture(made), plot],
            ["the picture", f"drawn from its latent<br>PSNR {distance:.1f} dB", f"{share:.0f}% of the detail invented"],
            "Explorer over the steps and the seed of a decoder that samples. Left a picture, beside it what is decoded "
            "from its latent: a blur in one step, more texture with more steps, other texture for another seed. Right, "
            "energy by zigzag rank of pictures and of what is decoded, and how much of that differs from seed to seed.",
            columns=3, height=420, widths=(0.25, 0.25, 0.5),
        )  # fmt: skip

    controls = [
        Control("steps", "steps of the decoder", tuple(steps), start, "slider"),
        Control("seed", "seed", tuple(seeds), seeds[0], "menu"),
    ]
    return Explorer(draw, controls)
