r"""Images that need no network: the photographs inside scikit-image and scikit-learn, and folders of one's own.

Every dataset here is map-style and item ``i`` is a pure function of ``(seed, i)``: the same arguments give the same
tensors on every machine, in any order, from any number of worker processes. Images are float32 tensors
:math:`(3, H, W)` in :math:`[-1, 1]`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

# ---------------------------------------------------------------------------------------------------------------------
# Small conversions


def rgb01(x: Tensor) -> Tensor:
    r"""Map images from :math:`[-1, 1]` to :math:`[0, 1]`, the range in which spectra of RGB are taken."""
    return (x + 1) / 2


def resize_to(x: Tensor, height: int, width: int) -> Tensor:
    r"""Antialiased bilinear resize of the last two axes (the book's "RGB at latent size").

    Args:
        x: :math:`(..., H, W)`, any float dtype; the result has the same dtype.
        height: New height in pixels.
        width: New width in pixels.
    """
    if x.ndim < 2:
        raise ValueError(f"resize_to needs (..., H, W), got shape {tuple(x.shape)}")
    if height < 1 or width < 1:
        raise ValueError(f"cannot resize to {height}x{width}, both sides must be at least 1")
    flat = x.reshape(-1, 1, *x.shape[-2:]).float()  # half precision is not resized on every device
    out = F.interpolate(flat, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return out.reshape(*x.shape[:-2], height, width).to(x.dtype)


def stack(dataset: Dataset, indices: Iterable[int]) -> Tensor:
    """Items of a dataset as one batch ``(N, 3, H, W)``."""
    items = [dataset[i] for i in indices]
    if not items:
        raise ValueError("no indices given, nothing to stack")
    return torch.stack(items)


def _to_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 ``(H, W, 3)`` to float32 ``(3, H, W)`` in [-1, 1]; 0 and 255 are mapped to the ends exactly."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 127.5 - 1


def _square(pixels: np.ndarray, top: int, left: int, side: int, resolution: int) -> Tensor:
    """One square, resized: (H, W, 3) -> (3, resolution, resolution)."""
    square = _to_tensor(pixels[top : top + side, left : left + side])
    return resize_to(square, resolution, resolution).clamp(-1, 1)  # averaging rounds to just outside


def _center_crop(pixels: np.ndarray, resolution: int) -> Tensor:
    """The largest centred square, resized: (H, W, 3) -> (3, resolution, resolution)."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return _square(pixels, top, left, side, resolution)


def _random_crop(pixels: np.ndarray, resolution: int, rng: np.random.Generator, flip: bool) -> Tensor:
    """A random square, its side log-uniform between ``resolution`` and the short side, resized and perhaps flipped.

    Log-uniform, so that every octave of scale is as likely as any other; never enlarged, because enlarging would
    empty the high frequencies that everything here is about.
    """
    height, width = pixels.shape[:2]
    side = round(math.exp(rng.uniform(math.log(resolution), math.log(min(height, width)))))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    crop = _square(pixels, top, left, side, resolution)
    return crop.flip(-1) if flip and rng.random() < 0.5 else crop


def _check_resolution(resolution: int) -> None:
    if not isinstance(resolution, int) or resolution < 1:
        raise ValueError(f"resolution must be a positive number of pixels, got {resolution!r}")


def _check_index(index: int, length: int) -> int:
    # IndexError, and not a wrap-around beyond the end, is what ends `for item in dataset`.
    if not -length <= index < length:
        raise IndexError(f"index {index} is outside a dataset of {length} items")
    return index % length


# ---------------------------------------------------------------------------------------------------------------------
# Photographs that come with the installed packages

SPLITS = ("train", "test")
Split = Literal["train", "test"]


@dataclass(frozen=True)
class Photograph:
    """Where a photograph lies inside an installed package, which split it belongs to, and under which terms."""

    package: str
    file: str
    split: Split
    licence: str


# Only files inside the wheels themselves: nothing here can reach for the network.
PHOTOGRAPHS = {
    "astronaut": Photograph("skimage", "data/astronaut.png", "train", "public domain (NASA)"),
    "chelsea": Photograph("skimage", "data/chelsea.png", "train", "CC0 (Stefan van der Walt)"),
    "flower": Photograph("sklearn", "datasets/images/flower.jpg", "train", "CC BY 2.0 (vultilion)"),
    "motorcycle": Photograph(
        "skimage", "data/motorcycle_left.png", "train", "no terms stated (Middlebury stereo, Scharstein et al. 2014)"
    ),
    "rocket": Photograph("skimage", "data/rocket.jpg", "train", "public domain (SpaceX)"),
    "coffee": Photograph("skimage", "data/coffee.png", "test", "CC0 (Rachel Michetti)"),
    "china": Photograph("sklearn", "datasets/images/china.jpg", "test", "CC BY 2.0 (danielbuechele)"),
}


def photo_names(split: Split | None = None) -> tuple[str, ...]:
    """Names of the photographs, of one split or of both.

    ``coffee`` and ``china`` are the held-out ``test`` split: no shipped model has seen them.
    """
    if split not in (*SPLITS, None):
        raise ValueError(f"unknown split {split!r}, choose one of {SPLITS}")
    return tuple(name for name, photo in PHOTOGRAPHS.items() if split in (photo.split, None))


@lru_cache(maxsize=len(PHOTOGRAPHS))
def _pixels(name: str) -> np.ndarray:
    """uint8 ``(H, W, 3)``; read-only, because it is shared."""
    if name not in PHOTOGRAPHS:
        raise ValueError(f"no photograph is called {name!r}, choose one of {', '.join(PHOTOGRAPHS)}")
    where = PHOTOGRAPHS[name]
    with (files(where.package) / where.file).open("rb") as stream, Image.open(stream) as image:
        pixels = np.array(image.convert("RGB"))
    pixels.flags.writeable = False
    return pixels


def photo(name: str) -> Tensor:
    """One whole photograph ``(3, H, W)`` in [-1, 1].

    Raises:
        ValueError: No photograph has this name; the message lists them.
    """
    return _to_tensor(_pixels(name))


class Photos(Dataset):
    r"""Random square crops of the photographs at random scale, antialiased.

    Item ``i`` draws from ``(seed, i)`` a photograph, a square whose side is log-uniform between ``resolution`` and
    the photograph's short side, its position and, in the training split, a horizontal flip. The test split takes its
    photographs in turn and never flips, so the same ``(seed, i)`` names the same piece of a held-out photograph.

    Args:
        resolution: Side of the crops in pixels.
        split: ``"train"`` or ``"test"`` (the held-out photographs ``coffee`` and ``china``).
        seed: Seed of all items.
        length: How many items there are; crops are endless, so any number may be asked for.

    Raises:
        ValueError: Unknown split, or a resolution above the short side of a photograph (crops are never enlarged).
    """

    def __init__(self, resolution: int = 64, split: Split = "train", seed: int = 0, length: int = 4096) -> None:
        _check_resolution(resolution)
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}, choose one of {SPLITS}")
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        self.names = photo_names(split)
        limit, smallest = min((min(_pixels(name).shape[:2]), name) for name in self.names)
        if resolution > limit:
            raise ValueError(
                f"resolution {resolution} is above {limit}, the short side of {smallest!r}; crops are "
                f"never enlarged, so choose at most {limit}"
            )
        self.resolution, self.split, self.seed, self.length = resolution, split, seed, length

    def __len__(self) -> int:
        return self.length

    def _draw(self, index: int) -> tuple[str, np.random.Generator]:
        index = _check_index(index, self.length)
        rng = np.random.default_rng([self.seed, index])
        if self.split == "test":
            return self.names[index % len(self.names)], rng
        return self.names[rng.integers(len(self.names))], rng

    def source(self, index: int) -> str:
        """Name of the photograph that item ``index`` is cut from."""
        return self._draw(index)[0]

    def __getitem__(self, index: int) -> Tensor:
        name, rng = self._draw(index)
        return _random_crop(_pixels(name), self.resolution, rng, flip=self.split == "train")


