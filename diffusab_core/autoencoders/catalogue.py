r"""The autoencoders of the papers as data: class, configuration, latent, normalisation, weights and recipe.

Sizes are checked against the classes of diffusers by the tests. The recipes are Skorokhodov et al. 2025, App. B and
Table 5. "Toward Diffusible High-Dimensional Latent Spaces: A Frequency Perspective" (2025) leaves its autoencoders
untouched: its runs (LTX-AE and the last four entries) train a denoiser with and without a warm-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import diffusers
from torch import nn

from diffusab_core.autoencoders.families import AutoencoderError


@dataclass(frozen=True)
class Recipe:
    r"""How an autoencoder is fine-tuned (Skorokhodov et al. 2025, App. B and Table 5).

    The printed row of frozen up blocks and the printed row of parameters do not fit each other for FluxAE and
    CogVideoX-AE; both are kept. ``frozen_up_blocks`` is the printed row and the default,
    ``frozen_up_blocks_by_size`` the number of blocks at which the count of trained parameters is the printed one;
    print that count beside whichever is used (:func:`diffusab_core.autoencoders.families.trainable_count`).

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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class CatalogueEntry:
    """A published autoencoder.

    Attributes:
        name: The paper's name for it.
        class_name: The diffusers class; ``None`` if diffusers has none.
        config: Arguments of that class.
        compression: How many times smaller the latent's sides are than the image's.
        latent_channels: Channels of the latent.
        parameters: Size in millions.
        normalisation: Where the latents' shift and scale come from.
        temporal_compression: Frames that become one; 1 for image autoencoders.
        hub_id: Repository with the weights, or ``None`` where no published one is known.
        subfolder: Folder inside that repository.
        recipe: How it is fine-tuned for scale equivariance, or ``None``.
        freqwarm: Its run with FreqWarm, or ``None``.
        note: What else has to be known.
    """

    name: str
    class_name: str | None
    config: Mapping[str, Any] = field(repr=False)
    compression: int
    latent_channels: int
    parameters: float
    normalisation: str
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
        return getattr(diffusers, self.class_name)(**self.config)


# ---------------------------------------------------------------------------------------------------------------------
# Scale equivariance: Skorokhodov et al. 2025, Table 5

_FLUX = CatalogueEntry(
    name="FluxAE",
    class_name="AutoencoderKL",
    config=MappingProxyType(
        {
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
            "latent_channels": 16,
            "sample_size": 1024,
            "scaling_factor": 0.3611,
            "shift_factor": 0.1159,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        }
    ),
    compression=8,
    latent_channels=16,
    parameters=83.82,
    normalisation="scaling_factor and shift_factor",
    hub_id="black-forest-labs/FLUX.1-schnell",
    subfolder="vae",
    recipe=Recipe(
        steps=10_000,
        image_batch=32,
        video_batch=0,
        kl_beta=1e-3,
        learning_rate=1e-5,
        clip_norm=50.0,
        frozen_up_blocks=1,
        frozen_up_blocks_by_size=0,
        printed_parameters=83.8,
    ),
)

_COSMOS_IMAGE = CatalogueEntry(
    name="CMS-AE_I",
    class_name=None,
    config=MappingProxyType({}),
    compression=16,
    latent_channels=16,
    parameters=81.51,
    normalisation="the release's own mean and standard deviation",
    recipe=Recipe(
        steps=10_000,
        image_batch=32,
        video_batch=0,
        kl_beta=0.0,
        learning_rate=1e-4,
        clip_norm=50.0,
        frozen_up_blocks=3,
        frozen_up_blocks_by_size=3,
        printed_parameters=44.0,
    ),
    note=(
        "the Cosmos image tokenizer (2-D) is not in diffusers, whose AutoencoderKLCosmos is the 3-D one; "
        "bring NVIDIA's own implementation as a Python module"
    ),
)

_COGVIDEOX = CatalogueEntry(
    name="CogVideoX-AE",
    class_name="AutoencoderKLCogVideoX",
    config=MappingProxyType({"scaling_factor": 1.15258426}),
    compression=8,
    temporal_compression=4,
    latent_channels=16,
    parameters=215.58,
    normalisation="scaling_factor",
    hub_id="THUDM/CogVideoX-2b",
    subfolder="vae",
    recipe=Recipe(
        steps=20_000,
        image_batch=64,
        video_batch=32,
        kl_beta=1e-3,
        learning_rate=3e-4,
        clip_norm=1.0,
        frozen_up_blocks=0,
        frozen_up_blocks_by_size=1,
        printed_parameters=211.5,
        frames=17,
    ),
    note="the 5B release has the same architecture with a scaling_factor of 0.7",
)

