"""Images and clips as functions of a seed and an index: photographs, dead leaves, and what people have stored."""

from diffusab_core.data.clips import StoredClips
from diffusab_core.data.leaves import LeafClips, Leaves, leaf_clip
from diffusab_core.data.open import open_images
from diffusab_core.data.photos import PHOTOGRAPHS, Photos, Split, photo, photo_names
from diffusab_core.data.pixels import ImagesError, UnusableImage, resize_to, rgb01, stack, unroll
from diffusab_core.data.pool import Pool
from diffusab_core.data.stores import ImageFolder, StoredImages
from diffusab_core.data.video import write_clip

__all__ = [
    "PHOTOGRAPHS",
    "ImageFolder",
    "ImagesError",
    "LeafClips",
    "Leaves",
    "Photos",
    "Pool",
    "Split",
    "StoredClips",
    "StoredImages",
    "UnusableImage",
    "leaf_clip",
    "open_images",
    "photo",
    "photo_names",
    "resize_to",
    "rgb01",
    "stack",
    "unroll",
    "write_clip",
]
