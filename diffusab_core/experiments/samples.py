"""Folders of samples: claimed for drawing by ``diffusab sample``, and judged, wherever they come from."""

from __future__ import annotations

import json
import statistics
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from diffusab_core import autoencoders, metrics
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.data.arrays import list_arrays
from diffusab_core.data.open import open_images
from diffusab_core.data.pixels import UnusableImage, center_crop, read_rgb
from diffusab_core.data.places import ENDINGS, WORDS, Choosing
from diffusab_core.data.stores import StoredImages
from diffusab_core.experiments import records
from diffusab_core.experiments.autoencoder import seen
from diffusab_core.files import differences, first_line, write_json, writing
from diffusab_core.latents.identity import weights_digest
from diffusab_core.metrics.clips import CLIP_FEATURES
from diffusab_core.metrics.samples import (
    FEATURES,
    Reference,
    SamplesError,
    check_enough,
    describe,
    load_moments,
    load_reference,
    open_features,
    save_moments,
)
from diffusab_core.training.batches import read_batches
from diffusab_core.training.order import stream
from diffusab_core.training.world import World, gather, on_main

#: What `diffusab sample` says about the samples that it writes, and where it puts them.
SAMPLES_FILE, PICTURES, CLIPS = "samples.json", "images", "clips"
_PICTURE_ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}


def claim_folder(out: Path, about: Mapping[str, Any], world: World, inside: str = PICTURES) -> Path:
    """The folder for pictures or clips ``inside`` ``out``, where :data:`SAMPLES_FILE` says how they are drawn.

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
        (out / inside).mkdir(exist_ok=True)
        return out / inside

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


def pack_samples(pictures: Sequence[Path], out: Path) -> Path:
    """Write pictures of one size as ``arr_0`` of an ``.npz``, uint8 ``(N, H, W, 3)``: what ADM's evaluation reads.

    Memory holds one picture. The file is written whole or not at all; a picture of another size is a
    :class:`SamplesError`.
    """
    shape = read_rgb(pictures[0]).shape
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(pictures), *shape)}
    with (
        writing(out) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as stream,
    ):
        np.lib.format.write_array_header_1_0(stream, header)
        for picture in pictures:
            pixels = read_rgb(picture)
            if pixels.shape != shape:
                sizes = "{1} x {0} pixels and not {3} x {2}".format(*pixels.shape[:2], *shape[:2])
                raise SamplesError(f"{picture}: {sizes}, so it cannot be packed with {pictures[0]}")
            stream.write(pixels.tobytes())
    return out


@dataclass(frozen=True)
class SampleEvaluation(Choosing):
    """Which samples to compare with what; choices are of the reference, but for ``frames``, which are of both.

    Attributes:
        samples: A folder that ``diffusab sample`` wrote, ``.npz`` of ``arr_0``, or another place of images, or with
            ``frames`` of clips. Of ``photos`` and ``leaves`` others are drawn than for the reference: the score of
            perfect samples.
        reference: A place of real images; a file of statistics that ``cache`` once wrote; or ``.npz`` of ``mu`` and
            ``sigma``, taken to be of the same features, or of ``arr_0``, images.
        crop: Of reference images: ``center``, the largest centred square, antialiased; or ``adm``, the crop of ADM's
            reference batches, which published FIDs rest on.
        decoded_by: The autoencoder that decoded the samples, named as ``diffusab profile`` takes it. Samples are
            then compared twice, also with the reference images encoded and decoded by it. That distance, the gap, is
            what the denoiser failed to learn, the decoder left out.
        features: Feature network: ``offline``, our own small one, which is not Inception; ``lite0``, which is
            EfficientNet-Lite0, or ``lite0p64``, 64 components of it for small images; ``inception`` or ``dinov2``. Of
            clips: ``i3d``, which makes FVD, or ``clip_offline`` or ``clip_lite0p64``, which are image networks on
            frames, their differences and fringes, and not FVD.
        features_weights: File or folder of another network's weights than ``offline``'s; ``None``: the caches, and of
            ``lite0`` its package.
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
    crop: str = "center"
    decoded_by: str | None = None
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
        if self.seed < 0:
            raise SamplesError(f"seed must be at least 0, got {self.seed}")
        if self.crop not in ("center", "adm"):
            raise SamplesError(f"crop must be center or adm, got {self.crop!r}")
        if self.precision_recall < 0:
            raise SamplesError(f"precision_recall must be at least 0, got {self.precision_recall}")
        if 0 < self.precision_recall <= self.k:
            raise SamplesError(
                f"precision and recall over {self.precision_recall} features have no k={self.k} neighbours"
            )
        check_features(self.features, self.frames)
        if self.features_weights is not None and self.features in ("offline", "clip_offline"):
            raise SamplesError(f"features_weights are for another network, not for features={self.features!r}")
        if self.decoded_by is not None and self.reference.endswith(".safetensors"):
            raise SamplesError(
                f"decoded_by needs the reference images themselves, {self.reference} is a file of statistics"
            )


