"""Tables of images: Hugging Face ``datasets`` from saved folders, Arrow and Parquet files, and the hub.

``datasets`` takes a second to import, so everything here imports it only when a table is opened.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

from diffusab_core.data.pixels import UnusableImage
from diffusab_core.data.places import ImagesError, several
from diffusab_core.data.stores import Source, as_file, trace_of
from diffusab_core.files import guess_place

if TYPE_CHECKING:
    import datasets


class Table(Source):
    """The images of a Hugging Face ``datasets.Dataset``, usually mapped into memory and read row by row.

    A column that cannot be found, and a row without a label, are an :class:`ImagesError`.

    Args:
        rows: The table; :func:`load_table` opens one.
        image_column: By default the only column of type ``Image`` or, if there is none, of encoded bytes.
        label_column: By default the only ``ClassLabel`` or, if there is none, the only whole number called ``label``,
            ``labels``, ``class``, ``cls`` or ``target``.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        labels: bool = False,
        image_column: str | None = None,
        label_column: str | None = None,
        where: str = "the table",
    ) -> None:
        self.where = where
        column = _find_column(rows, where, "image", image_column)
        self._table = rows.select_columns([column]).with_format("arrow")
        if labels:
            column = _find_column(rows, where, "label", label_column)
            numbers = rows.select_columns([column]).with_format("arrow")[:].column(0).to_pylist()
            wrong = next((i for i, n in enumerate(numbers) if n is None or n < 0), None)
            if wrong is not None:
                raise ImagesError(f"{where}: row {wrong} has no label, its {column!r} is {numbers[wrong]}")
            self.set_labels(numbers, getattr(rows.features[column], "names", None))

    def __len__(self) -> int:
        return len(self._table)

    def name(self, index: int) -> str:
        return f"row {index}"

    def open(self, index: int) -> BinaryIO | str:
        value = self._table[index].column(0)[0].as_py()
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if data is not None:
            return as_file(data, len(data))
        if path is None:
            raise UnusableImage("the row has no image")
        if not os.path.isfile(path):
            raise UnusableImage(f"the row holds no image but the name of a file that is not there, {path}")
        return path

    def trace(self, index: int) -> bytes:
        import pyarrow

        value = self._table[index].column(0)[0]
        data = value["bytes"] if isinstance(value, pyarrow.StructScalar) and value.is_valid else value
        if not data.is_valid:
            return super().trace(index)
        buffer = data.as_buffer()  # mapped: only what is looked at is read
        return trace_of(pyarrow.BufferReader(buffer), 0, buffer.size)


def _find_column(rows: datasets.Dataset, where: str, what: str, named: str | None) -> str:
    """The column that was named, or the only one whose type, else its values or name, says what it holds."""
    kinds = {name: type(feature).__name__ for name, feature in rows.features.items()}
    kinds |= {name: rows.features[name].dtype for name, kind in kinds.items() if kind == "Value"}
    listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    sure = [name for name, kind in kinds.items() if kind == {"image": "Image", "label": "ClassLabel"}[what]]
    if what == "image":  # bytes of a file, alone or with its name, as Parquet and Arrow files of other origin have them
        structs = [name for name, kind in kinds.items() if kind == "dict" and "bytes" in rows.features[name]]
        possible = likely = [name for name, kind in kinds.items() if "binary" in kind or name in structs]
    else:
        possible = [name for name, kind in kinds.items() if "int" in kind]
        likely = [name for name in possible if name in ("label", "labels", "class", "cls", "target")]
    if named is not None:
        if named not in sure + possible:
            raise ImagesError(f"{where} has no column {named!r} of {what}s; it has {listed}")
        return named
    found, option = sure or likely, f"{what}_column (--{what}-column)"
    if not found:
        raise ImagesError(f"no column of {where} is known to hold {what}s, name one with {option}: {listed}")
    if len(found) > 1:
        raise ImagesError(f"{where} has {len(found)} columns of {what}s, choose one with {option}: {listed}")
    return found[0]


