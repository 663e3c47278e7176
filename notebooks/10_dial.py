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
# (chap-dial)=
# # The spectrum dial
#
# **In short.** A spectrum can be changed in front of a denoiser and undone behind it, at no cost in reconstruction. Turned upside
# down *inside* a token it changes no loss by a digit. A filter over the whole latent matters, and in the runs of seed 0 the best one
# depends on the length of training: flattened latents are 14% ahead of those as encoded after 600 steps, and 46% behind after 9 600.
# Seen from the latents such a filter is coloured noise, for which no autoencoder has to be touched.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
model: str = "kl-f4c16"  # shipped name or folder; its latents are 8 x 8 here
n_images: int = 1024
live_steps: int = 50
live_batch: int = 32
device: str = "cpu"  # where the live training runs: auto, cuda, mps or cpu
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from itertools import pairwise

import torch
from einops import rearrange
from torch.nn.functional import mse_loss

from diffusab_book import chapters, figures, results
from diffusab_book.explorers import dial
from diffusab_core import autoencoders, data, flow, metrics, spectrum, training
from diffusab_core.flow.gaussian import mean_least_loss, mismatch_loss
from diffusab_core.latents import TensorLatents
from diffusab_core.methods import denoising, reshaping
from diffusab_core.methods.reshaping import Reshaped, Reshaping, Spectrum
from diffusab_core.metrics.yardsticks import posterior_samples
from diffusab_core.spectrum import whole_dct, whole_idct

run = chapters.start(
    "10_dial", globals(), data="crops of 32² of the training photographs"
)
B, PATCH = 8, 2  # a latent is one block of 8 x 8; a token holds 2 x 2 of it

# %% jupyter={"source_hidden": true} tags=["hide-input"]
recorded = dial.complete(dial.read("dial_patch2"))  # what has every power
first = recorded[recorded.seed == 0].pivot(index="steps", columns="power")
dial.dial_explorer(recorded)

# %% [markdown]
# *Recorded.* Above, samples of a denoiser that was trained on latents whose energies were taken to the power $a$, beside those
# on latents as encoded after as many steps, from the same noise. Below, the {term}`gap`: how far samples lie from decoded real
# latents, at the best sampling shift of each run. The slider is the dial.
#
# The chapters before this one bent spectra by training autoencoders. That changes everything at once: what a latent says, how
# well it decodes, and how its energy is spread. Here only the last of the three is changed. The latents stay, the decoder stays,
# reconstruction stays to the last digit; between them and the denoiser stands a map that can be undone.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - give the same latents another spectrum, by signs and by a filter, and say what this leaves as it was;
# - say why a profile at latent resolution can be turned upside down without a denoiser noticing, and which profile it does notice;
# - write a filter as coloured noise, a weight of the loss and a change of coordinates, and train with coloured noise;
# - say why white is easiest for Gaussian latents, and why this does not settle the matter;
# - read the recorded doses, and say what they do not show yet.
# ```

# %% [markdown]
# ## The same latents, other signs
#
# Let $M$ multiply the normalised latent by signs, $+1$ or $-1$ at each position, the same for all channels. A network that is to
# answer $v(x, t)$ is given $Mx$ and its answer is multiplied by $M$ again,
#
# $$
# v(x, t) = M f(M x, t), \qquad M^\top M = 1, \quad M^2 = 1 .
# $$ (eq-dial-mask)
#
# White noise times signs is white noise. So the noised latent $M x_t = (1-t) Mx + t\, M\varepsilon$ has the law of a noised $Mx$,
# and lengths are kept: **to each $f$ belongs an $f'$ with the same loss on the masked latents, sample by sample.** The least loss
# is the same, so is the error of any sampler, and the decoder sees what it saw before. Only the arrangement over frequencies is
# another, as multiplying by a pattern moves energy to the frequencies of the pattern. What differs in training can come from
# nothing else than what the network finds easy.

# %%
crops = data.Photos(32, "train", seed=0, length=n_images)
x = data.stack(crops, range(n_images))  # (n, 3, 32, 32)
autoencoder = autoencoders.load(model)
with torch.no_grad():
    posteriors = [autoencoder.encode(batch) for batch in x.split(64)]