def check_features(features: str, frames: int | None) -> None:
    """Refuse a network that is not known, or one of images for clips, or the other way round."""
    if features not in FEATURES | CLIP_FEATURES:
        raise SamplesError(f"features must be one of {', '.join(FEATURES | CLIP_FEATURES)}, got {features!r}")
    if frames is None and features in CLIP_FEATURES:
        raise SamplesError(f"features {features} are of clips: say with frames (--frames) how many frames they have")
    if frames is not None and features in FEATURES:
        raise SamplesError(f"features {features} are of images; of clips are {', '.join(CLIP_FEATURES)}")


def evaluate_sample_folder(
    settings: SampleEvaluation,
    *,
    cache: str | Path | None = None,
    samples_statistics: str | Path | None = None,
    reference_statistics: str | Path | None = None,
    world: World | None = None,
    workers: int = 0,
) -> records.RunRecord:
    """Compare samples with reference images: see :func:`~diffusab_core.metrics.samples.evaluate_samples`.

    With ``decoded_by``, ``gap_<network>`` beside it: the distance to decoded posterior samples of the same images. A
    :class:`SamplesError` refuses no samples, a broken one or one of another size, fewer or more than ``samples.json``
    says, too few for the network, and a cache or file of statistics of something else. Weights and images that are
    missing are an error of theirs. A broken reference image is left out, counted and named in the notes. Where the two
    sides are stored differently, as JPEG and as PNG, the notes say so.

    Args:
        cache: File for the reference's statistics, read if it is there and fits, else written; those of the decoded
            images are in ``STEM-decoded.safetensors`` beside it.
        samples_statistics: File (``.npz``) to write ``mu`` and ``sigma`` of the samples to.
        reference_statistics: The same of the reference.
        world: Processes that share the work; all have to call this, and get the same.
        workers: Processes that read images ahead.
    """
    world = world or World()
    features = open_features(settings.features, settings.features_weights, settings.device)
    samples, sampling = open_samples(settings, world.is_main)
    chosen = _choose(len(samples), settings.count, settings.seed)
    resolution = settings.resolution or samples.resolution
    check_enough(len(chosen), features, settings.few)
    autoencoder = None
    if settings.decoded_by is not None:
        autoencoder = autoencoders.load(settings.decoded_by, settings.device, probe=resolution)
        autoencoder.latent_shape(resolution, resolution, settings.frames)  # refuses a size that it cannot take
    if (has_statistics := is_statistics(settings.reference)) and settings.decoded_by is not None:
        raise SamplesError(f"decoded_by needs the reference images themselves, {settings.reference} has statistics")
    if has_statistics and cache is not None:
        raise SamplesError(f"{settings.reference} holds statistics already, so nothing is cached in {cache}")
    images = None if has_statistics else _open_reference(settings, resolution, len(chosen), world.is_main)
    stored = {"samples": stored_as(samples), "reference": stored_as(images)}
    judge = {f"{name}_stored_as": found for name, found in stored.items() if found} | {
        "resolution": resolution,
        "features_weights": settings.features_weights and Path(settings.features_weights).name,  # wherever it lies
        "features_digest": features.digest, "dimensions": features.dimensions, "quantised": True,
        "sample_count": len(chosen), "sampling": sampling,
        "decoded_by": autoencoder and autoencoder.name,
        "decoded_by_digest": autoencoder and weights_digest(autoencoder),
    }  # fmt: skip
    size = f"{settings.frames} frames of " * (settings.frames is not None) + f"{resolution} x {resolution}"
    run = records.start(
        "evaluate-samples", parameters=settings.as_values() | judge, seed=settings.seed, size="laptop",
        data=f"{len(chosen)} samples of {size} of {settings.samples} against {settings.reference}",
        device=settings.device,
    )  # fmt: skip

    def batches(images: Dataset, indices: list[int]) -> Iterable[Tensor]:
        mine, size = indices[world.rank :: world.size], settings.batch_size
        return read_batches(images, (mine[i : i + size] for i in range(0, len(mine), size)), workers)

    def usable(images: Dataset, indices: list[int]) -> Iterator[tuple[Tensor, list[int]]]:
        """Batches of the reference with their places; what cannot be used is in ``broken``."""
        mine = Subset(_Usable(images), indices[world.rank :: world.size])
        for items in DataLoader(mine, settings.batch_size, num_workers=workers, collate_fn=list):
            broken.update({place: item for place, item in items if isinstance(item, str)})
            if kept := [(place, item) for place, item in items if isinstance(item, Tensor)]:
                yield torch.stack([image for _, image in kept]), [place for place, _ in kept]

    broken: dict[int, str] = {}
    indices, others = [], ""
    options = {"few": settings.few, "precision_recall": settings.precision_recall, "k": settings.k, "world": world}
    if has_statistics and settings.reference.endswith(".npz"):
        known, others = _open_moments(settings, features, batches, world)
        options["precision_recall"] = settings.precision_recall if len(known.neighbours) else 0
    elif has_statistics:
        known = load_reference(settings.reference)
        known.check_network(features)
        if (there := known.identity.get("resolution", resolution)) != resolution:
            raise SamplesError(f"{settings.reference} is over images of {there} pixels, the samples have {resolution}")
    else:
        indices = _choose(len(images), settings.reference_count, settings.seed)
        check_enough(len(indices), features, settings.few, "reference images")
        place = settings.reference if settings.reference in WORDS else Path(settings.reference).name
        identity = {"images": place, "count": len(indices), "resolution": resolution, "seed": settings.seed}
        identity |= seen(images, world) | ({"crop": settings.crop} if settings.crop != "center" else {})
        kept = {"neighbours_up_to": settings.precision_recall, "cache": cache, "identity": identity}
        known = metrics.reference((x for x, _ in usable(images, indices)), features, world=world, **kept)
    found = describe(batches(samples, chosen), features, known.quantised, settings.precision_recall, world, "samples")
    if autoencoder is not None:
        kept["identity"] |= {name: judge[name] for name in ("decoded_by", "decoded_by_digest")}
        kept |= {"neighbours_up_to": 0, "cache": cache and Path(cache).with_stem(f"{Path(cache).stem}-decoded")}
        real = _decode_again(autoencoder, usable(images, indices), settings.seed)
        decoded = metrics.reference(real, features, world=world, **kept)
        gap = metrics.evaluate_samples(found, decoded, features, **options | {"precision_recall": 0})
        run.metrics[f"gap_{features.name}"] = gap[f"frechet_{features.name}"]
    run.metrics |= metrics.evaluate_samples(found, known, features, **options)
    for file, (count, mean, covariance) in (
        (samples_statistics, (found.count, found.mean(), found.covariance())),
        (reference_statistics, (known.count, known.mean, known.covariance)),
    ):
        if file is not None:
            on_main(world, lambda file=file, moments=(count, mean, covariance): save_moments(file, *moments))
    run.notes = (
        f"features: {features.name}, {features.dimensions} numbers, weights {features.digest}, in single precision; "
        f"{len(chosen)} samples against {known.count or 'an unknown number of'} reference images, both rounded to 8 "
        "bits."
    )
    run.notes += others
    if settings.crop != "center":
        run.notes += " Reference images are cropped as ADM's reference batches are."
    if left_out := len(indices) - known.count if images is not None else 0:
        names = [reason for some in gather(broken, world) for _, reason in sorted(some.items())]
        run.metrics["reference_left_out"] = float(left_out)
        run.notes += f" {left_out} reference images are broken and left out{f', such as {names[0]}' if names else ''}."
    if said := say_stored_differently(stored["samples"], stored["reference"]):
        run.notes += f" {said}"
    if autoencoder is not None:
        run.notes += f" The gap is to these reference images encoded and decoded by {autoencoder.name}."
    if settings.features == "clip_offline":
        run.notes += " The network is one of images on frames, their differences and fringes, and the distance not FVD."
    if settings.features == "offline":
        run.notes += " The offline network is not Inception: compare with numbers over the same network only."
    if min(len(chosen), known.count or len(chosen)) <= features.dimensions:
        run.notes += " Too few images for the number of features: the distance compares with nothing."
    return run.finish()


