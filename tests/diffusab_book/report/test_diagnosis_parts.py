"""The measurements behind ``diffusab report`` against oracles of their own."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from diffusab_book.report.diagnosis_parts import (
    NoiseSums,
    Subject,
    amplitude_by_cutoff,
    dependence,
    grating_response,
    latent_cut,
    rgb_cut,
)
from diffusab_book.report.diagnosis_types import Plan
from diffusab_book.report.report_types import ReportError
from diffusab_core import data, metrics
from diffusab_core.autoencoders import Posterior
from diffusab_core.metrics.aliasing import pixel_unshuffle
from diffusab_core.spectrum import block_dct, radial_split, zigzag_order

PLAN = Plan()
RATIOS = (0.0, 0.3, 0.75)


class Identity:
    """The latent is the image: nothing is lost and nothing folds."""

    name, compression, latent_channels = "identity", 1, 3

    def encode(self, x):
        return Posterior(x, torch.zeros_like(x))

    def decode(self, z):
        return z

    def parameters(self):
        return iter(())


def subject(source):
    return Subject(source.name, source, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def x():
    return data.stack(data.Photos(32, "test", seed=0, length=3), range(3))


@pytest.fixture(scope="module")
def identity():
    return subject(Identity())


# ---------------------------------------------------------------------------------------------------------------------
# Noise


def test_noise_is_that_of_the_whole_batch_and_does_not_depend_on_how_it_comes():
    generator = torch.Generator().manual_seed(0)
    offsets = torch.tensor([5.0, 0.0, -3.0])[:, None, None]  # an offset is neither signal nor noise
    mean = torch.randn(6, 3, 16, 16, generator=generator).cumsum(-1) + offsets
    std = torch.rand(6, 3, 16, 16, generator=generator) + torch.tensor([0.1, 3.0, 0.1])[:, None, None]
    found = []
    for pieces in ((6,), (1, 3, 2)):
        sums = NoiseSums(3, 8)
        for m, s in zip(mean.split(pieces), std.split(pieces), strict=True):
            sums.update(Posterior(m, s))
        found.append(sums.result())
    whole, pieces = found
    assert whole.by_frequency == pytest.approx(pieces.by_frequency, rel=1e-9)
    assert not whole.deterministic

    noise, signal = std.double().square().mean((0, 2, 3)), mean.double().var((0, 2, 3), correction=0)
    assert whole.by_channel == pytest.approx((noise / (noise + signal)).tolist(), rel=1e-6)
    assert whole.share == pytest.approx(float(noise.mean() / (noise.mean() + signal.mean())), rel=1e-6)
    kl = kl_divergence(Normal(mean.double(), std.double()), Normal(0.0, 1.0)).mean()
    assert whole.averaged_kl == pytest.approx(float(kl), rel=1e-5)
    centred = mean - mean.mean((0, 2, 3), keepdim=True)
    energy = block_dct(centred, 8).double().square().mean((0, 1, 2, 3)).flatten()[zigzag_order(8)]
    assert whole.by_frequency == pytest.approx((noise.mean() / (noise.mean() + energy)).tolist(), rel=1e-3)


def test_noise_by_frequency_is_what_samples_hold():
    """Energy of samples less that of means, over that of samples."""
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(32, 1, 32, 32, generator=generator).cumsum(-1).cumsum(-2) / 8
    mean = mean - mean.mean()
    sums = NoiseSums(1, 8)
    sums.update(Posterior(mean, torch.full_like(mean, 0.7)))
    drawn = mean + 0.7 * torch.randn(mean.shape, generator=generator)
    of_means, of_samples = (
        block_dct(z, 8).square().mean((0, 1, 2, 3)).flatten()[zigzag_order(8)] for z in (mean, drawn)
    )
    measured = 1 - of_means / of_samples
    torch.testing.assert_close(torch.tensor(sums.result().by_frequency).float(), measured, atol=0.1, rtol=0)


def test_a_point_is_deterministic_and_has_no_kl():
    sums = NoiseSums(2, 8)
    sums.update(Posterior(torch.randn(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)))
    noise = sums.result()
    assert noise.deterministic
    assert noise.averaged_kl is None
    assert (noise.share, set(noise.by_channel), set(noise.by_frequency)) == (0, {0.0}, {0.0})


# ---------------------------------------------------------------------------------------------------------------------
# Where the answer is known


def test_cut_curve_of_the_identity_is_that_of_rgb(identity, x):
    cut = latent_cut(identity, x, RATIOS, 8, batch_size=2)
    assert cut[0] is None  # identical images
    assert cut[1:] == pytest.approx(rgb_cut(x, RATIOS, 8)[1:], rel=1e-5)
    assert cut[1] > cut[2]


def test_dependence_of_the_identity_is_what_the_image_holds(identity, x):
    needs = dependence(identity, x, PLAN, batch_size=2, seed=0)
    assert needs.whole_db is None
    low, high = radial_split(x, PLAN.split_radius)
    assert needs.low_db == pytest.approx(metrics.psnr(low, x).item(), rel=1e-5)
    assert needs.high_db == pytest.approx(metrics.psnr(high, x).item(), rel=1e-5)
    assert len(needs.without_db) == len(needs.edges) - 1
    assert min(needs.without_db) == needs.without_db[0]  # images are strongest at low frequencies


def test_no_grating_folds_in_the_identity(identity, x):
    response = grating_response(identity, x, PLAN, batch_size=2)
    assert response.latent_nyquist == 0.5
    assert set(response.beyond_nyquist) == {0.0}
    assert response.gain == pytest.approx([1.0] * len(response.frequencies), rel=1e-4)
    assert response.relative_gain == pytest.approx([1.0] * len(response.frequencies), rel=1e-4)
    for shares in (response.folded_share, response.spread_share, response.reconstruction_error):
        assert shares == pytest.approx([0.0] * len(shares), abs=1e-3)


def test_gratings_fold_in_pixel_unshuffling_and_nothing_is_lost(x):
    response = grating_response(subject(pixel_unshuffle(4)), x, PLAN, batch_size=2)
    assert response.latent_nyquist == 0.125
    beyond = [share == 1 for share in response.beyond_nyquist]
    assert any(beyond)
    for folds, share, spread in zip(beyond, response.folded_share, response.spread_share, strict=True):
        assert spread == pytest.approx(0, abs=1e-3)
        assert not folds or share == pytest.approx(1, abs=1e-3)
    assert response.reconstruction_error == pytest.approx([0.0] * len(beyond), abs=1e-3)


def test_cutoff_empties_the_bands_beyond_it(identity, x):
    cutoff = amplitude_by_cutoff(identity, x, PLAN, batch_size=2)
    assert cutoff.radii == PLAN.cutoffs
    for band, low in enumerate(cutoff.edges[:-1]):
        for radius, value in zip(cutoff.radii, cutoff.relative(band), strict=True):
            if radius <= low:
                assert value == pytest.approx(0, abs=1e-4)
    assert [cutoff.relative(band)[-1] for band in range(5)] == pytest.approx([1.0] * 5)


# ---------------------------------------------------------------------------------------------------------------------
# What goes wrong


def test_failures_are_one_line():
    class Broken(Identity):
        def decode(self, z):
            if len(z) > 1:
                raise RuntimeError("two\n lines")
            return z * float("nan")

    broken = subject(Broken())
    with pytest.raises(
        ReportError, match=r"identity cannot decode latents of shape \(2, 3, 8, 8\): RuntimeError: two l"
    ):
        broken.decode(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ReportError, match="NaN or Inf in images decoded"):
        broken.decode(torch.zeros(1, 3, 8, 8))
