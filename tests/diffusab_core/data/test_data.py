import socket

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from diffusab_core import data
from diffusab_core.data import ImageFolder, Photos, photos

# ---------------------------------------------------------------------------------------------------------------------
# Photographs


def test_splits_are_disjoint_and_hold_out_coffee_and_china():
    assert set(data.photo_names("test")) == {"coffee", "china"}
    assert set(data.photo_names("train")) & {"coffee", "china"} == set()
    assert set(data.photo_names()) == set(data.photo_names("train")) | set(data.photo_names("test"))


def test_training_crops_never_come_from_the_held_out_photographs():
    crops = Photos(32, "train", length=500)
    assert {crops.source(i) for i in range(500)} == set(data.photo_names("train"))


@pytest.mark.parametrize("name", data.photo_names())
def test_photographs_load_without_a_network(name, monkeypatch):
    photos._pixels.cache_clear()
    monkeypatch.setattr(socket, "socket", None)
    x = data.photo(name)
    assert x.shape[0] == 3
    assert min(x.shape[1:]) >= 256
    assert x.dtype == torch.float32
    assert -1 <= x.min() < -0.8
    assert 0.8 < x.max() <= 1


def test_photograph_is_the_one_scikit_image_gives():
    from skimage.data import coffee

    expected = torch.from_numpy(coffee()).permute(2, 0, 1).float() / 255
    torch.testing.assert_close(data.rgb01(data.photo("coffee")), expected)


@pytest.mark.parametrize("split", photos.SPLITS)
def test_items_depend_on_seed_and_index_only(split):
    first = data.stack(Photos(32, split, seed=3, length=8), range(8))
    longer = Photos(32, split, seed=3, length=100)
    backwards = data.stack(longer, range(7, -1, -1)).flip(0)
    assert torch.equal(first, backwards)
    assert not torch.equal(first, data.stack(Photos(32, split, seed=4), range(8)))
    assert first.shape == (8, 3, 32, 32)
    assert first.abs().max() <= 1


def test_worker_processes_give_the_same_items():
    crops = Photos(32, length=8)
    batches = DataLoader(crops, batch_size=4, num_workers=2)
    assert torch.equal(torch.cat(list(batches)), data.stack(crops, range(8)))


def test_crops_at_the_limit_are_whole_and_beyond_it_refused():
    assert Photos(300, "train", length=20)[0].shape == (3, 300, 300)
    with pytest.raises(ValueError, match=r"resolution 301 .* 300, .*'chelsea'"):
        Photos(301, "train")


def test_a_test_crop_is_a_piece_of_its_photograph():
    crops = Photos(400, "test", length=4)  # 400 is coffee's short side: the crop is not resized
    assert [crops.source(i) for i in range(4)] == ["coffee", "china"] * 2
    whole, crop = data.photo("coffee"), crops[0]
    assert any(torch.allclose(whole[:, :, left : left + 400], crop, atol=1e-5) for left in range(201))


def test_iteration_ends_and_bad_arguments_are_named():
    assert len(list(Photos(16, length=3))) == 3
    with pytest.raises(IndexError, match="3"):
        Photos(16, length=3)[3]
    with pytest.raises(ValueError, match="validation"):
        Photos(16, split="validation")
    with pytest.raises(ValueError, match="length"):
        Photos(16, length=0)
    with pytest.raises(ValueError, match="resolution"):
        Photos(0)
    with pytest.raises(ValueError, match=r"'dog'.*coffee"):
        data.photo("dog")


# ---------------------------------------------------------------------------------------------------------------------
# Small conversions


def test_resize_is_antialiased_and_keeps_shape_and_dtype():
    checker = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16)  # all energy at the Nyquist frequency
    small = data.resize_to(checker.expand(2, 5, 3, 32, 32), 8, 4)
    assert small.shape == (2, 5, 3, 8, 4)
    assert small.abs().max() < 0.1  # without antialiasing it would be up to 1
    assert data.resize_to(checker.half(), 8, 8).dtype == torch.float16
    assert torch.equal(data.resize_to(checker, 32, 32), checker)
    assert torch.allclose(data.resize_to(torch.full((3, 32, 32), 0.7), 5, 7), torch.tensor(0.7))


@pytest.mark.parametrize(("x", "height"), [(torch.zeros(4), 2), (torch.zeros(3, 4, 4), 0)])
def test_resize_refuses(x, height):
    with pytest.raises(ValueError, match="resize"):
        data.resize_to(x, height, 2)


def test_stack_refuses_nothing():
    with pytest.raises(ValueError, match="no indices"):
        data.stack(Photos(16), [])


# ---------------------------------------------------------------------------------------------------------------------
# Folders

GREY = (np.add.outer(np.arange(48), np.arange(48)) * 2).astype(np.uint8)  # 0..188, a diagonal ramp
RGB = np.stack([GREY, GREY.T[::-1], 255 - GREY], axis=-1)


def whole(path):
    """A 48 x 48 file through ImageFolder at its own size, in [0, 255]."""
    (item,) = list(ImageFolder(path.parent, 48))
    return ((item + 1) * 127.5).permute(1, 2, 0)


