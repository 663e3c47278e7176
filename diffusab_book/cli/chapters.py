"""``diffusab run`` and ``diffusab models``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import jupytext
import typer
from typer.core import TyperCommand

from diffusab_book import chapters
from diffusab_book.cli.options import command
from diffusab_core import autoencoders


@command()
def models() -> None:
    """List the autoencoders that come with the package."""
    for name in autoencoders.SHIPPED:
        model = autoencoders.load(name)
        count = sum(p.numel() for p in model.parameters())
        typer.echo(f"{name}: {model.compression}x compression, {model.latent_channels} channels, {count:,} parameters")


class TakesPairs(TyperCommand):
    """Reads ``-p NAME VALUE`` as papermill does, besides ``-p NAME=VALUE``; Typer has no repeated pairs of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined, rest = [], iter(args)
        for word in rest:
            joined.append(word)
            if word in ("-p", "--parameter"):
                name = next(rest, None)
                value = next(rest, None) if name is not None and "=" not in name else None
                joined += [name if value is None else f"{name}={value}"] if name is not None else []
        return super().parse_args(ctx, joined)


@command(cls=TakesPairs, interrupted="the notebook of what had run is in its folder")
def run(
    chapter: Annotated[str, typer.Argument(help="A chapter's number or name, e.g. 02 or 02_dct.")],
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME VALUE", help="A parameter of the chapter; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; the chapter's own default when left out.")] = None,
    size: Annotated[str, typer.Option(help="A file of the chapter's presets: smoke or laptop.")] = "laptop",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the notebook and its record. [default: runs/CHAPTER-SIZE-...]")
    ] = None,
) -> None:
    """Run a chapter from the shell and keep its executed notebook and its run record."""
    path = chapters.find(chapter)
    values: dict[str, Any] = chapters.preset(path, size)
    declared = chapters.parameters(jupytext.read(path))
    for pair in parameter or []:
        name, _, text = pair.partition("=")
        values[name] = chapters.parse(declared, name, text)
    if seed is not None:
        values["seed"] = seed
    folder = out or Path("runs") / chapters.run_name(path, values)
    record = chapters.run(path, values, folder)
    typer.echo(f"{folder / path.stem}.ipynb and record.json ({record.identity}) in {record.wall_time_s:.0f} s")
