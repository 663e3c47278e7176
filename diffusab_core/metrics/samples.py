r"""Images through a feature network: samples against a reference, reconstructions against their originals.

:func:`reference` and :func:`evaluate_samples` each go through their images once, batch after batch, in constant memory,
each rank of a ``world`` through its own share, image i of all being on rank i mod size, and all of them get the result.
Numbers over another network, another number of samples, or other reference images do not compare.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from diffusab_core.data.arrays import list_arrays, read_array
from diffusab_core.data.places import ImagesError
from diffusab_core.files import DiffusabError, DiffusabWarning, differences, first_line, write_bytes
from diffusab_core.metrics import sets
from diffusab_core.metrics.clips import CLIP_FEATURES
from diffusab_core.metrics.networks import (
    Features,
    Judge,
    dinov2_features,
    inception_features,
    lite0_components,
    lite0_features,
    to_levels,
)
from diffusab_core.metrics.offline import offline_features
from diffusab_core.metrics.sets import FeatureStatistics, frechet_distance
from diffusab_core.training.world import World, on_main

#: Feature networks of images by name.
FEATURES = {
    "offline": offline_features,
    "lite0": lite0_features,
    "lite0p64": lite0_components,
    "inception": inception_features,
    "dinov2": dinov2_features,
}

_SCHEMA = 1
_TENSORS = ("mean", "covariance", "neighbours")


class SamplesError(DiffusabError, ValueError):
    """Samples or reference images that cannot be judged: too few, not what they should be, or damaged statistics."""


def open_features(name: str, weights: str | os.PathLike | None = None, device: str | torch.device = "cpu") -> Judge:
    """A network of :data:`FEATURES`, or of :data:`~diffusab_core.metrics.clips.CLIP_FEATURES`."""
    return (FEATURES | CLIP_FEATURES)[name](weights).to(device)


def quantise(images: Tensor) -> Tensor:
    """Images in [-1, 1] as they come back from a file of 8 bits: clamped and rounded to one of 256 levels."""
    return to_levels(images) / 127.5 - 1


@torch.no_grad()
def describe(
    images: Iterable[Tensor],
    features: Callable[[Tensor], Tensor],
    quantised: bool = False,
    keep: int = 0,
    world: World | None = None,
    bar: str | None = None,
) -> FeatureStatistics:
    """The statistics of all ranks' images, whose features the network's device takes, behind a bar of that name.

    ``quantised`` rounds images to 8 bits first; ``keep`` is how many features to keep for precision and recall.
    """
    device = None
    if isinstance(features, nn.Module):
        if features.training:
            raise ValueError(f"the network {type(features).__name__} is in training mode; call .eval() first")
        device = next((parameter.device for parameter in features.parameters()), None)
    statistics, classes = FeatureStatistics(keep, world=world), getattr(features, "class_probabilities", None)
    with tqdm(desc=bar, unit="image", disable=bar is None or not statistics.world.is_main) as bar:
        for batch in images:
            found = features((quantise(batch) if quantised else batch).to(device))
            if found.ndim != 2 or len(found) != len(batch):
                raise ValueError(f"features of {len(batch)} images must be ({len(batch)}, D), got {tuple(found.shape)}")
            statistics.update(found, None if classes is None else classes(found))
            bar.update(len(batch))
    return statistics.over_ranks()


def reconstruction_frechet_distance(
    images: Tensor | Iterable[Tensor],
    reconstructions: Tensor | Iterable[Tensor],
    features: Callable[[Tensor], Tensor],
    batch_size: int = 32,
) -> float:
    r"""Fréchet distance between the features of images and those of their reconstructions, both clamped to [-1, 1].

    Both are ``(N, 3, H, W)``, or iterables of such batches; ``features`` is a function to ``(N, D)`` or a module in
    evaluation mode. The estimate is biased upwards by a finite sample; below about ten images per feature compare it
    only at equal numbers of images. With no more images than features the covariances are singular, and a warning says
    so; not as many reconstructions as images, or fewer than 2, are a ``ValueError``.
    """
    streams = (x.split(batch_size) if isinstance(x, Tensor) else x for x in (images, reconstructions))
    before, after = (describe((x.clamp(-1, 1) for x in stream), features) for stream in streams)
    if before.count != after.count:
        raise ValueError(f"there are {before.count} images and {after.count} reconstructions")
    if before.count <= (dimensions := len(before.mean())):
        singular = "the covariances are singular, and the Fréchet distance compares only over the same images"
        warnings.warn(f"{before.count} images for {dimensions} features: {singular}", DiffusabWarning, stacklevel=2)
    return before.distance(after)


def check_enough(count: int | None, features: Features, few: bool, what: str = "samples") -> None:
    """Refuse a covariance that cannot have full rank, unless ``few`` allows it, with a :class:`SamplesError`."""
    if count is not None and count <= features.dimensions and not few:
        short = f"{count} {what} are too few for the {features.dimensions} features of {features.name}"
        short += f", it takes more than {features.dimensions}: the distance compares with nothing"
        raise SamplesError(f"{short}; few=True takes it all the same").at_shell(f"{short}; --few takes it all the same")


@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of the reference images over one feature network."""

    extractor: str  #: The network's ``name``
    digest: str  #: Of the network's weights
    quantised: bool  #: Whether images were rounded to 8 bits first; samples are treated as the reference was
    count: int | None  #: ``None`` where a file of another program does not say
    mean: Tensor  #: ``(D,)`` float64
    covariance: Tensor  #: ``(D, D)`` float64
    neighbours: Tensor  #: Features of a random subset ``(M, D)``, in random order, for precision and recall
    identity: Mapping[str, Any] = field(default_factory=dict)  #: Which images they are, in the caller's words

    def save(self, path: str | os.PathLike) -> Path:
        """Write a safetensors file, whole or not at all."""
        about = {key: value for key, value in vars(self).items() if key not in _TENSORS} | {"schema": _SCHEMA}
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        return write_bytes(path, save(tensors, {"reference": json.dumps(about, sort_keys=True)}))

    def distance(self, found: FeatureStatistics) -> float:
        """Fréchet distance of images described over the same network, and rounded to 8 bits or not as these were."""
        return frechet_distance(self.mean, self.covariance, found.mean(), found.covariance())

    def check_network(self, features: Features) -> None:
        """Refuse another network than that of the statistics, or other weights, with a :class:`SamplesError`."""
        here = {"extractor": features.name, "digest": features.digest}
        if different := differences(vars(self), here, here):
            raise SamplesError(f"the reference statistics are over another network: {different}")


