"""An autoencoder of FluxAE's shape and a DiT-S/2 on its latents: untouched, fine-tuned, with scale equivariance.

    python scripts/record_gpu_denoisers.py                             on a GPU: every arm, seeds 0, 1 and 2
    python scripts/record_gpu_denoisers.py base plain se               the arms without FreqWarm
    python scripts/record_gpu_denoisers.py se --seeds 0
    python scripts/record_gpu_denoisers.py --size smoke --device cpu   the same code, tiny: a check without a GPU

The autoencoders are those of record_gpu.py, trained and fine-tuned first where they are missing: one command makes
autoencoder and denoiser. Arms with a cutoff, such as se-r0.2, warm the denoiser up by FreqWarm for the first quarter of
the same number of steps. Images are its mixture of dead leaves and photographs, 128 x 128. One record for each arm and
seed in book/results/denoisers-gpu/ (of `--size smoke` in runs/); what is recorded is left alone and what was cut off
goes on. The number of steps is a guess at two minutes an arm and seed until it has been run on a GPU once.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from diffusab_core import autoencoders
from diffusab_core.latents.cache import LatentCache
from diffusab_core.latents.extraction import Extraction, extract
from diffusab_core.methods.denoising import Sampling
from diffusab_core.methods.freqwarm import FreqWarm, WarmedLatents

sys.path.insert(0, str(Path(__file__).resolve().parent))
import denoiser_bench
import record_gpu

# The autoencoder's arm, and the cutoff of the warm-up in cycles per pixel.
ARMS: dict[str, tuple[str, float | None]] = {
    **{arm: (arm, None) for arm in ("base", "plain", "se")},
    **{f"base-r{r:g}": ("base", r) for r in (0.1, 0.2, 0.4)},
    **{f"{arm}-r0.2": (arm, 0.2) for arm in ("plain", "se")},
}


@dataclass(frozen=True)
class Plan:
    """How large everything is."""

    images: int = 32_768
    reference: int = 16_384
    denoiser: str = "DiT-S/2"
    steps: int = 4000
    batch_size: int = 256
    final: Sampling = Sampling(10_000, steps=100, batch_size=500)  # noqa: RUF009  frozen
    quick: Sampling = Sampling(2048, steps=25, batch_size=512)  # noqa: RUF009  frozen


PLANS = {
    "gpu": Plan(),
    "smoke": Plan(images=8, reference=8, denoiser="DiT-XXS/2", steps=4, batch_size=4,
                  final=Sampling(4, steps=1, batch_size=4), quick=Sampling(4, steps=1, batch_size=4)),
}  # fmt: skip


def record(arm: str, seed: int, plan: Plan, places: record_gpu.Places, leaves: Tensor, base: Path) -> Path:
    out = places.results / f"{arm}-seed{seed}.json"
    if out.is_file():
        return out
    shapes = record_gpu.PLANS[places.size]
    kind, r0 = ARMS[arm]
    where = base
    if kind != "base":
        autoencoder_places = replace(places, results=places.runs / "finetuned")
        record_gpu.record(kind, seed, shapes, autoencoder_places, base, leaves)
        where = places.runs / f"{kind}-seed{seed}"
    autoencoder = autoencoders.load(where, places.device)
    mixture = record_gpu.Mixture(leaves, shapes, plan.images, seed=0)

    def cached(radius: float | None) -> LatentCache:
        settings = Extraction(str(where), record_gpu.IMAGES, shapes.resolution, device=places.device, dtype="float32",
                              low_pass=radius)  # fmt: skip
        name = autoencoder.name + (f"-low{radius:g}" if radius else "")
        return extract(settings, places.runs / "latents" / name, dataset=mixture, batch_size=64,
                       workers=places.workers, progress=places.progress)  # fmt: skip

    latents = cached(None)
    if r0 is not None:
        latents = WarmedLatents(latents, FreqWarm(plan.steps // 4, r0), {r0: cached(r0)})
    on_gpu = torch.device(places.device).type == "cuda"
    precision = {"precision": places.precision}
    bench = denoiser_bench.Bench(
        images=lambda: record_gpu.Mixture(leaves, shapes, plan.reference, seed=1),
        words="images of the same mixture, other crops of the photographs",
        resolution=shapes.resolution,
        recipe={"denoiser": plan.denoiser, "steps": plan.steps, "batch_size": plan.batch_size, "compile": on_gpu}
        | precision,
        final=replace(plan.final, **precision),
        quick=replace(plan.quick, **precision),
        size=places.size,
        device=places.device,
        progress=places.progress,
    )
    return denoiser_bench.measure(
        bench, arm, seed, autoencoder, latents, out=out, folder=places.runs / "denoisers" / out.stem,
        source=record_gpu.NAME if kind == "base" else f"{record_gpu.NAME}, {kind}", special={}, with_shifts=True,
    )  # fmt: skip


def main(words: list[str] | None = None) -> None:
    options, places = record_gpu.parsed(words, __doc__, ARMS, "denoisers-gpu")
    shapes = record_gpu.PLANS[options.size]
    leaves = record_gpu.drawn_leaves(shapes, places)
    base = record_gpu.pretrain(shapes, replace(places, results=places.runs / "finetuned"), leaves)
    todo = [(arm, seed) for seed in options.seeds for arm in (options.arms or ARMS)]
    for arm, seed in tqdm(todo, desc="denoisers", unit="run", disable=options.quiet):
        record(arm, seed, PLANS[options.size], places, leaves, base)


if __name__ == "__main__":
    main()
