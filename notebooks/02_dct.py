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
# (chap-dct)=
# # The DCT and the frequency profile
#
# A photograph is mostly smooth. Split it into frequencies and nearly all of its energy sits in the lowest ones. The
# latent that an autoencoder makes of the same photograph need not be like that, and a diffusion model that has to learn
# the latent feels the difference. This chapter builds the instrument with which the whole book looks: the **blockwise
# discrete cosine transform** and the **frequency profile** of {cite:t}`skorokhodov2025improving`.
#
# ```{measured-runtime}
# ```
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

# %% tags=["hide-input"]
import plotly.graph_objects as go
import torch
from IPython.display import Markdown
from plotly.subplots import make_subplots

from diffusab_core import autoencoders, data, metrics, spectrum
from diffusab_book import figures
from diffusab_book.explorers import spectra as explore
from diffusab_core.data import leaves
from diffusab_core.experiments import records

run = records.start(
    "02_dct",
    parameters={
        "model": model,
        "n_images": n_images,
        "n_noise": n_noise,
        "resolution": resolution,
        "block_size": block_size,
    },
    seed=seed,
    size=size,
    data=f"{n_images} crops of {resolution}² from the held-out photographs (coffee, china)",
)
torch.manual_seed(seed)
B = block_size

# %% [markdown]
# ## One block, sixty-four patterns
#
# Cut an image channel into blocks of $B \times B$ pixels $P_{xy}$. The two-dimensional DCT of type II turns each block
# into as many coefficients {cite}`ahmed1974discrete`:
#
# $$
# D_{uv} = \alpha(u)\,\alpha(v) \sum_{x=0}^{B-1}\sum_{y=0}^{B-1} P_{xy}\, f(x,u)\, f(y,v),
# $$ (eq-dct)
#
# with $f(x,u) = \cos\dfrac{(2x+1)\,u\,\pi}{2B}$, with $\alpha(0)=\sqrt{1/B}$ and $\alpha(u)=\sqrt{2/B}$ otherwise. $D_{uv}$ says how much of the pattern
# $\alpha(u)\alpha(v) f(x,u) f(y,v)$ is in the block. Here $x$ and $u$ run down the rows, $y$ and $v$ along the columns, as
# the indices of a tensor do: $u$ counts half-oscillations from top to bottom, $v$ from left to right.

# %%
figures.basis_functions(B)

# %% [markdown]
# The factors $\alpha$ make the patterns **orthonormal**: each has length one and is at a right angle to every other.
# Two things follow. The transform is undone by adding the patterns up again, and energy is kept exactly, which is
# **Parseval's identity**: $\sum_{uv} D_{uv}^2 = \sum_{xy} P_{xy}^2$. Both can be checked in three lines.

# %%
photo = data.photo("coffee")  # (3, H, W) in [-1, 1]
x = data.rgb01(photo[None, :, 64:320, 160:416])  # (1, 3, 256, 256) in [0, 1]
D = spectrum.block_dct(x, B)  # (1, 3, 256/B, 256/B, B, B)

print(
    "one channel of the image     ",
    tuple(x.shape[-2:]),
    "→ blocks × coefficients",
    tuple(D.shape[2:]),
)
print(
    f"rebuilt exactly, up to        {(spectrum.block_idct(D) - x).abs().max():.0e}"
)
print(
    f"energy of pixels, coefficients {x.square().sum():.1f}, {D.square().sum():.1f}"
)

# %% [markdown]
# ## From a block to a line: the zigzag
#
# To draw 64 numbers as a curve they need an order. JPEG's zigzag {cite}`wallace1991jpeg` walks along
# anti-diagonals, on each of which the total number of half-oscillations $u+v$ is the same: rank 0 is the mean of the block,
# the last rank the finest checkerboard.

# %%
figures.zigzag_path(B)

