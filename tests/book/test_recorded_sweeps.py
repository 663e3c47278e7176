"""Records that were made before there were sweeps are those that the sweeps ask for."""

from pathlib import Path

import pytest

from diffusab_book import chapters, runs
from diffusab_book.results import RESULTS
from diffusab_book.sweeps import files, plan
from diffusab_core.experiments.bench import RADII
from diffusab_core.experiments.records import RunRecord, by_arm

ROOT = Path(__file__).resolve().parents[2]
#: Arms of a sweep for which nobody has had the hours yet.
NOT_RECORDED = {"finetuning": {"se-alpha0.05", "chf0.7", "se-soft0.01", "kl0.0001"}}
#: Settings of older records under the names of the run notebooks' parameters.
RENAMED = {"crops": "spectra_crops", "crop_resolution": "spectra_resolution"}
#: What older records say that is no parameter of the run, or is one of its reference's.
APART = {"name", "arm", "device", "seed", "ema_half_life", "trained_run"}


def jobs(sweep: str) -> dict[tuple[str, int], runs.RunSpec]:
    return {key: job.spec for key, job in plan.plan(files.read(sweep), "laptop").own.items()}


@pytest.mark.parametrize("sweep", ["finetuning", "family", "cut-curves", "antialiasing"])
def test_records_of_run_notebooks_are_the_runs_of_their_sweep(sweep):
    wanted = jobs(sweep)
    recorded = [(arm, run) for arm, of_arm in by_arm(RESULTS / sweep).items() for run in of_arm]
    new = [(arm, run) for arm, run in recorded if run.run_identity is not None]
    assert new, "at least one of each kind has been recorded by its run notebook"
    for arm, run in new:
        assert run.run_identity == wanted[arm, run.seed].identity
        assert run.experiment == wanted[arm, run.seed].notebook
    assert all(run.upgraded_from == 1 for _, run in recorded if run.run_identity is None)


def asked_for(sweep: str) -> dict[tuple[str, int], dict]:
    """Every run of a sweep at size laptop with all its parameters."""
    found = {}
    for key, spec in jobs(sweep).items():
        declared = chapters.parameters(spec.path)
        found[key] = {name: spec.parameters.get(name, p.default) for name, p in declared.items()}
    return found


def older(folder: str) -> dict[str, list[RunRecord]]:
    """The records in a folder that no run notebook has made."""
    found = by_arm(RESULTS / folder)
    return {arm: [run for run in of_arm if run.run_identity is None] for arm, of_arm in found.items()}


@pytest.mark.parametrize("sweep", ["finetuning", "family"])
def test_records_agree_with_their_sweep(sweep):
    wanted, recorded = asked_for(sweep), by_arm(RESULTS / sweep)
    there = {(arm, run.seed): run for arm, of_arm in recorded.items() for run in of_arm}
    missing = {arm for arm, _ in wanted.keys() - there.keys()}
    assert there.keys() <= wanted.keys()
    assert missing == NOT_RECORDED.get(sweep, set())
    for key, run in there.items():
        old = {RENAMED.get(name, name): value for name, value in run.parameters.items() if name not in APART}
        assert old == {name: wanted[key].get(name) for name in old}, key


def test_cut_curves_are_those_of_the_sweep():
    wanted, trained = asked_for("cut-curves"), jobs("finetuning")
    recorded = by_arm(RESULTS / "cut-curves")
    assert {(arm, run.seed) for arm, of_arm in recorded.items() for run in of_arm} == wanted.keys()
    for arm, of_arm in older("cut-curves").items():
        for run in of_arm:
            chosen = wanted[arm, run.seed]
            assert chosen["autoencoder"] == trained[arm, run.seed].reference
            assert chosen["parts"] == ["cuts"]
            assert (run.parameters["block_size"], run.parameters["resolution"]) == (
                chosen["block_size"], chosen["cut_resolution"]
            )  # fmt: skip
            assert run.series["cut_ratio"] == chosen["cuts"]
            assert run.metrics["training_steps"] == trained[arm, run.seed].parameters.get("steps", 400)


def test_strided_and_blurred_encoders_are_those_of_the_sweeps():
    wanted, recorded = asked_for("antialiasing"), by_arm(RESULTS / "antialiasing")
    strided, blurred = asked_for("family"), asked_for("blurred")
    assert {(arm, run.seed) for arm, of_arm in recorded.items() for run in of_arm} == wanted.keys()
    for arm, of_arm in older("antialiasing").items():
        for run in of_arm:
            member = arm.removesuffix("-blurred")
            trained = (blurred if run.parameters["blurred"] else strided)[member, run.seed]
            measured = wanted[arm, run.seed]
            assert trained["blurred"] == run.parameters["blurred"] == (arm != member)
            for name in ("latent_channels", "channels", "norm_groups", "kl_weight", "resolution", "batch_size",
                         "steps", "learning_rate", "warmup"):  # fmt: skip
                assert run.parameters[name] == trained[name], (arm, name)
            for old, new in {"side": "examine_resolution", "crops": "examine_crops", "grated_crops": "grated_crops",
                             "amplitude": "amplitude", "angles": "angles"}.items():  # fmt: skip
                assert run.parameters[old] == measured[new], (arm, old)
            assert run.series["in_nyquist"] == measured["in_nyquist"]
            assert run.series["cutoff"] == measured["cutoffs"]
            assert measured["parts"] == ["examine", "folding"]


