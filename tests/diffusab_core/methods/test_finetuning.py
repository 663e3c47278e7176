"""Fine-tuning: what each method changes, exact resume, faults, and a result that plain diffusers opens."""

import hashlib
import json
import math
from dataclasses import replace

import pytest
import torch
import torchvision
from diffusers import AutoencoderDC, AutoencoderKL
from PIL import Image

from diffusab_core import autoencoders, data, experiments, training
from diffusab_core.autoencoders import AutoencoderError
from diffusab_core.experiments import finetune
from diffusab_core.methods import finetuning
from diffusab_core.methods.finetuning import Finetuning
from diffusab_core.training.batches import Batches
from diffusab_core.training.state import CheckpointError

SETTINGS = Finetuning(resolution=32, steps=4, batch_size=2)
PROBE = data.stack(data.Photos(64, "test", length=2), range(2))
QUICK = {"probe": PROBE, "progress": False, "snapshots": 2, "log_every": 2}


def weights(done) -> dict[str, torch.Tensor]:
    return done.autoencoder.module.state_dict()


def assert_same(a, b):
    for (name, x), y in zip(weights(a).items(), weights(b).values(), strict=True):
        assert torch.equal(x, y), name


# --- batches ----------------------------------------------------------------------------------------------------------


class Numbered(torch.utils.data.Dataset):
    """Items that say which seed and index they were made from."""

    seed = 3

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return torch.tensor([self.seed, index])


def test_every_epoch_shows_every_item_with_another_seed():
    batches = Batches(Numbered(), 2, seed=0, steps=10)
    seen = torch.cat([batches(step) for step in range(10)]).tolist()
    epochs = [seen[k : k + 5] for k in range(0, 20, 5)]
    assert all(sorted(i for _, i in epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert epochs[0][0][0] == 3
    assert len({epoch[0][0] for epoch in epochs}) == 4
    assert all(len({seed for seed, _ in epoch}) == 1 for epoch in epochs)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_a_function_of_the_step(workers):
    crops = data.Photos(16, "train", seed=1, length=7)
    plain, read_ahead = (Batches(crops, 3, seed=1, steps=6, workers=w) for w in (0, workers))
    for step in (2, 3, 4, 0, 5):  # a resumed run begins anywhere
        assert torch.equal(plain(step), read_ahead(step))
    with pytest.raises(IndexError, match="step 6 is outside a run of 6 steps"):
        plain(6)


# --- methods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (replace(SETTINGS, method="plain"), {"reconstruction"}),
        (replace(SETTINGS, method="se"), {"reconstruction", "se"}),
        (replace(SETTINGS, method="se", target="reconstruction", kl_weight=1e-3), {"reconstruction", "se", "kl"}),
        (replace(SETTINGS, method="chf"), {"reconstruction", "chf"}),
        (replace(SETTINGS, method="chf", chf_order="axes", chf_fixed=True), {"reconstruction", "chf"}),
        (replace(SETTINGS, method="eq-vae", resolution=64), {"reconstruction"}),
        (replace(SETTINGS, method="plain", soft_weight=0.1), {"reconstruction", "soft"}),
    ],
)
def test_each_method_has_its_terms_and_moves_the_encoder(settings, names):
    autoencoder = autoencoders.load("kl-f4c16")
    finetuning.freeze(autoencoder, settings)
    x = data.stack(data.Photos(settings.resolution, "train", length=2), range(2))
    generator = torch.Generator().manual_seed(0)
    terms = finetuning.loss_terms(autoencoder, x, settings, finetuning.distance_of(settings), generator)
    assert terms.keys() == names
    sum(terms.values()).backward()
    module = autoencoder.module
    assert module.encoder.conv_in.weight.grad.abs().sum() > 0
    assert module.decoder.conv_in.weight.grad.abs().sum() > 0
    assert module.decoder.conv_out.weight.grad is None  # frozen, as in the paper


def test_no_weight_equals_plain_bit_for_bit():
    plain, without = (finetune(replace(SETTINGS, **how), **QUICK) for how in ({"method": "plain"}, {"alpha": 0.0}))
    assert_same(plain, without)
    assert any(
        not torch.equal(x, y)
        for x, y in zip(weights(plain).values(), weights(finetune(SETTINGS, **QUICK)).values(), strict=True)
    )


