"""The one measurement behind ``diffusab profile`` and ``diffusab report``, in constant memory.

Images stream once through all models. What needs encoder or decoder once is measured on every image, what needs them
many times on a subset that the seed draws; :class:`~diffusab_book.report.options.Plan` holds the sizes. The science is
the core's: :mod:`diffusab_core.metrics` and :class:`~diffusab_core.spectrum.ProfileAccumulator`.

Sources: Skorokhodov et al. 2025, "Improving the Diffusability of Autoencoders" (Eq. 1, 2, Fig. 2, 8); "Toward
Diffusible High-Dimensional Latent Spaces: A Frequency Perspective" (2025; Findings 1 to 3).
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from diffusab_book import figures
from diffusab_book.diffusability import read_calibration
from diffusab_book.report.findings import TITLES
from diffusab_book.report.images import choose_images, hidden
from diffusab_book.report.options import DTYPES, Options, Plan, ReportError
from diffusab_book.report.results import Model, Profile, Report
from diffusab_book.report.score import Crops
from diffusab_book.report.stages import StageLike, silently
from diffusab_core import autoencoders, metrics
from diffusab_core.autoencoders import Posterior
from diffusab_core.data import resize_to, rgb01, stack
from diffusab_core.experiments import records
from diffusab_core.latents.others import LatentsFile, open_latents
from diffusab_core.methods.regularizers import downsample
from diffusab_core.metrics import aliasing, probes, yardsticks
from diffusab_core.metrics.networks import how_to_fetch
from diffusab_core.metrics.noise import PosteriorNoise
from diffusab_core.metrics.offline import SIDE as OFFLINE_SIDE
from diffusab_core.spectrum import STATISTICS, ProfileAccumulator, high_frequency_share, radial_split
from diffusab_core.spectrum.dct import to_double
from diffusab_core.training.order import generator_at
from diffusab_core.training.world import resolve_device

SCALE_TARGETS = ("to_image_db", "to_reconstruction_db", "ceiling_db")


def plain(value: Any) -> Any:
    """Records, tensors and tuples as JSON values; ``None`` for a number that is infinite or not a number."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if hasattr(value, "_asdict"):  # a named tuple
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---------------------------------------------------------------------------------------------------------------------
# One thing to be measured


