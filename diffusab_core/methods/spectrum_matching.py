r"""Spectrum Matching: latents with the spectrum of the picture, flattened, whose bands the decoder turns into its own.

Two losses, each the method of an autoencoder of its own in the paper, here alone or together. *Encoding* compares the
spectrum of latents with that of the picture at the latent's size, *decoding* has the decoder reconstruct a picture
without its high frequencies from a latent without its own. Scale equivariance steepens a spectrum; this flattens it
wherever it falls faster than the target.

Source: Ning et al. 2026, "Spectrum Matching: a Unified Perspective for Superior Diffusability in Latent Diffusion"
(arXiv 2603.14645); bins, masks and weights as in the authors' released code, from which it differs as said below.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffusab_core.data import resize_to
from diffusab_core.methods.regularizers import Decode, Distance, compression_of, mse, reconstruct
from diffusab_core.spectrum import chop_high_frequencies
from diffusab_core.spectrum.dct import whole_dct

#: Below this power a band of a picture in [-1, 1] counts as empty: the authors' own constant.
FLOOR = 1e-8


def band_powers(x: Tensor, bands: int = 16) -> tuple[Tensor, Tensor]:
    r"""Mean power of the whole DCT of each item in rings of :math:`\sqrt{u^2 + v^2}`, without :math:`D_{00}`.

    The rings :math:`k = 1 \ldots` ``bands`` are equally wide, from 0 to the corner. Small sides leave some of them
    empty, and these are left out.

    Args:
        x: ``(N, C, H, W)`` or ``(N, C, T, H, W)``; channels and frames are averaged.
        bands: How many rings, at least 1, else a ``ValueError``.

    Returns:
        Numbers ``(K,)`` of the rings that hold a frequency, and powers ``(N, K)``.
    """
    if bands < 1:
        raise ValueError(f"bands must be at least 1, got {bands}")
    height, width = x.shape[-2:]
    power = whole_dct(x).square().flatten(1, -3).mean(1).flatten(1)  # (N, H W)
    v, u = (torch.arange(n, dtype=torch.float64, device="cpu") for n in (height, width))
    radius = torch.hypot(v[:, None], u).flatten()  # (H W,)
    ring = (radius / max(math.hypot(height - 1, width - 1), 1.0) * bands).long().clamp(max=bands - 1)
    ring, power = ring[1:].to(x.device), power[:, 1:]
    count = torch.bincount(ring, minlength=bands)
    total = power.new_zeros(len(x), bands).index_add(1, ring, power)
    there = count > 0
    return there.nonzero().flatten() + 1, total[:, there] / count[there]


def match_encoding(x: Tensor, z: Tensor, flattening: float = 1.0, bands: int = 16) -> Tensor:
    r"""Divergence of the spectrum of latents from the flattened one of the picture, mean over items.

    .. math:: \mathrm{KL}(p \,\|\, q), \qquad p_k \propto k^\delta P_k(\tilde x), \quad q_k \propto P_k(z)

    with :math:`P_k` of :func:`band_powers` and :math:`\tilde x` the picture at the latent's size. Zero where the bands
    of each latent have the shares of the target, at any scale of the latent. :math:`\delta = 0` asks for the picture's
    own spectrum, 1 turns a power law :math:`f^{-2}` into :math:`f^{-1}`.

    The picture is made smaller by antialiased bilinear resizing, as in all of this book, where the authors blur it and
    resize it bicubically. Their last code takes :math:`\log(1 + P_k)` before the shares; then the loss depends on the
    latent's scale, which a denoiser never sees, so this is not done.

    Args:
        x: Images ``(N, 3, H, W)`` or clips ``(N, 3, T, H, W)``.
        z: Their latents ``(N, C, h, w)`` or ``(N, C, t, h, w)``.
        flattening: :math:`\delta`, not negative; 1 in the authors' README, with a weight of 0.01 for the loss.
        bands: How many.

    Source: Ning et al. 2026, encoding spectrum matching.
    """
    if not 0 <= flattening < math.inf:
        raise ValueError(f"flattening must be finite and not negative, got {flattening!r}")
    compression_of(x, z)
    k, of_picture = band_powers(resize_to(x, *z.shape[-2:]), bands)
    _, of_latent = band_powers(z, bands)
    p, q = (_shares(power) for power in (of_picture * k.to(of_picture) ** flattening, of_latent))
    return (p * (p.log() - q.log())).sum(1).mean()


def _shares(power: Tensor) -> Tensor:
    return (power + FLOOR) / (power + FLOOR).sum(1, keepdim=True)


def match_decoding(
    x: Tensor, z: Tensor, decode: Decode, diagonals: int, block_size: int = 8, distance: Distance = mse
) -> Tensor:
    r"""Decode latents without their last diagonals, compare with the picture without its own; in place of the
    reconstruction loss.

    .. math:: d(D^{-1}(D(x) \cdot M_B), \mathrm{Dec}(D^{-1}(D(z) \cdot M_B)))

    with one mask for both, of :func:`ratio_of_diagonals`. It is CHF (:func:`.regularizers.chop`) with two differences:
    blocks of the picture have as many *pixels* as those of the latent, not those of the same piece of the picture, and
    nothing but the masked pair is compared. Without diagonals it is the reconstruction loss.

    Source: Ning et al. 2026, decoding spectrum matching.
    """
    compression_of(x, z)
    ratio = ratio_of_diagonals(diagonals, block_size)
    x, z = (chop_high_frequencies(a, ratio, block_size).to(a.dtype) for a in (x, z))
    return distance(x, reconstruct(decode, z, x))


def ratio_of_diagonals(diagonals: int, block_size: int = 8) -> float:
    r"""The share of a block that its last diagonals hold: those with :math:`u + v \ge 2 B - 1 - n`.

    Cut in zigzag order, which walks along diagonals, this share is these diagonals. At :math:`B = 8`, 8 of the 15
    diagonals are 56%, 12 are 91%. A number outside 0 ... :math:`2 B - 2` is a ``ValueError``.
    """
    if not 0 <= diagonals <= 2 * block_size - 2:
        raise ValueError(
            f"diagonals must be in 0 ... {2 * block_size - 2} for block_size {block_size}, got {diagonals}"
        )
    last = [min(d, 2 * block_size - 2 - d) + 1 for d in range(2 * block_size - 1 - diagonals, 2 * block_size - 1)]
    return sum(last) / block_size**2
