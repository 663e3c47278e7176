"""Images that need no network: the photographs that scikit-image and scikit-learn ship inside their packages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from diffusab_core.data.pixels import check_counts, check_index, check_seed, random_crop, to_tensor
from diffusab_core.data.places import ImagesError

Split = Literal["train", "test"]
SPLITS = get_args(Split)


@dataclass(frozen=True)
class Photograph:
    """Where a photograph lies inside an installed package, which split it belongs to, and its terms."""

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
    """Names of the photographs; ``coffee`` and ``china``, the ``test`` split, no shipped model has seen."""
    if split not in (*SPLITS, None):
        raise ImagesError(f"unknown split {split!r}, choose one of {SPLITS}")
    return tuple(name for name, photo in PHOTOGRAPHS.items() if split in (photo.split, None))


@lru_cache(maxsize=len(PHOTOGRAPHS))
def _pixels(name: str) -> np.ndarray:
    """uint8 ``(H, W, 3)``; read-only, because it is shared."""
    if name not in PHOTOGRAPHS:
        raise ImagesError(f"no photograph is called {name!r}, choose one of {', '.join(PHOTOGRAPHS)}")
    where = PHOTOGRAPHS[name]
    package = find_spec(where.package)  # found and not imported, which would take a second
    if package is None:
        raise ModuleNotFoundError(f"the photograph {name!r} lies inside {where.package}, which is not installed")
    with Image.open(Path(package.origin).parent / where.file) as image:
        pixels = np.array(image.convert("RGB"))
    pixels.flags.writeable = False
    return pixels


def photo(name: str) -> Tensor:
    """One whole photograph ``(3, H, W)`` in [-1, 1]; an :class:`ImagesError` lists the names that there are."""
    return to_tensor(_pixels(name))


@dataclass(frozen=True, eq=False)
class Photos(Dataset):
    r"""Random square crops of the photographs at random scale, antialiased.

    Item ``i`` draws from ``(seed, i)`` a photograph, a square whose side is log-uniform between ``resolution`` and
    the photograph's short side, its position and, in the training split, a horizontal flip. The test split takes its
    photographs in turn and never flips, so the same ``(seed, i)`` names the same piece of a held-out photograph.
    Crops are never enlarged: a resolution above the short side of a photograph is an :class:`ImagesError`.

    Attributes:
        resolution: Side of the crops in pixels.
        split: ``"train"`` or ``"test"`` (the held-out photographs ``coffee`` and ``china``).
        seed: Seed of all items.
        length: How many items there are; crops are endless.
    """

    resolution: int = 64
    split: Split = "train"
    seed: int = 0
    length: int = 4096

    def __post_init__(self) -> None:
        check_counts(resolution=self.resolution, length=self.length)
        check_seed(self.seed)
        limit, smallest = min((min(_pixels(name).shape[:2]), name) for name in self.names)
        if self.resolution > limit:
            raise ImagesError(f"resolution {self.resolution} is above {limit}, the short side of {smallest!r}")

    @property
    def names(self) -> tuple[str, ...]:
        """The photographs that take part."""
        return photo_names(self.split)

    def __len__(self) -> int:
        return self.length

    def _draw(self, index: int) -> tuple[str, np.random.Generator]:
        index = check_index(index, self.length)
        rng = np.random.default_rng([self.seed, index])
        place = index % len(self.names) if self.split == "test" else rng.integers(len(self.names))
        return self.names[place], rng

    def source(self, index: int) -> str:
        """Name of the photograph that item ``index`` is cut from."""
        return self._draw(index)[0]

    def __getitem__(self, index: int) -> Tensor:
        name, rng = self._draw(index)
        return random_crop(_pixels(name), self.resolution, rng, flip=self.split == "train")
