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
- ``AutoencoderKLCosmos``, ``AutoencoderDC``, ``VQModel`` and this package's ``CosmosImageTokenizer`` are
  deterministic: their posterior is a point. That of ``VQModel`` lies before quantisation; decoding quantises, with
  gradients passed straight through, and the codebook learns from the ``commit_loss`` of ``module.decode`` only.
  ``AutoencoderVidTok`` with ``fsq`` is treated likewise.

What one has to know before measuring one of them:

- ``AutoencoderKLFlux2`` normalises its latents by a batch norm over patches of 2 × 2 latent pixels, so that shift and
  scale alternate from pixel to pixel. The latents themselves are left as they are.
- ``AutoencoderRAE`` normalises inside ``encode`` and takes one size of images. Its encoder is a frozen feature network.
- ``AutoencoderKLKVAEVideo`` says a standard deviation of 1, which is no property of its encoder: here it is a point.
- ``AutoencoderKLAllegro`` has no frame of its own at the start: clips have a multiple of four frames, and an image is a
  still clip. Diffusers works in tiles only; here it does not.
- ``AutoencoderKLMiniMaxH3``, ``AutoencoderKLHunyuanImageRefiner`` and ``AutoencoderKLQwenImage21`` are used for images
  only. Those of the last have an alpha channel, which is opaque here. ``AutoencoderKLTemporalDecoder`` decodes each
  image by itself.
- ``ConsistencyDecoderVAE`` decodes by sampling, here with the same noise each time. ``DiffusionAutoencoder``, this
  package's own (:mod:`diffusab_core.autoencoders.diffusion`), does too, with noise that depends on seed and image.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from diffusab_core.autoencoders.names import AutoencoderError


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

    clip = _decode_frame_by_frame(module, z, WanCausalConv3d)
    return clip if module.config.patch_size is None else unpatchify(clip, module.config.patch_size)


def _decode_qwen(module: nn.Module, z: Tensor) -> Tensor:
    from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d

    return _decode_frame_by_frame(module, z, QwenImageCausalConv3d, starts=False)


def _decode_qwen21(module: nn.Module, z: Tensor) -> Tensor:
    from diffusers.models.autoencoders import autoencoder_kl_qwenimage21 as qwen

    clip, patch = _decode_frame_by_frame(module, z.unsqueeze(2), qwen.QwenImage21CausalConv3d), module.config.patch_size
    return (clip if patch is None else qwen._unpatchify(clip, patch)).squeeze(2)


def _decode_frame_by_frame(module: nn.Module, z: Tensor, convolution: type[nn.Module], starts: bool = True) -> Tensor:
    past: list[Tensor | None] = [None] * sum(isinstance(m, convolution) for m in module.decoder.modules())
    x = module.post_quant_conv(z)
    first = [{"first_chunk": t == 0} if starts else {} for t in range(x.shape[2])]
    frames = zip(x.split(1, dim=2), first, strict=True)
    return torch.cat([module.decoder(z_t, feat_cache=past, feat_idx=[0], **how) for z_t, how in frames], dim=2)


def _encode_as_clip(encode: Callable[[nn.Module, Tensor], Posterior]) -> Callable[[nn.Module, Tensor], Posterior]:
    """For a class that has a time axis and is used for images only."""

    def of_image(module: nn.Module, x: Tensor) -> Posterior:
        posterior = encode(module, x.unsqueeze(2))
        return Posterior(posterior.mean.squeeze(2), posterior.std.squeeze(2))

    return of_image


def _encode_one_by_one(module: nn.Module, x: Tensor) -> Posterior:
    """For a class whose attention fails for more than one clip."""
    found = [_encode_gaussian(module, one) for one in x.split(1)]
    return Posterior(torch.cat([p.mean for p in found]), torch.cat([p.std for p in found]))


