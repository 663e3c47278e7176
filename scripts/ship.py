#!/usr/bin/env python
"""Write the folder of an autoencoder that travels inside the package: half-precision weights, card and record.

    python scripts/ship.py kl-f8c4              the run that makes it, unless it is done, and its folder
    python scripts/ship.py kl-f4c16-se --out DIR --root runs

Every shipped autoencoder is an arm, with seed 0, of one of the sweeps below; `diffusab run` does the work.
"""

from __future__ import annotations

import argparse
import textwrap
import tomllib
from collections import Counter
from pathlib import Path

from diffusab_book import runs
from diffusab_book.sweeps import files, plan
from diffusab_core import autoencoders, metrics
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.experiments import card, cards, pretraining, records
from diffusab_core.experiments.pretraining import Pretraining

SEED = 0
FINETUNED = {"kl-f4c16-ft": "plain", "kl-f4c16-se": "se", "kl-f4c16-chf": "chf-drawn0.7"}
SWEEPS = ("shipped", "family", "family-f16", "material")
MANIFEST = Path(__file__).with_name("photographs.toml")


def spec_of(name: str) -> tuple[str, runs.RunSpec]:
    """The sweep and the run that make a shipped autoencoder."""
    sweep, arm = ("finetuning", FINETUNED[name]) if name in FINETUNED else (None, name)
    for candidate in [sweep] if sweep else SWEEPS:
        found = files.read(candidate)
        if arm in found.arms():
            return candidate, plan.plan(found, arms=[arm], seeds=[SEED]).own[arm, SEED].spec
    raise KeyError(f"no sweep makes {name}")


def ship(name: str, made: Path, sweep: str, out: Path) -> records.RunRecord:
    """From a finished run's folder to a folder of the package; the numbers of the card are those of what is stored."""
    done = records.read(made / "training.json")
    made_by = f"Made by `scripts/ship.py {name}` from `sweeps/{sweep}.yaml`."
    opened = autoencoders.load(made)
    measured_on = Pretraining() if name in FINETUNED else Pretraining(**_settings(done))
    if name in FINETUNED:  # the others are normalised already
        pretraining.normalise(opened, pretraining.first_images(measured_on, {}))
    opened.module.register_to_config(_name_or_path=done.parameters.get("model", name))  # not the folder it lies in
    opened.module.half().save_pretrained(out)
    stored = autoencoders.load(out)
    splits = {label: pretraining.crops_of(s, measured_on) for label, s in (("train", "train"), ("held_out", "test"))}
    found = pretraining.measure(stored, splits)
    if measured_on.measures_material:
        material = metrics.measure_material(stored, splits["held_out"])
        found |= {f"held_out_{key}": value for key, value in material.items()}
    found["parameters"] = float(sum(p.numel() for p in stored.module.parameters()))
    done = done.model_copy(update={"parameters": {"name": name, **done.parameters}, "metrics": done.metrics | found})
    if name in FINETUNED:
        text = _card_of_finetuned(name, done, stored, measured_on, made_by)
    else:
        text = cards.card(name, done, stored, made_by, describe_pool() if sweep == "material" else "")
    (out / "README.md").write_text(text, encoding="utf-8")
    done.write(out / "record.json")
    return done


def describe_pool() -> str:
    """The photograph pool and its terms, in Markdown: how many files of each licence, and where each is named."""
    packages = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))["packages"]
    trained = [entry["licences"][row[3]] for entry in packages.values() for row in entry["files"] if len(row) == 4]
    licences = Counter(trained)
    told = ", ".join(f"{count} under {licence}" for licence, count in sorted(licences.items()))
    return (
        f"Terms of the {len(trained)} training photographs, from the Debian packages {', '.join(packages)}: "
        f"{told}. Author and licence of each stand in `scripts/photographs.toml`, by which `scripts/photographs.py` "
        "fetches them."
    )


def _settings(done: records.RunRecord) -> dict:
    names = Pretraining.__dataclass_fields__
    values = {key: value for key, value in done.parameters.items() if key in names}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _card_of_finetuned(
    name: str, done: records.RunRecord, stored: Autoencoder, measured_on: Pretraining, made_by: str
) -> str:
    """The card of the run, with what was measured of the stored weights and the terms of the data."""
    m = done.metrics
    measured = textwrap.fill(
        f"On {measured_on.evaluation_crops} fixed crops of held-out photographs "
        f'(`data.Photos({measured_on.evaluation_resolution}, "test", seed={pretraining.EVALUATION_SEED})`), with the '
        f"stored half-precision weights run in float32: {m['held_out_psnr_db']:.2f} dB, high-frequency energy ratio of "
        f"the latents {m['held_out_latent_high_frequency_energy_ratio']:.5f}. Normalise latents as "
        f"{cards.describe_normalisation(stored)}.",
        118,
    )
    terms = (
        "Trained on the photographs that its base was trained on; `coffee` and `china` were never trained on.\n\n"
        f"{cards.list_terms()}\n\nMIT, as the package. {made_by}"
    )
    text = card(name, done).replace(
        "The licence is that of the model it was made from.\n",
        f"## As stored\n\n{measured}\n\n## Data and licence\n\n{terms}\n",
    )
    return text.replace("---\n", "---\nlicense: mit\n", 1)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted({*autoencoders.SHIPPED, *files.read("material").arms()})
    parser.add_argument("name", choices=known, help="which model: a shipped one, or one that is to be")
    parser.add_argument("--out", type=Path, help="folder to write (default: diffusab_core/autoencoders/weights/NAME)")
    parser.add_argument("--root", type=Path, default=runs.ROOT, help="the store of runs (default: runs)")
    options = parser.parse_args(words)
    sweep, spec = spec_of(options.name)
    runs.execute(spec, options.root)
    out = options.out or autoencoders.WEIGHTS / options.name
    done = ship(options.name, spec.folder(options.root), sweep, out)
    size = (out / "diffusion_pytorch_model.safetensors").stat().st_size
    print(f"{out}: {size / 2**20:.2f} MiB, held out {done.metrics['held_out_psnr_db']:.2f} dB")


if __name__ == "__main__":
    main()
