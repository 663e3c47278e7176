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
# (chap-se)=
# # Scale equivariance
#
# The first five chapters diagnosed: latents carry more energy at high frequencies than pictures do, decoders depend on
# it, and a diffusion model meets it last. This chapter begins the treatment. {cite:t}`skorokhodov2025improving` fine-tune
# an autoencoder for a short while with one more term in its loss, which asks that a *downsampled latent* decode to the
# *downsampled picture*. It names no frequency, and yet it bends the spectrum. The chapter derives why, in a case that can
# be solved on paper, then fine-tunes a real autoencoder live, beside a control that is trained just as long without the
# term.
#
# ```{measured-runtime}
# ```
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
record_path: str = ""  # where the run record goes; nowhere when empty

# %% tags=["hide-input"]
import plotly.graph_objects as go
import torch
from IPython.display import Markdown

from diffusab_core import autoencoders, data, spectrum
from diffusab_book import figures, results as summaries
from diffusab_book.explorers import scale as explore_scale
from diffusab_core.experiments import records
from diffusab_core.methods import regularizers
from diffusab_core.experiments import finetune
from diffusab_core.methods.finetuning import Finetuning

run = records.start(
    "06_scale_equivariance",
    parameters={
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "alpha": alpha,
        "n_images": n_images,
        "resolution": resolution,
        "block_size": block_size,
    },
    seed=seed,
    size=size,
    data=f"trained on crops of 64² of the training photographs, {n_images} crops of "
    f"{resolution}² from the held-out photographs (coffee, china)",
)
B = block_size
crops = data.Photos(resolution=resolution, split="test", seed=seed)
x = data.stack(crops, range(n_images))  # (n, 3, resolution, resolution) in [-1, 1]

# %% [markdown]
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
# so the left side can be computed. The slider downsamples a picture that was never trained on. `untouched` is an
# autoencoder that comes with this book; the other two are the same one after 400 more steps of training, without and with
# the term that this chapter is about.

# %%
picture = data.photo("china")[:, 40:232, 140:332]  # (3, 192, 192), never trained on
shown = {
    "untouched": autoencoders.load("kl-f4c16"),
    "fine-tuned": autoencoders.load("kl-f4c16-ft"),
    "with SE": autoencoders.load("kl-f4c16-se"),
}
explore_scale.scale_explorer(picture, shown, scales=(1, 2, 3, 4))

# %% [markdown]
# What a small picture should look like is on the left. Decoded from a small latent it comes out much too soft, and softer
# with every scale; with SE less so. (The shift in colour is there at scale 1 already. It belongs to this small autoencoder,
# which has seen five photographs.)
#
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
# is the mean squared error plus LPIPS; here it is the mean squared error alone, because the network behind LPIPS cannot
# be had offline. The encoder runs once, on the full picture; what the term costs is a decoder pass on a latent $s^2$
# times smaller.
#
# The target $\tilde x$ is the downsampled *input*. One may also take the downsampled *reconstruction*,
# $\mathcal S_s\,\mathrm{Dec}(z)$, which is {eq}`eq-equivariance` to the letter: that loss is zero for every decoder which
# commutes with $\mathcal S_s$, however badly it reconstructs. The input asks for both at once. By the triangle inequality for
# the norm in which $d$ is a squared distance,
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
# \mathcal L_{\mathrm{SE}} \;\propto \sum_{\lvert\nu_1\rvert, \lvert\nu_2\rvert < 1/(2s)}\;\Bigl\lvert 1 - \frac{g(\nu)}{g(s\nu)}\Bigr\rvert^2\,
# \lvert\hat x(\nu)\rvert^2 ,
# $$ (eq-se-linear)
#
# and it vanishes exactly when $g(\nu) = g(s\nu)$ wherever the picture has energy. For a power law $g(\nu) =
# \lvert\nu\rvert^\gamma$ the ratio does not depend on frequency at all:
#
# $$
# \mathcal L_{\mathrm{SE}} = \bigl(1 - s^{-\gamma}\bigr)^2 \times \text{energy of } \tilde x \text{ about its mean} ,
# $$ (eq-se-power-law)
#
# which is zero for $\gamma = 0$ only. Among power laws, then, the latent must have **the spectrum of the picture**. That
# is the mechanism. The term does not name high frequencies; it forbids a gain that changes with the length of a wave in
# pixels. (It leaves free one that is periodic in $\log\lvert\nu\rvert$, {ref}`ex-log-periodic`, and a dependence on
# direction.)
#
# The formula is for ideal downsampling. Here it stands beside the loss as this book implements it, on crops of photographs.


