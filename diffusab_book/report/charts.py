"""The charts of a report, made of the book's figures; the numbers behind each are read from its traces.

A model has one colour in all charts; RGB is grey. Where a chart shows two things of each model, the second has dotted
lines and open markers.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from diffusab_book import figures
from diffusab_book.figures import DASHES, GREY, PALETTE
from diffusab_book.report.findings import fine_amplitude
from diffusab_book.report.results import Profile, Report

AXIS_LABELS: Mapping[str, str] = {
    "mean_ratio": "mean of |D / D₀₀|",
    "median_ratio": "median of |D / D₀₀|",
    "ratio_of_means": "mean |D| / mean |D₀₀|",
    "energy": "mean D² / mean D₀₀²",
}
COLOURS = [colour for colour in PALETTE if colour != GREY]
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")


def trace_name(name: str) -> str:
    """A model's name as plotly takes it: no HTML, and no pair of $, which would be mathematics."""
    return html.escape(name).replace("$", "&#36;")


def style(i: int, second: bool = False, **other: Any) -> dict[str, Any]:
    """How the i-th model is drawn, in every chart; the second of two things dotted and open."""
    symbol = SYMBOLS[i % len(SYMBOLS)]
    marks = {"dash": "dot", "symbol": f"{symbol}-open"} if second else {"dash": "solid", "symbol": symbol}
    return {"color": COLOURS[i % len(COLOURS)], **marks, **other}


def drawn(report: Report) -> list[tuple[Profile, dict[str, Any]]]:
    """The profiles that are drawn and how: RGB in grey, models in the book's colours, each with a dash of its own."""
    rgb = [(p, {"color": GREY, "dash": DASHES[(i + 1) % len(DASHES)]}) for i, p in enumerate(report.rgb)]
    return rgb + [(m.profile, style(i, dash=DASHES[i % len(DASHES)])) for i, m in enumerate(report.models)]


def ends(series: Mapping[str, Any], unit: str = "", first: int = 0) -> str:
    """From where to where each line goes, for somebody who cannot see it."""
    said = []
    for name, values in series.items():
        there = [v for v in (values[1] if isinstance(values, tuple) else values)[first:] if v is not None]
        if there:
            said.append(f"{html.unescape(name)} goes from {there[0]:.3g}{unit} to {there[-1]:.3g}{unit}")
    return "; ".join(said) + "."


def draw_profile(report: Report, statistic: str | None = None) -> go.Figure:
    """Profiles by one statistic."""
    statistic = statistic or report.options.statistic
    series = {trace_name(p.name): p.profiles[statistic] for p, _ in drawn(report)}
    styles = {trace_name(p.name): how for p, how in drawn(report)}
    alt = f"Frequency profiles on a logarithmic axis, {AXIS_LABELS[statistic]}, against zigzag rank, from rank 1 on: "
    fig = figures.profiles(series, alt + ends(series, first=1), AXIS_LABELS[statistic], styles=styles)
    return fig.update_layout(showlegend=True)


@dataclass(frozen=True)
class Chart:
    """A chart with a line for each model and each of one or two columns: a word, and how its values are read."""

    part: str
    columns: Mapping[str, Callable[[Mapping[str, Any]], Any]]
    alt: str
    xlabel: str
    ylabel: str
    unit: str = ""
    mode: str = "lines+markers"
    log_y: bool = False
    level: float | None = None  # a reference line
    keep: Callable[[Mapping[str, Any]], bool] = bool

    def draw(self, report: Report) -> go.Figure | None:
        """The chart, if there is a model with numbers for it."""
        series, styles = {}, {}
        for i, model in enumerate(report.models):
            part = model.parts.get(self.part)
            for k, (word, read) in enumerate(self.columns.items() if part and self.keep(part) else ()):
                name = trace_name(model.name + word)
                series[name], styles[name] = read(part), style(i, second=k == 1)
        if not series:
            return None
        for model in report.models if self.part == "cut" else ():
            if cut := model.parts.get("cut"):
                name = f"RGB, blocks of {model.profile.compression * report.options.block_size}²"
                series[name], styles[name] = (_percent(cut), cut["rgb"]), {"color": GREY, "dash": "dot"}
        fig = figures.lines(
            series, alt=f"{self.alt}: {ends(series, self.unit)}", xlabel=self.xlabel, ylabel=self.ylabel,
            log_y=self.log_y, mode=self.mode, styles=styles,
        )  # fmt: skip
        if self.level is not None:
            figures.mark(fig, y=self.level)
        if self.part == "gratings":
            for f in dict.fromkeys(m.profile.compression for m in report.models if "gratings" in m.parts):
                figures.mark(fig, x=0.5 / f, text=f"f{f}")
            fig.update_xaxes(range=[0, 0.5])
        if not self.log_y and self.part != "cut":
            fig.update_yaxes(rangemode="tozero")
        return fig.update_layout(showlegend=True)


def _percent(cut: Mapping[str, Any]) -> list[float]:
    return [100 * ratio for ratio in cut["ratios"]]


def _lost(key: str) -> Callable[[Mapping[str, Any]], Any]:
    """By band, the PSNR lost: the band's borders and one of the curves of :class:`BandDependence`."""

    def read(needs: Mapping[str, Any]) -> tuple[list[str], list[float | None]]:
        whole, edges = needs["psnr_whole"], pairwise(needs["edges"])
        return [f"{a:g}<br>–{b:.3g}" for a, b in edges], [
            None if value is None or whole is None else whole - value for value in needs[key]
        ]

    return read


