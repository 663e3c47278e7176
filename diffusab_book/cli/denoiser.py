"""``diffusab train`` and ``diffusab sample``."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image
from torchvision.io import decode_image
from tqdm import tqdm

from diffusab_book.cli.options import Device, UsageError, check_writable, command, settle
from diffusab_core import autoencoders, experiments
from diffusab_core.autoencoders.names import split_options
from diffusab_core.data.open import open_images
from diffusab_core.data.pixels import parse_resolution, sides
from diffusab_core.data.places import WORDS, Choosing
from diffusab_core.data.video import write_clip
from diffusab_core.denoisers import DenoiserError, prediction_of
from diffusab_core.experiments.samples import CLIPS, PICTURES, claim_folder, pack_samples
from diffusab_core.files import DiffusabWarning, writing
from diffusab_core.latents.encoded import EncodedLatents
from diffusab_core.latents.identity import images_found, images_identity, weights_digest
from diffusab_core.latents.others import open_stored
from diffusab_core.methods import denoising
from diffusab_core.methods.freqwarm import FreqWarm, warmed
from diffusab_core.methods.reshaping import AS_ENCODED, parse_noise_spectrum
from diffusab_core.metrics.offline import FEATURES
from diffusab_core.metrics.samples import SamplesError
from diffusab_core.training import world as worlds

#: Of images that are drawn a step at a time, and therefore with a decimal.
_BAR = "{percentage:3.0f}%|{bar}| {n:.1f}/{total} {unit}s [{elapsed}<{remaining}]"


@command(denoising.Denoising, also=Choosing, without=("betas", "weight_decay", "reshaping"), opens="latents",
         interrupted="the same command goes on from the last checkpoint in {out}")  # fmt: skip
def train(
    given: dict[str, Any],
    chosen: dict[str, Any],
    latents: Annotated[
        str,
        typer.Argument(
            help="A cache that `diffusab extract` wrote, or another program's: see the documentation of "
            "diffusab_core.latents.others; or, with --images, an autoencoder."
        ),
    ],
    out: Annotated[
        Path, typer.Argument(help="Folder for the result; the same command resumes what was cut off there.")
    ],
    images: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Encode these on the fly: see `diffusab profile --images`.")
    ] = None,
    resolution: Annotated[int, typer.Option(help="With --images: side of the square images in pixels.")] = 256,
    labels: Annotated[bool, typer.Option(help="With --images: whether to condition on their classes.")] = False,
    curriculum: Annotated[
        str | None, typer.Option(help="freqwarm: low-passed images first; a cache gets a second one beside it.")
    ] = None,
    r0: Annotated[
        float | None, typer.Option(help="With --curriculum: cutoff in cycles per pixel. [default: 0.2]")
    ] = None,
    warmup_steps: Annotated[
        int | None, typer.Option(help="With --curriculum: its steps, part of --steps. [default: a quarter of them]")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="With --curriculum: hard switch; with --images also linear, cosine. [default: hard]"),
    ] = None,
    noise_spectrum: Annotated[
        str | None,
        typer.Option(
            metavar="A",
            help="Coloured noise: its energy at each frequency is the latents' own to the power 1 - A, and the loss is "
            "measured in its metric. 1 is white noise, 0 has the latents' spectrum; START:END moves over the first 60% "
            "of the steps, START:END:SHARE over another share; or a FILE.json of energies.",
        ),
    ] = None,
    device: Device = "auto",
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 1000,
) -> None:
    """Train a denoiser on latents, by rectified flow or noise prediction; on many GPUs under torchrun.

    On 8 GPUs: torchrun --nproc-per-node 8 -m diffusab_book train CACHE OUT ...
    """
    with worlds.world(device) as world:
        noise = AS_ENCODED if noise_spectrum is None else parse_noise_spectrum(noise_spectrum)
        settings = settle(denoising.Denoising, given, device=str(world.device), reshaping=noise)
        plan = _curriculum(curriculum, r0, warmup_steps, schedule, settings.steps)
        if images is None and chosen:
            raise UsageError(f"--{next(iter(chosen)).replace('_', '-')} is for images: add --images PLACE")
        if images is None:
            if latents != (cache := split_options(latents)[0]):
                raise UsageError(
                    f"{cache} is read as a cache of latents, which is not opened so; add --images to encode"
                )
            found: Any = open_stored(latents)
            if found.flips and not settings.flips and world.is_main:
                said = f"{latents} holds mirrored latents too, which --flips trains on"
                warnings.warn(said, DiffusabWarning, stacklevel=2)
        else:
            endless = {"length": settings.steps * settings.batch_size}
            made = (endless if images in WORDS else {"replace": True}) | chosen
            seed = settings.seed
            dataset = open_images(images, resolution, crop="random", seed=seed, labels=labels, world=world, **made)
            # By what it was opened as: whoever samples has to open it again.
            found_images = images_found(dataset, world) if images not in WORDS else None
            about = images_identity(dataset, found_images) | {"autoencoder": latents}
            model = autoencoders.load(latents, world.device, probe=resolution)
            found = EncodedLatents(model, dataset, precision=settings.precision, identity=about)
        if plan is not None:
            found = warmed(found, plan, device=str(world.device), world=world)
        done = experiments.train_denoiser(settings, found, out, world=world, checkpoint_every=checkpoint_every)
        if world.is_main:
            m, loss = done.record.metrics, done.record.series["loss"]
            typer.echo(f"{settings.denoiser}, {m['parameters']:,.0f} parameters, {settings.steps} steps in "
                       f"{m['training_time_s']:.0f} s; loss {loss[0]:.4g} -> {loss[-1]:.4g}")  # fmt: skip
            typer.echo(f"wrote {out}; look at samples with `diffusab sample {out} FOLDER`")


def _curriculum(name: str | None, r0: float | None, warmup_steps: int | None, schedule: str | None, steps: int) -> Any:
    """The curriculum that was asked for, or ``None``."""
    if name is None:
        # An option without its curriculum would be a run that is not what its command says.
        for option, value in (("--r0", r0), ("--warmup-steps", warmup_steps), ("--schedule", schedule)):
            if value is not None:
                raise UsageError(f"{option} {value} is of a curriculum: add --curriculum freqwarm")
        return None
    if name != "freqwarm":
        raise UsageError(f"no curriculum {name!r}, there is freqwarm")
    warm = steps // 4 if warmup_steps is None else warmup_steps
    if warm > steps:
        raise UsageError(f"--warmup-steps {warm} are part of --steps {steps}, of which there are fewer")
    return FreqWarm(warm, 0.2 if r0 is None else r0, schedule or "hard")


@command(
    denoising.Sampling,
    without=("labels",),
    opens="autoencoder",
    interrupted="the same command draws what is missing in {out}",
)
def sample(
    given: dict[str, Any],
    denoiser: Annotated[Path, typer.Argument(help="Folder that `diffusab train` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for images/*.png or clips/*.mp4, grid.png and samples.json.")],
    autoencoder: Annotated[
        str | None, typer.Option(help="The autoencoder of its latents. [default: what the denoiser names]")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Class of all samples, by name or number. [default: all classes in turn]")
    ] = None,
    npz: Annotated[
        Path | None, typer.Option(help="Also all images in one file (.npz, arr_0), as ADM's evaluation reads it.")
    ] = None,
    fps: Annotated[float, typer.Option(help="Of clips: frames a second.")] = 8.0,
    device: Device = "auto",
) -> None:
    """Draw images or clips from a denoiser, one grid to look at, and what they are in samples.json.

    Images are a PNG each in images/; clips an MP4 without a loss, and a strip of their frames as PNG, in clips/.

    The same command goes on where an earlier one was cut off; torchrun shares the samples among its processes.
    """
    if npz is not None and npz.suffix != ".npz":
        raise UsageError(f"--npz names a file that ends with .npz, got {npz}")
    if npz is not None:
        check_writable(npz)
    with worlds.world(device) as world, ExitStack() as held:
        model = experiments.open_denoiser(denoiser, world.device)
        name = autoencoder or model.latents.get("autoencoder")
        if name is None:
            raise DenoiserError(f"{denoiser} does not say which autoencoder its latents are of: name --autoencoder")
        side = min(sides(parse_resolution(model.latents.get("resolution", 256))))
        decoder = autoencoders.load(name, world.device, probe=side)
        experiments.check_autoencoder(model, decoder)
        sampling = settle(denoising.Sampling, given, labels=_class(label, model.class_names))
        about = denoising.describe_sampling(sampling, model.num_classes, prediction_of(model.model)) | {
            "model": str(denoiser), "autoencoder": name, "denoiser_digest": weights_digest(model.model),
        }  # fmt: skip
        clips = len(model.shape) == 4
        about |= {"fps": fps} if clips else {}
        if clips and npz is not None:
            raise UsageError("--npz packs images, this denoiser makes clips")
        pictures = claim_folder(out, about, world, CLIPS if clips else PICTURES)
        refusal = SamplesError(f"another process draws samples into {out}: let it end, or name another folder")
        held.enter_context(worlds.sole_world(out, refusal, world))
        if not clips and sampling.samples <= FEATURES and world.is_main:
            typer.echo(f"{sampling.samples} samples are for looking at: evaluate-samples takes more than {FEATURES}")
        count = -(-sampling.samples // sampling.batch_size) * sampling.batch_size // world.size
        unit, hide = "clip" if clips else "image", not world.is_main
        with tqdm(total=min(sampling.samples, count), unit=unit, disable=hide, bar_format=_BAR) as bar:

            def there(places: range) -> bool:
                ending = "mp4" if clips else "png"
                found = all((pictures / f"{place:06d}.{ending}").is_file() for place in places)
                bar.update(len(places) if found else 0)
                return found

            how = {"world": world, "skip": there, "advance": bar.update}
            for places, images, _ in experiments.generate(model, decoder, sampling, **how):
                _write_pictures(pictures, places, images, fps)
        worlds.barrier(world)
        if world.is_main:
            # Of clips the strips, one below the other.
            count, columns = (8, 1) if clips else (64, 8)
            _write_grid(pictures, out / "grid.png", min(sampling.samples, count), columns)
            if npz is not None:
                pack_samples([pictures / f"{place:06d}.png" for place in range(sampling.samples)], npz)
            others = f", {npz}" if npz is not None else ""
            typer.echo(f"wrote {sampling.samples} {pictures.name} to {pictures}{others} and {out / 'grid.png'}")


def _class(label: str | None, names: tuple[str, ...]) -> int | None:
    """A class's number from its name or number."""
    if label is None or label in names:
        return None if label is None else names.index(label)
    if label.lstrip("-").isdigit():
        return int(label)  # whether there is such a class, sampling checks
    raise UsageError(f"no class {label!r}: this denoiser has {', '.join(names[:20]) or 'no classes'}")


def _write_pictures(folder: Path, places: range, images: Any, fps: float) -> None:
    from diffusab_book import figures  # seconds, and nobody waits for them who has misspelt an option

    for place, image in zip(places, images, strict=True):
        # Whole files under their final names only: a picture that is there is not drawn again.
        if image.ndim == 4:
            write_clip(folder / f"{place:06d}.mp4", image, fps)
            continue
        with writing(folder / f"{place:06d}.png", alone=True) as partial:
            Image.fromarray(figures.to_uint8(image)).save(partial, format="PNG")


def _write_grid(folder: Path, file: Path, count: int, columns: int) -> None:
    from diffusab_book import figures  # as above

    pictures = torch.stack([decode_image(str(folder / f"{place:06d}.png")) for place in range(count)])  # uint8
    Image.fromarray(figures.to_uint8(figures.mosaic(pictures / 127.5 - 1, columns=columns))).save(file)
