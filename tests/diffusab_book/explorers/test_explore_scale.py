"""Explorers of scale equivariance: what is shown is what the functions they stand for compute."""

import numpy as np
import pytest
import torch

from diffusab_book.explorers.scale import knob_explorer, scale_explorer, training_explorer
from diffusab_core import autoencoders, data
from diffusab_core.experiments import records
from diffusab_core.methods.regularizers import downsample
from diffusab_core.metrics import psnr


@pytest.fixture(scope="module")
def autoencoder():
    return autoencoders.load("kl-f4c16")


def test_scale_explorer_shows_the_psnr_of_the_decoded_latent(autoencoder):
    image = data.photo("coffee")[:, 96:160, 192:256]
    explorer = scale_explorer(image, {"untouched": autoencoder}, (1, 2, 4))
    assert explorer.defaults == {"scale": 2}
    with torch.no_grad():
        z = autoencoder.encode(image[None]).mean
        expected = psnr(autoencoder.decode(downsample(z, 4)), downsample(image[None], 4)).item()
    titles = [a.text for a in explorer.draw(scale=4).layout.annotations]
    assert titles == ["image, 4 times smaller", f"untouched<br>{expected:.1f} dB"]
    figure = explorer.draw(scale=2)
    assert len(figure.data) == 2
    assert len(explorer.published().frames) == 3
    with pytest.raises(ValueError, match="cannot be downsampled by 32"):
        scale_explorer(image, {"untouched": autoencoder}, (1, 32)).draw(scale=32)


def test_a_knob_turned_up_and_down_is_heard_on_the_small_grid_only():
    image = data.photo("coffee")[:, 96:160, 192:256]

    def encode(x, tilt):  # twice as loud for each unit of the exponent
        return x * 2.0**tilt

    drawn = {tilt: knob_explorer(image, encode, (0.0, 0.5, 1.0)).draw(tilt=tilt) for tilt in (0.0, 1.0)}
    sources = {tilt: [trace.source for trace in figure.data if trace.type == "image"] for tilt, figure in drawn.items()}
    assert sources[0.0][1:] == sources[1.0][1:], "this gain is the same on both grids"
    for tilt, figure in drawn.items():
        encoder, decoder, both = (np.array(trace.y) for trace in figure.data if trace.type == "scatter")
        np.testing.assert_allclose(encoder * decoder, both, rtol=1e-5)
        np.testing.assert_allclose(both, 2.0**-tilt, rtol=1e-5)
    explorer = knob_explorer(image, encode, (0.0, 0.5, 1.0))
    assert explorer.defaults == {"tilt": 0.5}
    assert len(explorer.published().frames) == 3


def run_with(steps, factor):
    run = records.start("demo", parameters={}, seed=0, size="smoke", data="none")
    run.series = {"snapshot_step": steps}
    run.series |= {f"snapshot_profile_{step}": [1.0, 0.5, 0.1 * factor**step, 0.05] for step in steps}
    return run.finish()


def test_training_explorer_shows_the_snapshot_of_each_run():
    rgb = torch.tensor([1.0, 0.3, 0.05, 0.01])
    explorer = training_explorer({"plain": run_with([0, 2], 1.0), "SE": run_with([0, 2], 0.5)}, rgb)
    figure = explorer.draw(step=2)
    assert [trace.name for trace in figure.data] == ["before", "plain", "SE", "RGB"]
    assert list(figure.data[2].y) == pytest.approx([1.0, 0.5, 0.025, 0.05])
    assert list(explorer.draw(step=0).data[2].y) == list(figure.data[0].y)
    with pytest.raises(ValueError, match=r"\[0, 2\].*\[0, 3\]"):
        training_explorer({"plain": run_with([0, 2], 1.0), "SE": run_with([0, 3], 0.5)}, rgb)
