r"""What an autoencoder loses of pictures beside their PSNR, and how its latents are shaped.

Three things that PSNR hides: a cast of colour, which is constant over a picture; detail that is blurred away, a
small part of a picture's energy; and latents whose channels repeat each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusab_core import spectrum
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.spectrum import block_dct, frequency_profile, zigzag_order
from diffusab_core.spectrum.bands import profile_slope

#: Eigenvalues of a covariance below this part of the largest count as zero: float32 sums do not tell them from it.
NEGLIGIBLE = 1e-6


def colour_error(x: Tensor, y: Tensor) -> float:
    r"""Mean colour error in levels of 8 bits, 1/255 of the range:
    :math:`\frac{255}{2} \langle | \langle y_n - x_n \rangle_{hw} | \rangle_{n, \mathrm{colour}}`.

    Images ``(N, 3, H, W)`` in [-1, 1], the second clamped as what is saved is.
    """
    return 127.5 * (y.float().clamp(-1, 1) - x.float()).mean((-2, -1)).abs().mean().item()


def energy_kept(x: Tensor, y: Tensor, block_size: int = 8, first: int | None = None) -> tuple[float, float]:
    r"""Which part of the energy of pictures at zigzag ranks from ``first`` on (:math:`B^2/2`) a reconstruction has.

    .. math:: \frac{\sum_{k \ge k_0} \langle D_k(y)^2 \rangle}{\sum_{k \ge k_0} \langle D_k(x)^2 \rangle},
        \qquad 1 - \frac{\sum_{k \ge k_0} \langle D_k(y - x)^2 \rangle}{\sum_{k \ge k_0} \langle D_k(x)^2 \rangle}

    The first is how much detail there is, right or wrong; the second how much of it is explained, and below zero where
    more is wrong than right. Both are 1 for identical pictures and 0 for pictures without detail.
    """
    if x.shape != y.shape:
        raise ValueError(f"energy_kept compares images of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    ranks = zigzag_order(block_size)[block_size**2 // 2 if first is None else first :]

    def energy(images: Tensor) -> Tensor:
        return block_dct(images, block_size).flatten(-2)[..., ranks].double().square().mean()

    x, y = x.float(), y.float().clamp(-1, 1)
    whole = energy(x)
    return (energy(y) / whole).item(), (1 - energy(y - x) / whole).item()


def channel_ranks(z: Tensor) -> tuple[int, float]:
    r"""Rank of the covariance of a latent's channels, and its effective rank :math:`\exp(-\sum p_i \log p_i)`.

    ``z`` is :math:`(N, C, h, w)`; :math:`p` are the eigenvalues over their sum, those below :data:`NEGLIGIBLE` of the
    largest count as zero. Of C channels that one convolution makes of fewer maps some are combinations of the others.

    Source of the effective rank: Roy and Vetterli 2007.
    """
    channels = z.movedim(1, 0).flatten(1).double()  # (C, N h w)
    values = torch.linalg.eigvalsh(torch.cov(channels).reshape(len(channels), -1)).clamp_min(0)
    values = values[values > NEGLIGIBLE * values.max()]
    p = values / values.sum()
    return len(values), (-(p * p.log()).sum()).exp().item()


@torch.no_grad()
def measure_material(
    autoencoder: Autoencoder, images: Tensor, block_size: int = 8, batch_size: int = 32
) -> dict[str, float]:
    """All of the above of posterior means, on images ``(N, 3, H, W)``; the latents must hold whole blocks."""
    images = autoencoder.as_seen(images)
    z = torch.cat([autoencoder.encode(autoencoder.place(b)).mean.float().cpu() for b in images.split(batch_size)])
    decode = autoencoder.decode_in_order()
    y = torch.cat([decode(autoencoder.place(b)).float().cpu() for b in z.split(batch_size)])
    kept, explained = energy_kept(images, y, block_size)
    energy = frequency_profile(z, block_size, "energy")
    rank, effective = channel_ranks(z)
    return {
        "colour_error": colour_error(images, y),
        "high_frequency_kept": kept,
        "high_frequency_explained": explained,
        "latent_slope": profile_slope(energy, block_size),
        "latent_share": spectrum.high_frequency_share(energy),
        "latent_rank": float(rank),
        "latent_effective_rank": effective,
    }
