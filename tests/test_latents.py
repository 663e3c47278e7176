"""Latents from a dataset, from tensors and from a cache, and how a cache is written, resumed and checked."""

import json
import pickle
import shutil
import tracemalloc
import weakref
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from diffusab_core import autoencoders, latent_cache, latent_files, latents
from diffusab_core.data import Photos
from diffusab_core.latent_cache import Extraction, LatentCache, extract, open_cache
from diffusab_core.latent_files import CacheError
from diffusab_core.latents import EncodedLatents, LatentsError, TensorLatents, spread, weights_digest
from diffusab_core.leaves import Leaves, leaf_clip

SMALL = Extraction("kl-f4c16", "leaves", resolution=16, samples=22, flips=True, labels=True, shard_size=8, seed=3)


@pytest.fixture(scope="module")
def autoencoder():
    return autoencoders.load("kl-f4c16")


@pytest.fixture(scope="module")
def leaves():
    return Leaves(16, seed=3, length=22)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "leaves"
    extract(SMALL, folder, batch_size=4, progress=False)
    return folder


@pytest.fixture
def cache(finished, tmp_path):
    """A copy, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def folder_of_images(root: Path, sizes: dict[str, int]) -> Path:
    rng = np.random.default_rng(0)
    for name, side in sizes.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(root / name)
    return root


# ---------------------------------------------------------------------------------------------------------------------
# Statistics and normalisation


def test_statistics_are_those_of_the_samples_of_each_channel():
    g = torch.Generator().manual_seed(0)
    offset, width = torch.tensor([-40.0, 0.0, 900.0]), torch.tensor([0.5, 2.0, 30.0])
    mean = torch.randn(300, 3, 5, 7, generator=g) * width[:, None, None] + offset[:, None, None]
    found = TensorLatents(mean)
    torch.testing.assert_close(found.channel_mean, mean.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.channel_std, mean.std((0, 2, 3), correction=0), rtol=1e-4, atol=0)
    # Samples vary more than means, by the variance of the posterior: sigma^2 adds.
    sampled = TensorLatents(mean, torch.full_like(mean, 3.0))
    expected = (mean.double().var((0, 2, 3), correction=0) + 9).sqrt().float()
    torch.testing.assert_close(sampled.channel_std, expected, rtol=0.03, atol=0)
    assert sampled.channel_std[0] > 4 * found.channel_std[0]


def test_statistics_are_over_2048_items_spread_over_all():
    mean = torch.zeros(4096, 1, 1, 2)
    mean[::2] = torch.tensor([3.0, 5.0])  # every other one: exactly those that an even spread takes
    found = TensorLatents(mean)
    assert (found.channel_mean.item(), found.channel_std.item()) == (4.0, 1.0)
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(3, 2048) == [0, 1, 2]


def test_noise_of_an_item_does_not_depend_on_how_many_there_are():
    mean, std = torch.zeros(2100, 2, 1, 1), torch.ones(2100, 2, 1, 1)
    (some,) = latents._samples(TensorLatents(mean, std), [5, 2000])
    more = torch.cat(list(latents._samples(TensorLatents(mean, std), list(range(2100)))))
    assert torch.equal(some, more[[5, 2000]])
    assert abs(more.std().item() - 1) < 0.05


@pytest.mark.parametrize("shape", [(4, 3, 3), (4, 2, 3, 3)])
def test_normalising_is_undone_for_any_leading_axes(shape):
    z = torch.randn(50, *shape, generator=torch.Generator().manual_seed(0)) * 3 + 7
    found = TensorLatents(z)
    n = found.normalise(z)
    assert torch.allclose(n.transpose(0, 1).flatten(1).mean(1), torch.zeros(4), atol=1e-5)
    assert torch.allclose(n.transpose(0, 1).flatten(1).std(1, correction=0), torch.ones(4), atol=1e-5)
    for some in (z[0], z, z.unflatten(0, (5, 10))):
        torch.testing.assert_close(found.denormalise(found.normalise(some)), some)
    assert torch.equal(found.normalise(z.unflatten(0, (5, 10))).flatten(0, 1), n)
    with pytest.raises(ValueError, match="latents of 4 channels"):
        found.normalise(z[:, :3])


def test_a_constant_channel_is_refused():
    z = torch.randn(8, 3, 2, 2)
    z[:, 1] = 0.25
    with pytest.raises(LatentsError, match=r"channel 1 of the latents is 0\.25 everywhere in 8 samples"):
        _ = TensorLatents(z).channel_std


# ---------------------------------------------------------------------------------------------------------------------
# From tensors and from a dataset


def test_tensors_are_given_back():
    mean, std, y = torch.randn(6, 2, 3, 3), torch.rand(6, 2, 3, 3), torch.tensor([0, 2, 1, 0, 0, 2])
    found = TensorLatents(mean, std, y, flipped=(-mean, None))
    assert (len(found), found.shape, found.num_classes, found.class_names) == (6, (2, 3, 3), 3, ("0", "1", "2"))
    m, s, labels = found.posterior([5, 0, 1], [False, True, False])
    assert torch.equal(m, torch.stack([mean[5], -mean[0], mean[1]]))
    assert torch.equal(s, torch.stack([std[5], torch.zeros(2, 3, 3), std[1]]))
    assert torch.equal(labels, y[[5, 0, 1]])
    assert labels.dtype == torch.int64
    assert TensorLatents(mean).posterior([1])[2] is None
    assert TensorLatents(mean).identity == TensorLatents(mean.clone()).identity
    assert TensorLatents(mean).identity != TensorLatents(mean + 1e-6).identity


def test_what_cannot_be_given_is_refused():
    mean = torch.randn(6, 2, 3, 3)
    with pytest.raises(IndexError, match="item 6 is outside 6 latents"):
        TensorLatents(mean).posterior([0, 6])
    with pytest.raises(IndexError, match="item -1"):
        TensorLatents(mean).posterior([-1])
    with pytest.raises(LatentsError, match="stored without those of the mirrored images"):
        TensorLatents(mean).posterior([0], [True])
    with pytest.raises(LatentsError, match=r"class 3 of these latents is outside 0 \.\.\. 2"):
        TensorLatents(mean, labels=torch.tensor([0, 1, 2, 3, 0, 0]), class_names=["a", "b", "c"])
    with pytest.raises(LatentsError, match=r"shape of the mean \(6, 2, 3, 3\), got \(6, 2, 3, 4\)"):
        TensorLatents(mean, torch.zeros(6, 2, 3, 4))
    with pytest.raises(LatentsError, match="6 latents need 6 labels"):
        TensorLatents(mean, labels=torch.zeros(5, dtype=torch.long))
    with pytest.raises(LatentsError, match="the dataset is empty"):
        TensorLatents(mean[:0])


@torch.no_grad()
def test_encoding_on_the_fly_is_encoding(autoencoder, leaves):
    found = EncodedLatents(autoencoder, leaves, batch_size=2)
    assert found.shape == (16, 4, 4)
    assert found.class_names == leaves.class_names
    mean, std, y = found.posterior([7, 1, 13], [False, True, False])
    for k, (i, flip) in enumerate([(7, False), (1, True), (13, False)]):
        image, label = leaves[i]
        posterior = autoencoder.encode(image.flip(-1)[None] if flip else image[None])
        torch.testing.assert_close(mean[k], posterior.mean[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(std[k], posterior.std[0], rtol=1e-4, atol=1e-6)
        assert y[k] == label
    # The latent of the mirrored image is another thing than the mirrored latent.
    assert not torch.allclose(mean[1], found.posterior([1])[0][0].flip(-1), atol=0.05)


def test_statistics_of_a_dataset_do_not_depend_on_the_batch_size(autoencoder, leaves):
    one, other = (EncodedLatents(autoencoder, leaves, batch_size=size) for size in (1, 16))
    torch.testing.assert_close(one.channel_mean, other.channel_mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.channel_std, other.channel_std, rtol=1e-4, atol=1e-5)


def test_identity_says_what_differs(autoencoder, leaves):
    identity = EncodedLatents(autoencoder, leaves).identity
    json.dumps(identity)
    assert identity == EncodedLatents(autoencoders.load("kl-f4c16"), Leaves(16, seed=3, length=22)).identity
    for key, other in {
        "weights": EncodedLatents(autoencoders.load("kl-f4c16-se"), leaves),
        "seed": EncodedLatents(autoencoder, Leaves(16, seed=4, length=22)),
        "resolution": EncodedLatents(autoencoder, Leaves(32, seed=3, length=22)),
        "count": EncodedLatents(autoencoder, Leaves(16, seed=3, length=21)),
        "images": EncodedLatents(autoencoder, Photos(16, seed=3, length=22)),
        "precision": EncodedLatents(autoencoder, leaves, precision="bf16"),
    }.items():
        assert other.identity.get(key) != identity[key], key
    images = [leaf_clip(i, 1, 16)[:, 0] for i in range(3)]
    assert EncodedLatents(autoencoder, images).identity != EncodedLatents(autoencoder, images[::-1]).identity


def test_one_changed_weight_changes_the_digest(autoencoder):
    before = weights_digest(autoencoder)
    other = autoencoders.load("kl-f4c16")
    assert weights_digest(other) == before
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-6
    assert weights_digest(other) != before


def test_labels_without_names_and_odd_items_are_refused(autoencoder):
    image = torch.zeros(3, 16, 16)
    with pytest.raises(LatentsError, match="list has labels and no names"):
        EncodedLatents(autoencoder, [(image, 0)])
    named = EncodedLatents(autoencoder, [(image, 0), (image, 2)], class_names=["a", "b"])
    with pytest.raises(LatentsError, match=r"class 2 of these latents is outside 0 \.\.\. 1"):
        named.posterior([0, 1])
    with pytest.raises(LatentsError, match="items must be images"):
        EncodedLatents(autoencoder, [{"image": image}])
    with pytest.raises(ValueError, match="both sides must be positive multiples of 4, got 18 x 18"):
        EncodedLatents(autoencoder, [torch.zeros(3, 18, 18)])


class Broken(Photos):
    """Photographs, item 5 of which holds something that is no number."""

    def __getitem__(self, index):
        image = super().__getitem__(index)
        if index == 5:
            image[0, 0, 0] = float("nan")
        return image


def test_a_latent_that_is_not_finite_is_named(autoencoder, tmp_path):
    broken = Broken(16, length=9)
    message = rf"the latent of item 5 \({broken.source(5)}\) is not finite, because of the image itself"
    with pytest.raises(LatentsError, match=message):
        EncodedLatents(autoencoder, broken).posterior(range(9))
    with pytest.raises(LatentsError, match=message):
        extract(replace(SMALL, labels=False), tmp_path / "c", dataset=broken, progress=False)


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
    files = sorted(finished.glob("*.safetensors"))
    assert [len(load_file(file)["mean"]) for file in files] == [8, 8, 6]
    whole = {name: torch.cat([load_file(file)[name] for file in files]) for name in load_file(files[0])}
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
    encode = latents.encode

    def huge(*args):
        posterior = encode(*args)
        posterior.mean[-1, 0, 0, 0] = -70000.0
        return posterior

    monkeypatch.setattr(latents, "encode", huge)
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
    with pytest.raises(ValueError, match=r"(?s)no usable image in .*smaller than the resolution 32"):
        extract(replace(settings, resolution=32), tmp_path / "none", progress=False)
    assert not (tmp_path / "none").exists()


def test_worker_processes_change_nothing_and_their_errors_stay_readable(finished, tmp_path):
    extract(SMALL, tmp_path / "c", batch_size=4, workers=2, progress=False)
    for name, data in contents(finished).items():
        assert data == (tmp_path / "c" / name).read_bytes(), name
    folder = folder_of_images(tmp_path / "images", {f"{i}.png": 20 for i in range(4)})
    from diffusab_core.folders import ImageFolder

    images = ImageFolder(folder, 16, check="none")
    (folder / "2.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"2\.png: not an image that Pillow can read") as raised:
        extract(replace(SMALL, labels=False), tmp_path / "d", dataset=images, workers=1, progress=False)
    assert "\n" not in str(raised.value)


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
    flush, calls = latent_files._flush, 0

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
        monkeypatch.setattr(latent_files, "_flush", kill_at(number))
        with pytest.raises(Killed):
            extract(SMALL, folder, batch_size=4, progress=False)
        monkeypatch.setattr(latent_files, "_flush", flush)
        whole = len(latent_files.read_index(folder)["shards"]) if (folder / "latents.json").exists() else 0
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

    monkeypatch.setattr(latent_cache.shards, "Leaves", Fails)
    with pytest.raises(OSError, match="the disk went away"):
        extract(SMALL, tmp_path / "c", batch_size=4, progress=False)
    monkeypatch.undo()
    with pytest.raises(CacheError, match="is unfinished, 16 of 22 latents are there"):
        open_cache(tmp_path / "c")
    resumed = extract(SMALL, tmp_path / "c", batch_size=4, progress=False)
    assert resumed.encoded == 6
    assert contents(tmp_path / "c") == contents(finished)


def test_a_finished_cache_is_only_read(finished, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    monkeypatch.setattr(latents, "encode", None)
    monkeypatch.setattr(latent_cache.shards, "open_images", None)
    assert extract(SMALL, finished).encoded == 0
    assert {path: path.stat().st_mtime_ns for path in finished.iterdir()} == before


def test_a_deleted_shard_is_made_anew(cache, finished):
    (cache / "shard-00001.safetensors").unlink()
    with pytest.raises(CacheError, match=r"shard-00001.safetensors is missing; run the same extraction again"):
        open_cache(cache)
    assert extract(SMALL, cache, batch_size=4, progress=False).encoded == 8
    assert contents(cache) == contents(finished)


def test_two_processes_do_not_write_one_cache(tmp_path):
    with (
        latent_files.sole_writer(tmp_path / "c"),
        pytest.raises(CacheError, match="another process is extracting into"),
    ):
        extract(SMALL, tmp_path / "c", progress=False)


# ---------------------------------------------------------------------------------------------------------------------
# Damaged


def test_every_flipped_byte_of_a_shard_is_found_and_named(cache):
    path = cache / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    LatentCache(cache).verify()
    for place in (0, 20, len(data) // 2, len(data) - 1):  # the header's length, the header, values, the last byte
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(CacheError, match=r"shard-00001\.safetensors"):
            LatentCache(cache).verify()
        data[place] ^= 1
    path.write_bytes(data)
    LatentCache(cache).verify()


def test_all_damaged_shards_are_named(cache):
    for name in ("shard-00000.safetensors", "shard-00002.safetensors"):
        with (cache / name).open("r+b") as file:
            file.seek(-3, 2)
            file.write(b"\xff\x00\xff")
    opened = LatentCache(cache)  # sizes and headers are right
    with pytest.raises(CacheError, match=r"2 of 3 shards .*: shard-00000\.safetensors, shard-00002\.safetensors; dele"):
        opened.verify()


def test_a_truncated_shard_is_named_when_opened(cache):
    path = cache / "shard-00002.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-10])
    for attempt in (open_cache, lambda folder: extract(SMALL, folder)):
        with pytest.raises(CacheError, match=rf"shard-00002.safetensors is truncated: {size - 10} bytes instead of"):
            attempt(cache)


def test_a_shard_of_another_layout_is_refused_even_if_it_has_the_right_size(cache):
    path = cache / "shard-00000.safetensors"
    tensors = load_file(path)
    save_file({name: t.view(torch.bfloat16) if t.dtype == torch.float16 else t for name, t in tensors.items()}, path)
    path.write_bytes(path.read_bytes().ljust((cache / "shard-00001.safetensors").stat().st_size, b"\0"))
    index = latent_files.read_index(cache)
    index["shards"][0]["bytes"] = path.stat().st_size
    latent_files.write_index(cache, index)
    with pytest.raises(CacheError, match=r"shard-00000\.safetensors is damaged: its header says .*BF16.* instead of"):
        open_cache(cache)


def test_a_changed_index_is_found(cache):
    path = cache / "latents.json"
    text = path.read_text()
    path.write_text(text.replace('"resolution": 16', '"resolution": 32'))
    with pytest.raises(CacheError, match=r"latents\.json is damaged"):
        open_cache(cache)
    path.write_text(text[:100])
    with pytest.raises(CacheError, match=r"latents\.json cannot be read as the index"):
        open_cache(cache)


def test_what_is_no_cache_is_refused(tmp_path):
    with pytest.raises(CacheError, match=r"there is no latent cache .*nowhere; make one with diffusab extract"):
        open_cache(tmp_path / "nowhere")
    with pytest.raises(CacheError, match=r"is no latent cache: there is no latents\.json in it"):
        open_cache(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CacheError, match=r"holds other files, such as thesis\.tex, and no latent cache"):
        extract(SMALL, tmp_path)
    with pytest.raises(CacheError, match=r"cannot write into .*thesis\.tex/c: Not a directory"):
        extract(SMALL, tmp_path / "thesis.tex" / "c", progress=False)
    with pytest.raises(CacheError, match=r"cannot write into .*thesis\.tex: it is a file"):
        extract(SMALL, tmp_path / "thesis.tex")


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


def test_a_cache_of_another_autoencoder_is_refused_on_opening(finished, autoencoder):
    other = weights_digest(autoencoders.load("kl-f4c16-se"))
    mine = weights_digest(autoencoder)
    assert open_cache(finished, {"weights": mine, "resolution": 16}).identity["weights"] == mine
    with pytest.raises(CacheError, match=rf"\(weights '{mine}' -> '{other}'; resolution 16 -> 64\)"):
        open_cache(finished, {"weights": other, "resolution": 64})


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


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"resolution": 0}, "resolution must be at least 1, got 0"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"shard_size": 0}, "shard_size must be at least 1, got 0"),
        ({"crop": "middle"}, "crop is one of center, random, got 'middle'"),
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


def test_reading_a_few_rows_reads_a_few_rows(tmp_path):
    shape, index = (16, 32, 32), {"format": latent_files.FORMAT, "version": 1, "complete": True, "count": 1024}
    index |= {"shape": list(shape), "dtype": "float16", "flips": False, "class_names": [], "tensors": ["mean", "std"]}
    index |= {"shard_size": 512, "shards": [], "skipped": [], "skipped_count": 0, "identity": {}}
    index |= {"channel_mean": [0.0] * 16, "channel_std": [1.0] * 16}
    latent_files.write_index(tmp_path, index)
    rows = torch.arange(1024).half()[:, None, None, None].expand(-1, *shape)
    for k in range(2):
        part = rows[512 * k : 512 * (k + 1)].contiguous()
        index["shards"].append(latent_files.write_shard(tmp_path, k, {"mean": part, "std": part.clone()}))
    latent_files.write_index(tmp_path, index)
    tracemalloc.start()
    try:
        cache = open_cache(tmp_path)
        mean, std, _ = cache.posterior([1023, 0, 511, 512])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert mean[:, 3, 5, 7].tolist() == std[:, 0, 0, 0].tolist() == [1023, 0, 511, 512]
    assert cache.nbytes > 64e6
    assert peak < 2e6
    assert len(pickle.dumps(cache)) < 20_000
