"""From noise to data, and what is known of the way exactly: rectified flow and its Gaussian closed forms.

Diffusion on discrete steps is in :mod:`diffusab_core.flow.ddpm`.
"""

from diffusab_core.flow.gaussian import (
    crossover_time,
    frequency_snr,
    gaussian_path,
    gaussian_velocity,
    least_loss,
    mean_least_loss,
)
from diffusab_core.flow.path import (
    METHODS,
    Method,
    Velocity,
    guided,
    interpolate,
    logit_normal_times,
    sample,
    sampling_times,
    settled_share,
    states_at,
    target,
    time_shift,
    walk,
)

__all__ = [
    "METHODS",
    "Method",
    "Velocity",
    "crossover_time",
    "frequency_snr",
    "gaussian_path",
    "gaussian_velocity",
    "guided",
    "interpolate",
    "least_loss",
    "logit_normal_times",
    "mean_least_loss",
    "sample",
    "sampling_times",
    "settled_share",
    "states_at",
    "target",
    "time_shift",
    "walk",
]
