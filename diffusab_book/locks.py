"""One process at a time for a run: locks that the kernel frees when their process ends, however it does."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from diffusab_core.files import DiffusabError, lock


class LockError(DiffusabError, RuntimeError):
    """Another process has the run; the message says which."""


@contextlib.contextmanager
def alone(file: Path, wait: bool, who: str) -> Iterator[int]:
    """An exclusive lock of this process; the kernel frees it when the process ends, however it does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            lock(handle, wait=False)
        except BlockingIOError:
            holder = file.read_text(encoding="utf-8").strip() or "another process"
            if not wait:
                raise LockError(f"{who} is being run by {holder}") from None
            print(f"{who} is being run by {holder}: waiting", file=sys.stderr, flush=True)
            lock(handle)
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        try:
            yield handle
        finally:
            os.ftruncate(handle, 0)  # before it is free: who waits next must not be told of this process
    finally:
        os.close(handle)


def hold(folder: Path, patience_s: float = 60.0) -> int:
    """Lock a run's folder for as long as this process, a notebook's kernel, lives.

    The kernel of a driver that was killed ends within a second or two, and must not write beside its successor.

    Raises:
        LockError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".kernel", os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            lock(handle, wait=False)
            return handle
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(handle)
                raise LockError(f"{folder} is in use by the kernel of another run") from None
            time.sleep(0.2)
