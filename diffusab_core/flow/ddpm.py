r"""Diffusion on discrete steps with a network that predicts the noise, as U-ViT is trained.

At step n of N = 1000, a latent is

.. math:: x_n = \sqrt{\bar\alpha_n}\, x_0 + \sqrt{1 - \bar\alpha_n}\, \varepsilon, \qquad
          \bar\alpha_n = \prod_{k \le n} (1 - \beta_k), \qquad
          \sqrt{\beta_n} = \sqrt{\beta_1} + \frac{n - 1}{N - 1} \bigl(\sqrt{\beta_N} - \sqrt{\beta_1}\bigr),

and the network is trained to predict :math:`\varepsilon` at steps that are drawn evenly. The step is told to it as the
time :math:`t = n / N`, so that data is at t = 0 and noise at t = 1, as in :mod:`diffusab_core.flow`, whose functions
those of this module mirror. Unlike there, a little of the data is left at t = 1: :math:`\bar\alpha_N = 0.0047`.

Sources: Ho et al. 2020; Rombach et al. 2022 (the betas); Bao et al. 2023 (their use in U-ViT); Song et al. 2021 (DDIM);
Lu et al. 2022 (DPM-Solver++).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffusab_core.files import SettingsError
from diffusab_core.flow.path import Velocity

#: DPM-Solver++ of second order in several steps, and DDIM, which is its first order.
Method = Literal["dpm++", "ddim"]
METHODS: tuple[str, ...] = get_args(Method)

#: N, and the betas next to the data and next to noise: those of latent diffusion, which U-ViT takes over.
STEPS, FIRST_BETA, LAST_BETA = 1000, 0.00085, 0.012


@cache
def _kept(device: torch.device) -> Tensor:
    r""":math:`\bar\alpha_n` of n from 1 to N, ``(N,)``; kept, as a copy to a GPU waits for the GPU."""
    roots = torch.linspace(FIRST_BETA**0.5, LAST_BETA**0.5, STEPS, device="cpu")
    return (1 - roots.square()).cumprod(0).to(device)


def training_times(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Times of n steps drawn evenly from 1 to N, ``(n,)`` in float32, on the generator's device: multiples of 1/N."""
    device = "cpu" if generator is None else generator.device
    return torch.randint(1, STEPS + 1, (n,), generator=generator, device=device) / STEPS


def interpolate(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    r"""The noisy latents :math:`\sqrt{\bar\alpha_n}\, x + \sqrt{1 - \bar\alpha_n}\, \varepsilon` of step n = N t.

    Args:
        x: Data, ``(N, ...)``.
        noise: Noise of the same shape.
        t: Times ``(N,)`` as of :func:`training_times`.

    Raises:
        ValueError: Shapes that differ, or (looked at on the CPU only) a time that is not that of a step from 1 to N.
    """
    if x.shape != noise.shape or t.shape != x.shape[:1]:
        shapes = ", ".join(str(tuple(v.shape)) for v in (x, noise, t))
        raise ValueError(f"data, noise and times must be (N, ...), (N, ...) and (N,), got {shapes}")
    steps = (STEPS * t).round().long()
    if t.device.type == "cpu":
        wrong = (steps < 1) | (steps > STEPS) | ((steps - STEPS * t).abs() > 1e-2)
        if wrong.any():
            raise ValueError(f"times must be n/{STEPS} with n from 1 to {STEPS}, got {t[wrong][0].item():.6g}")
    kept = _kept(x.device)[steps - 1].to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    return kept.sqrt() * x + (1 - kept).sqrt() * noise


def target(x: Tensor, noise: Tensor) -> Tensor:
    """What is to be predicted: the noise itself. Takes the data too, as :func:`diffusab_core.flow.target` does."""
    return noise


def sampling_steps(steps: int) -> list[int]:
    """The steps n that :func:`sample` visits, from N down, evenly spaced; after the last of them comes the data.

    ``steps`` that are not a whole number from 1 to N are a ``SettingsError``.
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= STEPS:
        raise SettingsError(
            f"sampling by noise prediction needs a whole number of steps from 1 to {STEPS}, got {steps!r}"
        )
    return [(2 * STEPS * k + steps) // (2 * steps) for k in range(steps, 0, -1)]  # N k / steps, rounded


@torch.no_grad()
def sample(
    model: Velocity,
    noise: Tensor,
    steps: int = 50,
    method: Method = "dpm++",
    *,
    y: Tensor | None = None,
    progress: bool = False,
    after_step: Callable[[], None] | None = None,
) -> Tensor:
    r"""From noise to data by a model that predicts the noise.

    DDIM goes from step n to the next one, m, through the data that the prediction stands for, and ends there:

    .. math:: \hat x = \frac{x_n - \sqrt{1 - \bar\alpha_n}\, \hat\varepsilon}{\sqrt{\bar\alpha_n}}, \qquad
              x_m = \sqrt{\bar\alpha_m}\, \hat x + \sqrt{1 - \bar\alpha_m}\, \hat\varepsilon .

    DPM-Solver++ extrapolates :math:`\hat x` from the last two steps. Both are diffusers'
    ``DPMSolverMultistepScheduler``, of order 1 and 2, at steps given to it (it counts from 0): its own "trailing"
    spacing makes a step too many at some numbers of steps, and ``DDIMScheduler`` goes to wrong noise levels wherever
    the number of steps does not divide 1000. Where it does, the two are the same.

    Args:
        model: Noise, called as by :func:`diffusab_core.flow.sample`, with t = n / N; may be guided.
        noise: Start, ``(N, ...)``, standard normal.
        steps: From 1 to 1000.
        method: ``"dpm++"`` or ``"ddim"``.
        y: Conditioning, ``(N, ...)``, handed on by keyword when given.
        progress: Whether to draw a progress bar.
        after_step: Called after each step, for a progress bar of your own.

    Returns:
        Samples ``(N, ...)`` in the dtype of ``noise``.

    Raises:
        ValueError: An unknown method, an impossible number of steps, or a model that returns another shape.
    """
    if method not in METHODS:
        raise SettingsError(f"unknown sampling method {method!r}, choose one of {', '.join(METHODS)}")
    grid = sampling_steps(steps)
    from diffusers import DPMSolverMultistepScheduler  # here, so that nothing else of this package loads diffusers

    solver = DPMSolverMultistepScheduler(
        num_train_timesteps=STEPS,
        beta_start=FIRST_BETA,
        beta_end=LAST_BETA,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        algorithm_type="dpmsolver++",
        solver_order=2 if method == "dpm++" else 1,
        final_sigmas_type="zero",
    )
    solver.set_timesteps(timesteps=[n - 1 for n in grid])
    condition = {} if y is None else {"y": y}
    x = noise.float()
    for n in tqdm(grid, desc=f"sampling ({method})", disable=not progress):
        predicted = model(x.to(noise.dtype), x.new_full((len(x),), n / STEPS), **condition)
        if predicted.shape != x.shape:
            raise ValueError(f"the model returned shape {tuple(predicted.shape)} for input of shape {tuple(x.shape)}")
        x = solver.step(predicted.float(), n - 1, x).prev_sample
        if after_step is not None:
            after_step()
    return x.to(noise.dtype)
