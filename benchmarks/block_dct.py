r"""Speed of the block DCT against SciPy and torch-dct, all in one process, alternating, medians over many rounds.

Every contender gets the same contiguous float32 batch and has to deliver ``(N, C, H/B, W/B, B, B)`` coefficients, so
cutting into blocks is part of the work. SciPy is tried on a strided view of the blocks and on a contiguous copy, and
the faster of the two counts. The other ways that the package has, or could have, are timed beside the one it takes.
All results are compared before anything is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import scipy.fft
import torch
import torch_dct
from torch import Tensor

from diffusab_core import spectrum
from diffusab_core.spectrum import dct

SHAPE = (256, 16, 32, 32)
BLOCK_SIZES = (8, 16, 4, 32)  # the default first
LARGEST_DENSE = 16  # all B^2 frequencies from all B^2 pixels at once: hopeless beyond this size
TOLERANCE = 1e-4


def _blocks(x: np.ndarray | Tensor, b: int) -> np.ndarray | Tensor:
    """``(N, C, H, W)`` to a strided view ``(N, C, H/B, W/B, B, B)``."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // b, b, w // b, b).swapaxes(3, 4)


def contenders(x: Tensor, b: int) -> dict[str, Callable[[], np.ndarray | Tensor]]:
    """Functions without arguments that each transform ``x``; the first is what the package does."""
    array = x.numpy()

    def einsum() -> Tensor:
        basis = dct._basis(b, x.dtype, x.device, False)
        return torch.einsum("ui,nchwij,vj->nchwuv", basis, _blocks(x, b), basis)

    def scipy_dctn(blocks: np.ndarray) -> np.ndarray:
        return scipy.fft.dctn(blocks, axes=(-2, -1), norm="ortho", workers=-1)

    functions = {"block_dct": lambda: spectrum.block_dct(x, b), "by axis": lambda: dct._dct_by_axis(x, b)}
    if b <= LARGEST_DENSE:
        functions["product"] = lambda: dct._dct_by_product(x, b)
        functions["convolution"] = lambda: dct._dct_by_convolution(x, b)
    return functions | {
        "einsum": einsum,
        "SciPy, view": lambda: scipy_dctn(_blocks(array, b)),
        "SciPy, copy": lambda: scipy_dctn(np.ascontiguousarray(_blocks(array, b))),
        "torch-dct": lambda: torch_dct.dct_2d(_blocks(x, b), norm="ortho"),
    }


def _compare(functions: dict[str, Callable], b: int) -> None:
    reference = np.asarray(functions["SciPy, view"]())
    for name, function in functions.items():
        error = float(np.abs(np.asarray(function()) - reference).max())
        if error > TOLERANCE:
            raise RuntimeError(
                f"{name} differs from SciPy by {error:.2e} at block size {b}; its time would mean nothing"
            )


def _medians_ms(functions: dict[str, Callable], rounds: int, warmup: int = 3) -> dict[str, float]:
    """Median milliseconds of each; every round runs all of them, starting from the next one each time."""
    names = list(functions)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            begun = time.perf_counter()
            functions[name]()
            if turn >= warmup:
                times[name].append(1e3 * (time.perf_counter() - begun))
    return {name: statistics.median(values) for name, values in times.items()}


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(b: int, threads: int, rounds: int) -> dict:
    """Times and ratios for one block size, torch on ``threads`` threads and SciPy on all cores."""
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    with _torch_threads(threads):
        functions = contenders(x, b)
        _compare(functions, b)
        times = _medians_ms(functions, rounds)
    ours, scipy_best = times["block_dct"], min(times["SciPy, view"], times["SciPy, copy"])
    return {
        "block_size": b,
        "torch_threads": threads,
        "median_ms": {name: round(value, 3) for name, value in times.items()},
        "time_over_scipy": round(ours / scipy_best, 3),
        "speedup_over_torch_dct": round(times["torch-dct"] / ours, 2),
    }


def measure_with_gradient(b: int, rounds: int) -> dict:
    """Times of a forward and backward pass on one thread, for the choice between product and convolution."""
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    gradient = torch.randn_like(spectrum.block_dct(x, b))

    def both(transform: Callable[[Tensor, int], Tensor]) -> Callable[[], Tensor]:
        return lambda: torch.autograd.grad(transform(x, b), x, gradient)[0]

    functions = {
        "block_dct": both(spectrum.block_dct),
        "product": both(dct._dct_by_product),
        "convolution": both(dct._dct_by_convolution),
    }
    with _torch_threads(1):
        times = _medians_ms(functions, rounds)
    return {"block_size": b, "torch_threads": 1, "median_ms": {name: round(value, 3) for name, value in times.items()}}


def run(threads: list[int], rounds: int) -> list[dict]:
    """One row for each number of threads and block size."""
    return [measure(b, count, rounds) for count in threads for b in BLOCK_SIZES]


def table(rows: list[dict]) -> str:
    """The rows as text, times in ms."""
    names = list(rows[0]["median_ms"])
    header = ["threads", "B", *names, "ours / SciPy", "torch-dct / ours"]
    lines = [
        [str(row["torch_threads"]), str(row["block_size"])]
        + [f"{row['median_ms'][name]:.1f}" if name in row["median_ms"] else "-" for name in names]
        + [f"{row['time_over_scipy']:.2f}", f"{row['speedup_over_torch_dct']:.1f}"]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in [header, *lines]
    )
