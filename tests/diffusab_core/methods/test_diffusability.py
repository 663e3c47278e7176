"""Candidates for a score: what is known of white noise, of fields with known covariance, and what must not matter."""

import math

import pytest
import torch

from diffusab_core import autoencoders, spectrum
from diffusab_core.autoencoders import Posterior
from diffusab_core.flow.gaussian import mean_least_loss
from diffusab_core.methods import diffusability, reshaping, tokens
from diffusab_core.methods.diffusability import CANDIDATES, TIMES
from diffusab_core.spectrum.bands import log_slope, profile_slope


@pytest.fixture(autouse=True, scope="module")
def _few_tokens():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusability, "TOKENS", 512)
        yield


def white(n=1024, c=4, side=8, seed=0):
    return torch.randn(n, c, side, side, generator=torch.Generator().manual_seed(seed))


def filtered(n=1024, c=4, side=8, slope=-2.0, seed=0):
    """A Gaussian field whose energies over the DCT of the whole latent are a power of frequency, of variance 1."""
    radius = tokens.grid_radius((side, side))
    radius[0, 0] = radius[0, 1]
    gain = radius.pow(slope / 2)
    gain = gain / gain.square().mean().sqrt()
    return spectrum.whole_idct(white(n, c, side, seed) * gain.float())


def autoregressive(n=1024, length=8, a=0.8, seed=0):
    """An AR(1) field along both axes, variance 1: neighbours at distance d have correlation a^d along each axis."""
    x = white(n, 1, length, seed)
    for axis in (2, 3):
        rows = list(x.unbind(axis))
        for i in range(1, length):
            rows[i] = a * rows[i - 1] + math.sqrt(1 - a * a) * rows[i]
        x = torch.stack(rows, axis)
    return x


def mixed(u, seed=1):
    """An orthogonal mixture of the channels."""
    q, _ = torch.linalg.qr(torch.randn(u.shape[1], u.shape[1], generator=torch.Generator().manual_seed(seed)))
    return torch.einsum("dc,nchw->ndhw", q, u)


# ---------------------------------------------------------------------------------------------------------------------
# Closed forms


def test_white_noise_is_what_it_must_be():
    u = white(2048)
    found = diffusability.measure_latents(u, 2)
    n = 16
    assert found["profile_share"] == pytest.approx(32 / 63, abs=0.01)
    assert found["token_share"] == pytest.approx(n / 2 / (n - 1), abs=0.01)
    assert found["profile_slope"] == pytest.approx(0, abs=0.02)
    assert found["token_slope"] == pytest.approx(0, abs=0.02)
    assert found["token_surprise"] == pytest.approx(1, abs=0.03)  # above: weights that were fitted to noise
    assert found["token_surprise"] > 0.99
    assert found["token_context"] == pytest.approx(0, abs=0.03)
    assert found["token_participation"] == pytest.approx(1, abs=0.01)
    assert found["token_numbers"] == 16
    assert found["kurtosis"] == pytest.approx(0, abs=0.05)
    assert found["gaussian_loss"] == pytest.approx(mean_least_loss(torch.ones(1)).item(), rel=0.01)
    assert found["gaussian_loss"] == pytest.approx(1.74, abs=0.02)  # as its docstring says
    assert found.keys() <= CANDIDATES.keys()


@pytest.mark.parametrize("slope", [-1.0, -2.0, -3.0])
def test_a_power_law_has_its_slope(slope):
    energy = tokens.field_energy(filtered(slope=slope))
    assert log_slope(energy, tokens.grid_radius(energy.shape)) == pytest.approx(slope, abs=0.03)
    exact = tokens.grid_radius((4, 8)).pow(slope)
    assert log_slope(exact, tokens.grid_radius((4, 8))) == pytest.approx(slope)
    # In blocks of the whole latent the profile's frequencies are the same but for their unit.
    of_profile = profile_slope(diffusability.rank_energy(filtered(slope=slope), 8))
    assert of_profile == pytest.approx(slope, abs=0.03)


def test_the_share_of_known_energies():
    energy = torch.zeros(4, 4, dtype=torch.float64)
    energy[0, 0], energy[0, 1], energy[3, 3] = 100, 3, 1
    assert tokens.upper_share(energy) == pytest.approx(1 / 4)  # the zero frequency does not count
    energy[0, 3] = 4  # on the middle: half of it
    assert tokens.upper_share(energy) == pytest.approx((1 + 2) / 8)
    assert math.isnan(tokens.upper_share(torch.zeros(4, 4)))
    # Clips: any number of axes.
    assert tokens.upper_share(torch.ones(2, 3, 4)) == pytest.approx(12 / 23)


