"""The scripts that make recorded results run, at a tiny size."""

import importlib.util
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffusab_core import autoencoders, data
from diffusab_core.experiments import records
from diffusab_core.methods.denoising import Denoising, Sampling
from diffusab_core.methods.freqwarm import FreqWarm

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def opened(name: str):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def record_gpu():
    yield from opened("record_gpu")


@pytest.fixture(scope="module")
def record_gpu_denoisers(record_gpu):
    yield from opened("record_gpu_denoisers")


@pytest.fixture(scope="module")
def record_denoisers():
    yield from opened("record_denoisers")


def test_the_gpu_size_model_has_fluxaes_shape(record_gpu):
    with torch.device("meta"):
        small, flux = record_gpu.build(record_gpu.PLANS["gpu"]), autoencoders.CATALOGUE["FluxAE"].build()
    own = autoencoders.Autoencoder("small", small)
    assert own.latent_shape(128, 128) == (16, 16, 16)
    names = [name for name, _ in flux.named_parameters()]
    assert [name for name, _ in small.named_parameters()] == names  # the same layers, attention among them
    ratio = flux.decoder.mid_block.attentions[0].to_q.weight.shape[0] / small.config.block_out_channels[-1]
    assert ratio == 4
    assert flux.encoder.conv_norm_out.num_channels / small.encoder.conv_norm_out.num_channels == 4
    assert 3e6 < own.trainable_count() < 6e6


def test_gpu_records_are_made_once_and_go_on_where_they_were_cut_off(record_gpu, tmp_path, monkeypatch):
    words = ["plain", "se", "--seeds", "1", "--size", "smoke", "--device", "cpu", "--workers", "0", "--quiet"]
    words += ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]

    real = record_gpu.experiments.finetune

    def interrupted(settings, *args, **kwargs):
        if settings.method == "se":
            raise KeyboardInterrupt
        return real(settings, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(record_gpu.experiments, "finetune", interrupted)
        with pytest.raises(KeyboardInterrupt):
            record_gpu.main(words)
    made = {path.name: path.read_bytes() for path in (tmp_path / "results").iterdir()}
    assert sorted(made) == ["kl-f8c16-gpu-seed0.json", "plain-seed1.json"]
    record_gpu.main(words)
    assert all((tmp_path / "results" / name).read_bytes() == text for name, text in made.items())

    arms = records.by_arm(tmp_path / "results")
    assert sorted(arms) == ["kl-f8c16-gpu", "plain", "se"]
    plain, se = arms["plain"][0], arms["se"][0]
    assert (plain.seed, plain.size, plain.notes) == (1, "smoke", "arm plain; perceptual loss: none.")
    assert {key for key in plain.parameters if plain.parameters[key] != se.parameters[key]} == {"method"}
    assert plain.metrics["before_psnr_db"] == se.metrics["before_psnr_db"]  # both start from the same weights
    assert plain.metrics["before_psnr_db"] == pytest.approx(arms["kl-f8c16-gpu"][0].metrics["psnr_db"], abs=1e-4)
    assert plain.series["after_profile"] != se.series["after_profile"]
    assert len(plain.series["cut_psnr_db"]) == len(record_gpu.CUTS)
    assert not any(str(tmp_path) in path.read_text() for path in (tmp_path / "results").iterdir())
    assert autoencoders.load(tmp_path / "runs" / "se-seed1").latent_channels == 16


MEASURED = {"frechet_offline", "precision", "recall", "decoded_latents_frechet", "decoded_noise_frechet",
            "real_hf_energy_ratio", "generated_hf_energy_ratio", "parameters", "training_time_s"}  # fmt: skip


def test_denoisers_are_recorded_once_for_each_arm_and_seed(record_denoisers, tmp_path, monkeypatch):
    small = Sampling(40, steps=1, batch_size=40)
    bench = replace(
        record_denoisers.BENCH, images=lambda: data.Photos(32, "train", seed=1, length=40), final=small, quick=small,
        recipe=record_denoisers.RECIPE | {"steps": 3, "batch_size": 4},
    )  # fmt: skip
    for name, value in {"BENCH": bench, "CROPS": 40, "ROOT": tmp_path, "RESULTS": tmp_path / "results"}.items():
        monkeypatch.setattr(record_denoisers, name, value)
    base = records.read(record_denoisers.record("base", 0))
    before = (tmp_path / "results" / "base-seed0.json").read_bytes()
    shutil.rmtree(tmp_path / "runs")
    record_denoisers.record("base", 0)  # recorded already: nothing is computed, though the weights are gone
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "results" / "base-seed0.json").read_bytes() == before
    other = records.read(record_denoisers.record("location1", 0))
    assert set(base.metrics) >= MEASURED
    assert base.series["shift"] == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert "shift" not in other.series
    assert base.metrics["decoded_latents_frechet"] == other.metrics["decoded_latents_frechet"]  # one autoencoder
    assert base.metrics["decoded_latents_frechet"] < base.metrics["frechet_offline"]
    assert (base.parameters["time_location"], other.parameters["time_location"]) == (0.0, 1.0)
    assert len(base.series["snapshot_frechet_offline"]) == 4
    assert str(tmp_path) not in before.decode()


