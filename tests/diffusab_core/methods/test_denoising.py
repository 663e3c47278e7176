"""The loss of a denoiser's training and the drawing of samples, against what they are by definition."""

import math
from contextlib import nullcontext
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from diffusab_core import denoisers, experiments, flow, training
from diffusab_core.latents import TensorLatents
from diffusab_core.methods import denoising
from diffusab_core.methods.denoising import Denoising, Sampling
from diffusab_core.methods.reshaping import Reshaping
from diffusab_core.training.batches import ReadAhead

CLASSES, SHAPE = 3, (2, 4, 4)
SETTINGS = Denoising(denoiser="DiT-XXS/2", steps=100, batch_size=8, seed=4)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def latents(n=20, std=None, classes=CLASSES, mean=None):
    mean = 3 + 2 * normal(n, *SHAPE) if mean is None else mean
    std = None if std is None else torch.full_like(mean, std)
    names = [str(i) for i in range(classes)]
    return TensorLatents(mean, std, torch.arange(n) % classes if classes else None, names if classes else None)


def tiny(classes=CLASSES, std=0.1, **options):
    torch.manual_seed(0)
    options = {"patch": 2, "width": 32, "depth": 1, "heads": 2} | options
    model = denoisers.DiT(SHAPE[0], SHAPE[1:], classes, **options)
    if std:
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=std)
    return model


class Linear(nn.Module):
    """v = a x + b t + w_y; keeps what it was called with."""

    def __init__(self, a=0.0, b=0.0, classes=CLASSES):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))
        self.w = nn.Parameter(torch.arange(classes + 1.0) / 10)
        self.calls = []

    def forward(self, x, t, y=None, *, hint=None, with_hint=False):
        self.calls.append({"x": x, "t": t, "y": y, "hint": hint, "grad": torch.is_grad_enabled()})
        v = self.a * x + (self.b * t)[:, None, None, None]
        v = v if y is None else v + self.w[y][:, None, None, None]
        return (v, v) if with_hint else v


class LinearNoise(Linear):
    """The same as a prediction of the noise."""

    prediction = "noise"


def loss_at(model, data, settings=SETTINGS, step=0, **part):
    return denoising.loss_of(model, data, settings)(step, training.generator_at(settings.seed, step), **part)


# ---------------------------------------------------------------------------------------------------------------------
# The loss


@pytest.mark.parametrize("std", [None, 0.5])
@pytest.mark.parametrize("self_conditioning", [0.0, 1.0])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_parts_add_up_to_the_whole_batch(std, self_conditioning, precision):
    settings = replace(SETTINGS, self_conditioning=self_conditioning, precision=precision, label_dropout=0.3)
    data, model = latents(std=std), tiny()
    found = {}
    for parts in (1, 2, 4):
        model.zero_grad()
        losses = [loss_at(model, data, settings, step=3, part=(index, parts)) for index in range(parts)]
        (sum(losses) / parts).backward()
        assert len({loss.item() for loss in losses}) == parts  # each is of other samples
        found[parts] = (
            (sum(losses) / parts).item(),
            {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None},
        )
    loss, gradient = found[1]
    tolerance = 1e-5 if precision == "fp32" else 2e-2  # bf16: gradients of weights are summed in another order
    for parts in (2, 4):
        other, other_gradient = found[parts]
        assert other == pytest.approx(loss, rel=tolerance)
        assert gradient.keys() == other_gradient.keys()
        for name, grad in gradient.items():
            assert (other_gradient[name] - grad).norm() <= tolerance * grad.norm() + 1e-7, name
    # A weight that autocast had converted within the auxiliary pass, and kept, would get no gradient.
    assert set(dict(model.named_parameters())) - set(gradient) == ({"hint.weight"} if not self_conditioning else set())


def test_part_is_the_whole_batch_where_none_is_named():
    model, data = tiny(), latents()
    assert loss_at(model, data) == loss_at(model, data, part=(0, 1))


def test_the_loss_is_a_function_of_seed_and_step():
    data, model = latents(std=0.3), tiny()
    losses = {(seed, step): loss_at(model, data, replace(SETTINGS, seed=seed), step).item()
              for seed in (0, 1) for step in (0, 1, 50)}  # fmt: skip
    assert len(set(losses.values())) == 6
    torch.rand(7)  # the global stream is no part of it
    assert loss_at(model, data, replace(SETTINGS, seed=1), 50).item() == losses[1, 50]