# %%
def gain(height: int, width: int, gamma: float) -> torch.Tensor:
    """|ν|^γ on the grid of a real Fourier transform; 1 for the mean, which no power of zero can be."""
    rows = torch.fft.fftfreq(height)[:, None]
    nu = (rows.square() + torch.fft.rfftfreq(width).square()).sqrt()
    return torch.where(nu > 0, nu.clamp(min=1e-9) ** gamma, 1.0)


def multiplied(image: torch.Tensor, gamma: float) -> torch.Tensor:
    shape = image.shape[-2:]
    return torch.fft.irfft2(torch.fft.rfft2(image) * gain(*shape, gamma), s=shape)


gammas = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)


def linear_losses(pictures: torch.Tensor, scale: int) -> list[float]:
    """The SE loss of the linear autoencoder, over the variance of the small pictures."""
    small = regularizers.downsample(pictures, scale)
    energy = (small - small.mean((-2, -1), keepdim=True)).square().mean()
    found = []
    for g in gammas:
        loss = regularizers.scale_equivariance(
            pictures,
            multiplied(pictures, g),
            lambda z, g=g: multiplied(z, -g),
            scale,
        )
        found.append((loss / energy).item())
    return found


linear = {scale: linear_losses(x, scale) for scale in (2, 4)}
mirrored = torch.cat([x, x.flip(-1)], -1)  # opposite edges fit each other
mirrored = torch.cat([mirrored, mirrored.flip(-2)], -2)
linear_mirrored = {scale: linear_losses(mirrored, scale) for scale in (2, 4)}

# %% tags=["hide-input"]
toy = go.Figure()
fine = [i / 50 * gammas[-1] for i in range(51)]
for i, scale in enumerate((2, 4)):
    color = figures.PALETTE[i]
    toy.add_scatter(
        x=fine,
        y=[(1 - scale**-g) ** 2 for g in fine],
        name=f"formula, s = {scale}",
        line={"color": color, "dash": figures.DASHES[i]},
        mode="lines",
    )
    toy.add_scatter(
        x=gammas,
        y=linear[scale],
        name=f"loss, s = {scale}",
        mode="markers",
        marker={"color": color, "size": 9, "symbol": i},
    )
toy.update_xaxes(title="exponent γ of the gain").update_yaxes(
    title="SE loss / variance of the small picture"
)
toy.update_layout(height=360)
figures.described(
    toy,
    "The loss of scale equivariance against the exponent of the encoder's gain, for "
    "scales 2 and 4. It is zero at exponent zero and grows with the exponent; measured "
    "points lie on the curves of the formula, a little below them at the right.",
)


# %% tags=["hide-input"]
def deviation(losses: dict[int, list[float]]) -> float:
    """Largest relative difference to the formula up to γ = 1."""
    return max(
        abs(found / (1 - scale**-g) ** 2 - 1)
        for scale, values in losses.items()
        for g, found in zip(gammas, values, strict=True)
        if 0 < g <= 1
    )


worst = deviation(linear)
run.metrics |= {
    "linear_worst_deviation": worst,
    "linear_worst_deviation_mirrored": deviation(linear_mirrored),
}
Markdown(
    f"**Measured here.** Up to γ = 1 the implemented loss is within {worst:.0%} of the formula, and on the same crops, mirrored so "
    f"that opposite edges fit, within {deviation(linear_mirrored):.1%}: the Fourier transform joins the edges of a crop, the "
    "downsampling does not."
)

