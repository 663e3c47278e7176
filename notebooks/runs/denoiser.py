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
# # A denoiser on the latents of one autoencoder
#
# One run: images are encoded, a denoiser is trained on the latents, draws samples at several time shifts, and is judged.
# Comparisons of latent spaces are made of such runs, the same but for one thing; files in `sweeps/` say which.
#
# The parameters below are all that is chosen. `diffusab_core.experiments.bench.Trial` explains each; `reshaping` and the
# denoiser's own settings are those of Chapters 9 and 14. The defaults are the *standard arm*: small enough for hundreds of
# runs on a laptop, so its distances compare with one another and with nothing that is published.

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0  # of weights, order, times and noise, also when sampling
autoencoder: str = "kl-f4c16"  # or run:autoencoder/IDENTITY, a folder, a hub id
images: str = "photos"  # leaves, or a place of images
reference_images: str = ""  # empty: other crops, or other images, of the same
resolution: int = 32
crop: str = "center"  # random
frames: int | None = None  # of clips, for a video autoencoder
labels: bool = False
flips: bool = False
crops: int = 8192  # to train on
reference: int = 8192  # to compare with
data_seed: int = 0
denoiser: str = "DiT-XXS/2"
steps: int = 600
batch_size: int = 32
learning_rate: float = 1e-3
final_learning_rate: float = 1e-5
warmup: int | None = None  # of the learning rate; 5% of the steps
weight_decay: float = 0.01
clip: float = 16.0
ema_half_life: float | None = None  # 5% of the steps
time_location: float = 0.0
time_scale: float = 1.0
self_conditioning: float = 0.0
label_dropout: float = 0.1
precision: str = "fp32"  # bf16
accumulation: int = 1
compile: bool = False
checkpoint_activations: bool = False
r0: float = 0.0  # FreqWarm's cutoff in cycles per pixel; 0: none
warmup_steps: int | None = None  # FreqWarm's; a quarter of the steps
schedule: str = "hard"  # linear, cosine
radii: list[float] = []
warmup_kind: str = "filtered"  # reversed, amplitude
mask: str = "none"  # rows, checkerboard, blocks, random
power: float = 1.0  # of the spectrum, by a filter
ramp_from: float = 1.0
ramp: float = 0.0
parts: str = "NLC"  # NL: coloured noise
filter: str = ""
surrogate: str = "none"  # phase, gaussian
white_channels: int = 0
samples: int = 1024
sampling_steps: int = 20
sampler: str = ""
shifts: list[float] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
guidance: float = 1.0
sampling_seed: int | None = None  # the run's
sampling_batch: int = 64
features: list[str] = ["offline", "lite0p64"]  # lite0, inception, dinov2
snapshots: int = 3
snapshot_samples: int = 256
snapshot_steps: int = 10
trajectory: int = 0  # samples that are followed along sampling
block_size: int = 8
checkpoint_every: int = 500
device: str = "auto"
workers: int = 0
folder: str = ""

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from diffusab_book import chapters, figures, live, results, runs
from diffusab_core.experiments import judging, trajectories, trial
from diffusab_core.experiments.bench import Bench, Trial
from diffusab_core.training.world import resolve_device

device = str(resolve_device(device))
place = runs.place(autoencoder, folder)
settings = Trial.pick(globals() | {"autoencoder": place})
run = chapters.start("denoiser", globals(), data=settings.data, device=device)
bench = Bench(
    settings,
    runs.store_of(run.folder) / "cache",
    device=device,
    workers=workers,
)

# %% [markdown]
# ## Training
#
# The loss is that of single batches, at random times. It does not compare latent spaces: one that is easier to predict has a
# smaller loss, whether or not its samples are better. Below it, samples of the averaged weights along the way, and their
# spectrum beside that of real latents.

# %% tags=["remove-stderr"]
curves = live.Curves(
    {"loss": "loss"},
    ylabel="flow loss",
    alt="The loss by training step, each for the batch of that step.",
)
spectra = live.Spectra(
    "generated_energy",
    "Energy of generated latents by zigzag rank, light at the first step and dark at "
    "the last, beside that of real latents.",
    reference={"real": judging.real_energy(bench)},
    ylabel="energy, over that of rank 0",
)
grid = live.Pictures("samples", "Samples along the training, at a shift of 1.")
trained = trial.train(
    bench, run.folder, size=size, watch=live.together(curves, spectra, grid)
)
curves.finish(trained.record.series)
spectra.finish()
grid.finish()

