r"""The blockwise DCT: forward, inverse, the zigzag order, and cutting high frequencies.

Everything works on the last two axes, so images ``(N, C, H, W)`` and videos ``(N, C, T, H, W)`` (frame by frame) take
the same path. Half precision is computed and returned in float32, float64 stays float64. In a pair :math:`(u, v)` the
first index is the vertical frequency, the second the horizontal one.

Source: Skorokhodov et al. 2025, "Improving the Diffusability of Autoencoders", Eqs. 4 and 5.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

ORDERS = ("zigzag", "axes")

# Up to this block size all B^2 frequencies are computed at once from all B^2 pixels; beyond it, where that wastes
# arithmetic, one axis after the other. `python -m benchmarks` times the alternatives.
SMALL_BLOCK = 8


def working(x: Tensor) -> Tensor:
    """``x`` in the precision that spectra are computed in: float64 as it is, every other float as float32."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"a spectrum needs a real floating-point tensor, got {kind}; convert it with .float() first")
    if x.ndim < 2:
        raise ValueError(f"a spectrum needs at least two axes (..., H, W), got shape {tuple(x.shape)}")
    return x if x.dtype == torch.float64 else x.float()


def to_double(x: Tensor) -> Tensor:
    """``x`` in float64: where it is, but on the CPU where its device has no such numbers, as MPS has none."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def check_block_size(block_size: int, least: int = 1) -> None:
    if isinstance(block_size, bool) or not isinstance(block_size, int) or block_size < least:
        raise ValueError(f"block_size must be an integer of at least {least}, got {block_size!r}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_finite(x: Tensor) -> None:
    """Refuse NaN and Inf before they become a plausible-looking statistic, and say which items hold them."""
    if torch.isfinite(x).all():
        return
    items = x.reshape(x.shape[0], -1) if x.ndim > 2 else x.reshape(1, -1)
    bad = (~torch.isfinite(items)).any(1).nonzero().flatten().tolist()
    listed = ", ".join(map(str, bad[:8])) + (", ..." if len(bad) > 8 else "")
    raise ValueError(
        f"NaN or Inf in {len(bad)} of {len(items)} items of a tensor of shape {tuple(x.shape)} "
        f"(indices on the first axis: {listed}); leave those items out or repair what made them"
    )


@lru_cache(maxsize=64)
def _basis(block_size: int, dtype: torch.dtype, device: torch.device, kronecker: bool) -> Tensor:
    r"""The orthonormal DCT-II matrix, or its Kronecker product with itself, built in float64 and cached.

    Made outside inference mode: a tensor made inside one could never take part in a backward pass later.
    """
    with torch.inference_mode(False), torch.no_grad():
        position = torch.arange(block_size, dtype=torch.float64, device="cpu")
        frequency = position[:, None]
        matrix = torch.cos(math.pi * (2 * position + 1) * frequency / (2 * block_size))  # (B, B), row = frequency
        matrix *= math.sqrt(2 / block_size)
        matrix[0] = math.sqrt(1 / block_size)
        if kronecker:
            matrix = torch.kron(matrix, matrix)  # (B*B, B*B), row = (u, v), column = (i, j)
        return matrix.to(dtype).to(device)


def _full_precision(device: torch.device) -> AbstractContextManager:
    """Autocast would turn the products into half precision; the spectrum of a loss has to be float32."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _dct_by_axis(x: Tensor, b: int) -> Tensor:
    basis = _basis(b, x.dtype, x.device, kronecker=False)
    columns = basis @ x.unflatten(-2, (-1, b))  # (..., h, u, W)
    return rearrange(columns, "... h u (w j) -> ... h w u j", j=b) @ basis.T


def _dct_by_product(x: Tensor, b: int) -> Tensor:
    basis = _basis(b, x.dtype, x.device, kronecker=True)
    return (rearrange(x, "... (h i) (w j) -> ... h w (i j)", i=b, j=b) @ basis.T).unflatten(-1, (b, b))


