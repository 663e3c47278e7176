"""Train a small autoencoder of FluxAE's shape from nothing, fine-tune it by each method, and record every run.

    python scripts/record_gpu.py                             on a GPU: the autoencoder, then every arm, seeds 0, 1 and 2
    python scripts/record_gpu.py se --seeds 0
    python scripts/record_gpu.py --size smoke --device cpu   the same code, tiny: a check without a GPU

The autoencoder compresses 8 x 8 to 16 channels as FluxAE does, with a quarter of its widths. It is trained on dead
leaves and photographs, half of each, and fine-tuned on the same with FluxAE's recipe (Table 5), but for fewer steps, a
higher rate, and without perceptual loss and KL. One record for the autoencoder and one for each arm and seed in
book/results/finetuning-gpu/ (of `--size smoke` in runs/); what is recorded is left alone and what was cut off goes on
from its checkpoint, so the command continues where it was interrupted. Weights are left in runs/finetuning-SIZE/.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from diffusab_core import data, experiments, metrics, training
from diffusab_core.autoencoders import CATALOGUE, Autoencoder
from diffusab_core.data.leaves import Leaves
from diffusab_core.experiments import records
from diffusab_core.methods import finetuning, regularizers
from diffusab_core.methods.finetuning import Finetuning
from diffusab_core.training.batches import Batches

ROOT = Path(__file__).resolve().parents[1]
NAME = "kl-f8c16-gpu"
IMAGES = "dead leaves and photographs, half of each"
ARMS: dict[str, dict] = {"plain": {"method": "plain"}, "se": {"method": "se"}, "chf-drawn0.7": {"method": "chf"}}
CUTS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)


@dataclass(frozen=True)
class Plan:
    """How large everything is; rates and weights are the same at every size, but for what is said here."""

    channels: tuple[int, ...] = (32, 64, 128, 128)  # FluxAE's by four
    norm_groups: int = 8  # of four channels at the widest picture, as in FluxAE
    layers: int = 2
    resolution: int = 128
    leaves: int = 4096  # drawing one takes longer than a step, so they are drawn once and seen again
    base_steps: int = 6000
    base_batch: int = 32
    base_rate: float = 1e-3
    steps: int = 1500
    batch: int = 16
    rate: float = 1e-4
    probe: int = 64


PLANS = {
    "gpu": Plan(),
    "smoke": Plan(channels=(8, 8, 8, 8), norm_groups=2, layers=1, resolution=64, leaves=4, base_steps=3, base_batch=2,
                  steps=2, batch=2, probe=2),
}  # fmt: skip


@dataclass(frozen=True)
class Places:
    """Where a run of this script keeps things, and what it computes with."""

    results: Path
    runs: Path
    size: records.Size
    device: str
    workers: int = 0
    progress: bool = True

    @property
    def precision(self) -> str:
        return "bf16" if torch.device(self.device).type == "cuda" else "fp32"


# ---------------------------------------------------------------------------------------------------------------------
# Images


class Mixture(Dataset):
    """Stored leaves at even places, over and over, and ever new crops of the training photographs at odd ones."""

    def __init__(self, leaves: Tensor, plan: Plan, length: int, seed: int) -> None:
        self.leaves, self.length = leaves, length  # uint8 (L, 3, R, R)
        self.crops = data.Photos(plan.resolution, "train", seed=seed, length=length // 2)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        half, odd = divmod(index, 2)
        return self.crops[half] if odd else self.leaves[half % len(self.leaves)].float() / 127.5 - 1

    def name(self, index: int) -> str:
        return self.crops.source(index // 2) if index % 2 else f"leaves {index // 2 % len(self.leaves)}"


def drawn_leaves(plan: Plan, places: Places) -> Tensor:
    """The dead leaves of seed 0 with 8 bits, ``(L, 3, R, R)``: from the disk, or drawn and put there."""
    file = places.runs / "leaves.pt"
    if file.is_file():
        return torch.load(file, weights_only=True)
    leaves = Leaves(plan.resolution, seed=0, length=plan.leaves, labels=False)
    loader = DataLoader(leaves, batch_size=16, num_workers=places.workers)
    bar = tqdm(loader, desc="drawing leaves", unit="batch", disable=not places.progress)
    drawn = torch.cat([((batch + 1) * 127.5).round().byte() for batch in bar])
    places.runs.mkdir(parents=True, exist_ok=True)
    torch.save(drawn, file.with_suffix(".partial"))
    file.with_suffix(".partial").replace(file)
    return drawn


def probe_of(plan: Plan) -> Tensor:
    return data.stack(data.Photos(plan.resolution, "test", seed=0, length=plan.probe), range(plan.probe))


# ---------------------------------------------------------------------------------------------------------------------
# The autoencoder


def build(plan: Plan) -> AutoencoderKL:
    """FluxAE's configuration with other widths: 8 x 8, 16 channels, attention in the middle, no quant convolutions."""
    fewer = {"block_out_channels": plan.channels, "layers_per_block": plan.layers, "norm_num_groups": plan.norm_groups}
    own = {"sample_size": plan.resolution, "scaling_factor": 1.0, "shift_factor": 0.0}  # replaced after training
    return AutoencoderKL(**{**CATALOGUE["FluxAE"].config, **fewer, **own})


