r"""One's own autoencoder behind the common face: a module at hand, or one that a function in a Python file builds.

It needs ``encode(x)``: images ``(N, 3, H, W)`` in [-1, 1] to latents ``(N, C, h, w)``, in one of the forms that
:func:`as_posterior` takes. It may have ``decode(z)``, to a tensor or something with ``.sample``; ``scaling_factor`` and
``shift_factor``, on its ``config`` or on itself, for the normalisation; ``last_layers``, names of the decoder's layers
that fine-tuning leaves as they are, and ``decoder.up_blocks``, of which it can freeze some, too. Latents
``(N, C, 1, h, w)`` lose their time axis, and ``decode`` gets it back. A model that does not take three channels is
tried with one: it sees images in grey.

What is trained of it is kept as a folder with its weights and the name of its function (:func:`keep`), which builds it
again when the folder is opened.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from diffusab_core import files
from diffusab_core.autoencoders.face import Autoencoder
from diffusab_core.autoencoders.families import Family, Posterior, point
from diffusab_core.autoencoders.names import AutoencoderError

NOTE, STATE = "own.json", "own.safetensors"  #: Files of a kept model of one's own


class Held(nn.Module):
    """Any object as a module without parameters, so that it has a device and a precision."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.register_buffer("place", torch.zeros(()), persistent=False)
        for name in ("encode", "decode", "config", "scaling_factor", "shift_factor"):
            if hasattr(held, name):
                setattr(self, name, getattr(held, name))


