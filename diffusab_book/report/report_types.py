"""What a profile report is asked for and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from diffusab_book.report.report_images import Images
from diffusab_core.experiments.records import RunRecord
from diffusab_core.spectrum import STATISTICS, zigzag_order

FORMAT_VERSION = 1
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CROPS = ("center", "random")
POSTERIORS = ("mean", "sample")

#: What each statistic is, in the words that go into the JSON and the page.
DEFINITIONS: Mapping[str, str] = {
    "mean_ratio": "mean over blocks of |D_uv / D_00|, as Skorokhodov et al. 2025 print it (Eq. 1); blocks with "
    "D_00 = 0 are left out, and the few with a D_00 near 0 can dominate it",
    "median_ratio": "median over blocks of |D_uv / D_00|, read from a histogram with bins 1% apart; blocks with "
    "D_00 = 0 are left out",
    "ratio_of_means": "mean over blocks of |D_uv|, divided by the mean over blocks of |D_00|",
    "energy": "mean over blocks of D_uv squared, divided by the mean over blocks of D_00 squared",
}


class ReportError(ValueError):
    """A report that cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        samples: How many images, at most; of latents, how many items.
        resolution: Side of the square images in pixels.
        crop: ``"center"`` or ``"random"``. ``None`` is the centre for a folder; the built-in photographs are always
            cut at random.
        block_size: Side of a DCT block, on the latents and on RGB at latent size alike.
        statistic: Which of :data:`~diffusab_core.spectrum.STATISTICS` is drawn; all are measured.
        posterior: ``"mean"`` or ``"sample"``: which latent of an image is taken.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        dtype: Precision the models run in; spectra are float32.
        batch_size: Images encoded at a time.
        seed: Seed of the choice of images, of crops and of posterior samples.

    Raises:
        ReportError: A value that is not allowed.
    """

    samples: int = 256
    resolution: int = 256
    crop: str | None = None
    block_size: int = 8
    statistic: str = "ratio_of_means"
    posterior: str = "mean"
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("resolution", 1), ("block_size", 2), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ReportError(f"{_flag(name)} must be at least {least}, got {getattr(self, name)}")
        allowed = {"statistic": STATISTICS, "posterior": POSTERIORS, "dtype": tuple(DTYPES), "crop": (*CROPS, None)}
        for name, choices in allowed.items():
            if getattr(self, name) not in choices:
                listed = ", ".join(choice for choice in choices if choice)
                raise ReportError(f"{_flag(name)} {getattr(self, name)!r} is unknown; choose one of {listed}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Profile:
    """What was measured of one thing.

    Attributes:
        name: Its label.
        kind: ``"rgb"``, ``"model"`` or ``"latents"``.
        source: Where it came from, as it was given.
        shape: Of one item, ``(C, h, w)`` or ``(C, T, h, w)``.
        items: How many images or latents.
        blocks: How many DCT blocks.
        excluded_blocks: Those with D_00 = 0, which the two statistics of ratios leave out.
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
    profiles: Mapping[str, list[float | None]] = field(repr=False)
    high_frequency_energy_ratio: float
    high_frequency_share: float
    compression: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[-2], self.shape[-1]


@dataclass(frozen=True)
class Report:
    """Everything that was measured in one go; ``rgb`` has one profile for each latent size."""

    options: Options
    models: tuple[Profile, ...]
    rgb: tuple[Profile, ...]
    images: Images = field(repr=False)
    record: RunRecord = field(repr=False)

    def rgb_like(self, model: Profile) -> Profile:
        """RGB at the size of a model's latents."""
        return next(rgb for rgb in self.rgb if rgb.size == model.size)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        order, b = zigzag_order(self.options.block_size), self.options.block_size
        return {
            "format": "diffusab-profile",
            "format_version": FORMAT_VERSION,
            "statistics": dict(DEFINITIONS),
            "drawn": self.options.statistic,
            "frequencies": {
                "block_size": b,
                "order": "zigzag, u vertical and v horizontal frequency",
                "u": (order // b).tolist(),
                "v": (order % b).tolist(),
            },
            "rgb": [asdict(profile) for profile in self.rgb],
            "models": [asdict(profile) for profile in self.models],
            "images": {
                "described": self.images.described,
                "used": list(self.images.names),
                "skipped": [{"file": file, "reason": reason} for file, reason in self.images.skipped],
                "not_opened": self.images.not_opened,
            },
            "options": asdict(self.options),
            "record": self.record.model_dump(mode="json"),
        }
