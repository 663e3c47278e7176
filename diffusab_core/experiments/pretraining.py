r"""Training an autoencoder from random weights; what its card says of it is in :mod:`.cards`.

.. math:: L = \mu\, \overline{(\hat x - x)^2} + \lambda\, \overline{|\hat x - x|} + \beta\, L_\text{KL}
    + \pi\, d(x, \hat x) + \delta\, L_\text{log DCT}, \qquad \hat x = \mathrm{Dec}(z), \quad z \sim q(z \mid x)

Three families: ``AutoencoderKL`` without quant convolutions; ``AutoencoderDC``, whose posterior is a point and whose
pixel shuffles have shortcuts around them, so that a picture's colours need not be learned; and, for clips,
``AutoencoderKLCogVideoX``, which shortens time fourfold after the first frame. Its convolutions are causal; its group
norms are over all frames of a piece, nine and then eight at a time, which so see one another. With a quantizer the
first is ``VQModel``, whose posterior is a point, too; a codebook adds its own loss. :math:`d` is a perceptual distance,
such as HED, which is shipped. That is the loss of a Gaussian decoder; those of the two others are in
:mod:`diffusab_core.methods.diffusion_decoder`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from diffusab_core import autoencoders, data, metrics, spectrum, training
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.autoencoders.blurred import blur_pooled
from diffusab_core.autoencoders.gain import with_gain_control
from diffusab_core.autoencoders.quantizers import with_fsq
from diffusab_core.data.places import CLIPS, Choosing
from diffusab_core.experiments import decoders, records
from diffusab_core.experiments.autoencoder import PROBE_SEED, Watch, add_pictures, seen
from diffusab_core.experiments.cards import EVALUATION_SEED, card, describe_images
from diffusab_core.experiments.drawing import Again, draw_leaves, open_training_images
from diffusab_core.files import SettingsError, write_text
from diffusab_core.methods import finetuning, regularizers
from diffusab_core.methods.adversarial import Adversary
from diffusab_core.methods.diffusion_decoder import DecoderTraining
from diffusab_core.training.batches import Batches
from diffusab_core.training.world import alone

FAMILIES = ("kl", "dc", "cogvideox")
QUANTIZERS = ("none", "vq", "fsq")

#: Settings that came later: a run in which they are neutral is what it was without them.
LATER = ("family", "gain_control", "mse_weight", "perceptual", "perceptual_weight", "perceptual_crops",
         "log_dct_weight", "held_out", "kept_side", "quantizer", "codebook", "levels")  # fmt: skip


@dataclass(frozen=True)
class Pretraining(Choosing, DecoderTraining):
    r"""One autoencoder, trained from random weights.

    Attributes:
        family: ``kl``, ``dc`` or ``cogvideox``. In ``dc`` the last width is a multiple of the latent's channels, and a
            level has ``layers`` residual blocks in encoder and decoder each. Attention, blur and gain control belong to
            ``kl``, norm groups to ``cogvideox``, too. ``cogvideox`` is trained on clips of ``frames`` = 8k + 1 frames,
            and is measured on others; moving leaves are drawn once, as many as ``leaves``, and seen again.
        latent_channels: Channels of the latent.
        channels: Widths of the levels from the image inwards; each level but the first halves both sides.
        layers: Residual blocks in a level of the encoder.
        norm_groups: Groups of the norms. With one, none divides a picture's own brightness and colour away.
        attention: Attention in the middle of encoder and decoder.
        blurred: Blur before each sampling of the encoder, so that nothing folds.
        gain_control: Local contrast gain control in front of the encoder, over a neighbourhood of so many pixels (the
            standard deviation of a Gaussian); 0: none.
        quantizer: Of the latent, in family ``kl``: ``vq``, a codebook; ``fsq``, rounding to levels; or none.
        codebook: How many codes a codebook has.
        levels: Of FSQ, one number for each channel of the latent.
        kl_weight: Weight :math:`\beta` of the averaged KL.
        mse_weight: Weight :math:`\mu` of the mean squared error.
        l1_weight: Weight :math:`\lambda` of the mean absolute error beside the squared one.
        perceptual: ``hed``, LPIPS's backbones ``alex`` and ``vgg``, or none.
        perceptual_weight: Weight :math:`\pi` of the perceptual distance.
        perceptual_crops: On how many crops of a batch it is taken, the first; 0: on all. The network takes longer than
            a small autoencoder.
        log_dct_weight: Weight :math:`\delta` of the distance of logarithmic spectra.
        images: What to train on: a place of images, see ``diffusab profile --help``; ``photos``, ``leaves``, or
            ``mixture``: half dead leaves that are drawn once, half ever new crops of the photographs.
        held_out: What it is measured on, and never trained on: a place of images. ``photos``: the photographs
            ``coffee`` and ``china``.
        kept_side: Stored images are read once, shrunk to a short side of so many pixels where they are larger, and
            crops of them are endless; 0: they are read from the disk for every crop.
        leaves: How many leaves the mixture has, or clips of moving leaves.
        resolution: Side of the training crops in pixels.
        batch_size: Crops in a batch.
        steps: Optimiser steps.
        learning_rate: AdamW's, a cosine to 0 after the warm-up.
        warmup: Steps of linear warm-up.
        clip: Largest gradient norm.
        evaluation_resolution: Side of the crops that it is measured on; a latent must hold whole blocks.
        evaluation_crops: How many.
        statistics_crops: Training crops whose latents' mean and standard deviation become the normalisation.
        half: Keep the weights in half precision, and measure them as they are kept.
        seed: Seed of weights, order, crops and noise.
        precision: ``"fp32"``, or ``"bf16"`` for autocast.
        device: Where to train.
    """

    family: Literal["kl", "dc", "cogvideox"] = "kl"
    latent_channels: int = 16
    channels: tuple[int, ...] = (16, 32, 48)
    layers: int = 1
    norm_groups: int = 8
    attention: bool = False
    blurred: bool = False
    gain_control: float = 0.0
    quantizer: Literal["none", "vq", "fsq"] = "none"
    codebook: int = 1024
    levels: tuple[int, ...] = (8, 5, 5, 5)
    kl_weight: float = 1e-6
    mse_weight: float = 1.0
    l1_weight: float = 1.0
    perceptual: finetuning.Perceptual = "none"
    perceptual_weight: float = 1.0
    perceptual_crops: int = 0
    log_dct_weight: float = 0.0
    images: str = "photos"
    held_out: str = "photos"
    kept_side: int = 0
    leaves: int = 4096
    resolution: int = 64
    batch_size: int = 16
    steps: int = 6000
    learning_rate: float = 2e-3
    warmup: int = 100
    clip: float = 1.0
    evaluation_resolution: int = 64
    evaluation_crops: int = 256
    statistics_crops: int = 2048
    half: bool = True
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("latent_channels", "layers", "norm_groups", "leaves", "resolution", "batch_size", "steps",
                     "evaluation_resolution", "evaluation_crops", "statistics_crops", "codebook"):  # fmt: skip
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, choices in (("family", FAMILIES), ("perceptual", ("none", *metrics.PERCEPTUAL)),
                              ("quantizer", QUANTIZERS)):  # fmt: skip
            if getattr(self, name) not in choices:
                raise SettingsError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("kept_side", "perceptual_crops", "seed"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("gain_control", "kl_weight", "mse_weight", "l1_weight", "perceptual_weight", "log_dct_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SettingsError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if self.precision not in ("fp32", "bf16"):
            raise SettingsError(f"precision must be fp32 or bf16, got {self.precision!r}")
        if self.frames is not None and self.family != "cogvideox":
            raise SettingsError(f"frames are of clips, which family cogvideox takes, not {self.family}")
        if self.family == "cogvideox":
            self._check_cogvideox()
        if self.family == "dc":
            self._check_dc()
        elif not self.channels or any(width < 1 or width % self.norm_groups for width in self.channels):
            wanted = f"widths that norm_groups = {self.norm_groups} divides"
            raise SettingsError(f"channels must be {wanted}, got {list(self.channels)}")
        if self.quantizer != "none":
            self._check_quantizer()
        for name in ("resolution", "evaluation_resolution"):
            if getattr(self, name) % self.compression:
                wanted = f"a multiple of the compression, {self.compression}"
                raise SettingsError(f"{name} must be {wanted}, got {getattr(self, name)}")
        self.check_decoder(self.compression, self.resolution, self.steps)
        if self.decoder == "diffusion" and self.log_dct_weight:
            raise SettingsError(f"log_dct_weight is for decoders of one pass, got {self.log_dct_weight} with diffusion")

    def as_values(self) -> dict[str, Any]:
        """All settings by name, without what other decoders have, and without :data:`LATER` ones that are neutral."""
        later = {field.name: field.default for field in fields(self) if field.name in LATER}
        values = self.drop_idle(super().as_values())
        return {name: value for name, value in values.items() if later.get(name, ...) != value}

    def _check_dc(self) -> None:
        if not self.channels or min(self.channels) < 1 or self.channels[-1] % self.latent_channels:
            wanted = f"widths whose last is a multiple of the latent_channels, {self.latent_channels}"
            raise SettingsError(f"channels must be {wanted}, got {list(self.channels)}")
        for outer, inner in pairwise(self.channels):
            if 4 * outer % inner:
                wanted = "four times a width must be a multiple of the next, for the shortcuts around pixel shuffles"
                raise SettingsError(f"{wanted}; {outer} and {inner} of channels {list(self.channels)} do not fit")
        if self.kl_weight:
            raise SettingsError(f"the posterior of family dc is a point: kl_weight must be 0, got {self.kl_weight}")
        if self.decoder != "gaussian":
            raise SettingsError(f"family dc has a Gaussian decoder, got {self.decoder!r}")
        for name in ("blurred", "attention", "gain_control"):
            if getattr(self, name):
                raise SettingsError(f"{name} is for family kl, not dc")

    def _check_cogvideox(self) -> None:
        if self.frames is None or self.frames % 8 != 1:
            raise SettingsError(f"family cogvideox is trained on clips: frames must be 8k + 1, got {self.frames}")
        if len(self.channels) < 3:
            given = list(self.channels)
            raise SettingsError(f"channels must be three or more, as the first two levels halve time, got {given}")
        if self.held_out == "photos":
            raise SettingsError("held_out must be clips, such as leaves, as those that are trained on, got photos")
        if self.decoder != "gaussian":
            raise SettingsError(f"family cogvideox has a Gaussian decoder, got {self.decoder!r}")
        for name in ("blurred", "attention", "gain_control"):
            if getattr(self, name):
                raise SettingsError(f"{name} is for family kl, not cogvideox")

    def _check_quantizer(self) -> None:
        if self.family != "kl" or self.decoder == "diffusion":
            raise SettingsError(
                f"quantizer {self.quantizer} is for family kl with a decoder of one pass, "
                f"got family {self.family} with decoder {self.decoder}"
            )
        if self.kl_weight:
            raise SettingsError(f"with a quantizer the posterior is a point: kl_weight must be 0, got {self.kl_weight}")
        if self.quantizer == "fsq" and (len(self.levels) != self.latent_channels or min(self.levels) < 2):
            wanted = f"{self.latent_channels} numbers of at least 2, one for each channel of the latent"
            raise SettingsError(f"levels must be {wanted}, got {list(self.levels)}")

    @property
    def has_kl(self) -> bool:
        """Whether the posterior is a Gaussian, so that there is a KL."""
        return self.family != "dc" and self.quantizer == "none"

    @property
    def compression(self) -> int:
        return 2 ** (len(self.channels) - 1)

    @property
    def measures_material(self) -> bool:
        """Whether the record tells what is lost and how latents are shaped; records of the first runs do not."""
        return self.family != "kl" or self.held_out != "photos"

    @property
    def training(self) -> training.Settings:
        warmup = min(self.warmup, self.steps - 1)
        return training.Settings(self.steps, self.seed, self.learning_rate, warmup=warmup, clip=self.clip)


@dataclass(frozen=True)
class Pretrained:
    """A finished run: the autoencoder with the averaged weights as they are kept, and its record."""

    autoencoder: Autoencoder
    record: records.RunRecord


# ---------------------------------------------------------------------------------------------------------------------
# What it is, and what it sees


def build(settings: Pretraining, name: str = "autoencoder") -> Autoencoder:
    """The architecture with random weights, drawn from torch's global generator."""
    from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderKLCogVideoX, VQModel

    if settings.decoder == "diffusion":
        return _change_encoder(decoders.build(settings, name), settings)
    levels = len(settings.channels)
    if settings.family == "dc":
        of_each = {
            f"{half}_{what}": value
            for half in ("encoder", "decoder")
            for what, value in {
                "block_out_channels": settings.channels,
                "layers_per_block": (settings.layers,) * levels,
                "qkv_multiscales": ((),) * levels,
            }.items()
        }
        return Autoencoder(name, AutoencoderDC(latent_channels=settings.latent_channels, **of_each))
    if settings.family == "cogvideox":
        module = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * levels,
            up_block_types=("CogVideoXUpBlock3D",) * levels,
            block_out_channels=settings.channels,
            layers_per_block=settings.layers,
            latent_channels=settings.latent_channels,
            norm_num_groups=settings.norm_groups,
            sample_height=settings.resolution,
            sample_width=settings.resolution,
        )
        return Autoencoder(name, module)
    shape = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": settings.channels,
        "layers_per_block": settings.layers,
        "latent_channels": settings.latent_channels,
        "norm_num_groups": settings.norm_groups,
        "sample_size": settings.resolution,
        "mid_block_add_attention": settings.attention,
    }
    if settings.quantizer == "none":
        module = AutoencoderKL(**shape, use_quant_conv=False, use_post_quant_conv=False)
        return _change_encoder(Autoencoder(name, module), settings)
    found = Autoencoder(name, VQModel(**shape, num_vq_embeddings=settings.codebook))
    found = with_fsq(found, settings.levels) if settings.quantizer == "fsq" else found
    return _change_encoder(found, settings)


