"""Clips that somebody has stored, in files of video and in folders of frames, as pieces of one length and size.

:class:`ClipFiles` is the source, :class:`StoredClips` the dataset; what they do beyond their parents, which hold
images, is to cut in time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from diffusab_core.data.pixels import UnusableImage, check_counts, read_rgb, read_size
from diffusab_core.data.places import ENDINGS, ImagesError
from diffusab_core.data.stores import THREADS, Check, Folder, Skipped, Source, StoredImages, say_why, trace_of
from diffusab_core.data.video import Timeline, lay_grid, read_frames, read_timeline
from diffusab_core.files import printable

if TYPE_CHECKING:
    from diffusab_core.training.world import World

_PIECE = 64  # files looked at between two messages to other processes


@dataclass(frozen=True)
class Cutting:
    """How files are cut into clips.

    Attributes:
        frames: Frames of a clip.
        stride: Every how many frames, of ``fps`` or of the file, one is taken.
        fps: Frames a second before ``stride``; ``None``: the file's own. See :func:`~.video.lay_grid`.
    """

    frames: int
    stride: int = 1
    fps: float | None = None

    def __post_init__(self) -> None:
        check_counts(frames=self.frames, stride=self.stride)
        if self.fps is not None and not 0 < self.fps < 1000:
            raise ImagesError(f"fps must lie between 0 and 1000, got {self.fps}")

    @property
    def span(self) -> int:
        """Frames from a clip's first to its last."""
        return (self.frames - 1) * self.stride + 1

    def count(self, film: Film) -> int:
        """How many clips a film holds, one after the other."""
        return (len(film.grid) - self.span) // (self.frames * self.stride) + 1

    def refuse_short(self, length: int, rate: str = "") -> None:
        """An ``UnusableImage`` for what has fewer frames than a clip takes."""
        if length < self.span:
            why = f"a clip takes {self.span}" + (f" ({self.frames} with stride {self.stride})" * (self.stride > 1))
            raise UnusableImage(f"it has {length} frames{rate}, {why}")


@dataclass(frozen=True)
class Film:
    """One file of video, or one folder of frames, from which clips are cut."""

    name: str  #: Within the source
    paths: tuple[str, ...]  #: The file, or the frames in their order
    target: int = 0  #: Number of its class
    timeline: Timeline | None = None  #: Of a file
    grid: np.ndarray | None = None  #: Places of the frames on an even clock
    size: tuple[int, int] = (0, 0)  #: Height and width

    def look(self, cutting: Cutting) -> Film:
        """The same with all that clips are cut by; an ``UnusableImage`` if there is no clip in it."""
        if not _is_video(self.paths[0]):
            if cutting.fps is not None:
                raise UnusableImage("a folder of frames has no time stamps to take fps of; leave fps out, give stride")
            cutting.refuse_short(len(self.paths))
            size = read_size(self.paths[0], upright=True)
            return Film(self.name, self.paths, self.target, None, np.arange(len(self.paths)), size)
        timeline = read_timeline(self.paths[0])
        grid = lay_grid(timeline.times, cutting.fps)
        cutting.refuse_short(len(grid), "" if cutting.fps is None else f" at {cutting.fps:g} a second")
        return Film(self.name, self.paths, self.target, timeline, grid, timeline.size)

    def read(self, places: np.ndarray) -> np.ndarray:
        """Frames uint8 ``(T, H, W, 3)``."""
        if self.timeline is not None:
            return read_frames(self.paths[0], self.timeline, places)
        frames = []
        for place in places:
            try:
                frames.append(read_rgb(self.paths[place]))
            except Exception as error:  # decoders raise anything on a broken file
                raise UnusableImage(f"{printable(Path(self.paths[place]).name)}: {say_why(error)}") from error
            if frames[-1].shape != frames[0].shape:
                (h, w), (height, width) = frames[-1].shape[:2], frames[0].shape[:2]
                name = printable(Path(self.paths[place]).name)
                raise UnusableImage(f"{name} has {w} x {h} pixels, the first frame of the clip {width} x {height}")
        return np.stack(frames)


