"""Train two shipped recipes with anti-aliased downsampling in the encoder, and record what strided and blurred fold.

    python scripts/record_antialiasing.py                  every arm, seeds 0, 1 and 2: hours on a small machine
    python scripts/record_antialiasing.py kl-f8c4 kl-f8c4-blurred --seeds 0

An arm is a shipped recipe, as it is or "-blurred": before training, each strided convolution of the encoder is replaced
by the convolution, a binomial blur and sampling (diffusab_core.metrics.aliasing.BlurPool). Initial weights, crops,
noise and
steps of a seed are the same in both. "-blurred-denoised" trains the denoiser of record_freqwarm.py on latents of the
blurred encoder with seed 0; its strided counterparts are the arms c4 and c64 there. One record for each arm and seed in
book/results/antialiasing/; what is recorded is left alone, and an interrupted training goes on. Weights of the blurred
encoders stay in runs/antialiasing/.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from diffusab_core import autoencoders, data, training
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.experiments import records
from diffusab_core.latents import TensorLatents
from diffusab_core.methods import finetuning
from diffusab_core.metrics import aliasing, probes

sys.path.insert(0, str(Path(__file__).resolve().parent))
import denoiser_bench
import record_family
import record_freqwarm
import recording
import train_shipped

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "book" / "results" / "antialiasing"
BLURRED, DENOISED = "-blurred", "-blurred-denoised"
ARMS = tuple(f"{name}{how}" for name in ("kl-f8c4", "kl-f8c64") for how in ("", BLURRED, DENOISED))

SIDE, GRATED, CROPS = 128, 8, 64  # pixels of the held-out crops; how many carry gratings, how many are encoded
IN_NYQUIST = (0.25, 0.5, 0.75, 0.9, 1.5, 2.5, 4.5)  # frequencies of the gratings, in units of the latent's Nyquist's
CUTOFFS = (0.05, 0.0625, 0.1, 0.2, 0.4, math.inf)  # cycles per pixel of the image
BANDS = (0, 0.125, 0.25, 0.5)  # cycles per pixel of the latent
STEPS: int | None = None  # the recipe's


def blurred(name: str, seed: int) -> tuple[Autoencoder, records.RunRecord]:
    """A member of the family trained with a blurred encoder, or read back; and the record of its training."""
    recipe, folder = train_shipped.RECIPES[name], ROOT / "runs" / "antialiasing" / f"{name}-seed{seed}"
    torch.manual_seed(seed)  # the initial weights, as in train_shipped.py
    found = aliasing.blur_pooled(Autoencoder(name, train_shipped.build(recipe)))
    weights, record = folder / "weights.safetensors", folder / "record.json"
    if not record.is_file():
        steps = STEPS or recipe.steps
        run = records.start(
            "train-blurred-autoencoder", parameters={**asdict(recipe), "name": name, "steps": steps}, seed=seed,
            size="laptop", data=f"crops of the photographs {', '.join(data.photo_names('train'))}",
        )  # fmt: skip
        trained = training.train(
            found.module.train(), train_shipped.loss_of(found.module, recipe, seed, steps),
            train_shipped.settings_of(recipe, seed, steps),
            checkpoint=folder / "checkpoints", progress=False,
        )  # fmt: skip
        run.metrics["training_time_s"] = trained.wall_time_s
        # Half precision, as the shipped weights that these are compared with.
        save_file({key: value.half().contiguous() for key, value in trained.ema.items()}, weights)
        run.finish().write(record)
    found.module.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
    found.module.eval().requires_grad_(False)
    return found, records.read(record)


def opened(arm: str, seed: int) -> tuple[Autoencoder, records.RunRecord]:
    if arm.endswith(BLURRED):
        return blurred(arm.removesuffix(BLURRED), seed)
    folder = record_family.trained(arm, seed)
    return autoencoders.load(str(folder)), records.read(folder / "record.json")


def denoised(arm: str, seed: int, out: Path) -> Path:
    """A denoiser on a blurred encoder's latents of the crops that record_freqwarm.py encodes, measured as there."""
    name, bench = arm.removesuffix(DENOISED), record_freqwarm.F8
    autoencoder, _ = blurred(name, 0)
    images = data.Photos(bench.resolution, "train", seed=0, length=record_freqwarm.CROPS)
    batches = torch.arange(len(images)).split(64)
    posteriors = [autoencoder.encode(data.stack(images, batch.tolist())) for batch in batches]
    latents = TensorLatents(torch.cat([p.mean for p in posteriors]), torch.cat([p.std for p in posteriors]))
    return denoiser_bench.measure(
        bench, arm, seed, autoencoder, latents, out=out, folder=ROOT / "runs" / "antialiasing" / out.stem,
        source=f"{name}, blurred", special={}, with_shifts=False,
    )  # fmt: skip


def record(arm: str, seed: int) -> Path:
    out = RESULTS / f"{arm}-seed{seed}.json"
    if out.is_file():
        return out
    if arm.endswith(DENOISED):
        return denoised(arm, seed, out)
    autoencoder, trained = opened(arm, seed)
    run = records.start(
        "antialiasing",
        parameters={**trained.parameters, "blurred": arm.endswith(BLURRED), "side": SIDE, "crops": CROPS,
                    "grated_crops": GRATED, "amplitude": 0.25, "angles": [0.0, 90.0]},
        seed=seed, size="laptop",
        data=f"trained on {trained.data}; measured on {CROPS} crops of {SIDE} x {SIDE} of coffee, china",
    )  # fmt: skip
    probe = data.stack(data.Photos(SIDE, "test", seed=0, length=CROPS), range(CROPS))
    transfer = aliasing.encoder_transfer(
        autoencoder,
        [v * 0.5 / autoencoder.compression for v in IN_NYQUIST],
        (0.0, 90.0),
        SIDE,
        background=probe[:GRATED],
    )
    cut = probes.latent_amplitude_by_cutoff(autoencoder, probe, CUTOFFS, BANDS).amplitude
    relative = cut / cut[-1]  # (cutoffs, bands)
    found = finetuning.examine(autoencoder, probe)
    run.metrics = {key: value for key, value in found.items() if isinstance(value, float)}
    run.metrics |= {"training_time_s": trained.metrics["training_time_s"]}
    run.series = {
        "in_nyquist": list(IN_NYQUIST),
        "relative_gain": (transfer.gain / transfer.gain[0]).tolist(),
        "folded_share": transfer.folded_share.tolist(),
        "spread_share": transfer.spread_share.tolist(),
        "reconstruction_error": transfer.reconstruction_error.tolist(),
        "cutoff": list(CUTOFFS[:-1]),
        **{f"amplitude_{a:g}_{b:g}": relative[:-1, i].tolist() for i, (a, b) in enumerate(pairwise(BANDS))},
        "profile": found["profile"],
    }
    run.series = {name: [float(f"{value:.5g}") for value in values] for name, values in run.series.items()}
    run.finish().write(out)
    return out


if __name__ == "__main__":
    recording.main(__doc__, ARMS, record, "anti-aliasing", seeds_first=True)