def test_the_decoder_alone_cannot_move_the_spectrum():
    done = finetune(replace(SETTINGS, decoder_only=True, learning_rate=1e-3), **QUICK)
    m = done.record.metrics
    assert m["before_hf_energy_ratio"] == m["after_hf_energy_ratio"]
    assert done.record.series["before_profile"] == done.record.series["after_profile"]
    assert m["before_psnr_db"] != m["after_psnr_db"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "sse"}, "method must be one of plain, se, chf, eq-vae, sm, af-ldm, temporal-se, got 'sse'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"precision": "fp16"}, "precision must be one of fp32, bf16, got 'fp16'"),
        ({"target": "latent"}, "target must be one of input, reconstruction, got 'latent'"),
        ({"alpha": -1.0}, "alpha must be finite and not negative, got -1"),
        ({"kl_weight": math.nan}, "kl_weight must be finite and not negative, got nan"),
        ({"method": "eq-vae", "soft_weight": 0.1}, "leave soft_weight at 0 with eq-vae, got 0.1"),
        ({"perceptual": "vgg19"}, "perceptual must be one of none, alex, vgg, hed, got 'vgg19'"),
    ],
)
def test_impossible_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **wrong)


def test_the_recipes_of_the_paper():
    entry = autoencoders.CATALOGUE["FluxAE"]
    plain, se = (finetuning.from_recipe("folder", entry.recipe, method) for method in ("plain", "se"))
    assert (plain.kl_weight, se.kl_weight, se.weight, se.scales) == (1e-3, 0.0, 0.25, (2, 4))
    assert (se.steps, se.batch_size, se.learning_rate, se.clip, se.frozen_up_blocks) == (10_000, 32, 1e-5, 50, 1)
    assert finetuning.from_recipe("folder", entry.recipe, "chf").weight == 1


# --- runs on the disk -------------------------------------------------------------------------------------------------


def test_the_folder_opens_with_plain_diffusers_and_reconstructs_the_same(tmp_path):
    done = finetune(SETTINGS, tmp_path / "out", **QUICK)
    module = AutoencoderKL.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        theirs = module.decode(module.encode(PROBE).latent_dist.mean).sample
        ours = done.autoencoder.decode(done.autoencoder.encode(PROBE).mean)
    assert torch.equal(theirs, ours)
    assert "method `se`" in (tmp_path / "out" / "README.md").read_text()
    assert "- `alpha`: 0.25, the paper's" in (tmp_path / "out" / "README.md").read_text()
    assert list((tmp_path / "out" / "training" / "logs").iterdir())
    assert done.record.series["snapshot_step"] == [0, 2, 4]
    assert len(done.record.series["snapshot_profile_2"]) == 64

    again = finetune(SETTINGS, tmp_path / "out", **QUICK)  # finished: only read back
    assert_same(done, again)
    assert (again.record.metrics, again.record.series) == (done.record.metrics, done.record.series)
    with pytest.raises(CheckpointError, match=r"finished run with other settings \(alpha None -> 0\.5\)"):
        finetune(replace(SETTINGS, alpha=0.5), tmp_path / "out", **QUICK)


def cut_off_at(call):
    """``loss_terms`` that is interrupted once, at the given call."""
    calls, real = [], finetuning.loss_terms

    def cut_off(*args):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*args)

    return cut_off


def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    whole = finetune(SETTINGS, **QUICK)
    monkeypatch.setattr(finetuning, "loss_terms", cut_off_at(4))
    with pytest.raises(KeyboardInterrupt):
        finetune(SETTINGS, tmp_path, checkpoint_every=2, **QUICK)
    with pytest.raises(CheckpointError, match="method 'se' -> 'plain'"):
        finetune(replace(SETTINGS, method="plain"), tmp_path, **QUICK)
    resumed = finetune(SETTINGS, tmp_path, checkpoint_every=2, **QUICK)
    assert_same(whole, resumed)
    assert whole.record.series["loss"] == resumed.record.series["loss"]


def test_a_run_goes_on_and_is_read_back_on_another_device(tmp_path, monkeypatch):
    """The device is no part of a run: "cpu:0" is another one by name, and the same by its numbers."""
    elsewhere = replace(SETTINGS, device="cpu:0")
    whole = finetune(SETTINGS, **QUICK)
    monkeypatch.setattr(finetuning, "loss_terms", cut_off_at(4))
    with pytest.raises(KeyboardInterrupt):
        finetune(SETTINGS, tmp_path, checkpoint_every=2, **QUICK)
    monkeypatch.undo()
    resumed = finetune(elsewhere, tmp_path, checkpoint_every=2, **QUICK)
    assert_same(whole, resumed)
    assert_same(whole, finetune(SETTINGS, tmp_path, **QUICK))  # read back
    assert whole.record.identity == resumed.record.identity
    record = json.loads((tmp_path / "record.json").read_text())  # records of before name a device
    record["parameters"]["device"] = "cuda"
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert_same(whole, finetune(SETTINGS, tmp_path, **QUICK))


