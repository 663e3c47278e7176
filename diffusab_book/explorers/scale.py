"""Explorers of the chapter on scale equivariance: decoding downsampled latents, a gain, spectra in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import plotly.graph_objects as go
import torch
from torch import Tensor
from torch.nn import functional

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.experiments.records import RunRecord
from diffusab_core.methods.regularizers import downsample
from diffusab_core.metrics import psnr


def scale_explorer(
    image: Tensor, autoencoders: Mapping[str, Autoencoder], scales: Sequence[int] = (1, 2, 4)
) -> Explorer:
    r"""The downsampled image beside what decoders make of the downsampled latent, :math:`\mathrm{Dec}(\tilde z)`.

    All pictures are shown at one size, without smoothing, with PSNR against the downsampled image.

    Args:
        image: ``(3, H, W)`` in [-1, 1]; sides must be multiples of the compression times the largest scale.
        autoencoders: From :func:`diffusab_core.autoencoders.load`, by the name shown.
        scales: Whole numbers.
    """
    x = image[None]
    with torch.no_grad():
        latents = {name: autoencoder.encode(x).mean for name, autoencoder in autoencoders.items()}  # (1, C, h, w)

    @cache
    def at(scale: int) -> tuple[list[go.Figure], list[str]]:
        target = downsample(x, scale)
        with torch.no_grad():
            decoded = [a.decode(downsample(latents[name], scale)) for name, a in autoencoders.items()]
        pictures = [figures.picture(functional.interpolate(p, size=x.shape[-2:])[0]) for p in (target, *decoded)]
        below = [f"{n}<br>{psnr(p, target).item():.1f} dB" for n, p in zip(latents, decoded, strict=True)]
        return pictures, ["image" if scale == 1 else f"image, {scale} times smaller", *below]

    def draw(scale: int) -> go.Figure:
        return figures.panels(
            *at(scale),
            "Explorer: a downsampled photograph, and beside it what each decoder makes of the latent downsampled by "
            "the same factor, with its PSNR.",
            height=300,
        )

    return Explorer(draw, [Control("scale", "scale", tuple(scales), scales[min(1, len(scales) - 1)], "slider", str)])


def knob_explorer(
    image: Tensor,
    encode: Callable[[Tensor, float], Tensor],
    tilts: Sequence[float] = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0),
    scale: int = 2,
) -> Explorer:
    r"""A linear encoder's gain :math:`|\nu|^\kappa` as a volume knob for each frequency; a decoder on a smaller grid.

    Above the latent, what is decoded from it, and what is decoded from the latent made smaller; below the gain of the
    encoder, what the decoder takes it for on the smaller grid, and what is left of each frequency.

    Args:
        image: ``(3, H, W)`` in [-1, 1], its sides multiples of ``scale``.
        encode: The latent ``(N, 3, H, W)`` of images at an exponent; with the opposite exponent it decodes.
        tilts: The exponents :math:`\kappa`.
        scale: A whole number.
    """
    x = image[None]
    nu = torch.linspace(0.02, 0.5 / scale, 40)  # what the smaller grid can hold

    @cache
    def pictures(tilt: float) -> list[go.Figure]:
        latent = encode(x, tilt)
        centred = latent - latent.mean((-2, -1), keepdim=True)
        shown = centred / (3 * centred.std())
        small = functional.interpolate(encode(downsample(latent, scale), -tilt), size=x.shape[-2:])
        return [figures.picture(p[0], 75) for p in (shown, encode(latent, -tilt), small)]

    def draw(tilt: float) -> go.Figure:
        gains = figures.lines(
            {
                "encoder: × g(ν)": nu**tilt,
                f"decoder on the small grid: ÷ g({scale}ν)": (scale * nu) ** -tilt,
                "both": torch.full_like(nu, float(scale) ** -tilt),
            },
            x=nu, log_y=True, xlabel="frequency ν of the scene, cycles per pixel", ylabel="volume", height=230,
        ).update_yaxes(range=[-1.8, 1.8])  # fmt: skip
        return figures.panels(
            [*pictures(tilt), gains],
            ["latent", "decoded", f"made {scale} times<br>smaller, decoded", ""],
            "Explorer over the exponent of a gain: a latent that looks sharper the larger the exponent, the photograph "
            "decoded from it, always the same, and what is decoded from the latent made smaller, with less contrast "
            "the larger the exponent. Below, three curves over frequency: the encoder's volume, the decoder's, and "
            "both together, a level line that sinks as the exponent grows.",
            height=520, wide=True, heights=(0.52, 0.48),
        )  # fmt: skip

    return Explorer(
        draw, [Control("tilt", "exponent κ of the gain", tuple(tilts), tilts[-2], "slider", lambda k: f"{k:g}")]
    )


def training_explorer(runs: Mapping[str, RunRecord], rgb: Tensor) -> Explorer:
    """Frequency profiles of the latents after each snapshot of fine-tuning runs, beside that of RGB.

    Args:
        runs: Records of :func:`diffusab_core.experiments.finetune` with equal snapshots, by the name shown.
        rgb: Profile ``(B*B,)`` of RGB at latent size, ratio of means.

    Raises:
        ValueError: The runs were not looked at after the same steps.
    """
    steps = {name: [int(step) for step in run.series["snapshot_step"]] for name, run in runs.items()}
    first = next(iter(steps.values()))
    if any(other != first for other in steps.values()):
        raise ValueError(f"the runs have snapshots at different steps: {steps}")
    start = next(iter(runs.values())).series["snapshot_profile_0"]
    lowest = min(min(rgb.tolist()), *(min(run.series["snapshot_profile_0"]) for run in runs.values()))
    grey = {"before": {"color": figures.GREY, "dash": "dot"}, "RGB": {"color": figures.GREY, "dash": "solid"}}

    def draw(step: int) -> go.Figure:
        trained = {name: run.series[f"snapshot_profile_{step}"] for name, run in runs.items()}
        fig = figures.profiles(
            {"before": start, **trained, "RGB": rgb},
            alt="Explorer over the steps of training: profiles of the latents under each method, beside the profile "
            "before training and that of RGB.",
            ylabel="mean |D| / mean |D₀₀|",
            styles=grey,
        )
        return fig.update_yaxes(range=[math.log10(lowest / 2), 0.1])

    middle = first[len(first) // 2]  # so that both directions show something
    return Explorer(draw, [Control("step", "step", tuple(first), middle, "slider", str)])