def load_reference(path: str | os.PathLike) -> Reference:
    """Read what :meth:`Reference.save` wrote; a :class:`SamplesError` says that it is missing or damaged."""
    path = Path(path)
    if not path.is_file():
        raise SamplesError(f"there is no file of reference statistics {path}")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["reference"])
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        if about.pop("schema") != _SCHEMA:
            raise ValueError("another version of the format")
        return Reference(**about, **tensors)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise SamplesError(f"{path} is damaged or holds no reference statistics ({first_line(error)})") from error


def load_moments(path: str | os.PathLike, features: Features) -> Reference:
    """Statistics from an ``.npz`` with ``mu`` and ``sigma``, as pytorch-fid, ADM and EDM keep them.

    Such a file does not say which network it is of: it is taken for this one, whose dimensions it must have. Anything
    else is a :class:`SamplesError`.
    """
    try:
        mean, covariance = (torch.from_numpy(np.array(read_array(path, key), np.float64)) for key in ("mu", "sigma"))
        count = int(read_array(path, "count")) if "count" in list_arrays(path) else None
    except (ImagesError, TypeError) as error:
        raise SamplesError(f"{path} holds no statistics ({first_line(error)})") from error
    d = features.dimensions
    if tuple(mean.shape) != (d,) or tuple(covariance.shape) != (d, d):
        found = f"mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)}"
        advice = "choose its network with features (--features)"
        raise SamplesError(f"{path} holds {found}, {features.name} has {d} features: {advice}")
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise SamplesError(f"{path} holds NaN or Inf")
    about = {"statistics": Path(path).name}
    return Reference(features.name, features.digest, True, count, mean, covariance, torch.empty(0, d), about)


def save_moments(path: str | os.PathLike, count: int | None, mean: Tensor, covariance: Tensor) -> Path:
    """Write ``mu`` and ``sigma`` as pytorch-fid reads them, and ``count``; an ``.npz``, whole or not at all."""
    arrays = {"mu": mean.double().numpy(), "sigma": covariance.double().numpy()}
    arrays |= {} if count is None else {"count": np.array(count)}
    out = io.BytesIO()
    np.savez(out, **arrays)
    return write_bytes(path, out.getvalue())


