"""``python -m benchmarks``: measure, print the ratios, write ``benchmarks/results.json``."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import block_dct, denoiser_step, frechet

RESULTS = Path(__file__).with_name("results.json")


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict:
    """What the figures depend on, the load of other work included."""
    model = platform.processor() or "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "cpu": model,
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "system": platform.system(),
        "load_average_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """Versions of everything that is timed."""
    packages = ("torch", "scipy", "numpy", "torch-dct", "einops", "torchmetrics", "diffusers")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed against peers.")
    parser.add_argument("--rounds", type=int, default=40, help="timed rounds of each case (default: 40)")
    parser.add_argument("--frechet-rounds", type=int, default=3, help="of the Fréchet distance (default: 3)")
    parser.add_argument("--denoiser-rounds", type=int, default=5, help="of a denoiser's training step (default: 5)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes (default: %(default)s)")
    options = parser.parse_args()
    for name in ("rounds", "frechet_rounds", "denoiser_rounds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")

    context = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
    }
    record = context | {
        "block_dct": measure_block_dct(options.rounds),
        "frechet": measure_frechet(options.frechet_rounds),
        "denoiser_step": measure_denoiser_step(options.denoiser_rounds),
    }
    options.output.write_text(json.dumps(record, indent=2) + "\n")
    print(f"\nWritten to {options.output}")


def measure_block_dct(rounds: int) -> dict:
    """Measure, print, and return what goes into the file."""
    rows = block_dct.run(sorted({1, usable_cores()}, reverse=True), rounds)
    print(f"Block DCT of {'x'.join(map(str, block_dct.SHAPE))} float32, median ms of {rounds} alternating rounds;")
    print(f"torch on the threads named, SciPy on all {usable_cores()} cores (the faster of its two forms counts).\n")
    print(block_dct.table(rows))
    print("\nGoals at block size 8: at most 1.1 x SciPy's time, at least 8 x faster than torch-dct.")
    for row in rows:
        if row["block_size"] == 8:
            print(
                f"  {row['torch_threads']} torch threads: {row['time_over_scipy']:.2f} x SciPy's time, "
                f"{row['speedup_over_torch_dct']:.1f} x faster than torch-dct"
            )
    gradients = [block_dct.measure_with_gradient(b, rounds) for b in (8, 4)]
    print("\nForward and backward pass, one thread, median ms:")
    for row in gradients:
        print(f"  B = {row['block_size']}: " + ", ".join(f"{name} {ms:.1f}" for name, ms in row["median_ms"].items()))
    return {
        "shape": list(block_dct.SHAPE),
        "dtype": "float32",
        "rounds": rounds,
        "rows": rows,
        "with_gradient": gradients,
    }


def measure_frechet(rounds: int) -> dict:
    """Likewise."""
    rows = [frechet.measure(usable_cores(), rounds)]
    print(
        "\nFréchet distance of two sets of features, statistics included, median s of", rounds, "alternating rounds:\n"
    )
    print(frechet.table(rows))
    print("\nGoals: at most 60 s, at least as fast as torchmetrics.")
    return {"rows": rows}


def measure_denoiser_step(rounds: int) -> dict:
    """Likewise."""
    rows = denoiser_step.run(rounds)
    print("\n" + denoiser_step.describe(rows))
    return {"rows": rows}


if __name__ == "__main__":
    main()
