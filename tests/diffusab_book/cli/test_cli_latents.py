"""``diffusab extract`` from the shell."""

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from killing import kill_once
from PIL import Image
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_core.latents.cache import LatentCache

SMALL = ["--resolution", "16", "--device", "cpu"]
COMMAND = [sys.executable, "-m", "diffusab_book"]


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for kind in ("ant", "bee"):
        (root / kind).mkdir()
        for i in range(5):
            side = 12 if (kind, i) == ("bee", 0) else 20
            Image.fromarray(rng.integers(0, 256, (side, 24, 3), dtype=np.uint8)).save(root / kind / f"{i}.png")
    return root


def test_a_folder_becomes_a_cache_that_can_be_verified(images, tmp_path):
    words = [
        "extract",
        "kl-f4c16",
        tmp_path / "c",
        "--images",
        images,
        "--labels",
        "--flips",
        "--shard-size",
        4,
        *SMALL,
    ]
    done = invoke(*words)
    assert done.exit_code == 0, done.output
    assert "left out 1, such as bee/0.png: 24 x 12 pixels, smaller than the resolution 16" in done.output
    size = sum(path.stat().st_size for path in (tmp_path / "c").glob("*.safetensors")) / 1e6
    assert f"9 latents of 16 x 4 x 4, 2 classes, {size:.1f} MB in {tmp_path / 'c'}" in done.output
    assert "9 images encoded, " in done.output
    assert "images/s" in done.output
    cache = LatentCache(tmp_path / "c")
    assert cache.posterior(range(9))[2].tolist() == [0] * 5 + [1] * 4
    assert cache.identity["autoencoder"] == "kl-f4c16"
    train = ["train", tmp_path / "c", tmp_path / "d", "--denoiser", "DiT-XXS/2", "--steps", 1, "--batch-size", 2]
    assert "holds mirrored latents too, which --flips trains on" in " ".join(invoke(*train).output.split())

    again = invoke(*words, "--verify")
    assert again.exit_code == 0, again.output
    assert "nothing had to be encoded, all checksums right" in again.output

    path = tmp_path / "c" / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert invoke(*words).exit_code == 0  # opening looks at sizes and headers only
    damaged = invoke(*words, "--verify")
    assert damaged.exit_code == 1
    assert "1 of 3 shards" in damaged.output
    assert "shard-00001.safetensors" in damaged.output


def test_fewer_images_than_asked_for_are_said(images, tmp_path):
    done = invoke("extract", "kl-f4c16", tmp_path / "c", "--images", images, "--samples", 50, *SMALL)
    assert done.exit_code == 0, done.output
    assert "50 images were asked for, 9 are there" in done.output
    assert "9 latents of 16 x 4 x 4, no labels" in done.output


def one_line(done) -> str:
    assert done.exit_code == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("diffusab: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.output
    return lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kl-f5", "c", "--samples", "4"], "no autoencoder 'kl-f5'"),
        (["kl-f4c16", "c", "--images", "nothing-here"], "there is no folder nothing-here"),
        (["kl-f4c16", "c"], "photos are endless: say with samples how many"),
        (["kl-f4c16", "c", "--samples", "4", "--resolution", "18"], "multiples of 4, got 18 x 18"),
        (["kl-f4c16", "c", "--samples", "4", "--labels"], "the photographs have no labels"),
        (["kl-f4c16", "c", "--samples", "4", "--dtype", "int8"], "dtype is one of float16, bfloat16, float32"),
        (["kl-f4c16", "c", "--samples", "4", "--batch-size", "0"], "batch_size must be at least 1"),
        (["kl-f4c16", "c", "--samples", "4", "--device", "tpu"], "'tpu' is unknown"),
        (["kl-f4c16", "file/c", "--samples", "4"], "cannot write into file/c: Not a directory"),
        (["kl-f4c16", ".", "--samples", "4"], "holds other files, such as file, and no latent cache"),
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_nothing(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    defaults = [] if "--resolution" in words else ["--resolution", "16"]
    assert message in one_line(invoke("extract", *words, *defaults))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_images_smaller_than_the_resolution_are_named(images, tmp_path):
    done = invoke("extract", "kl-f4c16", tmp_path / "c", "--images", images, "--resolution", 64)
    line = one_line(done)
    assert "no usable image" in line
    assert "ant/0.png: 24 x 20 pixels, smaller than the resolution 64" in line
    assert line.endswith("; --resolution 12 takes them")
    assert not (tmp_path / "c").exists()


def test_another_autoencoder_and_other_settings_are_named(tmp_path):
    words = ["--images", "leaves", "--samples", 6, "--shard-size", 3, *SMALL]
    assert invoke("extract", "kl-f4c16", tmp_path / "c", *words).exit_code == 0
    line = one_line(invoke("extract", "kl-f4c16-se", tmp_path / "c", *words, "--seed", 2))
    assert "autoencoder 'kl-f4c16' -> 'kl-f4c16-se'" in line
    assert "seed 0 -> 2" in line
    (tmp_path / "c" / "shard-00000.safetensors").write_bytes(b"")
    assert "shard-00000.safetensors is damaged" in one_line(invoke("extract", "kl-f4c16", tmp_path / "c", *words))


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path):
    words = ["extract", "kl-f4c16", "--images", "leaves", "--samples", "120", "--shard-size", "2", "--batch-size", "2",
             "--labels", *SMALL]  # fmt: skip
    cut, rng = tmp_path / "cut", random.Random(0)

    def shards() -> int:
        return len(list(cut.glob("*.safetensors")))

    for _ in range(2):
        before = shards()
        kill_once([*COMMAND, *words, cut], lambda before=before: shards() >= before + 3, rng.uniform(0, 0.05))
    assert json.loads((cut / "latents.json").read_text())["complete"] is False
    done = invoke(*words, cut)
    assert int(done.stdout.split(" images encoded")[0].split()[-1]) <= 120 - 2 * 3 * 2 + 2
    assert invoke(*words, tmp_path / "whole").exit_code == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in cut.iterdir()} == whole