# ---------------------------------------------------------------------------------------------------------------------
# Folders of one's own images


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    path: Path
    reason: str


class UnusableImage(ValueError):
    """An image that can be opened but not converted to RGB without guessing."""


def read_rgb(path: str | os.PathLike) -> np.ndarray:
    """Read any image that Pillow can open as upright 8-bit RGB ``(H, W, 3)``.

    - EXIF orientation is applied; embedded colour profiles are not.
    - Of an animation or a multi-page file the first frame is taken.
    - Transparency of any kind is composited on white.
    - 16-bit greyscale is scaled from its full range (65535 is white), not stretched to the values that occur.
    - Greyscale, black-and-white, palette, CMYK and YCbCr are converted to RGB by Pillow.

    Raises:
        UnusableImage: 32-bit integer or float pixels, whose range is not defined.
        OSError: The file cannot be read or decoded (Pillow raises other exceptions, too, on broken files).
    """
    with Image.open(path) as opened:
        opened.seek(0)
        image = ImageOps.exif_transpose(opened)
        if image.mode == "F":
            raise UnusableImage("32-bit float pixels have no defined range; save it with 8 or 16 bits")
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


def _why_unusable(path: Path, resolution: int) -> str | None:
    """Decode a file completely, keep nothing of it, and say why it cannot be used, or ``None`` if it can."""
    try:
        if path.stat().st_size == 0:
            return "the file is empty"
        height, width = read_rgb(path).shape[:2]
    except UnidentifiedImageError:
        return "not an image that Pillow can read"
    except UnusableImage as error:
        return str(error)
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error on a broken file
        return f"cannot be decoded ({type(error).__name__}: {error})"
    if min(height, width) < resolution:
        return f"{width} x {height} pixels, smaller than the resolution {resolution}"
    return None


