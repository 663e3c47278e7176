"""Train one denoiser recipe with and without FreqWarm on latents of few and many channels, and record its samples.

    python scripts/record_freqwarm.py                      every arm, seeds 0, 1 and 2
    python scripts/record_freqwarm.py c4 c4-r0.2 c64 c64-r0.2

An arm is an autoencoder and, after its first dash, a curriculum: the cutoff r0 in cycles per pixel, perhaps a schedule
or another length. All arms of an autoencoder take the same number of steps in all. The arms plain and se continue the
records of record_denoisers.py (the control and SE, at its sizes) with FreqWarm. One record for each arm and seed in
book/results/freqwarm/; what is recorded is left alone, and an interrupted run goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

from diffusab_core import autoencoders, data
from diffusab_core.latents.cache import LatentCache
from diffusab_core.latents.extraction import Extraction, extract
from diffusab_core.methods.denoising import Sampling
from diffusab_core.methods.freqwarm import FreqWarm, WarmedLatents

sys.path.insert(0, str(Path(__file__).resolve().parent))
import denoiser_bench
import record_denoisers
import recording

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "book" / "results" / "freqwarm"

CROPS, REFERENCE = 8192, 8192
RECIPE = {"denoiser": "DiT-XXS/1", "steps": 600, "batch_size": 32, "learning_rate": 1e-3}


def bench(resolution: int) -> denoiser_bench.Bench:
    return denoiser_bench.Bench(
        images=lambda: data.Photos(resolution, "train", seed=1, length=REFERENCE),
        words="other crops of the same photographs",
        resolution=resolution,
        recipe=RECIPE,
        final=Sampling(1024, steps=20),
        quick=Sampling(512, steps=8),
        snapshots=2,
    )


# Autoencoder, as in record_denoisers.py, and what it is measured with: latents are 8 x 8 everywhere.
F8, F16 = bench(64), bench(128)
AUTOENCODERS: dict[str, tuple[str, denoiser_bench.Bench]] = {
    "c4": ("kl-f8c4", F8),
    "c16": ("kl-f8c16", F8),
    "c64": ("kl-f8c64", F8),
    **{f"f16c{c}": (f"kl-f16c{c}", F16) for c in (64, 128, 256)},
    "plain": ("finetuning:plain", record_denoisers.BENCH),
    "se": ("finetuning:se", record_denoisers.BENCH),
}
QUARTER = RECIPE["steps"] // 4  # of the steps are the warm-up, where an arm says nothing else
CURRICULA: dict[str, FreqWarm] = {
    **{f"r{r:g}": FreqWarm(QUARTER, r) for r in (0.1, 0.2, 0.4)},
    **{f"r0.2-{schedule}": FreqWarm(QUARTER, 0.2, schedule) for schedule in ("linear", "cosine")},
    **{f"r0.2-steps{n}": FreqWarm(n, 0.2) for n in (60, 300)},
}
LEVELS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)  # radii of the caches that a widening schedule steps through

ARMS: dict[str, tuple[str, FreqWarm | None]] = {
    **{f"{c}{dash}{r}": (c, CURRICULA.get(r)) for c in ("c4", "c64") for dash, r in
       (("", ""), ("-", "r0.1"), ("-", "r0.2"), ("-", "r0.4"))},
    "plain-r0.2": ("plain", CURRICULA["r0.2"]),
    "se-r0.2": ("se", CURRICULA["r0.2"]),
    **{f"c64-{name}": ("c64", plan) for name, plan in CURRICULA.items() if name.count("-")},
    **{f"{c}{dash}{r}": (c, CURRICULA.get(r)) for c in ("c16", "f16c64", "f16c128", "f16c256") for dash, r in
       (("", ""), ("-", "r0.2"))},
}  # fmt: skip


def cached(where: str, resolution: int, radius: float | None) -> LatentCache:
    """Latents of the training crops, of low-passed ones if a radius is given; made first when they are missing."""
    name = f"{resolution}-{Path(where).name}" + (f"-low{radius:g}" if radius else "")
    settings = Extraction(where, "photos", resolution, samples=CROPS, dtype="float32", low_pass=radius)
    return extract(settings, ROOT / "runs" / "latents" / name, batch_size=64, progress=False)


def record(arm: str, seed: int) -> Path:
    out = RESULTS / f"{arm}-seed{seed}.json"
    if out.is_file():
        return out
    name, plan = ARMS[arm]
    source, chosen = AUTOENCODERS[name]
    where = record_denoisers.place(source, seed)
    latents = cached(where, chosen.resolution, None)
    if plan is not None:
        radii = (plan.r0,) if plan.schedule == "hard" else LEVELS
        latents = WarmedLatents(latents, plan, {r: cached(where, chosen.resolution, r) for r in radii})
    return denoiser_bench.measure(
        chosen, arm, seed, autoencoders.load(where), latents, out=out, folder=ROOT / "runs" / "freqwarm" / out.stem,
        source=source, special={}, with_shifts=False,
    )  # fmt: skip


if __name__ == "__main__":
    recording.main(__doc__, ARMS, record, "FreqWarm", seeds_first=True)
