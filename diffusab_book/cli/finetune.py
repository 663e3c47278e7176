"""``diffusab finetune`` and ``diffusab evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from diffusab_book.cli.options import Device, Out, UsageError, Workers, check_writable, command, settle
from diffusab_core import autoencoders, experiments
from diffusab_core.methods import finetuning
from diffusab_core.training.world import resolve_device


@command(
    finetuning.Finetuning,
    arguments=("model",),
    without=("method", "perceptual"),
    opens="model",
    interrupted="the same command goes on from the last checkpoint in {out}",
)
def finetune(
    given: dict[str, Any],
    out: Annotated[Path, typer.Option(help="Folder for the result; the same command resumes what was cut off there.")],
    method: Annotated[
        str,
        typer.Option(
            help="plain (the control), se (scale equivariance), chf, soft (plain + soft penalty), eq-vae, sm "
            "(Spectrum Matching), af-ldm (its shift equivariance), temporal-se (of clips, scale equivariance in time)."
        ),
    ] = "se",
    perceptual: Annotated[
        str,
        typer.Option(
            help="lpips (VGG weights have to be on the disk, see --perceptual-weights), hed (shipped) or none."
        ),
    ] = "lpips",
    perceptual_weights: Annotated[
        Path | None, typer.Option(help="torchvision's VGG-16 weights. [default: torch's hub cache]")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Start from Table 5's settings for this model of the catalogue, e.g. FluxAE.")
    ] = None,
    device: Device = "auto",
    workers: Workers = 0,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
) -> None:
    """Fine-tune an autoencoder so that its latents are easier to learn; the result is a normal diffusers folder.

    Works for every class that `diffusab profile` opens, DC-AE among them:
    diffusab finetune mit-han-lab/dc-ae-f32c32-in-1.0-diffusers --resolution 256. To make a decoder fit your own images,
    and leave the latents as they are: --images FOLDER --decoder-only --adversarial-weight 0.5. Your own module,
    file.py:function, is kept as its weights and the name of that function, and OUT opens wherever a model is named.
    """
    if method not in (methods := (*finetuning.METHODS, "soft")):
        raise UsageError(f"--method must be one of {', '.join(methods)}, got {method!r}")
    if perceptual not in ("lpips", "hed", "none"):
        raise UsageError(f"--perceptual is lpips, hed or none, got {perceptual!r}")
    if method == "soft":
        given, method = {"soft_weight": 0.1} | given, "plain"
    given |= {"method": method, "perceptual": "vgg" if perceptual == "lpips" else perceptual}
    given |= {"device": str(resolve_device(device))}
    if recipe is None:
        settings = settle(finetuning.Finetuning, given)
    else:
        entry = autoencoders.CATALOGUE.get(recipe)
        if entry is None or entry.recipe is None:
            known = ", ".join(name for name, e in autoencoders.CATALOGUE.items() if e.recipe)
            raise UsageError(f"no recipe for {recipe!r}; there is one for {known}")
        settings = settle(finetuning.from_recipe, given, recipe=entry.recipe)
    done = experiments.finetune(
        settings, out, perceptual_weights=perceptual_weights, workers=workers, checkpoint_every=checkpoint_every
    )
    m = done.record.metrics
    typer.echo(f"{m['trainable_parameters']:,.0f} parameters trained for {settings.steps} steps")
    for name, unit in (("psnr_db", "dB"), ("hf_energy_ratio", ""), ("hf_share", "")):
        typer.echo(f"{name}: {m['before_' + name]:.5g} -> {m['after_' + name]:.5g} {unit}".rstrip())
    typer.echo(f"wrote {out}")


@command(
    experiments.Evaluation, arguments=("model",), without=("cuts",), flags={"lpips_weights": "--lpips"}, opens="model"
)
def evaluate(given: dict[str, Any], device: Device = "auto", out: Out = None) -> None:
    """Reconstruction and spectrum of an autoencoder: PSNR, SSIM, LPIPS, Fréchet distance, high-frequency measures,
    the cut curve."""
    if out is not None:
        check_writable(out)
    record = experiments.evaluate(settle(experiments.Evaluation, given, device=str(resolve_device(device))))
    if out is not None:
        record.write(out)
    typer.echo(f"{record.parameters['model']}, {record.data}")
    for name, value in record.metrics.items():
        typer.echo(f"{name}: {value:.5g}")
    for ratio, db in zip(record.series["cut_ratio"], record.series["cut_psnr_db"], strict=True):
        typer.echo(f"psnr_db with {ratio:.0%} of the latent's frequencies cut: {db:.2f}")
    if record.notes:
        typer.echo(record.notes)
