"""What a report holds: plain numbers, names and tuples, so that it is one JSON file.

A PSNR that would be infinite (two identical images) is ``None``, in JSON ``null``. Radii and bands are in cycles per
pixel, of the latent or of the RGB image as said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from diffusab_book.report.images import Images
from diffusab_book.report.options import Options, Plan
from diffusab_core.experiments.records import RunRecord
from diffusab_core.spectrum import zigzag_order

FORMAT_VERSION = 2
Numbers = tuple[float | None, ...]

#: What each statistic is, in the words that go into the JSON and the page.
DEFINITIONS: Mapping[str, str] = {
    "mean_ratio": "mean over blocks of |D_uv / D_00|, as Skorokhodov et al. 2025 print it (Eq. 1); blocks with "
    "D_00 = 0 are left out, and the few with a D_00 near 0 can dominate it",
    "median_ratio": "median over blocks of |D_uv / D_00|, read from a histogram with bins 1% apart; blocks with "
    "D_00 = 0 are left out",
    "ratio_of_means": "mean over blocks of |D_uv|, divided by the mean over blocks of |D_00|",
    "energy": "mean over blocks of D_uv squared, divided by the mean over blocks of D_00 squared",
}


@dataclass(frozen=True)
class Profile:
    """The spectrum of one thing: ``kind`` is ``"rgb"``, ``"model"`` or ``"latents"``, ``source`` what was typed.

    Attributes:
        shape: Of one item, ``(C, h, w)`` or ``(C, T, h, w)``.
        items: How many images or latents.
        excluded_blocks: Of the ``blocks``, those with D_00 = 0, which the two statistics of ratios leave out.
        profiles: By statistic, B² values in zigzag order; ``None`` stands for a median beyond the histogram.
        high_frequency_energy_ratio: Mean energy of the upper half of the zigzag order over the energy of D_00.
        high_frequency_share: Share of the energy outside D_00 that lies in that half; does not depend on the offset
            of the values.
        compression: Image sides over latent sides, for models.
    """

    name: str
    kind: str
    source: str
    shape: tuple[int, ...]
    items: int
    blocks: int
    excluded_blocks: int
    profiles: Mapping[str, Numbers] = field(repr=False)
    high_frequency_energy_ratio: float
    high_frequency_share: float
    compression: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[-2], self.shape[-1]


@dataclass(frozen=True)
class Model:
    """What was measured of one autoencoder; of a profile, or a file of latents, the profile alone.

    Attributes:
        parts: By name, numbers of a part of a whole report, by theirs:

            - ``reconstruction``: posterior means decoded, against ``images`` originals: ``psnr_db`` with its standard
              deviation over images ``psnr_spread_db``, that of each image in its own mean colour ``flat_db`` (without
              images of one colour, which would have no error), ``ssim`` (needs 11 pixels), ``lpips`` and
              ``lpips_digest``;
            - ``cut``: :class:`~diffusab_core.metrics.pairs.CutCurve`;
            - ``noise``: :class:`~diffusab_core.metrics.noise.Noise`;
            - ``scale``: PSNR by factor (``scales``) of Dec(S z), S antialiased bilinear downsampling, ``to_image_db``
              S x, the paper's target (Skorokhodov et al. 2025, Eq. 2), and ``to_reconstruction_db`` S Dec(z),
              equivariance itself; ``ceiling_db``, of S Dec(z) against S x, is what the whole latent gives;
            - ``dependence``: :class:`~diffusab_core.metrics.probes.BandDependence`, and what the parts below and
              beyond ``split_radius`` decode to alone: ``low_db``, ``high_db``;
            - ``stake``: :class:`~diffusab_core.metrics.yardsticks.Ruler` over the offline features, against the same
              ``crops`` of ``side`` pixels decoded as they are, and the network's ``features_digest``;
            - ``gratings``: :class:`~diffusab_core.metrics.aliasing.Transfer` on ``images`` of ``side`` pixels, and
              ``latent_nyquist``, 1 / (2f) cycles per RGB pixel;
            - ``cutoff``: :class:`~diffusab_core.metrics.probes.CutoffResponse`;
            - ``diffusability``, where a calibration is shipped: :meth:`diffusab_book.report.score.Crops.measure`.
        not_measured: Parts that could not be measured, with the reason.
        weights: How many numbers the weights are; ``None`` if the model does not say.
        pictures: For the page: per shown image the data URIs of what whole, low and high part decode to.
    """

    profile: Profile
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    not_measured: Mapping[str, str] = field(default_factory=dict)
    weights: int | None = None
    pictures: tuple[tuple[str, ...], ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The model's label."""
        return self.profile.name


@dataclass(frozen=True)
class Report:
    """Everything that was measured in one go; without a plan, the profiles alone.

    Attributes:
        rgb: The spectrum of RGB at each latent size.
        rgb_energy: Share of the images' energy, means removed, in each band of the plan (FreqWarm, Finding 2).
        subset: Which images the parts with a subset saw.
        shown: Names of the images that pictures are shown of, with their data URIs.
    """

    options: Options
    plan: Plan | None
    models: tuple[Model, ...]
    rgb: tuple[Profile, ...]
    images: Images = field(repr=False)
    record: RunRecord = field(repr=False)
    rgb_energy: Numbers = ()
    subset: tuple[str, ...] = field(default=(), repr=False)
    shown: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def kind(self) -> str:
        """``"report"``, or ``"profile"`` without a plan; also names the files."""
        return "profile" if self.plan is None else "report"

    def rgb_like(self, model: Model) -> Profile:
        """RGB at the size of a model's latents."""
        return next(rgb for rgb in self.rgb if rgb.size == model.profile.size)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON values, pictures left out."""
        order, b = zigzag_order(self.options.block_size), self.options.block_size
        models = [
            {"profile": asdict(m.profile), "parameters": m.weights, **m.parts, "not_measured": dict(m.not_measured)}
            for m in self.models
        ]
        found = {
            "format": f"diffusab-{self.kind}",
            "format_version": FORMAT_VERSION,
            "statistics": dict(DEFINITIONS),
            "drawn": self.options.statistic,
            "frequencies": {
                "block_size": b,
                "order": "zigzag, u vertical and v horizontal frequency",
                "u": (order // b).tolist(),
                "v": (order % b).tolist(),
            },
            "options": self.options.as_values(),
            "models": models,
            "rgb": [asdict(profile) for profile in self.rgb],
            "images": {
                "described": self.images.described,
                "used": self.images.used,
                "skipped": [{"file": file, "reason": reason} for file, reason in self.images.skipped],
                "not_opened": self.images.not_opened,
            },
            "record": self.record.model_dump(mode="json"),
        }
        if self.plan is not None:
            found["plan"] = asdict(self.plan)
            found["rgb_energy_by_band"] = {"edges": self.plan.rgb_edges, "share": self.rgb_energy}
            found["images"]["subset"] = self.subset
        return found