def _change_encoder(found: Autoencoder, settings: Pretraining) -> Autoencoder:
    """With what diffusers does not have; all other weights are drawn before, as they are for its twin without."""
    found = blur_pooled(found) if settings.blurred else found
    return with_gain_control(found, settings.gain_control) if settings.gain_control else found


# ---------------------------------------------------------------------------------------------------------------------
# Training


def loss_of(
    autoencoder: Autoencoder, settings: Pretraining, batches: Batches, adversary: Adversary | None = None
) -> training.LossFn:
    """The loss of a step; with an adversary, which a GAN decoder needs, its terms from their first step on."""
    device, module = torch.device(settings.device), autoencoder.module
    network = open_network(settings)
    if settings.decoder == "diffusion":
        return decoders.loss_of(module, settings, batches, network)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        x = batches(step).to(device)
        seen = {}
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            if settings.has_kl:
                posterior = module.encode(x).latent_dist
                y = module.decode(posterior.sample(generator)).sample
                kl = regularizers.averaged_kl(posterior.mean, posterior.logvar)
                seen["kl"] = kl.detach()
            elif settings.quantizer != "none":
                quantised = module.decode(autoencoder.encode(x).mean)
                y, seen["codebook"] = quantised.sample, quantised.commit_loss
            else:
                y = autoencoder.decode(autoencoder.encode(x).mean)
            error = y - x
            square = error.square().mean()
            total = square if settings.mse_weight == 1 else settings.mse_weight * square
            total = total + settings.l1_weight * error.abs().mean()
            if settings.has_kl:
                total = total + settings.kl_weight * kl
            if settings.quantizer == "vq":
                total = total + seen["codebook"]
            if network is not None:
                few = slice(settings.perceptual_crops or None)
                seen["perceptual"] = network(data.unroll(x[few]), data.unroll(y[few])).mean()
                total = total + settings.perceptual_weight * seen["perceptual"]
            if settings.log_dct_weight:
                seen["log_dct"] = regularizers.log_spectrum_distance(x, y)
                total = total + settings.log_dct_weight * seen["log_dct"]
            # KL has no gradient at the decoder's end, where the adversary weighs the terms.
            against = decoders.adversarial_terms(adversary, step, settings, x, y, total)
            total, seen = total + sum(against.values()), seen | against
        return total, {"psnr_db": metrics.psnr(x, y.detach())} | {key: value.detach() for key, value in seen.items()}

    return loss


