r"""Full runs: what one is, where it lies, and doing it once.

A run is a notebook with its parameters, a seed and a size; its *identity* is 12 hex digits of these. It lies in the
store, ``runs/NOTEBOOK/IDENTITY/``: ``run.json`` (what it is, written first), ``log.txt``, ``NOTEBOOK.ipynb`` (executed,
partial when it failed), weights, ``checkpoints/``, and ``record.json`` (written last: the sign that all is there).

A parameter may name another run of the same store, ``run:NOTEBOOK/IDENTITY``; :func:`place` makes a folder of it.

Nothing here imports torch, so that a finished run is read back at once.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from diffusab_book import chapters, locks
from diffusab_core.experiments import records
from diffusab_core.experiments.records import RunRecord
from diffusab_core.files import DiffusabError, digest_file, write_json

ROOT = Path("runs")  #: The store, in the working directory
REFERENCE = "run:"
#: What torchrun calls before the notebook: a function of ``(parameters, folder, world, size)``.
TRAINERS = {"denoiser": "diffusab_core.experiments.trial:train_in"}


class RunError(DiffusabError, RuntimeError):
    """A run that cannot start, or a reference to one that is not finished."""


@dataclass(frozen=True)
class RunSpec:
    """What a run is. Make one with :meth:`resolve`, which checks it."""

    notebook: str  #: Its name, such as ``"denoiser"`` or ``"02_dct"``
    size: str
    seed: int
    parameters: Mapping[str, Any] = field(default_factory=dict)  #: Those that differ from the notebook's defaults
    path: Path = field(default=Path(), compare=False)  #: The notebook's text file

    @classmethod
    def resolve(
        cls,
        notebook: str | int,
        size: str = "laptop",
        seed: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        folder: Path | None = None,
    ) -> RunSpec:
        """The run of a notebook at a size, with these parameters instead of the preset's.

        Args:
            notebook: Name, or a chapter's number.
            seed: ``None``: the preset's or the notebook's own.
            parameters: By name; those that say where and not what (:data:`diffusab_book.chapters.WHERE`) are refused.
            folder: Of the notebooks; ``None``: the book's.

        Raises:
            FileNotFoundError: There is no such notebook.
            ParameterError: An unknown size, an unknown name, or a value of the wrong type.
        """
        path = chapters.find(notebook, folder)
        declared = chapters.parameters(path)
        given = dict(parameters or {})
        if wrong := given.keys() & {*chapters.WHERE, "size"}:
            name = sorted(wrong)[0]
            raise chapters.ParameterError(f"parameter {name!r} is {given[name]!r}, and is no part of what a run is")
        values = chapters.preset(path, size) | chapters.check(declared, given)
        own = declared["seed"].default if "seed" in declared else 0
        seed = values.get("seed", own) if seed is None else declared["seed"].check(seed) if "seed" in declared else seed
        return cls(path.stem, size, seed, chapters.chosen(declared, values), path)

    @classmethod
    def read(cls, folder: str | os.PathLike, notebooks: Path | None = None) -> RunSpec:
        """What the ``run.json`` of a folder says; a :class:`RunError` for a file that is none."""
        file = Path(folder) / "run.json"
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            name, size, seed, values = (found[key] for key in ("notebook", "size", "seed", "parameters"))
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file}: not the description of a run ({error!r})") from error
        path = chapters.find(name, notebooks)
        chapters.check(path, values)
        return cls(name, size, seed, values, path)

    @property
    def identity(self) -> str:
        """12 hex digits, see :func:`diffusab_book.chapters.identity`."""
        return chapters.identity(self.notebook, self.parameters, self.seed, self.size)

    @property
    def reference(self) -> str:
        """How a parameter of another run names this one."""
        return f"{REFERENCE}{self.notebook}/{self.identity}"

    @property
    def needs(self) -> tuple[str, ...]:
        """References to the runs that have to be finished before this one."""
        values = [v for value in self.parameters.values() for v in (value if isinstance(value, list) else [value])]
        return tuple(dict.fromkeys(v for v in values if isinstance(v, str) and v.startswith(REFERENCE)))

    def folder(self, root: str | os.PathLike = ROOT) -> Path:
        """Where it lies in a store."""
        return Path(root) / self.notebook / self.identity

    def arguments(self) -> list[str]:
        """Of ``diffusab run``, that ask for this run."""
        declared = chapters.parameters(self.path)
        wanted = {name: self.parameters.get(name, p.check(p.default)) for name, p in declared.items()}
        without = {name: p.check(p.default) for name, p in declared.items()} | chapters.preset(self.path, self.size)
        words = [self.notebook, "--size", self.size, "--seed", str(self.seed)]
        for name, value in wanted.items():
            if name not in (*chapters.WHERE, "size", "seed") and value != without[name]:
                words += ["-p", name, value if isinstance(value, str) else json.dumps(value)]
        return words

    @property
    def command(self) -> str:
        """The command that makes it, as one types it."""
        return shlex.join(["diffusab", "run", *self.arguments()])


# ---------------------------------------------------------------------------------------------------------------------
# What lies in a store


def finished(folder: str | os.PathLike) -> RunRecord | None:
    """The record of a run, if it is finished; a :class:`RecordError` of one that is damaged.

    A record without an identity is not yet the run's: what a notebook calls may leave one of its own on the way.
    """
    file = Path(folder) / "record.json"
    if not file.is_file():
        return None
    record = records.read(file)
    if record.run_identity is None:
        return None
    if record.run_identity != file.parent.name:
        raise RunError(f"{file} is the record of {record.run_identity}; move it away, or name another --root")
    return record


def store_of(folder: str | os.PathLike) -> Path:
    """The store that a run's folder lies in; ``runs`` for any other folder."""
    folder = Path(folder).absolute()
    return folder.parent.parent if re.fullmatch("[0-9a-f]{12}", folder.name) else ROOT


