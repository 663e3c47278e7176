"""Plans: which runs a sweep is, in which order, and what they cost."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from tiny_sweeps import write_notebooks, write_sweep

from diffusab_book import chapters
from diffusab_book.runs import RunSpec
from diffusab_book.sweeps import files
from diffusab_book.sweeps.files import SIZES, SweepError
from diffusab_book.sweeps.plan import costs, plan
from diffusab_core.experiments import trial
from diffusab_core.experiments.pretraining import Pretraining
from diffusab_core.experiments.probing import Probing
from diffusab_core.experiments.scoring import Scoring
from diffusab_core.methods.finetuning import Finetuning

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def notebooks(tmp_path):
    return write_notebooks(tmp_path / "notebooks")


def planned(tmp_path, notebooks, name="one", size=None, **options):
    sweep = files.read(tmp_path / f"{name}.yaml", tmp_path)
    return plan(sweep, size, tmp_path / "runs", notebooks=notebooks, **options)


def test_one_run_for_each_arm_and_seed(tmp_path, notebooks):
    write_sweep(tmp_path / "one.yaml")
    made = planned(tmp_path, notebooks)
    assert {key: (job.spec.parameters, job.spec.seed) for key, job in made.own.items()} == {
        ("plain", 0): ({}, 0), ("plain", 1): ({}, 1), ("more", 0): ({"rate": 1.5}, 0), ("more", 1): ({"rate": 1.5}, 1),
    }  # fmt: skip
    job = made.own["more", 1]
    wanted = RunSpec.resolve("tiny", "laptop", 1, {"rate": 1.5}, notebooks)
    assert job.run == f"tiny/{wanted.identity}"
    assert job.folder == (tmp_path / "runs" / "tiny" / wanted.identity).absolute()
    assert made.label(job) == "more-seed1"


def test_runs_of_other_sweeps_come_first_and_are_shared(tmp_path, notebooks):
    write_sweep(tmp_path / "base.yaml")
    arms = {arm: {"source": {"sweep": "base", "arm": arm}} for arm in ("plain", "more")}
    arms["fixed"] = {"source": {"sweep": "base", "arm": "plain", "seed": 0}, "steps": 5}
    write_sweep(tmp_path / "one.yaml", arms=arms)
    base, made = planned(tmp_path, notebooks, "base"), planned(tmp_path, notebooks)
    assert {job.run for job in made.others} == set(base.jobs)
    order = list(made.jobs)
    for job in made.own.values():
        (needed,) = made.needs(job)
        assert order.index(needed.run) < order.index(job.run)
        assert job.spec.parameters["source"] == needed.spec.reference
    assert made.needs(made.own["more", 1]) == [made.jobs[base.own["more", 1].run]]
    assert made.needs(made.own["fixed", 1]) == [made.jobs[base.own["plain", 0].run]]
    assert made.label(made.others[0]) == "base/plain-seed0"
    # An arm that asks for the same as another sweep's is the same run.
    write_sweep(tmp_path / "two.yaml", arms={"other": {"rate": 1.5}}, control="other")
    assert planned(tmp_path, notebooks, "two").own["other", 1].run == base.own["more", 1].run


def test_only_some_seeds_and_arms(tmp_path, notebooks):
    write_sweep(tmp_path / "one.yaml")
    assert list(planned(tmp_path, notebooks, seeds=[1], arms=["more"]).own) == [("more", 1)]
    for options, named in (({"seeds": [7]}, "7"), ({"arms": ["most"]}, "most")):
        with pytest.raises(SweepError, match=named):
            planned(tmp_path, notebooks, **options)


@pytest.mark.parametrize(
    ("arms", "named"),
    [
        ({"plain": {"colour": 1}}, "colour"),
        ({"plain": {"rate": "fast"}}, "fast"),
        ({"plain": {"device": "cpu"}}, "device"),
        ({"plain": {}, "same": {"rate": 0.5}}, "same"),  # the default
        ({"plain": {"source": {"sweep": "nowhere", "arm": "x"}}}, "nowhere"),
        ({"plain": {"source": {"sweep": "base", "arm": "x"}}}, "'x'"),
        ({"plain": {"source": {"sweep": "base", "arm": "plain", "seed": 9}}}, "9"),
        ({"plain": {"source": {"sweep": "base", "arm": "plain"}}}, "seed 3"),
        ({"plain": {"source": {"sweep": "one", "arm": "plain"}}}, "one: plain -> one: plain"),
    ],
)
def test_a_mistake_is_one_line_with_the_file_and_the_value(tmp_path, notebooks, arms, named):
    write_sweep(tmp_path / "base.yaml", seeds=[0, 1])
    write_sweep(tmp_path / "one.yaml", arms=arms, seeds=[3])
    with pytest.raises(SweepError, match=re.escape(named)) as caught:
        planned(tmp_path, notebooks)
    assert "one.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_circle_through_two_files_is_refused(tmp_path, notebooks):
    for name, other in (("one", "two"), ("two", "one")):
        write_sweep(tmp_path / f"{name}.yaml", arms={"plain": {"source": {"sweep": other, "arm": "plain"}}})
    with pytest.raises(SweepError, match="one: plain -> two: plain -> one: plain"):
        planned(tmp_path, notebooks)


def test_at_smoke_size_the_presets_numbers_stand_and_one_seed(tmp_path, notebooks):
    arms = {"plain": {"steps": 600}, "long": {"steps": 9600}, "more": {"steps": 600, "rate": 1.5}}
    write_sweep(tmp_path / "one.yaml", arms=arms)
    made = planned(tmp_path, notebooks, size="smoke")
    assert made.own["plain", 0] is made.own["long", 0]
    assert made.own["plain", 0].spec.parameters == {"steps": 1}
    assert made.own["more", 0].spec.parameters == {"steps": 1, "rate": 1.5}
    assert len(made.jobs) == 2  # and one seed of each
    write_sweep(tmp_path / "one.yaml", arms=arms, sizes={"smoke": {"arms": {"long": {"steps": 2}}}})
    assert planned(tmp_path, notebooks, size="smoke").own["long", 0].spec.parameters == {"steps": 2}


def test_costs_are_measured_on_records_of_the_same_notebook_and_size(tmp_path, notebooks):
    write_sweep(tmp_path / "one.yaml", seeds=[0], arms={"plain": {}, "long": {"steps": 40}})
    made = planned(tmp_path, notebooks)
    assert {(cost.seconds, cost.megabytes) for cost in costs(made).values()} == {(None, None)}

    def record(path, seconds, steps=4, experiment="tiny", size="laptop"):
        content = {"experiment": experiment, "size": size, "wall_time_s": seconds, "parameters": {"steps": steps}}
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))

    store, recorded = tmp_path / "runs" / "tiny", tmp_path / "results"
    record(store / "aaaaaaaaaaaa" / "record.json", 2.0)  # resumed near its end: too short to be true
    record(recorded / "one" / "plain-seed0.json", 8.0)
    record(recorded / "two" / "plain-seed0.json", 20.0, steps=10)
    record(recorded / "three" / "plain-seed0.json", 999.0, experiment="other")
    record(recorded / "four" / "plain-seed0.json", 999.0, size="gpu")
    (store / "aaaaaaaaaaaa" / "weights").write_bytes(bytes(2_000_000))
    found = costs(made, [recorded])
    assert found[made.own["plain", 0].run].seconds == pytest.approx(8.0)
    assert found[made.own["long", 0].run].seconds == pytest.approx(80.0)
    assert found[made.own["long", 0].run].megabytes == pytest.approx(2.0, rel=1e-3)


def _sweeps():
    return sorted((REPOSITORY / "sweeps").glob("*.yaml"))


def _settings(spec):
    """What the run notebook makes of its parameters first: what cannot be, is refused here."""
    declared = chapters.parameters(spec.path)
    values = {name: spec.parameters.get(name, p.default) for name, p in declared.items()} | {"seed": spec.seed}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    kind = {"autoencoder": Pretraining, "finetune": Finetuning, "probe": Probing, "denoiser": trial.Trial,
            "space": Scoring}[spec.notebook]  # fmt: skip
    fixed = {"model": "kl-f4c16", "seed": 0} if kind is Probing else {}
    return kind(**{f.name: values[f.name] for f in fields(kind) if f.name in values and f.name not in fixed}, **fixed)


@pytest.mark.parametrize("path", _sweeps(), ids=lambda path: path.stem)
def test_every_sweep_of_the_repository_can_be_planned_at_every_size(path):
    sweep = files.read(path)
    for size in SIZES:
        arms = sweep.arms(size)
        # All seeds at the file's own size; at the others the first of each arm, to save time.
        seeds = None if size == sweep.size else {arm.seeds[0] for arm in arms.values()}
        made = plan(sweep, size, seeds=seeds)
        assert {arm for arm, _ in made.own} == arms.keys()
        for arm in arms.values():
            sweep.control_of(arm, arms)
        for job in made.jobs.values():
            if job.spec.seed == min(arm.seeds[0] for arm in arms.values()):
                _settings(job.spec)


def test_there_are_sweeps():
    assert len(_sweeps()) > 40
