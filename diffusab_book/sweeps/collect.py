"""Finished records where the book looks for them, and a sweep as a table and as one figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffusab_book.places import CHECKOUT
from diffusab_book.sweeps.files import SweepError
from diffusab_book.sweeps.plan import Job, Plan
from diffusab_core.files import write_bytes, write_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SAMPLES = "samples.webp"  #: A run's grid of samples
MAX_SAMPLES = 100_000  #: Bytes of one that goes into the book


@dataclass(frozen=True)
class Copied:
    """What :func:`copy` did: files that are new or renewed, and those of other runs that it left alone."""

    new: tuple[Path, ...]
    kept: tuple[Path, ...]


def default_results() -> Path | None:
    """The repository's ``book/results``, where there is a repository."""
    return None if CHECKOUT is None else CHECKOUT / "book" / "results"


def place_of(plan: Plan, results: Path) -> Path:
    """The folder of a sweep's records: its name, at another size than the file's own with the size behind it."""
    return results / (plan.sweep.name if plan.size == plan.sweep.size else f"{plan.sweep.name}-{plan.size}")


def copy(plan: Plan, results: Path, jobs: Sequence[Job] | None = None, replace: bool = False) -> Copied:
    """Copy finished records, of all the sweep's own runs or of these, to ``ARM-seedK.json``.

    A grid of samples goes beside it as ``ARM-seedK.webp`` if it has at most :data:`MAX_SAMPLES` bytes; one of an older
    record never stays beside a new one. A record of another run that has the name already is kept unless ``replace``.
    """
    folder, new, kept = place_of(plan, results), [], []
    for (arm, seed), job in plan.own.items():
        if (jobs is not None and job not in jobs) or not job.done:
            continue
        target = folder / f"{arm}-seed{seed}.json"
        content = job.record.read_bytes()
        if target.is_file() and not replace and _identity(target) != job.spec.identity:
            kept.append(target)
            continue
        grid, picture = job.folder / SAMPLES, target.with_suffix(".webp")
        renewed = not target.is_file() or target.read_bytes() != content
        if grid.is_file() and grid.stat().st_size <= MAX_SAMPLES:
            if not picture.is_file() or picture.read_bytes() != grid.read_bytes():
                write_bytes(picture, grid.read_bytes())
        elif renewed:
            picture.unlink(missing_ok=True)
        if renewed:  # after its samples: what is cut off in between is done again
            new.append(write_bytes(target, content))
    return Copied(tuple(new), tuple(kept))


def _identity(record: Path) -> str | None:
    try:
        return json.loads(record.read_text(encoding="utf-8")).get("run_identity")
    except (OSError, ValueError, AttributeError):
        return None


# ---------------------------------------------------------------------------------------------------------------------
# A table and a figure


def frame(plan: Plan) -> pd.DataFrame:
    """The finished runs of a sweep as :func:`diffusab_book.results.frame` has them.

    Raises:
        SweepError: None is finished.
    """
    from diffusab_book import results
    from diffusab_core.experiments import records

    found: dict[str, list] = {}
    for (arm, _), job in plan.own.items():
        if job.done:
            found.setdefault(arm, []).append(records.read(job.record))
    if not found:
        raise SweepError(f"{plan.sweep.path}: no run of size {plan.size} is finished in {plan.root}")
    return results.frame(found)


def flat(runs: pd.DataFrame) -> pd.DataFrame:
    """The frame in columns that Parquet and CSV can hold: no records, and lists and mixed columns as JSON text."""
    import pandas as pd

    columns = {}
    for name in runs.columns.drop("record"):
        values = runs[name]
        kinds = {type(value) for value in values.dropna()}
        plain = kinds <= {bool} or kinds <= {int} or kinds <= {int, float} or kinds <= {str}
        columns[name] = values if plain or not kinds else values.map(lambda value: json.dumps(value, default=str))
    first = ["arm", "seed", "identity", "experiment", "size", "device", "wall_time_s"]
    table = pd.DataFrame(columns)
    return table[[*first, *sorted(table.columns.drop(first))]]


