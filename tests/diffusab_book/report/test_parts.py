"""The parts of a report where the answer is known, and what goes wrong."""

from dataclasses import replace

import pytest
import torch

from diffusab_book.report import Options, Plan, ReportError
from diffusab_book.report.findings import FACTS, relative_amplitude
from diffusab_book.report.measurement import Subject, parts_of_stream, parts_of_subset, see
from diffusab_core import data, metrics
from diffusab_core.autoencoders import wrap
from diffusab_core.metrics import yardsticks
from diffusab_core.metrics.aliasing import pixel_unshuffle
from diffusab_core.spectrum import chop_high_frequencies, radial_split

PLAN = Plan(cut_ratios=(0.0, 0.3, 0.75))


class Identity:
    """The latent is the image: nothing is lost and nothing folds."""

    def encode(self, x):
        return x

    def decode(self, z):
        return z


def subject(model):
    f = model.compression
    options = Options(batch_size=2, resolution=32, device="cpu")
    return Subject(model.name, "model", "made up", (model.latent_channels, 32 // f, 32 // f), 3, options, model)


def measured(model, x):
    return {name: run() for name, run in parts_of_subset(subject(model), x, PLAN).items()}


@pytest.fixture(scope="module")
def x():
    return data.stack(data.Photos(32, "test", seed=0, length=3), range(3))


@pytest.fixture(scope="module")
def identity(x):
    return measured(wrap(Identity(), "identity", probe=32), x)


class Dim(Identity):
    """Every image, a little darker."""

    def decode(self, z):
        return 0.98 * z


def test_an_image_of_one_colour_is_not_what_a_model_is_measured_by(x):
    """A blank page is its own mean: of a folder with one, all flat colours would be infinitely good."""

    def reconstruction(images):
        s = subject(wrap(Dim(), "dim", probe=32))
        see(s, s.encode(images), images, PLAN, None)
        return parts_of_stream(s, PLAN, None, "")["reconstruction"]

    alone, beside = reconstruction(x), reconstruction(torch.cat([x, torch.ones_like(x[:1])]))
    assert beside["images"] == 4
    assert beside["flat_db"] == pytest.approx(alone["flat_db"])
    assert not FACTS["reconstruction"](beside)["poor"]
    assert reconstruction(torch.ones_like(x))["flat_db"] is None


def test_cut_curve_of_the_identity_is_that_of_rgb(identity, x):
    cut = identity["cut"]
    assert cut["latent"][0] is None  # identical images
    expected = [metrics.psnr(chop_high_frequencies(x, ratio, 8), x).item() for ratio in PLAN.cut_ratios[1:]]
    assert cut["latent"][1:] == pytest.approx(expected, rel=1e-5)
    assert cut["rgb"] == cut["latent"]
    assert expected[0] > expected[1]


def test_dependence_of_the_identity_is_what_the_image_holds(identity, x):
    needs = identity["dependence"]
    assert needs["psnr_whole"] is None
    low, high = radial_split(x, PLAN.split_radius)
    assert needs["low_db"] == pytest.approx(metrics.psnr(low, x).item(), rel=1e-5)
    assert needs["high_db"] == pytest.approx(metrics.psnr(high, x).item(), rel=1e-5)
    assert len(needs["psnr_without"]) == len(needs["edges"]) - 1
    assert min(needs["psnr_without"]) == needs["psnr_without"][0]  # images are strongest at low frequencies


def test_the_stake_of_the_identity_is_that_of_the_pictures(identity, x):
    stake = identity["stake"]
    assert (stake["crops"], stake["side"], stake["bands"][-1]) == (3, 32, [32, 63])
    assert stake["floor"] == pytest.approx(0, abs=1e-4)
    features = metrics.offline_features()
    without = yardsticks.zero_band(x, (32, 63)).clamp(-1, 1)
    expected = metrics.frechet_distance(*(part for y in (x, without) for part in moments(features(y))))
    assert stake["zeroed"][-1] == pytest.approx(expected, rel=1e-3)
    assert min(stake["permuted"]) > stake["floor"]
    assert max(stake["permuted"]) < stake["noise"]


def moments(features):
    return features.double().mean(0), features.double().T.cov()


def test_crops_of_large_images_have_their_own_place(x):
    large = torch.nn.functional.interpolate(x, size=(192, 192), mode="bilinear")
    options = Options(batch_size=2, resolution=192, device="cpu")
    whole = Subject("a", "model", "a", (3, 192, 192), 3, options, wrap(Identity(), "identity", probe=32))
    stake = parts_of_subset(whole, large, replace(PLAN, stake_crops=10))["stake"]()
    assert (stake["crops"], stake["side"]) == (10, 64)  # of 27


def test_no_grating_folds_in_the_identity(identity):
    response = identity["gratings"]
    assert (response["latent_nyquist"], response["side"], response["images"]) == (0.5, 32, 2)
    assert set(response["beyond_nyquist"]) == {0.0}
    assert response["gain"] == pytest.approx([1.0] * len(response["frequencies"]), rel=1e-4)
    for key in ("folded_share", "spread_share", "reconstruction_error"):
        assert response[key] == pytest.approx([0.0] * len(response[key]), abs=1e-3)


def test_gratings_fold_in_pixel_unshuffling_and_nothing_is_lost(x):
    response = parts_of_subset(subject(pixel_unshuffle(4)), x, PLAN)["gratings"]()
    assert response["latent_nyquist"] == 0.125
    beyond = [share == 1 for share in response["beyond_nyquist"]]
    assert any(beyond)
    for folds, share, spread in zip(beyond, response["folded_share"], response["spread_share"], strict=True):
        assert spread == pytest.approx(0, abs=1e-3)
        assert not folds or share == pytest.approx(1, abs=1e-3)
    assert response["reconstruction_error"] == pytest.approx([0.0] * len(beyond), abs=1e-3)


def test_cutoff_empties_the_bands_beyond_it(identity):
    cutoff = identity["cutoff"]
    assert tuple(cutoff["radii"]) == PLAN.cutoffs
    for band, low in enumerate(cutoff["edges"][:-1]):
        relative = relative_amplitude(cutoff, [band])
        assert relative[-1] == pytest.approx(1)
        for radius, value in zip(cutoff["radii"], relative, strict=True):
            if radius <= low:
                assert value == pytest.approx(0, abs=1e-4)


def test_failures_are_one_line_or_a_reason():
    class Broken(Identity):
        def decode(self, z):
            if len(z) > 1:
                raise RuntimeError("two\n lines")
            return z * float("nan")

    broken = subject(wrap(Broken(), "broken", probe=32))
    with broken.unless_it_fails("scale"):
        broken.decode(torch.zeros(2, 3, 8, 8))
    for words in ("broken", "decode", "(2, 3, 8, 8)", "RuntimeError: two lines"):
        assert words in broken.not_measured["scale"]
    with pytest.raises(ReportError, match="broken: NaN or Inf in images decoded"):
        broken.decode(torch.zeros(1, 3, 8, 8))


def test_running_out_of_memory_is_no_reason_to_go_on():
    with pytest.raises(torch.OutOfMemoryError), subject(wrap(Identity(), "identity", probe=32)).unless_it_fails("cut"):
        raise torch.OutOfMemoryError


def test_half_precision_says_what_to_do():
    half = Subject("a", "model", "a", (3, 8, 8), 1, Options(dtype="bfloat16", device="cpu"))
    with pytest.raises(ReportError, match=r"a: NaN or Inf in the latents of one; bfloat16 .* --dtype float32"):
        half.add(torch.full((1, 3, 8, 8), float("nan")), ["one"])
    with pytest.raises(ReportError, match=r"\(1, 3, 4, 4\)"):
        half.add(torch.zeros(1, 3, 4, 4), ["one"])
