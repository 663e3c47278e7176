"""``diffusab train-autoencoder``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from diffusab_book.cli.options import Device, Workers, command, settle
from diffusab_core.data.places import CLIPS
from diffusab_core.experiments import pretraining
from diffusab_core.training.world import resolve_device


@command(
    pretraining.Pretraining,
    name="train-autoencoder",
    without=CLIPS,
    interrupted="the same command goes on from the last checkpoint in {out}",
)
def train_autoencoder(
    given: dict[str, Any],
    out: Annotated[Path, typer.Option(help="Folder for the result; the same command resumes what was cut off there.")],
    device: Device = "auto",
    workers: Workers = 0,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 500,
) -> None:
    """Train a small autoencoder from random weights; the result is a normal diffusers folder."""
    settings = settle(pretraining.Pretraining, given, device=str(resolve_device(device)))
    done = pretraining.train_autoencoder(settings, out, workers=workers, checkpoint_every=checkpoint_every)
    m = done.record.metrics
    typer.echo(f"{m['parameters']:,.0f} parameters trained for {settings.steps} steps")
    for split in ("train", "held_out"):
        ratio = m[f"{split}_latent_high_frequency_energy_ratio"]
        typer.echo(f"{split.replace('_', ' ')}: {m[f'{split}_psnr_db']:.2f} dB, hf_energy_ratio {ratio:.5g}")
    typer.echo(f"wrote {out}")
