r"""WebDataset tar shards, and one way to open images of any kind.

:class:`TarImages` reads tar files in place, at random. :func:`open_images` chooses by what a place is between them,
folders (:mod:`diffusab_core.data.folders`), tables (:mod:`diffusab_core.data.tables`) and the images that need no
files. All
that are stored are :class:`~diffusab_core.data.stored.StoredImages`: one image through any of them is one tensor.
"""

from __future__ import annotations

import glob
import io
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset
from tqdm import tqdm

from diffusab_core.data.folders import ImageFolder
from diffusab_core.data.leaves import Leaves
from diffusab_core.data.photos import Photos
from diffusab_core.data.stored import Check, Crop, Skipped, StoredImages, as_file, number_names, several
from diffusab_core.data.tables import ArrowImages, load_table

# ---------------------------------------------------------------------------------------------------------------------
# WebDataset: tar files

IMAGE_KEYS = ("jpg", "jpeg", "png", "webp")
LABEL_KEY = "cls"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class TarImages(StoredImages):
    r"""Images in WebDataset tar files, in the order of the files, nothing unpacked.

    Members whose names agree up to the first dot, ``000017.jpg`` and ``000017.cls``, are one sample: an image under
    ``jpg``, ``jpeg``, ``png`` or ``webp`` and, for labels, a whole number as text under ``cls``. Other members are
    passed over. Places of all members are noted once, by reading the headers; afterwards an item is one read.

    Args:
        shards: A tar file or several.
        resolution: As in :class:`~diffusab_core.data.stored.StoredImages`, and so are ``crop``, ``seed`` and
            ``labels``.
        check: ``"header"`` reads every member once, for its size; ``"decode"`` decodes every one, ``"none"`` none.
            What a check finds is listed in ``skipped``; what it cannot find is an error when its turn comes.
        progress: Show progress bars while looking through many shards or images.

    Raises:
        FileNotFoundError: A shard is missing.
        ValueError: A shard is compressed, cut off or no tar file; a sample has two images, or no label where labels
            were asked for; nothing usable remains.
        UnusableImage: From an item that cannot be decoded; names shard and member.
    """

    def __init__(
        self,
        shards: str | os.PathLike | Sequence[str | os.PathLike],
        resolution: int,
        crop: Crop = "center",
        seed: int = 0,
        labels: bool = False,
        check: Check = "header",
        progress: bool = True,
    ) -> None:
        self._shards = tuple(map(str, _as_list(shards)))
        super().__init__(several(self._shards), resolution, crop, seed, labels)
        names, places, targets, skipped = [], [], [], []
        bar = tqdm(self._shards, desc="indexing", unit="shard", disable=not progress or len(self._shards) < 10)
        for number, shard in enumerate(bar):
            for name, image, label in _samples(shard, labels):
                if image is None:
                    skipped.append(
                        Skipped(f"{Path(shard).name}: {name}", "none of its members is a jpg, jpeg, png or webp")
                    )
                    continue
                names.append(name)
                places.append((number, *image))
                if labels:
                    targets.append(label)
        self._names = names
        self._places = np.array(places, dtype=np.int64).reshape(-1, 3)  # shard, offset and size in bytes
        self.skipped = tuple(skipped)
        if labels:
            self.targets, self.classes = tuple(targets), number_names(targets, self.where)
        self._check(check, progress)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """File name of the shard and name of the member."""
        return f"{Path(self._shards[self._places[index, 0]]).name}: {self._names[index]}"

    def _place(self, index: int) -> str:
        return f"{self._shards[self._places[index, 0]]}: {self._names[index]}"

    def _open(self, index: int) -> io.BytesIO:
        shard, offset, size = self._places[index].tolist()
        with open(self._shards[shard], "rb") as file:  # opened each time: threads and forked processes share nothing
            file.seek(offset)
            data = file.read(size)
        return as_file(data, size)

    def _restrict(self, kept: Sequence[int]) -> None:
        self._names, self._places = [self._names[i] for i in kept], self._places[list(kept)]


Place = tuple[int, int]  # offset and size in bytes


def _samples(shard: str, labels: bool) -> Iterator[tuple[str, Place | None, int | None]]:
    """Name, place of the image and label of each sample of a shard, in order; no place where there is no image."""
    images: dict[str, tuple[str, Place] | None] = {}
    numbers: dict[str, int] = {}
    for member, place, text in _members(shard, labels):
        folder, _, base = member.rpartition("/")
        stem, _, ending = base.partition(".")
        if not stem or not ending:  # as WebDataset: hidden files and files without an ending belong to no sample
            continue
        key, ending = f"{folder}/{stem}" if folder else stem, ending.lower()
        images.setdefault(key, None)
        if ending in IMAGE_KEYS:
            if images[key] is not None:
                raise ValueError(f"{shard}: sample {key!r} has two images, {images[key][0]} and {member}")
            images[key] = (member, place)
        elif ending == LABEL_KEY and labels:
            if not (text.isascii() and text.isdigit()):
                raise ValueError(f"{shard}: {member} must hold the number of a class, it holds {text[:40]!r}")
            numbers[key] = int(text)
    for key, image in images.items():
        if image is None:
            yield key, None, None
        elif labels and key not in numbers:
            raise ValueError(f"{shard}: sample {key!r} has no label, that is no member {key}.{LABEL_KEY}")
        else:
            yield image[0], image[1], numbers.get(key)


