r"""Diffusion on discrete steps with a network that predicts the noise, as U-ViT is trained.

At step n of N = 1000, a latent is

.. math:: x_n = \sqrt{\bar\alpha_n}\, x_0 + \sqrt{1 - \bar\alpha_n}\, \varepsilon, \qquad
          \bar\alpha_n = \prod_{k \le n} (1 - \beta_k),

and the network is trained to predict :math:`\varepsilon` at steps that are drawn evenly. The step is told to it as the
time :math:`t = n / N`, so that data is at t = 0 and noise at t = 1, as in :mod:`diffusab_core.flow`, whose functions
those of this module mirror. Unlike there, a little of the data is left at t = 1: :math:`\bar\alpha_N = 0.0047`.

Sampling is diffusers' schedulers, which count steps from 0: theirs is n - 1.

Sources: Ho et al. 2020; Rombach et al. 2022 (the betas); Bao et al. 2023 (their use in U-ViT); Song et al. 2021 (DDIM);
Lu et al. 2022 (DPM-Solver++).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffusab_core.files import SettingsError

#: DPM-Solver++ of second order in several steps, and DDIM, which is its first order.
Method = Literal["dpm++", "ddim"]
METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class Schedule:
    r"""The noise schedule; the defaults are those of latent diffusion, which U-ViT takes over.

    .. math:: \sqrt{\beta_n} = \sqrt{\beta_1} + \frac{n - 1}{N - 1} \bigl(\sqrt{\beta_N} - \sqrt{\beta_1}\bigr)

    Attributes:
        steps: N.
        first_beta: Of the step next to the data.
        last_beta: Of the step next to noise.

    Raises:
        ValueError: Steps or betas that make no schedule.
    """

    steps: int = 1000
    first_beta: float = 0.00085
    last_beta: float = 0.012

    def __post_init__(self) -> None:
        if self.steps < 2 or not 0 < self.first_beta <= self.last_beta < 1:
            raise SettingsError(
                "a schedule has at least 2 steps and 0 < first_beta <= last_beta < 1, got "
                f"{self.steps}, {self.first_beta} and {self.last_beta}"
            )

    @property
    def config(self) -> dict[str, int | float | str]:
        """As diffusers' schedulers take it."""
        return {
            "num_train_timesteps": self.steps, "beta_start": self.first_beta, "beta_end": self.last_beta,
            "beta_schedule": "scaled_linear", "prediction_type": "epsilon",
        }  # fmt: skip


SCHEDULE = Schedule()


@lru_cache
def _kept(schedule: Schedule, device: torch.device) -> Tensor:
    r""":math:`\bar\alpha_n` of n from 1 to N, ``(N,)``; kept, as a copy to a GPU waits for the GPU."""
    roots = torch.linspace(schedule.first_beta**0.5, schedule.last_beta**0.5, schedule.steps, device="cpu")
    return (1 - roots.square()).cumprod(0).to(device)


# ---------------------------------------------------------------------------------------------------------------------
# Training


def training_times(n: int, generator: torch.Generator | None = None, schedule: Schedule = SCHEDULE) -> Tensor:
    """Times of steps drawn evenly from 1 to N, ``(n,)`` in float32: multiples of 1/N.

    Args:
        n: How many.
        generator: Source of randomness; the times are made on its device.
        schedule: See :class:`Schedule`.
    """
    device = "cpu" if generator is None else generator.device
    steps = torch.randint(1, schedule.steps + 1, (n,), generator=generator, device=device)
    return steps / schedule.steps


def interpolate(x: Tensor, noise: Tensor, t: Tensor, schedule: Schedule = SCHEDULE) -> Tensor:
    r"""The noisy latents :math:`\sqrt{\bar\alpha_n}\, x + \sqrt{1 - \bar\alpha_n}\, \varepsilon` of step n = N t.

    Args:
        x: Data, ``(N, ...)``.
        noise: Noise of the same shape.
        t: Times ``(N,)`` as of :func:`training_times`.
        schedule: See :class:`Schedule`.

    Raises:
        ValueError: Shapes that differ, or (looked at on the CPU only) a time that is not that of a step from 1 to N.
    """
    if x.shape != noise.shape or t.shape != x.shape[:1]:
        shapes = ", ".join(str(tuple(v.shape)) for v in (x, noise, t))
        raise ValueError(f"data, noise and times must be (N, ...), (N, ...) and (N,), got {shapes}")
    steps = (schedule.steps * t).round().long()
    if t.device.type == "cpu":
        wrong = (steps < 1) | (steps > schedule.steps) | ((steps - schedule.steps * t).abs() > 1e-2)
        if bool(wrong.any()):
            raise ValueError(
                f"times must be n/{schedule.steps} with n from 1 to {schedule.steps}, got {t[wrong][0].item():.6g}"
            )
    kept = _kept(schedule, x.device)[steps - 1].to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    return kept.sqrt() * x + (1 - kept).sqrt() * noise


