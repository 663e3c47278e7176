"""What ``diffusab report`` measures of an autoencoder, as plain numbers.

Everything here is a frozen dataclass of numbers, names and tuples, so that a report is one JSON file and what is said
about it (:mod:`diffusab_book.report.diagnosis_findings`) is a pure function. A PSNR that would be infinite (two
identical images) is ``None``, in JSON ``null``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from diffusab_book.report.report_images import Images
from diffusab_book.report.report_types import DEFINITIONS, Options, Profile
from diffusab_core.experiments.records import RunRecord

FORMAT_VERSION = 1
Numbers = tuple[float | None, ...]


@dataclass(frozen=True)
class Plan:
    """How much of each measurement is done; the defaults keep a small model within a minute on one CPU core.

    Everything that needs the decoder once (reconstruction, scale equivariance) and everything that needs only the
    encoder once (spectrum, noise) sees every image; what needs them many times sees a subset drawn by the seed.

    Attributes:
        decoder_images: Images for the cut curve, decoder's dependence and amplitude by cutoff.
        shown_images: Images of which the page shows reconstructions by part.
        cut_ratios: Shares of a latent block's zigzag order that are cut; the first is 0, the reconstruction itself.
        scales: Factors of downsampling for scale equivariance.
        edges: Borders of the latent's frequency bands, cycles per latent pixel; the last is the corner √½.
        split_radius: Where the latent is split into a low and a high part, cycles per latent pixel.
        cutoffs: Low-pass radii of the images for the amplitude by cutoff, cycles per RGB pixel; the last lets
            everything pass.
        grating_size: Side of the images of gratings, in pixels; at most the resolution.
        grating_amplitude: Amplitude of a grating, of an image in [-1, 1].
        grating_images: Images that gratings are added to.
        grating_frequencies: Cycles per RGB pixel, about: each becomes an odd number of cycles over the image.
        angles: Directions in which gratings vary, degrees; 0 is horizontal.
    """

    decoder_images: int = 6
    shown_images: int = 2
    cut_ratios: tuple[float, ...] = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
    scales: tuple[int, ...] = (2, 4)
    edges: tuple[float, ...] = (0.0, 0.125, 0.25, 0.375, 0.5, 0.7072)
    split_radius: float = 0.25
    cutoffs: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.7072)
    grating_size: int = 128
    grating_amplitude: float = 0.2
    grating_images: int = 2
    grating_frequencies: tuple[float, ...] = (0.02, 0.04, 0.055, 0.09, 0.12, 0.165, 0.21, 0.27, 0.34, 0.4, 0.46)
    angles: tuple[float, ...] = (0.0, 45.0, 90.0)


@dataclass(frozen=True)
class Noise:
    r"""How much of a posterior sample :math:`z = \mu + \sigma\epsilon` is noise.

    Attributes:
        deterministic: Every :math:`\sigma` is zero; then all shares are zero and there is no KL.
        averaged_kl: KL to the standard normal, a mean over all numbers of the latent, in nats; ``None`` if infinite.
        share: :math:`\overline{\sigma^2} / (\overline{\sigma^2} + \operatorname{var} \mu)`, variances within channels,
            averaged over channels.
        by_channel: The same of each channel.
        by_frequency: The same of each DCT coefficient in zigzag order, the channels' means removed.
    """

    deterministic: bool
    averaged_kl: float | None
    share: float
    by_channel: tuple[float, ...] = field(repr=False)
    by_frequency: tuple[float, ...] = field(repr=False)

    @property
    def silent_channels(self) -> int:
        """Channels with more noise than signal."""
        return sum(share > 0.5 for share in self.by_channel)


@dataclass(frozen=True)
class Reconstruction:
    """Images decoded from posterior means against the originals, means over images.

    Attributes:
        images: How many.
        psnr_db: PSNR.
        psnr_spread_db: Its sample standard deviation over images; ``None`` of one image, or where one is exact.
        ssim: SSIM; ``None`` for images of fewer than 11 pixels.
        lpips: LPIPS (AlexNet), if its weights are on disk.
        lpips_digest: First 8 hex digits of the SHA-256 of those weights.
    """

    images: int
    psnr_db: float | None
    psnr_spread_db: float | None
    ssim: float | None
    lpips: float | None = None
    lpips_digest: str | None = None


@dataclass(frozen=True)
class Cut:
    """Reconstruction as more of the latent's high frequencies is cut, Skorokhodov et al. 2025, Fig. 8.

    Attributes:
        images: How many.
        ratios: Share of each block's zigzag order that is cut.
        latent_db: PSNR of what is decoded from the cut latent, against the original.
        rgb_db: PSNR of the image that was cut itself, in blocks as many times larger as the latent is smaller.
    """

    images: int
    ratios: tuple[float, ...]
    latent_db: Numbers
    rgb_db: Numbers


@dataclass(frozen=True)
class ScaleEquivariance:
    """Decoding a downsampled latent, Skorokhodov et al. 2025, Eq. 2; S is antialiased bilinear downsampling.

    Attributes:
        scales: Factors.
        to_image_db: PSNR of Dec(S z) against S x: the paper's target.
        to_reconstruction_db: PSNR of Dec(S z) against S Dec(z): equivariance itself, ``None`` where exact.
        ceiling_db: PSNR of S Dec(z) against S x: what the whole latent gives at that size.
    """

    scales: tuple[int, ...]
    to_image_db: Numbers
    to_reconstruction_db: Numbers
    ceiling_db: Numbers


@dataclass(frozen=True)
class Dependence:
    """What the decoder makes of a latent without some of its frequencies.

    Attributes:
        images: How many.
        edges: Borders of the bands, cycles per latent pixel; band i is above edge i and up to edge i + 1. The zero
            frequency belongs to none.
        whole_db: PSNR of the reconstruction.
        without_db: PSNR when a band is removed.
        noised_db: PSNR when a band is replaced by phase-randomised noise of its energy.
        split_radius: Radius of the split into a low and a high part, cycles per latent pixel.
        low_db: PSNR of what the low part alone decodes to.
        high_db: The same of the high part.
    """

    images: int
    edges: tuple[float, ...]
    whole_db: float | None
    without_db: Numbers
    noised_db: Numbers
    split_radius: float
    low_db: float | None
    high_db: float | None


@dataclass(frozen=True)
class Cutoff:
    """Mean latent amplitude by latent band when the encoder sees low-passed images (FreqWarm, Finding 3).

    Attributes:
        images: How many.
        radii: Low-pass radii of the images, cycles per RGB pixel; the last lets everything pass.
        edges: Borders of the latent's bands, cycles per latent pixel.
        amplitude: For each radius, for each band.
    """

    images: int
    radii: tuple[float, ...]
    edges: tuple[float, ...]
    amplitude: tuple[tuple[float, ...], ...] = field(repr=False)

    def relative(self, band: int) -> tuple[float, ...]:
        """A band's amplitudes over that of unfiltered images."""
        whole = self.amplitude[-1][band]
        return tuple(row[band] / whole if whole else 0.0 for row in self.amplitude)


