r"""What is kept of a stream of images besides their mean and covariance: sums for the Inception Score, a subset.

Several processes may each go through a part of the stream. Where image i of all goes to rank i mod size, results are
those of one process.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from diffusab_core.metrics.frechet import reduce_over_ranks
from diffusab_core.training.world import World, gather

SPLITS = 10  # of the Inception Score


# ---------------------------------------------------------------------------------------------------------------------
# Inception Score


def inception_score(probabilities: Iterable[Tensor], splits: int = SPLITS) -> tuple[float, float]:
    r"""Inception Score: how sure a classifier is of each image, and how many classes it sees in all of them.

    .. math:: \exp \mathbb E_x \operatorname{KL}\bigl(p(y \mid x) \,\|\, p(y)\bigr)

    from 1 (all images look alike to the classifier) to the number of classes K. Taken over each of the splits, image i
    being of split i mod ``splits``; it grows with the number of images in a split. In constant memory.

    Args:
        probabilities: Batches ``(N, K)``, each row summing to 1.
        splits: How many parts.

    Returns:
        Mean and (population) standard deviation over the splits.

    Raises:
        ValueError: Not probabilities, or fewer images than splits.

    Source: Salimans et al. 2016; the standard deviation as in their code.
    """
    sums = ClassSums(splits)
    for batch in probabilities:
        sums.add(batch)
    found = sums.score()
    if found is None:
        raise ValueError(f"{splits} splits need at least {splits} images, got {sums.seen}")
    return found


class ClassSums:
    """What the Inception Score needs of a stream: sums over the images of each split, image i being of split i mod S.

    In turn, and not in S pieces one after the other, so that samples in the order of their classes are no special case
    and their number need not be known.
    """

    def __init__(self, splits: int, world: World | None = None) -> None:
        if splits < 1:
            raise ValueError(f"splits must be at least 1, got {splits}")
        self.splits, self.world, self.seen = splits, world or World(), 0
        self.counts = torch.zeros(splits, dtype=torch.float64)
        self.entropies = torch.zeros(splits, dtype=torch.float64)  # sum of -H(p)
        self.sums = torch.zeros(splits, 0, dtype=torch.float64)  # (S, K)

    def add(self, probabilities: Tensor) -> None:
        p = probabilities.detach().cpu().double()
        if p.ndim != 2 or not ((p >= 0).all() and ((p.sum(1) - 1).abs() < 1e-3).all()):
            raise ValueError(f"probabilities must be (N, K), each row summing to 1, got shape {tuple(p.shape)}")
        if not self.seen:
            self.sums = torch.zeros(self.splits, p.shape[1], dtype=torch.float64)
        position = torch.arange(self.seen, self.seen + len(p)) * self.world.size + self.world.rank  # among all
        split = position % self.splits
        self.counts.index_add_(0, split, torch.ones_like(p[:, 0]))
        self.entropies.index_add_(0, split, torch.xlogy(p, p).sum(1))
        self.sums.index_add_(0, split, p)
        self.seen += len(p)

    def score(self) -> tuple[float, float] | None:
        """Mean and standard deviation over splits; ``None`` if one of them is empty. All ranks have to call it."""
        classes = int(reduce_over_ranks(torch.tensor(self.sums.shape[1]), self.world, "MAX"))
        sums = self.sums if self.seen else torch.zeros(self.splits, classes, dtype=torch.float64)
        counts, entropies, sums = (reduce_over_ranks(x, self.world) for x in (self.counts, self.entropies, sums))
        if (counts == 0).any():
            return None
        mean = sums / counts[:, None]
        scores = (entropies / counts - torch.xlogy(mean, mean).sum(1)).exp()
        return scores.mean().item(), scores.std(correction=0).item()


# ---------------------------------------------------------------------------------------------------------------------
# A subset


class Subset:
    """A random subset of a stream of rows: those with the lowest of random keys, one for each position in the stream.

    It does not depend on the batches, nor on the number of ranks when image i of all goes to rank i mod size.
    """

    def __init__(self, size: int, world: World | None = None) -> None:
        if size < 0:
            raise ValueError(f"a subset cannot have {size} rows")
        self.size, self.world = size, world or World()
        self._rng, self._limit, self._held = np.random.default_rng(0), 1.0, 0
        self._parts: list[tuple[Tensor, Tensor]] = []  # keys and rows

    def add(self, rows: Tensor) -> None:
        keys = torch.from_numpy(self._rng.random((len(rows), self.world.size))[:, self.world.rank].copy())
        kept = keys < self._limit
        if self.size and kept.any():
            self._parts.append((keys[kept], rows.detach().cpu().float()[kept]))
            self._held += int(kept.sum())
        if self._held > 2 * self.size:
            self._cut()
            self._limit = self._parts[0][0][-1].item()

    def _cut(self) -> tuple[Tensor, Tensor]:
        if self._parts:
            keys, rows = (torch.cat(tensors) for tensors in zip(*self._parts, strict=True))
            order = keys.argsort()[: self.size]
            self._parts, self._held = [(keys[order], rows[order])], len(order)
        return self._parts[0] if self._parts else (torch.empty(0, dtype=torch.float64), torch.empty(0, 0))

    def rows(self) -> Tensor:
        """At most ``size`` rows in the order of their keys, so that any first part of them is a random subset, too."""
        keys, rows = self._cut()
        if self.world.size > 1 and self.size:
            lowest = torch.cat(gather(keys, self.world)).sort().values[: self.size]
            mine = keys <= lowest.max() if len(lowest) else keys > 0
            parts = gather((keys[mine], rows[mine]), self.world)  # as many rows in all as are kept
            self._parts = [part for part in parts if len(part[0])]  # a rank without images does not know D
            keys, rows = self._cut()
        return rows
