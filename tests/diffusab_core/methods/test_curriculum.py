"""FreqWarm: the cutoff of every step, the images that it promises, and the same ones after a kill."""

import itertools
import math
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import sharing_worker
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import kill_once
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_core import autoencoders, data, experiments, training
from diffusab_core.experiments import records
from diffusab_core.latents import LatentsError, TensorLatents
from diffusab_core.latents.cache import LatentCache
from diffusab_core.latents.encoded import EncodedLatents
from diffusab_core.latents.extraction import Extraction, extract
from diffusab_core.methods import denoising, freqwarm
from diffusab_core.methods.denoising import Denoising
from diffusab_core.methods.freqwarm import (
    EVERYTHING,
    FreqWarm,
    Reversed,
    ScaledLatents,
    WarmedLatents,
    low_passed_cache,
    warmed,
)
from diffusab_core.spectrum import radial_split

SIDE, COUNT = 32, 12
SMALL = Denoising(denoiser="DiT-XXS/1", steps=6, batch_size=4, seed=2, self_conditioning=0.0)


@pytest.fixture(scope="module")
def autoencoder():
    return autoencoders.load("kl-f8c4")


@pytest.fixture(scope="module")
def photos():
    return data.Photos(SIDE, "train", seed=5, length=COUNT)


@pytest.fixture(scope="module")
def encoded(autoencoder, photos):
    return EncodedLatents(autoencoder, photos)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents") / "whole"
    return extract(Extraction("kl-f8c4", "photos", SIDE, samples=COUNT, dtype="float32", seed=5), folder,
                   progress=False)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# The schedule


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 500), st.floats(0.01, 0.7), st.sampled_from(freqwarm.SCHEDULES))
def test_a_schedule_starts_at_r0_never_narrows_and_ends_with_everything(steps, r0, name):
    plan = FreqWarm(steps, r0, name)
    radii = [plan.cutoff(k) for k in range(steps + 3)]
    assert radii[0] == pytest.approx(r0)
    assert all(a <= b for a, b in itertools.pairwise(radii))
    assert all(r <= EVERYTHING for r in radii[:steps])
    assert radii[steps:] == [math.inf] * 3
    if name == "hard":
        assert set(radii[:steps]) == {r0}


def test_closed_forms_halfway():
    middle = (0.2 + EVERYTHING) / 2
    assert FreqWarm(100, 0.2, "linear").cutoff(50) == pytest.approx(middle)
    assert FreqWarm(100, 0.2, "cosine").cutoff(50) == pytest.approx(middle)
    assert FreqWarm(100, 0.2, "cosine").cutoff(25) == pytest.approx(0.2 + (EVERYTHING - 0.2) * (1 - math.sqrt(0.5)) / 2)
    assert FreqWarm(0).cutoff(0) == math.inf


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"warmup_steps": -1}, "-1"), ({"r0": 0.0}, "0.0"), ({"r0": 0.8}, "0.8"), ({"r0": math.nan}, "nan"),
     ({"schedule": "soft"}, "soft")],
)  # fmt: skip
def test_what_cannot_be_used_is_named(wrong, said):
    with pytest.raises(LatentsError, match=said):
        FreqWarm(**{"warmup_steps": 3, **wrong})


# ---------------------------------------------------------------------------------------------------------------------
# What a step is fed


def promised(autoencoder, photos, places, radius):
    """The posterior means by hand."""
    x = data.stack(photos, places)
    x = x if radius == math.inf else radial_split(x, radius)[0]
    with torch.no_grad():
        return autoencoder.encode(x).mean


@pytest.mark.parametrize("name", freqwarm.SCHEDULES)
def test_on_the_fly_every_step_is_fed_the_images_cut_at_its_radius(autoencoder, photos, encoded, name):
    plan = FreqWarm(4, 0.15, name)
    latents = WarmedLatents(encoded, plan)
    for step in range(6):
        places = training.batch_indices(step, 4, COUNT, seed=2)
        mean, _, _ = latents.at(step).posterior(places)
        assert torch.allclose(mean, promised(autoencoder, photos, places, plan.cutoff(step)), atol=1e-5)
        assert latents.radius(step) == plan.cutoff(step)
    first, whole = latents.at(0).posterior([0])[0], encoded.posterior([0])[0]
    assert (first - whole).abs().max() > 0.05  # the cut can be seen


