"""What the dead leaves of :mod:`diffusab_core.data.leaves` are made of: shapes, paints, and classes of both."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Array = np.ndarray


@dataclass(frozen=True)
class Atlas:
    """The training photographs below each other in one image; top, height and width of each, as float32."""

    image: Tensor  # (1, 3, sum of heights, largest width)
    top: Array
    height: Array
    width: Array

    def pixels(self, source: int, where: Array) -> Array:
        """Colours (n, 3) of a photograph at places (2, n) in [0, 1)."""
        x = (where[0] * self.width[source]).astype(int)
        y = (where[1] * self.height[source] + self.top[source]).astype(int)
        return self.image[0, :, y, x].numpy().T


@dataclass(frozen=True)
class DrawnLeaves:
    """n leaves from back to front; x and y in pixels from the image's top left corner, angle in radians."""

    x: Array  # (n,)
    y: Array  # (n,)
    angle: Array  # (n,)
    radius: Array  # (n,)
    form: Array  # (n,)
    reach: Array  # (n,) pixels beyond which a leaf shows nothing
    first: Array  # (n, 3) colour
    second: Array  # (n, 3) colour
    phase: Array  # (n,) uniform in [0, 1)
    source: Array  # (n,) which photograph a texture is cut from
    anchor: Array  # (n, 2) where, in [0, 1)
    atlas: Atlas

    def __getitem__(self, members: Array) -> DrawnLeaves:
        arrays = {f.name: getattr(self, f.name)[members] for f in fields(self) if f.name != "atlas"}
        return replace(self, **arrays)


# ----------------------------------------------------------------------------------------------------------------------
# Shapes: signed distance in pixels from the border, negative inside, in the leaf's own axes (u, v); all arguments
# broadcast. `radius` is that of the disc of the same area, `form` the one number in which leaves of a class differ.

_TRIANGLE = math.sqrt(math.pi / (3 * math.sqrt(3)))  # inradius of the equilateral triangle of area pi
_SIN36, _COS36, _SIN72, _COS72 = (f(math.radians(a)) for a in (36, 72) for f in (math.sin, math.cos))


def _disc(u: Array, v: Array, radius: Array, form: Array) -> Array:
    return np.sqrt(u * u + v * v) - radius


def _box(u: Array, v: Array, radius: Array, form: Array) -> Array:
    half = radius * np.sqrt(math.pi / (4 * form))  # half the short side; form is long over short
    return np.maximum(np.abs(u) - form * half, np.abs(v) - half)


def _ellipse(u: Array, v: Array, radius: Array, form: Array) -> Array:
    # Level / gradient of the implicit form: the distance to first order, which is all that the ramp looks at.
    a, b = radius * np.sqrt(form), radius / np.sqrt(form)
    p, q = u / a, v / b
    level, slope = np.sqrt(p * p + q * q), np.sqrt((p / a) ** 2 + (q / b) ** 2)
    return (level - 1) * level / np.maximum(slope, 1e-6)


def _triangle(u: Array, v: Array, radius: Array, form: Array) -> Array:
    return np.maximum(math.sqrt(0.75) * np.abs(u) + 0.5 * v, -v) - _TRIANGLE * radius


def _ring(u: Array, v: Array, radius: Array, form: Array) -> Array:
    outer = radius / np.sqrt(1 - form * form)  # form is inner over outer radius
    distance = np.sqrt(u * u + v * v)
    return np.maximum(distance - outer, form * outer - distance)


def _star(u: Array, v: Array, radius: Array, form: Array) -> Array:
    tip = radius * np.sqrt(math.pi / (5 * form * _SIN36))  # form is inner over outer radius
    # Mirrors fold the plane into one wedge of 36 degrees, from a tip (along v) to a notch: at the axis of the tip, then
    # at the lines at 108 and at 36 degrees from it.
    u = np.abs(u)
    for normal_u, normal_v in ((_COS72, _SIN72), (-_COS36, _SIN36)):
        over = 2 * np.minimum(u * normal_u + v * normal_v, 0)
        u, v = u - over * normal_u, v - over * normal_v
    u = np.abs(u)
    # The border within the wedge is the straight line from the tip (0, 1) to the notch form * (sin 36, cos 36).
    along_u, along_v = form * _SIN36, form * _COS36 - 1
    return (-along_v * u + along_u * (v - tip)) / np.sqrt(along_u * along_u + along_v * along_v)


def _petals(u: Array, v: Array, radius: Array, form: Array) -> Array:
    # Border at R (1 + form cos 5 theta); the cosine of the five-fold angle is Chebyshev's polynomial of u / distance.
    size = radius / np.sqrt(1 + form * form / 2)
    distance = np.maximum(np.sqrt(u * u + v * v), 1e-6)
    c = u / distance
    c2 = c * c
    wave = c * (5 + c2 * (16 * c2 - 20))
    steep = 5 * form * size / distance * np.sqrt(np.maximum(1 - wave * wave, 0))
    return (distance - size * (1 + form * wave)) / np.sqrt(1 + steep * steep)


