"""Options are the fields of the settings; one line is for a user's mistakes, a full memory and an interruption only."""

from dataclasses import dataclass, fields
from typing import Any, Literal

import pytest
import torch
import typer
from typer.testing import CliRunner

from diffusab_book.cli import COMMANDS, app, options
from diffusab_core.files import DiffusabError
from diffusab_core.methods.denoising import Denoising


@dataclass(frozen=True)
class Wanted:
    """Settings of a made-up command.

    Attributes:
        model: A name.
        steps: Optimiser steps, as in :func:`torch.optim.step`.
        rate: ``None``: a tenth of the steps.
        kind: One of two.
        places: Several.
        flips: Mirror them.
        device: Where.
    """

    model: str
    steps: int = 7
    rate: float | None = None
    kind: Literal["a", "b"] = "a"
    places: tuple[str, ...] = ()
    flips: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


@pytest.fixture
def run(monkeypatch):
    """Run the made-up command; what it was given is in the list, and an entry of ``errors`` is raised."""
    monkeypatch.setattr(options, "REGISTERED", {})
    seen, errors = [], []

    @options.command(Wanted, arguments=("model",), flags={"places": "--place"}, interrupted="goes on in {out}")
    def made_up(given: dict[str, Any], out: str = "here") -> None:
        """A command."""
        settings = options.settle(Wanted, given, device="cpu")
        if errors:
            raise errors.pop()
        seen.append((given, settings, out))

    def invoke(*words: str):
        return CliRunner().invoke(options.REGISTERED["made_up"], words)

    # A command of Click, so that its exit status and output are looked at, not a Typer application.
    monkeypatch.setattr("typer.testing._get_command", lambda command: command)
    invoke.seen, invoke.errors = seen, errors
    return invoke


def test_only_what_was_given_is_handed_on(run):
    assert run("m").exit_code == 0
    assert run("m", "--steps", "3", "--place", "x", "--place", "y", "--flips", "--kind", "b").exit_code == 0
    (bare, settings, out), (given, full, _) = run.seen
    assert (bare, settings, out) == ({"model": "m"}, Wanted("m"), "here")
    assert given == {"model": "m", "steps": 3, "places": ("x", "y"), "flips": True, "kind": "b"}
    assert full == Wanted("m", 3, kind="b", places=("x", "y"), flips=True)


def test_help_explains_and_shows_defaults(run):
    text = " ".join(run("--help").output.split())
    assert "Optimiser steps, as in step. [default: 7]" in text
    assert "left out: a tenth of the steps" in text
    assert "--device" not in text


def test_a_value_that_the_settings_refuse_is_one_line(run):
    done = run("m", "--steps", "0")
    assert (done.exit_code, done.stderr) == (1, "diffusab: steps must be at least 1, got 0\n")


@pytest.mark.parametrize(
    ("error", "line", "status"),
    [
        (DiffusabError("no\nsuch thing"), "diffusab: no such thing\n", 1),
        (OSError(28, "No space left on device"), "diffusab: [Errno 28] No space left on device\n", 1),
        (NotADirectoryError(20, "Not a directory", "file/x"), "diffusab: file/x: Not a directory\n", 1),
        (KeyboardInterrupt(), "diffusab: interrupted; goes on in here\n", 130),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "--batch-size", 1),
    ],
)
def test_what_a_user_can_mend_is_one_line(run, error, line, status):
    run.errors.append(error)
    done = run("m")
    assert line in done.stderr
    assert (done.stderr.count("\n"), done.exit_code) == (1, status)


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("another")])
def test_a_bug_keeps_its_traceback(run, error):
    run.errors.append(error)
    assert run("m").exception is error


def test_every_setting_of_a_denoiser_is_explained():
    said = options.explain(Denoising)
    assert set(said) == {f.name for f in fields(Denoising)}
    assert not any("`" in text or ":func:" in text for text in said.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps(name):
    done = CliRunner().invoke(app, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert "Usage:" in done.output
    assert isinstance(typer.main.get_command(app), typer.core.TyperGroup)
