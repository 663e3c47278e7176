r"""The autoencoders of the papers as data: class, configuration, latent, normalisation, weights and recipe.

The data are in ``catalogue.toml`` beside this file: Table 5 of Skorokhodov et al. 2025 and the runs of "Toward
Diffusible High-Dimensional Latent Spaces: A Frequency Perspective" (2025). Sizes are checked against the classes of
diffusers by the tests.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass
from torch import nn

from diffusab_core.autoencoders.families import AutoencoderError

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=STRICT)
class Recipe:
    r"""How an autoencoder is fine-tuned (Skorokhodov et al. 2025, App. B and Table 5).

    The printed row of frozen up blocks and the printed row of parameters do not fit each other for FluxAE and
    CogVideoX-AE; both are kept. ``frozen_up_blocks`` is the printed row and the default,
    ``frozen_up_blocks_by_size`` the number of blocks at which the count of trained parameters is the printed one;
    print that count beside whichever is used (:meth:`diffusab_core.autoencoders.Autoencoder.trainable_count`).

    Attributes:
        steps: Optimiser steps.
        image_batch: Images in a batch.
        video_batch: Clips in a batch.
        kl_beta: Weight :math:`\beta` of the KL term, averaged over channels and positions, where scale equivariance
            is off; with it there is no KL term.
        learning_rate: AdamW's.
        clip_norm: Gradient norm at which to clip.
        frozen_up_blocks: Up blocks frozen, as printed.
        frozen_up_blocks_by_size: Up blocks frozen, as the printed size implies.
        printed_parameters: The printed size, in millions.
        resolution: Side of images and frames in pixels.
        frames: Frames of a clip; ``None`` for image autoencoders.
        mse_weight: Weight of the mean squared error.
        lpips_weight: Weight of LPIPS.
        betas: AdamW's.
        weight_decay: AdamW's.
        ema_half_life: Half-life of the averaged weights in steps.
        precision: Mixed precision.
    """

    steps: int
    image_batch: int
    video_batch: int
    kl_beta: float
    learning_rate: float
    clip_norm: float
    frozen_up_blocks: int
    frozen_up_blocks_by_size: int
    printed_parameters: float
    resolution: int = 256
    frames: int | None = None
    mse_weight: float = 1.0
    lpips_weight: float = 1.0
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    ema_half_life: int = 5_000
    precision: str = "bf16"


@dataclass(frozen=True, config=STRICT)
class FreqWarmRun:
    """A denoiser trained with and without FreqWarm, and what the paper prints of it (ImageNet, no guidance).

    The paper does not print how long its warm-up is, nor the number of steps.

    Attributes:
        fid: Fréchet Inception distance without and with FreqWarm.
        inception_score: Without and with, where printed.
        denoiser: As :func:`diffusab_core.denoisers.build` names it.
        resolution: Side of the images in pixels.
        batch_size: Images in a step.
        r0: Cutoff of the warm-up in cycles per pixel.
    """

    fid: tuple[float, float]
    inception_score: tuple[float, float] | None = None
    denoiser: str = "USiT-H/1"
    resolution: int = 512
    batch_size: int = 4096
    r0: float = 0.2

    def commands(self, model: str, images: str, steps: int, warmup_steps: int, gpus: int = 8) -> tuple[str, ...]:
        """The full run from a shell: latents of whole images, then the two denoisers.

        The latents of low-passed images are extracted by the training that needs them.

        Args:
            model: Hub id or folder of the autoencoder's weights.
            images: Folder of images, a folder for each class, or shards.
            steps: Optimiser steps of both denoisers.
            warmup_steps: Those of them that the warm-up takes.
            gpus: On this machine.
        """
        train = f"torchrun --nproc-per-node {gpus} -m diffusab_book train latents"
        same = f"--denoiser {self.denoiser} --steps {steps} --batch-size {self.batch_size} --precision bf16"
        warm = f"--curriculum freqwarm --r0 {self.r0:g} --warmup-steps {warmup_steps}"
        return (
            f"diffusab extract {model} latents --images {images} --resolution {self.resolution} --labels",
            f"{train} baseline {same}",
            f"{train} freqwarm {same} {warm}",
        )


@dataclass(frozen=True, config=STRICT)
class CatalogueEntry:
    """A published autoencoder.

    Attributes:
        name: The paper's name for it.
        compression: How many times smaller the latent's sides are than the image's.
        latent_channels: Channels of the latent.
        parameters: Size in millions.
        normalisation: Where the latents' shift and scale come from.
        class_name: The diffusers class; ``None`` if diffusers has none.
        config: Arguments of that class.
        temporal_compression: Frames that become one; 1 for image autoencoders.
        hub_id: Repository with the weights, or ``None`` where no published one is known.
        subfolder: Folder inside that repository.
        recipe: How it is fine-tuned for scale equivariance, or ``None``.
        freqwarm: Its run with FreqWarm, or ``None``.
        note: What else has to be known.
    """

    name: str
    compression: int
    latent_channels: int
    parameters: float
    normalisation: str
    class_name: str | None = None
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    temporal_compression: int = 1
    hub_id: str | None = None
    subfolder: str | None = None
    recipe: Recipe | None = None
    freqwarm: FreqWarmRun | None = None
    note: str = ""

    def build(self) -> nn.Module:
        """The architecture with fresh weights (under ``torch.device("meta")``: without any).

        Raises:
            AutoencoderError: Diffusers has no such architecture.
        """
        if self.class_name is None:
            raise AutoencoderError(f"{self.name} cannot be built: {self.note}")
        import diffusers

        return getattr(diffusers, self.class_name)(**self.config)


def read(path: Path) -> dict[str, CatalogueEntry]:
    """A catalogue in TOML: a table for each model, ``[common.NAME]`` for configurations that ``config_like`` names.

    Raises:
        pydantic.ValidationError: A key is missing, unknown or of the wrong type; the message names the model.
    """
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    common = tables.pop("common", {})
    for name, table in tables.items():
        table["name"] = name
        table["config"] = common.get(table.pop("config_like", None), {}) | table.get("config", {})
    return TypeAdapter(dict[str, CatalogueEntry]).validate_python(tables)


#: Autoencoders of the papers by the papers' names.
CATALOGUE: Mapping[str, CatalogueEntry] = MappingProxyType(read(Path(__file__).with_name("catalogue.toml")))
