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
# (chap-encoder-decoder)=
# # What the encoder drops and the decoder needs
#
# So far a latent's spectrum was looked at by itself. {cite:t}`lai2026toward` look at what goes *through*: they change one
# band of frequencies on one side of an encoder or a decoder and watch the other side. Three findings come out, and a
# suspicion, that encoders suffer from aliasing, which the paper leaves unproven. This chapter repeats the three on the
# shipped autoencoders and on photographs they have never seen, and then measures aliasing with waves of known frequency.
#
# ```{measured-runtime}
# ```
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - split an image or a latent by radius, and say in which unit the radius is;
# - measure what a decoder loses with a band of its latent, and what an encoder changes when a band of the image goes;
# - predict where a wave arrives in a latent, and tell folding from loss;
# - say which of the paper's three findings these small autoencoders show, and which they do not.
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
models: str = (
    "kl-f4c16, kl-f8c4, kl-f8c16, kl-f8c64, kl-f16c64, kl-f16c128, kl-f16c256"
)
closer: str = (
    "kl-f8c4, kl-f8c64, kl-f16c256"  # that the slower measurements are made on
)
n_images: int = 4  # crops of each seed
n_seeds: int = 3  # of crops, for the third finding
n_gratings: int = 6  # frequencies of the transfer curves, 3 to 6
results: str = ""  # folder of the recorded runs; the book's own when empty
record_path: str = ""  # where the run record goes; nowhere when empty

# %% tags=["hide-input"]
import math
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import plotly.graph_objects as go
import torch
from IPython.display import Markdown
from plotly.subplots import make_subplots

from diffusab_core import autoencoders, data, spectrum
from diffusab_book import figures, results as summaries
from diffusab_book.explorers import radial as explore_radial
from diffusab_core.experiments import records
from diffusab_core.metrics import aliasing, probes as perturbation
from diffusab_core.metrics import psnr
from diffusab_core.spectrum.bands import energy_shares

run = records.start(
    "11_encoder_decoder",
    parameters={
        "models": models,
        "closer": closer,
        "n_images": n_images,
        "n_seeds": n_seeds,
        "n_gratings": n_gratings,
    },
    seed=seed,
    size=size,
    data=f"{n_seeds} times {n_images} crops of the held-out photographs (coffee, china), "
    "256² for models of compression 16, 128² for the others",
)
opened = {
    name.strip(): autoencoders.load(name.strip()) for name in models.split(",")
}
near = {name.strip(): opened[name.strip()] for name in closer.split(",")}
EVERYTHING = math.sqrt(0.5)  # the corner of the Fourier plane


def crops(model, draw=0):
    """Held-out crops (n_images, 3, H, W) in [-1, 1], so large that a latent has 16² positions or more."""
    resolution = 256 if model.compression == 16 else 128
    return data.stack(
        data.Photos(resolution, "test", seed=seed + draw), range(n_images)
    )


# %% [markdown]
# ## One radius, two units
#
# Take the Fourier transform $F$ of a picture or of one channel of a latent. Each coefficient belongs to a wave with $f_y$
# cycles per pixel down and $f_x$ across, and its distance from the zero frequency is $\rho = \sqrt{f_y^2 + f_x^2}$. A mask
# $M$ that is one for $\rho\le r$ and zero beyond splits the signal in two:
#
# $$
# Z_{\mathrm{low}} = F^{-1}\bigl(M \odot F(Z)\bigr), \qquad
# Z_{\mathrm{high}} = F^{-1}\bigl((1 - M) \odot F(Z)\bigr) = Z - Z_{\mathrm{low}} .
# $$ (eq-radial-split)
#
# $r$ is in **cycles per pixel**: an axis ends at 0.5, the Nyquist frequency, and the corner of the plane is at
# $\sqrt{0.5}\approx 0.71$. The zero frequency, the mean, is always in the low part. By Parseval's theorem the energies of
# the two parts add up to that of the signal.
#
# **The same $r$ means different things in the two spaces.** A pixel of a latent of compression $f$ is as wide as $f$ pixels
# of the picture. A wave of $\nu$ cycles per pixel of the *picture* therefore has
#
# $$
# \rho = f\,\nu
# $$ (eq-two-units)
#
# cycles per pixel of the *latent*, as long as $f\nu \le \tfrac12$ on each axis.
# At f8, a latent's Nyquist frequency is 1/16 = 0.0625 cycles per pixel of the picture. Where a wave beyond that can go is
# the question of the second half. Each radius below says whose pixels it counts.
#
# The ideal mask has a sharp edge, and the signal then rings. The authors' released filter also has two soft ones:
# Butterworth, $1/(1 + (\rho/r)^{2n})$ with the order $n = 2$ here, and Gaussian, $\exp(-\rho^2/2r^2)$. All of this chapter uses the ideal mask;
# {ref}`ex-soft-masks` does not.

# %%
radius = 0.2
masks = go.Figure()
line = {}
for i, kind in enumerate(spectrum.MASKS):
    row = spectrum.radial_mask(1, 400, radius, kind)[
        0, :201
    ].double()  # fx from 0 to 0.5
    line[kind] = row
    masks.add_scatter(
        x=[k / 400 for k in range(201)],
        y=[round(v, 4) for v in row.tolist()],
        name=kind,
        line={"color": figures.PALETTE[i], "dash": figures.DASHES[i]},
    )
masks.update_xaxes(title="ρ, cycles per pixel").update_yaxes(title="weight M")
masks.update_layout(height=280)
figures.described(
    masks,
    "Three low-pass masks of radius 0.2 against frequency: the ideal one falls from one to zero at "
    "0.2, the Butterworth mask passes one half there, the Gaussian 0.61, and both fall smoothly.",
)

# %% [markdown]
# The slider moves one $r$ through both spaces. Above, the picture's own low and high part, $r$ in cycles per pixel of the
# picture. Below, what the decoder makes of the low and of the high part of the *latent*, $r$ in cycles per pixel of the
# latent. Percentages are shares of the energy about the mean of each channel.

# %%
picture = data.photo("china")[:, 20:276, 100:356]  # (3, 256, 256), never trained on
shown = {name: near[name] for name in list(near)[-2:]}
explore_radial.radius_explorer(
    picture, shown, (0.02, 0.05, 0.1, 0.2, 0.3, 0.4), start=0.2
)

# %% [markdown]
# ## Finding 1: the decoder needs its high frequencies
#
# The paper's first finding: decoded from $Z_{\mathrm{low}}$ alone a picture is blurry, and $Z_{\mathrm{high}}$ brings
# detail and semantics. But what would one expect? If latent frequency $\rho$ held what the picture has at $\nu = \rho/f$
# and nothing else, then decoding $Z_{\mathrm{low}}$ would be no worse than low-passing the picture at $r/f$. The
# comparison with that picture is what makes the finding more than "fewer frequencies, less detail".

