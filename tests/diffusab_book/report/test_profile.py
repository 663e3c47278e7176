"""``diffusab profile``: what it measures, what it writes, and how it fails."""

import errno
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import small_autoencoder
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_book.report import Options, ReportError, images, measure, page
from diffusab_book.report.measurement import at_latent_size
from diffusab_core import autoencoders, data, files
from diffusab_core.data.leaves import Leaves
from diffusab_core.experiments import records
from diffusab_core.latents import open_latents
from diffusab_core.spectrum import STATISTICS, frequency_profile, high_frequency_energy_ratio

QUICK = ["--resolution", "64", "--samples", "6", "--batch-size", "4", "--device", "cpu"]
SMALL = Options(samples=6, resolution=64, batch_size=4, device="cpu")
MODEL = """
import torch
from torch import nn


class Pool(nn.Module):
    scaling_factor = 2.0

    def encode(self, x):
        return nn.functional.avg_pool2d(x, 4)

    def decode(self, z):
        return nn.functional.interpolate(z, scale_factor=4)


def build():
    return Pool()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small AutoencoderKL in diffusers' layout, 4x, 5 channels."""
    return small_autoencoder.write(tmp_path_factory.mktemp("models") / "mine")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four usable images, and three files that are not."""
    path = tmp_path_factory.mktemp("photos")
    for i in range(4):
        pixels = (data.rgb01(data.Photos(80, seed=5)[i]).permute(1, 2, 0) * 255).byte().numpy()
        Image.fromarray(pixels).save(path / f"photo{i}.png")
    (path / "notes.txt").write_text("no image")
    (path / "empty.png").touch()
    Image.new("RGB", (20, 20)).save(path / "thumbnail.png")
    return path


@pytest.fixture
def code(tmp_path):
    """Writes Python source to a file and returns its path."""

    def write(source, name="own.py"):
        (tmp_path / name).write_text(source)
        return tmp_path / name

    return write


@pytest.fixture
def latents(tmp_path):
    path = tmp_path / "cached.safetensors"
    save_file({"z": torch.randn(10, 4, 16, 16, generator=torch.Generator().manual_seed(0))}, path)
    return path


def run(*words):
    return CliRunner().invoke(app, ["profile", *map(str, words)])


def assert_fails(result, out, *said, status=1):
    """One line that says it, the status, and nothing left behind."""
    assert result.exit_code == status, result.output
    assert result.stderr.startswith("diffusab: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for words in said:
        assert words in result.stderr
    assert result.stdout == ""
    assert not out.exists()


# ---------------------------------------------------------------------------------------------------------------------
# What is measured


def test_profiles_are_those_of_the_whole_batch(folder):
    found = measure(replace(SMALL, models=("kl-f4c16", str(folder))))
    x = data.stack(data.Photos(64, "test", 0, 6), range(6))
    with torch.no_grad():
        expected = {
            "RGB at 16×16": data.resize_to(data.rgb01(x), 16, 16),
            "kl-f4c16": autoencoders.load("kl-f4c16").encode(x).mean,
            "mine": autoencoders.load(folder).encode(x).mean,
        }
    assert [p.name for p in (*found.rgb, *found.models)] == list(expected)
    for profile in (*found.rgb, *(model.profile for model in found.models)):
        z = expected[profile.name]
        assert profile.shape == tuple(z.shape[1:])
        assert profile.items == 6
        assert profile.blocks == 6 * z.shape[1] * 4
        for statistic in STATISTICS:
            tolerance = 0.006 if statistic == "median_ratio" else 1e-3
            own = torch.tensor(profile.profiles[statistic], dtype=torch.float32)
            torch.testing.assert_close(own, frequency_profile(z, 8, statistic), rtol=tolerance, atol=0)
        assert profile.high_frequency_energy_ratio == pytest.approx(float(high_frequency_energy_ratio(z)), rel=1e-3)
        energy = frequency_profile(z, 8, "energy")
        assert profile.high_frequency_share == pytest.approx(float(energy[32:].sum() / energy[1:].sum()), rel=1e-3)


def test_share_ignores_the_offset_and_is_known_for_white_noise(tmp_path):
    z = torch.randn(64, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    save_file({"z": z}, tmp_path / "white.safetensors")
    save_file({"z": z + 5}, tmp_path / "offset.safetensors")
    given = tuple(str(tmp_path / f"{name}.safetensors") for name in ("white", "offset"))
    white, offset = (model.profile for model in measure(replace(SMALL, latents=given)).models)
    assert white.high_frequency_share == pytest.approx(32 / 63, rel=0.01)
    assert offset.high_frequency_share == pytest.approx(white.high_frequency_share, rel=1e-3)
    assert offset.high_frequency_energy_ratio < 0.1 * white.high_frequency_energy_ratio


def test_posterior_samples_depend_on_the_seed_and_not_on_the_batch_size(folder):
    def energy(**changes):
        options = Options(**{"samples": 5, "resolution": 64, "device": "cpu", "posterior": "sample"} | changes)
        return torch.tensor(measure(replace(options, models=(str(folder),))).models[0].profile.profiles["energy"])

    one, three = energy(batch_size=1), energy(batch_size=3)
    torch.testing.assert_close(one, three, rtol=1e-4, atol=0)
    assert not torch.allclose(one, energy(batch_size=1, posterior="mean"), rtol=1e-2)


def test_factory_is_a_model_like_any_other(code, photos):
    found = measure(replace(SMALL, models=(f"{code(MODEL)}:build",), images=str(photos)))
    x = data.stack(data.ImageFolder(photos, 64), range(4))
    model = found.models[0].profile
    assert (model.name, model.compression, model.shape) == ("own:build", 4, (3, 16, 16))
    expected = frequency_profile(torch.nn.functional.avg_pool2d(x, 4), 8, "energy")
    torch.testing.assert_close(torch.tensor(model.profiles["energy"]), expected, rtol=1e-3, atol=0)


def test_latents_of_a_file_are_read_up_to_the_number_of_samples(latents):
    model = measure(replace(SMALL, latents=(str(latents),))).models[0].profile
    z = open_latents(latents).read(0, 6)
    assert (model.kind, model.items) == ("latents", 6)
    torch.testing.assert_close(
        torch.tensor(model.profiles["ratio_of_means"], dtype=torch.float32), frequency_profile(z), rtol=1e-4, atol=0
    )


def test_video_latents_and_oblong_ones_get_rgb_of_their_size(tmp_path):
    save_file({"z": torch.randn(2, 4, 3, 16, 24).bfloat16()}, tmp_path / "video.safetensors")
    found = measure(replace(SMALL, latents=(str(tmp_path / "video.safetensors"),)))
    assert found.models[0].profile.blocks == 2 * 4 * 3 * 6
    assert found.rgb_like(found.models[0]).shape == (3, 16, 24)


def test_rgb_at_an_oblong_size_is_cut_and_not_squeezed():
    circle = (torch.linspace(-1, 1, 64)[:, None] ** 2 + torch.linspace(-1, 1, 64) ** 2 < 0.16).float() * 2 - 1
    small = at_latent_size(circle.expand(1, 3, -1, -1), 16, 32)[0, 0]
    assert small.shape == (16, 32)
    inside = small > 0.5
    assert int(inside.any(1).sum()) == int(inside.any(0).sum())  # as high as wide
    assert small.min() >= 0


def test_a_folder_is_opened_no_further_than_needed(photos):
    two = Options(images=str(photos), resolution=64, samples=2)
    chosen = images.choose_images(two)
    assert len(chosen.used) == 2
    assert len(chosen.used) + len(chosen.skipped) + chosen.not_opened == 7
    assert chosen.used == images.choose_images(two).used
    assert len({images.choose_images(replace(two, seed=s)).used for s in range(8)}) > 1
    everything = images.choose_images(replace(two, samples=100, crop="random"))
    assert everything.used == tuple(f"photo{i}.png" for i in range(4))
    assert dict(everything.skipped) == {
        "empty.png": "the file is empty",
        "notes.txt": "not an image that Pillow can read",
        "thumbnail.png": "20 x 20 pixels, smaller than the resolution 64",
    }


@pytest.fixture
def elsewhere(tmp_path, photos, monkeypatch):
    """The photographs of the folder and its useless files as a tar file, a saved table and a Parquet file."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    files = sorted(photos.iterdir())
    with tarfile.open(tmp_path / "all-0.tar", "w") as tar:
        for path in files:
            tar.add(path, path.with_suffix(".png").name)
    rows = {"image": [{"bytes": path.read_bytes(), "path": path.name} for path in files]}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image()}))
    table.save_to_disk(tmp_path / "saved")
    table.to_parquet(tmp_path / "all.parquet")
    return tmp_path