def test_nothing_is_read_back_from_the_device_within_a_step(monkeypatch):
    """Meta tensors hold no numbers: whatever looks at one raises. On a GPU it would wait for the device."""
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: nullcontext())  # knows no meta device
    settings = replace(SETTINGS, device="meta", self_conditioning=1.0, label_dropout=0.5)
    for model, chosen in ((tiny().to("meta"), settings), (LinearNoise().to("meta"), replace(NOISE, device="meta"))):
        loss = loss_at(model, latents(std=0.3), chosen)
        loss.backward()
        assert loss.device.type == "meta"


def test_inputs_that_are_drawn_ahead_are_the_same(monkeypatch):
    data, model, settings = latents(std=0.3), tiny(), replace(SETTINGS, accumulation=2, steps=6)
    keys = [(step, (index, 4)) for step in range(6) for index in (2, 3)]
    wanted = [loss_at(model, data, settings, step, part=part).item() for step, part in keys]
    drawn_for, draw = [], denoising.draw_inputs
    monkeypatch.setattr(denoising, "draw_inputs", lambda d, s, step, part: drawn_for.append((step, part))
                        or draw(d, s, step, part))  # fmt: skip
    monkeypatch.setattr(ReadAhead, "_moved", lambda self, tensor: tensor)
    settings = replace(settings, device="cuda")  # only a word here: nothing is moved
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: nullcontext())
    loss = denoising.loss_of(model, data, settings)
    assert [loss(step, None, part=part).item() for step, part in keys] == wanted
    assert drawn_for == keys  # each once, in the order of the training


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="batch of 8 cannot be cut into 3 equal parts"):
        loss_at(tiny(), latents(), part=(0, 3))


def test_loss_against_a_computation_by_hand():
    """x is known from the order, the noise from x_t, and so is the target, whatever order things are drawn in."""
    data, model, step = latents(), Linear(0.7, -0.4), 5
    settings = replace(SETTINGS, self_conditioning=0.0, label_dropout=0.0)
    loss = loss_at(model, data, settings, step)
    (call,) = model.calls
    places = training.batch_indices(step, 8, len(data), settings.seed)
    raw, _, y = data.posterior(places)
    mean, std = data.statistics
    x = (raw - mean[:, None, None]) / std[:, None, None]
    t = call["t"][:, None, None, None]
    noise = (call["x"] - (1 - t) * x) / t
    assert torch.equal(call["y"], y)
    assert noise.mean() == pytest.approx(0, abs=0.25)  # 256 numbers
    assert noise.std() == pytest.approx(1, abs=0.2)
    v = 0.7 * call["x"] - 0.4 * t + (y / 10)[:, None, None, None]
    assert loss.item() == pytest.approx((v - (noise - x)).square().mean().item(), rel=1e-4)


def test_times_follow_location_and_scale():
    model, data = Linear(), latents()
    settings = replace(SETTINGS, batch_size=400, time_location=0.7, time_scale=0.5, self_conditioning=0.0)
    for step in range(5):
        loss_at(model, data, settings, step)
    logits = torch.logit(torch.cat([call["t"] for call in model.calls]))
    assert logits.mean() == pytest.approx(0.7, abs=4 * 0.5 / math.sqrt(2000))
    assert logits.std() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(4000))


class Exact(nn.Module):
    """The exact velocity of Gaussian data, times ``factor``, plus ``shift``."""

    def __init__(self, mean, variance, factor=1.0, shift=0.0):
        super().__init__()
        self.mean, self.variance, self.factor, self.shift = mean, variance, factor, shift

    def forward(self, x, t, y=None, *, hint=None, with_hint=False):
        v = self.factor * flow.gaussian_velocity(x, t, self.mean, self.variance) + self.shift
        return (v, v) if with_hint else v


def test_the_exact_velocity_of_a_gaussian_has_the_irreducible_loss_and_no_other_has_less():
    # Every item's posterior is the same Gaussian, so the data are Gaussian whatever the statistics turn out to be.
    location, sigma = torch.tensor([1.0, -2.0]).reshape(2, 1, 1), torch.tensor([2.0, 0.5]).reshape(2, 1, 1)
    shape = (64, *SHAPE)
    data = TensorLatents(location.expand(shape), sigma.expand(shape))
    settings = replace(SETTINGS, batch_size=8192, time_location=0.3, time_scale=0.8, self_conditioning=0.0)
    m, s = (value[:, None, None] for value in data.statistics)
    mean, variance = (location - m) / s, (sigma / s).square()

    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    t = torch.sigmoid(0.3 + 0.8 * torch.from_numpy(nodes))
    spread = (1 - t).square()[:, None] * variance.flatten() + t.square()[:, None]  # Var x_t, (nodes, C)
    weights = torch.from_numpy(weights / weights.sum())[:, None]
    irreducible = (weights * variance.flatten() / spread).sum(0).mean().item()  # Var(noise - x | x_t) = sigma^2/V_t

    best = loss_at(Exact(mean, variance), data, settings).item()
    assert best == pytest.approx(irreducible, rel=0.02)
    assert loss_at(Exact(mean, variance, shift=0.3), data, settings).item() == pytest.approx(best + 0.09, abs=0.02)
    for wrong in (Exact(mean, variance, 0.9), Exact(mean, variance, 1.1), Exact(mean + 0.3, variance),
                  Exact(mean, 1.5 * variance), Exact(mean, variance / 1.5)):  # fmt: skip
        assert loss_at(wrong, data, settings).item() > best + 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# The loss of noise prediction

