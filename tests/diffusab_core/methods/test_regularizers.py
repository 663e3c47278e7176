"""The regularisers against direct slow versions, their identities, gradients, draws and refusals."""

import ast
import math
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import torch
from torch import nn

from diffusab_core import autoencoders, data
from diffusab_core.methods import regularizers as reg
from diffusab_core.spectrum import block_dct


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def nearest_up(z, f=2):
    """A decoder that turns with its latents: every pixel becomes an f x f square of its first three channels."""
    return z[:, :3].repeat_interleave(f, -1).repeat_interleave(f, -2)


class Tiny(nn.Module):
    """A convolutional autoencoder, f = 2, C = 4."""

    def __init__(self, seed=0):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Tanh(), nn.Conv2d(8, 4, 3, 1, 1))
        self.decoder = nn.Sequential(nn.Conv2d(4, 12, 3, 1, 1), nn.PixelShuffle(2))
        for i, parameter in enumerate(self.parameters()):
            parameter.data = 0.3 * randn(*parameter.shape, seed=100 * seed + i)


HALF = reg.SpatialTransform(Fraction(1, 2), 1)

# Every loss of images, latents and a decoder, with one fixed draw.
LOSSES = {
    "se-2": partial(reg.scale_equivariance, scale=2),
    "se-4": partial(reg.scale_equivariance, scale=4),
    "se-reconstruction": partial(reg.scale_equivariance, scale=2, target="reconstruction"),
    "chf-zigzag": partial(reg.chop, ratio=0.6, block_size=4),
    "chf-axes": partial(reg.chop, ratio=0.5, block_size=4, order="axes"),
    "eq-vae": partial(reg.eq_vae, tau=HALF),
}


# --- direct slow versions


