"""One way to open a model for all commands, and one's own model through all of them."""

import json

import pytest
import torch
from diffusers import AutoencoderKL
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_core import autoencoders, data, metrics

SMALL = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (4, 4, 4),
    "latent_channels": 2,
    "norm_num_groups": 2,
}
OWN = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    model = nn.Module()
    model.encoder, model.decoder = nn.Conv2d(3, 4, 4, 4), nn.ConvTranspose2d(4, 3, 4, 4)
    model.encode, model.decode = (lambda x: model.encoder(x)), (lambda z: model.decoder(z))
    return model
"""
IMAGES = ["--images", "photos", "--resolution", "32"]
OPENING = {"--subfolder", "--variant", "--model-config"}


def invoke(*words):
    done = CliRunner().invoke(app, [str(word) for word in (*words, "--device", "cpu")])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A pipeline's folder whose autoencoder has weights in half precision only."""
    folder = tmp_path_factory.mktemp("pipe")
    torch.manual_seed(0)
    AutoencoderKL(**SMALL).half().save_pretrained(folder / "vae", variant="fp16")
    (folder / "model_index.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    "command", ["profile", "report", "finetune", "evaluate", "extract", "train", "sample", "evaluate-samples"]
)
def test_every_command_that_opens_a_model_has_the_same_options(command):
    text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert all(option in text for option in OPENING)


FINETUNE = ["--method", "plain", "--perceptual", "none", "--steps", 2, "--batch-size", 2]


def test_a_pipelines_autoencoder_goes_through_every_command(tmp_path, pipeline):
    how, named = ["--subfolder", "vae", "--variant", "fp16"], f"{pipeline}:vae,variant=fp16"
    code, said = invoke("finetune", pipeline, *how, *IMAGES, *FINETUNE, "--out", tmp_path / "tuned")
    assert code == 0, said
    record = json.loads((tmp_path / "tuned" / "record.json").read_text())
    assert record["parameters"]["model"] == named
    code, said = invoke("evaluate", pipeline, *how, *IMAGES, "--samples", 2, "--block-size", 4)
    assert code == 0, said
    assert named in said
    code, said = invoke("profile", f"{pipeline}:vae,variant=fp16", *IMAGES, "--samples", 2, "--out", tmp_path / "p")
    assert code == 0, said
    code, said = invoke("extract", pipeline, tmp_path / "z", *how, *IMAGES, "--samples", 8)
    assert code == 0, said
    small = ["--denoiser", "DiT-XXS/2", "--steps", 2, "--batch-size", 4]
    code, said = invoke("train", tmp_path / "z", tmp_path / "dit", *small)
    assert code == 0, said
    code, said = invoke("sample", tmp_path / "dit", tmp_path / "s", "--samples", 2, "--steps", 2)  # the denoiser's own
    assert code == 0, said
    assert json.loads((tmp_path / "s" / "samples.json").read_text())["autoencoder"] == named
    code, said = invoke("sample", tmp_path / "dit", tmp_path / "s2", "--samples", 2, "--steps", 2,
                        "--autoencoder", pipeline, *how)  # fmt: skip
    assert code == 0, said
    code, said = invoke("train", pipeline, tmp_path / "dit2", *how, *IMAGES, *small)
    assert code == 0, said


