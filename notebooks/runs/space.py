# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A latent space before a denoiser is trained on it
#
# One run: the latents that the run notebook `denoiser` would train on are measured in every way that may tell how easily they
# are learned. Nothing is trained but, where `probe_steps` asks for it, a denoiser of a few steps. Which of these numbers goes
# with the gap of trained denoisers is another question: `sweeps/spaces.yaml` asks it.
#
# The parameters are those of `denoiser` that make a latent space, and how much of it to measure;
# `diffusab_core.experiments.scoring.Scoring` explains each.

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0  # of the probe
autoencoder: str = "kl-f4c16"  # or run:autoencoder/IDENTITY, a folder, a hub id
images: str = "photos"  # leaves, or a place of images
resolution: int = 32
crop: str = "center"  # random
crops: int = 8192
reference: int = 8192
data_seed: int = 0
denoiser: str = "DiT-XXS/2"  # its patch makes the tokens
mask: str = "none"  # rows, checkerboard, blocks, random
power: float = 1.0  # of the spectrum, by a filter
white_channels: int = 0
items: int = 2048
stake_items: int = 256
samples: int = 1024
probe_steps: int = 0
probe_samples: int = 512
probe_shift: float = 4.0
block_size: int = 8
device: str = "auto"
workers: int = 0
folder: str = ""

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from dataclasses import fields

from diffusab_book import chapters, figures, results, runs
from diffusab_core.experiments.scoring import Scoring, open_bench, score_space
from diffusab_core.methods.diffusability import CANDIDATES
from diffusab_core.training.world import resolve_device

device = str(resolve_device(device))
place = runs.place(autoencoder, folder)
names = {f.name for f in fields(Scoring)} - {"autoencoder"}
settings = Scoring(autoencoder=place, **{name: globals()[name] for name in names})
about = settings.trial().data
run = chapters.start("space", globals(), data=about, device=device)
bench = open_bench(
    settings, runs.store_of(run.folder) / "cache", device=device, workers=workers
)

# %% [markdown]
# Numbers of the latents alone, of the posterior, of the decoder, and of a probe denoiser if there is one. Latents are in the
# network's coordinates: normalised, behind mask and filter, with the channels that are appended.

# %% tags=["remove-stderr"]
found = score_space(
    settings, bench, run.folder, tell=lambda group, _: print(f"{group}: done")
)
run.metrics, run.series = found.metrics, found.series

# %%
rows = {
    f"{candidate.title}, {candidate.unit}": run.metrics[name]
    for name, candidate in CANDIDATES.items()
    if name in run.metrics
}
results.show(rows, ".4g")

# %% [markdown]
# What it costs samples when a band of ranks is permuted across images, and that times the error which a linear estimate of
# the band would have.

# %%
curves = {
    name: (run.series["stake_first_rank"], run.series[f"stake_{key}"])
    for name, key in {"stake": "permuted", "expected": "expected_error"}.items()
}
figures.lines(
    curves,
    xlabel="band of ranks, the first of it",
    ylabel="Fréchet distance (offline)",
    alt="What permuting each band of zigzag ranks costs in the Fréchet distance, and "
    "that times the error which is expected in the band.",
)

# %%
for group in ("latents", "autoencoder", "decoder", "probe"):
    if f"{group}_time_s" in run.metrics:
        print(f"{group}: {run.metrics[f'{group}_time_s']:.0f} s")
chapters.finish(run)
