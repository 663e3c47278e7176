import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from diffusab_core.metrics import psnr, psnr_per_image


@pytest.fixture
def pair():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 16, 16, generator=g) * 2 - 1
    return x, (x + 0.1 * torch.randn(x.shape, generator=g)).clamp(-1, 1)


def test_agrees_with_scikit_image_per_image_and_averages_decibels(pair):
    x, y = pair
    y[0] = x[0] + 0.5 * (y[0] - x[0])  # images of different quality: the mean in dB is not that of the pooled error
    expected = [
        peak_signal_noise_ratio(((a + 1) / 2).numpy(), ((b + 1) / 2).numpy(), data_range=1)
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(psnr_per_image(x, y), expected, rtol=1e-5)
    assert psnr(x, y).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_known_value():
    # an error of 0.2 in [-1, 1] is 0.1 of the range: 20 dB
    assert psnr(torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.2)).item() == pytest.approx(20)


def test_clamps_before_comparing():
    x = torch.ones(1, 3, 8, 8)
    assert psnr(x, 3 * x).item() == math.inf


def test_half_precision_is_computed_in_float32(pair):
    x, y = pair
    assert psnr(x.half(), y.half()).dtype == torch.float32
    assert psnr(x.half(), y.half()).item() == pytest.approx(psnr(x, y).item(), abs=0.01)


def test_one_image_needs_no_batch_axis(pair):
    x, y = pair
    assert torch.equal(psnr(x[0], y[0]), psnr(x[:1], y[:1]))


@pytest.mark.parametrize(
    ("x", "y"),
    [(torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8)), (torch.zeros(8, 8), torch.zeros(8, 8))],
)
def test_wrong_shapes_are_named(x, y):
    with pytest.raises(ValueError, match=str(tuple(x.shape)).replace("(", r"\(").replace(")", r"\)")):
        psnr(x, y)
