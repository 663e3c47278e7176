"""The patch discriminator, its losses and their balance, and runs with it."""

import math
from dataclasses import replace

import pytest
import torch

from diffusab_core import autoencoders, data, experiments
from diffusab_core.methods import adversarial, finetuning
from diffusab_core.methods.adversarial import Adversary, PatchDiscriminator
from diffusab_core.methods.finetuning import Finetuning

SETTINGS = Finetuning("kl-f4c4", "plain", resolution=32, steps=6, batch_size=2, decoder_only=True)
ADVERSARIAL = replace(SETTINGS, adversarial_weight=0.5, adversarial_start=2)
SHORT = replace(ADVERSARIAL, discriminator_layers=1)  # a small discriminator, whose checkpoints are small
PROBE = data.stack(data.Photos(64, "test", length=2), range(2))
QUICK = {"probe": PROBE, "progress": False, "snapshots": 2, "log_every": 1}
X = data.stack(data.Photos(32, "train", length=2), range(2))


def opponent(autoencoder, settings=ADVERSARIAL):
    finetuning.freeze(autoencoder, settings)
    return Adversary(PatchDiscriminator(), settings.adversarial_weight, adversarial.last_weight(autoencoder))


def terms_of(autoencoder, adversary, settings=ADVERSARIAL):
    generator = torch.Generator().manual_seed(0)
    return finetuning.loss_terms(autoencoder, X, settings, finetuning.distance_of(settings), generator, adversary)


