"""What an autoencoder is trained on: images that are opened, leaves that are drawn once, and a mixture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from diffusab_core import data
from diffusab_core.data.open import open_images
from diffusab_core.data.places import WORDS
from diffusab_core.data.stores import StoredImages
from diffusab_core.experiments.cards import MIXTURE
from diffusab_core.files import SettingsError, writing


class Mixture(Dataset):
    """Stored leaves at even places, over and over, and ever new crops of the training photographs at odd ones.

    Drawing a leaf takes longer than a step of training, so leaves are drawn once and seen again.
    """

    def __init__(self, leaves: Tensor, length: int, seed: int) -> None:
        self.leaves, self.length = leaves, length  # uint8 (L, 3, R, R)
        self.crops = data.Photos(leaves.shape[-1], "train", seed=seed, length=max(1, length // 2))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        half, odd = divmod(index, 2)
        return self.crops[half] if odd else self.leaves[half % len(self.leaves)].float() / 127.5 - 1

    def name(self, index: int) -> str:
        return self.crops.source(index // 2) if index % 2 else f"leaves {index // 2 % len(self.leaves)}"


@dataclass(frozen=True)
class Again(Dataset):
    """Stored clips, ``(count, 3, T, R, R)`` with 8 bits, over and over."""

    clips: Tensor
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        return self.clips[index % len(self.clips)].float() / 127.5 - 1


def draw_leaves(
    resolution: int, count: int, cache: Path | None, workers: int = 0, progress: bool = True,
    frames: int | None = None, seed: int = 0,
) -> Tensor:  # fmt: skip
    """The dead leaves of a seed with 8 bits, ``(count, 3, R, R)``: from ``cache``, or drawn and put there.

    With ``frames`` they move: ``(count, 3, T, R, R)``.
    """
    kind = f"leaves-{count}-{resolution}" + (f"x{frames}-{seed}" if frames is not None else "")
    file = None if cache is None else cache / f"{kind}.pt"
    if file is not None and file.is_file():
        return torch.load(file, weights_only=True)
    leaves = open_images("leaves", resolution, seed=seed, length=count, frames=frames)
    loader = DataLoader(leaves, batch_size=16, num_workers=workers)
    bar = tqdm(loader, desc="drawing leaves", unit="batch", disable=not progress)
    drawn = torch.cat([((batch + 1) * 127.5).round().byte() for batch in bar])
    if file is not None:
        with writing(file) as partial:
            torch.save(drawn, partial)
    return drawn


def open_training_images(
    images: str, resolution: int, length: int, seed: int, *, leaves: int = 4096, kept_side: int = 0,
    cache: Path | None = None, workers: int = 0, progress: bool = True, choices: Mapping[str, Any] = {},
) -> Dataset:  # fmt: skip
    """What an autoencoder is trained on: :data:`MIXTURE`, or what :func:`~diffusab_core.data.open_images` opens.

    Args:
        length: How many images the run takes; of what is made on demand none is seen twice.
        kept_side: Of stored images, see :class:`~.pretraining.Pretraining`.
        cache: Folder for leaves that are drawn once.
        choices: See :class:`~diffusab_core.data.places.Choosing`.
    """
    if images == MIXTURE and choices:
        raise SettingsError(f"{next(iter(choices))} is no option for {MIXTURE}")
    if images == "leaves" and "frames" in choices:
        # Of every seed the same clips, as drawing one takes as long as a step.
        return Again(draw_leaves(resolution, leaves, cache, workers, progress, choices["frames"]), length)
    if images == MIXTURE:
        return Mixture(draw_leaves(resolution, leaves, cache, workers, progress), length, seed)
    more: dict[str, Any] = {"length": length} if images in WORDS else {"replace": True}
    if kept_side and images not in WORDS:
        more = {"check": "header"}  # the pool decodes them all, and says which one it cannot
    opened = open_images(images, resolution, crop="random", seed=seed, progress=progress, **more | dict(choices))
    if kept_side and isinstance(opened, StoredImages):
        return data.Pool(opened, length, kept_side, seed, progress)
    return opened
