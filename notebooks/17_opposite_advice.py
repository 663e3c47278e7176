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
models: list[str] = ["kl-f4c16-ft", "kl-f4c16-se"]  # tuned without and with SE
cutoffs: list[float] = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5]
n_images: int = 512  # crops of 32² behind spectra
n_decoded: int = 128  # latents that are disturbed and decoded
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import math

import numpy as np
import pandas as pd
import torch

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.opposite import warmup_explorer
from diffusab_core import autoencoders, data
from diffusab_core.flow.gaussian import linear_bounds
from diffusab_core.metrics.probes import band_stakes, encode_mean, exposure
from diffusab_core.spectrum import bands

# %% jupyter={"source_hidden": true} tags=["hide-input"]
run = chapters.start(
    "17_opposite_advice",
    globals(),
    data=f"latents of {n_images} crops of 32² of the training photographs, whole and low-passed",
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
WARM_ARMS = {"plain-r0.2": f"{CONTROL}, FreqWarm", "se-r0.2": f"{SE}, FreqWarm"}
CELLS = (CONTROL, SE, *WARM_ARMS.values())

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
alone = results.rename(results.frame("denoisers"), {"plain": CONTROL, "se": SE})
warmed = results.rename(results.frame("freqwarm"), WARM_ARMS)
recorded = pd.concat([alone, warmed], ignore_index=True)  # two by two
recorded = results.compare_spectra(recorded, BANDS)
distance = {arm: results.values(recorded, "frechet_offline", arm) for arm in CELLS}
two_by_two = figures.over_seeds(
    {
        on: {"without": distance[on], "with FreqWarm": distance[f"{on}, FreqWarm"]}
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
# same diagnosis: decoders lean on high latent frequencies. Do they contradict each other? Here the claims are laid beside
# each other until they predict numbers; those numbers are measured on one pair of autoencoders (that of seed 0), and then
# the records of the figure are read, made on three such pairs.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - turn two pieces of advice into quantities on which they agree or differ;
# - write the error of generated pictures as a budget over frequencies, and say which factor each method touches;
# - measure whether low-passed images have latents of more or of less high-frequency energy, before training anything;
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
# FreqWarm leaves that as it is and changes *in which order it is shown*. Both could be right.
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
# through $\eta_k$: a smaller $\lambda_k$ has a smaller signal-to-noise ratio {eq}`eq-snr` at every time, so that sampling settles
# such a coefficient later. ({numref}`chap-pays` measures $\eta_k$ for guesses in one step: with SE it is smaller at coarse ranks
# and larger at fine ones.)
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
# photographs, such as the recorded denoisers saw, whole and without the frequencies beyond a cutoff. All latents, means of
# posteriors here, are normalised by the statistics of the whole images', as in training.


# %%
@torch.no_grad()
def streams(autoencoder, images, radii) -> dict[float, torch.Tensor]:
    """Normalised coefficients (n, C, K) of whole (infinite radius) and low-passed images."""
    z = {
        r: torch.cat([encode_mean(autoencoder, b, r) for b in images.split(64)])
        for r in (math.inf, *radii)
    }
    spread, centre = torch.std_mean(z[math.inf], (0, 2, 3), keepdim=True)
    return {r: bands.ranked((of - centre) / spread, B) for r, of in z.items()}


x = data.stack(data.Photos(32, "train", seed=0, length=n_images), range(n_images))
tuned = dict(zip((CONTROL, SE), map(autoencoders.load, models), strict=True))
fed = {label: streams(a, x, cutoffs) for label, a in tuned.items()}
found = {
    label: {r: exposure(c[math.inf], c[r]) for r in cutoffs}
    for label, c in fed.items()
}

# %% slideshow={"slide_type": "subslide"}
picture = data.photo("china")[:, 40:168, 140:268]  # (3, 128, 128)
warmup_explorer(picture, found, start=R0, mark=HIGH.start)

# %% [markdown]
# The explorer has $\xi_k$ at each cutoff, and the Fréchet distance $d_k^2$ of the two streams over the energy. It is not obvious
# that a cut at 0.2 cycles per pixel should change latents at all. With compression $f = 4$ a latent's Nyquist frequency is
# $0.5/f = 0.125$ cycles per pixel of the image: everything that the latent's grid can hold *as a frequency* passes the filter.
# What is removed can be in the latent only folded, or written into channels ({term}`Aliasing`). If there it adds energy at high
# ranks, $\xi$ lies below one; if it crowds out other high frequencies, as Finding 3 has it, $\xi$ lies above one.


# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
def in_band(e, band) -> float:
    """Energy of a band, low-passed over whole."""
    return (e.warm[band].sum() / e.energy[band].sum()).item()


rho = {label: in_band(of[R0], HIGH) for label, of in found.items()}
run.metrics |= {f"{label}: ξ of ranks 32 to 63": v for label, v in rho.items()}
results.show(
    {
        f"{label}, r₀ = {r:g}": {
            band: in_band(of[r], b) for band, b in BANDS.items()
        }
        | {"largest of any rank": of[r].ratio[1:].max().item()}
        for label, of in found.items()
        for r in (0.1, R0, 0.4)
    },
    ".2f",
    index="ξ",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here.** At 0.2 cycles per pixel the warm-up shows **less** high-frequency latent energy than plain training, on the
# control and with SE. Over a training whose first quarter is the warm-up, the exposure to these ranks falls by about a
# twentieth. SE, for its part, takes two fifths of their energy, for good. Low-passing lowers it in the six autoencoders of
# {numref}`chap-freqwarm`, too. Nothing of this speaks against Finding 3 for those in which it was made, which compress up to 32
# times, are hundreds of times larger and saw far more than crops of five photographs.
#
# ## Energy times gain
#
# Now the first factor of {eq}`eq-opposite-budget`. Disturb latents with Gaussian noise that has, at each rank of one band, a
# tenth of the latents' own covariance, $\eta = 0.1$; decode, and take the squared change of the picture. Divided by 0.1 it is
# the band's stake, and the stake divided by the band's energy is the gain. Beside it the change when *all* of the band is taken
# away, which is no small error any more.

# %%
TRIED = BANDS | {"1 to 63": slice(1, K)}
budget = {
    label: band_stakes(a, x[:n_decoded], TRIED, generator_seed=seed)
    for label, a in tuned.items()
}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
quotient = {  # SE over the control
    name: {
        f"× {of}": getattr(budget[SE][name], of)
        / getattr(budget[CONTROL][name], of)
        for of in ("energy", "gain", "stake", "removed")
    }
    for name in TRIED
}
for name, of_band in quotient.items():
    run.metrics |= {f"{name}: SE over control {k}": v for k, v in of_band.items()}
results.show(
    {
        name: {"stake, control": budget[CONTROL][name].stake} | of_band
        for name, of_band in quotient.items()
    },
    ".2f",
    index="× is SE over the control",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**, stakes as shares of the pictures' variance. Added up over bands, the stakes give what errors in
# all bands at once give: the budget adds up. **In the upper half SE's latents have about three fifths of the control's energy,
# its decoder has nearly twice the gain, and the stake is no smaller.** Taken away altogether, SE's upper half costs no less, either.
#
# ## Recorded: two by two
#
# The denoisers without FreqWarm: DiT-XXS/1, self-conditioned, 600 steps of 64 latents, on the control and on SE, three
# seeds, a seed being that of the denoiser *and* of the fine-tuning. Those with FreqWarm have the same autoencoders, crops,
# first weights, noise, times and steps; the first 150 steps show latents of images cut at 0.2 cycles per pixel. All are
# judged alike: 1 024 samples of 40 Euler steps, from the same starting noise, against 8 192 other crops by the
# {term}`Offline features`. So a pair with the same seed differs in one thing.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
EFFECTS = {
    "SE, without FreqWarm": (SE, CONTROL),
    "SE, with FreqWarm": (f"{SE}, FreqWarm", f"{CONTROL}, FreqWarm"),
    "FreqWarm, on the control": (f"{CONTROL}, FreqWarm", CONTROL),
    "FreqWarm, on SE": (f"{SE}, FreqWarm", SE),
}
WARMED = [name for name in EFFECTS if name.startswith("FreqWarm")]


def effects(metric: str, relative: bool = False) -> dict[str, results.Paired]:
    return {
        name: results.paired(recorded, metric, *two, relative)
        for name, two in EFFECTS.items()
    }


absolute = effects("frechet_offline")
share = effects("frechet_offline", relative=True)
interaction = results.summarize(
    np.subtract(*(absolute[name].values for name in reversed(WARMED)))
)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
run.metrics |= {f"recorded, {name}": p.mean for name, p in absolute.items()}
INTERACTION = "interaction (FreqWarm on SE less on the control)"
results.show(
    {
        name: {
            "difference": f"{p:.2f}",
            "relative": f"{share[name]:.0%}" if name in share else "",
            "by seed": ", ".join(f"{v:+.2f}" for v in p.values),
        }
        for name, p in (absolute | {INTERACTION: interaction}).items()
    },
    index="effect on the Fréchet distance, paired by seed",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded, 600 steps, three seeds; paired differences with 95% intervals, negative is better.* How to read them. The two rows
# *SE* ask what the regularizer does, once under plain training and once under the curriculum; distances of decoded latents
# differ between these autoencoders, so a part of that is not the denoiser's. The two rows *FreqWarm* compare within one
# autoencoder: same decoder to the bit, same floor, so the difference is the denoiser's alone. The interaction asks whether
# FreqWarm does something else on SE's latents than on the control's; it is zero if the two simply add up in this number.
#
# **Only one effect is settled: SE without FreqWarm makes samples worse, by 20% (interval +12% to +28%).** FreqWarm's is not, on
# either autoencoder: +20% (−52% to +93%) and +3% (−41% to +46%), nor at any snapshot along the way. Nor is the interaction.
# Here three seeds are too few: with FreqWarm the runs scatter about twice as much as without, and pairing by seed does not
# help.
#
# ### What the denoisers have learned
#
# Two things besides samples. The *losses* of a pair can be laid over each other, since first weights, crops, noise and times are
# the same. How much the warm-up's data are easier by themselves, say the least losses of a linear predictor, {numref}`chap-loss`:

# %%
least = {
    label: [
        linear_bounds(bands.second_moments(by_radius[r])[1])[1]  # channels together
        for r in (math.inf, R0)
    ]
    for label, by_radius in fed.items()
}
PHASES = {
    "second half of the warm-up": (WARM / 2, WARM),
    "50 steps after the switch": (WARM, WARM + 50),
    "last 100 steps": (STEPS - 100, STEPS),
}
for phase, (after, until) in PHASES.items():
    recorded[phase] = results.between(recorded, "loss", after, until)
results.show(
    {
        name: {phase: f"{effects(phase)[name]:.3f}" for phase in PHASES}
        | {"least losses differ by": f"{low - whole:+.3f}"}
        for name, (whole, low) in zip(WARMED, least.values(), strict=True)
    },
    index="loss with FreqWarm less without",
)

# %% [markdown]
# During the warm-up the loss is lower, by about three quarters of what the least losses differ by. After the switch nothing of
# it is left that an interval would hold apart from zero, in either direction.
#
# And the *spectrum* of what is generated. FreqWarm's account of itself is about this: if the high frequencies were under-exposed
# and no longer are, their share $q_k$ of the energy, generated over real as in {eq}`eq-freqwarm-ratio`, is nearer to one with it.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
recorded["miss"] = np.abs(np.log(recorded["32 to 63"]))
SHARES = {name: (f"share q, {name}", ".2f") for name in BANDS}
SHARES["miss"] = ("|ln q|, 32 to 63", ".2f")
results.table(recorded, SHARES, control=CONTROL)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded.* With FreqWarm the share at ranks 32 to 63 is farther from one in each of the six pairs, $\lvert\ln q\rvert$ on average
# by 0.07 and 0.02, with intervals that hold zero. Nothing shows that high frequencies were learned better, with either method.
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
# | | lower loss on whole latents at the end | interval holds zero, on both | |
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

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What this cannot show
#
# - **The regime.** f4 with 16 channels, where a cutoff of 0.2 cycles per pixel is 1.6 times the latent's Nyquist frequency.
#   FreqWarm's is f16 and f32 with 48 to 512 channels at 512², where it is 6.4 and 12.8 times.
# - **The warm-up's length**, which the paper does not print: a quarter of 600 steps is our choice.
# - **The length of training.** 600 steps with 1.29 million parameters, far from convergence; an effect in the first 600
#   steps need not be that in the last of 400 000. {numref}`chap-pays` follows SE to 9 600 steps, with patches of two and without
#   self-conditioning: behind in learning early, undecided later. FreqWarm has no longer runs yet.
# - **The pictures and features**: 32 × 32 crops of five photographs, and features that look at 64 × 64 enlargements.
# - **Pairs**: three, too few for FreqWarm's effect on these autoencoders. And the budget {eq}`eq-opposite-budget` is first
#   order, in squared pixels, which are no judge of detail.
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
# $k$ (of coefficient $u, v$) after encoding and divided by it before decoding. Show with `band_stakes` that its stakes are
# those of the control for every $\kappa$. What does change that a denoiser could notice?
# ```
#
# ````{solution} ex-stakes
# :class: dropdown
#
# ```python
# from types import SimpleNamespace
# from diffusab_core import spectrum
#
# def filtered(autoencoder, kappa):
#     gain = torch.empty(K)
#     gain[spectrum.zigzag_order(B)] = (1 + bands.radii(B)).float() ** -kappa
#     def through(z, g):
#         return spectrum.block_idct(spectrum.block_dct(z, B) * g.reshape(B, B))
#     return SimpleNamespace(
#         place=autoencoder.place,
#         encode=lambda x: SimpleNamespace(mean=through(autoencoder.encode(x).mean, gain)),
#         decode=lambda z: autoencoder.decode(through(z, 1 / gain)),
#     )
#
# for kappa in (0, 0.5, 1):
#     print(kappa, band_stakes(filtered(tuned["control"], kappa), x[:64], BANDS)["32 to 63"])
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
# half by a factor (`quotient["32 to 63"]["× energy"]`, about 0.6) in all steps.
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
# "shows less high-frequency latent energy than plain training"
assert max(rho.values()) < 1
# "the stakes give what errors in all bands at once give"
for of in budget.values():
    assert 0.9 < sum(of[name].stake for name in BANDS) / of["1 to 63"].stake < 1.1
# "about three fifths of the control's energy, its decoder has nearly twice the gain, and the stake is no smaller"
upper = quotient["32 to 63"]
if size != "smoke":
    assert 0.55 < upper["× energy"] < 0.65
    assert 1.7 < upper["× gain"] < 2
    assert upper["× stake"] > 1
    assert upper["× removed"] > 1  # "SE's upper half costs no less, either"
    # "SE ... takes two fifths of their energy", "the exposure ... falls by about a twentieth"
    assert abs(1 - upper["× energy"] - 0.4) < 0.02
    assert all(0.03 < WARM / STEPS * (1 - v) < 0.07 for v in rho.values())

# %%
# "20% (interval +12% to +28%)", "+20% (−52% to +93%) and +3% (−41% to +46%)"
assert [f"{p:.0%}" for name, p in share.items() if name != "SE, with FreqWarm"] == [
    "+20% [+12%, +28%]",
    "+20% [−52%, +93%]",
    "+3% [−41%, +46%]",
]
# "Only one effect is settled", "Nor is the interaction", "nor at any snapshot along the way"
assert [p.sign for p in absolute.values()] == [1, 0, 0, 0]
assert interaction.sign == 0
for step in (200, 400, 600):
    recorded["snapshot"] = results.between(
        recorded, "snapshot_frechet_offline", step - 1, step, "snapshot_step"
    )
    assert all(effects("snapshot")[name].sign == 0 for name in WARMED)

# %%
# "same decoder to the bit"
recorded["decoder"] = [of["weights"] for of in recorded.latents]
pairs = recorded.groupby([recorded.arm.str.startswith(SE), "seed"])
assert (pairs.decoder.nunique() == 1).all()
assert pairs.size().tolist() == 6 * [2]
# "distances of decoded latents differ between these autoencoders"
floors = recorded.groupby("arm").decoded_latents_frechet
assert floors.min()[SE] > floors.max()[CONTROL]
# "with FreqWarm the runs scatter about twice as much as without"
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
    early = [effects("second half of the warm-up")[name].mean for name in WARMED]
    easier = [low - whole for whole, low in least.values()]
    assert all(0.7 < v / e < 0.85 for v, e in zip(early, easier, strict=True))
# "farther from one in each of the six pairs, on average by 0.07 and 0.02, with intervals that hold zero"
misses = [effects("miss")[name] for name in WARMED]
assert all(min(p.values) > 0 for p in misses)
assert [round(p.mean, 2) for p in misses] == [0.07, 0.02]
assert all(p.sign == 0 for p in effects("miss").values())

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
exposed = [1 + 0.25 * (r - 1) for r in (0.8, 1.5)]
print("exposure of a quarter at ξ = 0.8 and 1.5:   ", exposed)
print("SE lowers the energy of the upper half:     ", upper["× energy"] < 1)
print("low-passing at 0.2 lowers it, too, for both:", max(rho.values()) < 1)
passed = [[in_band(of[r], HIGH) for r in (0.1, 0.2, 0.4)] for of in found.values()]
ascending = all(a < b < c for a, b, c in passed)
print("the less passes, the less energy there is:  ", ascending)
easier = all(low < whole for whole, low in least.values())
print("low-passed latents have the smaller bound:  ", easier)
word = ["lower", "undecided", "higher"][1 + absolute["SE, without FreqWarm"].sign]
print("recorded without FreqWarm, SE to control:   ", word)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
