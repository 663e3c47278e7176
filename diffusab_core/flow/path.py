r"""Rectified flow: the straight path between data and noise, its velocity, and how to integrate it.

Time runs from :math:`t = 0` (data :math:`x_0`) to :math:`t = 1` (noise :math:`\varepsilon \sim \mathcal N(0, I)`):

.. math:: x_t = (1 - t)\, x_0 + t\, \varepsilon, \qquad \frac{\mathrm d x_t}{\mathrm d t} = \varepsilon - x_0 .

A denoiser is trained to predict :math:`\varepsilon - x_0` from :math:`(x_t, t)`; the minimiser of the squared error is
the *marginal velocity* :math:`v(x, t) = \mathbb E[\varepsilon - x_0 \mid x_t = x]`, and the ordinary differential
equation :math:`\dot x = v(x, t)`, followed from :math:`t = 1` down to :math:`t = 0`, carries noise to data.

Sources: Liu, Gong and Liu 2023 (rectified flow); Esser et al. 2024 (logit-normal times); Skorokhodov et al. 2025, Eq. 3
(time shift).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffusab_core.files import SettingsError

Method = Literal["euler", "heun"]
METHODS: tuple[str, ...] = get_args(Method)

TimeLike = TypeVar("TimeLike", float, Tensor)
Velocity = Callable[..., Tensor]  # model(x, t) or model(x, t, y=y)


def interpolate(x: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
    r"""The point :math:`x_t = (1 - t)\, x + t\, \varepsilon` of the straight path from data to noise.

    Args:
        x: Data, ``(N, ...)``.
        noise: Noise :math:`\varepsilon` of the same shape.
        t: Times in [0, 1], one for each sample ``(N,)``, or one number for all.

    Raises:
        ValueError: Shapes that do not fit, or a time outside [0, 1].
    """
    _same_shape(x, noise)
    t = times_like(t, x)
    return (1 - t) * x + t * noise


def target(x: Tensor, noise: Tensor) -> Tensor:
    r"""The regression target :math:`\varepsilon - x = \mathrm d x_t / \mathrm d t` of data and noise of one shape."""
    _same_shape(x, noise)
    return noise - x


def logit_normal_times(
    n: int, location: float = 0.0, scale: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    r"""Training times :math:`t = \operatorname{sigmoid}(\mu + s\, z)`, :math:`z \sim \mathcal N(0, 1)`.

    A positive location moves the weight towards noise (:math:`t = 1`), a larger scale towards both ends; the median is
    :math:`\operatorname{sigmoid}(\mu)`. Source: Esser et al. 2024, Sec. 3.1.

    Args:
        n: How many.
        location: Mean :math:`\mu` of the logit.
        scale: Standard deviation :math:`s > 0` of the logit.
        generator: Source of randomness, and the device of the times; ``None``: torch's global stream on the CPU.

    Returns:
        Times in [0, 1], ``(n,)``, float32. A scale that is not positive is a ``SettingsError``.
    """
    if not scale > 0:
        raise SettingsError(f"the scale of the logit-normal distribution must be positive, got {scale}")
    device = "cpu" if generator is None else generator.device
    return torch.sigmoid(location + scale * torch.randn(n, generator=generator, device=device))


def time_shift(t: TimeLike, s: float) -> TimeLike:
    r"""Time shift of Skorokhodov et al. 2025, Eq. 3.

    .. math:: t' = 1 - \frac{1 - t}{s + (1 - s)(1 - t)} = \frac{s\,t}{(1 - t) + s\,t}

    The second form, which is the one computed, keeps both ends exact and shows what the shift does: it multiplies the
    odds :math:`t / (1 - t)` of noise by :math:`s`. Hence :math:`s = 1` is the identity, shifts compose by
    multiplication and :math:`1/s` undoes :math:`s`. A shift :math:`s > 1` spends more steps near noise.

    Raises:
        ValueError: A shift that is not positive and finite, or a time outside [0, 1].
    """
    if not 0 < s < float("inf"):
        raise SettingsError(f"the time shift must be positive and finite, got {s} (1 leaves time as it is)")
    check_times(t)
    return s * t / ((1 - t) + s * t)


def sampling_times(steps: int, shift: float = 1.0) -> Tensor:
    """The times that :func:`sample` visits, ``(steps + 1,)`` in float64: an even grid from 1 down to 0, shifted.

    A ``SettingsError`` where ``steps`` is not a positive integer, or the shift (:func:`time_shift`) not positive.
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise SettingsError(f"sampling needs a whole number of steps, at least 1, got {steps!r}")
    return time_shift(torch.arange(steps, -1, -1, dtype=torch.float64) / steps, shift)