NOISE = replace(SETTINGS, denoiser="UViT-XXS/2", self_conditioning=None)
KEPT = torch.from_numpy(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)).float()


def test_loss_of_noise_prediction_against_a_computation_by_hand():
    data, model, step = latents(), LinearNoise(0.7, -0.4), 5
    settings = replace(NOISE, label_dropout=0.0)
    loss = loss_at(model, data, settings, step)
    (call,) = model.calls
    raw, _, y = data.posterior(training.batch_indices(step, 8, len(data), settings.seed))
    mean, std = data.statistics
    x = (raw - mean[:, None, None]) / std[:, None, None]
    t = call["t"][:, None, None, None]
    kept = KEPT[(1000 * t).round().long() - 1]
    noise = (call["x"] - kept.sqrt() * x) / (1 - kept).sqrt()
    assert torch.equal(call["y"], y)
    assert noise.mean() == pytest.approx(0, abs=0.25)  # 256 numbers
    assert noise.std() == pytest.approx(1, abs=0.2)
    predicted = 0.7 * call["x"] - 0.4 * t + (y / 10)[:, None, None, None]
    assert loss.item() == pytest.approx((predicted - noise).square().mean().item(), rel=1e-3)
    parts = [loss_at(model, data, settings, step, part=(index, 4)).item() for index in range(4)]
    assert sum(parts) / 4 == pytest.approx(loss.item(), rel=1e-5)


def test_the_least_loss_of_noise_prediction():
    """Of normalised Gaussian data the best prediction is sqrt(1 - a) x_n, and what remains is the mean of a."""

    class Best(LinearNoise):
        def forward(self, x, t, y=None, **hint):
            return self.a * (1 - KEPT[(1000 * t).round().long() - 1]).sqrt()[:, None, None, None] * x

    data = TensorLatents(torch.zeros(64, *SHAPE), torch.ones(64, *SHAPE))
    settings = replace(NOISE, batch_size=8192)
    best = loss_at(Best(1.0), data, settings).item()
    assert best == pytest.approx(KEPT.mean().item(), rel=0.03)
    for wrong in (0.9, 1.1):
        assert loss_at(Best(wrong), data, settings).item() > best + 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# Self-conditioning, labels, mirroring


def test_no_gradient_goes_through_the_auxiliary_pass():
    model, data = tiny(), latents()
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args, kwargs, torch.is_grad_enabled())), with_kwargs=True
    )
    loss = loss_at(model, data, replace(SETTINGS, self_conditioning=1.0))
    loss.backward()
    (first, first_options, first_grad), (second, second_options, second_grad) = seen
    assert (first_grad, second_grad) == (False, True)
    assert first_options == {"with_hint": True}
    assert all(a is b for a, b in zip(first, second, strict=True))  # the same noise at the same time
    hint = second_options["hint"]
    assert not hint.requires_grad

    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    x_t, t, _ = second
    clean = latents_in_step(data, 0)
    noise = (x_t - (1 - t)[:, None, None, None] * clean) / t[:, None, None, None]
    _, own = model(*second, with_hint=True)
    assert own.requires_grad
    (model(*second, hint=own.detach()) - (noise - clean)).square().mean().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-3, atol=1e-5)


def latents_in_step(data, step):
    mean, _, _ = data.posterior(training.batch_indices(step, SETTINGS.batch_size, len(data), SETTINGS.seed))
    return data.normalise(mean)


@pytest.mark.parametrize("probability", [0.0, 0.9, 1.0])
def test_the_coin_of_self_conditioning(probability):
    data, steps = latents(), 400
    model = Linear()
    twice = 0
    for step in range(steps):
        model.calls.clear()
        loss_at(model, data, replace(SETTINGS, self_conditioning=probability), step)
        twice += len(model.calls) == 2
        assert (model.calls[-1]["hint"] is not None) is (len(model.calls) == 2)
    assert twice / steps == pytest.approx(probability, abs=4 * math.sqrt(probability * (1 - probability) / steps))


