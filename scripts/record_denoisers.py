"""Train one denoiser recipe on the latents of autoencoders that differ in one thing, and record what it generates.

    python scripts/record_denoisers.py                        every arm, seeds 0, 1 and 2: a day on a small machine
    python scripts/record_denoisers.py base plain se          the three arms of chapter 10
    python scripts/record_denoisers.py --device cuda --denoiser DiT-S/1 --steps 4000 --batch-size 256 --size gpu

An arm is an autoencoder and, for some, another setting of the denoiser; a seed is that of both. Autoencoders that are
missing are fine-tuned or trained first (runs/finetuning, runs/family), so that one command does all. One record for
each arm and seed in book/results/denoisers/; what is recorded is left alone, and an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from diffusab_core import autoencoders, data, denoising, experiments, records, sample_metrics, spectrum
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.denoising import Denoising, Sampling
from diffusab_core.latent_cache import Extraction, extract
from diffusab_core.latents import Latents
from diffusab_core.offline_features import offline_features

sys.path.insert(0, str(Path(__file__).resolve().parent))
import record_family
import record_finetuning

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
SHIFTS = (0.25, 0.5, 2.0, 4.0)  # at inference, beside 1; of the first three arms
SHIFTED = ("base", "plain", "se")

RESOLUTION, CROPS, REFERENCE = 32, 8192, 8192
RECIPE = {"denoiser": "DiT-XXS/1", "steps": 600, "batch_size": 64, "learning_rate": 1e-3}
FINAL, QUICK = Sampling(1024, steps=40), Sampling(512, steps=20)  # at the end; along the way and for shifts


def place(source: str, seed: int) -> str:
    """Where the autoencoder of an arm lies; it is made first when it is missing."""
    kind, _, name = source.rpartition(":")
    if kind == "finetuning":
        return str(record_finetuning.fine_tuned(name, seed))
    return str(record_family.trained(name, seed)) if kind == "family" else name


def photographs(seed: int, count: int) -> Iterator[Tensor]:
    crops = data.Photos(RESOLUTION, "train", seed=seed, length=count)
    for start in range(0, count, 64):
        yield data.stack(crops, range(start, min(count, start + 64)))


@cache
def reference() -> tuple[sample_metrics.Reference, torch.nn.Module]:
    """Statistics of other crops of the same photographs than the denoisers are trained on."""
    features = offline_features()
    return sample_metrics.reference(photographs(1, REFERENCE), features, progress=False), features


def judged(images: Iterable[Tensor]) -> dict[str, float]:
    found = sample_metrics.evaluate_samples(images, *reference(), precision_recall=FINAL.samples, progress=False)
    # The network knows leaves and five photographs: which of them a crop resembles says nothing of quality.
    return {name: value for name, value in found.items() if not name.startswith("inception")}


@torch.no_grad()
def floor(autoencoder: Autoencoder, latents: Latents) -> dict[str, float]:
    """What a perfect denoiser would reach: decoded posterior samples of training images. And decoded noise."""
    device = next(autoencoder.parameters()).device
    generator = torch.Generator().manual_seed(0)

    def decoded(noise: bool) -> Iterator[Tensor]:
        for start in range(0, FINAL.samples, 64):
            mean, std, _ = latents.posterior(range(start, start + 64))
            drawn = torch.randn(mean.shape, generator=generator)
            z = latents.denormalise(drawn) if noise else mean + std * drawn
            yield autoencoder.decode(z.to(device)).clamp(-1, 1).cpu()

    return {f"decoded_{what}_frechet": judged(decoded(noise))["frechet_offline"]
            for what, noise in (("latents", False), ("noise", True))}  # fmt: skip


@torch.no_grad()
def spectra(made: Tensor, latents: Latents) -> tuple[dict[str, float], dict[str, list[float]]]:
    """High-frequency energy and profile (energies by rank) of generated latents and of those trained on, raw."""
    mean, std, _ = latents.posterior(range(FINAL.samples))
    real = mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    numbers, series = {}, {}
    for name, z in (("real", real), ("generated", made)):
        accumulator = spectrum.ProfileAccumulator(8)
        accumulator.update(z)
        numbers[f"{name}_hf_energy_ratio"] = accumulator.high_frequency_energy_ratio()
        series[f"{name}_energy"] = accumulator.profile("energy").tolist()
    return numbers, series


@torch.no_grad()
def final(denoiser: experiments.Denoiser, autoencoder: Autoencoder) -> tuple[dict[str, float], Tensor]:
    """Samples judged, and their raw latents."""
    made = []

    def images() -> Iterator[Tensor]:
        for _, x, _ in denoising.sample_batches(denoiser.model, FINAL, denoiser.shape):
            made.append(denoiser.denormalise(x))
            yield autoencoder.decode(made[-1]).clamp(-1, 1)

    return judged(images()), torch.cat(made).cpu()


def record(arm: str, seed: int, size: str, device: str, changes: dict) -> Path:
    out = RESULTS / f"{'' if size == 'laptop' else size + '-'}{arm}-seed{seed}.json"
    if out.is_file():
        return out
    source, special = ARMS[arm]
    where = place(source, seed)
    autoencoder = autoencoders.load(where, device)
    latents = extract(
        Extraction(where, "photos", RESOLUTION, samples=CROPS, device=device, dtype="float32"),
        ROOT / "runs" / "latents" / f"{RESOLUTION}-{autoencoder.name}", batch_size=64, progress=False,
    )  # fmt: skip
    settings = Denoising(**{"seed": seed, "device": device, **RECIPE, **changes, **special})

    def along(denoiser: experiments.Denoiser) -> dict[str, float]:
        images = (x for _, x, _ in experiments.generate(denoiser, autoencoder, QUICK))
        return {"frechet_offline": judged(images)["frechet_offline"]}

    folder = ROOT / "runs" / "denoisers" / out.stem
    done = experiments.train_denoiser(
        settings, latents, folder, size=size, checkpoint_every=200, snapshot=along, snapshots=3, progress=False
    )
    denoiser, kept = done.denoiser, done.record
    scores, made = final(denoiser, autoencoder)
    found, series = spectra(made, latents)
    numbers = kept.metrics | scores | found | floor(autoencoder, latents)
    series |= kept.series
    if arm in SHIFTED:
        series |= _shifts(denoiser, autoencoder)
    series = {key: [float(f"{value:.5g}") for value in values] for key, values in series.items()}
    parameters = kept.parameters | {
        "arm": arm, "autoencoder": source, "resolution": RESOLUTION, "sampling": asdict(FINAL),
        "sampling_along_the_way": asdict(QUICK), "features": "offline", "features_digest": reference()[1].digest,
    }  # fmt: skip
    notes = (
        f"arm {arm}; Fréchet distances over the offline features (not Inception), samples rounded to 8 bits, against "
        f"{REFERENCE} other crops of the same photographs; {FINAL.samples} samples of {FINAL.steps} Euler steps at the "
        f"end, {QUICK.samples} of {QUICK.steps} along the way."
    )
    kept.model_copy(
        update={
            "metrics": numbers,
            "series": series,
            "parameters": parameters,
            "notes": notes,
            "experiment": "denoiser-on-latents",
        }
    ).write(out)
    return out


def _shifts(denoiser: experiments.Denoiser, autoencoder: Autoencoder) -> dict[str, list[float]]:
    shifts, distances = sorted([*SHIFTS, 1.0]), []
    for shift in shifts:
        sampling = replace(QUICK, shift=shift)
        images = (x for _, x, _ in experiments.generate(denoiser, autoencoder, sampling))
        distances.append(judged(images)["frechet_offline"])
    return {"shift": shifts, "shift_frechet": distances}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", choices=[*ARMS, []], help="arms (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds (default: 0 1 2)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: cpu)")
    parser.add_argument("--size", default="laptop", choices=records.SIZES, help="for the records (default: laptop)")
    parser.add_argument("--denoiser", help=f"default: {RECIPE['denoiser']}")
    parser.add_argument("--steps", type=int, help=f"default: {RECIPE['steps']}")
    parser.add_argument("--batch-size", type=int, help=f"default: {RECIPE['batch_size']}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    given = {"denoiser": options.denoiser, "steps": options.steps, "batch_size": options.batch_size}
    changes = {name: value for name, value in given.items() if value is not None}
    todo = [(arm, seed) for arm in (options.arms or ARMS) for seed in options.seeds]
    for arm, seed in tqdm(todo, desc="denoisers", unit="run"):
        record(arm, seed, options.size, options.device, changes)


if __name__ == "__main__":
    main()
