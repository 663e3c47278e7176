r"""Explorers of spectra: what cutting frequencies from, and adding noise to, a picture and a latent does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import plotly.graph_objects as go
import torch

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core import autoencoders, flow, spectrum
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.data import photo, resize_to, rgb01
from diffusab_core.metrics import psnr

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


def dct_explorer(image: torch.Tensor) -> Explorer:
    r"""What an image keeps when only a share of its lowest DCT frequencies is kept, block by block.

    Left the image rebuilt from the kept coefficients with its PSNR; right its frequency profile with the cut marked.

    Args:
        image: ``(3, H, W)`` in [-1, 1]; H and W multiples of 16, the largest block size B.
    """
    x = image[None]  # (1, 3, H, W)

    @cache
    def profiles(block_size: int) -> dict[str, torch.Tensor]:
        accumulator = spectrum.ProfileAccumulator(block_size)
        accumulator.update(rgb01(x))
        return {name: accumulator.profile(name) for name in spectrum.STATISTICS}

    @cache
    def rebuilt(block_size: int, share: float) -> tuple[go.Figure, str]:
        kept = spectrum.chop_high_frequencies(x, 1 - share, block_size)
        return figures.picture(kept[0], 88), "exact" if share == 1 else f"PSNR {psnr(kept, x).item():.1f} dB"

    def draw(share: float, block_size: int, statistic: str) -> go.Figure:
        picture, quality = rebuilt(block_size, share)
        n_kept = max(1, block_size**2 - round((1 - share) * block_size**2))
        curves = {STATISTIC_LABELS[name]: values for name, values in profiles(block_size).items()}
        seen = {label: {"visible": label == STATISTIC_LABELS[statistic], "dash": "solid"} for label in curves}
        plot = figures.lines(curves, xlabel="zigzag rank", ylabel="relative to D₀₀", log_y=True, styles=seen)
        plot.update_xaxes(range=[-0.5, block_size**2 - 0.5]).update_yaxes(range=[-5, 0.2])
        plot.update_layout(showlegend=False)
        return figures.panels(
            [picture, figures.mark(plot, x=n_kept - 0.5)],
            [f"{n_kept} of {block_size**2} kept · {quality}", "frequency profile"],
            "Explorer: the photograph rebuilt from a share of its lowest DCT coefficients, with the PSNR, beside its "
            "frequency profile, which falls steeply with zigzag rank; a dashed line marks where the cut lies.",
            height=360, widths=[0.42, 0.58],
        )  # fmt: skip

    return Explorer(
        draw,
        [
            Control("share", "coefficients kept", KEPT_SHARES, 1.0, "slider", percent),
            Control("block_size", "block size", (4, 8, 16), 8, "menu", lambda b: f"{b} × {b}"),
            Control("statistic", "", spectrum.STATISTICS, "ratio_of_means", "toggle", STATISTIC_LABELS.__getitem__),
        ],
    )


def cut_explorer(
    image: torch.Tensor,
    autoencoder: Autoencoder,
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
        shares: Kept shares in (0, 1], of which ``start`` is shown first.
        orders: The orders of cutting offered, of :data:`diffusab_core.spectrum.dct.ORDERS`. By axes a share is what is
            kept of both axes together, so each keeps its square root, rounded to whole frequencies.
        same_waves: Show a third picture: the photograph without the waves that the cut takes from the latent. Of the
            photograph's block that is :math:`1/f^2` of the share.
    """
    x, f = image[None], autoencoder.compression
    with torch.no_grad():
        z = autoencoder.encode(x).mean  # (1, C, h, w)

    def cut(share: float, order: str) -> dict[str, torch.Tensor]:
        ratio = cut_ratio(share, order)
        found = {"photograph": x if share == 1 else spectrum.chop_high_frequencies(x, ratio, block_size * f, order)}
        if same_waves:
            waves = cut_ratio(share / f**2, order)
            found["photograph, same waves"] = spectrum.chop_high_frequencies(x, waves, block_size * f, order)
        with torch.no_grad():
            found["latent, decoded"] = autoencoder.decode(spectrum.chop_high_frequencies(z, ratio, block_size, order))
        return found

    return compare_cuts(
        x, cut, shares, start, orders,
        {"photograph": 0, "photograph, same waves": 2, "latent, decoded": 3} if same_waves else {"latent, decoded": 3},
        "Explorer: on the left a photograph whose high frequencies are cut, on the right the picture decoded from its "
        "latent with the same share cut"
        + (", between them the photograph without the waves that the latent loses" if same_waves else "")
        + ". Below, the PSNR of each against the share that is kept.",
    )  # fmt: skip


