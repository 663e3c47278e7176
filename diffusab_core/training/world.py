"""One process or many: the world of a training run, sharding, and what is gathered from all processes.

``torchrun --nproc-per-node 8 -m diffusab_book train …`` starts the same program several times. Each process opens
:func:`world`, shards its module (:func:`shard`) and trains its parts of every batch
(:func:`diffusab_core.training.train`). Without torchrun the same lines run in one process and nothing is sharded.

torchrun replaces killed processes with ``--max-restarts N``. Set ``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`` in its
environment then: by default the restarted processes meet in the store of the dead ones and can wait for ever.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from diffusab_core.files import DiffusabError, first_line, sole_holder

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)  #: How long a process waits for the others, unless :func:`world` is told otherwise
PATIENCE = timedelta(days=7)  #: How long the others wait for the first one's long work

ENDING_S = 60.0  #: How long a run waits for another to end in its folder: one that was killed takes seconds


class WorldError(DiffusabError, ValueError):
    """Processes that do not make a world, or work that several processes cannot share."""


@dataclass(frozen=True)
class World:
    """This process among those of a run: its number from 0, how many there are, and where it computes."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process draws progress bars and writes logs and results."""
        return self.rank == 0


@contextmanager
def world(device: str | torch.device = "auto", timeout: timedelta = TIMEOUT) -> Iterator[World]:
    """The world that torchrun describes in the environment; one process without it.

    Where there are several processes, a process group (gloo on a CPU, NCCL on CUDA) is opened, and closed after. One
    that is open already is used and left open. A :class:`WorldError` for an incomplete environment, more processes
    than GPUs, or a device that several cannot share.

    Args:
        device: ``"auto"`` is CUDA where there is one, else MPS (one process only), else the CPU; ``"cuda"`` is the GPU
            of the process's local rank.
        timeout: How long a process waits for the others before all give up; see :func:`on_main` for long work.
    """
    rank, size, local_rank = _environment()
    if size > 1 and str(device) not in ("auto", "cpu", "cuda"):
        raise WorldError(f"{size} processes cannot share the device {str(device)!r}, name cpu or cuda")
    if size > 1 and str(device) == "auto" and not torch.cuda.is_available():
        device = "cpu"  # never MPS, which processes cannot share
    chosen = resolve_device(device)
    if chosen.type == "cuda":
        if chosen.index is None and local_rank >= torch.cuda.device_count():
            raise WorldError(f"local rank {local_rank} has no GPU, this machine has {torch.cuda.device_count()}")
        chosen = torch.device("cuda", local_rank if chosen.index is None else chosen.index)
        torch.cuda.set_device(chosen)
    opens = size > 1 and not dist.is_initialized()
    if opens:
        options: dict[str, Any] = {"device_id": chosen} if chosen.type == "cuda" else {}
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=timeout, **options)
    yield World(rank, size, chosen)
    if opens:  # not after an exception: others may not have got here, and closing waits for them
        dist.destroy_process_group()


def alone(device: str | torch.device = "cpu") -> World:
    """The world of work that one process does; refused under torchrun, whose processes would overwrite each other."""
    size = _environment()[1]
    if size > 1:
        raise WorldError(f"this is work of one process, and torchrun started {size}: run it without torchrun")
    return World(device=torch.device(device))


