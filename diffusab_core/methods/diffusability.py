r"""How easily will a denoiser learn a latent space? Candidates for a score that needs no denoiser.

Each candidate is a number of latents, with the autoencoder where it speaks of that; :data:`CANDIDATES` says what it
looks at and where it comes from. None is claimed to predict anything here: that is measured against trained denoisers,
see the sweep ``spaces``. Smaller is not better nor worse by itself.

Latents are in the network's coordinates u: normalised, behind masks and filters, with channels that are appended.
Averages over times t are over :data:`TIMES`, eight equally likely times of the standard training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor

from diffusab_core.autoencoders import Autoencoder, Posterior
from diffusab_core.flow.gaussian import linear_bounds, mean_least_loss
from diffusab_core.methods import tokens
from diffusab_core.methods.regularizers import downsample
from diffusab_core.metrics import psnr
from diffusab_core.spectrum import frequency_profile, high_frequency_share, whole_dct
from diffusab_core.spectrum.bands import log_slope, profile_slope, ranked, second_moments
from diffusab_core.spectrum.dct import check_finite

#: The middles of eight equally likely parts of logit-normal times, location 0 and scale 1.
TIMES = tuple(1 / (1 + math.exp(-NormalDist().inv_cdf((i + 0.5) / 8))) for i in range(8))

#: Tokens behind the irreducible variance of a token's velocity.
TOKENS = 4096

LooksAt = Literal["pixels", "tokens", "latents", "autoencoder", "decoder", "network"]


@dataclass(frozen=True)
class Candidate:
    """What a candidate is: its name for a reader, its unit, what it looks at and its source."""

    title: str
    unit: str
    looks_at: LooksAt
    source: str = "this book"


_SE, _VIV = "Skorokhodov et al. 2025, Eq. 1 and Fig. 2", "after the abstract of arXiv 2606.03578"
#: By the name under which runs record them.
CANDIDATES: dict[str, Candidate] = {
    "profile_share": Candidate("high-frequency share", "share of energy", "pixels", _SE),
    "profile_slope": Candidate("slope of the profile", "energy, log-log", "pixels", _SE),
    "profile_distance": Candidate("profile's distance to RGB's", "decades", "pixels", _SE),
    "token_share": Candidate("high-frequency share of tokens", "share of energy", "tokens"),
    "token_slope": Candidate("slope over token frequencies", "energy, log-log", "tokens"),
    "token_surprise": Candidate("token unknown from its neighbours", "share of variance", "tokens"),
    "token_context": Candidate("what neighbours add to a noisy token", "share of its error", "tokens"),
    "token_participation": Candidate("directions that tokens use", "share of D", "tokens"),
    "token_numbers": Candidate("numbers in a token", "D", "tokens"),
    "viv": Candidate("irreducible variance of the velocity", "per number", "latents", _VIV),
    "token_viv": Candidate("irreducible variance of a token's velocity", "per number", "tokens", _VIV),
    "gaussian_loss": Candidate("least loss of a linear denoiser by frequency", "per number", "pixels"),
    "kurtosis": Candidate("excess kurtosis of coefficients", "weighted by energy", "pixels"),
    "intrinsic_dimension": Candidate("intrinsic dimension", "dimensions", "latents", "Facco et al. 2017 (TwoNN)"),
    "noise_share": Candidate("posterior's noise", "share of variance", "autoencoder"),
    "kl": Candidate("KL of the posterior to N(0, 1)", "nats per number", "autoencoder"),
    "equivariance_db": Candidate("scale equivariance, Dec(S z) to S Dec(z)", "dB", "decoder", "after Skorokhodov et "
                                 "al. 2025, Eq. 2"),
    "stake_error": Candidate("stake of high ranks × expected error", "Fréchet distance", "decoder"),
    "stake_error_all": Candidate("stake × expected error, all ranks", "Fréchet distance", "decoder"),
    "probe_gap": Candidate("gap of a probe denoiser, over its ruler", "0 real, 1 noise", "network"),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# The published profile, at the latent's resolution


def rank_energy(u: Tensor, block_size: int = 8) -> Tensor:
    """Variance of the DCT coefficients of each zigzag rank over latents and blocks, mean over channels, ``(B²,)``."""
    return ranked(_frames(u), block_size).var(0, correction=0).mean(0)


def profile_distance(energy: Tensor, of_rgb: Tensor) -> float:
    r"""How far two profiles of energies ``(B²,)`` are apart in shape, in decades of amplitude; rank 0 is left out.

    .. math:: \frac{1}{B^2 - 1} \sum_{k \ge 1} \tfrac12 \bigl| \log_{10} e_k - \log_{10} r_k \bigr|, \qquad
              e_k, r_k \text{ over their geometric means},

    so that neither scale nor offset matters. Energies that are zero at a rank are left out of both.
    """
    there = (energy > 0) & (of_rgb > 0)
    there[0] = False
    a, b = (e[there].double().log10() for e in (energy, of_rgb))
    return float(((a - a.mean()) - (b - b.mean())).abs().mean() / 2) if there.any() else math.nan


def gaussian_loss(u: Tensor) -> float:
    r"""Least flow loss of a linear denoiser that sees one frequency at a time, all channels of it together, per number.

    .. math:: \frac{1}{CK} \sum_{k, i} \mathbb E_t \frac{\lambda_{ki}}{(1-t)^2 \lambda_{ki} + t^2}

    with the eigenvalues of the channels' covariance at frequency k of the DCT over the whole latent: the velocity
    irreducible variance of a stationary Gaussian field with that covariance. White latents of variance 1 have 1.74.
    """
    d = whole_dct(u, u.ndim - 2).double().flatten(2)  # (N, C, K)
    return linear_bounds(second_moments(d)[1])[1]


def describe(u: Tensor, patch: int, block_size: int = 8) -> dict[str, float]:
    """What a network is given, by what moves energy about and what does not, as a row of a table.

    Shares of energy in the upper half of zigzag ranks, of latent pixels (blocks of ``block_size``) and of tokens (one
    block over their grid); the least flow loss where every coefficient of the DCT is predicted from itself alone, and
    where all numbers of a latent are predicted together, linearly: the last is the same for all orthogonal maps of u.

    Args:
        u: ``(N, C, s, s)``, in the network's coordinates; more latents than a latent has numbers.
        patch: Side of the denoiser's patch, which divides s.
        block_size: Which divides s, too.
    """
    field = tokens.token_field(u, patch)
    alone = whole_dct(u).double().var(0).flatten()
    together = torch.linalg.eigvalsh(torch.cov(u.double().flatten(1).T)).clamp_min(1e-6)
    return {
        "share in upper ranks": high_frequency_share(frequency_profile(u, block_size, "energy")),
        "share in upper ranks of tokens": high_frequency_share(frequency_profile(field, field.shape[-1], "energy")),
        "least loss from the spectrum": mean_least_loss(alone).mean().item(),
        "least loss, linear": mean_least_loss(together).mean().item(),
    }


def kurtosis(u: Tensor) -> float:
    r"""Excess kurtosis :math:`\mu_4 / \sigma^4 - 3` of each coefficient of the DCT over the whole latent, weighted by
    :math:`\sigma^2`: 0 for Gaussian latents, 3 for Laplace's."""
    d = whole_dct(u, u.ndim - 2).double().flatten(1)
    d = d - d.mean(0)
    variance, fourth = d.square().mean(0), d.pow(4).mean(0)
    there = variance > 1e-12 * variance.max()
    excess = fourth[there] / variance[there].square() - 3
    return float((excess * variance[there]).sum() / variance[there].sum())


