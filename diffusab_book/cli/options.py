"""Commands whose options are the fields of a settings' dataclass: declared, explained and checked there, once."""

from __future__ import annotations

import inspect
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer

from diffusab_core.autoencoders.names import Opening
from diffusab_core.files import DiffusabError, DiffusabWarning, printable

#: The commands whose modules have been imported, by name.
REGISTERED: dict[str, Any] = {}

S = TypeVar("S")
Device = Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read images ahead.")]
Out = Annotated[Path | None, typer.Option(help="File for the run record, JSON.")]


class UsageError(DiffusabError, ValueError):
    """Options that do not go together, or a value that a command cannot use."""


def fail(error: BaseException | str, status: int = 1) -> typer.Exit:
    """One clear line on standard error, and a non-zero exit status."""
    said = getattr(error, "shell", None) or str(error)
    if isinstance(error, OSError) and not isinstance(error, DiffusabError) and error.filename and error.strerror:
        said = f"{error.filename}: {error.strerror}"  # without the number that nobody knows
    typer.secho("diffusab: " + printable(" ".join(said.split())), fg="red", err=True)
    return typer.Exit(status)


@contextmanager
def in_one_line(interrupted: str) -> Iterator[None]:
    """A user's mistake, a full disk or memory, and an interruption are one line; all else keeps its traceback.

    So is a warning of this package. What a terminal cannot show, such as a name that is no UTF-8, is shown in escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            others = warnings.showwarning

            def show(message: Any, category: type, *more: Any, **named: Any) -> None:
                if issubclass(category, DiffusabWarning):
                    typer.secho(
                        f"diffusab: warning: {printable(' '.join(str(message).split()))}", fg="yellow", err=True
                    )
                else:
                    others(message, category, *more, **named)

            warnings.showwarning = show
            yield
    except (DiffusabError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            raise typer.Exit(1) from error
        raise fail(error) from error
    except KeyboardInterrupt:
        raise fail(f"interrupted; {interrupted}", 130) from None
    except RuntimeError as error:  # torch.OutOfMemoryError is one; torch is slow to import for a mistyped option
        if type(error).__name__ != "OutOfMemoryError":
            raise
        advice = "a smaller --batch-size or --resolution needs less memory"
        raise fail(f"{str(error).splitlines()[0]} ({advice})") from error


def _nobody_reads() -> bool:
    """Whether what reads standard output has ended, as ``head`` does; the rest of the output is then dropped."""
    try:
        sys.stdout.write("\n")  # another pipe may have broken than this one
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it once more
        return True
    return False


def settle(settings: type[S], given: Mapping[str, Any], **more: Any) -> S:
    """The settings that these options make; what their dataclass refuses is a :class:`UsageError`."""
    try:
        return settings(**{**given, **more})
    except ValueError as error:
        raise UsageError(" ".join(str(error).split())) from error


def check_writable(file: Path) -> None:
    """Refuse before anything is computed what could not be written after."""
    if file.is_dir():
        raise UsageError(f"{file} is a folder, name a file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror or error}") from error


def explain(settings: type) -> dict[str, str]:
    """What the docstrings of a dataclass and its bases say of each field under ``Attributes``, as plain text."""
    found = {}
    for kind in reversed(settings.__mro__):
        _, _, text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
        text = re.split(r"\n(?=\S)", text)[0]
        found |= dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, flags=re.MULTILINE))
    return {name: _plain(what) for name, what in found.items()}


def _plain(text: str) -> str:
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?([^`]+)`", r"\1", " ".join(text.split()))
    text = re.sub(r"None(?: stands for|:)", "left out:", text.replace("``", ""))
    return text.replace("\\", "")


def command(
    settings: type | None = None,
    *,
    also: type | None = None,
    name: str | None = None,
    arguments: Sequence[str] = (),
    without: Collection[str] = (),
    flags: Mapping[str, str] = {},
    defaults: Mapping[str, Any] = {},
    opens: str | None = None,
    interrupted: str = "nothing was written",
    cls: type | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command.

    The function's first parameter is then a dictionary of those settings that were given; what was not keeps the
    dataclass's default, which ``--help`` shows. Fields that a dataclass inherits come after its own.

    Args:
        settings: The dataclass.
        also: Another one, whose dictionary is the second parameter.
        name: Of the command, when it is not the function's.
        arguments: Fields that are arguments and no options, in this order, before those of the function.
        without: Fields that are no options; ``device`` never is, since its default is another on a command line.
        flags: Names of options that differ from their field's, such as ``{"count": "--samples"}``.
        defaults: Of this command, in place of the dataclass's.
        opens: The parameter that names a model, or several: the command then has all options that say how models are
            opened, and the function gets names with these in them.
        interrupted: What is left after Ctrl-C; may name the command's parameters, as in ``"go on in {out}"``.
        cls: Another class of the command.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())
        kinds = [kind for kind in (settings, also) if kind is not None]
        own = own[len(kinds) :]
        names = {kind: [n for n in _own_first(kind) if n not in {"device", *without}] for kind in kinds}
        opening = Opening if opens is not None else None
        how = [f.name for f in fields(opening)] if opening is not None else []

        def call(**values: Any) -> None:
            with in_one_line(interrupted.format(**values)):
                if opening is not None and (chosen := opening(**{n: values.pop(n) for n in how})):
                    _name_models(values, opens, chosen)
                first = []
                for kind in kinds:
                    given = {n: values.pop(n) for n in names[kind]}
                    given = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items() if v not in (None, [])}
                    first.append({**defaults, **given} if kind is settings else given)
                function(*first, **values)

        parameters = [
            _parameter(kind, n, n in arguments, flags.get(n), defaults.get(n)) for kind in kinds for n in names[kind]
        ]
        parameters += own
        parameters += [_parameter(opening, n, False, None, None) for n in how]
        places = {n: i for i, n in enumerate(arguments)}
        parameters.sort(key=lambda p: (not _is_argument(p), places.get(p.name, len(places))))
        ready = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        call.__signature__ = inspect.Signature(ready)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        call.__name__, call.__doc__ = function.__name__, function.__doc__
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        alone.command(name, cls=cls)(call)
        REGISTERED[name or function.__name__] = typer.main.get_command(alone)
        return function

    return register


def _own_first(settings: type) -> list[str]:
    """The names of a dataclass's fields, those that it inherits last."""
    names = [f.name for f in fields(settings)]
    return sorted(names, key=lambda name: name not in inspect.get_annotations(settings))


