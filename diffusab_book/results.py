"""Tables of recorded runs for chapters: mean and spread over seeds, and how each arm lies to the control."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from diffusab_core.experiments.records import RunRecord, ordering, plus_minus


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


def mean_series(runs: Sequence[RunRecord], name: str) -> list[float]:
    """Mean over runs of a series, such as ``after_profile`` or ``cut_psnr_db``, entry by entry.

    Raises:
        ValueError: The runs' series differ in length.
    """
    series = [run.series[name] for run in runs]
    if len({len(entries) for entries in series}) != 1:
        raise ValueError(f"series {name!r} has {sorted({len(entries) for entries in series})} entries in these runs")
    return [sum(column) / len(column) for column in zip(*series, strict=True)]


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
