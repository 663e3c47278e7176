# ---
# jupyter:
#   book:
#     needs: []
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
# (chap-latent-diffusion)=
# # Latent diffusion from nothing
#
# **In short.** Latent diffusion is two networks, an autoencoder and a model of its latents, and both can be small enough to
# train while you watch. Shuffle the positions of the latents: compression and reconstruction stay as they are, bit for bit,
# and the same training ends in confetti. What has changed is **diffusability**, the subject of this book.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
model: str = "kl-f4c16"  # a shipped name, a diffusers folder or a hub id
n_crops: int = 2048  # crops of the training photographs, whose latents are modelled
n_unseen: int = 512  # further crops, for comparison only
toy_steps: int = 1200  # training steps on points in the plane
latent_steps: int = 300  # training steps of the denoiser on latents
arm_steps: int = 100  # training steps of each arm of the comparison at the end
n_seeds: int = 3  # seeds of that comparison
n_samples: int = 256  # samples that each arm is judged by
record_path: str = ""  # where to write the run record; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import math

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.flow import film_strip, flow_explorer, sampling_explorer  # fmt: skip
from diffusab_core import autoencoders, data, flow, metrics, spectrum

resolution = 32  # crops that are modelled; at f4 their latents are 8 × 8
run = chapters.start(
    "01_latent_diffusion",
    globals(),
    data=f"{n_crops} + {n_unseen} crops of {resolution}² from the training photographs; 64 held-out crops of 64²",
)
autoencoder = autoencoders.load(model)
f, C = autoencoder.compression, autoencoder.latent_channels


def shuffle(z, order):
    """The positions of latents (N, C, h, w) in another order, the same for all."""
    return z.flatten(2)[..., order].unflatten(2, z.shape[2:])


# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
photo = data.photo("china")[None, :, 40:232, 140:332]  # (1, 3, 192, 192), held out
with torch.no_grad():
    z = autoencoder.encode(photo).mean  # (1, C, 48, 48)
    order = torch.randperm(
        z[0, 0].numel(), generator=torch.Generator().manual_seed(0)
    )
    apart = shuffle(z, order)
    put_back = autoencoder.decode(shuffle(apart, order.argsort()))


def three_channels(z):
    """The three channels that vary most, as red, green and blue."""
    most = z[0].var((1, 2)).argsort(descending=True)[:3]
    colours = z[0, most] / z[0, most].std((1, 2), keepdim=True) / 2
    return colours.repeat_interleave(f, 1).repeat_interleave(f, 2)


figures.images(
    [photo[0], three_channels(z), three_channels(apart), put_back[0]],
    ["photograph", "its latent", "shuffled", "decoded from either"],
    alt="A photograph of a pavilion; three channels of its latent, in which it can be seen; the same numbers with their "
    "positions shuffled, which look like noise; and the picture that is decoded from either latent, which shows the pavilion.",
    height=230,
)

# %% [markdown] slideshow={"slide_type": "slide"}
# A photograph, and three of the sixteen channels of its latent in false colours. Beside it the same numbers with their positions
# shuffled. If you know the permutation, you can undo it before decoding: both latents give back the picture on the right.
# Which of the two would you rather learn to make?
#
# Most pictures that a machine paints today are made in two steps {cite}`rombach2022high`. An **autoencoder** turns
# images into smaller arrays of numbers, called latents, and back. A **diffusion model** then learns to make new
# latents, and the decoder turns them into pictures. This chapter builds both steps small enough to watch, and ends with
# the question that the rest of the book is about: what makes a latent good *for the second step*?
#
# ![The whole chain in three rows. First, the autoencoder is trained: a picture goes through the encoder to a latent, a small
# grid of numbers, and through the decoder to a copy. Second, the denoiser is trained: noise is added to the latent of a picture,
# and the denoiser guesses noise minus latent. Third, a new picture is made: the denoiser turns noise into a new latent in
# many small steps, and the decoder turns that into a picture.](../book/drawings/chain.svg)
#
# *The whole chain. Networks with a dashed outline are not trained in that row. Row 1 asks for reconstruction, and the size of the
# latent is the compression. How hard row 2 is, for latents of this kind, is their diffusability; row 3 shows the outcome.*
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - say how few numbers an autoencoder keeps and how well it gives an image back;
# - write down the path, the target and the training loop of a rectified flow, and say what its network learns;
# - sample from it with Euler's method and say what more steps buy;
# - explain why a training loss says nothing about which of two latent spaces is better;
# - tell reconstruction, compression and diffusability apart by an experiment that holds the first two fixed.
# ```

