r"""How a denoiser is trained and sampled: settings, the loss of a step, batches of samples.

The loss is the squared error of the velocity at logit-normal times, on posterior samples drawn anew at every step,

.. math:: \mathbb E\, \bigl\| v_\theta(x_t, t, y) - (\varepsilon - x) \bigr\|^2, \qquad
          x = \frac{z - m}{s}, \quad z \sim q(z \mid \text{image}), \quad x_t = (1 - t)\, x + t\, \varepsilon,

with m and s the latents' mean and standard deviation by channel. It does not compare latent spaces: a latent that is
easier to predict has a smaller one, whether or not its samples are better. U-ViT predicts the noise instead, at steps
and noise levels of its own (:mod:`diffusab_core.flow.ddpm`).

Masks, filters and coloured noise are :mod:`diffusab_core.methods.reshaping`'s.

Sources: Skorokhodov et al. 2025, Appendix B; Bao et al. 2023 (U-ViT).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from diffusab_core import denoisers, flow, training
from diffusab_core.files import SettingsError
from diffusab_core.flow import ddpm
from diffusab_core.flow.path import check_guidance
from diffusab_core.latents import Latents
from diffusab_core.latents.encoded import check_precision
from diffusab_core.methods.reshaping import AS_ENCODED, Reshaping, Spectrum, colour_noise, find_energies
from diffusab_core.training.batches import ReadAhead
from diffusab_core.training.order import draw_noise, stream


@dataclass(frozen=True)
class Denoising:
    """A denoiser's training. Defaults are the paper's recipe but for its 400 000 steps and batch.

    The paper says nothing of label dropout and of averaging the denoiser's weights.

    Attributes:
        denoiser: DiT-SIZE/PATCH with sizes XXS, XS (small ones for a CPU), S, B, L, XL; or UViT-SIZE/PATCH (predicts
            the noise) or USiT-SIZE/PATCH with sizes XXS, S, M, L, H, 2B; patches 1, 2, 4.
        steps: Optimiser steps; the paper's runs have 400 000.
        batch_size: Latents in a step, over all processes and accumulated parts.
        seed: Seed of weights, order and noise.
        learning_rate: AdamW's peak, after the warm-up.
        final_learning_rate: Where the cosine ends.
        warmup: Steps of warm-up; ``None`` stands for 10 000, and in short runs for 5% of the steps.
        betas: AdamW's.
        weight_decay: AdamW's.
        clip: Largest norm of the gradient.
        ema_half_life: In steps; ``None`` stands for min(5 000, 5% of the steps).
        time_location: Location of the logit-normal training times; positive means more noise. Not for U-ViT.
        time_scale: Their scale; likewise.
        self_conditioning: Probability of the auxiliary pass; ``None`` stands for 0.9 where the denoiser has it (DiT),
            else for 0, and is replaced by that.
        label_dropout: Share of labels replaced by "no class", for guidance.
        flips: Whether to mirror half of the latents' images; they must have been stored so.
        accumulation: Parts that a batch is cut into on each process.
        precision: ``"fp32"``, or ``"bf16"`` autocast.
        checkpoint_activations: Less memory for a third more computing.
        compile: Compile the denoiser's blocks.
        device: Where to compute.
        reshaping: Another spectrum for the denoiser; not for U-ViT.

    Raises:
        SettingsError: A value that cannot be used, by this denoiser or at all; ``DenoiserError`` for an unknown name.
    """

    denoiser: str = "DiT-S/2"
    steps: int = 10_000
    batch_size: int = 256
    seed: int = 0
    learning_rate: float = 3e-4
    final_learning_rate: float = 1e-5
    warmup: int | None = None
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 16.0
    ema_half_life: float | None = None
    time_location: float = 0.0
    time_scale: float = 1.0
    self_conditioning: float | None = None
    label_dropout: float = 0.1
    flips: bool = False
    accumulation: int = 1
    precision: str = "fp32"
    checkpoint_activations: bool = False
    compile: bool = False
    device: str = "cpu"
    reshaping: Reshaping = AS_ENCODED

    def __post_init__(self) -> None:
        size, parts = self.batch_size, self.accumulation
        if size < 1 or parts < 1 or size % parts:
            raise SettingsError(f"batch_size must be a positive multiple of accumulation, got {size} and {parts}")
        family, _, _ = denoisers.parse(self.denoiser)
        if self.self_conditioning is None:
            object.__setattr__(self, "self_conditioning", 0.9 if family.self_conditioning else 0.0)
        for name in ("self_conditioning", "label_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} is a probability, got {getattr(self, name)}")
        if not self.time_scale > 0:
            raise SettingsError(f"time_scale must be positive, got {self.time_scale}")
        if self.self_conditioning and not family.self_conditioning:
            raise SettingsError(f"{self.denoiser} has no self-conditioning, it cannot be {self.self_conditioning}")
        if family.prediction == "noise" and (self.time_location, self.time_scale) != (0.0, 1.0):
            given = f"time_location {self.time_location} and time_scale {self.time_scale}"
            raise SettingsError(f"{self.denoiser} predicts the noise at evenly drawn steps and has no use for {given}")
        if family.prediction == "noise" and self.reshaping.changes_path:
            given = ", ".join(f"{name} {value}" for name, value in self.reshaping.identity().items())
            raise SettingsError(f"masks, filters and coloured noise are for velocities, {self.denoiser} predicts the "
                                f"noise: {given} cannot be used")  # fmt: skip
        check_precision(self.precision)
        _ = self.training  # refuses what the loop cannot use

    @property
    def prediction(self) -> denoisers.Prediction:
        return denoisers.parse(self.denoiser)[0].prediction

    @property
    def training(self) -> training.Settings:
        """The part that the training loop takes."""
        names = {f.name for f in fields(training.Settings)} & {f.name for f in fields(self)}
        warmup = min(10_000, self.steps // 20) if self.warmup is None else self.warmup
        return training.Settings(**{name: getattr(self, name) for name in names} | {"warmup": warmup})


def build(settings: Denoising, latents: Latents) -> denoisers.DiT | denoisers.UViT:
    """The denoiser for these latents, with weights from the settings' seed, on the settings' device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        shape = {"in_channels": latents.shape[0], "input_size": latents.shape[1:], "num_classes": latents.num_classes}
        model = denoisers.build(settings.denoiser, checkpoint_activations=settings.checkpoint_activations, **shape)
    model = model.to(settings.device)
    if settings.compile:
        for block in model.blocks:
            block.compile()  # in place, so that names of weights stay; blocks alike are compiled once
    return model


