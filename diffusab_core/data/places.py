"""What a place of images is, by its name: what can be said before anything is opened, and without torch."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image

from diffusab_core.files import DiffusabError, guess_place

Where = str | os.PathLike | Sequence[str | os.PathLike]
WORDS = ("photos", "leaves")
UNDERSTOOD = (
    "photos, leaves, a folder of images, a folder of save_to_disk, files *.tar, *.zip, *.arrow, *.parquet, *.npz or "
    "*.npy (one, a list, or a pattern such as train-{0000..0009}.tar or 'train-*.tar'), owner/name of a dataset on "
    "the Hugging Face hub, or, with frames, a folder of clips or files such as *.mp4"
)
_STORED = {"check", "replace"}
_TABLE = _STORED | {"image_column", "label_column"}
CLIPS = frozenset({"frames", "stride", "fps"})  #: Choices that are of clips only
_OPTIONS = {"photos": {"split", "length"}, "leaves": {"length", "frames"}}
_OPTIONS |= {"folder": _STORED | CLIPS | {"allow_empty"}, "video": _STORED | CLIPS}
_OPTIONS |= {"tar": _STORED | {"image_key"}, "zip": _STORED, "npz": _STORED, "npy": _STORED}
_OPTIONS |= {"arrow": _TABLE, "parquet": _TABLE, "saved": _TABLE | {"split"}, "hub": _TABLE | {"split", "subset"}}
#: Endings of files of video, in lower case; an animation is one, too.
ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts")


class ImagesError(DiffusabError, ValueError):
    """Images that cannot be opened or used as they were asked for."""


class ImagesNotFound(DiffusabError, FileNotFoundError):
    """There are no images where they were looked for."""


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """What of a place of images is meant, where the place alone does not say; settings that open images have it.

    Attributes:
        split: Of ``photos``, a saved table or a dataset on the hub.
        subset: Of a dataset on the hub.
        image_column: Of a table with several columns of images.
        label_column: Of a table with several columns of labels.
        image_key: Of tar shards: which members are the images, such as ``jpg`` or ``"jpg;png"``; ``"*.jpg"`` where
            names have dots of their own.
        allow_empty: Of a folder with labels: let a class have no images.
        frames: Frames of a clip, for a video autoencoder: the place then holds files of video (mp4, webm, mkv, mov,
            avi, gif) and folders of frames, each cut into clips; ``leaves`` move.
        stride: Of stored clips: every how many frames one is taken. ``None``: every frame.
        fps: Of files of video: frames a second before ``stride``, by their time stamps. ``None``: the file's own.
    """

    split: str | None = None
    subset: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    image_key: str | None = None
    allow_empty: bool | None = None
    frames: int | None = None
    stride: int | None = None
    fps: float | None = None

    @property
    def choices(self) -> dict[str, Any]:
        """What was chosen, as options of :func:`open_images`."""
        values = {field.name: getattr(self, field.name) for field in fields(Choosing)}
        return {name: value for name, value in values.items() if value is not None}

    def as_values(self) -> dict[str, Any]:
        """All settings by name, without choices that were not made."""
        unset = {field.name for field in fields(Choosing)} - self.choices.keys()
        return {name: value for name, value in asdict(self).items() if name not in unset}


def check_choices(where: Where, options: Mapping[str, Any], kind: str | None = None) -> None:
    """Refuse options that are not of what ``where`` is, with an ``ImagesError``."""
    kind = kind or find_kind(where)[0]
    for name in sorted(set(options) - _OPTIONS[kind]):
        fits = ", ".join(sorted(_OPTIONS[kind]))
        raise ImagesError(f"{name} is no option for {where} (opened as {kind}); it takes {fits}")


def find_kind(where: Where) -> tuple[str, Any]:
    """What :func:`open_images` would open: the kind, and the folder, name or list of files."""
    if isinstance(where, str) and where in WORDS:
        return where, where
    one = isinstance(where, str | os.PathLike)
    if one and os.path.isdir(where):
        return _find_kind_of_folder(Path(where)), str(Path(where))
    given = [os.fspath(place) for place in ([where] if one else where)]
    if not given:
        raise ImagesError("an empty list names no images")
    hub_name = isinstance(where, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", where)
    if hub_name and _ending(where) is None and not os.path.exists(where):
        return "hub", where
    files = [file for place in given for file in expand(place)]
    if missing := [file for file in files if not os.path.exists(file)]:
        if len(files) > 1:
            raise ImagesNotFound(f"{len(missing)} of {len(files)} files are missing, the first is {missing[0]}")
        none = f"there is no folder {missing[0]} and no such file{guess_place(missing[0])}"
        raise ImagesNotFound(f"{none}; understood are {UNDERSTOOD}")
    kinds = {_ending(file) for file in files}
    if len(kinds) > 1:
        raise ImagesError(f"files of one kind are opened together, not {several(files)} of different kinds")
    if None in kinds:
        what = "a folder among files" if os.path.isdir(files[0]) else "a file of no kind that is understood"
        raise ImagesError(f"{files[0]} is {what}; understood are {UNDERSTOOD}")
    return kinds.pop(), files


def _find_kind_of_folder(folder: Path) -> str:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return "saved"
    entries = list(os.scandir(folder))
    shards = sorted(entry.name for entry in entries if _ending(entry.name) not in (None, "video"))
    pictures = Image.registered_extensions() if shards else {}
    if shards and not any(entry.is_dir() or Path(entry.name).suffix.lower() in pictures for entry in entries):
        fitting = folder / f"*{Path(shards[0]).suffix}"
        raise ImagesError(f"the folder {folder} holds shards such as {shards[0]} and no images: give '{fitting}'")
    return "folder"


def _ending(file: str) -> str | None:
    """The kind of a file by its ending; compressed tar files are tar files here, and are refused when opened."""
    if os.path.splitext(file)[1].lower() in ENDINGS:
        return "video"
    found = re.search(r"\.(?:(tar)(?:\.\w+)?|(t[gbx]z)|(arrow|parquet|zip|npz|npy))$", file, re.IGNORECASE)
    return found and ("tar" if found[1] or found[2] else found[3].lower())


def expand(pattern: str) -> list[str]:
    """The files that a pattern stands for: ``{0000..0009}`` and ``{a,b}`` as in a shell, then wildcards."""
    if os.path.exists(pattern):
        return [pattern]
    if braces := re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern):
        first, last, words = braces.groups()
        if words is not None:
            middle = words.split(",")
        elif int(first) > int(last):
            raise ImagesError(f"{pattern}: {braces[0]} counts down")
        else:
            padded = any(len(end) > 1 and end[0] == "0" for end in (first, last))
            digits = max(len(first), len(last)) if padded else 0
            middle = [str(n).zfill(digits) for n in range(int(first), int(last) + 1)]
        return [file for m in middle for file in expand(pattern[: braces.start()] + m + pattern[braces.end() :])]
    if not glob.has_magic(pattern):
        return [pattern]
    if files := sorted(glob.glob(pattern)):
        return files
    raise ImagesNotFound(f"no file fits {pattern}")


def several(places: Sequence[str]) -> str:
    """One place, or the first and the last of many, for messages."""
    return places[0] if len(places) == 1 else f"{places[0]} ... {places[-1]} ({len(places)} files)"
