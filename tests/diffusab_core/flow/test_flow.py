"""Rectified flow against what is known in closed form."""

from functools import partial

import pytest
import torch

from diffusab_core import flow

MEAN, VARIANCE = 1.5, 0.25
GAUSSIAN = partial(flow.gaussian_velocity, mean=MEAN, variance=VARIANCE)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- path and target --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 2), (3, 4, 5, 6), (3, 4, 2, 5, 6)])
def test_interpolate_broadcasts_one_time_per_sample(shape):
    x, noise = normal(*shape), normal(*shape, seed=1)
    x_t = flow.interpolate(x, noise, torch.tensor([0.0, 0.3, 1.0], dtype=x.dtype))
    assert x_t.shape == shape
    torch.testing.assert_close(x_t, torch.stack([x[0], 0.7 * x[1] + 0.3 * noise[1], noise[2]]))


def test_one_time_for_all_samples():
    x, noise = normal(3, 4), normal(3, 4, seed=1)
    torch.testing.assert_close(flow.interpolate(x, noise, 0.25), flow.interpolate(x, noise, torch.full((3,), 0.25)))


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (4, 3, 2, 8, 8)])
def test_target_is_the_time_derivative_of_the_path(shape):
    x, noise, t = normal(*shape), normal(*shape, seed=1), torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)
    h = 0.1  # the path is a straight line, so a central difference of any width is exact
    slope = (flow.interpolate(x, noise, t + h) - flow.interpolate(x, noise, t - h)) / (2 * h)
    torch.testing.assert_close(slope, flow.target(x, noise))