# %%
latent_radii = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
by_part = {}
for name, model in near.items():
    x = crops(model)
    z = perturbation.encode_mean(model, x)
    whole = psnr(perturbation.decode(model, z), x).item()
    low = [
        psnr(perturbation.decode(model, spectrum.radial_split(z, r)[0]), x).item()
        for r in latent_radii
    ]
    expected = [
        psnr(spectrum.radial_split(x, r / model.compression)[0], x).item()
        for r in latent_radii
    ]
    by_part[name] = low, expected, whole

# %% tags=["hide-input"]
parts = make_subplots(1, len(near), subplot_titles=list(near), shared_yaxes=True, horizontal_spacing=0.03)  # fmt: skip
for column, (low, expected, whole) in enumerate(by_part.values(), start=1):
    for i, (label, values) in enumerate(
        {
            "decoded from Z_low": low,
            "picture low-passed at r/f": expected,
            "decoded from Z": [whole] * len(latent_radii),
        }.items()
    ):
        parts.add_scatter(
            x=latent_radii,
            y=[round(v, 2) for v in values],
            name=label,
            legendgroup=label,
            showlegend=column == 1,
            mode="lines+markers" if i < 2 else "lines",
            line={"color": figures.PALETTE[i], "dash": figures.DASHES[i]},
            row=1,
            col=column,
        )
parts.update_xaxes(title="r, cycles per latent pixel").update_yaxes(title="PSNR, dB", row=1, col=1)  # fmt: skip
parts.update_layout(height=340, margin={"t": 76}, legend={"y": 1.14})
figures.described(
    parts,
    "PSNR against the radius in the latent, for several autoencoders: of the picture decoded from the "
    "latent's low frequencies, of the picture itself low-passed at the corresponding frequency, and of the "
    "whole reconstruction, which is a level line that the decoded curve approaches from below.",
)

# %% tags=["hide-input"]
at = latent_radii.index(0.25)
gaps = {
    name: expected[at] - low[at] for name, (low, expected, _) in by_part.items()
}
losses = {name: whole - low[at] for name, (low, _, whole) in by_part.items()}
for name in near:
    run.metrics[f"{name}: db_lost_with_latent_frequencies_above_0.25"] = losses[
        name
    ]
    run.metrics[f"{name}: db_below_picture_low_passed_at_same_length"] = gaps[name]
Markdown(
    "**Measured here.** Without the latent frequencies beyond r = 0.25 cycles per latent pixel, reconstruction loses "
    + ", ".join(f"{v:.1f} dB ({n})" for n, v in losses.items())
    + ". Against the picture low-passed at the same length of waves, 0.25/f cycles per pixel of the picture, the decoded "
    "one has "
    + ", ".join(
        f"{v:.1f} dB less ({n})" if v > 0 else f"{-v:.1f} dB more ({n})"
        for n, v in gaps.items()
    )
    + f". Crops: {n_images}, of one seed."
)

# %% [markdown]
# Where the two agree, a latent frequency stands for the picture's. Where the decoded picture is the worse of the two, latent frequency and picture frequency do not correspond one to one:
# what the decoder does with $Z_{\mathrm{low}}$ also depends on $Z_{\mathrm{high}}$. Part of the gap, though, is no finding
# about frequencies: a decoder was never trained on a latent without high frequencies and treats it as a strange input. The
# reconstruction itself is limited, too, so at larger radii the low-passed picture is out of any decoder's reach.
#
# Which band matters most? {py:func}`~diffusab_core.metrics.probes.decoder_dependence` removes one band at a time. To tell
# *absence* from *wrong content* it also keeps the absolute value of each coefficient and draws its phase at random.

# %%
bands = (0, 0.125, 0.25, 0.375, 0.5, EVERYTHING)
dependence, energy_of = {}, {}
for name, model in near.items():
    x = crops(model)[:2]
    dependence[name] = perturbation.decoder_dependence(
        model, x, bands, generator_seed=seed
    )
    z = perturbation.encode_mean(model, x)
    within = [0.0, *(energy_shares(z, r)[0] for r in bands[1:])]
    energy_of[name] = [b - a for a, b in pairwise(within)]

# %% tags=["hide-input"]
labels = [f"{a:g} to {b:.3g}" for a, b in pairwise(bands)]
rows = []
for name, found in dependence.items():
    cells = []
    for band, share in enumerate(energy_of[name]):
        removed = found.psnr_whole - found.psnr_without[band].item()
        noised = found.psnr_whole - found.psnr_noised[band].item()
        cells.append(f"{share:.0%}: {removed:.1f} / {noised:.1f}")
        run.metrics[f"{name}: db_lost_without_band_{band}"] = removed
        run.metrics[f"{name}: db_lost_with_random_phases_in_band_{band}"] = noised
    rows.append(
        f"| {name} ({found.psnr_whole:.1f} dB) | " + " | ".join(cells) + " |"
    )
Markdown(
    "**Measured here.** In each cell: the band's share of the latent's energy, then the PSNR lost when it is removed / when its phases "
    f"are random, in dB. Bands in cycles per latent pixel; {min(2, n_images)} crops.\n\n| band | "
    + " | ".join(labels)
    + " |\n|---|"
    + "---|" * len(labels)
    + "\n"
    + "\n".join(rows)
)

# %% tags=["hide-input"]
top = {
    n: d.psnr_whole - d.psnr_without[2:].min().item() for n, d in dependence.items()
}
phases = [d.psnr_without[b] > d.psnr_noised[b] for d in dependence.values() for b in range(len(labels))]  # fmt: skip
Markdown(
    f"Every decoder loses most with the lowest band. Above 0.25 cycles per latent pixel a single band "
    f"still costs up to {max(top.values()):.1f} dB. Random phases are worse than absence in {sum(phases)} of {len(phases)} cells: as "
    "expected where decoding is nearly linear, since the error's energy then doubles."
    if all(d.psnr_without.argmin() == 0 for d in dependence.values())
    else f"Not every decoder loses most with the lowest band. Above 0.25 cycles per latent pixel a single band costs up to "
    f"{max(top.values()):.1f} dB. Random phases are worse than absence in {sum(phases)} of {len(phases)} cells."
)

# %% [markdown]
# So the first finding holds here in its plain form: high latent frequencies are needed for detail. The word *semantics* is
# the paper's; PSNR says nothing about it, and the explorer only lets you judge for yourself.
#
# ## Finding 2: pictures live at low frequencies
#
# How much of a photograph lies within a radius? The mean of each channel is left out, as it says nothing about structure.

# %%
edges = (0, 0.01, 0.02, 0.03125, 0.0625, 0.1, 0.125, 0.2, 0.3, 0.4, 0.5, EVERYTHING)
at_256 = data.stack(data.Photos(256, "test", seed=seed), range(2 * n_images))
shares = perturbation.rgb_energy_by_band(at_256, edges)
cumulative = dict(zip(edges[1:], shares.cumsum(0).tolist(), strict=True))
area = {
    r: spectrum.radial_mask(256, 256, r).double().mean().item() for r in edges[1:]
}

# %% tags=["hide-input"]
energy = go.Figure()
for i, (label, values) in enumerate(
    {"energy of photographs": cumulative, "share of the frequencies": area}.items()
):
    energy.add_scatter(
        x=list(values),
        y=[round(100 * v, 2) for v in values.values()],
        name=label,
        mode="lines+markers",
        line={"color": figures.PALETTE[i], "dash": figures.DASHES[i]},
    )
