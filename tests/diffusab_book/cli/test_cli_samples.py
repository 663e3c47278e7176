"""``diffusab evaluate-samples`` from the shell."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_core.data.leaves import Leaves
from diffusab_core.data.open import open_images
from diffusab_core.data.pixels import stack
from diffusab_core.experiments import records
from diffusab_core.metrics import evaluate_samples, offline_features, reference

SAMPLING = {
    "model": "denoiser", "autoencoder": "kl-f8c16", "sampler": "heun", "steps": 20, "guidance": 1.5,
    "guidance_interval": [0.0, 1.0], "shift": 1.0, "seed": 4, "count": 40, "class_counts": {"0": 20, "1": 20},
    "precision": "fp32",
}  # fmt: skip


def invoke(*words: object):
    return CliRunner().invoke(app, ["evaluate-samples", *map(str, words), "--device", "cpu"])


def write(folder: Path, images) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        pixels = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{i:06d}.png")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder as `diffusab sample` leaves it, and one of real images that are larger."""
    root = tmp_path_factory.mktemp("places")
    images = [Leaves(32, 7, labels=False, length=60)[i] for i in range(60)]
    write(root / "samples" / "images", images[:40])
    (root / "samples" / "samples.json").write_text(json.dumps(SAMPLING))
    Image.new("RGB", (200, 100)).save(root / "samples" / "grid.png")
    (root / "samples" / "images" / ".000040.png.tmp").write_bytes(
        (root / "samples" / "images" / "000000.png").read_bytes()
    )
    write(root / "real" / "a", [image.repeat_interleave(2, 1).repeat_interleave(2, 2) for image in images[:30]])
    write(root / "real" / "b", [image.repeat_interleave(2, 1).repeat_interleave(2, 2) for image in images[30:]])
    (root / "real" / "LICENCE.txt").write_text("none")
    return root


def test_a_record_says_what_was_compared_with_what_and_how(places, tmp_path):
    done = invoke(places / "samples", places / "real", "--out", tmp_path / "new" / "record.json")
    assert done.exit_code == 0, done.output
    record = records.read(tmp_path / "new" / "record.json")
    m, p = record.metrics, record.parameters
    assert (m["samples"], m["reference_samples"], p["sample_count"]) == (40, 60, 40)
    assert (p["resolution"], p["features"], p["dimensions"], p["k"], p["quantised"]) == (32, "offline", 32, 3, True)
    assert p["sampling"] == SAMPLING
    assert p["features_digest"] in record.notes
    assert "not Inception" in record.notes
    assert m.keys() >= {"frechet_offline", "precision", "recall", "inception_score", "inception_score_std"}
    features = offline_features()
    real = reference([stack(open_images(places / "real", 32), range(60))], features, progress=False)
    fake = stack(open_images(places / "samples" / "images", 32, check="header"), range(41))
    expected = evaluate_samples([fake[1:]], real, features, progress=False)  # 0 is the hidden one
    assert m == pytest.approx(expected, rel=1e-4)
    for name, value in m.items():
        assert f"{name:<24}  {value:.5g}" in done.output
    assert f"40 samples of 32 x 32 of {places / 'samples'} against {places / 'real'}" in done.output


def test_cached_statistics_give_the_same_and_stand_for_the_images(places, tmp_path):
    cache = tmp_path / "real.safetensors"
    words = ["--precision-recall", 35, "--out"]
    first = invoke(places / "samples", places / "real", "--cache", cache, *words, tmp_path / "1.json")
    assert first.exit_code == 0, first.output
    second = invoke(places / "samples", places / "real", "--cache", cache, *words, tmp_path / "2.json")
    third = invoke(places / "samples", cache, *words, tmp_path / "3.json")
    found = []
    for i, done in enumerate((first, second, third), 1):
        assert done.exit_code == 0, done.output
        found.append(records.read(tmp_path / f"{i}.json").metrics)
    assert found[0] == found[1] == found[2]
    assert found[0]["precision_recall_samples"] == 35
    for words, message in (
        (["--reference-samples", 50], "count 60 -> 50"),
        (["--resolution", 16], "resolution 32 -> 16"),
    ):
        done = invoke(places / "samples", places / "real", "--cache", cache, *words, "--precision-recall", 35)
        assert done.exit_code == 1
        assert message in done.stderr
    done = invoke(places / "samples", cache, "--resolution", 16)
    assert done.exit_code == 1
    assert "is over images of 32 pixels, the samples have 16" in done.stderr


def test_other_samples_than_those_cached_are_other_images(places, tmp_path):
    cache = tmp_path / "real.safetensors"
    real = tmp_path / "real"
    write(real, [Leaves(32, 7, labels=False, length=60)[i] for i in range(40)])
    assert invoke(places / "samples", real, "--cache", cache).exit_code == 0
    Image.new("RGB", (32, 32)).save(real / "one-more.png")
    done = invoke(places / "samples", real, "--cache", cache)
    assert done.exit_code == 1
    assert "count 40 -> 41" in done.stderr
    assert "images_found '40 (" in done.stderr