def test_ones_own_model_goes_through_every_command(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    model, out = f"{tmp_path / 'mine.py'}:build", tmp_path / "tuned"
    code, said = invoke("finetune", model, *IMAGES, *FINETUNE, "--out", out)
    assert code == 0, said
    before, after = autoencoders.load(model), autoencoders.load(out)
    x = data.stack(data.Photos(32, "test", length=1), range(1))
    with torch.no_grad():
        assert not torch.equal(before.encode(x).mean, after.encode(x).mean)
    for one in (model, out):
        code, said = invoke("evaluate", one, *IMAGES, "--samples", 2)
        assert code == 0, said
        code, said = invoke("extract", one, tmp_path / f"z{one == out}", *IMAGES, "--samples", 4)
        assert code == 0, said


def test_a_decoder_is_trained_against_a_discriminator_on_ones_own_images(tmp_path, pipeline):
    from PIL import Image

    for i, name in enumerate(("astronaut", "chelsea")):
        pixels = ((data.photo(name)[:, :96, :96] + 1) * 127.5).byte().permute(1, 2, 0).numpy()
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    words = ["finetune", f"{pipeline}:vae", "--images", tmp_path / "images", "--resolution", 32, *FINETUNE]
    words += ["--decoder-only", "--adversarial-weight", 0.5, "--adversarial-start", 1, "--discriminator-layers", 1]
    code, said = invoke(*words, "--out", tmp_path / "out")
    assert code == 0, said
    assert f"diffusab: warning: {pipeline / 'vae'} holds the variant fp16 only" in said
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["parameters"]["adversarial_start"] == 1
    assert record["series"]["discriminator"][-1] > 0
    assert record["metrics"]["before_hf_energy_ratio"] == record["metrics"]["after_hf_energy_ratio"]


def test_a_report_judges_a_grey_model_by_grey_images(tmp_path):
    torch.manual_seed(0)
    AutoencoderKL(**SMALL, in_channels=1, out_channels=1).save_pretrained(tmp_path / "grey")
    code, said = invoke("report", tmp_path / "grey", "--images", "photos", "--resolution", 32, "--samples", 2,
                        "--block-size", 4, "--out", tmp_path / "r")  # fmt: skip
    assert code == 0, said
    found = json.loads((tmp_path / "r" / "report.json").read_text())["models"][0]
    grey = autoencoders.load(tmp_path / "grey")
    x = grey.as_seen(data.stack(data.Photos(32, "test", seed=0, length=2), range(2)))
    with torch.no_grad():
        expected = metrics.psnr(x, grey.decode(grey.encode(x).mean)).item()
    assert found["reconstruction"]["psnr_db"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["finetune", "PIPE", "--perceptual", "none", "--out", "OUT"], "name one of its folders: PIPE:vae"),
        (
            ["finetune", "kl-f4c4", "--perceptual", "none", "--variant", "fp16", "--out", "OUT"],
            "kl-f4c4 comes with the package",
        ),
        (["profile", "--variant", "fp16", "--out", "OUT"], "--variant says how a model is opened, and none is named"),
        (["sample", "dit", "OUT", "--subfolder", "vae"], "dit holds no denoiser: denoiser.json is missing"),
        (["evaluate", "kl-f4c4", "--out", "PIPE/vae/config.json/r.json"], "cannot write PIPE/vae/config.json/r.json"),
        (["evaluate", "kl-f4c4", "--block-size", "0"], "block_size must be at least 1, got 0"),
        (["finetune", "kl-f4c4", "--perceptual", "none", "--block-size", "0", "--out", "OUT"], "block_size must be at"),
        (["train", "cache", "OUT", "--variant", "fp16"], "cache is read as a cache of latents"),
        (["evaluate", "PIPE:vae", "--variant", "bf16"], "holds no variant 'bf16', there are fp16"),
        (["finetune", "kl-f4c4", "--adversarial-weight", "1", "--resolution", "8", "--out", "OUT"], "24 pixels, got 8"),
    ],
)
def test_mistakes_are_one_line_that_advises_options(tmp_path, pipeline, words, said):
    names = {"PIPE": str(pipeline), "OUT": str(tmp_path / "out")}
    code, output = invoke(*(word.replace("PIPE", names["PIPE"]).replace("OUT", names["OUT"]) for word in words))
    assert code == 1
    assert said.replace("PIPE", names["PIPE"]) in output.replace("\n", " ")
    assert output.count("diffusab: ") == 1
    assert "subfolder=" not in output
    assert not (tmp_path / "out" / "record.json").exists()


def test_help_says_that_dc_ae_is_finetuned():
    text = " ".join(CliRunner().invoke(app, ["finetune", "--help"], env={"COLUMNS": "200"}).output.split())
    assert "mit-han-lab/dc-ae-f32c32-in-1.0-diffusers" in text
    assert "--decoder-only" in text
    assert "--adversarial-weight" in text
