"""``diffusab extract``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusab_book.cli.app import app, fail


@app.command()
def extract(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Shipped name, diffusers folder, or hub id (owner/name:subfolder).")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder of the cache; the same command resumes what was cut off.")
    ],
    images: Annotated[
        str, typer.Option(metavar="PLACE", help="What to encode: see `diffusab profile --images`; photos or leaves.")
    ] = "photos",
    samples: Annotated[
        int | None, typer.Option(help="How many images, at most; photos and leaves need it. [default: all]")
    ] = None,
    resolution: Annotated[int, typer.Option(help="Side of the square images in pixels.")] = 256,
    crop: Annotated[str, typer.Option(help="center or random, one for each image.")] = "center",
    flips: Annotated[bool, typer.Option("--flips/--no-flips", help="Also encode the mirrored images.")] = False,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Also store the images' classes.")] = False,
    dtype: Annotated[str, typer.Option(help="What latents are stored as: float16, bfloat16 or float32.")] = "float16",
    precision: Annotated[str, typer.Option(help="Of encoding: fp32, or bf16 autocast.")] = "fp32",
    batch_size: Annotated[int, typer.Option(help="Images encoded at a time.")] = 16,
    shard_size: Annotated[int, typer.Option(help="Latents in a file.")] = 1024,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that read images ahead.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images, of crops, of photos and leaves.")] = 0,
    low_pass: Annotated[
        float | None,
        typer.Option(help="Remove the images' frequencies beyond this radius in cycles per pixel before encoding."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the whole cache again and compare all checksums.")
    ] = False,
) -> None:
    """Encode images once, into a cache of latents that a denoiser is trained on."""
    from diffusab_book.report.options import resolve_device
    from diffusab_core.latents import extraction

    try:
        settings = extraction.Extraction(
            model=model, images=images, resolution=resolution, crop=crop, samples=samples, flips=flips, labels=labels,
            seed=seed, device=str(resolve_device(device)), precision=precision, dtype=dtype, shard_size=shard_size,
            low_pass=low_pass,
        )  # fmt: skip
        cache = extraction.extract(settings, out, batch_size=batch_size, workers=workers)
        if verify:
            cache.verify()
    except (ValueError, OSError) as error:
        raise fail(" ".join(str(error).split())) from error
    except KeyboardInterrupt:
        fail(f"interrupted; the same command goes on after the last whole shard in {out}")
        raise typer.Exit(130) from None
    if cache.skipped_count:
        name, reason = cache.skipped[0]
        typer.echo(f"skipped {cache.skipped_count} files; the first is {name}: {reason}")
    if samples is not None and len(cache) < samples:
        typer.echo(f"{samples} images were asked for, {len(cache)} are there")
    shape = " x ".join(map(str, cache.shape))
    typer.echo(f"{len(cache)} latents of {shape}, {_classes(cache.num_classes)}, {cache.nbytes / 1e6:.1f} MB in {out}")
    rate = f"{cache.encoded} images encoded, {cache.encoded / cache.seconds:.1f} images/s" if cache.encoded else ""
    typer.echo((rate or "nothing had to be encoded") + (", all checksums right" if verify else ""))


def _classes(count: int) -> str:
    return f"{count} classes" if count else "no labels"
