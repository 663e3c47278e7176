r"""What a decoder that samples invents, and what it keeps, by frequency.

A picture is decoded with several seeds. With D the block DCT of RGB in [0, 1] and k a zigzag rank,

.. math::
    \text{variance}_k = \mathbb E\, \mathrm{Var}_s D_k(y_s), \quad
    \text{kept}_k = \mathbb E\, \bigl(\mathbb E_s D_k(y_s)\bigr)^2, \quad
    \text{error}_k = \mathbb E\, \bigl(D_k(y_s) - D_k(x)\bigr)^2, \quad
    \text{energy}_k = \mathbb E\, D_k(x)^2

averaged over images, channels and blocks; the first two are free of bias for any number of seeds. What seeds do not
agree on is invented. A decoder that draws from :math:`p(x \mid z)` has variance + kept = energy, and error = 2
variance, since x is a draw like any other: :attr:`Invention.calibration` is 1. It is larger where the decoder is too
sure of itself. One that always makes the mean of :math:`p(x \mid z)` invents nothing, and kept = energy − error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffusab_core.autoencoders import Autoencoder
from diffusab_core.data import rgb01
from diffusab_core.spectrum.dct import block_dct, zigzag_order


class Invention(NamedTuple):
    """Means by zigzag rank, ``(B²,)`` each in float64; units are squares of RGB in [0, 1]."""

    variance: Tensor
    kept: Tensor
    error: Tensor
    energy: Tensor

    @property
    def invented_share(self) -> Tensor:
        """Of the energy of what is decoded, ``(B²,)``; 0: all seeds agree, 1: nothing in common."""
        return self.variance / (self.variance + self.kept)

    @property
    def calibration(self) -> Tensor:
        """error / (2 variance), ``(B²,)``; infinite where nothing is invented."""
        return self.error / (2 * self.variance)


def compare_seeds(x: Tensor, pictures: Tensor, block_size: int = 8) -> Invention:
    """Of images ``(N, 3, H, W)`` in [-1, 1] and what each of S seeds makes of them, ``(S, N, 3, H, W)``.

    A ``ValueError`` for shapes that do not fit and for fewer than two seeds.
    """
    if pictures.shape[1:] != x.shape or len(pictures) < 2:
        shapes = f"{tuple(pictures.shape)} of images {tuple(x.shape)}"
        raise ValueError(f"pictures must be of two seeds or more, (S, *images), got {shapes}")
    of_x, of_y = (block_dct(rgb01(a).double(), block_size) for a in (x, pictures))
    variance, mean = torch.var_mean(of_y, dim=0)
    found = (variance, mean.square() - variance / len(of_y), (of_y - of_x).square().mean(0), of_x.square())
    return Invention(*(a.flatten(0, -3).mean(0).flatten()[zigzag_order(block_size)] for a in found))


@torch.no_grad()
def measure_invention(
    autoencoder: Autoencoder, images: Tensor, seeds: Sequence[int] = range(4), block_size: int = 8, batch_size: int = 16
) -> Invention:
    """What an autoencoder's decoder invents, from the posterior means of images ``(N, 3, H, W)`` in [-1, 1].

    A decoder that does not sample invents nothing. Pictures are not clamped. Errors are those of :func:`compare_seeds`.
    """
    total = torch.zeros(4, block_size**2, dtype=torch.float64)
    for index in torch.arange(len(images)).split(batch_size):
        x = images[index]
        z = autoencoder.encode(autoencoder.place(x)).mean
        pictures = [autoencoder.decode(z, seed=seed, index=index.tolist()).float().cpu() for seed in seeds]
        total += torch.stack(compare_seeds(x, torch.stack(pictures), block_size)) * len(x) / len(images)
    return Invention(*total)
