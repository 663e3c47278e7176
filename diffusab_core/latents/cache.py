r"""Latents on the disk: :class:`LatentCache` reads at random what extraction has stored.

A cache is a folder of safetensors shards and an index, ``latents.json``. A shard holds ``mean`` and, unless the
autoencoder is deterministic, ``std``, each ``(n, *shape)``; with flips also ``mean_flipped`` and ``std_flipped``; with
labels ``labels`` ``(n,)``. Image :math:`i` is row :math:`i \bmod n` of shard :math:`\lfloor i / n \rfloor`, read
through a memory map: nothing but the rows that are asked for. The row of an image that could not be used is empty, and
the index lists it under ``left_out`` of its shard; items of the cache are the others, in their order.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from diffusab_core import files
from diffusab_core.latents.base import Latents
from diffusab_core.latents.identity import LatentsError

INDEX, SHARD = "latents.json", "shard-{:05d}.safetensors"
FORMAT, FORMAT_VERSION = "diffusab latents", 1
#: Types that latents can be stored in: torch's, and safetensors' name of it.
DTYPES = {"float16": (torch.float16, "F16"), "bfloat16": (torch.bfloat16, "BF16"), "float32": (torch.float32, "F32")}


class CacheError(LatentsError):
    """A cache that is not there, damaged, unfinished, or of other latents; the message names what differs."""


class LatentCache(Latents):
    """Latents that :func:`~diffusab_core.latents.extraction.extract` has stored.

    Opening checks names and headers of all shards, not their contents; :meth:`verify` checks those. A
    :class:`CacheError`: no cache, an unfinished one, or a file that is missing, truncated or of another layout.

    Args:
        path: The folder, or its ``latents.json``.
        finished: Refuse a cache whose extraction has not ended.

    Attributes:
        nbytes: Size of the shards on the disk in bytes.
        encoded: How many images the extraction that returned it encoded, in ``seconds`` seconds.
        skipped: Up to 20 images that could not be used, with the reason; ``skipped_count`` is the number of all.
        constants: A sentence for each channel that is the same everywhere; with one there are no statistics.
    """

    def __init__(self, path: str | os.PathLike, *, finished: bool = True) -> None:
        self.path = Path(path).parent if Path(path).name == INDEX else Path(path)
        self.index = index = read_index(self.path)
        if finished and not index["complete"]:
            done = sum(shard["items"] for shard in index["shards"])
            there = f"{self.path} is unfinished, {done} of {index['count']} latents are there"
            raise CacheError(f"{there}; run the same extraction again, it goes on from there")
        left_out = [entry for shard in index["shards"] for entry in shard.get("left_out", ())]
        missing, identity = sorted(place for place, _, _ in left_out), index["identity"]
        self._places = np.delete(np.arange(index["count"]), missing) if missing else None
        identity = identity | {"left_out": missing} if missing else identity
        count = index["count"] - len(missing)
        super().__init__(count, index["shape"], index["class_names"], identity, index["flips"])
        self.constants = tuple(index.get("constants", ()))
        if index["complete"] and not self.constants:
            self.statistics = tuple(torch.tensor(index[f"channel_{name}"]) for name in ("mean", "std"))
        self.nbytes = sum(shard["bytes"] for shard in index["shards"])
        self.skipped = (*map(tuple, index["skipped"]), *((name, reason) for _, name, reason in left_out))[:20]
        self.skipped_count = index["skipped_count"] + len(missing)
        self.encoded, self.seconds = 0, 0.0
        for shard in index["shards"]:
            check_shard(self.path, index, shard)
        self._maps: dict[int, dict[str, Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # or the files' contents would be pickled

    def _rows(self, name: str, indices: Sequence[int]) -> Tensor:
        size = self.index["shard_size"]
        for shard in {i // size for i in indices} - self._maps.keys():
            with safe_open(self.path / self.index["shards"][shard]["file"], "pt") as file:
                # Tensors that read what is looked at, and keep no file open.
                self._maps[shard] = {key: file.get_tensor(key) for key in self.index["tensors"]}
        return torch.stack([self._maps[i // size][name][i % size] for i in indices])

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        if self._places is not None:
            indices = self._places[list(indices)].tolist()
        ending = "_flipped" if flipped else ""
        mean = self._rows("mean" + ending, indices).float()
        std = self._rows("std" + ending, indices).float() if "std" in self.index["tensors"] else torch.zeros_like(mean)
        return mean, std, self._rows("labels", indices) if self.num_classes else None

    def verify(self) -> None:
        """Read every shard and compare its checksum; a :class:`CacheError` names all that differ."""
        listed = self.index["shards"]
        bar = tqdm(listed, desc="verifying", unit="shard", disable=None)
        damaged = [shard["file"] for shard in bar if files.digest_file(self.path / shard["file"]) != shard["sha256"]]
        if damaged:
            raise CacheError(f"{len(damaged)} of {len(listed)} shards of {self.path} are damaged, by their checksum: "
                             f"{', '.join(damaged)}; delete them and run the same extraction again")  # fmt: skip


def read_index(folder: Path) -> dict[str, Any]:
    """The index, after a look at its format and checksum."""
    path = folder / INDEX
    if not path.is_file():
        raise CacheError(f"{folder} is no latent cache, for there is no {path}; make one with diffusab extract")
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
    """A look at the header of a shard; that it fits the size of the file, ``safe_open`` sees."""
    path, items = folder / shard["file"], shard["items"]
    hint = "run the same extraction again to make it anew"
    wanted = {name: (DTYPES[index["dtype"]][1], [items, *index["shape"]]) for name in index["tensors"]}
    wanted |= {name: ("I64", [items]) for name in wanted if name == "labels"}
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
            found = {name: (piece.get_dtype(), piece.get_shape()) for name, piece in slices.items()}
        if found != wanted:
            raise CacheError(f"{path} is damaged: its header says {found} instead of {wanted}; delete it and {hint}")
    except FileNotFoundError:
        raise CacheError(f"{path} is missing; {hint}") from None
    except (OSError, SafetensorError) as error:
        raise CacheError(f"{path} is damaged ({files.first_line(error)}); delete it and {hint}") from error


def write_shard(
    folder: Path, number: int, tensors: dict[str, Tensor], left_out: Sequence[Sequence[Any]] = ()
) -> dict[str, Any]:
    """Write one shard; returns what the index says of it, with place, name and reason of images that are left out."""
    name = SHARD.format(number)
    with _writing(folder):
        data = save(tensors)  # not save_file(), whose random name a killed process would leave behind for ever
        files.write_bytes(folder / name, data, alone=True)
    digest = hashlib.sha256(data).hexdigest()
    found = {"file": name, "items": len(tensors["mean"]), "bytes": len(data), "sha256": digest}
    return found | ({"left_out": [list(entry) for entry in left_out]} if left_out else {})


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CacheError(f"cannot write into {folder}: {files.first_line(error)}") from error


def refuse_other(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse what lacks an entry that is wanted, naming every difference with both values."""
    # The same weights under another name are the same autoencoder.
    same = {"autoencoder"} if found.get("weights") == wanted.get("weights") else set()
    different = files.differences(found, wanted, [key for key in wanted if key not in same])
    if different:
        other = f"{path} holds latents of other settings ({different})"
        raise CacheError(f"{other}; repeat its settings, or name another folder")


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
    with files.sole_holder(folder, CacheError(f"another process is extracting into {folder}")):
        yield
