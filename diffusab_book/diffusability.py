r"""Which candidates go with the gap of trained denoisers: rank correlations over latent spaces, and their worth.

A *space* is an arm of the sweeps ``spaces*``, named ``FAMILY-...``. Its gap is the mean over seeds of

.. math:: \frac{\text{best gap} - \text{floor}}{\text{gap of decoded noise} - \text{floor}},

over the ruler of its own decoder: 0 is what real latents of other images have, 1 what white noise has.

A candidate that only tells families apart is of no use to somebody who changes one latent space. So each family is held
out in turn: ranks are fitted to the gap on all others (by least squares, on shares of the spaces that lie below), and
judged by the rank correlation within the family. What is constant in a family says nothing of it and counts 0.

What comes out is written down by :func:`calibrate` for ``diffusab report``, once the records support it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy import stats

from diffusab_book import figures, results
from diffusab_core.files import DiffusabError, first_line, write_json
from diffusab_core.methods.diffusability import CANDIDATES

#: What ``diffusab report`` reads; no section of a report without it.
CALIBRATION = Path(__file__).with_name("report") / "diffusability.json"
LEAST_FAMILY = 3  # spaces of a family that is judged by itself
LEAST_SPACES = 6  # that a rank correlation is taken of
RESAMPLES_HELD_OUT = 300  # at most
#: The sweeps behind it: gaps by their steps, and candidates.
GAPS, SCORES = {2400: "spaces", 9600: "spaces_long"}, "spaces_scores"
PUBLISHED = "profile_share"  # the score that others are compared with


class CalibrationError(DiffusabError, ValueError):
    """A file of a calibration, or a frame of spaces, that cannot be used; the message names what is wrong."""


# ---------------------------------------------------------------------------------------------------------------------
# Spaces


def gap_column(steps: int) -> str:
    """The column of the gap after so many steps."""
    return f"gap_{steps}"


def over_ruler(runs: pd.DataFrame, features: str = "offline") -> pd.Series:
    """The gap of each run at its best shift, 0 that of real latents and 1 that of decoded noise."""
    best, floor, noise = (runs[f"{name}_{features}"] for name in ("best_gap", "gap_floor", "gap_noise"))
    return (best - floor) / (noise - floor)


def join(scores: pd.DataFrame, gaps: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """One row for each space that has candidates and a gap at some length, by arm.

    Columns: ``family``, each of :data:`~diffusab_core.methods.diffusability.CANDIDATES` that was measured, and for each
    length ``gap_STEPS`` (NaN without runs) and ``seeds_STEPS``.

    Args:
        scores: Runs of the notebook ``space``, one for each arm.
        gaps: Runs of the notebook ``denoiser`` by their steps; arms of the same names, perhaps fewer.

    Raises:
        CalibrationError: An arm with a gap has no candidates, or runs have other steps than they stand for.
    """
    names = [name for name in CANDIDATES if name in scores.columns]
    found = scores.groupby("arm", sort=False)[names].mean()
    found.insert(0, "family", [arm.split("-")[0] for arm in found.index])
    for steps, runs in gaps.items():
        if wrong := sorted(set(runs.steps) - {steps}):
            raise CalibrationError(f"runs of {wrong[0]} steps stand among those of {steps}")
        if unknown := sorted(set(runs.arm) - set(found.index)):
            raise CalibrationError(f"space {unknown[0]!r} has a gap and no candidates")
        by_arm = runs.assign(gap=over_ruler(runs)).groupby("arm").gap
        found[gap_column(steps)] = by_arm.mean()
        found[f"seeds_{steps}"] = by_arm.count()
    there = found[[gap_column(steps) for steps in gaps]].notna().any(axis=1)
    return found[there]


def read_spaces(folder: Path = results.RESULTS) -> pd.DataFrame:
    """The spaces of the records in a folder, at the lengths that have some.

    Raises:
        FileNotFoundError: No space has been measured, or none has a gap.
        CalibrationError: See :func:`join`.
        RecordError: A record is broken.
    """
    scores, gaps = results.frame(folder / SCORES), {}
    for steps, sweep in GAPS.items():
        try:
            gaps[steps] = results.frame(folder / sweep)
        except FileNotFoundError:
            continue
    if not gaps:
        raise FileNotFoundError(f"no run record in {folder / next(iter(GAPS.values()))}")
    return join(scores, gaps)


def lengths_of(spaces: pd.DataFrame) -> list[int]:
    """The lengths of training at which spaces have a gap, ascending."""
    return sorted(int(name.removeprefix("gap_")) for name in spaces.columns if name.startswith("gap_"))


# ---------------------------------------------------------------------------------------------------------------------
# Rank correlations


def rank_correlation(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """Spearman's rho along an axis, ties at their mean rank; 0 where one of the two is constant and says nothing.

    As :func:`scipy.stats.spearmanr`, for many resamples at once.
    """
    a, b = (stats.rankdata(values, axis=axis) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=axis, keepdims=True) for ranks in (a, b))
    scale = np.sqrt((a**2).sum(axis=axis) * (b**2).sum(axis=axis))
    return np.where(scale > 0, (a * b).sum(axis=axis) / np.where(scale > 0, scale, 1), 0.0)


def interval(x: Sequence[float], y: Sequence[float], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95% bootstrap interval of the rank correlation over spaces, by percentiles."""
    found = stats.bootstrap(
        (np.asarray(x, float), np.asarray(y, float)), rank_correlation, paired=True, vectorized=True,
        n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def place_among(reference: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which share of a reference lies below each value, what is equal counted half, and straight lines in between.

    Beyond the ends it goes on, by 1 for the span of the reference, so that it rises wherever the values do.
    """
    known, counts = np.unique(reference, return_counts=True)
    places = (np.cumsum(counts) - counts / 2) / len(reference)
    if len(known) == 1:
        return 0.5 + np.sign(values - known[0]) / 2
    beyond = np.minimum(values - known[0], 0) + np.maximum(values - known[-1], 0)
    return np.interp(values, known, places) + beyond / (known[-1] - known[0])


@dataclass(frozen=True)
class Fit:
    """Places of one or two candidates, and the weights by which they give the place of the gap."""

    weights: tuple[float, ...]  #: A constant, and one for each candidate
    reference: tuple[np.ndarray, ...]  #: Of each candidate the values of the spaces that it was fitted on

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The expected place of the gap of spaces ``(n, candidates)``, 0 the smallest and 1 the largest, or beyond."""
        columns = [place_among(known, values) for known, values in zip(self.reference, x.T, strict=True)]
        return self.weights[0] + sum(w * column for w, column in zip(self.weights[1:], columns, strict=True))


def fit_places(x: np.ndarray, y: np.ndarray) -> Fit:
    """Least squares of the gap's place among the spaces, gaps ``(n,)``, on those of candidates ``(n, candidates)``."""
    columns = [place_among(values, values) for values in x.T]
    weights, *_ = np.linalg.lstsq(np.column_stack([np.ones(len(y)), *columns]), place_among(y, y), rcond=None)
    return Fit(tuple(weights.tolist()), tuple(x.T))


@dataclass(frozen=True)
class HeldOut:
    """What is said of each family by a fit on all others."""

    families: Mapping[str, float]  #: Rank correlation within each family that is large enough
    mean: float  #: Over the families, by the number of their spaces; NaN without one
    pooled: float  #: Of the expected places of all spaces, each by the fit on the other families, with the gap
    residuals: tuple[float, ...]  #: Place of the gap minus the expected one, of every space
    chosen: Mapping[str, tuple[str, ...]]  #: Candidates that were used for each family


def hold_out(spaces: pd.DataFrame, gap: str, choices: Sequence[tuple[str, ...]]) -> HeldOut:
    """Families held out in turn. Of several choices of candidates, the best fit on the others is taken for each."""
    values = {name: spaces[name].to_numpy(float) for name in {name for names in choices for name in names}}
    x = [np.column_stack([values[name] for name in names]) for names in choices]
    return _hold_out(x, spaces[gap].to_numpy(float), spaces.family.to_numpy(), choices)


def _hold_out(
    x: Sequence[np.ndarray], y: np.ndarray, family: np.ndarray, choices: Sequence[tuple[str, ...]]
) -> HeldOut:  # fmt: skip
    families, counts, chosen, places = {}, [], {}, place_among(y, y)
    expected = np.full(len(y), math.nan)
    for name in dict.fromkeys(family):
        inside = family == name
        if (~inside).sum() < 3:
            continue
        fits = [fit_places(of_choice[~inside], y[~inside]) for of_choice in x]
        best = 0
        if len(fits) > 1:
            predicted = [fit.predict(of_choice[~inside]) for fit, of_choice in zip(fits, x, strict=True)]
            best = int(rank_correlation(np.stack(predicted), np.tile(y[~inside], (len(x), 1))).argmax())
        expected[inside] = np.round(fits[best].predict(x[best][inside]), 12)
        chosen[name] = choices[best]
        if inside.sum() >= LEAST_FAMILY:
            families[name] = float(rank_correlation(expected[inside], y[inside]))
            counts.append(int(inside.sum()))
    mean = np.average(list(families.values()), weights=counts) if families else math.nan
    told = ~np.isnan(expected)
    pooled = float(rank_correlation(expected[told], y[told])) if told.any() else math.nan
    return HeldOut(families, float(mean), pooled, tuple((places - expected)[told].tolist()), chosen)


@dataclass(frozen=True)
class Judged:
    """One candidate, or a combination, against the gap at one length."""

    names: tuple[str, ...]  #: Of a combination that is chosen anew in each fold, those chosen on all spaces
    spaces: int
    rho: float  #: Spearman's, with the gap; of a combination that of its fit, which is too good
    low: float  #: 95%, bootstrap over spaces
    high: float
    held_out: HeldOut
    held_low: float  #: 95% of the mean over families, bootstrap over spaces within each
    held_high: float

    @property
    def title(self) -> str:
        return " + ".join(CANDIDATES[name].title for name in self.names)


def judge(spaces: pd.DataFrame, gap: str, names: Sequence[str], resamples: int = 2000, seed: int = 0) -> Judged | None:
    """One candidate, or two together, over the spaces that have it; ``None`` where those are too few."""
    spaces = spaces.dropna(subset=[gap, *names])
    if len(spaces) < LEAST_SPACES:
        return None
    x, y = spaces[list(names)].to_numpy(float), spaces[gap].to_numpy(float)
    x = x[:, 0] if len(names) == 1 else fit_places(x, y).predict(x)
    return _judged(spaces, gap, tuple(names), [tuple(names)], x, resamples, seed)


def judge_all(
    spaces: pd.DataFrame, gap: str, names: Iterable[str] | None = None, resamples: int = 2000, seed: int = 0
) -> list[Judged]:
    """Every candidate that the spaces have, the best on held-out families first."""
    names = [name for name in names or CANDIDATES if name in spaces.columns]
    found = [judge(spaces, gap, (name,), resamples, seed) for name in names]
    return sorted(filter(None, found), key=lambda j: -np.nan_to_num(j.held_out.mean, nan=-2))


def judge_pair(
    spaces: pd.DataFrame, gap: str, names: Iterable[str] | None = None, resamples: int = 200, seed: int = 0
) -> Judged | None:
    """The best two candidates together, chosen anew without each family that is held out, as it has to be.

    Only candidates that all spaces have are looked at. ``None`` where there are too few spaces or candidates.
    """
    spaces = spaces.dropna(subset=[gap])
    names = [name for name in names or CANDIDATES if name in spaces.columns and spaces[name].notna().all()]
    pairs = list(combinations(names, 2))
    if len(spaces) < LEAST_SPACES or not pairs:
        return None
    y = spaces[gap].to_numpy(float)
    x = [spaces[list(pair)].to_numpy(float) for pair in pairs]
    predicted = [fit_places(of_pair, y).predict(of_pair) for of_pair in x]
    best = int(np.argmax([rank_correlation(of_pair, y) for of_pair in predicted]))
    return _judged(spaces, gap, pairs[best], pairs, predicted[best], resamples, seed)


def _judged(
    spaces: pd.DataFrame, gap: str, names: tuple[str, ...], choices: Sequence[tuple[str, ...]], x: np.ndarray,
    resamples: int, seed: int,
) -> Judged:  # fmt: skip
    y = spaces[gap].to_numpy(float)
    low, high = interval(x, y, resamples, seed)
    held = hold_out(spaces, gap, choices)
    rng, means = np.random.default_rng(seed), []
    family, own = spaces.family.to_numpy(), spaces[list(names)].to_numpy(float)
    groups = [np.flatnonzero(family == name) for name in dict.fromkeys(family)]
    # The choice among many pairs is not made again: that would take minutes. The interval is of the chosen ones.
    for _ in range(min(resamples, RESAMPLES_HELD_OUT)):
        drawn = np.concatenate([rng.choice(group, len(group)) for group in groups])
        means.append(_hold_out([own[drawn]], y[drawn], family[drawn], [names]).mean)
    held_low, held_high = (math.nan, math.nan)
    if held.families:
        held_low, held_high = (float(edge) for edge in np.nanquantile(means, (0.025, 0.975)))
    rho = float(rank_correlation(x, y))
    return Judged(names, len(spaces), rho, low, high, held, held_low, held_high)


# ---------------------------------------------------------------------------------------------------------------------
# One table and one figure


def table(judged: Mapping[int, Sequence[Judged]]) -> results.Table:
    """Candidates in the order of the longest training: rank correlations with the gap at each length.

    ``ρ`` is over all spaces, ``held out`` within families by fits on the others, ``expected`` over all spaces by these.
    """
    order = {j.names: j.title for steps in sorted(judged, reverse=True) for j in judged[steps]}
    rows = {title: {"looks at": _looks_at(names)} for names, title in order.items()}
    for steps, of_length in sorted(judged.items()):
        for j in of_length:
            rows[j.title] |= {
                f"{results.count(steps)} steps, ρ": f"{_signed(j.rho)}\n[{_signed(j.low)}, {_signed(j.high)}]",
                f"{results.count(steps)} steps, held out": f"{_signed(j.held_out.mean)}\n"
                f"[{_signed(j.held_low)}, {_signed(j.held_high)}]",
                f"{results.count(steps)} steps, expected": _signed(j.held_out.pooled),
            }
    return results.Table(rows).T.fillna("").rename_axis("candidate")


def _looks_at(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(CANDIDATES[name].looks_at for name in names))


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.2f}".replace("-", "−")


def draw(judged: Sequence[Judged], steps: int) -> go.Figure:
    """Of each candidate the size of rho over all spaces with its interval, beside rho in held-out families."""
    fig = go.Figure()
    titles = [j.title for j in judged]
    low, high = zip(*[sorted((j.low * _sign(j), j.high * _sign(j))) for j in judged], strict=True)
    size = [abs(j.rho) for j in judged]
    fig.add_scatter(
        x=size, y=titles, mode="markers", name="all spaces, |ρ|", marker={"color": figures.BLUE, "size": 9},
        error_x={"array": [b - m for b, m in zip(high, size, strict=True)], "thickness": 1.5, "width": 3,
                 "arrayminus": [m - a for a, m in zip(low, size, strict=True)]},
    )  # fmt: skip
    fig.add_scatter(
        x=[j.held_out.mean for j in judged], y=titles, mode="markers", name="families held out, ρ",
        marker={"color": figures.ORANGE, "symbol": "diamond-open", "size": 10},
    )  # fmt: skip
    fig.add_vline(x=0, line_width=1, line_color=figures.GREY)
    fig.add_vline(x=0.8, line_width=1, line_dash="dot", line_color=figures.GREY)
    fig.update_xaxes(title="rank correlation with the gap", range=[-1.02, 1.02])
    fig.update_yaxes(categoryorder="array", categoryarray=titles[::-1], automargin=True)
    fig.update_layout(height=170 + 26 * len(titles), showlegend=True)
    said = "; ".join(f"{j.title}: {abs(j.rho):.2f}, held out {j.held_out.mean:.2f}" for j in judged)
    alt = (
        f"Rank correlation of each candidate with the gap after {results.count(steps)} steps, over "
        f"{judged[0].spaces} spaces with a"
    )
    return figures.described(fig, f"{alt} 95% interval, and within families that were held out: {said}.")


def _sign(judged: Judged) -> int:
    return -1 if judged.rho < 0 else 1


# ---------------------------------------------------------------------------------------------------------------------
# What a report reads


@dataclass(frozen=True)
class Calibration:
    """A score and what it was measured on, as plain values.

    Attributes:
        steps: Length of the trainings behind it.
        candidates: One or two names.
        weights: Of :class:`Fit`.
        reference: Values of each candidate in the spaces, ascending.
        spaces: Place of each space's gap, by arm, 0 the smallest and 1 the largest.
        residuals: 5% and 95% quantiles of place minus expected place, of spaces whose family was held out.
        rho: Over all spaces, with its interval.
        held_out: Within held-out families, with its interval.
        published: ``rho`` and ``held_out`` of the published profile's share.
        families: That the spaces are of.
        denoiser: Which denoiser was trained.
        latent_side: Height and width of the latents that were measured.
        items: How many of them.
        block_size: Of the candidates.
    """

    steps: int
    candidates: tuple[str, ...]
    weights: tuple[float, ...]
    reference: Mapping[str, tuple[float, ...]]
    spaces: Mapping[str, float]
    residuals: tuple[float, float]
    rho: tuple[float, float, float]
    held_out: tuple[float, float, float]
    published: tuple[float, float]
    families: tuple[str, ...]
    denoiser: str = "DiT-XXS/2"
    latent_side: int = 8
    items: int = 2048
    block_size: int = 8

    def place(self, values: Mapping[str, float]) -> tuple[float, float, float]:
        """Where a space with these candidates is expected among the measured ones, and a 90% interval; 0 is easiest."""
        known = tuple(np.asarray(self.reference[name]) for name in self.candidates)
        own = np.array([[values[name] for name in self.candidates]], float)
        expected = float(Fit(self.weights, known).predict(own)[0])
        expected, low, high = (min(1.0, max(0.0, expected + off)) for off in (0.0, *self.residuals))
        return expected, low, high


def calibrate(spaces: pd.DataFrame, steps: int, names: Sequence[str], **about: Any) -> Calibration:
    """The score of one or two candidates at a length, fitted on all spaces that have them.

    Raises:
        CalibrationError: Too few spaces, a candidate that needs a trained denoiser, or no family to hold out.
    """
    if not 1 <= len(names) <= 2:
        raise CalibrationError(f"a score is made of one candidate or two, got {len(names)}")
    if trained := [name for name in names if name in CANDIDATES and CANDIDATES[name].looks_at == "network"]:
        raise CalibrationError(f"{trained[0]} needs a denoiser, which a report does not train")
    if unknown := [name for name in names if name not in CANDIDATES or name not in spaces.columns]:
        raise CalibrationError(f"no space has the candidate {unknown[0]!r}")
    gap = gap_column(steps)
    found, published = judge(spaces, gap, tuple(names)), judge(spaces, gap, (PUBLISHED,))
    if found is None or published is None or not found.held_out.families:
        raise CalibrationError(f"too few spaces or families have {', '.join(names)} and a gap at {steps} steps")
    used = spaces.dropna(subset=[gap, *names])
    y = used[gap].to_numpy(float)
    fit, places = fit_places(used[list(names)].to_numpy(float), y), place_among(y, y)
    reference = {name: tuple(sorted(used[name].tolist())) for name in names}
    low, high = np.quantile(found.held_out.residuals, (0.05, 0.95))
    return Calibration(
        steps, tuple(names), fit.weights, reference, dict(zip(used.index, places.tolist(), strict=True)),
        (float(low), float(high)), (found.rho, found.low, found.high),
        (found.held_out.mean, found.held_low, found.held_high), (published.rho, published.held_out.mean),
        tuple(dict.fromkeys(used.family)), **about,
    )  # fmt: skip


def write_calibration(calibration: Calibration, path: str | Path | None = None) -> Path:
    """The file that reports read."""
    return write_json(path or CALIBRATION, asdict(calibration) | {"format": 1})


def read_calibration(path: str | Path | None = None) -> Calibration | None:
    """The calibration of a file, ``None`` where there is none; a :class:`CalibrationError` for anything else."""
    path = Path(path or CALIBRATION)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != 1:
            raise ValueError("another format")
        lists = ("candidates", "weights", "residuals", "rho", "held_out", "published", "families")
        content |= {name: tuple(content[name]) for name in lists}
        content["reference"] = {name: tuple(values) for name, values in content["reference"].items()}
        made = Calibration(**content)
        if unknown := [name for name in made.candidates if name not in CANDIDATES]:
            raise ValueError(f"unknown candidate {unknown[0]!r}")
        if len(made.weights) != len(made.candidates) + 1 or made.reference.keys() != set(made.candidates):
            raise ValueError(f"{len(made.weights)} weights for {len(made.candidates)} candidates")
        if not all(map(math.isfinite, (*made.weights, *made.residuals))):
            raise ValueError("a weight that is no number")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CalibrationError(f"{path} cannot be read as a calibration ({first_line(error)})") from error
    return made
