r"""The diagnosis of an autoencoder, from its spectrum to what its decoder needs: what ``diffusab report`` measures.

:func:`measure` sends images through the models in constant memory. What needs the encoder or the decoder once is
measured on every image, what needs them many times on a subset that the seed draws, both stated in the result;
:class:`~diffusab_book.report.diagnosis_types.Plan` holds the sizes.

Sources: Skorokhodov et al. 2025, "Improving the Diffusability of Autoencoders" (Eq. 1, 2, Fig. 8); "Toward Diffusible
High-Dimensional Latent Spaces: A Frequency Perspective" (2025; Findings 1 to 3).
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from diffusab_book.report import report
from diffusab_book.report.diagnosis_parts import (
    NoiseSums,
    Subject,
    amplitude_by_cutoff,
    dependence,
    finite,
    grating_response,
    latent_cut,
    numbers,
    picture,
    rgb_cut,
)
from diffusab_book.report.diagnosis_types import (
    Cut,
    Diagnosis,
    DiagnosisReport,
    Numbers,
    Plan,
    Reconstruction,
    ScaleEquivariance,
)
from diffusab_book.report.report_images import hidden
from diffusab_book.report.report_types import DTYPES, Options, Profile, ReportError
from diffusab_core import metrics
from diffusab_core.autoencoders.sources import OwnAutoencoder, open_factory, open_model
from diffusab_core.data import stack
from diffusab_core.experiments import records
from diffusab_core.methods.regularizers import downsample
from diffusab_core.metrics import probes as perturbation
from diffusab_core.spectrum import ProfileAccumulator

#: How many images, at most, unless somebody says otherwise.
DEFAULT_SAMPLES = 64
#: Borders of the bands that RGB energy is told by, cycles per RGB pixel.
RGB_EDGES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7072)


# ---------------------------------------------------------------------------------------------------------------------
# What was typed


def _open(models: Sequence[str], factories: Sequence[str], options: Options) -> list[tuple[str, Subject]]:
    """What was typed and the model, all of them usable."""
    device, dtype = report.resolve_device(options.device), DTYPES[options.dtype]
    opened = [(text, open_model(text, device, dtype)) for text in models]
    opened += [(text, open_factory(text, device, dtype, options.resolution)) for text in factories]
    for _, source in opened:
        if getattr(source, "frames", None) is not None:
            raise ReportError(
                f"{source.name} gives latents with a time axis (N, C, T, h, w); the report is about images: let its "
                "encode return (N, C, h, w) and its decode take it, or use `diffusab profile`"
            )
        if isinstance(source, OwnAutoencoder) and not callable(getattr(source.module, "decode", None)):
            raise ReportError(f"{source.name} has no decode(z), which most of the report is about; add one")
    names = report.labels(opened)
    return [(text, Subject(name, source, device, dtype)) for name, (text, source) in zip(names, opened, strict=True)]


# ---------------------------------------------------------------------------------------------------------------------
# Sums over the stream of all images


@dataclass
class Sums:
    """One model's sums over all images."""

    stream: report.Stream
    noise: NoiseSums
    quality: dict[str, list[float]] = field(default_factory=dict)  # one number for each image
    not_measured: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, values: Tensor) -> None:
        """One number for each image of a batch, ``(N,)``."""
        self.quality.setdefault(name, []).extend(values.cpu().double().tolist())

    @contextmanager
    def unless_it_fails(self, part: str) -> Iterator[bool]:
        """Whether to go on with a part; if it raises a ``ValueError``, the reason is kept and the part is over."""
        try:
            yield part not in self.not_measured
        except ValueError as error:
            self.not_measured[part] = " ".join(str(error).split())

    def mean(self, name: str) -> float | None:
        """Mean over images; ``None`` where there is none or it is infinite."""
        values = self.quality.get(name)
        return finite(sum(values) / len(values)) if values else None


