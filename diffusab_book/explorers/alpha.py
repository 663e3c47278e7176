r"""An explorer of a regulariser's weight: the spectrum that it gives, and what it costs in reconstruction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer


@dataclass(frozen=True)
class Setting:
    """What runs with one weight gave.

    Attributes:
        profile: Frequency profile of the latents, ``(B²,)``, mean over runs.
        high_frequency: High-frequency energy ratio of each run.
        psnr_db: Reconstruction of each run, in the same order.
    """

    profile: Sequence[float]
    high_frequency: Sequence[float]
    psnr_db: Sequence[float]

    def __post_init__(self) -> None:
        if not self.psnr_db or len(self.psnr_db) != len(self.high_frequency):
            raise ValueError(
                f"a setting needs one PSNR for each energy ratio, got {len(self.psnr_db)} and "
                f"{len(self.high_frequency)}"
            )


def weight_explorer(
    settings: Mapping[float, Setting],
    references: Mapping[str, Sequence[float]],
    control: float = 0.0,
    start: float | None = None,
    label: str = "α",
) -> Explorer:
    r"""One weight of a regulariser at a time: left the profile beside references, right its place in the trade-off.

    Args:
        settings: By weight, in the order of the slider.
        references: Profiles that stay, such as those of RGB and of the untouched autoencoder, by name.
        control: The weight that the reconstruction is compared with; one of ``settings``.
        start: The weight shown first; the last if ``None``.
        label: What the weight is called.

    Raises:
        ValueError: The control is not among the settings.
    """
    if control not in settings:
        raise ValueError(f"the control {control!r} is not among the weights {list(settings)}")
    weights = tuple(settings)
    mean_of = {w: (_mean(s.high_frequency), _mean(s.psnr_db)) for w, s in settings.items()}
    # Drawn on ranges of its own, so that nothing jumps while the slider moves.
    profiles = [*references.values(), *(s.profile for s in settings.values())]
    low = min(min(profile) for profile in profiles) / 1.3

    def draw(weight: float) -> go.Figure:
        ratio, decibel = mean_of[weight]
        change = decibel - mean_of[control][1]
        title = "the control" if weight == control else f"{change:+.2f} dB against {label} = {control:g}"
        fig = make_subplots(
            1, 2, column_widths=[0.55, 0.45], horizontal_spacing=0.14,
            subplot_titles=[f"{label} = {weight:g}: {1000 * ratio:.2f} · 10⁻³ in high frequencies", title],
        )  # fmt: skip
        for i, (name, profile) in enumerate(references.items()):
            line = {"color": (figures.GREY, figures.BLUE, figures.GREEN)[i % 3], "dash": figures.DASHES[1 + i % 4]}
            fig.add_trace(go.Scatter(y=_short(profile), name=name, line=line), 1, 1)
        line = {"color": figures.VERMILLION, "width": 2.5}
        fig.add_trace(go.Scatter(y=_short(settings[weight].profile), name="this weight", line=line), 1, 1)
        line = {"color": figures.GREY, "width": 1, "dash": "dot"}
        path = [[1000 * mean_of[w][0] for w in weights], [mean_of[w][1] for w in weights]]
        fig.add_trace(
            go.Scatter(x=_short(path[0]), y=_short(path[1]), mode="lines", line=line, showlegend=False,
                       hoverinfo="skip"), 1, 2,
        )  # fmt: skip
        runs = [(w, 1000 * h, db) for w in weights for h, db in zip(settings[w].high_frequency, settings[w].psnr_db,
                                                                    strict=True)]  # fmt: skip
        here = [w == weight for w, *_ in runs]
        marker = {
            "color": [figures.VERMILLION if h else figures.GREY for h in here],
            "size": [12 if h else 7 for h in here],
        }
        fig.add_trace(
            go.Scatter(
                x=_short([h for _, h, _ in runs]), y=_short([db for *_, db in runs]), mode="markers", marker=marker,
                text=[f"{label} = {w:g}" for w, *_ in runs], showlegend=False,
                hovertemplate="%{text}: %{x:.2f}, %{y:.2f} dB<extra></extra>",
            ), 1, 2,
        )  # fmt: skip
        fig.update_xaxes(title="zigzag rank", row=1, col=1)
        fig.update_yaxes(title="relative to D₀₀", type="log", range=[math.log10(low), 0.1], dtick=1,
                         exponentformat="power", row=1, col=1)  # fmt: skip
        fig.update_xaxes(title="HF energy ratio, 10⁻³", row=1, col=2)
        fig.update_yaxes(title="PSNR, dB", row=1, col=2)
        fig.update_layout(height=400, margin={"t": 84, "l": 56, "r": 12}, legend={"y": 1.1, "x": 0})
        fig.update_annotations(font_size=13)
        return figures.described(
            fig,
            "Explorer: left the frequency profile of the latents for one weight of the regulariser, between those of "
            "the references; right each run's high-frequency energy ratio against its PSNR, the runs with this weight "
            "marked.",
        )

    first = weights[-1] if start is None else start
    return Explorer(draw, [Control("weight", label, weights, first, "slider", lambda w: f"{w:g}")])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
