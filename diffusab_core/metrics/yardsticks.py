r"""Yardsticks for a denoiser: how far its samples are from what it should have learned, and what such distances mean.

Samples are judged twice. The *gap* is the Fréchet distance to decoded real latents of other images (samples of the
posterior, as the denoiser was shown them): what the denoiser failed to learn, the decoder left out. The distance to
the images themselves is what a user gets, decoder included; a denoiser that overshoots high frequencies can lower it by
undoing the decoder's blur. A gap is read beside its *floor*, the distance between two sets of decoded real latents of
different images, and beside a *ruler*: what known damage to real latents costs.

The gap has no function of its own: ``reference(decoded(decode, z), features)`` is what samples are then compared with,
by :func:`~diffusab_core.metrics.samples.evaluate_samples`, in any features.

``decode`` is a function from the caller's latents ``(N, C, h, w)``, raw or normalised, to images; it is given
``batch_size`` of them at a time. Nothing keeps a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffusab_core.flow import Velocity, interpolate
from diffusab_core.latents import Latents
from diffusab_core.metrics.networks import Features
from diffusab_core.metrics.samples import Reference, describe
from diffusab_core.spectrum.bands import ranked
from diffusab_core.spectrum.dct import block_dct, block_idct, zigzag_order
from diffusab_core.training.order import stream

#: Bands of zigzag ranks of 8 x 8 blocks: the first and the last rank of each.
BANDS = ((0, 0), (1, 3), (4, 9), (10, 20), (21, 31), (32, 63))

Decode = Callable[[Tensor], Tensor]


def choose_bands(block_size: int) -> tuple[tuple[int, int], ...]:
    """:data:`BANDS`; of other blocks rank 0 by itself and about the same shares of the others, no band empty."""
    last = block_size**2 - 1
    firsts = {0, 1, *(max(1, round(last * first / 63)) for first, _ in BANDS[2:])}
    firsts = sorted(first for first in firsts if first <= last)
    return tuple((a, b - 1) for a, b in zip(firsts, [*firsts[1:], last + 1], strict=True))


def posterior_samples(latents: Latents, indices: Sequence[int], seed: int = 0) -> Tensor:
    """A raw sample of each item's posterior, ``(N, *shape)``; its noise depends on the seed and the index alone."""
    mean, std, _ = latents.posterior(indices)
    noise = [torch.randn(latents.shape, generator=stream(seed, "posterior", int(i))) for i in indices]
    return mean + std * torch.stack(noise)


@torch.no_grad()
def decoded(decode: Decode, z: Tensor, batch_size: int = 64) -> Iterator[Tensor]:
    """Images of latents batch by batch, clamped to [-1, 1]."""
    for some in z.split(batch_size):
        yield decode(some).clamp(-1, 1)


# ---------------------------------------------------------------------------------------------------------------------
# The ruler: what known damage costs


def permute_band(z: Tensor, band: tuple[int, int], block_size: int = 8, seed: int = 0) -> Tensor:
    """Every latent with the DCT ranks of a band, first to last, of another one: all channels and blocks together.

    One cycle through all latents says whose, so none keeps its own. The energy of the band, and how its channels and
    positions go together, stay; how the band goes with the others is lost. ``(N, C, h, w)`` with N of at least 2.
    """
    if len(z) < 2:
        raise ValueError(f"a band can be permuted across two latents or more, got {len(z)}")
    cycle = torch.randperm(len(z), generator=stream(seed, "permute", 0)).to(z.device)
    other = torch.empty_like(cycle).scatter_(0, cycle, cycle.roll(1))
    return _with_band(z, band, block_size, lambda d: d[other])


def zero_band(z: Tensor, band: tuple[int, int], block_size: int = 8) -> Tensor:
    """Latents whose coefficients in a band are their means over all latents and blocks: nothing but the average."""
    return _with_band(z, band, block_size, lambda d: _mean_of_channels(d, 1).expand_as(d))


def _mean_of_channels(z: Tensor, last: int = 0) -> Tensor:
    """Over items and positions, and frames of clips; the last axes, so many, are kept too."""
    return z.mean((0, *range(2, z.ndim - last)), keepdim=True)


def _with_band(z: Tensor, band: tuple[int, int], block_size: int, change: Callable[[Tensor], Tensor]) -> Tensor:
    first, last = band
    if not 0 <= first <= last < block_size**2:
        raise ValueError(f"a band is two ranks from 0 to {block_size**2 - 1}, the first not above the last, got {band}")
    d = block_dct(z, block_size).flatten(-2)  # (N, C, h/B, w/B, B²), of clips frame by frame
    places = zigzag_order(block_size)[first : last + 1].to(d.device)
    d[..., places] = change(d[..., places])
    return block_idct(d.unflatten(-1, (block_size, block_size))).to(z.dtype)


class Ruler(NamedTuple):
    """Fréchet distances of damaged real latents, decoded, to a reference."""

    bands: tuple[tuple[int, int], ...]  # first and last zigzag rank of each
    permuted: tuple[float, ...]  # by band: every latent has that of another one
    zeroed: tuple[float, ...]  # by band: every latent has the mean of all
    noise: float  # white noise with each channel's mean and standard deviation
    floor: float  # the latents as they are


