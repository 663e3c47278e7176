# ---
# jupyter:
#   book:
#     needs: [chap-autoregression, chap-kl]
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
# (chap-diffusion-decoder)=
# # The diffusion model that is the decoder
#
# **In short.** A latent leaves detail open. A decoder trained by the squared error answers with the mean of all that fits, a blur; a
# flow model in its place draws one picture that fits. Texture comes back, invented, and a perfect draw has exactly twice the least
# squared error: 3 dB of PSNR. On small blocks of photographs we train both and see which frequencies are kept and which invented.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
n_crops: int = 384  # of 64², cut into blocks to train on
n_held_out: int = 6  # crops of 96² of the photographs that are not trained on
steps: int = 700  # of each training
device: str = "cpu"  # where both are trained: auto, cuda, mps or cpu
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import math
from functools import cache

import torch
from torch import nn

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.decoder import decoder_explorer
from diffusab_core import data, flow, spectrum, training
from diffusab_core.denoisers.parts import TimeEmbedding
from diffusab_core.experiments import decoders, pretraining
from diffusab_core.experiments.pretraining import Pretraining
from diffusab_core.metrics.invention import compare_seeds
from diffusab_core.training.order import draw_noise

data_used = "8 x 8 blocks of the photographs, grey"
run = chapters.start("20_diffusion_decoder", globals(), data_used)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def two_modes(y: torch.Tensor, t: torch.Tensor, width: float = 0.1) -> torch.Tensor:
    """Exact velocity where p(x | z) has a narrow mode at -1 and one at +1, (n,)."""
    modes = torch.tensor([[-1.0], [1.0]])  # against (n,)
    variance = (1 - t) ** 2 * width**2 + t**2
    weight = (-((y - (1 - t) * modes) ** 2) / (2 * variance)).softmax(0)  # (2, n)
    each = [flow.gaussian_velocity(y, t, mode.item(), width**2) for mode in modes]
    return (weight * torch.stack(each)).sum(0)


noise = draw_noise(seed, range(2048), (), "decode")
walks = flow.sample(two_modes, noise, 32, trajectory=True)  # (33, n)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
times = flow.sampling_times(32)
paths = {f"noise {i}": (times, walks[:, i]) for i in range(40)}
blue = {"color": figures.BLUE, "dash": "solid", "width": 1, "showlegend": False}
left = figures.lines(
    paths, xlabel="time t", ylabel="x", styles=dict.fromkeys(paths, blue)
).update_xaxes(autorange="reversed")
edges = torch.linspace(-2, 2, 61)
counts = torch.histogram(walks[-1].double(), edges.double(), density=True).hist
drawn_here = {"density": (counts, (edges[1:] + edges[:-1]) / 2)}
right = figures.lines(drawn_here, xlabel="density of what is drawn")
figures.panels(
    [figures.mark(fig, y=0) for fig in (left, right)],
    ["forty noises walk to one of two answers", "2 048 of them"],
    "Left, forty curves from noise at time 1 to data at time 0, all given the same latent: about half end near +1 and half "
    "near -1, none at the dotted line at 0. Right, the density of what they end at: two narrow peaks, nothing at 0.",
    share_y=True, height=330, widths=(0.7, 0.3),
)  # fmt: skip

