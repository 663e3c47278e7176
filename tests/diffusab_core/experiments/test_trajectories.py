"""Following samples from noise: against the one case that is known, and what is refused."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from diffusab_core.experiments import trajectories
from diffusab_core.methods.denoising import Sampling
from diffusab_core.spectrum import block_dct, zigzag_order

PICTURE = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(5))


class OnePicture(nn.Module):
    """The velocity where there is one datum: straight to it, from wherever the state is."""

    def __init__(self, prediction="velocity"):
        super().__init__()
        self.weight, self.prediction = nn.Parameter(torch.zeros(1)), prediction

    def forward(self, x, t, y=None, *, hint=None, with_hint=False):
        v = (x - PICTURE) / t.view(-1, 1, 1, 1)
        return (v, None) if with_hint else v


def bench(steps):
    def sampling(shift, samples):
        return Sampling(samples, steps, None, shift, 1.0, batch_size=8, precision="fp32", seed=0)

    trial = SimpleNamespace(sampling=sampling, block_size=8)
    return SimpleNamespace(trial=trial, device="cpu", decode=lambda z: z)


def denoiser(**how):
    return SimpleNamespace(model=OnePicture(**how), shape=(3, 16, 16), num_classes=0, denormalise=lambda z: z)


def upper(x):
    return block_dct(x).square().flatten(-2)[..., zigzag_order(8)][..., 32:].mean().item()


@pytest.mark.parametrize("steps", [20, 64, 3])
def test_states_of_one_picture_lie_on_straight_lines_from_noise(steps):
    series, states = trajectories.follow(bench(steps), denoiser(), 256)
    times = series["trajectory_time"]
    assert times[0] == 1
    assert times[-1] == 0
    assert len(times) == min(steps, trajectories.STATES) + 1
    energy = upper(PICTURE)
    expected = [((1 - t) ** 2 * energy + t**2) / energy for t in times]  # white noise has energy 1 at each rank
    assert series["trajectory_state_hf"] == pytest.approx(expected, rel=0.02)
    assert series["trajectory_prediction_hf"] == pytest.approx([1.0] * len(times), rel=1e-4)
    torch.testing.assert_close(states[-1], PICTURE, rtol=0, atol=1e-4)
    assert states.shape == (len(times), 3, 16, 16)


def test_a_model_of_the_noise_is_refused():
    with pytest.raises(ValueError, match="for denoisers that predict the velocity"):
        trajectories.follow(bench(4), denoiser(prediction="noise"), 2)