for r, label in ((0.5 / 16, "Nyquist of f16"), (0.5 / 8, "of f8"), (0.5 / 4, "of f4"), (0.2, "r₀ = 0.2")):  # fmt: skip
    energy.add_vline(x=r, line={"color": figures.GREY, "dash": "dot", "width": 1})
    energy.add_annotation(x=math.log10(r), y=4, text=label, textangle=-90, showarrow=False, xshift=-8, yanchor="bottom")  # fmt: skip
energy.update_xaxes(
    title="radius, cycles per pixel of the picture",
    type="log",
    tickvals=[0.01, 0.02, 0.05, 0.1, 0.2, 0.5],
)
energy.update_yaxes(title="% within the radius", range=[0, 103])
energy.update_layout(height=360)
figures.described(
    energy,
    "Cumulative energy of photographs against the radius in cycles per pixel: most of it lies within a "
    "small radius, while the share of frequencies within a radius grows only with its square.",
)

# %% tags=["hide-input"]
run.metrics |= {f"rgb_energy_within_{r:.4g}": v for r, v in cumulative.items()}
Markdown(
    f"**Measured here.** Of the energy of {len(at_256)} crops of 256², {cumulative[0.0625]:.1%} lies within 0.0625 cycles per "
    f"pixel, {cumulative[0.2]:.1%} within 0.2, which is {area[0.0625]:.1%} and {area[0.2]:.1%} of the frequencies. Opposite "
    "borders of a crop do not match, which adds a little energy at high frequencies, so the true shares are somewhat higher."
)

# %% [markdown]
# That is the paper's second finding, and the power law of {numref}`chap-dct` under another name. Note where FreqWarm's
# threshold lies, $r_0 = 0.2$ cycles per pixel of the *picture*: at f8 it is more than three times the latent's Nyquist
# frequency, at the f32 of the paper's models almost thirteen times.
#
# ## Finding 3: does the latent fade when the picture sharpens?
#
# The third finding carries the method: adding high frequencies to the picture *beyond a point* is said to **lower** the
# amplitude of the latent's high frequencies. So low-pass the picture at a growing $r$, encode, and measure how strong each
# band of the latent is. Amplitude here means
#
# $$
# A_b = \operatorname*{mean}_{n,\,c,\,\rho\in b}\;\bigl\lvert F(z_{n,c})(\rho)\bigr\rvert,
# \qquad F \text{ orthonormal},
# $$ (eq-band-amplitude)
#
# the mean absolute coefficient over images $n$, channels $c$ and the frequencies of the band $b$, the zero frequency
# left out. What is drawn is $A_b$ of low-passed pictures over $A_b$ of the same pictures as they are, so that models with
# different units compare. If the finding holds, the curve of a high band rises **above** 100% somewhere and comes down again. (The bands end
# at 0.5: the corners of the latent's spectrum beyond are left out, so that each band has one and the same counterpart in
# every direction.)

# %%
cutoffs = (
    0.015,
    0.03,
    0.0625,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    math.inf,
)  # of the picture
response_bands = (0, 0.125, 0.25, 0.5)  # of the latent
relative = {}  # name: (seeds, cutoffs, bands)
for name, model in opened.items():
    found = [
        perturbation.latent_amplitude_by_cutoff(
            model, crops(model, draw), cutoffs, response_bands
        ).amplitude
        for draw in range(n_seeds)
    ]
    relative[name] = torch.stack([a / a[-1] for a in found])

# %% tags=["hide-input"]
titles = [f"latent band {a:g} to {b:g}" for a, b in pairwise(response_bands)]  # fmt: skip
fading = make_subplots(
    1, 3, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03
)
places = [f"{r:g}" if r < math.inf else "all" for r in cutoffs]
for i, (name, values) in enumerate(relative.items()):
    color, dash = figures.PALETTE[i % 7], figures.DASHES[i % 5]
    for band in range(3):
        fading.add_scatter(
            x=places,
            y=[round(100 * v, 1) for v in values[:, :, band].mean(0).tolist()],
            name=name,
            legendgroup=name,
            showlegend=band == 0,
            mode="lines",
            line={"color": color, "dash": dash},
            row=1,
            col=band + 1,
        )
        fading.add_scatter(
            x=places * len(values),
            y=[round(100 * v, 1) for v in values[:, :, band].flatten().tolist()],
            legendgroup=name,
            showlegend=False,
            mode="markers",
            marker={"color": color, "size": 5, "opacity": 0.6},
            hovertemplate="r = %{x}: %{y}%<extra>" + name + "</extra>",
            row=1,
            col=band + 1,
        )
fading.update_xaxes(
    type="category",
    tickangle=-45,
)
fading.update_xaxes(
    title={"text": "r, cycles per pixel of the picture", "standoff": 14},
    row=1,
    col=2,  # one title for the three panels, which are too narrow for one each
)
fading.update_yaxes(title="% of unfiltered", row=1, col=1)
fading.update_layout(
    height=480, margin={"t": 110, "b": 96}, legend={"y": 1.1, "yanchor": "bottom"}
)
figures.described(
    fading,
    "Amplitude of three bands of the latent, relative to that of unfiltered pictures, against the radius at which "
    "the pictures are low-passed, for all shipped autoencoders. One panel for each band; "
    "the table below gives the highest values and where they lie.",
)

# %% tags=["hide-input"]
rows, falls = [], {band: [] for band in range(3)}
for name, values in relative.items():
    cells = []
    for band in range(3):
        highest = 100 * values[:, :-1, band].amax(1)  # by seed, over the cutoffs
        where = places[values[:, :-1, band].mean(0).argmax()]
        spread = summaries.plus_minus(highest.tolist(), ".1f")
        cells.append(f"{spread} (r = {where})")
        at_02 = 100 * values[:, cutoffs.index(0.2), band]
        run.metrics[f"{name}: highest_relative_amplitude_band_{band}"] = (
            highest.mean().item() / 100
        )
        run.metrics[f"{name}: relative_amplitude_at_0.2_band_{band}"] = (
            at_02.mean().item() / 100
        )
        if highest.min() > 101:
            falls[band].append(name)
    at_02 = summaries.plus_minus(
        (100 * values[:, cutoffs.index(0.2), 2]).tolist(), ".1f"
    )
    rows.append(f"| {name} | " + " | ".join(cells) + f" | {at_02} |")
    for band in range(3):
        run.series[f"{name}: relative_amplitude_band_{band}"] = (
            values[:, :, band].mean(0).tolist()
        )


def those(names):
    return f"{len(names)} of {len(opened)} models" + (
        f" ({', '.join(names)})" if names else ""
    )


Markdown(
    f"**Measured here** ({n_seeds} seeds of {n_images} crops, mean ± standard deviation over the seeds; {records.describe_device()}). "
    "Highest amplitude at any cutoff, in % of unfiltered, and the cutoff; last column: the high band at r = 0.2.\n\n"
    "| | low band | middle band | high band | high band, r = 0.2 |\n|---|---|---|---|---|\n"
    + "\n".join(rows)
    + f"\n\nAn amplitude that falls by more than 1% from its highest value to the unfiltered one, in every seed: the high band in "
    f"{those(falls[2])}, the middle band in {those(falls[1])}, the low band in {those(falls[0])}."
)

