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
# # Probing an autoencoder
#
# One run: an autoencoder, shipped, fine-tuned or your own, is measured on crops of photographs that nothing here is trained
# on. Nothing is trained. `sweeps/cut-curves.yaml` and `sweeps/antialiasing.yaml` list the autoencoders that chapters 8 and
# 11 compare in this way.

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0  # of the autoencoder that is measured, if it comes from a run
autoencoder: str = "kl-f4c16"  # or run:finetune/IDENTITY, a folder, a hub id
parts: list[str] = ["examine", "spectra", "cuts", "folding", "bands"]
block_size: int = 8
examine_crops: int = 64
examine_resolution: int = 128
spectra_crops: int = 256
spectra_resolution: int = 128
cut_crops: int = 64
cut_resolution: int = 64
large_crops: int = 4
large_resolution: int = 256
cuts: list[float] = [0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9]
grated_crops: int = 8
in_nyquist: list[float] = [0.25, 0.5, 0.75, 0.9, 1.5, 2.5, 4.5]
angles: list[float] = [0.0, 90.0]
amplitude: float = 0.25
cutoffs: list[float] = [0.05, 0.0625, 0.1, 0.2, 0.4]
edges: list[float] = [0.0, 0.125, 0.25, 0.5]
ruler_crops: int = 256
ruler_resolution: int = 64
crop_seed: int = 0
device: str = "auto"
workers: int = 0
folder: str = ""

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from dataclasses import fields

from diffusab_book import chapters, figures, results, runs
from diffusab_core import autoencoders
from diffusab_core.experiments.probing import Probing, probe_autoencoder
from diffusab_core.training.world import resolve_device

device = str(resolve_device(device))
run = chapters.start(
    "probe",
    globals(),
    data="crops of the held-out photographs coffee, china",
    device=device,
)

# %%
opened = autoencoders.load(runs.place(autoencoder, folder), device=device)
names = {f.name for f in fields(Probing)} - {"model", "seed"}
chosen = {name: globals()[name] for name in names}
chosen = {n: tuple(v) if isinstance(v, list) else v for n, v in chosen.items()}
settings = Probing(model=autoencoder, seed=crop_seed, **chosen)
f, c = opened.compression, opened.latent_channels
print(f"{autoencoder}: compression {f} x {f}, {c} channels")

# %% [markdown]
# The parts one after the other: reconstruction and spectrum (`examine`, `spectra`), the cost of cutting the latent by several
# ways (`cuts`), gratings and low-passed images (`folding`), what the decoder loses with each band of the latent and what
# each band of the image changes there (`bands`). `ruler`, if it is asked for, is what it costs to permute or to zero a band
# of DCT ranks across crops, in the distance that denoisers are judged by.

# %%
found = probe_autoencoder(
    settings, opened, tell=lambda part, _: print(f"{part}: done")
)
run.metrics, run.series = found.metrics, found.series
results.show(run.metrics, ".5g")

# %%
s = run.series
places = {
    "cut_ratio": ("share of the frequencies cut", {"PSNR, dB": "psnr_db"}),
    "in_nyquist": (
        "frequency of a grating over the latent's Nyquist frequency",
        {"gain": "relative_gain", "folded": "folded_share"},
    ),
    "stake_edge": (
        "band of the latent, upper edge",
        {"dB lost without it": "stake_without_db", "with noise": "stake_noised_db"},
    ),
    "ruler_rank": (
        "band of ranks, the first of it",
        {"permuted": "ruler_permuted", "zeroed": "ruler_zeroed"},
    ),
}

# %%
drawn = [
    figures.lines({k: (s[x], s[name]) for k, name in of.items()}, xlabel=label)
    for x, (label, of) in places.items()
    if x in s
]
named = {"cut_ratio": "cuts", "in_nyquist": "gratings"}
named |= {"stake_edge": "bands", "ruler_rank": "ruler"}
titles = [named[x] for x in places if x in s]
alt = "What was measured, against the share of frequencies cut, the frequency of "
alt += "gratings, and bands of the latent, as far as these parts were asked for."
figures.panels(drawn, titles, alt, height=320) if drawn else None

# %%
chapters.finish(run)
