"""The notebooks of full runs keep to one form, offer all that the core offers, and lead from one to the next."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import MISSING, fields
from pathlib import Path

import jupytext
import nbformat
import pytest
import torch

from diffusab_book import chapters, runs
from diffusab_core import autoencoders
from diffusab_core.autoencoders import CATALOGUE
from diffusab_core.data.places import Choosing
from diffusab_core.experiments import finetune, records
from diffusab_core.experiments.bench import Trial
from diffusab_core.experiments.pretraining import Pretraining
from diffusab_core.experiments.probing import Probing, held_out, round_series
from diffusab_core.experiments.scoring import Scoring
from diffusab_core.methods import finetuning
from diffusab_core.methods.diffusability import CANDIDATES
from diffusab_core.methods.finetuning import Finetuning

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks" / "runs").glob("*.py"))
WHERE = {"device": "auto", "workers": 0, "folder": ""}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_run_notebook_keeps_to_one_form(path):
    cells = jupytext.read(path).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert [c for c in code if len(c.splitlines()) > 25 and "size: str" not in c] == [], "no cell is above 25 lines"
    assert [c for c in code if "Markdown(" in c] == [], "no sentence is assembled by code"
    blocks = [block for c in code for block in ast.parse(c).body if isinstance(block, (ast.If, ast.For, ast.With))]
    alone = [ast.unparse(node) for block in blocks for node in ast.walk(block) if isinstance(node, ast.Expr)]
    assert [c for c in alone if c.startswith(("figures.", "results."))] == [], "in a block nothing is shown"
    assert sum(f'chapters.start(\n    "{path.stem}"' in c or f'chapters.start("{path.stem}"' in c for c in code) == 1
    assert code[-1].endswith("chapters.finish(run)")
    assert len(re.findall(r"^# .+", text, flags=re.MULTILINE)) == 1
    assert len(text.split()) < 600, "short enough to be read as a page"
    declared = {name: p.default for name, p in chapters.parameters(path).items()}
    assert list(declared)[:2] == ["size", "seed"]
    assert {name: declared[name] for name in WHERE} == WHERE
    for size in records.SIZES:
        assert chapters.preset(path, size)["size"] == size


def defaults(settings: type) -> dict:
    inherited = {f.name for f in fields(Choosing)}  # a run notebook has no need of them
    plain = {f.name: f.default for f in fields(settings) if f.default is not MISSING and f.name not in inherited}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


@pytest.mark.parametrize(("name", "settings", "renamed"), [
    ("finetune", Finetuning, {}), ("autoencoder", Pretraining, {}),
    ("probe", Probing, {"model": "autoencoder", "seed": "crop_seed"}), ("denoiser", Trial, {}),
    ("space", Scoring, {}),
])  # fmt: skip
def test_parameters_are_all_settings_with_their_defaults(name, settings, renamed):
    declared = {n: p.default for n, p in chapters.parameters(chapters.find(name)).items()}
    for field, default in defaults(settings).items():
        if field != "device":
            assert declared[renamed.get(field, field)] == default, field


def test_the_paper_size_is_the_papers_recipe():
    path = chapters.find("finetune")
    known = {f.name for f in fields(Finetuning)}
    chosen = {name: value for name, value in chapters.preset(path, "paper").items() if name in known}
    settings = Finetuning(**chosen)
    entry = CATALOGUE["FluxAE"]
    table = finetuning.from_recipe(settings.model, entry.recipe, "se", images=settings.images)
    assert settings == table
    assert settings.model == f"{entry.hub_id}:{entry.subfolder}"
    built = {f.name: v for f in fields(Pretraining) if (v := chapters.preset(
        chapters.find("autoencoder"), "paper").get(f.name)) is not None}  # fmt: skip
    assert built["channels"] == entry.config["block_out_channels"]
    assert built["layers"] == entry.config["layers_per_block"]


# ---------------------------------------------------------------------------------------------------------------------
# Running them


def resolve(name: str, **parameters) -> runs.RunSpec:
    return runs.RunSpec.resolve(name, "smoke", parameters=parameters)


def execute(spec: runs.RunSpec, root: Path) -> records.RunRecord:
    return runs.execute(spec, root, where={"device": "cpu"}, progress=False)


def test_from_nothing_to_a_probe_of_a_finetuned_autoencoder(tmp_path):
    first = resolve("autoencoder")
    trained = execute(first, tmp_path)
    assert trained.metrics["held_out_psnr_db"] > 0
    second = resolve("finetune", model=first.reference, method="plain", soft_weight=0.1)
    tuned = execute(second, tmp_path)
    assert tuned.parameters["model"] == first.reference
    assert tuned.metrics["before_psnr_db"] != tuned.metrics["after_psnr_db"]
    third = resolve("probe", autoencoder=second.reference)
    probed = execute(third, tmp_path)
    opened = autoencoders.load(second.folder(tmp_path))
    x = held_out(64, 2)
    z = opened.encode(x).mean
    assert probed.metrics["latent_variance"] == pytest.approx(z.var().item(), rel=1e-5)
    assert set(probed.series) >= {"cut_ratio", "relative_gain", "stake_edge", "energy_mean", "profile"}
    for spec, pictures in ((first, 4), (second, 4), (third, 1)):
        executed = nbformat.read(spec.folder(tmp_path) / f"{spec.notebook}.ipynb", as_version=4)
        drawn = [o for cell in executed.cells for o in cell.get("outputs", []) if "plotly" in str(o.get("data", {}))]
        assert len(drawn) == pictures, spec.notebook
        assert (spec.folder(tmp_path) / f"{spec.notebook}.ipynb").stat().st_size < 300_000
    kept = [p for p in tmp_path.rglob("*.json") if p.name in ("record.json", "training.json", "config.json")]
    assert len(kept) == 7
    assert [p for p in kept if str(tmp_path) in p.read_text()] == []


def test_a_space_is_measured_with_a_probe(tmp_path):
    spec = resolve("space", mask="blocks", probe_steps=2)
    found = execute(spec, tmp_path)
    assert found.metrics.keys() >= CANDIDATES.keys()
    assert found.metrics["probe_steps"] == 2
    assert found.parameters["mask"] == "blocks"
    assert (spec.folder(tmp_path) / "probe" / "denoiser" / "record.json").is_file()


def test_killed_in_the_middle_it_goes_on_and_ends_with_the_same_numbers(tmp_path):
    spec = resolve("finetune", steps=70)
    folder = spec.folder(tmp_path)
    command = [sys.executable, "-m", "diffusab_book", "run", "finetune", "--size", "smoke", "-p", "steps", "70"]
    process = subprocess.Popen([*command, "--root", tmp_path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)  # fmt: skip
    while not list(folder.glob("training/checkpoints/step_*")):
        assert process.poll() is None, "it ended before its first checkpoint"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "record.json").exists()
    record = execute(spec, tmp_path)
    settings = Finetuning(resolution=32, batch_size=2, steps=70)
    whole = finetune(settings, probe=held_out(64, 4), snapshots=2, size="smoke", progress=False).record
    apart = {"training_time_s"}
    assert {k: v for k, v in record.metrics.items() if k not in apart} == {
        k: v for k, v in whole.metrics.items() if k not in apart
    }
    rounded = round_series(whole.series)
    assert {name: record.series[name] for name in rounded} == rounded
    assert record.run_identity == spec.identity == json.loads((folder / "run.json").read_text())["identity"]
    opened = autoencoders.load(folder)
    assert torch.isfinite(opened.encode(held_out(32, 1)).mean).all()