def _see(
    sums: Sums,
    subject: Subject,
    x: Tensor,
    names: Sequence[str],
    plan: Plan,
    options: Options,
    lpips: metrics.LPIPSDistance | None,
) -> None:
    """One batch of images through one model once."""
    posterior = subject.encode(x)
    z = posterior.mean
    if tuple(z.shape[1:]) != sums.stream.shape:
        raise ReportError(f"{subject.name} gives latents of shape {tuple(z.shape)}, not of {sums.stream.shape} each")
    report.refuse_non_finite(z, subject.name, names, options)
    sums.stream.sums.update(z)
    sums.noise.update(posterior)
    y = subject.decode(z)
    if y.shape != x.shape:
        raise ReportError(f"{subject.name} decodes {tuple(z.shape)} to {tuple(y.shape)}, not to {tuple(x.shape)}")
    sums.add("psnr", metrics.psnr_per_image(y, x))
    if min(x.shape[-2:]) >= 11:
        sums.add("ssim", metrics.ssim_per_image(y, x))
    with sums.unless_it_fails("lpips") as goes_on:  # images too small for its network
        if lpips is not None and goes_on:
            sums.add("lpips", metrics.lpips_per_image(y, x, lpips))
    with sums.unless_it_fails("scale") as goes_on:  # a decoder of one size only, a latent too small to be halved twice
        for scale in plan.scales if goes_on else ():
            small_x, small_y = downsample(x, scale), downsample(y, scale)
            decoded = subject.decode(downsample(z, scale))
            sums.add(f"scale {scale} image", metrics.psnr_per_image(decoded, small_x))
            sums.add(f"scale {scale} reconstruction", metrics.psnr_per_image(decoded, small_y))
            sums.add(f"scale {scale} ceiling", metrics.psnr_per_image(small_y, small_x))


# ---------------------------------------------------------------------------------------------------------------------
# The report


def measure(
    models: Sequence[str] = (),
    factories: Sequence[str] = (),
    *,
    images: str | os.PathLike | None = None,
    options: Options = Options(samples=DEFAULT_SAMPLES),  # noqa: B008 - frozen
    plan: Plan = Plan(),  # noqa: B008 - frozen
    progress: bool | None = None,
) -> DiagnosisReport:
    """Diagnose autoencoders over one stream of images.

    All models are opened first, so that a wrong name is known before anything is computed. Latents are posterior means.

    Args:
        models: Shipped names, diffusers folders, hub ids.
        factories: ``file.py:function``, see :func:`~diffusab_core.autoencoders.sources.open_factory`.
        images: Anything that :func:`~diffusab_core.data.open.open_images` opens; ``None`` takes the built-in held-out
            photographs.
        options: How to measure; statistic and posterior play no part.
        plan: Sizes of the parts.
        progress: Show progress bars; ``None`` shows them on a terminal only.

    Raises:
        ValueError: Anything that cannot be used, in one line that says what to do.
        OSError: The images are missing, or a file of them vanished.
    """
    if not (models or factories):
        raise ReportError("nothing to report on: name a MODEL or --model file.py:function")
    opened = _open(models, factories, options)
    sizes = [report.latent_size(subject.source, options) for _, subject in opened]
    chosen = report.choose_images(images, options, progress)
    n = len(chosen.names)
    lpips, why_not = _lpips(opened[0][1].device)

    used = {key: value for key, value in asdict(options).items() if key not in ("statistic", "posterior", "seed")}
    run = records.start(
        "report",
        parameters={
            "models": list(models), "factories": list(factories), "images": None if images is None else str(images),
            **used, "plan": asdict(plan), "lpips": None if lpips is None else lpips.digest,
        },
        seed=options.seed, size="laptop", data=chosen.described, device=opened[0][1].device,
    )  # fmt: skip
    drawn = np.random.default_rng(options.seed).permutation(n)[: plan.decoder_images].tolist()
    subset = sorted(drawn)
    sums = [_sums(text, subject, n, options) for text, subject in opened]
    rgb = [
        report.Stream(f"RGB at {h}×{w}", "rgb", chosen.described, (3, h, w), n, ProfileAccumulator(options.block_size))
        for h, w in dict.fromkeys(sizes)
    ]
    parts = 4  # on the subset, of each model
    with torch.no_grad(), tqdm(
        desc="report", total=len(opened) * (n + parts * len(subset)), unit="image", disable=hidden(progress)
    ) as bar:  # fmt: skip
        for start in range(0, n, options.batch_size):
            indices = range(start, min(start + options.batch_size, n))
            x = stack(chosen.dataset, indices)  # (n, 3, R, R)
            for stream in rgb:
                stream.sums.update(report.at_latent_size(x, *stream.shape[-2:]))
            for (_, subject), own in zip(opened, sums, strict=True):
                bar.set_postfix_str(subject.name)
                names = [chosen.names[i] for i in indices]
                _see(own, subject, x.to(subject.device), names, plan, options, lpips)
                bar.update(len(indices))
        x = stack(chosen.dataset, subset).to(opened[0][1].device)  # (n, 3, R, R)
        shown = [subset.index(i) for i in drawn[: plan.shown_images]]
        cuts = {
            f: rgb_cut(x, plan.cut_ratios, f * options.block_size)
            for f in {subject.compression for _, subject in opened}
        }
        found = tuple(
            _diagnosis(subject, own, x, shown, cuts[subject.compression], plan, options, why_not, lpips, bar)
            for (_, subject), own in zip(opened, sums, strict=True)
        )
        rgb_energy = numbers(perturbation.rgb_energy_by_band(x, RGB_EDGES, options.batch_size))
    profiles = tuple(stream.profile() for stream in rgb)
    _record(run, found, profiles)
    names = [chosen.names[i] for i in subset]
    return DiagnosisReport(
        options, plan, found, profiles, RGB_EDGES, rgb_energy, chosen, tuple(names),
        tuple(names[i] for i in shown), tuple(picture(x[i]) for i in shown), run.finish(),
    )  # fmt: skip


