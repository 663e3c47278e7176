"""Images that somebody has stored, as pieces of one size: one class for folders, archives, tables and arrays.

A :class:`Source` says how many files there are, what they are called and how one is opened; :class:`StoredImages`
checks, crops and labels, for all of them. So one image through any source is one tensor.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, Protocol, get_args

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from diffusab_core.data.pixels import (
    Resolution,
    UnusableImage,
    adm_crop,
    center_crop,
    check_index,
    check_seed,
    parse_resolution,
    random_crop,
    read_rgb,
    read_size,
    say_size,
    sides,
)
from diffusab_core.data.places import ImagesError, ImagesNotFound
from diffusab_core.files import DiffusabWarning, guess_place, printable

if TYPE_CHECKING:
    from diffusab_core.training.world import World

Crop = Literal["center", "random", "adm"]
Check = Literal["decode", "header", "none"]
CROPS, CHECKS = get_args(Crop), get_args(Check)
LABELS_FILE = "dataset.json"  #: Of EDM and StyleGAN
_EXAMPLE = "n01440764/name.JPEG"
_PIECE = 512  # items checked at a time: a million tasks at once are gigabytes
#: Folders that systems and programs leave among images, in lower case; those with a dot in front are hidden anyway.
_SYSTEM_FOLDERS = {
    "@eadir", "#recycle", "@recycle", "__macosx", "$recycle.bin", "system volume information", "lost+found",
}  # fmt: skip
THREADS = min(8, os.cpu_count() or 1)  # Pillow decodes outside the GIL


class Skipped(NamedTuple):
    """What was left out, and why."""

    name: str  # within the store
    reason: str


class Fault(NamedTuple):
    """Why an item cannot be used."""

    reason: str
    size: tuple[int, int] | None = None  # height and width of one that is only too small


class Source(Protocol):
    """Files of images in a fixed order, none of them kept open: sources are pickled and used from any process."""

    where: str  # what to call it in messages
    unit = "images"  # what it consists of
    item = "image"  # what one becomes
    decoded = 0  # up to how many files are decoded beforehand unless the check is named; of more, headers are read
    classes: tuple[str, ...] = ()  # their names; empty without labels
    targets: np.ndarray  # class number of each file, int64; -1 has none
    skipped: Sequence[Skipped] = ()  # what is no image at all
    stored: str | None = None  # what items are stored as, where they are no files
    class_folders: tuple[str, ...] = ()  # where classes are folders, which are there because they hold something

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What a file is called within the source."""

    def place(self, index: int) -> str:
        """Where it is, for errors."""
        return f"{self.where}: {self.name(index)}"

    def open(self, index: int) -> str | BinaryIO:
        """Something that Pillow can open; an :class:`UnusableImage` if there is nothing."""

    def say_unlabelled(self, index: int) -> str:
        """Why a file has no class."""
        return f"{self.place(index)} has no label"

    def trace(self, index: int) -> bytes:
        """Size and pieces of a file, which tell it from another of the same name; raises as :meth:`open` does."""
        opened = self.open(index)
        if isinstance(opened, str):
            with open(opened, "rb") as file:
                return trace_of(file, 0, os.fstat(file.fileno()).st_size)
        return trace_of(opened, 0, opened.seek(0, os.SEEK_END))

    def set_labels(self, numbers: Sequence[int], names: Sequence[str] | None = None) -> None:
        """Class number of each file and names of the classes; without, the numbers from 0 to the largest there is."""
        largest = max(numbers, default=-1)
        if not names and largest >= 10**6:
            raise ImagesError(f"{self.where}: a label is {largest}, so these are not numbers of classes")
        self.targets = np.array(numbers, dtype=np.int64)
        self.classes = tuple(names or map(str, range(largest + 1)))


