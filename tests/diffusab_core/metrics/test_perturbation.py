"""Findings 1-3 and band perturbations, on hand-made autoencoders whose answers are known."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from diffusab_core import autoencoders, data
from diffusab_core.autoencoders import Posterior, wrap
from diffusab_core.metrics import probes, psnr
from diffusab_core.metrics.aliasing import grating, pixel_unshuffle
from diffusab_core.spectrum.radial import radial_split

EDGES = (0, 0.1, 0.2, 0.35, math.sqrt(0.5))
INF = math.inf


def band_pass(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return radial_split(x, high)[0] - radial_split(x, low)[0]


@dataclass(frozen=True)
class Identity:
    """The latent is the image, times a factor."""

    factor: float = 1.0
    compression: int = 1
    latent_channels: int = 3

    def encode(self, x):
        return Posterior(self.factor * x, torch.zeros_like(x))

    def decode(self, z):
        return z / self.factor


@dataclass(frozen=True)
class Subsampling(Identity):
    compression: int = 2

    def encode(self, x):
        z = x[..., :: self.compression, :: self.compression]
        return Posterior(z, torch.zeros_like(z))

    def decode(self, z):
        return z.repeat_interleave(self.compression, -1).repeat_interleave(self.compression, -2)


def face(model, **options):
    """A hand-made model as an autoencoder."""
    return wrap(model, "by hand", probe=64, **options)


def images(n=3, side=32, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def wave(fx, side=32, amplitude=0.5):
    return (amplitude * grating(side, side, 0, fx)).float().expand(1, 3, -1, -1)


# --- Finding 1


@pytest.mark.parametrize("kind", ["ideal", "butterworth", "gaussian"])
def test_a_linear_decoder_maps_parts_to_parts(kind):
    x = images()
    parts = probes.reconstructions_by_part(face(Identity(2.0)), 2 * x, 0.2, kind)
    low, high = radial_split(x, 0.2, kind)
    for part, expected in ((parts.low, low), (parts.high, high), (parts.whole, x)):
        torch.testing.assert_close(part, expected, atol=1e-6, rtol=0)


def test_parts_of_a_shipped_latent_are_what_its_decoder_makes():
    autoencoder = autoencoders.load("kl-f8c4")
    z = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    parts = probes.reconstructions_by_part(autoencoder, z, 0.25)
    with torch.no_grad():
        for part, expected in zip((parts.low, parts.high, parts.whole), (*radial_split(z, 0.25), z), strict=True):
            torch.testing.assert_close(part, autoencoder.decode(expected))
    assert not parts.low.requires_grad


# --- Finding 2


def test_energy_by_band_is_that_of_the_bands_in_space():
    x = images(5) + torch.linspace(-1, 1, 5)[:, None, None, None]  # means of their own, which do not count
    shares = probes.rgb_energy_by_band(x, EDGES, batch_size=2)
    centred = (x - x.mean((-2, -1), keepdim=True)).double()
    total = centred.square().sum()
    expected = torch.stack([band_pass(centred, *pair).square().sum() / total for pair in pairwise(EDGES)])
    torch.testing.assert_close(shares, expected, atol=1e-6, rtol=0)
    assert shares.sum().item() == pytest.approx(1)
    torch.testing.assert_close(probes.rgb_energy_by_band(3 * x, EDGES), shares, atol=1e-6, rtol=0)


def test_the_energy_of_a_wave_lies_in_its_band():
    mixed = wave(4 / 32) + wave(12 / 32, amplitude=1.0)  # energies 1 : 4
    shares = probes.rgb_energy_by_band(mixed, EDGES)
    torch.testing.assert_close(shares, torch.tensor([0, 0.2, 0, 0.8]).double(), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="all 2 images are of one colour"):
        probes.rgb_energy_by_band(torch.full((2, 3, 32, 32), 0.3), EDGES)


def test_most_energy_of_photographs_lies_low():
    photographs = data.stack(data.Photos(64, "test", seed=0), range(4))
    assert probes.rgb_energy_by_band(photographs, EDGES)[0] > 0.8


# --- Finding 3


def test_amplitude_of_white_noise_is_known():
    noise = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    response = probes.latent_amplitude_by_cutoff(face(Identity(3.0)), noise, (INF,), EDGES)
    expected = 3 * math.sqrt(math.pi) / 2  # mean of a Rayleigh variable
    torch.testing.assert_close(response.amplitude, torch.full((1, 4), expected).double(), rtol=0.02, atol=0)


def test_a_cutoff_removes_the_bands_beyond_it_and_no_other():
    x = images()
    radii = (0.0, 0.1, 0.2, math.sqrt(0.5), INF)
    response = probes.latent_amplitude_by_cutoff(face(Identity()), x, radii, EDGES, batch_size=2)
    assert response.radii == radii
    whole = response.amplitude[-1]
    assert (whole > 0.1).all()
    for row, kept in enumerate((0, 1, 2, 4)):
        torch.testing.assert_close(response.amplitude[row, :kept], whole[:kept], atol=1e-6, rtol=0)
        assert (response.amplitude[row, kept:] < 1e-6).all()


def test_folding_raises_amplitude_where_the_latent_has_no_business():
    """Plain subsampling by 2: 3/8 cycles per pixel arrives at 1/4 of the latent, and is gone with the low-pass."""
    response = probes.latent_amplitude_by_cutoff(face(Subsampling()), wave(3 / 8), (0.25, INF), EDGES)
    assert response.amplitude[0].max() < 1e-5
    assert response.amplitude[1].argmax() == 2  # the band from 0.2 to 0.35
    assert response.amplitude[1, 2] > 0.1


def test_amplitudes_do_not_depend_on_the_batches_and_soft_masks_let_something_through():
    x = images(5) + 0.3
    one, other = (
        probes.latent_amplitude_by_cutoff(face(Identity()), x, (0.2, INF), EDGES, batch_size=b) for b in (5, 2)
    )
    torch.testing.assert_close(one.amplitude, other.amplitude, rtol=1e-5, atol=1e-6)
    soft = probes.latent_amplitude_by_cutoff(face(Identity()), x, (0.2, INF), EDGES, kind="gaussian")
    assert (soft.amplitude[0, 2:] > 0.001).all()


# --- bands removed and replaced


def test_encoder_perturbation_of_an_identity_is_the_diagonal():
    change = probes.encoder_perturbation(face(Identity(5.0)), images() + 0.2, EDGES, EDGES, batch_size=2)
    torch.testing.assert_close(change, torch.eye(4).double(), atol=1e-5, rtol=0)


def test_encoder_perturbation_finds_what_folds():
    x = wave(1 / 8) + wave(3 / 8)  # on every second pixel they are one wave, of 1/4 cycles per latent pixel
    change = probes.encoder_perturbation(face(Subsampling()), x, (0, 0.25, 0.5), (0.2, 0.3))
    torch.testing.assert_close(change, torch.full((2, 1), 0.5).double(), atol=1e-5, rtol=0)


def test_decoder_dependence_of_an_identity_is_the_energy_of_the_band():
    x = images(4)
    dependence = probes.decoder_dependence(face(Identity()), x, EDGES, batch_size=3)
    for band, (low, high) in enumerate(pairwise(EDGES)):
        gone = band_pass(x - x.mean((-2, -1), keepdim=True), low, high)
        assert dependence.psnr_without[band].item() == pytest.approx(psnr(x - gone, x).item(), abs=0.01)
    assert dependence.psnr_whole > 100
    # Phases at random: the error is |1 - e^(i phi)|^2 = 2 times the energy in the mean, 3 dB more.
    assert (dependence.psnr_without - dependence.psnr_noised).mean().item() == pytest.approx(3, abs=0.5)


def test_phase_noise_keeps_the_energy_and_the_mean():
    kept = []

    class Watching(Identity):
        def decode(self, z):
            kept.append(z.clone())
            return z

    x = images(2) + 0.1
    probes.decoder_dependence(face(Watching()), x, (0.1, 0.35))
    whole, without, noised = kept
    torch.testing.assert_close(whole, x)
    for changed in (without, noised):
        difference = changed - x
        torch.testing.assert_close(band_pass(difference, 0.1, 0.35), difference, atol=1e-5, rtol=0)
    assert band_pass(without, 0.1, 0.35).abs().max() < 1e-5
    energies = [band_pass(z, 0.1, 0.35).square().sum((-2, -1)) for z in (x, noised)]
    torch.testing.assert_close(energies[0], energies[1], rtol=1e-4, atol=0)
    torch.testing.assert_close(noised.mean((-2, -1)), x.mean((-2, -1)), atol=1e-6, rtol=0)


def test_phase_noise_is_a_function_of_seed_and_index():
    x = images(4)
    first, again, other = (
        probes.decoder_dependence(face(Identity()), x, EDGES, seed, batch_size).psnr_noised
        for seed, batch_size in ((0, 4), (0, 1), (1, 4))
    )
    torch.testing.assert_close(first, again, atol=1e-4, rtol=0)
    assert (first - other).abs().max() > 0.01


def test_unshuffled_latents_lose_at_every_band():
    """Folding is no loss, but each latent band then carries waves of several frequencies of the image."""
    x = images(2)
    dependence = probes.decoder_dependence(pixel_unshuffle(4), x, (0, 0.3, math.sqrt(0.5)))
    assert dependence.psnr_whole > 100
    assert dependence.psnr_without.max() < 20


# --- any autoencoder, any device


def test_a_shipped_autoencoder_in_other_precision_and_odd_batches():
    x = data.stack(data.Photos(64, "test", seed=1), range(3))
    edges = (0, 0.25, math.sqrt(0.5))
    exact = autoencoders.load("kl-f8c4")
    half = autoencoders.load("kl-f8c4", dtype=torch.bfloat16)
    for function in (
        lambda a: probes.latent_amplitude_by_cutoff(a, x, (0.2, INF), edges, batch_size=2).amplitude,
        lambda a: probes.encoder_perturbation(a, x, (0, 0.1, 0.5), edges, batch_size=2),
        lambda a: probes.decoder_dependence(a, x, edges, batch_size=2).psnr_without,
    ):
        torch.testing.assert_close(function(half), function(exact), rtol=0.05, atol=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    x, edges = images(2, 64), (0, 0.25, math.sqrt(0.5))
    cpu, cuda = (autoencoders.load("kl-f8c4", device) for device in ("cpu", "cuda"))
    for function in (
        lambda a: probes.latent_amplitude_by_cutoff(a, x, (0.2, INF), edges).amplitude,
        lambda a: probes.encoder_perturbation(a, x, edges, edges),
        lambda a: probes.decoder_dependence(a, x, edges).psnr_noised,
    ):
        torch.testing.assert_close(function(cuda), function(cpu), rtol=1e-2, atol=1e-2)


# --- refusals


def test_bad_input_is_refused():
    x, identity = images(1), face(Identity())
    with pytest.raises(ValueError, match=r"images must have shape \(N, 3, H, W\) .* got \(3, 32, 32\)"):
        probes.rgb_energy_by_band(x[0], EDGES)
    with pytest.raises(ValueError, match="NaN or Inf in 1 of 1 items"):
        probes.decoder_dependence(identity, x / 0, EDGES)
    for edges in ((0.1,), (0.2, 0.1), (0.1, 0.1), (-0.1, 0.2), (0, math.nan)):
        with pytest.raises(ValueError, match="edges must be two or more ascending radii"):
            probes.latent_amplitude_by_cutoff(identity, x, (INF,), edges)
    with pytest.raises(ValueError, match="latent_edges must be two or more ascending radii"):
        probes.encoder_perturbation(identity, x, EDGES, (0.5, 0.2))
    for radii in ((), (-0.1,), (math.nan,)):
        with pytest.raises(ValueError, match="radii must be cutoffs of 0 or more"):
            probes.latent_amplitude_by_cutoff(identity, x, radii, EDGES)
    with pytest.raises(ValueError, match=r"no frequency of the latent, 4 x 4, lies in the band from 0 to 0\.1 cycles"):
        probes.latent_amplitude_by_cutoff(face(Subsampling(compression=8)), x, (INF,), EDGES)
    with pytest.raises(ValueError, match="no frequency of the images, 8 x 8, lies in the band"):
        probes.rgb_energy_by_band(images(1, 8), EDGES)
