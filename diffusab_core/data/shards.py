"""WebDataset tar shards, read in place and at random, nothing unpacked."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from diffusab_core.data.pixels import ImagesError
from diffusab_core.data.stores import Skipped, Source, as_file, several

IMAGE_KEYS = ("jpg", "jpeg", "png", "webp")
LABEL_KEY = "cls"
Place = tuple[int, int]  # offset and size in bytes
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Tars(Source):
    r"""Images in WebDataset tar files, in the order of the files.

    Members whose names agree up to the first dot, ``000017.jpg`` and ``000017.cls``, are one sample: an image under
    ``jpg``, ``jpeg``, ``png`` or ``webp`` and, for labels, a whole number as text under ``cls``. Other members are
    passed over. Headers are read once; afterwards an item is one read. A shard that is compressed, cut off or no tar
    file, and a sample of two images, or without a label where labels were asked for, are an :class:`ImagesError`.
    """

    def __init__(self, shards: Sequence[str | os.PathLike], labels: bool = False, progress: bool = True) -> None:
        self._shards = tuple(map(os.fspath, shards))
        self.where = several(self._shards)
        self._names, places, targets, self.skipped = [], [], [], []
        bar = tqdm(self._shards, desc="indexing", unit="shard", disable=not progress or len(self._shards) < 10)
        for number, shard in enumerate(bar):
            for name, place, label in _samples(shard, labels):
                if place is None:
                    missing = "none of its members is a jpg, jpeg, png or webp"
                    self.skipped.append(Skipped(f"{Path(shard).name}: {name}", missing))
                else:
                    self._names.append(name)
                    places.append((number, *place))
                    targets.append(label)
        self._places = np.array(places, dtype=np.int64).reshape(-1, 3)  # shard, offset and size in bytes
        if labels:
            self.set_labels(targets)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return f"{Path(self._shards[self._places[index, 0]]).name}: {self._names[index]}"

    def place(self, index: int) -> str:
        return f"{self._shards[self._places[index, 0]]}: {self._names[index]}"

    def open(self, index: int) -> io.BytesIO:
        shard, offset, size = self._places[index].tolist()
        with open(self._shards[shard], "rb") as file:  # opened each time: threads and forked processes share nothing
            file.seek(offset)
            return as_file(file.read(size), size)


def _samples(shard: str, labels: bool) -> Iterator[tuple[str, Place | None, int | None]]:
    """Name, place of the image and label of each sample of a shard, in order; no place where there is no image."""
    images: dict[str, tuple[str, Place | None]] = {}
    numbers: dict[str, int] = {}
    for member, place, text in _members(shard, labels):
        folder, _, base = member.rpartition("/")
        stem, _, ending = base.partition(".")
        if not stem or not ending:  # as WebDataset: hidden files and files without an ending belong to no sample
            continue
        key, ending = f"{folder}/{stem}" if folder else stem, ending.lower()
        images.setdefault(key, (key, None))
        if ending in IMAGE_KEYS:
            if images[key][1] is not None:
                raise ImagesError(f"{shard}: sample {key!r} has two images, {images[key][0]} and {member}")
            images[key] = member, place
        elif ending == LABEL_KEY and labels:
            if not (text.isascii() and text.isdigit()):
                raise ImagesError(f"{shard}: {member} must hold the number of a class, it holds {text[:40]!r}")
            numbers[key] = int(text)
    for key, (name, place) in images.items():
        if place is not None and labels and key not in numbers:
            raise ImagesError(f"{shard}: sample {key!r} has no label, that is no member {key}.{LABEL_KEY}")
        yield name, place, numbers.get(key)


def _members(shard: str, labels: bool) -> Iterator[tuple[str, Place, str]]:
    """Name and place of every file in a tar file, and the text of labels."""
    with open(shard, "rb") as file:
        start = file.read(6)
    for magic, packed in _COMPRESSED.items():
        if start.startswith(magic):
            raise ImagesError(f"{shard} is compressed ({packed}): it can only be read from its beginning, not at "
                              "random; unpack it to a plain .tar (images gain nothing from packing)")  # fmt: skip
    try:
        with tarfile.open(shard, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # or a shard of a million images would keep all headers
                if member.issparse() or member.islnk() or member.issym():
                    raise ImagesError(f"{shard}: {member.name} is stored as a link or a sparse file, not as its bytes")
                if member.isfile():
                    is_label = labels and member.name.lower().endswith(f".{LABEL_KEY}")
                    text = tar.extractfile(member).read().decode(errors="replace").strip() if is_label else ""
                    yield member.name, (member.offset_data, member.size), text
            tar.fileobj.seek(tar.offset)
            # tarfile stops without a word at a header that it cannot read.
            if tar.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise ImagesError(f"{shard} is cut off or damaged at byte {tar.offset}: no mark of its end there")
    except tarfile.TarError as error:
        raise ImagesError(f"{shard} is cut off, damaged or no tar file ({error})") from error