def test_parts_of_a_step_throw_the_same_coin():
    data, model = latents(), Linear()
    settings = replace(SETTINGS, self_conditioning=0.5)
    counts = []
    for step in range(20):
        model.calls.clear()
        for index in range(4):
            loss_at(model, data, settings, step, part=(index, 4))
        counts.append(len(model.calls))
    assert set(counts) == {4, 8}


@pytest.mark.parametrize("dropout", [0.0, 0.1, 1.0])
def test_label_dropout(dropout):
    model, data = Linear(), latents()
    settings = replace(SETTINGS, batch_size=200, label_dropout=dropout, self_conditioning=0.0)
    count = 0
    for step in range(20):
        loss_at(model, data, settings, step)
        _, _, y = data.posterior(training.batch_indices(step, 200, len(data), settings.seed))
        seen = model.calls[-1]["y"]
        dropped = seen == CLASSES
        assert torch.equal(seen[~dropped], y[~dropped])
        count += dropped.sum().item()
    assert count / 4000 == pytest.approx(dropout, abs=4 * math.sqrt(dropout * (1 - dropout) / 4000))


def test_a_model_without_classes_is_given_none():
    model = Linear()
    loss_at(model, latents(classes=0))
    assert all(call["y"] is None for call in model.calls)


def test_mirrored_images_are_taken_when_asked_for():
    mean = normal(20, *SHAPE)
    data = TensorLatents(mean, flipped=(mean + 1000, None))
    share = {}
    for flips in (False, True):
        model = Linear()
        settings = replace(SETTINGS, batch_size=100, flips=flips, self_conditioning=0.0)
        for step in range(10):
            loss_at(model, data, settings, step)
        moved = [((call["x"] / (1 - call["t"][:, None, None, None])).flatten(1).mean(1) > 300) for call in model.calls]
        share[flips] = torch.cat(moved).float().mean().item()
    assert share[False] == 0
    assert share[True] == pytest.approx(0.5, abs=0.07)


def test_mirrored_images_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="without those of the mirrored images"):
        loss_at(Linear(), latents(), replace(SETTINGS, flips=True))


# ---------------------------------------------------------------------------------------------------------------------
# Settings and the model


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0}, {"batch_size": 9, "accumulation": 2}, {"accumulation": 0}, {"self_conditioning": 1.1},
        {"label_dropout": -0.1}, {"time_scale": 0.0}, {"precision": "fp16"}, {"steps": 0}, {"learning_rate": 0.0},
        {"clip": 0.0}, {"warmup": 100}, {"ema_half_life": 0.0},
    ],
)  # fmt: skip
def test_impossible_settings_are_named(wrong):
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f"{name}.*{wrong[name]}|{wrong[name]}.*{name}"):
        replace(SETTINGS, **wrong)


def test_defaults_are_the_papers():
    settings = Denoising(steps=400_000).training
    assert (settings.warmup, settings.learning_rate, settings.final_learning_rate) == (10_000, 3e-4, 1e-5)
    assert (settings.betas, settings.weight_decay, settings.clip, settings.half_life) == ((0.9, 0.99), 0.01, 16, 5000)
    assert Denoising(steps=1000).training.warmup == 50
    assert Denoising(steps=1000, warmup=7).training.warmup == 7


@pytest.mark.parametrize(("name", "expected"), [("DiT-S/2", 0.9), ("UViT-S/1", 0.0), ("USiT-H/1", 0.0)])
def test_self_conditioning_is_of_those_that_have_it(name, expected):
    assert asdict(Denoising(denoiser=name))["self_conditioning"] == expected
    assert Denoising(denoiser=name, self_conditioning=0.0).self_conditioning == 0
    if not expected:
        with pytest.raises(ValueError, match=rf"{name} has no self-conditioning.*0\.5"):
            Denoising(denoiser=name, self_conditioning=0.5)


@pytest.mark.parametrize("wrong", [{"time_location": 0.5}, {"time_scale": 1.5}])
def test_times_of_noise_prediction_are_not_chosen(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=rf"UViT-S/1 predicts the noise.*{name} {value}"):
        Denoising(denoiser="UViT-S/1", **wrong)
    assert getattr(Denoising(denoiser="USiT-S/1", **wrong), name) == value


