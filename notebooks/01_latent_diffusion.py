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
# **In short.** Latent diffusion is two networks, an autoencoder and a model of its latents, and both can be small enough to train while you
# watch. Shuffle the positions of the latents: compression and reconstruction stay as they are, bit for bit, and the same training ends in
# confetti. What has changed is **diffusability**, the subject of this book.
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
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.flow import film_strip, flow_explorer, sampling_explorer  # fmt: skip
from diffusab_core import autoencoders, data, flow, metrics, spectrum

resolution = 32  # crops that are modelled; at f4 their latents are 8 × 8
about = f"{n_crops} + {n_unseen} training crops of {resolution}², 64 held-out ones"
run = chapters.start("01_latent_diffusion", globals(), data=about)
autoencoder = autoencoders.load(model)
f, C = autoencoder.compression, autoencoder.latent_channels


def shuffle(z, order):
    """The positions of latents (N, C, h, w) in another order, the same for all."""
    return z.flatten(2)[..., order].unflatten(2, z.shape[2:])


# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
photo = data.photo("china")[None, :, 40:232, 140:332]  # (1, 3, 192, 192), held out
with torch.no_grad():
    z = autoencoder.encode(photo).mean  # (1, C, 48, 48)
    order = torch.randperm(48 * 48, generator=torch.Generator().manual_seed(0))
    put_back = autoencoder.decode(shuffle(shuffle(z, order), order.argsort()))
most = z.var((0, 2, 3)).argsort(descending=True)[:3]  # the channels that vary most
colours = z[:, most] / z[:, most].std((2, 3), keepdim=True) / 2  # (1, 3, 48, 48)
shown = torch.cat([colours, shuffle(colours, order)]).repeat_interleave(f, -1)
figures.images(
    [photo[0], *shown.repeat_interleave(f, -2), put_back[0]],
    ["photograph", "its latent", "shuffled", "decoded from either"],
    alt="A photograph of a pavilion; three channels of its latent, in which it can be seen; the same numbers with their "
    "positions shuffled, which look like noise; and the picture that is decoded from either latent, which shows the pavilion.",
    height=230,
)

# %% [markdown] slideshow={"slide_type": "slide"}
# A photograph, and three of the sixteen channels of its latent as red, green and blue. Beside it the same numbers with their positions
# shuffled. If you know the permutation, you can undo it before decoding: both latents give back the picture on the right. Which of the two
# would you rather learn to make?
#
# Most pictures that a machine paints today are made in two steps {cite}`rombach2022high`. An **autoencoder** turns images into smaller
# arrays of numbers, called latents, and back. A **diffusion model** then learns to make new latents, and the decoder turns them into
# pictures. This chapter builds both steps small enough to watch. It ends with the question of this book: what makes a latent good *for the
# second step*?
#
# ![The whole chain in three rows. The autoencoder is trained: a picture goes through the encoder to a latent, a small grid of numbers, and
# through the decoder to a copy. The denoiser is trained: noise is added to a latent, and the denoiser guesses noise minus latent. A new
# picture is made: the denoiser turns noise into a latent in many small steps, and the decoder turns that into a picture.](../book/drawings/chain.svg)
#
# *The whole chain. A dashed network is not trained in that row. Row 1 decides reconstruction, and the size of the latent is the
# compression. How hard row 2 is, for latents of this kind, is their diffusability. Row 3 shows the outcome.*
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
# An encoder maps an image $x$ of $3 \times H \times W$ numbers to a latent $z = \mathrm{Enc}(x)$ of $C \times h \times w$ numbers; a
# decoder maps it back, $\hat x = \mathrm{Dec}(z)$. With $f = H/h = W/w$ the two are usually named by $f$ and $C$: "f4c16" has a latent of a
# quarter of the image's height and width and 16 channels.
#
# The simplest autoencoder needs no training loop. Cut the image into patches of $4 \times 4$ pixels, 48 numbers each. Keep the coordinates
# along the 16 directions in which patches of photographs are strongest (their principal components), and forget the other 32. That, too,
# is an f4c16 autoencoder: one convolution there and one back. No *linear* one has a smaller squared error on the patches it was fitted to.
#
# Beside it stands the small neural autoencoder that comes with this book, a convolutional one of 0.4 million parameters. Its encoder gives
# a Gaussian for each latent number rather than the number itself {cite}`kingma2013auto`; here we always take the mean. Both are asked to
# give back pieces of two photographs that neither was fitted to.

