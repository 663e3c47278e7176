r"""Where the waves of an image arrive in the latent: gratings, folding, and the transfer function of an encoder.

A latent of compression :math:`f` has a sample every :math:`f` pixels, so on each axis it can tell apart only waves
below its Nyquist frequency, :math:`1/(2f)` cycles per pixel of the image. Whatever a strided encoder lets through
beyond it *folds*: it arrives at a lower frequency. Folding alone is no loss, as channels can keep apart what one
sampled channel mixes up; so the error of the reconstruction is measured beside the share that folds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusab_core.autoencoders import Autoencoder
from diffusab_core.autoencoders.families import Family, point
from diffusab_core.metrics.probes import check_images, decode, encode_mean
from diffusab_core.spectrum.dct import to_double
from diffusab_core.spectrum.radial import radial_split

# A quarter of a cycle apart; energies pooled over both do not depend on where the samples fall.
_PHASES = (0.0, math.pi / 2)
# A response below this share of the grating's power is rounding, and has no spectrum to speak of.
_NOTHING = 1e-10


def grating(h: int, w: int, fy: float, fx: float, phase: float = 0.0) -> Tensor:
    r"""A plane wave :math:`\cos(2\pi (f_y i + f_x j) + \varphi)` over whole cycles, ``(H, W)`` float64 on the CPU.

    Frequencies are in cycles per pixel, :math:`f_y` a multiple of 1/h and :math:`f_x` of 1/w: others would leak over
    the spectrum and are a ``ValueError``, as is more than 0.5 in absolute value. ``phase`` is in radians.
    """
    cycles_y, cycles_x = _cycles(fy, h, "fy"), _cycles(fx, w, "fx")
    y, x = torch.arange(h, dtype=torch.float64)[:, None], torch.arange(w, dtype=torch.float64)
    return torch.cos(2 * math.pi * (cycles_y * y / h + cycles_x * x / w) + phase)


def _cycles(frequency: float, side: int, name: str) -> int:
    if not abs(frequency) <= 0.5:
        raise ValueError(f"{name} must be at most 0.5 cycles per pixel in absolute value, got {frequency!r}")
    cycles = round(frequency * side)
    if abs(frequency * side - cycles) > 1e-6:
        found = f"{name} = {frequency:g} is {frequency * side:g} cycles over {side} pixels"
        raise ValueError(f"{found}; the nearest whole number is {cycles}, at {cycles / side:.6g} cycles per pixel")
    return cycles


def folded_frequency(f: float, stride: int) -> float:
    r"""Where a frequency arrives when every ``stride``-th sample is kept: :math:`\lvert sf - \mathrm{round}(sf)\rvert`.

    Sampling every :math:`s` pixels turns :math:`f` cycles per pixel into :math:`sf` cycles per sample, and whole cycles
    between two samples cannot be seen. The result is in cycles per latent pixel, from 0 to 0.5.
    """
    if stride < 1 or stride % 1 or not math.isfinite(f):
        raise ValueError(f"needs a finite frequency and an integer stride of at least 1, got {f!r} and {stride!r}")
    return abs(stride * f - round(stride * f))


class Transfer(NamedTuple):
    r"""What an encoder makes of gratings, by frequency; ``(F,)`` float64 each, pooled over angles, phases, backgrounds.

    Power is the mean square over channels and positions, so that sampling every f-th pixel and rearranging f × f pixels
    into channels both have a gain of 1. Gains carry the square of the latent's unit, so compare models by their curves
    relative to the lowest frequency. Shares are of the response's energy, NaN where there is none.
    """

    frequencies: Tensor  # mean radius of the gratings in cycles per pixel of the image
    beyond_nyquist: Tensor  # share of the gratings with an axis beyond the latent's Nyquist frequency
    gain: Tensor  # power at the predicted latent frequency over that of the grating
    folded_share: Tensor  # what lies at the predicted frequency of gratings beyond the Nyquist frequency
    spread_share: Tensor  # what lies elsewhere than predicted, as borders and nonlinear layers cause
    reconstruction_error: Tensor  # RMS of (decoded grating - grating) over the grating's: 1 is as bad as its absence


@torch.no_grad()
def encoder_transfer(
    autoencoder: Autoencoder,
    frequencies: Sequence[float],
    angles: Sequence[float] = (0.0, 45.0, 90.0),
    size: int = 128,
    amplitude: float = 0.25,
    background: Tensor | None = None,
    batch_size: int = 8,
) -> Transfer:
    r"""The transfer function of an encoder, measured with gratings.

    For a grey grating :math:`g` on a background :math:`b`, the response is :math:`E(b + g) - E(b)`, with :math:`E` the
    posterior mean. It is looked for at the frequency that subsampling by ``autoencoder.compression`` predicts, see
    :func:`folded_frequency`, and the decoded grating, :math:`D(E(b + g)) - D(E(b))`, is compared with :math:`g`. What
    no grating has, or does not fit, is a ``ValueError``.

    Args:
        frequencies: Radii in cycles per pixel, above 0; each grating gets the nearest whole number of cycles on each
            axis. Beyond 0.5 only oblique angles have any.
        angles: Of the direction in which the wave varies, in degrees; 0 is horizontal, 90 vertical.
        size: Side of the pictures in pixels, a multiple of the compression.
        amplitude: Of the gratings; images lie in [-1, 1], and the sum with a background is not clamped.
        background: Images ``(N, 3, size, size)`` that the gratings are added to; ``None``: mid-grey.
    """
    f = autoencoder.compression
    if size < f or size % f:
        raise ValueError(f"size must be a positive multiple of the compression, {f}, got {size!r}")
    if not 0 < abs(amplitude) < math.inf:
        raise ValueError(f"amplitude must be a finite number other than 0, got {amplitude!r}")
    for name, values in (("frequencies", frequencies), ("angles", angles)):
        if not len(values):
            raise ValueError(f"{name} is empty, so there is nothing to measure")
    background = torch.zeros(1, 3, size, size) if background is None else check_images(background)
    if background.shape[-2:] != (size, size):
        raise ValueError(f"the background must be of {size} x {size} pixels, got {tuple(background.shape)}")
    waves = [[_on_grid(frequency, angle, size) for angle in angles] for frequency in frequencies]
    cycles = torch.tensor(waves, dtype=torch.float64)  # (F, angles, 2)
    beyond = 2 * f * cycles.abs().amax(-1) > size  # (F, angles)

    # By frequency: power of gratings, of the response, of it at the prediction, of that beyond Nyquist, of the error.
    sums = torch.zeros(5, len(waves), dtype=torch.float64)
    for batch in background.split(batch_size):
        batch = autoencoder.place(batch)
        z = encode_mean(autoencoder, batch)
        decoded = decode(autoencoder, z)
        for i, j, phase in product(range(len(waves)), range(len(angles)), _PHASES):
            down, across = waves[i][j]
            g = amplitude * grating(size, size, down / size, across / size, phase).to(batch)  # for each channel
            z_g = encode_mean(autoencoder, batch + g)
            at, total = _power_at(z_g - z, waves[i][j])
            error = to_double(decode(autoencoder, z_g) - decoded - g).square().mean((1, 2, 3)).sum().item()
            power = to_double(g).square().mean().item() * len(batch)
            folded = at if beyond[i, j] else 0.0
            sums[:, i] += torch.tensor([power, total, at, folded, error], dtype=torch.float64)
    power, total, at, folded, error = sums
    total = torch.where(total > _NOTHING * power, total, math.nan)
    return Transfer(
        frequencies=cycles.norm(dim=-1).mean(1) / size,
        beyond_nyquist=beyond.double().mean(1),
        gain=at / power,
        folded_share=folded / total,
        spread_share=(1 - at / total).clamp_min(0),
        reconstruction_error=(error / power).sqrt(),
    )


def _on_grid(frequency: float, angle: float, size: int) -> tuple[int, int]:
    """Cycles (vertical, horizontal) over ``size`` pixels of the grating nearest to a frequency in a direction."""
    if not 0 < frequency < math.inf or not math.isfinite(angle):
        raise ValueError(f"gratings need a frequency above 0 and a finite angle, got {frequency} at {angle} degrees")
    direction = math.radians(angle)
    cycles = round(frequency * math.sin(direction) * size), round(frequency * math.cos(direction) * size)
    if cycles == (0, 0) or 2 * max(map(abs, cycles)) > size:
        wanted = f"{frequency!r} cycles per pixel at {angle:g} degrees on {size} x {size} pixels"
        raise ValueError(f"no grating of {wanted}: at least one whole cycle and, on each axis, at most {size // 2}")
    return cycles


def _power_at(response: Tensor, cycles: tuple[int, int]) -> tuple[float, float]:
    """Power of a response ``(N, C, h, w)`` at the folded frequency of a grating, and in all; summed over N."""
    h, w = response.shape[-2:]
    spectrum = torch.fft.fft2(to_double(response), norm="forward")
    power = spectrum.abs().square().mean(1).sum(0)  # (h, w), sums to the mean square
    row, column = cycles[0] % h, cycles[1] % w
    there = {(row, column), (-row % h, -column % w)}  # a real wave has two coefficients, or one that is its own mirror
    return sum(power[place].item() for place in there), power.sum().item()


def low_passed(autoencoder: Autoencoder) -> Autoencoder:
    """The same whose encoder sees nothing beyond the latent's Nyquist frequency, so that nothing can fold."""
    radius, whole = 0.5 / autoencoder.compression, autoencoder.family.encode
    family = replace(autoencoder.family, encode=lambda module, x: whole(module, radial_split(x, radius)[0].to(x.dtype)))
    return replace(autoencoder, name=f"{autoencoder.name}, low-passed", family=family)


def pixel_unshuffle(compression: int = 8) -> Autoencoder:
    """The encoder that rearranges f × f pixels into 3 f² channels, and the decoder that puts them back: no weights.

    Whatever lies beyond the latent's Nyquist frequency folds, as each channel is a subsampling, and nothing is lost.
    """
    family = Family(
        encode=lambda module, x: point(module(x)),
        decode=lambda module, z: F.pixel_shuffle(z, module.downscale_factor),
        compression=lambda module: module.downscale_factor,
        latent_channels=lambda module: 3 * module.downscale_factor**2,
        last_layers=(),
    )
    return Autoencoder(f"pixel-unshuffle-f{compression}", nn.PixelUnshuffle(compression), family)
