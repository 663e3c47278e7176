"""Weights and data that come over the network, in one folder for nodes that have none.

The folder holds the caches of the Hugging Face hub and of torch, and ``manifest.json`` with the size and SHA-256 of
each file. With ``DIFFUSAB_ASSETS`` naming it, every ``diffusab`` command looks there and nowhere else. What was cut off
goes on where it was; what is there is not fetched again.
"""

from __future__ import annotations

import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusab_book import chapters
from diffusab_book.sweeps.plan import Plan
from diffusab_core.files import DiffusabError, digest_file, first_line, write_json

MANIFEST = "manifest.json"
NETWORKS = ("inception", "dinov2", "alex", "vgg")  #: Networks whose weights are in no package
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w./-]+)?")


class FetchError(DiffusabError, OSError):
    """Something that cannot be fetched, or that is not what it should be."""


@dataclass(frozen=True)
class Asset:
    """One thing to fetch: files of a hub repository, or one file by its address."""

    what: str  #: In words
    repository: str = ""
    patterns: tuple[str, ...] = ()  #: Of the repository's files
    address: str = ""
    kind: str = "model"  #: Or ``dataset``, which is kept as plain files in ``data/``


def autoencoder(name: str) -> Asset:
    """The weights of a diffusers autoencoder: ``owner/name``, or ``owner/name:subfolder``."""
    repository, _, inside = name.partition(":")
    inside = f"{inside}/" if inside else ""
    return Asset(f"autoencoder {name}", repository, (f"{inside}config.json", f"{inside}*.safetensors*"))


def network(name: str) -> Asset:
    """The weights of a feature network or of LPIPS's backbone."""
    from diffusab_core.metrics.networks import weights_source

    repository, file = weights_source(name)
    what = f"LPIPS's backbone {name}" if name in ("alex", "vgg") else f"features {name}"
    return Asset(what, repository, (file,)) if repository else Asset(what, address=file)


def dataset(name: str) -> Asset:
    """A data set of the hub, as it is stored there."""
    return Asset(f"data set {name}", name, ("*",), kind="dataset")


def everything() -> list[Asset]:
    """All published autoencoders whose weights are known, and all networks."""
    from diffusab_core.autoencoders import CATALOGUE

    entries = [entry for entry in CATALOGUE.values() if entry.hub_id]
    names = [f"{entry.hub_id}:{entry.subfolder}" if entry.subfolder else entry.hub_id for entry in entries]
    return [*map(autoencoder, dict.fromkeys(names)), *map(network, NETWORKS)]


def needed(plan: Plan) -> tuple[list[Asset], list[str]]:
    """What the runs of a plan need that no package has, and the places that one has to bring oneself."""
    found: dict[str, Asset] = {}
    places: dict[str, None] = {}
    for job in plan.jobs.values():
        for name, value in _values(job.spec).items():
            if name in ("autoencoder", "model") and _HUB_ID.fullmatch(value) and not Path(value).exists():
                found[value] = autoencoder(value)
            elif name in ("autoencoder", "model", "images", "reference_images", "held_out") and "/" in value:
                if not value.startswith("run:") and not Path(value).exists():
                    places[value] = None
            elif name == "features":
                found |= {one: network(one) for one in value if one in NETWORKS}
            elif name == "perceptual" and value in NETWORKS:
                found[value] = network(value)
    return list(found.values()), list(places)


def _values(spec: Any) -> Mapping[str, Any]:
    declared = chapters.parameters(spec.path)
    return {name: spec.parameters.get(name, parameter.default) for name, parameter in declared.items()}


# ---------------------------------------------------------------------------------------------------------------------
# Fetching


