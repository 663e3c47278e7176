"""A name of nothing is refused before torch is loaded, by the check of what would have opened it."""

import importlib
import subprocess
import sys

import pytest

from diffusab_book.cli import COMMANDS, early, options

#: The command line where importing torch is an error with a traceback.
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from diffusab_book.cli import app; app()"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("report kl-f4c61", "no autoencoder 'kl-f4c61' (did you mean kl-f4c16?)"),
        ("profile kl-f4c16 ./gone", "no autoencoder './gone'"),
        ("profile kl-f4c16 --images=pictures/gone.tar", "no folder pictures/gone.tar and no such file"),
        ("evaluate gone.safetensors", "there is no file gone.safetensors (did you mean done.safetensors?)"),
        ("finetune weights.ckpt", "weights.ckpt is a pickle"),
        ("extract kl-f4c16 out --images gone", "there is no folder gone and no such file"),
        ("train kl-f4c61 out --images photos", "no autoencoder 'kl-f4c61'"),
        ("train out gone --denoiser DiT-Q/2", "no denoiser 'DiT-Q/2'"),
        ("train-autoencoder --out out --images gone", "there is no folder gone"),
        ("sample gone out", "gone holds no denoiser: denoiser.json is missing"),
        ("evaluate-samples gone photos", "there is no folder gone"),
        ("evaluate-samples photos photos --decoded-by kl-f4c61", "no autoencoder 'kl-f4c61'"),
        ("doctor photos gone-{0..3}.tar", "4 of 4 files are missing, the first is gone-0.tar"),
    ],
)
def test_a_name_of_nothing_is_one_line_without_torch(tmp_path, words, said):
    (tmp_path / "done.safetensors").write_bytes(b"")
    command = [sys.executable, "-c", WITHOUT_TORCH, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("diffusab: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_value_that_cannot_be_is_refused_before_figures_and_models_are_loaded(tmp_path):
    code = WITHOUT_TORCH.replace("sys.modules['torch'] = None", "sys.modules |= {'plotly': None, 'diffusers': None}")
    command = [sys.executable, "-c", code, "report", "kl-f4c16", "--block-size", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "diffusab: --block-size must be at least 2, got 1\n")


@pytest.mark.parametrize(
    "words",
    [
        "report kl-f4c16 me/my-vae,variant=fp16 model.py:make --images photos --resolution 64",
        "report --help nosuch",
        "report --images",  # typer says what is missing
        "train cache out --denoiser DiT-XXS/2",
        "train-autoencoder --images mixture",
        "evaluate-samples leaves statistics.safetensors",
        "extract kl-f4c16 out --images me/pictures",
        "status nosuch",
    ],
)
def test_what_may_be_right_is_left_to_the_command(words):
    name, *rest = words.split()
    early.look(name, rest)


def test_what_is_looked_at_is_there():
    for module in set(COMMANDS.values()):
        importlib.import_module(f"diffusab_book.cli.{module}")
    commands = {name: options.REGISTERED[name].params for name in COMMANDS}
    flags = {flag for params in commands.values() for p in params if p.param_type_name == "option" for flag in p.opts}
    assert set(early.OPTIONS) <= flags
    for name, checks in early.ARGUMENTS.items():
        named = [p.name for p in commands[name] if p.param_type_name == "argument"]
        sure = [arg for arg, check in zip(named, checks, strict=False) if check is not None]
        assert sure
        assert set(sure) <= {"models", "model", "denoiser", "samples", "reference"}
