"""The explorer of a radius shows what splitting and decoding give."""

import pytest
import torch

from diffusab_book import figures
from diffusab_book.explorers import radial
from diffusab_core import autoencoders, data
from diffusab_core.metrics import psnr
from diffusab_core.metrics.probes import reconstructions_by_part
from diffusab_core.spectrum.bands import energy_shares
from diffusab_core.spectrum.radial import radial_split


@pytest.fixture(scope="module")
def models():
    return {name: autoencoders.load(name) for name in ("kl-f8c4", "kl-f4c16")}


@pytest.fixture(scope="module")
def image():
    return data.photo("coffee")[:, 96:160, 192:256]


def test_the_explorer_shows_both_spaces_at_one_radius(models, image):
    explorer = radial.radius_explorer(image, models, (0.1, 0.2, 0.4))
    assert explorer.defaults == {"radius": 0.2, "model": "kl-f8c4"}
    figure = explorer.draw(radius=0.1, model="kl-f4c16")
    x = image[None]
    with torch.no_grad():
        z = models["kl-f4c16"].encode(x).mean
    parts = reconstructions_by_part(models["kl-f4c16"], z, 0.1)
    low, high = radial_split(x, 0.1)
    expected = [figures.picture(p[0], 60).data[0].source for p in (low, high, parts.low, parts.high)]
    assert [trace.source for trace in figure.data] == expected
    titles = [a.text for a in figure.layout.annotations]
    assert f"{psnr(low, x).item():.1f} dB" in titles[0]
    assert f"{psnr(parts.low, x).item():.1f} dB (Dec(Z): {psnr(parts.whole, x).item():.1f} dB)" in titles[2]
    assert f"{psnr(parts.high, x).item():.1f} dB" in titles[3]
    within, beyond = energy_shares(z, 0.1)
    assert f"{100 * within:.1f}%" in titles[2]
    assert f"{100 * beyond:.1f}%" in titles[3]


def test_published_form_has_a_frame_for_each_radius_and_model(models, image):
    explorer = radial.radius_explorer(image, models, (0.1, 0.3), start=0.1)
    figure = explorer.published()
    assert [frame.name for frame in figure.frames] == [
        f"model={model}|{radius}" for model in ("kl-f8c4", "kl-f4c16") for radius in (0.1, 0.3)
    ]
    drawn = explorer.draw(radius=0.3, model="kl-f4c16")
    assert [t.source for t in figure.frames[3].data] == [t.source for t in drawn.data]


def test_one_autoencoder_needs_no_menu_and_none_is_refused(models, image):
    explorer = radial.radius_explorer(image, {"one": models["kl-f4c16"]}, (0.1, 0.3), start=0.1)
    assert explorer.defaults == {"radius": 0.1}
    assert len(explorer.draw(radius=0.3).data) == 4
    with pytest.raises(ValueError, match="at least one autoencoder"):
        radial.radius_explorer(image, {})


def test_curves_over_cutoffs_show_means_and_ranges_in_percent():
    draws = torch.tensor([[0.5, 1.1, 1.0], [0.7, 1.3, 1.0]])  # (draws, R)
    bands = {"low band": {"a": draws, "b": draws / 2}, "high band": {"a": draws / 4, "b": draws / 4}}
    fig = radial.cutoff_curves(bands, (0.1, 0.2, float("inf")), "Amplitudes of two bands against the cutoff.")
    line = next(trace for trace in fig.data if trace.name == "a" and trace.yaxis == "y")
    assert list(line.x) == ["0.1", "0.2", "all"]
    assert list(line.y) == pytest.approx([60, 120, 100])
    around = next(trace for trace in fig.data if trace.fill and trace.legendgroup == "a" and trace.yaxis == "y")
    assert (min(around.y), max(around.y)) == pytest.approx((50, 130))
    assert [note.text for note in fig.layout.annotations] == list(bands)
