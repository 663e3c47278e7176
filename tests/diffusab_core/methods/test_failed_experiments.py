"""The SE paper's failed experiments: the decoder's gain with its cost, and the divergence from a small denoiser."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from diffusab_core import autoencoders, data
from diffusab_core.autoencoders import CATALOGUE, Autoencoder
from diffusab_core.autoencoders.names import AutoencoderError
from diffusab_core.denoisers import DenoiserError
from diffusab_core.experiments import finetune
from diffusab_core.methods import cost, finetuning, minildm
from diffusab_core.methods import regularizers as reg
from diffusab_core.methods.finetuning import Finetuning

SETTINGS = Finetuning(resolution=32, steps=4, batch_size=2, method="plain")
PROBE = data.stack(data.Photos(64, "test", length=2), range(2))
QUICK = {"probe": PROBE, "progress": False, "snapshots": 2, "log_every": 2}


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- the decoder's gain -----------------------------------------------------------------------------------------------


def test_the_gain_of_a_linear_decoder_is_that_of_its_matrix():
    matrix = randn(20, 6, dtype=torch.float64)
    z = randn(5000, 6, seed=1, dtype=torch.float64).requires_grad_()
    y = z @ matrix.T
    probe = randn(*y.shape, seed=3, dtype=torch.float64)
    expected = (probe @ matrix).square().sum() / y.numel()
    gain = reg.decoder_gain(z, y, probe)
    torch.testing.assert_close(gain, expected)
    assert gain.item() == pytest.approx(matrix.square().sum().item() / 20, rel=0.04)  # the mean over probes, 4 sd


def test_nearest_upsampling_has_a_gain_of_one_and_latents_twice_as_large_a_quarter():
    z = randn(64, 3, 8, 8).requires_grad_()
    probe = randn(64, 3, 32, 32, seed=1)

    def decode(z):
        return z.repeat_interleave(4, -1).repeat_interleave(4, -2)

    gain = reg.decoder_gain(z, decode(z), probe)
    assert gain.item() == pytest.approx(1, rel=0.05)
    large = (2 * z).detach().requires_grad_()
    assert reg.decoder_gain(large, decode(large / 2), probe).item() == pytest.approx(gain.item() / 4, rel=1e-5)


def test_the_gain_has_the_right_gradient_and_descent_lowers_it():
    decoder = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 3, 3, padding=1)).double()
    with torch.no_grad():
        for i, p in enumerate(decoder.parameters()):
            p.copy_(0.3 * randn(*p.shape, seed=i))
    z, probe = randn(2, 4, 6, 6, dtype=torch.float64).requires_grad_(), randn(2, 3, 6, 6, seed=9, dtype=torch.float64)

    def gain():
        return reg.decoder_gain(z, decoder(z), probe)

    before = gain()
    before.backward()
    weight, step = decoder[0].weight, 1e-5
    direction = randn(*weight.shape, seed=3, dtype=torch.float64)
    slope = (weight.grad * direction).sum()
    with torch.no_grad():
        weight += step * direction
    up = gain()
    with torch.no_grad():
        weight -= 2 * step * direction
    assert slope.item() == pytest.approx(((up - gain()) / (2 * step)).item(), rel=1e-5)
    with torch.no_grad():
        for p in decoder.parameters():
            p -= 0.01 * p.grad if p.grad is not None else 0
    assert gain() < before


OWN = """
from torch import nn