def _dct_by_convolution(x: Tensor, b: int) -> Tensor:
    """The product above without cutting blocks out first: each run of B pixels in a row is read as B channels.

    Input and output then already lie in memory as the convolution wants them (channels last), so nothing is copied.
    """
    *lead, height, width = x.shape
    kernels = _basis(b, x.dtype, x.device, kronecker=True).view(b * b, b, b).mT.unsqueeze(-1)  # (u v, j, i, 1)
    runs = x.reshape(-1, height, width // b, b).permute(0, 3, 1, 2)  # (n, j, H, w)
    d = F.conv2d(runs, kernels, stride=(b, 1))  # (n, u v, h, w)
    return d.permute(0, 2, 3, 1).reshape(*lead, height // b, width // b, b, b)


def _convolution_pays(x: Tensor) -> bool:
    """True where oneDNN's convolution beats a product: float32 on the CPU, and no backward pass, which is slower."""
    fast = x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    return fast and x.numel() > 0 and not (x.requires_grad and torch.is_grad_enabled())


def block_dct(x: Tensor, block_size: int = 8) -> Tensor:
    r"""Orthonormal DCT-II of non-overlapping blocks.

    .. math:: D_{uv} = \alpha(u)\,\alpha(v) \sum_{i,j=0}^{B-1} x_{ij}
        \cos\frac{\pi(2i+1)u}{2B} \cos\frac{\pi(2j+1)v}{2B}, \qquad
        \alpha(0) = \sqrt{1/B},\ \alpha(k>0) = \sqrt{2/B}

    ``(..., H, W)`` becomes ``(..., H/B, W/B, B, B)``. Differentiable. Unaffected by autocast; on GPUs
    ``torch.backends.cuda.matmul`` decides on TF32, as for any product.

    Raises:
        TypeError: ``x`` is not a real floating-point tensor.
        ValueError: A side is not a multiple of the block size.

    Source: Skorokhodov et al. 2025, Sec. 3.
    """
    check_block_size(block_size)
    x = working(x)
    b, (height, width) = block_size, x.shape[-2:]
    if height % b or width % b:
        raise ValueError(
            f"shape {tuple(x.shape)} cannot be cut into {b}x{b} blocks: crop or resize to multiples of {b}, "
            f"{height // b * b or b}x{width // b * b or b}, or choose another block_size"
        )
    with _full_precision(x.device):
        if b > SMALL_BLOCK:
            return _dct_by_axis(x, b)
        return _dct_by_convolution(x, b) if _convolution_pays(x) else _dct_by_product(x, b)


def block_idct(d: Tensor) -> Tensor:
    """Inverse of :func:`block_dct`: ``(..., H/B, W/B, B, B)`` to ``(..., H, W)``; a ``ValueError`` for other shapes."""
    d = working(d)
    b = d.shape[-1]
    if d.ndim < 4 or d.shape[-2] != b or not b:
        raise ValueError(f"coefficients must have shape (..., H/B, W/B, B, B), got {tuple(d.shape)}")
    kronecker = b <= SMALL_BLOCK
    basis = _basis(b, d.dtype, d.device, kronecker)
    with _full_precision(d.device):
        if kronecker:
            return rearrange(d.flatten(-2) @ basis, "... h w (i j) -> ... (h i) (w j)", i=b, j=b)
        columns = rearrange(d @ basis, "... h w u j -> ... h u (w j)")
        return (basis.T @ columns).flatten(-3, -2)


def whole_dct(x: Tensor, axes: int = 2) -> Tensor:
    """Orthonormal DCT-II over the whole of the last axes, of any lengths: ``(..., H, W)`` to coefficients alike.

    A tensor with fewer axes is a ``ValueError``, one that is not real floating-point a ``TypeError``.
    """
    return _along_axes(x, axes, inverse=False)


def whole_idct(d: Tensor, axes: int = 2) -> Tensor:
    """Inverse of :func:`whole_dct`."""
    return _along_axes(d, axes, inverse=True)


def _along_axes(x: Tensor, axes: int, inverse: bool) -> Tensor:
    x = working(x)
    if not 1 <= axes <= x.ndim:
        raise ValueError(f"a transform over the last {axes} axes needs as many, got shape {tuple(x.shape)}")
    with _full_precision(x.device):
        for axis in range(-axes, 0):
            basis = _basis(x.shape[axis], x.dtype, x.device, kronecker=False)
            x = (x.movedim(axis, -1) @ (basis if inverse else basis.T)).movedim(-1, axis)
    return x


@lru_cache(maxsize=64)
def _zigzag(block_size: int) -> tuple[int, ...]:
    def place(index: int) -> tuple[int, int]:
        # Along a diagonal u + v the walk goes down where the sum is odd and up where it is even.
        u, v = divmod(index, block_size)
        return u + v, u if (u + v) % 2 else v

    return tuple(sorted(range(block_size**2), key=place))


def zigzag_order(block_size: int) -> Tensor:
    r"""JPEG's zigzag order: ``(B*B,)`` int64, the row-major index :math:`uB + v` of the coefficient of each rank.

    ``zigzag_order(8)`` begins 0, 1, 8, 16, 9, 2; other sizes follow the same walk.

    Source: ITU-T Recommendation T.81, Figure A.6.
    """
    check_block_size(block_size)
    return torch.tensor(_zigzag(block_size), dtype=torch.int64)


def frequency_mask(block_size: int, ratio: float, order: str = "zigzag") -> Tensor:
    r"""Which coefficients of a block stay when a share of them is cut: ``(B, B)`` bool.

    ``"zigzag"`` keeps :math:`\mathrm{zigzag}(u, v) < B^2 - n_\text{cut}` with :math:`n_\text{cut}` the integer nearest
    to :math:`\text{ratio} \cdot B^2`; ``"axes"`` keeps :math:`u, v < B - n_\text{cut}` with :math:`n_\text{cut}` the
    integer nearest to :math:`\text{ratio} \cdot B`, so its ratio is per axis. Halves round to even, and
    :math:`D_{00}` always stays.

    Raises:
        ValueError: A ratio outside [0, 1), an unknown order or a bad block size.

    Source: Skorokhodov et al. 2025, Eq. 5; the order by axes, Table 6.
    """
    check_block_size(block_size)
    check_choice("order", order, ORDERS)
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio must be in [0, 1), the share of frequencies to cut, got {ratio!r}")
    mask = torch.zeros(block_size, block_size, dtype=torch.bool)
    if order == "axes":
        kept = max(block_size - round(ratio * block_size), 1)
        mask[:kept, :kept] = True
    else:
        kept = max(block_size**2 - round(ratio * block_size**2), 1)
        mask.view(-1)[zigzag_order(block_size)[:kept]] = True
    return mask


def kept_share(ratio: float, block_size: int = 8, order: str = "zigzag") -> float:
    """The share of coefficients that :func:`frequency_mask` keeps, in (0, 1]; raises as it does."""
    return frequency_mask(block_size, ratio, order).double().mean().item()


def chop_high_frequencies(x: Tensor, ratio: float, block_size: int = 8, order: str = "zigzag") -> Tensor:
    r"""Set the highest DCT frequencies of every block to zero: :math:`D^{-1}(D(x) \cdot M)`, differentiable.

    What is refused say :func:`block_dct` and :func:`frequency_mask`.

    Args:
        x: ``(..., H, W)``, any float dtype.
        ratio: Share to cut, in [0, 1): of all coefficients (``"zigzag"``) or of each axis (``"axes"``).
        block_size: :math:`B`. On RGB, use the latent's block size times the compression factor.
        order: ``"zigzag"`` or ``"axes"``.

    Source: Skorokhodov et al. 2025, Eqs. 4 and 5.
    """
    mask = frequency_mask(block_size, ratio, order)
    return block_idct(block_dct(x, block_size) * mask.to(x.device))
