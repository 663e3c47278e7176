"""Shipping: every shipped autoencoder has a sweep that makes it, and a run becomes a folder with a card."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from script_modules import load_script

from diffusab_book import runs
from diffusab_core import autoencoders
from diffusab_core.experiments import finetune, pretraining, records
from diffusab_core.experiments.pretraining import Pretraining
from diffusab_core.experiments.probing import held_out
from diffusab_core.methods.finetuning import Finetuning


@pytest.fixture(scope="module")
def ship():
    return load_script("ship")


#: What old records call settings, and what they leave at the values of then and now.
SAME = ("latent_channels", "channels", "norm_groups", "kl_weight", "l1_weight", "resolution", "batch_size", "steps",
        "learning_rate", "warmup", "evaluation_resolution", "evaluation_crops", "statistics_crops")  # fmt: skip


@pytest.mark.parametrize("name", autoencoders.SHIPPED)
def test_a_sweep_asks_for_what_the_shipped_record_says(ship, name):
    _, spec = ship.spec_of(name)
    shipped = records.read(autoencoders.WEIGHTS / name / "record.json")
    assert spec.seed == shipped.seed
    if name in ship.FINETUNED:
        wanted = Finetuning(**{**spec.parameters, "seed": spec.seed})
        assert {k: shipped.parameters[k] for k in ("model", "method", "steps", "alpha", "chf_ratio", "chf_fixed")} == {
            k: getattr(wanted, k) for k in ("model", "method", "steps", "alpha", "chf_ratio", "chf_fixed")
        }
        return
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.parameters.items()}
    wanted = Pretraining(**given)
    for key in SAME:
        there = shipped.parameters.get(key, getattr(Pretraining(), key))  # the oldest know fewer settings
        assert (tuple(there) if isinstance(there, list) else there) == getattr(wanted, key), key


def small(tmp_path: Path) -> Path:
    settings = Pretraining(channels=(8, 8, 8), norm_groups=1, latent_channels=4, resolution=16, batch_size=2, steps=2,
                           evaluation_resolution=32, evaluation_crops=4, statistics_crops=4, half=False)  # fmt: skip
    pretraining.train_autoencoder(settings, tmp_path / "run", record_name="training.json", progress=False)
    return tmp_path / "run"


def test_a_trained_run_becomes_a_folder_of_the_package(ship, tmp_path):
    made = small(tmp_path)
    done = ship.ship("kl-f8c4", made, "family", tmp_path / "out")
    stored = load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`scripts/ship.py kl-f8c4` from `sweeps/family.yaml`" in " ".join(card.split())
    assert f"{done.metrics['held_out_psnr_db']:.2f}" in card
    assert done.metrics["held_out_psnr_db"] != records.read(made / "training.json").metrics["held_out_psnr_db"]
    text = "".join(path.read_text() for path in (tmp_path / "out").glob("*.json"))
    assert str(tmp_path) not in text


def test_a_finetuned_run_becomes_one_with_its_own_normalisation(ship, tmp_path, monkeypatch):
    quick = {"progress": False, "snapshots": 1, "probe": held_out(64, 2)}
    finetune(Finetuning(resolution=32, steps=2, batch_size=2), tmp_path / "run", record_name="training.json", **quick)
    monkeypatch.setattr(ship, "Pretraining", lambda: Pretraining(evaluation_crops=4, statistics_crops=8))
    done = ship.ship("kl-f4c16-se", tmp_path / "run", "finetuning", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert "`coffee` and `china` were never trained on" in card
    opened, base = (autoencoders.load(p).module.config for p in (tmp_path / "out", "kl-f4c16"))
    assert opened.scaling_factor != base.scaling_factor
    assert done.parameters["name"] == "kl-f4c16-se"
    assert done.metrics.keys() >= records.read(autoencoders.WEIGHTS / "kl-f4c16-se" / "record.json").metrics.keys()
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "out").glob("*.json"))


def test_what_is_done_is_not_done_again(ship, tmp_path, monkeypatch, capsys):
    made = small(tmp_path)
    asked = []
    monkeypatch.setattr(runs, "execute", lambda spec, root: asked.append((spec.notebook, root)))
    monkeypatch.setattr(runs.RunSpec, "folder", lambda self, root: made)
    ship.main(["kl-f16c64", "--out", str(tmp_path / "out"), "--root", str(tmp_path / "store")])
    assert asked == [("autoencoder", tmp_path / "store")]
    assert "MiB, held out" in capsys.readouterr().out


def test_the_new_family_can_be_shipped_and_its_photographs_have_their_terms(ship):
    sweep, spec = ship.spec_of("dc-f4c16")
    assert sweep == "material"
    assert (spec.seed, spec.parameters["family"], spec.parameters["channels"]) == (0, "dc", [24, 48, 64])
    told = ship.describe_pool()
    counts = [int(n) for n in re.findall(r"(\d+) under ", told)]
    assert f"Terms of the {sum(counts)} training photographs" in told
    assert sum(counts) == 294
    assert "CC-BY-SA-3.0" in told
