r"""Samples of a denoiser, and how a trial is judged by them.

Samples are judged by two distances at every sampling shift (:mod:`diffusab_core.metrics.yardsticks`): the *gap* to
decoded real latents of other images, and the distance to the images themselves. Beside them stand the ruler of the
latent space, the error of the one-step estimate by frequency, and the distance of samples to the nearest training
latent.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from diffusab_core import metrics, spectrum
from diffusab_core.experiments.bench import Bench
from diffusab_core.experiments.denoiser import Denoiser, TrainedDenoiser
from diffusab_core.files import writing
from diffusab_core.methods import denoising
from diffusab_core.methods.denoising import Sampling
from diffusab_core.methods.reshaping import colour_noise, make_up
from diffusab_core.metrics import yardsticks
from diffusab_core.metrics.networks import to_levels
from diffusab_core.metrics.samples import quantise
from diffusab_core.metrics.sets import FeatureStatistics

Watch = Callable[[float, dict[str, Any]], None]


#: Times at which the one-step estimate is looked at, from nearly clean to nearly noise.
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
GRID, GRID_BYTES = 64, 100_000  # images in the file of samples, and its size at most
_HELD_OUT = 1024  # latents behind errors by frequency and neighbours
_DIGITS = 5  # of the numbers in curves


@dataclass(frozen=True)
class Drawn:
    """Samples of one sampling, and how far they are."""

    images: Tensor  #: The first :data:`GRID` of them, ``(N, 3, H, W)`` in [-1, 1]; of clips see :func:`to_pictures`
    latents: Tensor  #: Of all, raw, on the CPU
    distances: dict[str, float]  #: ``gap_NETWORK`` and ``frechet_NETWORK``
    statistics: dict[str, FeatureStatistics]


@torch.no_grad()
def draw(bench: Bench, denoiser: Denoiser, sampling: Sampling, features: Sequence[str] | None = None) -> Drawn:
    """Samples, decoded and judged batch by batch."""
    names = bench.trial.features if features is None else features
    statistics = {name: FeatureStatistics(keep=sampling.samples) for name in names}
    images, latents = [], []
    batches = denoising.sample_batches(denoiser.model, sampling, denoiser.shape, denoiser.num_classes)
    for places, x, _ in batches:
        z = denoiser.denormalise(x.float())
        made = quantise(bench.decode(z, places.start))
        latents.append(z.cpu())
        if places.start < GRID:
            images.append(made[: GRID - places.start].cpu())
        for name in names:
            statistics[name].update(bench.networks[name](made))
    distances = {}
    for name, found in statistics.items():
        for what in ("gap", "frechet"):
            distances[f"{what}_{name}"] = bench.reference(name, what).distance(found)
    return Drawn(to_pictures(torch.cat(images)), torch.cat(latents), distances, statistics)


def to_pictures(images: Tensor, columns: int = 8) -> Tensor:
    """Images as they are; of clips ``(N, 3, T, H, W)`` the first eight, each a row of as many frames, evenly chosen."""
    if images.ndim == 4:
        return images
    chosen = torch.linspace(0, images.shape[2] - 1, columns).round().long()
    return images[: GRID // columns, :, chosen].transpose(1, 2).flatten(0, 1)  # (rows * columns, 3, H, W)


@dataclass(frozen=True)
class Judged:
    """What a record says of a trial beside what was chosen."""

    metrics: dict[str, float]
    series: dict[str, list[float]]
    notes: str
    images: Tensor = field(repr=False)  #: Samples at the best shift, in [-1, 1]


@torch.no_grad()
def judge(bench: Bench, trained: TrainedDenoiser, *, watch: Watch | None = None) -> Judged:
    """All numbers of a trial. ``watch`` is told of each shift with its distances and samples.

    Numbers that name no shift are of the trial's ``base_shift``, those that begin with ``best_`` of the shift with the
    smallest gap in the first features. ``..._time_s`` are seconds.
    """
    trial, denoiser, kept = bench.trial, trained.denoiser, trained.record
    numbers, series = dict(kept.metrics), dict(kept.series)
    drawn: dict[float, Drawn] = {}
    first, clock = trial.features[0], _Clock(numbers)
    best = math.inf
    for shift in trial.shifts:
        found = draw(bench, denoiser, trial.sampling(shift))
        if watch is not None:
            watch(shift, found.distances | {"samples": found.images})
        gap = found.distances[f"gap_{first}"]
        if gap < best:
            best, best_shift = gap, shift
        drawn[shift] = found
        for old in drawn.keys() - {trial.base_shift, best_shift}:
            drawn[old] = replace(drawn[old], latents=found.latents[:0], images=found.images[:0])
        clock.tick("sampling")
    base = drawn[trial.base_shift]
    numbers |= base.distances | {f"best_{name}": value for name, value in drawn[best_shift].distances.items()}
    numbers |= {"best_shift": best_shift, "samples": trial.samples, "reference_samples": len(bench.real)}
    series |= {"shift": list(trial.shifts)}
    series |= {f"shift_{name}": [drawn[s].distances[name] for s in trial.shifts] for name in base.distances}
    numbers |= _precision_recall(bench, base)
    series |= _moments(base.statistics[first], first) | _moments(drawn[best_shift].statistics[first], first, "best_")
    found, curves = _spectra(bench, base.latents, drawn[best_shift].latents)
    numbers |= found
    series |= curves
    found, curves = _neighbours(bench, base.latents)
    numbers |= found
    series |= curves
    series |= _errors(bench, denoiser)
    clock.tick("judging")
    found, curves = _on_the_ruler(bench.ruler, first)
    numbers |= found
    series |= curves
    numbers |= {f"gap_floor_{name}": bench.floor(name) for name in trial.features[1:]}
    clock.tick("ruler")
    whole = ("step", "snapshot_step")  # which may have more digits
    series = {
        name: values if name in whole else [float(f"{value:.{_DIGITS}g}") for value in values]
        for name, values in series.items()
    }
    return Judged(numbers, series, _notes(bench), drawn[best_shift].images)


class _Clock:
    """Adds up seconds under ``PART_time_s``."""

    def __init__(self, numbers: dict[str, float]) -> None:
        self.numbers, self.last = numbers, time.perf_counter()

    def tick(self, part: str) -> None:
        name, now = f"{part}_time_s", time.perf_counter()
        self.numbers[name], self.last = self.numbers.get(name, 0.0) + now - self.last, now


def _precision_recall(bench: Bench, drawn: Drawn) -> dict[str, float]:
    """Against the images, over the first features."""
    name = bench.trial.features[0]
    neighbours = bench.reference(name, "frechet").neighbours
    mine = drawn.statistics[name].subset
    n = min(len(mine), len(neighbours), 10_000)
    if n <= 3:
        return {}
    precision, recall = metrics.sets.precision_recall(neighbours[:n], mine[:n])
    return {"precision": precision, "recall": recall}


def _moments(found: FeatureStatistics, name: str, prefix: str = "") -> dict[str, list[float]]:
    """Mean and the covariance's upper triangle, row by row, of a network with few features."""
    mean, covariance = found.mean(), found.covariance()
    if len(mean) > 128:
        return {}
    rows, columns = torch.triu_indices(len(mean), len(mean))
    upper = covariance[rows, columns].tolist()
    return {f"{prefix}features_mean_{name}": mean.tolist(), f"{prefix}features_covariance_{name}": upper}


