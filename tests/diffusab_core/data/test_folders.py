"""Folders with labels, and how much of them is looked at beforehand; conversions are tested in test_data.py."""

import json
import os
import pickle

import numpy as np
import pytest
import sharing_worker
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder as TorchvisionFolder

from diffusab_core.data import ImageFolder, ImagesError, UnusableImage, open_images, resize_to, stores
from diffusab_core.data.pixels import to_tensor
from diffusab_core.files import write_text
from diffusab_core.latents.identity import images_found


def save(path, seed=0, height=64, width=80):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def cut(path, keep=0.5):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])


@pytest.fixture
def imagenet(tmp_path):
    """Three classes in ImageNet's layout; names whose order as strings and as paths differ."""
    root = tmp_path / "train"
    for i, name in enumerate(["n02/b.png", "n02/a.png", "n01/sub/c.png", "n01/z.png", "n01-x/d.png"]):
        save(root / name, seed=i)
    return root


# ---------------------------------------------------------------------------------------------------------------------
# Labels


def test_labels_are_those_of_torchvision(imagenet):
    folder, expected = ImageFolder(imagenet, 64, labels=True), TorchvisionFolder(imagenet)
    assert folder.classes == tuple(expected.classes) == ("n01", "n01-x", "n02")
    found = {path.as_posix(): target for path, target in zip(folder.paths, folder.targets, strict=True)}
    assert found == dict(expected.samples)
    assert [label for _, label in folder] == list(folder.targets) == sorted(folder.targets)


def test_labels_change_no_image(imagenet):
    plain = ImageFolder(imagenet, 32, "random", seed=3)
    labelled = ImageFolder(imagenet, 32, "random", seed=3, labels=True)
    assert plain.paths == labelled.paths
    assert (plain.classes, plain.targets) == ((), ())
    for image, (same, label) in zip(plain, labelled, strict=True):
        assert torch.equal(image, same)
        assert type(label) is int


def test_targets_follow_what_is_skipped(imagenet):
    cut(imagenet / "n02" / "a.png")
    save(imagenet / "n01" / "a.png", height=20)
    (imagenet / "README.txt").write_text("about")
    folder = ImageFolder(imagenet, 64, labels=True)
    names = [path.relative_to(imagenet).as_posix() for path in folder.paths]
    assert list(zip(names, folder.targets, strict=True)) == [
        ("n01/sub/c.png", 0), ("n01/z.png", 0), ("n01-x/d.png", 1), ("n02/b.png", 2),
    ]  # fmt: skip
    assert {skip.name.rpartition("/")[2] for skip in folder.skipped} == {"a.png", "README.txt"}


def test_an_image_beside_the_class_folders_is_named(imagenet):
    save(imagenet / "loose.png")
    assert len(ImageFolder(imagenet, 32)) == 6
    with pytest.raises(ValueError, match=r"loose\.png lies in .*train itself and so has no class"):
        ImageFolder(imagenet, 32, labels=True)


