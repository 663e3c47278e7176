"""Rings and ranks: what lies in them and what is kept of them, against the tools they are made of."""

import pytest
import torch

from diffusab_core import spectrum
from diffusab_core.spectrum import bands, block_idct, zigzag_order
from diffusab_core.spectrum.radial import radial_split


def test_ranks_are_in_zigzag_order_and_blocks_are_samples():
    wanted = torch.randn(
        6, 2, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )  # 6 blocks of 2 channels
    natural = torch.empty_like(wanted)
    natural[..., zigzag_order(8)] = wanted
    # Two latents of 8 x 24: three blocks side by side in each.
    blocks = natural.unflatten(-1, (8, 8)).unflatten(0, (2, 1, 3)).permute(0, 3, 1, 2, 4, 5)
    torch.testing.assert_close(bands.ranked(block_idct(blocks)), wanted)


def test_energy_shares_are_those_of_the_bands():
    x = torch.randn(2, 3, 24, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3
    within, beyond = bands.energy_shares(x, 0.2)
    centred = x - x.mean((-2, -1), keepdim=True)
    assert within == pytest.approx((radial_split(centred, 0.2)[0].square().sum() / centred.square().sum()).item())
    assert within + beyond == pytest.approx(1)
    soft = bands.energy_shares(x, 0.2, "gaussian")
    assert sum(soft) < 1  # the parts overlap, so some of the energy is in their product
    with pytest.raises(ValueError, match="every channel is constant"):
        bands.energy_shares(torch.ones(1, 3, 8, 8), 0.2)


@pytest.mark.parametrize("u", range(16))
def test_what_a_cut_keeps_of_the_image_has_the_wave_lengths_it_keeps_of_the_latent(u):
    """A wave down the rows, drawn on pixels and on positions f times as far apart: kept in both or in neither."""
    f, ratio = 2, 0.4
    waves = [torch.cos(torch.pi * (2 * torch.arange(n) + 1) * u / (2 * n)).repeat(n, 1).T for n in (f * 8, 8)]
    on_pixels = bands.keep_latent_frequencies(waves[0][None, None], f, ratio)
    assert torch.allclose(on_pixels, waves[0], atol=1e-5) or torch.allclose(on_pixels, torch.zeros(()), atol=1e-5)
    kept = bool(on_pixels.abs().max() > 1e-3)
    if u < 8:
        on_positions = spectrum.chop_high_frequencies(waves[1][None, None], ratio, 8)
        assert kept == bool(on_positions.abs().max() > 1e-3)
    else:
        assert not kept, "finer than the positions can show"


def test_keeping_the_latents_frequencies_keeps_as_many_coefficients():
    x = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    for order, ratio in (("zigzag", 0.3), ("axes", 0.5), ("zigzag", 0.0)):
        d = spectrum.block_dct(bands.keep_latent_frequencies(x, 4, ratio, order=order), 32)
        assert int((d[0, 0, 0, 0].abs() > 1e-4).sum()) == int(spectrum.frequency_mask(8, ratio, order).sum())


def test_energies_are_compared_without_their_units():
    made, real = [2.0, 1.0, 3.0], [4.0, 4.0, 4.0]
    outside, shares = bands.compare_energies(made, real)
    assert outside == pytest.approx(1.0)  # (4 / 2) over (8 / 4)
    assert shares == pytest.approx([0.5, 1.5])
    assert bands.compare_energies([7 * v for v in made], real) == (pytest.approx(outside), pytest.approx(shares))
    with pytest.raises(ValueError, match="zip"):
        bands.compare_energies(made, real[:2])


def test_second_moments_are_those_of_the_channels_at_each_rank():
    d = torch.randn(50, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, covariance = bands.second_moments(d)
    torch.testing.assert_close(mean, d.mean(0))
    for k in range(4):
        torch.testing.assert_close(covariance[k], torch.cov(d[:, :, k].T, correction=0))


@pytest.mark.parametrize("slope", [0.0, -1.5, -3.0])
def test_a_power_law_gives_its_exponent_back(slope):
    law = bands.radii().clamp_min(1e-3) ** slope
    assert bands.profile_slope(law) == pytest.approx(slope, abs=1e-9)
    assert bands.profile_slope(7 * law) == pytest.approx(slope, abs=1e-9)
    law[5] = 0  # a rank without energy says nothing
    assert bands.profile_slope(law) == pytest.approx(slope, abs=1e-9)