def test_every_arm_names_an_autoencoder_that_can_be_made(record_denoisers):
    for source, special in record_denoisers.ARMS.values():
        kind, _, name = source.rpartition(":")
        known = {
            "": autoencoders.SHIPPED,
            "finetuning": record_denoisers.record_finetuning.ARMS,
            "family": record_denoisers.record_family.MEMBERS,
        }[kind]
        assert name in known
        Denoising(**record_denoisers.RECIPE, **special)


def test_one_command_makes_autoencoder_and_denoiser(record_gpu_denoisers, tmp_path):
    words = ["base", "se", "se-r0.2", "--seeds", "1", "--size", "smoke", "--device", "cpu", "--workers", "0", "--quiet"]
    record_gpu_denoisers.main([*words, "--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")])
    arms = records.by_arm(tmp_path / "results")
    assert sorted(arms) == ["base", "se", "se-r0.2"]
    assert arms["se-r0.2"][0].parameters["latents"]["curriculum"]["warmup_steps"] == 1
    for arm in arms.values():
        assert set(arm[0].metrics) >= MEASURED
        assert arm[0].size == "smoke"
    weights = {name: arm[0].parameters["latents"]["weights"] for name, arm in arms.items()}
    assert weights["base"] != weights["se"]
    assert not any(str(tmp_path) in path.read_text() for path in (tmp_path / "results").iterdir())


def test_the_mixture_is_half_leaves_half_new_crops(record_gpu):
    plan = record_gpu.PLANS["smoke"]
    leaves = torch.arange(2, dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 64, 64) * 255
    mixture = record_gpu.Mixture(leaves, plan, 8, seed=0)
    assert len(mixture) == 8
    assert [mixture[i].unique().tolist() for i in (0, 2, 4)] == [[-1.0], [1.0], [-1.0]]
    assert mixture.name(4) == "leaves 0"
    crops = [mixture[i] for i in (1, 3, 5, 7)]
    assert len({crop.sum().item() for crop in crops}) == 4
    assert mixture.name(1) in record_gpu.data.photo_names("train")