# %% [markdown]
# Three steps separate this from a real autoencoder, and each weakens the conclusion. It has many channels per position,
# between which a frequency can be moved; it compresses, so that waves shorter than $2f$ pixels can only be kept *in*
# channels; and it is not linear, so a decoder may learn to tell a small latent from a large one by its contrast and undo
# the gain of each. The formula predicts a direction. How far a trained network goes is a matter of measurement.
#
# ## Two arms, live
#
# Any fine-tuning changes an autoencoder. What scale equivariance does is the difference to **the same fine-tuning without
# it**: same weights to begin with, same crops in the same order, same noise of the posterior, same number of steps. The
# paper calls this control FT. Comparing with the untouched autoencoder instead would credit or charge the term with
# whatever a few hundred more steps do by themselves.
#
# Both arms are now trained on crops of the training photographs. The slider goes through the training, from half way on
# or back, and shows the spectrum of the encoder's means on held-out ones.

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
    )
    arms[name] = finetune(settings, probe=x, snapshots=4)

# %%
latent_size = resolution // 4
rgb = data.rgb01(data.resize_to(x, latent_size, latent_size))
rgb_profile = spectrum.frequency_profile(rgb, B)
live = {name: arm.record for name, arm in arms.items()}
explore_scale.training_explorer(live, rgb_profile)

# %% tags=["hide-input"]
for name, record in live.items():
    for key in ("hf_energy_ratio", "hf_share", "spectrum_distance_to_rgb", "psnr_db", "ssim"):  # fmt: skip
        for when in ("before", "after"):
            run.metrics[f"{name}_{when}_{key}"] = record.metrics[f"{when}_{key}"]
Markdown(
    f"**Measured here.** {steps} steps of {batch_size} crops of 64² in each arm, one run each, on {n_images} held-out crops of "
    f"{resolution}²:\n\n"
    + summaries.finetuning_table({name: [record] for name, record in live.items()})
)

# %% [markdown]
# The table is of the moving average of the weights, with a half-life of 5% of the steps; slider and losses are of the
# weights of the step itself. *HF energy ratio*: mean energy of the upper half of the ranks over that of $D_{00}$. *HF
# share*: what part of the energy outside $D_{00}$ lies in the upper half. *Distance to RGB*: mean $\lvert\log_{10}\rvert$
# of the ratio of the two profiles, over ranks ({ref}`chap-dct` defines all profiles). One run proves little; the next
# section has three of each arm.
#
# The losses along the way. Each point is one batch and one drawn scale, so the curves jump, and no trend can be read from
# so few; but both arms see the same batches, on which SE's reconstruction can be compared with the control's.

# %% tags=["hide-input"]
losses = go.Figure()
for i, (name, record) in enumerate(live.items()):
    for key, title in (
        ("reconstruction", "d(x, Dec(z))"),
        ("se", "α d(x̃, Dec(z̃))"),
    ):
        if key in record.series:
            losses.add_scatter(
                x=record.series["step"],
                y=record.series[key],
                name=f"{name}: {title}",
                mode="lines",
                line={
                    "color": figures.PALETTE[i],
                    "dash": "solid" if key == "reconstruction" else "dash",
                },
            )
losses.update_xaxes(title="step").update_yaxes(title="loss", type="log")
losses.update_layout(height=320)
figures.described(
    losses,
    "Losses of both arms during training, jumping from batch to batch: the two "
    "reconstruction losses rise and fall together.",
)

# %% [markdown]
# ## Recorded: three seeds, four hundred steps
#
# The same with 400 steps of eight crops at a learning rate of $10^{-4}$, over three seeds of order, crops and noise,
# measured on 64 held-out crops of 128². Beside the control and the paper's setting there are the other target of
# {eq}`eq-triangle`, and an arm that trains the decoder only.

# %% tags=["hide-input"]
recorded = records.by_arm(records.RESULTS / "finetuning")
labels = {
    "plain": "plain (control)",
    "se": "SE",
    "se-target-reconstruction": "SE, target Dec(z) downsampled",
    "se-decoder-only": "SE, decoder only",
}
runs = {label: recorded[arm] for arm, label in labels.items()}
held_out = data.stack(data.Photos(128, "test", seed=0, length=64), range(64))
held_out_rgb = data.rgb01(data.resize_to(held_out, 32, 32))
rgb_ratio = spectrum.high_frequency_energy_ratio(held_out_rgb, B).item()
rgb_share = spectrum.high_frequency_share(
    spectrum.frequency_profile(held_out_rgb, B, "energy")
)
Markdown(
    "**Recorded** (mean ± standard deviation over the runs; an arrow: all runs of the arm lie above, or below, all runs of "
    "the control, which chance alone does in one of ten cells):\n\n"
    + summaries.finetuning_table(runs, "plain (control)")
    + f"\n\nRGB at latent size has an HF energy ratio of {1000 * rgb_ratio:.2f}·10⁻³ (which depends on its brightness) and an HF "
    f"share of {rgb_share:.1%}."
)


