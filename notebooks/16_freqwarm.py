# ---
# jupyter:
#   book:
#     needs: [chap-denoiser, chap-encoder-decoder]
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

# %% [markdown] slideshow={"slide_type": "slide"}
# (chap-freqwarm)=
# # FreqWarm: a curriculum in frequency
#
# **In short.** The premise, that low-passed images are encoded with *more* energy at high latent frequencies, is false in all
# six autoencoders here. And in **600 steps** of training the curriculum changes nothing in the samples: at $r_0 = 0.2$, against
# plain training and paired by seed, their distance changes by −1.0% (95% interval −5.2% to +3.2%) with 4 channels and by +1.0%
# (−2.7% to +4.6%) with 64, where the paper reports −22% to −32% for much larger models. Such gains are excluded at this size,
# and only at this size.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
models: list[str] = ["kl-f8c4", "kl-f8c16", "kl-f8c64", "kl-f16c64", "kl-f16c128", "kl-f16c256"]  # fmt: skip
# on which the premise is tested; the first is also trained on
n_groups: int = 3  # draws of crops, for the spread
n_crops: int = 12  # in each
live_r0: float = 0.05  # cutoff of the live warm-up, in cycles per pixel
live_steps: int = 24  # of which the first half is the warm-up
live_batch: int = 16
live_crops: int = 96
device: str = "cpu"  # where the live training runs: auto, cuda, mps or cpu
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import math
from statistics import fmean

import torch

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.curriculum import curriculum_explorer
from diffusab_core import autoencoders, data, experiments
from diffusab_core.autoencoders.catalogue import CATALOGUE
from diffusab_core.latents import TensorLatents
from diffusab_core.latents.encoded import EncodedLatents
from diffusab_core.methods import denoising, diffusability
from diffusab_core.methods.freqwarm import SCHEDULES, FreqWarm, WarmedLatents
from diffusab_core.metrics.probes import EDGES, fed_energy
from diffusab_core.metrics.yardsticks import posterior_samples

# %% jupyter={"source_hidden": true} tags=["hide-input"]
run = chapters.start(
    "16_freqwarm",
    globals(),
    data=f"{n_groups} draws of {n_crops} crops of the training photographs, of 64² for f8 and 128² for f16; live "
    f"training on {live_crops} crops of 64²",
)
R0S = (0.1, 0.2, 0.4)  # cycles per pixel of the image
BANDS = {
    "1 to 9": slice(1, 10),
    "10 to 31": slice(10, 32),
    "32 to 63": slice(32, 64),
}
opened = {name: autoencoders.load(name) for name in models}
recorded = results.compare_spectra(results.frame("freqwarm"), BANDS)
FAMILIES = {"c4": "f8, 4 channels", "c64": "f8, 64 channels"}
BASELINE = "whole images throughout"

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
METRIC = "frechet_offline"
change = {
    (c, r): results.paired(recorded, METRIC, f"{c}-r{r:g}", c, relative=True)
    for c in FAMILIES
    for r in R0S
}  # by the curriculum, relative to the baseline


def in_percent(p: results.Paired) -> tuple[float, float, float]:
    return 100 * p.mean, 100 * p.low, 100 * p.high


