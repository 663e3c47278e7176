r"""Run records as one pandas frame, and what chapters show of it: tables, paired differences, intervals.

A frame has one row per run: ``arm``, ``seed``, ``experiment``, ``identity``, ``size``, ``device``, ``wall_time_s``,
every setting and every metric under its own name, and ``record`` (the run record, which holds the series). Where a
setting and a metric share a name, the metric stands there.

Arms are compared by pairs of runs with the same seed: of the differences the mean and its 95% interval by Student's t.
What a claim makes of such an interval, given what it expects and a margin named beforehand, is a :class:`Verdict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from html import escape
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, stats

from diffusab_book.places import HOME
from diffusab_core.experiments.records import RunRecord, by_arm
from diffusab_core.spectrum.bands import compare_energies

#: The book's recorded runs, one folder for each experiment.
RESULTS = HOME / "book" / "results"

#: Columns of :func:`table` for fine-tuning runs.
FINETUNING = {
    "after_hf_energy_ratio": ("HF energy ratio, 10⁻³", ".2f", 1000),
    "after_hf_share": ("HF share, %", ".1f", 100),
    "after_spectrum_distance_to_rgb": ("distance to RGB, decades", ".3f"),
    "after_psnr_db": ("PSNR, dB", ".2f"),
    "after_ssim": ("SSIM", ".4f"),
}
#: What tables call distances whose head has to say which one it is.
DISTANCES = {"best_gap_offline": "gap", "best_frechet_offline": "distance to photographs"}
#: Columns of :func:`table` for denoisers.
DENOISING = {
    "frechet_offline": ("Fréchet distance", ".2f"),
    "decoded_latents_frechet": ("of decoded latents", ".2f"),
    "decoded_noise_frechet": ("of decoded noise", ".0f"),
    "precision": ("precision", ".3f"),
    "recall": ("recall", ".3f"),
}


def frame(source: str | Path | Mapping[str, RunRecord | Sequence[RunRecord]]) -> pd.DataFrame:
    """One row per run.

    Args:
        source: The name of a folder below :data:`RESULTS`, any folder with records named ``ARM-seedK.json``, or runs
            made here: for each arm its record, or several.

    Raises:
        FileNotFoundError: There is no record.
        RecordError: A record is broken, or its file's name does not end with its seed.
    """
    if isinstance(source, Mapping):
        arms = {arm: [runs] if isinstance(runs, RunRecord) else list(runs) for arm, runs in source.items()}
    else:
        folder = RESULTS / source
        arms = by_arm(folder)
        if not arms:
            raise FileNotFoundError(f"no run record in {folder}")
    fixed = ("seed", "experiment", "identity", "size", "device", "wall_time_s")
    return pd.DataFrame(
        run.parameters | run.metrics | {name: getattr(run, name) for name in fixed} | {"arm": arm, "record": run}
        for arm, runs in arms.items()
        for run in runs
    )


def rename(runs: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """These arms in this order, under these labels.

    Raises:
        ValueError: The frame lacks an arm.
    """
    _need_arms(runs, labels)
    chosen = [runs[runs.arm == arm].assign(arm=label) for arm, label in labels.items()]
    return pd.concat(chosen, ignore_index=True)


def means(runs: pd.DataFrame, metric: str) -> pd.Series:
    """Mean over seeds of a metric, by arm, in the frame's order."""
    return runs.groupby("arm", sort=False)[metric].mean()


@dataclass(frozen=True)
class Paired:
    """Differences of two arms, seed by seed: their mean and its 95% interval (Student's t; NaN for a single seed).

    As text ``+0.57 [+0.35, +0.79]``; with a format, such as ``f"{paired:.0%}"``, in that.
    """

    values: tuple[float, ...]
    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """+1 or −1 when the whole interval lies on that side of zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies within ± ``margin``: the arms are equivalent to that margin."""
        return -margin < self.low and self.high < margin

    def __str__(self) -> str:
        return format(self, ".2f")

    def __format__(self, spec: str) -> str:
        mean, low, high = (f"{value:+z{spec or '.2f'}}".replace("-", "−") for value in (self.mean, self.low, self.high))
        return mean if len(self.values) == 1 else f"{mean} [{low}, {high}]"


