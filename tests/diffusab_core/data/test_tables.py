"""Tables of images: what datasets saves, Arrow, Parquet and the hub give the tensors that the files themselves give."""

import io
import os
import pickle
import subprocess
import sys

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from PIL import Image
from torch.utils.data import DataLoader

from diffusab_core.data import ImageFolder, StoredImages, UnusableImage, stack
from diffusab_core.data.open import open_images
from diffusab_core.data.tables import Table

LABELS = [0, 0, 1, 1, 0, 1]


def encoded(seed, suffix="png", height=64, width=80, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, {"jpg": "jpeg"}.get(suffix, suffix), **options)
    return out.getvalue()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Parquet is converted into the library's cache: not into that of whoever runs the tests."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def contents():
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    suffixes = ("png", "jpg", "webp", "tiff", "jpg")
    return [encoded(i, suffix, 64 + i, 90 - i) for i, suffix in enumerate(suffixes)] + [encoded(9, "jpg", exif=exif)]


def table(contents, labels=LABELS, **more):
    features = Features({"image": datasets.Image(), "label": ClassLabel(names=["cat", "dog"]), **more})
    columns = {"image": [c if c is None else {"bytes": c, "path": None} for c in contents], "label": labels}
    return Dataset.from_dict(columns | {name: [0] * len(contents) for name in more}, features=features)


def images_of(rows, resolution, crop="center", seed=0, check=None, **columns):
    return StoredImages(Table(rows, **columns), resolution, crop, seed, check)


def places(folder, rows):
    """The same rows in every form that open_images takes."""
    rows.save_to_disk(folder / "saved", num_shards=2)
    DatasetDict(train=rows, validation=rows.select([0])).save_to_disk(folder / "splits")
    rows.select(range(4)).to_parquet(folder / "x-0.parquet")
    rows.select(range(4, 6)).to_parquet(folder / "x-1.parquet")
    images = [row["image"] for row in rows.cast_column("image", datasets.Image(decode=False))]
    plain = {"jpg": pa.array([image["bytes"] for image in images]), "cls": rows["label"][:], "id": [5] * 6}
    pq.write_table(pa.table(plain), folder / "plain.parquet")  # as written without the datasets library
    struct = {"picture": pa.array([{"bytes": image["bytes"], "path": "a.jpg"} for image in images])}
    with pa.ipc.new_stream(str(folder / "struct.arrow"), pa.table(struct | {"class": rows["label"][:]}).schema) as out:
        out.write_table(pa.table(struct | {"class": rows["label"][:]}), max_chunksize=2)
    return {
        "saved": folder / "saved",
        "splits": folder / "splits",
        "arrow": sorted((folder / "saved").glob("*.arrow")),
        "parquet": str(folder / "x-{0..1}.parquet"),
        "plain parquet": folder / "plain.parquet",
        "struct arrow": folder / "struct.arrow",
    }


KINDS = ["saved", "splits", "arrow", "parquet", "plain parquet", "struct arrow"]


# ---------------------------------------------------------------------------------------------------------------------
# The same images


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_gives_what_the_files_give(tmp_path, contents, kind):
    (tmp_path / "folder").mkdir()
    for i, content in enumerate(contents):
        (tmp_path / "folder" / f"{i}.img").write_bytes(content)
    where = places(tmp_path, table(contents))[kind]
    for crop in ("center", "random"):
        folder = ImageFolder(tmp_path / "folder", 48, crop, seed=2)
        images = open_images(where, 48, crop, seed=2)
        assert isinstance(images.source, Table)
        assert len(images) == len(folder) == 6
        assert torch.equal(stack(images, range(6)), stack(folder, range(6)))
    labelled = open_images(where, 48, labels=True)
    assert labelled.targets == tuple(LABELS)
    assert labelled.classes == (("0", "1") if kind in ("plain parquet", "struct arrow") else ("cat", "dog"))
    assert [label for _, label in labelled] == LABELS
    assert torch.equal(labelled[5][0], images.pick([5])[0]) or crop == "random"


def test_tables_lie_where_they_were(tmp_path, contents):
    """Saved folders and Arrow files are mapped, not copied: neither into the cache nor into a pickle."""
    where = places(tmp_path, table(contents))
    for kind in ("saved", "splits", "arrow", "struct arrow"):
        images = open_images(where[kind], 48)
        assert len(pickle.dumps(images)) < sum(map(len, contents)) / 3
        assert all(
            os.path.commonpath([tmp_path, entry["filename"]]) == str(tmp_path)
            for entry in images.source._table.cache_files
        )
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("kind", "start"), [("saved", "fork"), ("saved", "spawn"), ("parquet", "fork")])
def test_worker_processes_give_the_same_items(tmp_path, contents, kind, start):
    where = places(tmp_path, table(contents))[kind]
    images = open_images(where, 32, "random", labels=True)
    assert images[0][1] == 0  # used before the workers start
    batches, labels = zip(*DataLoader(images, batch_size=2), strict=True)
    again, same = zip(*DataLoader(images, batch_size=2, num_workers=2, multiprocessing_context=start), strict=True)
    assert torch.equal(torch.cat(batches), torch.cat(again))
    assert torch.cat(same).tolist() == torch.cat(labels).tolist() == LABELS


