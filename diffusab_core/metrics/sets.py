r"""Two sets of features beside one another: Fréchet distance, precision and recall, Inception Score.

Features are ``(N, D)`` for N images; :mod:`diffusab_core.metrics.networks` makes them. Values over different networks,
numbers of images or sizes of images do not compare with one another.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from diffusab_core.training.world import World, gather

# How far from symmetric or below zero, relative to the largest entry or eigenvalue, a covariance may be by rounding.
_ROUNDING = 1e-6
# Columns at a time in a Gram matrix; 128 to 512 are about equally fast for 2048 features.
_BLOCK = 256


def _factor(mu: Tensor | np.ndarray, cov: Tensor | np.ndarray, which: str) -> tuple[Tensor, Tensor]:
    r"""The mean, and :math:`F`, ``(rank, D)``, so that :math:`F^\top F = \Sigma`: Cholesky's, or by eigenvectors."""
    mu, cov = (torch.as_tensor(part).detach().cpu().double() for part in (mu, cov))
    if mu.ndim == 0 and cov.ndim == 0:  # one feature; numpy.cov returns no axes for it
        mu, cov = mu[None], cov[None, None]
    if mu.ndim != 1 or not len(mu) or cov.shape != (len(mu), len(mu)):
        shapes = f"{tuple(mu.shape)} and {tuple(cov.shape)}"
        raise ValueError(f"{which} needs a mean (D,) and a covariance (D, D), got {shapes}")
    if not (torch.isfinite(mu).all() and torch.isfinite(cov).all()):
        raise ValueError(f"{which} has NaN or Inf in its mean or covariance")
    asymmetry = (cov - cov.T).abs().max().item()
    if asymmetry > _ROUNDING * cov.abs().max().item():
        raise ValueError(f"{which}: the covariance is not symmetric, entries differ by up to {asymmetry:g}")
    zero = len(cov) * torch.finfo(cov.dtype).eps  # relative; what is smaller is zero but for rounding
    lower, failed = torch.linalg.cholesky_ex(cov)
    if not failed and lower.diagonal().min() ** 2 > zero * cov.diagonal().max():
        return mu, lower.T  # full rank, in a tenth of the time of the eigenvectors
    values, vectors = torch.linalg.eigh(cov)  # ascending
    largest, lowest = values.abs().max().item(), values[0].item()
    if lowest < -_ROUNDING * largest:
        raise ValueError(f"{which}: a covariance has no negative eigenvalue, this one has {lowest:g}")
    kept = values > zero * largest  # zeros but for rounding would enter with their square roots, 1e8 times larger
    return mu, values[kept].sqrt()[:, None] * vectors.T[kept]


def frechet_distance(
    mu1: Tensor | np.ndarray, cov1: Tensor | np.ndarray, mu2: Tensor | np.ndarray, cov2: Tensor | np.ndarray
) -> float:
    r"""Squared Fréchet (2-Wasserstein) distance between two Gaussians, at least 0.

    .. math:: d^2 = \|\mu_1 - \mu_2\|^2
        + \operatorname{tr}\bigl(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\bigr)

    This is what the literature reports as FID, without a root. With :math:`\Sigma_i = F_i^\top F_i` the trace of the
    square root is the sum of the singular values of :math:`F_1 F_2^\top`, which, unlike a matrix square root of the
    product, stays real and accurate for singular covariances. Means ``(D,)`` and covariances ``(D, D)`` are tensors or
    arrays, for one feature numbers will do; computed in float64 on the CPU. Shapes that do not fit, NaN, Inf, and a
    matrix that is not symmetric and positive semi-definite are a ``ValueError``.

    Source: Dowson and Landau 1982; Heusel et al. 2017, Eq. 6.
    """
    m1, f1 = _factor(mu1, cov1, "the first Gaussian")
    m2, f2 = _factor(mu2, cov2, "the second Gaussian")
    if m1.shape != m2.shape:
        raise ValueError(f"the Gaussians have {len(m1)} and {len(m2)} features; use one network for both")
    traces = f1.square().sum() + f2.square().sum()
    squared = (m1 - m2).square().sum() + traces - 2 * torch.linalg.svdvals(f1 @ f2.T).sum()
    return max(squared.item(), 0.0)  # below zero by rounding only


