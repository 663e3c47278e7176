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
# (chap-encoder-decoder)=
# # What the encoder drops
#
# **In short.** A wave too fine for the latent's grid cannot stay in place. Encoders with strides fold it onto a slower wave, and their
# decoders make use of that: at 1.5 times the latent's Nyquist frequency about half of the wave comes back. An encoder trained not to fold
# drops nearly all of it. Decoders need the high frequencies of their latents. That fine detail *weakens* these is not seen in our autoencoders.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
models: list[str] = [
    "kl-f4c16",
    "kl-f8c4",
    "kl-f8c16",
    "kl-f8c64",
    "kl-f16c64",
    "kl-f16c128",
    "kl-f16c256",
]
closer: list[str] = ["kl-f8c4", "kl-f8c64", "kl-f16c256"]  # for what takes longer
n_images: int = 4  # crops of each seed
n_seeds: int = 3  # of crops, for the third finding
n_gratings: int = 6  # frequencies of the transfer curves, 3 to 6
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import math
from itertools import pairwise

import torch

from diffusab_book import chapters, figures, results
from diffusab_book.explorers import radial, waves
from diffusab_core import autoencoders, data, spectrum
from diffusab_core.metrics import aliasing, probes, psnr
from diffusab_core.spectrum.bands import energy_shares

