r"""Published autoencoders as data: class, configuration, latent, normalisation, weights and recipe.

``catalogue.toml`` holds Table 5 of Skorokhodov et al. 2025 and the runs of "Toward Diffusible High-Dimensional Latent
Spaces: A Frequency Perspective" (2025), ``published.toml`` what other people bring; the tests check all sizes against
the classes of diffusers.
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

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=STRICT)
class Recipe:
    r"""How an autoencoder is fine-tuned (Skorokhodov et al. 2025, App. B and Table 5).

    The printed rows of frozen up blocks and of parameters do not fit each other for FluxAE and CogVideoX-AE: print
    :meth:`diffusab_core.autoencoders.Autoencoder.trainable_count` beside whichever is used.
    """

    steps: int  #: Optimiser steps
    image_batch: int  #: Images in a batch
    video_batch: int  #: Clips in a batch
    kl_beta: float  #: Weight :math:`\beta` of the averaged KL term; with scale equivariance there is none
    learning_rate: float  #: AdamW's
    clip_norm: float  #: Gradient norm at which to clip
    frozen_up_blocks: int  #: Up blocks frozen, as printed; the default
    frozen_up_blocks_by_size: int  #: Up blocks frozen for as many trained parameters as printed
    printed_parameters: float  #: The printed size, in millions
    resolution: int = 256  #: Side of images and frames in pixels
    frames: int | None = None  #: Frames of a clip; ``None`` for image autoencoders
    mse_weight: float = 1.0  #: Weight of the mean squared error
    lpips_weight: float = 1.0  #: Weight of LPIPS
    betas: tuple[float, float] = (0.9, 0.99)  #: AdamW's
    weight_decay: float = 0.01  #: AdamW's
    ema_half_life: int = 5_000  #: Half-life of the averaged weights in steps
    precision: str = "bf16"  #: Mixed precision


@dataclass(frozen=True, config=STRICT)
class FreqWarmRun:
    """A denoiser trained with and without FreqWarm (ImageNet, no guidance); steps and warm-up are not printed."""

    fid: tuple[float, float]  #: Fréchet Inception distance without and with FreqWarm
    inception_score: tuple[float, float] | None = None  #: Without and with, where printed
    denoiser: str = "USiT-H/1"  #: As :func:`diffusab_core.denoisers.build` names it
    resolution: int = 512  #: Side of the images in pixels
    batch_size: int = 4096  #: Images in a step
    r0: float = 0.2  #: Cutoff of the warm-up in cycles per pixel

    def commands(self, model: str, images: str, steps: int, warmup_steps: int, gpus: int = 8) -> tuple[str, ...]:
        """The full run from a shell: latents of whole images, then the two denoisers (the second extracts the others).

        ``model`` is the weights' hub id or folder, ``images`` a folder for each class, or shards.
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
    """A published autoencoder."""

    name: str  #: The paper's name for it
    class_name: str  #: The class, diffusers' or this package's own
    compression: int  #: How many times smaller the latent's sides are than the image's
    latent_channels: int  #: Channels of the latent
    parameters: float  #: Size in millions
    normalisation: str  #: Where the latents' shift and scale come from
    config: dict[str, Any] = field(default_factory=dict, repr=False)  #: Arguments of that class
    temporal_compression: int = 1  #: Frames that become one; 1 for image autoencoders
    hub_id: str | None = None  #: Repository with the weights, or ``None`` where no published one is known
    subfolder: str | None = None  #: Folder inside that repository
    recipe: Recipe | None = None  #: How it is fine-tuned for scale equivariance, or ``None``
    freqwarm: FreqWarmRun | None = None  #: Its run with FreqWarm, or ``None``
    note: str = ""  #: What else has to be known

    def build(self) -> nn.Module:
        """The architecture with fresh weights; under ``torch.device("meta")``: without any."""
        return find_class(self.class_name)(**self.config)


def find_class(name: str) -> type | None:
    """A class of models by its name in ``config.json``: this package's own, or one of diffusers'."""
    import diffusers  # seconds: the catalogue itself is data

    from diffusab_core.autoencoders.cosmos import CosmosImageTokenizer
    from diffusab_core.autoencoders.diffusion import DiffusionAutoencoder

    own_classes = {kind.__name__: kind for kind in (CosmosImageTokenizer, DiffusionAutoencoder)}
    return own_classes.get(name) or getattr(diffusers, name, None)


def read(path: Path) -> dict[str, CatalogueEntry]:
    """A catalogue in TOML: a table for each model, ``[common.NAME]`` for configurations that ``config_like`` names.

    A ``pydantic.ValidationError`` names the model with a key that is missing, unknown or of the wrong type.
    """
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    common = tables.pop("common", {})
    for name, table in tables.items():
        table["name"] = name
        table["config"] = common.get(table.pop("config_like", None), {}) | table.get("config", {})
    return TypeAdapter(dict[str, CatalogueEntry]).validate_python(tables)


#: Autoencoders of the papers by the papers' names.
CATALOGUE: Mapping[str, CatalogueEntry] = MappingProxyType(read(Path(__file__).with_name("catalogue.toml")))

#: At least one published autoencoder of each class of diffusers that encodes and decodes images or clips.
PUBLISHED: Mapping[str, CatalogueEntry] = MappingProxyType(read(Path(__file__).with_name("published.toml")))
