r"""Bands of a spectrum: rings of radii and ranks of the block DCT, what energy lies in them, and keeping some of them.

Radii and edges are in cycles per pixel of the tensor at hand (Nyquist is 0.5); ranks are those of
:func:`diffusab_core.spectrum.dct.zigzag_order`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from diffusab_core.spectrum.dct import block_dct, block_idct, frequency_mask, to_double, zigzag_order
from diffusab_core.spectrum.radial import radial_mask, radial_split


def check_edges(edges: Sequence[float], name: str = "edges") -> tuple[float, ...]:
    """The edges as a tuple, if they ascend from 0 or more and bound at least one band; else a ``ValueError``."""
    edges = tuple(float(edge) for edge in edges)
    ascending = all(low < high for low, high in pairwise(edges))
    if len(edges) < 2 or not ascending or not edges[0] >= 0:
        raise ValueError(f"{name} must be two or more ascending radii in cycles per pixel, 0 or more, got {edges}")
    return edges


def band_masks(h: int, w: int, edges: Sequence[float], space: str) -> Tensor:
    """Masks of the bands between edges, ``(bands, H, W)`` bool in the layout of ``torch.fft.fft2``.

    A band holds its upper edge and not its lower one; the zero frequency lies in none. A band without a frequency, of
    which nothing could be measured, is a ``ValueError``; ``space`` names the tensor in its message.
    """
    within = torch.stack([radial_mask(h, w, min(edge, 1.0)) for edge in edges])  # at 1 every frequency lies within
    masks = within[1:] & ~within[:-1]
    empty = (~masks.flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        low, high = edges[empty[0]], edges[empty[0] + 1]
        raise ValueError(
            f"no frequency of the {space}, {h} x {w}, lies in the band from {low:g} to {high:g} cycles per pixel; its "
            f"frequencies are multiples of 1/{h} and 1/{w}, so take wider bands or larger images"
        )
    return masks


def energy_shares(x: Tensor, radius: float, kind: str = "ideal") -> tuple[float, float]:
    """Energies of ``(..., H, W)`` within and beyond a radius, over that of all, means of channels left out.

    They sum to 1 for the ideal mask; soft masks overlap, and their parts share some energy. A ``ValueError`` where
    every channel is constant.
    """
    centred = x - x.mean((-2, -1), keepdim=True)
    total = centred.square().sum()
    if total == 0:
        raise ValueError("every channel is constant, so there is no energy to share out")
    low, high = radial_split(centred, radius, kind)
    return (low.square().sum() / total).item(), (high.square().sum() / total).item()


def radii(block_size: int = 8) -> Tensor:
    r"""Frequency :math:`\rho = \sqrt{u^2 + v^2}` of a block's coefficients in zigzag order, in half-oscillations."""
    order = zigzag_order(block_size)
    u, v = order // block_size, order % block_size
    return (u.square() + v.square()).double().sqrt()


def log_slope(energy: Tensor, radius: Tensor) -> float:
    r"""Slope of :math:`\ln E` over :math:`\ln \rho` by least squares, where both are positive: −2 for energies as
    :math:`\rho^{-2}`, 0 for white noise. NaN for fewer than two radii."""
    there = (energy > 0) & (radius > 0)
    x, y = radius[there].double().log(), energy[there].double().log()
    x = x - x.mean() if len(x) else x
    spread = x.square().sum()
    return float((x * y).sum() / spread) if len(x) > 1 and spread > 1e-12 else math.nan


def profile_slope(energy: Tensor, block_size: int = 8) -> float:
    """:func:`log_slope` of a profile's energies ``(B²,)`` in zigzag order, rank 0 left out.

    Unlike :func:`.spectral_exponent` it needs no more than one block, so that it compares small latents.
    """
    return log_slope(energy[1:], radii(block_size)[1:])


def ranked(z: Tensor, block_size: int = 8) -> Tensor:
    """DCT coefficients of latents ``(N, C, h, w)`` by zigzag rank, ``(N · blocks, C, K)`` float64; also of clips."""
    blocks = to_double(block_dct(z, block_size))  # (N, C, h/B, w/B, B, B)
    flat = blocks.flatten(-2)[..., zigzag_order(block_size)]  # (N, C, h/B, w/B, K)
    return flat.movedim(1, -2).flatten(0, -3)


def second_moments(coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Means ``(C, K)`` of :func:`ranked` coefficients and covariances of the channels at each rank ``(K, C, C)``."""
    mean = coefficients.mean(0)
    centred = coefficients - mean
    return mean, torch.einsum("nck,ndk->kcd", centred, centred) / len(centred)


def compare_energies(made: Sequence[float], real: Sequence[float]) -> tuple[float, list[float]]:
    r"""Energies by rank of what is generated and what is real, ``(K,)``, compared whatever the unit of either.

    .. math:: Q = \frac{\sum_{k \ge 1} \hat E_k / \hat E_0}{\sum_{k \ge 1} E_k / E_0}, \qquad
              q_k = \frac{\hat E_k / \sum_{j \ge 1} \hat E_j}{E_k / \sum_{j \ge 1} E_j}

    Returns:
        :math:`Q`, the energy outside :math:`D_{00}`, and :math:`q_k` for k from 1 on, how it is shared out.
    """
    total_made, total_real = math.fsum(made[1:]), math.fsum(real[1:])
    shares = [(m / total_made) / (r / total_real) for m, r in zip(made[1:], real[1:], strict=True)]
    return (total_made / made[0]) / (total_real / real[0]), shares


def keep_latent_frequencies(
    x: Tensor, compression: int, ratio: float = 0.0, block_size: int = 8, order: str = "zigzag"
) -> Tensor:
    r"""Keep of an image the very frequencies of the scene that a cut leaves in its latent.

    Coefficient :math:`(u, v)` of a block of B latent positions and of a block of :math:`fB` pixels have one wave length
    in the scene, so the latent's mask is the corner of the image's, and as many coefficients are kept. (A cut by the
    same share keeps :math:`f^2` times as many.)

    Args:
        x: ``(..., H, W)``; sides multiples of ``compression * block_size``.
        compression: f.
        ratio: Share cut from the latent; with 0 all that one of its channels has room for is kept.
        block_size: B, in the latent.
        order: As in :func:`diffusab_core.spectrum.dct.frequency_mask`, which says what is refused.
    """
    d = block_dct(x, compression * block_size)
    mask = torch.zeros(d.shape[-2:], dtype=torch.bool)
    mask[:block_size, :block_size] = frequency_mask(block_size, ratio, order)
    return block_idct(d * mask.to(d.device))
