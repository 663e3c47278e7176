r"""Denoisers by name: :func:`build` makes one, :func:`save` and :func:`load` keep it on the disk.

A denoiser is called ``model(x, t, y=None)`` with latents ``(N, C, h, w)``, or ``(N, C, T, h, w)`` for video, and times
``(N,)`` in [0, 1]; it returns the velocity :math:`\mathrm d x / \mathrm d t`, of the shape of x.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffusab_core.denoisers.dit import DiT

__all__ = ["DIT_SIZES", "PATCHES", "DenoiserError", "DiT", "SelfConditioned", "build", "load", "save"]

#: Width, depth and heads. S to XL are those of Peebles and Xie 2023; XS and XXS are this book's, for a laptop's CPU.
DIT_SIZES: dict[str, tuple[int, int, int]] = {
    "XXS": (128, 4, 4),
    "XS": (192, 6, 6),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "XL": (1152, 28, 16),
}
PATCHES = (1, 2, 4)

_NAME = re.compile(r"DiT-(\w+)/(\d+)")
WEIGHTS_FILE, CONFIG_FILE = "denoiser.safetensors", "denoiser.json"


class DenoiserError(ValueError):
    """A denoiser that is not known by that name, or a folder that does not hold one."""


def build(
    name: str,
    *,
    in_channels: int,
    input_size: int | tuple[int, ...],
    num_classes: int = 0,
    checkpoint_activations: bool = False,
) -> DiT:
    """A denoiser with fresh weights.

    Args:
        name: ``DiT-SIZE/PATCH``, e.g. ``"DiT-XL/2"``; sizes in :data:`DIT_SIZES`, patches in :data:`PATCHES`.
        in_channels: Channels of the latent.
        input_size: Side of the latent, ``(h, w)`` or, for video, ``(T, h, w)``.
        num_classes: 0 for a model without classes.
        checkpoint_activations: See :class:`~diffusab_core.denoisers.dit.DiT`.

    Raises:
        DenoiserError: There is no denoiser of that name.
        ValueError: Sizes that do not fit.
    """
    found = _NAME.fullmatch(name)
    if found is None or found[1] not in DIT_SIZES or int(found[2]) not in PATCHES:
        sizes, patches = ", ".join(DIT_SIZES), ", ".join(map(str, PATCHES))
        raise DenoiserError(f"no denoiser {name!r}: names are DiT-SIZE/PATCH with sizes {sizes} and patches {patches}")
    width, depth, heads = DIT_SIZES[found[1]]
    return DiT(
        in_channels, input_size, num_classes, patch=int(found[2]), width=width, depth=depth, heads=heads,
        checkpoint_activations=checkpoint_activations,
    )  # fmt: skip


class SelfConditioned:
    """A denoiser as a sampler calls it: each call is given the last-block activations of the call before.

    The first call of a trajectory has none, which is the same as zeros. Make a new one for each trajectory, and one
    for each branch of a guided one.

    Source: Skorokhodov et al. 2025, Appendix B.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.hint: Tensor | None = None

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        v, self.hint = self.model(x, t, y, hint=self.hint, with_hint=True)
        return v


# ---------------------------------------------------------------------------------------------------------------------
# On the disk


def save(folder: str | os.PathLike, model: nn.Module, config: dict[str, Any]) -> None:
    """Write weights and what is needed to use them.

    Args:
        folder: Made if missing.
        model: What :func:`build` returned.
        config: Plain values; must hold ``denoiser``, ``in_channels``, ``input_size`` and ``num_classes``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()},
              folder / WEIGHTS_FILE)  # fmt: skip
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(folder: str | os.PathLike, device: str | torch.device = "cpu") -> tuple[DiT, dict[str, Any]]:
    """A saved denoiser, in evaluation mode, and its configuration.

    Raises:
        DenoiserError: The folder does not hold one, or its weights are not those of its configuration.
    """
    folder = Path(folder)
    for file in (folder / CONFIG_FILE, folder / WEIGHTS_FILE):
        if not file.is_file():
            raise DenoiserError(f"{folder} holds no denoiser: {file.name} is missing")
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        model = build(
            config["denoiser"], in_channels=config["in_channels"], input_size=tuple(config["input_size"]),
            num_classes=config["num_classes"],
        )  # fmt: skip
        model.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (KeyError, TypeError, ValueError, SafetensorError, RuntimeError) as error:  # ValueError: JSON and sizes too
        why = " ".join(str(error).split())
        raise DenoiserError(f"{folder}: the denoiser cannot be read ({why[:300]})") from error
    return model.to(device).eval(), config