def test_without_a_gpu_the_gpu_size_is_refused_in_words(record_gpu, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        record_gpu.main([])
    assert "there is no CUDA device here" in capsys.readouterr().err


@pytest.fixture(scope="module")
def record_freqwarm(record_denoisers):
    yield from opened("record_freqwarm")


def test_freqwarm_is_recorded_on_the_latents_it_promises(record_freqwarm, tmp_path, monkeypatch):
    small = Sampling(24, steps=2)
    autoencoder, bench = record_freqwarm.AUTOENCODERS["c4"]
    tiny = replace(
        bench, images=lambda: data.Photos(64, "train", seed=1, length=40), final=small, quick=small,
        recipe=record_freqwarm.RECIPE | {"steps": 4, "batch_size": 4},
    )  # fmt: skip
    monkeypatch.setitem(record_freqwarm.AUTOENCODERS, "c4", (autoencoder, tiny))
    for arm, plan in {"c4": None, "c4-r0.2": FreqWarm(2, 0.2), "c4-widening": FreqWarm(4, 0.2, "linear")}.items():
        monkeypatch.setitem(record_freqwarm.ARMS, arm, ("c4", plan))
    for name, value in {"ROOT": tmp_path, "RESULTS": tmp_path / "results", "CROPS": 48}.items():
        monkeypatch.setattr(record_freqwarm, name, value)
    whole, warm, widening = (records.read(record_freqwarm.record(arm, 0)) for arm in ("c4", "c4-r0.2", "c4-widening"))
    assert set(whole.metrics) >= MEASURED
    assert "curriculum" not in whole.parameters["latents"]
    assert warm.parameters["latents"]["curriculum"] == {
        "warmup_steps": 2, "r0": 0.2, "schedule": "hard", "radii": [0.2]
    }  # fmt: skip
    assert widening.parameters["latents"]["curriculum"]["radii"] == list(record_freqwarm.LEVELS)
    assert whole.metrics["decoded_latents_frechet"] == warm.metrics["decoded_latents_frechet"]
    assert whole.series["snapshot_frechet_offline"][0] == warm.series["snapshot_frechet_offline"][0]  # same start
    assert whole.series["loss"] != warm.series["loss"]
    assert not any(str(tmp_path) in path.read_text() for path in (tmp_path / "results").iterdir())


def test_every_arm_of_freqwarm_has_an_autoencoder_and_fits_its_steps(record_freqwarm):
    for name, plan in record_freqwarm.ARMS.values():
        source, bench = record_freqwarm.AUTOENCODERS[name]
        assert ":" in source or source in autoencoders.SHIPPED
        assert plan is None or plan.warmup_steps < bench.recipe["steps"]
        assert plan is None or plan.schedule == "hard" or plan.r0 == record_freqwarm.LEVELS[0]


@pytest.fixture(scope="module")
def record_antialiasing(record_freqwarm):
    yield from opened("record_antialiasing")


def test_strided_and_blurred_encoders_are_recorded_alike(record_antialiasing, tmp_path, monkeypatch):
    for name, value in {"ROOT": tmp_path, "RESULTS": tmp_path / "results", "STEPS": 2, "CROPS": 4, "GRATED": 1}.items():
        monkeypatch.setattr(record_antialiasing, name, value)
    strided, blurred = (records.read(record_antialiasing.record(arm, 0)) for arm in ("kl-f8c4", "kl-f8c4-blurred"))
    assert strided.series.keys() == blurred.series.keys()
    assert (strided.parameters["blurred"], blurred.parameters["blurred"]) == (False, True)
    assert strided.parameters["latent_channels"] == blurred.parameters["latent_channels"] == 4
    assert strided.metrics["psnr_db"] > blurred.metrics["psnr_db"] + 3  # 2000 steps against 2
    beyond = record_antialiasing.IN_NYQUIST.index(1.5)
    assert strided.series["folded_share"][beyond] > 0.5
    assert blurred.series["relative_gain"][beyond] < 0.1 * strided.series["relative_gain"][beyond]
    assert not any(str(tmp_path) in path.read_text() for path in (tmp_path / "results").iterdir())


def test_a_denoiser_is_recorded_on_blurred_latents(record_antialiasing, tmp_path, monkeypatch):
    small, freqwarm = Sampling(24, steps=2), record_antialiasing.record_freqwarm
    bench = replace(
        freqwarm.F8, images=lambda: data.Photos(64, "train", seed=1, length=40), final=small, quick=small,
        recipe=freqwarm.RECIPE | {"steps": 4, "batch_size": 4},
    )  # fmt: skip
    monkeypatch.setattr(freqwarm, "F8", bench)
    monkeypatch.setattr(freqwarm, "CROPS", 48)
    for name, value in {"ROOT": tmp_path, "RESULTS": tmp_path / "results", "STEPS": 2}.items():
        monkeypatch.setattr(record_antialiasing, name, value)
    done = records.read(record_antialiasing.record("kl-f8c4-blurred-denoised", 1))
    assert set(done.metrics) >= MEASURED
    assert done.parameters["autoencoder"] == "kl-f8c4, blurred"
    assert not any(str(tmp_path) in path.read_text() for path in (tmp_path / "results").iterdir())


def test_a_blurred_encoder_is_read_back_as_it_was_trained(record_antialiasing, tmp_path, monkeypatch):
    monkeypatch.setattr(record_antialiasing, "ROOT", tmp_path)
    monkeypatch.setattr(record_antialiasing, "STEPS", 2)
    monkeypatch.setattr(record_antialiasing.train_shipped, "loss_of", lambda model, *_: lambda step, generator: (
        model.encode(torch.randn(1, 3, 48, 48, generator=generator)).latent_dist.mean.square().mean(), {}))  # fmt: skip
    (first, record), (again, same) = (record_antialiasing.blurred("kl-f8c64", 1) for _ in range(2))
    assert record == same
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first.encode(x).mean, again.encode(x).mean)
    torch.manual_seed(1)
    fresh = autoencoders.Autoencoder("fresh", record_antialiasing.train_shipped.build(
        record_antialiasing.train_shipped.RECIPES["kl-f8c64"]))  # fmt: skip
    assert not torch.equal(first.encode(x).mean, fresh.encode(x).mean)
