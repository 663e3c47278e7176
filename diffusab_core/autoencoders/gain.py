r"""Encoders behind local contrast gain control, and how a folder says that its encoder has it.

.. math:: b = G_\sigma * x, \qquad d = x - b, \qquad r = \sqrt{G_\sigma * \overline{d^2} + \varepsilon^2}, \qquad
          x \mapsto \bigl(b,\; d / r,\; \log (r / \varepsilon)\bigr)

with a Gaussian :math:`G_\sigma` of :math:`\sigma` pixels, the mean over the colours, and :math:`\varepsilon = 0.01` of
images in [-1, 1]. Nothing is lost, :math:`x = b + r \cdot d / r`. But :math:`d / r` has about the same contrast
everywhere, whatever its frequencies are: an image that loses its finest detail has coarser detail in its place. An
encoder without aliasing behind it sees nothing of the finest and all of the coarser, so the high band of its latents is
*stronger* for low-passed images, which is what FreqWarm takes for granted ("Toward Diffusible High-Dimensional Latent
Spaces", 2025, Finding 3) and what an encoder without this step does not do.

Source of the step: divisive normalisation; Carandini and Heeger 2012, "Normalization as a canonical neural
computation".
"""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusab_core.autoencoders.face import Autoencoder

#: The entry of a diffusers folder's ``config.json`` that has :math:`\sigma`; diffusers does not know it.
GAIN_CONTROL = "gain_control"
#: :math:`\varepsilon`, the contrast below which detail is not amplified any further.
FLOOR = 0.01


def blur(x: Tensor, sigma: float) -> Tensor:
    """Images ``(N, C, H, W)`` under a Gaussian of ``sigma`` pixels, cut off at three of them; borders are repeated."""
    reach = math.ceil(3 * sigma)
    row = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64, device="cpu") / sigma) ** 2)
    row = (row / row.sum()).to(x)
    y = F.pad(x.flatten(0, 1).unsqueeze(1), (reach,) * 4, mode="replicate")  # (NC, 1, H + 2 reach, W + 2 reach)
    y = F.conv2d(F.conv2d(y, row[None, None, :, None]), row[None, None, None, :])
    return y.reshape(x.shape)


def split_contrast(x: Tensor, sigma: float) -> Tensor:
    """Images ``(N, C, H, W)`` in [-1, 1] to blur, detail over its local rms, and its log: ``(N, 2 C + 1, H, W)``."""
    low = blur(x, sigma)
    detail = x - low
    rms = (blur(detail.square().mean(1, keepdim=True), sigma) + FLOOR**2).sqrt()  # (N, 1, H, W)
    return torch.cat([low, detail / rms, (rms / FLOOR).log()], dim=1)


class GainControl(nn.Module):
    """An encoder's first convolution behind :func:`split_contrast`: it takes 2 C + 1 channels in place of C.

    Its weights are new, from torch's global generator.
    """

    def __init__(self, convolution: nn.Conv2d, sigma: float) -> None:
        super().__init__()
        self.sigma = float(sigma)
        # Part of the state, so that encoders that differ in it alone do not pass for the same.
        self.register_buffer("width", torch.tensor([self.sigma]))
        self.convolution = nn.Conv2d(
            2 * convolution.in_channels + 1,
            convolution.out_channels,
            convolution.kernel_size,
            convolution.stride,
            convolution.padding,
            device=convolution.weight.device,
            dtype=convolution.weight.dtype,
        )

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        # Small differences of large numbers; the meta device, where costs are counted, has no autocast to leave.
        exact = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
        with exact:
            split = split_contrast(x, self.sigma)
        return self.convolution(split)


def with_gain_control(autoencoder: Autoencoder, sigma: float) -> Autoencoder:
    """A copy whose encoder sees images by :func:`split_contrast`; its first layer is new and has to be trained.

    The encoder must begin with a convolution ``conv_in``, as ``AutoencoderKL``'s does; else it is a ``ValueError``.
    Saved with ``module.save_pretrained``, the folder opens with :func:`diffusab_core.autoencoders.load`.
    """
    module = copy.deepcopy(autoencoder.module)
    put_gain_control(module, sigma, autoencoder.name)
    if hasattr(module, "register_to_config"):
        module.register_to_config(**{GAIN_CONTROL: float(sigma)})
    return replace(autoencoder, name=f"{autoencoder.name}, gain control", module=module)


def put_gain_control(module: nn.Module, sigma: float, name: str) -> None:
    """Replace the encoder's first convolution in place."""
    if not 0 < sigma < math.inf:
        raise ValueError(f"gain control needs a neighbourhood of more than 0 pixels, got {sigma!r}")
    first = getattr(module.encoder, "conv_in", None)
    if not isinstance(first, nn.Conv2d):
        raise ValueError(f"{name}: its encoder does not begin with a convolution conv_in")
    module.encoder.conv_in = GainControl(first, sigma)
