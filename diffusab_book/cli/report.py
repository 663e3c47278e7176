"""``diffusab report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusab_book.cli.app import app, fail


@app.command("report")
def diagnose(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Shipped name, diffusers folder, or hub id (owner/name:subfolder)."),
    ] = None,
    factory: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="FILE.py:FUNCTION",
            help="A function that returns an autoencoder with encode and decode; may be repeated.",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="As `diffusab profile --images`: a folder of images, shards, a table, leaves; photos, the built-in "
            "held-out photographs, when left out.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path("report"),
    samples: Annotated[
        int, typer.Option(help="How many images, at most; parts that need a model many times see fewer.")
    ] = 64,
    resolution: Annotated[int, typer.Option(help="Side of the square images in pixels.")] = 256,
    crop: Annotated[
        str | None, typer.Option(help="center or random; when left out, center. Built-in photographs: random.")
    ] = None,
    block_size: Annotated[int, typer.Option(help="Side of a DCT block in latent pixels.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Precision of the models: float32, float16 or bfloat16.")] = "float32",
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images, of crops and of noise.")] = 0,
) -> None:
    """Diagnose autoencoders (spectrum, cuts, noise, scale equivariance, decoder, encoder) as one offline web page."""
    try:
        import logging

        from diffusab_book import report

        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # every retry would be a line of its own
        options = report.Options(
            models=(*(models or ()), *(factory or ())), images=images, samples=samples, resolution=resolution,
            crop=crop, block_size=block_size, device=device, dtype=dtype, batch_size=batch_size, seed=seed,
        )  # fmt: skip
        lines = report.make(options, out, report.Plan())
        try:
            typer.echo("\n".join(lines))
        except OSError as error:
            raise fail(f"cannot print the summary ({error.strerror}); the report itself is in {out}") from error
    except (ValueError, OSError) as error:
        raise fail(" ".join(str(error).split())) from error
    except KeyboardInterrupt:
        fail("interrupted; nothing was written")
        raise typer.Exit(130) from None
