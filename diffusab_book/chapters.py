r"""Notebooks as things that run: finding them, checking parameters, executing, what their checkpoints print.

A chapter is a ``py:percent`` text file ``notebooks/NN_name.py``, a full run one in ``notebooks/runs/``. Its cell tagged
``parameters`` holds annotated assignments of plain values; a *size* (``smoke``, ``laptop``, ``gpu``, ``paper``) is a
file of values for them, ``notebooks/presets/NN_name/SIZE.yaml`` or ``notebooks/presets/runs/NAME/SIZE.yaml``. The name
of a parameter and its type are checked before anything runs.

Some parameters say *where* a run is computed and kept, not *what* it is: :data:`WHERE`. No identity and no record knows
them. Another folder of notebooks than the book's is named by ``DIFFUSAB_NOTEBOOKS`` in the environment.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import logging
import math
import os
import re
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import TypeAdapter, ValidationError

from diffusab_book import locks
from diffusab_book.places import HOME
from diffusab_core.experiments import records
from diffusab_core.experiments.records import SIZES, Run, RunRecord
from diffusab_core.files import DiffusabError, digest_json, first_line, make_printable, write_text

if TYPE_CHECKING:  # slow to import: what is asked of a finished run needs neither
    from nbformat import NotebookNode

NOTEBOOKS = HOME / "notebooks"
CHECKPOINT_TAG = "checkpoint"
WHERE = ("device", "workers", "folder", "record_path")  #: Parameters that say where and not what

#: glibc gives memory back to the system after every large tensor and asks for it again for the next; keeping it cut a
#: chapter's system time by five sixths. Read by a process when it starts, so it is set before kernels are started.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}

_PLAIN = {"int": int, "float": float, "str": str, "bool": bool}
_TYPES: dict[str, Any] = {
    **_PLAIN,
    **{f"list[{name}]": list[kind] for name, kind in _PLAIN.items() if name != "bool"},
    **{f"{name} | None": kind | None for name, kind in _PLAIN.items()},
}


class ParameterError(DiffusabError, ValueError):
    """A parameter that the notebook does not have, or a value of the wrong type."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: annotation = default``."""

    name: str
    annotation: str
    default: Any

    def check(self, value: Any) -> Any:
        """The value, if it has the annotated type (an int serves as a float); else a :class:`ParameterError`."""
        try:
            found = _adapter(self.annotation).validate_python(value, strict=True)
        except ValidationError as error:
            hint = ", or in YAML without a point, as 1e-4 for 1.0e-4" if "float" in self.annotation else ""
            wrong = (
                f"parameter {self.name!r} is {value!r}, which is no {self.annotation}{hint if _looks(value) else ''}"
            )
            raise ParameterError(wrong) from error
        if any(isinstance(v, float) and not math.isfinite(v) for v in (found if isinstance(found, list) else [found])):
            raise ParameterError(f"parameter {self.name!r} is {value!r}, which is not finite")
        return found


@functools.cache
def _adapter(annotation: str) -> TypeAdapter:
    return TypeAdapter(_TYPES[annotation])


def _looks(value: Any) -> bool:
    """Whether YAML has read a number such as ``1e-4`` as text."""
    with contextlib.suppress(TypeError, ValueError):
        return any(
            isinstance(v, str) and math.isfinite(float(v)) for v in (value if isinstance(value, list) else [value])
        )
    return False


def notebooks() -> Path:
    """The folder of notebooks: the book's, or what ``DIFFUSAB_NOTEBOOKS`` names."""
    return Path(os.environ.get("DIFFUSAB_NOTEBOOKS") or NOTEBOOKS)


def listed(folder: Path | None = None) -> list[Path]:
    """Every notebook that runs: the chapters in their order, then the full runs."""
    folder = folder or notebooks()
    return [*sorted(folder.glob("[0-9][0-9]_*.py")), *sorted((folder / "runs").glob("[a-z]*.py"))]


def find(name: str | int, folder: Path | None = None) -> Path:
    """A notebook's file, from its name (``"02_dct"``, ``"denoiser"``) or a chapter's number (``2``, ``"02"``).

    Raises:
        FileNotFoundError: There is none; the message lists those there are.
    """
    key = str(name)
    key = f"{int(key):02d}" if key.isdigit() else key.removesuffix(".py")
    there = listed(folder)
    for path in there:
        if key == path.stem or (key.isdigit() and key == path.stem[:2]):
            return path
    names = ", ".join(p.stem for p in there)
    raise FileNotFoundError(f"no notebook {name!r} in {folder or notebooks()}; there are {names or 'none'}")


def read(path: Path) -> NotebookNode:
    """The notebook that a text file is."""
    import jupytext

    return jupytext.read(path)


