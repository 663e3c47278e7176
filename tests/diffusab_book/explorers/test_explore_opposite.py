"""The explorer of a warm-up draws what was measured."""

import pytest
import torch

from diffusab_book.explorers.opposite import warmup_explorer
from diffusab_core import data
from diffusab_core.metrics.probes import Exposure, exposure


def coefficients(seed, n=4000, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, 2, 64, generator=generator, dtype=torch.float64)


def explored():
    whole = coefficients(4, n=200)
    return {name: {r: exposure(whole, whole * gain**r) for r in (0.1, 0.2)} for name, gain in (("a", 0.5), ("b", 0.1))}


def test_explorer_draws_and_states_what_was_measured():
    found = explored()
    explorer = warmup_explorer(data.photo("coffee")[:, 100:132, 200:232], found)
    assert explorer.defaults == {"r0": 0.2}
    figure = explorer.draw(r0=0.1)
    assert [trace.name for trace in figure.data[1:]] == ["a", "b", "a", "b"]
    assert list(figure.data[1].y) == pytest.approx(found["a"][0.1].ratio.tolist(), rel=1e-3)
    assert list(figure.data[4].y) == pytest.approx(found["b"][0.1].distance.tolist(), rel=1e-3)
    said = figure.layout.annotations[2].text
    assert said.endswith(f"a × {0.5**0.2:.2f}, b × {0.1**0.2:.2f}")
    assert len(explorer.published().frames) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: warmup_explorer(torch.zeros(3, 8, 8), {}), "same cutoffs"),
        (
            lambda: warmup_explorer(
                torch.zeros(3, 8, 8), {"a": explored()["a"], "b": {0.1: Exposure(*torch.ones(3, 64))}}
            ),
            "same cutoffs",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