# %% [markdown]
# The rank is *an* order of frequencies, not *the* frequency: $(u,v) = (0,7)$, the finest vertical stripes, has rank
# 28, and comes before the coarser checks of $(4,4)$, rank 39. Keep this in mind for every curve below.
#
# ## The frequency profile
#
# The paper divides each amplitude by the amplitude of the block's mean,
#
# $$ A_{uv} = \left|\frac{D_{uv}}{D_{00}}\right|, $$ (eq-profile)
#
# and averages over blocks, channels and samples (its Eq. 1). Read as a curve over the zigzag ranks, this is the
# **frequency profile**. Dividing by $D_{00}$ makes signals of different scale comparable, and it assumes that $D_{00}$ is
# not small beside the rest. For an image with values in $[0, 1]$ that is safe: $D_{00}$ is $B$ times the block's mean
# brightness, and for non-negative pixels no $|D_{uv}|$ can exceed $2 D_{00}$. We come back to what happens when pixels, or
# latents, take both signs.

# %%
crops = data.Photos(resolution=resolution, split="test", seed=seed)
rgb_batch = data.stack(
    crops, range(n_images)
)  # (n, 3, resolution, resolution) in [-1, 1]
noise = torch.randn(
    n_noise, 1, 32, 32, generator=torch.Generator().manual_seed(seed)
)

of_photos = spectrum.frequency_profile(data.rgb01(rgb_batch), B, "ratio_of_means")
of_noise = spectrum.frequency_profile(noise, B, "ratio_of_means")

figures.profiles(
    {"photographs": of_photos, "white noise": of_noise},
    alt="Two frequency profiles on a logarithmic axis. That of photographs falls "
    "by more than two orders of magnitude from the lowest to the highest "
    "zigzag rank; that of white noise is flat at one.",
    ylabel="mean |D| / mean |D₀₀|",
)

# %% [markdown]
# Photographs fall steeply, roughly as a power of frequency, as natural images do {cite}`ruderman1997origins`. White noise
# is flat: an orthonormal transform maps independent noise to independent noise of the same strength in every coefficient.
# A diffusion model adds exactly such noise. On a falling profile it drowns the fine detail first and the coarse layout
# last, so that sampling goes from coarse to fine; on a flat profile everything drowns at once
# {cite}`dieleman2024spectral,rissanen2023generative`. This is why the slope of a *latent* matters.
#
# ## Looking at a latent
#
# The autoencoder below is small: 0.4 million parameters, trained by this book's own script on five photographs, with a KL
# weight of $10^{-6}$, which is next to none. It compresses each side fourfold into 16 channels. The two photographs used
# here were kept out of its training, and it shows: it shifts their colours a little. For a fair comparison, photographs are brought to the latent's own height and width, with an
# antialiased bilinear filter, since the same picture on fewer pixels has a different profile.

# %%
autoencoder = autoencoders.load(model)
with torch.no_grad():
    latents = torch.cat(
        [autoencoder.encode(batch).mean for batch in rgb_batch.split(32)]
    )  # (n, C, h, w)
rgb_small = data.resize_to(rgb_batch, *latents.shape[-2:])  # (n, 3, h, w)

print(
    f"{autoencoder.name}: images {tuple(rgb_batch.shape[1:])} → latents {tuple(latents.shape[1:])}"
)
print(
    f"latents: mean {latents.mean():+.2f}, standard deviation {latents.std():.2f}"
)

# %%
signals = {
    "RGB at latent size": data.rgb01(rgb_small),
    f"latents of {autoencoder.name}": latents,
    "white noise": noise,
}
curves = {
    name: spectrum.frequency_profile(s, B, "ratio_of_means")
    for name, s in signals.items()
}
figures.profiles(
    curves,
    alt="Three frequency profiles: RGB at latent size lowest, the latents of the "
    "small autoencoder in between, and white noise flat at one.",
    ylabel="mean |D| / mean |D₀₀|",
)

# %% tags=["hide-input"]
ratio = {
    name: spectrum.high_frequency_energy_ratio(s, B).item()
    for name, s in signals.items()
}
rgb_hf, latent_hf, noise_hf = ratio.values()
run.metrics |= {
    "hf_energy_ratio_rgb": rgb_hf,
    "hf_energy_ratio_latent": latent_hf,
    "hf_energy_ratio_noise": noise_hf,
}
share = {}  # of the energy outside D00, what lies in the upper half of the ranks
for name, signal in signals.items():
    energy = spectrum.frequency_profile(signal, B, "energy")
    share[name] = spectrum.high_frequency_share(energy)
