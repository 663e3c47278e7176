r"""FreqWarm: a denoiser is fed latents of low-passed images first, and of whole ones later.

The autoencoder and the loss stay as they are. At step :math:`k` the denoiser sees the latents of images whose
frequencies beyond the cutoff :math:`r(k)` are removed before they are encoded,

.. math:: z_k = E\bigl(F^{-1}(M_{r(k)} \cdot F(x))\bigr), \qquad M_r(f) = [\, |f| \le r \,],

with :math:`r(k)` from :class:`FreqWarm`, a pure function of the step, so that a run that was cut off goes on with the
images it would have seen. All latents are normalised by the statistics of the whole images', the space that is sampled.
Radii are in cycles per pixel of the image that is encoded.

Source: "Toward Diffusible High-Dimensional Latent Spaces: A Frequency Perspective" (2025), which has the hard switch
with :math:`r_0 = 0.2` and does not print how long its first stage is; the other two schedules are this book's, and so
are two controls that tell what of it acts: :class:`Reversed` ends with low-passed images in place of beginning with
them, and :class:`ScaledLatents` have the energies of low-passed images' latents with nothing filtered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from diffusab_core.data.places import Choosing
from diffusab_core.files import differences
from diffusab_core.latents.base import STATISTICS_SAMPLES, Latents
from diffusab_core.latents.cache import LatentCache
from diffusab_core.latents.encoded import EncodedLatents
from diffusab_core.latents.extraction import Extraction, extract
from diffusab_core.latents.identity import LatentsError
from diffusab_core.training.world import World

#: Beyond this radius there are no frequencies: the corner of the spectrum, in cycles per pixel.
EVERYTHING = math.sqrt(0.5)
SCHEDULES = ("hard", "linear", "cosine")
_TOGETHER = 256  # latents at a time, where energies are measured


@dataclass(frozen=True)
class FreqWarm:
    r"""The cutoff as a function of the step.

    .. math:: r(k) = \begin{cases} r_0 + (\sqrt{1/2} - r_0)\, s(k / W) & k < W \\ \infty & k \ge W \end{cases}

    with :math:`s = 0` (hard switch), :math:`s(u) = u` (linear) or :math:`s(u) = (1 - \cos \pi u) / 2` (cosine).

    Attributes:
        warmup_steps: W, how many of the run's steps the warm-up takes; 0 is a run without.
        r0: :math:`r_0` in cycles per pixel, where the cutoff starts.
        schedule: ``"hard"``, ``"linear"`` or ``"cosine"``.
    """

    warmup_steps: int
    r0: float = 0.2
    schedule: str = "hard"

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise LatentsError(f"warmup_steps must not be negative, got {self.warmup_steps}")
        if not 0 < self.r0 < EVERYTHING:
            raise LatentsError(f"r0 must lie between 0 and {EVERYTHING:.4f} cycles per pixel, got {self.r0}")
        if self.schedule not in SCHEDULES:
            raise LatentsError(f"schedule is one of {', '.join(SCHEDULES)}, got {self.schedule!r}")

    def cutoff(self, step: int) -> float:
        """The radius at a step (from 0), in cycles per pixel; infinite from ``warmup_steps`` on."""
        if step >= self.warmup_steps:
            return math.inf
        u = step / self.warmup_steps
        share = {"hard": 0.0, "linear": u, "cosine": (1 - math.cos(math.pi * u)) / 2}[self.schedule]
        return self.r0 + (EVERYTHING - self.r0) * share


@dataclass(frozen=True)
class Reversed(FreqWarm):
    r"""The same cutoffs in the opposite order: whole images first, low-passed ones in the last W of S steps.

    .. math:: r_\text{reversed}(k) = r(S - 1 - k)

    From step S on, where there is nothing to train, images are whole: the space that is sampled is that of whole ones.

    Attributes:
        steps: S, how many steps the run takes.
    """

    steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < self.warmup_steps:
            raise LatentsError(f"{self.warmup_steps} steps on low-passed images do not fit in {self.steps} steps")

    def cutoff(self, step: int) -> float:
        """The radius at a step (from 0), in cycles per pixel; infinite before the last ``warmup_steps``."""
        return super().cutoff(self.steps - 1 - step) if step < self.steps else math.inf


class ScaledLatents(Latents):
    r"""Latents of whole images, each frequency of which has the energy that it has in low-passed images' latents.

    .. math:: \hat z(f) \mapsto g(f)\, \hat z(f), \qquad
              g(f)^2 = \frac{\sum_{i,c} |\hat z^\text{low}_{i,c}(f)|^2 / s_c^2}{\sum_{i,c} |\hat z_{i,c}(f)|^2 / s_c^2}

    with the discrete Fourier transform over the last two axes, and the whole images' standard deviation :math:`s_c` of
    each channel. Posterior means over at most 2048 items, spread evenly over all, are measured. Phases stay, and so do
    the zero frequency, frequencies without energy, and the posterior's standard deviation.
    """

    def __init__(self, whole: Latents, low: Latents) -> None:
        super().__init__(len(whole), whole.shape, whole.class_names, low.identity, whole.flips)
        self.whole, self.low = whole, low

    @property
    def statistics(self) -> tuple[Tensor, Tensor]:
        return self.whole.statistics

    @cached_property
    def gains(self) -> Tensor:
        """:math:`g` ``(h, w)``, float64, in the layout of ``torch.fft.fft2``."""
        count = min(len(self), STATISTICS_SAMPLES)
        places = [i * len(self) // count for i in range(count)]
        low, whole = (self._energy(latents, places) for latents in (self.low, self.whole))
        gains = torch.where(whole > 0, low / whole, 1.0).sqrt()
        gains[0, 0] = 1.0
        return gains

    def _energy(self, latents: Latents, places: Sequence[int]) -> Tensor:
        total = torch.zeros(self.shape[-2:], dtype=torch.float64)
        for start in range(0, len(places), _TOGETHER):
            z = self.normalise(latents.posterior(places[start : start + _TOGETHER])[0].double())
            total += torch.fft.fft2(z).abs().square().flatten(0, -3).sum(0)
        return total

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        mean, std, y = self.whole._read(indices, flipped)
        scaled = torch.fft.ifft2(torch.fft.fft2(mean.double()) * self.gains).real
        return scaled.to(mean.dtype), std, y


class WarmedLatents(Latents):
    """Latents under a curriculum, to be trained on as any others.

    Args:
        whole: Those of the whole images; also what statistics, shape and classes are taken from.
        curriculum: The cutoff of each step.
        low_passed: Latents of the same images by the radius that those were cut at. A step takes those with the largest
            radius that is not beyond its cutoff, so never shows more than the schedule promises. ``None``: images are
            cut and encoded on the fly, at exactly the cutoff, by ``whole``, which must be ``EncodedLatents`` then.
        amplitude_only: In place of low-passed images' latents show :class:`ScaledLatents`.

    Raises:
        LatentsError: The latents differ in more than the radius (the message names the difference), are not of the
            radius they are said to be, or none is small enough for the first step.
    """

    def __init__(
        self,
        whole: Latents,
        curriculum: FreqWarm,
        low_passed: Mapping[float, Latents] | None = None,
        *,
        amplitude_only: bool = False,
    ) -> None:
        if low_passed is None and not isinstance(whole, EncodedLatents):
            raise LatentsError("stored latents cannot be cut any more: give those of low-passed images beside them")
        if low_passed is None and amplitude_only:
            raise LatentsError("amplitudes are those of stored latents: give those of low-passed images beside them")
        self.whole, self.curriculum = whole, curriculum
        self.low_passed = None if low_passed is None else dict(sorted(low_passed.items()))
        about = asdict(curriculum)
        if self.low_passed is not None:
            for radius, latents in self.low_passed.items():
                _check_same(whole, latents, radius)
            if curriculum.warmup_steps and min(self.low_passed, default=math.inf) > curriculum.r0:
                given = ", ".join(f"{r:g}" for r in self.low_passed) or "none"
                raise LatentsError(
                    f"no latents of images cut at {curriculum.r0} cycles per pixel or below, got {given}"
                )
            about["radii"] = list(self.low_passed)
        if amplitude_only:
            about["amplitude_only"] = True
            self.low_passed = {radius: ScaledLatents(whole, low) for radius, low in self.low_passed.items()}
        identity = whole.identity | {"curriculum": about}
        super().__init__(len(whole), whole.shape, whole.class_names, identity, whole.flips)

    @property
    def statistics(self) -> tuple[Tensor, Tensor]:
        return self.whole.statistics

    def radius(self, step: int) -> float:
        """The radius that the images of a step are really cut at; infinite for whole ones."""
        cutoff = self.curriculum.cutoff(step)
        if cutoff == math.inf or self.low_passed is None:
            return cutoff
        return max(r for r in self.low_passed if r <= cutoff)

    def at(self, step: int) -> Latents:
        """The latents to train on at a step."""
        radius = self.radius(step)
        if radius == math.inf:
            return self.whole
        return self.whole.low_passed(radius) if self.low_passed is None else self.low_passed[radius]

    def _read(self, indices: list[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.whole._read(indices, flipped)


def _check_same(whole: Latents, other: Latents, radius: float) -> None:
    found = other.identity.get("low_pass")
    if found != radius:
        cut = f"cut at {found}" if found is not None else "not cut"
        raise LatentsError(f"latents of images cut at {radius} cycles per pixel were expected, these are {cut}")
    a, b = (
        {name: value for name, value in latents.identity.items() if name != "low_pass"}
        | {"shape": latents.shape, "flips": latents.flips, "classes": latents.class_names, "count": len(latents)}
        for latents in (whole, other)
    )
    if different := differences(a, b, word="and"):
        raise LatentsError(f"the latents of whole and of low-passed images are not of the same: {different}")


def warmed(latents: Latents, curriculum: FreqWarm, *, device: str = "cpu", world: World | None = None) -> WarmedLatents:
    """A curriculum on any latents: on the fly where they are encoded when asked for, from two caches where stored.

    On a cache only the hard schedule is what it says; others would need a cache for each radius, which
    :class:`WarmedLatents` takes. The second cache is encoded on ``device``, shared among the processes of ``world``. A
    ``LatentsError`` for a schedule that widens on a cache, and for a cache that another cannot be made from.
    """
    if isinstance(latents, EncodedLatents):
        return WarmedLatents(latents, curriculum)
    if curriculum.schedule != "hard":
        needs = f"the {curriculum.schedule} schedule needs images at every radius"
        raise LatentsError(f"{needs}: encode on the fly, or take the hard one")
    if not isinstance(latents, LatentCache):
        raise LatentsError(f"a {type(latents).__name__} does not know its images: give latents of low-passed ones, too")
    low = low_passed_cache(latents, curriculum.r0, device=device, world=world)
    return WarmedLatents(latents, curriculum, {curriculum.r0: low})


def low_passed_cache(
    cache: LatentCache, radius: float, *, device: str = "cpu", world: World | None = None
) -> LatentCache:
    """The cache of the same images low-passed, beside the given one; extracted first unless it is there.

    A ``LatentsError`` where the cache, whose images ``extract`` must have opened itself, does not say how to.
    """
    found = cache.identity
    names = ("images", "resolution", "crop", "samples", "flips", "labels", "seed", "precision", "dtype")
    if missing := [name for name in ("autoencoder", *names) if name not in found]:
        raise LatentsError(f"{cache.path} does not say its {missing[0]}: extract the low-passed latents by hand")
    names += tuple(field.name for field in fields(Choosing) if field.name in found)
    chosen = {name: tuple(found[name]) if isinstance(found[name], list) else found[name] for name in names}
    chosen |= {"shard_size": cache.index["shard_size"], "low_pass": radius, "device": device}
    folder = cache.path.with_name(f"{cache.path.name}-low{radius:g}")
    return extract(Extraction(found["autoencoder"], **chosen), folder, world=world)
