r"""An adversarial term for fine-tuning a decoder: a patch discriminator, hinge losses, and a weight that adapts.

.. math:: L_D = \tfrac12 \, \mathbb E \max(0, 1 - D(x)) + \tfrac12 \, \mathbb E \max(0, 1 + D(y)), \qquad
    L_G = -\lambda w \, \mathbb E D(y), \qquad
    \lambda = \frac{\lVert \nabla_W L_\text{reconstruction} \rVert}{\lVert \nabla_W (-\mathbb E D(y)) \rVert + 10^{-4}}

with images x, reconstructions y, W the decoder's last layer, and w what is chosen. One optimiser makes both
steps, from the same weights: no gradient of :math:`L_G` reaches the discriminator, none of :math:`L_D` the decoder.

Sources: Isola et al. 2017 (the discriminator); Lim and Ye 2017 (hinge); Esser et al. 2021 (the weight, and a start
after some steps without).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from diffusab_core.autoencoders import Autoencoder
from diffusab_core.files import SettingsError

LARGEST_WEIGHT = 1e4  #: Of :math:`\lambda`


class PatchDiscriminator(nn.Module):
    """Images ``(N, 3, H, W)`` to one logit for each of their overlapping patches, ``(N, 1, h, w)``.

    Three layers see patches of 70 pixels. Weights are drawn by the seed and no other state.
    """

    def __init__(self, layers: int = 3, channels: int = 64, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made
            self.layers = self._build(layers, channels)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for part in self.layers:
                if isinstance(part, nn.Conv2d | nn.BatchNorm2d):
                    part.weight.normal_(float(isinstance(part, nn.BatchNorm2d)), 0.02, generator=generator)
                    if part.bias is not None:
                        part.bias.zero_()

    @staticmethod
    def _build(layers: int, channels: int) -> nn.Sequential:
        widths = [channels * min(2**i, 8) for i in range(layers + 1)]
        parts: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i in range(layers):
            stride = 2 if i < layers - 1 else 1
            parts += [nn.Conv2d(widths[i], widths[i + 1], 4, stride, 1, bias=False), nn.BatchNorm2d(widths[i + 1])]
            parts += [nn.LeakyReLU(0.2)]
        return nn.Sequential(*parts, nn.Conv2d(widths[-1], 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def smallest_side(layers: int) -> int:
    """Of images in pixels, that a discriminator of so many layers has a patch of."""
    return 3 * 2**layers


def first_step(start: int | None, steps: int) -> int:
    """The first step with the adversarial term, of a training of so many; by default after half, at most 50 000."""
    return min(50_000, steps // 2) if start is None else start


def check(layers: int, resolution: int, start: int | None, steps: int) -> None:
    """Refuse a discriminator and a start that do not fit images of this side in pixels: a ``SettingsError``."""
    if layers < 1:
        raise SettingsError(f"discriminator_layers must be at least 1, got {layers}")
    if resolution < (least := smallest_side(layers)):
        raise SettingsError(
            f"a discriminator of {layers} layers needs a resolution of {least} pixels, got {resolution}"
        )
    if not 0 <= (first := first_step(start, steps)) < steps:
        raise SettingsError(f"adversarial_start must lie between 0 and steps - 1 = {steps - 1}, got {first}")


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The hinge loss :math:`L_D` of logits of images and of reconstructions."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, at: Tensor) -> Tensor:
    r"""The :math:`\lambda` that makes both losses equally strong at a tensor that both depend on."""
    norms = [torch.autograd.grad(loss, at, retain_graph=True)[0].norm() for loss in (reconstruction, adversarial)]
    return (norms[0] / (norms[1] + 1e-4)).clamp(0, LARGEST_WEIGHT).detach()


def last_weight(autoencoder: Autoencoder) -> nn.Parameter | None:
    """The weight of the decoder's output layer, if that is known and trained."""
    names = autoencoder.last_layers()
    weights = {n: p for n, p in autoencoder.module.named_parameters() if p.requires_grad and p.ndim > 1}
    found = [p for name in reversed(names) for n, p in weights.items() if n.startswith(f"{name}.")]
    return found[0] if found else None


@dataclass
class Adversary:
    """What tells reconstructions from images, and how much it counts."""

    discriminator: PatchDiscriminator
    weight: float
    last: nn.Parameter | None  #: Where the losses are weighed; ``None``: at the reconstructions

    def terms(self, x: Tensor, y: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """Both losses for images and reconstructions ``(N, 3, H, W)``; see the module for who gets which gradient."""
        frozen = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        fooled = -functional_call(self.discriminator, frozen, (y,)).mean()
        scale = adaptive_weight(reconstruction, fooled, y if self.last is None else self.last)
        told = discriminator_loss(self.discriminator(x), self.discriminator(y.detach()))
        return {"adversarial": self.weight * scale * fooled, "discriminator": told}

    @staticmethod
    def absent(x: Tensor) -> dict[str, Tensor]:
        """The same terms before the start."""
        return {"adversarial": x.new_zeros(()), "discriminator": x.new_zeros(())}


class Together(nn.Module):
    """An autoencoder's module and others by name, such as a discriminator, for one optimiser and one checkpoint."""

    def __init__(self, autoencoder: nn.Module, **others: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        for name, module in others.items():
            self.add_module(name, module)

    @staticmethod
    def of_autoencoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The autoencoder's part of a state dict."""
        start = "autoencoder."
        return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
