"""Which runs a sweep is: arms times seeds, and before them the runs of other sweeps that they refer to.

Two arms, or two sweeps, that ask for the same run share it. Nothing here imports torch: a sweep in which everything is
done is over in a second.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from diffusab_book import chapters, runs
from diffusab_book.sweeps import files
from diffusab_book.sweeps.files import Reference, Sweep, SweepError
from diffusab_core.files import DiffusabError


@dataclass
class Job:
    """One run of a plan, and what asks for it."""

    spec: runs.RunSpec
    folder: Path
    names: list[tuple[str, str, int]] = field(default_factory=list)  #: (sweep, arm, seed), the plan's own sweep first

    @property
    def run(self) -> str:
        """``NOTEBOOK/IDENTITY``, as the store has it."""
        return f"{self.spec.notebook}/{self.spec.identity}"

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    @property
    def done(self) -> bool:
        """Whether the run is finished; what a damaged record says is for ``diffusab run`` to tell."""
        try:
            return runs.finished(self.folder) is not None
        except DiffusabError:
            return False


@dataclass
class Plan:
    """All runs that a sweep needs at a size, those that others wait for first."""

    sweep: Sweep
    size: str
    root: Path
    jobs: dict[str, Job]  #: By ``NOTEBOOK/IDENTITY``
    own: dict[tuple[str, int], Job]  #: By arm and seed

    @property
    def metric(self) -> str:
        return self.sweep.metric_at(self.size)

    @property
    def others(self) -> list[Job]:
        """Runs of other sweeps that this one's wait for."""
        ours = {job.run for job in self.own.values()}
        return [job for run, job in self.jobs.items() if run not in ours]

    def label(self, job: Job) -> str:
        """``ARM-seedK``, of another sweep's run ``SWEEP/ARM-seedK``."""
        sweep, arm, seed = job.names[0]
        return f"{arm}-seed{seed}" if sweep == self.sweep.name else f"{sweep}/{arm}-seed{seed}"

    def needs(self, job: Job) -> list[Job]:
        """The runs that a run refers to."""
        return [self.jobs[reference.removeprefix(runs.REFERENCE)] for reference in job.spec.needs]


def plan(
    sweep: Sweep,
    size: str | None = None,
    root: str | Path = runs.ROOT,
    seeds: Sequence[int] | None = None,
    arms: Sequence[str] | None = None,
    notebooks: Path | None = None,
) -> Plan:
    """The runs of a sweep.

    Args:
        sweep: The file, read.
        size: The file's own when left out.
        root: The store.
        seeds: Only these of each arm's.
        arms: Only these.
        notebooks: Folder of the notebooks; the book's when left out.

    Raises:
        SweepError: Seeds or arms that the sweep does not have, a reference that leads nowhere or round in a circle, a
            parameter or value that the notebook does not take, or two arms that are the same run.
    """
    made = _Planner(sweep.path.parent, size or sweep.size, Path(root), notebooks)
    own: dict[tuple[str, int], Job] = {}
    chosen = sweep.arms(made.size)
    if unknown := [arm for arm in arms or () if arm not in chosen]:
        raise SweepError(f"{sweep.path} has no arm {unknown[0]!r} at size {made.size}; there are {', '.join(chosen)}")
    if missing := set(seeds or ()) - {seed for arm in chosen.values() for seed in arm.seeds}:
        raise SweepError(f"{sweep.path} has no seed {min(missing)}")
    for arm in chosen.values():
        for seed in arm.seeds:
            if (not arms or arm.name in arms) and (not seeds or seed in seeds):
                own[arm.name, seed] = made.job(sweep, arm.name, seed)
    if not own:
        raise SweepError(f"{sweep.path}: none of these arms has one of these seeds")
    for job in made.jobs.values():
        job.names.sort(key=lambda name: name[0] != sweep.name)
        same = [arm for name, arm, _ in job.names if name == sweep.name]
        if len(same) > 1 and made.size != "smoke":  # small numbers of the smoke size make arms equal
            raise SweepError(f"{sweep.path}: arms {' and '.join(map(repr, same))} are the same run at size {made.size}")
    return Plan(sweep, made.size, Path(root), made.jobs, own)


