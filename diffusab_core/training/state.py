r"""Checkpoints of a run: a folder each, committed by one rename, checked by checksums, of any number of processes.

Each process writes its own pieces of weights, optimiser state and average (``torch.distributed.checkpoint``) into
``step_00000123.tmp``; process 0 adds ``run.json`` with what the run is, how far it is and the checksum of every file,
and renames the folder to ``step_00000123``. A folder without ``.tmp`` is therefore whole, at whatever moment the run
was killed. Names are those of the state dict, not of processes, so that a run of eight processes can go on with one and
the reverse. All processes have to see the same folder.

Reading one runs code that it may contain (PyTorch pickles the index): resume your own checkpoints only.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.optim import Optimizer

from diffusab_core import files
from diffusab_core.files import DiffusabError, first_line
from diffusab_core.training.world import World, barrier, from_main, gather

KEPT = 2  # the newest, and the one before in case the newest gets damaged


class CheckpointError(DiffusabError, ValueError):
    """A checkpoint that cannot be read or belongs to another run."""


@dataclass(frozen=True)
class Store:
    """Where a run saves to and resumes from. Every process of the run calls both methods.

    Attributes:
        folder: Of the checkpoints, the last :data:`KEPT` of them.
        run: What the run is, plain values as JSON holds them; a checkpoint of another run is refused.
        world: All processes of the run.
    """

    folder: Path
    run: Mapping[str, Any]
    world: World

    def load(self, module: nn.Module, optimiser: Optimizer, ema: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """Put the newest whole checkpoint into module, optimiser and average, in place; returns its progress.

        A damaged newest one is passed over with a warning that names it and the step that the run goes on from.
        Returns ``None`` and changes nothing when there is no checkpoint at all.

        Raises:
            CheckpointError: None of those there can be read, or they belong to another run.
        """
        broken: list[str] = []
        for folder in from_main(_committed(self.folder)[:KEPT], self.world):
            about, wrong = _read_whole(folder, self.world)
            if wrong:
                broken.append(f"{folder} cannot be read ({wrong})")
                continue
            if different := files.differences(about["run"], json.loads(json.dumps(dict(self.run)))):
                raise CheckpointError(
                    f"{folder} belongs to a run with other settings ({different}); repeat the same settings to resume "
                    "it, or name another place to start anew"
                )
            progress = about["progress"]
            if broken and self.world.is_main:
                last = f"{broken[0]}; going on from the one before it, at step {progress['step']}"
                warnings.warn(last, stacklevel=2)
            _load_tensors(folder, module, optimiser, ema, self.world)
            return progress
        if broken:
            raise CheckpointError(f"{'; '.join(broken)}; move it away to start anew")
        return None

    def save(self, module: nn.Module, optimiser: Optimizer, ema: Mapping[str, Tensor], progress: dict) -> None:
        """Add a checkpoint; one that was there stays until this one is whole.

        Args:
            module: May be sharded; so may be the others.
            optimiser: Of the module.
            ema: Averaged weights by name.
            progress: Plain values to be given back by :meth:`load`, among them the ``step``.
        """
        final = self.folder / f"step_{progress['step']:08d}"
        partial = final.with_name(final.name + ".tmp")
        if self.world.is_main:
            _clear(self.folder, progress["step"])
            partial.mkdir(parents=True)
        barrier(self.world)
        with _alone(self.world) as no_dist:
            writer = dcp.FileSystemWriter(partial)
            dcp.save(_tensors(module, optimiser, ema), storage_writer=writer, no_dist=no_dist)
        own = [f for f in partial.iterdir() if f.name.startswith(f"__{self.world.rank}_")]
        own += [partial / ".metadata"] if self.world.is_main else []
        sums = gather({f.name: files.digest_file(f) for f in own}, self.world)
        if self.world.is_main:
            about = {"run": dict(self.run), "progress": progress, "files": {k: v for s in sums for k, v in s.items()}}
            files.write_text(partial / "run.json", json.dumps(about))  # not write_json: a curve may hold NaN
            _commit(partial, final)
        barrier(self.world)


# ---------------------------------------------------------------------------------------------------------------------
# Folders


def _committed(folder: Path) -> list[Path]:
    """Whole checkpoints, the newest first."""
    found = [f for f in folder.glob("step_*") if f.name.removeprefix("step_").isdigit()]
    return sorted(found, key=_step, reverse=True)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def _clear(folder: Path, step: int) -> None:
    """Remove what killed saves left, and checkpoints from ``step`` on: a run that comes here passed them over."""
    for old in _committed(folder):
        if _step(old) >= step:
            _remove(old)
    for old in folder.glob("step_*.tmp"):
        shutil.rmtree(old)


def _commit(partial: Path, final: Path) -> None:
    files.flush(partial)
    partial.replace(final)
    files.flush(final.parent)
    for old in _committed(final.parent)[KEPT:]:
        _remove(old)


def _remove(folder: Path) -> None:
    # Renamed first, so that what is half removed when the process is killed is not taken for a checkpoint.
    marked = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(marked, ignore_errors=True)
    folder.replace(marked)
    shutil.rmtree(marked)


def _read_whole(folder: Path, world: World) -> tuple[dict[str, Any], str]:
    """A checkpoint's ``run.json``, and what is wrong with its files; each process looks through some of them."""
    about: dict[str, Any] = {}
    wrong = ""
    try:
        about = json.loads((folder / "run.json").read_text())
        for name, wanted in sorted(about["files"].items())[world.rank :: world.size]:
            if files.digest_file(folder / name) != wanted:
                wrong = f"the checksum of {name} is wrong"
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:  # run.json may hold anything
        wrong = first_line(error)
    return about, next((one for one in gather(wrong, world) if one), "")


# ---------------------------------------------------------------------------------------------------------------------
# Tensors


def _weights(module: nn.Module, ema: Mapping[str, Tensor]) -> dict[str, Tensor]:
    whole = {f"module.{name}": value for name, value in module.state_dict().items()}
    return whole | {f"ema.{name}": value for name, value in ema.items()}


def _tensors(module: nn.Module, optimiser: Optimizer, ema: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
    folder: Path, module: nn.Module, optimiser: Optimizer, ema: Mapping[str, Tensor], world: World
) -> None:
    reader = dcp.FileSystemReader(folder)
    saved: dict[str, TensorStorageMetadata] = reader.read_metadata().state_dict_metadata
    wanted = _weights(module, ema)
    optimised = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    for name, parameter in module.named_parameters():
        if id(parameter) not in optimised:
            continue
        prefix = f"optimiser.{name}."
        keys = [key.removeprefix(prefix) for key in saved if key.startswith(prefix) and "." not in key[len(prefix) :]]
        on_device = bool(optimised[id(parameter)].get("fused"))
        state = {key: _empty(saved[prefix + key], parameter, on_device) for key in keys}
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


def _empty(saved: TensorStorageMetadata, parameter: nn.Parameter, on_device: bool) -> Tensor:
    """Room for one entry of the optimiser's state: sharded as its parameter is, or its count of steps."""
    if saved.size == parameter.shape and parameter.ndim:
        return torch.zeros_like(parameter, dtype=saved.properties.dtype)
    return torch.zeros(saved.size, dtype=saved.properties.dtype, device=parameter.device if on_device else "cpu")