@dataclass
class Subject:
    """A model, a file of latents or RGB at a latent size, and what has been summed of it so far.

    A model runs on its device and in its precision, float32 outside.
    """

    name: str
    kind: str
    source: str
    shape: tuple[int, ...]
    items: int
    options: Options
    model: Any = None
    device: torch.device | str = "cpu"
    crops: Crops | None = None
    per_image: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    not_measured: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sums = ProfileAccumulator(self.options.block_size)
        self.noise = PosteriorNoise(self.shape[0], self.options.block_size)
        self.compression = getattr(self.model, "compression", None)
        dtype = self.options.dtype
        self.hint = "" if dtype == "float32" else f"; {dtype} can overflow, try --dtype float32"

    def encode(self, x: Tensor) -> Posterior:
        """Images ``(N, 3, H, W)``, or clips, to the posterior of their latents, in float32."""
        posterior = self.model.encode(x.to(self.device, DTYPES[self.options.dtype]))
        return Posterior(posterior.mean.float(), posterior.std.float())

    def as_seen(self, x: Tensor) -> Tensor:
        """Images as far as the model can see them, see :meth:`.Autoencoder.as_seen`."""
        return self.model.as_seen(x) if isinstance(self.model, autoencoders.Autoencoder) else x

    def decode(self, z: Tensor) -> Tensor:
        """Raw latents to images, in float32; a ReportError if they are not finite."""
        y = self.model.decode(z.to(self.device, DTYPES[self.options.dtype])).float()
        if not torch.isfinite(y).all():
            raise ReportError(f"{self.name}: NaN or Inf in images decoded from latents of {tuple(z.shape)}{self.hint}")
        return y

    def place(self, x: Tensor) -> Tensor:
        """``x`` on the device, in float32: the weights' own precision is this class's business."""
        return x.to(self.device, torch.float32)

    def add(self, z: Tensor, items: Sequence[str]) -> None:
        """Latents to the spectrum; a ReportError if their shape is another, or one is not finite: its item is named."""
        if tuple(z.shape[1:]) != self.shape:
            raise ReportError(f"{self.name} gives latents of shape {tuple(z.shape)}, not of {self.shape} each")
        finite = torch.isfinite(z).flatten(1).all(1).tolist()
        bad = [item for item, good in zip(items, finite, strict=True) if not good]
        if bad:
            raise ReportError(f"{self.name}: NaN or Inf in the latents of {', '.join(bad)}{self.hint}")
        self.sums.update(z)

    @contextmanager
    def unless_it_fails(self, part: str) -> Iterator[bool]:
        """Whether to go on with a part: if the model cannot do it, the reason is kept and the part is over."""
        try:
            yield part not in self.not_measured
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError) as error:
            self.not_measured[part] = " ".join(str(error).split())

    def note(self, name: str, values: Tensor) -> None:
        """One number for each image of a batch, ``(N,)``."""
        self.per_image[name] += values.cpu().double().tolist()

    def mean(self, name: str) -> float | None:
        """Mean over images; ``None`` where there is none or it is infinite."""
        return plain(statistics.fmean(self.per_image[name])) if self.per_image[name] else None

    def profile(self) -> Profile:
        """What the sums say of the spectrum; a ReportError if D_00 is zero in every block, so that there is none."""
        try:
            curves = {statistic: self.sums.profile(statistic) for statistic in STATISTICS}
        except ValueError as error:
            raise ReportError(f"{self.name}: {error}") from error
        return Profile(
            self.name, self.kind, self.source, self.shape, self.items, self.sums.blocks, self.sums.excluded_blocks,
            plain(curves), self.sums.high_frequency_energy_ratio(), high_frequency_share(curves["energy"]),
            self.compression,
        )  # fmt: skip


def open_subjects(options: Options, device: torch.device, whole: bool) -> list[Subject]:
    """Everything that was typed, or a ValueError that says what to do; how many items models see is known later."""
    (height, width), dtype = options.sides, DTYPES[options.dtype]
    files = [(text, open_latents(text, options.latents_key)) for text in options.latents]  # nothing to wait for
    opened = [
        (text, autoencoders.load(text, device, dtype, probe=min(height, width))) for text in options.models
    ] + files
    times = Counter(source.name for _, source in opened)
    subjects = []
    for text, source in opened:
        name = source.name if times[source.name] == 1 else text
        if any(name == subject.name for subject in subjects):
            raise ReportError(f"{name} is given twice")
        _check_size(source, options)
        if isinstance(source, LatentsFile):
            shape, items = tuple(source.shape[1:]), min(options.samples, source.shape[0])
            subjects.append(Subject(name, "latents", f"{text}, tensor {source.key!r}", shape, items, options, source))
        elif whole and not source.decodes:
            raise ReportError(f"{name} has no decode(z), which most of the report is about; add one")
        else:
            shape = tuple(source.latent_shape(height, width, options.frames))
            subjects.append(Subject(name, "model", text, shape, 0, options, source, device))
    return subjects


def _check_size(source: autoencoders.Autoencoder | LatentsFile, options: Options) -> None:
    """Raise, naming sizes that fit, if blocks do not fit the latents, or latents the images."""
    b, pixels = options.block_size, options.sides
    if not isinstance(source, LatentsFile):
        f = source.compression
        if any(side % (f * b) for side in pixels):
            fitting = "x".join(dict.fromkeys(str(max(1, round(side / f / b)) * f * b) for side in pixels))
            raise ReportError(
                f"{source.name} compresses {f} x {f}, so {pixels[0]} x {pixels[1]} images give no latents that "
                f"{b} x {b} blocks fit: --resolution must be a multiple of {f * b}, for instance {fitting} "
                "(or choose another --block-size)"
            )
        return
    height, width = source.shape[-2:]
    latents = f"{source.path}: latents of {height} x {width}"
    if height % b or width % b:
        fit = [str(n) for n in range(2, min(height, width) + 1) if height % n == width % n == 0]
        choose = f"choose --block-size {', '.join(fit)}" if fit else "no --block-size from 2 on divides both"
        raise ReportError(f"{latents} cannot be cut into {b} x {b} blocks; {choose}")
    if height > pixels[0] or width > pixels[1]:
        raise ReportError(
            f"{latents} are larger than the images of {pixels[0]} x {pixels[1]} that RGB is measured on; choose "
            f"--resolution {max(height, width)} or more"
        )


