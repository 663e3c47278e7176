#!/usr/bin/env python
"""Train the small feature network for offline Fréchet distances, and write its folder, card and record.

    python scripts/train_features.py --seeds 0 1 2

The first seed is written, of the others only the accuracy is kept. Each run resumes from its checkpoint when the script
is started again, and finished runs only write the folder again.
"""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from diffusab_core import data, files, metrics, training
from diffusab_core.data.leaves import Leaves
from diffusab_core.experiments import records
from diffusab_core.metrics import offline
from diffusab_core.metrics.offline import FEATURES, LABELS, SIDE, Classifier, OfflineFeatures, damage_level

EVALUATION_SEED = 1000  # of everything that numbers in the card are measured on; training seeds stay below
LEAF_CLASSES = len(LABELS) - len(data.photo_names("train"))
BLURS = (0.5, 1.0, 2.0, 4.0)  # standard deviation in pixels of the 64 x 64 image
NOISES = (0.05, 0.1, 0.2, 0.4)  # standard deviation, images in [-1, 1]
MOSAICS = (2, 4, 8)  # side of blocks of one colour, in pixels; nothing of the kind is trained on


@dataclass(frozen=True)
class Recipe:
    """Everything that makes the network; its record repeats it."""

    leaves: int = 4096  # images, drawn once: drawing a batch costs more than training on it
    leaves_per_batch: int = 32
    photos_per_batch: int = 32
    blur: tuple[float, float] = (0.3, 6.0)  # pixels
    noise: tuple[float, float] = (0.02, 0.6)
    steps: int = 1200
    learning_rate: float = 2e-3
    warmup: int = 50
    weight_decay: float = 0.05


# ---------------------------------------------------------------------------------------------------------------------
# Training


@lru_cache(maxsize=2)
def leaf_images(seed: int, length: int) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 64, 64) in 8 bits, and labels (N,)."""
    items = [Leaves(SIDE, seed, length)[i] for i in range(length)]
    return torch.stack([((x + 1) * 127.5).round().byte() for x, _ in items]), torch.tensor(
        [label for _, label in items]
    )


def photo_crops(seed: int, length: int, indices: list[int] | None = None) -> tuple[Tensor, Tensor]:
    """Crops of the training photographs and their labels."""
    crops = data.Photos(SIDE, "train", seed=seed, length=length)
    chosen = range(length) if indices is None else indices
    return data.stack(crops, chosen), torch.tensor([LABELS.index(crops.source(i)) for i in chosen])


def turned(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image in one of its eight orientations; the law of the leaves knows no up and no left."""
    for change in (lambda y: y.flip(-1), lambda y: y.flip(-2), lambda y: y.transpose(-1, -2)):
        chosen = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(chosen[:, None, None, None], change(x), x)
    return x


def blurred(x: Tensor, sigma: float) -> Tensor:
    return gaussian_blur(x, 2 * round(4 * sigma) + 1, sigma)


