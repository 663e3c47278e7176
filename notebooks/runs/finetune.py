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
# # Fine-tuning an autoencoder
#
# One run: an autoencoder that is there already is trained a little further, with one of the terms that are meant to make
# its latents easier to learn, or without one (`plain`, the control). Encoder and decoder are trained, but for the decoder's
# end. Chapters 6 to 8 derive the terms and compare such runs; `sweeps/finetuning.yaml` lists those that are recorded, and
# `sweeps/tried_autoencoders.yaml` what else was tried: Spectrum Matching, AF-LDM's shift equivariance, a penalty on the
# decoder's gain (R1), and a small denoiser trained with the autoencoder (MiniLDM).
#
# The loss is $d(x, \mathrm{Dec}(z)) + \alpha L_{\mathrm{SE\ or\ CHF}} + \gamma L_{\mathrm{soft}} + \beta L_{\mathrm{KL}}$,
# with the mean squared error, and LPIPS (if its weights are on the disk) or HED (which is shipped), as the distance $d$.
# Order, crops and noise of a step depend on the seed alone, so runs that differ in method only are pairs.

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
model: str = "kl-f4c16"  # or run:autoencoder/IDENTITY, a folder, a hub id
method: str = "se"  # plain, se, chf, eq-vae, sm, af-ldm, temporal-se
images: str = "photos"  # leaves, mixture, or a place of images
resolution: int = 64
steps: int = 400
batch_size: int = 8
still_batch: int = 0  # images beside clips
still_images: str | None = None  # their place; single frames of the clips'
learning_rate: float = 1e-4
warmup: int = 0
clip: float = 50.0
mse_weight: float = 1.0
perceptual: str = "none"  # alex, vgg, hed
perceptual_weight: float = 1.0
perceptual_crops: int = 0  # of a batch; 0: all
log_dct_weight: float = 0.0
alpha: float | None = None  # its paper's: 0.25 for SE, 1 for CHF, 0.01 for SM, 1
scales: list[int] = [2, 4]
target: str = "input"  # of SE; reconstruction
chf_ratio: float = 0.7
chf_fixed: bool = False
chf_order: str = "zigzag"  # axes
block_size: int = 8
soft_weight: float = 0.0
soft_power: float = 2.0
kl_weight: float = 0.0
whitening_weight: float = 0.0  # makes the autoencoder ill
wanted_share: float | None = None  # a stop rule: of the latents' energy
wanted_detail: float | None = None  # and of the pictures' at high ranks
psnr_within: float = 0.3  # of before, in dB
matching: str = "both"  # of Spectrum Matching; encoding, decoding
flattening: float = 1.0  # of the spectrum that it asks for
masked_diagonals: list[int] = [0, 8, 10, 12]  # one drawn each step
r1_weight: float = 0.0  # of the decoder's gain
minildm_weight: float = 0.0  # of the divergence from a denoiser trained with it
minildm_denoiser: str = "DiT-XXS/2"
whole: bool = False  # the decoder's end too
fresh: bool = False  # from random weights; needs whole
frozen_up_blocks: int = 0
decoder_only: bool = False
adversarial_weight: float = 0.0
adversarial_start: int | None = None  # half of the steps, at most 50000
discriminator_layers: int = 3
precision: str = "fp32"  # bf16
frames: int | None = None  # of clips, for a video autoencoder
leaves: int = 4096  # of the mixture, or clips of moving leaves
kept_side: int = 0  # in memory, of stored images; 0: read them for every crop
held_out: str = "photos"  # to measure on: coffee and china, or a place of images
probe_crops: int = 64  # of the held-out photographs, to measure on
probe_resolution: int = 128
snapshots: int = 8  # along the training
cuts: list[float] = [0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9]
device: str = "auto"
workers: int = 0
folder: str = ""

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from dataclasses import fields
from pathlib import Path

from diffusab_book import chapters, figures, live, results, runs
from diffusab_core import autoencoders, experiments, metrics
from diffusab_core.experiments import pretraining
from diffusab_core.experiments.pretraining import Pretraining, open_training_images
from diffusab_core.experiments.probing import round_series
from diffusab_core.methods.finetuning import Finetuning
from diffusab_core.training.world import resolve_device

device = str(resolve_device(device))
run = chapters.start("finetune", globals(), data=images, device=device)

# %% [markdown]
# ## The run
#
# The settings are the parameters above, under the same names. Without a folder of its own the run is thrown away when the
# kernel ends; with one it goes on from its last checkpoint when it is started again.

