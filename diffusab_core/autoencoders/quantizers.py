r"""Latents of finitely many values: VQ's codebook, which diffusers' ``VQModel`` has, and FSQ, which needs none.

FSQ bounds each channel, rounds it to one of :math:`L` levels, and passes gradients straight through the rounding:

.. math:: b(z) = h \tanh\!\left(z + \operatorname{artanh}\tfrac{o}{h}\right) - o, \qquad
    \hat z = \frac{b(z) + \operatorname{sg}\left[\operatorname{round}(b(z)) - b(z)\right]}{\lfloor L / 2 \rfloor}

with :math:`h = (L - 1)(1 + \epsilon) / 2` and :math:`o = 1/2` for even L, 0 for odd L, so that 0 stays 0 and there are
exactly L levels. A latent pixel of C channels is one of :math:`\prod_c L_c` codes.

Source: Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple"; the codebook is that of van den Oord et
al. 2017.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from diffusers.models.autoencoders.vae import VectorQuantizer
from torch import Tensor, nn

from diffusab_core.autoencoders.face import Autoencoder
from diffusab_core.autoencoders.names import AutoencoderError

#: The entry of a ``VQModel`` folder's ``config.json`` that says that FSQ is in place of its codebook.
FSQ_LEVELS = "fsq_levels"

_EPS = 1e-3


class FSQ(nn.Module):
    """Finite scalar quantisation, in the place of diffusers' ``VectorQuantizer``; it has no parameters.

    A ``ValueError`` for no level or one of less than two.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"FSQ needs at least 2 levels in each channel, got {list(levels)}")
        self.n_e = prod(levels)  #: How many codes there are, as VectorQuantizer calls it
        self.sizes = tuple(levels)
        # Part of the state, so that models that differ in it alone do not pass for the same.
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32))

    def bound(self, z: Tensor) -> Tensor:
        """Latents ``(N, C, h, w)`` into the range of the levels, in units of their distance."""
        levels = self.levels.to(z)[:, None, None]  # (C, 1, 1)
        half, offset = (levels - 1) * (1 + _EPS) / 2, (1 - levels % 2) / 2
        return half * torch.tanh(z + torch.atanh(offset / half)) - offset

    def scale(self, levels: Tensor) -> Tensor:
        """From units of the levels' distance to [-1, 1]."""
        return levels / (self.levels // 2).to(levels)[:, None, None]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, tuple[None, None, Tensor]]:
        """Latents ``(N, C, h, w)`` to quantised ones, no loss, and the codes' numbers, ``(N h w,)`` in the order of
        positions; what ``VectorQuantizer`` gives."""
        bounded = self.bound(z)
        nearest = bounded.detach().round()
        whole = nearest + (self.levels // 2).to(z)[:, None, None]  # 0 ... L - 1
        weights = [prod(self.sizes[:channel]) for channel in range(len(self.sizes))]
        index = sum(whole[:, channel].long() * weight for channel, weight in enumerate(weights))  # (N, h, w)
        return self.scale(bounded + (nearest - bounded).detach()), z.new_zeros(()), (None, None, index.flatten())


def with_fsq(autoencoder: Autoencoder, levels: Sequence[int]) -> Autoencoder:
    """A copy of a ``VQModel`` with FSQ in place of its codebook, a number of levels for each channel of its latent.

    Nothing is retrained. An ``AutoencoderError`` for another class or number of channels. Saved with
    ``module.save_pretrained``, the folder opens with :func:`diffusab_core.autoencoders.load`.
    """
    module = copy.deepcopy(autoencoder.module)
    put_fsq(module, levels, autoencoder.name)
    module.register_to_config(**{FSQ_LEVELS: list(levels)})
    return replace(autoencoder, name=f"{autoencoder.name}, FSQ", module=module)


def put_fsq(module: nn.Module, levels: Sequence[int], name: str) -> None:
    """Replace the quantizer in place."""
    _quantizer(module, name)
    if (channels := module.quant_conv.out_channels) != len(levels):
        raise AutoencoderError(f"{name} has latents of {channels} channels, and FSQ got {len(levels)} levels")
    module.quantize = FSQ(levels)


@dataclass(frozen=True)
class Codes:
    """What a quantizer makes of latents."""

    before: Tensor  #: ``(N, C, h, w)``; of FSQ bounded, and in its range
    after: Tensor  #: ``(N, C, h, w)``
    index: Tensor  #: Which code each latent pixel is, ``(N, h, w)``
    count: int  #: How many codes there are


@torch.no_grad()
def quantize(autoencoder: Autoencoder, z: Tensor) -> Codes:
    """Raw latents ``(N, C, h, w)`` before and after quantisation; an ``AutoencoderError`` where there is none."""
    quantizer = _quantizer(autoencoder.module, autoencoder.name)
    after, _, (_, _, index) = quantizer(z)
    before = quantizer.scale(quantizer.bound(z)) if isinstance(quantizer, FSQ) else z
    return Codes(before, after, index.reshape(len(z), *z.shape[-2:]), quantizer.n_e)


def decode_without(autoencoder: Autoencoder, z: Tensor) -> Tensor:
    """Latents ``(N, C, h, w)`` as :class:`Codes` has them, decoded as they are: ``(N, 3, f h, f w)``."""
    _quantizer(autoencoder.module, autoencoder.name)
    return autoencoder.module.decode(z, force_not_quantize=True).sample


def _quantizer(module: nn.Module, name: str) -> VectorQuantizer | FSQ:
    found = getattr(module, "quantize", None)
    if not isinstance(found, VectorQuantizer | FSQ):
        raise AutoencoderError(f"{name} has no quantizer; diffusers' VQModel has one")
    return found