@dataclass(frozen=True)
class GratingResponse:
    """What becomes of sinusoidal gratings, pooled over angles and phases; see :mod:`diffusab_core.metrics.aliasing`.

    Attributes:
        images: How many images the gratings were added to.
        side: Of these images, in pixels.
        frequencies: Cycles per RGB pixel.
        beyond_nyquist: Share of the gratings with an axis beyond the latent's Nyquist frequency.
        gain: Power of the latent response at the predicted frequency over the power of the grating; carries the square
            of the latent's unit.
        folded_share: Of the latent response's energy, what arrives folded: at the predicted frequency of gratings
            beyond the latent's Nyquist frequency. ``None`` without a response.
        spread_share: Of the same energy, what lies elsewhere than predicted.
        reconstruction_error: Error of the decoded grating over the grating, root mean square.
        latent_nyquist: 1 / (2f), f the compression, in cycles per RGB pixel; finer gratings fold.
    """

    images: int
    side: int
    frequencies: Numbers
    beyond_nyquist: Numbers
    gain: Numbers
    folded_share: Numbers
    spread_share: Numbers
    reconstruction_error: Numbers
    latent_nyquist: float

    @property
    def relative_gain(self) -> Numbers:
        """Gain over that of the coarsest grating, which compares across models."""
        first = self.gain[0]
        return tuple(gain / first if first and gain is not None else None for gain in self.gain)


@dataclass(frozen=True)
class Diagnosis:
    """Everything measured of one autoencoder.

    Attributes:
        profile: Its latents' spectrum, with name, source, shape and compression.
        parameters: Numbers in its weights; ``None`` if it does not say.
        noise: See :class:`Noise`, and so on.
        not_measured: Parts that could not be measured, with the reason; they are ``None`` above.
        pictures: For the page: per shown image the data URIs of whole, low and high part.
    """

    profile: Profile
    parameters: int | None
    noise: Noise
    reconstruction: Reconstruction
    cut: Cut | None = None
    dependence: Dependence | None = None
    scale: ScaleEquivariance | None = None
    cutoff: Cutoff | None = None
    gratings: GratingResponse | None = None
    not_measured: Mapping[str, str] = field(default_factory=dict)
    pictures: tuple[tuple[str, ...], ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The model's label."""
        return self.profile.name

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, the pictures left out."""
        found = asdict(self)
        del found["pictures"]
        found["noise"]["silent_channels"] = self.noise.silent_channels
        return found


@dataclass(frozen=True)
class DiagnosisReport:
    """Everything that one ``diffusab report`` measured.

    Attributes:
        options: As the command's; statistic, posterior and crop keep their defaults.
        plan: Sizes of the parts.
        models: One for each autoencoder.
        rgb: The spectrum of RGB at each latent size.
        rgb_edges: Borders of bands, cycles per RGB pixel.
        rgb_energy: Share of the images' energy, means removed, in each band (FreqWarm, Finding 2).
        images: Which images were used.
        subset: Which of them the parts with a subset saw.
        shown: Names of the images that pictures are shown of.
        originals: Their data URIs.
        record: The run record.
    """

    options: Options
    plan: Plan
    models: tuple[Diagnosis, ...]
    rgb: tuple[Profile, ...]
    rgb_edges: tuple[float, ...]
    rgb_energy: tuple[float, ...]
    images: Images = field(repr=False)
    subset: tuple[str, ...] = field(repr=False)
    shown: tuple[str, ...] = field(repr=False)
    originals: tuple[str, ...] = field(repr=False)
    record: RunRecord = field(repr=False)

    def rgb_like(self, model: Diagnosis) -> Profile:
        """RGB at the size of a model's latents."""
        return next(rgb for rgb in self.rgb if rgb.size == model.profile.size)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "format": "diffusab-report",
            "format_version": FORMAT_VERSION,
            "statistics": dict(DEFINITIONS),
            "options": asdict(self.options),
            "plan": asdict(self.plan),
            "models": [model.as_dict() for model in self.models],
            "rgb": [asdict(profile) for profile in self.rgb],
            "rgb_energy_by_band": {"edges": self.rgb_edges, "share": self.rgb_energy},
            "images": {
                "described": self.images.described,
                "used": list(self.images.names),
                "subset": list(self.subset),
                "skipped": [{"file": file, "reason": reason} for file, reason in self.images.skipped],
                "not_opened": self.images.not_opened,
            },
            "record": self.record.model_dump(mode="json"),
        }
