"""What tests of several folders share: the built book."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def built_book() -> Path:
    """The folder of the built book, built first when it is missing or older than its sources."""
    command = [sys.executable, str(ROOT / "scripts" / "build_book.py"), "--if-stale"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the book does not build:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return ROOT / "_build" / "html"
