r"""Images that somebody has stored: how a file becomes pixels, and what all stores share.

:class:`StoredImages` is the common part of folders, tar shards and tables: checking what can be used, naming what
cannot, cropping, labels.
"""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from diffusab_core.data.pixels import center_crop, check_index, check_resolution, random_crop

CROPS = ("center", "random")
CHECKS = ("decode", "header", "none")
Crop = Literal["center", "random"]
Check = Literal["decode", "header", "none"]

# ---------------------------------------------------------------------------------------------------------------------
# One file


@dataclass(frozen=True)
class Skipped:
    """What was left out, and why: a file, or the name of a shard's member or of a table's row."""

    path: Path | str
    reason: str


_FLOAT = "32-bit float pixels have no defined range; save it with 8 or 16 bits"


class UnusableImage(ValueError):
    """An image that cannot be decoded, that is too small, or that is not converted to RGB without guessing."""


def read_rgb(file: str | os.PathLike | BinaryIO) -> np.ndarray:
    """Read any image that Pillow can open, by name or from an open file, as upright 8-bit RGB ``(H, W, 3)``.

    - EXIF orientation is applied; embedded colour profiles are not.
    - Of an animation or a multi-page file the first frame is taken.
    - Transparency of any kind is composited on white.
    - 16-bit greyscale is scaled from its full range (65535 is white), not stretched to the values that occur.
    - Greyscale, black-and-white, palette, CMYK and YCbCr are converted to RGB by Pillow.

    Raises:
        UnusableImage: 32-bit integer or float pixels, whose range is not defined.
        OSError: The file cannot be read or decoded (Pillow raises other exceptions, too, on broken files).
    """
    with Image.open(file) as opened:
        opened.seek(0)
        image = ImageOps.exif_transpose(opened)
        if image.mode == "F":
            raise UnusableImage(_FLOAT)
        if image.mode.startswith("I"):  # I;16 and its byte orders; Pillow gives some 16-bit files as 32-bit I
            values = np.asarray(image).astype(np.int64)
            if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
                raise UnusableImage(
                    f"32-bit integer pixels from {values.min()} to {values.max()} have no defined "
                    "range; save it with 8 or 16 bits"
                )
            grey = np.round(values / 257).astype(np.uint8)  # 65535 / 255
            return np.repeat(grey[..., None], 3, axis=-1)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
        return np.array(image.convert("RGB"))


def _size(file: str | os.PathLike | BinaryIO) -> tuple[int, int]:
    """Height and width as the header states them; the pixels are not decoded, and the image may lie on its side."""
    with Image.open(file) as image:
        if image.mode == "F":
            raise UnusableImage(_FLOAT)
        return image.height, image.width