def _costs(key: str) -> Callable[[Mapping[str, Any]], Any]:
    """By band of ranks, one of the curves of :class:`~diffusab_core.metrics.yardsticks.Ruler`."""
    return lambda stake: ([str(a) if a == b else f"{a}–{b}" for a, b in stake["bands"]], stake[key])


def _relative_gain(response: Mapping[str, Any]) -> list[float | None]:
    """Gain over that of the coarsest grating, which compares across models."""
    first = response["gain"][0]
    return [gain / first if first and gain is not None else None for gain in response["gain"]]


def _noisy(noise: Mapping[str, Any]) -> bool:
    return not noise["deterministic"]


_RANK, _GRATING = "zigzag rank (low → high frequency)", "frequency of the grating, cycles per RGB pixel"
#: By key, in the order of the page; the bars of scale equivariance are drawn by :func:`draw_scale`.
CHARTS: Mapping[str, Chart | None] = {
    "cut": Chart("cut", {"": lambda p: (_percent(p), p["latent"])}, "PSNR against the share of frequencies cut",
                 "share of frequencies cut, %", "PSNR to the image, dB", " dB"),
    "noise-frequency": Chart(
        "noise", {"": lambda p: p["by_frequency"]}, "Share of noise in the energy of posterior samples against zigzag "
        "rank, logarithmic", _RANK, "noise share of energy", mode="lines", log_y=True, keep=_noisy),
    "noise-channel": Chart(
        "noise", {"": lambda p: (range(1, len(p["by_channel"]) + 1), sorted(p["by_channel"], reverse=True))},
        "Share of noise in the variance of each latent channel, noisiest first, logarithmic",
        "channels, noisiest first", "noise share of variance", mode="markers", log_y=True, keep=_noisy),
    "scale": None,
    "dependence": Chart(
        "dependence", {", removed": _lost("psnr_without"), ", replaced by noise": _lost("psnr_noised")},
        "PSNR lost when one band of the latent is removed or replaced by noise",
        "band of the latent, cycles per latent pixel", "PSNR lost, dB", " dB"),
    "stake": Chart("stake", {", permuted": _costs("permuted"), ", removed": _costs("zeroed")},
                   "Fréchet distance over the offline features to the crops as they are, when one band of zigzag ranks "
                   "is permuted across crops or removed, logarithmic", "zigzag ranks of the latent", "Fréchet distance",
                   log_y=True),
    "gain": Chart("gratings", {"": lambda p: (p["frequencies"], _relative_gain(p))},
                  "Power of the latent's response at the predicted frequency against the frequency of the grating",
                  _GRATING, "gain, relative to the coarsest", log_y=True, level=1.0),
    "arrival": Chart(
        "gratings", {", folded": lambda p: (p["frequencies"], p["folded_share"]),
                     ", elsewhere": lambda p: (p["frequencies"], p["spread_share"])},
        "Where the energy of the latent's response lies against the frequency of the grating",
        _GRATING, "share of the response"),
    "error": Chart("gratings", {"": lambda p: (p["frequencies"], p["reconstruction_error"])},
                   "Relative error of the decoded grating against its frequency",
                   _GRATING, "error of the decoded grating", level=1.0),
    "cutoff": Chart("cutoff", {"": lambda p: (p["radii"], fine_amplitude(p))},
                    "Amplitude of the latent's fine bands against the cutoff of the images",
                    "cutoff of the images, cycles per RGB pixel", "amplitude, unfiltered = 1", level=1.0),
}  # fmt: skip
COMPARISONS = {"to_image_db": "S x", "to_reconstruction_db": "S Dec(z)", "ceiling_db": "whole"}


def draw_scale(report: Report) -> go.Figure | None:
    """Bars of what is compared at each factor, by model."""
    groups: dict[str, dict[str, float]] = {}
    for model in report.models:
        scale = model.parts.get("scale", {"scales": ()})
        for i, s in enumerate(scale["scales"]):
            bars = {f"×{s}<br>{word}": scale[key][i] for key, word in COMPARISONS.items()}
            groups.setdefault(trace_name(model.name), {}).update({k: v for k, v in bars.items() if v is not None})
    if not groups:
        return None
    alt = "PSNR of decoded downsampled latents, bars by factor and by what is compared: "
    alt += ends({name: list(bars.values()) for name, bars in groups.items()}, " dB")
    fig = figures.bars(groups, alt=alt, xlabel="factor, and what Dec(S z) is compared with", ylabel="PSNR, dB")
    for i, model in enumerate(report.models):
        fig.update_traces(marker_color=style(i)["color"], selector={"name": trace_name(model.name)})
    return fig.update_layout(showlegend=True).update_xaxes(tickangle=0)


def draw_all(report: Report) -> dict[str, go.Figure]:
    """All charts that there are numbers for, by key."""
    made = {key: chart.draw(report) if chart else draw_scale(report) for key, chart in CHARTS.items()}
    return {"profile": draw_profile(report)} | {key: fig for key, fig in made.items() if fig is not None}


def read_numbers(fig: go.Figure) -> tuple[list[str], list[list[str]]]:
    """The numbers of a chart as a table: names of the traces, and a row for each place."""
    columns = {}
    for trace in fig.data:
        places = [place if isinstance(place, str) else round(float(place), 4) for place in trace.x]
        columns[html.unescape(trace.name)] = dict(zip(places, trace.y, strict=True))
    places = list(dict.fromkeys(place for column in columns.values() for place in column))
    if not any(isinstance(place, str) for place in places):
        places.sort()
    rows = [
        [place.replace("<br>", " ") if isinstance(place, str) else f"{place:.4g}",
         *("–" if column.get(place) is None else f"{column[place]:.4g}" for column in columns.values())]
        for place in places
    ]  # fmt: skip
    return list(columns), rows
