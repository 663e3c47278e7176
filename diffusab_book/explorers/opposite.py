r"""What a warm-up on low-passed images shows a denoiser, by frequency, and what the switch away from it costs.

By zigzag rank k of the latents' DCT, all latents normalised by the statistics of the whole images': the variance of
whole and of low-passed images' latents, their ratio, and the distance of the two distributions. For linear denoisers
the loss right after the switch is known, :func:`mismatch_loss`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core.metrics.frechet import frechet_distance
from diffusab_core.spectrum import block_dct, zigzag_order
from diffusab_core.spectrum.radial import radial_split


@dataclass(frozen=True)
class Exposure:
    r"""What a denoiser is shown of each rank while images are low-passed, beside what it has to learn.

    Attributes:
        energy: Variance :math:`\lambda_k` of whole images' latents, ``(K,)``, mean over channels.
        warm: Variance :math:`\lambda_k^{\mathrm{low}}` of the low-passed ones', ``(K,)``.
        distance: Squared Fréchet distance of the two at each rank over the energy of the whole ones, ``(K,)``; 0 where
            both are the same, 1 where the low-passed ones are constant at the right mean.
    """

    energy: Tensor
    warm: Tensor
    distance: Tensor

    @property
    def ratio(self) -> Tensor:
        r""":math:`\rho_k = \lambda_k^{\mathrm{low}} / \lambda_k`, ``(K,)``; above 1 the warm-up shows more."""
        return self.warm / self.energy


def ranked(z: Tensor, block_size: int = 8) -> Tensor:
    """DCT coefficients of latents ``(N, C, h, w)`` by zigzag rank, ``(N · blocks, C, K)`` float64."""
    blocks = block_dct(z, block_size).double()  # (N, C, h/B, w/B, B, B)
    flat = blocks.flatten(-2)[..., zigzag_order(block_size)]  # (N, C, h/B, w/B, K)
    return flat.permute(0, 2, 3, 1, 4).flatten(0, 2)


def second_moments(coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Means ``(C, K)`` and covariances of the channels at each rank ``(K, C, C)`` of :func:`ranked` coefficients."""
    mean = coefficients.mean(0)
    centred = coefficients - mean
    return mean, torch.einsum("nck,ndk->kcd", centred, centred) / len(centred)


def exposure(whole: Tensor, low: Tensor) -> Exposure:
    r"""Compare two sets of :func:`ranked` coefficients, of whole and of low-passed images.

    The distance at rank k is that of Gaussians with the sets' second moments over the channels,

    .. math:: d_k^2 = \frac{\|m_k - m_k^{\mathrm{low}}\|^2 + \operatorname{tr}\bigl(\Sigma_k + \Sigma_k^{\mathrm{low}}
              - 2 (\Sigma_k \Sigma_k^{\mathrm{low}})^{1/2}\bigr)}{\operatorname{tr} \Sigma_k} .

    Args:
        whole: ``(n, C, K)``.
        low: ``(m, C, K)``; the same images, or others.

    Raises:
        ValueError: Other channels or ranks, or a rank at which the whole images' latents do not vary.
    """
    if whole.shape[1:] != low.shape[1:]:
        raise ValueError(f"coefficients of shapes {tuple(whole.shape)} and {tuple(low.shape)} do not compare")
    (mean, covariance), (low_mean, low_covariance) = second_moments(whole), second_moments(low)
    energy, warm = (c.diagonal(dim1=1, dim2=2).mean(1) for c in (covariance, low_covariance))  # (K,)
    if not bool((energy > 0).all()):
        raise ValueError(f"the latents do not vary at rank {int((energy <= 0).nonzero()[0])}")
    channels = covariance.shape[-1]
    distance = [
        frechet_distance(mean[:, k], covariance[k], low_mean[:, k], low_covariance[k]) / channels
        for k in range(len(energy))
    ]
    return Exposure(energy, warm, torch.tensor(distance, dtype=torch.float64) / energy)


# ---------------------------------------------------------------------------------------------------------------------
# The switch