class ClipFiles(Source):
    """Clips in files of video (:data:`~.places.ENDINGS`) and in folders whose images are frames, in sorted order.

    Every file is cut into as many clips as it holds, one after the other; a rest that is shorter is not used. Frames
    of a folder are ordered by the numbers in their names. In a folder that holds files of video, images are no frames
    but pictures that go with them. What holds no clip is in ``skipped``, with the reason.

    With ``labels`` classes are those of :class:`~.stores.Folder`.

    Args:
        place: A folder, or files of video.
        cutting: How they are cut.
        world: Processes that all make this call: the main one looks at the files, and tells the others.
    """

    unit, item, stored, decoded = "clips", "clip", "clips", 256

    def __init__(
        self,
        place: str | os.PathLike | Sequence[str],
        cutting: Cutting,
        labels: bool = False,
        progress: bool = True,
        world: World | None = None,
    ) -> None:
        self.cutting, self.skipped = cutting, []
        films = self._list_files(place, labels) if isinstance(place, list) else self._list_folder(place, labels)
        self._films, self._clips = [], []  # of each clip: its film, and which of its clips it is
        for film, found in zip(films, self._look(films, progress, world), strict=True):
            if isinstance(found, str):
                self.skipped.append(Skipped(film.name, found))
                continue
            self._clips += [(len(self._films), k) for k in range(cutting.count(found))]
            self._films.append(found)
        if labels:
            self.set_labels([self._films[film].target for film, _ in self._clips], self.classes)

    def _list_files(self, files: Sequence[str], labels: bool) -> list[Film]:
        if labels:
            raise ImagesError("files of video have no labels; give the folder that holds the folders of their classes")
        self.where = printable(files[0] if len(files) == 1 else f"{files[0]} ... {files[-1]} ({len(files)} files)")
        names = [Path(file).name for file in files]
        names = names if len(set(names)) == len(names) else files
        return [Film(printable(name), (file,)) for name, file in zip(names, files, strict=True)]

    def _list_folder(self, path: str | os.PathLike, labels: bool) -> list[Film]:
        folder = Folder(path, labels)
        self.where, self.skipped = folder.where, list(folder.skipped)
        self.classes, self.class_folders = folder.classes, folder.class_folders
        frames: dict[str, list[int]] = {}
        films: list[tuple[str, Film]] = []
        pictures = {ending for ending, kind in Image.registered_extensions().items() if kind != "MPEG"} - {*ENDINGS}
        beside = {os.path.dirname(file) for file in folder.files if _is_video(file)}
        for i, file in enumerate(folder.files):
            within, is_picture = os.path.dirname(file), os.path.splitext(file)[1].lower() in pictures
            target = int(folder.targets[i]) if labels else 0
            if _is_video(file):
                films.append((file, Film(folder.name(i), (folder.path(i),), target)))
            elif is_picture and within not in beside:
                frames.setdefault(within, []).append(i)
            else:
                why = "an image beside clips" if is_picture else f"neither an image nor a clip ({', '.join(ENDINGS)})"
                self.skipped.append(Skipped(folder.name(i), why))
        for within, members in frames.items():
            members.sort(key=lambda i: _split_numbers(folder.files[i]))
            name = printable((within or os.path.basename(os.path.abspath(folder.root))).replace(os.sep, "/"))
            target = int(folder.targets[members[0]]) if labels else 0
            films.append((within, Film(name, tuple(map(folder.path, members)), target)))
        return [film for _, film in sorted(films, key=lambda entry: entry[0].split(os.sep))]

    def _look(self, films: Sequence[Film], progress: bool, world: World | None) -> list[Film | str]:
        """Each film with what clips are cut by, or why there are none in it."""
        if world is not None:
            from diffusab_core.training.world import from_main  # loads what one process does not need

        def look(film: Film) -> Film | str:
            try:
                return film.look(self.cutting)
            except Exception as error:  # as above
                return say_why(error)

        main, found = world is None or world.is_main, []
        hide = not (progress and main and len(films) > 200)
        with (
            tqdm(desc=f"looking at {self.where}", total=len(films), disable=hide) as bar,
            ThreadPoolExecutor(THREADS) as pool,
        ):
            for start in range(0, len(films), _PIECE):
                some = list(pool.map(look, films[start : start + _PIECE])) if main else []
                found += some if world is None else from_main(some, world)
                bar.update(len(found) - bar.n)
        return found

    def __len__(self) -> int:
        return len(self._clips)

    def _number(self, index: int) -> str:
        """Which of its film's clips an item is, where there are several."""
        film, number = self._clips[index]
        count = self.cutting.count(self._films[film])
        return f", clip {number + 1} of {count}" if count > 1 else ""

    def name(self, index: int) -> str:
        return self._films[self._clips[index][0]].name + self._number(index)

    def place(self, index: int) -> str:
        film = self._films[self._clips[index][0]]
        path = film.paths[0] if film.timeline is not None else os.path.dirname(film.paths[0])
        return printable(path) + self._number(index)

    def open(self, index: int) -> Any:
        raise UnusableImage("a clip is no image")

    def say_unlabelled(self, index: int) -> str:
        return (f"{self.place(index)} has no class; with labels every clip lies in the folder of its class, as in "
                "juggling/name.mp4")  # fmt: skip

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of a clip's frames, as its first frame has them."""
        return self._films[self._clips[index][0]].size

    def read(self, index: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """A clip uint8 ``(T, H, W, 3)``, or with ``rng`` one that begins anywhere in the same film."""
        cutting, (number, k) = self.cutting, self._clips[index]
        film = self._films[number]
        start = k * cutting.frames * cutting.stride
        start = start if rng is None else int(rng.integers(len(film.grid) - cutting.span + 1))
        return film.read(film.grid[start : start + cutting.span : cutting.stride])

    def trace(self, index: int) -> bytes:
        film, number = self._clips[index]
        paths = self._films[film].paths
        found = [f"{number} {len(paths)}".encode()]
        for path in [paths[i] for i in sorted({0, len(paths) // 2, len(paths) - 1})]:
            with open(path, "rb") as file:
                found.append(trace_of(file, 0, os.fstat(file.fileno()).st_size))
        return b"\0".join(found)


def _is_video(file: str) -> bool:
    return os.path.splitext(file)[1].lower() in ENDINGS


def _split_numbers(name: str) -> list[tuple[int, str]]:
    """A key by which ``frame_2.png`` is before ``frame_10.png``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]


class StoredClips(StoredImages):
    """Clips from :class:`ClipFiles` as pieces of one size: item ``i`` is ``(3, T, H, W)``, or with its class number.

    All frames of a clip are cut alike, as :class:`~.stores.StoredImages` cuts an image; with crop ``"random"`` a clip
    begins anywhere in its file, too. Other arguments, what is left out, and errors are those of images.
    """

    source: ClipFiles

    @property
    def frames(self) -> int:
        return self.source.cutting.frames

    @property
    def stride(self) -> int | None:
        """``None`` for every frame, which is no part of what the clips are."""
        return None if self.source.cutting.stride == 1 else self.source.cutting.stride

    @property
    def fps(self) -> float | None:
        return self.source.cutting.fps

    def _read(self, index: int, check: Check = "decode") -> np.ndarray | None:
        kept = int(self._kept[index])
        self._refuse_small(*self.source.size(kept))
        if check != "decode":
            return None
        begin = np.random.default_rng([self.seed, index, 1]) if self.crop == "random" else None
        frames = self.source.read(kept, begin)
        self._refuse_small(*frames.shape[1:3])
        return frames

    def _cut(self, pixels: np.ndarray, index: int) -> Tensor:
        cut = super()._cut
        return torch.stack([cut(frame, index) for frame in pixels], dim=1)
