"""The way from a folder of images to judged samples, from a shell; and what bad input is answered with."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_book.cli import denoiser as commands
from diffusab_book.figures import to_uint8
from diffusab_core import autoencoders, data, experiments
from diffusab_core.experiments import records
from diffusab_core.files import SettingsError, sole_holder
from diffusab_core.latents import TensorLatents
from diffusab_core.methods.denoising import Denoising
from diffusab_core.training import world

IMAGES, SIDE = 40, 32
TRAIN = ("--denoiser", "DiT-XXS/1", "--steps", "4", "--batch-size", "8", "--checkpoint-every", "2", "--device", "cpu")


def shell(*arguments: str, folder: Path) -> str:
    command = [sys.executable, "-m", "diffusab_book", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def refused(*arguments: str) -> str:
    """The one line on standard error that a command ends with."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 1, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("diffusab:")]
    assert len(lines) == 1
    assert "Traceback" not in done.output
    return lines[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images in two classes, and all that the four commands make of it."""
    root = tmp_path_factory.mktemp("shell")
    crops = data.Photos(SIDE + 8, "train", seed=3, length=IMAGES)
    for i in range(IMAGES):
        path = root / "photographs" / ("even", "odd")[i % 2] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(to_uint8(crops[i])).save(path)
    shell("extract", "kl-f8c4", "cache", "--images", "photographs", "--resolution", str(SIDE), "--labels",
          "--device", "cpu", folder=root)  # fmt: skip
    shell("train", "cache", "denoiser", *TRAIN, folder=root)
    shell("sample", "denoiser", "samples", "--samples", str(IMAGES), "--steps", "2", "--guidance", "2",
          "--batch-size", "16", "--device", "cpu", folder=root)  # fmt: skip
    shell("evaluate-samples", "samples", "photographs", "--device", "cpu", "--out", "score.json", folder=root)
    return root


def test_the_way_from_images_to_a_score(folder: Path):
    trained = records.read(folder / "denoiser" / "record.json")
    model = experiments.open_denoiser(folder / "denoiser").model
    assert trained.metrics["parameters"] == sum(p.numel() for p in model.parameters())
    assert trained.parameters["latents"]["autoencoder"] == "kl-f8c4"
    pictures = sorted((folder / "samples" / "images").glob("*.png"))
    assert [p.name for p in pictures] == [f"{i:06d}.png" for i in range(IMAGES)]
    assert Image.open(pictures[0]).size == (SIDE, SIDE)
    assert Image.open(folder / "samples" / "grid.png").size[0] > SIDE
    about = json.loads((folder / "samples" / "samples.json").read_text())
    assert about["class_counts"] == {"0": IMAGES // 2, "1": IMAGES // 2}
    score = records.read(folder / "score.json")
    assert score.metrics["samples"] == IMAGES
    assert score.metrics["frechet_offline"] > 0
    sampling = score.parameters["sampling"]
    assert (sampling["sampler"], sampling["steps"], sampling["guidance"]) == ("euler", 2, 2.0)


def test_the_same_command_reads_back_and_draws_what_is_missing(folder: Path):
    before = (folder / "denoiser" / "record.json").read_bytes()
    done = CliRunner().invoke(app, ["train", str(folder / "cache"), str(folder / "denoiser"), *TRAIN])
    assert done.exit_code == 0, done.output
    assert (folder / "denoiser" / "record.json").read_bytes() == before
    lost = folder / "samples" / "images" / "000017.png"
    wanted = lost.read_bytes()
    lost.unlink()
    shell("sample", "denoiser", "samples", "--samples", str(IMAGES), "--steps", "2", "--guidance", "2",
          "--batch-size", "16", "--device", "cpu", folder=folder)  # fmt: skip
    assert lost.read_bytes() == wanted


def test_the_bar_moves_within_a_batch_and_few_samples_are_said_to_be(folder: Path, tmp_path: Path, monkeypatch):
    told = []

    class Bar(commands.tqdm):
        def update(self, n=1):
            told.extend([n] if n else [])
            return super().update(n)

    monkeypatch.setattr(commands, "tqdm", Bar)
    words = ["sample", str(folder / "denoiser"), str(tmp_path / "out"), "--samples", "6", "--steps", "4",
             "--batch-size", "4", "--device", "cpu"]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert told == [1.0] * 4 + [0.5] * 4
    assert "6.0/6 images" in done.stderr
    assert "6 samples are for looking at: evaluate-samples takes more than 32\n" in done.stdout
    told.clear()
    (tmp_path / "out" / "images" / "000005.png").unlink()
    done = CliRunner().invoke(app, words)
    assert told == [4] + [0.5] * 4
    told.clear()
    done = CliRunner().invoke(app, [*words, "--npz", str(tmp_path / "out" / "grid.png" / "all.npz")])
    assert "grid.png/all.npz: File exists" in done.stderr, "said before anything is drawn"
    assert told == []


def torchrun(*arguments: str, folder: Path) -> str:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
               "diffusab_book", *arguments]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=400, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_two_processes_train_the_same_denoiser_and_share_its_samples(folder: Path):
    said = torchrun("train", "cache", "two", *TRAIN, folder=folder)
    assert said.count("wrote two") == 1  # one process speaks
    one, two = (records.read(folder / name / "record.json") for name in ("denoiser", "two"))
    assert two.metrics["processes"] == 2
    assert two.series["loss"] == pytest.approx(one.series["loss"], rel=1e-5)
    a, b = (experiments.open_denoiser(folder / name).model.state_dict() for name in ("denoiser", "two"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5)
    torchrun("sample", "denoiser", "shared", "--samples", str(IMAGES), "--steps", "2", "--guidance", "2",
             "--batch-size", "16", "--device", "cpu", folder=folder)  # fmt: skip
    pairs = [(folder / name / "images" / f"{i:06d}.png").read_bytes() for i in range(IMAGES)
             for name in ("samples", "shared")]  # fmt: skip
    assert pairs[::2] == pairs[1::2]


def test_encoding_on_the_fly_needs_no_cache(folder: Path, tmp_path: Path):
    done = CliRunner().invoke(
        app,
        ["train", "kl-f8c4", str(tmp_path / "out"), "--images", str(folder / "photographs"), "--resolution", "32",
         "--denoiser", "DiT-XXS/1", "--steps", "1", "--batch-size", "4", "--device", "cpu"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert experiments.open_denoiser(tmp_path / "out").num_classes == 0


def test_a_u_vit_is_trained_and_sampled_by_noise_prediction(folder: Path, tmp_path: Path):
    cache, trained, out = str(folder / "cache"), str(tmp_path / "u-vit"), str(tmp_path / "out")
    train = ("train", cache, trained, "--denoiser", "UViT-XXS/1", *TRAIN[2:])
    done = CliRunner().invoke(app, list(train))
    assert done.exit_code == 0, done.output
    assert records.read(tmp_path / "u-vit" / "record.json").parameters["self_conditioning"] == 0
    sample = ("sample", trained, out, "--samples", "3", "--steps", "3", "--guidance", "2", "--device", "cpu")
    assert "'heun' is not for a denoiser that predicts the noise" in refused(*sample, "--method", "heun")
    assert "time shift 2.0" in refused(*sample, "--shift", "2")
    assert "got 2000" in refused(*sample, "--steps", "2000")
    assert not Path(out).exists()
    done = CliRunner().invoke(app, list(sample))
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "out" / "images").glob("*.png"))) == 3
    about = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert (about["prediction"], about["sampler"], about["steps"]) == ("noise", "dpm++", 3)
    assert "UViT-XXS/1 has no self-conditioning" in refused(*train, "--self-conditioning", "0.5")
    assert "time_location 1.0" in refused(*train, "--time-location", "1")
    assert "'ddim' is not for a denoiser that predicts the velocity" in refused(
        "sample", str(folder / "denoiser"), out + "2", "--method", "ddim"
    )


def test_coloured_noise_is_kept_with_the_denoiser_and_sampled(folder: Path, tmp_path: Path):
    cache, trained, out = str(folder / "cache"), str(tmp_path / "coloured"), str(tmp_path / "out")
    train = ("train", cache, trained, *TRAIN)
    done = CliRunner().invoke(app, [*train, "--noise-spectrum", "0.5:1.25"])
    assert done.exit_code == 0, done.output
    model = experiments.open_denoiser(tmp_path / "coloured").model
    white = torch.ones(1, 4, 4, 4)
    assert not torch.allclose(model.colour(white), white)
    sample = ("sample", trained, out, "--samples", "4", "--steps", "2", "--device", "cpu")
    done = CliRunner().invoke(app, list(sample))
    assert done.exit_code == 0, done.output
    pairs = [(Path(where) / "images" / "000001.png").read_bytes() for where in (out, folder / "samples")]
    assert pairs[0] != pairs[1]
    assert "power 1.25 -> 0.75" in refused(*train, "--noise-spectrum", "0.5:0.75")
    assert "power 1.25 -> None" in refused(*train)
    assert "'pink'" in refused(*train, "--noise-spectrum", "pink")
    assert "nowhere.json" in refused("train", cache, out + "2", *TRAIN, "--noise-spectrum", "nowhere.json")
    assert "UViT-XXS/1" in refused("train", cache, out + "2", "--denoiser", "UViT-XXS/1", "--noise-spectrum", "0.5")
    assert not Path(out + "2").exists()


def test_two_commands_do_not_draw_into_one_folder(folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(world, "ENDING_S", 0.0)
    words = (str(folder / "denoiser"), str(tmp_path / "out"), "--samples", "2", "--steps", "1", "--device", "cpu")
    with sole_holder(tmp_path / "out", SettingsError("held")):
        assert "another process draws samples into" in refused("sample", *words)
        assert not list((tmp_path / "out").glob("images/*.png"))


def test_bad_input_ends_in_one_line(folder: Path, tmp_path: Path):
    cache, denoiser, out = str(folder / "cache"), str(folder / "denoiser"), str(tmp_path / "out")
    assert "nowhere" in refused("train", str(tmp_path / "nowhere"), out)
    assert "DiT-Q/2" in refused("train", cache, out, "--denoiser", "DiT-Q/2")
    assert "accumulation" in refused("train", cache, out, "--batch-size", "8", "--accumulation", "3")
    assert "mirrored" in refused("train", cache, out, *TRAIN, "--flips")
    assert "patch 4" in refused("train", str(_odd_cache(tmp_path)), out, "--denoiser", "DiT-XXS/4", *TRAIN[2:])
    assert "learning_rate 0.0003 -> 0.002" in refused("train", cache, denoiser, *TRAIN, "--learning-rate", "2e-3")
    assert "class 7" in refused("sample", denoiser, out, "--label", "7")
    assert "even, odd" in refused("sample", denoiser, out, "--label", "zebra")
    assert "kl-f4c16" in refused("sample", denoiser, out, "--autoencoder", "kl-f4c16")  # 16 channels, not 4
    assert "holds other samples" in refused("sample", denoiser, str(folder / "samples"), "--steps", "3")
    assert "holds no denoiser" in refused("sample", str(tmp_path), out)
    blocked = tmp_path / "a file"
    blocked.write_text("")
    assert "a file" in refused("train", cache, str(blocked / "below"), *TRAIN)
    assert "a file" in refused("sample", denoiser, str(blocked / "below"), "--steps", "2")
    assert not Path(out).exists()


def _odd_cache(tmp_path: Path) -> Path:
    """Latents of 2 x 2, which no patch of 4 divides."""
    done = CliRunner().invoke(
        app, ["extract", "kl-f8c4", str(tmp_path / "odd"), "--samples", "4", "--resolution", "16", "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    return tmp_path / "odd"


def test_other_weights_under_the_same_name_are_refused():
    latents = TensorLatents(torch.randn(8, 4, 4, 4), identity={"autoencoder": "kl-f8c4", "weights": "0" * 16})
    settings = Denoising(denoiser="DiT-XXS/1", steps=1, batch_size=2)
    denoiser = experiments.train_denoiser(settings, latents, progress=False).denoiser
    with pytest.raises(ValueError, match="weights 0000000000000000"):
        experiments.check_autoencoder(denoiser, autoencoders.load("kl-f8c4"))


def test_a_finished_run_is_read_back_by_a_process_with_another_number_of_the_same_device(tmp_path: Path):
    latents = TensorLatents(torch.randn(8, 4, 4, 4))
    settings = Denoising(denoiser="DiT-XXS/1", steps=1, batch_size=2, device="cpu")
    first = experiments.train_denoiser(settings, latents, tmp_path / "run", progress=False)
    other = replace(settings, device="cpu:0")  # as cuda:0 and cuda:1 are under torchrun
    again = experiments.train_denoiser(other, latents, tmp_path / "run", progress=False)
    assert again.record == first.record
