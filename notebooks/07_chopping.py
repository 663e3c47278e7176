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
# (chap-chopping)=
# # Chopping and penalising
#
# Scale equivariance, the method of {ref}`chap-se`, is a blunt tool. It knows two scales, and what it removes from a
# latent is whatever a downsampling happens to remove. The appendix of {cite:t}`skorokhodov2025improving` has two
# finer ones. **CHF** (chopping high frequencies) cuts chosen DCT coefficients from the latent and from the picture
# and asks the decoder to turn one into the other. The **soft penalty** does not involve the decoder at all: it makes
# every high-frequency coefficient of the latent cost something.
#
# The two look alike and are not. This chapter takes both apart, from their gradients to what they did to the same
# autoencoder in recorded arms of three runs each.
#
# ```{measured-runtime}
# ```
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
# - separate a change of a latent's scale from a change of its spectrum, in records of training runs;
# - test whether a decoder has learnt to do without the frequencies that were cut.
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
models: list[str] = [
    "kl-f4c16",
    "kl-f4c16-ft",
    "kl-f4c16-se",
    "kl-f4c16-chf",
]  # before fine-tuning, then plain, SE and CHF: shipped names or folders
live_steps: int = 32
live_batch: int = 8
live_soft: float = 0.1  # γ of the live run with the soft penalty
n_probe: int = 16
n_images: int = 16
block_size: int = 8
record_path: str = ""  # where the run record goes; nowhere when empty

# %% tags=["hide-input"]
import copy
import math

import plotly.graph_objects as go
import torch
from IPython.display import Markdown
from plotly.subplots import make_subplots

from diffusab_core import autoencoders, data, experiments, metrics, spectrum
from diffusab_book import figures, results as summaries
from diffusab_book.explorers import finetuned as explore_finetuned
from diffusab_core.experiments import records
from diffusab_core.methods import finetuning, regularizers

run = records.start(
    "07_chopping",
    parameters={
        "models": models,
        "live_steps": live_steps,
        "live_batch": live_batch,
        "live_soft": live_soft,
        "n_probe": n_probe,
        "n_images": n_images,
        "block_size": block_size,
    },
    seed=seed,
    size=size,
    data=f"{live_steps} steps of {live_batch} training crops of 64²; measured on crops "
    "of the held-out photographs (coffee, china)",
)
B = block_size
tuned = dict(
    zip(
        ("untouched", "plain", "SE", "CHF"),
        [autoencoders.load(name) for name in models],
        strict=True,
    )
)
crops = data.Photos(resolution=64, split="test", seed=seed)
x = data.stack(crops, range(n_images))  # (n, 3, 64, 64), never trained on
with torch.no_grad():
    z = tuned["untouched"].encode(x).mean  # (n, 16, 16, 16)
    y = tuned["untouched"].decode(z)

# %% [markdown]
# ## Chopping
#
# Let $\mathcal D$ be the DCT of blocks of $B\times B$ latent positions, $\mathbf M$ the mask {eq}`eq-mask` that keeps
# the low frequencies of a block, and $P = \mathcal D^{-1}\mathbf M\,\mathcal D$ the cut itself. Since the transform
# is orthonormal, $P$ is an orthogonal projection: $P^2 = P = P^\top$. Let $P'$ be the same cut in the picture, with
# blocks of $fB\times fB$ pixels, $f$ the compression. Then CHF trains encoder and decoder on
#
# $$
# \mathcal L_{\text{CHF}} = d\bigl(x, \mathrm{Dec}(z)\bigr) + d\bigl(P'x,\ \mathrm{Dec}(P z)\bigr)
# $$ (eq-chop-loss)
#
# (Eqs. 4 and 5; the paper adds what regularization there is besides, and gives the second term the weight one). With
# nothing cut, $P = P' = 1$ and the second term *is* the first. Put beside scale equivariance, the low-pass filter is
# another one, sharp and bound to blocks, and picture and latent keep their size.
#
# Which coefficients a mask keeps depends on the order. By zigzag the ratio counts coefficients, by axes it counts
# rows and columns, so that one and the same ratio is two different cuts:

# %% tags=["hide-input"]
ratios = (0.1, 0.3, 0.5, 0.7, 0.9)
kept = {
    order: [spectrum.kept_share(r, B, order) for r in ratios]
    for order in spectrum.ORDERS
}
Markdown(
    f"Coefficients kept of {B * B}, by ratio:\n\n"
    + "| order | "
    + " | ".join(f"{r:.0%} cut" for r in ratios)
    + " |\n"
    + "|---" * (len(ratios) + 1)
    + "|\n"
    + "\n".join(
        f"| {name} | "
        + " | ".join(f"{B * B * s:.0f} ({s:.0%})" for s in kept[order])
        + " |"
        for order, name in (("zigzag", "zigzag"), ("axes", "by axes"))
    )
)

# %% [markdown]
# ### A ratio drawn anew in every step
#
# Where the text of the paper has fixed percentages, the authors' code draws the ratio uniformly from $(0, R)$ in
# every step. The coefficient of rank $k$ is then kept with probability
#
# $$
# \Pr(k\text{ is kept}) = \min\Bigl(1,\ \frac{1 - k/B^2}{R}\Bigr)
# $$ (eq-kept-probability)
#
# (up to rounding to whole coefficients). This is no longer one task but an order of importance: whatever rank $k$ holds,
# the decoder must be able to do without everything above (for ranks from $(1-R)B^2\approx 19$ on; those below are never
# cut). The construction is known for the units of a network as *nested dropout* (Rippel, Gelbart and Adams, ICML 2014);
# for a linear autoencoder it sorts the units as principal components are sorted. Here it sorts frequencies.


# %% tags=["hide-input"]
def block_maps(maps: dict[str, torch.Tensor], top: float, bar: str, alt: str):
    """Values over the B × B coefficients of a block side by side, u downwards."""
    fig = make_subplots(
        1, len(maps), subplot_titles=list(maps), horizontal_spacing=0.07
    )
    for column, values in enumerate(maps.values(), start=1):
        fig.add_trace(
            go.Heatmap(
                z=values.double().numpy().round(3),
                zmin=0,
                zmax=top,
                colorscale="Cividis",
                showscale=column == 1,
                colorbar={"title": bar, "thickness": 12},
                hovertemplate="u = %{y}, v = %{x}: %{z:.2f}<extra></extra>",
            ),
            1,
            column,
        )
    ticks = {"showgrid": False, "zeroline": False, "constrain": "domain"}
    fig.update_xaxes(title="v", dtick=1, **ticks)
    for column in range(1, len(maps) + 1):
        anchor = "x" if column == 1 else f"x{column}"
        fig.update_yaxes(scaleanchor=anchor, row=1, col=column)
    fig.update_yaxes(autorange="reversed", dtick=1, **ticks)
    fig.update_yaxes(title="u", col=1)
    fig.update_layout(height=300, margin={"t": 40})
    fig.update_annotations(font_size=13)
    return figures.described(fig, alt)


