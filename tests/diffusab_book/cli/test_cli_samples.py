"""``diffusab evaluate-samples`` from the shell."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_core import autoencoders
from diffusab_core.data.leaves import Leaves
from diffusab_core.data.open import open_images
from diffusab_core.data.photos import Photos
from diffusab_core.data.pixels import stack
from diffusab_core.experiments import records
from diffusab_core.experiments.samples import pack_samples
from diffusab_core.metrics import evaluate_samples, frechet_distance, offline_features, reference

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
    fake = stack(open_images(places / "samples" / "images", 32, check="header"), range(40))
    expected = evaluate_samples([fake], real, features, progress=False)
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


@torch.no_grad()
def test_the_gap_is_to_the_reference_decoded_again(places, tmp_path):
    words = [places / "samples", places / "real", "--decoded-by", "kl-f4c16"]
    done = invoke(*words, "--out", tmp_path / "record.json", "--cache", tmp_path / "real.safetensors")
    assert done.exit_code == 0, done.output
    record = records.read(tmp_path / "record.json")
    # The same by hand, with the posterior's mean: these posteriors are narrow.
    autoencoder, features = autoencoders.load("kl-f4c16"), offline_features()
    real = stack(open_images(places / "real", 32), range(60))
    decoded = autoencoder.decode(autoencoder.encode(real).mean).clamp(-1, 1)
    fake = stack(open_images(places / "samples" / "images", 32, check="header"), range(40))
    expected = evaluate_samples([fake], reference([decoded], features, progress=False), features, progress=False)
    assert record.metrics["gap_offline"] == pytest.approx(expected["frechet_offline"], rel=0.05)
    plain = invoke(places / "samples", places / "real", "--out", tmp_path / "plain.json")
    assert plain.exit_code == 0, plain.output
    without = {name: value for name, value in record.metrics.items() if name != "gap_offline"}
    assert without == records.read(tmp_path / "plain.json").metrics
    assert record.parameters["decoded_by"] == "kl-f4c16"
    assert record.parameters["decoded_by_digest"]
    assert "gap_offline" in done.output
    # Both statistics are cached, and those of another autoencoder are refused.
    assert (tmp_path / "real-decoded.safetensors").is_file()
    again = invoke(*words, "--out", tmp_path / "again.json", "--cache", tmp_path / "real.safetensors")
    assert again.exit_code == 0, again.output
    assert records.read(tmp_path / "again.json").metrics == record.metrics
    other = invoke(*words[:3], "kl-f8c4", "--cache", tmp_path / "real.safetensors")
    assert other.exit_code == 1
    assert "kl-f4c16" in other.stderr
    assert "kl-f8c4" in other.stderr


def test_decoded_samples_of_a_perfect_denoiser_have_a_gap_of_the_floor(tmp_path):
    """Photographs that went through the autoencoder are far from photographs, and near to their like."""
    autoencoder = autoencoders.load("kl-f4c16")
    photos = Photos(32, "train", seed=3, length=160)
    with torch.no_grad():
        write(tmp_path / "samples", autoencoder.decode(autoencoder.encode(stack(photos, range(160))).mean).clamp(-1, 1))
    done = invoke(tmp_path / "samples", "photos", "--decoded-by", "kl-f4c16", "--out", tmp_path / "record.json")
    assert done.exit_code == 0, done.output
    found = records.read(tmp_path / "record.json").metrics
    assert found["gap_offline"] < 0.6 * found["frechet_offline"]


# ---------------------------------------------------------------------------------------------------------------------
# Files of others


@pytest.fixture(scope="module")
def images():
    return [Leaves(32, 7, labels=False, length=80)[i] for i in range(80)]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-900])


def test_a_broken_reference_image_is_left_out_and_named(images, tmp_path):
    """Twelve images, the eighth of them cut off: the others are the reference, each with its own noise when decoded."""
    write(tmp_path / "samples", images[:40])
    write(tmp_path / "real", images[40:76])
    words = [tmp_path / "samples", tmp_path / "real", "--decoded-by", "kl-f4c16", "--batch-size", 1]
    cut(tmp_path / "real" / "000007.png")
    done = invoke(*words, "--out", tmp_path / "broken.json", "--cache", tmp_path / "c.safetensors")
    assert done.exit_code == 0, done.output
    record = records.read(tmp_path / "broken.json")
    assert (record.metrics["reference_samples"], record.metrics["reference_left_out"]) == (35, 1)
    assert (
        "1 reference images are broken and left out, such as " + str(tmp_path / "real" / "000007.png") in record.notes
    )
    features = offline_features()
    real = reference([torch.stack(images[40:47] + images[48:76])], features, progress=False)
    expected = evaluate_samples([torch.stack(images[:40])], real, features, progress=False)
    assert record.metrics["frechet_offline"] == pytest.approx(expected["frechet_offline"], rel=1e-3)
    again = invoke(*words, "--out", tmp_path / "again.json", "--cache", tmp_path / "c.safetensors")
    assert again.exit_code == 0, again.output
    assert records.read(tmp_path / "again.json").metrics == record.metrics
    evaluate_by_two_processes(words, tmp_path)
    assert records.read(tmp_path / "two.json").metrics == pytest.approx(record.metrics, rel=1e-4)


def test_npz_of_samples_and_of_statistics_in_and_out(images, tmp_path):
    write(tmp_path / "samples", images[:40])
    write(tmp_path / "real", images[40:])
    written = ["--samples-statistics", tmp_path / "s.npz", "--reference-statistics", tmp_path / "r.npz"]
    folders = invoke(tmp_path / "samples", tmp_path / "real", "--out", tmp_path / "a.json", *written)
    assert folders.exit_code == 0, folders.output
    wanted = records.read(tmp_path / "a.json").metrics
    for place in ("samples", "real"):
        pack_samples(sorted((tmp_path / place).glob("*.png")), tmp_path / f"{place}.npz")
        with np.load(tmp_path / f"{place}.npz") as held:
            pixels = ((torch.stack(images[:40] if place == "samples" else images[40:]) + 1) * 127.5).round().byte()
            assert np.array_equal(held["arr_0"], pixels.permute(0, 2, 3, 1).numpy())
    packed = invoke(tmp_path / "samples.npz", tmp_path / "real.npz", "--out", tmp_path / "b.json")
    assert packed.exit_code == 0, packed.output
    assert records.read(tmp_path / "b.json").metrics == wanted
    with np.load(tmp_path / "s.npz") as s, np.load(tmp_path / "r.npz") as r:
        assert sorted(s) == ["count", "mu", "sigma"]
        distance = frechet_distance(*(torch.from_numpy(a[k]) for a in (s, r) for k in ("mu", "sigma")))
        np.savez(tmp_path / "bare.npz", mu=r["mu"], sigma=r["sigma"])  # as pytorch-fid has it
        np.savez(tmp_path / "nan.npz", mu=r["mu"] * np.nan, sigma=r["sigma"])
        adm = {"arr_0": np.load(tmp_path / "real.npz")["arr_0"]}
        np.savez(tmp_path / "adm.npz", mu=r["mu"], sigma=r["sigma"], **adm)
        np.savez(tmp_path / "inception.npz", mu=np.zeros(2048), sigma=np.eye(2048), **adm)
    assert wanted["frechet_offline"] == pytest.approx(float(distance), rel=1e-6)
    bare = invoke(tmp_path / "samples.npz", tmp_path / "bare.npz", "--out", tmp_path / "c.json")
    assert bare.exit_code == 0, bare.output
    record = records.read(tmp_path / "c.json")
    assert record.metrics["frechet_offline"] == pytest.approx(wanted["frechet_offline"], rel=1e-9)
    assert not {"precision", "recall", "reference_samples"} & set(record.metrics)
    assert "mu and sigma of bare.npz, taken to be of these features" in record.notes
    for name in ("adm", "inception"):  # statistics of these features, and of others, beside the images themselves
        whole = invoke(tmp_path / "samples", tmp_path / f"{name}.npz", "--out", tmp_path / f"{name}.json")
        assert whole.exit_code == 0, whole.output
        found = records.read(tmp_path / f"{name}.json").metrics
        assert {key: found[key] for key in ("frechet_offline", "precision", "recall")} == pytest.approx(
            {key: wanted[key] for key in ("frechet_offline", "precision", "recall")}, rel=1e-6
        )
    for words, said in (
        (["nan.npz"], "nan.npz holds NaN or Inf"),
        (["bare.npz", "--cache", tmp_path / "x.safetensors"], "holds statistics already"),
        (["bare.npz", "--decoded-by", "kl-f4c16"], "has statistics"),
        (["real.npz", "--samples-statistics", tmp_path / "x.txt"], "ends with .npz, got"),
        (["real.npz", "--crop", "random"], "crop must be center or adm, got 'random'"),
    ):
        done = invoke(tmp_path / "samples.npz", tmp_path / words[0], *words[1:])
        assert done.exit_code == 1
        assert said in done.stderr
    with np.load(tmp_path / "s.npz") as s:
        np.savez(tmp_path / "other.npz", mu=s["mu"][:9], sigma=s["sigma"])
    done = invoke(tmp_path / "samples.npz", tmp_path / "other.npz")
    assert "holds mu (9,) and sigma (32, 32), offline has 32 features" in done.stderr


def test_the_crop_of_adm_is_named_in_record_and_cache(images, tmp_path):
    write(tmp_path / "samples", images[:40])
    write(tmp_path / "real", [image.repeat_interleave(3, 1).repeat_interleave(4, 2) for image in images[40:]])
    words = [tmp_path / "samples", tmp_path / "real", "--cache", tmp_path / "c.safetensors"]
    done = invoke(*words, "--crop", "adm", "--out", tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    record = records.read(tmp_path / "a.json")
    assert record.parameters["crop"] == "adm"
    assert "cropped as ADM's reference batches are" in record.notes
    plain = invoke(*words)
    assert plain.exit_code == 1
    assert "crop 'adm' -> None" in plain.stderr


def test_sides_that_are_stored_differently_are_said(images, tmp_path):
    write(tmp_path / "png", images[:40])
    for quality in (75, 95):
        (tmp_path / f"jpg{quality}").mkdir()
        for path in (tmp_path / "png").iterdir():
            Image.open(path).save(tmp_path / f"jpg{quality}" / f"{path.stem}.jpg", quality=quality)
    for a, b, said in (
        ("png", "jpg75", "samples as PNG, reference images as JPEG 75"),
        ("jpg75", "jpg95", "samples as JPEG 75, reference images as JPEG 95"),
        ("png", "png", ""),
        ("jpg75", "jpg75", ""),
    ):
        done = invoke(tmp_path / a, tmp_path / b, "--out", tmp_path / "r.json")
        assert done.exit_code == 0, done.output
        record = records.read(tmp_path / "r.json")
        assert ("stored differently" in record.notes) == bool(said)
        assert said in record.notes
        assert done.output.count("stored differently") == bool(said), "said once, below the numbers"
        assert record.notes in done.stdout
        assert record.parameters["samples_stored_as"] == {"PNG" if a == "png" else f"JPEG {a[3:]}": 40}


def bad(places: Path, root: Path, fault: str) -> tuple[list[object], str]:
    """Words for the command, and what it has to say."""
    folder, real = root / "samples", places / "real"
    if fault != "empty":
        write(folder, [Leaves(32, 7, labels=False, length=60)[i] for i in range(34)])
    if fault == "empty":
        folder.mkdir()
        return [folder, real], f"no usable image in {folder}"
    if fault == "too few":
        said = "of offline, it takes more than 32: the distance compares with nothing; --few takes it"
        return [folder, real, "--samples", 32], said
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
        return [folder, real, "--features", "vgg"], "got 'vgg'"
    if fault == "weights for offline":
        return [folder, real, "--features-weights", root], "not for features='offline'"
    if fault == "unwritable":
        return [folder, real, "--out", folder / "000000.png" / "record.json"], "cannot write"
    if fault == "a folder as record":
        return [folder, real, "--out", root], f"{root} is a folder, name a file"
    if fault == "another ending":
        return [folder, real, "--cache", root / "cache.npz"], "ends with .safetensors, got"
    if fault == "no statistics":
        (root / "x.safetensors").write_text("x")
        return [folder, root / "x.safetensors"], "x.safetensors is damaged or holds no reference statistics"
    if fault == "too few neighbours":
        return [folder, real, "--precision-recall", 3], "no k=3 neighbours"
    if fault == "unknown autoencoder":
        return [folder, real, "--decoded-by", "kl-f4c17"], "no autoencoder 'kl-f4c17' (did you mean kl-f4c16?)"
    if fault == "another compression":
        write(folder, [Leaves(32, 7, labels=False, length=60)[i][:, :30, :30] for i in range(34)])
        return [folder, real, "--decoded-by", "kl-f4c16"], "multiples of 4, got 30 x 30"
    if fault == "decoded statistics":
        (root / "x.safetensors").write_text("x")
        return [folder, root / "x.safetensors", "--decoded-by", "kl-f4c16"], "x.safetensors is a file of statistics"
    assert fault == "endless"
    return ["leaves", real], "leaves have neither size nor end: give --resolution and --samples"


@pytest.mark.parametrize(
    "fault",
    [
        "empty", "too few", "too few references", "another size", "not square", "too small", "cut off",
        "half a picture", "unfinished", "no JSON", "nothing there", "missing weights", "unknown features",
        "weights for offline", "unwritable", "a folder as record", "another ending", "no statistics", "endless",
        "too few neighbours", "unknown autoencoder", "another compression", "decoded statistics",
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


def evaluate_by_two_processes(words, tmp_path):
    code = "from diffusab_book.cli import app; app()"
    (tmp_path / "command.py").write_text(code)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*run, str(tmp_path / "command.py"), "evaluate-samples", *map(str, words), "--device", "cpu",
                           "--out", str(tmp_path / "two.json")],
                          capture_output=True, text=True, timeout=500, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("frechet_offline") == 1


def test_two_processes_give_the_record_of_one(places, tmp_path):
    words = ["evaluate-samples", places / "samples", places / "real", "--batch-size", "16", "--decoded-by", "kl-f4c16"]
    evaluate_by_two_processes(words[1:], tmp_path)
    assert invoke(*words[1:], "--out", tmp_path / "one.json").exit_code == 0
    one, two = (records.read(tmp_path / f"{name}.json") for name in ("one", "two"))
    assert two.metrics == pytest.approx(one.metrics, rel=1e-4)
    assert two.parameters == one.parameters