# ----------------------------------------------------------------------------------------------------------------------
# Paints: colour (n, 3, h, w), or (n, 3, 1, 1), of leaves at (u, v) in their own axes


def _flat(u: Array, v: Array, leaves: DrawnLeaves) -> Array:
    return leaves.first[:, :, None, None]


def _between(mix: Array, leaves: DrawnLeaves) -> Array:
    return leaves.first[:, :, None, None] + mix[:, None] * (leaves.second - leaves.first)[:, :, None, None]


def _square_wave(x: Array, period: Array) -> Array:
    """A wave of +-1/2 whose flanks are one pixel wide, so that it has no jaggies either."""
    return np.clip(np.sin(x * (2 * math.pi / period)) * (period / (2 * math.pi)), -0.5, 0.5)


def _period(leaves: DrawnLeaves) -> Array:
    return np.maximum(leaves.radius * (0.4 + 0.3 * leaves.phase), 3)[:, None, None]  # finer, it would be grey or alias


def _stripes(u: Array, v: Array, leaves: DrawnLeaves) -> Array:
    return _between(0.5 + _square_wave(u, _period(leaves)), leaves)


def _checks(u: Array, v: Array, leaves: DrawnLeaves) -> Array:
    period = 1.4 * _period(leaves)
    return _between(0.5 + 2 * _square_wave(u, period) * _square_wave(v, period), leaves)


def _gradient(u: Array, v: Array, leaves: DrawnLeaves) -> Array:
    return _between(np.clip(0.5 + u / (2 * leaves.radius[:, None, None]), 0, 1), leaves)


def _radial(u: Array, v: Array, leaves: DrawnLeaves) -> Array:
    return _between(np.minimum(np.sqrt(u * u + v * v) / leaves.radius[:, None, None], 1), leaves)


def _texture(u: Array, v: Array, leaves: DrawnLeaves) -> Array:
    """A piece of a photograph, one of its pixels to one of ours, bilinear."""
    atlas, (n, height, width) = leaves.atlas, u.shape
    grid = np.empty((n, height, width, 2), dtype=np.float32)
    for axis, (x, start, length) in enumerate([(u, 0, atlas.width), (v, atlas.top[leaves.source], atlas.height)]):
        last = (length[leaves.source] - 1)[:, None, None]
        x = x + leaves.anchor[:, axis, None, None] * last
        x = last - np.abs(last - np.mod(x, 2 * last))  # folded into [0, last] by mirrors at both ends
        # The sampler counts from -1 to 1.
        grid[..., axis] = (x + np.reshape(start, (-1, 1, 1))) * (2 / (atlas.image.shape[-1 - axis] - 1)) - 1
    flat = torch.from_numpy(grid.reshape(1, n * height, width, 2))
    out = F.grid_sample(atlas.image, flat, mode="bilinear", padding_mode="border", align_corners=True)
    return out.numpy().reshape(3, n, height, width).swapaxes(0, 1)


@dataclass(frozen=True)
class LeafClass:
    """What the leaves of a class are: shape, the range its form is drawn from, reach in radii, and paint."""

    name: str
    distance: Callable[[Array, Array, Array, Array], Array]
    form: tuple[float, float]
    reach: Callable[[Array], Array]
    paint: Callable[[Array, Array, DrawnLeaves], Array]


def _reach_box(form: Array) -> Array:
    return np.sqrt(math.pi / (4 * form) * (1 + form * form))


CLASSES = (
    LeafClass("discs", _disc, (1, 1), np.ones_like, _flat),
    LeafClass("squares", _box, (1, 1), _reach_box, _flat),
    LeafClass("triangles", _triangle, (1, 1), lambda form: 2 * _TRIANGLE * np.ones_like(form), _flat),
    LeafClass("bars", _box, (6, 9), _reach_box, _flat),
    LeafClass("rings", _ring, (0.55, 0.75), lambda form: 1 / np.sqrt(1 - form * form), _flat),
    LeafClass("stars", _star, (0.35, 0.5), lambda form: np.sqrt(math.pi / (5 * form * _SIN36)), _flat),
    LeafClass("stripes", _disc, (1, 1), np.ones_like, _stripes),
    LeafClass("checks", _box, (1, 1), _reach_box, _checks),
    LeafClass("patches", _box, (1, 1.6), _reach_box, _texture),
    LeafClass("gradients", _disc, (1, 1), np.ones_like, _gradient),
    LeafClass("ellipses", _ellipse, (2.5, 4), np.sqrt, _flat),
    LeafClass("petals", _petals, (0.3, 0.45), lambda form: (1 + form) / np.sqrt(1 + form * form / 2), _radial),
)
CLASS_NAMES = tuple(leaf_class.name for leaf_class in CLASSES)
