"""A trial at tiny size: what it measures, what it shares with others, and that it goes on where it was cut off."""

import subprocess
import sys
from dataclasses import fields, replace

import pytest
import torch
from PIL import Image

from diffusab_core import autoencoders, data, experiments, metrics
from diffusab_core.experiments import records, trial
from diffusab_core.experiments.bench import Bench, Trial
from diffusab_core.files import SettingsError
from diffusab_core.latents.identity import LatentsError
from diffusab_core.methods.denoising import Denoising
from diffusab_core.methods.reshaping import Reshaping
from diffusab_core.metrics import yardsticks

TINY = Trial(
    crops=48, reference=64, steps=4, batch_size=4, samples=40, sampling_steps=2, shifts=(4.0, 1.0), snapshots=2,
    snapshot_samples=34, snapshot_steps=1, features=("offline",), seed=3,
)  # fmt: skip


def run(chosen, folder, cache):
    return trial.run(chosen, folder, cache, size="smoke", progress=False)


def without_times(values):
    return {name: value for name, value in values.items() if not name.endswith("_time_s")}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def done(cache, tmp_path_factory):
    """The tiny trial's folder, finished."""
    folder = tmp_path_factory.mktemp("trial")
    run(TINY, folder, cache)
    return folder


def test_what_a_record_holds(done, tmp_path):
    record = records.read(done / "record.json")
    assert set(record.metrics) >= {
        "gap_offline", "frechet_offline", "best_gap_offline", "best_frechet_offline", "best_shift", "precision",
        "recall", "gap_floor_offline", "gap_noise_offline", "decoded_latents_frechet", "decoded_noise_frechet",
        "nearest_ratio", "nearest_share", "real_hf_share", "generated_hf_share", "real_hf_energy_ratio",
        "generated_hf_energy_ratio", "parameters", "training_time_s", "sampling_time_s", "judging_time_s",
    }  # fmt: skip
    m, s = record.metrics, record.series
    assert s["shift"] == [4.0, 1.0]
    assert m["gap_offline"] == pytest.approx(s["shift_gap_offline"][1], rel=1e-4)  # of shift 1, wherever it stands
    assert m["best_gap_offline"] == pytest.approx(min(s["shift_gap_offline"]), rel=1e-4)
    assert m["gap_floor_offline"] < m["gap_offline"] < m["gap_noise_offline"]
    assert m["decoded_latents_frechet"] < m["frechet_offline"]
    assert [len(s[f"error_{t:g}"]) for t in s["error_time"]] == [64] * 5
    assert s["error_0.1"][0] < s["error_0.9"][0]
    assert len(s["features_covariance_offline"]) == 32 * 33 / 2
    assert (s["ruler_first_rank"][0], s["ruler_last_rank"][-1]) == (0, 63)
    assert s["snapshot_step"] == [0.0, 2.0, 4.0]
    assert len(s["nearest_samples"]) == 21
    with Image.open(done / "samples.webp") as grid:
        assert grid.size == (8 * 34 + 2, 5 * 34 + 2)
    assert str(tmp_path.parents[1]) not in (done / "record.json").read_text()
    assert (done / "record.json").stat().st_size < 60_000


def test_the_gap_is_the_distance_to_decoded_latents_of_other_crops(done, cache):
    """The same number by the functions that a user has, without the trial's own."""
    record = records.read(done / "record.json")
    autoencoder, features = autoencoders.load("kl-f4c16"), metrics.offline_features()
    crops = data.stack(data.Photos(32, "train", seed=1, length=64), range(64))
    with torch.no_grad():
        posterior = autoencoder.encode(crops)
        noise = yardsticks.posterior_samples(Bench(TINY, cache, progress=False).held_out, range(64)) - posterior.mean
        real = autoencoder.decode(posterior.mean + noise).clamp(-1, 1)
    denoiser = experiments.open_denoiser(done / "denoiser")
    for place, shift in enumerate(TINY.shifts):
        made = [x for _, x, _ in experiments.generate(denoiser, autoencoder, TINY.sampling(shift))]
        for name, images in {"gap": real, "frechet": crops}.items():
            known = metrics.reference([images], features, progress=False)
            found = metrics.evaluate_samples(made, known, features, precision_recall=0, progress=False)
            wanted = record.series[f"shift_{name}_offline"][place]
            assert found["frechet_offline"] == pytest.approx(wanted, rel=1e-3), (name, shift)