def _pictures(subject: Subject, x: Tensor, plan: Plan) -> tuple[tuple[str, ...], ...]:
    """Per image the data URIs of what the whole latent, its low and its high part decode to."""
    parts = perturbation.reconstructions_by_part(subject, subject.encode(x).mean, plan.split_radius)
    return tuple(tuple(map(picture, row)) for row in zip(parts.whole, parts.low, parts.high, strict=True))


def _lpips(device: torch.device) -> tuple[metrics.LPIPSDistance | None, str]:
    """LPIPS if its weights are on disk, else why not; nothing is downloaded and nothing takes its place."""
    try:
        return metrics.lpips_distance("alex").to(device), ""
    except metrics.MissingWeightsError:
        return None, "weights not on disk"
    except ModuleNotFoundError:
        return None, "the package lpips is not installed"


def _sums(text: str, subject: Subject, items: int, options: Options) -> Sums:
    shape = tuple(subject.source.latent_shape(options.resolution, options.resolution))
    accumulator = ProfileAccumulator(options.block_size)
    stream = report.Stream(subject.name, "model", text, shape, items, accumulator, subject.source)
    return Sums(stream, NoiseSums(shape[0], options.block_size))


def _diagnosis(
    subject: Subject,
    sums: Sums,
    x: Tensor,
    shown: Sequence[int],
    rgb_db: Numbers,
    plan: Plan,
    options: Options,
    why_no_lpips: str,
    lpips: metrics.LPIPSDistance | None,
    bar: tqdm,
) -> Diagnosis:
    """What the sums say, and what the subset ``x`` adds."""
    bar.set_postfix_str(subject.name)
    not_measured = sums.not_measured

    def part(name: str, measured: Callable[[], Any]) -> Any:
        """A part of the report, or ``None`` and the reason: what does not fit one model must not cost the others."""
        found = None
        with sums.unless_it_fails(name):
            found = measured()
        bar.update(len(x))
        return found

    size, b = options.batch_size, options.block_size
    cut = part("cut", lambda: latent_cut(subject, x, plan.cut_ratios, b, size))
    needs = part("dependence", lambda: dependence(subject, x, plan, size, options.seed))
    cutoff = part("cutoff", lambda: amplitude_by_cutoff(subject, x, plan, size))
    gratings = part("gratings", lambda: grating_response(subject, x, plan, size))
    if lpips is None:
        not_measured["lpips"] = why_no_lpips
    if "ssim" not in sums.quality:
        not_measured["ssim"] = f"needs images of at least 11 pixels, these have {options.resolution}"
    decibels = sums.quality["psnr"]
    known = len(decibels) > 1 and all(map(math.isfinite, decibels))
    return Diagnosis(
        profile=sums.stream.profile(),
        parameters=subject.parameter_count,
        noise=sums.noise.result(),
        reconstruction=Reconstruction(
            len(decibels), sums.mean("psnr"), statistics.stdev(decibels) if known else None, sums.mean("ssim"),
            sums.mean("lpips") if "lpips" not in not_measured else None,
            None if lpips is None else lpips.digest,
        ),
        cut=None if cut is None else Cut(len(x), tuple(plan.cut_ratios), cut, rgb_db),
        dependence=needs,
        scale=None if "scale" in not_measured else _scale(sums, plan),
        cutoff=cutoff,
        gratings=gratings,
        not_measured=not_measured,
        pictures=_pictures(subject, x[list(shown)], plan) if needs is not None else (),
    )  # fmt: skip


