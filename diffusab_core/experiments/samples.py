"""Folders of samples: claimed for drawing by ``diffusab sample``, and judged, wherever they come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from diffusab_core import metrics
from diffusab_core.data.open import WORDS, open_images
from diffusab_core.data.pixels import center_crop
from diffusab_core.data.stores import StoredImages
from diffusab_core.experiments import records
from diffusab_core.experiments.autoencoder import seen
from diffusab_core.files import differences, first_line, write_json
from diffusab_core.metrics.samples import FEATURES, SamplesError, check_enough, load_reference, open_features
from diffusab_core.training.world import World, on_main

#: What `diffusab sample` says about the samples that it writes, and where it puts them.
SAMPLES_FILE, PICTURES = "samples.json", "images"
_PICTURE_ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}


def claim_folder(out: Path, about: Mapping[str, Any], world: World) -> Path:
    """The folder for pictures below ``out``, which :data:`SAMPLES_FILE` says are drawn as ``about`` has it.

    Every process calls this, the main one looks and writes. The description is written first and whole, so that the
    same samples can go on wherever they were cut off. Other samples, or something else, are a :class:`SamplesError`.
    """

    def claim() -> Path:
        found = _read_about(out)
        if found is None:
            # Without a file in it, a folder is what an earlier start left that was cut off at once.
            if out.exists() and (not out.is_dir() or any(p.is_file() and p != unnamed for p in out.rglob("*"))):
                raise SamplesError(f"{out} exists and holds no samples of this command; name another folder")
            write_json(out / SAMPLES_FILE, dict(about), alone=True)
        elif different := differences(found, about, about):
            raise SamplesError(f"{out} holds other samples ({different}); name another folder")
        (out / PICTURES).mkdir(exist_ok=True)
        return out / PICTURES

    unnamed = out / f"{SAMPLES_FILE}.tmp"  # as files.writing leaves it when it is killed
    return on_main(world, claim)


def _read_about(folder: Path) -> dict[str, Any] | None:
    """What a folder says about its samples, if anything."""
    file = folder / SAMPLES_FILE
    if not file.is_file():
        return None
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise SamplesError(f"{file} is no JSON of names and values ({first_line(error)})") from error


@dataclass(frozen=True)
class SampleEvaluation:
    """Which samples to compare with what.

    Attributes:
        samples: A folder that ``diffusab sample`` wrote, or another place of images. Of ``photos`` and ``leaves``
            others are drawn than for the reference: the score of perfect samples.
        reference: A place of real images, or a file of statistics that ``cache`` once wrote.
        features: Feature network: ``offline``, our own small one, which is not Inception; ``inception`` or ``dinov2``.
        features_weights: File or folder of Inception's or DINOv2's weights; ``None``: the caches.
        resolution: Side in pixels. ``None``: the first sample's, and all have to be of that size. A number resizes
            samples that are larger. Reference images are resized and cropped to it in either case.
        count: How many samples, at most, a random choice; ``None``: all.
        reference_count: The same of the reference. Of ``photos`` and ``leaves``, which do not end, by default as many
            as there are samples.
        few: Allow no more images than features.
        precision_recall: Over how many features precision and recall are, at most; 0 leaves them out.
        k: Neighbour that sets the radius in precision and recall.
        device: Where to compute.
        batch_size: Images at a time.
        seed: Seed of choices, and of ``photos`` and ``leaves``.
    """

    samples: str
    reference: str
    features: str = "offline"
    features_weights: str | None = None
    resolution: int | None = None
    count: int | None = None
    reference_count: int | None = None
    few: bool = False
    precision_recall: int = 10_000
    k: int = 3
    device: str = "cpu"
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("resolution", "count", "reference_count", "batch_size", "k"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SamplesError(f"{name} must be at least 1, got {value}")
        if self.precision_recall < 0:
            raise SamplesError(f"precision_recall must be at least 0, got {self.precision_recall}")
        if self.features not in FEATURES:
            raise SamplesError(f"features must be one of {', '.join(FEATURES)}, got {self.features!r}")
        if self.features_weights is not None and self.features == "offline":
            raise SamplesError("features_weights are for inception or dinov2, not for features='offline'")


def evaluate_sample_folder(
    settings: SampleEvaluation, *, cache: str | Path | None = None, world: World | None = None, workers: int = 0
) -> records.RunRecord:
    """Compare samples with reference images: see :func:`~diffusab_core.metrics.samples.evaluate_samples`.

    A :class:`SamplesError` refuses no samples, a broken one or one of another size, fewer or more than ``samples.json``
    says, too few for the network, and a cache or file of statistics of something else. Weights and images that are
    missing are an error of theirs.

    Args:
        cache: File for the reference's statistics, read if it is there and fits, else written.
        world: Processes that share the work; all have to call this, and get the same.
        workers: Processes that read images ahead.
    """
    world = world or World()
    features = open_features(settings.features, settings.features_weights, settings.device)
    samples, sampling = _open_samples(settings, world.is_main)
    chosen = _choose(len(samples), settings.count, settings.seed)
    resolution = settings.resolution or samples.resolution
    check_enough(len(chosen), features, settings.few)
    judge = {
        "resolution": resolution,
        "features_weights": settings.features_weights and Path(settings.features_weights).name,  # wherever it lies
        "features_digest": features.digest, "dimensions": features.dimensions, "quantised": True,
        "sample_count": len(chosen), "sampling": sampling,
    }  # fmt: skip
    run = records.start(
        "evaluate-samples", parameters=asdict(settings) | judge, seed=settings.seed, size="laptop",
        data=f"{len(chosen)} samples of {resolution} x {resolution} of {settings.samples} against {settings.reference}",
        device=settings.device,
    )  # fmt: skip

    def batches(images: Dataset, indices: list[int]) -> Iterable[Tensor]:
        mine = Subset(images, indices[world.rank :: world.size])
        return DataLoader(mine, settings.batch_size, num_workers=workers)

    if settings.reference.endswith(".safetensors"):
        if cache is not None:
            raise SamplesError(f"{settings.reference} holds statistics already, so nothing is cached in {cache}")
        known = load_reference(settings.reference)
        known.check_network(features)
        if (there := known.identity.get("resolution", resolution)) != resolution:
            raise SamplesError(f"{settings.reference} is over images of {there} pixels, the samples have {resolution}")
    else:
        how = {"check": "header", "progress": world.is_main}
        if settings.reference in WORDS:
            how = {"length": settings.reference_count or len(chosen)}
        images = open_images(settings.reference, resolution, seed=settings.seed, **how)
        indices = _choose(len(images), settings.reference_count, settings.seed)
        check_enough(len(indices), features, settings.few, "reference images")
        place = settings.reference if settings.reference in WORDS else Path(settings.reference).name
        identity = {"images": place, "count": len(indices), "resolution": resolution, "seed": settings.seed}
        kept = {"neighbours_up_to": settings.precision_recall, "cache": cache, "identity": identity | seen(images)}
        known = metrics.reference(batches(images, indices), features, world=world, **kept)
    options = {"few": settings.few, "precision_recall": settings.precision_recall, "k": settings.k}
    run.metrics = metrics.evaluate_samples(batches(samples, chosen), known, features, world=world, **options)
    run.notes = (
        f"features: {features.name}, {features.dimensions} numbers, weights {features.digest}, in single precision; "
        f"{len(chosen)} samples against {known.count} reference images, both rounded to 8 bits."
    )
    if settings.features == "offline":
        run.notes += " The offline network is not Inception: compare with numbers over the same network only."
    if min(len(chosen), known.count) <= features.dimensions:
        run.notes += " Too few images for the number of features: the distance compares with nothing."
    return run.finish()


def _choose(length: int, count: int | None, seed: int) -> list[int]:
    """Which items: all, or a random ``count`` of them in order, as a folder may be sorted by class."""
    if count is None or count >= length:
        return list(range(length))
    return sorted(torch.randperm(length, generator=torch.Generator().manual_seed(seed))[:count].tolist())


class _Samples(Dataset):
    """Stored samples: all of the first one's size, or cropped and resized where a resolution was asked for."""

    def __init__(self, images: StoredImages, resolution: int | None) -> None:
        self.images, self.exact = images, resolution is None
        self.resolution = resolution or min(images.pixels(0).shape[:2])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        pixels, side = self.images.pixels(index), self.resolution
        height, width = pixels.shape[:2]
        if self.exact and (height, width) != (side, side):
            sizes = f"{width} x {height} pixels and not {side} x {side}, the square in the first sample"
            raise SamplesError(f"{self.images.place(index)}: {sizes}; --resolution resizes all samples to one size")
        return center_crop(pixels, side)


