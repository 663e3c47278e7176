"""Folders of images, with labels where they are laid out as ImageNet is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from diffusab_core.data.stored import Check, Crop, Skipped, StoredImages, UnusableImage


class ImageFolder(StoredImages):
    r"""Every usable image below a folder, in sorted order, as squares of one size.

    All files are opened once when the dataset is made, so that a broken one is known before a long run and not in the
    middle of it; what cannot be used is skipped and listed in :attr:`skipped` with the reason. Links to folders are
    not followed. How files are converted is described at :func:`~diffusab_core.data.stored.read_rgb`. Images are never
    enlarged.

    With ``labels`` the folder is laid out as ImageNet is, ``root/n01440764/name.JPEG``: the class of an image is the
    first folder below the root, numbered in sorted order, as torchvision does.

    Args:
        path: The folder, searched recursively.
        resolution: Side of the square items in pixels.
        crop: ``"center"`` takes the largest centred square; ``"random"`` draws scale, position and flip from
            ``(seed, i)`` as :class:`~diffusab_core.data.Photos` does.
        seed: Seed of random crops.
        progress: Show a progress bar while checking more than 200 files.
        labels: Whether an item is ``(image, class number)`` or only the image.
        check: ``"decode"`` decodes every file beforehand; ``"header"`` reads sizes only, some fifteen times
            faster, and a file whose pixels are broken is an error when its turn comes;
            ``"none"`` opens nothing, and even a file that is no image is an error when its turn comes.

    Attributes:
        skipped: The files that are not usable, each with its reason.
        classes: Names of the class folders, sorted; empty without ``labels``.
        targets: Class number of each item; empty without ``labels``.

    Raises:
        FileNotFoundError: There is no such folder.
        NotADirectoryError: ``path`` is a file.
        ValueError: Nothing usable remains, and the message gives the first reasons; or labels were asked for and
            there are no class folders, one of them has no usable image, or an image lies outside them.
        UnusableImage: From an item: the file is broken, which only decoding it has shown.
    """

    unit = "files"

    def __init__(
        self,
        path: str | os.PathLike,
        resolution: int,
        crop: Crop = "center",
        seed: int = 0,
        progress: bool = True,
        labels: bool = False,
        check: Check = "decode",
    ) -> None:
        super().__init__(str(Path(path)), resolution, crop, seed, labels)
        self.root = Path(path)
        self._files = _files_below(self.root)
        if labels:
            self.classes = _class_folders(self.root)
            self._leave_out_loose_files()
        self._check(check, progress)
        if labels:
            number = {name: i for i, name in enumerate(self.classes)}
            self.targets = tuple(number[file.partition(os.sep)[0]] for file in self._files)
            self._refuse_empty_classes()

    def __len__(self) -> int:
        return len(self._files)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The usable files, made anew at each call: as strings a million of them take less than half the memory."""
        return tuple(self.root / file for file in self._files)

    def name(self, index: int) -> str:
        """Path of a file below the folder, with forward slashes."""
        return Path(self._files[index]).as_posix()

    def _open(self, index: int) -> str:
        path = os.path.join(self.root, self._files[index])
        if os.stat(path).st_size == 0:
            raise UnusableImage("the file is empty")
        return path

    def _restrict(self, kept: Sequence[int]) -> None:
        self._files = [self._files[i] for i in kept]

    def _place(self, index: int) -> str:
        return str(self.root / self._files[index])

    def _skipped_name(self, index: int) -> Path:
        return self.root / self._files[index]

    def _within(self, name: Path) -> Path:
        return name.relative_to(self.root)

    def _leave_out_loose_files(self) -> None:
        """Files beside the class folders: a list or a licence is left out, an image is an error."""
        loose = {i: self.why_unusable(i, "header") for i, file in enumerate(self._files) if os.sep not in file}
        for i, reason in loose.items():
            if reason is None:
                raise ValueError(
                    f"{self._place(i)} lies in {self.root} itself and so has no class; with labels every image lies in "
                    f"the folder of its class, as in {self.root / 'n01440764' / self._files[i]}"
                )
        if loose:
            skipped = [Skipped(self._skipped_name(i), reason) for i, reason in loose.items()]
            self._forget_all_but([i for i in range(len(self)) if i not in loose], skipped)

    def _refuse_empty_classes(self) -> None:
        used = set(self.targets)
        for number, name in enumerate(self.classes):
            if number not in used:
                folder = self.root / name
                reasons = [skip for skip in self.skipped if folder in skip.path.parents]
                why = f"{self._within(reasons[0].path)}: {reasons[0].reason}" if reasons else "it holds no files"
                why = "it is a link, and links to folders are not followed" if folder.is_symlink() else why
                raise ValueError(f"the class folder {folder} has no usable image ({why}); fill or remove it")


def _files_below(root: Path) -> list[str]:
    """Paths below ``root``, sorted part by part, as ``Path`` objects are."""
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {root}")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is a file, give the folder that holds the images")
    start = len(os.path.join(root, ""))
    files = [os.path.join(folder, name)[start:] for folder, _, names in os.walk(root) for name in names]
    return sorted(files, key=lambda file: file.split(os.sep))


def _class_folders(root: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in os.scandir(root) if entry.is_dir()))
    if not names:
        raise ValueError(
            f"{root} holds no folders, so there are no labels to read: they are the names of the folders that images "
            f"lie in, as in {root / 'n01440764' / 'name.JPEG'}"
        )
    return names
