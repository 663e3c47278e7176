"""A denoiser of clips on one bench: latents, references, ruler, samples and errors, as those of images."""

import math
from dataclasses import asdict, replace

import pytest
import torch
from PIL import Image
from small_video import save_small_video

from diffusab_core.experiments import judging, trial
from diffusab_core.experiments.bench import Trial
from diffusab_core.files import SettingsError
from diffusab_core.metrics import yardsticks
from diffusab_core.spectrum.bands import ranked


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    model = save_small_video(tmp_path_factory.mktemp("model") / "video")
    return Trial(
        autoencoder=str(model), images="leaves", frames=5, resolution=32, crops=8, reference=6, denoiser="DiT-XXS/2",
        steps=3, batch_size=4, samples=5, sampling_steps=2, sampling_batch=3, shifts=(1.0, 4.0),
        features=("clip_offline",), snapshots=1, snapshot_samples=3, snapshot_steps=1, block_size=4,
    )  # fmt: skip


def test_a_denoiser_of_clips_is_trained_and_judged(settings, tmp_path):
    seen = {}

    def watch(step, values):
        seen.update(values)

    bench = trial.Bench(settings, tmp_path / "cache", progress=False)
    trained = trial.train(bench, tmp_path / "run", watch=watch)
    assert trained.denoiser.shape == (3, 2, 4, 4)
    assert seen["samples"].shape == (3 * 8, 3, 32, 32)  # of each clip a row of frames
    found = judging.judge(bench, trained)
    for name in ("gap", "frechet", "best_gap", "best_frechet"):
        assert found.metrics[f"{name}_clip_offline"] > 0
    assert math.isfinite(found.metrics["nearest_ratio"])
    assert len(found.series["ruler_permuted"]) == len(yardsticks.choose_bands(4))
    assert len(found.series["error_0.5"]) == 16
    assert found.images.shape == (5 * 8, 3, 32, 32)
    assert "decoded real latents of other clips of leaves" in found.notes
    file = judging.write_samples(tmp_path / "samples.webp", found.images)
    assert Image.open(file).size[0] > 8 * 32
    identity = bench.latents.identity
    assert (identity["frames"], identity["images"]) == (5, "leaves")


def test_frames_change_no_cache_of_images():
    plain = Trial()
    assert "frames" not in plain.extraction().as_values()
    assert plain.extraction(reference=True).choices == {}
    assert asdict(plain)["frames"] is None


def test_pictures_of_clips_are_rows_of_frames():
    clips = torch.arange(9.0)[None, None, :, None, None].expand(10, 3, -1, 2, 2)
    shown = judging.to_pictures(clips)
    assert shown.shape == (64, 3, 2, 2)
    assert shown[:8, 0, 0, 0].tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert torch.equal(judging.to_pictures(clips[:, :, 0]), clips[:, :, 0])


def test_damage_to_bands_is_done_frame_by_frame():
    z = torch.randn(6, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    for damaged in (yardsticks.permute_band(z, (1, 3), 4), yardsticks.zero_band(z, (1, 3), 4)):
        assert damaged.shape == z.shape
        d, before = ranked(damaged, 4), ranked(z, 4)
        torch.testing.assert_close(d[..., 4:], before[..., 4:], rtol=1e-4, atol=1e-5)
        assert (d[..., 1:4] - before[..., 1:4]).abs().max() > 0.1
    zeroed = ranked(yardsticks.zero_band(z, (1, 3), 4), 4)
    torch.testing.assert_close(
        zeroed[..., 1:4], ranked(z, 4)[..., 1:4].mean(0).expand(12, -1, -1), rtol=1e-4, atol=1e-5
    )


def test_networks_of_images_are_refused_for_clips_and_the_other_way_round(settings):
    with pytest.raises(SettingsError, match="features of clips are some of clip_offline, clip_lite0p64, i3d"):
        replace(settings, features=("offline",))
    with pytest.raises(SettingsError, match="features of images are some of offline"):
        Trial(features=("i3d",))
