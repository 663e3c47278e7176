r"""Fréchet distances between two sets of images, over any feature extractor.

A feature extractor is anything that maps images ``(N, 3, H, W)`` in [-1, 1] to features ``(N, D)``: a function, or an
``nn.Module`` in evaluation mode. :mod:`diffusab_core.metrics.networks` opens the two of the papers, Inception (FID) and
DINOv2 (FDD). Distances over different extractors, sample sizes or image sizes cannot be compared with one another.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from diffusab_core.training.world import World

Features = Callable[[Tensor], Tensor]

# How far from symmetric or below zero, relative to the largest entry or eigenvalue, a covariance may be by rounding.
_ROUNDING = 1e-6
# Columns at a time in a Gram matrix; 128 to 512 are about equally fast for 2048 features.
_BLOCK = 256


# ---------------------------------------------------------------------------------------------------------------------
# The distance


def _gaussian(mu: Tensor | np.ndarray, cov: Tensor | np.ndarray, which: str) -> tuple[Tensor, Tensor]:
    mu = torch.as_tensor(mu).detach().cpu().double()
    cov = torch.as_tensor(cov).detach().cpu().double()
    if mu.ndim == 0 and cov.ndim == 0:  # one feature; numpy.cov returns no axes for it
        mu, cov = mu[None], cov[None, None]
    d = mu.numel()
    if mu.ndim != 1 or d == 0 or cov.shape != (d, d):
        raise ValueError(
            f"{which} needs a mean (D,) and a covariance (D, D), got {tuple(mu.shape)} and {tuple(cov.shape)}"
        )
    if not (torch.isfinite(mu).all() and torch.isfinite(cov).all()):
        raise ValueError(f"{which} has NaN or Inf in its mean or covariance")
    asymmetry = (cov - cov.T).abs().max().item()
    if asymmetry > _ROUNDING * cov.abs().max().item():
        raise ValueError(f"{which}: the covariance is not symmetric, entries differ by up to {asymmetry:g}")
    return mu, cov


def _factor(cov: Tensor, which: str) -> Tensor:
    r""":math:`F`, ``(rank, D)``, so that :math:`F^\top F = \Sigma`: Cholesky's, or :math:`\Lambda^{1/2} V^\top`."""
    zero = len(cov) * torch.finfo(cov.dtype).eps  # relative; what is smaller is zero but for rounding
    lower, failed = torch.linalg.cholesky_ex(cov)
    if not failed and lower.diagonal().min() ** 2 > zero * cov.diagonal().max():
        return lower.T  # full rank, in a tenth of the time of the eigenvectors
    values, vectors = torch.linalg.eigh(cov)  # ascending
    largest, lowest = values.abs().max().item(), values[0].item()
    if lowest < -_ROUNDING * largest:
        raise ValueError(f"{which}: a covariance has no negative eigenvalue, this one has {lowest:g}")
    # Eigenvalues that are zero but for rounding (fewer images than features) would enter with their square root, which
    # is 1e8 times larger.
    kept = values > zero * largest
    return values[kept].sqrt()[:, None] * vectors.T[kept]


def frechet_distance(
    mu1: Tensor | np.ndarray, cov1: Tensor | np.ndarray, mu2: Tensor | np.ndarray, cov2: Tensor | np.ndarray
) -> float:
    r"""Squared Fréchet (2-Wasserstein) distance between two Gaussians.

    .. math:: d^2 = \|\mu_1 - \mu_2\|^2
        + \operatorname{tr}\bigl(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\bigr)

    This is what the literature reports as FID, without a root. With :math:`\Sigma_i = F_i^\top F_i` the trace of the
    square root is the sum of the singular values of :math:`F_1 F_2^\top`, which, unlike a matrix square root of the
    product, stays real and accurate for singular covariances. Computed in float64 on the CPU.

    Args:
        mu1: Mean ``(D,)``, tensor or array; for one feature a number will do.
        cov1: Covariance ``(D, D)``.
        mu2: As ``mu1``.
        cov2: As ``cov1``.

    Returns:
        The distance, at least 0, in squared units of the features.

    Raises:
        ValueError: Shapes that do not fit, NaN or Inf, or a matrix that is not symmetric and positive semi-definite.

    Source: Dowson and Landau 1982; Heusel et al. 2017, Eq. 6.
    """
    mu1, cov1 = _gaussian(mu1, cov1, "the first Gaussian")
    mu2, cov2 = _gaussian(mu2, cov2, "the second Gaussian")
    if mu1.shape != mu2.shape:
        raise ValueError(f"the Gaussians have {len(mu1)} and {len(mu2)} features; use one extractor for both")
    root = torch.linalg.svdvals(_factor(cov1, "the first Gaussian") @ _factor(cov2, "the second Gaussian").T).sum()
    squared = (mu1 - mu2).square().sum() + cov1.trace() + cov2.trace() - 2 * root
    return max(squared.item(), 0.0)  # below zero by rounding only


