r"""Checkpoints of runs with any number of processes: a folder each, committed by one rename, checked by checksums.

Each process writes its own pieces of weights, optimiser state and average (``torch.distributed.checkpoint``) into
``step_00000123.tmp``; process 0 adds ``run.json`` with what the run is, how far it is and the checksum of every file,
and renames the folder to ``step_00000123``. A folder without ``.tmp`` is therefore whole, at whatever moment the run
was killed. Names are those of the state dict, not of processes, so that a run of eight processes can go on with one and
the reverse. All processes have to see the same folder.

Reading one runs code that it may contain (PyTorch pickles the index): resume your own checkpoints only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from diffusab_core.training import world as distributed
from diffusab_core.training.checkpoints import CheckpointError, Progress, check_same, first_line
from diffusab_core.training.world import World

KEPT = 2  # the newest, and the one before in case the newest gets damaged


@dataclass(frozen=True)
class ShardedStore:
    """Checkpoints in ``folder``, of all processes of ``world``; a :class:`~diffusab_core.training.CheckpointStore`.

    A damaged newest checkpoint is passed over with a warning that names it and the step that the run goes on from. What
    identifies a run has to be plain values, as JSON holds them.
    """

    folder: str | os.PathLike
    world: World = field(default_factory=World)

    def load(
        self, run: Mapping[str, Any], module: nn.Module, optimiser: torch.optim.Optimizer, ema: Mapping[str, Tensor]
    ) -> Progress | None:
        broken: list[str] = []
        for folder in distributed.from_main(_committed(Path(self.folder))[:KEPT], self.world):
            try:
                about = _read_whole(folder, self.world)
            except _Damaged as error:
                broken.append(f"{folder} cannot be read ({error})")
                continue
            check_same(folder, about["run"], json.loads(json.dumps(dict(run))))
            if broken and self.world.is_main:
                step = about["progress"]["step"]
                warnings.warn(f"{broken[0]}; going on from the one before it, at step {step}", stacklevel=2)
            _load_tensors(folder, module, optimiser, ema, self.world)
            return Progress(**about["progress"])
        if broken:
            raise CheckpointError(f"{'; '.join(broken)}; move it away to start anew")
        return None

    def save(
        self,
        run: Mapping[str, Any],
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        ema: Mapping[str, Tensor],
        progress: Progress,
    ) -> None:
        final = Path(self.folder) / f"step_{progress.step:08d}"
        partial = final.with_name(final.name + ".tmp")
        if self.world.is_main:
            _clear(Path(self.folder), final)
            partial.mkdir(parents=True)
        distributed.barrier(self.world)
        with _alone(self.world) as no_dist:
            writer = dcp.FileSystemWriter(partial)
            dcp.save(_tensors(module, optimiser, ema), storage_writer=writer, no_dist=no_dist)
        own = [f for f in partial.iterdir() if f.name.startswith(f"__{self.world.rank}_")]
        own += [partial / ".metadata"] if self.world.is_main else []
        sums = distributed.gather({f.name: _checksum(f) for f in own}, self.world)
        if self.world.is_main:
            about = {
                "run": dict(run),
                "progress": asdict(progress),
                "files": {k: v for s in sums for k, v in s.items()},
            }
            with (partial / "run.json").open("w") as stream:
                json.dump(about, stream)
                stream.flush()
                os.fsync(stream.fileno())
            _commit(partial, final)
        distributed.barrier(self.world)


# ---------------------------------------------------------------------------------------------------------------------
# Folders


def _committed(folder: Path) -> list[Path]:
    """Whole checkpoints, the newest first."""
    found = [f for f in folder.glob("step_*") if f.name.removeprefix("step_").isdigit()]
    return sorted(found, key=_step, reverse=True)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def _clear(folder: Path, final: Path) -> None:
    """Remove what killed saves left, and checkpoints from ``final`` on: a run that comes here passed them over."""
    for old in _committed(folder):
        if _step(old) >= _step(final):
            _remove(old)
    for old in folder.glob("step_*.tmp"):
        shutil.rmtree(old)


def _commit(partial: Path, final: Path) -> None:
    _sync(partial)
    partial.replace(final)
    _sync(final.parent)
    for old in _committed(final.parent)[KEPT:]:
        _remove(old)


def _remove(folder: Path) -> None:
    # Renamed first, so that what is half removed when the process is killed is not taken for a checkpoint.
    marked = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(marked, ignore_errors=True)
    folder.replace(marked)
    shutil.rmtree(marked)


def _sync(folder: Path) -> None:
    """Flush a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Damaged(Exception):
    """A checkpoint's files are not those that were written."""


