"""``diffusab evaluate-samples``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from diffusab_book.cli.options import Device, Out, UsageError, Workers, check_writable, command, settle
from diffusab_core.data.places import CLIPS
from diffusab_core.experiments.doctor import Diagnosis, diagnose
from diffusab_core.experiments.samples import SampleEvaluation, evaluate_sample_folder
from diffusab_core.training import world as worlds


@command(
    SampleEvaluation,
    name="evaluate-samples",
    arguments=("samples", "reference"),
    opens="decoded_by",
    flags={"count": "--samples", "reference_count": "--reference-samples"},
    interrupted="nothing was written but a finished --cache",
)
def evaluate_samples(
    given: dict[str, Any],
    device: Device = "auto",
    workers: Workers = 0,
    cache: Annotated[
        Path | None, typer.Option(help="File (.safetensors) for the reference's statistics: read, or written once.")
    ] = None,
    samples_statistics: Annotated[
        Path | None, typer.Option(help="File (.npz) to write mu and sigma of the samples to, as pytorch-fid has them.")
    ] = None,
    reference_statistics: Annotated[Path | None, typer.Option(help="The same of the reference.")] = None,
    out: Out = None,
) -> None:
    """Fréchet distance, precision, recall and Inception Score of samples; torchrun shares them among its processes."""
    for file in filter(None, (out, cache, samples_statistics, reference_statistics)):
        check_writable(file)
    for name, file in (("samples", samples_statistics), ("reference", reference_statistics)):
        if file is not None and file.suffix != ".npz":
            raise UsageError(f"--{name}-statistics names a file that ends with .npz, got {file}")
    if cache is not None and cache.suffix != ".safetensors":
        raise UsageError(f"--cache names a file that ends with .safetensors, got {cache}")
    with worlds.world(device) as world:
        settings = settle(SampleEvaluation, given, device=str(world.device))
        record = evaluate_sample_folder(
            settings, cache=cache, samples_statistics=samples_statistics, reference_statistics=reference_statistics,
            world=world, workers=workers,
        )  # fmt: skip
        if world.is_main:
            if out is not None:
                record.write(out)
            typer.echo(record.data)
            width = max(map(len, record.metrics))
            for name, value in record.metrics.items():
                typer.echo(f"{name:<{width}}  {value:.5g}")
            typer.echo(record.notes)


@command(Diagnosis, arguments=("samples", "reference"), without=CLIPS)
def doctor(given: dict[str, Any]) -> None:
    """Why is my FID not the paper's? Go through the known causes, and say which of them can be seen in these files.

    Nothing is computed that needs a network. See "Why is my FID not the paper's?" in the book.
    """
    marks = {"ok": "ok  ", "look": "LOOK", "unknown": "  ? "}
    for finding in diagnose(settle(Diagnosis, given)):
        typer.echo(f"{marks[finding.verdict]}  {finding.cause}: {finding.said}")
