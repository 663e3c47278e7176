r"""Dead leaves: endless labelled images, and clips, with the statistics of natural scenes.

Leaves fall on the image plane one after the other, each hiding what lies below. Places are uniform, and the radius
:math:`r` of a leaf (of the disc of the same area) has the law :math:`p(r) \propto r^{-3}` between two limits. With this
exponent every octave of sizes covers the same area, so the picture looks alike at every magnification, and its radially
averaged power spectrum falls roughly as :math:`1/f^2`, as that of photographs does. Classes differ in shape and paint.
Colours and textures are those of the training photographs; the colours of one image come from one photograph.

The share of a pixel that a leaf covers is a ramp, one pixel wide, in the signed distance of its centre from the border.

Sources: Matheron 1968 and Ruderman 1997 (the model); Lee, Mumford and Huang 2001 (scale invariance at exponent 3);
Baradad et al. 2021 (such images as training data).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from diffusab_core.data.photos import photo, photo_names
from diffusab_core.data.pixels import check_counts, check_index, resize_to
from diffusab_core.data.places import ImagesError
from diffusab_core.data.shapes import CLASS_NAMES, CLASSES, Array, Atlas, DrawnLeaves, LeafClass


@dataclass(frozen=True)
class LeafLaw:
    r"""How large leaves are and how many fall.

    Attributes:
        exponent: :math:`\alpha` of :math:`p(r) \propto r^{-\alpha}`; 3 is scale invariant.
        smallest_px: :math:`r_{\min}` in pixels, at every resolution, so that structure reaches down to the pixel.
        largest_share: :math:`r_{\max}` as a share of the image's side.
        coverage: Mean number of leaves :math:`\kappa` over a point; a share :math:`e^{-\kappa}` is background.
    """

    exponent: float = 3.0
    smallest_px: float = 2.0
    largest_share: float = 0.35
    coverage: float = 4.0

    def __post_init__(self) -> None:
        for name, least in (("exponent", 1), ("smallest_px", 1), ("largest_share", 0), ("coverage", 0)):
            value = getattr(self, name)
            if not least <= value < math.inf or value == 0:
                raise ImagesError(f"{name} must be positive, at least {least} and finite, got {value}")

    def limits(self, resolution: int) -> tuple[float, float]:
        """Smallest and largest radius in pixels at a resolution."""
        largest = self.largest_share * resolution
        if largest <= self.smallest_px:
            sizes = f"the largest leaf ({largest:.3g} px) is not larger than the smallest ({self.smallest_px} px)"
            raise ImagesError(f"at resolution {resolution} {sizes}: raise the resolution or lower smallest_px")
        return self.smallest_px, largest

    def mean_area(self, resolution: int) -> float:
        r"""Mean area of a leaf, :math:`\pi\, \mathbb E[r^2]`, in square pixels."""
        (low, high), a = self.limits(resolution), self.exponent
        # The integrals of r^(2 - a) and of r^-a.
        area, number = (math.log(high / low) if k == 0 else (high**k - low**k) / k for k in (3 - a, 1 - a))
        return math.pi * area / number

    def radii(self, uniform: Array, resolution: int) -> Array:
        """Uniform numbers in [0, 1) to radii in pixels, by the inverse of the distribution function."""
        (low, high), k = self.limits(resolution), 1 - self.exponent
        return low * (high / low) ** uniform if k == 0 else (low**k + uniform * (high**k - low**k)) ** (1 / k)


@lru_cache(maxsize=8)
def _atlas(resolution: int) -> Atlas:
    """Photographs with a short side of twice the image's, so that a leaf shows a piece that can be recognised."""
    images = []
    for name in photo_names("train"):
        image = photo(name)
        scale = min(1.0, 2 * resolution / min(image.shape[-2:]))  # never enlarged: that would blur
        images.append(resize_to(image, *(round(scale * side) for side in image.shape[-2:])).clamp(-1, 1))
    height, width = (np.array([image.shape[axis] for image in images], dtype=np.float32) for axis in (1, 2))
    padded = [F.pad(image, (0, int(width.max()) - image.shape[2])) for image in images]
    return Atlas(torch.cat(padded, dim=1)[None], np.cumsum(height) - height, height, width)


