"""Gratings arrive where hand-made encoders of known aliasing put them, and nowhere else."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers.models.downsampling import Downsample2D
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusab_core import autoencoders
from diffusab_core.autoencoders import Posterior, wrap
from diffusab_core.autoencoders.blurred import BlurPool, blur_pooled
from diffusab_core.metrics import aliasing
from diffusab_core.metrics.aliasing import encoder_transfer, folded_frequency, grating
from diffusab_core.spectrum.radial import radial_split


@dataclass(frozen=True)
class Subsampling:
    """Every stride-th pixel, after an optional ideal low-pass at the latent's Nyquist frequency; held on decoding."""

    compression: int = 4
    anti_aliased: bool = False
    offset: int = 0

    def encode(self, x):
        x = radial_split(x, 0.499 / self.compression)[0] if self.anti_aliased else x
        z = x[..., self.offset :: self.compression, self.offset :: self.compression]
        return Posterior(z, torch.zeros_like(z))

    def decode(self, z):
        return z.repeat_interleave(self.compression, -1).repeat_interleave(self.compression, -2)


def face(model, **options):
    """A hand-made model as an autoencoder."""
    return wrap(model, "by hand", probe=64, **options)


# --- gratings and folding


@settings(max_examples=30, deadline=None)
@given(h=st.integers(1, 12), w=st.integers(1, 12), data=st.data(), phase=st.floats(-4, 4))
def test_a_grating_has_one_frequency(h, w, data, phase):
    down, across = data.draw(st.integers(-(h // 2), h // 2)), data.draw(st.integers(-(w // 2), w // 2))
    wave = grating(h, w, down / h, across / w, phase)
    assert wave.shape == (h, w)
    spectrum = np.fft.fft2(wave.numpy()) / (h * w)
    expected = np.zeros((h, w), complex)
    expected[down % h, across % w] += np.exp(1j * phase) / 2
    expected[-down % h, -across % w] += np.exp(-1j * phase) / 2
    np.testing.assert_allclose(spectrum, expected, atol=1e-12)


def test_gratings_off_the_grid_are_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"fx = 0\.1 is 3\.2 cycles over 32 pixels.*3, at 0\.09375"):
        grating(16, 32, 0.25, 0.1)
    for frequency in (0.6, -0.51, math.nan):
        with pytest.raises(ValueError, match=f"fy must be at most 0.5 .* got {frequency}"):
            grating(16, 16, frequency, 0)


@settings(max_examples=100, deadline=None)
@given(cycles=st.integers(0, 24), stride=st.sampled_from([1, 2, 3, 4, 6, 8, 12]))
def test_folded_frequency_is_where_subsampling_puts_a_wave(cycles, stride):
    wave = grating(1, 48, 0, cycles / 48, 0.3)[0, ::stride]
    found = np.abs(np.fft.rfft(wave.numpy())).argmax() / len(wave)
    assert folded_frequency(cycles / 48, stride) == pytest.approx(found, abs=1e-12)


def test_folding_of_known_cases_and_bad_input():
    assert folded_frequency(0.3, 1) == pytest.approx(0.3)
    assert folded_frequency(0.3, 2) == pytest.approx(0.4)
    assert folded_frequency(-0.3, 2) == pytest.approx(0.4)
    assert folded_frequency(0.125, 8) == 0
    assert folded_frequency(0.0625, 8) == 0.5
    for stride in (0, 1.5):
        with pytest.raises(ValueError, match=f"integer stride of at least 1, got 0.1 and {stride}"):
            folded_frequency(0.1, stride)
    with pytest.raises(ValueError, match=r"finite frequency .* got inf"):
        folded_frequency(math.inf, 2)


# --- transfer

FREQUENCIES = (1 / 32, 3 / 32, 1 / 8, 5 / 32, 1 / 4, 11 / 32, 1 / 2)  # Nyquist of a latent of stride 4: 1/8


@pytest.mark.parametrize("offset", [0, 2])
def test_plain_subsampling_folds_everything_beyond_nyquist(offset):
    transfer = encoder_transfer(face(Subsampling(4, offset=offset)), FREQUENCIES, angles=(0, 90), size=32)
    beyond = torch.tensor(FREQUENCIES) > 1 / 8
    torch.testing.assert_close(transfer.frequencies, torch.tensor(FREQUENCIES).double())
    torch.testing.assert_close(transfer.gain, torch.ones(7).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(transfer.folded_share, beyond.double(), atol=1e-5, rtol=0)
    assert transfer.spread_share.max() < 1e-5
    assert transfer.beyond_nyquist.tolist() == beyond.tolist()
    assert transfer.reconstruction_error[beyond].min() > 0.9  # one channel cannot tell the wave from its alias


@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 90.0, 135.0])
def test_the_prediction_holds_in_every_direction(angle):
    transfer = encoder_transfer(face(Subsampling(4)), (1 / 16, 0.3, 0.45), angles=(angle,), size=64)
    torch.testing.assert_close(transfer.gain, torch.ones(3).double(), atol=1e-5, rtol=0)
    assert transfer.spread_share.max() < 1e-5


def test_an_anti_aliased_encoder_folds_nothing():
    transfer = encoder_transfer(face(Subsampling(4, anti_aliased=True)), FREQUENCIES, angles=(0, 90), size=32)
    below = torch.tensor(FREQUENCIES) < 1 / 8
    torch.testing.assert_close(transfer.gain[below], torch.ones(2).double(), atol=1e-5, rtol=0)
    assert transfer.gain[~below].max() < 1e-10
    torch.testing.assert_close(transfer.reconstruction_error[~below], torch.ones(5).double(), atol=1e-5, rtol=0)
    assert transfer.folded_share[~below].isnan().all()  # of no response there is no share
    assert (transfer.folded_share[below] == 0).all()


def test_folding_alone_is_not_loss():
    transfer = encoder_transfer(aliasing.pixel_unshuffle(4), FREQUENCIES, angles=(0, 45), size=32)
    beyond = transfer.beyond_nyquist == 1
    assert beyond.any()
    torch.testing.assert_close(transfer.gain, torch.ones(7).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(transfer.folded_share[beyond], torch.ones(int(beyond.sum())).double(), atol=1e-5, rtol=0)
    assert transfer.reconstruction_error.max() < 1e-6


def test_a_linear_encoder_responds_alike_on_any_background():
    background = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain = encoder_transfer(face(Subsampling(4)), FREQUENCIES, size=32, angles=(0,))
    pairs = encoder_transfer(
        face(Subsampling(4)), FREQUENCIES, size=32, angles=(0,), background=background, batch_size=2
    )
    torch.testing.assert_close(pairs.gain, plain.gain, atol=1e-4, rtol=0)
    torch.testing.assert_close(pairs.reconstruction_error, plain.reconstruction_error, atol=1e-4, rtol=0)
    assert pairs.spread_share.max() < 1e-4


def test_what_arrives_elsewhere_is_spread_and_not_folded():
    class Squaring(Subsampling):
        def encode(self, x):
            return super().encode(x**2)  # a wave of frequency f becomes one of 2f, and a constant

    transfer = encoder_transfer(face(Squaring(4)), (1 / 32, 5 / 32), angles=(0,), size=32)
    assert transfer.spread_share.min() > 0.999
    assert transfer.gain.max() < 1e-6


def test_a_partial_band_of_angles_is_counted():
    transfer = encoder_transfer(
        face(Subsampling(4)), (0.14,), angles=(0, 45), size=128
    )  # at 45 degrees: 0.099 on each axis
    assert transfer.beyond_nyquist.item() == 0.5
    assert transfer.folded_share.item() == pytest.approx(0.5, abs=1e-5)
    assert transfer.spread_share.item() == pytest.approx(0, abs=1e-5)


def test_shipped_encoder_folds_and_its_low_passed_version_does_not():
    autoencoder = autoencoders.load("kl-f8c4")
    transfers = [
        encoder_transfer(model, (0.125, 0.15625), angles=(0,), size=64)
        for model in (autoencoder, aliasing.low_passed(autoencoder))
    ]
    assert transfers[0].gain.min() > 1e-3
    assert transfers[1].gain.max() < 1e-10
    assert transfers[1].reconstruction_error.min() > 0.99


def test_blur_pooling_keeps_shapes_and_the_original_and_damps_what_would_fold():
    autoencoder = autoencoders.load("kl-f8c4")
    blurred = blur_pooled(autoencoder)
    x = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        before = autoencoder.encode(x).mean
        after = blurred.encode(x).mean
        again = autoencoder.encode(x).mean
    assert after.shape == before.shape
    assert torch.equal(again, before)
    assert (after - before).abs().max() > 0.01
    strided, smooth = (encoder_transfer(a, (0.1875, 0.40625), angles=(0,), size=64) for a in (autoencoder, blurred))
    assert (smooth.gain < strided.gain).all()


def test_blur_pool_is_a_convolution_then_a_binomial_filter():
    convolution = torch.nn.Conv2d(2, 3, 3, stride=2)
    x = torch.randn(1, 2, 13, 13, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = BlurPool(convolution, (1, 2, 1))(x)
        dense = torch.nn.functional.conv2d(x, convolution.weight, convolution.bias)  # (1, 3, 11, 11)
        # With a filter of one tap nothing is blurred: the dense convolution at every second place is the strided one.
        torch.testing.assert_close(BlurPool(convolution, (1,))(x), convolution(x))
    assert convolution.stride == (2, 2)
    row = np.array([1, 2, 1]) / 4
    expected = np.einsum("i,j,cij->c", row, row, dense[0, :, 3:6, 5:8].numpy())  # about (4, 6)
    np.testing.assert_allclose(y[0, :, 2, 3].numpy(), expected, atol=1e-5)


def test_blur_pooling_refuses():
    bare = autoencoders.load("kl-f8c4").module
    for layer in bare.encoder.modules():
        if isinstance(layer, Downsample2D):
            layer.use_conv = False
    with pytest.raises(ValueError, match="has no strided convolution"):
        blur_pooled(autoencoders.Autoencoder("bare", bare))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 30}, "multiple of the compression, 4, got 30"),
        ({"amplitude": 0}, "amplitude must be a finite number other than 0, got 0"),
        ({"frequencies": ()}, "frequencies is empty"),
        ({"angles": ()}, "angles is empty"),
        ({"frequencies": (0.6,), "angles": (0,)}, "no grating of 0.6 cycles per pixel at 0 degrees"),
        ({"frequencies": (0.01,)}, "no grating of 0.01 cycles per pixel .* at least one whole cycle"),
        ({"frequencies": (0.0,)}, "a frequency above 0 .* got 0.0 at 0.0 degrees"),
        ({"frequencies": (math.nan,)}, "a frequency above 0 .* got nan"),
        ({"background": torch.zeros(2, 3, 16, 16)}, r"must be of 32 x 32 pixels, got \(2, 3, 16, 16\)"),
        ({"background": torch.full((1, 3, 32, 32), math.nan)}, "NaN or Inf in 1 of 1 items"),
    ],
)
def test_bad_input_is_refused(options, message):
    arguments = {"frequencies": (0.25,), "size": 32} | options
    with pytest.raises(ValueError, match=message):
        encoder_transfer(face(Subsampling(4)), **arguments)
