"""Explorers of a flow: what they show at a time is where the sampler is at that time."""

import numpy as np
import pytest
import torch

from diffusab_book.explorers.flow import film_strip, flow_explorer, sampling_explorer, trajectory_explorer
from diffusab_core import denoisers, flow, spectrum

NOISE = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
DATA = torch.tensor([0.5, -0.5]) + 0.3 * NOISE


def velocity(x, t):
    """The exact one for the data above, so that the flow is known in closed form."""
    mean = torch.tensor([0.5, -0.5]) if x.ndim == 2 else 0.0
    return flow.gaussian_velocity(x, t, mean, 0.09)


@pytest.fixture(scope="module")
def toy():
    return flow_explorer(velocity, DATA, NOISE, paths=3)


def test_flow_explorer_shows_the_state_at_each_time(toy):
    for steps in (8, 3):
        walk = flow.sample(velocity, NOISE, steps, trajectory=True)
        for t in (1.0, 0.3, 0.0):
            shown = toy.draw(t=t, steps=steps).data[2]
            expected = flow.states_at(walk, t)
            np.testing.assert_allclose(np.stack([shown.x, shown.y], 1), expected.numpy(), atol=0.0051)


def test_flow_explorer_published_moves_only_the_samples(toy):
    fig = toy.published()
    assert len(fig.frames) == 3 * 11
    assert all(frame.traces == (2,) for frame in fig.frames)
    assert "noise" in fig.layout.meta["alt"]


def test_flow_explorer_draws_paths_of_as_many_points_as_asked(toy):
    walk = flow.sample(velocity, NOISE, 3, trajectory=True)
    paths = np.stack([toy.draw(t=1.0, steps=3).data[1][axis] for axis in "xy"], 1).astype(float).reshape(3, 5, 2)
    assert np.isnan(paths[:, 4]).all()  # a line is broken between points
    np.testing.assert_allclose(paths[:, :4], walk[:, :3].transpose(0, 1).numpy(), atol=1e-6)


def test_sampling_explorer_estimates_the_clean_latent_and_agrees_with_the_state_at_the_end():
    latents = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    seen = []

    def decode(z):
        seen.append(z)
        return z.repeat_interleave(2, -1).repeat_interleave(2, -2).clamp(-1, 1)

    explorer = sampling_explorer(velocity, decode, latents, steps=8)
    start, end = explorer.draw(t=1.0), explorer.draw(t=0.0)
    assert start.data[0].source != end.data[0].source
    assert end.data[0].source == end.data[1].source  # at t = 0 the state is the estimate
    torch.testing.assert_close(seen[0], latents)
    torch.testing.assert_close(seen[1], torch.zeros_like(latents))  # E[x0 | x1] is the data's mean
    explorer.draw(t=1.0)
    assert len(seen) == 4  # pictures are decoded once


def test_sampling_explorer_published_has_a_frame_for_each_time():
    latents = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    fig = sampling_explorer(velocity, torch.tanh, latents, steps=8).published()
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


LATENTS = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
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


def images(z):
    return torch.tanh(z[:, :1]).expand(-1, 3, -1, -1)


def test_explorer_shows_states_and_predictions(model):
    explorer = trajectory_explorer(model, images, LATENTS, Y, steps=4, shown=(0, 2, 4), guidances=(1.0, 3.0))
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
    explorer = trajectory_explorer(model, images, LATENTS, Y, steps=2)
    assert [control.name for control in explorer.controls] == ["step"]
    assert explorer.slider.options == (0, 1, 2)
    for shown in ((0, 3), (1,)):
        with pytest.raises(ValueError, match="steps 0 to 2"):
            trajectory_explorer(model, images, LATENTS, Y, steps=2, shown=shown)


def test_walks_follow_a_velocity_with_classes_where_they_are_guided(model):
    with pytest.raises(ValueError, match=r"guidance by \(1.0, 2.0\) needs classes"):
        trajectory_explorer(model, images, LATENTS, guidances=(1.0, 2.0), steps=2)
    noisy = denoisers.build("UViT-XXS/1", in_channels=2, input_size=4)
    with pytest.raises(ValueError, match="predicts the noise"):
        trajectory_explorer(noisy, images, LATENTS, steps=2)


def test_a_film_strip_shows_bands_settle_in_the_order_of_their_energies():
    """The exact velocity of pictures whose long waves have the more energy."""
    generator = torch.Generator().manual_seed(2)
    weights = torch.tensor([30.0, 3.0, 0.1])  # variance of a coefficient in each band

    def velocity_of_waves(x, t):
        bands = spectrum.radial_bands(x, (1 / 8, 1 / 4))
        return sum(flow.gaussian_velocity(b, t, 0.0, w.item()) for b, w in zip(bands, weights, strict=True))

    decoded = []

    def decode(z):
        decoded.append(z)
        return z.clamp(-1, 1)

    noise = torch.randn(6, 3, 16, 16, generator=generator)
    fig = film_strip(velocity_of_waves, decode, noise, radii=(1 / 8, 1 / 4), steps=16, frames=4)
    assert len(decoded) == 17
    curves = {trace.name: np.array(trace.y) for trace in fig.data[1:]}
    assert list(curves) == ["waves over 8 pixels", "8 to 4 pixels", "under 4 pixels"]
    coarse, middle, fine = curves.values()
    assert (coarse[2:10] > middle[2:10]).all()
    assert (middle[2:10] > fine[2:10]).all()
    assert all(curve[-1] == pytest.approx(1, abs=1e-5) for curve in curves.values())
    assert fig.layout.xaxis.ticktext == ("1", "0.75", "0.5", "0.25", "0")
    with pytest.raises(ValueError, match="multiple of 4"):
        film_strip(velocity_of_waves, decode, noise, steps=10, frames=4)
