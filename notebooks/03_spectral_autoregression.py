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
# (chap-autoregression)=
# # Diffusion is spectral autoregression
#
# A language model writes a sentence word by word. A diffusion model seems to do nothing of the kind: it changes all
# pixels at every step. Yet there is an order in what it does. Coarse layout appears first, fine texture last, and this
# order is not built into the network; it is a consequence of two spectra, that of the data, which falls, and that of the
# noise, which does not {cite}`rissanen2023generative,dieleman2024spectral`. This chapter makes the statement exact,
# measures it on photographs and on latents, and shows what becomes of it when a latent's spectrum is flat.
#
# ```{measured-runtime}
# ```
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - write down the signal-to-noise ratio of one frequency of $x_t$ and say when that frequency appears;
# - compute the order in which frequencies appear from a frequency profile alone;
# - say why a flat spectrum leaves no order, and how an autoencoder's latent compares with photographs;
# - tell what this picture explains and what it does not.
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
model: str = "kl-f4c16"  # a shipped name, a diffusers folder or a hub id
n_images: int = 256
resolution: int = 128
block_size: int = 8
record_path: str = ""  # where the run record goes; nowhere when empty

# %% tags=["hide-input"]
import plotly.graph_objects as go
import torch
from IPython.display import Markdown

from diffusab_core import autoencoders, data, flow, spectrum
from diffusab_book import figures
from diffusab_book.explorers import spectra as explore
from diffusab_core.experiments import records

run = records.start(
    "03_spectral_autoregression",
    parameters={
        "model": model,
        "n_images": n_images,
        "resolution": resolution,
        "block_size": block_size,
    },
    seed=seed,
    size=size,
    data=f"{n_images} crops of {resolution}² from the held-out photographs (coffee, china)",
)
B = block_size

# %% [markdown]
# ## One frequency at a time
#
# This book uses **rectified flow**: data $x_0$ at $t=0$, white noise $\varepsilon\sim\mathcal N(0, I)$ at $t=1$, and the
# straight line between them,
#
# $$ x_t = (1-t)\,x_0 + t\,\varepsilon . $$ (eq-path)
#
# An orthonormal transform, such as the blockwise DCT of {ref}`chap-dct`, is linear, so {eq}`eq-path` holds for each
# coefficient: $D_k(x_t) = (1-t)\,D_k(x_0) + t\,D_k(\varepsilon)$. It also maps white noise to white noise, so
# $D_k(\varepsilon)$ has variance one *for every* $k$. The ratio of signal to noise energy at rank $k$ is therefore
#
# $$
# \mathrm{SNR}_k(t) = \Bigl(\frac{1-t}{t}\Bigr)^{2} E_k, \qquad E_k = \mathbb E\bigl[D_k(x_0)^2\bigr] .
# $$ (eq-snr)
#
# Time enters through one factor that all frequencies share; the *data's* spectrum $E_k$ decides who is above the noise at
# a given time. Signal and noise are level where $\mathrm{SNR}_k = 1$, that is at the **crossover time**
#
# $$ t_k = \frac{\sqrt{E_k}}{1+\sqrt{E_k}} . $$ (eq-crossover)
#
# Sampling runs from $t=1$ down to $0$ and meets the largest $t_k$ first.
#
# Diffusion models are trained on data scaled to unit variance. That fixes the scale of $E_k$ by Parseval: per block,
# $\sum_k E_k = B^2$.

# %%
crops = data.Photos(resolution=resolution, split="test", seed=seed)
rgb = data.stack(
    crops, range(n_images)
)  # (n, 3, resolution, resolution) in [-1, 1]
autoencoder = autoencoders.load(model)
with torch.no_grad():
    latents = torch.cat(
        [autoencoder.encode(batch).mean for batch in rgb.split(32)]
    )  # (n, C, h, w)
small = data.resize_to(rgb, *latents.shape[-2:])  # (n, 3, h, w): RGB at latent size


def standardise(x):
    """Zero mean and unit variance per channel, the scale on which x is diffused."""
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


def energies(x):
    """E_k in zigzag order: mean energy of each DCT coefficient of the standardised data."""
    d = spectrum.block_dct(standardise(x), B).square().mean((0, 1, 2, 3)).flatten()
    return d[spectrum.zigzag_order(B)]


