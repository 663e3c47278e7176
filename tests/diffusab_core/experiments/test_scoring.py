"""A space is scored on the latents that a trial trains on, and the probe is that trial cut short."""

from dataclasses import replace

import pytest
import torch

from diffusab_core import data
from diffusab_core.autoencoders import Posterior
from diffusab_core.experiments import scoring
from diffusab_core.experiments.bench import Trial
from diffusab_core.experiments.scoring import Scoring, open_bench, open_space
from diffusab_core.files import SettingsError
from diffusab_core.latents.base import sample_posteriors
from diffusab_core.methods import denoising, diffusability
from diffusab_core.methods.reshaping import make_mask, make_up

TINY = Scoring(crops=64, reference=64, items=48, stake_items=34, samples=40, probe_samples=34)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def opened(cache, **changed):
    settings = replace(TINY, **changed)
    return settings, open_bench(settings, cache, progress=False)


def test_a_network_in_training_sees_the_same_coordinates(cache):
    settings, bench = opened(cache, mask="blocks", power=0.5, white_channels=2, items=64)
    space = open_space(bench, settings.items)
    assert space.seen.shape == (64, 18, 8, 8)
    assert space.filtered.shape == (64, 16, 8, 8)
    # What the training loop hands to the network at t = 0, up to the posterior's noise: the same energies everywhere.
    shown = make_up(bench.latents, bench.trial.reshaping)
    spectrum = denoising.spectrum_of(bench.trial.denoising(), shown)
    entered = torch.cat([spectrum.at(0).enter(shown.normalise(z)) for z in sample_posteriors(shown, hide=True)])
    ours, theirs = (x.square().mean((0, 1)) for x in (space.seen, entered))
    assert ours.flatten().tolist() == pytest.approx(theirs.flatten().tolist(), rel=0.15)
    # Under the mask lies what is filtered.
    mask = make_mask("blocks", 8, 8)
    torch.testing.assert_close(space.seen[:, :16] * mask, space.filtered)
    # And raw latents are the encoded ones.
    _, plain = opened(cache, items=64)
    assert plain.latents.identity == bench.latents.identity
    torch.testing.assert_close(open_space(plain, 64).raw, space.raw)


def test_a_filter_moves_the_spectrum_and_leaves_the_decoder(cache):
    spaces = {power: open_space(opened(cache, power=power)[1], 64) for power in (1.0, 0.0)}
    white, plain = (scoring.of_latents(spaces[power], 2).metrics for power in (0.0, 1.0))
    assert white["token_share"] > plain["token_share"] + 0.1
    assert white["profile_slope"] == pytest.approx(0, abs=0.3)
    assert plain["profile_slope"] < -0.6
    assert scoring.of_posterior(spaces[0.0]) == scoring.of_posterior(spaces[1.0])
    torch.testing.assert_close(spaces[0.0].raw, spaces[1.0].raw)
    high = [diffusability.expected_error(space.filtered)[32:].mean() for space in spaces.values()]
    assert high[1] < high[0]  # more is known of high ranks where they are louder


def test_a_space_of_latents_as_they_come(cache):
    _, bench = opened(cache, items=64)
    space = open_space(bench, 64)
    alone = scoring.space_of(space.posterior)
    torch.testing.assert_close(alone.seen.std((0, 2, 3), correction=0), torch.ones(16))
    ours, theirs = (scoring.of_latents(one, 2).metrics for one in (alone, space))
    for name in ("token_share", "profile_share", "token_participation"):
        assert ours[name] == pytest.approx(theirs[name], rel=0.1), name
    point = Posterior(space.posterior.mean, torch.zeros_like(space.posterior.std))
    assert scoring.of_posterior(scoring.space_of(point)).metrics == {"noise_share": 0.0}
    flat = Posterior(point.mean.clone(), point.std)
    flat.mean[:, 3] = 0.5
    with pytest.raises(ValueError, match="channel 3"):
        scoring.space_of(flat)


def test_the_probe_is_the_standard_arm_and_nothing_else():
    probe = replace(TINY, probe_steps=300).trial().denoising()
    assert probe == replace(Trial().denoising(), steps=300)


@pytest.mark.parametrize(("name", "value"), [("items", 3), ("stake_items", 1), ("probe_steps", -1), ("mask", "dots"),
                                             ("crops", 1), ("probe_shift", 0.0)])  # fmt: skip
def test_what_cannot_be_used_is_refused_at_once(name, value):
    with pytest.raises(SettingsError, match=str(value)):
        replace(TINY, **{name: value})


def test_a_broken_image_is_left_out_of_those_beside_the_profile(cache, monkeypatch):
    _, bench = opened(cache)

    class Breaking(data.Photos):
        def __getitem__(self, index):
            if index == 1:
                raise data.UnusableImage("broken")
            return super().__getitem__(index)

    monkeypatch.setattr(scoring, "open_extracted", lambda *_: Breaking(32, length=4))
    space = scoring.space_of(Posterior(torch.randn(4, 2, 8, 8), torch.ones(4, 2, 8, 8)))
    assert scoring._small_images(bench, space).shape == (3, 3, 8, 8)
