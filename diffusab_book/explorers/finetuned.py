r"""An explorer of what fine-tuning changes: several autoencoders decode the same share of their own latents."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_book.explorers.spectra import cut_ratio, percent
from diffusab_core.metrics import psnr
from diffusab_core.spectrum import chop_high_frequencies
from diffusab_core.spectrum.bands import keep_latent_frequencies

SHARES = (1.0, 0.75, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)


def decoders_explorer(
    image: torch.Tensor,
    autoencoders: Mapping[str, object],
    block_size: int = 8,
    shares: tuple[float, ...] = SHARES,
    start: float = 0.5,
    orders: tuple[str, ...] = ("zigzag",),
) -> Explorer:
    r"""The picture that each of several autoencoders makes of its latent when the high frequencies are cut from it.

    Above, the decoded pictures :math:`\mathrm{Dec}(D^{-1}(D(\mathrm{Enc}(x)) \cdot M))` side by side with their PSNR
    against the uncut image; below, PSNR against the share that is kept, and that of the image itself with the same
    frequencies of the scene, :func:`~diffusab_core.spectrum.bands.keep_latent_frequencies`.

    Args:
        image: ``(3, H, W)`` in [-1, 1]; H and W multiples of ``block_size`` times the compression.
        autoencoders: By the name that the reader sees, from :func:`diffusab_core.autoencoders.load`; all of one
            compression, or the image's own curve would not be one curve.
        block_size: B in the latent.
        shares: Kept shares in (0, 1].
        start: The share shown first.
        orders: The orders of cutting offered, as in :func:`diffusab_book.explorers.spectra.cut_explorer`.

    Raises:
        ValueError: No autoencoder, or autoencoders of different compression.

    Source: Skorokhodov et al. 2025, Figs. 5 and 11.
    """
    compressions = {name: autoencoder.compression for name, autoencoder in autoencoders.items()}
    if len(set(compressions.values())) != 1:
        raise ValueError(f"needs autoencoders of one compression, got {compressions}")
    x, f = image[None], next(iter(compressions.values()))
    with torch.no_grad():
        latents = {name: autoencoder.encode(x).mean for name, autoencoder in autoencoders.items()}  # (1, C, h, w)

    @cache
    def decoded(name: str, share: float, order: str) -> tuple[go.Image, float]:
        z = latents[name]
        if share < 1:
            z = chop_high_frequencies(z, cut_ratio(share, order), block_size, order)
        with torch.no_grad():
            y = autoencoders[name].decode(z)
        return figures.image_trace(y[0], quality=75), psnr(y, x).item()

    @cache
    def of_image(share: float, order: str) -> float:
        return psnr(keep_latent_frequencies(x, f, cut_ratio(share, order), block_size, order), x).item()

    def draw(share: float, order: str = orders[0]) -> go.Figure:
        n = len(latents)
        shown = {name: decoded(name, share, order) for name in latents}
        fig = make_subplots(
            2, n, specs=[[{}] * n, [{"colspan": n}, *[None] * (n - 1)]], row_heights=[0.5, 0.5],
            vertical_spacing=0.14, horizontal_spacing=0.015,
            subplot_titles=[*(f"{name}<br>{db:.1f} dB" for name, (_, db) in shown.items()), ""],
        )  # fmt: skip
        for column, (picture, _) in enumerate(shown.values(), start=1):
            fig.add_trace(picture, row=1, col=column)
        figures.hide_image_axes(fig, range(1, n + 1))

        curves = {"image, same frequencies": [of_image(s, order) for s in shares]}
        curves |= {name: [decoded(name, s, order)[1] for s in shares] for name in latents}
        for i, (name, values) in enumerate(curves.items()):
            colors = (figures.GREY, *figures.PALETTE[:-1])  # grey, the palette's last, is the image's own
            style = {"color": colors[i % len(colors)], "dash": figures.DASHES[i % len(figures.DASHES)]}
            fig.add_trace(
                go.Scatter(x=list(range(len(shares))), y=[round(v, 2) for v in values], name=name, line=style,
                           mode="lines+markers", marker={"symbol": i},
                           hovertemplate="%{y:.1f} dB<extra>" + name + "</extra>"),
                row=2, col=1,
            )  # fmt: skip
        low, high = (limit(v for values in curves.values() for v in values) for limit in (min, max))
        at = shares.index(share)
        fig.add_trace(
            go.Scatter(x=[at, at], y=[low - 1, high + 1], mode="lines", line={"color": figures.GREY, "dash": "dot"},
                       showlegend=False, hoverinfo="skip"), row=2, col=1,
        )  # fmt: skip
        # One position for each step, so that in the published page the curves stand above their slider.
        steps = {"tickvals": list(range(len(shares))), "ticktext": [percent(s) for s in shares]}
        fig.update_xaxes(title="low frequencies kept", range=[-0.15, len(shares) - 0.85], row=2, col=1, **steps)
        fig.update_yaxes(title="PSNR, dB", range=[low - 1, high + 1], row=2, col=1)
        fig.update_layout(height=520, margin={"t": 44, "l": 52, "r": 8, "b": 44},
                          legend={"y": 0.44, "yanchor": "bottom", "x": 1, "xanchor": "right"})  # fmt: skip
        fig.update_annotations(font_size=13)
        return figures.described(
            fig,
            f"Explorer: one photograph decoded by {', '.join(latents)}, each from its own latent with the same share "
            "of low frequencies kept. Below, the PSNR of each, and of the photograph with the same frequencies of the "
            "scene, against that share.",
        )

    controls = [Control("share", "low frequencies kept", shares, start, "slider", percent)]
    if len(orders) > 1:
        controls.append(
            Control("order", "order:", orders, orders[0], "menu", {"zigzag": "zigzag", "axes": "by axes"}.get)
        )
    return Explorer(draw, controls)
