"""Radial masks, splits and profiles; radii in cycles per pixel."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusab_core.spectrum.bands import band_masks
from diffusab_core.spectrum.radial import (
    MASKS,
    radial_bands,
    radial_mask,
    radial_profile,
    radial_split,
    spectral_exponent,
)


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def grating(height: int, width: int, cycles_down: int, cycles_across: int) -> torch.Tensor:
    y, x = torch.arange(height, dtype=torch.float64)[:, None], torch.arange(width, dtype=torch.float64)
    return torch.cos(2 * math.pi * (cycles_down * y / height + cycles_across * x / width) + 0.3)


# --- mask and split


@settings(max_examples=30, deadline=None)
@given(h=st.integers(1, 20), w=st.integers(1, 20), radius=st.floats(0, 0.8), seed=st.integers(0, 1000))
def test_parts_partition_unity_and_equal_the_complex_transform(h, w, radius, seed):
    x = randn(2, 3, h, w, seed=seed)
    low, high = radial_split(x, radius)
    assert low.shape == high.shape == x.shape
    torch.testing.assert_close(low + high, x, atol=1e-14, rtol=1e-14)
    mask = radial_mask(h, w, radius)
    assert mask.shape == (h, w)
    for part, m in ((low, mask), (high, ~mask)):
        expected = np.fft.ifft2(np.fft.fft2(x.numpy()) * m.numpy())
        np.testing.assert_allclose(part.numpy(), expected.real, atol=1e-12)
        np.testing.assert_allclose(expected.imag, 0, atol=1e-12)  # the mask is symmetric, so the parts are real


@pytest.mark.parametrize(("h", "w"), [(32, 32), (24, 40), (25, 15)])
@pytest.mark.parametrize(("down", "across"), [(0, 3), (5, 0), (4, 3), (7, 6)])
def test_a_grating_falls_on_the_right_side(h, w, down, across):
    wave = grating(h, w, down, across)
    frequency = math.hypot(down / h, across / w)
    low, high = radial_split(wave, frequency + 1e-6)
    torch.testing.assert_close(low, wave, atol=1e-12, rtol=0)
    torch.testing.assert_close(high, torch.zeros_like(wave), atol=1e-12, rtol=0)
    low, high = radial_split(wave, frequency - 1e-6)
    torch.testing.assert_close(high, wave, atol=1e-12, rtol=0)
    torch.testing.assert_close(low, torch.zeros_like(wave), atol=1e-12, rtol=0)


def test_a_frequency_on_the_radius_stays():
    for n in range(3, 60):
        for k in range(n // 2 + 1):
            assert radial_mask(n, n, k / n)[0, k]
            assert radial_mask(n, n, k / n)[k, 0]


def test_extreme_radii():
    x = randn(2, 3, 12, 10)
    low, _ = radial_split(x, 0)
    torch.testing.assert_close(low, x.mean((-1, -2), keepdim=True).expand_as(x), atol=1e-12, rtol=0)
    low, high = radial_split(x, math.sqrt(0.5))
    torch.testing.assert_close(low, x, atol=1e-12, rtol=0)
    assert high.abs().max() < 1e-12
    assert radial_mask(12, 10, math.sqrt(0.5)).all()
    assert radial_mask(12, 10, 0).sum() == 1


def test_videos_are_split_frame_by_frame():
    video = randn(2, 3, 4, 16, 12)
    low, _ = radial_split(video, 0.2)
    frames = torch.stack([radial_split(video[:, :, t], 0.2)[0] for t in range(4)], 2)
    torch.testing.assert_close(low, frames)


def test_split_gradients_and_layouts():
    x = randn(2, 5, 6)
    assert torch.autograd.gradcheck(lambda t: radial_split(t, 0.25), x.clone().requires_grad_())
    turned = x.transpose(-1, -2)
    assert not turned.is_contiguous()
    torch.testing.assert_close(radial_split(turned, 0.25)[0], radial_split(x, 0.25)[0].transpose(-1, -2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32(dtype):
    x = randn(2, 16, 16, dtype=dtype)
    low, high = radial_split(x, 0.2)
    assert low.dtype == high.dtype == torch.float32
    torch.testing.assert_close(low + high, x.float(), atol=1e-6, rtol=0)
    frequency, power = radial_profile(x)
    assert frequency.dtype == power.dtype == torch.float32


@pytest.mark.parametrize("radius", [-0.1, math.nan, math.inf])
def test_bad_radii_are_refused(radius):
    with pytest.raises(ValueError, match=f"cycles per pixel, 0 or more, got {radius}"):
        radial_split(torch.zeros(8, 8), radius)


# --- soft masks and bands


@settings(max_examples=30, deadline=None)
@given(
    h=st.integers(1, 20), w=st.integers(1, 20), radius=st.floats(0, 0.8), kind=st.sampled_from(MASKS),
    order=st.integers(1, 8),
)  # fmt: skip
def test_every_kind_partitions_unity_and_equals_the_complex_transform(h, w, radius, kind, order):
    x = randn(2, 3, h, w)
    mask = radial_mask(h, w, radius, kind, order)
    weights = mask.double()
    assert mask.shape == (h, w)
    assert mask.dtype == (torch.bool if kind == "ideal" else torch.float64)
    assert weights[0, 0] == 1  # the mean is always in the low part
    assert weights.min() >= 0
    assert weights.max() <= 1
    torch.testing.assert_close(weights, weights.flip(0, 1).roll((1, 1), (0, 1)))  # M(-f) = M(f)
    low, high = radial_split(x, radius, kind, order)
    torch.testing.assert_close(low + high, x, atol=1e-14, rtol=1e-14)
    for part, m in ((low, weights), (high, 1 - weights)):
        np.testing.assert_allclose(part.numpy(), np.fft.ifft2(np.fft.fft2(x.numpy()) * m.numpy()).real, atol=1e-12)


def test_soft_masks_equal_their_formulas():
    f = np.hypot(np.fft.fftfreq(12)[:, None], np.fft.fftfreq(9))
    for radius in (0.05, 0.2, 0.5):
        gaussian = radial_mask(12, 9, radius, "gaussian").numpy()
        np.testing.assert_allclose(gaussian, np.exp(-(f**2) / (2 * radius**2)), rtol=1e-12)
        for order in (1, 2, 5):
            butterworth = radial_mask(12, 9, radius, "butterworth", order).numpy()
            np.testing.assert_allclose(butterworth, 1 / (1 + (f / radius) ** (2 * order)), rtol=1e-12)
    assert radial_mask(10, 10, 0.2, "butterworth")[0, 2] == pytest.approx(0.5)  # whatever the order, at the radius
    steep, ideal = radial_mask(16, 16, 0.22, "butterworth", 200), radial_mask(16, 16, 0.22)
    torch.testing.assert_close(steep, ideal.double(), atol=1e-3, rtol=0)  # its limit is the ideal mask


def test_soft_masks_at_radius_zero_keep_the_mean():
    x = randn(2, 3, 8, 6)
    for kind in MASKS:
        low, _ = radial_split(x, 0, kind)
        torch.testing.assert_close(low, x.mean((-1, -2), keepdim=True).expand_as(x), atol=1e-12, rtol=0)


def test_soft_splits_have_gradients_and_keep_precision():
    x = randn(1, 5, 6)
    for kind in ("butterworth", "gaussian"):
        assert torch.autograd.gradcheck(lambda t, k=kind: radial_split(t, 0.25, k)[1], x.clone().requires_grad_())
        assert radial_split(x.half(), 0.2, kind)[0].dtype == torch.float32


def test_bad_kinds_and_orders_are_refused():
    with pytest.raises(ValueError, match="kind must be one of ideal, butterworth, gaussian, got 'box'"):
        radial_split(torch.zeros(8, 8), 0.2, "box")
    for order in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"order must be an integer of at least 1, got {order}"):
            radial_mask(8, 8, 0.2, "butterworth", order)


def test_bands_partition_all_frequencies_but_zero():
    for edges in ((0, 0.15, 0.3, 0.45, math.sqrt(0.5)), (0, 0.2, math.inf)):
        masks = band_masks(24, 20, edges, "image")
        everything = torch.ones(24, 20, dtype=torch.int64)
        everything[0, 0] = 0
        assert torch.equal(masks.sum(0), everything)


def test_a_frequency_on_an_edge_lies_in_the_inner_band_only():
    for n in range(3, 40):
        for k in range(1, n // 2 + 1):
            inner, outer = band_masks(n, n, (0, k / n, 1), "image")
            assert inner[0, k]
            assert inner[k, 0]
            assert not outer[k, 0]


# --- radially averaged power


def slow_radial_profile(x: torch.Tensor, bins: int) -> list[float]:
    """Every frequency visited, its power added to the ring it falls in."""
    h, w = x.shape[-2:]
    planes = x.double().numpy().reshape(-1, h, w)
    rings = [[] for _ in range(bins)]
    power = np.mean([np.abs(np.fft.fft2(p)) ** 2 / (h * w) for p in planes], axis=0)
    for row, fy in enumerate(np.fft.fftfreq(h)):
        for column, fx in enumerate(np.fft.fftfreq(w)):
            radius = math.hypot(fy, fx)
            for k in range(1, bins + 1):
                if k - 0.5 <= radius * 2 * bins + 1e-9 < k + 0.5:
                    rings[k - 1].append(power[row, column])
    return [float(np.mean(ring)) for ring in rings]


@pytest.mark.parametrize(("h", "w", "bins"), [(16, 16, None), (15, 22, None), (24, 12, 5), (9, 9, 4), (2, 30, None)])
def test_radial_profile_equals_the_definition(h, w, bins):
    x = randn(2, 3, h, w)
    frequency, power = radial_profile(x, bins) if bins else radial_profile(x)
    bins = bins or min(h, w) // 2
    np.testing.assert_allclose(frequency.numpy(), [k / (2 * bins) for k in range(1, bins + 1)])
    np.testing.assert_allclose(power.numpy(), slow_radial_profile(x, bins), rtol=1e-10)


@settings(max_examples=60, deadline=None)
@given(h=st.integers(2, 40), w=st.integers(2, 40))
def test_no_ring_is_empty(h, w):
    _, power = radial_profile(randn(h, w))
    assert torch.isfinite(power).all()


def test_white_noise_has_its_variance_everywhere():
    _, power = radial_profile(3 * randn(64, 3, 32, 32))
    torch.testing.assert_close(power, torch.full_like(power, 9.0), rtol=0.1, atol=0)


def test_a_grating_fills_one_ring_and_the_mean_none():
    frequency, power = radial_profile(5 + grating(32, 32, 0, 6))
    assert frequency[power.argmax()] == 6 / 32
    others = power.clone()
    others[power.argmax()] = 0
    assert others.max() < 1e-12 < power.max()


def test_a_power_law_is_recovered():
    n = 128
    radius = torch.hypot(torch.fft.fftfreq(n)[:, None], torch.fft.fftfreq(n)).double()
    radius[0, 0] = 1
    noise = torch.fft.fft2(randn(8, n, n))
    frequency, power = radial_profile(torch.fft.ifft2(noise / radius).real)
    slope = np.polyfit(frequency.log().numpy()[3:], power.log().numpy()[3:], 1)[0]
    assert slope == pytest.approx(-2, abs=0.1)


def test_radial_profile_gradients():
    assert torch.autograd.gradcheck(lambda t: radial_profile(t)[1], randn(2, 6, 5).requires_grad_())


def test_radial_profile_refuses():
    for bins in (0, 9, -1):
        with pytest.raises(ValueError, match=rf"bins must be in 1 \.\.\. 8 .*got {bins}"):
            radial_profile(torch.ones(3, 16, 20), bins)
    with pytest.raises(ValueError, match="empty"):
        radial_profile(torch.ones(0, 16, 16))
    x = torch.ones(4, 3, 8, 8)
    x[2, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="NaN or Inf in 1 of 4 items"):
        radial_profile(x)
    with pytest.raises(TypeError, match="int64"):
        radial_split(torch.ones(8, 8, dtype=torch.int64), 0.2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    x = randn(2, 3, 16, 24)
    torch.testing.assert_close(radial_split(x.cuda(), 0.2)[0].cpu(), radial_split(x, 0.2)[0])
    torch.testing.assert_close(radial_profile(x.cuda())[1].cpu(), radial_profile(x)[1])


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 3.0])
def test_exponent_of_a_known_power_law_is_found(beta):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(64, 3, 64, 64, generator=generator, dtype=torch.float64)
    f = torch.hypot(torch.fft.fftfreq(64, dtype=torch.float64)[:, None], torch.fft.rfftfreq(64, dtype=torch.float64))
    amplitude = f.clamp_min(1 / 64) ** (-beta / 2)
    shaped = torch.fft.irfft2(torch.fft.rfft2(noise) * amplitude)
    assert spectral_exponent(shaped) == pytest.approx(beta, abs=0.1)


def test_exponent_of_too_small_an_image_is_refused():
    with pytest.raises(ValueError, match="rings of a 8 x 8"):
        spectral_exponent(torch.randn(2, 3, 8, 8))


def test_bands_sum_to_the_whole_and_hold_their_frequencies_alone():
    x = torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bands = radial_bands(x, (0.1, 0.25))
    assert bands.shape == (3, 2, 3, 16, 12)
    torch.testing.assert_close(bands.sum(0), x)
    outside = radial_split(bands[1], 0.1)[0], radial_split(bands[1], 0.25)[1]
    assert max(part.abs().max() for part in outside) < 1e-12
    for radii in ((0.2, 0.1), (0.1, 0.1)):
        with pytest.raises(ValueError, match="ascend"):
            radial_bands(x, radii)
