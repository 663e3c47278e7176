"""Encoding of images and clips: the posterior of a batch, and latents of a dataset, encoded when they are asked for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from diffusab_core.autoencoders import Autoencoder, Posterior
from diffusab_core.data.pixels import UnusableImage
from diffusab_core.latents.base import Latents, TensorLatents, check_labels
from diffusab_core.latents.identity import LatentsError, images_identity, parts, weights_digest
from diffusab_core.spectrum.radial import radial_split

PRECISIONS = ("fp32", "bf16")


class ImageBatches(Dataset):
    """Batches of a dataset by the places of their items: ``(n, 3, H, W)`` or ``(n, 3, T, H, W)``, and class numbers.

    Items are an image or a clip, or a pair of it and its class number, all of the shape of the first that is usable,
    whose place is ``first``.
    """

    def __init__(self, dataset: Dataset) -> None:
        if len(dataset) < 1:
            raise LatentsError("there are no images: the dataset is empty")
        self.dataset = dataset
        self.first, image, label = self._find_first()
        self.shape, self.labelled = tuple(image.shape), label is not None
        if len(self.shape) not in (3, 4) or self.shape[0] != 3:
            raise LatentsError(f"items must be images (3, H, W) or clips (3, T, H, W), got shape {self.shape}")

    def _find_first(self) -> tuple[int, Tensor, int | None]:
        faults = []
        for i in range(len(self.dataset)):
            try:
                return i, *parts(self.dataset[i])
            except UnusableImage as error:
                faults.append(str(error))
        raise LatentsError(f"none of {len(faults)} images can be used; the first is {faults[0]}")

    def __getitem__(self, places: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        return self._stack(places, [parts(self.dataset[i]) for i in places])

    def usable(self, places: Sequence[int]) -> tuple[list[int], Tensor | None, Tensor | None, list[list[Any]]]:
        """The batch without what cannot be used: places, images and class numbers of the others, and what was left out.

        That is a list of place, name and reason; without any image left there is no tensor.
        """
        kept, items, left_out = [], [], []
        for i in places:
            try:
                items.append(parts(self.dataset[i]))
                kept.append(i)
            except UnusableImage as error:
                name = getattr(self.dataset, "name", str)(i)
                left_out.append([i, name, str(error).rpartition(f"{name}: ")[2]])
        return kept, *(self._stack(kept, items) if kept else (None, None)), left_out

    def _stack(self, places: Sequence[int], items: Sequence[tuple[Tensor, int | None]]) -> tuple[Tensor, Tensor | None]:
        for i, (image, _) in zip(places, items, strict=True):
            if image.shape != self.shape:
                said = f"{self.name(i)} has shape {tuple(image.shape)}, the first one {self.shape}"
                raise LatentsError(said)
        labels = torch.tensor([label for _, label in items]) if self.labelled else None
        return torch.stack([image for image, _ in items]), labels

    def name(self, index: int) -> str:
        """What an item is called, for messages."""
        name = getattr(self.dataset, "name", None) or getattr(self.dataset, "source", None)
        return f"item {index} ({name(index)})" if callable(name) else f"item {index}"

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; none without labels, a :class:`LatentsError` where they are not known."""
        names = getattr(self.dataset, "classes", None) or getattr(self.dataset, "class_names", None)
        if self.labelled and not names:
            raise LatentsError(f"the {type(self.dataset).__name__} has labels and no names for them; give class_names")
        return tuple(map(str, names)) if self.labelled else ()


