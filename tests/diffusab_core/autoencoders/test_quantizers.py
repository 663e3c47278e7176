"""VQ and FSQ: which values they give, which gradients, what a folder keeps, and the spectra of what they lose."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, VQModel

from diffusab_core.autoencoders import Autoencoder, AutoencoderError, load
from diffusab_core.autoencoders.quantizers import FSQ, Codes, decode_without, quantize, with_fsq
from diffusab_core.experiments import probing
from diffusab_core.experiments.pretraining import Pretraining, build, train_autoencoder
from diffusab_core.files import SettingsError
from diffusab_core.metrics.quantisation import measure_quantisation
from diffusab_core.spectrum import chop_high_frequencies

SMALL = Pretraining(channels=(8, 8), norm_groups=1, kl_weight=0.0, latent_channels=2, resolution=16, batch_size=2,
                    steps=3, evaluation_resolution=16, evaluation_crops=4, statistics_crops=4, half=False,
                    levels=(4, 3), codebook=8)  # fmt: skip
X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def vq():
    torch.manual_seed(0)
    found = build(replace(SMALL, quantizer="vq"))
    found.module.quantize.embedding.weight.data = noise(8, 2)
    return found


@torch.no_grad()
def test_fsq_has_as_many_values_as_levels_and_keeps_zero():
    fsq, z = FSQ((8, 5, 2)), 3 * noise(50, 3, 20, 20)
    after, loss, (_, _, index) = fsq(z)
    assert (fsq.n_e, loss.item(), list(fsq.parameters())) == (80, 0, [])
    values = [after[:, channel].unique() for channel in range(3)]
    torch.testing.assert_close(values[0], torch.arange(-4, 4) / 4)
    torch.testing.assert_close(values[1], torch.arange(-2, 3) / 2)
    torch.testing.assert_close(values[2], torch.tensor([-1.0, 0.0]))
    codes = after.permute(0, 2, 3, 1).reshape(-1, 3)
    assert index.unique().tolist() == list(range(80))
    assert len(torch.cat([codes, index[:, None]], dim=1).unique(dim=0)) == 80, "a number for each code"
    assert not fsq(torch.zeros(1, 3, 1, 1))[0].any()
    torch.testing.assert_close(fsq.bound(torch.zeros(1, 3, 1, 1)), torch.zeros(1, 3, 1, 1))
    assert (fsq.bound(z).round() - fsq.bound(z)).abs().max() <= 0.5


def test_gradients_go_straight_through_the_rounding():
    fsq, z = FSQ((8, 5)), noise(2, 2, 4, 4).requires_grad_()
    weights = noise(2, 2, 4, 4) + 1
    (straight,) = torch.autograd.grad((fsq(z)[0] * weights).sum(), z)
    (smooth,) = torch.autograd.grad((fsq.scale(fsq.bound(z)) * weights).sum(), z)
    torch.testing.assert_close(straight, smooth)
    assert straight.abs().min() > 0


@pytest.mark.parametrize("levels", [(), (8, 1)])
def test_fsq_without_levels_is_refused(levels):
    with pytest.raises(ValueError, match="at least 2 levels"):
        FSQ(levels)


@torch.no_grad()
def test_vq_takes_the_nearest_code(vq):
    z = noise(3, 2, 5, 4)
    codes = quantize(vq, z)
    book = vq.module.quantize.embedding.weight  # (8, 2)
    nearest = (z[:, None] - book[None, :, :, None, None]).square().sum(2).argmin(1)  # (3, 5, 4)
    assert torch.equal(codes.index, nearest)
    torch.testing.assert_close(codes.after, book[nearest].permute(0, 3, 1, 2))
    assert (codes.count, codes.before is z) == (8, True)
    torch.testing.assert_close(vq.decode(z), decode_without(vq, codes.after))
    assert (vq.decode(z) - decode_without(vq, z)).abs().max() > 1e-3


@torch.no_grad()
def test_a_folder_says_that_fsq_is_in_it(vq, tmp_path):
    changed = with_fsq(vq, [4, 3])
    changed.module.save_pretrained(tmp_path)
    opened = load(tmp_path)
    z = opened.encode(X).mean
    assert torch.equal(z, changed.encode(X).mean)
    assert torch.equal(opened.decode(z), changed.decode(z))
    codes = quantize(opened, z)
    assert codes.count == 12
    torch.testing.assert_close(opened.decode(z), decode_without(opened, codes.after))
    assert (codes.after - codes.before).abs().max() <= 0.5 + 1e-6
    with pytest.raises(AutoencoderError, match="2 channels, and FSQ got 3 levels"):
        with_fsq(vq, [4, 3, 2])
    plain = Autoencoder("plain", AutoencoderKL(block_out_channels=(8,), norm_num_groups=1))
    for call in (lambda: with_fsq(plain, [2] * 4), lambda: quantize(plain, z), lambda: probing.codes(plain, X)):
        with pytest.raises(AutoencoderError, match="has no quantizer"):
            call()


def test_the_error_of_rounding_is_found_by_frequency():
    smooth = chop_high_frequencies(noise(64, 2, 16, 16), 0.8)
    white = 0.1 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(1))
    index = torch.arange(64 * 256).reshape(64, 16, 16) % 7
    found = measure_quantisation(Codes(smooth, smooth + white, index, 14))
    assert found.perplexity == pytest.approx(7, abs=1e-3)
    assert found.used == 0.5
    assert found.snr_db == pytest.approx(10 * (smooth.square().sum() / white.square().sum()).log10().item(), abs=1e-3)
    assert found.error_flatness > 0.99
    assert found.before[-1] < 1e-5 < found.after[-1]
    assert found.error_share[0] < 0.05 < 1 < found.error_share[-1]
    rare = torch.zeros(64, 16, 16, dtype=torch.long)
    found = measure_quantisation(Codes(smooth, chop_high_frequencies(smooth, 0.9), rare, 14))
    assert found.perplexity == 1
    assert found.error_flatness < 0.01, "what is cut from smooth latents is not white"
    with pytest.raises(ValueError, match="are codes already"):
        measure_quantisation(Codes(smooth, smooth, index, 14))


@pytest.mark.parametrize("quantizer", ["vq", "fsq"])
def test_an_autoencoder_is_trained_with_it(quantizer, tmp_path):
    settings = replace(SMALL, quantizer=quantizer)
    torch.manual_seed(settings.seed)
    fresh = build(settings).module
    done = train_autoencoder(settings, tmp_path / "one", progress=False, snapshots=1)
    opened = load(tmp_path / "one")
    assert isinstance(opened.module, VQModel)
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        z = opened.encode(x).mean
        assert opened.decode(z).isfinite().all()
    assert opened.normalise(z).std().item() == pytest.approx(1, abs=0.5)
    assert {"codebook", "psnr_db"} <= set(done.record.series)
    assert "kl" not in done.record.series
    card = (tmp_path / "one" / "README.md").read_text()
    assert "A small quantised autoencoder" in card
    if quantizer == "vq":
        assert not torch.equal(opened.module.quantize.embedding.weight, fresh.quantize.embedding.weight)
        assert "VQModel.from_pretrained" in card
        assert "the nearest of 8 codes" in card
    else:
        assert opened.module.quantize.levels.tolist() == [4, 3]
        assert "one of 4 x 3 codes (FSQ), which" in " ".join(card.split())
    found = probing.codes(opened, torch.rand(2, 3, 32, 32) * 2 - 1)
    assert set(found.series) == {"codes_before", "codes_after", "codes_error_share"}
    assert len(found.series["codes_after"]) == 64
    assert 1 <= found.metrics["codes_perplexity"] <= 12.001
    assert found.metrics["codes_psnr_db_without"] > 0


def test_a_run_without_a_quantizer_is_what_it_was():
    values = Pretraining().as_values()
    assert not {"quantizer", "codebook", "levels"} & set(values)
    assert replace(SMALL, quantizer="fsq").as_values()["quantizer"] == "fsq"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quantizer": "rvq"}, "quantizer must be one of none, vq, fsq"),
        ({"quantizer": "vq", "kl_weight": 1e-6}, "kl_weight must be 0"),
        ({"quantizer": "fsq", "levels": (4, 3, 2)}, "levels must be 2 numbers"),
        ({"quantizer": "fsq", "levels": (4, 1)}, "levels must be 2 numbers"),
        ({"quantizer": "vq", "decoder": "diffusion"}, "with a decoder of one pass"),
        ({"quantizer": "vq", "family": "dc"}, "is for family kl"),
        ({"quantizer": "vq", "codebook": 0}, "codebook must be at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused(change, said):
    with pytest.raises(SettingsError, match=said):
        replace(SMALL, **change)
