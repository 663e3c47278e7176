r"""``python -m benchmarks.denoiser_gpu``: DiT-XL/2 on a GPU, against diffusers' ``DiTTransformer2DModel`` of its size.

Training: one step is forward pass, squared error, backward pass and AdamW's update (fused), in bf16 autocast with
float32 weights, as the package trains. For latents of 32 x 32 x 4 and 32 x 32 x 16 it gives, of both models, eager and
with compiled blocks, and of the package's with self-conditioning in every step, as well: images per second, the peak of
allocated memory, and model FLOPs utilisation,

.. math:: \mathrm{MFU} = \frac{3 \times \text{FLOPs of the forward pass} \times \text{images per second}}{\text{peak}}

(the backward pass has twice the forward pass's matrix products; an auxiliary pass is counted as the work it is, one
forward pass more). FLOPs are those of matrix products and attention, two for a multiply-accumulate, counted by torch on
the package's model; the peer is taken to need the same. The default peak is dense bf16 of H100 and H200 (SXM).

Then sampling of 256 Euler steps and extraction of latents by an autoencoder of FluxAE's shape with random weights from
256 x 256 images. Results are printed and written to ``benchmarks/results-gpu.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import denoiser_step
from diffusab_core import denoisers
from diffusab_core.autoencoders import CATALOGUE, Autoencoder
from diffusab_core.latents import encoded
from diffusab_core.methods import denoising

RESULTS = Path(__file__).with_name("results-gpu.json")
NAME, CLASSES, SIDE, CHANNELS = "DiT-XL/2", 1000, 32, (4, 16)
PEAK = 989e12  # FLOP/s
WARMUP = 5  # steps before timing, in which compiling falls


def forward_flops(name: str, channels: int, side: int, classes: int) -> int:
    """FLOPs of one image's forward pass."""
    with torch.device("meta"):
        model = denoisers.build(name, in_channels=channels, input_size=side, num_classes=classes)
        x, t, y = torch.empty(1, channels, side, side), torch.empty(1), torch.empty(1, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x, t, y)
    return counter.get_total_flops()


def utilisation(flops: int, images_per_s: float, peak: float, hinted: bool = False) -> float:
    """Share of the peak that a training step's model FLOPs are; ``flops`` of one image's forward pass."""
    return (3 + hinted) * flops * images_per_s / peak


def compiled(model: nn.Module) -> nn.Module:
    """The same model with its blocks compiled in place."""
    for block in model.blocks if isinstance(model, denoisers.DiT) else model.transformer_blocks:
        block.compile()
    return model


def training_step(
    model: nn.Module, data: tuple[Tensor, Tensor, Tensor, Tensor], hinted: bool = False
) -> Callable[[], None]:
    """A whole step of a model of either kind, the optimiser's update included."""
    x, t, y, target = data
    ours = isinstance(model, denoisers.DiT)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.99), fused=x.device.type == "cuda")

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, torch.bfloat16):
            hint = None
            if hinted:
                with torch.no_grad():
                    _, hint = model(x, t, y, with_hint=True)
            v = model(x, t, y, hint=hint) if ours else model(x, 1000 * t, y, return_dict=False)[0]
        mse_loss(v.float(), target).backward()
        optimiser.step()

    return step


def seconds(function: Callable[[], object], rounds: int, warmup: int, device: torch.device) -> float:
    """Median time of a call, its kernels finished."""
    times = []
    for turn in range(warmup + rounds):
        begun = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn >= warmup:
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def contenders(
    name: str, channels: int, side: int, classes: int, device: torch.device
) -> dict[str, Callable[[], tuple[nn.Module, bool]]]:
    """Makers of models, so that one at a time is in memory, and whether it is trained with a hint."""

    def ours() -> nn.Module:
        model = denoisers.build(name, in_channels=channels, input_size=side, num_classes=classes)
        return denoiser_step.randomise(model).to(device)

    def theirs() -> nn.Module:
        return denoiser_step.randomise(denoiser_step.peer(name, channels, side, classes)).to(device)

    return {
        "DiT": lambda: (ours(), False),
        "DiT, compiled": lambda: (compiled(ours()), False),
        "DiT, compiled, self-conditioned": lambda: (compiled(ours()), True),
        "DiTTransformer2DModel": lambda: (theirs(), False),
        "DiTTransformer2DModel, compiled": lambda: (compiled(theirs()), False),
    }


