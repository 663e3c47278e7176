"""Tables of recorded runs for chapters: mean and spread over seeds, and how each arm lies to the control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diffusab_core.records import RunRecord, ordering, plus_minus


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
MARKS = {"higher": " ↑", "lower": " ↓", "overlapping": ""}


def values(runs: Sequence[RunRecord], key: str, times: float = 1.0) -> list[float]:
    """One metric of several runs.

    Raises:
        KeyError: A run lacks it; names run and metric.
    """
    for run in runs:
        if key not in run.metrics:
            raise KeyError(f"run {run.identity} of {run.experiment} has no metric {key!r}")
    return [times * run.metrics[key] for run in runs]


def finetuning_table(
    arms: Mapping[str, Sequence[RunRecord]],
    control: str | None = None,
    columns: Sequence[Column] = FINETUNED,
    untouched: str = "untouched",
) -> str:
    """Markdown table of fine-tuning arms: the model before, then each arm as mean ± sample standard deviation.

    An arrow marks a number that lies above (↑) or below (↓) the control in *every* run; without one, runs overlap.

    Args:
        arms: For each label its runs, as :func:`diffusab_core.records.by_arm` gives them.
        control: The label that the others are compared with.
        columns: What is shown.
        untouched: Label of the first row.

    Raises:
        ValueError: There is no arm, or no such control.
    """
    if not arms or (control is not None and control not in arms):
        raise ValueError(f"no control {control!r} among the arms {list(arms)}")
    first = next(iter(arms.values()))[0]
    before = [f"{column.times * first.metrics['before_' + column.key]:{column.form}}" for column in columns]
    lines = ["| | runs | " + " | ".join(column.title for column in columns) + " |", "|---" * (len(columns) + 2) + "|"]
    lines.append(f"| {untouched} | | " + " | ".join(before) + " |")
    for label, runs in arms.items():
        cells = []
        for column in columns:
            found = values(runs, "after_" + column.key, column.times)
            cell = plus_minus(found, column.form)
            if control is not None and label != control:
                cell += MARKS[ordering(values(arms[control], "after_" + column.key, column.times), found)]
            cells.append(cell)
        lines.append(f"| {label} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_series(runs: Sequence[RunRecord], name: str) -> list[float]:
    """Mean over runs of a series, such as ``after_profile`` or ``cut_psnr_db``, entry by entry.

    Raises:
        ValueError: The runs' series differ in length.
    """
    series = [run.series[name] for run in runs]
    if len({len(entries) for entries in series}) != 1:
        raise ValueError(f"series {name!r} has {sorted({len(entries) for entries in series})} entries in these runs")
    return [sum(column) / len(column) for column in zip(*series, strict=True)]
