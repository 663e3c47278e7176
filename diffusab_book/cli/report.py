"""``diffusab profile`` and ``diffusab report``."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from diffusab_book import report as reports
from diffusab_book.cli.options import Device, command, fail, settle
from diffusab_book.report import stages
from diffusab_core.files import count_threads

Own = Annotated[
    list[str] | None,
    typer.Option(
        "--model", metavar="FILE.py:FUNCTION", help="A function that returns an autoencoder; may be repeated."
    ),
]


@command(reports.Options, arguments=("models",), opens="models")
def profile(
    given: dict[str, Any],
    factory: Own = None,
    out: Annotated[Path, typer.Option(help="Folder for profile.html, profile.png and profile.json.")] = Path("profile"),
    device: Device = "auto",
) -> None:
    """Profile the frequencies of autoencoders' latents, beside RGB at the same size, as PNG, JSON and a web page.

    PLACE is a folder of images; tar shards, zip archives, Arrow or Parquet files, or arrays of images (.npz, .npy),
    one, or a quoted pattern such as 'train-{0000..0009}.tar'; a folder of save_to_disk; owner/name of a dataset on the
    Hugging Face hub; leaves; or photos, the built-in held-out photographs. With --frames it is films: a folder of files
    of video and folders of frames, or such files. What cannot be used is left out and named.
    """
    _make(given, factory, out, device)


@command(
    reports.Options,
    arguments=("models",),
    without=("latents", "latents_key", "statistic", "posterior"),
    defaults={"samples": 64},
    opens="models",
)
def report(
    given: dict[str, Any],
    factory: Own = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path("report"),
    device: Device = "auto",
) -> None:
    """Diagnose autoencoders (spectrum, cuts, noise, scale equivariance, decoder, encoder) as one offline web page.

    Parts that need a model many times see fewer images.
    """
    _make(given, factory, out, device, reports.Plan())


def _limit_threads() -> None:
    """As many threads as there are idle cores, unless OMP_NUM_THREADS says how many."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), count_threads()))


def _make(given: dict[str, Any], factory: list[str] | None, out: Path, device: str, *plan: reports.Plan) -> None:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # every retry would be a line of its own
    models = (*given.pop("models", ()), *(factory or ()))
    settings = settle(reports.Options, given, models=models, device=device)  # before figures are loaded
    _limit_threads()
    stage = stages.choose_stage() if plan else stages.silently  # a profile is a matter of seconds
    lines = reports.make(settings, out, *plan, stage=stage)
    try:
        typer.echo("\n".join(lines))
    except OSError as error:
        raise fail(f"cannot print the summary ({error.strerror}); what was measured is in {out}") from error
