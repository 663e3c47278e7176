r"""Radial Fourier tools: low- and high-pass by radius, and the radially averaged power spectrum.

Radii are in cycles per pixel (Nyquist is 0.5), on the last two axes. Half precision is computed and returned in
float32, float64 stays float64. All but the fit of an exponent is differentiable.

Source: "Toward Diffusible High-Dimensional Latent Spaces: A Frequency Perspective" (2025).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffusab_core.spectrum.dct import check_choice, check_finite, working

MASKS = ("ideal", "butterworth", "gaussian")
_ROUNDING = 1e-12  # a frequency that equals a radius lies within it, whatever its rounding


def _radii(height: int, width: int) -> Tensor:
    """``(H, W)`` float64 distances from the zero frequency in cycles per pixel, in the layout of ``torch.fft.fft2``."""
    vertical = torch.fft.fftfreq(height, dtype=torch.float64, device="cpu")
    horizontal = torch.fft.fftfreq(width, dtype=torch.float64, device="cpu")
    return torch.hypot(vertical[:, None], horizontal)


def radial_mask(h: int, w: int, radius: float, kind: str = "ideal", order: int = 2) -> Tensor:
    r"""A low-pass mask over the radius :math:`f = \sqrt{f_y^2 + f_x^2}`.

    * ``"ideal"``: true where :math:`f \le` ``radius``;
    * ``"butterworth"``: :math:`1 / (1 + (f / \text{radius})^{2\,\text{order}})`, one half at the radius;
    * ``"gaussian"``: :math:`\exp(-f^2 / (2\,\text{radius}^2))`, 0.61 at the radius.

    At radius 0 each keeps the mean alone, the limit of the formulas; at :math:`\sqrt{0.5}` the ideal mask keeps all.

    Returns:
        ``(H, W)`` in the layout of ``torch.fft.fft2`` (zero frequency at ``[0, 0]``): bool for ``"ideal"``, float64
        weights in [0, 1] otherwise.

    Raises:
        ValueError: A radius that is negative or not finite, an unknown kind, or an order below 1.

    Source: "Toward Diffusible High-Dimensional Latent Spaces" (2025); the unit and the three kinds are those of the
    authors' released filter.
    """
    if not 0 <= radius < math.inf:
        raise ValueError(f"radius must be a finite number of cycles per pixel, 0 or more, got {radius!r}")
    check_choice("kind", kind, MASKS)
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ValueError(f"order must be an integer of at least 1, got {order!r}")
    f = _radii(h, w)
    if kind == "ideal":
        return f <= radius + _ROUNDING
    if radius == 0:
        return (f == 0).double()
    if kind == "butterworth":
        return 1 / (1 + (f / radius) ** (2 * order))
    return torch.exp(-0.5 * (f / radius) ** 2)


def radial_split(x: Tensor, radius: float, kind: str = "ideal", order: int = 2) -> tuple[Tensor, Tensor]:
    r"""Split into frequencies within a radius and beyond it, :math:`x = x_\text{low} + x_\text{high}`.

    :math:`x_\text{low} = F^{-1}(M \cdot F(x))` for each channel and frame of ``(..., H, W)``, with the mask of
    :func:`radial_mask`, which says what is refused. Nothing is clamped, so both parts may leave the range of ``x``.

    Source: "Toward Diffusible High-Dimensional Latent Spaces" (2025).
    """
    x = working(x)
    height, width = x.shape[-2:]
    mask = radial_mask(height, width, radius, kind, order)[:, : width // 2 + 1]  # real input: half the plane suffices
    mask = mask.to(x.device) if mask.dtype == torch.bool else mask.to(x)
    low = torch.fft.irfft2(torch.fft.rfft2(x) * mask, s=(height, width))
    return low, x - low


def radial_bands(x: Tensor, radii: Sequence[float]) -> Tensor:
    """The parts of ``(..., H, W)`` between ascending radii, from the mean to the corner, ``(bands, ..., H, W)``.

    One band more than radii; they sum to ``x``, and a band holds its upper radius. Radii that do not ascend are a
    ``ValueError``.
    """
    if list(radii) != sorted(set(radii)):
        raise ValueError(f"radii must ascend, got {tuple(radii)}")
    below = torch.stack([*(radial_split(x, radius)[0] for radius in radii), working(x)])
    return torch.cat([below[:1], below.diff(dim=0)])


def radial_profile(x: Tensor, bins: int | None = None) -> tuple[Tensor, Tensor]:
    r"""Radially averaged power spectrum of ``(..., H, W)``, as ``(frequency, power)``, each ``(bins,)``.

    The power :math:`|F(x)|^2 / (HW)` is averaged over all leading axes and over rings of frequencies; white noise of
    variance :math:`\sigma^2` has power :math:`\sigma^2` everywhere. Ring :math:`k = 1 \ldots` ``bins`` is centred at
    :math:`k / (2\,\text{bins})` cycles per pixel and :math:`1 / (2\,\text{bins})` wide, its lower border included; the
    image's mean and the spectrum's corners beyond the last ring belong to none. By default there are ``min(H, W) // 2``
    rings, the most with none empty. No window is applied, so borders that do not match add high frequencies.

    Raises:
        ValueError: NaN or Inf in ``x``, an empty ``x``, or a number of bins outside ``1 ... min(H, W) // 2``.
    """
    x = working(x)
    height, width = x.shape[-2:]
    most = min(height, width) // 2
    bins = most if bins is None else bins
    if not 1 <= bins <= most:
        raise ValueError(f"bins must be in 1 ... {most} for shape {tuple(x.shape)}, got {bins!r}")
    if not x.numel():
        raise ValueError(f"no spectrum to measure: the tensor of shape {tuple(x.shape)} is empty")
    check_finite(x)
    power = torch.fft.fft2(x, norm="ortho").abs().square().reshape(-1, height * width).mean(0)  # (H*W,)
    # Half-open rings; the small term keeps a frequency on a border in the outer one, whatever its rounding.
    ring = (_radii(height, width) * 2 * bins + 0.5 + 1e-9).long().clamp(max=bins + 1).flatten().to(x.device)
    size = torch.bincount(ring, minlength=bins + 2)[1 : bins + 1]
    total = power.new_zeros(bins + 2).index_add(0, ring, power)[1 : bins + 1]
    frequency = torch.arange(1, bins + 1, dtype=x.dtype, device=x.device) / (2 * bins)
    return frequency, total / size


def windowed_radial_profile(x: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`radial_profile` of images ``(N, C, H, W)`` in grey under a Hann window: what a power law is fitted to.

    Channels are averaged, the mean of each image is removed and the window applied, since borders that do not match
    add power at high frequencies.
    """
    grey = working(x).mean(1, keepdim=True)
    height, width = grey.shape[-2:]
    grey = grey - grey.mean((-2, -1), keepdim=True)
    window = torch.hann_window(height, periodic=False)[:, None] * torch.hann_window(width, periodic=False)
    return radial_profile(grey * window.to(grey))


def spectral_exponent(x: Tensor, lowest_cycles: float = 3.0, highest: float = 0.35) -> float:
    r"""The exponent :math:`\beta` of a power law :math:`f^{-\beta}` fitted to :func:`windowed_radial_profile`.

    :math:`\log` power is fitted by least squares against :math:`\log` frequency. White noise has 0, photographs of
    natural scenes about 2 (Ruderman 1997).

    Args:
        x: ``(N, C, H, W)``, any float dtype.
        lowest_cycles: Lower end of the fit in cycles per shorter side; below it the window speaks.
        highest: Upper end in cycles per pixel; above it the pixels' own blur speaks. Fewer than three rings between
            the two ends are a ``ValueError``.
    """
    height, width = x.shape[-2:]
    frequency, power = windowed_radial_profile(x)
    inside = (frequency >= lowest_cycles / min(height, width)) & (frequency <= highest)
    if inside.sum() < 3:
        raise ValueError(
            f"only {int(inside.sum())} rings of a {height} x {width} spectrum lie within the fit; use larger x"
        )
    log_f, log_p = frequency[inside].log(), power[inside].log()
    log_f = log_f - log_f.mean()
    return -float((log_f * log_p).sum() / log_f.square().sum())