def test_a_table_in_memory_and_its_selections(contents):
    rows = table(contents)
    whole = images_of(rows, 48, labels=True)
    some = images_of(rows.select([5, 2, 3]), 48, labels=True)
    for i, j in enumerate((5, 2, 3)):
        assert torch.equal(some[i][0], whole[j][0])
        assert some[i][1] == LABELS[j]


def test_items_depend_on_seed_and_index_only(contents):
    first, again, other = (images_of(table(contents), 32, "random", seed) for seed in (1, 1, 2))
    assert torch.equal(stack(first, range(6)), stack(again, reversed(range(6))).flip(0))
    assert not torch.equal(first[0], other[0])


def test_what_is_skipped(contents):
    few = [contents[0], contents[1][:1500], b"", b"no image", encoded(7, height=20), None]
    rows = table(few)
    header, decode = images_of(rows, 32, labels=True), images_of(rows, 32, labels=True, check="decode")
    assert {skip.name: skip.reason for skip in header.skipped} == {
        "row 2": "the file is empty",
        "row 3": "not an image that Pillow can read",
        "row 4": "80 x 20 pixels, smaller than the resolution 32",
        "row 5": "the row has no image",
    }
    assert (header.targets, decode.targets) == ((0, 0), (0,))
    assert header.name(1) == "row 1"
    with pytest.raises(UnusableImage, match="the table: row 1: cannot be decoded"):
        header[1]
    with pytest.raises(UnusableImage, match="row 4: 80 x 20 pixels, smaller"):
        images_of(rows, 32, check="none")[4]
    with pytest.raises(ValueError, match=r"no usable image in the table(.|\n)*row 0: 90 x 64 pixels"):
        images_of(rows, 512)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_told_apart_by_their_contents(tmp_path, contents, kind):
    images = open_images(places(tmp_path, table(contents))[kind], 48)
    traces = [images.source.trace(i) for i in range(6)]
    assert len(set(traces)) == 6
    size, start = traces[2].split(b"\0", 1)
    assert int(size) == len(contents[2])
    assert start.startswith(contents[2][:2048])


def test_images_that_are_names_of_files(tmp_path, contents):
    (tmp_path / "a.png").write_bytes(contents[0])
    features = Features({"image": datasets.Image()})
    rows = Dataset.from_dict({"image": [str(tmp_path / "a.png"), str(tmp_path / "b.png")]}, features=features)
    images = images_of(rows, 48)
    assert torch.equal(images[0], ImageFolder(tmp_path, 48)[0])
    (skip,) = images.skipped
    assert skip.reason.startswith("the row holds no image but the name of a file that is not there")
    assert skip.reason.endswith("b.png")


# ---------------------------------------------------------------------------------------------------------------------
# Columns


def two_images(contents):
    columns = {"left": contents, "right": contents[::-1], "a": LABELS, "b": LABELS, "note": ["x"] * 6}
    number = ClassLabel(names=["cat", "dog"])
    types = {"left": datasets.Image(), "right": datasets.Image(), "a": number, "b": number, "note": Value("string")}
    encoded = {name: [{"bytes": c, "path": None} for c in columns[name]] for name in ("left", "right")}
    return Dataset.from_dict(columns | encoded, features=Features(types))


def test_named_columns(contents):
    rows = two_images(contents)
    images = images_of(rows, 48, labels=True, image_column="right", label_column="b")
    assert torch.equal(images[0][0], images_of(rows, 48, image_column="left")[5])
    assert images.classes == ("cat", "dog")


LISTED = r"left \(Image\), right \(Image\), a \(ClassLabel\), b \(ClassLabel\), note \(string\)"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, f"the table has 2 columns of images, choose one with image_column \\(--image-column\\): {LISTED}"),
        ({"image_column": "middle"}, f"no column 'middle' of images; it has {LISTED}"),
        ({"image_column": "note"}, f"no column 'note' of images; it has {LISTED}"),
        (
            {"image_column": "left", "labels": True},
            f"2 columns of labels, choose one with label_column \\(--label-column\\): {LISTED}",
        ),
        ({"image_column": "left", "labels": True, "label_column": "note"}, "the table has no column 'note' of labels"),
    ],
)
def test_columns_that_are_not_clear(contents, options, said):
    with pytest.raises(ValueError, match=said):
        images_of(two_images(contents), 48, **options)


def test_tables_without_images_or_labels(contents):
    with pytest.raises(ValueError, match=r"no column of the table is known to hold images, .*: x \(int64\)"):
        images_of(Dataset.from_dict({"x": [1]}), 48)
    rows = table(contents, id=Value("int64")).remove_columns("label")
    with pytest.raises(ValueError, match=r"known to hold labels, name one with label_column .*: image \(Image\), id"):
        images_of(rows, 48, labels=True)
    assert images_of(rows, 48, labels=True, label_column="id").targets == (0,) * 6
    lists = Dataset.from_dict(
        {"image": [[{"bytes": contents[0], "path": None}]]}, Features({"image": List(datasets.Image())})
    )
    with pytest.raises(ValueError, match=r"image \(List\)"):
        images_of(lists, 48)


