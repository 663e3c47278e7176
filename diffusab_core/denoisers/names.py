"""Denoisers' names, and what a folder with one has: what can be said before anything is opened, and without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diffusab_core.files import DiffusabError, guess_place

Prediction = Literal["velocity", "noise"]
#: Width, depth and heads. S to XL are those of Peebles and Xie 2023; XS and XXS are this book's, for a laptop's CPU.
DIT_SIZES: dict[str, tuple[int, int, int]] = {
    "XXS": (128, 4, 4),
    "XS": (192, 6, 6),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "XL": (1152, 28, 16),
}
#: The same of U-ViT and USiT (Bao et al. 2023; 2B of Chen et al. 2025); XXS is this book's.
UVIT_SIZES: dict[str, tuple[int, int, int]] = {
    "XXS": (128, 4, 4),
    "S": (512, 12, 8),
    "M": (768, 16, 12),
    "L": (1024, 20, 16),
    "H": (1152, 28, 16),
    "2B": (2048, 28, 32),
}
PATCHES = (1, 2, 4)


@dataclass(frozen=True)
class Family:
    """What denoisers of one first name have in common."""

    sizes: Mapping[str, tuple[int, int, int]]  # width, depth and heads by name
    prediction: Prediction
    self_conditioning: bool


FAMILIES = {
    "DiT": Family(DIT_SIZES, "velocity", self_conditioning=True),
    "UViT": Family(UVIT_SIZES, "noise", self_conditioning=False),
    "USiT": Family(UVIT_SIZES, "velocity", self_conditioning=False),
}

_NAME = re.compile(r"(\w+)-(\w+)/(\d+)")
WEIGHTS_FILE, CONFIG_FILE = "denoiser.safetensors", "denoiser.json"


class DenoiserError(DiffusabError, ValueError):
    """A denoiser that is not known by that name, or a folder that does not hold one."""


def parse(name: str) -> tuple[Family, str, int]:
    """Family, size and patch of a name such as ``"DiT-XL/2"``, or a :class:`DenoiserError` that lists all names."""
    found = _NAME.fullmatch(name)
    family = FAMILIES.get(found[1]) if found else None
    if family is None or found[2] not in family.sizes or found[3] not in map(str, PATCHES):
        raise DenoiserError(
            f"no denoiser {name!r}: names are DiT-SIZE/PATCH with sizes {', '.join(DIT_SIZES)}, or UViT-SIZE/PATCH and "
            f"USiT-SIZE/PATCH with sizes {', '.join(UVIT_SIZES)}; patches are {', '.join(map(str, PATCHES))}"
        )
    return family, found[2], int(found[3])


def check_folder(folder: str | os.PathLike) -> None:
    """Refuse a folder without the files of a denoiser, with a :class:`DenoiserError`."""
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (Path(folder) / name).is_file():
            there = "" if Path(folder).is_dir() else guess_place(folder)
            raise DenoiserError(f"{folder} holds no denoiser: {name} is missing{there}")
