"""The commands on images and latents as people have them: odd tables, broken files, odd names, latents of others."""

import io
import json
import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_autoencoder
from PIL import Image
from typer.testing import CliRunner

from diffusab_book.cli import COMMANDS as CLI
from diffusab_book.cli import app
from diffusab_core.experiments import records
from diffusab_core.latents.cache import LatentCache

BOOK = Path(__file__).resolve().parents[3] / "book"


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def one_line(done) -> str:
    assert done.exit_code == 1, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("diffusab: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.output
    return lines[0]


def encoded(seed: int, height: int = 40, width: int = 48) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "jpeg", quality=90)
    return out.getvalue()


def tar_of(path, contents):
    with tarfile.open(path, "w") as tar:
        for i, content in enumerate(contents):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


COMMANDS = ["profile", "report", "extract", "finetune", "evaluate", "train-autoencoder", "train", "evaluate-samples"]
CHOICES = ["--split", "--subset", "--image-column", "--label-column", "--image-key", "--allow-empty"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_opens_images_takes_what_chooses_among_them(command):
    said = invoke(command, "--help").output
    assert [choice for choice in CHOICES if choice not in said] == []


@pytest.mark.parametrize("page", ["own_data", "fid"])
def test_the_pages_name_options_that_there_are(page):
    text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
    known = set(re.findall(r"--[a-z][a-z0-9-]*", " ".join(invoke(name, "--help").output for name in CLI)))
    assert set(re.findall(r"--[a-z][a-z0-9-]*", text)) - known <= {"--nproc-per-node"}  # of torchrun
    assert set(re.findall(r"diffusab ([a-z-]+) ", text)) <= set(CLI)


def test_columns_of_a_table(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    images, labels = [encoded(i) for i in range(4)], pa.array([0, 1, 2, 3])
    table = pa.table({"photo": images, "mask": images[::-1], "cls": labels, "label": pa.array([0, 0, 1, 1])})
    pq.write_table(table, tmp_path / "x.parquet")
    words = ["extract", "kl-f4c16", tmp_path / "c", "--images", tmp_path / "x.parquet", "--resolution", 16,
             "--device", "cpu", "--labels"]  # fmt: skip
    assert "choose one with image_column (--image-column): photo" in one_line(invoke(*words))
    words += ["--image-column", "photo"]
    assert "choose one with label_column (--label-column): photo" in one_line(invoke(*words))
    done = invoke(*words, "--label-column", "label")
    assert done.exit_code == 0, done.output
    cache = LatentCache(tmp_path / "c")
    assert cache.posterior(range(4))[2].tolist() == [0, 0, 1, 1]
    assert (cache.identity["image_column"], cache.identity["label_column"]) == ("photo", "label")
    other = one_line(invoke(*words, "--label-column", "cls"))
    assert "label_column 'label' -> 'cls'" in other
    assert "split is no option for" in one_line(invoke("profile", "kl-f4c16", "--images", tmp_path, "--split", "test"))
    assert "subset is no option for photos" in one_line(invoke("report", "kl-f4c16", "--subset", "small"))
    assert "--image-key is for images" in one_line(
        invoke("train", tmp_path / "c", tmp_path / "d", "--image-key", "jpg")
    )


def test_a_broken_image_in_a_shard_costs_nothing_but_itself(tmp_path):
    contents = [encoded(i) for i in range(5)]
    tar_of(tmp_path / "x.tar", [*contents[:3], contents[3][:900], contents[4]])
    small = ["--images", tmp_path / "x.tar", "--resolution", 16, "--device", "cpu"]
    done = invoke("extract", "kl-f4c16", tmp_path / "c", *small)
    assert done.exit_code == 0, done.output
    assert "left out 1, such as x.tar: 3.jpg: cannot be decoded" in done.stdout
    assert "4 latents of 16 x 4 x 4" in done.stdout
    done = invoke("evaluate", "kl-f4c16", *small, "--block-size", 4, "--out", tmp_path / "e.json")
    assert done.exit_code == 0, done.output
    assert "1 images are broken and left out, the first is x.tar: 3.jpg" in records.read(tmp_path / "e.json").notes
    train = ["--steps", 3, "--batch-size", 4]
    model = small_autoencoder.write(tmp_path / "mine")
    done = invoke("finetune", model, "--out", tmp_path / "f", *small, *train, "--perceptual", "none",
                  "--method", "plain")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.stderr.count("diffusab: warning: an image is left out of the training") == 1
    assert "x.tar: 3.jpg: cannot be decoded" in done.stderr
    done = invoke("train", "kl-f4c16", tmp_path / "d", "--denoiser", "DiT-XXS/1", *small, *train)
    assert done.exit_code == 0, done.output
    assert "x.tar: 3.jpg: cannot be decoded" in done.stderr


def test_a_name_that_is_no_utf_8_and_pieces_that_are_no_squares(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    for name, height in ((b"a\xe9.jpg", 40), (b"b.jpg", 44), (b"c\xff.jpg", 30)):
        with open(folder + b"/" + name, "wb") as file:
            file.write(encoded(0, height, 80))
    place = os.fsdecode(folder)
    done = invoke("report", "kl-f4c16", "--images", place, "--resolution", "32x64", "--device", "cpu",
                  "--out", tmp_path / "out")  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert found["images"]["used"] == ["a\\xe9.jpg", "b.jpg"]
    assert found["models"][0]["profile"]["shape"] == [16, 8, 16]
    assert "caf\\xe9" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "c\\xff.jpg: 80 x 30 pixels, smaller than the resolution 64 x 32" in done.stdout
    words = ["--images", place, "--resolution", "32x64", "--device", "cpu"]
    done = invoke("extract", "kl-f4c16", tmp_path / "c", *words)
    assert done.exit_code == 0, done.output
    assert "2 latents of 16 x 8 x 16" in done.stdout
    line = one_line(invoke("profile", "kl-f4c16", *words[:2], "--resolution", "32x40"))
    assert "so 32 x 40 images give no latents that 8 x 8 blocks fit" in line
    assert "for instance 32 " in line
    assert "resolution must be a whole number of pixels" in one_line(
        invoke("profile", "kl-f4c16", "--resolution", "4x")
    )


def test_latents_of_another_program_are_profiled_trained_on_and_sampled_from(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("n01", "n02"):
        (tmp_path / "cached" / name).mkdir(parents=True)
        for i in range(4):
            moments = rng.standard_normal((2, 32, 8, 8)).astype(np.float32)
            np.savez(tmp_path / "cached" / name / f"{i}.JPEG.npz", moments=moments[0], moments_flip=moments[1])
    done = invoke("profile", "--latents", tmp_path / "cached", "--device", "cpu", "--out", tmp_path / "p")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "p" / "profile.json").read_text())["models"][0]["profile"]["shape"] == [16, 8, 8]
    small = ["--denoiser", "DiT-XXS/1", "--steps", 2, "--batch-size", 4, "--device", "cpu"]
    done = invoke("train", tmp_path / "cached", tmp_path / "d", *small)
    assert done.exit_code == 0, done.output
    sample = ["sample", tmp_path / "d", tmp_path / "s", "--samples", 3, "--steps", 1, "--device", "cpu"]
    assert "name --autoencoder" in one_line(invoke(*sample))
    done = invoke(*sample, "--autoencoder", "kl-f4c16", "--npz", tmp_path / "s.npz")
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "s.npz") as held:
        assert held["arr_0"].shape == (3, 32, 32, 3)
        with Image.open(tmp_path / "s" / "images" / "000001.png") as image:
            assert np.array_equal(held["arr_0"][1], np.array(image))
    assert "ends with .npz, got" in one_line(invoke(*sample, "--autoencoder", "kl-f4c16", "--npz", tmp_path / "s.txt"))
