"""What tests of several files share: the built book, and a cache of latents."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def built_book() -> Path:
    """The folder of the built book, built first, when it is missing or older than its sources."""
    command = [sys.executable, str(ROOT / "scripts" / "build_book.py"), "--if-stale"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the book does not build:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The finished cache that ``small_extraction.SMALL`` describes; not to be changed."""
    from small_extraction import SMALL

    from diffusab_core.latents.extraction import extract  # not above: the book's tests need no torch

    folder = tmp_path_factory.mktemp("cache") / "leaves"
    extract(SMALL, folder, batch_size=4, progress=False)
    return folder


@pytest.fixture
def cache(finished, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))