def is_statistics(place: str) -> bool:
    """Whether a reference is a file of statistics and no place of images."""
    return place.endswith(".safetensors") or (place.endswith(".npz") and {"mu", "sigma"} <= set(list_arrays(place)))


def _open_reference(settings: SampleEvaluation, resolution: int, samples: int, progress: bool) -> Dataset:
    how = {"check": "header", "progress": progress, "crop": settings.crop}
    if settings.reference in WORDS:
        how = {"length": settings.reference_count or samples}
    return open_images(settings.reference, resolution, seed=settings.seed, **how | settings.choices)


def _open_moments(settings: SampleEvaluation, features: Any, batches: Any, world: World) -> tuple[Reference, str]:
    """The statistics in an ``.npz``, and what to note; neighbours are of its images, where it has such, too.

    ADM's reference batches hold both, the statistics over all of ImageNet and 10 000 images. Where the statistics are
    of another network than the one that is asked for, they are taken over those images.
    """
    place, described = settings.reference, None
    about = {"images": Path(place).name}
    with_images = "arr_0" in list_arrays(place)
    try:
        known = load_moments(place, features)
    except SamplesError:
        if not with_images:
            raise
        known = None
    if with_images and (known is None or settings.precision_recall):
        images = _Samples(open_images(place, 1, check="none"), None)
        chosen = _choose(len(images), settings.reference_count, settings.seed)
        described = describe(batches(images, chosen), features, True, settings.precision_recall, world, "reference")
    if known is None:
        moments = (described.count, described.mean(), described.covariance(), described.subset)
        return Reference(features.name, features.digest, True, *moments, about), ""
    note = f" The reference is mu and sigma of {Path(place).name}, taken to be of these features."
    if described is not None:
        return replace(known, neighbours=described.subset), note
    return known, note + " There are no images beside them, and so neither precision nor recall."


