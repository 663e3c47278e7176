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
# # An autoencoder from random weights
#
# One run: a small `AutoencoderKL` or `AutoencoderDC`, or of clips `AutoencoderKLCogVideoX`, is trained from nothing, then
# its spectra are measured on held-out crops. Its widths and channels, the loss, and what it sees are parameters.
# `sweeps/family.yaml` lists the KL family that chapters 2, 4 and 13 compare, `sweeps/material.yaml` the deep-compression
# one, trained on the photograph pool of `scripts/photographs.py`; autoencoders of the first are shipped with the package.
#
# The loss is $\mu\,\overline{(\hat x - x)^2} + \lambda\,\overline{|\hat x - x|} + \beta L_{\mathrm{KL}} + \pi\,d(x, \hat x)
# + \delta L_{\log \mathrm{DCT}}$ with $\hat x = \mathrm{Dec}(z)$, $z \sim q(z \mid x)$. Without the last two terms fine texture is
# smoothed. With `decoder="gan"` a patch discriminator adds its own term; with `"diffusion"` the decoder is a flow model of the
# picture given z, and $\overline{(v_\theta(x_t, t, z) - (\varepsilon - x))^2}$ stands in place of the first two. With
# `quantizer="vq"` the latent is looked up in a codebook, with `"fsq"` it is rounded; then there is no KL, and a codebook adds
# its own loss.

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
family: str = "kl"  # dc, cogvideox
latent_channels: int = 16
channels: list[int] = [16, 32, 48]  # each level but the first halves both sides
layers: int = 1
norm_groups: int = 8
attention: bool = False
blurred: bool = False  # a blur before each sampling of the encoder
gain_control: float = 0.0  # local contrast gain control, over so many pixels
quantizer: str = "none"  # vq, fsq; without KL
codebook: int = 1024  # codes of vq
levels: list[int] = [8, 5, 5, 5]  # of fsq, one number for each latent channel
decoder: str = "gaussian"  # gan, diffusion
decoder_network: str = "UNet-XXS/2"  # of the diffusion decoder, as what follows
decoder_steps: int = 8
z_dropout: float = 0.1
time_location: float = 0.0
time_scale: float | None = None  # of logit-normal times; uniform without
distillation_steps: int = 0
adversarial_weight: float = 0.5  # of the GAN decoder, as what follows
adversarial_start: int | None = None  # half of the steps, at most 50000
discriminator_layers: int = 3
kl_weight: float = 1e-6
mse_weight: float = 1.0
l1_weight: float = 1.0
perceptual: str = "none"  # hed, alex, vgg
perceptual_weight: float = 1.0
perceptual_crops: int = 0  # of a batch; 0: all
log_dct_weight: float = 0.0
images: str = "photos"  # leaves, mixture, or a place of images
held_out: str = "photos"  # to measure on: coffee and china, or a place of images
kept_side: int = 0  # in memory, of stored images; 0: read them for every crop
leaves: int = 4096  # of the mixture, or clips of moving leaves
frames: int | None = None  # of clips, which cogvideox takes: 8k + 1
resolution: int = 64
batch_size: int = 16
steps: int = 6000
learning_rate: float = 2e-3
warmup: int = 100
clip: float = 1.0
evaluation_resolution: int = 64  # what the card says is measured on these
evaluation_crops: int = 256
statistics_crops: int = 2048
half: bool = True  # the weights are kept, and measured, in half precision
precision: str = "fp32"  # bf16
snapshots: int = 8  # along the training
spectra_crops: int = 256  # of the held-out photographs
spectra_resolution: int = 128
block_size: int = 8
judged_steps: list[int] = []  # of the decoder; with any, it is judged at each
judged_seeds: int = 4
judged_features: str = "lite0p64"
cutoffs: list[float] = []  # of images, cycles per pixel; with any, it is fed them
wanted_psnr_db: float = 0.0  # a stop rule: on held-out crops
wanted_ratio: float = 0.0  # and of the highest band at the first cutoff
device: str = "auto"
workers: int = 0
folder: str = ""

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from dataclasses import fields

from diffusab_book import chapters, figures, live, results, runs
from diffusab_core.experiments import cards, decoders, pretraining, probing
from diffusab_core.experiments.pretraining import Pretraining
from diffusab_core.training.world import resolve_device

device = str(resolve_device(device))
trained_on = cards.describe_images(images, resolution, frames)
run = chapters.start(
    "autoencoder",
    globals(),
    data=f"trained on {trained_on}; measured on {spectra_crops} crops of "
    f"{spectra_resolution} x {spectra_resolution} of "
    f"{'coffee, china' if held_out == 'photos' else held_out}",
    device=device,
)

# %% [markdown]
# ## The run
#
# The settings are the parameters above, under the same names. Without a folder of its own the run is thrown away when the
# kernel ends; with one it goes on from its last checkpoint when it is started again. A run whose loss is no longer finite
# ends there: `diverged` is recorded, and what follows is of the weights before that step.

# %%
chosen = {
    f.name: globals()[f.name] for f in fields(Pretraining) if f.name in globals()
}
chosen |= {"channels": tuple(channels), "levels": tuple(levels)}
settings = Pretraining(**chosen)
side = resolution // settings.compression
print(f"{resolution} x {resolution} x 3 to {side} x {side} x {latent_channels}")

# %% [markdown]
# PSNR of the training crops of single batches; below it the spectrum of the posterior means of held-out crops, and what the
# decoder makes of some of them.