def place(value: str, folder: str | os.PathLike = "") -> str:
    """The folder of the run that ``run:NOTEBOOK/IDENTITY`` names; any other value as it is.

    Args:
        value: A parameter of a run.
        folder: That run's own folder, whose store is looked in; another or empty: ``runs`` in the working directory.

    Raises:
        RunError: The run is not finished; the message has the command that makes it.
    """
    if not value.startswith(REFERENCE):
        return value
    there = store_of(folder) / value.removeprefix(REFERENCE)
    if not re.fullmatch(r"run:[\w-]+/[0-9a-f]{12}", value):
        raise RunError(f"{value!r} is no reference to a run, which is written run:NOTEBOOK/IDENTITY")
    if finished(there) is None:
        if not (there / "run.json").is_file():
            raise RunError(
                f"{value} is not in {there.parent.parent}: run the sweep that it is part of, or name its --root"
            )
        raise RunError(f"{value} is not finished; it is made by: {RunSpec.read(there).command}")
    return str(there)


# ---------------------------------------------------------------------------------------------------------------------
# Doing it


def execute(
    spec: RunSpec,
    root: str | os.PathLike = ROOT,
    *,
    force: bool = False,
    wait: bool = True,
    where: Mapping[str, Any] | None = None,
    nproc: int | None = None,
    progress: bool = True,
) -> RunRecord:
    """The record of a run, which is done if it is not done yet.

    What is finished is read back. What was cut off goes on from its own checkpoints, in the same folder. Two processes
    that ask for the same run do it once.

    Args:
        root: The store.
        force: Do it again from the start; what was there is removed.
        wait: For another process that is doing it; ``False``: a :class:`RunError` says who that is.
        where: Parameters such as ``device`` and ``workers``, instead of the preset's.
        nproc: Processes for each machine; torchrun trains with them before the notebook judges. Within a Slurm job of
            several nodes, srun starts torchrun on each. ``None``: the notebook trains, in one process.

    Raises:
        RunError: A run that this one refers to is not finished, or torchrun failed.
        ChapterFailed: The notebook failed; the message names the partial notebook.
    """
    folder = spec.folder(root)
    if not force and (record := finished(folder)):
        return record
    where = chapters.preset(spec.path, spec.size) | chapters.check(spec.path, dict(where or {}))
    where = {name: value for name, value in where.items() if name in chapters.WHERE}
    many = nproc is not None and nproc * _nodes() > 1
    if many and spec.notebook not in TRAINERS:
        raise RunError(f"{spec.notebook} trains in one process only; several can train {', '.join(TRAINERS)}")
    for reference in spec.needs:
        place(reference, folder)
    with locks.alone(folder / ".lock", wait, f"{spec.notebook}/{spec.identity}") as lock:
        os.close(locks.hold(folder))  # the kernel of a driver that was killed lives for a second or two
        if force:
            (folder / "record.json").unlink(missing_ok=True)  # first: what is half removed must not pass for done
            for old in folder.iterdir():
                if old.name not in (".lock", ".kernel"):
                    shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        elif record := finished(folder):
            return record
        _begin(spec, folder)
        if many:
            _train(spec, folder, nproc, where, lock)
        values = {**spec.parameters, "size": spec.size, "seed": spec.seed, **where}
        record = chapters.run(spec.path, values, folder, progress=progress)
        if record.run_identity != spec.identity:
            (folder / "record.json").unlink()
            wrote = f"{spec.notebook} wrote the record of {record.run_identity} instead of {spec.identity}"
            raise RunError(f"{wrote}: {spec.path} changes its parameters")
    return record


