import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from diffusab_core import autoencoders, data
from diffusab_core.metrics import (
    cut_curve,
    psnr,
    psnr_per_image,
    spectrum_distance,
    ssim,
    ssim_per_image,
)
from diffusab_core.metrics.aliasing import pixel_unshuffle
from diffusab_core.spectrum import chop_high_frequencies, frequency_mask, frequency_profile


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


# ---------------------------------------------------------------------------------------------------------------------
# SSIM


@pytest.mark.parametrize("size", [(16, 16), (11, 37)])
def test_ssim_agrees_with_scikit_image(size):
    g = torch.Generator().manual_seed(1)
    x = torch.rand(3, 3, *size, generator=g) * 2 - 1
    y = x + 0.6 * torch.rand(3, 1, 1, 1, generator=g) * torch.randn(x.shape, generator=g)
    expected = [
        structural_similarity(
            *((image.clamp(-1, 1).double().numpy() + 1) / 2 for image in pair),
            data_range=1,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for pair in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(ssim_per_image(x, y), expected, atol=1e-4)
    assert ssim(x, y).item() == pytest.approx(np.mean(expected), abs=1e-4)
    assert ssim(x, x).item() == pytest.approx(1)


def test_ssim_of_a_clip_is_the_mean_over_its_frames():
    g = torch.Generator().manual_seed(2)
    x, y = torch.rand(2, 2, 3, 4, 16, 16, generator=g) * 2 - 1  # (N, C, T, H, W)
    frames = [ssim_per_image(x[:, :, t], y[:, :, t]) for t in range(4)]
    torch.testing.assert_close(ssim_per_image(x, y), torch.stack(frames).mean(0))


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match=r"at least 11 pixels.*\(1, 3, 10, 16\)"):
        ssim(torch.zeros(1, 3, 10, 16), torch.zeros(1, 3, 10, 16))


# ---------------------------------------------------------------------------------------------------------------------
# Spectra


def test_spectrum_distance_is_in_decades_and_leaves_rank_0_out():
    a = torch.cat([torch.ones(1), torch.rand(63, generator=torch.Generator().manual_seed(0)) + 0.01])
    b = torch.cat([a[:1], 10 * a[1:]])
    assert spectrum_distance(a, b).item() == pytest.approx(1, rel=1e-5)
    b[1::2] = a[1::2] / 100  # both directions count: 32 ranks by 2 decades, 31 by 1
    assert spectrum_distance(a, b).item() == pytest.approx((32 * 2 + 31) / 63, rel=1e-5)
    assert spectrum_distance(b, a) == spectrum_distance(a, b)
    assert spectrum_distance(a, a) == 0


def test_spectrum_distance_does_not_see_a_change_of_contrast():
    g = torch.Generator().manual_seed(1)
    x = torch.rand(4, 3, 16, 16, generator=g)
    profile = frequency_profile(x)
    assert spectrum_distance(profile, frequency_profile(7 * x)).item() == pytest.approx(0, abs=1e-5)
    rough = frequency_profile(x + 0.3 * torch.randn(x.shape, generator=g))
    expected = np.abs(np.log10(profile[1:].numpy() / rough[1:].numpy())).mean()
    assert spectrum_distance(profile, rough).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (torch.tensor([1, 0.5, 0, 0.1]), "profile_b has no logarithm at rank 2, where it is 0.0"),
        (torch.tensor([1, 0.5, 0.1, math.inf]), "rank 3, where it is inf"),
        (torch.tensor([1, math.nan, 0.1, 0.1]), "rank 1, where it is nan"),
        (torch.tensor([8, 0.5, 0.1, 0.1]), "starts with 8, not with 1"),
        (torch.ones(9), r"\(4,\) and \(9,\)"),
    ],
)
def test_spectrum_distance_refuses_what_is_no_profile(profile, message):
    with pytest.raises(ValueError, match=message):
        spectrum_distance(torch.tensor([1, 0.5, 0.2, 0.1]), profile)