# ---------------------------------------------------------------------------------------------------------------------
# Whole latents


def velocity_irreducible_variance(
    u: Tensor, times: Sequence[float] = TIMES, queries: int = 2048, seed: int = 0
) -> float:
    r"""How ambiguous the velocity is where paths cross, per number, of the empirical distribution of the latents.

    .. math:: \frac1D\, \mathbb E_t\, \mathbb E\, \operatorname{Var}(\varepsilon - x \mid x_t)
              = \frac1D\, \mathbb E_t\, \frac{\mathbb E\, \operatorname{Var}(x \mid x_t)}{t^2}, \qquad
              p(x = u_j \mid x_t) \propto \exp\Bigl(-\frac{\|x_t - (1-t)\,u_j\|^2}{2 t^2}\Bigr)

    since :math:`\varepsilon - x = (x_t - x)/t`. It is the part of the flow loss that no denoiser can learn, were the
    data these N latents; it grows with their number until they are dense, so compare equal numbers only.

    Exactly what arXiv 2606.03578 computes is not known here: this is written after its abstract, "a measure of
    velocity ambiguity induced by trajectory crossings".

    Args:
        u: ``(N, ...)``.
        times: Noise levels in (0, 1).
        queries: Points of paths at each time, spread evenly over the latents. With 2048 the number is good to some
            percent.
        seed: Of the noise.
    """
    x = u.flatten(1).float()
    x = x - x.mean(0)
    products = x @ x.T  # (N, N)
    norms = products.diagonal()
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for places in (torch.arange(queries) * len(x) // queries).split(512):
        # The same noise at all times: its products with the latents are most of the work.
        noise = torch.randn(len(places), x.shape[1], generator=generator).to(x) @ x.T
        for t in times:
            along = (1 - t) * products[places] + t * noise  # x_t with each of the latents
            weights = (((1 - t) * along - (1 - t) ** 2 / 2 * norms) / t**2).softmax(1)  # (n, N)
            few = x.shape[1] < len(x)
            of_mean = (weights @ x).square().sum(1) if few else (weights @ products * weights).sum(1)
            total += float((weights @ norms - of_mean).clamp_min(0).sum()) / t**2
    return total / (len(times) * queries * x.shape[1])


def intrinsic_dimension(u: Tensor) -> float:
    r"""Dimension of the set that the latents lie on, from the distances to the two nearest others (TwoNN).

    .. math:: d = \frac{N}{\sum_n \ln (r_{n,2} / r_{n,1})}

    Low for so many numbers and so few latents, as any such estimate: compare equal numbers only. Latents that are there
    twice are left out. Source: Facco et al. 2017, "Estimating the intrinsic dimension of datasets by a minimal
    neighborhood information", Scientific Reports 7, 12140.
    """
    x = u.flatten(1).double()
    nearest = torch.cdist(x, x).topk(3, largest=False).values  # (N, 3), itself first
    first, second = nearest[:, 1], nearest[:, 2]
    apart = first > 1e-6 * nearest[:, 2].median()
    logs = (second[apart] / first[apart]).log()
    return float(len(logs) / logs.sum()) if len(logs) and logs.sum() > 0 else math.nan


# ---------------------------------------------------------------------------------------------------------------------
# The autoencoder


def posterior_kl(posterior: Posterior) -> float:
    r"""KL of the posterior to N(0, 1) per number, :math:`\tfrac12(\mu^2 + \sigma^2 - 1 - \ln \sigma^2)`, in nats.

    Infinite where a sigma is zero.
    """
    mu, sigma = posterior.mean.double(), posterior.std.double()
    return float((mu.square() + sigma.square() - 1 - 2 * sigma.log()).mean() / 2)


def equivariance_db(autoencoder: Autoencoder, z: Tensor, scale: int = 2, batch_size: int = 64) -> float:
    """PSNR of Dec(S z) against S Dec(z), S antialiased bilinear downsampling, in dB; raw latents ``(N, C, h, w)``."""

    def decode(some: Tensor) -> Tensor:
        return autoencoder.decode(autoencoder.place(some)).clamp(-1, 1).float().cpu()

    pairs = [(decode(downsample(some, scale)), downsample(decode(some), scale)) for some in z.split(batch_size)]
    small, large = (torch.cat(part) for part in zip(*pairs, strict=True))
    return float(psnr(large, small))


def expected_error(u: Tensor, block_size: int = 8, times: Sequence[float] = TIMES) -> Tensor:
    r"""Relative error of a linear estimate of each zigzag rank from itself, averaged over times, ``(B²,)`` in [0, 1].

    .. math:: \eta_k = \frac{1}{\sum_c \lambda_{ck}}\, \mathbb E_t \sum_c
              \frac{\lambda_{ck}\, t^2}{(1-t)^2 \lambda_{ck} + t^2}

    with the variance :math:`\lambda_{ck}` of channel c at rank k. It is what
    :func:`~diffusab_core.metrics.yardsticks.relative_errors` measures of a denoiser. A mask is to be undone before.
    """
    variance = ranked(_frames(u), block_size).var(0, correction=0)  # (C, B²)
    error = sum(variance * t**2 / ((1 - t) ** 2 * variance + t**2) for t in times) / len(times)
    return error.sum(0) / variance.sum(0).clamp_min(1e-300)


def stake_error(bands: Sequence[tuple[int, int]], stakes: Sequence[float], errors: Tensor) -> list[float]:
    """What each band of ranks is expected to cost: its stake times the mean relative error of its ranks.

    Args:
        bands: First and last rank of each, as of :func:`~diffusab_core.metrics.yardsticks.choose_bands`.
        stakes: What it costs samples when the band is permuted across images,
            ``permuted`` of :class:`~diffusab_core.metrics.yardsticks.Ruler`.
        errors: Of :func:`expected_error`.
    """
    pairs = zip(bands, stakes, strict=True)
    return [float(stake * errors[first : last + 1].mean()) for (first, last), stake in pairs]


# ---------------------------------------------------------------------------------------------------------------------
# All that latents alone tell


def measure_latents(
    u: Tensor, patch: int, block_size: int = 8, rgb: Tensor | None = None, tell: Callable[[str], None] | None = None
) -> dict[str, float]:
    """Every candidate that is a function of latents, by name; what cannot be had is left out.

    Args:
        u: ``(N, C, h, w)`` or ``(N, C, T, h, w)``, in the network's coordinates; some hundreds or more.
        patch: Side of the denoiser's patch in latent pixels.
        block_size: Of the published profile.
        rgb: Images in [0, 1] of the latents' height and width ``(M, 3, h, w)``, for the distance to them.
        tell: Told of each group that is done.

    Raises:
        ValueError: NaN or Inf (the items are named), fewer than four latents, sides that patch or blocks do not fit.
    """
    check_finite(u)
    u = u.float()
    field = tokens.token_field(u, patch)
    tell = tell or (lambda group: None)
    energy = rank_energy(u, block_size)
    found = {"profile_share": high_frequency_share(energy), "profile_slope": profile_slope(energy, block_size)}
    if rgb is not None:
        found["profile_distance"] = profile_distance(energy, rank_energy(rgb.float(), block_size))
    tell("profile")
    spectrum, windows = tokens.field_energy(field), tokens.measure_windows(field)
    found |= {
        "token_share": tokens.upper_share(spectrum),
        "token_slope": log_slope(spectrum, tokens.grid_radius(spectrum.shape)),
        "token_surprise": tokens.surprise(windows, TIMES),
        "token_context": tokens.context(windows, TIMES),
        "token_participation": tokens.participation(windows),
        "token_viv": velocity_irreducible_variance(tokens.spread_tokens(field, TOKENS)),
        "token_numbers": float(field.shape[1]),
    }
    tell("tokens")
    found |= {
        "viv": velocity_irreducible_variance(u),
        "gaussian_loss": gaussian_loss(u),
        "kurtosis": kurtosis(u),
        "intrinsic_dimension": intrinsic_dimension(u),
    }
    tell("latents")
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _frames(u: Tensor) -> Tensor:
    """Frames of clips as items."""
    return u if u.ndim == 4 else u.transpose(1, 2).flatten(0, 1)
