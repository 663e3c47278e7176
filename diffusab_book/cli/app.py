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
    size: Annotated[
        str, typer.Option(help="A file of the chapter's presets: smoke, laptop; gpu or paper where it has them.")
    ] = "laptop",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the notebook and its record. [default: runs/CHAPTER-SIZE-...]")
    ] = None,
) -> None:
    """Run a chapter from the shell and keep its executed notebook and its run record."""
    from diffusab_book import chapters as notebooks

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


@app.command()
def profile(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Shipped name, diffusers folder, or hub id (owner/name:subfolder)."),
    ] = None,
    factory: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="FILE.py:FUNCTION", help="A function that returns an autoencoder; may be repeated."
        ),
    ] = None,
    latents: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE.safetensors", help="Latents (N, C, h, w) or (N, C, T, h, w); may be repeated."),
    ] = None,
    latents_key: Annotated[str | None, typer.Option(help="Which tensor of those files.")] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Folder of images; tar shards, Arrow or Parquet files (one, or a quoted pattern such as "
            "'train-{0000..0009}.tar'); a folder of save_to_disk; owner/name of a dataset on the Hugging Face hub; "
            "leaves; or photos, the built-in held-out photographs, as when left out.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for profile.html, profile.png and profile.json.")] = Path("profile"),
    samples: Annotated[int, typer.Option(help="How many images, at most.")] = 256,
    resolution: Annotated[int, typer.Option(help="Side of the square images in pixels.")] = 256,
    crop: Annotated[
        str | None, typer.Option(help="center or random; when left out, center. Built-in photographs: random.")
    ] = None,
    block_size: Annotated[int, typer.Option(help="Side of a DCT block in latent pixels.")] = 8,
    statistic: Annotated[
        str, typer.Option(help="What is drawn: mean_ratio, median_ratio, ratio_of_means or energy.")
    ] = "ratio_of_means",
    posterior: Annotated[str, typer.Option(help="Which latent of an image: mean or sample.")] = "mean",
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Precision of the models: float32, float16 or bfloat16.")] = "float32",
    batch_size: Annotated[int, typer.Option(help="Images encoded at a time.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images, crops and posterior samples.")] = 0,
) -> None:
    """Profile the frequencies of autoencoders' latents, beside RGB at the same size, as PNG, JSON and a web page."""
    try:
        import logging

        from diffusab_book import report

        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # every retry would be a line of its own
        options = report.Options(
            (*(models or ()), *(factory or ())), tuple(latents or ()), latents_key, images, samples, resolution, crop,
            block_size, statistic, posterior, device, dtype, batch_size, seed,
        )  # fmt: skip
        lines = report.make(options, out)
        try:
            typer.echo("\n".join(lines))
        except OSError as error:
            raise fail(f"cannot print the summary ({error.strerror}); the report itself is in {out}") from error
    except (ValueError, OSError) as error:
        raise fail(" ".join(str(error).split())) from error
    except KeyboardInterrupt:
        fail("interrupted; nothing was written")
        raise typer.Exit(130) from None
