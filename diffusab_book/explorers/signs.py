r"""Latents times a fixed pattern of signs: what a network is given, and what denoisers made of it in the records."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
import torch

from diffusab_book import figures, results
from diffusab_book.explorer import Control, Explorer
from diffusab_book.explorers import dial
from diffusab_core import spectrum
from diffusab_core.latents import Latents
from diffusab_core.methods.reshaping import MASKS, make_mask
from diffusab_core.methods.tokens import token_field
from diffusab_core.metrics.yardsticks import posterior_samples


def masks_explorer(runs: Mapping[str, pd.DataFrame], metric: str = dial.METRIC) -> Explorer:
    """Slider over masks: the signs, samples under them, and the gap of every run, with that of the mask marked.

    Args:
        runs: By the name that is shown, such as ``"patch 2"``, the runs of masks.yaml with one denoiser and length;
            samples are shown of each.
        metric: What is drawn below.

    Raises:
        ValueError: Frames with different masks.
    """
    masks = {name: tuple(mask for mask in MASKS if mask in set(of["mask"])) for name, of in runs.items()}
    order = next(iter(masks.values()))
    if any(other != order for other in masks.values()):
        raise ValueError(f"the same masks are needed of all, got {masks}")
    signs = {mask: figures.picture(dial.enlarge(0.8 * make_mask(mask, 8, 8))) for mask in order}
    heights = {name: {mask: results.values(of.assign(arm=of["mask"]), metric, mask) for mask in order}
               for name, of in runs.items()}  # fmt: skip

    def draw(mask: str) -> go.Figure:
        below = figures.over_seeds(heights, xlabel="mask", ylabel="gap at the best shift")
        below = dial.with_ticks(figures.mark(below, x=mask))
        parts = [signs[mask], *(dial.samples(of, mask=mask) for of in runs.values()), below]
        return figures.panels(parts, ["signs", *runs, ""], _MASKS, height=640, wide=True)

    return Explorer(draw, [Control("mask", "mask", order, order[1], "slider", str)])


_MASKS = (
    "Explorer: the signs that latents are multiplied by in front of the network, samples of denoisers trained so, and "
    "below the gap of every run at every mask, the one shown marked by a dotted line."
)


def signs_explorer(latents: Latents, patch: int = 2, shown: int = 16) -> Explorer:
    """Slider over masks: the signs, one channel of some latents under them, and profiles by latent pixel and by token.

    Args:
        latents: Square ones, of a side that the mask's blocks and the patch divide; profiles are of all of them.
        patch: Side of a token.
        shown: How many latents are pictured, a square number.
    """
    z = latents.normalise(posterior_samples(latents, range(len(latents))))  # (n, c, s, s)
    side = z.shape[-1]
    masks = {mask: make_mask(mask, side, side) for mask in MASKS}
    profiles = {
        "by latent pixel": {
            mask: spectrum.frequency_profile(z * signs, side, "energy") for mask, signs in masks.items()
        },
        f"by token of {patch} × {patch}": {
            mask: spectrum.frequency_profile(token_field(z * signs, patch), side // patch, "energy")
            for mask, signs in masks.items()
        },
    }
    looks = {
        "as encoded": {"color": figures.GREY, "dash": "dot"},
        "times the signs": {"color": figures.VERMILLION, "dash": "solid"},
    }

    def draw(mask: str) -> go.Figure:
        seen = (z[:shown, :1] * masks[mask]).expand(-1, 3, -1, -1) / 3
        parts = [
            figures.picture(dial.enlarge(0.8 * masks[mask])),
            figures.picture(dial.enlarge(figures.mosaic(seen, round(shown**0.5), gap=1), 4)),
        ]
        for of in profiles.values():
            curves = {"as encoded": of["none"], "times the signs": of[mask]}
            decades = torch.stack(
                list(of.values())
            ).log10()  # one range for all masks, so that no curve leaves the plot
            limits = [decades.min().item() - 0.1, decades.max().item() + 0.1]
            below = figures.profiles(curves, ylabel="energy, rank 0 = 1", styles=looks)
            parts.append(below.update_yaxes(range=limits))
        return figures.panels(parts, ["signs", "one channel", *profiles], _SIGNS, columns=2, height=640)

    return Explorer(draw, [Control("mask", "signs", tuple(masks), "checkerboard", "slider", str)])


_SIGNS = (
    "Explorer over patterns of signs: the pattern, one channel of some latents multiplied by it, and below the energy "
    "by zigzag rank, over the latent's pixels and over tokens, beside that of the latents as encoded. A checkerboard "
    "turns the first upside down and leaves the second as it was; blocks and random signs change both."
)
