r"""The spectrum dial: what its filter does to latents, and recorded doses and lengths of training.

:func:`filter_explorer` computes; all else is drawn from records of the run notebook ``denoiser``, read by :func:`read`
from folders of ``book/results``, with the grid of samples that lies beside each record.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import torch

from diffusab_book import figures, results
from diffusab_book.explorer import Control, Explorer
from diffusab_core.flow import interpolate
from diffusab_core.latents import Latents
from diffusab_core.methods.reshaping import Coordinates, filter_gains, measure_energies
from diffusab_core.metrics.yardsticks import posterior_samples
from diffusab_core.spectrum import zigzag_order
from diffusab_core.training.order import draw_noise

METRIC = "best_gap_offline"
_GAP = "gap at the best shift"


def read(*sources: str | Path) -> pd.DataFrame:
    """Runs of several sweeps as one frame, each run once, with its file of samples as ``samples_file``.

    Args:
        sources: As of :func:`diffusab_book.results.frame`.
    """
    frames = []
    for source in sources:
        runs = results.frame(source)
        places = [results.RESULTS / source / f"{run.arm}-seed{run.seed}.webp" for run in runs.itertuples()]
        frames.append(runs.assign(samples_file=[place if place.is_file() else None for place in places]))
    return pd.concat(frames, ignore_index=True).drop_duplicates("identity", ignore_index=True)


def complete(runs: pd.DataFrame, dose: str = "power", within: str = "steps") -> pd.DataFrame:
    """Of each length of training the seeds that have every dose that it has, so that what is still coming in waits.

    ``within`` names another column than the length of training where that is what differs beside the dose.
    """
    of_seed = runs.groupby([within, "seed"])[dose].transform("nunique")
    return runs[of_seed == runs.groupby(within)[dose].transform("nunique")].reset_index(drop=True)


def by_dose(runs: pd.DataFrame, dose: str = "power") -> pd.DataFrame:
    """The frame with the dose as the name of the arm, in ascending order, to be compared by pairs."""
    named = runs.assign(arm=[results.spell(value) for value in runs[dose]])
    return named.sort_values([dose, "seed"], ignore_index=True)


def samples(runs: pd.DataFrame, seed: int | None = None, **chosen: Any) -> go.Figure:
    """The grid of samples of one run, as a part of :func:`~diffusab_book.figures.panels`.

    Args:
        runs: From :func:`read`.
        seed: The smallest that there is when left out.
        chosen: Values of columns that pick the run, such as ``power=0.5, steps=600``.

    Raises:
        ValueError: No such run, several, or one without a grid.
    """
    found = runs
    for name, value in chosen.items():
        found = found[found[name] == value]
    found = found[found.seed == (found.seed.min() if seed is None else seed)]
    said = ", ".join(f"{name} {value}" for name, value in chosen.items())
    if len(found) != 1:
        raise ValueError(f"{len(found)} runs with {said}; one is needed to show its samples")
    file = found.iloc[0].samples_file
    if file is None:
        raise ValueError(f"the run with {said} has no grid of samples beside its record")
    source = f"data:image/webp;base64,{base64.b64encode(Path(file).read_bytes()).decode()}"
    plain = {"visible": False, "constrain": "domain"}
    return go.Figure(go.Image(source=source, hoverinfo="skip")).update_xaxes(**plain).update_yaxes(**plain)


def dial_explorer(
    runs: pd.DataFrame, metric: str = METRIC, reference: float = 1.0, dose: str = "power", over_length: bool = False
) -> Explorer:
    """Slider over the dose, menu over the length of training: samples beside those as encoded, and all gaps below.

    Samples start from the same noise, at the best shift of either run. Doses that are not recorded at every length are
    left out of the slider.

    Args:
        runs: From :func:`read`: arms that differ in dose and steps alone.
        metric: What is drawn below, mean and 95% interval over seeds.
        reference: The dose whose samples stand beside.
        dose: Its column.
        over_length: The slider moves along the training, and the menu chooses the dose.

    Raises:
        ValueError: Fewer than two doses that every length has, or none of them the reference.
    """
    lengths = tuple(sorted(set(runs.steps)))
    at = {steps: by_dose(runs[runs.steps == steps], dose) for steps in lengths}
    doses = sorted(set.intersection(*(set(of[dose]) for of in at.values())))
    if reference not in doses or len(doses) < 2:
        raise ValueError(f"at {lengths} steps all have the doses {doses}: two are needed, one of them {reference:g}")
    lines, bands, looks = {}, {}, {}
    for i, steps in enumerate(lengths):
        own = sorted(set(at[steps][dose]))
        found = [results.values(at[steps], metric, f"{a:g}") for a in own]
        lines[f"{results.count(steps)} steps"] = (own, [values.mean() for values in found])
        ends = [_interval(values) for values in found]
        if all(math.isfinite(low) for low, _ in ends):
            bands[f"{results.count(steps)} steps"] = tuple(zip(*ends, strict=True))
        looks[f"{results.count(steps)} steps"] = {"color": i, "mode": "lines+markers"}

    def draw(a: float, steps: int = lengths[0]) -> go.Figure:
        parts = [samples(at[steps], **{dose: value}) for value in (a, reference)]
        titles = [f"a = {a:g}", f"a = {reference:g}"]
        fig = figures.lines(lines, band=bands, styles=looks, xlabel="power a of the spectrum", ylabel=_GAP, log_y=True)
        parts.append(with_ticks(figures.mark(fig, x=a)).update_xaxes(tickvals=sorted(set(runs[dose]))))
        return figures.panels(parts, [*titles, ""], _DIAL, height=740, wide=True, heights=(1.25, 1))

    kinds = ("menu", "slider") if over_length else ("slider", "menu")
    over_dose = Control("a", "a", tuple(doses), doses[0], kinds[0], lambda a: f"{a:g}")
    over_steps = Control("steps", "training", lengths, lengths[0], kinds[1], lambda n: f"{results.count(n)} steps")
    return Explorer(draw, [over_dose, over_steps])


_DIAL = (
    "Explorer over the power of the spectrum: samples of a denoiser trained on latents with it, beside those "
    "on latents as encoded after as many steps, from the same noise. Below, the gap at each power after each length of "
    "training, with its interval over seeds; the power shown is marked by a dotted line."
)


def filter_explorer(
    latents: Latents,
    decode: Callable[[torch.Tensor], torch.Tensor],
    doses: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5),
    times: Sequence[float] = (0.3, 0.6),
    shown: int = 16,
) -> Explorer:
    """Slider over the power a: latents as the network sees them, plain and noised, and what is noised decoded.

    Below, the energy of the noised latent by zigzag rank, of signal and noise apart, beside the signal's as encoded.

    Args:
        latents: Square ones; what is shown are samples of the posteriors of the first.
        decode: Normalised latents to images.
        doses: That the slider offers, with 1.
        times: That the menu offers.
        shown: How many latents.
    """
    energies = measure_energies(latents)
    by_rank = zigzag_order(len(energies))
    x = latents.normalise(posterior_samples(latents, range(shown)))
    noise = draw_noise(0, range(shown), latents.shape)
    columns = round(shown**0.5)

    def grey(seen: torch.Tensor) -> go.Figure:
        return figures.picture(enlarge(figures.mosaic(seen[:, :1].expand(-1, 3, -1, -1) / 3, columns, gap=1), 4))

    @torch.no_grad()
    def draw(a: float, t: float = times[0]) -> go.Figure:
        gains = filter_gains(energies, a)
        dial = Coordinates(latents.shape, None, gains, "NLC")
        x_t = interpolate(x, dial.colour(noise), torch.full((shown,), t))
        signal = {name: (1 - t) ** 2 * e.flatten()[by_rank] for name, e in
                  {"signal as encoded": energies, "signal": gains.square() * energies}.items()}  # fmt: skip
        curves = signal | {"noise": torch.full((len(by_rank),), t**2)}
        looks = {
            "signal as encoded": {"color": figures.GREY, "dash": "dot"},
            "signal": {"color": figures.VERMILLION, "dash": "solid"},
            "noise": {"color": figures.BLUE, "dash": "dash"},
        }
        below = figures.profiles(curves, "", ylabel="energy in u_t", styles=looks)
        parts = [grey(dial.enter(x)), grey(dial.enter(x_t)), figures.picture(figures.mosaic(decode(x_t), columns))]
        titles = ["what the network sees", "with noise", "undone and decoded", ""]
        return figures.panels([*parts, below], titles, _FILTER, height=560, wide=True)

    return Explorer(
        draw,
        [
            Control("a", "a", tuple(doses), 1.0, "slider", lambda a: f"{a:g}"),
            Control("t", "t =", tuple(times), times[0], "menu", lambda t: f"{t:g}"),
        ],
    )


_FILTER = (
    "Explorer over the power of the spectrum: one channel of some latents behind the filter, the same with noise, and "
    "what the noised latents decode to once the filter is undone. Below, energy of signal and noise by zigzag rank: a "
    "larger power lets more ranks sink below the noise, and the noise of the pictures moves from coarse to fine."
)


def crossing(
    runs: pd.DataFrame, metric: str = METRIC, reference: Any = 1.0, dose: str = "power",
    ylabel: str = "gap",
) -> go.Figure:  # fmt: skip
    """Each dose against the reference along the training: paired differences, relative, with 95% intervals.

    Args:
        runs: From :func:`read`.
        metric: What is compared.
        reference: The dose that zero stands for.
        dose: Its column; words, such as names of autoencoders, will do.
        ylabel: What the metric is called.

    Raises:
        ValueError: A length without the reference.
    """
    curves, band, looks = {}, {}, {}
    called = {a: a if isinstance(a, str) else f"a = {a:g}" for a in set(runs[dose])}
    others = [a for a in sorted(set(runs[dose])) if a != reference]
    for i, a in enumerate(others):
        places, found = [], []
        for steps in sorted(set(runs[runs[dose] == a].steps)):
            of = by_dose(runs[(runs.steps == steps) & runs[dose].isin([a, reference])], dose)
            shared = set(of[of[dose] == a].seed) & set(of[of[dose] == reference].seed)
            of = of[of.seed.isin(shared)]
            compared = results.paired(of, metric, results.spell(a), results.spell(reference), relative=True)
            places.append(steps)
            found.append(compared)
        curves[called[a]] = (places, [100 * pair.mean for pair in found])
        looks[called[a]] = {"color": i, "mode": "lines+markers"}
        if all(len(pair.values) > 1 for pair in found):
            band[called[a]] = ([100 * pair.low for pair in found], [100 * pair.high for pair in found])
    fig = figures.lines(
        curves, band=band, styles=looks, xlabel="training steps", ylabel=f"{ylabel} over {called[reference]}, %",
        log_x=True,
        alt="Each arm relative to the reference, by training steps, with intervals over seeds: below zero an arm is "
        "ahead at that length of training.",
    )  # fmt: skip
    lengths = sorted(set(runs.steps))
    fig.update_xaxes(tickvals=lengths, ticktext=[results.count(steps) for steps in lengths])
    return figures.mark(fig, y=0.0)


def taken_apart(runs: pd.DataFrame, metric: str = METRIC) -> go.Figure:
    """The parts of the filter alone and together, against no filter: paired differences, relative, and their range.

    Whiskers reach from the lowest to the highest seed: an interval of two seeds would be far wider than what is shown.

    Args:
        runs: From :func:`read`: arms that differ in ``power`` and ``parts``, and one with the power 1.
        metric: What is compared.
    """
    control = runs[runs.power == 1].assign(arm="none")
    groups = {}
    for power in sorted(set(runs.power) - {1.0}):
        of_power, bars = runs[runs.power == power], {}
        for parts in sorted(set(of_power.parts), key=lambda text: (-len(text), "NLC".index(text[0]))):
            both = pd.concat([of_power[of_power.parts == parts].assign(arm=parts), control])
            compared = results.paired(both, metric, parts, "none", relative=True)
            bars[parts] = tuple(100 * value for value in (compared.mean, min(compared.values), max(compared.values)))
        groups[f"a = {power:g}"] = bars
    return figures.bars(
        groups, xlabel="what the filter changes", ylabel="gap over none, %",
        alt="Gap over that without a filter: of the filter (NLC), of coloured noise in its metric (NL), and of the "
        "noise path (N), the loss weight (L) and the network's coordinates (C) alone, for each power; whiskers reach "
        "over the seeds.",
    )  # fmt: skip


def optimum_map(
    runs: Mapping[str, pd.DataFrame], metric: str = METRIC, marks: Mapping[str, float] | None = None,
    dose: str = "power",
) -> go.Figure:  # fmt: skip
    """The dose with the smallest gap over the length of training, a line for each name, with 95% intervals over seeds.

    Open symbols: the best dose of some seed is the first or the last that was tried, so the optimum may lie beyond.

    Args:
        runs: By name, such as ``"patch 2"``; only lengths with three doses or more are drawn.
        metric: What is smallest at the optimum, see :func:`diffusab_book.results.optimum`.
        marks: Doses to mark by level lines, such as ``{"SE": 1.25}``.
        dose: Its column.
    """
    curves, band, looks = {}, {}, {}
    for i, (name, of_name) in enumerate(runs.items()):
        places, found = [], []
        for steps in sorted(set(of_name.steps)):
            of = of_name[of_name.steps == steps]
            if of[dose].nunique() >= 3:
                places.append(steps)
                found.append(results.optimum(of, metric, dose))
        if not places:
            continue
        curves[name] = (places, [best.mean for best in found])
        low, high = ([getattr(best, end) for best in found] for end in ("low", "high"))
        if not any(math.isnan(value) for value in (*low, *high)):
            band[name] = (low, high)
        symbols = ["circle-open" if best.at_edge else "circle" for best in found]
        looks[name] = {"color": i, "mode": "lines+markers", "symbol": symbols, "size": 10}
    fig = figures.lines(
        curves, band=band, styles=looks, xlabel="training steps", ylabel="best power a", log_x=True,
        alt="The power of the spectrum with the smallest gap, by training steps, a line for each patch size, with its "
        "interval over seeds; open symbols stand where the best of the powers tried is the first or the last of them.",
    )  # fmt: skip
    lengths = sorted({steps for places, _ in curves.values() for steps in places})
    fig.update_xaxes(tickvals=lengths, ticktext=[results.count(steps) for steps in lengths])
    for name, (low, high) in band.items():
        places, means = curves[name]
        if len(places) == 1:  # a band of one place has no width
            whisker = {"array": [high[0] - means[0]], "arrayminus": [means[0] - low[0]], "thickness": 1.5, "width": 5}
            fig.update_traces(error_y=whisker, selector={"name": name})
    for text, value in (marks or {}).items():
        figures.mark(fig, y=value, text=text)
    return fig


def with_ticks(fig: go.Figure) -> go.Figure:
    """Labels at 1, 1.5, 2, 3, 5 and 7 times powers of ten, where the values span little more than one decade."""
    drawn = [y for trace in fig.data for y in trace.y if y is not None and y > 0]
    lowest, highest = math.floor(math.log10(min(drawn))), math.ceil(math.log10(max(drawn)))
    ticks = [factor * 10.0**power for power in range(lowest, highest + 1) for factor in (1, 1.5, 2, 3, 5, 7)]
    return fig.update_yaxes(dtick=None, tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])


def enlarge(image: torch.Tensor, times: int = 12) -> torch.Tensor:
    """``(h, w)``, which is grey, or ``(3, h, w)`` as an image ``(3, h * times, w * times)``, without smoothing."""
    return image.repeat_interleave(times, -2).repeat_interleave(times, -1).expand(3, -1, -1)


def _interval(values: Any) -> tuple[float, float]:
    """95% of the mean, NaN for a single value."""
    if len(values) < 2:
        return math.nan, math.nan
    low, high = results.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return float(low), float(high)