def figure(plan: Plan, runs: pd.DataFrame) -> go.Figure:
    """The primary metric of each arm, a point for each seed, beside its paired difference to the control.

    Raises:
        SweepError: A record lacks the metric.
    """
    from plotly.subplots import make_subplots

    from diffusab_book import figures, results

    _need_metric(plan, runs)
    sweep, metric, arms = plan.sweep, plan.metric, list(dict.fromkeys(runs.arm))
    values, found = {arm: results.values(runs, metric, arm) for arm in arms}, differences(plan, runs)
    fig = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04, column_widths=[0.5, 0.5])
    fig.add_scatter(
        x=[v for arm in arms for v in values[arm]], y=[arm for arm in arms for _ in values[arm]], name="runs",
        mode="markers", marker={"color": figures.BLUE, "symbol": "circle-open", "size": 8}, row=1, col=1,
    )  # fmt: skip
    fig.add_scatter(
        x=[values[arm].mean() for arm in arms], y=arms, name="mean", mode="markers",
        marker={"color": figures.BLUE, "symbol": "line-ns-open", "size": 14, "line": {"width": 2}}, row=1, col=1,
    )  # fmt: skip
    shares = {arm: [100 * edge for edge in (paired.mean, paired.low, paired.high)] for arm, paired in found.items()}
    fig.add_scatter(
        x=[mean for mean, _, _ in shares.values()], y=list(shares), name="paired difference, 95% interval",
        mode="markers", marker={"color": figures.ORANGE, "symbol": "diamond", "size": 8}, row=1, col=2,
        error_x={"array": [high - mean for mean, _, high in shares.values()],  # NaN for one seed: no bar
                 "arrayminus": [mean - low for mean, low, _ in shares.values()], "thickness": 1.5, "width": 3},
    )  # fmt: skip
    margin = 100 * sweep.margin
    fig.add_vrect(x0=-margin, x1=margin, line_width=0, fillcolor=figures.GREY, opacity=0.15, row=1, col=2)
    fig.add_vline(x=0, line_width=1, line_color=figures.GREY, row=1, col=2)
    fig.update_xaxes(title=f"{metric} ({sweep.better} is better)", row=1, col=1)
    fig.update_xaxes(title=f"against {sweep.control}, % (grey: ±{margin:g})", row=1, col=2)
    fig.update_yaxes(categoryorder="array", categoryarray=arms[::-1], automargin=True)
    fig.update_layout(height=190 + 24 * len(arms))
    return figures.described(
        fig,
        f"{sweep.title}. Left: {metric} of each arm, a point for each seed and their mean; {sweep.better} is better. "
        f"Right: the mean paired difference to {sweep.control} in percent, with its 95% interval and the margin.",
    )


def differences(plan: Plan, runs: pd.DataFrame) -> dict:
    """Of each arm that has a control with the same seeds: the paired difference, relative to the control's mean."""
    from diffusab_book import results

    _need_metric(plan, runs)
    sweep, arms, there = plan.sweep, plan.sweep.arms(plan.size), set(runs.arm)
    found = {}
    for arm in dict.fromkeys(runs.arm):
        control = sweep.control_of(arms[arm], arms)
        if control in there:
            common = sorted(set(runs.seed[runs.arm == arm]) & set(runs.seed[runs.arm == control]))
            if common:
                paired = runs[runs.seed.isin(common)]
                found[arm] = results.paired(paired, plan.metric, arm, control, relative=True)
    return found


def _need_metric(plan: Plan, runs: pd.DataFrame) -> None:
    metric = plan.metric
    lacking = runs.arm if metric not in runs else runs.arm[runs[metric].isna()]
    if len(lacking):
        there = ", ".join(sorted(runs.iloc[0].record.metrics))
        raise SweepError(
            f"{plan.sweep.path}: the records of {lacking.iloc[0]!r} have no metric {metric!r}, only {there}"
        )


def write(plan: Plan, out: Path) -> list[Path]:
    """``NAME.parquet``, ``NAME.csv`` and ``NAME.html``, the figure, in a folder.

    Raises:
        SweepError: No run is finished, or a record lacks the primary metric.
    """
    runs = frame(plan)
    table, fig = flat(runs), figure(plan, runs)
    title = f"{plan.sweep.title} ({plan.size})"
    fig.update_layout(title={"text": title, "x": 0.01, "y": 0.98, "yanchor": "top"}, margin={"t": 90})
    out.mkdir(parents=True, exist_ok=True)
    name = place_of(plan, out).name
    parquet = out / f"{name}.parquet"
    table.to_parquet(parquet, index=False)
    page = fig.to_html(include_plotlyjs=True, full_html=True)
    return [parquet, write_text(out / f"{name}.csv", table.to_csv(index=False)), write_text(out / f"{name}.html", page)]