def _scale(sums: Sums, plan: Plan) -> ScaleEquivariance:
    def of(target: str) -> Numbers:
        return tuple(sums.mean(f"scale {scale} {target}") for scale in plan.scales)

    return ScaleEquivariance(tuple(plan.scales), of("image"), of("reconstruction"), of("ceiling"))


def _record(run: records.Run, models: Sequence[Diagnosis], rgb: Sequence[Profile]) -> None:
    """The headline numbers of each model, and the curves without gaps, into the run record."""
    for model in models:
        for name, value in headline(model).items():
            if value is not None:
                run.metrics[f"{model.name}: {name}"] = value
        curves = {
            "energy profile": model.profile.profiles["energy"],
            "noise share by zigzag rank": model.noise.by_frequency,
        }
        if model.cut is not None:
            curves |= {"psnr_db by cut ratio": model.cut.latent_db}
        if model.dependence is not None:
            curves |= {"psnr_db without band": model.dependence.without_db}
        run.series.update({f"{model.name}: {name}": list(v) for name, v in curves.items() if None not in v})
    for profile in rgb:
        run.metrics[f"{profile.name}: high-frequency share"] = profile.high_frequency_share
        run.series[f"{profile.name}: energy profile"] = profile.profiles["energy"]
    run.notes = (
        "Latents are posterior means, raw; RGB in [0, 1] in spectra. The size is nominal: the parameters say all."
    )


def headline(model: Diagnosis) -> dict[str, float | None]:
    """One number for each part, by name and unit; ``None`` where it was not measured or is infinite."""
    profile, noise, quality, needs = model.profile, model.noise, model.reconstruction, model.dependence
    found = {
        "high-frequency share": profile.high_frequency_share,
        "high-frequency energy ratio": profile.high_frequency_energy_ratio,
        "psnr_db": quality.psnr_db,
        "ssim": quality.ssim,
        "lpips": quality.lpips,
        "averaged KL, nats": noise.averaged_kl,
        "noise share": noise.share,
        "silent channels": noise.silent_channels,
        "psnr_db from the low part": None if needs is None else needs.low_db,
        "psnr_db from the high part": None if needs is None else needs.high_db,
    }
    if model.scale is not None:
        for scale, db in zip(model.scale.scales, model.scale.to_image_db, strict=True):
            found[f"scale {scale}: psnr_db to the small image"] = db
        for scale, db in zip(model.scale.scales, model.scale.to_reconstruction_db, strict=True):
            found[f"scale {scale}: psnr_db to the small reconstruction"] = db
    return found
