r"""Latents on the disk: :class:`LatentCache` reads at random what extraction has stored.

A cache is a folder of safetensors shards and an index, ``latents.json``. A shard holds ``mean`` and, unless the
autoencoder is deterministic, ``std``, each ``(n, *shape)``; with flips also ``mean_flipped`` and ``std_flipped``; with
labels ``labels`` ``(n,)``. Item :math:`i` is row :math:`i \bmod n` of shard :math:`\lfloor i / n \rfloor`, :math:`n`
being the shard size, and is read through a memory map: nothing but the rows that are asked for.

Index and shards are written whole or not at all, and checked when they are opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from diffusab_core import files
from diffusab_core.latents.base import Latents
from diffusab_core.latents.identity import LatentsError

INDEX = "latents.json"
FORMAT, FORMAT_VERSION = "diffusab latents", 1
#: Types that latents can be stored in: torch's, and safetensors' name of it.
DTYPES = {"float16": (torch.float16, "F16"), "bfloat16": (torch.bfloat16, "BF16"), "float32": (torch.float32, "F32")}


class CacheError(LatentsError):
    """A cache that is not there, damaged, unfinished, or of other latents; the message names what differs."""


class LatentCache(Latents):
    """Latents that :func:`~diffusab_core.latents.extraction.extract` has stored.

    Opening checks names, sizes and headers of all shards, not their contents; :meth:`verify` checks those.

    Args:
        path: The folder, or its ``latents.json``.
        finished: Refuse a cache whose extraction has not ended.

    Attributes:
        nbytes: Size of the shards on the disk in bytes.
        encoded: How many images the extraction that returned it encoded, in ``seconds`` seconds.
        skipped: Images that could not be used, with the reason, at most 20 of them; ``skipped_count`` is their number.

    Raises:
        CacheError: There is no cache, it is unfinished, or a file is missing, truncated or of another layout.
    """

    def __init__(self, path: str | os.PathLike, *, finished: bool = True) -> None:
        self.path = Path(path).parent if Path(path).name == INDEX else Path(path)
        self.index = index = read_index(self.path)
        if finished and not index["complete"]:
            done = sum(shard["items"] for shard in index["shards"])
            raise CacheError(f"{self.path} is unfinished, {done} of {index['count']} latents are there; run the same "
                             "extraction again, it goes on from there")  # fmt: skip
        super().__init__(index["count"], index["shape"], index["class_names"], index["identity"], index["flips"])
        if index["complete"]:
            self.statistics = tuple(torch.tensor(index[f"channel_{name}"]) for name in ("mean", "std"))
        self.nbytes = sum(shard["bytes"] for shard in index["shards"])
        self.skipped, self.skipped_count = tuple(map(tuple, index["skipped"])), index["skipped_count"]
        self.encoded, self.seconds = 0, 0.0
        for shard in index["shards"]:
            check_shard(self.path, index, shard)
        self._maps: dict[int, dict[str, Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # or the files' contents would be pickled

    def _map(self, shard: int) -> dict[str, Tensor]:
        """A shard's tensors, which read what is looked at, and keep no file open."""
        if shard not in self._maps:
            with safe_open(self.path / self.index["shards"][shard]["file"], "pt") as file:
                self._maps[shard] = {name: file.get_tensor(name) for name in self.index["tensors"]}
        return self._maps[shard]

    def _rows(self, name: str, indices: Sequence[int]) -> Tensor:
        size = self.index["shard_size"]
        return torch.stack([self._map(i // size)[name][i % size] for i in indices])

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        ending = "_flipped" if flipped else ""
        mean = self._rows("mean" + ending, indices).float()
        std = self._rows("std" + ending, indices).float() if "std" in self.index["tensors"] else torch.zeros_like(mean)
        return mean, std, self._rows("labels", indices) if self.num_classes else None

    def verify(self, progress: bool | None = None) -> None:
        """Read every shard and compare its checksum.

        Raises:
            CacheError: Some differ; the message names them.
        """
        listed = self.index["shards"]
        bar = tqdm(listed, desc="verifying", unit="shard", disable=None if progress is None else not progress)
        damaged = [shard["file"] for shard in bar if files.digest_file(self.path / shard["file"]) != shard["sha256"]]
        if damaged:
            raise CacheError(
                f"{len(damaged)} of {len(listed)} shards of {self.path} are damaged (their checksum is not that of "
                f"the index): {', '.join(damaged)}; delete them and run the same extraction again to make them anew"
            )


def open_cache(path: str | os.PathLike, expect: Mapping[str, Any] | None = None) -> LatentCache:
    """Open a cache and refuse it unless it is what is expected.

    Args:
        path: See :class:`LatentCache`.
        expect: Entries that its identity must have, such as ``{"weights": weights_digest(autoencoder)}``.

    Raises:
        CacheError: As :class:`LatentCache`, or an entry differs; the message names every one with both values.
    """
    cache = LatentCache(path)
    refuse_other(cache.path, cache.identity, expect or {})
    return cache


# ---------------------------------------------------------------------------------------------------------------------
# Index and shards


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
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CacheError(f"{path} cannot be read as the index of a latent cache ({files.first_line(error)})") from error
    if (kind, version) != (FORMAT, FORMAT_VERSION):
        raise CacheError(f"{path} is {kind!r}, version {version!r}; this reads {FORMAT!r}, version {FORMAT_VERSION}")
    if checksum != files.digest_json(index):
        raise CacheError(f"{path} is damaged: its checksum is not that of its contents; extract anew")
    return index


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    """The index with its checksum."""
    with _writing(folder):
        files.write_json(folder / INDEX, {**index, "checksum": files.digest_json(index)}, alone=True)


def check_shard(folder: Path, index: Mapping[str, Any], shard: Mapping[str, Any]) -> None:
    """A look at the size and the header of a shard."""
    path, items = folder / shard["file"], shard["items"]
    hint = "run the same extraction again to make it anew"
    stored = DTYPES[index["dtype"]][1]
    wanted = {name: (stored, [items, *index["shape"]]) for name in index["tensors"]}
    wanted |= {name: ("I64", [items]) for name in wanted if name == "labels"}
    try:
        size = path.stat().st_size
        if size != shard["bytes"]:
            what = "truncated" if size < shard["bytes"] else "damaged"
            raise CacheError(f"{path} is {what}: {size} bytes instead of {shard['bytes']}; delete it and {hint}")
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
            found = {name: (piece.get_dtype(), piece.get_shape()) for name, piece in slices.items()}
    except FileNotFoundError:
        raise CacheError(f"{path} is missing; {hint}") from None
    except OSError as error:
        raise CacheError(f"{path} cannot be read ({files.first_line(error)})") from error
    except SafetensorError as error:
        raise CacheError(f"{path} is damaged ({files.first_line(error)}); delete it and {hint}") from error
    if found != wanted:
        raise CacheError(f"{path} is damaged: its header says {found} instead of {wanted}; delete it and {hint}")


def name_shard(number: int) -> str:
    """What the file of a shard is called."""
    return f"shard-{number:05d}.safetensors"


def write_shard(folder: Path, number: int, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Write one shard; returns what the index says of it."""
    path = folder / name_shard(number)
    with _writing(folder):
        # Not save_file(), which writes under a random name first: a killed process would leave that behind for ever.
        data = save(tensors)
        files.write_bytes(path, data, alone=True)
    digest = hashlib.sha256(data).hexdigest()
    return {"file": path.name, "items": len(tensors["mean"]), "bytes": len(data), "sha256": digest}


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CacheError(f"cannot write into {folder}: {files.first_line(error)}") from error


# ---------------------------------------------------------------------------------------------------------------------
# Whose folder it is


def refuse_other(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse what lacks an entry that is wanted, naming every difference with both values."""
    # The same weights under another name are the same autoencoder.
    same = {"autoencoder"} if found.get("weights") == wanted.get("weights") else set()
    different = files.differences(found, wanted, [key for key in wanted if key not in same])
    if different:
        raise CacheError(f"{path} holds latents of other settings ({different}); repeat its settings, or name another "
                         "folder and extract anew")  # fmt: skip


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds something else than an extraction that was cut off before its first shard."""
    if not folder.is_dir():
        raise CacheError(f"cannot write into {folder}: it is a file")
    other = sorted(path.name for path in folder.iterdir() if not path.name.startswith(("shard-", INDEX)))
    if other:
        raise CacheError(f"{folder} holds other files, such as {other[0]}, and no latent cache; name another folder")


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """The folder, made if need be, while no other run extracts into it; nothing remains of one that was killed."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(ImportError, OSError):  # no locks on this system or file system
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CacheError(f"another process is extracting into {folder}") from None
        yield
    finally:
        os.close(handle)
