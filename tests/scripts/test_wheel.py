"""A wheel carries what `diffusab run` needs, and runs a chapter without a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = """
from pathlib import Path
import diffusab_book
from diffusab_book import chapters, claims, places, results
from diffusab_book.sweeps import files
from diffusab_book.sweeps.collect import default_results
inside = Path(diffusab_book.__file__).parent
assert places.CHECKOUT is None and default_results() is None
assert len(chapters.listed()) > 10
for path in chapters.listed():
    assert path.is_relative_to(inside)
    chapters.preset(path, "smoke")
assert len(results.frame("denoisers")) > 3
assert files.read("freqwarm").arms("laptop")
assert claims.judge(claims.read().claims)
assert (results.RESULTS.parent / "cluster_story.json").is_file()
"""


def build(folder, *words):
    done = subprocess.run([sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=300,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The contents of a wheel made from the source distribution of a copy, since building leaves folders behind."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("diffusab_core", "diffusab_book", "notebooks", "sweeps", "book/results"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    chapters_read = ("book/claims.yaml", "book/cluster_story.json")
    for name in (*chapters_read, "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, copy / name)
    build(copy, "setup.py", "-q", "sdist", "-d", out)
    [source] = out.glob("*.tar.gz")
    build(copy, "-m", "pip", "wheel", source, "--no-deps", "--no-build-isolation", "-q", "-w", out)
    [wheel] = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def test_a_wheel_carries_notebooks_presets_sweeps_and_records(site, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, env=environment, capture_output=True, text=True,
                          timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_chapter_runs_from_a_wheel(site, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "diffusab_book", "run", "2", "--size", "smoke"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "runs").rglob("record.json"))) == 1
