"""Images and clips as functions of a seed and an index: photographs, dead leaves, and what people have stored."""

from diffusab_core.data.leaves import LeafLaw, Leaves, leaf_clip
from diffusab_core.data.open import open_images
from diffusab_core.data.photos import PHOTOGRAPHS, SPLITS, Photos, Split, photo, photo_names
from diffusab_core.data.pixels import ImagesError, UnusableImage, center_crop, resize_to, rgb01, stack
from diffusab_core.data.shapes import CLASS_NAMES
from diffusab_core.data.stores import ImageFolder, StoredImages

__all__ = [
    "CLASS_NAMES",
    "PHOTOGRAPHS",
    "SPLITS",
    "ImageFolder",
    "ImagesError",
    "LeafLaw",
    "Leaves",
    "Photos",
    "Split",
    "StoredImages",
    "UnusableImage",
    "center_crop",
    "leaf_clip",
    "open_images",
    "photo",
    "photo_names",
    "resize_to",
    "rgb01",
    "stack",
]
