"""What the tests of work that processes share run in each of two processes."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image

from diffusab_core.data import open_images, stores
from diffusab_core.latents import encoded, extraction
from diffusab_core.latents.cache import LatentCache
from diffusab_core.latents.extraction import Extraction
from diffusab_core.methods.freqwarm import low_passed_cache
from diffusab_core.training.world import World


def run(task: Callable[..., Any], folder: Path, *arguments: Any, timeout_s: float = 60) -> list[Any]:
    """What a task returned in each of two processes whose collectives wait for ``timeout_s`` at most."""
    torch.multiprocessing.spawn(_start, (task, folder, arguments, timeout_s), nprocs=2)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def _start(rank: int, task: Callable[..., Any], folder: Path, arguments: tuple[Any, ...], timeout_s: float) -> None:
    torch.set_num_threads(1)
    where = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", where, timedelta(seconds=timeout_s), world_size=2, rank=rank)
    (folder / f"rank{rank}.json").write_text(json.dumps(task(World(rank, 2), *arguments)))
    dist.destroy_process_group()


def open_folder(world: World, folder: Path) -> dict[str, Any]:
    """How often a process looks into files, and what it is left with."""
    opened, real = [], Image.open

    def counting(file: Any) -> Image.Image:
        opened.append(str(file))
        return real(file)

    Image.open = counting
    images = open_images(folder, 32, labels=True, world=world)
    looked = len(opened)
    return {
        "looked": looked,
        "skipped": [(skip.name, skip.reason) for skip in images.skipped],
        "targets": images.targets,
        "sum": sum(image.double().sum().item() for image, _ in images),
    }


def low_pass(world: World, folder: Path, radius: float, seconds: float) -> int:
    """How many batches a process encodes of a second cache, each of which takes some seconds."""
    encode, calls = encoded.encode, 0

    def slow(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        time.sleep(seconds)
        return encode(*arguments)

    encoded.encode = slow
    cache = low_passed_cache(LatentCache(folder), radius, world=world)
    assert cache.encoded == len(cache)
    return calls


def train_reshaped(world: World, file: str, folder: str) -> dict[str, Any]:
    """What ``reshaped_run`` of a file of tests returns."""
    spec = importlib.util.spec_from_file_location("tests_of_reshaping", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reshaped_run(world, Path(folder))


def extract(world: World, settings: Extraction, out: Path) -> dict[str, Any]:
    """What one of the processes that extract into one cache sees."""
    looked = 0
    find = stores.StoredImages.digest

    def counting(images: stores.StoredImages) -> str:
        nonlocal looked
        looked += 1
        return find(images)

    stores.StoredImages.digest = counting
    cache = extraction.extract(settings, out, batch_size=2, progress=False, world=world)
    found = {"looked": looked, "count": len(cache), "skipped": list(map(list, cache.skipped))}
    return found | {"identity": cache.identity, "encoded": cache.encoded}
