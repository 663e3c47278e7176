import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from diffusab_core.metrics import frechet_distance, reconstruction_frechet_distance
from diffusab_core.metrics.sets import FeatureStatistics


def gaussian(d, seed, samples=None):
    """Mean and covariance of a random sample; fewer samples than features make the covariance singular."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples or 3 * d, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)
    return x.mean(0), np.cov(x, rowvar=False)


def by_scipy(mu1, cov1, mu2, cov2):
    return ((mu1 - mu2) ** 2).sum() + np.trace(cov1 + cov2 - 2 * scipy.linalg.sqrtm(cov1 @ cov2).real)


# ---------------------------------------------------------------------------------------------------------------------
# The distance


@pytest.mark.parametrize("d", [2, 7, 40])
def test_agrees_with_scipys_matrix_square_root(d):
    a, b = gaussian(d, 0), gaussian(d, 1)
    assert frechet_distance(*a, *b) == pytest.approx(by_scipy(*a, *b), rel=1e-9)


def test_equal_covariances_leave_the_distance_of_the_means():
    mu, cov = gaussian(6, 2)
    shift = np.arange(6.0)
    assert frechet_distance(mu, cov, mu + shift, cov) == pytest.approx(55, rel=1e-9)


def test_diagonal_covariances_in_closed_form():
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0, 4, (2, 9))
    mu = np.zeros(9)
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(mu, np.diag(a), mu, np.diag(b)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", ["numbers", "arrays"])
def test_one_feature_in_closed_form(shape):
    mean, cov = (np.asarray, np.asarray) if shape == "numbers" else (np.atleast_1d, np.atleast_2d)
    # (1 - 4)^2 + (sqrt(9) - sqrt(4))^2
    assert frechet_distance(mean(1.0), cov(9.0), mean(4.0), cov(4.0)) == pytest.approx(10)


def test_rank_one_covariances_in_closed_form():
    # sum of singular values of (u u^T)^(1/2) (v v^T)^(1/2) is |u.v|; scipy's square root of a singular product is not
    # reliable, which is why this is not left to it
    rng = np.random.default_rng(4)
    u, v = rng.normal(size=(2, 30))
    expected = u @ u + v @ v - 2 * abs(u @ v)
    mu = np.zeros(30)
    assert frechet_distance(mu, np.outer(u, u), mu, np.outer(v, v)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("samples", [5, 200])
def test_zero_for_the_same_gaussian_also_when_singular(samples):
    mu, cov = gaussian(64, 5, samples)
    assert 0 <= frechet_distance(mu, cov, mu, cov) < 1e-10 * np.trace(cov)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 8), scale=st.floats(1e-3, 1e3))
def test_symmetric_non_negative_rotation_invariant_and_quadratic_in_scale(seed, d, scale):
    a, b = gaussian(d + 1, seed), gaussian(d + 1, seed + 1)
    distance = frechet_distance(*a, *b)
    assert distance >= 0
    assert frechet_distance(*b, *a) == pytest.approx(distance, rel=1e-6)
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(d + 1, d + 1)))[0]
    turned = [(q @ mu, q @ cov @ q.T) for mu, cov in (a, b)]
    assert frechet_distance(*turned[0], *turned[1]) == pytest.approx(distance, rel=1e-6)
    scaled = [(scale * mu, scale**2 * cov) for mu, cov in (a, b)]
    assert frechet_distance(*scaled[0], *scaled[1]) == pytest.approx(scale**2 * distance, rel=1e-6)


def test_takes_tensors_of_any_float_type():
    a, b = gaussian(4, 6), gaussian(4, 7)
    tensors = [torch.from_numpy(part).float() for part in (*a, *b)]
    assert frechet_distance(*tensors) == pytest.approx(frechet_distance(*a, *b), rel=1e-5)


@pytest.mark.parametrize(
    ("mu", "cov", "message"),
    [
        (np.zeros(2), np.eye(3), r"\(2,\) and \(3, 3\)"),
        (np.zeros(3), np.eye(3), "2 and 3 features"),
        (np.array([0, math.nan]), np.eye(2), "NaN"),
        (np.zeros(2), np.array([[1, 0.5], [0, 1]]), "not symmetric.*0.5"),
        (np.zeros(2), np.diag([1.0, -0.25]), "negative eigenvalue.*-0.25"),
    ],
)
def test_refuses_what_is_no_gaussian(mu, cov, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(np.zeros(2), np.eye(2), mu, cov)


# ---------------------------------------------------------------------------------------------------------------------
# Streams


def statistics(*batches):
    found = FeatureStatistics()
    for batch in batches:
        found.update(batch)
    return found


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 50), max_size=5))
def test_cutting_a_stream_does_not_matter(cuts):
    x = torch.from_numpy(np.random.default_rng(0).normal(3, 2, (50, 6)))
    edges = sorted({0, 50, *cuts})
    found = statistics(*(x[a:b] for a, b in pairwise(edges)))
    assert found.count == 50
    np.testing.assert_allclose(found.mean(), x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance(), np.cov(x, rowvar=False), rtol=1e-10, atol=1e-12)


def test_a_mean_far_from_zero_costs_no_precision():
    # raw sums of squares would be about 1e18 here, with a spacing of 128 between neighbouring doubles
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(1000, 3)))
    far = statistics(*(x + 1e9).split(10))
    np.testing.assert_allclose(far.covariance(), np.cov(x, rowvar=False), atol=1e-6)


def test_half_precision_features_are_summed_in_float64():
    x = torch.full((4096, 2), 100.0, dtype=torch.float16)
    found = statistics(x)  # the sum, 409600, is beyond float16
    assert found.mean().dtype == torch.float64
    assert found.mean().tolist() == [100, 100]


def test_a_refused_batch_leaves_the_statistics_as_they_were():
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    found = statistics(x)
    bad = x.clone()
    bad[5, 1] = math.nan
    for batch, message in [(bad, "1 of 8 images, the first at 5"), (x[:, :2], "3 numbers so far, now of 2")]:
        with pytest.raises(ValueError, match=message):
            found.update(batch)
    with pytest.raises(ValueError, match=r"\(8, 3, 1, 1\)"):
        found.update(x[..., None, None])
    assert found.count == 8
    assert torch.equal(found.covariance(), statistics(x).covariance())


def test_statistics_of_too_few_images_are_refused():
    with pytest.raises(ValueError, match="no mean"):
        FeatureStatistics().mean()
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        statistics(torch.zeros(1, 3)).covariance()


# ---------------------------------------------------------------------------------------------------------------------
# Reconstructions


@pytest.fixture
def images():
    g = torch.Generator().manual_seed(0)
    return torch.rand(24, 3, 8, 8, generator=g) * 1.6 - 0.8


def colour(x):
    return x.mean((2, 3))  # (N, 3)


def test_of_the_images_themselves_it_is_zero_and_of_a_shift_its_square(images):
    assert reconstruction_frechet_distance(images, images, colour) < 1e-12
    assert reconstruction_frechet_distance(images, images + 0.1, colour) == pytest.approx(0.03, rel=1e-4)


def test_agrees_with_the_distance_of_features_taken_at_once(images):
    worse = images * 0.7
    a, b = colour(images).double().numpy(), colour(worse).double().numpy()
    expected = by_scipy(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
    assert reconstruction_frechet_distance(images, worse, colour, batch_size=7) == pytest.approx(expected, rel=1e-5)
    batches = iter(images.split(5)), iter(worse.split(5))
    assert reconstruction_frechet_distance(*batches, colour) == pytest.approx(expected, rel=1e-5)


def test_reconstructions_are_clamped_first(images):
    bright = images.clone()
    bright[:, 0] = 1
    beyond = bright.clone()
    beyond[:, 0] = 5
    assert reconstruction_frechet_distance(bright, beyond, colour) < 1e-12


def test_any_module_in_evaluation_mode_will_do(images):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"Sequential is in training mode.*\.eval\(\)"):
        reconstruction_frechet_distance(images, images, network)
    network.eval()
    assert reconstruction_frechet_distance(images, images, network) < 1e-12
    assert reconstruction_frechet_distance(images, -images, network) > 1e-3


@pytest.mark.parametrize("lost", [1, 8])  # a batch cut short, a batch missing
def test_lost_reconstructions_are_noticed(images, lost):
    with pytest.raises(ValueError, match=f"24 images and {24 - lost} reconstructions"):
        reconstruction_frechet_distance(images, images[:-lost], colour, batch_size=8)


def test_features_of_a_wrong_shape_are_named(images):
    with pytest.raises(ValueError, match=r"\(24, D\), got \(24, 3, 8, 8\)"):
        reconstruction_frechet_distance(images, images, lambda x: x)


def test_more_features_than_images_are_warned_about(images):
    with pytest.warns(UserWarning, match="24 images for 192 features"):
        reconstruction_frechet_distance(images, images, lambda x: x.flatten(1))
