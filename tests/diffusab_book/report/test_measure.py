"""What ``diffusab report`` measures, over models of all three kinds."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import small_autoencoder
import torch

from diffusab_book.report import Options, Plan, ReportError, measure
from diffusab_core import autoencoders, data, metrics
from diffusab_core.experiments import records
from diffusab_core.methods.regularizers import downsample
from diffusab_core.spectrum import high_frequency_energy_ratio

SMALL = Options(samples=3, resolution=32, batch_size=2, device="cpu")
PLAN = Plan(
    decoder_images=2, cut_ratios=(0.0, 0.75), grating_frequencies=(0.05, 0.2), grating_images=1, angles=(0.0,),
    cutoffs=(0.2, 0.7072),
)  # fmt: skip
OWN = """
import torch
from torch import nn


class Identity:
    def encode(self, x):
        return x

    def decode(self, z):
        return z


class OneSize(Identity):
    def encode(self, x):
        return nn.functional.avg_pool2d(x, 4)

    def decode(self, z):
        assert z.shape[-1] == 8, f"only {z.shape[-1]}"
        return nn.functional.interpolate(z, scale_factor=4)


class EncodeOnly:
    def encode(self, x):
        return x


class WrongSize(Identity):
    def decode(self, z):
        return z[..., ::2, ::2]
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("code") / "own.py"
    path.write_text(OWN)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small AutoencoderKL in diffusers' layout, 4x, 5 channels."""
    return small_autoencoder.write(tmp_path_factory.mktemp("models") / "mine")


@pytest.fixture(scope="module")
def found(folder, own):
    models = (str(folder), f"{own}:Identity", f"{own}:OneSize")
    return measure(replace(SMALL, models=models), PLAN, progress=False)


@pytest.fixture(scope="module")
def x():
    return data.stack(data.Photos(32, "test", 0, 3), range(3))


def test_numbers_of_a_diffusers_folder_are_those_of_the_whole_batch(found, folder, x):
    model, loaded = found.models[0], autoencoders.load(folder)
    with torch.no_grad():
        z = loaded.encode(x).mean
        y = loaded.decode(z)
        small = loaded.decode(downsample(z, 2))
    assert (model.name, model.profile.shape, model.profile.compression) == ("mine", (5, 8, 8), 4)
    assert model.weights == sum(p.numel() for p in loaded.parameters())
    assert model.profile.high_frequency_energy_ratio == pytest.approx(float(high_frequency_energy_ratio(z)), rel=1e-3)
    assert model.parts["reconstruction"]["psnr_db"] == pytest.approx(metrics.psnr(y, x).item(), rel=1e-4)
    assert model.parts["reconstruction"]["ssim"] == pytest.approx(metrics.ssim(y, x).item(), rel=1e-3)
    spread = metrics.psnr_per_image(y, x).std().item()
    assert model.parts["reconstruction"]["psnr_spread_db"] == pytest.approx(spread, rel=1e-2)
    variance = (x / 2).flatten(2).var(2, correction=0).mean(1)  # over an image's pixels, of values in [0, 1]
    assert model.parts["reconstruction"]["flat_db"] == pytest.approx((-10 * variance.log10()).mean().item(), rel=1e-4)
    assert model.parts["scale"]["to_image_db"][0] == pytest.approx(
        metrics.psnr(small, downsample(x, 2)).item(), rel=1e-4
    )
    equivariance = metrics.psnr(small, downsample(y, 2)).item()
    assert model.parts["scale"]["to_reconstruction_db"][0] == pytest.approx(equivariance, rel=1e-3)
    assert model.parts["cut"]["images"] == model.parts["dependence"]["images"] == 2


def test_the_identity_has_no_error_where_there_is_none(found):
    model = found.models[1]
    assert model.parts["reconstruction"]["psnr_db"] is None
    assert model.parts["reconstruction"]["ssim"] == pytest.approx(1)
    assert model.parts["scale"]["to_reconstruction_db"] == model.parts["scale"]["to_image_db"] == [None, None]
    assert model.parts["noise"]["deterministic"]
    assert model.parts["cut"]["latent"][0] is None
    assert model.parts["cut"]["latent"][1] == pytest.approx(model.parts["cut"]["rgb"][1], rel=1e-5)
    assert model.weights is None
    # Latents are RGB in [-1, 1]: another offset than RGB in [0, 1], the same share of fine detail.
    assert model.profile.high_frequency_share == pytest.approx(found.rgb_like(model).high_frequency_share, rel=1e-3)