def test_an_unknown_denoiser_is_refused_before_anything_is_made():
    with pytest.raises(denoisers.DenoiserError, match="UViT-Q/1"):
        Denoising(denoiser="UViT-Q/1")


def test_weights_depend_on_the_seed_alone():
    data = latents()
    torch.manual_seed(11)
    before = torch.get_rng_state()
    a = denoising.build(SETTINGS, data)
    assert torch.equal(torch.get_rng_state(), before)
    b, c = denoising.build(SETTINGS, data), denoising.build(replace(SETTINGS, seed=5), data)
    assert torch.equal(a.embed.weight, b.embed.weight)
    assert not torch.equal(a.embed.weight, c.embed.weight)
    assert (a.in_channels, a.input_size, a.num_classes) == (2, (4, 4), CLASSES)


def test_a_compiled_model_keeps_its_names():
    data = latents()
    compiled = denoising.build(replace(SETTINGS, compile=True), data)  # compiled when first called, which it is not
    assert list(compiled.state_dict()) == list(denoising.build(SETTINGS, data).state_dict())


# ---------------------------------------------------------------------------------------------------------------------
# Sampling

SAMPLING = Sampling(samples=10, steps=3, batch_size=4, seed=2)


def drawn(model, settings=SAMPLING, classes=CLASSES, **options):
    """Place of a sample to its latent and class."""
    found = {}
    for places, x, y in denoising.sample_batches(model, settings, SHAPE, classes, **options):
        assert len(x) == len(places)
        for row, place in enumerate(places):
            assert place not in found
            found[place] = x[row], None if y is None else y[row].item()
    return found


def assert_same_samples(a, b):
    assert a.keys() == b.keys()
    for place, (x, y) in a.items():
        assert torch.equal(x, b[place][0]), place
        assert y == b[place][1]


@pytest.fixture(scope="module")
def model():
    return tiny(std=0.2).eval()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_samples_do_not_depend_on_the_number_of_processes(model, size):
    alone = drawn(model)
    assert list(alone) == list(range(10))
    together = {}
    for rank in range(size):
        own = drawn(model, rank=rank, size=size)
        assert not own.keys() & together.keys()
        together |= own
    assert_same_samples(dict(sorted(together.items())), alone)


@pytest.mark.parametrize("network", [tiny(std=0.2).eval(), LinearNoise()])
def test_a_bar_of_samples_moves_with_every_step(network):
    told = []
    settings = replace(SAMPLING, samples=10, batch_size=4, steps=5)
    list(
        denoising.sample_batches(
            network, settings, SHAPE, CLASSES, skip=lambda places: 5 in places, advance=told.append
        )
    )
    assert told == [4 / 5] * 5 + [2 / 5] * 5  # the second batch is there already


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_samples_agree_at_any_batch_size_and_number_of_processes(model, guidance):
    settings = replace(SAMPLING, guidance=guidance, steps=12)
    wanted = drawn(model, settings)
    for batch_size, size in ((1, 1), (3, 2), (10, 1), (64, 3)):
        found = {}
        for rank in range(size):
            found |= drawn(model, replace(settings, batch_size=batch_size), rank=rank, size=size)
        assert found.keys() == wanted.keys()
        for place, (x, y) in wanted.items():
            torch.testing.assert_close(found[place][0], x, rtol=0, atol=1e-4)
            assert found[place][1] == y


def test_no_sample_starts_from_noise_that_was_trained_on():
    data, settings = latents(), replace(SETTINGS, batch_size=4, steps=3)
    started = denoising.draw_noise(settings.seed, range(12), SHAPE)
    for step in range(3):
        _, noise, *_ = denoising.draw_inputs(data, settings, step)
        assert torch.cdist(noise.flatten(1), started.flatten(1)).min() > 1
    first = torch.randn(4, *SHAPE, generator=training.generator_at(settings.seed, 0))  # of the loop, for other losses
    assert torch.cdist(first.flatten(1), started.flatten(1)).min() > 1


def test_samples_do_not_depend_on_how_many_there_are(model):
    assert_same_samples(drawn(model, replace(SAMPLING, samples=8)), {k: v for k, v in drawn(model).items() if k < 8})


def test_samples_follow_the_seed_and_differ_from_one_another(model):
    first = drawn(model)
    assert_same_samples(drawn(model), first)
    other = drawn(model, replace(SAMPLING, seed=3))
    everything = torch.stack([x for found in (first, other) for x, _ in found.values()]).flatten(1)
    assert torch.pdist(everything).min() > 0.1


