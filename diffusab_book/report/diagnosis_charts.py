"""The charts of a diffusability report, each with what it shows in words and the numbers behind it.

A model has one colour in all charts; RGB is grey. Where a chart shows two things of each model, the second has dotted
lines and open markers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import plotly.graph_objects as go

from diffusab_book import figures
from diffusab_book.figures import DASHES, DECADES, GREY
from diffusab_book.report.diagnosis_findings import fine_amplitude
from diffusab_book.report.diagnosis_types import Diagnosis, DiagnosisReport, Numbers
from diffusab_book.report.report_page import model_styles, trace_name

#: What each chart shows, below it; ``{block}`` is the side of a DCT block.
CAPTIONS: Mapping[str, str] = {
    "profile": "Strength of each frequency of {block} × {block} DCT blocks relative to the block mean, over all "
    "blocks, channels and images: mean |D| / mean |D₀₀|. RGB in [0, 1] at the latents' height and width; latents raw. "
    "Latents scatter around zero and RGB does not, so compare slopes, and models with RGB by the high-frequency "
    "share.",
    "cut": "The finest part of every block of the latent, in zigzag order, is set to zero and the rest decoded. "
    "Grey: the same share cut from the image itself, in blocks as many times larger as the latent is smaller.",
    "noise-frequency": "Of the energy of a coefficient of a posterior sample, the share that is noise: σ² / (σ² + "
    "D²), both averaged over channels and blocks, the channels' means removed. Above 0.5 a sample holds more "
    "noise than signal.",
    "noise-channel": "The same share of each channel's variance.",
    "scale": "Higher is better. S is antialiased bilinear downsampling. Plain bars: to the downsampled image, S x. "
    "Hatched bars: to the downsampled reconstruction, S Dec(z), which is equivariance itself, whatever the "
    "reconstruction is like.",
    "dependence": "Full lines: the band's coefficients are set to zero. Dotted: they keep their absolute values and "
    "take the phases of white noise. Lower is better. Means of channels are never changed.",
    "gain": "Mean square of the latent's response at the frequency where the grating should arrive, over that of the "
    "grating, relative to the coarsest grating. Dashed: the latent's Nyquist frequency 1 / (2f); finer gratings fold.",
    "arrival": "Of the energy of the latent's response. Full lines: at the frequency that folding predicts, of "
    "gratings beyond the Nyquist frequency. Dotted: at frequencies that neither the grating nor folding explains. The "
    "rest arrives where it belongs.",
    "error": "Root mean square error of the decoded grating over the grating: 0 is perfect, 1 as bad as leaving it "
    "out. Folding alone is no loss: what folds may still be decoded.",
    "cutoff": "Amplitude of the latent's bands from 0.25 cycles per latent pixel on, mean over these bands, when the "
    "encoder sees images without the frequencies beyond the cutoff. Above the line at 1, low-passed images give more "
    "fine latent structure than whole ones.",
}  # fmt: skip

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        key: Its id in the page.
        figure: With alt text.
        x_label: Head of the first column of its numbers.
        columns: The numbers: for each line its values at the places of the first column.
        places: That first column.
    """

    key: str
    figure: go.Figure
    x_label: str
    places: Sequence[str | float]
    columns: Mapping[str, Numbers] = field(repr=False)

    @property
    def alt(self) -> str:
        """What somebody who cannot see it has to know."""
        return self.figure.layout.meta["alt"]


def charts(report: DiagnosisReport) -> dict[str, Chart]:
    """All charts that there are numbers for, by key."""
    made = [
        _profile(report), _cut(report), _noise_by_frequency(report), _noise_by_channel(report), _scale(report),
        _dependence(report), _gain(report), _arrival(report), _error(report), _cutoff(report),
    ]  # fmt: skip
    return {chart.key: chart for chart in made if chart is not None}


# ---------------------------------------------------------------------------------------------------------------------
# Shared


def _styled(report: DiagnosisReport) -> list[tuple[Diagnosis, str, str]]:
    """The models with colour and marker."""
    colours, _ = model_styles(len(report.models))
    return [(m, colours[i], _SYMBOLS[i % len(_SYMBOLS)]) for i, m in enumerate(report.models)]


def _digits(values: Sequence[float | None], positive: bool = False) -> list[float | None]:
    """Four digits, which is what a chart shows; on a logarithmic axis nothing for zeros."""
    return [None if v is None or (positive and v <= 0) else float(f"{v:.4g}") for v in values]