def _draw_leaves(rng: np.random.Generator, kind: LeafClass, resolution: int, law: LeafLaw) -> tuple[DrawnLeaves, Array]:
    """Leaves that touch the image, and the background's colour (3,)."""
    _, largest = law.limits(resolution)
    margin = largest * kind.reach(np.array(kind.form, dtype=float)).max() + 1
    side = resolution + 2 * margin
    n = rng.poisson(law.coverage * side**2 / law.mean_area(resolution))
    u = rng.random((5, n))
    centre = u[:2] * side - margin  # (2, n)
    radius = law.radii(u[2], resolution)
    form = kind.form[0] + u[3] * (kind.form[1] - kind.form[0])
    reach = kind.reach(form) * radius + 1  # with the ramp of the border
    seen = np.flatnonzero(_touches(centre, reach, resolution).all(0))
    atlas, n = _atlas(resolution), len(seen)
    colours = atlas.pixels(rng.integers(len(atlas.top)), rng.random((2, 2 * n + 1)))  # (2n + 1, 3)
    leaves = DrawnLeaves(
        *(a[seen].astype(np.float32) for a in (*centre, u[4] * (2 * math.pi), radius, form, reach)),
        first=colours[:n],
        second=colours[n : 2 * n],
        phase=rng.random(n, dtype=np.float32),
        source=rng.integers(len(atlas.top), size=n),
        anchor=rng.random((n, 2), dtype=np.float32),
        atlas=atlas,
    )
    return leaves, colours[-1]


def _render(leaves: DrawnLeaves, background: Array, kind: LeafClass, resolution: int) -> Array:
    """Image (3, H, W), float32 in [-1, 1]; leaves of about the same size are computed together, on windows that fit."""
    sizes = 6 * 1.3 ** np.arange(40)
    sizes = np.append(np.unique(sizes[sizes < resolution].astype(int)), resolution)
    bucket = np.minimum(np.searchsorted(sizes, 2 * leaves.reach + 1), len(sizes) - 1)
    layers: list[tuple[int, int, int, Array, Array]] = []
    for k in np.unique(bucket):
        size, members = sizes[k], np.flatnonzero(bucket == k)
        some = leaves[members]
        # A window that would stick out of the image is pushed inside: it still covers all that can be seen.
        left, top = (np.clip(np.floor(c - some.reach), 0, resolution - size).astype(int) for c in (some.x, some.y))
        offsets = np.arange(size, dtype=np.float32) + np.float32(0.5)
        dx = (offsets + (left - some.x)[:, None].astype(np.float32))[:, None, :]  # (n, 1, w)
        dy = (offsets + (top - some.y)[:, None].astype(np.float32))[:, :, None]  # (n, h, 1)
        cos, sin = np.cos(some.angle)[:, None, None], np.sin(some.angle)[:, None, None]
        u, v = cos * dx + sin * dy, cos * dy - sin * dx  # (n, h, w)
        distance = kind.distance(u, v, some.radius[:, None, None], some.form[:, None, None])
        alpha = np.clip(0.5 - distance, 0, 1)[:, None]  # (n, 1, h, w)
        paint = kind.paint(u, v, some) * alpha  # (n, 3, h, w)
        layers.extend(zip(members.tolist(), top.tolist(), left.tolist(), 1 - alpha, paint, strict=True))
    image = np.empty((3, resolution, resolution), dtype=np.float32)
    image[:] = background[:, None, None]
    for _, y, x, keep, paint in sorted(layers, key=itemgetter(0)):  # back to front
        window = image[:, y : y + paint.shape[1], x : x + paint.shape[2]]
        window *= keep
        window += paint
    return np.clip(image, -1, 1, out=image)


