"""Spectrum Matching against direct slow versions, its zeros, its direction, its draws, and its place in fine-tuning."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import scipy.fft
import torch

from diffusab_core import autoencoders, data
from diffusab_core.methods import finetuning, regularizers, spectrum_matching
from diffusab_core.methods.finetuning import Finetuning
from diffusab_core.methods.spectrum_matching import band_powers, match_decoding, match_encoding, ratio_of_diagonals
from diffusab_core.spectrum import block_dct
from diffusab_core.spectrum.dct import whole_dct, whole_idct


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def nearest_up(z, f=2):
    return z[:, :3].repeat_interleave(f, -1).repeat_interleave(f, -2)


# --- bands and the encoding loss --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sides", "bands"), [((16, 16), 16), ((8, 12), 16), ((5, 9), 4)])
def test_bands_equal_the_slow_version(sides, bands):
    x = randn(2, 3, *sides, dtype=torch.float64)
    corner = math.hypot(sides[0] - 1, sides[1] - 1)
    rings = {}
    for n, c, v, u in np.ndindex(2, 3, *sides):
        d = scipy.fft.dctn(x[n, c].numpy(), norm="ortho")[v, u]
        if (v, u) != (0, 0):
            k = min(int(math.hypot(v, u) / corner * bands), bands - 1) + 1
            rings.setdefault(k, {}).setdefault(n, []).append(d * d)
    numbers, powers = band_powers(x, bands)
    assert numbers.tolist() == sorted(rings)
    expected = [[np.mean(rings[k][n]) for k in sorted(rings)] for n in range(2)]
    np.testing.assert_allclose(powers.numpy(), expected, rtol=1e-10)


def test_the_mean_of_a_picture_does_not_count_and_white_noise_is_flat():
    x = randn(1, 64, 32, 32)
    _, powers = band_powers(x)
    _, lifted = band_powers(x + 7)
    torch.testing.assert_close(powers, lifted, rtol=1e-3, atol=1e-4)
    assert (powers - 1).abs().max() < 0.2


def matched(x, flattening):
    """A latent with the flattened spectrum of a picture, ring by ring: its own coefficients, amplified."""
    height, width = x.shape[-2:]
    radius = torch.hypot(torch.arange(height).double()[:, None], torch.arange(width).double())
    ring = (radius / radius.max() * 16).long().clamp(max=15) + 1
    return whole_idct(whole_dct(x) * ring ** (flattening / 2))


@pytest.mark.parametrize("flattening", [0.0, 0.4, 1.0])
def test_encoding_is_zero_for_the_flattened_spectrum_at_any_scale_and_for_no_other(flattening):
    x = randn(2, 3, 16, 16, dtype=torch.float64).cumsum(-1).cumsum(-2) / 8  # f = 1: nothing is resized
    z = matched(x, flattening)
    assert match_encoding(x, z, flattening) < 1e-8
    assert match_encoding(x, 5 * z + 3, flattening) < 1e-8
    assert match_encoding(x, -z.flip(-1), flattening) < 1e-8  # phases do not count
    assert match_encoding(x, z, flattening + 0.5) > 1e-2
    assert match_encoding(x, randn(*z.shape, seed=2).double(), flattening) > 1e-2


def test_encoding_is_the_divergence_of_shares():
    x, z = randn(2, 3, 32, 32), randn(2, 4, 16, 16, seed=1)
    k, p = band_powers(data.resize_to(x, 16, 16))
    _, q = band_powers(z)
    p = (p * k).numpy() / (p * k).sum(1, keepdim=True).numpy()
    q = q.numpy() / q.sum(1, keepdim=True).numpy()
    expected = (p * np.log(p / q)).sum(1).mean()
    assert match_encoding(x, z).item() == pytest.approx(expected, rel=1e-5)


def test_descent_flattens_a_steep_latent_and_steepens_a_white_one():
    x = data.stack(data.Photos(64, "train", length=4), range(4))
    small = data.resize_to(x, 16, 16)
    steep = data.resize_to(data.resize_to(small, 4, 4), 16, 16) + 0.01 * randn(4, 3, 16, 16)

    def high_share(z):
        return (
            block_dct(z).square().flatten(-2)[..., 32:].sum() / block_dct(z).square().flatten(-2)[..., 1:].sum()
        ).item()

    for z, sign in ((steep, 1), (randn(4, 3, 16, 16, seed=1), -1)):
        z = z.clone().requires_grad_()
        before, loss = high_share(z.detach()), match_encoding(x, z)
        for _ in range(20):
            (gradient,) = torch.autograd.grad(match_encoding(x, z), z)
            z = (z - 0.1 * gradient / gradient.norm()).detach().requires_grad_()
        assert match_encoding(x, z) < loss
        assert sign * (high_share(z.detach()) - before) > 0


def test_a_picture_of_one_colour_is_no_division_by_zero():
    z = randn(1, 4, 8, 8).requires_grad_()
    loss = match_encoding(torch.ones(1, 3, 16, 16), z)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()


# --- the decoding loss ------------------------------------------------------------------------------------------------


def keep(seen, z):
    seen.append(z)
    return z


@pytest.mark.parametrize("block_size", [4, 8])
def test_a_share_of_diagonals_cuts_these_diagonals(block_size):
    x = randn(1, 1, 2 * block_size, block_size, dtype=torch.float64)
    u = torch.arange(block_size)
    for diagonals in range(2 * block_size - 1):
        seen = []
        match_decoding(x, x, partial(keep, seen), diagonals, block_size)
        kept = (u[:, None] + u) < 2 * block_size - 1 - diagonals
        expected = block_dct(x, block_size) * kept
        torch.testing.assert_close(block_dct(seen[0], block_size), expected, rtol=0, atol=1e-12)


def test_decoding_compares_with_the_masked_picture_in_blocks_of_as_many_pixels():
    x, z = randn(2, 3, 16, 16), randn(2, 4, 8, 8, seed=1)
    pairs = []
    match_decoding(x, z, nearest_up, 8, 8, distance=lambda a, b: pairs.append((a, b)) or regularizers.mse(a, b))
    ((target, _),) = pairs
    u = torch.arange(8)
    gone = (u[:, None] + u) >= 7
    assert block_dct(target, 8)[..., gone].abs().max() < 1e-5
    torch.testing.assert_close(block_dct(target, 8)[..., ~gone], block_dct(x, 8)[..., ~gone], rtol=0, atol=1e-5)
    whole = match_decoding(x, z, nearest_up, 0)
    assert whole.item() == pytest.approx(regularizers.mse(x, nearest_up(z)).item(), rel=1e-5)


def test_decoding_is_zero_where_encoder_and_decoder_work_pixel_by_pixel():
    mix = torch.linalg.qr(randn(3, 3, seed=2)).Q
    x = randn(2, 3, 16, 16, seed=3)
    z = torch.einsum("oc,nchw->nohw", mix, x)
    decode = partial(torch.einsum, "oc,nchw->nohw", mix.T)
    for diagonals in (0, 8, 12):
        assert match_decoding(x, z, decode, diagonals) < 1e-10
        assert match_decoding(x, z, lambda z: decode(z).tanh(), diagonals) > 1e-3


def test_what_cannot_be_matched_is_named():
    x, z = randn(1, 3, 16, 16), randn(1, 4, 8, 8)
    with pytest.raises(ValueError, match=r"diagonals must be in 0 ... 14 for block_size 8, got 15"):
        ratio_of_diagonals(15)
    with pytest.raises(ValueError, match="flattening must be finite and not negative, got -1"):
        match_encoding(x, z, -1.0)
    with pytest.raises(ValueError, match="do not belong together"):
        match_encoding(x, randn(1, 4, 5, 5))
    with pytest.raises(ValueError, match="bands must be at least 1, got 0"):
        band_powers(x, 0)


# --- in fine-tuning ---------------------------------------------------------------------------------------------------

SETTINGS = Finetuning(resolution=32, steps=4, batch_size=2, method="sm")


@pytest.mark.parametrize(("matching", "names"), [
    ("both", {"reconstruction", "matching"}), ("encoding", {"reconstruction", "matching"}),
    ("decoding", {"reconstruction"}),
])  # fmt: skip
def test_terms_and_gradients_in_fine_tuning(matching, names):
    settings = replace(SETTINGS, matching=matching, masked_diagonals=(8,))
    autoencoder = autoencoders.load("kl-f4c16")
    finetuning.freeze(autoencoder, settings)
    x = data.stack(data.Photos(32, "train", length=2), range(2))
    distance = finetuning.distance_of(settings)
    terms, plain = (
        finetuning.loss_terms(autoencoder, x, s, distance, torch.Generator().manual_seed(0))
        for s in (settings, replace(settings, method="plain"))
    )
    assert terms.keys() == names
    assert (terms["reconstruction"] == plain["reconstruction"]) == (matching == "encoding")  # the same noise
    sum(terms.values()).backward()
    assert autoencoder.module.encoder.conv_in.weight.grad.abs().sum() > 0
    assert autoencoder.module.decoder.conv_in.weight.grad.abs().sum() > 0


def test_all_masks_are_drawn_equally_often():
    generator = torch.Generator().manual_seed(0)
    drawn = [regularizers.draw_one(generator, SETTINGS.masked_diagonals) for _ in range(2000)]
    assert set(drawn) == {0, 8, 10, 12}
    assert all(abs(drawn.count(n) - 500) < 4 * math.sqrt(375) for n in set(drawn))


def test_settings_of_other_methods_are_what_they_were():
    plain = replace(SETTINGS, method="plain")
    assert not plain.identify().keys() & {"matching", "flattening", "masked_diagonals"}
    assert replace(SETTINGS, flattening=0.5).identify()["flattening"] == 0.5
    assert SETTINGS.weight == 0.01
    with pytest.raises(ValueError, match="matching must be one of both, encoding, decoding, got 'none'"):
        replace(SETTINGS, matching="none")
    with pytest.raises(ValueError, match=r"diagonals must be in 0 ... 6 for block_size 4, got 8"):
        replace(SETTINGS, block_size=4)
    with pytest.raises(ValueError, match=r"leave adversarial_weight at 0 with sm, got 0.5"):
        replace(SETTINGS, adversarial_weight=0.5)
    assert spectrum_matching.ratio_of_diagonals(8) == 36 / 64