def _line(
    fig: go.Figure, name: str, x: Sequence, y: Sequence[float | None], colour: str, symbol: str, *,
    second: bool = False, legend: bool = True, log: bool = False, unit: str = "",
) -> None:  # fmt: skip
    name = trace_name(name)
    fig.add_trace(
        go.Scatter(
            x=list(x), y=_digits(y, log), name=name, mode="lines+markers", showlegend=legend,
            line={"color": colour, "width": 2, "dash": "dot" if second else "solid"},
            marker={"symbol": f"{symbol}-open" if second else symbol, "size": 8, "color": colour},
            hovertemplate=f"%{{x}}: %{{y:.4g}}{unit}<extra>{name}</extra>",
        )
    )  # fmt: skip


def _keys(fig: go.Figure, first: str, second: str) -> None:
    """What full and dotted lines mean, in the legend."""
    for name, dash, symbol in ((first, "solid", "circle"), (second, "dot", "circle-open")):
        line, marker = {"color": GREY, "width": 2, "dash": dash}, {"symbol": symbol, "size": 8, "color": GREY}
        fig.add_trace(go.Scatter(x=[None], y=[None], mode="lines+markers", name=name, line=line, marker=marker))


def _finish(fig: go.Figure, x: str, y: str, alt: str, *, log: bool = False, zero: bool = False) -> go.Figure:
    fig.update_xaxes(title=x)
    fig.update_yaxes(title=y, rangemode="tozero" if zero else "normal", **(DECADES if log else {}))
    fig.update_layout(showlegend=True)
    return figures.described(fig, alt)


def _ends(columns: Mapping[str, Numbers], unit: str = "") -> str:
    """From where to where each line goes."""
    said = []
    for name, values in columns.items():
        there = [v for v in values if v is not None]
        if there:
            said.append(f"{name} goes from {there[0]:.3g}{unit} to {there[-1]:.3g}{unit}")
    return "; ".join(said) + "."


def _nyquists(fig: go.Figure, models: Sequence[Diagnosis]) -> None:
    """A vertical line at each latent's Nyquist frequency."""
    for model in {m.profile.compression: m for m in models}.values():
        fig.add_vline(
            model.gratings.latent_nyquist, line={"color": GREY, "width": 1, "dash": "dash"},
            annotation={"text": f"f{model.profile.compression}", "font": {"size": 11}, "yanchor": "bottom", "y": 1},
        )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# One function a chart


def _profile(report: DiagnosisReport) -> Chart:
    fig, columns = go.Figure(), {}
    rgb = [(p, GREY, DASHES[(i + 1) % len(DASHES)]) for i, p in enumerate(report.rgb)]
    colours, dashes = model_styles(len(report.models))
    drawn = rgb + [(m.profile, c, d) for m, c, d in zip(report.models, colours, dashes, strict=True)]
    for profile, colour, dash in drawn:
        values, name = profile.profiles["ratio_of_means"], trace_name(profile.name)
        columns[profile.name] = tuple(values)
        fig.add_trace(
            go.Scatter(
                y=_digits(values, True), name=name, mode="lines", line={"color": colour, "width": 2, "dash": dash},
                hovertemplate=f"rank %{{x}}: %{{y:.3g}}<extra>{name}</extra>",
            )
        )  # fmt: skip
    alt = "Frequency profiles against zigzag rank, logarithmic: " + _ends(columns)
    _finish(fig, "zigzag rank (low → high frequency)", "mean |D| / mean |D₀₀|", alt, log=True)
    return Chart("profile", fig, "zigzag rank", range(report.options.block_size**2), columns)


def _cut(report: DiagnosisReport) -> Chart | None:
    models = [(m, c, s) for m, c, s in _styled(report) if m.cut]
    if not models:
        return None
    fig, columns = go.Figure(), {}
    percent = [100 * ratio for ratio in models[0][0].cut.ratios]
    for i, (f, m) in enumerate({m.profile.compression: m for m, _, _ in models}.items()):
        name = f"RGB, blocks of {f * report.options.block_size}²"
        columns[name] = m.cut.rgb_db
        _line(fig, name, percent, m.cut.rgb_db, GREY, _SYMBOLS[i % len(_SYMBOLS)], second=True, unit=" dB")
    for m, colour, symbol in models:
        columns[m.name] = m.cut.latent_db
        _line(fig, m.name, percent, m.cut.latent_db, colour, symbol, unit=" dB")
    alt = "PSNR against the share of frequencies cut: " + _ends(columns, " dB")
    _finish(fig, "share of frequencies cut, %", "PSNR to the image, dB", alt)
    return Chart("cut", fig, "cut, %", [f"{p:g}" for p in percent], columns)