@dataclass(frozen=True, eq=False)
class Leaves(Dataset):
    r"""Class-conditional dead-leaves images.

    Item ``i`` is a pure function of ``(seed, i)`` and of the arguments below. Its class is ``i % num_classes``.

    Attributes:
        resolution: Side of the images in pixels, at least 8.
        seed: Seed of all items.
        length: How many items there are; leaves are endless.
        num_classes: How many of ``CLASS_NAMES`` take part.
        labels: Whether an item is ``(image, label)`` or only the image, which is the same.
        law: Sizes and number of the leaves.
    """

    resolution: int = 64
    seed: int = 0
    length: int = 4096
    num_classes: int = len(CLASSES)
    labels: bool = True
    law: LeafLaw = LeafLaw()

    def __post_init__(self) -> None:
        check_counts(8, resolution=self.resolution)
        check_counts(0, seed=self.seed)
        check_counts(length=self.length)
        if not 1 <= self.num_classes <= len(CLASSES):
            raise ImagesError(f"num_classes must lie in 1 ... {len(CLASSES)}, got {self.num_classes}")
        self.law.limits(self.resolution)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that take part; the label is the place in this tuple."""
        return CLASS_NAMES[: self.num_classes]

    def __len__(self) -> int:
        return self.length

    def _draw(self, index: int) -> tuple[DrawnLeaves, Array, LeafClass]:
        rng, kind = np.random.default_rng([self.seed, index, 1]), CLASSES[index % self.num_classes]
        return *_draw_leaves(rng, kind, self.resolution, self.law), kind

    def __getitem__(self, index: int) -> tuple[Tensor, int] | Tensor:
        index = check_index(index, self.length)
        image = torch.from_numpy(_render(*self._draw(index), self.resolution))
        return (image, index % self.num_classes) if self.labels else image


@dataclass(frozen=True, eq=False)
class LeafClips(Leaves):
    r"""Clips of moving leaves, class-conditional and as endless as :class:`Leaves`, whose item is a clip's first frame.

    Every leaf drifts with its own constant velocity and turns at its own constant rate, both normally distributed with
    mean 0. Depth stays. A leaf that has left the image comes back on the opposite side, so every frame is a dead-leaves
    image. Items are ``(3, T, H, W)`` in [-1, 1].

    Attributes:
        frames: Frames of a clip.
        speed: Standard deviation of each component of the velocity, in image sides per frame.
        spin: That of the rotation, in radians per frame.
    """

    frames: int = 17
    speed: float = 0.01
    spin: float = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(frames=self.frames)
        if not (0 <= self.speed < math.inf and 0 <= self.spin < math.inf):
            raise ImagesError(f"speed and spin must be finite and not negative, got {self.speed} and {self.spin}")

    def __getitem__(self, index: int) -> tuple[Tensor, int] | Tensor:
        index, side = check_index(index, self.length), self.resolution
        leaves, background, kind = self._draw(index)
        rng = np.random.default_rng([self.seed, index, 2])  # 1 draws the picture
        vx, vy, turn = rng.standard_normal((3, len(leaves.x)), dtype=np.float32)
        clip = []
        for t in range(self.frames):
            x, y = (leaves.x + t * self.speed * side * vx, leaves.y + t * self.speed * side * vy)
            x, y = (_wrap(centre, leaves.reach, side) for centre in (x, y))
            moved = replace(leaves, x=x, y=y, angle=leaves.angle + t * self.spin * turn)
            clip.append(_render(moved, background, kind, side))
        clip = torch.from_numpy(np.stack(clip, axis=1))
        return (clip, index % self.num_classes) if self.labels else clip


def leaf_clip(index: int, frames: int = 17, *, speed: float = 0.01, spin: float = 0.03, **image: Any) -> Tensor:
    """One item of :class:`LeafClips`; ``image`` is ``resolution``, ``seed``, ``num_classes`` and ``law``."""
    check_counts(0, index=index)
    return LeafClips(**image, length=index + 1, labels=False, frames=frames, speed=speed, spin=spin)[index]


def _touches(centre: Array, reach: Array, resolution: int) -> Array:
    return (centre > -reach) & (centre < resolution + reach)


def _wrap(centre: Array, reach: Array, resolution: int) -> Array:
    """Centres back in (-reach, resolution + reach), where a leaf is out of sight; those inside stay bit for bit."""
    inside = _touches(centre, reach, resolution)
    return np.where(inside, centre, np.mod(centre + reach, resolution + 2 * reach) - reach).astype(np.float32)
