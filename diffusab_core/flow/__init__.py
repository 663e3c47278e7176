"""From noise to data, and what is known of the way exactly: rectified flow, Gaussian closed forms, DDPM."""

from diffusab_core.flow.ddpm import (
    METHODS,
    SCHEDULE,
    Method,
    Schedule,
    interpolate,
    sample,
    sampling_steps,
    target,
    training_times,
)
from diffusab_core.flow.gaussian import (
    check_times,
    crossover_time,
    frequency_snr,
    gaussian_path,
    gaussian_velocity,
    least_loss,
    mean_least_loss,
    times_like,
)
from diffusab_core.flow.path import (
    TimeLike,
    Velocity,
    guided,
    logit_normal_times,
    sampling_times,
    time_shift,
)

__all__ = [
    "METHODS",
    "SCHEDULE",
    "Method",
    "Schedule",
    "TimeLike",
    "Velocity",
    "check_times",
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
    "sampling_steps",
    "sampling_times",
    "target",
    "time_shift",
    "times_like",
    "training_times",
]
