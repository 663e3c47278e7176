# ---
# jupyter:
#   book:
#     needs: [chap-latent-diffusion, chap-dct]
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
# (chap-autoregression)=
# # Is diffusion spectral autoregression?
#
# **In short.** White noise drowns the fine frequencies of a photograph first, so a sampler meets its layout before its detail;
# the flatter the spectrum, the less of this order is left. The order follows from energies alone. That a model *needs* it does not
# follow: one paper trains without it and gets images as good on the standard benchmarks, and in theory white is the easiest of all Gaussians.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
model: str = "kl-f4c16"  # a shipped name, a diffusers folder or a hub id
n_images: int = 256
resolution: int = 128
block_size: int = 8
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import torch

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.spectra import noise_explorer
from diffusab_core import autoencoders, data, flow, spectrum

run = chapters.start(
    "03_spectral_autoregression",
    globals(),
    data=f"{n_images} crops of {resolution}² from the held-out photographs (coffee, china)",
)
B = block_size
ranks = spectrum.zigzag_order(B)


def standardise(x):
    """Zero mean and unit variance per channel, the scale on which x is diffused."""
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


def energies(x):
    """E_k in zigzag order: mean energy of each DCT coefficient of the standardised data."""
    d = spectrum.block_dct(standardise(x), B).square().mean((0, 1, 2, 3)).flatten()
    return d[ranks]


# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
crops = data.Photos(resolution=resolution, split="test", seed=seed)
rgb = data.stack(
    crops, range(n_images)
)  # (n, 3, resolution, resolution) in [-1, 1]
autoencoder = autoencoders.load(model)
with torch.no_grad():
    batches = [autoencoder.encode(batch).mean for batch in rgb.split(32)]
latents = torch.cat(batches)  # (n, C, h, w)
small = data.resize_to(rgb, *latents.shape[-2:])  # (n, 3, h, w): RGB at latent size
generator = torch.Generator().manual_seed(seed)
white = torch.randn(n_images, 3, *latents.shape[-2:], generator=generator)
signals = {
    "RGB at latent size": small,
    f"latents of {autoencoder.name}": latents,
    "white data": white,
}
E = {name: energies(x) for name, x in signals.items()}
crossover = {name: flow.crossover_time(e) for name, e in E.items()}
figures.profiles(
    crossover,
    alt="Crossover time against zigzag rank. For photographs it falls from about 0.9 at rank zero to below 0.1; for the "
    "latents it falls less; for white data it is one half everywhere.",
    ylabel="crossover time t<sub>k</sub> (sampling runs downwards)",
    log_y=False,
)

