"""What the tests of distributed training train, alone or as a script under torchrun.

A file of its own, as torchrun starts scripts: test_distributed.py imports it for the run of one process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from diffusab_core import training
from diffusab_core.training import Settings, loop, state, train
from diffusab_core.training import world as worlds
from diffusab_core.training.state import CheckpointError
from diffusab_core.training.world import World

SETTINGS = Settings(steps=12, seed=3, learning_rate=1e-2, warmup=2, clip=0.05, ema_half_life=4)
EVERY = 4  # steps between checkpoints
BATCH = 8
TIMEOUT = timedelta(seconds=15)  # of the world
DATA = torch.randn(24, 5, 6, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(x)


class Small(nn.Module):
    """A transformer with what is awkward: an odd first axis, a buffer, a layer that is not used and one frozen."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.inner = nn.Linear(6, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.outer = nn.Linear(width, 6)
        self.odd = nn.Parameter(torch.ones(3, 6))
        self.unused = nn.Linear(4, 4)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.register_buffer("scale", torch.tensor([2.0]))

    def forward(self, x):  # (N, 5, 6) -> (N, 5, 6)
        h = self.inner(self.frozen(x) / self.scale)
        for block in self.blocks:
            h = block(h)
        return self.outer(h) * self.odd.prod(0)