def _noisy(report: DiagnosisReport) -> list[tuple[Diagnosis, str, str]]:
    return [(m, c, s) for m, c, s in _styled(report) if not m.noise.deterministic]


def _noise_by_frequency(report: DiagnosisReport) -> Chart | None:
    fig, columns = go.Figure(), {}
    _, dashes = model_styles(len(report.models))
    for m, colour, _ in _noisy(report):
        columns[m.name], name = m.noise.by_frequency, trace_name(m.name)
        line = {"color": colour, "width": 2, "dash": dashes[report.models.index(m)]}
        hover = f"rank %{{x}}: %{{y:.3g}}<extra>{name}</extra>"
        fig.add_trace(
            go.Scatter(y=_digits(m.noise.by_frequency, True), mode="lines", name=name, line=line, hovertemplate=hover)
        )
    if not columns:
        return None
    alt = "Share of noise in the energy of posterior samples against zigzag rank, logarithmic: " + _ends(columns)
    _finish(fig, "zigzag rank (low → high frequency)", "noise share of energy", alt, log=True)
    return Chart("noise-frequency", fig, "zigzag rank", range(report.options.block_size**2), columns)


def _noise_by_channel(report: DiagnosisReport) -> Chart | None:
    fig, columns = go.Figure(), {}
    most = 0
    for m, colour, symbol in _noisy(report):
        shares = sorted(m.noise.by_channel, reverse=True)
        columns[m.name], most = tuple(shares), max(most, len(shares))
        name = trace_name(m.name)
        fig.add_trace(
            go.Scatter(
                x=list(range(1, len(shares) + 1)), y=_digits(shares, True), mode="markers", name=name,
                marker={"color": colour, "symbol": symbol, "size": 6},
                hovertemplate=f"channel %{{x}}: %{{y:.3g}}<extra>{name}</extra>",
            )
        )  # fmt: skip
    if not columns:
        return None
    alt = "Share of noise in the variance of each latent channel, noisiest first, logarithmic: " + _ends(columns)
    _finish(fig, "channels, noisiest first", "noise share of variance", alt, log=True)
    columns = {name: values + (None,) * (most - len(values)) for name, values in columns.items()}
    return Chart("noise-channel", fig, "channel, noisiest first", range(1, most + 1), columns)


def _scale(report: DiagnosisReport) -> Chart | None:
    models = [(m, c) for m, c, _ in _styled(report) if m.scale]
    if not models:
        return None
    fig, columns = go.Figure(), {}
    places = [f"×{s}" for s in models[0][0].scale.scales]
    for m, colour in models:
        name = trace_name(m.name)
        columns |= {
            f"{m.name}: Dec(S z) to S x": m.scale.to_image_db,
            f"{m.name}: Dec(S z) to S Dec(z)": m.scale.to_reconstruction_db,
            f"{m.name}: S Dec(z) to S x": m.scale.ceiling_db,
        }
        for group, values, pattern in (
            ("to S x", m.scale.to_image_db, ""), ("to S Dec(z)", m.scale.to_reconstruction_db, "/"),
        ):  # fmt: skip
            fig.add_trace(
                go.Bar(
                    x=[places, [group] * len(places)], y=_digits(values), name=name,
                    legendgroup=name, showlegend=group == "to S x",
                    marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay", "fgcolor": "white"}},
                    hovertemplate=f"%{{x}}: %{{y:.4g}} dB<extra>{name}</extra>",
                )
            )  # fmt: skip
    fig.update_layout(barmode="group", bargap=0.25)
    alt = "PSNR of decoded downsampled latents, bars by factor and by what they are compared with: " + _ends(columns)
    _finish(fig, "factor, and what Dec(S z) is compared with", "PSNR, dB", alt, zero=True)
    return Chart("scale", fig, "factor", places, columns)


