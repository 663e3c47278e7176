r"""How much of a posterior sample :math:`z = \mu + \sigma\epsilon` is noise: in all, by channel, by frequency."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffusab_core.autoencoders.families import Posterior
from diffusab_core.spectrum.dct import block_dct, zigzag_order


class Noise(NamedTuple):
    r"""What :class:`PosteriorNoise` measured; shares are :math:`\overline{\sigma^2} / (\overline{\sigma^2} + s)`."""

    deterministic: bool  # every sigma is zero; then all shares are zero and there is no KL
    averaged_kl: float | None  # to the standard normal, a mean over all numbers of the latent, nats; None if infinite
    share: float  # s the variance of the means within channels, averaged over channels
    by_channel: tuple[float, ...]  # s the variance of the means within each channel
    by_frequency: tuple[float, ...]  # s the energy of each DCT coefficient in zigzag order, channels' means removed
    silent_channels: int  # channels with more noise than signal


class PosteriorNoise:
    r"""Sums over batches of posteriors of C ``channels``, in float64, in memory that does not grow with the stream.

    The noise of a sample does not favour a frequency: with an orthonormal DCT, :math:`\epsilon` scaled by
    :math:`\sigma` adds :math:`\overline{\sigma^2}` to the mean energy of every coefficient (exactly where
    :math:`\sigma` does not vary inside a block, on average over the block's positions where it does).
    """

    def __init__(self, channels: int, block_size: int = 8) -> None:
        self.block_size = block_size
        self.numbers = self.blocks = 0  # of one channel
        self.kl = 0.0
        self.mean, self.square, self.noise = torch.zeros(3, channels, dtype=torch.float64)
        self.energy = torch.zeros(channels, block_size**2, dtype=torch.float64)

    def update(self, posterior: Posterior) -> None:
        """Add a batch ``(N, C, h, w)``, or of clips ``(N, C, t, h, w)``."""
        mu, sigma = posterior.mean.cpu().double(), posterior.std.cpu().double()
        self.kl += float((mu.square() + sigma.square() - 1 - 2 * sigma.log()).sum()) / 2
        self.numbers += mu[:, 0].numel()
        others = (0, *range(2, mu.ndim))
        self.mean += mu.sum(others)
        self.square += mu.square().sum(others)
        self.noise += sigma.square().sum(others)
        d = block_dct(mu, self.block_size).flatten(-2)  # (N, C, ..., h/B, w/B, B²)
        self.energy += d.square().sum(others)
        self.blocks += d[:, 0, ..., 0].numel()

    def result(self) -> Noise:
        mean = self.mean / self.numbers  # (C,)
        variance = (self.square / self.numbers - mean.square()).clamp(min=0)  # (C,)
        noise = self.noise / self.numbers  # (C,)
        energy = self.energy / self.blocks  # (C, B²)
        energy[:, 0] = (energy[:, 0] - (self.block_size * mean).square()).clamp(min=0)  # a constant lies in D_00 alone
        by_channel, kl = _share(noise, variance), self.kl / (self.numbers * len(mean))
        return Noise(
            deterministic=not bool(noise.any()),
            averaged_kl=kl if math.isfinite(kl) else None,
            share=float(_share(noise.mean(), variance.mean())),
            by_channel=tuple(by_channel.tolist()),
            by_frequency=tuple(_share(noise.mean(), energy.mean(0)[zigzag_order(self.block_size)]).tolist()),
            silent_channels=int((by_channel > 0.5).sum()),
        )


def _share(noise: Tensor, signal: Tensor) -> Tensor:
    return (noise / (noise + signal)).nan_to_num(0.0)  # a channel that is constant and noiseless has neither
