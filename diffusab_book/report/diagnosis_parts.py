r"""The measurements behind ``diffusab report``, each of one autoencoder on one batch or one stream of images.

:mod:`diffusab_book.report.diagnosis` puts them together. Images are ``(N, 3, H, W)`` in [-1, 1], latents posterior
means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusab_book import figures
from diffusab_book.report import report
from diffusab_book.report.diagnosis_types import Cutoff, Dependence, GratingResponse, Noise, Numbers, Plan
from diffusab_book.report.report_types import ReportError
from diffusab_core import metrics
from diffusab_core.autoencoders import Autoencoder, Posterior
from diffusab_core.autoencoders.sources import OwnAutoencoder
from diffusab_core.methods.regularizers import averaged_kl
from diffusab_core.metrics import aliasing
from diffusab_core.metrics import probes as perturbation
from diffusab_core.spectrum import block_dct, chop_high_frequencies, radial_split, zigzag_order


def finite(value: float) -> float | None:
    """The number, or ``None`` where it is infinite or not a number."""
    return value if math.isfinite(value) else None


# ---------------------------------------------------------------------------------------------------------------------
# A model as the measurements see it


@dataclass(frozen=True)
class Subject:
    """One autoencoder on its device and in its precision, float32 outside; every failure is one line."""

    name: str
    source: Autoencoder | OwnAutoencoder
    device: torch.device
    dtype: torch.dtype

    @property
    def compression(self) -> int:
        """How many times smaller the latent's sides are (f)."""
        return self.source.compression

    @property
    def latent_channels(self) -> int:
        """Channels of the latent (C)."""
        return self.source.latent_channels

    def encode(self, x: Tensor) -> Posterior:
        """Images ``(N, 3, H, W)`` to the posterior of their latents, in float32."""
        posterior = report.posterior_of(self.source, self.name, x.to(self.device, self.dtype))
        return Posterior(posterior.mean.float(), posterior.std.float())

    def decode(self, z: Tensor) -> Tensor:
        """Raw latents to images, in float32.

        Raises:
            ReportError: The model cannot, or what comes out is not finite.
        """
        with report.explained(self.source, self.name, f"decode latents of shape {tuple(z.shape)}", z):
            y = self.source.decode(z.to(self.device, self.dtype)).float()
        if not torch.isfinite(y).all():
            hint = "" if self.dtype == torch.float32 else "; half precision can overflow, try --dtype float32"
            raise ReportError(f"{self.name}: NaN or Inf in images decoded from latents of {tuple(z.shape)}{hint}")
        return y

    def place(self, x: Tensor) -> Tensor:
        """``x`` on the device; the weights' own precision is this class's business."""
        return x.to(self.device)

    @property
    def parameter_count(self) -> int | None:
        """Numbers in the weights; ``None`` if the model does not tell."""
        return sum(p.numel() for p in self.source.parameters()) or None


# ---------------------------------------------------------------------------------------------------------------------
# Noise of the posterior


class NoiseSums:
    r"""What :class:`~diffusab_book.report.diagnosis_types.Noise` needs, summed over batches in float64.

    The noise of a sample does not favour a frequency: with an orthonormal DCT, :math:`\epsilon` scaled by
    :math:`\sigma` adds :math:`\overline{\sigma^2}` to the mean energy of every coefficient (exactly where
    :math:`\sigma` does not vary inside a block, on average over the block's positions where it does).

    Args:
        channels: :math:`C`.
        block_size: :math:`B` of the DCT.
    """

    def __init__(self, channels: int, block_size: int) -> None:
        self.block_size = block_size
        self.numbers = self.images = 0  # a channel's numbers
        self.kl = 0.0
        self.mean, self.square, self.noise = torch.zeros(3, channels, dtype=torch.float64)
        self.energy = torch.zeros(channels, block_size**2, dtype=torch.float64)
        self.blocks = 0

    def update(self, posterior: Posterior) -> None:
        """Add a batch ``(N, C, h, w)``."""
        mu, sigma = posterior.mean.cpu().double(), posterior.std.cpu().double()
        self.numbers += mu[:, 0].numel()
        self.images += len(mu)
        self.kl += float(averaged_kl(mu, 2 * sigma.log())) * len(mu)
        self.mean += mu.sum((0, 2, 3))
        self.square += mu.square().sum((0, 2, 3))
        self.noise += sigma.square().sum((0, 2, 3))
        d = block_dct(mu, self.block_size).flatten(-2)  # (N, C, h/B, w/B, B²)
        self.energy += d.square().sum((0, 2, 3))
        self.blocks += d[:, 0, ..., 0].numel()

    def result(self) -> Noise:
        """What the sums say."""
        mean = self.mean / self.numbers
        variance = (self.square / self.numbers - mean.square()).clamp(min=0)  # (C,)
        noise = self.noise / self.numbers  # (C,)
        energy = self.energy / self.blocks  # (C, B²)
        energy[:, 0] = (energy[:, 0] - (self.block_size * mean).square()).clamp(min=0)  # a constant lies in D_00 alone
        by_frequency = energy.mean(0)[zigzag_order(self.block_size)]
        return Noise(
            deterministic=not bool(noise.any()),
            averaged_kl=finite(self.kl / self.images),
            share=float(_share(noise.mean(), variance.mean())),
            by_channel=tuple(_share(noise, variance).tolist()),
            by_frequency=tuple(_share(noise.mean(), by_frequency).tolist()),
        )