noise_like = torch.randn(
    n_images, 3, *latents.shape[-2:], generator=torch.Generator().manual_seed(seed)
)
signals = {
    "RGB at latent size": small,
    f"latents of {autoencoder.name}": latents,
    "white data": noise_like,
}
E = {name: energies(x) for name, x in signals.items()}
for name, e in E.items():
    upper = e[B * B // 2 :].mean()
    print(
        f"{name:22s} sum {e.sum():5.1f}   E_0 {e[0]:5.1f}   upper half, mean {upper:.4f}"
    )

# %% [markdown]
# ## The order of appearance
#
# Crossover times follow from the spectrum alone, {eq}`eq-crossover`.

# %%
crossover = {name: flow.crossover_time(e) for name, e in E.items()}
figures.profiles(
    crossover,
    alt="Crossover time against zigzag rank. For photographs it falls from about "
    "0.9 at rank zero to below 0.1; for the latents it falls less; for white data "
    "it is one half everywhere.",
    ylabel="crossover time t<sub>k</sub> (sampling runs downwards)",
    log_y=False,
)

# %% tags=["hide-input"]
rgb_t, latent_t, white_t = crossover.values()
span = {name: (t.max() - t.min()).item() for name, t in crossover.items()}
rgb_span, latent_span, white_span = span.values()
run.metrics |= {
    "crossover_span_rgb": rgb_span,
    "crossover_span_latent": latent_span,
    "crossover_span_white": white_span,
}
rows = "\n".join(
    f"| {name} | {t[0]:.2f} | {t[B * B // 2 :].mean():.2f} | {t.min():.2f} | {t.max() - t.min():.2f} |"
    for name, t in crossover.items()
)
Markdown(
    f"**Measured here** ({n_images} held-out crops, one autoencoder):\n\n"
    "| signal | mean of the block appears at t | upper half of the ranks, on "
    "average | last | span |\n"
    f"|---|---|---|---|---|\n{rows}"
)

# %% [markdown]
# For photographs the crossovers are spread over most of the time axis: when a frequency is being decided, the coarser
# ones are already cleaner, the much coarser ones nearly clean, and the finer ones still mostly noise. The model predicts the next frequencies *given*
# the coarser ones, which is what "autoregressive" means. For white data all crossovers coincide at $t = 1/2$: there is no
# order, everything appears at once. A latent lies between the two, and the flatter its spectrum, the nearer to the second.
#
# ```{admonition} In the paper
# :class: paper
#
# Section 3.2 of {cite:t}`skorokhodov2025improving` argues with the same two spectra, in words: noise has a flat profile, so
# the flatter the data's own, the less clean are the low frequencies while the next ones are being decided, until for a flat
# profile no autoregression is left. It gives three reasons to expect that high frequencies are
# harder to model: they have more dimensions, they must emerge in the last few steps, and errors made earlier accumulate
# in them. The formula {eq}`eq-snr` and the crossover time are this book's way of putting numbers to the argument.
# ```
#
# ## Does the formula hold?
#
# Add noise, transform, and measure how much of each coefficient of $x_t$ is signal. With independent signal and noise the
# squared correlation between $D_k(x_t)$ and $D_k(x_0)$ is $\mathrm{SNR}_k / (1 + \mathrm{SNR}_k)$.

# %%
x0 = standardise(latents)
generator = torch.Generator().manual_seed(seed + 1)
d0 = spectrum.block_dct(x0, B)
check = go.Figure()
worst = 0.0
for i, t in enumerate((0.2, 0.5, 0.8)):
    xt = flow.interpolate(x0, torch.randn(x0.shape, generator=generator), t)
    dt = spectrum.block_dct(xt, B)
    measured = (d0 * dt).mean((0, 1, 2, 3)).square() / (
        d0.square().mean((0, 1, 2, 3)) * dt.square().mean((0, 1, 2, 3))
    )
    measured = measured.flatten()[spectrum.zigzag_order(B)]
    snr = flow.frequency_snr(E[f"latents of {autoencoder.name}"], t)
    predicted = snr / (1 + snr)
    worst = max(worst, (measured - predicted).abs().max().item())
    color = figures.PALETTE[i]
    check.add_trace(
        go.Scatter(
            y=predicted.tolist(), name=f"t = {t}, formula", line={"color": color}
        )
    )
    check.add_trace(
        go.Scatter(
            y=measured.tolist(),
            name=f"t = {t}, measured",
            mode="markers",
            marker={"color": color, "size": 5, "symbol": i},
        )
    )
check.update_xaxes(title="zigzag rank").update_yaxes(
    title="share of signal in D<sub>k</sub>(x<sub>t</sub>)", range=[0, 1.02]
)
check.update_layout(height=380, margin_t=70)
figures.described(
    check,
    "Share of signal in each coefficient against zigzag rank at three times. Dots "
    "measured on noisy latents lie on the curves that the formula predicts.",
)

# %% tags=["hide-input"]
run.metrics["largest_deviation_from_formula"] = worst
Markdown(
    f"**Measured here.** The largest difference between formula and measurement over all ranks and times is {worst:.4f}."
)

# %% [markdown]
# ## Watching it happen
#
# Move $t$ from 1 towards 0, as a sampler does. On the left the photograph at latent size with noise, as a pixel-space
# model sees it; on the right the noisy *latent*, decoded; below, the signal-to-noise ratio by rank for both and for
# white data. A frequency is above the dashed line when it carries more signal than noise.

# %%
explorer_image = data.photo("coffee")[:, 96:288, 192:384]  # (3, 192, 192)
explore.noise_explorer(
    explorer_image,
    autoencoder,
    {name: e.tolist() for name, e in E.items()},
    seed=seed,
)

# %% [markdown]
# Three warnings. A latent has 16 channels where RGB has three, and the decoder averages over them and over neighbours, so
# the right picture can be recognised at times when the left one cannot, although a single latent number is as noisy as a
# pixel: the curves compare frequencies of one channel, not pictures. The decoder was never trained on noisy latents, so the right picture shows what the noise does *through the
# decoder*, not what a sampler would show at that time, which is the decoded estimate of the clean latent. And what the
# curves know is second-order statistics only: two data sets with the same $E_k$ can be easy and hard to
# model. The spectrum is a diagnosis, not a proof; whether repairing it makes a diffusion model better has to be measured
# with a diffusion model.
#
# ## How steep is steep enough?
#
# If $E_k \propto f_k^{-\beta}$ for a spatial frequency $f$, then in the limit $E_k\ll 1$ the crossover time
# $t_k \approx \sqrt{E_k} \propto f_k^{-\beta/2}$: doubling the frequency divides the time of appearance by $2^{\beta/2}$, which
# is two for natural images with the textbook $\beta\approx 2$ and one, no order at all, for white data. Where $E_k$ is not small
# the crossovers lie closer together than that. Both can be measured.

# %%
slopes = {
    name: spectrum.spectral_exponent(standardise(x)) for name, x in signals.items()
}
fits = go.Figure()
for i, (name, x) in enumerate(signals.items()):
    frequency, power = spectrum.radial_profile(standardise(x))
    line = {"color": figures.PALETTE[i], "dash": figures.DASHES[i]}
    label = f"{name}: β = {slopes[name]:.2f}"
    fits.add_trace(
        go.Scatter(x=frequency.tolist(), y=power.tolist(), name=label, line=line)
    )
fits.update_xaxes(
    title="spatial frequency, cycles per latent pixel", **figures.DECADES
)
fits.update_yaxes(title="power", **figures.DECADES)
fits.update_layout(height=380)
figures.described(
    fits,
    "Radially averaged power against spatial frequency on logarithmic axes with "
    "fitted exponents: photographs fall most steeply, latents less, white data is "
    "level.",
)

# %% tags=["hide-input"]
rank_of = {int(k): rank for rank, k in enumerate(spectrum.zigzag_order(B))}
doubling = {}  # t at v over t at 2v, for v = 1, 2, 3, averaged over rows and columns
for name, t in crossover.items():
    pairs = [
        (rank_of[v * s], rank_of[2 * v * s]) for v in (1, 2, 3) for s in (1, B)
    ]
    doubling[name] = sum((t[a] / t[b]).item() for a, b in pairs) / len(pairs)
for name, key in zip(signals, ("rgb", "latent", "white"), strict=True):
    run.metrics |= {
        f"power_exponent_{key}": slopes[name],
        f"crossover_ratio_per_octave_{key}": doubling[name],
    }
rows = "\n".join(
    f"| {name} | {slopes[name]:.2f} | {2 ** (slopes[name] / 2):.2f} | {doubling[name]:.2f} |"
    for name in signals
)
Markdown(
    "**Measured here.** β is fitted with a Hann window up to 0.35 cycles per pixel; the last column averages $t_k$ at "
    "frequency $v$ over $t_k$ at $2v$, for $v = 1, 2, 3$, along rows and columns.\n\n"
    "| signal | β | limit $2^{β/2}$ | measured ratio per doubling |\n|---|---|---|---|\n"
    + rows
)

# %% [markdown]
# The two held-out photographs, reduced with a filter that smooths, fall more steeply than the textbook's exponent. For the
# latents the limit is never reached: even their finest frequencies are not small against the noise.
#
# ## Exercises
#
# ```{exercise} Shifting time
# :label: ex-shift
#
# The time shift $t' = \frac{s\,t}{(1-t) + s\,t}$ (Eq. 3 of {cite:t}`skorokhodov2025improving`, in the direction of this
# book's time) moves the sampler's steps. Show that it changes $\mathrm{SNR}_k$ as if all $E_k$ were divided by one number, and
# find the number. Can a shift repair a flat spectrum?
# ```
#
# ````{solution} ex-shift
# :class: dropdown
#
# From $\frac{1-t'}{t'} = \frac{1}{s}\cdot\frac{1-t}{t}$ it follows that $\mathrm{SNR}_k(t') = \frac{1}{s^2}\,\mathrm{SNR}_k(t)$:
# the same as if every $E_k$ were divided by $s^2$.
#
# ```python
# e = E["RGB at latent size"]
# t = torch.tensor(0.3)
# assert torch.allclose(flow.frequency_snr(e, flow.time_shift(t, 3.0)), flow.frequency_snr(e / 9, t))
# ```
#
# All frequencies move together on the scale of log-SNR, so their *order and spacing* stay as they were. A shift can spend
# more steps where the frequencies of interest cross over, but it cannot pull coinciding crossovers apart. (This is why the
# paper sweeps the shift: to show that the gain of scale equivariance is not an implicit shift.)
# ````
#
# ```{exercise} Larger pictures
# :label: ex-upsampled
#
# Enlarge the standardised RGB pictures twofold by repeating pixels. A block of $2B$ pixels now covers what a block of $B$
# covered before. Compare $E_{uv}$ of the lowest frequencies. Which time shift undoes the difference, and what does it say
# about training at higher resolution with an unchanged schedule?
# ```
#
# ````{solution} ex-upsampled
# :class: dropdown
#
# ```python
# large = small.repeat_interleave(2, -1).repeat_interleave(2, -2)
# before = spectrum.block_dct(standardise(small), B).square().mean((0, 1, 2, 3))
# after = spectrum.block_dct(standardise(large), 2 * B).square().mean((0, 1, 2, 3))
# print([round(r, 2) for r in (after[0, :4] / before[0, :4]).tolist()])
# ```
#
# A factor of four at the lowest frequencies, a little less further up (a repeated pixel is a box filter): four times as many
# pixels say the same thing, and their noise averages out. By {eq}`eq-snr` the shift with $s = 2$ divides the ratio by four
# again. The schedule that suited the small picture adds too little noise to hide the layout of the large one, which is why
# larger pictures are trained and sampled with noisier times.
# ````
#
# ```{exercise} A latent without order
# :label: ex-shuffle
#
# Permute the spatial positions of each latent with one fixed permutation for all images. Its exact inverse is known, so
# reconstruction stays perfect. What happens to $E_k$, and what does the example say about reconstruction and
# diffusability?
# ```
#
# ````{solution} ex-shuffle
# :class: dropdown
#
# ```python
# h, w = latents.shape[-2:]
# order = torch.randperm(h * w, generator=torch.Generator().manual_seed(0))
# shuffled = latents.flatten(-2)[..., order].unflatten(-1, (h, w))
# figures.profiles(
#     {"latents": flow.crossover_time(energies(latents)), "shuffled": flow.crossover_time(energies(shuffled))},
#     alt="Crossover times of latents fall with rank, those of shuffled latents are level from rank 1 on.", ylabel="t_k", log_y=False,
# )
# ```
#
# From rank 1 on the spectrum becomes nearly flat: neighbours no longer resemble each other. Only $E_0$ stays large, since a
# permutation keeps each image's channel means and every block of shuffled positions has about that mean. No information is lost, the decoder composed
# with the inverse permutation reconstructs as before, and yet a denoiser with local or coarse-to-fine habits now faces a
# harder problem. Reconstruction quality and diffusability are different things.
# ````
#
# ## Check yourself

# %% tags=["checkpoint"]
known = torch.tensor([9.0, 1.0, 1 / 9])
print(
    "crossover times of E = 9, 1, 1/9:   ",
    [round(t, 4) for t in flow.crossover_time(known).tolist()],
)
print(
    "their signal-to-noise at t = 1/4:   ",
    [round(v, 4) for v in flow.frequency_snr(known, 0.25).tolist()],
)
print(
    "unit variance, energy of a block:   ",
    [round(e.sum().item()) for e in E.values()],
)
print("white data appears at once:         ", white_span < 0.1)
print("photographs span half the time axis:", rgb_span > 0.5)
print("span, RGB > latents > white:        ", rgb_span > latent_span > white_span)
print("formula and measurement agree:      ", worst < 0.1)

# %% tags=["hide-input"]
record = run.finish()
if record_path:
    record.write(record_path)
Markdown(
    f"Run `{record.identity}`: size `{record.size}`, seed {record.seed}, {record.device}, torch {record.versions['torch']}, "
    f"{record.wall_time_s:.0f} s."
)
