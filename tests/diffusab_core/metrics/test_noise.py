"""How much of a posterior sample is noise, against whole batches and samples."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from diffusab_core.autoencoders import Posterior
from diffusab_core.metrics.noise import PosteriorNoise
from diffusab_core.spectrum import block_dct, zigzag_order


def test_noise_is_that_of_the_whole_batch_and_does_not_depend_on_how_it_comes():
    generator = torch.Generator().manual_seed(0)
    offsets = torch.tensor([5.0, 0.0, -3.0])[:, None, None]  # an offset is neither signal nor noise
    mean = torch.randn(6, 3, 16, 16, generator=generator).cumsum(-1) + offsets
    std = torch.rand(6, 3, 16, 16, generator=generator) + torch.tensor([0.1, 3.0, 0.1])[:, None, None]
    found = []
    for pieces in ((6,), (1, 3, 2)):
        sums = PosteriorNoise(3, 8)
        for m, s in zip(mean.split(pieces), std.split(pieces), strict=True):
            sums.update(Posterior(m, s))
        found.append(sums.result())
    whole, pieces = found
    assert whole.by_frequency == pytest.approx(pieces.by_frequency, rel=1e-9)
    assert not whole.deterministic

    noise, signal = std.double().square().mean((0, 2, 3)), mean.double().var((0, 2, 3), correction=0)
    assert whole.by_channel == pytest.approx((noise / (noise + signal)).tolist(), rel=1e-6)
    assert whole.share == pytest.approx(float(noise.mean() / (noise.mean() + signal.mean())), rel=1e-6)
    kl = kl_divergence(Normal(mean.double(), std.double()), Normal(0.0, 1.0)).mean()
    assert whole.averaged_kl == pytest.approx(float(kl), rel=1e-5)
    centred = mean - mean.mean((0, 2, 3), keepdim=True)
    energy = block_dct(centred, 8).double().square().mean((0, 1, 2, 3)).flatten()[zigzag_order(8)]
    assert whole.by_frequency == pytest.approx((noise.mean() / (noise.mean() + energy)).tolist(), rel=1e-3)


def test_noise_by_frequency_is_what_samples_hold():
    """Energy of samples less that of means, over that of samples."""
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(32, 1, 32, 32, generator=generator).cumsum(-1).cumsum(-2) / 8
    mean = mean - mean.mean()
    sums = PosteriorNoise(1, 8)
    sums.update(Posterior(mean, torch.full_like(mean, 0.7)))
    drawn = mean + 0.7 * torch.randn(mean.shape, generator=generator)
    of_means, of_samples = (
        block_dct(z, 8).square().mean((0, 1, 2, 3)).flatten()[zigzag_order(8)] for z in (mean, drawn)
    )
    measured = 1 - of_means / of_samples
    torch.testing.assert_close(torch.tensor(sums.result().by_frequency).float(), measured, atol=0.1, rtol=0)


def test_a_point_is_deterministic_and_has_no_kl():
    sums = PosteriorNoise(2, 8)
    sums.update(Posterior(torch.randn(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)))
    noise = sums.result()
    assert noise.deterministic
    assert noise.averaged_kl is None
    assert (noise.share, set(noise.by_channel), set(noise.by_frequency)) == (0, {0.0}, {0.0})