# %% [markdown] slideshow={"slide_type": "slide"}
# For each frequency of photographs, of latents and of white data (by *zigzag rank*, from low to high, {numref}`chap-dct`) the picture shows
# the time at which signal and noise are level. A sampler comes from above and meets low frequencies first. (The curves are not smooth: on a
# diagonal of the zigzag waves differ in direction and length, and so in energy.)
#
# A language model writes a sentence word by word. A diffusion model seems to do nothing of the kind: it changes all
# pixels at every step. Yet there is an order in what it does. Coarse layout appears first, fine texture last, and this
# order is not built into the network; it is a consequence of two spectra, that of the data, which falls, and that of the
# noise, which does not {cite}`rissanen2023generative`. {cite:t}`dieleman2024spectral` called this "spectral
# autoregression"; "not necessarily", replied {cite:t}`falck2025diffusion` in a blog post about their paper {cite}`falck2025fourier`.
# This chapter makes the statement exact, measures it on photographs and on latents, shows what becomes of it when a latent's spectrum
# is flat, and says which part of it is open. (You have seen a network do it: the film strip of {numref}`chap-latent-diffusion`.)
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - write down the signal-to-noise ratio of one frequency of $x_t$ and say when that frequency appears;
# - compute the order in which frequencies appear from a frequency profile alone;
# - say why a flat spectrum leaves no order, why this alone does not make it hard to learn, and how an autoencoder's latent
#   compares with photographs;
# - tell what this picture explains and what it does not.
# ```
#
# ## One frequency at a time
#
# This book uses **rectified flow**: data $x_0$ at $t=0$, white noise $\varepsilon\sim\mathcal N(0, I)$ at $t=1$, and the
# straight line between them,
#
# $$ x_t = (1-t)\,x_0 + t\,\varepsilon . $$ (eq-path)
#
# An orthonormal transform, such as the blockwise DCT of {numref}`chap-dct`, is linear, so {eq}`eq-path` holds for each
# coefficient: $D_k(x_t) = (1-t)\,D_k(x_0) + t\,D_k(\varepsilon)$. It also maps white noise to white noise, so
# $D_k(\varepsilon)$ has variance one *for every* $k$. The ratio of signal to noise energy at rank $k$ is therefore
#
# $$
# \mathrm{SNR}_k(t) = \Bigl(\frac{1-t}{t}\Bigr)^{2} E_k, \qquad E_k = \mathbb E\bigl[D_k(x_0)^2\bigr] .
# $$ (eq-snr)
#
# Time enters through one factor that all frequencies share; the *data's* spectrum $E_k$ decides which of them lie
# above the noise at a given time. Signal and noise are level where $\mathrm{SNR}_k = 1$, that is at the **crossover time**
#
# $$ t_k = \frac{\sqrt{E_k}}{1+\sqrt{E_k}} . $$ (eq-crossover)
#
# Sampling runs from $t=1$ down to $0$ and meets the largest $t_k$ first.
#
# Diffusion models are trained on data scaled to unit variance. That fixes the scale of $E_k$ by Parseval: per block,
# $\sum_k E_k = B^2$.