# %% [markdown] slideshow={"slide_type": "slide"}
# *A latent that leaves open whether a pixel is +1 or −1. Dotted: what a decoder trained by the squared error says, 0, which it never
# is. Blue: a flow, whose velocity is known exactly here, starts from noise and ends at one answer or the other.*
#
# {cite:t}`liu2025dgae` put a diffusion model where the decoder of an autoencoder is. This chapter says why one would, trains a small
# one beside a decoder of the usual kind, and looks at what it invents. The published model is not trained here.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - say why a decoder that is trained by the squared error blurs, and how much energy it loses at a frequency;
# - turn a decoder into a conditional flow, write its loss, and say what one step of it makes;
# - tell what a decoder keeps from what it invents, by frequency, from a few seeds;
# - explain why a perfect sample has 3 dB less PSNR, and why this alone is no argument against it.
# ```

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Why the mean is a blur
#
# The usual decoder stands for a Gaussian, $p(x \mid z) = \mathcal N(\hat x(z), \sigma^2 I)$, and $-\log p$ is a squared error. Write
# $m(z) = \mathbb E[x \mid z]$ for the mean of all pictures that have this latent. For any answer $\hat x$ that depends on $z$ alone,
#
# $$
# \mathbb E \lVert x - \hat x \rVert^2 = \mathbb E \lVert x - m + m - \hat x \rVert^2
# = \mathbb E \lVert x - m \rVert^2 + \mathbb E \lVert m - \hat x \rVert^2 ,
# $$ (eq-decoder-mean)
#
# since $x - m$ averages to zero for each $z$. So the best answer is $m$ itself. At each frequency $k$ the same split says what the
# mean lacks:
#
# $$
# \mathbb E\, m_k^2 = \mathbb E\, x_k^2 - \mathbb E\, \mathrm{Var}(x_k \mid z) .
# $$ (eq-decoder-lost)
#
# What $z$ settles is kept, what it leaves open is missing. Few numbers settle the coarse shapes first, so what is missing is detail.
# More training does not bring it back: it is what the loss asks for.
#
# ## A decoder that draws
#
# Instead, learn the whole of $p(x \mid z)$ with the flow of {numref}`chap-latent-diffusion`, given $z$: with
# $x_t = (1 - t)\,x + t\,\varepsilon$,
#
# $$
# L = \mathbb E\, \lVert v_\theta(x_t, t, z) - (\varepsilon - x) \rVert^2 , \qquad
# y = \varepsilon + \int_1^0 v_\theta(x_t, t, z)\, \mathrm dt .
# $$ (eq-decoder-flow)
#
# At $t = 1$ the state is noise and says nothing of $x$, so the best velocity there is $\varepsilon - m(z)$. A single step of the
# sampler then gives
#
# $$
# \hat x_0 = \varepsilon - v_\theta(\varepsilon, 1, z) = m(z) :
# $$ (eq-decoder-one)
#
# **in one step, a perfect diffusion decoder is the Gaussian decoder.** All that it adds comes from taking more.
#
# What does it cost? A perfect draw $y$ and the picture $x$ are two independent draws from the same $p(x \mid z)$. Both lie
# around $m$, and
#
# $$
# \mathbb E \lVert x - y \rVert^2 = \mathbb E \lVert x - m \rVert^2 + \mathbb E \lVert y - m \rVert^2
# = 2\, \mathbb E \lVert x - m \rVert^2 ,
# $$ (eq-decoder-twice)
#
# twice the least error, $10 \log_{10} 2 = 3.01$ dB of PSNR, whatever the distribution. That is the price of a picture that could be
# a real one. With two modes, where all is exact:

# %%
least, toy = 1 + 0.1**2, {}  # variance of p(x | z), whose mean is 0
for count in (1, 2, 4, 8, 32, 128):
    y = flow.sample(two_modes, noise, count)
    ratio = 1 + y.square().mean().item() / least  # x is independent of y
    toy[count] = {
        "squared error / least": ratio,
        "PSNR lost, dB": 10 * math.log10(ratio),
        "within 0.3 of a mode, %": 100 * ((y.abs() - 1).abs() < 0.3).float().mean(),
    }
results.show({str(k): row for k, row in toy.items()}, ".2f", index="steps")

# %% [markdown] slideshow={"slide_type": "slide"}
# One step gives the mean. With more steps the answers move to the modes, and the error goes from one times the least to two times.
#
# ## On photographs
#
# Now real pictures, small enough to train on while you wait: grey blocks of 8 × 8 pixels, each decoded alone. The encoder is fixed
# and linear, so that we know what it keeps: the first three of a block's 64 DCT coefficients, its brightness and its two slopes.
# Both decoders see this latent, have the same network and take as many steps. The network predicts what the best guess from the
# spectrum alone leaves, as in {cite:t}`karras2022elucidating`, here by frequency.

