"""What is wrong with samples is found, each fault under its own cause; good ones are let pass."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_core.data import Photos
from diffusab_core.experiments.doctor import Diagnosis, diagnose
from diffusab_core.metrics.samples import SamplesError

SAMPLING = {"autoencoder": "kl-f8c4", "sampler": "euler", "steps": 256, "guidance": 1.0, "guidance_interval": [0, 1],
            "count": 24, "class_counts": {"0": 12, "1": 12}}  # fmt: skip


def write(folder, seed, change=lambda pixels: pixels, side=32, ending="png", **saving):
    for i, image in enumerate(Photos(side, "train", seed, 24)):
        pixels = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        path = folder / f"{i:06d}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(change(pixels)).save(path, **saving)
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    root = tmp_path_factory.mktemp("reference")
    for i, name in enumerate(("cat", "dog")):
        write(root / name, 10 + i)
    return root


@pytest.fixture
def samples(tmp_path):
    write(tmp_path / "samples" / "images", 3)
    (tmp_path / "samples" / "samples.json").write_text(json.dumps(SAMPLING))
    return tmp_path / "samples"


def verdicts(samples, reference, **more):
    return {finding.cause: finding.verdict for finding in diagnose(Diagnosis(str(samples), str(reference), **more))}


def test_good_samples_are_only_too_few(samples, reference):
    found = verdicts(samples, reference)
    assert found.pop("number of samples") == "look"
    assert len(found) == 8
    assert set(found.values()) == {"ok"}


@pytest.mark.parametrize(
    ("cause", "fault"),
    [
        ("normalisation", {"change": lambda p: (p // 2 + 64).astype(np.uint8)}),
        ("normalisation", {"change": lambda p: np.clip((p.astype(int) - 128) * 4 + 128, 0, 255).astype(np.uint8)}),
        ("size and resizing", {"side": 24}),
        ("storage", {"ending": "jpg", "quality": 75}),
    ],
)
def test_what_is_wrong_with_pictures_is_found(tmp_path, reference, cause, fault):
    assert verdicts(write(tmp_path / "samples", 3, **fault), reference)[cause] == "look"


def test_copies_are_found(samples, reference):
    same = (samples / "images" / "000000.png").read_bytes()
    (samples / "images" / "000007.png").write_bytes(same)
    assert verdicts(samples, reference)["copies"] == "look"


@pytest.mark.parametrize(
    ("cause", "changed"),
    [
        ("guidance", {"guidance": 4.0}),
        ("steps", {"steps": 10}),
        ("class balance", {"class_counts": {"0": 20, "1": 4}}),
    ],
)
def test_what_is_wrong_with_the_sampling_is_found(samples, reference, cause, changed):
    assert verdicts(samples, reference)[cause] == "ok"
    (samples / "samples.json").write_text(json.dumps(SAMPLING | changed))
    assert verdicts(samples, reference)[cause] == "look"


def test_what_the_files_do_not_say_is_not_known(tmp_path, samples, reference):
    found = verdicts(samples / "images", reference)
    assert {cause for cause, verdict in found.items() if verdict == "unknown"} == {
        "guidance", "steps", "autoencoder", "class balance",
    }  # fmt: skip
    np.savez(tmp_path / "r.npz", mu=np.zeros(32), sigma=np.eye(32))
    found = verdicts(samples, tmp_path / "r.npz")
    assert {cause for cause, verdict in found.items() if verdict == "unknown"} == {
        "size and resizing", "storage", "normalisation", "class balance",
    }  # fmt: skip
    with pytest.raises(SamplesError, match="no samples of a model"):
        verdicts("photos", reference)


def test_from_the_shell(samples, reference):
    done = CliRunner().invoke(app, ["doctor", str(samples), str(reference)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == 9
    assert lines[0].startswith("LOOK  number of samples: 24 samples against 48 reference images; published")
    assert any(line.startswith("ok    autoencoder: kl-f8c4") for line in lines)
    done = CliRunner().invoke(app, ["doctor", str(samples), str(reference), "--limit", "1"])
    assert (done.exit_code, done.stderr) == (1, "diffusab: limit must be at least 2, got 1\n")


def test_broken_reference_images_are_counted(samples, tmp_path):
    root = write(tmp_path / "some", 10)
    (root / "000003.png").write_bytes((root / "000003.png").read_bytes()[:200])
    number = next(f for f in diagnose(Diagnosis(str(samples), str(root))) if f.cause == "number of samples")
    assert "1 of 24 cannot be opened" in number.said


def test_arrays_are_no_files(samples, reference, tmp_path):
    np.savez(tmp_path / "s.npz", arr_0=np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8))
    jpegs = write(tmp_path / "jpegs", 10, ending="jpg", quality=75)
    said = next(f.said for f in diagnose(Diagnosis(str(tmp_path / "s.npz"), str(jpegs))) if f.cause == "storage")
    assert "samples as arrays, reference images as JPEG 75" in said