class ImageFolder(Dataset):
    r"""Every usable image below a folder, in sorted order, as squares of one size.

    All files are decoded once when the dataset is made, so that a broken one is known before a long run and not in
    the middle of it; what cannot be used is skipped and listed in :attr:`skipped` with the reason. Links to folders
    are not followed. How files are converted is described at :func:`read_rgb`. Images are never enlarged.

    Args:
        path: The folder, searched recursively.
        resolution: Side of the square items in pixels.
        crop: ``"center"`` takes the largest centred square; ``"random"`` draws scale, position and flip from
            ``(seed, i)`` as :class:`Photos` does.
        seed: Seed of random crops.
        progress: Show a progress bar while checking more than 200 files.

    Attributes:
        paths: The usable files.
        skipped: The others, each with its reason.

    Raises:
        FileNotFoundError: There is no such folder.
        NotADirectoryError: ``path`` is a file.
        ValueError: Nothing usable remains; the message gives the first reasons.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        resolution: int,
        crop: Literal["center", "random"] = "center",
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        _check_resolution(resolution)
        if crop not in ("center", "random"):
            raise ValueError(f"unknown crop {crop!r}, choose 'center' or 'random'")
        self.root, self.resolution, self.crop, self.seed = Path(path), resolution, crop, seed
        candidates = _files_below(self.root)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # Pillow decodes outside the interpreter lock
            reasons = list(
                tqdm(
                    pool.map(lambda file: _why_unusable(file, resolution), candidates),
                    total=len(candidates),
                    desc=f"checking {self.root}",
                    unit="file",
                    disable=not progress or len(candidates) <= 200,
                )
            )
        found = list(zip(candidates, reasons, strict=True))
        self.paths: tuple[Path, ...] = tuple(file for file, reason in found if reason is None)
        self.skipped: tuple[Skipped, ...] = tuple(Skipped(file, reason) for file, reason in found if reason)
        if not self.paths:
            raise ValueError(f"no usable image in {self.root}: " + (self._reasons(5) or "it holds no files"))

    def _reasons(self, limit: int | None = None) -> str:
        shown = self.skipped[:limit]
        lines = [f"\n  {skip.path.relative_to(self.root)}: {skip.reason}" for skip in shown]
        if len(shown) < len(self.skipped):
            lines.append(f"\n  and {len(self.skipped) - len(shown)} more")
        return "".join(lines)

    def summary(self) -> str:
        """How many files are used and every skipped one with its reason."""
        total = len(self.paths) + len(self.skipped)
        line = f"{self.root}: {len(self.paths)} of {total} files used"
        return f"{line}, {len(self.skipped)} skipped:{self._reasons()}" if self.skipped else line

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        index = _check_index(index, len(self.paths))
        pixels = read_rgb(self.paths[index])
        if self.crop == "center":
            return _center_crop(pixels, self.resolution)
        return _random_crop(pixels, self.resolution, np.random.default_rng([self.seed, index]), flip=True)


def _files_below(root: Path) -> list[Path]:
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {root}")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is a file, give the folder that holds the images")
    return sorted(Path(folder) / name for folder, _, names in os.walk(root) for name in names)
