# ---
# jupyter:
#   book:
#     needs: []
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
# (chap-dct)=
# # The DCT and the frequency profile
#
# **In short.** A block DCT sorts the energy of a picture, or of a latent, by frequency and loses none of it. Block means left out,
# photographs at latent size have 3% to 4% of it in the upper half of the frequencies, and the latents of five small autoencoders three to
# six times the share. The estimator printed in the paper, a mean of ratios, is fragile on latents; a ratio of means is not.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
model: str = "kl-f4c16"  # a shipped name, a diffusers folder or a hub id
n_images: int = 256  # as many as in the paper's Fig. 2
n_noise: int = 1024  # 32 × 32 noise fields
resolution: int = 128  # crops; at f4 the latents are then 32 × 32, the paper's size
block_size: int = 8
channel_family: list[int] = [4, 16, 64]  # of the shipped f8 autoencoders
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import torch

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.spectra import (
    STATISTIC_LABELS,
    cut_explorer,
    dct_explorer,
)
from diffusab_core import autoencoders, data, metrics, spectrum
from diffusab_core.data import leaves
from diffusab_core.spectrum import bands

run = chapters.start(
    "02_dct",
    globals(),
    data=f"{n_images} crops of {resolution}² from the held-out photographs (coffee, china)",
)
torch.manual_seed(seed)
B = block_size

# %% jupyter={"source_hidden": true} tags=["hide-input"]
crops = data.Photos(resolution=resolution, split="test", seed=seed)
rgb_batch = data.stack(crops, range(n_images))  # (n, 3, H, W) in [-1, 1]
noise = torch.randn(
    n_noise, 1, 32, 32, generator=torch.Generator().manual_seed(seed)
)
autoencoder = autoencoders.load(model)


def encode(autoencoder):
    """Means of the latents of all crops, (n, C, h, w)."""
    with torch.no_grad():
        return torch.cat([autoencoder.encode(x).mean for x in rgb_batch.split(32)])


