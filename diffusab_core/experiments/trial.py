r"""One denoiser on the latents of one autoencoder, trained and judged: the unit of most of the book's comparisons.

:func:`train` here and :func:`~diffusab_core.experiments.judging.judge` are what the run notebook ``denoiser`` calls,
:func:`train_in` what torchrun calls before it, :func:`run` does all without a notebook.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from diffusab_core import spectrum
from diffusab_core.experiments import records
from diffusab_core.experiments.bench import Bench, Trial
from diffusab_core.experiments.denoiser import Denoiser, TrainedDenoiser, train_denoiser
from diffusab_core.experiments.judging import Watch, draw, judge, measure_energy, write_samples
from diffusab_core.training.world import World


def train(
    bench: Bench, folder: str | os.PathLike, *, size: records.Size = "laptop", watch: Watch | None = None
) -> TrainedDenoiser:
    """The denoiser, kept in the run's folder as ``denoiser/`` with its checkpoints.

    The same call goes on where an earlier one was cut off, and only reads back what is finished. Every process of the
    bench's world makes it. Snapshots are taken where one process trains alone.

    Args:
        watch: As :func:`diffusab_core.training.train` calls it; a snapshot has ``samples``, images in [-1, 1], and
            ``generated_energy`` beside its numbers.
    """
    trial, seen = bench.trial, {}

    def snapshot(denoiser: Denoiser) -> dict[str, float]:
        draws = trial.sampling(trial.base_shift, trial.snapshot_samples, trial.snapshot_steps)
        drawn = draw(bench, denoiser, draws, trial.features[:1])
        seen.update(samples=drawn.images, generated_energy=measure_energy(drawn.latents, trial.block_size))
        return drawn.distances | {"hf_share": spectrum.high_frequency_share(seen["generated_energy"])}

    def tell(step: int, values: dict[str, Any]) -> None:
        watch(step, values | (seen if "hf_share" in values else {}))

    return train_denoiser(
        trial.denoising(bench.device), bench.latents, Path(folder) / "denoiser", size=size, world=bench.world,
        checkpoint_every=trial.checkpoint_every, log_every=max(10, trial.steps // 100),
        snapshot=snapshot if trial.snapshots and bench.world.size == 1 else None, snapshots=trial.snapshots,
        watch=None if watch is None else tell, progress=bench.progress,
    )  # fmt: skip


def train_in(parameters: Mapping[str, Any], folder: str | os.PathLike, world: World, size: records.Size) -> None:
    """What each process of torchrun does for a run whose folder lies in a store: the notebook then reads and judges."""
    cache = Path(folder).absolute().parent.parent / "cache"
    bench = Bench(Trial.pick(parameters), cache, world=world, progress=world.is_main)
    train(bench, folder, size=size)


def run(
    trial: Trial,
    folder: str | os.PathLike,
    cache: str | os.PathLike,
    *,
    size: records.Size = "laptop",
    device: str | torch.device = "cpu",
    workers: int = 0,
    progress: bool = True,
) -> records.RunRecord:
    """Train and judge; ``record.json`` in the folder is written last, ``samples.webp`` beside it."""
    bench = Bench(trial, cache, device=device, workers=workers, progress=progress)
    record = records.start("denoiser", parameters=json.loads(json.dumps(asdict(trial))), seed=trial.seed, size=size,
                           data=trial.data, device=bench.device)  # fmt: skip
    found = judge(bench, train(bench, folder, size=size))
    record.metrics, record.series, record.notes = found.metrics, found.series, found.notes
    write_samples(Path(folder) / "samples.webp", found.images)
    done = record.finish()
    done.write(Path(folder) / "record.json")
    return done
