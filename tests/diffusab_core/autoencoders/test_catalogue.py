"""The catalogue against the classes, built without weights on the meta device, and against Table 5."""

import dataclasses

import diffusers
import pytest
import torch
import typer

from diffusab_book.cli import app
from diffusab_core import denoisers
from diffusab_core.autoencoders import CATALOGUE, Autoencoder
from diffusab_core.autoencoders.catalogue import read


@pytest.fixture(scope="module")
def published():
    """The catalogue's models without weights."""
    built = {}

    def get(name):
        if name not in built:
            with torch.device("meta"):
                built[name] = Autoencoder(name, CATALOGUE[name].build().eval())
        return built[name]

    return get


#: Sizes in millions, and the shape of the latent of the images or clips that the papers use.
SIZES = {
    "FluxAE": (83.82, (256, 256), (16, 32, 32)),
    "CMS-AE_I": (81.51, (256, 256), (16, 16, 16)),
    "CogVideoX-AE": (215.58, (256, 256, 17), (16, 5, 32, 32)),
    "LTX-AE": (419.19, (256, 256, 17), (128, 3, 8, 8)),
    "DC-AE-f32c32": (323.36, (512, 512), (32, 16, 16)),
    "DC-AE-f32c128": (325.13, (512, 512), (128, 16, 16)),
    "DC-AE-f32c512": (332.20, (512, 512), (512, 16, 16)),
    "Wan2.2-AE": (704.69, (512, 512), (48, 32, 32)),
}


def test_the_catalogue_holds_the_papers_models():
    assert set(SIZES) == set(CATALOGUE)
    assert all(name == entry.name for name, entry in CATALOGUE.items())
    with pytest.raises(dataclasses.FrozenInstanceError):
        CATALOGUE["FluxAE"].name = "mine"


@pytest.mark.parametrize(
    ("change", "said"),
    [("latent_channels = 4", "latent_channels = 'four'"), ("parameters = 1.0", "size = 1.0"), ("steps = 9", "")],
)
def test_a_catalogue_with_a_mistake_is_refused_and_the_model_named(tmp_path, change, said):
    text = """[Mine]\nclass_name = "AutoencoderKL"\ncompression = 8\nlatent_channels = 4
    parameters = 1.0\nnormalisation = "none"\n
    [Mine.recipe]\nsteps = 9\nimage_batch = 1\nvideo_batch = 0\nkl_beta = 0\nlearning_rate = 1e-4\nclip_norm = 1
    frozen_up_blocks = 0\nfrozen_up_blocks_by_size = 0\nprinted_parameters = 1"""
    (tmp_path / "good.toml").write_text(text)
    assert read(tmp_path / "good.toml")["Mine"].recipe.clip_norm == 1.0
    (tmp_path / "bad.toml").write_text(text.replace(change, said))
    with pytest.raises(ValueError, match="Mine"):
        read(tmp_path / "bad.toml")


@pytest.mark.parametrize("name", CATALOGUE)
@torch.no_grad()
def test_published_size_and_latent_shape(published, name):
    entry, autoencoder = CATALOGUE[name], published(name)
    size, pixels, latent = SIZES[name]
    assert round(autoencoder.trainable_count() / 1e6, 2) == size == entry.parameters
    assert autoencoder.latent_shape(*pixels) == latent
    assert autoencoder.compression == entry.compression
    assert autoencoder.temporal_compression == entry.temporal_compression
    assert autoencoder.latent_channels == entry.latent_channels
    height, width, *frames = pixels
    x = torch.empty(1, 3, *frames, height, width, device="meta")
    assert autoencoder.encode(x).mean.shape == (1, *latent)
    assert autoencoder.decode(torch.empty(1, *latent, device="meta")).shape == x.shape


@torch.no_grad()
def test_cosmos_3d_has_the_measured_size():
    autoencoder = Autoencoder("Cosmos 3-D", diffusers.AutoencoderKLCosmos().to("meta"))
    assert round(autoencoder.trainable_count() / 1e6, 2) == 105.65
    assert autoencoder.encode(torch.empty(1, 3, 256, 256, device="meta")).mean.shape == (1, 16, 32, 32)
    assert autoencoder.normalise(torch.zeros(1, 16, 16, 1, 1)).isfinite().all()  # 16 latent frames have statistics


