#!/usr/bin/env python
"""Train one of the small autoencoders that travel inside the package, and write its folder, card and record.

    python scripts/train_shipped.py --name kl-f4c16

The run resumes from its checkpoint when it is started again, and a finished run only writes its folder again.
"""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from diffusab_core import autoencoders, data, metrics, spectrum, training
from diffusab_core.experiments import records
from diffusab_core.methods import regularizers

PACKAGE_WEIGHTS = autoencoders.WEIGHTS
EVALUATION_SEED = 1  # of the fixed crops that every number in a card is measured on; training seeds are free to vary


@dataclass(frozen=True)
class Recipe:
    """Everything that makes one shipped model; its record repeats it."""

    latent_channels: int
    channels: tuple[int, ...] = (16, 32, 48)
    norm_groups: int = 8
    kl_weight: float = 1e-6
    l1_weight: float = 1.0
    resolution: int = 64
    batch_size: int = 16
    steps: int = 6000
    learning_rate: float = 2e-3
    warmup: int = 100
    # What a card's numbers are measured on, whatever the size of the training crops: a latent must hold whole blocks.
    evaluation_resolution: int = 64
    evaluation_crops: int = 256
    statistics_crops: int = 2048

    @property
    def compression(self) -> int:
        return 2 ** (len(self.channels) - 1)


F4, F8, F16 = (16, 32, 48), (16, 24, 32, 40), (12, 16, 24, 32, 32)
# Short enough that every member can be trained with several seeds. One group in the norms: with eight, each holds two
# of a decoder's last 16 channels and divides much of a picture's own brightness and colour away (0.8 dB, held out).
_FAMILY = {"resolution": 48, "batch_size": 8, "steps": 2000, "norm_groups": 1}
# At f16 a crop of 48 pixels is a latent of 3 x 3; the pixels in a step are 3.6 times those of the others.
_HIGH = {"resolution": 128, "batch_size": 4, "steps": 2000, "norm_groups": 1, "evaluation_resolution": 256}
_HIGH |= {"evaluation_crops": 64, "statistics_crops": 512}

RECIPES = {
    "kl-f4c16": Recipe(latent_channels=16),
    # The channel family, at two compressions; its f4 member with 16 channels is kl-f4c16-beta1e-6.
    "kl-f4c4": Recipe(latent_channels=4, channels=F4, **_FAMILY),
    **{f"kl-f8c{c}": Recipe(latent_channels=c, channels=F8, **_FAMILY) for c in (4, 16, 64)},
    # High-dimensional latents.
    **{f"kl-f16c{c}": Recipe(latent_channels=c, channels=F16, **_HIGH) for c in (64, 128, 256)},
    # The KL family.
    **{
        f"kl-f4c16-beta{beta}": Recipe(latent_channels=16, channels=F4, kl_weight=float(beta), **_FAMILY)
        for beta in ("0", "1e-6", "1e-4", "1e-2", "1e-1")
    },
}


