# ---
# jupyter:
#   book:
#     needs: [chap-pays, chap-freqwarm]
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
# (chap-opposite)=
# # Two papers, opposite advice?
#
# **In short.** The two recipes act on different objects and need not contradict each other. On this pair of autoencoders
# low-passing shows *less* high-frequency latent energy, not more, and SE takes energy from high frequencies without taking what
# the decoder has at stake there. After **600 steps** SE makes samples 20% worse (95% interval +12% to +28%); three seeds do not
# settle what FreqWarm does to them, on either autoencoder.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
models: list[str] = [
    "kl-f4c16-ft",
    "kl-f4c16-se",
]  # fine-tuned without and with SE: shipped names or folders
others: list[str] = [
    "kl-f4c4",
    "kl-f8c4",
    "kl-f8c64",
    "kl-f16c256",
]  # on which the premise of FreqWarm is tried, too
cutoffs: list[float] = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5]
n_images: int = 512  # crops of 32² behind spectra and distances
n_large: int = 24  # crops of 128²
n_others: int = 48
n_decoded: int = 128  # latents that are disturbed and decoded
n_dependence: int = 12  # held-out crops of 64²
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import math
from itertools import pairwise

import numpy as np
import pandas as pd
import torch

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.opposite import warmup_explorer
from diffusab_core import autoencoders, data, spectrum
from diffusab_core.flow import crossover_time
from diffusab_core.flow.gaussian import linear_bounds, mismatch_loss
from diffusab_core.methods.freqwarm import EVERYTHING
from diffusab_core.metrics import probes
from diffusab_core.metrics.probes import exposure
from diffusab_core.spectrum import bands, radial_split

# %% jupyter={"source_hidden": true} tags=["hide-input"]
run = chapters.start(
    "17_opposite_advice",
    globals(),
    data=f"latents of {n_images} crops of 32² of the training photographs, whole and "
    f"low-passed; {n_dependence} held-out crops of 64²",
)
B = 8  # a latent of 8 x 8 positions is one block
K = B * B
R0 = 0.2  # the paper's cutoff, and that of the recorded runs
STEPS, WARM = 600, 150  # of the recorded runs, and of their warm-up
BANDS = {
    "ranks 1 to 9": slice(1, 10),
    "10 to 31": slice(10, 32),
    "32 to 63": slice(32, 64),
}
HIGH = BANDS["32 to 63"]
CONTROL, SE = "control", "SE"

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
alone = results.rename(results.frame("denoisers"), {"plain": CONTROL, "se": SE})
warm_arms = {"plain-r0.2": f"{CONTROL}, FreqWarm", "se-r0.2": f"{SE}, FreqWarm"}
warmed = results.rename(results.frame("freqwarm"), warm_arms)
recorded = pd.concat([alone, warmed], ignore_index=True)  # two by two
two_by_two = figures.over_seeds(
    {
        on: {
            "without": results.values(recorded, "frechet_offline", on),
            "with FreqWarm": results.values(
                recorded, "frechet_offline", f"{on}, FreqWarm"
            ),
        }
        for on in (CONTROL, SE)
    },
    "Recorded Fréchet distance of samples without and with FreqWarm, one line for the control and one for scale "
    "equivariance, one marker for each run. Without FreqWarm SE lies above the control; with it the runs scatter over each other.",
    xlabel="training of the denoiser, 600 steps",
    ylabel="Fréchet distance (offline features)",
    log_y=False,
)
two_by_two.update_xaxes(range=[-0.4, 1.4])

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded, three seeds: one denoiser trained in four ways, with neither recipe, with one, with the other, with both.*
#
# One paper takes high-frequency energy out of latents and reports better samples. Another changes what the denoiser is
# fed, so that it meets *more* high-frequency latent energy early on, and reports better samples, too. Both begin with the
# same diagnosis: decoders lean on high latent frequencies. Do they contradict each other? This chapter lays the claims
# beside each other until they predict numbers, measures those numbers on one pair of autoencoders (that of seed 0), and
# then reads the records of the figure, made on three such pairs.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - turn two pieces of advice into quantities on which they agree or differ;
# - write the error of generated pictures as a budget over frequencies, and say which factor each method touches;
# - measure whether low-passed images have latents of more or of less high-frequency energy, and what a switch costs;
# - read a two-by-two experiment: two main effects, one interaction, paired by seed;
# - say which explanation of an outcome the measurements support, and which they rule out.
# ```

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The two claims
#
# ```{admonition} In the papers
# :class: paper
#
# {cite:t}`skorokhodov2025improving`, Sec. 3: latents carry more high-frequency energy than RGB, those frequencies come
# last in the diffusion process, and decoders depend on them. The remedy is two-fold, less energy there and a decoder that
# does not amplify them, and scale equivariance (SE) is the means. Table 1, FID of DiT-XL/2 on FluxAE, untouched /
# fine-tuned / with SE: 12.21 / 10.62 / 9.85.
#
# {cite:t}`lai2026toward`: decoders need high latent frequencies for detail (Finding 1), most RGB energy lies in a narrow
# low band (Finding 2), and beyond some point more RGB high frequencies *reduce* the latent amplitude at high frequencies
# (Finding 3), perhaps by aliasing. So denoisers are under-exposed to what the decoder requires. FreqWarm trains them on
# the latents of images without the frequencies beyond $r_0 = 0.2$ cycles per pixel first, then on those of whole images.
# gFID of USiT-H on DC-AE without / with it: 5.75 / 5.74 with 32 channels, 13.84 / 9.42 with 128, 54.84 / 42.66 with 512.
# The length of the warm-up is not given. The authors stress that the aim is not amplitude as such but the true
# distribution of the high frequencies.
# ```
#
# | | scale equivariance | FreqWarm |
# |---|---|---|
# | what it changes | the autoencoder | the data of the first steps |
# | what it leaves alone | the denoiser's training | the autoencoder, and the last steps |
# | high latent frequencies are | a burden: hard to learn, little needed | a signal: needed, and seen too little |
# | wants their energy | lowered, for good | raised, for a while |
# | where it was shown | 16 channels and more, f8 to f32 | gains from 48 channels on, f16 and f32; none with 32 |
#
# The verbs in the third and fourth row do contradict each other; the objects do not. SE changes *what there is to learn*.
# FreqWarm leaves that as it is and changes *in which order it is shown*. Both could be right. To find out whether they
# are, each must say something that can be measured.
#
# ## A budget over frequencies
#
# Let $z$ be the latent that a perfect denoiser would make of some starting noise, $\hat z = z + e$ what the trained one
# makes, and $e_k$ the error at zigzag rank $k$, all normalised as the denoiser sees them. To first order the decoder turns
# the energy of each error into pixels with a gain $\Gamma_k$, the gain of {eq}`eq-gain` taken rank by rank,
#
# $$
# \mathbb E\,\lVert \mathrm{Dec}(\hat z) - \mathrm{Dec}(z)\rVert^2 \approx \sum_k \Gamma_k\, \mathbb E\,\lVert e_k\rVert^2
# = \sum_k \underbrace{\Gamma_k\,\Lambda_k}_{\text{stake } S_k}\; \underbrace{\eta_k}_{\text{relative error}},
# \qquad \eta_k = \frac{\mathbb E\,\lVert e_k\rVert^2}{\Lambda_k},
# $$ (eq-opposite-budget)
#
# where $\Lambda_k = \sum_c\lambda_{ck}$ is the energy of the latents at rank $k$, errors at different ranks are taken as
# uncorrelated, and over the channels an error is taken to be distributed as the latents themselves, $\operatorname{Cov}(e_k) =
# \eta_k\Sigma_k$, so that $S_k = \operatorname{tr}(J_k\Sigma_k J_k^\top)$ with the decoder's derivative $J_k$. The stake is what
# the picture loses if a rank is missed altogether, extrapolated from small errors; the relative error is the denoiser's
# part.
#
# **SE** changes the first factor through both of its parts. In the linear model of {numref}`chap-se` a gain $g_k$ of the
# encoder takes $\Lambda_k$ to $g_k^2\Lambda_k$ and the decoder's to $\Gamma_k/g_k^2$, so that
#
# $$
# S_k' = \frac{\Gamma_k}{g_k^2}\; g_k^2\,\Lambda_k = S_k .
# $$ (eq-opposite-stake)
#
# A mere gain moves energy and leaves every stake where it was. SE lowers the stake only if the decoder does not make up
# for what the encoder took, and that is the paper's second condition. If the stakes stay, SE can still help or harm
# through $\eta_k$: a smaller $\lambda_k$ has a smaller signal-to-noise ratio {eq}`eq-snr` at every time, and
# the share of a Gaussian coefficient $D$ that its noised value $D_t = (1-t)D + t\varepsilon$ leaves unknown,
#
# $$
# \frac{\operatorname{Var}(D \mid D_t)}{\lambda_k} = \frac{1}{1 + \mathrm{SNR}_k(t)} = \frac{t^2\,\ell_t(\lambda_k)}{\lambda_k},
# $$ (eq-opposite-unknown)
#
# is larger at every time. Sampling settles such a coefficient later, in fewer of its steps ({eq}`eq-loss-least` has $\ell_t$).
#
# **FreqWarm** leaves $\Lambda_k$ and $\Gamma_k$ alone and works on $\eta_k$. During its $W$ first steps of $T$ the denoiser sees
# the variance $\lambda_k^{\mathrm{low}} = \xi_k\lambda_k$ instead of $\lambda_k = \Lambda_k/C$, both means over the $C$
# channels. Over the whole training that is an exposure of
#
# $$
# X_k = \frac{1}{T}\sum_{n<T} \frac{\lambda_k^{(n)}}{\lambda_k} = 1 + \frac{W}{T}\,(\xi_k - 1) .
# $$ (eq-opposite-exposure)
#
# "More high-frequency energy early" is the statement $\xi_k > 1$ at high ranks. It is a property of the *encoder*, and
# Finding 3 is the reason to expect it. If $\xi_k < 1$, the warm-up shows less of the high frequencies than plain training
# does, and then both papers' recipes have the same sign in what the denoiser is fed.
#
# | quantity | SE predicts | FreqWarm predicts |
# |---|---|---|
# | $\lambda_k$ at high ranks | SE lowers it | no change |
# | stake $S_k$ at high ranks | SE lowers it | large, no change |
# | $\xi_k$ at high ranks | – | above 1 |
# | generated over real energy at high ranks | nearer to 1, or it matters less | nearer to 1 |
# | loss on whole latents at the end | not comparable between latents | lower |
# | Fréchet distance | lower | lower |
#
# So the point on which they really disagree is neither energy nor samples but **the stake**: whether high latent
# frequencies can be made unimportant, or must be learned because the decoder goes on needing them.
#
# ## What low-passing does to latents
#
# Two autoencoders that differ in one thing: fine-tuned without SE (the control) and with it. Crops of 32² of the training
# photographs, such as the recorded denoisers saw, whole and without the frequencies beyond a cutoff. Within each
# autoencoder the encoder is the same for both, and all latents are normalised by the statistics of the whole images', as in
# training. Latents are the means of posteriors here; in training the posteriors' noise is added to both streams, so least
# losses differ a little from those of {numref}`chap-loss`.