null = figures.bars(
    {
        label: {f"r₀ = {r:g}": in_percent(change[c, r]) for r in R0S}
        for c, label in FAMILIES.items()
    },
    ylabel="change of the Fréchet distance, %",
    alt="Recorded change of the Fréchet distance of samples by FreqWarm in percent, for three cutoffs and two autoencoders, "
    "with 95% intervals that all hold zero; the gains that the paper prints for its models, −22% to −32%, lie far below.",
)
figures.mark(null, y=-22, text="the paper's models with 48 channels and more:")
figures.mark(null, y=-32, text="from −22% to −32%")

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded, three seeds, 600 steps of training: what a warm-up on low-passed images does to the distance of samples, mean and
# 95% interval of the paired differences. The dotted lines are the paper's, for other models, data and features.*
#
# {numref}`chap-encoder-decoder` went through a diagnosis: decoders need the high frequencies of their latents, and encoders
# are said to hand on too little of them. Now the prescription. {cite:t}`lai2026toward` leave the autoencoder as it is and
# change what the *denoiser* is shown: latents of low-passed images first, of whole images later.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - write down what a denoiser is fed at step $k$ under FreqWarm, and train one so, on the fly or from two caches;
# - tell a cutoff of the image from a frequency of the latent, and say why a linear encoder cannot answer a low-pass with
#   more energy in any band;
# - test the premise of the method on an autoencoder before spending a training on it;
# - explain a jump of the loss at the switch without any learning;
# - read a paired comparison over few seeds, and say what it leaves open.
# ```

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The prescription
#
# ```{admonition} In the paper
# :class: paper
#
# {cite:t}`lai2026toward` train the denoiser on latents of images from which all that lies beyond the radius $r_0$
# (in cycles per pixel of the image, Nyquist 0.5) is removed, then on latents of whole images. Autoencoder, loss and sampler
# stay. The stated reason: "excessive" high frequencies of the image lower the amplitude of the latent's high frequencies (Finding 3),
# so that a denoiser sees too little of what the decoder relies on; filtering them out lets the encoder produce stronger high
# frequencies, on which the denoiser warms up.
#
# ImageNet 512², USiT-H, without guidance; gFID (lower is better) / Inception score (higher is better):
#
# | autoencoder | baseline | with FreqWarm |
# |---|---|---|
# | Wan2.2-AE f16c48 | 43.67 / 33.48 | 29.56 / 46.16 |
# | LTX-AE f32c128 | 24.18 / 61.60 | 18.05 / 76.06 |
# | DC-AE f32c128 | 13.84 / 85.40 | 9.42 / 108.80 |
#
# The gain grows with the channels. DC-AE f32, gFID: c32 5.75 → 5.74, c128 13.84 → 9.42, c512 54.84 → 42.66.
#
# Of three thresholds the middle one is best (DC-AE f32c128, USiT-H; gFID / Inception score, the baseline has 13.84 /
# 85.40): $r_0 = 0.05$ gives 23.11 / 65.50, $r_0 = 0.2$ gives 9.42 / 108.80, $r_0 = 0.4$ gives 12.88 / 90.49. "Single-peaked",
# with the detail lost below and the harm kept above.
#
# Batch 4096, 32 A100 for 5 to 7 days. The gain is reported for four denoisers, DiT-XL, UViT-H, USiT-H and USiT-2B. No
# spread over seeds is given.
# ```
#
# **How long the warm-up is** is not published, nor is the number of steps in all; **schedules** other than a hard switch were
# not tried; and the mechanism behind Finding 3 is a suspicion (aliasing), not a result. The mask here is a circle, as in the
# paper, and the filtered image is not clamped to the range again, nor is it in the authors' code.
#
# ## What a step is fed
#
# At step $k$ the denoiser sees posterior samples of
#
# $$
# z_k = \mathrm{Enc}\bigl(F^{-1}(M_{r(k)}\cdot F(x))\bigr), \qquad M_r(\nu) = \bigl[\,|\nu|\le r\,\bigr],
# $$ (eq-warm-latents)
#
# with the cutoff
#
# $$
# \begin{aligned}
# r(k) &= \begin{cases} r_0 + \bigl(\sqrt{1/2} - r_0\bigr)\,s(k/W) & k < W \\ \infty & k \ge W , \end{cases} \\
# s(u) &= \begin{cases} 0 & \text{hard (the paper's)} \\ u & \text{linear} \\ \tfrac12(1-\cos\pi u) & \text{cosine.}
# \end{cases}
# \end{aligned}
# $$ (eq-warm-cutoff)
#
# $W$ steps of warm-up, and $\sqrt{1/2}$ the corner of the image's spectrum, beyond which there is nothing. The last two
# schedules are this book's. `FreqWarm` is this formula: a **pure function of the step**, so that a run that was
# killed goes on with the very images it would have seen. And all stages are normalised by *one* set of statistics, those
# of the whole images' latents, because that is the space in which samples are drawn in the end ({ref}`ex-warm-statistics`).

# %%
plans = {s: FreqWarm(150, r0=0.2, schedule=s) for s in SCHEDULES}
for k in (0, 75, 149, 150, 599):
    print(k, {s: round(plan.cutoff(k), 3) for s, plan in plans.items()})

