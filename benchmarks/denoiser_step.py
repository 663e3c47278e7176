r"""Time of one training step of a DiT on the CPU, against diffusers' ``DiTTransformer2DModel`` of the same size.

A step is forward pass, squared error, backward pass and clearing of gradients, without the optimiser's update, which
is the same AdamW for all and whose time goes with the number of parameters. Both models have the same width, depth,
heads, patch, channels and classes and see the same batch, with attention by torch's fused kernel and all weights
drawn from one distribution, so that no factor is zero. It is one thread's processor time, in which waiting for other
work does not count; contenders take turns.

Self-conditioning is off but for the contender that measures its price: an auxiliary pass without gradient, then the
step with its activations as the hint. At probability 0.9 the expected time is 0.1 x plain + 0.9 x conditioned.

The peer embeds time and class anew in every block, as the package's DiT does once, so that it has more parameters
(they are counted); it has a fixed table of positions where the package's DiT rotates queries and keys.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from benchmarks import block_dct
from diffusab_core import denoisers, flow

CASES = (("DiT-S/2", 4), ("DiT-B/2", 2))  # name and batch
CHANNELS, SIDE, CLASSES = 4, 32, 1000
PROBABILITY = 0.9  # of self-conditioning


def peer(name: str, channels: int, side: int, classes: int) -> DiTTransformer2DModel:
    """diffusers' model of the width, depth, heads and patch that the package's model of this name has."""
    size, patch = name.removeprefix("DiT-").split("/")
    width, depth, heads = denoisers.DIT_SIZES[size]
    return DiTTransformer2DModel(
        num_attention_heads=heads, attention_head_dim=width // heads, in_channels=channels, num_layers=depth,
        sample_size=side, patch_size=int(patch), num_embeds_ada_norm=classes,
    )  # fmt: skip


def randomise(model: nn.Module) -> nn.Module:
    """Weights such that nothing is zero or large; the numbers themselves do not matter for the time."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    return model.train()


def batch(n: int, channels: int, side: int, classes: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noisy latents, times, classes and the target."""
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(n, channels, side, side, generator=generator).to(device) for _ in range(2))
    t = flow.logit_normal_times(n, generator=generator).to(device)
    y = torch.randint(classes, (n,), generator=generator).to(device)
    return flow.interpolate(x, noise, t), t, y, flow.target(x, noise)


def step_of(model: nn.Module, data: tuple[Tensor, Tensor, Tensor, Tensor], hinted: bool = False) -> Callable[[], float]:
    """One step of a model of either kind, as a function without arguments that returns the loss."""
    x, t, y, target = data
    theirs = isinstance(model, DiTTransformer2DModel)

    def step() -> float:
        if theirs:
            v = model(x, 1000 * t, y, return_dict=False)[0]
        else:
            hint = None
            if hinted:
                with torch.no_grad():
                    _, hint = model(x, t, y, with_hint=True)
            v = model(x, t, y, hint=hint)
        loss = mse_loss(v.float(), target)
        loss.backward()
        model.zero_grad(set_to_none=True)
        return loss.item()

    return step


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _medians_ms(functions: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Median milliseconds of processor time; every round runs all of them, starting from the next one each time."""
    names = list(functions)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(1 + rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            begun = time.process_time()
            functions[name]()
            if turn:  # the first round warms up
                times[name].append(1e3 * (time.process_time() - begun))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(name: str, n: int, rounds: int, channels: int = CHANNELS, side: int = SIDE, classes: int = CLASSES) -> dict:
    """Times and ratios for one model; every round runs all contenders."""
    data = batch(n, channels, side, classes)
    ours = randomise(denoisers.build(name, in_channels=channels, input_size=side, num_classes=classes))
    theirs = randomise(peer(name, channels, side, classes))
    functions = {
        "DiT": step_of(ours, data),
        "DiTTransformer2DModel": step_of(theirs, data),
        "DiT, self-conditioned": step_of(ours, data, hinted=True),
    }
    with block_dct._torch_threads(1):
        times = _medians_ms(functions, rounds)
    plain, conditioned = times["DiT"], times["DiT, self-conditioned"]
    expected = (1 - PROBABILITY) * plain + PROBABILITY * conditioned
    return {
        "model": name,
        "batch": n,
        "latents": [channels, side, side],
        "torch_threads": 1,
        "rounds": rounds,
        "parameters": {"DiT": parameters(ours), "DiTTransformer2DModel": parameters(theirs)},
        "median_ms": {key: round(value, 1) for key, value in times.items()},
        "time_over_diffusers": round(plain / times["DiTTransformer2DModel"], 3),
        "self_conditioning_expected_over_plain": round(expected / plain, 3),
    }


def run(rounds: int) -> list[dict]:
    """One row for each case."""
    return [measure(name, n, rounds) for name, n in CASES]


def describe(rows: list[dict]) -> str:
    """The rows as text."""
    rounds = rows[0]["rounds"]
    lines = [f"A training step without the optimiser's update, one thread's processor time, median of {rounds} rounds:"]
    for row in rows:
        counts = ", ".join(f"{key} {count / 1e6:.2f}M" for key, count in row["parameters"].items())
        lines += [
            f"  {row['model']}, batch {row['batch']} of {'x'.join(map(str, row['latents']))} ({counts})",
            "    " + ", ".join(f"{key} {ms:.0f} ms" for key, ms in row["median_ms"].items()),
            f"    {row['time_over_diffusers']:.2f} x diffusers' time (goal: at most 1); self-conditioning with "
            f"probability {PROBABILITY} makes a step {row['self_conditioning_expected_over_plain']:.2f} x as long",
        ]
    return "\n".join(lines)