@torch.no_grad()
def sample(
    model: Velocity,
    noise: Tensor,
    steps: int = 50,
    method: Method = "euler",
    shift: float = 1.0,
    *,
    y: Tensor | None = None,
    trajectory: bool = False,
    progress: bool = False,
    after_step: Callable[[], None] | None = None,
) -> Tensor:
    r"""Integrate :math:`\dot x = v(x, t)` from noise at :math:`t = 1` to data at :math:`t = 0`.

    With :math:`h = t_{k+1} - t_k < 0`, one step is

    .. math::
        \text{Euler:}\quad x_{k+1} &= x_k + h\, v(x_k, t_k) \\
        \text{Heun:}\quad  x_{k+1} &= x_k + \tfrac h2 \bigl(v(x_k, t_k) + v(x_k + h\, v(x_k, t_k),\, t_{k+1})\bigr)

    Euler's error falls as 1/steps with one call of the model per step, Heun's as 1/steps² with two. The state is kept
    in at least float32: half-precision noise makes the *model* see half precision, not the sum over steps.
    The model is called as it is, so put it into evaluation mode first.

    Args:
        model: Velocity, called ``model(x, t)`` with t of shape ``(N,)`` in at least float32, or ``model(x, t, y=y)``.
        noise: Start, ``(N, ...)``, standard normal.
        steps: At least 1.
        method: ``"euler"`` or ``"heun"``.
        shift: Time shift of the grid, see :func:`time_shift`.
        y: Conditioning, ``(N, ...)``, handed on by keyword when given.
        trajectory: Whether to return every state, the noise first, instead of the last one.
        progress: Whether to draw a progress bar.
        after_step: Called after each step, for a progress bar of your own.

    Returns:
        Samples ``(N, ...)`` in the dtype of ``noise``; with ``trajectory`` ``(steps + 1, N, ...)``, at the times
        :func:`sampling_times`.

    Raises:
        ValueError: A value that cannot be used, named, or a model that returns another shape than it was given.
    """
    if method not in METHODS:
        raise SettingsError(f"unknown sampling method {method!r}, choose one of {', '.join(METHODS)}")
    if not noise.is_floating_point():
        raise ValueError(f"noise must be a floating-point tensor, got {noise.dtype}")
    if y is not None and len(y) != len(noise):
        raise ValueError(f"conditioning y holds {len(y)} samples, noise holds {len(noise)}: they must agree")
    condition = {} if y is None else {"y": y}

    def velocity(x: Tensor, t: float) -> Tensor:
        v = model(x.to(noise.dtype), x.new_full((len(x),), t), **condition)
        if v.shape != x.shape:
            shapes = f"shape {tuple(v.shape)} for input of shape {tuple(x.shape)}"
            raise ValueError(f"the model returned {shapes} (split off a learned variance before sampling)")
        return v.to(x.dtype)

    x = noise.to(torch.promote_types(noise.dtype, torch.float32))
    times = sampling_times(steps, shift).tolist()
    states = [noise]
    for t, t_next in tqdm(pairwise(times), total=steps, desc=f"sampling ({method})", disable=not progress):
        h = t_next - t
        v = velocity(x, t)
        if method == "heun":
            v = (v + velocity(x + h * v, t_next)) / 2
        x = x + h * v
        if after_step is not None:
            after_step()
        if trajectory:
            states.append(x.to(noise.dtype))
    return torch.stack(states) if trajectory else x.to(noise.dtype)