latents = TensorLatents(
    *(torch.cat([getattr(p, k) for p in posteriors]) for k in ("mean", "std"))
)
z = latents.normalise(posterior_samples(latents, range(n_images)))  # (n, 16, 8, 8)


@torch.no_grad()
def decode(normalised):
    return autoencoder.decode(latents.denormalise(normalised)).clamp(-1, 1)


# %%
def describe(coordinates) -> dict[str, float]:
    """What a network is given, by what moves energy about and what does not."""
    seen = coordinates.enter(z)
    tokens = rearrange(seen, "n c (h p) (w q) -> n (c p q) h w", p=PATCH, q=PATCH)
    by_rank = spectrum.frequency_profile(seen, B, "energy")
    by_token = spectrum.frequency_profile(tokens, B // PATCH, "energy")
    alone = whole_dct(seen).double().var(0)  # of each coefficient, (16, 8, 8)
    whole = torch.linalg.eigvalsh(torch.cov(seen.double().flatten(1).T))
    back = decode(coordinates.leave(seen[:64]))
    return {
        "share in ranks 32 to 63": spectrum.high_frequency_share(by_rank),
        "share in upper ranks of tokens": spectrum.high_frequency_share(by_token),
        "least loss by the spectrum": mean_least_loss(alone.flatten()).mean(),
        "least loss, linear": mean_least_loss(whole.clamp_min(1e-6)).mean(),
        "PSNR, dB": metrics.psnr(back, x[:64]).mean(),
    }


# %% jupyter={"source_hidden": true} tags=["hide-input"]
signs = {
    mask: Spectrum(Reshaping(mask=mask), latents.shape, 1, None).last
    for mask in reshaping.MASKS
}
by_mask = {
    mask: {k: float(v) for k, v in describe(coordinates).items()}
    for mask, coordinates in signs.items()
}
figures.images(
    [dial.enlarge(0.8 * reshaping.make_mask(mask, B, B)) for mask in signs],
    list(signs),
    "Five patterns of eight by eight signs: none, rows in turn, a checkerboard of single positions, a checkerboard of blocks "
    "of two by two, and random signs.",
    height=190,
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
results.show(by_mask, {"PSNR, dB": ".2f"} | dict.fromkeys(by_mask["none"], ".3f"))

# %% [markdown]
# *Measured here, on normalised posterior samples of the crops.* The first column is the summary of a profile that earlier chapters
# used. Signs take it from a fifth to more than four fifths. The least loss that the spectrum predicts, {eq}`eq-pays-spectrum`, is
# another one in each row. That of the best *linear* predictor, which knows the whole covariance, {eq}`eq-gaussian-loss`, is the same
# in all, and so is the reconstruction: nothing has been made harder, it has been moved. (The covariance is that of these crops,
# which are hardly more than it has directions, so the number is too low. That all rows agree does not depend on it.)
#
# The second column asks the same of *tokens*. A transformer with patches of 2 × 2 takes four latent pixels and all their channels
# as one vector of 64 numbers, and has 4 × 4 of them. What lies inside a token is a matter of its coordinates; what differs
# between tokens is a frequency that it sees. Rows and checkerboard change the first column alone, blocks and random signs both.
#
# ## Inside a token nothing is seen
#
# If the signs $s$ within a token are the same for all tokens, they can be put into weights. The first layer, with weights $W$,
# and the last, with weights $V$ and bias $b$, touch a token's numbers and nothing else does:
#
# $$
# \begin{gathered}
# W' = W \operatorname{diag}(s), \quad V' = \operatorname{diag}(s)\, V, \quad b' = s\, b \\
# \Longrightarrow\quad M f'(M x, t) = f(x, t) .
# \end{gathered}
# $$ (eq-dial-absorb)
#
# Xavier's initial weights are as likely with one sign as with the other. AdamW treats each number by itself, and a sign changes
# neither its steps nor the norm of a gradient. So not only the network is the same under another name, the whole training is.
# Train three: on latents as encoded, on latents under a checkerboard with weights {eq}`eq-dial-absorb`, and under blocks, which no
# weight of a token can absorb.


# %%
def learn(mask: str, absorb: bool = False):
    """A denoiser trained on masked latents; its losses."""
    settings = denoising.Denoising(
        f"DiT-XXS/{PATCH}",
        steps=live_steps,
        batch_size=live_batch,
        learning_rate=1e-3,
        self_conditioning=0.0,
        seed=seed,
        device=run.device,
        reshaping=Reshaping(mask=mask),
    )
    network = denoising.build(settings, latents)
    if absorb:
        reshaping.absorb_mask(network, reshaping.make_mask(mask, B, B))
    loss = denoising.loss_of(network, latents, settings)
    trained = training.train(
        network, loss, settings.training, log_every=1, progress=False
    )
    return network.cpu(), torch.tensor(trained.series["loss"])


# %%
network, plain = learn("none")
apart = {
    "checkerboard": learn("checkerboard", absorb=True)[1] / plain - 1,
    "blocks": learn("blocks")[1] / plain - 1,
}

# %% jupyter={"source_hidden": true} tags=["hide-input"]
run.metrics |= {
    f"{k}: losses apart": v.abs().max().item() for k, v in apart.items()
}
figures.lines(
    {mask: 100 * relative for mask, relative in apart.items()},
    x=list(range(1, live_steps + 1)),
    xlabel="training step",
    ylabel="loss over that as encoded, %",
    alt="Difference of the training loss from that on latents as encoded, for a checkerboard and for blocks of signs. The "
    "checkerboard's is zero at every step, that of the blocks is not.",
)

# %% [markdown]
# *Measured here: the same crops, noise and times at each step, and no averaging.* The losses under a checkerboard are those on
# latents as encoded, step by step, to rounding. **A denoiser with patches of 2 × 2 is blind to a profile turned upside down.** Under
# blocks the training is another one. Whether it is a better or a worse one, so few steps do not tell; `sweeps/masks.yaml` asks it of
# samples, and {numref}`chap-believe` has the verdict as soon as its runs are in.
#
# So a profile at latent resolution, the instrument of {numref}`chap-dct`, is not the cause of anything by itself. One denoiser has
# just trained alike on latents with a fifth and with more than four fifths of their energy in the upper ranks. What it can notice
# is the profile over tokens. {ref}`ex-dial-unshuffle` says it once more without any signs.

# %% [markdown]
# ## The dial
#
# Signs shuffle energy. A filter sets it. Let $\lambda_k$ be the mean energy of the normalised latents at each frequency $k$ of
# the DCT over the whole latent, over channels and images, and give each frequency one gain, the same for all channels,
#
# $$
# u = G x , \qquad g_k^2 = \lambda_k^{a-1}\; \frac{\sum_j \lambda_j}{\sum_j \lambda_j^{\,a}}, \qquad
# g_k^2 \lambda_k \propto \lambda_k^{\,a} .
# $$ (eq-dial-gains)
#
# At $a = 1$ latents are as encoded, at $a = 0$ they are white, above 1 they are steeper than the encoder made them. The denoiser is
# trained on $u$ with white noise; what it generates goes through $G^{-1}$ before the decoder. As with signs, reconstruction does
# not change. Unlike signs, $G$ does change lengths: an error of the network at frequency $k$ arrives at the decoder divided by
# $g_k$, {eq}`eq-pays-error`, and losses no longer compare.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
energies = reshaping.measure_energies(latents)  # (8, 8)
filters = {
    a: Spectrum(Reshaping(power=a), latents.shape, 1, energies).last
    for a in (0.0, 0.5, 1.0, 1.25, 1.5)
}
by_power = {
    f"{a:g}": {k: float(v) for k, v in describe(coordinates).items()}
    for a, coordinates in filters.items()
}
results.show(
    by_power, {"PSNR, dB": ".2f"} | dict.fromkeys(by_power["1"], ".3f"), index="a"
)

# %% [markdown]
# *Measured here.* Now both columns move, and both least losses: the steeper, the lower. {numref}`chap-pays` shows that this says
# nothing about samples. Where on this axis do trained autoencoders lie? The slope of $\log \lambda_k$ of one autoencoder over that of
# another is the power that would lead from the second to the first, if energies were all that differs:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
few = x[: max(64, n_images // 4)]


@torch.no_grad()
def log_energies(name: str) -> torch.Tensor:
    posterior = autoencoders.load(name).encode(few)
    found = reshaping.measure_energies(TensorLatents(posterior.mean, posterior.std))
    return found.log().flatten()


def slope(name: str, over: str) -> float:
    both = torch.stack([log_energies(name), log_energies(over)])
    covariance = torch.cov(both)
    return (covariance[0, 1] / covariance[1, 1]).item()


trained_powers = {
    "with scale equivariance": slope("kl-f4c16-se", "kl-f4c16-ft"),
    "with cut latents": slope("kl-f4c16-chf", "kl-f4c16-ft"),
    "with KL weight 10⁻²": slope("kl-f4c16-beta1e-2", "kl-f4c16-beta0"),
    "with KL weight 10⁻¹": slope("kl-f4c16-beta1e-1", "kl-f4c16-beta0"),
}
results.show(trained_powers, ".2f", index="from the same without")

# %% [markdown]
# *Measured here, one autoencoder each.* Scale equivariance turns the dial up, a strong KL term turns it down. Each does other things
# besides, which the dial does not. (The protocol of `sweeps/dial_patch2.yaml`, written before, has 0.63 and 0.8 for the two KL
# weights. Measured like this, both lie lower.) Turn the dial to see what a network is given:

# %%
dial.filter_explorer(latents, decode)

# %% [markdown]
# A signal below the blue line is drowned. With $a = 0$ all ranks drown at once; the larger $a$, the more of them are gone while
# the coarse ones stand. The third picture shows the same in the latents' own coordinates. Undone and decoded, the
# noise of a flat dial is as coarse and as fine as the latents are, that of a steep one is fine grain.
#
# ## What is recorded
#
# `sweeps/dial_patch2.yaml` trains DiT-XXS/2 with batches of 32 at four powers and three lengths for three seeds; predictions and
# metric were written down before the first run. The gap is judged by 1 024 samples of 20 steps at six sampling shifts. Shown here is
# each length and seed of which all four powers are in.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
results.cross(recorded, "best_gap_offline", "power", "steps", 1.0)

# %% [markdown]
# *Gap at the best sampling shift by the power $a$ (rows) and the training steps (columns); below it the difference to $a = 1$ of the
# same seed. Several seeds are shown as mean ± standard deviation, with a 95% interval of the paired differences; a single one has
# none.*
#
# **In the runs of seed 0 the best spectrum depends on the length of training.** After 600 steps latents flattened to 0.5 have a gap
# 14% below that of latents as encoded, and steeper ones lie 24% and 52% above. After 2 400 steps latents as encoded
# are best, flattened ones miss by 46% more, and so they do after 9 600 (24% and 37% in the runs of seed 1). So flat and steep
# change places: 0.5 is 31% ahead of 1.25 after 600 steps and 31% behind after 9 600. We had predicted this, and that 1.25 passes the
# latents as encoded by then. It catches up, from 24% over 14% to 12%. In the runs of seed 1 it ends 3% below, and 1.5 is best, 8%
# below: two seeds cannot tell.
#
# The second features in the records, FD-Lite0-P64, see much less: after 600 steps of seed 0 all arms lie within 2% of $a = 1$, after
# 9 600 the others lie 3% to 9% above it (1% to 7% in the runs of seed 1).
#
# The distance to photographs, which is what a user gets, at the same shifts:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
results.cross(recorded, "best_frechet_offline", "power", "steps", 1.0)

# %% [markdown]
# *Distance to photographs, at the shift that is best for the gap.* It turns with the gap. In the runs of seed 0 flattened latents
# bring samples 19% nearer after 600 steps and 7% farther after 9 600 (12% in the run of seed 1). All arms have the same decoder and
# its blur, so late in training they differ by less.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
dial.crossing(recorded)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
dial.optimum_map({"patch 2": recorded}, marks={"as encoded": 1.0})

# %% [markdown]
# *Recorded.* Above, the gap over that of latents as encoded, in percent, below zero where a spectrum is easier to learn. Below,
# the power with the smallest gap, by a parabola through the best one and its neighbours; open symbols mean that the best of the
# powers tried was the first or the last, so that the optimum may lie beyond.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
over_shift = {
    f"a = {a:g}": (of.series["shift"], of.series["shift_gap_offline"])
    for a, of in first["record"].loc[9600].items()
}
figures.lines(
    over_shift,
    mode="lines+markers",
    xlabel="sampling shift",
    ylabel="gap",
    log_x=True,
    alt="Gap against the time shift of the sampler on a logarithmic axis, one line for each power of the spectrum, of seed "
    "0 after 9 600 steps. All are lowest in the middle of the range.",
)

# %% [markdown]
# *Recorded, seed 0, after 9 600 steps.* A filter moves the signal of each rank against the noise, so arms may want other
# shifts of the sampler. At a shift of 1 flattened latents look second best, at the best shift of each they are last: a comparison at
# one shift compares samplers, too. After 600 steps all arms are best at 32, the largest shift that was tried.
#
# ## The same thing, done to the noise
#
# Write the filtered training in the latents' own coordinates. With $u = Gx$, white $\varepsilon$ and the network's answer $f(u_t, t)$,
#
# $$
# \begin{gathered}
# \bigl\| f(u_t, t) - (\varepsilon - u) \bigr\|^2 = \bigl\| G\,\bigl( v(x_t, t) - (\varepsilon' - x) \bigr) \bigr\|^2 , \\
# \varepsilon' = G^{-1}\varepsilon, \quad x_t = (1-t)\,x + t\,\varepsilon', \quad v(x, t) = G^{-1} f(G x, t) .
# \end{gathered}
# $$ (eq-dial-identity)
#
# **The filter is flow matching on the latents as they are, with coloured noise.** It does three things that can be taken apart:
# the noise path has the covariance $G^{-2}$ (N), the loss is measured in its metric (L), the network sees and answers in other
# coordinates (C). N and L together need no filter in front of the network at all. Here are both sides of {eq}`eq-dial-identity` with
# the network trained above, written out and as the package computes them.

# %%
A = 0.5
gains = reshaping.filter_gains(energies, A).float()
settings = denoising.Denoising(
    f"DiT-XXS/{PATCH}",
    batch_size=live_batch,
    self_conditioning=0.0,
    seed=seed,
    reshaping=Reshaping(power=A),
)


def through(v, g):
    """A tensor (N, C, 8, 8) with each frequency times its gain."""
    return whole_idct(whole_dct(v) * g)


# %%
@torch.no_grad()
def both_sides():
    at, noise, t, _, _ = denoising.draw_inputs(latents, settings, step=0)
    u = through(at, gains)
    filtered = mse_loss(network(flow.interpolate(u, noise, t), t), noise - u)
    coloured = through(noise, 1 / gains)
    v = network(through(flow.interpolate(at, coloured, t), gains), t)
    v = through(v, 1 / gains)
    in_place = through(v - (coloured - at), gains).square().mean()
    package = denoising.loss_of(network, latents, settings)(0, None)
    return filtered.item(), in_place.item(), package.item()


# %%
sides = both_sides()
turned = Reshaped(network, filters[A]).eval()
sampling = denoising.Sampling(16, steps=8, seed=seed)
(_, own, _), (_, behind, _) = (
    next(denoising.sample_batches(net, sampling, latents.shape))
    for net in (turned, network.eval())
)
missed = (own - through(behind, 1 / gains)).abs().max().item()
names = ("filtered latents, white noise", "latents, coloured noise", "the package")
results.show(dict(zip(names, sides, strict=True)), ".6f", index="loss")

# %% [markdown]
# The same number three times, and samples agree too, once those of the left side have been through $G^{-1}$.
#
# So what the remedies of {numref}`chap-se` to {numref}`chap-price` do to a spectrum by training an autoencoder can be had for any
# cached latents, of any autoencoder, by drawing other noise. Reconstruction is not touched, and the power may change *during* the
# training, which no autoencoder can:
#
# ```bash
# diffusab train latents/mine runs/mine --denoiser DiT-S/2 --noise-spectrum 0.75
# diffusab train latents/mine runs/moved --denoiser DiT-S/2 --noise-spectrum 0.5:1.25
# diffusab sample runs/mine samples/mine
# ```
#
# The first trains with N and L at $a = 0.75$ throughout, the second moves from flat to steep over the first 60% of the steps, and
# the third knows the noise from the checkpoint. Whether it helps is what `sweeps/dial_noise.yaml` asks; {numref}`chap-believe` has
# the verdict as soon as its runs are in.

# %% [markdown]
# ## For Gaussian latents white is easiest
#
# What would a theory predict? For Gaussian latents {numref}`chap-autoregression` has the answer: the best velocity multiplies each
# frequency by its own function of time, {eq}`eq-gain-of-rank`. At $a = 0$ these functions are one and the same. A denoiser that has
# learned this single scalar has learned everything; at any other $a$ it lacks
#
# $$
# \delta_k(a) = \mathbb E_t\, \bigl(a_t(1) - a_t(\lambda'_k)\bigr)^2 \bigl((1-t)^2 \lambda'_k + t^2\bigr), \qquad
# \lambda'_k = g_k^2 \lambda_k ,
# $$ (eq-dial-lacks)
#
# where $a_t(\lambda)$ is the factor of {eq}`eq-gain-of-rank` for the variance $\lambda$.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
powers = [i / 20 for i in range(31)]
bent = [reshaping.filter_gains(energies, a).square() * energies for a in powers]
one = torch.ones(B * B, dtype=torch.float64)
unit = [e.flatten() / e.mean() for e in bent]
gaussian = {
    "least loss": [mean_least_loss(e).mean().item() for e in unit],
    "lacking with one scalar": [mismatch_loss(one, e).mean().item() for e in unit],
}
figures.lines(
    gaussian,
    x=powers,
    xlabel="power a of the spectrum",
    ylabel="loss per number",
    alt="For Gaussian latents, against the power of the spectrum: the least loss falls as the spectrum becomes steeper, what a "
    "denoiser lacks that treats all frequencies alike rises from zero at power zero.",
)

# %% [markdown]
# *Computed here, from the energies of the crops.* The two lines run against each other. The least loss is highest where there
# is nothing to learn. If flat real latents are learned worse, then it is by what is not Gaussian in them, or by what the network can
# do: its tokens, its width, its bias towards smooth answers. The records fit a network that learns the Gaussian part first, where
# flat is ahead, and the rest later. `sweeps/dial_controls.yaml` puts Gaussian latents of the same covariance to the test.
#
# It is no contradiction that a flat spectrum may hurt. A white latent asks a network to be as exact at high frequencies as at
# low ones; whether that is worth its capacity depends on the stake, on what the *decoder* makes of an error there. In these records
# exchanging ranks 32 to 63 of real latents between images costs a gap of 0.83, about as much as all that the denoiser on latents as
# encoded misses after 9 600 steps (0.68 and 0.86, seeds 0 and 1). A picture does not lie in its coarse ranks alone.

# %% [markdown]
# ## What others found
#
# ```{admonition} In other papers
# :class: paper
#
# *Read as abstracts, the blog post in its beginning.* **Order is not needed.** {cite:t}`falck2025fourier` noise all frequencies at the same
# rate, which is $a = 0$ in the coordinates of {eq}`eq-dial-identity`: on par with white noise on standard image benchmarks, better
# where high frequencies are what matters. The blog post {cite}`falck2025diffusion` has it in its title.
#
# **Flatter latents.** {cite:t}`ning2026spectrum` say that latents should have a *flattened* power law, matched to that of images, and
# a decoder that keeps frequencies apart; samples on CelebA and ImageNet improve. **Steeper latents**: {cite:t}`skorokhodov2025improving`,
# {numref}`chap-se`.
#
# **Coloured noise.** {cite:t}`scimeca2025learning` give the forward noise a covariance that is diagonal in frequency and beat white
# noise on several data sets. {cite:t}`mao2026flicker` take noise with a power law and need 3.33 times fewer sampling steps on
# CIFAR-10. {cite:t}`davidson2026colored` leave the training alone and colour what a stochastic sampler injects: FID 8.26 → 6.27 for
# SiT-XL/2 without guidance.
#
# **Tokens.** {cite:t}`fan2026show` low-pass the noised image in front of the patches, the less the nearer it is to data. They name
# where it helps: coarse patches, and high frequencies that are mostly noise.
#
# **Many properties at once.** {cite:t}`zhong2026diffusing` train many tokenizers and several denoisers and ask which property of a latent
# predicts samples; a *velocity irreducible variance* is among the most stable.
# ```
#
# Flatter and steeper are both recommended, each with samples to show for it. The papers differ in data, autoencoder, patch and length
# of training, and in what else their regularizer does to the latent. The dial holds all of that fixed but one.

# %% [markdown]
# ## What is open
#
# - **Length.** The papers train for 400 000 steps, we for 9 600 at most. Whether steeper latents pass those as encoded is open.
# - **Seeds.** Three are planned for each arm, five where an interval straddles its margin. {numref}`chap-believe` judges each of our
#   predictions about the dial, as far as its runs are in.
# - **Patch 1, other networks, Gaussian surrogates, N, L and C alone** have their sweeps, and are written about once they are in.
#
# ```bash
# diffusab sweep dial_patch2 --jobs 2      # then dial_noise, dial_parts, dial_patch1, masks
# ```

# %% [markdown]
# ## Exercises
#
# ```{exercise} Who is blind to what
# :label: ex-dial-blind
#
# For patches of 1, 2 and 4: which of the masks can be put into the weights of the first and the last layer? Decide first, then let
# the package try.
# ```
#
# ````{solution} ex-dial-blind
# :class: dropdown
#
# A mask can be absorbed if it repeats with the period of the patch. At patch 1 none but the trivial one does; at patch 2 rows and
# checkerboard; at patch 4 the blocks, too, whose period is four. Random signs never.
#
# ```python
# from diffusab_core import denoisers
# from diffusab_core.files import SettingsError
#
# for patch in (1, 2, 4):
#     net = denoisers.build(f"DiT-XXS/{patch}", in_channels=16, input_size=8)
#     for mask in reshaping.MASKS:
#         try:
#             reshaping.absorb_mask(net, reshaping.make_mask(mask, 8, 8))
#             print(patch, mask)
#         except SettingsError:
#             pass
# ```
# ````
#
# ```{exercise} One problem, two profiles
# :label: ex-dial-unshuffle
#
# Turn the f4c16 latents into f8c64 ones without training anything: the four pixels of each 2 × 2 patch become channels. Show that
# patch 2 on the first and patch 1 on the second give a transformer the same tokens, and compare the two profiles.
# ```
#
# ````{solution} ex-dial-unshuffle
# :class: dropdown
#
# ```python
# from diffusab_core.denoisers.parts import patchify
#
# unshuffled = rearrange(z, "n c (h p) (w q) -> n (p q c) h w", p=2, q=2)
# print(torch.equal(patchify(z, 2), patchify(unshuffled, 1)))
# for latent, block in ((z, 8), (unshuffled, 4)):
#     energy = spectrum.frequency_profile(latent, block, "energy")
#     print(spectrum.high_frequency_share(energy))
# ```
#
# The tokens are equal bit by bit, so the two are one problem. The shares are 0.19 and 0.35: as autoencoders they would be
# told that they differ in diffusability.
# ````

# %% [markdown]
# ## What this chapter claims
#
# Each sentence with a number, as a condition on what was computed or recorded. When one fails, somebody rewrites the sentence.

# %%
# "from a fifth to more than four fifths"; "the same in all rows, and so is the reconstruction"
columns = {name: [of[name] for of in by_mask.values()] for name in by_mask["none"]}
for name in ("least loss, linear", "PSNR, dB"):
    assert max(columns[name]) - min(columns[name]) < 1e-3
# "Rows and checkerboard change the first column alone, blocks and random signs both"
share, of_tokens = (
    columns["share in ranks 32 to 63"],
    columns["share in upper ranks of tokens"],
)
assert min(share[1:]) > 1.5 * share[0]
assert (
    max(of_tokens[:3]) - min(of_tokens[:3])
    < 1e-4
    < min(of_tokens[3:]) - of_tokens[0]
)
if size == "laptop":
    assert 0.15 < share[0] < 0.25
    assert share[2] > 0.8
    assert len({round(v, 2) for v in columns["least loss by the spectrum"]}) == 5
# "step by step, to rounding"
assert apart["checkerboard"].abs().max() < 1e-4
if size == "laptop":
    assert 0.002 < apart["blocks"].abs().max() < 0.1

# %%
# "both columns move, and both least losses: the steeper, the lower"
for before, after in pairwise(by_power.values()):
    assert all(after[name] < before[name] for name in list(after)[:4])
    assert abs(after["PSNR, dB"] - before["PSNR, dB"]) < 1e-2
# "turns the dial up, a strong KL term turns it down"
assert trained_powers["with scale equivariance"] > 1.05
assert trained_powers["with KL weight 10⁻¹"] < 0.95
# "has 0.63 and 0.8 ... both lie lower"
if size == "laptop":
    assert trained_powers["with KL weight 10⁻²"] < 0.63
    assert trained_powers["with KL weight 10⁻¹"] < 0.8
# "The same number three times, and samples agree too"
agree = max(sides) - min(sides) < 1e-4 * min(sides)
assert agree
assert missed < 1e-2

# %%
# seed 0: "14% ahead ... 46% behind", "24% and 52% above", "from 24% over 14% to 12%", "31% ahead of 1.25 ... 31% behind"


def over(metric: str, steps: int, control: float = 1.0) -> list[int]:
    """Each power over the control, in percent."""
    ratio = first[metric].loc[steps] / first[metric][control][steps]
    return [round(100 * (value - 1)) for value in ratio]


assert over("best_gap_offline", 600) == [-14, 0, 24, 52]
assert over("best_gap_offline", 2400)[:3] == [46, 0, 14]
assert over("best_gap_offline", 9600) == [46, 0, 12, 22]
flat_over_steep = [over("best_gap_offline", n, 1.25)[0] for n in (600, 9600)]
assert flat_over_steep == [-31, 31]

# %%
# seed 1: "24% and 37%", "ends 3% below, and 1.5 is best, 8% below", "1% to 7%", "12% in the run of seed 1"
second = dial.read("dial_patch2").query("seed == 1").set_index(["steps", "power"])
other = [a for a in first["record"] if a != 1.0]


def over_second(metric: str, steps: int) -> list[int]:
    """Each other power over 1, in percent."""
    of = second[metric].loc[steps]
    return [round(100 * (of[a] / of[1.0] - 1)) for a in other]


assert over_second("best_gap_offline", 2400)[0] == 24
assert over_second("best_gap_offline", 9600) == [37, -3, -8]
assert over_second("best_gap_lite0p64", 9600) == [1, 3, 7]
assert over_second("best_frechet_offline", 9600)[0] == 12

# %%
# "within 2%", "3% to 9% above it"; "19% nearer ... 7% farther"
assert max(map(abs, over("best_gap_lite0p64", 600))) == 2
assert over("best_gap_lite0p64", 9600) == [5, 0, 3, 9]
assert [over("best_frechet_offline", steps)[0] for steps in (600, 9600)] == [-19, 7]
# "second best ... last", "all arms are best at 32"
assert sorted(over("gap_offline", 9600)).index(over("gap_offline", 9600)[0]) == 1
assert set(first["best_shift"].loc[600]) == {32}

# %%
# "costs a gap of 0.83 ... (0.68 and 0.86, seeds 0 and 1)"
as_encoded = first["record"][1.0][9600]
ruler, missing = (
    as_encoded.series["ruler_permuted"][-1],
    as_encoded.metrics["best_gap_offline"],
)
assert [round(ruler, 2), round(missing, 2)] == [0.83, 0.68]
assert round(second["best_gap_offline"][9600, 1.0], 2) == 0.86

# %%
# "run against each other", "rises from zero"
assert gaussian["least loss"] == sorted(gaussian["least loss"], reverse=True)
assert gaussian["lacking with one scalar"] == sorted(
    gaussian["lacking with one scalar"]
)

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
toy = torch.tensor([[4.0, 1.0], [1.0, 0.25]], dtype=torch.float64)
halved = (reshaping.filter_gains(toy, 0.5).square() * toy).flatten().tolist()
plan = reshaping.parse_noise_spectrum("0.5:1.25:0.4")
along = [plan.power_at(step, 10_000) for step in (0, 2_000, 4_000, 9_999)]
print("energies 4, 1, 1, 1/4 at a = 1/2:       ", [round(v, 4) for v in halved])
print("their sum stays:                        ", round(sum(halved), 4))
print("the schedule 0.5:1.25:0.4:              ", [round(a, 4) for a in along])
print(
    "signs keep the least linear loss:       ",
    len({round(v, 3) for v in columns["least loss, linear"]}) == 1,
)
print(
    "a checkerboard changes no loss:         ",
    apart["checkerboard"].abs().max().item() < 1e-4,
)
print("the filter is coloured noise:           ", agree)
print(
    "white asks for one scalar:              ",
    gaussian["lacking with one scalar"][0] < 1e-12,
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
