"""Masks, the filter and coloured noise: the identities between them, what stays, and what is kept on the disk."""

import json
import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
import sharing_worker
import torch
from torch import nn
from torch.nn.functional import mse_loss

from diffusab_core import autoencoders, denoisers, experiments, flow, training
from diffusab_core.denoisers import DenoiserError
from diffusab_core.files import SettingsError
from diffusab_core.latents import TensorLatents
from diffusab_core.methods import denoising, reshaping
from diffusab_core.methods.denoising import Denoising, Sampling
from diffusab_core.methods.reshaping import Reshaped, Reshaping, Spectrum
from diffusab_core.training.state import CheckpointError

SHAPE, CLIP = (2, 4, 8), (2, 3, 4, 8)
SETTINGS = Denoising(denoiser="DiT-XXS/2", steps=20, batch_size=8, seed=4, self_conditioning=0.5)
SAMPLING = Sampling(samples=6, steps=5, batch_size=4, seed=2)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def latents(shape=SHAPE, n=300):
    """With a spectrum that falls along every axis, and heavier tails than a Gaussian's."""
    x = normal(n, *shape)
    for axis in range(2, len(shape) + 1):
        x = x + 0.6 * x.roll(1, axis) + 0.3 * x.roll(2, axis)
    x = x.sign() * x.abs() ** 1.5
    return TensorLatents(3 + 2 * x, torch.full_like(x, 0.1))


def network(shape=SHAPE, std=0.1, **options):
    torch.manual_seed(0)
    model = denoisers.DiT(shape[0], shape[1:], **({"patch": 2, "width": 32, "depth": 1, "heads": 2} | options))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    return model


def filtered(x, gains):
    """By SciPy, in double precision."""
    axes = tuple(range(-gains.ndim, 0))
    d = scipy.fft.dctn(x.double().numpy(), axes=axes, norm="ortho") * gains.double().numpy()
    return torch.from_numpy(scipy.fft.idctn(d, axes=axes, norm="ortho"))


def gains_of(data, power):
    """By definition, from the energies of samples that are drawn as those of the statistics are."""
    energies = reshaping.measure_energies(data)
    g = energies ** ((power - 1) / 2)
    return g * (energies.sum() / (g.square() * energies).sum()).sqrt()


def loss_at(model, data, chosen, step=3, **options):
    settings = replace(SETTINGS, reshaping=chosen, **options)
    return denoising.loss_of(model, data, settings)(step, None)


# ---------------------------------------------------------------------------------------------------------------------
# What the filter is


@pytest.mark.parametrize("shape", [SHAPE, CLIP])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.25])
def test_energies_are_taken_to_the_power_at_the_same_sum(shape, power):
    data = latents(shape)
    energies = reshaping.measure_energies(data)
    spectrum = Spectrum(Reshaping(power=power), shape, 1, energies)
    posterior = data.posterior(range(len(data)))
    z = data.normalise(posterior[0] + posterior[1] * normal(len(data), *shape, seed=9))
    axes = tuple(range(-len(shape) + 1, 0))

    def measured(x):
        return np.square(scipy.fft.dctn(x.double().numpy(), axes=axes, norm="ortho")).mean((0, 1))

    before, after = measured(z), measured(spectrum.last.enter(z))
    np.testing.assert_allclose(before, energies.numpy(), rtol=0.02)  # other draws of the posterior's noise
    np.testing.assert_allclose(after / after.sum(), before**power / (before**power).sum(), rtol=0.03)
    assert after.sum() == pytest.approx(before.sum(), rel=0.01)
    noise = measured(spectrum.last.colour(normal(4000, *shape, seed=1)))
    np.testing.assert_allclose(noise / noise.sum(), before ** (1 - power) / (before ** (1 - power)).sum(), rtol=0.15)


