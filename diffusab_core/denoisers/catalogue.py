"""Denoisers by name: :func:`build` makes one, :func:`save` and :func:`load` keep it on the disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from diffusab_core import files
from diffusab_core.denoisers.dit import DiT
from diffusab_core.denoisers.names import (
    CONFIG_FILE,
    DIT_SIZES,
    WEIGHTS_FILE,
    DenoiserError,
    Prediction,
    check_folder,
    parse,
)
from diffusab_core.denoisers.uvit import UViT


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
    check_folder(folder)
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        shape = {"input_size": tuple(config["input_size"]), "num_classes": config["num_classes"]}
        model = build(config["denoiser"], in_channels=config["in_channels"], **shape)
        model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS_FILE))
    except (KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        why = " ".join(str(error).split())  # of weights that do not fit, PyTorch names the first after a line break
        raise DenoiserError(f"{folder}: the denoiser cannot be read ({why[:300]})") from error
    return model.to(device).eval(), config
