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
# (chap-kl)=
# # KL is a double-edged sword
#
# **In short.** The KL term pulls a latent towards the noise from which a sampler starts, and noise is flat. A strong term
# silences most channels, which then hold white noise, and flattens the means of the rest. The two edges are one and the same;
# but of the flat spectrum that results, the decoder needs next to nothing.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
betas: list[str] = [
    "0",
    "1e-6",
    "1e-4",
    "1e-2",
    "1e-1",
]  # members of the shipped family kl-f4c16-beta...
n_images: int = 64
resolution: int = 128
block_size: int = 8
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import math

import torch

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.spectra import STATISTIC_LABELS, latent_noise_explorer
from diffusab_core import autoencoders, data, metrics, spectrum

run = chapters.start(
    "04_kl",
    globals(),
    data=f"{n_images} crops of {resolution}² from the held-out photographs (coffee, china)",
)
B = block_size
crops = data.Photos(resolution=resolution, split="test", seed=seed)
x = data.stack(crops, range(n_images))  # (n, 3, resolution, resolution) in [-1, 1]
family = {beta: autoencoders.load(f"kl-f4c16-beta{beta}") for beta in betas}


def weight_label(beta: str) -> str:
    """A KL weight for tables and legends: 1e-6 as 10⁻⁶."""
    power = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return f"10{beta[2:].translate(power)}" if beta.startswith("1e") else beta


# %% jupyter={"source_hidden": true} tags=["hide-input"]
means, stds, samples, decoded_mean, decoded_sample = {}, {}, {}, {}, {}
noise_of_samples = torch.Generator().manual_seed(seed)
for beta, autoencoder in family.items():
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        posteriors = [autoencoder.encode(batch) for batch in x.split(32)]
        means[beta] = torch.cat([p.mean for p in posteriors])  # (n, 16, h, w)
        stds[beta] = torch.cat([p.std for p in posteriors])
        back = [autoencoder.decode(p.mean) for p in posteriors]
        decoded_mean[beta] = torch.cat(back)
        back = [autoencoder.decode(p.sample(generator)) for p in posteriors]
        decoded_sample[beta] = torch.cat(back)
    white = torch.randn(means[beta].shape, generator=noise_of_samples)
    samples[beta] = means[beta] + stds[beta] * white


def profiles_of(latents):
    curves = {
        f"β = {weight_label(b)}": spectrum.frequency_profile(z, B, "ratio_of_means")
        for b, z in latents.items()
    }
    label = "mean |D| / mean |D₀₀|"
    return figures.profiles(curves, alt="Profiles of this family.", ylabel=label)


# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.panels(
    [profiles_of(means), profiles_of(samples)],
    ["encoder means μ", "samples z = μ + σε"],
    "Frequency profiles of five autoencoders, on the left of the encoder's means, on the right of samples. The curves come in "
    "the same order in both panels; those of the two strongest weights lie higher, and much higher on the right.",
    share_y=True,
    height=420,
)

# %% [markdown] slideshow={"slide_type": "slide"}
# Five autoencoders that differ in the weight β of their KL term only: on the left the frequency profile of what their encoders
# *say*, on the right of what a diffusion model is trained on.
#
# Autoencoders for latent diffusion are usually variational: the encoder returns a Gaussian, a latent is a *sample* of it,
# and a Kullback-Leibler term pulls that Gaussian towards the standard normal distribution from which the sampler will start
# {cite}`kingma2013auto`. This should make the sampler's job smaller. But a sample contains **white noise**, and
# {numref}`chap-dct` has shown what the spectrum of white noise is: flat. This chapter separates the two edges of the sword,
# with a formula that says exactly what added noise does to each statistic of a profile, and with the family of autoencoders
# above, over three seeds.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - write the KL term averaged over channels and positions, and say why the average matters when models are compared;
# - predict from the energy profile of the means and one variance what the profile of the samples will be;
# - say which statistic of the profile the prediction holds for exactly, and which it cannot hold for;
# - tell apart what KL does to the encoder's means, what its noise adds to the samples, and which channels it silences.
# ```

