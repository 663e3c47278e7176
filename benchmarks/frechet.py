r"""Speed of the Fréchet distance between two sets of features against torchmetrics, in one process, alternating.

Both get the same features, 50 000 x 2 048 in float32 of either set as FID has them, in batches, and have to deliver the
distance: means and covariances in float64 included, the network and precision and recall not. Ours is
:class:`diffusab_core.metrics.sets.FeatureStatistics`, theirs ``FrechetInceptionDistance`` with a network that
returns what it is given. The two results are compared before anything is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from diffusab_core.metrics.sets import FeatureStatistics

SAMPLES, DIMENSIONS = 50_000, 2_048
BATCH = 500
TOLERANCE = 1e-3  # relative; torchmetrics returns float32


class _Given(nn.Module):
    """A network whose features are the images."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, x: Tensor) -> Tensor:
        return x


def features(samples: int, dimensions: int, seed: int) -> Tensor:
    """``(samples, dimensions)``, not negative, of decaying and correlated scales, as Inception's are."""
    g = torch.Generator().manual_seed(seed)
    shared = torch.randn(samples, 64, generator=g) @ torch.randn(64, dimensions, generator=g) / 8
    scales = torch.linspace(0, -3, dimensions).exp() * (1 + 0.1 * seed)
    return shared.add_(torch.randn(samples, dimensions, generator=g)).mul_(scales).relu_()


def ours(real: Tensor, fake: Tensor, batch: int) -> float:
    """The distance by this package."""
    found = []
    for x in (real, fake):
        found.append(FeatureStatistics())
        for part in x.split(batch):
            found[-1].update(part)
    return found[0].distance(found[1])


def theirs(real: Tensor, fake: Tensor, batch: int) -> float:
    """The distance by torchmetrics."""
    metric = FrechetInceptionDistance(_Given(real.shape[1]))
    for x, is_real in ((real, True), (fake, False)):
        for part in x.split(batch):
            metric.update(part, real=is_real)
    return metric.compute().item()


def measure(threads: int, rounds: int, samples: int = SAMPLES, dimensions: int = DIMENSIONS) -> dict:
    """Median seconds of each over rounds that take turns in beginning, and their ratio."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sets = features(samples, dimensions, 0), features(samples, dimensions, 1)
        functions: dict[str, Callable[..., float]] = {"FeatureStatistics": ours, "torchmetrics": theirs}
        _compare({name: function(*(x[: 4 * dimensions] for x in sets), BATCH) for name, function in functions.items()})
        times: dict[str, list[float]] = {name: [] for name in functions}
        names = list(functions)
        for turn in range(rounds):
            for name in names if turn % 2 == 0 else names[::-1]:
                begun = time.perf_counter()
                functions[name](*sets, BATCH)
                times[name].append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "samples": samples,
        "dimensions": dimensions,
        "batch": BATCH,
        "torch_threads": threads,
        "rounds": rounds,
        "median_s": {name: round(value, 2) for name, value in medians.items()},
        "time_over_torchmetrics": round(medians["FeatureStatistics"] / medians["torchmetrics"], 3),
    }


def _compare(distances: dict[str, float]) -> None:
    ours, theirs = distances.values()
    if not ours > 0 or abs(ours - theirs) > TOLERANCE * ours:
        raise RuntimeError(f"the distances differ, so their times would mean nothing: {distances}")


def table(rows: list[dict]) -> str:
    """The rows as text, times in seconds."""
    lines = [["threads", "samples", "features", *rows[0]["median_s"], "ours / torchmetrics"]]
    for row in rows:
        cells = [row["torch_threads"], row["samples"], row["dimensions"]]
        lines.append(
            [*map(str, cells), *(f"{s:.1f}" for s in row["median_s"].values()), f"{row['time_over_torchmetrics']:.2f}"]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)