def test_sampling_is_euler_s_method_with_the_activations_handed_on(model):
    settings = replace(SAMPLING, samples=4, shift=2.0)
    found = drawn(model, settings)
    x, hint = denoising.draw_noise(settings.seed, range(4), SHAPE), None
    y = torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        for t, following in ((1.0, 0.8), (0.8, 0.5), (0.5, 0.0)):  # the odds of 2/3 and 1/3, doubled
            v, hint = model(x, torch.full((4,), t), y, hint=hint, with_hint=True)
            x = x + (following - t) * v
    torch.testing.assert_close(torch.stack([z for z, _ in found.values()]), x, rtol=1e-4, atol=1e-4)


def test_guidance_keeps_the_activations_of_its_branches_apart(model):
    settings = replace(SAMPLING, samples=4, guidance=3.0, guidance_interval=(0.3, 0.9))
    found = drawn(model, settings)
    x, hints = denoising.draw_noise(settings.seed, range(4), SHAPE), [None, None]
    y = torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        for t in (1.0, 2 / 3, 1 / 3):
            v, hints[0] = model(x, torch.full((4,), t), y, hint=hints[0], with_hint=True)
            if 0.3 <= t <= 0.9:
                without, hints[1] = model(x, torch.full((4,), t), hint=hints[1], with_hint=True)
                v = without + 3 * (v - without)
            x = x - v / 3
    torch.testing.assert_close(torch.stack([z for z, _ in found.values()]), x, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[0][0], drawn(model)[0][0], atol=1e-3)


def test_classes_come_in_turn_unless_one_is_named(model):
    assert [y for _, y in drawn(model).values()] == [place % CLASSES for place in range(10)]
    assert {y for _, y in drawn(model, replace(SAMPLING, labels=2)).values()} == {2}
    assert {y for _, y in drawn(tiny(0, std=0.2), classes=0).values()} == {None}


def test_what_is_there_already_is_skipped(model):
    asked = []

    def skip(places):
        asked.append(places)
        return 4 in places

    some = drawn(model, skip=skip)
    assert asked == [range(4), range(4, 8), range(8, 10)]
    assert_same_samples(some, {k: v for k, v in drawn(model).items() if k not in range(4, 8)})


def test_bfloat16_samples_are_float32_and_close(model):
    full, half = drawn(model), drawn(model, replace(SAMPLING, precision="bf16"))
    a, b = (torch.stack([x for x, _ in found.values()]) for found in (full, half))
    assert b.dtype == torch.float32
    assert 0 < (a - b).norm() < 0.03 * a.norm()


def test_sampling_leaves_the_caller_s_gradient_mode(model):
    for _, x, _ in denoising.sample_batches(model, SAMPLING, SHAPE, CLASSES):
        assert not x.requires_grad
        assert torch.is_grad_enabled()


@pytest.mark.parametrize("wrong", [3, 1000, -1])
def test_a_class_that_the_model_lacks_is_refused(model, wrong):
    with pytest.raises(ValueError, match=f"class {wrong} was asked for.*classes 0 to 2"):
        drawn(model, replace(SAMPLING, labels=wrong))


def test_classes_and_guidance_of_a_model_without_classes_are_refused():
    model = tiny(0)
    with pytest.raises(ValueError, match="class 0 was asked for, this denoiser has no classes"):
        drawn(model, replace(SAMPLING, labels=0), classes=0)
    with pytest.raises(ValueError, match=r"guidance 2\.0 needs a denoiser with classes"):
        drawn(model, replace(SAMPLING, guidance=2.0), classes=0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"samples": 0}, "got 0 and 4"), ({"batch_size": 0}, "got 10 and 0"), ({"precision": "fp8"}, "'fp8'"),
        ({"method": "rk4"}, "'rk4'"), ({"steps": 0}, "got 0"), ({"shift": -1.0}, r"got -1\.0"),
        ({"guidance": -2.0}, r"got -2\.0"), ({"guidance_interval": (0.8, 0.2)}, r"\(0\.8, 0\.2\)"),
    ],
)  # fmt: skip
def test_impossible_sampling_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        replace(SAMPLING, **wrong)


@pytest.mark.parametrize(
    ("prediction", "wrong", "said"),
    [
        ("noise", {"method": "heun"}, "'heun' is not for a denoiser that predicts the noise: choose one of dpm"),
        ("velocity", {"method": "ddim"}, "'ddim' is not for a denoiser that predicts the velocity: choose one of eu"),
        ("noise", {"shift": 2.0}, r"shift 2\.0 is for rectified flow"), ("noise", {"steps": 1001}, "got 1001"),
    ],
)  # fmt: skip
def test_sampling_that_does_not_fit_the_prediction_is_refused(prediction, wrong, said):
    settings = replace(SAMPLING, **wrong)
    network = LinearNoise() if prediction == "noise" else Linear()
    for use in (lambda: denoising.describe_sampling(settings, CLASSES, prediction), lambda: drawn(network, settings)):
        with pytest.raises(ValueError, match=said):
            use()


