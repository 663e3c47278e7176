r"""What a denoiser is trained on: the posteriors of latents, wherever they lie, and how they are normalised.

A denoiser learns :math:`(z - m) / s`, where :math:`z = \mu + \sigma \epsilon` is a sample of the posterior, drawn anew
at each step, and :math:`m, s` are each channel's mean and standard deviation over 2048 such samples (Skorokhodov et al.
2025 and their code). So what is kept of an image is :math:`\mu` and :math:`\sigma`, never a sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from diffusab_core.files import digest_tensors
from diffusab_core.latents.identity import LatentsError
from diffusab_core.training import generator_at

STATISTICS_SAMPLES, _CHUNK = 2048, 64  # of the posterior, for the statistics of a channel; at a time


class Latents:
    r"""Posteriors of latents by index; what a subclass knows is in the constructor and in :meth:`_read`.

    Attributes:
        shape: Of one latent, ``(C, h, w)`` or, of a clip, ``(C, t, h, w)``.
        num_classes: How many classes; 0 without labels.
        class_names: Their names in the order of their numbers.
        identity: What makes these latents what they are, as plain values: the autoencoder's name and a digest of its
            weights, the images, the resolution, the number. Equal identities are equal latents.
    """

    def __init__(
        self, count: int, shape: Sequence[int], class_names: Sequence[str], identity: dict[str, Any], flips: bool
    ) -> None:
        if count < 1:
            raise LatentsError("there are no latents: the dataset is empty")
        self._count, self.shape, self.identity, self.flips = count, tuple(shape), identity, flips
        self.class_names, self.num_classes = tuple(class_names), len(class_names)

    def __len__(self) -> int:
        return self._count

    def at(self, step: int) -> Latents:
        """The latents whose posteriors are taken at a step; a curriculum, as FreqWarm, gives others than these."""
        return self

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mean, std and labels of some items, all of them mirrored or none."""
        raise NotImplementedError

    def posterior(
        self, indices: Sequence[int], flipped: Sequence[bool] | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mean and std ``(N, *shape)``, float32, and class numbers ``(N,)``, int64, or ``None``; all on the CPU.

        Args:
            indices: From 0 to ``len(self) - 1``, else an :class:`IndexError`.
            flipped: Whether to take each from the mirrored image (whose latent is not the mirrored latent); a
                :class:`LatentsError` where those are not stored.
        """
        indices = [int(i) for i in indices]
        for outside in (i for i in indices if not 0 <= i < self._count):
            raise IndexError(f"item {outside} is outside {self._count} latents")
        flipped = [False] * len(indices) if flipped is None else [bool(flip) for flip in flipped]
        if any(flipped) and not self.flips:
            raise LatentsError("these latents were stored without those of the mirrored images; extract with flips")
        pairs = list(zip(indices, flipped, strict=True))
        found = [self._read([i for i, flip in pairs if flip == want], want) for want in sorted(set(flipped))]
        if len(found) == 1:
            return found[0]
        # Where each item's row is in the plain ones followed by the mirrored ones.
        rows = torch.tensor(flipped).argsort(stable=True).argsort()
        return tuple(None if a is None else torch.cat([a, b])[rows] for a, b in zip(*found, strict=True))

    @cached_property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """:attr:`channel_mean` and :attr:`channel_std`, ``(C,)``, float32; see :func:`channel_statistics`."""
        return channel_statistics(self)

    channel_mean = property(lambda self: self.statistics[0], doc="``(C,)``, float32.")
    channel_std = property(lambda self: self.statistics[1], doc="``(C,)``, float32.")

    def normalise(self, z: Tensor) -> Tensor:
        """Raw latents ``(..., *shape)`` to zero mean and unit variance in each channel."""
        mean, std = self._broadcast(z)
        return (z - mean) / std

    def denormalise(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`, back to what the autoencoder decodes."""
        mean, std = self._broadcast(z)
        return z * std + mean

    def _broadcast(self, z: Tensor) -> list[Tensor]:
        axes, channels = len(self.shape), self.shape[0]
        if z.ndim < axes or z.shape[-axes] != channels:
            raise ValueError(f"expected latents of {channels} channels (..., *{self.shape}), got {tuple(z.shape)}")
        return [s.to(z).reshape(-1, *[1] * (axes - 1)) for s in self.statistics]


def channel_statistics(latents: Latents, hide: bool | None = None) -> tuple[Tensor, Tensor]:
    r"""Mean and (population) standard deviation of each channel over posterior samples, ``(C,)`` each, float32.

    Over all positions of one sample :math:`z_i = \mu_i + \sigma_i \epsilon_i` of each of 2048 items, spread evenly over
    all; :math:`\epsilon_i` depends on :math:`i` alone. Sums are taken in double precision. ``hide`` is that of the
    progress bar: ``None`` shows it where somebody is watching. A constant channel is a :class:`LatentsError`.
    """
    mean, std, count = measure_channels(latents, hide)
    for said in name_constants(mean, std, count):
        raise LatentsError(f"{said}, so it cannot be normalised")
    return mean.float(), std.float()


def measure_channels(latents: Latents, hide: bool | None = None) -> tuple[Tensor, Tensor, int]:
    """Mean and standard deviation as :func:`channel_statistics` has them, in float64, and of how many samples."""
    total, count = torch.zeros(2, latents.shape[0], dtype=torch.float64), 0
    for z in sample_posteriors(latents, hide):
        count += len(z)
        z = z.double().transpose(0, 1).flatten(1)  # (C, n * positions)
        total += torch.stack([z.sum(1), z.square().sum(1)])
    mean, square = total / (count * math.prod(latents.shape[1:]))
    return mean, (square - mean.square()).clamp_min(0).sqrt(), count


def name_constants(mean: Tensor, std: Tensor, count: int) -> list[str]:
    """A sentence for each channel that does not vary."""
    constant = torch.nonzero(std <= 1e-7 * mean.abs().clamp_min(1e-30)).flatten().tolist()
    return [f"channel {k} of the latents is {mean[k]:.6g} everywhere in {count} samples" for k in constant]


def sample_posteriors(latents: Latents, hide: bool | None = None) -> Iterator[Tensor]:
    """The raw samples that statistics are taken of, ``(n, *shape)`` at a time; see :func:`channel_statistics`."""
    count = min(len(latents), STATISTICS_SAMPLES)
    indices = [i * len(latents) // count for i in range(count)]
    yield from tqdm(_samples(latents, indices), "statistics", -(-count // _CHUNK), unit="batch", disable=hide)


def _samples(latents: Latents, indices: Sequence[int]) -> Iterator[Tensor]:
    for start in range(0, len(indices), _CHUNK):
        some = indices[start : start + _CHUNK]
        mean, std, _ = latents.posterior(some)
        # From the index alone, so that neither the chunks nor the number of latents before matter.
        noise = torch.stack([torch.randn(latents.shape, generator=generator_at(0, i)) for i in some])
        yield mean + std * noise


class TensorLatents(Latents):
    """Latents from tensors in memory; a :class:`LatentsError` names shapes and class numbers that do not fit.

    Args:
        mean: ``(N, C, h, w)`` or ``(N, C, t, h, w)``.
        std: The same shape; ``None`` stands for zero, as a deterministic autoencoder has it.
        labels: Class numbers ``(N,)``.
        class_names: By default the numbers from 0 to the largest that occurs.
        flipped: Mean and std of the mirrored images.
        identity: See :class:`Latents`; by default a digest of the values.
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
        pairs = [(m, torch.zeros_like(m) if s is None else s) for m, s in pairs]
        self._pairs = [(m.detach().float().cpu(), s.detach().float().cpu()) for m, s in pairs]
        for wrong in (tuple(t.shape) for pair in self._pairs for t in pair if t.shape != mean.shape):
            raise LatentsError(f"all of these tensors must have the shape of the mean {tuple(mean.shape)}, got {wrong}")
        if labels is not None and labels.shape != mean.shape[:1]:
            raise LatentsError(f"{len(mean)} latents need {len(mean)} labels, got shape {tuple(labels.shape)}")
        self._labels = None if labels is None else labels.detach().long().cpu()
        if class_names is None:
            class_names = [] if self._labels is None else [str(i) for i in range(int(self._labels.max()) + 1)]
        check_labels(self._labels, len(class_names))
        if identity is None:
            held = [t for pair in self._pairs for t in pair] + ([] if self._labels is None else [self._labels])
            identity = {"tensors": digest_tensors(held), "count": len(mean)}
        super().__init__(len(mean), mean.shape[1:], class_names, identity, flips=flipped is not None)

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        mean, std = self._pairs[flipped]
        where = torch.tensor(indices, dtype=torch.long)
        return mean[where], std[where], None if self._labels is None else self._labels[where]


def check_labels(labels: Tensor | None, num_classes: int, items: str = "these latents") -> None:
    """Refuse class numbers outside ``0 ... num_classes - 1``."""
    for wrong in () if labels is None else labels[(labels < 0) | (labels >= num_classes)].tolist():
        raise LatentsError(f"class {wrong} of {items} is outside 0 ... {num_classes - 1}")
