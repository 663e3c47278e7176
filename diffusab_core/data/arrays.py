"""Images in one array, as samplers exchange them: ``.npy``, or ``arr_0`` of an ``.npz`` as ADM's evaluation has it."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffusab_core.data.places import ImagesError, several
from diffusab_core.data.stores import Source
from diffusab_core.data.zips import find_data
from diffusab_core.files import first_line, printable


class Arrays(Source):
    """Rows of uint8 arrays ``(N, H, W, 3)`` or ``(N, H, W, 1)``, file after file; anything else is an ``ImagesError``.

    Of an ``.npz`` the array is ``arr_0``, and labels are ``arr_1`` or ``labels`` ``(N,)``. Nothing is read before it is
    asked for, unless the array is compressed.
    """

    stored = "arrays"

    def __init__(self, files: Sequence[str | os.PathLike], labels: bool = False) -> None:
        self._files = tuple(map(os.fspath, files))
        self.where = printable(several(self._files))
        numbers: list[int] = []
        self._arrays = []
        for file in self._files:
            array = read_array(file, "arr_0")
            if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape:
                found = f"{array.dtype} of shape {array.shape}"
                raise ImagesError(f"{file}: images are uint8 of shape (N, H, W, 3), this is {found}")
            self._arrays.append(array)
            if labels:
                numbers += _read_labels(file, len(array))
        self._ends = np.cumsum([len(array) for array in self._arrays])
        if labels:
            self.set_labels(numbers)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_arrays": None}  # or workers would be sent the images

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._arrays = [read_array(file, "arr_0") for file in self._files]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _find(self, index: int) -> tuple[int, int]:
        file = int(np.searchsorted(self._ends, index, side="right"))
        return file, index - int(self._ends[file - 1] if file else 0)

    def name(self, index: int) -> str:
        file, row = self._find(index)
        return f"row {row}" if len(self._files) == 1 else printable(f"{Path(self._files[file]).name}: row {row}")

    def place(self, index: int) -> str:
        file, row = self._find(index)
        return printable(f"{self._files[file]}: row {row}")

    def open(self, index: int) -> io.BytesIO:
        file, row = self._find(index)
        image = np.ascontiguousarray(self._arrays[file][row])
        height, width, channels = image.shape
        # As the plainest of image files, so that one way leads from all stores to pixels.
        return io.BytesIO(b"P%d %d %d 255\n" % (6 if channels == 3 else 5, width, height) + image.tobytes())


def _read_labels(file: str, count: int) -> list[int]:
    held = list_arrays(file)
    key = next((name for name in ("arr_1", "labels") if name in held), None)
    if key is None:
        raise ImagesError(f"{file} holds no labels, that is no arr_1 or labels")
    labels = read_array(file, key)
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or (labels < 0).any():
        raise ImagesError(f"{file}: {key} is {labels.dtype} of shape {labels.shape}, not the classes of {count} images")
    return labels.tolist()


def list_arrays(file: str | os.PathLike) -> tuple[str, ...]:
    """Names of the arrays in an ``.npz``; none of an ``.npy``."""
    if os.path.splitext(file)[1].lower() != ".npz":
        return ()
    try:
        with zipfile.ZipFile(file) as opened:
            return tuple(name.removesuffix(".npy") for name in opened.namelist())
    except zipfile.BadZipFile as error:
        raise ImagesError(f"{file} is cut off, damaged or no .npz ({error})") from error


def read_array(file: str | os.PathLike, key: str | None = None) -> np.ndarray:
    """An ``.npy``, or the array ``key`` of an ``.npz``; mapped and not read, unless it is compressed.

    Pickled objects, which can run any code, are refused, as is what cannot be read: an ``ImagesError``.
    """
    try:
        if os.path.splitext(file)[1].lower() != ".npz":
            return np.load(file, mmap_mode="r", allow_pickle=False)
        if key not in (held := list_arrays(file)):
            raise ImagesError(f"{file} holds no {key}; it holds {', '.join(held) or 'nothing'}")
        mapped = _map_member(file, f"{key}.npy")
        if mapped is not None:
            return mapped
        with np.load(file, allow_pickle=False) as opened:
            return opened[key]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, ImagesError):
            raise
        raise ImagesError(f"{file} is cut off, damaged or no array ({first_line(error)})") from error


def _map_member(file: str | os.PathLike, member: str) -> np.ndarray | None:
    """An array that lies uncompressed in an ``.npz``, mapped; ``None`` where it is compressed."""
    with zipfile.ZipFile(file) as opened:
        if (info := opened.getinfo(member)).compress_type != zipfile.ZIP_STORED:
            return None
        with opened.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
            if dtype.hasobject:
                raise ValueError("it holds pickled objects, which can run any code when opened")
            offset = stream.tell()
    with open(file, "rb") as raw:
        offset += find_data(raw, info.header_offset)
    return np.memmap(file, dtype, "r", offset, shape, "F" if fortran else "C")
