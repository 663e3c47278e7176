r"""The book's explorers. Each is one function that returns an :class:`~diffusab_book.explorer.Explorer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core import autoencoders, flow
from diffusab_core.data import photo, resize_to, rgb01
from diffusab_core.metrics import psnr
from diffusab_core.spectrum import (
    STATISTICS,
    ProfileAccumulator,
    block_dct,
    chop_high_frequencies,
    frequency_profile,
    zigzag_order,
)

STATISTIC_LABELS = {
    "mean_ratio": "mean of |D/D₀₀| (Eq. 1)",
    "median_ratio": "median of |D/D₀₀|",
    "ratio_of_means": "mean |D| / mean |D₀₀|",
    "energy": "mean D² / mean D₀₀²",
}

KEPT_SHARES = (1.0, 0.75, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.03)


def percent(share: float) -> str:
    """A share as a reader says it: 0.03 → '3%'."""
    return f"{100 * share:g}%"


def cut_ratio(share: float, order: str) -> float:
    """The ratio that makes :func:`~diffusab_core.spectrum.dct.chop_high_frequencies` keep about a share of a block."""
    return 1 - (share if order == "zigzag" else share**0.5)


def dct_explorer(
    image: torch.Tensor,
    block_sizes: tuple[int, ...] = (4, 8, 16),
    shares: tuple[float, ...] = KEPT_SHARES,
    statistic: str = "ratio_of_means",
) -> Explorer:
    r"""What an image keeps when only a share of its lowest DCT frequencies is kept, block by block.

    Left the image rebuilt from the kept coefficients with its PSNR; right its frequency profile with the cut marked.

    Args:
        image: ``(3, H, W)`` in [-1, 1]; H and W multiples of every block size.
        block_sizes: The block sizes B offered.
        shares: The kept shares of the :math:`B^2` coefficients offered, in (0, 1].
        statistic: The statistic shown first.
    """
    x = image[None]  # (1, 3, H, W)

    @cache
    def profile(block_size: int) -> dict[str, list[float]]:
        accumulator = ProfileAccumulator(block_size)
        accumulator.update(rgb01(x))
        return {s: [float(f"{v:.3g}") for v in accumulator.profile(s).tolist()] for s in STATISTICS}

    @cache
    def rebuilt(block_size: int, share: float) -> tuple[go.Image, float]:
        kept = chop_high_frequencies(x, 1 - share, block_size)
        return figures.image_trace(kept[0]), psnr(kept, x).item() if share < 1 else float("inf")

    def draw(share: float, block_size: int, statistic: str) -> go.Figure:
        picture, decibel = rebuilt(block_size, share)
        n_kept = max(1, block_size**2 - round((1 - share) * block_size**2))
        quality = "exact" if share == 1 else f"PSNR {decibel:.1f} dB"
        fig = make_subplots(
            1, 2, column_widths=[0.42, 0.58], horizontal_spacing=0.12,
            subplot_titles=[f"{n_kept} of {block_size**2} kept · {quality}", "frequency profile"],
        )  # fmt: skip
        fig.add_trace(picture, row=1, col=1)
        figures.hide_image_axes(fig, [1])
        for i, (name, values) in enumerate(profile(block_size).items()):
            fig.add_trace(
                go.Scatter(
                    x=list(range(block_size**2)), y=values, name=STATISTIC_LABELS[name], visible=name == statistic,
                    line={"color": figures.PALETTE[i], "width": 2}, hovertemplate="rank %{x}: %{y:.3g}<extra></extra>",
                ),
                row=1, col=2,
            )  # fmt: skip
        cut = n_kept - 0.5
        fig.add_trace(
            go.Scatter(x=[cut, cut], y=[1e-6, 2], mode="lines", name="cut", hoverinfo="skip",
                       line={"color": figures.GREY, "dash": "dash"}), row=1, col=2,
        )  # fmt: skip
        fig.update_xaxes(title="zigzag rank", range=[-0.5, block_size**2 - 0.5], row=1, col=2)
        decades = {"type": "log", "range": [-5, 0.2], "dtick": 1, "exponentformat": "power"}
        fig.update_yaxes(title="relative to D₀₀", row=1, col=2, **decades)
        fig.update_layout(height=360, showlegend=False, margin={"t": 40, "l": 8, "r": 12})
        fig.update_annotations(font_size=13)
        return figures.described(
            fig,
            "Explorer: the photograph rebuilt from a share of its lowest DCT coefficients, with the PSNR, beside its "
            "frequency profile, which falls steeply with zigzag rank; a dashed line marks where the cut lies.",
        )

    return Explorer(
        draw,
        [
            Control("share", "coefficients kept", shares, shares[0], "slider", percent),
            Control("block_size", "block size", block_sizes, 8 if 8 in block_sizes else block_sizes[0], "menu",
                    lambda b: f"{b} × {b}"),
            Control("statistic", "", STATISTICS, statistic, "toggle", STATISTIC_LABELS.__getitem__),
        ],
    )  # fmt: skip


def cut_explorer(
    image: torch.Tensor,
    autoencoder,
    block_size: int = 8,
    shares: tuple[float, ...] = KEPT_SHARES,
    start: float = 1.0,
    orders: tuple[str, ...] = ("zigzag",),
    same_waves: bool = False,
) -> Explorer:
    r"""The same share of high frequencies cut from a photograph and from its latent.

    The photograph is cut with blocks f times larger, f the compression, so that a block covers the same part of the
    scene (Skorokhodov et al. 2025, Fig. 5 and Eq. 5). At equal shares it keeps frequencies up to f times higher in the
    scene than the latent does. Below: PSNR against the kept share for both.

    Args:
        image: ``(3, H, W)`` in [-1, 1]; H and W multiples of ``block_size`` times the compression.
        autoencoder: From :func:`diffusab_core.autoencoders.load`.
        block_size: B in the latent.
        shares: Kept shares in (0, 1].
        start: The share shown first.
        orders: The orders of cutting offered, of :data:`diffusab_core.spectrum.dct.ORDERS`. By axes a share is what is
            kept of both axes together, so each keeps its square root, rounded to whole frequencies.
        same_waves: Show a third picture: the photograph without the waves that the cut takes from the latent. Of the
            photograph's block that is :math:`1/f^2` of the share.
    """
    x = image[None]
    f = autoencoder.compression
    with torch.no_grad():
        z = autoencoder.encode(x).mean  # (1, C, h, w)

    @cache
    def cut(share: float, order: str) -> list[tuple[go.Image, float]]:
        ratio = cut_ratio(share, order)
        found = [chop_high_frequencies(x, ratio, block_size * f, order)]
        if same_waves:
            found.append(chop_high_frequencies(x, cut_ratio(share / f**2, order), block_size * f, order))
        with torch.no_grad():
            found.append(autoencoder.decode(chop_high_frequencies(z, ratio, block_size, order)))
        decibels = [psnr(picture, x).item() for picture in found]
        if share == 1:
            decibels[0] = float("inf")  # nothing is cut, and what the transform rounds is no error
        return [(figures.image_trace(p[0], quality=80), db) for p, db in zip(found, decibels, strict=True)]

    names = ["photograph", *(["photograph, same waves"] if same_waves else []), "latent, decoded"]
    styles = [(figures.BLUE, "solid"), *([(figures.GREEN, "dot")] if same_waves else []), (figures.VERMILLION, "dash")]

    def draw(share: float, order: str = orders[0]) -> go.Figure:
        pictures = cut(share, order)
        at = shares.index(share)
        titles = [
            f"{name}<br>" + ("uncut" if decibel == float("inf") else f"{decibel:.1f} dB")
            for name, (_, decibel) in zip(names, pictures, strict=True)
        ]
        columns = len(names)
        fig = make_subplots(
            2, columns, specs=[[{}] * columns, [{"colspan": columns}, *[None] * (columns - 1)]],
            row_heights=[0.64, 0.36], vertical_spacing=0.1, horizontal_spacing=0.03, subplot_titles=[*titles, ""],
        )  # fmt: skip
        for column, (picture, _) in enumerate(pictures, start=1):
            fig.add_trace(picture, row=1, col=column)
        figures.hide_image_axes(fig, range(1, columns + 1))
        curves = []
        for i, name in enumerate(names):
            found = [cut(s, order)[i][1] for s in shares]
            places = [j for j, decibel in enumerate(found) if decibel < float("inf")]  # uncut: no error at all
            curves.append((name, *styles[i], places, [found[j] for j in places]))
        for name, color, dash, positions, values in curves:
            fig.add_trace(
                go.Scatter(x=list(positions), y=[round(v, 2) for v in values], name=name, mode="lines+markers",
                           line={"color": color, "dash": dash}, hovertemplate="%{y:.1f} dB<extra>" + name + "</extra>"),
                row=2, col=1,
            )  # fmt: skip
        low = min(v for *_, values in curves for v in values) - 2
        high = max(v for *_, values in curves for v in values) + 2
        fig.add_trace(
            go.Scatter(x=[at, at], y=[low, high], mode="lines", line={"color": figures.GREY, "dash": "dot"},
                       showlegend=False, hoverinfo="skip"), row=2, col=1,
        )  # fmt: skip
        # One position for each step, so that in the published page the curve stands above its slider.
        steps = {"tickvals": list(range(len(shares))), "ticktext": [percent(s) for s in shares]}
        fig.update_xaxes(title="low frequencies kept", range=[-0.15, len(shares) - 0.85], row=2, col=1, **steps)
        fig.update_yaxes(title="PSNR, dB", range=[low, high], row=2, col=1)
        fig.update_layout(height=500, margin={"t": 44, "l": 52, "r": 8, "b": 44},
                          legend={"y": 0.33, "yanchor": "bottom", "x": 1, "xanchor": "right"})  # fmt: skip
        fig.update_annotations(font_size=13)
        return figures.described(
            fig,
            "Explorer: on the left a photograph whose high frequencies are cut, on the right the picture decoded from "
            "its latent with the same share cut"
            + (", between them the photograph without the waves that the latent loses" if same_waves else "")
            + ". Below, the PSNR of each against the share that is kept.",
        )

    controls = [Control("share", "low frequencies kept", shares, start, "slider", percent)]
    if len(orders) > 1:
        controls.append(
            Control("order", "order:", orders, orders[0], "menu", {"zigzag": "zigzag", "axes": "by axes"}.get)
        )
    return Explorer(draw, controls)


NOISE_TIMES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)


def noise_explorer(
    image: torch.Tensor,
    autoencoder,
    energies: Mapping[str, Sequence[float]],
    times: tuple[float, ...] = NOISE_TIMES,
    seed: int = 0,
) -> Explorer:
    r"""What is left of an image at time t of the flow, in pixels and in a latent, and by frequency.

    Left :math:`x_t` of the image at latent size; middle the decoded :math:`z_t`; right the signal-to-noise ratio of
    each zigzag rank (:func:`diffusab_core.flow.frequency_snr`).

    Args:
        image: ``(3, H, W)`` in [-1, 1], sides multiples of the compression.
        autoencoder: From :func:`diffusab_core.autoencoders.load`.
        energies: :math:`E_k` in zigzag order by name, of data with unit variance.
        times: The times offered, in [0, 1].
        seed: Of the noise, which is the same at all times.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        z = autoencoder.encode(image[None]).mean  # (1, C, h, w)
    mean, std = z.mean((0, 2, 3), keepdim=True), z.std((0, 2, 3), keepdim=True)
    small = resize_to(image[None], *z.shape[-2:])  # (1, 3, h, w)
    center, scale = small.mean(), small.std()
    z_noise = torch.randn(z.shape, generator=generator)
    x_noise = torch.randn(small.shape, generator=generator)

    @cache
    def pictures(t: float) -> tuple[go.Image, go.Image]:
        pixels = flow.interpolate((small - center) / scale, x_noise, t) * scale + center
        latent = flow.interpolate((z - mean) / std, z_noise, t) * std + mean
        with torch.no_grad():
            decoded = autoencoder.decode(latent)[0]
        enlarged = torch.nn.functional.interpolate(pixels, size=image.shape[-2:], mode="nearest")[0]
        return figures.image_trace(enlarged, quality=70), figures.image_trace(decoded, quality=70)

    def draw(t: float) -> go.Figure:
        fig = make_subplots(
            2, 2, specs=[[{}, {}], [{"colspan": 2}, None]], row_heights=[0.56, 0.44], vertical_spacing=0.12,
            horizontal_spacing=0.03, subplot_titles=["pixels at latent size", "noisy latent, decoded", ""],
        )  # fmt: skip
        for column, picture in enumerate(pictures(t), start=1):
            fig.add_trace(picture, row=1, col=column)
        figures.hide_image_axes(fig, [1, 2])
        for i, (name, energy) in enumerate(energies.items()):
            # At the ends of time the ratio is zero or infinite; the axis ends before either.
            snr = flow.frequency_snr(torch.as_tensor(energy), min(max(t, 1e-3), 1 - 1e-3))
            fig.add_trace(
                go.Scatter(y=[float(f"{v:.3g}") for v in snr.tolist()], name=name,
                           line={"color": figures.PALETTE[i], "dash": figures.DASHES[i]}), row=2, col=1,
            )  # fmt: skip
        fig.add_hline(y=1, line={"color": figures.GREY, "dash": "dash", "width": 1}, row=2, col=1)
        fig.update_xaxes(title="zigzag rank", row=2, col=1)
        fig.update_yaxes(title="SNR", type="log", range=[-4.2, 4.2], dtick=2, exponentformat="power", row=2, col=1)
        fig.update_layout(height=540, margin={"t": 32, "l": 56, "r": 8, "b": 44},
                          legend={"y": 0.4, "yanchor": "bottom", "x": 1, "xanchor": "right"})  # fmt: skip
        fig.update_annotations(font_size=13)
        return figures.described(
            fig,
            "Explorer over time: the photograph at latent size and its decoded latent with more or less noise, and the "
            "signal-to-noise ratio against zigzag rank. Lowering t lifts all curves; photographs' low ranks cross one "
            "first.",
        )

    return Explorer(draw, [Control("t", "time t", times, 0.8, "slider", lambda t: f"{t:g}")])


