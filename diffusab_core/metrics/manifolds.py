r"""Improved precision and recall: how much of one set of features lies in the manifold of the other.

A set's manifold is the union of balls around its features, each as large as the distance to the k-th nearest other
feature of the set.

Source: Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models", Eq. 1 to 3.
"""

from __future__ import annotations

import torch
from torch import Tensor


def precision_recall(real: Tensor, fake: Tensor, k: int = 3, block: int = 1000) -> tuple[float, float]:
    r"""Share of the fake features in the manifold of the real ones, and of the real in that of the fake.

    .. math:: \operatorname{precision} = \frac{1}{M} \sum_{j=1}^{M}
        \mathbf 1\bigl[\exists i: \|f_j - r_i\| \le \|r_i - \mathrm{NN}_k(r_i)\|\bigr]

    and recall with the sets exchanged. Precision falls when samples look like nothing real, recall when kinds of real
    images are missing among the samples. Both depend on k, on the extractor and on the numbers of features: a ball
    shrinks as its set grows, so compare only equal numbers. Published values are over VGG-16.

    Distances are taken in float64, ``block`` rows at a time, so that 10 000 against 10 000 features need some 300 MB
    besides the features. Distances that are zero but for rounding count as zero.

    Args:
        real: Features ``(N, D)``.
        fake: Features ``(M, D)`` of the same extractor.
        k: Which neighbour sets the radius, not counting a feature itself.
        block: Rows of a distance matrix held at a time.

    Returns:
        Precision and recall, each in [0, 1].

    Raises:
        ValueError: Shapes that do not fit, no more than k features in a set, NaN or Inf, or k or block below 1.
    """
    if k < 1 or block < 1:
        raise ValueError(f"k and block must be at least 1, got k={k} and block={block}")
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {tuple(real.shape)} and {tuple(fake.shape)}")
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"k={k} needs at least {k + 1} features on each side, got {len(real)} and {len(fake)}")
    real, fake = real.detach().double(), fake.detach().to(real.device).double()
    if not (torch.isfinite(real).all() and torch.isfinite(fake).all()):
        raise ValueError("NaN or Inf in the features")
    centre = real.mean(0)  # distances do not change, and rounding is relative to the norms
    real, fake = real - centre, fake - centre
    real_radii, fake_radii = _squared_radii(real, k, block), _squared_radii(fake, k, block)
    precise, recalled = 0, torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows, radii in zip(fake.split(block), fake_radii.split(block), strict=True):
        squared = _squared_distances(rows, real)  # (block, N)
        precise += (squared <= real_radii).any(1).sum().item()
        recalled |= (squared <= radii[:, None]).any(0)
    return precise / len(fake), recalled.double().mean().item()


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    r""":math:`\|x\|^2 + \|y\|^2 - 2 x \cdot y`, ``(len(x), len(y))``: one matrix product."""
    norms = x.square().sum(1)[:, None] + y.square().sum(1)
    squared = torch.addmm(norms, x, y.T, alpha=-2)
    # Equal features give the rounding of their norms, of either sign. A ball of radius 0 has to hold its centre.
    return squared.masked_fill_(squared <= 16 * torch.finfo(x.dtype).eps * norms, 0)


def _squared_radii(x: Tensor, k: int, block: int) -> Tensor:
    """Squared distance of each row to its k-th nearest other row, ``(N,)``."""
    radii = []
    for start in range(0, len(x), block):
        squared = _squared_distances(x[start : start + block], x)
        squared.diagonal(start).fill_(torch.inf)  # a row is no neighbour of itself
        radii.append(squared.topk(k, largest=False).values[:, -1])
    return torch.cat(radii)
