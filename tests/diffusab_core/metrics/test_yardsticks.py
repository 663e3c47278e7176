"""Yardsticks: properties that hold exactly, and closed forms."""

import pytest
import torch
from small_features import Toy, known, pictures, quiet
from torch.nn import functional as F

from diffusab_core import autoencoders, metrics
from diffusab_core.latents import TensorLatents
from diffusab_core.metrics import yardsticks
from diffusab_core.metrics.samples import describe
from diffusab_core.spectrum.bands import ranked
from diffusab_core.spectrum.dct import block_dct, block_idct, zigzag_order


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scaled(x, gains):
    """Latents of 8 x 8 with a gain at each zigzag rank."""
    d = block_dct(x).flatten(-2)
    d[..., zigzag_order(8)] *= gains
    return block_idct(d.unflatten(-1, (8, 8)))


# ---------------------------------------------------------------------------------------------------------------------
# Samples of the posterior


def test_a_posterior_sample_depends_on_its_index_alone():
    latents = TensorLatents(noise(6, 2, 8, 8), 0.5 + noise(6, 2, 8, 8, seed=1).abs())
    whole = yardsticks.posterior_samples(latents, range(6), seed=3)
    assert torch.equal(whole[[4, 1]], yardsticks.posterior_samples(latents, [4, 1], seed=3))
    assert not torch.equal(whole, yardsticks.posterior_samples(latents, range(6), seed=4))
    mean, std, _ = latents.posterior(range(6))
    assert ((whole - mean) / std).std() == pytest.approx(1, abs=0.06)


# ---------------------------------------------------------------------------------------------------------------------
# Permuting and zeroing bands


@pytest.mark.parametrize("band", yardsticks.BANDS)
def test_permuting_a_band_moves_it_between_latents_and_nothing_else(band):
    z = noise(9, 3, 16, 16)
    changed = yardsticks.permute_band(z, band, seed=1)
    before, after = (ranked(x).reshape(9, 4, 3, 64) for x in (z, changed))  # (N, blocks, C, K)
    inside = torch.zeros(64, dtype=torch.bool)
    inside[band[0] : band[1] + 1] = True
    assert torch.allclose(after[..., ~inside], before[..., ~inside], atol=1e-5)
    off = torch.cdist(after[..., inside].flatten(1), before[..., inside].flatten(1))
    whose = off.argmin(1)
    assert off.amin(1).max() < 1e-4, "a band that belongs to no latent"
    assert sorted(whose.tolist()) == list(range(9))
    assert not (whose == torch.arange(9)).any()


def test_zeroing_leaves_the_mean_of_a_band_and_no_variation():
    z = noise(8, 3, 16, 16) + 2
    changed = yardsticks.zero_band(z, (0, 3))
    d = ranked(changed)
    assert d[..., :4].std(0).max() < 1e-5
    assert torch.allclose(d.mean(0), ranked(z).mean(0), atol=1e-5)
    assert torch.allclose(d[..., 4:], ranked(z)[..., 4:], atol=1e-5)


@pytest.mark.parametrize("band", [(0, 64), (-1, 3), (5, 4)])
def test_bands_that_are_none_are_refused(band):
    with pytest.raises(ValueError, match=str(band[0])):
        yardsticks.permute_band(noise(4, 1, 8, 8), band)
    with pytest.raises(ValueError, match="got 1"):
        yardsticks.permute_band(noise(1, 1, 8, 8), (0, 3))


@pytest.mark.parametrize("block_size", [1, 2, 4, 7, 8, 16])
def test_bands_hold_every_rank_once(block_size):
    bands = yardsticks.choose_bands(block_size)
    assert [rank for first, last in bands for rank in range(first, last + 1)] == list(range(block_size**2))
    assert bands[0] == (0, 0)
    assert (bands == yardsticks.BANDS) == (block_size == 8)


# ---------------------------------------------------------------------------------------------------------------------
# The ruler


def shrink(z):
    return F.avg_pool2d(z, 2)  # latents of 3 x 8 x 8 to the toy's pictures of 4 x 4


def test_the_ruler_against_the_same_by_hand():
    toy, real, other = Toy(), 0.3 * noise(300, 3, 8, 8), 0.3 * noise(300, 3, 8, 8, seed=1)
    ref = known(yardsticks.decoded(shrink, other), toy)
    bands = ((0, 0), (1, 9), (40, 63), (0, 63))
    ruler = yardsticks.measure_ruler(shrink, real, ref, toy, bands=bands)
    assert ruler.floor == pytest.approx(quiet(shrink(real).split(50), ref, toy)["frechet_toy"])
    changed = yardsticks.zero_band(real, (1, 9))
    assert ruler.zeroed[1] == pytest.approx(quiet([shrink(changed)], ref, toy)["frechet_toy"])
    assert ruler.permuted[3] == pytest.approx(ruler.floor), "whole latents changed places, which is no change"
    # Independent coefficients: a permuted band is as good as before, a zeroed one lacks its variance.
    assert max(ruler.permuted) < 3 * ruler.floor
    assert ruler.zeroed[1] > 3 * ruler.floor
    assert ruler.noise < 3 * ruler.floor, "these latents are white noise already"
    assert ruler.bands == bands


def test_permuting_a_band_costs_where_bands_go_together():
    toy, real = Toy(), 0.3 * noise(400, 3, 8, 8)
    real *= noise(400, 1, 1, 1, seed=2).exp() / 2  # a loud latent is loud in all bands

    def decode(z):
        return shrink(z.abs() - 0.3)

    ref = known(yardsticks.decoded(decode, real), toy)
    ruler = yardsticks.measure_ruler(decode, real, ref, toy, bands=((1, 9),))
    assert ruler.floor < 1e-6 < 1e-3 < ruler.permuted[0]


