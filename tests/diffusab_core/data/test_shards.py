"""Tar shards, and what open_images makes of a place: the same images everywhere, and every fault by name."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from diffusab_core.data import ImageFolder, Photos, UnusableImage, stack
from diffusab_core.data.leaves import Leaves
from diffusab_core.data.open import open_images
from diffusab_core.data.places import WORDS, expand, find_kind
from diffusab_core.data.shards import Tars


def encoded(seed, suffix="png", height=64, width=80):
    """An image file as bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, {"jpg": "jpeg"}.get(suffix, suffix))
    return out.getvalue()


def write(path, members, form=tarfile.PAX_FORMAT):
    """A tar file of (name, bytes)."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


SUFFIXES = ("png", "jpg", "jpeg", "webp", "png", "jpg")


@pytest.fixture
def everywhere(tmp_path):
    """Six images of two classes: as a folder, and as two tar files in the same order."""
    members = []
    for i, suffix in enumerate(SUFFIXES):
        content, label = encoded(i, suffix, 64 + i, 90 - i), int(i >= 3)
        path = tmp_path / "folder" / f"class{label}" / f"{i:06d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        members += [(f"{i:06d}.{suffix}", content), (f"{i:06d}.cls", f"{label}\n".encode())]
    write(tmp_path / "train-0000.tar", members[:8])
    write(tmp_path / "train-0001.tar", members[8:])
    return tmp_path


# ---------------------------------------------------------------------------------------------------------------------
# The same images


@pytest.mark.parametrize("crop", ["center", "random"])
def test_tar_gives_what_the_folder_gives(everywhere, crop):
    folder = ImageFolder(everywhere / "folder", 48, crop, seed=2, labels=True)
    tar = open_images(str(everywhere / "train-{0000..0001}.tar"), 48, crop, seed=2, labels=True)
    assert isinstance(tar.source, Tars)
    assert tar.targets == folder.targets == (0, 0, 0, 1, 1, 1)
    assert tar.classes == ("0", "1")
    assert len(tar) == 6
    for (image, label), (same, expected) in zip(tar, folder, strict=True):
        assert torch.equal(image, same)
        assert label == expected
    plain = open_images([everywhere / "train-0000.tar", everywhere / "train-0001.tar"], 48, crop, seed=2)
    assert torch.equal(plain[-1], tar[5][0])
    assert [plain.name(i) for i in (0, 5)] == ["train-0000.tar: 000000.png", "train-0001.tar: 000005.jpg"]


def test_items_depend_on_seed_and_index_only(everywhere):
    where = str(everywhere / "train-*.tar")
    first, again, other = (open_images(where, 32, "random", seed) for seed in (1, 1, 2))
    assert torch.equal(stack(first, range(6)), stack(again, reversed(range(6))).flip(0))
    assert not torch.equal(first[0], other[0])


def test_worker_processes_give_the_same_items(everywhere):
    tar = open_images(str(everywhere / "train-*.tar"), 32, "random", labels=True)
    assert tar[0][1] == 0  # used before the workers start
    images, labels = zip(*DataLoader(tar, batch_size=2), strict=True)
    again, same = zip(*DataLoader(tar, batch_size=2, num_workers=2), strict=True)
    assert torch.equal(torch.cat(images), torch.cat(again))
    assert torch.equal(torch.cat(labels), torch.cat(same))
    assert torch.equal(pickle.loads(pickle.dumps(tar))[4][0], tar[4][0])


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_all_tar_dialects_and_any_order(tmp_path, form):
    long, content = "a/" * 40 + "long-name-" * (4 if form == tarfile.USTAR_FORMAT else 20), encoded(0)
    members = [
        ("2.cls", b"7"), (f"{long}.PNG", content), ("._2.jpg", b"junk of a Mac"), ("2.seg.png", b"another kind"),
        ("2.json", b"{}"), (f"{long}.cls", b" 3 "), ("2.jpg", encoded(1, "jpg")), ("README", b"text"),
    ]  # fmt: skip
    tar = open_images(write(tmp_path / "x.tar", members, form), 64, labels=True)
    assert [tar.name(i) for i in range(len(tar))] == ["x.tar: 2.jpg", f"x.tar: {long}.PNG"]
    assert tar.targets == (7, 3)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").write_bytes(content)
    assert torch.equal(tar[1][0], ImageFolder(tmp_path / "folder", 64)[0])


def test_what_is_skipped(tmp_path):
    bad = encoded(1)[:2000]
    members = [("a.png", encoded(0)), ("b.png", bad), ("c.jpg", b""), ("d.txt", b"x"), ("e.png", encoded(2, height=20))]
    tar = write(tmp_path / "x.tar", members)
    header, decode = open_images(tar, 32), open_images(tar, 32, check="decode")
    reasons = {skip.name: skip.reason for skip in header.skipped}
    assert reasons == {
        "x.tar: d": "none of its members is a jpg, jpeg, png, webp, bmp, ppm or avif",
        "x.tar: c.jpg": "the file is empty",
        "x.tar: e.png": "80 x 20 pixels, smaller than the resolution 32",
    }
    assert (len(header), len(decode)) == (2, 1)
    with pytest.raises(UnusableImage, match=r"x\.tar: b\.png: cannot be decoded"):
        header[1]
    with pytest.raises(UnusableImage, match=r"x\.tar: e\.png: 80 x 20 pixels, smaller"):
        open_images(tar, 32, check="none")[3]


def test_targets_follow_what_is_skipped(tmp_path):
    members = [("a.png", encoded(0, height=20)), ("a.cls", b"0"), ("b.png", encoded(1)), ("b.cls", b"2")]
    tar = open_images(write(tmp_path / "x.tar", members), 32, labels=True)
    assert (tar.targets, tar.classes, tar[0][1]) == ((2,), ("0", "1", "2"), 2)


def test_names_with_dots_of_their_own(tmp_path):
    members = [(f"img_1.{i}.{end}", content) for i in (5, 6) for end, content in (("jpg", encoded(i)), ("cls", b"1"))]
    tar = write(tmp_path / "x.tar", members)
    with pytest.raises(
        ValueError, match=r"up to its first dot, so img_1\.5\.jpg is a '5\.jpg' of .*--image-key '\*\.jpg'"
    ):
        open_images(tar, 32)
    images = open_images(tar, 32, labels=True, image_key="*.jpg")
    assert [images.name(i) for i in (0, 1)] == ["x.tar: img_1.5.jpg", "x.tar: img_1.6.jpg"]
    assert images.targets == (1, 1)


def test_which_member_is_the_image(tmp_path):
    tar = write(tmp_path / "x.tar", [("a.jpg", encoded(0, "jpg")), ("a.png", encoded(1)), ("a.seg.png", encoded(2))])
    with pytest.raises(ValueError, match=r"'a' has two images, a\.jpg and a\.png; choose one with .*--image-key png"):
        open_images(tar, 32)
    for key, name in (("jpg", "a.jpg"), ("PNG", "a.png"), (".png", "a.png"), ("gif;seg.png", "a.seg.png")):
        assert open_images(tar, 32, image_key=key).name(0) == f"x.tar: {name}"
    with pytest.raises(ValueError, match=r"a: none of its members is a tiff"):
        open_images(tar, 32, image_key="tiff")
    for wrong in ("", "*", "*.jpg;png", "*.seg.png"):
        with pytest.raises(ValueError, match="image_key must be endings"):
            open_images(tar, 32, image_key=wrong)


@pytest.mark.parametrize("suffix", ["bmp", "ppm", "avif"])
def test_other_kinds_of_images_in_a_shard(tmp_path, suffix):
    tar = open_images(write(tmp_path / "x.tar", [(f"a.{suffix}", encoded(0, suffix))]), 32)
    assert tar[0].shape == (3, 32, 32)


def test_members_of_systems_are_no_images(tmp_path):
    members = [("./a.png", encoded(0)), ("__MACOSX/b.png", encoded(1)), ("d/@eaDir/c.png", encoded(1))]
    tar = open_images(write(tmp_path / "x.tar", members), 32)
    assert [tar.name(i) for i in range(len(tar))] == ["x.tar: ./a.png"]


# ---------------------------------------------------------------------------------------------------------------------
# Zip archives and arrays


def zipped(path, members, how=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_gives_what_the_folder_gives(everywhere, tmp_path, how):
    files = sorted(path for path in (everywhere / "folder").rglob("*") if path.is_file())
    members = [(path.relative_to(everywhere / "folder").as_posix(), path.read_bytes()) for path in files]
    members += [("__MACOSX/class0/._000000.png", b"junk"), ("class0/.DS_Store", b"junk"), ("class1/notes.txt", b"text")]
    images = open_images(zipped(tmp_path / "x.zip", members[::-1], how), 48, "random", seed=2, labels=True)
    folder = ImageFolder(everywhere / "folder", 48, "random", seed=2, labels=True)
    assert (images.targets, images.classes) == (folder.targets, folder.classes)
    assert [images.name(i) for i in range(6)] == [folder.name(i) for i in range(6)]
    assert {skip.name for skip in images.skipped} == {
        "__MACOSX/class0/._000000.png",
        "class0/.DS_Store",
        "class1/notes.txt",
    }
    for (image, _), (same, _) in zip(pickle.loads(pickle.dumps(images)), folder, strict=True):
        assert torch.equal(image, same)
    batches = DataLoader(images, batch_size=3, num_workers=2)
    assert torch.equal(torch.cat([x for x, _ in batches]), torch.stack([x for x, _ in folder]))


def test_labels_of_edm_in_a_zip(tmp_path):
    members = [(f"00000/img0000000{i}.png", encoded(i)) for i in range(3)]
    labels = [[name, label] for (name, _), label in zip(members, (6, 0, 2), strict=True)]
    told = [("dataset.json", json.dumps({"labels": labels}))]
    images = open_images(zipped(tmp_path / "x.zip", members + told), 32, labels=True)
    assert (images.targets, len(images.classes), len(images)) == ((6, 0, 2), 7, 3)
    for wrong, said in (
        ({"labels": None}, "holds no labels"),
        ({"labels": labels[:2]}, r"img00000002\.png has no label"),
        ({"labels": [[members[0][0], [0.1, 0.2]]]}, r"the label of .*img00000000\.png must be the number of a class"),
        ([], "is no JSON of labels"),
    ):
        archive = zipped(tmp_path / "y.zip", [*members, ("dataset.json", json.dumps(wrong))])
        assert len(open_images(archive, 32)) == 3
        with pytest.raises(ValueError, match=said):
            open_images(archive, 32, labels=True)
    with pytest.raises(ValueError, match=r"neither dataset\.json nor folders of classes"):
        open_images(zipped(tmp_path / "z.zip", [("a.png", encoded(0))]), 32, labels=True)


def test_damaged_zips(tmp_path):
    whole = zipped(tmp_path / "x.zip", [("a.png", encoded(0)), ("b.png", encoded(1))]).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.zip is cut off, damaged or no zip archive"):
        open_images(tmp_path / "cut.zip", 32)
    images = open_images(tmp_path / "x.zip", 32)
    damaged = bytearray(whole)
    damaged[5000] ^= 255
    (tmp_path / "x.zip").write_bytes(damaged)
    with pytest.raises(UnusableImage, match=r"x\.zip: a\.png: it is damaged: its checksum"):
        images[0]
    (tmp_path / "x.zip").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(UnusableImage, match=r"x\.zip: b\.png: the archive is damaged"):
        images[1]


@pytest.mark.parametrize("kind", ["npz", "compressed", "npy"])
def test_arrays_of_samples(tmp_path, kind):
    rng = np.random.default_rng(0)
    array, labels = rng.integers(0, 256, (5, 40, 40, 3), dtype=np.uint8), np.array([3, 0, 1, 1, 0])
    file = tmp_path / ("x.npy" if kind == "npy" else "x.npz")
    if kind == "npy":
        np.save(file, array)
    else:
        (np.savez if kind == "npz" else np.savez_compressed)(file, arr_0=array, arr_1=labels)
        images = open_images(file, 40, labels=True)
        assert (images.targets, images[0][1]) == ((3, 0, 1, 1, 0), 3)
    images = open_images(file, 40)
    assert (len(images), images.name(4)) == (5, "row 4")
    for i in range(5):
        assert np.array_equal(images.pixels(i), array[i])
        assert np.array_equal(pickle.loads(pickle.dumps(images)).pixels(i), array[i])
    assert len(pickle.dumps(images)) < array.nbytes / 2
    two = open_images([file, file], 40)
    assert np.array_equal(two.pixels(7), array[2])
    assert two.name(7) == f"{file.name}: row 2"


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (
            {"arr_0": np.zeros((2, 3, 8, 8), np.uint8)},
            r"uint8 of shape \(N, H, W, 3\), this is uint8 of shape \(2, 3, 8, 8\)",
        ),
        ({"arr_0": np.zeros((2, 8, 8, 3), np.float32)}, "this is float32"),
        ({"mu": np.zeros(3)}, "holds no arr_0; it holds mu"),
        ({"arr_0": np.array([{}])}, "cut off, damaged or no array"),
        (None, "cut off, damaged or no .npz"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, held, said):
    (tmp_path / "x.npz").write_bytes(b"text")
    if held is not None:
        np.savez(tmp_path / "x.npz", **held)
    with pytest.raises(ValueError, match=said):
        open_images(tmp_path / "x.npz", 8)


# ---------------------------------------------------------------------------------------------------------------------
# Faults of tar files


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a.png", encoded(0))], r"sample 'a' has no label, that is no member a\.cls"),
        ([("d/a.png", encoded(0)), ("a.cls", b"1")], "sample 'd/a' has no label"),
        ([("a.png", encoded(0)), ("a.cls", b"cat")], r"a\.cls must hold the number of a class, it holds 'cat'"),
        ([("a.png", encoded(0)), ("a.cls", b"-1")], "it holds '-1'"),
        ([("a.png", encoded(0)), ("a.cls", b"\xff\x00")], "must hold the number"),
        ([("a.png", encoded(0)), ("a.cls", b"99999999")], "a label is 99999999"),
        ([("a.png", encoded(0)), ("a.jpg", encoded(0))], r"sample 'a' has two images, a\.png and a\.jpg"),
        ([("a.png", encoded(0)), ("a.png", encoded(0))], "has two images"),
        ([("a.json", b"{}"), ("b.tar", b"")], r"no usable image in .*x\.tar(.|\n)*a: none of its members is a jpg"),
        ([], r"no usable image in .*x\.tar: it holds no images"),
    ],
)
def test_shards_that_are_not_what_they_should_be(tmp_path, members, said):
    with pytest.raises(ValueError, match=said):
        open_images(write(tmp_path / "x.tar", members), 32, labels=True)


def test_links_in_a_shard_are_named(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.LNKTYPE, "b.png"
        tar.addfile(link)
    with pytest.raises(ValueError, match=r"a\.png is stored as a link"):
        open_images(tmp_path / "x.tar", 32)


def test_a_shard_cut_off_anywhere_is_noticed(tmp_path):
    whole = write(tmp_path / "x.tar", [("a.png", encoded(0)), ("b.png", encoded(1))]).read_bytes()
    with tarfile.open(tmp_path / "x.tar") as tar:
        first, second = tar.getmembers()
        end = second.offset_data + -(-second.size // 512) * 512
    for keep in (0, 100, 512, first.offset_data + 10, second.offset, second.offset + 100, second.offset_data + 10, end):
        (tmp_path / "cut.tar").write_bytes(whole[:keep])
        with pytest.raises(ValueError, match=r"cut\.tar is cut off"):
            open_images(tmp_path / "cut.tar", 32)
    damaged = bytearray(whole)
    damaged[second.offset : second.offset + 100] = bytes(range(100))
    (tmp_path / "cut.tar").write_bytes(damaged)
    with pytest.raises(ValueError, match=rf"cut\.tar is cut off or damaged at byte {second.offset}"):
        open_images(tmp_path / "cut.tar", 32)
    (tmp_path / "text.tar").write_text("no tar file" * 100)
    with pytest.raises(ValueError, match=r"text\.tar is cut off, damaged or no tar file"):
        open_images(tmp_path / "text.tar", 32)


def test_a_shard_cut_off_later_names_the_member(tmp_path):
    tar = open_images(write(tmp_path / "x.tar", [("a.png", encoded(0))]), 32)
    (tmp_path / "x.tar").write_bytes((tmp_path / "x.tar").read_bytes()[:1000])
    with pytest.raises(UnusableImage, match=r"x\.tar: a\.png: only \d+ of its \d+ bytes are there"):
        tar[0]
    (tmp_path / "x.tar").unlink()
    with pytest.raises(UnusableImage, match=r"x\.tar: a\.png: cannot be read \(No such file"):
        tar[0]


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz"])
def test_compressed_shards_are_refused_with_the_reason(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(write(tmp_path / "y.tar", [("a.png", encoded(0))]).read_bytes()))
    with pytest.raises(ValueError, match=r"compressed \(gzip\): it can only be read from its beginning.*unpack it"):
        open_images(tmp_path / name, 32)


# ---------------------------------------------------------------------------------------------------------------------
# Patterns


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{0008..0011}.tar", ["a-0008.tar", "a-0009.tar", "a-0010.tar", "a-0011.tar"]),
        ("a-{8..11}.tar", ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
        ("a-{0..10}.tar", [f"a-{i}.tar" for i in range(11)]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{x,y}-{0..1}.tar", ["x-0.tar", "x-1.tar", "y-0.tar", "y-1.tar"]),
        ("a-{0..1.tar", ["a-{0..1.tar"]),
    ],
)
def test_braces_expand_as_in_a_shell(pattern, expected):
    assert expand(pattern) == expected


def test_patterns_that_fit_nothing(everywhere):
    with pytest.raises(ValueError, match=r"\{3\.\.1\} counts down"):
        expand("a-{3..1}.tar")
    with pytest.raises(FileNotFoundError, match=r"2 of 4 files are missing, the first is .*train-0002\.tar"):
        open_images(str(everywhere / "train-{0000..0003}.tar"), 32)
    with pytest.raises(FileNotFoundError, match=r"no file fits .*val-\*\.tar"):
        open_images(str(everywhere / "val-*.tar"), 32)


def test_a_name_with_braces_or_stars_is_itself_where_it_exists(tmp_path):
    path = write(tmp_path / "a-{0..1}*.tar", [("a.png", encoded(0))])
    assert len(open_images(str(path), 32)) == 1


# ---------------------------------------------------------------------------------------------------------------------
# What a place is


def test_words(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    photos = open_images("photos", 32, seed=3, split="test", length=5)
    assert torch.equal(photos[4], Photos(32, "test", 3, 5)[4])
    image, label = open_images("leaves", 32, seed=3, labels=True)[5]
    assert torch.equal(image, Leaves(32, 3)[5][0])
    assert label == Leaves(32, 3)[5][1]
    assert torch.equal(open_images("leaves", 32, seed=3, length=6)[5], image)
    with pytest.raises(ValueError, match="photographs have no labels"):
        open_images("photos", 32, labels=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(encoded(0))
    assert isinstance(open_images("photos", 32), Photos)
    assert isinstance(open_images("./photos", 32), ImageFolder)
    assert isinstance(open_images(Path("photos"), 32), ImageFolder)


def test_kinds(everywhere, monkeypatch):
    assert find_kind(everywhere / "folder") == ("folder", str(everywhere / "folder"))
    tars = [str(everywhere / f"train-000{i}.tar") for i in (0, 1)]
    assert find_kind(tars[0]) == ("tar", tars[:1])
    assert find_kind(str(everywhere / "train-000?.tar")) == ("tar", tars)
    assert find_kind("ILSVRC/imagenet-1k") == ("hub", "ILSVRC/imagenet-1k")
    monkeypatch.chdir(everywhere)
    assert find_kind("folder/class0") == ("folder", "folder/class0")  # a path before a name on the hub
    assert isinstance(open_images("folder/class0", 32, check="header"), ImageFolder)


@pytest.mark.parametrize(
    ("where", "error", "said"),
    [
        ("nowhere", FileNotFoundError, "there is no folder nowhere and no such file; understood are photos, leaves"),
        (Path("ILSVRC/imagenet-1k"), FileNotFoundError, "there is no folder ILSVRC/imagenet-1k"),
        ("./ILSVRC/imagenet-1k", FileNotFoundError, "no such file"),
        ("folders", FileNotFoundError, "no such file (did you mean folder?); understood"),
        ("train-000.tar", FileNotFoundError, "no such file (did you mean train-0000.tar?); understood"),
        ("shards/train-0000.tar", FileNotFoundError, "no such file"),
        ("shards/train.parquet", FileNotFoundError, "no such file"),
        ([], ValueError, "an empty list"),
        ("notes.txt", ValueError, "notes.txt is a file of no kind that is understood; understood are"),
        (["train-0000.tar", "table.parquet"], ValueError, "files of one kind are opened together"),
        (["folder", "folder"], ValueError, "folder is a folder among files"),
        (".", ValueError, "holds shards such as table.parquet and no images: give '*.parquet'"),
    ],
)
def test_places_that_are_not_understood(tmp_path, monkeypatch, where, error, said):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train-0000.tar", [("a.png", encoded(0))])
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "table.parquet").touch()
    if where != ".":
        (tmp_path / "folder").mkdir()
    with pytest.raises(error) as caught:
        open_images(where, 32)
    assert said in str(caught.value)


def test_a_stray_archive_among_images_is_skipped_as_ever(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(0))
    write(tmp_path / "backup.tar", [("a.png", encoded(0))])
    assert len(open_images(tmp_path, 32)) == 1


@pytest.mark.parametrize(
    ("where", "options", "said"),
    [
        ("photos", {"check": "none"}, "check is no option for photos"),
        ("leaves", {"split": "test"}, "split is no option for leaves"),
        ("folder", {"length": 3}, "length is no option for .*folder.*it takes allow_empty, check"),
        ("train-0000.tar", {"image_column": "jpg"}, "image_column is no option"),
        ("train-0000.tar", {"check": "fast"}, "unknown check 'fast'"),
        ("train-0000.tar", {"crop": "left"}, "unknown crop 'left'"),
        ("train-0000.tar", {"resolution": 0}, "resolution must be"),
    ],
)
def test_options_that_do_not_belong(everywhere, where, options, said):
    place = where if where in WORDS else everywhere / where
    with pytest.raises(ValueError, match=said):
        open_images(place, **({"resolution": 32} | options))
