r"""One way to open images of any kind: photographs, dead leaves, folders, tar shards and tables."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch.utils.data import Dataset

from diffusab_core.data.leaves import Leaves
from diffusab_core.data.photos import Photos
from diffusab_core.data.pixels import ImagesError
from diffusab_core.data.shards import Tars
from diffusab_core.data.stores import Check, Crop, ImageFolder, ImagesNotFound, StoredImages, several
from diffusab_core.data.tables import Table, load_table

if TYPE_CHECKING:
    from diffusab_core.training.world import World

Where = str | os.PathLike | Sequence[str | os.PathLike]
WORDS = ("photos", "leaves")
UNDERSTOOD = (
    "photos, leaves, a folder of images, a folder of save_to_disk, files *.tar, *.arrow or *.parquet (one, a list, or "
    "a pattern such as train-{0000..0009}.tar or 'train-*.tar'), or owner/name of a dataset on the Hugging Face hub"
)
_COLUMNS = {"check", "image_column", "label_column"}
_OPTIONS = {
    "photos": {"split", "length"},
    "leaves": {"length"},
    "folder": {"check"},
    "tar": {"check"},
    "arrow": _COLUMNS,
    "parquet": _COLUMNS,
    "saved": _COLUMNS | {"split"},
    "hub": _COLUMNS | {"split", "subset"},
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
    world: World | None = None,
) -> Dataset:
    """Images of any kind, chosen by what ``where`` is.

    - ``"photos"`` and ``"leaves"``: those that need no files;
    - a folder: :class:`~diffusab_core.data.stores.ImageFolder`;
    - files ``*.tar``: :class:`~diffusab_core.data.shards.Tars`;
    - files ``*.arrow`` or ``*.parquet``, a folder of ``save_to_disk``, or ``owner/name`` of a dataset on the Hugging
      Face hub, where there is no such path: :class:`~diffusab_core.data.tables.Table`.

    Files may be given as one, as a list, or as patterns with braces (``train-{0000..0009}.tar``) or wildcards. The two
    words are words even where a folder has that name: ``./photos`` is the folder.

    Args:
        where: See above; a ``Path`` is never a word or a name on the hub.
        resolution: Side of the square images in pixels.
        crop: ``"center"`` or ``"random"``, see :class:`~diffusab_core.data.stores.StoredImages`. Of no concern to
            ``photos``, which are random crops always, and to ``leaves``.
        seed: Seed of random crops, and of ``photos`` and ``leaves`` altogether.
        labels: Whether an item is ``(image, class number)`` or only the image.
        check: How much is looked at beforehand: ``"decode"`` (the default of folders of at most 4096 files),
            ``"header"`` (of all others) or ``"none"``; see :class:`~diffusab_core.data.stores.StoredImages`.
        split: Of ``photos``, of a folder of ``save_to_disk`` or of a dataset on the hub; ``train`` when left out.
        subset: Configuration of a dataset on the hub.
        image_column: Column of a table, see :class:`~diffusab_core.data.tables.Table`; so is ``label_column``.
        length: How many ``photos`` or ``leaves``.
        progress: Show progress bars.
        world: Processes that all make this call: only the main one looks at what is stored.

    Raises:
        ImagesNotFound: There is nothing of that name, or a file of several is missing.
        ImagesError: It is of no kind that is understood, an option does not belong to the kind, or the dataset's own
            class refuses it.
    """
    kind, found = find_kind(where)
    options = {"check": check, "split": split, "subset": subset, "length": length,
               "image_column": image_column, "label_column": label_column}  # fmt: skip
    options = {name: value for name, value in options.items() if value is not None}
    for name in sorted(set(options) - _OPTIONS[kind]):
        fitting = ", ".join(sorted(_OPTIONS[kind]))
        raise ImagesError(f"{name} is no option for {where} (opened as {kind}); it takes {fitting}")
    if kind == "photos":
        if labels:
            raise ImagesError("the photographs have no labels; take leaves, or labels=False")
        return Photos(resolution, seed=seed, **options)
    if kind == "leaves":
        return Leaves(resolution, seed, labels=labels, **options)
    if kind == "folder":
        return ImageFolder(found, resolution, crop, seed, progress, labels, check, world)
    if kind == "tar":
        source = Tars(found, labels, progress)
    else:
        rows = load_table(kind, found, split, subset, progress)
        source = Table(rows, labels, image_column, label_column, several(found) if isinstance(found, list) else found)
    return StoredImages(source, resolution, crop, seed, check, progress, world)


def find_kind(where: Where) -> tuple[str, Any]:
    """What :func:`open_images` would open: the kind, and the folder, name or list of files."""
    if isinstance(where, str) and where in WORDS:
        return where, where
    one = isinstance(where, (str, os.PathLike))
    if one and os.path.isdir(where):
        return _find_kind_of_folder(Path(where))
    given = [os.fspath(place) for place in ([where] if one else where)]
    if not given:
        raise ImagesError("an empty list names no images")
    looks_like_hub = isinstance(where, str) and _HUB_NAME.fullmatch(where) and _ending(where) is None
    if looks_like_hub and not os.path.exists(where):
        return "hub", where
    files = [file for place in given for file in expand(place)]
    missing = [file for file in files if not os.path.exists(file)]
    if missing:
        if len(files) > 1:
            raise ImagesNotFound(f"{len(missing)} of {len(files)} files are missing, the first is {missing[0]}")
        raise ImagesNotFound(f"there is no folder {missing[0]} and no such file; understood are {UNDERSTOOD}")
    kinds = {_ending(file) for file in files}
    if len(kinds) > 1:
        raise ImagesError(f"files of one kind are opened together, not {several(files)} of different kinds")
    kind = kinds.pop()
    if kind is None:
        what = "a folder among files" if os.path.isdir(files[0]) else "a file of no kind that is understood"
        raise ImagesError(f"{files[0]} is {what}; understood are {UNDERSTOOD}")
    return kind, files


def _find_kind_of_folder(folder: Path) -> tuple[str, str]:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return "saved", str(folder)
    entries = list(os.scandir(folder))
    shards = sorted(entry.name for entry in entries if _ending(entry.name) is not None)
    pictures = Image.registered_extensions() if shards else {}
    if shards and not any(entry.is_dir() or Path(entry.name).suffix.lower() in pictures for entry in entries):
        fitting = folder / f"*{Path(shards[0]).suffix}"
        raise ImagesError(f"the folder {folder} holds shards such as {shards[0]} and no images: give '{fitting}'")
    return "folder", str(folder)


def _ending(file: str) -> str | None:
    """The kind of a shard by its ending; compressed tar files are tar files here, and are refused when opened."""
    found = re.search(r"\.(?:(tar)(?:\.\w+)?|(t[gbx]z)|(arrow)|(parquet))$", file, re.IGNORECASE)
    return found and ("tar" if found[1] or found[2] else "arrow" if found[3] else "parquet")


def expand(pattern: str) -> list[str]:
    """The files that a pattern stands for: ``{0000..0009}`` and ``{a,b}`` as in a shell, then wildcards."""
    braces = None if os.path.exists(pattern) else re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if braces:
        first, last, words = braces.groups()
        if words is None:
            if int(first) > int(last):
                raise ImagesError(f"{pattern}: {braces[0]} counts down")
            padded = any(len(end) > 1 and end[0] == "0" for end in (first, last))
            digits = max(len(first), len(last)) if padded else 0
            middle = [str(n).zfill(digits) for n in range(int(first), int(last) + 1)]
        else:
            middle = words.split(",")
        return [file for m in middle for file in expand(pattern[: braces.start()] + m + pattern[braces.end() :])]
    if os.path.exists(pattern) or not glob.has_magic(pattern):
        return [pattern]
    files = sorted(glob.glob(pattern))
    if not files:
        raise ImagesNotFound(f"no file fits {pattern}")
    return files
