"""What a sampling decoder invents: known variances by frequency come out, whatever the number of seeds."""

import pytest
import torch

from diffusab_core import autoencoders
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.autoencoders.diffusion import DiffusionAutoencoder
from diffusab_core.metrics.invention import compare_seeds, measure_invention
from diffusab_core.spectrum import block_idct, zigzag_order


def pictures(n, seed, sure=1.0):
    """Images and draws of 3 seeds about the same known means, with a known deviation at each rank, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    std = torch.empty(64, dtype=torch.float64)
    std[zigzag_order(8)] = torch.linspace(0.0, 0.3, 64, dtype=torch.float64)
    shape = (n, 3, 2, 2, 8, 8)
    mean = torch.randn(shape, generator=generator, dtype=torch.float64)
    mean, noise = mean * 0.2, torch.randn(4, *shape, generator=generator, dtype=torch.float64)
    coefficients = mean + noise * std.reshape(8, 8) * torch.tensor([1.0, sure, sure, sure]).reshape(-1, *[1] * 6)
    x, *of_seeds = block_idct(coefficients) * 2 - 1
    return x, torch.stack(of_seeds)


def test_draws_from_the_conditional_distribution_have_their_variance_and_are_calibrated():
    x, y = pictures(200, 0)
    found, wanted = compare_seeds(x, y), torch.linspace(0.0, 0.3, 64, dtype=torch.float64).square()
    torch.testing.assert_close(found.variance, wanted, rtol=0.1, atol=1e-12)
    torch.testing.assert_close(found.kept, torch.full_like(wanted, 0.04), rtol=0.15, atol=0)
    torch.testing.assert_close(found.variance + found.kept, found.energy, rtol=0.15, atol=0)
    torch.testing.assert_close(found.calibration[1:], torch.ones(63, dtype=torch.float64), rtol=0.15, atol=0)
    assert found.invented_share[0] == pytest.approx(0, abs=1e-12)
    assert found.invented_share[63] == pytest.approx(0.09 / 0.13, rel=0.1)


def test_a_decoder_that_is_too_sure_is_found_out():
    found = compare_seeds(*pictures(200, 1, sure=0.5))
    assert found.calibration[1:].mean().item() == pytest.approx((1 + 0.25) / (2 * 0.25), rel=0.1)
    assert (found.variance + found.kept)[63] < 0.7 * found.energy[63]


def test_two_seeds_are_as_unbiased_as_three():
    x, y = pictures(400, 2)
    two, three = compare_seeds(x, y[:2]), compare_seeds(x, y)
    torch.testing.assert_close(two.kept.mean(), three.kept.mean(), rtol=0.02, atol=0)
    torch.testing.assert_close(two.variance.mean(), three.variance.mean(), rtol=0.03, atol=0)


@pytest.mark.parametrize("seeds", [1, 0])
def test_fewer_than_two_seeds_are_refused(seeds):
    x, y = pictures(1, 0)
    with pytest.raises(ValueError, match=rf"\({seeds}, 1, 3, 16, 16\)"):
        compare_seeds(x, y[:seeds])


def test_it_is_the_same_in_batches_of_any_size_and_nothing_for_one_pass():
    torch.manual_seed(0)
    module = DiffusionAutoencoder(block_out_channels=(8, 8), latent_channels=3, norm_num_groups=4, decoder_steps=2)
    torch.nn.init.normal_(module.decoder.conv_out.weight, std=0.05)
    own, images = Autoencoder("own", module.eval()), torch.rand(5, 3, 16, 16) * 2 - 1
    whole, parts = (measure_invention(own, images, range(2), batch_size=size) for size in (5, 2))
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert whole.invented_share[1:].min() > 0.5
    kl = measure_invention(autoencoders.load("kl-f4c4"), torch.rand(2, 3, 32, 32) * 2 - 1, range(2))
    assert not kl.variance.any()
