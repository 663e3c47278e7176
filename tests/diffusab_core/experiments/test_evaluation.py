"""Evaluating an autoencoder: what no record holds, and settings that nothing can be made of."""

import pytest

from diffusab_core import data, experiments
from diffusab_core.data.open import open_images
from diffusab_core.experiments.samples import SampleEvaluation
from diffusab_core.methods.denoising import Sampling

LOSSLESS = """
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
class Lossless(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("one", __import__("torch").ones(1))
    def encode(self, x):
        return pixel_unshuffle(x, 4) * self.one
    def decode(self, z):
        return pixel_shuffle(z, 4)
"""


def test_an_autoencoder_that_loses_nothing_has_a_record_without_infinite_numbers(tmp_path):
    (tmp_path / "own.py").write_text(LOSSLESS)
    settings = experiments.Evaluation(
        f"{tmp_path / 'own.py'}:Lossless", samples=2, resolution=64, cuts=(0.0, 0.5), features="none"
    )
    record = experiments.evaluate(settings)
    assert "psnr_db" not in record.metrics
    assert record.metrics["ssim"] == pytest.approx(1)
    assert record.series["cut_ratio"] == [0.5]
    assert "PSNR is left out where it is infinite" in record.notes


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: experiments.Evaluation("kl-f4c16", seed=-1),
        lambda folder: experiments.Pretraining(seed=-1),
        lambda folder: SampleEvaluation("a", "b", seed=-1),
        lambda folder: Sampling(seed=-1),
        lambda folder: data.Photos(16, seed=-1),
        lambda folder: open_images(str(folder), 16, crop="random", seed=-1),
    ],
)
def test_a_seed_below_zero_is_named(make, tmp_path):
    with pytest.raises(ValueError, match=r"seed must .*, got -1"):
        make(tmp_path)