def test_wan_statistics_are_in_the_catalogue(published):
    z = torch.zeros(1, 48, 1, 1)
    normalised = published("Wan2.2-AE").normalise(z).flatten()
    torch.testing.assert_close(normalised[[0, 47]], torch.tensor([0.2289 / 0.4765, 0.0667 / 0.7744]))


@pytest.mark.parametrize(
    ("name", "millions"), [("FluxAE", 83.8), ("CogVideoX-AE", 211.5), ("LTX-AE", 419.0), ("CMS-AE_I", 44.0)]
)
def test_trained_parameters_are_those_of_table_5(published, name, millions):
    recipe = CATALOGUE[name].recipe
    assert recipe.printed_parameters == millions
    autoencoder = published(name)
    frozen = autoencoder.frozen_for_finetuning(recipe.frozen_up_blocks_by_size)
    digits = 0 if name in ("LTX-AE", "CMS-AE_I") else 1  # as many as are printed
    assert round(autoencoder.trainable_count(frozen) / 1e6, digits) == millions
    if recipe.frozen_up_blocks != recipe.frozen_up_blocks_by_size:  # the two printed rows contradict each other
        frozen = autoencoder.frozen_for_finetuning(recipe.frozen_up_blocks)
        assert round(autoencoder.trainable_count(frozen) / 1e6, digits) != millions


def test_recipes_are_table_5():
    recipes = {name: entry.recipe for name, entry in CATALOGUE.items() if entry.recipe}

    def row(field):
        return tuple(getattr(recipes[name], field) for name in ("FluxAE", "CMS-AE_I", "CogVideoX-AE", "LTX-AE"))

    assert len(recipes) == 4
    assert row("steps") == (10_000, 10_000, 20_000, 20_000)
    assert row("image_batch") == (32, 32, 64, 64)
    assert row("video_batch") == (0, 0, 32, 32)
    assert row("kl_beta") == (1e-3, 0, 1e-3, 1e-4)
    assert row("learning_rate") == (1e-5, 1e-4, 3e-4, 5e-5)
    assert row("clip_norm") == (50, 50, 1, 50)
    assert row("mse_weight") == (1, 1, 1, 5)
    assert row("lpips_weight") == (1, 1, 1, 1)
    assert row("frozen_up_blocks") == (1, 3, 0, 0)
    assert row("resolution") == (256,) * 4
    assert row("frames") == (None, None, 17, 17)


def test_freqwarm_runs_are_those_of_the_paper_and_their_commands_parse(tmp_path):
    runs = {name: entry.freqwarm for name, entry in CATALOGUE.items() if entry.freqwarm}
    assert set(runs) == {"LTX-AE", "DC-AE-f32c32", "DC-AE-f32c128", "DC-AE-f32c512", "Wan2.2-AE"}
    gains = {name: round(run.fid[0] - run.fid[1], 2) for name, run in runs.items()}
    assert gains["DC-AE-f32c128"] == 4.42
    assert gains["Wan2.2-AE"] == 14.11
    assert gains["DC-AE-f32c32"] < gains["DC-AE-f32c128"] < gains["DC-AE-f32c512"]
    extract, baseline, warm = runs["LTX-AE"].commands("owner/name:vae", str(tmp_path), 1000, 250)
    assert warm.startswith(baseline.replace(" baseline ", " freqwarm "))
    for command in (extract, baseline, warm):
        words = command.split("diffusab_book " if "torchrun" in command else "diffusab ")[1].split()
        group = typer.main.get_command(app)
        name, found, rest = group.resolve_command(group.make_context("diffusab", words[:1]), words)
        found.make_context(name, rest)  # raises on an option that is not there
    with torch.device("meta"):
        denoisers.build(runs["LTX-AE"].denoiser, in_channels=128, input_size=16, num_classes=1000)