@pytest.mark.parametrize(("label", "said"), [(None, "None"), (-1, "-1")])
def test_rows_without_a_label(contents, label, said):
    rows = table(contents, [0, 1, label, 0, 0, 0])
    with pytest.raises(ValueError, match=f"row 2 has no label, its 'label' is {said}"):
        images_of(rows, 48, labels=True)
    assert len(images_of(rows, 48)) == 6


# ---------------------------------------------------------------------------------------------------------------------
# Files that cannot be read, splits, the hub


def test_splits(tmp_path, contents):
    where = places(tmp_path, table(contents))
    assert len(open_images(where["splits"], 48, split="validation")) == 1
    with pytest.raises(ValueError, match=r"has no split 'test'; choose one with split \(--split\): train, validation"):
        open_images(where["splits"], 48, split="test")
    with pytest.raises(ValueError, match="has no splits, but 'test' was asked for"):
        open_images(where["saved"], 48, split="test")
    DatasetDict(validation=table(contents)).save_to_disk(tmp_path / "only")
    assert len(open_images(tmp_path / "only", 48)) == 6
    DatasetDict(a=table(contents), b=table(contents)).save_to_disk(tmp_path / "two")
    with pytest.raises(ValueError, match=r"has no split 'train'; choose .*: a, b"):
        open_images(tmp_path / "two", 48)


@pytest.mark.parametrize("keep", [0, 4, 1000, 20_000])
def test_files_that_are_cut_off(tmp_path, contents, keep):
    where = places(tmp_path, table(contents))
    for path in (where["arrow"][0], tmp_path / "plain.parquet"):
        cut = tmp_path / f"cut{path.suffix}"
        cut.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ValueError, match=rf"cut{path.suffix} is cut off") as caught:
            open_images([path, cut], 48)
        assert "\n" not in str(caught.value)


def test_damaged_saved_folder(tmp_path, contents):
    table(contents).save_to_disk(tmp_path / "saved")
    next((tmp_path / "saved").glob("*.arrow")).unlink()
    with pytest.raises(ValueError, match=r"saved cannot be read \(FileNotFoundError"):
        open_images(tmp_path / "saved", 48)


def test_arrow_files_of_the_other_layout_are_refused(tmp_path):
    data = pa.table({"jpg": pa.array([encoded(0)])})
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), data.schema) as out:
        out.write_table(data)
    with pytest.raises(ValueError, match=r"x\.arrow has Arrow's file layout \(Feather\).*save it as Parquet"):
        open_images(tmp_path / "x.arrow", 48)


def test_files_whose_columns_differ(tmp_path, contents):
    places(tmp_path, table(contents))
    said = (
        r"x-0\.parquet and .*plain\.parquet cannot be opened together.*: image \(.*, label \(.*; jpg \(binary\), cls "
    )
    with pytest.raises(ValueError, match=said):
        open_images([tmp_path / "x-0.parquet", tmp_path / "plain.parquet"], 48)
    arrow = sorted((tmp_path / "saved").glob("*.arrow"))[0]
    with pytest.raises(ValueError, match=r"struct\.arrow cannot be opened together"):
        open_images([arrow, tmp_path / "struct.arrow"], 48)


def test_the_hub_is_asked_for_name_subset_and_split(monkeypatch, contents):
    asked = []

    def load_dataset(path, name=None, split=None):
        asked.append((path, name, split))
        return table(contents)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    images = open_images("ILSVRC/imagenet-1k", 48, labels=True)
    open_images("owner/name", 48, split="validation", subset="small")
    assert asked == [("ILSVRC/imagenet-1k", None, "train"), ("owner/name", "small", "validation")]
    assert (images.where, images.classes) == ("ILSVRC/imagenet-1k", ("cat", "dog"))


def test_the_hub_out_of_reach_is_one_line(monkeypatch):
    """The real call, told to stay offline."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="reach") as caught:
        open_images("owner/no-such-dataset", 48)
    assert str(caught.value).startswith(
        "there is no file or folder owner/no-such-dataset, so it was taken for the name of a dataset on the Hugging "
        "Face hub, split train, and datasets could not load that (ConnectionError: "
    )
    assert "\n" not in str(caught.value)


def test_libraries_are_imported_only_when_wanted():
    code = (
        "import sys\nfrom diffusab_core import data\n"
        "far = {'datasets', 'pyarrow', 'pandas', 'diffusers', 'scipy', 'skimage', 'sklearn'}\n"
        "assert not far & set(sys.modules), far & set(sys.modules)\n"
        "data.open_images('photos', 32)[0]\n"
        "assert not {'datasets', 'pyarrow', 'pandas', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
