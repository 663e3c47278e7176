"""The kernel that notebooks run in: this environment's Python, whatever kernels a user or the system has installed."""

from __future__ import annotations

import sys

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec


class OwnKernel(AsyncKernelManager):
    """Starts this process's own interpreter.

    Jupyter looks a kernel up by its name, in a user's folders before the environment's, and half of all users have one
    called ``python3`` there, of another environment.
    """

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python", interrupt_mode="signal")