def test_a_token_between_two_neighbours_of_an_autoregression():
    a, t = 0.8, 1e-3
    u = autoregressive(4096)[:, :, :1]  # one row, variance 1
    windows = tokens.measure_windows(u)
    # Of an AR(1) the best estimate between two known neighbours leaves (1 - a²) / (1 + a²) of the variance.
    known = (1 - a * a) / (1 + a * a)
    assert tokens.prediction_error(windows, t, own=False, others=True) == pytest.approx(known, rel=0.05)
    # At noise t the closed form of three numbers.
    t = 0.4
    among = torch.tensor([[1, a * a], [a * a, 1]], dtype=torch.float64)
    cross = (1 - t) * torch.tensor([a, a], dtype=torch.float64)
    noisy = (1 - t) ** 2 * among + t * t * torch.eye(2)
    expected = 1 - cross @ torch.linalg.solve(noisy, cross)
    found = tokens.prediction_error(windows, t, own=False, others=True)
    assert found == pytest.approx(expected.item(), rel=0.05)
    alone = tokens.prediction_error(windows, t, own=True, others=False)
    assert alone == pytest.approx(t * t / ((1 - t) ** 2 + t * t), rel=0.05)
    both = tokens.prediction_error(windows, t, own=True, others=True)
    assert both < min(alone, found)
    assert tokens.prediction_error(windows, t, own=False, others=False) == 1


def test_predictors_gain_nothing_from_too_few_latents():
    few = tokens.measure_windows(tokens.token_field(white(24, 8, 6), 2))  # 288 numbers in a window, 12 windows fitted
    assert tokens.surprise(few, TIMES) > 1


def test_irreducible_variance_of_two_points():
    # Data ±a in one dimension: Var(x | x_t) = a² (1 - tanh²(a (1 - t) x_t / t²)), by quadrature.
    a, t = 1.0, 0.6
    u = torch.tensor([-a, a]).repeat(8)[:, None, None, None]
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weight = torch.exp(-z.square() / 2)
    x_t = (1 - t) * a + t * z
    expected = ((1 - torch.tanh(a * (1 - t) * x_t / t**2) ** 2) * weight).sum() / weight.sum() * a * a / t**2
    found = diffusability.velocity_irreducible_variance(u, (t,), queries=20_000)
    assert found == pytest.approx(expected.item(), rel=0.03)


def test_irreducible_variance_of_a_dense_line_is_the_gaussian_one():
    variance = 2.0
    u = variance**0.5 * torch.randn(4000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    for t in (0.3, 0.6, 0.9):
        expected = variance / ((1 - t) ** 2 * variance + t * t)
        assert diffusability.velocity_irreducible_variance(u, (t,), 2000) == pytest.approx(expected, rel=0.08)
    apart = 100 * torch.randn(64, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    found = diffusability.velocity_irreducible_variance(apart, (0.3,))
    assert found == pytest.approx(0, abs=1e-6 * 100**2)  # no paths cross: rounding of a variance of 100²


def test_irreducible_variance_by_hand_with_more_numbers_than_latents():
    u, t = torch.randn(6, 4, 2, 2, generator=torch.Generator().manual_seed(0)), 0.8
    x, total = u.flatten(1).double(), 0.0
    noise = torch.randn(6, 16, generator=torch.Generator().manual_seed(0)).double()
    for i in range(6):
        x_t = (1 - t) * x[i] + t * noise[i]
        weights = torch.softmax(-(x_t - (1 - t) * x).square().sum(1) / (2 * t * t), 0)
        total += (weights @ x.square() - (weights @ x).square()).sum() / t**2
    found = diffusability.velocity_irreducible_variance(u, (t,), queries=6)
    assert found == pytest.approx(float(total) / 6 / 16, rel=1e-3)


def test_tokens_are_spread_over_latents_and_places():
    field = torch.arange(24.0).reshape(4, 1, 2, 3)
    assert tokens.spread_tokens(field, 4).flatten().tolist() == [0, 6, 12, 18]
    assert tokens.spread_tokens(field, 99).flatten().tolist() == list(range(24))
    assert tokens.spread_tokens(field, 5).shape == (5, 1)


def test_intrinsic_dimension_of_a_plane():
    flat = torch.rand(2000, 4, generator=torch.Generator().manual_seed(0))
    turned = flat @ torch.linalg.qr(torch.randn(32, 4, generator=torch.Generator().manual_seed(1)))[0].T
    u = turned.reshape(-1, 2, 4, 4)
    assert diffusability.intrinsic_dimension(u) == pytest.approx(4, abs=0.4)
    assert diffusability.intrinsic_dimension(torch.cat([u, u[:100]])) == pytest.approx(4, abs=0.5)  # there twice


def test_kurtosis_of_laplace_and_of_two_values():
    generator = torch.Generator().manual_seed(0)
    laplace = torch.distributions.Laplace(0, 1)
    torch.manual_seed(0)
    assert diffusability.kurtosis(laplace.sample((40_000, 3, 1, 1))) == pytest.approx(3, abs=0.35)
    signs = torch.randint(2, (1000, 3, 1, 1), generator=generator) * 2.0 - 1
    assert diffusability.kurtosis(signs) == pytest.approx(-2, abs=0.01)


def test_participation_counts_directions():
    windows = tokens.measure_windows(white(512, 1, 4).expand(-1, 4, -1, -1))  # four channels that are one
    assert tokens.participation(windows) == pytest.approx(1 / 4, abs=0.01)
    kept = tokens.measure_windows(white(512, 8, 4), numbers=4)
    assert kept.numbers == 4
    assert kept.kept == pytest.approx(1 / 2, abs=0.05)


def test_kl_of_a_posterior():
    standard = Posterior(torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4))
    assert diffusability.posterior_kl(standard) == 0
    moved = Posterior(torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), 0.5))
    by_torch = torch.distributions.kl_divergence(torch.distributions.Normal(2, 0.5), torch.distributions.Normal(0, 1))
    assert diffusability.posterior_kl(moved) == pytest.approx(by_torch.item())
    assert diffusability.posterior_kl(Posterior(moved.mean, torch.zeros_like(moved.mean))) == math.inf


