r"""What somebody brings along: an autoencoder by name, one in a Python file, or latents in a safetensors file.

Nothing here loads a pickle. Opening one can run any code its author put there, so files that hold one are refused
with a line that says what to do instead.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from diffusab_core.autoencoders import face as autoencoders
from diffusab_core.autoencoders.face import Autoencoder, Posterior

PICKLES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"})


class SourceError(ValueError):
    """Something that was brought along and cannot be used; the message says what to do."""


def refuse_pickle(path: str | os.PathLike, instead: str) -> None:
    """Raise if a file's suffix says that it holds a pickle.

    Raises:
        SourceError: It does; ``instead`` ends the message.
    """
    if Path(path).suffix.lower() in PICKLES:
        raise SourceError(f"{path} is a pickle, and pickles can run any code when opened, so none is loaded; {instead}")


# ---------------------------------------------------------------------------------------------------------------------
# Autoencoders by name, folder or hub id


def open_model(text: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Autoencoder:
    """:func:`diffusab_core.autoencoders.load` for a word typed in a shell.

    Args:
        text: A shipped name, a diffusers folder or a hub id; ``owner/repository:vae`` names a subfolder.
        device: Where to put it.
        dtype: Precision to run it in.

    Raises:
        SourceError: A single file, which is no diffusers folder.
        AutoencoderError: As :func:`~diffusab_core.autoencoders.load`.
    """
    if Path(text).is_dir():
        return autoencoders.load(text, device, dtype)
    name, _, subfolder = text.partition(":")
    refuse_pickle(
        name, "give a diffusers folder with safetensors, or build the model in Python: --model file.py:function"
    )
    if name.endswith(".py"):
        raise SourceError(f"{text} is Python code, not a model's name; give it as --model {name}:function")
    if name.endswith(".safetensors"):
        raise SourceError(
            f"{text} is a single file, which does not say what model it belongs to; give the diffusers folder with its "
            "config.json, or --latents if the file holds latents"
        )
    return autoencoders.load(name, device, dtype, subfolder=subfolder or None)


# ---------------------------------------------------------------------------------------------------------------------
# One's own autoencoder


@dataclass(frozen=True)
class OwnAutoencoder:
    r"""Somebody's own model behind the face of :class:`~diffusab_core.autoencoders.Autoencoder`.

    Attributes:
        name: Labels figures.
        module: What the factory returned; see :func:`open_factory` for what it must offer.
        compression: How many times smaller the latent's sides are than the image's.
        latent_channels: Channels of the latent.
        frames: Length of the time axis of one image's latent, or ``None`` for four-dimensional latents.
        scaling_factor: Its ``scaling_factor``, 1 if it has none.
        shift_factor: Its ``shift_factor``, 0 if it has none.
        file: The Python file it comes from.
    """

    name: str
    module: Any
    compression: int
    latent_channels: int
    frames: int | None = None
    scaling_factor: float = 1.0
    shift_factor: float = 0.0
    file: Path | None = None

    def latent_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape ``(C, h, w)`` or ``(C, T, h, w)`` of one image's latent.

        Raises:
            ValueError: A side is not a positive multiple of the compression.
        """
        f = self.compression
        if height < f or width < f or height % f or width % f:
            raise ValueError(
                f"{self.name} compresses {f} x {f}, so both sides must be positive multiples of {f}, "
                f"got {height} x {width}; crop or resize the images"
            )
        time = () if self.frames is None else (self.frames,)
        return (self.latent_channels, *time, height // f, width // f)

    def encode(self, x: Tensor) -> Posterior:
        """Images ``(N, 3, H, W)`` in [-1, 1] to the posterior of their latents."""
        return as_posterior(self.module.encode(x), self.name)

    def decode(self, z: Tensor) -> Tensor:
        """Raw latents to images ``(N, 3, H, W)``, nominally in [-1, 1].

        Raises:
            SourceError: The model has no ``decode``, or it returns neither a tensor nor something with ``.sample``.
        """
        if not callable(getattr(self.module, "decode", None)):
            raise SourceError(f"{self.name} has no decode(z)")
        output = self.module.decode(z)
        images = output if isinstance(output, Tensor) else getattr(output, "sample", None)
        if not isinstance(images, Tensor):
            raise SourceError(
                f"{self.name}: decode(z) must return a tensor or something with a tensor .sample, got {_kind(output)}"
            )
        return images

    def normalise(self, z: Tensor) -> Tensor:
        r""":math:`(z - \text{shift}) \cdot \text{scale}`."""
        return (z - self.shift_factor) * self.scaling_factor

    def denormalise(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`."""
        return z / self.scaling_factor + self.shift_factor

    def parameters(self) -> Iterator[nn.Parameter]:
        """The module's parameters; none for an object that is no ``nn.Module``."""
        return self.module.parameters() if isinstance(self.module, nn.Module) else iter(())


def as_posterior(output: Any, name: str = "the model") -> Posterior:
    """What an ``encode`` returned, as a :class:`diffusab_core.autoencoders.families.Posterior`.

    Taken are a tensor (then the posterior is a point), something with tensors ``mean`` and ``std`` (a ``Posterior`` or
    diffusers' distribution), and a diffusers output: ``.latent_dist``, ``.latent`` or ``.latents``.

    Raises:
        SourceError: Anything else; a tuple, say, does not tell a mean from a log-variance.
    """
    if isinstance(output, Tensor):
        return Posterior(output, torch.zeros_like(output))
    if hasattr(output, "latent_dist"):
        return as_posterior(output.latent_dist, name)
    for field in ("latent", "latents"):
        if isinstance(getattr(output, field, None), Tensor):
            return as_posterior(getattr(output, field), name)
    mean, std = getattr(output, "mean", None), getattr(output, "std", None)
    if isinstance(mean, Tensor) and isinstance(std, Tensor):
        return Posterior(mean, std)
    raise SourceError(
        f"{name}: encode(x) must return a tensor, something with tensors .mean and .std, or a diffusers output "
        f"(.latent_dist, .latent), got {_kind(output)}"
    )


def open_factory(
    spec: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, probe: int = 256
) -> OwnAutoencoder:
    """Call a function in a Python file and wrap the autoencoder that it returns.

    The function takes no arguments and returns an ``nn.Module``, or any object, with

    - ``encode(x)``: images ``(N, 3, H, W)`` in [-1, 1] to latents ``(N, C, h, w)`` or ``(N, C, T, h, w)``, in one of
      the forms that :func:`as_posterior` takes;
    - ``decode(z)``, where decoding is wanted: a tensor or something with ``.sample``;
    - ``scaling_factor`` and ``shift_factor``, if it has them, on itself or on its ``config``.

    The file's folder is put on the import path, as Python does for a script. An ``nn.Module`` is moved to the device
    and precision and put into evaluation mode; any other object has to look after that itself. The compression is
    found by encoding one image of noise.

    Args:
        spec: ``path/to/file.py:function``.
        device: Where to put it.
        dtype: Precision to run it in.
        probe: Side of the probe image in pixels.

    Raises:
        SourceError: No such file or function, an exception in it, or a result that is no autoencoder.
    """
    path, function = _split(spec)
    build = getattr(_import(path), function, None)
    if not callable(build):
        raise SourceError(f"{path} has no function {function!r}")
    try:
        module = build()
    except (Exception, SystemExit) as error:
        raise SourceError(f"{spec} failed: {blame(error, path)}") from error
    if not callable(getattr(module, "encode", None)):
        raise SourceError(f"{spec} must return an autoencoder with encode(x), got {_kind(module)}")
    if isinstance(module, nn.Module):
        module = module.to(device=device, dtype=dtype).eval()
    noise = torch.rand(1, 3, probe, probe, generator=torch.Generator().manual_seed(0)) * 2 - 1
    shape = tuple(noise.shape)
    try:
        with torch.no_grad():
            mean = as_posterior(module.encode(noise.to(device, dtype)), spec).mean
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{spec}: encode(x) failed for shape {shape}: {blame(error, path)}") from error
    return OwnAutoencoder(
        name=f"{path.stem}:{function}",
        module=module,
        compression=_compression(mean, probe, spec),
        latent_channels=mean.shape[1],
        frames=mean.shape[2] if mean.ndim == 5 else None,
        scaling_factor=_setting(module, "scaling_factor", 1.0),
        shift_factor=_setting(module, "shift_factor", 0.0),
        file=path,
    )


def _split(spec: str) -> tuple[Path, str]:
    text, colon, function = spec.rpartition(":")
    if not colon or not text or not function.isidentifier():
        raise SourceError(f"--model {spec!r} is not of the form file.py:function")
    if Path(text).suffix != ".py":
        raise SourceError(f"--model {spec!r}: {text} is not a .py file")
    if not Path(text).is_file():
        raise SourceError(f"--model {spec!r}: there is no file {text}")
    return Path(text).resolve(), function


def _import(path: Path) -> ModuleType:
    folder = str(path.parent)
    if folder not in sys.path:  # stays there: models may import on first use
        sys.path.insert(0, folder)
    name = f"_diffusab_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise SourceError(f"{path} cannot be imported: {blame(error, path)}") from error
    return module


def blame(error: BaseException, path: Path | None = None) -> str:
    """An exception in one line, with the last line of ``path`` that it passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if path is not None and Path(frame.filename) == path]
    where = f" (line {lines[-1]} of {path.name})" if lines else ""
    return " ".join(f"{type(error).__name__}: {error}".split()) + where


def _kind(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}" if value is not None else "None"


def _compression(latent: Tensor, probe: int, spec: str) -> int:
    shape = tuple(latent.shape)
    if latent.ndim not in (4, 5) or shape[0] != 1 or not latent.is_floating_point():
        raise SourceError(
            f"{spec}: encode(x) of one image must give floats (1, C, h, w) or (1, C, T, h, w), got shape {shape}, "
            f"{latent.dtype}"
        )
    height, width = shape[-2:]
    if height != width or not height or probe % height:
        raise SourceError(
            f"{spec} maps {probe} x {probe} pixels to a latent of {height} x {width}; both sides must shrink by one "
            "whole factor, so choose a --resolution that the model divides evenly"
        )
    return probe // height


def _setting(module: Any, name: str, default: float) -> float:
    value = getattr(module, name, None)
    value = getattr(getattr(module, "config", None), name, None) if value is None else value
    return default if value is None else float(value)


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
