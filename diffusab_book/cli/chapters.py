"""``diffusab run`` and ``diffusab models``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from diffusab_book import chapters, runs
from diffusab_book.cli.options import UsageError, command


@command()
def models() -> None:
    """List the autoencoders that come with the package."""
    from diffusab_core import autoencoders  # slow to import, and a run that is done already needs none

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


@command(cls=TakesPairs, interrupted="the same command goes on; the notebook of what had run is in the run's folder")
def run(
    notebook: Annotated[
        str | None, typer.Argument(help="A chapter's number or name, e.g. 02 or 02_dct, or a full run, e.g. denoiser.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME VALUE", help="A parameter of the notebook; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; the notebook's own default when left out.")] = None,
    size: Annotated[
        str, typer.Option(help="A file of the notebook's presets: smoke, laptop, gpu or paper.")
    ] = "laptop",
    root: Annotated[Path, typer.Option(help="The store: the run is in ROOT/NOTEBOOK/IDENTITY.")] = runs.ROOT,
    force: Annotated[
        bool, typer.Option("--force", help="Do it again from the start, though it is done or begun.")
    ] = False,
    nproc: Annotated[
        int | None, typer.Option(min=1, help="Let torchrun train with as many processes on each machine, one a GPU.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which run that is, and whether it is done.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Only list the notebooks there are.")] = False,
) -> None:
    """Run a chapter or a full run from the shell and keep its executed notebook and its run record.

    The same run asked for twice is done once, and one that was cut off goes on. Where it is computed, as in
    -p device cpu, is no part of what a run is.
    """
    if list_:
        for path in chapters.listed():
            typer.echo(f"{path.stem}: {chapters.title(path)}")
        return
    if notebook is None:
        raise UsageError("name a notebook; --list lists them")
    values = _typed(chapters.find(notebook), parameter or [])
    if seed is not None and values.get("seed", seed) != seed:
        raise UsageError(f"--seed is {seed} and parameter 'seed' is {values['seed']}: one of them must go")
    where = {name: values.pop(name) for name in ("device", "workers") if name in values}
    spec = runs.RunSpec.resolve(notebook, size, seed, values)
    folder = spec.folder(root)
    done = None if force else runs.finished(folder)
    if dry_run:
        state = "done" if done else "begun" if (folder / "run.json").is_file() else "not begun"
        typer.echo(f"{spec.identity}: {folder}, {state}")
        for reference in spec.needs:
            runs.place(reference, folder)
        return
    record = done or runs.execute(spec, root, force=force, where=where, nproc=nproc)
    if done:
        when = f"{done.started:%d %B %Y at %H:%M} UTC" + _if_changed(spec, folder)
        typer.echo(f"{folder} was done on {when}; --force does it again")
    else:
        typer.echo(f"{folder / spec.notebook}.ipynb and record.json ({record.identity}) in {record.wall_time_s:.0f} s")


def _typed(path: Path, pairs: list[str]) -> dict[str, Any]:
    declared = chapters.parameters(path)
    split = (pair.partition("=") for pair in pairs)
    return {name: chapters.parse(declared, name, text) for name, _, text in split}


def _if_changed(spec: runs.RunSpec, folder: Path) -> str:
    return ", by an earlier text of the notebook" if runs.source_changed(spec, folder) else ""