rgb_share, latent_share, noise_share = share.values()
run.metrics |= {"hf_share_rgb": rgb_share, "hf_share_latent": latent_share}
Markdown(
    f"""**Measured here.** The *high-frequency energy ratio*, the mean energy of the upper half of the zigzag ranks over
    the energy of $D_{{00}}$, is {1e5 * rgb_hf:.1f}·10⁻⁵ for RGB at latent size, {1e5 * latent_hf:.1f}·10⁻⁵ for the latents
    ({latent_hf / rgb_hf:.0f} times as much) and {noise_hf:.2f} for white noise. Part of this factor is brightness: RGB in
    [0, 1] has a large $D_{{00}}$ because all its values are positive. A number that no offset changes is the *share* of the
    energy outside $D_{{00}}$ that lies in the upper half: {rgb_share:.1%} for RGB, {latent_share:.1%} for the latents
    ({latent_share / rgb_share:.1f} times as much), {noise_share:.0%} for white noise.
    One autoencoder, {n_images} crops of the two photographs it was not trained on, no spread over seeds."""
)

# %% [markdown]
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
# over all directions, the power at frequency $f$ falls as
#
# $$ P(f) \propto f^{-\gamma}, \qquad \gamma \approx 2 \text{ for natural scenes}. $$ (eq-power-law)

# %%
leaf_images = data.stack(
    leaves.Leaves(resolution, seed, labels=False), range(n_images)
)  # (n, 3, resolution, resolution) in [-1, 1]
figures.images(
    list(leaf_images[:6]),
    [leaves.CLASS_NAMES[i % len(leaves.CLASS_NAMES)] for i in range(6)],
    alt="Six dead-leaves pictures, one of each of the first six classes: "
    "overlapping shapes of many sizes in the colours of photographs.",
    height=190,
)

# %%
power_laws, exponents = go.Figure(), {}
for i, (name, pictures) in enumerate(
    {"photographs": rgb_batch, "leaves": leaf_images}.items()
):
    frequency, power = spectrum.windowed_radial_profile(pictures)
    exponents[name] = spectrum.spectral_exponent(pictures)
    inside = (frequency >= 3 / resolution) & (frequency <= 0.35)
    level = (power.log() + exponents[name] * frequency.log())[inside].mean().exp()
    fitted = level * frequency[inside] ** -exponents[name]
    style = {"color": figures.PALETTE[i]}
    power_laws.add_scatter(
        x=frequency.tolist(),
        y=power.tolist(),
        name=name,
        mode="markers",
        marker=style | {"symbol": i, "size": 5},
    )
    power_laws.add_scatter(
        x=frequency[inside].tolist(),
        y=fitted.tolist(),
        name=f"{name}: f^−{exponents[name]:.2f}",
        line=style | {"dash": figures.DASHES[i]},
    )
power_laws.update_xaxes(title="frequency, cycles per pixel", **figures.DECADES)
power_laws.update_yaxes(title="power", **figures.DECADES).update_layout(height=400)
figures.described(
    power_laws,
    "Radially averaged power spectra of photographs and of dead leaves on "
    "logarithmic axes, each with a fitted straight line. Both fall over "
    "several decades; the photographs fall more steeply.",
)

# %% tags=["hide-input"]
run.metrics |= {f"spectral_exponent_{name}": v for name, v in exponents.items()}
Markdown(
    f"**Measured here.** Fitted exponents: {exponents['photographs']:.2f} for the crops of the two photographs, "
    f"{exponents['leaves']:.2f} for the leaves ({n_images} pictures each, {resolution}² pixels, grey, Hann window)."
)

# %% [markdown]
# Leaves have edges as sharp as pixels allow. A lens does not, and the photographs' spectrum falls more steeply: leaves are
# the harder picture, with more fine detail.
#
# ## More channels, higher frequencies?
#
# Three small autoencoders come with the book that differ in the number of latent channels only: f8 with 4, 16 and 64
# channels. Beside them, on the same grid, stand RGB and leaves.

# %%
family = {}
for channels in channel_family:
    member = autoencoders.load(f"kl-f8c{channels}")
    with torch.no_grad():
        encoded = [member.encode(batch).mean for batch in rgb_batch.split(32)]
    family[member.name] = torch.cat(
        encoded
    )  # (n, channels, resolution/8, resolution/8)
