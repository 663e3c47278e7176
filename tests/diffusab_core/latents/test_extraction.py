"""How a cache of latents is written: it equals encoding on the fly, is resumed, and is kept apart from other caches."""

import io
import os
import shutil
import tarfile
import warnings
import weakref
import zipfile
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sharing_worker
import torch
from PIL import Image
from safetensors.torch import load_file
from small_extraction import SMALL

from diffusab_core import autoencoders, files
from diffusab_core.data import Photos
from diffusab_core.data import open as opening
from diffusab_core.data.leaves import Leaves, leaf_clip
from diffusab_core.files import DiffusabWarning
from diffusab_core.latents import LatentsError, TensorLatents, encoded, extraction
from diffusab_core.latents import cache as caches
from diffusab_core.latents.cache import CacheError, LatentCache
from diffusab_core.latents.encoded import EncodedLatents
from diffusab_core.latents.extraction import extract, open_extracted
from diffusab_core.latents.identity import images_found, images_identity
from diffusab_core.methods.freqwarm import low_passed_cache


@pytest.fixture(scope="module")
def autoencoder():
    return autoencoders.load("kl-f4c16")


@pytest.fixture(scope="module")
def leaves():
    return Leaves(16, seed=3, length=22)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def folder_of_images(root: Path, sizes: dict[str, int]) -> Path:
    rng = np.random.default_rng(0)
    for name, side in sizes.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(root / name)
    return root


# ---------------------------------------------------------------------------------------------------------------------
# A cache is what encoding gives


