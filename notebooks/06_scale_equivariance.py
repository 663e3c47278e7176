# ---
# jupyter:
#   book:
#     needs: [chap-latent-diffusion, chap-dct, chap-cutting]
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
# (chap-se)=
# # Scale equivariance
#
# **In short.** A latent that is made smaller should decode to the picture made smaller. Fine-tuning that asks for it
# divides the energy ratio of a latent's upper frequencies by 1.8 and costs 0.46 dB of PSNR against the same fine-tuning without. For a
# linear autoencoder the reason can be derived; whether a denoiser profits is a question for {numref}`chap-pays`.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
steps: int = 120  # of each of the two arms that are fine-tuned here
batch_size: int = 4
learning_rate: float = 3e-4
alpha: float = 0.25
n_images: int = 16  # that the two arms are watched on
resolution: int = 128
block_size: int = 8
device: str = "cpu"  # where the live training runs: auto, cuda, mps or cpu
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import torch

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.scale import (
    knob_explorer,
    scale_explorer,
    training_explorer,
)
from diffusab_core import autoencoders, data, metrics, spectrum
from diffusab_core.experiments import finetune
from diffusab_core.methods import regularizers
from diffusab_core.methods.finetuning import Finetuning

run = chapters.start(
    "06_scale_equivariance",
    globals(),
    data=f"trained on crops of 64² of the training photographs, {n_images} crops of "
    f"{resolution}² from the held-out photographs (coffee, china)",
)
B = block_size
crops = data.Photos(resolution=resolution, split="test", seed=seed)
x = data.stack(crops, range(n_images))  # (n, 3, resolution, resolution) in [-1, 1]

# %% slideshow={"slide_type": "subslide"}
picture = data.photo("china")[:, 40:232, 140:332]  # (3, 192, 192), never trained on
shown = {
    "untouched": autoencoders.load("kl-f4c16"),
    "fine-tuned": autoencoders.load("kl-f4c16-ft"),
    "with SE": autoencoders.load("kl-f4c16-se"),
}
scale_explorer(picture, shown, scales=(1, 2, 3, 4))