latents = encode(autoencoder)
rgb_small = data.resize_to(rgb_batch, *latents.shape[-2:])  # (n, 3, h, w)
signals = {
    "RGB at latent size": data.rgb01(rgb_small),
    f"latents of {autoencoder.name}": latents,
    "white noise": noise,
}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.profiles(
    {
        name: spectrum.frequency_profile(signal, B, "ratio_of_means")
        for name, signal in signals.items()
    },
    alt="Three frequency profiles: RGB at latent size lowest, the latents of the small autoencoder in between, and white noise "
    "flat at one.",
    ylabel="mean |D| / mean |D₀₀|",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *How strong each of the 64 frequencies of 8 × 8 blocks is, relative to the coarsest: rank 0, the mean of the block.*
#
# A photograph is mostly smooth. Split it into frequencies and nearly all of its energy sits in the lowest ones. The latent that an
# autoencoder makes of the same photograph need not be like that: above, its curve lies between that of photographs and that of white noise.
# Whether a diffusion model that has to learn the latent feels the difference is what this book asks. This chapter builds the instrument
# with which it looks: the **blockwise discrete cosine transform** (DCT) and the **frequency profile** of {cite:t}`skorokhodov2025improving`.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - say what each number in a DCT block means, and why an orthonormal transform neither makes nor loses energy;
# - read a frequency profile and say which of four estimators it was drawn with;
# - explain why the estimator that the paper prints, a mean of ratios, is fragile on latents, and what to use instead;
# - measure the profile of photographs, of white noise and of an autoencoder's latents, and compare them fairly.
# ```
#
# ## One block, sixty-four patterns
#
# Cut an image channel into blocks of $B \times B$ pixels $P_{xy}$. The two-dimensional DCT of type II turns each block
# into as many coefficients {cite}`ahmed1974discrete`:
#
# $$
# D_{uv} = \alpha(u)\,\alpha(v) \sum_{x=0}^{B-1}\sum_{y=0}^{B-1} P_{xy}\, f(x,u)\, f(y,v),
# $$ (eq-dct)
#
# with $f(x,u) = \cos\dfrac{(2x+1)\,u\,\pi}{2B}$ (this $f$, with two arguments, is no compression), with $\alpha(0)=\sqrt{1/B}$ and
# $\alpha(u)=\sqrt{2/B}$ otherwise. $D_{uv}$ says how much of the pattern $\alpha(u)\alpha(v) f(x,u) f(y,v)$ is in the block. Here $x$ and
# $u$ run down the rows, $y$ and $v$ along the columns, as the indices of a tensor do: $u$ counts half-oscillations from top to bottom,
# $v$ from left to right.

# %% slideshow={"slide_type": "subslide"}
figures.basis_functions(B)

# %% [markdown] slideshow={"slide_type": "slide"}
# The factors $\alpha$ make the patterns **orthonormal**: each has length one and is at a right angle to every other.
# Two things follow. The transform is undone by adding the patterns up again, and energy is kept exactly, which is
# **Parseval's identity**: $\sum_{uv} D_{uv}^2 = \sum_{xy} P_{xy}^2$. Both can be checked in three lines.

# %%
photo = data.photo("coffee")  # (3, H, W) in [-1, 1]
x = data.rgb01(photo[None, :, 64:320, 160:416])  # (1, 3, 256, 256) in [0, 1]
D = spectrum.block_dct(x, B)  # (1, 3, 256/B, 256/B, B, B)
energy, energy_of_D = x.square().sum().item(), D.square().sum().item()

print("image, blocks × coefficients  ", tuple(x.shape[-2:]), tuple(D.shape[2:]))
print(
    f"rebuilt exactly, up to         {(spectrum.block_idct(D) - x).abs().max():.0e}"
)
print(f"energy of pixels, coefficients {energy:.1f}, {energy_of_D:.1f}")

# %% [markdown] slideshow={"slide_type": "slide"}
# ## From a block to a line: the zigzag
#
# To draw 64 numbers as a curve they need an order. JPEG's zigzag {cite}`wallace1991jpeg` walks along
# anti-diagonals, on each of which the total number of half-oscillations $u+v$ is the same: rank 0 is the mean of the block,
# the last rank the finest checkerboard.

# %% slideshow={"slide_type": "subslide"}
figures.zigzag_path(B)

# %% [markdown] slideshow={"slide_type": "slide"}
# The rank is *an* order of frequencies, not *the* frequency: $(u,v) = (0,7)$, the finest vertical stripes, has rank
# 28, and comes before the coarser checks of $(4,4)$, rank 39. Keep this in mind for every curve below.
#
# ## The frequency profile
#
# The paper divides each amplitude by the amplitude of the block's mean,
#
# $$ A_{uv} = \left|\frac{D_{uv}}{D_{00}}\right|, $$ (eq-profile)
#
# and averages over blocks, channels and samples (its Eq. 1). Read as a curve over the zigzag ranks, this is the **frequency profile**.
# Dividing by $D_{00}$ makes signals of different scale comparable. It assumes that $D_{00}$ is not small beside the rest. For an image with
# values in $[0, 1]$ that is safe: $D_{00}$ is $B$ times the block's mean brightness, and for non-negative pixels no $|D_{uv}|$ can exceed
# $2 D_{00}$. For latents, which take both signs, it is not. So the figures of this book average first and divide then, mean $|D|$ over mean
# $|D_{00}|$; a later section says why.

# %% slideshow={"slide_type": "subslide"}
of_photos = spectrum.frequency_profile(data.rgb01(rgb_batch), B, "ratio_of_means")
of_noise = spectrum.frequency_profile(noise, B, "ratio_of_means")
figures.profiles(
    {"photographs": of_photos, "white noise": of_noise},
    alt="Two frequency profiles on a logarithmic axis. That of photographs falls by more than two orders of magnitude from "
    "the lowest to the highest zigzag rank; that of white noise is flat at one.",
    ylabel="mean |D| / mean |D₀₀|",
)

# %% [markdown]
# Photographs fall steeply, roughly as a power of frequency, as natural images do {cite}`ruderman1997origins`. White noise
# is flat: an orthonormal transform maps independent noise to independent noise of the same strength in every coefficient.
# A diffusion model adds exactly such noise. On a falling profile it drowns the fine detail first and the coarse layout
# last, so that sampling goes from coarse to fine; on a flat profile everything drowns at once
# {cite}`dieleman2024spectral,rissanen2023generative`. {numref}`chap-autoregression` puts numbers to this, and asks whether
# the order is needed.
#
# ## Looking at a latent
#
# The autoencoder behind the picture at the top is small: 0.4 million parameters, trained by this book's own script on five photographs, with
# next to no KL term (weight $10^{-6}$; {numref}`chap-kl`). It compresses each side fourfold into 16 channels: a crop of 128 × 128 pixels
# becomes a latent of 16 × 32 × 32. The two photographs used here were kept out of its training, and it shows: it shifts their colours a
# little. For a fair comparison, photographs are brought to the latent's own height and width, with an antialiased bilinear filter, since
# the same picture on fewer pixels has a different profile.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
ratio, share = {}, {}
for name, signal in signals.items():
    ratio[name] = spectrum.high_frequency_energy_ratio(signal, B).item()
    energies = spectrum.frequency_profile(signal, B, "energy")
    share[name] = spectrum.high_frequency_share(energies)
rgb_hf, latent_hf, noise_hf = ratio.values()
rgb_share, latent_share, noise_share = share.values()
run.metrics |= {
    "hf_energy_ratio_rgb": rgb_hf,
    "hf_energy_ratio_latent": latent_hf,
    "hf_energy_ratio_noise": noise_hf,
    "hf_share_rgb": rgb_share,
    "hf_share_latent": latent_share,
}
RATIO, SHARE = "HF energy ratio, 10⁻³", "share in the upper half, %"
both = {s: {RATIO: 1000 * ratio[s], SHARE: 100 * share[s]} for s in signals}
results.show(both, {RATIO: ".2f", SHARE: ".1f"}, index="signal")

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**, on one autoencoder and crops of the two photographs it was not trained on. The *high-frequency (HF) energy ratio* is the
# mean energy of the upper half of the zigzag ranks over the energy of $D_{00}$. For the latents it is about twenty times that of RGB. Part
# of this factor is brightness: RGB in $[0, 1]$ has a large $D_{00}$ because all its values are positive. The *HF share* is a number that no
# offset changes: the part of the energy outside $D_{00}$ that lies in the upper half of the ranks. It is about four times that of RGB, and
# far below that of white noise.
#
# ```{admonition} In the paper
# :class: paper
#
# Fig. 2 of {cite:t}`skorokhodov2025improving` draws the profiles of a family of FluxAE models, trained for 100 000 steps
# with different numbers of latent channels, and of RGB, all on $32 \times 32$ grids, over 256 samples, all channels and
# all blocks. It makes two observations: the latent profile lies above that of RGB at high frequencies, and more so the
# more channels the latent has. Their autoencoders have 84 million parameters, compress eightfold and saw photographs in
# the wild; ours is two hundred times smaller and compresses fourfold. The figure above can be compared with the first
# observation; the second is tried next.
# ```
#
# ## Leaves: pictures without end
#
# Two photographs are few. Where the book needs many pictures, or labelled ones, it draws **dead leaves**: opaque shapes of
# power-law sizes that fall on each other, painted with colours and textures of photographs. Twelve classes differ in what
# the leaves are. Such pictures share with natural ones the power law of their spectra {cite}`ruderman1997origins`: averaged
# over all directions, the power at a frequency of $f$ cycles per pixel falls as
#
# $$ P(f) \propto f^{-\zeta}, \qquad \zeta \approx 2 \text{ for natural scenes}. $$ (eq-power-law)

# %% slideshow={"slide_type": "subslide"}
leaf_images = data.stack(
    leaves.Leaves(resolution, seed, labels=False), range(n_images)
)  # (n, 3, resolution, resolution) in [-1, 1]
figures.images(
    list(leaf_images[:6]),
    [leaves.CLASS_NAMES[i % len(leaves.CLASS_NAMES)] for i in range(6)],
    alt="Six dead-leaves pictures, one of each of the first six classes: overlapping shapes of many sizes in the colours of "
    "photographs.",
    height=190,
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
series, styles = {}, {}
for i, (name, pictures) in enumerate(
    {"photographs": rgb_batch, "leaves": leaf_images}.items()
):
    frequency, power = spectrum.windowed_radial_profile(pictures)
    exponent = spectrum.spectral_exponent(pictures)
    run.metrics[f"spectral_exponent_{name}"] = exponent
    inside = (frequency >= 3 / resolution) & (frequency <= 0.35)
    level = (power.log() + exponent * frequency.log())[inside].mean().exp()
    fitted = level * frequency[inside] ** -exponent
    law = f"{name}: f<sup>−{exponent:.2f}</sup>"
    series |= {name: (frequency, power), law: (frequency[inside], fitted)}
    styles[name] = {"mode": "markers", "color": i, "size": 5, "symbol": i}
    styles[law] = {"color": i, "dash": figures.DASHES[i]}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.lines(
    series,
    styles=styles,
    log_x=True,
    log_y=True,
    height=400,
    xlabel="frequency, cycles per pixel",
    ylabel="power",
    alt="Radially averaged power spectra of photographs and of dead leaves on logarithmic axes, each with a fitted straight "
    "line. Both fall over several decades; the photographs fall more steeply.",
)

# %% [markdown]
# The exponents in the legend are fitted to grey pictures under a Hann window. Leaves have edges as sharp as pixels allow. A
# lens does not, and the photographs' spectrum falls more steeply: leaves are the harder picture, with more fine detail.
#
# ## More channels, higher frequencies?
#
# Three small autoencoders come with the book that differ in the number of latent channels only: f8 with 4, 16 and 64
# channels. Beside them, on the same grid, stand RGB and leaves.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
family = {}
for channels in channel_family:
    member = autoencoders.load(f"kl-f8c{channels}")
    family[member.name] = encode(member)  # (n, channels, H / 8, W / 8)
grid = family[member.name].shape[-2:]
family["RGB at latent size"] = data.rgb01(data.resize_to(rgb_batch, *grid))
family["leaves at latent size"] = data.rgb01(data.resize_to(leaf_images, *grid))
figures.profiles(
    {
        name: spectrum.frequency_profile(signal, B, "ratio_of_means")
        for name, signal in family.items()
    },
    alt="Frequency profiles of three autoencoders with 4, 16 and 64 latent channels, of photographs and of dead leaves, on "
    "the same grid. The latent profiles lie above those of the images at high ranks.",
    ylabel="mean |D| / mean |D₀₀|",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
of_family = {}
for name, signal in family.items():
    energies = spectrum.frequency_profile(signal, B, "energy")
    of_family[name] = 100 * spectrum.high_frequency_share(energies)
run.metrics |= {f"{name}_hf_share": s / 100 for name, s in of_family.items()}
results.show({n: {SHARE: s} for n, s in of_family.items()}, ".1f", index="signal")

# %% [markdown]
# **Measured here**, on one training run of each member. All three latents have more high-frequency energy than RGB. Whether
# it grows with the channels cannot be read from one run of each, so every member was trained with three seeds, and an f4 pair
# with 4 and 16 channels beside them (`sweeps/family.yaml`, one thread of a 2-core CPU). Each marker below is one
# training run, measured on 256 held-out crops of 128² pixels.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
recorded = results.rename(
    results.frame("family"),
    {
        "kl-f4c4": "f4, 4 channels",
        "kl-f4c16-beta1e-6": "f4, 16 channels",
        "kl-f8c4": "f8, 4 channels",
        "kl-f8c16": "f8, 16 channels",
        "kl-f8c64": "f8, 64 channels",
    },
)
for of in ("mean", "rgb"):
    recorded[f"hf_share_{of}"] = [
        100 * spectrum.high_frequency_share(r.series[f"energy_{of}"])
        for r in recorded.record
    ]
upper = {}
for arm, runs in recorded.groupby("arm", sort=False):
    f, channels = arm.split(", ")
    at = channels.removesuffix(" channels")
    upper.setdefault(f"{f} latents", {})[at] = runs.hf_share_mean.tolist()
    upper.setdefault(f"RGB at {f} size", {})[at] = runs.hf_share_rgb.tolist()[:1]

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.over_seeds(
    upper,
    alt="Share of the energy outside D₀₀ that lies in the upper half of the ranks, one marker for each training run, against "
    "the number of latent channels, for autoencoders of compression 4 and 8. The runs of neighbouring numbers of channels "
    "overlap. The shares of RGB on the same grids lie far below.",
    xlabel="latent channels",
    ylabel="share in the upper half, %",
    log_y=False,
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
results.table(
    recorded,
    {
        "hf_energy_ratio_mean": ("HF energy ratio, 10⁻³", ".1f", 1000),
        "hf_share_mean": ("share in the upper half, %", ".1f"),
        "held_out_psnr_db": ("held-out PSNR, dB", ".1f"),
    },
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
more = {
    "f4: 16 channels against 4": ("f4, 16 channels", "f4, 4 channels"),
    "f8: 16 channels against 4": ("f8, 16 channels", "f8, 4 channels"),
    "f8: 64 channels against 16": ("f8, 64 channels", "f8, 16 channels"),
    "f8: 64 channels against 4": ("f8, 64 channels", "f8, 4 channels"),
}
grows = {
    name: results.paired(recorded, "hf_share_mean", *pair)
    for name, pair in more.items()
}
gains = {
    name: results.paired(recorded, "held_out_psnr_db", *pair)
    for name, pair in more.items()
}
results.show(
    {
        name: {
            "share, points": f"{grows[name]:.1f}",
            "PSNR, dB": f"{gains[name]:.1f}",
        }
        for name in more
    },
    index="paired by seed: mean and 95% interval",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# The means of the share rise with the channels, as in the paper, and in each of the three seeds the latent of 64 channels has more of it than
# that of 4. But the 95% interval of every difference holds zero: at this size the second observation is neither confirmed nor refuted. The
# first observation stands beyond doubt: every run of every latent has more than three times the share of RGB. (Not all of that distance is
# the autoencoder's: leaves, which are pictures too, lie between the two.)
#
# One reason to expect little from these models: at f8 the reconstruction gains no more than 0.6 dB from 64 channels over 16, less than it
# varies between seeds. After 2000 steps the larger latent is not yet filled with what it could hold. The paper's had 100 000 steps.
#
# ## Why a mean of ratios is fragile
#
# An image's $D_{00}$ is its brightness. A latent has no brightness: its channels are centred near zero, so their block
# means take both signs and **pass through zero**. Where they do, the ratio in {eq}`eq-profile` explodes.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
thresholds = torch.logspace(-2, 3, 61)
means, tails = {}, {}
for name, signal in {"RGB at latent size": rgb_small, "latents": latents}.items():
    values = data.rgb01(signal) if signal is rgb_small else signal
    d = spectrum.block_dct(values, B)
    d00 = d[..., 0, 0].flatten()
    scaled = (d00 / d00.square().mean().sqrt()).clamp(-3, 3)
    centres = (torch.arange(60) + 0.5) * 0.1 - 3
    means[name] = (centres, torch.histc(scaled, 60, -3, 3) / len(scaled))
    tail = d[..., 0, 1].flatten().abs() / d00.abs().clamp_min(1e-12)
    above = torch.stack([(tail > t).float().mean() for t in thresholds])
    tails[name] = (thresholds[above > 0], above[above > 0])
places = {"xlabel": "D₀₀ / rms", "ylabel": "share of blocks"}
left = figures.lines(means, alt="The distribution of block means.", **places)
logs = {"log_x": True, "log_y": True, "xlabel": "threshold"}
right = figures.lines(tails, alt="Share of blocks above a threshold.", **logs)
figures.panels(
    [left, right],
    ["D₀₀ over its root mean square", "ratio |D₀₁ / D₀₀|, share of blocks above"],
    "Left: the distribution of block means. For RGB it lies wholly to the right of zero, for latents it spreads over both "
    "signs. Right: the share of blocks whose ratio exceeds a threshold; for latents it falls slowly, as one over the "
    "threshold, for RGB it drops to nothing.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# How bad is it? Take white noise, where everything is known. $D_{uv}$ and $D_{00}$ are then independent standard
# Gaussians, and the ratio of two such numbers follows the **Cauchy distribution**, with density
# $\frac{1}{\pi(1+a^2)}$. Hence
#
# $$
# \begin{gathered}
# P(A_{uv} > a) = 1 - \tfrac{2}{\pi}\arctan a \;\approx\; \frac{2}{\pi a}, \qquad
# \operatorname{median}(A_{uv}) = 1, \\
# \mathbb{E}[A_{uv}] = \int_0^\infty \frac{2a}{\pi(1+a^2)}\,da = \infty .
# \end{gathered}
# $$ (eq-cauchy)
#
# The mean **does not exist**. An average over more samples does not settle: now and then one block with a tiny $D_{00}$ outweighs all that
# came before. The same holds for any signal whose $D_{00}$ comes near zero often enough. The other three estimators avoid this:
#
# | name in the code | formula | for white noise |
# |---|---|---|
# | `"mean_ratio"` | $\operatorname{mean}\, \lvert D_{uv}/D_{00}\rvert$, Eq. 1 as printed | does not exist |
# | `"median_ratio"` | $\operatorname{median}\, \lvert D_{uv}/D_{00}\rvert$ | 1 |
# | `"ratio_of_means"` | $\operatorname{mean}\lvert D_{uv}\rvert \,/\, \operatorname{mean}\lvert D_{00}\rvert$ | 1 |
# | `"energy"` | $\operatorname{mean} D_{uv}^2 \,/\, \operatorname{mean} D_{00}^2$ | 1 |
#
# To see how they behave, split the latents into eight groups of images and estimate the profile from each group on its own.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
groups = latents.chunk(8)
spread, relative_spread = {}, {}
for i, statistic in enumerate(spectrum.STATISTICS):
    estimates = torch.stack(
        [spectrum.frequency_profile(group, B, statistic) for group in groups]
    )  # (8, B²)
    relative = (estimates.std(0) / estimates.mean(0))[1:]
    relative_spread[statistic] = relative.mean().item()
    thin = {"color": i, "dash": "solid", "width": 1, "showlegend": False}
    names = [f"group {g + 1}" for g in range(len(groups))]
    spread[statistic] = figures.profiles(
        dict(zip(names, estimates, strict=True)),
        alt=f"Eight estimates of {statistic}, one for each group of images.",
        ylabel="",
        styles=dict.fromkeys(names, thin),
    )
run.metrics |= {f"relative_spread_{s}": v for s, v in relative_spread.items()}
figures.panels(
    list(spread.values()),
    [f"{STATISTIC_LABELS[s]}: {100 * relative_spread[s]:.0f}%" for s in spread],
    "Four panels, one for each statistic, with eight profiles each, from eight groups of images. The eight curves of the mean "
    "of ratios scatter widely and have spikes; those of the other three statistics lie close together.",
    columns=2,
    height=560,
)

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**: one curve for each group. The number above is their spread, standard deviation over mean, averaged over all ranks but the
# first. The groups differ in content, so no estimator can agree with itself perfectly; but the mean of ratios adds a scatter of its own. If
# you have drawn the plot for an autoencoder of your own and found some frequencies inexplicably high, you may have met this effect. Where
# this book does not say otherwise, a profile is the **ratio of means**, which is one for white noise and has a finite spread.
#
# ## Cutting frequencies
#
# A profile says how much energy sits at each rank. Whether that energy *matters* is another question, and the direct way to answer it is to
# remove it. `chop_high_frequencies` sets the last $n_{\text{cut}}$ of the $B^2$ coefficients of a block to zero, keeps those with
# $\text{zigzag}(u,v) < B^2 - n_{\text{cut}}$, and transforms back. Move the slider: how few coefficients does a photograph need?

# %% slideshow={"slide_type": "subslide"}
explorer_image = data.photo("coffee")[:, 96:288, 192:384]  # (3, 192, 192)
dct_explorer(explorer_image)

# %% [markdown]
# Now the same cut in two places at once: in the photograph, and in its latent, which is then decoded. One latent pixel covers four by four
# image pixels, so the photograph's blocks are made four times larger, and both lose the **same share** of their coefficients. That is not the
# **same scene**: the photograph's grid is four times finer, so what is left of it reaches to waves four times shorter. The page
# {doc}`Your own picture </book/own_picture>` makes both cuts in a picture of yours.

# %% slideshow={"slide_type": "subslide"}
cut_explorer(explorer_image, autoencoder)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
f = autoencoder.compression
held_out = rgb_batch[:: max(1, n_images // 32)][:32]
with torch.no_grad():
    z = autoencoder.encode(held_out).mean
cuts = {}
for share in (1.0, 0.5, 0.25, 0.1):
    same_share = spectrum.chop_high_frequencies(held_out, 1 - share, B * f)
    same_scene = bands.keep_latent_frequencies(held_out, f, 1 - share, B)
    z_cut = spectrum.chop_high_frequencies(z, 1 - share, B)
    with torch.no_grad():
        decoded = autoencoder.decode(z_cut)
    found = [
        metrics.psnr(p, held_out).item() for p in (same_share, same_scene, decoded)
    ]
    cuts[share] = found
    run.metrics[f"psnr_db_latent_keep_{share:g}"] = found[2]
    if share < 1:
        run.metrics[f"psnr_db_rgb_keep_{share:g}"] = found[0]
columns = ["photograph, same share", "photograph, same scene", "latent, decoded"]
table = {f"{s:.0%}": dict(zip(columns, v, strict=True)) for s, v in cuts.items()}
table["100%"][columns[0]] = "exact"
results.show(table, ".1f", index="low frequencies kept")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
z_low = spectrum.chop_high_frequencies(z, 0.5, B)
faded_db = {}
for factor in (1.0, 0.9, 0.5, 0.0):
    with torch.no_grad():
        faded = autoencoder.decode(z_low + factor * (z - z_low))
    faded_db[factor] = metrics.psnr(faded, held_out).item()
    run.metrics[f"psnr_db_upper_half_times_{factor:g}"] = faded_db[factor]
results.show(
    {f"{factor:g}": {"PSNR, dB": db} for factor, db in faded_db.items()},
    ".1f",
    index="upper half of the latent's ranks times",
)

# %% [markdown]
# **Measured here**: PSNR against the uncut photograph, mean over held-out crops; *same scene* is the photograph with no shorter waves than the
# cut latent can hold. With half of its frequencies the photograph is hard to tell from the whole one; with half of those of the latent the
# squared error of the decoded picture is a multiple (3 dB are a factor of two). So the decoder *uses* what sits at high latent frequencies.
# But it is no worse off than anybody who has only those frequencies of the scene: the photograph cut there, in the middle, lies close to the
# decoded latent. {numref}`chap-cutting` goes on from here.
#
# A diffusion model does not remove high frequencies. It gets them somewhat wrong, and a small error there costs little: with the
# upper half of the ranks multiplied by 0.9 the second table loses a few tenths of a decibel at most. What the cut measures is dependence,
# not the damage that a particular model will do. This is the second half of the diagnosis, and Fig. 5 of the paper.
#
# ## To take away
#
# - A block DCT is orthonormal: it sorts energy by frequency, and loses none.
# - A frequency profile is an average, and you have to say of what. The mean of ratios does not exist for white noise; the
#   **ratio of means** does.
# - Latents here hold a larger share of high frequencies than pictures of their size. Compare at one size, and prefer the
#   share, which no offset changes.
# - Energy is not importance. Whether the decoder needs a frequency is a question for a cut.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} White noise, four ways ★★
# :label: ex-noise
#
# Draw profiles of white noise with all four statistics from 64 and from 1024 fields of $32\times 32$. Which of the
# curves come closer to one with more data, which does not, and what does {eq}`eq-cauchy` say about it?
# ```
#
# ````{solution} ex-noise
# :class: dropdown
#
# ```python
# for n in (64, 1024):
#     for statistic in spectrum.STATISTICS:
#         repeats = torch.stack([
#             spectrum.frequency_profile(torch.randn(n, 1, 32, 32), 8, statistic)[1:].mean() for _ in range(6)
#         ])
#         print(n, statistic, f"{repeats.mean():.2f} ± {repeats.std():.2f}")
# ```
#
# The last three settle at one, with a spread that falls as one over the square root of the number of blocks. The mean of
# ratios does not settle: among $n$ Cauchy numbers the largest is of order $n$, so it contributes an amount of order one to
# the mean however large $n$ is, while the bulk grows as $\frac{2}{\pi}\ln n$. (The spread has to be taken over repeats: within
# one profile all ranks share the same small $D_{00}$ and are wrong together.)
# ````
#
# ```{exercise} What does the size of the picture do? ★★
# :label: ex-size
#
# Draw the profile of the same photographs reduced 2, 4 and 8 times. Why does the curve rise with every reduction, and why
# does this make "RGB at latent size" the fair comparison? Then add the photographs at full size: what is different?
# ```
#
# ````{solution} ex-size
# :class: dropdown
#
# ```python
# curves = {}
# for f in (2, 4, 8, 1):
#     small = data.resize_to(rgb_batch, resolution // f, resolution // f)
#     curves[f"reduced {f} ×"] = spectrum.frequency_profile(data.rgb01(small), 8)
# figures.profiles(curves, alt="Profiles of photographs reduced 2, 4 and 8 times, and at full size.")
# ```
#
# A block of 8 pixels covers 8 times as much of the scene after an eightfold reduction, so its coefficients stand for
# frequencies that are 8 times lower in the scene, where a natural image has more energy. Only pictures on grids of the
# same size have blocks that cover the same part of the scene. From full size to half size the argument fails at the fine end:
# about half of the ranks fall. These photographs are not sharp to the last pixel, so little is there to be moved
# down, and the resizing filter takes some of it away.
# ````
#
# ```{exercise} Two orders of cutting ★
# :label: ex-orders
#
# `order="axes"` cuts each axis on its own: it keeps $u$ and $v$ below a limit instead of a rank. Find the ratio at which
# it keeps about as many coefficients as the zigzag cut with ratio 0.75, and compare the PSNR of both on the photographs.
# ```
#
# ````{solution} ex-orders
# :class: dropdown
#
# ```python
# from diffusab_core.metrics import psnr
#
# for order, ratio in (("zigzag", 0.75), ("axes", 0.5)):
#     cut = spectrum.chop_high_frequencies(rgb_batch, ratio, 8, order)
#     print(order, spectrum.kept_share(ratio, 8, order), f"{psnr(cut, rgb_batch):.2f} dB")
# ```
#
# Per axis, half of each axis leaves a quarter of the coefficients. Which of the two loses less depends on the directions
# that the photographs contain: the zigzag keeps a triangle, with finer horizontal and vertical detail; the axes keep a
# square, with finer diagonals.
# ````
#
# ## What this chapter claims
#
# Each assertion guards the sentence that it quotes. If one fails, the sentence has to be rewritten.

# %%
# "3% to 4% of it in the upper half"; "… of five small autoencoders three to six times the share"
assert set(recorded.hf_share_rgb.round()) == {3, 4}
times = recorded.hf_share_mean / recorded.hf_share_rgb
assert times.between(3, 6).all()
# "For the latents it is about twenty times that of RGB"; "about four times"
assert 10 < latent_hf / rgb_hf < 30
assert 3 < latent_share / rgb_share < 5
# "The means of the share rise with the channels"; "in each of the three seeds"
assert all(d.mean > 0 for d in grows.values())
assert min(grows["f8: 64 channels against 4"].values) > 0
# "the 95% interval of every difference holds zero"
assert all(d.sign == 0 for d in grows.values())
# "no more than 0.6 dB from 64 channels over 16, less than it varies between seeds"
assert gains["f8: 64 channels against 16"].mean < 0.65
assert recorded[recorded.arm == "f8, 16 channels"].held_out_psnr_db.std() > 0.65
# "leaves, which are pictures too, lie between the two"
leaf_share = of_family["leaves at latent size"]
assert upper["RGB at f8 size"]["4"][0] < leaf_share < min(upper["f8 latents"]["4"])
# "it lies close to the decoded latent"; "loses a few tenths of a decibel at most"
assert all(abs(found[1] - found[2]) < 3 for found in cuts.values())
assert faded_db[1.0] - faded_db[0.9] < 0.5

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
impulse = torch.zeros(8, 8)
impulse[0, 0] = 1.0
known = spectrum.block_dct(impulse[None, None], 8)
d00, d01 = known[..., 0, 0].item(), known[..., 0, 1].item()
kept = [spectrum.kept_share(0.5, 8, order) for order in spectrum.ORDERS]
ordered = rgb_hf < latent_hf < noise_hf
worst = max(relative_spread, key=relative_spread.get)
print("D₀₀ and D₀₁ of an impulse: ", f"{d00:.4f} {d01:.4f}")
print("first ranks of the zigzag: ", spectrum.zigzag_order(8)[:10].tolist())
print("share kept, zigzag, axes:  ", *kept)
print("white noise is flat:       ", bool(((of_noise - 1).abs() < 0.3).all()))
print("photographs fall tenfold:  ", bool(of_photos[1] > 10 * of_photos[-1]))
print(
    "order of HF energy:        ", "RGB < latents < noise" if ordered else "another"
)
print("the mean of ratios is worst:", worst == "mean_ratio")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