# %%
B, C = 8, 3  # block side; numbers kept of B²
order = spectrum.zigzag_order(B)


def to_ranks(x):
    """Grey pictures (N, H, W) to their blocks' DCT by zigzag rank, (N, H/B, W/B, B²)."""
    return spectrum.block_dct(x, B).flatten(-2)[..., order]


def to_pictures(ranks):
    return spectrum.block_idct(ranks[..., order.argsort()].unflatten(-1, (B, B)))


def grey(split, side, count):
    crops = data.Photos(side, split, seed=seed, length=count)
    return data.stack(crops, range(count)).mean(1)  # (N, side, side)


blocks = to_ranks(grey("train", 64, n_crops)).flatten(0, 2).to(run.device)
mean, std = blocks.mean(0), blocks.std(0)


def encode(ranks):
    return ((ranks - mean) / std)[..., :C]


# %%
class Decoder(nn.Module):
    """What is left to say of a block, (n, B²), of its state, the time and the latent."""

    def __init__(self, width=256):
        super().__init__()
        self.time = TimeEmbedding(width)
        self.enter = nn.Linear(B * B + C, width)
        self.layers = nn.ModuleList(nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        ) for _ in range(2))  # fmt: skip
        self.leave = nn.Linear(width, B * B)
        nn.init.zeros_(self.leave.weight)

    def forward(self, state, t, z):
        h = self.enter(torch.cat([state, z], dim=-1)) + self.time(t)
        for layer in self.layers:
            h = h + layer(h)
        return self.leave(h)


# %%
def answer(network, z):
    """The Gaussian decoder: one answer to a latent."""
    nothing = z.new_zeros(len(z), B * B)
    return mean + std * network(nothing, z.new_ones(len(z)), z)


def velocity(network, y, t, z):
    """The diffusion decoder: the exact velocity of Gaussian blocks, corrected."""
    s = t[:, None]
    spread = ((1 - s) ** 2 * std**2 + s**2).sqrt()
    correction = network((y - (1 - s) * mean) / spread, t, z)
    return flow.gaussian_velocity(y, t, mean, std**2) + std / spread * correction


def gaussian_loss(network, x, generator):
    return (answer(network, encode(x)) - x).square().mean()


def flow_loss(network, x, generator):
    how = {"generator": generator, "device": generator.device}
    eps, t = torch.randn(x.shape, **how), torch.rand(len(x), **how)
    v = velocity(network, flow.interpolate(x, eps, t), t, encode(x))
    return (v - flow.target(x, eps)).square().mean()


# %%
def learn(loss):
    torch.manual_seed(seed)
    network = Decoder().to(run.device)
    settings = training.Settings(steps, seed, learning_rate=3e-3, warmup=20)

    def of_step(step, generator):
        where = generator.device
        drawn = torch.randint(
            len(blocks), (192,), generator=generator, device=where
        )
        return loss(network, blocks[drawn], generator)

    trained = training.train(network, of_step, settings, progress=False)
    network.load_state_dict(trained.ema)
    return network.eval().requires_grad_(False)


gaussian, diffusion = learn(gaussian_loss), learn(flow_loss)


# %% [markdown]
# To decode, start from noise and follow the velocity. The noise of a picture depends on the seed and on the picture's place
# alone. So the same call draws the same pictures again, and a picture does not change with the company that it is decoded in.


# %%
def decode(z, count, draw):
    """Ranks (N, h, w, B²) of latents (N, h, w, C), in so many steps, for a seed."""
    shape, flat = (*z.shape[1:3], B * B), z.flatten(0, 2)
    eps = draw_noise(draw, range(len(z)), shape, "decode").to(z).flatten(0, 2)
    y = flow.sample(lambda y, t: velocity(diffusion, y, t, flat), eps, count)
    return y.unflatten(0, z.shape[:3]).cpu()


