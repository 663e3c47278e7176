r"""Tables of images: Hugging Face ``datasets`` from saved folders, Arrow and Parquet files, and the hub."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from diffusab_core.data.stored import Check, Crop, StoredImages, UnusableImage, as_file, number_names, several

if TYPE_CHECKING:
    import datasets

_LABEL_NAMES = ("label", "labels", "class", "cls", "target")


class ArrowImages(StoredImages):
    r"""The images of a Hugging Face ``datasets.Dataset``, usually a table that is mapped into memory.

    Args:
        rows: The table; :func:`load_table` opens one.
        resolution: As in :class:`~diffusab_core.data.stored.StoredImages`, and so are ``crop``, ``seed`` and
            ``labels``.
        image_column: Where the images are. When left out, the only column of type ``Image`` or, if there is none, of
            encoded bytes.
        label_column: Where the labels are. When left out, the only ``ClassLabel`` or, if there is none, the only whole
            number called ``label``, ``labels``, ``class``, ``cls`` or ``target``.
        check: ``"header"`` reads every row once, for the size; ``"decode"`` decodes every one, ``"none"`` none.
        progress: Show a progress bar while checking more than 200 images.
        where: What to call the table in messages.

    Raises:
        ValueError: A column cannot be found, and the message lists those that are there; a label is missing; nothing
            usable remains.
        UnusableImage: From an item that cannot be decoded; names the row.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        resolution: int,
        crop: Crop = "center",
        seed: int = 0,
        labels: bool = False,
        image_column: str | None = None,
        label_column: str | None = None,
        check: Check = "header",
        progress: bool = True,
        where: str = "the table",
    ) -> None:
        super().__init__(where, resolution, crop, seed, labels)
        column = _find(rows, where, "image", image_column, [_is_image, _is_encoded])
        self._table = rows.select_columns([column]).with_format("arrow")
        self._rows = np.arange(len(rows))
        if labels:
            column = _find(rows, where, "label", label_column, [_is_class, _is_number])
            self.targets, self.classes = _labels(rows, column, where)
        self._check(check, progress)

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, index: int) -> str:
        """Number of the row, from 0."""
        return f"row {self._rows[index]}"

    def _open(self, index: int) -> io.BytesIO | str:
        value = self._table[int(self._rows[index])].column(0)[0].as_py()
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if data is not None:
            return as_file(data, len(data))
        if path is None:
            raise UnusableImage("the row has no image")
        if not os.path.isfile(path):
            raise UnusableImage(f"the row holds no image but the name of a file that is not there, {path}")
        return path

    def _restrict(self, kept: Sequence[int]) -> None:
        self._rows = self._rows[list(kept)]


