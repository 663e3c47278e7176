"""One denoiser recipe on the latents of one autoencoder, and everything that is measured of it.

What record_denoisers.py, record_freqwarm.py and record_gpu_denoisers.py have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from diffusab_core import data, denoisers, experiments, spectrum
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.experiments import records
from diffusab_core.latents import Latents
from diffusab_core.latents.identity import weights_digest
from diffusab_core.methods import denoising
from diffusab_core.methods.denoising import Denoising, Sampling
from diffusab_core.metrics import samples
from diffusab_core.metrics.offline import OfflineFeatures, offline_features

SHIFTS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Bench:
    """What is the same for all arms.

    Attributes:
        images: The reference images, others than the denoisers are trained on.
        words: What they are, for the notes.
        resolution: Their side in pixels.
        recipe: Fields of :class:`~diffusab_core.methods.denoising.Denoising`.
        final: How samples are drawn in the end.
        quick: How they are drawn along the way and for every time shift.
        block_size: Of the spectra, in latent pixels.
        size: For the records.
        device: Where to compute.
        snapshots: How often to measure along the way, besides before the first step.
        progress: Show progress bars.
    """

    images: Callable[[], Dataset]
    words: str
    resolution: int
    recipe: Mapping[str, Any]
    final: Sampling
    quick: Sampling
    block_size: int = 8
    size: records.Size = "laptop"
    device: str = "cpu"
    snapshots: int = 3
    progress: bool = False

    @cached_property
    def floors(self) -> dict[str, dict[str, float]]:
        """What :func:`floor` has found, by the digest of the autoencoder's weights: arms and seeds share them."""
        return {}

    @cached_property
    def features(self) -> OfflineFeatures:
        return offline_features().to(self.device)

    @cached_property
    def reference(self) -> samples.Reference:
        images = self.images()
        places = range(len(images))
        batches = (data.stack(images, places[start : start + 64]) for start in range(0, len(images), 64))
        return samples.reference(batches, self.features, progress=self.progress)


def judged(bench: Bench, images: Iterable[Tensor]) -> dict[str, float]:
    few = bench.final.samples <= bench.features.dimensions  # in a check of this code only
    found = samples.evaluate_samples(
        images, bench.reference, bench.features, few=few, precision_recall=bench.final.samples, progress=False
    )
    # The network knows leaves and five photographs: which of them a crop resembles says nothing of quality.
    return {name: value for name, value in found.items() if not name.startswith("inception")}


def distance(
    bench: Bench, denoiser: experiments.Denoiser, autoencoder: Autoencoder, sampling: Sampling
) -> dict[str, float]:
    images = (x for _, x, _ in experiments.generate(denoiser, autoencoder, sampling))
    return {"frechet_offline": judged(bench, images)["frechet_offline"]}


@torch.no_grad()
def floor(bench: Bench, autoencoder: Autoencoder, latents: Latents) -> dict[str, float]:
    """What a perfect denoiser would reach: decoded posterior samples of training images. And decoded noise."""
    known = weights_digest(autoencoder)
    if known in bench.floors:
        return bench.floors[known]
    device = next(autoencoder.parameters()).device
    generator = torch.Generator().manual_seed(0)

    def decoded(noise: bool) -> Iterator[Tensor]:
        for start in range(0, bench.final.samples, 64):
            mean, std, _ = latents.posterior(range(start, min(bench.final.samples, start + 64)))
            drawn = torch.randn(mean.shape, generator=generator)
            z = latents.denormalise(drawn) if noise else mean + std * drawn
            yield autoencoder.decode(z.to(device)).clamp(-1, 1).cpu()

    bench.floors[known] = {
        f"decoded_{what}_frechet": judged(bench, decoded(noise))["frechet_offline"]
        for what, noise in (("latents", False), ("noise", True))
    }
    return bench.floors[known]


