"""A kill in the middle of each command, on the way from a folder of films to judged clips, loses nothing."""

import json
import sys
from pathlib import Path

import pytest
from killing import kill_once
from made_clips import moving, save_video
from small_video import save_small_video
from typer.testing import CliRunner

from diffusab_book.cli import app

FRAMES, SIDE, COUNT = 5, 32, 12
CLIPS = ("--frames", FRAMES, "--resolution", SIDE, "--device", "cpu")
EXTRACT = (*CLIPS, "--shard-size", 1, "--batch-size", 1)
TRAIN = ("--denoiser", "DiT-XXS/2", "--steps", 12, "--batch-size", 2, "--checkpoint-every", 1, "--device", "cpu")
SAMPLE = ("--samples", COUNT, "--steps", 4, "--batch-size", 1, "--device", "cpu")
JUDGE = (*CLIPS, "--features", "clip_offline", "--few", "--precision-recall", 0)


def invoke(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def command(*words: object) -> list[object]:
    return [sys.executable, "-m", "diffusab_book", *words]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Everything that the commands make when nobody disturbs them."""
    root = tmp_path_factory.mktemp("whole")
    save_small_video(root / "model")
    for seed in range(COUNT):
        save_video(root / "films" / f"{seed:02d}.mp4", moving(FRAMES, 40, 40, seed))
    invoke("extract", root / "model", root / "cache", "--images", root / "films", *EXTRACT)
    invoke("train", root / "cache", root / "denoiser", *TRAIN)
    invoke("sample", root / "denoiser", root / "samples", *SAMPLE)
    return root


def test_killed_in_the_middle_an_extraction_ends_with_the_same_bytes(whole, tmp_path):
    cut, words = tmp_path / "cut", ("--images", whole / "films", *EXTRACT)
    kill_once(command("extract", whole / "model", cut, *words), lambda: len(list(cut.glob("*.safetensors"))) >= 2)
    assert json.loads((cut / "latents.json").read_text())["complete"] is False
    kept = {path: path.stat().st_mtime_ns for path in cut.glob("*.safetensors")}
    said = invoke("extract", whole / "model", cut, *words)
    encoded = int(said.split(" clips encoded")[0].split()[-1])
    assert COUNT - len(kept) <= encoded <= COUNT + 1 - len(kept), "at most the shard in hand is encoded twice"
    assert sum(path.stat().st_mtime_ns == was for path, was in kept.items()) >= len(kept) - 1
    assert contents(cut) == contents(whole / "cache")


def test_killed_in_the_middle_a_training_ends_with_the_same_weights(whole, tmp_path):
    cut = tmp_path / "cut"
    kill_once(
        command("train", whole / "cache", cut, *TRAIN),
        lambda: max(cut.glob("training/checkpoints/step_????????"), default=Path()).name >= "step_00000002",
    )
    assert not (cut / "record.json").exists()
    invoke("train", whole / "cache", cut, *TRAIN)
    for name in ("denoiser.safetensors", "denoiser.json"):
        assert (cut / name).read_bytes() == (whole / "denoiser" / name).read_bytes(), name
    losses = [json.loads((place / "record.json").read_text())["series"]["loss"] for place in (cut, whole / "denoiser")]
    assert losses[0] == losses[1]


def test_killed_in_the_middle_sampling_ends_with_the_same_clips(whole, tmp_path):
    cut = tmp_path / "cut"
    kill_once(
        command("sample", whole / "denoiser", cut, *SAMPLE), lambda: len(list((cut / "clips").glob("*.mp4"))) >= 2
    )
    kept = {path: path.stat().st_mtime_ns for path in (cut / "clips").glob("*.mp4")}
    assert 2 <= len(kept) < COUNT
    invoke("sample", whole / "denoiser", cut, *SAMPLE)
    assert all(path.stat().st_mtime_ns == was for path, was in kept.items()), "none is drawn twice"
    assert contents(cut / "clips") == contents(whole / "samples" / "clips")
    assert contents(cut) == contents(whole / "samples")


def test_killed_in_the_middle_a_judgement_leaves_nothing_half_done_and_is_the_same(whole, tmp_path):
    words = (whole / "samples", whole / "films", *JUDGE)
    found = {}
    for name in ("straight", "cut"):
        out, cache = tmp_path / f"{name}.json", tmp_path / f"{name}.safetensors"
        judge = ("evaluate-samples", *words, "--cache", cache, "--out", out)
        if name == "cut":
            # The statistics of the reference are the first thing on disk; the samples are looked at after.
            kill_once(command(*judge), cache.exists)
            assert not out.exists()
            kept = cache.read_bytes()
        invoke(*judge)
        found[name] = json.loads(out.read_text())["metrics"]
    assert found["cut"] == found["straight"]
    assert kept == (tmp_path / "cut.safetensors").read_bytes() == (tmp_path / "straight.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}.{end}" for name in ("cut", "straight") for end in ("json", "safetensors")
    ]
