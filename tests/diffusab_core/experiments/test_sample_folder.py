"""Folders of samples: whose they are, also after a process was killed."""

import json
import subprocess
import sys

import pytest

from diffusab_core.experiments.samples import SAMPLES_FILE, claim_folder
from diffusab_core.metrics.samples import SamplesError
from diffusab_core.training.world import World

ABOUT = {"model": "denoiser", "steps": 20, "guidance_interval": [0.0, 1.0]}
KILLED = """
import os, signal, sys
from pathlib import Path
from diffusab_core.experiments.samples import claim_folder
from diffusab_core.training.world import World
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
Path.{moment} = kill
claim_folder(Path(sys.argv[1]), {about}, World())
"""


def test_the_same_samples_go_on_in_their_folder_and_others_are_refused(tmp_path):
    pictures = claim_folder(tmp_path / "a" / "b", ABOUT, World())
    assert pictures.is_dir()
    assert json.loads((pictures.parent / SAMPLES_FILE).read_text()) == ABOUT
    (pictures / "000000.png").write_bytes(b"")
    assert claim_folder(tmp_path / "a" / "b", ABOUT, World()) == pictures
    with pytest.raises(SamplesError, match=r"b holds other samples \(steps 20 -> 30\)"):
        claim_folder(tmp_path / "a" / "b", ABOUT | {"steps": 30}, World())


@pytest.mark.parametrize("moment", ["mkdir", "write_bytes", "replace"])
def test_a_kill_leaves_a_folder_that_the_same_command_takes(moment, tmp_path):
    out = tmp_path / "samples"
    out.mkdir()
    code = KILLED.format(moment=moment, about=ABOUT)
    done = subprocess.run([sys.executable, "-c", code, str(out)], check=False, timeout=120)
    assert done.returncode == -9
    assert not (out / SAMPLES_FILE).exists() or json.loads((out / SAMPLES_FILE).read_text()) == ABOUT
    assert claim_folder(out, ABOUT, World()).is_dir()
    assert sorted(path.name for path in out.iterdir()) == ["images", SAMPLES_FILE]


def test_an_empty_folder_for_pictures_is_taken_and_anything_else_is_not(tmp_path):
    (tmp_path / "cut off" / "images").mkdir(parents=True)  # as it was once made before the description
    assert claim_folder(tmp_path / "cut off", ABOUT, World()).is_dir()
    (tmp_path / "mine" / "below").mkdir(parents=True)
    (tmp_path / "mine" / "below" / "diary.txt").write_text("")
    with pytest.raises(SamplesError, match="mine exists and holds no samples"):
        claim_folder(tmp_path / "mine", ABOUT, World())
    with pytest.raises(SamplesError, match=r"diary\.txt"):
        claim_folder(tmp_path / "mine" / "below" / "diary.txt", ABOUT, World())
    assert not (tmp_path / "mine" / SAMPLES_FILE).exists()
    (tmp_path / "mine" / SAMPLES_FILE).write_text('{"model"')
    with pytest.raises(SamplesError, match=r"samples\.json is no JSON"):
        claim_folder(tmp_path / "mine", ABOUT, World())
