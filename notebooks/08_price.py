# ---
# jupyter:
#   book:
#     needs: [chap-kl, chap-chopping]
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
# (chap-price)=
# # How much, and at what price
#
# **In short.** Scale equivariance has done most of its work on the spectrum at α = 0.1, for a quarter of a decibel; the paper's 0.25 costs
# 0.46 dB, and beyond it only the price rises. A step costs 11% more computing. A cut of the latent hurts more than without SE, where the
# paper finds it to hurt less: it takes less, and the decoder amplifies more.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
model: str = "kl-f4c16"  # before fine-tuning: shipped name or folder
n_batches: int = 8  # for gradients
batch_size: int = 8
block_size: int = 8
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import math
from itertools import pairwise

import pandas as pd
import torch

from diffusab_book import chapters, claims, figures, results
from diffusab_book.explorers import alpha
from diffusab_core import autoencoders, data, spectrum
from diffusab_core.methods import finetuning
from diffusab_core.methods.cost import reconstruction_cost
from diffusab_core.methods.finetuning import Finetuning
from diffusab_core.methods.gradients import term_gradients

run = chapters.start(
    "08_price",
    globals(),
    data=f"gradients on {n_batches} batches of {batch_size} training crops of 64²",
)
B = block_size
recorded = results.frame("finetuning")
SWEEP = {0.0: "plain", 0.01: "se-alpha0.01", 0.1: "se-alpha0.1"}
SWEEP |= {0.25: "se", 0.5: "se-alpha0.5", 1.0: "se-alpha1"}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
FAMILIES = {"plain": "plain", "se-soft": "SE and soft penalty", "se": "SE"}
FAMILIES |= {"chf": "CHF", "soft": "soft penalty", "kl": "KL", "eq": "EQ-VAE"}
alpha.plane(
    recorded,
    FAMILIES,
    "All recorded fine-tuning runs: high-frequency energy ratio across, PSNR up, families by colour and symbol. The soft penalty "
    "lies farthest to the left, SE between it and plain fine-tuning, CHF near plain, KL far to the right, falling.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded by `sweeps/finetuning.yaml`.* Every fine-tuning run of the same autoencoder, `kl-f4c16`, by what it did to the spectrum (less is
# to the left) and by what it costs in reconstruction. Runs have 400 steps, or 800 where the arm's name (under the pointer) ends in *twice*.
#
# {numref}`chap-se` and {numref}`chap-chopping` have bent spectra. Bending has a weight, $\alpha$, and a price: an autoencoder that must
# also decode small latents reconstructs large ones a little worse, and a step of its training costs a little more. The paper settles on
# $\alpha = 0.25$ for one autoencoder. What should you choose for another? This chapter asks what $\alpha$ means as a price, measures before
# any training which values are worth trying, and ends with a recipe. On the way it meets a figure of the paper that does not reproduce
# here, and looks for the reason.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - read $\alpha$ as the rate at which one loss is exchanged for the other, and prove which way each of them moves with it;
# - estimate from a few backward passes which $\alpha$ are worth trying on an autoencoder you have never fine-tuned;
# - explain why a flatter or steeper spectrum need not change what a cut of high frequencies costs;
# - choose $\alpha$ from short runs, with a control and a tolerance named beforehand, and say what a step costs.
# ```

# %% [markdown] slideshow={"slide_type": "slide"}
# ## One plane
#
# Across stands the high-frequency energy ratio $E$ of the latents, which the regularizers are meant to lower; up, $\mathrm{PSNR}$ on
# held-out photographs, which they should not. An arm *dominates* another if it is better in one and not worse in the other,
#
# $$
# a \succ b \quad\text{if}\quad E_a \le E_b \ \text{ and }\ \mathrm{PSNR}_a \ge \mathrm{PSNR}_b,\ \text{ not both equal,}
# $$ (eq-dominates)
#
# and the arms that nobody dominates form the *Pareto front*: only among those is there anything to choose. A *price* puts arms of different
# strength on one scale: how many decibels below the control, for each halving of the energy,
#
# $$
# \pi_a = \frac{\mathrm{PSNR}_{\text{control}} - \mathrm{PSNR}_a}{\log_2\bigl(E_{\text{control}} / E_a\bigr)} .
# $$ (eq-price)
#
# The control is not the untouched autoencoder but the same fine-tuning without the regularizer ({numref}`chap-se` says why), for arms of
# 800 steps that of 800.


# %%
def price(arm: str) -> float:
    """dB lost against the control for each halving of the energy, of means over seeds."""
    control = "plain-twice" if arm.endswith("-twice") else "plain"
    (energy_0, db_0), (energy, db) = place.loc[control], place.loc[arm]
    return (db_0 - db) / math.log2(energy_0 / energy)


place = recorded.groupby("arm")[["after_hf_energy_ratio", "after_psnr_db"]].mean()

# %% [markdown] slideshow={"slide_type": "slide"}
# SE at the paper's weight is not on the front of the means over seeds: the weakest soft penalty has little more than half of its energy
# ratio and loses 0.16 dB less. The soft penalty reaches the least energy by far because it penalises what this axis measures
# ({numref}`chap-chopping`), so the axis favours it; whether its latents are better is for a denoiser to say.
#
# ## α is an exchange rate
#
# Let $L_r(\theta)$ be the reconstruction loss, $L_s(\theta)$ that of scale equivariance, and $\theta_\alpha$ the weights that minimise
# $L_r+\alpha L_s$. This is the Lagrangian of a problem with a budget, $\min_\theta L_r(\theta)$ subject to $L_s(\theta) \le b$: choosing
# $\alpha$ is choosing $b$ without knowing it. (Every $\alpha$ solves the problem for $b = L_s(\theta_\alpha)$; that every $b$ belongs to an
# $\alpha$ needs convexity.) For any two weights $\alpha_1 < \alpha_2$ each minimiser is the better one at its own weight,
#
# $$
# \begin{aligned}
# L_r(\theta_1) + \alpha_1 L_s(\theta_1) &\le L_r(\theta_2) + \alpha_1 L_s(\theta_2),\\
# L_r(\theta_2) + \alpha_2 L_s(\theta_2) &\le L_r(\theta_1) + \alpha_2 L_s(\theta_1).
# \end{aligned}
# $$ (eq-exchange)
#
# Their sum is $(\alpha_2 - \alpha_1)\bigl(L_s(\theta_2) - L_s(\theta_1)\bigr) \le 0$, so **the regularizer's loss never rises with
# $\alpha$**; put into the first line, this gives $L_r(\theta_1) \le L_r(\theta_2)$: **the reconstruction loss never falls**. Nothing was
# assumed about the network but that the minima exist. If $\theta_\alpha$ moves smoothly, the gradient of the sum vanishes along it and the
# envelope theorem follows,
#
# $$
# \frac{\mathrm d}{\mathrm d\alpha}\bigl(L_r + \alpha L_s\bigr)\Big|_{\theta_\alpha} = L_s(\theta_\alpha),
# \qquad
# \frac{\mathrm d L_r}{\mathrm d\alpha} = -\,\alpha\,\frac{\mathrm d L_s}{\mathrm d\alpha} .
# $$ (eq-envelope)
#
# The second equation says what $\alpha$ *is*: at the optimum the last unit of $L_s$ was bought for $\alpha$ units of $L_r$. It also says
# that the first bit is free: at $\alpha = 0$ the derivative of $L_r$ is zero. None of this need hold for 400 steps. Those weights minimise
# nothing; and the theorem is about the training loss, whereas PSNR is measured on other pictures, by the means and not by samples.
#
# ## α from 0.01 to 1
#
# Move through the sweep, from the control up. On the right is its path through the plane.

# %% slideshow={"slide_type": "subslide"}
held_out = data.stack(data.Photos(128, "test", seed=0, length=64), range(64))
rgb = data.rgb01(data.resize_to(held_out, 32, 32))
references = {
    "RGB": spectrum.frequency_profile(rgb, B).tolist(),
    "untouched": recorded.record[0].series["before_profile"],
}
settings = alpha.read_settings(recorded, SWEEP)
alpha.weight_explorer(settings, references, start=0.25)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
labels = {arm: f"α = {a:g}" for a, arm in SWEEP.items()}
labels |= {"plain": "α = 0 (control)", "se": "α = 0.25 (paper)"}
of_weights = results.table(
    results.rename(recorded, labels),
    results.FINETUNING,
    control="α = 0 (control)",
    before="before_",
)
prices = [price(arm) for a, arm in SWEEP.items() if a]
shown = ["", "", *(f"{value:.2f}" for value in prices)]
of_weights.assign(**{"price, dB for each halving": shown})

# %% [markdown]
# *Recorded by `sweeps/finetuning.yaml`: mean ± standard deviation over the runs, on 64 held-out crops of 128²; below it the mean difference
# to the control, paired by seed, with its 95% interval (t over three seeds).*
#
# Most of what SE does to the spectrum it has done at α = 0.1; beyond the paper's weight PSNR falls on and the energy ratio stays within
# half a percent (0.5) or rises again (1). Counted from the control, the average price of a halving rises with every weight. The free start
# of {eq}`eq-envelope` is not seen: for each unit of α the loss is steepest at the first weight. Either the free part ends below 0.01, or
# 400 steps are no minimum. At α = 1 the two measures of the spectrum part: the energy *ratio*, which compares with $D_{00}$, is 4% higher
# again than at the paper's weight, while the *share* of the upper half in the energy outside $D_{00}$ is lower. If you pick α by one
# number, know which.
#
# ```{admonition} In the paper
# :class: paper
#
# Fig. 9 sweeps $\alpha$ for FluxAE and finds that reconstruction grows worse with it; 0.25 is where it is as good as the untouched
# autoencoder's. Table 9 trains DiT-B/2 on the results. FID / FDD on 5 000 samples, lower is better:
#
# | α | 0.01 | 0.05 | 0.1 | 0.25 | 0.5 | 1 |
# |---|---|---|---|---|---|---|
# | FID | 33.99 | 33.86 | 28.62 | 26.84 | 29.63 | 33.22 |
# | FDD | 641.95 | 645.94 | 586.91 | 558.36 | 569.92 | 612.45 |
#
# By FID there is a best weight, and too much is about as bad as too little; by FDD it is less bad. There is no row for $\alpha = 0$. No
# spread is given; Appendix C.6 has 25.87 and 551.27 at 0.25.
# ```
#
# What a denoiser makes of these latents is the half that is missing here; {numref}`chap-pays` has it for some.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Which α, before any run
#
# A weight means nothing until you know how large the two losses' *gradients* are. With $g_r = \nabla_\theta L_r$ and $g_s = \nabla_\theta
# L_s$, one small step of gradient descent with rate $\eta$ changes $L_r$ by $-\eta\,(\|g_r\|^2 + \alpha\,\langle g_r, g_s\rangle)$ and
# $L_s$ by $-\eta\,(\langle g_r, g_s\rangle + \alpha\,\|g_s\|^2)$. Let $c$ be the cosine of the angle between the gradients. If they
# disagree, $c < 0$, both losses fall exactly for
#
# $$
# -c\;\frac{\|g_r\|}{\|g_s\|} \;<\; \alpha \;<\; \frac{1}{-c}\;\frac{\|g_r\|}{\|g_s\|} ,
# $$ (eq-window)
#
# a window whose geometric middle is the weight at which both pull equally hard, $\alpha_= = \|g_r\|/\|g_s\|$. Below the window $L_s$ rises,
# above it $L_r$ does. If they agree, any weight lowers both. This costs a few backward passes and no training. On training crops, at the
# weights of the untouched autoencoder:

# %%
photos = data.Photos(64, "train", seed=seed, length=n_batches * batch_size)
batches = data.stack(photos, range(len(photos))).split(batch_size)
untouched = autoencoders.load(model)
losses = {
    "SE, scales 2 and 4": Finetuning(method="se"),
    "CHF, drawn to 70%": Finetuning(method="chf"),
    "KL": Finetuning(method="plain", kl_weight=1.0),
}
pulls = {
    name: term_gradients(untouched, batches, loss, seed=seed)
    for name, loss in losses.items()
}


# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
run.metrics |= {f"{n}: equal weight": g.equal_weight for n, g in pulls.items()}
results.show(
    {
        name: {
            "gradient, times that of reconstruction": g.term / g.reconstruction,
            "cosine": g.cosine,
            "equal pull at": g.equal_weight,
            "both fall for": "{:.2g} to {:.2g}".format(*g.window),
        }
        for name, g in pulls.items()
    },
    form=".2g",
    index="term",
)

# %% [markdown]
# *Measured here.* An autoencoder that has been trained for long has a small reconstruction gradient left. It has never seen a small latent,
# so the new term meets it with a large one. The equal weight of SE is far below the paper's 0.25: **at the start, 0.25 is nearly all scale
# equivariance and hardly any reconstruction**. As $L_s$ falls its gradient shrinks, and the balance moves back. For CHF the new gradient is
# about twice as long as that of reconstruction, and the two agree more than they disagree (positive cosine).
#
# It is a coarse guide for a few seconds of computing: it gives the place around which to lay the grid of a sweep. Trust the middle of the
# window more than its ends. The formulas hold for gradient descent, while Adam divides each coordinate by its own history; single batches
# differ; and the window says where *both* fall in the first step, not where the bargain is best.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## The cut curve
#
# {numref}`chap-cutting` has cut high frequencies from latents and watched the picture fall apart.
#
# ```{admonition} In the paper
# :class: paper
#
# The second claim for SE is that it falls apart more slowly. Fig. 8 cuts more and more DCT coefficients from the latents of 512 pictures.
# FluxAE fine-tuned with SE has the best reconstruction throughout, by every metric, ahead of the untouched model and of the one fine-tuned
# without SE.
# ```
#
# The same here, with $P$ the cut of {numref}`chap-chopping`, for seven arms, each against the control that was trained as long without SE:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
cut_runs = results.frame("cut-curves")
JUDGED = {"SE": ("se", "plain"), "α = 1": ("se-alpha1", "plain")}
JUDGED |= {"800 steps": ("se-twice", "plain-twice")}
JUDGED |= {f"scale {s} only": (f"se-scale{s}", "plain") for s in (2, 4)}
JUDGED |= {"CHF": ("chf-drawn0.7", "plain"), "EQ-VAE": ("eq-vae", "plain")}
CUTS = cut_runs.record[0].series["cut_ratio"]
SERIES = ("psnr_db", "picture_mse", "latent_mse")


def curves(arm: str) -> dict[str, torch.Tensor]:
    """By cut, means over seeds; the energy removed is relative to the latent's variance."""
    runs = cut_runs[cut_runs.arm == arm]
    of = {s: torch.tensor([r.series[s] for r in runs.record]) for s in SERIES}
    of["latent_mse"] /= torch.tensor(runs.latent_variance.to_numpy())[:, None]
    return {name: values.mean(0) for name, values in of.items()}


pairs = {t: (curves(arm), curves(control)) for t, (arm, control) in JUDGED.items()}
to_control = {t: a["psnr_db"] - b["psnr_db"] for t, (a, b) in pairs.items()}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.lines(
    to_control,
    x=[100 * ratio for ratio in CUTS],
    mode="lines+markers",
    xlabel="high frequencies cut, %",
    ylabel="PSNR minus the control's, dB",
    alt="PSNR of the picture decoded from cut latents minus that of the control, against the share of high frequencies "
    "cut. Five arms with SE and EQ-VAE lie below zero from the uncut latent to the last cut; CHF begins a little below "
    "zero and rises above it with the cut.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded by `sweeps/cut-curves.yaml`, mean over three seeds.* The curves of SE lie below the control's, at every cut. **Fig. 8 does not
# reproduce on this autoencoder.**
#
# ### Why it need not
#
# {numref}`chap-se` had a linear autoencoder that multiplies frequency $\nu$ by a gain $g(\nu)$ and divides by it when it decodes. Cut its
# latent above $\nu_0$. What the picture loses is
#
# $$
# \bigl\|x - \mathrm{Dec}(Pz)\bigr\|^2 = \sum_{\nu > \nu_0} \frac{1}{|g(\nu)|^2}\,\bigl|g(\nu)\,\hat x(\nu)\bigr|^2
# = \sum_{\nu > \nu_0} |\hat x(\nu)|^2 ,
# $$ (eq-cut-linear)
#
# and the gain has dropped out. An encoder that writes high frequencies at half the amplitude has a decoder that multiplies them by two. The
# energy ratio is a quarter, and **the cut costs exactly what it did**. For any decoder the loss has the same two factors,
#
# $$
# \underbrace{\bigl\|\mathrm{Dec}(z) - \mathrm{Dec}(Pz)\bigr\|^2}_{\text{change of the picture}}
# = \underbrace{\Gamma}_{\text{gain of the decoder}} \times \underbrace{\bigl\|z - Pz\bigr\|^2}_{\text{energy removed}} ,
# $$ (eq-gain)
#
# which defines $\Gamma$, a gain of energy, $1/|g|^2$ for the linear model. The paper asks for both to fall: (i) less energy at high
# frequencies, (ii) a decoder that does not amplify them (its Sec. 3.3). A spectrum shows the first only. (A latent written $c$ times larger
# has $c^2$ times the energy and $1/c^2$ of the gain, so both are taken relative to the latent's variance. The *curve* has two more parts,
# the error of the uncut picture, with which it starts, and the scalar product of the two errors.) Seven arms, at two cuts:

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
at = [CUTS.index(0.45), CUTS.index(0.9)]
ratios = {
    title: {key: (ours[key] / theirs[key])[at] for key in ours}
    for title, (ours, theirs) in pairs.items()
}
gains = {
    t: (e := of["latent_mse"], of["picture_mse"] / e) for t, of in ratios.items()
}
cancel, level = "as the control: product 1", torch.linspace(0.35, 1.25, 46)
figures.lines(
    gains | {cancel: (level, 1 / level)},
    mode="lines+markers",
    styles={cancel: {"mode": "lines", "color": figures.GREY, "dash": "dot"}},
    xlabel="energy removed, over the control's",
    ylabel="gain Γ, over the control's",
    height=420,
    alt="Gain of the decoder against energy removed, both over the control's, for seven arms at two cuts. The arms of SE lie "
    "at less energy and more gain, a little above the dotted line on which the two cancel; EQ-VAE lies below that line, and "
    "CHF near one and one.",
)

# %% [markdown]
# *Recorded by `sweeps/cut-curves.yaml`, three seeds, cuts of 45% and of 90%.* As promised, with SE less energy is removed, and each unit of
# it changes the picture more. The two factors cancel, and a little more: here requirement (i) is met and (ii) is not. **EQ-VAE** meets (i)
# and not (ii), too, but its gain grows by less than the energy falls, so that its picture changes less than the control's. Its curve still
# lies below, because it starts so far down. **CHF** was trained on cut latents: its spectrum hardly moved ({numref}`chap-chopping`), and it
# met (ii), in part.
#
# ### The manner decides
#
# What else could hide the effect: too few steps, too small an $\alpha$, the wrong scales, small pictures, the target, the metric, or the
# manner of taking high frequencies away? The numbers are **differences to the control** that was trained as long without SE, in dB of PSNR
# unless it says otherwise, paired by seed.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
MANNERS = {
    "nothing cut": "psnr_db at cut_ratio=0",
    "45% cut": "psnr_db at cut_ratio=0.45",
    "60% cut, pictures of 256²": "large_psnr_db at large_cut_ratio=0.6",
    "45% cut, against the equally cut image": "psnr_db_to_cut_image at cut_ratio=0.45",
    "45% cut, SSIM × 100": "ssim at cut_ratio=0.45",
    "blurred: halved, enlarged, decoded": "blurred_psnr_db at scale=2",
    "small: halved, decoded, against the halved image": "small_psnr_db at scale=2",
}
for row, metric in MANNERS.items():
    times = 100 if "× 100" in row else 1
    cut_runs[row] = times * pd.Series(claims.read_metrics(cut_runs, metric))
OWN = "45% cut, below the arm's own uncut PSNR"
cut_runs[OWN] = cut_runs["45% cut"] - cut_runs["nothing cut"]
found = {
    row: {t: results.paired(cut_runs, row, *arms) for t, arms in JUDGED.items()}
    for row in (*MANNERS, OWN)
}
results.show(
    {
        r: {t: f"{p:.2f}".replace(" [", "\n[") for t, p in of.items()}
        for r, of in found.items()
    }
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Recorded by `sweeps/cut-curves.yaml`.* The manner of taking frequencies away decides, more than anything else that was varied.
#
# - **Small latents.** Where the latent is made *smaller*, by the operation that SE trains with, SE is far ahead. And where the same small
#   latent is enlarged again and decoded at full size (*blurred*), nothing of the advantage is left: four intervals hold zero (SE's just
#   so), and after 800 steps SE lies below. We take this for the reason, without having tested it: a small latent and a large one without
#   high frequencies are not the same to a convolution. The small one has a full spectrum, up to its own limit, and the large one an empty
#   upper half, on which neither SE nor the control has ever been trained.
# - **The target, the metric, the size of the pictures, α, steps and scale** change how far SE lies below its control, not that it does.
#   With α = 1, after 800 steps and with scale 2 alone it lies further below, with scale 4 alone as far as with both. CHF lies above
#   wherever something is cut; in the paper, too, SE is the less resilient of the two (Appendix C.1).
# - **A trap** is the row that counts from each arm's own uncut PSNR. There SE looks better. But an arm that starts lower has less to lose
#   on a scale of decibels; the change of the picture is the honest measure, and SE's changes more than the control's.
#
# What cannot be tried here is training of the paper's length, with LPIPS, on a decoder with attention over the whole latent. FluxAE also
# did not pay for SE in PSNR (30.37 dB with it and 29.97 dB with $\beta = 0$ and without it, Table 3), so that its curve did not have to
# begin below the control's. A larger gain is more than a curiosity: what a denoiser errs at high frequencies would be multiplied by it
# ({ref}`ex-gain`); whether this costs samples has not been tested.
#
# ## Rivals at equal steps
#
# The **KL term** is the older way to shape a latent ({numref}`chap-kl`). **EQ-VAE** ({cite:t}`kouzelis2025eqvae`) asks for equivariance,
# too: scales are any in $[\frac14, 1)$ and come with rotations by quarter turns; resizing is not antialiased; and the transformed pair
# *replaces* the reconstruction, in half of the steps, instead of being added to it. And if SE were only more training, then **more
# training** would do.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
RIVALS = {
    "plain": "plain (control)",
    "plain-twice": "plain, 800 steps",
    "se": "SE, α = 0.25",
    "se-twice": "SE, 800 steps",
    "kl0.01": "KL, β = 10⁻²",
    "kl0.1": "KL, β = 10⁻¹",
    "eq-vae": "EQ-VAE",
}
results.table(
    results.rename(recorded, RIVALS), results.FINETUNING, control="plain (control)"
)

# %% [markdown]
# *Recorded by `sweeps/finetuning.yaml`.*
#
# - **KL.** Both weights *raise* the HF energy ratio, to 4.4 and 3.0 times the control's, and cost more than 1.4 and 5 dB of PSNR. These are
#   spectra and pictures of *means*; to the samples that a denoiser is trained on the posterior adds white noise, {eq}`eq-energy-adds`.
# - **EQ-VAE.** A halving of the HF energy ratio costs 0.56 dB with SE and 1.51 dB with EQ-VAE.
# - **Twice the steps** without SE leave the HF energy ratio where it was: a loss that does not see the spectrum has no reason to move it,
#   however long it is minimised. With SE and as many steps it is 0.57·10⁻³, and PSNR lies 0.48 dB below that of the longer control. The
#   price of SE has to be read at equal steps, since the control changes with them too.
#
# ```{admonition} In the paper
# :class: paper
#
# Table 3 fine-tunes FluxAE with eight KL weights. By the larger denoiser's FDD none of them (best 403.99, at $10^{-5}$) comes near SE's
# 369.15, with PSNR 30.37 dB for SE and 29.21 dB for that KL; by the smaller denoiser's the best, $\beta = 0.1$, is close: 929.58 against
# 924.28.
#
# Appendix C.6 fine-tunes twice as long without SE, which is far more than SE's 10.75 %. DiT-B/2 on it reaches FID / FDD 33.99 / 642.7,
# against 25.87 / 551.27 with SE after half the steps. EQ-VAE is named and not compared with.
# ```
#
# ## What a step costs
#
# SE encodes once, at the cost $c_e$, and decodes twice, the second time a latent $s^2$ times smaller. As far as the cost $c_d$ of decoding
# goes with the area, which that of attention does not, this adds on average over $s\in\{2, 4\}$
#
# $$
# \text{overhead} = \frac{1}{2}\Bigl(\frac14 + \frac1{16}\Bigr)\frac{c_d}{c_e + c_d} .
# $$ (eq-cost-se)
#
# PyTorch's counter runs over a model without weights, on the *meta* device, so FluxAE can be counted although it is not here; and over the
# small autoencoder as it was fine-tuned here. The paper's "GFLOPs" are multiply-accumulates, too.

# %%
with torch.device("meta"):
    flux = autoencoders.CATALOGUE["FluxAE"].build()
flux_cost = reconstruction_cost(autoencoders.Autoencoder("FluxAE", flux), 256)
trained = autoencoders.load(model)
finetuning.freeze(trained, Finetuning(method="se"))
step = reconstruction_cost(trained, 64, backward=True)
counted = {
    "FluxAE, 256², forward": flux_cost,
    f"{model}, 64², a training step": step,
}
run.metrics |= {f"{name}: overhead": c.mean_overhead for name, c in counted.items()}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
results.show(
    {
        name: {"all": cost.total / 1e9, "encoder": cost.encoder / 1e9}
        | {"decoder": cost.decoder / 1e9}
        | {f"SE, s = {s}": n / 1e9 for s, n in cost.regularizer.items()}
        | {"overhead, %": f"{100 * cost.mean_overhead:.2f}"}
        for name, cost in counted.items()
    },
    index="10⁹ multiply-accumulates, one picture",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Counted here.* The paper prints 447 for FluxAE (136 and 311), 77.6 and 19.4 for SE, and 10.75 %, the mean of its rounded 17 % and 4.5 %
# (19.4 of 447 is 4.3 %); from the counts it is 10.8 %. A backward pass costs twice the forward pass where both weights and inputs need a
# gradient, and less where layers are frozen; with it a step of the small autoencoder costs 11% more. The count leaves out the perceptual
# network, which the paper also runs on the small pair; memory traffic, and so time; and the discriminator, if there is one. An EQ-VAE step,
# which decodes a smaller latent *instead*, is cheaper than a plain one. At equal compute it would have had more steps than it had above;
# that run was not made.
#
# ## Choosing α: a guide
#
# 1. **Profile first** (`diffusab profile`). If the latent's spectrum already follows that of RGB, there is little to bend. A profile alone
#    does not tell how a latent trains ({numref}`chap-signs`).
# 2. **Fix the tolerance before looking**: how many decibels may reconstruction lose, against the *control*? Run the control (`--method
#    plain`) with at least three seeds, and give each arm the same seeds, so that runs can be paired: here the paired loss of SE has a
#    standard deviation of 0.04 dB. A tolerance below the interval of the mean of these differences cannot be checked.
# 3. **Measure the gradients** (`gradients.term_gradients`). The equal weight and the window give the middle of the grid. Where the
#    gradients agree there is no window: then sweep from a tenth of the equal weight to ten times it.
# 4. **Sweep a geometric grid**, a factor of two to four apart, from the window's lower end to some ten times its upper end, in short runs.
#    Include the paper's 0.25: it is one point, and comparable.
# 5. **Within the tolerance take the weight with the least energy**, by means over seeds, and a larger weight only where it lowers the
#    energy by more than a margin, with the whole interval: beyond some α reconstruction still falls and the energy no longer does. With a
#    margin of 5% the sweep above says 0.1 for a tolerance of 0.3 dB, and 0.25 for one of 0.5 or of 1 dB. State the price, {eq}`eq-price`.
# 6. **Look at what the number does not see**: the cut curve, a second metric (SSIM, LPIPS), a few pictures.
# 7. **Repeat the chosen weight at full length**, control included, and recheck: the balance of the gradients moves as $L_s$ falls.
# 8. **Then ask a denoiser.** Two or three weights around the chosen one are enough: in the paper's Table 9 the best weight by FID is
#    neither the smallest nor the largest.
#
# ## What this leaves open
#
# - One small autoencoder, one set of photographs, a few hundred steps: trends, not constants. FluxAE was fine-tuned on more than a thousand
#   times as many pixels, and with LPIPS; here the distance is the squared error alone, in training and in judging.
# - No denoiser yet: which point of the front is best depends on it and on its length of training ({numref}`chap-pays`).
#
# ## To take away
#
# - The weight $\alpha$ is an exchange rate. As it grows, the regularizer's loss at the optimum never rises and the reconstruction loss
#   never falls.
# - A few backward passes tell which weights are worth a run.
# - What a cut costs is the energy removed times the decoder's gain. Bend the spectrum, and the gain may take back what the energy gave.
# - Name the control, the tolerance and the seeds before you look.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} Two quadratics ★★
# :label: ex-quadratics
#
# Let $L_r = (\theta - 1)^2$ and $L_s = \theta^2$. Find $\theta_\alpha$ and check both parts of {eq}`eq-envelope`. What does the trade-off
# look like in the plane of $L_s$ and $L_r$, and what is its slope?
# ```
#
# ````{solution} ex-quadratics
# :class: dropdown
#
# $\theta_\alpha = 1/(1+\alpha)$, $L_r = \alpha^2/(1+\alpha)^2$, $L_s = 1/(1+\alpha)^2$, so $\sqrt{L_r} + \sqrt{L_s} = 1$: a convex curve
# with slope $-\alpha$, which meets the axis $L_s = 0$ only as $\alpha\to\infty$.
#
# ```python
# alpha = torch.linspace(0.1, 2.0, 20, dtype=torch.float64, requires_grad=True)
# l_r, l_s = (alpha / (1 + alpha)) ** 2, 1 / (1 + alpha) ** 2
# (up,) = torch.autograd.grad(l_r.sum(), alpha, retain_graph=True)
# (down,) = torch.autograd.grad(l_s.sum(), alpha, retain_graph=True)
# print((up + alpha * down).abs().max().item())  # zero, from which the first part follows
# ```
# ````
#
# ```{exercise} Gain, measured directly ★★
# :label: ex-gain
#
# {eq}`eq-gain` measures the gain by removing what is there. Add white noise above the cut instead, of a fixed small size relative to the
# latent's spread, and compare the change of the picture for the plain and the SE autoencoder. Why is this closer to what a diffusion model
# does?
# ```
#
# ````{solution} ex-gain
# :class: dropdown
#
# ```python
# x = data.stack(data.Photos(resolution=64, split="test"), range(16))
# for name in ("kl-f4c16-ft", "kl-f4c16-se", "kl-f4c16-chf"):
#     autoencoder = autoencoders.load(name)
#     with torch.no_grad():
#         z = autoencoder.encode(x).mean
#         noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
#         high = noise - spectrum.chop_high_frequencies(noise, 0.5, 8)
#         change = autoencoder.decode(z + 0.1 * z.std() * high) - autoencoder.decode(z)
#         print(name, f"{change.square().mean().item():.2e}")
# ```
#
# A diffusion model works on latents of unit variance and makes errors at high frequencies that need not be proportional to what is there.
# If the encoder writes high frequencies smaller and the decoder multiplies them up, such errors are multiplied up too: the same noise
# changes the picture of SE about twice as much as that of plain fine-tuning, that of CHF a little less.
# ````
#
# ## What this chapter claims
#
# Each sentence with a number, as a condition on what was computed or recorded. When one fails, somebody rewrites the sentence.


# %%
def against(key: str, arm: str, control: str = "plain", relative: bool = False):
    return results.paired(recorded, f"after_{key}", arm, control, relative)


# "most … at α = 0.1, for a quarter of a decibel …; the paper's 0.25 costs 0.46 dB"
weights = {a: arm for a, arm in SWEEP.items() if a}
energy = {a: against("hf_energy_ratio", arm) for a, arm in weights.items()}
lost = {a: against("psnr_db", arm) for a, arm in weights.items()}
assert energy[0.1].mean / energy[0.25].mean > 0.85
assert (round(lost[0.1].mean, 2), round(lost[0.25].mean, 2)) == (-0.25, -0.46)
assert all(p.sign == -1 for p in (*energy.values(), *lost.values()))
# "within half a percent (0.5) or rises again (1)", "4% higher", "while the share … is lower"
assert against("hf_energy_ratio", "se-alpha0.5", "se", True).within(0.005)
again = against("hf_energy_ratio", "se-alpha1", "se", True)
assert (again.sign, round(again.mean, 2)) == (1, 0.04)
assert against("hf_share", "se-alpha1", "se").sign == -1
# "the average price of a halving rises with every weight", "steepest at the first weight"
assert prices == sorted(prices)
db = pd.Series({0.0: 0.0} | {a: p.mean for a, p in lost.items()})
assert (db.diff() / db.index.to_series().diff()).idxmin() == 0.01
# "SE … is not on the front …: the weakest soft penalty has …"
assert round(against("hf_energy_ratio", "soft0.01", "se", True).mean, 2) == -0.44
less = against("psnr_db", "soft0.01", "se")
assert (less.sign, round(less.mean, 2)) == (1, 0.16)

# %%
# KL: "to 4.4 and 3.0 times the control's, and cost more than 1.4 and 5 dB"
for arm, rise, cost in (("kl0.01", 3.4, 1.4), ("kl0.1", 2.0, 5)):
    assert round(against("hf_energy_ratio", arm, relative=True).mean, 1) == rise
    assert against("psnr_db", arm).mean < -cost
# "0.1 for a tolerance of 0.3 dB, and 0.25 for one of 0.5 or of 1 dB"
falls = [
    against("hf_energy_ratio", ours, theirs, relative=True).high < -0.05
    for theirs, ours in pairwise(SWEEP.values())
]
assert falls[:4] == [True, True, True, False]
assert again.mean > 0
assert -lost[0.1].mean < 0.3 < -lost[0.25].mean < 0.5
# "0.56 dB with SE and 1.51 dB with EQ-VAE"; "Twice the steps …"; "0.57·10⁻³", "0.48 dB below"
assert (round(price("se"), 2), round(price("eq-vae"), 2)) == (0.56, 1.51)
assert against("hf_energy_ratio", "plain-twice", relative=True).within(0.02)
assert round(1000 * place.after_hf_energy_ratio["se-twice"], 2) == 0.57
assert round(-against("psnr_db", "se-twice", "plain-twice").mean, 2) == 0.48
# "a standard deviation of 0.04 dB"; "A step costs 11% more computing"; "from the counts it is 10.8 %"
assert round(pd.Series(lost[0.25].values).std(), 2) == 0.04
assert f"{step.mean_overhead:.0%} {flux_cost.mean_overhead:.1%}" == "11% 10.8%"

# %%
# "EQ-VAE … its picture changes less than the control's"; SE's "changes more"
for title in ("EQ-VAE", "SE"):
    energies, gain = gains[title]
    assert energies.max() < 1 < gain.min()
    assert all((energies * gain > 1) == (title == "SE"))
# "lie below the control's, at every cut"; "CHF … above wherever something is cut"
assert all(of.max() < 0 for t, of in to_control.items() if t != "CHF")
assert to_control["CHF"][1:].min() > 0
signs = {row: [p.sign for p in of.values()] for row, of in found.items()}
# "change how far SE lies below its control, not that it does"
usual = [-1, -1, -1, -1, -1, 1, -1]
assert all(signs[row] == usual for row in MANNERS if "% cut" in row)
assert set(signs[OWN]) == {1}  # "A trap is the row …"

# %%
# "SE is far ahead"; "four intervals hold zero, and after 800 steps SE lies below"
_, blurred, small = list(MANNERS)[-3:]
assert set(signs[small][:5]) == {1}
assert signs[blurred] == [0, 0, -1, 0, 0, 1, 0]
# "α = 1, … 800 steps and … scale 2 … further below, … scale 4 alone as far"
far = {title: pair.mean for title, pair in found["45% cut"].items()}
assert max(far["α = 1"], far["800 steps"], far["scale 2 only"]) < far["SE"] - 0.05
assert abs(far["scale 4 only"] - far["SE"]) < 0.03
# "far below the paper's 0.25", "about twice as long", "positive cosine"
se, chf = pulls["SE, scales 2 and 4"], pulls["CHF, drawn to 70%"]
if size != "smoke":
    assert se.equal_weight < 0.1
    assert se.cosine < 0 < chf.cosine
    assert 1 < chf.term / chf.reconstruction < 4

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
counts = (flux_cost.total, flux_cost.encoder, flux_cost.decoder)
small_pass = [round(c / 1e9, 1) for c in flux_cost.regularizer.values()]
lower = against("hf_energy_ratio", "se").sign < 0
print("FluxAE, 10⁹ multiply-accumulates:     ", [round(c / 1e9, 1) for c in counts])
print("SE on it, s = 2 and 4:                ", small_pass)
print("its mean overhead:                    ", round(flux_cost.mean_overhead, 4))
print("mean of the paper's rounded shares:   ", round((0.17 + 0.045) / 2, 4))
print("SE pulls harder than reconstruction:  ", se.equal_weight < 1)
print("SE lowers the recorded energy ratio:  ", "lower" if lower else "not lower")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
