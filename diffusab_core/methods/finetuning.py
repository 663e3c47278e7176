r"""Fine-tuning an autoencoder: plain, scale equivariance, CHF, the soft penalty, EQ-VAE, and KL with any of them.

.. math:: L = d(x, \mathrm{Dec}(z)) + \alpha\, L_\text{SE or CHF} + \gamma\, L_\text{soft} + \beta\, L_\text{KL},
    \qquad z \sim q(z \mid x)

Encoder and decoder are trained, but for the decoder's end (:meth:`.Autoencoder.frozen_for_finetuning`).

Source: Skorokhodov et al. 2025, Sec. 3 and Table 5.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from diffusab_core import data, metrics, spectrum, training
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.autoencoders.catalogue import Recipe
from diffusab_core.methods import regularizers

Method = Literal["plain", "se", "chf", "eq-vae"]
METHODS: tuple[str, ...] = get_args(Method)
Perceptual = Literal["none", "alex", "vgg"]

LossTerms = dict[str, Tensor]

#: The weight of each regularizer that has one, in the paper: Eq. 2 and Eq. 4.
PAPERS_ALPHA = {"se": 0.25, "chf": 1.0}


@dataclass(frozen=True)
class Finetuning:
    r"""One fine-tuning run.

    Attributes:
        model: Shipped name, diffusers folder or hub id.
        method: ``"plain"`` (the control), ``"se"``, ``"chf"`` or ``"eq-vae"``; soft penalty and KL combine with each.
        images: What to train on: a place of images, see ``diffusab profile --help``; ``photos`` or ``leaves``.
        resolution: Side of the training crops in pixels.
        steps: Optimiser steps.
        batch_size: Crops in a batch.
        learning_rate: AdamW's, constant after ``warmup`` steps.
        warmup: Steps of linear warm-up.
        clip: Largest gradient norm.
        mse_weight: Weight of the mean squared error.
        perceptual: LPIPS with this backbone, or none.
        perceptual_weight: Weight of LPIPS.
        alpha: Weight :math:`\alpha` of SE or CHF; ``None``: the paper's, 0.25 for SE and 1 for CHF.
        scales: Downsampling scales of SE, one drawn each step.
        target: SE's target, the downsampled input or reconstruction.
        chf_ratio: CHF's cut ratio, or the largest where it is drawn each step.
        chf_fixed: The ratio is not drawn.
        chf_order: ``"zigzag"`` or ``"axes"``.
        block_size: Of CHF and the soft penalty.
        soft_weight: Weight :math:`\gamma` of the soft penalty.
        soft_power: Exponent :math:`p` of the soft penalty.
        kl_weight: Weight :math:`\beta` of the averaged KL.
        frozen_up_blocks: Up blocks to freeze, counted from the output.
        decoder_only: Leave the encoder as it is, so that no latent can change.
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
    learning_rate: float = 1e-4
    warmup: int = 0
    clip: float = 50.0
    mse_weight: float = 1.0
    perceptual: Perceptual = "none"
    perceptual_weight: float = 1.0
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
    frozen_up_blocks: int = 0
    decoder_only: bool = False
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, choices in (("method", METHODS), ("perceptual", get_args(Perceptual))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("steps", "batch_size", "resolution"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("alpha", "soft_weight", "kl_weight", "mse_weight", "perceptual_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if self.method == "eq-vae" and self.soft_weight:
            why = "the soft penalty needs whole blocks, and EQ-VAE encodes some images at sizes that have none"
            raise ValueError(f"{why}; leave soft_weight at 0 with eq-vae, got {self.soft_weight}")

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

    With scale equivariance there is no KL term; the other methods have the recipe's. Images only.
    """
    settings = Finetuning(
        model=model, method=method, resolution=recipe.resolution, steps=recipe.steps, batch_size=recipe.image_batch,
        learning_rate=recipe.learning_rate, clip=recipe.clip_norm, mse_weight=recipe.mse_weight, perceptual="vgg",
        perceptual_weight=recipe.lpips_weight, kl_weight=0.0 if method == "se" else recipe.kl_beta,
        frozen_up_blocks=recipe.frozen_up_blocks, precision=recipe.precision,
    )  # fmt: skip
    return replace(settings, **others)


def distance_of(settings: Finetuning, perceptual_weights: str | os.PathLike | None = None) -> regularizers.Distance:
    """MSE, with LPIPS if the settings ask for it: a ``MissingWeightsError`` where its backbone is not on the disk."""
    if settings.perceptual == "none":
        return lambda target, y: settings.mse_weight * regularizers.mse(target, y)
    lpips = metrics.lpips_distance(settings.perceptual, perceptual_weights).to(settings.device)
    weights = {"mse_weight": settings.mse_weight, "perceptual_weight": settings.perceptual_weight}
    return partial(regularizers.mse_and_perceptual, perceptual=lpips, **weights)


def loss_terms(
    autoencoder: Autoencoder,
    x: Tensor,
    settings: Finetuning,
    distance: regularizers.Distance,
    generator: torch.Generator,
) -> LossTerms:
    """The weighted terms of the loss on images ``(N, 3, H, W)`` in [-1, 1], by name; their sum is what is minimised.

    The generator draws all that is random, the posterior's noise first: runs that differ in method see the same.
    """
    decode = autoencoder.decode
    noise = torch.randn((len(x), *autoencoder.latent_shape(*x.shape[-2:])), generator=generator, device=x.device)
    if settings.method == "eq-vae":
        before, tau = regularizers.draw_eq_vae(generator, *noise.shape[-2:])
        x = regularizers.transform(x, before)
        noise = noise[..., : x.shape[-2] // autoencoder.compression, : x.shape[-1] // autoencoder.compression]
    with torch.no_grad() if settings.decoder_only else nullcontext():
        posterior = autoencoder.encode(x)
    z = posterior.mean + posterior.std * noise
    if settings.method == "eq-vae":
        terms = {"reconstruction": regularizers.eq_vae(x, z, decode, tau, distance)}
    else:
        y = decode(z)
        terms = {"reconstruction": distance(x, y)}
    if settings.method == "se":
        scale = regularizers.draw_scale(generator, settings.scales)
        own = y if settings.target == "reconstruction" else None
        loss = regularizers.scale_equivariance(x, z, decode, scale, distance, settings.target, own)
        terms["se"] = settings.weight * loss
    elif settings.method == "chf":
        ratio = settings.chf_ratio
        ratio = ratio if settings.chf_fixed else regularizers.draw_cut_ratio(generator, ratio)
        loss = regularizers.chop(x, z, decode, ratio, settings.block_size, settings.chf_order, distance)
        terms["chf"] = settings.weight * loss
    if settings.soft_weight:
        penalty = regularizers.soft_penalty(z, settings.block_size, settings.soft_power)
        terms["soft"] = settings.soft_weight * penalty
    if settings.kl_weight:
        terms["kl"] = settings.kl_weight * regularizers.averaged_kl(posterior.mean, 2 * posterior.std.log())
    return terms


def freeze(autoencoder: Autoencoder, settings: Finetuning) -> int:
    """Switch off the gradients of what stays as it is; returns the number of parameters left to train."""
    module = autoencoder.module
    frozen = set(autoencoder.frozen_for_finetuning(settings.frozen_up_blocks))
    for name, parameter in module.named_parameters():
        if settings.decoder_only and not name.startswith(("decoder.", "post_quant_conv.")):
            frozen.add(name)
        parameter.requires_grad_(name not in frozen)
    return autoencoder.trainable_count(frozen)


@torch.no_grad()
def examine(autoencoder: Autoencoder, images: Tensor, block_size: int = 8, batch_size: int = 32) -> dict[str, Any]:
    """What fine-tuning is watched by: spectrum of the means and reconstruction from them, on fixed images.

    ``profile`` (ratio of means) and ``energy`` are ``(B²,)`` lists; the distance to RGB at latent size is in decades.
    """
    module = autoencoder.module
    was_training, device = module.training, next(module.parameters()).device
    module.eval()
    z = torch.cat([autoencoder.encode(batch.to(device)).mean.float() for batch in images.split(batch_size)])
    y = torch.cat([autoencoder.decode(means).float().cpu() for means in z.split(batch_size)])
    module.train(was_training)
    energy = spectrum.frequency_profile(z, block_size, "energy").cpu()
    profile = spectrum.frequency_profile(z, block_size).cpu()
    of_rgb = spectrum.frequency_profile(data.rgb01(data.resize_to(images, *z.shape[-2:])), block_size).cpu()
    return {
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
