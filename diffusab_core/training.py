r"""The one training loop: AdamW, warm-up and cosine, clipping, EMA, atomic checkpoints and exact resume.

A run is a pure function of its settings: batches come from :func:`batch_indices` and random numbers from
:func:`generator_at`, both functions of ``(seed, step)`` alone. So nothing but weights, optimiser state and EMA has to
be saved (:mod:`diffusab_core.checkpoints`), and an interrupted run, once resumed, ends with the weights of an
uninterrupted one, bit for bit on a CPU.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from diffusab_core.checkpoints import load_checkpoint, save_checkpoint

# Called with the step (from 0) and that step's generator; returns the loss and, if wanted, named scalars to show.
LossFn = Callable[[int, torch.Generator], Tensor | tuple[Tensor, dict[str, Tensor]]]


class TrainingDiverged(RuntimeError):
    """The loss or the gradient was not finite; the weights are those before ``step``."""

    def __init__(self, what: str, value: float, step: int, samples: str = "") -> None:
        on = f", on {samples}" if samples else ""
        super().__init__(
            f"{what} is {value} at step {step}{on}; the weights were left as they were before that step. "
            "A lower learning rate or a smaller gradient clip usually helps."
        )
        self.step = step


@dataclass(frozen=True)
class Settings:
    """What a training run is, apart from its model, data and loss.

    Attributes:
        steps: Optimiser steps in all.
        seed: Seed of data order and noise.
        learning_rate: Peak of the schedule.
        final_learning_rate: Where the cosine ends.
        warmup: Steps of linear warm-up from zero.
        betas: AdamW's.
        weight_decay: AdamW's.
        clip: Largest gradient norm.
        ema_half_life: Steps after which a weight's share of the average has halved; ``None`` stands for
            min(5000, 5% of the steps).
    """

    steps: int
    seed: int = 0
    learning_rate: float = 1e-3
    final_learning_rate: float = 0.0
    warmup: int = 0
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0
    ema_half_life: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not 0 <= self.warmup < self.steps:
            raise ValueError(f"warmup must lie between 0 and steps - 1 = {self.steps - 1}, got {self.warmup}")
        if self.learning_rate <= 0 or self.clip <= 0:
            raise ValueError(f"learning_rate and clip must be positive, got {self.learning_rate} and {self.clip}")
        if self.ema_half_life is not None and self.ema_half_life <= 0:
            raise ValueError(f"ema_half_life must be positive, got {self.ema_half_life}")

    @property
    def half_life(self) -> float:
        return self.ema_half_life if self.ema_half_life is not None else min(5000.0, 0.05 * self.steps)


@dataclass
class Trained:
    """What a run leaves: the averaged weights, curves at the logged steps, snapshots, and its wall time."""

    ema: dict[str, Tensor]
    series: dict[str, list[float]] = field(default_factory=dict)
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    wall_time_s: float = 0.0
    resumed_from: int = 0


# ---------------------------------------------------------------------------------------------------------------------
# Functions of (seed, step)


@lru_cache(maxsize=2)
def _epoch_order(length: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(length)


def batch_indices(step: int, batch_size: int, length: int, seed: int) -> list[int]:
    """Dataset indices of one step: consecutive pieces of one random permutation per epoch.

    A batch may run over the end of an epoch into the next; nothing is dropped or seen twice within an epoch.
    """
    if batch_size < 1 or length < 1:
        raise ValueError(f"batch_size and length must be at least 1, got {batch_size} and {length}")
    places = range(step * batch_size, (step + 1) * batch_size)
    return [int(_epoch_order(length, seed, place // length)[place % length]) for place in places]


def generator_at(seed: int, step: int, device: str | torch.device = "cpu") -> torch.Generator:
    """The generator of one step's noise, independent between steps."""
    mixed = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)  # torch takes 63 bits
    return torch.Generator(device=device).manual_seed(mixed)


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up to the peak, then half a cosine down to the final rate at the last step."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / (settings.warmup + 1)
    progress = (step - settings.warmup) / max(1, settings.steps - 1 - settings.warmup)
    low, high = settings.final_learning_rate, settings.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * progress)) / 2


# ---------------------------------------------------------------------------------------------------------------------
# The loop


class _Average:
    """Exponential moving average of all float entries of a state dict (buffers too); the others are copied."""

    def __init__(self, module: nn.Module, half_life: float) -> None:
        self.weight = 1 - 0.5 ** (1 / half_life)
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, self.weight)
            else:
                self.state[name].copy_(value)