# %% tags=["hide-input"]
def last_se_loss(arm: str) -> list[float]:
    """Scale equivariance's loss, without its weight, over the last quarter of a run."""
    return [
        sum(tail) / len(tail) / 0.25
        for tail in (r.series["se"][-10:] for r in recorded[arm])
    ]


def lies(arm: str, key: str, control: str = "se") -> str:
    ours, theirs = (
        summaries.values(recorded[a], f"after_{key}") for a in (arm, control)
    )
    return records.ordering(theirs, ours)


Markdown(
    "- *Target.* With the downsampled reconstruction as target the HF energy ratio is "
    f"**{lies('se-target-reconstruction', 'hf_energy_ratio')}** than with the downsampled input, PSNR "
    f"**{lies('se-target-reconstruction', 'psnr_db')}** (all runs against all runs). Its gradient reaches Dec(z) too.\n"
    "- *Decoder only.* Its latents are the untouched ones; an arrow at the distance is the control's doing. Over the last quarter of the "
    f"steps its SE loss is {records.plus_minus(last_se_loss('se-decoder-only'), '.4f')}, that of SE in both parts "
    f"{records.plus_minus(last_se_loss('se'), '.4f')}."
)

# %% tags=["hide-input"]
before = runs["plain (control)"][0].series["before_profile"]
curves = {"untouched": torch.tensor(before)} | {
    label: torch.tensor(summaries.mean_series(found, "after_profile"))
    for label, found in runs.items()
    if label not in ("SE, decoder only",)
}
curves["RGB"] = spectrum.frequency_profile(held_out_rgb, B)
figures.profiles(
    curves,
    alt="Profiles of the latents before, after plain fine-tuning, and after fine-tuning "
    "with scale equivariance with both targets, with that of RGB. Plain fine-tuning lies "
    "on the untouched profile; scale equivariance lies below it at high ranks, between it "
    "and RGB.",
    ylabel="mean |D| / mean |D₀₀|",
)

# %% tags=["hide-input"]
plain, se = runs["plain (control)"], runs["SE"]
untouched_ratio = plain[0].metrics["before_hf_energy_ratio"]


def factor(found: list) -> list[float]:
    return [
        untouched_ratio / v
        for v in summaries.values(found, "after_hf_energy_ratio")
    ]


lost = [
    s - p
    for p, s in zip(
        summaries.values(plain, "after_psnr_db"),
        summaries.values(se, "after_psnr_db"),
        strict=True,
    )
]
Markdown(
    f"**Recorded.** SE divides the HF energy ratio by {records.plus_minus(factor(se))}, plain fine-tuning by "
    f"{records.plus_minus(factor(plain))}. Its price against the control is "
    f"{records.plus_minus([-v for v in lost])} dB of PSNR, against the untouched autoencoder "
    + records.plus_minus(
        [r.metrics["before_psnr_db"] - r.metrics["after_psnr_db"] for r in se]
    )
    + " dB (positive: lost)."
)

