"""Latents of clips: a cache of a video autoencoder, interrupted and with broken films."""

import pytest
import torch
from made_clips import moving, save_video, spoil
from small_video import save_small_video

from diffusab_core import autoencoders
from diffusab_core.autoencoders import AutoencoderError
from diffusab_core.data import open_images
from diffusab_core.latents import cache as caches
from diffusab_core.latents.cache import CacheError, LatentCache
from diffusab_core.latents.extraction import Extraction, extract


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A video autoencoder, and a folder of two films with four clips of five frames each."""
    root = tmp_path_factory.mktemp("clips")
    save_small_video(root / "model")
    for seed, name in enumerate(("a.mp4", "b.mp4")):
        save_video(root / "films" / name, moving(20, 32, 32, seed), codec="libx264", pix_fmt="yuv420p", g="5", bf="0")
    return root


def settings_of(root, **others):
    return Extraction(
        **{"model": str(root / "model"), "images": str(root / "films"), "resolution": 16, "frames": 5, "shard_size": 3}
        | others
    )


@torch.no_grad()
def test_clips_are_encoded_in_order(place, tmp_path):
    cache = extract(settings_of(place, dtype="float32"), tmp_path / "cache", progress=False)
    assert (len(cache), cache.shape) == (8, (3, 2, 2, 2))
    assert cache.identity["frames"] == 5
    clips, model = open_images(place / "films", 16, frames=5), autoencoders.load(str(place / "model"))
    for i in (0, 5):
        torch.testing.assert_close(cache.posterior([i])[0], model.encode(clips[i][None]).mean, rtol=1e-4, atol=1e-5)
    with pytest.raises(CacheError, match="frames 5 -> 9"):
        extract(settings_of(place, dtype="float32", frames=9), tmp_path / "cache", progress=False)


def test_a_kill_in_the_middle_loses_nothing(place, tmp_path, monkeypatch):
    whole = extract(settings_of(place), tmp_path / "whole", progress=False)
    written, real = [], caches.write_shard

    def killed(*shard):
        if written:
            raise KeyboardInterrupt
        written.append(real(*shard))
        return written[-1]

    monkeypatch.setattr(caches, "write_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        extract(settings_of(place), tmp_path / "cut", progress=False)
    monkeypatch.undo()
    kept = (tmp_path / "cut" / "shard-00000.safetensors").stat().st_mtime_ns
    done = extract(settings_of(place), tmp_path / "cut", progress=False, workers=1)
    assert (tmp_path / "cut" / "shard-00000.safetensors").stat().st_mtime_ns == kept
    assert done.encoded == 5
    for shard in whole.index["shards"]:
        assert (done.path / shard["file"]).read_bytes() == (whole.path / shard["file"]).read_bytes()


def test_a_film_that_is_damaged_inside_is_left_out_and_moves_no_other(place, tmp_path, monkeypatch):
    whole = extract(settings_of(place), tmp_path / "whole", progress=False)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "films").mkdir(exist_ok=True)
        (tmp_path / "films" / name).write_bytes((place / "films" / name).read_bytes())
    spoil(tmp_path / "films" / "a.mp4", 7)
    images = open_images(tmp_path / "films", 16, frames=5, check="header")  # as of more clips than are decoded first
    found = extract(settings_of(place), tmp_path / "cache", dataset=images, progress=False)
    assert (len(found), found.skipped_count) == (7, 1)
    assert found.skipped == (("a.mp4, clip 2 of 4", "frame 7 of 20 is damaged"),)
    rest = [0, 2, 3, 4, 5, 6, 7]
    torch.testing.assert_close(found.posterior(range(7))[0], whole.posterior(rest)[0], rtol=0, atol=0)


def test_lengths_and_models_that_do_not_fit_are_refused_first(place, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusab_core.latents.extraction.open_images", None)
    with pytest.raises(AutoencoderError, match=r"takes clips of 4k \+ 1 frames, got 6; cut to 5 or pad to 9"):
        extract(settings_of(place, frames=6), tmp_path / "cache", progress=False)
    with pytest.raises(AutoencoderError, match="encodes images, not clips of 5 frames"):
        extract(settings_of(place, model="kl-f4c16"), tmp_path / "cache", progress=False)
    assert not (tmp_path / "cache").exists()


def test_moving_leaves_fill_a_cache(place, tmp_path):
    chosen = {"images": "leaves", "samples": 4, "labels": True}
    cache = extract(settings_of(place, **chosen), tmp_path / "cache", progress=False)
    again = LatentCache(tmp_path / "cache")
    assert (len(again), again.shape, again.num_classes) == (4, (3, 2, 2, 2), cache.num_classes)
    assert again.posterior([2])[2].tolist() == [2]