# %% [markdown] slideshow={"slide_type": "slide"}
# First comes what a small picture should look like, then what three decoders make of the *latent* made smaller by the same factor.
# `untouched` is an autoencoder that comes with this book. The other two are the same one after 400 more steps of training, without and with
# the term that this chapter is about, **scale equivariance** (SE). The picture was never trained on. From a small latent it comes out much
# too soft, and softer with every scale; with SE less so. (At scale 1 nothing is made smaller: there SE is behind, which is its price. The
# shift in colour is there at scale 1 already. It belongs to this small autoencoder, which has seen five photographs.)
#
# Earlier chapters showed that the latents of these autoencoders have a larger share of their energy at high frequencies
# than pictures of the same size have, and that their decoders depend on it. From here on we change the spectrum.
# {cite:t}`skorokhodov2025improving` fine-tune an autoencoder for a short while with one more term in its loss, which asks
# that a *downsampled latent* decode to the *downsampled picture*. It names no frequency, and yet it bends the spectrum. Why
# is derived below, in a case that can be solved on paper; then a real autoencoder is fine-tuned live, beside a control that
# is trained just as long without the term.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - state scale equivariance as two operators that commute, and turn it into a loss;
# - derive what it does to the gain of a linear autoencoder, and check the formula against the loss as implemented;
# - name the control that the effect has to be compared with, and say why the untouched autoencoder is not it;
# - explain why training the decoder alone can lower the loss and cannot change the spectrum.
# ```

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Two ways to a small picture
#
# Write $\mathcal S_s$ for downsampling by a whole number $s$: bilinear, for pictures and for latents alike, and here with
# antialiasing (the paper says only *bilinear*). From a picture $x$ with latent $z$ there are two ways to a small picture.
# Downsample the picture, $\tilde x = \mathcal S_s x$. Or downsample the latent, $\tilde z = \mathcal S_s z$, and decode
# that. A decoder is **scale equivariant** when it does not matter in which order the two are done:
#
# $$
# \mathrm{Dec}(\mathcal S_s z) = \mathcal S_s\,\mathrm{Dec}(z) .
# $$ (eq-equivariance)
#
# An ordinary autoencoder is not trained for this, but it is a convolutional network that can decode a latent of any size,
# so the left side can be computed: the slider above does.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The loss
#
# The paper (Eq. 2) adds to the reconstruction a second one, at a smaller scale:
#
# $$
# \mathcal L = d\bigl(x, \mathrm{Dec}(z)\bigr) + \alpha\, d\bigl(\tilde x, \mathrm{Dec}(\tilde z)\bigr)
#   + \beta\,\mathcal L_{\mathrm{KL}},
# \qquad
# z \sim \mathrm{Enc}(x),
# $$ (eq-se)
#
# with $s$ drawn from $\{2, 4\}$ at every step, $\alpha = 0.25$, and $\beta = 0$ when the new term is on. The distance $d$
# is the mean squared error plus LPIPS; here it is the mean squared error alone, because the network behind LPIPS is
# not available offline. The encoder runs once, on the full picture; what the term costs is a decoder pass on a latent $s^2$
# times smaller.
#
# The target $\tilde x$ is the downsampled *input*. One may also take the downsampled *reconstruction*, $\mathcal
# S_s\,\mathrm{Dec}(z)$, which is {eq}`eq-equivariance` to the letter: that loss is zero for every decoder which commutes
# with $\mathcal S_s$, however badly it reconstructs. The input asks for both at once. By the triangle inequality for the
# norm in which $d$ is a squared distance,
#
# $$
# \begin{aligned}
# \bigl\lVert \tilde x - \mathrm{Dec}(\tilde z)\bigr\rVert \le{}&
# \underbrace{\bigl\lVert \mathcal S_s\bigl(x - \mathrm{Dec}(z)\bigr)\bigr\rVert}_{\text{small when reconstruction is good}}\\
# &+ \underbrace{\bigl\lVert \mathcal S_s\,\mathrm{Dec}(z) - \mathrm{Dec}(\mathcal S_s z)\bigr\rVert}_{\text{failure to commute}} ,
# \end{aligned}
# $$ (eq-triangle)
#
# and, by the same inequality the other way round, the square roots of the two losses differ by at most the first term.
#
# ## Why it bends the spectrum
#
# Take the simplest autoencoder that has a spectrum to bend: linear, shift invariant, isotropic, with one channel and no
# compression. It multiplies each frequency $\nu$, in cycles per pixel, by a gain, and undoes that when it decodes:
#
# $$
# \hat z(\nu) = g(\nu)\,\hat x(\nu), \qquad \widehat{\mathrm{Dec}(z)}(\nu) = \frac{\hat z(\nu)}{g(\nu)} .
# $$ (eq-linear)
#
# Every gain without a zero reconstructs perfectly. Reconstruction alone therefore says **nothing** about the spectrum of
# the latent, which is $\lvert g\rvert^2$ times that of the picture: a gain that grows like $\lvert\nu\rvert$ (and is 1 at
# $\nu = 0$, so that the mean survives) flattens the $1/\nu^2$ energies of photographs into a white spectrum, and can be
# undone exactly.
#
# Now downsample. Ideal downsampling keeps frequencies below $1/(2s)$ in each direction and renames them, because a wave
# keeps its length in the scene while the pixels grow: what was $\nu$ is $s\nu$ on the smaller grid. The decoder does not
# know that it was called on a smaller grid. It divides by the gain for the frequency that it *sees*:
#
# $$
# \widehat{\mathrm{Dec}(\tilde z)}(s\nu) = \frac{g(\nu)}{g(s\nu)}\,\hat x(\nu),
# \qquad \hat{\tilde x}(s\nu) = \hat x(\nu) .
# $$ (eq-renamed)
#
# (Transforms are normalised per pixel.) Where the gain grows with frequency the factor $g(\nu)/g(s\nu)$ is smaller than
# one, and contrast is lost: for a power law evenly at all frequencies but the mean. The nonlinear decoder above loses
# contrast, too, but not evenly; the coarsest waves survive, which is why its pictures look soft. By Parseval's theorem
# the new term is then, up to a constant,
#
# $$
# \mathcal L_{\mathrm{SE}} \;\propto \sum_{\lvert\nu_1\rvert, \lvert\nu_2\rvert < 1/(2s)}\;\Bigl\lvert 1 -
# \frac{g(\nu)}{g(s\nu)}\Bigr\rvert^2\, \lvert\hat x(\nu)\rvert^2 ,
# $$ (eq-se-linear)
#
# and it vanishes exactly when $g(\nu) = g(s\nu)$ wherever the picture has energy. For a power law $g(\nu) =
# \lvert\nu\rvert^\kappa$ the ratio does not depend on frequency at all:
#
# $$
# \mathcal L_{\mathrm{SE}} = \bigl(1 - s^{-\kappa}\bigr)^2 \times \text{energy of } \tilde x \text{ about its mean} ,
# $$ (eq-se-power-law)
#
# which is zero for $\kappa = 0$ only. Among power laws, then, the latent must have **the spectrum of the picture**. In this
# linear model that is the whole mechanism: the term does not name high frequencies; it forbids a gain that changes with the
# length of a wave in pixels. (It leaves free one that is periodic in $\log\lvert\nu\rvert$, {ref}`ex-log-periodic`, and a
# dependence on direction.)
#
# **The gain is a volume knob**, one for each pitch. The encoder turns the treble up by $g(\nu)$, the decoder turns it down by as
# much, and nobody hears that it was ever turned. Make the latent smaller, and the same tune is played faster: every wave
# arrives $s$ times higher. The decoder turns its knobs for the pitch that it hears, and so sets them wrongly. Move the exponent: the
# decoded picture never changes, the one from the small latent fades above zero and shouts below, and only at zero have both the same
# contrast.


