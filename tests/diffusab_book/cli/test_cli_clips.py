"""The commands on a folder of films and a video autoencoder."""

import json

import numpy as np
import pytest
from made_clips import cut, moving, save_video
from small_video import save_small_video
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_core.experiments import autoencoder
from diffusab_core.latents.cache import LatentCache


def invoke(*words: object):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code in (0, 1), done.output
    if done.exit_code:
        assert [line[:10] for line in done.stderr.splitlines()].count("diffusab: ") == 1, done.output
        assert "Traceback" not in done.output
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A video autoencoder and a folder of films: three whole ones and one that is cut off."""
    root = tmp_path_factory.mktemp("clips")
    save_small_video(root / "model")
    for seed in range(3):
        save_video(root / "films" / f"{seed}.mp4", moving(7, 64, 64, seed))
    cut(save_video(root / "films" / "cut.mp4", moving(7, 64, 64)), 0.5)
    return root


def test_films_become_a_cache(place, tmp_path):
    words = ["extract", place / "model", tmp_path / "c", "--images", place / "films", "--resolution", 32]
    done = invoke(*words, "--frames", 5)
    assert done.exit_code == 0, done.output
    assert "left out 1, such as cut.mp4: cannot be opened as video" in done.output
    assert "3 latents of 3 x 2 x 4 x 4, no labels" in done.output
    assert "3 clips encoded, " in done.output
    assert LatentCache(tmp_path / "c").identity["frames"] == 5
    again = invoke(*words, "--frames", 5)
    assert "nothing had to be encoded" in again.output
    for out, more, said in (
        ("new", [], "holds clips: say with frames (--frames 17)"),
        ("new", ["--frames", 6], "takes clips of 4k + 1 frames, got 6; cut to 5 or pad to 9"),
        ("c", [], "holds latents of other settings (frames 5 -> None)"),
        ("c", ["--frames", 9], "holds latents of other settings (frames 5 -> 9)"),
        ("c", ["--frames", 5, "--fps", 30], "holds latents of other settings (fps None -> 30.0)"),
    ):
        done = invoke(*words[:2], tmp_path / out, *words[3:], *more)
        assert done.exit_code == 1
        assert said in " ".join(done.stderr.split())


def test_profile_and_report_look_at_clips(place, tmp_path):
    words = [place / "model", "--images", place / "films", "--frames", 5, "--resolution", 64]
    done = invoke("profile", *words, "--out", tmp_path / "p")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "p" / "profile.json").read_text())
    text = json.dumps(found)
    assert "3 clips from " in text
    assert "5 frames each; spectrum, noise" in text
    done = invoke("report", *words, "--samples", 1, "--out", tmp_path / "r")
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    (model,) = report["models"]
    assert model["profile"]["shape"] == [3, 2, 8, 8]
    assert {"noise", "reconstruction", "scale", "cut", "dependence", "gratings", "cutoff"} <= model.keys()
    assert model["not_measured"].keys() <= {"lpips", "diffusability", "stake"}, (
        "one clip has no other one to permute with"
    )
    assert np.isfinite(model["cut"]["latent"]).all()
    # The first cut leaves everything: the same clips, the same reconstruction.
    assert model["cut"]["latent"][0] == pytest.approx(model["reconstruction"]["psnr_db"])


def test_evaluate_tells_how_clips_are_reconstructed(place, tmp_path):
    words = ["evaluate", place / "model", "--images", place / "films", "--frames", 5, "--resolution", 64]
    done = invoke(*words, "--out", tmp_path / "e.json")
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "e.json").read_text())
    assert record["data"].startswith("3 clips of 5 frames of 64 x 64 of ")
    assert "left out: 32 features need more than 32 frames, got 15" in record["notes"]
    assert record["parameters"]["frames"] == 5
    done = invoke("evaluate", "kl-f4c16", "--images", place / "films", "--frames", 5, "--resolution", 64)
    assert "encodes images, not clips of 5 frames; take a video autoencoder" in done.stderr


def test_a_video_autoencoder_is_fine_tuned_on_films(place, tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder, "probe_side", lambda *_: 64)  # a quarter of the time
    words = ["finetune", place / "model", "--images", place / "films", "--frames", 5, "--resolution", 64]
    words += ["--steps", 1, "--batch-size", 2, "--perceptual", "none", "--method", "se", "--out", tmp_path / "f"]
    done = invoke(*words)
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "f" / "record.json").read_text())
    assert record["metrics"]["probe_images"] == 8
    assert record["parameters"]["frames"] == 5
    assert np.isfinite(record["series"]["se"]).all()
    assert "measured on 8 probe clips" in (tmp_path / "f" / "README.md").read_text()
    assert "wrote" in invoke(*words).output, "and is only read back"
