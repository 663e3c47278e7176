r"""Generated samples against reference images: Fréchet distance, precision and recall, Inception Score.

:func:`reference` goes through the reference images once and keeps their statistics, in a file if wanted;
:func:`evaluate_samples` goes through samples once. Both take batches one after the other and keep a mean, a covariance,
sums of class probabilities and at most 10 000 features, however many images there are. With several ranks each goes
through its own share.

A feature extractor is a module with the attributes ``name``, ``dimensions`` and ``digest``, as those of
:mod:`~diffusab_core.metrics.offline_features`, :mod:`~diffusab_core.metrics.networks` and
:mod:`~diffusab_core.metrics.video_features` are.
Numbers over another extractor, another number of samples, or other reference images do not compare.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from diffusab_core.metrics import manifolds
from diffusab_core.metrics.frechet import FeatureStatistics, _extract, frechet_distance
from diffusab_core.metrics.offline_features import OfflineFeatures
from diffusab_core.metrics.sample_streams import SPLITS, ClassSums, Subset
from diffusab_core.training.world import World, from_main

SCHEMA = 1
_TENSORS = ("mean", "covariance", "neighbours")
T = TypeVar("T")


class Extractor(Protocol):
    """What is asked of a feature extractor; see :class:`~diffusab_core.metrics.offline_features.OfflineFeatures`."""

    name: str
    dimensions: int
    digest: str

    def __call__(self, images: Tensor) -> Tensor: ...


def quantised(images: Tensor) -> Tensor:
    """Images in [-1, 1] as they come back from a file of 8 bits: clamped and rounded to one of 256 levels."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def check_enough(count: int, features: Extractor, few: bool, what: str = "samples") -> None:
    """Refuse a covariance that cannot have full rank.

    Raises:
        ValueError: ``count`` is not above the number of features, and ``few`` does not allow it.
    """
    if count <= features.dimensions and not few:
        raise ValueError(
            f"{count} {what} are too few for the {features.dimensions} features of {features.name}: the covariance is "
            f"singular below {features.dimensions + 1}, and the distance compares with nothing; few=True (--few) takes "
            "it all the same"
        )


def class_probabilities(features: Extractor, found: Tensor) -> Tensor | None:
    """The classes that an extractor's own network sees, ``(N, K)``, from its features ``(N, D)``.

    Of Inception 1008; ``None`` for an extractor that knows no classes. Of the offline network all 17, and it is a weak
    judge: it names the class of half of the 64 x 64 leaves (real ones have an Inception Score of 2.8), but is no better
    than chance for leaves of 32 x 32, where the score says nothing.
    """
    if isinstance(features, OfflineFeatures):
        return features.network.classes(found).softmax(1)
    known = getattr(features, "class_probabilities", None)
    return None if known is None else known(found)


# ---------------------------------------------------------------------------------------------------------------------
# One pass over images


def _on_main(world: World, compute: Callable[[], T]) -> T:
    """What the first process computes, in every process; its error is raised in all, or the others would wait."""
    value, error = None, None
    if world.is_main:
        try:
            value = compute()
        except (ValueError, OSError) as raised:
            error = raised
    value, error = from_main((value, error), world)
    if error is not None:
        raise error
    return value


@torch.no_grad()
def _pass(
    images: Iterable[Tensor], features: Extractor, quantise: bool, keep: int, world: World, bar: tqdm
) -> tuple[FeatureStatistics, Tensor, tuple[float, float] | None]:
    """Statistics, at most ``keep`` features, and the Inception Score, of all ranks' images."""
    statistics, subset, classes = FeatureStatistics(), Subset(keep, world), ClassSums(SPLITS, world)
    with bar:
        for batch in images:
            found = _extract(features, quantised(batch) if quantise else batch)
            statistics.update(found)
            subset.add(found)
            probabilities = class_probabilities(features, found)
            if probabilities is not None:
                classes.add(probabilities)
            bar.update(len(batch))
    return statistics.over_ranks(world), subset.rows(), classes.score()