@pytest.mark.parametrize(("layers", "side"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_a_patch(layers, side):
    discriminator = PatchDiscriminator(layers, channels=4).eval()  # batch norm in train mode looks at everything
    x = torch.randn(1, 3, 160, 160, requires_grad=True)
    logits = discriminator(x)
    assert logits.shape[1] == 1
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    seen = x.grad[0].abs().sum(0).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [side, side]


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_smallest_side_has_a_logit(layers):
    discriminator = PatchDiscriminator(layers, channels=4)
    assert discriminator(torch.zeros(2, 3, *[adversarial.smallest_side(layers)] * 2)).numel()


def test_its_weights_are_its_seeds():
    state = torch.random.get_rng_state()
    a, b, c = (PatchDiscriminator(seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["layers.0.weight"], c["layers.0.weight"])


def test_the_hinge_loss_is_that_of_the_formula():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, -0.5, 1.0])
    expected = ((0 + 0.5 + 2) / 3 + (0 + 0.5 + 2) / 3) / 2
    assert adversarial.discriminator_loss(real, fake).item() == pytest.approx(expected)


def test_the_weight_makes_both_gradients_equally_long():
    at = torch.tensor([1.0, 2.0], requires_grad=True)
    strong, weak = (at * torch.tensor([3.0, 4.0])).sum(), (at * torch.tensor([0.0, 0.5])).sum()
    assert adversarial.adaptive_weight(strong, weak, at).item() == pytest.approx(5 / (0.5 + 1e-4))
    assert adversarial.adaptive_weight(strong, at.sum() * 0, at).item() == adversarial.LARGEST_WEIGHT


def test_each_loss_has_its_own_parameters():
    autoencoder = autoencoders.load("kl-f4c4")
    adversary = opponent(autoencoder)
    terms = terms_of(autoencoder, adversary)
    assert terms.keys() == {"reconstruction", "adversarial", "discriminator"}
    module, discriminator = autoencoder.module, adversary.discriminator
    assert adversary.last is module.decoder.conv_out.weight
    terms["adversarial"].backward(retain_graph=True)
    assert all(p.grad is None for p in discriminator.parameters())
    pushed = module.decoder.conv_out.weight.grad.norm()
    module.zero_grad()
    terms["reconstruction"].backward(retain_graph=True)
    pulled = module.decoder.conv_out.weight.grad.norm()
    torch.testing.assert_close(pushed, 0.5 * pulled, rtol=0.02, atol=0)  # the 1e-4 of the formula
    module.zero_grad()
    terms["discriminator"].backward()
    assert all(p.grad is None for p in module.parameters())
    assert all(p.grad is not None for p in discriminator.parameters())


def test_without_a_known_last_layer_the_losses_meet_at_the_reconstruction():
    adversary = replace(opponent(autoencoders.load("kl-f4c4")), last=None)
    y = (X + 0.1).requires_grad_()
    reconstruction = 1e3 * (y - X).square().mean()
    pushed = adversary.terms(X, y, reconstruction)["adversarial"]
    pushed, pulled = (torch.autograd.grad(loss, y, retain_graph=True)[0].norm() for loss in (pushed, reconstruction))
    torch.testing.assert_close(pushed, 0.5 * pulled, rtol=0.02, atol=0)  # the 1e-4 of the formula


def test_a_step_of_the_loss_is_the_sum_that_two_separate_losses_would_be():
    """One backward pass gives both networks the gradients that alternating implementations compute apart."""
    autoencoder = autoencoders.load("kl-f4c4")
    adversary = opponent(autoencoder)
    torch.stack(list(terms_of(autoencoder, adversary).values())).sum().backward()
    joint = [p.grad.clone() for p in (*autoencoder.module.decoder.parameters(), *adversary.discriminator.parameters())]

    autoencoder = autoencoders.load("kl-f4c4")
    adversary = opponent(autoencoder)
    with torch.no_grad():
        posterior = autoencoder.encode(X)
        generator = torch.Generator().manual_seed(0)
        z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
    y = autoencoder.decode(z)
    loss, fooled = (y - X).square().mean(), -adversary.discriminator(y).mean()
    last = autoencoder.module.decoder.conv_out.weight
    norms = [torch.autograd.grad(part, last, retain_graph=True)[0].norm() for part in (loss, fooled)]
    (loss + 0.5 * norms[0].item() / (norms[1].item() + 1e-4) * fooled).backward()
    adversary.discriminator.zero_grad()
    real, fake = adversary.discriminator(X), adversary.discriminator(y.detach())
    (0.5 * ((1 - real).relu().mean() + (1 + fake).relu().mean())).backward()
    apart = [p.grad for p in (*autoencoder.module.decoder.parameters(), *adversary.discriminator.parameters())]
    for a, b in zip(joint, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_a_run_begins_without_it_and_leaves_the_latents_alone(tmp_path):
    done = experiments.finetune(SHORT, tmp_path, **QUICK)
    series, m = done.record.series, done.record.metrics
    assert series["adversarial"][:2] == series["discriminator"][:2] == [0.0, 0.0]
    assert all(value > 0 for value in series["discriminator"][2:])
    assert all(value != 0 for value in series["adversarial"][2:])
    assert m["before_hf_energy_ratio"] == m["after_hf_energy_ratio"]
    assert m["discriminator_parameters"] == sum(p.numel() for p in PatchDiscriminator(1).parameters())
    assert sum(p.numel() for p in PatchDiscriminator().parameters()) == 2_765_633
    plain = autoencoders.load("kl-f4c4").module.state_dict()
    moved = {n for n, v in autoencoders.load(tmp_path).module.state_dict().items() if not torch.equal(v, plain[n])}
    assert moved
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in moved)
    assert "decoder.conv_out.weight" in moved


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    whole = experiments.finetune(SHORT, tmp_path / "whole", checkpoint_every=2, **QUICK)
    real, calls = finetuning.loss_terms, []

    def cut_off(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(finetuning, "loss_terms", cut_off)
    with pytest.raises(KeyboardInterrupt):
        experiments.finetune(SHORT, tmp_path / "cut", checkpoint_every=2, **QUICK)
    resumed = experiments.finetune(SHORT, tmp_path / "cut", checkpoint_every=2, **QUICK)
    assert len(calls) == 5 + 2
    for (name, a), b in zip(
        whole.autoencoder.module.state_dict().items(), resumed.autoencoder.module.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert whole.record.series["discriminator"] == resumed.record.series["discriminator"]


def test_without_weight_a_run_is_what_it_was():
    told = replace(SETTINGS, adversarial_start=3, discriminator_layers=2)
    assert told.identify() == SETTINGS.identify()
    assert not set(finetuning.ADVERSARIAL) & SETTINGS.identify().keys()
    assert set(finetuning.ADVERSARIAL) <= ADVERSARIAL.identify().keys()
    a, b = (experiments.finetune(s, **QUICK) for s in (told, SETTINGS))
    assert a.record.series["loss"] == b.record.series["loss"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"adversarial_weight": -1.0}, "adversarial_weight must be finite and not negative, got -1"),
        ({"adversarial_weight": math.inf}, "adversarial_weight must be finite and not negative, got inf"),
        ({"adversarial_start": 6}, "adversarial_start must lie between 0 and steps - 1 = 5, got 6"),
        ({"discriminator_layers": 0}, "discriminator_layers must be at least 1, got 0"),
        ({"resolution": 16}, "a discriminator of 3 layers needs a resolution of 24 pixels, got 16"),
        ({"method": "eq-vae"}, "leave adversarial_weight at 0 with eq-vae, got 0.5"),
    ],
)
def test_impossible_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(ADVERSARIAL, **wrong)


def test_the_usual_start_is_half_of_the_steps_at_most_50000():
    starts = [replace(ADVERSARIAL, adversarial_start=None, steps=steps).start for steps in (1, 400, 1_000_000)]
    assert starts == [0, 200, 50_000]


def test_half_precision_and_other_terms_go_with_it():
    settings = replace(SHORT, method="se", precision="bf16", decoder_only=False, steps=3, adversarial_start=1)
    series = experiments.finetune(settings, **QUICK).record.series
    assert all(map(math.isfinite, series["loss"]))
    assert series["adversarial"][0] == 0 != series["adversarial"][-1]