def wrap(
    module: Any,
    name: str,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    probe: int = 256,
    file: Path | None = None,
    factory: str | None = None,
) -> Autoencoder:
    """Your own model as an autoencoder; its compression is found by encoding noise of ``probe`` pixels a side.

    An ``nn.Module`` is moved to the device and precision and put into evaluation mode, any other object is not. The
    name labels figures. What goes wrong inside ``file`` is reported with a line of it; ``factory`` is how it was named.
    """
    if not callable(getattr(module, "encode", None)):
        raise AutoencoderError(f"{name} must be an autoencoder with encode(x), got {type(module).__name__}")
    module = (module if isinstance(module, nn.Module) else Held(module)).to(device=device, dtype=dtype).eval()

    def run(model: nn.Module, what: str, x: Tensor) -> Any:
        try:
            return getattr(model, what)(x)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            thing = f"{'images' if what == 'encode' else 'latents'} of shape {tuple(x.shape)}"
            raise AutoencoderError(f"{name} cannot {what} {thing}: {blame(error, file)}") from error

    def encode(model: nn.Module, x: Tensor) -> Posterior:
        posterior = as_posterior(run(model, "encode", x), name)
        if posterior.mean.ndim != 5:
            return posterior
        return Posterior(posterior.mean.squeeze(2), posterior.std.squeeze(2))

    def decode(model: nn.Module, z: Tensor) -> Tensor:
        output = run(model, "decode", z.unsqueeze(2) if with_time else z)
        images = output if isinstance(output, Tensor) else getattr(output, "sample", None)
        if not isinstance(images, Tensor):
            found = type(output).__name__
            raise AutoencoderError(f"{name}: decode(z) must return a tensor or something with .sample, got {found}")
        return images

    noise = torch.rand(1, 3, probe, probe, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        output, channels_seen = _probe(module, run, noise.to(device, dtype))
    mean = as_posterior(output, name).mean
    with_time = mean.ndim == 5
    compression, channels = _compression(mean, probe, name), mean.shape[1]
    family = Family(
        encode=encode,
        decode=decode if callable(getattr(module, "decode", None)) else None,
        compression=lambda _: compression,
        latent_channels=lambda _: channels,
        image_channels=lambda _: (channels_seen, channels_seen),
        last_layers=tuple(getattr(module, "last_layers", ())),
    )
    return Autoencoder(name, module, family, factory)


def _probe(module: nn.Module, run: Callable[[nn.Module, str, Tensor], Any], noise: Tensor) -> tuple[Any, int]:
    """What ``encode`` returns for noise, and the number of channels that it takes: 3, else 1."""
    try:
        return run(module, "encode", noise), noise.shape[1]
    except AutoencoderError as error:
        try:
            return run(module, "encode", noise[:, :1]), 1
        except AutoencoderError:
            raise error from error.__cause__


def build(spec: str, device: str | torch.device, dtype: torch.dtype, probe: int) -> Autoencoder:
    """Call a function in a Python file, ``path/to/file.py:function``, and :func:`wrap` the model that it returns.

    The file's folder is put on the import path, as Python does for a script. An ``AutoencoderError`` where there is no
    such file or function, for an exception in it, and for a result that is no autoencoder.
    """
    file, _, function = spec.rpartition(":")
    path = Path(file).resolve()
    if not function.isidentifier():
        raise AutoencoderError(f"{spec!r} is not of the form file.py:function")
    if not path.is_file():
        raise AutoencoderError(f"{spec!r}: there is no file {file}")
    make = getattr(_import(path), function, None)
    if not callable(make):
        raise AutoencoderError(f"{path} has no function {function!r}")
    try:
        module = make()
    except (Exception, SystemExit) as error:
        raise AutoencoderError(f"{spec} failed: {blame(error, path)}") from error
    name = f"{path.stem}:{function}"
    return wrap(module, name, device, dtype, probe=probe, file=path, factory=f"{path}:{function}")


def is_kept(folder: Path) -> bool:
    """Whether :func:`keep` made this folder."""
    return (folder / NOTE).is_file()


def keep(autoencoder: Autoencoder, folder: str | os.PathLike) -> None:
    """Weights and buffers of one's own model in a folder, and by which function of which file it is built."""
    folder = Path(folder)
    file, _, function = autoencoder.factory.rpartition(":")
    with files.writing(folder / STATE) as partial:
        save_model(autoencoder.module, str(partial))
    note = {"factory": f"{Path(file).resolve()}:{function}", "file_sha256": files.digest_file(Path(file))}
    files.write_json(folder / NOTE, note)


def reopen(folder: Path, name: str, device: str | torch.device, dtype: torch.dtype, probe: int) -> Autoencoder:
    """A folder of :func:`keep`: the function builds the model, then it gets the weights.

    The file is where it was, or of the same name in the folder. An ``AutoencoderError`` where it is not, or builds
    another model; a warning where it has changed.
    """
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        file, _, function = note["factory"].rpartition(":")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AutoencoderError(f"{folder / NOTE} cannot be read ({files.first_line(error)})") from error
    path = next((place for place in (Path(file), folder / Path(file).name) if place.is_file()), None)
    if path is None:
        raise AutoencoderError(f"{folder} was made by {file}, which is gone: put it back, or a copy into {folder}")
    if files.digest_file(path) != note["file_sha256"]:
        warnings.warn(f"{path} has changed since {folder} was made", files.DiffusabWarning, stacklevel=4)
    opened = build(f"{path}:{function}", device, dtype, probe)
    try:
        load_model(opened.module, folder / STATE, strict=True, device=str(device))
    except Exception as error:  # SafetensorError, OSError, RuntimeError for tensors that are missing or misshapen
        raise AutoencoderError(f"{folder}: the weights do not fit {path} ({files.first_line(error)})") from error
    return replace(opened, name=name)


def as_posterior(output: Any, name: str = "the model") -> Posterior:
    """What an ``encode`` returned, as a :class:`diffusab_core.autoencoders.families.Posterior`.

    Taken are a tensor (then the posterior is a point), something with tensors ``mean`` and ``std`` (a ``Posterior`` or
    diffusers' distribution), and a diffusers output: ``.latent_dist``, ``.latent`` or ``.latents``. Anything else is an
    ``AutoencoderError``; a tuple, say, does not tell a mean from a log-variance.
    """
    output = getattr(output, "latent_dist", output)
    for z in (output, getattr(output, "latent", None), getattr(output, "latents", None)):
        if isinstance(z, Tensor):
            return point(z)
    mean, std = getattr(output, "mean", None), getattr(output, "std", None)
    if isinstance(mean, Tensor) and isinstance(std, Tensor):
        return Posterior(mean, std)
    raise AutoencoderError(
        f"{name}: encode(x) must return a tensor, something with tensors .mean and .std, or a diffusers output "
        f"(.latent_dist, .latent), got {type(output).__name__}"
    )


def blame(error: BaseException, path: Path | None = None) -> str:
    """An exception in one line, with the last line of ``path`` that it passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if path is not None and Path(frame.filename) == path]
    where = f" (line {lines[-1]} of {path.name})" if lines else ""
    return " ".join(f"{type(error).__name__}: {error}".split()) + where


def _import(path: Path) -> ModuleType:
    folder = str(path.parent)
    if folder not in sys.path:  # stays there: models may import on first use
        sys.path.insert(0, folder)
    name = f"_diffusab_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise AutoencoderError(f"{path} cannot be imported: {blame(error, path)}") from error
    return module


def _compression(latent: Tensor, probe: int, name: str) -> int:
    shape = tuple(latent.shape)
    if len(shape) < 4 or shape[0] != 1 or shape[2:-2] not in ((), (1,)) or not latent.is_floating_point():
        wanted = "floats (1, C, h, w) or (1, C, 1, h, w)"
        raise AutoencoderError(f"{name}: encode(x) of one image must give {wanted}, got shape {shape}, {latent.dtype}")
    height, width = shape[-2:]
    if height != width or not height or probe % height:
        raise AutoencoderError(
            f"{name} maps {probe} x {probe} pixels to a latent of {height} x {width}; both sides must shrink by one "
            "whole factor, so choose a --resolution that the model divides evenly"
        )
    return probe // height