grid = family[member.name].shape[-2:]
family["RGB at latent size"] = data.rgb01(data.resize_to(rgb_batch, *grid))
family["leaves at latent size"] = data.rgb01(data.resize_to(leaf_images, *grid))
figures.profiles(
    {
        name: spectrum.frequency_profile(x, B, "ratio_of_means")
        for name, x in family.items()
    },
    alt="Frequency profiles of three autoencoders with 4, 16 and 64 latent "
    "channels, of photographs and of dead leaves, on the same grid. The "
    "latent profiles lie above those of the images at high ranks.",
    ylabel="mean |D| / mean |D₀₀|",
)

# %% tags=["hide-input"]
lines = []
for name, x in family.items():
    ratio_of_member = spectrum.high_frequency_energy_ratio(x, B).item()
    share_of_member = spectrum.high_frequency_share(
        spectrum.frequency_profile(x, B, "energy")
    )
    run.metrics |= {
        f"{name}_hf_energy_ratio": ratio_of_member,
        f"{name}_hf_share": share_of_member,
    }
    lines.append(
        f"| {name} | {1e5 * ratio_of_member:.0f} | {share_of_member:.1%} |"
    )
Markdown(
    "**Measured here** (one training run of each member):\n\n"
    "| signal | HF energy ratio, 10⁻⁵ | share in the upper half |\n|---|---|---|\n"
    + "\n".join(lines)
)

# %% [markdown]
# All three latents have more high-frequency energy than RGB. Whether it grows with the channels cannot be read from one
# run of each, so every member was trained with three seeds, and an f4 pair with 4 and 16 channels beside them
# (`scripts/record_family.py`, one thread of a 2-core CPU). Each marker below is one training run, measured on
# 256 held-out crops of 128² pixels.

# %% tags=["hide-input"]
recorded = [
    r
    for r in records.read_all(records.RESULTS / "family", "family-spectra")
    if r.parameters["kl_weight"] == 1e-6
]
runs_of, rgb_of = {}, {}
for r in recorded:
    compression = f"f{2 ** (len(r.parameters['channels']) - 1)}"
    place = str(r.parameters["latent_channels"])
    runs_of.setdefault(compression, {}).setdefault(place, []).append(r)
    rgb_of[compression] = spectrum.high_frequency_share(r.series["energy_rgb"])
upper = {
    f"{compression} latents": {
        place: [
            spectrum.high_frequency_share(r.series["energy_mean"]) for r in runs
        ]
        for place, runs in sorted(members.items(), key=lambda item: int(item[0]))
    }
    for compression, members in runs_of.items()
}
for compression, value in rgb_of.items():
    places = upper[f"{compression} latents"]
    upper[f"RGB at {compression} size"] = {place: [value] for place in places}
figures.over_seeds(
    upper,
    alt="Share of the energy outside D₀₀ that lies in the upper half of the "
    "ranks, one marker for each training run, against the number of latent "
    "channels, for autoencoders of compression 4 and 8. The shares of RGB on "
    "the same grids are drawn beside them; the text below says how the groups"
    " lie.",
    xlabel="latent channels",
    ylabel="share in the upper half",
    log_y=False,
)

# %% tags=["hide-input"]
rows = []
for compression, members in sorted(runs_of.items()):
    for place, runs in sorted(members.items(), key=lambda item: int(item[0])):
        ratio_mean, ratio_sd = records.mean_and_spread(
            [1e5 * r.metrics["hf_energy_ratio_mean"] for r in runs]
        )
        share_mean, share_sd = records.mean_and_spread(
            upper[f"{compression} latents"][place]
        )
        db_mean, db_sd = records.mean_and_spread(
            [r.metrics["held_out_psnr_db"] for r in runs]
        )
        rows.append(
            f"| {compression}, {place} channels | {len(runs)} | {ratio_mean:.0f} ± {ratio_sd:.0f} "
            f"| {100 * share_mean:.1f} ± {100 * share_sd:.1f} | {db_mean:.1f} ± {db_sd:.1f} |"
        )