def summarize(differences: Iterable[float]) -> Paired:
    """Mean and 95% interval of differences that were taken elsewhere, one for each seed; none is a ``ValueError``."""
    found = tuple(float(value) for value in differences)
    if not found:
        raise ValueError("there is no difference to summarize")
    if len(found) == 1:
        low, high = np.nan, np.nan
    elif len(set(found)) == 1:  # t would be 0 / 0
        low, high = found[0], found[0]
    else:
        low, high = stats.ttest_1samp(found, 0).confidence_interval(0.95)
    return Paired(found, float(np.mean(found)), float(low), float(high))


def paired(
    runs: pd.DataFrame, metric: str, arm: str, control: str, relative: bool = False, nested: str | None = None
) -> Paired:
    """The metric of ``arm`` minus that of ``control``, run by run of the same seed.

    Args:
        runs: The frame, with a column ``metric`` and the two arms in its column ``arm``.
        relative: Differences over the size of the control's mean, so that their sign is that of the absolute ones.
        nested: Column with the seed of what several runs have in common, such as ``"autoencoder_seed"`` where several
            denoisers were trained on each autoencoder. Differences are averaged within one of these, and the interval
            is over them: runs on one autoencoder say nothing of another.

    Raises:
        ValueError: The frame lacks an arm, or the two have other seeds, or one of them a seed twice.
    """
    keys = ["seed"] if nested is None else [nested, "seed"]
    ours, theirs = (_by(runs, metric, one, keys) for one in (arm, control))
    if list(ours.index) != list(theirs.index):
        raise ValueError(f"{arm!r} has seeds {list(ours.index)}, {control!r} has {list(theirs.index)}: nothing to pair")
    found = (ours - theirs) / unit_of(theirs, relative)
    return summarize(found if nested is None else found.groupby(level=nested).mean())


def unit_of(control: pd.Series, relative: bool) -> float:
    """What differences to a control are counted in: the size of its mean, which keeps their sign, or one."""
    return abs(control.mean()) if relative else 1.0


class Verdict(StrEnum):
    """What the records say of a claim, see :func:`judge`."""

    REPRODUCED = "reproduced"
    REVERSED = "reversed"
    NO_EFFECT = "no effect"
    UNDECIDED = "undecided"


def judge(found: Paired, expected: int, margin: float) -> Verdict:
    """Whether a difference is as expected, given its 95% interval.

    *No effect*: the whole interval lies within ± ``margin``, however far from zero it may be there. Else *reproduced*
    or *reversed*: the whole interval lies on one side of zero. Else *undecided*, as is a single pair. Where no effect
    is what is expected, within the margin is *reproduced*, beyond it *reversed*, and across it *undecided*.

    Args:
        found: Differences in the unit of the margin, such as relative ones.
        expected: +1 or −1, the sign of the difference; 0, that there is none.
        margin: Smallest difference that would matter, above 0.
    """
    if expected not in (-1, 0, 1):
        raise ValueError(f"expected is the sign of a difference, +1, 0 or -1, got {expected!r}")
    if not margin > 0:
        raise ValueError(f"a margin is a positive number, got {margin!r}")
    if found.within(margin):
        return Verdict.NO_EFFECT if expected else Verdict.REPRODUCED
    if not expected:
        return Verdict.REVERSED if found.low >= margin or found.high <= -margin else Verdict.UNDECIDED
    return {expected: Verdict.REPRODUCED, -expected: Verdict.REVERSED}.get(found.sign, Verdict.UNDECIDED)


def judge_bound(found: Paired, bound: int, margin: float) -> Verdict:
    """Whether a difference stays on one side of a margin, given its 95% interval: that something is no worse.

    *Reproduced*: the whole interval lies below ``margin`` (above ``-margin``), on either side of zero. *Reversed*: it
    lies beyond. Else *undecided*, as is a single pair.

    Args:
        bound: +1, that the difference is not higher than the margin; −1, that it is not lower than minus the margin.
    """
    if bound not in (-1, 1):
        raise ValueError(f"bound is the side that is excluded, +1 or -1, got {bound!r}")
    if not margin > 0:
        raise ValueError(f"a margin is a positive number, got {margin!r}")
    low, high = (found.low, found.high) if bound > 0 else (-found.high, -found.low)
    if high < margin:
        return Verdict.REPRODUCED
    return Verdict.REVERSED if low >= margin else Verdict.UNDECIDED


