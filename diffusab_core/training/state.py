"""Checkpoints of a run: a folder each, committed by one rename, checked by checksums, of any number of processes.

Each process writes its own pieces of weights, optimiser state and average (``torch.distributed.checkpoint``) into
``step_00000123.tmp``; process 0 adds ``run.json`` with what the run is, how far it is and the checksum of every file,
and renames the folder to ``step_00000123``. A folder without ``.tmp`` is therefore whole, at whatever moment the run
was killed. Names are those of the state dict, so that a run of eight processes can go on with one and the reverse. All
have to see the same folder. Reading one runs code that it may contain (PyTorch pickles the index): resume only yours.
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
from torch.optim import AdamW

from diffusab_core import files
from diffusab_core.files import DiffusabError, DiffusabWarning, first_line
from diffusab_core.training.world import World, barrier, from_main, gather, sole_world

KEPT = 2  # the newest, and the one before in case the newest gets damaged


class CheckpointError(DiffusabError, ValueError):
    """A checkpoint that cannot be read or belongs to another run."""


@dataclass(frozen=True)
class Store:
    """Where a run saves to and resumes from; every process of the run calls both methods.

    The folder keeps the last :data:`KEPT` checkpoints. ``run`` is what the run is, in plain values.
    """

    folder: Path
    run: Mapping[str, Any]
    world: World

    @contextmanager
    def sole(self) -> Iterator[None]:
        """While no other run saves to the folder; a :class:`CheckpointError` where one goes on to.

        Two at once would remove each other's checkpoints: each takes those beyond its own step for damaged ones.
        """
        refusal = CheckpointError(f"another process trains in {self.folder}: let it end, or name another place")
        with sole_world(self.folder, refusal, self.world):
            yield

    def load(self, module: nn.Module, optimiser: AdamW, ema: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """Put the newest whole checkpoint into module, optimiser and average; returns its progress, if there is one.

        A damaged one is passed over with a warning; a :class:`CheckpointError` if all are, or are another run's.
        """
        broken: list[str] = []
        for folder in from_main(_committed(self.folder)[:KEPT], self.world):
            about, wrong = _read_whole(folder, self.world)
            if wrong:
                broken.append(f"{folder} cannot be read ({wrong})")
                continue
            if different := files.differences(about["run"], json.loads(json.dumps(dict(self.run)))):
                advice = "repeat the same settings to resume it, or name another place to start anew"
                raise CheckpointError(f"{folder} belongs to a run with other settings ({different}); {advice}")
            if broken and self.world.is_main:
                last = f"{broken[0]}; going on from the one before it, at step {about['progress']['step']}"
                warnings.warn(last, DiffusabWarning, stacklevel=2)
            _load_tensors(folder, module, optimiser, ema, self.world)
            return about["progress"]
        if broken:
            raise CheckpointError(f"{'; '.join(broken)}; move it away to start anew")
        return None

    def save(self, module: nn.Module, optimiser: AdamW, ema: Mapping[str, Tensor], progress: dict) -> None:
        """Add a checkpoint. ``progress``, which :meth:`load` gives back, are plain values, among them the ``step``."""
        final = self.folder / f"step_{progress['step']:08d}"
        partial = final.with_name(final.name + ".tmp")
        if self.world.is_main:
            # What killed saves left, and checkpoints from this one on: a run that comes here passed them over.
            for old in [folder for folder in _committed(self.folder) if folder.name >= final.name]:
                _remove(old)
            for old in self.folder.glob("step_*.tmp"):
                shutil.rmtree(old)
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


def _committed(folder: Path) -> list[Path]:
    """Whole checkpoints, the newest first."""
    return sorted((f for f in folder.glob("step_*") if f.name.removeprefix("step_").isdigit()), reverse=True)


def _commit(partial: Path, final: Path) -> None:
    files.flush(partial)
    partial.replace(final)
    files.flush(final.parent)
    for old in _committed(final.parent)[KEPT:]:
        _remove(old)


def _remove(folder: Path) -> None:
    marked = folder.with_name(folder.name + ".tmp")  # else what is half removed could be taken for a checkpoint
    shutil.rmtree(marked, ignore_errors=True)
    folder.replace(marked)
    shutil.rmtree(marked)


def _read_whole(folder: Path, world: World) -> tuple[dict[str, Any], str]:
    """A checkpoint's ``run.json``, and what is wrong with its files; each process looks through some of them."""
    about, wrong = {}, ""
    try:
        about = json.loads((folder / "run.json").read_text())
        for name, wanted in sorted(about["files"].items())[world.rank :: world.size]:
            if files.digest_file(folder / name) != wanted:
                wrong = f"the checksum of {name} is wrong"
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:  # run.json may hold anything
        wrong = first_line(error)
    return about, next(filter(None, gather(wrong, world)), "")


def _tensors(module: nn.Module, optimiser: AdamW, ema: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All that is saved, by name. Parameters that never had a gradient have no optimiser state.

    PyTorch's ``get_optimizer_state_dict`` would make up a first step for them when loading, which the checkpoint lacks.
    """
    named = {f"module.{name}": value for name, value in module.state_dict().items()}
    named |= {f"ema.{name}": value for name, value in ema.items()}
    for name, parameter in module.named_parameters():
        named |= {f"optimiser.{name}.{key}": value for key, value in optimiser.state.get(parameter, {}).items()}
    return named


@torch.no_grad()
def _load_tensors(folder: Path, module: nn.Module, optimiser: AdamW, ema: Mapping[str, Tensor], world: World) -> None:
    reader = dcp.FileSystemReader(folder)
    saved = reader.read_metadata().state_dict_metadata
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and f"optimiser.{name}.step" in saved:
            step = torch.zeros((), device=parameter.device if optimiser.defaults["fused"] else "cpu")
            averages = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
            optimiser.state[parameter] = {"step": step, **averages}
    wanted = _tensors(module, optimiser, ema)
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
