"""The way from a folder of films to judged clips, from a shell."""

import json
import shutil

import numpy as np
import pytest
from made_clips import cut, moving, save_video
from PIL import Image
from small_video import save_small_video
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_core import experiments
from diffusab_core.data import open_images

FRAMES, SIDE = 5, 32
TRAIN = ("--denoiser", "DiT-XXS/2", "--steps", 4, "--batch-size", 4, "--checkpoint-every", 2)
SAMPLE = ("--samples", 6, "--steps", 2, "--batch-size", 4, "--device", "cpu")


def invoke(*words: object, refused: bool = False) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == int(refused), done.output
    return " ".join((done.stderr if refused else done.output).split())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("video")
    save_small_video(root / "model")
    for seed in range(8):
        save_video(root / "films" / f"{seed}.mp4", moving(FRAMES, 40, 40, seed))
    invoke("extract", root / "model", root / "cache", "--images", root / "films", "--resolution", SIDE, "--frames",
           FRAMES, "--device", "cpu")  # fmt: skip
    invoke("train", root / "cache", root / "denoiser", *TRAIN, "--device", "cpu")
    invoke("sample", root / "denoiser", root / "samples", *SAMPLE)
    return root


def test_clips_are_drawn_as_files_and_strips(place):
    opened = experiments.open_denoiser(place / "denoiser")
    assert opened.shape == (3, 2, SIDE // 8, SIDE // 8)
    names = sorted(path.name for path in (place / "samples" / "clips").iterdir())
    assert names == [f"{i:06d}.{end}" for i in range(6) for end in ("mp4", "png")]
    clips = open_images(place / "samples" / "clips", SIDE, frames=FRAMES, progress=False)
    assert len(clips) == 6
    assert clips[0].shape == (3, FRAMES, SIDE, SIDE)
    strip = Image.open(place / "samples" / "clips" / "000000.png")
    first = np.asarray(strip.crop((0, 0, SIDE, SIDE)))
    assert np.array_equal(first, ((clips[0][:, 0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    assert Image.open(place / "samples" / "grid.png").size[0] >= FRAMES * SIDE
    assert json.loads((place / "samples" / "samples.json").read_text())["count"] == 6


def test_the_same_command_draws_what_is_missing(place, tmp_path):
    shutil.copytree(place / "samples", tmp_path / "s")
    lost, strip = (tmp_path / "s" / "clips" / f"000004.{end}" for end in ("mp4", "png"))
    wanted = lost.read_bytes()
    lost.unlink()
    strip.unlink()
    assert "wrote 6 clips" in invoke("sample", place / "denoiser", tmp_path / "s", *SAMPLE)
    assert lost.read_bytes() == wanted
    assert strip.is_file()


def test_clips_are_judged_and_real_ones_are_nearer(place, tmp_path):
    said, found = {}, {}
    words = ("--frames", FRAMES, "--features", "clip_offline", "--few", "--precision-recall", 0, "--device", "cpu")
    for name, samples in {"drawn": place / "samples", "real": place / "films"}.items():
        said[name] = invoke(
            "evaluate-samples",
            samples,
            place / "films",
            *words,
            "--resolution",
            SIDE,
            "--out",
            tmp_path / f"{name}.json",
        )
        found[name] = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["drawn"]["metrics"]["samples"] == 6
    assert found["drawn"]["parameters"]["sampling"]["steps"] == 2
    assert found["drawn"]["parameters"]["frames"] == FRAMES
    real, drawn = (found[name]["metrics"]["frechet_clip_offline"] for name in ("real", "drawn"))
    assert real == pytest.approx(0, abs=1e-3)
    assert drawn > 10 * abs(real)
    assert "6 samples of 5 frames of 32 x 32" in said["drawn"]
    assert "the distance not FVD" in found["drawn"]["notes"]


def test_the_gap_of_clips_is_to_decoded_ones(place, tmp_path):
    words = ("--frames", FRAMES, "--features", "clip_offline", "--few", "--precision-recall", 0, "--device", "cpu")
    invoke("evaluate-samples", place / "samples", place / "films", *words, "--decoded-by", place / "model", "--out",
           tmp_path / "gap.json")  # fmt: skip
    metrics = json.loads((tmp_path / "gap.json").read_text())["metrics"]
    assert 0 < metrics["gap_clip_offline"] != metrics["frechet_clip_offline"]


def test_what_does_not_fit_is_one_line(place, tmp_path):
    judge = ("evaluate-samples", place / "samples", place / "films")
    for words, said in (
        ((*judge, "--features", "clip_offline"), "are of clips: say with frames (--frames)"),
        ((*judge, "--frames", FRAMES), "features offline are of images; of clips are clip_offline"),
        (("sample", place / "denoiser", tmp_path / "x", *SAMPLE, "--npz", tmp_path / "x.npz"), "makes clips"),
    ):
        assert said in invoke(*words, refused=True)
    shutil.copytree(place / "samples", tmp_path / "s")
    cut(tmp_path / "s" / "clips" / "000002.mp4", 0.5)
    judge = ("evaluate-samples", tmp_path / "s", place / "films", "--frames", FRAMES, "--features", "clip_offline")
    assert "1 samples cannot be used, the first is" in invoke(*judge, refused=True)
