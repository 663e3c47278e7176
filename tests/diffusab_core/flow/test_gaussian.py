"""The least flow loss of a spectrum against simulation and quadrature, and what Euler's method makes of it."""

import math

import pytest
import torch
from scipy import integrate, stats

from diffusab_core import flow
from diffusab_core.flow.gaussian import (
    least_loss,
    linear_bounds,
    mean_least_loss,
    mismatch_loss,
    sampled_energy,
    tilted,
)
from diffusab_core.spectrum.bands import radii

LAM = torch.tensor([9.0, 1.0, 0.04], dtype=torch.float64)


def test_no_linear_predictor_does_better_and_the_regression_reaches_it():
    """Regress the velocity on the state in a simulation, of data that are not Gaussian."""
    generator = torch.Generator().manual_seed(0)
    n = 400_000
    sign = (torch.rand(n, 3, generator=generator, dtype=torch.float64) < 0.5).double() * 2 - 1
    x = LAM.sqrt() * sign  # two points: all variance, nothing Gaussian
    noise = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    for t in (0.1, 0.5, 0.8):
        state, velocity = flow.interpolate(x, noise, t), flow.target(x, noise)
        slope = (state * velocity).sum(0) / state.square().sum(0)
        left = (velocity - slope * state).square().mean(0)
        torch.testing.assert_close(left, least_loss(LAM, t), rtol=0.02, atol=0)


def test_exact_velocity_of_gaussian_data_has_the_least_loss():
    generator = torch.Generator().manual_seed(1)
    x = LAM.sqrt() * torch.randn(400_000, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    state = flow.interpolate(x, noise, 0.3)
    error = flow.gaussian_velocity(state, 0.3, 0.0, LAM) - flow.target(x, noise)
    torch.testing.assert_close(error.square().mean(0), least_loss(LAM, 0.3), rtol=0.02, atol=0)


def test_ends_and_largest_value():
    torch.testing.assert_close(least_loss(LAM, 0.0), torch.ones_like(LAM))
    torch.testing.assert_close(least_loss(LAM, 1.0), LAM)
    times = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    found = least_loss(LAM, times)
    torch.testing.assert_close(found.max(0).values, 1 + LAM, rtol=1e-6, atol=0)
    torch.testing.assert_close(times[found.argmax(0)], LAM / (1 + LAM), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("location", "scale"), [(0.0, 1.0), (-0.5, 1.0), (1.0, 0.5), (0.0, 1.5)])
def test_mean_over_logit_normal_times_against_adaptive_quadrature(location, scale):
    for lam, found in zip(LAM.tolist(), mean_least_loss(LAM, location, scale).tolist(), strict=True):

        def loss(z, lam=lam):
            t = 1 / (1 + math.exp(-location - scale * z))
            return stats.norm.pdf(z) * lam / ((1 - t) ** 2 * lam + t * t)

        expected, _ = integrate.quad(loss, -12, 12, epsabs=1e-10, limit=200)
        assert found == pytest.approx(expected, rel=1e-7)


def test_mean_over_uniform_times():
    times = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    torch.testing.assert_close(mean_least_loss(LAM, scale=None), least_loss(LAM, times).mean(0), rtol=1e-6, atol=0)


def test_among_spectra_of_unit_variance_white_has_the_largest_loss():
    generator = torch.Generator().manual_seed(2)
    white = mean_least_loss(torch.ones(64, dtype=torch.float64)).mean()
    for _ in range(20):
        e = torch.rand(64, generator=generator, dtype=torch.float64) + 1e-3
        assert mean_least_loss(e / e.mean()).mean() < white


def test_sampled_energy_is_that_of_the_sampler():
    noise = torch.randn(50, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for shift in (1.0, 3.0):
        made = flow.sample(lambda x, t: flow.gaussian_velocity(x, t, 0.0, LAM), noise, 7, shift=shift)
        torch.testing.assert_close((made / noise).square().mean(0), sampled_energy(LAM, 7, shift))


def test_sampled_energy_converges_with_the_first_order():
    errors = [(sampled_energy(LAM, n) - LAM).abs() for n in (200, 400)]
    ratio = errors[0] / errors[1]
    assert ((ratio > 1.8) & (ratio < 2.2)).all()


def test_tilting_is_a_gain_and_keeps_unit_variance():
    energy = torch.arange(64, 0, -1, dtype=torch.float64)
    bent = tilted(energy, 0.5)
    assert bent.mean().item() == pytest.approx(1)
    rho = radii(8)
    assert rho[:3].tolist() == [0, 1, 1]
    assert rho[-1].item() == pytest.approx(7 * math.sqrt(2))
    gain = bent / energy
    torch.testing.assert_close(gain / gain[0], 1 / (1 + rho))  # (1 + ρ)^(-2 · 0.5)
    torch.testing.assert_close(tilted(bent, -0.5), tilted(energy, 0.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: least_loss(torch.tensor([1.0, 0.0]), 0.5), "positive, the smallest is 0"),
        (lambda: least_loss(LAM, 1.5), r"\[0, 1\].*1\.5"),
        (lambda: mean_least_loss(LAM, scale=0.0), r"positive, got 0\.0"),
        (lambda: mean_least_loss(-LAM, scale=None), r"positive, the smallest is -9"),
        (lambda: sampled_energy(LAM - 1, 4), "positive, the smallest is"),
        (lambda: tilted(LAM, 1.0), r"expected 64 energies.*\(3,\)"),
        (lambda: mismatch_loss(torch.tensor([0.0]), torch.tensor([1.0])), "positive, the smallest is 0"),
        (lambda: mismatch_loss(torch.tensor([1.0]), torch.tensor([-1.0])), "positive, the smallest is -1"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_mismatch_against_a_simulation():
    """A linear denoiser of the one spectrum on data of the other, noise and all."""
    believed, energy = (torch.tensor(v, dtype=torch.float64) for v in ([0.5, 1.0, 0.01], [1.0, 0.2, 0.01]))
    generator = torch.Generator().manual_seed(2)
    n = 400_000
    x = energy.sqrt() * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    t = torch.sigmoid(torch.randn(n, 1, generator=generator, dtype=torch.float64))
    state, wanted = (1 - t) * x + t * noise, noise - x
    losses = []
    for lam in (believed, energy):
        slope = (t - (1 - t) * lam) / ((1 - t) ** 2 * lam + t**2)
        losses.append((slope * state - wanted).square().mean(0))
    found = mismatch_loss(believed, energy)
    torch.testing.assert_close(losses[0] - losses[1], found, rtol=0.05, atol=0.005)
    torch.testing.assert_close(losses[1], flow.mean_least_loss(energy), rtol=0.02, atol=0)
    assert found[2].item() == pytest.approx(0, abs=1e-12)
    assert (found[:2] > 0.05).all()


def test_channels_together_lose_less_than_each_alone_and_as_much_where_nothing_is_shared():
    root = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariance = root @ root.mT
    alone, together = linear_bounds(covariance)
    assert together < alone
    assert linear_bounds(torch.diag_embed(covariance.diagonal(dim1=1, dim2=2))) == pytest.approx((alone, alone))
    rotation = torch.linalg.qr(root).Q  # of the channels, which a predictor that sees all of them does not feel
    assert linear_bounds(rotation @ covariance @ rotation.mT)[1] == pytest.approx(together)