def smallest_effect(found: Paired, power: float = 0.8) -> float:
    r"""The smallest true difference that as many pairs, as scattered as these, would show in this share of tries.

    Shown means: the 95% interval leaves out zero. With n pairs and sample standard deviation s it is the
    :math:`\delta` at which :math:`P(|T| > t_{0.975}) = ` ``power``, T noncentral with
    :math:`\delta \sqrt n / s` and n − 1 degrees of freedom. NaN for a single pair.
    """
    n = len(found.values)
    if n < 2:
        return np.nan
    critical = stats.t.ppf(0.975, n - 1)

    def missing(noncentrality: float) -> float:
        t = partial(stats.nct.sf, df=n - 1, nc=noncentrality)
        return t(critical) + 1 - t(-critical) - power

    return optimize.brentq(missing, 0, 4 * critical + 10) * stdev(found.values) / n**0.5


def choose_places(runs: pd.DataFrame, name: str, place: str = "shift") -> pd.DataFrame:
    """Read a series where the *other* seeds of the arm have their lowest mean: chosen on some seeds, judged on another.

    The lowest value of a run's own series is too good, as its noise takes part in the choice.

    Args:
        runs: The frame; records hold the series ``place``, such as sampling shifts, and ``name``, lower being better.

    Returns:
        The frame with two more columns, ``chosen_{place}`` and ``chosen_{name}``; NaN for an arm of one seed.

    Raises:
        ValueError: An arm's runs have other places than one another, or a seed twice.
    """
    columns = {f"chosen_{place}": {}, f"chosen_{name}": {}}
    for arm in dict.fromkeys(runs.arm):
        seeds = list(by_seed(runs, "record", arm).index)
        curves = by_place(runs, place, name, arm, "")
        places, values = [float(where) for where in curves], np.array(list(curves.values())).T  # (seeds, places)
        for i, seed in enumerate(seeds):
            others = np.delete(values, i, 0)
            best = int(others.mean(0).argmin()) if len(others) else None
            of_run = (np.nan, np.nan) if best is None else (places[best], values[i, best])
            for column, value in zip(columns, of_run, strict=True):
                columns[column][arm, seed] = value
    keys = list(zip(runs.arm, runs.seed, strict=True))
    return runs.assign(**{column: [of_run[key] for key in keys] for column, of_run in columns.items()})


def by_seed(runs: pd.DataFrame, column: str, arm: str) -> pd.Series:
    """A column of one arm, indexed by seed in ascending order.

    Raises:
        ValueError: No such arm, a seed that stands there twice, or a run without the value.
    """
    return _by(runs, column, arm, ["seed"])


def _by(runs: pd.DataFrame, column: str, arm: str, keys: Sequence[str]) -> pd.Series:
    _need_arms(runs, [arm])
    found = runs[runs.arm == arm].set_index(list(keys))[column].sort_index()
    if not found.index.is_unique or found.isna().any():
        raise ValueError(f"{column!r} of {arm!r} wants one value for each {' and '.join(keys)}, got {found.to_dict()}")
    return found


@dataclass(frozen=True)
class Optimum:
    """Where a metric is smallest along a dose, by seed: the mean and its 95% interval (Student's t)."""

    values: tuple[float, ...]
    mean: float
    low: float  #: NaN for a single seed, as ``high``
    high: float
    at_edge: bool  #: Whether some seed's best dose is the first or the last, so that its optimum may lie beyond


def optimum(runs: pd.DataFrame, metric: str, dose: str) -> Optimum:
    """The dose with the smallest metric, of each seed on its own.

    Through the logarithm of the metric at the best dose and its two neighbours goes one parabola, whose lowest point is
    the seed's optimum; where the best dose has one neighbour only, it is the optimum itself.

    Args:
        runs: One length of training, one run for each dose and seed.
        metric: A positive number.
        dose: A column, such as ``power``.

    Raises:
        ValueError: Fewer than three doses, a dose that a seed lacks or has twice, or a metric that is not positive.
    """
    grid = runs.groupby([dose, "seed"])[metric].agg(["size", "first"])
    values = grid["first"].unstack("seed")
    if len(values) < 3 or values.isna().any(axis=None) or (grid["size"] > 1).any() or not (values > 0).all(axis=None):
        raise ValueError(f"{metric!r} wants one positive value for each of three doses and each seed, got {values}")
    places, found, edge = values.index.to_numpy(float), [], False
    for _, column in values.items():
        best = int(np.argmin(column))
        if best in (0, len(places) - 1):
            found.append(places[best])
            edge = True
            continue
        near = slice(best - 1, best + 2)
        a, b, _ = np.polyfit(places[near], np.log(column.to_numpy(float)[near]), 2)
        found.append(-b / (2 * a) if a > 0 else places[best])
    low, high = (np.nan, np.nan) if len(found) == 1 else stats.t.interval(
        0.95, len(found) - 1, np.mean(found), max(stats.sem(found), 1e-12)
    )  # fmt: skip
    return Optimum(tuple(map(float, found)), float(np.mean(found)), float(low), float(high), edge)