_LTX = CatalogueEntry(
    name="LTX-AE",
    class_name="AutoencoderKLLTXVideo",
    config=MappingProxyType({}),
    compression=32,
    temporal_compression=8,
    latent_channels=128,
    parameters=419.19,
    normalisation="latents_mean and latents_std, buffers that come with the weights",
    hub_id="Lightricks/LTX-Video",
    subfolder="vae",
    recipe=Recipe(
        steps=20_000,
        image_batch=64,
        video_batch=32,
        kl_beta=1e-4,
        learning_rate=5e-5,
        clip_norm=50.0,
        frozen_up_blocks=0,
        frozen_up_blocks_by_size=0,
        printed_parameters=419.0,
        frames=17,
        mse_weight=5.0,
    ),
    freqwarm=FreqWarmRun(fid=(24.18, 18.05), inception_score=(61.60, 76.06)),
    note="version 0.9.0; Table 5 prints 32 channels, but its 419M parameters are those of 128",
)


# ---------------------------------------------------------------------------------------------------------------------
# Frequency warm-up: "Toward Diffusible High-Dimensional Latent Spaces" 2025


def _dc(channels: int, parameters: float, scaling_factor: float | None = None, **rest: Any) -> CatalogueEntry:
    stages = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    widths = (128, 256, 512, 512, 1024, 1024)
    config = {
        "latent_channels": channels,
        "encoder_block_types": stages,
        "decoder_block_types": stages,
        "encoder_block_out_channels": widths,
        "decoder_block_out_channels": widths,
        "encoder_layers_per_block": (0, 4, 8, 2, 2, 2),
        "decoder_layers_per_block": (0, 5, 10, 2, 2, 2),
        "encoder_qkv_multiscales": ((),) * 6,
        "decoder_qkv_multiscales": ((),) * 6,
        "decoder_norm_types": ("batch_norm",) * 3 + ("rms_norm",) * 3,
        "decoder_act_fns": ("relu",) * 3 + ("silu",) * 3,
    }
    if scaling_factor is not None:
        config["scaling_factor"] = scaling_factor
    return CatalogueEntry(
        name=f"DC-AE-f32c{channels}",
        class_name="AutoencoderDC",
        config=MappingProxyType(config),
        compression=32,
        latent_channels=channels,
        parameters=parameters,
        normalisation="scaling_factor" if scaling_factor else "none published: estimate it from latents",
        **rest,
    )


# fmt: off
_WAN_MEAN = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.157, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.052, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)
_WAN_STD = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)
# fmt: on

_WAN = CatalogueEntry(
    name="Wan2.2-AE",
    class_name="AutoencoderKLWan",
    config=MappingProxyType(
        {
            "base_dim": 160,
            "decoder_base_dim": 256,
            "z_dim": 48,
            "is_residual": True,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "scale_factor_spatial": 16,
            "scale_factor_temporal": 4,
            "latents_mean": _WAN_MEAN,
            "latents_std": _WAN_STD,
        }
    ),
    compression=16,
    temporal_compression=4,
    latent_channels=48,
    parameters=704.69,
    normalisation="latents_mean and latents_std",
    hub_id="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    subfolder="vae",
    freqwarm=FreqWarmRun(fid=(43.67, 29.56), inception_score=(33.48, 46.16)),
)

#: Autoencoders of the papers by the papers' names.
CATALOGUE: Mapping[str, CatalogueEntry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            _FLUX,
            _COSMOS_IMAGE,
            _COGVIDEOX,
            _LTX,
            _dc(
                32, 323.36, 0.3189, hub_id="mit-han-lab/dc-ae-f32c32-in-1.0-diffusers",
                freqwarm=FreqWarmRun(fid=(5.75, 5.74)),
            ),
            _dc(
                128, 325.13, note="released weights with f32c128 are of the later generations 1.1 and 1.5 only",
                freqwarm=FreqWarmRun(fid=(13.84, 9.42), inception_score=(85.40, 108.80)),
            ),
            _dc(
                512, 332.20, note="no released weights with f32c512 are known",
                freqwarm=FreqWarmRun(fid=(54.84, 42.66)),
            ),
            _WAN,
        )
    }
)  # fmt: skip
