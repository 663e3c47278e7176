"""Images that somebody has stored, as squares of one size: one class for folders, tar shards and tables.

A :class:`Source` says how many files there are, what they are called and how one is opened; :class:`StoredImages`
checks, crops and labels, for all of them. So one image through any source is one tensor.
"""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, Protocol, get_args

import numpy as np
from PIL import UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from diffusab_core.data.pixels import (
    ImagesError,
    UnusableImage,
    center_crop,
    check_counts,
    check_index,
    random_crop,
    read_rgb,
    read_size,
)
from diffusab_core.files import DiffusabError

if TYPE_CHECKING:
    from diffusab_core.training.world import World

Crop = Literal["center", "random"]
Check = Literal["decode", "header", "none"]
CROPS, CHECKS = get_args(Crop), get_args(Check)
_EXAMPLE = "n01440764/name.JPEG"
_PIECE = 512  # items checked at a time: a million tasks at once are gigabytes
_THREADS = min(8, os.cpu_count() or 1)  # Pillow decodes outside the GIL


class ImagesNotFound(DiffusabError, FileNotFoundError):
    """There are no images where they were looked for."""


class Skipped(NamedTuple):
    """What was left out, and why."""

    name: str  # within the store
    reason: str


class Source(Protocol):
    """Files of images in a fixed order, none of them kept open: sources are pickled and used from any process."""

    where: str  # what to call it in messages
    unit = "images"  # what it consists of
    decoded = 0  # up to how many files are decoded beforehand unless the check is named; of more, headers are read
    classes: tuple[str, ...] = ()  # their names; empty without labels
    targets: np.ndarray  # class number of each file, int64; -1 has none
    skipped: Sequence[Skipped] = ()  # what is no image at all

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What a file is called within the source."""

    def place(self, index: int) -> str:
        """Where it is, for errors."""
        return f"{self.where}: {self.name(index)}"

    def open(self, index: int) -> str | BinaryIO:
        """Something that Pillow can open; an :class:`UnusableImage` if there is nothing."""

    def set_labels(self, numbers: Sequence[int], names: Sequence[str] | None = None) -> None:
        """Class number of each file and names of the classes; without, the numbers from 0 to the largest there is."""
        largest = max(numbers, default=-1)
        if not names and largest >= 10**6:
            raise ImagesError(f"{self.where}: a label is {largest}, so these are not numbers of classes")
        self.targets = np.array(numbers, dtype=np.int64)
        self.classes = tuple(names or map(str, range(largest + 1)))


class StoredImages(Dataset):
    r"""Images of any sizes from a source, as squares of one size.

    Item ``i`` is the image ``(3, R, R)`` or, where the source has labels, the pair of image and class number. Files are
    converted by :func:`~diffusab_core.data.pixels.read_rgb` and never enlarged. What cannot be used is left out when
    the dataset is made: ``skipped`` says what, and why. ``classes`` are the names of the classes, empty without labels.
    Nothing usable at all is an :class:`ImagesError`, a file that breaks later an :class:`UnusableImage`.

    Args:
        source: Where the images come from.
        resolution: Side R in pixels.
        crop: ``"center"`` takes the largest centred square, ``"random"`` one drawn from ``(seed, i)``, perhaps flipped.
        check: ``"decode"`` decodes every file beforehand; ``"header"`` reads sizes only, some fifteen times faster;
            ``"none"`` opens nothing. ``None``: as the source would have it.
        progress: Show a progress bar while checking more than 200 files.
        world: Processes that all open these images: the main one checks, and tells the others what it found.
    """

    def __init__(
        self,
        source: Source,
        resolution: int,
        crop: Crop = "center",
        seed: int = 0,
        check: Check | None = None,
        progress: bool = True,
        world: World | None = None,
    ) -> None:
        check_counts(resolution=resolution)
        check = check or ("decode" if len(source) <= source.decoded else "header")
        for what, value, known in (("crop", crop, CROPS), ("check", check, CHECKS)):
            if value not in known:
                raise ImagesError(f"unknown {what} {value!r}, choose one of {', '.join(known)}")
        self.source, self.where, self.classes = source, source.where, source.classes
        self.resolution, self.crop, self.seed = resolution, crop, seed
        self.skipped, self._kept = tuple(source.skipped), np.arange(len(source))
        if self.classes:
            self._leave_out(self._find_loose_files())
        if check != "none":
            self._leave_out(self._find_faults(check, progress, world))
        self._refuse_nothing()
        if isinstance(source, Folder):
            self._refuse_empty_classes()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def targets(self) -> tuple[int, ...]:
        """Class number of each item; empty without labels."""
        return tuple(self.source.targets[self._kept].tolist()) if self.classes else ()

    def name(self, index: int) -> str:
        """What an item is called: a path below the folder, a shard's member, a row."""
        return self.source.name(int(self._kept[index]))

    def place(self, index: int) -> str:
        """Where an item is, for errors."""
        return self.source.place(int(self._kept[index]))

    def pixels(self, index: int) -> np.ndarray:
        """The whole image of an item as uint8 ``(H, W, 3)``; an :class:`UnusableImage` says where it is, and why."""
        try:
            return self._read(index)
        except Exception as error:  # decoders raise anything from SyntaxError to struct.error on a broken file
            raise UnusableImage(f"{self.place(index)}: {_say_why(error)}") from error

    def why_unusable(self, index: int, check: Check = "decode") -> str | None:
        """Open an item, keep nothing of it, and say why it cannot be used, or ``None`` if it can."""
        try:
            self._read(index, check)
        except Exception as error:  # as above
            return _say_why(error)
        return None

    def _read(self, index: int, check: Check = "decode") -> np.ndarray | None:
        file = self.source.open(int(self._kept[index]))
        pixels = read_rgb(file) if check == "decode" else None
        height, width = read_size(file) if pixels is None else pixels.shape[:2]
        if min(height, width) < self.resolution:
            raise UnusableImage(f"{width} x {height} pixels, smaller than the resolution {self.resolution}")
        return pixels

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int]:
        index = check_index(index, len(self))
        pixels = self.pixels(index)
        if self.crop == "center":
            image = center_crop(pixels, self.resolution)
        else:
            image = random_crop(pixels, self.resolution, np.random.default_rng([self.seed, index]), flip=True)
        return (image, int(self.source.targets[self._kept[index]])) if self.classes else image

    def pick(self, indices: Sequence[int]) -> StoredImages:
        """The same store with these items only, in this order; item ``i`` of it draws its crop from ``(seed, i)``."""
        picked = copy.copy(self)
        picked._kept = self._kept[list(indices)]
        return picked

    def draw(self, limit: int, seed: int, progress: bool = False) -> StoredImages:
        """The same store with at most ``limit`` usable items, drawn by the seed; no more are opened than that.

        Items keep their order. What was opened in vain joins :attr:`skipped`; that all was is an :class:`ImagesError`.
        """
        shuffled, usable, faults = iter(np.random.default_rng(seed).permutation(len(self)).tolist()), [], {}
        bar = tqdm(desc=f"opening {self.where}", total=min(limit, len(self)), disable=not progress)
        with bar, ThreadPoolExecutor(_THREADS) as pool:
            # As many at a time as are still missing, so that the choice does not depend on which thread is first.
            while some := list(islice(shuffled, limit - len(usable))):
                faults |= self._check(some, "decode", pool)
                usable += [i for i in some if i not in faults]
                bar.update(len(usable) - bar.n)
        drawn = self.pick(sorted(usable))
        drawn.skipped += tuple(Skipped(self.name(i), faults[i]) for i in sorted(faults))
        drawn._refuse_nothing()
        return drawn

    def _check(self, indices: Iterable[int], check: Check, pool: ThreadPoolExecutor) -> dict[int, str]:
        """Which of these items cannot be used, and why."""
        reasons = pool.map(partial(self.why_unusable, check=check), indices)
        return {i: reason for i, reason in zip(indices, reasons, strict=True) if reason is not None}

    def _find_faults(self, check: Check, progress: bool, world: World | None) -> dict[int, str]:
        if world is not None:
            from diffusab_core.training.world import from_main  # loads what one process does not need

        main, faults = world is None or world.is_main, {}
        hide = not (progress and main and len(self) > 200)
        bar = tqdm(desc=f"checking {self.where}", total=len(self), disable=hide)
        with bar, ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(self), _PIECE):
                some = range(start, min(start + _PIECE, len(self)))
                found = self._check(some, check, pool) if main else {}
                # Piece by piece, so that no process waits long for the main one.
                faults |= found if world is None else from_main(found, world)
                bar.update(len(some))
        return faults

    def _find_loose_files(self) -> dict[int, str]:
        """Files without a class: a list or a licence is left out, an image is an error."""
        loose = {i: self.why_unusable(i, "header") for i in np.flatnonzero(self.source.targets < 0).tolist()}
        for i in (i for i, reason in loose.items() if reason is None):
            raise ImagesError(f"{self.source.place(i)} lies in {self.where} itself and so has no class; with labels "
                              f"every image lies in the folder of its class, as in {_EXAMPLE}")  # fmt: skip
        return loose

    def _leave_out(self, faults: dict[int, str]) -> None:
        self.skipped += tuple(Skipped(self.name(i), reason) for i, reason in faults.items())
        self._kept = np.delete(self._kept, list(faults))

    def _refuse_nothing(self) -> None:
        if len(self):
            return
        reasons = [f"{skip.name}: {skip.reason}" for skip in self.skipped[:3]] or [f"it holds no {self.source.unit}"]
        reasons += [f"and {len(self.skipped) - 3} more"] if len(self.skipped) > 3 else []
        raise ImagesError(f"no usable image in {self.where}: {'; '.join(reasons)}")

    def _refuse_empty_classes(self) -> None:
        """Folders of classes are there because they hold something; numbers need not all occur."""
        for number in sorted({*range(len(self.classes))} - {*self.targets}):
            folder = self.source.root / self.classes[number]
            reasons = [f"{s.name}: {s.reason}" for s in self.skipped if s.name.startswith(f"{folder.name}/")]
            reasons += ["it is a link, and links to folders are not followed"] * folder.is_symlink()
            why = [*reasons, "it holds no files"][0]
            raise ImagesError(f"the class folder {folder} has no usable image ({why}); fill or remove it")