def test_the_noise_of_samples_differs_by_seed_and_is_told(cache):
    assert TINY.sampling(1.0).seed == 3
    assert replace(TINY, sampling_seed=0).sampling(1.0).seed == 0
    assert TINY.sampling(1.0).steps == 2


def test_a_run_that_was_cut_off_ends_with_the_same_numbers(cache, tmp_path):
    longer = replace(TINY, steps=30, checkpoint_every=10, shifts=(1.0,), snapshots=3)
    whole = run(longer, tmp_path / "whole", cache)
    bench = Bench(longer, cache, progress=False)

    def stop(step, values):
        if step == 20 and "loss" in values:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trial.train(bench, tmp_path / "cut", size="smoke", watch=stop)
    told = []
    done = trial.train(bench, tmp_path / "cut", size="smoke", watch=lambda step, values: told.append((step, values)))
    assert [step for step, values in told if "loss" in values] == [10, 20, 30]
    assert next(values for step, values in told if step == 30 and "samples" in values)["samples"].shape[1:] == (
        3,
        32,
        32,
    )
    assert not (tmp_path / "cut" / "record.json").exists()
    again = run(longer, tmp_path / "cut", cache)
    assert done.record.metrics["training_time_s"] == again.metrics["training_time_s"]  # read back
    assert without_times(again.metrics) == without_times(whole.metrics)
    assert again.series == whole.series
    assert (tmp_path / "cut" / "samples.webp").read_bytes() == (tmp_path / "whole" / "samples.webp").read_bytes()


def test_another_seed_makes_nothing_anew_that_is_shared(done, cache, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.suffix != ".lock"}
    assert {path.parent.name for path in before if path.is_file()} > {"references", "rulers"}
    other = run(replace(TINY, seed=4, denoiser="DiT-XXS/1", shifts=(1.0,)), tmp_path, cache)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.suffix != ".lock"} == before
    first = records.read(done / "record.json")
    assert other.metrics["gap_floor_offline"] == first.metrics["gap_floor_offline"]
    assert other.metrics["gap_offline"] != first.metrics["gap_offline"]


def test_a_second_network_has_a_floor_too(done, cache, tmp_path):
    bench = trial.Bench(TINY, cache, progress=False)
    assert bench.floor("offline") == pytest.approx(bench.ruler["floor"], rel=1e-5)
    both = run(replace(TINY, features=("offline", "lite0p64"), shifts=(1.0,), samples=36, snapshots=0), tmp_path, cache)
    m = both.metrics
    assert m["gap_floor_lite0p64"] < m["gap_lite0p64"]
    assert m["best_gap_lite0p64"] == m["gap_lite0p64"]


