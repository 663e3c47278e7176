"""The decoders beside the Gaussian one in the training of an autoencoder: against a discriminator, and by diffusion.

Losses and settings are :mod:`diffusab_core.methods.diffusion_decoder`'s and
:mod:`diffusab_core.methods.adversarial`'s; here they meet batches, checkpoints and cards.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from diffusab_core import data, metrics, spectrum, training
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.autoencoders.diffusion import DiffusionAutoencoder
from diffusab_core.experiments import records
from diffusab_core.experiments.autoencoder import seen
from diffusab_core.experiments.probing import Found
from diffusab_core.methods import adversarial, cost, diffusion_decoder
from diffusab_core.methods.adversarial import Adversary
from diffusab_core.methods.diffusion_decoder import Perceptual
from diffusab_core.metrics.invention import measure_invention
from diffusab_core.metrics.samples import open_features
from diffusab_core.training.batches import Batches

#: :class:`diffusab_core.experiments.pretraining.Pretraining`, which imports this module.
Pretraining = Any


def build(settings: Pretraining, name: str) -> Autoencoder:
    """The autoencoder with a diffusion decoder, with random weights from torch's global generator."""
    module = DiffusionAutoencoder(
        block_out_channels=settings.channels,
        layers_per_block=settings.layers,
        latent_channels=settings.latent_channels,
        norm_num_groups=settings.norm_groups,
        mid_block_add_attention=settings.attention,
        sample_size=settings.resolution,
        decoder_network=settings.decoder_network,
        z_dropout=settings.z_dropout,
        decoder_steps=settings.decoder_steps,
    )
    return Autoencoder(name, module)


def weigh(settings: Pretraining, network: metrics.PerceptualDistance | None) -> Perceptual | None:
    """The perceptual term of a batch: the network's mean distance on the crops asked for, with its weight."""
    if network is None:
        return None
    few = slice(settings.perceptual_crops or None)
    return lambda x, y: settings.perceptual_weight * network(x[few], y[few]).mean()


def loss_of(
    module: DiffusionAutoencoder, settings: Pretraining, batches: Batches, network: metrics.PerceptualDistance | None
) -> training.LossFn:
    """The diffusion decoder's loss on batches; ``psnr_db`` is that of the one-step estimates."""
    device, how = (
        torch.device(settings.device),
        {"kl_weight": settings.kl_weight, "perceptual": weigh(settings, network)},
    )

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        x = batches(step).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            terms, estimate = diffusion_decoder.loss_terms(module, x, settings, generator, **how)
        found = {name: term.detach() for name, term in terms.items()}
        return sum(terms.values()), found | {"psnr_db": metrics.psnr(x, estimate.detach().float())}

    return loss


# ---------------------------------------------------------------------------------------------------------------------
# Against a discriminator


def join_adversary(autoencoder: Autoencoder, settings: Pretraining) -> tuple[nn.Module, Adversary | None]:
    """What is trained: the autoencoder's module, for a GAN decoder with a discriminator, and that as an adversary."""
    if settings.decoder != "gan":
        return autoencoder.module, None
    discriminator = adversarial.PatchDiscriminator(settings.discriminator_layers, seed=settings.seed)
    adversary = Adversary(
        discriminator.to(settings.device), settings.adversarial_weight, adversarial.last_weight(autoencoder)
    )
    return adversarial.Together(autoencoder.module, discriminator=discriminator), adversary


def adversarial_terms(
    adversary: Adversary | None, step: int, settings: Pretraining, x: Tensor, y: Tensor, reconstruction: Tensor
) -> dict[str, Tensor]:
    """The adversary's terms at a step, zeros before their first one; none without an adversary."""
    if adversary is None:
        return {}
    if step < adversarial.first_step(settings.adversarial_start, settings.steps):
        return Adversary.absent(x)
    return adversary.terms(x, y, reconstruction)


def part_of_autoencoder(state: dict[str, Tensor], adversary: Adversary | None) -> dict[str, Tensor]:
    """The autoencoder's weights among those that were trained."""
    return state if adversary is None else adversarial.Together.of_autoencoder(state)


# ---------------------------------------------------------------------------------------------------------------------
# To one step


def distil(
    autoencoder: Autoencoder,
    settings: Pretraining,
    images: Dataset,
    network: metrics.PerceptualDistance | None = None,
    folder: Path | None = None,
    *,
    checkpoint_every: int = 500,
    workers: int = 0,
    progress: bool = True,
) -> training.Trained | None:
    """Distil a trained diffusion decoder to one step, in place, if the settings say so.

    The teacher is the decoder as it is. Like the training before it, this goes on where it was cut off: its checkpoints
    are in ``distillation/`` beside the others.
    """
    if settings.decoder != "diffusion" or not settings.distillation_steps:
        return None
    student, device = autoencoder.module, torch.device(settings.device)
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(name.startswith("decoder."))
    steps = settings.distillation_steps
    batches = Batches(images, settings.batch_size, settings.seed, steps, workers, settings.device)
    perceptual = weigh(settings, network)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        x = batches(step).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            terms = diffusion_decoder.distillation_terms(student, teacher, x, generator, perceptual)
        return sum(terms.values()), {name: term.detach() for name, term in terms.items()}

    trained = training.train(
        student.train(),
        loss,
        replace(settings.training, steps=steps, warmup=min(settings.warmup, steps - 1)),
        checkpoint=folder / "training" / "distillation" if folder else None,
        checkpoint_every=checkpoint_every,
        identity=records.without_device(settings) | seen(images) | {"phase": "distillation"},
        samples=batches.describe,
        progress=progress,
    )
    student.load_state_dict(trained.ema)
    student.eval().requires_grad_(False)
    student.register_to_config(decoder_steps=1)
    return trained


