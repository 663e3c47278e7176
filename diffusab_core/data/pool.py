"""Endless crops of stored images that are read once and kept in memory: what an autoencoder is trained on."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from diffusab_core.data.pixels import check_counts, check_index, random_crop
from diffusab_core.data.stores import StoredImages


class Pool(Dataset):
    r"""Random square crops of stored images at random scale, antialiased, as :class:`.Photos` draws them of its own.

    Item ``i`` draws from ``(seed, i)`` an image, a square whose side is log-uniform between the resolution and the
    image's short side, its position and a horizontal flip. Every image is decoded once, and shrunk where its short
    side is above ``side``: a hundred photographs of 512 x 768 take 120 MB. Reading each from the disk for every crop
    would take longer than a step of a small network.

    Args:
        images: The store; its resolution is that of the crops.
        length: How many items there are; crops are endless.
        side: Longest short side that is kept, in pixels.
        seed: Of all items.
    """

    def __init__(self, images: StoredImages, length: int, side: int, seed: int = 0, progress: bool = True) -> None:
        check_counts(length=length)
        check_counts(images.resolution, side=side)
        self.images, self.length, self.side, self.seed = images, length, side, seed
        self.resolution = images.resolution
        bar = tqdm(range(len(images)), desc=f"reading {images.where}", unit="image", disable=not progress)
        self._pixels = [shrink(images.pixels(i), side) for i in bar]

    def __len__(self) -> int:
        return self.length

    def _draw(self, index: int) -> tuple[int, np.random.Generator]:
        rng = np.random.default_rng([self.seed, check_index(index, self.length)])
        return int(rng.integers(len(self._pixels))), rng

    def name(self, index: int) -> str:
        """The image that an item is cut from, as the store calls it."""
        return self.images.name(self._draw(index)[0])

    def __getitem__(self, index: int) -> Tensor:
        which, rng = self._draw(index)
        return random_crop(self._pixels[which], self.resolution, rng, flip=True)


def shrink(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 ``(H, W, 3)`` with a short side of at most ``side``, antialiased; smaller ones as they are."""
    height, width = pixels.shape[:2]
    if min(height, width) <= side:
        return pixels
    factor = side / min(height, width)
    size = (max(side, round(width * factor)), max(side, round(height * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
