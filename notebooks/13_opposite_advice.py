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
# (chap-opposite)=
# # Two papers, opposite advice?
#
# One paper takes high-frequency energy out of latents and reports better samples. Another changes what the denoiser is
# fed, so that it meets *more* high-frequency latent energy early on, and reports better samples, too. Both begin with the
# same diagnosis: decoders lean on high latent frequencies. Do they contradict each other? This chapter lays the claims
# beside each other until they predict numbers, measures those numbers on one pair of autoencoders (that of seed 0), and
# then reads the records of one denoiser trained in all four ways, on three such pairs: with neither, with one, with the
# other, with both.
#
# ```{measured-runtime}
# ```
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

# %% tags=["hide-input"]
import math
from itertools import pairwise
from statistics import fmean

import plotly.graph_objects as go
import torch
from IPython.display import Markdown

from diffusab_core import autoencoders, data, spectrum
from diffusab_book import figures, results as summaries
from diffusab_core.experiments import records
from diffusab_core.metrics import probes as perturbation
from diffusab_core.methods.freqwarm import EVERYTHING
from diffusab_book.explorers.opposite import warmup_explorer
from diffusab_core.flow import crossover_time
from diffusab_core.flow.gaussian import linear_bounds, mismatch_loss
from diffusab_core.metrics.probes import exposure
from diffusab_core.spectrum.bands import compare_energies, ranked, second_moments
from diffusab_core.spectrum.radial import radial_split

