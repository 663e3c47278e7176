r"""An autoencoder whose decoder is a conditional flow model of the image: it samples instead of reconstructing.

.. math:: \hat x = x_1 + \int_1^0 v_\theta(x_t, t, z)\, \mathrm d t, \qquad x_1 = \varepsilon \sim \mathcal N(0, I)

so that :math:`p(x \mid z)` can be any distribution; a decoder trained by the squared error has only its mean. Encoder
and latent are those of ``AutoencoderKL``. The latent is enlarged by learned layers, once for all steps, and goes into
the network at each of its scales.

The network F predicts what the best linear guess leaves, in units of one: with s the standard deviation of pictures,

.. math:: v_\theta(x_t, t, z) = \frac{t - (1 - t)\, s^2}{D}\, x_t
    + \frac{s}{\sqrt D}\, F\Bigl(\frac{x_t}{\sqrt D}, t, z\Bigr), \qquad D = (1 - t)^2 s^2 + t^2

The first term is the exact velocity of white pictures, and what it leaves has the variance :math:`s^2 / D` at every t.

The noise of an image depends on the seed and the image's *index* alone, on no device and no batch. A call of
:meth:`DiffusionAutoencoder.decode` counts its images from 0; whoever decodes many images in several calls gives their
indices, or uses :meth:`.Autoencoder.decode_in_order`, which counts on.

Source: after the abstract of Liu et al. 2025 (DGAE), whose text could not be read. Relatives, read as abstracts: Zhao
et al. 2025 (ε-VAE), Birodkar et al. 2024 (SWYCC), Shi et al. 2022 (DiVAE). Guidance: Ho and Salimans 2022. Input,
output and skip scaled by the time: Karras et al. 2022 (EDM), here for the straight path.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution, Encoder
from diffusers.models.downsampling import Downsample2D
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from diffusab_core import flow
from diffusab_core.autoencoders.names import AutoencoderError
from diffusab_core.denoisers import DIT_SIZES, DiT
from diffusab_core.denoisers.parts import TimeEmbedding, patchify
from diffusab_core.training.order import draw_noise

#: Width of the first level and residual blocks of each; the levels are 1, 2, 4, 4, ... times as wide.
UNET_SIZES: dict[str, tuple[int, int]] = {"XXS": (16, 1), "XS": (32, 1), "S": (64, 2), "B": (128, 2), "L": (192, 3)}
PATCHES = (1, 2, 4, 8, 16)
_WIDTH_OF_GROUP = 16  # channels in the U-Net's norms; fewer divide much of a picture's own brightness and colour away
_NAME = re.compile(r"(UNet|DiT)-(\w+)/(\d+)")


@dataclass(frozen=True)
class Network:
    """What a decoder's name says: ``UNet-SIZE/PATCH`` or ``DiT-SIZE/PATCH``."""

    family: str
    size: str
    patch: int  #: Side in pixels of what is one position of the network's finest scale


def parse(name: str, compression: int | None = None) -> Network:
    """A decoder's name taken apart; an ``AutoencoderError`` that lists all for one that is none.

    Given the compression f, also where a patch is larger than f x f pixels, which one latent pixel stands for.
    """
    found = _NAME.fullmatch(name)
    sizes = {"UNet": UNET_SIZES, "DiT": DIT_SIZES}
    if found is None or found[2] not in sizes[found[1]] or int(found[3]) not in PATCHES:
        known = ", or ".join(f"{family}-SIZE/PATCH with sizes {', '.join(known)}" for family, known in sizes.items())
        raise AutoencoderError(f"no decoder {name!r}: names are {known}; patches are {', '.join(map(str, PATCHES))}")
    network = Network(found[1], found[2], int(found[3]))
    if compression is not None and network.patch > compression:
        raise AutoencoderError(
            f"decoder {name} has patches of {network.patch} pixels, the compression is {compression}"
        )
    return network


# ---------------------------------------------------------------------------------------------------------------------
# Networks: z goes in by lift(z), once, and forward(x, t, lifted) is called at each step


