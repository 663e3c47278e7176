"""Which data and which random numbers a step gets: functions of seed and step alone, so that runs resume exactly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@lru_cache(maxsize=2)
def _epoch_order(length: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(length)


def batch_indices(step: int, batch_size: int, length: int, seed: int) -> list[int]:
    """Dataset indices of one step: consecutive pieces of one permutation per epoch, whose end a batch may run over."""
    places = range(step * batch_size, (step + 1) * batch_size)
    return [int(_epoch_order(length, seed, place // length)[place % length]) for place in places]


def generator_at(seed: int, step: int, device: str | torch.device = "cpu") -> torch.Generator:
    """The generator of one step's noise, independent between steps; what it draws depends on the kind of device."""
    return _generator([seed, step], device)


def stream(seed: int, purpose: str, index: int) -> torch.Generator:
    """The generator of one purpose at one place, such as ``"sample"`` and a sample's number; always on the CPU."""
    return _generator([int.from_bytes(purpose.encode(), "little"), seed, index], "cpu")


def draw_noise(seed: int, places: Sequence[int], shape: tuple[int, ...], purpose: str = "sample") -> Tensor:
    """Standard normal ``(N, *shape)`` on the CPU; each from its own stream of the seed, the purpose and its place."""
    return torch.stack([torch.randn(shape, generator=stream(seed, purpose, place)) for place in places])


def _generator(entropy: list[int], device: str | torch.device) -> torch.Generator:
    # torch takes 63 bits, of which its generator on the CPU uses 32: of n streams some n² / 2³³ pairs are the same.
    mixed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator(device=device).manual_seed(mixed)
