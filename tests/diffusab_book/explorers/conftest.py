"""Records and grids of samples as sweeps leave them, for the explorers that show recorded runs."""

import zlib

import pytest
import torch

from diffusab_core.experiments import judging, records


def write_run(folder, arm, seed, number, **parameters):
    run = records.start("denoiser", parameters=parameters | {"seed": seed}, seed=seed, size="smoke", data="made up")
    run.metrics = {"best_gap_offline": number}
    run.finish().write(folder / f"{arm}-seed{seed}.json")
    generator = torch.Generator().manual_seed(zlib.crc32(f"{arm} {seed}".encode()))
    judging.write_samples(folder / f"{arm}-seed{seed}.webp", torch.rand(64, 3, 8, 8, generator=generator) * 2 - 1)


@pytest.fixture(scope="session")
def write():
    """Writes the record and the samples of a made-up run: folder, arm, seed, gap, parameters."""
    return write_run
