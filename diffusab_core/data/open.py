"""One way to open images of any kind: photographs, dead leaves, folders, archives, tables, arrays, and clips."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch.utils.data import Dataset

from diffusab_core.data.arrays import Arrays
from diffusab_core.data.clips import ClipFiles, Cutting, StoredClips
from diffusab_core.data.leaves import LeafClips, Leaves
from diffusab_core.data.photos import Photos
from diffusab_core.data.pixels import Resolution, parse_resolution, say_size
from diffusab_core.data.places import CLIPS, ENDINGS, WORDS, ImagesError, Where, check_choices, find_kind, several
from diffusab_core.data.shards import Tars
from diffusab_core.data.stores import Crop, ImageFolder, StoredImages
from diffusab_core.data.tables import Table, load_table
from diffusab_core.data.zips import Zips

if TYPE_CHECKING:
    from diffusab_core.training.world import World


def open_images(
    where: Where,
    resolution: Resolution,
    crop: Crop = "center",
    seed: int = 0,
    labels: bool = False,
    *,
    progress: bool = True,
    world: World | None = None,
    **options: Any,
) -> Dataset:
    """Images of any kind, chosen by what ``where`` is.

    - ``"photos"`` and ``"leaves"``: those that need no files; ``./photos`` is a folder of that name;
    - a folder: :class:`~diffusab_core.data.stores.ImageFolder`;
    - a folder with ``frames``, or files of video: :class:`~diffusab_core.data.clips.StoredClips`; ``leaves`` with
      ``frames``: :class:`~diffusab_core.data.leaves.LeafClips`;
    - files ``*.tar``: :class:`~diffusab_core.data.shards.Tars`; ``*.zip``: :class:`~diffusab_core.data.zips.Zips`;
    - files ``*.npz`` or ``*.npy``: :class:`~diffusab_core.data.arrays.Arrays`;
    - files ``*.arrow`` or ``*.parquet``, a folder of ``save_to_disk``, or ``owner/name`` of a dataset on the Hugging
      Face hub, where there is no such path: :class:`~diffusab_core.data.tables.Table`.

    A missing file is an :class:`ImagesNotFound`; what no kind fits, or an option of another kind, an ``ImagesError``.

    Args:
        where: See above; files as one, a list, or patterns (:func:`~.places.expand`). A ``Path`` is never a word or on
            the hub.
        resolution: Side of the square images in pixels, or height and width of stored ones.
        crop: ``"center"``, ``"random"`` or ``"adm"``; ``photos`` are always random crops.
        seed: Of random crops, and of ``photos`` and ``leaves``.
        labels: Whether an item is ``(image, class number)`` or only the image.
        world: Processes that all make this call: only the main one looks at what is stored.
        options: ``length`` of ``photos`` or ``leaves``; ``split`` of ``photos``, a saved folder or the hub; ``subset``
            on the hub; ``check`` and ``replace`` of what is stored; ``image_column`` and ``label_column`` of tables;
            ``image_key`` of tar shards; ``allow_empty`` of folders; ``frames`` of clips, and of stored ones ``stride``
            and ``fps``.
    """
    resolution, (kind, found) = parse_resolution(resolution), find_kind(where)
    options = {name: value for name, value in options.items() if value is not None}
    check_choices(where, options, kind)
    if kind in WORDS and isinstance(resolution, tuple):
        raise ImagesError(f"{where} are squares, not {say_size(resolution)}")
    if kind == "photos":
        if labels:
            raise ImagesError("the photographs have no labels; take leaves, or labels=False")
        return Photos(resolution, seed=seed, **options)
    if kind == "leaves":
        return (LeafClips if "frames" in options else Leaves)(resolution, seed, labels=labels, **options)
    cutting = _parse_cutting(where, kind, options)
    stored = {"check": options.pop("check", None), "progress": progress, "world": world}
    stored |= {name: options.pop(name) for name in ("replace", "allow_empty") if name in options}
    if cutting is not None:
        clips = ClipFiles(found, cutting, labels, progress, world)
        return StoredClips(clips, resolution, crop, seed, **stored)
    if kind == "folder":
        return ImageFolder(found, resolution, crop, seed, labels=labels, **stored)
    if kind in ("tar", "zip", "npz", "npy"):
        made = {"tar": lambda: Tars(found, labels, progress, **options), "zip": lambda: Zips(found, labels)}
        source = made.get(kind, lambda: Arrays(found, labels))()
        return StoredImages(source, resolution, crop, seed, **stored)
    rows = load_table(kind, found, options.pop("split", None), options.pop("subset", None), progress)
    table = Table(rows, labels, where=several(found) if isinstance(found, list) else found, **options)
    return StoredImages(table, resolution, crop, seed, **stored)


def _parse_cutting(where: Where, kind: str, options: dict[str, Any]) -> Cutting | None:
    """How clips are cut, taken out of the options; ``None`` for images."""
    chosen = {name: options.pop(name) for name in sorted(CLIPS & options.keys())}
    if "frames" in chosen:
        return Cutting(**chosen)
    if chosen:
        raise ImagesError(f"{next(iter(chosen))} is of clips: say with frames (--frames) how many frames a clip has")
    if kind == "video" or (kind == "folder" and _holds_only_clips(where)):
        raise ImagesError(f"{where} holds clips: say with frames (--frames 17) how many frames of them a clip has")
    return None


def _holds_only_clips(folder: str | os.PathLike, limit: int = 1000) -> bool:
    """Whether some of a folder's files are of video and, of the first ones, none could be an image; GIFs are."""
    pictures = {ending for ending, kind in Image.registered_extensions().items() if kind != "MPEG"}
    files = (file for _, _, files in os.walk(folder) for file in files)
    endings = {os.path.splitext(file)[1].lower() for file in islice(files, limit)}
    return bool(endings & {*ENDINGS}) and not endings & pictures
