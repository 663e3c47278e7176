r"""What a regulariser gives and what it costs: every run in one plane, and an explorer of the weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd
import plotly.graph_objects as go

from diffusab_book import figures, results
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
            counts = f"{len(self.psnr_db)} and {len(self.high_frequency)}"
            raise ValueError(f"a setting needs one PSNR for each energy ratio, got {counts}")


def read_settings(runs: pd.DataFrame, arms: Mapping[float, str]) -> dict[float, Setting]:
    """Settings of recorded fine-tuning runs (:func:`diffusab_book.results.frame`), by weight, from the arm of each."""
    return {
        weight: Setting(
            results.mean_series(runs, "after_profile", arm),
            results.values(runs, "after_hf_energy_ratio", arm).tolist(),
            results.values(runs, "after_psnr_db", arm).tolist(),
        )
        for weight, arm in arms.items()
    }


def plane(runs: pd.DataFrame, families: Mapping[str, str], alt: str) -> go.Figure:
    """Fine-tuning runs of one model, a marker for each, and the model as a star: energy ratio across, PSNR up.

    Args:
        runs: A frame of :func:`diffusab_book.results.frame`.
        families: By the beginning of an arm's name its entry in the legend; the first that fits counts.
        alt: As :func:`diffusab_book.figures.axes`.

    Raises:
        ValueError: An arm belongs to no family.
    """

    def family(arm: str) -> str:
        found = next((name for start, name in families.items() if arm.startswith(start)), None)
        if found is None:
            raise ValueError(f"arm {arm!r} begins with none of {', '.join(families)}")
        return found

    series, styles = dict.fromkeys(families.values()), {}
    for name, of_family in runs.groupby(runs.arm.map(family)):
        series[name] = (1000 * of_family.after_hf_energy_ratio, of_family.after_psnr_db)
        texts = (of_family.arm + ", seed " + of_family.seed.astype(str)).tolist()
        styles[name] = {"text": texts, "hovertemplate": "%{text}: %{x:.2f}, %{y:.2f} dB<extra></extra>"}
    model = runs.iloc[0]
    series = {name: places for name, places in series.items() if places}
    series["untouched"] = ([1000 * model.before_hf_energy_ratio], [model.before_psnr_db])
    styles["untouched"] = {"color": figures.GREY, "symbol": "star", "size": 14}
    titles = {"xlabel": "HF energy ratio of the latents, 10⁻³", "ylabel": "PSNR, dB"}
    fig = figures.points(series, styles=styles, alt=alt, height=460, **titles)
    return fig.update_xaxes(type="log", tickvals=[0.1, 0.2, 0.4, 0.6, 1, 1.5, 2, 3, 5, 10, 20, 50])


def weight_explorer(
    settings: Mapping[float, Setting], references: Mapping[str, Sequence[float]], start: float
) -> Explorer:
    r"""One weight of a regulariser at a time: left the profile beside references, right its place in the trade-off.

    Args:
        settings: By weight, in the order of the slider; the weight 0 is the control.
        references: Profiles that stay, such as those of RGB and of the untouched autoencoder, by name.
        start: The weight shown first.

    Raises:
        ValueError: The control is not among the settings.
    """
    if 0 not in settings:
        raise ValueError(f"the control, weight 0, is not among the weights {list(settings)}")
    mean_of = {w: (1000 * fmean(s.high_frequency), fmean(s.psnr_db)) for w, s in settings.items()}
    runs = [(w, 1000 * h, db) for w, s in settings.items() for h, db in zip(s.high_frequency, s.psnr_db, strict=True)]
    # Drawn on ranges of its own, so that nothing jumps while the slider moves.
    profiles = [*references.values(), *(s.profile for s in settings.values())]
    low = min(min(profile) for profile in profiles) / 1.3
    looks = {name: {"color": (figures.GREY, figures.BLUE, figures.GREEN)[i % 3], "dash": figures.DASHES[1 + i % 4]}
             for i, name in enumerate(references)}  # fmt: skip
    looks["this weight"] = {"color": figures.VERMILLION, "width": 2.5, "dash": "solid"}

    def draw(weight: float) -> go.Figure:
        ratio, decibel = mean_of[weight]
        change = f"{decibel - mean_of[0][1]:+.2f} dB against α = 0"
        curves = {**references, "this weight": settings[weight].profile}
        left = figures.lines(curves, xlabel="zigzag rank", ylabel="relative to D₀₀", log_y=True, styles=looks)
        here = [w == weight for w, *_ in runs]
        marks = {"text": [f"α = {w:g}" for w, *_ in runs], "mode": "markers",
                 "hovertemplate": "%{text}: %{x:.2f}, %{y:.2f} dB<extra></extra>"}  # fmt: skip
        right = figures.lines(
            {"means": tuple(zip(*mean_of.values(), strict=True)), "runs": tuple(zip(*runs, strict=True))[1:]},
            xlabel="HF energy ratio, 10⁻³", ylabel="PSNR, dB",
            styles={"means": {"color": figures.GREY, "width": 1, "dash": "dot", "hoverinfo": "skip"}, "runs": marks},
        )  # fmt: skip
        colors = [figures.VERMILLION if h else figures.GREY for h in here]
        right.data[1].update(marker={"color": colors, "size": [12 if h else 7 for h in here], "symbol": 0})
        return figures.panels(
            [left.update_yaxes(range=[math.log10(low), 0.1]), right.update_layout(showlegend=False)],
            [f"α = {weight:g}: {ratio:.2f} · 10⁻³ in high frequencies", "the control" if weight == 0 else change],
            "Explorer: left the frequency profile of the latents for one weight of the regulariser, between those of "
            "the references; right each run's high-frequency energy ratio against its PSNR, the runs with this weight "
            "marked.",
            height=400, widths=[0.55, 0.45],
        )  # fmt: skip

    return Explorer(draw, [Control("weight", "α", tuple(settings), start, "slider", lambda w: f"{w:g}")])
