"""Batches of a dataset as a function of the step: what makes a training run resumable at any step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diffusab_core.training.order import batch_indices


class Batches:
    """Batches of images, each a pure function of ``(seed, step)``, read ahead by worker processes if wanted.

    Every epoch is a new permutation. A dataset that draws random crops from its own ``seed`` attribute (photographs,
    folders, shards) is given another seed in each epoch, so that a small folder shows new crops every time.

    Args:
        dataset: Map-style; items are images, or tuples with an image first.
        batch_size: Images in a batch.
        seed: Seed of the order, and of the crops from the second epoch on.
        steps: Steps in all.
        workers: Processes that read ahead; 0 reads in this one.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, steps: int, workers: int = 0) -> None:
        if len(dataset) < 1:
            raise ValueError("the dataset is empty")
        self._epochs = _Epochs(dataset)
        self.dataset, self.batch_size, self.seed, self.steps, self.workers = dataset, batch_size, seed, steps, workers
        self._stream: Iterator[Tensor] | None = None
        self._next = -1

    def places(self, step: int) -> list[tuple[int, int]]:
        """Epoch and index of every item of a step."""
        epochs = np.arange(step * self.batch_size, (step + 1) * self.batch_size) // len(self.dataset)
        indices = batch_indices(step, self.batch_size, len(self.dataset), self.seed)
        return [(int(e), i) for e, i in zip(epochs, indices, strict=True)]

    def __call__(self, step: int) -> Tensor:
        """The images of a step, ``(batch_size, 3, H, W)``."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is outside a run of {self.steps} steps")
        if not self.workers:
            return torch.stack([self._epochs[place] for place in self.places(step)])
        if self._stream is None or step != self._next:
            order = (self.places(later) for later in range(step, self.steps))
            loader = DataLoader(self._epochs, batch_sampler=list(order), num_workers=self.workers)
            self._stream = iter(loader)
        self._next = step + 1
        return next(self._stream)

    def describe(self, step: int) -> str:
        """The items of a step in words, for messages."""
        name: Callable[[int], str] = getattr(self.dataset, "name", None) or getattr(self.dataset, "source", None) or str
        return "items " + ", ".join(f"{i} ({name(i)})" for _, i in self.places(step))


class _Epochs(Dataset):
    """The dataset, indexed by epoch and item."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._current = (0, dataset)

    def __getitem__(self, place: tuple[int, int]) -> Tensor:
        epoch, index = place
        if epoch != self._current[0]:
            self._current = (epoch, self._in_epoch(epoch))
        item = self._current[1][index]
        return item[0] if isinstance(item, tuple) else item

    def _in_epoch(self, epoch: int) -> Dataset:
        if epoch == 0 or not isinstance(getattr(self.dataset, "seed", None), int):
            return self.dataset
        again = copy.copy(self.dataset)
        again.seed = int(np.random.SeedSequence([self.dataset.seed, epoch]).generate_state(1)[0])
        return again