def test_an_evaluation_is_the_same_run_on_another_device():
    settings = experiments.Evaluation("kl-f4c16", samples=1, resolution=32, cuts=(0.5,), features="none")
    here, there = (experiments.evaluate(replace(settings, device=d)).identity for d in ("cpu", "cpu:0"))
    assert here == there


def test_a_model_that_cannot_be_trained_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "own.py").write_text("class build:\n    def encode(self, x):\n        return x\n")
    with pytest.raises(ValueError, match=r"own:build has no decode\(z\)"):
        finetune(replace(SETTINGS, model=f"{tmp_path / 'own.py'}:build"), tmp_path / "out", **QUICK)
    assert not (tmp_path / "out").exists()


def test_a_planted_nan_names_step_and_samples_and_leaves_the_checkpoint(tmp_path, monkeypatch):
    real = data.Photos.__getitem__

    def planted(self, index):
        image = real(self, index)
        return image * math.nan if self.split == "train" and index == planted_at else image

    order = Batches(data.Photos(32, "train", length=8), 2, seed=0, steps=4)
    planted_at = order.places(2)[1][1]
    monkeypatch.setattr(data.Photos, "__getitem__", planted)
    with pytest.raises(training.TrainingDiverged, match=rf"nan at step 2, on items .*{planted_at} \([a-z]+\)"):
        finetune(SETTINGS, tmp_path, checkpoint_every=1, **QUICK)
    monkeypatch.undo()
    kept = sorted(folder.name for folder in (tmp_path / "training" / "checkpoints").iterdir())
    assert kept == ["step_00000001", "step_00000002"]
    assert_same(finetune(SETTINGS, **QUICK), finetune(SETTINGS, tmp_path, **QUICK))


def test_lpips_without_weights_is_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="--perceptual none"):
        finetune(replace(SETTINGS, perceptual="vgg"), tmp_path / "out", perceptual_weights=tmp_path, **QUICK)
    assert not (tmp_path / "out").exists()


def save_dc_ae(folder, levels=3):
    """A small DC-AE with random weights; it compresses 2 to the power of ``levels - 1`` times."""
    torch.manual_seed(0)
    small = {"encoder_block_out_channels": (8,) * levels, "encoder_layers_per_block": (1,) * levels}
    small |= {"decoder_block_out_channels": (8,) * levels, "decoder_layers_per_block": (1,) * levels}
    small |= {"encoder_block_types": "ResBlock", "decoder_block_types": "ResBlock", "attention_head_dim": 4}
    stages = {"encoder_qkv_multiscales": ((),) * levels, "decoder_qkv_multiscales": ((),) * levels}
    AutoencoderDC(**small, **stages, latent_channels=4).save_pretrained(folder)


@pytest.mark.parametrize("decoder_only", [False, True])
def test_dc_ae_is_finetuned(tmp_path, decoder_only):
    save_dc_ae(tmp_path / "dc")
    settings = replace(SETTINGS, model=str(tmp_path / "dc"), decoder_only=decoder_only)
    done = finetune(settings, tmp_path / "out", **QUICK)
    assert isinstance(autoencoders.load(tmp_path / "out").module, AutoencoderDC)
    before = autoencoders.load(tmp_path / "dc").module.state_dict()
    moved = {name for name, value in weights(done).items() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in moved} == ({"decoder"} if decoder_only else {"encoder", "decoder"})


def test_a_model_that_compresses_much_is_watched_on_larger_images(tmp_path):
    save_dc_ae(tmp_path, levels=6)
    f4, f32 = autoencoders.load("kl-f4c16"), autoencoders.load(tmp_path)
    sides = [experiments.autoencoder.probe_side(a, b) for a, b in ((f4, 8), (f4, 4), (f32, 8), (f32, 4))]
    assert sides == [128, 128, 256, 128]
    with pytest.raises(AutoencoderError, match="multiple of 256 pixels, not 128: choose --resolution 256 or --block"):
        experiments.evaluate(experiments.Evaluation(str(tmp_path), samples=1, resolution=128, features="none"))


def test_kl_of_a_deterministic_autoencoder_is_refused(tmp_path):
    save_dc_ae(tmp_path)
    with pytest.raises(ValueError, match="deterministic, its KL is infinite"):
        finetune(replace(SETTINGS, model=str(tmp_path), kl_weight=1e-3), **QUICK)


