#!/usr/bin/env python
"""Ship fine-tuned autoencoders: what scripts/record_finetuning.py left in runs/finetuning/, in half precision.

    python scripts/ship_finetuned.py runs/finetuning

Writes diffusab_core/autoencoders/weights/NAME for each arm below, with the normalisation of its own latents, a card
and its record.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from train_shipped import EVALUATION_SEED, PACKAGE_WEIGHTS, RECIPES, measure, normalisation, normalise

from diffusab_core import data
from diffusab_core.experiments import card, records

SEED = 0
BASE = RECIPES["kl-f4c16"]  # says what cards are measured on
ARMS = {"kl-f4c16-ft": "plain", "kl-f4c16-se": "se", "kl-f4c16-chf": "chf-drawn0.7"}


def ship(name: str, run: Path, folder: Path) -> None:
    """Weights in half precision, measured again as stored; the card of the run with what was measured and the terms."""
    record = records.read(run / "record.json")
    model = AutoencoderKL.from_pretrained(run).eval()
    normalise(model, BASE)
    model.register_to_config(_name_or_path=record.parameters["model"])  # not the folder it lies in here
    model.half().save_pretrained(folder)
    found = measure(AutoencoderKL.from_pretrained(folder).eval(), BASE)
    record = record.model_copy(
        update={
            "parameters": {"name": name, **record.parameters},
            "metrics": record.metrics | found,
            "data": f"random crops of the photographs {', '.join(data.photo_names('train'))}",
        }
    )
    terms = "\n".join(f"- `{photo}`: {data.PHOTOGRAPHS[photo].licence}" for photo in data.photo_names("train"))
    measured = textwrap.fill(
        f"On {BASE.evaluation_crops} fixed crops of held-out photographs (`data.Photos({BASE.evaluation_resolution}, "
        f'"test", seed={EVALUATION_SEED})`), with the stored half-precision weights run in float32: '
        f"{found['held_out_psnr_db']:.2f} dB, high-frequency energy ratio of the latents "
        f"{found['held_out_latent_high_frequency_energy_ratio']:.5f}. Normalise latents as {normalisation(model)}.",
        118,
    )
    text = card(name, record).replace(
        "The licence is that of the model it was made from.\n",
        f"## As stored\n\n{measured}\n\n## Data and licence\n\nTrained on the photographs that its base was trained "
        f"on; `coffee` and `china` were never trained on.\n\n{terms}\n\nMIT, as the package. Scripts: "
        "`scripts/record_finetuning.py`, then `scripts/ship_finetuned.py`.\n",
    )
    (folder / "README.md").write_text(text.replace("---\n", "---\nlicense: mit\n", 1), encoding="utf-8")
    record.write(folder / "record.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the runs, with one folder ARM-seedK each")
    parser.add_argument("--names", nargs="+", choices=[*ARMS], default=[*ARMS], help="which to ship (default: all)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.names:
        ship(name, options.runs / f"{ARMS[name]}-seed{SEED}", PACKAGE_WEIGHTS / name)
        size = (PACKAGE_WEIGHTS / name / "diffusion_pytorch_model.safetensors").stat().st_size
        print(f"{name}: {size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
