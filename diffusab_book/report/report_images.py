"""Which images a report looks at: a sample of a folder or of shards, or images that come along."""

from __future__ import annotations

import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from diffusab_core.autoencoders.sources import SourceError
from diffusab_core.data import Photos, StoredImages
from diffusab_core.data.open import WORDS, open_images


@dataclass(frozen=True)
class Images:
    """Which images a report looks at.

    Attributes:
        dataset: Items ``(3, R, R)`` in [-1, 1].
        names: What each item is, in order: a path below the folder, a shard's member, a row, a photograph's name.
        described: All of it in words.
        skipped: Files, members or rows that could not be used, with the reason.
        not_opened: How many further ones there are.
    """

    dataset: Dataset
    names: tuple[str, ...]
    described: str
    skipped: tuple[tuple[str, str], ...] = ()
    not_opened: int = 0


def hidden(progress: bool | None) -> bool | None:
    """tqdm's ``disable``: None lets it hide itself where nobody is watching."""
    return None if progress is None else not progress


def own_images(
    where: str | os.PathLike, resolution: int, crop: str, samples: int, seed: int, progress: bool | None = None
) -> Images:
    """At most ``samples`` images of anything that :func:`~diffusab_core.data.open.open_images` opens but ``photos``.

    Raises:
        OSError: There is no such thing.
        ValueError: It cannot be opened, or nothing in it is usable.
    """
    if where == "leaves":
        leaves = open_images("leaves", resolution, seed=seed, length=samples)
        names = tuple(f"{leaves.class_names[i % leaves.num_classes]}, image {i}" for i in range(samples))
        described = f"{samples} dead-leaves images of {leaves.num_classes} classes, {resolution} x {resolution} pixels"
        return Images(leaves, names, described)
    watched = sys.stderr.isatty() if progress is None else progress
    store = open_images(where, resolution, crop, seed, check="none", progress=watched)
    chosen, skipped, not_opened = sample(store, samples, seed, progress)
    names = tuple(chosen.name(i) for i in range(len(chosen)))
    cut = "largest centred square" if crop == "center" else "random square of random scale"
    described = f"{len(names)} images from {store.where}, {cut}, {resolution} x {resolution} pixels"
    return Images(chosen, names, described, skipped, not_opened)


def refuse_ambiguous(where: str | os.PathLike | None) -> None:
    """Raise if a word for built-in images is also the name of something in the working folder.

    Raises:
        SourceError: It is.
    """
    if where in WORDS and os.path.exists(where):
        raise SourceError(
            f"{where!r} names built-in images, and something here has that name too: for it give ./{where}"
        )


def sample(
    store: StoredImages, limit: int, seed: int, progress: bool | None = None
) -> tuple[StoredImages, tuple[tuple[str, str], ...], int]:
    """At most ``limit`` usable images of a store, drawn by the seed; no more are opened than that.

    Returns:
        The store with these images only, in its own order; what was opened in vain, with the reason; and how many
        images were not needed.

    Raises:
        SourceError: None is usable.
    """
    shuffled = iter(np.random.default_rng(seed).permutation(len(store)).tolist())
    usable: list[int] = []
    useless: list[tuple[int, str]] = []
    bar = tqdm(desc=f"opening {store.where}", total=min(limit, len(store)), unit="file", disable=hidden(progress))
    with bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # As many at a time as are still missing, so that the choice does not depend on which thread is first.
        while some := list(itertools.islice(shuffled, limit - len(usable))):
            for i, reason in zip(some, pool.map(store.why_unusable, some), strict=True):
                if reason is None:
                    usable.append(i)
                    bar.update()
                else:
                    useless.append((i, reason))
    skipped = tuple((skip.name, skip.reason) for skip in store.skipped)  # samples of a shard without an image
    skipped += tuple((store.name(i), reason) for i, reason in sorted(useless))
    if not usable:
        reasons = [f"{name}: {reason}" for name, reason in skipped[:3]]
        reasons += [f"and {len(skipped) - 3} more"] if len(skipped) > 3 else []
        raise SourceError(f"no usable image in {store.where}: {'; '.join(reasons)}")
    return store.pick(sorted(usable)), skipped, len(store) - len(usable) - len(useless)


def builtin_images(resolution: int, samples: int, seed: int) -> Images:
    """Random crops of the photographs that come along and that no shipped model was trained on."""
    photos = Photos(resolution, "test", seed, samples)
    names = tuple(f"{photos.source(i)}, crop {i}" for i in range(samples))
    described = (
        f"{samples} random crops of the built-in held-out photographs ({', '.join(photos.names)}), "
        f"{resolution} x {resolution} pixels"
    )
    return Images(photos, names, described)