# %% [markdown]
# ```{admonition} In the paper
# :class: paper
#
# Fig. 4 shows the same movement for FluxAE: with SE its profile comes nearer to that of RGB, the more so the larger
# $\alpha$. Table 4 gives the price in reconstruction, untouched → fine-tuned with SE:
#
# | | PSNR, dB | SSIM | LPIPS | FID |
# |---|---|---|---|---|
# | FluxAE | 30.243 → 30.474 | 0.883 → 0.888 | 0.054 → 0.055 | 0.183 → 0.550 |
# | Cosmos, images | 23.230 → 24.558 | 0.638 → 0.677 | 0.181 → 0.166 | 1.077 → 1.570 |
# | CogVideoX | 34.961 → 35.399 | 0.947 → 0.948 | 0.073 → 0.067 | 2.992 → 2.986 |
# | LTX | 30.897 → 30.386 | 0.886 → 0.885 | 0.152 → 0.137 | 5.928 → 5.303 |
#
# The table compares with the *untouched* autoencoders, so it does not say how much of each change is fine-tuning alone.
# Downstream the control was run, and it moves in both directions (Table 1, FID untouched / fine-tuned / with SE): DiT-B/2
# on FluxAE 25.41 / 30.51 / 18.06, DiT-L/2 12.42 / 14.48 / 9.61, DiT-XL/2 12.21 / 10.62 / 9.85, and DiT-B/1 on Cosmos
# 11.69 / 13.59 / 11.85, where even the sign depends on what one compares with.
# ```
#
# The direction of the spectrum agrees. So does that of the price, once the comparison is the same: where the paper trains
# from scratch with and without the term (Table 10), PSNR falls from 29.39 to 28.73 dB (FluxAE) and from 37.08 to 36.61 dB
# (CogVideoX). It gives the reason as well (Sec. 4.2): the decoder serves two tasks with the same capacity.
# {ref}`chap-price` follows the price over the weight $\alpha$ and over longer training.
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
# decoder that does not amplify high frequencies, which {ref}`chap-price` measures.)

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
    ),
    probe=x[:4],
    snapshots=1,
)
with torch.no_grad():
    moved = (
        frozen.autoencoder.encode(x[:4]).mean
        - shown["untouched"].encode(x[:4]).mean
    )
largest = moved.abs().max().item()
run.metrics["decoder_only_largest_change_of_a_latent"] = largest

# %% tags=["hide-input"]
trained_counts = {
    name: int(record.metrics["trainable_parameters"])
    for name, record in {**live, "decoder only": frozen.record}.items()
}
Markdown(
    f"**Measured here.** After {min(steps, 20)} steps of the decoder alone ({trained_counts['decoder only']:,} parameters trained, of "
    f"{trained_counts['SE']:,} otherwise), the largest change of any latent number is {largest:g}."
)

# %% [markdown]
# ## What this leaves open
#
# - **Diffusability itself.** A spectrum nearer to that of pictures is a reason to expect that a diffusion model learns more
#   easily, not a proof. That takes training one.
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
# ## Exercises
#
# ```{exercise} Equivariance of what is not trained
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
# variance of the small pictures, the unit of the figure above: as much as a gain with $\gamma\approx 0.5$. Its channels
# are pictures sampled every fourth pixel, so they are full of aliasing, and averaging neighbours *within a channel* mixes
# pixels that lie four apart. Being lossless, or linear, has nothing to do with it.
# ````
#
# ```{exercise} A gain that one scale cannot see
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
# ```{exercise} Which arm is the control?
# :label: ex-control
#
# Somebody fine-tunes with SE for 10 000 steps, compares with the untouched autoencoder and reports a gain of 0.2 dB. Name two
# runs that are missing before the gain can be put down to SE. Which of them does this chapter have?
# ```
#
# ````{solution} ex-control
# :class: dropdown
#
# Plain fine-tuning with the same data, steps and loss, which this chapter has; and more than one seed of both, which the
# recorded arms have and the live ones do not. A third would be plain fine-tuning with as much *compute*, about a tenth
# more steps; {ref}`chap-price` has a stricter one, with twice the steps.
# ````
#
# ## Check yourself

# %% tags=["checkpoint"]
commuting = regularizers.scale_equivariance(x, x, lambda z: z, 2).item()
print("identity commutes, loss is:            ", commuting)
print(
    "formula for γ = 1, s = 2 and 4:        ",
    [(1 - s**-1.0) ** 2 for s in (2, 4)],
)
print("implemented loss within 15 % of it:    ", worst < 0.15)
print("latents after training the decoder only:", f"changed by {largest:g}")
print("parameters trained, both parts:        ", trained_counts["SE"])
print("parameters trained, decoder only:      ", trained_counts["decoder only"])
print(
    "recorded: SE lowers the HF energy ratio:",
    records.ordering(
        summaries.values(plain, "after_hf_energy_ratio"),
        summaries.values(se, "after_hf_energy_ratio"),
    ),
)

# %% tags=["hide-input"]
record = run.finish()
if record_path:
    record.write(record_path)
Markdown(
    f"Run `{record.identity}`: size `{record.size}`, seed {record.seed}, {record.device}, torch {record.versions['torch']}, "
    f"{record.wall_time_s:.0f} s."
)
