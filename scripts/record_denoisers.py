"""Train one denoiser recipe on the latents of autoencoders that differ in one thing, and record what it generates.

    python scripts/record_denoisers.py                     every arm, seeds 0, 1 and 2: a day on a small machine
    python scripts/record_denoisers.py base plain se       the three arms of chapter 10: about an hour on two cores

An arm is an autoencoder and, for some, another setting of the denoiser; a seed is that of both. Autoencoders that are
missing are fine-tuned or trained first (runs/finetuning, runs/family), so that one command does all. One record for
each arm and seed in book/results/denoisers/; what is recorded is left alone, and an interrupted run goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

from diffusab_core import autoencoders, data
from diffusab_core.latents.extraction import Extraction, extract
from diffusab_core.methods.denoising import Sampling

sys.path.insert(0, str(Path(__file__).resolve().parent))
import denoiser_bench
import record_family
import record_finetuning
import recording

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "book" / "results" / "denoisers"

# Autoencoder, and what differs from the recipe below. "finetuning:ARM" and "family:NAME" are those of the other two
# recording scripts, with the seed of the run; a plain name ships with the package and is the same for all seeds.
ARMS: dict[str, tuple[str, dict]] = {
    "base": ("kl-f4c16", {}),
    "plain": ("finetuning:plain", {}),
    "se": ("finetuning:se", {}),
    **{f"beta{b}": (f"family:kl-f4c16-beta{b}", {}) for b in ("0", "1e-6", "1e-4", "1e-2", "1e-1")},
    **{f"alpha{a:g}": (f"finetuning:se-alpha{a:g}", {}) for a in (0.1, 1.0, 0.01, 0.5)},
    **{f"soft{g:g}": (f"finetuning:soft{g:g}", {}) for g in (0.01, 0.1)},
    "chf": ("finetuning:chf-drawn0.7", {}),
    **{f"location{m:g}": ("kl-f4c16", {"time_location": m}) for m in (-0.5, 0.5, 1.0)},
    **{f"scale{s:g}": ("kl-f4c16", {"time_scale": s}) for s in (0.5, 1.5)},
    "no-self-conditioning": ("kl-f4c16", {"self_conditioning": 0.0}),
}
SHIFTED = ("base", "plain", "se")  # also sampled with every time shift

RESOLUTION, CROPS, REFERENCE = 32, 8192, 8192
RECIPE = {"denoiser": "DiT-XXS/1", "steps": 600, "batch_size": 64, "learning_rate": 1e-3}
BENCH = denoiser_bench.Bench(
    images=lambda: data.Photos(RESOLUTION, "train", seed=1, length=REFERENCE),
    words="other crops of the same photographs",
    resolution=RESOLUTION,
    recipe=RECIPE,
    final=Sampling(1024, steps=40),
    quick=Sampling(512, steps=20),
)


def place(source: str, seed: int) -> str:
    """Where the autoencoder of an arm lies; it is made first when it is missing."""
    kind, _, name = source.rpartition(":")
    if kind == "finetuning":
        return str(record_finetuning.fine_tuned(name, seed))
    return str(record_family.trained(name, seed)) if kind == "family" else name


def record(arm: str, seed: int) -> Path:
    out = RESULTS / f"{arm}-seed{seed}.json"
    if out.is_file():
        return out
    source, special = ARMS[arm]
    where = place(source, seed)
    autoencoder = autoencoders.load(where)
    latents = extract(
        Extraction(where, "photos", RESOLUTION, samples=CROPS, dtype="float32"),
        ROOT / "runs" / "latents" / f"{RESOLUTION}-{autoencoder.name}", batch_size=64, progress=False,
    )  # fmt: skip
    return denoiser_bench.measure(
        BENCH, arm, seed, autoencoder, latents, out=out, folder=ROOT / "runs" / "denoisers" / out.stem, source=source,
        special=special, with_shifts=arm in SHIFTED,
    )  # fmt: skip


if __name__ == "__main__":
    recording.main(__doc__, ARMS, record, "denoisers")
