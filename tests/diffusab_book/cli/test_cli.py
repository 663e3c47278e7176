"""The command's face: it starts, helps, and lists what comes with the package."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_core import autoencoders


def test_the_installed_command_helps():
    command = Path(sys.executable).with_name("diffusab")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=120, check=True)
    assert all(name in done.stdout for name in ("models", "profile", "run"))


def test_models_lists_every_shipped_autoencoder():
    done = CliRunner().invoke(app, ["models"])
    assert done.exit_code == 0
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == list(autoencoders.SHIPPED)
    assert "kl-f4c16: 4x compression, 16 channels, 425,347 parameters" in done.stdout


@pytest.mark.parametrize("command", ["extract", "finetune", "train-autoencoder", "evaluate-samples"])
def test_a_number_of_workers_is_none_or_more(command):
    words = ["photos"] * 2 if command == "evaluate-samples" else ["kl-f4c4", "out"] if command == "extract" else []
    words += {"finetune": ["kl-f4c4", "--out", "out"], "train-autoencoder": ["--out", "out"]}.get(command, [])
    done = CliRunner().invoke(app, [command, *words, "--workers", "-1"])
    assert done.exit_code == 2
    assert "--workers" in done.output
    assert not Path("out").exists()


def test_who_reads_the_head_only_sees_no_error():
    words = [sys.executable, "-m", "diffusab_book", "run", "--list"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_the_old_word_says_where_it_went():
    done = subprocess.run([sys.executable, "-m", "diffusab_core", "train", "x"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "the commands are in diffusab_book now: python -m diffusab_book train x\n"
