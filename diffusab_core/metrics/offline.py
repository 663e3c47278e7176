r"""A small feature network of this project's own, for Fréchet distances without a download.

**It is not Inception.** A classifier of about 0.2 million parameters was trained on 64 x 64 images to tell the twelve
classes of :mod:`diffusab_core.data.leaves` and the five training photographs apart, and to say how blurred and how
noisy a photograph is; an image's features are the 32 numbers before these last layers. Distances over them compare with
one another only. ``scripts/train_features.py`` trains it; its card is in ``weights/offline-features``.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from diffusab_core.data.pixels import resize_to
from diffusab_core.data.shapes import CLASS_NAMES
from diffusab_core.files import digest_file
from diffusab_core.metrics.networks import Judge, NetworkError, filling, find_weights, read_weights

WEIGHTS = Path(__file__).parents[1] / "autoencoders" / "weights" / "offline-features" / "classifier.safetensors"
SIDE = 64  # pixels
FEATURES = 32  # few, so that a covariance needs few images
WIDTHS = (16, 32, 64, 96)
#: What the classifier tells apart: classes of leaves, then the photographs that crops are cut from.
LABELS = (*CLASS_NAMES, "astronaut", "chelsea", "flower", "motorcycle", "rocket")


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        # Not a norm over the image itself, which would take contrast, one of the things to judge, out of the features.
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


class Classifier(nn.Module):
    """What is trained: four stages that halve the sides, a mean over positions, a linear map to the scaled features."""

    def __init__(self) -> None:
        super().__init__()
        stages = []
        for inputs, outputs in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True):
            stages += [_convolution(inputs, outputs, stride=2), _convolution(outputs, outputs, stride=1)]
        self.stages = nn.Sequential(*stages)
        self.project = nn.Linear(WIDTHS[-1], FEATURES)
        self.scale = nn.BatchNorm1d(FEATURES, affine=False)
        self.classes = nn.Linear(FEATURES, len(LABELS))
        self.damage = nn.Linear(FEATURES, 2)

    def features(self, images: Tensor) -> Tensor:
        """``(N, 3, 64, 64)`` to ``(N, 32)``."""
        return self.scale(self.project(self.stages(images).mean((-2, -1))))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(N, 17)`` of :data:`LABELS`, and the :func:`damage_level` of blur and of noise ``(N, 2)``, which
        keeps features from saturating, being linear in them: a distance grows with the damage."""
        features = self.features(images)
        return self.classes(features), self.damage(features)


def damage_level(strength: Tensor, unit: float) -> Tensor:
    r""":math:`\log_2(1 + s / u)` of a standard deviation s: of Gaussian blur with u = 0.5 pixels, of white noise with
    u = 0.05 in images in [-1, 1]. Nothing is level 0, the unit is level 1."""
    return torch.log2(1 + strength / unit)


class OfflineFeatures(Judge):
    """Images, clamped and resized to 64 x 64 (antialiased bilinear), to the 32 features of the project's own
    classifier; differentiable in the images. The finest detail of larger ones is not seen."""

    name, dimensions = "offline", FEATURES

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise NetworkError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
        x = images.float().clamp(-1, 1)
        return self.network.features(x if x.shape[-2:] == (SIDE, SIDE) else resize_to(x, SIDE, SIDE))

    def class_probabilities(self, features: Tensor) -> Tensor:
        """Features ``(N, 32)`` to all 17 :data:`LABELS`, ``(N, 17)``; a weak judge, right on half of the 64 x 64 leaves
        (real ones have an Inception Score of 2.8) and no better than chance on those of 32 x 32."""
        return self.network.classes(features).softmax(1)


def offline_features(weights: str | os.PathLike | None = None) -> OfflineFeatures:
    """Open the project's own small feature network, on the CPU.

    ``weights`` is a folder that ``scripts/train_features.py`` wrote; ``None``: the one that comes with the package.
    Weights or a checksum that are missing are a ``MissingWeightsError``, others than the checksum's a ``NetworkError``.
    """
    what, advice = "the offline features", "Reinstall the package, or write the folder with scripts/train_features.py"
    path = find_weights(what, weights, [WEIGHTS], advice)
    checksum = find_weights(what, f"{path}.sha256", [], advice)  # as sha256sum writes it
    wanted, found = checksum.read_text(encoding="utf-8").partition(" ")[0].strip(), digest_file(path)
    if found != wanted:
        digests = f"its SHA-256 begins with {found[:8]}, {checksum.name} says {wanted[:8]}"
        raise NetworkError(f"{path} is damaged: {digests}. {advice}")
    state = read_weights(path)
    with filling("the offline classifier", path):
        network = Classifier()
        network.load_state_dict(state)  # half precision to single
    return OfflineFeatures(network, path)
