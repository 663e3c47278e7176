"""Zip archives of images, as EDM and StyleGAN make them, read in place and at random, nothing unpacked."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from diffusab_core.data.pixels import UnusableImage
from diffusab_core.data.places import ImagesError, several
from diffusab_core.data.stores import LABELS_FILE, Skipped, Source, as_file, is_hidden, read_labels
from diffusab_core.files import printable

_KEPT = ("header_offset", "compress_size", "file_size", "compress_type", "flag_bits", "CRC")  # of each member
_HEADER = struct.Struct("<4s22xHH")  # of a member: its mark, and the lengths of its name and of what else follows


class Zips(Source):
    r"""Images in zip archives, in sorted order; hidden members, and those of a system, are left out.

    The labels are those of ``dataset.json`` in the archive, as EDM and StyleGAN write it, or else the first folders, in
    sorted order. The list of members is read once; afterwards an item is one read. An archive that is damaged, and
    labels that are asked for and missing, are an :class:`ImagesError`.
    """

    unit = "files"

    def __init__(self, archives: Sequence[str | os.PathLike], labels: bool = False) -> None:
        self._archives = tuple(map(os.fspath, archives))
        self.where, self.skipped = printable(several(self._archives)), []
        self._names: list[str] = []
        places, told = [], {}
        for number, archive in enumerate(self._archives):
            members, told[number] = _list_members(archive)
            for member in members:
                if any(map(is_hidden, member.filename.split("/"))):
                    self.skipped.append(Skipped(printable(member.filename), "hidden, or of the system"))
                else:
                    self._names.append(member.filename)
                    places.append((number, *(getattr(member, name) for name in _KEPT)))
        self._places = np.array(places, dtype=np.int64).reshape(-1, 1 + len(_KEPT))
        if labels:
            self._label(told)

    def _label(self, told: dict[int, bytes | None]) -> None:
        if any(told.values()):
            numbers: list[int] = []
            for archive in range(len(self._archives)):
                names = [self._names[i] for i in np.flatnonzero(self._places[:, 0] == archive)]
                where = f"{self._archives[archive]}: {LABELS_FILE}"
                if told[archive] is None:
                    raise ImagesError(f"there is no {where}, as in another of these archives")
                numbers += read_labels(told[archive], names, where)[0]
            self.set_labels(numbers)
            return
        folders = [name.partition("/") for name in self._names]
        names = sorted({folder for folder, slash, _ in folders if slash})
        if not names:
            raise ImagesError(f"{self.where} has neither {LABELS_FILE} nor folders of classes, so there are no labels")
        order = {name: i for i, name in enumerate(names)}
        self.set_labels([order[f] if slash else -1 for f, slash, _ in folders], list(map(printable, names)))

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        archive = f"{Path(self._archives[self._places[index, 0]]).name}: " if len(self._archives) > 1 else ""
        return printable(archive + self._names[index])

    def place(self, index: int) -> str:
        return printable(f"{self._archives[self._places[index, 0]]}: {self._names[index]}")

    def open(self, index: int) -> io.BytesIO:
        number, offset, packed, size, how, flags, crc = self._places[index].tolist()
        if flags & 1:
            raise UnusableImage("it is encrypted")
        if how not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnusableImage(f"it is compressed by method {how}; stored and deflated ones are read")
        with open(self._archives[number], "rb") as file:  # opened each time: threads and processes share nothing
            file.seek(find_data(file, offset))
            data = file.read(packed)
        if len(data) == packed and how == zipfile.ZIP_DEFLATED:
            data = zlib.decompress(data, -zlib.MAX_WBITS)
        opened = as_file(data, size)
        if zlib.crc32(data) != crc:
            raise UnusableImage("it is damaged: its checksum is not the archive's")
        return opened

    def trace(self, index: int) -> bytes:
        _, _, _, size, _, _, crc = self._places[index].tolist()
        return f"{size} {crc}".encode()


def _list_members(archive: str) -> tuple[list[zipfile.ZipInfo], bytes | None]:
    """The files in an archive, in sorted order, and what it says of labels."""
    try:
        with zipfile.ZipFile(archive) as opened:
            told = opened.read(LABELS_FILE) if LABELS_FILE in opened.NameToInfo else None
            found = sorted(opened.infolist(), key=lambda member: member.filename.split("/"))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ImagesError(f"{archive} is cut off, damaged or no zip archive ({error})") from error
    return [member for member in found if not member.is_dir() and member.filename != LABELS_FILE], told


def find_data(file: BinaryIO, offset: int) -> int:
    """Where the bytes of a member begin whose header is at ``offset``; an :class:`UnusableImage` if there is none."""
    file.seek(offset)
    header = file.read(_HEADER.size)
    if header[:4] != b"PK\3\4" or len(header) < _HEADER.size:
        raise UnusableImage("the archive is damaged: it is not where the list of members has it")
    _, name, extra = _HEADER.unpack(header)
    return offset + _HEADER.size + name + extra
