r"""Latents in a safetensors file that somebody brings along."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffusab_core.autoencoders.opening import PICKLES
from diffusab_core.autoencoders.opening import load as open_model  # noqa: F401 - the report's names, until it has moved
from diffusab_core.autoencoders.own import Autoencoder as OwnAutoencoder  # noqa: F401
from diffusab_core.autoencoders.own import as_posterior, blame  # noqa: F401
from diffusab_core.autoencoders.own import build as open_factory  # noqa: F401
from diffusab_core.files import DiffusabError


class SourceError(DiffusabError, ValueError):
    """Something that was brought along and cannot be used; the message says what to do."""


def refuse_pickle(path: str | os.PathLike, instead: str) -> None:
    """Raise if a file's suffix says that it holds a pickle.

    Raises:
        SourceError: It does; ``instead`` ends the message.
    """
    if Path(path).suffix.lower() in PICKLES:
        raise SourceError(f"{path} is a pickle, and pickles can run any code when opened, so none is loaded; {instead}")


# ---------------------------------------------------------------------------------------------------------------------
# Latents that exist already

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
        SourceError: No such file, not safetensors, no such tensor, or one that is not floats with four or five axes.
    """
    path = Path(path)
    refuse_pickle(path, "save the tensor with safetensors.torch.save_file({'latents': z}, 'latents.safetensors')")
    if not path.is_file():
        raise SourceError(f"--latents: there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            keys = sorted(file.keys())
            if key is None and len(keys) != 1:
                raise SourceError(f"{path} holds {len(keys)} tensors, name one with --latents-key: {_some(keys)}")
            if key is not None and key not in keys:
                raise SourceError(f"{path} has no tensor {key!r}; it has {_some(keys)}")
            key = keys[0] if key is None else key
            piece = file.get_slice(key)
            shape, dtype = tuple(piece.get_shape()), piece.get_dtype()
    except (SafetensorError, OSError) as error:
        raise SourceError(f"{path} cannot be read as safetensors ({' '.join(str(error).split())})") from error
    if dtype not in _FLOATS or len(shape) not in (4, 5) or 0 in shape:
        raise SourceError(
            f"{path}: {key!r} is {dtype} of shape {shape}; latents are {', '.join(_FLOATS)} of shape (N, C, h, w) or "
            "(N, C, T, h, w)"
        )
    return LatentsFile(path, key, shape)


def _some(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
