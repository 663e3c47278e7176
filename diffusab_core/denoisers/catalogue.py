"""Denoisers by name: :func:`build` makes one, :func:`save` and :func:`load` keep it on the disk."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from diffusab_core import files
from diffusab_core.denoisers.dit import DiT
from diffusab_core.denoisers.uvit import Prediction, UViT
from diffusab_core.files import DiffusabError

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


def prediction_of(model: nn.Module) -> Prediction:
    """What a model predicts: its attribute ``prediction``, or the velocity where it has none."""
    return getattr(model, "prediction", "velocity")


def build(
    name: str,
    *,
    in_channels: int,
    input_size: int | tuple[int, ...],
    num_classes: int = 0,
    checkpoint_activations: bool = False,
) -> DiT | UViT:
    """A denoiser with fresh weights.

    Its name is ``FAMILY-SIZE/PATCH``, e.g. ``"DiT-XL/2"`` or ``"UViT-S/1"``; see :data:`FAMILIES`, :data:`DIT_SIZES`,
    :data:`UVIT_SIZES` and :data:`PATCHES`. The other arguments are those of :class:`~diffusab_core.denoisers.dit.DiT`.
    An unknown name is a :class:`DenoiserError`, sizes that do not fit are a ``SettingsError``.
    """
    family, size, patch = parse(name)
    options = {"patch": patch, "checkpoint_activations": checkpoint_activations}
    options |= dict(zip(("width", "depth", "heads"), family.sizes[size], strict=True))
    if family.sizes is DIT_SIZES:
        return DiT(in_channels, input_size, num_classes, **options)
    return UViT(in_channels, input_size, num_classes, prediction=family.prediction, **options)


def save(folder: str | os.PathLike, model: nn.Module, config: dict[str, Any]) -> None:
    """Write weights and what is needed to use them, into a folder that is made if missing.

    The config holds plain values, among them ``denoiser``, ``in_channels``, ``input_size`` and ``num_classes``.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    files.write_bytes(Path(folder) / WEIGHTS_FILE, safetensors.torch.save(weights))
    files.write_json(Path(folder) / CONFIG_FILE, config, indent=2)


def load(folder: str | os.PathLike, device: str | torch.device = "cpu") -> tuple[DiT | UViT, dict[str, Any]]:
    """A saved denoiser, in evaluation mode, and its configuration.

    A :class:`DenoiserError` where the folder does not hold one, or its weights are not those of its configuration.
    """
    folder = Path(folder)
    for file in (folder / CONFIG_FILE, folder / WEIGHTS_FILE):
        if not file.is_file():
            raise DenoiserError(f"{folder} holds no denoiser: {file.name} is missing")
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        shape = {"input_size": tuple(config["input_size"]), "num_classes": config["num_classes"]}
        model = build(config["denoiser"], in_channels=config["in_channels"], **shape)
        model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS_FILE))
    except (KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        why = " ".join(str(error).split())  # of weights that do not fit, PyTorch names the first after a line break
        raise DenoiserError(f"{folder}: the denoiser cannot be read ({why[:300]})") from error
    return model.to(device).eval(), config