def _share(noise: Tensor, signal: Tensor) -> Tensor:
    return (noise / (noise + signal)).nan_to_num(0.0)  # a channel that is constant and noiseless has neither


# ---------------------------------------------------------------------------------------------------------------------
# Measurements on the subset


def numbers(values: Iterable[float] | Tensor) -> Numbers:
    """Plain numbers, ``None`` where one is infinite or not a number."""
    return tuple(finite(float(value)) for value in values)


def rgb_cut(x: Tensor, ratios: Sequence[float], block_size: int) -> Numbers:
    """PSNR of images ``(N, 3, H, W)`` cut in blocks of ``block_size`` pixels, by ratio; ``None`` where nothing is."""
    return numbers(metrics.psnr(chop_high_frequencies(x, r, block_size) if r else x, x) for r in ratios)


def latent_cut(subject: Subject, x: Tensor, ratios: Sequence[float], block_size: int, batch_size: int) -> Numbers:
    """PSNR of images ``(N, 3, H, W)`` decoded from cut latents, by ratio; ``None`` where it is infinite."""
    sums = torch.zeros(len(ratios), dtype=torch.float64)
    for batch in x.split(batch_size):
        z = subject.encode(batch).mean
        for i, ratio in enumerate(ratios):
            cut = chop_high_frequencies(z, ratio, block_size) if ratio else z
            sums[i] += metrics.psnr_per_image(subject.decode(cut), batch).cpu().double().sum()
    return numbers(sums / len(x))


def dependence(subject: Subject, x: Tensor, plan: Plan, batch_size: int, seed: int) -> Dependence:
    """What the decoder loses with each band of the latent, and with its low or its high part.

    See :func:`diffusab_core.metrics.probes.decoder_dependence` and ``reconstructions_by_part``.
    """
    bands = perturbation.decoder_dependence(subject, x, plan.edges, seed, batch_size)
    low_db = high_db = 0.0
    for batch in x.split(batch_size):
        low, high = radial_split(subject.encode(batch).mean, plan.split_radius)
        low_db += metrics.psnr_per_image(subject.decode(low), batch).sum().item()
        high_db += metrics.psnr_per_image(subject.decode(high), batch).sum().item()
    return Dependence(
        len(x), tuple(bands.edges), finite(bands.psnr_whole), numbers(bands.psnr_without),
        numbers(bands.psnr_noised), plan.split_radius, finite(low_db / len(x)), finite(high_db / len(x)),
    )  # fmt: skip


def amplitude_by_cutoff(subject: Subject, x: Tensor, plan: Plan, batch_size: int) -> Cutoff:
    """See :func:`diffusab_core.metrics.probes.latent_amplitude_by_cutoff`."""
    found = perturbation.latent_amplitude_by_cutoff(subject, x, plan.cutoffs, plan.edges, batch_size=batch_size)
    return Cutoff(len(x), found.radii, found.edges, tuple(map(tuple, found.amplitude.tolist())))


def grating_response(subject: Subject, x: Tensor, plan: Plan, batch_size: int) -> GratingResponse:
    """See :func:`diffusab_core.metrics.aliasing.encoder_transfer`; gratings are added to the middle of images ``x``."""
    f = subject.compression
    side = min(x.shape[-1], math.ceil(max(plan.grating_size, 16 * f) / f) * f)
    corner = (x.shape[-1] - side) // 2
    background = x[: plan.grating_images, :, corner : corner + side, corner : corner + side]
    # Odd numbers of cycles, which no power of two of a compression folds onto the zero frequency.
    cycles = sorted({2 * round(nu * side / 2 - 0.5) + 1 for nu in plan.grating_frequencies})
    frequencies = [c / side for c in cycles if 0 < 2 * c < side]
    found = aliasing.encoder_transfer(
        subject, frequencies, plan.angles, side, plan.grating_amplitude, background, batch_size=batch_size
    )
    return GratingResponse(
        len(background), side, numbers(found.frequencies), numbers(found.beyond_nyquist), numbers(found.gain),
        numbers(found.folded_share), numbers(found.spread_share), numbers(found.reconstruction_error), 0.5 / f,
    )  # fmt: skip


def picture(image: Tensor) -> str:
    """An image ``(3, H, W)`` in [-1, 1] as a data URI."""
    return figures.data_uri(figures.to_uint8(image))
