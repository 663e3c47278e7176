"""Deep-compression autoencoders, perceptual and spectral losses, and training on stored photographs."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC
from PIL import Image
from safetensors.torch import load_file

from diffusab_core import autoencoders, data, metrics
from diffusab_core.experiments import finetune, pretraining
from diffusab_core.experiments.pretraining import Pretraining, train_autoencoder
from diffusab_core.files import SettingsError
from diffusab_core.methods.finetuning import Finetuning
from diffusab_core.methods.regularizers import log_spectrum_distance
from diffusab_core.training.batches import Batches

SMALL = Pretraining(family="dc", kl_weight=0.0, channels=(8, 8, 8), latent_channels=4, resolution=16, batch_size=2,
                    steps=3, evaluation_resolution=32, evaluation_crops=4, statistics_crops=4)  # fmt: skip
QUICK = {"progress": False, "checkpoint_every": 1, "snapshots": 1}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A pool as scripts/photographs.py writes it: pieces of the package's photographs as files."""
    folder = tmp_path_factory.mktemp("photographs")
    for split in data.photos.SPLITS:
        (folder / split).mkdir()
        for name in data.photo_names(split)[:2]:
            pixels = ((data.photo(name)[:, :120, :150] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / split / f"{name}.png")
    return folder


@pytest.mark.parametrize(
    ("channels", "latents", "compression", "parameters"),
    [((24, 48, 64), 16, 4, 0.43e6), ((24, 48, 64, 128), 64, 8, 1.47e6), ((16, 32, 32, 64, 128), 64, 16, 1.4e6)],
)
def test_the_family_has_the_shapes_and_sizes_of_its_sweep(channels, latents, compression, parameters):
    with torch.device("meta"):
        built = pretraining.build(replace(SMALL, channels=channels, latent_channels=latents))
        z = built.encode(torch.zeros(1, 3, 64, 64)).mean
    assert (built.compression, built.latent_channels) == (compression, latents)
    assert z.shape == (1, latents, 64 // compression, 64 // compression)
    assert built.trainable_count() == pytest.approx(parameters, rel=0.05)
    assert 2 * built.trainable_count() < 3 * 2**20, "half precision, at most 3 MB"


def test_shortcuts_pass_a_colour_on_before_anything_is_learned():
    """Why the family has no cast: with all convolutions zero the shuffles still carry the mean colours through."""
    built = pretraining.build(replace(SMALL, channels=(24, 48, 64), latent_channels=16))
    with torch.no_grad():
        for name, parameter in built.module.encoder.named_parameters():
            if not name.startswith("conv_in"):
                parameter.zero_()
        z = [built.encode(torch.full((1, 3, 16, 16), level)).mean for level in (-0.5, 0.5)]
    assert (z[0] - z[1]).abs().max() > 1e-3


def test_trained_on_a_folder_it_is_kept_with_its_card(tmp_path, photographs):
    settings = replace(
        SMALL, images=str(photographs / "train"), held_out=str(photographs / "test"), kept_side=100,
        perceptual="hed", perceptual_weight=0.1, perceptual_crops=1, log_dct_weight=0.01,
    )  # fmt: skip
    done = train_autoencoder(settings, tmp_path / "one", **QUICK)
    series = done.record.series
    assert {"perceptual", "log_dct", "psnr_db"} <= set(series)
    assert "kl" not in series
    plain = AutoencoderDC.from_pretrained(tmp_path / "one").eval()
    opened, x = autoencoders.load(tmp_path / "one"), pretraining.crops_of("test", settings)
    with torch.no_grad():
        z = opened.encode(x).mean
        y = plain.decode(plain.encode(x).latent).sample
    m = done.record.metrics
    assert m["held_out_psnr_db"] == pytest.approx(metrics.psnr(x, y).item(), abs=1e-4)
    assert m["held_out_colour_error"] == pytest.approx(metrics.material.colour_error(x, y), rel=1e-3)
    train = opened.normalise(opened.encode(pretraining.first_images(settings, {"kept_side": 100})).mean)
    assert train.mean().item() == pytest.approx(0, abs=0.02)
    assert train.std().item() == pytest.approx(1, abs=0.02)
    assert opened.denormalise(opened.normalise(z)).sub(z).abs().max() < 1e-4  # shift and scale are kept by the folder
    card = " ".join((tmp_path / "one" / "README.md").read_text().split())
    assert "Loss: MSE + 1 x L1, both in [-1, 1], + 0.1 x HED, the latter on 1 crops of a batch + 0.01 x the" in card
    assert "AutoencoderDC.from_pretrained" in card
    assert f"| {m['held_out_colour_error']:.2f} |" in card
    assert "KL" not in card
    same = train_autoencoder(settings, tmp_path / "two", **QUICK)
    for name, value in load_file(tmp_path / "one" / "diffusion_pytorch_model.safetensors").items():
        assert torch.equal(value, load_file(tmp_path / "two" / "diffusion_pytorch_model.safetensors")[name])
    assert same.record.metrics["held_out_latent_slope"] == m["held_out_latent_slope"]
    more = {"resolution": 32, "steps": 1, "batch_size": 1, "kl_weight": 0.0, "whole": True}
    tuned = finetune(
        Finetuning(model=str(tmp_path / "one"), method="se", **more), tmp_path / "tuned", progress=False,
        probe=data.stack(data.Photos(64, "test", length=2), range(2)), snapshots=1,
    )  # fmt: skip
    again = autoencoders.load(tmp_path / "tuned")
    assert again.module.config.shift_factor == opened.module.config.shift_factor
    assert tuned.record.metrics["trainable_parameters"] == opened.trainable_count()


def test_terms_add_up_and_neutral_weights_change_nothing():
    batches = Batches(data.Photos(16, "train", length=8), 4, seed=0, steps=2)
    built = pretraining.build(SMALL)

    def loss(**more):
        return pretraining.loss_of(built, replace(SMALL, **more), batches)(0, torch.Generator().manual_seed(0))[
            0
        ].item()

    x = batches(0)
    with torch.no_grad():
        y = built.decode(built.encode(x).mean)
    square, error = (y - x).square().mean().item(), (y - x).abs().mean().item()
    hed = metrics.hed_distance()
    assert loss() == pytest.approx(square + error, rel=1e-5)
    assert loss(mse_weight=0.0, l1_weight=2.0) == pytest.approx(2 * error, rel=1e-5)
    assert loss(perceptual="hed", perceptual_weight=0.1) == pytest.approx(
        square + error + 0.1 * hed(x, y).mean().item(), rel=1e-5
    )
    assert loss(perceptual="hed", perceptual_crops=1) == pytest.approx(
        square + error + hed(x[:1], y[:1]).mean().item(), rel=1e-5
    )
    spectra = log_spectrum_distance(x, y).item()
    assert loss(log_dct_weight=0.5) == pytest.approx(square + error + 0.5 * spectra, rel=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"family": "vq"}, "'vq'"), ({"latent_channels": 5}, r"latent_channels, 5, got \[8, 8, 8\]"),
        ({"kl_weight": 1e-6}, "1e-06"), ({"blurred": True}, "blurred"), ({"attention": True}, "attention"),
        ({"gain_control": 4.0}, "gain_control"), ({"gain_control": -4.0}, "-4"),
        ({"perceptual": "squeeze"}, "'squeeze'"), ({"kept_side": -1}, "-1"), ({"perceptual_crops": -2}, "-2"),
        ({"log_dct_weight": float("inf")}, "inf"), ({"channels": ()}, r"\[\]"),
        ({"channels": (8, 16, 24)}, "16 and 24"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(SettingsError, match=said):
        Pretraining(**{**asdict(SMALL), **wrong})


def test_records_of_the_first_family_tell_what_they_told():
    assert not Pretraining().measures_material
    assert Pretraining(held_out="somewhere").measures_material
    kl = pretraining.build(replace(SMALL, family="kl", norm_groups=1, kl_weight=1e-6))
    batches = Batches(data.Photos(16, "train", length=4), 2, seed=0, steps=1)
    settings = replace(SMALL, family="kl", norm_groups=1, kl_weight=1e-3)
    total, seen = pretraining.loss_of(kl, settings, batches)(0, torch.Generator().manual_seed(3))
    x = batches(0)
    posterior = kl.module.encode(x).latent_dist
    error = kl.module.decode(posterior.sample(torch.Generator().manual_seed(3))).sample - x
    square, absolute = error.square().mean(), error.abs().mean()
    divergence = 0.5 * (posterior.mean.square() + posterior.logvar.exp() - 1 - posterior.logvar).mean()
    assert torch.equal(total, square + 1.0 * absolute + 1e-3 * divergence)
    assert list(seen) == ["psnr_db", "kl"]
