r"""Frequency profiles of images and latents, of one tensor or of a stream: how strong each DCT frequency is.

Source: Skorokhodov et al. 2025, "Improving the Diffusability of Autoencoders", Eq. 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffusab_core.spectrum.dct import (
    block_dct,
    check_block_size,
    check_choice,
    check_finite,
    to_double,
    whole_dct,
    zigzag_order,
)

STATISTICS = ("mean_ratio", "median_ratio", "ratio_of_means", "energy")

# The histogram behind a streamed median: neighbouring bin centres differ by 1%, so a median read from it is within 0.5%
# of the exact one. Ratios below the range (zeros too) share an underflow bin, those above it an overflow bin.
MEDIAN_RESOLUTION = 0.01
MEDIAN_RANGE = (1e-8, 1e8)


def _flat_blocks(x: Tensor, block_size: int) -> Tensor:
    """``(..., H, W)`` to ``(blocks, B*B)`` coefficients, row-major; refuses what has no profile."""
    d = block_dct(x, block_size).reshape(-1, block_size**2)
    if not len(d):
        raise ValueError(f"no block to measure: the tensor of shape {tuple(x.shape)} is empty")
    check_finite(x)
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

    ``x`` is ``(..., H, W)``, by convention RGB in [0, 1] and latents as the encoder gives them. The profile is
    ``(B*B,)`` in zigzag order, on the device of ``x``, and its first entry is 1.

    Raises:
        ValueError: An unknown statistic, NaN or Inf (the items are named), sides that are not multiples of the block
            size, or :math:`D_{00} = 0` in every block.

    Source: Skorokhodov et al. 2025, Eq. 1.
    """
    check_choice("statistic", statistic, STATISTICS)
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

    Attributes:
        blocks: Seen so far, the excluded ones among them.
        excluded_blocks: Those with :math:`D_{00} = 0`, which ``"mean_ratio"`` and ``"median_ratio"`` leave out.
    """

    _STEP = math.log1p(MEDIAN_RESOLUTION)
    _LOW = math.floor(math.log(MEDIAN_RANGE[0]) / _STEP) - 1  # the underflow bin
    _HIGH = math.ceil(math.log(MEDIAN_RANGE[1]) / _STEP) + 1  # the overflow bin

    def __init__(self, block_size: int = 8) -> None:
        check_block_size(block_size)
        self.block_size = block_size
        self._bins = self._HIGH - self._LOW + 1
        self.blocks = self.excluded_blocks = 0
        # Coefficients stay row-major until a profile is asked for. Rows: sum |D|, sum D^2, sum |D / D_00|.
        self._sums = torch.zeros(3, block_size**2, dtype=torch.float64)
        self._histogram = torch.zeros(block_size**2, self._bins, dtype=torch.int64)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        r"""Add every block of ``x``, ``(..., H, W)``; raises as :func:`frequency_profile` and then adds nothing."""
        d = to_double(_flat_blocks(x, self.block_size))  # (blocks, B*B)
        amplitude = d.abs()
        kept = amplitude[amplitude[:, 0] != 0]
        ratio = kept / kept[:, :1]
        index = (ratio.log() / self._STEP).round().clamp(self._LOW, self._HIGH).long() - self._LOW
        index += torch.arange(self.block_size**2, device=d.device) * self._bins
        counts = torch.bincount(index.flatten(), minlength=self._histogram.numel())
        self._sums += torch.stack([amplitude.sum(0), d.square().sum(0), ratio.sum(0)]).cpu()
        self._histogram += counts.reshape(self._histogram.shape).cpu()
        self.blocks += len(d)
        self.excluded_blocks += len(d) - len(kept)

    def profile(self, statistic: str = "ratio_of_means") -> Tensor:
        r"""The :func:`frequency_profile` of everything seen so far, ``(B*B,)`` float64 on the CPU, in zigzag order.

        A ``ValueError`` for an unknown statistic, nothing seen yet, or :math:`D_{00} = 0` in every block.
        """
        check_choice("statistic", statistic, STATISTICS)
        used = self.blocks - self.excluded_blocks
        if not self.blocks:
            raise ValueError("no profile yet: update() has not been called")
        if not used:
            raise _no_mean(self.blocks)
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
    check_block_size(block_size, least=2)
    return energy[(block_size**2 + 1) // 2 :].mean()


def high_frequency_energy_ratio(x: Tensor, block_size: int = 8) -> Tensor:
    r"""Mean energy of the upper zigzag half over the energy of :math:`D_{00}`.

    .. math:: \frac{\frac{1}{|K|} \sum_{k \in K} \langle D_k^2 \rangle}{\langle D_{00}^2 \rangle},
        \qquad K = \{k : k \ge B^2 / 2\}

    with :math:`k` the zigzag rank and :math:`\langle\cdot\rangle` the mean over the blocks of ``(..., H, W)``.
    Differentiable. A ``ValueError`` for a block size below 2 or as :func:`frequency_profile`.
    """
    return _upper_half(frequency_profile(x, block_size, "energy"), block_size)


def high_frequency_share(energy: Tensor | Sequence[float]) -> float:
    r"""Of the energy outside :math:`D_{00}`, the share that lies in the upper zigzag half.

    .. math:: \frac{\sum_{k \ge B^2/2} \langle D_k^2 \rangle}{\sum_{k \ge 1} \langle D_k^2 \rangle}

    Unlike :func:`high_frequency_energy_ratio` it does not change when a constant is added to the signal, so it compares
    signals with different offsets, RGB in [0, 1] with latents for instance. White noise has
    :math:`\lfloor B^2/2 \rfloor / (B^2 - 1)`, a signal that does not vary inside blocks 0.

    Args:
        energy: An ``"energy"`` profile in zigzag order, ``(B²,)``, of at least four ranks; its scale does not matter.
    """
    energy = torch.as_tensor(energy)
    if energy.ndim != 1 or len(energy) < 4:
        raise ValueError(f"expected one profile (B²,) with B at least 2, got shape {tuple(energy.shape)}")
    varying = energy[1:].sum()
    return float(energy[(len(energy) + 1) // 2 :].sum() / varying) if varying > 0 else 0.0


def temporal_shares(x: Tensor) -> Tensor:
    r"""Of the energy of clips that changes in time, the share at each rank of a DCT over frames: ``(T - 1,)``, float64.

    .. math:: \frac{\langle D_k^2 \rangle}{\sum_{j = 1}^{T - 1} \langle D_j^2 \rangle}, \qquad k = 1, \dots, T - 1

    with means over items, channels and positions; rank :math:`k` is a frequency of :math:`k / 2T` cycles per frame.
    White noise has :math:`1 / (T - 1)` at each, still clips 0. The papers look at spectra of single frames only.

    Args:
        x: Clips or latents of clips ``(N, C, T, H, W)`` of at least two frames.
    """
    if x.ndim != 5 or x.shape[2] < 2:
        raise ValueError(f"expected clips (N, C, T, H, W) of at least two frames, got shape {tuple(x.shape)}")
    energy = whole_dct(x.movedim(2, -1), axes=1).cpu().double().square().flatten(0, -2).mean(0)  # (T,)
    constant, energy = energy[0], energy[1:]
    # What is left of still clips is rounding.
    return energy / energy.sum() if energy.sum() > 1e-12 * constant else torch.zeros_like(energy)
