"""Training an autoencoder from random weights: what it sees, exact resume, what is kept, faults."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from diffusab_core import autoencoders, data, metrics
from diffusab_core.autoencoders import AutoencoderError
from diffusab_core.experiments import cards, pretraining
from diffusab_core.experiments.drawing import Mixture
from diffusab_core.experiments.pretraining import Pretraining, train_autoencoder
from diffusab_core.files import SettingsError
from diffusab_core.training import TrainingDiverged
from diffusab_core.training.state import CheckpointError

SMALL = Pretraining(channels=(8, 8, 8), norm_groups=1, latent_channels=4, resolution=16, batch_size=2, steps=4,
                    evaluation_resolution=32, evaluation_crops=4, statistics_crops=4)  # fmt: skip
QUICK = {"progress": False, "checkpoint_every": 1, "snapshots": 2}


def kept(folder):
    return load_file(folder / "diffusion_pytorch_model.safetensors")


def test_cut_off_and_gone_on_it_ends_with_the_same_weights(tmp_path):
    whole = train_autoencoder(SMALL, tmp_path / "whole", **QUICK)
    steps = []

    def until_the_third(step, values):
        steps.append(step)
        if step == 2 and "profile" in values:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(SMALL, tmp_path / "cut", watch=until_the_third, **QUICK)
    assert not (tmp_path / "cut" / "record.json").exists()
    gone_on = train_autoencoder(SMALL, tmp_path / "cut", **QUICK)
    assert 2 in steps
    for name, value in kept(tmp_path / "whole").items():
        assert torch.equal(value, kept(tmp_path / "cut")[name]), name
        assert value.dtype == torch.float16
    same = {name for name in whole.record.metrics if name != "training_time_s"}
    assert {n: whole.record.metrics[n] for n in same} == {n: gone_on.record.metrics[n] for n in same}
    assert "Resumed at step" in gone_on.record.notes
    again = train_autoencoder(SMALL, tmp_path / "cut", **QUICK)  # only read back
    assert again.record.started == gone_on.record.started


def test_a_run_that_diverges_is_counted_and_measured_as_it_was_before(tmp_path, monkeypatch):
    of_steps = pretraining.loss_of

    def loss_of(*args):
        inner = of_steps(*args)

        def loss(step, generator, **part):
            value, seen = inner(step, generator, **part)
            return value * (math.nan if step == 1 else 1), seen

        return loss

    assert train_autoencoder(SMALL, **QUICK).record.metrics["diverged"] == 0
    monkeypatch.setattr(pretraining, "loss_of", loss_of)
    with pytest.raises(TrainingDiverged, match="at step 1"):
        train_autoencoder(SMALL, **QUICK)
    metrics = train_autoencoder(SMALL, tmp_path / "kept", keep_diverged=True, **QUICK).record.metrics
    assert (metrics["diverged"], metrics["diverged_at"]) == (1, 1)
    assert all(value.isfinite().all() for value in kept(tmp_path / "kept").values())
    assert math.isfinite(metrics["held_out_psnr_db"])


def test_the_result_is_a_folder_that_diffusers_opens_and_its_numbers_are_those_of_the_kept_weights(tmp_path):
    pictures = []
    done = train_autoencoder(
        SMALL, tmp_path / "small", watch=lambda step, v: pictures.append(v.get("reconstructions")), **QUICK
    )
    assert [p.shape for p in pictures if p is not None] == [(4, 3, 32, 32)] * 3
    plain = AutoencoderKL.from_pretrained(tmp_path / "small").eval()
    x = data.stack(data.Photos(32, "test", seed=pretraining.EVALUATION_SEED, length=4), range(4))
    with torch.no_grad():
        y = plain.decode(plain.encode(x).latent_dist.mean).sample
    assert done.record.metrics["held_out_psnr_db"] == pytest.approx(metrics.psnr(x, y).item(), abs=1e-5)
    opened = autoencoders.load(tmp_path / "small")
    train = data.stack(data.Photos(32, "train", seed=pretraining.EVALUATION_SEED, length=4), range(4))
    posterior = opened.encode(train)
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(pretraining.EVALUATION_SEED))
    with torch.no_grad():
        z = opened.normalise(posterior.mean + posterior.std * noise)
    assert z.mean().item() == pytest.approx(0, abs=0.02)  # but for half precision
    assert z.std().item() == pytest.approx(1, abs=0.02)
    card = (tmp_path / "small" / "README.md").read_text()
    assert f"{done.record.metrics['held_out_psnr_db']:.2f}" in card
    assert "4 steps of 2 crops of" in card
    assert "\n## Licence\n\nMIT, as the package.\n" in card
    assert "\n- `chelsea`: CC0 (Stefan van der Walt)\n" in card
    of_others = done.record.model_copy(update={"parameters": {**done.record.parameters, "images": "somewhere"}})
    other = cards.card("small", of_others, opened)
    assert "CC0" not in other
    assert "MIT" not in other
    assert "license" not in other
    assert str(tmp_path) not in (tmp_path / "small" / "record.json").read_text()


def test_a_blurred_encoder_is_kept_as_it_was_trained(tmp_path):
    settings = replace(SMALL, blurred=True)
    done = train_autoencoder(settings, tmp_path / "blurred", **QUICK)
    opened, x = autoencoders.load(tmp_path / "blurred"), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(opened.encode(x).mean, done.autoencoder.encode(x).mean)
    assert len([name for name in kept(tmp_path / "blurred") if name.endswith("conv.kernel")]) == 2
    assert "diffusers alone does not know" in (tmp_path / "blurred" / "README.md").read_text()
    resaved = tmp_path / "again"  # as a fine-tuned one is
    opened.module.save_pretrained(resaved)
    with torch.no_grad():
        assert torch.equal(autoencoders.load(resaved).encode(x).mean, opened.encode(x).mean)
    weights = tmp_path / "blurred" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(AutoencoderError, match="blurred: the weights cannot be loaded"):
        autoencoders.load(tmp_path / "blurred")


def test_settings_make_different_runs_and_a_folder_holds_one(tmp_path):
    train_autoencoder(SMALL, tmp_path / "one", **QUICK)
    with pytest.raises(CheckpointError, match="kl_weight"):
        train_autoencoder(replace(SMALL, kl_weight=0.1), tmp_path / "one", **QUICK)
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    assert (config["mid_block_add_attention"], config["latent_channels"]) == (False, 4)
    attentive = pretraining.build(replace(SMALL, attention=True)).module
    assert any(name.startswith("decoder.mid_block.attentions") for name, _ in attentive.named_parameters())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"channels": (8, 12), "norm_groups": 8}, r"\[8, 12\]"), ({"resolution": 18}, "18"), ({"kl_weight": -1.0}, "-1"),
     ({"steps": 0}, "steps must be at least 1, got 0"), ({"precision": "fp16"}, "fp16")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(SettingsError, match=said):
        Pretraining(**{**asdict(SMALL), **wrong})


def test_the_mixture_is_half_leaves_half_new_crops():
    leaves = torch.arange(2, dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 64, 64) * 255
    mixture = Mixture(leaves, 8, seed=0)
    assert len(mixture) == 8
    assert [mixture[i].unique().tolist() for i in (0, 2, 4)] == [[-1.0], [1.0], [-1.0]]
    assert mixture.name(4) == "leaves 0"
    crops = [mixture[i] for i in (1, 3, 5, 7)]
    assert len({crop.sum().item() for crop in crops}) == 4
    assert mixture.name(1) in data.photo_names("train")


def test_leaves_are_drawn_once(tmp_path, monkeypatch):
    first = pretraining.draw_leaves(16, 3, tmp_path, progress=False)
    monkeypatch.setattr(data, "Leaves", None)
    assert torch.equal(pretraining.draw_leaves(16, 3, tmp_path, progress=False), first)
    assert first.dtype == torch.uint8
    assert len(list(tmp_path.iterdir())) == 1


def test_what_the_gpu_size_trains_has_fluxaes_shape():
    settings = Pretraining(channels=(32, 64, 128, 128), layers=2, attention=True, resolution=128)
    with torch.device("meta"):
        small, flux = pretraining.build(settings), autoencoders.CATALOGUE["FluxAE"].build()
    assert small.latent_shape(128, 128) == (16, 16, 16)
    names = [name for name, _ in flux.named_parameters()]
    assert [name for name, _ in small.module.named_parameters()] == names  # the same layers, attention among them
    ratio = flux.decoder.mid_block.attentions[0].to_q.weight.shape[0] / small.module.config.block_out_channels[-1]
    assert ratio == 4
    assert 3e6 < small.trainable_count() < 6e6


def test_on_the_mixture_in_bf16_with_leaves_from_a_shared_folder(tmp_path):
    settings = replace(SMALL, images="mixture", leaves=3, precision="bf16", steps=2, half=False)
    done = train_autoencoder(settings, tmp_path / "one", cache=tmp_path / "leaves", progress=False)
    other = train_autoencoder(replace(settings, seed=1), tmp_path / "two", cache=tmp_path / "leaves", progress=False)
    assert sorted(path.name for path in (tmp_path / "leaves").iterdir()) == ["leaves-3-16.pt", "leaves-3-32.pt"]
    assert all(value.dtype == torch.float32 for value in kept(tmp_path / "one").values())
    assert done.record.metrics["held_out_psnr_db"] != other.record.metrics["held_out_psnr_db"]
    assert "dead leaves" in done.record.data
