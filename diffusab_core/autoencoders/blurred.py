"""Encoders without aliasing: a binomial blur before each sampling, and how a folder says that its encoder has one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn

from diffusab_core.autoencoders.face import Autoencoder

#: The entry of a diffusers folder's ``config.json`` that says that its encoder blurs; diffusers does not know it.
BLURRED = "blur_pooled"


class BlurPool(nn.Module):
    """A strided convolution as the same convolution at stride 1, a fixed binomial filter, and sampling every second.

    Source: Zhang 2019, "Making Convolutional Networks Shift-Invariant Again".
    """

    def __init__(self, convolution: nn.Conv2d, taps: Sequence[float] = (1, 4, 6, 4, 1)) -> None:
        super().__init__()
        self.convolution = copy.deepcopy(convolution)
        self.convolution.stride = (1, 1)
        row = torch.tensor(taps, dtype=torch.float64) / sum(taps)
        self.register_buffer("kernel", torch.outer(row, row).to(convolution.weight))

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(self.convolution(x), (len(self.kernel) // 2,) * 4, mode="replicate")
        return F.conv2d(y, self.kernel.expand(y.shape[1], 1, -1, -1), stride=2, groups=y.shape[1])


def blur_pooled(autoencoder: Autoencoder) -> Autoencoder:
    """A copy whose encoder blurs before it discards every second sample; the weights are as they were, not retrained.

    The encoder must have diffusers' ``Downsample2D``, as ``AutoencoderKL`` has; else it is a ``ValueError``. Saved with
    ``module.save_pretrained``, the folder opens with :func:`diffusab_core.autoencoders.load`.
    """
    module = copy.deepcopy(autoencoder.module)
    put_blurs(module, autoencoder.name)
    if hasattr(module, "register_to_config"):
        module.register_to_config(**{BLURRED: True})
    return replace(autoencoder, name=f"{autoencoder.name}, blur-pooled", module=module)


def put_blurs(module: nn.Module, name: str) -> None:
    """Replace the encoder's strided convolutions in place."""
    found = [m for m in module.encoder.modules() if isinstance(m, Downsample2D) and m.use_conv]
    if not found:
        raise ValueError(f"{name}: its encoder has no strided convolution of diffusers' Downsample2D")
    for layer in found:
        layer.conv = BlurPool(layer.conv)  # the layer's own forward() pads before it calls this