@pytest.mark.parametrize("crop", ["center", "random"])
def test_images_may_lie_in_shards(elsewhere, photos, crop):
    options = Options(images=str(photos), resolution=64, crop=crop, samples=3, seed=1)
    expected = images.choose_images(options)
    for where in ("all-{0..0}.tar", "all-*.tar", "saved", "all.parquet"):
        chosen = images.choose_images(replace(options, images=str(elsewhere / where)))
        assert torch.equal(data.stack(chosen.dataset, range(3)), data.stack(expected.dataset, range(3)))
        assert [reason for _, reason in chosen.skipped] == [reason for _, reason in expected.skipped]
        assert chosen.not_opened == expected.not_opened
        assert chosen.described.endswith(expected.described.partition(str(photos))[2])


def test_command_takes_shards(elsewhere, latents):
    for where, first in (("all-*.tar", "all-0.tar: photo0.png"), ("all.parquet", "row 2"), ("saved", "row 2")):
        out = elsewhere / "out"
        result = run("--latents", latents, "--images", elsewhere / where, "--out", out, *QUICK)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "left out 3, all named in the page" in result.stdout
        assert json.loads((out / "profile.json").read_text())["images"]["used"][0] == first


def test_command_takes_built_in_images_by_name(tmp_path, latents, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {}
    for words in ([], ["--images", "photos"], ["--images", "leaves"]):
        result = run("--latents", latents, *words, "--out", "out", *QUICK)
        assert (result.exit_code, result.stderr) == (0, "")
        found["".join(words)] = json.loads(Path("out/profile.json").read_text())
    assert found["--imagesphotos"]["rgb"] == found[""]["rgb"]
    leaves = data.rgb01(data.stack(Leaves(64, seed=0, labels=False), range(6)))
    energy = frequency_profile(data.resize_to(leaves, 16, 16), 8, "energy")
    own = torch.tensor(found["--imagesleaves"]["rgb"][0]["profiles"]["energy"])
    torch.testing.assert_close(own, energy, rtol=1e-3, atol=0)
    Path("photos").mkdir()
    said = "'photos' names built-in images, and something here has that name too: for it give ./photos"
    assert_fails(run("--latents", latents, "--images", "photos", "--out", "new", *QUICK), Path("new"), said)


def test_shards_that_cannot_be_used_are_one_line(elsewhere, latents):
    out = elsewhere / "out"
    (elsewhere / "cut.tar").write_bytes((elsewhere / "all-0.tar").read_bytes()[:3000])
    (elsewhere / "cut.parquet").write_bytes(b"PAR1")
    (elsewhere / "text.tar.gz").write_bytes(b"\x1f\x8b")
    datasets.Dataset.from_dict({"caption": ["a"]}).save_to_disk(elsewhere / "captions")
    for where, said in [
        ("cut.tar", "cut.tar is cut off"),
        ("cut.parquet", "cut.parquet is cut off, damaged or no parquet file"),
        ("text.tar.gz", "compressed (gzip)"),
        ("captions", "no column of"),
        ("all-{0..3}.tar", "3 of 4 files are missing, the first is"),
        ("none-*.tar", "no file fits"),
    ]:
        result = run("--latents", latents, "--images", elsewhere / where, "--out", out, *QUICK)
        assert_fails(result, out, said)
    result = run("--latents", latents, "--images", elsewhere / "all-0.tar", "--out", out, "--resolution", 96)
    assert_fails(result, out, "no usable image in", "and 4 more")


# ---------------------------------------------------------------------------------------------------------------------
# What people bring along


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def build(:\n", "cannot be imported: SyntaxError"),
        ("import diffusab_no_such_module\n", "ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)\n", "SystemExit: 3 (line 1 of own.py)"),
        ("x = 1\n", "has no function 'build'"),
        ("build = 3\n", "has no function 'build'"),
        ("def build():\n    return 1 / 0\n", "ZeroDivisionError: division by zero (line 2 of own.py)"),
        ("def build():\n    return None\n", "autoencoder with encode(x), got NoneType"),
        ("def build(size):\n    return None\n", "missing 1 required positional argument"),
        ("class build:\n    def encode(self, x):\n        return x @ x.flatten()\n", "line 3 of own.py"),
        ("class build:\n    def encode(self, x):\n        return x, x\n", "got tuple"),
        ("class build:\n    def encode(self, x):\n        return x[0]\n", "(1, C, h, w)"),
        ("class build:\n    def encode(self, x):\n        return x[..., :30, :30]\n", "choose a --resolution"),
        ("class build:\n    def encode(self, x):\n        return x[..., :16]\n", "64 x 16; both sides"),
    ],
)
def test_own_code_that_does_not_work(code, tmp_path, source, said):
    out = tmp_path / "out"
    assert_fails(run("--model", f"{code(source)}:build", "--out", out, *QUICK), out, said)