class Affine(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(3, 8, 2, 2), nn.Conv2d(8, 12, 1)

    def encode(self, x):
        return self.encoder(x)

    def decode(self, z):
        return nn.functional.pixel_shuffle(self.decoder(z), 2)

def build():
    return Affine()
"""


@pytest.fixture
def affine(tmp_path):
    """An autoencoder of single layers on half of the side, without a posterior."""
    (tmp_path / "own.py").write_text(OWN)
    return autoencoders.load(f"{tmp_path / 'own.py'}:build", probe=32)


def test_the_gain_of_one_layer_costs_three_more_passes(affine):
    """Back to the latent, from there to the weights, and to the probe: PyTorch computes it, though nothing needs it."""
    products = 8 * 12 * 16 * 16  # of the decoder, at 32 x 32
    assert cost.reconstruction_cost(affine, 32).decoder == products
    assert cost.gain_cost(affine, 32) == 3 * products


def test_the_gain_costs_more_than_scale_equivariance():
    with torch.device("meta"):
        flux = Autoencoder("FluxAE", CATALOGUE["FluxAE"].build())
    step = cost.reconstruction_cost(flux, 256, backward=True)
    se = sum(step.regularizer.values()) / 2
    assert cost.gain_cost(flux, 256) > 5 * se
    assert step.decoder < cost.gain_cost(flux, 256) < 3 * step.decoder


# --- a small denoiser trained with the autoencoder --------------------------------------------------------------------

MIDDLES = torch.linspace(*minildm.SPAN, 4001, dtype=torch.float64)
TIMES = ((MIDDLES[:-1] + MIDDLES[1:]) / 2).sigmoid()  # a quadrature over the span, one time for each item


def best_for(variance):
    """The velocity that is best for independent Gaussians of this variance and mean zero."""

    def velocity(x, t):
        t = t.view(-1, 1, 1, 1)
        return x * (t - (1 - t) * variance) / ((1 - t) ** 2 * variance + t**2)

    return velocity


def samples(mean, std, numbers=256):
    z = mean + std * randn(len(TIMES), numbers, 1, 1, dtype=torch.float64)
    return z, torch.full_like(z, std), randn(*z.shape, seed=1, dtype=torch.float64)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.0, 0.3), (1.5, 0.5), (0.2, 2.0)])
def test_against_a_standard_normal_it_is_the_usual_kl(mean, std):
    z, of_posterior, noise = samples(mean, std)
    found = minildm.divergence(z, of_posterior, noise, TIMES, best_for(1.0))
    usual = reg.averaged_kl(torch.full_like(z, mean), torch.full_like(z, 2 * math.log(std)))
    assert found.item() == pytest.approx(usual.item(), abs=0.03)


def test_the_right_prior_has_no_divergence_and_any_other_some():
    z, of_posterior, noise = samples(0.0, 2.0)
    right, low, high = (minildm.divergence(z, of_posterior, noise, TIMES, best_for(v)) for v in (4.0, 2.0, 8.0))
    assert right.item() == pytest.approx(0, abs=0.02)
    assert min(low.item(), high.item()) > right.item() + 0.05


def test_the_entropy_keeps_latents_from_shrinking():
    """Half as large under the best denoiser of each: the cross entropy falls by log 2, the entropy takes it back."""
    large, small = (minildm.divergence(*samples(0.0, s), TIMES, best_for(s * s)) for s in (1.0, 0.5))
    assert small.item() == pytest.approx(large.item(), abs=0.02)
    z, _, noise = samples(0.0, 0.5)
    without = minildm.divergence(z, torch.ones_like(z), noise, TIMES, best_for(0.25))
    assert without.item() == pytest.approx(-math.log(2), abs=0.02)


def test_times_are_uniform_in_log_odds():
    t = minildm.draw_times(torch.Generator().manual_seed(0), 4000)
    odds = t.double().logit()
    low, high = minildm.SPAN
    assert low < odds.min() < low + 0.05
    assert high - 0.05 < odds.max() < high
    assert odds.mean().abs() < 4 * (high - low) / math.sqrt(12 * 4000)


def test_the_small_denoiser_is_of_its_seed():
    state = torch.get_rng_state()
    one, same, other = (minildm.build("DiT-XXS/2", (16, 8, 8), seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.embed.weight, same.embed.weight)
    assert not torch.equal(one.embed.weight, other.embed.weight)
    with pytest.raises(
        ValueError, match="a denoiser that predicts the velocity is needed, UViT-XXS/2 predicts the noise"
    ):
        minildm.build("UViT-XXS/2", (16, 8, 8), 0)


# --- in fine-tuning ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder_only", [False, True])
def test_the_gain_in_fine_tuning(decoder_only):
    settings = replace(SETTINGS, r1_weight=0.1, decoder_only=decoder_only)
    autoencoder = autoencoders.load("kl-f4c16")
    finetuning.freeze(autoencoder, settings)
    x = data.stack(data.Photos(32, "train", length=2), range(2))
    how = (finetuning.distance_of(settings), torch.Generator().manual_seed(0))
    terms = finetuning.loss_terms(autoencoder, x, settings, *how)
    assert terms.keys() == {"reconstruction", "r1"}
    plain = replace(settings, r1_weight=0.0)
    alone = finetuning.loss_terms(autoencoder, x, plain, how[0], torch.Generator().manual_seed(0))
    assert terms["reconstruction"].item() == pytest.approx(alone["reconstruction"].item(), rel=1e-5)  # the same noise
    terms["r1"].backward()
    assert autoencoder.module.decoder.conv_in.weight.grad.abs().sum() > 0
    moved = autoencoder.module.encoder.conv_in.weight.grad
    assert moved is None if decoder_only else moved.abs().sum() > 0


def test_both_train_resume_and_leave_the_plain_run_alone(tmp_path):
    settings = replace(SETTINGS, r1_weight=1e-3, minildm_weight=1e-3)
    done = finetune(settings, tmp_path / "out", **QUICK)
    assert done.record.metrics["minildm_parameters"] > 1e5
    assert {"r1", "minildm"} <= done.record.series.keys()
    opened = autoencoders.load(str(tmp_path / "out"))
    for name, value in done.autoencoder.module.state_dict().items():
        assert torch.equal(value, opened.module.state_dict()[name]), name
    plain, beside = (finetune(replace(SETTINGS, **how), **QUICK) for how in ({}, {"method": "se", "alpha": 0.0}))
    for x, y in zip(*(d.autoencoder.module.state_dict().values() for d in (plain, beside)), strict=True):
        assert torch.equal(x, y)
    assert "r1_weight" not in plain.record.parameters
    assert "minildm_weight" not in plain.record.parameters


@pytest.mark.parametrize(("wrong", "message"), [
    ({"method": "eq-vae", "r1_weight": 0.1}, "eq-vae does not decode the latent as it is; leave r1_weight at 0"),
    ({"method": "sm", "r1_weight": 0.1}, "sm does not decode the latent as it is; leave r1_weight at 0"),
    ({"method": "eq-vae", "minildm_weight": 0.1}, "leave minildm_weight at 0 with it"),
    ({"r1_weight": -1.0}, "r1_weight must be finite and not negative, got -1"),
])  # fmt: skip
def test_what_does_not_go_together_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **wrong)


def test_an_unknown_denoiser_and_a_missing_one_are_named(affine):
    with pytest.raises(DenoiserError, match="no denoiser 'DiT-XXL/2'"):
        replace(SETTINGS, minildm_weight=0.1, minildm_denoiser="DiT-XXL/2")
    autoencoder, settings = autoencoders.load("kl-f4c16"), replace(SETTINGS, minildm_weight=0.1)
    with pytest.raises(ValueError, match="minildm_weight needs the denoiser"):
        finetuning.loss_terms(autoencoder, PROBE, settings, finetuning.distance_of(settings), torch.Generator())
    with pytest.raises(AutoencoderError, match="is deterministic, its KL is infinite: minildm_weight must be 0"):
        finetune(settings, autoencoder=affine, **QUICK)


# --- from scratch -----------------------------------------------------------------------------------------------------


def test_from_scratch_starts_at_random_weights_of_the_seed_and_trains_all():
    fresh = replace(SETTINGS, fresh=True, whole=True)
    one, same, other = (finetune(replace(fresh, seed=seed), **QUICK) for seed in (0, 0, 1))
    before = [d.record.metrics["before_psnr_db"] for d in (one, same, other)]
    assert before[0] == before[1] != before[2]
    assert max(before) < 12 < finetune(SETTINGS, **QUICK).record.metrics["before_psnr_db"]
    states = [d.autoencoder.module.state_dict() for d in (one, same)]
    assert all(torch.equal(x, y) for x, y in zip(*(s.values() for s in states), strict=True))
    everything = sum(p.numel() for p in one.autoencoder.parameters())
    assert one.record.metrics["trainable_parameters"] == everything
    assert "fresh" in one.record.parameters


def test_pairs_from_scratch_start_alike():
    fresh = replace(SETTINGS, fresh=True, whole=True)
    plain, se = (finetune(replace(fresh, method=m), **QUICK).record for m in ("plain", "se"))
    assert plain.metrics["before_psnr_db"] == se.metrics["before_psnr_db"]
    assert plain.series["before_profile"] == se.series["before_profile"]


def test_random_weights_that_would_stay_are_refused(affine):
    with pytest.raises(ValueError, match="what is frozen stays random: fresh needs whole"):
        replace(SETTINGS, fresh=True)
    with pytest.raises(AutoencoderError, match="has no configuration to be built from again"):
        finetune(replace(SETTINGS, fresh=True, whole=True), autoencoder=affine, **QUICK)
