r"""A picture beside its original: PSNR, SSIM, LPIPS, and how far their spectra are apart.

Images in [-1, 1] are clamped to that range first, as what is saved and looked at is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from diffusab_core.autoencoders import Autoencoder
from diffusab_core.data.pixels import unroll
from diffusab_core.metrics.networks import LPIPSDistance
from diffusab_core.spectrum.dct import chop_high_frequencies, kept_share, to_double


def psnr(x: Tensor, y: Tensor) -> Tensor:
    r"""Peak signal-to-noise ratio in dB, averaged over images; infinite if a pair is identical.

    .. math:: \operatorname{PSNR}(x, y) = \frac1N \sum_{n=1}^{N} -10 \log_{10} \operatorname{mean}\,(x_n - y_n)^2

    over images ``(N, ...)`` or one image ``(C, H, W)``, mapped to [0, 1] first, so the data range is 1. The mean is
    taken over the values in dB, not over the squared errors. Two shapes, or no image, are a ``ValueError``.
    """
    return psnr_per_image(x, y).mean()


def psnr_per_image(x: Tensor, y: Tensor) -> Tensor:
    """As :func:`psnr`, without the mean: one value in dB per image, ``(N,)``."""
    x, y = _pair("psnr", x, y)
    return -10 * ((x - y) / 2).square().flatten(1).mean(1).log10()  # (N,)


def _pair(name: str, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both with a batch axis, in float32, clamped to [-1, 1]."""
    if x.shape != y.shape:
        raise ValueError(f"{name} compares images of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    if x.ndim < 3 or x.numel() == 0:
        raise ValueError(f"{name} needs (N, C, H, W), or (C, H, W) for one image, got shape {tuple(x.shape)}")
    if x.ndim == 3:
        x, y = x[None], y[None]
    return x.float().clamp(-1, 1), y.float().clamp(-1, 1)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    r"""Structural similarity, averaged over images; 1 for identical ones.

    The standard form: a Gaussian window of 11 pixels and :math:`\sigma = 1.5`, :math:`K_1 = 0.01`, :math:`K_2 = 0.03`,
    each colour on its own, the 5 pixels at the border left out. Range, averaging and errors as :func:`psnr`, and sides
    have at least 11 pixels; clips ``(N, C, T, H, W)`` frame by frame.

    Source: Wang et al. 2004, Eq. 13; computed by torchmetrics.
    """
    return ssim_per_image(x, y).mean()


def ssim_per_image(x: Tensor, y: Tensor) -> Tensor:
    """As :func:`ssim`, without the mean: one value per image or clip, ``(N,)``."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = _pair("ssim", x, y)
    if x.ndim > 5 or min(x.shape[-2:]) < 11:
        raise ValueError(f"ssim needs images or clips with sides of at least 11 pixels, got {tuple(x.shape)}")
    n = len(x)
    x, y = ((unroll(v) + 1) / 2 for v in (x, y))  # (N*T, C, H, W)
    # torchmetrics' own mean takes in the border (from 1.9 on), where the window sees mirrored pixels.
    _, values = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none", return_full_image=True)
    return values[..., 5:-5, 5:-5].reshape(n, -1).mean(1)  # from (N*T, C, H-10, W-10)


@torch.no_grad()
def lpips_per_image(x: Tensor, y: Tensor, distance: LPIPSDistance) -> Tensor:
    """LPIPS of each pair, ``(N,)``, of images ``(N, 3, H, W)`` clamped to [-1, 1]; of clips the mean over frames."""
    x, y, n = unroll(x), unroll(y), len(x)
    return distance(x.float().clamp(-1, 1), y.float().clamp(-1, 1)).reshape(n, -1).mean(1)


def spectrum_distance(profile_a: Tensor, profile_b: Tensor) -> Tensor:
    r"""How far one frequency profile is from another, in decades.

    .. math:: \frac{1}{B^2 - 1} \sum_{k=1}^{B^2 - 1} \bigl| \log_{10} a_k - \log_{10} b_k \bigr|

    over zigzag ranks :math:`k`; rank 0 is 1 in every profile and is left out. A value of 1 means that amplitudes
    differ tenfold on average. Profiles ``(B*B,)`` are from :func:`diffusab_core.spectrum.frequency_profile`, by
    convention ``"ratio_of_means"`` (amplitudes) of a latent and of RGB; energies give twice the value. Differentiable.
    Two shapes, and what is no profile or has no logarithm, as cut frequencies, are a ``ValueError``.
    """
    if profile_a.shape != profile_b.shape or profile_a.ndim != 1 or len(profile_a) < 2:
        shapes = f"{tuple(profile_a.shape)} and {tuple(profile_b.shape)}"
        raise ValueError(f"profiles must have one shape (B*B,) with B at least 2, got {shapes}")
    for name, profile in (("profile_a", profile_a), ("profile_b", profile_b)):
        bad = (~((profile > 0) & torch.isfinite(profile))).nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"{name} has no logarithm at rank {bad[0]}, where it is {profile[bad[0]].item()}")
        if abs(profile[0].item() - 1) > 1e-3:
            raise ValueError(f"{name} starts with {profile[0].item():g}, not with 1: it is not relative to D_00")
    return (profile_a[1:].log10() - profile_b[1:].log10()).abs().mean()


class CutCurve(NamedTuple):
    """What :func:`cut_curve` measured; entries belong to one another."""

    ratios: tuple[float, ...]  # share of frequencies cut: of all of a block ("zigzag") or of each axis ("axes")
    kept: tuple[float, ...]  # share of coefficients kept, which makes the two orders comparable
    latent: tuple[float, ...]  # mean over images, of the picture decoded from the cut latent against the original
    rgb: tuple[float, ...]  # the same of the picture that was cut itself; infinite PSNR where nothing is cut


@torch.no_grad()
def cut_curve(
    autoencoder: Autoencoder,
    images: Tensor,
    ratios: Iterable[float],
    block_size: int = 8,
    order: str = "zigzag",
    *,
    metric: Callable[[Tensor, Tensor], Tensor] = psnr_per_image,
    batch_size: int = 32,
) -> CutCurve:
    r"""Reconstruction quality as more and more high frequencies are cut from the latent, and from RGB alike.

    .. math:: \operatorname{PSNR}\bigl(x, \mathrm{Dec}(D^{-1}(D(\mathrm{Enc}(x)) \cdot M))\bigr)

    with the posterior mean as :math:`\mathrm{Enc}(x)`. RGB is cut by the same ratio in blocks :math:`f` times larger,
    :math:`f` the compression, so that a block covers the same part of the picture. Shares, order and block size, that
    of the latent, are those of :func:`~diffusab_core.spectrum.dct.chop_high_frequencies`, and so are its errors.

    Args:
        images: ``(N, 3, H, W)`` in [-1, 1], or clips; the latent's sides must be multiples of the block size.
        metric: Two batches of images, the original second, to one value per image, ``(N,)``: :func:`ssim_per_image`
            and LPIPS give the figure's other panels.

    Source: Skorokhodov et al. 2025, Figure 8 (512 images there).
    """
    ratios = tuple(ratios)
    if not ratios or not len(images):
        raise ValueError(f"a cut curve needs ratios and images, got {len(ratios)} ratios and {len(images)} images")
    kept = tuple(kept_share(ratio, block_size, order) for ratio in ratios)
    latent, rgb = torch.zeros(2, len(ratios), dtype=torch.float64)
    for index in torch.arange(len(images)).split(batch_size):
        placed = autoencoder.place(images[index])
        which = {"index": index.tolist()} if getattr(autoencoder, "decoder_samples", False) else {}
        x, z = images[index].to(placed.device), autoencoder.encode(placed).mean
        for i, (ratio, share) in enumerate(zip(ratios, kept, strict=True)):
            # A cut that keeps everything must not cost the rounding of a DCT and its inverse.
            z_cut = z if share == 1 else chop_high_frequencies(z, ratio, block_size, order).to(z.dtype)
            x_cut = x if share == 1 else chop_high_frequencies(x, ratio, block_size * autoencoder.compression, order)
            latent[i] += to_double(metric(autoencoder.decode(z_cut, **which), x)).sum().cpu()
            rgb[i] += to_double(metric(x_cut, x)).sum().cpu()
    n = len(images)
    return CutCurve(ratios, kept, tuple((latent / n).tolist()), tuple((rgb / n).tolist()))
