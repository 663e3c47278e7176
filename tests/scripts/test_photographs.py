"""The photograph pool: Qt's resource files, packages, and a manifest that nothing slips past."""

import hashlib
import io
import json
import shutil
import struct
import subprocess
import zlib

import pytest
from PIL import Image
from script_modules import load_script

from diffusab_core import data

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb here")


@pytest.fixture(scope="module")
def script():
    return load_script("photographs")


# ---------------------------------------------------------------------------------------------------------------------
# Qt's resource files


def make_rcc(files: dict[str, bytes], version: int = 3, compressed: frozenset[str] = frozenset()) -> bytes:
    """A resource file as Qt's rcc lays it out: breadth first, children beside each other."""
    top: dict = {}
    for path, content in files.items():
        *folders, name = path.split("/")
        place = top
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = content
    names, payload, nodes = b"", b"", []
    queue = [("", "", top)]
    following = 1
    while queue:
        path, name, value = queue.pop(0)
        offset = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        if isinstance(value, dict):
            nodes.append(struct.pack(">IHII", offset, 2, len(value), following))
            following += len(value)
            queue += [(f"{path}/{n}".lstrip("/"), n, v) for n, v in value.items()]
        else:
            flags = int(path in compressed)
            stored = struct.pack(">I", len(value)) + zlib.compress(value) if flags else value
            nodes.append(struct.pack(">IHHHI", offset, flags, 0, 0, len(payload)))
            payload += struct.pack(">I", len(stored)) + stored
    tree = b"".join(node + bytes(8) if version >= 2 else node for node in nodes)
    start = 20 + (4 if version >= 3 else 0)
    head = struct.pack(">4s4I", b"qres", version, start + len(payload) + len(names), start, start + len(payload))
    return head + bytes(start - 20) + payload + names + tree


FILES = {"gcompris/resource/kätzchen.webp": b"cat" * 50, "gcompris/resource/dog.webp": b"", "top.txt": b"top"}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_resource_file_gives_its_files_back(script, version):
    assert script.read_rcc(make_rcc(FILES, version)) == FILES
    packed = make_rcc(FILES, version, frozenset({"gcompris/resource/kätzchen.webp"}))
    assert len(packed) < len(make_rcc(FILES, version))
    assert script.read_rcc(packed) == FILES


def test_broken_resource_files_are_refused(script):
    whole = make_rcc(FILES)
    with pytest.raises(script.PhotographsError, match="b'RIFF'"):
        script.read_rcc(b"RIFF" + whole[4:])
    for length in (30, len(whole) - 10):
        with pytest.raises(script.PhotographsError, match="cut off"):
            script.read_rcc(whole[:length])
    # The root's first child is the root: a reader that believes it would never end.
    root = len(whole) - 22 * 6
    circle = whole[: root + 10] + struct.pack(">I", 0) + whole[root + 14 :]
    with pytest.raises(script.PhotographsError, match="node 0 holds node 0"):
        script.read_rcc(circle)


# ---------------------------------------------------------------------------------------------------------------------
# Packages and the manifest


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (80, 70), colour).save(file, "png")
    return file.getvalue()


@pytest.fixture
def pool(tmp_path):
    """Two pictures in a package, one of them in a resource file, and their manifest."""
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = "Package: pictures\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody\nDescription: pictures\n"
    (tree / "DEBIAN" / "control").write_text(control)
    (tree / "usr" / "share").mkdir(parents=True)
    red, blue = picture("red"), picture("blue")
    (tree / "usr" / "share" / "red.png").write_bytes(red)
    (tree / "usr" / "share" / "more.rcc").write_bytes(make_rcc({"in/blue.png": blue}))
    packages = tmp_path / "packages"
    packages.mkdir()
    if shutil.which("dpkg-deb"):
        command = ["dpkg-deb", "--root-owner-group", "-b", tree, packages / "pictures_1.0_all.deb"]
        subprocess.run(command, check=True, capture_output=True)
    rows = [["red.png", hashlib.sha256(red).hexdigest(), 0, 0]]
    rows += [["more.rcc!in/blue.png", hashlib.sha256(blue).hexdigest(), 0, 0, "held out"]]
    manifest = tmp_path / "photographs.toml"
    head = '[packages.pictures]\nversion = "1.0"\nroot = "usr/share"\nauthors = ["me"]\nlicences = ["CC0-1.0"]\n'
    manifest.write_text(head + f"files = {json.dumps(rows)}\n")
    return {"out": tmp_path / "out", "packages": packages, "manifest": manifest, "progress": False}


