r"""What a denoiser is trained on: the posteriors of latents, wherever they lie, and how they are normalised.

A denoiser learns :math:`(z - m) / s`, where :math:`z = \mu + \sigma \epsilon` is a sample of the posterior, drawn anew
at each step, and :math:`m, s` are each channel's mean and standard deviation over 2048 such samples (Skorokhodov et al.
2025 and their code). So what is kept of an image is :math:`\mu` and :math:`\sigma`, never a sample.

:class:`EncodedLatents` encodes when asked, :class:`TensorLatents` holds tensors, and
:class:`~diffusab_core.latent_cache.LatentCache` reads what :func:`~diffusab_core.latent_cache.extract` has stored.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from diffusab_core.autoencoders import Autoencoder, Posterior
from diffusab_core.latent_identity import (
    LatentsError,
    images_identity,
    item_name,
    names_of,
    parts,
    tensors_digest,
    weights_digest,
)
from diffusab_core.radial import radial_split
from diffusab_core.training import generator_at

#: How many posterior samples the statistics of a channel are taken over, where there are as many.
STATISTICS_SAMPLES = 2048
PRECISIONS = ("fp32", "bf16")
_CHUNK = 64


class Latents:
    r"""Posteriors of latents by index; what a subclass knows is in the constructor and in :meth:`_read`.

    Attributes:
        shape: Of one latent, ``(C, h, w)`` or, of a clip, ``(C, t, h, w)``.
        num_classes: How many classes; 0 without labels.
        class_names: Their names in the order of their numbers.
        identity: Plain values that say what makes these latents what they are: the autoencoder's name and a digest of
            its weights, the images, the resolution, the number. Two with equal identities hold equal latents.
    """

    def __init__(
        self, count: int, shape: Sequence[int], class_names: Sequence[str], identity: dict[str, Any], flips: bool
    ) -> None:
        if count < 1:
            raise LatentsError("there are no latents: the dataset is empty")
        self._count = count
        self.shape = tuple(shape)
        self.class_names = tuple(class_names)
        self.num_classes = len(self.class_names)
        self.identity = identity
        self.flips = flips

    def __len__(self) -> int:
        return self._count

    def at(self, step: int) -> Latents:
        """The latents to train on at a step: these; a curriculum (:mod:`diffusab_core.curriculum`) feeds others.

        Only posteriors are taken from them. How they are normalised, and all else, stays as it is here.
        """
        return self

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mean, std and labels of some items, all of them mirrored or none."""
        raise NotImplementedError

    def posterior(
        self, indices: Sequence[int], flipped: Sequence[bool] | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        r"""The posteriors of some items, in the order of ``indices``.

        Args:
            indices: Which items, from 0 to ``len(self) - 1``.
            flipped: For each of them, whether to take the latent of the mirrored image (which is not the mirrored
                latent); ``None``: none of them.

        Returns:
            Mean ``(N, *shape)`` and standard deviation ``(N, *shape)``, float32, and class numbers ``(N,)``, int64, or
            ``None`` without labels; all on the CPU.

        Raises:
            IndexError: There is no such item.
            LatentsError: Mirrored images are not stored; an item cannot be encoded.
        """
        indices = [int(i) for i in indices]
        outside = next((i for i in indices if not 0 <= i < self._count), None)
        if outside is not None:
            raise IndexError(f"item {outside} is outside {self._count} latents")
        if flipped is None or not any(flipped):
            return self._read(indices, False)
        if len(flipped) != len(indices):
            raise ValueError(f"flipped says {len(flipped)} things of {len(indices)} items")
        if not self.flips:
            raise LatentsError("these latents were stored without those of the mirrored images; extract with flips")
        if all(flipped):
            return self._read(indices, True)
        mirrored = torch.tensor([bool(flip) for flip in flipped])
        plain = self._read([i for i, flip in zip(indices, flipped, strict=True) if not flip], False)
        other = self._read([i for i, flip in zip(indices, flipped, strict=True) if flip], True)
        joined = []
        for a, b in zip(plain, other, strict=True):
            if a is None:
                joined.append(None)
                continue
            whole = a.new_empty(len(indices), *a.shape[1:])
            whole[~mirrored], whole[mirrored] = a, b
            joined.append(whole)
        return tuple(joined)

    # -- Normalisation

    @cached_property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, ``(C,)``; see :func:`channel_statistics`."""
        return channel_statistics(self)

    @property
    def channel_mean(self) -> Tensor:
        """Mean of each channel, ``(C,)``, float32."""
        return self.statistics[0]

    @property
    def channel_std(self) -> Tensor:
        """Standard deviation of each channel, ``(C,)``, float32."""
        return self.statistics[1]

    def normalise(self, z: Tensor) -> Tensor:
        """Raw latents ``(..., *shape)`` to zero mean and unit variance in each channel."""
        mean, std = self._spread(z)
        return (z - mean) / std

    def denormalise(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`, back to what the autoencoder decodes."""
        mean, std = self._spread(z)
        return z * std + mean

    def _spread(self, z: Tensor) -> tuple[Tensor, Tensor]:
        axes = len(self.shape)
        if z.ndim < axes or z.shape[-axes] != self.shape[0]:
            raise ValueError(f"latents of {self.shape[0]} channels (..., {', '.join(map(str, self.shape))}) were "
                             f"expected, got shape {tuple(z.shape)}")  # fmt: skip
        mean, std = (s.to(z).reshape(-1, *[1] * (axes - 1)) for s in self.statistics)
        return mean, std


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` indices below ``count``, evenly spread, ascending."""
    wanted = min(count, wanted)
    return [i * count // wanted for i in range(wanted)]


def channel_statistics(
    latents: Latents, samples: int = STATISTICS_SAMPLES, progress: bool | None = None
) -> tuple[Tensor, Tensor]:
    r"""Mean and standard deviation of each channel over posterior samples.

    Over all positions of one sample :math:`z_i = \mu_i + \sigma_i \epsilon_i` of each of ``samples`` items, spread
    evenly over all; :math:`\epsilon_i` depends on :math:`i` alone. Sums are taken in double precision.

    Args:
        latents: Of what.
        samples: Of how many items; of all, where there are fewer.
        progress: Show a progress bar; ``None``: where somebody is watching.

    Returns:
        Mean and (population) standard deviation, ``(C,)`` each, float32.

    Raises:
        LatentsError: A channel is constant, so that it cannot be normalised.
    """
    indices = spread(len(latents), samples)
    total = torch.zeros(2, latents.shape[0], dtype=torch.float64)
    for z in tqdm(
        _samples(latents, indices),
        total=-(-len(indices) // _CHUNK),
        desc="statistics",
        unit="batch",
        disable=None if progress is None else not progress,
        leave=False,
    ):
        z = z.double().transpose(0, 1).flatten(1)  # (C, n * positions)
        total += torch.stack([z.sum(1), z.square().sum(1)])
    mean, square = total / (len(indices) * np.prod(latents.shape[1:]))
    std = (square - mean.square()).clamp_min(0).sqrt()
    constant = torch.nonzero(std <= 1e-7 * mean.abs().clamp_min(1e-30)).flatten().tolist()
    if constant:
        raise LatentsError(
            f"channel {constant[0]} of the latents is {mean[constant[0]].item():.6g} everywhere in {len(indices)} "
            "samples, so it cannot be normalised"
        )
    return mean.float(), std.float()


def _samples(latents: Latents, indices: Sequence[int]) -> Iterable[Tensor]:
    for start in range(0, len(indices), _CHUNK):
        some = indices[start : start + _CHUNK]
        mean, std, _ = latents.posterior(some)
        # From the index alone, so that neither the chunks nor the number of latents before matter.
        noise = torch.stack([torch.randn(latents.shape, generator=generator_at(0, i)) for i in some])
        yield mean + std * noise


# ---------------------------------------------------------------------------------------------------------------------
# From tensors


class TensorLatents(Latents):
    """Latents that are in memory already.

    Args:
        mean: ``(N, C, h, w)`` or ``(N, C, t, h, w)``.
        std: The same shape; ``None`` stands for zero, as a deterministic autoencoder has it.
        labels: Class numbers ``(N,)``.
        class_names: Names of the classes; by default the numbers from 0 to the largest that occurs.
        flipped: Mean and std of the mirrored images.
        identity: See :class:`Latents`; by default a digest of the values.

    Raises:
        LatentsError: Shapes that do not fit, or a class number without a name.
    """

    def __init__(
        self,
        mean: Tensor,
        std: Tensor | None = None,
        labels: Tensor | None = None,
        class_names: Sequence[str] | None = None,
        flipped: tuple[Tensor, Tensor | None] | None = None,
        identity: dict[str, Any] | None = None,
    ) -> None:
        if mean.ndim not in (4, 5):
            raise LatentsError(f"latents are (N, C, h, w) or (N, C, t, h, w), got shape {tuple(mean.shape)}")
        pairs = [(mean, std)] + ([flipped] if flipped is not None else [])
        self._pairs = [
            (m.detach().float().cpu(), torch.zeros_like(m, dtype=torch.float32, device="cpu"))
            if s is None
            else (m.detach().float().cpu(), s.detach().float().cpu())
            for m, s in pairs
        ]
        wrong = next((tuple(t.shape) for pair in self._pairs for t in pair if t.shape != mean.shape), None)
        if wrong is not None:
            raise LatentsError(f"all of these tensors must have the shape of the mean {tuple(mean.shape)}, got {wrong}")
        if labels is not None and labels.shape != mean.shape[:1]:
            raise LatentsError(f"{len(mean)} latents need {len(mean)} labels, got shape {tuple(labels.shape)}")
        self._labels = None if labels is None else labels.detach().long().cpu()
        if class_names is None:
            class_names = [] if self._labels is None else [str(i) for i in range(int(self._labels.max()) + 1)]
        check_labels(self._labels, len(class_names))
        if identity is None:
            held = [t for pair in self._pairs for t in pair] + ([] if self._labels is None else [self._labels])
            identity = {"tensors": tensors_digest(held), "count": len(mean)}
        super().__init__(len(mean), mean.shape[1:], class_names, identity, flips=flipped is not None)

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        mean, std = self._pairs[flipped]
        where = torch.tensor(indices, dtype=torch.long)
        return mean[where], std[where], None if self._labels is None else self._labels[where]


def check_labels(labels: Tensor | None, num_classes: int, items: str = "these latents") -> None:
    """Refuse class numbers outside ``0 ... num_classes - 1``."""
    if labels is None or not len(labels):
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise LatentsError(f"class {wrong} of {items} is outside 0 ... {num_classes - 1}")


# ---------------------------------------------------------------------------------------------------------------------
# Encoded when asked for


class EncodedLatents(Latents):
    """Latents of a dataset's images, encoded each time they are asked for.

    Args:
        autoencoder: On its device, in evaluation mode.
        dataset: Map-style; items are an image ``(3, H, W)`` or a clip ``(3, T, H, W)``, or a pair of it and its class
            number; all of one size.
        batch_size: Images encoded at a time.
        precision: ``"fp32"``, or ``"bf16"`` for autocast.
        class_names: Names of the classes, where the dataset has labels and neither ``classes`` nor ``class_names``.
        identity: Entries of the identity that are known better than :func:`images_identity` finds them.
        low_pass: Radius in cycles per pixel beyond which images lose their frequencies before they are encoded
            (:func:`diffusab_core.spectrum.radial_split`; nothing is clamped afterwards); ``None``: whole images.

    Raises:
        LatentsError: The dataset is empty, its items are of no such kind, or classes have no names.
        ValueError: The autoencoder does not take images of this size.
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
        check_low_pass(low_pass)
        if len(dataset) < 1:
            raise LatentsError("there are no latents: the dataset is empty")
        image, label = parts(dataset[0])
        shape = latent_shape(autoencoder, image)
        names = names_of(dataset, class_names) if label is not None else ()
        made = {"autoencoder": autoencoder.name, "weights": weights_digest(autoencoder), **images_identity(dataset)}
        made |= {"precision": precision, "count": len(dataset), **(identity or {})}
        super().__init__(len(dataset), shape, names, made, flips=True)
        self.identity |= {} if low_pass is None else {"low_pass": low_pass}
        self.autoencoder, self.dataset, self.batch_size, self.precision = autoencoder, dataset, batch_size, precision
        self.low_pass = low_pass

    def low_passed(self, radius: float) -> EncodedLatents:
        """The same images without their frequencies beyond a radius, normalised as these."""
        check_low_pass(radius)
        other = copy.copy(self)
        other.statistics, other.low_pass = self.statistics, radius
        other.identity = self.identity | {"low_pass": radius}
        return other

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        means, stds, labels = [torch.empty(0, *self.shape)], [torch.empty(0, *self.shape)], []
        for start in range(0, len(indices), self.batch_size):
            some = indices[start : start + self.batch_size]
            items = [parts(self.dataset[i]) for i in some]
            x = torch.stack([image for image, _ in items])
            names = [item_name(self.dataset, i) for i in some]
            x = without_high_frequencies(x.flip(-1) if flipped else x, self.low_pass)
            posterior = encode(self.autoencoder, x, self.precision, names)
            means.append(posterior.mean)
            stds.append(posterior.std)
            labels += [label for _, label in items]
        found = torch.tensor(labels, dtype=torch.long) if self.num_classes else None
        check_labels(found, self.num_classes)
        return torch.cat(means), torch.cat(stds), found


def check_precision(precision: str) -> None:
    """Refuse a precision that is not in :data:`PRECISIONS`."""
    if precision not in PRECISIONS:
        raise LatentsError(f"precision is one of {', '.join(PRECISIONS)}, got {precision!r}")


def check_low_pass(radius: float | None) -> None:
    """Refuse a radius of a low-pass that is not positive."""
    if radius is not None and not 0 < radius < math.inf:
        raise LatentsError(f"low_pass is a radius in cycles per pixel, above 0, got {radius}")


def without_high_frequencies(x: Tensor, radius: float | None) -> Tensor:
    """Images or clips ``(..., H, W)`` without what lies beyond a radius in cycles per pixel; ``None``: as they are."""
    return x if radius is None else radial_split(x, radius)[0].to(x.dtype)


def latent_shape(autoencoder: Autoencoder, image: Tensor) -> tuple[int, ...]:
    """Shape of the latent of an image ``(3, H, W)`` or of a clip ``(3, T, H, W)``.

    Raises:
        LatentsError: It is neither.
        ValueError: The autoencoder does not take it.
    """
    if image.ndim not in (3, 4) or image.shape[0] != 3:
        raise LatentsError(f"items must be images (3, H, W) or clips (3, T, H, W), got shape {tuple(image.shape)}")
    if image.ndim == 3:
        return tuple(autoencoder.latent_shape(*image.shape[1:]))
    return tuple(autoencoder.latent_shape(*image.shape[2:], frames=image.shape[1]))


@torch.no_grad()
def encode(autoencoder: Autoencoder, x: Tensor, precision: str = "fp32", names: Sequence[str] = ()) -> Posterior:
    """The posterior of a batch, float32 on the CPU, whatever the autoencoder's device and precision.

    Raises:
        LatentsError: A latent is not finite; the message has the image's name.
    """
    weight = next(iter(autoencoder.parameters()), x)
    device = weight.device
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        posterior = autoencoder.encode(x.to(device, weight.dtype))
    mean, std = posterior.mean.float().cpu(), posterior.std.float().cpu()
    good = (mean.isfinite() & std.isfinite()).flatten(1).all(1)
    if not good.all():
        i = int((~good).nonzero()[0])
        cause = "image itself" if not x[i].isfinite().all() else "autoencoder; try precision fp32"
        what = names[i] if i < len(names) else f"number {i} of the batch"
        raise LatentsError(f"{autoencoder.name}: the latent of {what} is not finite, because of the {cause}")
    return Posterior(mean, std)