def find_lpips(device: torch.device) -> tuple[metrics.LPIPSDistance | None, str]:
    """LPIPS if its weights are on disk, else why not; nothing is downloaded and nothing takes its place."""
    try:
        return metrics.lpips_distance("alex").to(device), ""
    except metrics.MissingWeightsError:
        return None, f"its weights are not on the disk; get them with {how_to_fetch('alex')}"
    except ModuleNotFoundError:
        return None, "the package lpips is not installed"


# ---------------------------------------------------------------------------------------------------------------------
# The stream of all images


def at_latent_size(x: Tensor, height: int, width: int) -> Tensor:
    """Images in [-1, 1] as RGB in [0, 1] of ``height`` x ``width``; cut to that shape first, so nothing is squeezed."""
    there = x.shape[-2:]
    scale = min(there[0] / height, there[1] / width)
    cut_height, cut_width = (round(side * scale) for side in (height, width))
    top, left = (there[0] - cut_height) // 2, (there[1] - cut_width) // 2
    return resize_to(rgb01(x[..., top : top + cut_height, left : left + cut_width]), height, width)


def sample_posterior(posterior: Posterior, indices: Sequence[int], seed: int) -> Tensor:
    """A sample whose noise depends on seed and item only, not on device and batch size."""
    noise = [torch.randn(posterior.mean.shape[1:], generator=generator_at(seed, i)) for i in indices]
    return posterior.mean + posterior.std * torch.stack(noise).to(posterior.mean)


def see(subject: Subject, posterior: Posterior, x: Tensor, plan: Plan, lpips: metrics.LPIPSDistance | None) -> None:
    """What needs the posterior or the decoder once, of one batch of images ``x``."""
    subject.noise.update(posterior)
    with subject.unless_it_fails("diffusability") as goes_on:
        if subject.crops is not None and goes_on:
            subject.crops.update(first_frames(x), subject)
    z, x = posterior.mean, subject.as_seen(x)
    y = subject.decode(z)
    if y.shape != x.shape:
        raise ReportError(f"{subject.name} decodes {tuple(z.shape)} to {tuple(y.shape)}, not to {tuple(x.shape)}")
    subject.note("psnr", metrics.psnr_per_image(y, x))
    subject.note("flat", metrics.psnr_per_image(paint_flat(x), x))
    if min(x.shape[-2:]) >= 11:
        subject.note("ssim", metrics.ssim_per_image(y, x))
    with subject.unless_it_fails("lpips") as goes_on:  # images too small for its network
        if lpips is not None and goes_on:
            subject.note("lpips", metrics.lpips_per_image(y, x, lpips))
    with subject.unless_it_fails("scale") as goes_on:  # a decoder of one size only, a latent too small to be halved
        for s in plan.scales if goes_on else ():
            small_x, small_y, decoded = downsample(x, s), downsample(y, s), subject.decode(downsample(z, s))
            pairs = ((decoded, small_x), (decoded, small_y), (small_y, small_x))
            for target, pair in zip(SCALE_TARGETS, pairs, strict=True):
                subject.note(f"{target} {s}", metrics.psnr_per_image(*pair))


def paint_flat(x: Tensor) -> Tensor:
    """Images ``(N, 3, ..., H, W)``, each in its own mean colour; of clips that of all frames."""
    return x.mean(tuple(range(2, x.ndim)), keepdim=True).expand_as(x)