LATENT_NOISE = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)


def latent_noise_explorer(
    image: torch.Tensor,
    autoencoder,
    block_size: int = 8,
    strengths: tuple[float, ...] = LATENT_NOISE,
    seed: int = 0,
) -> Explorer:
    r"""White noise added to a latent: the decoded picture, and the energy profile beside its closed form.

    Noise of variance :math:`s^2` takes the energy profile to :math:`(E_k + s^2) / (E_0 + s^2)`.

    Args:
        image: ``(3, H, W)`` in [-1, 1]; sides multiples of ``block_size`` times the compression.
        autoencoder: From :func:`diffusab_core.autoencoders.load`.
        block_size: B.
        strengths: Of the noise, in standard deviations of the latent.
        seed: Of the noise, the same for all strengths.
    """
    with torch.no_grad():
        z = autoencoder.encode(image[None]).mean  # (1, C, h, w)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed)) * z.std()
    energy = block_dct(z, block_size).square().mean((0, 1, 2, 3)).flatten()[zigzag_order(block_size)]
    ranks = list(range(block_size**2))

    @cache
    def noisy(strength: float) -> tuple[go.Image, float, list[float], list[float]]:
        latent = z + strength * noise
        with torch.no_grad():
            decoded = autoencoder.decode(latent)
        variance = (strength * z.std()) ** 2
        curves = frequency_profile(latent, block_size, "energy"), (energy + variance) / (energy[0] + variance)
        measured, formula = ([float(f"{v:.3g}") for v in curve.tolist()] for curve in curves)
        return figures.image_trace(decoded[0], quality=80), psnr(decoded, image[None]).item(), measured, formula

    def draw(strength: float) -> go.Figure:
        picture, decibel, measured, formula = noisy(strength)
        fig = make_subplots(
            1, 2, column_widths=[0.42, 0.58], horizontal_spacing=0.12,
            subplot_titles=[f"decoded: {decibel:.1f} dB", "energy profile of the latent"],
        )  # fmt: skip
        fig.add_trace(picture, row=1, col=1)
        figures.hide_image_axes(fig, [1])
        dots = {"color": figures.VERMILLION, "size": 5}
        line = {"color": figures.BLUE}
        fig.add_trace(go.Scatter(x=ranks, y=measured, mode="markers", marker=dots, name="measured"), row=1, col=2)
        fig.add_trace(go.Scatter(x=ranks, y=formula, mode="lines", line=line, name="formula"), row=1, col=2)
        fig.update_xaxes(title="zigzag rank", row=1, col=2)
        decades = {"type": "log", "range": [-4.2, 0.3], "dtick": 1, "exponentformat": "power"}
        fig.update_yaxes(title="relative to D₀₀", row=1, col=2, **decades)
        fig.update_layout(height=380, margin={"t": 60, "l": 8, "r": 12},
                          legend={"x": 1, "xanchor": "right", "y": 1.06, "yanchor": "bottom"})  # fmt: skip
        fig.update_annotations(font_size=13)
        return figures.described(
            fig,
            "Explorer: a photograph decoded from its latent with added white noise, and the latent's energy profile, "
            "dots measured and a line from the formula. More noise lifts the high ranks first.",
        )

    return Explorer(
        draw, [Control("strength", "noise, in std of the latent", strengths, 0.2, "slider", lambda s: f"{s:g}")]
    )


LANDING_SHARES = (1.0, 0.75, 0.5, 0.3, 0.2, 0.1, 0.05)


def landing_explorer() -> Explorer:
    """The landing page's question: what does a photograph lose with its high frequencies, and what does its latent?"""
    image = photo("astronaut")[:, 0:192, 144:336]  # (3, 192, 192)
    return cut_explorer(image, autoencoders.load("kl-f4c16"), shares=LANDING_SHARES, start=0.3, same_waves=True)


def landing_figure() -> go.Figure:
    """:func:`landing_explorer` in its published form."""
    return landing_explorer().published()
