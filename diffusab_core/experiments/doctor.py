"""Why a Fréchet distance is not the published one: the known causes, and what the files themselves say about each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch.utils.data import Dataset

from diffusab_core.data.arrays import list_arrays
from diffusab_core.data.open import open_images
from diffusab_core.data.pixels import UnusableImage
from diffusab_core.data.places import WORDS, Choosing, ImagesError
from diffusab_core.data.stores import StoredImages
from diffusab_core.experiments.samples import (
    SampleEvaluation,
    is_statistics,
    open_samples,
    say_stored_differently,
    stored_as,
)
from diffusab_core.metrics.samples import SamplesError

Verdict = Literal["ok", "look", "unknown"]

PUBLISHED_SAMPLES = 50_000  #: What published FIDs of class-conditional ImageNet are over
FEW_STEPS = 50  #: Below, samplers of first and second order still differ visibly from their limit
#: "About 0.46 and 0.26" is the mean over the 329 photographs of scripts/photographs.toml, short side 256.
_LEVELS, _SPREAD, _BALANCE, _CLIPPED = 0.05, 0.2, 0.05, 0.05  # of what counts as different


@dataclass(frozen=True)
class Finding:
    """One known cause, and what was found out about it."""

    cause: str
    verdict: Verdict  #: Nothing wrong; something to look at; or nothing that the files could say
    said: str


@dataclass(frozen=True)
class Diagnosis(Choosing):
    """What to compare; choices are of the reference.

    Attributes:
        samples: A folder that ``diffusab sample`` wrote, ``.npz`` of ``arr_0``, or another place of images.
        reference: A place of real images, or a file of statistics.
        limit: How many images of each side are opened.
    """

    samples: str
    reference: str
    limit: int = 256

    def __post_init__(self) -> None:
        if self.limit < 2:
            raise SamplesError(f"limit must be at least 2, got {self.limit}")


def diagnose(settings: Diagnosis) -> list[Finding]:
    """Go through the causes in the order in which they cost most; nothing needs a network.

    Samples that cannot be opened, or none, are an error of theirs.
    """
    if settings.samples in WORDS or settings.reference in WORDS:
        raise SamplesError("photos and leaves are no samples of a model and no reference of a paper")
    wanted = SampleEvaluation(settings.samples, settings.reference, resolution=1)
    samples, sampling = open_samples(wanted, progress=True)
    samples = samples.images
    reference, labelled = _open_reference(settings)
    mine, theirs = _look(samples, settings.limit), _look(reference, settings.limit)
    return [
        _judge_number(len(samples), reference, theirs),
        _judge_sizes(mine, theirs),
        _judge_storage(samples, reference),
        _judge_levels(mine, theirs),
        _judge_duplicates(mine),
        *_judge_sampling(sampling),
        _judge_balance(_class_counts(settings.samples, sampling), labelled),
    ]


def _open_reference(settings: Diagnosis) -> tuple[StoredImages | None, dict[str, int]]:
    """The reference, unless it is statistics, and how often each class occurs, where it has labels."""
    if is_statistics(settings.reference):
        return None, {}
    found = open_images(settings.reference, 1, check="none", **settings.choices)
    try:
        labelled = open_images(settings.reference, 1, check="none", labels=True, **settings.choices)
    except ImagesError:
        return found, {}
    return found, dict(Counter(map(str, labelled.targets)))


@dataclass(frozen=True)
class _Look:
    """What some of the images are like."""

    sizes: Counter[tuple[int, int]]  #: Height and width
    mean: float  #: Of the levels, from 0 to 1
    error: float  #: Standard error of that mean, since images differ
    spread: float  #: Standard deviation of the levels
    clipped: float  #: The share of levels that are 0 or 255
    duplicates: int  #: How many are equal to an earlier one
    count: int
    broken: int  #: That could not be opened


def _look(images: StoredImages | None, limit: int) -> _Look | None:
    if images is None:
        return None
    sizes, seen, sums, clipped, means, broken = Counter(), set(), np.zeros(3), 0, [], 0
    chosen = np.random.default_rng(0).permutation(len(images))[:limit]
    for i in np.sort(chosen).tolist():
        try:
            pixels = images.pixels(i)
        except UnusableImage:
            broken += 1  # evaluate-samples names it
            continue
        sizes[pixels.shape[:2]] += 1
        seen.add(hashlib.sha256(pixels.tobytes()).digest())
        levels = pixels.astype(np.float64) / 255
        sums += [levels.size, levels.sum(), np.square(levels).sum()]
        clipped += np.count_nonzero((pixels == 0) | (pixels == 255))
        means.append(levels.mean())
    if not means:
        raise SamplesError(f"no usable image in {images.where}")
    mean = sums[1] / sums[0]
    spread = float(np.sqrt(max(0.0, sums[2] / sums[0] - mean**2)))
    error, copies = float(np.std(means) / np.sqrt(len(means))), len(means) - len(seen)
    return _Look(sizes, float(mean), error, spread, clipped / sums[0], copies, len(means), broken)


def _judge_number(count: int, reference: Dataset | None, theirs: _Look | None) -> Finding:
    against = "statistics" if reference is None else f"{len(reference):,} reference images"
    if theirs is not None and theirs.broken:
        against += f", of which {theirs.broken} of {theirs.count + theirs.broken} cannot be opened and are left out"
    said = f"{count:,} samples against {against}"
    if count < PUBLISHED_SAMPLES:
        said += f"; published numbers are over {PUBLISHED_SAMPLES:,}, and with fewer the distance is larger"
        return Finding("number of samples", "look", said)
    return Finding("number of samples", "ok", said)


def _judge_sizes(mine: _Look, theirs: _Look | None) -> Finding:
    cause, (height, width) = "size and resizing", next(iter(mine.sizes))
    if len(mine.sizes) > 1:
        return Finding(cause, "look", f"samples are of {len(mine.sizes)} different sizes")
    here = f"samples are {width} x {height} pixels"
    if theirs is None:
        return Finding(cause, "unknown", f"{here}; how the images behind the statistics were resized nobody can see")
    if set(theirs.sizes) == {(height, width)}:
        return Finding(cause, "ok", f"{here}, as the reference is")
    smaller = sum(n for size, n in theirs.sizes.items() if min(size) < min(height, width))
    if smaller:
        return Finding(cause, "look", f"{here}, {smaller} of {theirs.count} reference images are smaller and left out")
    return Finding(cause, "look", f"{here}, reference images are larger: they are cropped to the centred square and "
                   "resized, antialiased; published references are cropped as ADM does, --crop adm")  # fmt: skip


def _judge_storage(samples: StoredImages, reference: StoredImages | None) -> Finding:
    mine, theirs = stored_as(samples), stored_as(reference)
    if not theirs:
        return Finding("storage", "unknown", f"samples are {next(iter(mine), 'arrays')}, the reference is statistics")
    if said := say_stored_differently(mine, theirs):
        return Finding("storage", "look", said)
    return Finding("storage", "ok", f"both sides are stored alike, {next(iter(mine))}")


def _judge_levels(mine: _Look, theirs: _Look | None) -> Finding:
    cause = "normalisation"
    here = f"brightness {mine.mean:.3f} with spread {mine.spread:.3f}"
    if theirs is None:
        return Finding(cause, "unknown", f"samples have {here}; photographs have about 0.46 and 0.26")
    there = f"the reference {theirs.mean:.3f} with {theirs.spread:.3f}"
    chance = 3 * np.hypot(mine.error, theirs.error)
    brighter = abs(mine.mean - theirs.mean) > _LEVELS + chance
    wrong = brighter or abs(mine.spread / max(theirs.spread, 1e-6) - 1) > _SPREAD
    if mine.clipped - theirs.clipped > _CLIPPED:
        share = f"{mine.clipped:.0%} of all levels are black or white, in the reference {theirs.clipped:.0%}"
        return Finding(cause, "look", f"{share}: too much guidance, or latents decoded at another scale")
    if wrong:
        return Finding(cause, "look", f"samples have {here}, {there}: latents decoded without undoing their "
                       "normalisation, images in another range, or a denoiser that has learned too little")  # fmt: skip
    return Finding(cause, "ok", f"samples have {here}, {there}")


def _judge_duplicates(mine: _Look) -> Finding:
    if mine.duplicates:
        said = f"{mine.duplicates} of {mine.count} samples are copies of another: one seed was used twice"
        return Finding("copies", "look", said)
    return Finding("copies", "ok", f"none among {mine.count} samples")


def _judge_sampling(sampling: Mapping[str, Any] | None) -> list[Finding]:
    """Guidance, steps and autoencoder, which only the file beside the samples can tell."""
    if sampling is None:
        nobody = "no samples.json beside the samples says it"
        return [Finding(cause, "unknown", nobody) for cause in ("guidance", "steps", "autoencoder")]
    guidance, steps = sampling.get("guidance"), sampling.get("steps")
    found = []
    if guidance is None or guidance == 1:
        found.append(Finding("guidance", "ok" if guidance else "unknown", "none" if guidance else "not said"))
    else:
        interval = sampling.get("guidance_interval", [0, 1])
        said = f"{guidance:g} for times from {interval[0]:g} to {interval[1]:g}, on all channels"
        said += "; DiT's own script guides the first three only, and most tables are without"
        found.append(Finding("guidance", "look", said))
    if steps is None:
        found.append(Finding("steps", "unknown", "not said"))
    else:
        sampler = f"{steps} of {sampling.get('sampler', 'an unknown sampler')}"
        few = steps < FEW_STEPS
        found.append(Finding("steps", "look" if few else "ok", sampler + "; published are 250 or 256" * few))
    name = sampling.get("autoencoder")
    said = f"{name}; what it loses is in the distance, and evaluate-samples --decoded-by {name} tells it apart"
    found.append(Finding("autoencoder", "ok" if name else "unknown", said if name else "not said"))
    return found


def _class_counts(place: str, sampling: Mapping[str, Any] | None) -> dict[str, int]:
    if sampling is not None:
        return dict(sampling.get("class_counts") or {})
    if place.endswith(".npz") and {"arr_1", "labels"} & set(list_arrays(place)):
        return dict(Counter(map(str, open_images(place, 1, check="none", labels=True).targets)))
    return {}


def _judge_balance(mine: Mapping[str, int], theirs: Mapping[str, int]) -> Finding:
    cause = "class balance"
    if not mine or not theirs:
        side = "the samples" if not mine else "the reference"
        return Finding(cause, "unknown", f"{side} have no labels" if not mine else f"{side} has no labels")
    shares = [{key: n / sum(counts.values()) for key, n in counts.items()} for counts in (mine, theirs)]
    keys = shares[0].keys() | shares[1].keys()
    moved = sum(abs(shares[0].get(key, 0) - shares[1].get(key, 0)) for key in keys) / 2
    said = f"{len(mine)} classes of samples, {len(theirs)} of the reference; {moved:.0%} would have to change class"
    return Finding(cause, "look" if moved > _BALANCE else "ok", said)
