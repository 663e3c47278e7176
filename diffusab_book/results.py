r"""Run records as one pandas frame, and what chapters show of it: tables, paired differences, intervals.

A frame has one row per run: ``arm``, ``seed``, ``experiment``, ``identity``, ``size``, ``device``, ``wall_time_s``,
every setting and every metric under its own name, and ``record`` (the run record, which holds the series). Where a
setting and a metric share a name, the metric stands there.

Arms are compared by pairs of runs with the same seed: of the differences the mean and its 95% interval by Student's t.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

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


def paired(runs: pd.DataFrame, metric: str, arm: str, control: str, relative: bool = False) -> Paired:
    """The metric of ``arm`` minus that of ``control``, run by run of the same seed.

    Args:
        runs: The frame, with a column ``metric`` and the two arms in its column ``arm``.
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
                second = second.replace(" [", "<br>[")  # keeps columns narrow
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


def _plus_minus(values: Sequence[float], form: str) -> str:
    """``mean ± sample standard deviation`` as text; of a single run its value alone."""
    return f"{fmean(values):{form}}" + (f" ± {stdev(values):{form}}" if len(values) > 1 else "")
