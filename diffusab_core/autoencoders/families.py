r"""What differs between diffusers' autoencoder classes, in one small table: :data:`FAMILIES`.

What one has to know before training one of them:

- ``AutoencoderDC``: a decoder configured with ``batch_norm`` (the released f32c32 ImageNet model) holds BatchNorm
  buffers: fine-tune it in ``eval()`` mode, or average the buffers with the weights. Its linear attention switches to
  another formula for latents of at most 32 positions.
- ``AutoencoderKLWan``: diffusers' ``decode`` clamps to [-1, 1], which has no gradient outside; here it does not. Tiling
  and slicing are not used. Features of past frames, which the class keeps on itself, are dropped after every call.
- ``AutoencoderKLLTXVideo``: decoders since 0.9.1 also take the amount of noise left in the latent, zero here. A decoder
  that injects noise is random all the same.
- ``AutoencoderKLCogVideoX`` works in pieces of eight frames, so that only clips of :math:`8k + 1` frames get their
  length back, although it compresses time fourfold.
- ``AutoencoderKLCosmos``, ``AutoencoderDC`` and ``VQModel`` are deterministic: their posterior is a point. That of
  ``VQModel`` lies before quantisation; decoding quantises, with gradients passed straight through, and the codebook
  learns from the ``commit_loss`` of ``module.decode`` only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from diffusab_core.files import DiffusabError


class AutoencoderError(DiffusabError, ValueError):
    """An autoencoder that cannot be found, built or opened; the message says what was tried and what to do."""


@dataclass(frozen=True)
class Posterior:
    r"""The encoder's diagonal Gaussian :math:`q(z \mid x) = \mathcal N(\mu, \sigma^2)`, a point where std is 0.

    Both are :math:`(N, C, h, w)`, or :math:`(N, C, t, h, w)` for clips.
    """

    mean: Tensor
    std: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        r""":math:`z = \mu + \sigma \epsilon`, differentiable in both; the generator must be on their device."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + self.std * noise


def point(z: Tensor) -> Posterior:
    """The posterior of a deterministic autoencoder."""
    return Posterior(z, torch.zeros_like(z))


def _encode_gaussian(module: nn.Module, x: Tensor) -> Posterior:
    posterior = module.encode(x).latent_dist
    return Posterior(posterior.mean, posterior.std)


def _decode_ltx(module: nn.Module, z: Tensor) -> Tensor:
    clean = z.new_zeros(len(z)) if module.config.timestep_conditioning else None  # (N,)
    return module.decode(z, clean).sample


def _encode_wan(module: nn.Module, x: Tensor) -> Posterior:
    try:
        return _encode_gaussian(module, x)
    finally:
        module.clear_cache()


def _decode_wan(module: nn.Module, z: Tensor) -> Tensor:
    # What AutoencoderKLWan.decode does up to its clamp, with the past frames' features in a local list.
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, unpatchify

    past: list[Tensor | None] = [None] * sum(isinstance(m, WanCausalConv3d) for m in module.decoder.modules())
    x = module.post_quant_conv(z)
    frames = enumerate(x.split(1, dim=2))
    pieces = [module.decoder(z_t, feat_cache=past, feat_idx=[0], first_chunk=t == 0) for t, z_t in frames]
    clip, patch = torch.cat(pieces, dim=2), module.config.patch_size
    return clip if patch is None else unpatchify(clip, patch)


def _halvings(blocks: Collection) -> int:
    return 2 ** (len(blocks) - 1)


@dataclass(frozen=True)
class Family:
    """What has to be known about a class of autoencoders; all functions take the module first."""

    #: Images ``(N, 3, H, W)``, or for video clips ``(N, 3, T, H, W)``, to their posterior, and back if it has a decoder
    encode: Callable[[nn.Module, Tensor], Posterior] = _encode_gaussian
    decode: Callable[[nn.Module, Tensor], Tensor] | None = lambda module, z: module.decode(z).sample
    #: How many times smaller the latent's sides are
    compression: Callable[[nn.Module], int] = lambda module: _halvings(module.config.block_out_channels)
    latent_channels: Callable[[nn.Module], int] = lambda module: module.config.latent_channels
    #: How many frames become one, after the first frame; ``None`` for image autoencoders
    temporal_compression: Callable[[nn.Module], int] | None = None
    #: Clips have a multiple of this many frames, plus one; ``None``: the temporal compression
    clip_step: Callable[[nn.Module], int] | None = None
    #: The decoder's last normalisation and output convolution, which fine-tuning leaves as they are
    last_layers: tuple[str, ...] = ("decoder.norm_out", "decoder.conv_out")
    up_blocks_reversed: bool = False  #: The decoder runs its ``up_blocks`` from the last index to the first


