"""TorchScript archives, ``autoencoder.jit``: only their tensors are taken, and no code of theirs is run.

Opening one runs code in a single case, a class with its own ``__setstate__``; such an archive is refused. What else it
holds is a program for when the model is called, and it never is: a module of this package or of diffusers gets the
tensors.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from diffusab_core.autoencoders.names import ARCHIVE, AutoencoderError
from diffusab_core.files import first_line

#: Files of a release, the whole model or its two halves, in the order in which they are looked for.
RELEASED = (("autoencoder.jit",), ("encoder.jit", "decoder.jit"))


def find(place: Path) -> list[Path]:
    """The archives that make a model: a file itself, or those of a folder; none where it is neither."""
    if not place.is_dir():
        return [place] if place.suffix.lower() == ARCHIVE else []
    found = ([place / name for name in names] for names in RELEASED)
    return next((files for files in found if all(file.is_file() for file in files)), [])


def read(files: list[Path]) -> dict[str, Tensor]:
    """Parameters and buffers by name, of all the files together, on the CPU.

    An ``AutoencoderError`` for what is no TorchScript archive or would run code.
    """
    return {name: tensor for file in files for name, tensor in _read(file).items()}


def _read(file: Path) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(file) as archive:
            code = [archive.read(name) for name in archive.namelist() if name.endswith(".py")]
        if any(b"__setstate__" in text for text in code):
            raise AutoencoderError(f"{file} would run code of its own when it is opened (__setstate__), so it is not")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is deprecated", category=FutureWarning)
            module = torch.jit.load(file, map_location="cpu")
        return dict(module.state_dict())
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise AutoencoderError(f"{file} cannot be read as TorchScript ({first_line(error)})") from error
