"""The explorer of a loss under a gain shows what was computed."""

import math

import pytest
import torch

from diffusab_book.explorers import loss
from diffusab_core.flow.gaussian import mean_least_loss, tilted


@pytest.fixture(scope="module")
def explorer():
    fall = torch.arange(1, 65, dtype=torch.float64) ** -1.5
    return loss.loss_explorer({"falling": fall.tolist(), "white": [1.0] * 64})


def test_explorer_states_the_losses_it_draws(explorer):
    fall = tilted(torch.arange(1, 65, dtype=torch.float64) ** -1.5, 0.0)
    old, new = mean_least_loss(fall).mean().item(), mean_least_loss(tilted(fall, 0.5)).mean().item()
    title = explorer.draw(tilt=0.5, spectrum="falling").layout.annotations[2].text
    assert title == f"mean {new:.3f}; {old:.3f} without the gain"
    assert new < old
    drawn = explorer.draw(tilt=0.5, spectrum="falling").data[3]
    assert sum(drawn.y) / 64 == pytest.approx(new, rel=1e-3)


def test_explorer_without_gain_draws_one_curve_twice(explorer):
    data = explorer.draw(tilt=0.0, spectrum="white").data
    for old, new in zip(data[::2], data[1::2], strict=True):
        assert list(old.y) == list(new.y)


def test_explorer_axes_hold_every_curve(explorer):
    """Ranges are fixed, so that nothing jumps; what lay outside would not be seen."""
    for spectrum in ("falling", "white"):
        for tilt in loss.TILTS:
            fig = explorer.draw(tilt=tilt, spectrum=spectrum)
            for axis, curves in (("yaxis", (0, 1)), ("yaxis2", (2, 3)), ("yaxis3", (4, 5))):
                low, high = fig.layout[axis].range
                drawn = [v for i in curves for v in fig.data[i].y]
                drawn = [math.log10(v) for v in drawn] if axis == "yaxis" else drawn
                assert low <= min(drawn) <= max(drawn) <= high


def test_explorer_published_has_a_frame_for_each_tilt_and_spectrum(explorer):
    published = explorer.published()
    assert len(published.frames) == 2 * len(loss.TILTS)
    assert loss.TILTS[published.layout.sliders[0].active] == 0.5


def test_an_explorer_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one spectrum"):
        loss.loss_explorer({})