def test_two_caches_feed_what_is_fed_on_the_fly(autoencoder, photos, encoded, cache):
    latents = warmed(cache, FreqWarm(3, 0.15))
    other = WarmedLatents(encoded, FreqWarm(3, 0.15))
    for step in range(5):
        places = training.batch_indices(step, 4, COUNT, seed=2)
        for a, b in zip(latents.at(step).posterior(places)[:2], other.at(step).posterior(places)[:2], strict=True):
            assert torch.allclose(a, b, atol=1e-5)
    assert latents.at(3) is cache
    assert LatentCache(cache.path.with_name("whole-low0.15")).identity["low_pass"] == 0.15


def test_all_latents_are_normalised_by_those_of_whole_images(cache):
    latents = warmed(cache, FreqWarm(3, 0.15))
    low = latents.at(0)
    assert not torch.equal(low.channel_std, cache.channel_std)
    assert torch.equal(latents.channel_std, cache.channel_std)
    assert torch.equal(latents.normalise(low.posterior([1])[0]), cache.normalise(low.posterior([1])[0]))


def test_a_widening_schedule_on_caches_never_shows_more_than_it_promises(cache):
    levels = {r: low_passed_cache(cache, r) for r in (0.15, 0.3, 0.5)}
    latents = WarmedLatents(cache, FreqWarm(8, 0.15, "linear"), levels)
    radii = [latents.radius(k) for k in range(9)]
    assert radii == sorted(radii)
    assert radii[0] == 0.15
    assert radii[8] == math.inf
    assert set(radii) == {0.15, 0.3, 0.5, math.inf}
    assert all(r <= latents.curriculum.cutoff(k) for k, r in enumerate(radii))
    assert all(latents.at(k) is levels[r] for k, r in enumerate(radii[:8]))


def test_processes_share_the_second_cache_and_none_waits_long_for_another(tmp_path):
    whole = extract(Extraction("kl-f8c4", "photos", 16, samples=24, shard_size=2), tmp_path / "whole", progress=False)
    # One process alone would need more than the 12 s that the other one waits for at most.
    calls = sharing_worker.run(sharing_worker.low_pass, tmp_path, whole.path, 0.2, 1.2, timeout_s=12)
    assert calls == [7, 6]  # 12 shards, and the first process looks at one image before
    alone = shutil.copytree(whole.path, tmp_path / "alone")
    low_passed_cache(LatentCache(alone), 0.2)
    made, expected = (
        {path.name: path.read_bytes() for path in tmp_path.joinpath(name).iterdir()}
        for name in ("whole-low0.2", "alone-low0.2")
    )
    assert made == expected


def test_latents_that_do_not_belong_together_are_refused(cache, tmp_path):
    plan = FreqWarm(3, 0.15)
    low = low_passed_cache(cache, 0.15)
    with pytest.raises(LatentsError, match=r"0\.2 cycles per pixel were expected, these are cut at 0\.15"):
        WarmedLatents(cache, replace(plan, r0=0.2), {0.2: low})
    with pytest.raises(LatentsError, match="not cut"):
        WarmedLatents(cache, plan, {0.15: cache})
    with pytest.raises(LatentsError, match=r"no latents of images cut at 0\.1"):
        WarmedLatents(cache, FreqWarm(3, 0.1), {0.15: low})
    others = Extraction("kl-f8c4", "photos", SIDE, samples=COUNT, dtype="float32", seed=6, low_pass=0.15)
    with pytest.raises(LatentsError, match="seed 5 and 6"):
        WarmedLatents(cache, plan, {0.15: extract(others, tmp_path / "others", progress=False)})
    with pytest.raises(LatentsError, match="linear"):
        warmed(cache, FreqWarm(3, 0.15, "linear"))
    with pytest.raises(LatentsError, match="TensorLatents"):
        warmed(TensorLatents(torch.randn(4, 4, 4, 4)), plan)
    with pytest.raises(LatentsError, match="low_pass"):
        Extraction("kl-f8c4", low_pass=0.0)