def load_table(
    kind: str, where: str | Sequence[str], split: str | None = None, subset: str | None = None, progress: bool = True
) -> datasets.Dataset:
    """Open a table with Hugging Face ``datasets``, mapped into memory and not read.

    ``kind`` is ``"saved"`` (a folder of ``save_to_disk``), ``"arrow"``, ``"parquet"`` or ``"hub"``, and ``where`` the
    folder, the files or the name there. Arrow files and saved folders are used where they lie. Parquet is converted
    once into the library's cache (``HF_DATASETS_CACHE``), which takes the space a second time; the hub is downloaded
    into the same. What the library cannot open is an :class:`ImagesError` with its own words.
    """
    import datasets

    if kind in ("arrow", "parquet"):
        parts, columns = zip(*(_read_part(kind, file) for file in where), strict=True)
        for file, found in zip(where, columns, strict=True):
            if found != columns[0]:  # the library would fill up what is missing in one of the files
                listed = "; ".join(", ".join(f"{name} ({of})" for name, of in c.items()) for c in (columns[0], found))
                raise ImagesError(f"{where[0]} and {file} cannot be opened together, their columns differ: {listed}")
        if kind == "arrow":
            return datasets.concatenate_datasets(parts)
    try:
        with ExitStack() as after:
            if not (progress and sys.stderr.isatty()) and not datasets.are_progress_bars_disabled():
                datasets.disable_progress_bars()
                after.callback(datasets.enable_progress_bars)
            if kind == "parquet":
                return datasets.Dataset.from_parquet(list(where))
            if kind == "hub":
                return datasets.load_dataset(where, name=subset, split=split or "train")
            found = datasets.load_from_disk(where)
    except Exception as error:  # anything from OSError to the hub's own kinds
        said = f"{where if isinstance(where, str) else several(where)} cannot be read"
        if kind == "hub":
            there = f"there is no file or folder {where}{guess_place(where)}"
            said = (f"{there}, so it was taken for the name of a dataset on the Hugging Face hub, split "
                    f"{split or 'train'}, and datasets could not load that")  # fmt: skip
        raise ImagesError(f"{said} ({_say_cause(error)})") from error
    if isinstance(found, datasets.Dataset):
        if split is not None:
            raise ImagesError(f"{where} has no splits, but {split!r} was asked for")
        return found
    split = split or (next(iter(found)) if len(found) == 1 else "train")
    if split not in found:
        raise ImagesError(f"{where} has no split {split!r}; choose one with split (--split): {', '.join(found)}")
    return found[split]


def _read_part(kind: str, file: str) -> tuple[Any, dict[str, Any]]:
    """One Arrow file, mapped, or the schema of a Parquet file; and the types of its columns."""
    import datasets
    import pyarrow.parquet

    with open(file, "rb") as opened:
        if kind == "arrow" and opened.read(6) == b"ARROW1":
            raise ImagesError(f"{file} has Arrow's file layout (Feather), which datasets does not map into memory; "
                              "save it as Parquet or with save_to_disk")  # fmt: skip
    try:
        if kind == "arrow":
            part = datasets.Dataset.from_file(file)
            return part, dict(part.features)
        schema = pyarrow.parquet.read_schema(file)
        return schema, dict(zip(schema.names, schema.types, strict=True))
    except Exception as error:  # anything from OSError to pyarrow's own kinds
        raise ImagesError(f"{file} is cut off, damaged or no {kind} file ({_say_cause(error)})") from error


def _say_cause(error: Exception) -> str:
    said = f"{type(error).__name__}: {error}"
    if error.__cause__ is not None and str(error.__cause__) not in said:  # "An error occurred while generating ..."
        said += f" {type(error.__cause__).__name__}: {error.__cause__}"
    return " ".join(said.split())
