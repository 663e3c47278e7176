"""Which images a report looks at: a sample of a folder or of shards, or images that come along."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from torch.utils.data import Dataset

from diffusab_book.report.options import Options, ReportError
from diffusab_core.data import Photos
from diffusab_core.data.open import open_images
from diffusab_core.data.pixels import say_size
from diffusab_core.data.places import WORDS, check_choices


@dataclass(frozen=True)
class Images:
    """Which images a report looks at.

    Attributes:
        dataset: Items ``(3, R, R)`` in [-1, 1], of clips ``(3, T, R, R)``.
        used: What each item is, in order: a path below the folder, a shard's member, a row, a photograph's name.
        described: All of it in words.
        skipped: Files, members or rows that could not be used, with the reason.
        not_opened: How many further ones there are.
    """

    dataset: Dataset
    used: tuple[str, ...]
    described: str
    skipped: tuple[tuple[str, str], ...] = ()
    not_opened: int = 0


def hidden(progress: bool | None) -> bool | None:
    """tqdm's ``disable``: None lets it hide itself where nobody is watching."""
    return None if progress is None else not progress


def _item_of(options: Options) -> str:
    return "image" if options.frames is None else "clip"


def _say_frames(options: Options) -> str:
    """What is to be known of clips, nothing of images."""
    if options.frames is None:
        return ""
    return (f", {options.frames} frames each; spectrum, noise, reconstruction, scales and cuts are of clips, all other "
            "parts of their first frames")  # fmt: skip


def choose_images(options: Options, progress: bool | None = None) -> Images:
    """At most ``samples`` images, by the seed: anything that ``open_images`` opens, or the built-in photographs.

    Raises:
        ValueError: They cannot be used, in one line that says what to do.
        OSError: They are not there.
    """
    where, r, n = options.images, options.resolution, options.samples
    if where in WORDS and os.path.exists(where):
        raise ReportError(
            f"{where!r} names built-in images, and something here has that name too: for it give ./{where}"
        )
    pixels = f"{say_size(r)} pixels"
    if where in (None, *WORDS):
        check_choices(where or "photos", options.choices)
        if isinstance(r, tuple):
            raise ReportError(f"--resolution {pixels}: the built-in images are squares; give --images PLACE")
    if where == "leaves":
        leaves, item = open_images("leaves", r, seed=options.seed, length=n, **options.choices), _item_of(options)
        names = tuple(f"{leaves.class_names[i % leaves.num_classes]}, {item} {i}" for i in range(n))
        described = f"{n} dead-leaves {item}s of {leaves.num_classes} classes, {pixels}{_say_frames(options)}"
        return Images(leaves, names, described)
    if where in (None, "photos"):
        if options.crop not in ("random", None):
            raise ReportError(
                "the built-in photographs are too few for centre crops: leave --crop out, or give --images"
            )
        split = options.split or "test"
        try:
            photos = Photos(r, split, options.seed, n)
        except ValueError as error:
            raise ReportError(f"built-in photographs: {error}; or give larger images with --images") from error
        which = "held-out" if split == "test" else "training"
        described = f"{n} random crops of the built-in {which} photographs ({', '.join(photos.names)}), {pixels}"
        return Images(photos, tuple(f"{photos.source(i)}, crop {i}" for i in range(n)), described)
    crop = options.crop or "center"
    watched = sys.stderr.isatty() if progress is None else progress
    store = open_images(where, r, crop, options.seed, check="none", progress=watched, **options.choices)
    chosen = store.draw(n, options.seed, watched)
    shape = "square" if not isinstance(r, tuple) else "piece of their shape"
    cuts = {
        "center": f"largest centred {shape}",
        "random": f"random {shape} of random scale",
        "adm": "ADM's centre crop",
    }
    cut = cuts[crop]
    described = f"{len(chosen)} {_item_of(options)}s from {store.where}, {cut}, {pixels}{_say_frames(options)}"
    opened = len(chosen) + len(chosen.skipped) - len(store.skipped)
    names, skipped = (chosen.name(i) for i in range(len(chosen))), ((s.name, s.reason) for s in chosen.skipped)
    return Images(chosen, tuple(names), described, tuple(skipped), len(store) - opened)