# %% [markdown]
# ## Samples
#
# Samples are drawn at each time shift, from the same noise. A larger shift spends more of the sampler's steps where there is
# much noise. The *gap* is the Fréchet distance to decoded real latents of other images: what the denoiser has not learned.
# The other line is the distance to the images themselves: what a user gets, the decoder's faults included.

# %% tags=["remove-stderr"]
first = settings.features[0]
by_shift = live.Curves(
    {f"gap_{first}": "gap", f"frechet_{first}": "to the images"},
    mode="lines+markers",
    xlabel="time shift",
    ylabel=f"Fréchet distance ({first})",
    log_x=True,
    alt="Fréchet distance of samples by the time shift of the sampler: the gap to "
    "decoded real latents, and the distance to images.",
)
grid = live.Pictures("samples", "Samples at the best time shift.", word="shift")
judged = judging.judge(bench, trained, watch=live.together(by_shift, grid))
run.metrics, run.series, run.notes = judged.metrics, judged.series, judged.notes
by_shift.finish()
grid.images, grid.step = judged.images, judged.metrics["best_shift"]
grid.finish()
_ = judging.write_samples(run.folder / "samples.webp", judged.images)

# %% [markdown]
# With `trajectory`, so many samples are followed along the sampler's steps: how much energy decoded states have at the upper
# half of a picture's ranks, over that of the finished samples, and so the ends that the model predicts from them.

# %%
lines = {}
if trajectory:
    followed, states = trajectories.follow(bench, trained.denoiser, trajectory)
    run.series |= followed
    lines = {
        what: (followed["trajectory_time"], followed[f"trajectory_{name}_hf"])
        for what, name in {"states": "state", "predictions": "prediction"}.items()
    }
figures.lines(
    lines,
    xlabel="time, from noise at 1",
    ylabel="high-frequency energy",
    log_y=True,
    alt="High-frequency energy of decoded states and predictions along sampling, "
    "over that of the finished samples.",
) if lines else None

# %% [markdown]
# ## Numbers
#
# `best` is at the shift with the smallest gap. A perfect denoiser would reach the floor; decoded noise is where it starts.

# %%
numbers = judged.metrics
rows = {
    f"shift {settings.base_shift:g}": (f"gap_{first}", f"frechet_{first}"),
    f"best, shift {numbers['best_shift']:g}": (
        f"best_gap_{first}",
        f"best_frechet_{first}",
    ),
    "floor: decoded real latents": (
        f"gap_floor_{first}",
        "decoded_latents_frechet",
    ),
    "decoded noise": (f"gap_noise_{first}", "decoded_noise_frechet"),
}
results.show(
    {
        row: dict(
            zip(("gap", "to the images"), map(numbers.get, names), strict=True)
        )
        for row, names in rows.items()
    },
    ".3g",
)

# %% [markdown]
# By frequency: the relative error of the one-step estimate of held-out latents, from little noise to much, and what damage
# to one band of real latents costs in the gap (permuted: each latent has the band of another one; zeroed: all have its mean).

# %%
series = judged.series
ends = zip(series["ruler_first_rank"], series["ruler_last_rank"], strict=True)
bands = [f"{first_rank:g}-{last_rank:g}" for first_rank, last_rank in ends]
ruler = {
    what: dict(zip(bands, series[f"ruler_{what}"], strict=True))
    for what in ("permuted", "zeroed")
}
parts = {
    "cost of damage": figures.bars(ruler, xlabel="ranks", ylabel="gap", log_y=True)
}
if "error_time" in series:
    errors = {f"t = {t:g}": series[f"error_{t:g}"] for t in series["error_time"]}
    parts["error"] = figures.profiles(errors, "", ylabel="relative error")
figures.panels(
    list(parts.values()),
    list(parts),
    "Cost of damaged bands in the gap, and relative error of the one-step estimate by "
    "zigzag rank at several times.",
)

# %% [markdown]
# Samples that repeat training images would be much nearer to one of them than real latents of other images are. Ratio of the
# median distances (1: as near as those), and the share of samples that are nearer than all but 1% of those (0.01: as many):

# %%
print(f"ratio {numbers['nearest_ratio']:.2f}, share {numbers['nearest_share']:.3f}")
for name in ("training", "sampling", "judging", "ruler"):
    print(f"{name}: {numbers[f'{name}_time_s']:.0f} s")
chapters.finish(run)