class Pooling:
    """An autoencoder that averages f x f pixels: its latent is a smaller picture."""

    def __init__(self, compression):
        self.compression = compression

    def place(self, x):
        return x

    def encode(self, x):
        return SimpleNamespace(mean=nn.functional.avg_pool2d(x, self.compression))

    def decode(self, z):
        return nn.functional.interpolate(z, scale_factor=self.compression)


@pytest.mark.parametrize("order", ["zigzag", "axes"])
def test_cut_curve_of_rgb_is_the_energy_that_was_cut(order):
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2)) - 0.5  # far from where clamping begins
    ratios = (0.25, 0.5, 0.9)
    curve = cut_curve(Pooling(2), x, ratios, block_size=4, order=order, batch_size=2)
    for ratio, found, kept in zip(ratios, curve.rgb, curve.kept, strict=True):
        mask = frequency_mask(8, ratio, order).numpy()  # block 4 in the latent is 8 in RGB
        blocks = x.double().numpy().reshape(3, 3, 2, 8, 2, 8)
        d = dctn(blocks, axes=(3, 5), norm="ortho") * ~mask[:, None, :]
        mse = (d / 2) ** 2  # of images mapped to [0, 1]; Parseval
        expected = -10 * np.log10(mse.sum((1, 2, 3, 4, 5)) / x[0].numel())
        assert found == pytest.approx(expected.mean(), abs=1e-3)
        assert kept == frequency_mask(4, ratio, order).double().mean()


def test_cut_curve_of_the_identity_is_that_of_rgb():
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    curve = cut_curve(Pooling(1), x, (0, 0.3, 0.6))
    assert curve.latent == curve.rgb
    assert curve.rgb[0] == math.inf
    assert curve.rgb[1] > curve.rgb[2]


def test_cut_curve_of_a_model_without_weights():
    x = data.stack(data.Photos(32, "test", length=2), range(2))
    curve = cut_curve(pixel_unshuffle(2), x, (0, 0.5))
    assert curve.latent[0] == math.inf
    cut = chop_high_frequencies(nn.functional.pixel_unshuffle(x, 2), 0.5)
    assert curve.latent[1] == pytest.approx(psnr(nn.functional.pixel_shuffle(cut, 2), x).item(), abs=1e-4)


def test_cut_curve_of_a_shipped_autoencoder_starts_at_its_reconstruction():
    autoencoder = autoencoders.load("kl-f4c16")
    x = data.stack(data.Photos(resolution=64, split="test"), range(3))
    curve = cut_curve(autoencoder, x, (0, 0.5, 0.95), batch_size=2)
    with torch.no_grad():
        whole = autoencoder.decode(autoencoder.encode(x).mean)
    assert curve.latent[0] == pytest.approx(psnr(whole, x).item(), abs=1e-3)
    assert curve.latent[0] > curve.latent[1] > curve.latent[2]
    by_ssim = cut_curve(autoencoder, x, (0,), metric=ssim_per_image)
    assert by_ssim.latent[0] == pytest.approx(ssim(whole, x).item(), abs=1e-4)
    half = cut_curve(autoencoders.load("kl-f4c16", dtype=torch.bfloat16), x, (0, 0.5))
    assert half.latent == pytest.approx(curve.latent[:2], abs=0.5)
    assert half.rgb[1] == pytest.approx(curve.rgb[1], abs=1e-3)  # the originals are not rounded


def test_cut_curve_refuses_bad_cuts():
    x = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ValueError, match=r"\[0, 1\).*1.5"):
        cut_curve(Pooling(2), x, (0.5, 1.5))
    with pytest.raises(ValueError, match="multiples of 8"):
        cut_curve(Pooling(4), x, (0.5,))
    with pytest.raises(ValueError, match="0 ratios and 1 images"):
        cut_curve(Pooling(2), x, ())