def mismatch_loss(believed: Tensor, energy: Tensor, points: int = 801) -> Tensor:
    r"""What a linear denoiser that has learned one spectrum loses on data with another, beyond the least loss.

    For variance :math:`\lambda` the best linear velocity is :math:`a_t(\lambda)\, x_t` with

    .. math:: a_t(\lambda) = \frac{t - (1-t)\lambda}{(1-t)^2\lambda + t^2}, \qquad
              \delta(\lambda', \lambda) = \mathbb E_t \bigl(a_t(\lambda') - a_t(\lambda)\bigr)^2
              \bigl((1-t)^2 \lambda + t^2\bigr),

    since the error of the best predictor is uncorrelated with the state; times are logit-normal of location 0 and scale
    1, by the trapezoidal rule as in :func:`diffusab_core.flow.mean_least_loss`.

    Args:
        believed: :math:`\lambda'`, the variances that were learned, ``(K,)``.
        energy: :math:`\lambda`, those of the data, ``(K,)``.
        points: Of the rule.

    Returns:
        ``(K,)``, at least 0, and 0 only where both agree.

    Raises:
        ValueError: A variance that is not positive.
    """
    for values in (believed, energy):
        if not bool((values > 0).all()):
            raise ValueError(f"variances must be positive, the smallest is {values.min().item()}")
    z = torch.linspace(-8, 8, points, dtype=torch.float64)
    weight = torch.exp(-z.square() / 2)
    t = torch.sigmoid(z)[:, None]

    def state(lam: Tensor) -> Tensor:
        return (1 - t) ** 2 * lam + t**2

    lam, other = energy.double(), believed.double()
    slopes = [(t - (1 - t) * v) / state(v) for v in (other, lam)]  # (points, K) each
    excess = (slopes[0] - slopes[1]).square() * state(lam)
    return ((weight[:, None] * excess).sum(0) / weight.sum()).to(energy.dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Explorer


def warmup_explorer(
    image: Tensor, found: Mapping[str, Mapping[float, Exposure]], start: float = 0.2, mark: int | None = None
) -> Explorer:
    r"""What a warm-up at each cutoff shows: the low-passed image, the energy of its latents, their distance by rank.

    Args:
        image: ``(3, H, W)`` in [-1, 1], of which the low-passed form is shown.
        found: By autoencoder, by cutoff in cycles per pixel, the same cutoffs for all.
        start: The cutoff shown first.
        mark: Rank from which on ranks count as high, drawn as a line; by default half of them.

    Raises:
        ValueError: No autoencoder, or cutoffs that differ between them.
    """
    cutoffs = [tuple(by_radius) for by_radius in found.values()]
    if not cutoffs or any(c != cutoffs[0] for c in cutoffs):
        raise ValueError(f"every autoencoder needs the same cutoffs, got {cutoffs}")
    first = next(iter(next(iter(found.values())).values()))
    k = len(first.energy)
    half = k // 2 if mark is None else mark
    top = max(e.ratio.max().item() for by_radius in found.values() for e in by_radius.values())

    @cache
    def picture(radius: float) -> go.Image:
        return figures.image_trace(radial_split(image, radius)[0], quality=80)

    def draw(r0: float) -> go.Figure:
        high = {name: by_radius[r0].warm[half:].sum() / by_radius[r0].energy[half:].sum()
                for name, by_radius in found.items()}  # fmt: skip
        said = ", ".join(f"{name} × {value:.2f}" for name, value in high.items())
        fig = make_subplots(
            2, 2, specs=[[{}, {}], [{"colspan": 2}, None]], column_widths=[0.36, 0.64], vertical_spacing=0.2,
            horizontal_spacing=0.14, row_heights=[0.55, 0.45],
            subplot_titles=[f"r₀ = {r0:g}", "energy, low-passed / whole",
                            f"distance over energy<br>energy, upper half: {said}"],
        )  # fmt: skip
        fig.add_trace(picture(r0), row=1, col=1)
        figures.hide_image_axes(fig, [1])
        for i, (name, by_radius) in enumerate(found.items()):
            shown = by_radius[r0]
            style = {"color": figures.PALETTE[i], "dash": figures.DASHES[i], "width": 2}
            for values, row, column in ((shown.ratio, 1, 2), (shown.distance, 2, 1)):
                line = go.Scatter(
                    y=[float(f"{v:.4g}") for v in values.tolist()], name=name, legendgroup=name, mode="lines",
                    line=style, showlegend=row == 1, hovertemplate="rank %{x}: %{y:.3g}<extra>" + name + "</extra>",
                )  # fmt: skip
                fig.add_trace(line, row, column)
        for row, column in ((1, 2), (2, 1)):
            fig.add_vline(x=half - 0.5, line={"color": figures.GREY, "dash": "dot", "width": 1}, row=row, col=column)
            fig.update_xaxes(title="zigzag rank", title_standoff=4, row=row, col=column)
        fig.add_hline(y=1, line={"color": figures.GREY, "width": 1}, row=1, col=2)
        fig.update_yaxes(range=[0, max(1.1, 1.05 * top)], row=1, col=2)
        fig.update_yaxes(range=[-0.02, 1.02], row=2, col=1)
        fig.update_layout(height=560, margin={"t": 84, "l": 44, "r": 12}, legend={"y": 1.06, "x": 0})
        fig.update_annotations(font_size=13)
        return figures.described(
            fig,
            "Explorer over the cutoff: a low-passed photograph, and by zigzag rank the energy of low-passed images' "
            "latents over that of whole ones and the distance of the two distributions, for each autoencoder. The last "
            "title gives the ratio of the energies of the upper half of the ranks.",
        )

    return Explorer(draw, [Control("r0", "cutoff r₀, cycles per pixel", cutoffs[0], start, "slider",
                                   lambda r: f"{r:.3g}" if r < math.inf else "none")])  # fmt: skip
