r"""Checkpoints that survive being killed: written whole or not at all, the one before kept, tied to their run.

A :class:`CheckpointStore` is where a training run puts them: :class:`FileStore` is one file, of one process;
:class:`diffusab_core.training.sharded_checkpoints.ShardedStore` is a folder, of any number of processes.

In a file, a checkpoint is a dictionary of tensors and plain values. It is written beside its final name, flushed to the
disk and renamed; the checkpoint that was there becomes ``NAME.previous``. So at every moment at least one whole
checkpoint is on the disk, and a file that was damaged afterwards costs the steps between two checkpoints and not the
run.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or belongs to another run."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, beside its weights: steps done, curves, snapshots and wall time in seconds."""

    step: int
    series: dict[str, list[float]]
    snapshots: list[dict[str, Any]]
    wall_time_s: float


class CheckpointStore(Protocol):
    """Where a training run saves to and resumes from. Every process of the run calls both methods."""

    def load(
        self, run: Mapping[str, Any], module: nn.Module, optimiser: torch.optim.Optimizer, ema: Mapping[str, Tensor]
    ) -> Progress | None:
        """Put the newest whole checkpoint of a run into module, optimiser and average, in place.

        Returns ``None`` and changes nothing when there is no checkpoint at all.

        Raises:
            CheckpointError: None of those there can be read, or they belong to another run.
        """

    def save(
        self,
        run: Mapping[str, Any],
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        ema: Mapping[str, Tensor],
        progress: Progress,
    ) -> None:
        """Add a checkpoint; one that was there stays until this one is whole."""


@dataclass(frozen=True)
class FileStore:
    """One file at ``path``, and the one before it; for one process whose module is not sharded."""

    path: str | os.PathLike

    def load(
        self, run: Mapping[str, Any], module: nn.Module, optimiser: torch.optim.Optimizer, ema: Mapping[str, Tensor]
    ) -> Progress | None:
        state = load_checkpoint(self.path, run)
        if state is None:
            return None
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        for name, value in state["ema"].items():
            ema[name].copy_(value)
        return Progress(state["step"], state["series"], state["snapshots"], state["wall_time_s"])

    def save(
        self,
        run: Mapping[str, Any],
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        ema: Mapping[str, Tensor],
        progress: Progress,
    ) -> None:
        weights = {"module": module.state_dict(), "optimiser": optimiser.state_dict(), "ema": dict(ema)}
        save_checkpoint(self.path, {"run": dict(run), **weights, **asdict(progress)})


def previous(path: str | os.PathLike) -> Path:
    """Where the checkpoint before the newest one lies."""
    path = Path(path)
    return path.with_name(path.name + ".previous")


def save_checkpoint(path: str | os.PathLike, state: Mapping[str, Any]) -> None:
    """Write a checkpoint so that a file under the final name is always whole, and keep the one that was there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as stream:
            torch.save(dict(state), stream)
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            path.replace(previous(path))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: str | os.PathLike, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """The newest whole checkpoint of a run, or ``None`` when there is none at all.

    A damaged newest checkpoint is passed over with a warning that names it and the step that the run goes on from.

    Args:
        path: Where the newest one lies.
        run: What the run is, plain values; has to equal what :func:`save_checkpoint` was given under ``"run"``.

    Raises:
        CheckpointError: None of those on the disk can be read, or the run differs; the message names every difference.
    """
    path = Path(path)
    broken: list[str] = []
    for candidate in (path, previous(path)):
        if not candidate.exists():
            continue
        try:
            _check_whole(candidate)
            state = torch.load(candidate, map_location="cpu", weights_only=True)
            step, saved = state["step"], state["run"]
        except Exception as error:  # a damaged archive raises anything from RuntimeError to UnpicklingError
            broken.append(f"{candidate} cannot be read ({first_line(error)})")
            continue
        check_same(candidate, saved, run)
        if broken:
            warnings.warn(f"{broken[0]}; going on from the one before it, at step {step}", stacklevel=2)
        return state
    if broken:
        raise CheckpointError(f"{'; '.join(broken)}; move it away to start anew")
    return None


def _check_whole(path: Path) -> None:
    # torch.load finds a truncated archive, but not changed bytes inside a tensor: it does not compare checksums.
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")


def check_same(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another run, naming every difference."""
    different = [
        f"{key} {saved.get(key)!r} -> {wanted.get(key)!r}"
        for key in sorted(saved.keys() | wanted.keys())
        if saved.get(key) != wanted.get(key)
    ]
    if different:
        raise CheckpointError(
            f"{path} belongs to a run with other settings ({'; '.join(different)}); repeat the same settings to resume "
            "it, or name another place to start anew"
        )


def first_line(error: Exception) -> str:
    """An error in one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:120]}" if text else type(error).__name__