def open_network(settings: Pretraining) -> metrics.PerceptualDistance | None:
    """The perceptual distance of the loss, if it has one; errors are those of :func:`.open_perceptual`."""
    if settings.perceptual == "none":
        return None
    return metrics.open_perceptual(settings.perceptual).to(settings.device)


def train_autoencoder(
    settings: Pretraining,
    out: str | os.PathLike | None = None,
    *,
    name: str = "",
    size: records.Size = "laptop",
    record_name: str = "record.json",
    cache: str | os.PathLike | None = None,
    workers: int = 0,
    checkpoint_every: int = 500,
    snapshots: int = 8,
    watch: Watch | None = None,
    keep_diverged: bool = False,
    progress: bool = True,
) -> Pretrained:
    """Train an autoencoder and, with ``out``, keep it as a diffusers folder with its card, record and logs.

    The same call goes on where an earlier one was cut off, and only reads back what is finished. A
    :class:`CheckpointError` says how the run in ``out`` is another one, :class:`TrainingDiverged` names step and
    samples and leaves the last good checkpoint.

    Args:
        out: Folder for the result; its ``training/`` holds checkpoints and TensorBoard's logs.
        name: Of the model, for its card; by default that of the folder.
        record_name: File in ``out`` for the record, which is written last, as the sign that all is there.
        cache: Folder for the mixture's leaves; by default ``training/`` in ``out``.
        workers: Processes that read images ahead.
        snapshots: How often the spectrum is looked at along the way, on 16 of the held-out crops.
        watch: See :func:`diffusab_core.training.train`.
        keep_diverged: Keep and measure a run that diverges as it was before that step: ``diverged`` in its record is
            1, and ``diverged_at`` the step.
    """
    alone(settings.device)  # refuses torchrun before anything is opened
    folder = Path(out) if out is not None else None
    name = name or (folder.resolve().name if folder else "autoencoder")
    parameters = records.without_device(settings)
    run = records.start(
        "train-autoencoder", parameters=parameters | {"ema_half_life": settings.training.half_life},
        seed=settings.seed, size=size, data=describe_images(settings.images, settings.resolution, settings.frames),
        device=settings.device,
    )  # fmt: skip
    if record := records.read_back(folder, run, record_name):
        return Pretrained(autoencoders.load(str(folder), device=settings.device), record)
    torch.manual_seed(settings.seed)  # the initial weights
    autoencoder = build(settings, name)
    autoencoder.module.to(settings.device)
    cache = Path(cache) if cache is not None else folder and folder / "training"
    opening = {"leaves": settings.leaves, "kept_side": settings.kept_side, "cache": cache, "workers": workers,
               "progress": progress, "choices": settings.choices}  # fmt: skip
    taken = settings.steps * settings.batch_size
    images = open_training_images(settings.images, settings.resolution, taken, settings.seed, **opening)
    batches = Batches(images, settings.batch_size, settings.seed, settings.steps, workers, settings.device)
    held_out = crops_of("test", settings)
    probe = held_out[:16]
    whole, adversary = decoders.join_adversary(autoencoder, settings)
    with records.logs(folder) as on_log:
        trained = training.train(
            whole.train(),
            loss_of(autoencoder, settings, batches, adversary),
            settings.training,
            checkpoint=folder / "training" / "checkpoints" if folder else None,
            checkpoint_every=checkpoint_every,
            identity=parameters | seen(images),
            on_log=on_log,
            watch=add_pictures(watch, autoencoder, probe),
            snapshot=partial(finetuning.examine, autoencoder, probe),
            snapshot_every=max(1, settings.steps // max(1, snapshots)),
            samples=batches.describe,
            keep_diverged=keep_diverged,
            progress=progress,
        )
    module = autoencoder.module
    module.load_state_dict(decoders.part_of_autoencoder(trained.ema, adversary))
    module.eval().requires_grad_(False)
    how = {"checkpoint_every": checkpoint_every, "workers": workers, "progress": progress}
    distilled = decoders.distil(autoencoder, settings, images, open_network(settings), folder, **how)
    normalise(autoencoder, first_images(settings, opening))
    if settings.half:
        module.half()
        if folder is not None:
            module.save_pretrained(folder)
        module.float()
    elif folder is not None:
        module.save_pretrained(folder)
    run.metrics = {"parameters": float(sum(p.numel() for p in module.parameters()))}
    run.metrics |= measure(autoencoder, {"train": crops_of("train", settings), "held_out": held_out})
    if settings.measures_material:
        found = metrics.measure_material(autoencoder, held_out)
        run.metrics |= {f"held_out_{key}": value for key, value in found.items()}
    run.metrics |= decoders.describe(autoencoder, adversary, settings.resolution)
    run.metrics["diverged"] = float(trained.diverged_at is not None)
    if trained.diverged_at is not None:
        run.metrics["diverged_at"] = float(trained.diverged_at)
    run.metrics["training_time_s"] = trained.wall_time_s + (distilled.wall_time_s if distilled else 0.0)
    numbers = [key for key, value in trained.snapshots[0].items() if isinstance(value, int | float)]
    run.series = trained.series | {f"snapshot_{key}": [shot[key] for shot in trained.snapshots] for key in numbers}
    run.series |= {f"snapshot_profile_{shot['step']}": shot["profile"] for shot in trained.snapshots}
    if distilled is not None:
        run.series |= {f"distillation_{key}": values for key, values in distilled.series.items()}
    if trained.resumed_from:
        run.notes = f"Resumed at step {trained.resumed_from}; training_time_s counts every part, wall_time_s the last."
    record = run.finish()
    if folder is not None:
        write_text(folder / "README.md", card(name, record, autoencoder))
        record.write(folder / record_name)
    return Pretrained(autoencoder, record)


# ---------------------------------------------------------------------------------------------------------------------
# What the card says


def crops_of(split: data.Split, settings: Pretraining) -> Tensor:
    """The fixed crops of a split that cards speak of: of the photographs, or of the places that the settings name."""
    side, count = settings.evaluation_resolution, settings.evaluation_crops
    if settings.frames is not None and (split, settings.held_out) == ("test", "leaves"):
        drawn = draw_leaves(side, count, None, progress=False, frames=settings.frames, seed=PROBE_SEED)
        return data.stack(Again(drawn, count), range(count))
    if settings.held_out != "photos":
        where = settings.held_out if split == "test" else settings.images
        images = open_training_images(
            where, side, count, EVALUATION_SEED, leaves=min(settings.leaves, count),
            kept_side=settings.kept_side, progress=False, choices=clips_of(settings),
        )  # fmt: skip
        return data.stack(images, range(min(count, len(images))))
    return data.stack(data.Photos(side, split, seed=EVALUATION_SEED, length=count), range(count))


def clips_of(settings: Pretraining) -> dict[str, Any]:
    """How clips are cut, where there are such; other choices are of the training images alone."""
    return {name: value for name, value in settings.choices.items() if name in CLIPS}


def crops_for_spectra(settings: Pretraining, resolution: int, count: int) -> Tensor:
    """Held-out crops of another size than the card's, of the same images."""
    if settings.held_out == "photos":
        return data.stack(data.Photos(resolution, "test", seed=0, length=count), range(count))
    return crops_of("test", replace(settings, evaluation_resolution=resolution, evaluation_crops=count))


def first_images(settings: Pretraining, opening: dict[str, Any]) -> Tensor:
    """Images of the kind that it is trained on, of the size that it is measured at, for the normalisation."""
    count = settings.statistics_crops
    if settings.frames is None:
        opening = opening | {"leaves": min(settings.leaves, count)}
    images = open_training_images(settings.images, settings.evaluation_resolution, count, EVALUATION_SEED, **opening)
    return data.stack(images, range(min(count, len(images))))


@torch.no_grad()
def _encode(autoencoder: Autoencoder, x: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and standard deviation of many images, in pieces."""
    pieces = [autoencoder.encode(autoencoder.place(piece)) for piece in x.split(64)]
    return torch.cat([p.mean.cpu() for p in pieces]), torch.cat([p.std.cpu() for p in pieces])


def normalise(autoencoder: Autoencoder, x: Tensor) -> None:
    """Put mean and inverse standard deviation of the images' latents into the configuration."""
    mean, std = _encode(autoencoder, x)
    latents = mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(EVALUATION_SEED))
    autoencoder.module.register_to_config(scaling_factor=1 / latents.std().item(), shift_factor=latents.mean().item())


@torch.no_grad()
def measure(autoencoder: Autoencoder, splits: dict[str, Tensor]) -> dict[str, float]:
    """PSNR and spectra on crops of each split, as a card shows them."""
    found = {}
    for label, x in splits.items():
        mean, std = _encode(autoencoder, x)
        small = data.resize_to(data.rgb01(x), *mean.shape[-2:])
        decode = autoencoder.decode_in_order()
        y = torch.cat([decode(autoencoder.place(z)).cpu() for z in mean.split(64)])
        found[f"{label}_psnr_db"] = metrics.psnr(x, y).item()
        found[f"{label}_posterior_std"] = std.mean().item()
        found[f"{label}_latent_high_frequency_energy_ratio"] = spectrum.high_frequency_energy_ratio(mean).item()
        found[f"{label}_rgb_high_frequency_energy_ratio"] = spectrum.high_frequency_energy_ratio(small).item()
    return found