def _name_models(values: dict[str, Any], name: str, opening: Any) -> None:
    """Put how models are opened into their names."""
    models = values[name]
    if not models:
        asked = ", ".join(f"--{n.replace('_', '-')}" for n, value in vars(opening).items() if value)
        raise UsageError(f"{asked} says how a model is opened, and none is named")
    values[name] = opening.of(models) if isinstance(models, str) else [opening.of(model) for model in models]


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(isinstance(part, typer.models.ArgumentInfo) for part in get_args(parameter.annotation))


def _parameter(settings: type, name: str, argument: bool, flag: str | None, default: Any) -> inspect.Parameter:
    """A field as a parameter of a command: optional, so that what was not given is known."""
    default = default or next(f for f in fields(settings) if f.name == name).default
    kind, text = _typed(get_type_hints(settings)[name]), explain(settings).get(name, "")
    required = argument and default is MISSING
    if argument:
        info = typer.Argument(metavar=name.upper(), help=text, show_default=False)
    else:
        if default not in (MISSING, None, "", False):
            text += f" [default: {' '.join(map(str, default)) if isinstance(default, tuple) else default}]"
        place = {"images": "PLACE", "resolution": "N or HxW" if kind is str else None}.get(name)
        info = typer.Option(*filter(None, [flag]), metavar=place, help=text, show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=inspect.Parameter.empty if required else None,
        annotation=Annotated[kind if required else kind | None, info],
    )  # fmt: skip


def _typed(hint: Any) -> Any:
    """A field's type as a command line reads it: choices are words, which the dataclass checks."""
    if get_origin(hint) is Literal:
        return type(get_args(hint)[0])
    parts = [part for part in get_args(hint) if part is not NoneType]
    if get_origin(hint) is tuple and parts[-1] is ...:
        return list[parts[0]]
    if parts and get_origin(hint) is not tuple:  # a union: the first of its members
        return _typed(parts[0])
    return hint