# ---------------------------------------------------------------------------------------------------------------------
# What it is, in numbers and words


@torch.no_grad()
def judge(
    autoencoder: Autoencoder,
    images: Tensor,
    steps: Sequence[int] = (1, 2, 4, 8, 16, 32),
    seeds: int = 4,
    features: str = "lite0p64",
    block_size: int = 8,
    batch_size: int = 32,
) -> Found:
    """How well posterior means of images ``(N, 3, H, W)`` are decoded, by the number of steps, and what is invented.

    Curves ``decoded_..._by_steps`` over ``decoded_steps``: ``psnr_db``, ``ssim``, ``hed`` (the perceptual distance),
    ``frechet_FEATURES`` (the reconstruction Fréchet distance) and ``hf_survival``, the energy of the pictures' upper
    half of ranks over that of the images. The metrics without ``_by_steps`` are those of the model's own number of
    steps, which is measured, too; so are the curves by rank of :mod:`diffusab_core.metrics.invention`, over ``seeds``
    seeds, and ``invented_share`` of all energy outside rank 0. A decoder of one pass has one point, at 1 step, and
    invents nothing.
    """
    own = autoencoder.module.config.decoder_steps if autoencoder.decoder_samples else 1
    steps = sorted({own, *steps}) if autoencoder.decoder_samples else (1,)
    network = open_features(features, device=next(autoencoder.parameters()).device)
    distance, found, half = metrics.open_perceptual("hed"), Found(), block_size**2 // 2
    batches = images.split(batch_size)
    z = [autoencoder.encode(autoencoder.place(x)).mean for x in batches]
    for number in steps:
        asked = autoencoder.with_decoding(steps=number) if autoencoder.decoder_samples else autoencoder
        y = torch.cat([decode(some).float().cpu() for decode in [asked.decode_in_order()] for some in z]).clamp(-1, 1)
        near = torch.cat([distance(a, b) for a, b in zip(batches, y.split(batch_size), strict=True)])
        energies = [spectrum.frequency_profile(data.rgb01(v), block_size, "energy")[half:].sum() for v in (y, images)]
        found.add("decoded_steps", number)
        found.add("decoded_psnr_db_by_steps", metrics.psnr(images, y))
        found.add("decoded_ssim_by_steps", metrics.ssim(images, y))
        found.add("decoded_hed_by_steps", near.mean())
        found.add(f"decoded_frechet_{features}_by_steps", metrics.reconstruction_frechet_distance(images, y, network))
        found.add("decoded_hf_survival_by_steps", energies[0] / energies[1])
    whole = "_by_steps"
    at = steps.index(own)
    found.metrics = {name.removesuffix(whole): curve[at] for name, curve in found.series.items() if whole in name}
    if autoencoder.decoder_samples:
        invented = measure_invention(autoencoder, images, range(seeds), block_size, batch_size)
        for name, curve in invented._asdict().items():
            found.series[f"invention_{name}"] = [float(f"{value:.5g}") for value in curve.tolist()]
        outside = slice(1, None)
        energy = (invented.variance + invented.kept)[outside].sum()
        found.metrics["invented_share"] = (invented.variance[outside].sum() / energy).item()
    return found


def describe(autoencoder: Autoencoder, adversary: Adversary | None, resolution: int) -> dict[str, float]:
    """Sizes and costs: parameters, and multiply-accumulates for one image of ``resolution`` x ``resolution``.

    ``decoder_macs`` are those of decoding, all steps of a decoder that samples; ``forward_macs`` those of the forward
    pass of a training step, without discriminator and perceptual network.
    """
    meta = replace(autoencoder, module=copy.deepcopy(autoencoder.module).to("meta"))
    like = {"device": "meta", "dtype": next(autoencoder.parameters()).dtype}
    x = torch.empty(1, 3, resolution, resolution, **like)
    z = torch.empty(1, *autoencoder.latent_shape(resolution, resolution), **like)
    one = partial(meta.decode, steps=1) if autoencoder.decoder_samples else meta.decode
    found = {
        "decoder_parameters": _count(autoencoder.module, autoencoder.family.decoder),
        "encoder_macs": cost.multiply_accumulates(lambda images: meta.encode(images).mean, x),
        "decoder_macs": cost.multiply_accumulates(meta.decode, z),
    }
    found["forward_macs"] = found["encoder_macs"] + cost.multiply_accumulates(one, z)
    if adversary is not None:
        found["discriminator_parameters"] = _count(adversary.discriminator)
    return {name: float(value) for name, value in found.items()}


def _count(module: nn.Module, start: tuple[str, ...] = ("",)) -> int:
    return sum(p.numel() for name, p in module.named_parameters() if name.startswith(start))