def _is_image(name: str, feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def _is_encoded(name: str, feature: Any) -> bool:
    """Bytes of a file, on their own or with its name, as Parquet and Arrow files of other origin have them."""
    return "binary" in getattr(feature, "dtype", "") or (isinstance(feature, dict) and "bytes" in feature)


def _is_class(name: str, feature: Any) -> bool:
    return type(feature).__name__ == "ClassLabel"


def _is_number(name: str, feature: Any) -> bool:
    return name in _LABEL_NAMES and _is_integer(name, feature)


def _is_integer(name: str, feature: Any) -> bool:
    return "int" in getattr(feature, "dtype", "") or _is_class(name, feature)


def _find(rows: datasets.Dataset, where: str, what: str, named: str | None, tests: Sequence[Any]) -> str:
    """The column that was named, or the only one that passes the first test which any column passes."""
    there = rows.features
    listed = ", ".join(f"{name} ({_type_name(feature)})" for name, feature in there.items())
    if named is not None:
        if named not in there:
            raise ValueError(f"{where} has no column {named!r}; it has {listed}")
        if not any(test(named, there[named]) for test in (*tests, *([_is_integer] if what == "label" else []))):
            raise ValueError(f"column {named!r} of {where} holds no {what}s; its columns are {listed}")
        return named
    for test in tests:
        found = [name for name, feature in there.items() if test(name, feature)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{where} has {len(found)} columns of {what}s, choose one with {what}_column: {listed}")
    raise ValueError(f"no column of {where} is known to hold {what}s, name one with {what}_column: {listed}")


def _type_name(feature: Any) -> str:
    name = type(feature).__name__
    return {"Value": getattr(feature, "dtype", name), "dict": "struct"}.get(name, name)


def _labels(rows: datasets.Dataset, column: str, where: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    numbers = rows.select_columns([column]).with_format("arrow")[:].column(0).to_pylist()
    wrong = next((i for i, n in enumerate(numbers) if n is None or n < 0), None)
    if wrong is not None:
        raise ValueError(f"{where}: row {wrong} has no label, its {column!r} is {numbers[wrong]}")
    names = getattr(rows.features[column], "names", None)
    return tuple(numbers), tuple(names) if names else number_names(numbers, where)


def load_table(
    kind: str, where: str | Sequence[str], split: str | None = None, subset: str | None = None, progress: bool = True
) -> datasets.Dataset:
    """Open a table with Hugging Face ``datasets``, mapped into memory and not read.

    Arrow files and saved folders are used where they lie. Parquet cannot be mapped: the library converts it once into
    its cache (``HF_DATASETS_CACHE``), which takes the space a second time. The hub is downloaded into the same cache.

    Args:
        kind: ``"saved"`` (a folder of ``save_to_disk``), ``"arrow"``, ``"parquet"`` or ``"hub"``.
        where: The folder, the files or the name on the hub.
        split: Which split, where there are several; ``train`` when left out.
        subset: Which configuration of a dataset on the hub.
        progress: Whether the library may show its progress bars.

    Raises:
        ValueError: The library cannot open it; its own words are in the message.
    """
    import datasets  # a second, so only when wanted

    if kind == "arrow":
        parts = [_map_arrow(file) for file in where]
        _refuse_different({file: part.features for file, part in zip(where, parts, strict=True)})
        return datasets.concatenate_datasets(parts)
    if kind == "parquet":
        _refuse_different({file: _parquet_columns(file) for file in where})
    try:
        with _bars(progress):
            if kind == "parquet":
                return datasets.Dataset.from_parquet(list(where))
            if kind == "hub":
                return datasets.load_dataset(where, name=subset, split=split or "train")
            found = datasets.load_from_disk(where)
    except Exception as error:  # anything from OSError to the hub's own kinds
        said = _one_line(error)
        if kind == "hub":
            raise ValueError(
                f"there is no file or folder {where}, so it was taken for the name of a dataset on the Hugging Face "
                f"hub, split {split or 'train'}, and datasets could not load that ({said})"
            ) from error
        raise ValueError(
            f"{several(where if isinstance(where, list) else [str(where)])} cannot be read ({said})"
        ) from error
    if isinstance(found, datasets.Dataset):
        if split is not None:
            raise ValueError(f"{where} has no splits, but {split!r} was asked for")
        return found
    split = split or (next(iter(found)) if len(found) == 1 else "train")
    if split not in found:
        raise ValueError(f"{where} has no split {split!r}; it has {', '.join(found)}")
    return found[split]


def _map_arrow(file: str) -> datasets.Dataset:
    import datasets

    with open(file, "rb") as opened:
        if opened.read(6) == b"ARROW1":
            raise ValueError(
                f"{file} has Arrow's file layout (Feather), which datasets does not map into memory; save it as "
                "Parquet or with save_to_disk"
            )
    try:
        return datasets.Dataset.from_file(file)
    except Exception as error:
        raise ValueError(f"{file} is cut off, damaged or no Arrow stream ({_one_line(error)})") from error


def _parquet_columns(file: str) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        schema = pa.parquet.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} is cut off, damaged or no Parquet file ({_one_line(error)})") from error
    return {name: schema.field(name).type for name in schema.names}


def _refuse_different(columns: dict[str, dict[str, Any]]) -> None:
    """The library would fill up what is missing in one of the files."""
    (first, expected), *others = columns.items()
    for file, found in others:
        if found != expected:
            raise ValueError(
                f"{first} and {file} cannot be opened together, their columns differ: {', '.join(expected)} and "
                f"{', '.join(found)}, of types {', '.join(map(str, expected.values()))} and "
                f"{', '.join(map(str, found.values()))}"
            )


@contextmanager
def _bars(progress: bool) -> Iterator[None]:
    import datasets

    before = datasets.utils.are_progress_bars_disabled()
    if not progress or not sys.stderr.isatty():
        datasets.utils.disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            datasets.utils.enable_progress_bars()


def _one_line(error: Exception) -> str:
    said = f"{type(error).__name__}: {error}"
    if error.__cause__ is not None and str(error.__cause__) not in said:  # "An error occurred while generating ..."
        said += f" {type(error.__cause__).__name__}: {error.__cause__}"
    return " ".join(said.split())