def reference(
    images: Iterable[Tensor],
    features: Features,
    *,
    neighbours_up_to: int = 10_000,
    quantise: bool = True,
    cache: str | os.PathLike | None = None,
    identity: Mapping[str, Any] | None = None,
    world: World | None = None,
    progress: bool = True,
) -> Reference:
    """Statistics of reference images, computed once where there is a cache.

    A cache of other images, another network, other weights or fewer neighbours is refused with a
    :class:`SamplesError`, not replaced: it may have taken hours. So are fewer than 2 images.

    Args:
        images: Batches ``(N, 3, H, W)`` in [-1, 1], or clips for a video network; not looked at with a fitting cache.
        neighbours_up_to: How many features to keep for precision and recall.
        quantise: Round to 8 bits first, as FID is taken over files of 8 bits; samples are then rounded alike.
        cache: A safetensors file, read if it is there, else written.
        identity: All that matters about the images, plain JSON values by name: dataset, number, resolution, crop.
    """
    world = world or World()
    identity = json.loads(json.dumps(dict(identity or {})))  # as it comes back from the file
    wanted = {"extractor": features.name, "digest": features.digest, "quantised": quantise, "identity": identity}
    if cache is not None and (found := on_main(world, lambda: _cached(Path(cache), wanted, neighbours_up_to))):
        return found
    statistics = describe(images, features, quantise, neighbours_up_to, world, "reference" if progress else None)
    if statistics.count < 2:
        raise SamplesError(f"a reference needs at least 2 images, got {statistics.count}")
    moments = {"count": statistics.count, "mean": statistics.mean(), "covariance": statistics.covariance()}
    made = Reference(**wanted, **moments, neighbours=statistics.subset)
    if cache is not None:
        on_main(world, lambda: made.save(cache))
    return made


def _cached(path: Path, wanted: dict[str, Any], neighbours_up_to: int) -> Reference | None:
    if not path.exists():
        return None
    found = load_reference(path)
    have, identity = len(found.neighbours), dict(found.identity)
    there = vars(found) | {"neighbours": have} | identity
    here = wanted | {"neighbours": max(have, min(neighbours_up_to, found.count))} | wanted["identity"]
    if different := differences(there, here, sorted((here | identity).keys() - {"identity"})):
        raise SamplesError(f"{path} holds other reference statistics: {different}. Name another file, or remove it")
    return found


def evaluate_samples(
    samples: Iterable[Tensor] | FeatureStatistics,
    reference: Reference,
    features: Features,
    *,
    few: bool = False,
    precision_recall: int = 10_000,
    k: int = 3,
    world: World | None = None,
    progress: bool = True,
) -> dict[str, float]:
    r"""Judge samples against a reference, in one pass and constant memory.

    Too few samples or reference images, or another network than the reference's, are a :class:`SamplesError`.

    Args:
        samples: Batches as :func:`reference` takes them, rounded to 8 bits first if the reference was. Or what
            :func:`describe` made of them with the reference's ``quantised``, ``keep=precision_recall`` and the same
            world: for a second reference without a second pass.
        few: Allow no more samples, or reference images, than features, though the distance is far too high then.
        precision_recall: How many features of each side precision and recall are over, at most; 0 leaves them out.
            Always as many of one side as of the other: of the larger one a random subset.
        k: Of :func:`~diffusab_core.metrics.sets.precision_recall`.

    Returns:
        ``frechet_<name>``; ``precision``, ``recall`` and ``precision_recall_samples``, how many there are of each side;
        ``inception_score`` and ``inception_score_std`` (over 10 splits), if the network knows classes and there are
        enough samples for a split; ``samples`` and ``reference_samples``.
    """
    world = world or World()
    reference.check_network(features)
    check_enough(reference.count, features, few, "reference images")
    if precision_recall and (precision_recall <= k or k < 1):
        raise SamplesError(f"precision and recall need 1 <= k < {precision_recall} samples, got k={k}")
    if precision_recall and not len(reference.neighbours):
        raise SamplesError("the reference was made without features for precision and recall (neighbours_up_to=0)")
    found = samples
    if not isinstance(found, FeatureStatistics):
        bar = "samples" if progress else None
        found = describe(samples, features, reference.quantised, precision_recall, world, bar)
    check_enough(found.count, features, few)
    if found.count < 2:
        raise SamplesError(f"a Fréchet distance needs at least 2 samples, got {found.count}")

    def judge() -> dict[str, float]:
        scores = {f"frechet_{features.name}": reference.distance(found)}
        if precision_recall:
            n = min(len(mine := found.subset), len(reference.neighbours))
            precision, recall = sets.precision_recall(reference.neighbours[:n], mine[:n], k)
            scores |= {"precision": precision, "recall": recall, "precision_recall_samples": float(n)}
        return scores

    scores = on_main(world, judge)
    if found.inception_score is not None:
        scores |= zip(("inception_score", "inception_score_std"), found.inception_score, strict=True)
    known = {} if reference.count is None else {"reference_samples": float(reference.count)}
    return scores | {"samples": float(found.count)} | known


def frechet_to(reference: Reference, pictures: Iterable[Tensor], features: Features, few: bool = False) -> float:
    """Fréchet distance of batches of pictures to a reference, and nothing else: see :func:`evaluate_samples`."""
    found = evaluate_samples(pictures, reference, features, few=few, precision_recall=0, progress=False)
    return found[f"frechet_{features.name}"]