def _begin(spec: RunSpec, folder: Path) -> None:
    """Say what the run is, and begin an attempt in its log."""
    what = {
        "notebook": spec.notebook, "size": spec.size, "seed": spec.seed, "parameters": dict(spec.parameters),
        "identity": spec.identity, "source": digest_file(spec.path)[:12],
    }  # fmt: skip
    write_json(folder / "run.json", what, alone=True)
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
        log.write(f"\n=== {now}: {spec.command}\n=== process {os.getpid()} on {socket.gethostname()}\n")


def source_changed(spec: RunSpec, folder: Path) -> bool:
    """Whether the notebook's text has changed since the run in this folder began; what it calls may have, too."""
    try:
        source = json.loads((folder / "run.json").read_text(encoding="utf-8")).get("source")
    except (OSError, ValueError, AttributeError):
        return False
    return source != digest_file(spec.path)[:12]


# ---------------------------------------------------------------------------------------------------------------------
# Several processes


def _nodes() -> int:
    """How many machines the Slurm job that this is in has."""
    return int(os.environ.get("SLURM_JOB_NUM_NODES", os.environ.get("SLURM_NNODES", "1")))


def launcher(nproc: int, nodes: int = 1) -> list[str]:
    """The command before ``-m MODULE`` that starts ``nproc`` processes on each of the nodes of this Slurm job."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(nproc), "--max-restarts", "3"]
    if nodes == 1:
        return [*torchrun, "--standalone"]
    # The job's number spreads the ports of jobs that share a machine.
    port = 20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20000
    host = os.environ.get("SLURM_LAUNCH_NODE_IPADDR") or socket.gethostname()
    meeting = ["--nnodes", str(nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{host}:{port}"]
    meeting += ["--rdzv-id", os.environ.get("SLURM_JOB_ID", "0")]
    # Overlapping, since this process may be a step of the job already, which holds all of it.
    srun = ["srun", "--overlap", "--kill-on-bad-exit=1"]
    srun += ["--nodes", str(nodes), "--ntasks", str(nodes), "--ntasks-per-node", "1"]
    return [*srun, *torchrun, *meeting]


def _train(spec: RunSpec, folder: Path, nproc: int, where: Mapping[str, Any], lock: int) -> None:
    """Let torchrun train; what it prints goes to the end of the run's log."""
    command = [*launcher(nproc, _nodes()), "-m", "diffusab_book.runs", str(folder.absolute())]
    command += [str(where.get("device", "auto"))]
    # Without the variable a restart of a killed process can wait for ever for the store of the dead one.
    environment = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1", "TQDM_MININTERVAL": "10"}
    environment |= os.environ
    with (folder / "log.txt").open("ab") as log:
        # The lock is inherited: while torchrun lives, the run is being run, even when this process is killed.
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            **({} if sys.platform == "win32" else {"pass_fds": (lock,), "preexec_fn": _die_with_parent}),
        )
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if status:
        raise RunError(
            f"torchrun ended with status {status} while it trained {spec.notebook}; see {folder / 'log.txt'}"
        )


def _die_with_parent() -> None:
    """In the child: ask Linux for SIGTERM when the parent ends, so that torchrun ends its processes."""
    if sys.platform == "linux":
        import ctypes

        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _trained_by(spec: RunSpec) -> Any:
    import importlib

    module, _, name = TRAINERS[spec.notebook].partition(":")
    return getattr(importlib.import_module(module), name)


def train(folder: Path, device: str) -> None:
    """What every process of torchrun does: train the run that lies in this folder."""
    from diffusab_core.training.world import world

    spec = RunSpec.read(folder)
    declared = chapters.parameters(spec.path)
    values = {name: spec.parameters.get(name, p.check(p.default)) for name, p in declared.items()}
    values = {name: value for name, value in values.items() if name not in (*chapters.WHERE, "size")}
    values = {name: place(v, folder) if isinstance(v, str) else v for name, v in values.items()} | {"seed": spec.seed}
    with world(device) as processes:
        _trained_by(spec)(values, folder, processes, spec.size)


if __name__ == "__main__":
    train(Path(sys.argv[1]), sys.argv[2])