def test_two_processes_that_want_the_same_latents_encode_them_once(tmp_path):
    code = """
import sys
from diffusab_core.experiments.bench import Bench, Trial
print(Bench(Trial(crops=40), sys.argv[1], progress=False).latents.encoded)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(int(process.communicate(timeout=120)[0]) for process in both) == [0, 40]


ARMS = {
    "freqwarm": {"r0": 0.2, "warmup_steps": 2},
    "widening": {"r0": 0.3, "schedule": "linear", "radii": (0.3, 0.5)},
    "reversed": {"r0": 0.2, "warmup_steps": 1, "warmup_kind": "reversed"},
    "amplitude": {"r0": 0.2, "warmup_steps": 2, "warmup_kind": "amplitude"},
    "mask": {"mask": "blocks"},
    "coloured noise": {"power": 0.5, "parts": "NL"},
    "schedule": {"power": 1.25, "ramp_from": 0.5, "ramp": 0.6, "parts": "NL"},
    "phase": {"surrogate": "phase"},
    "white channels": {"white_channels": 4},
    "classes": {"images": "leaves", "labels": True, "guidance": 1.5},
    "noise prediction": {"denoiser": "UViT-XXS/2"},
    "smaller blocks": {"block_size": 4},
}


@pytest.mark.parametrize("name", ARMS)
def test_every_kind_of_arm_runs(name, cache, tmp_path):
    chosen = replace(TINY, shifts=(1.0,), steps=2, snapshots=0, **ARMS[name])
    record = run(chosen, tmp_path, cache)
    ranks = chosen.block_size**2
    assert len(record.series["generated_energy"]) == len(record.series["real_energy"]) == ranks
    assert ("error_0.5" in record.series) is (name != "noise prediction")
    assert record.metrics["gap_floor_offline"] < record.metrics["gap_offline"]
    kept = records.read(tmp_path / "denoiser" / "record.json").parameters
    if name in ("freqwarm", "widening"):
        radii = {"freqwarm": [0.2], "widening": [0.3, 0.5]}[name]
        plan = kept["latents"]["curriculum"]
        assert (plan["radii"], plan["r0"]) == (radii, radii[0])
        assert plan["warmup_steps"] == (2 if name == "freqwarm" else 0)  # a quarter of two steps
    elif name in ("reversed", "amplitude"):
        more = {"reversed": {"steps": 2}, "amplitude": {"amplitude_only": True}}[name]
        plan = {"warmup_steps": chosen.warmup_steps, "r0": 0.2, "schedule": "hard", "radii": [0.2]}
        assert kept["latents"]["curriculum"] == plan | more
    else:
        differ = {key: value for key, value in ARMS[name].items() if key in {f.name for f in fields(Reshaping)}}
        assert {key: kept.get(key) for key in differ} == differ


def test_the_surrogates_gap_is_to_other_made_up_latents(cache):
    chosen = replace(TINY, surrogate="gaussian", crops=1100, reference=64)
    bench = Bench(chosen, cache, progress=False)
    ours, others = (yardsticks.posterior_samples(latents, range(8)) for latents in (bench.shown, bench.real))
    assert yardsticks.nearest_distances(bench.shown.normalise(others), bench.shown.normalise(ours)).min() > 0.5
    assert bench.reference("offline", "gap").mean.ne(Bench(TINY, cache).reference("offline", "gap").mean).all()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"shifts": ()}, r"\[\]"),
        ({"shifts": (1.0, 1.0)}, r"1\.0, 1\.0"),
        ({"features": ("fid",)}, "'fid'"),
        ({"samples": 1}, "got 1"),
        ({"warmup_steps": 5, "r0": 0.2}, "5"),
        ({"r0": 0.9}, r"0\.9"),
        ({"r0": 0.2, "warmup_kind": "backwards"}, "backwards"),
        ({"warmup_kind": "reversed"}, "reversed"),
        ({"mask": "stripes"}, "stripes"),
        ({"denoiser": "UViT-XXS/2"}, "shift 4"),
        ({"sampler": "ddim"}, "ddim"),
        ({"checkpoint_every": 0}, "got 0"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_computed(wrong, match):
    with pytest.raises((SettingsError, LatentsError), match=match):
        replace(TINY, **wrong)


def test_settings_go_to_the_training_under_their_own_names():
    chosen = replace(TINY, learning_rate=2e-3, flips=True, power=0.5, self_conditioning=0.9, warmup=1)
    own = chosen.denoising("cpu")
    shared = {f.name for f in fields(Denoising)} & {f.name for f in fields(Trial)}
    assert len(shared) >= 18
    assert {name: getattr(own, name) for name in shared} == {name: getattr(chosen, name) for name in shared}
    assert own.reshaping == Reshaping(power=0.5)
    assert Trial.pick({f.name: getattr(chosen, f.name) for f in fields(Trial)} | {"other": 1}) == chosen


def test_a_grid_of_large_samples_is_a_small_file(tmp_path):
    noise = torch.rand(64, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1  # the worst to compress
    assert trial.write_samples(tmp_path / "samples.webp", noise).stat().st_size <= 100_000
    with Image.open(tmp_path / "samples.webp") as image:
        assert image.format == "WEBP"