largest = 0.7
drawn = torch.stack(
    [
        spectrum.frequency_mask(B, largest * (i + 0.5) / 1000).double()
        for i in range(1000)
    ]
).mean(0)
block_maps(
    {
        "zigzag, 70% cut": spectrum.frequency_mask(B, 0.7),
        "by axes, 70% cut": spectrum.frequency_mask(B, 0.7, "axes"),
        "zigzag, drawn from (0, 70%)": drawn,
    },
    1.0,
    "kept",
    "Three maps over the 8 by 8 coefficients of a block. By zigzag a triangle of low "
    "frequencies is kept, by axes a small square, and with a drawn ratio the "
    "probability of being kept falls from one at low frequencies towards zero at the "
    "highest.",
)

# %% [markdown]
# ### The same share is not the same frequency
#
# A block of $fB\times fB$ pixels covers the same piece of the picture as a block of $B\times B$ latent positions, and the
# same ratio keeps the same share of both. It is tempting to say that both cuts remove the same detail. They do not. Index
# $u$ of a block of $B$ stands for $u/2B$ cycles per position. Keep the diagonals $u + v < T$ of the latent and $U + V <
# T'$ of the picture: on the axes (for $T\le B$, from about half cut on; shallower cuts take only the corner) the cuts lie
# at
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
# Equal shares cut the picture at a frequency $f$ times *higher*, in the scene, than the latent: each at the same part
# of its own band. That is in keeping with what an autoencoder does. A latent samples the scene $f$ times more
# coarsely, and has $C$ channels instead of 3 to make up for it; at equal shares both lose the same fraction of their
# numbers, and the task is the compression of the uncut pair over again. Scale equivariance does the same when it
# halves the sides of both.
#
# But it changes how Fig. 5 of the paper, and the pictures of {ref}`chap-cutting`, are to be read. For the *same
# frequencies of the scene* one has to keep the same pairs $(u, v)$ in both blocks: the same *number* of coefficients,
# a share $f^2$ times smaller. Call this cut of the picture $P''$.

# %%
untouched = tuned["untouched"]
f = untouched.compression
chop = spectrum.chop_high_frequencies
same = explore_finetuned.keep_latent_frequencies  # P''
kept_shares = (0.5, 0.3, 0.2, 0.1)
comparison = {
    "same share": [chop(x, 1 - s, B * f) for s in kept_shares],
    "same frequencies": [same(x, f, 1 - s, B) for s in kept_shares],
}
comparison = {
    name: [metrics.psnr(cut, x).item() for cut in pictures]
    for name, pictures in comparison.items()
}
for name in ("untouched", "CHF"):
    with torch.no_grad():
        own = tuned[name].encode(x).mean
        comparison[f"latent, {name}"] = [
            metrics.psnr(tuned[name].decode(chop(own, 1 - s, B)), x).item()
            for s in kept_shares
        ]

# %% tags=["hide-input"]
labels = {
    "same share": "picture, same share ($P'$)",
    "same frequencies": "picture, same frequencies of the scene ($P''$)",
    "latent, untouched": "decoded from the cut latent, untouched",
    "latent, CHF": "decoded from the cut latent, fine-tuned with CHF",
}
for name, found in comparison.items():
    run.metrics |= {
        f"{name}_keep_{s:g}_psnr_db": db
        for s, db in zip(kept_shares, found, strict=True)
    }
Markdown(
    f"**Measured here** (PSNR in dB, {n_images} held-out crops):\n\n"
    "| low frequencies kept | "
    + " | ".join(f"{s:.0%}" for s in kept_shares)
    + " |\n"
    + "|---" * (len(kept_shares) + 1)
    + "|\n"
    + "\n".join(
        f"| {labels[name]} | " + " | ".join(f"{db:.1f}" for db in found) + " |"
        for name, found in comparison.items()
    )
)

# %% [markdown]
# The gulf between a photograph and a decoded latent, cut by equal shares, is for the most part the factor $f$ in
# {eq}`eq-two-cuts`. Against the photograph cut at the same frequencies of the scene little of it is left, and the
# error of the uncut reconstruction is part of that. With a cut, this decoder loses about the detail that the cut
# frequencies stood for.
#
# ### What is asked of the decoder
#
# Suppose a decoder commutes with the cut, $\mathrm{Dec}(Pz) = P'\,\mathrm{Dec}(z)$. As $P'$ is an orthogonal
# projection, it can only shorten an error, and with the mean squared error for $d$
#
# $$
# d\bigl(P'x, \mathrm{Dec}(Pz)\bigr) = d\bigl(P'x, P'\mathrm{Dec}(z)\bigr) \le d\bigl(x, \mathrm{Dec}(z)\bigr) .
# $$ (eq-commutes)
#
# For such a decoder CHF asks for nothing new. But can a decoder be like that? A linear convolutional one cannot, if it
# compresses: from a latent with frequencies below $\nu_z$ it can only make frequencies within $\nu_z$ of the multiples of
# $1/f$, and these images cover the share of the plane that is kept, so that for a deep cut most of what $P'x$ has between
# $\nu_z$ and $\nu_x$ lies elsewhere. Nonlinear ones are not so bound. The detail in question weighs $d(P'x, P''x)$:

# %%
rows = []
with torch.no_grad():
    z_plain = tuned["plain"].encode(x).mean
    z_chf = tuned["CHF"].encode(x).mean
    for ratio in (0.0, *ratios):
        loss = {
            "CHF before": regularizers.chop(x, z, untouched.decode, ratio, B),
            "after plain": regularizers.chop(
                x, z_plain, tuned["plain"].decode, ratio, B
            ),
            "CHF after": regularizers.chop(x, z_chf, tuned["CHF"].decode, ratio, B),
        }
        commuting = chop(x - y, ratio, B * f).square().mean()
        detail = chop(x, ratio, B * f) - same(x, f, ratio, B)
        values = (commuting, detail.square().mean(), *loss.values())
        rows.append(
            f"| {ratio:.0%} | "
            + " | ".join(f"{1e3 * v:.1f}" for v in values)
            + " |"
        )