def test_one_description_serves_two_references():
    toy, fake = Toy(), pictures(80, 5)
    refs = [known(pictures(90, seed).split(30), toy) for seed in (0, 1)]
    found = describe(fake.split(16), toy, quantised=True, keep=60)
    for ref in refs:
        assert quiet(found, ref, toy, precision_recall=60) == quiet(fake.split(16), ref, toy, precision_recall=60)


def test_on_a_shipped_autoencoder_every_band_costs_and_noise_costs_most():
    from diffusab_core import data

    autoencoder, features = autoencoders.load("kl-f4c16"), metrics.offline_features()
    crops = data.Photos(32, "train", seed=5, length=256)
    with torch.no_grad():
        z = torch.cat([autoencoder.encode(data.stack(crops, range(i, i + 64))).mean for i in range(0, 256, 64)])
    ref = metrics.reference(yardsticks.decoded(autoencoder.decode, z[:128]), features, progress=False)
    bands = ((1, 3), (32, 63))
    ruler = yardsticks.measure_ruler(autoencoder.decode, z[128:], ref, features, bands=bands)
    assert 1.3 * ruler.floor < min(ruler.permuted)
    assert ruler.floor < min(ruler.zeroed)
    assert 10 * max(ruler.permuted + ruler.zeroed) < ruler.noise


# ---------------------------------------------------------------------------------------------------------------------
# Errors and energies by rank


def test_the_error_of_the_best_velocity_of_gaussian_latents_is_known():
    sigma = torch.linspace(2, 0.1, 64)
    x, eps = scaled(noise(4000, 1, 8, 8), sigma), noise(4000, 1, 8, 8, seed=1)

    def velocity(x_t, t):
        (t,) = t.unique().tolist()
        variance = (1 - t) ** 2 * sigma**2 + t**2
        return scaled(x_t, (t - (1 - t) * sigma**2) / variance)  # E[eps - x | x_t], rank by rank

    times = (0.2, 0.5, 0.9)
    found = yardsticks.relative_errors(velocity, x, eps, times)
    t = torch.tensor(times, dtype=torch.float64)[:, None]
    expected = t**2 / ((1 - t) ** 2 * sigma.double() ** 2 + t**2)  # posterior variance over sigma²
    assert torch.allclose(found, expected, rtol=0.1)


def test_perfect_and_empty_estimates_and_undone_coordinates():
    x, eps, gains = noise(50, 2, 16, 16), noise(50, 2, 16, 16, seed=1), torch.linspace(3, 0.2, 64)
    points = iter(x.split(20))  # the estimates below know the latent by its place
    perfect = yardsticks.relative_errors(lambda x_t, t: (x_t - next(points)) / t[0], x, eps, [0.4], batch_size=20)
    assert perfect.max() < 1e-10
    empty = yardsticks.relative_errors(lambda x_t, t: x_t / t[0], x, eps, [0.4, 0.8])
    assert torch.allclose(empty, torch.ones_like(empty), atol=1e-4)

    def halved(x_t, t):
        return (x_t - x_t.roll(1, 0) / 2) / t[0]

    plain = yardsticks.relative_errors(halved, x, eps, [0.5])
    # Error and energy are both undone: a gain for each rank leaves the ratio of each rank alone.
    undone = yardsticks.relative_errors(halved, x, eps, [0.5], back=lambda z: scaled(z, gains))
    assert torch.allclose(plain, undone, rtol=1e-3)
    shuffled = yardsticks.relative_errors(halved, x, eps, [0.5], back=lambda z: z.flip(-1, -2))
    assert torch.allclose(plain, shuffled, rtol=1e-3), "mirroring only turns signs"


def test_the_energy_ratio_is_that_of_the_gains():
    gains = torch.linspace(2, 0.5, 64)
    x = noise(20, 3, 8, 8)
    assert torch.allclose(yardsticks.energy_ratio(scaled(x, gains), x), gains.double() ** 2, rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# Memorisation


def test_nearest_distances_agree_with_every_pair():
    a, b = 5 + noise(37, 4, 8, 8), 5 + noise(90, 4, 8, 8, seed=1)
    expected = torch.cdist(a.flatten(1).double(), b.flatten(1).double()).amin(1) / 16
    assert torch.allclose(yardsticks.nearest_distances(a, b, chunk=10).double(), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="4, 8, 4"):
        yardsticks.nearest_distances(a, b[..., :4])


def test_copies_of_training_latents_are_found_and_fresh_ones_are_not():
    training, held_out = noise(500, 4, 8, 8), noise(400, 4, 8, 8, seed=1)
    fresh = noise(400, 4, 8, 8, seed=2)
    real = yardsticks.nearest_distances(held_out, training)
    found = yardsticks.compare_nearest(yardsticks.nearest_distances(fresh, training), real)
    assert found.ratio == pytest.approx(1, abs=0.01)
    assert found.share < 0.04
    copies = torch.cat([fresh[:300], training[:100] + 0.05 * noise(100, 4, 8, 8, seed=3)])
    found = yardsticks.compare_nearest(yardsticks.nearest_distances(copies, training), real)
    assert found.share == pytest.approx(0.25, abs=0.03)
    assert found.samples[300:].max() < 0.1 < found.held_out.min()
