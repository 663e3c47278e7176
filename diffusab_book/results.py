r"""Run records as one pandas frame, and what chapters show of it: tables, paired differences, intervals.

A frame has one row per run: ``arm``, ``seed``, ``experiment``, ``identity``, ``size``, ``device``, ``wall_time_s``,
every setting and every metric under its own name, and ``record`` (the run record, which holds the series). Where a
setting and a metric share a name, the metric stands there.

Arms are compared by pairs of runs with the same seed: of the differences the mean and its 95% interval by Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from diffusab_core.experiments.records import RunRecord, by_arm

#: The repository's recorded runs, one folder for each experiment.
RESULTS = Path(__file__).resolve().parents[1] / "book" / "results"

#: Columns of :func:`table` for fine-tuning runs.
FINETUNING = {
    "after_hf_energy_ratio": ("HF energy ratio, 10⁻³", ".2f", 1000),
    "after_hf_share": ("HF share, %", ".1f", 100),
    "after_spectrum_distance_to_rgb": ("distance to RGB, decades", ".3f"),
    "after_psnr_db": ("PSNR, dB", ".2f"),
    "after_ssim": ("SSIM", ".4f"),
}
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
        {**run.parameters, **run.metrics, **{name: getattr(run, name) for name in fixed}, "arm": arm, "record": run}
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
        mean, low, high = (f"{value:+z{spec}}".replace("-", "−") for value in (self.mean, self.low, self.high))
        return mean if len(self.values) == 1 else f"{mean} [{low}, {high}]"


def paired(runs: pd.DataFrame, metric: str, arm: str, control: str, relative: bool = False) -> Paired:
    """The metric of ``arm`` minus that of ``control``, run by run of the same seed.

    Args:
        runs: The frame.
        metric: A column of it.
        arm: As in its column ``arm``.
        control: The arm that is subtracted.
        relative: Differences over the control's mean, so that their sign is that of the absolute ones.

    Raises:
        ValueError: The frame lacks an arm, or the two have other seeds, or one of them a seed twice.
    """
    ours, theirs = (by_seed(runs, metric, one) for one in (arm, control))
    if list(ours.index) != list(theirs.index):
        raise ValueError(f"{arm!r} has seeds {list(ours.index)}, {control!r} has {list(theirs.index)}: nothing to pair")
    found = (ours - theirs) / (theirs.mean() if relative else 1)
    low, high = (np.nan, np.nan) if len(found) == 1 else stats.ttest_1samp(found, 0).confidence_interval(0.95)
    return Paired(tuple(found), found.mean(), float(low), float(high))


def by_seed(runs: pd.DataFrame, column: str, arm: str) -> pd.Series:
    """A column of one arm, indexed by seed in ascending order.

    Raises:
        ValueError: No such arm, a seed that stands there twice, or a run without the value.
    """
    _need_arms(runs, [arm])
    found = runs[runs.arm == arm].set_index("seed")[column].sort_index()
    if not found.index.is_unique or found.isna().any():
        raise ValueError(f"{column!r} of {arm!r} wants one value for each seed, got {found.to_dict()}")
    return found


def mean_series(runs: pd.DataFrame, name: str, arm: str = "") -> list[float]:
    """Mean over an arm's runs of a series, such as ``after_profile``, entry by entry.

    Raises:
        ValueError: The frame lacks the arm, or the runs' series differ in length.
    """
    series = [run.series[name] for run in (by_seed(runs, "record", arm) if isinstance(runs, pd.DataFrame) else runs)]
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


def by_place(runs: pd.DataFrame, place: str, name: str, arm: str, form: str = "g") -> dict[str, list[float]]:
    """A series by the places at which it was taken: for each, one value per seed, as ``figures.over_seeds`` draws it.

    Args:
        runs: The frame.
        place: Series of the places, such as ``snapshot_step`` or ``shift``; the same in all runs.
        name: Series of the values.
        arm: As in the frame's column ``arm``.
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
    if before is not None:
        first = runs.iloc[0]
        untouched = first[[before + key.removeprefix("after_") for key in columns]].set_axis(list(columns))
    rows = {} if before is None else {"untouched": {"runs": ""}}
    rows |= {arm: {"runs": f"{len(of_arm)}"} for arm, of_arm in runs.groupby("arm", sort=False)}
    for key, (title, form, *times) in columns.items():
        scaled = runs.assign(**{key: runs[key] * (times[0] if times else 1)})
        for arm in rows:
            if before is not None and arm == "untouched":
                rows[arm][title] = f"{untouched[key] * (times[0] if times else 1):{form}}"
                continue
            rows[arm][title] = plus_minus(scaled[key][scaled.arm == arm].tolist(), form)
            if control not in (None, arm):
                rows[arm][title] += f"\n{paired(scaled, key, arm, control):{form}}"
    return Table(rows).T.rename_axis(None)