def test_folders_without_classes(tmp_path, imagenet):
    with pytest.raises(ValueError, match="sub holds no folders, so there are no labels"):
        ImageFolder(imagenet / "n01" / "sub", 32, labels=True)
    (imagenet / "n03").mkdir()
    with pytest.raises(ValueError, match=r"class folder .*n03 has no usable image \(it holds no files\)"):
        ImageFolder(imagenet, 32, labels=True)
    (imagenet / "n03" / "x.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"n03 has no usable image \(n03/x\.png: the file is empty\)"):
        ImageFolder(imagenet, 32, labels=True)
    (imagenet / "n03" / "x.png").unlink()
    (imagenet / "n03").rmdir()
    (imagenet / "n03").symlink_to(imagenet / "n01")
    with pytest.raises(ValueError, match=r"n03 has no usable image \(n03/: a link to a folder whose files are here"):
        ImageFolder(imagenet, 32, labels=True)


def test_an_empty_class_keeps_its_number_where_it_may_be_empty(imagenet):
    (imagenet / "n01-w").mkdir()
    with pytest.raises(ValueError, match=r"n01-w has no usable image.*--allow-empty"):
        open_images(imagenet, 32, labels=True)
    folder = open_images(imagenet, 32, labels=True, allow_empty=True)
    assert folder.classes == ("n01", "n01-w", "n01-x", "n02")
    assert folder.targets == (0, 0, 2, 3, 3)


# ---------------------------------------------------------------------------------------------------------------------
# What lies among images and is none


def test_hidden_and_system_folders_are_no_classes_and_their_files_no_images(imagenet):
    before = ImageFolder(imagenet, 32, labels=True)
    for i, name in enumerate((".ipynb_checkpoints/b.png", "@eaDir/a.png", "n01/@eaDir/z.png/thumb.png",
                              "__MACOSX/n01/z.png", "n02/.c.png")):  # fmt: skip
        save(imagenet / name, seed=9 + i)
    (imagenet / "lost+found").mkdir()
    folder = ImageFolder(imagenet, 32, labels=True)
    assert (folder.classes, folder.targets, folder.paths) == (before.classes, before.targets, before.paths)
    assert {skip.name for skip in folder.skipped} == {
        ".ipynb_checkpoints/", "@eaDir/", "n01/@eaDir/", "__MACOSX/", "n02/.c.png", "lost+found/",
    }  # fmt: skip
    assert ImageFolder(imagenet, 32).paths == before.paths


def test_links_to_folders_are_followed_once(imagenet, tmp_path):
    """ImageNet-100 as people make it: a folder of links to class folders."""
    hundred = tmp_path / "hundred"
    hundred.mkdir()
    for name in ("n01", "n02"):
        (hundred / name).symlink_to(imagenet / name)
    folder = ImageFolder(hundred, 32, labels=True)
    assert folder.classes == ("n01", "n02")
    assert [folder.name(i) for i in range(4)] == ["n01/sub/c.png", "n01/z.png", "n02/a.png", "n02/b.png"]
    assert torch.equal(folder[1][0], ImageFolder(imagenet, 32)[1])
    (imagenet / "n01" / "sub" / "loop").symlink_to(imagenet / "n01")
    (imagenet / "n02" / "up").symlink_to(imagenet.parent)
    (hundred / "n02" / "other").symlink_to(imagenet / "n01")
    again = ImageFolder(imagenet, 32, labels=True)
    assert len(again) == 5
    assert {skip.name for skip in again.skipped} == {"n01/sub/loop/", "n02/up/", "n02/other/"}


def test_a_name_that_is_no_utf_8_is_told_in_plain_characters(tmp_path):
    save(tmp_path / "a.png")
    raw = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(raw)
    os.rename(tmp_path / "a.png", raw + b"/caf\xe9.png")
    (tmp_path / "small").mkdir()
    save(tmp_path / "small" / "b.png", height=20)
    save(tmp_path / "small" / "c.png")
    os.rename(tmp_path / "small" / "b.png", os.fsencode(tmp_path) + b"/small/\xff.png")
    folder = ImageFolder(tmp_path, 32, labels=True)
    assert folder.classes == ("caf\\xe9", "small")
    assert (folder.name(0), folder[0][1]) == ("caf\\xe9/caf\\xe9.png", 0)
    assert [skip.name for skip in folder.skipped] == ["small/\\xff.png"]
    assert images_found(folder).startswith("2 (")
    assert os.fsencode(folder.paths[0]) == raw + b"/caf\xe9.png"
    os.remove(folder.paths[0])
    with pytest.raises(UnusableImage, match=r"caf\\xe9\.png: cannot be read") as caught:
        folder[0]
    str(caught.value).encode()
    write_text(tmp_path / "page.html", "caf\udce9")
    assert (tmp_path / "page.html").read_text() == "caf\\xe9"


def test_labels_of_edm_beside_a_folder(tmp_path):
    for i in range(3):
        save(tmp_path / "00000" / f"img0000000{i}.png", seed=i)
    labels = [[f"00000/img0000000{i}.png", label] for i, label in enumerate((2, 0))]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(ValueError, match=r"img00000002\.png has no label in dataset\.json"):
        ImageFolder(tmp_path, 32, labels=True)
    (tmp_path / "00000" / "img00000002.png").unlink()
    assert ImageFolder(tmp_path, 32, labels=True).targets == (2, 0)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": None}))
    with pytest.raises(ValueError, match=r"dataset\.json holds no labels"):
        ImageFolder(tmp_path, 32, labels=True)


# ---------------------------------------------------------------------------------------------------------------------
# Shapes


def test_pieces_that_are_no_squares(tmp_path):
    for name, height, width in (("wide.png", 64, 120), ("tall.png", 120, 64), ("flat.png", 40, 200)):
        save(tmp_path / name, height=height, width=width)
    folder = open_images(tmp_path, "48x64")
    assert [folder.name(i) for i in range(len(folder))] == ["tall.png", "wide.png"]
    assert folder.skipped[0].reason == "200 x 40 pixels, smaller than the resolution 64 x 48"
    assert folder[0].shape == (3, 48, 64)
    whole = to_tensor(folder.pixels(1))
    assert torch.equal(folder[1], resize_to(whole[:, :, 17:102], 48, 64).clamp(-1, 1))  # 85 1/3 of 120 wide
    crops = open_images(tmp_path, (48, 64), "random", seed=1)
    assert crops[1].shape == (3, 48, 64)
    assert not torch.equal(crops[1], folder[1])
    assert open_images(tmp_path, "32x32").resolution == 32
    for wrong in ("0", "4x", "axb", (1, 2, 3), 0, -3):
        with pytest.raises(ValueError, match="resolution must be"):
            open_images(tmp_path, wrong)
    with pytest.raises(ValueError, match="leaves are squares, not 48 x 64"):
        open_images("leaves", "48x64")


def test_headers_of_images_on_their_side(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    for check in ("header", "decode"):
        assert len(open_images(tmp_path, "64x48", check=check)) == 1
        with pytest.raises(ValueError, match="48 x 64 pixels, smaller than the resolution 64 x 48"):
            open_images(tmp_path, "48x64", check=check)


def center_crop_arr(pil_image, image_size):
    """guided_diffusion/image_datasets.py of openai/guided-diffusion (MIT), as it stands there."""
    while min(*pil_image.size) >= 2 * image_size:
        pil_image = pil_image.resize(tuple(x // 2 for x in pil_image.size), resample=Image.BOX)
    scale = image_size / min(*pil_image.size)
    pil_image = pil_image.resize(tuple(round(x * scale) for x in pil_image.size), resample=Image.BICUBIC)
    arr = np.array(pil_image)
    crop_y = (arr.shape[0] - image_size) // 2
    crop_x = (arr.shape[1] - image_size) // 2
    return arr[crop_y : crop_y + image_size, crop_x : crop_x + image_size]


@pytest.mark.parametrize("size", [(75, 101), (33, 32), (300, 200)])
def test_the_crop_of_adm(tmp_path, size):
    save(tmp_path / "a.png", height=size[0], width=size[1])
    with Image.open(tmp_path / "a.png") as image:
        expected = center_crop_arr(image, 32)
    assert torch.equal(open_images(tmp_path, 32, "adm")[0], to_tensor(expected))
    with pytest.raises(ValueError, match="'adm' takes squares"):
        open_images(tmp_path, "32x48", "adm")


def test_training_goes_on_over_a_broken_image(imagenet):
    cut(imagenet / "n01-x" / "d.png")
    with pytest.raises(UnusableImage):
        ImageFolder(imagenet, 32, check="header", labels=True)[2]
    folder = open_images(imagenet, 32, "random", seed=1, check="header", labels=True, replace=True)
    whole = ImageFolder(imagenet, 32, "random", seed=1, check="header", labels=True)
    with pytest.warns(UserWarning, match=r"n01-x/d\.png: cannot be decoded"):
        assert folder[2][1] == folder.targets[3]
    for i in (0, 1, 3, 4):
        assert torch.equal(folder[i][0], whole[i][0])


def test_worker_processes_and_pickles_give_the_same_items(imagenet):
    folder = ImageFolder(imagenet, 32, "random", seed=1, labels=True)
    (images, labels), (again, same) = (
        [torch.cat(parts) for parts in zip(*DataLoader(folder, batch_size=2, num_workers=n), strict=True)]
        for n in (0, 2)
    )
    assert torch.equal(images, again)
    assert labels.tolist() == same.tolist() == list(folder.targets)
    assert torch.equal(pickle.loads(pickle.dumps(folder))[3][0], folder[3][0])


# ---------------------------------------------------------------------------------------------------------------------
# What is looked at beforehand


@pytest.fixture
def faulty(tmp_path):
    save(tmp_path / "good.png")
    save(tmp_path / "cut.png", seed=1)
    cut(tmp_path / "cut.png")
    save(tmp_path / "small.png", height=20)
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("no image")
    Image.fromarray(np.zeros((64, 64), np.float32)).save(tmp_path / "float.tiff")
    return tmp_path


def test_header_check_finds_all_but_broken_pixels(faulty):
    header, decode = ImageFolder(faulty, 32, check="header"), ImageFolder(faulty, 32)
    assert [path.name for path in header.paths] == ["cut.png", "good.png"]
    assert [path.name for path in decode.paths] == ["good.png"]
    assert set(decode.skipped) - set(header.skipped) == {s for s in decode.skipped if s.name == "cut.png"}
    assert torch.equal(header[1], decode[0])
    with pytest.raises(UnusableImage, match=r"cut\.png: cannot be decoded"):
        header[0]


def test_header_check_decodes_nothing(faulty, monkeypatch):
    monkeypatch.setattr(stores, "read_rgb", lambda _: pytest.fail("decoded"))
    assert len(ImageFolder(faulty, 32, check="header")) == 2


def test_of_many_files_only_headers_are_read(faulty, monkeypatch):
    monkeypatch.setattr(stores, "read_rgb", lambda _: pytest.fail("decoded"))
    monkeypatch.setattr(stores.Folder, "decoded", 5)
    assert [path.name for path in open_images(faulty, 32).paths] == ["cut.png", "good.png"]
    monkeypatch.setattr(stores.Folder, "decoded", 6)
    with pytest.raises(pytest.fail.Exception, match="decoded"):
        open_images(faulty, 32)


def test_of_two_processes_the_main_one_looks(imagenet, tmp_path):
    save(imagenet / "n02" / "small.png", height=20)
    main, other = sharing_worker.run(sharing_worker.open_folder, tmp_path, imagenet)
    assert (main.pop("looked"), other.pop("looked")) == (6, 0)
    assert main == other
    assert main["skipped"] == [["n02/small.png", "80 x 20 pixels, smaller than the resolution 32"]]
    assert main["targets"] == [0, 0, 1, 2, 2]


def test_no_check_opens_nothing_and_every_fault_names_its_file(faulty, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", lambda *_: pytest.fail("opened"))
        folder = ImageFolder(faulty, 32, check="none")
    assert len(folder) == 6
    said = {}
    for i, path in enumerate(folder.paths):
        if path.name != "good.png":
            with pytest.raises(UnusableImage) as caught:
                folder[i]
            said[path.name] = str(caught.value).removeprefix(f"{path}: ")
    assert said == {
        "cut.png": said["cut.png"],
        "empty.png": "the file is empty",
        "float.tiff": "32-bit float pixels have no defined range; save it with 8 or 16 bits",
        "notes.txt": "not an image that Pillow can read",
        "small.png": "80 x 20 pixels, smaller than the resolution 32",
    }
    assert said["cut.png"].startswith("cannot be decoded")


@pytest.mark.parametrize("crop", ["center", "random"])
def test_a_file_that_changes_after_the_check_is_named(tmp_path, crop):
    save(tmp_path / "a.png")
    folder = ImageFolder(tmp_path, 32, crop)
    save(tmp_path / "a.png", height=20)
    with pytest.raises(UnusableImage, match=r"a\.png: 80 x 20 pixels, smaller than the resolution 32"):
        folder[0]
    assert folder.why_unusable(0).size == (20, 80)
    (tmp_path / "a.png").unlink()
    with pytest.raises(UnusableImage, match=r"a\.png: cannot be read \(No such file or directory\)"):
        folder[0]
    assert folder.why_unusable(0).size is None


def test_a_smaller_resolution_is_advised_only_where_it_would_help(tmp_path):
    save(tmp_path / "a.png", height=20)
    save(tmp_path / "b.png", width=30)
    with pytest.raises(ImagesError, match=r"; a resolution of 20 takes them$"):
        ImageFolder(tmp_path, 128)
    (tmp_path / "9 x 9 pixels, smaller than the resolution.png").write_bytes(b"")  # what it says is not what it is
    with pytest.raises(ImagesError) as caught:
        ImageFolder(tmp_path, 128)
    assert "takes them" not in str(caught.value)


def test_errors_reach_the_trainer_from_a_worker(tmp_path):
    save(tmp_path / "a.png")
    folder = ImageFolder(tmp_path, 32)
    cut(tmp_path / "a.png")
    with pytest.raises(UnusableImage, match=r"a\.png: cannot be decoded"):
        list(DataLoader(folder, num_workers=1))


def test_picked_items_draw_their_crops_anew(imagenet):
    folder = ImageFolder(imagenet, 64, labels=True)
    picked = folder.pick([4, -4])
    assert [label for _, label in picked] == [folder.targets[4], folder.targets[1]]
    assert torch.equal(picked[0][0], folder[4][0])
    assert len(folder) == 5
    with pytest.raises(IndexError):
        folder.pick([5])


def test_draw_opens_no_more_than_it_needs(imagenet, faulty, monkeypatch):
    folder = ImageFolder(imagenet, 64, check="none")
    opened = []
    why = stores.StoredImages.why_unusable
    monkeypatch.setattr(stores.StoredImages, "why_unusable", lambda self, i, check: opened.append(i) or why(self, i))
    drawn = folder.draw(2, seed=0)
    assert (len(drawn), len(opened), drawn.skipped) == (2, 2, ())
    assert [drawn.name(i) for i in range(2)] == [folder.name(i) for i in sorted(opened)]
    assert len({tuple(folder.draw(2, seed).paths) for seed in range(8)}) > 1
    with pytest.raises(ValueError, match="no usable image"):
        ImageFolder(faulty, 4096, check="none").draw(2, seed=0)
    drawn = ImageFolder(faulty, 64, check="none").draw(9, seed=0)
    unusable = {path.name for path in faulty.iterdir() if path.is_file()} - {drawn.name(i) for i in range(len(drawn))}
    assert {skip.name for skip in drawn.skipped} == unusable
    assert {"cut.png", "small.png", "empty.png", "notes.txt"} <= unusable


def test_unknown_check(imagenet):
    with pytest.raises(ValueError, match="unknown check 'fast'"):
        ImageFolder(imagenet, 32, check="fast")