def test_a_cache_equals_encoding_on_the_fly(finished, autoencoder, leaves, tmp_path):
    direct = EncodedLatents(autoencoder, leaves, batch_size=4)
    exact = extract(replace(SMALL, dtype="float32"), tmp_path / "float32", batch_size=4, progress=False)
    half = LatentCache(finished)
    indices = [17, 3, 8, 21, 0, 7, 16, 3]  # all shards, unordered, one of them twice
    for flipped in (None, [True] * 8, [True, False] * 4):
        expected = direct.posterior(indices, flipped)
        found, rounded = exact.posterior(indices, flipped), half.posterior(indices, flipped)
        for e, f, r in zip(expected[:2], found[:2], rounded[:2], strict=True):
            torch.testing.assert_close(f, e, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(r, e, rtol=2**-10, atol=1e-5)
            assert f.dtype == r.dtype == torch.float32
        assert torch.equal(found[2], expected[2])
    assert (exact.shape, exact.class_names, len(exact)) == (direct.shape, direct.class_names, len(direct))
    torch.testing.assert_close(exact.channel_mean, direct.channel_mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(half.channel_std, direct.channel_std, rtol=1e-3, atol=0)


def test_shards_are_plain_safetensors_in_the_order_of_the_items(finished):
    shards = sorted(finished.glob("*.safetensors"))
    assert [len(load_file(file)["mean"]) for file in shards] == [8, 8, 6]
    whole = {name: torch.cat([load_file(file)[name] for file in shards]) for name in load_file(shards[0])}
    assert whole.keys() == {"mean", "std", "mean_flipped", "std_flipped", "labels"}
    assert whole["mean"].dtype == torch.float16
    mean, std, y = LatentCache(finished).posterior(range(22), [True] * 22)
    assert torch.equal(mean, whole["mean_flipped"].float())
    assert torch.equal(std, whole["std_flipped"].float())
    assert torch.equal(y, torch.arange(22) % 12)


def test_statistics_in_the_index_are_those_of_the_shards(finished):
    cache = LatentCache(finished)
    mean, std, _ = cache.posterior(range(22))
    again = TensorLatents(mean, std)
    assert torch.equal(cache.channel_mean, again.channel_mean)
    assert torch.equal(cache.channel_std, again.channel_std)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_other_types(autoencoder, leaves, dtype, tmp_path):
    settings = replace(SMALL, samples=6, dtype=dtype, flips=False, labels=False, shard_size=4)
    cache = extract(settings, tmp_path / "c", batch_size=4, progress=False)
    mean, _, y = cache.posterior(range(6))
    expected = EncodedLatents(autoencoder, leaves, batch_size=4).posterior(range(6))[0]
    torch.testing.assert_close(mean, expected, rtol=2**-8 if dtype == "bfloat16" else 1e-5, atol=1e-5)
    assert (y, cache.num_classes, cache.flips) == (None, 0, False)
    with pytest.raises(LatentsError, match="without those of the mirrored"):
        cache.posterior([0], [True])


def test_a_value_beyond_half_precision_is_refused_with_its_image(tmp_path, monkeypatch):
    encode = encoded.encode

    def huge(*args):
        posterior = encode(*args)
        posterior.mean[-1, 0, 0, 0] = -70000.0
        return posterior

    monkeypatch.setattr(encoded, "encode", huge)
    settings = replace(SMALL, images="photos", labels=False)
    name = Photos(16, seed=3, length=22).source(3)
    with pytest.raises(LatentsError, match=rf"the mean of the latent of item 3 \({name}\) reaches 70000, beyond 65504"):
        extract(settings, tmp_path / "c", batch_size=4, progress=False)
    wide = extract(replace(settings, dtype="float32"), tmp_path / "wide", batch_size=4, progress=False)
    assert wide.posterior([3])[0].min() == -70000


def test_classes_are_those_of_the_folders(tmp_path):
    names = [f"{kind}/{i}.png" for kind in ("ant", "bee", "cat") for i in range(3)]
    folder = folder_of_images(tmp_path / "images", dict.fromkeys(names, 20) | {"bee/small.png": 10})
    settings = replace(SMALL, images=str(folder), samples=None, shard_size=4)
    cache = extract(settings, tmp_path / "c", progress=False)
    assert cache.class_names == ("ant", "bee", "cat")
    assert cache.posterior(range(9))[2].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert cache.skipped == (("bee/small.png", "10 x 10 pixels, smaller than the resolution 16"),)
    assert cache.identity["images_found"].startswith("9 (")
    some = extract(replace(settings, samples=3), tmp_path / "some", progress=False)
    assert len(some) == 3
    assert some.posterior(range(3))[2].unique().numel() > 1  # not the first three, which are of one class
    with pytest.raises(ValueError, match=r"(?s)no usable image in .*resolution 32.*; a resolution of 10 takes them$"):
        extract(replace(settings, resolution=32), tmp_path / "none", progress=False)
    assert not (tmp_path / "none").exists()


def test_worker_processes_change_nothing_and_their_errors_stay_readable(finished, tmp_path):
    extract(SMALL, tmp_path / "c", batch_size=4, workers=2, progress=False)
    for name, data in contents(finished).items():
        assert data == (tmp_path / "c" / name).read_bytes(), name
    images = [torch.zeros(3, 16, 16), torch.zeros(3, 16, 20)]
    with pytest.raises(ValueError, match=r"item 1 has shape \(3, 16, 20\), the first one") as raised:
        extract(replace(SMALL, labels=False), tmp_path / "d", dataset=images, workers=1, progress=False)
    assert "\n" not in str(raised.value)


def tar_of(folder: Path, path: Path, broken: tuple[str, ...] = ()) -> Path:
    """A shard of the images in class folders, some of them cut off after their header."""
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.rglob("*.png")):
            data = file.read_bytes()
            data = data[: len(data) // 2] if file.stem in broken else data
            for name, content in ((f"{file.stem}.png", data), (f"{file.stem}.cls", b"%d" % (file.parent.name == "b"))):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_left_out_and_every_other_keeps_its_row(tmp_path, workers):
    folder = folder_of_images(tmp_path / "images", {f"{'ab'[i > 3]}/{i}.png": 24 for i in range(10)})
    settings = replace(SMALL, images=str(tar_of(folder, tmp_path / "x.tar")), samples=None, crop="random", shard_size=4)
    whole = extract(settings, tmp_path / "whole", batch_size=1, progress=False)
    tar_of(folder, tmp_path / "x.tar", broken=("0", "5", "6"))
    cache = extract(settings, tmp_path / "c", batch_size=1, workers=workers, progress=False)
    kept = [1, 2, 3, 4, 7, 8, 9]
    assert (len(cache), cache.encoded, cache.skipped_count) == (7, 7, 3)
    assert [name for name, _ in cache.skipped] == ["x.tar: 0.png", "x.tar: 5.png", "x.tar: 6.png"]
    assert all(reason.startswith("cannot be decoded") for _, reason in cache.skipped)
    for flipped in (None, [True] * 7):
        for found, expected in zip(cache.posterior(range(7), flipped), whole.posterior(kept, flipped), strict=True):
            assert torch.equal(found, expected)
    assert torch.equal(cache.channel_mean, TensorLatents(*cache.posterior(range(7))[:2]).channel_mean)
    # In larger batches, resumed, and asked for again it is the same.
    (tmp_path / "c" / "shard-00001.safetensors").unlink()
    again = extract(settings, tmp_path / "c", batch_size=3, progress=False)
    assert (len(again), again.encoded, again.skipped_count) == (7, 2, 3)
    torch.testing.assert_close(again.posterior(range(7))[0], cache.posterior(range(7))[0], rtol=1e-2, atol=1e-3)
    assert again.identity["left_out"] == [0, 5, 6]
    assert LatentCache(tmp_path / "c").identity == extract(settings, tmp_path / "c").identity


def test_the_same_images_are_read_without_a_cache(tmp_path):
    folder = folder_of_images(tmp_path / "images", {f"a/{i}.png": 24 for i in range(6)})
    images = opening.open_images(str(tar_of(folder, tmp_path / "x.tar", broken=("0", "4"))), 16, labels=True)
    found = list(extraction.read_usable(images, 2))
    assert [len(batch) for batch in found] == [1, 2, 1]
    assert torch.equal(torch.cat(found), torch.stack([images[i][0] for i in (1, 2, 3, 5)]))


def test_two_processes_share_the_shards_of_one_cache(tmp_path):
    folder = folder_of_images(tmp_path / "images", {f"a/{i}.png": 24 for i in range(9)})
    tar = tar_of(folder, tmp_path / "x.tar", broken=("2", "5"))
    settings = replace(SMALL, images=str(tar), samples=None, shard_size=2, flips=False)
    alone = extract(settings, tmp_path / "alone", batch_size=2, progress=False)
    (tmp_path / "meet").mkdir()
    main, other = sharing_worker.run(sharing_worker.extract, tmp_path / "meet", settings, tmp_path / "two")
    assert (main.pop("looked"), other.pop("looked")) == (1, 0)
    assert main == other
    assert (main["count"], main["encoded"], main["identity"]) == (7, 7, alone.identity)
    assert [name for name, _ in main["skipped"]] == ["x.tar: 2.png", "x.tar: 5.png"]
    assert contents(tmp_path / "two") == contents(tmp_path / "alone")


def test_no_usable_image_at_all_is_said(tmp_path):
    folder = folder_of_images(tmp_path / "images", {f"a/{i}.png": 24 for i in range(2)})
    tar = tar_of(folder, tmp_path / "x.tar", broken=("0", "1"))
    with pytest.raises(LatentsError, match=r"none of 2 images can be used; the first is .*x\.tar: 0\.png"):
        extract(replace(SMALL, images=str(tar), samples=None), tmp_path / "c", progress=False)


def test_a_constant_channel_is_said_early_and_what_was_encoded_is_kept(tmp_path, monkeypatch):
    encode = encoded.encode

    def dead(*args):
        posterior = encode(*args)
        posterior.mean[:, 3], posterior.std[:, 3] = 0.5, 0
        return posterior

    monkeypatch.setattr(encoded, "encode", dead)
    steps, write = [], caches.write_shard
    monkeypatch.setattr(caches, "write_shard", lambda *args: steps.append(args[1]) or write(*args))
    with warnings.catch_warnings():
        warnings.simplefilter("always", DiffusabWarning)
        warnings.showwarning = lambda message, category, *_: steps.append((category, str(message)))
        cache = extract(replace(SMALL, flips=False), tmp_path / "c", batch_size=4, progress=False)
    (category, said), *shards = steps
    assert (category, shards, len(cache)) == (DiffusabWarning, [0, 1, 2], 22)
    assert said.startswith("channel 3 of the latents is 0.5 everywhere in 8 samples: ")
    assert cache.constants == ("channel 3 of the latents is 0.5 everywhere in 22 samples",)
    assert cache.posterior([0])[0][0, 3].unique().tolist() == [0.5]
    with pytest.raises(LatentsError, match=r"channel 3 of the latents is 0\.5 .*cannot be normalised"):
        cache.normalise(cache.posterior([0])[0])


def test_pieces_that_are_no_squares(tmp_path):
    folder = folder_of_images(tmp_path / "images", {f"{i}.png": 40 for i in range(3)})
    settings = replace(SMALL, images=str(folder), samples=None, labels=False, resolution="16x32")
    cache = extract(settings, tmp_path / "c", progress=False)
    assert (len(cache), cache.shape, cache.identity["resolution"]) == (3, (16, 4, 8), [16, 32])
    assert extract(settings, tmp_path / "c", progress=False).encoded == 0
    assert images_identity(open_extracted(settings, progress=False))["resolution"] == [16, 32]
    assert low_passed_cache(cache, 0.2).shape == cache.shape
    with pytest.raises(CacheError, match=r"\(resolution \[16, 32\] -> 16\)"):
        extract(replace(settings, resolution=16), tmp_path / "c", progress=False)


def test_deterministic_autoencoders_store_no_std(tmp_path):
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    diffusers.VQModel(**blocks, block_out_channels=(8, 8), latent_channels=4, num_vq_embeddings=8,
                      norm_num_groups=4).save_pretrained(tmp_path / "vq")  # fmt: skip
    cache = extract(replace(SMALL, model=str(tmp_path / "vq")), tmp_path / "c", progress=False)
    assert cache.index["tensors"] == ["mean", "mean_flipped", "labels"]
    mean, std, _ = cache.posterior([0, 9], [False, True])
    assert cache.shape == (4, 8, 8)
    assert not std.any()
    expected = TensorLatents(cache.posterior(range(22))[0])
    assert torch.equal(cache.channel_std, expected.channel_std)
    torch.testing.assert_close(mean[1], cache.posterior([9], [True])[0][0])


def test_clips_have_a_time_axis(tmp_path):
    torch.manual_seed(0)
    diffusers.AutoencoderKLLTXVideo(
        latent_channels=6, block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5,
    ).save_pretrained(tmp_path / "ltx")  # fmt: skip
    clips = [leaf_clip(i, frames=9, resolution=32) for i in range(3)]
    settings = replace(SMALL, model=str(tmp_path / "ltx"), images="moving leaves", resolution=32, labels=False,
                       dtype="float32", shard_size=2)  # fmt: skip
    cache = extract(settings, tmp_path / "c", dataset=clips, batch_size=1, progress=False)
    assert cache.shape == (6, 2, 1, 1)
    model = autoencoders.load(tmp_path / "ltx")
    direct = EncodedLatents(model, clips, batch_size=1)
    flips = [True, False, True]
    for found, expected in zip(
        cache.posterior([2, 0, 1], flips)[:2], direct.posterior([2, 0, 1], flips)[:2], strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    z = cache.posterior([0])[0]
    torch.testing.assert_close(cache.denormalise(cache.normalise(z)), z)


# ---------------------------------------------------------------------------------------------------------------------
# Killed and resumed


class Killed(BaseException):
    """Nothing catches it, as nothing catches a SIGKILL."""


def test_killed_at_any_moment_of_writing_it_ends_with_the_same_bytes(finished, tmp_path, monkeypatch):
    flush, calls = files.flush, 0

    def kill_at(number):
        def counting(path):
            nonlocal calls
            calls += 1
            if calls == number:
                raise Killed
            flush(path)

        return counting

    # Two flushes an index or a shard: 3 shards, an index before, after each and at the end make 16.
    for number in range(1, 17):
        folder, calls = tmp_path / str(number), 0
        monkeypatch.setattr(files, "flush", kill_at(number))
        with pytest.raises(Killed):
            extract(SMALL, folder, batch_size=4, progress=False)
        monkeypatch.setattr(files, "flush", flush)
        whole = len(caches.read_index(folder)["shards"]) if (folder / "latents.json").exists() else 0
        if number <= 14:
            with pytest.raises(CacheError, match=r"unfinished|no latent cache"):
                LatentCache(folder)
        done = extract(SMALL, folder, batch_size=4, progress=False)
        assert done.encoded == 22 - 8 * whole + (2 if whole == 3 else 0), number
        assert contents(folder) == contents(finished), number
    assert done.encoded == 0


def test_an_image_that_fails_half_way_costs_one_shard(finished, tmp_path, monkeypatch):
    class Fails(Leaves):
        def __getitem__(self, index):
            if index == 18:
                raise OSError("the disk went away")
            return super().__getitem__(index)

    monkeypatch.setattr(opening, "Leaves", Fails)
    with pytest.raises(OSError, match="the disk went away"):
        extract(SMALL, tmp_path / "c", batch_size=4, progress=False)
    monkeypatch.undo()
    with pytest.raises(CacheError, match="is unfinished, 16 of 22 latents are there"):
        LatentCache(tmp_path / "c")
    resumed = extract(SMALL, tmp_path / "c", batch_size=4, progress=False)
    assert resumed.encoded == 6
    assert contents(tmp_path / "c") == contents(finished)


def test_a_finished_cache_is_only_read(finished, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    monkeypatch.setattr(encoded, "encode", None)
    monkeypatch.setattr(extraction, "open_images", None)
    assert extract(SMALL, finished).encoded == 0
    assert {path: path.stat().st_mtime_ns for path in finished.iterdir()} == before


def test_a_deleted_shard_is_made_anew(cache, finished):
    (cache / "shard-00001.safetensors").unlink()
    with pytest.raises(CacheError, match=r"shard-00001.safetensors is missing; run the same extraction again"):
        LatentCache(cache)
    assert extract(SMALL, cache, batch_size=4, progress=False).encoded == 8
    assert contents(cache) == contents(finished)


def test_two_processes_do_not_write_one_cache(tmp_path):
    with (
        caches.sole_writer(tmp_path / "c"),
        pytest.raises(CacheError, match="another process is extracting into"),
    ):
        extract(SMALL, tmp_path / "c", progress=False)


def test_where_folders_cannot_be_opened(finished, tmp_path, monkeypatch):
    """As on Windows, which has no locks of folders either."""
    opened = os.open

    def windows(path, flags, *more, **named):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", windows)
    extract(SMALL, tmp_path / "c", batch_size=4, progress=False)
    monkeypatch.undo()
    assert contents(tmp_path / "c") == contents(finished)


# ---------------------------------------------------------------------------------------------------------------------
# Of something else


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"resolution": 32}, r"\(resolution 16 -> 32\)"),
        ({"seed": 4, "samples": 23}, r"\(samples 22 -> 23; seed 3 -> 4\)"),
        ({"flips": False}, r"\(flips True -> False\)"),
        ({"dtype": "float32"}, r"\(dtype 'float16' -> 'float32'\)"),
        ({"precision": "bf16"}, r"\(precision 'fp32' -> 'bf16'\)"),
        ({"shard_size": 4}, r"\(shard_size 8 -> 4\)"),
        ({"images": "photos", "labels": False}, r"\(images 'leaves' -> 'photos'; labels True -> False\)"),
        ({"model": "kl-f4c16-se"}, r"\(autoencoder 'kl-f4c16' -> 'kl-f4c16-se'; weights '\w{16}' -> '\w{16}'\)"),
    ],
)
def test_other_settings_are_refused_with_both_values(finished, changed, named):
    with pytest.raises(CacheError, match=named):
        extract(replace(SMALL, **changed), finished, progress=False)