@torch.no_grad()
def walk(model: Velocity, noise: Tensor, steps: int = 50, *, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Every state of Euler's method, and the clean sample that the model predicts there.

    The prediction :math:`\hat x = x_t - t\, v(x_t, t)` is the end of the straight line along the velocity, at
    :math:`t = 0` the state. The model is called once a step, so one that remembers its last call is followed too.

    Returns:
        States and predictions, ``(steps + 1, N, ...)`` each. Arguments and errors are those of :func:`sample`.
    """
    predictions = []

    def noting(x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        v = model(x, t, **condition)
        predictions.append(x - t[0] * v)
        return v

    states = sample(noting, noise, steps, y=y, trajectory=True)
    return states, torch.stack([*predictions, states[-1]])


def settled_share(predictions: Tensor) -> Tensor:
    r"""How much of what a walk ends with its predictions ``(steps + 1, N, ...)`` already say, ``(steps + 1,)``.

    With :math:`p_i` the predictions of step i, :math:`p` the last ones and :math:`\bar p` the mean of these over N,

    .. math:: 1 - \lVert p_i - p \rVert^2 / \lVert p - \bar p \rVert^2 :

    0 where each prediction is that mean, 1 at the end, below 0 where they are worse than it; NaN where all N end alike.
    Of one band of pictures (:func:`diffusab_core.spectrum.radial_bands`) it says when that band is settled.
    """
    end = predictions[-1]
    spread = (end - end.mean(0)).square().sum()
    return 1 - (predictions - end).flatten(1).square().sum(1) / spread


def states_at(trajectory: Tensor, t: float) -> Tensor:
    """The state of an Euler sampler at time t, on the straight segment between the two states around it.

    ``trajectory`` are the states ``(steps + 1, N, ...)`` of :func:`sample` without a shift. A time outside [0, 1] is a
    ``ValueError``.
    """
    check_times(t)
    position = (1 - t) * (len(trajectory) - 1)
    before = min(int(position), len(trajectory) - 2)
    return torch.lerp(trajectory[before], trajectory[before + 1], position - before)


def guided(
    conditional: Velocity, unconditional: Velocity, scale: float, interval: tuple[float, float] = (0.0, 1.0)
) -> Velocity:
    r"""Classifier-free guidance, on all channels:

    .. math:: v_w(x, t) = v(x, t) + w\, \bigl(v(x, t \mid y) - v(x, t)\bigr)

    for times in the interval; outside it, :math:`v(x, t \mid y)`, and ``unconditional`` is not called. A scale of 1
    is the conditional velocity, 0 the unconditional one.

    Args:
        conditional: ``conditional(x, t, y=y)``.
        unconditional: ``unconditional(x, t)``.
        scale: :math:`w`, at least 0.
        interval: First and last time at which to guide, 0 being data.

    Returns:
        A velocity to be called with times that are all alike, as :func:`sample` does.

    Raises:
        SettingsError: A negative scale, or an interval that is not in [0, 1] or is turned round.

    Source: Ho and Salimans 2022; Kynkäänniemi et al. 2024 (interval).
    """
    check_guidance(scale, interval)
    low, high = interval

    def velocity(x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        with_class = conditional(x, t, y=y)
        # On a GPU, reading a time waits for the device.
        if scale == 1 or ((low, high) != (0, 1) and not low <= t[0].item() <= high):
            return with_class
        return torch.lerp(unconditional(x, t), with_class, scale)

    return velocity


def check_times(t: Tensor | float) -> None:
    """Refuse times outside [0, 1]; tensors are looked at on the CPU only, as on a GPU it would wait for the device."""
    if isinstance(t, Tensor) and t.device.type != "cpu":
        return
    times = torch.as_tensor(t, dtype=torch.float64)
    outside = times[~((times >= 0) & (times <= 1))]  # NaN, too
    if len(outside):
        raise ValueError(f"time must lie in [0, 1] (0 is data, 1 is noise), got {outside[0].item():.6g}")


def times_like(t: Tensor | float, x: Tensor) -> Tensor:
    """Times like ``x`` in dtype and device, shaped ``(N, 1, ..., 1)`` or ``()`` so that they broadcast over it."""
    check_times(t)
    t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    if t.ndim == 0:
        return t
    if t.shape != x.shape[:1]:
        raise ValueError(f"times of shape {tuple(t.shape)} are not one for each sample of shape {tuple(x.shape)}")
    return t.reshape(-1, *(1,) * (x.ndim - 1))


def check_guidance(scale: float, interval: tuple[float, float]) -> None:
    """Refuse a scale or an interval that :func:`guided` cannot use."""
    low, high = interval
    if not 0 <= low <= high <= 1:
        raise SettingsError(f"the guidance interval must be two times 0 <= first <= last <= 1, got {interval}")
    if not 0 <= scale < float("inf"):
        raise SettingsError(f"the guidance scale must be finite and not negative, got {scale}")


def _same_shape(x: Tensor, noise: Tensor) -> None:
    if x.shape != noise.shape:
        raise ValueError(f"data of shape {tuple(x.shape)} and noise of shape {tuple(noise.shape)} must be alike")