@torch.no_grad()
def final(bench: Bench, denoiser: experiments.Denoiser, autoencoder: Autoencoder) -> tuple[dict[str, float], Tensor]:
    """Samples judged, and their raw latents."""
    made = []

    def images() -> Iterator[Tensor]:
        for _, x, _ in denoising.sample_batches(denoiser.model, bench.final, denoiser.shape):
            made.append(denoiser.denormalise(x))
            yield autoencoder.decode(made[-1]).clamp(-1, 1)

    return judged(bench, images()), torch.cat(made).cpu()


@torch.no_grad()
def spectra(bench: Bench, made: Tensor, latents: Latents) -> tuple[dict[str, float], dict[str, list[float]]]:
    """High-frequency energy and profile (energies by rank) of generated latents and of those trained on, raw."""
    mean, std, _ = latents.posterior(range(bench.final.samples))
    real = mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    numbers, series = {}, {}
    for name, z in (("real", real), ("generated", made)):
        accumulator = spectrum.ProfileAccumulator(bench.block_size)
        accumulator.update(z)
        numbers[f"{name}_hf_energy_ratio"] = accumulator.high_frequency_energy_ratio()
        series[f"{name}_energy"] = accumulator.profile("energy").tolist()
    return numbers, series


def shifted(bench: Bench, denoiser: experiments.Denoiser, autoencoder: Autoencoder) -> dict[str, list[float]]:
    found = [distance(bench, denoiser, autoencoder, replace(bench.quick, shift=shift)) for shift in SHIFTS]
    return {"shift": list(SHIFTS), "shift_frechet": [f["frechet_offline"] for f in found]}


def measure(
    bench: Bench,
    arm: str,
    seed: int,
    autoencoder: Autoencoder,
    latents: Latents,
    *,
    out: Path,
    folder: Path,
    source: str,
    special: Mapping[str, Any],
    with_shifts: bool,
) -> Path:
    """Train the denoiser of one arm and seed, measure it, and write its record.

    Args:
        bench: What is the same for all.
        arm: Its name.
        seed: Of the denoiser.
        autoencoder: Of the arm.
        latents: Of that autoencoder, perhaps under a curriculum.
        out: File of the record.
        folder: Where the denoiser and its checkpoints lie; what was cut off there goes on.
        source: The autoencoder's name for the record.
        special: What differs from the recipe.
        with_shifts: Whether to sample with every time shift, too.
    """
    settings = Denoising(**{"seed": seed, "device": bench.device, **bench.recipe, **special})
    done = experiments.train_denoiser(
        settings, latents, folder, size=bench.size, checkpoint_every=200, snapshots=bench.snapshots,
        progress=bench.progress,
        snapshot=lambda denoiser: distance(bench, denoiser, autoencoder, bench.quick),
    )  # fmt: skip
    denoiser, kept = done.denoiser, done.record
    scores, made = final(bench, denoiser, autoencoder)
    found, series = spectra(bench, made, latents)
    numbers = kept.metrics | scores | found | floor(bench, autoencoder, latents)
    series |= kept.series
    if with_shifts:
        series |= shifted(bench, denoiser, autoencoder)
    series = {key: [float(f"{value:.5g}") for value in values] for key, values in series.items()}
    prediction = denoisers.prediction_of(denoiser.model)
    parameters = kept.parameters | {
        # Not the folder that the autoencoder lies in here.
        "latents": kept.parameters["latents"] | {"autoencoder": source},
        "arm": arm,
        "autoencoder": source,
        "resolution": bench.resolution,
        "sampling": asdict(denoising.resolve_sampling(bench.final, prediction)),
        "sampling_along_the_way": asdict(denoising.resolve_sampling(bench.quick, prediction)),
        "features": "offline",
        "features_digest": bench.features.digest,
    }
    notes = (
        f"arm {arm}; Fréchet distances over the offline features (not Inception), samples rounded to 8 bits, against "
        f"{bench.reference.count} {bench.words}; {bench.final.samples} samples of {bench.final.steps} Euler steps at "
        f"the end, {bench.quick.samples} of {bench.quick.steps} along the way."
    )
    update = {"metrics": numbers, "series": series, "parameters": parameters, "notes": notes}
    return kept.model_copy(update=update | {"experiment": "denoiser-on-latents"}).write(out)
