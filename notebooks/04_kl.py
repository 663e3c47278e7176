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
# (chap-kl)=
# # KL is a double-edged sword
#
# Autoencoders for latent diffusion are usually variational: the encoder returns a Gaussian, a latent is a *sample* of it,
# and a Kullback-Leibler term pulls that Gaussian towards the standard normal distribution from which the sampler will start
# {cite}`kingma2013auto`. This should make the sampler's job smaller. But a sample contains **white noise**, and {ref}`chap-dct`
# has shown what the spectrum of white noise is: flat. The chapter separates the two edges of the sword, with a formula
# that says exactly what added noise does to each statistic of a profile, and with a family of autoencoders that differ in
# nothing but the weight of the KL term, over three seeds.
#
# ```{measured-runtime}
# ```
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

# %% tags=["hide-input"]
import math

import plotly.graph_objects as go
import torch
from IPython.display import Markdown
from plotly.subplots import make_subplots

from diffusab_core import autoencoders, data, metrics, spectrum
from diffusab_book import figures
from diffusab_book.explorers import spectra as explore
from diffusab_core.experiments import records

run = records.start(
    "04_kl",
    parameters={
        "betas": betas,
        "n_images": n_images,
        "resolution": resolution,
        "block_size": block_size,
    },
    seed=seed,
    size=size,
    data=f"{n_images} crops of {resolution}² from the held-out photographs (coffee, china)",
)
B = block_size


def weight_label(beta: str) -> str:
    """A KL weight for tables and legends: 1e-6 as 10⁻⁶."""
    power = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return f"10{beta[2:].translate(power)}" if beta.startswith("1e") else beta


# %% [markdown]
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
# Let $E_k$ be the mean energy of coefficient $k$ of the means, and let white noise of variance $s^2$ be added. Noise and
# signal are independent and the transform is orthonormal, so energies add:
#
# $$ E_k \;\longrightarrow\; E_k + s^2 . $$ (eq-energy-adds)
#
# Hence, for the four statistics of {ref}`chap-dct`,
#
# | statistic | with added noise | holds |
# |---|---|---|
# | `energy` | $\dfrac{E_k + s^2}{E_0 + s^2}$ | for every signal |
# | `ratio_of_means` | $\sqrt{\dfrac{E_k + s^2}{E_0 + s^2}}$ | for zero-mean Gaussian coefficients of one variance |
# | `median_ratio` | $\sqrt{\dfrac{E_k + s^2}{E_0 + s^2}}$ | for the same, if independent |
# | `mean_ratio` | does not exist | |
#
# The second line follows from $\mathbb E|D| = \sqrt{2/\pi}\,\sqrt{\mathbb E D^2}$ for a Gaussian, the third from the median
# of a Cauchy variable. Real coefficients are not so: channels differ in variance, blocks differ in content, and $D_{00}$ may
# have an offset. So for these two the formula is an approximation and has to be measured. All three tend to the flat profile of white noise as $s$ grows: relative to
# $D_{00}$, **noise lifts the high frequencies most, because they had least**.
#
# ```{admonition} In the paper
# :class: paper
#
# Fig. 13 of {cite:t}`skorokhodov2025improving` shows this for RGB under several noise levels: the normalised high
# frequencies rise. Its Fig. 3 shows profiles of FluxAE models trained from scratch with different KL weights, and concludes
# that a stronger KL adds high frequencies to the latent. Both are measured below, on small models.
# ```