class _Usable(Dataset):
    """Items with their places; in place of an image that cannot be used, why."""

    def __init__(self, images: Dataset) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        try:
            return index, self.images[index]
        except UnusableImage as error:
            return index, str(error)


def stored_as(images: Any) -> dict[str, int]:
    """How the first of the images are stored, where that is known."""
    images = getattr(images, "images", images)
    return images.stored_as() if isinstance(images, StoredImages) else {}


def say_stored_differently(samples: Mapping[str, int], reference: Mapping[str, int]) -> str:
    """A sentence where one side went through another lossy compression than the other; empty if not."""

    def lossy(found: Mapping[str, int]) -> tuple[float, float | None]:
        """The share of JPEGs, and their median quality."""
        jpegs = {kind: count for kind, count in found.items() if kind.startswith("JPEG ")}
        qualities = [int(kind.split()[1]) for kind, count in jpegs.items() for _ in range(count)]
        share = sum(jpegs.values()) / max(1, sum(found.values()))
        return share, statistics.median(qualities) if qualities else None

    if not samples or not reference:
        return ""
    (share, quality), (other_share, other_quality) = lossy(samples), lossy(reference)
    coarser = quality and other_quality and abs(quality - other_quality) > 5
    if abs(share - other_share) < 0.1 and not coarser:
        return ""
    a, b = (" and ".join([*list(found)[:3], *["others"] * (len(found) > 3)]) for found in (samples, reference))
    return (f"The two sides are stored differently, samples as {a}, reference images as {b}: compression alone is "
            "worth a distance, the less the more images are shrunk.")  # fmt: skip