# %% tags=["hide-input"]
Markdown(
    (
        "**So Finding 3 does not hold for high latent frequencies in these models.** "
        if not falls[2]
        else f"**Finding 3 holds for the high latent frequencies of {those(falls[2])}.** "
    )
    + "What the finding describes is a latent band that is strongest at a finite cutoff. "
    + (
        f"In the lowest band there is such a fall, in {len(falls[0])} of {len(opened)} models: its highest amplitude is up to "
        f"{max(relative[n][:, :-1, 0].amax(1).mean().item() for n in falls[0]) - 1:.0%} above the unfiltered one, so detail in the "
        "picture takes something from the *coarse* structure of the latent. "
        if falls[0]
        else "There is none in the lowest band either. "
    )
    + "Our autoencoders differ from the paper's in almost everything: 0.34 to 0.51 million parameters, five training photographs, no "
    "perceptual or adversarial loss, f4 to f16 instead of f16 and f32. They neither confirm nor refute what was seen on DC-AE, LTX "
    "and Wan."
    + (
        " They do show that it is no law of all autoencoders."
        if len(falls[2]) < len(opened)
        else ""
    )
)

# %% [markdown]
# The authors suspect aliasing as the cause. It is a **hypothesis**, and they say so. To see what would follow from it, one
# must know where each frequency of the picture goes.
#
# ## From band to band
#
# Remove one band of the picture and see how much each band of the latent changes,
# $\lVert F(z') - F(z)\rVert / \lVert F(z)\rVert$ over the frequencies of the band. An encoder that keeps frequencies in place
# has its large entries at $\rho = f\nu$ and nothing below the line where $\nu$ passes the latent's Nyquist frequency.

# %%
matrices = {}
for name, model in shown.items():
    f = model.compression
    rgb_bands = (*(r / f for r in bands[:-1]), 1 / f, 2 / f, EVERYTHING)
    matrices[name] = perturbation.encoder_perturbation(
        model, crops(model), rgb_bands, bands
    )

# %% tags=["hide-input"]
heat = make_subplots(1, len(shown), subplot_titles=list(shown), horizontal_spacing=0.06, shared_yaxes=True)  # fmt: skip
ends = (*bands[:-1], 1, 2)
rgb_labels = [f"{a:g}–{b:g}" for a, b in pairwise(ends)] + ["beyond 2"]
for column, values in enumerate(matrices.values(), start=1):
    heat.add_heatmap(
        z=values.numpy().round(3),
        x=labels,
        y=rgb_labels,
        zmin=0,
        zmax=1,
        colorscale="Viridis",
        texttemplate="%{z:.2f}",
        showscale=column == len(matrices),
        colorbar={"thickness": 12},
        hovertemplate="f·ν %{y}, ρ %{x}: %{z}<extra></extra>",
        row=1,
        col=column,
    )
    heat.add_hline(
        y=3.5,
        line={"color": "white", "dash": "dash", "width": 2},
        row=1,
        col=column,
    )
heat.update_xaxes(
    title={"text": "latent band ρ, per latent pixel", "standoff": 12},
    tickangle=-45,
    showgrid=False,
)
heat.update_yaxes(autorange="reversed", showgrid=False, type="category")
heat.update_yaxes(
    title={"text": "picture band removed, f·ν", "standoff": 8}, row=1, col=1
)
heat.update_layout(height=440, margin={"l": 124, "b": 104})
figures.described(
    heat,
    "Heat maps of how much each band of the latent changes when a band of the picture is removed. Above the "
    "dashed line, picture frequencies have a place in the latent; the rows below it lie beyond the latent's "
    "Nyquist frequency. The text below gives the largest entries there.",
)

# %% tags=["hide-input"]
beyond = {name: values[4, :4].max().item() for name, values in matrices.items()}
far = {name: values[5:].max().item() for name, values in matrices.items()}
for name in matrices:
    run.metrics[f"{name}: largest_change_by_first_octave_beyond_nyquist"] = beyond[
        name
    ]
    run.metrics[f"{name}: largest_change_by_frequencies_beyond_1_over_f"] = far[
        name
    ]
Markdown(
    "**Measured here.** Rows are in $f\\nu$, so that the dashed line is the latent's Nyquist frequency. The octave beyond it has a place of "
    "its own only in the corners, the last column; it still changes some other band by "
    + ", ".join(f"{v:.0%} ({n})" for n, v in beyond.items())
    + "; all that lies beyond $1/f$ by at most "
    + ", ".join(f"{v:.0%} ({n})" for n, v in far.items())
    + "."
)

# %% [markdown]
# Something arrives that should have no place. The next section finds out where it comes from.
#
# ## Aliasing
#
# Keep every $s$-th sample of a wave with $\nu$ cycles per pixel. From one sample to the next it now runs through $s\nu$
# cycles, and whole cycles between two samples cannot be seen. So the wave looks like one of
#
# $$
# \rho = \bigl\lvert s\nu - \operatorname{round}(s\nu) \bigr\rvert \in \bigl[0, \tfrac12\bigr]
# $$ (eq-folding)
#
# cycles per sample: up to the Nyquist frequency $\nu = 1/(2s)$ it stays in place, {eq}`eq-two-units`, beyond it **folds**.
# At $\nu = 1/s$ it arrives at zero and becomes a constant whose brightness depends on its phase.
#
# Plain sampling folds everything. An encoder is a stack of convolutions, some of them with stride, and what it folds
# depends on its weights. The cure is known from signal processing: low-pass *before* sampling, with nothing left to fold.

# %%
stride = 8
axis = [k / 400 for k in range(201)]
fold = go.Figure()
fold.add_scatter(
    x=axis,
    y=[aliasing.folded_frequency(v, stride) for v in axis],
    mode="lines",
    line={"color": figures.BLUE},
    name="arrives at",
)
fold.add_vline(x=0.5 / stride, line={"color": figures.GREY, "dash": "dot"})
fold.add_annotation(x=0.5 / stride, y=0.53, text="latent's Nyquist frequency", showarrow=False, xanchor="left", xshift=4)  # fmt: skip
fold.update_xaxes(title="ν, cycles per pixel of the picture")
fold.update_yaxes(title="ρ, cycles per sample", range=[0, 0.57])
fold.update_layout(height=280)
figures.described(
    fold,
    "Where a wave arrives after sampling every eighth pixel: a sawtooth of triangles that rises to one half at "
    "0.0625 cycles per pixel, falls back to zero at 0.125, and so on.",
)

