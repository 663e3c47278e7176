"""nbval replays every chapter's checkpoint cells, and notices when the package computes something else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REFERENCES = sorted((ROOT / "tests" / "reference").glob("*.ipynb"))


def replay(reference: Path, cwd: Path, pythonpath: Path | None = None) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if pythonpath is not None:
        environment["PYTHONPATH"] = str(pythonpath)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q", "--color=no"]
    command += ["-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={reference.parent}", str(reference)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda p: p.stem)
def test_checkpoints_replay(reference, tmp_path):
    done = replay(reference, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_a_perturbed_constant_is_noticed(tmp_path):
    """The DCT's normalisation sqrt(2/B) becomes sqrt(2.1/B) in a copy of the package; the replay must fail."""
    package = tmp_path / "perturbed" / "diffusab_core"
    shutil.copytree(ROOT / "diffusab_core", package, ignore=shutil.ignore_patterns("__pycache__"))
    source = (package / "dct.py").read_text()
    assert source.count("math.sqrt(2 / block_size)") == 1
    (package / "dct.py").write_text(source.replace("math.sqrt(2 / block_size)", "math.sqrt(2.1 / block_size)"))
    done = replay(ROOT / "tests" / "reference" / "02_dct.ipynb", tmp_path, pythonpath=package.parent)
    assert done.returncode == 1, done.stdout[-3000:]
    assert "0.1734" in done.stdout  # what the reference holds for D₀₁ of an impulse is shown beside what came out
    assert "1 failed" in done.stdout
