r"""Fine-tuning an autoencoder: plain, scale equivariance, CHF, the soft penalty, EQ-VAE, Spectrum Matching, AF-LDM's
shift equivariance, and KL with any of them.

.. math:: L = d(x, \mathrm{Dec}(z)) + \alpha\, L_\text{SE or CHF} + \gamma\, L_\text{soft} + \beta\, L_\text{KL},
    \qquad z \sim q(z \mid x)

and terms that combine with each method: the decoder's gain, and the divergence from a small denoiser.

Encoder and decoder are trained, but for the decoder's end (:meth:`.Autoencoder.frozen_for_finetuning`). One more term,
whitening, is no remedy: it makes the autoencoder on which remedies are tried.

Source: Skorokhodov et al. 2025, Sec. 3 and Table 5; those of the other methods stand in their modules.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffusab_core import data, denoisers, metrics, spectrum, training
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.autoencoders.catalogue import Recipe
from diffusab_core.autoencoders.families import check_trainable
from diffusab_core.autoencoders.names import AutoencoderError
from diffusab_core.data.places import Choosing
from diffusab_core.latents.encoded import PRECISIONS
from diffusab_core.methods import adversarial, minildm, regularizers, shifts, spectrum_matching
from diffusab_core.methods.adversarial import Adversary

Method = Literal["plain", "se", "chf", "eq-vae", "sm", "af-ldm", "temporal-se"]
METHODS: tuple[str, ...] = get_args(Method)
Perceptual = Literal["none", "alex", "vgg", "hed"]
Matching = Literal["both", "encoding", "decoding"]

LossTerms = dict[str, Tensor]

#: Settings of the adversarial term, which are no part of what a run without it is.
ADVERSARIAL = ("adversarial_weight", "adversarial_start", "discriminator_layers")

#: Settings that came later: a run in which they are neutral is what it was without them.
LATER = ("perceptual_crops", "log_dct_weight", "whitening_weight", "wanted_share", "wanted_detail", "psnr_within",
         "whole", "matching", "flattening", "masked_diagonals", "r1_weight", "minildm_weight",
         "minildm_denoiser", "fresh", "still_batch", "still_images")  # fmt: skip

#: The weight of each regularizer that has one, in its paper: Eq. 2 and Eq. 4 of Skorokhodov et al. 2025; for Spectrum
#: Matching and AF-LDM that of their authors' code. For scale equivariance in time none is printed: that in space.
PAPERS_ALPHA = {"se": 0.25, "chf": 1.0, "sm": 0.01, "af-ldm": 1.0, "temporal-se": 0.25}


@dataclass(frozen=True)
class Finetuning(Choosing):
    r"""One fine-tuning run.

    Attributes:
        model: Shipped name, diffusers folder, hub id (``PIPELINE:vae`` for one of its folders), single file of weights,
            or your own ``file.py:function``.
        method: ``"plain"`` (the control), ``"se"``, ``"chf"``, ``"eq-vae"``, ``"sm"`` (Spectrum Matching),
            ``"af-ldm"`` (shift equivariance) or, for clips, ``"temporal-se"``; soft penalty and KL combine with each.
        images: What to train on: a place of images, see ``diffusab profile --help``; ``photos`` or ``leaves``.
        resolution: Side of the training crops in pixels.
        steps: Optimiser steps.
        batch_size: Crops in a batch; with ``frames``, clips.
        still_batch: With ``frames``: images in a batch beside its clips, encoded as clips of one frame.
        still_images: Their place; ``None``: single frames of the place of the clips.
        learning_rate: AdamW's, constant after ``warmup`` steps.
        warmup: Steps of linear warm-up.
        clip: Largest gradient norm.
        mse_weight: Weight of the mean squared error.
        perceptual: LPIPS with this backbone (``alex``, ``vgg``), ``hed``, or none.
        perceptual_weight: Weight of the perceptual distance.
        perceptual_crops: On how many crops of a batch it is taken, the first; 0: on all.
        log_dct_weight: Weight of the distance of logarithmic spectra, which asks for the picture's fine detail.
        alpha: Weight :math:`\alpha` of SE, CHF, Spectrum Matching's encoding loss or shift equivariance; ``None``: its
            paper's, 0.25, 1, 0.01 and 1.
        scales: Downsampling scales of SE, one drawn each step.
        target: SE's target, the downsampled input or reconstruction.
        chf_ratio: CHF's cut ratio, or the largest where it is drawn each step.
        chf_fixed: The ratio is not drawn.
        chf_order: ``"zigzag"`` or ``"axes"``.
        block_size: Of CHF, the soft penalty and Spectrum Matching's decoding loss.
        soft_weight: Weight :math:`\gamma` of the soft penalty.
        soft_power: Exponent :math:`p` of the soft penalty.
        kl_weight: Weight :math:`\beta` of the averaged KL.
        whitening_weight: Weight of the whitening, which makes the autoencoder ill.
        wanted_share: A stop rule: the latents' high-frequency share that is wanted, such as 0.4, at a PSNR within
            ``psnr_within`` of before. The record's ``reached`` says whether it holds; ``None``: no rule.
        wanted_detail: And the part of the pictures' energy at high ranks that the decoder has to keep, such as 0.6.
        psnr_within: How much PSNR that may cost, in dB.
        matching: Which losses of Spectrum Matching: ``"both"``, ``"encoding"`` or ``"decoding"``; its authors train an
            autoencoder with each.
        flattening: Of the spectrum that latents are to have, :math:`\delta`: 0 is the picture's own.
        masked_diagonals: How many diagonals of a block Spectrum Matching's decoding loss cuts, one drawn each step;
            0: none. Which its authors draw is not in the code that was read.
        r1_weight: Weight of the decoder's gain, the R1 penalty on its Jacobian.
        minildm_weight: Weight of the divergence from a small denoiser that is trained with the autoencoder.
        minildm_denoiser: Its name, such as ``"DiT-XXS/2"``.
        whole: Train the decoder's end too.
        fresh: Start from random weights of the same architecture, drawn by the seed; needs ``whole``.
        frozen_up_blocks: Up blocks to freeze, counted from the output.
        decoder_only: Leave the encoder as it is, so that no latent can change.
        adversarial_weight: Weight of the adversarial term, which a patch discriminator gives; usually 0.5. With it the
            decoder's end is trained, too.
        adversarial_start: Steps without that term; ``None``: half of the steps, at most 50000.
        discriminator_layers: Of the discriminator; 3 see patches of 70 pixels.
        seed: Seed of order, crops and noise.
        precision: ``"fp32"``, or ``"bf16"`` for autocast.
        device: Where to train.
    """

    model: str = "kl-f4c16"
    method: Method = "se"
    images: str = "photos"
    resolution: int = 64
    steps: int = 400
    batch_size: int = 8
    still_batch: int = 0
    still_images: str | None = None
    learning_rate: float = 1e-4
    warmup: int = 0
    clip: float = 50.0
    mse_weight: float = 1.0
    perceptual: Perceptual = "none"
    perceptual_weight: float = 1.0
    perceptual_crops: int = 0
    log_dct_weight: float = 0.0
    alpha: float | None = None
    scales: tuple[int, ...] = (2, 4)
    target: regularizers.Target = "input"
    chf_ratio: float = 0.7
    chf_fixed: bool = False
    chf_order: str = "zigzag"
    block_size: int = 8
    soft_weight: float = 0.0
    soft_power: float = 2.0
    kl_weight: float = 0.0
    whitening_weight: float = 0.0
    wanted_share: float | None = None
    wanted_detail: float | None = None
    psnr_within: float = 0.3
    matching: Matching = "both"
    flattening: float = 1.0
    masked_diagonals: tuple[int, ...] = (0, 8, 10, 12)
    r1_weight: float = 0.0
    minildm_weight: float = 0.0
    minildm_denoiser: str = "DiT-XXS/2"
    whole: bool = False
    fresh: bool = False
    frozen_up_blocks: int = 0
    decoder_only: bool = False
    adversarial_weight: float = 0.0
    adversarial_start: int | None = None
    discriminator_layers: int = 3
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, choices in (
            ("method", METHODS), ("perceptual", get_args(Perceptual)), ("matching", get_args(Matching)),
            ("target", get_args(regularizers.Target)), ("chf_order", spectrum.ORDERS), ("precision", PRECISIONS),
        ):  # fmt: skip
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("steps", "batch_size", "resolution", "block_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if self.still_batch < 0 or (self.still_batch and self.frames is None):
            raise ValueError(f"still_batch is of images beside clips (frames), not negative, got {self.still_batch}")
        if self.still_batch and self.minildm_weight:
            raise ValueError(f"MiniLDM's denoiser is of clips alone: still_batch must be 0, got {self.still_batch}")
        if self.method == "temporal-se" and (self.frames is None or self.still_batch):
            raise ValueError("temporal-se is of clips (frames), and images beside them (still_batch) have no time")
        if self.still_images is not None and not self.still_batch:
            raise ValueError(f"still_images {self.still_images!r} needs still_batch, how many there are in a batch")
        if self.perceptual_crops < 0:
            raise ValueError(f"perceptual_crops must not be negative, got {self.perceptual_crops}")
        for name in ("alpha", "soft_weight", "kl_weight", "mse_weight", "perceptual_weight", "adversarial_weight",
                     "log_dct_weight", "whitening_weight", "psnr_within", "flattening",
                     "r1_weight", "minildm_weight"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        for name in ("soft_weight", "whitening_weight", "log_dct_weight"):
            if self.method == "eq-vae" and getattr(self, name):
                why = "it needs whole blocks, and EQ-VAE encodes some images at sizes that have none"
                raise ValueError(f"{why}; leave {name} at 0 with eq-vae, got {getattr(self, name)}")
        if self.r1_weight and (self.method == "eq-vae" or self.masks):
            raise ValueError(f"{self.method} does not decode the latent as it is; leave r1_weight at 0 with it")
        if self.minildm_weight:
            if self.method == "eq-vae":
                raise ValueError("EQ-VAE's latents have many sizes, a denoiser one; leave minildm_weight at 0 with it")
            denoisers.parse(self.minildm_denoiser)
        for name in ("wanted_share", "wanted_detail"):
            if (value := getattr(self, name)) is not None and not 0 < value < 1:
                raise ValueError(f"{name} must be between 0 and 1, got {value}")
        if self.fresh and (self.decoder_only or not self.whole):
            raise ValueError("what is frozen stays random: fresh needs whole, and no decoder_only")
        if self.whole and self.frozen_up_blocks:
            raise ValueError(
                f"whole trains the decoder's end, so frozen_up_blocks must be 0, got {self.frozen_up_blocks}"
            )
        if self.masks:
            if not self.masked_diagonals:
                raise ValueError("masked_diagonals must hold at least one number")
            for count in self.masked_diagonals:
                spectrum_matching.ratio_of_diagonals(count, self.block_size)
        if self.adversarial_weight:
            self._check_adversary()

    def _check_adversary(self) -> None:
        if self.method == "eq-vae" or self.masks:
            why = f"{self.method} reconstructs changed images, which a discriminator would tell by their change"
            raise ValueError(f"{why}; leave adversarial_weight at 0 with {self.method}, got {self.adversarial_weight}")
        adversarial.check(self.discriminator_layers, self.resolution, self.adversarial_start, self.steps)

    @property
    def masks(self) -> bool:
        """Whether the decoding loss of Spectrum Matching takes the place of the reconstruction loss."""
        return self.method == "sm" and self.matching != "encoding"

    @property
    def start(self) -> int:
        """The first step with the adversarial term."""
        return adversarial.first_step(self.adversarial_start, self.steps)

    def identify(self) -> dict[str, Any]:
        """What the run is, in plain values: without the device, the adversary's settings if it has none, and those of
        :data:`LATER` that are neutral."""
        neutral = {
            field.name for field in fields(self) if field.name in LATER and getattr(self, field.name) == field.default
        }
        said = {name: value for name, value in self.as_values().items() if name not in neutral | {"device"}}
        for name in () if self.adversarial_weight else ADVERSARIAL:
            del said[name]
        return said

    @property
    def weight(self) -> float:
        r"""The :math:`\alpha` that is used."""
        return self.alpha if self.alpha is not None else PAPERS_ALPHA.get(self.method, 0.0)

    @property
    def training(self) -> training.Settings:
        # The paper's rate is constant: a cosine that ends where it began.
        rate = self.learning_rate
        return training.Settings(
            self.steps, self.seed, rate, final_learning_rate=rate, warmup=self.warmup, clip=self.clip
        )


def from_recipe(model: str, recipe: Recipe, method: Method, **others: Any) -> Finetuning:
    """The run that Table 5 describes for a model of the catalogue; ``others`` replaces single settings.

    With scale equivariance and Spectrum Matching there is no KL term; the other methods have the recipe's. Batches of
    a video autoencoder are of clips, with still images beside them.
    """
    batches: dict[str, Any] = {"batch_size": recipe.image_batch}
    if recipe.video_batch:
        batches = {"batch_size": recipe.video_batch, "still_batch": recipe.image_batch, "frames": recipe.frames}
    settings = Finetuning(
        model=model, method=method, resolution=recipe.resolution, steps=recipe.steps,
        learning_rate=recipe.learning_rate, clip=recipe.clip_norm, mse_weight=recipe.mse_weight, perceptual="vgg",
        perceptual_weight=recipe.lpips_weight, kl_weight=0.0 if method in ("se", "sm") else recipe.kl_beta,
        frozen_up_blocks=recipe.frozen_up_blocks, precision=recipe.precision,
        **batches,
    )  # fmt: skip
    return replace(settings, **others)


def distance_of(settings: Finetuning, perceptual_weights: str | os.PathLike | None = None) -> regularizers.Distance:
    """MSE and, if the settings ask for one, a perceptual distance; errors are those of :func:`.open_perceptual`."""
    if settings.log_dct_weight:
        pixels = distance_of(replace(settings, log_dct_weight=0.0), perceptual_weights)
        more = {"pixels": pixels, "weight": settings.log_dct_weight, "block_size": settings.block_size}
        network = pixels.keywords["perceptual"] if isinstance(pixels, partial) else None
        return partial(_with_log_spectra, perceptual=network, **more)
    if settings.perceptual == "none":
        return lambda target, y: settings.mse_weight * regularizers.mse(target, y)
    network = metrics.open_perceptual(settings.perceptual, perceptual_weights).to(settings.device)
    weights = {"mse_weight": settings.mse_weight, "perceptual_weight": settings.perceptual_weight}
    weights["crops"] = settings.perceptual_crops
    return partial(regularizers.mse_and_perceptual, perceptual=network, **weights)


def _with_log_spectra(
    target: Tensor, y: Tensor, *, pixels: regularizers.Distance, weight: float, block_size: int, perceptual: Any
) -> Tensor:
    return pixels(target, y) + weight * regularizers.log_spectrum_distance(target, y, block_size)


def loss_terms(
    autoencoder: Autoencoder,
    x: Tensor,
    settings: Finetuning,
    distance: regularizers.Distance,
    generator: torch.Generator,
    adversary: Adversary | None = None,
    mini: nn.Module | None = None,
) -> LossTerms:
    """The weighted terms of the loss on images ``(N, 3, H, W)`` or clips ``(N, 3, T, H, W)`` in [-1, 1], by name.

    Their sum is what is minimised. A discriminator sees the frames of clips one by one.

    The generator draws all that is random, the posterior's noise first: runs that differ in method see the same.
    ``mini`` is the denoiser of :func:`.minildm.build`, without which its weight is a ``ValueError``.
    """
    if settings.minildm_weight and mini is None:
        raise ValueError("minildm_weight needs the denoiser that is trained with the autoencoder")
    decode, x = autoencoder.decode, autoencoder.as_seen(x)
    shape = autoencoder.latent_shape(*x.shape[-2:], x.shape[2] if x.ndim == 5 else None)
    noise = torch.randn((len(x), *shape), generator=generator, device=x.device)
    if settings.method == "eq-vae":
        before, tau = regularizers.draw_eq_vae(generator, *noise.shape[-2:])
        x = regularizers.transform(x, before)
        noise = noise[..., : x.shape[-2] // autoencoder.compression, : x.shape[-1] // autoencoder.compression]
    with torch.no_grad() if settings.decoder_only else nullcontext():
        posterior = autoencoder.encode(x)
    z = posterior.mean + posterior.std * noise
    if settings.r1_weight and not z.requires_grad:
        z.requires_grad_()
    if settings.method == "eq-vae":
        terms = {"reconstruction": regularizers.eq_vae(x, z, decode, tau, distance)}
    elif settings.masks:
        count = regularizers.draw_one(generator, settings.masked_diagonals)
        loss = spectrum_matching.match_decoding(x, z, decode, count, settings.block_size, distance)
        terms = {"reconstruction": loss}
    else:
        # Fused attention cannot be derived twice.
        with sdpa_kernel(SDPBackend.MATH) if settings.r1_weight else nullcontext():
            y = decode(z)
        terms = {"reconstruction": distance(x, y)}
        if settings.adversarial_weight:
            pair = data.unroll(x), data.unroll(y)
            terms |= Adversary.absent(x) if adversary is None else adversary.terms(*pair, terms["reconstruction"])
    if settings.method == "se":
        scale = regularizers.draw_scale(generator, settings.scales)
        own = y if settings.target == "reconstruction" else None
        loss = regularizers.scale_equivariance(x, z, decode, scale, distance, settings.target, own)
        terms["se"] = settings.weight * loss
    elif settings.method == "temporal-se":
        terms["temporal_se"] = settings.weight * regularizers.temporal_scale_equivariance(x, z, decode, distance)
    elif settings.method == "chf":
        ratio = settings.chf_ratio
        ratio = ratio if settings.chf_fixed else regularizers.draw_cut_ratio(generator, ratio)
        loss = regularizers.chop(x, z, decode, ratio, settings.block_size, settings.chf_order, distance)
        terms["chf"] = settings.weight * loss
    elif settings.method == "sm" and settings.matching != "decoding":
        terms["matching"] = settings.weight * spectrum_matching.match_encoding(x, z, settings.flattening)
    elif settings.method == "af-ldm":
        by = shifts.draw_shift(generator, *x.shape[-2:])
        another = torch.randn(noise.shape, generator=generator, device=x.device)

        def encode(images: Tensor) -> Tensor:
            with torch.no_grad() if settings.decoder_only else nullcontext():
                of_moved = autoencoder.encode(images)
            return of_moved.mean + of_moved.std * another

        terms["shift"] = settings.weight * shifts.shift_equivariance(x, z, y, encode, decode, by)
    if settings.soft_weight:
        penalty = regularizers.soft_penalty(z, settings.block_size, settings.soft_power)
        terms["soft"] = settings.soft_weight * penalty
    if settings.kl_weight:
        terms["kl"] = settings.kl_weight * regularizers.averaged_kl(posterior.mean, 2 * posterior.std.log())
    if settings.whitening_weight:
        terms["whitening"] = settings.whitening_weight * regularizers.whitening(z, settings.block_size)
    if settings.r1_weight:
        probe = torch.randn(y.shape, generator=generator, device=x.device)
        terms["r1"] = settings.r1_weight * regularizers.decoder_gain(z, y, probe)
    if settings.minildm_weight:
        t = minildm.draw_times(generator, len(z))
        another = torch.randn(z.shape, generator=generator, device=x.device)
        terms["minildm"] = settings.minildm_weight * minildm.divergence(z, posterior.std, another, t, mini)
    return terms


def freeze(autoencoder: Autoencoder, settings: Finetuning) -> int:
    """Switch off the gradients of what stays as it is; returns the number of parameters left to train.

    With an adversary the decoder's output layers are trained; else they stay. An ``AutoencoderError`` for a model that
    cannot be trained so, or has nothing to train.
    """
    module, decoder = autoencoder.module, autoencoder.family.decoder
    check_trainable(autoencoder.family, autoencoder.name, settings.decoder_only)
    if not autoencoder.decodes:
        raise AutoencoderError(f"{autoencoder.name} has no decode(z), so it has no reconstruction to be fine-tuned by")
    frozen = set() if settings.whole else set(autoencoder.frozen_for_finetuning(settings.frozen_up_blocks))
    if settings.adversarial_weight:
        frozen -= {name for name in frozen if name.startswith(tuple(f"{n}." for n in autoencoder.last_layers()))}
    for name, parameter in module.named_parameters():
        if settings.decoder_only and not name.startswith(decoder):
            frozen.add(name)
        parameter.requires_grad_(name not in frozen)
    if not (count := autoencoder.trainable_count(frozen)):
        parts = " or ".join(repr(start.rstrip(".")) for start in decoder)
        which = (
            f"parameters in {parts}, which --decoder-only trains" if settings.decoder_only else "parameters to train"
        )
        raise AutoencoderError(f"{autoencoder.name} has no {which}")
    return count


def redraw(autoencoder: Autoencoder, seed: int) -> None:
    """Random weights in place of an autoencoder's, as its class draws them; an ``AutoencoderError`` for one's own."""
    module = autoencoder.module
    if not hasattr(module, "register_to_config"):
        raise AutoencoderError(
            f"{autoencoder.name} has no configuration to be built from again: fresh is for diffusers"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module.load_state_dict(type(module).from_config(module.config).state_dict())


@torch.no_grad()
def examine(autoencoder: Autoencoder, images: Tensor, block_size: int = 8, batch_size: int = 32) -> dict[str, Any]:
    """What fine-tuning is watched by: spectrum of the means and reconstruction from them, on fixed images or clips.

    ``profile`` (ratio of means) and ``energy`` are ``(B²,)`` lists; the distance to RGB at latent size is in decades.
    Of clips ``time_shares`` are :func:`.temporal_shares` of the latents, and ``time_hf_share`` is that of the upper
    half of ranks; those ``of_rgb`` are of the frames at which the latent's frames end, as many as these.
    """
    module, images = autoencoder.module, autoencoder.as_seen(images)
    was_training = module.training
    module.eval()
    z = torch.cat([autoencoder.encode(autoencoder.place(b)).mean.float() for b in images.split(batch_size)])
    decode = autoencoder.decode_in_order()
    y = torch.cat([decode(means).float().cpu() for means in z.split(batch_size)])
    module.train(was_training)
    energy = spectrum.frequency_profile(z, block_size, "energy").cpu()
    profile = spectrum.frequency_profile(z, block_size).cpu()
    of_rgb = spectrum.frequency_profile(data.rgb01(data.resize_to(images, *z.shape[-2:])), block_size).cpu()
    in_time = _examine_time(z, images[:, :, :: autoencoder.temporal_compression]) if z.ndim == 5 else {}
    return in_time | {
        "profile": profile.tolist(),
        "energy": energy.tolist(),
        "psnr_db": metrics.psnr(images, y).item(),
        "ssim": metrics.ssim(images, y).item(),
        "hf_energy_ratio": spectrum.high_frequency_energy_ratio(z, block_size).item(),
        "hf_share": spectrum.high_frequency_share(energy),
        "spectrum_distance_to_rgb": metrics.spectrum_distance(profile, of_rgb).item(),
        "latent_mean": z.mean().item(),
        "latent_std": z.std().item(),
    }


def _examine_time(z: Tensor, frames: Tensor) -> dict[str, Any]:
    """Spectra over time of latents, and of as many frames; nothing where there are too few to have an upper half."""
    found: dict[str, Any] = {}
    for name, x in (("", z), ("_of_rgb", frames)) if z.shape[2] > 2 else ():
        shares = spectrum.temporal_shares(x)
        found[f"time_shares{name}"] = shares.tolist()
        found[f"time_hf_share{name}"] = shares[(x.shape[2] - 1) // 2 :].sum().item()  # ranks from T / 2 on
    return found
