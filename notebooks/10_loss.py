# ---
# jupyter:
#   book:
#     needs: [chap-autoregression, chap-denoiser]
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
# (chap-loss)=
# # What a loss can say
#
# **In short.** The least loss that any denoiser can reach belongs to the latents and not to the network. For Gaussian latents it is a
# function of the spectrum, and it falls as the spectrum becomes steeper. So a lower loss on another latent space may be a filter,
# which changes no picture: after 600 steps the latents with the lowest loss have the worst samples, in each of three seeds.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
models: list[str] = [
    "kl-f4c16",
    "kl-f4c16-ft",
    "kl-f4c16-se",
]  # untouched, fine-tuned without and with SE: shipped names or folders
family: str = "kl-f4c16-beta"  # trained with KL weights, as in Chapter 4
n_images: int = 1024
n_judged: int = 512  # pictures behind each distance
n_reference: int = 1024
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from statistics import fmean

import torch

from diffusab_book import chapters, figures, results
from diffusab_book.explorers import dial
from diffusab_book.explorers.loss import loss_explorer
from diffusab_core import autoencoders, data, metrics, spectrum
from diffusab_core.flow.gaussian import least_loss, linear_bounds, mean_least_loss
from diffusab_core.latents import encode_all
from diffusab_core.metrics import offline_features
from diffusab_core.metrics.yardsticks import decoded, posterior_samples
from diffusab_core.spectrum import bands