# ## The term
#
# The encoder gives a mean $\mu$ and a standard deviation $\sigma$ for every latent number, and a latent is
# $z = \mu + \sigma\,\varepsilon$ with $\varepsilon\sim\mathcal N(0, I)$. For two Gaussians the divergence is a closed form;
# averaged over all $C\,h\,w$ latent numbers,
#
# $$
# \mathcal L_{\mathrm{KL}} = \frac{1}{C\,h\,w}\sum \tfrac12\bigl(\mu^2 + \sigma^2 - 1 - \ln\sigma^2\bigr) .
# $$ (eq-kl)
#
# {cite:t}`skorokhodov2025improving` average, where many code bases sum. Beside a reconstruction term that is a mean over
# pixels, a sum over latent numbers weighs $C\,h\,w$ times as much as the average, so that one and the same $\beta$ would
# strike another balance for every size of latent. With the average, weights can be compared.
#
# The term is smallest at $\mu = 0$, $\sigma = 1$, where the latent says nothing. Reconstruction pulls the other way. What the
# encoder settles on is, for each latent number, a *signal* with variance $\operatorname{var}\mu$ and *noise* with variance
# $\sigma^2$, and the balance need not be the same for all of them.
#
# ## What noise does to a profile, in closed form
#
# Let $E_k$ be the mean energy of coefficient $k$ of the means, and let white noise of variance $\sigma^2$ be added. Noise and
# signal are independent and the transform is orthonormal, so energies add:
#
# $$ E_k \;\longrightarrow\; E_k + \sigma^2 . $$ (eq-energy-adds)
#
# Hence, for the four statistics of {numref}`chap-dct`,
#
# | statistic | with added noise | holds |
# |---|---|---|
# | `energy` | $\dfrac{E_k + \sigma^2}{E_0 + \sigma^2}$ | for every signal |
# | `ratio_of_means` | $\sqrt{\dfrac{E_k + \sigma^2}{E_0 + \sigma^2}}$ | for zero-mean Gaussian coefficients of one variance |
# | `median_ratio` | $\sqrt{\dfrac{E_k + \sigma^2}{E_0 + \sigma^2}}$ | for the same, if independent |
# | `mean_ratio` | does not exist | |
#
# The second line follows from $\mathbb E|D| = \sqrt{2/\pi}\,\sqrt{\mathbb E D^2}$ for a Gaussian, the third from the median of a Cauchy
# variable. Real coefficients are not so: channels differ in variance, blocks differ in content, and $D_{00}$ may have an offset. So for
# these two the formula is an approximation and has to be measured. All three tend to the flat profile of white noise as $\sigma$ grows:
# relative to $D_{00}$, **noise lifts the high frequencies most, because they had least**.
#
# ```{admonition} In the paper
# :class: paper
#
# Fig. 13 of {cite:t}`skorokhodov2025improving` shows this for RGB under several noise levels: the normalised high
# frequencies rise. Its Fig. 3 shows profiles of FluxAE models trained from scratch with different KL weights, and concludes
# that a stronger KL adds high frequencies to the latent. Both are measured below, on small models.
# ```