def title(path: Path) -> str:
    """The first heading of a notebook."""
    found = re.search(r"^# # (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return found[1].strip() if found else ""


def _tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def _parameters_cell(source: NotebookNode | Path) -> str:
    if isinstance(source, Path):  # without jupytext, which takes longer to import than all of the rest
        cells = re.split(r"^# %%", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
        head = re.compile(r"[^\n]*tags=\[[^\]\n]*\"parameters\"")
        cells = [cell.partition("\n")[2] for cell in cells[1:] if head.match(cell)]
    else:
        cells = [cell.source for cell in _tagged(source, "parameters")]
    if not cells:
        where = f"{source.name}: " if isinstance(source, Path) else ""
        raise ParameterError(f"{where}the notebook has no cell tagged 'parameters'")
    return cells[0]


def parameters(source: NotebookNode | Path) -> dict[str, Parameter]:
    """What the parameters cell of a notebook, or of its text file, declares, by name.

    Raises:
        ParameterError: There is no such cell, or a line of it is not ``name: type = plain value``.
    """
    return dict(_declared(_parameters_cell(source)))


@functools.cache
def _declared(cell: str) -> Mapping[str, Parameter]:
    found = {}
    for node in ast.parse(cell).body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
            raise ParameterError(f"parameters cell: {ast.unparse(node)!r} is not of the form name: type = value")
        annotation = ast.unparse(node.annotation)
        if annotation not in _TYPES:
            raise ParameterError(f"parameter {node.target.id!r} has type {annotation}; use one of {', '.join(_TYPES)}")
        found[node.target.id] = Parameter(node.target.id, annotation, ast.literal_eval(node.value))
    return found


def check(source: NotebookNode | Path | Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, each known to the notebook (or among these parameters) and of its type.

    Raises:
        ParameterError: Otherwise. papermill alone only logs unknown names, and the run would use the default.
    """
    declared = parameters(source) if isinstance(source, Path) or hasattr(source, "cells") else source
    unknown = values.keys() - declared.keys()
    if unknown:
        raise ParameterError(f"no parameter {sorted(unknown)[0]!r}; there are {', '.join(declared)}")
    return {name: declared[name].check(value) for name, value in values.items()}


def chosen(declared: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Of checked values, those that make a run what it is beside size and seed: what differs from the defaults."""
    apart = (*WHERE, "size", "seed")
    return {
        name: values[name]
        for name, p in declared.items()
        if name not in apart and name in values and values[name] != p.check(p.default)
    }


def identity(notebook: str, parameters: Mapping[str, Any], seed: int, size: str) -> str:
    """12 hex digits of what a run is, of the parameters that differ from their defaults.

    So a new parameter whose default is the old behaviour changes no identity, and a default must never change.
    """
    return digest_json([notebook, dict(parameters), seed, size])[:12]


# ---------------------------------------------------------------------------------------------------------------------
# From inside a notebook


def start(name: str, namespace: Mapping[str, Any], data: str, device: str | None = None) -> Run:
    """Start the notebook's run record with the parameters it runs with; :func:`finish` is the other end.

    The run's ``folder`` is where it keeps checkpoints and weights: the parameter of this name, or a temporary folder
    when that is empty or not declared. It stays locked while this kernel lives. Its ``device`` is this machine's that
    the parameter ``device`` means, ``"cpu"`` without one.

    Args:
        name: The notebook's name, such as ``"06_scale_equivariance"`` or ``"denoiser"``.
        namespace: ``globals()`` of the notebook: the present values of what its parameters cell declares. ``size`` and
            ``seed`` are fields of the record of their own; what is in :data:`WHERE` is not recorded.
        data: What it computes on, in words.
        device: Where, if no parameter says it.

    Raises:
        FileNotFoundError: There is no such notebook.
        ParameterError: A parameter has lost its type.
    """
    declared = parameters(find(name))
    values = check(declared, {name: namespace[name] for name in declared})
    where = {name: values.pop(name, "") for name in WHERE}
    fixed = {name: values.pop(name) for name in ("size", "seed")}
    if device is None:
        from diffusab_core.training.world import resolve_device

        device = str(resolve_device(where["device"] or "cpu"))
    own = identity(name, chosen(declared, values), fixed["seed"], fixed["size"])
    run = records.start(name, parameters=values, data=data, device=device, run_identity=own, **fixed)
    run.device = device
    run.kept = [Path(where["folder"]) / "record.json"] if where["folder"] else []
    run.kept += [Path(where["record_path"])] if where["record_path"] else []
    if where["folder"]:
        run.folder, run.lock = Path(where["folder"]), locks.hold(Path(where["folder"]))
    elif "folder" in declared:
        run.temporary = tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True)
        run.folder = Path(run.temporary.name)
    return run


def finish(run: Run) -> None:
    """End the record, write it where the notebook's ``folder`` or ``record_path`` says, and print it in one line."""
    record = run.finish()
    for path in run.kept:
        record.write(path)
    print(
        f"Run {record.identity}: size {record.size}, seed {record.seed}, {record.device}, torch "
        f"{record.versions['torch']}, {record.wall_time_s:.0f} s after the imports"
    )


# ---------------------------------------------------------------------------------------------------------------------
# Values


def parse(declared: Mapping[str, Parameter], name: str, text: str) -> Any:
    """A value as typed in a shell, read by the type that the parameter declares; strings need no quotes.

    Raises:
        ParameterError: An unknown name, or text that is no value of the type.
    """
    if name not in declared:
        raise ParameterError(f"no parameter {name!r}; there are {', '.join(declared)}")
    if declared[name].annotation.startswith("str"):
        return declared[name].check(None if text == "null" and "None" in declared[name].annotation else text)
    try:
        value = json.loads(text)  # reads 1e-4 as a number
    except ValueError:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ParameterError(f"parameter {name!r} is {text!r}, which is no {declared[name].annotation}") from error
    return declared[name].check(value)


def preset_file(path: Path, size: str) -> Path:
    """Where a notebook's parameter file for a size is, or would be."""
    if path.parent.name == "runs":
        return path.parent.parent / "presets" / "runs" / path.stem / f"{size}.yaml"
    return path.parent / "presets" / path.stem / f"{size}.yaml"


def preset(path: Path, size: str) -> dict[str, Any]:
    """The notebook's parameter file for a size, checked against its parameters cell.

    Raises:
        ParameterError: An unknown size, no such file, or a value that does not fit.
    """
    if size not in SIZES:
        raise ParameterError(f"size {size!r} is not one of {', '.join(SIZES)}")
    file = preset_file(path, size)
    if not file.is_file():
        there = sorted(p.stem for p in file.parent.glob("*.yaml"))
        raise ParameterError(f"{path.stem} has no size {size!r} ({file} is missing), only {', '.join(there) or 'none'}")
    values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return check(path, values if isinstance(values, dict) else {str(values): None})


# ---------------------------------------------------------------------------------------------------------------------
# Executing, by papermill


class ChapterFailed(DiffusabError, RuntimeError):
    """A cell raised, or the kernel died; the message names the error and the partial notebook that was kept."""


class _Whole:
    """How papermill writes a notebook here: whole or not at all, so that neither a kill nor a full disk costs it.

    Left out are what widgets leave, megabytes that nothing can use without the kernel, and the earlier states of
    progress bars, which a terminal would not show either.
    """

    scheme = "whole:"

    def read(self, path: str) -> str:
        return Path(path.removeprefix(self.scheme)).read_text(encoding="utf-8")

    def write(self, text: str, path: str) -> None:
        notebook = json.loads(text)
        notebook["metadata"].pop("widgets", None)
        for cell in notebook["cells"]:
            if "outputs" in cell:
                cell["outputs"] = _join_streams(cell["outputs"])
        text = json.dumps(make_printable(notebook), ensure_ascii=False)
        write_text(path.removeprefix(self.scheme), text + "\n", alone=True)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path.removeprefix(self.scheme))

    def pretty_path(self, path: str) -> str:
        return path.removeprefix(self.scheme)


def _join_streams(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a cell printed in a row as one output; a carriage return writes over its line, as on a screen."""
    kept: list[dict[str, Any]] = []
    for output in outputs:
        if output["output_type"] != "stream":
            kept.append(output)
            continue
        text = "".join(output["text"])
        if kept and kept[-1]["output_type"] == "stream" and kept[-1]["name"] == output["name"]:
            text = kept.pop()["text"] + text
        kept.append({**output, "text": _drop_redrawn(text)})
    return kept


def _drop_redrawn(text: str) -> str:
    """Text as a terminal shows it: of what a line writes over itself, the last."""
    return "\n".join(re.split(r"\r(?=[^\r])", line)[-1].rstrip("\r") for line in text.split("\n"))


class _Sparsely(logging.Filter):
    """Lets a progress bar, which is drawn anew ten times a second, through now and then."""

    every_s = 30.0

    def __init__(self) -> None:
        super().__init__()
        self.last = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "\r" not in text:
            return True
        now, drawn = record.created, _drop_redrawn(text).strip()
        if now - self.last < self.every_s or not drawn:
            return False
        self.last, record.msg, record.args = now, drawn, ()
        return True


class _Log(logging.FileHandler):
    """A log that a full disk cuts short without a word: writing the notebook says it."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """What papermill says, and what cells print, also goes to the end of this file."""
    from papermill.log import logger

    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _Log(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    handler.addFilter(_Sparsely())
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    except BaseException as error:
        lines = getattr(error, "traceback", None) or [f"{type(error).__name__}: {error}"]
        logger.info("failed\n%s", re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines)))
        raise
    finally:
        logger.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
        logger.setLevel(level)
        logger.propagate = propagate


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, as a cluster sends it before it takes a machine away, ends the kernel as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        old = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def run(path: Path, values: Mapping[str, Any], folder: Path, *, progress: bool = True) -> RunRecord:
    """Execute a notebook with papermill and keep it, what it printed, and its run record.

    Args:
        path: The notebook's text file.
        values: Parameters that differ from the parameters cell's defaults; checked before anything runs.
        folder: Where ``NAME.ipynb``, ``log.txt`` (each attempt after the one before) and ``record.json`` go; made when
            missing.
        progress: Whether to draw a bar of cells.

    Raises:
        ParameterError: A value does not fit the notebook.
        ChapterFailed: A cell raised or the kernel died. The notebook up to it, the failing cell marked, stays in
            ``folder``.
    """
    declared = parameters(path)
    places = {"folder": str(folder.resolve()), "record_path": str(folder.resolve() / "record.json")}
    if "folder" in declared:
        del places["record_path"]
    values = check(declared, {**values, **{name: place for name, place in places.items() if name in declared}})

    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from papermill.iorw import papermill_io

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").unlink(missing_ok=True)  # an older run's record must not pass for this one's
    out = folder / f"{path.stem}.ipynb"
    papermill_io.register(_Whole.scheme, _Whole())
    # A bar that is drawn every two seconds is enough for a log, which has all of its lines.
    for name, value in (KEEP_MEMORY | {"TQDM_MININTERVAL": "2"}).items():
        os.environ.setdefault(name, value)
    kept = f"the notebook up to there is {out}"
    try:
        with _logging_to(folder / "log.txt"), _terminated_as_interrupted():
            papermill.execute_notebook(
                read(path), _Whole.scheme + str(out), parameters=values, kernel_name="python3", language="python",
                kernel_manager_class="diffusab_book.kernel.OwnKernel",
                cwd=str(Path.cwd()), log_output=True, progress_bar=progress and {"desc": path.stem, "unit": "cell"},
                # Every kernel warns of its loopback sockets; the notebook's own warnings are in its cells.
                extra_arguments=["--IPKernelApp.log_level=40"],
            )  # fmt: skip
    except KeyboardInterrupt:
        # The task that waits for the kernel sees it end, and would say so after all else has been said.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from error
        raise ChapterFailed(f"{path.stem} stopped in a cell with {error.ename}: {error.evalue}; {kept}") from error
    except DeadKernelError as error:
        raise ChapterFailed(f"{path.stem}: the kernel died, killed or out of memory; {kept}") from error
    except OSError as error:
        raise ChapterFailed(f"{path.stem}: {first_line(error)}; {kept}") from error
    if not (folder / "record.json").is_file():
        raise ChapterFailed(f"{path.stem} ran to its end and wrote no record: it lacks chapters.finish(run); see {out}")
    return records.read(folder / "record.json")


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints: what a reader's copy must print, too


def printed(executed: NotebookNode) -> list[str]:
    """The lines that the checkpoint cells of an executed chapter printed.

    Raises:
        ParameterError: The chapter has no checkpoint cell, or one that prints nothing.
    """
    shown = [[o for o in cell.outputs if o.get("name") == "stdout"] for cell in _tagged(executed, CHECKPOINT_TAG)]
    texts = ["".join(output.text for output in outputs) for outputs in shown]
    if not texts or not all(texts):
        raise ParameterError(f"a chapter needs at least one cell tagged {CHECKPOINT_TAG!r}, and each must print")
    return "".join(texts).splitlines()


def replayable(path: Path, lines: Sequence[str]) -> NotebookNode:
    """The chapter's code with these lines as the output of its checkpoint cell, for ``pytest --nbval-lax``.

    Raises:
        ParameterError: The chapter has not exactly one checkpoint cell.
    """
    from nbformat.v4 import new_output

    notebook = read(path)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in notebook.cells:
        cell.update(execution_count=1, outputs=[])
    cells = _tagged(notebook, CHECKPOINT_TAG)
    if len(cells) != 1:
        raise ParameterError(f"{path.name} has {len(cells)} cells tagged {CHECKPOINT_TAG!r}; a replay needs one")
    cells[0].metadata.tags = [CHECKPOINT_TAG, "nbval-check-output"]
    cells[0].outputs = [new_output("stream", name="stdout", text="".join(f"{line}\n" for line in lines))]
    return notebook