def save_pictures(folder, *names):
    for i, name in enumerate(names):
        pixels = ((data.photo(name)[:, :128, :160] + 1) * 127.5).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{i}.png")


def test_a_folder_of_images_shows_new_crops_in_every_epoch(tmp_path):
    save_pictures(tmp_path, "astronaut", "chelsea")
    settings = replace(SETTINGS, images=str(tmp_path))
    batches = Batches(experiments.autoencoder._dataset(settings), 2, seed=0, steps=4)
    epochs = [batches(step) for step in range(4)]
    assert len({tensor.sum().item() for tensor in epochs}) == 4
    assert "0.png" in batches.describe(0)
    done = finetune(settings, **QUICK)
    assert done.record.data == str(tmp_path)
    assert len(done.record.series["loss"]) == 2


@pytest.mark.parametrize("change", ["another", "fewer", "other pixels"])
def test_a_run_is_not_resumed_on_other_images(tmp_path, monkeypatch, change):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    save_pictures(images, "astronaut", "chelsea", "rocket")
    settings = replace(SETTINGS, images=str(images))
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "loss_terms", cut_off_at(4))
        with pytest.raises(KeyboardInterrupt):
            finetune(settings, out, checkpoint_every=2, **QUICK)
    if change == "another":
        (images / "1.png").rename(images / "new.png")
    elif change == "fewer":
        (images / "2.png").unlink()
    else:
        save_pictures(images, "flower")
    found = 2 if change == "fewer" else 3
    with pytest.raises(CheckpointError, match=rf"images_found '3 \(\w{{8}}\)' -> '{found} \(\w{{8}}\)'"):
        finetune(settings, out, **QUICK)


def test_a_dataset_can_be_handed_in():
    taken = []

    class Mine(data.Photos):
        def __getitem__(self, index):
            taken.append(index)
            return super().__getitem__(index)

    settings = replace(SETTINGS, images="nowhere on the disk")
    done = finetune(settings, dataset=Mine(32, "train", seed=0, length=8), **QUICK)
    assert sorted(taken) == list(range(8))
    assert done.record.data == "nowhere on the disk"
    assert_same(done, finetune(SETTINGS, **QUICK))  # the same crops as those that "photos" opens


# --- which perceptual network -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    """A file in the format of torchvision's AlexNet, randomly initialised, and its digest."""
    file = tmp_path_factory.mktemp("kept privately") / "alexnet-random.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = torchvision.models.alexnet().features.state_dict()
    torch.save({f"features.{name}": value for name, value in state.items()}, file)
    return file, hashlib.sha256(file.read_bytes()).hexdigest()[:8]


def test_records_name_the_perceptual_network_and_no_folder(tmp_path, alexnet):
    file, digest = alexnet
    settings = replace(SETTINGS, method="plain", perceptual="alex")
    done = finetune(settings, tmp_path / "out", perceptual_weights=file, **QUICK)
    words = f"LPIPS (alex), backbone alexnet-random.pth, sha256 {digest}."
    assert done.record.notes == f"perceptual loss: {words}"
    assert finetune(replace(SETTINGS, method="plain"), **QUICK).record.notes == "perceptual loss: none."

    looked_at = experiments.Evaluation("kl-f4c16", samples=2, resolution=64, features="none")
    with_it, without = (experiments.evaluate(replace(looked_at, lpips_weights=w)) for w in (str(file), None))
    assert (with_it.notes, without.notes) == (f"perceptual distance: {words}", "perceptual distance: none.")
    assert with_it.parameters["lpips_weights"] == "alexnet-random.pth"
    assert without.parameters["lpips_weights"] is None
    texts = [with_it.model_dump_json(), *(p.read_text() for p in (tmp_path / "out").glob("[!d]*.*") if p.is_file())]
    assert not any(file.parent.name in text for text in texts)


def test_a_run_is_not_resumed_with_another_perceptual_network(tmp_path, monkeypatch, alexnet):
    file, digest = alexnet
    settings = replace(SETTINGS, method="plain", perceptual="alex")
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "loss_terms", cut_off_at(4))
        with pytest.raises(KeyboardInterrupt):
            finetune(settings, tmp_path / "out", perceptual_weights=file, checkpoint_every=2, **QUICK)
    state = torch.load(file)
    state["features.0.bias"] += 1
    torch.save(state, tmp_path / file.name)
    with pytest.raises(CheckpointError, match=rf"other settings \(lpips '{digest}' -> '\w{{8}}'\)"):
        finetune(settings, tmp_path / "out", perceptual_weights=tmp_path / file.name, **QUICK)