class UNet(nn.Module):
    """Velocity by a convolutional U-Net that goes down to the latent's own resolution.

    Args:
        latent_channels: Channels of the latent, C.
        compression: f; the latent is ``(N, C, H/f, W/f)``.
        patch: Side of the patches of pixels that are the channels of the finest level.
        width: Of the finest level.
        layers: Residual blocks of a level.
    """

    def __init__(self, latent_channels: int, compression: int, *, patch: int, width: int, layers: int) -> None:
        super().__init__()
        levels = (compression // patch).bit_length()
        widths = [width * min(2**level, 4) for level in range(levels)]
        groups = width // _WIDTH_OF_GROUP
        block = partial(
            ResnetBlock2D, temb_channels=4 * width, groups=groups, time_embedding_norm="scale_shift", eps=1e-6
        )
        self.patch = patch
        self.time = TimeEmbedding(4 * width)
        self.lift_in = nn.Conv2d(latent_channels, widths[-1], 3, padding=1)
        between = list(zip(widths[1:], widths[:-1], strict=True))  # coarse, fine
        self.lift_up = nn.ModuleList(Upsample2D(a, use_conv=True, out_channels=b) for a, b in between)
        self.conv_in = nn.Conv2d(3 * patch**2, width, 3, padding=1)
        self.inject_down = nn.ModuleList(nn.Conv2d(w, w, 1) for w in widths)
        self.inject_up = nn.ModuleList(nn.Conv2d(w, w, 1) for w in widths)
        self.down_blocks = nn.ModuleList(
            nn.ModuleList(block(in_channels=w, out_channels=w) for _ in range(layers)) for w in widths
        )
        self.down = nn.ModuleList(Downsample2D(b, use_conv=True, out_channels=a, name="op") for a, b in between)
        self.up_blocks = nn.ModuleList(
            nn.ModuleList(block(in_channels=w if i else 2 * w, out_channels=w) for i in range(layers)) for w in widths
        )
        self.up = nn.ModuleList(Upsample2D(a, use_conv=True, out_channels=b) for a, b in between)
        self.conv_norm_out = nn.GroupNorm(groups, width)
        # A velocity holds all the noise of a patch. It is not to be squeezed through the width of a narrow network.
        pixels = 3 * patch**2
        self.conv_head = nn.Conv2d(width + pixels, max(width, 4 * pixels), 3, padding=1)
        self.conv_out = nn.Conv2d(max(width, 4 * pixels), pixels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def lift(self, z: Tensor) -> list[Tensor]:
        """Latents ``(N, C, h, w)`` to features at every level, the finest first."""
        features = [self.lift_in(z)]
        for up in reversed(self.lift_up):
            features.insert(0, up(F.silu(features[0])))
        return features

    def forward(self, x: Tensor, t: Tensor, lifted: list[Tensor]) -> Tensor:
        """The velocity at noisy images ``(N, 3, H, W)`` and times ``(N,)``."""
        embedded = self.time(t)
        x = F.pixel_unshuffle(x, self.patch)
        h = self.conv_in(x)
        skips = []
        for level, blocks in enumerate(self.down_blocks):
            h = self.down[level - 1](h) if level else h
            h = h + self.inject_down[level](lifted[level])
            for block in blocks:
                h = block(h, embedded)
            skips.append(h)
        for level in reversed(range(len(skips))):
            h = torch.cat([h + self.inject_up[level](lifted[level]), skips[level]], dim=1)
            for block in self.up_blocks[level]:
                h = block(h, embedded)
            h = self.up[level - 1](h) if level else h
        h = self.conv_head(torch.cat([self.conv_norm_out(h), x], dim=1))
        return F.pixel_shuffle(self.conv_out(F.silu(h)), self.patch)


class PatchTransformer(nn.Module):
    """Velocity by a DiT on patches of the image, whose tokens the latent is added to.

    The latent comes in where self-conditioning would, by the layer ``hint``. Arguments are those of :class:`UNet` and
    of :class:`~diffusab_core.denoisers.dit.DiT`.
    """

    def __init__(
        self, latent_channels: int, compression: int, *, patch: int, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.patch = patch
        self.lift_in = nn.Conv2d(latent_channels, width, 3, padding=1)
        ups = (compression // patch).bit_length() - 1
        self.lift_up = nn.ModuleList(Upsample2D(width, use_conv=True, out_channels=width) for _ in range(ups))
        self.transformer = DiT(3, compression, patch=patch, width=width, depth=depth, heads=heads)

    def lift(self, z: Tensor) -> Tensor:
        """Latents ``(N, C, h, w)`` to one vector for each token, ``(N, L, D)``."""
        h = self.lift_in(z)
        for up in self.lift_up:
            h = up(F.silu(h))
        return patchify(h, 1)

    def forward(self, x: Tensor, t: Tensor, lifted: Tensor) -> Tensor:
        """See :meth:`UNet.forward`."""
        return self.transformer(x, t, hint=lifted)


def build_network(name: str, latent_channels: int, compression: int) -> UNet | PatchTransformer:
    """A decoder's network by name, with fresh weights; errors are those of :func:`parse`."""
    found = parse(name, compression)
    if found.family == "UNet":
        width, layers = UNET_SIZES[found.size]
        return UNet(latent_channels, compression, patch=found.patch, width=width, layers=layers)
    width, depth, heads = DIT_SIZES[found.size]
    return PatchTransformer(latent_channels, compression, patch=found.patch, width=width, depth=depth, heads=heads)


# ---------------------------------------------------------------------------------------------------------------------
# The autoencoder


class DiffusionAutoencoder(ModelMixin, ConfigMixin):
    r"""``AutoencoderKL``'s encoder, and a decoder that samples; saved and opened as diffusers' models are.

    Args:
        in_channels: Of images; 3.
        out_channels: Likewise.
        block_out_channels: Widths of the encoder's levels from the image inwards; each but the first halves both sides.
        layers_per_block: Residual blocks in a level of the encoder.
        latent_channels: Channels of the latent.
        norm_num_groups: Groups of the encoder's norms.
        mid_block_add_attention: Attention in the middle of the encoder.
        sample_size: Side in pixels of the training images.
        decoder_network: The decoder's network, see :func:`parse`.
        data_std: Standard deviation s of pictures, which scales the network's inputs and outputs.
        z_dropout: Share of training images whose latent was replaced by the learned null; without any, decoding cannot
            be guided.
        decoder_steps: Euler steps of decoding where none are named.
        guidance: Guidance on z of decoding where none is named; 1: none.
        scaling_factor: What makes latents standard.
        shift_factor: Likewise.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        block_out_channels: tuple[int, ...] = (16, 32, 48),
        layers_per_block: int = 1,
        latent_channels: int = 16,
        norm_num_groups: int = 8,
        mid_block_add_attention: bool = False,
        sample_size: int = 64,
        decoder_network: str = "UNet-XXS/2",
        data_std: float = 0.5,
        z_dropout: float = 0.1,
        decoder_steps: int = 8,
        guidance: float = 1.0,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(  # first, so that one seed draws the weights that AutoencoderKL's encoder has
            in_channels=in_channels,
            out_channels=latent_channels,
            down_block_types=("DownEncoderBlock2D",) * len(block_out_channels),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=mid_block_add_attention,
        )
        self.decoder = build_network(decoder_network, latent_channels, 2 ** (len(block_out_channels) - 1))
        self.null = nn.Parameter(torch.zeros(1, latent_channels, 1, 1)) if z_dropout else None

    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Images ``(N, 3, H, W)`` in [-1, 1] to ``.latent_dist``, as of ``AutoencoderKL``."""
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(self.encoder(x)))

    def velocity(self, x: Tensor, t: Tensor, z: Tensor, kept: Tensor | None = None) -> Tensor:
        """The velocity at noisy images ``(N, 3, H, W)`` and times ``(N,)``, given raw latents ``(N, C, h, w)``.

        Latents are replaced by the null where ``kept``, ``(N,)``, is false.
        """
        if kept is not None:
            z = torch.where(kept[:, None, None, None], z, self.null)
        return self._predict(x, t, self.decoder.lift(z))

    def _predict(self, x: Tensor, t: Tensor, lifted: Tensor | list[Tensor]) -> Tensor:
        std, s = self.config.data_std, t.to(x.dtype)[:, None, None, None]
        variance = (1 - s).square() * std**2 + s.square()
        linear = (s - (1 - s) * std**2) / variance * x  # flow.gaussian_velocity, which looks at values
        return linear + std * variance.rsqrt() * self.decoder(x * variance.rsqrt(), t, lifted)

    @torch.no_grad()
    def decode(
        self,
        z: Tensor,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        index: Sequence[int] | None = None,
    ) -> DecoderOutput:
        """Images of raw latents ``(N, C, h, w)``; no gradient goes through.

        Args:
            z: The latents.
            steps: See :meth:`sample`.
            guidance: Likewise.
            seed: Of the noise.
            index: Which images these are: with the seed, what their noise depends on; by default 0, 1, ...

        An ``AutoencoderError`` where there is not one index for each latent, and the errors of :meth:`sample`.
        """
        index = range(len(z)) if index is None else index
        if len(index) != len(z):
            raise AutoencoderError(f"got {len(index)} indices for {len(z)} latents")
        f = 2 ** (len(self.config.block_out_channels) - 1)
        noise = draw_noise(seed, index, (3, f * z.shape[-2], f * z.shape[-1]), "decode").to(z)
        return DecoderOutput(sample=self.sample(z, noise, steps, guidance))

    @torch.no_grad()
    def sample(self, z: Tensor, noise: Tensor, steps: int | None = None, guidance: float | None = None) -> Tensor:
        """Images from noise ``(N, 3, H, W)``, by Euler's method.

        Args:
            z: Raw latents ``(N, C, h, w)``.
            noise: Standard normal.
            steps: By default those of the configuration.
            guidance: On z, see :func:`diffusab_core.flow.path.guided`; by default that of the configuration.

        Raises:
            AutoencoderError: Guidance of a model that has no null.
            SettingsError: Steps or guidance that cannot be.
        """
        steps = self.config.decoder_steps if steps is None else steps
        guidance = self.config.guidance if guidance is None else guidance
        lifted = self.decoder.lift(z)
        if guidance == 1:
            return flow.sample(lambda x, t: self._predict(x, t, lifted), noise, steps)
        if self.null is None:
            raise AutoencoderError(f"guidance {guidance} needs a decoder trained with z_dropout, this one was not")
        unlifted = self.decoder.lift(self.null.detach().expand(z.shape))
        with_z, without_z = (lambda x, t, y, features=f: self._predict(x, t, features) for f in (lifted, unlifted))
        return flow.sample(flow.guided(with_z, lambda x, t: without_z(x, t, None), guidance), noise, steps)
