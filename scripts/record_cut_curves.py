"""Measure what fine-tuned autoencoders make of latents without their high frequencies, by several ways to remove them.

    python scripts/record_cut_curves.py                         every run of the arms below whose weights are there
    python scripts/record_cut_curves.py se plain --weights DIR

The weights are those that scripts/record_finetuning.py leaves in runs/finetuning/ARM-seedK. One record for each goes to
book/results/cut-curves/; what is recorded is left alone, and what has no weights yet is passed over and named.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate
from tqdm import tqdm

from diffusab_core import autoencoders, data, metrics
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.experiments import records
from diffusab_core.methods.regularizers import downsample
from diffusab_core.spectrum import block_dct, block_idct, chop_high_frequencies

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "book" / "results" / "cut-curves"

ARMS = (
    "plain", "se", "chf-drawn0.7", "eq-vae", "se-alpha1", "plain-twice", "se-twice", "se-scale2", "se-scale4",
)  # fmt: skip
CUTS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
SCALES = (2, 4)
BLOCK = 8
N_IMAGES, RESOLUTION = 64, 64
LARGE = (4, 256)  # images, resolution: the other end of what the held-out photographs allow


def truncated(x: Tensor, block_size: int) -> Tensor:
    """Half the sides, by an ideal low-pass: the lower half of each axis of every block of DCT coefficients."""
    half = block_size // 2
    return block_idct(block_dct(x, block_size)[..., :half, :half]) / 2  # / 2 keeps the mean of an orthonormal DCT


@torch.no_grad()
def measure(autoencoder: Autoencoder, x: Tensor, run: records.Run) -> None:
    f = autoencoder.compression
    z = autoencoder.encode(x).mean
    y = autoencoder.decode(z)
    found: dict[str, list[float]] = {}

    def add(name: str, value: Tensor) -> None:
        found.setdefault(name, []).append(float(f"{value.item():.5g}"))

    for ratio in CUTS:
        z_cut = chop_high_frequencies(z, ratio, BLOCK) if ratio else z
        x_cut = chop_high_frequencies(x, ratio, f * BLOCK) if ratio else x
        y_cut = autoencoder.decode(z_cut) if ratio else y
        add("cut_ratio", torch.tensor(ratio))
        add("psnr_db", metrics.psnr(x, y_cut))  # against the original: Fig. 8
        add("psnr_db_to_cut_image", metrics.psnr(x_cut, y_cut))
        add("ssim", metrics.ssim(x, y_cut))
        add("latent_mse", (z - z_cut).square().mean())  # the energy that the cut removes
        add("picture_mse", (y - y_cut).square().mean())  # what of it the decoder shows
    for scale in SCALES:
        small_z, small_x = downsample(z, scale), downsample(x, scale)
        small_y = autoencoder.decode(small_z)
        enlarged = {"scale_factor": scale, "mode": "bilinear"}
        add("scale", torch.tensor(scale))
        add("small_psnr_db", metrics.psnr(small_x, small_y))  # what scale equivariance trains
        add("small_enlarged_psnr_db", metrics.psnr(x, interpolate(small_y, **enlarged)))
        add("blurred_psnr_db", metrics.psnr(x, autoencoder.decode(interpolate(small_z, **enlarged))))
    run.series = found
    run.metrics["latent_variance"] = z.var().item()
    # The same by other kernels than the one that is trained with: averages of 2 x 2, and the lower half of each axis.
    box = metrics.psnr(avg_pool2d(x, 2), autoencoder.decode(avg_pool2d(z, 2)))
    ideal = metrics.psnr(truncated(x, f * BLOCK), autoencoder.decode(truncated(z, BLOCK)))
    run.metrics |= {"small_psnr_db_by_averages": box.item(), "small_psnr_db_by_truncation": ideal.item()}

    large = data.stack(data.Photos(LARGE[1], "test", seed=0, length=LARGE[0]), range(LARGE[0]))
    curve = metrics.cut_curve(autoencoder, large, CUTS[::2], BLOCK)
    run.series |= {"large_cut_ratio": list(curve.ratios), "large_psnr_db": [round(db, 3) for db in curve.latent]}


def record(arm: str, seed: int, weights: Path) -> bool:
    """Whether there is a record now; without finished weights there is none."""
    out, folder = RESULTS / f"{arm}-seed{seed}.json", weights / f"{arm}-seed{seed}"
    if out.is_file():
        return True
    if not (folder / "record.json").is_file():  # written last by a fine-tuning run
        return False
    trained = records.read(folder / "record.json")
    x = data.stack(data.Photos(RESOLUTION, "test", seed=0, length=N_IMAGES), range(N_IMAGES))
    run = records.start(
        "cut-curves", seed=seed, size="laptop",
        parameters={"arm": arm, "trained_run": trained.identity, "block_size": BLOCK, "resolution": RESOLUTION},
        data=f"{N_IMAGES} crops of {RESOLUTION}² and {LARGE[0]} of {LARGE[1]}² of held-out photographs",
    )  # fmt: skip
    measure(autoencoders.load(str(folder)), x, run)
    run.metrics["training_steps"] = trained.parameters["steps"]
    run.finish().write(out)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", choices=[*ARMS, []], help="arms (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds (default: 0 1 2)")
    parser.add_argument("--weights", type=Path, default=ROOT / "runs" / "finetuning", help="where the weights are")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    todo = [(arm, seed) for arm in (options.arms or ARMS) for seed in options.seeds]
    done = [record(arm, seed, options.weights) for arm, seed in tqdm(todo, desc="cut curves", unit="run")]
    missing = [f"{arm}-seed{seed}" for (arm, seed), there in zip(todo, done, strict=True) if not there]
    if missing:
        print("no weights in", options.weights, "for:", ", ".join(missing))


if __name__ == "__main__":
    main()
