r"""Latents that other programs have stored, to be profiled and trained on as they lie.

What is understood:

- a folder or zip of a file for each image, ``.npz`` or ``.npy``: MAR's ``moments`` and ``moments_flip``; EDM2's and
  REPA's ``img-mean-std-*.npy``, mean above standard deviation; plain latents, as fast-DiT's;
- a folder of safetensors shards with ``latents``, ``latents_flip`` and ``labels``, as LightningDiT's;
- one file of all, ``.npy``, ``.npz`` or ``.safetensors``; or a folder of ``mean.npy`` and, perhaps, ``std.npy``,
  ``mean_flipped.npy``, ``std_flipped.npy`` and ``labels.npy``.

Moments are :math:`\mu` above :math:`\log \sigma^2`, which is clamped to [-30, 20] as in diffusers. Latents are raw, as
the encoder gave them: each channel is normalised by its own statistics, whatever the other program did. Labels are
those of ``dataset.json``, of a ``labels`` beside the latents, or the folders of classes.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffusab_core import files
from diffusab_core.autoencoders.names import PICKLES
from diffusab_core.data.arrays import list_arrays, read_array
from diffusab_core.data.places import ImagesError
from diffusab_core.data.stores import LABELS_FILE, Folder, Source, read_labels, says_no_labels
from diffusab_core.data.zips import Zips
from diffusab_core.latents.base import Latents, check_labels
from diffusab_core.latents.cache import INDEX, LatentCache
from diffusab_core.latents.identity import LatentsError

_FLOATS = ("F16", "BF16", "F32", "F64")
_MEANS = ("moments", "mean", "latents", "latent", "arr_0")  # how others call them, the surest first
_FLIPPED = ("_flip", "_flipped")
_TRACED = 1024  # files that tell one store from another


class _Reader(Protocol):
    """Arrays by item, under their names; what lies in one file without a name is called ``latents``."""

    where: str
    kind: str
    targets: np.ndarray | None
    classes: Sequence[str]

    def __len__(self) -> int: ...

    def read(self, index: int) -> dict[str, Tensor]:
        """What there is of one item, each ``(C, ...)``."""

    def name(self, index: int) -> str: ...

    def trace(self) -> Iterator[bytes]:
        """What tells these latents from others."""


class StoredLatents(Latents):
    """Latents of another program; :func:`open_stored` finds out what they are.

    A :class:`LatentsError` names an item that is not of the shape of the first, or lacks what that has.
    """

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader
        first = reader.read(0)
        mean, std = _split(first, reader.name(0), flipped=False)
        digest = hashlib.sha256(b"\0".join(reader.trace())).hexdigest()[:8]
        about = {"latents": os.path.basename(os.path.abspath(reader.where)), "kind": reader.kind, "count": len(reader),
                 "latents_found": f"{len(reader)} ({digest})"}  # fmt: skip
        names = list(map(str, reader.classes))
        self._labels = None if reader.targets is None else torch.from_numpy(reader.targets.astype(np.int64))
        check_labels(self._labels, len(names))
        flips = any(name + ending in first for name in _MEANS for ending in _FLIPPED)
        super().__init__(len(reader), mean.shape, names, about, flips)
        self.deterministic = std is None

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        found = []
        for i in indices:
            mean, std = _split(self.reader.read(i), self.reader.name(i), flipped)
            if tuple(mean.shape) != self.shape:
                raise LatentsError(f"{self.reader.name(i)} is of shape {tuple(mean.shape)}, the first one {self.shape}")
            if (std is None) is not self.deterministic:
                has, first = ("no deviation", "has one") if std is None else ("a deviation", "has none")
                raise LatentsError(f"{self.reader.name(i)} has {has}, the first one {first}")
            found.append((mean, torch.zeros_like(mean) if std is None else std))
        mean, std = (torch.stack(some) for some in zip(*found, strict=True))
        return mean, std, None if self._labels is None else self._labels[list(indices)]


def _split(arrays: Mapping[str, Tensor], name: str, flipped: bool) -> tuple[Tensor, Tensor | None]:
    """Mean and standard deviation of one item, float32; no deviation where there is none."""
    endings = _FLIPPED if flipped else ("",)
    keys = [(key, ending) for key in _MEANS for ending in endings if key + ending in arrays]
    if not keys:
        wanted = f"one of {', '.join(key + endings[0] for key in _MEANS)}"
        raise LatentsError(f"{name} holds {', '.join(arrays) or 'nothing'}, and so no latents: {wanted}")
    key, ending = keys[0]
    value = arrays[key + ending].float()
    value = value[0] if value.ndim in (4, 5) and len(value) == 1 else value  # a batch of one image
    if value.ndim not in (3, 4):
        raise LatentsError(f"{name}: a latent is (C, h, w) or (C, t, h, w), this is of shape {tuple(value.shape)}")
    halves = key == "moments" or "mean-std" in os.path.basename(name)
    if halves and len(value) % 2:
        raise LatentsError(f"{name} has {len(value)} channels, which are not as many means as deviations")
    if halves:
        mean, spread = value.chunk(2)
        return mean, (0.5 * spread.clamp(-30, 20)).exp() if key == "moments" else spread
    std = arrays.get("std" + ending) if key == "mean" else None
    if std is None:
        return value, None
    std = std[0] if std.ndim > value.ndim and len(std) == 1 else std
    if std.shape != value.shape:
        raise LatentsError(f"{name}: the mean is of shape {tuple(value.shape)}, its deviation {tuple(std.shape)}")
    return value, std.float()


class _Files:
    """A file for each image, below a folder or in a zip archive."""

    kind = "a file for each image"

    def __init__(self, source: Source, names: Sequence[str], where: str) -> None:
        self.source, self.where = source, where
        self._kept = [i for i, name in enumerate(names) if name.lower().endswith((".npy", ".npz"))]
        self._names = [names[i] for i in self._kept]
        self.targets, self.classes = self._label()

    def _label(self) -> tuple[np.ndarray | None, Sequence[str]]:
        told = self._find_labels()
        if told is not None and not says_no_labels(told):
            numbers, _ = read_labels(told, self._names, f"{self.where}: {LABELS_FILE}")
            for missing in (name for name, number in zip(self._names, numbers, strict=True) if number < 0):
                raise LatentsError(f"{self.where}: {missing} has no label in {LABELS_FILE}")
            return np.array(numbers), range(max(numbers) + 1)
        folders = [name.rpartition("/")[0].partition("/")[0] for name in self._names]
        # EDM's folders 00000, 00001, ... are no classes.
        if told is not None or not all(folders) or all(folder.isdigit() and len(folder) == 5 for folder in folders):
            return None, ()
        classes = sorted(set(folders))
        order = {name: i for i, name in enumerate(classes)}
        return np.array([order[folder] for folder in folders]), classes

    def _find_labels(self) -> bytes | None:
        if isinstance(self.source, Folder):
            file = self.source.root / LABELS_FILE
            return file.read_bytes() if file.is_file() else None
        with zipfile.ZipFile(self.where) as archive:
            return archive.read(LABELS_FILE) if LABELS_FILE in archive.namelist() else None

    def __len__(self) -> int:
        return len(self._kept)

    def name(self, index: int) -> str:
        return self.source.place(self._kept[index])

    def read(self, index: int) -> dict[str, Tensor]:
        try:
            opened = self.source.open(self._kept[index])
            held = np.load(opened, allow_pickle=False)
            if isinstance(held, np.ndarray):
                return {"latents": torch.from_numpy(held)}
            with held:
                return {name: torch.from_numpy(held[name]) for name in held.files if held[name].dtype.kind == "f"}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
            raise LatentsError(f"{self.name(index)} cannot be read ({files.first_line(error)})") from error

    def trace(self) -> Iterator[bytes]:
        for i in range(0, len(self), max(1, len(self) // _TRACED)):
            yield self._names[i].encode() + self.source.trace(self._kept[i])


class _Batches:
    """All latents in one file, in some, or in an array for each part."""

    def __init__(self, paths: Sequence[Path], where: str, kind: str) -> None:
        self.paths, self.where, self.kind = paths, where, kind
        self._held: list[dict[str, Any]] = [self._open(path) for path in paths] if kind != "arrays" else [{}]
        if kind == "arrays":
            for path in paths:
                self._held[0][path.stem] = read_array(path)
        counts = []
        for path, held in zip(paths, self._held, strict=False):
            key = next((name for name in _MEANS if name in held), None)
            if key is None:
                raise LatentsError(f"{path} holds {', '.join(held) or 'nothing'}, and none of {', '.join(_MEANS)}")
            count = len(held[key])
            for other in (name for name, value in held.items() if len(value) != count):
                raise LatentsError(f"{path}: {key} has {count} items, {other} has {len(held[other])}")
            counts.append(count)
        self._ends = np.cumsum(counts)
        labels = [np.asarray(held["labels"]) for held in self._held if "labels" in held]
        self.targets = np.concatenate(labels) if len(labels) == len(self._held) else None
        self.classes = () if self.targets is None else range(int(self.targets.max()) + 1)

    def _open(self, path: Path) -> dict[str, Any]:
        if path.suffix.lower() == ".npy":
            return {"latents": read_array(path)}
        if path.suffix.lower() == ".npz":
            return {name: read_array(path, name) for name in list_arrays(path)}
        try:
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  mapped, not read
        except (SafetensorError, OSError) as error:
            raise LatentsError(f"{path} cannot be read as safetensors ({files.first_line(error)})") from error

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}  # or the latents would be sent to every worker

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        fresh = _Batches(self.paths, self.where, self.kind)
        self._held = fresh._held

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _find(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - int(self._ends[number - 1] if number else 0)

    def name(self, index: int) -> str:
        number, row = self._find(index)
        return f"{self.where if self.kind == 'arrays' else self.paths[number]}: item {row}"

    def read(self, index: int) -> dict[str, Tensor]:
        number, row = self._find(index)
        rows = {name: value[row] for name, value in self._held[number].items() if name != "labels"}
        return {name: v if isinstance(v, Tensor) else torch.from_numpy(np.array(v)) for name, v in rows.items()}

    def trace(self) -> Iterator[bytes]:
        for path in self.paths:
            with path.open("rb") as file:
                size = file.seek(0, io.SEEK_END)
                for start in range(0, size, max(1, size // 16)):
                    file.seek(start)
                    yield f"{path.name} {size}".encode() + file.read(4096)


def open_stored(path: str | os.PathLike) -> Latents:
    """Latents to train on: a cache of :func:`~diffusab_core.latents.extraction.extract`, or another program's.

    See the module for what is understood; anything else is a :class:`LatentsError`.
    """
    place = Path(path)
    if place.name == INDEX or (place / INDEX).is_file():
        return LatentCache(place)
    try:
        reader = _open_reader(place)
        if not len(reader):
            raise LatentsError(f"{place} holds no latents, neither {INDEX} nor *.npy, *.npz or *.safetensors")
        return StoredLatents(reader)
    except ImagesError as error:
        raise LatentsError(str(error)) from error


def _open_reader(place: Path) -> _Reader:
    where, suffix = str(place), place.suffix.lower()
    if suffix in PICKLES:
        instead = "safetensors.torch.save_file({'latents': z}, 'latents.safetensors')"
        raise LatentsError(f"{place} is a pickle, which can run any code when opened, so none is; save with {instead}")
    if place.is_file():
        if suffix == ".zip":
            source = Zips([place])
            return _Files(source, [source.name(i) for i in range(len(source))], where)
        if suffix in (".npy", ".npz", ".safetensors"):
            return _Batches([place], where, suffix[1:])
        raise LatentsError(f"{place} is no cache of latents, and no .npy, .npz, .zip or .safetensors")
    if not place.is_dir():
        raise LatentsError(f"there is no {place}: latents are a folder that `diffusab extract` wrote, or another's")
    if shards := sorted(place.glob("*.safetensors")):
        return _Batches(shards, where, "shards")
    if (place / "mean.npy").is_file():
        parts = ("mean", "std", "mean_flipped", "std_flipped", "labels")
        return _Batches([p for name in parts if (p := place / f"{name}.npy").is_file()], where, "arrays")
    source = Folder(place)
    return _Files(source, [source.name(i) for i in range(len(source))], where)


@dataclass(frozen=True)
class LatentsFile:
    """A tensor ``(N, C, h, w)`` or ``(N, C, T, h, w)`` that somebody has stored in a safetensors file."""

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


@dataclass(frozen=True)
class LatentsView(LatentsFile):
    """The means of latents, item by item, whatever they are stored as."""

    latents: Latents | None = None

    def read(self, start: int, stop: int) -> Tensor:
        return self.latents.posterior(range(start, stop))[0]


def open_latents(path: str | os.PathLike, key: str | None = None) -> LatentsFile:
    """The tensor ``key`` of a safetensors file, or the only one; of others what :func:`open_stored` finds, the means.

    What is not latents is a :class:`LatentsError`.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() in (".npy", ".npz", ".zip"):
        if key is not None:
            raise LatentsError(f"--latents-key {key} is for a safetensors file, not for {path}")
        found = open_stored(path)
        return LatentsView(path, "mean", (len(found), *found.shape), found)
    if path.suffix.lower() in PICKLES:
        instead = "safetensors.torch.save_file({'latents': z}, 'latents.safetensors')"
        raise LatentsError(f"{path} is a pickle, which can run any code when opened, so none is; save with {instead}")
    if not path.is_file():
        raise LatentsError(f"--latents: there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            keys = sorted(file.keys())
            key = keys[0] if key is None and len(keys) == 1 else key
            if key not in keys:
                listed = f"{len(keys)} tensors with --latents-key ({', '.join(keys[:8])}{', ...' * (len(keys) > 8)})"
                raise LatentsError(f"{path}: name one of its {listed}, not {key}")
            piece = file.get_slice(key)
            shape, dtype = tuple(piece.get_shape()), piece.get_dtype()
    except (SafetensorError, OSError) as error:
        raise LatentsError(f"{path} cannot be read as safetensors ({files.first_line(error)})") from error
    if dtype not in _FLOATS or len(shape) not in (4, 5) or 0 in shape:
        wanted = f"{', '.join(_FLOATS)} of shape (N, C, h, w) or (N, C, T, h, w)"
        raise LatentsError(f"{path}: {key!r} is {dtype} of shape {shape}; latents are {wanted}")
    return LatentsFile(path, key, shape)
