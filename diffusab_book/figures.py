r"""Plotly figures of the book: one look, colours that colour-blind readers can tell apart, alt text on every figure.

Backgrounds are transparent and text is mid-grey, so that a figure reads on light and dark pages; the published book
re-colours text and grid with the page's theme. Alt text travels in ``figure.layout.meta["alt"]``.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import torch
from einops import rearrange
from PIL import Image

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
    """The figure with its alt text, which says what a reader who cannot see it has to know.

    Without one it is a part of :func:`panels`; the book's build refuses a published figure that has none.
    """
    if not alt:
        return fig
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


def data_uri(pixels: np.ndarray, quality: int = 88) -> str:
    """``(H, W, 3)`` uint8 as the data URI of a WebP file of that quality, in percent."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "webp", quality=quality, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def picture(image: torch.Tensor, quality: int = 80) -> go.Figure:
    """One image without axes, as a part of :func:`panels`."""
    fig = go.Figure(go.Image(source=data_uri(to_uint8(image), quality), hoverinfo="skip"))
    return fig.update_xaxes(visible=False, constrain="domain").update_yaxes(visible=False, constrain="domain")


def images(tensors: Sequence[torch.Tensor], titles: Sequence[str], alt: str, height: int = 260) -> go.Figure:
    """Images side by side, each with a title above it."""
    return panels([picture(tensor, quality=88) for tensor in tensors], titles, alt, height=height)


