"""Latents that somebody has stored as one tensor in a safetensors file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffusab_core.autoencoders.opening import PICKLES
from diffusab_core.files import first_line
from diffusab_core.latents.identity import LatentsError

_FLOATS = ("F16", "BF16", "F32", "F64")


@dataclass(frozen=True)
class LatentsFile:
    """A tensor of latents ``(N, C, h, w)`` or ``(N, C, T, h, w)`` in a safetensors file, read piece by piece."""

    path: Path
    key: str
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The file's name without suffix; labels figures."""
        return self.path.stem

    def read(self, start: int, stop: int) -> Tensor:
        """Items ``start`` to ``stop - 1``, without reading the rest of the file."""
        with safe_open(self.path, "pt") as file:
            return file.get_slice(self.key)[start:stop]


def open_latents(path: str | os.PathLike, key: str | None = None) -> LatentsFile:
    """Find the latents in a safetensors file.

    Args:
        path: The file.
        key: Which tensor; may be left out when there is only one.

    Raises:
        LatentsError: No such file, not safetensors, no such tensor, or one that is not floats with four or five axes.
    """
    path = Path(path)
    if path.suffix.lower() in PICKLES:
        raise LatentsError(
            f"{path} is a pickle, and pickles can run any code when opened, so none is loaded; save the tensor with "
            "safetensors.torch.save_file({'latents': z}, 'latents.safetensors')"
        )
    if not path.is_file():
        raise LatentsError(f"--latents: there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            keys = sorted(file.keys())
            listed = ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "")
            if key is None and len(keys) != 1:
                raise LatentsError(f"{path} holds {len(keys)} tensors, name one with --latents-key: {listed}")
            if key is not None and key not in keys:
                raise LatentsError(f"{path} has no tensor {key!r}; it has {listed}")
            key = keys[0] if key is None else key
            piece = file.get_slice(key)
            shape, dtype = tuple(piece.get_shape()), piece.get_dtype()
    except (SafetensorError, OSError) as error:
        raise LatentsError(f"{path} cannot be read as safetensors ({first_line(error)})") from error
    if dtype not in _FLOATS or len(shape) not in (4, 5) or 0 in shape:
        raise LatentsError(f"{path}: {key!r} is {dtype} of shape {shape}; latents are {', '.join(_FLOATS)} of shape "
                           "(N, C, h, w) or (N, C, T, h, w)")  # fmt: skip
    return LatentsFile(path, key, shape)
