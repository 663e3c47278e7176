"""Fine-tune the shipped autoencoder by every method and strength that chapters 6 to 8 compare, and record each run.

    python scripts/record_finetuning.py                      every arm, seeds 0, 1 and 2: hours on a small machine
    python scripts/record_finetuning.py se plain --seeds 0

One record for each arm and seed in book/results/finetuning/; what is recorded is left alone, so the command continues
where it was interrupted. Fine-tuned weights are left in runs/finetuning/.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import Tensor

from diffusab_core import data, metrics
from diffusab_core.experiments import Finetuned, finetune
from diffusab_core.methods.finetuning import Finetuning

sys.path.insert(0, str(Path(__file__).resolve().parent))
import recording

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "book" / "results" / "finetuning"

ARMS: dict[str, dict] = {
    "plain": {"method": "plain"},
    "se": {"method": "se"},
    "chf-drawn0.7": {"method": "chf", "chf_ratio": 0.7},
    "eq-vae": {"method": "eq-vae"},
    "se-decoder-only": {"method": "se", "decoder_only": True},
    "se-target-reconstruction": {"method": "se", "target": "reconstruction"},
    **{f"se-alpha{a:g}": {"method": "se", "alpha": a} for a in (1.0, 0.01, 0.5, 0.1, 0.05)},
    **{f"chf{r:g}": {"method": "chf", "chf_ratio": r, "chf_fixed": True} for r in (0.5, 0.3, 0.7)},
    **{f"chf{r:g}-axes": {"method": "chf", "chf_ratio": r, "chf_fixed": True, "chf_order": "axes"} for r in (0.3, 0.7)},
    **{f"soft{g:g}": {"method": "plain", "soft_weight": g} for g in (0.01, 0.1, 1.0)},
    **{f"se-soft{g:g}": {"method": "se", "soft_weight": g} for g in (0.05, 0.01, 0.1)},
    **{f"kl{b:g}": {"method": "plain", "kl_weight": b} for b in (1e-4, 1e-2, 1e-1)},
    "plain-twice": {"method": "plain", "steps": 800},
    "se-twice": {"method": "se", "steps": 800},
    **{f"se-scale{s}": {"method": "se", "scales": (s,)} for s in (2, 4)},
}
# Watched often enough for a chapter to animate them; of the others, only the ends and the middle are kept.
ANIMATED = ("plain", "se")

CUTS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)


def folder(arm: str, seed: int) -> Path:
    return ROOT / "runs" / "finetuning" / f"{arm}-seed{seed}"


def probe() -> Tensor:
    return data.stack(data.Photos(128, "test", seed=0, length=64), range(64))


def trained(arm: str, seed: int) -> Finetuned:
    """Fine-tune, or read back what is finished."""
    return finetune(
        Finetuning(**{"seed": seed, **ARMS[arm]}), folder(arm, seed), probe=probe(), checkpoint_every=400,
        snapshots=8 if arm in ANIMATED else 2, progress=False,
    )  # fmt: skip


def fine_tuned(arm: str, seed: int) -> Path:
    """The folder of a fine-tuned autoencoder, made first when it is missing."""
    if not (folder(arm, seed) / "record.json").is_file():
        trained(arm, seed)
    return folder(arm, seed)


def record(arm: str, seed: int) -> Path:
    out = RESULTS / f"{arm}-seed{seed}.json"
    if out.is_file():
        return out
    done = trained(arm, seed)
    curve = metrics.cut_curve(done.autoencoder, probe(), CUTS)
    kept = done.record
    series = kept.series | {"cut_ratio": list(curve.ratios), "cut_psnr_db": list(curve.latent)}
    series |= {"cut_rgb_psnr_db": list(curve.rgb[1:])}  # from the first cut on: uncut, it is infinite
    series = {name: [float(f"{value:.5g}") for value in values] for name, values in series.items()}
    kept.model_copy(update={"series": series, "notes": f"arm {arm}; {kept.notes}"}).write(out)
    return out


if __name__ == "__main__":
    recording.main(__doc__, ARMS, record, "fine-tuning")