Markdown(
    f"**Measured here** (mean squared errors in 10⁻³, {n_images} held-out crops):\n\n"
    "| cut | if it commuted | the detail, $d(P'x, P''x)$ | CHF's term, untouched | after plain | after CHF |\n"
    "|---|---|---|---|---|---|\n" + "\n".join(rows)
)

# %% [markdown]
# With nothing cut, CHF's term is the reconstruction error. (The detail is not zero there: $P''$ keeps only the $B^2$
# frequencies that one latent channel has room for, and the decoder paints more than those, since it has $C$ channels.)
# From half cut on it is of the size of the detail and stays there: the decoder paints the frequencies that it still has,
# and little above. CHF is a hard task, and 400 steps have taken little off it.
#
# ### What CHF says about the spectrum
#
# Nothing, in the one case that can be solved on paper. Take the linear autoencoder of {ref}`chap-se`: each frequency
# $\nu$ is multiplied by a gain $g(\nu)$ and divided by it again, without compression. Let the cut be a filter,
# $m(\nu)$. Then
#
# $$
# \widehat{\mathrm{Dec}(Pz)}(\nu) = \frac{1}{g(\nu)}\,m(\nu)\,g(\nu)\,\hat x(\nu) = m(\nu)\,\hat x(\nu)
# = \widehat{P'x}(\nu):
# $$ (eq-chf-linear)
#
# CHF is satisfied by **every** gain. Scale equivariance is not, because there the decoder meets $g(\nu)$ and divides
# by $g(s\nu)$. So it is the change of grid that bends a spectrum in this model, and not the loss of high frequencies;
# CHF is scale equivariance without its active ingredient. It may still train a decoder to bear a cut. Whether real
# networks follow is a matter for the records below.
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
# (Eqs. 6 and 7), added to the loss with the weight $\gamma$. $\langle\cdot\rangle$ is the mean over coefficients, blocks,
# channels and images, as in the authors' code, so that one $\gamma$ serves latents of every size; there $p = 2$ is the
# default. $D_{00}$ is free.

# %% tags=["hide-input"]
weights = {p: regularizers.penalty_weights(B, p) for p in (1, 2)}
block_maps(
    {f"p = {p}": w for p, w in weights.items()},
    3.1,
    "W",
    "Weights of the soft penalty over the 8 by 8 coefficients of a block, for two "
    "exponents. They grow along the diagonal from zero at the flat coefficient; with "
    "the exponent two the highest frequencies weigh several times as much as with one.",
)

# %% [markdown]
# ### Why absolute values
#
# Eq. 7 is printed with $D_{uv}$ and not $|D_{uv}|$. Taken literally it is no penalty: it is *linear* in $z$,
#
# $$
# \mathcal S(z) = \bigl\langle W_{uv} D_{uv}(z)\bigr\rangle, \quad
# \mathcal S(-z) = -\mathcal S(z), \quad
# \mathcal S(z + c\,b) = \mathcal S(z) + c\,\mathcal S(b),
# $$
#
# so that of a channel and its negative, which say the same, one is rewarded and the other punished; coefficients of
# either sign cancel, up to the mean block; and a constant pattern $b$ in every block lowers it without limit.


# %%
def signed(z: torch.Tensor) -> torch.Tensor:
    """Eq. 7 as printed, averaged."""
    d = spectrum.block_dct(z, B)
    return (d * weights[2].to(d)).mean()


pattern = spectrum.block_idct(-weights[2].float()[None, None]).repeat(2, 2)
for name, latent in (("z", z), ("-z", -z), ("z + b", z + pattern)):
    print(
        f"{name:6} signed {signed(latent).item():+.4f}   "
        f"absolute {regularizers.soft_penalty(latent, B).item():.4f}"
    )

# %% [markdown]
# ### A penalty that can be lowered by doing nothing
#
# With absolute values there is another trap. The penalty is homogeneous: for a constant $c > 0$
#
# $$
# \mathcal L_{\text{soft}}(z/c) = \mathcal L_{\text{soft}}(z)/c ,
# $$ (eq-scale-trap)
#
# while every ratio of amplitudes, and with it every profile of {ref}`chap-dct`, stays as it is. Nothing in the loss
# holds the scale of the latent: the encoder may write $z/c$ and the decoder multiply by $c$. It takes a change of
# three tensors of weights.


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


small = rescaled(untouched, 4.0)
with torch.no_grad():
    z_small = small.encode(x).mean
    y_small = small.decode(z_small)
same_profile = metrics.spectrum_distance(
    spectrum.frequency_profile(z_small, B), spectrum.frequency_profile(z, B)
).item()
trap = {
    "picture": (y_small - y).abs().max().item(),
    "profile": same_profile,
    "penalty": regularizers.soft_penalty(z, B).item()
    / regularizers.soft_penalty(z_small, B).item(),
}
print(f"largest difference of a pixel      {trap['picture']:.0e}")
print(f"distance of the profiles, decades  {trap['profile']:.0e}")
print(f"penalty, times smaller             {trap['penalty']:.3f}")

# %% [markdown]
# And the denoiser would not even notice: latents are brought to unit variance before it sees them
# ({ref}`chap-latent-diffusion`). Whether training walks into the trap is a question for measurement. Write $s$ for
# the root mean square of a latent. Then
#
# $$
# \mathcal L_{\text{soft}}(z) = \underbrace{s(z)}_{\text{scale}}\cdot\underbrace{\mathcal L_{\text{soft}}\bigl(z/s(z)\bigr)}_{\text{shape}} ,
# $$ (eq-scale-shape)
#
# and only the second factor is about frequencies. The same holds for energies: let $E_k$ be the mean energy of rank
# $k$. By Parseval's identity $s^2 = \frac1{B^2}\sum_k E_k$, so that the change of any $E_k$, in dB, is the change of
# $s^2$ plus the change of the rank's *share*. Both CHF and SE compare pictures with pictures, and are indifferent to
# $s$.
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
# with $g$ the gradient at the decoder's input, $S$ the downsampling of scale equivariance and $n$ the number of latent
# values. **CHF exerts no pull at all on the coefficients that it cuts.** It makes the low ones sufficient for the
# low-passed picture, and the decoder content with them; if the high ones shrink, it is because the encoder's weights,
# which all frequencies share, have changed, or because reconstruction needs them less. The penalty is the opposite: it
# pulls on every coefficient but $D_{00}$, with a force that depends on its place and not on how large it is. Large
# coefficients yield by a fixed amount and small ones go to zero, as under an $\ell_1$ norm; and it does not ask what the
# coefficient was good for.