def first_frames(x: Tensor) -> Tensor:
    """Of clips ``(N, 3, T, H, W)`` the first frames, as still images ``(N, 3, H, W)``; images as they are."""
    return x[:, :, 0] if x.ndim == 5 else x


def parts_of_stream(subject: Subject, plan: Plan, lpips: metrics.LPIPSDistance | None, why: str) -> dict[str, Any]:
    """Noise, reconstruction and scale equivariance over all images."""
    psnr = subject.per_image["psnr"]
    if lpips is None:
        subject.not_measured["lpips"] = why
    if not subject.per_image["ssim"]:
        subject.not_measured["ssim"] = f"needs images of at least 11 pixels, these have {min(subject.options.sides)}"
    # An image that has one colour only is its own mean: it would make the mean of all infinite.
    flat = [value for value in subject.per_image["flat"] if math.isfinite(value)]
    reconstruction = {
        "images": len(psnr), "psnr_db": subject.mean("psnr"), "flat_db": statistics.fmean(flat) if flat else None,
        "psnr_spread_db": statistics.stdev(psnr) if len(psnr) > 1 and all(map(math.isfinite, psnr)) else None,
        "ssim": subject.mean("ssim"), "lpips": subject.mean("lpips"), "lpips_digest": getattr(lpips, "digest", None),
    }  # fmt: skip
    scale = {target: [subject.mean(f"{target} {s}") for s in plan.scales] for target in SCALE_TARGETS}
    found = {"reconstruction": reconstruction, "noise": subject.noise.result()}
    return found if "scale" in subject.not_measured else found | {"scale": {"scales": plan.scales, **scale}}


# ---------------------------------------------------------------------------------------------------------------------
# The subset