def train(
    module: nn.Module,
    loss_fn: LossFn,
    settings: Settings,
    *,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 500,
    identity: Mapping[str, Any] | None = None,
    log_every: int = 50,
    on_log: Callable[[int, dict[str, float]], None] | None = None,
    snapshot: Callable[[], dict[str, list[float]]] | None = None,
    snapshot_every: int = 500,
    samples: Callable[[int], str] | None = None,
    progress: bool = True,
) -> Trained:
    r"""Train the parameters of ``module`` that require a gradient.

    ``module`` ends with the last step's weights; the averaged ones are in the result's ``ema`` and go in by
    ``module.load_state_dict(trained.ema)``.

    Args:
        module: What is trained; on its device already.
        loss_fn: ``loss_fn(step, generator)`` returns the loss, or the loss and a dictionary of scalars. All of its
            randomness has to come from the generator and from the step, or a resumed run will differ.
        settings: See :class:`Settings`.
        checkpoint: File to save to and, if it exists, to resume from. ``None`` saves nothing.
        checkpoint_every: Steps between checkpoints; the end is always saved.
        identity: What else makes the run what it is (data, method, starting weights), as plain values: a checkpoint
            of another run is refused.
        log_every: Steps between entries of the curves.
        on_log: Called with the step and its scalars at every entry.
        snapshot: Called before the first step, every ``snapshot_every`` steps and after the last; what it returns is
            kept with the step in the result's ``snapshots``. It must leave the module as it found it.
        snapshot_every: Steps between snapshots.
        samples: ``samples(step)`` says in words what the step was computed on; part of the message when it fails.
        progress: Show a progress bar.

    Raises:
        TrainingDiverged: The loss or gradient is NaN or infinite; raised before the weights change. The newest
            checkpoint is then the last good one.
        ValueError: ``module`` has nothing to train.
        CheckpointError: The checkpoint belongs to another run, or cannot be read and there is none before it.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("no parameter of the module requires a gradient, there is nothing to train")
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    average = _Average(module, settings.half_life)
    result = Trained(ema=average.state, series={"step": [], "loss": [], "learning_rate": []})
    run = _plain(asdict(settings) | dict(identity or {}))
    if checkpoint is not None and (state := load_checkpoint(checkpoint, run)):
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        for name, value in state["ema"].items():
            average.state[name].copy_(value)
        result.series, result.snapshots = state["series"], state["snapshots"]
        result.wall_time_s, result.resumed_from = state["wall_time_s"], state["step"]

    before, clock = result.wall_time_s, time.perf_counter()
    device = parameters[0].device
    first = result.resumed_from
    if snapshot is not None and not result.snapshots:
        result.snapshots.append({"step": 0, **snapshot()})
    bar = tqdm(range(first, settings.steps), initial=first, total=settings.steps, unit="step", disable=not progress)
    for step in bar:
        loss, scalars = _loss(loss_fn, step, generator_at(settings.seed, step, device))
        _stop_unless_finite("the loss", loss.item(), step, samples)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, settings.clip).item()
        _stop_unless_finite("the gradient norm", norm, step, samples)
        rate = learning_rate(step, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        average.update(module)

        done = step + 1
        last = done == settings.steps
        if done % log_every == 0 or last:
            values = {"loss": loss.item(), "learning_rate": rate}
            values |= {name: float(value) for name, value in scalars.items()}
            for name, value in {"step": float(done), **values}.items():
                result.series.setdefault(name, []).append(value)
            bar.set_postfix({name: f"{value:.4g}" for name, value in values.items()})
            if on_log is not None:
                on_log(done, values)
        if snapshot is not None and (done % snapshot_every == 0 or last):
            result.snapshots.append({"step": done, **snapshot()})
        result.wall_time_s = before + time.perf_counter() - clock
        if checkpoint is not None and (done % checkpoint_every == 0 or last):
            save_checkpoint(
                checkpoint,
                {
                    "step": done,
                    "run": run,
                    "module": module.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "ema": average.state,
                    "series": result.series,
                    "snapshots": result.snapshots,
                    "wall_time_s": result.wall_time_s,
                },
            )
    return result


def _loss(loss_fn: LossFn, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    out = loss_fn(step, generator)
    return out if isinstance(out, tuple) else (out, {})


def _stop_unless_finite(what: str, value: float, step: int, samples: Callable[[int], str] | None) -> None:
    if not math.isfinite(value):
        raise TrainingDiverged(what, value, step, samples(step) if samples is not None else "")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from a checkpoint: tuples as lists."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