def mse_and_l1(target: Tensor, y: Tensor) -> Tensor:
    return regularizers.mse(target, y) + (target.float() - y.float()).abs().mean()


def pretrain(plan: Plan, places: Places, leaves: Tensor) -> Path:
    """Train the autoencoder from random weights, unless that is done; returns its diffusers folder."""
    folder, out = places.runs / NAME, places.results / f"{NAME}-seed0.json"
    if out.is_file() and (folder / "config.json").is_file():
        return folder
    settings = Finetuning(
        model=NAME, method="plain", images=IMAGES, resolution=plan.resolution, steps=plan.base_steps,
        batch_size=plan.base_batch, kl_weight=1e-6, precision=places.precision, device=places.device,
    )  # fmt: skip
    rule = training.Settings(
        steps=plan.base_steps, learning_rate=plan.base_rate, warmup=min(100, plan.base_steps - 1), clip=1.0
    )
    torch.manual_seed(settings.seed)  # the initial weights
    autoencoder = Autoencoder(NAME, build(plan).to(places.device))
    run = records.start(
        "train-autoencoder", parameters={**asdict(plan), "kl_weight": settings.kl_weight, "l1_weight": 1.0,
        "precision": settings.precision, "ema_half_life": rule.half_life}, seed=settings.seed, size=places.size,
        data=IMAGES, device=places.device,
    )  # fmt: skip
    images = Mixture(leaves, plan, plan.base_steps * plan.base_batch, settings.seed)
    batches = Batches(images, plan.base_batch, settings.seed, plan.base_steps, places.workers, places.device)
    trained = training.train(
        autoencoder.module.train(), experiments.loss_of(autoencoder, settings, mse_and_l1, batches), rule,
        checkpoint=folder / "training" / "checkpoints", identity=asdict(plan) | {"precision": settings.precision},
        samples=batches.describe, progress=places.progress,
    )  # fmt: skip
    autoencoder.module.load_state_dict(trained.ema)
    found = finetuning.examine(autoencoder, probe_of(plan))
    autoencoder.module.register_to_config(scaling_factor=1 / found["latent_std"], shift_factor=found["latent_mean"])
    autoencoder.module.save_pretrained(folder)
    run.metrics = {key: value for key, value in found.items() if isinstance(value, float)}
    run.metrics |= {"parameters": autoencoder.trainable_count(), "training_time_s": trained.wall_time_s}
    run.series = trained.series | {"profile": found["profile"], "energy": found["energy"]}
    run.notes = f"measured on {plan.probe} crops of photographs it was not trained on"
    write(run.finish(), out)
    return folder


