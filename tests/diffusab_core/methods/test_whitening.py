"""Whitening of latents and the distance of logarithmic spectra, and fine-tuning with both."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from diffusab_core import autoencoders, data
from diffusab_core.experiments import finetune
from diffusab_core.experiments.autoencoder import asks_for_detail, reached
from diffusab_core.methods import finetuning, regularizers
from diffusab_core.methods.finetuning import Finetuning
from diffusab_core.spectrum import block_dct, block_idct, frequency_profile, high_frequency_share


def coloured(slope: float, seed: int = 0, n: int = 16, block_size: int = 8) -> torch.Tensor:
    """Latents of whole blocks with energies (u² + v²)^slope/2, exactly, and a large mean."""
    g = torch.Generator().manual_seed(seed)
    d = torch.randn(n, 4, 2, 2, block_size, block_size, generator=g, dtype=torch.float64)
    d = d / d.square().mean((0, 1, 2, 3), keepdim=True).sqrt()
    u = torch.arange(block_size, dtype=torch.float64)
    radius = (u[:, None].square() + u.square()).sqrt()
    radius[0, 0] = 1e-2
    return block_idct(d * radius ** (slope / 2))


def test_whitening_is_zero_for_white_latents_and_grows_with_the_slope():
    values = [regularizers.whitening(coloured(slope)).item() for slope in (0, -0.5, -1, -2, -3)]
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert all(b > a + 0.01 for a, b in pairwise(values))
    blue = regularizers.whitening(coloured(1.0)).item()  # more at high frequencies is not flat either
    assert blue > 0.01


def test_whitening_is_the_logarithm_of_arithmetic_over_geometric_mean():
    z = coloured(-1.3, seed=3)
    energy = block_dct(z, 8).square().flatten(-2).mean((0, 1, 2, 3))[1:]
    wanted = math.log(energy.mean().item()) - energy.log().mean().item()
    assert regularizers.whitening(z).item() == pytest.approx(wanted, rel=1e-9)
    shares = energy / energy.sum()
    divergence = (1 / 63 * (1 / 63 / shares).log()).sum().item()  # of the uniform distribution from the shares
    assert wanted == pytest.approx(divergence, rel=1e-9)


def test_whitening_does_not_see_scale_and_mean():
    z = coloured(-2, seed=1)
    value = regularizers.whitening(z)
    assert torch.allclose(regularizers.whitening(37 * z), value)
    assert torch.allclose(regularizers.whitening(z + 5), value)
    assert torch.isfinite(regularizers.whitening(torch.zeros(1, 1, 8, 8)))
    clip = z.unflatten(0, (8, 2)).transpose(1, 2)  # (N, C, T, h, w)
    assert torch.allclose(regularizers.whitening(clip), value)


def test_descending_along_whitening_whitens():
    z = coloured(-2, seed=2, n=8).requires_grad_()
    optimiser = torch.optim.Adam([z], lr=0.02)
    before = high_frequency_share(frequency_profile(z.detach(), 8, "energy"))
    for _ in range(60):
        optimiser.zero_grad()
        regularizers.whitening(z).backward()
        optimiser.step()
    after = high_frequency_share(frequency_profile(z.detach(), 8, "energy"))
    assert before < 0.2
    assert 0.4 < after < 0.6


def test_logarithmic_spectra_see_blur_and_not_the_picture():
    x = data.stack(data.Photos(32, "train", seed=7, length=4), range(4))
    distance = regularizers.log_spectrum_distance
    assert distance(x, x) == 0
    assert distance(x, x.flip(-1).rot90(2, (-2, -1))).item() == pytest.approx(0, abs=1e-4)  # mirrored, block by block
    assert distance(x, x + 0.3).item() == pytest.approx(0, abs=1e-3)  # brightness is left to the distance of pixels
    blurred = [distance(x, gaussian_blur(x, 9, s)).item() for s in (0.4, 0.7, 1.0, 1.6)]
    assert blurred == sorted(blurred)
    assert blurred[-1] > 0.3
    assert distance(x, gaussian_blur(x, 9, 1.0)) == pytest.approx(distance(gaussian_blur(x, 9, 1.0), x).item())
    # An oracle: halving every coefficient of a strong picture is a fourth of its energy.
    strong = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert distance(strong, strong / 2).item() == pytest.approx(math.log10(4), rel=1e-3)
    with pytest.raises(ValueError, match=r"\(4, 3, 32, 32\)"):
        distance(x, x[:2])


SMALL = {"resolution": 32, "batch_size": 2, "steps": 2}


@pytest.mark.parametrize(
    ("wrong", "value"),
    [
        ({"whitening_weight": -1.0}, "-1.0"),
        ({"wanted_share": 1.5}, "1.5"), ({"wanted_detail": -0.5}, "-0.5"), ({"psnr_within": float("nan")}, "nan"),
        ({"method": "eq-vae", "whitening_weight": 0.1}, "0.1"), ({"method": "eq-vae", "log_dct_weight": 0.2}, "0.2"),
        ({"whole": True, "frozen_up_blocks": 2}, "2"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong, value):
    with pytest.raises(ValueError, match=value):
        Finetuning(**wrong)


def test_the_terms_are_in_the_loss_with_their_weights():
    autoencoder = autoencoders.load("kl-f4c16")
    x = data.stack(data.Photos(32, "train", seed=1, length=2), range(2))

    def terms(**more):
        settings = Finetuning(method="plain", **more)
        distance = finetuning.distance_of(settings)
        with torch.no_grad():
            found = finetuning.loss_terms(autoencoder, x, settings, distance, torch.Generator().manual_seed(0))
        return {name: term.item() for name, term in found.items()}

    plain = terms()
    assert terms(whitening_weight=0.0, log_dct_weight=0.0) == plain
    z = autoencoder.encode(x)
    noise = torch.randn((2, 16, 8, 8), generator=torch.Generator().manual_seed(0))
    white = terms(whitening_weight=0.5)
    assert white["reconstruction"] == plain["reconstruction"]
    with torch.no_grad():
        latents = z.mean + z.std * noise
        assert white["whitening"] == pytest.approx(0.5 * regularizers.whitening(latents).item(), rel=1e-5)
        more = regularizers.log_spectrum_distance(x, autoencoder.decode(latents)).item()
    detailed = terms(log_dct_weight=0.1)
    assert detailed["reconstruction"] == pytest.approx(plain["reconstruction"] + 0.1 * more, rel=1e-4)
    both = finetuning.distance_of(Finetuning(perceptual="hed", log_dct_weight=0.1))
    assert both.keywords["perceptual"].label == "HED"


def test_a_run_records_detail_and_whether_its_stop_rule_holds(tmp_path):
    probe = data.stack(data.Photos(64, "test", seed=0, length=2), range(2))
    quick = {"probe": probe, "snapshots": 1, "progress": False}
    settings = Finetuning(method="plain", **SMALL, whitening_weight=1.0, wanted_share=0.4, whole=True)
    done = finetune(settings, tmp_path / "out", **quick)
    m = done.record.metrics
    assert m["reached"] == 0.0  # two steps change nothing
    assert {f"{when}_{key}" for when in ("before", "after") for key in ("high_frequency_kept", "colour_error")} <= set(
        m
    )
    assert m["before_latent_share"] == pytest.approx(m["before_hf_share"], rel=1e-4)
    assert m["trainable_parameters"] == sum(p.numel() for p in autoencoders.load("kl-f4c16").parameters())
    assert "whitening" in done.record.series
    assert finetune(settings, tmp_path / "out", **quick).record.metrics == m  # read back
    assert not asks_for_detail(Finetuning(method="plain"))  # as all records before
    assert asks_for_detail(Finetuning(method="plain", log_dct_weight=0.1))
    good = {"before_psnr_db": 30.0, "after_psnr_db": 29.8, "after_hf_share": 0.41, "after_high_frequency_kept": 0.6}
    assert reached(settings, good)
    assert reached(replace(settings, wanted_detail=0.6), good)
    assert not reached(replace(settings, wanted_detail=0.61), good)
    assert not reached(settings, good | {"after_psnr_db": 29.6})
    assert not reached(settings, good | {"after_hf_share": 0.39})