@pytest.mark.parametrize("shape", [SHAPE, CLIP])
@pytest.mark.parametrize("power", [0.5, 1.5])
def test_the_filter_is_training_on_filtered_latents(shape, power):
    """Coloured noise, its metric and other coordinates together, against filtered latents and white noise."""
    data, model = latents(shape), network(shape)
    settings = replace(SETTINGS, reshaping=Reshaping(power=power))
    loss, gains = denoising.loss_of(model, data, settings), gains_of(data, power)
    for step in (0, 1, 7):
        x, noise, t, _, twice = denoising.draw_inputs(data, settings, step)
        y = filtered(x, gains).float()
        y_t = flow.interpolate(y, noise, t)
        hint = model(y_t, t, with_hint=True)[1].detach() if twice else None
        wanted = mse_loss(model(y_t, t, hint=hint), noise - y)
        assert loss(step, None).item() == pytest.approx(wanted.item(), rel=2e-5)


@pytest.mark.parametrize("power", [0.5, 1.5])
def test_samples_of_the_filter_are_those_of_filtered_latents_undone(power):
    data, model = latents(), network().eval()
    gains = gains_of(data, power)
    spectrum = Spectrum(Reshaping(power=power), SHAPE, 10, reshaping.measure_energies(data))
    found = torch.cat([x for _, x, _ in denoising.sample_batches(Reshaped(model, spectrum.last), SAMPLING, SHAPE)])
    filtered_samples = torch.cat([x for _, x, _ in denoising.sample_batches(model, SAMPLING, SHAPE)])
    torch.testing.assert_close(found, filtered(filtered_samples, 1 / gains).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("parts", ["N", "L", "C", "NL", "NC", "LC", "NLC"])
@pytest.mark.parametrize("mask", ["none", "blocks"])
def test_each_part_does_what_its_formula_says(parts, mask):
    data, model, power = latents(), network(), 0.5
    settings = replace(SETTINGS, reshaping=Reshaping(power=power, parts=parts, mask=mask), self_conditioning=0.0)
    gains, signs = gains_of(data, power), reshaping.make_mask(mask, *SHAPE[1:])
    one = torch.ones_like(gains)
    n, w, c = (gains if part in parts else one for part in "NLC")
    x, noise, t, _, _ = denoising.draw_inputs(data, settings, 2)
    noise = filtered(noise, 1 / n)
    x_t = flow.interpolate(x.double(), noise, t.double())
    v = filtered(signs * model((signs * filtered(x_t, c)).float(), t).detach(), 1 / c)
    wanted = filtered(v - (noise - x), w).square().mean()
    assert denoising.loss_of(model, data, settings)(2, None).item() == pytest.approx(wanted.item(), rel=1e-4)

    model.eval()
    spectrum = denoising.spectrum_of(settings, data)
    (found,) = [
        x for _, x, _ in denoising.sample_batches(Reshaped(model, spectrum.last), replace(SAMPLING, samples=3), SHAPE)
    ]
    z = filtered(denoising.draw_noise(2, range(3), SHAPE), 1 / n)
    hint = None
    for t in (1.0, 0.8, 0.6, 0.4, 0.2):
        with torch.no_grad():
            v, hint = model((signs * filtered(z, c)).float(), torch.full((3,), t), hint=hint, with_hint=True)
        z = z - filtered(signs * v, 1 / c) / 5
    torch.testing.assert_close(found, z.float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_changes_nothing_changes_no_bit(precision):
    data, model = latents(), network()
    neutral = [Reshaping(power=1.0, parts="NL"), Reshaping(ramp_from=1.0, ramp=0.5), Reshaping(mask="none", parts="C")]
    found = []
    for chosen in (None, *neutral):
        options = {"precision": precision} | ({} if chosen is None else {"reshaping": chosen})
        model.zero_grad()
        loss = denoising.loss_of(model, data, replace(SETTINGS, **options))(5, None)
        loss.backward()
        found.append((loss.item(), [p.grad for p in model.parameters() if p.grad is not None]))
        if chosen is not None:
            assert chosen.identity() == {}
    x, noise, t, _, twice = denoising.draw_inputs(data, SETTINGS, 5)  # and the loss as it was before there was any
    x_t = flow.interpolate(x, noise, t)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"), torch.no_grad():
        hint = model(x_t, t, with_hint=True)[1] if twice else None
        wanted = mse_loss(model(x_t, t, hint=hint).float(), noise - x).item()
    for loss, gradients in found:
        assert loss == wanted
        assert all(torch.equal(a, b) for a, b in zip(gradients, found[0][1], strict=True))


@pytest.mark.parametrize("chosen", [Reshaping(power=0.5, mask="blocks"), Reshaping(power=1.2, ramp_from=0.5, ramp=1.0)])
def test_nothing_is_read_back_from_the_device_within_a_step(chosen, monkeypatch):
    """Meta tensors hold no numbers: whatever looks at one raises. On a GPU it would wait for the device."""
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: nullcontext())  # knows no meta device
    loss = loss_at(network().to("meta"), latents(), chosen, device="meta")
    loss.backward()
    assert loss.device.type == "meta"


# ---------------------------------------------------------------------------------------------------------------------
# Masks


@pytest.mark.parametrize("name", [m for m in reshaping.MASKS if m != "none"] + ["random:7"])
def test_masks_are_orthogonal_and_balanced(name):
    signs = reshaping.make_mask(name, 8, 8)
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    assert torch.equal(signs, reshaping.make_mask(name, 8, 8))
    assert abs(signs.mean()) <= (0 if "random" not in name else 0.3)
    coordinates = Spectrum(Reshaping(mask=name), (3, 8, 8), 1, None).last
    x, z = normal(5, 3, 8, 8), normal(5, 3, 8, 8, seed=1)
    assert torch.equal(coordinates.leave(coordinates.enter(x)), x)
    torch.testing.assert_close((coordinates.enter(x) * coordinates.enter(z)).sum(), (x * z).sum())
    assert torch.equal(coordinates.colour(x), x)


def test_masks_are_what_they_are_called():
    assert reshaping.make_mask("rows", 4, 2).tolist() == [[1, 1], [-1, -1], [1, 1], [-1, -1]]
    assert reshaping.make_mask("checkerboard", 2, 3).tolist() == [[1, -1, 1], [-1, 1, -1]]
    assert reshaping.make_mask("blocks", 4, 4).tolist() == [[1, 1, -1, -1]] * 2 + [[-1, -1, 1, 1]] * 2
    assert not torch.equal(reshaping.make_mask("random:1", 8, 8), reshaping.make_mask("random:2", 8, 8))
    assert torch.equal(reshaping.make_mask("random", 8, 8), reshaping.make_mask("random:0", 8, 8))


@pytest.mark.parametrize(("mask", "blind"), [("checkerboard", True), ("rows", True), ("blocks", False)])
def test_patches_of_two_are_blind_to_what_lies_within_them(mask, blind):
    data, plain = latents(), network()
    options = {"learning_rate": 1e-2, "warmup": 0, "self_conditioning": 0.5}
    curves, other = [], network()
    other.load_state_dict(plain.state_dict())
    signs = reshaping.make_mask(mask, 4, 8)
    if blind:
        reshaping.absorb_mask(other, signs)
    else:
        with pytest.raises(SettingsError, match=r"\(4, 8\)"):
            reshaping.absorb_mask(other, signs)
        assert all(torch.equal(a, b) for a, b in zip(other.parameters(), plain.parameters(), strict=True))
    for chosen, model in ((Reshaping(), plain), (Reshaping(mask=mask), other)):
        settings = replace(SETTINGS, reshaping=chosen, **options)
        loss = denoising.loss_of(model, data, settings)
        trained = training.train(model, loss, settings.training, log_every=1, progress=False)
        curves.append(np.array(trained.series["loss"]))
    apart = np.abs(curves[0] - curves[1]) / curves[0]
    assert curves[0][-1] < 0.9 * curves[0][0]  # something was learned meanwhile
    if blind:
        assert apart.max() < 1e-5
    else:
        assert apart.max() > 1e-2


# ---------------------------------------------------------------------------------------------------------------------
# Schedules and files


def test_a_schedule_moves_in_a_straight_line_and_stays():
    plan = Reshaping(power=1.25, ramp_from=0.5, ramp=0.6)
    found = [plan.power_at(step, 10) for step in (0, 3, 6, 9, 10)]
    assert found == pytest.approx([0.5, 0.875, 1.25, 1.25, 1.25])
    data, model = latents(), network()
    moving = loss_at(model, data, plan, step=6)  # of 20 steps, the ramp ends at 12
    assert moving.item() == loss_at(model, data, Reshaping(power=0.875), step=6).item()
    assert loss_at(model, data, plan, step=19).item() == loss_at(model, data, Reshaping(power=1.25), step=19).item()
    spectrum = denoising.spectrum_of(replace(SETTINGS, reshaping=plan), data)
    constant = denoising.spectrum_of(replace(SETTINGS, reshaping=Reshaping(power=1.25)), data)
    assert torch.equal(spectrum.last.gains, constant.last.gains)


def test_words_of_the_command_line():
    parse = reshaping.parse_noise_spectrum
    assert parse("0.5") == Reshaping(power=0.5, parts="NL")
    assert parse("0.5:1.25") == Reshaping(power=1.25, ramp_from=0.5, ramp=reshaping.RAMP, parts="NL")
    assert parse("0:1:1") == Reshaping(power=1.0, ramp_from=0.0, ramp=1.0, parts="NL")
    assert parse("some.json") == Reshaping(filter="some.json", parts="NL")
    assert parse("1").identity() == {}
    for wrong in ("", "white", "1:2:3:4", "0.5:", "some.txt"):
        with pytest.raises(SettingsError, match=f"got {wrong!r}"):
            parse(wrong)


def test_a_filter_from_a_file_is_the_inverse_root_of_the_noise_s_energies(tmp_path):
    data, model, file = latents(), network(), tmp_path / "noise.json"
    energies = gains_of(data, 0.5).pow(-2)
    file.write_text(json.dumps(energies.tolist()))
    chosen = Reshaping(filter=str(file), parts="NL")
    wanted = loss_at(model, data, Reshaping(power=0.5, parts="NL")).item()
    assert loss_at(model, data, chosen).item() == pytest.approx(wanted, rel=1e-6)
    said = chosen.identity()
    assert len(said["filter"]) == 12  # its contents and not its place
    file.write_text(json.dumps((2 * energies).tolist()))
    assert chosen.identity() != said
    for text, word in (("[1, 2]", "1 axes"), ("[[1, -2]]", "-2"), ("[[1, [2]]]", "noise.json"), ("oh", "noise.json")):
        file.write_text(text)
        with pytest.raises(SettingsError, match=word):
            loss_at(model, data, chosen)
    file.write_text("[[1, 2], [3, 4]]")
    with pytest.raises(SettingsError, match=r"\(2, 2\)"):
        loss_at(model, data, chosen)
    with pytest.raises(SettingsError, match="missing"):
        loss_at(model, data, Reshaping(filter="missing.json"))


# ---------------------------------------------------------------------------------------------------------------------
# Latents that are made up


def test_gaussian_latents_have_the_covariance_and_nothing_else():
    real = latents(n=4000)
    made = reshaping.make_up(real, Reshaping(surrogate="gaussian"))
    x, z = (some.posterior(range(4000))[0].flatten(1).double() for some in (real, made))
    torch.testing.assert_close(z.mean(0), x.mean(0), rtol=0, atol=0.4)
    scale = x.var(0).mean()
    assert (z.T.cov() - x.T.cov()).abs().max() < 0.15 * scale
    assert (x.T.cov() - torch.diag(x.var(0))).abs().max() > 0.3 * scale  # not that of independent numbers

    def kurtosis(a):
        a = (a - a.mean(0)) / a.std(0)
        return a.pow(4).mean().item()

    assert kurtosis(x) > 4
    assert kurtosis(z) == pytest.approx(3, abs=0.15)
    assert torch.equal(made.posterior([7])[0], made.posterior([3, 7])[0][1:])
    assert made.identity["surrogate"] == "gaussian"


def test_held_out_surrogates_are_of_the_latents_trained_on():
    real, few = latents(n=2000), latents(n=40)
    made = reshaping.make_up(few, Reshaping(surrogate="gaussian"), like=real)
    assert len(made) == 40
    assert torch.equal(made.channel_mean, real.channel_mean)
    with pytest.raises(SettingsError, match=r"64 numbers.*40"):
        reshaping.make_up(few, Reshaping(surrogate="gaussian"))


@pytest.mark.parametrize("shape", [SHAPE, CLIP])
def test_latents_without_phase_keep_the_energy_of_every_coefficient(shape):
    real = latents(shape, n=60)
    made = reshaping.make_up(real, Reshaping(surrogate="phase"))
    axes = tuple(range(-len(shape) + 1, 0))
    a, b = (scipy.fft.dctn(real.normalise(d.posterior(range(60))[0]).double().numpy(), axes=axes, norm="ortho")
            for d in (real, made))  # fmt: skip
    np.testing.assert_allclose(np.abs(a), np.abs(b), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(a[:, 0] * a[:, 1], b[:, 0] * b[:, 1], rtol=1e-3, atol=1e-3)  # channels go together
    changed = (np.sign(a) != np.sign(b)).mean()
    assert changed == pytest.approx(0.5, abs=0.05)


def test_white_channels_come_last_and_are_dropped():
    real = latents()
    made = reshaping.make_up(real, Reshaping(white_channels=3))
    assert made.shape == (5, *SHAPE[1:])
    mean, std, _ = made.posterior([4, 9])
    assert torch.equal(mean[:, :2], real.posterior([4, 9])[0])
    assert (mean[:, 2:].abs().max(), std[:, 2:].min(), std[:, 2:].max()) == (0, 1, 1)
    assert torch.equal(made.channel_std, torch.cat([real.channel_std, torch.ones(3)]))
    x, _, _, _, _ = denoising.draw_inputs(made, replace(SETTINGS, batch_size=200), 0)
    assert x[:, 2:].std().item() == pytest.approx(1, abs=0.02)
    settings = replace(SETTINGS, steps=2, reshaping=Reshaping(white_channels=3))
    done = experiments.train_denoiser(settings, real, progress=False).denoiser
    assert (done.shape, done.white_channels) == ((5, *SHAPE[1:]), 3)
    z = normal(2, 5, *SHAPE[1:])
    torch.testing.assert_close(done.denormalise(z), real.denormalise(z[:, :2]))


# ---------------------------------------------------------------------------------------------------------------------
# On the disk, interrupted, on several processes

NOISE = Reshaping(power=1.25, ramp_from=0.5, ramp=0.6, parts="NL")
RUN = replace(SETTINGS, steps=6, reshaping=NOISE)


def train(folder, settings=RUN, data=None, **options):
    options = {"checkpoint_every": 2, "log_every": 1, "progress": False} | options
    return experiments.train_denoiser(settings, data or latents(), folder, **options)


def interrupted(folder, monkeypatch, settings=RUN, step=5):
    class Stop(Exception):
        pass

    real = denoising.draw_inputs

    def draw(*arguments):
        if arguments[2] == step:
            raise Stop
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(denoising, "draw_inputs", draw)
        with pytest.raises(Stop):
            train(folder, settings)


def test_a_run_that_was_cut_off_goes_on_with_the_spectrum_it_began_with(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole")
    interrupted(tmp_path / "cut", monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(reshaping, "measure_energies", lambda *_: pytest.fail("measured anew"))
        resumed = train(tmp_path / "cut")
        back = train(tmp_path / "cut")  # finished by now: only read back
    assert resumed.record.series == whole.record.series
    weights = [t.denoiser.model.state_dict() for t in (whole, resumed, back)]
    for other in weights[1:]:
        assert all(torch.equal(value, other[name]) for name, value in weights[0].items())
    opened = experiments.open_denoiser(tmp_path / "cut")
    assert isinstance(opened.model, Reshaped)
    a, b = (
        torch.cat([x for _, x, _ in denoising.sample_batches(d.model, SAMPLING, SHAPE)])
        for d in (whole.denoiser, opened)
    )
    assert torch.equal(a, b)
    assert whole.record.parameters["power"] == 1.25
    assert "mask" not in whole.record.parameters


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Reshaping(power=0.75, ramp_from=0.5, ramp=0.6, parts="NL"), "power 1.25 -> 0.75"),
        (replace(NOISE, ramp=0.5), "ramp 0.6 -> 0.5"),
        (replace(NOISE, parts="NLC"), "parts 'NL' -> None"),
        (replace(NOISE, mask="blocks"), "mask None -> 'blocks'"),
        (Reshaping(), "power 1.25 -> None"),
    ],
)
def test_going_on_with_another_spectrum_is_refused_by_name(tmp_path, monkeypatch, other, said):
    interrupted(tmp_path, monkeypatch)
    kept = (tmp_path / "training" / "spectrum.json").read_bytes()
    with pytest.raises(CheckpointError, match=said):
        train(tmp_path, replace(RUN, reshaping=other))
    assert (tmp_path / "training" / "spectrum.json").read_bytes() == kept
    train(tmp_path)


def test_another_spectrum_than_that_of_a_finished_run_is_refused_by_name(tmp_path):
    train(tmp_path)
    with pytest.raises(CheckpointError, match=r"power 1\.25 -> 0\.75"):
        train(tmp_path, replace(RUN, reshaping=replace(NOISE, power=0.75)))


def test_a_damaged_spectrum_is_named(tmp_path, monkeypatch):
    interrupted(tmp_path, monkeypatch)
    file = tmp_path / "training" / "spectrum.json"
    whole = file.read_text()
    for damage in (whole[: len(whole) // 2], "[]", json.dumps(json.loads(whole) | {"energies": None})):
        file.write_text(damage)
        with pytest.raises(CheckpointError, match=r"spectrum\.json"):
            train(tmp_path)
    file.unlink()  # then it is measured anew
    assert math.isfinite(train(tmp_path).record.series["loss"][-1])


def test_a_folder_whose_filter_is_damaged_is_no_denoiser(tmp_path):
    train(tmp_path)
    file = tmp_path / "denoiser.json"
    config = json.loads(file.read_text())
    energies = config["reshaping"]["energies"]
    for damage in ({}, config["reshaping"] | {"energies": None}, config["reshaping"] | {"energies": energies[1:]},
                   config["reshaping"] | {"energies": [[-e for e in row] for row in energies]}):  # fmt: skip
        file.write_text(json.dumps(config | {"reshaping": damage}))
        with pytest.raises(DenoiserError, match=r"denoiser\.json"):
            experiments.open_denoiser(tmp_path)


def test_a_denoiser_without_reshaping_is_kept_as_before(tmp_path):
    done = train(tmp_path, replace(RUN, reshaping=Reshaping()))
    assert "reshaping" not in json.loads((tmp_path / "denoiser.json").read_text())
    assert not {"reshaping", "power", "mask", "parts"} & done.record.parameters.keys()
    assert not (tmp_path / "training" / "spectrum.json").exists()


def reshaped_run(world, folder):
    """The losses of a run of two processes, and the samples that its denoiser draws, each process its share."""
    done = train(folder / "two", world=world)
    drawn = denoising.sample_batches(done.denoiser.model, SAMPLING, SHAPE, rank=world.rank, size=world.size)
    return {"loss": done.record.series["loss"], "samples": {str(p.start): x.tolist() for p, x, _ in drawn}}


def test_two_processes_train_and_sample_as_one(tmp_path):
    (tmp_path / "meet").mkdir()
    pair = sharing_worker.run(sharing_worker.train_reshaped, tmp_path / "meet", __file__, str(tmp_path))
    alone = train(tmp_path / "one")
    for found in pair:
        assert found["loss"] == pytest.approx(alone.record.series["loss"], rel=1e-5)
    together = pair[0]["samples"] | pair[1]["samples"]
    wanted = {str(p.start): x for p, x, _ in denoising.sample_batches(alone.denoiser.model, SAMPLING, SHAPE)}
    assert together.keys() == wanted.keys()
    for place, x in wanted.items():
        torch.testing.assert_close(torch.tensor(together[place]), x, rtol=1e-3, atol=1e-3)
    spectra = [(tmp_path / name / "training" / "spectrum.json").read_bytes() for name in ("one", "two")]
    assert spectra[0] == spectra[1]


# ---------------------------------------------------------------------------------------------------------------------
# What cannot be


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mask": "stripes"}, "'stripes'"),
        ({"mask": "rows:3"}, "'rows:3'"),
        ({"mask": "random:"}, "'random:'"),
        ({"power": math.nan}, "nan"),
        ({"power": math.inf}, "inf"),
        ({"ramp": 1.5}, "1.5"),
        ({"ramp_from": 0.5}, "ramp_from 0.5"),
        ({"parts": ""}, "''"),
        ({"parts": "LN"}, "'LN'"),
        ({"parts": "NX"}, "'NX'"),
        ({"filter": "f.json", "power": 0.5}, "power 0.5"),
        ({"surrogate": "white"}, "'white'"),
        ({"white_channels": -1}, "-1"),
    ],
)
def test_values_that_cannot_be_used_are_refused(values, said):
    with pytest.raises(SettingsError, match=said):
        Reshaping(**values)


@pytest.mark.parametrize("chosen", [Reshaping(power=0.5), Reshaping(mask="rows"), Reshaping(filter="f.json")])
def test_only_velocities_have_another_path(chosen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.json").write_text("[[1.0]]")
    with pytest.raises(SettingsError, match="UViT-XXS/2"):
        Denoising(denoiser="UViT-XXS/2", reshaping=chosen)
    assert Denoising(denoiser="USiT-XXS/2", reshaping=chosen).reshaping == chosen
    assert Denoising(denoiser="UViT-XXS/2", reshaping=Reshaping(white_channels=2)).reshaping.white_channels == 2


def test_a_frequency_without_energy_has_no_power():
    mean = normal(50, 2, 4, 4)
    flat = TensorLatents(mean - mean.mean(-1, keepdim=True))  # nothing but rounding at horizontal frequency 0
    with pytest.raises(SettingsError, match=r"\(\d, 0\)"):
        reshaping.measure_energies(flat)


def test_generated_images_of_a_denoiser_with_white_channels_are_the_autoencoder_s(tmp_path):
    autoencoder = autoencoders.load("kl-f8c4")
    data = TensorLatents(normal(40, 4, 4, 4))
    settings = replace(RUN, steps=1, reshaping=Reshaping(white_channels=2, mask="checkerboard", power=0.5))
    denoiser = experiments.train_denoiser(settings, data, tmp_path, progress=False).denoiser
    opened = experiments.open_denoiser(tmp_path)
    images = [torch.cat([x for _, x, _ in experiments.generate(d, autoencoder, SAMPLING)]) for d in (denoiser, opened)]
    assert images[0].shape == (6, 3, 32, 32)
    assert torch.equal(*images)
