"""Fractional shifts against closed forms, the loss against equivariant networks, and its place in fine-tuning."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diffusab_core import autoencoders, data
from diffusab_core.methods import finetuning, shifts
from diffusab_core.methods.finetuning import Finetuning
from diffusab_core.methods.shifts import shift, shift_equivariance


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- shifts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [(8, 12), (7, 9)])
@pytest.mark.parametrize("by", [(0.25, -1.5), (2.125, 0.0), (-0.5, 3.75)])
def test_a_wave_moves_by_its_phase(sides, by):
    (height, width), (down, right) = sides, by
    y, x = torch.arange(height).double()[:, None], torch.arange(width).double()

    def wave(y, x):  # the sum of waves below Nyquist, of any phase
        a = torch.cos(2 * math.pi * (2 * y / height + 1 * x / width) + 0.3)
        return a + 0.5 * torch.sin(2 * math.pi * (y / height - 3 * x / width)) + 2

    moved = shift(wave(y, x)[None, None], down, right)
    torch.testing.assert_close(moved[0, 0], wave(y - down, x - right), rtol=0, atol=1e-12)


def test_whole_pixels_roll_and_parts_add_up():
    x = randn(2, 3, 9, 7, dtype=torch.float64)  # odd sides have no Nyquist frequency
    assert torch.equal(shift(x, 2, -3), x.roll((2, -3), (-2, -1)))
    halves = shift(shift(x, 0.5, 0.3), 1.5, -1.3)
    torch.testing.assert_close(halves, x.roll((2, -1), (-2, -1)), rtol=0, atol=1e-12)
    assert shift(x, 0.3, 0.4).square().sum().item() == pytest.approx(x.square().sum().item(), rel=1e-12)


def test_nyquist_keeps_its_real_part():
    x = torch.tensor([1.0, -1.0] * 4).double().expand(1, 1, 4, 8)
    for by in (0.25, 0.5, 1.75):
        torch.testing.assert_close(shift(x, 0, by), x * math.cos(math.pi * by), rtol=0, atol=1e-12)


def test_drawn_shifts_fill_their_range():
    generator = torch.Generator().manual_seed(0)
    drawn = [shifts.draw_shift(generator, 32, 16) for _ in range(3000)]
    assert {d for d, _ in drawn} == set(range(-12, 13))
    assert {r for _, r in drawn} == set(range(-6, 7))


# --- the loss ---------------------------------------------------------------------------------------------------------


def ideal_down(x, f=2):
    """Drop all frequencies that a latent cannot hold: commutes with every shift of a periodic picture."""
    height, width = x.shape[-2] // f, x.shape[-1] // f
    spectrum = torch.fft.fft2(x, norm="forward")
    kept = [torch.fft.fftfreq(side, 1 / side).long() for side in (height, width)]
    kept = [k[k.abs() < side / 2] for k, side in zip(kept, (height, width), strict=True)]
    small = torch.zeros(*x.shape[:-2], height, width, dtype=spectrum.dtype)
    small[..., kept[0][:, None], kept[1]] = spectrum[..., kept[0][:, None], kept[1]]
    return torch.fft.ifft2(small, norm="forward").real


def ideal_up(z, f=2):
    height, width = z.shape[-2:]
    kept = [torch.fft.fftfreq(side, 1 / side).long() for side in (height, width)]
    kept = [k[k.abs() < side / 2] for k, side in zip(kept, (height, width), strict=True)]
    large = torch.zeros(*z.shape[:-2], f * height, f * width, dtype=torch.complex128)
    large[..., kept[0][:, None], kept[1]] = torch.fft.fft2(z, norm="forward")[..., kept[0][:, None], kept[1]]
    return torch.fft.ifft2(large, norm="forward").real


@pytest.mark.parametrize("by", [(1, 0), (3, -5), (-6, 6), (2, 4)])
def test_ideal_filters_are_equivariant_and_striding_is_so_by_whole_latent_pixels_alone(by):
    x = randn(2, 3, 16, 16, dtype=torch.float64)
    z = ideal_down(x)
    assert shift_equivariance(x, z, ideal_up(z), ideal_down, ideal_up, by) < 1e-24

    def stride(x):
        return x[..., ::2, ::2]

    def nearest_up(z):
        return z.repeat_interleave(2, -1).repeat_interleave(2, -2)

    z = stride(x)
    loss = shift_equivariance(x, z, nearest_up(z), stride, nearest_up, by)
    assert (loss < 1e-24) == all(d % 2 == 0 for d in by)


def test_only_what_was_inside_counts():
    x, z = randn(1, 3, 16, 16), randn(1, 4, 8, 8, seed=1)
    y = randn(1, 3, 16, 16, seed=2)
    moved_z, moved_y = shift(z, 1.5, -0.5), shift(y, 3, -1)
    spoil_z, spoil_y = moved_z.clone(), moved_y.clone()
    spoil_z[..., :2, :], spoil_z[..., 7:] = 100, 100  # rows 0 to 1.5 and half a column come from the other border
    spoil_y[..., :3, :], spoil_y[..., 15:] = 100, 100
    assert shift_equivariance(x, z, y, lambda _: spoil_z, lambda _: spoil_y, (3, -1)) < 1e-12
    spoil_z[..., 2, 0] += 1
    loss = shift_equivariance(x, z, y, lambda _: spoil_z, lambda _: spoil_y, (3, -1))
    assert loss.item() == pytest.approx(1 / (6 * 7), rel=1e-5)
    spoil_y[:, 0, 3, 0] += 2
    loss = shift_equivariance(x, z, y, lambda _: spoil_z, lambda _: spoil_y, (3, -1))
    assert loss.item() == pytest.approx(1 / (6 * 7) + 4 / (3 * 13 * 15), rel=1e-5)


def test_a_shift_that_leaves_nothing_is_named():
    x, z = randn(1, 3, 8, 8), randn(1, 4, 4, 4)
    with pytest.raises(ValueError, match="a shift by 7, 0 pixels leaves nothing of latents"):
        shift_equivariance(x, z, x, lambda x: z, lambda z: x, (7, 0))


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder = nn.Conv2d(3, 4, 3, 2, 1)
            self.decoder = nn.Sequential(nn.Conv2d(4, 12, 3, 1, 1), nn.PixelShuffle(2))


def test_each_term_trains_its_own_network_and_descent_makes_it_smaller():
    model, x, by = Tiny(), F.avg_pool2d(randn(4, 3, 20, 20), 5, 1), (3, -1)

    def loss():
        z = model.encoder(x)
        return shift_equivariance(x, z, model.decoder(z), model.encoder, model.decoder, by)

    before = loss()
    before.backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())
    model.zero_grad()
    z, y = randn(4, 4, 8, 8), randn(4, 3, 16, 16)
    shift_equivariance(x, z, y, lambda x: z, model.decoder, by).backward()
    assert model.encoder.weight.grad is None
    optimiser = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(30):
        optimiser.zero_grad()
        now = loss()
        now.backward()
        optimiser.step()
    assert loss() < 0.9 * before


def test_clips_move_frame_by_frame():
    x, z = randn(2, 3, 5, 16, 16), randn(2, 4, 5, 8, 8, seed=1)
    x[:, :, 1:3] *= 4

    def encode(x):
        return torch.cat([x, x[:, :1]], 1)[..., ::2, ::2]

    def decode(z):
        return z[:, :3].repeat_interleave(2, -1).repeat_interleave(2, -2)

    y = decode(z)
    frames = [shift_equivariance(x[:, :, t], z[:, :, t], y[:, :, t], encode, decode, (3, 1)) for t in range(5)]
    whole = shift_equivariance(x, z, y, encode, decode, (3, 1))
    assert whole.item() == pytest.approx(torch.stack(frames).mean().item(), rel=1e-5)


# --- in fine-tuning ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder_only", [False, True])
def test_the_term_in_fine_tuning(decoder_only):
    settings = Finetuning(resolution=32, steps=4, batch_size=2, method="af-ldm", decoder_only=decoder_only)
    assert settings.weight == 1
    autoencoder = autoencoders.load("kl-f4c16")
    finetuning.freeze(autoencoder, settings)
    x = data.stack(data.Photos(32, "train", length=2), range(2))
    distance = finetuning.distance_of(settings)
    terms, plain = (
        finetuning.loss_terms(autoencoder, x, s, distance, torch.Generator().manual_seed(0))
        for s in (settings, replace(settings, method="plain"))
    )
    assert terms.keys() == {"reconstruction", "shift"}
    assert torch.equal(terms["reconstruction"], plain["reconstruction"])  # the same noise
    sum(terms.values()).backward()
    moved = autoencoder.module.encoder.conv_in.weight.grad
    assert moved is None if decoder_only else moved.abs().sum() > 0
    assert autoencoder.module.decoder.conv_in.weight.grad.abs().sum() > 0
