"""Encoding a dataset once, into a cache of latents that :class:`~diffusab_core.latents.cache.LatentCache` reads.

A shard is written whole or not at all, and only then entered in the index with its SHA-256. So an extraction that is
killed goes on after the last whole shard, and ends with the same bytes. Under torchrun the processes share the shards.
An image that turns out to be broken is left out and named; every other one keeps its row.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from diffusab_core import autoencoders
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.data.open import open_images
from diffusab_core.data.pixels import parse_resolution, sides
from diffusab_core.data.places import CLIPS, WORDS, Choosing
from diffusab_core.data.stores import CROPS, StoredImages
from diffusab_core.files import DiffusabWarning
from diffusab_core.latents import cache as caches
from diffusab_core.latents import encoded
from diffusab_core.latents.base import TensorLatents, measure_channels, name_constants
from diffusab_core.latents.cache import LatentCache
from diffusab_core.latents.encoded import EncodedLatents, ImageBatches
from diffusab_core.latents.identity import LatentsError, images_found, weights_digest
from diffusab_core.training.world import World, barrier, from_main, gather


@dataclass(frozen=True)
class Extraction(Choosing):
    """What to extract.

    Attributes:
        model: Shipped name, diffusers folder, hub id (``PIPELINE:vae`` for one of its folders), single file of weights,
            or your own ``file.py:function``.
        images: What to encode: a place of images, see ``diffusab profile --help``; ``photos`` or ``leaves``.
        resolution: Side of the square images in pixels, or height and width, ``256x384``.
        crop: ``"center"``, ``"random"``, one random crop of each image, or ``"adm"``, that of ADM's reference batches;
            of no concern to ``photos`` and ``leaves``.
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
    resolution: str | int | tuple[int, int] = 256
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
        object.__setattr__(self, "resolution", parse_resolution(self.resolution))
        for name, least in (("samples", 1), ("seed", 0), ("shard_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise LatentsError(f"{name} must be at least {least}, got {value}")
        for name, choices in (("crop", CROPS), ("dtype", caches.DTYPES), ("precision", encoded.PRECISIONS)):
            if getattr(self, name) not in choices:
                raise LatentsError(f"{name} is one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.low_pass is not None and not 0 < self.low_pass < math.inf:
            raise LatentsError(f"low_pass is a radius in cycles per pixel, above 0, got {self.low_pass}")


def extract(
    settings: Extraction,
    out: str | os.PathLike,
    *,
    dataset: Dataset | None = None,
    batch_size: int = 16,
    workers: int = 0,
    progress: bool = True,
    world: World | None = None,
) -> LatentCache:
    """Encode a dataset into a cache; the same call goes on, makes deleted shards anew, and only opens what is finished.

    A channel that is constant in the first shard is a warning; where it stays so the cache has no statistics.

    A cache of something else, a folder of other files, and a latent that is not finite, of another shape, or beyond the
    range of the stored type are a :class:`LatentsError`.

    Args:
        settings: What to extract.
        out: Folder of the cache; new, empty, or one that the same settings have begun.
        dataset: What to encode, as :class:`~diffusab_core.latents.encoded.EncodedLatents` takes it, instead of what
            ``settings.images`` opens, which then is only a name.
        batch_size: Images encoded at a time.
        workers: Processes that read images ahead; 0 reads in this one.
        world: Processes that all make this call, to share the shards; the cache is the same. ``None``: this one alone.
    """
    if batch_size < 1 or workers < 0:
        raise LatentsError(f"batch_size must be at least 1 and workers at least 0, got {batch_size} and {workers}")
    world, folder = world or World(), Path(out)
    begun = (folder / caches.INDEX).is_file()
    if folder.exists() and not begun:
        caches.refuse_foreign(folder)
    autoencoder = autoencoders.load(settings.model, settings.device, probe=min(sides(settings.resolution)))
    if dataset is None:
        autoencoder.latent_shape(*sides(settings.resolution), settings.frames)  # before any image is looked at
    wanted = _identify(settings, autoencoder)
    if begun:
        index = caches.read_index(folder)
        chosen = {"low_pass": None, **dict.fromkeys(CLIPS), **wanted, "shard_size": settings.shard_size}
        caches.refuse_other(folder, index | index["identity"], chosen)
        if index["complete"] and all((folder / shard["file"]).exists() for shard in index["shards"]):
            return LatentCache(folder)
    barrier(world)  # every process has seen what was there before one writes
    images = open_extracted(settings, progress, world) if dataset is None else dataset
    found = {"images_found": images_found(images, world)} if isinstance(images, StoredImages) else {}
    with caches.sole_writer(folder) if world.is_main else contextlib.nullcontext():
        source = EncodedLatents(
            autoencoder, images, precision=settings.precision, class_names=None if settings.labels else (),
            identity=wanted | found, low_pass=settings.low_pass,
        )  # fmt: skip
        if settings.labels and not source.num_classes:
            raise LatentsError("labels were asked for, and the dataset's items have none")
        index = from_main(_begin(folder, settings, source) if world.is_main else {}, world)
        start, done = time.perf_counter(), {shard["file"]: shard["items"] for shard in index["shards"]}
        before, hide = sum(done.values()), not (progress and world.is_main)
        todo = [k for k in range(-(-index["count"] // index["shard_size"])) if caches.SHARD.format(k) not in done]
        with tqdm(desc="encoding", unit="image", total=index["count"], disable=hide, initial=before) as bar:
            mine = _encode_shards(source, index, todo[world.rank :: world.size], batch_size, workers, bar)
            # Processes meet after each round of shards, so that none waits for another longer than a shard takes.
            for _ in range(0, len(todo), world.size):
                shard = next(mine, None)
                if shard is not None and shard[0] == 0:
                    _warn_of_constants(*shard)
                found = None if shard is None else caches.write_shard(folder, *shard)
                index["shards"] += [entry for entry in gather(found, world) if entry is not None]
                index["shards"].sort(key=lambda entry: entry["file"])
                if world.is_main:
                    caches.write_index(folder, index)
                bar.update(sum(entry["items"] for entry in index["shards"]) - bar.n)  # those of the others
        seconds = time.perf_counter() - start
        if world.is_main:
            measured = measure_channels(LatentCache(folder, finished=False), hide=None if progress else True)
            mean, std = (values.float().tolist() for values in measured[:2])
            index = {k: v for k, v in index.items() if k != "constants"}
            index |= {"complete": True, "channel_mean": mean, "channel_std": std}
            index |= {"constants": found} if (found := name_constants(*measured)) else {}
            caches.write_index(folder, index)
    barrier(world)
    cache = LatentCache(folder)
    new = [shard for shard in cache.index["shards"] if shard["file"] not in done]
    cache.encoded = sum(shard["items"] - len(shard.get("left_out", ())) for shard in new)
    cache.seconds = seconds
    return cache


def _warn_of_constants(number: int, tensors: dict[str, Tensor], left_out: Sequence[Sequence[Any]]) -> None:
    """Say of the first shard, not after the last, that a denoiser cannot be trained on these latents."""
    missing = {place - number * len(tensors["mean"]) for place, _, _ in left_out}
    rows = [i for i in range(len(tensors["mean"])) if i not in missing]
    if rows:
        some = TensorLatents(tensors["mean"][rows], tensors["std"][rows] if "std" in tensors else None, identity={})
        for said in name_constants(*measure_channels(some, hide=True)):
            later = "a denoiser cannot be trained on it, unless it varies later; what is encoded is kept"
            warnings.warn(f"{said}: {later}", DiffusabWarning, stacklevel=3)


def _identify(settings: Extraction, autoencoder: Autoencoder) -> dict[str, Any]:
    # By what it was opened as: whoever decodes has to open it again.
    found = {"autoencoder": settings.model, "weights": weights_digest(autoencoder), **settings.as_values()}
    if isinstance(settings.resolution, tuple):
        found["resolution"] = list(settings.resolution)  # as it comes back from the file
    if not isinstance(settings.images, str):
        found["images"] = list(map(os.fspath, settings.images))
    without = {"model", "device", "shard_size"} | ({"low_pass"} if settings.low_pass is None else set())
    without |= {"stride"} if settings.stride == 1 else set()
    return {name: value for name, value in found.items() if name not in without}


def open_extracted(settings: Extraction, progress: bool = True, world: World | None = None) -> Dataset:
    """The images that an extraction encodes; of stored ones a random choice where fewer are asked for."""
    endless = settings.images in WORDS
    if endless and settings.samples is None:
        raise LatentsError(f"{settings.images} are endless: say with samples how many of them")
    found = open_images(settings.images, settings.resolution, settings.crop, settings.seed, settings.labels,
                        length=settings.samples if endless else None, progress=progress, world=world,
                        **settings.choices)  # fmt: skip
    if endless or settings.samples is None or settings.samples >= len(found):
        return found
    # The first ones of a folder of classes would be one class.
    return found.pick(np.sort(np.random.default_rng(settings.seed).permutation(len(found))[: settings.samples]))


def read_usable(images: Dataset, batch_size: int, workers: int = 0) -> Iterator[Tensor]:
    """Batches of a dataset's images, ``(n, 3, H, W)``, in order; those that cannot be used are left out."""
    places = range(len(images))
    order = [places[i : i + batch_size] for i in range(0, len(places), batch_size)]
    for found in DataLoader(_Reading(ImageBatches(images)), None, sampler=order, num_workers=workers):
        if isinstance(found, Exception):
            raise found
        if found[0]:
            yield found[1]


def _begin(folder: Path, settings: Extraction, source: EncodedLatents) -> dict[str, Any]:
    """The index that lies in the folder, with the shards that are still there; else a new one, written down."""
    first = [source.images.first]
    tensors = ["mean", "std"] if source.encode(source.images[first][0], False, first).std.any() else ["mean"]
    tensors += [f"{name}_flipped" for name in tensors] if settings.flips else []
    tensors += ["labels"] if settings.labels else []
    same = {"shape": list(source.shape), "tensors": tensors, "class_names": list(source.class_names)}
    if (folder / caches.INDEX).is_file():
        index = caches.read_index(folder)
        identity = dict.fromkeys(index["identity"]) | source.identity
        caches.refuse_other(folder, index | index["identity"], identity | same)
        shards = [shard for shard in index["shards"] if (folder / shard["file"]).exists()]
        for shard in shards:
            caches.check_shard(folder, index, shard)
        return index | {"complete": False, "shards": shards}
    skipped = getattr(source.images.dataset, "skipped", ())
    index = same | {name: getattr(settings, name) for name in ("dtype", "flips", "shard_size")}
    index |= {"format": caches.FORMAT, "version": caches.FORMAT_VERSION, "complete": False, "shards": []}
    index |= {"identity": source.identity, "count": len(source), "skipped_count": len(skipped)}
    index["skipped"] = [[skip.name, skip.reason] for skip in skipped[:20]]
    index["versions"] = {"diffusab_core": version("diffusab_core"), "torch": torch.__version__}
    caches.write_index(folder, index)  # says from the start what the shards beside it are
    return index


def _encode_shards(
    source: EncodedLatents, index: dict[str, Any], shards: Sequence[int], batch_size: int, workers: int, bar: tqdm
) -> Iterator[tuple[int, dict[str, Tensor], list[list[Any]]]]:
    """Number and tensors of each of these shards, and what is left out; images are read ahead over their borders."""
    size, batches = index["shard_size"], {}
    for k in shards:
        items = range(index["count"])[k * size : (k + 1) * size]
        batches[k] = [items[i : i + batch_size] for i in range(0, len(items), batch_size)]
    order, generator = [batch for k in shards for batch in batches[k]], torch.Generator()  # else it is the global one
    stream = iter(DataLoader(_Reading(source.images), None, sampler=order, num_workers=workers, generator=generator))
    for k in shards:
        made, left_out = [], []
        for batch in batches[k]:
            found = next(stream)
            if isinstance(found, Exception):
                raise found
            kept, images, labels, broken = found
            tensors = _encode_batch(source, index, kept, images, labels) if kept else {}
            if broken:
                tensors = _spread(tensors, [place - batch[0] for place in kept], len(batch), index)
            made.append(tensors)
            left_out += broken
            bar.update(len(batch))
        tensors = {name: torch.cat([tensors[name] for tensors in made]).contiguous() for name in index["tensors"]}
        yield k, tensors, left_out


def _spread(tensors: dict[str, Tensor], rows: list[int], count: int, index: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors of ``count`` rows that are empty but for these, so that an image that is left out moves no other."""
    spread = {}
    for name in index["tensors"]:
        shape, dtype = ((), torch.int64) if name == "labels" else (index["shape"], caches.DTYPES[index["dtype"]][0])
        spread[name] = torch.zeros(count, *shape, dtype=dtype)
        if rows:
            spread[name][rows] = tensors[name]
    return spread


def _encode_batch(
    source: EncodedLatents, index: dict[str, Any], places: Sequence[int], images: Tensor, labels: Tensor | None
) -> dict[str, Tensor]:
    dtype, tensors = caches.DTYPES[index["dtype"]][0], {"labels": source.check_labels(labels, places)}
    for flipped in (False, True) if index["flips"] else (False,):
        posterior = source.encode(images, flipped, places)
        for what, values in (("mean", posterior.mean), ("std", posterior.std)):
            stored = tensors[what + "_flipped" * flipped] = values.to(dtype)
            if not stored.isfinite().all():
                largest, limit = values.abs().flatten(1).amax(1), torch.finfo(dtype).max
                i = int(largest.argmax())
                name = f"the {what} of the latent of {source.images.name(places[i])}"
                raise LatentsError(f"{name} reaches {largest[i]:.6g}, beyond {limit:.6g} of {dtype}; store float32")
        if "std" not in index["tensors"] and posterior.std.any():
            first, here = source.images.name(source.images.first), source.images.name(places[0])
            raise LatentsError(f"{source.autoencoder.name} is deterministic for {first}, not from {here} on")
    return tensors


@dataclass
class _Reading(Dataset):
    """Batches for a data loader, as :meth:`~diffusab_core.latents.encoded.ImageBatches.usable` has them.

    An error is returned, because one raised in a worker would come as its traceback.
    """

    images: ImageBatches

    def __getitem__(self, places: Sequence[int]) -> tuple | Exception:
        try:
            return self.images.usable(places)
        except (ValueError, OSError) as error:
            return error
