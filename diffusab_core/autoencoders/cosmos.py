r"""The Cosmos image tokenizer: a Haar transform of the picture, then latent diffusion's autoencoder, without noise.

.. math:: z = E_\phi(\mathcal H x), \qquad \hat x = \mathcal H^{-1} D_\theta(z)

:math:`\mathcal H` makes :math:`p^2` times as many channels of a p-th of the sides, p the patch size, and loses nothing.
The posterior is a point. The release has 3 levels of which the first ones halve the sides: two for 16 × 16
compression, one for 8 × 8. No weights of the release could be read where this was written.

Its files are TorchScript archives, see :mod:`diffusab_core.autoencoders.archives`. Their tensors have the names of
latent diffusion's autoencoder, by the release's own source, from which layers, sizes, names and the order of the
transform's bands are taken: github.com/NVIDIA/Cosmos-Tokenizer, ``modules/layers2d.py``, ``modules/patching.py``,
``networks/configs.py`` and ``networks/continuous_image.py``; ``utils.py`` there fills these modules from the archives.
Here the layers are diffusers', and so are the names.

Source: NVIDIA 2025, "Cosmos World Foundation Model Platform for Physical AI", Sec. 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D, UNetMidBlock2D, UpDecoderBlock2D
from torch import Tensor, nn

_EPS = 1e-6


def haar(x: Tensor, levels: int) -> Tensor:
    r"""Images ``(N, C, H, W)`` to ``(N, 4**levels * C, H / 2**levels, W / 2**levels)``.

    Each level takes halves of sum and difference of neighbours along both axes, in *all* channels it gets. Its bands
    are ordered low-low, low-high, high-low, high-high, the width's first, each with all channels.
    """
    for _ in range(levels):
        for axis in (-2, -1):
            even, odd = x.unflatten(axis, (-1, 2)).unbind(axis)
            x = torch.cat([(even + odd) / 2, (even - odd) / 2], dim=1)
    return x


def inverse_haar(x: Tensor, levels: int) -> Tensor:
    """The inverse of :func:`haar`."""
    for _ in range(levels):
        for axis in (-1, -2):
            low, high = x.chunk(2, dim=1)
            x = torch.stack([low + high, low - high], dim=axis).flatten(axis - 1, axis)
    return x


@dataclass(frozen=True)
class Encoded:
    """What :meth:`CosmosImageTokenizer.encode` gives."""

    latent: Tensor  #: ``(N, C, H/f, W/f)``


def _middle(width: int, groups: int) -> UNetMidBlock2D:
    return UNetMidBlock2D(
        in_channels=width, temb_channels=None, resnet_eps=_EPS, resnet_groups=groups, attention_head_dim=width
    )


class Encoder(nn.Module):
    """Transformed images to what the 1 × 1 convolution in front of the latent takes; see the tokenizer's arguments."""

    def __init__(
        self, channels: int, out_channels: int, widths: Sequence[int], layers: int, halvings: int, groups: int
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownEncoderBlock2D(
                before, after, num_layers=layers, resnet_eps=_EPS, resnet_groups=groups, add_downsample=i < halvings,
                downsample_padding=0,
            )
            for i, (before, after) in enumerate(pairwise(widths))
        )  # fmt: skip
        self.mid_block = _middle(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], _EPS)
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for block in self.down_blocks:
            h = block(h)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(h))))


class Decoder(nn.Module):
    """The encoder backwards, with one more residual block in a level; it doubles the sides in its first levels."""

    def __init__(
        self, channels: int, out_channels: int, widths: Sequence[int], layers: int, doublings: int, groups: int
    ) -> None:
        super().__init__()
        inwards = (*widths[1:], widths[-1])[::-1]  # the innermost width twice: no level changes it by itself
        self.conv_in = nn.Conv2d(channels, widths[-1], 3, padding=1)
        self.mid_block = _middle(widths[-1], groups)
        self.up_blocks = nn.ModuleList(
            UpDecoderBlock2D(
                before, after, num_layers=layers + 1, resnet_eps=_EPS, resnet_groups=groups, add_upsample=i < doublings
            )
            for i, (before, after) in enumerate(pairwise(inwards))
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[1], _EPS)
        self.conv_out = nn.Conv2d(widths[1], out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            h = block(h)
        return self.conv_out(F.silu(self.conv_norm_out(h)))


class CosmosImageTokenizer(ModelMixin, ConfigMixin):
    """The tokenizer; the defaults are the release's with 16 × 16 compression. Saved and opened as diffusers' are.

    Args:
        in_channels: Of images; 3.
        out_channels: Likewise.
        patch_size: Side p in pixels of what the Haar transform puts into one position, a power of two.
        channels: Width behind the first convolution.
        channel_multipliers: Widths of the levels in units of it, from the image inwards.
        layers_per_block: Residual blocks in a level of the encoder.
        latent_channels: Channels of the latent.
        spatial_compression: f, a power of two: p times 2 for each of the levels that halve the sides.
        norm_num_groups: Groups of the norms.
        latents_mean: Means of the latent's channels, where they are known; the release does not say them.
        latents_std: Their standard deviations, likewise.

    Raises:
        ValueError: The levels are too few for the compression, or p or f is no power of two, or p is larger than f.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        patch_size: int = 4,
        channels: int = 128,
        channel_multipliers: tuple[int, ...] = (2, 4, 4),
        layers_per_block: int = 2,
        latent_channels: int = 16,
        spatial_compression: int = 16,
        norm_num_groups: int = 32,
        latents_mean: tuple[float, ...] | None = None,
        latents_std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        halvings = spatial_compression.bit_length() - patch_size.bit_length()
        powers = all(n > 0 and n & (n - 1) == 0 for n in (patch_size, spatial_compression))
        if not powers or not 0 <= halvings <= len(channel_multipliers):
            raise ValueError(
                f"{len(channel_multipliers)} levels cannot compress {spatial_compression} x {spatial_compression} "
                f"with patches of {patch_size}: both must be powers of two, and their ratio at most 2 for each level"
            )
        self.levels = patch_size.bit_length() - 1  # of the Haar transform
        widths = (channels, *(channels * m for m in channel_multipliers))
        shape = (widths, layers_per_block, halvings, norm_num_groups)
        self.encoder = Encoder(in_channels * patch_size**2, latent_channels, *shape)
        self.quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        self.decoder = Decoder(latent_channels, out_channels * patch_size**2, *shape)

    def encode(self, x: Tensor) -> Encoded:
        """Images ``(N, 3, H, W)`` in [-1, 1] to ``.latent``, ``(N, C, H/f, W/f)``."""
        return Encoded(self.quant_conv(self.encoder(haar(x, self.levels))))

    def decode(self, z: Tensor) -> DecoderOutput:
        """Latents ``(N, C, h, w)`` to ``.sample``, ``(N, 3, f h, f w)``."""
        return DecoderOutput(sample=inverse_haar(self.decoder(self.post_quant_conv(z)), self.levels))


def rename(tensors: dict[str, Tensor], levels: int) -> dict[str, Tensor]:
    """The release's tensors under the names that they have here; others, as of its Haar transform, are left out.

    Args:
        tensors: By name; where encoder and decoder were files of their own, of both.
        levels: How many entries the channel multipliers have.
    """
    blocks = {"down_block_types": range(levels), "up_block_types": range(levels)}  # looked at for their number only
    return convert_ldm_vae_checkpoint(tensors, blocks)
