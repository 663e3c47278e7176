r"""Run records: every number the book shows can say where it came from.

A record is one JSON file: what was run (experiment, parameters, seed, size), with what (versions, git revision,
device), what came out (metrics, series) and how long it took. Records are validated when they are made, when they
are written and when they are read, so a record on disk is a complete one.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator, model_validator

from diffusab_core.files import DiffusabError, digest_json, write_text

SCHEMA_VERSION = 1

Size = Literal["smoke", "laptop", "gpu", "paper"]
SIZES = get_args(Size)
Name = Annotated[str, Field(min_length=1)]


class RecordError(DiffusabError, ValueError):
    """A record that is not valid, with the file and the field that is wrong."""


class RunRecord(BaseModel):
    r"""One run.

    Attributes:
        experiment: What was run, e.g. ``"train-autoencoder"`` or ``"02_dct"`` for a chapter.
        parameters: Everything that was chosen, as plain JSON values.
        seed: The seed every random stream was derived from.
        size: ``smoke``, ``laptop``, ``gpu`` or ``paper``.
        metrics: Final numbers by name; the unit is part of the name (``psnr_db``, ``wall_time_s``).
        series: Curves by name, each a list of finite numbers.
        data: What the run saw, in words precise enough to repeat it.
        device: The machine in words, e.g. ``"cpu: x86_64, 2 cores"``.
        versions: Package versions; always holds ``python``, ``torch`` and ``diffusab_core``.
        git_revision: Commit of the code, with ``-dirty`` when the tree differed from it, or ``None`` outside git.
        wall_time_s: Seconds from start to end.
        started: ISO 8601 start time in UTC.
        notes: What a reader has to know to read the numbers rightly.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    experiment: Name
    parameters: dict[str, Any]
    seed: int
    size: Size
    metrics: dict[str, FiniteFloat]
    series: dict[str, list[FiniteFloat]] = Field(default_factory=dict)
    data: Name
    device: Name
    versions: dict[str, str]
    git_revision: str | None
    wall_time_s: Annotated[float, Field(ge=0)]
    started: datetime
    notes: str = ""

    @field_validator("parameters")
    @classmethod
    def _json_parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(parameters, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"parameters must be plain JSON values: {error}") from error
        return parameters

    @model_validator(mode="after")
    def _versions_complete(self) -> RunRecord:
        missing = {"python", "torch", "diffusab_core"} - self.versions.keys()
        if missing:
            raise ValueError(f"versions lack {sorted(missing)}")
        return self

    @property
    def identity(self) -> str:
        """The run's identity: a hash of experiment, parameters, seed and size (12 hex digits).

        The device, which some parameters name, is left out as versions and results are: the same run on another machine
        has the same identity.
        """
        chosen = {name: value for name, value in self.parameters.items() if name != "device"}
        return digest_json([self.experiment, chosen, self.seed, self.size])[:12]

    def write(self, path: str | os.PathLike) -> Path:
        """Write the record as JSON: a file under its final name is always a whole record."""
        return write_text(path, self.model_dump_json(indent=2) + "\n")


def read(path: str | os.PathLike) -> RunRecord:
    """Read and validate one record.

    Raises:
        FileNotFoundError: There is no such file.
        RecordError: The file is not a valid record; the message names the file and the first wrong field.
    """
    path = Path(path)
    try:
        return RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise RecordError(f"{path}: not a valid run record at {where}: {first['msg']}") from error


def by_arm(folder: str | os.PathLike) -> dict[str, list[RunRecord]]:
    """Records named ``ARM-seedK.json`` in a folder, by arm, each arm's runs in the order of their seeds.

    Raises:
        RecordError: A record is broken, or its name does not end with its own seed.
    """
    found: dict[str, list[RunRecord]] = {}
    for path in sorted(Path(folder).glob("*.json")):
        record = read(path)
        arm, _, seed = path.stem.rpartition("-seed")
        if not arm or seed != str(record.seed):
            raise RecordError(f"{path}: expected a name like ARM-seed{record.seed}.json for a run with that seed")
        found.setdefault(arm, []).append(record)
    return {arm: sorted(runs, key=lambda record: record.seed) for arm, runs in found.items()}


# ---------------------------------------------------------------------------------------------------------------------
# Where a run happened


def describe_device(device: str | torch.device = "cpu") -> str:
    """The device in words: the GPU's name, or the CPU's architecture and the number of cores this process may use."""
    device = torch.device(device)
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return f"mps: {platform.machine()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = torch.get_num_threads()
    return f"cpu: {platform.machine()}, {cores} cores, {threads} thread{'s' if threads > 1 else ''} used"


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    packages = ("torch", "diffusers", "numpy", "scipy", "scikit-image", "scikit-learn")
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    found["diffusab_core"] = importlib.metadata.version("diffusab-core")
    return found


def git_revision() -> str | None:
    """Commit of the checkout that holds this package, ``-dirty`` appended when it has changes; ``None`` outside one."""

    def git(*args: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # an installed package may lie in another's checkout
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


class Run:
    """What :func:`start` hands out: collect metrics, series and notes, then ``finish()`` makes the record."""

    def __init__(self, **fixed: Any) -> None:
        self._fixed, self._clock = fixed, time.perf_counter()
        self.metrics: dict[str, float] = {}
        self.series: dict[str, list[float]] = {}
        self.notes: str = ""

    def finish(self) -> RunRecord:
        """The validated record; wall time runs from :func:`start` to here."""
        return RunRecord(
            **self._fixed,
            metrics={name: float(value) for name, value in self.metrics.items()},
            series={name: [float(v) for v in values] for name, values in self.series.items()},
            notes=self.notes,
            wall_time_s=round(time.perf_counter() - self._clock, 3),
        )


def start(
    experiment: str,
    *,
    parameters: dict[str, Any],
    seed: int,
    size: Size,
    data: str,
    device: str | torch.device = "cpu",
) -> Run:
    """Start the clock of a run and note where it happens.

    Example:
        >>> run = start("demo", parameters={"steps": 1}, seed=0, size="smoke", data="none")
        >>> run.metrics["psnr_db"] = 30.0
        >>> record = run.finish()
    """
    return Run(
        experiment=experiment,
        parameters=parameters,
        seed=seed,
        size=size,
        data=data,
        device=describe_device(device),
        versions=versions(),
        git_revision=git_revision(),
        started=datetime.now(UTC),
    )
