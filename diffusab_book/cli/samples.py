"""``diffusab evaluate-samples``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusab_book.cli.app import app, fail


@app.command("evaluate-samples")
def evaluate_samples(
    samples: Annotated[
        str,
        typer.Argument(
            metavar="SAMPLES",
            help="Folder that `diffusab sample` wrote, any folder of images, or as `diffusab profile --images`.",
        ),
    ],
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE", help="Real images, as `diffusab profile --images`; or a file that --cache wrote."
        ),
    ],
    features: Annotated[
        str,
        typer.Option(help="Feature network: offline (this project's own small one, not Inception), inception, dinov2."),
    ] = "offline",
    features_weights: Annotated[
        Path | None, typer.Option(help="Inception's or DINOv2's weights. [default: the caches of torch and the hub]")
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(
            help="Side in pixels to which samples are cropped and resized. [default: as the first sample is, and a "
            "sample of another size is an error; the reference is cropped and resized to it]"
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--samples", help="How many samples, at most, a random choice. [default: all]")
    ] = None,
    reference_count: Annotated[
        int | None,
        typer.Option(
            "--reference-samples", help="How many reference images, at most. [default: all; photos, leaves: as samples]"
        ),
    ] = None,
    few: Annotated[bool, typer.Option("--few", help="Allow no more images than the network has features.")] = False,
    precision_recall: Annotated[
        int, typer.Option(help="Precision and recall over so many samples, at most; 0 leaves them out.")
    ] = 10_000,
    k: Annotated[int, typer.Option(help="Neighbour that sets the radius in precision and recall.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 64,
    workers: Annotated[int, typer.Option(help="Processes that read images ahead.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of random choices, and of photos and leaves.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="File (.safetensors) for the reference's statistics: read, or written once.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for the run record, JSON.")] = None,
) -> None:
    """Fréchet distance, precision, recall and Inception Score of samples; torchrun shares them among its processes."""
    from diffusab_core.experiments import samples as judged
    from diffusab_core.training import world as distributed

    try:
        for file in filter(None, (out, cache)):
            _check_writable(file)
        if cache is not None and cache.suffix != ".safetensors":
            raise ValueError(f"--cache names a file that ends with .safetensors, got {cache}")
        with distributed.world(device) as world:
            settings = judged.SampleEvaluation(
                samples=samples, reference=reference, features=features,
                features_weights=None if features_weights is None else str(features_weights), resolution=resolution,
                count=count, reference_count=reference_count, few=few, precision_recall=precision_recall, k=k,
                device=str(world.device), batch_size=batch_size, seed=seed,
            )  # fmt: skip
            record = judged.evaluate_sample_folder(settings, cache=cache, world=world, workers=workers)
            if world.is_main:
                if out is not None:
                    record.write(out)
                typer.echo(record.data)
                width = max(map(len, record.metrics))
                for name, value in record.metrics.items():
                    typer.echo(f"{name:<{width}}  {value:.5g}")
                typer.echo(record.notes)
    except (ValueError, OSError) as error:
        raise fail(" ".join(str(error).split())) from error
    except KeyboardInterrupt:
        fail("interrupted; nothing was written but a finished --cache")
        raise typer.Exit(130) from None


def _check_writable(file: Path) -> None:
    """Refuse before anything is computed what could not be written after."""
    import tempfile

    if file.is_dir():
        raise ValueError(f"{file} is a folder, name a file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise ValueError(f"cannot write {file}: {error.strerror or error}") from error
