r"""Spectra of images and latents: block DCT, frequency profiles, cutting high frequencies, radial Fourier tools.

Everything works on the last two axes, so images ``(N, C, H, W)`` and videos ``(N, C, T, H, W)`` (frame by frame) take
the same path. Half precision is computed and returned in float32, float64 stays float64. In a pair :math:`(u, v)` the
first index is the vertical frequency, the second the horizontal one; radii are in cycles per pixel (Nyquist is 0.5).

Source: Skorokhodov et al. 2025, "Improving the Diffusability of Autoencoders" (Eqs. 1, 4, 5), for the DCT part;
"Toward Diffusible High-Dimensional Latent Spaces: A Frequency Perspective" (2025) for the radial part.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

STATISTICS = ("mean_ratio", "median_ratio", "ratio_of_means", "energy")
ORDERS = ("zigzag", "axes")

# The histogram behind a streamed median: neighbouring bin centres differ by 1%, so a median read from it is within 0.5%
# of the exact one. Ratios below the range (zeros too) share an underflow bin, those above it an overflow bin.
MEDIAN_RESOLUTION = 0.01
MEDIAN_RANGE = (1e-8, 1e8)

# Up to this block size all B^2 frequencies are computed at once from all B^2 pixels; beyond it, where that wastes
# arithmetic, one axis after the other. `python -m benchmarks` times the alternatives.
SMALL_BLOCK = 8


# ---------------------------------------------------------------------------------------------------------------------
# Checks


def _working(x: Tensor) -> Tensor:
    """``x`` in the precision that spectra are computed in: float64 as it is, every other float as float32."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"a spectrum needs a real floating-point tensor, got {kind}; convert it with .float() first")
    if x.ndim < 2:
        raise ValueError(f"a spectrum needs at least two axes (..., H, W), got shape {tuple(x.shape)}")
    return x if x.dtype == torch.float64 else x.float()