def _environment() -> tuple[int, int, int]:
    """Rank, size and local rank."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    found = {name: int(os.environ[name]) for name in names if name in os.environ}
    if not found:
        return 0, 1, 0
    if missing := [name for name in names if name not in found]:
        raise WorldError(f"of torchrun's variables {', '.join(names)} the environment lacks {', '.join(missing)}")
    return found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"]


def resolve_device(text: str | torch.device) -> torch.device:
    """A device of this machine from its name, or a :class:`WorldError`; ``"auto"``: the first of CUDA, MPS and CPU."""
    has_mps = torch.backends.mps.is_available()
    if str(text) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    try:
        device = torch.device(text)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise WorldError(f"device {str(text)!r} is unknown; choose auto, cuda, mps or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        there = f"{count} CUDA devices, cuda:0 to cuda:{count - 1}" if count else "no CUDA device that torch can use"
        raise WorldError(f"device {text} is not there: this machine has {there}; try auto")
    if device.type == "mps" and not has_mps:
        raise WorldError(f"device mps is not there: it needs macOS on Apple silicon, this is {platform.platform()}")
    return device


def shard(module: nn.Module, world: World, blocks: Iterable[nn.Module] = ()) -> None:
    """Shard a module's parameters over the processes, in place; nothing is done in a world of one.

    Every parameter, gradient and optimiser state is cut along its first axis, one piece a process (FSDP2). Every
    process ends with the weights of process 0, and gradients are averaged. Make optimisers after this call, and call
    the module itself, not its methods: parameters are gathered around ``forward``. Compile blocks in place
    (``block.compile()``) and wrap nothing after.

    The module comes whole, on ``world.device`` already. ``blocks``, such as those of a transformer, are gathered one at
    a time, the rest once.
    """
    if world.size == 1:
        return
    for tensor in (*module.parameters(), *module.buffers()):
        dist.broadcast(tensor.detach(), src=0)
    # Named, as by default a CPU run on a machine with GPUs would get the GPUs' mesh.
    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)


def is_sharded(module: nn.Module) -> bool:
    """Whether any parameter is."""
    return any(isinstance(p, DTensor) for p in module.parameters())


def local(tensor: Tensor) -> Tensor:
    """This process's piece of a sharded tensor, sharing its memory; any other tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def reduce_gradients(module: nn.Module, now: bool) -> None:
    """Whether the next backward pass averages gradients over the processes, or only adds them up in each."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(now)


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients down to the norm ``limit``; returns the norm that they had, of the pieces of all processes.

    Clipped by the norm of its own piece, each would scale it by another factor and turn the gradient's direction.
    """
    parameters = list(parameters)
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


@torch.no_grad()
def unsharded(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A copy of plain, whole tensors on the CPU, in every process; all of them have to call it."""
    return {
        name: value.full_tensor().cpu() if isinstance(value, DTensor) else value.detach().to("cpu", copy=True)
        for name, value in state_dict.items()
    }


# ---------------------------------------------------------------------------------------------------------------------
# What all processes have to agree on: plain values. Each of these has to be called by all of them.


def mean(tensor: Tensor, world: World) -> Tensor:
    """The mean over the processes; in a world of one the tensor itself."""
    if world.size == 1:
        return tensor
    total = tensor.detach().to(world.device, copy=True)
    dist.all_reduce(total)  # a sum: gloo has no mean
    return total / world.size


def barrier(world: World) -> None:
    """Wait until every process has come here."""
    mean(torch.zeros(1), world).item()  # reading the value waits for the GPU, too


def from_main(value: T, world: World) -> T:
    """What process 0 was given; the argument of the others is ignored."""
    if world.size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=world.device)
    return box[0]


def gather(value: T, world: World) -> list[T]:
    """What each process was given, in the order of ranks."""
    values = [value] * world.size
    if world.size > 1:
        dist.all_gather_object(values, value)
    return values


def on_main(world: World, compute: Callable[[], T]) -> T:
    """What process 0 computes, in every process, however long it takes.

    The others wait in a group of their own, as that of the world gives up after its timeout. What is raised in process
    0 is raised in all; in the others a :class:`WorldError` stands for anything but a ``ValueError`` or ``OSError``.
    """
    if world.size == 1:
        return compute()
    patient = dist.new_group(backend="gloo", timeout=PATIENCE)
    value = error = None
    try:
        value = compute() if world.is_main else None
    except Exception as raised:
        error = raised
    told = error if isinstance(error, ValueError | OSError | None) else WorldError(first_line(error))
    sent: list[Any] = [value, told]
    dist.broadcast_object_list(sent, src=0, group=patient, device=torch.device("cpu"))
    if error or sent[1]:
        raise error or sent[1]
    return sent[0]


@contextmanager
def sole_world(folder: str | os.PathLike, refusal: DiffusabError, world: World) -> Iterator[None]:
    """A folder that no other run holds, see :func:`~diffusab_core.files.sole_holder`; ``refusal`` in all processes."""
    with ExitStack() as stack:
        on_main(world, lambda: stack.enter_context(sole_holder(folder, refusal, ENDING_S)))
        yield