# ---------------------------------------------------------------------------------------------------------------------
# Means and covariances of a stream


class FeatureStatistics:
    r"""Mean and covariance of features that come in batches, without keeping the features.

    Batches and whole accumulators are joined by the pairwise update

    .. math:: M \leftarrow M_a + M_b + \frac{n_a n_b}{n_a + n_b}\,\delta\delta^\top, \qquad \delta = \mu_b - \mu_a

    of the centred sums of squares :math:`M`, in float64 on the CPU: sums of raw squares would cancel when the mean is
    large beside the deviation. How the stream is cut into updates does not matter. Of the symmetric :math:`M` only the
    blocks on and above the diagonal are computed, which saves nearly half of the time.

    Source: Chan, Golub and LeVeque 1979.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = torch.empty(0, dtype=torch.float64)
        self._scatter = torch.empty(0, 0, dtype=torch.float64)  # what lies below the diagonal means nothing

    @property
    def count(self) -> int:
        """Images seen so far."""
        return self._count

    @torch.no_grad()
    def update(self, features: Tensor) -> None:
        """Add features ``(N, D)``.

        Raises:
            ValueError: Not two axes, a ``D`` that changes, or NaN or Inf; nothing is added then.
        """
        if features.ndim != 2 or features.shape[1] == 0:
            raise ValueError(f"features must have shape (N, D), got {tuple(features.shape)}")
        x = features.detach().cpu().double()
        if not torch.isfinite(x).all():
            bad = (~torch.isfinite(x)).any(1).nonzero().flatten().tolist()
            raise ValueError(f"NaN or Inf in the features of {len(bad)} of {len(x)} images, the first at {bad[0]}")
        if len(x):
            mean = x.mean(0)
            self._join(len(x), mean, x - mean)

    def merge(self, other: FeatureStatistics) -> None:
        """Add everything that another accumulator has seen.

        Raises:
            ValueError: The other saw another number of features per image.
        """
        if other._count:
            self._join(other._count, other._mean, other._scatter[:0])
            self._scatter += other._scatter

    def over_ranks(self, world: World) -> FeatureStatistics:
        r"""The statistics of all ranks' images together, on every rank; all ranks have to call it.

        .. math:: M = \sum_r M_r + n_r (\mu_r - \mu)(\mu_r - \mu)^\top

        In the memory of one matrix ``(D, D)`` per rank, whatever their number. A rank may have seen nothing.
        """
        if world.size == 1:
            return self
        found = FeatureStatistics()
        d = int(reduce_over_ranks(torch.tensor(len(self._mean)), world, "MAX"))
        mine, scatter = torch.zeros(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
        if self._count:
            mine, scatter = self._mean, self._scatter.clone()
        found._count = int(reduce_over_ranks(torch.tensor(self._count), world))
        found._mean = reduce_over_ranks(mine * self._count, world) / max(found._count, 1)
        scatter.addr_(mine - found._mean, mine - found._mean, alpha=self._count)
        found._scatter = reduce_over_ranks(scatter, world)
        return found

    def _join(self, count: int, mean: Tensor, centred: Tensor) -> None:
        """Add images of that mean, and the centred rows ``(n, D)`` whose squares are to be summed."""
        if not self._count:
            self._mean = torch.zeros_like(mean)
            self._scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64)
        if mean.shape != self._mean.shape:
            raise ValueError(f"features of {len(self._mean)} numbers so far, now of {len(mean)}")
        total, delta = self._count + count, mean - self._mean
        # The update's last term is one row more; products in place, as (D, D) may be 2048 x 2048.
        _add_gram(self._scatter, torch.cat([centred, delta[None] * math.sqrt(self._count * count / total)]))
        self._mean += delta * (count / total)
        self._count = total

    def mean(self) -> Tensor:
        """``(D,)`` in float64.

        Raises:
            ValueError: Nothing was added yet.
        """
        if not self._count:
            raise ValueError("no mean yet: update() has not been called")
        return self._mean.clone()

    def covariance(self) -> Tensor:
        """``(D, D)`` in float64, the sum of squares divided by N - 1, as FID's reference implementation has it.

        Raises:
            ValueError: Fewer than two images were added.
        """
        if self._count < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {self._count}")
        upper = self._scatter.triu() / (self._count - 1)
        return upper + upper.triu(1).T

    def distance(self, other: FeatureStatistics) -> float:
        """:func:`frechet_distance` to another set of images."""
        return frechet_distance(self.mean(), self.covariance(), other.mean(), other.covariance())


def _add_gram(scatter: Tensor, rows: Tensor) -> None:
    """Add ``rows.T @ rows`` to ``scatter``, in blocks on and above the diagonal only."""
    for start in range(0, rows.shape[1], _BLOCK):
        scatter[start : start + _BLOCK, start:].addmm_(rows[:, start : start + _BLOCK].T, rows[:, start:])


def reduce_over_ranks(values: Tensor, world: World, operation: str = "SUM") -> Tensor:
    """Sum or ``"MAX"`` of a tensor over ranks, the same on all of them; a new tensor on the CPU."""
    if world.size == 1:
        return values.clone()
    moved = values.to(world.device, copy=True)  # NCCL reduces tensors on GPUs only
    dist.all_reduce(moved, getattr(dist.ReduceOp, operation))
    return moved.cpu()


# ---------------------------------------------------------------------------------------------------------------------
# Reconstructions


def _batches(images: Tensor | Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    return iter(images.split(batch_size)) if isinstance(images, Tensor) else iter(images)


def _extract(features: Features, images: Tensor) -> Tensor:
    if isinstance(features, nn.Module):
        if features.training:
            raise ValueError(
                f"the feature extractor {type(features).__name__} is in training mode, where dropout and batch "
                "statistics change its features; call .eval() first"
            )
        parameter = next(features.parameters(), None)
        images = images if parameter is None else images.to(parameter.device)
    found = features(images)
    if found.ndim != 2 or len(found) != len(images):
        raise ValueError(f"features of {len(images)} images must be ({len(images)}, D), got {tuple(found.shape)}")
    return found


@torch.no_grad()
def reconstruction_frechet_distance(
    images: Tensor | Iterable[Tensor],
    reconstructions: Tensor | Iterable[Tensor],
    features: Features,
    batch_size: int = 32,
) -> float:
    r"""Fréchet distance between the features of images and those of their reconstructions.

    Reconstructions are clamped to the images' range first: what is saved and looked at is. The estimate is biased
    upwards by a finite sample; below about ten images per feature compare it only at equal numbers of images. With no
    more images than features the covariances are singular, and a warning says so.

    Args:
        images: ``(N, 3, H, W)`` in [-1, 1], or an iterable of such batches.
        reconstructions: As many, cut into the same batches if they come in batches.
        features: Images ``(N, 3, H, W)`` to features ``(N, D)``; a module has to be in evaluation mode, and images are
            moved to its device.
        batch_size: Images at a time, where tensors are given.

    Raises:
        ValueError: Batches that do not match, fewer than 2 images, a module in training mode, or features of another
            shape.
    """
    before, after = FeatureStatistics(), FeatureStatistics()
    pairs = zip_longest(_batches(images, batch_size), _batches(reconstructions, batch_size))
    for i, (x, y) in enumerate(pairs):
        if x is None or y is None or x.shape != y.shape:
            shapes = " and ".join("no images" if part is None else str(tuple(part.shape)) for part in (x, y))
            raise ValueError(f"images and reconstructions differ in batch {i}: {shapes}")
        before.update(_extract(features, x.clamp(-1, 1)))
        after.update(_extract(features, y.clamp(-1, 1)))
    distance = before.distance(after)
    dimensions = len(before.mean())
    if before.count <= dimensions:
        warnings.warn(
            f"{before.count} images for {dimensions} features: the covariances are singular, and the Fréchet distance "
            "compares only with others over the same images",
            stacklevel=2,
        )
    return distance
