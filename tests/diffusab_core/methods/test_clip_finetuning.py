"""Fine-tuning a video autoencoder on clips: the terms of each method, and a run that is cut off."""

from dataclasses import replace

import pytest
import torch
from made_clips import moving, save_video
from small_video import save_small_video

from diffusab_core import autoencoders, data, experiments
from diffusab_core.experiments import finetune
from diffusab_core.methods import finetuning, regularizers
from diffusab_core.methods.finetuning import Finetuning
from diffusab_core.spectrum import temporal_shares
from diffusab_core.training.batches import Batches
from diffusab_core.training.state import CheckpointError

SETTINGS = Finetuning(images="leaves", frames=5, resolution=32, block_size=4, steps=4, batch_size=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_small_video(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize(("settings", "names"), [
    (replace(SETTINGS, method="plain", kl_weight=1e-3), {"reconstruction", "kl"}),
    (replace(SETTINGS, method="se"), {"reconstruction", "se"}),
    (replace(SETTINGS, method="chf"), {"reconstruction", "chf"}),
    (replace(SETTINGS, method="eq-vae"), {"reconstruction"}),
    (replace(SETTINGS, method="plain", soft_weight=0.1), {"reconstruction", "soft"}),
])  # fmt: skip
def test_each_method_has_its_terms_on_clips_and_moves_the_encoder(model, settings, names):
    autoencoder = autoencoders.load(model)
    finetuning.freeze(autoencoder, settings)
    x = data.stack(data.LeafClips(32, length=2, labels=False, frames=5), range(2))
    generator = torch.Generator().manual_seed(0)
    terms = finetuning.loss_terms(autoencoder, x, settings, finetuning.distance_of(settings), generator)
    assert terms.keys() == names
    sum(terms.values()).backward()
    module = autoencoder.module
    assert module.encoder.conv_in.weight.grad.abs().sum() > 0
    assert module.decoder.conv_out.weight.grad is None  # frozen, as in the paper


def test_halved_time_keeps_the_ends_and_what_is_even():
    x = torch.randn(2, 3, 9, 4, 4, generator=torch.Generator().manual_seed(0))
    small = regularizers.halve_time(x)
    assert small.shape == (2, 3, 5, 4, 4)
    torch.testing.assert_close(small[:, :, 2], (x[:, :, 3] + 2 * x[:, :, 4] + x[:, :, 5]) / 4)
    torch.testing.assert_close(small[:, :, 0], (3 * x[:, :, 0] + x[:, :, 1]) / 4)
    still = x[:, :, :1].expand(-1, -1, 9, -1, -1)
    torch.testing.assert_close(regularizers.halve_time(still), still[:, :, :5])
    ramp = torch.arange(9.0).reshape(1, 1, 9, 1, 1)
    assert regularizers.halve_time(ramp).flatten()[1:4].tolist() == [2, 4, 6]
    flicker = (-1.0) ** ramp  # the highest frequency of time is gone, but at the ends
    assert regularizers.halve_time(flicker).flatten()[1:4].tolist() == [0, 0, 0]
    for wrong in (x[:, :, :8], x[:, :, 0]):
        with pytest.raises(ValueError, match="odd T"):
            regularizers.halve_time(wrong)


def test_equivariance_in_time_is_zero_for_decoders_of_single_frames_only():
    x = torch.randn(2, 3, 9, 4, 4, generator=torch.Generator().manual_seed(0))
    assert regularizers.temporal_scale_equivariance(x, 2 * x, lambda z: z / 2) < 1e-12
    z = (2 * x).requires_grad_()

    def smear(latents):  # frames see the ones before them
        return (latents + torch.cat([latents[:, :, :1], latents[:, :, :-1]], dim=2)) / 4

    loss = regularizers.temporal_scale_equivariance(x, z, smear)
    loss.backward()
    assert loss > 0.01
    assert regularizers.temporal_scale_equivariance(x, (z - 0.1 * z.grad / z.grad.norm()).detach(), smear) < loss


def test_equivariance_in_time_is_of_clips(model):
    settings = replace(SETTINGS, method="temporal-se", frames=9)
    autoencoder = autoencoders.load(model)
    finetuning.freeze(autoencoder, settings)
    x = data.stack(data.LeafClips(32, length=2, labels=False, frames=9), range(2))
    generator = torch.Generator().manual_seed(0)
    terms = finetuning.loss_terms(autoencoder, x, settings, finetuning.distance_of(settings), generator)
    assert terms.keys() == {"reconstruction", "temporal_se"}
    terms["temporal_se"].backward()
    assert autoencoder.module.encoder.conv_in.weight.grad.abs().sum() > 0
    x = x[:, :, :5]
    with pytest.raises(ValueError, match=r"time is halved of clips .* odd T, got shape \(2, 3, 2, 4, 4\)"):
        finetuning.loss_terms(autoencoder, x, settings, finetuning.distance_of(settings), generator)
    for wrong in ({"frames": None}, {"still_batch": 2}):
        with pytest.raises(ValueError, match="temporal-se is of clips"):
            replace(settings, **wrong)


def test_images_beside_clips_count_as_much_as_they(model):
    autoencoder = autoencoders.load(model)
    settings = replace(SETTINGS, method="plain", still_batch=3)
    distance = finetuning.distance_of(settings)
    clips = Batches(data.LeafClips(32, length=8, labels=False, frames=5), 2, 0, 4)
    images = Batches(data.LeafClips(32, 5, length=12, labels=False, frames=1), 3, 0, 4)

    def loss_on(beside=None):
        generator = torch.Generator().manual_seed(1)
        return experiments.autoencoder.loss_of(autoencoder, settings, distance, clips, stills=beside)(2, generator)

    with torch.no_grad():
        (alone, _), (both, terms) = loss_on(), loss_on(images)
        generator = torch.Generator().manual_seed(1)
        finetuning.loss_terms(autoencoder, clips(2), settings, distance, generator)
        x = images(2)[:, :, 0]
        beside = finetuning.loss_terms(autoencoder, x, settings, distance, generator)["reconstruction"]
    assert terms.keys() == {"reconstruction"}
    torch.testing.assert_close(both, (alone + beside) / 2)


def test_the_papers_batches_of_video_autoencoders():
    entry = autoencoders.CATALOGUE["CogVideoX-AE"]
    settings = finetuning.from_recipe("folder", entry.recipe, "se", images="films")
    assert (settings.batch_size, settings.still_batch, settings.frames) == (32, 64, 17)
    assert (settings.steps, settings.resolution, settings.clip) == (20_000, 256, 1)
    with pytest.raises(ValueError, match="still_batch is of images beside clips"):
        Finetuning(still_batch=4)
    with pytest.raises(ValueError, match="still_images 'photos' needs still_batch"):
        Finetuning(frames=5, still_images="photos")


@pytest.mark.parametrize("stills", [None, "photos"])
def test_a_run_with_images_beside_clips(model, tmp_path, stills):
    settings = replace(SETTINGS, model=model, method="plain", steps=1, still_batch=2, still_images=stills)
    probe = data.stack(data.LeafClips(32, 1, length=2, labels=False, frames=5), range(2))
    quick = {"probe": probe, "progress": False, "snapshots": 1, "log_every": 1}
    losses = finetune(settings, tmp_path / "out", **quick).record.series["loss"]
    assert losses != finetune(replace(settings, still_batch=0, still_images=None), **quick).record.series["loss"]
    with pytest.raises(CheckpointError, match="still_batch 2 -> None"):
        finetune(replace(settings, still_batch=0, still_images=None), tmp_path / "out", **quick)


def test_a_run_on_films_that_was_cut_off_ends_as_if_it_had_not_been(model, tmp_path, monkeypatch):
    for seed in range(2):
        save_video(tmp_path / "films" / f"{seed}.mp4", moving(12, 40, 48, seed), codec="libx264", pix_fmt="yuv420p")
    settings = replace(SETTINGS, model=model, images=str(tmp_path / "films"))
    probe = data.stack(data.LeafClips(32, 1, length=2, labels=False, frames=5), range(2))
    quick = {"probe": probe, "progress": False, "snapshots": 1, "log_every": 2}
    whole = finetune(settings, **quick)
    calls, real = [], finetuning.loss_terms

    def cut_off(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(finetuning, "loss_terms", cut_off)
    with pytest.raises(KeyboardInterrupt):
        finetune(settings, tmp_path / "out", checkpoint_every=2, **quick)
    resumed = finetune(settings, tmp_path / "out", checkpoint_every=2, **quick)
    assert len(calls) == 6, "two steps were not computed again"
    for (name, x), y in zip(whole.autoencoder.module.state_dict().items(),
                            resumed.autoencoder.module.state_dict().values(), strict=True):  # fmt: skip
        assert torch.equal(x, y), name
    assert whole.record.series["loss"] == resumed.record.series["loss"]


def test_what_is_watched_of_clips_has_their_spectrum_in_time(model):
    autoencoder = autoencoders.load(model)
    clips = data.stack(data.LeafClips(32, length=2, labels=False, frames=9), range(2))
    found = finetuning.examine(autoencoder, clips, block_size=4)
    shares, of_rgb = found["time_shares"], found["time_shares_of_rgb"]
    assert (len(shares), len(of_rgb)) == (2, 2)
    assert sum(shares) == pytest.approx(1)
    assert found["time_hf_share_of_rgb"] == pytest.approx(of_rgb[1])
    assert of_rgb == pytest.approx(temporal_shares(clips[:, :, [0, 4, 8]]).tolist())
    still = finetuning.examine(autoencoder, clips[:, :, 0], block_size=4)
    assert not [name for name in still if name.startswith("time")]
