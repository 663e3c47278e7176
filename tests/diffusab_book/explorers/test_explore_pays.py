"""The least flow loss of a spectrum against simulation and quadrature, and the explorer that shows it."""

import math

import pytest
import torch
from scipy import integrate, stats

from diffusab_book.explorers import pays as explore_pays
from diffusab_book.explorers.pays import sampled_energy, tilted
from diffusab_core import flow
from diffusab_core.flow import least_loss, mean_least_loss

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
    rho = explore_pays.radii(8)
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
        (lambda: explore_pays.loss_explorer({}), "at least one spectrum"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.fixture(scope="module")
def explorer():
    fall = torch.arange(1, 65, dtype=torch.float64) ** -1.5
    return explore_pays.loss_explorer(
        {"falling": fall.tolist(), "white": [1.0] * 64}, tilts=(-0.5, 0.0, 0.5), start=0.0
    )


def test_explorer_states_the_losses_it_draws(explorer):
    fall = tilted(torch.arange(1, 65, dtype=torch.float64) ** -1.5, 0.0)
    old, new = mean_least_loss(fall).mean().item(), mean_least_loss(tilted(fall, 0.5)).mean().item()
    title = explorer.draw(tilt=0.5, spectrum="falling").layout.annotations[2].text
    assert title == f"mean {new:.3f}; {old:.3f} without the gain"
    assert new < old
    drawn = explorer.draw(tilt=0.5, spectrum="falling").data[4]
    assert sum(drawn.y) / 64 == pytest.approx(new, rel=1e-3)


def test_explorer_without_gain_draws_one_curve_twice(explorer):
    data = explorer.draw(tilt=0.0, spectrum="white").data
    for old, new in zip(data[:3], data[3:], strict=True):
        assert list(old.y) == list(new.y)


def test_explorer_axes_hold_every_curve(explorer):
    """Ranges are fixed, so that nothing jumps; what lay outside would not be seen."""
    for spectrum in ("falling", "white"):
        for tilt in (-0.5, 0.0, 0.5):
            fig = explorer.draw(tilt=tilt, spectrum=spectrum)
            for axis, curves in (("yaxis", (0, 3)), ("yaxis2", (1, 4)), ("yaxis3", (2, 5))):
                low, high = fig.layout[axis].range
                drawn = [v for i in curves for v in fig.data[i].y]
                drawn = [math.log10(v) for v in drawn] if axis == "yaxis" else drawn
                assert low <= min(drawn) <= max(drawn) <= high


def test_explorer_published_has_a_frame_for_each_tilt_and_spectrum(explorer):
    published = explorer.published()
    assert len(published.frames) == 6
    assert published.layout.sliders[0].active == 1