def values(runs: pd.DataFrame, metric: str, arm: str) -> np.ndarray:
    """A metric of one arm by seed, as :func:`by_seed`."""
    return by_seed(runs, metric, arm).to_numpy(float)


def mean_series(runs: pd.DataFrame, name: str, arm: str) -> list[float]:
    """Mean over an arm's runs of a series, such as ``after_profile``, entry by entry.

    Raises:
        ValueError: The frame lacks the arm, or the runs' series differ in length.
    """
    series = [run.series[name] for run in by_seed(runs, "record", arm)]
    if len({len(entries) for entries in series}) != 1:
        raise ValueError(f"series {name!r} has {sorted({len(entries) for entries in series})} entries in these runs")
    return np.mean(series, axis=0).tolist()


def tail(runs: pd.DataFrame, name: str, last: int, arm: str) -> np.ndarray:
    """Mean of the last entries of a series, such as the loss at the end of a training, by seed.

    Raises:
        ValueError: The frame lacks the arm, or ``last`` is not positive or longer than a series.
    """
    records = by_seed(runs, "record", arm)
    for run in records:
        if not 1 <= last <= len(run.series[name]):
            raise ValueError(f"series {name!r} of run {run.identity} has {len(run.series[name])} entries, not {last}")
    return np.array([np.mean(run.series[name][-last:]) for run in records])


def between(runs: pd.DataFrame, name: str, after: float, until: float, place: str = "step") -> list[float]:
    """Of every run the mean of a series over the places ``after < place <= until``, such as the steps of a phase.

    Raises:
        ValueError: A run has no entry there, or a series has another length than its places.
    """
    found = []
    for run in runs.record:
        pairs = zip(run.series[place], run.series[name], strict=True)
        inside = [value for where, value in pairs if after < where <= until]
        if not inside:
            raise ValueError(
                f"series {name!r} of run {run.identity} has no entry with {after:g} < {place} <= {until:g}"
            )
        found.append(fmean(inside))
    return found


def compare_spectra(runs: pd.DataFrame, bands: Mapping[str, slice]) -> pd.DataFrame:
    """Energies of generated over real latents, see :func:`~diffusab_core.spectrum.bands.compare_energies`.

    Args:
        runs: The frame; records hold ``generated_energy`` and ``real_energy``, by zigzag rank.
        bands: Ranks of each, from 1 on.

    Returns:
        The frame with the columns ``Q``, energy outside the flat coefficient, ``q``, the list of shares from rank 1 on,
        and for each band the mean of its shares.
    """
    compared = [compare_energies(run.series["generated_energy"], run.series["real_energy"]) for run in runs.record]
    columns = {"Q": [outside for outside, _ in compared], "q": [shares for _, shares in compared]}
    for band, ranks in bands.items():
        columns[band] = [fmean(shares[ranks.start - 1 : ranks.stop - 1]) for _, shares in compared]
    return runs.assign(**columns)


def in_bands(runs: pd.DataFrame, name: str, bands: Mapping[str, slice]) -> pd.DataFrame:
    """The frame with a column for each band: the mean of a series, by rank from 0 on, over the band's ranks."""
    series = [run.series[name] for run in runs.record]
    return runs.assign(**{band: [fmean(values[ranks]) for values in series] for band, ranks in bands.items()})


def by_place(runs: pd.DataFrame, place: str, name: str, arm: str, form: str = "g") -> dict[str, list[float]]:
    """A series by the places at which it was taken: for each, one value per seed, as ``figures.over_seeds`` draws it.

    Args:
        runs: The frame, which holds the arm.
        place: Series of the places, such as ``snapshot_step`` or ``shift``; the same in all runs.
        name: Series of the values.
        form: How a place is written.

    Raises:
        ValueError: The frame lacks the arm, the runs' places differ, or a series has another length than its places.
    """
    records = list(by_seed(runs, "record", arm))
    places = records[0].series[place]
    for run in records:
        if run.series[place] != places or len(run.series[name]) != len(places):
            raise ValueError(f"run {run.identity} has {name!r} at other places {place!r} than {records[0].identity}")
    return {f"{where:{form}}": [run.series[name][i] for run in records] for i, where in enumerate(places)}