def draw_inputs(
    latents: Latents, settings: Denoising, step: int, part: tuple[int, int] = (0, 1)
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, bool]:
    """What the loss of a step is computed on, on the CPU: a function of seed and step, whatever the device.

    A part, ``(index, parts)``, has its rows of the batch: each row has a stream of its own, none of them the sampler's.
    Parts of unequal size are a ``SettingsError``. Returned are normalised posterior samples x and noise,
    ``(N, *shape)``; times ``(N,)``; classes ``(N,)``, some of them "no class", or ``None``; and whether there is an
    auxiliary pass.
    """
    n, (index, parts) = settings.batch_size, part
    if n % parts:
        raise SettingsError(f"a batch of {n} cannot be cut into {parts} equal parts (processes x accumulation)")
    rows = slice(index * n // parts, (index + 1) * n // parts)

    def uniform(purpose: str, count: int = n) -> Tensor:
        return torch.rand(count, generator=stream(settings.seed, purpose, step))

    clock = stream(settings.seed, "time", step)
    if settings.prediction == "noise":
        t = ddpm.training_times(n, clock)[rows]
    else:
        t = flow.logit_normal_times(n, settings.time_location, settings.time_scale, clock)[rows]
    draws = draw_noise(settings.seed, range(step * n, (step + 1) * n)[rows], (2, *latents.shape), "noise")
    flipped = (uniform("flip")[rows] < 0.5).tolist() if settings.flips else None
    places = training.batch_indices(step, n, len(latents), settings.seed)[rows]
    mean, std, y = latents.at(step).posterior(places, flipped)
    x = latents.normalise(mean + std * draws[:, 0])
    if y is not None:
        y = torch.where(uniform("label")[rows] < settings.label_dropout, latents.num_classes, y)
    # One coin for the step: under sharding all processes must run the same number of forward passes.
    twice = uniform("self-conditioning", 1).item() < settings.self_conditioning
    return x, draws[:, 1].contiguous(), t, y, twice


def spectrum_of(settings: Denoising, latents: Latents) -> Spectrum:
    """Mask and filter of the settings for these latents, whose energies are measured if need be."""
    energies = find_energies(settings.reshaping, latents)
    return Spectrum(settings.reshaping, latents.shape, settings.steps, energies, settings.device)


def loss_of(
    model: nn.Module, latents: Latents, settings: Denoising, spectrum: Spectrum | None = None
) -> training.LossFn:
    """The loss of a step as :func:`diffusab_core.training.train` takes it, on what :func:`draw_inputs` draws.

    For a GPU the inputs of the next steps are drawn and copied while it computes. The loop's generator is not used.
    The model is the network itself; without ``spectrum`` that of :func:`spectrum_of` is taken.
    """
    device, each = torch.device(settings.device), settings.accumulation
    path = ddpm if settings.prediction == "noise" else flow
    spectrum = spectrum_of(settings, latents) if spectrum is None else spectrum

    def following(key: tuple[int, int, int]) -> tuple[int, int, int] | None:
        step, index, parts = key
        step, index = (step, index + 1) if (index + 1) % each else (step + 1, index + 1 - each)
        return (step, index, parts) if step < settings.steps else None

    inputs = ReadAhead(lambda key: draw_inputs(latents, settings, key[0], key[1:]), following, device)

    def loss(step: int, generator: torch.Generator, part: tuple[int, int] = (0, 1)) -> Tensor:
        x, noise, t, y, twice = inputs((step, *part))
        now = spectrum.at(step)
        noise = now.colour(noise)
        x_t = now.enter(path.interpolate(x, noise, t))
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            with torch.no_grad():
                hint = model(x_t, t, y, with_hint=True)[1] if twice else None
            predicted = model(x_t, t, y, hint=hint)
        return mse_loss(*now.compare(predicted.float(), path.target(x, noise)))

    return loss


@dataclass(frozen=True)
class Sampling:
    """How a denoiser is sampled.

    Attributes:
        samples: How many.
        steps: Steps of the sampler; the paper's numbers have 256.
        method: ``"euler"`` or ``"heun"`` for denoisers that predict the velocity, ``"dpm++"`` or ``"ddim"`` for those
            that predict the noise; ``None``: the first of the two.
        shift: Time shift s of Eq. 3; 1 is none, and has to stay so for noise prediction.
        guidance: Scale of classifier-free guidance; 1 is none.
        guidance_interval: First and last time at which to guide.
        labels: Class of every sample; ``None``: all classes in turn, or none for a model without any.
        batch_size: Samples at a time; changes them by rounding only.
        seed: Seed of the noise.
        precision: ``"fp32"``, or ``"bf16"`` autocast.

    Raises:
        SettingsError: A value that cannot be used; :func:`resolve_sampling` refuses what a denoiser cannot use.
    """

    samples: int = 64
    steps: int = 256
    method: flow.Method | ddpm.Method | None = None
    shift: float = 1.0
    guidance: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    labels: int | None = None
    batch_size: int = 64
    seed: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.samples < 1 or self.batch_size < 1:
            raise SettingsError(f"samples and batch_size must be at least 1, got {self.samples} and {self.batch_size}")
        if self.seed < 0:
            raise SettingsError(f"seed must be at least 0, got {self.seed}")
        check_precision(self.precision)
        known = (*flow.METHODS, *ddpm.METHODS)
        if self.method not in (None, *known):
            raise SettingsError(f"unknown sampling method {self.method!r}, choose one of {', '.join(known)}")
        flow.sampling_times(self.steps, self.shift)  # refuses what the sampler cannot use
        check_guidance(self.guidance, self.guidance_interval)


def resolve_sampling(settings: Sampling, prediction: denoisers.Prediction) -> Sampling:
    """The settings with the method for denoisers of this kind; a ``SettingsError`` for what they cannot use."""
    methods = ddpm.METHODS if prediction == "noise" else flow.METHODS
    method = settings.method or methods[0]
    if method not in methods:
        wrong = f"sampling method {method!r} is not for a denoiser that predicts the {prediction}"
        raise SettingsError(f"{wrong}: choose one of {', '.join(methods)}")
    if prediction == "noise":
        ddpm.sampling_steps(settings.steps)  # refuses too many
        if settings.shift != 1:
            raise SettingsError(f"time shift {settings.shift} is for rectified flow, this denoiser predicts the noise")
    return replace(settings, method=method)


def labels_of(settings: Sampling, num_classes: int, places: range) -> Tensor | None:
    """Classes of the samples at these places, or a ``SettingsError`` where the model has not what is asked for."""
    if settings.labels is not None and not 0 <= settings.labels < num_classes:
        has = f"classes 0 to {num_classes - 1}" if num_classes else "no classes"
        raise SettingsError(f"class {settings.labels} was asked for, this denoiser has {has}")
    if not num_classes:
        if settings.guidance != 1:
            raise SettingsError(f"guidance {settings.guidance} needs a denoiser with classes, this one has none")
        return None
    return torch.tensor([place % num_classes if settings.labels is None else settings.labels for place in places])


@torch.no_grad()
def sample_batches(
    model: nn.Module,
    settings: Sampling,
    shape: tuple[int, ...],
    num_classes: int = 0,
    *,
    rank: int = 0,
    size: int = 1,
    skip: Callable[[range], bool] | None = None,
    progress: bool = False,
    advance: Callable[[float], None] | None = None,
) -> Iterator[tuple[range, Tensor, Tensor | None]]:
    """Normalised latents, batch by batch: places of the samples, ``(N, *shape)``, and their classes.

    A sample's noise is a function of the seed and its place: on other devices, at other batch sizes or with other
    numbers of processes samples differ by rounding only. The model is in evaluation mode; its device is used.
    Process ``rank`` of ``size`` draws every ``size``-th batch, without those for whose places ``skip`` is true.
    ``advance`` is told after each step how many samples' work that was: of a batch of N in S steps, N / S.
    """
    device = next(model.parameters()).device
    prediction = denoisers.prediction_of(model)
    settings = resolve_sampling(settings, prediction)
    labels_of(settings, num_classes, range(1))  # refuses before anything is drawn
    for first in range(rank * settings.batch_size, settings.samples, size * settings.batch_size):
        places = range(first, min(first + settings.batch_size, settings.samples))
        if skip is not None and skip(places):
            continue
        noise = colour_noise(model, draw_noise(settings.seed, places, shape).to(device))
        y = labels_of(settings, num_classes, places)
        y = None if y is None else y.to(device)
        branches = denoisers.SelfConditioned(model), denoisers.SelfConditioned(model)
        network = flow.guided(*branches, settings.guidance, settings.guidance_interval)
        told = {"progress": progress, "after_step": advance and partial(advance, len(places) / settings.steps)}
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            if prediction == "noise":
                x = ddpm.sample(network, noise, settings.steps, settings.method, y=y, **told)
            else:
                x = flow.sample(network, noise, settings.steps, settings.method, settings.shift, y=y, **told)
        yield places, x, y


def describe_sampling(
    settings: Sampling, num_classes: int, prediction: denoisers.Prediction = "velocity"
) -> dict[str, Any]:
    """What has to be said beside numbers about samples, since published ones differ for lack of it."""
    said = asdict(resolve_sampling(settings, prediction))
    labels = labels_of(settings, num_classes, range(settings.samples))
    said["class_counts"] = {} if labels is None else dict(Counter(map(str, labels.tolist())))
    said["guidance_interval"] = list(settings.guidance_interval)
    del said["labels"]
    return {"prediction": prediction, "sampler": said.pop("method"), "count": said.pop("samples")} | said
