# ---
# jupyter:
#   book:
#     needs: [chap-cutting, chap-se]
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
# (chap-chopping)=
# # Chopping and penalising
#
# **In short.** A decoder trained on cut latents (CHF) stands cuts better, by about a quarter of a decibel at most, and the spectrum hardly
# moves. The soft penalty moves it most, and more than half of the decibels are the whole latent shrinking. Neither closes the gulf between
# a cut photograph and a cut latent, most of which is the grid's doing.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
# before fine-tuning, then plain, SE and CHF: shipped names or folders
models: list[str] = ["kl-f4c16", "kl-f4c16-ft", "kl-f4c16-se", "kl-f4c16-chf"]
n_images: int = 16
block_size: int = 8
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import copy
import math

import torch

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.finetuned import decoders_explorer
from diffusab_core import autoencoders, data, metrics, spectrum
from diffusab_core.methods import regularizers
from diffusab_core.spectrum import bands

run = chapters.start(
    "07_chopping",
    globals(),
    data=f"a crop of 192² and {n_images} of 64² of the held-out photographs (coffee, china)",
)
B = block_size
loaded = [autoencoders.load(name) for name in models]
tuned = dict(zip(("untouched", "plain", "SE", "CHF"), loaded, strict=True))
untouched = tuned["untouched"]
f = untouched.compression
chop = spectrum.chop_high_frequencies
same = bands.keep_latent_frequencies  # of the scene, as a cut latent has them


# %% jupyter={"source_hidden": true} tags=["hide-input"]
@torch.no_grad()
def decode_cut(autoencoder, pictures: torch.Tensor, share: float) -> torch.Tensor:
    """What an autoencoder makes of its latents of the pictures, cut to a share."""
    latents = autoencoder.encode(pictures).mean
    return autoencoder.decode(chop(latents, 1 - share, B))


