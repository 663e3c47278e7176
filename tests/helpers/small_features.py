"""What the tests of sample metrics measure, alone or on one of several ranks.

A file of its own, as processes that are spawned import it by its name.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from diffusab_core.experiments.samples import claim_folder
from diffusab_core.metrics import evaluate_samples, reference
from diffusab_core.training.world import World


class Toy(nn.Module):
    """Six features that are linear in the pixels, and three classes."""

    name, dimensions, digest = "toy", 6, "0badcafe"

    def __init__(self, seed=0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(48, 6, generator=torch.Generator().manual_seed(seed)))
        self.eval()

    def forward(self, images):
        return images.flatten(1) @ self.weight

    def class_probabilities(self, features):
        return features[:, :3].softmax(1)


def pictures(n, seed, spread=0.4):
    return (torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * spread).clamp(-1, 1)


def quiet(*args, **kwargs):
    return evaluate_samples(*args, progress=False, **kwargs)


def known(images, features, **kwargs):
    return reference(images, features, progress=False, **kwargs)


def on_one_rank(rank, size, folder, counts):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    world, toy = World(rank, size), Toy()
    real, fake = pictures(200, 0), pictures(counts, 1)
    ref = known(real[rank::size].split(7), toy, world=world, neighbours_up_to=60, cache=folder / "cache.safetensors")
    found = quiet(fake[rank::size].split(16), ref, toy, world=world, precision_recall=50)
    errors = []
    for cause in (
        lambda: known([], toy, world=world, cache=folder / "cache.safetensors", identity={"images": "b"}),
        lambda: quiet([] if rank else [pictures(3, 1)], ref, toy, world=world),
        lambda: claim_folder(folder / "samples", {"seed": 0}, world),  # no error
        lambda: claim_folder(folder / "samples", {"seed": 1}, world),
    ):
        try:
            cause()
        except ValueError as error:
            errors.append(str(error))
    torch.save((found, errors, ref.neighbours), folder / f"{rank}.pt")
    dist.destroy_process_group()
