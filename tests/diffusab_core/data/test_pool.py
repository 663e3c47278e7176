"""Crops of stored images kept in memory."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from diffusab_core.data import ImagesError, Pool, open_images
from diffusab_core.data.pool import shrink
from diffusab_core.training.batches import Batches


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i, size in enumerate([(40, 60), (200, 90), (32, 32)]):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def make(folder, **more):
    return Pool(open_images(folder, 16, crop="random"), **{"length": 50, "side": 64, "progress": False} | more)


def test_items_are_functions_of_seed_and_index(folder):
    pool, again, other = make(folder), make(folder), make(folder, seed=1)
    assert len(pool) == 50
    for i in (0, 7, 49, -1):
        assert pool[i].shape == (3, 16, 16)
        assert torch.equal(pool[i], again[i])
        assert pool[i].abs().max() <= 1
    assert not torch.equal(pool[3], other[3])
    assert {pool.name(i) for i in range(50)} == {"0.png", "1.png", "2.png"}
    with pytest.raises(IndexError, match="50"):
        pool[50]


def test_files_are_read_once_and_shrunk(folder):
    pool = make(folder)
    assert sorted(min(p.shape[:2]) for p in pool._pixels) == [32, 40, 64]
    for file in folder.iterdir():
        file.unlink()
    assert torch.isfinite(torch.stack([pool[i] for i in range(50)])).all()
    grey = shrink(np.full((300, 100, 3), 77, np.uint8), 64)
    assert grey.shape == (192, 64, 3)
    assert (grey == 77).all()


def test_every_epoch_has_new_crops_and_a_resumed_run_the_same(folder):
    pool = make(folder, length=4)
    batches = Batches(pool, 4, seed=0, steps=5)
    first, second = batches(0), batches(1)
    assert not any(torch.equal(a, b) for a in first for b in second)
    assert torch.equal(Batches(copy.copy(pool), 4, seed=0, steps=5)(1), second)


def test_a_side_below_the_crops_is_refused(folder):
    with pytest.raises(ImagesError, match="side must be a whole number, at least 16, got 8"):
        make(folder, side=8)
