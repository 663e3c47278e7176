"""What PSNR hides: colour casts, lost detail, latents whose channels repeat each other."""

import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from diffusab_core import autoencoders, data
from diffusab_core.metrics import measure_material, psnr
from diffusab_core.metrics.material import channel_ranks, colour_error, energy_kept
from diffusab_core.spectrum import block_dct, block_idct, zigzag_order


@pytest.fixture(scope="module")
def crops():
    return data.stack(data.Photos(64, "test", seed=3, length=4), range(4))


def test_a_cast_is_told_in_levels(crops):
    x = 0.8 * crops
    assert colour_error(x, x) == 0
    cast = torch.tensor([4.0, -4.0, 1.0])[:, None, None] / 127.5
    assert colour_error(x, x + cast) == pytest.approx(3.0, rel=1e-4)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert colour_error(x, x + 0.01 * (noise - noise.mean((-2, -1), keepdim=True))) < 0.01
    assert colour_error(torch.ones(1, 3, 8, 8), torch.full((1, 3, 8, 8), 1.5)) == 0  # as it is saved


def test_detail_is_told_by_energy_and_by_what_is_right(crops):
    x = 0.8 * crops
    assert energy_kept(x, x) == pytest.approx((1.0, 1.0))
    d = block_dct(x, 8).flatten(-2)
    d[..., zigzag_order(8)[32:]] *= 0.5
    half = block_idct(d.unflatten(-1, (8, 8)))
    assert energy_kept(x, half) == pytest.approx((0.25, 0.75), rel=0.02)  # clamping changes a little
    kept = [energy_kept(x, gaussian_blur(x, 9, s))[0] for s in (0.4, 0.7, 1.2)]
    assert kept == sorted(kept, reverse=True)
    # The same amplitudes with other signs: all the energy, and none of it right.
    signs = torch.randint(0, 2, d.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    d = block_dct(x, 8).flatten(-2)
    ranks = zigzag_order(8)[32:]
    d[..., ranks] *= signs[..., ranks]
    there, right = energy_kept(x, block_idct(d.unflatten(-1, (8, 8))))
    assert there == pytest.approx(1, abs=0.03)
    assert right == pytest.approx(-1, abs=0.2)
    with pytest.raises(ValueError, match=r"\(4, 3, 64, 64\)"):
        energy_kept(x, x[:1])


def test_channels_made_of_fewer_maps_have_their_rank():
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(6, 5, 8, 8, generator=g)
    mixed = torch.einsum("cm,nmhw->nchw", torch.randn(16, 5, generator=g), maps)
    assert channel_ranks(mixed + 3)[0] == 5
    rank, effective = channel_ranks(torch.randn(64, 4, 16, 16, generator=g))
    assert (rank, effective) == (4, pytest.approx(4, rel=1e-3))
    lopsided = maps * torch.tensor([100.0, 1, 1, 1, 1])[:, None, None]
    assert channel_ranks(lopsided)[1] < 1.1
    assert channel_ranks(maps[:, :1]) == (1, pytest.approx(1.0))


def test_all_of_a_shipped_autoencoder(crops):
    autoencoder = autoencoders.load("kl-f4c16")
    found = measure_material(autoencoder, crops, batch_size=3)
    with torch.no_grad():
        y = autoencoder.decode(autoencoder.encode(crops).mean)
    assert found["colour_error"] == pytest.approx(colour_error(crops, y), rel=1e-4)
    assert psnr(crops, y) < 30
    assert found["high_frequency_kept"] < 0.3, "no perceptual term: texture is smoothed"
    assert -3 < found["latent_slope"] < -1
    assert found["latent_rank"] == 16