says = []
for compression in sorted(runs_of):
    shares = upper[f"{compression} latents"]
    few, *_, many = shares  # places in ascending order
    order = records.ordering(shares[few], shares[many])
    above = records.ordering(
        [rgb_of[compression]], [v for values in shares.values() for v in values]
    )
    says.append(
        f"at {compression}, the shares with {many} channels are {order} "
        + ("with" if order == "overlapping" else "than")
        + f" those with {few}, and all latents' shares together are {above} "
        + ("with" if above == "overlapping" else "than")
        + " RGB's"
    )
Markdown(
    "**Recorded** (mean ± standard deviation over seeds):\n\n"
    "| member | seeds | HF energy ratio, 10⁻⁵ | share in the upper half, % | held-out PSNR, dB |\n"
    "|---|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
    "Calling a difference one only when all runs of one group lie on the same "
    "side of all runs of the other: " + "; ".join(says) + "."
)

# %% [markdown]
# The means rise with the channels, as in the paper, but runs of neighbours **overlap**: at this size the second observation is
# neither confirmed nor refuted. (After two seeds the smallest and the largest latent were neatly apart; the third seed
# undid it. That is what the third seed is for.) What stands beyond doubt is the first observation: every run of every
# latent lies far above RGB. (Not all of that distance is the autoencoder's: leaves, which are pictures too, lie between the
# two.) One reason to expect little from these models: at f8 the reconstruction gains about half a
# decibel from 64 channels over 16, so after 2000 steps the larger latent is not yet filled with what it could hold. The
# models of the paper had 100 000 steps to fill theirs.
#
# ## Why a mean of ratios is fragile
#
# An image's $D_{00}$ is its brightness. A latent has no brightness: its channels are centred near zero, so their block
# means take both signs and **pass through zero**. Where they do, the ratio in {eq}`eq-profile` explodes.

# %%
D_rgb = spectrum.block_dct(data.rgb01(rgb_small), B)
D_latent = spectrum.block_dct(latents, B)

histogram = make_subplots(
    1,
    2,
    subplot_titles=[
        "D₀₀ over its root mean square",
        "ratio |D₀₁ / D₀₀|, share of blocks above",
    ],
)
thresholds = torch.logspace(-2, 3, 61)
for i, (name, d) in enumerate(
    {"RGB at latent size": D_rgb, "latents": D_latent}.items()
):
    d00 = d[..., 0, 0].flatten()
    scaled = (d00 / d00.square().mean().sqrt()).clamp(-3, 3)
    counts = torch.histc(scaled, bins=60, min=-3, max=3) / len(scaled)
    centres = (torch.arange(60) + 0.5) * 0.1 - 3
    tail = d[..., 0, 1].flatten().abs() / d00.abs().clamp_min(1e-12)
    above = [(tail > t).float().mean().item() for t in thresholds]
    style = {
        "name": name,
        "legendgroup": name,
        "line": {"color": figures.PALETTE[i], "dash": figures.DASHES[i]},
    }
    histogram.add_trace(
        go.Scatter(x=centres.tolist(), y=counts.tolist(), **style), 1, 1
    )
    above = [a if a > 0 else None for a in above]
    histogram.add_trace(
        go.Scatter(x=thresholds.tolist(), y=above, showlegend=False, **style), 1, 2
    )
histogram.update_xaxes(title="D₀₀ / rms", row=1, col=1).update_yaxes(
    title="share of blocks", row=1, col=1
)
histogram.update_xaxes(title="threshold", **figures.DECADES, row=1, col=2)
histogram.update_yaxes(**figures.DECADES, row=1, col=2).update_layout(
    height=360, legend_y=1.12, margin_t=80
)
figures.described(
    histogram,
    "Left: the distribution of block means. For RGB it lies wholly to the "
    "right of zero, for latents it spreads over both signs. Right: the share "
    "of blocks whose ratio exceeds a threshold; for latents it falls slowly, "
    "as one over the threshold, for RGB it drops to nothing.",
)

