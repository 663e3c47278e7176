"""How far the runs of a sweep are: what the store says, whoever runs them and wherever."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from diffusab_book.sweeps.plan import Job, Plan, value_of
from diffusab_core import files

if TYPE_CHECKING:
    from rich.console import RenderableType

Kind = Literal["done", "running", "failed", "cut off", "waiting"]
KINDS: tuple[Kind, ...] = ("done", "running", "failed", "cut off", "waiting")
INTERRUPTED = (130, 143)  #: Exit status after Ctrl-C and SIGTERM
_STYLES = {"done": "green", "running": "cyan", "failed": "red", "cut off": "yellow", "waiting": "dim"}


@dataclass(frozen=True)
class State:
    """One run: ``step`` of ``steps`` and the seconds left where that is known, ``said`` what went wrong."""

    job: Job
    kind: Kind
    step: int | None = None
    steps: int | None = None
    left_s: float | None = None
    said: str = ""


def work_folder(root: Path, sweep: str, size: str) -> Path:
    """Where the driver of a sweep keeps its plan and its logs."""
    return root.absolute() / ".sweeps" / f"{sweep}-{size}"


def log_of(plan: Plan, job: Job) -> Path:
    """What the command that made a run printed, when this sweep's driver started it."""
    return work_folder(plan.root, plan.sweep.name, plan.size) / "logs" / f"{plan.label(job).replace('/', '.')}.log"


def look(plan: Plan) -> list[State]:
    """The state of every run of a plan, in the plan's order."""
    return [state_of(plan, job) for job in plan.jobs.values()]


def state_of(plan: Plan, job: Job) -> State:
    """What a run's folder says: done with its record, running while its lock is held, else failed or cut off."""
    if job.done:
        return State(job, "done")
    if _is_held(job.folder / ".lock"):
        step, left_s = _progress(job)
        return State(job, "running", step, value_of(job.spec, "steps"), left_s)
    if said := error_of(plan, job):
        return State(job, "failed", said=said)
    if (job.folder / "run.json").is_file():
        step, _ = _progress(job)
        return State(job, "cut off", step, value_of(job.spec, "steps"))
    return State(job, "waiting")


def steps_of(jobs: Iterable[Job]) -> dict[str, int | None]:
    """The last step that each run's training has logged, by run."""
    return {job.run: _progress(job)[0] for job in jobs}


def _is_held(lock: Path) -> bool:
    try:
        with lock.open("rb") as handle:
            files.lock(handle.fileno(), wait=False, shared=True)  # freed again as the file is closed
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def error_of(plan: Plan, job: Job) -> str:
    """Why a run's last attempt failed, in one line; empty if it was interrupted, or there was none."""
    notebook = job.folder / f"{job.spec.notebook}.ipynb"
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = {}
    for cell in content.get("cells", []):
        for output in cell.get("outputs", []):
            if output.get("ename") == "KeyboardInterrupt":
                return ""
            if output.get("output_type") == "error":
                return f"{output.get('ename')}: {output.get('evalue')}".splitlines()[0][:200]
    log = log_of(plan, job)
    if exit_status(log) in (0, *INTERRUPTED):
        return ""
    lines = [line.strip() for line in tail(log).splitlines() if line.strip()]
    return re.sub(r"\x1b\[[0-9;]*m", "", lines[-1])[:200] if lines else f"exit status {exit_status(log)}"


def exit_status(log: Path) -> int:
    """With which status the command of a log ended; 0 where it has not, or ended well."""
    try:
        return int(log.with_suffix(".status").read_text())
    except (OSError, ValueError):
        return 0


def tail(path: Path, size: int = 4000) -> str:
    """The end of a text file; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _progress(job: Job) -> tuple[int | None, float | None]:
    """The step that the training has logged last, and the seconds that the rest of it will take."""
    try:  # the folder may go while it is looked at: a run that is made again removes it
        found = [(path.stat().st_mtime, path) for path in job.folder.glob("**/training/logs/progress.json")]
        if not found:
            return None, None
        noted, file = max(found)
        about = json.loads(file.read_text(encoding="utf-8"))
        step, first, seconds = int(about["step"]), int(about["first"]), float(about["seconds"])
    except (OSError, ValueError, KeyError):
        return None, None
    steps = value_of(job.spec, "steps")
    if not steps or step <= first:
        return step, None
    return step, max(0.0, (steps - step) * seconds / (step - first) - (time.time() - noted))


# ---------------------------------------------------------------------------------------------------------------------
# As text


def in_words(seconds: float | None) -> str:
    """A time as a person says it: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def count(states: Iterable[State]) -> str:
    """``4 done, 1 running, 1 failed``."""
    counts = Counter(state.kind for state in states)
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])


def table(plan: Plan, states: Sequence[State], kinds: Sequence[Kind] = KINDS) -> RenderableType:
    """The runs as a table for a terminal; ``kinds`` are those that get a row, all are counted below it."""
    from rich.table import Table

    shown = Table(title=f"{plan.sweep.name}, {plan.size}: {plan.sweep.title}", title_justify="left", box=None)
    for head in ("run", "identity", "state", "step", "left", ""):
        shown.add_column(head, justify="right" if head in ("step", "left") else "left", overflow="fold")
    for state in states:
        if state.kind in kinds:
            step = "" if state.step is None else f"{state.step}/{state.steps}" if state.steps else str(state.step)
            words = (
                plan.label(state.job),
                state.job.spec.identity,
                state.kind,
                step,
                in_words(state.left_s),
                state.said,
            )
            shown.add_row(*map(_plain, words), style=_STYLES[state.kind])
    shown.caption, shown.caption_justify = count(states), "left"
    return shown


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
