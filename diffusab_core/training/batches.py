"""Batches as functions of the step: what makes a run resumable at any step, made ahead while a GPU computes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from diffusab_core.files import SettingsError
from diffusab_core.training.order import batch_indices


class ReadAhead:
    """``make(key)`` on a device; for CUDA the next ones are made in a thread and copied from pinned memory meanwhile.

    ``make`` returns a tuple of tensors on the CPU and other values, the same for the same key whenever it is called.
    ``following`` is the key that will be asked for after another, or ``None`` after the last. Any other key may be
    asked for too, and is then waited for.
    """

    depth = 2  # keys that are made ahead

    def __init__(
        self,
        make: Callable[[Hashable], tuple],
        following: Callable[[Hashable], Hashable | None],
        device: str | torch.device = "cpu",
    ) -> None:
        self.make, self.following, self.device = make, following, torch.device(device)
        # On a CPU a thread would only compete with the training for the cores.
        self._pool = ThreadPoolExecutor(1, "read-ahead") if self.device.type == "cuda" else None
        self._made: dict[Hashable, Future[tuple]] = {}

    def __call__(self, key: Hashable) -> tuple:
        if self._pool is None:
            return self._on_device(key)
        wanted: list[Hashable] = [key]
        while len(wanted) <= self.depth and (after := self.following(wanted[-1])) is not None:
            wanted.append(after)
        for other in self._made.keys() - set(wanted):
            self._made.pop(other).cancel()
        for one in [key for key in wanted if key not in self._made]:
            self._made[one] = self._pool.submit(self._on_device, one)
        return self._made.pop(key).result()

    def _on_device(self, key: Hashable) -> tuple:
        return tuple(self._moved(value) if isinstance(value, Tensor) else value for value in self.make(key))

    def _moved(self, tensor: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return tensor.to(self.device)
        with torch.cuda.device(self.device):  # a new thread's is the first GPU, whatever the process's
            return tensor.pin_memory().to(self.device, non_blocking=True)


class Batches:
    """Batches of images, each a pure function of ``(seed, step)``, read ahead for a GPU or by worker processes.

    Every epoch is a new permutation. A dataset that draws random crops from its own ``seed`` attribute (photographs,
    folders, shards) is given another seed in each later epoch, so that a small folder shows new crops every time.

    The dataset is map-style; its items are images, or tuples with an image first. ``workers`` are processes that read
    ahead, 0 reads in this one.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        steps: int,
        workers: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        if len(dataset) < 1:
            raise SettingsError("the dataset is empty")
        self.dataset, self.batch_size, self.seed, self.steps, self.workers = dataset, batch_size, seed, steps, workers
        self._epochs = _Epochs(dataset)
        self._stream: Iterator[Tensor] = iter(())
        self._next = -1
        self._ahead = ReadAhead(self._read, lambda step: step + 1 if step + 1 < steps else None, device)

    def places(self, step: int) -> list[tuple[int, int]]:
        """Epoch and index of every item of a step."""
        epochs = np.arange(step * self.batch_size, (step + 1) * self.batch_size) // len(self.dataset)
        indices = batch_indices(step, self.batch_size, len(self.dataset), self.seed)
        return list(zip(epochs.tolist(), indices, strict=True))

    def __call__(self, step: int) -> Tensor:
        """The images of a step, ``(batch_size, 3, H, W)``."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is outside a run of {self.steps} steps")
        return self._ahead(step)[0]

    def _read(self, step: int) -> tuple[Tensor]:
        if not self.workers:
            return (torch.stack([self._epochs[place] for place in self.places(step)]),)
        if step != self._next:
            # One after the other: the places of all steps of a long run are gigabytes.
            order = (self.places(later) for later in range(step, self.steps))
            self._stream = read_batches(self._epochs, order, self.workers)
        self._next = step + 1
        return (next(self._stream),)

    def describe(self, step: int) -> str:
        """The items of a step in words, for messages."""
        name: Callable[[int], str] = getattr(self.dataset, "name", None) or getattr(self.dataset, "source", None) or str
        return "items " + ", ".join(f"{i} ({name(i)})" for _, i in self.places(step))


class _Epochs(Dataset):
    """The dataset, indexed by epoch and item."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = self._current = dataset
        self._epoch = 0

    def __getitem__(self, place: tuple[int, int]) -> Any:
        epoch, index = place
        if epoch != self._epoch and isinstance(getattr(self.dataset, "seed", None), int):
            self._epoch, self._current = epoch, self.dataset
            if epoch:
                self._current = copy.copy(self.dataset)
                seed = int(np.random.SeedSequence([self.dataset.seed, epoch]).generate_state(1)[0])
                object.__setattr__(self._current, "seed", seed)  # a dataset may be frozen
        item = self._current[index]
        return item[0] if isinstance(item, tuple) else item


def read_batches(dataset: Dataset, order: Iterable[Sequence[Hashable]], workers: int) -> Iterator[Tensor]:
    """Items of a dataset, stacked, by the places of each batch; ``workers`` processes read ahead, 0 reads in this one.

    What an item raises is raised here as it is, without the traceback of the process that met it.
    """
    # A generator of its own, or the loader would draw from the global one.
    how = {"num_workers": workers, "collate_fn": _collate, "generator": torch.Generator()}
    for found in DataLoader(_Telling(dataset), batch_sampler=order, **how):
        if isinstance(found, Exception):
            raise found
        yield found


@dataclass
class _Telling(Dataset):
    """Items, or the error in place of one: raised in a worker it would come as its traceback."""

    dataset: Dataset

    def __getitem__(self, place: Hashable) -> Any:
        try:
            return self.dataset[place]
        except (ValueError, OSError) as error:
            return error


def _collate(items: list) -> Any:
    return next((item for item in items if isinstance(item, Exception)), None) or default_collate(items)