def measure_energy(z: Tensor, block_size: int) -> list[float]:
    """Mean energy by zigzag rank of raw latents, over that of rank 0."""
    accumulator = spectrum.ProfileAccumulator(block_size)
    accumulator.update(z)
    return accumulator.profile("energy").tolist()


def real_energy(bench: Bench) -> list[float]:
    """What generated latents' energies, as :func:`train` tells them along the way, should become."""
    z = yardsticks.posterior_samples(bench.real, range(min(len(bench.real), bench.trial.samples)))
    return measure_energy(z, bench.trial.block_size)


def _spectra(bench: Bench, base: Tensor, best: Tensor) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Profiles of generated and real latents, and the ratio of their energies with channels normalised."""
    size = bench.trial.block_size
    real = yardsticks.posterior_samples(bench.real, range(min(len(bench.real), len(base))))
    energies = {"real": real, "generated": base, "best_generated": best}
    series = {f"{name}_energy": measure_energy(z, size) for name, z in energies.items()}
    numbers = {}
    for name, energy in list(series.items()):
        name = name.removesuffix("_energy")
        numbers[f"{name}_hf_share"] = spectrum.high_frequency_share(energy)
        upper = energy[(len(energy) + 1) // 2 :]
        numbers[f"{name}_hf_energy_ratio"] = sum(upper) / len(upper)
    normal = [bench.shown.normalise(z) for z in (real, base, best)]
    series["energy_ratio"] = yardsticks.energy_ratio(normal[1], normal[0], size).tolist()
    series["best_energy_ratio"] = yardsticks.energy_ratio(normal[2], normal[0], size).tolist()
    return numbers, series


def _neighbours(bench: Bench, made: Tensor) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Whether samples are nearer to training latents than real ones of other images: 21 quantiles of either."""
    shown, together = bench.shown, 8192  # at a time: ImageNet's would need 80 GB

    def nearest(z: Tensor) -> Tensor:
        found = torch.full((len(z),), math.inf)
        for start in range(0, len(shown), together):
            means, _, _ = shown.posterior(range(start, min(len(shown), start + together)))
            torch.minimum(found, yardsticks.nearest_distances(shown.normalise(z), shown.normalise(means)), out=found)
        return found

    held_out = yardsticks.posterior_samples(bench.real, range(min(len(bench.real), _HELD_OUT)))
    found = yardsticks.compare_nearest(nearest(made[:_HELD_OUT]), nearest(held_out))
    places = torch.linspace(0, 1, 21)
    series = {
        "nearest_samples": torch.quantile(found.samples, places).tolist(),
        "nearest_held_out": torch.quantile(found.held_out, places).tolist(),
    }
    return {"nearest_ratio": found.ratio, "nearest_share": found.share}, series