# ---------------------------------------------------------------------------------------------------------------------
# Its fine-tuning


def settings_of(arm: str, seed: int, plan: Plan, places: Places, model: Path) -> Finetuning:
    others = {"method": "plain", **ARMS[arm]}
    return finetuning.from_recipe(
        str(model), CATALOGUE["FluxAE"].recipe, others.pop("method"), images=IMAGES, resolution=plan.resolution,
        steps=plan.steps, batch_size=plan.batch, learning_rate=plan.rate, perceptual="none", kl_weight=0.0, seed=seed,
        precision=places.precision, device=places.device, **others,
    )  # fmt: skip


def record(arm: str, seed: int, plan: Plan, places: Places, model: Path, leaves: Tensor) -> Path:
    out = places.results / f"{arm}-seed{seed}.json"
    if out.is_file():
        return out
    settings, probe = settings_of(arm, seed, plan, places, model), probe_of(plan)
    done = experiments.finetune(
        settings, places.runs / f"{arm}-seed{seed}", size=places.size, probe=probe, workers=places.workers,
        dataset=Mixture(leaves, plan, plan.steps * plan.batch, seed), snapshots=4, checkpoint_every=500,
        progress=places.progress,
    )  # fmt: skip
    curve = metrics.cut_curve(done.autoencoder, probe, CUTS)
    found = done.record.model_copy(
        update={
            "series": done.record.series | {"cut_ratio": list(curve.ratios), "cut_psnr_db": list(curve.latent)},
            "parameters": done.record.parameters | {"model": NAME},  # not the folder it lies in here
            "notes": f"arm {arm}; {done.record.notes}",
        }
    )
    return write(found, out)


def write(found: records.RunRecord, out: Path) -> Path:
    """Five digits are enough for a curve, and keep the file small."""
    series = {name: [float(f"{value:.5g}") for value in values] for name, values in found.series.items()}
    return found.model_copy(update={"series": series}).write(out)


def parsed(
    words: list[str] | None, about: str, arms: Iterable[str], committed: str
) -> tuple[argparse.Namespace, Places]:
    """The command line of a script that records at these sizes, and where it keeps things.

    Args:
        words: The arguments; ``None``: the process's own.
        about: Help text.
        arms: Names to choose from.
        committed: Folder in book/results for records of the gpu size.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", choices=[*arms, []], help="arms (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument("--size", choices=sorted(PLANS), default="gpu", help="how large everything is (default: gpu)")
    parser.add_argument("--device", default="cuda", help="where to compute (default: cuda)")
    parser.add_argument("--workers", type=int, help="processes that read images ahead (default: all cores but one)")
    parser.add_argument("--results", type=Path, help="folder of the records (default: see above)")
    parser.add_argument("--runs", type=Path, help="folder of weights and checkpoints (default: runs/finetuning-SIZE)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(words)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; `--size smoke --device cpu` checks the code without one")
    runs = options.runs or ROOT / "runs" / f"finetuning-{options.size}"
    results = options.results or (
        ROOT / "book" / "results" / committed if options.size == "gpu" else runs / "results" / committed
    )
    workers = (os.cpu_count() or 1) - 1 if options.workers is None else options.workers
    return options, Places(results, runs, options.size, options.device, workers, not options.quiet)


def main(words: list[str] | None = None) -> None:
    options, places = parsed(words, __doc__, ARMS, "finetuning-gpu")
    plan = PLANS[options.size]
    leaves = drawn_leaves(plan, places)
    model = pretrain(plan, places, leaves)
    todo = [(arm, seed) for seed in options.seeds for arm in (options.arms or ARMS)]
    for arm, seed in tqdm(todo, desc="fine-tuning", unit="run", disable=options.quiet):
        record(arm, seed, plan, places, model, leaves)


if __name__ == "__main__":
    main()
