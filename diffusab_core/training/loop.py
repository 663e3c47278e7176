"""The one training loop: AdamW, warm-up and cosine, clipping, EMA, atomic checkpoints and exact resume.

A run is a pure function of its settings: order and random numbers are functions of ``(seed, step)`` alone
(:mod:`diffusab_core.training.order`). So an interrupted run, once resumed from weights, optimiser state and EMA
(:mod:`diffusab_core.training.state`), ends with the weights of an uninterrupted one, bit for bit on a CPU.

The same loop runs in one process or in many (:mod:`diffusab_core.training.world`), and cuts a large batch into parts.
Every part draws the noise of the whole batch and takes its share, so that neither the number of processes nor that of
parts changes a loss by more than rounding.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from diffusab_core.files import DiffusabError, SettingsError
from diffusab_core.training import world as worlds
from diffusab_core.training.order import generator_at
from diffusab_core.training.state import Store
from diffusab_core.training.world import World

LossFn = Callable[..., Tensor | tuple[Tensor, dict[str, Tensor]]]  # see :func:`train`


class TrainingDiverged(DiffusabError, RuntimeError):
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
        accumulation: Parts of a step's batch that each process computes one after the other. It saves memory and is no
            part of what the run is: an interrupted run may go on with another.
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
    accumulation: int = 1

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 <= self.warmup < self.steps:
            raise SettingsError(f"warmup must lie between 0 and steps - 1 = {self.steps - 1}, got {self.warmup}")
        for name in ("learning_rate", "clip", "ema_half_life", "accumulation"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingsError(f"{name} must be positive, got {value}")

    @property
    def half_life(self) -> float:
        return self.ema_half_life if self.ema_half_life is not None else min(5000.0, 0.05 * self.steps)


@dataclass
class Trained:
    """What a run leaves, in every process."""

    ema: dict[str, Tensor]  #: The averaged weights, whole and on the CPU
    series: dict[str, list[float]]  #: Curves at the logged steps
    snapshots: list[dict[str, Any]]
    wall_time_s: float
    resumed_from: int  #: A step; 0 for a run from the start
    diverged_at: int | None = None  #: The step before which it ended, with ``keep_diverged``


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up to the peak, then half a cosine down to the final rate at the last step."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / (settings.warmup + 1)
    progress = (step - settings.warmup) / max(1, settings.steps - 1 - settings.warmup)
    low, high = settings.final_learning_rate, settings.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * progress)) / 2


class _Average:
    """Exponential moving average of all float entries of a state dict, buffers too; the others are copied."""

    def __init__(self, module: nn.Module, half_life: float) -> None:
        self.weight = 1 - 0.5 ** (1 / half_life)
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        for name, value in module.state_dict().items():
            kept, new = worlds.local(self.state[name]), worlds.local(value)
            if new.is_floating_point():
                kept.lerp_(new, self.weight)
            else:
                kept.copy_(new)


def _reads_late(device: torch.device) -> bool:
    """Whether reading a number waits for the device, so that losses are looked at now and then only."""
    return device.type == "cuda"


class _Watch:
    """Stops a run whose loss or gradient norm is not finite, with the weights as they were before that step.

    Numbers that are read late are looked at by the device itself: from the first bad step on the optimiser's kernel
    changes nothing (``found_inf``, PyTorch's hook for scaled gradients, which the fused one has).
    """

    def __init__(self, optimiser: torch.optim.Optimizer, late: bool, samples: Callable[[int], str] | None) -> None:
        self.optimiser, self.late, self.samples = optimiser, late, samples
        self.unread: list[tuple[int, Tensor]] = []

    def add(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Take notice of a step before the optimiser makes it."""
        values = torch.stack([loss.float(), norm.float()])
        self.unread.append((step, values))
        if not self.late:
            return self.read()
        bad = (~values.isfinite()).any().float()
        self.optimiser.found_inf = torch.maximum(getattr(self.optimiser, "found_inf", bad), bad)

    def read(self) -> None:
        """Raise :class:`TrainingDiverged` if a step since the last call was bad."""
        if not self.unread:
            return
        values = torch.stack([pair for _, pair in self.unread]).tolist()  # one wait for all
        for (step, _), pair in zip(self.unread, values, strict=True):
            for what, value in zip(("the loss", "the gradient norm"), pair, strict=True):
                if not math.isfinite(value):
                    raise TrainingDiverged(what, value, step, "" if self.samples is None else self.samples(step))
        self.unread.clear()


def train(
    module: nn.Module,
    loss_fn: LossFn,
    settings: Settings,
    *,
    world: World | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 500,
    identity: Mapping[str, Any] | None = None,
    log_every: int = 50,
    on_log: Callable[[int, dict[str, float]], None] | None = None,
    snapshot: Callable[..., dict[str, Any]] | None = None,
    snapshot_every: int = 500,
    snapshot_average: bool = False,
    watch: Callable[[int, dict[str, Any]], None] | None = None,
    samples: Callable[[int], str] | None = None,
    keep_diverged: bool = False,
    progress: bool = True,
) -> Trained:
    """Train the parameters of ``module`` that require a gradient.

    ``module`` ends with the last step's weights; ``module.load_state_dict(trained.ema)`` puts in the averaged ones
    where it is not sharded. With several processes each of them calls this function with the same arguments; the batch
    of a step falls into ``accumulation * world.size`` equal parts.

    Args:
        module: On its device already, and sharded (:func:`diffusab_core.training.world.shard`) if there are several
            processes. Compile it in place (``module.compile()``), or the names in ``ema`` begin with ``_orig_mod.``.
        loss_fn: ``loss_fn(step, generator)`` returns the loss, or the loss and a dictionary of scalars; all of its
            randomness has to come from step and generator. Where there are several parts it is called once for each,
            as ``loss_fn(step, generator, part=(index, parts))`` with the generator in the same state, and returns means
            over that part: it draws what the whole batch needs and takes its share. All parts have to use the same
            parameters, or processes wait for each other for ever.
        world: This process among those of the run; ``None`` for one process, refused under torchrun.
        checkpoint: Folder to save to and, if there is a checkpoint in it, to resume from; the same for every process.
        checkpoint_every: Steps between checkpoints; the end is always saved.
        identity: What else makes the run what it is (data, method, starting weights), as plain values: a checkpoint
            of another run is refused.
        log_every: Steps between entries of the curves.
        on_log: Called with the step and its scalars at every entry, in the first process.
        snapshot: Called before the first step, every ``snapshot_every`` steps and after the last, in every process;
            what it returns in the first is kept with the step. It must leave the module as it found it.
        snapshot_average: Whether to call ``snapshot`` with the averaged weights, whole and on the CPU.
        watch: Called in the first process with the step and what was found, at every entry of the curves and for every
            snapshot; a run that goes on tells it of the earlier ones first. For whoever looks on while it trains.
        samples: ``samples(step)`` says in words what the step was computed on, for the message when it fails.
        keep_diverged: Whether a run that diverges ends there, with the weights before that step, instead of failing:
            for studies that count such runs.

    Raises:
        TrainingDiverged: The loss or gradient is NaN or infinite, in any part, without ``keep_diverged``; raised in
            every process, on CUDA at the next entry of the curves, snapshot or checkpoint. The newest checkpoint is the
            last good one.
        SettingsError: An interval of less than one step.
        ValueError: ``module`` has nothing to train, or is not sharded although there are several processes.
        CheckpointError: The checkpoint belongs to another run, or cannot be read and there is none before it; or
            another process trains in the folder.
    """
    intervals = {"log_every": log_every, "snapshot_every": snapshot_every, "checkpoint_every": checkpoint_every}
    for name, every in intervals.items():
        if every < 1:
            raise SettingsError(f"{name} must be at least 1, got {every}")
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("no parameter of the module requires a gradient, there is nothing to train")
    world = worlds.alone(parameters[0].device) if world is None else world
    if worlds.is_sharded(module) is not (world.size > 1):
        found = "not sharded" if world.size > 1 else "sharded"
        raise ValueError(f"the module is {found}, but the run is of {world.size} processes: shard it in its world")
    late = _reads_late(world.device)
    optimiser = torch.optim.AdamW(
        parameters, settings.learning_rate, settings.betas, weight_decay=settings.weight_decay, fused=late or None
    )
    guard, average = _Watch(optimiser, late, samples), _Average(module, settings.half_life)
    run = asdict(settings) | dict(identity or {})
    del run["accumulation"]
    store = None if checkpoint is None else Store(Path(checkpoint), run, world)
    with nullcontext() if store is None else store.sole():
        saved = store and store.load(module, optimiser, average.state)
        saved = saved or {"step": 0, "series": {}, "snapshots": [], "wall_time_s": 0.0}
        first, series, snapshots = saved["step"], saved["series"], saved["snapshots"]

        watch = watch if watch is not None and world.is_main else lambda step, values: None
        for row in zip(*series.values(), strict=True):
            values = dict(zip(series, row, strict=True))
            watch(int(values.pop("step")), values)
        for shot in snapshots:
            watch(shot["step"], {name: value for name, value in shot.items() if name != "step"})

        def take_snapshot(step: int) -> None:
            weights = [worlds.unsharded(average.state)] if snapshot_average else []
            found = snapshot(*weights)
            snapshots.append({"step": step, **found})
            watch(step, found)

        started = time.perf_counter() - saved["wall_time_s"]
        if snapshot is not None and not snapshots:
            take_snapshot(0)
        shown = progress and world.is_main
        bar = tqdm(range(first, settings.steps), initial=first, total=settings.steps, unit="step", disable=not shown)
        diverged_at = None
        try:
            for step in bar:
                optimiser.zero_grad(set_to_none=True)
                loss, scalars = _backward(module, loss_fn, step, settings, world)
                guard.add(step, loss, worlds.clip_gradients(parameters, settings.clip))
                rate = optimiser.param_groups[0]["lr"] = learning_rate(step, settings)
                optimiser.step()
                average.update(module)

                done = step + 1
                logs, shows, saves = (done % every == 0 or done == settings.steps for every in intervals.values())
                if logs or shows or saves:
                    guard.read()
                if logs:
                    values = {"loss": loss.item(), "learning_rate": rate} | _means(scalars, world)
                    for name, value in {"step": float(done), **values}.items():
                        series.setdefault(name, []).append(value)
                    bar.set_postfix({name: f"{value:.4g}" for name, value in values.items()})
                    if on_log is not None and world.is_main:
                        on_log(done, values)
                    watch(done, values)
                if snapshot is not None and shows:
                    take_snapshot(done)
                if store is not None and saves:
                    kept = {"series": series, "snapshots": snapshots, "wall_time_s": time.perf_counter() - started}
                    store.save(module, optimiser, average.state, {"step": done, **kept})
        except TrainingDiverged as error:
            if not keep_diverged:
                raise
            diverged_at = error.step
        spent = time.perf_counter() - started
        return Trained(worlds.unsharded(average.state), series, snapshots, spent, first, diverged_at)


def _backward(
    module: nn.Module, loss_fn: LossFn, step: int, settings: Settings, world: World
) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Leave the gradient of one step; returns the loss of the whole batch and the scalars of this process's parts."""
    number = settings.accumulation
    parts, own = number * world.size, range(world.rank * number, (world.rank + 1) * number)
    losses, scalars = [], []
    for index in own:
        worlds.reduce_gradients(module, now=index == own[-1])
        part = {"part": (index, parts)} if parts > 1 else {}
        out = loss_fn(step, generator_at(settings.seed, step, world.device), **part)
        loss, named = out if isinstance(out, tuple) else (out, {})
        (loss / number).backward()
        losses.append(loss.detach())
        scalars.append(named)
    return worlds.mean(torch.stack(losses).mean(), world), scalars


def _means(scalars: list[dict[str, Tensor]], world: World) -> dict[str, float]:
    """Means over all parts of all processes."""
    if not scalars[0]:
        return {}
    values = torch.tensor([[float(value) for value in named.values()] for named in scalars], dtype=torch.float64)
    return dict(zip(scalars[0], worlds.mean(values.mean(0), world).tolist(), strict=True))