# %%
def gain(height: int, width: int, kappa: float) -> torch.Tensor:
    """|ν|^κ on the grid of a real Fourier transform; 1 for the mean, which no power of zero can be."""
    rows = torch.fft.fftfreq(height)[:, None]
    nu = (rows.square() + torch.fft.rfftfreq(width).square()).sqrt()
    return torch.where(nu > 0, nu.clamp(min=1e-9) ** kappa, 1.0)


def multiplied(image: torch.Tensor, kappa: float) -> torch.Tensor:
    shape = image.shape[-2:]
    return torch.fft.irfft2(torch.fft.rfft2(image) * gain(*shape, kappa), s=shape)


# %% slideshow={"slide_type": "subslide"}
knob_explorer(picture, multiplied)

# %% [markdown]
# The formula is for ideal downsampling. Here it stands beside the loss as this book implements it, on crops of photographs, both over the
# variance of the small picture.


# %%
def linear_loss(pictures: torch.Tensor, s: int, kappa: float) -> float:
    """The SE loss of the linear autoencoder, over the variance of the small pictures."""
    small = regularizers.downsample(pictures, s)
    energy = (small - small.mean((-2, -1), keepdim=True)).square().mean()
    latent = multiplied(pictures, kappa)
    loss = regularizers.scale_equivariance(
        pictures, latent, lambda z: multiplied(z, -kappa), s
    )
    return (loss / energy).item()


def formula(s: int, kappa: float) -> float:
    return (1 - s**-kappa) ** 2


# %% slideshow={"slide_type": "subslide"}
kappas = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
fine = [i / 50 * kappas[-1] for i in range(51)]
curves, styles = {}, {}
for s, color in ((2, figures.BLUE), (4, figures.ORANGE)):
    curves[f"formula, s = {s}"] = (fine, [formula(s, g) for g in fine])
    curves[f"loss, s = {s}"] = (kappas, [linear_loss(x, s, g) for g in kappas])
    styles[f"formula, s = {s}"] = {"color": color}
    styles[f"loss, s = {s}"] = {"color": color, "mode": "markers"}
figures.lines(
    curves,
    styles=styles,
    xlabel="exponent κ of the gain",
    ylabel="SE loss over variance",
    alt="The loss of scale equivariance against the exponent of the encoder's gain, for "
    "scales 2 and 4. It is zero at exponent zero and grows with the exponent; measured "
    "points lie on the curves of the formula, a little below them at the right.",
)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def deviation(pictures: torch.Tensor) -> float:
    """Largest relative difference of loss and formula, for κ up to 1 and both scales."""
    pairs = [(s, g) for s in (2, 4) for g in kappas if 0 < g <= 1]
    return max(
        abs(linear_loss(pictures, s, g) / formula(s, g) - 1) for s, g in pairs
    )