# %%
nu = 9 / 64  # just beyond 1/8
wave = aliasing.grating(64, 64, 0, nu).float()
seen = wave[::stride, ::stride]  # (8, 8)
held = seen.repeat_interleave(stride, 0).repeat_interleave(stride, 1)
slow = aliasing.grating(64, 64, 0, aliasing.folded_frequency(nu, stride) / stride)
figures.images(
    [wave[None], held[None], slow.float()[None]],
    [
        f"grating, ν = {nu:.4g}",
        "every 8th pixel, held",
        f"looks like ρ = {aliasing.folded_frequency(nu, stride):.3g}",
    ],
    alt="A fine vertical grating; what is left of it when every eighth pixel is kept, a single slow wave in steps; and the "
    "slow wave that has the same samples.",
)

# %% [markdown]
# ### Folding alone is no loss
#
# One sampled picture cannot tell a wave from its alias. But a latent has many channels. Take `pixel_unshuffle`: it turns
# each square of $f\times f$ pixels into $3f^2$ channels. Every channel is the picture sampled at every $f$-th pixel, with
# everything beyond the Nyquist frequency folded, and the picture can be put together again without any error: the
# channels sample at different places, so the *differences* between them say which of the aliases it was. As long as
# $C \ge 3f^2$, folding need not lose anything. For this reason **the folded share is always shown beside the error of the
# reconstruction**.
#
# ### Transfer curves
#
# Now gratings of known frequency, added to held-out photographs: the response is $\mathrm{Enc}(x + g) - \mathrm{Enc}(x)$,
# and {eq}`eq-folding` says where in its spectrum to look. For each frequency,
# {py:func}`~diffusab_core.metrics.aliasing.encoder_transfer` gives
#
# - the **gain**: mean square of the response at the predicted frequency over that of the grating, here relative to the
#   lowest frequency measured;
# - the **folded share**: the part of the response's energy that sits at the predicted place *and* came from beyond the
#   Nyquist frequency (the rest has gone to other frequencies: the encoder is not linear, and its latent has borders);
# - the **reconstruction error**: root mean square of $\mathrm{Dec}(\mathrm{Enc}(x+g)) - \mathrm{Dec}(\mathrm{Enc}(x)) - g$ over
#   that of $g$; 0 is perfect, 1 as bad as a decoder that leaves the grating out.
#
# Beside the shipped encoders stand three to compare with: the same encoder behind an ideal low-pass at the Nyquist
# frequency of its latent; the same encoder with its strided convolutions replaced by convolution, a fixed binomial blur and
# sampling {cite}`zhang2019making` (**not retrained**, so it meets inputs its later layers do not know); and
# `pixel_unshuffle`.