@pytest.mark.parametrize("t", [-0.01, 1.01, float("nan"), torch.tensor([0.5, 1.5, 0.1])])
def test_interpolate_refuses_times_outside_the_unit_interval(t):
    with pytest.raises(ValueError, match=r"time must lie in \[0, 1\].*got (-0.01|1.01|nan|1.5)"):
        flow.interpolate(torch.zeros(3, 2), torch.zeros(3, 2), t)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\) and noise of shape \(3, 1\)"):
        flow.interpolate(torch.zeros(3, 2), torch.zeros(3, 1), 0.5)
    with pytest.raises(ValueError, match="must be alike"):
        flow.target(torch.zeros(3, 2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"times of shape \(2,\)"):
        flow.interpolate(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(2))


# --- times ------------------------------------------------------------------------------------------------------------


def test_logit_normal_times_have_the_stated_law():
    t = flow.logit_normal_times(200_000, location=-0.5, scale=0.8, generator=torch.Generator().manual_seed(0))
    assert t.shape == (200_000,)
    assert t.dtype == torch.float32
    assert 0 < t.min() < t.max() < 1
    logits = torch.logit(t.double())
    assert logits.mean() == pytest.approx(-0.5, abs=0.01)
    assert logits.std() == pytest.approx(0.8, abs=0.01)


def test_logit_normal_times_follow_the_generator():
    draws = [flow.logit_normal_times(5, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_logit_normal_times_refuse_nonsense():
    with pytest.raises(ValueError, match=r"scale.*got 0"):
        flow.logit_normal_times(3, scale=0)


@pytest.mark.parametrize("s", [0.1, 0.5, 1.0, 3.0, 12.0])
def test_time_shift_is_equation_3(s):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    shifted = flow.time_shift(t, s)
    torch.testing.assert_close(shifted, 1 - (1 - t) / (s + (1 - s) * (1 - t)))
    assert shifted[0] == 0
    assert shifted[-1] == 1
    assert (shifted.diff() > 0).all()
    torch.testing.assert_close(flow.time_shift(shifted, 1 / s), t)


def test_time_shift_identity_composition_and_direction():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.equal(flow.time_shift(t, 1), t)
    torch.testing.assert_close(flow.time_shift(flow.time_shift(t, 2), 3), flow.time_shift(t, 6))
    assert flow.time_shift(0.5, 3.0) == pytest.approx(0.75)  # odds 1 become odds 3; s > 1 moves towards noise


@pytest.mark.parametrize("s", [0, -1, float("inf"), float("nan")])
def test_time_shift_refuses_a_shift_that_is_not_positive(s):
    with pytest.raises(ValueError, match=f"positive and finite, got {s}"):
        flow.time_shift(0.5, s)


def test_time_shift_refuses_times_outside_the_unit_interval():
    with pytest.raises(ValueError, match=r"got 1\.2"):
        flow.time_shift(1.2, 2)


def test_sampling_times_run_from_noise_to_data():
    times = flow.sampling_times(4)
    torch.testing.assert_close(times, torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0], dtype=torch.float64))
    torch.testing.assert_close(flow.sampling_times(4, shift=3.0), flow.time_shift(times, 3.0))


# --- the Gaussian -----------------------------------------------------------------------------------------------------


def test_gaussian_velocity_is_the_conditional_mean():
    """The regression of the target on x_t, fitted to samples, is the formula: it is linear in x_t."""
    x = MEAN + VARIANCE**0.5 * normal(400_000)
    noise = normal(400_000, seed=1)
    for t in (0.1, 0.5, 0.9):
        x_t = flow.interpolate(x, noise, t)
        design = torch.stack([torch.ones_like(x_t), x_t], dim=1)
        fit = torch.linalg.lstsq(design, flow.target(x, noise)[:, None]).solution.squeeze(1)
        intercept, one = GAUSSIAN(torch.tensor([0.0, 1.0], dtype=torch.float64), t).tolist()
        assert fit[0] == pytest.approx(intercept, abs=0.02)
        assert fit[1] == pytest.approx(one - intercept, abs=0.02)


def test_gaussian_path_solves_the_equation():
    start, t, h = normal(5, 3), torch.linspace(0.1, 0.9, 5, dtype=torch.float64), 1e-5
    path = partial(flow.gaussian_path, start, mean=MEAN, variance=VARIANCE)
    torch.testing.assert_close((path(t + h) - path(t - h)) / (2 * h), GAUSSIAN(path(t), t), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(path(1.0), start)
    torch.testing.assert_close(path(0.0), MEAN + VARIANCE**0.5 * start)


def test_gaussian_of_two_variances_broadcasts():
    variance = torch.tensor([4.0, 0.01]).reshape(2, 1, 1)
    out = flow.sample(partial(flow.gaussian_velocity, mean=0.0, variance=variance), normal(64, 2, 8, 8), steps=200)
    torch.testing.assert_close(out.std(dim=(0, 2, 3)), torch.tensor([2.0, 0.1], dtype=out.dtype), rtol=0.05, atol=0)


def test_gaussian_refuses_a_variance_that_is_not_positive():
    with pytest.raises(ValueError, match="smallest is 0"):
        flow.gaussian_velocity(torch.zeros(2), 0.5, 0.0, torch.tensor([1.0, 0.0]))


# --- sampling ---------------------------------------------------------------------------------------------------------


def sampling_error(method: str, steps: int, shift: float = 1.0) -> float:
    start = normal(256)
    exact = MEAN + VARIANCE**0.5 * start
    return (flow.sample(GAUSSIAN, start, steps, method, shift) - exact).abs().max().item()


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence(method, order, shift):
    coarse, fine = sampling_error(method, 512, shift), sampling_error(method, 1024, shift)
    assert coarse / fine == pytest.approx(2**order, rel=0.05)
    assert fine < {"euler": 5e-3, "heun": 1e-6}[method]


def test_one_euler_step_from_noise_lands_on_the_mean_for_a_shrinking_gaussian():
    # At t = 1 the velocity is x - m whatever the variance: the first look at pure noise only knows the mean.
    start = normal(7)
    torch.testing.assert_close(flow.sample(GAUSSIAN, start, steps=1), torch.full_like(start, MEAN))


@pytest.mark.parametrize("method", flow.METHODS)
def test_trajectory_holds_every_state(method):
    start = normal(6, 2, 3, 4, 5)
    states = flow.sample(GAUSSIAN, start, steps=50, method=method, shift=2.0, trajectory=True)
    assert states.shape == (51, 6, 2, 3, 4, 5)
    assert torch.equal(states[0], start)
    assert torch.equal(states[-1], flow.sample(GAUSSIAN, start, steps=50, method=method, shift=2.0))
    times = flow.sampling_times(50, shift=2.0)
    exact = torch.stack([flow.gaussian_path(start, t.item(), MEAN, VARIANCE) for t in times])
    torch.testing.assert_close(states, exact, rtol=0, atol={"euler": 0.1, "heun": 2e-3}[method])


def test_the_model_sees_times_per_sample_and_conditioning():
    seen = []

    def model(x, t, y=None):
        seen.append((t, y))
        return torch.zeros_like(x)

    y = torch.tensor([3, 1])
    flow.sample(model, torch.zeros(2, 4), steps=2, method="heun", y=y)
    assert [t.tolist() for t, _ in seen] == [[1.0, 1.0], [0.5, 0.5], [0.5, 0.5], [0.0, 0.0]]
    assert all(label is y for _, label in seen)
    seen.clear()
    flow.sample(lambda x, t: torch.zeros_like(x), torch.zeros(2, 4), steps=1)  # without y the keyword is not passed


def test_half_precision_noise_is_summed_in_float32():
    start = normal(512, dtype=torch.float32).bfloat16()
    seen = []

    def model(x, t):
        seen.append((x.dtype, t.dtype))
        return GAUSSIAN(x.float(), t).to(x.dtype)

    out = flow.sample(model, start, steps=256)
    assert set(seen) == {(torch.bfloat16, torch.float32)}
    assert out.dtype == torch.bfloat16
    exact = MEAN + VARIANCE**0.5 * start.float()
    assert (out.float() - exact).abs().mean() < 0.01  # summing in bfloat16 is off by several times as much


def test_sampling_keeps_no_graph():
    weight = torch.ones((), requires_grad=True)
    assert not flow.sample(lambda x, t: weight * x, torch.ones(1, 1), steps=2).requires_grad


def test_progress_bar_is_drawn_only_when_asked_for(capsys):
    flow.sample(GAUSSIAN, torch.zeros(1), steps=3)
    assert capsys.readouterr().err == ""
    flow.sample(GAUSSIAN, torch.zeros(1), steps=3, progress=True)
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [0, -3, 2.5, True])
def test_sample_refuses_a_bad_number_of_steps(steps):
    with pytest.raises(ValueError, match=f"at least 1, got {steps}"):
        flow.sample(GAUSSIAN, torch.zeros(1), steps=steps)


def test_sample_refuses_what_it_cannot_integrate():
    with pytest.raises(ValueError, match="'rk4', choose one of euler, heun"):
        flow.sample(GAUSSIAN, torch.zeros(1), method="rk4")
    with pytest.raises(ValueError, match="got 0"):
        flow.sample(GAUSSIAN, torch.zeros(1), shift=0)
    with pytest.raises(ValueError, match=r"shape \(1, 8\) for input of shape \(1, 4\)"):
        flow.sample(lambda x, t: torch.cat([x, x], dim=1), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="y holds 3 samples, noise holds 2"):
        flow.sample(GAUSSIAN, torch.zeros(2, 4), y=torch.zeros(3))
    with pytest.raises(ValueError, match=r"floating-point tensor, got torch\.int64"):
        flow.sample(GAUSSIAN, torch.zeros(2, dtype=torch.int64))


# ---------------------------------------------------------------------------------------------------------------------
# Guidance

CLASS_MEANS = torch.tensor([-2.0, 1.0, 4.0], dtype=torch.float64)


class Branch:
    """A velocity of Gaussian data whose mean is the class's, or their average; counts its calls."""

    def __init__(self):
        self.times = []

    def __call__(self, x, t, y=None):
        self.times.append(t[0].item())
        mean = CLASS_MEANS.mean() if y is None else CLASS_MEANS[y][:, None]
        return flow.gaussian_velocity(x, t, mean, VARIANCE)


def branches(scale, interval=(0.0, 1.0)):
    conditional, unconditional = Branch(), Branch()
    return conditional, unconditional, flow.guided(conditional, unconditional, scale, interval)


LABELS = torch.tensor([0, 1, 2, 1])
TIMES = torch.full((4,), 0.4, dtype=torch.float64)


def test_guidance_of_one_is_the_conditional_velocity_and_asks_for_no_other():
    conditional, unconditional, velocity = branches(1.0)
    x = normal(4, 5)
    assert torch.equal(velocity(x, TIMES, y=LABELS), conditional(x, TIMES, y=LABELS))
    assert unconditional.times == []


def test_guidance_of_zero_is_the_unconditional_velocity():
    _, unconditional, velocity = branches(0.0)
    x = normal(4, 5)
    assert torch.equal(velocity(x, TIMES, y=LABELS), unconditional(x, TIMES))


@pytest.mark.parametrize("scale", [0.3, 1.5, 3.0, 7.5])
def test_guidance_is_linear_in_its_scale(scale):
    conditional, unconditional, velocity = branches(scale)
    x = normal(4, 5)
    given, without = conditional(x, TIMES, y=LABELS), unconditional(x, TIMES)
    torch.testing.assert_close(velocity(x, TIMES, y=LABELS), (1 - scale) * without + scale * given)


@pytest.mark.parametrize("method", flow.METHODS)
def test_guidance_extrapolates_the_mean_of_gaussian_classes(method):
    """With one variance for all, velocities are affine in the mean: samples have the mean m + w (m_y - m)."""
    _, _, velocity = branches(3.0)
    start = normal(4, 64)
    samples = flow.sample(velocity, start, 200, method, y=LABELS)
    average = CLASS_MEANS.mean()
    mean = average + 3.0 * (CLASS_MEANS[LABELS] - average)
    torch.testing.assert_close(
        samples, mean[:, None] + VARIANCE**0.5 * start, rtol=0, atol={"euler": 0.05, "heun": 1e-3}[method]
    )


def test_guidance_keeps_to_its_interval():
    conditional, unconditional, velocity = branches(2.0, (0.25, 0.75))
    flow.sample(velocity, normal(4, 5), steps=8, y=LABELS)
    assert conditional.times == [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    assert unconditional.times == [0.75, 0.625, 0.5, 0.375, 0.25]  # both ends belong to it
    x, late = normal(4, 5), torch.full((4,), 0.1, dtype=torch.float64)
    assert torch.equal(velocity(x, late, y=LABELS), conditional(x, late, y=LABELS))


@pytest.mark.parametrize("scale", [-0.1, float("inf"), float("nan")])
def test_guidance_refuses_an_impossible_scale(scale):
    with pytest.raises(ValueError, match=f"not negative, got {scale}"):
        branches(scale)


@pytest.mark.parametrize("interval", [(0.8, 0.2), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_guidance_refuses_an_impossible_interval(interval):
    with pytest.raises(ValueError, match="0 <= first <= last <= 1") as caught:
        branches(2.0, interval)
    assert str(interval) in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# Signal and noise by frequency


def test_snr_by_frequency_is_what_a_noisy_signal_has():
    """Energy of the signal's and the noise's DCT coefficients in x_t, measured apart, against the formula."""
    from diffusab_core.spectrum import block_dct

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 1, 8, 8, generator=generator, dtype=torch.float64).cumsum(-1)  # falls along one axis
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    energy = block_dct(x).square().mean((0, 1, 2, 3)).flatten()
    for t in (0.1, 0.5, 0.9):
        signal_energy = block_dct((1 - t) * x).square().mean((0, 1, 2, 3)).flatten()
        noise_energy = block_dct(t * noise).square().mean((0, 1, 2, 3)).flatten()
        snr = flow.frequency_snr(energy, t)
        torch.testing.assert_close(signal_energy / noise_energy, snr, rtol=0.3, atol=0)
        torch.testing.assert_close((signal_energy / noise_energy / snr).mean().item(), 1.0, rtol=0.02, atol=0)


def test_crossover_is_where_the_ratio_is_one():
    energy = torch.tensor([0.0, 0.01, 1.0, 100.0], dtype=torch.float64)
    t = flow.crossover_time(energy)
    assert t[0] == 0
    assert t[2] == 0.5
    snr = flow.frequency_snr(energy[1:], t[1:])
    torch.testing.assert_close(torch.diagonal(snr), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("t", [0.0, -0.1, 1.1])
def test_snr_outside_its_times_is_refused(t):
    with pytest.raises(ValueError, match="finite for t in"):
        flow.frequency_snr(torch.ones(4), t)


# --- walks ------------------------------------------------------------------------------------------------------------


def test_states_at_the_samplers_times_and_halfway_between():
    walk = flow.sample(GAUSSIAN, normal(16), 4, trajectory=True)
    for i, t in enumerate(flow.sampling_times(4).tolist()):
        torch.testing.assert_close(flow.states_at(walk, t), walk[i])
    torch.testing.assert_close(flow.states_at(walk, 0.625), (walk[1] + walk[2]) / 2)


def test_states_lie_on_the_exact_flow_when_steps_are_many():
    walk = flow.sample(GAUSSIAN, normal(16), 400, trajectory=True)
    exact = flow.gaussian_path(normal(16), 0.333, MEAN, VARIANCE)
    torch.testing.assert_close(flow.states_at(walk, 0.333), exact, atol=5e-3, rtol=0)


@pytest.mark.parametrize("t", [-0.01, 1.01, float("nan")])
def test_a_time_outside_is_refused(t):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        flow.states_at(torch.zeros(3, 1, 2), t)


def test_a_prediction_is_the_end_of_the_line_that_the_next_state_lies_on():
    states, predictions = flow.walk(GAUSSIAN, normal(16), 4)
    torch.testing.assert_close(states, flow.sample(GAUSSIAN, normal(16), 4, trajectory=True))
    torch.testing.assert_close(predictions[0], torch.full_like(states[0], MEAN))  # E[x0 | noise]
    times = flow.sampling_times(4)
    for k in range(4):
        share = float(times[k + 1] / times[k])  # x_{k+1} = x_hat + (t_{k+1} / t_k) (x_k - x_hat)
        torch.testing.assert_close(states[k + 1], torch.lerp(predictions[k], states[k], share))
    torch.testing.assert_close(predictions[-1], states[-1])


def test_what_is_settled_is_counted_from_the_mean_to_the_end():
    end = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    mean = end.mean(0).expand_as(end)
    predictions = torch.stack([2 * mean - end, mean, (mean + end) / 2, end])
    torch.testing.assert_close(flow.settled_share(predictions), torch.tensor([-3.0, 0.0, 0.75, 1.0]))