def _errors(bench: Bench, denoiser: Denoiser) -> dict[str, list[float]]:
    """Relative error of the one-step estimate at each rank, for denoisers that predict the velocity."""
    if bench.trial.denoising().prediction == "noise":
        return {}
    latents = make_up(bench.held_out, bench.trial.reshaping, like=bench.latents)
    trained_on = make_up(bench.latents.at(bench.trial.steps), bench.trial.reshaping)
    places = range(min(len(latents), _HELD_OUT))
    x = trained_on.normalise(yardsticks.posterior_samples(latents, places)).to(bench.device)
    noise = colour_noise(denoiser.model, denoising.draw_noise(bench.trial.seed, places, latents.shape, "errors").to(x))

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        y = torch.full((len(x_t),), denoiser.num_classes, device=x_t.device) if denoiser.num_classes else None
        with torch.autocast(x_t.device.type, torch.bfloat16, enabled=bench.trial.precision == "bf16"):
            return denoiser.model(x_t, t, y).float()

    kept = denoiser.shape[0] - denoiser.white_channels
    found = yardsticks.relative_errors(
        velocity, x, noise, TIMES, back=lambda z: z[:, :kept], block_size=bench.trial.block_size
    )
    rows = {f"error_{t:g}": row.tolist() for t, row in zip(TIMES, found, strict=True)}
    return {"error_time": list(TIMES)} | rows


def _on_the_ruler(ruler: Mapping[str, Any], name: str) -> tuple[dict[str, float], dict[str, list[float]]]:
    numbers = {f"gap_floor_{name}": ruler["floor"], f"gap_noise_{name}": ruler["noise"]}
    # Under the words of the records that came before there was a gap.
    numbers |= {"decoded_latents_frechet": ruler["floor_frechet"], "decoded_noise_frechet": ruler["noise_frechet"]}
    series = {
        "ruler_first_rank": [float(band[0]) for band in ruler["bands"]],
        "ruler_last_rank": [float(band[1]) for band in ruler["bands"]],
        "ruler_permuted": ruler["permuted"],
        "ruler_zeroed": ruler["zeroed"],
    }
    return numbers, series


def _notes(bench: Bench) -> str:
    trial = bench.trial
    where = trial.reference_images or trial.images
    what = {"photos": "other crops of the same photographs", "leaves": "other dead leaves"}.get(where, where)
    what = f"other clips of {where}" if trial.frames is not None else what
    words = " and ".join(f"{name} (weights {bench.networks[name].digest})" for name in trial.features)
    return (
        f"Fréchet distances over {words}, images rounded to 8 bits: gap_ to {len(bench.real)} decoded real latents of "
        f"{what}, frechet_ to these images; {trial.samples} samples of {trial.sampling_steps} steps."
    )


def write_samples(path: str | os.PathLike, images: Tensor, columns: int = 8) -> Path:
    """A grid of images ``(N, 3, H, W)`` in [-1, 1] as one WebP file of at most :data:`GRID_BYTES`."""
    grid = make_grid(images[:GRID], columns, padding=2, pad_value=1.0)
    pixels = Image.fromarray(to_levels(grid).byte().permute(1, 2, 0).cpu().numpy())
    for quality in (90, 80, 70, 55, 40, 25, 10):
        with writing(path) as partial:
            pixels.save(partial, "webp", quality=quality, method=6)
        if Path(path).stat().st_size <= GRID_BYTES:
            return Path(path)
        pixels = pixels if quality > 40 else pixels.resize([side * 3 // 4 for side in pixels.size])
    return Path(path)