def compare_cuts(
    x: torch.Tensor,
    cut: Callable[[float, str], Mapping[str, torch.Tensor]],
    shares: tuple[float, ...],
    start: float,
    orders: tuple[str, ...],
    colors: Mapping[str, int],
    alt: str,
    curve_only: str = "",
) -> Explorer:
    """Pictures of which a share of frequencies is kept, side by side; below, their PSNR against that share.

    Args:
        x: The uncut image, ``(1, 3, H, W)``.
        cut: From a kept share and an order to the pictures, ``(1, 3, H, W)``, by the name that the reader sees.
        shares: The shares that the slider offers, of which ``start`` is shown first.
        orders: For the menu of orders.
        colors: Places in the palette, where they are not those of the order.
        alt: Of the explorer.
        curve_only: The name of one of which only the curve is drawn.
    """

    @cache
    def at(share: float, order: str) -> dict[str, tuple[go.Figure, float]]:
        found = cut(share, order)
        return {name: (figures.picture(y[0]), math.inf if y is x else psnr(y, x).item()) for name, y in found.items()}

    @cache
    def curves(order: str) -> go.Figure:
        decibels = {name: [at(share, order)[name][1] for share in shares] for name in at(start, order)}
        series = {}
        for name, values in decibels.items():  # an uncut photograph has infinite PSNR, and no place on the axis
            places = [i for i, value in enumerate(values) if value < math.inf]
            series[name] = (places, [values[i] for i in places])
        plot = figures.lines(
            series, xlabel="low frequencies kept", ylabel="PSNR, dB", mode="lines+markers",
            styles={name: {"color": color} for name, color in colors.items()},
        )  # fmt: skip
        # One position for each step, so that in the published page the curves stand above their slider.
        ticks = {"tickvals": list(range(len(shares))), "ticktext": [percent(share) for share in shares]}
        return plot.update_xaxes(range=[-0.15, len(shares) - 0.85], **ticks)

    def draw(share: float, order: str = orders[0]) -> go.Figure:
        shown = {name: found for name, found in at(share, order).items() if name != curve_only}
        titles = [f"{name}<br>" + ("uncut" if db == math.inf else f"{db:.1f} dB") for name, (_, db) in shown.items()]
        plot = figures.mark(go.Figure(curves(order)), x=shares.index(share))
        parts = [*(picture for picture, _ in shown.values()), plot]
        return figures.panels(parts, [*titles, ""], alt, height=500, wide=True, heights=[0.62, 0.38])

    named = {"zigzag": "zigzag", "axes": "by axes"}
    return Explorer(
        draw,
        [
            Control("share", "low frequencies kept", shares, start, "slider", percent),
            Control("order", "order:", orders, orders[0], "menu", named.__getitem__),
        ],
    )


NOISE_TIMES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)


