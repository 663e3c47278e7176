"""Fine-tuning and evaluating from the shell: real processes, killed ones among them."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import small_autoencoder
import torch
from killing import kill_once
from safetensors.torch import load_file
from typer.testing import CliRunner

from diffusab_book.cli import app

COMMAND = Path(sys.executable).with_name("diffusab")
SMALL = ["--perceptual", "none", "--resolution", "32", "--batch-size", "2", "--device", "cpu"]


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "diffusion_pytorch_model.safetensors")


def test_killed_at_random_moments_it_ends_with_the_same_weights(tmp_path):
    steps = ["--steps", "40", "--checkpoint-every", "1", *SMALL]
    model = small_autoencoder.write(tmp_path / "mine")  # of a shipped one, watching takes minutes
    done = subprocess.run([COMMAND, "finetune", model, "--out", tmp_path / "whole", *steps],
                          capture_output=True, text=True, timeout=300, check=True)  # fmt: skip
    assert "parameters trained for 40 steps" in done.stdout
    assert "hf_energy_ratio: " in done.stdout

    cut, rng = tmp_path / "cut", random.Random(0)
    command = [COMMAND, "finetune", model, "--out", cut, *steps]

    def newest():
        return max(cut.glob("training/checkpoints/step_????????"), default=None)

    for _ in range(3):  # a few steps on, in the middle of a step or of a save
        before = newest()
        kill_once(command, lambda before=before: newest() != before, rng.uniform(0, 0.3))
    assert not (cut / "record.json").exists()
    subprocess.run(command, capture_output=True, timeout=300, check=True)
    one, other = weights(tmp_path / "whole"), weights(cut)
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_torchrun_is_refused_in_one_line_before_anything_is_written(tmp_path, monkeypatch):
    for name, value in (("RANK", "1"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    done = invoke("finetune", "kl-f4c16", "--out", tmp_path / "out", "--steps", 2, *SMALL)
    assert done.exit_code == 1
    assert "torchrun started 2" in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_finetuned_folder_can_be_evaluated(tmp_path):
    done = invoke("finetune", "kl-f4c16", "--out", tmp_path / "se", "--method", "soft", "--steps", 2, *SMALL)
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "se" / "record.json").read_text())
    assert (record["parameters"]["method"], record["parameters"]["soft_weight"]) == ("plain", 0.1)
    assert record["parameters"]["perceptual"] == "none"
    done = invoke("evaluate", tmp_path / "se", "--samples", 2, "--resolution", 64, "--device", "cpu",
                  "--out", tmp_path / "e.json")  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "e.json").read_text())
    assert f"psnr_db: {found['metrics']['psnr_db']:.5g}" in done.output
    assert "psnr_db with 50% of the latent's frequencies cut: " in done.output
    assert found["series"]["cut_psnr_db"][0] == pytest.approx(found["metrics"]["psnr_db"], abs=1e-3)
    assert "reconstruction_frechet_offline is left out: 32 features need more than 32 images, got 2." in done.output


def test_evaluate_reports_a_frechet_distance_over_enough_images(tmp_path):
    words = ["evaluate", "kl-f4c16", "--samples", 40, "--resolution", 64, "--device", "cpu"]
    done = invoke(*words, "--features", "offline", "--out", tmp_path / "e.json")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "e.json").read_text())
    assert f"reconstruction_frechet_offline: {found['metrics']['reconstruction_frechet_offline']:.5g}" in done.output
    assert "reconstruction_frechet_offline is over 40 images and 32 features" in done.output
    assert found["parameters"]["features"] == "offline"
    done = invoke(*words, "--samples", 2, "--features", "none")
    assert done.exit_code == 0, done.output
    assert "frechet" not in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "sse"], "method must be one of plain, se, chf, eq-vae, sm, af-ldm, temporal-se, soft, got 'sse'"),
        (["--perceptual", "vgg"], "--perceptual is lpips, hed or none, got 'vgg'"),
        (["--recipe", "DC-AE"], "no recipe for 'DC-AE'; there is one for FluxAE"),
        (["--images", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--resolution", "30"], "must be"),
        (["--device", "tpu"], "'tpu' is unknown; choose auto, cuda, mps or cpu"),
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_nothing(tmp_path, words, message):
    out = tmp_path / "out"
    done = invoke("finetune", "kl-f4c16", "--out", out, *SMALL, *words)
    assert done.exit_code == 1
    assert message in done.output
    assert done.output.strip().count("\ndiffusab: ") == 0
    assert not (out / "record.json").exists()


def test_lpips_is_never_left_out_silently(tmp_path):
    done = invoke("finetune", "kl-f4c16", "--out", tmp_path / "out", "--perceptual-weights", tmp_path)
    assert done.exit_code == 1
    assert "--perceptual none" in done.output


def test_feature_weights_that_are_not_there_are_never_left_out_silently(tmp_path):
    pytest.importorskip("torch_fidelity")
    done = invoke("evaluate", "kl-f4c16", "--device", "cpu", "--features", "inception", "--features-weights", tmp_path)
    assert done.exit_code == 1
    assert "no weights for FID's Inception" in done.output
    assert str(tmp_path) in done.output.replace("\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-model"],
        ["kl-f4c16", "--samples", 0],
        ["kl-f4c16", "--resolution", 30],
        ["kl-f4c16", "--features", "vgg"],
        ["kl-f4c16", "--features-weights", "weights.pth"],
    ],
)
def test_evaluate_refuses_what_it_cannot_measure(words):
    done = invoke("evaluate", "--device", "cpu", *words)
    assert done.exit_code == 1
    assert done.output.startswith("diffusab: ")


def test_an_autoencoder_is_trained_from_nothing(tmp_path):
    words = ["train-autoencoder", "--channels", 8, "--channels", 8, "--norm-groups", 2, "--latent-channels", 2]
    words += ["--resolution", 16, "--batch-size", 2, "--steps", 2, "--evaluation-crops", 2, "--statistics-crops", 2]
    words += ["--device", "cpu", "--out", tmp_path / "new"]
    done = invoke(*words)
    assert done.exit_code == 0, done.output
    assert "parameters trained for 2 steps" in done.output
    record = json.loads((tmp_path / "new" / "record.json").read_text())
    assert f"held out: {record['metrics']['held_out_psnr_db']:.2f} dB" in done.output
    assert record["parameters"]["channels"] == [8, 8]
    done = invoke(*words[:-4], "--device", "cpu", "--out", tmp_path / "other", "--kl-weight", -2)
    assert done.exit_code == 1
    assert "got -2" in done.output
    assert not (tmp_path / "other").exists()


def test_a_diffusion_decoder_is_trained_and_evaluated_at_any_number_of_steps(tmp_path):
    words = ["train-autoencoder", "--decoder", "diffusion", "--decoder-network", "UNet-XXS/2", "--channels", 8]
    words += ["--channels", 8, "--norm-groups", 2, "--latent-channels", 2, "--resolution", 16, "--batch-size", 2]
    words += ["--steps", 2, "--evaluation-crops", 2, "--statistics-crops", 2, "--device", "cpu"]
    done = invoke(*words, "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    evaluation = ["evaluate", tmp_path / "new", "--samples", 2, "--resolution", 32, "--features", "none"]
    found = [invoke(*evaluation, "--decoder-steps", steps) for steps in (1, 3)]
    assert [f.exit_code for f in found] == [0, 0], found[0].output
    one, three = ([line for line in f.output.splitlines() if line.startswith("psnr_db:")] for f in found)
    assert one != three
    for wrong, named in ((["--decoder", "vq"], "'vq'"), (["--decoder-network", "UNet-S/8"], "UNet-S/8")):
        done = invoke(*words, *wrong, "--out", tmp_path / "other")
        assert done.exit_code == 1
        assert named in done.output
    done = invoke("evaluate", "kl-f4c4", "--decoder-steps", 2)
    assert done.exit_code == 1
    assert "kl-f4c4 decodes in one pass" in done.output
