r"""Run records: every number the book shows can say where it came from.

A record is one JSON file: what was run, with what, what came out and how long it took. Records are validated when they
are made and when they are read, so a record on disk is a complete one. A record of schema 1 is read as one of schema 2
that says so (``upgraded_from``): older code made it. Nothing here needs torch but what describes a device.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator, model_validator

from diffusab_core.files import (
    DiffusabError,
    count_cores,
    differences,
    digest_json,
    make_printable,
    printable,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    import torch  # slow to import, and a finished run is read back without it

Size = Literal["smoke", "laptop", "gpu", "paper"]
SIZES = get_args(Size)
Name = Annotated[str, Field(min_length=1)]
PROGRESS_EVERY_S = 3.0  #: Between two notes of how far a training is
Identity = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]


class RecordError(DiffusabError, ValueError):
    """A record that is not valid, with the file and the field that is wrong."""


class RunRecord(BaseModel):
    """One run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[2] = 2
    experiment: Name  #: What was run, e.g. ``"train-autoencoder"`` or ``"02_dct"`` for a chapter
    parameters: dict[str, Any]  #: Everything that was chosen, as plain JSON values
    seed: int  #: The seed every random stream was derived from
    size: Size
    metrics: dict[str, FiniteFloat]  #: Final numbers by name; the unit is part of it (``psnr_db``, ``wall_time_s``)
    series: dict[str, list[FiniteFloat]] = Field(default_factory=dict)  #: Curves by name
    data: Name  #: What the run saw, in words precise enough to repeat it
    device: Name  #: The machine in words, e.g. ``"cpu: x86_64, 2 cores"``
    versions: dict[str, str]  #: Package versions, of ``python``, ``torch`` and ``diffusab_core`` at least
    git_revision: str | None  #: Commit of the code, ``-dirty`` when the tree differed from it, ``None`` outside git
    wall_time_s: Annotated[float, Field(ge=0)]  #: Seconds from start to end
    started: datetime  #: ISO 8601 start time in UTC
    notes: str = ""  #: What a reader has to know to read the numbers rightly
    run_identity: Identity | None = None  #: Of a run of a notebook: what was asked for, see :attr:`identity`
    upgraded_from: Literal[1] | None = None  #: The schema it was written in, where that is an older one: older code

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, fields: Any) -> Any:
        # Schema 2 is schema 1 and the two fields above.
        if isinstance(fields, dict) and fields.get("schema_version") == 1:
            if new := fields.keys() & {"run_identity", "upgraded_from"}:
                raise ValueError(f"schema 1 has no {' or '.join(sorted(new))}")
            return fields | {"schema_version": 2, "upgraded_from": 1}
        return fields

    @field_validator("parameters")
    @classmethod
    def _json_parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(parameters, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"parameters must be plain JSON values: {error}") from error
        return parameters

    @property
    def identity(self) -> str:
        """12 hex digits of what was asked for, the same on any device and for any schema.

        Of a run of a notebook, ``run_identity``: notebook, the parameters that differ from its defaults, seed and size.
        Of any other: experiment, all parameters, seed and size.
        """
        if self.run_identity is not None:
            return self.run_identity
        chosen = {name: value for name, value in self.parameters.items() if name != "device"}
        return digest_json([self.experiment, chosen, self.seed, self.size])[:12]

    def write(self, path: str | os.PathLike) -> Path:
        """Write the record as JSON: a file under its final name is always a whole record."""
        return write_text(path, self.model_dump_json(indent=2) + "\n")


def read(path: str | os.PathLike) -> RunRecord:
    """Read one record; of one that is not valid, a :class:`RecordError` names the file and the first wrong field."""
    try:
        return RunRecord.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise RecordError(f"{path}: not a valid run record at {where}: {first['msg']}") from error