# ## An autoencoder is two functions
#
# An encoder maps an image $x$ of $3 \times H \times W$ numbers to a latent $z = \mathrm{Enc}(x)$ of
# $C \times h \times w$ numbers; a decoder maps it back, $\hat x = \mathrm{Dec}(z)$. With $f = H/h = W/w$ the two are
# usually named by $f$ and $C$: "f4c16" has a latent of a quarter of the image's height and width and 16 channels.
#
# The simplest autoencoder that deserves the name needs no training loop. Cut the image into patches of $4 \times 4$
# pixels, 48 numbers each; keep the coordinates along the 16 directions in which patches of photographs vary most (their
# principal components), and forget the other 32. That, too, is an f4c16 autoencoder, and no other *linear* one has a
# smaller squared error on the patches it was fitted to.

# %%
crops = data.Photos(resolution, split="train", seed=seed, length=n_crops + n_unseen)
images = data.stack(crops, range(n_crops))  # (n, 3, 32, 32) in [-1, 1]
unseen = data.stack(crops, range(n_crops, n_crops + n_unseen))


def patches(x):
    """(N, 3, H, W) → (N, 3f², h · w): the pixels of each patch in a column."""
    return F.unfold(x, f, stride=f)


columns = patches(images).transpose(1, 2).flatten(0, 1)  # (n · h · w, 3f²)
centre = columns.mean(0)[:, None]
axes = torch.linalg.eigh(columns.T.cov()).eigenvectors.flip(1)  # most varied first
directions = axes[:, :C].T  # (C, 3f²)


# %%
def linear_encode(x):
    height, width = x.shape[2] // f, x.shape[3] // f
    return (directions @ (patches(x) - centre)).unflatten(2, (height, width))


def linear_decode(z):
    size = (z.shape[2] * f, z.shape[3] * f)
    return F.fold(directions.T @ z.flatten(2) + centre, size, f, stride=f)


@torch.no_grad()
def encode(x):
    return torch.cat([autoencoder.encode(batch).mean for batch in x.split(128)])


@torch.no_grad()
def decode(z):
    pictures = torch.cat([autoencoder.decode(batch) for batch in z.split(128)])
    return pictures.clamp(-1, 1)


# %% [markdown]
# Beside it stands the small neural autoencoder that comes with this book, a convolutional one of 0.4 million
# parameters. Its encoder gives a Gaussian for each latent number rather than the number itself {cite}`kingma2013auto`;
# here we always take the mean. Both are asked to give back pieces of two photographs that neither was fitted to.

