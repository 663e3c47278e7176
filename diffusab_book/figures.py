r"""Plotly figures of the book: one look, colours that colour-blind readers can tell apart, alt text on every figure.

Backgrounds are transparent and text is mid-grey, so that a figure reads on light and dark pages; the published book
re-colours text and grid with the page's theme. Alt text travels in ``figure.layout.meta["alt"]``.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import torch
from einops import rearrange
from PIL import Image
from plotly.subplots import make_subplots

from diffusab_core.spectrum import block_idct, zigzag_order

# Okabe & Ito's palette (2008), told apart under all common colour deficiencies; order = order of use.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILLION, PURPLE, SKY, GREY = "#D55E00", "#CC79A7", "#56B4E9", "#7F7F7F"
PALETTE = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, GREY)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # a second cue beside colour
DIVERGING = [[0.0, BLUE], [0.5, "#F5F5F5"], [1.0, VERMILLION]]

_GRID = "rgba(127,127,127,0.22)"
_AXIS = {"gridcolor": _GRID, "zerolinecolor": _GRID, "linecolor": _GRID, "ticks": "outside", "tickcolor": _GRID}
_AXIS |= {"title": {"font": {"size": 13}}, "tickfont": {"size": 12}}

#: A logarithmic axis labelled at powers of ten only.
DECADES = {"type": "log", "dtick": 1, "exponentformat": "power"}

pio.templates["diffusab"] = go.layout.Template(
    layout={
        "colorway": list(PALETTE),
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", "size": 13, "color": "#6b7280"},
        "margin": {"l": 56, "r": 16, "t": 48, "b": 48},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "xanchor": "left", "x": 0},
        "hoverlabel": {"namelength": -1},
    }
)
pio.templates.default = "diffusab"
# Plain MIME output draws in JupyterLab and in the published book; the other renderers ask a CDN for plotly.js.
pio.renderers.default = "plotly_mimetype"


def described(fig: go.Figure, alt: str) -> go.Figure:
    """The figure with its alt text, which says what a reader who cannot see it has to know."""
    if len(alt) < 20:
        raise ValueError(f"alt text {alt!r} says too little; describe what the figure shows")
    fig.update_layout(meta={"alt": " ".join(alt.split())})
    return fig


# ---------------------------------------------------------------------------------------------------------------------
# Images


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """An image ``(3, H, W)`` or ``(1, H, W)`` in [-1, 1] as ``(H, W, 3)`` uint8, clamped to the range."""
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"expected an image (3, H, W) or (1, H, W), got shape {tuple(image.shape)}")
    pixels = ((image.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()
    return rearrange(pixels.expand(3, -1, -1), "c h w -> h w c").numpy()


def data_uri(pixels: np.ndarray, quality: int | None = 88) -> str:
    """``(H, W, 3)`` uint8 as a data URI: WebP at the given quality, or lossless PNG when ``quality`` is None."""
    buffer = io.BytesIO()
    if quality is None:
        Image.fromarray(pixels).save(buffer, "png", optimize=True)
    else:
        Image.fromarray(pixels).save(buffer, "webp", quality=quality, method=2)
    kind = "png" if quality is None else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def image_trace(image: torch.Tensor, name: str = "", quality: int | None = 88) -> go.Image:
    """One image as a trace."""
    return go.Image(source=data_uri(to_uint8(image), quality), name=name, hoverinfo="skip")


def hide_image_axes(fig: go.Figure, columns: Sequence[int], row: int = 1) -> go.Figure:
    """No ticks and no grid around images; pixels stay square."""
    for column in columns:
        fig.update_xaxes(visible=False, constrain="domain", row=row, col=column)
        fig.update_yaxes(visible=False, constrain="domain", row=row, col=column)
    return fig


def images(tensors: Sequence[torch.Tensor], titles: Sequence[str], alt: str, height: int = 260) -> go.Figure:
    """Images side by side, each with a title above it."""
    fig = make_subplots(1, len(tensors), subplot_titles=list(titles), horizontal_spacing=0.02)
    for column, tensor in enumerate(tensors, start=1):
        fig.add_trace(image_trace(tensor), row=1, col=column)
    hide_image_axes(fig, range(1, len(tensors) + 1))
    fig.update_layout(height=height, margin={"l": 4, "r": 4, "t": 36, "b": 4})
    fig.update_annotations(font_size=12)
    return described(fig, alt)


# ---------------------------------------------------------------------------------------------------------------------
# Frequencies


def basis_functions(block_size: int = 8) -> go.Figure:
    r"""All :math:`B^2` DCT-II basis functions :math:`\alpha(u)\alpha(v) f(x,u) f(y,v)` as one mosaic.

    Rows are vertical frequency u downwards, columns horizontal frequency v to the right.
    """
    units = torch.eye(block_size**2).reshape(-1, 1, 1, block_size, block_size)  # one coefficient each, (B², 1, 1, B, B)
    tiles = block_idct(units)  # (B², B, B)
    tiles = torch.nn.functional.pad(tiles, (0, 1, 0, 1), value=float("nan"))
    mosaic = rearrange(tiles, "(u v) i j -> (u i) (v j)", u=block_size)[:-1, :-1]
    limit = float(np.nanmax(np.abs(mosaic.numpy())))
    fig = go.Figure(
        go.Heatmap(
            z=np.where(np.isnan(mosaic), None, mosaic.numpy().round(3)),
            colorscale=DIVERGING, zmin=-limit, zmax=limit, hoverinfo="skip",
            colorbar={"title": "value", "thickness": 12},
        )
    )  # fmt: skip
    ticks = {"tickvals": [i * (block_size + 1) + block_size / 2 - 0.5 for i in range(block_size)]}
    ticks |= {"ticktext": [str(i) for i in range(block_size)], "showgrid": False, "zeroline": False}
    fig.update_xaxes(title="v, horizontal frequency", constrain="domain", **ticks)
    fig.update_yaxes(title="u, vertical frequency", autorange="reversed", scaleanchor="x", constrain="domain", **ticks)
    fig.update_layout(height=460)
    return described(
        fig,
        f"A mosaic of the {block_size**2} cosine patterns of a {block_size} by {block_size} block. The top left one is "
        "flat; towards the right they oscillate faster horizontally, downwards faster vertically.",
    )


def zigzag_path(block_size: int = 8, cut_from: int | None = None) -> go.Figure:
    """The zigzag walk over a block of coefficients, with ranks; ranks from ``cut_from`` on are marked as cut."""
    order = zigzag_order(block_size)
    u, v = (order // block_size).tolist(), (order % block_size).tolist()
    cut_from = block_size**2 if cut_from is None else cut_from
    rank = list(range(block_size**2))
    fig = go.Figure(
        go.Scatter(
            x=v, y=u, mode="lines+markers+text", text=[str(i) for i in rank],
            textfont={"size": 10, "color": "white"}, line={"color": GREY, "width": 1.5},
            marker={
                "size": 24,
                "color": [BLUE if i < cut_from else VERMILLION for i in rank],
                "symbol": ["circle" if i < cut_from else "square" for i in rank],
            },
            hovertemplate="rank %{text}: u = %{y}, v = %{x}<extra></extra>",
        )
    )  # fmt: skip
    fig.update_xaxes(title="v, horizontal frequency", side="top", dtick=1, showgrid=False, zeroline=False,
                     range=[-0.6, block_size - 0.4], constrain="domain")  # fmt: skip
    fig.update_yaxes(title="u, vertical frequency", dtick=1, showgrid=False, zeroline=False, scaleanchor="x",
                     range=[block_size - 0.4, -0.6], constrain="domain")  # fmt: skip
    fig.update_layout(height=460, margin={"t": 60, "b": 16})
    kept = f", of which the first {cut_from} are kept" if cut_from < block_size**2 else ""
    return described(
        fig,
        f"The JPEG zigzag order on a {block_size} by {block_size} block: from the flat coefficient at the top left "
        f"along anti-diagonals to the finest at the bottom right, ranks 0 to {block_size**2 - 1}{kept}.",
    )


def profiles(
    curves: Mapping[str, torch.Tensor],
    alt: str,
    ylabel: str = "|D| relative to D₀₀",
    title: str = "",
    height: int = 380,
    log_y: bool = True,
) -> go.Figure:
    """Frequency profiles against zigzag rank, one line per name; colour and dash both tell lines apart."""
    fig = go.Figure()
    for i, (name, values) in enumerate(curves.items()):
        fig.add_trace(
            go.Scatter(
                y=[float(f"{v:.4g}") for v in values.tolist()], name=name, mode="lines",
                line={"color": PALETTE[i % len(PALETTE)], "dash": DASHES[i % len(DASHES)], "width": 2},
                hovertemplate="rank %{x}: %{y:.3g}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    fig.update_xaxes(title="zigzag rank (low → high frequency)")
    fig.update_yaxes(title=ylabel, **(DECADES if log_y else {}))
    fig.update_layout(height=height, title=title, showlegend=True)
    return described(fig, alt)


# ---------------------------------------------------------------------------------------------------------------------
# Runs


def over_seeds(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    alt: str,
    xlabel: str,
    ylabel: str,
    height: int = 360,
    log_y: bool = True,
) -> go.Figure:
    """One marker for every training run and a line through the means, so that spread is seen and not summarised away.

    Args:
        values: For each line, for each place on the horizontal axis (in order), one value for each seed.
        alt: Alt text.
        xlabel: Title of the horizontal axis, whose places are categories.
        ylabel: Title of the vertical axis.
        height: In pixels.
        log_y: Logarithmic vertical axis.
    """
    fig = go.Figure()
    places = list(dict.fromkeys(place for series in values.values() for place in series))
    for i, (name, series) in enumerate(values.items()):
        color, symbol = PALETTE[i % len(PALETTE)], i
        where = [place for place, runs in series.items() for _ in runs]
        runs = [value for place in series.values() for value in place]
        means = [sum(place) / len(place) for place in series.values()]
        line = {"color": color, "dash": DASHES[i % len(DASHES)], "width": 1.5}
        hover = "%{x}: %{y:.3g}<extra>" + name + "</extra>"
        fig.add_scatter(x=list(series), y=means, mode="lines", line=line, name=name, legendgroup=name, hoverinfo="skip")
        marker = {"color": color, "symbol": symbol, "size": 8, "opacity": 0.75}
        fig.add_scatter(
            x=where, y=runs, mode="markers", marker=marker, name=name, legendgroup=name, showlegend=False,
            hovertemplate=hover,
        )  # fmt: skip
    fig.update_xaxes(title=xlabel, type="category", categoryorder="array", categoryarray=places)
    fig.update_yaxes(title=ylabel, **(DECADES if log_y else {}))
    fig.update_layout(height=height)
    return described(fig, alt)
