"""The explorer of a denoiser: states are the sampler's, predictions are what the network said there."""

import pytest
import torch

from diffusab_book.explorers import denoiser as explore_denoiser
from diffusab_core import denoisers, flow

NOISE = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0])


@pytest.fixture(scope="module")
def model():
    """A small DiT that says something: every weight is drawn, none is zero."""
    torch.manual_seed(0)
    made = denoisers.DiT(2, 4, 3, patch=2, width=16, depth=2, heads=2)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=0.2)
    return made.eval()


def test_states_are_those_of_the_sampler_with_hints_handed_on(model):
    states, predictions = explore_denoiser.record_walk(model, NOISE, 3, Y)
    expected = flow.sample(denoisers.SelfConditioned(model), NOISE, 3, y=Y, trajectory=True)
    torch.testing.assert_close(states, expected)
    assert states.shape == predictions.shape == (4, *NOISE.shape)
    without_hints = flow.sample(model, NOISE, 3, y=Y, trajectory=True)
    assert not torch.allclose(states[-1], without_hints[-1], atol=1e-4)  # the hint is part of the velocity


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_prediction_is_the_end_of_the_line_that_the_next_state_lies_on(model, guidance):
    states, predictions = explore_denoiser.record_walk(model, NOISE, 4, Y, guidance)
    times = flow.sampling_times(4)
    for k in range(4):
        share = float(times[k + 1] / times[k])  # x_{k+1} = x_hat + (t_{k+1} / t_k) (x_k - x_hat)
        torch.testing.assert_close(states[k + 1], torch.lerp(predictions[k], states[k], share), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(predictions[-1], states[-1])


def test_a_prediction_of_exact_velocities_is_the_mean_at_the_start():
    class Exact(torch.nn.Module):
        def forward(self, x, t, y=None, hint=None, with_hint=False):
            return flow.gaussian_velocity(x, t, 0.5, 0.09), x

    _, predictions = explore_denoiser.record_walk(Exact(), NOISE, 2)
    torch.testing.assert_close(predictions[0], torch.full_like(NOISE, 0.5))


def test_guidance_changes_the_walk_and_needs_classes(model):
    plain, guided = (explore_denoiser.record_walk(model, NOISE, 2, Y, scale)[0][-1] for scale in (1.0, 2.0))
    assert not torch.allclose(plain, guided, atol=1e-4)
    with pytest.raises(ValueError, match=r"guidance 2.0 needs classes"):
        explore_denoiser.record_walk(model, NOISE, 2, None, 2.0)


def images(z):
    return torch.tanh(z[:, :1]).expand(-1, 3, -1, -1)


def test_explorer_shows_states_and_predictions(model):
    explorer = explore_denoiser.trajectory_explorer(
        model, images, NOISE, Y, steps=4, shown=(0, 2, 4), guidances=(1.0, 3.0), columns=2
    )
    assert explorer.defaults == {"step": 2, "guidance": 1.0}
    start, end = explorer.draw(step=0), explorer.draw(step=4)
    assert start.data[0].source != start.data[1].source
    assert end.data[0].source == end.data[1].source
    assert start.layout.annotations[0].text == "state at t = 1.00"
    assert explorer.draw(step=4, guidance=3.0).data[0].source != end.data[0].source
    assert explorer.draw(step=0, guidance=3.0).data[0].source == start.data[0].source  # the same noise
    published = explorer.published()
    assert len(published.frames) == 6
    assert all(set(frame.traces) == {0, 1} for frame in published.frames)


def test_explorer_without_menu_and_with_steps_that_are_not_reached(model):
    explorer = explore_denoiser.trajectory_explorer(model, images, NOISE, Y, steps=2, columns=2)
    assert [control.name for control in explorer.controls] == ["step"]
    assert explorer.slider.options == (0, 1, 2)
    for shown in ((0, 3), (1,)):
        with pytest.raises(ValueError, match="steps 0 to 2"):
            explore_denoiser.trajectory_explorer(model, images, NOISE, Y, steps=2, shown=shown, columns=2)