def denoising(model, bad_part=None):
    """The loss; with ``bad_part``, NaN at step 3 in that part only."""

    def loss(step, generator, part=(0, 1)):
        index, parts = part
        share = slice(index * BATCH // parts, (index + 1) * BATCH // parts)
        x = DATA[training.batch_indices(step, BATCH, len(DATA), SETTINGS.seed)]
        noise = torch.randn(x.shape, generator=generator)  # of the whole batch
        x, noise = x[share], noise[share]
        error = (model(x + 0.5 * noise) - x).square().mean()
        if step == 3 and index == bad_part:
            error = error * float("nan")
        return error, {"mae": (x - noise).abs().mean()}

    return loss


def run(world: World, settings: Settings = SETTINGS, loss_of=denoising, model=None, **options):
    """Train, and return the module, the result and the gradient norm of every step."""
    if model is None:
        model = Small()
        worlds.shard(model, world, model.blocks)
    norms, clip = [], worlds.clip_gradients
    worlds.clip_gradients = lambda parameters, limit: norms.append(clip(parameters, limit)) or norms[-1]
    try:
        options = {"log_every": 1, "checkpoint_every": EVERY, "progress": False} | options
        trained = train(model, loss_of(model), settings, world=world, **options)
    finally:
        worlds.clip_gradients = clip
    return model, trained, norms


class Interrupted(Exception):
    pass


def interrupted_at(step, model):
    """The loss of a run that ends with an exception before ``step``."""
    inner = denoising(model)

    def loss(k, generator, **part):
        if k == step:
            raise Interrupted
        return inner(k, generator, **part)

    return loss


def run_until(step, world: World, folder: Path) -> None:
    """Leave the checkpoints of a run that was interrupted."""
    try:
        run(world, loss_of=lambda m: interrupted_at(step, m), checkpoint=folder)
    except Interrupted:
        return
    raise AssertionError("not interrupted")


def outcome(model, trained, norms) -> dict:
    """What a run led to, as plain values and tensors."""
    return {
        "loss": trained.series["loss"],
        "mae": trained.series["mae"],
        "norms": [norm.item() for norm in norms],
        "weights": worlds.unsharded(model.state_dict()),
        "ema": trained.ema,
        "resumed_from": trained.resumed_from,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Under torchrun


def compare(folder: Path, world: World) -> None:
    """All that needs no process to be killed, in one launch."""
    found = {"plain": outcome(*run(world))}
    found["accumulated"] = outcome(*run(world, replace(SETTINGS, accumulation=2)))
    loop._reads_late = lambda device: True  # as on CUDA
    found["late"] = outcome(*run(world, log_every=4, checkpoint=folder / "late"))
    model = Small()
    worlds.shard(model, world, model.blocks)
    with_nan = {"loss_of": lambda m: denoising(m, bad_part=1), "log_every": 6}
    found["late nan"] = _error(lambda: run(world, model=model, **with_nan))
    found["weights at late nan"] = worlds.unsharded(model.state_dict())
    loop._reads_late = lambda device: False
    found["on main"] = on_main(world)
    found["alone"] = _error(lambda: train(Small(), denoising(None), SETTINGS, checkpoint=folder / "alone"))
    found["whole refused"] = _error(lambda: run(world, model=Small()))

    model = Small()
    if not world.is_main:
        nn.init.zeros_(model.inner.weight)  # process 0's weights have to win
    worlds.shard(model, world, model.blocks)
    found["shares"] = {n: worlds.local(p).numel() / p.numel() for n, p in model.named_parameters()}
    found["start"] = worlds.unsharded(model.state_dict())

    found["clipping"] = clipping(world)

    run_until(10, world, folder / "of_two")
    found["resumed from one"] = outcome(*run(world, checkpoint=folder / "of_one"))
    found["other settings"] = _error(lambda: run(world, replace(SETTINGS, clip=0.5), checkpoint=folder / "of_two"))
    seen = []
    with_nan = {"loss_of": lambda m: denoising(m, bad_part=1), "on_log": lambda step, values: seen.append(step)}
    model = Small()
    worlds.shard(model, world, model.blocks)
    found["nan"] = _error(lambda: run(world, model=model, samples=lambda k: f"the batch of step {k}", **with_nan))
    found["weights at nan"] = worlds.unsharded(model.state_dict())
    found["logged"] = seen
    torch.save(found, folder / f"rank{world.rank}.pt")


def on_main(world: World) -> list:
    """What each process got of work that takes longer than the world's timeout, and of work that fails."""

    def work() -> str:
        time.sleep(2 * TIMEOUT.total_seconds())
        return f"by process {world.rank}"

    def miss() -> None:
        raise FileNotFoundError(2, "No such file or directory")

    return [
        worlds.on_main(world, work),
        _error(lambda: worlds.on_main(world, miss)),
        _error(lambda: worlds.on_main(world, lambda: 1 // 0)),
    ]


def clipping(world: World) -> dict:
    """One gradient (3, 4) in pieces of norms 3 and 4, clipped to norm 4.5: below 5, above each piece's own norm."""
    module = nn.Linear(1, 2, bias=False)
    worlds.shard(module, world)
    piece = torch.tensor([[3.0], [4.0]])
    module(torch.ones(1, 1)).mul(piece.T).sum().backward()
    own = worlds.local(module.weight.grad).clone()
    norm = worlds.clip_gradients(module.parameters(), 4.5)
    clipped = worlds.unsharded({"gradient": module.weight.grad})["gradient"]
    return {"own": own, "norm": norm.item(), "clipped": clipped}


def _error(call) -> str:
    try:
        call()
    except (training.TrainingDiverged, CheckpointError, ValueError, OSError, ArithmeticError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing raised"


def recover(folder: Path, world: World) -> None:
    """One run with checkpoints, in which the environment asks for a stop at some point.

    ``HOLD_AT_STEP=k`` stays before step k for ever; ``HOLD_IN_SAVE=k`` stays in the save of step k when process 0 has
    written its pieces and process 1 has not; ``HOLD_IN_COMMIT=k`` just before the checkpoint gets its final name;
    ``DIE_AT_STEP=k`` kills process 1 before step k on the first start.
    """
    (folder / f"pid{world.rank}_{os.getpid()}").touch()
    first_start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"

    def loss_of(model):
        inner = denoising(model)

        def loss(step, generator, **part):
            if str(step) == os.environ.get("HOLD_AT_STEP"):
                hold(folder, world)
            if str(step) == os.environ.get("DIE_AT_STEP") and world.rank == 1 and first_start:
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(step, generator, **part)

        return loss

    if "HOLD_IN_SAVE" in os.environ and world.rank == 1:
        hold_in_save(folder, world, f"step_{int(os.environ['HOLD_IN_SAVE']):08d}.tmp")
    if "HOLD_IN_COMMIT" in os.environ:
        hold_in_commit(folder, world, f"step_{int(os.environ['HOLD_IN_COMMIT']):08d}")
    found = outcome(*run(world, loss_of=loss_of, checkpoint=folder / "checkpoints"))
    torch.save(found, folder / f"rank{world.rank}.pt")
    (folder / f"starts{world.rank}.json").write_text(json.dumps(os.environ["TORCHELASTIC_RESTART_COUNT"]))


def hold_in_save(folder: Path, world: World, name: str) -> None:
    write = dcp.FileSystemWriter.write_data

    def write_data(self, *args, **kwargs):
        if Path(self.path).name == name:
            hold(folder, world)
        return write(self, *args, **kwargs)

    dcp.FileSystemWriter.write_data = write_data


def hold_in_commit(folder: Path, world: World, name: str) -> None:
    commit = state._commit

    def committing(partial, final):
        if final.name == name:
            hold(folder, world)
        commit(partial, final)

    state._commit = committing


def hold(folder: Path, world: World) -> None:
    """Say so and stay, until the test kills this process."""
    (folder / f"held{world.rank}").touch()
    while True:
        time.sleep(1)


if __name__ == "__main__":
    signal.alarm(900)  # ends a process that nothing else ended
    torch.set_num_threads(1)
    with worlds.world("cpu", TIMEOUT) as this_world:
        {"compare": compare, "recover": recover}[sys.argv[1]](Path(sys.argv[2]), this_world)
