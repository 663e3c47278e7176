"""Precision and recall against the definition written out, and on sets where they are known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusab_core.metrics.sets import precision_recall


def by_definition(real, fake, k):
    def covered(points, centres):
        found = []
        for p in points:
            inside = False
            for i, c in enumerate(centres):
                others = sorted(np.linalg.norm(c - o) for j, o in enumerate(centres) if j != i)
                inside |= np.linalg.norm(p - c) <= others[k - 1]
            found.append(inside)
        return float(np.mean(found))

    return covered(fake, real), covered(real, fake)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(6, 25), m=st.integers(6, 25), d=st.integers(1, 5), k=st.integers(1, 5))
def test_agrees_with_the_definition_whatever_the_block(seed, n, m, d, k):
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(n, d)), rng.normal(size=(m, d)) * rng.uniform(0.3, 2) + rng.normal(size=d)
    expected = by_definition(real, fake, k)
    for block in (4, 1000):
        assert precision_recall(torch.tensor(real), torch.tensor(fake), k, block) == pytest.approx(expected)


def points(n, seed, d=8, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_same_set_is_all_covered_and_far_sets_are_not():
    x = points(200, 0)
    assert precision_recall(x, x) == (1, 1)
    assert precision_recall(x, x[torch.randperm(200)]) == (1, 1)
    assert precision_recall(x, x + 1000) == (0, 0)


def test_a_dropped_mode_costs_recall_only_and_a_made_up_one_precision_only():
    modes = 100 * torch.eye(8)[:4]
    both = torch.cat([points(100, i) + mode for i, mode in enumerate(modes)])
    dropped = torch.cat([points(100, 10 + i) + mode for i, mode in enumerate(modes[:2])])
    precision, recall = precision_recall(both, dropped)
    assert precision > 0.8
    assert 0.4 < recall <= 0.5
    assert precision_recall(dropped, both) == (recall, precision)


def test_noise_costs_precision_monotonically():
    real, fake = points(300, 0), points(300, 1)
    found = [precision_recall(real, fake + s * points(300, 2))[0] for s in (0, 1, 3)]
    assert found[0] > found[1] > found[2]
    assert found[0] > 0.8
    assert found[2] < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_equal_features_are_at_no_distance_however_far_from_zero(dtype):
    # Balls of radius 0, which have to hold their own centres.
    one = (points(3, 4, 64) * 30 + 200).to(dtype)
    same = one.repeat_interleave(6, 0)
    assert precision_recall(same, same, k=3, block=5) == (1, 1)
    assert precision_recall(same, same[:6], k=3) == (1, 1 / 3)


@pytest.mark.parametrize(
    ("real", "fake", "k", "message"),
    [
        ((5, 3), (5, 4), 3, r"\(5, 3\) and \(5, 4\)"),
        ((5,), (5, 3), 3, r"got \(5,\)"),
        ((3, 2), (9, 2), 3, "k=3 needs at least 4 features on each side, got 3 and 9"),
        ((9, 2), (9, 2), 0, "k=0"),
    ],
)
def test_refusals(real, fake, k, message):
    with pytest.raises(ValueError, match=message):
        precision_recall(torch.rand(real), torch.rand(fake), k)


def test_nan_is_refused():
    x = points(9, 0)
    with pytest.raises(ValueError, match="NaN or Inf"):
        precision_recall(x, torch.where(x > 1, torch.nan, x))