@pytest.mark.parametrize("spec", ["own.py", "nowhere/own.py:build", "own.txt:build", ":build", "own.py:build()"])
def test_factory_that_is_not_file_and_function(tmp_path, spec):
    out = tmp_path / "out"
    assert_fails(run("--model", spec, "--out", out, *QUICK), out, spec)


class Payload:
    """A pickle that leaves a trace when it is opened."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl"])
@pytest.mark.parametrize("option", [[], ["--latents"]])
def test_no_pickle_is_opened(tmp_path, suffix, option):
    path, trace, out = tmp_path / f"model{suffix}", tmp_path / "trace", tmp_path / "out"
    path.write_bytes(pickle.dumps(Payload(trace)))
    assert_fails(run(*option, path, "--out", out, *QUICK), out, "is a pickle", "can run any code")
    assert not trace.exists()


def test_folder_with_pickled_weights_only_is_refused(tmp_path, folder):
    out = tmp_path / "out"
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "old" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Payload(tmp_path / "trace")))
    assert_fails(run(tmp_path / "old", "--out", out, *QUICK), out, "pickled weights are never loaded")
    assert not (tmp_path / "trace").exists()


# ---------------------------------------------------------------------------------------------------------------------
# What is written


def addresses(page):
    """Everything that a browser would fetch."""
    tags = re.findall(r"<[a-z][^>]*?\s(?:src|href|action|data|poster)\s*=\s*[\"']?([^\"'\s>]+)", page, re.IGNORECASE)
    return tags + re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", page)


def test_command_writes_json_picture_and_page(tmp_path, folder, code, latents, photos):
    out = tmp_path / "deep" / "out"
    sources_given = [folder, "--model", f"{code(MODEL)}:build", "--latents", latents]
    result = run("kl-f4c16", *sources_given, "--images", photos, "--out", out, "--statistic", "energy", *QUICK)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert sorted(os.listdir(out)) == ["profile.html", "profile.json", "profile.png"]
    assert "of up to 6 images 4 are there" in result.stdout
    assert "left out 3, all named in the page" in result.stdout

    found = json.loads((out / "profile.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert found["drawn"] == "energy"
    assert set(found["statistics"]) == set(STATISTICS)
    models = [model["profile"] for model in found["models"]]
    assert [m["name"] for m in models] == ["kl-f4c16", "mine", "own:build", "cached"]
    for entry in (*models, *found["rgb"]):
        assert set(entry["profiles"]) == set(STATISTICS)
        assert all(len(values) == 64 for values in entry["profiles"].values())
        assert entry["blocks"] > entry["excluded_blocks"] == 0
    assert found["images"]["used"] == [f"photo{i}.png" for i in range(4)]
    assert {skip["file"] for skip in found["images"]["skipped"]} == {"empty.png", "notes.txt", "thumbnail.png"}
    record = records.RunRecord.model_validate(found["record"])
    assert record.experiment == "profile"
    assert record.parameters["models"][:2] == ["kl-f4c16", str(folder)]
    assert record.series["mine: profiles.energy"] == models[1]["profiles"]["energy"]

    with Image.open(out / "profile.png") as picture:
        assert min(picture.size) > 500
        assert len(set(picture.convert("RGB").getdata())) > 20

    page = (out / "profile.html").read_text()
    assert [a for a in addresses(page.replace(report_page_script(), "")) if not str(a).startswith("data:image/")] == []
    assert "Content-Security-Policy" in page
    for words in ("Of them D₀₀ = 0", "own:build", "thumbnail.png", record.identity, "aria-label="):
        assert words in page


def report_page_script():
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def test_page_escapes_names(tmp_path, latents):
    odd = tmp_path / "<img src=x onerror=alert(1)>&<script>.safetensors"
    odd.write_bytes(latents.read_bytes())
    assert run("--latents", odd, "--out", tmp_path / "out", *QUICK).exit_code == 0
    page = (tmp_path / "out" / "profile.html").read_text().replace(report_page_script(), "")
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_picture_takes_any_name(tmp_path, latents):
    long = [tmp_path / f"{'a-long-name-' * 8}{i}.safetensors" for i in range(3)]
    for path in (*long, tmp_path / "_hidden $1 $.safetensors"):
        path.write_bytes(latents.read_bytes())
    few = page.png(measure(replace(SMALL, latents=(str(latents),))))
    given = sorted(str(path) for path in tmp_path.glob("*.safetensors"))
    many = page.png(measure(replace(SMALL, latents=tuple(given))))
    few, many = (Image.open(io.BytesIO(picture)) for picture in (few, many))
    assert many.width == few.width
    assert many.height > few.height + 60  # a line of the legend for each


def test_second_report_replaces_the_first(tmp_path, latents):
    for seed in (1, 2):
        assert run("--latents", latents, "--out", tmp_path, "--seed", seed, *QUICK).exit_code == 0
    assert json.loads((tmp_path / "profile.json").read_text())["options"]["seed"] == 2
    assert not list(tmp_path.glob(".*"))


def test_progress_goes_to_stderr(capsys, latents):
    measure(replace(SMALL, latents=(str(latents),)), progress=True)
    said = capsys.readouterr()
    assert "12/12" in said.err
    assert "cached" in said.err
    assert said.out == ""


def test_models_of_one_name_are_told_apart(tmp_path, latents):
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / "cached.safetensors"
    other.write_bytes(latents.read_bytes())
    found = measure(replace(SMALL, latents=(str(latents), str(other))))
    assert [m.name for m in found.models] == [str(latents), str(other)]
    with pytest.raises(ReportError, match="given twice"):
        measure(replace(SMALL, latents=(str(latents),) * 2))


# ---------------------------------------------------------------------------------------------------------------------
# How it fails


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to profile"),
        (["no-such-model"], "no autoencoder 'no-such-model'"),
        (["own.py:build"], "there is no file own.py"),
        (["own.py"], "own.py:function"),
        (["vae.safetensors"], "there is no file vae.safetensors"),
        (["kl-f4c16", "--statistic", "mode"], "--statistic 'mode' is unknown; choose one of mean_ratio, median_ratio"),
        (["kl-f4c16", "--posterior", "mode"], "--posterior 'mode'"),
        (["kl-f4c16", "--dtype", "int8"], "--dtype 'int8'"),
        (["kl-f4c16", "--device", "tpu"], "'tpu'"),
        (["kl-f4c16", "--device", "cuda:99"], "cuda:99 is not there"),
        (["kl-f4c16", "--crop", "left"], "--crop 'left'"),
        (["kl-f4c16", "--crop", "center"], "too few for centre crops"),
        (["kl-f4c16", "--samples", "0"], "--samples must be at least 1"),
        (["kl-f4c16", "--block-size", "1"], "--block-size must be at least 2"),
        (["kl-f4c16", "--resolution", "72"], "must be a multiple of 32, for instance 64"),
        (["kl-f4c16", "--resolution", "4096"], "larger images with --images"),
        (["kl-f4c16", "--images", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_wrong_words(tmp_path, words, said):
    out = tmp_path / "out"
    assert_fails(run(*QUICK, "--out", out, *words), out, said)


def test_missing_cuda_is_an_error_and_no_other_device_takes_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    out = tmp_path / "out"
    assert_fails(run("kl-f4c16", "--out", out, *QUICK, "--device", "cuda"), out, "no CUDA device", "try auto")


def test_folder_without_a_usable_image(tmp_path):
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    assert_fails(run("kl-f4c16", "--images", empty, "--out", out, *QUICK), out, "no usable image", "holds no files")
    for i in range(5):
        (empty / f"{i}.jpg").write_bytes(b"not a picture")
    said = ("0.jpg: not an image that Pillow can read", "and 2 more")
    assert_fails(run("kl-f4c16", "--images", empty, "--out", out, *QUICK), out, *said)
    assert_fails(run("kl-f4c16", "--images", empty / "0.jpg", "--out", out, *QUICK), out, "is a file")


def test_latents_that_do_not_fit(tmp_path, latents):
    out = tmp_path / "out"
    given = ["--latents", latents, "--out", out, *QUICK]
    assert_fails(run(*given, "--block-size", 5), out, "16 x 16 cannot be cut into 5 x 5", "2, 4, 8, 16")
    assert_fails(run(*given, "--resolution", 8), out, "choose --resolution 16 or more")


def test_nan_latents_name_the_images(tmp_path, code, photos):
    out = tmp_path / "out"
    path = code(
        "import torch\n"
        "class build:\n"
        "    seen = 0\n"
        "    def encode(self, x):\n"
        "        z = x[..., ::4, ::4].clone()\n"
        "        if len(x) > 1:\n"
        "            z[1, 0, 0, 0], z[3, 0, 0, 0] = float('nan'), float('inf')\n"
        "        return z\n"
    )
    result = run("--model", f"{path}:build", "--images", photos, "--out", out, *QUICK)
    assert_fails(result, out, "NaN or Inf in the latents of photo1.png, photo3.png")
    assert "photo0" not in result.stderr


def test_nan_in_a_file_names_the_items(tmp_path):
    z = torch.randn(4, 1, 8, 8)
    z[2, 0, 3, 3] = float("nan")
    save_file({"z": z}, tmp_path / "bad.safetensors")
    out = tmp_path / "out"
    assert_fails(run("--latents", tmp_path / "bad.safetensors", "--out", out, *QUICK), out, "latents of item 2")


def test_blank_images_have_no_profile(tmp_path, latents):
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    latents = Path(latents).rename(tmp_path.parent / "blank.safetensors")
    out = tmp_path.parent / "blank-out"
    result = run("--latents", latents, "--images", tmp_path, "--out", out, *QUICK)
    assert_fails(result, out, "RGB at 16×16", "is the input blank?")


def test_model_that_fails_on_a_batch(tmp_path, code, photos):
    out = tmp_path / "out"
    path = code(
        "class build:\n"
        "    def encode(self, x):\n"
        "        if len(x) > 1:\n"
        "            raise RuntimeError('several\\n  lines')\n"
        "        return x[..., ::4, ::4]\n"
    )
    result = run("--model", f"{path}:build", "--images", photos, "--out", out, *QUICK)
    assert_fails(result, out, "RuntimeError: several lines (line 4 of own.py)", "(4, 3, 64, 64)")


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_full_disk_leaves_nothing_and_keeps_an_older_report(tmp_path, monkeypatch, latents, fails_at):
    out = tmp_path / "out"
    given = ["--latents", latents, "--out", out, *QUICK]
    assert run(*given).exit_code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    result = run(*given, "--seed", 3)
    assert result.exit_code == 1
    name = page.FILES["profile"][fails_at - 1]
    assert result.stderr == f"diffusab: cannot write {out / name}: No space left on device\n"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 1 MB, where mounting one is allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        allowed = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("mounting a small file system needs root; the simulated full disk is tested above")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_really_full_disk(tiny_disk, latents):
    out = tiny_disk / "out"
    assert_fails(run("--latents", latents, "--out", out, *QUICK), out, "profile.html: No space left on device")
    assert os.listdir(tiny_disk) == []


def test_out_that_cannot_be_written_is_known_before_anything_is_computed(tmp_path, monkeypatch, latents):
    monkeypatch.setattr(page, "measure", lambda *_, **__: pytest.fail("measured for nothing"))
    (tmp_path / "file").touch()
    for out, said in [(tmp_path / "file", "File exists"), ("/dev/full/out", "Not a directory")]:
        result = run("--latents", latents, "--out", out, *QUICK)
        assert (result.exit_code, result.stderr) == (1, f"diffusab: cannot write into {out}: {said}\n")
    (tmp_path / "taken" / "profile.json").mkdir(parents=True)
    result = run("--latents", latents, "--out", tmp_path / "taken", *QUICK)
    assert result.stderr == f"diffusab: cannot write {tmp_path / 'taken' / 'profile.json'}: it is a folder\n"


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_out_without_permission(tmp_path, latents):
    tmp_path.chmod(0o500)
    try:
        result = run("--latents", latents, "--out", tmp_path / "out", *QUICK)
    finally:
        tmp_path.chmod(0o700)
    assert_fails(result, tmp_path / "out", "Permission denied")


def shell(*words, **kwargs):
    command = [sys.executable, "-c", "from diffusab_book.cli import app; app()", "profile", *map(str, words)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120, check=False, **kwargs)


def test_interrupt(tmp_path, code):
    """A real Ctrl-C, sent from inside the second batch."""
    path, out = (
        code(
            "import os, signal\n"
            "class build:\n"
            "    calls = 0\n"
            "    def encode(self, x):\n"
            "        self.calls += 1\n"
            "        if self.calls == 3:\n"
            "            os.kill(os.getpid(), signal.SIGINT)\n"
            "        return x[..., ::4, ::4]\n"
        ),
        tmp_path / "deep" / "out",
    )
    done = shell(
        "--model", f"{path}:build", "--out", out, *QUICK, stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "diffusab: interrupted; nothing was written\n")
    assert not out.parent.exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_full_standard_output(tmp_path, latents):
    with open("/dev/full", "w") as full:
        done = shell("--latents", latents, "--out", tmp_path / "out", *QUICK, stdout=full)
    assert done.returncode == 1
    said = f"cannot print the summary (No space left on device); what was measured is in {tmp_path / 'out'}"
    assert done.stderr == f"diffusab: {said}\n"
    assert sorted(os.listdir(tmp_path / "out")) == sorted(page.FILES["profile"])


def test_record_and_json_are_made_before_the_first_file(tmp_path, monkeypatch, latents):
    """A page that cannot be made leaves no JSON behind either."""
    found = measure(replace(SMALL, latents=(str(latents),)))
    monkeypatch.setattr(page, "render", lambda *_: 1 / 0)
    (tmp_path / "out").mkdir()
    with pytest.raises(ZeroDivisionError):
        page.write(found, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []
    assert Image.open(io.BytesIO(page.png(found))).format == "PNG"
