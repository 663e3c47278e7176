r"""What a trial is, and what it is tried on: its settings, latents, references and ruler.

Latents, statistics of references and rulers are shared by all runs of a store, in its folder ``cache``: whoever comes
first makes them, and two processes at once make them once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusab_core import autoencoders, metrics
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.files import SettingsError, digest_json, turn, write_json
from diffusab_core.latents import Extraction, Latents, extract
from diffusab_core.latents.extraction import open_extracted, read_usable
from diffusab_core.latents.identity import weights_digest
from diffusab_core.methods import denoising
from diffusab_core.methods.denoising import Denoising, Sampling
from diffusab_core.methods.freqwarm import FreqWarm, Reversed, WarmedLatents
from diffusab_core.methods.reshaping import Reshaping, make_up
from diffusab_core.metrics import yardsticks
from diffusab_core.metrics.clips import CLIP_FEATURES
from diffusab_core.metrics.networks import Judge
from diffusab_core.metrics.samples import FEATURES, Reference, open_features
from diffusab_core.training.world import World, alone, on_main

#: Cutoffs in cycles per pixel that a widening schedule of FreqWarm steps through.
RADII = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
#: What FreqWarm shows: low-passed images first, or in the end, or whole images' latents at the energies of those.
WARMUPS = ("filtered", "reversed", "amplitude")
_PIXELS = 65_536  # that are decoded at once: 64 images of 32 x 32


@dataclass(frozen=True)
class Trial:
    """All that is chosen. The defaults are the standard arm, which costs about two minutes of one core.

    Attributes:
        autoencoder: Shipped name, diffusers folder or hub id.
        images: What is encoded: a place of images, see ``diffusab profile --help``.
        reference_images: The same for the reference; empty: other crops, or other images, of the same.
        resolution: Side in pixels.
        crop: ``"center"`` or ``"random"``, of stored images.
        frames: Of clips, for a video autoencoder; ``None``: images.
        labels: Whether the denoiser is told classes.
        flips: Whether to mirror half of the images.
        crops: Images to train on, at most.
        reference: Images that samples are compared with, at most.
        data_seed: Of the choice of images and crops; the reference's is the next one.
        denoiser: See :class:`~diffusab_core.methods.denoising.Denoising`, as for all to ``checkpoint_activations``.
        r0: Where FreqWarm's cutoff starts, in cycles per pixel of the image; 0: no curriculum.
        warmup_steps: How many steps FreqWarm's warm-up takes; ``None``: a quarter.
        schedule: Of the cutoff; ``"hard"``, ``"linear"`` or ``"cosine"``.
        radii: Cutoffs that a widening schedule steps through; none: ``r0`` and those of :data:`RADII` above it.
        warmup_kind: Of FreqWarm: ``"filtered"``, as published; ``"reversed"``, low-passed images in the last steps and
            not in the first; ``"amplitude"``, whole images' latents with the energies of low-passed ones.
        mask: See :class:`~diffusab_core.methods.reshaping.Reshaping`, as for all down to ``white_channels``.
        samples: How many are drawn at each shift.
        sampling_steps: Of the sampler.
        sampler: Its method; empty: the first that the denoiser can use.
        shifts: Time shifts to sample with; numbers without a shift in their names are of shift 1, or of the first.
        guidance: Scale of classifier-free guidance.
        sampling_seed: Of the noise; ``None``: the run's.
        sampling_batch: Samples at a time.
        features: Networks to judge with, of :data:`~diffusab_core.metrics.samples.FEATURES`, or for clips of
            :data:`~diffusab_core.metrics.clips.CLIP_FEATURES`; the first chooses the best shift.
        snapshots: How often to look at samples along the way, besides before the first step.
        snapshot_samples: How many samples that takes.
        snapshot_steps: And of how many steps.
        block_size: Side of a DCT block in latent pixels.
        checkpoint_every: Steps between checkpoints.
        seed: Of weights, order, noise and times.

    Raises:
        SettingsError: A value that cannot be used.
    """

    autoencoder: str = "kl-f4c16"
    images: str = "photos"
    reference_images: str = ""
    resolution: int = 32
    crop: str = "center"
    frames: int | None = None
    labels: bool = False
    flips: bool = False
    crops: int = 8192
    reference: int = 8192
    data_seed: int = 0
    denoiser: str = "DiT-XXS/2"
    steps: int = 600
    batch_size: int = 32
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warmup: int | None = None
    weight_decay: float = 0.01
    clip: float = 16.0
    ema_half_life: float | None = None
    time_location: float = 0.0
    time_scale: float = 1.0
    self_conditioning: float = 0.0
    label_dropout: float = 0.1
    precision: str = "fp32"
    accumulation: int = 1
    compile: bool = False
    checkpoint_activations: bool = False
    r0: float = 0.0
    warmup_steps: int | None = None
    schedule: str = "hard"
    radii: tuple[float, ...] = ()
    warmup_kind: str = "filtered"
    mask: str = "none"
    power: float = 1.0
    ramp_from: float = 1.0
    ramp: float = 0.0
    parts: str = "NLC"
    filter: str = ""
    surrogate: str = "none"
    white_channels: int = 0
    samples: int = 1024
    sampling_steps: int = 20
    sampler: str = ""
    shifts: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    guidance: float = 1.0
    sampling_seed: int | None = None
    sampling_batch: int = 64
    features: tuple[str, ...] = ("offline", "lite0p64")
    snapshots: int = 3
    snapshot_samples: int = 256
    snapshot_steps: int = 10
    block_size: int = 8
    checkpoint_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("radii", "shifts", "features"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, least in {"crops": 2, "reference": 2, "samples": 2, "snapshots": 0, "snapshot_samples": 2}.items():
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.shifts or len(set(self.shifts)) < len(self.shifts):
            raise SettingsError(f"shifts must be different numbers, at least one, got {list(self.shifts)}")
        known = FEATURES if self.frames is None else CLIP_FEATURES
        if unknown := [name for name in self.features if name not in known] or ([""] if not self.features else []):
            kind = "images" if self.frames is None else "clips"
            raise SettingsError(f"features of {kind} are some of {', '.join(known)}, got {unknown[0]!r}")
        if self.warmup_kind not in WARMUPS:
            raise SettingsError(f"warmup_kind must be one of {', '.join(WARMUPS)}, got {self.warmup_kind!r}")
        if self.warmup_kind != "filtered" and not self.r0:
            raise SettingsError(f"warmup_kind {self.warmup_kind!r} is FreqWarm's, which begins with an r0 above 0")
        if self.checkpoint_every < 1:
            raise SettingsError(f"checkpoint_every must be at least 1, got {self.checkpoint_every}")
        # What the parts refuse, they refuse here, before anything is computed.
        settings = self.denoising()
        for shift in self.shifts:
            denoising.resolve_sampling(self.sampling(shift), settings.prediction)
        _ = self.curriculum

    @classmethod
    def pick(cls, values: Mapping[str, Any]) -> Trial:
        """The trial from a mapping that has all of its fields, and perhaps others, such as a notebook's globals."""
        return cls(**{f.name: values[f.name] for f in fields(cls)})

    @property
    def data(self) -> str:
        """What it sees, in words."""
        what = {"photos": "crops of the training photographs", "leaves": "images of dead leaves"}
        of = f"at most {self.crops} images of {self.images}"
        if self.frames is not None:
            what = {"leaves": f"clips of {self.frames} frames of moving dead leaves"}
            of = f"at most {self.crops} clips of {self.frames} frames of {self.images}"
        if self.images in what:
            of = f"{self.crops} {what[self.images]}"
        return f"{of}, {self.resolution} x {self.resolution}"

    @property
    def reshaping(self) -> Reshaping:
        return Reshaping(**{f.name: getattr(self, f.name) for f in fields(Reshaping)})

    @property
    def curriculum(self) -> FreqWarm | None:
        if not self.r0:
            return None
        plan = FreqWarm(self.steps // 4 if self.warmup_steps is None else self.warmup_steps, self.r0, self.schedule)
        if plan.warmup_steps > self.steps:
            raise SettingsError(f"warmup_steps {plan.warmup_steps} are more than the run's {self.steps} steps")
        return Reversed(**asdict(plan), steps=self.steps) if self.warmup_kind == "reversed" else plan

    def denoising(self, device: str | torch.device = "cpu") -> Denoising:
        """The training."""
        own = {f.name for f in fields(self)} & {f.name for f in fields(Denoising)}
        own = {name: getattr(self, name) for name in own - {"reshaping"}}
        return Denoising(**own, device=str(device), reshaping=self.reshaping)

    def sampling(self, shift: float, samples: int | None = None, steps: int | None = None) -> Sampling:
        """How samples are drawn, at a shift."""
        return Sampling(
            samples or self.samples, steps or self.sampling_steps, self.sampler or None, shift, self.guidance,
            batch_size=self.sampling_batch, precision=self.precision,
            seed=self.seed if self.sampling_seed is None else self.sampling_seed,
        )  # fmt: skip

    @property
    def base_shift(self) -> float:
        """That of the numbers that name none."""
        return 1.0 if 1.0 in self.shifts else self.shifts[0]

    def extraction(self, reference: bool = False, low_pass: float | None = None) -> Extraction:
        """The latents to train on, or those of the reference."""
        chosen = {"images": self.images, "samples": self.crops, "seed": self.data_seed, "flips": self.flips}
        if reference:
            where = self.reference_images or self.images
            chosen = {"images": where, "samples": self.reference, "seed": self.data_seed + 1, "flips": False}
        return Extraction(
            self.autoencoder, resolution=self.resolution, crop=self.crop, labels=self.labels, dtype="float32",
            low_pass=low_pass, frames=self.frames, **chosen,
        )  # fmt: skip


class Bench:
    """What a trial needs and others may have made: the autoencoder, latents, references and the ruler.

    Everything is made, or read from the cache, when it is first asked for.

    Args:
        trial: What is chosen.
        cache: Folder that the runs of a store share.
        device: Where to compute.
        workers: Processes that read images ahead.
        world: Processes that all ask for the latents; the rest is work of one.
        progress: Show progress bars.
    """

    def __init__(
        self,
        trial: Trial,
        cache: str | os.PathLike,
        *,
        device: str | torch.device = "cpu",
        workers: int = 0,
        world: World | None = None,
        progress: bool = True,
    ) -> None:
        self.trial, self.cache, self.workers, self.progress = trial, Path(cache), workers, progress
        self.world = alone(device) if world is None else world
        self.device = self.world.device

    @cached_property
    def autoencoder(self) -> Autoencoder:
        return autoencoders.load(self.trial.autoencoder, self.device, probe=self.trial.resolution)

    @cached_property
    def source(self) -> str:
        """What to call the autoencoder where paths would say nothing: a folder by its own name."""
        place = Path(self.trial.autoencoder)
        return place.resolve().name if place.is_dir() else self.trial.autoencoder

    @cached_property
    def weights(self) -> str:
        return weights_digest(self.autoencoder)

    @cached_property
    def latents(self) -> Latents:
        """Those to train on, under the curriculum if there is one."""
        whole, plan = self._extracted(self.trial.extraction()), self.trial.curriculum
        if plan is None:
            return whole
        radii = (plan.r0,) if plan.schedule == "hard" else self.trial.radii or (plan.r0, *RADII)
        radii = sorted({r for r in radii if r >= plan.r0})
        low = {r: self._extracted(self.trial.extraction(low_pass=r)) for r in radii}
        return WarmedLatents(whole, plan, low, amplitude_only=self.trial.warmup_kind == "amplitude")

    @cached_property
    def shown(self) -> Latents:
        """Those that the denoiser has to make in the end: of whole images, without channels that are dropped."""
        return make_up(self.latents.at(self.trial.steps), replace(self.trial.reshaping, white_channels=0))

    @cached_property
    def held_out(self) -> Latents:
        """Latents of the reference's images."""
        return self._extracted(self.trial.extraction(reference=True))

    @cached_property
    def real(self) -> Latents:
        """The same as :attr:`shown` are: a surrogate where the denoiser learns one."""
        return make_up(self.held_out, replace(self.trial.reshaping, white_channels=0), like=self.latents)

    @property
    def _at_once(self) -> int:
        """Images or clips that are encoded or decoded together."""
        return max(8, _PIXELS // (self.trial.resolution**2 * (self.trial.frames or 1)))

    def _extracted(self, settings: Extraction) -> Latents:
        about = settings.as_values() | {"model": self.weights}
        del about["device"]
        folder = self.cache / "latents" / digest_json(about)[:12]
        settings = replace(settings, device=str(self.device))
        batch = self._at_once
        how = {"batch_size": batch, "workers": self.workers, "progress": self.progress, "world": self.world}
        with ExitStack() as stack:
            # Another run may be making them: its turn ends with the whole cache.
            on_main(self.world, lambda: stack.enter_context(turn(folder.with_suffix(".lock"))))
            made = extract(settings, folder, **how)
        made.identity = made.identity | {"autoencoder": self.source}
        return made

    @cached_property
    def networks(self) -> dict[str, Judge]:
        return {name: open_features(name, device=self.device) for name in self.trial.features}

    def decode(self, z: Tensor, start: int = 0) -> Tensor:
        """Images of raw latents, clamped to [-1, 1]; ``start`` is the place of the first."""
        at_once = self._at_once
        decode = self.autoencoder.decode_in_order(start)
        return torch.cat([decode(some.to(self.device)).clamp(-1, 1) for some in z.split(at_once)])

    def _real_batches(self) -> Iterator[Tensor]:
        for start in range(0, len(self.real), 64):
            z = yardsticks.posterior_samples(self.real, range(start, min(len(self.real), start + 64)))
            yield self.decode(z, start)

    def reference(self, name: str, what: str) -> Reference:
        """Statistics over a network of the reference's decoded latents (``"gap"``) or images (``"frechet"``)."""
        key = (name, what)
        if key not in self._references:
            settings = self.trial.extraction(reference=True)
            about = settings.as_values() | {"model": "", "what": what}
            if what == "gap":
                about |= {"model": self.weights, "surrogate": self.trial.surrogate}
                if self.trial.surrogate != "none":
                    about["like"] = self.trial.extraction().as_values() | {"model": self.weights}
            network = self.networks[name]
            file = self.cache / "references" / f"{digest_json([about, name, network.digest])[:12]}.safetensors"
            with turn(file.with_suffix(".lock")):
                images = self._real_batches() if what == "gap" else self._images(settings)
                self._references[key] = metrics.reference(images, network, cache=file, progress=self.progress)
        return self._references[key]

    @cached_property
    def _references(self) -> dict[tuple[str, str], Reference]:
        return {}

    def _images(self, settings: Extraction) -> Iterator[Tensor]:
        return read_usable(open_extracted(settings, self.progress), 64, self.workers)

    @cached_property
    def ruler(self) -> dict[str, Any]:
        """What known damage to real latents costs in both distances, for as many latents as there are samples."""
        name = self.trial.features[0]
        return self._once([name, self.networks[name].digest], lambda: self._measure_ruler(name))

    def floor(self, name: str) -> float:
        """The gap of real latents, over any of the networks: what a perfect denoiser would reach."""

        def measure() -> dict[str, float]:
            gap = self.reference(name, "gap")
            found = metrics.samples.describe(
                yardsticks.decoded(self.decode, self._real_ones), self.networks[name], True
            )
            return {"floor": gap.distance(found)}

        return self._once([name, self.networks[name].digest, "floor"], measure)["floor"]

    def _once(self, about: Sequence[str], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What depends on the latents, the reference and the number of samples only, from the cache if it is there."""
        trial = self.trial
        latents = [trial.extraction(reference).as_values() | {"model": self.weights} for reference in (False, True)]
        key = digest_json([*latents, trial.surrogate, trial.block_size, trial.samples, *about])[:12]
        file = self.cache / "rulers" / f"{key}.json"
        with turn(file.with_suffix(".lock")):
            if not file.is_file():
                write_json(file, make())
        return json.loads(file.read_text(encoding="utf-8"))

    @property
    def _real_ones(self) -> Tensor:
        """As many real latents of the training images as there are samples."""
        return yardsticks.posterior_samples(self.shown, range(min(self.trial.samples, len(self.shown))))

    @torch.no_grad()
    def _measure_ruler(self, name: str) -> dict[str, Any]:
        z = self._real_ones
        gap, images = (self.reference(name, what) for what in ("gap", "frechet"))
        network = self.networks[name]
        options = {"block_size": self.trial.block_size, "batch_size": 64}
        bands = yardsticks.choose_bands(self.trial.block_size)
        found = yardsticks.measure_ruler(self.decode, z, gap, network, bands=bands, **options)
        # Of the other distance the two ends: what a perfect denoiser would reach, and one that has learned nothing.
        ends = yardsticks.measure_ruler(self.decode, z, images, network, bands=(), **options)
        return {
            "bands": [list(band) for band in found.bands], "permuted": list(found.permuted),
            "zeroed": list(found.zeroed), "noise": found.noise, "floor": found.floor,
            "noise_frechet": ends.noise, "floor_frechet": ends.floor,
        }  # fmt: skip
