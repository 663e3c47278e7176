"""Files that are written whole or not at all, digests, differences in words, and the error that is a user's mistake."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class DiffusabError(Exception):
    """A mistake that its message explains in one line, which the command line prints without a traceback.

    It says what is wrong, the offending value, and what to do about it.
    """


class SettingsError(DiffusabError, ValueError):
    """A setting or a choice that cannot be used; the message names it and its value."""


@contextmanager
def writing(path: str | os.PathLike, *, alone: bool = False) -> Iterator[Path]:
    """A file under its final name is always whole: yields a name beside it to write to, then flushes and renames it.

    If the block raises, nothing is left and what was there stays. Nest several (``contextlib.ExitStack``) to write all
    files before the first gets its name. Folders that are missing are made. Where no other process can write the same
    file (``alone``) the temporary name is ``NAME.tmp``, which the next run writes over; by default it is random, and
    one that a killed process left stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.tmp" if alone else f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield partial
        flush(partial)
        partial.replace(path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, data: bytes, *, alone: bool = False) -> Path:
    """Write a file as :func:`writing` does; returns its path."""
    with writing(path, alone=alone) as partial:
        partial.write_bytes(data)
    return Path(path)


def write_text(path: str | os.PathLike, text: str, *, alone: bool = False) -> Path:
    """Write UTF-8 text as :func:`writing` does; returns its path."""
    return write_bytes(path, text.encode(), alone=alone)


def write_json(path: str | os.PathLike, value: Any, *, indent: int | None = 1, alone: bool = False) -> Path:
    """Write a plain value as JSON, as :func:`writing` does; NaN and infinity, unknown to JSON, are a ``ValueError``."""
    return write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n", alone=alone)


def flush(path: Path) -> None:
    """Make sure that a file's contents, or a folder's names, are on the disk: a full disk may say so only now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest_file(path: str | os.PathLike) -> str:
    """SHA-256, 64 hexadecimal digits, of a file's bytes, read piece by piece."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of a plain value; the order of a dictionary's entries does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_tensors(tensors: Iterable[Tensor]) -> str:
    """SHA-256 of types, shapes and bytes, in the given order."""
    import torch  # here, so that nobody pays for it who only writes a file

    digest = hashlib.sha256()
    for value in tensors:
        digest.update(f"{value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def differences(
    found: Mapping[str, Any], wanted: Mapping[str, Any], keys: Iterable[str] | None = None, word: str = "->"
) -> str:
    """What differs between two identities, ``"seed 0 -> 1; steps 10 -> None"``; an empty string if nothing does.

    A missing entry counts as ``None``. Without ``keys`` all entries of both are compared, in alphabetical order.
    """
    keys = sorted(found.keys() | wanted.keys()) if keys is None else keys
    return "; ".join(
        f"{key} {found.get(key)!r} {word} {wanted.get(key)!r}" for key in keys if found.get(key) != wanted.get(key)
    )


def first_line(error: BaseException, limit: int = 120) -> str:
    """An error in one line: its kind and the first line of its message, or what the operating system says."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:limit]}" if lines else type(error).__name__