# %%
held_out = data.stack(data.Photos(64, split="test", seed=seed), range(64))
rebuilt = {
    "linear": linear_decode(linear_encode(held_out)),
    autoencoder.name: decode(encode(held_out)),
}
figures.images(
    [figures.mosaic(x[:4], 2) for x in (held_out, *rebuilt.values())],
    ["held-out crops", *rebuilt],
    alt="Four crops of held-out photographs, and beside them what the linear and the neural autoencoder give back. The "
    "pictures look alike; fine texture is softer in the reconstructions.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
decibel = {name: metrics.psnr(x, held_out).item() for name, x in rebuilt.items()}
latent_shape = autoencoder.latent_shape(resolution, resolution)
numbers = {"image": images[0].numel(), "latent": math.prod(latent_shape)}
run.metrics |= {
    "psnr_db_linear": decibel["linear"],
    "psnr_db_autoencoder": decibel[autoencoder.name],
}
results.show(
    {
        name: {
            "numbers in": numbers["image"],
            "numbers kept": numbers["latent"],
            "compression": f"{numbers['image'] / numbers['latent']:.3g} ×",
            "PSNR, dB": db,
        }
        for name, db in decibel.items()
    },
    ".1f",
    index="autoencoder",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**: numbers in a crop of 32 × 32 pixels and in its latent, and the reconstruction of held-out crops of 64 × 64.
#
# **Compression** is a count, **reconstruction** a distance, here the peak signal-to-noise ratio
# $-10\log_{10}\operatorname{mean}(x-\hat x)^2$ of images in $[0, 1]$. Do not be surprised if the linear autoencoder
# wins. At so mild a compression a linear map is hard to beat, and the network has seen five photographs. What networks
# are built for begins where this comparison ends: stronger compression (in FluxAE, the paper's first autoencoder, twelve
# numbers become one) and losses that ask for plausible texture instead of the smallest squared error.
#
# ## Rectified flow: a straight path and an average
#
# Now the second step: given examples $x_0$ of some distribution, learn to draw new ones. Start from what is easy to
# draw, white noise $\varepsilon \sim \mathcal N(0, I)$, and join each example to a noise by a straight line,
#
# $$ x_t = (1-t)\,x_0 + t\,\varepsilon, \qquad \frac{\mathrm d x_t}{\mathrm d t} = \varepsilon - x_0 . $$ (eq-rf-path)
#
# Time $t=0$ is data, $t=1$ is noise. If you knew the pair, you could walk back along the line. A network
# $v_\theta(x, t)$ sees neither end, only the point; it is trained to guess the direction all the same:
#
# $$
# \mathcal L(\theta)
# = \mathbb E_{x_0, \varepsilon, t}\, \bigl\lVert v_\theta(x_t, t) - (\varepsilon - x_0) \bigr\rVert^2 .
# $$ (eq-rf-loss)
#
# **What does it learn?** Many lines pass through the same point $x$ at the same time. Write $u = \varepsilon - x_0$ and
# $v(x,t) = \mathbb E[u \mid x_t = x]$, the average over all of them. For any guess $g$,
#
# $$
# \begin{aligned}
# &\mathbb E\bigl[\lVert g - u\rVert^2 \mid x_t = x\bigr] \\
# &\quad = \lVert g - v(x,t) \rVert^2 + \mathbb E\bigl[\lVert u - v(x,t)\rVert^2 \mid x_t = x\bigr],
# \end{aligned}
# $$ (eq-rf-split)
#
# because the cross term $2\,(g - v)\cdot\mathbb E[v - u \mid x_t = x]$ vanishes. The second term does not depend on
# $g$, so the best guess is the **conditional mean** $v(x, t)$, and the best loss is the second term, which is *not
# zero*: the point does not tell which line it is on.
#
# **Why is an average enough?** Let a cloud of points move by $\dot x = v(x,t)$. For any smooth test function $\varphi$
#
# $$
# \begin{aligned}
# \frac{\mathrm d}{\mathrm d t}\,\mathbb E[\varphi(x_t)]
# &= \mathbb E[\nabla\varphi(x_t)\cdot u] \\
# &= \mathbb E[\nabla\varphi(x_t)\cdot v(x_t, t)],
# \end{aligned}
# $$
#
# where the last step conditions on $x_t$. The left side is how the distribution of $x_t$ changes when every pair walks
# its own line, the right side how it changes when every point follows the average velocity. They agree at every time:
# single points take other ways, but the *cloud* is the same {cite}`esser2024scaling`. So start from noise at $t=1$ and
# integrate $\dot x = v$ down to $t=0$.
#
# In code this is one training loop, and the same loop serves every data set of this chapter.


# %%
def train(network, examples, steps, batch=64, rate=2e-3, seed=0):
    """Descend the loss of rectified flow; returns its value at every step."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), rate, betas=(0.9, 0.99))
    schedule = OneCycleLR(optimizer, rate, total_steps=steps)
    losses = []
    for _ in range(steps):
        x = examples[torch.randint(len(examples), (batch,), generator=generator)]
        noise = torch.randn(x.shape, generator=generator)
        t = torch.rand(batch, generator=generator)
        guess = network(flow.interpolate(x, noise, t), t)
        loss = (guess - flow.target(x, noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    network.eval()
    return losses


def clock(t):
    """Time as ten smooth features: (N,) → (N, 10)."""
    angle = math.pi * torch.arange(1, 6) * t[:, None]
    return torch.cat([angle.sin(), angle.cos()], 1)


# %% [markdown]
# ### Two dimensions
#
# First a distribution that can be seen whole: points along a spiral. The network is a small multilayer perceptron.


# %%
class Velocity(nn.Module):
    """A velocity in the plane: (N, 2) and (N,) → (N, 2)."""

    def __init__(self, width=96):
        super().__init__()
        sizes = [(2 + 10, width), (width, width), (width, width)]
        hidden = [layer for a, b in sizes for layer in (nn.Linear(a, b), nn.SiLU())]
        self.net = nn.Sequential(*hidden, nn.Linear(width, 2))

    def forward(self, x, t):
        return self.net(torch.cat([x, clock(t)], 1))


def spiral(n, generator):
    angle = math.pi * (0.6 + 2.9 * torch.rand(n, generator=generator).sqrt())
    radius = angle / math.pi / 1.75
    curve = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return curve + 0.04 * torch.randn(n, 2, generator=generator)


# %% slideshow={"slide_type": "subslide"}
generator = torch.Generator().manual_seed(seed)
points = spiral(4096, generator)
torch.manual_seed(seed)
toy = Velocity()
train(toy, points, toy_steps, batch=512, rate=5e-3, seed=seed)
toy_noise = torch.randn(1000, 2, generator=generator)
flow_explorer(toy, points[:400], toy_noise[:150])

# %% [markdown]
# At first all points move towards the middle of the data, since a point that is nearly pure noise could have come from
# anywhere, and the average of anywhere is the mean. Later the cloud takes shape, and each point has to decide for an
# arm. The lines of {eq}`eq-rf-path` are straight, the paths of the average velocity are not. That is why the number of
# steps matters: **Euler's method** holds the velocity fixed over a step, $x_{t-h} = x_t - h\,v(x_t, t)$, and cuts the
# curves.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def miss(samples):
    """The mean distance to the nearest, from samples to data and from data to samples."""
    apart = torch.cdist(samples, points)
    return (apart.min(1).values.mean() + apart.min(0).values.mean()).item() / 2


missed = {k: miss(flow.sample(toy, toy_noise, k)) for k in (1, 2, 4, 8, 16, 64)}
run.metrics |= {f"toy_distance_{k}_steps": v for k, v in missed.items()}
by_steps = {f"{k}": v for k, v in missed.items()}
fresh = {"fresh points": miss(spiral(1000, generator)), "noise": miss(toy_noise)}
results.show({"distance": by_steps | fresh}, ".3f", index="Euler steps")

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**: the mean distance from each of 1 000 samples to the nearest data point and from each data point to the
# nearest sample, averaged; below the same for as many fresh points of the spiral, and for noise. One or two
# steps end farther off than they began: they move all points to the middle, where the spiral has few.
#
# ### A check where everything is known
#
# For Gaussian data, $x_0 \sim \mathcal N(m, \sigma^2)$ in each dimension, the conditional mean can be computed, because
# $x_t$ and $u$ are jointly Gaussian. With $V_t = (1-t)^2\sigma^2 + t^2$, the variance of $x_t$,
#
# $$
# \begin{gathered}
# v(x,t) = -m + \frac{t-(1-t)\sigma^2}{V_t}\,\bigl(x-(1-t)m\bigr), \\
# \operatorname{Var}[u \mid x_t] = \frac{\sigma^2}{V_t} .
# \end{gathered}
# $$ (eq-rf-gauss)
#
# The second is the loss that no network can go below. (Points in the figure may: they are averages over 8 000 draws.) Averaged over $t$
# from 0 to 1 it is an integral with a short answer (substitute $q = t/(1-t)$):
#
# $$
# \int_0^1 \frac{\sigma^2}{(1-t)^2\sigma^2 + t^2}\,\mathrm d t
# = \int_0^\infty \frac{\sigma^2}{\sigma^2+q^2}\,\mathrm d q = \frac{\pi}{2}\,\sigma .
# $$ (eq-rf-floor)
#
# So we can train the same network on Gaussian data and see how far it is from the truth.

# %%
mean, sigma = torch.tensor([0.5, -0.5]), torch.tensor([1.0, 0.3])
gaussian = mean + sigma * torch.randn(4096, 2, generator=generator)
torch.manual_seed(seed)
learned = Velocity()
train(learned, gaussian, toy_steps // 2, batch=512, rate=5e-3, seed=seed)

times = torch.linspace(0.02, 0.98, 33)
measured, floor = [], []
wrong = total = 0.0
for t in times:
    x0 = mean + sigma * torch.randn(8000, 2, generator=generator)
    noise = torch.randn(8000, 2, generator=generator)
    xt = flow.interpolate(x0, noise, t)
    with torch.no_grad():
        guess = learned(xt, t.expand(len(xt)))
    exact = flow.gaussian_velocity(xt, t, mean, sigma**2)
    wrong += (guess - exact).square().mean().item()
    total += exact.square().mean().item()
    measured.append((guess - flow.target(x0, noise)).square().mean().item())
    floor.append((sigma**2 / ((1 - t) ** 2 * sigma**2 + t**2)).mean().item())
off = run.metrics["gaussian_velocity_error"] = wrong / total

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.lines(
    {"smallest possible, σ²/V": floor, "trained network": measured},
    x=times,
    styles={"trained network": {"mode": "markers"}},
    xlabel="time t",
    ylabel="loss per dimension",
    height=340,
    alt="Loss against time for Gaussian data. The dots of the trained network scatter closely about the curve of the smallest "
    "possible loss, which has a maximum between the two ends and is nowhere zero.",
).update_yaxes(rangemode="tozero")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
average, least = sum(measured) / len(measured), sum(floor) / len(floor)
results.show(
    {
        "error of the learned velocity, % of its energy": f"{100 * off:.1f}",
        "mean loss": f"{average:.3f}",
        "the smallest possible": f"{least:.3f}",
    }
)

# %% [markdown] slideshow={"slide_type": "slide"}
# {eq}`eq-rf-floor` carries a warning. The attainable loss of Gaussian data, per dimension, is $\frac{\pi}{2}$ times the
# mean of the standard deviations along its principal axes: it depends on the *scale* of the data, and at a fixed total
# variance on how the variance is shared out. It is largest when all directions have the same share, that is for white
# data; and a Gaussian has the largest one of all distributions with its covariance, since for any other distribution the best linear guess
# reaches the same loss, and a nonlinear one may do better. So among all data of unit variance, white noise has the *highest* loss,
# and yet there is nothing easier to generate. **A loss compares two networks on one latent space. It does not compare
# two latent spaces.**
#
# ## The same on latents
#
# Nothing in the loop knows about dimension two. The data are now latents of small crops, brought to zero mean and unit
# variance per channel, so that data and noise have the same scale. They need another network, because neighbouring positions are
# correlated: a few convolutions with residual connections, with time added to the features and a learned bias for each position. For
# white data of unit variance {eq}`eq-rf-gauss` is the exact answer. The network adds its own output to that answer, and begins with an
# output of zero. So before training it generates white noise, and it learns how latents differ from it. (Large models use a transformer
# here; {numref}`chap-denoiser` builds one.)


# %%
def residual(width):
    """Two convolutions, to be added to what goes in."""
    first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
    return nn.Sequential(
        nn.GroupNorm(8, width), nn.SiLU(), first, nn.SiLU(), second
    )


# %%
class Denoiser(nn.Module):
    """A velocity of latents: (N, C, h, w) and (N,) → (N, C, h, w)."""

    def __init__(self, channels, side, width=32, blocks=2):
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.place = nn.Parameter(0.02 * torch.randn(1, width, side, side))
        self.time = nn.ModuleList(nn.Linear(10, width) for _ in range(blocks))
        self.blocks = nn.ModuleList(residual(width) for _ in range(blocks))
        self.leave = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x, t):
        h = self.enter(x) + self.place
        for time, block in zip(self.time, self.blocks, strict=True):
            h = h + block(h + time(clock(t))[..., None, None])
        return flow.gaussian_velocity(x, t, 0.0, 1.0) + self.leave(h)


# %%
def standardiser(z):
    """Maps to zero mean and unit variance per channel, and back."""
    shift, scale = z.mean((0, 2, 3), keepdim=True), z.std((0, 2, 3), keepdim=True)
    return lambda z: (z - shift) / scale, lambda z: z * scale + shift


latents = encode(images)  # (n, C, 8, 8)
side = latents.shape[-1]
to_unit, from_unit = standardiser(latents)

torch.manual_seed(seed)
denoiser = Denoiser(C, side, width=48)
losses = train(denoiser, to_unit(latents), latent_steps, seed=seed)
n_parameters = sum(p.numel() for p in denoiser.parameters())
print(f"{n_parameters} parameters, {latent_steps} steps of 64 latents")

# %% slideshow={"slide_type": "subslide"}
generator = torch.Generator().manual_seed(seed)
noise = torch.randn(36, C, side, side, generator=generator)
samples = decode(from_unit(flow.sample(denoiser, noise, 32)))
shown = (unseen[:36], decode(encode(unseen[:36])), samples)
figures.images(
    [figures.mosaic(x, 6) for x in shown],
    ["crops", "encoded and decoded", "samples"],
    alt="Three mosaics of 36 small pictures: crops of photographs, the same encoded and decoded, and samples of the small "
    "latent diffusion model, which have colours and smooth patches like the crops but hardly any objects.",
)

# %% [markdown]
# This is what a few seconds of training buy: colours that go together, smooth regions beside rough ones, here and there
# an edge, nothing you could name. Five photographs and a network of this size hold no more. It *is* latent
# diffusion, with all parts in place; the later chapters replace each part by a serious one.
#
# Move time from 1 to 0. On the right is the model's estimate of the clean latent, $\hat x_0 = x_t - t\,v(x_t,t)$, which
# for the exact velocity is $\mathbb E[x_0\mid x_t]$: first the mean of everything, the same for all samples, then
# layout, then detail. (Here the first estimates are patterns that differ from sample to sample: so far off is this network where it sees
# nothing but noise.) {numref}`chap-autoregression` explains this order. The page {doc}`Your own picture </book/own_picture>` shows what
# noise leaves of your own picture.

# %% slideshow={"slide_type": "subslide"}
sampling_explorer(denoiser, lambda z: decode(from_unit(z)), noise[:16])

# %% [markdown] slideshow={"slide_type": "slide"}
# The same as a film strip, for one sample. Below the whole estimate it stands in three bands: waves of more than 16 pixels,
# of 16 to 8, and shorter ones. (The last two rows are made as strong as a picture can show them.) The curves say how much of
# its final form each band has at a time, over all 16 samples: 1 at the end, 0 where an estimate is no better than the mean of all
# final pictures, and below 0 where it is worse.

# %% slideshow={"slide_type": "subslide"}
strip = film_strip(denoiser, lambda z: decode(from_unit(z)), noise[:16])
strip

# %% [markdown]
# The coarse waves settle while nearly everything else is noise, the fine ones last. Nobody has told the network to work in
# this order.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Three different things
#
# ```{admonition} In the paper
# :class: paper
#
# {cite:t}`skorokhodov2025improving` argue in their introduction that work on autoencoders has aimed at reconstruction
# and at compression, and that a third factor decides as well whether a latent diffusion model is any good:
# **diffusability**, which they define as how easily a distribution can be modelled by diffusion. Poor reconstruction
# bounds the quality of what can be generated, poor compression makes it slow, poor diffusability calls for larger
# diffusion models. Their evidence is with autoencoders of 44 to 419 million parameters and diffusion transformers
# trained for hundreds of thousands of steps, judged by FID. The experiment below is not theirs. It asks only whether
# the three can come apart.
# ```
#
# Take the latents as they are, and take them again with their $8 \times 8$ positions shuffled, by one fixed permutation
# for all images. The permutation is known, so it is undone before decoding, and both latent spaces have *the same*
# compression and *the same* reconstruction, bit for bit. If reconstruction and compression were all there is to a latent
# space, a diffusion model should not care. As a third arm take the linear autoencoder: the same compression again,
# another reconstruction.
#
# The same network is trained on each, from the same initial weights, with the same crops and the same number of steps,
# for several seeds (each with its own weights, noise and permutation; the crops stay the same). The samples are then
# decoded and compared with *reconstructions* of unseen crops by the same autoencoder, so that reconstruction does not
# enter. Two distances are measured:
#
# - **layout**: the Fréchet distance between the means and covariances of $4\times4$ thumbnails,
#   $\lVert \mu_1-\mu_2\rVert^2 + \operatorname{tr}\bigl(\Sigma_1+\Sigma_2-2(\Sigma_1\Sigma_2)^{1/2}\bigr)$,
#   which is FID with the thumbnail in the place of a network;
# - **texture**: how far, in powers of ten, the energies of the samples' $8\times 8$ DCT coefficients are from those of
#   the reconstructions, on average over all ranks but the first (the DCT is the subject of {numref}`chap-dct`).


# %%
def thumbnails(x):
    return data.resize_to(x, 4, 4).flatten(1).double()  # (N, 48)


def energies(x):
    """Mean energy of each DCT coefficient, (63,), without the blocks' means."""
    squares = spectrum.block_dct(data.rgb01(x), 8).square()  # (N, 3, h, w, 8, 8)
    return squares.mean((0, 1, 2, 3)).flatten()[1:]


def compare(pictures, reference):
    """Layout and texture distance of pictures from reference pictures."""
    x, y = thumbnails(pictures), thumbnails(reference)
    gaussians = x.mean(0), x.T.cov(), y.mean(0), y.T.cov()
    texture = (energies(pictures) / energies(reference)).log10().abs().mean().item()
    return float(metrics.frechet_distance(*gaussians)), texture


# %%
linear_latents = linear_encode(images)
linear_to_unit, linear_from_unit = standardiser(linear_latents)
linear_references = linear_decode(linear_encode(unseen)).clamp(-1, 1)
neural_references = decode(encode(unseen))


def linear_pictures(z):
    return linear_decode(linear_from_unit(z)).clamp(-1, 1)


def spaces(order):
    """For each arm: training latents, samples to images, what they are compared with."""
    plain, undo = to_unit(latents), order.argsort()
    return {
        "latents": (plain, lambda z: decode(from_unit(z)), neural_references),
        "latents, shuffled": (
            shuffle(plain, order),
            lambda z: decode(from_unit(shuffle(z, undo))),
            neural_references,
        ),
        "linear latents": (
            linear_to_unit(linear_latents), linear_pictures, linear_references,
        ),
    }  # fmt: skip


# %%
rows, shown = [], {}
for s in range(seed, seed + n_seeds):
    order = torch.randperm(side * side, generator=torch.Generator().manual_seed(s))
    generator = torch.Generator().manual_seed(1000 + s)
    start = torch.randn(n_samples, C, side, side, generator=generator)
    for arm, (examples, to_images, reference) in spaces(order).items():
        torch.manual_seed(s)
        network = Denoiser(C, side)
        train(network, examples, arm_steps, seed=s)
        pictures = to_images(flow.sample(network, start, 32))
        layout, texture = compare(pictures, reference)
        rows.append({"arm": arm, "seed": s, "layout": layout, "texture": texture})
        shown.setdefault(arm, pictures[:36])
arms = pd.DataFrame(rows)

back = shuffle(shuffle(latents[:32], order), order.argsort())
same_pictures = torch.equal(decode(back), decode(latents[:32]))

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.images(
    [figures.mosaic(x, 6) for x in shown.values()],
    list(shown),
    alt="Three mosaics of samples. From the latents: smooth coloured patches. From the shuffled latents: confetti, small "
    "patches that do not continue into each other. From the linear latents: coarse colour clouds with blocky grain.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
for arm, of_arm in arms.groupby("arm", sort=False):
    key = arm.replace(", ", "_").replace(" ", "_")
    for name in ("layout", "texture"):
        run.metrics[f"{name}_{key}"] = of_arm[name].mean()
        run.series[f"{name}_{key}"] = of_arm[name].tolist()
distances = {"layout": ("layout", ".2f"), "texture": ("texture", ".2f")}
results.table(arms, distances, control="latents")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
real, linear_real = latents[:n_samples], linear_latents[:n_samples]
neural_best = compare(decode(real), neural_references)
linear_best = compare(linear_decode(linear_real), linear_references)
names = ("layout of real latents", "texture of real latents")
given = {"numbers": numbers["latent"]}
neural = given | {"PSNR, dB": f"{decibel[autoencoder.name]:.1f}"}
neural |= dict(zip(names, neural_best, strict=True))
linear = given | {"PSNR, dB": f"{decibel['linear']:.1f}"}
linear |= dict(zip(names, linear_best, strict=True))
table = {"latents": neural, "latents, shuffled": neural, "linear latents": linear}
results.show(table, ".2f", index="latent space")

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**: in the first table the mean ± standard deviation over the seeds of training, and below each number the
# paired difference to the latents as they are, with its 95% interval. In the second, what each space is given, and what *real* latents
# reach: as many training crops, encoded and decoded, against the unseen ones.
#
# How to read them:
#
# - The first two rows agree in compression and reconstruction *by construction*. What differs between them can only be
#   diffusability. Shuffled, the samples are farther off in both distances. Nor is information lost: a larger network, or more steps, may well learn the shuffled latents too (their smallest possible loss is the same, since a permutation maps white
#   noise to white noise). "Easily" is the word that matters in the definition: this network, in these steps, profits from
#   neighbours that resemble each other. For a network without neighbourhoods the two would be alike, see {ref}`ex-blind`.
#   Diffusability belongs to a latent space *together with* a family of denoisers.
# - The third row has another reconstruction and other samples, and the order of one need not be the order of the other: it gives
#   pictures back better by 9 dB, and in the layout of samples these seeds do not tell the two apart. The two distances need not agree
#   either. "Easy to model" is not one number; {numref}`chap-pays`
#   measures it with larger denoisers and with the metrics of the field.
# - The shuffle is a caricature, chosen because it leaves the other two exactly where they are. Real autoencoders do not
#   shuffle; what they do to neighbours is more subtle, and some of it shows in the **spectrum** of the latent. That is
#   where {numref}`chap-dct` begins.
#
# ## To take away
#
# - An autoencoder is judged by two numbers that are easy to get: how few numbers it keeps, and how well it gives pictures
#   back. Diffusability is a third, and cannot be computed from these two.
# - A rectified flow learns the average direction from data to noise. Its best loss is not zero, and it depends on the data;
#   so **losses do not compare latent spaces**.
# - Sampling settles coarse waves first and fine ones last, although nothing in the loss says so.
# - To test a claim about diffusability, hold reconstruction and compression fixed. A shuffle that is undone before decoding
#   does just that.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} Fewer steps, better placed ★★
# :label: ex-steps
#
# Sample the spiral with 2, 4 and 8 Euler steps. Then spend the same number of calls of the network on Heun's method
# (`method="heun"`, two calls a step), and move Euler's steps with a time shift (`shift=0.5` spends more of them near
# the data, `shift=2` near the noise). Which of the three helps?
# ```
#
# ````{solution} ex-steps
# :class: dropdown
#
# ```python
# for calls in (2, 4, 8):
#     row = [miss(flow.sample(toy, toy_noise, calls, shift=s)) for s in (0.5, 1.0, 2.0)]
#     row.append(miss(flow.sample(toy, toy_noise, calls // 2, method="heun")))
#     print(calls, " ".join(f"{v:.3f}" for v in row))
# ```
#
# More steps always help, but where they are matters, too. Near the noise all paths head for the mean of the data and
# are nearly straight: steps spent there are wasted. The turns come later, where a point chooses an arm. In a run at
# size `laptop` with 4 calls, the shifts 0.5, 1 and 2 left distances of 0.080, 0.083 and 0.156. Heun's error falls
# faster *once steps are small*: with 2 calls it did better than Euler (0.197 against 0.257), with 4 and 8 it did not,
# because two or four long steps jump over the turns.
# ````
#
# ```{exercise} Compression against reconstruction ★
# :label: ex-linear
#
# Draw the PSNR of the linear autoencoder on `held_out` against the number of channels it keeps, from 1 to 48. How many
# channels does it need for the PSNR of the shipped network? Where does the curve end, and what would a diffusion model
# gain from going there?
# ```
#
# ````{solution} ex-linear
# :class: dropdown
#
# ```python
# basis = torch.linalg.eigh(columns.T.cov()).eigenvectors.flip(1).T  # (48, 48)
# for kept in (1, 2, 4, 8, 16, 32, 47, 48):
#     coordinates = basis[:kept] @ (patches(held_out) - centre)
#     back = F.fold(basis[:kept].T @ coordinates + centre, held_out.shape[-2:], f, stride=f)
#     print(kept, f"{metrics.psnr(back, held_out):.1f} dB")
# ```
#
# The curve only rises, and with all 48 channels the reconstruction is perfect but for rounding: an orthogonal matrix is
# invertible. Compression is then one, and a diffusion model has to model as many numbers as the image has,
# most of them tiny and hardly predictable. Reconstruction alone is no goal: the identity has it.
# ````
#
# ```{exercise} A network that cannot tell ★★★
# :label: ex-blind
#
# Replace `Denoiser` by a perceptron on the flattened latent and repeat the comparison between latents and shuffled
# latents. Before you run it: what must come out, and why?
# ```
#
# ````{solution} ex-blind
# :class: dropdown
#
# ```python
# class Blind(nn.Module):
#     def __init__(self, numbers, width=256):
#         super().__init__()
#         layers = [nn.Linear(numbers + 10, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()]
#         self.net = nn.Sequential(*layers, nn.Linear(width, numbers))
#
#     def forward(self, x, t):
#         return self.net(torch.cat([x.flatten(1), clock(t)], 1)).view_as(x)
#
# for s in range(3):
#     order = torch.randperm(side * side, generator=torch.Generator().manual_seed(s))
#     for shuffled in (False, True):
#         torch.manual_seed(s)
#         network = Blind(latents[0].numel())
#         z = to_unit(latents)
#         train(network, shuffle(z, order) if shuffled else z, arm_steps, seed=s)
#         z = flow.sample(network, torch.randn(n_samples, *z.shape[1:]), 32)
#         pictures = decode(from_unit(shuffle(z, order.argsort()) if shuffled else z))
#         layout, texture = compare(pictures, neural_references)
#         print(s, "shuffled" if shuffled else "as it is", f"layout {layout:.2f}, texture {texture:.2f}")
# ```
#
# No difference but for chance. Shuffling the latent permutes the inputs of the first layer and the outputs of the last;
# their initial weights are drawn independently of the position, noise is as likely in one order as in another, and
# AdamW treats every weight alike. So for each run on latents there is an equally likely run on shuffled latents with
# the same samples. In three seeds at size `laptop` the distances of the two overlapped.
#
# The perceptron pays for its indifference with a texture that is far from that of real latents, shuffled or not: a
# denoiser that knows about neighbours gains where neighbours resemble each other, and only there.
# ````
#
# ## What this chapter claims
#
# Each assertion guards the sentence that it quotes. If one fails, the sentence has to be rewritten.

# %%
# "compression and reconstruction stay as they are, bit for bit"
assert same_pictures
# "Do not be surprised if the linear autoencoder wins"
assert decibel["linear"] > decibel[autoencoder.name]
# "Shuffled, the samples are farther off in both distances"
worse = {
    name: results.paired(arms, name, "latents, shuffled", "latents")
    for name in distances
}
assert all(d.mean > 0 for d in worse.values())
assert size == "smoke" or all(min(d.values) > 0 for d in worse.values())
# "better by 9 dB, and in the layout of samples these seeds do not tell the two apart"
if size == "laptop":
    assert round(decibel["linear"] - decibel[autoencoder.name]) == 9
    assert results.paired(arms, "layout", "linear latents", "latents").sign == 0
# "That is why the number of steps matters"
assert missed[1] > missed[4] > missed[64]
# "One or two steps end farther off than they began"
assert size == "smoke" or min(missed[1], missed[2]) > miss(toy_noise)

# %%
# "The coarse waves settle while nearly everything else is noise, the fine ones last", here at t = 0.75
coarse, middle, fine = (curve.y[8] for curve in strip.data[1:])
assert coarse > middle > fine
assert size == "smoke" or coarse > 0.9 > 0.5 > fine
# "white noise has the highest loss" of all Gaussian data of unit variance
spread_out = flow.least_loss(torch.tensor([1.0, 1.0]), 0.5).mean()
assert spread_out > flow.least_loss(torch.tensor([1.9, 0.1]), 0.5).mean()
# the trained network comes close to what is exact
assert off < 0.1
assert abs(average - least) < 0.1

# %% [markdown]
# ## Check yourself
#
# Inequalities and rounded figures that must come out the same on every machine.

# %% tags=["checkpoint"]
grid = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
sigmas = (0.3, 1.0, 2.0)
by_sum = [(s**2 / ((1 - grid) ** 2 * s**2 + grid**2)).mean().item() for s in sigmas]
closed = [round(math.pi * s / 2, 4) for s in sigmas]
ends = torch.tensor([[-1.0], [0.0], [1.0]])
print("numbers in an image, in its latent: ", *numbers.values())
print("smallest loss, by sum:              ", [round(v, 4) for v in by_sum])
print("smallest loss, π σ / 2:             ", closed)
for steps in (1, 64):
    x = flow.sample(
        lambda x, t: flow.gaussian_velocity(x, t, 0.5, 0.09), ends, steps
    )
    rounded = [round(v, 2) for v in x.flatten().tolist()]
    print(f"a Gaussian, Euler steps: {steps:2d}         ", rounded)
x = flow.gaussian_path(ends, 0.0, 0.5, 0.09).flatten().tolist()
print("the same, in closed form:           ", [round(v, 2) for v in x])
print("learned velocity near the exact one:", off < 0.1)
print("more steps come closer:             ", missed[64] < missed[4] < missed[1])
print("samples nearer than noise:          ", missed[64] < miss(toy_noise) / 2)
print("shuffling keeps the reconstruction: ", same_pictures)
print("its samples have worse texture:     ", worse["texture"].mean > 0)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)

# %% [markdown]
# ## Further reading
#
# Latent diffusion comes from {cite:t}`rombach2022high`, its variational autoencoder from {cite:t}`kingma2013auto`. The
# straight path and the velocity as target are called rectified flow, or flow matching; {cite:t}`esser2024scaling`
# compare it with other paths at scale. The word diffusability is from {cite:t}`skorokhodov2025improving`.