# %%
crops = data.Photos(resolution=resolution, split="test", seed=seed)
x = data.stack(crops, range(n_images))  # (n, 3, resolution, resolution) in [-1, 1]
rgb_small = data.rgb01(data.resize_to(x, resolution // 4, resolution // 4))
generator = torch.Generator().manual_seed(seed)

rgb_curves = {}
for s in (0.0, 0.02, 0.05, 0.1, 0.2):
    noisy = rgb_small + s * torch.randn(rgb_small.shape, generator=generator)
    rgb_curves[f"s = {s:g}"] = spectrum.frequency_profile(
        noisy, B, "ratio_of_means"
    )
figures.profiles(
    rgb_curves,
    alt="Profiles of photographs with five levels of added white noise. The high "
    "ranks rise with the noise while the low ranks stay, so that the profile "
    "levels off at a floor.",
    ylabel="mean |D| / mean |D₀₀|",
)

# %% [markdown]
# ## A family that differs in β only
#
# Five autoencoders, alike in architecture (f4, 16 channels), data, steps and seed, with
# $\beta \in \{0, 10^{-6}, 10^{-4}, 10^{-2}, 10^{-1}\}$. Each was trained from scratch by
# `scripts/train_shipped.py`, 2000 steps with batches of 8 crops of $48^2$ pixels. Those with seed 0 come with the book and
# are measured here; the other seeds follow at the end of the chapter. (`kl-f4c16` of the other chapters had another
# recipe and does not belong to the family.)

# %%
family = {beta: autoencoders.load(f"kl-f4c16-beta{beta}") for beta in betas}
means, stds, decoded_mean, decoded_sample = {}, {}, {}, {}
for beta, autoencoder in family.items():
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        posteriors = [autoencoder.encode(batch) for batch in x.split(32)]
        means[beta] = torch.cat([p.mean for p in posteriors])  # (n, 16, h, w)
        stds[beta] = torch.cat([p.std for p in posteriors])
        decoded_mean[beta] = torch.cat(
            [autoencoder.decode(p.mean) for p in posteriors]
        )
        decoded_sample[beta] = torch.cat(
            [autoencoder.decode(p.sample(generator)) for p in posteriors]
        )
generator = torch.Generator().manual_seed(seed)
samples = {
    b: means[b] + stds[b] * torch.randn(means[b].shape, generator=generator)
    for b in betas
}

pair = make_subplots(
    1,
    2,
    subplot_titles=["encoder means μ", "samples z = μ + σε"],
    shared_yaxes=True,
    horizontal_spacing=0.04,
)
for column, latents in enumerate((means, samples), start=1):
    for i, beta in enumerate(betas):
        style = {"color": figures.PALETTE[i], "dash": figures.DASHES[i]}
        profile = spectrum.frequency_profile(latents[beta], B, "ratio_of_means")
        pair.add_trace(
            go.Scatter(
                y=profile.tolist(),
                name=f"β = {weight_label(beta)}",
                line=style,
                legendgroup=beta,
                showlegend=column == 1,
            ),
            1,
            column,
        )
pair.update_yaxes(**figures.DECADES).update_yaxes(
    title="mean |D| / mean |D₀₀|", col=1
)
pair.update_xaxes(title="zigzag rank").update_layout(
    height=400, legend_y=1.12, margin_t=90
)
figures.described(
    pair,
    "Frequency profiles of the five autoencoders, on the left of the "
    "encoder's means, on the right of samples. The curves come in the same "
    "order in both panels; those of the two strongest weights lie higher, and"
    " much higher on the right.",
)

# %% tags=["hide-input"]
rows = []
for beta in betas:
    mu, sd = means[beta], stds[beta]
    variance, noise = mu.var((0, 2, 3)).mean().item(), sd.square().mean().item()
    found = {"noise_share": noise / (noise + variance)}
    for kind, z in (("mean", mu), ("sample", samples[beta])):
        energy_of_z = spectrum.frequency_profile(z, B, "energy")
        found |= {
            f"hf_energy_ratio_{kind}": spectrum.high_frequency_energy_ratio(
                z, B
            ).item(),
            f"hf_share_{kind}": spectrum.high_frequency_share(energy_of_z),
        }
    found["psnr_db_mean"] = metrics.psnr(decoded_mean[beta], x).item()
    found["psnr_db_sample"] = metrics.psnr(decoded_sample[beta], x).item()
    run.metrics |= {f"beta{beta}_{key}": value for key, value in found.items()}
    rows.append(
        f"| {weight_label(beta)} | {variance:.2f} | {found['noise_share']:.0%} "
        f"| {found['hf_energy_ratio_mean']:.4f} / {found['hf_energy_ratio_sample']:.4f} "
        f"| {found['hf_share_mean']:.0%} / {found['hf_share_sample']:.0%} "
        f"| {found['psnr_db_mean']:.1f} / {found['psnr_db_sample']:.1f} |"
    )
Markdown(
    f"**Measured here** (seed 0 of the family, {n_images} held-out crops; *a / b* is means / samples):\n\n"
    "| β | variance of μ | noise in all variance | HF energy ratio | HF share | PSNR, dB |\n"
    "|---|---|---|---|---|---|\n" + "\n".join(rows).replace(" / ", "&nbsp;/&nbsp;")
)

# %% [markdown]
# The *HF share* is the part of the energy outside $D_{00}$ that lies in the upper half of the ranks; unlike the energy
# ratio, it does not change with an offset of the latent ({ref}`chap-dct`).
#
# The two panels answer two different questions. The right one is what a diffusion model is trained on (the paper draws
# posterior samples from its variational autoencoders). The left one is what the *encoder* has learnt to say. What lies
# between them is noise, and {eq}`eq-energy-adds` accounts for it. The variance $\sigma^2$ differs from place to place, but the
# noise is independent of the signal and does not favour any position in a block, so its average is all that counts. Lines
# are computed from the means and the average $\sigma^2$, dots are measured on samples. (The formula is exact for `energy`
# only, so that is what is drawn.)

# %% tags=["hide-input"]
gap = {}
account = go.Figure()
for i, beta in enumerate(betas):
    d = (
        spectrum.block_dct(means[beta], B)
        .square()
        .mean((0, 1, 2, 3))
        .flatten()[spectrum.zigzag_order(B)]
    )
    s2 = stds[beta].square().mean()
    predicted = (d + s2) / (d[0] + s2)
    measured = spectrum.frequency_profile(samples[beta], B, "energy")
    gap[beta] = (measured / predicted - 1).abs().max().item()
    color = figures.PALETTE[i]
    account.add_trace(
        go.Scatter(
            y=predicted.tolist(),
            name=f"β = {weight_label(beta)}",
            line={"color": color},
        )
    )
    account.add_trace(
        go.Scatter(
            y=measured.tolist(),
            mode="markers",
            marker={"color": color, "size": 6, "symbol": i},
            showlegend=False,
        )
    )
account.update_yaxes(title="mean D² / mean D₀₀² of samples", **figures.DECADES)
account.update_xaxes(title="zigzag rank").update_layout(height=400, margin_t=80)
figures.described(
    account,
    "Energy profiles of samples for five KL weights: lines computed from the "
    "means and the average posterior variance, dots measured on samples. The "
    "dots lie on the lines.",
)

# %% [markdown]
# ## Channels that fall silent
#
# An average over all latent numbers hides how the noise is shared out. For each of the 16 channels, the next figure shows how
# much of its variance is noise.

# %% tags=["hide-input"]
noise_of, live = {}, {}
for beta in betas:
    noise_c = stds[beta].square().mean((0, 2, 3))  # (C,)
    noise_of[beta] = noise_c / (noise_c + means[beta].var((0, 2, 3)))
    live[beta] = noise_of[beta] < 0.5  # more signal than noise
figures.over_seeds(
    {
        "16 channels and their mean": {
            weight_label(b): noise_of[b].tolist() for b in betas
        }
    },
    alt="Share of noise in the variance of each of the 16 channels, for five KL "
    "weights. Up to the third weight all lie near zero; for the two strongest"
    " they fall into two groups, one near zero and one near one.",
    xlabel="β",
    ylabel="noise in the channel's variance",
    log_y=False,
)

# %% tags=["hide-input"]
rows = []
for beta in betas:
    z = samples[beta][:, live[beta]]
    live_ratio = spectrum.high_frequency_energy_ratio(z, B).item()
    live_share = spectrum.high_frequency_share(
        spectrum.frequency_profile(z, B, "energy")
    )
    silent = int((~live[beta]).sum())
    run.metrics |= {
        f"beta{beta}_silent_channels": silent,
        f"beta{beta}_live_hf_energy_ratio_sample": live_ratio,
        f"beta{beta}_live_hf_share_sample": live_share,
    }
    rows.append(
        f"| {weight_label(beta)} | {silent} "
        f"| {run.metrics[f'beta{beta}_hf_energy_ratio_sample']:.4f} | {live_ratio:.4f} "
        f"| {run.metrics[f'beta{beta}_hf_share_sample']:.0%} | {live_share:.0%} |"
    )
Markdown(
    "**Measured here** (samples, seed 0 of the family; *silent*: more noise than signal):\n\n"
    "| β | silent channels | HF energy ratio, all | live only | HF share, all | live only |\n"
    "|---|---|---|---|---|---|\n" + "\n".join(rows)
)

# %% [markdown]
# In this training run, and in the two others that are recorded below, strong KL does not make all channels a little
# noisy. It makes most of them say nothing, which is known as **posterior collapse**, and their samples are white noise of
# variance one. Most of the high frequencies that a diffusion model would meet at the strongest weight sit there. But not
# all: compare the live channels with $\beta = 0$. The term has two parts that bear on this. Averaged over the data
# {cite}`hoffman2016elbo`,
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
# are one and the same.
#
# ## The same noise, each statistic
#
# How far can the two approximate formulas be trusted? Take the means of the first member, which have next to no noise of
# their own, add white noise of growing strength, and follow each statistic at the middle rank. Dashed lines are the
# formulas of the table above; that of the median is that of the ratio of means.

# %% tags=["hide-input"]
follow, rank = betas[0], B * B // 2
mu = means[follow]
energy = (
    spectrum.block_dct(mu, B)
    .square()
    .mean((0, 1, 2, 3))
    .flatten()[spectrum.zigzag_order(B)]
)
strengths = torch.logspace(-2.5, 0.5, 13) * mu.std()
measured = {s: [] for s in spectrum.STATISTICS}
generator = torch.Generator().manual_seed(seed)
for s in strengths:
    accumulator = spectrum.ProfileAccumulator(B)
    accumulator.update(mu + s * torch.randn(mu.shape, generator=generator))
    for statistic in spectrum.STATISTICS:
        measured[statistic].append(accumulator.profile(statistic)[rank].item())
ratio = (energy[rank] + strengths**2) / (energy[0] + strengths**2)
formula = {
    "energy": ratio,
    "ratio_of_means": ratio.sqrt(),
    "median_ratio": ratio.sqrt(),
}
horizontal = (strengths / mu.std()).tolist()
lines = go.Figure()
for i, statistic in enumerate(spectrum.STATISTICS):
    color = figures.PALETTE[i]
    label = explore.STATISTIC_LABELS[statistic]
    lines.add_trace(
        go.Scatter(
            x=horizontal,
            y=measured[statistic],
            name=label,
            mode="markers",
            marker={"color": color, "symbol": i},
        )
    )
    if statistic in formula:
        line = {"color": color, "dash": "dash"}
        lines.add_trace(
            go.Scatter(
                x=horizontal,
                y=formula[statistic].tolist(),
                mode="lines",
                line=line,
                showlegend=False,
            )
        )
lines.update_xaxes(
    title="noise, in standard deviations of the means", **figures.DECADES
)
lines.update_yaxes(
    title=f"profile at rank {rank}", **figures.DECADES
).update_layout(height=420, margin_t=90)
figures.described(
    lines,
    "The four statistics at the middle rank against the strength of added "
    "noise. Energy lies on its formula everywhere; ratio of means and median "
    "ratio run below theirs at first and above it where the noise takes over;"
    " the mean of ratios scatters far above them all.",
)

# %% tags=["hide-input"]
worst = {
    s: max(
        abs(m / f - 1)
        for m, f in zip(measured[s], formula[s].tolist(), strict=True)
    )
    for s in formula
}
run.metrics |= {f"largest_relative_gap_{s}": v for s, v in worst.items()} | {
    "largest_gap_of_samples": max(gap.values())
}
Markdown(
    f"**Measured here.** Largest relative difference between measurement and formula at rank {rank}: "
    + ", ".join(f"{explore.STATISTIC_LABELS[s]} {v:.0%}" for s, v in worst.items())
    + f". For the profiles of posterior samples above, over all ranks and members, energy: {max(gap.values()):.0%}. "
    "So only the energy profile of a sample can be predicted; for the other "
    "two the formula gives the shape of the curve."
)

# %% [markdown]
# ## See it
#
# Add noise to the latent of one photograph and decode. The profile on the right follows the formula for energy.

# %%
explorer_image = data.photo("coffee")[:, 96:288, 192:384]  # (3, 192, 192)
explore.latent_noise_explorer(explorer_image, family[betas[0]], B, seed=seed)

# %% [markdown]
# ## Over seeds
#
# One training run is one draw. The records below are of three runs of each member, different in nothing but the seed
# (`scripts/record_family.py`, one thread on a 2-core CPU); shown are mean and standard deviation.

# %% tags=["hide-input"]
recorded = [
    r
    for r in records.read_all(records.RESULTS / "family", "family-spectra")
    if "-beta" in r.parameters["name"]
]
by_beta = {}
for r in recorded:
    by_beta.setdefault(r.parameters["kl_weight"], []).append(r)
for r in recorded:
    for kind in ("mean", "sample"):
        r.metrics[f"hf_share_{kind}"] = spectrum.high_frequency_share(
            r.series[f"energy_{kind}"]
        )
columns = {
    "HF energy ratio, 10⁻³": (
        "hf_energy_ratio_{}",
        1000,
        ".1f",
        ("mean", "sample"),
    ),
    "HF share, %": ("hf_share_{}", 100, ".1f", ("mean", "sample")),
    "PSNR, dB": ("held_out_psnr_db{}", 1, ".2f", ("", "_from_samples")),
    "silent channels": ("silent_channels", 1, ".0f", ("", "")),
}


def of_runs(key: str) -> dict[str, list[float]]:
    return {
        weight_label(runs[0].parameters["name"].split("beta")[1]): [
            r.metrics[key] for r in runs
        ]
        for _, runs in sorted(by_beta.items())
    }


def cell(runs: list[float], times: float, form: str) -> str:
    mean, spread = records.mean_and_spread([times * value for value in runs])
    return f"{mean:{form}} ± {spread:{form}}"


table = [
    "| β | seeds | of | " + " | ".join(columns) + " |",
    "|---" * (len(columns) + 3) + "|",
]
for beta, runs in of_runs("hf_energy_ratio_mean").items():
    for i, kind in enumerate(("means", "samples")):
        cells = [
            cell(of_runs(key.format(suffixes[i]))[beta], times, form)
            for key, times, form, suffixes in columns.values()
        ]
        table.append(
            f"| {beta} | {len(runs)} | {kind} | " + " | ".join(cells) + " |"
        )
Markdown("\n".join(table))

# %%
figures.over_seeds(
    {
        "samples": of_runs("hf_energy_ratio_sample"),
        "means": of_runs("hf_energy_ratio_mean"),
    },
    alt="High-frequency energy ratio of posterior samples and of means against "
    "the KL weight, one marker for each training run. The table above gives "
    "the means and spreads, the text below says how the groups lie.",
    xlabel="β",
    ylabel="HF energy ratio",
)

# %%
figures.over_seeds(
    {
        "decoded from means": of_runs("held_out_psnr_db"),
        "decoded from samples": of_runs("held_out_psnr_db_from_samples"),
    },
    alt="PSNR of pictures decoded from means and from samples against the KL "
    "weight, one marker for each training run.",
    xlabel="β",
    ylabel="PSNR, dB",
    log_y=False,
)

# %% tags=["hide-input"]
low, high = min(by_beta), max(by_beta)


def verdict(key: str, form: str, times: float = 1) -> str:
    weak, strong = ([r.metrics[key] for r in by_beta[beta]] for beta in (low, high))
    order = records.ordering(weak, strong)
    return f"**{order}** ({cell(strong, times, form)} against {cell(weak, times, form)})"


ratios = of_runs("hf_energy_ratio_sample")
without = next(iter(ratios.values()))  # the weakest
against = ", ".join(
    f"{beta} {records.ordering(without, runs)}"
    for beta, runs in list(ratios.items())[1:]
)
Markdown(
    f"**What the records say.** A difference counts here only when the runs of two weights do not overlap. HF energy ratio of "
    f"samples against that at β = {low:g}: {against}. For β = {high:g} against {low:g}: of samples, in 10⁻³, "
    f"{verdict('hf_energy_ratio_sample', '.1f', 1000)}; of the encoder's means, "
    f"{verdict('hf_energy_ratio_mean', '.1f', 1000)}; HF share of samples, in %, "
    f"{verdict('hf_share_sample', '.1f', 100)}, of means {verdict('hf_share_mean', '.1f', 100)}; PSNR from samples, in "
    f"dB, {verdict('held_out_psnr_db_from_samples', '.2f')}."
)

# %% [markdown]
# ```{admonition} In the paper
# :class: paper
#
# Table 3 fine-tunes FluxAE with eight values of β and trains two denoisers on each. Reconstruction falls from 29.97 dB at
# $\beta=0$ to 23.72 dB at $\beta=10^{-1}$. By FDD, a distance between generated and real pictures (lower is better), the
# smaller denoiser likes the strongest KL best (929.6, against 968.3 at $\beta=0$); the larger one does not (472.7; its best is
# 404.0 at $10^{-5}$). The table is not monotone: PSNR is 19.66 dB at $10^{-6}$ and 10.82 dB at $10^{-2}$.
# ```
#
# The two low values look to us like runs that diverged. What a denoiser makes of such latents is measured in later chapters;
# this one was about what it is given.
#
# ## Exercises
#
# ```{exercise} Where the noise wins
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
# ```{exercise} Sum or average
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
# ```{exercise} Train on means?
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
# ## Check yourself

# %% tags=["checkpoint"]
flat = torch.ones(64)
e = torch.cat([torch.tensor([100.0]), flat[1:] * 0.01])
with_noise = (e + 1.0) / (e[0] + 1.0)
print("energy ratio 0.0001 with unit noise:   ", round(with_noise[1].item(), 6))
print("KL of a standard normal posterior:     ", 0.5 * (0 + 1 - 1 - math.log(1)))
print("samples follow the formula for energy: ", max(gap.values()) < 0.15)
print(
    "the strongest KL has the noisiest code:",
    max(betas, key=lambda b: stds[b].square().mean().item()) == betas[-1],
)
print(
    "it costs reconstruction from samples:  ",
    metrics.psnr(decoded_sample[betas[-1]], x).item()
    < metrics.psnr(decoded_sample[betas[0]], x).item(),
)

# %% tags=["hide-input"]
record = run.finish()
if record_path:
    record.write(record_path)
Markdown(
    f"Run `{record.identity}`: size `{record.size}`, seed {record.seed}, {record.device}, torch {record.versions['torch']}, "
    f"{record.wall_time_s:.0f} s."
)
