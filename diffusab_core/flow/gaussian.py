r"""What is known of the flow exactly: velocity, path and least loss of Gaussian data, signal and noise by frequency,
the spectrum that Euler's method makes, and a gain that changes the loss and no picture.

``energy`` stands for variances :math:`\lambda > 0`, ``(K,)``, of data on the scale on which they are diffused.
Variances that are not positive, where they matter, and times outside [0, 1] are refused with a ``ValueError``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from diffusab_core.flow.path import check_times, sampling_times, times_like
from diffusab_core.spectrum.bands import radii


def gaussian_velocity(x: Tensor, t: Tensor | float, mean: Tensor | float, variance: Tensor | float) -> Tensor:
    r"""Exact marginal velocity for data :math:`x_0 \sim \mathcal N(m, \operatorname{diag} \sigma^2)`.

    :math:`x_t = (1-t) x_0 + t \varepsilon` is Gaussian with mean :math:`(1-t) m` and variance
    :math:`V_t = (1-t)^2 \sigma^2 + t^2`, and so are its joint laws with :math:`\varepsilon` (covariance :math:`t`) and
    with :math:`x_0` (covariance :math:`(1-t)\sigma^2`). Conditioning both on :math:`x_t` and subtracting gives

    .. math::
        v(x, t) = \mathbb E[\varepsilon - x_0 \mid x_t = x]
                = -m + \frac{t - (1-t)\,\sigma^2}{(1-t)^2 \sigma^2 + t^2}\, \bigl(x - (1-t)\, m\bigr).

    Args:
        x: Points, ``(N, ...)``.
        t: Times in [0, 1], ``(N,)`` or one number.
        mean: :math:`m`, broadcastable to ``x``.
        variance: :math:`\sigma^2 > 0`, broadcastable to ``x``.
    """
    t = times_like(t, x)
    return _slope(_positive(variance, x), t) * (x - (1 - t) * mean) - mean


def gaussian_path(noise: Tensor, t: Tensor | float, mean: Tensor | float, variance: Tensor | float) -> Tensor:
    r"""Where the flow of :func:`gaussian_velocity` that starts in ``noise`` at :math:`t = 1` is at time :math:`t`.

    The equation is linear, and its solution keeps each point at its own number of standard deviations:

    .. math:: x(t) = (1-t)\, m + \sqrt{(1-t)^2 \sigma^2 + t^2}\; x(1), \qquad x(0) = m + \sigma\, x(1).

    The arguments are those of :func:`gaussian_velocity`.
    """
    t = times_like(t, noise)
    return (1 - t) * mean + torch.sqrt((1 - t) ** 2 * _positive(variance, noise) + t**2) * noise


def least_loss(energy: Tensor, t: Tensor | float) -> Tensor:
    r"""Least squared error of the velocity of each coefficient, :math:`\lambda / ((1-t)^2 \lambda + t^2)`.

    For Gaussian data of variance :math:`\lambda` this is the variance of :math:`\varepsilon - x` once
    :math:`x_t = (1-t)\,x + t\,\varepsilon` is known; for other data of that variance no linear predictor is better.

    It is 1 at t = 0, where the noise is unknown, :math:`\lambda` at t = 1, where the data are, and largest,
    :math:`1 + \lambda`, at :math:`t = \lambda / (1 + \lambda)`, where the state says nothing of the velocity.

    Returns:
        ``(K,)`` for one time, ``(T, K)`` for times ``(T,)``.
    """
    energy = _positive(energy, energy)
    check_times(t)
    t = torch.as_tensor(t, dtype=energy.dtype, device=energy.device)[..., None]
    return energy / ((1 - t) ** 2 * energy + t**2)


def mean_least_loss(energy: Tensor, location: float = 0.0, scale: float | None = 1.0) -> Tensor:
    r"""The same, ``(K,)``, averaged over training times: what a linear predictor can reach for each coefficient.

    .. math:: \bar\ell(\lambda) = \mathbb E_t\, \ell_t(\lambda), \qquad
              t = \operatorname{sigmoid}(\mu + s z),\ z \sim \mathcal N(0, 1),

    by the trapezoidal rule in z on eight standard deviations; of uniform times it is :math:`\tfrac\pi2 \sqrt\lambda`.

    Args:
        energy: :math:`\lambda`.
        location: :math:`\mu` of the logit-normal times.
        scale: Their s > 0; ``None`` stands for times that are uniform in [0, 1].
    """
    if scale is None:
        return math.pi / 2 * _positive(energy, energy).sqrt()
    if not scale > 0:
        raise ValueError(f"the scale of the logit-normal distribution must be positive, got {scale}")
    return _mean_over_times(lambda t: least_loss(energy.double(), t), location, scale).to(energy.dtype)


def linear_bounds(covariance: Tensor, least: float = 1e-6) -> tuple[float, float]:
    r"""Mean least losses of two linear predictors, each coefficient alone and all channels of a frequency together.

    .. math:: \frac{1}{CK} \sum_{k, c} \bar\ell\bigl((\Sigma_k)_{cc}\bigr) \;\ge\;
              \frac{1}{CK} \sum_{k, i} \bar\ell\bigl(\mathrm{eig}_i \Sigma_k\bigr)

    Args:
        covariance: :math:`\Sigma_k` of the channels at each frequency, ``(K, C, C)``, see
            :func:`diffusab_core.spectrum.bands.second_moments`.
        least: Variances below this count as this.
    """
    alone = covariance.diagonal(dim1=1, dim2=2).flatten().clamp_min(least)
    together = torch.linalg.eigvalsh(covariance).flatten().clamp_min(least)
    return mean_least_loss(alone).mean().item(), mean_least_loss(together).mean().item()


def mismatch_loss(believed: Tensor, energy: Tensor) -> Tensor:
    r"""What a linear denoiser that has learned one spectrum loses on data with another, beyond the least loss.

    For variance :math:`\lambda` the best linear velocity is :math:`a_t(\lambda)\, x_t` with

    .. math:: a_t(\lambda) = \frac{t - (1-t)\lambda}{(1-t)^2\lambda + t^2}, \qquad
              \delta(\lambda', \lambda) = \mathbb E_t \bigl(a_t(\lambda') - a_t(\lambda)\bigr)^2
              \bigl((1-t)^2 \lambda + t^2\bigr),

    since the error of the best predictor is uncorrelated with the state; times are logit-normal of location 0 and scale
    1, as in :func:`mean_least_loss`.

    Args:
        believed: :math:`\lambda'`, the variances that were learned, ``(K,)``.
        energy: :math:`\lambda`, those of the data, ``(K,)``.

    Returns:
        ``(K,)``, at least 0, and 0 only where both agree.
    """
    lam, other = (_positive(v.double(), v.double()) for v in (energy, believed))

    def excess(t: Tensor) -> Tensor:
        t = t[:, None]
        return (_slope(other, t) - _slope(lam, t)).square() * ((1 - t) ** 2 * lam + t**2)

    return _mean_over_times(excess).to(energy.dtype)


def sampled_energy(energy: Tensor, steps: int, shift: float = 1.0) -> Tensor:
    r"""Variances ``(K,)`` that Euler's method makes with the exact velocity of zero-mean Gaussian data.

    The velocity is linear, :math:`v = a_t x`, so that each step multiplies a coefficient by :math:`1 + h\,a_t`:

    .. math:: \hat\lambda = \prod_i \bigl(1 + (t_{i+1} - t_i)\, a_{t_i}\bigr)^2, \qquad
              a_t = \frac{t - (1-t)\lambda}{(1-t)^2\lambda + t^2} .

    Steps and shift are those of :func:`diffusab_core.flow.sample`; many steps give ``energy`` back.
    """
    lam = _positive(energy.double(), energy.double())
    made = torch.ones_like(lam)
    for t, following in pairwise(sampling_times(steps, shift)):
        made = made * (1 + (following - t) * _slope(lam, t))
    return made.square().to(energy.dtype)


def tilted(energy: Tensor, tilt: float, block_size: int = 8) -> Tensor:
    r"""A spectrum after the gain :math:`g_k = (1 + \rho_k)^{-\kappa}`, brought back to unit variance.

    .. math:: \lambda'_k \propto g_k^2\, \lambda_k, \qquad \frac{1}{B^2} \sum_k \lambda'_k = 1 .

    Args:
        energy: :math:`\lambda_k` in zigzag order, ``(B²,)``; another number of them is a ``ValueError``.
        tilt: :math:`\kappa`; positive makes the spectrum steeper, negative flatter.
        block_size: B.
    """
    if energy.shape != (block_size**2,):
        raise ValueError(f"expected {block_size**2} energies of a block of {block_size}, got {tuple(energy.shape)}")
    bent = energy.double() * (1 + radii(block_size)) ** (-2 * tilt)
    return (bent / bent.mean()).to(energy.dtype)


def frequency_snr(energy: Tensor, t: Tensor | float) -> Tensor:
    r"""Signal-to-noise ratio of each frequency of :math:`x_t`, ``(K,)``, or ``(T, K)`` at times ``(T,)`` in (0, 1].

    .. math:: \mathrm{SNR}_k(t) = \left(\frac{1 - t}{t}\right)^2 E_k

    with :math:`E_k` the mean energy of the data's orthonormal coefficients of rank k; white noise of unit variance has
    energy one in each of them, whatever the orthonormal transform.
    """
    t = torch.as_tensor(t, dtype=energy.dtype, device=energy.device)
    if not ((t > 0) & (t <= 1)).all():
        raise ValueError(f"the signal-to-noise ratio is finite for t in (0, 1] only, got {t.tolist()}")
    return ((1 - t) / t).square()[..., None] * energy


def crossover_time(energy: Tensor) -> Tensor:
    r"""When a frequency has as much signal as noise, :math:`t_k = \sqrt{E_k} / (1 + \sqrt{E_k})`, ``(K,)``.

    Sampling runs from t = 1 down; a frequency becomes visible about when t passes its crossover. Where all crossovers
    coincide, as for white data, nothing is generated before anything else.
    """
    amplitude = energy.sqrt()
    return amplitude / (1 + amplitude)


def _slope(variance: Tensor, t: Tensor | float) -> Tensor:
    r""":math:`a_t` of the best linear velocity :math:`a_t x_t` of zero-mean data of this variance."""
    return (t - (1 - t) * variance) / ((1 - t) ** 2 * variance + t**2)


def _mean_over_times(loss: Callable[[Tensor], Tensor], location: float = 0.0, scale: float = 1.0) -> Tensor:
    """Mean of losses ``(T, K)`` over logit-normal times, ``(K,)``, by the trapezoidal rule."""
    z = torch.linspace(-8, 8, 801, dtype=torch.float64)
    weight = torch.exp(-z.square() / 2)[:, None]
    return (weight * loss(torch.sigmoid(location + scale * z))).sum(0) / weight.sum()


def _positive(variance: Tensor | float, x: Tensor) -> Tensor:
    variance = torch.as_tensor(variance, dtype=x.dtype, device=x.device)
    if not (variance > 0).all():
        raise ValueError(f"variances must be positive, the smallest is {variance.min().item()}")
    return variance