def test_expected_error_and_stake():
    assert diffusability.expected_error(white(2048))[1:].tolist() == pytest.approx(
        [sum(t * t / ((1 - t) ** 2 + t * t) for t in TIMES) / len(TIMES)] * 63, abs=0.02
    )
    errors = torch.tensor([0.0, 0.5, 1.0, 1.0])
    assert diffusability.stake_error([(0, 0), (1, 2), (3, 3)], [9.0, 4.0, 2.0], errors) == [0, 3, 2]


def test_equivariance_of_a_decoder_that_is():
    grey = autoencoders.wrap(Averages(), "averages")
    z = white(8, 3)
    assert diffusability.equivariance_db(grey, z) > 40  # means of downsampled latents differ by what is at the edge
    shuffled = autoencoders.wrap(Averages(turn=True), "turned")
    assert diffusability.equivariance_db(shuffled, z) < 20


class Averages(torch.nn.Module):
    """Latents are pictures of half the sides; turned, every other row of the picture is of the other sign."""

    compression, latent_channels = 2, 3

    def __init__(self, turn=False):
        super().__init__()
        self.turn = turn

    def encode(self, x):
        return torch.nn.functional.avg_pool2d(x, 2)

    def decode(self, z):
        y = 0.1 * z.mean((2, 3), keepdim=True).expand(-1, -1, 2 * z.shape[2], 2 * z.shape[3]).clone()
        if self.turn:
            y[..., ::2, :] = -1
        return y


# ---------------------------------------------------------------------------------------------------------------------
# What must not matter, and what must


def test_mixing_channels_does_not_matter():
    u = filtered(512)
    one, two = (diffusability.measure_latents(v, 2) for v in (u, mixed(u)))
    for name in one.keys() - {"kurtosis"}:
        assert two[name] == pytest.approx(one[name], rel=0.1 if "viv" in name else 2e-2), name  # viv draws noise


def test_signs_inside_a_token_do_not_matter_to_tokens_and_do_to_pixels():
    u = filtered(512)
    turned = u * reshaping.make_mask("checkerboard", 8, 8)
    one, two = (diffusability.measure_latents(v, 2) for v in (u, turned))
    for name in ("token_share", "token_slope", "token_surprise", "token_context", "token_participation"):
        assert two[name] == pytest.approx(one[name], rel=1e-4), name
    for name in ("viv", "token_viv", "intrinsic_dimension"):  # an orthogonal map of whole latents, or of tokens
        assert two[name] == pytest.approx(one[name], rel=0.1 if "viv" in name else 2e-2), name
    assert two["profile_share"] > 3 * one["profile_share"]


def test_signs_of_whole_tokens_do_matter_to_tokens():
    u = filtered(512)
    masks = {name: reshaping.make_mask(name, 8, 8) for name in ("blocks", "random")}
    plain = diffusability.measure_latents(u, 2)
    blocks, random = (diffusability.measure_latents(u * mask, 2) for mask in masks.values())
    assert blocks["token_share"] > 2 * plain["token_share"]
    # A steady change of sign is as well predicted by weights shared by all places, a random one is not.
    assert blocks["token_surprise"] == pytest.approx(plain["token_surprise"], abs=0.02)
    assert random["token_surprise"] > plain["token_surprise"] + 0.1