def damaged(x: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images, every third blurred and every third with noise, log-uniform in strength, and their levels (N, 2)."""
    place = torch.rand(len(x), generator=generator)
    strength = torch.zeros(len(x), 2)
    for kind, (low, high) in enumerate((recipe.blur, recipe.noise)):
        strength[kind + 1 :: 3, kind] = low * (high / low) ** place[kind + 1 :: 3]
    x = torch.stack([blurred(image, s.item()) if s else image for image, s in zip(x, strength[:, 0], strict=True)])
    x = x + strength[:, 1, None, None, None] * torch.randn(x.shape, generator=generator)
    levels = [damage_level(each, unit) for each, unit in zip(strength.T, (0.5, 0.05), strict=True)]
    return x.clamp(-1, 1), torch.stack(levels, dim=1)


def loss_of(model: Classifier, recipe: Recipe, seed: int) -> training.LossFn:
    n = recipe.photos_per_batch

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = leaf_images(seed, recipe.leaves)  # here, so that a finished run does not draw them
        chosen = training.batch_indices(step, recipe.leaves_per_batch, recipe.leaves, seed)
        leaves = turned(images[chosen].float() / 127.5 - 1, generator)
        photos, sources = photo_crops(seed, recipe.steps * n, list(range(step * n, (step + 1) * n)))
        photos, levels = damaged(photos, recipe, generator)
        y = torch.cat([labels[chosen], sources])
        logits, found = model(torch.cat([leaves, photos]))
        error = (found[len(leaves) :] - levels).square().mean()
        scalars = {"accuracy": (logits.argmax(1) == y).float().mean(), "level_error": error.detach()}
        return F.cross_entropy(logits, y) + error, scalars

    return loss


def trained(recipe: Recipe, seed: int, checkpoint: Path) -> tuple[Classifier, training.Trained]:
    torch.manual_seed(seed)  # the initial weights
    model = Classifier()
    settings = training.Settings(
        steps=recipe.steps, seed=seed, learning_rate=recipe.learning_rate, warmup=min(recipe.warmup, recipe.steps - 1),
        weight_decay=recipe.weight_decay,
    )  # fmt: skip
    done = training.train(
        model.train(), loss_of(model, recipe, seed), settings, checkpoint=checkpoint, checkpoint_every=200,
        identity=asdict(recipe),
    )  # fmt: skip
    model.load_state_dict(done.ema)
    return model.half().float().eval(), done  # as it will be stored


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


@torch.no_grad()
def accuracies(model: Classifier, recipe: Recipe) -> dict[str, float]:
    """Shares of correct answers on leaves and on crops that were not drawn in training; on damaged crops of the
    held-out photographs, the share of the levels' variance that is explained."""
    leaves, labels = leaf_images(EVALUATION_SEED, 600)
    crops, sources = photo_crops(EVALUATION_SEED, 300)
    held_out = data.stack(data.Photos(SIDE, "test", seed=EVALUATION_SEED + 1, length=600), range(600))
    damage, levels = damaged(held_out, recipe, torch.Generator().manual_seed(EVALUATION_SEED))

    def answers(x: Tensor, which: int) -> Tensor:
        return torch.cat([model(part)[which] for part in x.split(100)])

    found = {
        "leaves_accuracy": (answers(leaves.float() / 127.5 - 1, 0).argmax(1) == labels).float().mean(),
        "photos_accuracy": (answers(crops, 0).argmax(1) == sources).float().mean(),
    }
    unexplained = (answers(damage, 1) - levels).square().mean(0) / levels.var(0, correction=0)
    found |= {"held_out_blur_explained": 1 - unexplained[0], "held_out_noise_explained": 1 - unexplained[1]}
    return {name: value.item() for name, value in found.items()}


def mosaic(x: Tensor, side: int) -> Tensor:
    return F.interpolate(F.avg_pool2d(x, side), scale_factor=side)


def distances(features: OfflineFeatures) -> dict[str, float]:
    """Distances of held-out crops to damaged copies, and between disjoint halves, 256 images each."""
    x = data.stack(data.Photos(SIDE, "test", seed=EVALUATION_SEED, length=512), range(512))
    first, second = x[:256], x[256:]
    noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(EVALUATION_SEED))
    copies = {"same": first, "halves": second}
    copies |= {f"blur_{sigma:g}": blurred(first, sigma) for sigma in BLURS}
    copies |= {f"noise_{scale:g}": first + scale * noise for scale in NOISES}
    copies |= {f"mosaic_{side}": mosaic(first, side) for side in MOSAICS}
    return {
        f"distance_{name}": metrics.reconstruction_frechet_distance(first, copy, features)
        for name, copy in copies.items()
    }


# ---------------------------------------------------------------------------------------------------------------------
# Card and folder