class _Planner:
    """Resolves arms to runs, each once, with what they refer to."""

    def __init__(self, folder: Path, size: str, root: Path, notebooks: Path | None) -> None:
        self.folder, self.size, self.root, self.notebooks = folder, size, root, notebooks
        self.jobs: dict[str, Job] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.path: list[tuple[str, str, int]] = []  # the references that lead to the arm in work

    def job(self, sweep: Sweep, arm: str, seed: int) -> Job:
        self.sweeps.setdefault(sweep.name, sweep)
        name = (sweep.name, arm, seed)
        if name in self.path:
            circle = " -> ".join(f"{s}: {a}" for s, a, _ in [*self.path[self.path.index(name) :], name])
            raise SweepError(f"{sweep.path}: arms refer to each other in a circle, {circle}")
        self.path.append(name)
        values = dict(sweep.arms(self.size)[arm].parameters)
        for parameter, value in values.items():
            if isinstance(value, Reference):
                values[parameter] = self._referred(sweep, f"arm {arm!r}: {parameter}", value, seed).spec.reference
        self.path.pop()
        try:
            spec = runs.RunSpec.resolve(
                sweep.notebook, self.size, seed, self._small(sweep, values), folder=self.notebooks
            )
        except (DiffusabError, FileNotFoundError) as error:
            raise SweepError(f"{sweep.path}: arm {arm!r}: {error}") from error
        run = f"{spec.notebook}/{spec.identity}"
        job = self.jobs.setdefault(run, Job(spec, spec.folder(self.root).absolute()))
        if name not in job.names:
            job.names.append(name)
        return job

    def _small(self, sweep: Sweep, values: dict[str, Any]) -> dict[str, Any]:
        """At smoke size, which only tries whether things run, the preset's numbers stand against the sweep's."""
        if self.size != "smoke" or "smoke" in sweep.sizes:
            return values
        small = chapters.preset(chapters.find(sweep.notebook, self.notebooks), "smoke")
        numbers = {name for name, v in small.items() if isinstance(v, int | float | list) and not isinstance(v, bool)}
        return {name: value for name, value in values.items() if name not in numbers}

    def _referred(self, sweep: Sweep, where: str, reference: Reference, seed: int) -> Job:
        try:
            if reference.sweep not in self.sweeps:
                self.sweeps[reference.sweep] = files.read(self.folder / f"{reference.sweep}.yaml", self.folder)
            other = self.sweeps[reference.sweep]
        except FileNotFoundError as error:
            raise SweepError(f"{sweep.path}: {where}: {error}") from error
        arms, wanted = other.arms(self.size), seed if reference.seed is None else reference.seed
        if reference.arm not in arms:
            raise SweepError(
                f"{sweep.path}: {where}: {other.path.name} has no arm {reference.arm!r} at size {self.size}; "
                f"there are {', '.join(arms)}"
            )
        if wanted not in arms[reference.arm].seeds:
            raise SweepError(f"{sweep.path}: {where}: arm {reference.arm!r} of {other.path.name} has no seed {wanted}")
        return self.job(other, reference.arm, wanted)


# ---------------------------------------------------------------------------------------------------------------------
# What it will cost


@dataclass(frozen=True)
class Cost:
    """Of one run, measured on others: ``None`` where nothing was measured."""

    seconds: float | None
    megabytes: float | None


def costs(plan: Plan, records: Sequence[Path] = ()) -> dict[str, Cost]:
    """What each run will cost, by ``NOTEBOOK/IDENTITY``.

    Measured on records of the same notebook and size, in the store and below the folders ``records``. Where runs have
    ``steps``, time is taken to grow with them. Of runs that were cut off a record has the last part's time only, so the
    upper half counts: the median of those at or above the median.
    """
    found: dict[tuple[str, str], list[tuple[float, int | None]]] = {}
    disk: dict[tuple[str, str], list[float]] = {}
    for path in _records(plan.root, records):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            kind = (record["experiment"], record["size"])
            found.setdefault(kind, []).append((float(record["wall_time_s"]), record["parameters"].get("steps")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # not a record, or one being written
        if path.parent.parent.parent == plan.root:
            size = sum(f.stat().st_size for f in path.parent.rglob("*") if f.is_file())
            disk.setdefault(kind, []).append(size / 1e6)
    return {run: _cost(job.spec, found, disk) for run, job in plan.jobs.items()}


def _cost(spec: runs.RunSpec, found: dict, disk: dict) -> Cost:
    kind = (spec.notebook, spec.size)
    steps = value_of(spec, "steps")
    seconds = None
    if times := found.get(kind):
        rates = [seconds / n for seconds, n in times if n] if steps else []
        upper = sorted(rates or [seconds for seconds, _ in times])
        seconds = median(upper[len(upper) // 2 :]) * (steps if rates else 1)
    return Cost(seconds, median(disk[kind]) if kind in disk else None)


def value_of(spec: runs.RunSpec, name: str) -> Any:
    """The value that a parameter has in a run; ``None`` if its notebook has no such parameter."""
    declared = chapters.parameters(spec.path)
    return spec.parameters.get(name, declared[name].default) if name in declared else None


def _records(root: Path, more: Sequence[Path]) -> Iterator[Path]:
    yield from sorted(root.glob("*/*/record.json"))
    for folder in more:
        for path, folders, names in os.walk(folder):
            folders.sort()
            yield from (Path(path, name) for name in sorted(names) if name.endswith(".json"))
