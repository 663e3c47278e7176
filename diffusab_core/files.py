"""Files that are written whole or not at all, digests, differences in words, and the error that is a user's mistake."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from torch import Tensor


class DiffusabError(Exception):
    """A mistake that its message explains in one line, which the command line prints without a traceback.

    It says what is wrong, the offending value, and what to do about it.
    """

    shell: str | None = None  #: The same where an option has another name in a shell than in Python

    def at_shell(self, text: str) -> Self:
        """This error, which a command line prints in these words."""
        self.shell = text
        return self


class DiffusabWarning(UserWarning):
    """Something that a run goes on over and its reader should know; the command line prints it as one line."""


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
    """Write UTF-8 text, made :func:`printable`, as :func:`writing` does; returns its path."""
    return write_bytes(path, printable(text).encode(), alone=alone)


def printable(text: str) -> str:
    r"""Text as UTF-8 can hold it: a byte of a file's name that is no UTF-8 becomes ``\xe9``, four plain characters."""
    text = re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)  # as os.fsdecode has it
    return text.encode(errors="backslashreplace").decode()


def make_printable(value: Any) -> Any:
    """A plain value with all of its texts :func:`printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {make_printable(key): make_printable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        entries = [make_printable(entry) for entry in value]
        return entries if isinstance(value, list) else tuple(entries)
    return value


def write_json(path: str | os.PathLike, value: Any, *, indent: int | None = 1, alone: bool = False) -> Path:
    """Write a plain value as JSON, as :func:`writing` does; NaN and infinity, unknown to JSON, are a ``ValueError``."""
    return write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n", alone=alone)


def flush(path: Path) -> None:
    """Make sure that a file's contents, or a folder's names, are on the disk: a full disk may say so only now.

    Windows opens no folders, and flushes only files that are open for writing.
    """
    try:
        handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def guess_place(path: str | os.PathLike) -> str:
    """For the message of a path that is not there: in brackets the one that is there and is spelled almost alike in one
    part, with a space in front; else nothing."""
    path = there = Path(path)
    while not there.parent.is_dir() and there != there.parent:
        there = there.parent
    with suppress(OSError):
        names = [name for name in os.listdir(there.parent) if not name.startswith(".")]
        for name in difflib.get_close_matches(there.name, names):
            if (found := there.parent / name / path.relative_to(there)).exists():
                return f" (did you mean {printable(str(found))}?)"
    return ""


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

    A missing entry counts as ``None``. Without ``keys`` all entries of both are compared, in alphabetical order. Of
    dictionaries only the entries that differ are named, as ``latents.seed``.
    """
    keys, told = sorted(found.keys() | wanted.keys()) if keys is None else keys, []
    for key in keys:
        a, b = found.get(key), wanted.get(key)
        if a == b:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            inside = ({f"{key}.{name}": value for name, value in side.items()} for side in (a, b))
            told.append(differences(*inside, word=word))
        else:
            told.append(f"{key} {a!r} {word} {b!r}")
    return "; ".join(told)


def first_line(error: BaseException, limit: int = 120) -> str:
    """An error in one line: its kind and the first line of its message, or what the operating system says."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:limit]}" if lines else type(error).__name__


def lock(handle: int, wait: bool = True, shared: bool = False) -> None:
    """Lock an open file until it is closed; where another process has, wait, or a ``BlockingIOError``.

    Shared locks hold beside each other, and not beside one that is not. Windows has other locks than these, and nobody
    waits there.
    """
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def _read_limit(folder: Path) -> float:
    """What one control group grants, in cores: ``cpu.max`` of version 2, two files of version 1."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        granted = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or the word "max"
        return math.inf
    return granted if granted > 0 else math.inf  # -1 is no limit


def read_quota(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Cores' worth of time that Linux grants this process, as by ``docker run --cpus``; infinite without a limit.

    The least of what its control groups, and those that they are in, are granted.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return math.inf
    least = math.inf
    for _, controllers, path in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = groups / "cpu" if controllers else groups
        folder = top / path.strip("/")
        for place in (folder, *folder.parents):
            least = min(least, _read_limit(place))
            if place == top:
                break
    return least


def count_cores() -> int:
    """The cores that this process may use; where the system does not say (macOS, Windows), those of the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, math.ceil(min(read_quota(), cores))))


def count_threads() -> int:
    """How many threads one computation should have: one for each core that is idle, and for half of the cores at least.

    Threads that wait for each other at every operation are slower than one where others use the cores. How many do is
    the system's load over the last minute, which may be what has just ended: hence the half. Where the system does not
    say, all cores count as idle.
    """
    cores = count_cores()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    idle = round((os.cpu_count() or 1) - load)
    return max(1, cores // 2, min(cores, idle))


@contextmanager
def turn(path: str | os.PathLike) -> Iterator[None]:
    """Wait until no other process holds this file's lock, and hold it; a process that ends, however it does, frees it.

    Where the file system has no locks nobody waits.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with suppress(OSError):
            lock(handle)
        yield
    finally:
        with suppress(OSError):
            unlock(handle)
        os.close(handle)


@contextmanager
def sole_holder(folder: str | os.PathLike, refusal: DiffusabError, patience_s: float = 0.0) -> Iterator[None]:
    """A folder, made if need be, while no other process holds it so; ``refusal`` is raised where one goes on to.

    Nothing is written for it, and a process that ends, however it does, frees the folder. Where the file system has no
    such locks, nobody is refused.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders, and has no such locks
        yield
        return
    try:
        _take(handle, refusal, patience_s)
        yield
    finally:
        with suppress(OSError):
            unlock(handle)
        os.close(handle)


def _take(handle: int, refusal: DiffusabError, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return lock(handle, wait=False)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise refusal from None
        except OSError:  # no locks on this file system
            return None
        time.sleep(0.2)


def unlock(handle: int) -> None:
    """Free what :func:`lock` has taken, also where processes that were forked meanwhile still have the file open."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(handle, fcntl.LOCK_UN)