picture = data.photo("coffee")[None, :, 112:304, 208:400]  # (1, 3, 192, 192)
shares = (1.0, 0.75, 0.5, 0.25, 0.1)
rows = {
    "same share": [chop(picture, 1 - s, B * f) for s in shares],
    "same frequencies": [same(picture, f, 1 - s, B) for s in shares],
}
rows |= {n: [decode_cut(a, picture, s) for s in shares] for n, a in tuned.items()}
psnr = {n: [metrics.psnr(p, picture).item() for p in of] for n, of in rows.items()}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
titles = [[f"{db:.1f} dB" for db in row] for row in psnr.values()]
titles[0][0] = "uncut"
titles[0] = [f"{s:.0%} kept<br>{t}" for s, t in zip(shares, titles[0], strict=True)]
figures.image_grid(
    {name: [p[0] for p in row] for name, row in rows.items()},
    titles,
    "Six rows of five pictures of a cup with 100 to 10 percent of the low frequencies kept. The photograph cut by the same share "
    "stays sharp almost to the end; cut at the same frequencies of the scene it blurs as the four rows below it do, which are what "
    "four autoencoders decode from their cut latents.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# A photograph that no model was trained on, with the share of low frequencies that stands above each column. In the first row the
# photograph itself is cut by that share. In the second it keeps the same *frequencies of the scene* as a latent cut by that share. The four
# rows below are what four autoencoders decode from their own latents, cut by it: all began as the same one, three of them were fine-tuned
# for 400 more steps, plainly, with SE and with CHF.
#
# Scale equivariance, the method of {numref}`chap-se`, is a blunt tool: what it removes from a latent is whatever a downsampling happens to
# remove. The appendix of {cite:t}`skorokhodov2025improving` has two finer ones. **CHF** (chopping high frequencies) cuts the same share of
# the DCT coefficients from the latent and from the picture, the highest, and asks the decoder to turn one into the other. The **soft
# penalty** does not involve the decoder at all: it makes every high-frequency coefficient of the latent cost something. The two look alike
# and are not.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - write CHF and the soft penalty as losses, and say which coefficients of the latent each of them pulls on;
# - say what drawing the cut ratio anew in every step changes, and what "the same share" of two spectra means;
# - say why a low-pass alone need not bend a spectrum, where a change of grid does;
# - explain why the penalty needs absolute values, and how a network can lower it without changing any spectrum;
# - separate a change of a latent's scale from a change of its spectrum, in records of training runs.
# ```

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Chopping
#
# Let $\mathcal D$ be the DCT of blocks of $B\times B$ latent positions, $\mathbf M$ the mask {eq}`eq-mask` that keeps the low frequencies
# of a block, and $P = \mathcal D^{-1}\mathbf M\,\mathcal D$ the cut itself. Since the transform is orthonormal, $P$ is an orthogonal
# projection: $P^2 = P = P^\top$. Let $P'$ be the same cut in the picture, with blocks of $fB\times fB$ pixels, $f$ the compression. Then
# CHF trains encoder and decoder on
#
# $$
# \mathcal L_{\text{CHF}} = d\bigl(x, \mathrm{Dec}(z)\bigr) + d\bigl(P'x,\ \mathrm{Dec}(P z)\bigr)
# $$ (eq-chop-loss)
#
# (Eqs. 4 and 5; the paper adds what regularization there is besides, and gives the second term the weight one). With nothing cut, $P = P' =
# 1$ and the second term *is* the first. Put beside scale equivariance, the low-pass filter is another one, sharp and bound to blocks, and
# picture and latent keep their size. Which coefficients a mask keeps depends on the order: by zigzag the ratio counts coefficients, by axes
# it counts rows and columns, so that one and the same ratio is two different cuts.
#
# ### A ratio drawn anew in every step
#
# Where the text of the paper has fixed percentages, the authors' code draws the ratio uniformly from $(0, R)$ in every step. The
# coefficient of rank $k$ is then kept with probability
#
# $$
# \Pr(k\text{ is kept}) = \min\Bigl(1,\ \frac{1 - k/B^2}{R}\Bigr)
# $$ (eq-kept-probability)
#
# (up to rounding to whole coefficients). This is no longer one task but an order of importance: whatever rank $k$ holds, the decoder must
# be able to do without everything above (for ranks from $(1-R)B^2\approx 19$ on; those below are never cut). The construction is known for
# the units of a network as *nested dropout* (Rippel, Gelbart and Adams, ICML 2014); for a linear autoencoder it sorts the units as
# principal components are sorted. Here it sorts frequencies.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
largest = 0.7
draws = [largest * (i + 0.5) / 1000 for i in range(1000)]
drawn = torch.stack([spectrum.frequency_mask(B, r).double() for r in draws]).mean(0)
maps = {
    "zigzag, 70% cut": spectrum.frequency_mask(B, 0.7),
    "by axes, 70% cut": spectrum.frequency_mask(B, 0.7, "axes"),
    "zigzag, drawn from (0, 70%)": drawn,
}
how = {
    "limits": (0, 1),
    "label": "kept",
    "xlabel": "v",
    "ylabel": "u",
    "height": 300,
}
figures.panels(
    [figures.heatmap(kept, **how) for kept in maps.values()],
    list(maps),
    "Three maps over the 8 by 8 coefficients of a block. By zigzag a triangle of low frequencies is kept, by axes a small "
    "square, and with a drawn ratio the probability of being kept falls from one at low frequencies towards zero at the highest.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### The same share is not the same frequency
#
# A block of $fB\times fB$ pixels covers the same piece of the picture as a block of $B\times B$ latent positions, and the same ratio keeps
# the same share of both. It is tempting to say that both cuts remove the same detail. They do not. Index $u$ of a block of $B$ stands for
# $u/2B$ cycles per position. Keep the diagonals $u + v < T$ of the latent and $U + V < T'$ of the picture: on the axes (for $T\le B$, from
# about half cut on; shallower cuts take only the corner) the cuts lie at
#
# $$
# \begin{gathered}
# \nu_z = \frac{T}{2B}\ \frac{\text{cycles}}{\text{position}} = \frac{T}{2fB}\ \frac{\text{cycles}}{\text{pixel}},
# \qquad
# \nu_x = \frac{T'}{2fB}\ \frac{\text{cycles}}{\text{pixel}}, \\
# \text{and for equal shares}\quad \frac{T'}{fB}\approx\frac{T}{B} \quad\Rightarrow\quad \nu_x \approx f\,\nu_z .
# \end{gathered}
# $$ (eq-two-cuts)
#
# Equal shares cut the picture at a frequency $f$ times *higher*, in the scene, than the latent: each at the same part of its own band. That
# is in keeping with what an autoencoder does. A latent samples the scene $f$ times more coarsely, and has $C$ channels instead of 3 to make
# up for it. Scale equivariance does the same when it halves the sides of both.
#
# But it changes how Fig. 5 of the paper, and the pictures of {numref}`chap-cutting`, are to be read. For the *same frequencies of the
# scene* one has to keep the same pairs $(u, v)$ in both blocks: the same *number* of coefficients, a share $f^2$ times smaller. Call this
# cut of the picture $P''$. In the picture at the top, half cut, the photograph with the same frequencies of the scene is no better than
# what the untouched autoencoder paints; cut by the same share it is better by eleven decibels. For the most part the gulf is the factor $f$
# in {eq}`eq-two-cuts`.
#
# ### What CHF says about the spectrum
#
# Nothing, in the one case that can be solved on paper. Take the linear autoencoder of {numref}`chap-se`: each frequency $\nu$ is multiplied
# by a gain $g(\nu)$ and divided by it again, without compression. Let the cut be a filter, $m(\nu)$. Then
#
# $$
# \widehat{\mathrm{Dec}(Pz)}(\nu) = \frac{1}{g(\nu)}\,m(\nu)\,g(\nu)\,\hat x(\nu) = m(\nu)\,\hat x(\nu)
# = \widehat{P'x}(\nu):
# $$ (eq-chf-linear)
#
# CHF is satisfied by **every** gain. Scale equivariance is not, because there the decoder meets $g(\nu)$ and divides by $g(s\nu)$. In this
# model, then, it is the change of grid that bends a spectrum, and not the loss of high frequencies: CHF is scale equivariance without what
# makes it work there. It may still train a decoder to bear a cut. Whether real networks follow is a matter for the records below.
#
# ## Penalising
#
# The soft penalty is a sum of amplitudes, each with a weight that grows with frequency:
#
# $$
# \mathcal L_{\text{soft}} = \Bigl\langle\, W_{uv}\,\bigl|D_{uv}(z)\bigr| \,\Bigr\rangle,
# \qquad
# W_{uv} = \Bigl(\frac{u+v}{B}\Bigr)^{p},
# $$ (eq-soft)
#
# (Eqs. 6 and 7), added to the loss with the weight $\gamma$. $\langle\cdot\rangle$ is the mean over coefficients, blocks, channels and
# images, as in the authors' code, so that one $\gamma$ serves latents of every size; there $p = 2$ is the default. $D_{00}$ is free.
#
# ### Why absolute values
#
# Eq. 7 is printed with $D_{uv}$ and not $|D_{uv}|$. Taken literally it is no penalty: $\mathcal S(z) = \langle W_{uv} D_{uv}(z)\rangle$ is
# *linear* in $z$. Of a channel and its negative, which say the same, it rewards one and punishes the other. Coefficients of either sign
# cancel, up to the mean block, and a constant pattern $b$ in every block lowers it without limit.

# %%
x = data.stack(data.Photos(resolution=64, split="test", seed=seed), range(n_images))
with torch.no_grad():
    z = untouched.encode(x).mean  # (n, 16, 16, 16)
    y = untouched.decode(z)
weights = regularizers.penalty_weights(B, 2)
b = spectrum.block_idct(-weights.float()[None, None]).repeat(2, 2)
as_printed = {
    name: {
        "as printed": (spectrum.block_dct(latent, B) * weights).mean().item(),
        "absolute": regularizers.soft_penalty(latent, B).item(),
    }
    for name, latent in (("z", z), ("−z", -z), ("z + b", z + b))
}
results.show(as_printed, form="+.4f", index="penalty of")

# %% [markdown] slideshow={"slide_type": "slide"}
# ### A penalty that can be lowered by doing nothing
#
# With absolute values there is another trap. The penalty is homogeneous: for a constant $c > 0$
#
# $$
# \mathcal L_{\text{soft}}(z/c) = \mathcal L_{\text{soft}}(z)/c ,
# $$ (eq-scale-trap)
#
# while every ratio of amplitudes, and with it every profile of {numref}`chap-dct`, stays as it is. Nothing in the loss holds the scale of
# the latent: the encoder may write $z/c$ and the decoder multiply by $c$. It takes a change of three tensors of weights.


# %%
def rescaled(autoencoder, c: float):
    """The same autoencoder with latents c times smaller; an exact change of weights."""
    module = copy.deepcopy(autoencoder.module)
    with torch.no_grad():
        last, first = module.encoder.conv_out, module.decoder.conv_in
        channels = len(last.weight) // 2  # means, then log variances
        last.weight[:channels] /= c
        last.bias[:channels] /= c
        last.bias[channels:] -= 2 * math.log(c)
        first.weight *= c
    return autoencoders.Autoencoder(f"{autoencoder.name}/{c:g}", module)


# %%
small = rescaled(untouched, 4.0)
with torch.no_grad():
    z_small = small.encode(x).mean
    y_small = small.decode(z_small)
profiles = [spectrum.frequency_profile(latent, B) for latent in (z_small, z)]
penalties = [regularizers.soft_penalty(latent, B) for latent in (z, z_small)]
trap = {
    "largest difference of a pixel": (y_small - y).abs().max().item(),
    "of the profiles, decades": metrics.spectrum_distance(*profiles).item(),
    "penalty, times smaller": (penalties[0] / penalties[1]).item(),
}
results.show({"latents 4 times smaller": trap}, form=".1g")

# %% [markdown] slideshow={"slide_type": "slide"}
# And the denoiser would not even notice: latents are brought to unit variance before it sees them ({numref}`chap-latent-diffusion`).
# Whether training walks into the trap is a question for measurement. Write $\sigma$ for the root mean square of a latent. Then
#
# $$
# \mathcal L_{\text{soft}}(z) = \underbrace{\sigma(z)}_{\text{scale}}\cdot\underbrace{\mathcal L_{\text{soft}}\bigl(z/\sigma(z)\bigr)}_{\text{shape}} ,
# $$ (eq-scale-shape)
#
# and only the second factor is about frequencies. The same holds for energies: let $E_k$ be the mean energy of rank $k$. By Parseval's
# identity $\sigma^2 = \frac1{B^2}\sum_k E_k$, so that the change of any $E_k$, in dB, is the change of $\sigma^2$ plus the change of the
# rank's *share*. Both CHF and SE compare pictures with pictures, and are indifferent to $\sigma$.
#
# ## Where each of them pulls
#
# What a loss does to the encoder it does through its gradient at the latent. Three lines of algebra:
#
# $$
# \begin{aligned}
# \nabla_z\, d\bigl(P'x, \mathrm{Dec}(Pz)\bigr) &= P^\top g = P\,g, \\
# \nabla_z\, d\bigl(\tilde x, \mathrm{Dec}(Sz)\bigr) &= S^\top g, \\
# \frac{\partial\mathcal L_{\text{soft}}}{\partial D_{uv}} &= \frac{W_{uv}}{n}\operatorname{sign} D_{uv},
# \end{aligned}
# $$ (eq-gradients)
#
# with $g$ the gradient at the decoder's input, $S$ the downsampling of scale equivariance and $n$ the number of latent values. **CHF exerts
# no pull at all on the coefficients that it cuts.** It makes the low ones sufficient for the low-passed picture, and the decoder content
# with them; if the high ones shrink, it is because the encoder's weights, which all frequencies share, have changed, or because
# reconstruction needs them less. The penalty is the opposite: it pulls on every coefficient but $D_{00}$, with a force that depends on its
# place and not on how large it is. Large coefficients yield by a fixed amount and small ones go to zero, as under an $\ell_1$ norm; and it
# does not ask what the coefficient was good for.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
leaf = z.clone().requires_grad_()
decode = untouched.decode
losses = {
    "reconstruction": regularizers.mse(x, decode(leaf)),
    "SE ×2 (α = 0.25)": 0.25 * regularizers.scale_equivariance(x, leaf, decode, 2),
    "CHF, 50% cut": regularizers.chop(x, leaf, decode, 0.5, B),
    "soft (γ = 0.1)": 0.1 * regularizers.soft_penalty(leaf, B),
}
pulls = {}
for name, loss in losses.items():
    (gradient,) = torch.autograd.grad(loss, leaf)
    d = spectrum.block_dct(gradient * leaf.numel(), B).square().mean((0, 1, 2, 3))
    pulls[name] = d.flatten()[spectrum.zigzag_order(B)].sqrt()

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.profiles(
    {
        n: pull.where(pull > 1e-4 * pull.max(), torch.nan)
        for n, pull in pulls.items()
    },
    alt="Root mean square pull of four losses on the latent's coefficients, by zigzag rank. Reconstruction pulls on all ranks; CHF "
    "stops dead at the middle rank, where its cut lies; the soft penalty grows in steps, one for each diagonal.",
    ylabel="rms of n ∂L/∂D",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# The curves are those of {eq}`eq-gradients`, measured on held-out crops with the weights that the losses are used with. The curve of CHF
# ends where its mask does, that of the penalty climbs one step per diagonal.
#
# ## Decoders that have met cut latents
#
# {numref}`chap-cutting` ended on a suspicion: that a decoder fails on a cut latent because it has never seen one. Here is the test, in the
# picture at the top. Four autoencoders that began as the same one encode the photograph, lose the same share of *their own* latent, and
# decode. (Encoder and decoder have both been trained, so this tests the pair.) With half the frequencies kept CHF is the best of the four
# and SE the last; half a decibel lies between them.
#
# ```{admonition} In the paper
# :class: paper
#
# The last row of Fig. 5 of {cite:t}`skorokhodov2025improving` is FluxAE fine-tuned with CHF at a ratio of 50 %: it holds up where the
# untouched one falls apart. (Here the ratio was drawn from (0, 70 %).) Fig. 11 shows the same for SE, which the authors find less resilient
# than CHF, but noticeably more resilient than the untouched model. Neither figure has a row for plain fine-tuning.
# ```

# %% slideshow={"slide_type": "subslide"}
decoders_explorer(
    picture[0], {name: tuned[name] for name in ("plain", "SE", "CHF")}, B
)

# %% [markdown] slideshow={"slide_type": "slide"}
# Grey is the photograph with the frequencies of the scene that the cut leaves ($P''$); at 100% those for which a single latent channel has
# room. Uncut, the decoders lie above it, because $C$ channels hold more than one; with half or more cut they run along it. To call this
# *breaking* is too much: they show the frequencies that they are given. What CHF adds to plain fine-tuning is small: at most a quarter of a
# decibel where something is cut, and uncut it costs about as much.
#
# ## Over seeds: chopping
#
# From here on, the records: 400 steps of 8 crops of $64^2$ from `kl-f4c16`, three runs of each arm that differ in nothing but the seed
# (order, crops, noise), all measured on the same 64 held-out crops of $128^2$ (`sweeps/finetuning.yaml`; mean squared error alone). *CHF
# 30%* cuts this share in every step, *CHF drawn* a share drawn from (0, 70%). *Distance to RGB* is the mean distance between the latent's
# profile and that of photographs at latent size. Below each number stands the mean difference to plain fine-tuning, paired by seed, with
# its 95% interval (t).

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
CHOPPED = {
    **{"plain": "plain", "se": "SE", "chf0.3": "CHF 30%", "chf0.5": "CHF 50%"},
    **{"chf-drawn0.7": "CHF drawn", "chf0.3-axes": "CHF 30% by axes"},
    "chf0.7-axes": "CHF 70% by axes",
}
PENALISED = {"plain": "plain", "se": "SE"}
PENALISED |= {f"soft{g:g}": f"γ = {g:g}" for g in (0.01, 0.1, 1.0)}
PENALISED |= {f"se-soft{g:g}": f"SE + γ = {g:g}" for g in (0.05, 0.1)}
recorded = results.rename(results.frame("finetuning"), CHOPPED | PENALISED)
COLUMNS = results.FINETUNING | {"after_latent_std": ("std of z", ".2f")}
of = recorded[recorded.arm.isin(CHOPPED.values())]
results.table(of, COLUMNS, control="plain", before="before_")

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded by `sweeps/finetuning.yaml`.* Paired with plain fine-tuning, cuts of 30% lower the HF share, by 0.2 points by zigzag and by 0.4
# by axes. The other three arms with CHF *raise* it: half a cut and the drawn one by 0.3 points, 70% by axes by 2.6. SE lowers it by 4.7.
# The distance to the profile of photographs goes the same way; for half a cut its interval holds zero. PSNR falls in every arm, but for the
# drawn ratio, where the interval holds zero. So CHF moves the spectrum a little and to either side. By {eq}`eq-chf-linear` it need not move
# at all. The paper writes that CHF improves the spectrum (Sec. 3.3), and shows no spectrum of it.
#
# ```{admonition} In the paper
# :class: paper
#
# Table 6 trains a DiT-S/2 (200 000 iterations) on FluxAE fine-tuned with CHF, and reports FDD on 5 000 samples, lower is better:
#
# | cut | 90 % | 70 % | 30 % | 10 % |
# |---|---|---|---|---|
# | by axes | 912.4 | 915.6 | 929.7 | 916.5 |
# | zigzag | 935.5 | 932.8 | 962.9 | 930.1 |
#
# beside 992.0 for the untouched FluxAE and 929.6 for the best of eight KL weights. The table has no plain fine-tuning and no SE; Table 3,
# with the same two reference values, does: 968.3 without KL and 924.3. So by zigzag a cut of 30 % is about what fine-tuning alone gives, no
# ratio by zigzag is better than SE, and three of the four by axes are. Nothing is monotone in the ratio, and each is one run.
# ```
#
# ## Over seeds: penalising
#
# The penalty alone, on top of plain fine-tuning, and on top of SE.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
of = recorded[recorded.arm.isin(PENALISED.values())]
results.table(of, COLUMNS, control="plain", before="before_")

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded by `sweeps/finetuning.yaml`.* Every penalty, alone or on top of SE, brings the HF share and the distance to the profile of
# photographs below those of plain fine-tuning and of SE. Every one costs PSNR against plain fine-tuning, from 0.3 dB at γ = 0.01 to 2.8 dB
# at γ = 1, and each added to SE costs more than SE alone. The weakest deserves a second look: with γ = 0.01 the HF share is lower than with
# SE, and the loss of PSNR is smaller by 0.16 dB.
#
# ```{admonition} In the paper
# :class: paper
#
# Table 7 puts the penalty on top of **SE** (the rows are named FT-SE), with a DiT-B/2 on FluxAE; FID and FDD on 5 000 samples, rows in the
# paper's order:
#
# | γ | 0.001 | 0.025 | 0.01 | 0.05 | 0.1 |
# |---|---|---|---|---|---|
# | FID | 26.43 | 25.46 | 26.72 | 24.28 | 25.84 |
# | FDD | 497.14 | 477.61 | 487.06 | 458.11 | 461.97 |
#
# There is no row with $\gamma = 0$. SE alone with the same denoiser has FID 26.84 and FDD 558.36 in Table 9, and 25.87 and 551.27 in
# Appendix C.6. By FDD every strength is far better than that; by FID only 24.28 differs from both by more than they differ from each other.
# 0.025, printed between 0.001 and 0.01, may stand for 0.0025. The text recommends a small γ, such as 0.01. Eq. 7 prints a sum; if the table
# was made with it and not with the mean, its γ are not those used here, and γ = 1 lies outside its range in any case.
# ```
#
# ### Scale or shape?
#
# Now the question of the trap. For every arm the change of the energy of each rank, absolute and not relative to $D_{00}$, in dB. What all
# ranks have in common is a change of scale; only the tilt is a change of spectrum.


# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
def energies(record, when: str) -> torch.Tensor:
    """Mean energy of each rank, absolute: relative ones brought to the latent's scale."""
    relative = torch.tensor(record.series[f"{when}_energy"], dtype=torch.float64)
    moments = [record.metrics[f"{when}_latent_{m}"] for m in ("mean", "std")]
    # By Parseval's identity their mean is σ², the mean of z².
    return relative / relative.mean() * sum(m**2 for m in moments)


after, before = (
    torch.stack([energies(r, when) for r in recorded.record])  # (runs, B²)
    for when in ("after", "before")
)
change_db = 10 * (after / before).log10()
shown = ("plain", "SE", "CHF drawn", "γ = 0.01", "γ = 0.1", "γ = 1")
figures.profiles(
    {n: change_db[(recorded.arm == n).tolist()].mean(0) for n in shown},
    alt="Change of the energy of each zigzag rank in decibels by fine-tuning, mean over seeds. Plain fine-tuning and CHF stay near "
    "zero, SE falls a little towards high ranks. The curves of the soft penalty lie far below at every rank, the lower the "
    "stronger it is, and fall on towards high ranks.",
    ylabel="change of energy, dB",
    log_y=False,
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
for part, ranks in (("high", slice(B * B // 2, None)), ("scale", slice(None))):
    left = after[:, ranks].sum(1) / before[:, ranks].sum(1)
    recorded[part] = (10 * left.log10()).numpy()
recorded["shape"] = recorded.high - recorded.scale
parts = {"high": "high frequencies, dB", "scale": "= scale σ²", "shape": "+ shape"}
results.table(recorded, {part: (title, ".1f") for part, title in parts.items()})

# %% [markdown] slideshow={"slide_type": "slide"}
# *Figure and table: recorded by `sweeps/finetuning.yaml`.* The table splits the change of the energy in the upper half of the ranks. Of
# what the high frequencies lost in dB, shrinking is 53% with γ = 0.01, 64% with 0.1 and 70% with 1; on top of SE it is 57% with 0.05 and
# 61% with 0.1.
#
# The last column is nearly what is left for a denoiser, which is given latents of unit variance. It is a share of *all* energy. The HF
# share above leaves $D_{00}$ out, and by that measure $\gamma = 1$ is no better than 0.1: what grew is the part of $D_{00}$, which the
# penalty leaves free ({ref}`ex-scale-free`). In the arms with $\gamma$ the middle column lowers the penalty and, if the posterior's width
# shrinks along, changes nothing else. (CHF and SE move it by up to a decibel, too: a loss that is indifferent to $\sigma$ does not hold it
# either.) It also loosens the penalty's grip: by {eq}`eq-scale-shape` what weighs on the shape is $\gamma\sigma$ and not $\gamma$, so that
# one and the same $\gamma$ is another strength for every autoencoder, and a falling one while a latent shrinks.
#
# ## Cut curves
#
# The paper asks two things of a regularization (Sec. 3.3): that it suppress high frequencies in the latent, and that the decoder not
# amplify what is left of them. The first was measured above. The second is what the cut measures: the PSNR of pictures decoded from cut
# latents, as a difference to plain fine-tuning.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
CUTS = recorded.record[0].series["cut_ratio"]
for i, ratio in enumerate(CUTS):
    recorded[f"cut {ratio:.0%}"] = [
        r.series["cut_psnr_db"][i] for r in recorded.record
    ]
cut = {
    arm: [results.paired(recorded, f"cut {r:.0%}", arm, "plain") for r in CUTS]
    for arm in recorded.arm.unique()
    if arm != "plain"
}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
names = ("SE", "CHF 50%", "CHF drawn", "CHF 70% by axes", "γ = 0.01", "γ = 0.1")
figures.lines(
    {name: [pair.mean for pair in cut[name]] for name in names},
    x=[100 * r for r in CUTS],
    mode="lines+markers",
    xlabel="high frequencies cut, %",
    ylabel="PSNR against plain, dB",
    alt="PSNR of pictures decoded from cut latents minus that after plain fine-tuning, against the share cut, mean over seeds. CHF "
    "begins below zero and rises above it with the first cuts, by axes with the last only. SE and the arms with the penalty stay "
    "below zero.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded by `sweeps/finetuning.yaml`.* CHF pays up to a quarter of a decibel where nothing is cut, breaks even at about 15%, and gains as
# much at most beyond. By axes at 70%, which leaves four coefficients of 64, it loses nearly a decibel uncut and stays below plain up to 75%
# cut; only at 90%, near what it was trained for, is it ahead, and there it is the best. SE and every arm with a penalty, which changed the
# spectrum most, lie below plain fine-tuning at *every* cut. Here a steeper spectrum did not buy resilience; Fig. 8 of the paper finds the
# opposite for SE, and {numref}`chap-price` looks for the reason.
#
# ## What this leaves open
#
# - Whether any of it helps a denoiser. Tables 6 and 7 are about that; here is the half of them that an autoencoder has by itself. That a
#   spectrum closer to that of photographs is easier to learn is a hypothesis; {numref}`chap-pays` does not support it: with SE a
#   denoiser learns less early, and later that is undecided. Of CHF and the soft penalty it has two seeds, which decide nothing.
# - The runs are 400 steps of a small model with the mean squared error alone; the paper's are 10 000 with LPIPS beside it, which rewards
#   plausible detail where the squared error rewards none. Training with a cut of 90% was not run here.
# - Blocks are an odd thing to cut. Neighbouring blocks of a chopped picture disagree at their border, and CHF asks the decoder to paint
#   these borders. A radial cut without blocks has no such target.
#
# ## To take away
#
# - Chopping (CHF) trains the *decoder* to bear cuts. The spectrum hardly moves, because a low-pass in both spaces asks no gain to change.
# - A penalty on high frequencies can be lowered by shrinking the whole latent. Split every change into scale and shape.
# - "The same share" is another frequency in a picture than in its latent. Most of the gulf between the two is this.
# - A steeper spectrum did not buy resilience to cuts here.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} A penalty without the trap ★★★
# :label: ex-scale-free
#
# Change the soft penalty so that it does not depend on the scale of the latent. Show in one line of algebra that its gradient is then at a
# right angle to $z$, and check both with numbers. Is there another way to lower it that leaves what the denoiser sees as it was?
# ```
#
# ````{solution} ex-scale-free
# :class: dropdown
#
# ```python
# def scale_free(z):
#     return regularizers.soft_penalty(z, B) / z.square().mean().sqrt()
#
#
# for penalty in (regularizers.soft_penalty, scale_free):
#     leaf = z.clone().requires_grad_()
#     value = penalty(leaf)
#     (gradient,) = torch.autograd.grad(value, leaf)
#     print(f"L(z) {value.item():.4f}  L(z/4) {penalty(z / 4).item():.4f}")
#     print(f"<gradient, z> {(gradient * z).sum().item():+.4f}")
# print(f"raised by 3: {scale_free(z + 3).item():.4f}")
# ```
#
# For a function with $L(cz) = c^k L(z)$, the derivative by $c$ at $c = 1$ is $\langle\nabla L, z\rangle = k\,L(z)$: with $k = 1$ for the
# soft penalty, a pull towards zero as strong as the penalty itself; with $k = 0$ none. But $D_{00}$ is free and is in the denominator: the
# penalty sinks when all blocks of a channel are raised by one constant, which a normalisation per channel removes before the denoiser sees
# it. The same goes for making channels with much high frequency small and smooth ones large. Dividing by the standard deviation of each
# channel closes both.
# ````
#
# ```{exercise} One cut for all ★
# :label: ex-one-cut
#
# Which fixed ratio cuts on average as many coefficients as one drawn from $(0, R)$? How do the two tasks still differ?
# ```
#
# ````{solution} ex-one-cut
# :class: dropdown
#
# The mean of a uniform draw is $R/2$: 35 % for $R = 0.7$. {eq}`eq-kept-probability` gives the same, summed over the ranks: `drawn.mean()`
# is about `spectrum.kept_share(0.35, B)`. With the fixed cut, 42 ranks are always there and 22 never: among each, none comes before
# another, and the decoder has only to know two kinds of latents. The drawn one has an opinion on every pair of ranks above $(1-R)B^2
# \approx 19$, and meets latents cut anywhere.
# ````
#
# ## What this chapter claims
#
# Each sentence with a number, as a condition on what was computed or recorded. When one fails, somebody rewrites the sentence.


# %%
def against(metric: str, arm: str, control: str = "plain"):
    return results.paired(recorded, metric, arm, control)


# "Cuts of 30% lower the HF share, by 0.2 points by zigzag and by 0.4 by axes …"
change = {n: against("after_hf_share", n) for n in list(CHOPPED.values())[1:]}
points = {n: round(100 * p.mean, 1) for n, p in change.items()}
assert points == {
    "SE": -4.7, "CHF 30%": -0.2, "CHF 50%": 0.3, "CHF drawn": 0.3,
    "CHF 30% by axes": -0.4, "CHF 70% by axes": 2.6,
}  # fmt: skip
assert all(p.sign for p in change.values())
# "The distance … goes the same way; for half a cut its interval holds zero."
distance = {n: against("after_spectrum_distance_to_rgb", n).sign for n in change}
assert distance == {n: p.sign for n, p in change.items()} | {"CHF 50%": 0}
# "PSNR falls in every arm, but for the drawn ratio, where the interval holds zero."
falls = {n: against("after_psnr_db", n).sign for n in change}
assert falls == dict.fromkeys(change, -1) | {"CHF drawn": 0}

# %%
# "Every penalty … below those of plain fine-tuning and of SE", "costs PSNR"
penalties = list(PENALISED.values())[2:]
for n in penalties:
    for metric in ("after_hf_share", "after_spectrum_distance_to_rgb"):
        assert against(metric, n).sign == against(metric, n, "SE").sign == -1
    assert against("after_psnr_db", n).sign == -1
    assert "SE" not in n or against("after_psnr_db", n, "SE").sign == -1
db = {n: round(-against("after_psnr_db", n).mean, 1) for n in penalties}
assert (db["γ = 0.01"], db["γ = 1"]) == (0.3, 2.8)
smaller = against("after_psnr_db", "γ = 0.01", "SE")
assert (smaller.sign, round(smaller.mean, 2)) == (1, 0.16)
# "shrinking is 53% with γ = 0.01, 64% with 0.1 and 70% with 1; on top of SE …"
part = results.means(recorded, "scale") / results.means(recorded, "high")
assert [round(100 * part[n]) for n in penalties] == [53, 64, 70, 57, 61]

# %%
# "pays up to a quarter of a decibel …, breaks even at about 15%, and gains as much at most"
for n in ("CHF 30%", "CHF 50%", "CHF drawn", "CHF 30% by axes"):
    uncut, at_15, *deeper = cut[n]
    assert -0.25 < uncut.mean < 0
    assert abs(at_15.mean) < 0.11
    assert all(p.sign == 1 and p.mean < 0.25 for p in deeper)
# "by axes at 70% … stays below plain up to 75% cut; only at 90% … is it ahead, … the best"
deep = cut["CHF 70% by axes"]
assert [p.sign for p in deep] == [-1] * 6 + [1]
assert results.means(recorded, "cut 90%").idxmax() == "CHF 70% by axes"
assert round(deep[0].mean, 1) == -1.0
# "SE and every arm with a penalty … lie below plain fine-tuning at every cut"
assert all(p.sign == -1 for n in ("SE", *penalties) for p in cut[n])
# the picture at the top: "CHF is the best … and SE the last …; half a decibel", "eleven"
if models[0] == "kl-f4c16":
    half = {name: row[shares.index(0.5)] for name, row in psnr.items()}
    assert max(tuned, key=half.get) == "CHF"
    assert min(tuned, key=half.get) == "SE"
    assert 0.4 < half["CHF"] - half["SE"] < 0.7
    assert abs(half["same frequencies"] - half["untouched"]) < 0.2
    assert round(half["same share"] - half["untouched"]) == 11
    pairs = zip(psnr["CHF"], psnr["plain"], strict=True)
    assert all(-0.3 < of_chf - of_plain < 0.25 for of_chf, of_plain in pairs)

# %% [markdown]
# ## Check yourself

# %% jupyter={"source_hidden": true} tags=["hide-input"]
checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(1, 1, 4, 4)  # (1, 1, 8, 8)
of_checks = regularizers.soft_penalty(checks, 8).item()
pixel, profile, times = trap.values()
beyond = pulls["CHF, 50% cut"][B * B // 2 :].max() / pulls["CHF, 50% cut"].max()

# %% tags=["checkpoint"]
corner = [round(regularizers.penalty_weights(8, p)[7, 7].item(), 4) for p in (1, 2)]
print("rank 40 is kept with a drawn ratio:    ", round((1 - 40 / 64) / largest, 3))
print("W of the last coefficient, p = 1, 2:   ", corner)
print("penalty of a checkerboard:             ", round(of_checks, 4))
print("a cut coefficient feels no CHF:        ", beyond.item() < 1e-5)
print("the rescaled model paints the same:    ", pixel < 1e-3 and profile < 1e-3)
print("and its penalty is smaller by:         ", round(times, 2))
print("after half a cut, CHF beats plain:     ", psnr["CHF"][2] > psnr["plain"][2])

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