def test_scale_does_not_matter_to_shapes():
    u = filtered(256)
    energy, larger = diffusability.rank_energy(u), diffusability.rank_energy(7 * u + 3)
    assert spectrum.high_frequency_share(larger) == pytest.approx(spectrum.high_frequency_share(energy), rel=1e-5)
    assert profile_slope(larger) == pytest.approx(profile_slope(energy), rel=1e-5)
    assert diffusability.profile_distance(energy, larger) == pytest.approx(0, abs=1e-5)
    steeper = diffusability.rank_energy(filtered(256, slope=-3.0))
    places = spectrum.bands.radii()[1:].log10()
    expected = 0.5 * (places - places.mean()).abs().mean().item()  # energies apart by one power of frequency
    assert diffusability.profile_distance(energy, steeper) == pytest.approx(expected, abs=0.01)
    assert diffusability.intrinsic_dimension(3 * u) == pytest.approx(diffusability.intrinsic_dimension(u), rel=1e-6)


def test_a_steeper_field_is_in_the_known_order():
    found = [diffusability.measure_latents(filtered(512, slope=s), 2) for s in (0.0, -1.0, -2.0, -3.0)]
    for name in ("profile_share", "profile_slope", "token_share", "token_slope", "token_surprise", "gaussian_loss"):
        values = [of_slope[name] for of_slope in found]
        assert values == sorted(values, reverse=True), name
    context = [of_slope["token_context"] for of_slope in found]
    assert context == sorted(context)


def test_clips_have_candidates_too():
    clip = torch.randn(64, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = diffusability.measure_latents(clip, 2)
    assert found["token_share"] == pytest.approx(24 / 47, abs=0.03)
    assert found["token_numbers"] == 16
    still = clip[:, :, :1].expand(-1, -1, 3, -1, -1)
    assert diffusability.measure_latents(still, 2)["token_surprise"] < found["token_surprise"] - 0.2


def test_more_numbers_than_latents_and_a_grid_of_one_token():
    found = diffusability.measure_latents(white(64, 32, 4), 4, block_size=4)
    assert found["token_numbers"] == 512
    assert "token_share" not in found  # one token has no frequency but zero
    assert found["token_surprise"] == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_latent_is_named(bad):
    u = white(16)
    u[5, 0, 0, 0] = bad
    with pytest.raises(ValueError, match=r"axis: 5\)"):
        diffusability.measure_latents(u, 2)


def test_latents_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="8 x 8 do not divide into patches of 3"):
        diffusability.measure_latents(white(8), 3)
    with pytest.raises(ValueError, match="got 3"):
        diffusability.measure_latents(white(3), 2)


def test_times_are_those_of_the_standard_training():
    from diffusab_core.flow import logit_normal_times

    drawn = logit_normal_times(100_000, 0.0, 1.0, torch.Generator().manual_seed(0))
    middles = torch.quantile(drawn, torch.tensor([(i + 0.5) / 8 for i in range(8)]))
    assert list(TIMES) == pytest.approx(middles.tolist(), abs=0.01)


def test_the_row_of_a_network_s_latents_knows_what_signs_move_and_what_they_do_not():
    u = filtered(n=2048)
    rows = {
        mask: diffusability.describe(u * reshaping.make_mask(mask, 8, 8), patch=2)
        for mask in ("none", "checkerboard", "blocks")
    }
    plain, inside, between = rows.values()
    for row in rows.values():  # an orthogonal map of all numbers together
        assert row["least loss, linear"] == pytest.approx(plain["least loss, linear"], abs=1e-5)
    assert inside["share in upper ranks"] > 0.5 > plain["share in upper ranks"]
    assert inside["share in upper ranks of tokens"] == pytest.approx(plain["share in upper ranks of tokens"], abs=1e-5)
    assert between["share in upper ranks of tokens"] > plain["share in upper ranks of tokens"] + 0.2

    row = diffusability.describe(white(n=4096), patch=2)
    assert row["share in upper ranks"] == pytest.approx(32 / 63, abs=0.01)
    assert row["share in upper ranks of tokens"] == pytest.approx(8 / 15, abs=0.01)
    of_white = mean_least_loss(torch.ones(1, dtype=torch.float64)).item()
    assert row["least loss from the spectrum"] == pytest.approx(of_white, rel=0.01)
    assert row["least loss, linear"] < row["least loss from the spectrum"]  # the covariance of a sample is never white