def image_grid(
    rows: Mapping[str, Sequence[torch.Tensor]],
    titles: Sequence[str] | Sequence[Sequence[str]],
    alt: str,
    size: int = 160,
) -> go.Figure:
    """Rows of images with the row's name at the left.

    Args:
        rows: For each name its images ``(3, H, W)`` in [-1, 1]; as many in each row.
        titles: One for each column, or for each row a list of them; ``<br>`` breaks a line.
        alt: As in :func:`axes`.
        size: Images that are larger are shrunk to this width in pixels, antialiased, to keep pages small.

    Raises:
        ValueError: Rows or titles of different lengths.
    """
    per_row = [titles, *[[""] * len(titles)] * (len(rows) - 1)] if isinstance(titles[0], str) else titles
    columns = len(per_row[0])
    if len(per_row) != len(rows) or {len(row) for row in (*rows.values(), *per_row)} != {columns}:
        raise ValueError(
            f"rows of {[len(row) for row in rows.values()]} images with rows of {[len(row) for row in per_row]} titles"
        )
    parts = [picture(_shrink(tensor, size), quality=75) for tensors in rows.values() for tensor in tensors]
    height = 36 + len(rows) * (640 // max(columns, 4) + (8 if isinstance(titles[0], str) else 42))
    fig = panels(parts, [title for row in per_row for title in row], alt, columns, height)
    fig.update_layout(margin_l=28)
    for i, name in enumerate(rows):
        low, high = fig.layout[f"yaxis{i * columns + 1 if i else ''}"].domain
        fig.add_annotation(
            text=name, x=-0.005, xanchor="right", xref="paper", y=(low + high) / 2, yref="paper", yanchor="middle",
            textangle=-90, showarrow=False, font={"size": 12},
        )  # fmt: skip
    return fig


def mosaic(images: torch.Tensor, columns: int, gap: int = 2) -> torch.Tensor:
    """Images ``(N, 3, H, W)`` in [-1, 1] as one, row by row, with white lines of ``gap`` pixels between them.

    What is left of the last row is white.
    """
    columns = min(columns, len(images))
    framed = torch.nn.functional.pad(images, (0, gap, 0, gap, 0, 0, 0, -len(images) % columns), value=1.0)
    joined = rearrange(framed, "(r c) k h w -> k (r h) (c w)", c=columns)
    return joined[:, : joined.shape[1] - gap, : joined.shape[2] - gap]


def _shrink(image: torch.Tensor, size: int) -> torch.Tensor:
    height, width = image.shape[-2:]
    if width <= size:
        return image
    shape = (round(height * size / width), size)
    return torch.nn.functional.interpolate(image[None].float(), size=shape, mode="bilinear", antialias=True)[0]


# ---------------------------------------------------------------------------------------------------------------------
# Plots


def axes(
    fig: go.Figure,
    *,
    alt: str = "",
    xlabel: str = "",
    ylabel: str = "",
    log_x: bool = False,
    log_y: bool = False,
    height: int = 360,
) -> go.Figure:
    """What all plots below take as ``**options``: titles of the axes, logarithmic axes, the height in pixels.

    ``alt`` says what a reader who cannot see the figure has to know; it is empty for a part of :func:`panels`.
    """
    fig.update_xaxes(title=xlabel, **(DECADES if log_x else {}))
    fig.update_yaxes(title=ylabel, **(DECADES if log_y else {}))
    single = len(fig.data) == 1 and fig.data[0].type in ("scatter", "bar")
    return described(fig.update_layout(height=height, showlegend=False if single else None), alt)


def lines(
    series: Mapping[str, Any],
    *,
    x: Any = None,
    mode: str = "lines",
    styles: Mapping[str, Mapping[str, Any]] | None = None,
    band: Mapping[str, tuple[Any, Any]] | None = None,
    **options: Any,
) -> go.Figure:
    """One line per name, told apart by colour and dash; see :func:`points` for markers.

    Args:
        series: For each name its values (a tensor, an array or a list), or a pair ``(x, y)`` as a tuple.
        x: Places of all series that have none of their own; 0, 1, 2, … when None.
        mode: ``"lines"``, ``"markers"`` or ``"lines+markers"``, for all that ``styles`` says nothing of.
        styles: For some names what is drawn otherwise: ``color`` (a colour, or a place in :data:`PALETTE`), ``dash``,
            ``width``, ``symbol``, ``size``, ``mode``, or any property of Plotly's scatter trace.
        band: For some names the pair ``(low, high)``: a shaded band around lines, error bars around markers.
        options: As :func:`axes`.

    Raises:
        ValueError: A style or band for a name that is not among the series, or a series as long as its places are not.
    """
    styles, band = styles or {}, band or {}
    if strangers := (styles.keys() | band.keys()) - series.keys():
        raise ValueError(f"no series {sorted(strangers)[0]!r} among {', '.join(series)}")
    fig = go.Figure()
    for i, (name, values) in enumerate(series.items()):
        places, heights = values if isinstance(values, tuple) else (x, values)
        heights = numbers(heights)
        places = list(range(len(heights))) if places is None else numbers(places)
        if len(places) != len(heights):
            raise ValueError(f"series {name!r} has {len(heights)} values at {len(places)} places")
        style = {"color": i, "dash": DASHES[i % len(DASHES)], "width": 2, "symbol": i, "size": 8, "mode": mode}
        style |= styles.get(name, {})
        color = PALETTE[style.pop("color") % len(PALETTE)] if isinstance(style["color"], int) else style.pop("color")
        line = {"color": color, "dash": style.pop("dash"), "width": style.pop("width")}
        marker = {"color": color, "symbol": style.pop("symbol"), "size": style.pop("size")}
        if name in band:
            low, high = (numbers(edge) for edge in band[name])
            if "lines" in style["mode"]:
                fig.add_scatter(
                    x=[*places, *places[::-1]], y=[*high, *low[::-1]], fill="toself", fillcolor=color, opacity=0.18,
                    line={"width": 0}, mode="lines", legendgroup=name, showlegend=False, hoverinfo="skip",
                )  # fmt: skip
            else:
                up, down = ([abs(e - v) for e, v in zip(edge, heights, strict=True)] for edge in (high, low))
                style["error_y"] = {"array": up, "arrayminus": down, "thickness": 1.5, "width": 3}
        if "lines" in style["mode"]:
            style["line"] = line
        if "markers" in style["mode"]:
            style["marker"] = marker
        at = "%{x}" if any(isinstance(place, str) for place in places) else "%{x:.4g}"
        hover = {"hovertemplate": f"{at}: %{{y:.4g}}<extra>{name}</extra>", "legendgroup": name}
        fig.add_scatter(x=places, y=heights, name=name, **{**hover, **style})
    return axes(fig, **options)


def points(series: Mapping[str, Any], **options: Any) -> go.Figure:
    """:func:`lines` with markers instead of lines; ``band`` becomes error bars."""
    return lines(series, mode="markers", **options)


def bars(groups: Mapping[str, Mapping[str, float | tuple[float, float, float]]], **options: Any) -> go.Figure:
    """Bars over categories, side by side for each group; a value is a number or ``(value, low, high)``."""
    fig = go.Figure()
    for i, (name, bars_of) in enumerate(groups.items()):
        triples = [value if isinstance(value, tuple) else (value, value, value) for value in bars_of.values()]
        middle, low, high = ([float(t[k]) for t in triples] for k in range(3))
        error = {"array": [h - m for h, m in zip(high, middle, strict=True)], "thickness": 1.5, "width": 3}
        error["arrayminus"] = [m - lo for lo, m in zip(low, middle, strict=True)]
        fig.add_bar(
            x=list(bars_of), y=middle, name=name, legendgroup=name,
            marker={"color": PALETTE[i % len(PALETTE)], "pattern": {"shape": ("", "/", ".", "x")[i % 4]}},
            error_y=error if any(isinstance(v, tuple) for v in bars_of.values()) else None,
            hovertemplate="%{x}: %{y:.4g}<extra>" + name + "</extra>",
        )  # fmt: skip
    places = list(dict.fromkeys(place for bars_of in groups.values() for place in bars_of))
    fig.update_xaxes(type="category", categoryorder="array", categoryarray=places)
    return axes(fig.update_layout(barmode="group"), **options)


def heatmap(
    z: Any,
    *,
    x: Any = None,
    y: Any = None,
    label: str = "",
    limits: tuple[float, float] | None = None,
    colorscale: Any = "Cividis",
    form: str = "",
    square: bool = True,
    **options: Any,
) -> go.Figure:
    """A matrix ``(rows, columns)`` as colours, the first row at the top.

    Args:
        z: The matrix.
        x: Names of the columns.
        y: Names of the rows.
        label: Title of the colour bar.
        limits: Values of the two ends of the colour scale; least and greatest when None.
        colorscale: A name that Plotly knows, or :data:`DIVERGING` for values about zero.
        form: When given, each cell shows its value so, such as ``".2f"``.
        square: Cells as high as they are wide.
        options: As :func:`axes`.
    """
    matrix = torch.as_tensor(z).detach().cpu().double()
    low, high = limits or (matrix.min().item(), matrix.max().item())
    names = {"x": None if x is None else numbers(x), "y": None if y is None else numbers(y)}
    fig = go.Figure(
        go.Heatmap(
            z=matrix.tolist(), **names, zmin=low, zmax=high, colorscale=colorscale,
            colorbar={"title": label, "thickness": 12}, texttemplate=f"%{{z:{form}}}" if form else None,
            hovertemplate="%{y}, %{x}: %{z:.4g}<extra></extra>",
        )
    )  # fmt: skip
    plain = {"showgrid": False, "zeroline": False, "constrain": "domain"}
    fig.update_xaxes(**plain).update_yaxes(autorange="reversed", scaleanchor="x" if square else None, **plain)
    return axes(fig, **options)


def mark(fig: go.Figure, x: float | str | None = None, y: float | None = None, text: str = "") -> go.Figure:
    """A dotted reference line across the figure, upright at ``x`` or level at ``y``, with ``text`` along it."""
    if (x is None) == (y is None):
        raise ValueError(f"a line stands at x or at y, got x={x!r}, y={y!r}")
    way, across, at = ("x", "y", x) if y is None else ("y", "x", y)
    refs = {f"{way}ref": way, f"{across}ref": f"{across} domain"}
    ends = {f"{way}0": at, f"{way}1": at, f"{across}0": 0, f"{across}1": 1}
    fig.add_shape(type="line", line={"color": GREY, "dash": "dot", "width": 1.5}, **ends, **refs)
    if text:
        # Plotly wants the logarithm for text on a logarithmic axis, and not for lines.
        place = {way: float(np.log10(at)) if fig.layout[f"{way}axis"].type == "log" else at, across: 1}
        side = {"xanchor": "left", "yanchor": "top", "textangle": 90} if y is None else {"xanchor": "right"}
        side = {"yanchor": "bottom", "font": {"size": 11}, **side}
        fig.add_annotation(text=text, showarrow=False, **place, **refs, **side)
    return fig


def panels(
    figs: Sequence[go.Figure],
    titles: Sequence[str],
    alt: str,
    columns: int | None = None,
    height: int | None = None,
    share_y: bool = False,
    wide: bool = False,
    widths: Sequence[float] | None = None,
    heights: Sequence[float] | None = None,
) -> go.Figure:
    """Several figures side by side, each with a title above it; a name that returns shares its entry in the legend.

    Args:
        figs: What :func:`lines`, :func:`picture` and their friends return.
        titles: One for each; ``alt`` is of the whole.
        columns: In one row; all when None.
        height: In pixels; that of the highest, for each row, when None.
        share_y: One vertical axis for each row, its title at the left.
        wide: The last figure has a row of its own, below the others.
        widths: Of the columns, as shares of the whole; ``heights`` of the rows.
    """
    above = len(figs) - wide
    columns = columns or above
    rows = -(-above // columns) + wide
    pictures = [all(trace.type == "image" for trace in one.data) for one in figs]
    # A panel with a single line has no legend of its own; its name is an entry only if another panel has it too.
    named = {
        trace.name
        for one in figs
        if one.layout.showlegend is not False
        for trace in one.data
        if trace.type in ("scatter", "bar") and trace.name and trace.showlegend is not False
    }
    beside = wide and not any(trace.name in named for one in figs[:-1] for trace in one.data)  # beside the wide one
    lower = "".join(titles[columns:])
    margin = {"t": 40 + 16 * ("<br>" in "".join(titles[:columns])) + 44 * bool(named and not beside)}
    numbers_left = wide or not all(pictures[:above:columns])
    margin |= {"b": 4 if pictures[-1] else 48} | ({} if numbers_left else {"l": 8, "r": 12})
    heatmaps = [i for i, one in enumerate(figs) if one.data and one.data[0].type == "heatmap"]
    height = height or rows * max(one.layout.height or 360 for one in figs)
    inside = height - margin["t"] - margin["b"]
    between = 8 + 18 * bool(lower or beside) + 16 * ("<br>" in lower) + 58 * (not pictures[columns - 1])
    apart = (0.03 if heatmaps else 0.09) if share_y else 0.14 if columns == 2 else 0.3 / columns
    bare = all(pictures[i] for i in range(above) if i % columns)  # no axis with numbers between two columns
    gap = 0.015 if bare and not share_y else apart
    across, down = _domains(columns, widths, gap), _domains(rows, heights and heights[::-1], between / inside)
    layout: dict[str, Any] = {"annotations": [], "shapes": []}
    data, seen = [], set()
    for i, (one, title) in enumerate(zip(figs, titles, strict=True)):
        n, last = str(i + 1) if i else "", wide and i == above
        x_domain, low, high = [0, 1] if last else across[i % columns], *down[-1 - (rows - 1 if last else i // columns)]
        layout[f"xaxis{n}"] = {"anchor": f"y{n}", "domain": x_domain, **one.layout.xaxis.to_plotly_json()}
        layout[f"yaxis{n}"] = {"anchor": f"x{n}", "domain": [low, high], **one.layout.yaxis.to_plotly_json()}
        if one.layout.yaxis.scaleanchor:
            layout[f"yaxis{n}"]["scaleanchor"] = f"x{n}"
        if share_y and i % columns:
            first = str(i - i % columns + 1) if i >= columns else ""
            layout[f"yaxis{n}"] |= {"matches": f"y{first}", "title": None}
            if one.data[0].type == "heatmap":  # names are long, and stand at the left of the same rows
                layout[f"yaxis{n}"]["showticklabels"] = False
        note = {"text": title or " ", "x": sum(x_domain) / 2, "y": high, "xref": "paper", "yref": "paper"}
        note |= {"xanchor": "center", "yanchor": "bottom", "showarrow": False, "visible": bool(title)}
        layout["annotations"].insert(i, note | {"font": {"size": 13 if len(figs) < 6 else 12}})
        for trace in one.data:
            added = trace.to_plotly_json() | {"xaxis": f"x{n}", "yaxis": f"y{n}"}
            if added["type"] == "heatmap":
                added["showscale"] = i == heatmaps[-1]
            elif added.get("name") and added.get("showlegend", True):
                added["showlegend"] = added["name"] in named - seen
                seen.add(added["name"])
            data.append(added)
        for kind in ("shapes", "annotations"):
            for item in (item.to_plotly_json() for item in one.layout[kind]):
                refs = {f"{w}ref": item[f"{w}ref"].replace(w, f"{w}{n}", 1) for w in "xy" if item.get(f"{w}ref")}
                layout[kind].append(item | refs)
        layout |= {"barmode": one.layout.barmode} if one.layout.barmode else {}
    if named:
        layout["legend"] = (
            {"y": down[0][1], "x": 1, "xanchor": "right"} if beside else {"y": 1 + (margin["t"] - 50) / inside}
        )
    return described(go.Figure(data=data, layout=layout | {"height": height, "margin": margin}), alt)


def _domains(count: int, shares: Sequence[float] | None, gap: float) -> list[list[float]]:
    """Stretches of [0, 1] with gaps between them."""
    shares = shares or [1.0] * count
    room, start, found = (1 - gap * (count - 1)) / sum(shares), 0.0, []
    for share in shares:
        found.append([start, min(start + share * room, 1.0)])  # a sum of shares may be rounded above one
        start = found[-1][1] + gap
    return found


def numbers(values: Any) -> list:
    """A tensor, an array, a series or a list as a plain list, a gap (None) where it holds NaN; words pass through."""
    plain = values.detach().cpu().tolist() if isinstance(values, torch.Tensor) else np.asarray(values).tolist()
    return [None if value != value else value for value in plain]


def shorten(value: Any, digits: int = 4) -> Any:
    """Plotly's JSON with every number rounded to some significant digits, for what is written to a page.

    Arrays that Plotly has packed in base64 become lists, what is no finite number becomes null, and whole numbers stay.
    """
    if isinstance(value, dict) and {"dtype", "bdata"} <= value.keys():
        array = np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"])
        shape = [int(n) for n in str(value.get("shape", len(array))).split(",")]
        return shorten(array.reshape(shape).tolist(), digits)
    if isinstance(value, dict):
        return {key: shorten(entry, digits) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [shorten(entry, digits) for entry in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.{digits}g}")
    return value


# ---------------------------------------------------------------------------------------------------------------------
# Frequencies


def basis_functions(block_size: int = 8) -> go.Figure:
    r"""All :math:`B^2` DCT-II basis functions :math:`\alpha(u)\alpha(v) f(x,u) f(y,v)` as one mosaic.

    Rows are vertical frequency u downwards, columns horizontal frequency v to the right.
    """
    units = torch.eye(block_size**2).reshape(-1, 1, 1, block_size, block_size)  # one coefficient each, (B², 1, 1, B, B)
    tiles = block_idct(units)  # (B², B, B)
    limit = tiles.abs().max().item()
    tiles = torch.nn.functional.pad(tiles, (0, 1, 0, 1), value=float("nan"))
    together = rearrange(tiles, "(u v) i j -> (u i) (v j)", u=block_size)[:-1, :-1]
    fig = heatmap(
        together, limits=(-limit, limit), colorscale=DIVERGING, label="value", height=460,
        xlabel="v, horizontal frequency", ylabel="u, vertical frequency",
        alt=f"A mosaic of the {block_size**2} cosine patterns of a block of {block_size} by {block_size}. The top left "
        "one is flat; towards the right they oscillate faster horizontally, downwards faster vertically.",
    )  # fmt: skip
    ticks = [i * (block_size + 1) + block_size / 2 - 0.5 for i in range(block_size)]
    ticks = {"tickvals": ticks, "ticktext": [str(i) for i in range(block_size)]}
    return fig.update_traces(hoverinfo="skip", hovertemplate=None).update_xaxes(**ticks).update_yaxes(**ticks)


def zigzag_path(block_size: int = 8) -> go.Figure:
    """The zigzag walk over a block of coefficients, with ranks."""
    order = zigzag_order(block_size)
    walk = {
        "mode": "lines+markers+text", "dash": "solid", "width": 1.5, "color": GREY, "symbol": "circle", "size": 24,
        "text": [str(rank) for rank in range(block_size**2)], "textfont": {"size": 10, "color": "white"},
        "hovertemplate": "rank %{text}: u = %{y}, v = %{x}<extra></extra>",
    }  # fmt: skip
    fig = lines(
        {"rank": (order % block_size, order // block_size)}, styles={"rank": walk}, height=460,
        xlabel="v, horizontal frequency", ylabel="u, vertical frequency",
        alt=f"The JPEG zigzag order on a block of {block_size} by {block_size}: from the flat coefficient at the top "
        f"left along anti-diagonals to the finest at the bottom right, ranks 0 to {block_size**2 - 1}.",
    )  # fmt: skip
    fig.update_traces(marker_color=BLUE)
    plain = {"dtick": 1, "showgrid": False, "zeroline": False, "constrain": "domain"}
    fig.update_xaxes(side="top", range=[-0.6, block_size - 0.4], **plain)
    fig.update_yaxes(scaleanchor="x", range=[block_size - 0.4, -0.6], **plain)
    return fig.update_layout(margin={"t": 60, "b": 16})


def profiles(
    curves: Mapping[str, Any], alt: str = "", ylabel: str = "|D| relative to D₀₀", **options: Any
) -> go.Figure:
    """Frequency profiles against zigzag rank, one line per name: :func:`lines` with the axes that profiles have."""
    usual = {"xlabel": "zigzag rank (low → high frequency)", "height": 380, "log_y": True}
    return lines(curves, alt=alt, ylabel=ylabel, **{**usual, **options})


# ---------------------------------------------------------------------------------------------------------------------
# Runs


def over_seeds(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    alt: str = "",
    xlabel: str = "",
    ylabel: str = "",
    log_y: bool = True,
    **options: Any,
) -> go.Figure:
    """One marker for every training run and a line through the means, so that spread is seen and not summarised away.

    Args:
        values: For each line, for each place on the horizontal axis (in order), one value for each seed.
        alt: This and the rest as :func:`axes`; the places are categories.
    """
    series, styles = {}, {}
    for i, (name, of_name) in enumerate(values.items()):
        where = [place for place, runs in of_name.items() for _ in runs]
        series[name] = (list(of_name), [sum(runs) / len(runs) for runs in of_name.values()])
        series[f"{name}: runs"] = (where, [value for runs in of_name.values() for value in runs])
        look = {"color": i, "symbol": i, "legendgroup": name, "dash": DASHES[i % len(DASHES)], "width": 1.5}
        styles[name] = {**look, "hovertemplate": None, "hoverinfo": "skip"}
        styles[f"{name}: runs"] = {**look, "mode": "markers", "opacity": 0.75, "showlegend": False}
    fig = lines(series, alt=alt, xlabel=xlabel, ylabel=ylabel, log_y=log_y, styles=styles, **options)
    places = list(dict.fromkeys(place for of_name in values.values() for place in of_name))
    return fig.update_xaxes(type="category", categoryorder="array", categoryarray=places, automargin=True)