# ---------------------------------------------------------------------------------------------------------------------
# Controls


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 80), st.integers(1, 80), st.floats(0.01, 0.7), st.sampled_from(freqwarm.SCHEDULES))
def test_reversed_is_the_mirrored_schedule_and_ends_with_everything(warm, more, r0, name):
    steps = warm + more
    forwards, backwards = FreqWarm(warm, r0, name), Reversed(warm, r0, name, steps=steps)
    assert [backwards.cutoff(k) for k in range(steps)] == [forwards.cutoff(k) for k in range(steps)][::-1]
    assert backwards.cutoff(steps) == backwards.cutoff(steps + 7) == math.inf


def test_reversed_latents_are_whole_ones_first_and_after_the_run(cache):
    low = low_passed_cache(cache, 0.15)
    latents = WarmedLatents(cache, Reversed(2, 0.15, steps=5), {0.15: low})
    assert [latents.at(k) is low for k in range(6)] == [False, False, False, True, True, False]
    assert latents.at(0) is latents.at(5) is cache
    assert latents.identity["curriculum"]["steps"] == 5
    with pytest.raises(LatentsError, match="6 steps"):
        Reversed(6, steps=5)


def spectra_of(latents, places):
    return torch.fft.fft2(latents.posterior(places)[0].double())


def test_scaled_latents_have_the_energies_of_low_passed_ones_and_their_own_phases(cache):
    low = low_passed_cache(cache, 0.15)
    scaled, places = ScaledLatents(cache, low), range(COUNT)
    own, others, made = (spectra_of(latents, places) for latents in (cache, low, scaled))
    torch.testing.assert_close(made, own * scaled.gains, rtol=1e-4, atol=1e-4)  # by real numbers, the same for all
    assert (scaled.gains >= 0).all()
    weights = 1 / cache.channel_std.double().square()[:, None, None]
    energies = [(weights * spectrum.abs().square()).sum((0, 1)) for spectrum in (made, others)]
    for energy in energies:
        energy[0, 0] = 0
    torch.testing.assert_close(*energies, rtol=1e-3, atol=1e-6)
    assert scaled.gains[0, 0] == 1
    assert (scaled.gains - 1).abs().max() > 0.05  # the cut can be seen
    assert torch.equal(scaled.posterior(places)[1], cache.posterior(places)[1])


def test_frequencies_without_energy_are_left_alone():
    shape = (6, 2, 4, 4)
    flat = torch.randn(6, 2, 1, 1, generator=torch.Generator().manual_seed(0)).expand(shape).clone()
    flat[..., 0] += 1  # constant down each column
    whole = TensorLatents(flat, identity={"what": "columns"})
    scaled = ScaledLatents(whole, TensorLatents(2 * flat, identity={"what": "columns", "low_pass": 0.1}))
    assert scaled.gains.isfinite().all()
    torch.testing.assert_close(scaled.gains[0, 1:], torch.full((3,), 2.0).double())
    assert (scaled.gains[1:] >= 0).all()


def test_by_amplitude_alone_is_another_run_of_the_same_steps(cache):
    low, plan = low_passed_cache(cache, 0.15), FreqWarm(2, 0.15)
    filtered, amplitude = (WarmedLatents(cache, plan, {0.15: low}, amplitude_only=only) for only in (False, True))
    assert amplitude.identity["curriculum"] == filtered.identity["curriculum"] | {"amplitude_only": True}
    assert isinstance(amplitude.at(1), ScaledLatents)
    assert amplitude.at(2) is cache
    assert torch.equal(amplitude.channel_std, cache.channel_std)


def test_amplitudes_are_those_of_stored_latents(encoded):
    with pytest.raises(LatentsError, match="stored"):
        WarmedLatents(encoded, FreqWarm(2, 0.15), amplitude_only=True)


# ---------------------------------------------------------------------------------------------------------------------
# Training


