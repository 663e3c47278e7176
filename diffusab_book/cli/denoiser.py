"""``diffusab train`` and ``diffusab sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from diffusab_book.cli.app import app, fail


@app.command()
def train(
    latents: Annotated[
        str,
        typer.Argument(
            metavar="LATENTS",
            help="A cache that `diffusab extract` wrote; or, with --images, an autoencoder that encodes on the fly.",
        ),
    ],
    out: Annotated[
        Path, typer.Argument(help="Folder for the result; the same command resumes what was cut off there.")
    ],
    denoiser: Annotated[
        str,
        typer.Option(
            help="DiT-SIZE/PATCH with sizes XXS, XS (small ones for a CPU), S, B, L, XL; or UViT-SIZE/PATCH (predicts "
            "the noise) or USiT-SIZE/PATCH with sizes XXS, S, M, L, H, 2B; patches 1, 2, 4."
        ),
    ] = "DiT-S/2",
    steps: Annotated[int, typer.Option(help="Optimiser steps; the paper's runs have 400 000.")] = 10_000,
    batch_size: Annotated[int, typer.Option(help="Latents in a step, over all processes.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="AdamW's peak, after the warm-up.")] = 3e-4,
    final_learning_rate: Annotated[float, typer.Option(help="Where the cosine ends.")] = 1e-5,
    warmup: Annotated[
        int | None, typer.Option(help="Steps of warm-up. [default: 10 000, at most 5% of --steps]")
    ] = None,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient.")] = 16.0,
    ema_half_life: Annotated[
        float | None, typer.Option(help="Of the averaged weights, in steps. [default: 5 000, at most 5% of --steps]")
    ] = None,
    time_location: Annotated[
        float, typer.Option(help="Location of the logit-normal times; positive: more noise. Not for UViT.")
    ] = 0.0,
    time_scale: Annotated[float, typer.Option(help="Scale of the logit-normal times; not for UViT.")] = 1.0,
    self_conditioning: Annotated[
        float | None,
        typer.Option(
            help="Probability of the auxiliary pass; 0 turns it off. [default: 0.9 for DiT, others have none]"
        ),
    ] = None,
    label_dropout: Annotated[float, typer.Option(help="Share of labels dropped, for guidance.")] = 0.1,
    flips: Annotated[bool, typer.Option(help="Mirror half of the images (the cache must have been made so).")] = False,
    precision: Annotated[str, typer.Option(help="fp32, or bf16 autocast.")] = "fp32",
    accumulation: Annotated[int, typer.Option(help="Parts of a batch, one after the other: less memory.")] = 1,
    checkpoint_activations: Annotated[bool, typer.Option(help="Less memory, a third more computing.")] = False,
    compile: Annotated[bool, typer.Option(help="Compile the denoiser's blocks.")] = False,
    images: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Encode these on the fly: see `diffusab profile --images`.")
    ] = None,
    resolution: Annotated[int, typer.Option(help="With --images: side of the square images in pixels.")] = 256,
    labels: Annotated[bool, typer.Option(help="With --images: whether to condition on their classes.")] = False,
    curriculum: Annotated[
        str | None,
        typer.Option(help="freqwarm: latents of low-passed images first. A cache gets a second one beside it."),
    ] = None,
    r0: Annotated[
        float | None, typer.Option(help="With --curriculum: cutoff in cycles per pixel. [default: 0.2]")
    ] = None,
    warmup_steps: Annotated[
        int | None, typer.Option(help="With --curriculum: its steps, part of --steps. [default: a quarter of them]")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="With --curriculum: hard switch; linear or cosine widening (with --images only). [default: hard]"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and noise.")] = 0,
) -> None:
    """Train a denoiser on latents, by rectified flow or noise prediction; on many GPUs under torchrun.

    On 8 GPUs: torchrun --nproc-per-node 8 -m diffusab_book train CACHE OUT ...
    """
    from diffusab_core import autoencoders, experiments
    from diffusab_core.data.open import open_images
    from diffusab_core.latents.cache import open_cache
    from diffusab_core.latents.encoded import EncodedLatents
    from diffusab_core.latents.identity import images_identity
    from diffusab_core.methods.denoising import Denoising
    from diffusab_core.methods.freqwarm import warmed
    from diffusab_core.training import TrainingDiverged
    from diffusab_core.training import world as distributed

    try:
        with distributed.world(device) as world:
            settings = Denoising(
                denoiser=denoiser, steps=steps, batch_size=batch_size, seed=seed, learning_rate=learning_rate,
                final_learning_rate=final_learning_rate, warmup=warmup, clip=clip, ema_half_life=ema_half_life,
                time_location=time_location, time_scale=time_scale, self_conditioning=self_conditioning,
                label_dropout=label_dropout, flips=flips, accumulation=accumulation, precision=precision,
                checkpoint_activations=checkpoint_activations, compile=compile, device=str(world.device),
            )  # fmt: skip
            plan = _curriculum(curriculum, r0, warmup_steps, schedule, steps)
            if images is None:
                found: Any = open_cache(latents)
            else:
                made = {"length": steps * batch_size} if images in ("photos", "leaves") else {}
                if images == "photos":
                    made["split"] = "train"
                dataset = open_images(images, resolution, crop="random", seed=seed, labels=labels, world=world, **made)
                # By what it was opened as: whoever samples has to open it again.
                about = images_identity(dataset) | {"autoencoder": latents}
                found = EncodedLatents(
                    autoencoders.load(latents, world.device), dataset, precision=precision, identity=about
                )
            if plan is not None:
                found = warmed(found, plan, device=str(world.device), world=world)
            done = experiments.train_denoiser(settings, found, out, world=world, checkpoint_every=checkpoint_every)
            if world.is_main:
                m, loss = done.record.metrics, done.record.series["loss"]
                typer.echo(f"{settings.denoiser}, {m['parameters']:,.0f} parameters, {settings.steps} steps in "
                           f"{m['training_time_s']:.0f} s; loss {loss[0]:.4g} -> {loss[-1]:.4g}")  # fmt: skip
                typer.echo(f"wrote {out}; look at samples with `diffusab sample {out} FOLDER`")
    except (ValueError, OSError, TrainingDiverged) as error:
        raise fail(" ".join(str(error).split())) from error
    except KeyboardInterrupt:
        fail(f"interrupted; the same command goes on from the last checkpoint in {out}")
        raise typer.Exit(130) from None


def _curriculum(name: str | None, r0: float | None, warmup_steps: int | None, schedule: str | None, steps: int) -> Any:
    """The curriculum that was asked for, or ``None``."""
    from diffusab_core.methods.freqwarm import FreqWarm

    if name is None:
        # An option without its curriculum would be a run that is not what its command says.
        for option, value in (("--r0", r0), ("--warmup-steps", warmup_steps), ("--schedule", schedule)):
            if value is not None:
                raise ValueError(f"{option} {value} is of a curriculum: add --curriculum freqwarm")
        return None
    if name != "freqwarm":
        raise ValueError(f"no curriculum {name!r}, there is freqwarm")
    warm = steps // 4 if warmup_steps is None else warmup_steps
    if warm > steps:
        raise ValueError(f"--warmup-steps {warm} are part of --steps {steps}, of which there are fewer")
    return FreqWarm(warm, 0.2 if r0 is None else r0, schedule or "hard")


@app.command()
def sample(
    denoiser: Annotated[Path, typer.Argument(help="Folder that `diffusab train` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for images/*.png, grid.png and samples.json.")],
    autoencoder: Annotated[
        str | None, typer.Option(help="The autoencoder of its latents. [default: what the denoiser names]")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many.")] = 64,
    steps: Annotated[int, typer.Option(help="Steps of the sampler; the paper's numbers have 256.")] = 256,
    method: Annotated[
        str | None,
        typer.Option(
            help="euler, or heun (two passes a step); for UViT dpm++ or ddim. [default: euler, for UViT dpm++]"
        ),
    ] = None,
    shift: Annotated[float, typer.Option(help="Time shift: above 1, more steps near noise; not for UViT.")] = 1.0,
    guidance: Annotated[float, typer.Option(help="Scale of classifier-free guidance; 1 is none.")] = 1.0,
    guidance_interval: Annotated[
        tuple[float, float], typer.Option(help="First and last time at which to guide; 0 is data, 1 noise.")
    ] = (0.0, 1.0),
    label: Annotated[
        str | None, typer.Option(help="Class of all samples, by name or number. [default: all classes in turn]")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Samples at a time.")] = 64,
    precision: Annotated[str, typer.Option(help="fp32, or bf16 autocast.")] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
) -> None:
    """Draw images from a denoiser: a PNG each, one grid to look at, and what they are in samples.json.

    The same command goes on where an earlier one was cut off; torchrun shares the samples among its processes.
    """
    from tqdm import tqdm

    from diffusab_core import autoencoders, experiments
    from diffusab_core.denoisers import DenoiserError, prediction_of
    from diffusab_core.experiments.samples import claim_folder
    from diffusab_core.methods import denoising
    from diffusab_core.training import world as distributed

    try:
        with distributed.world(device) as world:
            model = experiments.open_denoiser(denoiser, world.device)
            name = autoencoder or model.latents.get("autoencoder")
            if name is None:
                raise DenoiserError(f"{denoiser} does not say which autoencoder its latents are of: name --autoencoder")
            decoder = autoencoders.load(name, world.device)
            experiments.check_autoencoder(model, decoder)
            sampling = denoising.Sampling(
                samples=samples, steps=steps, method=method, shift=shift, guidance=guidance,
                guidance_interval=guidance_interval, labels=_class(label, model.class_names), batch_size=batch_size,
                seed=seed, precision=precision,
            )  # fmt: skip
            about = denoising.describe_sampling(sampling, model.num_classes, prediction_of(model.model)) | {
                "model": str(denoiser), "autoencoder": name, "denoiser_digest": experiments.digest_of(model),
            }  # fmt: skip
            pictures = claim_folder(out, about, world)

            def there(places: range) -> bool:
                return all((pictures / f"{place:06d}.png").is_file() for place in places)

            drawn = experiments.generate(model, decoder, sampling, world=world, skip=there)
            count = -(-samples // batch_size) * batch_size // world.size
            with tqdm(total=min(samples, count), unit="image", disable=not world.is_main) as bar:
                for places, images, _ in drawn:
                    _write_pictures(pictures, places, images)
                    bar.update(len(places))
            distributed.barrier(world)
            if world.is_main:
                _write_grid(pictures, out / "grid.png", min(samples, 64))
                typer.echo(f"wrote {samples} images to {pictures} and {out / 'grid.png'}")
    except (ValueError, OSError) as error:
        raise fail(" ".join(str(error).split())) from error
    except KeyboardInterrupt:
        fail(f"interrupted; the same command draws what is missing in {out}")
        raise typer.Exit(130) from None


def _class(label: str | None, names: tuple[str, ...]) -> int | None:
    """A class's number from its name or number."""
    if label is None or label in names:
        return None if label is None else names.index(label)
    if label.lstrip("-").isdigit():
        return int(label)  # whether there is such a class, sampling checks
    raise ValueError(f"no class {label!r}: this denoiser has {', '.join(names[:20]) or 'no classes'}")


def _write_pictures(folder: Path, places: range, images: Any) -> None:
    from PIL import Image

    from diffusab_book.figures import to_uint8

    if images.ndim != 4:
        raise ValueError(f"samples of shape {tuple(images.shape)} are no images; clips are not written yet")
    for place, image in zip(places, images, strict=True):
        # Whole files under their final names only: a picture that is there is not drawn again.
        partial = folder / f".{place:06d}.png.tmp"
        Image.fromarray(to_uint8(image)).save(partial, format="PNG")
        partial.replace(folder / f"{place:06d}.png")


def _write_grid(folder: Path, file: Path, count: int, columns: int = 8) -> None:
    from PIL import Image

    pictures = [Image.open(folder / f"{place:06d}.png") for place in range(count)]
    width, height = pictures[0].size
    rows = -(-count // columns)
    grid = Image.new("RGB", (min(count, columns) * (width + 2) - 2, rows * (height + 2) - 2), "white")
    for i, picture in enumerate(pictures):
        grid.paste(picture, (i % columns * (width + 2), i // columns * (height + 2)))
    grid.save(file)
