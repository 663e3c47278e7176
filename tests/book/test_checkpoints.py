"""Checkpoint cells print in the built book what is kept, and nbval notices when the package computes something else."""

import json
import shutil
from pathlib import Path

import pytest
from script_modules import load_script

from diffusab_book import chapters

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in chapters.NOTEBOOKS.glob("[0-9][0-9]_*.py"))
KEPT = json.loads((ROOT / "tests" / "checkpoints.json").read_text(encoding="utf8"))


@pytest.fixture(scope="module")
def checkpoints():
    return load_script("checkpoints")


def test_every_chapter_has_a_checkpoint():
    assert list(KEPT) == CHAPTERS


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_book_prints_what_is_kept(built_book, checkpoints, chapter):
    assert checkpoints.of_the_book()[chapter] == KEPT[chapter]


def test_a_reader_replays_a_chapter(checkpoints, tmp_path):
    done = checkpoints.replay("02", tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_a_perturbed_constant_is_noticed(checkpoints, tmp_path, monkeypatch):
    """The DCT's normalisation sqrt(2/B) becomes sqrt(2.1/B) in a copy of the package; the replay must fail."""
    copy = tmp_path / "perturbed"
    for package in ("diffusab_core", "diffusab_book"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "notebooks", "sweeps", "book"):  # what makes a folder a checkout
        (copy / part).symlink_to(ROOT / part)
    dct = copy / "diffusab_core" / "spectrum" / "dct.py"
    source = dct.read_text()
    assert source.count("math.sqrt(2 / block_size)") == 1
    dct.write_text(source.replace("math.sqrt(2 / block_size)", "math.sqrt(2.1 / block_size)"))
    monkeypatch.setenv("PYTHONPATH", str(copy))
    done = checkpoints.replay("02", tmp_path)
    assert done.returncode == 1, done.stdout[-3000:]
    assert "0.1734" in done.stdout  # what is kept for D₀₁ of an impulse is shown beside what came out
    assert " failed" in done.stdout  # the checkpoint, and the claims that rest on the same transform
