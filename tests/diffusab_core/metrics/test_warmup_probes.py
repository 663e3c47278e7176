"""What a warm-up on low-passed images feeds, against Parseval, linear encoders and constructed latents."""

import math

import pytest
import torch

from diffusab_core import data
from diffusab_core.autoencoders import Posterior, wrap
from diffusab_core.metrics.probes import EDGES, WHOLE, band_stakes, exposure, fed_energy
from diffusab_core.spectrum.bands import band_masks, ranked, second_moments
from diffusab_core.spectrum.radial import radial_split


class Strided:
    """A linear encoder that folds: grey, a 2 x 2 mean, every fourth position."""

    def encode(self, x):
        return Posterior(mean=self.features(x)[..., ::4, ::4], std=torch.zeros(()))

    def features(self, x):
        return torch.nn.functional.avg_pool2d(x[:, :2], 2)


class Normed(Strided):
    """The same behind a normalisation layer, so not linear."""

    def features(self, x):
        return super().features(x / x.std((-3, -2, -1), keepdim=True))


def face(model):
    return wrap(model, "by hand", dtype=torch.float64, probe=64)


@pytest.fixture(scope="module")
def noise():
    return torch.randn(64, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_normalised_latents_have_unit_energy_in_all(noise):
    """Parseval: the mean over all frequencies of whole images' energy is the variance, which is one."""
    energy = fed_energy(face(Strided()), noise, [math.inf])[0]
    counts = band_masks(8, 8, EDGES, "latent").flatten(1).sum(1)
    z = Strided().encode(noise).mean
    z = (z - z.mean((0, 2, 3), keepdim=True)) / z.std((0, 2, 3), keepdim=True, correction=0)
    zero = torch.fft.fft2(z, norm="ortho")[..., 0, 0].abs().square().mean()
    assert (energy * counts).sum() + zero == pytest.approx(64)


def test_a_linear_encoder_never_gains_energy_and_a_normalised_one_does(noise):
    encoders = face(Strided()), face(Normed())
    linear, normed = (fed_energy(e, noise, [0.2, math.inf], edges=(0, WHOLE)) for e in encoders)
    kept = math.pi * 0.2**2  # of white noise, the share of frequencies within the radius
    assert linear[0] / linear[1] < 0.6
    assert normed[0] / normed[1] == pytest.approx(((linear[0] / linear[1]) / kept).item(), rel=0.05)
    assert normed[0] > normed[1]


def test_scale_and_offset_of_channels_do_not_matter(noise):
    class Scaled(Strided):
        def features(self, x):
            return super().features(x) * torch.tensor([5.0, 0.1])[:, None, None] + 3

    scaled, plain = (fed_energy(face(e), noise, [0.1, 0.3]) for e in (Scaled(), Strided()))
    torch.testing.assert_close(scaled, plain)


def test_batches_do_not_matter(noise):
    few = noise[:10]
    in_batches = fed_energy(face(Strided()), few, [0.2], batch_size=3)
    torch.testing.assert_close(in_batches, fed_energy(face(Strided()), few, [0.2]))


def test_everything_is_the_whole_image(noise):
    whole, all_frequencies = fed_energy(face(Strided()), noise[:8], [math.inf, WHOLE])
    torch.testing.assert_close(whole, all_frequencies)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radii": [-0.1]}, r"0 or more in cycles per pixel.*-0\.1"),
        ({"radii": []}, "cutoffs of 0 or more"),
        ({"edges": (0.5, 0.2)}, "ascending"),
        ({"x": torch.zeros(2, 3, 32, 32)}, "channel 0 of the latents of all images is constant"),
        ({"x": torch.zeros(2, 1, 32, 32)}, r"\(2, 1, 32, 32\)"),
    ],
)
def test_what_cannot_be_measured_is_refused(noise, change, message):
    given = {"x": noise[:2], "radii": [0.2]} | change
    with pytest.raises(ValueError, match=message):
        fed_energy(face(Strided()), **given)


def coefficients(seed, n=4000, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, 2, 64, generator=generator, dtype=torch.float64)