run = records.start(
    "13_opposite_advice",
    parameters={
        "models": models,
        "others": others,
        "cutoffs": cutoffs,
        "n_images": n_images,
        "n_large": n_large,
        "n_others": n_others,
        "n_decoded": n_decoded,
        "n_dependence": n_dependence,
    },
    seed=seed,
    size=size,
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


def signs(differences: list[float]) -> str:
    """What paired differences have in common: their sign, or nothing."""
    pairs = "pair" if len(differences) == 1 else "pairs"
    if all(d < 0 for d in differences):
        return f"lower in {len(differences)} of {len(differences)} {pairs}"
    if all(d > 0 for d in differences):
        return f"higher in {len(differences)} of {len(differences)} {pairs}"
    falls = sum(d < 0 for d in differences)
    return f"of both signs ({falls} of {len(differences)} pairs lower)"


# %% [markdown]
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
# the energy of each error into pixels with a gain $G_k$, the gain of {eq}`eq-gain` taken rank by rank,
#
# $$
# \mathbb E\,\lVert \mathrm{Dec}(\hat z) - \mathrm{Dec}(z)\rVert^2 \approx \sum_k G_k\, \mathbb E\,\lVert e_k\rVert^2
# = \sum_k \underbrace{G_k\,\Lambda_k}_{\text{stake } S_k}\; \underbrace{\eta_k}_{\text{relative error}},
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
# encoder takes $\Lambda_k$ to $g_k^2\Lambda_k$ and the decoder's to $G_k/g_k^2$, so that
#
# $$
# S_k' = \frac{G_k}{g_k^2}\; g_k^2\,\Lambda_k = S_k .
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
# is larger at every time. Sampling settles such a coefficient later, in fewer of its steps ({eq}`eq-pays-least` has $\ell_t$).
#
# **FreqWarm** leaves $\Lambda_k$ and $G_k$ alone and works on $\eta_k$. During its $W$ first steps of $T$ the denoiser sees
# the variance $\lambda_k^{\mathrm{low}} = \rho_k\lambda_k$ instead of $\lambda_k = \Lambda_k/C$, both means over the $C$
# channels. Over the whole training that is an exposure of
#
# $$
# X_k = \frac{1}{T}\sum_{n<T} \frac{\lambda_k^{(n)}}{\lambda_k} = 1 + \frac{W}{T}\,(\rho_k - 1) .
# $$ (eq-opposite-exposure)
#
# "More high-frequency energy early" is the statement $\rho_k > 1$ at high ranks. It is a property of the *encoder*, and
# Finding 3 is the reason to expect it. If $\rho_k < 1$, the warm-up shows less of the high frequencies than plain training
# does, and then both papers' recipes have the same sign in what the denoiser is fed.
#
# | quantity | SE predicts | FreqWarm predicts |
# |---|---|---|
# | $\lambda_k$ at high ranks | SE lowers it | no change |
# | stake $S_k$ at high ranks | SE lowers it | large, no change |
# | $\rho_k$ at high ranks | – | above 1 |
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
# losses differ a little from those of {numref}`chap-pays`.


# %%
@torch.no_grad()
def means_of(autoencoder, images):
    """Posterior means, batch by batch, (n, C, h, w)."""
    batch = max(1, 64 * 32**2 // images[0, 0].numel())
    return torch.cat([autoencoder.encode(b).mean for b in images.split(batch)])


def statistics(z):
    """Mean and spread of each channel of whole images' latents."""
    return z.mean((0, 2, 3), keepdim=True), z.std((0, 2, 3), keepdim=True)


def low_passed(images, radius: float):
    return radial_split(images, radius)[0]


def streams(autoencoder, images, radii) -> dict[float, torch.Tensor]:
    """Normalised coefficients (n, C, K) of whole (infinite radius) and low-passed images."""
    z = means_of(autoencoder, images)
    centre, spread = statistics(z)
    cut = {r: means_of(autoencoder, low_passed(images, r)) for r in radii}
    return {
        r: ranked((latents - centre) / spread, B)
        for r, latents in ({math.inf: z} | cut).items()
    }


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

# %%
picture = data.photo("china")[:, 40:168, 140:268]  # (3, 128, 128)
warmup_explorer(picture, found, start=R0, mark=HIGH.start)


# %% tags=["hide-input"]
def in_band(e, band) -> float:
    """Energy of a band, low-passed over whole."""
    return (e.warm[band].sum() / e.energy[band].sum()).item()


def moved(e, band=slice(1, None)) -> float:
    """Fréchet distance over a band, as a share of its energy."""
    return ((e.distance * e.energy)[band].sum() / e.energy[band].sum()).item()


SHOWN = [r for r in cutoffs if r in (0.1, 0.2, 0.4)]
rows = []
for label, by_radius in found.items():
    for r in SHOWN:
        cells = " | ".join(
            f"{in_band(by_radius[r], b):.2f}" for b in BANDS.values()
        )
        largest = by_radius[r].ratio[1:].max().item()
        rows.append(f"| {label} | {r:g} | {cells} | {largest:.2f} |")
        run.metrics[
            f"{label}: high-rank energy, low-passed at {r:g} over whole"
        ] = in_band(by_radius[r], HIGH)
    run.series[f"{label}: rho by rank at {R0:g}"] = by_radius[R0].ratio.tolist()
rho = {label: in_band(by_radius[R0], HIGH) for label, by_radius in found.items()}
energies = {
    label: by_radius[R0].energy[HIGH].mean().item()
    for label, by_radius in found.items()
}
Markdown(
    f"**Measured here** ({n_images} crops of 32²): energy of low-passed images' latents over that of whole ones, "
    "ρ, by band, and the largest ρ of any rank beyond the flat one:\n\n"
    "| autoencoder | r₀, cycles per pixel | " + " | ".join(BANDS) + " | largest |\n"
    "|---|---|---|---|---|---|\n"
    + "\n".join(rows)
    + f"\n\nWith SE a normalised latent has {energies[SE]:.3f} of variance in each of the ranks 32 to 63, the control "
    f"{energies[CONTROL]:.3f}: {energies[SE] / energies[CONTROL]:.2f} times as much."
)

# %% tags=["hide-input"]
says = {
    label: "**less** high-frequency latent energy than"
    if value < 0.99
    else "**more** high-frequency latent energy than"
    if value > 1.01
    else "about **as much** high-frequency latent energy as"
    for label, value in rho.items()
}
Markdown(
    f"So at {R0:g} cycles per pixel the warm-up shows {says[CONTROL]} plain training on the control "
    f"(ρ = {rho[CONTROL]:.2f} at ranks 32 to 63), and {says[SE]} plain training with SE (ρ = {rho[SE]:.2f}). Over a training whose "
    "first quarter is the warm-up, the exposure to these ranks is "
    f"{1 + WARM / STEPS * (rho[CONTROL] - 1):.3f} and {1 + WARM / STEPS * (rho[SE] - 1):.3f}."
)

# %% [markdown]
# It is not obvious that a cut at 0.2 cycles per pixel should change latents at all. With compression $f = 4$ a latent's
# Nyquist frequency is $0.5/f = 0.125$ cycles per pixel of the image (0.177 in the corner): everything that the latent's
# grid can hold *as a frequency* passes the filter. What is removed can be in the latent only folded, or written into
# channels ({term}`Aliasing`). If there it adds energy at high ranks, $\rho$ lies below one; if it crowds out other high
# frequencies, as Finding 3 has it, $\rho$ lies above one.
#
# ### Larger crops, other autoencoders
#
# A Fourier filter joins opposite borders of a crop, and a crop of 32² has much border. And Finding 3 was made with
# f16 and f32. So the same for crops of 128², and for other autoencoders of this book, each with crops whose latents are
# 8 × 8.

# %%
large = data.stack(
    data.Photos(128, "train", seed=0, length=n_large), range(n_large)
)
elsewhere = {}
for label, a in tuned.items():
    c = streams(a, large, [R0])
    elsewhere[f"{label}, crops of 128²"] = exposure(c[math.inf], c[R0])
for name in others:
    a = autoencoders.load(name)
    side = B * a.compression
    crops = data.Photos(side, "train", seed=0, length=n_others)
    c = streams(a, data.stack(crops, range(n_others)), [R0])
    elsewhere[name] = exposure(c[math.inf], c[R0])

# %% tags=["hide-input"]
rows = []
for name, e in elsewhere.items():
    cells = " | ".join(f"{in_band(e, b):.2f}" for b in BANDS.values())
    above = (e.ratio[1:] > 1.01).sum().item()
    rows.append(f"| {name} | {cells} | {above} of {K - 1} |")
    run.metrics[f"{name}: high-rank energy, low-passed over whole"] = in_band(
        e, HIGH
    )
raised = [name for name, e in elsewhere.items() if in_band(e, HIGH) > 1.01]
Markdown(
    f"**Measured here**, r₀ = {R0:g} cycles per pixel ({n_large} crops of 128², {n_others} crops for each of the others):\n\n"
    "| autoencoder | "
    + " | ".join(f"ρ, {b}" for b in BANDS)
    + " | ranks with ρ above 1.01 |\n"
    "|---|---|---|---|---|\n"
    + "\n".join(rows)
    + "\n\nThe energy of the upper half of the ranks **"
    + (
        f"rises with low-passing for {', '.join(raised)}, and for none of the others.**"
        if raised
        else "rises with low-passing for none of them.**"
    )
)

# %% [markdown]
# This is the premise of FreqWarm, tried where we can try it. It says nothing against Finding 3 for the autoencoders in
# which it was made: those compress up to 32 times, are hundreds of times larger and saw far more than crops of five
# photographs.
#
# ## Energy times gain
#
# Now the first factor of {eq}`eq-opposite-budget`. Disturb latents with Gaussian noise that has, at each rank of one band,
# a tenth of the latents' own covariance, $\eta = 0.1$; decode, and take the squared change of the picture. Divided by 0.1
# it is the band's stake, and the stake divided by the band's energy is the gain. Two more numbers beside it: the change when
# *all* of the band is taken away, which is no small error any more, and the stake for noise independent in each channel. Channels are
# correlated, a decoder reads them together, and a denoiser's errors need not follow the latents' correlations.

# %%
ETA = 0.1


@torch.no_grad()
def stakes(autoencoder, images) -> dict[str, dict[str, float]]:
    """Energy, gain and stake by band; stakes as a share of the pictures' variance."""
    z = means_of(autoencoder, images)
    centre, spread = statistics(z)
    d = ranked((z - centre) / spread, B)  # (n, C, K)
    covariance = second_moments(d)[1]  # (K, C, C)
    energy = covariance.diagonal(dim1=1, dim2=2).sum(1)  # (K,)
    jitter = 1e-9 * energy[:, None, None] * torch.eye(d.shape[1])
    root = torch.linalg.cholesky(covariance + jitter)
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(d.shape, generator=generator, dtype=d.dtype)
    like_latents = torch.einsum("kcd,ndk->nck", root, white)
    by_channel = white * covariance.diagonal(dim1=1, dim2=2).T.sqrt()
    decoded = autoencoder.decode(z)
    power = (images - images.mean((0, 2, 3), keepdim=True)).square().sum()

    def change(ranks) -> float:
        natural = torch.empty_like(ranks)
        natural[..., spectrum.zigzag_order(B)] = ranks
        latent = spectrum.block_idct(natural.unflatten(-1, (1, 1, B, B))).float()
        other = autoencoder.decode(latent * spread + centre)
        return ((other - decoded).square().sum() / power).item()

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

# %% tags=["hide-input"]
rows = []
for name in [*BANDS, "1 to 63"]:
    ours, theirs = budget[SE][name], budget[CONTROL][name]
    quotient = {key: ours[key] / theirs[key] for key in ours}
    rows.append(
        f"| {name} | {theirs['stake']:.3f} | {theirs['removed']:.3f} | × {quotient['energy']:.2f} | × {quotient['gain']:.2f} | "
        f"**× {quotient['stake']:.2f}** | × {quotient['by channel']:.2f} | × {quotient['removed']:.2f} |"
    )
    run.metrics |= {f"{name}: {k}, SE over control": v for k, v in quotient.items()}
high = {
    key: budget[SE]["32 to 63"][key] / v
    for key, v in budget[CONTROL]["32 to 63"].items()
}
additive = {
    label: sum(b[name]["stake"] for name in BANDS) / b["1 to 63"]["stake"]
    for label, b in budget.items()
}
Markdown(
    f"**Measured here** ({n_decoded} crops; stakes and changes as shares of the pictures' variance; × is SE over the control):\n\n"
    "| ranks | stake, control | change when removed, control | energy | × gain | = stake | stake, channels independent | change when removed |\n"
    "|---|---|---|---|---|---|---|---|\n"
    + "\n".join(rows)
    + f"\n\nAdded up over bands, stakes are {additive[CONTROL]:.2f} times (control) and {additive[SE]:.2f} times (SE) what "
    "errors in all bands at once give: so far does the budget add up. **In the upper half SE's latents have "
    f"{high['energy']:.2f} times the control's energy, its decoder {high['gain']:.2f} times the gain, and the stake is "
    f"{high['stake']:.2f} times the control's** ({high['by channel']:.2f} times for errors that ignore the correlation of channels)."
)

# %% [markdown]
# FreqWarm's authors ask the same question with radial bands ({numref}`chap-encoder-decoder`): what does the reconstruction lose
# without a band of the latent, and what with its phases scrambled? On held-out crops of 64², whose latents are 16 × 16:

# %%
edges = (0.0, 0.125, 0.25, 0.375, 0.5, EVERYTHING + 1e-4)
held_out = data.stack(
    data.Photos(64, "test", seed=0, length=n_dependence), range(n_dependence)
)
dependence = {
    label: perturbation.decoder_dependence(a, held_out, edges, seed)
    for label, a in tuned.items()
}

# %% tags=["hide-input"]
lost = go.Figure()
places = [f"{a:g} to {min(b, EVERYTHING):.3g}" for a, b in pairwise(edges)]
for i, (label, d) in enumerate(dependence.items()):
    for kind, values, dash in (
        ("removed", d.psnr_without, "solid"),
        ("phases scrambled", d.psnr_noised, "dash"),
    ):
        lost.add_scatter(
            x=places,
            y=[round(v, 2) for v in (d.psnr_whole - values).tolist()],
            name=f"{label}, {kind}",
            mode="lines+markers",
            marker_symbol=i,
            line={"color": figures.PALETTE[i], "dash": dash},
        )
lost.update_xaxes(title="band of the latent, cycles per latent pixel")
lost.update_yaxes(title="PSNR lost, dB", rangemode="tozero")
lost.update_layout(height=380, margin_t=84)
figures.described(
    lost,
    "What reconstructions lose in decibels when one radial band of the latent is removed "
    "or its phases are scrambled, for the control and with scale equivariance. The text "
    "below gives the numbers of the highest bands.",
)

# %% tags=["hide-input"]
highest = {
    label: [
        (d.psnr_whole - v[-2:]).mean().item()
        for v in (d.psnr_without, d.psnr_noised)
    ]
    for label, d in dependence.items()
}
Markdown(
    f"**Measured here** ({n_dependence} held-out crops; mean of the two bands beyond 0.375): without them the control loses "
    f"{highest[CONTROL][0]:.1f} dB and SE {highest[SE][0]:.1f} dB; with scrambled phases {highest[CONTROL][1]:.1f} and "
    f"{highest[SE][1]:.1f} dB. The whole latents give {dependence[CONTROL].psnr_whole:.1f} and "
    f"{dependence[SE].psnr_whole:.1f} dB."
)

# %% [markdown]
# ## Four streams
#
# A two-by-two experiment has four kinds of latents: whole and low-passed images through either encoder. Their least losses
# {eq}`eq-pays-spectrum` tell which is easiest to predict, with the caution of {numref}`chap-pays` that this ranks no samples.
# *Within* an autoencoder, though, a comparison of losses is fair once both denoisers see whole images again: the data are
# the same.
#
# And the switch costs something. A denoiser that has learned the warm-up's spectrum perfectly, and no more than the
# spectrum, has slopes $a_t(\rho_k\lambda_k)$ where $a_t(\lambda_k)$ would be right. On whole latents it loses, beyond the
# least loss (taken for each channel with its own $\lambda$ and $\rho$; the table has the mean),
#
# $$
# \delta_k = \mathbb E_t\Bigl[\bigl(a_t(\rho_k\lambda_k) - a_t(\lambda_k)\bigr)^2\bigl((1-t)^2\lambda_k + t^2\bigr)\Bigr],
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
    variance = second_moments(whole)[1].diagonal(dim1=1, dim2=2)  # (K, C)
    for r in (math.inf, *SHOWN):
        c = by_radius[r]
        believed = second_moments(c)[1].diagonal(dim1=1, dim2=2)
        least[label, r] = linear_bounds(second_moments(c)[1])
        switch[label, r] = (
            mismatch_loss(believed.flatten().clamp_min(1e-6), variance.flatten())
            .mean()
            .item()
        )
        paired = (whole - c).square().mean(0)[:, 1:].sum() / variance[1:].sum()
        apart = 0.0 if r == math.inf else moved(found[label][r])
        distances[label, r] = (apart, paired.item())
halves = {
    label: moved(exposure(*c[math.inf].split(len(x) // 2)))
    for label, c in fed.items()
}

# %% tags=["hide-input"]
rows = []
for (label, r), (alone, together) in least.items():
    what = "whole" if r == math.inf else f"r₀ = {r:g}"
    apart, paired = distances[label, r]
    rows.append(
        f"| {label} | {what} | {alone:.3f} | {together:.3f} | {switch[label, r]:.4f} | {apart:.3f} | {paired:.3f} |"
    )
    run.metrics[f"{label}, {what}: least loss, channels"] = together
    run.metrics[f"{label}, {what}: loss of the switch"] = switch[label, r]
easier = {
    label: least[label, math.inf][1] - least[label, R0][1]
    for label in (CONTROL, SE)
}
Markdown(
    f"**Measured here** ({n_images} crops):\n\n"
    "| autoencoder | images | least loss, each coefficient alone | channels together | lost at the switch, δ | distance of the streams, d² | change of each latent |\n"
    "|---|---|---|---|---|---|---|\n"
    + "\n".join(rows)
    + f"\n\nTwo halves of the whole images, which are different crops of the same photographs, lie {halves[CONTROL]:.3f} (control) "
    f"and {halves[SE]:.3f} (SE) apart. That is more than chance adds to the distances above, since the two streams are of the "
    f"same crops, and of twice as many.\n\nAt r₀ = {R0:g} the warm-up's "
    f"latents are easier by {easier[CONTROL]:.3f} (control) and {easier[SE]:.3f} (SE) of loss, and the switch costs a linear "
    f"denoiser {switch[CONTROL, R0]:.4f} and {switch[SE, R0]:.4f}. Low-passing moves each latent by "
    f"{distances[CONTROL, R0][1]:.0%} and {distances[SE, R0][1]:.0%} of its energy beyond the flat rank, and the distribution, "
    f"as far as second moments tell, by {distances[CONTROL, R0][0]:.1%} and {distances[SE, R0][0]:.1%}."
)

# %% tags=["hide-input"]
when = {
    label: crossover_time(by_radius[R0].energy)[HIGH].mean().item()
    for label, by_radius in found.items()
}
whole_of = {label: least[label, math.inf][1] for label in (CONTROL, SE)}
Markdown(
    f"**The sizes side by side.** SE lowers the least loss by {whole_of[CONTROL] - whole_of[SE]:.3f} and low-passing at "
    f"{R0:g} by {easier[CONTROL]:.3f}; SE lowers the energy of the ranks 32 to 63 by "
    f"{1 - energies[SE] / energies[CONTROL]:.0%} for good, low-passing changes it by {rho[CONTROL] - 1:+.0%} for the first "
    f"{WARM} steps. The crossover time of these ranks, at which they rise out of the noise, is {when[CONTROL]:.3f} for the "
    f"control and {when[SE]:.3f} with SE."
)

# %% [markdown]
# ## Recorded: two by two
#
# The denoisers without FreqWarm are those of {numref}`chap-pays`: DiT-XXS/1, 600 steps of 64 latents, on the control and on
# SE, three seeds, a seed being that of the denoiser *and* of the fine-tuning. Those with FreqWarm have the same
# autoencoders, crops, first weights, noise, times and steps; the first 150 steps show latents of images cut at 0.2 cycles
# per pixel. All are judged alike: 1 024 samples of 40 Euler steps against 8 192 other crops by the
# {term}`Offline features`. So a pair with the same seed differs in one thing.

# %% tags=["hide-input"]
plain_runs = records.by_arm(summaries.RESULTS / "denoisers")
warm_runs = records.by_arm(summaries.RESULTS / "freqwarm")
CELLS = {
    "control": ("plain", plain_runs),
    "control, FreqWarm": ("plain-r0.2", warm_runs),
    "SE": ("se", plain_runs),
    "SE, FreqWarm": ("se-r0.2", warm_runs),
}
cells = {label: runs[arm] for label, (arm, runs) in CELLS.items() if arm in runs}
ENOUGH = 3  # pairs, for a verdict
complete = len(cells) == len(CELLS) and all(
    len(r) >= ENOUGH for r in cells.values()
)


all_seeds = {arm for arm, runs in warm_runs.items() if len(runs) >= ENOUGH}
MISSING = summaries.not_recorded(
    "scripts/record_freqwarm.py", ("plain-r0.2", "se-r0.2"), all_seeds
)
Markdown(
    "**Recorded** (mean ± standard deviation over seeds; below them the difference to the control, paired by seed, with its 95% interval):\n\n"
    + summaries.compare_in_text(cells, CONTROL)
    + MISSING
)


# %% tags=["hide-input"]
def pairs(one: str, other: str) -> list[tuple]:
    """Runs of two cells with the same seed, (run, other run)."""
    if one not in cells or other not in cells:
        return []
    theirs = {r.seed: r for r in cells[other]}
    return [(r, theirs[r.seed]) for r in cells[one] if r.seed in theirs]


def paired(one: str, other: str, key: str = "frechet_offline") -> list[float]:
    """Differences of a metric in pairs, first less second."""
    return [a.metrics[key] - b.metrics[key] for a, b in pairs(one, other)]


def latents_of(found) -> str:
    return found.parameters["latents"].get("weights", "unknown")


EFFECTS = {
    "SE, without FreqWarm": ("SE", "control"),
    "SE, with FreqWarm": ("SE, FreqWarm", "control, FreqWarm"),
    "FreqWarm, on the control": ("control, FreqWarm", "control"),
    "FreqWarm, on SE": ("SE, FreqWarm", "SE"),
}
effect = {name: d for name, two in EFFECTS.items() if (d := paired(*two))}
by_seed = {
    name: {
        a.seed: a.metrics["frechet_offline"] - b.metrics["frechet_offline"]
        for a, b in pairs(*two)
    }
    for name, two in EFFECTS.items()
}
warm_control, warm_se = (
    by_seed[f"FreqWarm, on {on}"] for on in ("the control", "SE")
)
common = sorted(warm_control.keys() & warm_se.keys())
interaction = [warm_se[s] - warm_control[s] for s in common]
rows = [
    f"| {name} | {', '.join(f'{d:+.2f}' for d in values)} | {summaries.signed(values, '.2f')} | {signs(values)} | "
    + ", ".join(
        f"{d:+.2f}" for d in paired(*EFFECTS[name], "decoded_latents_frechet")
    )
    + " | "
    + summaries.signed(paired(*EFFECTS[name], "recall"), ".3f")
    + " |"
    for name, values in effect.items()
]
if interaction:
    rows.append(
        f"| interaction (FreqWarm on SE less on the control) | {', '.join(f'{d:+.2f}' for d in interaction)} | "
        f"{summaries.signed(interaction, '.2f')} | {signs(interaction)} | | |"
    )
same = [
    latents_of(a) == latents_of(b)
    for on in (CONTROL, SE)
    for a, b in pairs(f"{on}, FreqWarm", on)
]
for name, values in (
    effect | ({"interaction": interaction} if interaction else {})
).items():
    run.metrics[f"recorded, {name}: Fréchet distance"] = fmean(values)
Markdown(
    "**Recorded**, paired by seed; negative is better for a distance:\n\n"
    "| effect of | Fréchet distance, run by run | mean ± spread | sign | distance of decoded latents | recall |\n"
    "|---|---|---|---|---|---|\n"
    + "\n".join(rows)
    + (
        f"\n\nIn {sum(same)} of {len(same)} pairs with and without FreqWarm the autoencoder's weights are the same to the bit."
        if same
        else ""
    )
    + MISSING
)

# %% tags=["hide-input"]
lines = {
    on: {
        "without": summaries.values(cells[on], "frechet_offline"),
        "with FreqWarm": summaries.values(
            cells[f"{on}, FreqWarm"], "frechet_offline"
        ),
    }
    for on in (CONTROL, SE)
    if f"{on}, FreqWarm" in cells
}
two_by_two = figures.over_seeds(
    lines
    or {
        on: {"without": summaries.values(cells[on], "frechet_offline")}
        for on in (CONTROL, SE)
    },
    "Fréchet distance of samples without and with FreqWarm, one line for the control and "
    "one for scale equivariance, one marker for each run. Parallel lines would be no "
    "interaction. The table above gives the differences.",
    xlabel="training of the denoiser",
    ylabel="Fréchet distance (offline features)",
    log_y=False,
)
two_by_two.update_xaxes(range=[-0.4, 1.4])

# %% [markdown]
# How to read it. The two rows *SE* ask what the regularizer does, once under plain training and once under the curriculum;
# distances of decoded latents differ between these autoencoders, so a part of that is not the denoiser's. The two rows
# *FreqWarm* compare within one autoencoder: same decoder, same floor, so the difference is the denoiser's alone. The
# interaction asks whether FreqWarm does something else on SE's latents than on the control's; it is zero if the two simply
# add up in this number. Three pairs of one sign come by chance in one case of four, three differences are no distribution,
# and all runs are sampled from the same starting noise and judged against one reference.

# %% tags=["hide-input"]
APART = {
    "higher": "every run lies higher",
    "lower": "every run lies lower",
    "overlapping": "runs overlap",
}


def compared(
    one: str, other: str, key: str = "frechet_offline", form: str = ".2f"
) -> str:
    """Two cells as groups of runs, in words."""
    ours, theirs = (summaries.values(cells[c], key) for c in (one, other))
    return (
        f"{summaries.plus_minus(ours, form)} against {summaries.plus_minus(theirs, form)}, "
        f"{APART[summaries.ordering(theirs, ours)]}; paired, {signs(paired(one, other, key))}"
    )


def evaluated_twice(one: str, other: str) -> list[tuple[float, float]]:
    """Differences of finished denoisers: the final distance, and that of the last snapshot."""
    key = "snapshot_frechet_offline"
    return [
        (
            a.metrics["frechet_offline"] - b.metrics["frechet_offline"],
            a.series[key][-1] - b.series[key][-1],
        )
        for a, b in pairs(one, other)
    ]


def agreeing(one: str, other: str) -> tuple[int, int]:
    """In how many pairs both evaluations have one sign, of how many."""
    twice = evaluated_twice(one, other)
    return sum(final * quick > 0 for final, quick in twice), len(twice)


Markdown(
    "**What the records say:**\n\n"
    + "\n".join(
        f"- {name}: {compared(*two)}. With 512 samples of 20 steps the sign is the same in "
        f"{agreeing(*two)[0]} of {agreeing(*two)[1]} pairs."
        for name, two in EFFECTS.items()
        if name in effect
    )
    + (f"\n- Interaction: {signs(interaction)}." if interaction else "")
    + (
        "\n- Smallest mean of the four: **"
        + min(
            cells,
            key=lambda c: fmean(summaries.values(cells[c], "frechet_offline")),
        )
        + "**."
        if complete
        else ""
    )
    + MISSING
)

# %% [markdown]
# ### Over the training
#
# Distances along the way, over 512 samples of 20 steps with the averaged weights. The first is that of the untrained
# denoiser; the warm-up ends at 150 steps, before the second.

# %% tags=["hide-input"]
along = {
    label: summaries.by_place(runs, "snapshot_step", "snapshot_frechet_offline")
    for label, runs in cells.items()
}
trained_along = figures.over_seeds(
    along,
    "Fréchet distance of samples, on a logarithmic axis, against training steps, one line "
    "for each cell of the two-by-two experiment and one marker for each run. The text "
    "below gives the differences at each step.",
    xlabel="training steps of the denoiser",
    ylabel="Fréchet distance (offline features)",
)
ticks = [1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100]
trained_along.update_yaxes(tickmode="array", tickvals=ticks)


# %% tags=["hide-input"]
def at_snapshots(on: str) -> str:
    """FreqWarm less without, at each snapshot, run by run."""
    both = pairs(f"{on}, FreqWarm", on)
    if not both:
        return f"- {on}: not recorded"
    told = []
    for i, step in enumerate(both[0][0].series["snapshot_step"]):
        if step:
            values = [
                a.series["snapshot_frechet_offline"][i]
                - b.series["snapshot_frechet_offline"][i]
                for a, b in both
            ]
            told.append(
                f"after {step:.0f} steps {summaries.signed(values, '.2f')} ({signs(values)})"
            )
    return f"- {on}: " + "; ".join(told)


Markdown(
    "**Recorded**, Fréchet distance with FreqWarm less without, paired:\n\n"
    + "\n".join(f"{at_snapshots(on)}." for on in (CONTROL, SE))
)


# %% [markdown]
# The losses of a pair can be laid over each other, since first weights, crops, noise and times are the same. Left of the
# dotted line the two see different data, and the curve shows mostly whose data are easier (the least losses above say how
# much to expect); right of it the data are the same, and below zero the denoiser that was warmed up is ahead.


# %% tags=["hide-input"]
def smooth(values: list[float], n: int = 5) -> list[float]:
    """Running mean over n entries."""
    return [fmean(values[max(0, i - n + 1) : i + 1]) for i in range(len(values))]


behind = go.Figure()
gap = {}
for i, on in enumerate((CONTROL, SE)):
    both = pairs(f"{on}, FreqWarm", on)
    if not both:
        continue
    steps = both[0][0].series["step"]
    gap[on] = [
        [u - v for u, v in zip(a.series["loss"], b.series["loss"], strict=True)]
        for a, b in both
    ]
    early = sum(
        step <= WARM for step in steps
    )  # so that no mean crosses the switch
    for j, differences in enumerate(gap[on]):
        curve = smooth(differences[:early]) + smooth(differences[early:])
        behind.add_scatter(
            x=steps,
            y=[round(v, 5) for v in curve],
            name=on,
            legendgroup=on,
            showlegend=j == 0,
            mode="lines",
            line={
                "color": figures.PALETTE[i],
                "dash": figures.DASHES[i],
                "width": 1.5,
            },
        )
behind.add_vline(x=WARM, line={"color": figures.GREY, "dash": "dot"})
behind.add_hline(y=0, line={"color": figures.GREY, "width": 1})
behind.update_xaxes(title="training steps of the denoiser")
behind.update_yaxes(title="loss with FreqWarm less without")
behind.update_layout(height=360, margin_t=70, margin_l=72)
(
    figures.described(
        behind,
        "Flow loss with FreqWarm less that without, paired by seed, running means over "
        "five entries, one line for each pair; a vertical line marks the end of the "
        "warm-up. The text below gives the means before and after it.",
    )
    if gap
    else Markdown("Nothing is recorded yet." + MISSING)
)

# %% tags=["hide-input"]
stages = {}
told = []
for on, by_run in gap.items():
    steps = pairs(f"{on}, FreqWarm", on)[0][0].series["step"]
    during = [
        fmean(d for d, s in zip(v, steps, strict=True) if WARM / 2 < s <= WARM)
        for v in by_run
    ]
    after = [
        fmean(d for d, s in zip(v, steps, strict=True) if WARM < s <= WARM + 50)
        for v in by_run
    ]
    end = [fmean(v[-10:]) for v in by_run]
    stages[on] = {"during": during, "after": after, "end": end}
    told.append(
        f"- {on}: {summaries.signed(during, '.4f')} in the second half of the warm-up (least losses differ by "
        f"{-easier[on]:+.3f}); {summaries.signed(after, '.4f')} in the 50 steps after the switch, {signs(after)} (a "
        f"linear denoiser that knows the warm-up's spectrum only: {switch[on, R0]:+.4f}); "
        f"{summaries.signed(end, '.4f')} over the last 100 steps, {signs(end)}."
    )
Markdown(
    "**Recorded**, loss with FreqWarm less without:\n\n" + "\n".join(told)
    if told
    else "Nothing is recorded yet."
)

# %% [markdown]
# ### Where each of them errs
#
# Energies of generated over real latents, in the two numbers of {eq}`eq-pays-ratio`: $Q$ for all energy outside $D_{00}$, and
# $q_k$ for how it is shared out. FreqWarm's account of itself is about this figure: if the high frequencies were
# under-exposed and no longer are, $q_k$ at high ranks must be nearer to one with it.


# %% tags=["hide-input"]
def generated(record) -> tuple[float, list[float]]:
    return compare_energies(
        record.series["generated_energy"], record.series["real_energy"]
    )


errors = go.Figure()
for label, runs in cells.items():
    i = list(CELLS).index(label)  # not its place in `cells`: one may be missing
    by_rank = zip(*(generated(r)[1] for r in runs), strict=True)
    errors.add_scatter(
        x=list(range(1, K)),
        y=[round(fmean(values), 4) for values in by_rank],
        name=label,
        mode="lines",
        line={
            "color": figures.PALETTE[i // 2],
            "dash": figures.DASHES[2 * (i % 2)],
            "width": 2,
        },
    )
errors.add_hline(y=1, line={"color": figures.GREY, "width": 1})
errors.update_xaxes(title="zigzag rank (low → high frequency)")
errors.update_yaxes(title="share of energy, generated over real")
errors.update_layout(height=400, margin_t=84)
figures.described(
    errors,
    "Share of each rank in the energy outside the flat coefficient, generated over real "
    "latents, means over seeds, for the four cells: solid lines without FreqWarm, dotted "
    "with it. The table below gives numbers.",
)


# %% tags=["hide-input"]
def share(record, band) -> float:
    """Mean q_k over a band of ranks."""
    return fmean(generated(record)[1][band.start - 1 : band.stop - 1])


def misses(one: str, other: str, band) -> list[float]:
    """How much farther from one (in ln q) the first is than the second, paired."""
    far = [
        [abs(math.log(share(r, band))) for r in two] for two in pairs(one, other)
    ]
    return [a - b for a, b in far]


rows = [
    f"| {label} | {summaries.plus_minus([generated(r)[0] for r in runs], '.3f')} | "
    + " | ".join(
        summaries.plus_minus([share(r, b) for r in runs], ".3f")
        for b in BANDS.values()
    )
    + " |"
    for label, runs in cells.items()
]
nearer = {name: d for name, two in EFFECTS.items() if (d := misses(*two, HIGH))}
Markdown(
    "**Recorded** (mean ± standard deviation over seeds), generated over real:\n\n"
    "| | energy outside D₀₀, Q | "
    + " | ".join(f"share q, {b}" for b in BANDS)
    + " |\n|---|---|---|---|---|\n"
    + "\n".join(rows)
    + "\n\nMiss of the share at ranks 32 to 63, |ln q|, paired (negative: nearer to the real latents):\n\n"
    + "\n".join(
        f"- {name}: {summaries.signed(d, '.3f')}, {signs(d)}."
        for name, d in nearer.items()
    )
)

# %% [markdown]
# ### More channels, harder compression
#
# FreqWarm's gains begin, in its paper, where channels are many. The two autoencoders here have 16, at f4. The records of
# {numref}`chap-freqwarm` are of f8 with 4 and with 64 channels and of the same denoiser with batches of 32. What they say of the
# same effect:

# %% tags=["hide-input"]
FAMILY = {"c4": "f8, 4 channels", "c64": "f8, 64 channels"}


def family_effect(arm: str, base: str) -> list[float]:
    theirs = {r.seed: r for r in warm_runs[base]}
    return [
        r.metrics["frechet_offline"] - theirs[r.seed].metrics["frechet_offline"]
        for r in warm_runs[arm]
        if r.seed in theirs
    ]


rows, family = [], {}
for base, label in FAMILY.items():
    if base not in warm_runs:
        continue
    baseline = summaries.plus_minus(
        summaries.values(warm_runs[base], "frechet_offline")
    )
    for r in ("0.1", "0.2", "0.4"):
        if (arm := f"{base}-r{r}") in warm_runs and (d := family_effect(arm, base)):
            family[base, r] = d
            rows.append(
                f"| {label} | {baseline} | {r} | {', '.join(f'{v:+.2f}' for v in d)} | {signs(d)} |"
            )
for on in (CONTROL, SE):
    if d := effect.get(
        "FreqWarm, on the control" if on == CONTROL else "FreqWarm, on SE"
    ):
        baseline = summaries.plus_minus(
            summaries.values(cells[on], "frechet_offline")
        )
        rows.append(
            f"| f4, 16 channels, {on} | {baseline} | 0.2 | {', '.join(f'{v:+.2f}' for v in d)} | {signs(d)} |"
        )
Markdown(
    "**Recorded** (Fréchet distances compare within a row only: sizes of pictures, batches and samplers differ):\n\n"
    "| autoencoder | without FreqWarm | r₀ | with less without, run by run | sign |\n|---|---|---|---|---|\n"
    + "\n".join(rows)
    + summaries.not_recorded(
        "scripts/record_freqwarm.py",
        [b + r for b in FAMILY for r in ("", "-r0.1", "-r0.2", "-r0.4")],
        all_seeds,
    )
)

# %% [markdown]
# ## An account, held against the measurements
#
# Five explanations, each with what it needs. A tick or a cross is put by the cell, from the numbers above; *open* where the
# pairs disagree or fewer than three are recorded.


# %% tags=["hide-input"]
def tick(met: bool | None) -> str:
    return {True: "✓ met", False: "✗ not met", None: "open"}[met]


def falls(values: list[float] | None) -> bool | None:
    """Whether paired differences are all negative; None where they disagree or are few."""
    if not values or len(values) < ENOUGH:
        return None
    if all(v < 0 for v in values):
        return True
    return False if all(v > 0 for v in values) else None


def both(name: str, source) -> list[float]:
    """Differences on the control and on SE together."""
    return [
        *source.get(f"{name}, on the control", []),
        *source.get(f"{name}, on SE", []),
    ]


def said(values: list[float], form: str) -> str:
    return (
        f"{summaries.signed(values, form)}, {signs(values)}"
        if values
        else "not recorded"
    )


at_end = [d for on in stages.values() for d in on["end"]]
se_effect = [
    *effect.get("SE, without FreqWarm", []),
    *effect.get("SE, with FreqWarm", []),
]
se_nearer = [
    *nearer.get("SE, without FreqWarm", []),
    *nearer.get("SE, with FreqWarm", []),
]
WARMED = [two for name, two in EFFECTS.items() if name.startswith("FreqWarm")]
agreed, judged = (sum(v) for v in zip(*(agreeing(*t) for t in WARMED), strict=True))
overlapping = unsettled = None
if complete:
    overlapping = all(
        summaries.ordering(
            *(summaries.values(cells[c], "frechet_offline") for c in two)
        )
        == "overlapping"
        for two in WARMED
    )
    unsettled = agreed < judged or any(falls(paired(*t)) is None for t in WARMED)
ACCOUNT = {
    "FreqWarm works by **exposure**: more high-frequency latent energy early": [
        (
            "ρ above 1 at high ranks, control and SE",
            min(rho.values()) > 1,
            f"{rho[CONTROL]:.2f} and {rho[SE]:.2f}",
        ),
        (
            "generated share at high ranks nearer to the real one",
            falls(both("FreqWarm", nearer)),
            said(both("FreqWarm", nearer), ".3f"),
        ),
        (
            "samples nearer",
            falls(both("FreqWarm", effect)),
            said(both("FreqWarm", effect), ".2f"),
        ),
    ],
    "FreqWarm works as a **curriculum**: easy data first": [
        (
            "the warm-up's latents are easier (least loss)",
            min(easier.values()) > 0,
            f"by {easier[CONTROL]:.3f} and {easier[SE]:.3f}",
        ),
        (
            "the switch costs less than they are easier, each coefficient alone",
            all(
                switch[on, R0] < least[on, math.inf][0] - least[on, R0][0]
                for on in easier
            ),
            f"{switch[CONTROL, R0]:.4f} and {switch[SE, R0]:.4f}, against "
            + " and ".join(
                f"{least[on, math.inf][0] - least[on, R0][0]:.4f}" for on in easier
            ),
        ),
        (
            "lower loss on whole latents at the end",
            falls(at_end),
            said(at_end, ".4f"),
        ),
    ],
    "SE works by **taking away what is little needed**": [
        (
            "less energy at high ranks",
            energies[SE] < energies[CONTROL],
            f"× {energies[SE] / energies[CONTROL]:.2f}",
        ),
        (
            "smaller stake at high ranks, by a tenth at least",
            high["stake"] < 0.9,
            f"× {high['stake']:.2f}",
        ),
        (
            "generated share at high ranks nearer to the real one",
            falls(se_nearer),
            said(se_nearer, ".3f"),
        ),
        ("samples nearer", falls(se_effect), said(se_effect, ".2f")),
    ],
    "FreqWarm's effect on samples is **no more than chance**": [
        (
            "runs with and without overlap, on the control and on SE",
            overlapping,
            "distances in the tables above",
        ),
        (
            "pairs, or the two evaluations of a pair, differ in sign",
            unsettled,
            f"two evaluations agree in {agreed} of {judged} pairs",
        ),
    ],
    "The two **cancel**: FreqWarm helps less on SE's latents": [
        (
            "FreqWarm helps on the control",
            falls(effect.get("FreqWarm, on the control")),
            said(effect.get("FreqWarm, on the control", []), ".2f"),
        ),
        (
            "interaction above zero",
            falls([-v for v in interaction]),
            said(interaction, ".2f"),
        ),
    ],
}
Markdown(
    "\n\n".join(
        f"{title}.\n\n| it needs | here | measured or recorded |\n|---|---|---|\n"
        + "\n".join(
            f"| {need} | {tick(met)} | {numbers} |" for need, met, numbers in needs
        )
        for title, needs in ACCOUNT.items()
    )
)

# %% tags=["hide-input"]
SUPPORTED = {
    title: "supported"
    if all(m is True for _, m, _ in needs)
    else "contradicted"
    if any(m is False for _, m, _ in needs)
    else "left open"
    for title, needs in ACCOUNT.items()
}
Markdown(
    "**So, at this size:**\n\n"
    + "\n".join(
        f"- {title}: **{verdict}**"
        + (
            " ("
            + "; ".join(need for need, met, _ in ACCOUNT[title] if met is False)
            + ": not met)."
            if verdict == "contradicted"
            else "."
        )
        for title, verdict in SUPPORTED.items()
    )
)

# %% [markdown]
# "Contradicted" means that at least one thing that the explanation needs was not found here; "supported" that all of them
# were, which is less than a proof. Both are about small autoencoders and three seeds, and pairs on the control and on SE
# that share a seed count twice.
#
# ### Do they contradict each other?
#
# What the measurements allow one to say, with or without the records:
#
# - **They act on different objects**, and nothing forbids using both; the interaction above is the test of it.
# - **In what the denoiser is fed** the opposition is one of words unless $\rho_k > 1$. Where low-passing lowers latent energy
#   at high frequencies, FreqWarm shows less of it for some steps and SE for all of them: they pull the same way.
#   Whether $\rho_k$ exceeds one can be measured in a minute for any autoencoder, without training anything, and it is the
#   first thing to know before choosing between the two.
# - **The stake is where they differ in substance.** SE's paper asks for a decoder that needs high frequencies less;
#   FreqWarm's takes for granted that it goes on needing them. {eq}`eq-opposite-stake` says that a mere gain decides
#   nothing, and the table of stakes says how much more than a gain SE did here. Where the stake stays, lowering the
#   energy only moves the difficulty into the decoder ({eq}`eq-pays-error`), and then it is FreqWarm's description of the
#   trouble that applies, whatever its cure does.
# - **They were shown in different regimes.** SE's gains are at f8 to f32 with 16 channels and more; FreqWarm's begin beyond
#   32 channels, at f16 and f32, where an encoder has to write many pixel frequencies into channels. LTX's autoencoder is
#   in both papers, for video in one and for single frames in the other. Neither has both methods on one autoencoder.

# %% tags=["hide-input"]
closing = []
if any(name.startswith("FreqWarm") for name in effect):
    for name in effect:
        direction = falls(effect[name])
        word = {
            True: "**helps**",
            False: "**harms**",
            None: "is **undecided** (pairs disagree, or are too few)",
        }[direction]
        closing.append(
            f"- {name}: {word} ({summaries.signed(effect[name], '.2f')} in Fréchet distance)."
        )
    if interaction:
        word = {
            True: "FreqWarm does better on SE's latents than on the control's in every pair",
            False: "FreqWarm does worse on SE's latents than on the control's in every pair",
            None: "whether FreqWarm does better or worse on SE's latents is undecided",
        }[falls(interaction)]
        closing.append(
            f"- Together: FreqWarm's effect on SE less that on the control is {summaries.signed(interaction, '.2f')}; {word}. This alone does not say that either helps."
        )
Markdown(
    "**And with the records, at this size** (*helps*, *harms*: in every pair of seeds):\n\n"
    + "\n".join(closing)
    if closing
    else "The runs with FreqWarm are not recorded yet." + MISSING
)

# %% [markdown]
# ## What this cannot show
#
# - **The regime.** f4 with 16 channels, where a cutoff of 0.2 cycles per pixel is 1.6 times the latent's Nyquist frequency.
#   FreqWarm's is f16 and f32 with 48 to 512 channels at 512², where it is 6.4 and 12.8 times, and most of what passes the
#   filter must be folded or written into channels, too. In its paper the gain grows with the number of channels, and
#   with 32 there is none (5.75 against 5.74); 16 were not tried.
# - **The warm-up's length**, which the paper does not print: a quarter of 600 steps is our choice. So is the recipe, one
#   rate and one schedule whose own warm-up falls into the curriculum's.
# - **The denoiser**: 1.29 million parameters and 600 steps, far from convergence; a curriculum's effect in the first 600
#   steps need not be that in the last of 400 000.
# - **The pictures and features**: 32 × 32 crops of five photographs, and features that look at 64 × 64
#   enlargements ({numref}`chap-pays` has the list). What the high ranks contribute to pictures hardly reaches those features.
# - **Pairs**: three. And the budget {eq}`eq-opposite-budget` is first order, in squared pixels, which are no judge of detail.
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
# All four cells at size `gpu` come from `python scripts/record_gpu_denoisers.py plain se plain-r0.2 se-r0.2`; those of this
# chapter from `python scripts/record_denoisers.py plain se` and `python scripts/record_freqwarm.py plain-r0.2 se-r0.2`. The
# published runs of FreqWarm stand in the catalogue of autoencoders; for instance:

# %%
wan = autoencoders.CATALOGUE["Wan2.2-AE"]
model = f"{wan.hub_id}:{wan.subfolder}"  # a whole pipeline, of which the autoencoder is one folder
commands = wan.freqwarm.commands(model, "path/to/imagenet", 400_000, 100_000)
print("\n".join(commands))

# %% [markdown]
# Steps and warm-up are placeholders for what the paper does not print.
#
# ## Exercises
#
# ```{exercise} A gain and the stakes
# :label: ex-stakes
#
# Build an autoencoder from the control whose latents are multiplied by $g_k = \bigl(1+\sqrt{u^2+v^2}\bigr)^{-\gamma}$ at rank
# $k$ (of coefficient $u, v$) after encoding and divided by it before decoding. Show with `stakes` that its stakes are
# those of the control for every $\gamma$. What does change that a denoiser could notice?
# ```
#
# ````{solution} ex-stakes
# :class: dropdown
#
# ```python
# from types import SimpleNamespace
# from diffusab_core.spectrum.bands import radii
#
# def filtered(autoencoder, gamma):
#     gain = torch.empty(K)
#     gain[spectrum.zigzag_order(B)] = (1 + radii(B)).float() ** -gamma
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
# ```{exercise} How long would a warm-up have to be?
# :label: ex-exposure
#
# Suppose an encoder with $\rho_k = 1.5$ at the high ranks and a warm-up of a quarter of the steps. By how much does the
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
# the training cannot see it. And the energy of a stream is not its distribution: at $\rho_k > 1$ the extra energy
# is not that of whole images, and has to be unlearned after the switch.
# ````
#
# ```{exercise} The price of the wrong spectrum
# :label: ex-mismatch
#
# With {eq}`eq-opposite-switch`, is it worse to have learned half of a variance or twice it? Show that $\delta$ tends to a
# finite value as $\rho\to 0$, and say what a denoiser believes there.
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
# Small deviations are alike, since $\delta$ is quadratic in $\ln\rho$ there. For $\rho\to0$ the slope is $a_t\to 1/t$: the
# denoiser takes all it sees for noise, and its velocity is $x_t/t$ for every $t$. Its excess is $\mathbb
# E_t\,(1/t - a_t(\lambda))^2\,V_t = \mathbb E_t\,\frac{(1-t)^2\lambda^2}{t^2\,V_t}$ with $V_t = (1-t)^2\lambda + t^2$, since
# $1/t - a_t = \frac{(1-t)\lambda}{t\,V_t}$. It is finite for logit-normal times,
# which keep away from $t = 0$, and infinite for uniform ones.
# ````
#
# ```{exercise} Which pairs?
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
# if "FreqWarm, on the control" in effect:
#     runs = summaries.values(cells["control"], "frechet_offline")
#     print(summaries.mean_and_spread(effect["FreqWarm, on the control"])[1], math.sqrt(2) * summaries.mean_and_spread(runs)[1])
# ```
#
# A smaller first number says that pairing helped. With three seeds both spreads are themselves uncertain by a factor of
# about two.
# ````
#
# ## Check yourself

# %% tags=["checkpoint"]
half = torch.tensor([1.0, 0.3, 0.1], dtype=torch.float64)
print(
    "exposure of a quarter at ρ = 0.8 and 1.5:   ",
    [1 + 0.25 * (r - 1) for r in (0.8, 1.5)],
)
print(
    "half of each variance learned, lost:        ",
    [round(v, 4) for v in mismatch_loss(half / 2, half).tolist()],
)
print(
    "nothing lost with the right spectrum:       ",
    mismatch_loss(half, half).abs().max().item() < 1e-12,
)
print(
    "SE lowers the energy of the upper half:     ", energies[SE] < energies[CONTROL]
)
print("low-passing at 0.2 lowers it, too, for both:", max(rho.values()) < 1)
print(
    "the less passes, the less energy there is:  ",
    all(
        in_band(by_radius[0.1], HIGH)
        < in_band(by_radius[0.2], HIGH)
        < in_band(by_radius[0.4], HIGH)
        for by_radius in found.values()
    ),
)
print(
    "distance of streams at most change of each: ",
    all(apart <= change + 1e-9 for apart, change in distances.values()),
)
print(
    "low-passed latents have the smaller bound:  ",
    all(easier[on] > 0 for on in easier),
)
print(
    "recorded without FreqWarm, SE to control:   ",
    summaries.ordering(
        summaries.values(cells[CONTROL], "frechet_offline"),
        summaries.values(cells[SE], "frechet_offline"),
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