def test_whole_images_are_refused_where_low_passed_ones_lie(tmp_path):
    settings = replace(SMALL, samples=2, low_pass=0.2)
    extract(settings, tmp_path / "c", progress=False)
    with pytest.raises(CacheError, match=r"\(low_pass 0\.2 -> None\)"):
        extract(replace(settings, low_pass=None), tmp_path / "c", progress=False)


def test_the_same_weights_under_another_name_are_the_same_autoencoder(finished, tmp_path):
    shutil.copytree(autoencoders.WEIGHTS / "kl-f4c16", tmp_path / "mine")
    assert extract(replace(SMALL, model=str(tmp_path / "mine")), finished, progress=False).encoded == 0


def test_images_that_changed_meanwhile_are_refused(tmp_path):
    folder = folder_of_images(tmp_path / "images", {f"{i}.png": 20 for i in range(6)})
    settings = replace(SMALL, images=str(folder), samples=None, labels=False, shard_size=2)
    cache = extract(settings, tmp_path / "c", progress=False)
    (cache.path / "shard-00001.safetensors").unlink()
    folder_of_images(folder, {"9.png": 20})
    with pytest.raises(CacheError, match=r"images_found '6 \(\w{8}\)' -> '7 \(\w{8}\)'; count 6 -> 7"):
        extract(settings, tmp_path / "c", progress=False)
    (folder / "9.png").unlink()
    assert extract(settings, tmp_path / "c", progress=False).encoded == 2