def by_arm(folder: str | os.PathLike) -> dict[str, list[RunRecord]]:
    """Records named ``ARM-seedK.json`` in a folder, by arm, each arm's runs in the order of their seeds.

    A :class:`RecordError` names a record that is broken, or whose name does not end with its own seed.
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
# Making one


class Run:
    """A run that has started: collect ``metrics``, ``series`` and ``notes``, then :meth:`finish` makes the record."""

    def __init__(
        self,
        experiment: str,
        *,
        parameters: dict[str, Any],
        seed: int,
        size: Size,
        data: str,
        device: str | torch.device = "cpu",
        run_identity: str | None = None,
    ) -> None:
        named = make_printable({"parameters": parameters, "data": data})  # places may be of any bytes
        chosen = {"experiment": experiment, "seed": seed, "size": size, **named}
        chosen["run_identity"] = run_identity
        where = {"device": _describe_device(device), "versions": _versions(), "git_revision": _git_revision()}
        self._fixed, self._clock = chosen | where | {"started": datetime.now(UTC)}, time.perf_counter()
        self.metrics: dict[str, float] = {}
        self.series: dict[str, list[float]] = {}
        self.notes: str = ""

    def finish(self) -> RunRecord:
        """The validated record; wall time runs from the start to here."""
        return RunRecord(
            **self._fixed,
            metrics={name: float(value) for name, value in self.metrics.items()},
            series={name: [float(v) for v in values] for name, values in self.series.items()},
            notes=printable(self.notes),
            wall_time_s=round(time.perf_counter() - self._clock, 3),
        )


#: The verb: ``records.start(...)`` starts the clock.
start = Run


def _describe_device(device: str | torch.device) -> str:
    """The device in words: the GPU's name, or the CPU's architecture and the number of cores this process may use."""
    import torch

    device = torch.device(device)
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return f"mps: {platform.machine()}"
    cores = count_cores()
    threads = torch.get_num_threads()
    return f"cpu: {platform.machine()}, {cores} cores, {threads} thread{'s' if threads > 1 else ''} used"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "diffusab_core": importlib.metadata.version("diffusab-core")}
    for package in ("torch", "diffusers", "numpy", "scipy", "scikit-image", "scikit-learn"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _git_revision() -> str | None:
    def git(*args: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # an installed package may lie in another's checkout
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


# ---------------------------------------------------------------------------------------------------------------------
# The folder of a run


@contextlib.contextmanager
def logs(folder: Path | None) -> Iterator[Callable[[int, dict[str, float]], None] | None]:
    """A function that writes scalars to TensorBoard's files in the folder's ``training/logs``.

    ``progress.json`` beside them says for others how far the training is, every few seconds: its ``step``, and the
    ``first`` of this process with the ``seconds`` since then.
    """
    if folder is None:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    place = folder / "training" / "logs"
    with SummaryWriter(str(place)) as writer:
        began: tuple[int, float] | None = None
        said = 0.0

        def log(step: int, values: dict[str, float]) -> None:
            nonlocal began, said
            for name, value in values.items():
                writer.add_scalar(name, value, step)
            now = time.monotonic()
            began = began or (step, now)
            if now - said >= PROGRESS_EVERY_S:
                about = {"step": step, "first": began[0], "seconds": round(now - began[1], 3)}
                write_json(place / "progress.json", about, alone=True)
                said = now

        yield log


def without_device(settings: Any) -> dict[str, Any]:
    """A dataclass of settings as what a run is: where it is computed may change, and is said by its record."""
    values = settings.as_values() if hasattr(settings, "as_values") else asdict(settings)
    return {name: value for name, value in values.items() if name != "device"}


def read_back(folder: Path | None, run: Run, name: str = "record.json") -> RunRecord | None:
    """The record of the run if a folder holds it finished; if another, a :class:`CheckpointError` names differences."""
    from diffusab_core.training.state import CheckpointError

    if folder is None or not (folder / name).is_file():
        return None
    record = read(folder / name)
    wanted = RunRecord.model_validate_json(run.finish().model_dump_json())  # tuples as lists
    if wanted.identity != record.identity:
        chosen = (record.parameters.keys() | wanted.parameters.keys()) - {"device"}
        different = differences(record.parameters, wanted.parameters, sorted(chosen)) or "another size"
        raise CheckpointError(
            f"{folder} holds a finished run with other settings ({different}); name another folder, or move it away"
        )
    return record