def assert_pixels(path, expected, tolerance=0.01):
    torch.testing.assert_close(whole(path), torch.as_tensor(expected).float(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert_pixels(path, RGB)


def test_greyscale_and_black_and_white(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert_pixels(tmp_path / "a.png", np.repeat(GREY[..., None], 3, -1))
    Image.fromarray(GREY > 90).save(tmp_path / "a.png")
    assert_pixels(tmp_path / "a.png", np.repeat(GREY[..., None] > 90, 3, -1) * 255)


def test_palette(tmp_path):
    image = Image.fromarray(RGB).quantize(16)
    image.save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert_pixels(tmp_path / "a.png", np.array(image.convert("RGB")))


def test_cmyk(tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.tiff")
    assert Image.open(tmp_path / "a.tiff").mode == "CMYK"
    assert_pixels(tmp_path / "a.tiff", RGB, tolerance=2)
    (tmp_path / "a.tiff").unlink()
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg", quality=100)  # as JPEG the inks are stored inverted
    assert (whole(tmp_path / "a.jpg") - torch.as_tensor(RGB).float()).abs().mean() < 4


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_is_scaled_from_its_full_range(tmp_path, suffix):
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / f"a.{suffix}")
    assert Image.open(tmp_path / f"a.{suffix}").mode.startswith("I")
    assert_pixels(tmp_path / f"a.{suffix}", np.repeat(GREY[..., None], 3, -1))


def test_transparency_becomes_white(tmp_path):
    alpha = np.full((48, 48), 255, np.uint8)
    alpha[:24] = 0
    alpha[24:30] = 51  # a fifth
    expected = RGB.astype(float)
    expected[:24] = 255
    expected[24:30] = 0.2 * RGB[24:30] + 0.8 * 255
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "a.png")
    assert_pixels(tmp_path / "a.png", expected, tolerance=1)

    palette = Image.fromarray(np.repeat(np.arange(2, dtype=np.uint8), 24)[:, None].repeat(48, 1), mode="P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "a.png", transparency=0)
    expected = np.full((48, 48, 3), 255.0)
    expected[24:] = (0, 0, 255)
    assert_pixels(tmp_path / "a.png", expected)


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert_pixels(tmp_path / "a.png", np.rot90(RGB, -1).copy())


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (48, 48), color) for color in ((255, 0, 0), (0, 255, 0))]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert Image.open(tmp_path / f"a.{suffix}").n_frames == 2
    assert_pixels(tmp_path / f"a.{suffix}", np.broadcast_to([255.0, 0, 0], (48, 48, 3)).copy())


@pytest.fixture
def mixed(tmp_path):
    """Good files and one of each bad kind."""
    (tmp_path / "sub").mkdir()
    noisy = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(noisy).save(tmp_path / "sub" / "good.png")
    Image.fromarray(noisy).save(tmp_path / "good.jpg", quality=95)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:3000])
    whole = (tmp_path / "sub" / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:3000])
    (tmp_path / "flipped.png").write_bytes(whole[:200] + bytes(100) + whole[300:])
    Image.fromarray(noisy[:20]).save(tmp_path / "small.png")
    Image.fromarray(noisy[..., 0].astype(np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(noisy[..., 0].astype(np.int32) * 10**6).save(tmp_path / "deep.tiff")
    return tmp_path


def test_bad_files_are_skipped_and_named_with_their_reason(mixed):
    folder = ImageFolder(mixed, 32)
    assert [path.relative_to(mixed).as_posix() for path in folder.paths] == ["good.jpg", "sub/good.png"]
    reasons = {skip.name.rpartition("/")[2]: skip.reason for skip in folder.skipped}
    expected = {
        "empty.jpg": "empty",
        "notes.txt": "not an image",
        "cut.jpg": "truncated",
        "cut.png": "cannot be decoded",
        "flipped.png": "cannot be decoded",
        "small.png": "80 x 20 pixels, smaller than the resolution 32",
        "float.tiff": "32-bit float",
        "deep.tiff": "32-bit integer",
    }
    assert reasons.keys() == expected.keys()
    for name, part in expected.items():
        assert part in reasons[name], (name, reasons[name])
    assert data.stack(folder, range(2)).shape == (2, 3, 32, 32)


def test_center_crop_is_the_centre(tmp_path):
    wide = np.zeros((48, 96, 3), np.uint8)
    wide[:, 24:72] = 200
    Image.fromarray(wide).save(tmp_path / "a.png")
    assert_pixels(tmp_path / "a.png", np.full((48, 48, 3), 200.0))


def test_random_crops_depend_on_seed_and_index_only(mixed):
    first, again, other = (ImageFolder(mixed, 32, crop="random", seed=s) for s in (1, 1, 2))
    assert torch.equal(first[1], again[1])
    assert torch.equal(first[1], first[-1])
    assert not torch.equal(first[1], other[1])


def test_nothing_usable_is_an_error_with_the_reasons(mixed):
    with pytest.raises(ValueError, match=r"no usable image(.|\n)*cut\.jpg(.|\n)*and 7 more"):
        ImageFolder(mixed, 512)
    (mixed / "bare").mkdir()
    with pytest.raises(ValueError, match="it holds no files"):
        ImageFolder(mixed / "bare", 32)


def test_missing_folder_and_bad_arguments(mixed):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ImageFolder(mixed / "nowhere", 32)
    with pytest.raises(ValueError, match=r"notes\.txt"):
        ImageFolder(mixed / "notes.txt", 32)
    with pytest.raises(ValueError, match="'left'"):
        ImageFolder(mixed, 32, crop="left")
    with pytest.raises(IndexError, match="2 items"):
        ImageFolder(mixed, 32)[2]


def test_checking_keeps_no_pixels(tmp_path):
    import tracemalloc

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))
    for i in range(40):
        image.save(tmp_path / f"{i}.bmp")
    tracemalloc.start()
    folder = ImageFolder(tmp_path, 64)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(folder) == 40
    assert kept < 200_000  # one image alone is 196 608 bytes
    assert peak < 20 * 256 * 256 * 3
