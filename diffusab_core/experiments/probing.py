"""Probing an autoencoder: its spectra, what cutting its latents costs, what its encoder folds, what its decoder needs.

Each part is a function of an open autoencoder that returns numbers and curves by name; :func:`probe_autoencoder` puts
the chosen ones into one record. Images are crops of the held-out photographs, which nothing here is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from diffusab_core import autoencoders, data, metrics, spectrum
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.autoencoders.quantizers import Codes, decode_without, quantize
from diffusab_core.files import SettingsError
from diffusab_core.methods import finetuning
from diffusab_core.methods.regularizers import downsample
from diffusab_core.metrics import aliasing, probes, yardsticks
from diffusab_core.metrics.offline import offline_features
from diffusab_core.metrics.quantisation import measure_quantisation
from diffusab_core.spectrum import block_dct, block_idct, chop_high_frequencies

#: Shares of the frequencies of a latent that are cut.
CUTS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
#: Bands of the latent, in cycles per pixel of the latent.
EDGES = (0.0, 0.125, 0.25, 0.5)


@dataclass(frozen=True)
class Probing:
    """What to measure of an autoencoder, and on how many crops of the held-out photographs.

    Attributes:
        model: Shipped name, diffusers folder, hub id (``PIPELINE:vae`` for one of its folders), single file of weights,
            or your own ``file.py:function``.
        parts: Of ``examine``, ``spectra``, ``cuts``, ``folding``, ``bands``, ``ruler`` and, of latents that are
            quantised, ``codes``.
        block_size: Side of a DCT block in latent pixels.
        examine_crops: Crops of :func:`diffusab_core.methods.finetuning.examine`, and those that are low-passed.
        examine_resolution: Their side in pixels, and that of the gratings.
        spectra_crops: Crops of :func:`spectra`.
        spectra_resolution: Their side in pixels.
        cut_crops: Crops of :func:`cut_curves`.
        cut_resolution: Their side in pixels.
        large_crops: Crops of its large pictures.
        large_resolution: Their side in pixels.
        cuts: Shares of the latent's frequencies to cut.
        grated_crops: Crops that carry gratings.
        in_nyquist: Frequencies of the gratings, in units of the latent's Nyquist frequency.
        angles: Directions of the gratings, in degrees.
        amplitude: Of the gratings.
        cutoffs: Where images are low-passed, in cycles per pixel of the image.
        edges: Bands of the latent, in cycles per pixel of the latent.
        ruler_crops: Crops of :func:`ruler`, and as many others to compare with.
        ruler_resolution: Their side in pixels.
        device: Where to compute.
        seed: Seed of crops.
    """

    model: str = "kl-f4c16"
    parts: tuple[str, ...] = ("examine", "spectra", "cuts", "folding", "bands")
    block_size: int = 8
    examine_crops: int = 64
    examine_resolution: int = 128
    spectra_crops: int = 256
    spectra_resolution: int = 128
    cut_crops: int = 64
    cut_resolution: int = 64
    large_crops: int = 4
    large_resolution: int = 256
    cuts: tuple[float, ...] = CUTS
    grated_crops: int = 8
    in_nyquist: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 1.5, 2.5, 4.5)
    angles: tuple[float, ...] = (0.0, 90.0)
    amplitude: float = 0.25
    cutoffs: tuple[float, ...] = (0.05, 0.0625, 0.1, 0.2, 0.4)
    edges: tuple[float, ...] = EDGES
    ruler_crops: int = 256
    ruler_resolution: int = 64
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts:
            raise SettingsError(f"parts must be some of {', '.join(PARTS)}, got {unknown[0] if unknown else 'none'!r}")
        for name in ("examine_crops", "spectra_crops", "cut_crops", "large_crops", "grated_crops", "ruler_crops"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass
class Found:
    """What a part of a probe found: numbers, and curves, which are kept with five digits."""

    metrics: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float | Tensor) -> None:
        """One more point of a curve."""
        self.series.setdefault(name, []).append(float(f"{float(value):.5g}"))

    def __or__(self, other: Found) -> Found:
        return Found(self.metrics | other.metrics, self.series | other.series)


def round_series(series: dict[str, list[float]]) -> dict[str, list[float]]:
    """Five digits are enough for a curve, and keep the file small."""
    return {name: [float(f"{float(value):.5g}") for value in values] for name, values in series.items()}


def held_out(resolution: int, count: int, seed: int = 0) -> Tensor:
    """Crops ``(count, 3, R, R)`` of the photographs that nothing is trained on."""
    return data.stack(data.Photos(resolution, "test", seed=seed, length=count), range(count))


# ---------------------------------------------------------------------------------------------------------------------
# Parts


@torch.no_grad()
def spectra(autoencoder: Autoencoder, images: Tensor, seed: int = 0, block_size: int = 8) -> Found:
    """Profiles of posterior means, posterior samples and RGB at latent size, and reconstruction.

    Curves are ``STATISTIC_KIND`` for the kinds ``mean``, ``sample`` and ``rgb``, and ``channel_noise_share``, the
    posterior's part of each channel's variance.
    """
    generator = torch.Generator().manual_seed(seed)
    seen = {kind: spectrum.ProfileAccumulator(block_size) for kind in ("mean", "sample", "rgb")}
    decoded: list[Tensor] = []
    decoded_sample: list[Tensor] = []
    decode, decode_sample = autoencoder.decode_in_order(), autoencoder.decode_in_order()
    variance = noise_variance = 0.0
    channel_variance = channel_noise = torch.zeros(autoencoder.latent_channels)
    for x in images.split(32):
        posterior = autoencoder.encode(autoencoder.place(x))
        mean, std = posterior.mean.float().cpu(), posterior.std.float().cpu()
        sample = mean + std * torch.randn(mean.shape, generator=generator)
        seen["mean"].update(mean)
        seen["sample"].update(sample)
        seen["rgb"].update(data.resize_to(data.rgb01(x), *mean.shape[-2:]))
        decoded.append(decode(posterior.mean).float().cpu())
        decoded_sample.append(decode_sample(autoencoder.place(sample)).float().cpu())
        share, places = len(x) / len(images), (0, *range(2, mean.ndim))
        variance += mean.var().item() * share
        noise_variance += std.square().mean().item() * share
        channel_variance = channel_variance + mean.var(places) * share
        channel_noise = channel_noise + std.square().mean(places) * share
    noise_share = channel_noise / (channel_noise + channel_variance)  # of each channel's variance
    found = Found()
    found.metrics = {
        "held_out_psnr_db": metrics.psnr(images, torch.cat(decoded)).item(),
        "held_out_psnr_db_from_samples": metrics.psnr(images, torch.cat(decoded_sample)).item(),
        "variance_of_means": variance,
        "mean_posterior_variance": noise_variance,
        **{f"hf_energy_ratio_{kind}": a.high_frequency_energy_ratio() for kind, a in seen.items()},
        "silent_channels": float((noise_share > 0.5).sum()),
    }
    found.series = {
        f"{statistic}_{kind}": [float(f"{v:.5g}") for v in accumulator.profile(statistic).tolist()]
        for kind, accumulator in seen.items()
        for statistic in spectrum.STATISTICS
    }
    found.series["channel_noise_share"] = [float(f"{v:.4g}") for v in noise_share.tolist()]
    return found


def _truncate(x: Tensor, block_size: int) -> Tensor:
    """Half the sides, by an ideal low-pass: the lower half of each axis of every block of DCT coefficients."""
    half = block_size // 2
    return block_idct(block_dct(x, block_size)[..., :half, :half]) / 2  # / 2 keeps the mean of an orthonormal DCT


@torch.no_grad()
def cut_curves(
    autoencoder: Autoencoder,
    x: Tensor,
    large: Tensor,
    cuts: tuple[float, ...] = CUTS,
    scales: tuple[int, ...] = (2, 4),
    block_size: int = 8,
) -> Found:
    """What an autoencoder makes of latents without their high frequencies, by several ways to remove them.

    By cutting DCT ranks (Fig. 8 of Skorokhodov et al. 2025), by downsampling as scale equivariance trains it, and by
    two other kernels: averages of 2 x 2 and the lower half of each axis. ``large`` are a few pictures of another size.
    """
    f = autoencoder.compression
    z = autoencoder.encode(x).mean
    y = autoencoder.decode(z)
    found = Found()
    for ratio in cuts:
        z_cut = chop_high_frequencies(z, ratio, block_size) if ratio else z
        x_cut = chop_high_frequencies(x, ratio, f * block_size) if ratio else x
        y_cut = autoencoder.decode(z_cut) if ratio else y
        found.add("cut_ratio", ratio)
        found.add("psnr_db", metrics.psnr(x, y_cut))  # against the original
        found.add("psnr_db_to_cut_image", metrics.psnr(x_cut, y_cut))
        found.add("ssim", metrics.ssim(x, y_cut))
        found.add("latent_mse", (z - z_cut).square().mean())  # the energy that the cut removes
        found.add("picture_mse", (y - y_cut).square().mean())  # what of it the decoder shows
    for scale in scales:
        small_z, small_x = downsample(z, scale), downsample(x, scale)
        small_y = autoencoder.decode(small_z)
        enlarged = {"scale_factor": scale, "mode": "bilinear"}
        found.add("scale", scale)
        found.add("small_psnr_db", metrics.psnr(small_x, small_y))  # what scale equivariance trains
        found.add("small_enlarged_psnr_db", metrics.psnr(x, interpolate(small_y, **enlarged)))
        found.add("blurred_psnr_db", metrics.psnr(x, autoencoder.decode(interpolate(small_z, **enlarged))))
    found.metrics["latent_variance"] = z.var().item()
    box = metrics.psnr(avg_pool2d(x, 2), autoencoder.decode(avg_pool2d(z, 2)))
    ideal = metrics.psnr(_truncate(x, f * block_size), autoencoder.decode(_truncate(z, block_size)))
    found.metrics |= {"small_psnr_db_by_averages": box.item(), "small_psnr_db_by_truncation": ideal.item()}
    curve = metrics.cut_curve(autoencoder, large, cuts[::2], block_size)
    found.series |= {"large_cut_ratio": list(curve.ratios), "large_psnr_db": [round(db, 3) for db in curve.latent]}
    return found


def respond_to_cutoffs(
    autoencoder: Autoencoder, x: Tensor, cutoffs: Sequence[float], edges: Sequence[float] = EDGES
) -> Found:
    """How strong each band of the latent is when the images are low-passed, relative to the images as they are.

    Curves ``amplitude_A_B`` by ``cutoff``; ``high_band_ratio`` is the highest band's at the first cutoff: above 1 where
    images without their finest detail have stronger high frequencies in the latent.
    """
    cut = probes.latent_amplitude_by_cutoff(autoencoder, x, (*cutoffs, math.inf), edges).amplitude
    relative = (cut / cut[-1])[:-1]  # (cutoffs, bands)
    series = {
        "cutoff": list(cutoffs),
        **{f"amplitude_{a:g}_{b:g}": relative[:, i].tolist() for i, (a, b) in enumerate(pairwise(edges))},
    }
    return Found({"high_band_ratio": relative[0, -1].item()}, round_series(series))


def folding(autoencoder: Autoencoder, x: Tensor, settings: Probing) -> Found:
    """What becomes of gratings, and how strong each band of the latent is when the images are low-passed.

    Curves of gratings by ``in_nyquist``; ``amplitude_A_B`` by ``cutoff``, relative to the images as they are.
    """
    frequencies = [v * 0.5 / autoencoder.compression for v in settings.in_nyquist]
    background, side = x[: settings.grated_crops], x.shape[-1]
    transfer = aliasing.encoder_transfer(
        autoencoder, frequencies, settings.angles, side, settings.amplitude, background
    )
    series = {
        "in_nyquist": list(settings.in_nyquist),
        "relative_gain": (transfer.gain / transfer.gain[0]).tolist(),
        "folded_share": transfer.folded_share.tolist(),
        "spread_share": transfer.spread_share.tolist(),
        "reconstruction_error": transfer.reconstruction_error.tolist(),
    }
    response = respond_to_cutoffs(autoencoder, x, settings.cutoffs, settings.edges)
    return Found(series=round_series(series) | response.series)


def bands(autoencoder: Autoencoder, x: Tensor, settings: Probing) -> Found:
    """What the decoder needs of each band of the latent (``stake_*``), and what an image's band changes in them.

    ``stake_edge`` is the upper edge of a band; ``stake_without_db`` and ``stake_noised_db`` are the PSNR lost when the
    band is zero, and when its phases are noise; ``change_A_B`` is by band of the image.
    """
    need = probes.decoder_dependence(autoencoder, x, settings.edges, settings.seed)
    change = probes.encoder_perturbation(autoencoder, x, probes.EDGES, settings.edges)
    series = {
        "stake_edge": list(settings.edges[1:]),
        "stake_without_db": (need.psnr_whole - need.psnr_without).tolist(),
        "stake_noised_db": (need.psnr_whole - need.psnr_noised).tolist(),
        "image_edge": list(probes.EDGES[1:]),
        "rgb_energy_share": probes.rgb_energy_by_band(x, probes.EDGES).tolist(),
        **{f"change_{a:g}_{b:g}": change[:, i].tolist() for i, (a, b) in enumerate(pairwise(settings.edges))},
    }
    return Found({"stake_psnr_db": need.psnr_whole}, round_series(series))


@torch.no_grad()
def ruler(autoencoder: Autoencoder, settings: Probing) -> Found:
    """What known damage to latents costs in the offline features' distance to decoded real latents of other crops.

    Curves by band of DCT ranks, of which ``ruler_rank`` is the first: ``ruler_permuted`` across crops, and
    ``ruler_zeroed``; decoded noise and the latents as they are stand beside them. Posterior means, of crops of the
    training photographs: those held out are too few for a distance.
    """
    side, count, size = settings.ruler_resolution, settings.ruler_crops, 32
    features = offline_features().to(settings.device)

    def latents(seed: int) -> Tensor:
        crops = data.Photos(side, "train", seed=seed, length=count)
        batches = (data.stack(crops, range(i, min(i + size, count))) for i in range(0, count, size))
        return torch.cat([autoencoder.encode(autoencoder.place(batch)).mean for batch in batches])

    def decode(z: Tensor) -> Tensor:
        return autoencoder.decode(z).float().cpu()

    others = metrics.reference(yardsticks.decoded(decode, latents(settings.seed + 1), size), features, progress=False)
    bands_of = yardsticks.choose_bands(settings.block_size)
    found = yardsticks.measure_ruler(
        decode, latents(settings.seed), others, features, bands=bands_of, block_size=settings.block_size,
        seed=settings.seed, batch_size=size,
    )  # fmt: skip
    series = {
        "ruler_rank": [float(first) for first, _ in found.bands],
        "ruler_permuted": list(found.permuted),
        "ruler_zeroed": list(found.zeroed),
    }
    return Found({"ruler_noise": found.noise, "ruler_floor": found.floor}, round_series(series))


def _ruler(autoencoder: Autoencoder, x: Tensor, settings: Probing) -> Found:
    return ruler(autoencoder, settings)


def _examine(autoencoder: Autoencoder, x: Tensor, settings: Probing) -> Found:
    found = finetuning.examine(autoencoder, x, settings.block_size)
    series = {key: value for key, value in found.items() if isinstance(value, list)}
    return Found({key: value for key, value in found.items() if isinstance(value, float)}, round_series(series))


def _spectra(autoencoder: Autoencoder, x: Tensor, settings: Probing) -> Found:
    images = held_out(settings.spectra_resolution, settings.spectra_crops, settings.seed)
    return spectra(autoencoder, images, settings.seed, settings.block_size)


def _cuts(autoencoder: Autoencoder, x: Tensor, settings: Probing) -> Found:
    sizes = ((settings.cut_resolution, settings.cut_crops), (settings.large_resolution, settings.large_crops))
    small, large = (autoencoder.place(held_out(side, count, settings.seed)) for side, count in sizes)
    return cut_curves(autoencoder, small, large, settings.cuts, block_size=settings.block_size)


@torch.no_grad()
def codes(autoencoder: Autoencoder, images: Tensor, block_size: int = 8) -> Found:
    """Latents before and after quantisation, see :class:`~diffusab_core.metrics.quantisation.Quantisation`.

    ``codes_psnr_db_without`` is what the decoder, which has only seen codes, makes of the latents before. An
    ``AutoencoderError`` where nothing is quantised.
    """
    made, decoded = [], []
    for x in images.split(32):
        made.append(quantize(autoencoder, autoencoder.encode(autoencoder.place(x)).mean))
        decoded.append(decode_without(autoencoder, made[-1].before).float().cpu())
    whole = Codes(
        *(torch.cat([getattr(part, name).cpu() for part in made]) for name in ("before", "after", "index")),
        made[0].count,
    )
    found = measure_quantisation(whole, block_size)
    numbers = found.numbers() | {"codes_psnr_db_without": metrics.psnr(images, torch.cat(decoded)).item()}
    return Found(numbers, round_series(found.curves()))


def _codes(autoencoder: Autoencoder, x: Tensor, settings: Probing) -> Found:
    return codes(autoencoder, x, settings.block_size)


#: What can be measured, by name; each is given the crops of ``examine``.
PARTS: dict[str, Callable[[Autoencoder, Tensor, Probing], Found]] = {
    "examine": _examine, "spectra": _spectra, "cuts": _cuts, "folding": folding, "bands": bands,
    "ruler": _ruler, "codes": _codes,
}  # fmt: skip


def probe_autoencoder(
    settings: Probing, autoencoder: Autoencoder | None = None, tell: Callable[[str, Found], Any] | None = None
) -> Found:
    """Measure the chosen parts one after the other; ``tell`` is called with each when it is there.

    Args:
        autoencoder: What to measure instead of what ``settings.model`` opens, which then only names it.
    """
    if autoencoder is None:
        autoencoder = autoencoders.load(settings.model, settings.device, probe=settings.examine_resolution)
    x = held_out(settings.examine_resolution, settings.examine_crops, settings.seed)
    found = Found()
    for part in settings.parts:
        new = PARTS[part](autoencoder, x, settings)
        found = found | new
        if tell is not None:
            tell(part, new)
    return found
