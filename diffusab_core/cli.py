"""``diffusab``: the package from a shell. A thin face: each command parses, calls one function, and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

app = typer.Typer(
    help="Diffusability: how easily a diffusion model can learn an autoencoder's latents, and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def fail(error: BaseException | str) -> typer.Exit:
    """One clear line on standard error, and a non-zero exit status."""
    typer.secho(f"diffusab: {error}", fg="red", err=True)
    return typer.Exit(1)


@app.callback()
def main() -> None:
    """Diffusability: how easily a diffusion model can learn an autoencoder's latents, and why."""


@app.command()
def models() -> None:
    """List the autoencoders that come with the package."""
    from diffusab_core import autoencoders

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


@app.command(cls=TakesPairs)
def run(
    chapter: Annotated[str, typer.Argument(help="A chapter's number or name, e.g. 02 or 02_dct.")],
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME VALUE", help="A parameter of the chapter; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; the chapter's own default when left out.")] = None,
    size: Annotated[str, typer.Option(help="smoke, laptop, gpu or paper: a file of the chapter's presets.")] = "laptop",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the notebook and its record. [default: runs/CHAPTER-SIZE-...]")
    ] = None,
) -> None:
    """Run a chapter from the shell and keep its executed notebook and its run record."""
    from diffusab_core import notebooks

    try:
        path = notebooks.find(chapter)
        values: dict[str, Any] = notebooks.preset(path, size)
        declared = notebooks.parameters(notebooks.load(path))
        for pair in parameter or []:
            name, _, text = pair.partition("=")
            values[name] = notebooks.parse(declared, name, text)
        if seed is not None:
            values["seed"] = seed
        folder = out or Path("runs") / notebooks.run_name(path, values)
        record = notebooks.run(path, values, folder)
    except (notebooks.ParameterError, notebooks.ChapterFailed, FileNotFoundError, OSError) as error:
        raise fail(error) from error
    except KeyboardInterrupt:
        raise fail(f"interrupted; what had run is in {out or 'runs'}") from None
    typer.echo(f"{folder / path.stem}.ipynb and record.json ({record.identity}) in {record.wall_time_s:.0f} s")