# %%
chosen = {
    f.name: globals()[f.name] for f in fields(Finetuning) if f.name in globals()
}
chosen["scales"] = tuple(scales)
chosen["masked_diagonals"] = tuple(masked_diagonals)
settings = Finetuning(**chosen)
start_from = autoencoders.load(runs.place(model, folder), device=device)
clips = {} if frames is None else {"family": "cogvideox", "frames": frames}
shown = Pretraining(images=images, held_out=held_out, kept_side=kept_side, **clips)
probe = pretraining.crops_for_spectra(shown, probe_resolution, probe_crops)
dataset = open_training_images(
    images,
    resolution,
    steps * batch_size,
    seed,
    leaves=leaves,
    kept_side=kept_side,
    cache=runs.store_of(folder) / "cache" / "leaves" if folder else None,
    workers=workers,
    choices={} if frames is None else {"frames": frames},
)
f, c = start_from.compression, start_from.latent_channels
print(f"{model}: compression {f} x {f}, {c} channels; {len(probe)} probe crops")

# %% [markdown]
# Losses of single batches: each has its own crops, noise, and scale or cut, so single points mean little. Below them the
# spectrum of the posterior means of held-out crops, and what the decoder makes of some of them.

# %% tags=["remove-stderr"]
terms = {"reconstruction": "reconstruction", "se": "SE", "chf": "CHF", "kl": "KL"}
terms |= {"soft": "soft penalty", "temporal_se": "SE in time", "loss": "all terms"}
terms |= {"whitening": "whitening", "discriminator": "discriminator"}
terms |= {"matching": "SM", "shift": "shift", "r1": "gain", "minildm": "MiniLDM"}
curves = live.Curves(
    terms,
    ylabel="loss",
    log_y=True,
    alt="The terms of the loss by training step, each for the batch of that step.",
)
profiles = live.Spectra(
    "profile",
    alt="Profiles of the latents of held-out crops by zigzag rank, light at the first "
    "step and dark at the last.",
)
pictures = live.Pictures("reconstructions", "Held-out crops as they are decoded.")

# %% tags=["remove-stderr"]
done = experiments.finetune(
    settings, run.folder, size=size, autoencoder=start_from, dataset=dataset,
    probe=probe, workers=workers, snapshots=snapshots, record_name="training.json",
    checkpoint_every=max(50, min(500, steps // 10)),
    watch=live.together(curves, profiles, pictures),
)  # fmt: skip
curves.finish(done.record.series)
profiles.finish()
pictures.finish()

# %% [markdown]
# ## What it changed
#
# Measured on the held-out crops, before and after, with the moving average of the weights. *HF energy ratio*: mean energy
# of the upper half of the ranks over that of $D_{00}$. *HF share*: what part of the energy outside $D_{00}$ lies there.

# %%
run.metrics, run.series = dict(done.record.metrics), dict(done.record.series)
run.notes = done.record.notes
rows = {"PSNR, dB": "psnr_db", "SSIM": "ssim", "HF energy ratio": "hf_energy_ratio"}
rows |= {"HF share": "hf_share", "distance to RGB": "spectrum_distance_to_rgb"}
results.show(
    {
        label: {when: run.metrics[f"{when}_{name}"] for when in ("before", "after")}
        for label, name in rows.items()
    },
    ".5g",
)

# %% [markdown]
# And what cutting the latent's high frequencies costs, beside cutting the same part of the picture's (Fig. 8 of
# Skorokhodov et al. 2025).

# %%
curve = metrics.cut_curve(done.autoencoder, probe, cuts, block_size)
run.series |= {"cut_ratio": list(curve.ratios), "cut_psnr_db": list(curve.latent)}
run.series["cut_rgb_psnr_db"] = list(curve.rgb[1:])  # uncut, it is infinite
run.series = round_series(run.series)
figures.lines(
    {
        "latent": (list(curve.ratios), list(curve.latent)),
        "picture": (list(curve.ratios[1:]), list(curve.rgb[1:])),
    },
    xlabel="share of the frequencies cut",
    ylabel="PSNR, dB",
    height=300,
    alt="PSNR against the share of frequencies that is cut, from the latent and from the "
    "picture itself.",
)

# %%
weights = "diffusion_pytorch_model.safetensors"
print(f"{weights}: {(Path(run.folder) / weights).stat().st_size / 2**20:.1f} MiB")
chapters.finish(run)