def _check_block_size(block_size: int, least: int = 1) -> None:
    if isinstance(block_size, bool) or not isinstance(block_size, int) or block_size < least:
        raise ValueError(f"block_size must be an integer of at least {least}, got {block_size!r}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _check_finite(x: Tensor) -> None:
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


# ---------------------------------------------------------------------------------------------------------------------
# Block DCT


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

    Differentiable. Unaffected by autocast; on GPUs ``torch.backends.cuda.matmul`` decides on TF32, as for any product.

    Args:
        x: ``(..., H, W)``, any float dtype; ``H`` and ``W`` multiples of the block size.
        block_size: :math:`B`, the side of a block in pixels.

    Returns:
        ``(..., H/B, W/B, B, B)``: :math:`D_{uv}` of each block (``u`` vertical, ``v`` horizontal); float64 for float64
        input, float32 otherwise.

    Raises:
        TypeError: ``x`` is not a real floating-point tensor.
        ValueError: a side is not a multiple of the block size.

    Source: Skorokhodov et al. 2025, Sec. 3.
    """
    _check_block_size(block_size)
    x = _working(x)
    b, (height, width) = block_size, x.shape[-2:]
    if height % b or width % b:
        raise ValueError(
            f"shape {tuple(x.shape)} cannot be cut into {b}x{b} blocks: height {height} and width {width} must be "
            f"multiples of {b}; crop or resize to {height // b * b or b}x{width // b * b or b}, "
            f"or choose another block_size"
        )
    with _full_precision(x.device):
        if b > SMALL_BLOCK:
            return _dct_by_axis(x, b)
        return _dct_by_convolution(x, b) if _convolution_pays(x) else _dct_by_product(x, b)


def block_idct(d: Tensor) -> Tensor:
    r"""Inverse of :func:`block_dct`.

    Args:
        d: ``(..., H/B, W/B, B, B)`` coefficients, any float dtype.

    Returns:
        ``(..., H, W)``; float64 for float64 input, float32 otherwise.

    Raises:
        TypeError: ``d`` is not a real floating-point tensor.
        ValueError: ``d`` does not end in two block axes and two equal frequency axes.
    """
    d = _working(d)
    b = d.shape[-1]
    if d.ndim < 4 or d.shape[-2] != b:
        raise ValueError(f"coefficients must have shape (..., H/B, W/B, B, B), got {tuple(d.shape)}")
    _check_block_size(b)
    kronecker = b <= SMALL_BLOCK
    basis = _basis(b, d.dtype, d.device, kronecker)
    with _full_precision(d.device):
        if kronecker:
            return rearrange(d.flatten(-2) @ basis, "... h w (i j) -> ... (h i) (w j)", i=b, j=b)
        columns = rearrange(d @ basis, "... h w u j -> ... h u (w j)")
        return (basis.T @ columns).flatten(-3, -2)


@lru_cache(maxsize=64)
def _zigzag(block_size: int) -> tuple[int, ...]:
    b = block_size
    cells = [(u, v) for u in range(b) for v in range(b)]
    # Along a diagonal u + v the walk goes down where the sum is odd and up where it is even.
    cells.sort(key=lambda c: (c[0] + c[1], c[0] if (c[0] + c[1]) % 2 else c[1]))
    return tuple(u * b + v for u, v in cells)


def zigzag_order(block_size: int) -> Tensor:
    r"""JPEG's zigzag order: row-major indices :math:`uB + v` in ascending frequency.

    ``zigzag_order(8)`` begins 0, 1, 8, 16, 9, 2; other sizes follow the same walk.

    Args:
        block_size: :math:`B`.

    Returns:
        ``(B*B,)`` int64; entry ``k`` is the flat index of the coefficient of rank ``k``.

    Raises:
        ValueError: ``block_size`` is not a positive integer.

    Source: ITU-T Recommendation T.81, Figure A.6.
    """
    _check_block_size(block_size)
    return torch.tensor(_zigzag(block_size), dtype=torch.int64)


# ---------------------------------------------------------------------------------------------------------------------
# Frequency profiles


def _flat_blocks(x: Tensor, block_size: int) -> Tensor:
    """``(..., H, W)`` to ``(blocks, B*B)`` coefficients, row-major; refuses what has no profile."""
    d = block_dct(x, block_size).reshape(-1, block_size**2)
    if not len(d):
        raise ValueError(f"no block to measure: the tensor of shape {tuple(x.shape)} is empty")
    _check_finite(x)
    return d


def _no_mean(blocks: int) -> ValueError:
    return ValueError(f"D_00 is zero in all {blocks} blocks, so no profile relative to it exists; is the input blank?")


def frequency_profile(x: Tensor, block_size: int = 8, statistic: str = "ratio_of_means") -> Tensor:
    r"""How strong each DCT frequency is, relative to the block mean, over all blocks, channels, frames and items.

    With :math:`\langle\cdot\rangle` the mean over blocks, the statistics are

    * ``"mean_ratio"``: :math:`\langle |D_{uv} / D_{00}| \rangle`, the paper's. Blocks with :math:`D_{00} = 0` are left
      out; blocks with a small :math:`D_{00}`, common in zero-mean latents, dominate it.
    * ``"median_ratio"``: the median of :math:`|D_{uv} / D_{00}|` over the same blocks (the lower of the two middle
      values when their number is even). Exact here; :class:`ProfileAccumulator` reads it from a histogram.
    * ``"ratio_of_means"``: :math:`\langle |D_{uv}| \rangle / \langle |D_{00}| \rangle`.
    * ``"energy"``: :math:`\langle D_{uv}^2 \rangle / \langle D_{00}^2 \rangle`.

    Differentiable. For more data than fits in memory, or to know how many blocks were left out, use
    :class:`ProfileAccumulator`.

    Args:
        x: ``(..., H, W)``, any float dtype. By convention RGB in [0, 1] and latents as the encoder gives them.
        block_size: :math:`B`.
        statistic: One of :data:`STATISTICS`.

    Returns:
        ``(B*B,)`` in zigzag order, on the device of ``x``; the first entry is 1.

    Raises:
        ValueError: unknown statistic, NaN or Inf in ``x`` (the items are named), sides that are not multiples of the
            block size, or :math:`D_{00} = 0` in every block.

    Source: Skorokhodov et al. 2025, Eq. 1.
    """
    _check_choice("statistic", statistic, STATISTICS)
    d = _flat_blocks(x, block_size)  # (blocks, B*B)
    d = d[d[:, 0] != 0] if statistic.endswith("_ratio") else d
    if not d[:, 0].any():
        raise _no_mean(x.numel() // block_size**2)
    amplitude = d.square() if statistic == "energy" else d.abs()
    if statistic == "mean_ratio":
        profile = (amplitude / amplitude[:, :1]).mean(0)
    elif statistic == "median_ratio":
        profile = (amplitude / amplitude[:, :1]).median(0).values
    else:
        mean = amplitude.mean(0)
        profile = mean / mean[0]
    return profile[zigzag_order(block_size).to(d.device)]


class ProfileAccumulator:
    r"""The statistics of :func:`frequency_profile` over a stream, in memory that does not grow with it.

    Keeps float64 sums on the CPU and, for the median, a histogram of :math:`|D_{uv} / D_{00}|` with bins evenly spaced
    in the logarithm: ``MEDIAN_RESOLUTION`` apart within ``MEDIAN_RANGE``, 1 at the centre of a bin. A median below the
    range is reported as 0, one above it as infinity. How the stream is cut into updates does not matter.

    Args:
        block_size: :math:`B`.
    """

    _STEP = math.log1p(MEDIAN_RESOLUTION)
    _LOW = math.floor(math.log(MEDIAN_RANGE[0]) / _STEP) - 1  # the underflow bin
    _HIGH = math.ceil(math.log(MEDIAN_RANGE[1]) / _STEP) + 1  # the overflow bin

    def __init__(self, block_size: int = 8) -> None:
        _check_block_size(block_size)
        self.block_size = block_size
        self._bins = self._HIGH - self._LOW + 1
        self._blocks = 0
        self._excluded = 0
        # Coefficients stay row-major until a profile is asked for. Rows: sum |D|, sum D^2, sum |D / D_00|.
        self._sums = torch.zeros(3, block_size**2, dtype=torch.float64)
        self._histogram = torch.zeros(block_size**2, self._bins, dtype=torch.int64)

    @property
    def blocks(self) -> int:
        """Blocks seen so far, the excluded ones among them."""
        return self._blocks

    @property
    def excluded_blocks(self) -> int:
        r"""Blocks with :math:`D_{00} = 0`, which ``"mean_ratio"`` and ``"median_ratio"`` leave out."""
        return self._excluded

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        r"""Add every block of ``x``, ``(..., H, W)``; raises as :func:`frequency_profile` and then adds nothing."""
        d = _flat_blocks(x, self.block_size)  # (blocks, B*B)
        d = (d.cpu() if d.device.type == "mps" else d).double()  # MPS has no float64
        amplitude = d.abs()
        kept = amplitude[amplitude[:, 0] != 0]
        ratio = kept / kept[:, :1]
        index = (ratio.log() / self._STEP).round().clamp(self._LOW, self._HIGH).long() - self._LOW
        index += torch.arange(self.block_size**2, device=d.device) * self._bins
        counts = torch.bincount(index.flatten(), minlength=self._histogram.numel())
        self._sums += torch.stack([amplitude.sum(0), d.square().sum(0), ratio.sum(0)]).cpu()
        self._histogram += counts.reshape(self._histogram.shape).cpu()
        self._blocks += len(d)
        self._excluded += len(d) - len(kept)

    def profile(self, statistic: str = "ratio_of_means") -> Tensor:
        r"""The profile of everything seen so far.

        Args:
            statistic: One of :data:`STATISTICS`, defined in :func:`frequency_profile`.

        Returns:
            ``(B*B,)`` float64 on the CPU, in zigzag order.

        Raises:
            ValueError: unknown statistic, nothing seen yet, or :math:`D_{00} = 0` in every block.
        """
        _check_choice("statistic", statistic, STATISTICS)
        used = self._blocks - self._excluded
        if not self._blocks:
            raise ValueError("no profile yet: update() has not been called")
        if not used:
            raise _no_mean(self._blocks)
        amplitude, energy, ratio = self._sums
        if statistic == "mean_ratio":
            profile = ratio / used
        elif statistic == "median_ratio":
            profile = self._medians((used - 1) // 2)
        else:
            mean = energy if statistic == "energy" else amplitude
            profile = mean / mean[0]
        return profile[zigzag_order(self.block_size)]

    def _medians(self, rank: int) -> Tensor:
        """For each coefficient the ratio of that rank, as the centre of its bin."""
        bin_ = (self._histogram.cumsum(1) <= rank).sum(1) + self._LOW
        median = torch.exp(bin_.double() * self._STEP)
        return median.masked_fill(bin_ == self._LOW, 0.0).masked_fill(bin_ == self._HIGH, math.inf)

    def high_frequency_energy_ratio(self) -> float:
        """:func:`high_frequency_energy_ratio` of everything seen so far."""
        return float(_upper_half(self.profile("energy"), self.block_size))


def _upper_half(energy: Tensor, block_size: int) -> Tensor:
    _check_block_size(block_size, least=2)
    return energy[(block_size**2 + 1) // 2 :].mean()


def high_frequency_energy_ratio(x: Tensor, block_size: int = 8) -> Tensor:
    r"""Mean energy of the upper zigzag half over the energy of :math:`D_{00}`.

    .. math:: \frac{\frac{1}{|K|} \sum_{k \in K} \langle D_k^2 \rangle}{\langle D_{00}^2 \rangle},
        \qquad K = \{k : k \ge B^2 / 2\}

    with :math:`k` the zigzag rank and :math:`\langle\cdot\rangle` the mean over blocks. Differentiable.

    Args:
        x: ``(..., H, W)``, any float dtype.
        block_size: :math:`B`, at least 2.

    Returns:
        A scalar tensor.

    Raises:
        ValueError: as :func:`frequency_profile`.
    """
    return _upper_half(frequency_profile(x, block_size, "energy"), block_size)


# ---------------------------------------------------------------------------------------------------------------------
# Cutting high frequencies


def frequency_mask(block_size: int, ratio: float, order: str = "zigzag") -> Tensor:
    r"""Which coefficients of a block stay when a share of them is cut.

    ``"zigzag"`` keeps :math:`\mathrm{zigzag}(u, v) < B^2 - n_\text{cut}` with :math:`n_\text{cut}` the integer nearest
    to :math:`\text{ratio} \cdot B^2`; ``"axes"`` keeps :math:`u, v < B - n_\text{cut}` with :math:`n_\text{cut}` the
    integer nearest to :math:`\text{ratio} \cdot B`, so its ratio is per axis. Halves round to even, and
    :math:`D_{00}` always stays.

    Args:
        block_size: :math:`B`.
        ratio: Share to cut, in [0, 1).
        order: ``"zigzag"`` or ``"axes"``.

    Returns:
        ``(B, B)`` bool, true where a coefficient is kept.

    Raises:
        ValueError: a ratio outside [0, 1), an unknown order or a bad block size.

    Source: Skorokhodov et al. 2025, Eq. 5; the order by axes, Table 6.
    """
    _check_block_size(block_size)
    _check_choice("order", order, ORDERS)
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
    r"""Set the highest DCT frequencies of every block to zero: :math:`D^{-1}(D(x) \cdot M)`.

    Args:
        x: ``(..., H, W)``, any float dtype.
        ratio: Share to cut, in [0, 1): of all coefficients (``"zigzag"``) or of each axis (``"axes"``).
        block_size: :math:`B`. On RGB, use the latent's block size times the compression factor.
        order: ``"zigzag"`` or ``"axes"``, see :func:`frequency_mask`.

    Returns:
        ``(..., H, W)``; float64 for float64 input, float32 otherwise. Differentiable.

    Raises:
        ValueError: as :func:`block_dct` and :func:`frequency_mask`.

    Source: Skorokhodov et al. 2025, Eqs. 4 and 5.
    """
    mask = frequency_mask(block_size, ratio, order)
    return block_idct(block_dct(x, block_size) * mask.to(x.device))


# ---------------------------------------------------------------------------------------------------------------------
# Radial Fourier tools


def _radii(height: int, width: int) -> Tensor:
    """``(H, W)`` float64 distances from the zero frequency in cycles per pixel, in the layout of ``torch.fft.fft2``."""
    vertical = torch.fft.fftfreq(height, dtype=torch.float64, device="cpu")
    horizontal = torch.fft.fftfreq(width, dtype=torch.float64, device="cpu")
    return torch.hypot(vertical[:, None], horizontal)


def radial_mask(h: int, w: int, radius: float) -> Tensor:
    r"""An ideal low-pass mask: true where :math:`\sqrt{f_y^2 + f_x^2} \le` ``radius``.

    Args:
        h: Height in pixels.
        w: Width in pixels.
        radius: In cycles per pixel; 0.5 is the Nyquist frequency of an axis, :math:`\sqrt{0.5}` keeps everything, 0
            keeps the mean only.

    Returns:
        ``(H, W)`` bool in the layout of ``torch.fft.fft2`` (zero frequency at ``[0, 0]``).

    Raises:
        ValueError: a radius that is negative or not finite.

    Source: "Toward Diffusible High-Dimensional Latent Spaces" (2025); the unit is that of the authors' released filter.
    """
    if not 0 <= radius < math.inf:
        raise ValueError(f"radius must be a finite number of cycles per pixel, 0 or more, got {radius!r}")
    return _radii(h, w) <= radius + 1e-12  # a frequency that equals the radius stays, whatever its rounding


def radial_split(x: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    r"""Split into frequencies within a radius and beyond it, :math:`x = x_\text{low} + x_\text{high}`.

    :math:`x_\text{low} = F^{-1}(M \cdot F(x))` with :func:`radial_mask`'s ideal mask, per channel and frame. Nothing is
    clamped, so both parts may leave the range of ``x``. Differentiable.

    Args:
        x: ``(..., H, W)``, any float dtype.
        radius: In cycles per pixel.

    Returns:
        ``(low, high)``, each ``(..., H, W)``; float64 for float64 input, float32 otherwise.

    Raises:
        ValueError: a radius that is negative or not finite.

    Source: "Toward Diffusible High-Dimensional Latent Spaces" (2025).
    """
    x = _working(x)
    height, width = x.shape[-2:]
    mask = radial_mask(height, width, radius)[:, : width // 2 + 1].to(x.device)  # real input: half the plane suffices
    low = torch.fft.irfft2(torch.fft.rfft2(x) * mask, s=(height, width))
    return low, x - low


def radial_profile(x: Tensor, bins: int | None = None) -> tuple[Tensor, Tensor]:
    r"""Radially averaged power spectrum.

    The power :math:`|F(x)|^2 / (HW)` is averaged over all leading axes and over rings of frequencies; white noise of
    variance :math:`\sigma^2` has power :math:`\sigma^2` everywhere. Ring :math:`k = 1 \ldots` ``bins`` is centred at
    :math:`k / (2\,\text{bins})` cycles per pixel and :math:`1 / (2\,\text{bins})` wide, its lower border included; the
    image's mean and the spectrum's corners beyond the last ring belong to none. No window is applied, so images whose
    opposite borders differ show some extra power at high frequencies. Differentiable.

    Args:
        x: ``(..., H, W)``, any float dtype.
        bins: Number of rings, by default half the shorter side, which is also the most that none of them is empty.

    Returns:
        ``(frequency, power)``, each ``(bins,)``, on the device of ``x``.

    Raises:
        ValueError: NaN or Inf in ``x``, an empty ``x``, or a number of bins outside ``1 ... min(H, W) // 2``.
    """
    x = _working(x)
    height, width = x.shape[-2:]
    most = min(height, width) // 2
    bins = most if bins is None else bins
    if not 1 <= bins <= most:
        raise ValueError(f"bins must be in 1 ... {most} for shape {tuple(x.shape)}, got {bins!r}")
    if not x.numel():
        raise ValueError(f"no spectrum to measure: the tensor of shape {tuple(x.shape)} is empty")
    _check_finite(x)
    power = torch.fft.fft2(x, norm="ortho").abs().square().reshape(-1, height * width).mean(0)  # (H*W,)
    # Half-open rings; the small term keeps a frequency on a border in the outer one, whatever its rounding.
    ring = (_radii(height, width) * 2 * bins + 0.5 + 1e-9).long().clamp(max=bins + 1).flatten().to(x.device)
    size = torch.bincount(ring, minlength=bins + 2)[1 : bins + 1]
    total = power.new_zeros(bins + 2).index_add(0, ring, power)[1 : bins + 1]
    frequency = torch.arange(1, bins + 1, dtype=x.dtype, device=x.device) / (2 * bins)
    return frequency, total / size