# %%
crops = data.Photos(resolution, split="train", seed=seed, length=n_crops + n_unseen)
images = data.stack(crops, range(n_crops))  # (n, 3, 32, 32) in [-1, 1]
unseen = data.stack(crops, range(n_crops, n_crops + n_unseen))

patches = F.unfold(images, f, stride=f).transpose(1, 2).flatten(0, 1)  # (P, 3f²)
axes = torch.linalg.eigh(patches.T @ patches).eigenvectors.flip(1)  # by strength
kernels = axes[:, :C].T.unflatten(1, (3, f, f))  # (C, 3, f, f)


def linear_encode(x, kernels=kernels):
    return F.conv2d(x, kernels, stride=f)


def linear_decode(z, kernels=kernels):
    return F.conv_transpose2d(z, kernels, stride=f)


# %%
@torch.no_grad()
def encode(x):
    return torch.cat([autoencoder.encode(batch).mean for batch in x.split(128)])


@torch.no_grad()
def decode(z):
    return autoencoder.decode(z).clamp(-1, 1)


held_out = data.stack(data.Photos(64, split="test", seed=seed), range(64))
rebuilt = {
    "linear": linear_decode(linear_encode(held_out)),
    autoencoder.name: decode(encode(held_out)),
}
decibel = {name: metrics.psnr(x, held_out).item() for name, x in rebuilt.items()}
run.metrics |= {f"psnr_db_{name}": db for name, db in decibel.items()}
figures.images(
    [figures.mosaic(x[:4], 2) for x in (held_out, *rebuilt.values())],
    ["held-out crops", *(f"{name}: {db:.1f} dB" for name, db in decibel.items())],
    alt="Four crops of held-out photographs, and beside them what the linear and the neural autoencoder give back. The "
    "pictures look alike; fine texture is softer in the reconstructions.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# **Compression** is a count: both keep one number of three, 1024 for the 3072 of a crop of 32 × 32 pixels. **Reconstruction** is a distance,
# here the peak signal-to-noise ratio (PSNR) $-10\log_{10}\operatorname{mean}(x-\hat x)^2$ of images in $[0, 1]$, in decibels (dB). Its mean
# over 64 crops stands above the pictures; more is better. Do not be surprised if the linear autoencoder wins. At so mild a compression a
# linear map is hard to beat, and the network has seen five photographs. Networks are built for stronger compression (twelve numbers become
# one in FluxAE, the first autoencoder of {cite:t}`skorokhodov2025improving`) and for losses that ask for plausible texture.
#
# ## Rectified flow: a straight path and an average
#
# Now the second step: given examples $x_0$ of some distribution, learn to draw new ones. **Rectified flow**, also called flow matching,
# starts from what is easy to draw, **white noise** $\varepsilon \sim \mathcal N(0, I)$: independent numbers, all of the same strength. It
# joins each example to a noise by a straight line,
#
# $$ x_t = (1-t)\,x_0 + t\,\varepsilon, \qquad \frac{\mathrm d x_t}{\mathrm d t} = \varepsilon - x_0 . $$ (eq-rf-path)
#
# Time $t=0$ is data, $t=1$ is noise. If you knew the pair $(x_0, \varepsilon)$, you could walk back along its line. A network
# $v_\theta(x, t)$ sees neither end, only the point $x = x_t$; it is trained to guess the direction all the same:
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
# because the cross term $2\,(g - v)\cdot\mathbb E[v - u \mid x_t = x]$ vanishes. The second term does not depend on $g$, so the best guess
# is the **conditional mean** $v(x, t)$, and the best loss is the second term, which is *not zero*: the point does not tell which line it is
# on.
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
# where the last step averages $u$ over all pairs at the same $x_t$. The left side is how the cloud changes when every pair walks its own
# line, the right side how it changes when every point follows the average velocity. They agree at every time: single points take other
# ways, but the *cloud* is the same {cite}`esser2024scaling`. So start from noise at $t=1$ and integrate $\dot x = v$ down to $t=0$.
# In code this is one training loop, and the same loop serves every data set of this chapter.


# %%
def train(network, examples, steps, batch=64, rate=2e-3, seed=0):
    """Descend the loss of rectified flow."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), rate, betas=(0.9, 0.99))
    schedule = OneCycleLR(optimizer, rate, total_steps=steps)
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
# Move the slider from 1 to 0. At first all points move towards the middle of the data, since a point that is nearly pure noise could have
# come from anywhere, and the average of anywhere is the mean. Later the cloud takes shape, and each point has to decide for an arm. The
# lines of {eq}`eq-rf-path` are straight, the paths of the average velocity are not. That is why the number of steps matters: **Euler's
# method** holds the velocity fixed over a step, $x_{t-h} = x_t - h\,v(x_t, t)$, and cuts the curves.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def miss(samples):
    """The mean distance to the nearest, from samples to data and from data to samples."""
    apart = torch.cdist(samples, points)
    return (apart.min(1).values.mean() + apart.min(0).values.mean()).item() / 2


missed = {k: miss(flow.sample(toy, toy_noise, k)) for k in (1, 2, 4, 8, 16, 64)}
run.metrics |= {f"toy_distance_{k}_steps": v for k, v in missed.items()}
by_steps = {str(k): v for k, v in missed.items()}
fresh = {"fresh points": miss(spiral(1000, generator)), "noise": miss(toy_noise)}
results.show({"distance": by_steps | fresh}, ".3f", index="Euler steps")

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**: how far 1 000 samples miss the data, as the mean distance from each sample to the nearest data point and from each data
# point to the nearest sample. The last two columns are the best and the worst to expect: as many fresh points of the spiral, and the noise
# from which sampling starts. One or two steps end farther off than they began: they move all points to the middle, where the spiral has
# few.
#
# ### A check where everything is known
#
# Is the network near the average that it should learn? For the spiral nobody knows that average. For Gaussian data,
# $x_0 \sim \mathcal N(m, \sigma^2)$ in each dimension, it can be computed, because $x_t$ and $u$ are jointly Gaussian. With
# $V_t = (1-t)^2\sigma^2 + t^2$, the variance of $x_t$,
#
# $$
# \begin{gathered}
# v(x,t) = -m + \frac{t-(1-t)\sigma^2}{V_t}\,\bigl(x-(1-t)m\bigr), \\
# \operatorname{Var}[u \mid x_t] = \frac{\sigma^2}{V_t} .
# \end{gathered}
# $$ (eq-rf-gauss)
#
# The second is the loss that no network can go below. Averaged over $t$ from 0 to 1 it is an integral with a short answer (substitute
# $q = t/(1-t)$). Then the same network is trained on Gaussian data, to see how far it is from the truth.
#
# $$
# \int_0^1 \frac{\sigma^2}{(1-t)^2\sigma^2 + t^2}\,\mathrm d t
# = \int_0^\infty \frac{\sigma^2}{\sigma^2+q^2}\,\mathrm d q = \frac{\pi}{2}\,\sigma .
# $$ (eq-rf-floor)

# %%
mean, sigma = torch.tensor([0.5, -0.5]), torch.tensor([1.0, 0.3])
gaussian = mean + sigma * torch.randn(4096, 2, generator=generator)
torch.manual_seed(seed)
learned = Velocity()
train(learned, gaussian, toy_steps // 2, batch=512, rate=5e-3, seed=seed)

times = torch.linspace(0.02, 0.98, 33)
t = times.repeat_interleave(8000)
x0 = mean + sigma * torch.randn(len(t), 2, generator=generator)
noise = torch.randn(x0.shape, generator=generator)
xt = flow.interpolate(x0, noise, t)
with torch.no_grad():
    guess = learned(xt, t)
loss = (guess - flow.target(x0, noise)).square().view(33, -1).mean(1)
smallest = flow.least_loss(sigma**2, times).mean(1)
exact = flow.gaussian_velocity(xt, t, mean, sigma**2)
off = ((guess - exact).square().sum() / exact.square().sum()).item()
run.metrics["gaussian_velocity_error"] = off

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.lines(
    {"smallest possible": smallest, "trained network": loss},
    x=times,
    styles={"trained network": {"mode": "markers"}},
    xlabel="time t",
    ylabel="loss per dimension",
    alt="Loss against time for Gaussian data. The dots of the trained network scatter closely about the curve of the smallest "
    "possible loss, which has a maximum between the two ends and is nowhere zero.",
).update_yaxes(rangemode="tozero")

# %% [markdown] slideshow={"slide_type": "slide"}
# The network reaches the smallest loss at all times. (A marker may lie a little below the line: it is an average over 8 000 draws.)
#
# {eq}`eq-rf-floor` carries a warning. Per dimension, the smallest loss is $\frac{\pi}{2}$ times the mean of the standard deviations along
# the principal axes of the data. So it depends on their scale. At a fixed total variance it is largest when all directions have the same
# share; such data are called **white**, after the noise. (Other than Gaussian data do not have a larger one: a linear guess does as well on
# them as on a Gaussian of their covariance.) Among all data of unit variance, white noise has the *highest* loss, and yet there is nothing
# easier to generate. **A loss compares two networks on one latent space. It does not compare two latent spaces.**
#
# ## The same on latents
#
# Nothing in the loop knows about dimension two. The data are now latents of small crops, with zero mean and unit variance per channel.
# Neighbouring positions of a latent resemble each other, so the network is convolutional, with time added to its features and a learned
# bias for each position. Its output is added to the exact answer for white data, {eq}`eq-rf-gauss` with $m = 0$ and $\sigma = 1$: before
# training it generates white noise, and it learns how latents differ from it. ({numref}`chap-denoiser` builds a transformer.)


# %%
def residual(width):
    """Two convolutions, to be added to what goes in."""
    first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
    norm = nn.GroupNorm(8, width)
    return nn.Sequential(norm, nn.SiLU(), first, nn.SiLU(), second)


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
latents = encode(images)  # (n, C, 8, 8)
side = latents.shape[-1]
shift, scale = (m((0, 2, 3), keepdim=True) for m in (latents.mean, latents.std))
unit = (latents - shift) / scale


def to_images(z):
    return decode(z * scale + shift)


torch.manual_seed(seed)
denoiser = Denoiser(C, side, width=48)
train(denoiser, unit, latent_steps, seed=seed)

# %% slideshow={"slide_type": "subslide"}
generator = torch.Generator().manual_seed(seed)
noise = torch.randn(36, C, side, side, generator=generator)
samples = to_images(flow.sample(denoiser, noise, 32))
shown = (unseen[:36], decode(encode(unseen[:36])), samples)
figures.images(
    [figures.mosaic(x, 6) for x in shown],
    ["crops", "encoded and decoded", "samples"],
    alt="Three mosaics of 36 small pictures: crops of photographs, the same encoded and decoded, and samples of the small "
    "latent diffusion model, which have colours and smooth patches like the crops but hardly any objects.",
)

# %% [markdown]
# This is what a few seconds of training buy: colours that go together, here and there an edge, nothing you could name. It *is* latent
# diffusion, with all parts in place; the later chapters replace each part by a serious one.
#
# Watch the samples being made: move time from 1 to 0. On the left is the state $x_t$, on the right the model's estimate of the clean latent,
# $\hat x_0 = x_t - t\,v(x_t,t)$, both decoded. For the exact velocity that is $\mathbb E[x_0\mid x_t]$: first the mean of everything, the
# same for all samples, then layout, then detail. (Here the first estimates differ from sample to sample: so far off is this network where
# it sees nothing but noise.) The page {doc}`Your own picture </book/own_picture>` shows what noise leaves of yours.

# %% slideshow={"slide_type": "subslide"}
sampling_explorer(denoiser, to_images, noise[:16])

# %% [markdown] slideshow={"slide_type": "slide"}
# The same estimate as a film strip, for one sample. Below the whole picture stand its parts: waves of more than 16 pixels (coarse), of 16
# to 8 (middle), and shorter ones (fine; these two rows are made as strong as a picture can show them). The curves say how much of its final
# form each part has, over all 16 samples: 1 is all of it, 0 no more than the mean of all final pictures has, and below 0 it is worse than
# that mean. The coarse waves settle while nearly everything else is noise, the fine ones last. Nobody has told the network to work in this
# order; {numref}`chap-autoregression` explains it.

# %% slideshow={"slide_type": "subslide"}
strip = film_strip(denoiser, to_images, noise[:16])
strip

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Three different things
#
# ```{admonition} In the paper
# :class: paper
#
# {cite:t}`skorokhodov2025improving` argue that work on autoencoders has aimed at reconstruction and at compression, and that a third
# factor decides as well whether a latent diffusion model is any good: **diffusability**, which they define as how easily a distribution
# can be modelled by diffusion. Poor reconstruction bounds the quality of what can be generated, poor compression makes it slow, poor
# diffusability calls for larger diffusion models. The experiment below is not theirs. It asks only whether the three can come apart.
# ```
#
# Take the latents as they are, and take them again with their $8 \times 8$ positions shuffled, by one permutation for all images. It is
# undone before decoding, so both have *the same* compression and *the same* reconstruction, bit for bit. If these two were all there is to
# a latent space, a diffusion model should not care. The same network is trained on both, from the same initial weights, with the same crops
# and number of steps, for several seeds (each with its own weights, noise and permutation). The samples are compared with *reconstructions*
# of unseen crops, so that reconstruction does not enter. Two distances are measured; less is better:
#
# - **layout**: each picture is reduced to a thumbnail of $4\times4$ pixels, and the Fréchet distance compares the means and covariances of
#   both sets. ({numref}`chap-pays` has the formula. FID, the usual score, is the same with a network's features for thumbnails.)
# - **texture**: the energy of pictures at each of 63 frequencies (of the $8\times 8$ DCT, the subject of {numref}`chap-dct`). The distance
#   says how far, in powers of ten, the samples' energies are from those of the reconstructions, on average.


# %%
def compare(pictures, reference):
    """Layout and texture distance of pictures from reference pictures."""
    gaussians, energies = [], []
    for x in (pictures, reference):
        thumbnails = data.resize_to(x, 4, 4).flatten(1).double()  # (N, 48)
        gaussians += [thumbnails.mean(0), thumbnails.T.cov()]
        d = spectrum.block_dct(data.rgb01(x), 8)  # (N, 3, h, w, 8, 8)
        energies.append(d.square().mean((0, 1, 2, 3)).flatten()[1:])  # (63,)
    texture = (energies[0] / energies[1]).log10().abs().mean().item()
    return float(metrics.frechet_distance(*gaussians)), texture


# %%
references = decode(encode(unseen))
in_order = torch.arange(side * side)
rows, shown = [], {}
for s in range(seed, seed + n_seeds):
    order = torch.randperm(side * side, generator=torch.Generator().manual_seed(s))
    generator = torch.Generator().manual_seed(1000 + s)
    start = torch.randn(n_samples, C, side, side, generator=generator)
    for arm, places in {"latents": in_order, "latents, shuffled": order}.items():
        torch.manual_seed(s)
        network = Denoiser(C, side)
        train(network, shuffle(unit, places), arm_steps, seed=s)
        z = flow.sample(network, start, 32)
        pictures = to_images(shuffle(z, places.argsort()))
        layout, texture = compare(pictures, references)
        rows.append({"arm": arm, "seed": s, "layout": layout, "texture": texture})
        shown.setdefault(arm, pictures[:36])
arms = pd.DataFrame(rows)
back = shuffle(shuffle(latents[:32], order), order.argsort())
same_pictures = torch.equal(decode(back), decode(latents[:32]))

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.images(
    [figures.mosaic(x, 6) for x in shown.values()],
    list(shown),
    alt="Two mosaics of samples. From the latents: smooth coloured patches. From the shuffled latents: confetti, small "
    "patches that do not continue into each other.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
distances = {"layout": ("layout", ".2f"), "texture": ("texture", ".2f")}
run.metrics |= results.means(arms, "layout").add_prefix("layout_").to_dict()
run.metrics |= results.means(arms, "texture").add_prefix("texture_").to_dict()
results.table(arms, distances, control="latents")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
best = zip(distances, compare(decode(latents[:n_samples]), references), strict=True)
results.show({"real latents": dict(best)}, ".2f", index="for comparison")

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**: in the first table the mean ± standard deviation over the seeds of training. Below stands the difference to the first row,
# paired by seed, with its 95% interval. In the second table, what as many *real* latents reach: training crops, encoded and decoded.
#
# The two arms agree in compression and reconstruction *by construction*. What differs between them can only be diffusability. Shuffled, the
# samples are farther off in both distances. No information is lost: a larger network, or more steps, may well learn the shuffled latents
# too. "Easily" is the word that matters in the definition: this network, in these steps, profits from neighbours that resemble each other.
# For a network without neighbourhoods the two would be alike, see {ref}`ex-blind`. Diffusability belongs to a latent space *together with*
# a family of denoisers.
#
# The shuffle is a caricature. What real autoencoders do to neighbours is more subtle, and some of it shows in the **spectrum** of the latent:
# {numref}`chap-dct`. ({numref}`chap-pays` compares real autoencoders, with larger denoisers.)
#
# ## To take away
#
# - Two things about an autoencoder are easy to measure: how few numbers it keeps, and how well it gives pictures back. Diffusability is a
#   third, and cannot be computed from these two.
# - A rectified flow learns the average direction from data to noise. Its best loss depends on the data: **losses do not compare latent
#   spaces**.
# - Sampling settles coarse waves first and fine ones last, although nothing in the loss says so.
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
# Sample the spiral with 2, 4 and 8 Euler steps: `flow.sample(toy, toy_noise, 4)`. Then spend the same number of calls of the network on
# Heun's method (`method="heun"`: a step follows the mean of the velocities at its two ends, which takes two calls), and move Euler's steps
# with a time shift (`shift=0.5` spends more of them near the data, `shift=2` near the noise). Which helps? (`miss` measures it.)
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
# More steps always help, but where they are matters, too. Near the noise all paths head for the mean of the data and are nearly straight:
# steps spent there are wasted. The turns come later, where a point chooses an arm. In a run at size `laptop` with 4 calls, the shifts 0.5,
# 1 and 2 left distances of 0.080, 0.083 and 0.156. Heun's error falls faster *once steps are small*: with 2 calls it did better than Euler
# (0.197 against 0.257), with 4 and 8 it did not, because two or four long steps jump over the turns.
# ````
#
# ```{exercise} Compression against reconstruction ★
# :label: ex-linear
#
# Draw the PSNR of the linear autoencoder on `held_out` against the number of channels it keeps, from 1 to 48. How many does it need for
# the PSNR of the shipped network? Where does the curve end, and what would a diffusion model gain from going there?
# ```
#
# ````{solution} ex-linear
# :class: dropdown
#
# ```python
# for kept in (1, 2, 4, 8, 16, 32, 47, 48):
#     some = axes[:, :kept].T.unflatten(1, (3, f, f))
#     back = linear_decode(linear_encode(held_out, some), some)
#     print(kept, f"{metrics.psnr(back, held_out):.1f} dB")
# ```
#
# In our run five channels reach it. The curve only rises, and with all 48 the reconstruction is perfect but for rounding: an orthogonal
# matrix is invertible. Compression is then one, and a diffusion model has to model as many numbers as the image has, most of them tiny
# and hardly predictable. Reconstruction alone is no goal: the identity has it.
# ````
#
# ```{exercise} A network that cannot tell ★★★
# :label: ex-blind
#
# Replace `Denoiser` by a perceptron on the flattened latent and repeat the comparison of latents and shuffled latents. Before you run it:
# what must come out, and why?
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
#     for name, places in {"as it is": in_order, "shuffled": order}.items():
#         torch.manual_seed(s)
#         network = Blind(latents[0].numel())
#         train(network, shuffle(unit, places), arm_steps, seed=s)
#         z = flow.sample(network, torch.randn(n_samples, C, side, side), 32)
#         pictures = to_images(shuffle(z, places.argsort()))
#         layout, texture = compare(pictures, references)
#         print(s, name, f"layout {layout:.2f}, texture {texture:.2f}")
# ```
#
# No difference but for chance. Shuffling the latent permutes the inputs of the first layer and the outputs of the last. Their initial
# weights are drawn independently of the position, noise is as likely in one order as in another, and AdamW treats every weight alike. So
# for each run on latents there is an equally likely run on shuffled latents with the same samples. In three seeds at size `laptop` the
# distances of the two overlapped. The perceptron pays for its indifference with a texture that is far from that of real latents: knowing
# neighbours helps where they resemble each other.
# ````
#
# ## What this chapter claims
#
# Each assertion guards the sentence that it quotes. If one fails, the sentence has to be rewritten.

# %%
# "compression and reconstruction stay as they are, bit for bit"; "1024 for the 3072"
assert same_pictures
assert (latents[0].numel(), images[0].numel()) == (1024, 3072)
# "Do not be surprised if the linear autoencoder wins"
assert decibel["linear"] > decibel[autoencoder.name]
# "Shuffled, the samples are farther off in both distances"
two = "latents, shuffled", "latents"
worse = {name: results.paired(arms, name, *two) for name in distances}
assert all(d.mean > 0 for d in worse.values())
assert size == "smoke" or all(min(d.values) > 0 for d in worse.values())
# "That is why the number of steps matters"
assert missed[1] > missed[4] > missed[64]
# "One or two steps end farther off than they began"
assert size == "smoke" or min(missed[1], missed[2]) > miss(toy_noise)
# "The coarse waves settle while nearly everything else is noise, the fine ones last", here at t = 0.75
coarse, middle, fine = (curve.y[8] for curve in strip.data[1:])
assert coarse > middle > fine
assert size == "smoke" or coarse > 0.9 > 0.5 > fine
# "The network reaches the smallest loss"
assert abs(loss.mean() - smallest.mean()) < 0.1

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
grid = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
sigmas = (0.3, 1.0, 2.0)
by_sum = [(s**2 / ((1 - grid) ** 2 * s**2 + grid**2)).mean().item() for s in sigmas]
closed = [round(math.pi * s / 2, 4) for s in sigmas]
ends = torch.tensor([[-1.0], [0.0], [1.0]])
print("numbers in an image, in its latent: ", images[0].numel(), latents[0].numel())
print("smallest loss, by sum:              ", [round(v, 4) for v in by_sum])
print("smallest loss, π σ / 2:             ", closed)
velocity = partial(flow.gaussian_velocity, mean=0.5, variance=0.09)
for steps in (1, 64):
    x = flow.sample(velocity, ends, steps).flatten().tolist()
    print(f"a Gaussian, Euler steps: {steps:2d}         ", [round(v, 2) for v in x])
x = flow.gaussian_path(ends, 0.0, 0.5, 0.09).flatten().tolist()
print("the same, in closed form:           ", [round(v, 2) for v in x])
print("learned velocity near the exact one:", off < 0.1)
print("more steps come closer:             ", missed[64] < missed[4] < missed[1])
print("samples nearer than noise:          ", missed[64] < miss(toy_noise) / 2)
print("shuffling keeps the reconstruction: ", same_pictures)
print("its samples have worse texture:     ", worse["texture"].mean > 0)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