def card(recipe: Recipe, record: records.RunRecord) -> str:
    """The model card, in Markdown."""
    m, s = record.metrics, record.series
    photographs = "\n".join(f"- `{p}`: {data.PHOTOGRAPHS[p].licence}" for p in data.photo_names("train"))
    columns = {"leaves, 12 classes": "leaves_accuracy", "photographs, 5": "photos_accuracy",
               "blur": "held_out_blur_explained", "noise": "held_out_noise_explained"}  # fmt: skip
    runs = [f"| seed | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for seed, *values in zip(s["seed"], *(s[key] for key in columns.values()), strict=True):
        runs.append(f"| {seed:.0f} | {' | '.join(f'{value:.1%}' for value in values)} |")
    rows = {"themselves": "same", "256 other crops of the same photographs": "halves"}
    rows |= {f"themselves, blurred, {sigma:g} px": f"blur_{sigma:g}" for sigma in BLURS}
    rows |= {f"themselves, with noise of {scale:g}": f"noise_{scale:g}" for scale in NOISES}
    rows |= {f"themselves, as a mosaic of {side} x {side} pixels": f"mosaic_{side}" for side in MOSAICS}
    table = ["| distance of 256 held-out crops to | |", "|---|---|"]
    table += [f"| {row} | {m['distance_' + key]:.3f} |" for row, key in rows.items()]
    paragraphs = textwrap.dedent(f"""\
        A classifier of {m["parameters"]:.0f} parameters, trained by this project, whose {FEATURES} features give
        Fréchet distances where no other network's weights are on the disk. It opens with
        `diffusab_core.metrics.offline()`; weights are stored in half precision, with their
        SHA-256 beside them.

        **This is not Inception.** Its distances are comparable only among themselves: same weights, same number of
        images, same image size. They are not FID, and no published figure can be set beside them.

        ## Data

        {record.data[0].upper() + record.data[1:]}. `coffee` and `china` were never trained on. Leaves take colours and
        textures from the training photographs too.

        Terms of the training photographs:

        PHOTOGRAPHS

        ## Recipe

        One classification into {len(LABELS)} classes: {LEAF_CLASSES} of leaves, and which of
        {len(LABELS) - LEAF_CLASSES} photographs a crop is from. Every third crop is blurred (Gaussian,
        {recipe.blur[0]:g} to {recipe.blur[1]:g} pixels) and every third gets white noise ({recipe.noise[0]:g} to
        {recipe.noise[1]:g} in images in [-1, 1]), log-uniform in strength, and a second linear layer says how strong,
        as log2(1 + strength / 0.5 pixels) and log2(1 + strength / 0.05). A first version without that layer gave
        distances that did not grow with blur above 1 pixel. Loss: cross-entropy + the levels' mean squared error.
        Batches hold {recipe.leaves_per_batch} leaf images, in one of their eight orientations at random, and
        {recipe.photos_per_batch} crops.

        Four stages of two 3 x 3 convolutions, batch norm and SiLU, each halving the sides; a mean over positions; a
        linear map to {FEATURES} features, which are scaled to unit variance over the training images. Input: images
        (N, 3, H, W) in [-1, 1], clamped, and resized to {SIDE} x {SIDE} with antialiasing.

        AdamW, betas (0.9, 0.99), weight decay {recipe.weight_decay:g}; {recipe.steps} steps; learning rate
        {recipe.learning_rate:g} after {recipe.warmup} steps of warm-up, then a cosine to 0; gradient clip 1. The
        weights are the exponential moving average with a half-life of {record.parameters["ema_half_life"]:g} steps.

        Seed {record.seed}. Device: {record.device}; {m["training_time_s"] / 60:.0f} minutes of training. Script:
        `scripts/train_features.py`. Everything else is in `record.json`.

        ## Measured

        Share of correct answers on images that were not drawn in training: 600 leaf images, and 300 undamaged crops,
        of the training photographs. Share of the variance of the levels of blur and noise that is explained, on 600
        crops of the held-out photographs, damaged as in training. Of the seeds, {record.seed} is the one shipped:

        RUNS

        Distances in squared standard deviations of the training images' features, on crops of the held-out
        photographs (`data.Photos({SIDE}, "test", seed={EVALUATION_SEED})`). Blur is Gaussian, by its standard
        deviation; noise is white, by its standard deviation in images in [-1, 1], clamped afterwards. Blur and noise
        were trained on, on other photographs; mosaics were not:

        DISTANCES

        ## Limits

        Trained on drawn shapes and {len(LABELS) - LEAF_CLASSES} photographs, it knows no objects: it is a check that
        runs everywhere, not a measure of how good pictures look. Of images larger than {SIDE} x {SIDE} it does not see
        the finest detail.

        ## Licence

        MIT, as the package.
        """).split("\n\n")
    filled = [p if p.startswith("#") else textwrap.fill(p, 118, break_on_hyphens=False) for p in paragraphs]
    body = "\n\n".join(filled).replace("PHOTOGRAPHS", photographs)
    body = body.replace("RUNS", "\n".join(runs)).replace("DISTANCES", "\n".join(table))
    return f"---\nlicense: mit\n---\n\n# offline-features\n\n{body}\n"


def write_folder(folder: Path, recipe: Recipe, model: Classifier, run: records.Run) -> records.RunRecord:
    """Half-precision weights and their checksum, measurements of those weights, record and card."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / offline.WEIGHTS.name
    save_file({name: t.half().contiguous() for name, t in model.state_dict().items()}, path)
    path.chmod(0o644)  # made for its owner only
    checksum = f"{files.digest_file(path)}  {path.name}\n"
    (folder / f"{path.name}.sha256").write_text(checksum, encoding="utf-8")
    stored = offline.offline_features(folder)
    run.metrics["parameters"] = sum(p.numel() for p in stored.parameters())
    run.metrics |= accuracies(stored.network, recipe) | distances(stored)
    record = run.finish()
    (folder / "README.md").write_text(card(recipe, record), encoding="utf-8")
    record.write(folder / "record.json")
    return record


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="the first one is written (default: 0)")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help=f"optimiser steps (default: {Recipe.steps})")
    parser.add_argument("--out", type=Path, default=offline.WEIGHTS.parent, help="folder to write")
    parser.add_argument(
        "--checkpoints", type=Path, default=Path("runs/train_features"), help="folder (default: runs/train_features)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    recipe, seed = Recipe(steps=args.steps), args.seeds[0]
    run = records.start(
        "train-offline-features",
        parameters={**asdict(recipe), "name": "offline-features", "features": FEATURES,
                    "ema_half_life": training.Settings(steps=recipe.steps).half_life},
        seed=seed,
        size="laptop",
        data=f"{recipe.leaves} dead-leaves images of {LEAF_CLASSES} classes, and random crops, at random scale and "
        f"flipped at random, of the photographs {', '.join(data.photo_names('train'))} from scikit-image and "
        f"scikit-learn, all {SIDE} x {SIDE}",
    )  # fmt: skip
    done = {s: trained(recipe, s, args.checkpoints / f"seed{s}") for s in args.seeds}
    found = {s: accuracies(model, recipe) for s, (model, _) in done.items()}
    model, first = done[seed]
    run.series = first.series | {"seed": list(found)}
    run.series |= {name: [each[name] for each in found.values()] for name in found[seed]}
    run.metrics["training_time_s"] = first.wall_time_s
    if first.resumed_from:
        run.notes = f"Resumed at step {first.resumed_from}; training_time_s counts every part, wall_time_s the last."
    record = write_folder(args.out, recipe, model, run)
    for name, value in record.metrics.items():
        print(f"{name}: {value:.4f}")
    for s, each in found.items():
        print(f"seed {s}: {each}")


if __name__ == "__main__":
    main()