def fetch(
    folder: Path, assets: Sequence[Asset], *, endpoint: str | None = None, say: Callable[[str], None] = print
) -> None:
    """Put what is missing into the folder, and note each file in its manifest as soon as it is there.

    Args:
        endpoint: Another hub than Hugging Face's.

    Raises:
        FetchError: Something could not be fetched; the rest has been. The message names the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    for number, asset in enumerate(assets, 1):
        say(f"[{number}/{len(assets)}] {asset.what}")
        try:
            paths = [_download(folder, asset)] if asset.address else _snapshot(folder, asset, endpoint)
            _note(folder, paths, asset)
        except Exception as error:  # what a missing network raises depends on proxies and the hub library's version
            if isinstance(error, KeyboardInterrupt | MemoryError):
                raise
            failed.append(f"{asset.what}: {first_line(error)}")
            say(f"failed: {failed[-1]}")
    if failed:
        raise FetchError(f"{len(failed)} of {len(assets)} could not be fetched; the same command goes on. {failed[0]}")


def _snapshot(folder: Path, asset: Asset, endpoint: str | None) -> list[Path]:
    """Files of a hub repository; the hub's library resumes, and compares sizes."""
    from huggingface_hub import snapshot_download

    where: dict[str, Any] = {"cache_dir": folder / "huggingface" / "hub"}
    if asset.kind == "dataset":
        where = {"local_dir": folder / "data" / asset.repository.replace("/", "--")}
    options = {"repo_type": asset.kind, "allow_patterns": list(asset.patterns), "endpoint": endpoint}
    place = Path(snapshot_download(asset.repository, **options, **where))
    found = sorted(p for p in place.rglob("*") if p.is_file() and ".cache" not in p.relative_to(place).parts)
    wanted = [p for p in found if any(p.relative_to(place).match(pattern) for pattern in asset.patterns)]
    weights = [p for p in wanted if p.suffix == ".safetensors"]
    if asset.kind == "model" and not weights:
        raise FetchError(f"{asset.repository} has no {' or '.join(asset.patterns)}")
    for path in wanted:  # the hub's cache names a large file by its SHA-256
        blob = path.resolve().name
        if re.fullmatch("[0-9a-f]{64}", blob) and digest_file(path) != blob:
            path.resolve().unlink()
            raise FetchError(f"{path.name} of {asset.repository} was damaged on the way and has been removed")
    return wanted


def _download(folder: Path, asset: Asset) -> Path:
    """A file by its address, to where torch's hub looks, from where it was cut off.

    Its name may hold the start of its SHA-256, which is then compared.
    """
    from tqdm import tqdm

    path = folder / "torch" / "hub" / "checkpoints" / asset.address.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(asset.address, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            if answer.status != 206:  # it sends the whole file
                start = 0
            total = start + int(answer.headers.get("Content-Length", 0))
            bar = tqdm(total=total or None, initial=start, unit="B", unit_scale=True, desc=path.name, disable=None)
            with part.open("ab" if start else "wb") as file, bar:
                while piece := answer.read(1 << 20):
                    file.write(piece)
                    bar.update(len(piece))
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the part is whole already
            raise
        total = start
    if total and part.stat().st_size < total:
        raise FetchError(f"the connection ended after {part.stat().st_size} of {total} bytes")
    short = re.search(r"-([0-9a-f]{8,64})\.\w+$", path.name)
    if short and not digest_file(part).startswith(short[1]):
        part.unlink()
        raise FetchError(f"{path.name} has another SHA-256 than its name says, and has been removed")
    part.replace(path)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# The manifest


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    file = folder / MANIFEST
    try:
        return json.loads(file.read_text(encoding="utf-8"))["files"] if file.is_file() else {}
    except (ValueError, KeyError, TypeError) as error:
        raise FetchError(f"{file} is no manifest; move it away ({error})") from error


def _note(folder: Path, paths: Iterable[Path], asset: Asset) -> None:
    files = _read(folder)
    for path in paths:
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        if files.get(name, {}).get("bytes") != size:
            source = asset.address or f"hub: {asset.repository}"
            files[name] = {"bytes": size, "sha256": digest_file(path), "source": source}
    write_json(folder / MANIFEST, {"files": files}, alone=True)


def check(folder: Path, again: bool = True) -> list[str]:
    """What is wrong with the files of the manifest, a line each; files that are damaged are removed if ``again``.

    Raises:
        FetchError: The folder has no manifest.
    """
    files = _read(folder)
    if not files:
        raise FetchError(f"{folder} has no {MANIFEST}: nothing has been fetched there")
    wrong = []
    for name, about in files.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif path.stat().st_size != about["bytes"] or digest_file(path) != about["sha256"]:
            wrong.append(f"{name} is damaged")
            if again:
                path.resolve().unlink()
                path.unlink(missing_ok=True)
    return wrong


def describe(folder: Path) -> str:
    """How much there is, and how a node finds it."""
    files = _read(folder)
    size, free = sum(about["bytes"] for about in files.values()) / 1e9, shutil.disk_usage(folder).free / 1e9
    how = f"On the nodes: export DIFFUSAB_ASSETS={folder.resolve()}"
    return f"{len(files)} files, {size:.2f} GB ({free:.0f} GB free). {how}"