def _members(shard: str, labels: bool) -> Iterator[tuple[str, Place, str]]:
    """Name and place of every file in a tar file, and the text of labels."""
    with open(shard, "rb") as file:
        start = file.read(6)
    packed = next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)
    if packed:
        raise ValueError(
            f"{shard} is compressed ({packed}): it can only be read from its beginning, not at random; unpack it to a "
            "plain .tar (images gain nothing from a second compression)"
        )
    try:
        with tarfile.open(shard, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # or a shard of a million images would keep all headers
                if member.issparse() or member.islnk() or member.issym():
                    raise ValueError(f"{shard}: {member.name} is stored as a link or a sparse file, not as its bytes")
                if member.isfile():
                    is_label = labels and member.name.lower().endswith(f".{LABEL_KEY}")
                    text = tar.extractfile(member).read().decode(errors="replace").strip() if is_label else ""
                    yield member.name, (member.offset_data, member.size), text
            tar.fileobj.seek(tar.offset)
            # tarfile stops without a word at a header that it cannot read.
            if tar.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise ValueError(f"{shard} is cut off or damaged at byte {tar.offset}: no mark of its end there")
    except tarfile.TarError as error:
        raise ValueError(f"{shard} is cut off, damaged or no tar file ({error})") from error


# ---------------------------------------------------------------------------------------------------------------------
# Any of them

Where = str | os.PathLike | Sequence[str | os.PathLike]
WORDS = ("photos", "leaves")
UNDERSTOOD = (
    "photos, leaves, a folder of images, a folder of save_to_disk, files *.tar, *.arrow or *.parquet (one, a list, or "
    "a pattern such as train-{0000..0009}.tar or 'train-*.tar'), or owner/name of a dataset on the Hugging Face hub"
)
_OPTIONS = {
    "photos": {"split", "length"},
    "leaves": {"length"},
    "folder": {"check"},
    "tar": {"check"},
    "arrow": {"check", "image_column", "label_column"},
    "parquet": {"check", "image_column", "label_column"},
    "saved": {"check", "image_column", "label_column", "split"},
    "hub": {"check", "image_column", "label_column", "split", "subset"},
}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def open_images(
    where: Where,
    resolution: int,
    crop: Crop = "center",
    seed: int = 0,
    labels: bool = False,
    *,
    check: Check | None = None,
    split: str | None = None,
    subset: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    length: int | None = None,
    progress: bool = True,
) -> Dataset:
    """Images of any kind, chosen by what ``where`` is.

    - ``"photos"`` and ``"leaves"``: :class:`~diffusab_core.data.Photos` and :class:`~diffusab_core.data.leaves.Leaves`;
    - a folder: :class:`~diffusab_core.data.folders.ImageFolder`;
    - files ``*.tar``: :class:`TarImages`;
    - files ``*.arrow`` or ``*.parquet``, or a folder of ``save_to_disk``:
      :class:`~diffusab_core.data.tables.ArrowImages`;
    - ``owner/name``, where there is no such path: the same, of a dataset on the Hugging Face hub.

    Files may be given as one, as a list, or as patterns with braces (``train-{0000..0009}.tar``) or wildcards. The two
    words are words even where a folder has that name: ``./photos`` is the folder.

    Args:
        where: See above; a ``Path`` is never a word or a name on the hub.
        resolution: Side of the square images in pixels.
        crop: ``"center"`` or ``"random"``, see :class:`~diffusab_core.data.stored.StoredImages`. Of no concern to
            ``photos``, which are random crops always, and to ``leaves``.
        seed: Seed of random crops, and of ``photos`` and ``leaves`` altogether.
        labels: Whether an item is ``(image, class number)`` or only the image.
        check: How much is looked at beforehand: ``"decode"`` (the default of folders), ``"header"`` (of all others) or
            ``"none"``.
        split: Of ``photos``, of a folder of ``save_to_disk`` or of a dataset on the hub; ``train`` when left out.
        subset: Configuration of a dataset on the hub.
        image_column: Column of a table; see :class:`~diffusab_core.data.tables.ArrowImages`.
        label_column: Likewise.
        length: How many ``photos`` or ``leaves``.
        progress: Show progress bars.

    Raises:
        FileNotFoundError: There is nothing of that name, or a file of several is missing.
        ValueError: It is of no kind that is understood, an option does not belong to the kind, or the dataset's own
            class refuses it.
    """
    kind, found = kind_of(where)
    options: dict[str, Any] = {
        "check": check, "split": split, "subset": subset,
        "image_column": image_column, "label_column": label_column, "length": length,
    }  # fmt: skip
    options = {name: value for name, value in options.items() if value is not None}
    wrong = sorted(set(options) - _OPTIONS[kind])
    if wrong:
        fitting = ", ".join(sorted(_OPTIONS[kind]))
        raise ValueError(f"{wrong[0]} is no option for {where} (opened as {kind}); it takes {fitting}")
    if kind == "photos":
        if labels:
            raise ValueError("the photographs have no labels; take leaves, or labels=False")
        return Photos(resolution, seed=seed, **options)
    if kind == "leaves":
        return Leaves(resolution, seed, labels=labels, **options)
    shared = {"resolution": resolution, "crop": crop, "seed": seed, "labels": labels, "progress": progress}
    if kind == "folder":
        return ImageFolder(found, **shared, **options)
    if kind == "tar":
        return TarImages(found, **shared, **options)
    place = {name: options.pop(name, None) for name in ("split", "subset")}
    rows = load_table(kind, found, **place, progress=progress)
    return ArrowImages(rows, **shared, **options, where=several(found) if isinstance(found, list) else found)


def kind_of(where: Where) -> tuple[str, Any]:
    """What :func:`open_images` would open: the kind, and the folder, name or list of files.

    Raises:
        FileNotFoundError: There is nothing of that name, or a file of several is missing.
        ValueError: It is of no kind that is understood.
    """
    if isinstance(where, str) and where in WORDS:
        return where, where
    one = isinstance(where, (str, os.PathLike))
    if one and os.path.isdir(where):
        return _kind_of_folder(Path(where))
    given = [os.fspath(place) for place in ([where] if one else where)]
    if not given:
        raise ValueError("an empty list names no images")
    looks_like_hub = isinstance(where, str) and _HUB_NAME.fullmatch(where) and _ending(where) is None
    if looks_like_hub and not os.path.exists(where):
        return "hub", where
    files = [file for place in given for file in expand(place)]
    missing = [file for file in files if not os.path.exists(file)]
    if missing:
        if len(files) > 1:
            raise FileNotFoundError(f"{len(missing)} of {len(files)} files are missing, the first is {missing[0]}")
        raise FileNotFoundError(f"there is no folder {missing[0]} and no such file; understood are {UNDERSTOOD}")
    kinds = {_ending(file) for file in files}
    if len(kinds) > 1:
        raise ValueError(f"files of one kind are opened together, not {several(files)} of different kinds")
    kind = kinds.pop()
    if kind is None:
        what = "a folder among files" if os.path.isdir(files[0]) else "a file of no kind that is understood"
        raise ValueError(f"{files[0]} is {what}; understood are {UNDERSTOOD}")
    return kind, files


def _kind_of_folder(folder: Path) -> tuple[str, str]:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return "saved", str(folder)
    entries = list(os.scandir(folder))
    shards = sorted(entry.name for entry in entries if _ending(entry.name) is not None)
    pictures = Image.registered_extensions() if shards else {}
    if shards and not any(entry.is_dir() or Path(entry.name).suffix.lower() in pictures for entry in entries):
        fitting = folder / f"*{Path(shards[0]).suffix}"
        raise ValueError(f"the folder {folder} holds shards such as {shards[0]} and no images: give '{fitting}'")
    return "folder", str(folder)


def _ending(file: str) -> str | None:
    """The kind of a shard by its ending; compressed tar files are tar files here, and are refused when opened."""
    found = re.search(r"\.(?:(tar)(?:\.\w+)?|(t[gbx]z)|(arrow)|(parquet))$", file, re.IGNORECASE)
    return found and ("tar" if found[1] or found[2] else "arrow" if found[3] else "parquet")


def expand(pattern: str) -> list[str]:
    """The files that a pattern stands for: ``{0000..0009}`` and ``{a,b}`` as in a shell, then wildcards.

    Raises:
        FileNotFoundError: No file fits the wildcards.
        ValueError: A range counts down.
    """
    braces = None if os.path.exists(pattern) else re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if braces:
        first, last, words = braces.groups()
        if words is None:
            if int(first) > int(last):
                raise ValueError(f"{pattern}: {braces[0]} counts down")
            numbers = range(int(first), int(last) + 1)
            padded = any(len(end) > 1 and end[0] == "0" for end in (first, last))
            middle = [str(n).zfill(max(len(first), len(last)) if padded else 0) for n in numbers]
        else:
            middle = words.split(",")
        return [file for m in middle for file in expand(pattern[: braces.start()] + m + pattern[braces.end() :])]
    if os.path.exists(pattern) or not glob.has_magic(pattern):
        return [pattern]
    files = sorted(glob.glob(pattern))
    if not files:
        raise FileNotFoundError(f"no file fits {pattern}")
    return files


def _as_list(where: Where) -> list[str]:
    return [os.fspath(where)] if isinstance(where, (str, os.PathLike)) else [os.fspath(place) for place in where]
