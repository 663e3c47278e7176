"""Sentences of the diffusability report: each threshold from both sides, and no number that was not measured."""

from dataclasses import replace

import pytest

from diffusab_book.report import diagnosis_findings as f
from diffusab_book.report.diagnosis_types import (
    Cut,
    Cutoff,
    Dependence,
    Diagnosis,
    GratingResponse,
    Noise,
    Reconstruction,
    ScaleEquivariance,
)
from diffusab_book.report.report_types import Profile

EDGES = (0.0, 0.25, 0.5, 0.7072)


def profile(name="a", share=0.1, kind="model"):
    curve = {key: [1.0] * 64 for key in ("mean_ratio", "median_ratio", "ratio_of_means", "energy")}
    return Profile(name, kind, name, (4, 8, 8), 3, 12, 0, curve, 0.01, share, 4)


def noise(share=0.05, by_channel=(0.1, 0.2), by_frequency=(0.1,) * 64):
    return Noise(False, 1.5, share, by_channel, by_frequency)


def model(name="a", share=0.1, psnr=30.0, apart=25.0, low=20.0):
    return Diagnosis(
        profile(name, share), 1000, noise(), Reconstruction(3, psnr, 1.0, 0.9),
        cut(psnr - 3, psnr), dependence(low, psnr),
        ScaleEquivariance((2, 4), (20.0, 18.0), (apart, 15.0), (31.0, 32.0)),
        cutoff(1.2), gratings(0.7), {"lpips": "weights not on disk"},
    )  # fmt: skip


def cut(left, whole=30.0, rgb=60.0):
    return Cut(3, (0.0, 0.45, 0.75), (whole, whole, left), (None, 70.0, rgb))


def dependence(low, whole=30.0):
    return Dependence(3, EDGES, whole, (10.0, 22.0, 25.0), (9.0, 21.0, 24.0), 0.25, low, 11.0)


def cutoff(fine):
    return Cutoff(3, (0.1, 0.2, 0.7072), EDGES, ((2.0, 0.5, 0.5), (2.0, fine, fine), (2.0, 1.0, 1.0)))


def gratings(error):
    return GratingResponse(
        2, 64, (0.05, 0.1, 0.2, 0.3), (0.0, 0.5, 1.0, 1.0), (4.0, 3.0, 2.0, 1.0), (0.0, 0.3, 0.8, 0.6),
        (0.1, 0.1, 0.2, 0.4), (0.1, 5.0, error - 0.01, error + 0.01), 0.125,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("left", "word"),
    [(29.01, "costs little"), (28.99, "costs fidelity"), (24.01, "costs fidelity"), (24.0, "costs much")],
)
def test_cut(left, word):
    said = f.of_cut(cut(left))
    assert f"Cutting the finest 75% of the latent's frequencies {word}: PSNR goes from 30.0 dB to {left:.1f} dB" in said


@pytest.mark.parametrize(
    ("left", "word"),
    [(25.98, "lower than the 27.0"), (26.0, "about the 27.0"), (27.98, "about the"), (28.0, "higher than the")],
)
def test_cut_beside_that_of_rgb(left, word):
    """Two equal errors add to one that is 3 dB worse."""
    said = f.of_cut(cut(left, whole=30.0, rgb=30.0))
    assert word in said
    assert "(30.0 dB)" in said


def test_cut_of_a_perfect_autoencoder_is_rgbs_own():
    said = f.of_cut(Cut(3, (0.0, 0.75), (None, 25.0), (None, 25.0)))
    assert "from ∞ dB to 25.0 dB on 3 images, about the 25.0 dB" in said
    assert f.both_errors(None, None) is None
    assert f.both_errors(None, 20.0) == pytest.approx(20)
    assert f.both_errors(20.0, 20.0) == pytest.approx(20 - 3.0103, abs=1e-3)


@pytest.mark.parametrize(
    ("share", "word"),
    [(0.0099, "practically deterministic"), (0.01, "somewhat noisy"), (0.0999, "somewhat noisy"), (0.1, "are noisy")],
)
def test_noise(share, word):
    assert word in f.of_noise(noise(share))


def test_noise_of_channels_and_frequencies():
    said = f.of_noise(noise(0.3, (0.5, 0.51, 0.9), (0.1, 0.5, 0.51) + (0.6,) * 61))
    assert "2 of 3 channels are more noise than signal" in said
    assert "From zigzag rank 2 of 63 on" in said
    assert "At every frequency" in f.of_noise(noise(0.9, (0.9, 0.9), (0.9,) * 64))
    quiet = f.of_noise(noise(0.3, (0.5, 0.5), (0.5,) * 64))
    assert "channels are more" not in quiet
    assert "rank" not in quiet
    assert "1.5 nats" in quiet
    assert "infinite" in f.of_noise(replace(noise(), averaged_kl=None))
    assert f.of_noise(Noise(True, None, 0.0, (0.0,), (0.0,) * 64)).startswith("The encoder is deterministic")