# %% [markdown]
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
# The mean **does not exist**. An average over more samples does not settle: now and then one block with a tiny $D_{00}$
# outweighs all that came before. Any signal whose $D_{00}$ has positive density at zero has the same tail.
#
# Three estimators avoid this. The package computes all four over a stream, in constant memory:
#
# | name in the code | formula | for white noise |
# |---|---|---|
# | `"mean_ratio"` | $\operatorname{mean}\, \lvert D_{uv}/D_{00}\rvert$, Eq. 1 as printed | does not exist |
# | `"median_ratio"` | $\operatorname{median}\, \lvert D_{uv}/D_{00}\rvert$ | 1 |
# | `"ratio_of_means"` | $\operatorname{mean}\lvert D_{uv}\rvert \,/\, \operatorname{mean}\lvert D_{00}\rvert$ | 1 |
# | `"energy"` | $\operatorname{mean} D_{uv}^2 \,/\, \operatorname{mean} D_{00}^2$ | 1 |
#
# To see how they behave, split the latents into eight groups of images and estimate the profile from each group on its own.

# %%
labels = explore.STATISTIC_LABELS
groups = latents.chunk(8)
spread = make_subplots(
    2,
    2,
    subplot_titles=[labels[s] for s in spectrum.STATISTICS],
    vertical_spacing=0.14,
    shared_xaxes=True,
)
relative_spread = {}
for i, statistic in enumerate(spectrum.STATISTICS):
    estimates = torch.stack(
        [spectrum.frequency_profile(group, B, statistic) for group in groups]
    )  # (8, B²)
    relative_spread[statistic] = (
        (estimates.std(0) / estimates.mean(0))[1:].mean().item()
    )
    for estimate in estimates:
        line = {"color": figures.PALETTE[i], "width": 1}
        spread.add_trace(
            go.Scatter(y=estimate.tolist(), line=line, showlegend=False),
            i // 2 + 1,
            i % 2 + 1,
        )
spread.update_yaxes(**figures.DECADES).update_xaxes(title="zigzag rank", row=2)
spread.update_layout(height=520)
figures.described(
    spread,
    "Four panels, one for each statistic, with eight profiles each, from "
    "eight groups of images. The eight curves of the mean of ratios scatter "
    "widely and have spikes; those of the other three statistics lie close "
    "together.",
)

# %% tags=["hide-input"]
run.metrics |= {f"relative_spread_{s}": v for s, v in relative_spread.items()}
rows = "\n".join(f"| `{s}` | {100 * v:.0f}% |" for s, v in relative_spread.items())
Markdown(
    "**Measured here.** Spread between the eight groups (standard deviation "
    "over mean, averaged over ranks 1 to "
    f"{B * B - 1}):\n\n| statistic | spread |\n|---|---|\n{rows}"
)

# %% [markdown]
# The groups differ in content, so no estimator can agree with itself perfectly; but the mean of ratios adds to this a
# scatter of its own. Whoever has drawn the plot for an autoencoder of their own and found some frequencies
# inexplicably high may have met this effect. From here on the book says with every profile which statistic it uses, and
# where it does not say otherwise it is the **ratio of means**, which equals one for white noise and has a finite spread.
#
# ## Cutting frequencies
#
# A profile says how much energy sits at each rank. Whether that energy *matters* is another question, and the direct way
# to answer it is to remove it. `chop_high_frequencies` keeps the coefficients with $\text{zigzag}(u,v) < B^2 - n_{\text{cut}}$,
# sets the others to zero and transforms back. Move the slider: how few coefficients does a photograph need?

# %%
explorer_image = data.photo("coffee")[:, 96:288, 192:384]  # (3, 192, 192)
explore.dct_explorer(explorer_image)

# %% [markdown]
# Now the same cut in two places at once: in the photograph, and in the latent of the photograph, which is then decoded.
# One latent pixel covers four by four image pixels, so the photograph's blocks are made four times larger, and both lose the
# same share of their coefficients. (Not the same frequencies of the scene: the photograph's grid is finer and reaches
# further. {ref}`chap-chopping` has that comparison, too.)

# %%
explore.cut_explorer(explorer_image, autoencoder)

