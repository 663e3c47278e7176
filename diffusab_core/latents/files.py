"""The files of a cache of latents: index and shards, written whole or not at all, and checked when read.

What they hold is described in :mod:`diffusab_core.latents.cache`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from diffusab_core.latents.identity import LatentsError

INDEX = "latents.json"
FORMAT, FORMAT_VERSION = "diffusab latents", 1
#: Types that latents can be stored in: torch's, safetensors' name of it, and what numpy maps it as.
DTYPES = {
    "float16": (torch.float16, "F16", np.dtype("<u2")),
    "bfloat16": (torch.bfloat16, "BF16", np.dtype("<u2")),  # numpy has no such type
    "float32": (torch.float32, "F32", np.dtype("<u4")),
}


class CacheError(LatentsError):
    """A cache that is not there, damaged, unfinished, or of other latents; the message names what differs."""


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def refuse_other(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse what lacks an entry that is wanted, naming every difference with both values."""
    # The same weights under another name are the same autoencoder.
    same = {"autoencoder"} if found.get("weights") == wanted.get("weights") else set()
    different = [
        f"{key} {found.get(key)!r} -> {wanted[key]!r}"
        for key in wanted
        if key not in same and found.get(key) != wanted[key]
    ]
    if different:
        raise CacheError(
            f"{path} holds latents of other settings ({'; '.join(different)}); repeat its settings, or name another "
            "folder and extract anew"
        )


def read_index(folder: Path) -> dict[str, Any]:
    """The index, after a look at its format and checksum."""
    path = folder / INDEX
    if not path.is_file():
        if folder.exists():
            raise CacheError(f"{folder} is no latent cache: there is no {INDEX} in it")
        raise CacheError(f"there is no latent cache {folder}; make one with diffusab extract")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        kind, version, checksum = index["format"], index["version"], index.pop("checksum")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CacheError(f"{path} cannot be read as the index of a latent cache ({_in_words(error)})") from error
    if (kind, version) != (FORMAT, FORMAT_VERSION):
        raise CacheError(f"{path} is {kind!r}, version {version!r}; this reads {FORMAT!r}, version {FORMAT_VERSION}")
    if checksum != _checksum(index):
        raise CacheError(f"{path} is damaged: its checksum is not that of its contents; extract anew")
    return index


def _checksum(index: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def check_shard(folder: Path, index: Mapping[str, Any], shard: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """First and last byte of every tensor of a shard, after a look at its size and header."""
    path = folder / shard["file"]
    hint = "delete it and run the same extraction again to make it anew"
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != shard["bytes"]:
                what = "truncated" if size < shard["bytes"] else "damaged"
                raise CacheError(f"{path} is {what}: {size} bytes instead of {shard['bytes']}; {hint}")
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, size)))
        found = {name: (entry["dtype"], entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
        places = {name: tuple(8 + length + at for at in header[name]["data_offsets"]) for name in found}
    except FileNotFoundError:
        raise CacheError(f"{path} is missing; run the same extraction again to make it anew") from None
    except OSError as error:
        raise CacheError(f"{path} cannot be read ({_in_words(error)})") from error
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CacheError(f"{path} is damaged: its header cannot be read; {hint}") from error
    dtype, stored, _ = DTYPES[index["dtype"]]
    items, whole = shard["items"], [shard["items"], *index["shape"]]
    wanted = {name: ("I64", [items]) if name == "labels" else (stored, whole) for name in index["tensors"]}
    if found != wanted:
        raise CacheError(f"{path} is damaged: its header says {found} instead of {wanted}; {hint}")
    lengths = {name: 8 * items if name == "labels" else math.prod(whole) * dtype.itemsize for name in wanted}
    if any(stop - start != lengths[name] or stop > size for name, (start, stop) in places.items()):
        raise CacheError(f"{path} is damaged: its header places tensors where they cannot lie; {hint}")
    return places


def sha256(path: Path) -> str:
    """SHA-256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or f"{type(error).__name__}: {error}")


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def file_name(shard: int) -> str:
    """What the file of a shard is called."""
    return f"shard-{shard:05d}.safetensors"


def write_shard(folder: Path, number: int, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """One shard, whole or not at all; what the index says of it."""
    path = folder / file_name(number)
    partial = path.with_name(path.name + ".tmp")
    try:
        # Not save_file(), which writes under a random name first: a killed process would leave that behind for ever,
        # whereas this name is written over by whoever goes on.
        partial.write_bytes(save(tensors))
        _flush(partial)
        entry = {"file": path.name, "items": len(tensors["mean"]), "bytes": partial.stat().st_size}
        entry["sha256"] = sha256(partial)
        partial.replace(path)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise CacheError(f"cannot write {path}: {_in_words(error)}") from error
    return entry


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    """The index with its checksum, whole or not at all."""
    path = folder / INDEX
    partial = path.with_name(path.name + ".tmp")
    try:
        partial.write_text(json.dumps({**index, "checksum": _checksum(index)}, indent=1) + "\n", encoding="utf-8")
        _flush(partial)
        partial.replace(path)
        _flush(folder)
    except OSError as error:
        raise CacheError(f"cannot write {path}: {_in_words(error)}") from error


def _flush(path: Path) -> None:
    """Make sure that a file's contents, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds something else than an extraction that was cut off before its first shard."""
    if not folder.is_dir():
        raise CacheError(f"cannot write into {folder}: it is a file")
    other = sorted(path.name for path in folder.iterdir() if not path.name.startswith(("shard-", INDEX)))
    if other:
        raise CacheError(f"{folder} holds other files, such as {other[0]}, and no latent cache; name another folder")


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """The folder, made if need be, while no other process extracts into it; nothing remains of one that was killed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise CacheError(f"cannot write into {folder}: {_in_words(error)}") from error
    try:
        _lock(handle, folder)
        if not os.access(folder, os.W_OK):
            raise CacheError(f"cannot write into {folder}: Permission denied")
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CacheError(f"another process is extracting into {folder}") from None
    except (ImportError, OSError):
        pass  # no locks on this system or file system