def _say_why(error: Exception) -> str:
    if isinstance(error, UnusableImage):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({error.strerror})"
    return f"cannot be decoded ({type(error).__name__}: {error})"


class Folder(Source):
    r"""Every file below a folder, in sorted order; links to folders are not followed.

    With ``labels`` the class of an image is the first folder below the root, ``root/n01440764/name.JPEG`` as ImageNet
    has it, numbered in sorted order, as torchvision does.
    """

    unit, decoded = "files", 4096

    def __init__(self, path: str | os.PathLike, labels: bool = False) -> None:
        self.root, self.where = Path(path), str(Path(path))
        if not self.root.exists():
            raise ImagesNotFound(f"there is no folder {self.root}")
        if not self.root.is_dir():
            raise ImagesError(f"{self.root} is a file, give the folder that holds the images")
        start = len(os.path.join(self.root, ""))
        files = [os.path.join(folder, name)[start:] for folder, _, names in os.walk(self.root) for name in names]
        self.files = sorted(files, key=lambda file: file.split(os.sep))  # part by part, as paths are
        if labels:
            numbers = {name: i for i, name in enumerate(sorted(e.name for e in os.scandir(self.root) if e.is_dir()))}
            if not numbers:
                raise ImagesError(f"{self.root} holds no folders, so there are no labels: images lie in the folder of "
                                  f"their class, as in {_EXAMPLE}")  # fmt: skip
            self.set_labels([numbers.get(file.partition(os.sep)[0], -1) for file in self.files], tuple(numbers))

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return self.files[index].replace(os.sep, "/")

    def place(self, index: int) -> str:
        return os.path.join(self.root, self.files[index])

    def open(self, index: int) -> str:
        path = self.place(index)
        if os.stat(path).st_size == 0:
            raise UnusableImage("the file is empty")
        return path


class ImageFolder(StoredImages):
    """Every usable image below a :class:`Folder`; other arguments are those of :class:`StoredImages`.

    By default all of up to 4096 files are decoded beforehand; of more, only headers are read. No such folder is an
    :class:`ImagesNotFound`; a file instead, or no folders of classes for labels, an :class:`ImagesError`.
    """

    def __init__(self, path: str | Path, resolution: int, *more: Any, labels: bool = False, **named: Any) -> None:
        super().__init__(Folder(path, labels), resolution, *more, **named)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The usable files."""
        return tuple(Path(self.source.place(i)) for i in self._kept.tolist())


def as_file(data: bytes, size: int) -> io.BytesIO:
    """Bytes as an open file; an :class:`UnusableImage` if there are none, or fewer than ``size``."""
    if not size:
        raise UnusableImage("the file is empty")
    if len(data) < size:
        raise UnusableImage(f"only {len(data)} of its {size} bytes are there")
    return io.BytesIO(data)


def several(places: Sequence[str]) -> str:
    """One place, or the first and the last of many, for messages."""
    return places[0] if len(places) == 1 else f"{places[0]} ... {places[-1]} ({len(places)} files)"