@pytest.mark.parametrize(
    ("apart", "word"),
    [(None, "nearly"), (30.0, "nearly"), (29.9, "to a degree"), (20.1, "to a degree"), (20.0, "far from")],
)
def test_scale(apart, word):
    said = f.of_scale(ScaleEquivariance((2, 4), (20.0, 18.0), (apart, 15.0), (31.0, None)))
    assert word in said
    assert "at ×2 20.0 dB to the small image where the whole latent allows 31.0 dB" in said
    assert "allows ∞ dB" in said


@pytest.mark.parametrize(
    ("low", "word"),
    [(29.01, "hardly needs"), (28.99, "decoder needs"), (24.01, "decoder needs"), (24.0, "strongly needs")],
)
def test_dependence(low, word):
    said = f.of_dependence(dependence(low))
    assert word in said
    assert f"from the rest alone PSNR is {low:.1f} dB, from the whole latent 30.0 dB" in said
    assert "costs most is 0 to 0.25 (20.0 dB, 3 images)" in said


def test_a_decoder_that_misses_no_band():
    needs = dependence(30.0)
    said = f.of_dependence(replace(needs, without_db=(needs.whole_db - 0.04,) * len(needs.without_db)))
    assert "No band's removal costs as much as 0.1 dB (3 images)" in said
    assert "costs most" not in said


@pytest.mark.parametrize(("psnr", "poor"), [(14.99, True), (15.0, False), (None, False)])
def test_a_model_that_does_not_reconstruct_is_said_to(psnr, poor):
    said = f.of_reconstruction(replace(model().reconstruction, psnr_db=psnr))
    assert ("does not reconstruct these images" in said) == poor


@pytest.mark.parametrize(
    ("error", "word"),
    [(0.499, "mostly recovered"), (0.5, "partly"), (0.899, "partly"), (0.9, "are not recovered")],
)
def test_gratings(error, word):
    said = f.of_gratings(gratings(error))
    assert word in said
    assert "for coarser gratings 0.10" in said  # the one that is beyond in one direction only is in neither mean
    assert "70% lies at the frequency that folding predicts and 30% elsewhere" in said


def test_gratings_that_say_nothing():
    response = gratings(0.7)
    assert "nothing is known" in f.of_gratings(replace(response, beyond_nyquist=(0.0, 0.0, 0.5, 0.5)))
    nothing = replace(response, folded_share=(0.0, 0.0, None, None), spread_share=(0.0, 0.0, None, None))
    assert "hardly responds" in f.of_gratings(nothing)


@pytest.mark.parametrize(
    ("fine", "word"), [(1.06, "raises"), (1.04, "about the same"), (0.96, "about the same"), (0.94, "lowers")]
)
def test_cutoff(fine, word):
    said = f.of_cutoff(cutoff(fine))
    assert said.startswith("Removing image frequencies beyond 0.2 cycles per RGB pixel ")
    assert [w for w in ("raises", "about the same", "lowers") if w in said] == [word]
    assert f"{fine:.2f} times" in said
    assert ("It is largest" in said) == (fine > 1.05)


def test_fine_bands_begin_at_a_quarter():
    response = Cutoff(1, (0.1, 0.7072), EDGES, ((5.0, 1.0, 3.0), (1.0, 2.0, 2.0)))
    assert f.fine_amplitude(response) == pytest.approx((1.0, 1.0))  # (1/2 + 3/2) / 2


def test_every_topic_is_told_and_what_was_not_measured_says_why():
    found = f.findings(model(), profile("RGB", 0.05, "rgb"), 8)
    assert [finding.topic for finding in found] == [*dict.fromkeys(finding.topic for finding in found)]
    assert {finding.topic for finding in found} == set(f.TOPICS)
    assert "LPIPS was not measured" in found[0].text
    lacking = replace(model(), scale=None, gratings=None, not_measured={"scale": "one size only"})
    said = {finding.topic: finding.text for finding in f.findings(lacking, profile("RGB", 0.05, "rgb"), 8)}
    assert said["scale"] == "Not measured: one size only."
    assert said["gratings"] == "Not measured: no reason was recorded."


def test_models_are_compared_where_the_digits_differ():
    assert f.compared([model()]) == []
    said = f.compared([model("a", share=0.1, psnr=30.0, apart=25.0), model("b", share=0.2, psnr=31.0, apart=None)])
    assert any(s.startswith("Steepest spectrum") and "a, 10% (b 20%)" in s for s in said)
    assert "Highest PSNR of reconstructions: b, 31.0 dB (a 30.0 dB)." in said
    assert not any("scale" in s for s in said)  # only one has a number
    assert not any("low part" in s for s in said)  # both the same