def _bar(what: str, progress: bool, world: World) -> tqdm:
    return tqdm(desc=what, unit="image", disable=not progress or not world.is_main)


# ---------------------------------------------------------------------------------------------------------------------
# The reference


@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of the reference images over one extractor.

    Attributes:
        extractor: The extractor's ``name``.
        digest: The extractor's ``digest``, of its weights.
        quantised: Whether images were rounded to 8 bits first; samples are treated as the reference was.
        count: How many images.
        mean: ``(D,)`` in float64.
        covariance: ``(D, D)`` in float64.
        neighbours: Features of a random subset of the images ``(M, D)``, in random order, for precision and recall.
        identity: Which images they are, in the caller's words.
    """

    extractor: str
    digest: str
    quantised: bool
    count: int
    mean: Tensor
    covariance: Tensor
    neighbours: Tensor
    identity: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | os.PathLike) -> Path:
        """Write a safetensors file, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "schema": SCHEMA, "extractor": self.extractor, "digest": self.digest, "quantised": self.quantised,
            "count": self.count, "identity": dict(self.identity),
        }  # fmt: skip
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            save_file(tensors, partial, {"reference": json.dumps(about, sort_keys=True)})
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path


def load_reference(path: str | os.PathLike) -> Reference:
    """Read what :meth:`Reference.save` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or no file of reference statistics.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of reference statistics {path}")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["reference"])
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        if about.pop("schema") != SCHEMA:
            raise ValueError("another version of the format")
        return Reference(**about, **tensors)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path} is damaged or holds no reference statistics ({reason})") from error


def reference(
    images: Iterable[Tensor],
    features: Extractor,
    *,
    neighbours_up_to: int = 10_000,
    quantise: bool = True,
    cache: str | os.PathLike | None = None,
    identity: Mapping[str, Any] | None = None,
    world: World | None = None,
    progress: bool = True,
) -> Reference:
    """Statistics of reference images, computed once where there is a cache.

    A cache of other images, another extractor, other weights or fewer neighbours is refused, not replaced: it may have
    taken hours. With a fitting cache the images are not looked at, so ``identity`` has to say all that matters about
    them: dataset, number, resolution, crop.

    Args:
        images: Batches ``(N, 3, H, W)`` in [-1, 1], or clips for a video network; consumed one at a time. Of several
            ranks each gives its own, image i of all being on rank i mod size.
        features: See the module.
        neighbours_up_to: How many features to keep for precision and recall.
        quantise: Round to 8 bits first, as FID is taken over files of 8 bits; samples are then rounded alike.
        cache: A safetensors file, read if it is there, else written.
        identity: Plain JSON values by name.
        world: Ranks among which the images are divided; ``None``: one process.
        progress: Show a progress bar.

    Raises:
        ValueError: Fewer than 2 images, a cache that does not fit or is damaged, or features of another shape.
    """
    world = world or World()
    identity = json.loads(json.dumps(dict(identity or {})))  # as it comes back from the file
    wanted = {"extractor": features.name, "digest": features.digest, "quantised": quantise, "identity": identity}
    if cache is not None:
        found = _on_main(world, lambda: _cached(Path(cache), wanted, neighbours_up_to))
        if found is not None:
            return found
    statistics, neighbours, _ = _pass(
        images, features, quantise, neighbours_up_to, world, _bar("reference", progress, world)
    )
    if statistics.count < 2:
        raise ValueError(f"a reference needs at least 2 images, got {statistics.count}")
    made = Reference(
        **wanted, count=statistics.count, mean=statistics.mean(), covariance=statistics.covariance(),
        neighbours=neighbours,
    )  # fmt: skip
    if cache is not None:
        _on_main(world, lambda: made.save(cache))
    return made


def _cached(path: Path, wanted: Mapping[str, Any], neighbours_up_to: int) -> Reference | None:
    if not path.exists():
        return None
    found = load_reference(path)
    there = _flat({name: getattr(found, name) for name in wanted})
    here = _flat(wanted)
    different = [
        f"{name} is {there.get(name, 'not there')!r} there and {here.get(name, 'not given')!r} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    if len(found.neighbours) < min(neighbours_up_to, found.count):
        different.append(f"{len(found.neighbours)} neighbours are kept there and {neighbours_up_to} wanted here")
    if different:
        raise ValueError(
            f"{path} holds other reference statistics: {'; '.join(different)}. Name another file, or remove this one"
        )
    return found


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "identity"} | dict(values["identity"])


# ---------------------------------------------------------------------------------------------------------------------
# Samples


def check_extractor(found: Reference, features: Extractor) -> None:
    """Refuse statistics over another extractor, or the same with other weights, with a ``ValueError``."""
    for name, there, here in (
        ("extractor", found.extractor, features.name), ("weights", found.digest, features.digest),
    ):  # fmt: skip
        if there != here:
            raise ValueError(f"the reference statistics are over another {name}: {there!r}, and here it is {here!r}")


def evaluate_samples(
    samples: Iterable[Tensor],
    reference: Reference,
    features: Extractor,
    *,
    few: bool = False,
    precision_recall: int = 10_000,
    k: int = 3,
    world: World | None = None,
    progress: bool = True,
) -> dict[str, float]:
    r"""Judge samples against a reference, in one pass and constant memory.

    Args:
        samples: Batches ``(N, 3, H, W)`` in [-1, 1], or clips for a video network; consumed one at a time. Rounded to
            8 bits first if the reference was. Of several ranks each gives its own.
        reference: From :func:`reference`.
        features: The same extractor.
        few: Allow no more samples, or reference images, than features. The covariance is singular then and the distance
            far too high; it may serve to see whether something has gone wrong.
        precision_recall: How many features of each side precision and recall are over, at most; 0 leaves them out.
            Always as many of one side as of the other: of the larger one a random subset.
        k: Of :func:`~diffusab_core.metrics.manifolds.precision_recall`.
        world: Ranks among which the samples are divided; all of them get the result. ``None``: one process.
        progress: Show a progress bar.

    Returns:
        ``frechet_<name>``; ``precision``, ``recall`` and ``precision_recall_samples``, how many there are of each side;
        ``inception_score`` and ``inception_score_std`` (over 10 splits), if the extractor knows classes and there are
        at least as many samples as splits; ``samples`` and ``reference_samples``.

    Raises:
        ValueError: Too few samples or reference images, another extractor than the reference's, or samples that the
            extractor cannot take.
    """
    world = world or World()
    check_extractor(reference, features)
    check_enough(reference.count, features, few, "reference images")
    if precision_recall and (precision_recall <= k or k < 1):
        raise ValueError(f"precision and recall need 1 <= k < {precision_recall} samples, got k={k}")
    if precision_recall and not len(reference.neighbours):
        raise ValueError("the reference was made without features for precision and recall (neighbours_up_to=0)")
    statistics, mine, score = _pass(
        samples, features, reference.quantised, precision_recall, world, _bar("samples", progress, world)
    )
    check_enough(statistics.count, features, few)
    if statistics.count < 2:
        raise ValueError(f"a Fréchet distance needs at least 2 samples, got {statistics.count}")

    def judge() -> dict[str, float]:
        found = {
            f"frechet_{features.name}": frechet_distance(
                reference.mean, reference.covariance, statistics.mean(), statistics.covariance()
            )
        }
        if precision_recall:
            n = min(len(mine), len(reference.neighbours))
            found["precision"], found["recall"] = manifolds.precision_recall(reference.neighbours[:n], mine[:n], k)
            found["precision_recall_samples"] = float(n)
        return found

    found = _on_main(world, judge)
    if score is not None:
        found["inception_score"], found["inception_score_std"] = score
    return found | {"samples": float(statistics.count), "reference_samples": float(reference.count)}
