"""Noise prediction against closed forms: the schedule, data whose best prediction is known, and diffusers' own DDIM."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from diffusab_core import flow
from diffusab_core.flow import ddpm
from diffusab_core.flow.ddpm import METHODS, interpolate, sample, sampling_steps, training_times

#: Share of the data's energy after n steps, index 0 being the data.
KEPT = np.concatenate([[1.0], np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kept(t, like):
    return torch.from_numpy(KEPT)[(1000 * t).round().long()].to(like).reshape(-1, *[1] * (like.ndim - 1))


def best(mean, std):
    """The best prediction of the noise for data from a Gaussian, E[noise | x_n]; a point with ``std = 0``."""

    def model(x, t, y=None):
        a = kept(t, x)
        return (1 - a).sqrt() * (x - a.sqrt() * mean) / (a * std**2 + 1 - a)

    return model


# ---------------------------------------------------------------------------------------------------------------------
# The schedule


def test_noisy_latents_against_the_closed_form():
    x, noise, n = normal(5, 2, 3), normal(5, 2, 3, seed=1), torch.tensor([1, 2, 500, 999, 1000])
    a = torch.from_numpy(KEPT[n])[:, None, None]
    torch.testing.assert_close(
        interpolate(x, noise, n / 1000), (a.sqrt() * x + (1 - a).sqrt() * noise).float(), rtol=1e-4, atol=1e-5
    )
    assert KEPT[1000] == pytest.approx(0.00466, abs=1e-5)  # as the documentation says


def test_training_times_are_even_steps_of_the_seed():
    t = training_times(200_000, torch.Generator().manual_seed(3))
    steps = (1000 * t).round()
    torch.testing.assert_close(1000 * t, steps, rtol=0, atol=1e-3)
    counts = torch.bincount(steps.long(), minlength=1001)
    assert counts[0] == 0
    assert counts[1:].min() > 100  # 200 of each are expected, with a deviation of 14
    assert counts[1:].max() < 300
    assert torch.equal(t, training_times(200_000, torch.Generator().manual_seed(3)))


def test_the_target_is_the_noise():
    x, noise = normal(2, 3), normal(2, 3, seed=1)
    assert ddpm.target(x, noise) is noise


@pytest.mark.parametrize("steps", [1, 7, 61, 250, 256, 499, 1000])  # diffusers' own spacing is wrong at 61 and 499
def test_steps_of_sampling_are_even_and_end_before_the_data(steps):
    grid = sampling_steps(steps)
    assert len(grid) == steps
    assert grid[0] == 1000
    np.testing.assert_allclose(grid, 1000 * np.arange(steps, 0, -1) / steps, atol=0.5)
    assert min(-np.diff([*grid, 0])) >= 1


# ---------------------------------------------------------------------------------------------------------------------
# Sampling


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 2, 7, 61, 256])
def test_a_point_is_found_exactly(method, steps):
    point = normal(2, 3, seed=5)
    found = sample(best(point, 0.0), normal(4, 2, 3), steps, method)
    torch.testing.assert_close(found, point.expand(4, 2, 3), rtol=1e-3, atol=1e-3)


def gaussian_flow(noise, mean, std):
    """Where the probability flow carries noise, had it infinitely many steps: quantiles go to quantiles."""
    a = KEPT[1000]
    return mean + std * (noise - math.sqrt(a) * mean) / math.sqrt(a * std**2 + 1 - a)


def test_a_gaussian_is_carried_to_a_gaussian():
    mean, std, noise = 0.7, 0.5, torch.linspace(-3, 3, 101)[:, None]
    exact = gaussian_flow(noise, mean, std)
    errors = {
        (method, steps): (sample(best(mean, std), noise, steps, method) - exact).abs().max().item()
        for method in METHODS
        for steps in (20, 100)
    }
    assert errors["ddim", 20] < 0.25
    for method in METHODS:  # both end with a step of first order, to the data
        assert errors[method, 100] < 0.3 * errors[method, 20]
    for steps in (20, 100):
        assert errors["dpm++", steps] < 0.7 * errors["ddim", steps]


@pytest.mark.parametrize("method", METHODS)
def test_mean_and_deviation_of_samples(method):
    mean, std = 0.7, 0.5
    found = sample(best(mean, std), normal(20_000, 1), 50, method)
    expected = gaussian_flow(torch.zeros(1), mean, std).item()
    assert found.mean().item() == pytest.approx(expected, abs=0.03)
    assert expected == pytest.approx(mean, abs=0.03)  # the noise at t = 1 still holds a little of the data
    assert found.std().item() == pytest.approx(std, abs=0.03)


def curved(x, t, y=None):
    """Some prediction that is no line in x."""
    return torch.tanh(x + x.roll(1, -1)) * (0.5 + t[:, None])


@pytest.mark.parametrize("steps", [1, 4, 10, 50])
def test_ddim_is_that_of_diffusers_where_its_steps_are_even(steps):
    scheduler = DDIMScheduler(
        1000, 0.00085, 0.012, "scaled_linear", clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    x = normal(3, 5)
    for t in scheduler.timesteps:
        x = scheduler.step(curved(x, torch.full((3,), (t.item() + 1) / 1000)), t, x).prev_sample
    torch.testing.assert_close(sample(curved, normal(3, 5), steps, "ddim"), x, rtol=1e-3, atol=1e-3)


def test_ddim_against_its_formula_at_an_uneven_number_of_steps():
    x = normal(3, 5).double()
    for n, m in ((1000, 667), (667, 333), (333, 0)):
        noise = curved(x, torch.full((3,), n / 1000))
        data = (x - math.sqrt(1 - KEPT[n]) * noise) / math.sqrt(KEPT[n])
        x = math.sqrt(KEPT[m]) * data + math.sqrt(1 - KEPT[m]) * noise
    torch.testing.assert_close(sample(curved, normal(3, 5), 3, "ddim").double(), x, rtol=1e-3, atol=1e-3)


def test_the_model_is_told_step_and_condition():
    seen, y = [], torch.arange(4)

    def model(x, t, y):
        seen.append((x.dtype, t, y))
        return x

    found = sample(model, normal(4, 2).half(), 8, y=y)
    assert found.dtype == torch.float16
    assert [t.tolist() for _, t, _ in seen] == [pytest.approx([k / 8] * 4) for k in range(8, 0, -1)]
    assert all(given is y and dtype == torch.float16 for dtype, _, given in seen)


@pytest.mark.parametrize("method", METHODS)
def test_guidance_extrapolates_between_points(method):
    """The guided prediction for two points is the prediction for the point beyond the first, seen from the second."""
    a, b, times = normal(3, seed=1), normal(3, seed=2), []

    def without(x, t):
        times.append(t[0].item())
        return best(b, 0.0)(x, t)

    found = sample(flow.guided(best(a, 0.0), without, 2.5), normal(2, 3), 20, method)
    torch.testing.assert_close(found, (b + 2.5 * (a - b)).expand(2, 3), rtol=1e-3, atol=2e-3)
    times.clear()
    found = sample(flow.guided(best(a, 0.0), without, 2.5, (0.5, 0.9)), normal(2, 3), 20, method)
    assert times == pytest.approx([k / 20 for k in range(18, 9, -1)])
    torch.testing.assert_close(found, a.expand(2, 3), rtol=1e-3, atol=2e-3)  # the last steps are not guided


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.5, True])
def test_impossible_numbers_of_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"from 1 to 1000, got {steps}"):
        sample(curved, normal(3, 5), steps)


@pytest.mark.parametrize("t", [0.0, -0.001, 1.001, 0.5004])
def test_times_that_are_no_step_are_refused(t):
    with pytest.raises(ValueError, match=rf"n/1000 with n from 1 to 1000, got {t:.6g}"):
        interpolate(normal(2, 3), normal(2, 3), torch.tensor([0.5, t]))


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match="'euler', choose one of dpm"):
        sample(curved, normal(3, 5), 5, "euler")
    with pytest.raises(ValueError, match=r"returned shape \(3, 10\) for input of shape \(3, 5\)"):
        sample(lambda x, t: torch.cat([x, x], 1), normal(3, 5), 5)
    with pytest.raises(ValueError, match=r"got \(3, 5\), \(3, 4\), \(3,\)"):
        interpolate(normal(3, 5), normal(3, 4), torch.ones(3))
