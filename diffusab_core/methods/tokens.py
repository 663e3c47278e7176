r"""What a denoiser of patch p sees of latents: tokens on a grid, their spectrum, and how far neighbours tell one.

Latents are in the network's coordinates: normalised, behind masks and filters, ``(N, C, h, w)`` or ``(N, C, T, h, w)``.
A token holds D = p² C numbers; what is turned about inside a token, by the same orthogonal map in all, changes nothing
here. All means are over latents; what is the same in all latents is taken off, for it costs a network nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffusab_core.denoisers.parts import grid, patchify
from diffusab_core.spectrum import whole_dct

NUMBERS, REACH, _CHUNK = 64, 3, 256  # of a token that are predicted; tokens along a side of a window; latents at a time


def token_field(u: Tensor, patch: int) -> Tensor:
    """Latents to tokens on their grid, ``(N, D, h/p, w/p)`` or ``(N, D, T, h/p, w/p)``.

    A side that is not a multiple of the patch is a ``ValueError``.
    """
    sides = grid(tuple(u.shape[2:]), patch)
    return patchify(u, patch).transpose(1, 2).unflatten(-1, sides)


def spread_tokens(field: Tensor, count: int) -> Tensor:
    """Tokens ``(count, D)`` spread evenly over all latents and places, all of them where there are fewer."""
    flat = field.flatten(2).transpose(1, 2).flatten(0, 1)
    return flat[torch.arange(min(count, len(flat))) * len(flat) // min(count, len(flat))]


# ---------------------------------------------------------------------------------------------------------------------
# Spectra of a field


def field_energy(field: Tensor) -> Tensor:
    r"""Variance of each DCT coefficient over the whole grid, mean over the numbers of a token, ``grid`` float64."""
    axes = field.ndim - 2
    total = torch.zeros(2, *field.shape[1:], dtype=torch.float64)
    for some in field.split(_CHUNK):
        d = whole_dct(some, axes).cpu().double()
        total += torch.stack([d.sum(0), d.square().sum(0)])
    mean, square = total / len(field)
    return (square - mean.square()).clamp_min(0).mean(0)


def upper_share(energy: Tensor) -> float:
    r"""Of the energy outside the zero frequency, the share in the upper half of a grid's frequencies.

    Frequency :math:`(k_1, k_2, \dots)` of a grid of sides :math:`n_i` has the place :math:`\sum_i k_i / n_i`; the upper
    half lies beyond the middle of all places, and what lies on it counts half. For a square block this is about the
    half of the zigzag order, and white noise has :math:`\tfrac12 n / (n - 1)` of n frequencies. NaN where nothing
    varies but the zero frequency, or nothing at all.
    """
    axes = [torch.arange(n, dtype=torch.float64) / n for n in energy.shape]
    place = sum(torch.meshgrid(*axes, indexing="ij"))
    middle = sum((n - 1) / n for n in energy.shape) / 2
    upper = (place > middle + 1e-9).double() + (place - middle).abs().le(1e-9) / 2
    varying = energy.sum() - energy.flatten()[0]
    return float((energy * upper).sum() / varying) if varying > 0 else math.nan


def grid_radius(sides: Sequence[int]) -> Tensor:
    r"""Frequency :math:`\rho = \sqrt{\sum_i (k_i / n_i)^2}` of each coefficient, in half-oscillations per position."""
    axes = [torch.arange(n, dtype=torch.float64) / n for n in sides]
    return sum(axis.square() for axis in torch.meshgrid(*axes, indexing="ij")).sqrt()


# ---------------------------------------------------------------------------------------------------------------------
# Linear prediction


class Windows(NamedTuple):
    """Covariances of all windows of tokens, each on half of the latents, ``(M · D, M · D)`` float64, token by token."""

    fitted: Tensor  # on latents 0, 2, 4, ...: predictors are made of this
    judged: Tensor  # on latents 1, 3, 5, ...: their errors are read off this
    numbers: int  # D, or as many principal components of a token as are kept
    centre: int  # which token of the window is predicted
    spectrum: Tensor  # eigenvalues of the tokens' covariance, all of them, ascending

    @property
    def kept(self) -> float:
        """Share of the tokens' variance in the numbers that are predicted."""
        return float(self.spectrum[-self.numbers :].sum() / self.spectrum.sum())