def _dependence(report: DiagnosisReport) -> Chart | None:
    models = [(m, c, s) for m, c, s in _styled(report) if m.dependence]
    if not models:
        return None
    fig, columns = go.Figure(), {}
    edges = models[0][0].dependence.edges
    bands = [f"{a:g}–{b:.2g}" if b > 0.7 else f"{a:g}–{b:g}" for a, b in pairwise(edges)]
    for m, colour, symbol in models:
        needs = m.dependence
        for word, values in (("removed", needs.without_db), ("noise", needs.noised_db)):
            lost = tuple(
                None if v is None or needs.whole_db is None else needs.whole_db - v for v in values
            )  # fmt: skip
            columns[f"{m.name}, {word}"] = lost
            second = word == "noise"
            _line(fig, m.name, bands, lost, colour, symbol, second=second, legend=not second, unit=" dB")
    _keys(fig, "band removed", "band replaced by noise of its energy")
    fig.update_xaxes(tickvals=bands, ticktext=[band.replace("–", "<br>–") for band in bands], tickangle=0)
    alt = "PSNR lost when one band of the latent is removed or replaced by noise: " + _ends(columns, " dB")
    _finish(fig, "band of the latent, cycles per latent pixel", "PSNR lost, dB", alt, zero=True)
    return Chart("dependence", fig, "band, cycles per latent pixel", bands, columns)


def _gratings(report: DiagnosisReport) -> list[tuple[Diagnosis, str, str]]:
    return [(m, c, s) for m, c, s in _styled(report) if m.gratings]


def _by_grating(
    report: DiagnosisReport, key: str, values: Sequence[tuple[str, str]], y: str, alt: str, keys: Sequence[str] = (),
    *, log: bool = False, reference: float | None = None,
) -> Chart | None:  # fmt: skip
    """A chart over the gratings' frequency of one or two attributes ``(attribute, word)`` of the response."""
    models = _gratings(report)
    if not models:
        return None
    fig, columns = go.Figure(), {}
    places = sorted({round(nu, 4) for m, _, _ in models for nu in m.gratings.frequencies})
    for m, colour, symbol in models:
        for k, (attribute, word) in enumerate(values):
            measured = getattr(m.gratings, attribute)
            at = {round(nu, 4): v for nu, v in zip(m.gratings.frequencies, measured, strict=True)}
            columns[f"{m.name}{word}"] = tuple(at.get(place) for place in places)
            _line(fig, m.name, _digits(m.gratings.frequencies), measured, colour, symbol, second=k == 1,
                  legend=k == 0, log=log)  # fmt: skip
    if keys:
        _keys(fig, *keys)
    if reference is not None:
        fig.add_hline(reference, line={"color": GREY, "width": 1})
    _nyquists(fig, [m for m, _, _ in models])
    _finish(fig, "frequency of the grating, cycles per RGB pixel", y, alt + _ends(columns), log=log, zero=not log)
    fig.update_xaxes(range=[0, 0.5])
    return Chart(key, fig, "cycles per RGB pixel", [f"{p:g}" for p in places], columns)


def _gain(report: DiagnosisReport) -> Chart | None:
    alt = "Power of the latent's response at the predicted frequency against the frequency of the grating: "
    label = "gain, relative to the coarsest"
    return _by_grating(report, "gain", [("relative_gain", "")], label, alt, log=True, reference=1.0)


def _arrival(report: DiagnosisReport) -> Chart | None:
    alt = "Where the energy of the latent's response lies against the frequency of the grating: "
    values = [("folded_share", ", folded"), ("spread_share", ", elsewhere")]
    keys = ("folded: where aliasing predicts", "elsewhere")
    chart = _by_grating(report, "arrival", values, "share of the response", alt, keys)
    if chart is not None:
        chart.figure.update_yaxes(range=[0, 1.02])
    return chart


def _error(report: DiagnosisReport) -> Chart | None:
    alt = "Relative error of the decoded grating against its frequency: "
    label = "error of the decoded grating"
    return _by_grating(report, "error", [("reconstruction_error", "")], label, alt, reference=1.0)


def _cutoff(report: DiagnosisReport) -> Chart | None:
    models = [(m, c, s) for m, c, s in _styled(report) if m.cutoff]
    if not models:
        return None
    fig, columns = go.Figure(), {}
    radii = models[0][0].cutoff.radii
    for m, colour, symbol in models:
        columns[m.name] = fine_amplitude(m.cutoff)
        _line(fig, m.name, _digits(radii), columns[m.name], colour, symbol)
    fig.add_hline(1.0, line={"color": GREY, "width": 1})
    alt = "Amplitude of the latent's fine bands against the cutoff of the images: " + _ends(columns)
    _finish(fig, "cutoff of the images, cycles per RGB pixel", "amplitude, unfiltered = 1", alt, zero=True)
    for m, _, _ in models:
        for band, (a, b) in enumerate(pairwise(m.cutoff.edges)):
            columns[f"{m.name}, {a:g}–{b:.3g}"] = m.cutoff.relative(band)
    return Chart("cutoff", fig, "cutoff, cycles per RGB pixel", [f"{r:g}" for r in radii], columns)