def show(rows: Mapping[str, Any], form: str | Mapping[str, str] = ".3g", index: str = "") -> Table:
    """What was measured in a chapter as a table.

    Args:
        rows: For each row its columns ``{name: value}``, or one value (then the only column is nameless).
        form: How numbers are written, or for each column how; whole numbers and text stay as they are.
        index: Head of the first column.
    """
    filled = {row: of_row if isinstance(of_row, Mapping) else {"": of_row} for row, of_row in rows.items()}

    def write(column: str, value: Any) -> str:
        spec = form if isinstance(form, str) else form.get(column, ".3g")
        given = not isinstance(form, str) and column in form
        return f"{value:{spec}}" if isinstance(value, float) or (given and not isinstance(value, str)) else str(value)

    cells = {row: {c: write(c, v) for c, v in of_row.items()} for row, of_row in filled.items()}
    return Table(cells).T.fillna("").rename_axis(index or None)


class Table(pd.DataFrame):
    """A frame of finished text. It shows itself as a plain HTML table; a second line of a cell is written smaller."""

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
                body += f"<td>{first}{f'<br><small>{second}</small>' if second else ''}</td>"
            body += "</tr>"
        return (
            '<div class="book-table"><table class="table">'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


def _need_arms(runs: pd.DataFrame, arms: Iterable[str]) -> None:
    there = list(dict.fromkeys(runs.arm))
    if missing := [arm for arm in arms if arm not in there]:
        raise ValueError(f"no arm {', '.join(map(repr, missing))}; there are {', '.join(there)}")


# ---------------------------------------------------------------------------------------------------------------------
# Lists of records: what chapters still call until they use the frame


@dataclass(frozen=True)
class Column:
    """One number of a run record in a table.

    Attributes:
        title: Head of the column, with the unit.
        key: Metric of the record; a fine-tuning run has ``before_KEY`` and ``after_KEY``.
        times: Factor for the unit that is shown.
        form: How mean and spread are written.
    """

    title: str
    key: str
    times: float = 1.0
    form: str = ".2f"


FINETUNED = (
    Column("HF energy ratio, 10⁻³", "hf_energy_ratio", 1000, ".2f"),
    Column("HF share, %", "hf_share", 100, ".1f"),
    Column("distance to RGB, decades", "spectrum_distance_to_rgb", 1, ".3f"),
    Column("PSNR, dB", "psnr_db", 1, ".2f"),
    Column("SSIM", "ssim", 1, ".4f"),
)
DENOISED = (
    Column("Fréchet distance", "frechet_offline", 1, ".2f"),
    Column("of decoded latents", "decoded_latents_frechet", 1, ".2f"),
    Column("of decoded noise", "decoded_noise_frechet", 1, ".0f"),
    Column("precision", "precision", 1, ".3f"),
    Column("recall", "recall", 1, ".3f"),
)
MARKS = {"higher": " ↑", "lower": " ↓", "overlapping": ""}


def values(runs: pd.DataFrame | Sequence[RunRecord], metric: str, arm: str | float = 1.0) -> Any:
    """A metric of one arm by seed, as an array; of a list of records (then the third argument is a factor) as a list.

    Raises:
        KeyError: A run lacks it; names run and metric.
    """
    if isinstance(runs, pd.DataFrame):
        return by_seed(runs, metric, arm).to_numpy(float)
    for run in runs:
        if metric not in run.metrics:
            raise KeyError(f"run {run.identity} of {run.experiment} has no metric {metric!r}")
    return [arm * run.metrics[metric] for run in runs]


def finetuning_table(
    arms: Mapping[str, Sequence[RunRecord]],
    control: str | None = None,
    columns: Sequence[Column] = FINETUNED,
    untouched: str = "untouched",
) -> str:
    """Markdown table of fine-tuning arms: the model before, then each arm as mean ± sample standard deviation.

    An arrow marks a number that lies above (↑) or below (↓) the control in *every* run; without one, runs overlap.

    Args:
        arms: For each label its runs, as :func:`diffusab_core.experiments.records.by_arm` gives them.
        control: The label that the others are compared with.
        columns: What is shown.
        untouched: Label of the first row.

    Raises:
        ValueError: There is no arm, or no such control.
    """
    rows = _rows(arms, control, columns, "after_")
    first = next(iter(arms.values()))[0]
    before = [f"{column.times * first.metrics['before_' + column.key]:{column.form}}" for column in columns]
    return "\n".join([*_head(columns), f"| {untouched} | | " + " | ".join(before) + " |", *rows])


def denoiser_table(
    arms: Mapping[str, Sequence[RunRecord]], control: str | None = None, columns: Sequence[Column] = DENOISED
) -> str:
    """Markdown table of denoisers: each arm as mean ± sample standard deviation, with arrows as in the table above.

    Args:
        arms: For each label its runs, as :func:`diffusab_core.experiments.records.by_arm` gives them.
        control: The label that the others are compared with.
        columns: What is shown; a key is the metric's name as it stands.

    Raises:
        ValueError: There is no arm, or no such control.
        KeyError: A run lacks a metric.
    """
    rows = _rows(arms, control, columns)
    return "\n".join([*_head(columns), *rows])


def not_recorded(script: str, wanted: Iterable[str], there: Container[str]) -> str:
    """A Markdown paragraph with the arms that are missing and the command that records them; empty if none is.

    Args:
        script: The recording script, as the repository's root names it.
        wanted: Arms that a chapter asks for.
        there: Arms whose records are complete.
    """
    missing = [arm for arm in wanted if arm not in there]
    return f"\n\nNot recorded here; `python {script} {' '.join(missing)}` does it." if missing else ""


def _head(columns: Sequence[Column]) -> list[str]:
    titles = " | ".join(column.title for column in columns)
    return [f"| | runs | {titles} |", "|---" * (len(columns) + 2) + "|"]


def _rows(
    arms: Mapping[str, Sequence[RunRecord]], control: str | None, columns: Sequence[Column], prefix: str = ""
) -> list[str]:
    if not arms or (control is not None and control not in arms):
        raise ValueError(f"no control {control!r} among the arms {list(arms)}")
    lines = []
    for label, runs in arms.items():
        cells = []
        for column in columns:
            found = values(runs, prefix + column.key, column.times)
            cell = plus_minus(found, column.form)
            if control is not None and label != control:
                cell += MARKS[ordering(values(arms[control], prefix + column.key, column.times), found)]
            cells.append(cell)
        lines.append(f"| {label} | {len(runs)} | " + " | ".join(cells) + " |")
    return lines


def tail_means(runs: Sequence[RunRecord], name: str, last: int) -> list[float]:
    """Mean of the last entries of a series, run by run, such as the loss at the end of a training.

    Raises:
        ValueError: ``last`` is not positive, or a series is shorter than that.
    """
    for run in runs:
        if not 1 <= last <= len(run.series[name]):
            raise ValueError(f"series {name!r} of run {run.identity} has {len(run.series[name])} entries, not {last}")
    return [sum(run.series[name][-last:]) / last for run in runs]


def at_each(runs: Sequence[RunRecord], place: str, name: str, form: str = "g") -> dict[str, list[float]]:
    """A series of several runs by the places at which it was taken: for each, one value for each run.

    Args:
        runs: Of one arm.
        place: Series of the places, such as ``snapshot_step`` or ``shift``; the same in all runs.
        name: Series of the values.
        form: How a place is written.

    Raises:
        ValueError: The runs' places differ, or a series has another length than its places.
    """
    places = runs[0].series[place]
    for run in runs:
        if run.series[place] != places or len(run.series[name]) != len(places):
            raise ValueError(f"run {run.identity} has {name!r} at other places {place!r} than run {runs[0].identity}")
    return {f"{where:{form}}": [run.series[name][i] for run in runs] for i, where in enumerate(places)}


# ---------------------------------------------------------------------------------------------------------------------
# Seeds side by side, for chapters 10 to 13


def plus_minus(values: list[float], form: str = ".2f") -> str:
    """``mean ± spread`` over runs as text, for tables; of a single run its value alone."""
    mean, spread = mean_and_spread(values)
    return f"{mean:{form}}" if len(values) == 1 else f"{mean:{form}} ± {spread:{form}}"


def signed(values: list[float], form: str = ".2f") -> str:
    """``mean ± spread`` of differences as text: the mean always with its sign, and a mean that rounds to zero as +0."""
    mean, spread = mean_and_spread(values)
    return f"{mean:+z{form}}" if len(values) == 1 else f"{mean:+z{form}} ± {spread:{form}}"


def mean_and_spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1) over seeds; the spread of a single value is NaN, not zero."""
    if not values:
        raise ValueError("no values to average")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def ordering(first: Sequence[float], second: Sequence[float]) -> Literal["higher", "lower", "overlapping"]:
    """How the runs of ``second`` lie to those of ``first``: all higher, all lower, or overlapping.

    The book calls a difference measured only when the two groups do not overlap at all. With three seeds each, equal
    distributions would be separated so, one way or the other, in 2 of 20 cases (the exact rank-sum test).
    """
    if not first or not second:
        raise ValueError("no values to compare")
    if min(second) > max(first):
        return "higher"
    return "lower" if max(second) < min(first) else "overlapping"
