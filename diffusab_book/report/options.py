"""What a report is asked for: of what, on which images, measured how, and how much of each part."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from diffusab_core.data.pixels import parse_resolution, sides
from diffusab_core.data.places import Choosing, ImagesError
from diffusab_core.data.stores import CROPS
from diffusab_core.files import DiffusabError
from diffusab_core.spectrum import STATISTICS

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CHOICES = {
    "statistic": STATISTICS,
    "posterior": ("mean", "sample"),
    "dtype": tuple(DTYPES),
    "crop": (*CROPS, None),
}
LEAST = {"samples": 1, "block_size": 2, "batch_size": 1, "seed": 0}


class ReportError(DiffusabError, ValueError):
    """A report that cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class Options(Choosing):
    """What is measured, and how.

    Attributes:
        models: Shipped names, diffusers folders, hub ids (``PIPELINE:vae`` for one of its folders), single files of
            weights, or your own ``file.py:function``.
        latents: Safetensors files of latents ``(N, C, h, w)`` or ``(N, C, T, h, w)``, caches of ``diffusab extract``,
            and what other programs cache; they have a spectrum only.
        latents_key: Which tensor of those files.
        images: Folder of images, shards, a table, ``leaves``; the built-in held-out photographs when ``None``.
        samples: How many images, at most; of latents, how many items.
        resolution: Side of the square images in pixels, or height and width, ``256x384``.
        crop: ``"center"``, ``"random"`` or ``"adm"``, that of ADM's reference batches. ``None`` is the centre for a
            folder; the built-in photographs are always cut at random.
        block_size: Side of a DCT block, on the latents and on RGB at latent size alike.
        statistic: Which of :data:`~diffusab_core.spectrum.STATISTICS` is drawn first; all are measured.
        posterior: ``"mean"`` or ``"sample"``: of which latent of an image the spectrum is; all else is of the mean.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        dtype: Precision the models run in; what is measured is float32.
        batch_size: Images at a time.
        seed: Seed of the choice of images, of crops and of noise.

    Raises:
        ReportError: A value that is not allowed.
    """

    models: tuple[str, ...] = ()
    latents: tuple[str, ...] = ()
    latents_key: str | None = None
    images: str | None = None
    samples: int = 256
    resolution: str | int | tuple[int, int] = 256
    crop: str | None = None
    block_size: int = 8
    statistic: str = "ratio_of_means"
    posterior: str = "mean"
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "resolution", parse_resolution(self.resolution))
        except ImagesError as error:
            raise ReportError(f"--{error}") from error
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ReportError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(self, name)}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                listed = ", ".join(filter(None, choices))
                raise ReportError(f"--{name} {getattr(self, name)!r} is unknown; choose one of {listed}")

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return sides(self.resolution)


@dataclass(frozen=True)
class Plan:
    """How much of each part of a whole report; the defaults keep a small model within a minute on one CPU core.

    What needs encoder or decoder once (spectrum, noise, reconstruction, scale equivariance) sees every image; what
    needs them many times sees a subset drawn by the seed.

    Attributes:
        decoder_images: Images for the cut curve, the decoder's dependence and the amplitude by cutoff.
        shown_images: Images of which the page shows reconstructions by part.
        cut_ratios: Shares of a latent block's zigzag order that are cut; the first is 0, the reconstruction itself.
        scales: Factors of downsampling for scale equivariance.
        edges: Borders of the latent's frequency bands, cycles per latent pixel; the last is the corner √½.
        split_radius: Where the latent is split into a low and a high part, cycles per latent pixel.
        cutoffs: Low-pass radii of the images for the amplitude by cutoff, cycles per RGB pixel; the last lets
            everything pass.
        stake_crops: Crops of the subset among which bands of ranks are permuted; of 64 pixels, as the feature network
            sees them, or as many more as a block of the latent needs.
        rgb_edges: Borders of the bands that the images' energy is told by, cycles per RGB pixel.
        grating_size: Side of the images of gratings, in pixels; at most the resolution.
        grating_amplitude: Amplitude of a grating, of an image in [-1, 1].
        grating_images: Images that gratings are added to.
        grating_frequencies: Cycles per RGB pixel, about: each becomes an odd number of cycles over the image.
        angles: Directions in which gratings vary, degrees; 0 is horizontal.
    """

    decoder_images: int = 6
    shown_images: int = 2
    cut_ratios: tuple[float, ...] = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
    scales: tuple[int, ...] = (2, 4)
    edges: tuple[float, ...] = (0.0, 0.125, 0.25, 0.375, 0.5, 0.7072)
    split_radius: float = 0.25
    cutoffs: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.7072)
    stake_crops: int = 64
    rgb_edges: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7072)
    grating_size: int = 128
    grating_amplitude: float = 0.2
    grating_images: int = 2
    grating_frequencies: tuple[float, ...] = (0.02, 0.04, 0.055, 0.09, 0.12, 0.165, 0.21, 0.27, 0.34, 0.4, 0.46)
    angles: tuple[float, ...] = (0.0, 45.0, 90.0)
