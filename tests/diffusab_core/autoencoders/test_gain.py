"""Local contrast gain control: nothing is lost, closed forms for waves, and what it does to low-passed images."""

import math
from dataclasses import replace

import pytest
import torch

from diffusab_core import autoencoders, data
from diffusab_core.autoencoders.gain import (
    FLOOR,
    GainControl,
    blur,
    put_gain_control,
    split_contrast,
    with_gain_control,
)
from diffusab_core.experiments import pretraining
from diffusab_core.experiments.pretraining import Pretraining, train_autoencoder
from diffusab_core.latents.identity import weights_digest
from diffusab_core.metrics.aliasing import grating
from diffusab_core.spectrum import radial_split

SMALL = Pretraining(channels=(8, 8, 8), norm_groups=1, latent_channels=4, resolution=16, batch_size=2, steps=2,
                    evaluation_resolution=32, evaluation_crops=4, statistics_crops=4, blurred=True,
                    gain_control=2.0)  # fmt: skip
SIGMA = 4.0


@pytest.fixture(scope="module")
def photos():
    return data.stack(data.Photos(64, "train", seed=1, length=4), range(4)).double()


def wave(cycles, amplitude, side=128):
    return (amplitude * grating(side, side, 0.0, cycles / side)).expand(1, 3, side, side)


def amplitude_of(x, cycles):
    """Of a horizontal wave in the middle of a picture, away from its borders."""
    side = x.shape[-1]
    middle = x[..., side // 4 : -side // 4, side // 4 : -side // 4]
    return 2 * (middle * grating(side, side, 0.0, cycles / side)[side // 4 : -side // 4, side // 4 : -side // 4]).mean()


def test_nothing_is_lost(photos):
    split = split_contrast(photos, SIGMA)
    assert split.shape == (4, 7, 64, 64)
    low, detail, contrast = split.split([3, 3, 1], dim=1)
    torch.testing.assert_close(low + detail * FLOOR * contrast.exp(), photos)
    assert contrast.min() >= 0


def test_the_blur_damps_a_wave_as_its_transfer_function_says():
    for cycles in (2, 6, 10):
        expected = math.exp(-2 * (math.pi * SIGMA * cycles / 128) ** 2)
        assert amplitude_of(blur(wave(cycles, 0.5), SIGMA), cycles) == pytest.approx(0.5 * expected, abs=0.003)
    half = math.sqrt(math.log(2) / 2) / (math.pi * SIGMA)
    assert half == pytest.approx(0.047, abs=0.0005)  # where study 5's protocol says that it is one half
    flat = torch.full((2, 3, 8, 8), 0.3)  # smaller than the neighbourhood
    torch.testing.assert_close(blur(flat, SIGMA), flat)


def test_detail_has_the_same_contrast_however_weak_it_is():
    strong, weak = (split_contrast(0.2 + wave(16, amplitude), SIGMA) for amplitude in (0.8, 0.2))
    torch.testing.assert_close(strong[:, 3:6], weak[:, 3:6], atol=0.01, rtol=0)
    torch.testing.assert_close(strong[:, 6] - weak[:, 6], torch.full((1, 128, 128), math.log(4)).double(),
                               atol=0.01, rtol=0)  # fmt: skip
    none = split_contrast(torch.full((1, 3, 32, 32), 0.2), SIGMA)
    assert none[:, 3:].abs().max() < 1e-4  # nothing is made of nothing


def test_without_the_finest_detail_coarser_detail_is_stronger():
    """Finding 3 in closed form: what is left of the detail takes over the contrast of what is gone."""
    coarse, fine = 6, 32  # cycles over 128 pixels; an f8 latent sees the first alone, in its upper band
    a, b = 0.1, 0.2
    picture = wave(coarse, a) + wave(fine, b)
    left = a * (1 - math.exp(-2 * (math.pi * SIGMA * coarse / 128) ** 2))  # of the coarse wave, in the detail
    cut = radial_split(picture, 0.0625)[0]
    torch.testing.assert_close(cut, wave(coarse, a))
    whole, low = (split_contrast(x, SIGMA)[:, 3:6] for x in (picture, cut))
    rise = amplitude_of(low, coarse) / amplitude_of(whole, coarse)
    expected = math.sqrt(((left**2 + b**2) / 2 + FLOOR**2) / (left**2 / 2 + FLOOR**2))
    assert rise == pytest.approx(expected, rel=0.04)
    assert rise > 2


def test_gradients_are_finite_where_there_is_no_detail():
    x = torch.zeros(1, 3, 16, 16, requires_grad=True)
    split_contrast(x, 2.0).square().sum().backward()
    assert x.grad.isfinite().all()


def test_all_other_weights_are_those_of_the_twin_without():
    torch.manual_seed(0)
    plain = pretraining.build(replace(SMALL, gain_control=0.0)).module.state_dict()
    torch.manual_seed(0)
    gained = pretraining.build(SMALL).module.state_dict()
    new = {name for name in gained if name.startswith("encoder.conv_in.")}
    assert gained["encoder.conv_in.convolution.weight"].shape == (8, 7, 3, 3)
    assert gained.keys() - new == plain.keys() - {"encoder.conv_in.weight", "encoder.conv_in.bias"}
    assert all(torch.equal(plain[name], gained[name]) for name in gained.keys() - new)


def test_it_is_kept_as_it_was_trained(tmp_path):
    done = train_autoencoder(SMALL, tmp_path / "gain", progress=False, snapshots=1)
    opened, x = autoencoders.load(tmp_path / "gain"), torch.rand(1, 3, 32, 32) * 2 - 1
    assert isinstance(opened.module.encoder.conv_in, GainControl)
    with torch.no_grad():
        assert torch.equal(opened.encode(x).mean, done.autoencoder.encode(x).mean)
    card = (tmp_path / "gain" / "README.md").read_text().replace("\n", " ")
    assert "gain control over 2 pixels" in card
    assert "from_pretrained" not in card
    opened.module.save_pretrained(tmp_path / "again")  # as a fine-tuned one is
    with torch.no_grad():
        assert torch.equal(autoencoders.load(tmp_path / "again").encode(x).mean, opened.encode(x).mean)


def test_another_neighbourhood_is_another_autoencoder():
    torch.manual_seed(0)
    one = pretraining.build(SMALL)
    other = with_gain_control(pretraining.build(replace(SMALL, gain_control=0.0)), 3.0)
    other.module.load_state_dict({**one.module.state_dict(), "encoder.conv_in.width": torch.tensor([3.0])})
    assert weights_digest(one) != weights_digest(other)
    assert "gain_control" not in Pretraining().as_values()
    assert SMALL.as_values()["gain_control"] == 2.0


def test_under_autocast_contrast_is_as_exact_as_without():
    gain = pretraining.build(SMALL).module.encoder.conv_in
    x = 0.9 + 0.02 * wave(40, 1.0).float()  # bfloat16 has steps of 0.004 there
    seen = []
    gain.convolution.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        gain(x)
        with torch.autocast("cpu", torch.bfloat16):
            gain(x)
    assert torch.equal(*seen)


def test_what_has_no_first_convolution_is_refused():
    bare = pretraining.build(SMALL)
    with pytest.raises(ValueError, match="conv_in"):  # it has one already, behind which a second one has no sense
        put_gain_control(bare.module, 2.0, "twice")
    with pytest.raises(ValueError, match="-1"):
        with_gain_control(pretraining.build(replace(SMALL, gain_control=0.0)), -1.0)
