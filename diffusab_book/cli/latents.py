"""``diffusab extract``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from diffusab_book.cli.options import Device, Workers, command, settle
from diffusab_core.latents import extraction
from diffusab_core.training import world as worlds


@command(
    extraction.Extraction,
    arguments=("model",),
    opens="model",
    interrupted="the same command goes on after the last whole shard in {out}",
)
def extract(
    given: dict[str, Any],
    out: Annotated[Path, typer.Argument(help="Folder of the cache; the same command resumes what was cut off.")],
    batch_size: Annotated[int, typer.Option(help="Images encoded at a time.")] = 16,
    device: Device = "auto",
    workers: Workers = 0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the whole cache again and compare all checksums.")
    ] = False,
) -> None:
    """Encode images or clips once, into a cache that a denoiser is trained on; torchrun shares the shards."""
    with worlds.world(device) as world:
        settings = settle(extraction.Extraction, given, device=str(world.device))
        cache = extraction.extract(settings, out, batch_size=batch_size, workers=workers, world=world)
        if not world.is_main:
            return
        if verify:
            cache.verify()
    kind = "images" if settings.frames is None else "clips"
    if cache.skipped_count:
        # A hidden folder is no news; a broken image is.
        name, reason = min(cache.skipped, key=lambda skip: skip[1].startswith("a hidden"))
        typer.echo(f"left out {cache.skipped_count}, such as {name}: {reason}")
    if settings.samples is not None and len(cache) < settings.samples:
        typer.echo(f"{settings.samples} {kind} were asked for, {len(cache)} are there")
    for said in cache.constants:
        typer.echo(f"{said}: these latents can be looked at, not trained on")
    shape, classes = " x ".join(map(str, cache.shape)), cache.num_classes
    labels = f"{classes} classes" if classes else "no labels"
    typer.echo(f"{len(cache)} latents of {shape}, {labels}, {cache.nbytes / 1e6:.1f} MB in {out}")
    rate = f"{cache.encoded} {kind} encoded, {cache.encoded / cache.seconds:.1f} {kind}/s" if cache.encoded else ""
    typer.echo((rate or "nothing had to be encoded") + (", all checksums right" if verify else ""))