def noise_explorer(
    image: torch.Tensor,
    autoencoder: Autoencoder,
    energies: Mapping[str, Sequence[float]],
    seed: int = 0,
) -> Explorer:
    r"""What is left of an image at time t of the flow, in pixels and in a latent, and by frequency.

    Left :math:`x_t` of the image at latent size; middle the decoded :math:`z_t`; right the signal-to-noise ratio of
    each zigzag rank (:func:`diffusab_core.flow.frequency_snr`).

    Args:
        image: ``(3, H, W)`` in [-1, 1], sides multiples of the compression.
        autoencoder: From :func:`diffusab_core.autoencoders.load`.
        energies: :math:`E_k` in zigzag order by name, of data with unit variance.
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
    def pictures(t: float) -> tuple[go.Figure, go.Figure]:
        pixels = flow.interpolate((small - center) / scale, x_noise, t) * scale + center
        latent = flow.interpolate((z - mean) / std, z_noise, t) * std + mean
        with torch.no_grad():
            decoded = autoencoder.decode(latent)[0]
        enlarged = torch.nn.functional.interpolate(pixels, size=image.shape[-2:], mode="nearest")[0]
        return figures.picture(enlarged, 70), figures.picture(decoded, 70)

    def draw(t: float) -> go.Figure:
        # At the ends of time the ratio is zero or infinite; the axis ends before either.
        within = min(max(t, 1e-3), 1 - 1e-3)
        ratios = {name: flow.frequency_snr(torch.as_tensor(energy), within) for name, energy in energies.items()}
        plot = figures.lines(ratios, xlabel="zigzag rank", ylabel="SNR", log_y=True)
        plot.update_yaxes(range=[-4.2, 4.2], dtick=2)
        return figures.panels(
            [*pictures(t), figures.mark(plot, y=1)], ["pixels at latent size", "noisy latent, decoded", ""],
            "Explorer over time: the photograph at latent size and its decoded latent with more or less noise, and the "
            "signal-to-noise ratio against zigzag rank. Lowering t lifts all curves; photographs' low ranks cross one "
            "first.",
            height=540, wide=True, heights=[0.56, 0.44],
        )  # fmt: skip

    return Explorer(draw, [Control("t", "time t", NOISE_TIMES, 0.8, "slider", lambda t: f"{t:g}")])


LATENT_NOISE = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)  # in standard deviations of the latent


def latent_noise_explorer(
    image: torch.Tensor, autoencoder: Autoencoder, block_size: int = 8, seed: int = 0
) -> Explorer:
    r"""White noise added to a latent: the decoded picture, and the energy profile beside its closed form.

    Noise of variance :math:`s^2` takes the energy profile to :math:`(E_k + s^2) / (E_0 + s^2)`.

    Args:
        image: ``(3, H, W)`` in [-1, 1]; sides multiples of ``block_size`` times the compression.
        autoencoder: From :func:`diffusab_core.autoencoders.load`.
        block_size: B.
        seed: Of the noise, the same for all strengths.
    """
    with torch.no_grad():
        z = autoencoder.encode(image[None]).mean  # (1, C, h, w)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed)) * z.std()
    energy = spectrum.block_dct(z, block_size).square().mean((0, 1, 2, 3)).flatten()[spectrum.zigzag_order(block_size)]

    @cache
    def noisy(strength: float) -> tuple[go.Figure, str, dict[str, torch.Tensor]]:
        latent = z + strength * noise
        with torch.no_grad():
            decoded = autoencoder.decode(latent)
        variance = (strength * z.std()) ** 2
        measured, formula = spectrum.frequency_profile(latent, block_size, "energy"), energy + variance
        title = f"decoded: {psnr(decoded, image[None]).item():.1f} dB"
        return figures.picture(decoded[0]), title, {"measured": measured, "formula": formula / formula[0]}

    def draw(strength: float) -> go.Figure:
        picture, title, curves = noisy(strength)
        styles = {"measured": {"mode": "markers", "color": figures.VERMILLION, "size": 5},
                  "formula": {"color": figures.BLUE, "dash": "solid"}}  # fmt: skip
        plot = figures.lines(curves, xlabel="zigzag rank", ylabel="relative to D₀₀", log_y=True, styles=styles)
        return figures.panels(
            [picture, plot.update_yaxes(range=[-4.2, 0.3])], [title, "energy profile of the latent"],
            "Explorer: a photograph decoded from its latent with added white noise, and the latent's energy profile, "
            "dots measured and a line from the formula. More noise lifts the high ranks first.",
            height=400, widths=[0.42, 0.58],
        )  # fmt: skip

    slider = Control("strength", "noise, in std of the latent", LATENT_NOISE, 0.2, "slider", lambda s: f"{s:g}")
    return Explorer(draw, [slider])


LANDING_SHARES = (1.0, 0.75, 0.5, 0.3, 0.2, 0.1, 0.05)


def landing_explorer() -> Explorer:
    """The landing page's question: what does a photograph lose with its high frequencies, and what does its latent?"""
    image = photo("astronaut")[:, 0:192, 144:336]  # (3, 192, 192)
    return cut_explorer(image, autoencoders.load("kl-f4c16"), shares=LANDING_SHARES, start=0.3, same_waves=True)


def landing_figure() -> go.Figure:
    """:func:`landing_explorer` in its published form."""
    return landing_explorer().published()