def test_the_method_that_is_used_is_the_one_that_is_said():
    for prediction, methods in (("velocity", ("euler", "heun")), ("noise", ("dpm++", "ddim"))):
        said = denoising.describe_sampling(SAMPLING, 0, prediction)
        assert (said["prediction"], said["sampler"]) == (prediction, methods[0])
        network = (LinearNoise if prediction == "noise" else Linear)(0.3, 0.2)
        default, first, second = (drawn(network, replace(SAMPLING, method=m)) for m in (None, *methods))
        assert_same_samples(default, first)
        assert not torch.allclose(default[0][0], second[0][0], atol=1e-3)


def test_noise_prediction_is_sampled_with_guidance():
    """For a prediction that is constant, guidance shifts it by a constant, and DDIM in one step is a line."""
    settings = replace(SAMPLING, samples=4, steps=1, method="ddim", guidance=3.0)
    found = drawn(LinearNoise(), settings)
    noise = denoising.draw_noise(settings.seed, range(4), SHAPE)
    w = torch.tensor([0.0, 0.1, 0.2, 0.0])  # the model's w_y; without a class it predicts 0
    expected = (noise - (1 - KEPT[-1]).sqrt() * 3 * w[:, None, None, None]) / KEPT[-1].sqrt()
    torch.testing.assert_close(torch.stack([x for x, _ in found.values()]), expected, rtol=1e-3, atol=1e-3)


def test_what_is_said_about_samples():
    said = denoising.describe_sampling(replace(SAMPLING, guidance=2.0, method="heun"), CLASSES)
    assert said["class_counts"] == {"0": 4, "1": 3, "2": 3}
    assert (said["sampler"], said["steps"], said["guidance"], said["count"]) == ("heun", 3, 2.0, 10)
    assert denoising.describe_sampling(SAMPLING, 0)["class_counts"] == {}
    assert denoising.describe_sampling(replace(SAMPLING, labels=1), CLASSES)["class_counts"] == {"1": 10}


# ---------------------------------------------------------------------------------------------------------------------
# Both together


def test_a_small_model_learns_two_gaussians_and_samples_them():
    """Two narrow Gaussians of opposite mean, one for each class; all patches are alike, as positions are relative."""
    pattern = normal(1, 2, 2, 2, seed=7).tile(2, 2)
    signs = torch.tensor([1.0, -1.0]).repeat(32)[:, None, None, None]
    data = TensorLatents(signs * pattern, torch.full((64, *SHAPE), 0.1), torch.arange(64) % 2)
    settings = Denoising(steps=240, batch_size=32, learning_rate=5e-3, warmup=10, clip=1.0, seed=1)
    model = tiny(2, std=0)

    held_out = replace(settings, seed=99, batch_size=512, label_dropout=0.0, self_conditioning=0.0)
    zero = loss_at(model, data, held_out).item()  # the model starts as the zero predictor
    assert zero == pytest.approx(2, abs=0.1)  # E |noise - x|^2 of normalised data
    trained = training.train(model, denoising.loss_of(model, data, settings), settings.training, progress=False)
    model.load_state_dict(trained.ema)
    model.eval()
    assert loss_at(model, data, held_out).item() < 0.3 * zero

    found = drawn(model, Sampling(samples=32, steps=8, batch_size=32), classes=2)
    for x, y in found.values():
        assert torch.cosine_similarity(x.flatten(), (data.normalise(pattern) * (1 - 2 * y)).flatten(), dim=0) > 0.7


@pytest.mark.parametrize("prediction", ["noise", "velocity"])
def test_a_small_u_vit_learns_one_latent(prediction):
    pattern = normal(1, *SHAPE, seed=7)
    data, name = TensorLatents(pattern.expand(8, *SHAPE)), {"noise": "UViT", "velocity": "USiT"}[prediction]
    settings = Denoising(denoiser=f"{name}-XXS/2", steps=350, batch_size=32, learning_rate=1e-2, warmup=10, clip=1.0)
    torch.manual_seed(0)
    model = denoisers.UViT(SHAPE[0], SHAPE[1:], prediction=prediction, patch=2, width=32, depth=2, heads=2)
    trained = training.train(model, denoising.loss_of(model, data, settings), settings.training, progress=False)
    model.load_state_dict(trained.ema)
    model.eval()
    wanted = data.normalise(pattern).flatten()
    found = drawn(model, Sampling(samples=9, steps=12, batch_size=9), classes=0).values()
    errors = torch.stack([(x.flatten() - wanted).norm() / wanted.norm() for x, _ in found])
    assert errors.median() < 0.5  # noise alone has 1.4