def _open_samples(settings: SampleEvaluation, progress: bool) -> tuple[Any, dict[str, Any] | None]:
    """The samples, with ``len`` and ``resolution``, and what is known about how they were drawn."""
    if settings.samples in WORDS:
        if settings.resolution is None or settings.count is None:
            raise SamplesError(f"{settings.samples} have neither size nor end: give --resolution and --samples")
        # Another seed than the reference's, or they would be the same images.
        return open_images(settings.samples, settings.resolution, seed=settings.seed + 1, length=settings.count), None
    place, sampling = settings.samples, _read_about(Path(settings.samples))
    if sampling is not None and (Path(place) / PICTURES).is_dir():
        place = str(Path(place) / PICTURES)
    images = open_images(place, settings.resolution or 1, check="header", progress=progress)
    if broken := [skip for skip in images.skipped if Path(skip.name).suffix.lower() in _PICTURE_ENDINGS]:
        first = f"{Path(place) / broken[0].name}: {broken[0].reason}"
        raise SamplesError(f"{len(broken)} samples cannot be used, the first is {first}")
    # A hidden file is a picture that was still being written when somebody stopped it.
    images = images.pick([i for i in range(len(images)) if not images.name(i).rpartition("/")[2].startswith(".")])
    if not len(images):
        raise SamplesError(f"no usable image in {place}")
    expected = len(images) if sampling is None or settings.count is not None else sampling.get("count", len(images))
    if len(images) != expected:
        found = f"{place} holds {len(images)} images, {SAMPLES_FILE} says {expected}"
        raise SamplesError(f"{found}: finish sampling, or take fewer with --samples")
    return _Samples(images, settings.resolution), sampling
