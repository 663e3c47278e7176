"""``diffusab finetune`` and ``diffusab evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from diffusab_book.cli.app import app, fail


def _device(wanted: str) -> str:
    from diffusab_book.report.options import resolve_device

    return str(resolve_device(wanted))


@app.command()
def finetune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Shipped name, diffusers folder, or hub id.")],
    out: Annotated[Path, typer.Option(help="Folder for the result; the same command resumes what was cut off there.")],
    method: Annotated[
        str,
        typer.Option(help="plain (the control), se (scale equivariance), chf, soft (plain + soft penalty), eq-vae."),
    ] = "se",
    images: Annotated[
        str, typer.Option(metavar="PLACE", help="What to train on: see `diffusab profile --images`; photos or leaves.")
    ] = "photos",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps. [default: the recipe's, else 400]")] = None,
    perceptual: Annotated[
        str, typer.Option(help="lpips (VGG weights have to be on the disk, see --perceptual-weights) or none.")
    ] = "lpips",
    perceptual_weights: Annotated[
        Path | None, typer.Option(help="torchvision's VGG-16 weights. [default: torch's hub cache]")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Start from Table 5's settings for this model of the catalogue, e.g. FluxAE.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight of SE or CHF. [default: 0.25 and 1]")] = None,
    kl_weight: Annotated[
        float | None, typer.Option(help="Weight of the averaged KL. [default: the recipe's, or 0]")
    ] = None,
    soft_weight: Annotated[float | None, typer.Option(help="Weight of the soft penalty. [soft: 0.1; else 0]")] = None,
    chf_ratio: Annotated[float | None, typer.Option(help="CHF: the largest share of frequencies cut.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of the training crops in pixels.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Crops in a batch.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's, constant.")] = None,
    frozen_up_blocks: Annotated[int | None, typer.Option(help="Up blocks to freeze, counted from the output.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, or bf16 autocast.")] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that read images ahead.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of order, crops and noise.")] = 0,
) -> None:
    """Fine-tune an autoencoder so that its latents are easier to learn; the result is a normal diffusers folder."""
    from diffusab_core import autoencoders, experiments
    from diffusab_core.methods import finetuning
    from diffusab_core.training import TrainingDiverged

    given: dict[str, Any] = {
        "steps": steps, "alpha": alpha, "kl_weight": kl_weight, "soft_weight": soft_weight, "chf_ratio": chf_ratio,
        "resolution": resolution, "batch_size": batch_size, "learning_rate": learning_rate, "precision": precision,
        "frozen_up_blocks": frozen_up_blocks,
    }  # fmt: skip
    try:
        if perceptual not in ("lpips", "none"):
            raise ValueError(f"--perceptual is lpips or none, got {perceptual!r}")
        chosen = {name: value for name, value in given.items() if value is not None}
        if method == "soft":
            chosen, method = {"soft_weight": 0.1} | chosen, "plain"
        chosen |= {"images": images, "seed": seed, "device": _device(device)}
        chosen["perceptual"] = "vgg" if perceptual == "lpips" else "none"
        if recipe is None:
            settings = finetuning.Finetuning(model=model, method=method, **chosen)
        else:
            entry = autoencoders.CATALOGUE.get(recipe)
            if entry is None or entry.recipe is None:
                known = ", ".join(name for name, e in autoencoders.CATALOGUE.items() if e.recipe)
                raise ValueError(f"no recipe for {recipe!r}; there is one for {known}")
            settings = finetuning.from_recipe(model, entry.recipe, method, **chosen)
        done = experiments.finetune(
            settings, out, perceptual_weights=perceptual_weights, workers=workers, checkpoint_every=checkpoint_every
        )
    except (ValueError, OSError, TrainingDiverged) as error:
        raise fail(" ".join(str(error).split())) from error
    except KeyboardInterrupt:
        fail(f"interrupted; the same command goes on from the last checkpoint in {out}")
        raise typer.Exit(130) from None
    m = done.record.metrics
    typer.echo(f"{m['trainable_parameters']:,.0f} parameters trained for {settings.steps} steps")
    for name, unit in (("psnr_db", "dB"), ("hf_energy_ratio", ""), ("hf_share", "")):
        typer.echo(f"{name}: {m['before_' + name]:.5g} -> {m['after_' + name]:.5g} {unit}".rstrip())
    typer.echo(f"wrote {out}")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Shipped name, diffusers folder, or hub id.")],
    images: Annotated[
        str, typer.Option(metavar="PLACE", help="See `diffusab profile --images`; photos are the held-out ones.")
    ] = "photos",
    samples: Annotated[int, typer.Option(help="How many images, at most.")] = 64,
    resolution: Annotated[int, typer.Option(help="Side of the square images in pixels.")] = 128,
    block_size: Annotated[int, typer.Option(help="Side of a DCT block in latent pixels.")] = 8,
    lpips: Annotated[Path | None, typer.Option(help="torchvision's AlexNet weights: adds LPIPS.")] = None,
    features: Annotated[
        str,
        typer.Option(
            help="Network of the reconstruction Fréchet distance: offline (this project's own small one, not "
            "Inception), inception, dinov2 or none."
        ),
    ] = "offline",
    features_weights: Annotated[
        Path | None, typer.Option(help="Inception's or DINOv2's weights. [default: the caches of torch and the hub]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the crops.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File for the run record, JSON.")] = None,
) -> None:
    """Reconstruction and spectrum of an autoencoder: PSNR, SSIM, LPIPS, Fréchet distance, high-frequency measures,
    the cut curve."""
    from diffusab_core import experiments

    try:
        settings = experiments.Evaluation(
            model=model, images=images, samples=samples, resolution=resolution, block_size=block_size,
            lpips_weights=None if lpips is None else str(lpips), features=features,
            features_weights=None if features_weights is None else str(features_weights), device=_device(device),
            seed=seed,
        )  # fmt: skip
        record = experiments.evaluate(settings)
        if out is not None:
            record.write(out)
    except (ValueError, OSError) as error:
        raise fail(" ".join(str(error).split())) from error
    typer.echo(f"{record.parameters['model']}, {record.data}")
    for name, value in record.metrics.items():
        typer.echo(f"{name}: {value:.5g}")
    for ratio, db in zip(record.series["cut_ratio"], record.series["cut_psnr_db"], strict=True):
        typer.echo(f"psnr_db with {ratio:.0%} of the latent's frequencies cut: {db:.2f}")
    if record.notes:
        typer.echo(record.notes)