# %% tags=["hide-input"]
leaf = z.clone().requires_grad_()
losses = {
    "reconstruction": regularizers.mse(x, untouched.decode(leaf)),
    "SE ×2 (α = 0.25)": 0.25
    * regularizers.scale_equivariance(x, leaf, untouched.decode, 2),
    "CHF, 50% cut": regularizers.chop(x, leaf, untouched.decode, 0.5, B),
    f"soft (γ = {live_soft:g})": live_soft * regularizers.soft_penalty(leaf, B),
}
pulls = {}
for name, loss in losses.items():
    (gradient,) = torch.autograd.grad(loss, leaf)
    d = spectrum.block_dct(gradient * leaf.numel(), B).square().mean((0, 1, 2, 3))
    pulls[name] = d.flatten()[spectrum.zigzag_order(B)].sqrt()
beyond = pulls["CHF, 50% cut"][B * B // 2 :].max() / pulls["CHF, 50% cut"].max()
shown = {
    name: torch.where(values > 1e-4 * values.max(), values, torch.nan)
    for name, values in pulls.items()
}
figures.profiles(
    shown,
    alt="Root mean square pull of four losses on the latent's coefficients, by zigzag "
    "rank. Reconstruction pulls on all ranks; CHF stops dead at the middle rank, where "
    "its cut lies; the soft penalty grows in steps, one for each diagonal.",
    ylabel="rms of n ∂L/∂D",
)

# %% [markdown]
# The curves are those of {eq}`eq-gradients`, measured on the held-out crops with the weights that the losses are used
# with. The curve of CHF ends where its mask does, that of the penalty climbs one step per diagonal.
#
# ## Live: a few steps
#
# Three runs from the same weights, on the same crops in the same order and with the same noise: plain fine-tuning,
# CHF with a drawn ratio, and the soft penalty. They are far too short to judge by, which is what the records below
# are for; what they show is which way each sets out. The figure draws the change of every $E_k$ in dB: zero is no
# change, a level curve is a change of scale, a falling one moves energy to the low frequencies.

# %%
live = {
    "plain": {"method": "plain"},
    f"CHF, drawn from (0, {largest:.0%})": {"method": "chf", "chf_ratio": largest},
    f"soft, γ = {live_soft:g}": {"method": "plain", "soft_weight": live_soft},
}
probe = data.stack(data.Photos(128, "test", seed=seed), range(n_probe))
done = {
    name: experiments.finetune(
        finetuning.Finetuning(
            model=models[0],
            steps=live_steps,
            batch_size=live_batch,
            block_size=B,
            seed=seed,
            **arm,
        ),
        size=size,
        probe=probe,
        snapshots=1,
        progress=False,
    ).record
    for name, arm in live.items()
}


# %% tags=["hide-input"]
def energies(record: records.RunRecord, when: str) -> torch.Tensor:
    """Mean energy of each rank, absolute: relative ones brought to the latent's scale."""
    relative = torch.tensor(record.series[f"{when}_energy"], dtype=torch.float64)
    moments = [record.metrics[f"{when}_latent_{m}"] for m in ("mean", "std")]
    # By Parseval's identity their mean is s², the mean of z².
    return relative / relative.mean() * sum(m**2 for m in moments)


def change_db(record: records.RunRecord) -> torch.Tensor:
    """Change of each rank's energy in dB."""
    return 10 * (energies(record, "after") / energies(record, "before")).log10()


change = figures.profiles(
    {name: change_db(record) for name, record in done.items()},
    alt="Change of the energy of each zigzag rank in decibels after a few steps of plain "
    "fine-tuning, CHF and the soft penalty. The table below gives the numbers.",
    ylabel="change of energy, dB",
    log_y=False,
)
change

# %% tags=["hide-input"]
rows = []
first = next(iter(done.values()))
for name, record in {"before": first, **done}.items():
    when = "before" if name == "before" else "after"
    m = record.metrics
    level = (
        0.0
        if when == "before"
        else 10
        * (energies(record, when).mean() / energies(record, "before").mean())
        .log10()
        .item()
    )
    rows.append(
        f"| {name} | {m[f'{when}_psnr_db']:.2f} | {1e3 * m[f'{when}_hf_energy_ratio']:.2f} "
        f"| {m[f'{when}_hf_share']:.1%} | {level:+.2f} |"
    )
    label = name.split(",")[0]
    run.metrics |= {
        f"live_{label}_{key}": m[f"{when}_{key}"]
        for key in ("psnr_db", "hf_energy_ratio", "hf_share", "latent_std")
    }
Markdown(
    f"**Measured here** ({live_steps} steps of {live_batch} crops, one seed, averaged weights; {n_probe} held-out crops):\n\n"
    "| | PSNR, dB | HF energy ratio, 10⁻³ | HF share | scale $s^2$, dB |\n"
    "|---|---|---|---|---|\n" + "\n".join(rows)
)

# %% [markdown]
# Plain fine-tuning and CHF leave the energies nearly where they were. The penalty lowers all of them, also that of
# $D_{00}$, which it does not even weigh, and the high ones most: part of it is scale and part is shape, from the
# first steps on.
#
# ## Decoders that have met cut latents
#
# {ref}`chap-cutting` ended on a suspicion: that a decoder fails on a cut latent because it has never seen one. Here is
# the test. Four autoencoders that began as the same one: untouched, fine-tuned plainly, with SE and with CHF (400 steps
# each, one run of the records below). Each encodes the picture, loses the same share of *its own* latent, and decodes.
# (Encoder and decoder have both been trained, so this tests the pair.)

# %% tags=["hide-input"]
picture = data.photo("coffee")[:, 112:304, 208:400]  # (3, 192, 192), held out
shares = (1.0, 0.75, 0.5, 0.25, 0.1)
mosaic = make_subplots(
    1 + len(tuned),
    len(shares),
    horizontal_spacing=0.01,
    vertical_spacing=0.045,
    row_titles=["photograph", *tuned],
    subplot_titles=[" "] * (1 + len(tuned)) * len(shares),
)
titles, half = [], {}
for row, name in enumerate(("photograph", *tuned), start=1):
    for column, share in enumerate(shares, start=1):
        if name == "photograph":
            cut = B * f
            shown = spectrum.chop_high_frequencies(picture, 1 - share, cut)
        else:
            with torch.no_grad():
                latent = tuned[name].encode(picture[None]).mean
                latent = spectrum.chop_high_frequencies(latent, 1 - share, B)
                shown = tuned[name].decode(latent)[0]
        small_copy = torch.nn.functional.interpolate(
            shown[None], size=(144, 144), mode="bilinear", antialias=True
        )[0]
        mosaic.add_trace(figures.image_trace(small_copy, quality=75), row, column)
        db = metrics.psnr(shown[None], picture[None]).item()
        kept_text = f"{share:.0%} kept<br>" if row == 1 else ""
        titles.append(
            kept_text
            + ("uncut" if share == 1 and name == "photograph" else f"{db:.1f} dB")
        )
        if share == 0.5:
            half[name] = db
    figures.hide_image_axes(mosaic, range(1, len(shares) + 1), row=row)
for annotation, title in zip(mosaic.layout.annotations, titles, strict=False):
    annotation.update(text=title, font_size=11)
mosaic.update_layout(height=820, margin={"l": 4, "r": 28, "t": 40, "b": 4})
figures.described(
    mosaic,
    "Five rows of five pictures of a cup with 100 to 10 percent of the low "
    "frequencies kept: the photograph itself, and what four autoencoders decode from "
    "their cut latents, with the PSNR above each. The text below compares the rows.",
)

# %% tags=["hide-input"]
run.metrics |= {f"half_cut_{name}_psnr_db": db for name, db in half.items()}
best = max((name for name in half if name != "photograph"), key=half.get)
Markdown(
    "**Measured here** (one picture, half the frequencies kept): "
    + ", ".join(f"{name} {db:.1f} dB" for name, db in half.items())
    + f". Best of the four decoders: {best}."
)

# %% [markdown]
# ```{admonition} In the paper
# :class: paper
#
# The last row of Fig. 5 of {cite:t}`skorokhodov2025improving` is FluxAE fine-tuned with CHF at a ratio of 50 %: it holds
# up where the untouched one falls apart. (Here the ratio was drawn from (0, 70 %).) Fig. 11 shows the same for SE, which
# the authors find less resilient than CHF, but noticeably more resilient than the untouched model. Neither figure has a
# row for plain fine-tuning.
# ```

# %%
explore_finetuned.decoders_explorer(
    picture,
    {name: tuned[name] for name in ("plain", "SE", "CHF")},
    B,
)

# %% [markdown]
# Grey is the photograph with the frequencies of the scene that the cut leaves ($P''$); at 100% those for which a single
# latent channel has room. Uncut, the decoders lie above it, because $C$ channels hold more than one; with half or more
# cut they run along it. To call this *breaking* is too much: they show the frequencies that they are given. What CHF adds
# to plain fine-tuning is small: at most a fifth of a decibel where something is cut, and uncut it costs about as much.
#
# ## Over seeds: chopping
#
# From here on, the records: 400 steps of 8 crops of $64^2$ from `kl-f4c16`, three runs of each arm that differ in
# nothing but the seed, all measured on the same 64 held-out crops of $128^2$ (`scripts/record_finetuning.py`, one
# thread on a 2-core CPU; mean squared error alone, for a perceptual network's weights could not be had offline). *CHF
# 30%* cuts this share in every step, *CHF drawn* a share drawn from (0, 70%). *Distance to RGB* is the mean distance between
# the latent's profile and that of photographs at latent size.

# %% tags=["hide-input"]
recorded = records.by_arm(records.RESULTS / "finetuning")
NAMES = {
    "plain": "plain",
    "se": "SE",
    **{f"chf{r:g}": f"CHF {r:.0%}" for r in (0.3, 0.5, 0.7)},
    "chf-drawn0.7": "CHF drawn",
    **{f"chf{r:g}-axes": f"CHF {r:.0%} by axes" for r in (0.3, 0.7)},
    **{f"soft{g:g}": f"γ = {g:g}" for g in (0.01, 0.1, 1.0)},
    **{f"se-soft{g:g}": f"SE + γ = {g:g}" for g in (0.01, 0.05, 0.1)},
}
arms = {name: recorded[arm] for arm, name in NAMES.items() if arm in recorded}
chopped = [n for n in arms if n in ("plain", "SE") or n.startswith("CHF")]
penalised = [n for n in arms if n in ("plain", "SE") or "γ" in n]
COLUMNS = (*summaries.FINETUNED, summaries.Column("std of z", "latent_std"))


def of(name: str, key: str, times: float = 1) -> list[float]:
    return summaries.values(arms[name], f"after_{key}", times)


def table(names: list[str]) -> str:
    return summaries.finetuning_table({n: arms[n] for n in names}, "plain", COLUMNS)


def against(key: str, control: str, names: list[str]) -> str:
    """Names grouped by how all their runs lie to those of the control."""
    groups: dict[str, list[str]] = {"lower": [], "overlapping": [], "higher": []}
    for name in names:
        if name != control:
            groups[records.ordering(of(control, key), of(name, key))].append(name)
    said = {
        "lower": "lower in",
        "overlapping": "overlapping",
        "higher": "higher in",
    }
    return "; ".join(f"{said[k]} {', '.join(v)}" for k, v in groups.items() if v)


Markdown(
    table(chopped)
    + "\n\n↑, ↓: all runs above, or below, all runs of plain fine-tuning."
)


# %% tags=["hide-input"]
def mean_profile(name: str) -> torch.Tensor:
    return torch.tensor(summaries.mean_series(arms[name], "after_profile"))


def profiles_of(names: list[str], alt: str) -> go.Figure:
    before = torch.tensor(arms["plain"][0].series["before_profile"])
    return figures.profiles(
        {"untouched": before} | {name: mean_profile(name) for name in names},
        alt=alt,
        ylabel="mean |D| / mean |D₀₀|",
    )


profiles_of(
    [n for n in ("plain", "SE", "CHF 30%", "CHF 70%", "CHF drawn") if n in arms],
    "Frequency profiles of latents, mean over seeds: untouched, after plain "
    "fine-tuning, with scale equivariance and with CHF at several ratios. The table "
    "above has their distances to the profile of photographs.",
)


# %% tags=["hide-input"]
def places(prefix: str, suffix: str = "") -> dict[str, list[float]]:
    found = {}
    for label in ("30%", "50%", "70%", "drawn"):
        name = f"{prefix}{label}{suffix}"
        if name in arms:
            found[label] = of(name, "hf_share", 100)
    return found


figures.over_seeds(
    {
        **{n: {n: of(n, "hf_share", 100)} for n in ("plain", "SE")},
        "CHF, zigzag": places("CHF "),
        "CHF, by axes": places("CHF ", " by axes"),
    },
    alt="High-frequency share of the latent's energy outside D₀₀ after plain fine-tuning, SE and CHF "
    "at several ratios and in two orders, one marker for each run. The text below says "
    "which groups do not overlap.",
    xlabel="control, or share cut",
    ylabel="HF share, %",
    log_y=False,
)


# %% tags=["hide-input"]
def moved(name: str) -> float:
    """Change of the mean HF share against plain fine-tuning, in points."""
    return sum(of(name, "hf_share", 100)) / len(arms[name]) - sum(
        of("plain", "hf_share", 100)
    ) / len(arms["plain"])


chf_arms = [name for name in chopped if name.startswith("CHF")]
flatter = [
    name
    for name in chf_arms
    if records.ordering(of("plain", "hf_share"), of(name, "hf_share")) == "lower"
]
Markdown(
    "**What the records say.** A difference counts only where no runs overlap.\n\n"
    f"- HF share, against plain fine-tuning: {against('hf_share', 'plain', chopped)}.\n"
    f"- Distance to the profile of photographs, against plain: "
    f"{against('spectrum_distance_to_rgb', 'plain', chopped)}.\n"
    f"- PSNR, against plain: {against('psnr_db', 'plain', chopped)}.\n\n"
    f"Of the {len(chf_arms)} arms with CHF, {len(flatter) or 'none'} "
    f"{'has' if len(flatter) < 2 else 'have'} a lower HF share than plain fine-tuning in every run. "
    f"The change of the mean is {min(map(moved, chf_arms)):+.1f} to {max(map(moved, chf_arms)):+.1f} points over these arms, "
    f"and {moved('SE'):+.1f} with SE."
)

# %% [markdown]
# By {eq}`eq-chf-linear` none needs to. The paper writes that CHF improves the spectrum (Sec. 3.3), and shows no
# spectrum of it; SE, trained as long from the same weights, is in the same table.
#
# ```{admonition} In the paper
# :class: paper
#
# Table 6 trains a DiT-S/2 (200 000 iterations) on FluxAE fine-tuned with CHF, and reports FDD on 5 000 samples, lower
# is better:
#
# | cut | 90 % | 70 % | 30 % | 10 % |
# |---|---|---|---|---|
# | by axes | 912.4 | 915.6 | 929.7 | 916.5 |
# | zigzag | 935.5 | 932.8 | 962.9 | 930.1 |
#
# beside 992.0 for the untouched FluxAE and 929.6 for the best of eight KL weights. The table has no plain fine-tuning
# and no SE; Table 3, with the same two reference values, does: 968.3 without KL and 924.3. So by zigzag a cut of 30 %
# is about what fine-tuning alone gives, no ratio by zigzag is better than SE, and three of the four by axes are.
# Nothing is monotone in the ratio, and each is one run.
# ```
#
# FDD needs a denoiser, which this chapter does not train; what is recorded here is the autoencoder's half of Table 6.
#
# ## Over seeds: penalising
#
# The penalty alone, on top of plain fine-tuning, and on top of SE.

# %% tags=["hide-input"]
Markdown(table(penalised))

# %% tags=["hide-input"]
profiles_of(
    [n for n in penalised if n not in ("SE + γ = 0.01", "SE + γ = 0.05")],
    "Frequency profiles of latents, mean over seeds: untouched, after plain "
    "fine-tuning, with scale equivariance, and with the soft penalty in several "
    "strengths alone and on top of SE. The table above has their distances to the "
    "profile of photographs.",
)

# %% tags=["hide-input"]
with_se = [name for name in penalised if name.startswith("SE")]
Markdown(
    "**What the records say.**\n\n"
    f"- HF share, against plain fine-tuning: {against('hf_share', 'plain', penalised)}.\n"
    f"- HF share, against SE: {against('hf_share', 'SE', penalised)}.\n"
    f"- Distance to the profile of photographs, against plain: "
    f"{against('spectrum_distance_to_rgb', 'plain', penalised)}.\n"
    f"- The same, against SE: {against('spectrum_distance_to_rgb', 'SE', with_se)}.\n"
    f"- PSNR, against plain: {against('psnr_db', 'plain', penalised)}.\n"
    f"- PSNR, against SE: {against('psnr_db', 'SE', with_se)}."
)

# %% [markdown]
# ```{admonition} In the paper
# :class: paper
#
# Table 7 puts the penalty on top of **SE** (the rows are named FT-SE), with a DiT-B/2 on FluxAE; FID and FDD on 5 000
# samples, rows in the paper's order:
#
# | γ | 0.001 | 0.025 | 0.01 | 0.05 | 0.1 |
# |---|---|---|---|---|---|
# | FID | 26.43 | 25.46 | 26.72 | 24.28 | 25.84 |
# | FDD | 497.14 | 477.61 | 487.06 | 458.11 | 461.97 |
#
# There is no row with $\gamma = 0$. SE alone with the same denoiser has FID 26.84 and FDD 558.36 in Table 9, and 25.87
# and 551.27 in Appendix C.6. By FDD every strength is far better than that; by FID only 24.28 differs from both by more
# than they differ from each other. 0.025, printed between 0.001 and 0.01, may stand for 0.0025. The text recommends a
# small γ, such as 0.01. Eq. 7 prints a sum; if the table was made with it and not with the mean, its γ are not those used
# here, and γ = 1 lies outside its range in any case.
# ```
#
# ### Scale or shape?
#
# Now the question of the trap. For every arm the change of the energy of each rank, absolute and not relative to
# $D_{00}$, in dB. What all ranks have in common is a change of scale; only the tilt is a change of spectrum.

# %% tags=["hide-input"]
figures.profiles(
    {
        name: torch.stack([change_db(r) for r in arms[name]]).mean(0)
        for name in ("plain", "SE", "CHF drawn", "γ = 0.01", "γ = 0.1", "γ = 1")
        if name in arms
    },
    alt="Change of the energy of each zigzag rank in decibels by fine-tuning, mean over "
    "seeds, for plain fine-tuning, SE, CHF and the soft penalty. The table below splits "
    "it into scale and shape.",
    ylabel="change of energy, dB",
    log_y=False,
)


# %% tags=["hide-input"]
def split(record: records.RunRecord) -> dict[str, float]:
    """Change in dB of all energy, of that of the upper half of the ranks, and of its share."""
    after, before = energies(record, "after"), energies(record, "before")
    upper = slice(B * B // 2, None)
    scale = 10 * (after.sum() / before.sum()).log10().item()
    high = 10 * (after[upper].sum() / before[upper].sum()).log10().item()
    return {"high": high, "scale": scale, "shape": high - scale}


parts = {name: [split(r) for r in runs] for name, runs in arms.items()}
rows = [
    f"| {name} | "
    + " | ".join(
        records.signed([p[key] for p in values], ".1f")
        for key in ("high", "scale", "shape")
    )
    + " |"
    for name, values in parts.items()
]
for name, values in parts.items():
    for key in ("high", "scale", "shape"):
        mean, _ = records.mean_and_spread([p[key] for p in values])
        run.metrics[f"recorded_{name}_{key}_db"] = mean
mean_of = {
    name: {k: sum(p[k] for p in v) / len(v) for k in v[0]}
    for name, v in parts.items()
}
Markdown(
    "Change of the energy in the upper half of the ranks, in dB, and its two parts:\n\n"
    "| | high frequencies | = scale $s^2$ | + shape |\n|---|---|---|---|\n"
    + "\n".join(rows)
    + "\n\nOf what the high frequencies lost in dB, shrinking is "
    + ", ".join(
        f"{m['scale'] / m['high']:.0%} with {name}"
        for name, m in mean_of.items()
        if "γ" in name and max(m["scale"], m["high"]) < 0
    )
    + "."
)

# %% [markdown]
# The last column is nearly what is left for a denoiser, which is given latents of unit variance; exactly so if the mean
# of each channel were zero. It is a share of *all* energy. The HF share above leaves $D_{00}$ out, and by that measure
# $\gamma = 1$ is no better than 0.1: what grew is the part of $D_{00}$, which the penalty leaves free
# ({ref}`ex-scale-free`). In the arms with $\gamma$ the middle column lowers the penalty and, if the posterior's width
# shrinks along, changes nothing else. (CHF and SE move it by up to a decibel, too: a loss that is indifferent to $s$ does
# not hold it either.) It also loosens the penalty's grip: by {eq}`eq-scale-shape` what weighs on the shape is $\gamma s$
# and not $\gamma$, so that one and the same $\gamma$ is another strength for every autoencoder, and a falling one while a
# latent shrinks.
#
# ## Cut curves
#
# The paper asks two things of a regularization (Sec. 3.3): that it suppress high frequencies in the latent, and that
# the decoder not amplify what is left of them. The first was measured above. The second is what the cut measures: the
# PSNR of pictures decoded from cut latents, from the records. The figure shows the difference to plain fine-tuning.


# %% tags=["hide-input"]
cut_ratios = arms["plain"][0].series["cut_ratio"]
panels = {
    "chopping": [n for n in chopped if "axes" not in n],
    "penalising": [
        n for n in penalised if n not in ("SE + γ = 0.01", "SE + γ = 0.05")
    ],
}
cuts = make_subplots(1, 2, subplot_titles=list(panels), horizontal_spacing=0.12)
plain_db = torch.tensor(summaries.mean_series(arms["plain"], "cut_psnr_db"))
colour = {"plain": figures.GREY, "SE": figures.BLUE}
for column, names in enumerate(panels.values(), start=1):
    own = iter(figures.PALETTE[1:6] if column == 1 else figures.PALETTE[5:0:-1])
    for i, name in enumerate(names):
        gain = (
            torch.tensor(summaries.mean_series(arms[name], "cut_psnr_db"))
            - plain_db
        )
        cuts.add_trace(
            go.Scatter(
                x=[100 * (1 - r) for r in cut_ratios],
                y=[round(v, 3) for v in gain.tolist()],
                name=name,
                mode="lines+markers",
                marker={"symbol": i + 5 * (column - 1) * (i > 1)},
                line={
                    "color": colour.get(name) or next(own),
                    "dash": figures.DASHES[i % len(figures.DASHES)],
                },
                showlegend=column == 1 or name not in panels["chopping"],
                legendgroup=name,
            ),
            1,
            column,
        )
cuts.update_xaxes(title="low frequencies kept, %", autorange="reversed")
cuts.update_yaxes(title="PSNR against plain, dB", col=1)
cuts.update_layout(height=440, margin_t=110, legend_y=1.12)
figures.described(
    cuts,
    "By how much pictures decoded from cut latents are better or worse, in PSNR, than with "
    "plain fine-tuning, against the share kept, mean over seeds: on the left SE and CHF, "
    "on the right SE and the soft penalty. The table below has the numbers and says which "
    "arms lie above the controls.",
)


# %% tags=["hide-input"]
def cut_psnr(name: str, ratio: float) -> list[float]:
    at = cut_ratios.index(ratio)
    return [r.series["cut_psnr_db"][at] for r in arms[name]]


def above(control: str, ratio: float) -> str:
    won = [
        n
        for n in arms
        if n != control
        and records.ordering(cut_psnr(control, ratio), cut_psnr(n, ratio))
        == "higher"
    ]
    return ", ".join(won) or "none"


some = (0.3, 0.6, 0.9)
rows = [
    f"| {name} | "
    + " | ".join(records.plus_minus(cut_psnr(name, r), ".2f") for r in (0.0, *some))
    + " |"
    for name in arms
]
Markdown(
    "PSNR in dB:\n\n| | uncut | "
    + " | ".join(f"{r:.0%} cut" for r in some)
    + " |\n"
    + "|---" * (len(some) + 2)
    + "|\n"
    + "\n".join(rows)
    + "\n\nAll runs above all runs of **plain** fine-tuning: "
    + "; ".join(f"at {r:.0%} cut, {above('plain', r)}" for r in some)
    + ". Above all runs of **SE**: "
    + "; ".join(f"at {r:.0%} cut, {above('SE', r)}" for r in some)
    + "."
)

# %% [markdown]
# CHF pays up to a quarter of a decibel where nothing is cut, breaks even at about 15%, and gains about as much beyond. By
# axes at 70%, which leaves four coefficients of 64, it loses nearly a decibel uncut and stays below plain up to 75% cut;
# only at 90%, near what it was trained for, is it ahead, and there it is the best. SE and all arms with a penalty of 0.1
# or more or with SE, which changed the spectrum most, lie below plain fine-tuning at *every* cut. Here a steeper spectrum
# did not buy resilience; Fig. 8 of the paper finds the opposite for SE, and {ref}`chap-price` asks why.
#
# Compare what CHF gains here with what a cut costs at all. Most of that cost is what the cut frequencies were worth in
# the scene, which the second table of this chapter has measured on the picture itself; fine-tuning brought back little.
#
# ## What this leaves open
#
# - Whether any of it helps a denoiser. Tables 6 and 7 are about that; here is the half of them that an autoencoder has by
#   itself. A spectrum closer to that of photographs is a hypothesis about diffusability, not a measure of it.
# - The runs are 400 steps of a small model with the mean squared error alone; the paper's are 10 000 with LPIPS beside
#   it, which rewards plausible detail where the squared error rewards none. Training with a cut of 90% was not run here.
# - Blocks are an odd thing to cut. Neighbouring blocks of a chopped picture disagree at their border, and CHF asks the
#   decoder to paint these borders. A radial cut without blocks has no such target, and is a small change: the filter
#   $P$ is all that differs.
#
# ## Exercises
#
# ```{exercise} A penalty without the trap
# :label: ex-scale-free
#
# Change the soft penalty so that it does not depend on the scale of the latent. Show in one line of algebra that its
# gradient is then at a right angle to $z$, and check both with numbers. Is there another way to lower it that leaves
# what the denoiser sees as it was?
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
# For a function with $L(cz) = c^k L(z)$, the derivative by $c$ at $c = 1$ is $\langle\nabla L, z\rangle = k\,L(z)$: with
# $k = 1$ for the soft penalty, a pull towards zero as strong as the penalty itself; with $k = 0$ none. But $D_{00}$ is
# free and is in the denominator: the penalty sinks when all blocks of a channel are raised by one constant, which a
# normalisation per channel removes before the denoiser sees it. The same goes for making channels with much high
# frequency small and smooth ones large. Dividing by the standard deviation of each channel closes both.
# ````
#
# ```{exercise} One cut for all
# :label: ex-one-cut
#
# Which fixed ratio cuts on average as many coefficients as one drawn from $(0, R)$? How do the two tasks still differ?
# ```
#
# ````{solution} ex-one-cut
# :class: dropdown
#
# The mean of a uniform draw is $R/2$: 35 % for $R = 0.7$. {eq}`eq-kept-probability` gives the same, summed over the
# ranks:
#
# ```python
# print(f"drawn {drawn.mean().item():.3f}, fixed {spectrum.kept_share(0.35, B):.3f}")
# ```
#
# With the fixed cut, 42 ranks are always there and 22 never: among each, none comes before another, and the decoder
# has only to know two kinds of latents. The drawn one has an opinion on every pair of ranks above $(1-R)B^2 \approx
# 19$, and meets latents cut anywhere.
# ````
#
# ```{exercise} Chop the wrong end
# :label: ex-wrong-end
#
# Suppose one fine-tuned with the *low* frequencies cut from latent and picture, $1 - P$ and $1 - P'$ in
# {eq}`eq-chop-loss`. Which coefficients does the new term pull on? What do you expect of the spectrum, and why is
# there less to gain?
# ```
#
# ````{solution} ex-wrong-end
# :class: dropdown
#
# ```python
# leaf = z.clone().requires_grad_()
# high_x = x - spectrum.chop_high_frequencies(x, 0.5, B * untouched.compression)
# high_z = leaf - spectrum.chop_high_frequencies(leaf, 0.5, B)
# loss = regularizers.mse(high_x, untouched.decode(high_z))
# (gradient,) = torch.autograd.grad(loss, leaf)
# d = spectrum.block_dct(gradient, B).square().mean((0, 1, 2, 3)).flatten()[spectrum.zigzag_order(B)]
# print(f"the term now {loss.item():.4f}")
# print(f"energy of the target {high_x.square().mean().item():.4f} of {x.square().mean().item():.4f}")
# print(f"share of the pull on the lower half of the ranks {(d[:32].sum() / d.sum()).item():.1e}")
# ```
#
# By the same algebra as in {eq}`eq-gradients` it pulls on the high half only, and asks that the high frequencies of the
# latent alone explain those of the picture. The target has a tiny share of the picture's energy, so that painting grey
# would nearly solve it. The decoder is far from that: without $D_{00}$ it paints something else, and the term starts many
# times above grey. Training would first learn to paint grey, which needs no high frequencies; only the last $10^{-3}$ is
# about detail.
# ````
#
# ## Check yourself

# %% tags=["checkpoint"]
counts = {
    order: [int(spectrum.frequency_mask(8, r, order).sum()) for r in ratios]
    for order in spectrum.ORDERS
}
print("kept of 64, zigzag:                    ", counts["zigzag"])
print("kept of 64, by axes:                   ", counts["axes"])
print("rank 40 is kept with a drawn ratio:    ", round((1 - 40 / 64) / largest, 3))
corner = [regularizers.penalty_weights(8, p)[7, 7].item() for p in (1, 2)]
print("W of the last coefficient, p = 1, 2:   ", [round(w, 4) for w in corner])
checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(1, 1, 4, 4)  # (1, 1, 8, 8)
print(
    "penalty of a checkerboard:             ",
    round(regularizers.soft_penalty(checks, 8).item(), 4),
)
with torch.no_grad():
    all_ones = regularizers.chop(x, z, untouched.decode, 0.0, B)
    identity = abs(all_ones / regularizers.mse(x, y) - 1).item()
print("with nothing cut, CHF is reconstruction:", identity < 1e-4)
print("a cut coefficient feels no CHF:        ", beyond.item() < 1e-5)
print(
    "the rescaled model paints the same:    ",
    trap["picture"] < 1e-3 and trap["profile"] < 1e-3,
)
print("and its penalty is smaller by:         ", round(trap["penalty"], 2))
soft, plain = (done[name] for name in (list(done)[2], "plain"))
print(
    "the penalty lowers share and scale:    ",
    all(
        soft.metrics[f"after_{key}"] < plain.metrics[f"after_{key}"]
        for key in ("hf_share", "latent_std")
    ),
)
print("after half a cut, CHF beats plain:     ", half["CHF"] > half["plain"])

# %% tags=["hide-input"]
record = run.finish()
if record_path:
    record.write(record_path)
Markdown(
    f"Run `{record.identity}`: size `{record.size}`, seed {record.seed}, {record.device}, torch {record.versions['torch']}, "
    f"{record.wall_time_s:.0f} s."
)
