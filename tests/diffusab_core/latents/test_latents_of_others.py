"""Latents that other programs have cached: every layout gives the posteriors that were put in, and its labels."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffusab_core.latents import LatentsError, TensorLatents, open_latents, open_stored
from diffusab_core.latents.cache import LatentCache

N = 6


@pytest.fixture(scope="module")
def posterior():
    g = torch.Generator().manual_seed(0)
    mean, flipped = torch.randn(2, N, 4, 8, 6, generator=g)
    std, std_flipped = torch.rand(2, N, 4, 8, 6, generator=g) + 0.1
    return mean, std, flipped, std_flipped


CLASSES = ["n01", "n01", "n02", "n02", "n03", "n03"]
NUMBERS = [0, 0, 1, 1, 2, 2]


def mar(folder, mean, std, flipped, std_flipped):
    """main_cache.py of MAR: a file for each image, in the folder of its class."""
    for i, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        both = [torch.cat([m[i], 2 * s[i].log()]).numpy() for m, s in ((mean, std), (flipped, std_flipped))]
        np.savez(folder / name / f"{i}.JPEG.npz", moments=both[0], moments_flip=both[1])
    return folder


def edm2(folder, mean, std, *_):
    """dataset_tool.py encode of EDM2, which REPA has, too: mean above std, labels in dataset.json."""
    (folder / "00000").mkdir(parents=True)
    labels = []
    for i, number in enumerate(NUMBERS):
        name = f"00000/img-mean-std-{i:08d}.npy"
        np.save(folder / name, torch.cat([mean[i], std[i]]).numpy())
        labels.append([name, number])
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def edm2_zip(folder, *posterior):
    edm2(folder, *posterior)
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder).as_posix())
    return folder.with_suffix(".zip")


def lightning(folder, mean, std, flipped, _):
    """extract_features.py of LightningDiT: shards of samples, here of the means."""
    folder.mkdir()
    for k in range(2):
        some = slice(4 * k, 4 * k + 4)
        tensors = {"latents": mean[some].clone(), "latents_flip": flipped[some].clone(),
                   "labels": torch.tensor(NUMBERS[some])}  # fmt: skip
        save_file(tensors, folder / f"latents_rank00_shard{k:03d}.safetensors")
    return folder


def arrays(folder, mean, std, flipped, std_flipped):
    folder.mkdir()
    parts = {"mean": mean, "std": std, "mean_flipped": flipped, "std_flipped": std_flipped}
    for name, value in parts.items():
        np.save(folder / f"{name}.npy", value.numpy())
    np.save(folder / "labels.npy", np.array(NUMBERS))
    return folder


def one_npz(folder, mean, std, *_):
    np.savez(folder.with_suffix(".npz"), mean=mean.numpy(), std=std.numpy(), labels=np.array(NUMBERS))
    return folder.with_suffix(".npz")


def one_npy(folder, mean, *_):
    np.save(folder.with_suffix(".npy"), mean.numpy())
    return folder.with_suffix(".npy")


def fast_dit(folder, mean, *_):
    folder.mkdir()
    for i in range(N):
        np.save(folder / f"{i}.npy", mean[i : i + 1].numpy())
    return folder


LAYOUTS = {
    mar: ("n01", "n02", "n03"), edm2: ("0", "1", "2"), edm2_zip: ("0", "1", "2"), lightning: ("0", "1", "2"),
    arrays: ("0", "1", "2"), one_npz: ("0", "1", "2"), one_npy: (), fast_dit: (),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_what_others_have_cached_is_what_they_encoded(tmp_path, posterior, layout):
    where = layout(tmp_path / "x", *posterior)
    mean, std, flipped, std_flipped = posterior
    latents = open_stored(where)
    certain = layout in (lightning, one_npy, fast_dit)
    assert (len(latents), latents.shape, latents.class_names) == (N, (4, 8, 6), LAYOUTS[layout])
    assert latents.flips == (layout in (mar, lightning, arrays))
    indices = [4, 0, 3, 5]
    for of in (latents, pickle.loads(pickle.dumps(latents))):
        found = of.posterior(indices)
        torch.testing.assert_close(found[0], mean[indices], rtol=0, atol=0)
        torch.testing.assert_close(found[1], torch.zeros_like(found[0]) if certain else std[indices])
        assert found[2] is None if not LAYOUTS[layout] else found[2].tolist() == [2, 0, 1, 2]
    if latents.flips:
        found = latents.posterior(indices, [True] * 4)
        assert torch.equal(found[0], flipped[indices])
        torch.testing.assert_close(found[1], torch.zeros_like(found[0]) if certain else std_flipped[indices])
    alike = TensorLatents(mean, None if certain else std)
    torch.testing.assert_close(latents.channel_std, alike.channel_std)
    assert json.loads(json.dumps(latents.identity)) == latents.identity
    profiled = open_latents(where)
    assert profiled.shape == (N, 4, 8, 6)
    assert torch.equal(profiled.read(2, 5), mean[2:5])


def test_other_latents_of_the_same_names_are_others(tmp_path, posterior):
    found = [open_stored(layout(tmp_path / f"{k}" / "x", *p)).identity for layout in (mar, edm2)
             for k, p in ((f"{layout.__name__}{i}", [(1 + i) * t for t in posterior]) for i in (0, 1))]  # fmt: skip
    assert len({identity["latents_found"] for identity in found}) == 4


def test_our_own_cache_is_opened_as_one(tmp_path, finished):
    assert isinstance(open_stored(finished), LatentCache)
    assert torch.equal(open_latents(finished).read(3, 5), LatentCache(finished).posterior([3, 4])[0])


def test_labels_that_there_are_not(tmp_path, posterior):
    where = edm2(tmp_path / "x", *posterior)
    (where / "dataset.json").write_text(json.dumps({"labels": None}))
    assert open_stored(where).num_classes == 0
    (where / "dataset.json").unlink()
    assert open_stored(where).num_classes == 0  # 00000 is no class


def save_one(folder, name, **arrays):
    folder.mkdir()
    np.savez(folder / name, **arrays)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: None, "there is no .*x: latents are a folder"),
        (lambda p: p.mkdir(), "x holds no latents, neither latents.json nor"),
        (lambda p: save_one(p, "a.npz", weights=np.zeros((4, 2, 2), np.float32)), r"a\.npz holds weights, and so no"),
        (
            lambda p: save_one(p, "a.npz", moments=np.zeros((5, 2, 2), np.float32)),
            "has 5 channels, which are not",
        ),
        (lambda p: save_one(p, "a.npz", latents=np.zeros((5, 2), np.float32)), r"is of shape \(5, 2\)"),
        (lambda p: save_one(p, "a.npz", latents=np.array([{}])), r"a\.npz cannot be read"),
        (lambda p: p.mkdir() or (p / "a.npz").write_bytes(b"text"), r"a\.npz cannot be read"),
        (lambda p: p.mkdir() or (p / "a.safetensors").write_bytes(b"text"), r"a\.safetensors cannot be read"),
        (lambda p: p.write_text("text"), "x is no cache of latents, and no .npy"),
    ],
)
def test_what_is_no_latents_is_said(tmp_path, make, said):
    make(tmp_path / "x")
    with pytest.raises(LatentsError, match=said):
        open_stored(tmp_path / "x")


def test_an_item_of_another_shape_is_named(tmp_path, posterior):
    where = fast_dit(tmp_path / "x", *posterior)
    np.save(where / "3.npy", np.zeros((4, 8, 8), np.float32))
    with pytest.raises(LatentsError, match=r"3\.npy is of shape \(4, 8, 8\), the first one \(4, 8, 6\)"):
        open_stored(where).posterior(range(6))


def test_deviations_belong_to_their_means(tmp_path):
    mean, std = np.random.default_rng(0).standard_normal((2, 1, 4, 8, 8)).astype("f"), np.full((1, 4, 8, 8), 0.5, "f")
    for i in range(2):
        np.savez(tmp_path / f"{i}.npz", mean=mean[i], std=std)
    latents = open_stored(tmp_path)
    found = latents.posterior([0, 1])
    assert [tuple(value.shape) for value in found[:2]] == [(2, 4, 8, 8)] * 2
    np.savez(tmp_path / "1.npz", mean=mean[1])
    with pytest.raises(LatentsError, match=r"1\.npz has no deviation, the first one has one"):
        latents.posterior([0, 1])
    np.savez(tmp_path / "1.npz", mean=mean[1], std=std[..., :1])
    with pytest.raises(LatentsError, match=r"1\.npz: the mean is of shape \(4, 8, 8\), its deviation \(4, 8, 1\)"):
        latents.posterior([1])
