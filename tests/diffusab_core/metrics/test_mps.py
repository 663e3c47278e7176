"""On a Mac's GPU, which has no float64: what measures there gives the numbers that the CPU gives."""

import pytest
import torch
from pretended_mps import PretendedMPS

from diffusab_core import data, metrics
from diffusab_core.autoencoders import Posterior
from diffusab_core.autoencoders.gain import split_contrast
from diffusab_core.methods import tokens
from diffusab_core.methods.spectrum_matching import match_encoding
from diffusab_core.metrics import aliasing, probes, yardsticks
from diffusab_core.metrics.noise import PosteriorNoise
from diffusab_core.spectrum import ProfileAccumulator

EDGES = (0.0, 0.2, 0.5)
UNSHUFFLE = aliasing.pixel_unshuffle(4)
IMAGES = data.stack(data.Photos(32, "test", length=4), range(4))
LATENTS = UNSHUFFLE.encode(IMAGES).mean  # (4, 48, 8, 8)


def noise_of(z):
    measured = PosteriorNoise(z.shape[1])
    measured.update(Posterior(z, 0.1 + z.abs()))
    return measured.result().by_frequency


def profile_of(z):
    accumulator = ProfileAccumulator()
    accumulator.update(z)
    return accumulator.profile("median_ratio")


MEASURED = {
    "cuts": (IMAGES, lambda x: metrics.cut_curve(UNSHUFFLE, x, (0.25, 0.5)).latent),
    "gratings": (IMAGES, lambda x: aliasing.encoder_transfer(UNSHUFFLE, (0.1,), size=32, background=x).gain),
    "dependence": (IMAGES, lambda x: probes.decoder_dependence(UNSHUFFLE, x, EDGES).psnr_without),
    "image bands": (IMAGES, lambda x: probes.rgb_energy_by_band(x, EDGES)),
    "cutoffs": (IMAGES, lambda x: probes.latent_amplitude_by_cutoff(UNSHUFFLE, x, (0.1,), EDGES).amplitude),
    "perturbation": (IMAGES, lambda x: probes.encoder_perturbation(UNSHUFFLE, x, EDGES, EDGES)),
    "fed energy": (IMAGES, lambda x: probes.fed_energy(UNSHUFFLE, x, (0.1,), EDGES)),
    "matching": (IMAGES, lambda x: match_encoding(x, x[..., ::4, ::4])),
    "gain control": (IMAGES, lambda x: split_contrast(x, 1.5)),
    "energies": (LATENTS, lambda z: yardsticks.energy_ratio(z, z.flip(0) + 1)),
    "errors": (LATENTS, lambda z: yardsticks.relative_errors(lambda x, t: x / 2, z, z.flip(0), (0.5,))),
    "windows": (LATENTS, lambda z: tokens.measure_windows(z[:, :4]).fitted),
    "noise": (LATENTS, noise_of),
    "profile": (LATENTS, profile_of),
}


@pytest.mark.parametrize("what", MEASURED)
def test_numbers_are_those_of_the_cpu(what):
    x, measure = MEASURED[what]
    with torch.no_grad():
        wanted = torch.as_tensor(measure(x))
        with PretendedMPS():
            found = torch.as_tensor(measure(x.to("mps"))).cpu()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_pretended_device_refuses_what_a_gpu_refuses():
    with PretendedMPS():
        x = torch.zeros(3, device="mps")
        assert (x.device.type, (x + 1).device.type, x.cpu().device.type) == ("mps", "mps", "cpu")
        with pytest.raises(TypeError, match="float64"):
            x.double()
        with pytest.raises(RuntimeError, match="same device"):
            x + torch.zeros(3)