def precision_recall(real: Tensor, fake: Tensor, k: int = 3, block: int = 1000) -> tuple[float, float]:
    r"""Share of the fake features in the manifold of the real ones, and of the real in that of the fake.

    .. math:: \operatorname{precision} = \frac{1}{M} \sum_{j=1}^{M}
        \mathbf 1\bigl[\exists i: \|f_j - r_i\| \le \|r_i - \mathrm{NN}_k(r_i)\|\bigr]

    and recall with the sets exchanged: a set's manifold is the union of balls around its features, each as large as
    the distance to the k-th nearest other feature. Precision falls when samples look like nothing real, recall when
    kinds of real images are missing. A ball shrinks as its set grows, so compare only equal numbers. Published values
    are over VGG-16. Features are ``(N, D)`` and ``(M, D)`` of one network, more than k each, or a ``ValueError``.
    Distances are in float64, ``block`` rows at a time (10 000 against 10 000 features need some 300 MB).

    Source: Kynkäänniemi et al. 2019, Eq. 1 to 3.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got k={k}")
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


class FeatureStatistics:
    r"""What is kept of features that come in batches: mean and covariance, a random subset, sums over classes.

    Batches are joined by the pairwise update

    .. math:: M \leftarrow M_a + M_b + \frac{n_a n_b}{n_a + n_b}\,\delta\delta^\top, \qquad \delta = \mu_b - \mu_a

    of the centred sums of squares :math:`M`, in float64 on the CPU: sums of raw squares would cancel when the mean is
    large beside the deviation. Only its blocks on and above the diagonal are computed, in nearly half of the time. How
    the stream is cut does not matter, nor on how many ranks it is read if image i of all is on rank i mod size, see
    :meth:`over_ranks`. ``keep`` is the subset's size at most, ``splits`` is the Inception Score's.

    Source: Chan, Golub and LeVeque 1979.
    """

    def __init__(self, keep: int = 0, splits: int = 10, world: World | None = None) -> None:
        self.count, self.keep, self.world = 0, keep, world or World()
        self._mean = torch.empty(0, dtype=torch.float64)
        self._scatter = torch.empty(0, 0, dtype=torch.float64)  # what lies below the diagonal means nothing
        # The subset has the features with the lowest of random keys, one key for each image of all ranks.
        self._rng, self._kept = np.random.default_rng(0), [(torch.empty(0, dtype=torch.float64), torch.empty(0, 0))]
        # Of each split: images, sum of -H(p), and sum of p.
        self._classes = torch.zeros(splits, 2, dtype=torch.float64)

    @torch.no_grad()
    def update(self, features: Tensor, probabilities: Tensor | None = None) -> None:
        """Add features ``(N, D)`` and, for the Inception Score, probabilities of classes ``(N, K)``, or refuse both."""
        if features.ndim != 2 or features.shape[1] == 0:
            raise ValueError(f"features must have shape (N, D), got {tuple(features.shape)}")
        x = features.detach().cpu().double()
        if self.count and x.shape[1] != len(self._mean):
            raise ValueError(f"features of {len(self._mean)} numbers so far, now of {x.shape[1]}")
        if not torch.isfinite(x).all():
            bad = (~torch.isfinite(x)).any(1).nonzero().flatten().tolist()
            raise ValueError(f"NaN or Inf in the features of {len(bad)} of {len(x)} images, the first at {bad[0]}")
        if not len(x):
            return
        if probabilities is not None:
            self._add_classes(probabilities.detach().cpu().double())
        if self.keep:
            keys = torch.from_numpy(self._rng.random((len(x), self.world.size))[:, self.world.rank].copy())
            self._kept.append((keys, x.float()))
            if sum(len(keys) for keys, _ in self._kept) > 2 * self.keep:
                self._kept = [self._lowest(self._kept)]
        if not self.count:
            self._mean = torch.zeros_like(x[0])
            self._scatter = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
        total, mean = self.count + len(x), x.mean(0)
        delta = mean - self._mean
        # The update's last term is one row more; products in place, as (D, D) may be 2048 x 2048.
        rows = torch.cat([x - mean, delta[None] * math.sqrt(self.count * len(x) / total)])
        for start in range(0, x.shape[1], _BLOCK):
            self._scatter[start : start + _BLOCK, start:].addmm_(rows[:, start : start + _BLOCK].T, rows[:, start:])
        self._mean += delta * (len(x) / total)
        self.count = total

    def _add_classes(self, p: Tensor) -> None:
        if p.ndim != 2 or not ((p >= 0).all() and ((p.sum(1) - 1).abs() < 1e-3).all()):
            raise ValueError(f"probabilities must be (N, K), each row summing to 1, got shape {tuple(p.shape)}")
        if not self.count:
            self._classes = torch.zeros(len(self._classes), 2 + p.shape[1], dtype=torch.float64)
        position = torch.arange(self.count, self.count + len(p)) * self.world.size + self.world.rank  # among all
        rows = torch.cat([torch.ones(len(p), 1), torch.xlogy(p, p).sum(1, keepdim=True), p], dim=1)
        self._classes.index_add_(0, position % len(self._classes), rows)

    def _lowest(self, parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The ``keep`` lowest keys of all, in their order, and their rows."""
        parts = [part for part in parts if len(part[0])] or parts[:1]
        keys, rows = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        order = keys.argsort()[: self.keep]
        return keys[order], rows[order]

    def over_ranks(self) -> FeatureStatistics:
        r"""The statistics of all ranks' images together, on every rank; all ranks have to call it.

        .. math:: M = \sum_r M_r + n_r (\mu_r - \mu)(\mu_r - \mu)^\top

        In the memory of one matrix ``(D, D)`` per rank, whatever their number. A rank may have seen nothing.
        """
        if self.world.size == 1:
            return self
        found = FeatureStatistics(self.keep, len(self._classes), self.world)
        keys, rows = self._lowest(self._kept)
        parts = [part for part in gather((self.count, self._mean, self._classes, keys), self.world) if part[0]]
        if not parts:
            return found
        found.count, found._classes = sum(part[0] for part in parts), sum(part[2] for part in parts)
        found._mean = sum(count * mean for count, mean, *_ in parts) / found.count
        scatter = torch.zeros(len(found._mean), len(found._mean), dtype=torch.float64)
        if self.count:
            away = self._mean - found._mean
            scatter = self._scatter.addr(away, away, alpha=self.count)
        scatter = scatter.to(self.world.device)  # NCCL reduces tensors on GPUs only
        dist.all_reduce(scatter)
        found._scatter = scatter.cpu()
        if self.keep:  # ranks send no more rows in all than are kept
            few = keys <= torch.cat([part[3] for part in parts]).sort().values[: self.keep].max()
            found._kept = gather((keys[few], rows[few]), self.world)
        return found

    def mean(self) -> Tensor:
        """``(D,)`` in float64; refused while nothing was added."""
        if not self.count:
            raise ValueError("no mean yet: update() has not been called")
        return self._mean.clone()

    def covariance(self) -> Tensor:
        """``(D, D)`` in float64, the sum of squares over N - 1, as FID's reference has it; of two images at least."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {self.count}")
        upper = self._scatter.triu() / (self.count - 1)
        return upper + upper.triu(1).T

    def distance(self, other: FeatureStatistics) -> float:
        """:func:`frechet_distance` to another set of images."""
        return frechet_distance(self.mean(), self.covariance(), other.mean(), other.covariance())

    @property
    def subset(self) -> Tensor:
        """The features kept, ``(M, D)`` float32 in random order: any first part is a random subset, too."""
        return self._lowest(self._kept)[1]

    @property
    def inception_score(self) -> tuple[float, float] | None:
        r"""How sure a classifier is of each image, and how many classes it sees in all of them.

        .. math:: \exp \mathbb E_x \operatorname{KL}\bigl(p(y \mid x) \,\|\, p(y)\bigr)

        from 1 (all images look alike to the classifier) to the number of classes: mean and (population) standard
        deviation over splits, image i being in split i mod S; ``None`` if one is empty. It grows with a split's images.

        Source: Salimans et al. 2016; the standard deviation as in their code.
        """
        counts, entropies, sums = self._classes[:, 0], self._classes[:, 1], self._classes[:, 2:]
        if (counts == 0).any():
            return None
        mean = sums / counts[:, None]
        scores = (entropies / counts - torch.xlogy(mean, mean).sum(1)).exp()
        return scores.mean().item(), scores.std(correction=0).item()