run = chapters.start(
    "10_loss", globals(), data="crops of 32² of the training photographs"
)
B = 8  # a latent of 8 x 8 positions is one block
K = B * B

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
dialled = dial.complete(dial.read("dial_patch2")).query("seed in (0, 1, 2)")
dialled = dial.by_dose(dialled)
dialled = dialled.assign(
    loss=[fmean(r.series["loss"][-10:]) for r in dialled.record]
)
means = dialled.groupby(["power", "steps"])[["loss", dial.METRIC]].mean()
figures.lines(
    {
        f"a = {a:g}": tuple(means.loc[a].T.values)
        for a in sorted(set(dialled.power))
    },
    mode="lines+markers",
    log_y=True,
    xlabel="flow loss at the end of training",
    ylabel="gap at the best shift",
    alt="Gap of the samples against the loss at the end of training, one line for each power of the spectrum, with a marker "
    "after 600, 2,400 and 9,600 steps. Along each line both fall. After 600 steps the power with the lowest loss has the "
    "largest gap.",
).update_yaxes(dtick=None, tickvals=[0.7, 1, 1.5, 2, 3, 4, 6])

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded, means over three seeds; a line is one spectrum, its markers are 600, 2 400 and 9 600 training steps.* The spectra are those of
# {numref}`chap-dial`: the same latents with their energies to the power $a$, undone in front of the decoder; $a = 1$ is the latent as it
# is, and a larger $a$ is steeper. The {term}`gap` is how far samples lie from decoded real latents, at the time shift of the sampler that
# makes it smallest. Along a line loss and gap fall together: on *one* latent space, as training goes on, a lower loss comes with better
# samples. Across the lines it does not. The steepest spectrum has the lowest loss after every length, and after 600 steps the order of the
# losses is the order of the gaps reversed, in each seed.
#
# A denoiser reports its loss for nothing, at every step, so one would like to read from it which latent space is easier. This chapter
# computes what a loss is made of, and what remains to be read from it.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - compute the least flow loss of a latent space from its spectrum, and say for which predictors it is a bound;
# - say why losses of two latent spaces do not compare, and give a filter that lowers the loss and changes no picture;
# - say what a network must do to pass below each bound;
# - draw samples of the best linear denoiser, and use them as a yardstick.
# ```

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The least loss of one coefficient
#
# {numref}`chap-latent-diffusion` has split the loss {eq}`eq-rf-split`: the distance of the network from the conditional mean
# $v(x, t)$, which is what spoils samples, and a rest that no network can remove. The rest is known for Gaussian data, and
# belongs to the data, not to the network. Take one coefficient $D$ of the latents, with variance $\lambda$, on the scale
# on which it is diffused. The pair (velocity, state) is a linear image of the pair (data, noise),
#
# $$
# \begin{pmatrix} \varepsilon - D \\ D_t \end{pmatrix}
# = \begin{pmatrix} -1 & 1 \\ 1-t & t \end{pmatrix} \begin{pmatrix} D \\ \varepsilon \end{pmatrix},
# \qquad \det = -1 ,
# $$ (eq-loss-pair)
#
# so the determinant of its covariance is that of $\operatorname{diag}(\lambda, 1)$, which is $\lambda$; divided by the
# variance of the state it leaves what the state does not tell about the velocity,
#
# $$
# \begin{aligned}
# \ell_t(\lambda) &= (1+\lambda) - \frac{\bigl(t - (1-t)\lambda\bigr)^2}{(1-t)^2\lambda + t^2} \\
# &= \frac{\lambda}{(1-t)^2\lambda + t^2} ,
# \end{aligned}
# $$ (eq-loss-least)
#
# in the first line the variance of the velocity less what the state explains of it. It starts at 1 for $t = 0$, where only
# the noise is unknown, ends at $\lambda$ for $t = 1$, where only the data are, and has its maximum $1 + \lambda$ where state
# and velocity are uncorrelated, at $t = \lambda/(1+\lambda)$. Averaged over the training times,
#
# $$
# \bar\ell(\lambda) = \mathbb E_t\,\ell_t(\lambda), \qquad
# t = \frac{e^{\tau}}{1+e^{\tau}},\ \tau\sim\mathcal N(\mu, \sigma^2)
# \;\Rightarrow\;
# \bar\ell(\lambda) = \mathbb E_\tau\, \frac{\lambda\,(1+e^\tau)^2}{\lambda + e^{2\tau}} ,
# $$ (eq-loss-mean)
#
# a number that a quadrature gives (for uniform times it is $\frac{\pi}{2}\sqrt\lambda$, {eq}`eq-rf-floor`). It grows with
# $\lambda$ and is concave: the slope falls.
#
# ## The least loss of a spectrum
#
# Now a latent of $C$ channels has $K = B^2$ coefficients in each, with energies
# $\lambda_{ck}$ whose mean is one, since latents are normalised. The least loss per number is
#
# $$
# \bar L = \frac{1}{CK}\sum_{c,k} \bar\ell(\lambda_{ck}) \;\le\; \bar\ell(1) ,
# $$ (eq-loss-spectrum)
#
# by Jensen's inequality, with equality for white data only. **The least loss is a functional of the spectrum, and it falls
# as the spectrum becomes steeper.** Whatever makes spectra steeper lowers the loss, before any network has learned
# anything.
#
# ### How far the formula carries
#
# Latents are not Gaussian and their coefficients are not independent. Let $L^\ast$ be the least loss of all, reached by
# the conditional mean. For any data with these second moments,
#
# $$
# L^\ast \;\le\; \bar L_{\text{joint}} \;\le\; \bar L_{\text{channels}} \;\le\; \bar L ,
# $$ (eq-loss-chain)
#
# where $\bar L$ predicts each coefficient from itself, $\bar L_{\text{channels}}$ each from all channels at its frequency,
# and $\bar L_{\text{joint}}$ each from the whole latent, which is {eq}`eq-gaussian-loss`; all three are losses of *linear*
# predictors (affine, with the mean). The first step holds
# since the conditional mean is at least as good as any linear one. The others hold because the eigenvalues of a covariance
# are spread more widely than its diagonal, and the mean of a concave function is smaller over the wider spread: for a
# covariance $\Sigma_k$ of the channels at frequency $k$,
#
# $$
# \sum_i \bar\ell\bigl(\mathrm{eig}_i \Sigma_k\bigr) \;\le\; \sum_c \bar\ell\bigl((\Sigma_k)_{cc}\bigr) .
# $$ (eq-loss-majorise)
#
# A network whose loss lies below $\bar L_{\text{channels}}$ uses more than the channels at one frequency; one that lies
# above has not yet learned what a table of $16\times16$ matrices knows. Here are the bounds for three autoencoders, computed from
# posterior samples of their latents as a denoiser sees them: one as shipped, and the same fine-tuned without and with scale
# equivariance ({numref}`chap-se`).