def build(recipe: Recipe) -> AutoencoderKL:
    """A fresh AutoencoderKL without quant convolutions and middle attention."""
    levels = len(recipe.channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.channels,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=recipe.norm_groups,
        sample_size=recipe.resolution,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def loss_of(model: AutoencoderKL, recipe: Recipe, seed: int, steps: int) -> training.LossFn:
    # As many crops as the run consumes: none is seen twice.
    crops = data.Photos(recipe.resolution, "train", seed=seed, length=steps * recipe.batch_size)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        x = data.stack(crops, training.batch_indices(step, recipe.batch_size, len(crops), seed))
        posterior = model.encode(x).latent_dist
        y = model.decode(posterior.sample(generator)).sample
        error = y - x
        kl = regularizers.averaged_kl(posterior.mean, posterior.logvar)
        total = error.square().mean() + recipe.l1_weight * error.abs().mean() + recipe.kl_weight * kl
        return total, {"psnr_db": metrics.psnr(x, y.detach()), "kl": kl.detach()}

    return loss


def settings_of(recipe: Recipe, seed: int, steps: int) -> training.Settings:
    return training.Settings(
        steps=steps, seed=seed, learning_rate=recipe.learning_rate, warmup=min(recipe.warmup, steps - 1)
    )


@torch.no_grad()
def encode(model: AutoencoderKL, x: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and standard deviation of many images, in pieces."""
    pieces = [model.encode(piece).latent_dist for piece in x.split(64)]
    return torch.cat([p.mean for p in pieces]), torch.cat([p.std for p in pieces])


@torch.no_grad()
def reconstruct(model: AutoencoderKL, x: Tensor) -> Tensor:
    return torch.cat([model.decode(model.encode(piece).latent_dist.mean).sample for piece in x.split(64)])


def crops_of(split: data.Split, count: int, resolution: int) -> Tensor:
    return data.stack(data.Photos(resolution, split, seed=EVALUATION_SEED, length=count), range(count))


def normalise(model: AutoencoderKL, recipe: Recipe) -> None:
    """Put mean and inverse standard deviation of the latents into the configuration."""
    mean, std = encode(model, crops_of("train", recipe.statistics_crops, recipe.evaluation_resolution))
    latents = mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(EVALUATION_SEED))
    model.register_to_config(scaling_factor=1 / latents.std().item(), shift_factor=latents.mean().item())


def measure(model: AutoencoderKL, recipe: Recipe) -> dict[str, float]:
    """PSNR and spectra on fixed crops of both splits."""
    found = {"parameters": float(sum(p.numel() for p in model.parameters()))}
    for split, label in (("train", "train"), ("test", "held_out")):
        x = crops_of(split, recipe.evaluation_crops, recipe.evaluation_resolution)
        mean, std = encode(model, x)
        small = data.resize_to(data.rgb01(x), *mean.shape[-2:])
        found[f"{label}_psnr_db"] = metrics.psnr(x, reconstruct(model, x)).item()
        found[f"{label}_posterior_std"] = std.mean().item()
        found[f"{label}_latent_high_frequency_energy_ratio"] = spectrum.high_frequency_energy_ratio(mean).item()
        found[f"{label}_rgb_high_frequency_energy_ratio"] = spectrum.high_frequency_energy_ratio(small).item()
    return found


def normalisation(model: AutoencoderKL) -> str:
    """What makes this model's latents standard, as its card says it."""
    shift, factor = model.config.shift_factor, model.config.scaling_factor
    return f"(z {'+' if shift < 0 else '-'} {abs(shift):.4f}) x {factor:.4f}"


def card(name: str, recipe: Recipe, record: records.RunRecord, model: AutoencoderKL) -> str:
    """The model card, in Markdown."""
    m = record.metrics
    photographs = "\n".join(f"- `{p}`: {data.PHOTOGRAPHS[p].licence}" for p in data.photo_names("train"))
    rows = {
        "PSNR, dB": ("psnr_db", ".2f"),
        "high-frequency energy ratio of the latents, 8 x 8 blocks": ("latent_high_frequency_energy_ratio", ".5f"),
        "the same of RGB in [0, 1] at latent size": ("rgb_high_frequency_energy_ratio", ".5f"),
        "mean posterior standard deviation": ("posterior_std", ".4f"),
    }
    table = ["| | training photographs | held-out photographs |", "|---|---|---|"]
    table += [f"| {row} | {m['train_' + key]:{f}} | {m['held_out_' + key]:{f}} |" for row, (key, f) in rows.items()]
    narrow = (
        f" The latent's {recipe.latent_channels} channels are one convolution of {recipe.channels[-1]} feature maps, "
        "so they hold less than as many channels of a wide model would."
        if recipe.latent_channels > recipe.channels[-1]
        else ""
    )
    paragraphs = textwrap.dedent(f"""\
        A small KL autoencoder for teaching and for fast experiments with latent spectra: compression
        {recipe.compression} x {recipe.compression}, {recipe.latent_channels} latent channels,
        {m["parameters"]:.0f} parameters, stored in half precision. It opens with
        `diffusab_core.autoencoders.load("{name}")` and with `diffusers.AutoencoderKL.from_pretrained(folder)`.

        ## Data

        {record.data[0].upper() + record.data[1:]}. `coffee` and `china` were never trained on; every held-out
        number is measured on them. Greyscale, astronomical and medical images in scikit-image are left out: their
        spectra and colours are not those of everyday photographs.

        Terms of the training photographs:

        PHOTOGRAPHS

        ## Recipe

        Loss: MSE + {recipe.l1_weight:g} x L1, both in [-1, 1], + {recipe.kl_weight:g} x KL, the KL averaged over
        channels and positions. There is no perceptual and no adversarial term (their networks need a download), so
        fine texture is smoothed.

        AdamW, betas (0.9, 0.99), weight decay 0.01; {record.parameters["steps"]} steps of {recipe.batch_size} crops of
        {recipe.resolution} x {recipe.resolution}; learning rate {recipe.learning_rate:g} after {recipe.warmup} steps of
        warm-up, then a cosine to 0; gradient clip 1. The weights are the exponential moving average with a half-life
        of {record.parameters["ema_half_life"]:g} steps.

        Seed {record.seed}. Device: {record.device}; {m["training_time_s"] / 60:.0f} minutes of training. Script:
        `scripts/train_shipped.py --name {name}`. Everything else is in `record.json`.

        ## Measured

        On {recipe.evaluation_crops} fixed crops of each split (`data.Photos({recipe.evaluation_resolution}, split,
        seed={EVALUATION_SEED})`), with the stored half-precision weights run in float32, decoding the posterior's mean:

        TABLE

        Normalise latents as {normalisation(model)}: mean and
        inverse standard deviation of posterior samples of {recipe.statistics_crops} training crops.

        ## Limits

        Trained on {len(data.photo_names("train"))} photographs: good enough to study spectra with, not to compress
        pictures with.{narrow}

        ## Licence

        MIT, as the package.
        """).split("\n\n")
    filled = [p if p.startswith("#") else textwrap.fill(p, 118, break_on_hyphens=False) for p in paragraphs]
    body = "\n\n".join(filled).replace("PHOTOGRAPHS", photographs).replace("TABLE", "\n".join(table))
    return f"---\nlicense: mit\nlibrary_name: diffusers\n---\n\n# {name}\n\n{body}\n"


def write_folder(name: str, recipe: Recipe, model: AutoencoderKL, run: records.Run, folder: Path) -> records.RunRecord:
    """Normalisation, half-precision weights, measurements of those weights, record and card."""
    normalise(model, recipe)
    model.half().save_pretrained(folder)
    stored = AutoencoderKL.from_pretrained(folder).eval()
    run.metrics |= measure(stored, recipe)
    record = run.finish()
    (folder / "README.md").write_text(card(name, recipe, record, stored), encoding="utf-8")
    record.write(folder / "record.json")
    return record


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", choices=sorted(RECIPES), required=True, help="which shipped model")
    parser.add_argument("--steps", type=int, help="optimiser steps (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, data and noise (default: 0)")
    parser.add_argument("--out", type=Path, help="folder to write (default: diffusab_core/autoencoders/weights/NAME)")
    parser.add_argument("--checkpoint", type=Path, help="folder of checkpoints (default: runs/train_shipped/NAME-SEED)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    recipe = RECIPES[args.name]
    steps = args.steps or recipe.steps
    folder = args.out or PACKAGE_WEIGHTS / args.name
    checkpoint = args.checkpoint or Path("runs") / "train_shipped" / f"{args.name}-{args.seed}"

    torch.manual_seed(args.seed)  # the initial weights
    model = build(recipe)
    settings = settings_of(recipe, args.seed, steps)
    run = records.start(
        "train-shipped-autoencoder",
        parameters={**asdict(recipe), "name": args.name, "steps": steps, "ema_half_life": settings.half_life},
        seed=args.seed,
        size="laptop",
        data=f"random {recipe.resolution} x {recipe.resolution} crops, at random scale and flipped at random, of the "
        f"photographs {', '.join(data.photo_names('train'))} from scikit-image and scikit-learn",
    )
    trained = training.train(model.train(), loss_of(model, recipe, args.seed, steps), settings, checkpoint=checkpoint)
    model.load_state_dict(trained.ema)
    run.series = trained.series
    run.metrics["training_time_s"] = trained.wall_time_s
    if trained.resumed_from:
        run.notes = f"Resumed at step {trained.resumed_from}; training_time_s counts every part, wall_time_s the last."
    record = write_folder(args.name, recipe, model.eval(), run, folder)
    size = (folder / "diffusion_pytorch_model.safetensors").stat().st_size
    print(
        f"{folder}: {size / 2**20:.2f} MiB, held out {record.metrics['held_out_psnr_db']:.2f} dB, "
        f"training photographs {record.metrics['train_psnr_db']:.2f} dB, {trained.wall_time_s / 60:.1f} minutes"
    )


if __name__ == "__main__":
    main()