mirrored = torch.cat([x, x.flip(-1)], -1)  # opposite edges fit each other
mirrored = torch.cat([mirrored, mirrored.flip(-2)], -2)
worst, worst_mirrored = deviation(x), deviation(mirrored)
run.metrics["linear_worst_deviation"] = worst
run.metrics["linear_worst_deviation_mirrored"] = worst_mirrored
results.show(
    {
        "crops as they are": {"largest deviation from the formula, %": 100 * worst},
        "the same, mirrored": {
            "largest deviation from the formula, %": 100 * worst_mirrored
        },
    },
    form=".1f",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# Up to κ = 1 the implemented loss is within a few percent of the formula, and within one percent on the same crops mirrored
# so that opposite edges fit: the Fourier transform joins the edges of a crop, the downsampling does not.
#
# Three steps separate this from a real autoencoder, and each weakens the conclusion. It has many channels per position,
# between which a frequency can be moved; it compresses, so that waves shorter than $2f$ pixels can only be kept *in*
# channels; and it is not linear, so a decoder may learn to tell a small latent from a large one by its contrast and undo
# the gain of each. The formula predicts a direction. How far a trained network goes is a matter of measurement.
#
# ## Two arms, live
#
# Any fine-tuning changes an autoencoder. What scale equivariance does is the difference from **the same fine-tuning without it**: same
# weights to begin with, same crops in the same order, same noise of the posterior, same number of steps. The paper calls this control
# FT. Comparing with the untouched autoencoder instead would credit or charge the term with whatever a few hundred more steps do by
# themselves.
#
# Both arms are now trained on crops of the training photographs. The slider steps through the training and opens half-way; it shows the
# spectrum of the encoder's means on held-out ones.

# %% tags=["remove-stderr"]
arms = {}
for name, method in {"plain": "plain", "SE": "se"}.items():
    settings = Finetuning(
        model="kl-f4c16",
        method=method,
        alpha=alpha if method == "se" else None,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        device=run.device,
    )
    arms[name] = finetune(settings, probe=x, snapshots=4)
    arms[name].autoencoder.module.cpu()

# %% slideshow={"slide_type": "subslide"}
latent_size = resolution // 4
rgb = data.rgb01(data.resize_to(x, latent_size, latent_size))
rgb_profile = spectrum.frequency_profile(rgb, B)
live = {name: arm.record for name, arm in arms.items()}
training_explorer(live, rgb_profile)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
for name, record in live.items():
    for key in results.FINETUNING:
        for when in (key, key.replace("after_", "before_")):
            run.metrics[f"{name}_{when}"] = record.metrics[when]
results.table(results.frame(live), results.FINETUNING, before="before_")

# %% [markdown]
# One run of each arm, measured on held-out crops. The table is of the moving average of the weights, with a half-life of 5%
# of the steps; slider and losses are of the weights of the step itself. *HF energy ratio*: mean energy of the upper half of
# the ranks over that of $D_{00}$. *HF share*: what part of the energy outside $D_{00}$ lies in the upper half. *Distance to
# RGB*: mean $\lvert\log_{10}\rvert$ of the ratio of the two profiles, over ranks ({numref}`chap-dct` defines all profiles).
# One run proves little; the next section has three of each arm.
#
# The losses along the way. Each point is one batch and one drawn scale, so the curves jump, and no trend can be read from
# so few; but both arms see the same batches, on which SE's reconstruction can be compared with the control's.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
terms = {"reconstruction": "d(x, Dec(z))", "se": "α d(x̃, Dec(z̃))"}
losses, styles = {}, {}
for (name, record), color in zip(live.items(), figures.PALETTE, strict=False):
    for key in [key for key in terms if key in record.series]:
        label = f"{name}: {terms[key]}"
        losses[label] = (record.series["step"], record.series[key])
        styles[label] = {"color": color, "dash": "dash" if key == "se" else "solid"}
figures.lines(
    losses,
    styles=styles,
    xlabel="step",
    ylabel="loss",
    log_y=True,
    height=320,
    alt="Losses of both arms during training, jumping from batch to batch: the two "
    "reconstruction losses rise and fall together.",
)

# %% [markdown]
# ## Recorded: three seeds, four hundred steps
#
# The same with 400 steps of eight crops at a learning rate of $10^{-4}$, over three seeds of order, crops and noise,
# measured on 64 held-out crops of 128². Beside the control and the paper's setting there are the other target of
# {eq}`eq-triangle`, and an arm that trains the decoder only. Runs of one seed see the same crops and the same noise, so
# arms are compared in pairs: below each number stands the mean difference to the control with its 95% interval (t over
# three seeds).

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
recorded = results.rename(
    results.frame("finetuning"),
    {
        "plain": "plain (control)",
        "se": "SE",
        "se-target-reconstruction": "SE, target Dec(z) downsampled",
        "se-decoder-only": "SE, decoder only",
    },
)
results.table(
    recorded, results.FINETUNING, control="plain (control)", before="before_"
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
held_out = data.stack(data.Photos(128, "test", seed=0, length=64), range(64))
held_out_rgb = data.rgb01(data.resize_to(held_out, 32, 32))
rgb_energy = spectrum.frequency_profile(held_out_rgb, B, "energy")
rgb_share = spectrum.high_frequency_share(rgb_energy)
rgb_ratio = spectrum.high_frequency_energy_ratio(held_out_rgb, B).item()
results.show(
    {
        "RGB at latent size": {
            "HF energy ratio, 10⁻³": 1000 * rgb_ratio,
            "HF share, %": 100 * rgb_share,
        }
    },
    form=".2f",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *The first table is recorded by `sweeps/finetuning.yaml`; RGB is measured here.*
#
# - **Spectrum.** SE divides the HF energy ratio by 1.8 and lowers the HF share from 11% to 6%; plain fine-tuning leaves
#   both where they were. RGB at latent size has a share of 3% (and a ratio that depends on its brightness), white noise of
#   51%. So the latents that are bent here were nearer to pictures than to noise to begin with.
# - **Price.** SE costs 0.46 dB of PSNR against the control, and 0.29 dB against the untouched autoencoder.
# - **Target.** With the downsampled reconstruction as target the HF energy ratio is lower still, and PSNR is lower by
#   another 0.21 dB. The gradient of that loss reaches $\mathrm{Dec}(z)$ too, so the full-size picture may give way to the small one.
# - **Decoder only.** Its latents are the untouched ones; the small differences in its row come from the control, which
#   has moved. Its SE loss (without the weight $\alpha$) falls from 0.030 in the first quarter of the steps to 0.023 in the last;
#   that of SE in both parts falls from 0.028 to 0.018.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
curves = {"untouched": recorded.record.iloc[0].series["before_profile"]} | {
    arm: results.mean_series(recorded, "after_profile", arm)
    for arm in ("plain (control)", "SE", "SE, target Dec(z) downsampled")
}
figures.profiles(
    curves | {"RGB": spectrum.frequency_profile(held_out_rgb, B)},
    alt="Profiles of the latents before, after plain fine-tuning, and after fine-tuning "
    "with scale equivariance with both targets, with that of RGB. Plain fine-tuning lies "
    "on the untouched profile; scale equivariance lies below it at high ranks, between it "
    "and RGB.",
    ylabel="mean |D| / mean |D₀₀|",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Profiles of latents: recorded by `sweeps/finetuning.yaml`.*
#
# ```{admonition} In the paper
# :class: paper
#
# Fig. 4 shows the same movement for FluxAE: with SE its profile comes nearer to that of RGB, the more so the larger
# $\alpha$. Table 4 gives the change in reconstruction, untouched → fine-tuned with SE, with PSNR higher in three of four rows:
#
# | | PSNR, dB | SSIM | LPIPS | FID |
# |---|---|---|---|---|
# | FluxAE | 30.243 → 30.474 | 0.883 → 0.888 | 0.054 → 0.055 | 0.183 → 0.550 |
# | Cosmos, images | 23.230 → 24.558 | 0.638 → 0.677 | 0.181 → 0.166 | 1.077 → 1.570 |
# | CogVideoX | 34.961 → 35.399 | 0.947 → 0.948 | 0.073 → 0.067 | 2.992 → 2.986 |
# | LTX | 30.897 → 30.386 | 0.886 → 0.885 | 0.152 → 0.137 | 5.928 → 5.303 |
#
# The table compares with the *untouched* autoencoders, so it does not say how much of each change is fine-tuning alone.
# Downstream the control was run, and it moves in both directions (Table 1, FID):
#
# | | untouched | fine-tuned | with SE |
# |---|---|---|---|
# | DiT-B/2 on FluxAE | 25.41 | 30.51 | 18.06 |
# | DiT-L/2 on FluxAE | 12.42 | 14.48 | 9.61 |
# | DiT-XL/2 on FluxAE | 12.21 | 10.62 | 9.85 |
# | DiT-B/1 on Cosmos | 11.69 | 13.59 | 11.85 |
#
# In the last row even the sign depends on what one compares with. Table 10 has autoencoders trained from scratch with and without the
# term: PSNR falls from 29.39 to 28.73 dB (FluxAE) and from 37.08 to 36.61 dB (CogVideoX).
# ```
#
# The spectrum moves in the same direction. So does reconstruction, once the comparison is the same, with and without the term
# (Table 10): PSNR falls there, too. The paper gives the reason as well (Sec. 4.2): the decoder serves two tasks with the same capacity.
# {numref}`chap-price` follows the price over the weight $\alpha$ and over longer training.
#
# ## The decoder alone
#
# Both factors of $g(\nu)/g(s\nu)$ in {eq}`eq-renamed` come from the autoencoder, one from the encoder and one from the
# decoder. A nonlinear decoder can learn to treat small latents differently and lower the loss by itself. Then
# nothing happens to the latents, whatever the loss says:
#
# $$
# \theta_{\mathrm{Enc}} \text{ fixed} \;\Longrightarrow\; z = \mathrm{Enc}(x) \text{ unchanged for every } x
# \;\Longrightarrow\; \text{its profile is unchanged, exactly.}
# $$ (eq-decoder-only)
#
# It sounds too obvious to run, but it is a test of every claim of the form "the loss went down, so the latent space is
# better". A diffusion model is trained without the decoder. (What a profile cannot see is the paper's other aim, a
# decoder that does not amplify high frequencies, which {numref}`chap-price` measures.)

# %% tags=["remove-stderr"]
frozen = finetune(
    Finetuning(
        model="kl-f4c16",
        method="se",
        decoder_only=True,
        steps=min(steps, 20),
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        device=run.device,
    ),
    probe=x[:4],
    snapshots=1,
)
_ = frozen.autoencoder.module.cpu()

# %% jupyter={"source_hidden": true} tags=["hide-input"]
counts = {
    name: int(record.metrics["trainable_parameters"])
    for name, record in {**live, "decoder only": frozen.record}.items()
}
with torch.no_grad():
    before = shown["untouched"].encode(x[:4]).mean
    largest = (frozen.autoencoder.encode(x[:4]).mean - before).abs().max().item()
run.metrics["decoder_only_largest_change_of_a_latent"] = largest
results.show(
    {name: {"parameters trained": n} for name, n in counts.items()}, form=","
)

# %% [markdown] slideshow={"slide_type": "slide"}
# After these steps of the decoder alone no number of any latent has changed.
#
# ## What this leaves open
#
# - **Diffusability itself.** That a diffusion model learns more easily when a spectrum is nearer to that of pictures is a
#   hypothesis; {numref}`chap-pays` trains several for 600 to 9 600 steps. With SE they learn less early, later that is
#   undecided, and samples are farther from photographs. Nor does a profile at latent resolution say what a denoiser sees:
#   a token of patch 2 holds four latent positions ({numref}`chap-signs`).
# - **The perceptual distance.** The paper's $d$ includes LPIPS, in both terms. Mean squared error alone prefers soft
#   pictures.
# - **One small autoencoder**, trained on five photographs. `diffusab finetune` runs the same arms on any autoencoder of
#   `diffusers`:
#
#   ```bash
#   diffusab finetune path/to/vae --method plain --images path/to/images --out runs/ft
#   diffusab finetune path/to/vae --method se --images path/to/images --out runs/ft-se
#   diffusab profile path/to/vae runs/ft runs/ft-se --images path/to/images --out runs/profile
#   ```
#
# ## To take away
#
# - Scale equivariance asks that a smaller latent decode to the smaller picture. It names no frequency.
# - For a linear autoencoder the gain is a volume knob, and the loss punishes one that changes with frequency: among power laws
#   the latent gets the spectrum of the picture. A trained autoencoder goes an eighth of the way: its profile is 0.68 decades
#   from that of RGB before, 0.58 after.
# - The control is the same fine-tuning without the term. The untouched autoencoder is not.
# - The spectrum bends, and reconstruction pays. Training the decoder alone lowers the loss and moves no latent at all.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} Equivariance of what is not trained ★★
# :label: ex-not-trained
#
# RGB "latents" with the identity as decoder, and a latent made by `pixel_unshuffle` with `pixel_shuffle` as its decoder:
# what is the SE loss of each, and why?
# ```
#
# ````{solution} ex-not-trained
# :class: dropdown
#
# ```python
# from torch.nn.functional import pixel_shuffle, pixel_unshuffle
#
# print(regularizers.scale_equivariance(x, x, lambda z: z, 2).item())
# z = pixel_unshuffle(x, 4)  # (n, 48, h/4, w/4): the 16 pixels of a square become channels
# print(regularizers.scale_equivariance(x, z, lambda z: pixel_shuffle(z, 4), 2).item())
# ```
#
# The identity commutes with everything: 0. The unshuffled latent loses no bit either, and its loss is about 9% of the
# variance of the small pictures, the unit of the figure above: as much as a gain with $\kappa\approx 0.5$. Its channels
# are pictures sampled every fourth pixel, so they are full of aliasing, and averaging neighbours *within a channel* mixes
# pixels that lie four apart. Being lossless, or linear, has nothing to do with it.
# ````
#
# ```{exercise} A gain that one scale cannot see ★★★
# :label: ex-log-periodic
#
# Find a gain $g$, not constant, for which the ideal SE loss with $s = 2$ is zero. Does drawing $s$ from $\{2, 4\}$
# exclude it? Would $\{2, 3\}$?
# ```
#
# ````{solution} ex-log-periodic
# :class: dropdown
#
# {eq}`eq-se-linear` vanishes for every $g$ with $g(2\nu) = g(\nu)$, such as $2 + \cos(2\pi\log_2\nu)$: periodic in the
# logarithm of frequency. Then $g(4\nu) = g(2\nu) = g(\nu)$, so $s = 4$ adds nothing that $s = 2$ had not asked for; it
# only adds weight to the frequencies below 1/8. With 3 the gain would also have to be periodic with $\log 3$; as $\log_2
# 3$ is irrational, a continuous gain with both periods is constant along every ray from the origin; how it varies with
# direction no scale can see.
#
# ```python
# nu = torch.logspace(-2, -0.31, 200)
# g = lambda nu: 2 + torch.cos(2 * torch.pi * torch.log2(nu))
# for s in (2, 4, 3):
#     print(s, (1 - g(nu) / g(s * nu)).abs().max().item())
# ```
# ````
#
# ```{exercise} Which arm is the control? ★
# :label: ex-control
#
# Somebody fine-tunes with SE for 10 000 steps, compares with the untouched autoencoder and reports a gain of 0.2 dB. Name
# two runs that are missing before the gain can be put down to SE. Which of them does this chapter have?
# ```
#
# ````{solution} ex-control
# :class: dropdown
#
# Plain fine-tuning with the same data, steps and loss, which this chapter has; and more than one seed of both, which the
# recorded arms have and the live ones do not. A third would be plain fine-tuning with as much *compute*, about a tenth
# more steps; {numref}`chap-price` has a stricter one, with twice the steps.
# ````
#
# ## What this chapter claims
#
# Numbers in the text that come from records or from this run stand here once more, as conditions. When one fails, the
# sentence that it is quoted from has to be rewritten.


# %%
def paired(metric: str, arm: str = "SE", control: str = "plain (control)"):
    return results.paired(recorded, metric, arm, control)


ratio = results.means(recorded, "after_hf_energy_ratio")
share = results.means(recorded, "after_hf_share")
first = recorded.iloc[0]
# "SE divides the HF energy ratio by 1.8 …; plain fine-tuning leaves both where they were"
assert round(first.before_hf_energy_ratio / ratio["SE"], 1) == 1.8
assert round(ratio["plain (control)"] / ratio["SE"], 1) == 1.8
assert abs(ratio["plain (control)"] / first.before_hf_energy_ratio - 1) < 0.01
# "lowers the HF share from 11% to 6%"; "a share of 3%, … white noise of 51%"
assert [
    round(100 * v) for v in (first.before_hf_share, share["SE"], rgb_share)
] == [11, 6, 3]
assert round(100 * (B * B // 2) / (B * B - 1)) == 51
# "costs 0.46 dB … against the control, and 0.29 dB against the untouched autoencoder"
assert round(-paired("after_psnr_db").mean, 2) == 0.46
assert paired("after_psnr_db").sign < 0
psnr = results.means(recorded, "after_psnr_db")
assert round(first.before_psnr_db - psnr["SE"], 2) == 0.29

# %%
# "lower still, and PSNR is lower by another 0.21 dB"
other = "SE, target Dec(z) downsampled"
assert paired("after_hf_energy_ratio", other, "SE").sign < 0
assert round(-paired("after_psnr_db", other, "SE").mean, 2) == 0.21
# "falls from 0.030 in the first quarter … to 0.023 in the last; … from 0.028 to 0.018"
last = {
    arm: (round(sum(s[:10]) / 2.5, 3), round(sum(s[-10:]) / 2.5, 3))
    for arm in ("SE, decoder only", "SE")
    for s in [results.mean_series(recorded, "se", arm)]
}
assert last == {"SE, decoder only": (0.03, 0.023), "SE": (0.028, 0.018)}

# %%
# "an eighth of the way: … 0.68 decades … before, 0.58 after"
distance = results.means(recorded, "after_spectrum_distance_to_rgb")["SE"]
assert round(first.before_spectrum_distance_to_rgb, 2) == 0.68
assert round(distance, 2) == 0.58
assert 7 < 1 / (1 - distance / first.before_spectrum_distance_to_rgb) < 8.5
# "within a few percent of the formula, and within one percent on the same crops mirrored"
assert worst < 0.15
assert worst_mirrored < 0.01
# "the decoded picture never changes"; the level line of the knob is what the loss has
there_and_back = multiplied(multiplied(picture, 1.0), -1.0)
assert torch.allclose(there_and_back, picture, atol=1e-4)

# %%
# "At scale 1 … SE is behind"
with torch.no_grad():
    whole = {
        name: metrics.psnr(
            model.decode(model.encode(picture[None]).mean), picture[None]
        )
        for name, model in shown.items()
    }
assert min(whole, key=whole.get) == "with SE"
# "no number of any latent has changed"
assert largest == 0
if (
    size == "laptop"
):  # in the live arms, too, SE bends the spectrum and the control does not
    after = {name: r.metrics["after_hf_share"] for name, r in live.items()}
    assert after["SE"] < 0.8 * after["plain"]

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
commuting = regularizers.scale_equivariance(x, x, lambda z: z, 2).item()
print("identity commutes, loss is:            ", commuting)
print("formula for κ = 1, s = 2 and 4:        ", [formula(s, 1.0) for s in (2, 4)])
print("implemented loss within 15 % of it:    ", worst < 0.15)
print("latents after training the decoder only:", f"changed by {largest:g}")
print("parameters trained, both parts:        ", counts["SE"])
print("parameters trained, decoder only:      ", counts["decoder only"])
lower = paired("after_hf_energy_ratio").sign < 0
print("recorded: SE lowers the HF energy ratio:", "lower" if lower else "not lower")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
