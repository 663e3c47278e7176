"""Frequency profiles, one-shot and streamed, and the high-frequency energy ratio."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusab_core.spectrum import (
    STATISTICS,
    ProfileAccumulator,
    block_idct,
    frequency_profile,
    high_frequency_energy_ratio,
    high_frequency_share,
    zigzag_order,
)
from diffusab_core.spectrum.profile import MEDIAN_RANGE, MEDIAN_RESOLUTION


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def slow_dct(block: np.ndarray) -> np.ndarray:
    """One block by the definition, four nested sums."""
    b = len(block)
    d = np.zeros((b, b))
    for u in range(b):
        for v in range(b):
            total = 0.0
            for i in range(b):
                for j in range(b):
                    cosines = math.cos(math.pi * (2 * i + 1) * u / (2 * b)) * math.cos(
                        math.pi * (2 * j + 1) * v / (2 * b)
                    )
                    total += block[i, j] * cosines
            d[u, v] = total * math.sqrt((2 if u else 1) / b) * math.sqrt((2 if v else 1) / b)
    return d


def slow_profile(x: torch.Tensor, b: int, statistic: str) -> np.ndarray:
    """Every statistic written out block by block."""
    planes = x.double().numpy().reshape(-1, *x.shape[-2:])
    coefficients = []
    for plane in planes:
        for top in range(0, plane.shape[0], b):
            for left in range(0, plane.shape[1], b):
                coefficients.append(slow_dct(plane[top : top + b, left : left + b]))
    out = []
    for flat in zigzag_order(b).tolist():
        u, v = divmod(flat, b)
        ratios = sorted(abs(d[u, v] / d[0, 0]) for d in coefficients if d[0, 0] != 0)
        if statistic == "mean_ratio":
            out.append(sum(ratios) / len(ratios))
        elif statistic == "median_ratio":
            out.append(ratios[(len(ratios) - 1) // 2])
        elif statistic == "ratio_of_means":
            out.append(sum(abs(d[u, v]) for d in coefficients) / sum(abs(d[0, 0]) for d in coefficients))
        elif statistic == "energy":
            out.append(sum(d[u, v] ** 2 for d in coefficients) / sum(d[0, 0] ** 2 for d in coefficients))
    return np.array(out)


def accumulate(chunks, b: int) -> ProfileAccumulator:
    accumulator = ProfileAccumulator(b)
    for chunk in chunks:
        accumulator.update(chunk)
    return accumulator


def with_zero_means() -> torch.Tensor:
    """``(4, 1, 8, 8)``, in blocks of size 4: of each four, one is a checkerboard around 0, so its mean is exactly 0."""
    x = 1 + 0.3 * randn(4, 1, 8, 8)
    x[:, :, :4, :4] = torch.tensor([1.0, -1.0]).repeat(2).outer(torch.tensor([1.0, -1.0]).repeat(2))
    return x


# --- one shot


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("b", [2, 3, 4])
def test_statistics_equal_the_definitions(statistic, b):
    for x in (randn(2, 2, 2 * b, 3 * b), randn(1, 2, 3, b, 2 * b)):
        expected = slow_profile(x, b, statistic)
        np.testing.assert_allclose(frequency_profile(x, b, statistic).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_blocks_without_a_mean_count_only_where_no_ratio_is_taken_per_block(statistic):
    x = with_zero_means()
    np.testing.assert_allclose(frequency_profile(x, 4, statistic).numpy(), slow_profile(x, 4, statistic), rtol=1e-9)


def test_the_default_statistic_is_the_ratio_of_means():
    x = randn(4, 3, 16, 16)
    assert torch.equal(frequency_profile(x), frequency_profile(x, 8, "ratio_of_means"))
    accumulator = accumulate([x], 8)
    assert torch.equal(accumulator.profile(), accumulator.profile("ratio_of_means"))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_first_entry_is_one_and_the_order_is_zigzag(statistic):
    d = torch.zeros(1, 1, 3, 3, 8, 8, dtype=torch.float64)
    d.view(1, 1, 9, 64)[..., zigzag_order(8)] = 1 / torch.arange(1, 65, dtype=torch.float64)
    expected = 1 / torch.arange(1, 65, dtype=torch.float64)
    profile = frequency_profile(block_idct(d), 8, statistic)
    torch.testing.assert_close(profile, expected**2 if statistic == "energy" else expected)


def test_white_noise_has_a_flat_profile_except_for_the_mean_ratio():
    x = randn(32, 4, 64, 64)  # 8 192 blocks
    for statistic in ("ratio_of_means", "energy", "median_ratio"):
        # The ratio of two independent normals is Cauchy: its median is 1, its mean does not exist.
        profile = frequency_profile(x, 8, statistic)
        torch.testing.assert_close(profile, torch.ones_like(profile), rtol=0.12, atol=0)
    assert frequency_profile(x, 8, "mean_ratio")[1:].min() > 2


@pytest.mark.parametrize("statistic", STATISTICS)
def test_scaling_the_input_changes_nothing(statistic):
    x = randn(2, 3, 16, 16)
    torch.testing.assert_close(frequency_profile(7.5 * x, 8, statistic), frequency_profile(x, 8, statistic))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_gradients(statistic):
    x = (1 + 0.2 * randn(5, 4, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: frequency_profile(t, 4, statistic), x)


def test_gradients_of_the_energy_ratio():
    assert torch.autograd.gradcheck(lambda t: high_frequency_energy_ratio(t, 4), (1 + randn(3, 4, 4)).requires_grad_())


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(statistic, dtype):
    x = 1 + 0.1 * randn(8, 2, 16, 16, dtype=dtype)
    profile = frequency_profile(x, 8, statistic)
    assert profile.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(profile.double(), frequency_profile(x.double(), 8, statistic), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("b", [2, 3, 8])
def test_energy_ratio_is_the_mean_of_the_upper_zigzag_half(b):
    x = 1 + randn(3, 2, 2 * b, 2 * b)
    energy = slow_profile(x, b, "energy")
    expected = np.mean([e for rank, e in enumerate(energy) if rank >= b * b / 2])
    ratio = high_frequency_energy_ratio(x, b)
    assert ratio.ndim == 0
    assert ratio.item() == pytest.approx(expected, rel=1e-9)
    assert accumulate([x], b).high_frequency_energy_ratio() == pytest.approx(expected, rel=1e-9)


# --- streamed


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 23), max_size=6, unique=True), seed=st.integers(0, 100))
def test_how_the_stream_is_cut_does_not_matter(cuts, seed):
    x = randn(24, 2, 8, 8, seed=seed)
    edges = [0, *sorted(cuts), 24]
    chunked = accumulate([x[a:b] for a, b in itertools.pairwise(edges)], 4)
    whole = accumulate([x], 4)
    assert chunked.blocks == whole.blocks == 24 * 2 * 4
    for statistic in STATISTICS:
        torch.testing.assert_close(chunked.profile(statistic), whole.profile(statistic), rtol=1e-10, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("b", [4, 16])
def test_streaming_equals_one_shot(b, dtype):
    x = randn(20, 3, 32, 32, dtype=dtype)
    accumulator = accumulate(x.split(7), b)
    for statistic in STATISTICS:
        # The exact median against one read from the histogram: within half a bin. Sums only differ by rounding.
        rtol = 0.5 * MEDIAN_RESOLUTION * 1.01 if statistic == "median_ratio" else 1e-4
        one_shot = frequency_profile(x, b, statistic).double()
        torch.testing.assert_close(accumulator.profile(statistic), one_shot, rtol=rtol, atol=0)


def test_a_streamed_profile_is_relative_to_exactly_one():
    accumulator = accumulate([randn(3, 16, 16)], 8)
    for statistic in STATISTICS:
        assert accumulator.profile(statistic)[0] == 1


def test_memory_is_constant():
    accumulator = ProfileAccumulator(4)

    def held():
        return sum(t.numel() * t.element_size() for t in vars(accumulator).values() if isinstance(t, torch.Tensor))

    before = held()
    for seed in range(5):
        accumulator.update(randn(8, 3, 16, 16, seed=seed))
    assert held() == before > 0


def test_blocks_without_a_mean_are_counted():
    x = with_zero_means()
    accumulator = accumulate([x, torch.zeros(2, 1, 4, 4, dtype=x.dtype)], 4)
    assert accumulator.blocks == 4 * 4 + 2
    assert accumulator.excluded_blocks == 4 + 2
    for statistic in ("mean_ratio", "ratio_of_means", "energy"):  # to which entirely blank blocks add nothing
        torch.testing.assert_close(accumulator.profile(statistic), frequency_profile(x, 4, statistic))


def test_medians_outside_the_histogram_are_zero_and_infinite():
    d = torch.zeros(3, 1, 1, 2, 2, dtype=torch.float64)
    d[:, 0, 0, 0, 0] = 1
    d[:, 0, 0, 0, 1] = MEDIAN_RANGE[0] / 10
    d[:, 0, 0, 1, 0] = MEDIAN_RANGE[1] * 10
    d[:, 0, 0, 1, 1] = 0.5
    median = accumulate([block_idct(d)], 2).profile("median_ratio")
    assert median[2] == math.inf
    # The tiny one alone: beside 1e9 it would drown in rounding.
    small = d.clone()
    small[:, 0, 0, 1, 0] = 0
    median = accumulate([block_idct(small)], 2).profile("median_ratio")
    assert median[1] == 0
    assert median[2] == 0
    assert median[3] == pytest.approx(0.5, rel=0.5 * MEDIAN_RESOLUTION * 1.01)


def test_a_constant_image_has_nothing_beside_its_mean():
    x = torch.full((2, 3, 16, 16), 0.5, dtype=torch.float64)
    for statistic in STATISTICS:
        torch.testing.assert_close(
            accumulate([x], 8).profile(statistic)[1:], torch.zeros(63).double(), atol=1e-14, rtol=0
        )


# --- errors


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("measure", [frequency_profile, high_frequency_energy_ratio, ProfileAccumulator(8).update])
def test_nan_and_inf_are_refused_and_located(measure, bad):
    x = randn(6, 3, 16, 16, dtype=torch.float32)
    x[1, 0, 3, 3] = bad
    x[4, 2, 0, 15] = bad
    with pytest.raises(ValueError, match=r"NaN or Inf in 2 of 6 items .*\(6, 3, 16, 16\).*: 1, 4\)"):
        measure(x)


def test_a_refused_update_adds_nothing():
    accumulator = accumulate([randn(2, 3, 8, 8)], 8)
    before = accumulator.profile("mean_ratio").clone()
    with pytest.raises(ValueError, match="NaN"):
        accumulator.update(torch.full((2, 3, 8, 8), float("nan")))
    assert accumulator.blocks == 6
    assert torch.equal(accumulator.profile("mean_ratio"), before)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_blank_input_is_refused(statistic):
    blank = torch.zeros(2, 3, 16, 16)
    with pytest.raises(ValueError, match="D_00 is zero in all 24 blocks"):
        frequency_profile(blank, 8, statistic)
    accumulator = accumulate([blank], 8)
    assert accumulator.excluded_blocks == accumulator.blocks == 24
    with pytest.raises(ValueError, match="D_00 is zero in all 24 blocks"):
        accumulator.profile(statistic)


def test_other_bad_arguments():
    with pytest.raises(ValueError, match=f"statistic must be one of {', '.join(STATISTICS)}, got 'mean'"):
        frequency_profile(torch.ones(8, 8), 8, "mean")
    with pytest.raises(ValueError, match="statistic must be one of"):
        accumulate([torch.ones(8, 8)], 8).profile("mean")
    with pytest.raises(ValueError, match=r"update\(\) has not been called"):
        ProfileAccumulator(8).profile()
    with pytest.raises(ValueError, match=r"no block to measure.*\(0, 3, 8, 8\)"):
        frequency_profile(torch.ones(0, 3, 8, 8))
    with pytest.raises(ValueError, match="at least 2, got 1"):
        high_frequency_energy_ratio(torch.ones(8, 8), 1)
    with pytest.raises(ValueError, match="multiples of 8"):
        ProfileAccumulator(8).update(torch.ones(3, 12, 16))
    with pytest.raises(ValueError, match="block_size must be an integer"):
        ProfileAccumulator(0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    x = randn(8, 3, 32, 32)
    for statistic in STATISTICS:
        torch.testing.assert_close(frequency_profile(x.cuda(), 8, statistic).cpu(), frequency_profile(x, 8, statistic))
        torch.testing.assert_close(accumulate([x.cuda()], 8).profile(statistic), accumulate([x], 8).profile(statistic))


def test_high_frequency_share_ignores_scale_and_offset():
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    share, lifted = (high_frequency_share(frequency_profile(y, 8, "energy")) for y in (x, 5 * x + 40))
    assert share == pytest.approx(lifted, rel=1e-4)
    assert share == pytest.approx(32 / 63, abs=0.02)  # white noise
    assert high_frequency_energy_ratio(5 * x + 40) < 0.1 * high_frequency_energy_ratio(x)  # what it is there to avoid
    assert high_frequency_share([2.0, 1.0, 1.0, 6.0]) == pytest.approx(7 / 8)
    assert high_frequency_share([1.0] + [0.0] * 63) == 0.0
    with pytest.raises(ValueError, match=r"one profile .* got shape \(2, 64\)"):
        high_frequency_share(torch.ones(2, 64))
