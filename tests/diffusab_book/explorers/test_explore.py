"""The explorers show what the package computes, in both forms, and stay small enough for a page."""

import pytest
import torch

from diffusab_book.explorers import spectra
from diffusab_core import autoencoders, data, flow, metrics, spectrum

IMAGE = data.photo("coffee")[:, 96:192, 192:288]  # (3, 96, 96)


@pytest.fixture(scope="module")
def autoencoder():
    return autoencoders.load("kl-f4c16")


def titles(figure):
    return [annotation.text for annotation in figure.layout.annotations]


@pytest.mark.parametrize(("share", "block_size"), [(0.5, 8), (0.1, 8), (0.25, 4)])
def test_dct_explorer_shows_the_cut_and_its_psnr(share, block_size):
    explorer = spectra.dct_explorer(IMAGE)
    figure = explorer.draw(share=share, block_size=block_size, statistic="energy")
    cut = spectrum.chop_high_frequencies(IMAGE[None], 1 - share, block_size)
    assert f"PSNR {metrics.psnr(cut, IMAGE[None]).item():.1f} dB" in titles(figure)[0]
    assert titles(figure)[0].startswith(f"{round(share * block_size**2)} of {block_size**2} kept")
    shown = [trace for trace in figure.data if trace.visible is True]
    profile = spectrum.frequency_profile(data.rgb01(IMAGE[None]), block_size, "energy")
    torch.testing.assert_close(torch.tensor(shown[0].y), profile, rtol=6e-3, atol=0)


def test_cut_explorer_cuts_the_same_share_of_both(autoencoder):
    explorer = spectra.cut_explorer(IMAGE, autoencoder, shares=(1.0, 0.3), orders=spectrum.ORDERS)
    with torch.no_grad():
        z = autoencoder.encode(IMAGE[None]).mean
        for order in spectrum.ORDERS:
            ratio = spectra.cut_ratio(0.3, order)
            rgb = spectrum.chop_high_frequencies(IMAGE[None], ratio, 32, order)
            decoded = autoencoder.decode(spectrum.chop_high_frequencies(z, ratio, 8, order))
            shown = titles(explorer.draw(share=0.3, order=order))
            assert shown[0] == f"photograph<br>{metrics.psnr(rgb, IMAGE[None]).item():.1f} dB"
            assert shown[1] == f"latent, decoded<br>{metrics.psnr(decoded, IMAGE[None]).item():.1f} dB"


def test_live_the_mark_and_the_titles_follow_the_slider(autoencoder):
    explorer = spectra.cut_explorer(IMAGE, autoencoder, shares=(1.0, 0.3), orders=spectrum.ORDERS)
    box = explorer.widget()
    slider, order = box.children[0].children
    slider.value, order.value = 0.3, "axes"
    expected, shown = explorer.draw(share=0.3, order="axes"), box.children[1]
    assert shown.layout.shapes[0].x0 == 1
    assert titles(shown) == titles(expected)
    assert [trace.source for trace in shown.data[:2]] == [trace.source for trace in expected.data[:2]]
    assert list(shown.data[3].y) == list(expected.data[3].y)


def test_published_the_mark_follows_the_slider(autoencoder):
    frames = spectra.cut_explorer(IMAGE, autoencoder, shares=(1.0, 0.3)).published().frames
    assert [(frame.name, frame.layout.shapes[0].x0) for frame in frames] == [("1.0", 0), ("0.3", 1)]


def test_cut_ratio_keeps_about_the_share():
    for order in spectrum.ORDERS:
        assert spectrum.kept_share(spectra.cut_ratio(0.25, order), 8, order) == 0.25


def test_noise_explorer_draws_the_signal_to_noise_ratio(autoencoder):
    energy = torch.tensor([4.0, 1.0, 0.25])
    figure = spectra.noise_explorer(IMAGE, autoencoder, {"demo": energy.tolist()}).draw(t=0.5)
    drawn = next(trace for trace in figure.data if trace.name == "demo")
    torch.testing.assert_close(torch.tensor(drawn.y), flow.frequency_snr(energy, 0.5), rtol=6e-3, atol=0)


def test_latent_noise_explorer_has_measurement_beside_formula(autoencoder):
    figure = spectra.latent_noise_explorer(IMAGE, autoencoder).draw(strength=1.0)
    measured, formula = (torch.tensor(t.y) for t in figure.data if t.name in ("measured", "formula"))
    assert (measured / formula - 1).abs().median() < 0.15
    assert formula[0] == 1


def test_published_pages_stay_small(autoencoder):
    full_size = data.photo("coffee")[:, 96:288, 192:384]
    assert len(spectra.dct_explorer(full_size).published().to_json()) < 500_000
    assert len(spectra.landing_figure().to_json()) < 400_000


def test_landing_figure_starts_with_frequencies_cut():
    figure = spectra.landing_figure()
    assert spectra.LANDING_SHARES[figure.layout.sliders[0].active] == 0.3
    assert len(figure.frames) == len(spectra.LANDING_SHARES)


def test_landing_figure_cuts_the_same_waves_beside_the_same_share():
    """At f = 4 the photograph's block of 32 keeps 1/16 of the share, so the same waves of the scene are gone."""
    fig = spectra.landing_explorer().draw(share=0.3)
    same_share, same_waves, decoded = [float(a.text.split("<br>")[1].split()[0]) for a in fig.layout.annotations[:3]]
    x = data.photo("astronaut")[None, :, 0:192, 144:336]
    assert same_waves == round(metrics.psnr(spectrum.chop_high_frequencies(x, 1 - 0.3 / 16, 32), x).item(), 1)
    assert same_share > 30 > decoded
    assert abs(same_waves - decoded) < 2
