"""WebDataset tar shards, read in place and at random, nothing unpacked."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from diffusab_core.data.places import ImagesError, several
from diffusab_core.data.stores import Skipped, Source, as_file, is_hidden, trace_of
from diffusab_core.files import printable

IMAGE_KEYS = ("jpg", "jpeg", "png", "webp", "bmp", "ppm", "avif")
LABEL_KEY = "cls"
Place = tuple[int, int]  # offset and size in bytes
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Tars(Source):
    r"""Images in WebDataset tar files, in the order of the files.

    Members whose names agree up to the first dot, ``000017.jpg`` and ``000017.cls``, are one sample: an image under
    one of :data:`IMAGE_KEYS` and, for labels, a whole number as text under ``cls``. Other members are passed over.
    Headers are read once; afterwards an item is one read. A shard that is compressed, cut off or no tar file, and a
    sample of two images, or without a label where labels were asked for, are an :class:`ImagesError`.

    Args:
        image_key: What is the image instead, one or several such as ``"jpg"``, ``"seg.png"`` or ``"jpg;png"``. As
            ``"*.jpg"`` names are taken up to their last dot: ``img_1.5.jpg`` with ``img_1.5.cls``.
    """

    def __init__(
        self,
        shards: Sequence[str | os.PathLike],
        labels: bool = False,
        progress: bool = True,
        image_key: str | None = None,
    ) -> None:
        self._shards = tuple(map(os.fspath, shards))
        self.where = printable(several(self._shards))
        keys, last_dot = _parse_keys(image_key)
        self._names, places, targets, self.skipped = [], [], [], []
        bar = tqdm(self._shards, desc="indexing", unit="shard", disable=not progress or len(self._shards) < 10)
        for number, shard in enumerate(bar):
            for name, place, label in _samples(shard, labels, keys, last_dot):
                if isinstance(place, str):
                    self.skipped.append(Skipped(printable(f"{Path(shard).name}: {name}"), printable(place)))
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
        return printable(f"{Path(self._shards[self._places[index, 0]]).name}: {self._names[index]}")

    def place(self, index: int) -> str:
        return printable(f"{self._shards[self._places[index, 0]]}: {self._names[index]}")

    def open(self, index: int) -> io.BytesIO:
        shard, offset, size = self._places[index].tolist()
        with open(self._shards[shard], "rb") as file:  # opened each time: threads and forked processes share nothing
            file.seek(offset)
            return as_file(file.read(size), size)

    def trace(self, index: int) -> bytes:
        shard, offset, size = self._places[index].tolist()
        with open(self._shards[shard], "rb") as file:
            return trace_of(file, offset, size)


def _parse_keys(image_key: str | None) -> tuple[tuple[str, ...], bool]:
    """Endings of images, in lower case, and whether names are taken up to their last dot."""
    if image_key is None:
        return IMAGE_KEYS, False
    given = [key.lower() for key in re.split(r"[;,\s]+", image_key) if key]
    keys = tuple(key.removeprefix("*").removeprefix(".") for key in given)
    last = {key.startswith("*") for key in given}
    if not all(keys) or len(last) != 1 or (last == {True} and any("." in key for key in keys)):
        raise ImagesError(f"image_key must be endings such as jpg, 'jpg;png' or '*.jpg', got {image_key!r}")
    return keys, last.pop()


def _samples(
    shard: str, labels: bool, keys: tuple[str, ...], last_dot: bool
) -> Iterator[tuple[str, Place | str, int | None]]:
    """Name, place of the image and label of each sample of a shard, in order; where there is no image, why."""
    images: dict[str, tuple[str, Place | None]] = {}
    numbers: dict[str, int] = {}
    other: dict[str, str] = {}  # the first member of a sample that is no image
    for member, place, text in _members(shard, labels):
        folder, _, base = member.rpartition("/")
        stem, _, ending = base.rpartition(".") if last_dot else base.partition(".")
        if not stem or not ending or any(map(is_hidden, member.split("/"))):
            continue  # as WebDataset: hidden files and files without an ending belong to no sample
        key, ending = f"{folder}/{stem}" if folder else stem, ending.lower()
        images.setdefault(key, (key, None))
        if ending in keys:
            if images[key][1] is not None:
                choose = f"choose one with image_key (--image-key {ending})"
                raise ImagesError(f"{shard}: sample {key!r} has two images, {images[key][0]} and {member}; {choose}")
            images[key] = member, place
        elif ending == LABEL_KEY and labels:
            if not (text.isascii() and text.isdigit()):
                raise ImagesError(f"{shard}: {member} must hold the number of a class, it holds {text[:40]!r}")
            numbers[key] = int(text)
        else:
            other.setdefault(key, base)
    for key, (name, place) in images.items():
        if place is not None and labels and key not in numbers:
            raise ImagesError(f"{shard}: sample {key!r} has no label, that is no member {key}.{LABEL_KEY}")
        yield name, place or _say_imageless(other.get(key, ""), keys, last_dot), numbers.get(key)


def _say_imageless(base: str, keys: tuple[str, ...], last_dot: bool) -> str:
    """Why a sample has no image; a dot inside a name is the usual reason, and hard to see."""
    said = f"none of its members is a {' or '.join(filter(None, (', '.join(keys[:-1]), keys[-1])))}"
    _, _, last = base.lower().rpartition(".")
    if last_dot or last not in keys or base.count(".") < 2:
        return said
    return (f"{said}: WebDataset takes a name up to its first dot, so {base} is a {base.partition('.')[2]!r} of the "
            f"sample {base.partition('.')[0]!r}; for the last dot give image_key (--image-key '*.{last}')")  # fmt: skip


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