@needs_dpkg
def test_photographs_become_folders_that_open(script, pool):
    written = script.fetch(**pool)
    assert sorted(path.parent.name for path in written) == ["test", "train"]
    for split, colour in (("train", [1, -1, -1]), ("test", [-1, -1, 1])):
        images = data.open_images(pool["out"] / split, 64)
        assert len(images) == 1
        assert images[0].mean((1, 2)).tolist() == pytest.approx(colour)
    assert sorted(path.name for path in pool["out"].iterdir()) == ["test", "train"]


@needs_dpkg
def test_what_is_whole_stays_what_is_broken_or_gone_comes_back(script, pool):
    first = script.fetch(**pool)
    assert script.fetch(**pool) == []
    train, test = sorted(first, key=lambda path: path.parent.name, reverse=True)
    kept = train.stat().st_mtime_ns
    test.write_bytes(test.read_bytes()[:-5])
    assert script.fetch(**pool) == [test]
    assert train.stat().st_mtime_ns == kept
    train.unlink()
    assert script.fetch(**pool) == [train]


@needs_dpkg
def test_another_file_than_the_manifests_is_refused_and_not_written(script, pool):
    text = pool["manifest"].read_text()
    digest = text.split('"red.png", "')[1][:64]
    pool["manifest"].write_text(text.replace(digest, "0" * 64))
    with pytest.raises(script.PhotographsError, match=rf"red\.png of pictures_1\.0_all\.deb has sha256 {digest[:12]}"):
        script.fetch(**pool)
    assert list(pool["out"].glob("*/*.png")) == []
    pool["manifest"].write_text(text.replace("in/blue.png", "in/green.png"))
    with pytest.raises(script.PhotographsError, match=r"more\.rcc!in/green\.png is not in the package"):
        script.fetch(**pool)


def test_a_package_that_apt_does_not_have_is_one_line(script, pool, monkeypatch):
    text = pool["manifest"].read_text()
    pool["manifest"].write_text(text.replace("packages.pictures", "packages.no-such-package-at-all"))
    pool["packages"] = pool["packages"].parent / "none"
    with pytest.raises(script.PhotographsError, match="no-such-package-at-all") as caught:
        script.fetch(**pool)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(script.PhotographsError, match="no apt-get"):
        script.fetch(**pool)


@needs_dpkg
def test_a_package_that_is_cut_off_is_named(script, pool):
    file = next(pool["packages"].iterdir())
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(script.PhotographsError, match=r"pictures_1\.0_all\.deb cannot be unpacked"):
        script.fetch(**pool)


def test_the_committed_manifest_states_terms_and_holds_out_whole_files(script):
    versions, photographs = script.read_manifest()
    assert len(photographs) == 329
    assert {p.package for p in photographs} == set(versions)
    assert len({p.sha256 for p in photographs}) == len({(p.split, p.file) for p in photographs}) == len(photographs)
    assert all(len(p.sha256) == 64 and p.author and "/" not in p.file for p in photographs)
    free = {"GPL", "CC-BY", "CC-BY-SA", "CC0", "GFDL-NIV", "public-domain"}
    assert {p.licence.rstrip("+0123456789.").rstrip("-") for p in photographs} == free
    assert 30 <= sum(p.split == "test" for p in photographs) <= 40
