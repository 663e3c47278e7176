r"""Chapters as things that run: finding them, checking parameters, executing, what their checkpoints print.

A chapter is a ``py:percent`` text file ``notebooks/NN_name.py``. Its cell tagged ``parameters`` holds annotated
assignments of plain values; a *size* (``smoke``, ``laptop``, ``gpu``, ``paper``) is a file of values for them in
``notebooks/presets/NN_name/``. The name of a parameter and its type are checked before anything runs.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml
from pydantic import TypeAdapter, ValidationError

from diffusab_core.experiments import records
from diffusab_core.experiments.records import SIZES, Run, RunRecord
from diffusab_core.files import DiffusabError

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CHECKPOINT_TAG = "checkpoint"

#: glibc gives memory back to the system after every large tensor and asks for it again for the next; keeping it cut a
#: chapter's system time by five sixths. Read by a process when it starts, so it is set before kernels are started.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}

_TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list[int]": list[int], "list[float]": list[float],
          "list[str]": list[str]}  # fmt: skip


class ParameterError(DiffusabError, ValueError):
    """A parameter that the chapter does not have, or a value of the wrong type."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: annotation = default``."""

    name: str
    annotation: str
    default: Any

    def check(self, value: Any) -> Any:
        """The value, if it has the annotated type (an int serves as a float); else a :class:`ParameterError`."""
        try:
            return TypeAdapter(_TYPES[self.annotation]).validate_python(value, strict=True)
        except ValidationError as error:
            raise ParameterError(f"parameter {self.name!r} is {value!r}, which is no {self.annotation}") from error


def find(chapter: str | int, folder: Path = NOTEBOOKS) -> Path:
    """The chapter's file, from its number (``2``, ``"02"``) or name (``"02_dct"``).

    Raises:
        FileNotFoundError: There is none; the message lists those there are.
    """
    key = str(chapter)
    key = f"{int(key):02d}" if key.isdigit() else key.removesuffix(".py")
    there = sorted(folder.glob("[0-9][0-9]_*.py"))
    for path in there:
        if key in (path.stem, path.stem[:2]):
            return path
    raise FileNotFoundError(f"no chapter {chapter!r} in {folder}; there are {', '.join(p.stem for p in there)}")