# %%
@torch.no_grad()
def means_of(autoencoder, images):
    """Posterior means, batch by batch, (n, C, h, w)."""
    batch = max(1, 64 * 32**2 // images[0, 0].numel())
    return torch.cat([autoencoder.encode(b).mean for b in images.split(batch)])


def statistics(z):
    """Mean and spread of each channel of whole images' latents."""
    return z.mean((0, 2, 3), keepdim=True), z.std((0, 2, 3), keepdim=True)


def streams(autoencoder, images, radii) -> dict[float, torch.Tensor]:
    """Normalised coefficients (n, C, K) of whole (infinite radius) and low-passed images."""
    z = means_of(autoencoder, images)
    centre, spread = statistics(z)
    cut = {r: means_of(autoencoder, radial_split(images, r)[0]) for r in radii}
    return {
        r: bands.ranked((latents - centre) / spread, B)
        for r, latents in ({math.inf: z} | cut).items()
    }


# %%
x = data.stack(data.Photos(32, "train", seed=0, length=n_images), range(n_images))
tuned = {
    label: autoencoders.load(m)
    for label, m in zip((CONTROL, SE), models, strict=True)
}
fed = {label: streams(a, x, cutoffs) for label, a in tuned.items()}
found = {
    label: {r: exposure(c[math.inf], c[r]) for r in cutoffs}
    for label, c in fed.items()
}

# %% slideshow={"slide_type": "subslide"}
picture = data.photo("china")[:, 40:168, 140:268]  # (3, 128, 128)
warmup_explorer(picture, found, start=R0, mark=HIGH.start)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def in_band(e, band) -> float:
    """Energy of a band, low-passed over whole."""
    return (e.warm[band].sum() / e.energy[band].sum()).item()


def moved(e, band=slice(1, None)) -> float:
    """Fréchet distance over a band, as a share of its energy."""
    return ((e.distance * e.energy)[band].sum() / e.energy[band].sum()).item()


# %% jupyter={"source_hidden": true} tags=["hide-input"]
SHOWN = [r for r in cutoffs if r in (0.1, 0.2, 0.4)]
rho = {label: in_band(by_radius[R0], HIGH) for label, by_radius in found.items()}
for label, by_radius in found.items():
    run.metrics[f"{label}: high-rank energy, low-passed at {R0:g} over whole"] = (
        rho[label]
    )
    run.series[f"{label}: rho by rank at {R0:g}"] = by_radius[R0].ratio.tolist()
results.show(
    {
        f"{label}, r₀ = {r:g}": {
            name: in_band(by_radius[r], b) for name, b in BANDS.items()
        }
        | {"largest of any rank": by_radius[r].ratio[1:].max().item()}
        for label, by_radius in found.items()
        for r in SHOWN
    },
    ".2f",
    index="ξ, energy of low-passed images' latents over that of whole ones",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
energies = {
    label: by_radius[R0].energy[HIGH].mean().item()
    for label, by_radius in found.items()
}
when = {
    label: crossover_time(by_radius[R0].energy)[HIGH].mean().item()
    for label, by_radius in found.items()
}
results.show(
    {
        label: {
            "variance, each": energies[label],
            "crossover time": when[label],
            "ξ at 0.2": rho[label],
            "exposure X over 600 steps": 1 + WARM / STEPS * (rho[label] - 1),
        }
        for label in (CONTROL, SE)
    },
    ".3f",
    index="ranks 32 to 63",
)

# %% [markdown]
# **Measured here.** At 0.2 cycles per pixel the warm-up shows **less** high-frequency latent energy than plain training, on the
# control and with SE. Over a training whose first quarter is the warm-up, the exposure to these ranks falls by about a
# twentieth. SE, for its part, takes two fifths of their energy, for good.
#
# It is not obvious that a cut at 0.2 cycles per pixel should change latents at all. With compression $f = 4$ a latent's
# Nyquist frequency is $0.5/f = 0.125$ cycles per pixel of the image (0.177 in the corner): everything that the latent's
# grid can hold *as a frequency* passes the filter. What is removed can be in the latent only folded, or written into
# channels ({term}`Aliasing`). If there it adds energy at high ranks, $\xi$ lies below one; if it crowds out other high
# frequencies, as Finding 3 has it, $\xi$ lies above one.
#
# ### Larger crops, other autoencoders
#
# A Fourier filter joins opposite borders of a crop, and a crop of 32² has much border. And Finding 3 was made with
# f16 and f32. So the same for crops of 128², and for other autoencoders of this book, each with crops whose latents are
# 8 × 8.

# %%
photos = data.Photos(128, "train", seed=0, length=n_large)
large = data.stack(photos, range(n_large))
elsewhere = {}
for label, a in tuned.items():
    c = streams(a, large, [R0])
    elsewhere[f"{label}, crops of 128²"] = exposure(c[math.inf], c[R0])
for name in others:
    a = autoencoders.load(name)
    crops = data.Photos(B * a.compression, "train", seed=0, length=n_others)
    c = streams(a, data.stack(crops, range(n_others)), [R0])
    elsewhere[name] = exposure(c[math.inf], c[R0])

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
for name, e in elsewhere.items():
    run.metrics[f"{name}: high-rank energy, low-passed over whole"] = in_band(
        e, HIGH
    )
results.show(
    {
        name: {band: in_band(e, b) for band, b in BANDS.items()}
        | {
            "ranks with ξ above 1.01": f"{(e.ratio[1:] > 1.01).sum().item()} of {K - 1}"
        }
        for name, e in elsewhere.items()
    },
    ".2f",
    index="ξ at r₀ = 0.2",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here.** The energy of the upper half of the ranks rises with low-passing for none of them.
#
# This is the premise of FreqWarm, tried where we can try it. It says nothing against Finding 3 for the autoencoders in
# which it was made: those compress up to 32 times, are hundreds of times larger and saw far more than crops of five
# photographs.
#
# ## Energy times gain
#
# Now the first factor of {eq}`eq-opposite-budget`. Disturb latents with Gaussian noise that has, at each rank of one band, a
# tenth of the latents' own covariance, $\eta = 0.1$; decode, and take the squared change of the picture. Divided by 0.1 it is
# the band's stake, and the stake divided by the band's energy is the gain. Two more numbers beside it: the change when *all* of
# the band is taken away, which is no small error any more, and the stake for noise independent in each channel. Channels are
# correlated, a decoder reads them together, and a denoiser's errors need not follow the latents' correlations.

# %%
ETA = 0.1


def as_latents(ranks):
    """Coefficients by rank (n, C, K) as normalised latents of one block."""
    natural = torch.empty_like(ranks)
    natural[..., spectrum.zigzag_order(B)] = ranks
    return spectrum.block_idct(natural.unflatten(-1, (1, 1, B, B))).float()


def errors_like(d, covariance):
    """Noise with the latents' covariance at each rank, and noise independent in each channel."""
    energy = covariance.diagonal(dim1=1, dim2=2).sum(1)  # (K,)
    jitter = 1e-9 * energy[:, None, None] * torch.eye(d.shape[1])
    root = torch.linalg.cholesky(covariance + jitter)
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(d.shape, generator=generator, dtype=d.dtype)
    by_channel = white * covariance.diagonal(dim1=1, dim2=2).T.sqrt()
    return torch.einsum("kcd,ndk->nck", root, white), by_channel


# %%
@torch.no_grad()
def picture_change(autoencoder, images):
    """A latent's coefficients by rank, and how far the picture moves when they become others."""
    z = means_of(autoencoder, images)
    centre, spread = statistics(z)
    decoded = autoencoder.decode(z)
    power = (images - images.mean((0, 2, 3), keepdim=True)).square().sum()

    @torch.no_grad()
    def change(ranks) -> float:
        """Squared change of the pictures, as a share of their variance."""
        other = autoencoder.decode(as_latents(ranks) * spread + centre)
        return ((other - decoded).square().sum() / power).item()

    return bands.ranked((z - centre) / spread, B), change


# %%
def stakes(autoencoder, images) -> dict[str, dict[str, float]]:
    """Energy, gain and stake by band; stakes as a share of the pictures' variance."""
    d, change = picture_change(autoencoder, images)  # (n, C, K)
    covariance = bands.second_moments(d)[1]  # (K, C, C)
    energy = covariance.diagonal(dim1=1, dim2=2).sum(1)  # (K,)
    like_latents, by_channel = errors_like(d, covariance)
    found = {}
    for name, band in (BANDS | {"1 to 63": slice(1, K)}).items():
        inside = torch.zeros(K, dtype=d.dtype)
        inside[band] = 1
        error = math.sqrt(ETA) * inside
        found[name] = {
            "energy": energy[band].sum().item(),
            "stake": change(d + error * like_latents) / ETA,
            "by channel": change(d + error * by_channel) / ETA,
            "removed": change(d * (1 - inside)),
        }
        found[name]["gain"] = found[name]["stake"] / found[name]["energy"]
    return found


budget = {label: stakes(a, x[:n_decoded]) for label, a in tuned.items()}

# %% jupyter={"source_hidden": true} tags=["hide-input"]
quotient = {  # SE over the control
    name: {key: budget[SE][name][key] / v for key, v in of_control.items()}
    for name, of_control in budget[CONTROL].items()
}
for name, of_band in quotient.items():
    run.metrics |= {f"{name}: {k}, SE over control": v for k, v in of_band.items()}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
results.show(
    {
        name: {
            "stake, control": budget[CONTROL][name]["stake"],
            "change when removed, control": budget[CONTROL][name]["removed"],
            "× energy": of_band["energy"],
            "× gain": of_band["gain"],
            "= × stake": of_band["stake"],
            "× stake, channels independent": of_band["by channel"],
            "× change when removed": of_band["removed"],
        }
        for name, of_band in quotient.items()
    },
    {"stake, control": ".3f", "change when removed, control": ".3f"}
    | dict.fromkeys(("× energy", "× gain", "= × stake"), ".2f")
    | dict.fromkeys(
        ("× stake, channels independent", "× change when removed"), ".2f"
    ),
    index="× is SE over the control",
)

# %% [markdown]
# **Measured here**, stakes and changes as shares of the pictures' variance. Added up over bands, the stakes give what errors in
# all bands at once give: the budget adds up. **In the upper half SE's latents have about three fifths of the control's energy,
# its decoder has nearly twice the gain, and the stake is no smaller.**
#
# FreqWarm's authors ask the same question with radial bands ({numref}`chap-encoder-decoder`): what does the reconstruction lose
# without a band of the latent, and what with its phases scrambled? On held-out crops of 64², whose latents are 16 × 16:

# %%
edges = (0.0, 0.125, 0.25, 0.375, 0.5, EVERYTHING + 1e-4)
photos = data.Photos(64, "test", seed=0, length=n_dependence)
held_out = data.stack(photos, range(n_dependence))
dependence = {
    label: probes.decoder_dependence(a, held_out, edges, seed)
    for label, a in tuned.items()
}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
lost = {
    f"{label}, {kind}": d.psnr_whole - values
    for label, d in dependence.items()
    for kind, values in (
        ("removed", d.psnr_without),
        ("phases scrambled", d.psnr_noised),
    )
}
figures.lines(
    lost,
    x=[f"{a:g} to {min(b, EVERYTHING):.3g}" for a, b in pairwise(edges)],
    xlabel="band of the latent, cycles per latent pixel",
    ylabel="PSNR lost, dB",
    mode="lines+markers",
    styles={
        name: {"color": i // 2, "symbol": i // 2, "dash": ("solid", "dash")[i % 2]}
        for i, name in enumerate(lost)
    },
    alt="What reconstructions lose in decibels when one radial band of the latent is removed or its phases are scrambled, "
    "for the control and with scale equivariance: the lines of the two lie close together.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here.** Without either of the two highest bands both lose about 3 dB; SE's decoder needs them no less than the
# control's.
#
# ## Four streams
#
# A two-by-two experiment has four kinds of latents: whole and low-passed images through either encoder. Their least losses
# {eq}`eq-loss-spectrum` tell which is easiest to predict, with the caution of {numref}`chap-loss` that this ranks no samples.
# *Within* an autoencoder, though, a comparison of losses is fair once both denoisers see whole images again: the data are
# the same.
#
# And the switch costs something. A denoiser that has learned the warm-up's spectrum perfectly, and no more than the
# spectrum, has slopes $a_t(\xi_k\lambda_k)$ where $a_t(\lambda_k)$ would be right. On whole latents it loses, beyond the
# least loss (taken for each channel with its own $\lambda$ and $\xi$; the table has the mean),
#
# $$
# \delta_k = \mathbb E_t\Bigl[\bigl(a_t(\xi_k\lambda_k) - a_t(\lambda_k)\bigr)^2\bigl((1-t)^2\lambda_k + t^2\bigr)\Bigr],
# \qquad a_t(\lambda) = \frac{t - (1-t)\lambda}{(1-t)^2\lambda + t^2} .
# $$ (eq-opposite-switch)
#
# The distance of the two streams at rank $k$, in second moments over the channels, is
#
# $$
# d_k^2 = \frac{\lVert m_k - m_k^{\mathrm{low}}\rVert^2 + \operatorname{tr}\bigl(\Sigma_k + \Sigma_k^{\mathrm{low}}
# - 2(\Sigma_k\Sigma_k^{\mathrm{low}})^{1/2}\bigr)}{\operatorname{tr}\Sigma_k}
# \;\le\; \frac{\mathbb E\,\lVert z_k - z_k^{\mathrm{low}}\rVert^2}{\operatorname{tr}\Sigma_k},
# $$ (eq-opposite-distance)
#
# the Fréchet distance as a share of the energy; on the right the change of each latent when its image is low-passed,
# which is one way of turning one distribution into the other and so never cheaper.

# %%
least, switch, distances = {}, {}, {}
for label, by_radius in fed.items():
    whole = by_radius[math.inf]
    variance = bands.second_moments(whole)[1].diagonal(dim1=1, dim2=2)  # (K, C)
    for r in (math.inf, *SHOWN):
        covariance = bands.second_moments(by_radius[r])[1]
        least[label, r] = linear_bounds(covariance)
        believed = covariance.diagonal(dim1=1, dim2=2).flatten().clamp_min(1e-6)
        excess = mismatch_loss(believed, variance.flatten())
        switch[label, r] = excess.mean().item()
        change = (whole - by_radius[r]).square().mean(0)[:, 1:].sum()
        apart = 0.0 if r == math.inf else moved(found[label][r])
        distances[label, r] = (apart, (change / variance[1:].sum()).item())
halves = {  # of the whole images, for scale
    label: moved(exposure(*c[math.inf].split(len(x) // 2)))
    for label, c in fed.items()
}
easier = {
    label: least[label, math.inf][1] - least[label, R0][1]
    for label in (CONTROL, SE)
}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
rows = {}
for (label, r), (by_itself, together) in least.items():
    what = f"{label}, " + ("whole" if r == math.inf else f"r₀ = {r:g}")
    apart, change = distances[label, r]
    rows[what] = {
        "least loss, each coefficient alone": by_itself,
        "channels together": together,
        "lost at the switch, δ": switch[label, r],
        "distance of the streams, d²": apart,
        "change of each latent": change,
    }
    run.metrics[f"{what}: least loss, channels"] = together
    run.metrics[f"{what}: loss of the switch"] = switch[label, r]
for label, apart in halves.items():
    rows[f"{label}, two halves of the whole"] = {
        "distance of the streams, d²": apart
    }
results.show(rows, ".3f")

# %% [markdown]
# **Measured here.** The warm-up's latents are easier by 0.08 of loss, and the switch costs a linear denoiser a tenth of that.
# SE lowers the least loss by 0.11. Low-passing moves each latent by a fifth of its energy, and the distribution, as far as
# second moments tell, by about 3%. Two halves of the whole images, which are different crops of the same photographs, lie as
# far apart: that is more than chance adds to the other distances, since their two streams are of the same crops, and of twice
# as many.
#
# ## Recorded: two by two
#
# The denoisers without FreqWarm are those of {numref}`chap-pays`: DiT-XXS/1, 600 steps of 64 latents, on the control and on
# SE, three seeds, a seed being that of the denoiser *and* of the fine-tuning. Those with FreqWarm have the same
# autoencoders, crops, first weights, noise, times and steps; the first 150 steps show latents of images cut at 0.2 cycles
# per pixel. All are judged alike: 1 024 samples of 40 Euler steps against 8 192 other crops by the
# {term}`Offline features`. So a pair with the same seed differs in one thing.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
JUDGED = {
    key: results.DENOISING[key]
    for key in ("frechet_offline", "decoded_latents_frechet", "precision", "recall")
}
results.table(alone, JUDGED, control=CONTROL)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
SAMPLES = {k: v for k, v in JUDGED.items() if k != "decoded_latents_frechet"}
on_control = recorded[recorded.arm.str.startswith(CONTROL)]
results.table(on_control, SAMPLES, control=CONTROL)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
on_se = recorded[recorded.arm.str.startswith(SE)]
results.table(on_se, SAMPLES, control=SE)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
EFFECTS = {
    "SE, without FreqWarm": (SE, CONTROL),
    "SE, with FreqWarm": (f"{SE}, FreqWarm", f"{CONTROL}, FreqWarm"),
    "FreqWarm, on the control": (f"{CONTROL}, FreqWarm", CONTROL),
    "FreqWarm, on SE": (f"{SE}, FreqWarm", SE),
}


def effects(metric: str, relative: bool = False) -> dict[str, results.Paired]:
    return {
        name: results.paired(recorded, metric, *two, relative)
        for name, two in EFFECTS.items()
    }


absolute = effects("frechet_offline")
share = effects("frechet_offline", relative=True)
run.metrics |= {
    f"recorded, {name}: Fréchet distance": p.mean for name, p in absolute.items()
}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
# FreqWarm's effect on SE less that on the control, seed by seed.
by_cell = recorded.pivot(index="seed", columns="arm", values="frechet_offline")
effect_on = {on: by_cell[f"{on}, FreqWarm"] - by_cell[on] for on in (CONTROL, SE)}
gained = pd.concat(effect_on, names=["arm"]).rename("effect").reset_index()
interaction = results.paired(gained, "effect", SE, CONTROL)
written = {
    name: {
        "difference": f"{p:.2f}",
        "relative": f"{share[name]:.0%}",
        "by seed": ", ".join(f"{v:+.2f}" for v in p.values),
    }
    for name, p in absolute.items()
}
written["interaction (FreqWarm on SE less on the control)"] = {
    "difference": f"{interaction:.2f}",
    "by seed": ", ".join(f"{v:+.2f}" for v in interaction.values),
}
results.show(written, index="effect on the Fréchet distance, paired by seed")

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded, 600 steps, three seeds; paired differences with 95% intervals, negative is better.* How to read them. The two rows
# *SE* ask what the regularizer does, once under plain training and once under the curriculum; distances of decoded latents
# differ between these autoencoders, so a part of that is not the denoiser's. The two rows *FreqWarm* compare within one
# autoencoder: same decoder to the bit, same floor, so the difference is the denoiser's alone. The interaction asks whether
# FreqWarm does something else on SE's latents than on the control's; it is zero if the two simply add up in this number. All
# runs are sampled from the same starting noise and judged against one reference.
#
# **Only one effect is settled: SE without FreqWarm makes samples worse, by 20% (interval +12% to +28%).** FreqWarm's is not, on
# either autoencoder: +20% (−52% to +93%) and +3% (−41% to +46%). Nor is the interaction. Here three seeds are too few: with
# FreqWarm the runs scatter about twice as much as without, and pairing by seed does not help. (On f8 the intervals are ten
# times narrower, see below.)
#
# ### Over the training
#
# Distances along the way, over 512 samples of 20 steps with the averaged weights. The first is that of the untrained
# denoiser; the warm-up ends at 150 steps, before the second.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
CELLS = (CONTROL, f"{CONTROL}, FreqWarm", SE, f"{SE}, FreqWarm")
along = figures.over_seeds(
    {
        arm: results.by_place(
            recorded, "snapshot_step", "snapshot_frechet_offline", arm
        )
        for arm in CELLS
    },
    "Recorded Fréchet distance of samples, on a logarithmic axis, against training steps, one line for each cell of the "
    "two-by-two experiment and one marker for each run. Their order changes along the way.",
    xlabel="training steps of the denoiser",
    ylabel="Fréchet distance (offline features)",
)
along.update_yaxes(tickmode="array", tickvals=[2, 3, 4, 5, 7, 10, 20, 50, 100])

# %% jupyter={"source_hidden": true} tags=["hide-input"]
first = recorded.record.iloc[0].series["snapshot_step"]
later = {f"after {step:.0f} steps": i for i, step in enumerate(first) if step}
for name, i in later.items():
    recorded[name] = [
        r.series["snapshot_frechet_offline"][i] for r in recorded.record
    ]
WARMED = [name for name in EFFECTS if name.startswith("FreqWarm")]
results.show(
    {
        name: {step: f"{effects(step)[name]:.2f}" for step in later}
        for name in WARMED
    },
    index="Fréchet distance with FreqWarm less without",
)

# %% [markdown]
# No interval lies off zero at any snapshot.
#
# The losses of a pair can be laid over each other, since first weights, crops, noise and times are the same. Left of the
# dotted line the two see different data, and the curve shows mostly whose data are easier (the least losses above say how
# much to expect); right of it the data are the same, and below zero the denoiser that was warmed up is ahead.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def gap_curve(on: str) -> list[float]:
    """Mean over seeds of the loss with FreqWarm less without, a running mean that does not cross the switch."""
    two = (f"{on}, FreqWarm", on)
    with_it, without = (results.mean_series(recorded, "loss", arm) for arm in two)
    gap = np.subtract(with_it, without)
    parts = np.split(gap, [sum(step <= WARM for step in logged)])
    return [
        part[max(0, i - 4) : i + 1].mean()
        for part in parts
        for i in range(len(part))
    ]


logged = results.mean_series(recorded, "step", CONTROL)
behind = figures.lines(
    {on: gap_curve(on) for on in (CONTROL, SE)},
    x=logged,
    xlabel="training steps of the denoiser",
    ylabel="loss with FreqWarm less without",
    alt="Recorded flow loss with FreqWarm less that without, paired by seed, running means over five entries, mean over seeds; "
    "a vertical line marks the end of the warm-up, where the advantage vanishes.",
)
figures.mark(figures.mark(behind, x=WARM), y=0)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
PHASES = {
    "second half of the warm-up": (WARM / 2, WARM),
    "50 steps after the switch": (WARM, WARM + 50),
    "last 100 steps": (STEPS - 100, STEPS),
}
for phase, (after, until) in PHASES.items():
    inside = [after < step <= until for step in logged]
    recorded[phase] = [
        np.mean(np.array(r.series["loss"])[inside]) for r in recorded.record
    ]
results.show(
    {
        name: {phase: f"{effects(phase)[name]:.4f}" for phase in PHASES}
        | {
            "least losses differ by": f"{-easier[on]:+.3f}",
            "a linear denoiser after the switch": f"{switch[on, R0]:+.4f}",
        }
        for name, on in zip(WARMED, (CONTROL, SE), strict=True)
    },
    index="loss with FreqWarm less without",
)

# %% [markdown]
# During the warm-up the loss is lower, by about three quarters of what the least losses differ by. After the switch nothing of
# it is left that an interval would hold apart from zero, in either direction.
#
# ### Where each of them errs
#
# Energies of generated over real latents, in the two numbers of {eq}`eq-pays-ratio`: $Q$ for all energy outside $D_{00}$, and
# $q_k$ for how it is shared out. FreqWarm's account of itself is about this figure: if the high frequencies were
# under-exposed and no longer are, $q_k$ at high ranks must be nearer to one with it.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
compared = [
    bands.compare_energies(r.series["generated_energy"], r.series["real_energy"])
    for r in recorded.record
]
recorded["Q"] = [outside for outside, _ in compared]
for name, band in BANDS.items():
    recorded[name] = [
        np.mean(q[band.start - 1 : band.stop - 1]) for _, q in compared
    ]
recorded["miss"] = np.abs(np.log(recorded["32 to 63"]))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
curves = {
    arm: np.mean(
        [compared[i][1] for i in recorded.index[recorded.arm == arm]], axis=0
    )
    for arm in CELLS
}
errors = figures.lines(
    curves,
    x=list(range(1, K)),
    xlabel="zigzag rank (low → high frequency)",
    ylabel="share of energy, generated over real",
    styles={
        arm: {"color": i // 2, "dash": figures.DASHES[2 * (i % 2)]}
        for i, arm in enumerate(CELLS)
    },
    alt="Share of each rank in the energy outside the flat coefficient, generated over real latents, means over seeds, for the four "
    "cells: all lie below one at high ranks, those with FreqWarm no nearer to it.",
)
figures.mark(errors, y=1)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
ENERGIES = {"Q": ("energy outside D₀₀, Q", ".3f")}
ENERGIES |= {name: (f"share q, {name}", ".3f") for name in BANDS}
results.table(recorded, ENERGIES, control=CONTROL)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
results.show(
    {name: f"{p:.3f}" for name, p in effects("miss").items()},
    index="miss of the share at ranks 32 to 63, |ln q|",
)

# %% [markdown]
# *Recorded; of the miss, negative means nearer to the real latents.* With FreqWarm the share at ranks 32 to 63 is farther from
# one in each of the six pairs, on average by 0.07 and 0.02, with intervals that hold zero. Nothing shows that high frequencies
# were learned better, with either method.
#
# ### More channels, harder compression
#
# FreqWarm's gains begin, in its paper, where channels are many. The two autoencoders here have 16, at f4. The records of
# {numref}`chap-freqwarm` are of f8 with 4 and with 64 channels and of the same denoiser with batches of 32. What they say of the
# same effect:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
on_f8 = results.frame("freqwarm")
elsewhere_recorded = {
    f"{label}, r₀ = {r}": results.paired(
        on_f8, "frechet_offline", f"{arm}-r{r}", arm, relative=True
    )
    for arm, label in (("c4", "f8, 4 channels"), ("c64", "f8, 64 channels"))
    for r in ("0.1", "0.2", "0.4")
}
for name in WARMED:
    elsewhere_recorded[f"f4, 16 channels, {name}, r₀ = 0.2"] = share[name]
results.show(
    {name: f"{p:.1%}" for name, p in elsewhere_recorded.items()},
    index="change of the Fréchet distance by FreqWarm",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded, relative to the runs without FreqWarm; sizes of pictures, batches and samplers differ between the rows.* On f8 the
# null is well-powered, here it is not.
#
# ## An account, held against the measurements
#
# Five explanations, each with what it needs.
#
# | explanation | it needs | found here, 600 steps | so |
# |---|---|---|---|
# | FreqWarm works by **exposure**: more high-frequency latent energy early | ξ above 1 at high ranks | below 1 on both autoencoders | **contradicted** |
# | | generated share at high ranks nearer to the real one | farther in each of six pairs, intervals hold zero | |
# | FreqWarm works as a **curriculum**: easy data first | the warm-up's latents are easier | they are | **left open** |
# | | the switch costs less than they are easier | it does | |
# | | lower loss on whole latents at the end | intervals hold zero | |
# | SE works by **taking away what is little needed** | less energy at high ranks | by two fifths | **contradicted** |
# | | a smaller stake there | no smaller | |
# | | samples nearer | farther, by 20% (+12% to +28%) | |
# | FreqWarm's effect on samples is **chance** | intervals that hold zero | they do, on both | **not excluded** |
# | The two **cancel**: FreqWarm helps less on SE's latents | FreqWarm helps on the control | interval holds zero | **left open** |
# | | interaction above zero | interval holds zero | |
#
# "Contradicted" means that at least one thing that the explanation needs was not found here. All of it is about small
# autoencoders, three seeds and 600 steps.
#
# ### Do they contradict each other?
#
# - **They act on different objects**, and nothing forbids using both; the interaction above is the test of it, and it is open.
# - **In what the denoiser is fed** the opposition is one of words unless $\xi_k > 1$. Where low-passing lowers latent energy
#   at high frequencies, as here, FreqWarm shows less of it for some steps and SE for all of them: they pull the same way.
#   Whether $\xi_k$ exceeds one can be measured in a minute for any autoencoder, without training anything, and it is the
#   first thing to know before choosing between the two.
# - **The stake is where they differ in substance.** SE's paper asks for a decoder that needs high frequencies less;
#   FreqWarm's takes for granted that it goes on needing them. {eq}`eq-opposite-stake` says that a mere gain decides
#   nothing, and the table of stakes says how much more than a gain SE did here. Where the stake stays, lowering the
#   energy only moves the difficulty into the decoder ({eq}`eq-loss-error`), and then it is FreqWarm's description of the
#   trouble that applies, whatever its cure does.
# - **Flat or steep** is no contradiction either. White latents are the easiest there are for Gaussian data, since one scalar
#   velocity serves all frequencies ({numref}`chap-noise`); that they leave no order among frequencies harms nobody by itself. A flat
#   spectrum hurts only where the decoder needs what is there: stake times relative error.
# - **They were shown in different regimes.** SE's gains are at f8 to f32 with 16 channels and more; FreqWarm's begin beyond
#   32 channels, at f16 and f32, where an encoder has to write many pixel frequencies into channels. LTX's autoencoder is
#   in both papers, for video in one and for single frames in the other. Neither has both methods on one autoencoder.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What this cannot show
#
# - **The regime.** f4 with 16 channels, where a cutoff of 0.2 cycles per pixel is 1.6 times the latent's Nyquist frequency.
#   FreqWarm's is f16 and f32 with 48 to 512 channels at 512², where it is 6.4 and 12.8 times, and most of what passes the
#   filter must be folded or written into channels, too. In its paper the gain grows with the number of channels, and
#   with 32 there is none (5.75 against 5.74); 16 were not tried.
# - **The warm-up's length**, which the paper does not print: a quarter of 600 steps is our choice. So is the recipe, one
#   rate and one schedule whose own warm-up falls into the curriculum's.
# - **The length of training.** 600 steps with 1.29 million parameters, far from convergence; an effect in the first 600
#   steps need not be that in the last of 400 000. Longer runs are to follow.
# - **The pictures and features**: 32 × 32 crops of five photographs, and features that look at 64 × 64
#   enlargements. Fine detail does reach them: {numref}`chap-loss` takes ranks 32 to 63 from real latents, which then lie
#   more than twice as far from photographs.
# - **Pairs**: three, too few for FreqWarm's effect on these autoencoders. And the budget {eq}`eq-opposite-budget` is first
#   order, in squared pixels, which are no judge of detail.
#
# ### What would
#
# The same two-by-two at a larger size: fine-tune, extract, and train each twice.
#
# ```bash
# for method in plain se; do
#   diffusab finetune my-autoencoder --method $method --images photographs/ --out runs/$method
#   diffusab extract runs/$method latents/$method --images photographs/ --resolution 256
#   diffusab train latents/$method runs/$method-baseline --denoiser DiT-S/2 --steps 100000 --batch-size 256
#   diffusab train latents/$method runs/$method-freqwarm --denoiser DiT-S/2 --steps 100000 --batch-size 256 \
#     --curriculum freqwarm --r0 0.2 --warmup-steps 25000
# done
# ```
#
# The four cells of this chapter are the arms `plain` and `se` of `sweeps/denoisers.yaml` and `plain-r0.2` and `se-r0.2` of
# `sweeps/freqwarm.yaml`, which make them larger with `--size gpu`. The published runs of FreqWarm stand in the catalogue of
# autoencoders; for instance:

# %%
wan = autoencoders.CATALOGUE["Wan2.2-AE"]
model = f"{wan.hub_id}:{wan.subfolder}"  # a whole pipeline, of which the autoencoder is one folder
commands = wan.freqwarm.commands(model, "path/to/imagenet", 400_000, 100_000)
print("\n".join(commands))

# %% [markdown]
# Steps and warm-up are placeholders for what the paper does not print.
#
# ## To take away
#
# - Two recipes that read as opposite may act on different objects: here on what the encoder writes, and on what the
#   denoiser is fed.
# - What counts at a frequency is energy times the decoder's gain, the stake. A change of the spectrum can leave it as it
#   was.
# - Where a comparison is undecided, say which records would decide it.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} A gain and the stakes ★★★
# :label: ex-stakes
#
# Build an autoencoder from the control whose latents are multiplied by $g_k = \bigl(1+\sqrt{u^2+v^2}\bigr)^{-\kappa}$ at rank
# $k$ (of coefficient $u, v$) after encoding and divided by it before decoding. Show with `stakes` that its stakes are
# those of the control for every $\kappa$. What does change that a denoiser could notice?
# ```
#
# ````{solution} ex-stakes
# :class: dropdown
#
# ```python
# from types import SimpleNamespace
# #
# def filtered(autoencoder, gamma):
#     gain = torch.empty(K)
#     gain[spectrum.zigzag_order(B)] = (1 + bands.radii(B)).float() ** -gamma
#     gain = gain.reshape(B, B)
#     def through(z, g):
#         return spectrum.block_idct(spectrum.block_dct(z, B) * g)
#     return SimpleNamespace(
#         encode=lambda images: SimpleNamespace(mean=through(autoencoder.encode(images).mean, gain)),
#         decode=lambda z: autoencoder.decode(through(z, 1 / gain)),
#     )
#
# for gamma in (0, 0.5, 1):
#     s = stakes(filtered(tuned["control"], gamma), x[:64])["32 to 63"]
#     print(gamma, {k: round(v, 4) for k, v in s.items()})
# ```
#
# Energy falls, the gain rises, and the stake stays. (The noise is scaled with the latents, so the disturbed pictures
# are the same ones.) What changes is the signal-to-noise ratio of each rank at each time: with the same schedule of times
# the high ranks rise out of the noise later, and their relative error need not stay.
# ````
#
# ```{exercise} How long would a warm-up have to be? ★
# :label: ex-exposure
#
# Suppose an encoder with $\xi_k = 1.5$ at the high ranks and a warm-up of a quarter of the steps. By how much does the
# exposure rise, and what does it take to raise it by 25 %? Compare with SE's effect on the energy here. What does the
# comparison leave out?
# ```
#
# ````{solution} ex-exposure
# :class: dropdown
#
# $X = 1 + \frac14\cdot 0.5 = 1.125$. For 1.25 the warm-up must take half of the steps. SE changes the energy of the upper
# half by a factor (`energies["SE"] / energies["control"]`, about 0.6) in all steps.
#
# ```python
# for part in (0.1, 0.25, 0.5, 1.0):
#     print(part, 1 + part * (1.5 - 1), 1 + part * (rho["control"] - 1))
# ```
#
# Left out is *when*: early steps set up what later ones refine, and that is the whole idea of a warm-up. An average over
# the training cannot see it. And the energy of a stream is not its distribution: at $\xi_k > 1$ the extra energy
# is not that of whole images, and has to be unlearned after the switch.
# ````
#
# ```{exercise} The price of the wrong spectrum ★★★
# :label: ex-mismatch
#
# With {eq}`eq-opposite-switch`, is it worse to have learned half of a variance or twice it? Show that $\delta$ tends to a
# finite value as $\xi\to 0$, and say what a denoiser believes there.
# ```
#
# ````{solution} ex-mismatch
# :class: dropdown
#
# ```python
# lam = torch.tensor([1.0, 0.3, 0.1], dtype=torch.float64)
# for rho_ in (1e-6, 0.5, 0.9, 1.1, 2.0, 10.0):
#     print(rho_, [round(v, 4) for v in mismatch_loss(rho_ * lam, lam).tolist()])
# ```
#
# Hardly any difference: both cost 0.135 at $\lambda = 1$, and twice costs a little more than half where $\lambda$ is smaller.
# Small deviations are alike, since $\delta$ is quadratic in $\ln\xi$ there. For $\xi\to0$ the slope is $a_t\to 1/t$: the
# denoiser takes all it sees for noise, and its velocity is $x_t/t$ for every $t$. Its excess is $\mathbb
# E_t\,(1/t - a_t(\lambda))^2\,V_t = \mathbb E_t\,\frac{(1-t)^2\lambda^2}{t^2\,V_t}$ with $V_t = (1-t)^2\lambda + t^2$, since
# $1/t - a_t = \frac{(1-t)\lambda}{t\,V_t}$. It is finite for logit-normal times,
# which keep away from $t = 0$, and infinite for uniform ones.
# ````
#
# ```{exercise} Which pairs? ★★
# :label: ex-interaction
#
# The interaction is a difference of differences. With independent errors of standard deviation $\sigma$ in each run, what
# is its standard deviation for one seed, unpaired and paired? What does pairing by seed buy, and how would you see from
# the records whether it bought anything?
# ```
#
# ````{solution} ex-interaction
# :class: dropdown
#
# Four runs enter, so $2\sigma$ for independent errors, paired or not; the effect of one method has $\sqrt2\,\sigma$. If the four
# runs of one seed share an error of variance $\tau^2$ besides (same first weights, crops, noise, and the same photographs in
# the fine-tuning), it cancels in paired differences, which keep $2\sigma$, while runs of different seeds would give
# $2\sqrt{\sigma^2+\tau^2}$. Compare the spread of paired differences with $\sqrt2$ times the spread of the runs within a cell:
#
# ```python
# runs = results.values(recorded, "frechet_offline", "control")
# pairs = absolute["FreqWarm, on the control"].values
# print(np.std(pairs, ddof=1), math.sqrt(2) * np.std(runs, ddof=1))
# ```
#
# A smaller first number would say that pairing helped; here it is the larger. With three seeds both spreads are themselves
# uncertain by a factor of about two.
# ````
#
# ## What this chapter claims
#
# Each assertion guards the sentence quoted above it. If one fails, the sentence has to be rewritten.

# %%
# "shows less high-frequency latent energy than plain training", "rises with low-passing for none of them"
assert max(rho.values()) < 1
assert all(in_band(e, HIGH) < 1.01 for e in elsewhere.values())
# "the stakes give what errors in all bands at once give"
sums = {
    label: sum(b[name]["stake"] for name in BANDS) / b["1 to 63"]["stake"]
    for label, b in budget.items()
}
assert all(0.9 < s < 1.1 for s in sums.values())
# "about three fifths of the control's energy, its decoder has nearly twice the gain, and the stake is no smaller"
high = quotient["32 to 63"]
if size != "smoke":
    assert 0.55 < high["energy"] < 0.65
    assert 1.7 < high["gain"] < 2
    assert high["stake"] > 1
    # "SE ... takes two fifths of their energy", "the exposure ... falls by about a twentieth"
    assert abs(energies[SE] / energies[CONTROL] - 0.6) < 0.02
    assert all(0.03 < WARM / STEPS * (1 - v) < 0.07 for v in rho.values())

# %%
# "both lose about 3 dB; SE's decoder needs them no less than the control's"
beyond = {
    label: (d.psnr_whole - d.psnr_without[-2:]).mean().item()
    for label, d in dependence.items()
}
# "easier by 0.08", "a tenth of that", "SE lowers the least loss by 0.11", "by a fifth of its energy", "by about 3%"
if size != "smoke":
    assert all(abs(v - 3.3) < 0.3 for v in beyond.values())
    assert beyond[SE] > beyond[CONTROL]
    assert all(abs(v - 0.08) < 0.003 for v in easier.values())
    assert all(abs(switch[on, R0] / easier[on] - 0.1) < 0.01 for on in easier)
    assert abs(least[CONTROL, math.inf][1] - least[SE, math.inf][1] - 0.11) < 0.005
    assert all(0.15 < distances[on, R0][1] < 0.25 for on in easier)
    assert all(0.025 < distances[on, R0][0] < 0.035 for on in easier)
# "the switch costs less than they are easier"
assert all(
    switch[on, R0] < least[on, math.inf][0] - least[on, R0][0] for on in easier
)

# %%
# "20% (interval +12% to +28%)", "+20% (−52% to +93%) and +3% (−41% to +46%)"
assert [f"{p:.0%}" for name, p in share.items() if name != "SE, with FreqWarm"] == [
    "+20% [+12%, +28%]",
    "+20% [−52%, +93%]",
    "+3% [−41%, +46%]",
]
# "Only one effect is settled", "Nor is the interaction", "No interval lies off zero at any snapshot"
assert [p.sign for p in absolute.values()] == [1, 0, 0, 0]
assert interaction.sign == 0
assert all(effects(step)[name].sign == 0 for step in later for name in WARMED)
# "same decoder to the bit"
for on in (CONTROL, SE):
    two = (
        results.by_seed(recorded, "record", arm) for arm in (on, f"{on}, FreqWarm")
    )
    a, b = ([r.parameters["latents"]["weights"] for r in runs] for runs in two)
    assert a == b
# "with FreqWarm the runs scatter about twice as much as without", "pairing by seed does not help"
scatter = recorded.groupby("arm").frechet_offline.std()
assert all(
    1.5 < scatter[f"{on}, FreqWarm"] / scatter[on] < 2.5 for on in (CONTROL, SE)
)

# %%
# "by about three quarters of what the least losses differ by"; "After the switch nothing of it is left that an interval would hold apart from zero"
for phase in PHASES:
    signs = [effects(phase)[name].sign for name in WARMED]
    assert signs == ([-1, -1] if phase.startswith("second half") else [0, 0])
if size != "smoke":
    early = [effects(next(iter(PHASES)))[name].mean for name in WARMED]
    assert all(
        0.7 < -v / easier[on] < 0.85 for v, on in zip(early, easier, strict=True)
    )
# "farther from one in each of the six pairs, on average by 0.07 and 0.02, with intervals that hold zero"
misses = [effects("miss")[name] for name in WARMED]
assert all(min(p.values) > 0 for p in misses)
assert [round(p.mean, 2) for p in misses] == [0.07, 0.02]
assert all(p.sign == 0 for p in effects("miss").values())
# "On f8 the null is well-powered", "the intervals are ten times narrower"
f8 = [
    p.high - p.low
    for name, p in elsewhere_recorded.items()
    if name.startswith("f8")
]
assert max(f8) < 0.11
assert min(p.high - p.low for name, p in share.items() if name in WARMED) > 0.8

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
half = torch.tensor([1.0, 0.3, 0.1], dtype=torch.float64)
exposed = [1 + 0.25 * (r - 1) for r in (0.8, 1.5)]
print("exposure of a quarter at ξ = 0.8 and 1.5:   ", exposed)
excess = [round(v, 4) for v in mismatch_loss(half / 2, half).tolist()]
print("half of each variance learned, lost:        ", excess)
nothing = mismatch_loss(half, half).abs().max().item() < 1e-12
print("nothing lost with the right spectrum:       ", nothing)
lower = energies[SE] < energies[CONTROL]
print("SE lowers the energy of the upper half:     ", lower)
print("low-passing at 0.2 lowers it, too, for both:", max(rho.values()) < 1)
passed = [[in_band(of[r], HIGH) for r in (0.1, 0.2, 0.4)] for of in found.values()]
ascending = all(a < b < c for a, b, c in passed)
print("the less passes, the less energy there is:  ", ascending)
at_most = all(apart <= change + 1e-9 for apart, change in distances.values())
print("distance of streams at most change of each: ", at_most)
print(
    "low-passed latents have the smaller bound:  ",
    all(v > 0 for v in easier.values()),
)
word = {1: "higher", -1: "lower", 0: "undecided"}[
    absolute["SE, without FreqWarm"].sign
]
print("recorded without FreqWarm, SE to control:   ", word)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
