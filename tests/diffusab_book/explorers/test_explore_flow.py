"""Explorers of a flow: what they show at a time is where the sampler is at that time."""

import numpy as np
import pytest
import torch

from diffusab_book.explorers import flow as explore_flow
from diffusab_core import flow

NOISE = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
DATA = torch.tensor([0.5, -0.5]) + 0.3 * NOISE


def velocity(x, t):
    """The exact one for the data above, so that the flow is known in closed form."""
    mean = torch.tensor([0.5, -0.5]) if x.ndim == 2 else 0.0
    return flow.gaussian_velocity(x, t, mean, 0.09)


@pytest.fixture(scope="module")
def toy():
    return explore_flow.flow_explorer(velocity, DATA, NOISE, steps=(8, 2), times=(1.0, 0.5, 0.25, 0.0), paths=3)


def test_states_at_the_samplers_times_and_halfway_between():
    walk = flow.sample(velocity, NOISE, 4, trajectory=True)
    for i, t in enumerate(flow.sampling_times(4).tolist()):
        torch.testing.assert_close(explore_flow.states_at(walk, t), walk[i])
    torch.testing.assert_close(explore_flow.states_at(walk, 0.625), (walk[1] + walk[2]) / 2)


def test_states_lie_on_the_exact_flow_when_steps_are_many():
    walk = flow.sample(velocity, NOISE, 400, trajectory=True)
    exact = flow.gaussian_path(NOISE, 0.333, torch.tensor([0.5, -0.5]), 0.09)
    torch.testing.assert_close(explore_flow.states_at(walk, 0.333), exact, atol=5e-3, rtol=0)


@pytest.mark.parametrize("t", [-0.01, 1.01, float("nan")])
def test_a_time_outside_is_refused(t):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        explore_flow.states_at(torch.zeros(3, 1, 2), t)


def test_a_trajectory_needs_two_states():
    with pytest.raises(ValueError, match="at least two states, got 1"):
        explore_flow.states_at(torch.zeros(1, 5, 2), 0.5)


def test_mosaic_puts_images_row_by_row():
    images = torch.linspace(-1, 0.5, 6)[:, None, None, None].expand(6, 3, 4, 5)
    joined = explore_flow.mosaic(images, columns=3, gap=2)
    assert joined.shape == (3, 2 * 4 + 2, 3 * 5 + 2 * 2)
    for i in range(6):
        row, column = divmod(i, 3)
        tile = joined[:, row * 6 : row * 6 + 4, column * 7 : column * 7 + 5]
        torch.testing.assert_close(tile, images[i])
    assert (joined[:, 4:6] == 1).all()
    assert (joined[:, :, 5:7] == 1).all()


def test_mosaic_without_gap_keeps_every_pixel():
    images = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    assert explore_flow.mosaic(images, 2, gap=0).shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("shape", "columns"), [((5, 3, 4, 4), 2), ((0, 3, 4, 4), 2), ((4, 1, 4, 4), 2), ((4, 3, 4, 4), 0)]
)
def test_mosaic_refuses_what_does_not_fit(shape, columns):
    with pytest.raises(ValueError, match=r"mosaic is made of images|do not fill rows"):
        explore_flow.mosaic(torch.zeros(shape), columns)


def test_path_line_breaks_between_points():
    walk = torch.tensor([[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]])  # two states of two points
    assert explore_flow.path_line(walk) == ([0.0, 4.0, None, 2.0, 6.0, None], [1.0, 5.0, None, 3.0, 7.0, None])


def test_flow_explorer_shows_the_state_at_each_time(toy):
    for steps in (8, 2):
        walk = flow.sample(velocity, NOISE, steps, trajectory=True)
        for t in (1.0, 0.25, 0.0):
            shown = toy.draw(t=t, steps=steps).data[2]
            expected = explore_flow.states_at(walk, t)
            np.testing.assert_allclose(np.stack([shown.x, shown.y], 1), expected.numpy(), atol=0.0051)


def test_flow_explorer_published_moves_only_the_samples(toy):
    fig = toy.published()
    assert len(fig.frames) == 2 * 4
    assert all(frame.traces == (2,) for frame in fig.frames)
    assert "noise" in fig.layout.meta["alt"]


def test_flow_explorer_draws_paths_of_as_many_points_as_asked(toy):
    assert sum(x is None for x in toy.draw(t=1.0, steps=2).data[1].x) == 3


def test_sampling_explorer_estimates_the_clean_latent_and_agrees_with_the_state_at_the_end():
    latents = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    seen = []

    def decode(z):
        seen.append(z)
        return z.repeat_interleave(2, -1).repeat_interleave(2, -2).clamp(-1, 1)

    explorer = explore_flow.sampling_explorer(velocity, decode, latents, steps=4, times=(1.0, 0.5, 0.0), columns=2)
    start, end = explorer.draw(t=1.0), explorer.draw(t=0.0)
    assert start.data[0].source != end.data[0].source
    assert end.data[0].source == end.data[1].source  # at t = 0 the state is the estimate
    torch.testing.assert_close(seen[0], latents)
    torch.testing.assert_close(seen[1], torch.zeros_like(latents))  # E[x0 | x1] is the data's mean
    explorer.draw(t=1.0)
    assert len(seen) == 4  # pictures are decoded once


def test_sampling_explorer_published_has_a_frame_for_each_time():
    latents = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    fig = explore_flow.sampling_explorer(velocity, torch.tanh, latents, steps=2, columns=2).published()
    assert [frame.name for frame in fig.frames] == [
        "1.0",
        "0.875",
        "0.75",
        "0.625",
        "0.5",
        "0.375",
        "0.25",
        "0.125",
        "0.0",
    ]
    assert all(set(frame.traces) == {0, 1} for frame in fig.frames)