def _tagged(notebook: nbformat.NotebookNode, tag: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def parameters(notebook: nbformat.NotebookNode) -> dict[str, Parameter]:
    """What the parameters cell declares, by name.

    Raises:
        ParameterError: There is no such cell, or a line of it is not ``name: type = plain value``.
    """
    cells = _tagged(notebook, "parameters")
    if not cells:
        raise ParameterError("the chapter has no cell tagged 'parameters'")
    found = {}
    for node in ast.parse(cells[0].source).body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
            raise ParameterError(f"parameters cell: {ast.unparse(node)!r} is not of the form name: type = value")
        annotation = ast.unparse(node.annotation)
        if annotation not in _TYPES:
            raise ParameterError(f"parameter {node.target.id!r} has type {annotation}; use one of {', '.join(_TYPES)}")
        found[node.target.id] = Parameter(node.target.id, annotation, ast.literal_eval(node.value))
    return found


def check(notebook: nbformat.NotebookNode, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, each known to the chapter and of its type.

    Raises:
        ParameterError: Otherwise. papermill alone only logs unknown names, and the run would use the default.
    """
    declared = parameters(notebook)
    unknown = values.keys() - declared.keys()
    if unknown:
        raise ParameterError(f"no parameter {sorted(unknown)[0]!r}; the chapter has {', '.join(declared)}")
    return {name: declared[name].check(value) for name, value in values.items()}


# ---------------------------------------------------------------------------------------------------------------------
# From inside a chapter


def start(chapter: str, namespace: Mapping[str, Any], data: str, device: str = "cpu") -> Run:
    """Start the chapter's run record with the parameters it runs with; :func:`finish` is the other end.

    Args:
        chapter: The notebook's name, such as ``"06_scale_equivariance"``.
        namespace: ``globals()`` of the notebook: the present values of what its parameters cell declares. ``size`` and
            ``seed`` are fields of the record of their own, ``record_path`` is where it goes.
        data: What it computes on, in words; ``device`` says where.

    Raises:
        FileNotFoundError: There is no such chapter.
        ParameterError: A parameter has lost its type.
    """
    notebook = jupytext.read(find(chapter))
    values = check(notebook, {name: namespace[name] for name in parameters(notebook)})
    fixed = {name: values.pop(name) for name in ("size", "seed")}
    path = values.pop("record_path", "")
    run = records.start(chapter, parameters=values, data=data, device=device, **fixed)
    run.record_path = path
    return run


def finish(run: Run) -> None:
    """End the chapter's record, write it if the chapter has a ``record_path``, and print it in one line."""
    record = run.finish()
    if run.record_path:
        record.write(run.record_path)
    print(
        f"Run {record.identity}: size {record.size}, seed {record.seed}, {record.device}, torch "
        f"{record.versions['torch']}, {record.wall_time_s:.0f} s"
    )


# ---------------------------------------------------------------------------------------------------------------------
# Values


def parse(declared: Mapping[str, Parameter], name: str, text: str) -> Any:
    """A value as typed in a shell, read by the type that the parameter declares; strings need no quotes.

    Raises:
        ParameterError: An unknown name, or text that is no value of the type.
    """
    if name not in declared:
        raise ParameterError(f"no parameter {name!r}; the chapter has {', '.join(declared)}")
    return declared[name].check(text if declared[name].annotation == "str" else yaml.safe_load(text))


def preset(path: Path, size: str) -> dict[str, Any]:
    """The chapter's parameter file for a size, checked against its parameters cell.

    Raises:
        ParameterError: An unknown size, no such file, or a value that does not fit.
    """
    if size not in SIZES:
        raise ParameterError(f"size {size!r} is not one of {', '.join(SIZES)}")
    file = path.parent / "presets" / path.stem / f"{size}.yaml"
    if not file.is_file():
        there = sorted(p.stem for p in file.parent.glob("*.yaml"))
        raise ParameterError(f"{path.stem} has no size {size!r} ({file} is missing), only {', '.join(there) or 'none'}")
    return check(jupytext.read(path), yaml.safe_load(file.read_text(encoding="utf-8")) or {})


# ---------------------------------------------------------------------------------------------------------------------
# Full runs, by papermill


def run_name(path: Path, values: Mapping[str, Any]) -> str:
    """A folder name for a run: chapter, size and a hash of all values, so that two runs never share one."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
    return f"{path.stem}-{values['size']}-{digest}"


class ChapterFailed(DiffusabError, RuntimeError):
    """A cell raised; the message names the error and the partial notebook that was kept."""


def run(path: Path, values: Mapping[str, Any], folder: Path) -> RunRecord:
    """Execute a chapter with papermill and keep its notebook and its run record.

    Args:
        path: The chapter's text file.
        values: Parameters that differ from the parameters cell's defaults; checked before anything runs.
        folder: Where ``NN_name.ipynb`` and ``record.json`` go; made when missing.

    Raises:
        ParameterError: A value does not fit the chapter.
        ChapterFailed: A cell raised. The notebook up to it, the failing cell marked, stays in ``folder``.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    notebook = jupytext.read(path)
    values = check(notebook, {**values, "record_path": str(folder.resolve() / "record.json")})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").unlink(missing_ok=True)  # an older run's record must not pass for this one's
    source, out = folder / f".{path.stem}.source.ipynb", folder / f"{path.stem}.ipynb"
    nbformat.write(notebook, source)
    for name, value in KEEP_MEMORY.items():
        os.environ.setdefault(name, value)
    try:
        papermill.execute_notebook(
            str(source), str(out), parameters=values, kernel_name="python3", language="python", cwd=str(Path.cwd()),
            progress_bar={"desc": path.stem, "unit": "cell"},
            # Every kernel warns of its loopback sockets; the chapter's own warnings are in its cells.
            extra_arguments=["--IPKernelApp.log_level=40"],
        )  # fmt: skip
    except PapermillExecutionError as error:
        raise ChapterFailed(
            f"{path.stem} stopped in a cell with {error.ename}: {error.evalue}; the notebook up to there is {out}"
        ) from error
    finally:
        source.unlink(missing_ok=True)
        if out.is_file():  # widgets leave megabytes of state that nothing can use without the kernel
            executed = nbformat.read(out, as_version=4)
            executed.metadata.pop("widgets", None)
            nbformat.write(executed, out)
    return records.read(folder / "record.json")


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints: what a reader's copy must print, too


def printed(executed: nbformat.NotebookNode) -> list[str]:
    """The lines that the checkpoint cells of an executed chapter printed.

    Raises:
        ParameterError: The chapter has no checkpoint cell, or one that prints nothing.
    """
    shown = [[o for o in cell.outputs if o.get("name") == "stdout"] for cell in _tagged(executed, CHECKPOINT_TAG)]
    texts = ["".join(output.text for output in outputs) for outputs in shown]
    if not texts or not all(texts):
        raise ParameterError(f"a chapter needs at least one cell tagged {CHECKPOINT_TAG!r}, and each must print")
    return "".join(texts).splitlines()


def replayable(path: Path, lines: Sequence[str]) -> nbformat.NotebookNode:
    """The chapter's code with these lines as the output of its checkpoint cell, for ``pytest --nbval-lax``.

    Raises:
        ParameterError: The chapter has not exactly one checkpoint cell.
    """
    notebook = jupytext.read(path)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in notebook.cells:
        cell.update(execution_count=1, outputs=[])
    cells = _tagged(notebook, CHECKPOINT_TAG)
    if len(cells) != 1:
        raise ParameterError(f"{path.name} has {len(cells)} cells tagged {CHECKPOINT_TAG!r}; a replay needs one")
    cells[0].metadata.tags = [CHECKPOINT_TAG, "nbval-check-output"]
    cells[0].outputs = [nbformat.v4.new_output("stream", name="stdout", text="".join(f"{line}\n" for line in lines))]
    return notebook
