"""Probing an autoencoder: against what is known, part by part."""

import pytest
import torch

from diffusab_core import autoencoders, data, metrics
from diffusab_core.experiments import probing
from diffusab_core.experiments.probing import Found, Probing, probe_autoencoder
from diffusab_core.files import SettingsError
from diffusab_core.metrics import aliasing

#: Rearranges 4 x 4 pixels into 48 channels: nothing is lost, and what is beyond the latent's Nyquist folds.
SHUFFLE = aliasing.pixel_unshuffle(4)


def test_parts_are_measured_in_turn_and_told_of():
    settings = Probing(parts=("cuts", "examine"), examine_crops=2, examine_resolution=64, cut_crops=2, large_crops=1,
                       large_resolution=64)  # fmt: skip
    told = []
    found = probe_autoencoder(settings, SHUFFLE, tell=lambda part, new: told.append((part, set(new.metrics))))
    assert [part for part, _ in told] == ["cuts", "examine"]
    assert found.metrics.keys() == told[0][1] | told[1][1]
    assert found.metrics["psnr_db"] == float("inf") or found.metrics["psnr_db"] > 100  # of examine: nothing is lost


def test_the_same_shipped_model_by_name_and_opened():
    settings = Probing("kl-f8c4", parts=("examine",), examine_crops=2, examine_resolution=64)
    by_name = probe_autoencoder(settings)
    assert by_name == probe_autoencoder(settings, autoencoders.load("kl-f8c4"))
    assert set(by_name.series) == {"profile", "energy"}


def test_spectra_of_a_lossless_map_are_those_of_the_pixels():
    images = probing.held_out(64, 3)
    same = aliasing.pixel_unshuffle(1)
    found = probing.spectra(same, images)
    assert found.series["ratio_of_means_mean"] == found.series["ratio_of_means_sample"]  # a point has no noise
    assert found.metrics["mean_posterior_variance"] == 0
    assert found.metrics["silent_channels"] == 0
    assert found.metrics["variance_of_means"] == pytest.approx(images.var().item(), rel=1e-5)
    assert found.metrics["hf_energy_ratio_rgb"] != found.metrics["hf_energy_ratio_mean"]  # [0, 1] against [-1, 1]


def test_noise_share_counts_channels_that_are_mostly_noise():
    model = autoencoders.load("kl-f4c16-beta1e-1")
    found = probing.spectra(model, probing.held_out(64, 4))
    share = found.series["channel_noise_share"]
    assert found.metrics["silent_channels"] == sum(s > 0.5 for s in share) > 0
    assert found.metrics["held_out_psnr_db"] > found.metrics["held_out_psnr_db_from_samples"]


def test_cuts_of_a_lossless_map_lose_what_they_cut():
    x = probing.held_out(64, 2)
    found = probing.cut_curves(SHUFFLE, x, x, cuts=(0.0, 0.5, 0.9), scales=(2,), block_size=8)
    s = found.series
    assert s["latent_mse"] == pytest.approx(s["picture_mse"], rel=1e-4)  # orthogonal: energy is kept
    assert s["latent_mse"][0] == 0 < s["latent_mse"][1] < s["latent_mse"][2]
    direct = metrics.psnr(x, SHUFFLE.decode(SHUFFLE.encode(x).mean))
    assert s["psnr_db"][0] == pytest.approx(direct.item()) or s["psnr_db"][0] > 100
    assert s["large_cut_ratio"] == [0.0, 0.9]
    # Averages of 2 x 2 channels are no average of the pixels that they hold: a rearrangement is not equivariant.
    assert found.metrics["small_psnr_db_by_averages"] < 40


def test_folding_sees_what_a_rearrangement_folds():
    x = probing.held_out(64, 2)
    settings = Probing(in_nyquist=(0.5, 2.5), grated_crops=1, cutoffs=(0.1,))
    found = probing.folding(SHUFFLE, x, settings).series
    assert found["relative_gain"] == pytest.approx([1.0, 1.0], rel=1e-3)  # nothing is damped
    assert found["folded_share"] == pytest.approx([0.0, 1.0], abs=1e-3)
    assert found["reconstruction_error"] == pytest.approx([0, 0], abs=1e-4)  # and nothing is lost
    assert set(found) >= {"amplitude_0_0.125", "amplitude_0.25_0.5", "cutoff"}


def test_what_is_cut_from_an_image_is_gone_from_a_latent_that_is_the_image():
    x = probing.held_out(64, 2)
    found = probing.respond_to_cutoffs(aliasing.pixel_unshuffle(1), x, (0.2, 0.6))
    assert found.series["cutoff"] == [0.2, 0.6]
    assert found.series["amplitude_0_0.125"] == pytest.approx([1, 1], abs=1e-3)
    assert found.series["amplitude_0.25_0.5"] == pytest.approx([0, 1], abs=1e-3)
    assert found.metrics["high_band_ratio"] == pytest.approx(0, abs=1e-3)
    folded = probing.folding(SHUFFLE, x, Probing(in_nyquist=(0.5,), grated_crops=1, cutoffs=(0.1,)))
    same = probing.respond_to_cutoffs(SHUFFLE, x, (0.1,))
    assert {name: folded.series[name] for name in same.series} == same.series
    assert folded.metrics == {}


def test_the_stake_of_all_bands_of_a_blind_decoder_is_zero():
    blind = autoencoders.wrap(Grey(), "grey")
    found = probing.bands(blind, probing.held_out(32, 2), Probing())
    assert found.series["stake_without_db"] == pytest.approx([0, 0, 0], abs=1e-6)
    assert found.series["stake_noised_db"] == pytest.approx([0, 0, 0], abs=1e-6)
    assert sum(found.series["rgb_energy_share"]) == pytest.approx(1, abs=1e-4)


def test_the_ruler_costs_more_the_more_is_damaged():
    found = probing.ruler(SHUFFLE, Probing(ruler_crops=48, ruler_resolution=32))
    s, m = found.series, found.metrics
    assert s["ruler_rank"] == [0, 1, 4, 10, 21, 32]
    assert all(value > m["ruler_floor"] for value in s["ruler_zeroed"] + s["ruler_permuted"])
    assert m["ruler_noise"] > max(s["ruler_permuted"])
    assert found == probing.ruler(SHUFFLE, Probing(ruler_crops=48, ruler_resolution=32))


class Grey(torch.nn.Module):
    """Latents of averages, and a decoder that does not look at them."""

    def encode(self, x):
        return torch.nn.functional.avg_pool2d(x, 4)

    def decode(self, z):
        return torch.zeros(len(z), 3, 4 * z.shape[-2], 4 * z.shape[-1])


@pytest.mark.parametrize(("wrong", "said"), [({"parts": ("cuts", "cost")}, "cost"), ({"parts": ()}, "none"),
                                             ({"cut_crops": 0}, "cut_crops must be at least 1, got 0")])  # fmt: skip
def test_what_cannot_be_measured_is_refused(wrong, said):
    with pytest.raises(SettingsError, match=said):
        Probing(**wrong)


def test_curves_are_kept_with_five_digits():
    found = Found()
    found.add("curve", 1 / 3)
    assert found.series == {"curve": [0.33333]}
    assert probing.round_series({"a": [123456.0]}) == {"a": [123460.0]}
    assert (found | Found({"m": 1.0})).metrics == {"m": 1.0}


def test_held_out_crops_are_of_held_out_photographs():
    assert torch.equal(probing.held_out(32, 2)[1], data.Photos(32, "test", seed=0, length=2)[1])