def table(
    runs: pd.DataFrame, columns: Mapping[str, tuple], control: str | None = None, before: str | None = None
) -> Table:
    """One row per arm: the number of runs, and each metric as mean ± sample standard deviation over seeds.

    Args:
        runs: The frame.
        columns: For each metric ``(title, form)`` or ``(title, form, times)``, such as ``("PSNR, dB", ".2f")``.
        control: An arm; under each number of another arm then stands its paired difference to it, with the 95%
            interval.
        before: Prefix of the metrics of the model before training, such as ``"before_"``: a first row ``untouched``
            holds them, of the first run, for columns whose keys begin with ``after_``.

    Raises:
        ValueError: The frame lacks the control.
        KeyError: It lacks a metric.
    """
    if control is not None:
        _need_arms(runs, [control])
    arms = dict(list(runs.groupby("arm", sort=False)))
    rows = {} if before is None else {"untouched": {"runs": ""}}
    rows |= {arm: {"runs": str(len(of_arm))} for arm, of_arm in arms.items()}
    for key, (title, form, *factor) in columns.items():
        times = factor[0] if factor else 1
        if before is not None:
            rows["untouched"][title] = f"{times * runs.iloc[0][before + key.removeprefix('after_')]:{form}}"
        for arm, of_arm in arms.items():
            rows[arm][title] = _plus_minus((times * of_arm[key]).tolist(), form)
            if control not in (None, arm):
                scaled = runs.assign(**{key: times * runs[key]})
                rows[arm][title] += f"\n{paired(scaled, key, arm, control):{form}}"
    return Table(rows).T.rename_axis(None)


def spell(value: Any) -> str:
    """A setting as the name of an arm: words as they are, numbers in their shortest form."""
    return value if isinstance(value, str) else f"{value:g}"


def count(number: int) -> str:
    """A whole number as the book's prose writes it, ``9 600``, with a space that does not break."""
    return f"{number:_}".replace("_", "\N{NO-BREAK SPACE}")


def _head(setting: str, value: Any) -> str:
    """A setting's value as the head of a column; words as they are."""
    if isinstance(value, str):
        return value
    number = count(value) if isinstance(value, int) else spell(value).replace("-", "\N{MINUS SIGN}")
    return f"{number} steps" if setting == "steps" else number


def cross(runs: pd.DataFrame, metric: str, rows: str, columns: str, control: Any, form: str = ".2f") -> Table:
    """A metric by two settings, such as dose and length of training: mean ± sample standard deviation over seeds.

    The head of the first column names metric and rows. Under each number stands the difference to the control of its
    column, paired by seed and relative, with its 95% interval; of a single seed without one. A cell without a run is
    empty.

    Args:
        runs: The frame, in each cell with a seed at most once, and in each column with the control's seeds.
        metric: Its column.
        rows: The column whose values are the rows: numbers in ascending order, words after the control as they come.
        columns: The same of the columns.
        control: The value of ``rows`` to compare with.

    Raises:
        ValueError: A column without the control, or what :func:`paired` refuses.
    """
    words = isinstance(control, str)
    order = dict.fromkeys([control, *runs[rows]]) if words else sorted(set(runs[rows]))
    found: dict[Any, dict[str, str]] = {row: {} for row in order}
    for column, of_column in runs.groupby(columns):
        named = of_column.assign(arm=[str(value) for value in of_column[rows]])
        for row, of_cell in named.groupby(rows):
            cell = _plus_minus(of_cell[metric].tolist(), form)
            if row != control:
                cell += f"\n{paired(named, metric, str(row), str(control), relative=True):.0%}"
            found[row][_head(columns, column)] = cell
    head = f"{DISTANCES.get(metric, metric)} by {rows}".replace("_", " ")
    return Table(found).T.fillna("").rename(index=spell).rename_axis(head)