class StoredImages(Dataset):
    r"""Images of any sizes from a source, as pieces of one size.

    Item ``i`` is the image ``(3, H, W)`` or, where the source has labels, the pair of image and class number. Files are
    converted by :func:`~diffusab_core.data.pixels.read_rgb` and never enlarged. What cannot be used is left out when
    the dataset is made: ``skipped`` says what, and why. ``classes`` are the names of the classes, empty without labels.
    Nothing usable at all is an :class:`ImagesError`, a file that breaks later an :class:`UnusableImage`.

    Args:
        source: Where the images come from.
        resolution: Side of squares in pixels, or height and width ``(H, W)``.
        crop: ``"center"`` takes the largest centred piece, ``"random"`` one drawn from ``(seed, i)``, perhaps flipped;
            ``"adm"`` is the centre crop of ADM's reference batches (squares only).
        check: ``"decode"`` decodes every file beforehand; ``"header"`` reads sizes only, some fifteen times faster;
            ``"none"`` opens nothing. ``None``: as the source would have it.
        progress: Show a progress bar while checking more than 200 files.
        world: Processes that all open these images: the main one checks, and tells the others what it found.
        replace: Give the next usable image, with its label, for one that turns out to be broken, and warn: for
            training, which one file out of a million must not end. By default that is an error.
        allow_empty: Let a class have no usable image.
    """

    def __init__(
        self,
        source: Source,
        resolution: Resolution,
        crop: Crop = "center",
        seed: int = 0,
        check: Check | None = None,
        progress: bool = True,
        world: World | None = None,
        replace: bool = False,
        allow_empty: bool = False,
    ) -> None:
        resolution = parse_resolution(resolution)
        check_seed(seed)
        check = check or ("decode" if len(source) <= source.decoded else "header")
        for what, value, known in (("crop", crop, CROPS), ("check", check, CHECKS)):
            if value not in known:
                raise ImagesError(f"unknown {what} {value!r}, choose one of {', '.join(known)}")
        if crop == "adm" and isinstance(resolution, tuple):
            raise ImagesError(f"crop 'adm' takes squares, not {say_size(resolution)}")
        self.source, self.where, self.classes = source, source.where, source.classes
        self.resolution, self.crop, self.seed, self.replace = resolution, crop, seed, replace
        self.skipped, self._kept = tuple(source.skipped), np.arange(len(source))
        self._too_small: tuple[tuple[int, int], ...] = ()  # sizes of those that a smaller resolution would take
        if self.classes:
            self._leave_out(self._find_loose_files())
        if check != "none":
            self._leave_out(self._find_faults(check, progress, world))
        self._refuse_nothing()
        if not allow_empty:
            self._refuse_empty_classes()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def targets(self) -> tuple[int, ...]:
        """Class number of each item; empty without labels."""
        return tuple(self.source.targets[self._kept].tolist()) if self.classes else ()

    def name(self, index: int) -> str:
        """What an item is called: a path below the folder, a shard's member, a row."""
        return self.source.name(int(self._kept[index]))

    def place(self, index: int) -> str:
        """Where an item is, for errors."""
        return self.source.place(int(self._kept[index]))

    def pixels(self, index: int) -> np.ndarray:
        """The whole image of an item as uint8 ``(H, W, 3)``; an :class:`UnusableImage` says where it is, and why."""
        try:
            return self._read(index)
        except Exception as error:  # decoders raise anything from SyntaxError to struct.error on a broken file
            raise UnusableImage(f"{self.place(index)}: {say_why(error)}") from error

    def why_unusable(self, index: int, check: Check = "decode") -> Fault | None:
        """Open an item, keep nothing of it, and say why it cannot be used, or ``None`` if it can."""
        try:
            self._read(index, check)
        except Exception as error:  # as above
            return Fault(say_why(error), error.size if isinstance(error, UnusableImage) else None)
        return None

    def _read(self, index: int, check: Check = "decode") -> np.ndarray | None:
        file = self.source.open(int(self._kept[index]))
        pixels, oblong = read_rgb(file) if check == "decode" else None, isinstance(self.resolution, tuple)
        self._refuse_small(*(read_size(file, upright=oblong) if pixels is None else pixels.shape[:2]))
        return pixels

    def _refuse_small(self, height: int, width: int) -> None:
        if height < (least := sides(self.resolution))[0] or width < least[1]:
            oblong = isinstance(self.resolution, tuple)
            wanted = f"{least[1]} x {least[0]}" if oblong else self.resolution  # as sizes of images: width first
            raise UnusableImage(f"{width} x {height} pixels, smaller than the resolution {wanted}", (height, width))

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int]:
        index = check_index(index, len(self))
        found, pixels = self._find_usable(index) if self.replace else (index, self.pixels(index))
        image = self._cut(pixels, index)
        return (image, int(self.source.targets[self._kept[found]])) if self.classes else image

    def _cut(self, pixels: np.ndarray, index: int) -> Tensor:
        if self.crop == "random":
            return random_crop(pixels, self.resolution, np.random.default_rng([self.seed, index]), flip=True)
        return (adm_crop if self.crop == "adm" else center_crop)(pixels, self.resolution)

    def _find_usable(self, index: int) -> tuple[int, np.ndarray]:
        """The item or, where it is broken, the next one that is not."""
        article = f"a{'n' * (self.source.item[0] in 'aeiou')} {self.source.item}"
        for later in range(len(self)):
            found = (index + later) % len(self)
            try:
                return found, self.pixels(found)
            except UnusableImage as error:
                if not later:
                    said = f"{article} is left out of the training, the next one taken for it: {error}"
                    warnings.warn(said, DiffusabWarning, stacklevel=3)
        raise ImagesError(f"no {self.source.item} in {self.where} can be used any more")

    def pick(self, indices: Sequence[int]) -> StoredImages:
        """The same store with these items only, in this order; item ``i`` of it draws its crop from ``(seed, i)``."""
        picked = copy.copy(self)
        picked._kept = self._kept[list(indices)]
        return picked

    def draw(self, limit: int, seed: int, progress: bool = False) -> StoredImages:
        """The same store with at most ``limit`` usable items, drawn by the seed; no more are opened than that.

        Items keep their order. What was opened in vain joins :attr:`skipped`; that all was is an :class:`ImagesError`.
        """
        return self._take(iter(np.random.default_rng(seed).permutation(len(self)).tolist()), limit, progress)

    def first(self, limit: int) -> StoredImages:
        """The same store with its first ``limit`` usable items, at most; otherwise as :meth:`draw`."""
        return self._take(iter(range(len(self))), limit, progress=False)

    def _take(self, order: Iterator[int], limit: int, progress: bool) -> StoredImages:
        usable, faults = [], {}
        bar = tqdm(desc=f"opening {self.where}", total=min(limit, len(self)), disable=not progress)
        with bar, ThreadPoolExecutor(THREADS) as pool:
            # As many at a time as are still missing, so that the choice does not depend on which thread is first.
            while some := list(islice(order, limit - len(usable))):
                faults |= self._check(some, "decode", pool)
                usable += [i for i in some if i not in faults]
                bar.update(len(usable) - bar.n)
        drawn = self.pick(sorted(usable))
        drawn._tell((self.name(i), faults[i]) for i in sorted(faults))
        drawn._refuse_nothing()
        return drawn

    def digest(self) -> str:
        """SHA-256 of names, sizes and pieces of the contents of all items, some 6 kB of each; see :func:`trace_of`."""
        found, length = hashlib.sha256(), len(self)
        with (
            tqdm(desc="telling images apart", total=length, disable=length <= 4096 or None) as bar,
            ThreadPoolExecutor(THREADS) as pool,
        ):
            for start in range(0, length, _PIECE):
                some = range(start, min(start + _PIECE, length))
                for i, trace in zip(some, pool.map(self._trace, some), strict=True):
                    found.update(f"{self.name(i)}\0".encode() + hashlib.sha256(trace).digest())
                bar.update(len(some))
        return found.hexdigest()

    def _trace(self, index: int) -> bytes:
        try:
            return self.source.trace(int(self._kept[index]))
        except Exception as error:  # what cannot be opened is told when it is wanted
            return say_why(error).encode()

    def stored_as(self, limit: int = 64) -> dict[str, int]:
        """How items are stored, and how many of ``limit`` of them, evenly chosen: ``{"JPEG 75": 60, "PNG": 4}``.

        A JPEG's number is the quality that the standard's table of brightness would have about the same coarseness at.
        """
        if self.source.stored is not None:
            return {self.source.stored: len(self)}
        step = max(1, len(self) // limit)
        with ThreadPoolExecutor(THREADS) as pool:
            found = Counter(pool.map(self._find_format, range(0, len(self), step)))
        found.pop(None, None)
        return dict(found.most_common())

    def _find_format(self, index: int) -> str | None:
        try:
            with Image.open(self.source.open(int(self._kept[index]))) as image:
                tables = getattr(image, "quantization", None)
                return f"JPEG {_guess_quality(tables[0])}" if image.format == "JPEG" and tables else image.format
        except Exception:  # as above
            return None

    def _check(self, indices: Iterable[int], check: Check, pool: ThreadPoolExecutor) -> dict[int, Fault]:
        """Which of these items cannot be used, and why."""
        faults = pool.map(partial(self.why_unusable, check=check), indices)
        return {i: fault for i, fault in zip(indices, faults, strict=True) if fault is not None}

    def _find_faults(self, check: Check, progress: bool, world: World | None) -> dict[int, Fault]:
        if world is not None:
            from diffusab_core.training.world import from_main  # loads what one process does not need

        main, faults = world is None or world.is_main, {}
        hide = not (progress and main and len(self) > 200)
        bar = tqdm(desc=f"checking {self.where}", total=len(self), disable=hide)
        with bar, ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(self), _PIECE):
                some = range(start, min(start + _PIECE, len(self)))
                found = self._check(some, check, pool) if main else {}
                # Piece by piece, so that no process waits long for the main one.
                faults |= found if world is None else from_main(found, world)
                bar.update(len(some))
        return faults

    def _find_loose_files(self) -> dict[int, Fault]:
        """Files without a class: a list or a licence is left out, an image is an error."""
        loose = {i: self.why_unusable(i, "header") for i in np.flatnonzero(self.source.targets < 0).tolist()}
        for i in (i for i, fault in loose.items() if fault is None):
            raise ImagesError(self.source.say_unlabelled(i))
        return loose

    def _leave_out(self, faults: dict[int, Fault]) -> None:
        self._tell((self.name(i), fault) for i, fault in faults.items())
        self._kept = np.delete(self._kept, list(faults))

    def _tell(self, faults: Iterable[tuple[str, Fault]]) -> None:
        """Add what cannot be used, with its name, to what was left out."""
        faults = list(faults)
        self.skipped += tuple(Skipped(name, fault.reason) for name, fault in faults)
        self._too_small += tuple(fault.size for _, fault in faults if fault.size is not None)

    def _refuse_nothing(self) -> None:
        if len(self):
            return
        reasons = [f"{skip.name}: {skip.reason}" for skip in self.skipped[:3]] or [f"it holds no {self.source.unit}"]
        reasons += [f"and {len(self.skipped) - 3} more"] if len(self.skipped) > 3 else []
        said = f"no usable {self.source.item} in {self.where}: {'; '.join(reasons)}"
        if not self._too_small or len(self._too_small) < len(self.skipped):
            raise ImagesError(said)
        if isinstance(self.resolution, tuple):  # of pieces that are no squares there is no one that is largest
            raise ImagesError(f"{said}; a smaller resolution takes them")
        side = min(map(min, self._too_small))
        raise ImagesError(f"{said}; a resolution of {side} takes them").at_shell(
            f"{said}; --resolution {side} takes them"
        )

    def _refuse_empty_classes(self) -> None:
        """Folders of classes are there because they hold something; numbers need not all occur."""
        if not self.source.class_folders:
            return
        for number in sorted({*range(len(self.classes))} - {*self.targets}):
            name = self.source.class_folders[number]
            reasons = [f"{s.name}: {s.reason}" for s in self.skipped if s.name.startswith(f"{name}/")]
            why = [*reasons, "it holds no files"][0]
            advice = "fill or remove it, or let classes be empty with allow_empty (--allow-empty)"
            raise ImagesError(f"the class folder {self.where}{os.sep}{name} has no usable image ({why}); {advice}")