class Watched(WarmedLatents):
    """Keeps what each step was really fed."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.fed = {}

    def at(self, step):
        self.fed[step] = super().at(step).identity.get("low_pass")
        return super().at(step)


def test_a_resumed_run_is_fed_what_an_uninterrupted_one_is(cache, tmp_path, monkeypatch):
    plan, low = FreqWarm(4, 0.15), low_passed_cache(cache, 0.15)
    whole = Watched(cache, plan, {0.15: low})
    straight = experiments.train_denoiser(SMALL, whole, tmp_path / "straight", progress=False)
    assert whole.fed == {0: 0.15, 1: 0.15, 2: 0.15, 3: 0.15, 4: None, 5: None}

    class Cut(Exception):
        pass

    real = denoising.loss_of
    for end in (3, 5):  # within the warm-up, and after it

        def cut_short(*arguments, end=end):
            loss = real(*arguments)

            def broken(step, generator, **part):
                if step == end:
                    raise Cut
                return loss(step, generator, **part)

            return broken

        first, second = Watched(cache, plan, {0.15: low}), Watched(cache, plan, {0.15: low})
        monkeypatch.setattr(denoising, "loss_of", cut_short)
        with pytest.raises(Cut):
            experiments.train_denoiser(SMALL, first, tmp_path / f"cut{end}", checkpoint_every=2, progress=False)
        monkeypatch.setattr(denoising, "loss_of", real)
        again = experiments.train_denoiser(SMALL, second, tmp_path / f"cut{end}", checkpoint_every=2, progress=False)
        assert min(second.fed) == end - end % 2
        assert first.fed | second.fed == whole.fed
        for a, b in zip(straight.denoiser.model.parameters(), again.denoiser.model.parameters(), strict=True):
            assert torch.equal(a, b)


def test_another_curriculum_is_another_run(cache, tmp_path):
    low = low_passed_cache(cache, 0.15)
    experiments.train_denoiser(SMALL, WarmedLatents(cache, FreqWarm(4, 0.15), {0.15: low}), tmp_path, progress=False)
    for other in (cache, WarmedLatents(cache, FreqWarm(3, 0.15), {0.15: low})):
        with pytest.raises(ValueError, match="latents"):
            experiments.train_denoiser(SMALL, other, tmp_path, progress=False)


# ---------------------------------------------------------------------------------------------------------------------
# From a shell

TRAIN = ("--denoiser", "DiT-XXS/1", "--steps", "12", "--batch-size", "4", "--device", "cpu", "--checkpoint-every", "1",
         "--curriculum", "freqwarm", "--r0", "0.2", "--warmup-steps", "6")  # fmt: skip


def test_killed_in_a_shell_it_ends_with_the_same_weights(cache, tmp_path):
    command = [sys.executable, "-m", "diffusab_book", "train", str(cache.path)]
    subprocess.run([*command, str(tmp_path / "straight"), *TRAIN], check=True, capture_output=True)
    out = tmp_path / "cut"
    kill_once([*command, out, *TRAIN], lambda: any(out.glob("training/checkpoints/*")))
    subprocess.run([*command, str(out), *TRAIN], check=True, capture_output=True)
    straight, cut = ((tmp_path / name / "denoiser.safetensors").read_bytes() for name in ("straight", "cut"))
    assert straight == cut
    record = records.read(out / "record.json")
    assert record.parameters["latents"]["curriculum"] == {
        "warmup_steps": 6, "r0": 0.2, "schedule": "hard", "radii": [0.2]
    }  # fmt: skip


def test_on_the_fly_in_a_shell(tmp_path):
    done = CliRunner().invoke(app, ["train", "kl-f8c4", str(tmp_path), "--images", "photos", "--resolution", "16",
                                    *TRAIN[:2], "--steps", "2", "--batch-size", "2", "--device", "cpu", "--curriculum",
                                    "freqwarm", "--schedule", "cosine", "--warmup-steps", "1"])  # fmt: skip
    assert done.exit_code == 0, done.output
    about = records.read(tmp_path / "record.json").parameters["latents"]["curriculum"]
    assert about == {"warmup_steps": 1, "r0": 0.2, "schedule": "cosine"}


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--curriculum", "slow"], "'slow'"), (["--warmup-steps", "3"], "--curriculum freqwarm"),
     (["--r0", "0.3"], "--r0 0.3 is of a curriculum"), (["--schedule", "linear"], "--schedule linear is of"),
     (["--curriculum", "freqwarm", "--steps", "4", "--warmup-steps", "5"], "--warmup-steps 5"),
     (["--curriculum", "freqwarm", "--r0", "0.9"], "0.9"),
     (["--curriculum", "freqwarm", "--schedule", "linear"], "on the fly")],
)  # fmt: skip
def test_bad_options_end_in_one_line(cache, tmp_path, options, said):
    done = CliRunner().invoke(app, ["train", str(cache.path), str(tmp_path / "out"), "--device", "cpu", *options])
    assert done.exit_code == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("diffusab:")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "out").exists()
