"""What a report is at, in plain lines, where nobody watches a progress bar: in a log, or behind a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TextIO

#: Wraps a part of the work, and is told what it is.
StageLike = Callable[[str], AbstractContextManager[None]]


@contextmanager
def silently(what: str) -> Iterator[None]:
    """Say nothing."""
    yield


@contextmanager
def in_lines(what: str, stream: TextIO | None = None) -> Iterator[None]:
    """Write ``what ... 12 s`` to a stream (standard error), the seconds when it is over; a line that fails has none."""
    stream = stream or sys.stderr
    stream.write(f"{what} ...")
    stream.flush()
    began, took = time.monotonic(), ""
    try:
        yield
        took = f" {time.monotonic() - began:.0f} s"
    finally:
        stream.write(f"{took}\n")
        stream.flush()


def choose_stage() -> StageLike:
    """Lines, but for a terminal, which has a progress bar, and where there is no standard error."""
    return silently if sys.stderr is None or sys.stderr.isatty() else in_lines
