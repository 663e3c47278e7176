"""Which images a report looks at: a sample of a folder, or the photographs that come along."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from diffusab_core.data import ImageFolder, Photos, Skipped, _check_resolution, _files_below, _why_unusable
from diffusab_core.sources import SourceError


@dataclass(frozen=True)
class Images:
    """Which images a report looks at.

    Attributes:
        dataset: Items ``(3, R, R)`` in [-1, 1].
        names: What each item is, in order: a path below the folder, or a photograph's name.
        described: All of it in words.
        skipped: Files that could not be used, with the reason; paths below the folder.
        not_opened: How many further files the folder holds.
    """

    dataset: Dataset
    names: tuple[str, ...]
    described: str
    skipped: tuple[tuple[str, str], ...] = ()
    not_opened: int = 0


class SampledFolder(ImageFolder):
    """An :class:`~diffusab_core.data.ImageFolder` of ``limit`` files drawn by the seed; no more are opened than that.

    Attributes:
        not_opened: How many files were not needed.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        resolution: int,
        crop: Literal["center", "random"] = "center",
        seed: int = 0,
        limit: int = 256,
        progress: bool | None = None,
    ) -> None:
        _check_resolution(resolution)
        self.root, self.resolution, self.crop, self.seed = Path(path), resolution, crop, seed
        files = _files_below(self.root)
        shuffled = iter([files[i] for i in np.random.default_rng(seed).permutation(len(files))])
        usable: list[Path] = []
        skipped: list[Skipped] = []
        bar = tqdm(desc=f"opening {self.root}", total=min(limit, len(files)), unit="file", disable=hidden(progress))
        with bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            # As many at a time as are still missing, so that the choice does not depend on which thread is first.
            while some := list(itertools.islice(shuffled, limit - len(usable))):
                for file, reason in zip(some, pool.map(lambda f: _why_unusable(f, resolution), some), strict=True):
                    if reason is None:
                        usable.append(file)
                        bar.update()
                    else:
                        skipped.append(Skipped(file, reason))
        self.paths = tuple(sorted(usable))
        self.skipped = tuple(sorted(skipped, key=lambda skip: skip.path))
        self.not_opened = len(files) - len(usable) - len(skipped)
        if not usable:
            reasons = [f"{skip.path.relative_to(self.root)}: {skip.reason}" for skip in self.skipped[:3]]
            reasons += [f"and {len(self.skipped) - 3} more"] if len(self.skipped) > 3 else []
            raise SourceError(f"no usable image in {self.root}: " + ("; ".join(reasons) or "it holds no files"))


def hidden(progress: bool | None) -> bool | None:
    """tqdm's ``disable``: None lets it hide itself where nobody is watching."""
    return None if progress is None else not progress


def folder_images(
    path: str | os.PathLike, resolution: int, crop: str, samples: int, seed: int, progress: bool | None = None
) -> Images:
    """At most ``samples`` images of a folder.

    Raises:
        FileNotFoundError: There is no such folder.
        NotADirectoryError: ``path`` is a file.
        SourceError: Nothing usable in it.
    """
    folder = SampledFolder(path, resolution, crop, seed, samples, progress)
    names = tuple(file.relative_to(folder.root).as_posix() for file in folder.paths)
    skipped = tuple((skip.path.relative_to(folder.root).as_posix(), skip.reason) for skip in folder.skipped)
    cut = "largest centred square" if crop == "center" else "random square of random scale"
    described = f"{len(names)} images of {folder.root}, {cut}, {resolution} x {resolution} pixels"
    return Images(folder, names, described, skipped, folder.not_opened)


def builtin_images(resolution: int, samples: int, seed: int) -> Images:
    """Random crops of the photographs that come along and that no shipped model was trained on."""
    photos = Photos(resolution, "test", seed, samples)
    names = tuple(f"{photos.source(i)}, crop {i}" for i in range(samples))
    described = (
        f"{samples} random crops of the built-in held-out photographs ({', '.join(photos.names)}), "
        f"{resolution} x {resolution} pixels"
    )
    return Images(photos, names, described)
