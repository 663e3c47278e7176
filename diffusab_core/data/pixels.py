"""From image files to pixels, uint8 ``(H, W, 3)``, and to images, float32 tensors ``(3, H, W)`` in [-1, 1]."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from diffusab_core.data.places import ImagesError

Resolution = int | tuple[int, int]  # the side of a square, or height and width, in pixels


class UnusableImage(ImagesError):
    """An image that cannot be decoded, that is too small, or that is not converted to RGB without guessing.

    ``size`` is the height and width of one that is only too small, else ``None``.
    """

    def __init__(self, said: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(said)
        self.size = size


def rgb01(x: Tensor) -> Tensor:
    r"""Map images from :math:`[-1, 1]` to :math:`[0, 1]`, the range in which spectra of RGB are taken."""
    return (x + 1) / 2


def resize_to(x: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bilinear resize, (..., H, W) -> (..., height, width), of any float dtype ("RGB at latent size")."""
    if x.ndim < 2 or height < 1 or width < 1:
        raise ValueError(f"cannot resize shape {tuple(x.shape)} to {height} x {width}: (..., H, W), sides at least 1")
    flat = x.reshape(-1, 1, *x.shape[-2:]).float()  # half precision is not resized on every device
    out = F.interpolate(flat, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return out.reshape(*x.shape[:-2], height, width).to(x.dtype)


def unroll(x: Tensor) -> Tensor:
    """Clips ``(N, C, T, H, W)`` as images, frame after frame, ``(N*T, C, H, W)``; images as they are."""
    return x.transpose(1, 2).flatten(0, 1) if x.ndim == 5 else x


def stack(dataset: Dataset, indices: Iterable[int]) -> Tensor:
    """Items of a dataset as one batch ``(N, 3, H, W)``, of clips ``(N, 3, T, H, W)``."""
    items = [dataset[i] for i in indices]
    if not items:
        raise ValueError("no indices given, nothing to stack")
    return torch.stack(items)


def parse_resolution(value: str | int | Sequence[int]) -> Resolution:
    """``256`` or ``"256"`` is a square; ``"256x384"`` or ``(256, 384)`` height and width; else an ``ImagesError``."""
    parts = value
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+)(?:\s*[xX×]\s*(\d+))?\s*", value)
        parts = [int(part) for part in found.groups() if part] if found else []
    parts = [parts] if isinstance(parts, int) else list(parts)
    if len(parts) not in (1, 2) or not all(type(part) is int and part >= 1 for part in parts):
        wanted = "a whole number of pixels, at least 1, or HEIGHTxWIDTH such as 256x384"
        raise ImagesError(f"resolution must be {wanted}, got {value!r}")
    return parts[0] if len(set(parts)) == 1 else tuple(parts)


def sides(resolution: Resolution) -> tuple[int, int]:
    """Height and width."""
    return resolution if isinstance(resolution, tuple) else (resolution, resolution)


def say_size(resolution: Resolution) -> str:
    """``256 x 256`` pixels, height first."""
    return "{} x {}".format(*sides(resolution))


_UNDEFINED = "32-bit {} have no defined range; save it with 8 or 16 bits"


def read_rgb(file: str | os.PathLike | BinaryIO) -> np.ndarray:
    """Read any image that Pillow can open, by name or from an open file, as upright 8-bit RGB ``(H, W, 3)``.

    EXIF orientation is applied; embedded colour profiles are not. Of several frames or pages the first is taken.
    Transparency is composited on white. 16-bit greyscale is scaled from its full range (65535 is white). 32-bit pixels,
    whose range is not defined, are an :class:`UnusableImage`; of a broken file Pillow raises many kinds of errors.
    """
    with Image.open(file) as opened:
        opened.seek(0)
        image = ImageOps.exif_transpose(opened)
        if image.mode == "F":
            raise UnusableImage(_UNDEFINED.format("float pixels"))
        if image.mode.startswith("I"):  # I;16 and its byte orders; Pillow gives some 16-bit files as 32-bit I
            values = np.asarray(image).astype(np.int64)
            low, high = values.min(initial=0), values.max(initial=0)
            if low < 0 or high > 65535:
                raise UnusableImage(_UNDEFINED.format(f"integer pixels from {low} to {high}"))
            grey = np.round(values / 257).astype(np.uint8)  # 65535 / 255
            return np.repeat(grey[..., None], 3, axis=-1)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.array(image.convert("RGB"))