run = chapters.start(
    "15_encoder_decoder",
    globals(),
    data=f"{n_seeds} times {n_images} crops of the held-out photographs (coffee, china), "
    "256² for models of compression 16, 128² for the others",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
recorded = waves.read()
BLURRED = {name: f"{name}-blurred" for name in ("kl-f8c4", "kl-f8c64")}
china = data.photo("china")  # never trained on
one = autoencoders.load("kl-f8c64")
waves.waves_explorer(recorded, BLURRED, one, china[:, 84:212, 164:292])

# %% [markdown] slideshow={"slide_type": "slide"}
# *A wave is added to a photograph. Above, its middle; what is left of it where every eighth pixel is kept; what an encoder and its decoder
# hand back; and the same behind a low-pass that takes away all that has no place in the latent. Below, the error of what comes back,
# recorded over three seeds (bands: smallest and largest run): 0 is perfect, 1 as bad as a wave left out. Dashed: encoders trained with a
# blur before each sampling.* Move the slider over 0.5, 1.5, 2.5 and 4.5: the samples stay the same. Even of the slowest waves a quarter to
# a half is lost; at 2.5 and beyond nothing comes back from any of these.
#
# So far a latent's spectrum was looked at by itself. {cite:t}`lai2026toward` look at what goes *through*: they change one band of
# frequencies at one side of an encoder or a decoder and watch the other side. They report three findings, and suspect that encoders suffer
# from aliasing. This chapter repeats the three on the shipped autoencoders and photographs they have never seen, and then follows waves of
# known frequency.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - split an image or a latent by radius, and say in which unit the radius is;
# - measure what a decoder loses with a band of its latent, and how an encoder answers a picture without fine detail;
# - predict where a wave arrives in a latent, and tell folding from loss;
# - say which of the paper's three findings these small autoencoders show, and which they do not.
# ```

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One radius, two units
#
# Take the Fourier transform $F$ of a picture or of one channel of a latent. A coefficient belongs to a wave with $f_y$ cycles per pixel
# down and $f_x$ across; its distance from the zero frequency is $\rho = \sqrt{f_y^2 + f_x^2}$. A mask $M$ that is one for $\rho\le r$ and
# zero beyond splits the signal in two:
#
# $$
# Z_{\mathrm{low}} = F^{-1}\bigl(M \odot F(Z)\bigr), \qquad
# Z_{\mathrm{high}} = F^{-1}\bigl((1 - M) \odot F(Z)\bigr) = Z - Z_{\mathrm{low}} .
# $$ (eq-radial-split)
#
# $r$ is in **cycles per pixel**: an axis ends at the Nyquist frequency, 0.5, the plane at its corner, $\sqrt{0.5}\approx 0.71$. The mean is
# always in the low part, and by Parseval's theorem the energies of the two parts add up.
#
# **The same $r$ means different things in the two spaces.** A pixel of a latent of compression $f$ is as wide as $f$ pixels of the
# picture. A wave of $\nu$ cycles per pixel of the *picture* therefore has
#
# $$
# \rho = f\,\nu
# $$ (eq-two-units)
#
# cycles per pixel of the *latent*, as long as $f\nu \le \tfrac12$ on each axis. At f8, the latent's Nyquist frequency is
# $1/16 = 0.0625$ cycles per pixel of the picture. Each radius below says whose pixels it counts.
#
# The slider moves one $r$ through both spaces. Above, low and high part of the picture; below, what the decoder makes of low and high part
# of the *latent*. Percentages are shares of the energy about the mean of each channel.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
opened = {name: autoencoders.load(name) for name in models}
near = {name: opened[name] for name in closer}
last_f8 = next(name for name in reversed(near) if near[name].compression == 8)


def crops(model, draw=0):
    """Held-out crops (n_images, 3, H, W), so large that a latent has 16² positions or more."""
    resolution = 256 if model.compression == 16 else 128
    photos = data.Photos(resolution, "test", seed=seed + draw)
    return data.stack(photos, range(n_images))


# %% slideshow={"slide_type": "subslide"}
shown = {name: near[name] for name in list(near)[-2:]}
radii = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
radial.radius_explorer(china[:, 20:276, 100:356], shown, radii, start=0.2)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Finding 1: the decoder needs its high frequencies
#
# Decoded from $Z_{\mathrm{low}}$ alone, the paper says, a picture is blurry, and $Z_{\mathrm{high}}$ brings detail and semantics. What
# would one expect? If latent frequency $\rho$ held what the picture has at $\nu = \rho/f$ and nothing else, decoding $Z_{\mathrm{low}}$ would
# be no worse than low-passing the picture at $r/f$. That comparison makes the finding more than "fewer frequencies, less detail".

# %%
latent_radii = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
LOW, SAME, WHOLE = "decoded from Z_low", "picture within r/f", "decoded from Z"
by_part = {}
for name, model in near.items():
    x = crops(model)
    z = probes.encode_mean(model, x)
    whole = psnr(probes.decode(model, z), x).item()
    found = {LOW: [], SAME: [], WHOLE: [whole] * len(latent_radii)}
    for r in latent_radii:
        low, _ = spectrum.radial_split(z, r)
        same, _ = spectrum.radial_split(x, r / model.compression)
        found[LOW].append(psnr(probes.decode(model, low), x).item())
        found[SAME].append(psnr(same, x).item())
    by_part[name] = found

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
options = {"xlabel": "r, cycles per latent pixel", "ylabel": "PSNR, dB"}
figures.panels(
    [figures.lines(found, x=latent_radii, **options) for found in by_part.values()],
    list(by_part),
    "PSNR against the radius in the latent, for several autoencoders: of the picture decoded from the "
    "latent's low frequencies, of the picture itself low-passed at the corresponding frequency, and of the "
    "whole reconstruction, which is a level line that the decoded curve approaches from below.",
    height=340,
    share_y=True,
)

# %% [markdown]
# **Measured here.** Every decoder loses quality without the latent frequencies beyond 0.25 cycles per latent pixel. Where a decoded
# curve stays below that of the low-passed picture, latent and picture frequencies do not correspond one to one. Not all of that says
# something about frequencies: no decoder was trained on a latent without high ones, and each is limited by its own reconstruction, the
# level line.
#
# Which band matters most? {py:func}`~diffusab_core.metrics.probes.decoder_dependence` removes one at a time. To tell *absence* from *wrong
# content* it also keeps the absolute value of each coefficient and draws its phase at random.

# %%
latent_edges = (0, 0.125, 0.25, 0.375, 0.5, math.sqrt(0.5))  # to the corner
labels = [f"{a:g} to {b:.3g}" for a, b in pairwise(latent_edges)]
dependence, by_band = {}, {label: {} for label in labels}
for name, model in near.items():
    x = crops(model)[:2]
    z = probes.encode_mean(model, x)
    found = probes.decoder_dependence(model, x, latent_edges, generator_seed=seed)
    dependence[name] = found
    within = [0.0, *(energy_shares(z, r)[0] for r in latent_edges[1:])]
    lost = found.psnr_whole - torch.stack([found.psnr_without, found.psnr_noised])
    run.series[f"{name}: db_lost_without_band"] = lost[0].tolist()
    run.series[f"{name}: db_lost_with_random_phases"] = lost[1].tolist()
    head = f"{name}, {found.psnr_whole:.1f} dB"
    for row, (a, b), (gone, noised) in zip(
        by_band.values(), pairwise(within), lost.T.tolist(), strict=True
    ):
        row[head] = f"{b - a:.0%}: {gone:.1f} / {noised:.1f}"
results.show(by_band, index="band, cycles per latent pixel")

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here.** In each cell the band's share of the latent's energy, then the PSNR lost when it is removed / when its phases are random,
# in dB. Every decoder loses most with the lowest band. Random phases are worse than absence nearly everywhere, as expected where decoding is
# nearly linear: the error's energy doubles. So the first finding holds in its plain form: high latent frequencies carry detail. Of
# *semantics*, the paper's word, PSNR says nothing.
#
# ## Finding 2: pictures live at low frequencies
#
# How much of a photograph lies within a radius? The mean of each channel is left out, as it says nothing about structure.

# %%
edges = (0, 0.01, 0.02, 0.03125, 0.0625, 0.1, 0.125, 0.2, 0.3, 0.4, 0.5)
edges += (math.sqrt(0.5),)
at_256 = data.stack(data.Photos(256, "test", seed=seed), range(2 * n_images))
shares = probes.rgb_energy_by_band(at_256, edges)
cumulative = dict(zip(edges[1:], shares.cumsum(0).tolist(), strict=True))
masks = {r: spectrum.radial_mask(256, 256, r).double() for r in edges[1:]}
area = {r: mask.mean().item() for r, mask in masks.items()}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
run.metrics |= {f"rgb_energy_within_{r:.4g}": v for r, v in cumulative.items()}
within = {"energy of photographs": cumulative, "share of the frequencies": area}
energy = figures.lines(
    {name: [100 * v for v in found.values()] for name, found in within.items()},
    x=edges[1:],
    xlabel="radius, cycles per pixel of the picture",
    ylabel="% within the radius",
    log_x=True,
    mode="lines+markers",
    alt="Cumulative energy of photographs against the radius in cycles per pixel: most of it lies within a "
    "small radius, while the share of frequencies within a radius grows only with its square.",
)
energy.update_xaxes(tickvals=[0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
for r, label in ((0.5 / 16, "f16"), (0.5 / 8, "f8"), (0.5 / 4, "f4"), (0.2, "r₀")):
    figures.mark(energy, x=r, text=label)
energy

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here** (dotted: Nyquist frequencies of latents, and FreqWarm's threshold): more than nine tenths of the energy lie within 0.2
# cycles per pixel of the picture, an eighth of the frequencies. That is the power law of {numref}`chap-dct` again. Note where FreqWarm's
# threshold lies, $r_0 = 0.2$ cycles per pixel of the *picture*: at f8 it is more than three times the latent's Nyquist frequency, at the f32
# of the paper's models almost thirteen times. ({numref}`chap-freqwarm` comes back to it.)
#
# ## Finding 3: does the latent fade when the picture sharpens?
#
# The third finding carries the method: adding high frequencies to the picture *beyond a point* is said to **lower** the amplitude of the
# latent's high frequencies. So low-pass the picture at a growing $r$, encode, and measure each band of the latent,
#
# $$
# A_b = \operatorname*{mean}_{n,\,c,\,\rho\in b}\;\bigl\lvert F(z_{n,c})(\rho)\bigr\rvert,
# \qquad F \text{ orthonormal},
# $$ (eq-band-amplitude)
#
# the mean absolute coefficient over images $n$, channels $c$ and the frequencies of the band $b$, the zero frequency left out. Drawn is $A_b$
# of low-passed pictures over that of the same pictures as they are. If the finding holds, the curve of a high band rises **above** 100%
# somewhere and comes down again. (Bands end at 0.5, so that each has the same counterpart in every direction.)

# %%
cutoffs = (0.015, 0.03, 0.0625, 0.1, 0.15, 0.2, 0.3, 0.4, math.inf)
response_bands = (0, 0.125, 0.25, 0.5)  # of the latent


def response(model, draw, kind="ideal"):
    """Amplitude (cutoffs, bands) over that of unfiltered pictures."""
    asked = (cutoffs, response_bands, kind)
    found = probes.latent_amplitude_by_cutoff(model, crops(model, draw), *asked)
    return found.amplitude / found.amplitude[-1]


relative = {
    name: torch.stack([response(model, draw) for draw in range(n_seeds)])
    for name, model in opened.items()
}  # (seeds, cutoffs, bands)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
ends = {"low band, 0 to 0.125": 0, "high band, 0.25 to 0.5": 2}
radial.cutoff_curves(
    {
        title: {k: v[..., b] for k, v in relative.items()}
        for title, b in ends.items()
    },
    cutoffs,
    "Amplitude of a low and a high band of the latent, relative to that of unfiltered pictures, against the radius at "
    "which pictures are low-passed, for seven shipped autoencoders, with the range over draws of crops. The high band stays "
    "below the unfiltered one at every radius; the low band of most rises above it.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**, means over draws of crops, with their range. **Finding 3 does not hold for high latent frequencies in these models**: at
# no cutoff is a high band stronger than without one. What it describes does show in the *lowest* band. In six of the seven models that is
# strongest at a finite cutoff, by 2% to 26%: detail in the picture takes something from the coarse structure of the latent. Our
# autoencoders differ from the paper's in almost everything: 0.34 to 0.51 million parameters, five training photographs, no perceptual or
# adversarial loss, f4 to f16 instead of f16 and f32. They neither confirm nor refute what was seen on DC-AE, LTX and Wan. They show that
# it is no law of all autoencoders.
#
# The authors suspect aliasing as the cause, and call it a **hypothesis**. To see what would follow from it, one must know where each
# frequency of the picture goes.
#
# ## Aliasing
#
# Keep every $s$-th sample of a wave with $\nu$ cycles per pixel. From one sample to the next it runs through $s\nu$ cycles, and whole
# cycles between two samples cannot be seen. So the wave looks like one of
#
# $$
# \rho = \bigl\lvert s\nu - \operatorname{round}(s\nu) \bigr\rvert \in \bigl[0, \tfrac12\bigr]
# $$ (eq-folding)
#
# cycles per sample. Up to the Nyquist frequency $\nu = 1/(2s)$ it stays in place, {eq}`eq-two-units`; beyond it **folds**; at $\nu = 1/s$ it
# has become a constant whose brightness depends on its phase. Plain sampling folds everything. An encoder is a stack of convolutions, some
# with stride, and what it folds depends on its weights. The cure is known from signal processing: low-pass *before* sampling.

# %% slideshow={"slide_type": "subslide"}
stride = 8
axis = [k / 400 for k in range(201)]
fold = figures.lines(
    {"arrives at": [aliasing.folded_frequency(v, stride) for v in axis]},
    x=axis,
    xlabel="ν, cycles per pixel of the picture",
    ylabel="ρ, cycles per sample",
    height=280,
    alt="Where a wave arrives after sampling every eighth pixel: a sawtooth of triangles that rises to one half at "
    "0.0625 cycles per pixel, falls back to zero at 0.125, and so on.",
)
figures.mark(fold, x=0.5 / stride, text="Nyquist").update_yaxes(range=[0, 0.6])

# %% [markdown] slideshow={"slide_type": "slide"}
# ### Folding alone is no loss
#
# One sampled picture cannot tell a wave from its alias. But a latent has many channels. `pixel_unshuffle` turns each square of $f\times f$
# pixels into $3f^2$ channels. Every channel is the picture sampled at every $f$-th pixel, with all beyond the Nyquist frequency folded, and
# the picture can be put together again without any error: the channels sample at different places, and the *differences* between them say
# which of the aliases it was. As long as $C \ge 3f^2$, folding need not lose anything. So **the folded share is always shown beside the
# error of the reconstruction**.
#
# ### Transfer curves
#
# Now gratings $g$ of known frequency, added to held-out photographs: the response is $\mathrm{Enc}(x + g) - \mathrm{Enc}(x)$, and
# {eq}`eq-folding` says where in its spectrum to look. For each frequency {py:func}`~diffusab_core.metrics.aliasing.encoder_transfer` gives
#
# - the **gain**: mean square of the response at the predicted frequency over that of the grating, here relative to the lowest frequency;
# - the **folded share**: the part of the response's energy that sits at the predicted place *and* came from beyond the Nyquist frequency
#   (the rest has gone elsewhere: the encoder is not linear, and its latent has borders);
# - the **reconstruction error**: root mean square of $\mathrm{Dec}(\mathrm{Enc}(x+g)) - \mathrm{Dec}(\mathrm{Enc}(x)) - g$ over that
#   of $g$, the *error* at the head; 0 is perfect, 1 as bad as a decoder that leaves the grating out.
#
# Beside the shipped encoders stand two to compare with: one of them behind an ideal low-pass at its latent's Nyquist frequency, and
# `pixel_unshuffle`.

# %%
compared = dict(near)
compared[f"{last_f8}, low-passed"] = aliasing.low_passed(near[last_f8])
compared["pixel_unshuffle, f8"] = aliasing.pixel_unshuffle(8)
in_nyquist = (0.25, 0.5, 0.9, 1.5, 2.5, 4.5)[:: 6 // min(n_gratings, 6)]
in_nyquist = tuple(sorted({0.25, *in_nyquist, 1.5}))[:n_gratings]
photos = data.Photos(128, "test", seed=seed)
photographs = data.stack(photos, range(min(2, n_images)))
transfers = {
    name: aliasing.encoder_transfer(
        model,
        [v * 0.5 / model.compression for v in in_nyquist],
        angles=(0.0, 90.0),
        size=128,
        background=photographs,
    )
    for name, model in compared.items()
}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
waves.transfer_curves(transfers, in_nyquist)

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**, gratings of amplitude 0.25 on held-out crops of 128², horizontal and vertical, two phases each.
#
# - **Shipped encoders fold.** At 1.5 times the Nyquist frequency three quarters and more of the response sit where {eq}`eq-folding` puts it.
# - **What folds is kept, in part.** A decoder that took the alias for a slow wave, or left it out, would have an error of 1 or more. These
#   have less: other channels tell them which wave it was.
# - **Anti-aliasing without training takes it away.** Behind the low-pass nothing folds, and nothing comes back.
# - **Far beyond, the loss is real.** At 4.5 times the Nyquist frequency next to nothing is left of the wave, gone before it could fold.
# - **Folding and loss are two things.** `pixel_unshuffle` folds everything and loses nothing.
#
# ## An encoder that learnt without aliasing
#
# A low-pass before a finished encoder measures two things at once, the low-pass and weights that were not made for it. So two shipped recipes
# were trained again from the first step on with a fixed binomial blur between each strided convolution and its sampling
# {cite}`zhang2019making`, with the initial weights, crops and noise of their strided twins (`sweeps/blurred.yaml`). If folding were what makes
# an encoder lose fine detail, the blurred one would reconstruct better. Their curves are the dashed ones at the head
# (`sweeps/antialiasing.yaml`). Is such a latent easier to learn? A self-conditioned DiT-XXS/1 was trained for **600 steps** of 32 on
# the latents of both encoders with seed 0 (`sweeps/antialiasing-denoisers.yaml`).

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
waves.table(recorded, BLURRED)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded, mean ± standard deviation over three seeds; below, the paired difference to the strided encoder with its 95% interval.
# Gratings on eight held-out crops of 128²; PSNR and spectrum on 64 crops; the last three rows are Fréchet distances, of three seeds of
# the denoiser on one autoencoder each, whose decoded latents therefore have no spread.*
#
# - **Training makes a strided encoder use its aliases.** At 1.5 times the Nyquist frequency it answers more strongly than to slow waves
#   (relative gain 1.4 to 3.0); a blurred one hardly answers (0.1 or less).
# - **What is not folded is lost.** The blurred encoders' gratings come back with a larger error, by 0.40 (interval +0.30 to +0.49) with 4
#   channels and by 0.52 (+0.50 to +0.54) with 64.
# - **PSNR is lower in each of the six pairs**, by 0.84 dB and 1.33 dB in the mean. Three pairs do not settle it for either recipe: both
#   intervals reach zero. Nothing says that folding costs reconstruction here.
# - **The latent's high-frequency energy is lower in each of the six pairs**, by about a half in the mean, with intervals that reach zero as
#   well. So anti-aliasing moves the spectrum the way scale equivariance does. Not all of it is folding: the binomial filter passes a
#   quarter of the amplitude of a wave at the Nyquist frequency that it samples to, $\cos^4(\pi/4)$, and trained weights may or may not make up
#   for it.
# - **The blurred decoder allows less**: decoded latents, where a perfect denoiser would end, are 40% and 52% farther from photographs. What
#   the denoiser loses on top of that is smaller on blurred latents in the mean, by 3.2 and 1.3, but both intervals reach zero: easier latents
#   are not shown. The samples are not better for it: with 64 channels they are 17% farther (interval +12% to +22%), with 4 the sign is
#   open. (A difference of two Fréchet distances is no distance; it says where a run stands between two yardsticks.)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Does aliasing explain Finding 3?
#
# If folded waves *interfered destructively* with what the high latent frequencies hold, low-passing the picture at the latent's Nyquist
# frequency would raise their amplitude. In a linear encoder, folded waves with random phases *add* energy, because energies of independent
# signals add. Amplitude can fall only where phases agree or where the encoder is not linear, for instance through its normalisation layers,
# which divide by the energy of everything that arrives.
#
# Finding 3's figure has this cutoff for f8: at 0.0625 the high band of every f8 model is weaker than before. What lies beyond the Nyquist
# frequency can reach this band only by folding or through nonlinear layers, and in these models it **adds** amplitude there. That is the
# opposite of what the hypothesis needs. The trained pairs agree, recorded at the same cutoff: strided encoders keep 78% to 82% of the band's
# amplitude, blurred ones 90% to 94%.
#
# The low band of the f16 models does fall, and early: it is stronger for pictures low-passed at 0.015 than at 0.03 cycles per pixel, both
# within the latent's Nyquist frequency of 0.031. Waves that cannot fold already take from it, so aliasing is not the cause, or not the
# only one. Layers that normalise by the energy of all that arrives would do this without any folding; that was not tested here.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What this leaves open
#
# - **The paper's models.** Nothing that has to be fetched from a model hub is run here. `diffusab report MODEL --images DIR` makes the
#   measurements of this chapter on any autoencoder of `diffusers`, among them DC-AE, LTX and Wan.
# - **Semantics.** Finding 1's word. PSNR and energies cannot see it.
# - **Anti-aliasing at other sizes.** Two recipes of 0.4 million parameters, minutes of training, one blur, in the encoder only, and
#   denoisers on one seed of each. A decoder has aliases of its own, which were not measured.
# - **Weak waves.** Gratings of amplitude 0.25 are far stronger than what photographs have at high frequencies, and the response of a
#   nonlinear encoder depends on the amplitude.

# %% [markdown]
# ## To take away
#
# - A cutoff has two units, cycles per pixel of the picture and of the latent, and a factor of $f$ lies between them.
# - Decoders need the high frequencies of their latents; photographs have little energy in theirs.
# - An encoder that skips pixels folds fine waves onto coarse ones. That alone is no loss: with channels enough, a decoder can tell them
#   apart. An encoder that blurs first drops them.
# - That a sharper picture weakens the latent's high frequencies is a property of an autoencoder. Measure it before you build on it.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} Four waves, one place ★
# :label: ex-four-waves
#
# Which four lowest frequencies of a picture, along one axis, arrive at a quarter of a cycle per latent pixel at f8? Of which has a
# photograph most, and why does that matter less than one might fear?
# ```
#
# ````{solution} ex-four-waves
# :class: dropdown
#
# ```python
# waves = [k / 3200 for k in range(1601)]
# print([v for v in waves if abs(aliasing.folded_frequency(v, 8) - 0.25) < 1e-9][:4])
# ```
#
# $\nu = (k \pm \tfrac14)/8$: 0.03125, 0.09375, 0.15625 and 0.21875 cycles per pixel, the four stops of the slider at the head whose samples
# are the same. The energy of photographs falls about as $1/\nu^2$ per frequency: the second has about a ninth of the first, the
# third a twenty-fifth. The alias is a minority of what is there.
# ````
#
# ```{exercise} What a strong dependence is ★
# :label: ex-dependence
#
# A decoder loses 2 dB with a band that has 3% of the latent's energy. Is that much? Compare with an orthonormal linear decoder that
# reconstructs at 23 dB pictures whose variance is 0.05 on the scale of PSNR.
# ```
#
# ````{solution} ex-dependence
# :class: dropdown
#
# For an orthonormal decoder the error grows by the energy removed: from $10^{-2.3} = 0.005$ by $0.03\cdot 0.05 = 0.0015$ to 0.0065, which is
# 1.1 dB. So 2 dB would be about twice the added error that the energy suggests. Neither number says that a diffusion model must get this
# band right: that depends on how the samples are judged.
# ````
#
# ```{exercise} A wave that becomes a brightness ★★
# :label: ex-brightness
#
# Encode gratings with $\nu = 1/8$ at f8 with plain sampling, for several phases. What is the latent? What does `encoder_transfer` say of
# `pixel_unshuffle` at this frequency?
# ```
#
# ````{solution} ex-brightness
# :class: dropdown
#
# ```python
# for phase in (0.0, math.pi / 4, math.pi / 2):
#     print(phase, aliasing.grating(64, 64, 0, 1 / 8, phase)[::8, ::8].round(decimals=6).unique())
# print(aliasing.encoder_transfer(aliasing.pixel_unshuffle(8), [1 / 8], angles=(0.0,), size=64))
# ```
#
# A constant, $\cos\varphi$: a brightness that depends on where the wave stands. Unshuffled, every channel is such a constant, another one for
# each place within the square: all energy is at the latent's zero frequency (a folded share of 1), without any error.
# ````
#
# ```{exercise} Soft masks ★★
# :label: ex-soft-masks
#
# The ideal mask has a sharp edge, and the signal rings. The authors' released filter also has soft ones: Butterworth,
# $1/(1 + (\rho/r)^{2n})$, with the order $n = 2$ here, and Gaussian, $\exp(-\rho^2/2r^2)$. Repeat Finding 3 for one model with each. Which
# differences do you expect at small $r$, and why?
# ```
#
# ````{solution} ex-soft-masks
# :class: dropdown
#
# ```python
# for kind in spectrum.MASKS:
#     print(kind, (100 * response(near[last_f8], 0, kind)).round().T)
# ```
#
# At the same $r$ a soft mask weakens frequencies below $r$ and lets some through above it, so the curves rise more slowly and do not jump
# where $r$ passes a band's frequencies. A fall that appears with one mask only would be an artefact of it.
# ````
#
# ```{exercise} Finding 3 where it can be computed ★★★
# :label: ex-linear-finding
#
# For `pixel_unshuffle`, show that the energy of every latent band can only grow with the cutoff of the pictures. Then measure it.
# ```
#
# ````{solution} ex-linear-finding
# :class: dropdown
#
# The map is linear and keeps energies: a channel's coefficient at $\rho$ is the sum of the picture's coefficients at all frequencies that
# fold there, each with a phase that depends on the channel. Summed over the $f^2$ channels the cross terms cancel *exactly*, since the
# phases run through whole turns. So a latent band has the energy of all picture bands that fold into it, and a cutoff only removes terms.
#
# ```python
# print((100 * response(aliasing.pixel_unshuffle(8), 0)).round(decimals=1).T)
# ```
#
# The amplitudes printed are means of absolute values, which need not follow the energies in every digit.
# ````
#
# ## What this chapter claims
#
# Each assertion guards the sentence quoted above it. If one fails, the sentence has to be rewritten.

# %%
# "0.5, 1.5, 2.5 and 4.5: the samples stay the same"
folds = [aliasing.folded_frequency(v / 16, 8) for v in (0.5, 1.5, 2.5, 4.5)]
assert folds == [0.25] * 4
# "Every decoder loses quality without the latent frequencies beyond 0.25"
at = latent_radii.index(0.25)
lost = {name: found[WHOLE][at] - found[LOW][at] for name, found in by_part.items()}
run.metrics |= {f"{name}: db_lost_beyond_0.25": v for name, v in lost.items()}
assert min(lost.values()) > 0
# "Every decoder loses most with the lowest band", "Random phases are worse ... nearly everywhere"
assert all(found.psnr_without.argmin() == 0 for found in dependence.values())
worse = torch.stack([d.psnr_without > d.psnr_noised for d in dependence.values()])
assert worse.double().mean() > 0.8
# "more than nine tenths of the energy lie within 0.2 cycles per pixel ..., an eighth of the frequencies"
assert cumulative[0.2] > 0.9
assert abs(area[0.2] - 1 / 8) < 0.002

# %%
# "at no cutoff is a high band stronger than without one" (but for a rounding), "In six of the seven models ... by 2% to 26%"
highest = {name: v[:, :-1].amax(1) for name, v in relative.items()}
assert all(v[:, 2].max() < 1.001 for v in highest.values())
lowest = sorted(v[:, 0].mean().item() for v in highest.values())
if size != "smoke":
    assert lowest[0] < 1.01 < 1.015 < lowest[1] < lowest[-1] < 1.27
# "0.34 to 0.51 million parameters"
counts = [sum(p.numel() for p in a.module.parameters()) for a in opened.values()]
assert 0.335e6 < min(counts) < max(counts) < 0.515e6
# "the high band of every f8 model is weaker than before"
at = cutoffs.index(0.0625)
of_f8 = {k: v[:, at, 2] for k, v in relative.items() if opened[k].compression == 8}
run.metrics |= {
    f"{k}: high_band_at_nyquist": v.mean().item() for k, v in of_f8.items()
}
assert all(v.max() < 1 for v in of_f8.values())
# "it is stronger for pictures low-passed at 0.015 than at 0.03"
deep = [v for name, v in relative.items() if opened[name].compression == 16]
assert all((v[:, 0, 0] > v[:, 1, 0]).all() for v in deep)

# %%
# "three quarters and more of the response", "These have less [error than 1]"
first = in_nyquist.index(1.5)
shipped = [transfers[name] for name in near]
errors = {name: t.reconstruction_error for name, t in transfers.items()}
run.metrics |= {
    f"{k}: error_at_1.5_nyquist": v[first].item() for k, v in errors.items()
}
assert all(t.folded_share[first] > 0.75 for t in shipped)
assert all(errors[name][first] < 0.9 for name in near)
# "nothing comes back", "next to nothing is left of the wave"
assert errors[f"{last_f8}, low-passed"][first] > 0.99
assert in_nyquist[-1] < 4.5 or all(errors[name][-1] > 0.9 for name in near)
# "`pixel_unshuffle` folds everything and loses nothing"
unshuffled = transfers["pixel_unshuffle, f8"]
assert unshuffled.folded_share[first] > 0.999
assert unshuffled.reconstruction_error.max() < 1e-5


# %%
def ends(metric: str, arms) -> tuple[float, float]:
    """The smallest and the largest of all runs."""
    found = [v for arm in arms for v in results.values(recorded, metric, arm)]
    return min(found), max(found)


def apart(metric: str, relative: bool = False):
    """Blurred less strided, paired by seed, of each recipe."""
    pairs = ((blurred, name) for name, blurred in BLURRED.items())
    return [results.paired(recorded, metric, *pair, relative) for pair in pairs]


# "relative gain 1.4 to 3.0", "(0.1 or less)"
assert [round(v, 1) for v in ends("gain", BLURRED)] == [1.4, 3.0]
assert ends("gain", BLURRED.values())[1] < 0.11
# "about half of the wave comes back", "drops nearly all of it", "are lost"
assert 0.35 < ends("error", BLURRED)[0] < ends("error", BLURRED)[1] < 0.6
assert ends("error", BLURRED.values())[0] > 0.85

# %%
# "Even of the slowest waves a quarter to a half is lost; at 2.5 and beyond nothing comes back"
arms = (*BLURRED, *BLURRED.values())
of = [
    results.by_place(recorded, "in_nyquist", "reconstruction_error", arm)
    for arm in arms
]
slow = [v for places in of for v in places["0.25"]]
assert 0.24 < min(slow) < max(slow) < 0.55
assert min(v for places in of for k in ("2.5", "4.5") for v in places[k]) > 0.99
# "strided encoders keep 78% to 82% of the band's amplitude, blurred ones 90% to 94%"
kept = [ends("kept", arms) for arms in (BLURRED, BLURRED.values())]
assert [f"{v:.0%}" for pair in kept for v in pair] == ["78%", "82%", "90%", "94%"]

# %%
# "by 0.40 (interval +0.30 to +0.49) with 4 channels and by 0.52 (+0.50 to +0.54) with 64"
said = ["+0.40 [+0.30, +0.49]", "+0.52 [+0.50, +0.54]"]
assert [str(of) for of in apart("error")] == said
# "lower in each of the six pairs, by 0.84 dB and 1.33 dB", "by about a half in the mean", "intervals reach zero"
psnrs, energies = apart("psnr_db"), apart("hf_energy_ratio", relative=True)
assert [round(of.mean, 2) for of in psnrs] == [-0.84, -1.33]
assert all(0.4 < -of.mean < 0.6 for of in energies)
assert all(max(of.values) < 0 and of.sign == 0 for of in (*psnrs, *energies))
# "40% and 52% farther", "smaller ... by 3.2 and 1.3, but both intervals reach zero"
floors = apart("decoded_latents_frechet", relative=True)
assert [f"{of.mean:.0%}" for of in floors] == ["40%", "52%"]
assert [(round(of.mean, 1), of.sign) for of in apart("above")] == [
    (-3.2, 0),
    (-1.3, 0),
]
# "17% farther (interval +12% to +22%), with 4 the sign is open"
of_c4, of_c64 = apart("frechet_offline", relative=True)
assert (of_c4.sign, f"{of_c64:.0%}") == (0, "+17% [+12%, +22%]")

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
split = spectrum.radial_split(at_256.double(), 0.2)
adds_up = torch.allclose(sum(split), at_256.double())
print("low + high = picture:             ", adds_up)
together = sum(part.square().sum() for part in split)
parseval = torch.allclose(together, at_256.double().square().sum())
print("energies add up:                  ", parseval)
folded = [aliasing.folded_frequency(v, 8) for v in (0.03125, 0.09375, 0.125)]
print("folded at stride 8:               ", folded)
above = "above 90%" if cumulative[0.2] > 0.9 else "90% or less"
print("energy of photographs within 0.2: ", above)
share = round(unshuffled.folded_share[first].item(), 4)
print("unshuffling folds:                ", share)
exact = unshuffled.reconstruction_error.max().item() < 1e-5
print("and reconstructs without error:   ", exact)
removed = transfers[f"{last_f8}, low-passed"]
print("low-passed, gain beyond Nyquist:  ", round(removed.gain[first].item(), 6))
missing = round(removed.reconstruction_error[first].item(), 2)
print("low-passed, error there:          ", missing)
print("every decoder needs ρ > 0.25:     ", min(lost.values()) > 0)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