class EncodedLatents(Latents):
    """Latents of a dataset's images, encoded each time they are asked for.

    An empty dataset, odd items, and classes without names are a :class:`LatentsError`.

    Args:
        autoencoder: On its device, in evaluation mode.
        dataset: Map-style; for its items see :class:`ImageBatches`.
        batch_size: Images encoded at a time.
        precision: ``"fp32"``, or ``"bf16"`` for autocast.
        class_names: Names of the classes, where the dataset does not know them; ``()`` passes labels over.
        identity: Entries that are known better than :func:`~diffusab_core.latents.identity.images_identity`'s.
        low_pass: See :func:`without_high_frequencies`.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        dataset: Dataset,
        *,
        batch_size: int = 16,
        precision: str = "fp32",
        class_names: Sequence[str] | None = None,
        identity: dict[str, Any] | None = None,
        low_pass: float | None = None,
    ) -> None:
        if batch_size < 1:
            raise LatentsError(f"batch_size must be at least 1, got {batch_size}")
        check_precision(precision)
        self.images = ImageBatches(dataset)
        _, *frames, height, width = self.images.shape
        shape = autoencoder.latent_shape(height, width, *frames)
        names = self.images.class_names() if class_names is None else class_names
        made = {
            "autoencoder": autoencoder.name,
            "weights": weights_digest(autoencoder),
            **images_identity(dataset, (identity or {}).get("images_found")),
        }
        made |= {"precision": precision, "count": len(dataset), **(identity or {})}
        made |= {} if low_pass is None else {"low_pass": low_pass}
        super().__init__(len(dataset), shape, names, made, flips=True)
        self.autoencoder, self.batch_size, self.precision, self.low_pass = autoencoder, batch_size, precision, low_pass

    def low_passed(self, radius: float) -> EncodedLatents:
        """The same images without their frequencies beyond a radius, normalised as these."""
        other = copy.copy(self)
        other.statistics, other.identity = self.statistics, self.identity | {"low_pass": radius}
        other.low_pass = radius
        return other

    def encode(self, x: Tensor, flipped: bool, places: Sequence[int]) -> Posterior:
        """The posterior of these images, or of their mirror images, after the low-pass."""
        x = without_high_frequencies(x.flip(-1) if flipped else x, self.low_pass)
        return encode(self.autoencoder, x, self.precision, [self.images.name(i) for i in places])

    def check_labels(self, labels: Tensor | None, places: Sequence[int]) -> Tensor | None:
        """Class numbers of a batch, ``None`` without names for them; a :class:`LatentsError` names a wrong one."""
        labels = labels if self.num_classes else None
        check_labels(labels, self.num_classes, f"{self.images.name(places[0])} to {self.images.name(places[-1])}")
        return labels

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        found = []
        for start in range(0, len(indices), self.batch_size):
            some = indices[start : start + self.batch_size]
            x, labels = self.images[some]
            posterior = self.encode(x, flipped, some)
            found.append((posterior.mean, posterior.std, self.check_labels(labels, some)))
        return tuple(None if a[0] is None else torch.cat(a) for a in zip(*found, strict=True))


def check_precision(precision: str) -> None:
    """Refuse a precision that is not in :data:`PRECISIONS`."""
    if precision not in PRECISIONS:
        raise LatentsError(f"precision is one of {', '.join(PRECISIONS)}, got {precision!r}")


def without_high_frequencies(x: Tensor, radius: float | None) -> Tensor:
    """Images or clips ``(..., H, W)`` without what lies beyond a radius in cycles per pixel, not clamped; or whole."""
    return x if radius is None else radial_split(x, radius)[0].to(x.dtype)


@torch.no_grad()
def encode(autoencoder: Autoencoder, x: Tensor, precision: str = "fp32", names: Sequence[str] = ()) -> Posterior:
    """The posterior of a batch, float32 on the CPU; a :class:`LatentsError` names an image whose is not finite."""
    x = autoencoder.place(x)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        posterior = autoencoder.encode(x)
    mean, std = posterior.mean.float().cpu(), posterior.std.float().cpu()
    good = (mean.isfinite() & std.isfinite()).flatten(1).all(1)
    if not good.all():
        i = int((~good).nonzero()[0])
        cause = "image itself" if not x[i].isfinite().all() else "autoencoder; try precision fp32"
        what = names[i] if i < len(names) else f"number {i} of the batch"
        raise LatentsError(f"{autoencoder.name}: the latent of {what} is not finite, because of the {cause}")
    return Posterior(mean, std)


def encode_all(autoencoder: Autoencoder, images: Tensor, batch_size: int = 64) -> TensorLatents:
    """Images ``(N, 3, H, W)`` or clips that fit into memory, encoded batch by batch; raises as :func:`encode`."""
    found = [encode(autoencoder, batch) for batch in images.split(batch_size)]
    return TensorLatents(torch.cat([p.mean for p in found]), torch.cat([p.std for p in found]))