def read_size(file: str | os.PathLike | BinaryIO, upright: bool = False) -> tuple[int, int]:
    """Height and width as the header states them, without decoding the pixels.

    The image may lie on its side, unless it is asked for ``upright``, which some kinds of files decode for.
    """
    with Image.open(file) as image:
        if image.mode == "F":
            raise UnusableImage(_UNDEFINED.format("float pixels"))
        turned = upright and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return (image.width, image.height) if turned else (image.height, image.width)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 ``(H, W, 3)`` to float32 ``(3, H, W)`` in [-1, 1]; 0 and 255 are mapped to the ends exactly."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 127.5 - 1


def _cut(pixels: np.ndarray, top: int, left: int, size: tuple[int, int], resolution: Resolution) -> Tensor:
    piece = to_tensor(pixels[top : top + size[0], left : left + size[1]])
    return resize_to(piece, *sides(resolution)).clamp(-1, 1)  # averaging rounds to just outside


def center_crop(pixels: np.ndarray, resolution: Resolution) -> Tensor:
    """The largest centred square, or piece of the resolution's shape, resized: (H, W, 3) -> (3, h, w)."""
    (height, width), (h, w) = pixels.shape[:2], sides(resolution)
    size = _scaled(resolution, height, width, min(height / h, width / w))
    return _cut(pixels, (height - size[0]) // 2, (width - size[1]) // 2, size, resolution)


def random_crop(pixels: np.ndarray, resolution: Resolution, rng: np.random.Generator, flip: bool) -> Tensor:
    """A random square, its side log-uniform between ``resolution`` and the short side, resized and perhaps flipped.

    So every octave of scale is as likely. Never enlarged, which would empty the high frequencies. With a height and a
    width the piece has their shape, and its height is what is drawn.
    """
    (height, width), (h, w) = pixels.shape[:2], sides(resolution)
    tallest = min(height, width) if h == w else min(height, width * h / w)
    tall = round(math.exp(rng.uniform(math.log(h), math.log(tallest))))
    size = _scaled(resolution, height, width, tall / h)
    top, left = rng.integers(height - size[0] + 1), rng.integers(width - size[1] + 1)
    crop = _cut(pixels, top, left, size, resolution)
    return crop.flip(-1) if flip and rng.random() < 0.5 else crop


def _scaled(resolution: Resolution, height: int, width: int, scale: float) -> tuple[int, int]:
    """A resolution times a scale, rounded, and inside an image."""
    h, w = sides(resolution)
    return min(height, round(h * scale)), min(width, round(w * scale))


def adm_crop(pixels: np.ndarray, resolution: int) -> Tensor:
    """The centre crop of ADM's reference batches, uint8 levels and all: (H, W, 3) -> (3, resolution, resolution).

    Halved by a box filter while the short side is at least twice the resolution, then resized so that it is equal to
    the resolution, bicubic and antialiased, then cut in the middle.

    Source: ``center_crop_arr`` of guided-diffusion (Dhariwal and Nichol 2021), as DiT, SiT and their FIDs use it.
    """
    image = Image.fromarray(pixels)
    while min(image.size) >= 2 * resolution:
        image = image.resize(tuple(side // 2 for side in image.size), Image.Resampling.BOX)
    scale = resolution / min(image.size)
    image = image.resize(tuple(round(side * scale) for side in image.size), Image.Resampling.BICUBIC)
    top, left = (image.height - resolution) // 2, (image.width - resolution) // 2
    return to_tensor(np.asarray(image)[top : top + resolution, left : left + resolution])


def check_counts(least: int = 1, **values: int) -> None:
    """Refuse a named value that is no whole number of at least ``least``."""
    for name, value in values.items():
        if not isinstance(value, int) or value < least:
            raise ImagesError(f"{name} must be a whole number, at least {least}, got {value!r}")


def check_seed(seed: int) -> None:
    """Refuse a seed that no stream of random numbers has."""
    if seed < 0:
        raise ImagesError(f"seed must be at least 0, got {seed!r}")


def check_index(index: int, length: int) -> int:
    """A possibly negative index as one from 0 to ``length - 1``; beyond, an ``IndexError``, which ends a loop."""
    if not -length <= index < length:
        raise IndexError(f"index {index} is outside a dataset of {length} items")
    return index % length
