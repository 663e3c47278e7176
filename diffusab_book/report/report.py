r"""The profile report of autoencoders: frequency profiles of their latents beside RGB at latent size.

:func:`measure` streams images through the models in constant memory; :func:`diffusab_book.report.report_output.write`
puts the result into a folder. Source: Skorokhodov et al. 2025, Fig. 2 and Eq. 1.
"""

from __future__ import annotations

import math
import os
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from diffusab_book.report.report_images import Images, builtin_images, hidden, own_images, refuse_ambiguous
from diffusab_book.report.report_types import CROPS, DTYPES, Options, Profile, Report, ReportError
from diffusab_core.autoencoders import Autoencoder, AutoencoderError, Posterior
from diffusab_core.autoencoders.sources import (
    OwnAutoencoder,
    blame,
    open_factory,
    open_model,
)
from diffusab_core.data import resize_to, rgb01, stack
from diffusab_core.experiments import records
from diffusab_core.latents.file import LatentsFile, open_latents
from diffusab_core.spectrum import STATISTICS, ProfileAccumulator, high_frequency_share

Source = Autoencoder | OwnAutoencoder | LatentsFile


def resolve_device(text: str) -> torch.device:
    """``"auto"`` is the first of CUDA, MPS and CPU that is there.

    Raises:
        ReportError: Unknown, or not on this machine.
    """
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    try:
        device = torch.device(text)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ReportError(f"--device {text!r} is unknown; choose auto, cuda, mps or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        there = f"{count} CUDA devices, cuda:0 to cuda:{count - 1}" if count else "no CUDA device that torch can use"
        raise ReportError(f"--device {text} is not there: this machine has {there}; try --device auto")
    if device.type == "mps" and not _has_mps():
        raise ReportError(f"--device mps is not there: it needs macOS on Apple silicon, this is {platform.platform()}")
    return device


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def at_latent_size(x: Tensor, height: int, width: int) -> Tensor:
    """Images in [-1, 1] as RGB in [0, 1] of ``height`` x ``width``; cut to that shape first, so nothing is squeezed."""
    side = x.shape[-1]
    cut_height, cut_width = (round(side * min(1, a / b)) for a, b in ((height, width), (width, height)))
    top, left = (side - cut_height) // 2, (side - cut_width) // 2
    return resize_to(rgb01(x[..., top : top + cut_height, left : left + cut_width]), height, width)


@dataclass(frozen=True)
class Stream:
    """One thing to be measured, and the sums of its frequency profile so far."""

    name: str
    kind: str
    source: str
    shape: tuple[int, ...]
    items: int
    sums: ProfileAccumulator
    model: Source | None = None

    def profile(self) -> Profile:
        """What the sums say.

        Raises:
            ReportError: There is no profile: D_00 is zero in every block.
        """
        try:
            curves = {statistic: self.sums.profile(statistic).tolist() for statistic in STATISTICS}
        except ValueError as error:
            raise ReportError(f"{self.name}: {error}") from error
        return Profile(
            name=self.name, kind=self.kind, source=self.source, shape=self.shape, items=self.items,
            blocks=self.sums.blocks, excluded_blocks=self.sums.excluded_blocks,
            profiles={key: [v if math.isfinite(v) else None for v in values] for key, values in curves.items()},
            high_frequency_energy_ratio=self.sums.high_frequency_energy_ratio(),
            high_frequency_share=high_frequency_share(torch.tensor(curves["energy"], dtype=torch.float64)),
            compression=getattr(self.model, "compression", None),
        )  # fmt: skip


def measure(
    models: Sequence[str] = (),
    factories: Sequence[str] = (),
    latents: Sequence[str] = (),
    *,
    latents_key: str | None = None,
    images: str | os.PathLike | None = None,
    options: Options = Options(),  # noqa: B008 - frozen
    progress: bool | None = None,
) -> Report:
    """Profile the latents of models, and RGB at each latent size, over one stream of images.

    All models are opened first, so that a wrong name is known before anything is computed, and then see each batch of
    images in turn: memory holds the models, one batch and the sums.

    Args:
        models: Shipped names, diffusers folders, hub ids.
        factories: ``file.py:function``, see :func:`~diffusab_core.autoencoders.sources.open_factory`.
        latents: Safetensors files, see :func:`~diffusab_core.latents.file.open_latents`.
        latents_key: Which tensor of those files.
        images: Anything that :func:`~diffusab_core.data.open.open_images` opens: a folder of images, shards, a table;
            ``None`` takes the built-in held-out photographs.
        options: How to measure.
        progress: Show progress bars; ``None`` shows them on a terminal only.

    Raises:
        ValueError: Anything that cannot be used, in one line that says what to do.
        OSError: The images are missing, or a file of them vanished.
    """
    if not (models or factories or latents):
        raise ReportError("nothing to profile: name a MODEL, --model file.py:function or --latents file.safetensors")
    device, dtype = resolve_device(options.device), DTYPES[options.dtype]
    opened: list[tuple[str, Source]] = []
    files = [(text, open_latents(text, latents_key)) for text in latents]  # nothing to wait for: wrong ones first
    opened += [(text, open_model(text, device, dtype)) for text in models]
    opened += [(text, open_factory(text, device, dtype, options.resolution)) for text in factories]
    opened += files
    names = labels(opened)
    sizes = [latent_size(source, options) for _, source in opened]
    chosen = choose_images(images, options, progress)

    what = {"models": list(models), "factories": list(factories), "latents": list(latents), "latents_key": latents_key}
    parameters = {**what, "images": None if images is None else str(images), **asdict(options)}
    seed = parameters.pop("seed")
    run = records.start(
        "profile", parameters=parameters, seed=seed, size="laptop", data=chosen.described, device=device
    )
    streams = [
        _stream(name, text, source, len(chosen.names), options)
        for name, (text, source) in zip(names, opened, strict=True)
    ]
    rgb = [
        Stream(
            f"RGB at {height}×{width}", "rgb", chosen.described, (3, height, width), len(chosen.names),
            ProfileAccumulator(options.block_size),
        )
        for height, width in dict.fromkeys(sizes)
    ]  # fmt: skip
    _run_through(streams, rgb, chosen, options, device, dtype, progress)
    done, done_rgb = tuple(s.profile() for s in streams), tuple(s.profile() for s in rgb)
    for profile in (*done_rgb, *done):
        run.metrics[f"{profile.name}: high-frequency energy ratio"] = profile.high_frequency_energy_ratio
        run.metrics[f"{profile.name}: high-frequency share"] = profile.high_frequency_share
        finite = {key: values for key, values in profile.profiles.items() if None not in values}
        run.series.update({f"{profile.name}: {key}": values for key, values in finite.items()})
    run.notes = "Profiles in zigzag order; RGB in [0, 1], latents raw. The size is nominal: the parameters say all."
    return Report(options, done, done_rgb, chosen, run.finish())


# ---------------------------------------------------------------------------------------------------------------------
# Before anything is computed


def labels(opened: Sequence[tuple[str, Source]]) -> list[str]:
    """The sources' names; what was typed where two are called the same.

    Raises:
        ReportError: The same thing is given twice.
    """
    times = Counter(source.name for _, source in opened)
    found = [source.name if times[source.name] == 1 else text for text, source in opened]
    twice = next((label for label, n in Counter(found).items() if n > 1), None)
    if twice is not None:
        raise ReportError(f"{twice} is given twice")
    return found


def latent_size(source: Source, options: Options) -> tuple[int, int]:
    """Height and width of the latents, which the blocks and the images have to fit.

    Raises:
        ReportError: They do not; the message names sizes that do.
    """
    b, side = options.block_size, options.resolution
    if isinstance(source, LatentsFile):
        height, width = source.shape[-2:]
        if height % b or width % b:
            fitting = [n for n in range(2, min(height, width) + 1) if height % n == width % n == 0]
            choose = f"choose --block-size {_either(fitting)}" if fitting else "no --block-size from 2 on divides both"
            raise ReportError(
                f"{source.path}: latents of {height} x {width} cannot be cut into {b} x {b} blocks; {choose}"
            )
        if max(height, width) > side:
            raise ReportError(
                f"{source.path}: latents of {height} x {width} are larger than the images of {side} x {side} that RGB "
                f"is measured on; choose --resolution {max(height, width)} or more"
            )
        return height, width
    unit = source.compression * b
    if side % unit:
        better = max(1, round(side / unit)) * unit
        raise ReportError(
            f"{source.name} compresses {source.compression} x {source.compression}, so {side} x {side} images give no "
            f"latents that {b} x {b} blocks fit: --resolution must be a multiple of {unit}, for instance {better} "
            "(or choose another --block-size)"
        )
    return tuple(source.latent_shape(side, side)[-2:])


def _either(numbers: Sequence[int]) -> str:
    return " or ".join(filter(None, (", ".join(map(str, numbers[:-1])), str(numbers[-1]))))


def choose_images(where: str | os.PathLike | None, options: Options, progress: bool | None) -> Images:
    """The images of ``--images``: anything that ``open_images`` opens, or the built-in photographs.

    Raises:
        ValueError: They cannot be used, in one line that says what to do.
        OSError: They are not there.
    """
    refuse_ambiguous(where)
    if where not in (None, "photos"):
        crop = options.crop or CROPS[0]
        return own_images(where, options.resolution, crop, options.samples, options.seed, progress)
    if options.crop == "center":
        raise ReportError("the built-in photographs are too few for centre crops: leave --crop out, or give --images")
    try:
        return builtin_images(options.resolution, options.samples, options.seed)
    except ValueError as error:
        raise ReportError(f"built-in photographs: {error}; or give larger images with --images") from error


def _stream(name: str, text: str, source: Source, images: int, options: Options) -> Stream:
    sums = ProfileAccumulator(options.block_size)
    if isinstance(source, LatentsFile):
        items = min(options.samples, source.shape[0])
        return Stream(name, "latents", f"{text}, tensor {source.key!r}", source.shape[1:], items, sums, source)
    shape = tuple(source.latent_shape(options.resolution, options.resolution))
    return Stream(name, "model", text, shape, images, sums, source)


# ---------------------------------------------------------------------------------------------------------------------
# The stream itself


def _run_through(
    streams: Sequence[Stream],
    rgb: Sequence[Stream],
    images: Images,
    options: Options,
    device: torch.device,
    dtype: torch.dtype,
    progress: bool | None,
) -> None:
    models = [stream for stream in streams if stream.kind == "model"]
    files = [stream for stream in streams if stream.kind == "latents"]
    total = len(images.names) * max(1, len(models)) + sum(stream.items for stream in files)
    with torch.no_grad(), tqdm(desc="profile", total=total, unit="item", disable=hidden(progress)) as bar:
        for start in range(0, len(images.names), options.batch_size):
            indices = range(start, min(start + options.batch_size, len(images.names)))
            x = stack(images.dataset, indices)  # (n, 3, R, R)
            for stream in rgb:
                stream.sums.update(at_latent_size(x, *stream.shape[-2:]))
            for stream in models:
                bar.set_postfix_str(stream.name)
                z = _encode(stream, x.to(device, dtype), indices, options)
                refuse_non_finite(z, stream.name, [images.names[i] for i in indices], options)
                stream.sums.update(z)
                bar.update(len(indices))
            if not models:
                bar.update(len(indices))
        for stream in files:
            bar.set_postfix_str(stream.name)
            for start in range(0, stream.items, options.batch_size):
                stop = min(start + options.batch_size, stream.items)
                z = stream.model.read(start, stop)
                refuse_non_finite(z, stream.source, [f"item {i}" for i in range(start, stop)], options)
                stream.sums.update(z)
                bar.update(stop - start)


def _encode(stream: Stream, x: Tensor, indices: range, options: Options) -> Tensor:
    """One batch of latents, raw."""
    posterior = posterior_of(stream.model, stream.name, x)
    z = posterior.mean if options.posterior == "mean" else _sample(posterior, indices, options.seed)
    if tuple(z.shape[-2:]) != stream.shape[-2:]:
        raise ReportError(f"{stream.name} gives latents of shape {tuple(z.shape)}, not of {stream.shape} each")
    return z


def posterior_of(model: Autoencoder | OwnAutoencoder, name: str, x: Tensor) -> Posterior:
    """``model.encode(x)``; whatever goes wrong inside it becomes one line.

    Raises:
        ReportError: Out of memory, or any exception of somebody's own code.
    """
    with explained(model, name, f"encode images of shape {tuple(x.shape)}", x):
        return model.encode(x)


@contextmanager
def explained(model: Source, name: str, what: str, x: Tensor) -> Iterator[None]:
    """A model at work on a batch ``x``: an exception of any kind becomes one line that says what it could not do.

    Raises:
        ReportError: As said.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ReportError(
            f"{name}: out of memory on {x.device} with {len(x)} images of {x.shape[-1]} x {x.shape[-1]}; choose "
            "a smaller --batch-size or --resolution, or --dtype bfloat16"
        ) from error
    except AutoencoderError as error:
        raise ReportError(str(error)) from error
    except Exception as error:  # somebody's own model may raise anything
        why = blame(error, getattr(model, "file", None))
        raise ReportError(f"{name} cannot {what}: {why}") from error


def _sample(posterior: Posterior, indices: range, seed: int) -> Tensor:
    """A posterior sample whose noise depends on seed and item only, not on device and batch size."""
    noise = []
    for i in indices:
        own = int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0] >> 1)
        noise.append(torch.randn(posterior.mean.shape[1:], generator=torch.Generator().manual_seed(own)))
    return posterior.mean + posterior.std * torch.stack(noise).to(posterior.mean)


def refuse_non_finite(z: Tensor, name: str, items: Sequence[str], options: Options) -> None:
    """Raise if a latent holds NaN or Inf; ``items`` name the latents of the batch.

    Raises:
        ReportError: As said, with the names of the items.
    """
    finite = torch.isfinite(z).flatten(1).all(1).tolist()
    bad = [item for item, good in zip(items, finite, strict=True) if not good]
    if bad:
        hint = f"; {options.dtype} can overflow, try --dtype float32" if options.dtype != "float32" else ""
        raise ReportError(f"{name}: NaN or Inf in the latents of {', '.join(bad)}{hint}")