def _why(error: Exception) -> str:
    """What went wrong with one image, in words."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    if isinstance(error, UnusableImage):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({error.strerror})"
    return f"cannot be decoded ({type(error).__name__}: {error})"


# ---------------------------------------------------------------------------------------------------------------------
# What all stores share


class StoredImages(Dataset):
    r"""Images of any sizes that are stored somewhere, as squares of one size: the face of every store.

    Item ``i`` is the image ``(3, R, R)``, or with ``labels`` the pair of image and class number. How files are
    converted is described at :func:`read_rgb`. Images are never enlarged. A subclass says how an image is opened and
    named; no handle is kept open, so that datasets can be pickled and used from any number of processes.

    Args:
        where: What to call the store in messages.
        resolution: Side of the square items in pixels.
        crop: ``"center"`` takes the largest centred square; ``"random"`` draws scale, position and flip from
            ``(seed, i)`` as :class:`~diffusab_core.data.Photos` does.
        seed: Seed of random crops.
        labels: Whether an item is ``(image, class number)`` or only the image.

    Attributes:
        classes: Names of the classes in the order of their numbers; empty without ``labels``.
        targets: Class number of each item; empty without ``labels``.
        skipped: What was found to be unusable, with the reason.

    Raises:
        ValueError: An argument is outside its range.
    """

    unit = "images"

    def __init__(self, where: str, resolution: int, crop: Crop, seed: int, labels: bool) -> None:
        check_resolution(resolution)
        if crop not in CROPS:
            raise ValueError(f"unknown crop {crop!r}, choose 'center' or 'random'")
        self.where, self.resolution, self.crop, self.seed, self.labels = where, resolution, crop, seed, labels
        self.classes: tuple[str, ...] = ()
        self.targets: tuple[int, ...] = ()
        self.skipped: tuple[Skipped, ...] = ()
        self.checked = False

    # What a subclass knows

    def __len__(self) -> int:
        raise NotImplementedError

    def name(self, index: int) -> str:
        """What item ``index`` is called within the store."""
        raise NotImplementedError

    def _open(self, index: int) -> str | os.PathLike | BinaryIO:
        """Something that Pillow can open; an ``UnusableImage`` if there is nothing."""
        raise NotImplementedError

    def _restrict(self, kept: Sequence[int]) -> None:
        """Forget all items but these."""
        raise NotImplementedError

    # What follows from it

    def _place(self, index: int) -> str:
        """Where an item is, for errors."""
        return f"{self.where}: {self.name(index)}"

    def why_unusable(self, index: int, check: Check = "decode") -> str | None:
        """Open an item, keep nothing of it, and say why it cannot be used, or ``None`` if it can.

        Args:
            index: Which item.
            check: ``"decode"`` decodes it completely; ``"header"`` reads the size only.
        """
        try:
            file = self._open(index)
            height, width = _size(file) if check == "header" else read_rgb(file).shape[:2]
        except Exception as error:  # decoders raise anything from SyntaxError to struct.error on a broken file
            return _why(error)
        return self._too_small(height, width)

    def _too_small(self, height: int, width: int) -> str | None:
        if min(height, width) < self.resolution:
            return f"{width} x {height} pixels, smaller than the resolution {self.resolution}"
        return None

    def _check(self, check: Check, progress: bool) -> None:
        """Look at every item and leave out those that cannot be used."""
        if check not in CHECKS:
            raise ValueError(f"unknown check {check!r}, choose one of {CHECKS}")
        if check != "none" and len(self):
            total, kept, skipped = len(self), [], []
            hide = not progress or total <= 200
            bar = tqdm(desc=f"checking {self.where}", total=total, unit=self.unit.rstrip("s"), disable=hide)
            with bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # Pillow decodes outside the GIL
                for start in range(0, total, 512):  # in pieces: a million tasks at once are gigabytes
                    some = range(start, min(start + 512, total))
                    for i, reason in zip(some, pool.map(partial(self.why_unusable, check=check), some), strict=True):
                        if reason is None:
                            kept.append(i)
                        else:
                            skipped.append(Skipped(self._skipped_name(i), reason))
                    bar.update(len(some))
            if skipped:
                self._forget_all_but(kept, skipped)
            self.checked = True
        if not len(self):
            raise ValueError(f"no usable image in {self.where}: " + (self._reasons(5) or f"it holds no {self.unit}"))

    def _skipped_name(self, index: int) -> Path | str:
        return self.name(index)

    def _forget_all_but(self, kept: Sequence[int], skipped: Sequence[Skipped]) -> None:
        self._restrict(kept)
        self.targets = tuple(self.targets[i] for i in kept) if self.targets else ()
        self.skipped = (*self.skipped, *skipped)

    def pick(self, indices: Sequence[int]) -> StoredImages:
        """The same store with these items only, in this order; item ``i`` of it draws its crop from ``(seed, i)``."""
        picked = copy.copy(self)
        picked.skipped = ()
        picked._forget_all_but([check_index(i, len(self)) for i in indices], ())
        return picked

    def _reasons(self, limit: int | None = None) -> str:
        shown = self.skipped[:limit]
        lines = [f"\n  {self._within(skip.path)}: {skip.reason}" for skip in shown]
        if len(shown) < len(self.skipped):
            lines.append(f"\n  and {len(self.skipped) - len(shown)} more")
        return "".join(lines)

    def _within(self, name: Path | str) -> Path | str:
        return name

    def summary(self) -> str:
        """How many items are used and every skipped one with its reason."""
        total = len(self) + len(self.skipped)
        line = f"{self.where}: {len(self)} of {total} {self.unit} used"
        line += "" if self.checked else ", not opened yet"
        return f"{line}, {len(self.skipped)} skipped:{self._reasons()}" if self.skipped else line

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int]:
        index = check_index(index, len(self))
        image = self._square(self._pixels(index), index)
        return (image, self.targets[index]) if self.labels else image

    def _pixels(self, index: int) -> np.ndarray:
        try:
            pixels = read_rgb(self._open(index))
            small = self._too_small(*pixels.shape[:2])
            if small:
                raise UnusableImage(small)
        except Exception as error:
            raise UnusableImage(f"{self._place(index)}: {_why(error)}") from error
        return pixels

    def _square(self, pixels: np.ndarray, index: int) -> Tensor:
        if self.crop == "center":
            return center_crop(pixels, self.resolution)
        return random_crop(pixels, self.resolution, np.random.default_rng([self.seed, index]), flip=True)


# ---------------------------------------------------------------------------------------------------------------------
# Small things that stores share


def as_file(data: bytes, size: int) -> io.BytesIO:
    """Bytes as an open file.

    Raises:
        UnusableImage: There are none, or fewer than ``size``.
    """
    if not size:
        raise UnusableImage("the file is empty")
    if len(data) < size:
        raise UnusableImage(f"only {len(data)} of its {size} bytes are there")
    return io.BytesIO(data)


def number_names(targets: Sequence[int], where: str) -> tuple[str, ...]:
    """Names for classes that are known by number only: the numbers, from 0 to the largest that occurs.

    Raises:
        ValueError: The largest is beyond a million, which is no number of a class.
    """
    largest = max(targets, default=-1)
    if largest >= 10**6:
        raise ValueError(f"{where}: a label is {largest}, so these are not numbers of classes")
    return tuple(map(str, range(largest + 1)))


def several(places: Sequence[str]) -> str:
    """One place, or the first and the last of many, for messages."""
    return places[0] if len(places) == 1 else f"{places[0]} ... {places[-1]} ({len(places)} files)"