# %% jupyter={"source_hidden": true} tags=["hide-input"]
BASE, CONTROL, SE = "untouched", "fine-tuned (control)", "fine-tuned with SE"
recorded = results.rename(
    results.frame("denoisers"), {"base": BASE, "plain": CONTROL, "se": SE}
)
arms = (BASE, CONTROL, SE)

# %%
features = offline_features()
crops = data.Photos(
    32, "train", seed=0, length=n_images
)  # of all recorded denoisers
x = data.stack(crops, range(n_images))  # (n, 3, 32, 32)


def second_moments(latents):
    """Means (C, K) and covariances of the channels at each frequency (K, C, C)."""
    z = latents.normalise(posterior_samples(latents, range(len(latents))))
    return bands.second_moments(bands.ranked(z, B))


# %%
tuned = {arm: autoencoders.load(m) for arm, m in zip(arms, models, strict=True)}
latents = {arm: encode_all(autoencoder, x) for arm, autoencoder in tuned.items()}
moments = {arm: second_moments(z) for arm, z in latents.items()}
bound = {arm: linear_bounds(covariance) for arm, (_, covariance) in moments.items()}
white = mean_least_loss(torch.ones(1, dtype=torch.float64)).item()

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
energy = {
    arm: covariance.diagonal(dim1=1, dim2=2).mean(1)
    for arm, (_, covariance) in moments.items()
}  # variance by rank, (K,), mean over channels
last_loss = {arm: results.tail(recorded, "loss", 10, arm).mean() for arm in arms}
for arm, (alone, together) in bound.items():
    run.metrics |= {
        f"{arm}: least loss, alone": alone,
        f"{arm}: least loss, channels": together,
    }