def measure_windows(field: Tensor, reach: int = REACH, numbers: int = NUMBERS) -> Windows:
    """How the tokens of windows of ``reach`` along each side go together, over all latents and places of the window.

    Pooled over places, as weights shared by all tokens see it: what differs from place to place averages out. Where a
    side is shorter than the window, the window is as long as the side. A token of more numbers than ``numbers`` is
    described by as many principal components of all tokens.
    """
    if len(field) < 4:
        raise ValueError(f"covariances of tokens want 4 latents or more, got {len(field)}")
    flat = field.flatten(2).transpose(1, 2)  # (N, L, D)
    mean = flat.mean((0, 1))
    total = torch.zeros(2 * flat.shape[2:], dtype=torch.float64)
    for some in flat.split(_CHUNK):
        centred = (some - mean).flatten(0, 1).cpu().double()
        total += centred.T @ centred
    values, vectors = torch.linalg.eigh(total / flat[..., 0].numel())
    kept = min(numbers, len(values))
    basis = vectors[:, -kept:].to(field)
    turned = ((flat - mean) @ basis).transpose(1, 2).unflatten(-1, field.shape[2:])  # (N, D, *grid)
    sides = [min(reach, n) for n in field.shape[2:]]
    fitted, judged = (_covariance(turned[half::2], sides) for half in (0, 1))
    strides = [math.prod(sides[i + 1 :]) for i in range(len(sides))]
    centre = sum((side // 2) * stride for side, stride in zip(sides, strides, strict=True))
    return Windows(fitted, judged, kept, centre, values.clamp_min(0))


def _covariance(field: Tensor, sides: Sequence[int]) -> Tensor:
    tokens, numbers = math.prod(sides), field.shape[1]
    total = torch.zeros(tokens * numbers, dtype=torch.float64)
    square, count = torch.zeros(2 * (tokens * numbers,), dtype=torch.float64), 0
    for some in field.split(_CHUNK):
        for axis, side in enumerate(sides):
            some = some.unfold(2 + axis, side, 1)
        axes = len(sides)  # (n, D, *places, *window) to (n · places, window · D)
        order = [0, *range(2, 2 + axes), *range(2 + axes, 2 + 2 * axes), 1]
        rows = some.permute(order).reshape(-1, tokens * numbers).cpu().double()
        total += rows.sum(0)
        square += rows.T @ rows
        count += len(rows)
    mean = total / count
    return square / count - torch.outer(mean, mean)


def prediction_error(windows: Windows, t: float, *, own: bool, others: bool) -> float:
    r"""Error of the best linear estimate of a clean token, over its variance, from tokens at noise t.

    With :math:`\Sigma` of the fitted half, c the token that is wanted and y those that are seen, at noise t,

    .. math:: W = (1-t)\,\Sigma_{cy} \bigl((1-t)^2 \Sigma_{yy} + t^2 I\bigr)^{-1}, \qquad
              \frac{\mathbb E\,\|x_c - W y\|^2}{\mathbb E\,\|x_c\|^2},

    whose expectations are those of the judged half, so that a predictor of more weights than there are latents gains
    nothing. 1 where nothing is seen.

    Args:
        windows: Of :func:`measure_windows`.
        t: Noise, in (0, 1].
        own: Whether the token is seen itself, at noise t.
        others: Whether the others of its window are.
    """
    d, m = windows.numbers, len(windows.fitted) // windows.numbers
    places = torch.arange(m * d)
    inside = places // d == windows.centre
    seen = places[(inside & own) | (~inside & others)]
    c = places[inside]
    if not len(seen):
        return 1.0

    def parts(covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        noisy = (1 - t) ** 2 * covariance[seen][:, seen] + t**2 * torch.eye(len(seen), dtype=torch.float64)
        return covariance[c][:, c], (1 - t) * covariance[c][:, seen], noisy

    _, cross, noisy = parts(windows.fitted)
    weights = torch.cholesky_solve(cross.T, torch.linalg.cholesky(noisy)).T  # (D, seen)
    variance, cross, noisy = parts(windows.judged)
    error = variance.trace() - 2 * (weights * cross).sum() + (weights @ noisy * weights).sum()
    return float(error / variance.trace())


def surprise(windows: Windows, times: Sequence[float]) -> float:
    """:func:`prediction_error` of a token from its neighbours alone, averaged over times."""
    return sum(prediction_error(windows, t, own=False, others=True) for t in times) / len(times)


def context(windows: Windows, times: Sequence[float]) -> float:
    """Of the error that is left of a noisy token by itself, the share that its neighbours take away, over times."""
    left = [prediction_error(windows, t, own=True, others=True) for t in times]
    alone = [prediction_error(windows, t, own=True, others=False) for t in times]
    return 1 - sum(a / b for a, b in zip(left, alone, strict=True)) / len(times)


def participation(windows: Windows) -> float:
    r"""The share of a token's directions that take part: 1 for white tokens, 1 / D where one direction holds all.

    .. math:: \frac{(\operatorname{tr} \Sigma)^2}{D \operatorname{tr} \Sigma^2}
    """
    values = windows.spectrum
    return float(values.sum().square() / (len(values) * values.square().sum()))