def test_fewer_samples_a_size_and_no_precision_and_recall(places, tmp_path):
    done = invoke(
        places / "samples", "leaves", "--samples", 20, "--few", "--resolution", 16, "--precision-recall", 0,
        "--reference-samples", 36, "--out", tmp_path / "record.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = records.read(tmp_path / "record.json")
    assert (record.metrics["samples"], record.metrics["reference_samples"]) == (20, 36)
    assert record.parameters["resolution"] == 16
    assert "precision" not in record.metrics
    assert "Too few images" in record.notes


def test_fresh_leaves_are_judged_against_other_leaves(tmp_path):
    done = invoke("leaves", "leaves", "--resolution", 32, "--samples", 40, "--out", tmp_path / "record.json")
    assert done.exit_code == 0, done.output
    assert records.read(tmp_path / "record.json").metrics["frechet_offline"] > 0.01  # not the same images


def bad(places: Path, root: Path, fault: str) -> tuple[list[object], str]:
    """Words for the command, and what it has to say."""
    folder, real = root / "samples", places / "real"
    if fault != "empty":
        write(folder, [Leaves(32, 7, labels=False, length=60)[i] for i in range(34)])
    if fault == "empty":
        folder.mkdir()
        return [folder, real], f"no usable image in {folder}"
    if fault == "too few":
        return [folder, real, "--samples", 32], "32 samples are too few for the 32 features of offline"
    if fault == "too few references":
        return [folder, real, "--reference-samples", 9], "9 reference images are too few for the 32 features"
    if fault == "another size":
        Image.new("RGB", (16, 48)).save(folder / "zz.png")
        return [folder, real], f"{folder / 'zz.png'}: 16 x 48 pixels and not 32 x 32"
    if fault == "not square":
        Image.new("RGB", (64, 48)).save(folder / "000000.png")
        return [folder, real], "64 x 48 pixels and not 48 x 48"
    if fault == "too small":
        return [folder, real, "--resolution", 64], "32 x 32 pixels, smaller than the resolution 64"
    if fault == "cut off":
        (folder / "000003.png").write_bytes(b"")
        return [folder, real], "1 samples cannot be used, the first is " + str(folder / "000003.png")
    if fault == "half a picture":
        noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "000003.png")
        whole = (folder / "000003.png").read_bytes()
        (folder / "000003.png").write_bytes(whole[: len(whole) // 2])
        return [folder, real], str(folder / "000003.png")
    if fault == "unfinished":
        (folder / "samples.json").write_text(json.dumps(SAMPLING))
        return [folder, real], "holds 34 images, samples.json says 40"
    if fault == "no JSON":
        (folder / "samples.json").write_text("{")
        return [folder, real], "samples.json is no JSON"
    if fault == "nothing there":
        return [folder, root / "none"], f"there is no folder {root / 'none'}"
    if fault == "missing weights":
        return [folder, real, "--features", "dinov2", "--features-weights", root], "no weights for DINOv2"
    if fault == "unknown features":
        return [folder, real, "--features", "vgg"], "features must be one of offline, inception, dinov2, got 'vgg'"
    if fault == "weights for offline":
        return [folder, real, "--features-weights", root], "features_weights are for inception or dinov2"
    if fault == "unwritable":
        return [folder, real, "--out", folder / "000000.png" / "record.json"], "cannot write"
    if fault == "a folder as record":
        return [folder, real, "--out", root], f"{root} is a folder, name a file"
    if fault == "another ending":
        return [folder, real, "--cache", root / "cache.npz"], "ends with .safetensors, got"
    if fault == "no statistics":
        (root / "x.safetensors").write_text("x")
        return [folder, root / "x.safetensors"], "x.safetensors is damaged or holds no reference statistics"
    assert fault == "endless"
    return ["leaves", real], "leaves have neither size nor end: give --resolution and --samples"


@pytest.mark.parametrize(
    "fault",
    [
        "empty", "too few", "too few references", "another size", "not square", "too small", "cut off",
        "half a picture", "unfinished", "no JSON", "nothing there", "missing weights", "unknown features",
        "weights for offline", "unwritable", "a folder as record", "another ending", "no statistics", "endless",
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(fault, places, tmp_path, monkeypatch):
    pytest.importorskip("timm" if fault == "missing weights" else "typer")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    words, message = bad(places, tmp_path, fault)
    done = invoke(*words)
    assert done.exit_code == 1, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("diffusab: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in done.output


def test_two_processes_give_the_record_of_one(places, tmp_path):
    code = "from diffusab_book.cli import app; app()"
    (tmp_path / "command.py").write_text(code)
    words = ["evaluate-samples", str(places / "samples"), str(places / "real"), "--device", "cpu", "--batch-size", "16"]
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*run, str(tmp_path / "command.py"), *words, "--out", str(tmp_path / "two.json")],
                          capture_output=True, text=True, timeout=500, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("frechet_offline") == 1
    assert invoke(*words[1:], "--out", tmp_path / "one.json").exit_code == 0
    one, two = (records.read(tmp_path / f"{name}.json") for name in ("one", "two"))
    assert two.metrics == pytest.approx(one.metrics, rel=1e-4)
    assert two.parameters == one.parameters
