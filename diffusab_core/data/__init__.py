"""Images and clips as functions of a seed and an index: photographs, dead leaves, and what people have stored."""

from diffusab_core.data.leaves import Leaves, leaf_clip
from diffusab_core.data.open import open_images
from diffusab_core.data.photos import PHOTOGRAPHS, Photos, Split, photo, photo_names
from diffusab_core.data.pixels import ImagesError, UnusableImage, resize_to, rgb01, stack
from diffusab_core.data.pool import Pool
from diffusab_core.data.stores import ImageFolder, StoredImages

__all__ = [
    "PHOTOGRAPHS",
    "ImageFolder",
    "ImagesError",
    "Leaves",
    "Photos",
    "Pool",
    "Split",
    "StoredImages",
    "UnusableImage",
    "leaf_clip",
    "open_images",
    "photo",
    "photo_names",
    "resize_to",
    "rgb01",
    "stack",
]