def test_a_decoder_of_one_size_leaves_scale_equivariance_out_and_says_why(found):
    model = found.models[2]
    assert set(model.parts) == {"reconstruction", "noise", "cut", "dependence", "stake", "gratings", "cutoff"}
    for words in ("own:OneSize", "decode", "(2, 3, 4, 4)", "AssertionError: only 4"):
        assert words in model.not_measured["scale"]


def test_pictures_and_subset_are_drawn_by_the_seed(found):
    assert len(found.subset) == 2
    assert set(found.subset) <= set(found.images.used)
    assert {name for name, _ in found.shown} <= set(found.subset)
    assert [len(model.pictures) for model in found.models] == [len(found.shown)] * 3
    assert all(uri.startswith("data:image/") for model in found.models for row in model.pictures for uri in row)


def test_everything_is_json_and_a_run_record(found):
    as_json = json.dumps(found.as_dict(), allow_nan=False)
    read = json.loads(as_json)
    assert (read["format"], len(read["models"])) == ("diffusab-report", 3)
    assert "data:image" not in as_json
    record = records.RunRecord.model_validate(read["record"])
    assert record.experiment == "report"
    assert record.metrics["mine: reconstruction.psnr_db"] == found.models[0].parts["reconstruction"]["psnr_db"]
    assert "own:Identity: reconstruction.psnr_db" not in record.metrics  # infinite
    assert record.series["mine: dependence.psnr_without"] == found.models[0].parts["dependence"]["psnr_without"]
    assert record.parameters["plan"]["decoder_images"] == 2
    assert all(math.isfinite(value) for value in record.metrics.values())
    assert sum(found.rgb_energy) == pytest.approx(1)


def test_batches_make_no_difference(found, folder):
    options = Options(samples=3, resolution=32, batch_size=3, device="cpu")
    again = measure(replace(options, models=(str(folder),)), PLAN, progress=False).models[0].parts
    first = found.models[0].parts
    for part, key, rel in (
        ("reconstruction", "psnr_db", 1e-4), ("noise", "averaged_kl", 1e-4), ("dependence", "psnr_without", 1e-4),
        ("dependence", "low_db", 1e-4), ("cutoff", "amplitude", 1e-3),
    ):  # fmt: skip
        torch.testing.assert_close(torch.tensor(again[part][key]), torch.tensor(first[part][key]), rtol=rel, atol=0)


def test_missing_lpips_weights_are_said_and_not_replaced(monkeypatch, own, tmp_path):
    """With the command that puts them where they are looked for."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (model,) = measure(replace(SMALL, models=(f"{own}:Identity",)), PLAN, progress=False).models
    assert model.parts["reconstruction"]["lpips"] is None
    said = model.not_measured["lpips"]
    assert said.startswith("its weights are not on the disk; get them with `curl -fL --create-dirs -o ~/")
    path, address = re.search(r"-o (\S+) (http\S+)`$", said).groups()
    assert address.endswith(Path(path).name)
    with pytest.raises(metrics.MissingWeightsError, match=re.escape(f"looked for {Path(path).expanduser()}.")):
        metrics.lpips_distance("alex")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("EncodeOnly", r"has no decode\(z\)"),
        ("WrongSize", r"decodes \(2, 3, 32, 32\) to \(2, 3, 16, 16\), not to \(2, 3, 32, 32\)"),
    ],
)
def test_models_that_cannot_be_reported_on(own, name, said):
    with pytest.raises(ReportError, match=said):
        measure(replace(SMALL, models=(f"{own}:{name}",)), PLAN, progress=False)


def test_nothing_to_report_on_and_sizes_that_do_not_fit(own):
    with pytest.raises(ReportError, match="nothing to report on"):
        measure(SMALL, PLAN)
    with pytest.raises(ReportError, match="--resolution must be a multiple of 32"):
        measure(Options(models=("kl-f4c16",), samples=1, resolution=48, device="cpu"), PLAN)
    with pytest.raises(ReportError, match="is given twice"):
        measure(replace(SMALL, models=(f"{own}:Identity",) * 2), PLAN)