#: Diffusers' classes by name.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "AutoencoderKL": Family(last_layers=("decoder.conv_norm_out", "decoder.conv_out")),
        "VQModel": Family(
            encode=lambda module, x: point(module.encode(x).latents),
            latent_channels=lambda module: module.config.vq_embed_dim or module.config.latent_channels,
            last_layers=("decoder.conv_norm_out", "decoder.conv_out"),
        ),
        "AutoencoderDC": Family(
            encode=lambda module, x: point(module.encode(x).latent),
            compression=lambda module: _halvings(module.config.encoder_block_out_channels),
            up_blocks_reversed=True,
        ),
        "AutoencoderKLCogVideoX": Family(
            temporal_compression=lambda module: int(module.config.temporal_compression_ratio),
            clip_step=lambda module: module.num_sample_frames_batch_size,
        ),
        "AutoencoderKLLTXVideo": Family(
            decode=_decode_ltx,
            compression=lambda module: module.spatial_compression_ratio,
            temporal_compression=lambda module: module.temporal_compression_ratio,
        ),
        "AutoencoderKLWan": Family(
            encode=_encode_wan,
            decode=_decode_wan,
            compression=lambda module: _halvings(module.config.dim_mult) * (module.config.patch_size or 1),
            latent_channels=lambda module: module.config.z_dim,
            temporal_compression=lambda module: 2 ** sum(module.config.temperal_downsample),
            clip_step=lambda module: 4,  # its encoder takes four frames at a time and leaves out a rest
        ),
        "AutoencoderKLCosmos": Family(
            encode=lambda module, x: point(module.encode(x).latent_dist.mode()),
            compression=lambda module: module.config.spatial_compression_ratio,
            temporal_compression=lambda module: module.config.temporal_compression_ratio,
        ),
    }
)


def family_of(class_name: str | None, where: str) -> Family:
    """The entry of a class in :data:`FAMILIES`; ``where`` begins the message of the error if it has none."""
    if class_name not in FAMILIES:
        raise AutoencoderError(f"{where}: the class {class_name!r} is not supported, only {', '.join(FAMILIES)}")
    return FAMILIES[class_name]


def shift_and_scale(module: nn.Module, z: Tensor) -> tuple[Tensor | float, Tensor | float]:
    r"""What brings raw latents to zero mean and unit variance by :math:`(z - \text{shift}) \cdot \text{scale}`.

    Per channel, scale is ``scaling_factor / latents_std`` and shift ``latents_mean``, from the module's configuration
    (Wan; Cosmos, one value for each channel and latent frame) or the module itself (LTX's buffers, one's own model).
    Without these they are the numbers ``scaling_factor`` and ``shift_factor``. What is missing counts as 1 and 0. An
    ``AutoencoderError`` for more latent frames than there are statistics.
    """
    factor = _setting(module, "scaling_factor", 1.0)
    mean, std = _setting(module, "latents_mean"), _setting(module, "latents_std")
    if mean is None or std is None:
        return _setting(module, "shift_factor", 0.0), factor
    return _spread(mean, z), factor / _spread(std, z)


def _setting(module: nn.Module, name: str, default: float | None = None) -> Any:
    config = getattr(module, "config", None)
    asked = isinstance(config, Mapping) and name in config  # asking diffusers' modules themselves is deprecated
    value = config[name] if asked else getattr(config, name, getattr(module, name, None))
    return default if value is None else value


def _spread(values: Tensor | Collection[float], z: Tensor) -> Tensor:
    table = torch.as_tensor(values, dtype=z.dtype, device=z.device).reshape(z.shape[1], -1)  # (C, 1) or (C, frames)
    frames = z.shape[2] if z.ndim == 5 else 1
    most = table.shape[1]
    if most > 1 and frames > most:
        raise AutoencoderError(f"the model's statistics are for at most {most} latent frames, got {frames}")
    return table[:, :frames, None, None] if z.ndim == 5 else table[:, :1, None]  # (C, 1 or t, 1, 1) or (C, 1, 1)
