"""Processes that are killed as a power cut would: SIGKILL, which nothing catches."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence


def kill_once(command: Sequence[object], reached: Callable[[], bool], later_s: float = 0.0) -> None:
    """Start a command, and kill it ``later_s`` after ``reached()`` first holds; it must not have ended before."""
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not reached():
        time.sleep(0.002)
    time.sleep(later_s)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"{command[-1]} ended with {process.returncode} before it was killed"