def measure_training(
    n: int,
    channels: int,
    rounds: int,
    device: torch.device,
    *,
    name: str = NAME,
    side: int = SIDE,
    classes: int = CLASSES,
    peak: float = PEAK,
    only: tuple[str, ...] = (),
) -> list[dict]:
    """A row for each contender; one that does not fit into memory has no figures."""
    flops = forward_flops(name, channels, side, classes)
    data = denoiser_step.batch(n, channels, side, classes, str(device))
    rows = []
    for title, make in contenders(name, channels, side, classes, device).items():
        if only and title not in only:
            continue
        row = {"contender": title, "model": name, "latents": [channels, side, side], "batch": n}
        torch.compiler.reset()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        try:
            model, hinted = make()
            took = seconds(training_step(model, data, hinted), rounds, WARMUP, device)
        except torch.OutOfMemoryError:
            rows.append(row | {"images_per_s": None, "memory_gib": None, "utilisation": None})
            continue
        finally:
            model = None
        used = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
        rows.append(
            row
            | {
                "images_per_s": round(n / took, 2),
                "memory_gib": None if used is None else round(used, 2),
                "utilisation": round(utilisation(flops, n / took, peak, hinted), 5),
            }
        )
    return rows


def measure_sampling(
    n: int, channels: int, device: torch.device, *, name: str = NAME, side: int = SIDE, steps: int = 256
) -> dict:
    """Samples per second of one batch, blocks compiled, without guidance."""
    model = denoisers.build(name, in_channels=channels, input_size=side, num_classes=CLASSES)
    model = compiled(denoiser_step.randomise(model).to(device).eval())

    def draw(count: int) -> Callable[[], object]:
        settings = denoising.Sampling(samples=n, batch_size=n, steps=count, precision="bf16")
        return lambda: list(denoising.sample_batches(model, settings, (channels, side, side), CLASSES))

    draw(min(steps, 3))()  # compiles both forms, with and without a hint
    took = seconds(draw(steps), 1, 0, device)
    return {"model": name, "latents": [channels, side, side], "batch": n, "steps": steps,
            "samples_per_s": round(n / took, 4)}  # fmt: skip


def measure_extraction(
    n: int, rounds: int, device: torch.device, *, side: int = 256, module: nn.Module | None = None
) -> dict:
    """Images per second through the encoder, with the way to the GPU and back, in bf16 autocast."""
    module = CATALOGUE["FluxAE"].build() if module is None else module
    autoencoder = Autoencoder("benchmark", module.to(device).eval())
    x = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def encode() -> None:
        with torch.inference_mode():
            encoded.encode(autoencoder, x, "bf16")

    took = seconds(encode, rounds, 2, device)
    return {"images": [3, side, side], "batch": n, "images_per_s": round(n / took, 2)}


def table(rows: list[dict]) -> str:
    """Rows of training as text."""
    lines = ["contender                          latents    batch   images/s    memory   utilisation"]
    for row in rows:
        shape = "x".join(map(str, row["latents"]))
        figures = (
            "         out of memory"
            if row["images_per_s"] is None
            else f"{row['images_per_s']:10.1f} {row['memory_gib'] or float('nan'):5.1f} GiB {row['utilisation']:12.1%}"
        )
        lines.append(f"{row['contender']:34} {shape:10} {row['batch']:5} {figures}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.denoiser_gpu", description="Measure DiT-XL/2 on a GPU.")
    parser.add_argument("--batch", type=int, default=64, help="images in a training step (default: 64)")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each contender (default: 20)")
    parser.add_argument("--peak", type=float, default=PEAK, help="of the GPU in bf16, FLOP/s (default: %(default)g)")
    parser.add_argument("--steps", type=int, default=256, help="of sampling (default: 256)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes (default: %(default)s)")
    options = parser.parse_args(arguments)
    for name in ("batch", "rounds", "peak", "steps"):
        if not getattr(options, name) > 0:
            parser.error(f"--{name} must be positive, got {getattr(options, name)}")
    if not torch.cuda.is_available():
        sys.exit("python -m benchmarks.denoiser_gpu needs a GPU, and torch finds none")
    device = torch.device("cuda")

    training = []
    for channels in CHANNELS:
        rows = measure_training(options.batch, channels, options.rounds, device, peak=options.peak)
        print(table(rows), flush=True)
        training += rows
    print(f"Goal: at least 45% of {options.peak:.3g} FLOP/s, compiled.")
    sampling = [measure_sampling(options.batch, channels, device, steps=options.steps) for channels in CHANNELS]
    for row in sampling:
        print(f"Sampling {row['latents']}, {row['steps']} steps: {row['samples_per_s']:.2f} samples/s")
    extraction = measure_extraction(options.batch, options.rounds, device)
    print(f"Latents of {extraction['images']} by FluxAE's shape: {extraction['images_per_s']:.0f} images/s")
    record = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "peak_flops": options.peak,
        "rounds": options.rounds,
        "training": training,
        "sampling": sampling,
        "extraction": extraction,
    }
    options.output.write_text(json.dumps(record, indent=2) + "\n")
    print(f"Written to {options.output}")


if __name__ == "__main__":
    main()
