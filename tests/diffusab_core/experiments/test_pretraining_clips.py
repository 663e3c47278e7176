"""A small causal video autoencoder, trained from random weights on moving leaves."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from diffusab_core import autoencoders, data
from diffusab_core.experiments import finetune, pretraining, probing
from diffusab_core.experiments.autoencoder import PROBE_SEED
from diffusab_core.experiments.pretraining import Pretraining, train_autoencoder
from diffusab_core.files import SettingsError
from diffusab_core.methods.finetuning import Finetuning

SMALL = Pretraining(
    family="cogvideox", frames=9, images="leaves", held_out="leaves", channels=(4, 4, 8, 8), norm_groups=4,
    latent_channels=4, leaves=3, resolution=16, batch_size=2, steps=4, warmup=1, kl_weight=1e-4,
    evaluation_resolution=64, evaluation_crops=2, statistics_crops=3,
)  # fmt: skip
QUICK = {"progress": False, "checkpoint_every": 2, "snapshots": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips") / "video-f8"
    return folder, train_autoencoder(SMALL, folder, **QUICK)


def test_its_shape_is_cogvideox_s():
    with torch.device("meta"):
        built = pretraining.build(replace(SMALL, channels=(16, 24, 32, 48), norm_groups=8, latent_channels=16))
        assert built.encode(torch.zeros(1, 3, 17, 64, 64)).mean.shape == (1, 16, 5, 8, 8)
        assert built.encode(torch.zeros(1, 3, 64, 64)).mean.shape == (1, 16, 8, 8)
    assert (built.compression, built.temporal_compression) == (8, 4)
    assert isinstance(built.module, AutoencoderKLCogVideoX)


def test_no_piece_of_a_clip_sees_a_later_one_and_an_image_is_a_clip_of_one_frame(trained):
    model = autoencoders.load(str(trained[0]))
    x = data.LeafClips(16, 3, length=1, labels=False, frames=17)[0][None]
    later = x.clone()
    later[:, :, 9:] = 0
    z, other = model.encode(x).mean, model.encode(later).mean
    assert z.shape == (1, 4, 5, 2, 2)
    assert torch.equal(z[:, :, :3], other[:, :, :3])
    assert (z[:, :, 3:] - other[:, :, 3:]).abs().max() > 1e-3
    assert torch.equal(model.encode(x[:, :, 0]).mean, model.encode(x[:, :, :1]).mean[:, :, 0])
    assert model.decode(z).shape == x.shape


def test_it_is_kept_with_its_card_and_its_normalisation(trained):
    folder, done = trained
    record, card = done.record, (folder / "README.md").read_text()
    assert record.data == "clips of 9 frames of moving dead leaves, 16 x 16"
    assert {"kl", "psnr_db"} <= set(record.series)
    assert "| | training clips | held-out clips |" in card
    assert "compression 4 x 8 x 8" in " ".join(card.split())
    assert "diffusers.AutoencoderKLCogVideoX.from_pretrained" in " ".join(card.split())
    opened = autoencoders.load(str(folder))
    x = pretraining.first_images(SMALL, {"leaves": SMALL.leaves, "choices": {"frames": 9}, "progress": False})
    z = opened.encode(x).mean
    assert opened.normalise(z).std() < 1.2
    assert opened.normalise(z).mean().abs() < 0.5


def test_training_goes_on_where_it_was_cut_off(trained, tmp_path, monkeypatch):
    loss_of = pretraining.loss_of

    def cut(*arguments):
        inner = loss_of(*arguments)

        def loss(step, generator):
            if step == 3:
                raise KeyboardInterrupt
            return inner(step, generator)

        return loss

    monkeypatch.setattr(pretraining, "loss_of", cut)
    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(SMALL, tmp_path / "cut", **QUICK)
    monkeypatch.setattr(pretraining, "loss_of", loss_of)
    resumed = train_autoencoder(SMALL, tmp_path / "cut", **QUICK)
    assert resumed.record.notes.startswith("Resumed at step 2")
    whole = trained[1].autoencoder.module.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.autoencoder.module.state_dict().items())


def test_it_is_measured_on_clips_that_it_has_not_seen():
    held_out = pretraining.crops_of("test", SMALL)
    assert held_out.shape == (2, 3, 9, 64, 64)
    mine = data.LeafClips(64, PROBE_SEED, length=2, labels=False, frames=9)
    torch.testing.assert_close(held_out, data.stack(mine, range(2)), rtol=0, atol=1 / 127)
    assert (held_out - pretraining.crops_of("train", replace(SMALL, seed=1))).abs().mean() > 0.1


def test_its_spectra_are_taken_frame_by_frame(trained):
    clips = pretraining.crops_for_spectra(SMALL, 64, 2)
    found = probing.spectra(trained[1].autoencoder, clips)
    assert len(found.series["channel_noise_share"]) == 4
    assert found.metrics["hf_energy_ratio_rgb"] < found.metrics["hf_energy_ratio_mean"]  # it has hardly been trained


def test_scale_equivariance_goes_on_from_it(trained, tmp_path):
    settings = Finetuning(
        model=str(trained[0]), method="se", images="leaves", frames=9, resolution=32, steps=2, batch_size=1
    )
    dataset = pretraining.open_training_images("leaves", 32, 2, 0, leaves=2, choices={"frames": 9}, progress=False)
    probe = pretraining.crops_for_spectra(SMALL, 64, 2)
    done = finetune(settings, tmp_path / "se", dataset=dataset, probe=probe, progress=False)
    assert {"reconstruction", "se"} <= set(done.record.series)
    before, after = (autoencoders.load(str(place)).module.state_dict() for place in (trained[0], tmp_path / "se"))
    assert any((before[name] != after[name]).any() for name in before if name.startswith("encoder."))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"frames": 8}, "frames must be 8k"),
        ({"frames": None}, "frames must be 8k"),
        ({"family": "kl"}, "frames are of clips"),
        ({"channels": (8, 8)}, "channels must be three or more"),
        ({"held_out": "photos"}, "held_out must be clips"),
        ({"channels": (6, 6, 6)}, "norm_groups = 4 divides"),
        ({"blurred": True}, "blurred is for family kl"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, said):
    with pytest.raises(SettingsError, match=said):
        replace(SMALL, **wrong)