def test_denoisers_on_blurred_latents_are_those_of_the_sweep():
    sweep, recorded = files.read("antialiasing-denoisers"), by_arm(RESULTS / "antialiasing-denoisers")
    arms = sweep.arms("laptop")
    assert arms.keys() - recorded.keys() == {"kl-f8c4", "kl-f8c64"}  # arms c4 and c64 of freqwarm
    for arm, of_arm in recorded.items():
        chosen = arms[arm].parameters
        assert [run.seed for run in of_arm] == list(arms[arm].seeds)
        assert chosen["autoencoder"] == files.Reference("blurred", arm.removesuffix("-blurred"), 0)
        for run in of_arm:
            for name in ("resolution", "denoiser", "self_conditioning"):
                assert run.parameters[name] == chosen[name], (arm, name)
            assert run.parameters["sampling"]["seed"] == chosen["sampling_seed"]
            assert run.parameters["autoencoder"] == f"{arm.removesuffix('-blurred')}, blurred"


#: Arms of the denoisers' sweeps for which nobody has had the hours yet: all others are recorded for every seed.
DENOISERS_RECORDED = {"denoisers": {"base", "plain", "se", "alpha1"}}
DENOISERS_NOT_RECORDED = {
    "freqwarm": {f"{c}{r}" for c in ("c16", "f16c64", "f16c128", "f16c256") for r in ("", "-r0.2")}
}


#: Settings that the records of denoisers have under the names of the notebook's parameters.
SAME = ("denoiser", "steps", "batch_size", "learning_rate", "final_learning_rate", "warmup", "weight_decay", "clip",
        "ema_half_life", "time_location", "time_scale", "self_conditioning", "label_dropout", "flips", "precision",
        "resolution")  # fmt: skip


@pytest.mark.parametrize("sweep", ["denoisers", "freqwarm"])
def test_recorded_denoisers_agree_with_their_sweep(sweep):
    chosen, recorded = files.read(sweep).arms("laptop"), by_arm(RESULTS / sweep)
    wanted = asked_for(sweep)
    arms = DENOISERS_RECORDED.get(sweep, set(chosen) - DENOISERS_NOT_RECORDED.get(sweep, set()))
    assert {(arm, run.seed) for arm, made in recorded.items() for run in made} == {
        (arm, seed) for arm in arms for seed in chosen[arm].seeds
    }  # fmt: skip
    trained = {key: job.spec for key, job in plan.plan(files.read("finetuning")).own.items()}
    for arm, made in recorded.items():
        for run in made:
            there, new = run.parameters, wanted[arm, run.seed]
            old = {name: there[name] for name in SAME}
            old |= {"crops": there["latents"]["count"], "data_seed": there["latents"]["seed"]}
            last, along = there["sampling"], there["sampling_along_the_way"]
            old |= {"samples": last["samples"], "sampling_steps": last["steps"], "sampling_seed": last["seed"]}
            old |= {"snapshot_samples": along["samples"], "snapshot_steps": along["steps"]}
            old |= {"shifts": run.series.get("shift", [1.0]), "features": [there["features"]]}
            old |= {"snapshots": len(run.series["snapshot_step"]) - 1, "reference": run.metrics["reference_samples"]}
            if (kind := there["autoencoder"].partition(":"))[0] == "finetuning":
                old["autoencoder"] = trained[kind[2], run.seed].reference
            else:
                old["autoencoder"] = there["autoencoder"]
            if curriculum := there["latents"].get("curriculum"):
                old |= {"r0": curriculum["r0"], "schedule": curriculum["schedule"]}
                warmup = new["steps"] // 4 if new["warmup_steps"] is None else new["warmup_steps"]
                assert (curriculum["warmup_steps"], curriculum["radii"][0]) == (warmup, new["r0"]), arm
                if new["schedule"] != "hard":
                    assert curriculum["radii"] == list(RADII)
            else:
                assert new["r0"] == 0
            assert {name: new[name] for name in old} == old, (arm, run.seed)


@pytest.mark.parametrize("chapter", ["06_scale_equivariance", "07_chopping", "08_price"])
def test_chapters_name_the_sweeps_of_what_they_show(chapter):
    text = (ROOT / "notebooks" / f"{chapter}.py").read_text()
    shown = {name for name in ("finetuning", "cut-curves", "family") if f'results.frame("{name}")' in text}
    assert shown
    assert [name for name in shown if f"`sweeps/{name}.yaml`" not in text] == []