def measure_ruler(
    decode: Decode,
    z: Tensor,
    reference: Reference,
    features: Features,
    *,
    bands: Sequence[tuple[int, int]] = BANDS,
    block_size: int = 8,
    seed: int = 0,
    batch_size: int = 64,
) -> Ruler:
    """What it costs to permute a band across images, to zero it, and to decode noise, in the distance to a reference.

    Latents ``z`` are real ones of other images than the reference's, as many as there are samples that are to be read
    off the ruler: the distance depends on the number. Decodes them ``2 * len(bands) + 2`` times, so measure it once for
    an autoencoder and not for every denoiser.
    """

    def distance(changed: Tensor) -> float:
        return reference.distance(describe(decoded(decode, changed, batch_size), features, reference.quantised))

    mean, std = _mean_of_channels(z), z.std((0, *range(2, z.ndim)), correction=0, keepdim=True)
    white = torch.stack([torch.randn(z.shape[1:], generator=stream(seed, "ruler", i)) for i in range(len(z))])
    return Ruler(
        tuple(tuple(band) for band in bands),
        tuple(distance(permute_band(z, band, block_size, seed)) for band in bands),
        tuple(distance(zero_band(z, band, block_size)) for band in bands),
        noise=distance(mean + std * white.to(z)),
        floor=distance(z),
    )


# ---------------------------------------------------------------------------------------------------------------------
# By rank, without decoding


@torch.no_grad()
def relative_errors(
    velocity: Velocity,
    x: Tensor,
    noise: Tensor,
    times: Sequence[float],
    *,
    back: Callable[[Tensor], Tensor] | None = None,
    block_size: int = 8,
    batch_size: int = 128,
) -> Tensor:
    r"""Relative error at each zigzag rank of the one-step estimate of held-out latents, ``(len(times), B²)`` float64.

    .. math:: \eta_k(t) = \frac{\mathbb E\,|D_k(\hat x_0 - x_0)|^2}{\mathbb E\,|D_k(x_0)|^2}, \qquad
              \hat x_0 = x_t - t\, v(x_t, t), \quad x_t = (1 - t)\, x_0 + t\,\varepsilon

    0 is no error, 1 that of an estimate that is zero. Means are over latents, channels and blocks. A rank at which the
    latents are zero has NaN.

    Args:
        velocity: The denoiser, ``v(x, t)`` with times ``(N,)``, in evaluation mode, on the device of ``x``.
        x: Held-out latents ``(N, C, h, w)`` in the denoiser's coordinates, normalised as it was trained.
        noise: Of the same shape; for a denoiser trained with coloured noise of that colour.
        times: In [0, 1].
        back: From the denoiser's coordinates to those in which errors are counted, a linear map without a constant,
            such as the inverse of a filter; ``None`` where they are the same.
    """
    back = back or (lambda latents: latents)
    error = torch.zeros(len(times), block_size**2, dtype=torch.float64)
    energy = torch.zeros(block_size**2, dtype=torch.float64)
    for some, some_noise in zip(x.split(batch_size), noise.split(batch_size), strict=True):
        energy += _energy(back(some), block_size) * len(some)
        for row, t in enumerate(times):
            x_t = interpolate(some, some_noise, t)
            off = x_t - t * velocity(x_t, x_t.new_full((len(x_t),), t)) - some
            error[row] += _energy(back(off), block_size) * len(some)
    return error / energy


def energy_ratio(made: Tensor, real: Tensor, block_size: int = 8) -> Tensor:
    """Mean energy by zigzag rank of generated latents over that of real ones, ``(B²,)`` float64; both normalised."""
    return _energy(made, block_size) / _energy(real, block_size)


def _energy(z: Tensor, block_size: int) -> Tensor:
    return ranked(z, block_size).square().mean((0, 1)).cpu()  # (B²,)


# ---------------------------------------------------------------------------------------------------------------------
# Memorisation


def nearest_distances(z: Tensor, among: Tensor, chunk: int = 512) -> Tensor:
    r"""Distance of each latent ``(N, ...)`` to the nearest of others ``(M, ...)``, ``(N,)`` float32.

    Root mean square over the numbers of a latent, :math:`\min_m \|z_n - a_m\| / \sqrt d`; latents should be normalised,
    or loud channels decide. As one matrix product a chunk: 1 024 against 7 168 latents of 1 024 numbers in a fraction
    of a second; identical latents have a distance of rounding, some 1e-3 of the norms.
    """
    if not len(among) or z.shape[1:] != among.shape[1:]:
        raise ValueError(f"latents of {tuple(z.shape)} have no neighbours among {tuple(among.shape)}")
    centre = among.float().mean(0, keepdim=True)  # distances do not change, and rounding is relative to the norms
    a, b = ((x.float() - centre).flatten(1) for x in (z, among))
    norms = b.square().sum(1)
    nearest = [torch.addmm(norms, some, b.T, alpha=-2).amin(1) + some.square().sum(1) for some in a.split(chunk)]
    return (torch.cat(nearest).clamp_min(0) / b.shape[1]).sqrt()


class Memorisation(NamedTuple):
    """Distances of samples to the nearest training latent, beside those of held-out real latents."""

    samples: Tensor  # (N,), as of nearest_distances
    held_out: Tensor  # (M,)
    ratio: float  # median of the samples over that of the held-out ones: far below 1 where crops are repeated
    share: float  # of samples nearer than all but 1% of the held-out ones: about 0.01 where nothing is memorised


def compare_nearest(samples: Tensor, held_out: Tensor) -> Memorisation:
    """Whether samples are nearer to training latents than real ones of other images are.

    Both are distances to the nearest training latent, ``(N,)`` and ``(M,)``, as :func:`nearest_distances` finds them
    of normalised latents. Training latents are posterior means, as their noise is drawn anew at each step. Where
    training and held-out images are crops of the same photographs, neighbours that overlap are on both sides.
    """
    near = torch.quantile(held_out, 0.01)
    ratio, share = samples.median() / held_out.median(), (samples < near).double().mean()
    return Memorisation(samples, held_out, ratio.item(), share.item())
