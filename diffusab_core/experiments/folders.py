"""What the folders of runs have in common: TensorBoard's logs, and reading back what is finished."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diffusab_core.experiments import records
from diffusab_core.files import differences
from diffusab_core.training.state import CheckpointError


@contextlib.contextmanager
def logs(folder: Path | None) -> Iterator[Callable[[int, dict[str, float]], None] | None]:
    """A function that writes scalars to TensorBoard's files in the folder's ``training/logs``."""
    if folder is None:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "training" / "logs")) as writer:

        def log(step: int, values: dict[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield log


def without_device(settings: Any) -> dict[str, Any]:
    """A dataclass of settings as what a run is: where it is computed may change, and is said by its record."""
    chosen = asdict(settings)
    del chosen["device"]
    return chosen


def read_back(folder: Path, run: records.Run) -> records.RunRecord:
    """The record of the finished run in a folder, whatever device it ran on.

    Raises:
        CheckpointError: It is that of another run; the message names the differences.
    """
    record = records.read(folder / "record.json")
    wanted = records.RunRecord.model_validate_json(run.finish().model_dump_json())  # tuples as lists
    if wanted.identity != record.identity:
        chosen = wanted.parameters.keys() - {"device"}
        different = differences(record.parameters, wanted.parameters, sorted(chosen)) or "another size"
        raise CheckpointError(
            f"{folder} holds a finished run with other settings ({different}); name another folder, or move it away"
        )
    return record