def compare(
    runs: pd.DataFrame, metric: str, control: str, margin: float, better: str = "lower", nested: str | None = None
) -> Table:
    """Every other arm against the control, in shares of its mean: difference, 95% interval, and what follows.

    An arm is *better* or *worse* where the whole interval lies on that side of zero and not within the margin, and has
    *no effect* where it lies within. Else it is *undecided*, and beside it stands from which effect on these seeds
    would have shown one, see :func:`smallest_effect`.

    Args:
        runs: The frame, with the same seeds in all arms.
        metric: Its column.
        control: An arm.
        margin: Smallest share that would matter, named before the runs were made.
        better: ``"lower"`` or ``"higher"``.
        nested: As in :func:`paired`.

    Raises:
        ValueError: What :func:`paired` and :func:`judge` refuse, and another word for ``better``.
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better is lower or higher, got {better!r}")
    sign = 1 if better == "higher" else -1
    words = {Verdict.REPRODUCED: "better", Verdict.REVERSED: "worse", Verdict.NO_EFFECT: f"no effect, ±{margin:.0%}"}
    _need_arms(runs, [control])
    rows = {}
    for arm in dict.fromkeys(runs.arm):
        rows[arm] = {"runs": str((runs.arm == arm).sum()), f"against {control}": "", "verdict": ""}
        if arm != control:
            found = paired(runs, metric, arm, control, relative=True, nested=nested)
            verdict, smallest = judge(found, sign, margin), smallest_effect(found)
            shown = "" if np.isnan(smallest) else f"\nwould show from {smallest:.0%} on"
            rows[arm] |= {f"against {control}": f"{found:.0%}", "verdict": words.get(verdict, f"undecided{shown}")}
    return Table(rows).T.rename_axis(None)


def show(rows: Mapping[str, Any], form: str | Mapping[str, str] = ".3g", index: str = "") -> Table:
    """What was measured in a chapter as a table.

    Args:
        rows: For each row its columns ``{name: value}``, or one value (then the only column is nameless).
        form: How numbers are written, or for each column how; text stays as it is, and so do whole numbers where the
            form has decimals and is not their column's own.
        index: Head of the first column.
    """

    def write(column: str, value: Any) -> str:
        spec = form if isinstance(form, str) else form.get(column, ".3g")
        as_it_is = isinstance(value, str) or (isinstance(value, int) and "." in spec and column not in form)
        return str(value) if as_it_is else format(value, spec)

    filled = {row: of_row if isinstance(of_row, Mapping) else {"": of_row} for row, of_row in rows.items()}
    cells = {row: {column: write(column, value) for column, value in of_row.items()} for row, of_row in filled.items()}
    return Table(cells).T.fillna("").rename_axis(index or None)


#: A longer table is folded: chapters show what it says as a figure first.
LONGEST_OPEN = 8


class Table(pd.DataFrame):
    """A frame of finished text. It shows itself as a plain HTML table; a second line of a cell is written smaller.

    One of more than :data:`LONGEST_OPEN` rows unfolds on demand.
    """

    @property
    def _constructor(self) -> type[Table]:
        return Table

    def __repr__(self) -> str:
        return self.to_string()

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(str(title))}</th>" for title in [self.index.name or "", *self.columns])
        body = ""
        for label, *cells in self.itertuples():
            body += f"<tr><th>{escape(str(label))}</th>"
            for cell in cells:
                first, _, second = escape(str(cell)).partition("\n")
                first = first.replace(" ± ", " ±&nbsp;")
                second = second.replace(" [", "<br>[")  # keeps columns narrow
                body += f"<td>{first}{f'<br><small>{second}</small>' if second else ''}</td>"
            body += "</tr>"
        table = (
            '<div class="book-table"><table class="table">'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )
        if len(self) <= LONGEST_OPEN:
            return table
        return f'<details class="book-folded"><summary>Table of {len(self)} rows</summary>{table}</details>'


def _need_arms(runs: pd.DataFrame, arms: Iterable[str]) -> None:
    there = list(dict.fromkeys(runs.arm))
    if missing := [arm for arm in arms if arm not in there]:
        raise ValueError(f"no arm {', '.join(map(repr, missing))}; there are {', '.join(there)}")


def _plus_minus(values: Sequence[float], form: str) -> str:
    """``mean ± sample standard deviation`` as text; of a single run its value alone."""
    return f"{fmean(values):{form}}" + (f" ± {stdev(values):{form}}" if len(values) > 1 else "")