rows = {
    arm: {
        "variance of the upper half of ranks": energy[arm][K // 2 :].mean().item(),
        "each coefficient alone": bound[arm][0],
        "channels together": bound[arm][1],
        "a network's loss (recorded)": last_loss[arm],
    }
    for arm in arms
}
results.show(rows, ".3f", index="least loss of linear predictors")

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
times = torch.linspace(0, 1, 101, dtype=torch.float64)
figures.lines(
    {
        name: least_loss(e.double(), times).mean(1)
        for name, e in {**energy, "white data": torch.ones(K)}.items()
    },
    x=times,
    xlabel="time t (0 is data, 1 is noise)",
    ylabel="least loss per number",
    styles={"white data": {"color": figures.GREY}},
    alt="Least loss per number of the latent against time, for the three autoencoders and white data. All begin and "
    "end at one; white data reach two at one half, the latents stay below, those with scale equivariance lowest.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# The bounds follow the spectra, and nothing has been trained. All curves start and end at one,
# because normalised data and noise have the same variance; what differs is the middle, and there the time weights of the
# logit-normal distribution are largest.
#
# ## A gain that changes the loss and no picture
#
# The formula also gives a counterexample, so that it is not only a matter of opinion that losses do not compare. Let an
# encoder multiply each coefficient by a gain $g_k$ before it hands the latent on, and the decoder divide by it again,
#
# $$
# z' = G z, \qquad \mathrm{Dec}'(z') = \mathrm{Dec}(G^{-1} z'), \qquad \lambda'_k = g_k^2\,\lambda_k .
# $$ (eq-loss-gain)
#
# Reconstructions are the same. If the velocity is known exactly, so are the pictures that are generated: the flow carries
# noise to the distribution of $z'$, and $G^{-1}$ carries that to the distribution of $z$. But
#
# $$
# \bar L' = \frac{1}{CK}\sum_{c,k}\bar\ell\bigl(g_k^2\,\lambda_{ck}\bigr) \ne \bar L ,
# $$ (eq-loss-gained-loss)
#
# and by a steep enough gain it becomes as small as one likes. In the explorer the gain is $g_k = (1+\rho_k)^{-\kappa}$,
# $\rho_k = \sqrt{u^2+v^2}$, with the latent brought back to unit variance afterwards. **Every position of the slider
# stands for the same autoencoder followed by a known filter.** Scale equivariance is, in the linear model of
# {numref}`chap-se`, such a filter.
# (The spectra are means over channels. Averaging the variances first raises the mean loss, by Jensen's inequality again, so
# that the number without gain is a little above that of the table.)

# %% slideshow={"slide_type": "subslide"}
spectra = {arm: e.tolist() for arm, e in energy.items()}
loss_explorer({**spectra, "white data": [1.0] * K}, B)

# %% [markdown] slideshow={"slide_type": "slide"}
# What the filter does change is the *price of errors*. A network misses the exact velocity by some amount at each
# frequency, and what it misses in $z'$ is divided by $g_k$ in the decoder,
#
# $$
# \bigl\lVert \hat z - z \bigr\rVert^2 = \sum_k \frac{1}{g_k^2}\,\bigl\lVert \hat z'_k - z'_k\bigr\rVert^2 ,
# $$ (eq-loss-error)
#
# the other side of the gain $G$ of {eq}`eq-gain`. In this model a steeper spectrum pays if the sum on the right falls,
# and at high frequencies that asks the network's errors to shrink faster than $g_k$. Neither the spectrum nor the loss
# says whether they do.
#
# ## Noise goes the other way
#
# Posterior noise of variance $\sigma^2$ makes the spectrum flatter, {eq}`eq-energy-adds`. After normalisation
#
# $$
# \lambda_{ck} \;\to\; \frac{\lambda_{ck} + \sigma^2}{1 + \sigma^2}, \qquad \bar L \;\to\; \bar\ell(1)
# \quad\text{as } \sigma\to\infty ,
# $$ (eq-loss-noise)
#
# the least loss *rises* to that of white data, and the latents become the easiest there are to generate: draw noise and
# stop. (For Gaussian latents white is easiest, since one scalar velocity serves all frequencies; a flat spectrum hurts only
# where the decoder needs what is there.) The autoencoders of {numref}`chap-kl` with strong KL are on the way there. So a low loss can
# mean a filter, and a high one can mean that there is nothing left to learn.

# %% slideshow={"slide_type": "subslide"}
BETAS = {"0": "0", "1e-6": "10⁻⁶", "1e-4": "10⁻⁴", "1e-2": "10⁻²", "1e-1": "10⁻¹"}
few = x[: max(64, n_images // 4)]
by_beta = {}
for beta, written in BETAS.items():
    z = encode_all(autoencoders.load(family + beta), few)
    mu, std, _ = z.posterior(range(len(z)))
    noise_share = std.square().mean() / (std.square().mean() + mu.var())
    by_beta[written] = {
        "noise in the raw latents' variance": noise_share.item(),
        "least loss, channels together": linear_bounds(second_moments(z)[1])[1],
    }
results.show(
    by_beta,
    {
        "noise in the raw latents' variance": ".0%",
        "least loss, channels together": ".3f",
    },
    index="β",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Losses of trained networks
#
# One denoiser recipe was trained on the three autoencoders, 600 steps of 64 latents, with three seeds (`sweeps/denoisers.yaml`). Here
# are the losses of those runs, with the bounds of linear predictors as dotted lines.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
smooth = {}
for arm in arms:
    curve = results.mean_series(recorded, "loss", arm)
    smooth[arm] = [fmean(curve[max(0, i - 4) : i + 1]) for i in range(len(curve))]
losses = figures.lines(
    smooth,
    x=results.mean_series(recorded, "step", BASE),
    xlabel="training steps of the denoiser",
    ylabel="flow loss, running mean",
    alt="Recorded flow loss of the three arms over training, mean over seeds, with the bounds of linear predictors as "
    "dotted horizontal lines. Scale equivariance lies below the other two throughout.",
)
figures.mark(losses, y=bound[CONTROL][1], text="bound, untouched and control")
figures.mark(losses, y=bound[SE][1], text="bound, with SE")
losses

# %% [markdown]
# The loss orders the arms as the formula does that knows only spectra, and by about as much: SE lies below the other two
# from early on, at the end by an eighth. Its samples are the farthest from photographs. Judged by the loss alone the experiment
# would have been a success. All three networks end well below the dotted lines: they have learned more than the channels at one frequency
# tell (or have begun to copy: this is the loss on training crops, {ref}`ex-copies`).

# %% [markdown] slideshow={"slide_type": "slide"}
# ## A yardstick that has learned second moments only
#
# Between decoded noise and decoded latents there is room for a third yardstick that needs no training: the Gaussian with
# the latents' mean and covariance $\Sigma_k$ of the channels at each frequency. Its exact velocity is linear, its samples
# can be drawn directly,
#
# $$
# z_k = m_k + \Sigma_k^{1/2}\,\eta_k, \qquad \eta_k\sim\mathcal N(0, I_C),
# $$ (eq-loss-gaussian)
#
# and its loss is $\bar L_{\text{channels}}$. It has every energy right and knows no edge, no object, no correlation between
# frequencies. A denoiser that does not beat it has learned a spectrum.

# %%
photos = data.Photos(32, "train", seed=1, length=n_reference)
others = data.stack(photos, range(n_reference)).split(64)
reference = metrics.reference(others, features, progress=False)

# %%
few_allowed = min(n_judged, n_reference) <= 32  # never at full size


def distance(pictures) -> float:
    """Fréchet distance of batches of pictures to other crops of the photographs."""
    return metrics.frechet_to(reference, pictures, features, few_allowed)


# %%
def gaussian_latents(latents, moments, n: int):
    """Samples of the Gaussian with these means and covariances, raw."""
    centre, covariance = moments  # (C, K), (K, C, C)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0).sqrt()[:, None]
    generator = torch.Generator().manual_seed(seed)
    eta = torch.randn(n, K, len(centre), generator=generator, dtype=torch.float64)
    by_rank = centre + torch.einsum("kcd,nkd->nck", root, eta)
    natural = torch.empty_like(by_rank)
    natural[..., spectrum.zigzag_order(B)] = by_rank
    blocks = natural.unflatten(-1, (1, 1, B, B)).float()
    return latents.denormalise(spectrum.block_idct(blocks))


# %%
yardsticks = {}
for arm, autoencoder in tuned.items():
    z = latents[arm]
    mu, std, _ = z.posterior(range(min(n_judged, n_images)))
    eta = torch.randn(mu.shape, generator=torch.Generator().manual_seed(seed))
    shown = {
        "decoded noise": z.denormalise(eta),
        "Gaussian of the same second moments": gaussian_latents(
            z, moments[arm], n_judged
        ),
        "latents without ranks 32 to 63": spectrum.chop_high_frequencies(
            mu + std * eta, 0.5, B
        ),
        "decoded latents": mu + std * eta,
    }
    yardsticks[arm] = {
        name: distance(decoded(autoencoder.decode, raw))
        for name, raw in shown.items()
    }

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
for arm, found in yardsticks.items():
    run.metrics |= {f"{arm}: distance of {k}": v for k, v in found.items()}
samples = results.means(recorded, "frechet_offline")
results.show(
    {
        arm: {**found, "trained denoiser (recorded)": samples[arm]}
        for arm, found in yardsticks.items()
    },
    ".2f",
)

# %% [markdown]
# *Fréchet distances to photographs, computed here; the trained denoisers' from the records (1 024 pictures against 8 192 crops; more
# pictures make a distance a little smaller). Less is better.* The decoder's error is in all of them; {numref}`chap-pays` takes it
# apart. The Gaussian covers most of the way from decoded noise, and the trained denoisers most of what is left. They have learned more
# than a spectrum, so that what they make of each latent space is worth comparing. The Gaussian is farthest for SE, where its loss is
# lowest. And fine detail counts in these features: real latents whose upper half of ranks is set to zero are farther from photographs
# than before, by more than a factor of two.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## To take away
#
# - Along one training on one latent space loss and samples improve together, in every run shown here.
# - Between two latent spaces it compares their spectra. {numref}`chap-dial` changes nothing but the spectrum and finds losses ordered
#   by it after every length of training, whatever the samples do.
# - The bounds are worth printing beside any loss: above the first a network has not learned the energies, below the second it knows
#   more than the channels at one frequency.
# - What has to be compared are samples, against a floor and with several seeds: {numref}`chap-pays`.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} By the sum of squares ★★
# :label: ex-least-loss
#
# Derive {eq}`eq-loss-least` without determinants: for $a = t - (1-t)\lambda$ and $V = (1-t)^2\lambda + t^2$ show
# $(1+\lambda)V - a^2 = \lambda$. Then find the time at which $\ell_t(\lambda)$ is largest, and say what the state tells
# about the velocity there.
# ```
#
# ````{solution} ex-least-loss
# :class: dropdown
#
# $(1+\lambda)V = (1-t)^2\lambda + t^2 + (1-t)^2\lambda^2 + t^2\lambda$ and $a^2 = t^2 - 2t(1-t)\lambda + (1-t)^2\lambda^2$;
# the difference is $\lambda\bigl((1-t)^2 + 2t(1-t) + t^2\bigr) = \lambda$. Since $\ell_t = \lambda/V$, it is largest where
# $V$ is smallest, at $t = \lambda/(1+\lambda)$. There $a = 0$: state and velocity are uncorrelated, and the best guess of
# the velocity is its mean, whatever the state. For normalised white data this is $t = \frac12$.
#
# ```python
# lam = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)
# t = torch.linspace(0, 1, 1001, dtype=torch.float64)
# print(t[least_loss(lam, t).argmax(0)], lam / (1 + lam))
# ```
# ````
#
# ```{exercise} The lowest loss of all ★★
# :label: ex-lowest
#
# With the gain of {eq}`eq-loss-gain` at unit variance, how low can $\bar L$ be made, and what does the decoder have to
# bear then? Compute both for $\kappa = 0, 1, 2, 4$ from the untouched autoencoder's spectrum.
# ```
#
# ````{solution} ex-lowest
# :class: dropdown
#
# All the variance goes into $D_{00}$; each other one contributes $\bar\ell(\lambda)\to 0$, so the mean
# loss tends to $\bar\ell(K)/K$ (for uniform times $\frac\pi2/\sqrt K$). The decoder multiplies errors at rank $k$ by
# $1/g_k^2$ relative to those of $D_{00}$, {eq}`eq-loss-error`.
#
# ```python
# from diffusab_core.flow.gaussian import tilted
#
# for g in (0, 1, 2, 4):
#     loss = mean_least_loss(tilted(energy["untouched"], g)).mean()
#     print(f"κ = {g}: least loss {loss:.3f}, squared errors at the last rank × {(1 + bands.radii()[-1]) ** (2 * g):.3g}")
# ```
#
# The loss falls all the way while the amplification grows without limit.
# ````
#
# ```{exercise} Copies ★★★
# :label: ex-copies
#
# How would you find out whether a denoiser copies its training crops? Write a test that needs only samples, the crops it
# was trained on, and other crops of the same photographs; try it on pictures that are copies and on pictures that are not.
# ```
#
# ````{solution} ex-copies
# :class: dropdown
#
# Compare distances to the nearest training crop with distances to the nearest of as many *other* crops of the same
# photographs. If samples are as far from both, nothing was copied in particular; if the training crops are nearer more
# often than half of the time, something was.
#
# ```python
# def nearer_to_training(pictures, training, others):
#     near = [torch.cdist(pictures.flatten(1), s.flatten(1)).min(1).values for s in (training, others)]
#     return (near[0] < near[1]).float().mean().item()
#
# photos = data.Photos(32, "train", seed=5, length=600)
# training, others, fresh = data.stack(photos, range(600)).split(200)
# copies = training + 0.05 * torch.randn(training.shape, generator=torch.Generator().manual_seed(0))
# print(nearer_to_training(copies, training, others), nearer_to_training(fresh, training, others))
# ```
#
# It prints 1.0 for the copies and about one half for fresh crops. Pixels serve for copies that are exact; for copies that
# are moved or recoloured, use features.
# ````

# %% [markdown]
# ## What this chapter claims
#
# Each sentence with a number, as a condition on what was computed or recorded. When one fails, somebody rewrites the sentence.

# %%
# "The steepest spectrum has the lowest loss after every length, and after 600 steps the order of the losses is … reversed, in each seed"
for (steps, _), of in dialled.groupby(["steps", "seed"]):
    by_loss = of.sort_values("loss")
    assert by_loss.power.tolist() == [1.5, 1.25, 1.0, 0.5]
    if steps == 600:
        assert by_loss[dial.METRIC].is_monotonic_decreasing
# "Along a line loss and gap fall together"
for _, of in dialled.groupby(["power", "seed"]):
    along = of.sort_values("steps")
    assert along.loss.is_monotonic_decreasing
    assert along[dial.METRIC].is_monotonic_decreasing
# "SE lies below … at the end by an eighth. Its samples are the farthest from photographs"
assert round(1 - last_loss[SE] / last_loss[CONTROL], 2) == 0.13
assert samples.idxmax() == SE

# %%
# "All three networks end well below the dotted lines"; "where its loss is lowest"
assert all(last_loss[arm] < 0.95 * bound[arm][1] for arm in arms)
gaussians = {
    arm: found["Gaussian of the same second moments"]
    for arm, found in yardsticks.items()
}
if size == "laptop":
    assert max(gaussians, key=gaussians.get) == SE
    for arm, found in yardsticks.items():
        # "covers most of the way …, and the trained denoisers most of what is left"
        noise, floor = found["decoded noise"], found["decoded latents"]
        assert noise - gaussians[arm] > 0.5 * (noise - floor)
        assert gaussians[arm] - samples[arm] > 0.5 * (gaussians[arm] - floor)
        # "by more than a factor of two"
        assert found["latents without ranks 32 to 63"] > 2 * floor
# "the least loss rises to that of white data"
rises = [found["least loss, channels together"] for found in by_beta.values()]
assert rises[0] < rises[-1] < white

# %% [markdown]
# ## Check yourself


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def rounded(values) -> list[float]:
    return [round(v, 4) for v in values.tolist()]


lam = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)
steep = mean_least_loss(torch.tensor([1.9, 0.1], dtype=torch.float64)).mean().item()
uniform = mean_least_loss(lam, scale=None)
alone = {arm: found[0] for arm, found in bound.items()}
joined = all(b < a for a, b in bound.values())
order = ("decoded latents", "Gaussian of the same second moments", "decoded noise")
sorted_ = [[d[k] for k in order] for d in yardsticks.values()]
in_order = all(v == sorted(v) for v in sorted_)

# %% tags=["checkpoint"]
print("least loss at t = 1/2:                  ", rounded(least_loss(lam, 0.5)))
print("averaged over logit-normal times:       ", rounded(mean_least_loss(lam)))
print("over uniform times:                     ", rounded(uniform))
print("unit variance: steep is less than white:", steep < white)
print("all latents lie below white data:       ", max(alone.values()) < white)
print("channels together predict better:       ", joined)
print("SE has the lowest bound:                ", min(alone, key=alone.get) == SE)
print("latents, Gaussian, noise, in this order:", in_order)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