# %% slideshow={"slide_type": "subslide"}
rgb_small = data.rgb01(data.resize_to(x, resolution // 4, resolution // 4))
generator = torch.Generator().manual_seed(seed)
rgb_curves = {}
for s in (0.0, 0.02, 0.05, 0.1, 0.2):
    noisy = rgb_small + s * torch.randn(rgb_small.shape, generator=generator)
    profile = spectrum.frequency_profile(noisy, B, "ratio_of_means")
    rgb_curves[f"σ = {s:g}"] = profile
figures.profiles(
    rgb_curves,
    alt="Profiles of photographs with five levels of added white noise. The high ranks rise with the noise while the low "
    "ranks stay, so that the profile levels off at a floor.",
    ylabel="mean |D| / mean |D₀₀|",
)

# %% [markdown]
# ## A family that differs in β only
#
# The five autoencoders of the picture at the top are alike in architecture (f4, 16 channels), data, steps and seed, with
# $\beta \in \{0, 10^{-6}, 10^{-4}, 10^{-2}, 10^{-1}\}$. Each was trained from scratch by
# `sweeps/family.yaml`, 2000 steps with batches of 8 crops of $48^2$ pixels. Those with seed 0 come with the book and
# are measured here; the other seeds follow at the end of the chapter. (`kl-f4c16` of the other chapters had another
# recipe and does not belong to the family.)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
of_beta = {}
for beta in betas:
    mu, sd = means[beta], stds[beta]
    variance, noise = mu.var((0, 2, 3)).mean().item(), sd.square().mean().item()
    found = {"noise_share": noise / (noise + variance)}
    decoded = {"mean": decoded_mean[beta], "sample": decoded_sample[beta]}
    for kind, z in (("mean", mu), ("sample", samples[beta])):
        energies = spectrum.frequency_profile(z, B, "energy")
        ratio = spectrum.high_frequency_energy_ratio(z, B).item()
        found[f"hf_energy_ratio_{kind}"] = ratio
        found[f"hf_share_{kind}"] = spectrum.high_frequency_share(energies)
        found[f"psnr_db_{kind}"] = metrics.psnr(decoded[kind], x).item()
    run.metrics |= {f"beta{beta}_{key}": value for key, value in found.items()}
    of_beta[beta] = {"variance of μ": variance} | found

# %% jupyter={"source_hidden": true} tags=["hide-input"]
columns = {
    "noise, % of variance": ("noise_share", 100, ".0f"),
    "HF ratio μ, 10⁻³": ("hf_energy_ratio_mean", 1000, ".1f"),
    "HF ratio z, 10⁻³": ("hf_energy_ratio_sample", 1000, ".1f"),
    "HF share μ, %": ("hf_share_mean", 100, ".0f"),
    "HF share z, %": ("hf_share_sample", 100, ".0f"),
    "PSNR μ, dB": ("psnr_db_mean", 1, ".1f"),
    "PSNR z, dB": ("psnr_db_sample", 1, ".1f"),
}
table = {
    weight_label(beta): {"variance of μ": f"{found['variance of μ']:.2f}"}
    | {
        title: f"{times * found[key]:{form}}"
        for title, (key, times, form) in columns.items()
    }
    for beta, found in of_beta.items()
}
results.show(table, index="β")

# %% [markdown]
# **Measured here**, on seed 0 of the family and held-out crops; μ are means, z samples. *HF ratio* and *HF share* are those of
# {numref}`chap-dct`: the mean energy of the upper half of the ranks over that of $D_{00}$, and the part of the energy outside $D_{00}$ that
# lies in the upper half, which does not change with an offset of the latent. PSNR is of pictures decoded from means or samples.
#
# The two panels at the top answer two different questions. The right one is what a diffusion model is trained on (the paper
# draws posterior samples from its variational autoencoders). The left one is what the *encoder* has learnt to say. What lies
# between them is noise, and {eq}`eq-energy-adds` accounts for it. The variance $\sigma^2$ differs from place to place, but the
# noise is independent of the signal and does not favour any position in a block, so its average is all that counts. Lines
# are computed from the means and the average $\sigma^2$, dots are measured on samples. (The formula is exact for `energy`
# only, so that is what is drawn.)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
gap, account, styles = {}, {}, {}
for i, beta in enumerate(betas):
    d = spectrum.block_dct(means[beta], B).square().mean((0, 1, 2, 3)).flatten()
    d = d[spectrum.zigzag_order(B)]
    s2 = stds[beta].square().mean()
    predicted = (d + s2) / (d[0] + s2)
    measured = spectrum.frequency_profile(samples[beta], B, "energy")
    gap[beta] = (measured / predicted - 1).abs().max().item()
    line, dots = f"β = {weight_label(beta)}", f"β = {weight_label(beta)}, measured"
    account |= {line: predicted, dots: measured}
    styles[line] = {"color": i, "dash": "solid"}
    styles[dots] = {"color": i, "mode": "markers", "symbol": i, "size": 6}
    styles[dots]["showlegend"] = False
run.metrics["largest_gap_of_samples"] = max(gap.values())
figures.profiles(
    account,
    styles=styles,
    height=400,
    ylabel="mean D² / mean D₀₀² of samples",
    alt="Energy profiles of samples for five KL weights: lines computed from the means and the average posterior variance, "
    "dots measured on samples. The dots lie on the lines.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# The dots are never farther from their line than a few hundredths of its height.
#
# ## Channels that fall silent
#
# An average over all latent numbers hides how the noise is shared out. For each of the 16 channels, the next figure shows how
# much of its variance is noise.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
noise_of, live = {}, {}
for beta in betas:
    noise_c = stds[beta].square().mean((0, 2, 3))  # (C,)
    noise_of[beta] = noise_c / (noise_c + means[beta].var((0, 2, 3)))
    live[beta] = noise_of[beta] < 0.5  # more signal than noise
shown = {weight_label(b): noise_of[b].tolist() for b in betas}
figures.over_seeds(
    {"16 channels and their mean": shown},
    alt="Share of noise in the variance of each of the 16 channels, for five KL weights. Up to the third weight all lie near "
    "zero; for the two strongest they fall into two groups, one near zero and one near one.",
    xlabel="β",
    ylabel="noise in the channel's variance",
    log_y=False,
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
of_channels = {}
for beta in betas:
    z = samples[beta][:, live[beta]]
    energies = spectrum.frequency_profile(z, B, "energy")
    found = {
        "silent_channels": int((~live[beta]).sum()),
        "live_hf_energy_ratio_sample": spectrum.high_frequency_energy_ratio(
            z, B
        ).item(),
        "live_hf_share_sample": spectrum.high_frequency_share(energies),
    }
    run.metrics |= {f"beta{beta}_{key}": value for key, value in found.items()}
    of_channels[weight_label(beta)] = {
        "silent channels": found["silent_channels"],
        "HF ratio, 10⁻³": 1000 * of_beta[beta]["hf_energy_ratio_sample"],
        "HF ratio, live, 10⁻³": 1000 * found["live_hf_energy_ratio_sample"],
        "HF share, %": 100 * of_beta[beta]["hf_share_sample"],
        "HF share, live, %": 100 * found["live_hf_share_sample"],
    }
results.show(of_channels, ".1f", index="β")

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**, on samples, seed 0 of the family; *silent* means more noise than signal, *live* the other channels. In this training run,
# and in the two others that are recorded below, strong KL does not make all channels a little noisy. It makes half of them
# ($\beta=10^{-2}$) or 13 of 16 ($10^{-1}$) say nothing, which is known as **posterior collapse**, and their samples are white noise of
# variance one. Most of the high frequencies that a diffusion model would meet at the strongest weight sit there. But not all: compare the
# live channels with $\beta = 0$. Why does the term flatten these, too? It has two parts. Averaged over the data {cite}`hoffman2016elbo`,
#
# $$
# \begin{gathered}
# \mathbb E_x\,\mathrm{KL}\bigl(q(z\mid x)\,\|\,p(z)\bigr) \\
# = \underbrace{I_q(x; z)}_{\text{what } z \text{ says about } x}
# + \underbrace{\mathrm{KL}\bigl(q(z)\,\|\,p(z)\bigr)}_{\text{from } q(z) \text{ to } p} ,
# \end{gathered}
# $$ (eq-surgery)
#
# with $q(z)$ the distribution of samples over the whole data. The first part is a price on information: a channel that
# lowers the reconstruction error by less than it costs is given up. The second asks that samples of *all* images together
# look like $p = \mathcal N(0, I)$, that is, like **white noise, whose profile is flat**. Noise alone can satisfy it, so it does
# not prove that the means must flatten; but it pulls in no other direction, and here they did flatten.
#
# So these are the two edges: a latent that is close to what the sampler starts from, and a latent with a flat spectrum. They
# are one and the same. Whether the second cuts is another matter. White noise is easy to generate, and a flat spectrum can hurt
# only where the decoder needs what is there ({numref}`chap-autoregression`). Here it does not: at the strongest weight four fifths
# of the variance are noise, and yet a picture decoded from a sample is little more than half a decibel worse than one decoded
# from the mean.
#
# ## The same noise, each statistic
#
# How far can the two approximate formulas be trusted? Take the means of the first member, which have next to no noise of
# their own, add white noise of growing strength, and follow each statistic at the middle rank. Dashed lines are the
# formulas of the table above; that of the median is that of the ratio of means.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
mu, rank = means[betas[0]], B * B // 2
energy = spectrum.block_dct(mu, B).square().mean((0, 1, 2, 3)).flatten()
energy = energy[spectrum.zigzag_order(B)]
strengths = torch.logspace(-2.5, 0.5, 13) * mu.std()
ratio = (energy[rank] + strengths**2) / (energy[0] + strengths**2)
formula = {
    "energy": ratio,
    "ratio_of_means": ratio.sqrt(),
    "median_ratio": ratio.sqrt(),
}
measured = {s: [] for s in spectrum.STATISTICS}
generator = torch.Generator().manual_seed(seed)
for s in strengths:
    accumulator = spectrum.ProfileAccumulator(B)
    accumulator.update(mu + s * torch.randn(mu.shape, generator=generator))
    for statistic in spectrum.STATISTICS:
        measured[statistic].append(accumulator.profile(statistic)[rank].item())
worst = {
    s: (torch.tensor(measured[s]) / of - 1).abs().max().item()
    for s, of in formula.items()
}
run.metrics |= {f"largest_relative_gap_{s}": v for s, v in worst.items()}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
curves, styles = {}, {}
for i, statistic in enumerate(spectrum.STATISTICS):
    label = STATISTIC_LABELS[statistic]
    curves[label] = measured[statistic]
    styles[label] = {"color": i, "symbol": i, "mode": "markers"}
    if statistic in formula:
        line = {"color": i, "dash": "dash", "showlegend": False}
        curves[f"{label}, formula"], styles[f"{label}, formula"] = (
            formula[statistic],
            line,
        )
figures.lines(
    curves,
    x=strengths / mu.std(),
    styles=styles,
    log_x=True,
    log_y=True,
    height=420,
    xlabel="noise, in standard deviations of the means",
    ylabel=f"profile at rank {rank}",
    alt="The four statistics at the middle rank against the strength of added noise. Energy lies on its formula everywhere; "
    "ratio of means and median ratio run below theirs at first and above it where the noise takes over; the mean of ratios "
    "scatters far above them all.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
results.show(
    {STATISTIC_LABELS[s]: {"%": 100 * v} for s, v in worst.items()},
    ".0f",
    index="largest difference from the formula",
)

# %% [markdown]
# **Measured here.** Only the energy profile of a sample can be predicted; for the other two the formula gives the shape of the
# curve.
#
# ## See it
#
# Add noise to the latent of one photograph and decode. The profile on the right follows the formula for energy.

# %% slideshow={"slide_type": "subslide"}
explorer_image = data.photo("coffee")[:, 96:288, 192:384]  # (3, 192, 192)
latent_noise_explorer(explorer_image, family[betas[0]], B, seed=seed)

# %% [markdown]
# ## Over seeds
#
# One training run is one draw. The records below are of three runs of each member, different in nothing but the seed
# (`sweeps/family.yaml`, one thread on a 2-core CPU); shown are mean and standard deviation.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
weights = ("0", "1e-6", "1e-4", "1e-2", "1e-1")
recorded = results.rename(
    results.frame("family"),
    {f"kl-f4c16-beta{beta}": weight_label(beta) for beta in weights},
)
for kind in ("mean", "sample"):
    recorded[f"hf_share_{kind}"] = [
        spectrum.high_frequency_share(r.series[f"energy_{kind}"])
        for r in recorded.record
    ]
spectra_columns = {
    "hf_energy_ratio_mean": ("HF ratio μ, 10⁻³", ".1f", 1000),
    "hf_energy_ratio_sample": ("HF ratio z, 10⁻³", ".1f", 1000),
    "hf_share_mean": ("HF share μ, %", ".1f", 100),
    "hf_share_sample": ("HF share z, %", ".1f", 100),
}
results.table(recorded, spectra_columns, control="0")

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
psnr_columns = {
    "held_out_psnr_db": ("PSNR μ, dB", ".2f"),
    "held_out_psnr_db_from_samples": ("PSNR z, dB", ".2f"),
}
results.table(recorded, psnr_columns, control="0")


# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
def of_runs(metric):
    return {
        arm: runs[metric].tolist()
        for arm, runs in recorded.groupby("arm", sort=False)
    }


figures.over_seeds(
    {
        "samples": of_runs("hf_energy_ratio_sample"),
        "means": of_runs("hf_energy_ratio_mean"),
    },
    alt="High-frequency energy ratio of posterior samples and of means against the KL weight, one marker for each training "
    "run. Up to 10⁻⁴ both stay level; at the two strongest weights the means rise several times and the samples up to a "
    "hundred times.",
    xlabel="β",
    ylabel="HF energy ratio",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
figures.over_seeds(
    {
        "decoded from means": of_runs("held_out_psnr_db"),
        "decoded from samples": of_runs("held_out_psnr_db_from_samples"),
    },
    alt="PSNR of pictures decoded from means and from samples against the KL weight, one marker for each training run. It "
    "falls at the strongest weight, and from samples further.",
    xlabel="β",
    ylabel="PSNR, dB",
    log_y=False,
)

# %% [markdown] slideshow={"slide_type": "slide"}
# **What the records say.** A difference counts here when the 95% interval of the paired difference to $\beta = 0$, below each
# number, lies off zero. Up to $10^{-4}$ nothing does. At $10^{-2}$ and $10^{-1}$ the high-frequency share rises:
# that of the means to 2.0 and 2.5 times, that of samples to 3.0 and 3.6 times. At $10^{-1}$ half of the energy of samples
# outside $D_{00}$ lies in the upper ranks, as in white noise. Reconstruction from samples falls by
# 0.4 dB and by 1.8 dB. In every run 8 of the 16 channels are silent at $10^{-2}$, and 13 at $10^{-1}$.
#
# ```{admonition} In the paper
# :class: paper
#
# Table 3 fine-tunes FluxAE with eight values of β and trains two denoisers on each. Reconstruction falls from 29.97 dB at
# $\beta=0$ to 23.72 dB at $\beta=10^{-1}$. By FDD, a distance between generated and real pictures (lower is better), the
# smaller denoiser likes the strongest KL best (929.6, against 968.3 at $\beta=0$); the larger one does not (472.7; its best is
# 404.0 at $10^{-5}$). The table is not monotone: PSNR is 19.66 dB at $10^{-6}$ and 10.82 dB at $10^{-2}$.
# ```
#
# The two low values look to us like runs that diverged. This chapter was about what a denoiser is given. Whether it learns such
# latents less well is among the claims of {numref}`chap-believe`; {numref}`chap-dial` says where their energies lie on its dial.
#
# ## To take away
#
# - A sample of a variational autoencoder is signal plus white noise, so its spectrum is that of the means plus a constant.
# - A strong KL term silences whole channels. Average over channels, and you do not see it.
# - Only the energy profile of a sample can be predicted exactly. The other statistics need a measurement.
# - A flat spectrum can hurt only where the decoder needs what is there. Noise in a silent channel it does not need.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} Where the noise wins ★★
# :label: ex-noise-wins
#
# At which rank does the posterior's noise have as much energy as the means, for each β? What does the diffusion model learn
# beyond that rank?
# ```
#
# ````{solution} ex-noise-wins
# :class: dropdown
#
# ```python
# for beta in betas:
#     d = spectrum.block_dct(means[beta], 8).square().mean((0, 1, 2, 3)).flatten()[spectrum.zigzag_order(8)]
#     below = (d < stds[beta].square().mean()).nonzero()
#     print(beta, int(below[0]) if len(below) else "never")
# ```
#
# "never" says that the means have more energy than the noise at every rank. For the strong weights, most of the noise sits in
# silent channels: put `means[beta][:, live[beta]]` and `stds[beta][:, live[beta]]` into the code, and "never" is the answer for every weight.
# A diffusion model does not know which channels are silent: it is trained to reproduce the distribution of samples, noise
# and all.
# ````
#
# ```{exercise} Sum or average ★
# :label: ex-sum
#
# A code base sums the KL over channels and positions and averages over the batch, with weight $10^{-6}$, on latents of
# $16\times32\times32$. Which β of {eq}`eq-kl` is that? And for $64\times16\times16$?
# ```
#
# ````{solution} ex-sum
# :class: dropdown
#
# The sum is $C\,h\,w$ times the average: $16\cdot 32\cdot 32 = 16\,384$, so $\beta = 0.016$; and $64\cdot16\cdot16 = 16\,384$, the
# same number, by luck of the shapes. (This holds if the reconstruction term is a mean; where it is a sum as well, both
# factors change.)
# ````
#
# ```{exercise} Train on means? ★★
# :label: ex-means
#
# If the noise does harm, why not train the diffusion model on the means? Give one reason for and one against, and say what
# you would measure.
# ```
#
# ````{solution} ex-means
# :class: dropdown
#
# For: the means have less high-frequency energy (compare the two panels). Against: at strong KL, some latent numbers carry
# almost no information, their means are nearly constant, and rescaling each channel to unit variance would blow up
# what little is there; also the decoder was trained on samples, and it tolerates noise of size σ, so it forgives errors of a
# diffusion model of that size. To decide, train the same denoiser on both and compare samples, not losses: the two losses
# are on different scales.
# ````
#
# ## What this chapter claims
#
# Each assertion guards the sentence that it quotes. If one fails, the sentence has to be rewritten.


# %%
def against(metric, beta):
    return results.paired(recorded, metric, weight_label(beta), "0")


# "Up to 10⁻⁴ nothing does"; "the high-frequency share rises"; "Reconstruction from samples falls"
moved = [*spectra_columns, *psnr_columns]
assert all(against(m, beta).sign == 0 for m in moved for beta in ("1e-6", "1e-4"))
assert all(
    against(m, b).sign == 1 for m in spectra_columns for b in ("1e-2", "1e-1")
)
loss = [against("held_out_psnr_db_from_samples", b) for b in ("1e-2", "1e-1")]
assert [round(d.mean, 1) for d in loss] == [-0.4, -1.8]
assert all(d.sign == -1 for d in loss)
# "that of the means to 2.0 and 2.5 times, that of samples to 3.0 and 3.6 times"; "half of the energy"
mean, sample = (
    results.means(recorded, f"hf_share_{k}") for k in ("mean", "sample")
)
assert (mean / mean["0"]).round(1)[["10⁻²", "10⁻¹"]].tolist() == [2.0, 2.5]
assert (sample / sample["0"]).round(1)[["10⁻²", "10⁻¹"]].tolist() == [3.0, 3.6]
assert 0.45 < sample["10⁻¹"] < 32 / 63
# "In every run 8 of the 16 channels are silent at 10⁻², and 13 at 10⁻¹"
silent = of_runs("silent_channels")
assert set(silent["10⁻²"]) == {8}
assert set(silent["10⁻¹"]) == {13}

# %%
strongest, psnr = betas[-1], results.means(recorded, "held_out_psnr_db")
from_samples = results.means(recorded, "held_out_psnr_db_from_samples")
# "four fifths of the variance are noise"; "little more than half a decibel worse"
assert 0.75 < of_beta[strongest]["noise_share"] < 0.85
assert 0.5 < psnr["10⁻¹"] - from_samples["10⁻¹"] < 0.6
# "Most of the high frequencies ... sit there. But not all"
live_only = "HF ratio, live, 10⁻³"
last, first = of_channels[weight_label(strongest)], of_channels["0"]
assert last[live_only] < last["HF ratio, 10⁻³"] / 2
assert last[live_only] > 2 * first[live_only]
# "never farther from their line than a few hundredths"; "Only the energy profile ... can be predicted"
assert max(gap.values()) < 0.1
assert worst["energy"] < min(worst["ratio_of_means"], worst["median_ratio"]) / 2

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
flat = torch.ones(64)
e = torch.cat([torch.tensor([100.0]), flat[1:] * 0.01])
with_noise = (e + 1.0) / (e[0] + 1.0)
noisiest = max(betas, key=lambda b: stds[b].square().mean().item())
db = {b: metrics.psnr(decoded_sample[b], x).item() for b in (betas[0], betas[-1])}
print("energy ratio 0.0001 with unit noise:   ", round(with_noise[1].item(), 6))
print("KL of a standard normal posterior:     ", 0.5 * (0 + 1 - 1 - math.log(1)))
print("samples follow the formula for energy: ", max(gap.values()) < 0.15)
print("the strongest KL has the noisiest code:", noisiest == betas[-1])
print("it costs reconstruction from samples:  ", db[betas[-1]] < db[betas[0]])

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