def slow_downsample(a: np.ndarray, s: int) -> np.ndarray:
    """A triangle of half-width s around each new pixel's centre, normalised at the borders; the last two axes."""

    def rows(length):
        m = np.zeros((length // s, length))
        for i in range(length // s):
            for j in range(length):
                m[i, j] = max(0.0, 1 - abs((j + 0.5) - (i + 0.5) * s) / s)
        return m / m.sum(1, keepdims=True)

    return rows(a.shape[-2]) @ a @ rows(a.shape[-1]).T


def slow_chop(a: np.ndarray, ratio: float, b: int, order: str) -> np.ndarray:
    out = np.zeros_like(a)
    walk = []
    for s in range(2 * b - 1):  # diagonals, alternately up and down
        cells = [(u, s - u) for u in range(b) if 0 <= s - u < b]
        walk += cells if s % 2 else cells[::-1]
    cut = set(walk[b * b - round(ratio * b * b) :])
    per_axis = b - round(ratio * b)
    for at in np.ndindex(*a.shape[:-2], a.shape[-2] // b, a.shape[-1] // b):
        *lead, i, j = at
        place = (*lead, slice(i * b, (i + 1) * b), slice(j * b, (j + 1) * b))
        d = scipy.fft.dctn(a[place], norm="ortho")
        for u in range(b):
            for v in range(b):
                if (order == "zigzag" and (u, v) in cut) or (order == "axes" and max(u, v) >= per_axis):
                    d[u, v] = 0
        out[place] = scipy.fft.idctn(d, norm="ortho")
    return out


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("target", ["input", "reconstruction"])
def test_scale_equivariance_equals_the_slow_version(scale, target):
    x, z = randn(2, 3, 16, 24), randn(2, 4, 8, 12, seed=1)
    full = x if target == "input" else nearest_up(z)
    small_x = slow_downsample(full.double().numpy(), scale)
    small_y = nearest_up(torch.from_numpy(slow_downsample(z.double().numpy(), scale))).numpy()
    loss = reg.scale_equivariance(x, z, nearest_up, scale, target=target)
    assert loss.item() == pytest.approx(np.square(small_x - small_y).mean(), rel=1e-5)


@pytest.mark.parametrize(("ratio", "order"), [(0.3, "zigzag"), (0.9, "zigzag"), (0.3, "axes"), (0.75, "axes")])
def test_chop_equals_scipy_on_blocks_that_grow_with_the_compression(ratio, order):
    x, z = randn(1, 3, 16, 32, dtype=torch.float64), randn(1, 4, 8, 16, seed=1, dtype=torch.float64)
    cut_x = slow_chop(x.numpy(), ratio, 8, order)
    cut_y = nearest_up(torch.from_numpy(slow_chop(z.numpy(), ratio, 4, order))).numpy()
    loss = reg.chop(x, z, nearest_up, ratio, block_size=4, order=order)
    assert loss.item() == pytest.approx(np.square(cut_x - cut_y).mean(), rel=1e-12)


@pytest.mark.parametrize(("b", "power"), [(8, 2.0), (4, 1.0), (4, 3.5)])
def test_soft_penalty_equals_the_slow_version(b, power):
    z = randn(2, 3, 2 * b, b, dtype=torch.float64)
    total, count = 0.0, 0
    for n, c, i in np.ndindex(2, 3, 2):
        d = scipy.fft.dctn(z[n, c, i * b : (i + 1) * b].numpy(), norm="ortho")
        for u in range(b):
            for v in range(b):
                total += abs(d[u, v]) * (u + v) ** power / b**power
                count += 1
    assert reg.soft_penalty(z, b, power).item() == pytest.approx(total / count, rel=1e-12)


def test_eq_vae_equals_the_slow_version():
    x, z = randn(1, 3, 16, 16), randn(1, 4, 8, 8, seed=1)

    def tau(a):  # half the size, then 90 degrees counter-clockwise; plain bilinear halving is the mean of four pixels
        a = a.double().numpy()
        pairs = a.reshape(*a.shape[:-2], a.shape[-2] // 2, 2, a.shape[-1] // 2, 2)
        return torch.from_numpy(np.rot90(pairs.mean((-3, -1)), 1, (-2, -1)).copy())

    loss = reg.eq_vae(x, z, nearest_up, HALF)
    assert loss.item() == pytest.approx((tau(x) - nearest_up(tau(z))).square().mean().item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 6, 5), (2, 4, 3, 6, 5)])
def test_averaged_kl_equals_torch_distributions_per_number(shape):
    mean, logvar = randn(*shape, dtype=torch.float64), randn(*shape, seed=1, dtype=torch.float64)
    posterior = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(posterior, prior).sum() / math.prod(shape)
    assert reg.averaged_kl(mean, logvar).item() == pytest.approx(expected.item(), rel=1e-12)
    assert reg.averaged_kl(torch.zeros(shape), torch.zeros(shape)) == 0


# --- identities


@pytest.mark.parametrize("scale", [2, 4])
def test_se_against_the_reconstruction_is_zero_for_a_decoder_that_commutes_with_downsampling(scale):
    mix, bias = randn(3, 4), randn(3, 1, 1, seed=5)

    def decode(z):  # pixel by pixel and affine
        return torch.einsum("oc,nchw->nohw", mix, z) + bias

    x, z = randn(2, 3, 16, 16), randn(2, 4, 16, 16, seed=1)
    assert reg.scale_equivariance(x, z, decode, scale, target="reconstruction") < 1e-10
    assert reg.scale_equivariance(x, z, decode, scale, target="input") > 0.1
    assert reg.scale_equivariance(x, z, lambda z: decode(z).tanh(), scale, target="reconstruction") > 1e-3


def test_se_takes_a_reconstruction_that_is_at_hand():
    x, z = randn(2, 3, 16, 16), randn(2, 4, 8, 8, seed=1)
    calls = []

    def decode(z):
        calls.append(z.shape)
        return nearest_up(z)

    computed = reg.scale_equivariance(x, z, decode, 2, target="reconstruction")
    assert len(calls) == 2
    given = reg.scale_equivariance(x, z, decode, 2, target="reconstruction", reconstruction=nearest_up(z))
    assert len(calls) == 3
    assert given == computed


def test_at_equal_beta_alpha_zero_is_plain_fine_tuning():
    def finetuned(alpha):
        model = Tiny()
        optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
        for step in range(5):
            generator = seeded(step)
            x = randn(2, 3, 16, 16, seed=step)
            mean = model.encoder(x)
            z = mean + 0.1 * torch.randn(mean.shape, generator=generator)
            kl = reg.averaged_kl(mean, torch.full_like(mean, math.log(0.01)))
            loss = reg.mse(x, model.decoder(z)) + 1e-3 * kl
            if alpha is not None:
                loss = loss + alpha * reg.scale_equivariance(x, z, model.decoder, reg.draw_scale(generator))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return nn.utils.parameters_to_vector(model.parameters())

    plain = finetuned(None)
    assert torch.equal(finetuned(0.0), plain)
    assert not torch.equal(finetuned(0.25), plain)


def test_nothing_cut_or_transformed_is_the_reconstruction_loss():
    x, z = randn(2, 3, 16, 16), randn(2, 4, 8, 8, seed=1)
    reconstruction = reg.mse(x, nearest_up(z)).item()
    for order in ("zigzag", "axes"):
        assert reg.chop(x, z, nearest_up, 0.0, 4, order).item() == pytest.approx(reconstruction, rel=1e-5)
    assert reg.eq_vae(x, z, nearest_up, reg.IDENTITY).item() == reconstruction
    assert reg.scale_equivariance(x, z, nearest_up, 1).item() == reconstruction


def test_soft_penalty_leaves_block_means_alone_and_grows_with_frequency():
    assert reg.soft_penalty(torch.full((1, 2, 16, 16), 3.0)) < 1e-6
    i = torch.arange(8) + 0.5
    waves = [torch.cos(math.pi * i * k / 8).expand(1, 1, 8, 8) for k in range(1, 8)]
    penalties = [reg.soft_penalty(wave).item() for wave in waves]
    assert penalties == sorted(penalties)
    ratios = np.array(penalties) / penalties[0]
    np.testing.assert_allclose(ratios, np.arange(1, 8) ** 2, rtol=1e-4)  # p = 2, all with the same amplitude
    assert reg.soft_penalty(-waves[3]).item() == pytest.approx(penalties[3])  # an amplitude has no sign


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_eq_vae_is_zero_for_an_equivariant_autoencoder(turns):
    z = randn(2, 4, 8, 12)
    x = nearest_up(z)
    rotation = reg.SpatialTransform(quarter_turns=turns)
    assert reg.eq_vae(x, z, nearest_up, rotation) == 0
    mix = torch.linalg.qr(randn(3, 3, seed=2)).Q  # f = 1, encoder and decoder invert each other pixel by pixel
    x = randn(2, 3, 8, 12, seed=3)
    z = torch.einsum("oc,nchw->nohw", mix, x)
    scaled = reg.SpatialTransform(Fraction(3, 4), turns)
    assert reg.eq_vae(x, z, partial(torch.einsum, "oc,nchw->nohw", mix.T), scaled) < 1e-10


def test_eq_vae_sees_a_decoder_that_knows_up_from_down():
    z = randn(2, 4, 8, 8)
    ramp = torch.linspace(-1, 1, 16)[:, None]
    x = nearest_up(z) + ramp
    assert reg.eq_vae(x, z, lambda z: nearest_up(z) + ramp, reg.IDENTITY) == 0
    assert reg.eq_vae(x, z, lambda z: nearest_up(z) + ramp, reg.SpatialTransform(quarter_turns=2)) > 0.1


@pytest.mark.parametrize("turns", range(4))
def test_images_and_latents_turn_the_same_way_round(turns):
    x = torch.zeros(1, 1, 8, 8)
    x[..., :4, 4:] = 1  # top right
    tau = reg.SpatialTransform(Fraction(1, 2), turns)
    turned = reg.transform(x, tau)
    corners = {0: (0, 3), 1: (0, 0), 2: (3, 0), 3: (3, 3)}
    assert turned.sum() == 4
    assert turned[0, 0][corners[turns]] == 1


# --- clips: frame by frame


@pytest.mark.parametrize("name", LOSSES)
def test_a_clip_is_the_mean_of_its_frames(name):
    x, z = randn(2, 3, 5, 16, 16), randn(2, 4, 5, 8, 8, seed=1)
    x[:, :, 1:3] *= 4  # frames that differ, so that mixing them would show
    frames = torch.stack([LOSSES[name](x[:, :, t], z[:, :, t], nearest_up) for t in range(5)])
    assert LOSSES[name](x, z, nearest_up).item() == pytest.approx(frames.mean().item(), rel=1e-5)


def test_soft_penalty_of_a_clip_is_the_mean_of_its_frames():
    z = randn(2, 4, 3, 8, 8)
    frames = torch.stack([reg.soft_penalty(z[:, :, t]) for t in range(3)])
    assert reg.soft_penalty(z).item() == pytest.approx(frames.mean().item(), rel=1e-5)


def test_clips_whose_latents_have_fewer_frames():
    x, z = randn(1, 3, 5, 16, 16), randn(1, 4, 2, 8, 8, seed=1)

    def decode(z):  # causal, four times in time
        return nearest_up(torch.cat([z[:, :, :1], z[:, :, 1:].repeat_interleave(4, 2)], 2))

    for loss in LOSSES.values():
        assert torch.isfinite(loss(x, z, decode))


# --- gradients


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_reach_encoder_and_decoder(name):
    model, x = Tiny(), randn(2, 3, 16, 16)
    LOSSES[name](x, model.encoder(x), model.decoder).backward()
    for parameter in model.parameters():
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_with_respect_to_latents_are_right(name):
    x, z = randn(1, 3, 8, 8), randn(1, 3, 4, 4, seed=1)
    decode = Tiny().decoder
    z = torch.cat([z, z[:, :1]], 1).requires_grad_()
    direction = randn(*z.shape, seed=2)
    loss = LOSSES[name]
    slope = (torch.autograd.grad(loss(x, z, decode), z)[0] * direction).sum()
    with torch.no_grad():
        numeric = (loss(x, z + 0.01 * direction, decode) - loss(x, z - 0.01 * direction, decode)) / 0.02
    assert slope.item() == pytest.approx(numeric.item(), rel=2e-3, abs=2e-5)


def test_gradients_of_penalty_and_kl_reach_the_encoder():
    for loss in (lambda z: reg.soft_penalty(z), lambda z: reg.averaged_kl(z, z - 1)):
        model = Tiny()
        loss(model.encoder(randn(2, 3, 16, 16))).backward()
        assert all(parameter.grad.abs().max() > 0 for parameter in model.encoder.parameters())


def test_the_penalty_pulls_every_amplitude_towards_zero_by_its_weight():
    z = randn(2, 3, 16, 16, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(reg.soft_penalty(z), z)
    expected = block_dct(z.detach()).sign() * reg.penalty_weights() / z.numel()
    torch.testing.assert_close(block_dct(gradient), expected, rtol=0, atol=1e-15)


# --- distances and precision


def test_perceptual_distance_is_averaged_over_images_and_frames_and_weighted():
    seen = []

    def perceptual(a, b):  # as LPIPS: one number for each image
        seen.append(tuple(a.shape))
        return (a - b).abs().mean((1, 2, 3), keepdim=True)

    for shape, folded in [((2, 3, 8, 8), (2, 3, 8, 8)), ((2, 3, 5, 8, 8), (10, 3, 8, 8))]:
        a, b = randn(*shape), randn(*shape, seed=1)
        value = reg.mse_and_perceptual(a, b, perceptual, mse_weight=5, perceptual_weight=0.5)
        assert seen[-1] == folded
        assert value.item() == pytest.approx((5 * (a - b).square().mean() + 0.5 * (a - b).abs().mean()).item())


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_hands_its_pair_to_the_distance(name):
    x, z = randn(2, 3, 16, 16), randn(2, 4, 8, 8, seed=1)
    pairs = []

    def distance(a, b):
        pairs.append((a, b))
        return (a - b).abs().sum()

    value = LOSSES[name](x, z, nearest_up, distance=distance)
    ((target, y),) = pairs
    assert target.shape == y.shape
    assert value == (target - y).abs().sum()
    assert LOSSES[name](x, z, nearest_up) == reg.mse(target, y)


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_latents_reach_the_decoder_in_their_own_precision(name):
    x, z = randn(2, 3, 16, 16), randn(2, 4, 8, 8, seed=1)
    kinds = set()

    def decode(z):
        kinds.add(z.dtype)
        return nearest_up(z)

    low = LOSSES[name](x.bfloat16(), z.bfloat16(), decode)
    assert kinds == {torch.bfloat16}
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(LOSSES[name](x, z, nearest_up).item(), rel=0.02)


# --- draws


def test_scales_both_occur_equally_often():
    generator = seeded()
    drawn = [reg.draw_scale(generator) for _ in range(2000)]
    assert set(drawn) == {2, 4}
    assert abs(drawn.count(2) - 1000) < 4 * math.sqrt(500)  # four standard deviations
    assert {reg.draw_scale(generator, (3,)) for _ in range(5)} == {3}


def test_cut_ratios_fill_the_range():
    generator = seeded()
    drawn = [reg.draw_cut_ratio(generator, 0.9) for _ in range(2000)]
    assert 0 <= min(drawn) < 0.01
    assert 0.89 < max(drawn) < 0.9
    assert abs(np.mean(drawn) - 0.45) < 4 * 0.9 / math.sqrt(12 * 2000)


def test_transforms_take_every_published_scale_and_rotation():
    generator = seeded()
    drawn = [reg.draw_transform(generator, 32, 32) for _ in range(2000)]
    assert {t.scale for t in drawn} == {Fraction(k, 32) for k in range(8, 32)}
    assert {t.quarter_turns for t in drawn} == {1, 2, 3}


@pytest.mark.parametrize("sides", [(8, 8), (10, 15), (6, 4), (7, 7)])
def test_drawn_transforms_keep_images_and_latents_together(sides):
    generator = seeded()
    x, z = randn(1, 3, 2 * sides[0], 2 * sides[1]), randn(1, 4, *sides, seed=1)
    for _ in range(20):
        assert torch.isfinite(reg.eq_vae(x, z, nearest_up, reg.draw_transform(generator, *sides)))


def test_eq_vae_steps_come_in_the_published_shares():
    generator = seeded()
    drawn = [reg.draw_eq_vae(generator, 16, 16) for _ in range(4000)]
    after = [pair for pair in drawn if pair[1] != reg.IDENTITY]
    before = [pair for pair in drawn if pair[0] != reg.IDENTITY]
    assert not any(pair in after for pair in before)
    assert all(b.quarter_turns == 0 for b, _ in before)
    for count, share in ((len(after), 0.5), (len(before), 0.125)):
        assert abs(count - 4000 * share) < 4 * math.sqrt(4000 * share * (1 - share))
    assert all(reg.draw_eq_vae(generator, 16, 16, 1.0)[1] != reg.IDENTITY for _ in range(50))
    assert all(reg.draw_eq_vae(generator, 16, 16, 0.0, 0.0) == (reg.IDENTITY,) * 2 for _ in range(50))


def test_the_same_generator_state_draws_the_same():
    def draws(seed):
        generator = seeded(seed)
        return [
            (
                reg.draw_scale(generator),
                reg.draw_cut_ratio(generator, 0.9),
                reg.draw_transform(generator, 32, 32),
                reg.draw_eq_vae(generator, 32, 32),
            )
            for _ in range(20)
        ]

    assert draws(7) == draws(7)
    assert draws(7) != draws(8)
    state = torch.get_rng_state()
    draws(9)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone


# --- refusals


def images(height=16, width=16):
    return torch.zeros(2, 3, height, width)


def latents(height=8, width=8):
    return torch.zeros(2, 4, height, width)


REFUSED = {
    "a latent too small for scale 4": (lambda: LOSSES["se-4"](images(4, 4), latents(2, 2), nearest_up), "2x2.*by 4"),
    "a latent that the scale does not divide": (
        lambda: LOSSES["se-4"](images(12, 16), latents(6, 8), nearest_up),
        "6x8 cannot be downsampled by 4",
    ),
    "a latent smaller than the block": (
        lambda: reg.chop(images(8, 8), latents(4, 4), nearest_up, 0.5, block_size=8),
        "cannot be cut into 8x8 blocks",
    ),
    "a penalty's latent smaller than the block": (lambda: reg.soft_penalty(latents(4, 4)), "8x8 blocks"),
    "unequal compressions": (lambda: LOSSES["se-2"](images(16, 32), latents(8, 8), nearest_up), "16x32.*8x8"),
    "a broken compression": (lambda: LOSSES["chf-axes"](images(12, 12), latents(8, 8), nearest_up), "12x12.*8x8"),
    "unequal batches": (lambda: LOSSES["eq-vae"](images()[:1], latents(), nearest_up), r"\(1, 3, 16, 16\)"),
    "a clip with a still latent": (lambda: LOSSES["se-2"](images()[:, :, None], latents(), nearest_up), "clips"),
    "another decoder": (lambda: LOSSES["se-2"](images(), latents(), lambda z: z[:, :3]), r"decoded to \(2, 3, 4, 4\)"),
    "a decoder that would broadcast": (
        lambda: LOSSES["eq-vae"](images(), latents(), lambda z: nearest_up(z)[:, :1]),
        r"decoded to \(2, 1, 8, 8\)",
    ),
    "pairs that would broadcast": (lambda: reg.mse(images(), images()[:1]), "cannot compare"),
    "a ratio of 1": (lambda: reg.chop(images(), latents(), nearest_up, 1.0), "got 1.0"),
    "a negative ratio": (lambda: reg.chop(images(), latents(), nearest_up, -0.1), "got -0.1"),
    "a range of ratios beyond 1": (lambda: reg.draw_cut_ratio(seeded(), 1.5), "got 1.5"),
    "an empty range of ratios": (lambda: reg.draw_cut_ratio(seeded(), 0.0), "got 0.0"),
    "an unknown order": (lambda: reg.chop(images(), latents(), nearest_up, 0.5, 4, "spiral"), "'spiral'"),
    "an unknown target": (
        lambda: reg.scale_equivariance(images(), latents(), nearest_up, 2, target="latent"),
        "'latent'",
    ),
    "no scales": (lambda: reg.draw_scale(seeded(), ()), r"got \(\)"),
    "half a scale": (lambda: reg.draw_scale(seeded(), (2, 1.5)), "1.5"),
    "enlarging": (lambda: reg.downsample(images(), 0), r"\(0,\)"),
    "a power of zero": (lambda: reg.soft_penalty(latents(), power=0.0), "got 0.0"),
    "unequal moments": (lambda: reg.averaged_kl(latents(), latents()[:1]), r"\(1, 4, 8, 8\)"),
    "a latent that cannot be scaled": (lambda: reg.draw_transform(seeded(), 16, 9), "16x9"),
    "a latent of one pixel": (lambda: reg.draw_transform(seeded(), 1, 8), "1x8"),
    "a scale that leaves no whole sides": (
        lambda: reg.eq_vae(images(), latents(), nearest_up, reg.SpatialTransform(Fraction(1, 3))),
        "1/3",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_name_the_value(what):
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        call()


# --- a real model, and the layering


def test_every_loss_on_the_shipped_autoencoder():
    model = autoencoders.load("kl-f4c16")
    x = data.stack(data.Photos(64, "test"), range(2))
    posterior = model.encode(x)
    z = posterior.sample(seeded())
    reconstruction = reg.mse(x, model.decode(z)).item()
    generator = seeded()
    values = {
        "scale 2": reg.scale_equivariance(x, z, model.decode, 2),
        "scale 4": reg.scale_equivariance(x, z, model.decode, 4),
        "scale 2, reconstruction": reg.scale_equivariance(x, z, model.decode, 2, target="reconstruction"),
        "zigzag": reg.chop(x, z, model.decode, 0.7),
        "axes": reg.chop(x, z, model.decode, 0.7, order="axes"),
        "soft": reg.soft_penalty(z),
        "kl": reg.averaged_kl(posterior.mean, 2 * posterior.std.log()),
        "eq-vae": reg.eq_vae(x, z, model.decode, reg.draw_transform(generator, *z.shape[-2:])),
    }
    for name, value in values.items():
        (gradient,) = torch.autograd.grad(value, model.module.encoder.conv_in.weight, retain_graph=True)
        assert gradient.abs().max() > 0, name
    # What the model was not trained for it does worse than what it was trained for.
    for name in ("scale 2", "scale 4", "zigzag", "axes", "eq-vae"):
        assert values[name].item() > reconstruction, name
    assert reg.chop(x, z, model.decode, 0.0).item() == pytest.approx(reconstruction, rel=1e-4)


def test_regularizers_import_only_spectra_and_resizing():
    tree = ast.parse(Path(reg.__file__).read_text(encoding="utf-8"))
    ours = {
        f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diffusab_core")
        for name in node.names
    }
    assert ours == {
        "diffusab_core.data.resize_to",
        "diffusab_core.data.unroll",
        "diffusab_core.spectrum.block_dct",
        "diffusab_core.spectrum.chop_high_frequencies",
    }
