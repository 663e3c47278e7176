"""How a cache of latents is read: damage is found and named, and only rows are loaded."""

import pickle
import resource
import tracemalloc
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_extraction import SMALL

from diffusab_core.latents import cache as caches
from diffusab_core.latents.cache import CacheError, LatentCache
from diffusab_core.latents.extraction import extract

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
    path.write_bytes(path.read_bytes()[:-10])
    for attempt in (LatentCache, lambda folder: extract(SMALL, folder)):
        with pytest.raises(CacheError, match=r"shard-00002.safetensors is damaged .*not fully covered"):
            attempt(cache)


def test_a_shard_of_another_layout_is_refused_even_if_it_has_the_right_size(cache):
    path = cache / "shard-00000.safetensors"
    tensors = load_file(path)
    save_file({name: t.view(torch.bfloat16) if t.dtype == torch.float16 else t for name, t in tensors.items()}, path)
    path.write_bytes(path.read_bytes().ljust((cache / "shard-00001.safetensors").stat().st_size, b"\0"))
    index = caches.read_index(cache)
    index["shards"][0]["bytes"] = path.stat().st_size
    caches.write_index(cache, index)
    with pytest.raises(CacheError, match=r"shard-00000\.safetensors is damaged: its header says .*BF16.* instead of"):
        LatentCache(cache)


def test_a_changed_index_is_found(cache):
    path = cache / "latents.json"
    text = path.read_text()
    path.write_text(text.replace('"resolution": 16', '"resolution": 32'))
    with pytest.raises(CacheError, match=r"latents\.json is damaged"):
        LatentCache(cache)
    path.write_text(text[:100])
    with pytest.raises(CacheError, match=r"latents\.json cannot be read as the index"):
        LatentCache(cache)


def test_what_is_no_cache_is_refused(tmp_path):
    with pytest.raises(CacheError, match=r"nowhere is no latent cache.*; make one with diffusab extract"):
        LatentCache(tmp_path / "nowhere")
    with pytest.raises(CacheError, match=r"is no latent cache, for there is no .*latents\.json"):
        LatentCache(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CacheError, match=r"holds other files, such as thesis\.tex, and no latent cache"):
        extract(SMALL, tmp_path)
    with pytest.raises(CacheError, match=r"cannot write into .*thesis\.tex/c: Not a directory"):
        extract(SMALL, tmp_path / "thesis.tex" / "c", progress=False)
    with pytest.raises(CacheError, match=r"cannot write into .*thesis\.tex: it is a file"):
        extract(SMALL, tmp_path / "thesis.tex")


# ---------------------------------------------------------------------------------------------------------------------
# Memory


def test_more_shards_than_files_may_be_open(tmp_path):
    """ImageNet has 1252 shards, and a batch touches most of them."""
    settings = replace(SMALL, samples=150, shard_size=1, labels=False, flips=False)
    opened = extract(settings, tmp_path / "c", progress=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (tmp_path / "c" / "latents.json").open() as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 50, hard))
    try:
        mean, _, _ = opened.posterior(range(150))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    shards = sorted((tmp_path / "c").glob("*.safetensors"))
    assert torch.equal(mean, torch.cat([load_file(shard)["mean"] for shard in shards]).float())


def test_reading_a_few_rows_reads_a_few_rows(tmp_path):
    shape, index = (16, 32, 32), {"format": caches.FORMAT, "version": 1, "complete": True, "count": 1024}
    index |= {"shape": list(shape), "dtype": "float16", "flips": False, "class_names": [], "tensors": ["mean", "std"]}
    index |= {"shard_size": 512, "shards": [], "skipped": [], "skipped_count": 0, "identity": {}}
    index |= {"channel_mean": [0.0] * 16, "channel_std": [1.0] * 16}
    caches.write_index(tmp_path, index)
    rows = torch.arange(1024).half()[:, None, None, None].expand(-1, *shape)
    for k in range(2):
        part = rows[512 * k : 512 * (k + 1)].contiguous()
        index["shards"].append(caches.write_shard(tmp_path, k, {"mean": part, "std": part.clone()}))
    caches.write_index(tmp_path, index)
    tracemalloc.start()
    try:
        cache = LatentCache(tmp_path)
        mean, std, _ = cache.posterior([1023, 0, 511, 512])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert mean[:, 3, 5, 7].tolist() == std[:, 0, 0, 0].tolist() == [1023, 0, 511, 512]
    assert cache.nbytes > 64e6
    assert peak < 2e6
    assert len(pickle.dumps(cache)) < 20_000
