r"""Latents on the disk: :class:`LatentCache` reads at random what an extraction has stored.

A cache is a folder of safetensors shards and an index, ``latents.json``. A shard holds ``mean`` and, unless the
autoencoder is deterministic, ``std``, each ``(n, *shape)``; with flips also ``mean_flipped`` and ``std_flipped``; with
labels ``labels`` ``(n,)``. Item :math:`i` is row :math:`i \bmod n` of shard :math:`\lfloor i / n \rfloor`, :math:`n`
being the shard size, and is read through a memory map: nothing but the rows that are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from diffusab_core.latents import files
from diffusab_core.latents.base import Latents
from diffusab_core.latents.files import CacheError


class LatentCache(Latents):
    """Latents that were stored by an extraction. Opening it checks names, sizes and headers of
    all shards, not their contents; :meth:`verify` checks those.

    Args:
        path: The folder, or its ``latents.json``.
        finished: Refuse a cache whose extraction has not ended.

    Attributes:
        nbytes: Size of the shards on the disk in bytes.
        encoded: How many images the call of :func:`~diffusab_core.latents.extraction.extract` that returned it
            encoded, in ``seconds`` seconds.
        skipped: Images that could not be used, with the reason, at most 20 of them; ``skipped_count`` is their number.

    Raises:
        CacheError: There is no cache, it is unfinished, or a file is missing, truncated or of another layout.
    """

    def __init__(self, path: str | os.PathLike, *, finished: bool = True) -> None:
        self.path = Path(path).parent if Path(path).name == files.INDEX else Path(path)
        self.index = index = files.read_index(self.path)
        if finished and not index["complete"]:
            done = sum(shard["items"] for shard in index["shards"])
            raise CacheError(
                f"{self.path} is unfinished, {done} of {index['count']} latents are there; run the same extraction "
                "again, it goes on from there"
            )
        super().__init__(index["count"], index["shape"], index["class_names"], index["identity"], index["flips"])
        if index["complete"]:
            self.statistics = tuple(torch.tensor(index[f"channel_{name}"]) for name in ("mean", "std"))
        self.dtype, _, self._numpy_dtype = files.DTYPES[index["dtype"]]
        self.nbytes = sum(shard["bytes"] for shard in index["shards"])
        self.skipped, self.skipped_count = tuple(map(tuple, index["skipped"])), index["skipped_count"]
        self._places = [files.check_shard(self.path, index, shard) for shard in index["shards"]]
        self.encoded, self.seconds = 0, 0.0
        self._maps: dict[tuple[int, str], np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # or the files' contents would be pickled

    def _map(self, shard: int, name: str) -> np.ndarray:
        if (shard, name) not in self._maps:
            # np.asarray: indexing a memmap object costs several times what indexing an array does.
            whole = np.asarray(np.memmap(self.path / self.index["shards"][shard]["file"], np.uint8, "r"))
            for key, (start, stop) in self._places[shard].items():
                like, row = (np.dtype("<i8"), ()) if key == "labels" else (self._numpy_dtype, self.shape)
                self._maps[shard, key] = whole[start:stop].view(like).reshape(-1, *row)
        return self._maps[shard, name]

    def _rows(self, name: str, indices: Sequence[int]) -> Tensor:
        row = () if name == "labels" else self.shape
        out = np.empty((len(indices), *row), np.dtype("<i8") if name == "labels" else self._numpy_dtype)
        shard, place = np.divmod(np.asarray(indices, dtype=np.int64), self.index["shard_size"])
        for k in np.unique(shard):
            of_k = np.flatnonzero(shard == k)
            out[of_k] = self._map(int(k), name)[place[of_k]]
        return torch.from_numpy(out)

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        ending = "_flipped" if flipped else ""
        mean = self._rows("mean" + ending, indices).view(self.dtype).float()
        if "std" in self.index["tensors"]:
            std = self._rows("std" + ending, indices).view(self.dtype).float()
        else:
            std = torch.zeros_like(mean)
        return mean, std, self._rows("labels", indices) if self.num_classes else None

    def verify(self, progress: bool | None = None) -> None:
        """Read every shard and compare its checksum.

        Raises:
            CacheError: Some differ; the message names them.
        """
        listed = self.index["shards"]
        bar = tqdm(listed, desc="verifying", unit="shard", disable=None if progress is None else not progress)
        damaged = [shard["file"] for shard in bar if files.sha256(self.path / shard["file"]) != shard["sha256"]]
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
    files.refuse_other(cache.path, cache.identity, expect or {})
    return cache