@torch.no_grad()
def _decode_again(autoencoder: Autoencoder, batches: Iterable[tuple[Tensor, list[int]]], seed: int) -> Iterator[Tensor]:
    """Images encoded, a sample of each posterior decoded; its noise depends on the seed and the image's place."""
    for batch, places in batches:
        posterior = autoencoder.encode(autoencoder.place(batch))
        shape = posterior.mean.shape[1:]
        noise = torch.stack([torch.randn(shape, generator=stream(seed, "posterior", place)) for place in places])
        z = posterior.mean + posterior.std * noise.to(posterior.mean)
        yield autoencoder.decode(z, index=places).float().clamp(-1, 1)


def _choose(length: int, count: int | None, seed: int) -> list[int]:
    """Which items: all, or a random ``count`` of them in order, as a folder may be sorted by class."""
    if count is None or count >= length:
        return list(range(length))
    return sorted(torch.randperm(length, generator=torch.Generator().manual_seed(seed))[:count].tolist())


class _Samples(Dataset):
    """Stored samples, images or clips: all of the first one's size, or cropped and resized to a given resolution."""

    def __init__(self, images: StoredImages, resolution: int | None) -> None:
        self.images, self.exact = images, resolution is None
        self.resolution = resolution or min(images.pixels(0).shape[-3:-1])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        pixels, side = self.images.pixels(index), self.resolution
        height, width = pixels.shape[-3:-1]
        if self.exact and (height, width) != (side, side):
            sizes = f"{width} x {height} pixels and not {side} x {side}, the square in the first sample"
            raise SamplesError(f"{self.images.place(index)}: {sizes}; --resolution resizes all samples to one size")
        if pixels.ndim == 4:
            return torch.stack([center_crop(frame, side) for frame in pixels], dim=1)  # (3, T, side, side)
        return center_crop(pixels, side)


def open_samples(settings: SampleEvaluation, progress: bool) -> tuple[Any, dict[str, Any] | None]:
    """The samples, with ``len`` and ``resolution``, and what is known about how they were drawn."""
    if settings.samples in WORDS:
        if settings.resolution is None or settings.count is None:
            raise SamplesError(f"{settings.samples} have neither size nor end: give --resolution and --samples")
        # Another seed than the reference's, or they would be the same images.
        how = {"length": settings.count, "frames": settings.frames}
        return open_images(settings.samples, settings.resolution, seed=settings.seed + 1, **how), None
    place, sampling = settings.samples, _read_about(Path(settings.samples))
    inside, endings = (PICTURES, _PICTURE_ENDINGS) if settings.frames is None else (CLIPS, ENDINGS)
    if sampling is not None and (Path(place) / inside).is_dir():
        place = str(Path(place) / inside)
    images = open_images(place, settings.resolution or 1, check="header", progress=progress, frames=settings.frames)
    # A hidden file is a picture that was still being written when somebody stopped it.
    shown = [skip for skip in images.skipped if not Path(skip.name).name.startswith(".")]
    if broken := [skip for skip in shown if Path(skip.name).suffix.lower() in endings]:
        first = f"{Path(place) / broken[0].name}: {broken[0].reason}"
        raise SamplesError(f"{len(broken)} samples cannot be used, the first is {first}")
    expected = len(images) if sampling is None or settings.count is not None else sampling.get("count", len(images))
    if len(images) != expected:
        found = f"{place} holds {len(images)} images, {SAMPLES_FILE} says {expected}"
        raise SamplesError(f"{found}: finish sampling, or take fewer with --samples")
    return _Samples(images, settings.resolution), sampling