def cut_off_and_resumed(settings, data, folder, monkeypatch):
    """The same training in one go, and cut off within step 5 and resumed."""
    options = {"checkpoint_every": 2, "progress": False}
    whole = experiments.train_denoiser(settings, data, folder / "whole", **options)
    loss_of = denoising.loss_of

    def cut(*arguments):
        inner = loss_of(*arguments)

        def loss(step, *rest, **part):
            if step == 5:
                raise KeyboardInterrupt
            return inner(step, *rest, **part)

        return loss

    monkeypatch.setattr(denoising, "loss_of", cut)
    with pytest.raises(KeyboardInterrupt):
        experiments.train_denoiser(settings, data, folder / "cut", **options)
    monkeypatch.setattr(denoising, "loss_of", loss_of)
    return whole, experiments.train_denoiser(settings, data, folder / "cut", **options)


def assert_same_weights(one, other):
    a, b = (found.denoiser.model.state_dict() for found in (one, other))
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_training_of_a_u_vit_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    settings = replace(NOISE, steps=6, warmup=1)
    whole, resumed = cut_off_and_resumed(settings, latents(std=0.1), tmp_path, monkeypatch)
    assert_same_weights(whole, resumed)
    assert resumed.record.parameters["self_conditioning"] == 0
    assert "predicts the noise" in (tmp_path / "cut" / "README.md").read_text()


# ---------------------------------------------------------------------------------------------------------------------
# Latents of clips, (N, C, T, h, w)


def test_training_on_clips_goes_on_where_it_was_cut_off_and_is_sampled_from_the_disk(tmp_path, monkeypatch):
    coloured = Reshaping(power=0.5, parts="NL")  # whose frequencies are those in time, too
    settings = replace(SETTINGS, steps=6, warmup=1, reshaping=coloured)
    data = TensorLatents(3 + 2 * normal(20, 2, 3, 4, 4), torch.full((20, 2, 3, 4, 4), 0.1))
    whole, resumed = cut_off_and_resumed(settings, data, tmp_path, monkeypatch)
    assert_same_weights(whole, resumed)
    opened = experiments.open_denoiser(tmp_path / "cut")
    assert opened.shape == (2, 3, 4, 4)
    samples = Sampling(samples=5, steps=3, batch_size=2)
    a, b = (
        torch.cat([x for _, x, _ in denoising.sample_batches(d.model, samples, d.shape)])
        for d in (whole.denoiser, opened)
    )
    assert a.shape == (5, 2, 3, 4, 4)
    assert torch.equal(a, b)
    assert opened.denormalise(a).mean() == pytest.approx(3, abs=1)


def test_a_small_video_dit_learns_which_way_clips_run():
    """Frames are four patterns in turn, from any of them on: backwards is another clip, and by positions alone."""
    patterns = torch.eye(4)
    frames = (torch.arange(4)[:, None] + torch.arange(4)) % 4  # (clip, T)
    clips = patterns[frames].transpose(1, 2)[..., None, None].expand(-1, -1, -1, 2, 2)  # (4, C, T, 2, 2)
    data = TensorLatents(4 * clips)
    settings = replace(SETTINGS, steps=250, batch_size=32, learning_rate=1e-2, clip=1.0, self_conditioning=0.0)
    torch.manual_seed(0)
    model = denoisers.DiT(4, (4, 2, 2), patch=2, width=32, depth=2, heads=2)
    trained = training.train(model, denoising.loss_of(model, data, settings), settings.training, progress=False)
    model.load_state_dict(trained.ema)
    model.eval()
    samples = Sampling(samples=32, steps=12, batch_size=32)
    x = torch.cat([x for _, x, _ in denoising.sample_batches(model, samples, data.shape)])
    shown = x.mean((3, 4)).argmax(1)  # (N, T), which pattern a frame is
    ahead, back = (((shown.diff(dim=1) % 4) == by).float().mean() for by in (1, 3))
    assert len(shown[:, 0].unique()) > 1  # it has not learnt one clip
    assert ahead > 0.5, ahead  # 0.25 by chance
    assert ahead > 3 * back, (ahead, back)  # as often without positions in time