# %% tags=["hide-input"]
held_out = rgb_batch[:: max(1, n_images // 32)][:32]
cuts = {}
for share in (1.0, 0.5, 0.25, 0.1):
    rgb_cut = spectrum.chop_high_frequencies(
        held_out, 1 - share, B * autoencoder.compression
    )
    with torch.no_grad():
        z_cut = spectrum.chop_high_frequencies(
            autoencoder.encode(held_out).mean, 1 - share, B
        )
        decoded = autoencoder.decode(z_cut)
    cuts[share] = (
        metrics.psnr(rgb_cut, held_out).item(),
        metrics.psnr(decoded, held_out).item(),
    )
run.metrics |= {
    f"psnr_db_latent_keep_{share:g}": latent_db
    for share, (_, latent_db) in cuts.items()
}
run.metrics |= {
    f"psnr_db_rgb_keep_{share:g}": rgb_db
    for share, (rgb_db, _) in cuts.items()
    if share < 1
}
with torch.no_grad():
    z = autoencoder.encode(held_out).mean
    z_low = spectrum.chop_high_frequencies(z, 0.5, B)
    faded = {g: autoencoder.decode(z_low + g * (z - z_low)) for g in (0.9, 0.5)}
faded_db = {
    g: metrics.psnr(picture, held_out).item() for g, picture in faded.items()
}
run.metrics |= {f"psnr_db_upper_half_times_{g:g}": db for g, db in faded_db.items()}
rows = "\n".join(
    f"| {explore.percent(share)} | {'exact' if share == 1 else f'{rgb_db:.1f} dB'} | {latent_db:.1f} dB |"
    for share, (rgb_db, latent_db) in cuts.items()
)
Markdown(
    f"**Measured here.** PSNR against the uncut photograph, mean over {len(held_out)} held-out crops:\n\n"
    f"| low frequencies kept | cut in the photograph | cut in the latent, then decoded |\n|---|---|---|\n{rows}\n\n"
    "Fading instead of cutting: the upper half of the latent's ranks "
    "multiplied by 0.9 gives "
    f"{faded_db[0.9]:.1f} dB, by 0.5 {faded_db[0.5]:.1f} dB."
)

# %% [markdown]
# Halving the frequencies of the photograph leaves a picture that is hard to tell from it; the same cut in the latent
# multiplies the squared error of the decoded picture (3 dB are a factor of two). The decoder *uses* what sits at high
# latent frequencies. A diffusion model does not remove them, of course, it gets them somewhat wrong, and a small error
# there costs little: the last sentence of the box says how little. What the cut measures is dependence, not the damage that
# a particular model will do. This is the second half of the diagnosis, and Fig. 5 of the paper.
#
# ## Exercises
#
# ```{exercise} White noise, four ways
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
# ```{exercise} What does the size of the picture do?
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
# ```{exercise} Two orders of cutting
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
# ## Check yourself
#
# What this chapter claims, as inequalities and rounded figures that must come out the same on every machine.

# %% tags=["checkpoint"]
impulse = torch.zeros(8, 8)
impulse[0, 0] = 1.0
known = spectrum.block_dct(impulse[None, None], 8)
print(
    "D₀₀ and D₀₁ of an impulse: ",
    f"{known[..., 0, 0].item():.4f} {known[..., 0, 1].item():.4f}",
)
print("first ranks of the zigzag: ", spectrum.zigzag_order(8)[:10].tolist())
print(
    "share kept, zigzag, axes:  ",
    spectrum.kept_share(0.5, 8, "zigzag"),
    spectrum.kept_share(0.5, 8, "axes"),
)
print("white noise is flat:       ", bool(((of_noise - 1).abs() < 0.3).all()))
print("photographs fall tenfold:  ", bool(of_photos[1] > 10 * of_photos[-1]))
print(
    "order of HF energy:        ",
    "RGB < latents < noise" if rgb_hf < latent_hf < noise_hf else "another",
)
print(
    "the mean of ratios is worst:",
    max(relative_spread, key=relative_spread.get) == "mean_ratio",
)

# %% tags=["hide-input"]
record = run.finish()
if record_path:
    record.write(record_path)
Markdown(
    f"Run `{record.identity}`: size `{record.size}`, seed {record.seed}, {record.device}, torch {record.versions['torch']}, "
    f"{record.wall_time_s:.0f} s."
)

# %% [markdown]
# ## Further reading
#
# The block DCT and its zigzag come from image compression {cite}`ahmed1974discrete,wallace1991jpeg`; the statistics of
# natural images from {cite:t}`ruderman1997origins`; the view of diffusion as autoregression over frequencies from
# {cite:t}`rissanen2023generative` and {cite:t}`dieleman2024spectral`; the profile itself from
# {cite:t}`skorokhodov2025improving`.