# %%
compared = dict(near)
last_f8 = next(name for name in reversed(near) if near[name].compression == 8)
compared[f"{last_f8}, low-passed"] = aliasing.low_passed(near[last_f8])
compared[f"{last_f8}, blur-pooled"] = aliasing.blur_pooled(near[last_f8])
compared["pixel_unshuffle, f8"] = aliasing.pixel_unshuffle(8)
in_nyquist = (0.25, 0.5, 0.9, 1.5, 2.5, 4.5)[:: 6 // min(n_gratings, 6)]
in_nyquist = tuple(sorted({0.25, *in_nyquist, 1.5}))[:n_gratings]
photographs = data.stack(
    data.Photos(128, "test", seed=seed), range(min(2, n_images))
)
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

# %% tags=["hide-input"]
titles = ["gain, relative", "folded share", "reconstruction error"]
curves = make_subplots(1, 3, subplot_titles=titles, horizontal_spacing=0.07)
for i, (name, t) in enumerate(transfers.items()):
    scale = 2 * compared[name].compression
    drawn = (t.gain / t.gain[0], t.folded_share, t.reconstruction_error)
    for column, values in enumerate(drawn, start=1):
        values = [
            round(v, 5) if math.isfinite(v) else None for v in values.tolist()
        ]
        if column == 1:
            values = [v if v and v > 1e-4 else None for v in values]
        curves.add_scatter(
            x=(scale * t.frequencies).tolist(),
            y=values,
            name=name,
            legendgroup=name,
            showlegend=column == 1,
            mode="lines+markers",
            marker={"symbol": i},
            line={"color": figures.PALETTE[i % 7], "dash": figures.DASHES[i % 5]},
            row=1,
            col=column,
        )
curves.update_xaxes(title="ν over the latent's Nyquist", type="log", tickvals=[0.25, 0.5, 1, 2, 4])  # fmt: skip
curves.update_yaxes(**figures.DECADES, row=1, col=1)
curves.add_vline(x=1, line={"color": figures.GREY, "dash": "dot"})
curves.update_layout(
    height=440, margin={"t": 120}, legend={"y": 1.12, "yanchor": "bottom"}
)
figures.described(
    curves,
    "Three panels against the frequency of gratings in units of the latent's Nyquist frequency: gain, folded share of "
    "the response, and reconstruction error. A dotted line "
    "marks the Nyquist frequency; the table below gives numbers.",
)

# %% tags=["hide-input"]
first = in_nyquist.index(
    1.5
)  # the frequency beyond the Nyquist frequency, 1.5 times
rows = []
for name, t in transfers.items():
    gain, share, error = ((t.gain / t.gain[0])[first], t.folded_share[first], t.reconstruction_error[first])  # fmt: skip
    said = f"{share:.0%}" if math.isfinite(share) else "no response"
    rows.append(
        f"| {name} | {t.reconstruction_error[0]:.2f} | {gain:.2f} | {said} | {error:.2f} | {t.reconstruction_error[-1]:.2f} |"
    )
    run.metrics[f"{name}: relative_gain_at_1.5_nyquist"] = gain.item()
    run.metrics[f"{name}: error_at_1.5_nyquist"] = error.item()
    if math.isfinite(share):
        run.metrics[f"{name}: folded_share_at_1.5_nyquist"] = share.item()
Markdown(
    f"**Measured here.** Gratings of amplitude 0.25 on {len(photographs)} held-out crops of 128², horizontal and vertical, two phases each. "
    f"Frequencies in units of the latent's Nyquist frequency.\n\n| | error at 0.25 | gain at 1.5 | folded share at 1.5 | error at 1.5 "
    f"| error at {in_nyquist[-1]:g} |\n|---|---|---|---|---|---|\n"
    + "\n".join(rows)
)

# %% tags=["hide-input"]
strided = transfers[last_f8]
blurred = transfers[f"{last_f8}, blur-pooled"]
share, error = (
    strided.folded_share[first].item(),
    strided.reconstruction_error[first].item(),
)
blurred_error = blurred.reconstruction_error[first].item()
Markdown(
    f"- **Shipped encoders fold.** At 1.5 times the Nyquist frequency {share:.0%} of `{last_f8}`'s response sits where {{eq}}`eq-folding` "
    f"puts it, and the gain is {(strided.gain / strided.gain[0])[first].item():.1f} times that of slow waves.\n"
    + (
        f"- **What folds is kept, in part.** The decoded grating has an error of {error:.2f}: a decoder that took the alias for a slow wave, "
        "or left it out, would have 1 or more. Other channels tell it which wave it was.\n"
        if error < 0.9
        else f"- **What folds is lost here.** The decoded grating has an error of {error:.2f}.\n"
    )
    + f"- **Anti-aliasing without training takes it away.** Nothing folds behind the low-pass, and the error is "
    f"{transfers[f'{last_f8}, low-passed'].reconstruction_error[first].item():.2f}; with blur pooling it is {blurred_error:.2f} "
    f"({blurred.folded_share[first].item():.0%} of the response folded). The next section trains one that way.\n"
    + f"- **Far beyond, the loss is real.** At {in_nyquist[-1]:g} times the Nyquist frequency `{last_f8}` has a relative gain of "
    f"{(strided.gain / strided.gain[0])[-1].item():.1g} and an error of {strided.reconstruction_error[-1].item():.2f}: those waves are "
    "gone before they could fold.\n"
    * (
        strided.reconstruction_error[-1].item() > 0.9
        and (strided.gain / strided.gain[0])[-1].item() < 0.1
    )
    + f"- **Folding and loss are two things.** `pixel_unshuffle` folds {transfers['pixel_unshuffle, f8'].folded_share[first].item():.0%} and "
    f"has an error of {transfers['pixel_unshuffle, f8'].reconstruction_error.max().item():.0e}."
)

# %% [markdown]
# ### An encoder that learnt without aliasing
#
# Blur pooling put into a finished network measures two things at once, the blur and weights that were not made for it. So
# two shipped recipes were trained again with blur pooling from the first step on, with the same initial weights, crops and
# noise as their strided twins (`scripts/record_antialiasing.py`, minutes a run). If folding were what makes an encoder lose
# fine detail, the blurred one would reconstruct better.

# %% tags=["hide-input"]
folder = Path(results) if results else summaries.RESULTS / "antialiasing"
trained = records.by_arm(folder)
PAIRS = {name: f"{name}-blurred" for name in ("kl-f8c4", "kl-f8c64")}
known = {
    name: arm
    for name, arm in PAIRS.items()
    if min(len(trained.get(name, ())), len(trained.get(arm, ()))) >= 3
}


def at(arm: str, series: str, place: float, where: str = "in_nyquist"):
    """One value of a series for each seed, at a frequency or cutoff."""
    return [r.series[series][r.series[where].index(place)] for r in trained[arm]]


SHOWN = {
    "PSNR, dB": (lambda arm: summaries.values(trained[arm], "psnr_db"), ".2f"),
    "error at 0.9": (lambda arm: at(arm, "reconstruction_error", 0.9), ".2f"),
    "gain at 1.5": (lambda arm: at(arm, "relative_gain", 1.5), ".2f"),
    "folded share at 1.5": (lambda arm: at(arm, "folded_share", 1.5), ".2f"),
    "error at 1.5": (lambda arm: at(arm, "reconstruction_error", 1.5), ".2f"),
    "latent's high-frequency energy ratio × 1000": (
        lambda arm: summaries.values(trained[arm], "hf_energy_ratio", 1e3),
        ".1f",
    ),
}


def folding_curves() -> go.Figure:
    """Folded share and error of strided and blurred encoders, with the spread over seeds."""
    folding = make_subplots(1, 2, subplot_titles=titles[1:], horizontal_spacing=0.08)  # fmt: skip
    for i, arm in enumerate(arm for pair in known.items() for arm in pair):
        for column, key in enumerate(("folded_share", "reconstruction_error"), 1):
            x = trained[arm][0].series["in_nyquist"]
            found = [summaries.mean_and_spread(at(arm, key, v)) for v in x]
            folding.add_scatter(
                x=x,
                y=[round(mean, 4) for mean, _ in found],
                error_y={"array": [round(spread, 4) for _, spread in found]},
                name=arm,
                legendgroup=arm,
                showlegend=column == 1,
                mode="lines+markers",
                marker={"symbol": i},
                line={
                    "color": figures.PALETTE[i // 2],
                    "dash": figures.DASHES[i % 2],
                },
                row=1,
                col=column,
            )
    folding.update_xaxes(title="ν over the latent's Nyquist", type="log", tickvals=[0.25, 0.5, 1, 2, 4])  # fmt: skip
    folding.add_vline(x=1, line={"color": figures.GREY, "dash": "dot"})
    folding.update_layout(height=420, margin={"t": 110}, legend={"y": 1.12, "yanchor": "bottom"})  # fmt: skip
    return figures.described(
        folding,
        "Folded share and reconstruction error against the frequency of gratings in units of the latent's Nyquist frequency, "
        "for strided and blurred encoders of two recipes, each trained with three seeds.",
    )


folding_curves() if known else None

# %% tags=["hide-input"]
rows = []
for name in (one for pair in known.items() for one in pair):
    cells = " | ".join(summaries.plus_minus(v(name), form) for v, form in SHOWN.values())  # fmt: skip
    rows.append(f"| {name} | {len(trained[name])} | {cells} |")
    for what, (value, _) in SHOWN.items():
        run.metrics[f"recorded, {name}: {what}"] = fmean(value(name))
measured = trained[next(iter(known))][0].parameters if known else {}
Markdown(
    (
        f"**Recorded**, mean ± standard deviation over seeds. Gratings on {measured['grated_crops']} held-out crops of 128², frequencies in "
        "units of the latent's Nyquist frequency, gain relative to the slowest waves; the other columns on "
        f"{measured['crops']} crops.\n\n| | runs | {' | '.join(SHOWN)} |\n|{'---|' * (len(SHOWN) + 2)}\n"
        + "\n".join(rows)
        if known
        else ""
    )
    + summaries.not_recorded(
        "scripts/record_antialiasing.py",
        [arm for pair in PAIRS.items() for arm in pair],
        [arm for pair in known.items() for arm in pair],
    )
)


# %% tags=["hide-input"]
def compared_by(what: str) -> str:
    """How every blurred run lies to every strided one, where all recipes agree."""
    value, _ = SHOWN[what]
    found = {summaries.ordering(value(a), value(b)) for a, b in known.items()}
    return found.pop() if len(found) == 1 else "mixed"


def from_to(what: str, blurred: bool) -> str:
    """Smallest and largest value over recipes and seeds."""
    value, form = SHOWN[what]
    found = [v for pair in known.items() for v in value(pair[blurred])]
    return f"{min(found):{form}} to {max(found):{form}}"


told = []
if known:
    beyond = tuple(compared_by(w) for w in ("gain at 1.5", "folded share at 1.5"))
    numbers = (
        f"relative gain {from_to('gain at 1.5', False)} strided, {from_to('gain at 1.5', True)} blurred; folded share "
        f"{from_to('folded share at 1.5', False)} and {from_to('folded share at 1.5', True)}"
    )
    told.append(
        f"**Training makes a strided encoder use its aliases.** At 1.5 times the Nyquist frequency it answers more strongly than to slow waves; "
        f"a blurred one hardly answers ({numbers})."
        if beyond == ("lower", "lower")
        and min(min(at(n, "relative_gain", 1.5)) for n in known) > 1
        else f"**Beyond the Nyquist frequency** the two do not differ alike in both recipes ({numbers})."
    )
    numbers = f"error {from_to('error at 1.5', False)} strided, {from_to('error at 1.5', True)} blurred"
    told.append(
        f"**What is not folded is lost.** The blurred encoders' gratings at 1.5 come back with a larger error, in every run ({numbers})."
        if compared_by("error at 1.5") == "higher"
        else f"**The error at 1.5** is not larger in every blurred run ({numbers})."
    )
    told.append(
        "**In PSNR** "
        + ", ".join(
            {
                "lower": f"every blurred run of `{name}`'s recipe lies below every strided one",
                "higher": f"every blurred run of `{name}`'s recipe lies above every strided one",
                "overlapping": f"the runs of `{name}`'s recipe overlap",
            }[
                summaries.ordering(
                    *(SHOWN["PSNR, dB"][0](one) for one in (name, arm))
                )
            ]
            for name, arm in known.items()
        )
        + ". Folding does not cost reconstruction here."
        * (compared_by("PSNR, dB") != "higher")
    )
    ENERGY = "latent's high-frequency energy ratio × 1000"
    ratios = [
        fmean(SHOWN[ENERGY][0](name)) / fmean(SHOWN[ENERGY][0](arm))
        for name, arm in known.items()
    ]
    numbers = f"{from_to(ENERGY, False)} strided, {from_to(ENERGY, True)} blurred"
    told.append(
        f"**A blurred encoder's latent has less high-frequency energy**, in every run: the ratio is smaller by a factor of "
        f"{' and '.join(f'{r:.1f}' for r in ratios)} in the mean ({numbers})."
        if compared_by(ENERGY) == "lower"
        else f"**The latent's high-frequency energy** is not smaller in every blurred run ({numbers})."
    )
Markdown("\n".join(f"- {line}" for line in told))

# %% [markdown]
# So anti-aliasing moves the spectrum the way the book's other remedies do: less energy at high latent frequencies, and a
# poorer picture of fine detail. Not all of it is folding: the binomial filter passes a quarter of the amplitude of a
# wave at the Nyquist frequency that it samples to, $\cos^4(\pi/4)$, and the trained weights may or may not make up for it. The next section
# measures how much of the high band comes from beyond the Nyquist frequency. Is such a latent easier to learn? The denoiser of the next chapter's records, DiT-XXS/1 with
# 600 steps of 32, was trained on the latents of both encoders with seed 0. Compare distances only beside *decoded latents*,
# where a perfect denoiser would end: the autoencoders decode differently well.

# %% tags=["hide-input"]
strided_runs = records.by_arm(summaries.RESULTS / "freqwarm")
DENOISED = {"kl-f8c4": "c4", "kl-f8c64": "c64"}
both = {
    name: {"strided": strided_runs[arm], "blurred": trained[f"{name}-blurred-denoised"]}
    for name, arm in DENOISED.items()
    if min(len(strided_runs.get(arm, ())), len(trained.get(f"{name}-blurred-denoised", ()))) >= 3
}  # fmt: skip
tables, verdicts, trades = [], [], []
for name, pair in both.items():
    tables.append(f"**{name}**\n\n" + summaries.compare_in_text(pair, "strided"))
    above = {
        how: [
            r.metrics["frechet_offline"] - r.metrics["decoded_latents_frechet"]
            for r in runs
        ]
        for how, runs in pair.items()
    }
    distances = [summaries.values(r, "frechet_offline") for r in pair.values()]
    floors = [summaries.values(r, "decoded_latents_frechet") for r in pair.values()]
    trades.append(
        summaries.ordering(above["strided"], above["blurred"]) == "lower"
        and summaries.ordering(*floors) == "higher"
        and summaries.ordering(*distances) != "lower"
    )
    verdicts.append(
        f"- `{name}`, blurred against strided: distance **{summaries.ordering(*distances)}**; what it exceeds that of decoded latents by "
        f"**{summaries.ordering(above['strided'], above['blurred'])}** ({summaries.plus_minus(above['blurred'])} blurred, "
        f"{summaries.plus_minus(above['strided'])} strided)."
    )
Markdown(
    (
        "**Recorded** (mean ± standard deviation over three seeds of the denoiser; *lower* and *higher* mean every run, otherwise *overlapping*):\n\n"
        + "\n\n".join(tables)
        + "\n\n"
        + "\n".join(verdicts)
        + (
            "\n\n**Easier latents, worse decoder**: on blurred latents the denoiser ends nearer to what its decoder "
            "allows, and the decoder allows less. The samples are not better for it. (A difference of two Fréchet distances is no distance; "
            "it says where a run stands between two yardsticks.)"
            if all(trades)
            else ""
        )
        if both
        else ""
    )
    + summaries.not_recorded(
        "scripts/record_antialiasing.py",
        [f"{name}-blurred-denoised" for name in DENOISED],
        [f"{name}-blurred-denoised" for name in both],
    )
)

# %% [markdown]
# ## Does aliasing explain Finding 3?
#
# If folded waves *interfered destructively* with what the high latent frequencies hold, low-passing the picture at the
# latent's Nyquist frequency would raise their amplitude. The cutoffs above include such a value for f8, 0.0625, and there
# the amplitude of the high band can be read off. In a linear encoder with random phases the folded waves *add* energy,
# because energies of independent signals add; amplitude can fall only where phases agree or where the encoder is not
# linear, for instance through its normalisation layers, which divide by the energy of everything that arrives.

# %% tags=["hide-input"]
column = cutoffs.index(0.0625)
at_nyquist = {
    name: 100 * relative[name][:, column, 2]
    for name, model in opened.items()
    if model.compression == 8
}
for name, values in at_nyquist.items():
    run.metrics[f"{name}: high_band_when_low_passed_at_nyquist"] = (
        values.mean().item() / 100
    )
below = all(values.max() < 100 for values in at_nyquist.values())
within = {  # low band of f16 models at two cutoffs that let nothing fold, (seeds, 2)
    name: 100 * relative[name][:, :2, 0]
    for name in falls[0]
    if opened[name].compression == 16
}
early = {n: v for n, v in within.items() if (v[:, 0] > v[:, 1]).all()}
Markdown(
    "**Measured here.** Low-passed at the latent's Nyquist frequency, the high band (ρ from 0.25 to 0.5) of the f8 models has "
    + ", ".join(
        f"{summaries.plus_minus(v.tolist(), '.0f')}% ({n})"
        for n, v in at_nyquist.items()
    )
    + " of its amplitude. "
    + (
        "What lies beyond the Nyquist frequency can reach this band only by folding or through nonlinear layers, and in these models it "
        "**adds** amplitude there. That is the opposite of what the hypothesis needs. "
        if below
        else "Here it is not lower in every model and seed, so the direction is not settled. "
    )
    + (
        "The low band of the f16 models, on the other hand, does fall, and the fall begins early. Low-passed at 0.015 / 0.03 cycles per "
        "pixel, both within the Nyquist frequency 0.031, it has "
        + ", ".join(
            f"{v[:, 0].mean().item():.0f}% / {v[:, 1].mean().item():.0f}% ({n})"
            for n, v in early.items()
        )
        + " of its unfiltered amplitude. Waves that cannot fold already take from it, so aliasing is not the cause, or not the only one. "
        "Layers that normalise by the energy of all that arrives would do this without any folding; that was not tested here."
        if early
        else ""
    )
    + (
        "\n\nThe trained pairs say how much: low-passed at the Nyquist frequency, the high band keeps "
        + " and ".join(
            f"{min(kept):.0%} to {max(kept):.0%} of its amplitude ({how})"
            for how, kept in (
                (
                    how,
                    [
                        v
                        for pair in known.items()
                        for v in at(pair[i], "amplitude_0.25_0.5", 0.0625, "cutoff")
                    ],
                )
                for i, how in enumerate(("strided", "blurred"))
            )
        )
        + "."
        if known
        else ""
    )
)

# %% [markdown]
# ## What this leaves open
#
# - **The paper's models.** Nothing that has to be fetched from a model hub is run here. `diffusab report MODEL --images DIR`
#   makes the measurements of this chapter on any autoencoder of `diffusers`, among them DC-AE, LTX and Wan.
# - **Semantics.** Finding 1's word. PSNR and energies cannot see it.
# - **Anti-aliasing at other sizes.** Two recipes of 0.4 million parameters, minutes of training, one blur, in the encoder
#   only, and denoisers on one seed of each. A decoder has aliases of its own, which were not measured.
# - **Weak waves.** Gratings of amplitude 0.25 are far stronger than what photographs have at high
#   frequencies, and the response of a nonlinear encoder depends on the amplitude.
#
# ## Exercises
#
# ```{exercise} Four waves, one place
# :label: ex-four-waves
#
# Which four lowest frequencies of a picture, along one axis, arrive at a quarter of a cycle per latent pixel at f8? Which
# of them can a photograph have most of, and why does that matter less than one might fear?
# ```
#
# ````{solution} ex-four-waves
# :class: dropdown
#
# ```python
# print([v for v in [k / 3200 for k in range(1601)] if abs(aliasing.folded_frequency(v, 8) - 0.25) < 1e-9][:4])
# ```
#
# $\nu = (k \pm \tfrac14)/8$: 0.03125, 0.09375, 0.15625 and 0.21875 cycles per pixel. The energy of photographs falls about
# as $1/\nu^2$ per frequency, so the second has about a ninth of the first, the third a twenty-fifth: the alias is a
# minority of what is there.
# ````
#
# ```{exercise} A wave that becomes a brightness
# :label: ex-brightness
#
# Encode gratings with $\nu = 1/8$ at f8 with plain sampling, for several phases. What is the latent? What does
# `encoder_transfer` say of `pixel_unshuffle` at this frequency?
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
# A constant, $\cos\varphi$: the wave has become a brightness that depends on where it stands. Unshuffled, every channel is
# such a constant, another one for each place within the square, and all the energy is at the zero frequency of the latent
# (a folded share of 1), without any error.
# ````
#
# ```{exercise} Soft masks
# :label: ex-soft-masks
#
# Repeat Finding 3 for one model with the Gaussian mask. Which differences do you expect at small $r$, and why?
# ```
#
# ````{solution} ex-soft-masks
# :class: dropdown
#
# ```python
# name, model = list(near.items())[-1]
# for kind in spectrum.MASKS:
#     a = perturbation.latent_amplitude_by_cutoff(model, crops(model), cutoffs, response_bands, kind).amplitude
#     print(kind, (100 * a / a[-1]).round().T)
# ```
#
# At the same $r$ a soft mask weakens frequencies below $r$ and lets some through above it, so the curves rise more slowly
# and do not jump where $r$ passes a band's frequencies. The ideal mask rings at sharp edges: the
# frequencies just below $r$ are kept in full, which a blurred scene would not show. A fall that appears with one mask only would be an artefact of it.
# ````
#
# ```{exercise} Finding 3 where it can be computed
# :label: ex-linear-finding
#
# For `pixel_unshuffle`, show that the energy of every latent band can only grow with the cutoff of the pictures. Then
# measure it.
# ```
#
# ````{solution} ex-linear-finding
# :class: dropdown
#
# The map is linear and keeps energies: a channel's coefficient at $\rho$ is the sum of the picture's coefficients at all
# frequencies that fold there, each with a phase that depends on the channel. Summed over the $f^2$ channels the cross
# terms cancel *exactly*, since the phases run through whole turns, so a latent band has the energy of all picture
# bands that fold into it, and a cutoff only removes terms.
#
# ```python
# model = aliasing.pixel_unshuffle(8)
# a = perturbation.latent_amplitude_by_cutoff(model, crops(near[last_f8]), cutoffs, response_bands).amplitude
# print((100 * a / a[-1]).round(decimals=1).T)
# ```
#
# The amplitudes printed are means of absolute values, which need not follow the energies in every digit.
# ````
#
# ```{exercise} What a strong dependence is
# :label: ex-dependence
#
# A decoder loses 2 dB with a band that has 3% of the latent's energy. Is that much? Compare with an orthonormal linear
# decoder that reconstructs at 23 dB pictures whose variance is 0.05 on the scale of PSNR.
# ```
#
# ````{solution} ex-dependence
# :class: dropdown
#
# For an orthonormal decoder the error grows by the energy removed: from $10^{-2.3} = 0.005$ by $0.03\cdot 0.05 = 0.0015$ to
# 0.0065, which is 1.1 dB. So 2 dB would be about twice the added error that the energy suggests.
#
# ```python
# before, share, variance = 10**-2.3, 0.03, 0.05
# print(10 * math.log10((before + share * variance) / before))
# ```
#
# Neither number says that a diffusion model must get this band right: that depends on how the samples are judged.
# ````
#
# ## Check yourself

# %% tags=["checkpoint"]
split = spectrum.radial_split(at_256.double(), 0.2)
print(
    "low + high = picture:             ",
    torch.allclose(sum(split), at_256.double()),
)
together = sum(part.square().sum() for part in split)
print(
    "energies add up:                  ",
    torch.allclose(together, at_256.double().square().sum()),
)
print(
    "masks at their radius:            ",
    [round(row[80].item(), 3) for row in line.values()],
)
print("folded at stride 8:               ", [aliasing.folded_frequency(v, 8) for v in (0.03125, 0.09375, 0.125)])  # fmt: skip
print(
    "energy of photographs within 0.2: ",
    "above 90%" if cumulative[0.2] > 0.9 else "90% or less",
)
unshuffled = transfers["pixel_unshuffle, f8"]
print(
    "unshuffling folds:                ",
    round(unshuffled.folded_share[first].item(), 4),
)
print(
    "and reconstructs without error:   ",
    unshuffled.reconstruction_error.max().item() < 1e-5,
)
removed = transfers[f"{last_f8}, low-passed"]
print("low-passed, gain beyond Nyquist:  ", round(removed.gain[first].item(), 6))
print(
    "low-passed, error there:          ",
    round(removed.reconstruction_error[first].item(), 2),
)
print("every decoder needs ρ > 0.25:     ", all(v > 0 for v in losses.values()))

# %% tags=["hide-input"]
record = run.finish()
if record_path:
    record.write(record_path)
Markdown(
    f"Run `{record.identity}`: size `{record.size}`, seed {record.seed}, {record.device}, torch {record.versions['torch']}, "
    f"{record.wall_time_s:.0f} s."
)
