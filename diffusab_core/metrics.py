r"""How far a reconstruction or a set of samples is from the real thing."""

from __future__ import annotations

from torch import Tensor


def psnr(x: Tensor, y: Tensor) -> Tensor:
    r"""Peak signal-to-noise ratio in dB, averaged over images.

    .. math:: \operatorname{PSNR}(x, y) = \frac1N \sum_{n=1}^{N} -10 \log_{10} \operatorname{mean}\,(x_n - y_n)^2

    Both are clamped to :math:`[-1, 1]` and mapped to :math:`[0, 1]` first, so the data range is 1. The mean is taken
    over the per-image values in dB, not over the squared errors.

    Args:
        x: Images :math:`(N, ...)`, nominally in :math:`[-1, 1]`, or one image :math:`(C, H, W)`.
        y: The same shape.

    Returns:
        A scalar in float32; infinite if a pair is identical.

    Raises:
        ValueError: The shapes differ, or there is no image.
    """
    return psnr_per_image(x, y).mean()


def psnr_per_image(x: Tensor, y: Tensor) -> Tensor:
    """As :func:`psnr`, without the mean: one value in dB per image, ``(N,)``."""
    if x.shape != y.shape:
        raise ValueError(f"psnr compares images of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    if x.ndim < 3 or x.numel() == 0:
        raise ValueError(f"psnr needs (N, C, H, W), or (C, H, W) for one image, got shape {tuple(x.shape)}")
    if x.ndim == 3:
        x, y = x[None], y[None]
    difference = (x.float().clamp(-1, 1) - y.float().clamp(-1, 1)) / 2
    return -10 * difference.square().flatten(1).mean(1).log10()  # (N,)