@pytest.mark.parametrize("kind", ["folder", "tar", "zip", "parquet"])
def test_a_picture_replaced_by_another_of_its_size_is_noticed(tmp_path, kind):
    rng = np.random.default_rng(0)

    def write():
        """Bitmaps, all of which are of one size, in every form."""
        contents = {}
        for i in range(3):
            out = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(out, "bmp")
            contents[f"{i}.bmp"] = out.getvalue()
        if kind == "folder":
            (tmp_path / "folder").mkdir(exist_ok=True)
            for name, content in contents.items():
                (tmp_path / "folder" / name).write_bytes(content)
        elif kind == "zip":
            with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
                for name, content in contents.items():
                    archive.writestr(name, content)
        elif kind == "tar":
            with tarfile.open(tmp_path / "x.tar", "w") as tar:
                for name, content in contents.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        else:
            pq.write_table(pa.table({"image": list(contents.values())}), tmp_path / "x.parquet")
        where = tmp_path / ("folder" if kind == "folder" else f"x.{kind}")
        return images_found(opening.open_images(str(where), 16))

    before = write()
    assert before.startswith("3 (")
    assert write() != before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"resolution": 0}, "resolution must be a whole number of pixels, at least 1, .* got 0"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"shard_size": 0}, "shard_size must be at least 1, got 0"),
        ({"crop": "middle"}, "crop is one of center, random, adm, got 'middle'"),
        ({"dtype": "int8"}, "dtype is one of float16, bfloat16, float32, got 'int8'"),
        ({"precision": "fp8"}, "precision is one of fp32, bf16, got 'fp8'"),
        ({"samples": None}, "leaves are endless: say with samples how many"),
        ({"resolution": 18}, "positive multiples of 4, got 18 x 18"),
        ({"images": "photos"}, "the photographs have no labels"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        extract(replace(SMALL, **changed), tmp_path / "c", progress=False)
    assert not (tmp_path / "c").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Memory


def test_extraction_holds_a_few_batches_and_not_the_dataset(tmp_path):
    alive, most = 0, 0

    class Counted(Photos):
        def __getitem__(self, index):
            nonlocal alive, most

            def gone():
                nonlocal alive
                alive -= 1

            image = super().__getitem__(index)
            weakref.finalize(image, gone)
            alive += 1
            most = max(most, alive)
            return image

    settings = replace(SMALL, images="photos", labels=False, flips=False, samples=60)
    extract(settings, tmp_path / "c", dataset=Counted(16, length=60), batch_size=4, progress=False)
    assert 4 <= most <= 12