def test_exposure_of_a_known_gain():
    """Halving the amplitude at one rank leaves a quarter of the energy there, at distance (1 - 1/2)²."""
    whole = coefficients(1)
    low = whole.clone()
    low[..., 40] = 0.5 * whole[..., 40] - 0.5 * whole[..., 40].mean(0) + whole[..., 40].mean(0)
    low[..., 50] = whole[..., 50].mean(0)  # nothing but the right mean
    found = exposure(whole, low)
    expected = torch.ones(64, dtype=torch.float64)
    expected[40], expected[50] = 0.25, 0
    torch.testing.assert_close(found.ratio, expected)
    assert found.distance[40].item() == pytest.approx(0.25, rel=1e-6)
    assert found.distance[50].item() == pytest.approx(1, rel=1e-6)
    others = torch.ones(64, dtype=torch.bool)
    others[[40, 50]] = False
    assert found.distance[others].max() < 1e-9
    torch.testing.assert_close(found.energy, whole.var(0, correction=0).mean(0))


def test_no_coupling_is_cheaper_than_the_distance():
    """The distance is the least mean squared change that turns one into the other: pairing the images costs more."""
    x = data.stack(data.Photos(32, "train", seed=3, length=40), range(40)).double()
    whole, low = ranked(x), ranked(radial_split(x, 0.2)[0])
    paired = (whole - low).square().sum(1).mean(0) / second_moments(whole)[1].diagonal(dim1=1, dim2=2).sum(1)
    found = exposure(whole, low)
    assert (found.distance <= paired + 1e-9).all()
    assert found.distance.max() > 0.1  # and it is not nothing


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exposure(coefficients(0), coefficients(0)[:, :1]), r"\(4000, 1, 64\) do not compare"),
        (lambda: exposure(torch.zeros(4, 1, 64, dtype=torch.float64), coefficients(0)[:, :1]), "vary at rank 0"),
    ],
)
def test_exposure_of_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class Scaled:
    """A latent of 8 x 8 that is the image times a gain for each channel, and a decoder that divides by another."""

    def __init__(self, up, down):
        self.up, self.down = (torch.tensor(gains, dtype=torch.float64)[:, None, None] for gains in (up, down))

    def encode(self, x):
        return Posterior(mean=x * self.up, std=torch.zeros(()))

    def decode(self, z):
        return z / self.down


BANDS = {"low": slice(1, 10), "high": slice(32, 64), "all": slice(64)}


@pytest.fixture(scope="module")
def blocks():
    """White noise of 8 x 8 whose channels are correlated."""
    white = torch.randn(2000, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return 0.1 * torch.einsum("cd,ndhw->nchw", torch.tensor([[1, 0, 0], [0.5, 1, 0], [0, 0, 2.0]]).double(), white)


def test_the_stake_of_a_linear_decoder_is_what_is_lost_without_the_band(blocks):
    stakes = band_stakes(wrap(Scaled([1, 1, 1], [1, 1, 1]), "by hand", dtype=torch.float64, probe=8), blocks, BANDS)
    for name, ranks in (("low", 9), ("high", 32), ("all", 64)):
        assert stakes[name].removed == pytest.approx(ranks / 64, rel=0.03)
        assert stakes[name].stake == pytest.approx(ranks / 64, rel=0.03)
        assert stakes[name].energy == pytest.approx(3 * ranks, rel=0.03)
    assert stakes["low"].gain == pytest.approx(stakes["low"].stake / stakes["low"].energy)


def test_a_gain_that_is_undone_leaves_the_stake_and_one_that_is_not_changes_it(blocks):
    plain, undone, kept = (
        band_stakes(wrap(Scaled(*gains), "by hand", dtype=torch.float64, probe=8), blocks, BANDS)["high"]
        for gains in (([1, 1, 1], [1, 1, 1]), ([3, 0.5, 1], [3, 0.5, 1]), ([1, 1, 1], [0.5, 0.5, 0.5]))
    )
    assert undone.stake == pytest.approx(plain.stake)
    assert kept.stake == pytest.approx(4 * plain.stake)
    assert kept.energy == pytest.approx(plain.energy)


def test_what_has_no_stake_is_refused(blocks):
    autoencoder = wrap(Scaled([1, 1, 1], [1, 1, 1]), "by hand", dtype=torch.float64, probe=8)
    with pytest.raises(ValueError, match="above 0, got 0"):
        band_stakes(autoencoder, blocks, BANDS, share=0)
    with pytest.raises(ValueError, match="one square block"):
        band_stakes(autoencoder, blocks[..., :4], BANDS)