# %%
results.show(
    {
        name: {
            "sum": e.sum().item(),
            "E₀": e[0].item(),
            "mean of the upper half": e[B * B // 2 :].mean().item(),
        }
        for name, e in E.items()
    },
    {"sum": ".1f", "E₀": ".1f", "mean of the upper half": ".4f"},
    index="signal",
)

# %% [markdown]
# ## The order of appearance
#
# Crossover times follow from the spectrum alone, {eq}`eq-crossover`; they are what the picture at the top shows.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
rgb_t, latent_t, white_t = crossover.values()
span = {name: (t.max() - t.min()).item() for name, t in crossover.items()}
rgb_span, latent_span, white_span = span.values()
run.metrics |= {
    "crossover_span_rgb": rgb_span,
    "crossover_span_latent": latent_span,
    "crossover_span_white": white_span,
}
results.show(
    {
        name: {
            "mean of the block appears at t": t[0].item(),
            "upper half of the ranks, on average": t[B * B // 2 :].mean().item(),
            "last to appear, t": t.min().item(),
            "first − last": span[name],
        }
        for name, t in crossover.items()
    },
    ".2f",
    index="signal",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# For photographs the crossovers are spread over most of the time axis: when a frequency is being decided, the coarser
# ones are already cleaner, the much coarser ones nearly clean, and the finer ones still mostly noise. The model predicts the
# next frequencies *given* the coarser ones, which is what "autoregressive" means. For white data all crossovers coincide at
# $t = 1/2$: there is no order, everything appears at once. A latent lies between the two, and the flatter its spectrum, the
# nearer to the second.
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
# Add noise, transform, and measure how much of each coefficient of $x_t$ is signal. (The energies $E_k$ are those of the same latents, so
# this checks noise, path and transform, and no model.) With independent signal and noise the squared correlation between $D_k(x_t)$ and
# $D_k(x_0)$ is $\mathrm{SNR}_k / (1 + \mathrm{SNR}_k)$.

# %%
x0 = standardise(latents)
d0 = spectrum.block_dct(x0, B)
generator = torch.Generator().manual_seed(seed + 1)
curves, styles, worst = {}, {}, 0.0
for i, t in enumerate((0.2, 0.5, 0.8)):
    noise = torch.randn(x0.shape, generator=generator)
    dt = spectrum.block_dct(flow.interpolate(x0, noise, t), B)
    signal, energy = d0.square().mean((0, 1, 2, 3)), dt.square().mean((0, 1, 2, 3))
    measured = (d0 * dt).mean((0, 1, 2, 3)).square() / (signal * energy)
    measured = measured.flatten()[ranks]
    snr = flow.frequency_snr(E[f"latents of {autoencoder.name}"], t)
    predicted = snr / (1 + snr)
    worst = max(worst, (measured - predicted).abs().max().item())
    curves |= {f"t = {t}, formula": predicted, f"t = {t}, measured": measured}
    styles[f"t = {t}, formula"] = {"color": i, "dash": "solid"}
    dots = {"color": i, "mode": "markers", "size": 5, "symbol": i}
    styles[f"t = {t}, measured"] = dots
run.metrics["largest_deviation_from_formula"] = worst

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.profiles(
    curves,
    styles=styles,
    log_y=False,
    ylabel="share of signal in D<sub>k</sub>(x<sub>t</sub>)",
    alt="Share of signal in each coefficient against zigzag rank at three times. Dots measured on noisy latents lie on the "
    "curves that the formula predicts.",
).update_layout(margin_t=70)

# %% [markdown] slideshow={"slide_type": "slide"}
# The dots lie on the lines: over all ranks and times the shares differ by less than 0.01.
#
# ## Is the order needed?
#
# So the order is real. Does a diffusion model profit from it? Two arguments say that this does not follow.
#
# **The order can be taken away.** Give the noise the spectrum of the data: let $D_k(\varepsilon)$ have the variance $E_k$. Then
# $E_k$ drops out of {eq}`eq-snr`, every frequency has the same signal-to-noise ratio at all times, and all crossovers coincide.
# Divide each coefficient by $\sqrt{E_k}$, and you see that this is white data under white noise, by another name.
#
# ```{admonition} In another paper
# :class: paper
#
# {cite:t}`falck2025fourier` train image models with such noise (and models with the usual one). They find that the usual noise, which
# destroys high frequencies first and quickly, breaks an assumption of the reverse process there and costs quality at high frequencies.
# With all frequencies noised at the same rate, samples are better where high frequencies are what matters, and on par on the standard
# image benchmarks. So an order from coarse to fine is not what makes diffusion work on images. They report, too, that with the order
# turned upside down their training did not succeed, and that this proves nothing in general.
# ```
#
# **White is the easiest Gaussian.** For Gaussian data the best velocity is known; frequency by frequency it is a number times
# the coefficient ({eq}`eq-rf-gauss` with $\sigma^2 = E_k$, in the mean-free case),
#
# $$
# D_k(v) = \frac{t - (1-t)\,E_k}{(1-t)^2 E_k + t^2}\; D_k(x_t) .
# $$ (eq-gain-of-rank)
#
# For a falling spectrum these numbers differ, and a network has to look at neighbours to tell frequencies apart. For white
# data they are all the same: the best velocity is one scalar for all frequencies, with nothing to mix and nothing to learn but
# a function of time. The least loss does not show it; it is *highest* for white data ({numref}`chap-latent-diffusion`).
#
# How does that fit with "a flat spectrum leaves no order"? **For Gaussian latents white is the easiest, order or not. If a flat
# spectrum hurts, it is through what is not Gaussian in the data, and through detail that the decoder needs.** A channel that holds
# nothing but white noise asks for one more function of time, and a decoder that ignores it forgives every error in it. Detail that
# matters in the picture, spread evenly over all frequencies, is another case, and how much harder it makes learning has to be measured.
# {numref}`chap-dial` does: for a small network it depends on the length of training and on the noise that is trained at. (There Gaussian
# latents made steeper are the harder ones, in both of two seeds; whether flatter ones are easier these do not decide.)
#
# ## Watching it happen
#
# Move $t$ towards 0, as a sampler does. (At 1 there is no signal, and nothing is drawn below.) On the left the photograph at latent
# size with noise, as a pixel-space model sees it; on the right the noisy *latent*, decoded; below, the signal-to-noise ratio by rank
# for both and for white data. A frequency is above the dashed line when it carries more signal than noise. The page
# {doc}`Your own picture </book/own_picture>` does the same with a picture of yours.

# %% slideshow={"slide_type": "subslide"}
explorer_image = data.photo("coffee")[:, 96:288, 192:384]  # (3, 192, 192)
lists = {name: e.tolist() for name, e in E.items()}
noise_explorer(explorer_image, autoencoder, lists, seed=seed)

# %% [markdown]
# Three warnings:
#
# - **The curves compare frequencies of one channel, not pictures.** A latent has 16 channels where RGB has three, and the decoder averages
#   over them and over neighbours. So the right picture can be recognised at times when the left one cannot, although a single latent number
#   is as noisy as a pixel.
# - **The right picture shows what the noise does *through the decoder***, which was never trained on noisy latents. What a sampler would
#   show at that time is the decoded estimate of the clean latent.
# - **The curves show energies only.** Of two data sets with the same $E_k$ one can be easy to model and the other hard. Whether changing the
#   spectrum makes a diffusion model better has to be measured with a diffusion model ({numref}`chap-dial`, {numref}`chap-pays`).
#
# ## How steep?
#
# How far apart do the frequencies appear? Let the energy be a power of the spatial frequency, $E_k \propto f_k^{-\zeta}$, with $f_k$ that of
# rank $k$. Where $E_k\ll 1$ the crossover time is $t_k \approx \sqrt{E_k} \propto f_k^{-\zeta/2}$: doubling the frequency divides the time
# of appearance by $2^{\zeta/2}$. For natural images, with the textbook $\zeta\approx 2$, that is a factor of two; for white data it is
# one, so there is no order at all. Where $E_k$ is not small the crossovers lie closer together than that. Exponents and crossovers can
# both be measured.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
slopes, fits = {}, {}
for name, x in signals.items():
    slopes[name] = spectrum.spectral_exponent(standardise(x))
    frequency, power = spectrum.radial_profile(standardise(x))
    fits[f"{name}: ζ = {slopes[name]:.2f}"] = (frequency, power)
figures.lines(
    fits,
    log_x=True,
    log_y=True,
    height=380,
    xlabel="spatial frequency, cycles per latent pixel",
    ylabel="power",
    alt="Radially averaged power against spatial frequency on logarithmic axes with fitted exponents: photographs fall most "
    "steeply, latents less, white data is level.",
).update_xaxes(tickvals=[0.05, 0.1, 0.2, 0.4])

# %% jupyter={"source_hidden": true} tags=["hide-input"]
rank_of = {int(k): rank for rank, k in enumerate(ranks)}
pairs = [(rank_of[v * s], rank_of[2 * v * s]) for v in (1, 2, 3) for s in (1, B)]
doubling = {  # t at v over t at 2v, for v = 1, 2, 3, averaged over rows and columns
    name: sum((t[a] / t[b]).item() for a, b in pairs) / len(pairs)
    for name, t in crossover.items()
}
for name, key in zip(signals, ("rgb", "latent", "white"), strict=True):
    run.metrics |= {
        f"power_exponent_{key}": slopes[name],
        f"crossover_ratio_per_octave_{key}": doubling[name],
    }
results.show(
    {
        name: {
            "ζ": slopes[name],
            "limit 2^(ζ/2)": 2 ** (slopes[name] / 2),
            "measured ratio per doubling": doubling[name],
        }
        for name in signals
    },
    ".2f",
    index="signal",
)

# %% [markdown]
# **Measured here.** ζ is fitted with a Hann window up to 0.35 cycles per pixel; the last column averages $t_k$ at frequency $v$ over $t_k$ at
# $2v$, for $v = 1, 2, 3$, along rows and columns. The two held-out photographs are reduced here with a filter that smooths. They fall more
# steeply than the textbook's exponent, and than at full size ({numref}`chap-dct`). For the latents the limit is never reached: even their
# finest frequencies are not small against the noise.
#
# ## To take away
#
# - Noise is flat, pictures are not: at each time some frequencies lie above the noise and the rest below. The crossover
#   time says when each of them appears.
# - The flatter a spectrum, the less order there is. White data appear all at once.
# - An order is not a need. For Gaussian data the flat spectrum is in theory the easiest to learn; if it hurts, then through detail that is
#   not Gaussian and that the decoder needs.
# - A time shift moves all frequencies alike, and gives a flat spectrum no order (first exercise).
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} Shifting time ★★
# :label: ex-shift
#
# The time shift $t' = \frac{\chi\,t}{(1-t) + \chi\,t}$ (Eq. 3 of {cite:t}`skorokhodov2025improving`, in the direction of this
# book's time) moves the sampler's steps. Show that it changes $\mathrm{SNR}_k$ as if all $E_k$ were divided by one number, and
# find the number. Can a shift give a flat spectrum an order?
# ```
#
# ````{solution} ex-shift
# :class: dropdown
#
# From $\frac{1-t'}{t'} = \frac{1}{\chi}\cdot\frac{1-t}{t}$ it follows that $\mathrm{SNR}_k(t') = \frac{1}{\chi^2}\,\mathrm{SNR}_k(t)$:
# the same as if every $E_k$ were divided by $\chi^2$.
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
# ```{exercise} Larger pictures ★★
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
# pixels say the same thing, and their noise averages out. By {eq}`eq-snr` the shift with $\chi = 2$ divides the ratio by four
# again. The schedule that suited the small picture adds too little noise to hide the layout of the large one, which is why
# larger pictures are trained and sampled with noisier times.
# ````
#
# ```{exercise} A latent without order ★
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
# permutation keeps each image's channel means and every block of shuffled positions has about that mean. No information is lost, the
# decoder composed with the inverse permutation reconstructs as before, and yet a denoiser that counts on neighbours now faces a harder
# problem ({numref}`chap-latent-diffusion` has tried it). Reconstruction quality and diffusability are different things.
# ````
#
# ## What this chapter claims
#
# Each assertion guards the sentence that it quotes. If one fails, the sentence has to be rewritten.

# %%
# "the flatter the spectrum, the less of this order is left"; "A latent lies between the two"
assert rgb_span > latent_span > white_span
# "For photographs the crossovers are spread over most of the time axis"; "white data ... at t = 1/2"
assert rgb_span > 0.7
assert (white_t - 0.5).abs().max() < 0.05
# "The curves are not smooth"
assert all((t.diff() > 0).any() for t in (rgb_t, latent_t))
# "the shares differ by less than 0.01"
assert worst < (0.01 if size != "smoke" else 0.1)
# "the best velocity is one scalar for all frequencies", here 2t - 1 over V(t)
xt = flow.interpolate(white, torch.randn(white.shape), 0.3)
velocity = flow.gaussian_velocity(xt, 0.3, 0.0, 1.0)
assert torch.allclose(velocity, xt * (2 * 0.3 - 1) / (0.7**2 + 0.3**2), atol=1e-5)
# "it is highest for white data": the least loss, at the same total energy
least = {name: flow.least_loss(e, 0.5).mean().item() for name, e in E.items()}
assert max(least, key=least.get) == "white data"
# "more steeply than the textbook's exponent, and than at full size"; "the limit is never reached"
rgb_slope, latent_slope, _ = slopes.values()
assert rgb_slope > max(2, spectrum.spectral_exponent(rgb))
assert list(doubling.values())[1] < 2 ** (latent_slope / 2) - 0.2

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
known = torch.tensor([9.0, 1.0, 1 / 9])
times = [round(t, 4) for t in flow.crossover_time(known).tolist()]
ratios = [round(v, 4) for v in flow.frequency_snr(known, 0.25).tolist()]
block = [round(e.sum().item()) for e in E.values()]
print("crossover times of E = 9, 1, 1/9:   ", times)
print("their signal-to-noise at t = 1/4:   ", ratios)
print("unit variance, energy of a block:   ", block)
print("white data appears at once:         ", white_span < 0.1)
print("photographs span half the time axis:", rgb_span > 0.5)
print("span, RGB > latents > white:        ", rgb_span > latent_span > white_span)
print("formula and measurement agree:      ", worst < 0.1)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