def parts_of_subset(subject: Subject, x: Tensor, plan: Plan) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is measured on images ``(N, 3, H, W)`` that encoder and decoder see many times; the curve of cuts on clips
    as they are, all else on their first frames."""
    options, f, size, clips = subject.options, subject.compression, subject.options.batch_size, subject.as_seen(x)
    x = first_frames(clips)

    def dependence() -> dict[str, Any]:
        alone = torch.zeros(2, dtype=torch.float64)
        for batch in x.split(size):
            for i, part in enumerate(radial_split(subject.encode(batch).mean, plan.split_radius)):
                alone[i] += to_double(metrics.psnr_per_image(subject.decode(part), batch)).sum().cpu()
        low, high = plain(alone / len(x))
        bands = probes.decoder_dependence(subject, x, plan.edges, options.seed, size)
        return {**plain(bands), "split_radius": plan.split_radius, "low_db": low, "high_db": high}

    def gratings() -> dict[str, Any]:
        side = min(*x.shape[-2:], math.ceil(max(plan.grating_size, 16 * f) / f) * f)
        top, left = ((length - side) // 2 for length in x.shape[-2:])
        background = x[: plan.grating_images, :, top : top + side, left : left + side]
        # Odd numbers of cycles, which no power of two of a compression folds onto the zero frequency.
        cycles = sorted({2 * round(nu * side / 2 - 0.5) + 1 for nu in plan.grating_frequencies})
        found = aliasing.encoder_transfer(
            subject, [c / side for c in cycles if 0 < 2 * c < side], plan.angles, side, plan.grating_amplitude,
            background, batch_size=size,
        )  # fmt: skip
        return {**plain(found), "images": len(background), "side": side, "latent_nyquist": 0.5 / f}

    def stake() -> dict[str, Any]:
        step = f * options.block_size
        side = min(*x.shape[-2:], math.ceil(OFFLINE_SIDE / step) * step)
        crops = x.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        crops = crops[torch.linspace(0, len(crops) - 1, min(len(crops), plan.stake_crops)).round().long()]
        z = torch.cat([subject.encode(some).mean for some in crops.split(size)])
        network = metrics.offline_features().to(subject.device)
        whole = metrics.reference(yardsticks.decoded(subject.decode, z, size), network, quantise=False, progress=False)
        bands = yardsticks.choose_bands(options.block_size)
        found = yardsticks.measure_ruler(
            subject.decode, z, whole, network, bands=bands, block_size=options.block_size, seed=options.seed,
            batch_size=size,
        )  # fmt: skip
        return {**plain(found), "crops": len(crops), "side": side, "features_digest": network.digest}

    return {
        "cut": lambda: plain(metrics.cut_curve(subject, clips, plan.cut_ratios, options.block_size, batch_size=size)),
        "dependence": dependence,
        "stake": stake,
        "gratings": gratings,
        "cutoff": lambda: plain(
            probes.latent_amplitude_by_cutoff(subject, x, plan.cutoffs, plan.edges, batch_size=size)
        ),
    }


def picture(image: Tensor) -> str:
    """An image ``(3, H, W)`` in [-1, 1] as a data URI."""
    return figures.data_uri(figures.to_uint8(image))


# ---------------------------------------------------------------------------------------------------------------------
# The report


def measure(
    options: Options, plan: Plan | None = None, progress: bool | None = None, stage: StageLike = silently
) -> Report:
    """Measure everything that the options name, over one stream of images.

    All models are opened first, so that a wrong name is known before anything is computed, and then see each batch of
    images in turn: memory holds the models, one batch, the subset and the sums.

    Args:
        options: Of what, on which images, how.
        plan: Sizes of the parts of a whole report; ``None`` measures the profiles alone.
        progress: Show progress bars; ``None`` shows them on a terminal only.
        stage: Told what comes next, for those who have no progress bar.

    Raises:
        ValueError: Anything that cannot be used, in one line that says what to do.
        OSError: The images are missing, or a file of them vanished.
    """
    if not (options.models or options.latents):
        what, latents = ("report on", "") if plan else ("profile", " or --latents file.safetensors")
        raise ReportError(f"nothing to {what}: name a MODEL, --model file.py:function{latents}")
    device = resolve_device(options.device)
    with stage(f"opening {', '.join((*options.models, *options.latents))}"):
        subjects = open_subjects(options, device, whole=plan is not None)
    with stage(f"choosing from {options.images or 'the built-in photographs'}"):
        images = choose_images(options, progress)
    lpips, why = find_lpips(device) if plan else (None, "")
    run = _start_record(options, plan, images.described, device, lpips)
    n, size = len(images.used), options.batch_size
    models, files = ([s for s in subjects if s.kind == kind] for kind in ("model", "latents"))
    calibration = read_calibration() if plan else None
    for subject in models:
        subject.items = n
        subject.crops = None if calibration is None else Crops(calibration, subject.compression)
    rgb = [
        Subject(f"RGB at {h}×{w}", "rgb", images.described, (3, h, w), n, options)
        for h, w in dict.fromkeys(s.shape[-2:] for s in subjects)
    ]
    drawn = np.random.default_rng(options.seed).permutation(n)[: plan.decoder_images].tolist() if plan else []
    subset = sorted(drawn)
    total = n * max(1, len(models)) + sum(s.items for s in files) + len(models) * len(subset)
    bar = tqdm(desc="report" if plan else "profile", total=total, unit="item", disable=hidden(progress))
    with torch.no_grad(), bar:
        with stage(f"encoding {n:,} images{' and decoding them' if plan else ''}"):
            for start in range(0, n, size):
                indices = range(start, min(start + size, n))
                x = stack(images.dataset, indices)  # (n, 3, R, R)
                for subject in rgb:
                    subject.sums.update(at_latent_size(x, *subject.shape[-2:]))
                for subject in models:
                    bar.set_postfix_str(subject.name)
                    posterior = subject.encode(x)
                    sampled = options.posterior == "sample"
                    z = sample_posterior(posterior, indices, options.seed) if sampled else posterior.mean
                    subject.add(z, [images.used[i] for i in indices])
                    if plan:
                        see(subject, posterior, x.to(device), plan, lpips)
                bar.update(len(indices) * max(1, len(models)))
        for subject in files:
            bar.set_postfix_str(subject.name)
            for start in range(0, subject.items, size):
                stop = min(start + size, subject.items)
                subject.add(subject.model.read(start, stop), [f"item {i}" for i in range(start, stop)])
                bar.update(stop - start)
        if not plan:
            found = tuple(Model(subject.profile()) for subject in subjects)
            return _finish(run, options, None, found, rgb, images)
        x = stack(images.dataset, subset).to(device)
        shown = [subset.index(i) for i in drawn[: plan.shown_images]]
        found = []
        for subject in subjects:
            bar.set_postfix_str(subject.name)
            found.append(_measure_parts(subject, x, shown, plan, lpips, why, stage))
            bar.update(len(subset) if subject.kind == "model" else 0)
        stills = first_frames(x)
        energy = plain(probes.rgb_energy_by_band(stills, plan.rgb_edges, size))
    names = tuple(images.used[i] for i in subset)
    pictures = tuple((names[i], picture(stills[i])) for i in shown)
    return _finish(run, options, plan, tuple(found), rgb, images, tuple(energy), names, pictures)


def _measure_parts(
    subject: Subject, x: Tensor, shown: Sequence[int], plan: Plan, lpips: metrics.LPIPSDistance | None, why: str,
    stage: StageLike,
) -> Model:  # fmt: skip
    """What the sums say, and what the subset ``x`` adds: what does not fit one model must not cost the others."""
    if subject.kind != "model":
        return Model(subject.profile())
    parts, pictures = parts_of_stream(subject, plan, lpips, why), ()
    for name, run in parts_of_subset(subject, x, plan).items():
        with subject.unless_it_fails(name), stage(f"{subject.name}: {TITLES[name].lower()}"):
            parts[name] = {"images": len(x), **run()}
    with subject.unless_it_fails("diffusability") as goes_on:
        if subject.crops is not None and goes_on:
            with stage(f"{subject.name}: {TITLES['diffusability'].lower()}"):
                parts["diffusability"] = subject.crops.measure(subject)
    if "dependence" in parts:
        z = subject.encode(first_frames(x[shown])).mean
        decoded = probes.reconstructions_by_part(subject, z, plan.split_radius)
        rows = zip(decoded.whole, decoded.low, decoded.high, strict=True)
        pictures = tuple(tuple(map(picture, row)) for row in rows)
    weights = sum(p.numel() for p in subject.model.parameters()) or None
    return Model(subject.profile(), plain(parts), dict(subject.not_measured), weights, pictures)


def _start_record(options: Options, plan: Plan | None, data: str, device: torch.device, lpips: Any) -> records.Run:
    parameters = plain(options.as_values())
    seed = parameters.pop("seed")
    if plan:
        parameters |= {"plan": plain(plan), "lpips": getattr(lpips, "digest", None)}
    kind = "report" if plan else "profile"
    return records.start(kind, parameters=parameters, seed=seed, size="laptop", data=data, device=device)


def _finish(run: records.Run, options: Options, plan: Plan | None, models: tuple[Model, ...],
            rgb: Sequence[Subject], images: Any, *other: Any) -> Report:  # fmt: skip
    """The report, with every number by its path and every curve without a gap in its run record."""

    def fill(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, entry in value.items():
                fill(f"{path}.{key}", entry)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            run.metrics[path] = value
        elif isinstance(value, list) and value and all(isinstance(entry, (int, float)) for entry in value):
            run.series[path] = value

    profiles = tuple(subject.profile() for subject in rgb)
    for profile in (*profiles, *(model.profile for model in models)):
        for key in ("high_frequency_energy_ratio", "high_frequency_share", "profiles"):
            fill(f"{profile.name}: {key}", getattr(profile, key))
    for model in models:
        for part, values in model.parts.items():
            fill(f"{model.name}: {part}", values)
    run.notes = "Profiles in zigzag order; RGB in [0, 1], latents raw. The size is nominal: the parameters say all."
    return Report(options, plan, models, profiles, images, run.finish(), *other)