# %%
quality = live.Curves(
    {"psnr_db": "training crops", "snapshot_psnr_db": "held-out crops"},
    ylabel="PSNR, dB",
    alt="PSNR of reconstructed training crops, batch by batch, against the step.",
)
profiles = live.Spectra(
    "profile",
    alt="Profiles of the latents of held-out crops by zigzag rank, light at the first "
    "step and dark at the last.",
)
pictures = live.Pictures("reconstructions", "Held-out crops as they are decoded.")


def tell_apart(step: int, values: dict) -> None:
    """Snapshots are of held-out crops, the other entries of training batches."""
    snapshot = "profile" in values
    quality(step, {"snapshot_psnr_db": values["psnr_db"]} if snapshot else values)


# %% tags=["remove-stderr"]
done = pretraining.train_autoencoder(
    settings, run.folder, size=size, workers=workers, snapshots=snapshots,
    record_name="training.json", checkpoint_every=max(50, min(500, steps // 10)),
    cache=runs.store_of(folder) / "cache" / "leaves" if folder else None,
    watch=live.together(tell_apart, profiles, pictures), keep_diverged=True,
)  # fmt: skip
quality.finish(done.record.series)
quality.finish(done.record.series, "snapshot_step")
profiles.finish()
pictures.finish()

# %% [markdown]
# ## Its spectra
#
# On held-out crops, of posterior means, of posterior samples, and of RGB at the latent's size. The *profile* is the ratio of
# mean amplitudes to that of $D_{00}$; chapter 2 defines it and its relatives, all of which are recorded.

# %%
crops = pretraining.crops_for_spectra(settings, spectra_resolution, spectra_crops)
found = probing.spectra(done.autoencoder, crops, 0, block_size)
material = [f"held_out_{name}" for name in cards.MATERIAL_ROWS]
sizes = ("encoder_macs", "decoder_macs", "forward_macs", "decoder_parameters")
ended = ("training_time_s", "diverged", "diverged_at")
kept = ("parameters", *ended, *sizes, *material)
measured = done.record.metrics
run.metrics = {name: measured[name] for name in kept if name in measured}
run.metrics |= found.metrics
run.series = probing.round_series(done.record.series) | found.series
run.notes = done.record.notes
figures.lines(
    {
        name: found.series[f"ratio_of_means_{kind}"]
        for kind, name in (("mean", "means"), ("sample", "samples"), ("rgb", "RGB"))
    },
    xlabel="zigzag rank",
    ylabel="amplitude over that of rank 0",
    log_y=True,
    alt="Profiles of posterior means, posterior samples and RGB at latent size by "
    "zigzag rank.",
)

# %%
units = {
    "held_out_psnr_db": "PSNR, dB",
    "held_out_psnr_db_from_samples": "from samples",
}
units |= {
    "hf_energy_ratio_mean": "HF energy ratio",
    "hf_energy_ratio_rgb": "of RGB",
}
units |= {"silent_channels": "channels that are mostly noise"}
results.show({name: found.metrics[key] for key, name in units.items()}, ".4g")

# %% [markdown]
# ## Its codes
#
# With a quantizer: the profile of the latents before and after it, and its error's energy over theirs by rank. A denoiser
# can be trained on either side; the spectra above are of the latents before.

# %%
coded = (
    probing.codes(done.autoencoder, crops, block_size)
    if quantizer != "none"
    else probing.Found()
)
run.metrics |= coded.metrics
run.series |= coded.series
results.show(coded.metrics, ".4g") if coded.metrics else None

# %%
drawn = {
    "before": "codes_before",
    "after": "codes_after",
    "error's share of the energy": "codes_error_share",
}
figures.lines(
    {name: coded.series[key] for name, key in drawn.items()},
    xlabel="zigzag rank",
    ylabel="amplitude over that of rank 0; share of energy",
    log_y=True,
    alt="Profiles of latents before and after quantisation, and the error's share of "
    "the energy, by zigzag rank.",
) if coded.series else None

# %% [markdown]
# ## Its decoder
#
# With `judged_steps`: reconstruction, perceptual and Fréchet distance, and how much of the picture's high frequencies
# survives, at each number of steps; a decoder of one pass has one. Where the decoder samples, seeds differ in what it
# invents: the variance by frequency is recorded beside what they agree on.

# %%
if judged_steps:
    judged = decoders.judge(
        done.autoencoder,
        crops,
        judged_steps,
        judged_seeds,
        judged_features,
    )
    run.metrics |= judged.metrics
    run.series |= judged.series
results.show(judged.metrics, ".4g") if judged_steps else None

# %% [markdown]
# ## Low-passed pictures
#
# With `cutoffs`: amplitude of each band of the latent when held-out crops lose what lies beyond a cutoff, over that of whole
# ones. FreqWarm takes for granted that it rises in the highest band. `reached` says whether the stop rule is met, if there
# is one.

# %%
if cutoffs:
    fed = probing.respond_to_cutoffs(done.autoencoder, crops, cutoffs)
    run.metrics |= fed.metrics
    run.series |= fed.series
    wanted = {"held_out_psnr_db": wanted_psnr_db, "high_band_ratio": wanted_ratio}
    if any(wanted.values()):
        met = [run.metrics[name] >= least for name, least in wanted.items()]
        run.metrics["reached"] = float(all(met))
results.show(fed.metrics, ".4g") if cutoffs else None

# %%
chapters.finish(run)