held_out = grey("test", 96, n_held_out)  # of coffee and china
ranks = to_ranks(held_out)
z = encode(ranks.to(run.device))  # (N, 12, 12, C)
kept_only = torch.where(torch.arange(B * B) < C, ranks, mean.cpu())
averaged = answer(gaussian, z.flatten(0, 2)).unflatten(0, z.shape[:3]).cpu()

SEEDS, STEPS = (0, 1, 2), (1, 2, 4, 8, 16, 32)
drawn = {k: torch.stack([decode(z, k, draw) for draw in SEEDS]) for k in STEPS}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
columns = {"picture": ranks, "squared error": averaged, "flow, 1 step": drawn[1][0]}
columns |= {"flow, 32 steps": drawn[32][0], "again, other seed": drawn[32][1]}
figures.image_grid(
    {
        name: [to_pictures(made[i])[None] for made in columns.values()]
        for i, name in enumerate(("coffee", "china"))
    },
    list(columns),
    "Two photographs, a row each: as they are; by the decoder trained with the squared error, smooth and in visible blocks; by "
    "one step of the flow, the same blur; by 32 steps, rough where the photograph is rough and calmer where it is smooth; and "
    "the same with another seed, rough in the same places, with other texture.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Held-out photographs. Each block of 8 × 8 is decoded alone, hence the seams.*
#
# The squared error hardly improves on the three numbers themselves: they do not say which way a line in a block runs. One step of the
# flow is the same blur, {eq}`eq-decoder-one`. In 32 steps leaves and roofs are rough again, and the sky less so: *that* there is
# texture, the latent tells. Which, it does not: the other seed has another, and neither is that of the photograph.
#
# ## What is kept, what is invented
#
# Decode with several seeds. At each frequency, what they agree on is kept, and the variance over seeds is invented
# ({py:func}`~diffusab_core.metrics.invention.compare_seeds`); the two sum up to the energy of what is decoded.


# %%
def as_images(found):
    return to_pictures(found)[..., None, :, :].expand(*found.shape[:-3], 3, -1, -1)


@cache
def compare(count):
    return compare_seeds(as_images(ranks), as_images(drawn[count]))


twice = as_images(torch.stack([averaged, averaged]))
blurred = {"squared error": compare_seeds(as_images(ranks), twice).kept}


# %% slideshow={"slide_type": "subslide"}
def shown(steps, seed):
    return to_pictures(drawn[steps][seed, 1])[None]


decoder_explorer(held_out[1:2], shown, compare, blurred, STEPS, SEEDS, start=8)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Left, a held-out photograph; beside it what is drawn from its latent. Right, mean energies over all held-out blocks. Move the
# steps: with one, little is invented and the energy of detail is near that of the squared error; with more, the line of what is decoded
# climbs towards that of pictures, and nearly all of the climb is invention. (The share in the title counts ranks 1 and 2, too, which
# $z$ keeps and which hold most of the energy.) Then change the seed.*
#
# By bands of ranks, at 32 steps:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
bands = {"kept by z, 0–2": (0, 3), "3–15": (3, 16)}
bands |= {"16–31": (16, 32), "32–63": (32, 64)}
seen, of_mean = compare(32), blurred["squared error"]
table = {}
for name, (low, high) in bands.items():
    variance, kept, error, energy = (part[low:high].sum().item() for part in seen)
    table[name] = {
        "squared error: energy, %": 100 * of_mean[low:high].sum().item() / energy,
        "flow: energy, %": 100 * (variance + kept) / energy,
        "of it invented, %": 100 * variance / (variance + kept),
        "error / 2 variance": error / (2 * variance),
    }
results.show(table, ".3g", index="ranks")

# %% [markdown] slideshow={"slide_type": "slide"}
# *Energies in percent of the pictures' own.* What $z$ holds is kept. Above it the squared error leaves a small part of the energy, and
# the flow most of it at the coarser ranks and less at the finest: it was trained for seconds. Nearly all that it adds is invented. It
# has to be: the latent says nothing else.
#
# The last column is a test that needs no other model. For a perfect draw it is 1, by {eq}`eq-decoder-twice`. Above 1 the decoder is too
# sure: pictures differ from what it draws by more than its draws differ from each other. At the finest ranks it is.
#
# And the price. Squared errors against the least that we have, that of the decoder which was trained for it:

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
least_here = (averaged - ranks).square().mean().item()
price = {}
for count, made in drawn.items():
    ratio = (made - ranks).square().mean().item() / least_here
    price[count] = {
        "squared error / least": ratio,
        "PSNR lost, dB": 10 * math.log10(ratio),
    }
    run.metrics[f"squared_error_{count}"] = ratio
results.show({str(k): row for k, row in price.items()}, ".2f", index="steps")

# %% [markdown] slideshow={"slide_type": "slide"}
# Steps buy detail with error, on photographs as with two modes; after 32 of them the error is about twice that of the blur. (At one or
# two steps it lies above the blur's already: our flow's mean is not quite the least.) So **PSNR cannot judge such a decoder**, and a
# comparison by PSNR alone is won by the blur. Nor does a look decide: invented texture looks right and is wrong. In a picture to look
# at this does not matter. In one to measure from, a face, a number plate or a tumour, it does.
#
# ## The autoencoder
#
# In the book's own model ({py:mod}`~diffusab_core.autoencoders.diffusion`) the encoder is learned together with the decoder, with KL,
# {numref}`chap-kl`, and a perceptual distance $d$, times its weight, of the one-step estimate:
#
# $$
# L = \mathbb E\, \lVert v_\theta(x_t, t, z) - (\varepsilon - x) \rVert^2 + d(x, \hat x_0) + \beta\, L_\text{KL}, \qquad
# \hat x_0 = x_t - t\, v_\theta(x_t, t, z) .
# $$ (eq-decoder-loss)
#
# Only the first term has $p(x \mid z)$ as its least: the second asks the *mean* of what is left open, which $\hat x_0$ is, to look
# like a picture, and near noise the two disagree. The latent, enlarged by learned layers once for all steps, is added at each scale
# of a U-Net (`UNet-SIZE/PATCH`), or to the tokens of a transformer (`DiT-SIZE/PATCH`). Sizes and costs of one small design at
# $f = 16$, for a picture of 64 × 64:

# %%
shape = {"channels": (16, 24, 32, 40, 48), "norm_groups": 1, "latent_channels": 16}
kinds = {"squared error": {}, "against a discriminator": {"decoder": "gan"}}
for name in ("UNet-XXS/2", "DiT-XXS/4"):
    kinds[f"flow, {name}"] = {"decoder": "diffusion", "decoder_network": name}
sizes = {}
for name, kind in kinds.items():
    settings = Pretraining(**shape, **kind)
    autoencoder = pretraining.build(settings)
    _, adversary = decoders.join_adversary(autoencoder, settings)
    found = decoders.describe(autoencoder, adversary, 64)
    sizes[name] = {
        "decoder, 10³ parameters": found["decoder_parameters"] / 1e3,
        "discriminator": found.get("discriminator_parameters", 0) / 1e3,
        "decoding, 10⁶ multiply-adds": found["decoder_macs"] / 1e6,
    }
results.show(sizes, ".0f", index="trained by")

# %% [markdown] slideshow={"slide_type": "slide"}
# *Flows in 8 steps.* A GAN's discriminator is thrown away after training. The flow pays at each picture: in 8 steps of the small U-Net
# five times what a decoder of one pass does. The one-step estimate is a mean; to have a *sample* in one step, the decoder is distilled on
# pairs of noise and sample {cite}`luhman2021knowledge`. The model also learns a velocity without $z$, from one picture in ten, so that
# decoding can be guided {cite}`ho2022classifier`; guidance leaves $p(x \mid z)$, and with it all that is said above. The commands:
#
# ```bash
# diffusab train-autoencoder --decoder diffusion --latent-channels 4 --steps 2000 --out runs/my-dgae
# diffusab evaluate runs/my-dgae --decoder-steps 4
# ```
#
# ```{admonition} What the paper says
# :class: paper
#
# *After its abstract and the captions of its figures; the text of {cite:t}`liu2025dgae` could not be read.* The Gaussian decoder
# becomes a conditional diffusion model guided by $z$, trained by a denoising objective with KL and a perceptual loss and without a
# discriminator; the latent is to constrain $p(x \mid z)$ to the distribution of pictures. The authors report that this softens the loss of
# quality at high spatial compression, reaches the state of the art with a latent half the size, and lets a diffusion model on the
# latents converge faster on ImageNet. At f16 with ever fewer channels SD-VAE collapses and theirs keeps its fidelity (Fig. 4). A larger
# decoder helps, a larger encoder has little effect (Fig. 1b). Weights, times, networks and sizes are not in what we read: those of
# {eq}`eq-decoder-loss` are ours.
# ```
#
# ```{admonition} In other papers
# :class: paper
#
# *Read as abstracts.* **Decoders that denoise.** {cite:t}`zhao2025epsilon` replace the decoder by iterative denoising given the
# latent: 22% better generation at the same compression, or 2.3 times faster inference at a higher one. {cite:t}`birodkar2024sample`
# train a continuous encoder and decoder together by a diffusion loss, and find it easier to tune than a GAN; their title, *Sample what
# you can't compress*, says what this chapter measures. {cite:t}`shi2022divae` do it for discrete codes.
#
# **The price.** {cite:t}`blau2018perception` prove that as distortion falls, restored pictures must become easier to tell from real ones,
# whatever the measure of distortion. For the squared error {cite:t}`freirich2021theory` give the whole curve between the mean and the
# best answer that is distributed as pictures are.
# ```
#
# ## What is open
#
# **All of the paper's claims.** The three decoders on one encoder, latent and budget are prepared, with protocols that were written
# before any run, and not yet recorded: `diffusab sweep dgae_figure_04` (ever fewer channels), `dgae_figure_01` (f8, f16, f32),
# `dgae_figure_05` (larger decoder, larger encoder) and `dgae_downstream` (a denoiser on the latents of each).
#
# **Whether the latent becomes easier to learn.** A decoder that may invent lets an encoder drop what it cannot keep well. Which
# frequencies it then drops, and whether a denoiser gains, is the question that ties this to the rest of the book.
#
# ## To take away
#
# - The squared error asks for the mean of $p(x \mid z)$; at each frequency it lacks the energy that $z$ leaves open.
# - A flow given $z$ draws from $p(x \mid z)$. Its first step is the mean; its further steps add what is invented.
# - A perfect draw has twice the least squared error, 3 dB of PSNR. PSNR favours the blur.
# - Variance over seeds says what is invented; error over twice this variance says whether the decoder is too sure of itself.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} The absolute error ★
# :label: ex-decoder-absolute
#
# A decoder is trained by the mean absolute error instead. What does it answer for one pixel that is +1 with probability 0.7 and −1 with
# 0.3? Does it blur less?
# ```
#
# ````{solution} ex-decoder-absolute
# :class: dropdown
#
# The median: +1, a real value, though always the same one. For many pixels it takes the median of each alone, which need not fit
# together, and where $p(x \mid z)$ is symmetric around its mean, as for fine texture, the median is the mean: the blur stays.
# ````
#
# ```{exercise} A shrunk draw ★★
# :label: ex-decoder-shrunk
#
# Move every draw towards the mean, $y_s = m + s\,(y - m)$ with $0 \le s \le 1$. Give its squared error and the energy that it invents at
# a frequency, both as functions of $s$. Check with two modes. Which $s$ has 1 dB less PSNR than the mean?
# ```
#
# ````{solution} ex-decoder-shrunk
# :class: dropdown
#
# ```python
# for s in (0.0, 0.5, 1.0):
#     error = (s * walks[-1] - walks[-1].roll(1)).square().mean()  # two draws; the mean is 0
#     print(s, error / least, 1 + s**2)
# ```
#
# The error is $(1 + s^2)$ times the least, the invented energy $s^2 \mathrm{Var}(x_k \mid z)$. One decibel is
# $1 + s^2 = 10^{0.1} = 1.26$, $s = 0.51$: a quarter of the energy. There is no step at which it becomes free.
# ````
#
# ```{exercise} Averaging it back ★★★
# :label: ex-decoder-average
#
# Average $S$ draws of one latent. What is the expected squared error, in units of the least? Measure it on photographs for 1, 2 and
# 3 seeds with 32 steps. What does it say of the flow's own mean?
# ```
#
# ````{solution} ex-decoder-average
# :class: dropdown
#
# ```python
# for count in (1, 2, 3):
#     made = drawn[32][:count].mean(0)
#     print(count, (made - ranks).square().mean() / least_here, 1 + 1 / count)
# ```
#
# $1 + 1/S$: the mean has the variance over $S$, and is independent of $x$ given $z$. What the measured errors tend to is the error of
# the flow's mean, which need not be the least.
# ````
#
# ## What this chapter claims
#
# What the text says of this run, once more as conditions. When one fails, the sentence that it is quoted from has to be rewritten.

# %%
# "One step gives the mean"; "from one times the least to two times"; "3.01 dB"
rows = [row["squared error / least"] for row in toy.values()]
assert abs(rows[0] - 1) < 1e-3
assert rows == sorted(rows)
assert abs(toy[128]["PSNR lost, dB"] - 3.01) < 0.1
assert toy[1]["within 0.3 of a mode, %"] == 0
assert toy[32]["within 0.3 of a mode, %"] > 95
# "the same call draws the same pictures again"; "does not change with the company"
assert torch.equal(decode(z, 4, 0), drawn[4][0])
assert torch.allclose(decode(z[:1], 4, 0), drawn[4][0, :1], atol=1e-4)
# "five times what a decoder of one pass does"
macs = {name: row["decoding, 10⁶ multiply-adds"] for name, row in sizes.items()}
assert 4.5 < macs["flow, UNet-XXS/2"] / macs["squared error"] < 5.5

# %%
errors = {count: row["squared error / least"] for count, row in price.items()}
of_z, *detail = table.values()
if size != "smoke":
    # "hardly improves on the latent itself"; "What z holds is kept"
    assert 0.9 < least_here / (kept_only - ranks).square().mean() < 1.02
    assert abs(of_z["flow: energy, %"] - 100) < 3
    assert of_z["of it invented, %"] < 3
    # "a small part"; "most of it at the coarser ranks and less at the finest"
    assert all(row["squared error: energy, %"] < 20 for row in detail)
    shares = [row["flow: energy, %"] for row in detail]
    assert shares[0] > 75 > shares[2]
    assert shares[1] > 50

# %%
if size != "smoke":
    # "Nearly all that it adds is invented"; "At the finest ranks it is" too sure
    assert all(row["of it invented, %"] > 85 for row in detail)
    assert detail[2]["error / 2 variance"] > 1.3
    # "Steps buy detail with error"; "about twice"; "above the blur's already"
    assert errors[2] < errors[4] < errors[8] < errors[32]
    assert 1.6 < errors[32] < 2.4
    assert 1 < errors[2] < 1.35
    # "*that* there is texture, the latent tells": more of it in the rougher half of blocks
    rough = ranks[..., C:].square().mean(-1)
    made = drawn[32][..., C:].square().mean((0, -1))
    assert (
        made[rough > rough.median()].mean()
        > 1.5 * made[rough <= rough.median()].mean()
    )
    # "with one, little is invented"
    assert compare(1).variance[C:].sum() < 0.1 * seen.energy[C:].sum()

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
more = compare(2).variance.sum() < seen.variance.sum()
print("numbers kept of a block:                ", C, "of", B * B)
print("two modes, one step, error / least:     ", round(rows[0], 1))
print("two modes, 128 steps, error / least:    ", round(rows[-1], 1))
print("more steps, more error:                 ", errors[2] < errors[32])
print("more steps, more invented:              ", more.item())
print("multiply-adds of the flow, in millions: ", round(macs["flow, UNet-XXS/2"]))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