def trace_of(file: BinaryIO, start: int, size: int, piece: int = 2048) -> bytes:
    """The size of a file that lies in another from ``start`` on, and its beginning, middle and end."""
    found = [str(size).encode()]
    for offset in sorted({0, max(0, size // 2 - piece // 2), max(0, size - piece)}):
        file.seek(start + offset)
        found.append(file.read(min(piece, size - offset)))
    return b"\0".join(found)


def _guess_quality(table: Sequence[int]) -> int:
    """libjpeg's quality, 1 to 100, from the mean of a table of quantisation; the standard's, quality 50, has 57.6."""
    scale = 100 * sum(table) / len(table) / 57.625
    return max(1, min(100, round((200 - scale) / 2 if scale <= 100 else 5000 / scale)))


def say_why(error: Exception) -> str:
    """An error on reading a file as the reason why it is left out."""
    if isinstance(error, UnusableImage):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({error.strerror})"
    return f"cannot be decoded ({type(error).__name__}: {error})"


class Folder(Source):
    r"""Every file below a folder, in sorted order.

    Links to folders are followed, and no folder is read twice. Hidden files and folders, and those of a system such as
    ``@eaDir`` or ``__MACOSX``, are no images and no classes: ``skipped`` says so.

    With ``labels`` the class of an image is the first folder below the root, ``root/n01440764/name.JPEG`` as ImageNet
    has it, numbered in sorted order, as torchvision does; or what :data:`LABELS_FILE` in the root says, as EDM and
    StyleGAN have it.
    """

    unit, decoded = "files", 4096

    def __init__(self, path: str | os.PathLike, labels: bool = False) -> None:
        self.root, self.where = Path(path), printable(str(Path(path)))
        if not self.root.exists():
            raise ImagesNotFound(f"there is no folder {self.root}{guess_place(self.root)}")
        if not self.root.is_dir():
            raise ImagesError(f"{self.root} is a file, give the folder that holds the images")
        files, self.skipped = _find_files(str(self.root))
        self.files = sorted(files, key=lambda file: file.split(os.sep))  # part by part, as paths are
        if labels and (self.root / LABELS_FILE).is_file():
            told = (self.root / LABELS_FILE).read_bytes()
            self.set_labels(*read_labels(told, map(self.name, range(len(self))), f"{self.where}{os.sep}{LABELS_FILE}"))
        elif labels:
            folders = (entry.name for entry in os.scandir(self.root) if entry.is_dir() and not is_hidden(entry.name))
            numbers = {name: i for i, name in enumerate(sorted(folders))}
            if not numbers:
                raise ImagesError(f"{self.root} holds no folders, so there are no labels: images lie in the folder of "
                                  f"their class, as in {_EXAMPLE}, or {LABELS_FILE} lists them")  # fmt: skip
            self.class_folders = tuple(map(printable, numbers))
            targets = [numbers.get(file.partition(os.sep)[0] if os.sep in file else "", -1) for file in self.files]
            self.set_labels(targets, self.class_folders)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return printable(self.files[index].replace(os.sep, "/"))

    def place(self, index: int) -> str:
        return printable(self.path(index))

    def path(self, index: int) -> str:
        """Where a file is, byte for byte; only for opening it."""
        return os.path.join(self.root, self.files[index])

    def say_unlabelled(self, index: int) -> str:
        if not self.class_folders:
            return f"{self.place(index)} has no label in {LABELS_FILE}"
        return (f"{self.place(index)} lies in {self.where} itself and so has no class; with labels every image lies in "
                f"the folder of its class, as in {_EXAMPLE}")  # fmt: skip

    def open(self, index: int) -> str:
        path = self.path(index)
        if os.stat(path).st_size == 0:
            raise UnusableImage("the file is empty")
        return path


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a folder that a system leaves among images."""
    return (name.startswith(".") and name not in (".", "..")) or name.casefold() in _SYSTEM_FOLDERS


def _find_files(root: str) -> tuple[list[str], list[Skipped]]:
    """The files below a folder, named from there, and what is left out: hidden ones, loops, what cannot be read."""
    files, skipped, seen, starts = [], [], set(), [root]
    length, around = len(os.path.join(root, "")), os.path.join(os.path.realpath(root), "")

    def leave_out(path: str, reason: str) -> None:
        skipped.append(Skipped(printable(path[length:].replace(os.sep, "/")), reason))

    def leave_out_unread(error: OSError) -> None:
        leave_out(os.path.join(error.filename, ""), f"cannot be read ({error.strerror})")

    while starts:  # links after all that lies here itself, so that nothing is read twice
        for folder, folders, names in os.walk(starts.pop(0), onerror=leave_out_unread):
            real = os.path.realpath(folder)
            if real in seen or (folder != root and around.startswith(os.path.join(real, ""))):
                leave_out(os.path.join(folder, ""), "a link to a folder whose files are here already")
                folders.clear()
                continue
            seen.add(real)
            for name in sorted(filter(is_hidden, folders)):
                leave_out(os.path.join(folder, name, ""), "a hidden folder, or one of the system")
            for name in sorted(filter(is_hidden, names)):
                leave_out(os.path.join(folder, name), "a hidden file")
            shown = [os.path.join(folder, name) for name in sorted(folders) if not is_hidden(name)]
            starts += filter(os.path.islink, shown)
            folders[:] = [os.path.basename(path) for path in shown if not os.path.islink(path)]
            files += [os.path.join(folder, name)[length:] for name in names if not is_hidden(name)]
    return files, skipped


def says_no_labels(told: bytes) -> bool:
    """Whether a ``dataset.json`` has ``"labels": null``, which EDM writes for images without classes."""
    try:
        return json.loads(told)["labels"] is None
    except (ValueError, KeyError, TypeError):
        return False  # read_labels says what is wrong


def read_labels(told: bytes, names: Iterable[str], where: str) -> tuple[list[int], None]:
    """Class numbers of these files from EDM's and StyleGAN's ``dataset.json``; -1 of one that it does not list.

    It holds ``{"labels": [["00000/img00000000.png", 6], ...]}``. Labels that are no whole numbers, or none at all, are
    an :class:`~diffusab_core.data.places.ImagesError`.
    """
    try:
        pairs = json.loads(told)["labels"]
        numbers = {name.replace("\\", "/"): number for name, number in pairs or ()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImagesError(f"{where} is no JSON of labels ({type(error).__name__}: {error})") from error
    if not numbers:
        raise ImagesError(f"{where} holds no labels")
    for name, number in numbers.items():
        if type(number) is not int or number < 0:
            raise ImagesError(f"{where}: the label of {name} must be the number of a class, it is {number!r}")
    return [numbers.get(name, -1) for name in names], None


class ImageFolder(StoredImages):
    """Every usable image below a :class:`Folder`; other arguments are those of :class:`StoredImages`.

    By default all of up to 4096 files are decoded beforehand; of more, only headers are read. No such folder is an
    :class:`ImagesNotFound`; a file instead, or no folders of classes for labels, an :class:`ImagesError`.
    """

    def __init__(
        self, path: str | Path, resolution: Resolution, *more: Any, labels: bool = False, **named: Any
    ) -> None:
        super().__init__(Folder(path, labels), resolution, *more, **named)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The usable files."""
        return tuple(Path(self.source.path(i)) for i in self._kept.tolist())


def as_file(data: bytes, size: int) -> io.BytesIO:
    """Bytes as an open file; an :class:`UnusableImage` if there are none, or fewer than ``size``."""
    if not size:
        raise UnusableImage("the file is empty")
    if len(data) < size:
        raise UnusableImage(f"only {len(data)} of its {size} bytes are there")
    return io.BytesIO(data)