def _read_whole(folder: Path, world: World) -> dict[str, Any]:
    """A checkpoint's ``run.json``, once all files are known to be whole; each process looks through some of them."""
    about: dict[str, Any] = {}
    wrong = ""
    try:
        about = json.loads((folder / "run.json").read_text())
        for name, wanted in sorted(about["files"].items())[world.rank :: world.size]:
            if _checksum(folder / name) != wanted:
                wrong = f"the checksum of {name} is wrong"
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:  # run.json may hold anything
        wrong = first_line(error)
    found = [one for one in distributed.gather(wrong, world) if one]
    if found:
        raise _Damaged(found[0])
    return about


# ---------------------------------------------------------------------------------------------------------------------
# Tensors


def _weights(module: nn.Module, ema: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": value for name, value in module.state_dict().items()} | {
        f"ema.{name}": value for name, value in ema.items()
    }


def _tensors(module: nn.Module, optimiser: torch.optim.Optimizer, ema: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All that is saved, by name. Parameters that never had a gradient have no optimiser state.

    PyTorch's ``get_optimizer_state_dict`` is not used: it makes up a first step for such parameters when loading, which
    the checkpoint then lacks.
    """
    return _weights(module, ema) | {
        f"optimiser.{name}.{key}": value
        for name, parameter in module.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


@torch.no_grad()
def _load_tensors(
    folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer, ema: Mapping[str, Tensor], world: World
) -> None:
    reader = dcp.FileSystemReader(folder)
    saved: dict[str, TensorStorageMetadata] = reader.read_metadata().state_dict_metadata
    wanted = _weights(module, ema)
    optimised = {id(p) for group in optimiser.param_groups for p in group["params"]}
    for name, parameter in module.named_parameters():
        if id(parameter) not in optimised:
            continue
        prefix = f"optimiser.{name}."
        keys = [key.removeprefix(prefix) for key in saved if key.startswith(prefix) and "." not in key[len(prefix) :]]
        state = {key: _empty(saved[prefix + key], parameter) for key in keys}
        if state:
            optimiser.state[parameter] = state
            wanted |= {prefix + key: value for key, value in state.items()}
    for name in sorted(saved.keys() | wanted.keys()):
        there = tuple(saved[name].size) if name in saved else None
        here = tuple(wanted[name].shape) if name in wanted else None
        if there != here:
            raise CheckpointError(f"{folder} is of another model: the shape of {name} is {there} there and {here} here")
    with _alone(world) as no_dist:
        dcp.load(wanted, storage_reader=reader, no_dist=no_dist)


@contextmanager
def _alone(world: World) -> Iterator[bool]:
    """Whether there is one process only, of which PyTorch's warning then says nothing new."""
    with warnings.catch_warnings():
        if world.size == 1:
            warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        yield world.size == 1


def _empty(saved: TensorStorageMetadata, parameter: nn.Parameter) -> Tensor:
    """Room for one entry of the optimiser's state: sharded as its parameter is, or a count of steps on the CPU."""
    if saved.size == parameter.shape and parameter.ndim:
        return torch.zeros_like(parameter, dtype=saved.properties.dtype)
    return torch.zeros(saved.size, dtype=saved.properties.dtype)
