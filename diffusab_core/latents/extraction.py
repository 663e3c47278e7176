"""Encoding a dataset once, into a cache of latents that :class:`~diffusab_core.latents.cache.LatentCache` reads.

A shard is written under another name, flushed to the disk and renamed, and only then entered in the index with its
SHA-256. So an extraction that is killed goes on after the last whole shard, and ends with the same bytes.
"""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from diffusab_core import autoencoders
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.data.open import WORDS, open_images
from diffusab_core.data.stores import CROPS, StoredImages
from diffusab_core.latents import encoded as encoding
from diffusab_core.latents import files
from diffusab_core.latents.base import STATISTICS_SAMPLES, channel_statistics, check_labels
from diffusab_core.latents.cache import LatentCache
from diffusab_core.latents.identity import LatentsError, images_identity, item_name, names_of, parts, weights_digest


@dataclass(frozen=True)
class Extraction:
    """What to extract.

    Attributes:
        model: Shipped name, diffusers folder or hub id, as :func:`diffusab_core.autoencoders.load` takes
            it.
        images: As :func:`diffusab_core.data.open.open_images` takes it.
        resolution: Side of the square images in pixels.
        crop: ``"center"`` or ``"random"``, one random crop of each image; of no concern to ``photos`` and ``leaves``.
        samples: How many images, at most, drawn by the seed; ``None``: all that are stored. ``photos`` and ``leaves``
            are endless and need a number.
        flips: Also encode the mirrored images.
        labels: Also store class numbers.
        seed: Seed of the choice of images, of crops, and of ``photos`` and ``leaves``.
        device: Where to encode; no part of what the latents are.
        precision: ``"fp32"``, or ``"bf16"`` for autocast.
        dtype: What latents are stored as: ``"float16"``, ``"bfloat16"`` or ``"float32"``.
        shard_size: Latents in a shard.
        low_pass: Radius in cycles per pixel beyond which images lose their frequencies before they are encoded, after
            cropping; ``None``: whole images.
    """

    model: str
    images: str | tuple[str, ...] = "photos"
    resolution: int = 256
    crop: str = "center"
    samples: int | None = None
    flips: bool = False
    labels: bool = False
    seed: int = 0
    device: str = "cpu"
    precision: str = "fp32"
    dtype: str = "float16"
    shard_size: int = 1024
    low_pass: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("resolution", 1), ("samples", 1), ("seed", 0), ("shard_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise LatentsError(f"{name} must be at least {least}, got {value}")
        for name, choices in (("crop", CROPS), ("dtype", files.DTYPES), ("precision", encoding.PRECISIONS)):
            if getattr(self, name) not in choices:
                raise LatentsError(f"{name} is one of {', '.join(choices)}, got {getattr(self, name)!r}")
        encoding.check_low_pass(self.low_pass)


def extract(
    settings: Extraction,
    out: str | os.PathLike,
    *,
    dataset: Dataset | None = None,
    batch_size: int = 16,
    workers: int = 0,
    progress: bool = True,
) -> LatentCache:
    """Encode a dataset into a cache.

    The same call goes on after the last whole shard of one that was cut off, makes shards anew that were deleted, and
    only opens what is finished.

    Args:
        settings: What to extract.
        out: Folder of the cache; new, empty, or one that the same settings have begun.
        dataset: What to encode, map-style, by default what ``settings.images`` opens. Items as in
            :class:`~diffusab_core.latents.encoded.EncodedLatents`, so clips, too; ``settings.images`` then only names
            it.
        batch_size: Images encoded at a time.
        workers: Processes that read images ahead; 0 reads in this one.
        progress: Show progress bars.

    Raises:
        AutoencoderError: The model cannot be opened.
        CacheError: ``out`` cannot be written to, holds other files or latents of other settings (every difference is
            named), or a damaged shard.
        LatentsError: A latent is not finite, beyond the range of the stored type, or not of the shape of the others.
        ValueError: Images that cannot be opened or used.
    """
    if batch_size < 1 or workers < 0:
        raise LatentsError(f"batch_size must be at least 1 and workers at least 0, got {batch_size} and {workers}")
    folder = Path(out)
    if folder.exists() and not (folder / files.INDEX).is_file():
        files.refuse_foreign(folder)
    autoencoder = autoencoders.load(settings.model, settings.device)
    if dataset is None:
        autoencoder.latent_shape(settings.resolution, settings.resolution)  # before any image is looked at
    identity = _identity(settings, autoencoder)
    if (folder / files.INDEX).is_file():
        index = files.read_index(folder)
        files.refuse_other(folder, index["identity"] | {"shard_size": index["shard_size"]},
                      identity | {"shard_size": settings.shard_size})  # fmt: skip
        if index["complete"] and all((folder / shard["file"]).exists() for shard in index["shards"]):
            return LatentCache(folder)
    images = _images(settings, progress) if dataset is None else dataset
    with files.sole_writer(folder):
        encoded, seconds = _encode_all(settings, folder, autoencoder, images, identity, batch_size, workers, progress)
    cache = LatentCache(folder)
    cache.encoded, cache.seconds = encoded, seconds
    return cache


def _identity(settings: Extraction, autoencoder: Autoencoder) -> dict[str, Any]:
    chosen = asdict(settings)
    for name in ("device", "shard_size", *(() if settings.low_pass else ("low_pass",))):
        del chosen[name]
    if not isinstance(chosen["images"], str):
        chosen["images"] = [os.fspath(place) for place in chosen["images"]]
    # By what it was opened as: whoever decodes has to open it again.
    return {"autoencoder": chosen.pop("model"), "weights": weights_digest(autoencoder), **chosen}


def _images(settings: Extraction, progress: bool) -> Dataset:
    endless = settings.images in WORDS
    if endless and settings.samples is None:
        raise LatentsError(f"{settings.images} are endless: say with samples how many of them")
    length = {"length": settings.samples} if endless else {}
    found = open_images(settings.images, settings.resolution, settings.crop, settings.seed, settings.labels,
                               progress=progress, **length)  # fmt: skip
    if isinstance(found, StoredImages) and settings.samples is not None and settings.samples < len(found):
        # The first ones of a folder of classes would be one class.
        some = np.random.default_rng(settings.seed).permutation(len(found))[: settings.samples]
        skipped, found = found.skipped, found.pick(sorted(some.tolist()))
        found.skipped = skipped
    return found


def _encode_all(
    settings: Extraction,
    folder: Path,
    autoencoder: Autoencoder,
    images: Dataset,
    identity: dict[str, Any],
    batch_size: int,
    workers: int,
    progress: bool,
) -> tuple[int, float]:
    """Write the shards that are not there, the index after each of them, and at last the statistics.

    Returns:
        How many images were encoded, and the seconds that took.
    """
    index = _begin(settings, autoencoder, images, identity)
    if (folder / files.INDEX).is_file():
        before = files.read_index(folder)
        files.refuse_other(folder, before["identity"], dict.fromkeys(before["identity"]) | index["identity"])
        files.refuse_other(folder, before, {name: index[name] for name in ("shape", "tensors", "class_names")})
        index = before | {"complete": False}
        index["shards"] = [shard for shard in index["shards"] if (folder / shard["file"]).exists()]
        for shard in index["shards"]:
            files.check_shard(folder, index, shard)
    else:
        files.write_index(folder, index)  # says from the start what the shards beside it are
    start = time.perf_counter()
    size, count = index["shard_size"], index["count"]
    done = {shard["file"] for shard in index["shards"]}
    todo = [k for k in range(-(-count // size)) if files.file_name(k) not in done]
    batches = {
        k: [
            list(range(i, min(i + batch_size, (k + 1) * size, count)))
            for i in range(k * size, min((k + 1) * size, count), batch_size)
        ]
        for k in todo
    }
    loader = DataLoader(
        _Items(images, tuple(index["image_shape"])),
        batch_sampler=[batch for k in todo for batch in batches[k]],
        collate_fn=_together,
        num_workers=workers,
        generator=torch.Generator(),  # a loader draws a seed for its workers, by default from the global state
    )
    stream = iter(loader)
    bar = tqdm(desc="encoding", unit="image", total=count, disable=not progress,
               initial=sum(shard["items"] for shard in index["shards"]))  # fmt: skip
    with bar:
        for k in todo:
            tensors = _empty(index, min(size, count - k * size))
            for batch in batches[k]:
                x, labels = _next(stream)
                names = [item_name(images, i) for i in batch]
                rows = slice(batch[0] - k * size, batch[-1] + 1 - k * size)
                for ending in ("", "_flipped") if index["flips"] else ("",):
                    seen = encoding.without_high_frequencies(x.flip(-1) if ending else x, settings.low_pass)
                    posterior = encoding.encode(autoencoder, seen, settings.precision, names)
                    _store(tensors, "mean" + ending, rows, posterior.mean, names)
                    if "std" in tensors:
                        _store(tensors, "std" + ending, rows, posterior.std, names)
                    elif posterior.std.any():
                        odd = names[int(posterior.std.flatten(1).any(1).nonzero()[0])]
                        raise LatentsError(
                            f"{settings.model} is deterministic for {item_name(images, 0)}, not for {odd}"
                        )
                if "labels" in tensors:
                    check_labels(labels, len(index["class_names"]), f"{names[0]} to {names[-1]}")
                    tensors["labels"][rows] = labels
                bar.update(len(batch))
            index["shards"].append(files.write_shard(folder, k, tensors))
            index["shards"].sort(key=lambda shard: shard["file"])
            files.write_index(folder, index)
    seconds = time.perf_counter() - start
    whole = LatentCache(folder, finished=False)
    mean, std = channel_statistics(whole, progress=None if progress else False)
    files.write_index(folder, index | {"complete": True, "channel_mean": mean.tolist(), "channel_std": std.tolist()})
    return sum(len(batch) for k in todo for batch in batches[k]), seconds


def _begin(settings: Extraction, autoencoder: Autoencoder, images: Dataset, identity: dict[str, Any]) -> dict[str, Any]:
    """The index of a cache without shards."""
    if len(images) < 1:
        raise LatentsError("there are no images: the dataset is empty")
    image, label = parts(images[0])
    if settings.labels and label is None:
        raise LatentsError("labels were asked for, and the dataset's items have none")
    shape = encoding.latent_shape(autoencoder, image)
    gaussian = bool(encoding.encode(autoencoder, image[None], settings.precision, [item_name(images, 0)]).std.any())
    tensors = ["mean", "std"] if gaussian else ["mean"]
    tensors += [f"{name}_flipped" for name in tensors] if settings.flips else []
    tensors += ["labels"] if settings.labels else []
    skipped = getattr(images, "skipped", ())
    found = {name: value for name, value in images_identity(images).items() if name not in identity}
    found["count"] = len(images)
    return {
        "format": files.FORMAT,
        "version": files.FORMAT_VERSION,
        "complete": False,
        "identity": identity | found,
        "count": len(images),
        "shape": list(shape),
        "image_shape": list(image.shape),
        "dtype": settings.dtype,
        "flips": settings.flips,
        "class_names": list(names_of(images)) if settings.labels else [],
        "tensors": tensors,
        "shard_size": settings.shard_size,
        "shards": [],
        "skipped": [[skip.name, skip.reason] for skip in skipped[:20]],
        "skipped_count": len(skipped),
        "statistics_samples": min(len(images), STATISTICS_SAMPLES),
        "versions": {"diffusab_core": importlib.metadata.version("diffusab_core"), "torch": torch.__version__},
    }


class _Items(Dataset):
    """Items for a data loader; an error is returned and not raised, because a worker's would come as its traceback."""

    def __init__(self, images: Dataset, shape: tuple[int, ...]) -> None:
        self.images, self.shape = images, shape

    def __getitem__(self, index: int) -> tuple[Tensor, int | None] | Exception:
        try:
            image, label = parts(self.images[index])
        except (ValueError, OSError) as error:
            return error
        if image.shape != self.shape:
            name = item_name(self.images, index)
            return LatentsError(f"{name} has shape {tuple(image.shape)}, the first one {self.shape}")
        return image, label


def _together(items: list[Any]) -> tuple[Tensor, Tensor | None] | Exception:
    wrong = next((item for item in items if isinstance(item, Exception)), None)
    if wrong is not None:
        return wrong
    labels = [label for _, label in items]
    return torch.stack([image for image, _ in items]), None if None in labels else torch.tensor(labels)


def _next(stream: Iterator[Any]) -> tuple[Tensor, Tensor | None]:
    found = next(stream)
    if isinstance(found, Exception):
        raise found
    return found


def _empty(index: Mapping[str, Any], items: int) -> dict[str, Tensor]:
    dtype = files.DTYPES[index["dtype"]][0]
    return {
        name: torch.empty(items, dtype=torch.int64)
        if name == "labels"
        else torch.empty(items, *index["shape"], dtype=dtype)
        for name in index["tensors"]
    }


def _store(tensors: dict[str, Tensor], name: str, rows: slice, values: Tensor, names: Sequence[str]) -> None:
    target = tensors[name]
    largest = values.abs().flatten(1).amax(1)  # (n,)
    limit = torch.finfo(target.dtype).max
    beyond = torch.nonzero(largest > limit).flatten().tolist()
    if beyond:
        raise LatentsError(
            f"the {name.split('_')[0]} of the latent of {names[beyond[0]]} reaches {largest[beyond[0]].item():.6g}, "
            f"beyond {limit:.6g}, the largest {str(target.dtype).removeprefix('torch.')}; store float32"
        )
    target[rows] = values.to(target.dtype)