# %% [markdown]
# In the explorer: the cutoff along a run of 600 steps, the photograph as the encoder sees it at the chosen step, and the
# energy that each band of the latent then has, over that of the whole photograph's latent. Bands are in cycles per pixel of
# the *latent*, the cutoff is in cycles per pixel of the *image*.

# %% slideshow={"slide_type": "subslide"}
picture = data.photo("chelsea")[:, 56:152, 146:242]  # (3, 96, 96)
last_f8 = [n for n, a in opened.items() if a.compression == 8][-1]
curriculum_explorer(
    picture,
    {n: opened[n] for n in dict.fromkeys((models[0], last_f8))},
    r0s=(0.1, 0.2),
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Two frequencies that must not be confused
#
# A latent position covers $f$ pixels, so that the latent's Nyquist frequency, half a cycle per latent pixel, is $1/(2f)$
# cycles per pixel of the image: 0.0625 at f8 and 0.0156 at f32. The threshold of 0.2 is 3.2 and 12.8 times as high.
#
# **Nothing that the low-pass removes has a frequency that a channel of the latent could show as such.** If it changes the
# latent at all, it does so because the encoder folds it, or because the encoder is not linear. So take the linear case
# first. A linear encoder filters the image by $h$ and keeps every $f$-th position; a channel of the latent is
#
# $$
# \hat z(\rho) = \frac1{f^2}\sum_{a\in\{0,\dots,f-1\}^2} \hat h\Bigl(\frac{\rho+a}f\Bigr)\,\hat x\Bigl(\frac{\rho+a}f\Bigr),
# $$ (eq-warm-folding)
#
# the sum of the $f^2$ frequencies of the image that fold onto $\rho$ (up to whole cycles). In stationary images, where no
# place is special, different frequencies are uncorrelated, whatever the images look like otherwise. Then energies add, and
# with $S$ the image's power spectrum
#
# $$
# \mathbb E\,\lvert\hat z(\rho)\rvert^2 = \frac1{f^4}\sum_a
# \Bigl\lvert\hat h\Bigl(\frac{\rho+a}f\Bigr)\Bigr\rvert^2 S\Bigl(\frac{\rho+a}f\Bigr) .
# $$ (eq-warm-linear)
#
# A low-pass sets some terms of the sum to zero. None of them is negative, so that **no band of the latent can gain
# energy**. Aliasing in a linear encoder does not hide high frequencies; it *adds* energy to them, and the low-pass takes it
# away. What Finding 3 reports needs an encoder that is not linear, or images that are not stationary. There is a candidate
# for the former in every encoder here: group normalisation divides the features $u_c(p)$ of a group $I$ of channels (here
# all of them) by their common spread over channels $c$ and the $P$ positions $p$, about their common mean $m$,
#
# $$
# y_c = \frac{u_c - m}{\sigma}, \qquad \sigma^2 = \frac1{|I|\,P}\sum_{c\in I}\sum_p \bigl(u_c(p) - m\bigr)^2 ,
# $$ (eq-warm-groupnorm)
#
# so that fine detail which raises $\sigma$ shrinks everything else in the group, and its removal lets the rest grow
# ({ref}`ex-warm-norm`). (DC-AE, LTX-AE and Wan2.2-AE normalise over the channels of each
# position, which is another thing: there a position without detail is not touched by detail elsewhere, and the argument does
# not carry over without a measurement.) Whether this gain or the loss of folded energy is larger in a given autoencoder is a
# question for a measurement.
#
# ## Is more fed?
#
# The premise of the curriculum can be tested before any denoiser is trained: low-pass images at $r_0$, encode, and compare
# the energy of the latent's high bands with that for whole images. Latents (posterior means) are normalised by channel as for
# a denoiser, so that all channels count alike. "High" is the mean of the ratios of the two bands beyond 0.3 cycles per latent
# pixel.

# %%
ratio = {}  # name: (groups, R, bands), energies over those of whole images
for name, autoencoder in opened.items():
    side, found = 8 * autoencoder.compression, []
    for group in range(n_groups):
        photos = data.Photos(side, "train", seed=100 + group, length=n_crops)
        crops = data.stack(photos, range(n_crops))
        energy = fed_energy(autoencoder, crops, [math.inf, *R0S])
        found.append(energy[1:] / energy[0])
    ratio[name] = torch.stack(found)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
HIGH = [i for i, edge in enumerate(EDGES[:-1]) if edge >= 0.3]
high = {
    name: {f"{r:g}": found[:, i, HIGH].mean(-1).tolist() for i, r in enumerate(R0S)}
    for name, found in ratio.items()
}  # name: r0: one value for each group of crops
premise = figures.over_seeds(
    high,
    "Energy of the high latent bands under low-passed images over that under whole images, against the cutoff r0, one "
    "line for each autoencoder and one marker for each draw of crops. The line at one means no change; all lie below it.",
    xlabel="cutoff r₀ of the images, cycles per pixel",
    ylabel="high-band energy, over whole images'",
    log_y=False,
)
for name, of in high.items():
    run.metrics |= {
        f"{name}: high bands at r0 {r}": fmean(v) for r, v in of.items()
    }
figures.mark(premise, y=1).update_layout(margin_t=84)

# %% [markdown] slideshow={"slide_type": "slide"}
# **The premise does not hold in any of these autoencoders.** A warm-up feeds **less** high-frequency energy, not more, at every
# cutoff, in every draw of crops, as a linear encoder would on stationary images, {eq}`eq-warm-linear`. At the paper's threshold
# the change is small, 2% with f8 and less with f16. It says nothing about DC-AE, LTX-AE or Wan2.2-AE, which cannot be opened
# here; the cell above runs on any of them (parameter `models`), and should be run before the training.
#
# Low-passing changes the distribution by more than its energy, so that a curriculum could help (or harm) for other reasons:
# images with less detail may simply be easier, and the order from easy to hard is what curricula in general are about. So
# the experiment stands whatever the premise.
#
# ## A warm-up, live
#
# Three short trainings of DiT-XXS/1 with one seed, so that first weights, the order of crops, times and noise are the same:
# on whole images; under the curriculum with images low-passed and encoded **on the fly**; and under the same curriculum
# from **two sets of stored latents**, as it is done where encoding is dear. The live cutoff is 0.05 cycles per image
# pixel, below the latent's Nyquist frequency (0.0625 at f8) and where the paper found harm: it takes away more than 0.2
# does, so that a jump is easier to see.

# %%
autoencoder = opened[models[0]]
photos = data.Photos(64, "train", seed=seed, length=live_crops)
on_the_fly = EncodedLatents(autoencoder, photos)


def kept(latents):
    """Latents in memory, as a cache would hold them."""
    mu, std, _ = latents.posterior(range(len(latents)))
    return TensorLatents(mu, std, identity=latents.identity)


plan = FreqWarm(live_steps // 2, live_r0)
stored = kept(on_the_fly)
low = kept(on_the_fly.low_passed(live_r0))
on_the_fly.statistics = stored.statistics  # the same numbers, not computed twice
fed = {
    "whole images": stored,
    "on the fly": WarmedLatents(on_the_fly, plan),
    "two sets": WarmedLatents(stored, plan, {live_r0: low}),
}

# %%
settings = denoising.Denoising(
    "DiT-XXS/1",
    steps=live_steps,
    batch_size=live_batch,
    seed=seed,
    learning_rate=1e-3,
    self_conditioning=0.0,
    device=run.device,
)
live = {
    label: experiments.train_denoiser(
        settings, latents, log_every=1, progress=False
    ).record.series["loss"]
    for label, latents in fed.items()
}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
switch = plan.warmup_steps
losses = figures.lines(
    live,
    xlabel="step k",
    ylabel="flow loss of the step",
    styles={"two sets": {"mode": "lines+markers", "symbol": "x", "width": 1}},
    alt="Flow loss of each step of three short trainings with the same noise: on whole images, and under the curriculum on "
    "the fly and from two stored sets, whose curves coincide. A dotted line marks the switch to whole images; the table "
    "below gives the differences before and after it.",
)
figures.mark(losses, x=switch - 0.5, text="switch")


# %% jupyter={"source_hidden": true} tags=["hide-input"]
least = {}  # loss of predicting each coefficient from all channels at its frequency
for label, of in {"low-passed": low, "whole": stored}.items():
    z = stored.normalise(posterior_samples(of, range(live_crops)))
    least[label] = diffusability.gaussian_loss(z)
gap = [a - b for a, b in zip(live["two sets"], live["whole images"], strict=True)]
few = max(1, switch // 4)
same = max(abs(a - b) for a, b in zip(live["two sets"], live["on the fly"], strict=True))  # fmt: skip
jump = {
    "least loss, low-passed": least["low-passed"],
    "least loss, whole": least["whole"],
    "loss gap before the switch": fmean(gap[switch - few : switch]),
    "loss gap after the switch": fmean(gap[switch : switch + few]),
}
run.metrics |= jump
results.show(jump | {"largest difference of the two ways of feeding": same}, ".3f")

# %% [markdown]
# **Measured here** (one run; the gap is the curriculum's loss less that of the run on whole images, same step and same noise).
# The low-passed latents are the easier ones before anything is learned, and at the switch the advantage is gone. The two ways
# of feeding agree.
#
# The jump is not forgetting. {numref}`chap-loss` has shown that the least loss is a functional of the spectrum,
# {eq}`eq-loss-spectrum`; if you change the data, you change it. Removing the fine detail takes variance from the latent's high
# bands while the scale stays that of whole images, so that the least loss falls; at the switch the variance comes back. And a
# low loss during the warm-up says nothing about samples.
#
# From a shell the same runs on a cache, which extracts the second cache from the same images when it is missing, and goes on
# where it was interrupted:
#
# ```bash
# diffusab extract my-autoencoder latents --images photographs/ --resolution 256
# diffusab train latents runs/warm --denoiser DiT-S/2 --steps 100000 --curriculum freqwarm --r0 0.2 --warmup-steps 25000
# ```
#
# ## The records
#
# What is held fixed: DiT-XXS/1 (1.3 million parameters, self-conditioned), 8 192 crops of 64² of the five training photographs,
# **600 steps** of 32 with the same crops, times and noise for a seed, learning rate $10^{-3}$, latents of 8 × 8. **Every arm has
# 600 steps in all**; a warm-up takes the first 150 of them, where an arm does not say otherwise. The linear and the cosine arm
# are fed from stored latents at seven radii (0.2, 0.25, 0.3, 0.35, 0.4, 0.5 and 0.6 cycles per image pixel), of which a step
# takes the largest that is not beyond its cutoff. So an arm with 150 steps of warm-up has a quarter fewer steps on the images
# that are sampled. Samples are judged by the Fréchet distance over the project's own features ({term}`Offline features`), 1 024
# samples of 20 Euler steps against 8 192 other crops of the same photographs. The numbers compare with one another and with no
# published one; and not across channels, because each autoencoder has its own distance of decoded latents, where a perfect
# denoiser would end.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
CURRICULA = {"": BASELINE, **{f"-r{r:g}": f"r₀ = {r:g}" for r in R0S}}
CURRICULA |= {
    "-r0.2-steps60": "r₀ = 0.2, 60 steps",
    "-r0.2-steps300": "r₀ = 0.2, 300 steps",
    "-r0.2-linear": "r₀ = 0.2, linear",
    "-r0.2-cosine": "r₀ = 0.2, cosine",
}  # a warm-up has 150 steps and switches at once where nothing else is said
family = {}
for c in FAMILIES:
    there = {c + end: label for end, label in CURRICULA.items() if c + end in set(recorded.arm)}  # fmt: skip
    family[c] = results.rename(recorded, there)
KEYS = (METRIC, "precision", "recall")
SAMPLES = {key: results.DENOISING[key] for key in KEYS}
results.table(family["c4"], SAMPLES, control=BASELINE)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
results.table(family["c64"], SAMPLES, control=BASELINE)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded for 4 channels, then for 64: mean ± standard deviation over three seeds; below each number the difference to the
# baseline, paired by seed, with its 95% interval.* Runs with one seed share their first weights, their order of crops, times
# and noise (the noise that samples start from is the same in all runs). What differs between a run with FreqWarm and the
# baseline's run of the same seed is the curriculum, so differences vary less than the runs do.
#
# **No curriculum moves the samples**: of ten arms none has an interval of the distance off zero, and the intervals are narrow.
# At $r_0 = 0.2$ they exclude gains beyond 5.2% with 4 channels and beyond 2.7% with 64. So there is no best cutoff, and what the
# authors leave open, the length of the warm-up and the shape of the schedule, makes no difference either.
#
# **The trouble that FreqWarm treats is there.** The baseline ends 3.9 above its decoded latents with 4 channels and 14.9 with
# 64: there is much to gain where channels are many, and nothing is gained.
#
# ### What was generated, by frequency
#
# The purpose of the warm-up is a denoiser that knows the latent's high frequencies better. So compare energies of generated
# latents with those of real ones, by DCT rank. $Q$ is the energy outside $D_{00}$ and $q_k$ the share of each rank in it, generated
# over real,
#
# $$
# Q = \frac{\sum_{j\ge1} \hat E_j \big/ \hat E_0}{\sum_{j\ge1} E_j \big/ E_0}, \qquad
# q_k = \frac{\hat E_k \big/ \sum_{j\ge1} \hat E_j}{E_k \big/ \sum_{j\ge1} E_j} ,
# $$ (eq-freqwarm-ratio)
#
# both one where the spectrum is right.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
ENERGIES = {"Q": ("energy outside D₀₀, Q", ".3f")}
ENERGIES |= {name: (f"share q, ranks {name}", ".3f") for name in BANDS}
MAIN = (BASELINE, *(f"r₀ = {r:g}" for r in R0S))
by_cutoff = {c: of[of.arm.isin(MAIN)] for c, of in family.items()}
results.table(by_cutoff["c4"], ENERGIES, control=BASELINE)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
results.table(by_cutoff["c64"], ENERGIES, control=BASELINE)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded for 4 channels, then for 64, generated over real.* No share moves with the curriculum beyond its interval at ranks 32
# to 63, where the warm-up is meant to help. (Of the 24 intervals of the two tables one lies off zero, a change of 0.01; chance makes
# about one.)
#
# ## What this shows and what it cannot show
#
# It shows what the curriculum feeds, exactly, and what up to 300 steps of it do to a small denoiser with the rest of the budget
# held fixed: no arm leaves room for a gain of more than 5.2%. The paper's gains come from longer training of much larger models
# on autoencoders in which, by its account, the premise is true. Longer runs, with an autoencoder for which it is built to hold,
# are prepared (`sweeps/freqwarm_living.yaml`) and not recorded yet. What cannot be seen here:
#
# - **The autoencoders are not the paper's.** They have 0.34 to 0.51 million parameters and no adversarial training, and their 64
#   channels and more are linear combinations of 32 to 40 feature maps, where DC-AE has 1024. The premise is false in them, so the
#   mechanism the authors describe has nothing to work with here, and no outcome of the records speaks for or against it.
# - **The yardstick.** The distance to photographs mixes what the decoder blurs with what the denoiser misses. The distance to
#   decoded *real latents* would tell them apart, and is not recorded yet.
# - **600 steps.** A warm-up of 150 steps also lies in the first quarter of the learning rate's cosine, where the rate is
#   highest. In a long run the effect of any early data may wash out; here it has little time to.
# - **The features** are 32 numbers of a small classifier, applied to pictures of 64 × 64, and no judge of ImageNet. Nor does 0.2
#   cycles per pixel take the same from such crops as from an ImageNet picture enlarged to 512².
# - **Three seeds** of the denoiser, and no control for "another order" ({ref}`ex-warm-control`).
#
# The catalogue holds the paper's runs with their printed results. **None of them was run for this book**: they take the weights,
# ImageNet and 32 A100 for days. The commands for DC-AE-f32c128 on one machine with 8 GPUs; 200 000 steps and a warm-up of 50 000
# are placeholders, since neither number is published:

# %%
full = {n: e.freqwarm for n, e in CATALOGUE.items() if e.freqwarm is not None}
dc_ae = full["DC-AE-f32c128"]
print(
    *dc_ae.commands("path/to/dc-ae-f32c128", "path/to/imagenet", 200_000, 50_000),
    sep="\n",
)

# %% [markdown]
# ## To take away
#
# - A curriculum in frequency rests on a premise about the encoder, and the premise can be tested without training a
#   denoiser.
# - Statistics for normalising are those of the whole images. With others, the switch would move what the network has
#   learned.
# - A null needs an interval that is narrower than the effect you expected. Then it is a finding, at that size and length
#   only.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} Why the whole images' statistics ★★
# :label: ex-warm-statistics
#
# Suppose each stage were normalised by the mean and standard deviation of its own latents. What would the denoiser see at
# the switch, in bands that the low-pass does not touch? When would it matter little?
# ```
#
# ````{solution} ex-warm-statistics
# :class: dropdown
#
# With a standard deviation $\sigma'$ of the low-passed latents and $\sigma$ of the whole ones, a band that the low-pass leaves alone
# would be multiplied by $1/\sigma'$ before and by $1/\sigma$ after: at the switch the *untouched* content would change its
# scale by $\sigma'/\sigma$ and its place by $(m'-m)/\sigma$, and the network would have to learn again what it knew. Under one set of
# statistics untouched content stays where it is, and the warm-up is training in the space that samples are drawn from.
# It matters little where $\sigma'\approx\sigma$, so where the energies above change by only a few per cent. At the live cutoff the
# ratios $\sigma'/\sigma$ are
#
# ```python
# own = TensorLatents(*low.posterior(range(len(low)))[:2])
# print((own.channel_std / stored.channel_std).tolist())
# ```
# ````
#
# ```{exercise} How a normalisation layer can raise what a low-pass leaves ★★★
# :label: ex-warm-norm
#
# A layer normalises each channel $u = a + b$ by its own spread over positions, where $a$ is slow, $b$ fast, both of zero mean
# and uncorrelated. By which factor does $a$ grow at the output when $b$ is removed? Then filter $u$ by a strided average
# instead, and check {eq}`eq-warm-linear`'s claim numerically for images of white noise.
# ```
#
# ````{solution} ex-warm-norm
# :class: dropdown
#
# Before, $\sigma^2 = \operatorname{var}a + \operatorname{var}b$; after, $\sigma^2 = \operatorname{var}a$. So $a$ grows by
# $\sqrt{1 + \operatorname{var}b/\operatorname{var}a}$: by 2.5 % if the variance of $b$ is a twentieth of that of $a$. If a
# later stride folds $b$ into the high bands, what is lost there must be weighed against it.
#
# ```python
# from diffusab_core.spectrum.radial import radial_split
#
# x = torch.randn(256, 1, 64, 64, generator=torch.Generator().manual_seed(0))
# def strided(x):
#     return torch.nn.functional.avg_pool2d(x, 2)[..., ::4, ::4]  # linear, and folds
# def energy(z):
#     return torch.fft.fft2(z, norm="ortho").abs().square().mean((0, 1))
# print((energy(strided(radial_split(x, 0.2)[0])) / energy(strided(x))).max())  # below one
# def normed(x):
#     return x / x.std((-2, -1), keepdim=True)
# print((energy(strided(normed(radial_split(x, 0.2)[0]))) / energy(strided(normed(x)))).max())
# ```
#
# The second is larger: white noise has most of its energy beyond the cutoff, so that the layer makes up for it.
# ````
#
# ```{exercise} A control ★★★
# :label: ex-warm-control
#
# An arm with FreqWarm differs from the baseline in two ways: 150 steps on other data, and 150 steps fewer on the data that
# are sampled. Name arms that would separate these, and say what each outcome would mean. What control would you want for
# the claim that it is the *high latent frequencies* that matter?
# ```
#
# ````{solution} ex-warm-control
# :class: dropdown
#
# - *Fewer steps*: the baseline's recipe on whole images with 450 steps and the schedule of 450. If FreqWarm beats it, the
#   warm-up taught something; if it only equals it, those steps were wasted.
# - *The same steps at no price*: 150 steps of warm-up and then the full 600, against 750 on whole images.
# - *Another warm-up*: latents of whole images from other crops; or the curriculum in reverse, whole images first. If they do as
#   well, frequency has no part in it.
# - *The latent's high frequencies*: latents whose upper bands are scaled by the measured ratios, without any filtering of
#   images. If this does what FreqWarm does, the amplitude is what counts.
# ````
#
# ## What this chapter claims
#
# Each assertion guards the sentence quoted above it. If one fails, the sentence has to be rewritten.

# %%
# "in all six autoencoders at all three cutoffs", "in every draw of crops"; "2% with f8 and less with f16"
if size == "laptop":
    assert all(max(v) < 1 for series in high.values() for v in series.values())
    at_02 = {name: 1 - fmean(series["0.2"]) for name, series in high.items()}
    f8 = [v for name, v in at_02.items() if opened[name].compression == 8]
    f16 = [v for name, v in at_02.items() if opened[name].compression == 16]
    assert min(f8) > 0.015
    assert max(f8) < 0.025
    assert max(f16) < min(f8)
# "the low-passed latents are the easier ones"; "at the switch the advantage is gone"; "the two ways of feeding agree"
assert least["low-passed"] < least["whole"]
assert jump["loss gap before the switch"] < 0
assert jump["loss gap after the switch"] > 0.5 * jump["loss gap before the switch"]
assert same < 1e-2

# %%
# "−1.0% (95% interval −5.2% to +3.2%) with 4 channels", "+1.0% (−2.7% to +4.6%) with 64"
assert f"{change['c4', 0.2]:.1%}" == "−1.0% [−5.2%, +3.2%]"
assert f"{change['c64', 0.2]:.1%}" == "+1.0% [−2.7%, +4.6%]"
# "of ten arms none has an interval of the distance off zero"; "no arm leaves room for a gain of more than 5.2%"
found = [
    results.paired(of, METRIC, arm, BASELINE, relative=True)
    for of in family.values()
    for arm in of.arm.unique()
    if arm != BASELINE
]
assert [p.sign for p in found] == 10 * [0]
# "differences vary less than the runs do"
assert all(
    torch.tensor(results.paired(of, METRIC, arm, BASELINE).values).std()
    < runs.std()
    for of in family.values()
    for arm, runs in of.groupby("arm")[METRIC]
    if arm != BASELINE
)
assert round(100 * min(p.low for p in found), 1) == -5.2

# %%
# "3.9 above its decoded latents with 4 channels and 14.9 with 64"
above = recorded[METRIC] - recorded.decoded_latents_frechet
above = above.groupby(recorded.arm).mean().round(1)
assert above[list(FAMILIES)].tolist() == [3.9, 14.9]
# "No share moves with the curriculum beyond its interval at ranks 32 to 63"
signs = {
    (c, r, m): results.paired(recorded, m, f"{c}-r{r:g}", c).sign
    for c, r in change
    for m in ENERGIES
}
assert all(sign == 0 for (*_, m), sign in signs.items() if m == "32 to 63")
# "Of the 24 intervals of the two tables one lies off zero"
assert (len(signs), sum(map(abs, signs.values()))) == (24, 1)
# "the paper reports −22% to −32%" (48 channels and more)
gains = [
    round(1 - of.fid[1] / of.fid[0], 2)
    for name, of in full.items()
    if CATALOGUE[name].latent_channels >= 48
]
assert (min(gains), max(gains)) == (0.22, 0.32)

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
for schedule in SCHEDULES:
    check = FreqWarm(4, r0=0.2, schedule=schedule)
    print(f"{schedule:7} cutoffs of steps 0 to 4:           ", [round(check.cutoff(k), 4) for k in range(5)])  # fmt: skip
print("Nyquist of the latent, image pixels, f8 to f32:", [0.5 / f for f in (8, 16, 32)])  # fmt: skip
print("same statistics at every step:                 ", torch.equal(fed["two sets"].statistics[1], stored.statistics[1]))  # fmt: skip
print("whole images from the switch on:               ", fed["two sets"].at(switch) is stored, fed["two sets"].at(switch - 1) is low)  # fmt: skip
print("on the fly and stored give the same losses:    ", same < 1e-2)
print("low-passed latents have the smaller least loss:", least["low-passed"] < least["whole"])  # fmt: skip
print("three pairs of one sign by chance:             ", 2 * 0.5**3)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
