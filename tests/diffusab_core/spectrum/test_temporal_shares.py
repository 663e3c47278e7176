"""Spectra over time."""

import pytest
import scipy.fft
import torch

from diffusab_core.spectrum import temporal_shares


def test_shares_are_those_of_scipys_dct_and_know_no_offset():
    x = torch.randn(3, 2, 7, 4, 5, generator=torch.Generator().manual_seed(0)).cumsum(2)
    energy = (scipy.fft.dct(x.double().numpy(), axis=2, norm="ortho") ** 2).mean((0, 1, 3, 4))[1:]
    expected = torch.from_numpy(energy / energy.sum())
    torch.testing.assert_close(temporal_shares(x), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(temporal_shares(3 * x + 5), expected, rtol=1e-3, atol=1e-5)


def test_noise_is_even_a_cosine_is_one_rank_and_still_clips_have_none():
    noise = torch.randn(64, 4, 9, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(temporal_shares(noise), torch.full((8,), 1 / 8, dtype=torch.float64), rtol=0.02, atol=0)
    t = (torch.arange(9.0) + 0.5) * torch.pi / 9
    cosine = torch.cos(3 * t).reshape(1, 1, 9, 1, 1) + 0.5
    assert temporal_shares(cosine)[2] == pytest.approx(1)
    still = torch.rand(2, 3, 1, 4, 4).expand(-1, -1, 9, -1, -1)
    assert temporal_shares(still).tolist() == [0] * 8
    for wrong in (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 1, 4, 4)):
        with pytest.raises(ValueError, match="at least two frames"):
            temporal_shares(wrong)