def target(x: Tensor, noise: Tensor) -> Tensor:
    """What is to be predicted: the noise itself. Takes the data too, as :func:`diffusab_core.flow.target` does."""
    return noise


# ---------------------------------------------------------------------------------------------------------------------
# Sampling


def sampling_steps(steps: int, schedule: Schedule = SCHEDULE) -> list[int]:
    """The steps n that :func:`sample` visits, from N down, evenly spaced; after the last of them comes the data.

    Raises:
        ValueError: Not a whole number from 1 to N.
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= schedule.steps:
        raise SettingsError(
            f"sampling by noise prediction needs a whole number of steps from 1 to {schedule.steps}, got {steps!r}"
        )
    return [(2 * schedule.steps * k + steps) // (2 * steps) for k in range(steps, 0, -1)]  # N k / steps, rounded


@torch.no_grad()
def sample(
    model: Callable[..., Tensor],
    noise: Tensor,
    steps: int = 50,
    method: Method = "dpm++",
    *,
    y: Tensor | None = None,
    schedule: Schedule = SCHEDULE,
    progress: bool = False,
) -> Tensor:
    r"""From noise to data by a model that predicts the noise.

    DDIM goes from step n to the next one, m, through the data that the prediction stands for:

    .. math:: \hat x = \frac{x_n - \sqrt{1 - \bar\alpha_n}\, \hat\varepsilon}{\sqrt{\bar\alpha_n}}, \qquad
              x_m = \sqrt{\bar\alpha_m}\, \hat x + \sqrt{1 - \bar\alpha_m}\, \hat\varepsilon,

    and ends at :math:`\hat x`. DPM-Solver++ extrapolates :math:`\hat x` from the last two steps. Both are
    diffusers' ``DPMSolverMultistepScheduler``, of order 1 and 2, at steps given to it: its own "trailing" spacing makes
    a step too many at some numbers of steps, and ``DDIMScheduler`` goes to wrong noise levels wherever the number of
    steps does not divide 1000. Where it does divide 1000, the two are the same.

    Args:
        model: Noise, called ``model(x, t)`` with t = n / N of shape (N,), or ``model(x, t, y=y)``; one that
            :func:`diffusab_core.flow.guided` makes fits too.
        noise: Start, (N, ...), standard normal.
        steps: Number of steps, at most N of the schedule.
        method: ``"dpm++"`` or ``"ddim"``.
        y: Conditioning, (N, ...), handed on by keyword when given.
        schedule: See :class:`Schedule`.
        progress: Whether to draw a progress bar.

    Returns:
        Samples (N, ...) in the dtype of ``noise``.

    Raises:
        ValueError: For an unknown method, a number of steps that does not fit, or a model that returns another shape.
    """
    if method not in METHODS:
        raise SettingsError(f"unknown sampling method {method!r}, choose one of {', '.join(METHODS)}")
    grid = sampling_steps(steps, schedule)
    from diffusers import DPMSolverMultistepScheduler  # here, so that nothing else of this package loads diffusers

    solver = DPMSolverMultistepScheduler(
        **schedule.config, algorithm_type="dpmsolver++", solver_order=2 if method == "dpm++" else 1,
        final_sigmas_type="zero",
    )  # fmt: skip
    solver.set_timesteps(timesteps=[n - 1 for n in grid])
    condition = {} if y is None else {"y": y}
    x = noise.float()
    for n in tqdm(grid, desc=f"sampling ({method})", disable=not progress):
        predicted = model(x.to(noise.dtype), x.new_full((len(x),), n / schedule.steps), **condition)
        if predicted.shape != x.shape:
            raise ValueError(f"the model returned shape {tuple(predicted.shape)} for input of shape {tuple(x.shape)}")
        x = solver.step(predicted.float(), n - 1, x).prev_sample
    return x.to(noise.dtype)
