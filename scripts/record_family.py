"""Train members of the shipped family with several seeds and record their spectra, one record a member and seed.

    python scripts/record_family.py                        every member, seeds 0, 1 and 2: hours on a small machine
    python scripts/record_family.py kl-f8c4 --seeds 1 2

Seed 0 is what ships in diffusab_core/autoencoders/weights; of the others only the record is kept, in
book/results/family/. A member whose record is there is left alone, so the command continues where it was interrupted.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from diffusab_core import autoencoders, data, metrics, spectrum
from diffusab_core.experiments import records

sys.path.insert(0, str(Path(__file__).resolve().parent))
import recording

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "scripts" / "train_shipped.py"
WEIGHTS = ROOT / "diffusab_core" / "autoencoders" / "weights"
RESULTS = ROOT / "book" / "results" / "family"
MEMBERS = (
    "kl-f4c16-beta0", "kl-f4c16-beta1e-6", "kl-f4c16-beta1e-4", "kl-f4c16-beta1e-2", "kl-f4c16-beta1e-1",
    "kl-f4c4", "kl-f8c4", "kl-f8c16", "kl-f8c64",
)  # fmt: skip

CROPS, RESOLUTION, CROP_SEED, BLOCK_SIZE = 256, 128, 0, 8


@torch.no_grad()
def spectra(folder: Path) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Profiles of posterior means, posterior samples and RGB at latent size, and reconstruction, on held-out crops."""
    model = autoencoders.load(str(folder))
    images = data.stack(data.Photos(RESOLUTION, "test", seed=CROP_SEED, length=CROPS), range(CROPS))
    generator = torch.Generator().manual_seed(CROP_SEED)
    seen = {kind: spectrum.ProfileAccumulator(BLOCK_SIZE) for kind in ("mean", "sample", "rgb")}
    decoded: list[Tensor] = []
    decoded_sample: list[Tensor] = []
    variance = noise_variance = 0.0
    channel_variance = channel_noise = torch.zeros(model.latent_channels)
    for x in images.split(32):
        posterior = model.encode(x)
        sample = posterior.sample(generator)
        seen["mean"].update(posterior.mean)
        seen["sample"].update(sample)
        seen["rgb"].update(data.resize_to(data.rgb01(x), *posterior.mean.shape[-2:]))
        decoded.append(model.decode(posterior.mean))
        decoded_sample.append(model.decode(sample))
        variance += posterior.mean.var().item() * len(x) / CROPS
        noise_variance += posterior.std.square().mean().item() * len(x) / CROPS
        channel_variance = channel_variance + posterior.mean.var((0, 2, 3)) * len(x) / CROPS
        channel_noise = channel_noise + posterior.std.square().mean((0, 2, 3)) * len(x) / CROPS
    found = {
        "held_out_psnr_db": metrics.psnr(images, torch.cat(decoded)).item(),
        "held_out_psnr_db_from_samples": metrics.psnr(images, torch.cat(decoded_sample)).item(),
        "variance_of_means": variance,
        "mean_posterior_variance": noise_variance,
    }
    found |= {f"hf_energy_ratio_{kind}": a.high_frequency_energy_ratio() for kind, a in seen.items()}
    series = {
        f"{statistic}_{kind}": [float(f"{v:.5g}") for v in accumulator.profile(statistic).tolist()]
        for kind, accumulator in seen.items()
        for statistic in spectrum.STATISTICS
    }
    noise_share = channel_noise / (channel_noise + channel_variance)  # of each channel's variance
    series["channel_noise_share"] = [float(f"{v:.4g}") for v in noise_share.tolist()]
    found["silent_channels"] = float((noise_share > 0.5).sum())
    return found, series


def trained(name: str, seed: int) -> Path:
    """The folder of one member, trained first when it is missing; of seed 0 the shipped one."""
    folder = WEIGHTS / name if seed == 0 else ROOT / "runs" / "family" / f"{name}-seed{seed}"
    if not (folder / "record.json").is_file():
        command = [sys.executable, str(TRAIN), "--name", name, "--seed", str(seed), "--out", str(folder)]
        subprocess.run([*command, "--threads", str(torch.get_num_threads())], check=True, cwd=ROOT)
    return folder


def record(name: str, seed: int) -> Path:
    """Train one member (or take the shipped one, for seed 0, when it is there) and write its record."""
    out = RESULTS / f"{name}-seed{seed}.json"
    if out.is_file():
        return out
    folder = trained(name, seed)
    training = records.read(folder / "record.json")
    run = records.start(
        "family-spectra",
        parameters={**training.parameters, "crops": CROPS, "crop_resolution": RESOLUTION, "block_size": BLOCK_SIZE},
        seed=seed,
        size="laptop",
        data=f"trained on {training.data}; measured on {CROPS} crops of {RESOLUTION} x {RESOLUTION} of coffee, china",
    )
    run.metrics, run.series = spectra(folder)
    run.metrics["training_time_s"] = training.metrics["training_time_s"]
    run.finish().write(out)
    return out


if __name__ == "__main__":
    recording.main(__doc__, MEMBERS, record, "family", seeds_first=True)