def _per_frame(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer for images on each frame of clips ``(N, C, T, h, w)``."""
    return layer(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).transpose(1, 2)


def _encode_allegro(module: nn.Module, x: Tensor) -> Posterior:
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    posterior = DiagonalGaussianDistribution(_per_frame(module.quant_conv, module.encoder(x)))
    return Posterior(posterior.mean, posterior.std)


def _decode_minimax(module: nn.Module, z: Tensor) -> Tensor:
    # Its decode() knows clips only; one latent frame is a clip of which all but the last frame are padding.
    return module._decode_clip(z.unsqueeze(2))[:, :, module.frame_pre_padding]


def _encode_vidtok(module: nn.Module, x: Tensor) -> Posterior:
    x = torch.cat([x[:, :, :1].repeat(1, 1, module.temporal_compression_ratio - 1, 1, 1), x], dim=2)
    return point(module._encode(x)) if module.regularizer == "fsq" else _encode_gaussian(module, x)


def _decode_vidtok(module: nn.Module, z: Tensor) -> Tensor:
    return module.decode(module.regularization(z)[0] if module.regularizer == "fsq" else z)


def _encode_rae(module: nn.Module, x: Tensor) -> Posterior:
    return point(module.encode((x + 1) / 2).latent)  # its images are in [0, 1]


def _decode_consistency(module: nn.Module, z: Tensor) -> Tensor:
    generator = torch.Generator(device="cpu").manual_seed(0)
    return module.decode(z, generator=generator).sample


def _halvings(blocks: Collection) -> int:
    return 2 ** (len(blocks) - 1)


def _ltx2_halvings(module: nn.Module, axis: str) -> int:
    # The class's own ratios count every block as spatial and temporal unless its configuration names them.
    kinds, scales = module.config.downsample_type, module.config.spatio_temporal_scaling
    scales = [scales] * len(kinds) if isinstance(scales, bool) else scales
    return 2 ** sum(on and kind in (axis, "spatiotemporal") for kind, on in zip(kinds, scales, strict=True))


def _in_channels(module: nn.Module) -> int:
    channels = getattr(getattr(module, "config", None), "in_channels", 3)
    return channels if isinstance(channels, int) else 3


def _out_channels(module: nn.Module) -> int:
    channels = getattr(getattr(module, "config", None), "out_channels", None)
    return channels if isinstance(channels, int) else _in_channels(module)


def _unpatched(channels: int, module: nn.Module) -> int:
    return channels // (module.config.patch_size or 1) ** 2


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
    #: The first frame of a clip is a latent frame by itself; else clips have a multiple of the step, without plus one
    first_frame_alone: bool = True
    #: Channels of the images that the module itself takes and gives: 3 for RGB, 1 for grey, 4 with an alpha channel
    image_channels: Callable[[nn.Module], tuple[int, int]] = lambda module: (
        _in_channels(module),
        _out_channels(module),
    )
    has_alpha: bool = False  #: A fourth channel of images is how opaque they are
    side: Callable[[nn.Module], int] | None = None  #: The only side in pixels of images that it takes; ``None``: any
    #: Shift and scale of raw latents; see :func:`shift_and_scale`
    shift_and_scale: Callable[[nn.Module, Tensor], tuple[Tensor | float, Tensor | float]] = lambda module, z: (
        shift_and_scale(module, z)
    )
    normalised_by: str | None = None  #: That in words; ``None``: :func:`describe_normalisation` looks at the module
    #: Beginnings of the names of the decoder's parameters
    decoder: tuple[str, ...] = ("decoder.", "post_quant_conv.")
    #: The decoder's last normalisation and output convolution, which fine-tuning leaves as they are
    last_layers: tuple[str, ...] | Callable[[nn.Module], tuple[str, ...]] = ("decoder.norm_out", "decoder.conv_out")
    up_blocks: tuple[str, ...] = ("up_blocks",)  #: What the decoder calls its blocks; several lists go together
    up_blocks_reversed: bool = False  #: The decoder runs its ``up_blocks`` from the last index to the first
    decoder_samples: bool = False  #: ``decode`` takes steps, guidance, seed and index, and has no gradient
    untrainable: str = ""  #: Why it cannot be fine-tuned
    encoder_frozen: str = ""  #: Why its decoder alone can be fine-tuned
    needs: str = ""  #: Package without which diffusers does not build it


_CONV_NORM_OUT = ("decoder.conv_norm_out", "decoder.conv_out")

#: Diffusers' classes by name: all that encode and decode images or clips.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "AutoencoderKL": Family(last_layers=_CONV_NORM_OUT),
        "VQModel": Family(
            encode=lambda module, x: point(module.encode(x).latents),
            latent_channels=lambda module: module.config.vq_embed_dim or module.config.latent_channels,
            last_layers=_CONV_NORM_OUT,
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
            image_channels=lambda module: (
                _unpatched(module.config.in_channels, module),
                _unpatched(module.config.out_channels, module),
            ),
        ),
        "AutoencoderKLCosmos": Family(
            encode=lambda module, x: point(module.encode(x).latent_dist.mode()),
            compression=lambda module: module.config.spatial_compression_ratio,
            temporal_compression=lambda module: module.config.temporal_compression_ratio,
        ),
        "AsymmetricAutoencoderKL": Family(
            compression=lambda module: _halvings(module.config.down_block_out_channels), last_layers=_CONV_NORM_OUT
        ),
        "AutoencoderKLAllegro": Family(
            encode=_encode_allegro,
            decode=lambda module, z: module.decoder(_per_frame(module.post_quant_conv, z)),
            temporal_compression=lambda module: int(module.config.temporal_compression_ratio),
            first_frame_alone=False,
            last_layers=("decoder.conv_norm_out", "decoder.temp_conv_out", "decoder.conv_out"),
        ),
        "AutoencoderKLFlux2": Family(
            shift_and_scale=lambda module, z: _shift_and_scale_patches(module, z),
            normalised_by="batch norm of 2 × 2 patches, buffers that come with the weights",
            last_layers=_CONV_NORM_OUT,
        ),
        "AutoencoderKLHunyuanImage": Family(compression=lambda module: module.config.spatial_compression_ratio),
        "AutoencoderKLHunyuanImageRefiner": Family(
            encode=_encode_as_clip(_encode_gaussian),
            decode=lambda module, z: module.decode(z.unsqueeze(2)).sample.squeeze(2),
            compression=lambda module: module.spatial_compression_ratio,
        ),
        "AutoencoderKLHunyuanVideo": Family(
            compression=lambda module: module.spatial_compression_ratio,
            temporal_compression=lambda module: module.temporal_compression_ratio,
            last_layers=_CONV_NORM_OUT,
        ),
        "AutoencoderKLHunyuanVideo15": Family(
            encode=_encode_one_by_one,
            decode=lambda module, z: torch.cat([module.decode(one).sample for one in z.split(1)]),
            compression=lambda module: module.spatial_compression_ratio,
            temporal_compression=lambda module: module.temporal_compression_ratio,
        ),
        "AutoencoderKLKVAE": Family(
            compression=lambda module: _halvings(module.config.ch_mult),
            latent_channels=lambda module: module.config.z_channels,
            up_blocks=("up",),
            up_blocks_reversed=True,
        ),
        "AutoencoderKLKVAEVideo": Family(
            encode=lambda module, x: point(module.encode(x).latent_dist.mode()),
            compression=lambda module: _halvings(module.config.ch_mult),
            latent_channels=lambda module: module.config.z_channels,
            temporal_compression=lambda module: module.config.temporal_compress_times,
            image_channels=lambda module: (module.config.in_channels, module.config.out_ch),
            up_blocks=("up",),
            up_blocks_reversed=True,
        ),
        "AutoencoderKLLTX2Video": Family(
            decode=_decode_ltx,
            compression=lambda module: module.config.patch_size * _ltx2_halvings(module, "spatial"),
            temporal_compression=lambda module: module.config.patch_size_t * _ltx2_halvings(module, "temporal"),
        ),
        "AutoencoderKLMagvit": Family(
            compression=lambda module: module.spatial_compression_ratio,
            temporal_compression=lambda module: module.temporal_compression_ratio,
            clip_step=lambda module: module.num_sample_frames_batch_size,
            last_layers=_CONV_NORM_OUT,
        ),
        "AutoencoderKLMiniMaxH3": Family(
            encode=_encode_as_clip(_encode_gaussian),
            decode=_decode_minimax,
            compression=lambda module: module.spatial_compression_ratio,
            last_layers=("decoder.norm_out", "decoder.proj_out"),
            up_blocks=("transformer_blocks",),
        ),
        "AutoencoderKLMochi": Family(
            compression=lambda module: module.spatial_compression_ratio,
            temporal_compression=lambda module: module.temporal_compression_ratio,
            image_channels=lambda module: (3, module.config.out_channels),  # in_channels counts Fourier features
            last_layers=("decoder.proj_out",),
        ),
        "AutoencoderKLQwenImage": Family(
            encode=_encode_wan,
            decode=_decode_qwen,
            compression=lambda module: module.spatial_compression_ratio,
            latent_channels=lambda module: module.config.z_dim,
            temporal_compression=lambda module: 2 ** sum(module.config.temperal_downsample),
            clip_step=lambda module: 4,
            image_channels=lambda module: (module.config.input_channels,) * 2,
        ),
        "AutoencoderKLQwenImage21": Family(
            encode=_encode_as_clip(_encode_wan),
            decode=_decode_qwen21,
            compression=lambda module: _halvings(module.config.dim_mult) * (module.config.patch_size or 1),
            latent_channels=lambda module: module.config.z_dim,
            image_channels=lambda module: (
                _unpatched(module.config.in_channels, module),
                _unpatched(module.config.out_channels, module),
            ),
            has_alpha=True,
        ),
        "AutoencoderKLTemporalDecoder": Family(
            decode=lambda module, z: module.decode(z, num_frames=1).sample,
            decoder=("decoder.",),
            last_layers=(*_CONV_NORM_OUT, "decoder.time_conv_out"),
        ),
        "AutoencoderRAE": Family(
            encode=_encode_rae,
            decode=lambda module, z: module.decode(z).sample * 2 - 1,
            compression=lambda module: module.decoder_patch_size,
            latent_channels=lambda module: module.config.encoder_hidden_size,
            image_channels=lambda module: (3, module.config.num_channels),
            side=lambda module: module.decoder_image_size,
            shift_and_scale=lambda module, z: (0.0, 1.0),
            normalised_by="inside the encoder",
            last_layers=("decoder.decoder_norm", "decoder.decoder_pred"),
            up_blocks=("decoder_layers",),
            encoder_frozen="its encoder is a frozen feature network",
            needs="transformers",
        ),
        "AutoencoderTiny": Family(
            encode=lambda module, x: point(module.encode(x).latents),
            compression=lambda module: _halvings(module.config.encoder_block_out_channels),
            last_layers=lambda module: (f"decoder.layers.{len(module.decoder.layers) - 1}",),
        ),
        "AutoencoderVidTok": Family(
            encode=_encode_vidtok,
            decode=_decode_vidtok,
            compression=lambda module: 2 ** len(module.encoder.spatial_ds),
            latent_channels=lambda module: module.config.z_channels,
            temporal_compression=lambda module: module.temporal_compression_ratio,
            up_blocks=("up", "up_temporal"),
            up_blocks_reversed=True,
        ),
        "ConsistencyDecoderVAE": Family(
            decode=_decode_consistency,
            compression=lambda module: _halvings(module.config.encoder_block_out_channels),
            image_channels=lambda module: (module.config.encoder_in_channels, 3),
            decoder=("decoder_unet.",),
            last_layers=("decoder_unet.conv_norm_out", "decoder_unet.conv_out"),
            untrainable="its decoder is a consistency model, which samples instead of reconstructing",
        ),
        "Kandinsky6SRVAE": Family(
            compression=lambda module: module.spatial_compression_ratio,
            temporal_compression=lambda module: module.temporal_compression_ratio,
            up_blocks=("up",),
            up_blocks_reversed=True,
        ),
    }
)

#: This package's own classes.
OWN_FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "DiffusionAutoencoder": Family(
            decode=lambda module, z, **how: module.decode(z, **how).sample,
            decoder=("decoder.", "null"),
            last_layers=(),
            decoder_samples=True,
            untrainable="its decoder samples instead of reconstructing; train-autoencoder trains it",
        ),
        "CosmosImageTokenizer": Family(
            encode=lambda module, x: point(module.encode(x).latent),
            compression=lambda module: module.config.spatial_compression,
            last_layers=_CONV_NORM_OUT,
        ),
    }
)

#: All classes by name.
KNOWN: Mapping[str, Family] = MappingProxyType({**FAMILIES, **OWN_FAMILIES})

#: Diffusers' classes with an ``encode`` or a ``decode`` that are no autoencoders of images, and what they are for.
OF_OTHER_THINGS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "AutoencoderKLKVAEAudio", "AutoencoderKLLTX2Audio", "AutoencoderKLMiniMaxH3Audio", "AutoencoderOobleck",
                "AutoencoderSAME", "Cosmos3AVAEAudioTokenizer", "LongCatAudioDiTVae", "MMAudioVAE",
            ),
            "is an autoencoder of sound",
        ),
        "RFD4ProteinaAutoencoder": "is an autoencoder of proteins",
        "LTX2VideoDiffusionDecoderModel": "is a decoder without an encoder",
    }
)  # fmt: skip


def family_of(class_name: str | None, where: str) -> Family:
    """The entry of a class in :data:`KNOWN`; ``where`` begins the message of the error if it has none."""
    if class_name in OF_OTHER_THINGS:
        raise AutoencoderError(f"{where}: {class_name} {OF_OTHER_THINGS[class_name]}")
    if class_name not in KNOWN:
        raise AutoencoderError(f"{where}: the class {class_name!r} is not supported, only {', '.join(KNOWN)}")
    family = KNOWN[class_name]
    if family.needs and importlib.util.find_spec(family.needs) is None:
        raise AutoencoderError(f"{where}: {class_name} needs the package {family.needs}: pip install {family.needs}")
    return family


def check_trainable(family: Family, name: str, decoder_only: bool) -> None:
    """An ``AutoencoderError`` that says why, where a model cannot be fine-tuned so."""
    if family.untrainable:
        raise AutoencoderError(f"{name} cannot be fine-tuned: {family.untrainable}")
    if family.encoder_frozen and not decoder_only:
        raise AutoencoderError(f"{name} can be fine-tuned with --decoder-only alone: {family.encoder_frozen}")


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


def _shift_and_scale_patches(module: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """FLUX.2's batch norm, which sees the pixels of a patch as channels, as a table ``(C, h, w)`` that repeats."""
    height, width = module.config.patch_size

    def spread(values: Tensor) -> Tensor:  # (C * height * width,), the pixels of a patch fastest
        rows, columns = (-(-side // patch) for side, patch in zip(z.shape[-2:], (height, width), strict=True))
        table = values.to(z).reshape(-1, height, width).repeat(1, rows, columns)
        return table[:, : z.shape[-2], : z.shape[-1]]

    std = (module.bn.running_var + module.config.batch_norm_eps).sqrt()
    return spread(module.bn.running_mean), 1 / spread(std)


def describe_normalisation(module: nn.Module, family: Family) -> str:
    """Where shift and scale of the latents come from, in words."""
    if family.normalised_by is not None:
        return family.normalised_by
    factor, shift = _setting(module, "scaling_factor", 1.0), _setting(module, "shift_factor", 0.0)
    scaled = [f"scaling_factor {factor:.6g}"] if factor != 1 else []
    if _setting(module, "latents_mean") is not None and _setting(module, "latents_std") is not None:
        where = ", buffers that come with the weights" if "latents_mean" in dict(module.named_buffers()) else ""
        return " and ".join([f"latents_mean and latents_std{where}", *scaled])
    return " and ".join(scaled + ([f"shift_factor {shift:.6g}"] if shift else [])) or "none"


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
