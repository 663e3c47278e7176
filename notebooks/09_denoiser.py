# ---
# jupyter:
#   book:
#     needs: [chap-latent-diffusion]
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
# (chap-denoiser)=
# # A diffusion transformer, piece by piece
#
# **In short.** A DiT is linear maps, attention and layer norms that know time and class; each part is checked in a line or
# two. After some hundred steps here it does worse than a Gaussian with the latents' mean and covariance: in its loss on
# unseen crops and, told no class, in its samples. Told the class, and guided, it comes nearer to real latents.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
model: str = "kl-f8c16"  # whose latents: a shipped name, a folder or a hub id
n_crops: int = 2048  # crops that the denoiser is trained on
width: int = 96
depth: int = 3
heads: int = 4
train_steps: int = 300
batch_size: int = 48
learning_rate: float = 3e-3
n_samples: int = 200  # that each way of sampling is judged by
device: str = "cpu"  # where the live training runs: auto, cuda, mps or cpu
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import torch

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.flow import trajectory_explorer
from diffusab_book.figures import mosaic
from diffusab_core import autoencoders, data, denoisers, flow, training
from diffusab_core.denoisers import parts
from diffusab_core.latents import TensorLatents, encode_all
from diffusab_core.methods import denoising
from diffusab_core.methods.cost import multiply_accumulates
from diffusab_core.metrics import offline, samples
from diffusab_core.metrics.yardsticks import posterior_samples

resolution = 32  # of the crops that are modelled
run = chapters.start(
    "09_denoiser",
    globals(),
    data=f"{n_crops} + {n_samples} crops of {resolution}² from the training photographs",
)
autoencoder = autoencoders.load(model)
f, C = autoencoder.compression, autoencoder.latent_channels

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
picture = data.photo("chelsea")[:, 40:168, 130:258]  # (3, 128, 128)
with torch.no_grad():
    z = autoencoder.encode(picture[None]).mean  # (1, C, 16, 16) at f8
three = z[:, :3] - z[:, :3].mean((2, 3), keepdim=True)
three = (three / (2.5 * three.std((2, 3), keepdim=True))).clamp(-1, 1)
cut, titles = [picture], ["picture"]
for p in (1, 2, 4):
    tokens = parts.patchify(three, p)[0]  # (L, p·p·3)
    tiles = tokens.unflatten(1, (p, p, 3)).permute(0, 3, 1, 2)  # (L, 3, p, p)
    tiles = tiles.repeat_interleave(12, 2).repeat_interleave(12, 3)
    cut.append(mosaic(tiles, z.shape[3] // p, gap=4))
    titles.append(f"patch {p}: {len(tokens)} tokens")
figures.images(
    cut,
    titles,
    alt="A cat's eye and the fur around it, and three channels of its latent as colours, cut into "
    "tokens with white gaps: 256 single positions, 64 squares of 2 by 2 positions and "
    "16 squares of 4 by 4.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# What a transformer sees: a latent (three channels as colours), cut into squares of $p\times p$ positions. Each is one token.
#
# The chapters before this one have talked about latents that are easy or hard *for a diffusion model*. Here is the one that the
# papers use: **DiT**, a transformer on the patches of a latent {cite}`peebles2023scalable`, with the additions that
# {cite:t}`skorokhodov2025improving` make to it. Each piece gets its formula and a check, then a small DiT is trained live on the
# flow of {numref}`chap-latent-diffusion`, sampled, guided and judged.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - count what a DiT costs, and say what halving the patch does to it;
# - explain what adaLN-Zero, rotary positions and self-conditioning are for, and check each by one line of code;
# - say what a training loss should start at, and which value a network passes on unseen data only if it has learned more
#   than means and covariances;
# - read a sampling trajectory;
# - derive classifier-free guidance, and name what it buys and what it costs.
# ```

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Tokens
#
# A transformer takes a set of vectors. DiT makes them by cutting the latent, $C\times h\times w$, into patches of
# $p\times p$ positions with all their channels; a linear map $E$ takes each to the width $D$ of the network:
#
# $$
# \text{tokens} = E\,\mathrm{patch}_p(x_t) \in \mathbb R^{L\times D}, \qquad L = \frac{h\,w}{p^2}, \qquad
# E \in \mathbb R^{D\times p^2 C} .
# $$ (eq-tokens)
#
# At the end another linear map takes each token back to $p^2C$ numbers, and the patches are put back in place. (Time is not
# patched: a clip of $T$ latent frames makes $T$ times as many tokens.) In the name DiT-XL/2, XL is width and depth, 2 is
# the patch.
#
# Every token sees every other in every layer, and width, depth and number of tokens can be scaled separately.
# {cite:t}`peebles2023scalable` varied all three and found that more computing per sample, by whichever of them, went with a
# lower FID. What it costs can be counted. One block, per sample, in multiply-accumulates:
#
# $$
# \underbrace{12\,L D^2}_{\text{linear maps of tokens}} + \underbrace{2\,L^2 D}_{\text{attention}}
# + \underbrace{6\,D^2}_{\text{modulation}} .
# $$ (eq-dit-cost)
#
# The linear maps are those to queries, keys and values ($3D^2$ a token), from the heads ($D^2$) and of the MLP
# ($2\cdot 4D^2$); attention compares all pairs and averages over them ($L^2D$ each). **Halving the patch gives four times
# the tokens: four times the first term and sixteen times the second**, and a few parameters less. The table counts the models
# as this book builds them, for latents of $4\times32\times32$ and 1000 classes, on the `meta` device, where nothing is computed.

# %%
SIZES, MILLIONS, COUNT = ("S", "B", "L", "XL"), "10⁶ parameters", "10⁹ multiply-accumulates"  # fmt: skip


def count_model(name: str, patch: int) -> dict[str, float]:
    with torch.device("meta"):
        whole = denoisers.build(f"DiT-{name}/{patch}", in_channels=4, input_size=32, num_classes=1000)  # fmt: skip
        label = torch.empty(1, dtype=torch.long)
        total = multiply_accumulates(whole, torch.empty(1, 4, 32, 32), torch.empty(1), label)  # fmt: skip
    D, n, L = whole.width, len(whole.blocks), (32 // patch) ** 2
    return {
        "tokens": L,
        MILLIONS: sum(w.numel() for w in whole.parameters()) / 1e6,
        COUNT: total / 1e9,
        "in the blocks": n * (12 * L * D**2 + 2 * L**2 * D + 6 * D**2) / total,
        "in attention": n * 2 * L**2 * D / total,
    }


counted = {f"DiT-{name}/{p}": count_model(name, p) for name in SIZES for p in (2, 1)}  # fmt: skip

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
results.show(
    counted,
    {MILLIONS: ".1f", COUNT: ".2f", "in the blocks": ".1%", "in attention": ".0%"},
)

# %% [markdown] slideshow={"slide_type": "slide"}
# At patch 2 {cite:t}`peebles2023scalable` print 33, 130, 458 and 675 million parameters, and 6.06, 23.01, 80.71 and 118.64
# Gflops, by which they mean multiply-accumulates: the two agree to $0.02\cdot10^9$. (Parameters differ: theirs also predicts a
# variance, ours has the matrix for self-conditioning.)
#
# ## Time and class
#
# The network has to know how noisy its input is. The time becomes a vector of cosines and sines of $1000\,t$ at frequencies
# spaced geometrically, and an MLP takes that to width $D$. The class is a row of a learned table with one more row,
# $\varnothing$, for "no class". Their sum is the **condition**
#
# $$
# \begin{gathered}
# c = \mathrm{MLP}\bigl([\cos(1000\,t\,\omega_j), \sin(1000\,t\,\omega_j)]_j\bigr) + e_y, \\
# \omega_j = 10\,000^{-j/128},\quad j = 0, \dots, 127 .
# \end{gathered}
# $$ (eq-condition)
#
# A single number would do in principle. But the fastest of these waves turn many times between $t=0$ and $t=1$, and the
# slowest not even once, so that a small MLP can tell nearby times apart and still be smooth in $t$.
#
# ## adaLN-Zero
#
# How does $c$ get into the blocks? Through the layer norms. An ordinary one normalises each token and then applies a
# learned scale and shift. Here scale $\varsigma$, shift $b$, and a gate $g$ on what the layer adds, are *functions of the
# condition*:
#
# $$
# \begin{aligned}
# x &\leftarrow x + g_1 \odot \mathrm{Attn}\bigl(\mathrm{LN}(x)\odot(1 + \varsigma_1) + b_1\bigr),\\
# x &\leftarrow x + g_2 \odot \mathrm{MLP}\bigl(\mathrm{LN}(x)\odot(1 + \varsigma_2) + b_2\bigr),\\
# &(b_1, \varsigma_1, g_1, b_2, \varsigma_2, g_2) = W\,\mathrm{SiLU}(c) + w .
# \end{aligned}
# $$ (eq-adaln)
#
# The norm before the last linear map is modulated in the same way, without a gate. **Zero** means that $W$, $w$ and the
# last linear map of the network start at zero. All gates are then zero, every block is the identity, and the network's
# output is zero for every input. Two consequences can be checked before any training. The first loss is that of
# predicting nothing; as noise and data are independent, and both have mean zero and variance one, the data on average
# over a channel, it is
#
# $$
# \mathbb E\,(\varepsilon - x)^2 = \mathbb E\,\varepsilon^2 + \mathbb E\,x^2 = 2 .
# $$ (eq-zero-loss)
#
# And the gradient is zero everywhere but in the last linear map, because all other weights act through it: the network
# learns to speak from the end. Now the denoiser of this chapter, on the latents of small crops. The class of a crop is the
# photograph that it is cut from.

# %%
crops = data.Photos(resolution, "train", seed=seed, length=n_crops + n_samples)
images = data.stack(crops, range(n_crops))  # (n, 3, 32, 32) in [-1, 1]
unseen = data.stack(crops, range(n_crops, n_crops + n_samples))
classes = data.photo_names("train")
labels = torch.tensor([classes.index(crops.source(i)) for i in range(len(crops))])
encoded = encode_all(autoencoder, images).posterior(range(n_crops))
dataset = TensorLatents(*encoded[:2], labels[:n_crops], classes)
z = dataset.normalise(posterior_samples(dataset, range(n_crops)))  # (n, C, 4, 4)
torch.manual_seed(seed)
shape = {"patch": 1, "width": width, "depth": depth, "heads": heads}
denoiser = denoisers.DiT(C, dataset.shape[1:], num_classes=len(classes), **shape)

# %%
generator = torch.Generator().manual_seed(seed)
x0, y = z[:128], labels[:n_crops][:128]
noise = torch.randn(x0.shape, generator=generator)
t = flow.logit_normal_times(len(x0), generator=generator)
v = denoiser(flow.interpolate(x0, noise, t), t, y)
first_loss = (v - flow.target(x0, noise)).square().mean()
first_loss.backward()
largest_output = v.abs().max().item()
moved = [name for name, w in denoiser.named_parameters() if w.grad is not None and w.grad.any()]  # fmt: skip
denoiser.zero_grad()
run.metrics["first_loss"] = first_loss.item()
print(f"before training: largest output {largest_output:g}, loss {first_loss:.2f}, gradient in {moved}")  # fmt: skip

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Positions that rotate
#
# Attention is blind to order: permute the tokens and the output is permuted alike ({ref}`ex-permute`). DiT added a fixed
# table of positions to the tokens; the paper uses **rotary embeddings** {cite}`su2024roformer`, which act inside attention.
# Split each head's queries and keys into pairs of numbers and read each pair as a complex number. A query at position $m$
# has its pair $j = 0, \dots, J-1$ turned by $m\,\theta_j$, a key at position $n$ by $n\,\theta_j$:
#
# $$
# q_j \mapsto q_j\,e^{i m \theta_j}, \qquad k_j \mapsto k_j\,e^{i n\theta_j}, \qquad \theta_j = 10\,000^{-j/J} .
# $$ (eq-rope)
#
# The product of query and key then knows only the difference of the positions:
#
# $$
# \mathrm{Re} \sum_j q_j e^{i m\theta_j}\;\overline{k_j e^{i n\theta_j}}
# = \mathrm{Re} \sum_j q_j \overline{k_j}\; e^{i (m-n)\theta_j} .
# $$ (eq-rope-difference)
#
# On a picture half of the pairs turn by the row and half by the column. Rotations keep lengths and have no parameters. The map
# shows the product of one query with keys at all positions, when query and keys are the same vector of ones, so that nothing but
# position makes a difference.

# %%
side, head_width = 16, 64
angles = parts.rotary_angles((side, side), head_width)  # (256, 32)
ones = torch.ones(side * side, head_width, dtype=torch.float64)
turned = parts.rotate(ones, angles.cos(), angles.sin())
maps = (turned @ turned.T).unflatten(0, (side, side)).unflatten(2, (side, side))
by_5_and_3 = maps[5:, 3:, 5:, 3:]  # query and key, both by five rows, three columns
apart = (maps[:-5, :-3, :-5, :-3] - by_5_and_3).abs().max().item()

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.heatmap(
    maps[9, 8] / head_width,
    xlabel="column of the key",
    ylabel="row of the key",
    height=340,
    alt="Product of one query, at row 9 and column 8, with keys at all positions of a 16 by 16 grid: largest at the query's "
    "own position, with a bright cross along its row and column.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Self-conditioning
#
# A sampler calls the network many times, and each call starts from nothing. **Self-conditioning** {cite}`jabri2023scalable`
# hands on what the network has found out. The paper's form: the activations after the last block, $h\in\mathbb R^{L\times
# D}$, go through a linear map and are added to the tokens of the next call. In training there is no previous call, so with
# probability 0.9 an auxiliary pass makes one, at the same time and the same noise, without a gradient (sg):
#
# $$
# \begin{gathered}
# h = h_\theta(x_t, t, y; 0), \\
# \text{tokens} = E\,\mathrm{patch}_p(x_t) + W_h\,\mathrm{sg}[h] .
# \end{gathered}
# $$ (eq-self)
#
# While sampling, $h$ is that of the previous step, and zero at the first. (The paper does not say what is handed on in
# sampling; this book follows {cite:t}`jabri2023scalable`.) There it costs next to nothing. In training it costs passes: a
# forward pass is one unit, the backward pass two, so a step costs, relative to one without and leaving out $W_h$,
#
# $$
# \frac{1 + 2 + 0.9}{1 + 2} = 1 + \frac{0.9}{3} = 1.3 .
# $$ (eq-self-price)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
setup = {"seed": seed, "warmup": train_steps // 20, "device": run.device}
settings = denoising.Denoising(
    steps=train_steps, batch_size=batch_size, learning_rate=learning_rate, **setup
)
forward = multiply_accumulates(denoiser, x0, t, y)
both = multiply_accumulates(denoiser, x0, t, y, backward=True)
denoiser.zero_grad()
counted_price = 1 + settings.self_conditioning * forward / both
run.metrics["self_conditioning_price_counted"] = counted_price
print(f"counted, of the passes of this network: {counted_price:.2f}")

# %% [markdown] slideshow={"slide_type": "slide"}
# ## What the loss can tell
#
# The times of training are **logit-normal** {cite}`esser2024scaling`: $t = \operatorname{sigmoid}(u)$ with
# $u\sim\mathcal N(\mu, \sigma^2)$, so that their density is
#
# $$
# \pi(t) = \frac{1}{\sigma\sqrt{2\pi}}\,\frac{1}{t(1-t)}\,\exp\Bigl(-\frac{(\operatorname{logit} t - \mu)^2}{2\sigma^2}\Bigr) .
# $$ (eq-logit-normal)
#
# With $\mu = 0$ and $\sigma = 1$ half of the times lie between 0.34 and 0.66. Which number should the loss come down to? Zero is
# out of reach: the target holds noise that the input does not reveal ({eq}`eq-rf-split`). Two numbers are known. It starts at 2,
# {eq}`eq-zero-loss`. And suppose that the data were Gaussian with covariance $\Sigma$. Along each eigenvector, with
# variance $\lambda_i$, {eq}`eq-rf-gauss` gives the smallest possible loss, and the mean over the $d$ numbers of a latent is
#
# $$
# \mathcal L_{\mathrm G}(t) = \frac1d \sum_{i=1}^{d} \frac{\lambda_i}{(1-t)^2\lambda_i + t^2},
# \qquad \mathcal L_{\mathrm G} = \int_0^1 \mathcal L_{\mathrm G}(t)\,\pi(t)\,\mathrm d t .
# $$ (eq-gaussian-loss)
#
# On Gaussian data no network gets below it. On other data it is the loss of the best *affine* guess, because that depends on
# mean and covariance alone; the best guess of all can only be better. So a network whose loss on *unseen* data lies below
# $\mathcal L_{\mathrm G}$ has learned something that means and covariances do not say; on the training data it might also
# have copied. ($\Sigma$ is estimated from the training crops, over all classes together.) Both numbers belong to *this* latent
# space: losses do not compare between spaces.

# %%
eigenvalues, eigenvectors = torch.linalg.eigh(z.flatten(1).double().T.cov())
eigenvalues = eigenvalues.clamp_min(1e-12)  # rounding can leave some below zero
floor = flow.mean_least_loss(eigenvalues).mean().item()  # over logit-normal times

# %% [markdown]
# ## Training, live
#
# From the paper are AdamW with decay rates 0.9 and 0.99 and weight decay 0.01, warm-up and a cosine down to $10^{-5}$,
# gradients clipped at norm 16, the auxiliary pass with probability 0.9, and posterior samples drawn anew at each step. Ours
# are the number of steps, the batch, a peak rate ten times the paper's $3\cdot10^{-4}$ for a short run of a small network,
# a tenth of the labels dropped, and a moving average of the weights; the paper's appendix gives neither of the last two for
# its denoisers.

# %% tags=["remove-stderr"]
loss_of = denoising.loss_of(denoiser, dataset, settings)
denoiser.to(run.device).train()
trained = training.train(denoiser, loss_of, settings.training, log_every=1)
every_loss = trained.series["loss"]
denoiser.cpu().load_state_dict(trained.ema)
denoiser.eval().requires_grad_(False)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fresh = encode_all(autoencoder, unseen)
fresh = dataset.normalise(posterior_samples(fresh, range(n_samples)))
fresh_labels = labels[n_crops:]


@torch.no_grad()
def loss_at(t):
    """On crops not trained on, with the auxiliary pass; t is one time or (N,)."""
    t = t.expand(len(fresh))
    noise = torch.randn(fresh.shape, generator=torch.Generator().manual_seed(seed))
    x = flow.interpolate(fresh, noise, t)
    _, hint = denoiser(x, t, fresh_labels, with_hint=True)
    v = denoiser(x, t, fresh_labels, hint=hint)
    return (v - flow.target(fresh, noise)).square().mean().item()


times = torch.linspace(0.05, 0.95, 13)
by_time = [loss_at(t) for t in times]
affine = flow.least_loss(eigenvalues, times).mean(1).tolist()
tail = every_loss[-train_steps // 6 :]
last_loss = sum(tail) / len(tail)
spaced = (torch.arange(n_samples) + 0.5) / n_samples
fresh_loss = loss_at(torch.special.ndtri(spaced).sigmoid())
run.metrics |= {"last_loss": last_loss, "unseen_loss": fresh_loss, "affine_loss": floor}  # fmt: skip
run.series["loss"] = every_loss

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.lines(
    {
        "zero predictor": [2.0] * len(times),
        "best affine predictor": affine,
        "the network, unseen crops": by_time,
    },
    x=times,
    styles={"the network, unseen crops": {"mode": "lines+markers"}},
    xlabel="time t (0 data, 1 noise)",
    ylabel="loss at t",
    height=340,
    alt="Loss against time of the zero predictor, the best affine predictor and the trained network on unseen crops. The affine "
    "predictor's is lowest near the data end and rises towards 1 at noise; the network's is far above it near the data end.",
).update_yaxes(rangemode="tozero")

# %% [markdown]
# (Unseen crops are of the same photographs and can overlap with those trained on. They are judged with the averaged weights, a
# hint in every call and their class, so that their loss can be lower than that of the training steps.)
#
# Over all times the network is **above** the affine predictor, and by the most towards the data. It has not even learned all that
# the covariance matrix says, which the affine predictor was simply handed: for some hundred steps that is a lot to ask.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Samples
#
# {numref}`chap-latent-diffusion` has integrated a flow before; here each call is handed the hint of the one before. Beside the
# samples stand draws from a Gaussian with the mean and the covariance of the training latents, which is told no class.


# %%
@torch.no_grad()
def decode(x):
    z = dataset.denormalise(x)
    return torch.cat([autoencoder.decode(b).clamp(-1, 1) for b in z.split(128)])


def draw(**how):
    sampling = denoising.Sampling(samples=n_samples, batch_size=n_samples, seed=seed, **how)  # fmt: skip
    drawn = denoising.sample_batches(
        denoiser, sampling, dataset.shape, len(classes)
    )
    return next(drawn)[1]


# %%
start = torch.randn(n_samples, *dataset.shape, generator=generator)
colour = eigenvectors * eigenvalues.sqrt()  # times white noise: covariance Σ
gaussian = (start.flatten(1).double() @ colour.T).float().view_as(start)
gaussian = gaussian + z.mean(0)

# %% [markdown] slideshow={"slide_type": "slide"}
# ### On the way
#
# On the left the state $x_t$, decoded; on the right what the network takes the clean latent to be,
#
# $$
# \hat x(x_t, t) = x_t - t\,v_\theta(x_t, t, y) \;\approx\; \mathbb E[x_0 \mid x_t, y],
# $$ (eq-prediction)
#
# where the approximation would be exact for the exact velocity. Rows are classes (astronaut, chelsea, flower, motorcycle,
# rocket), columns five different noises.

# %% slideshow={"slide_type": "subslide"}
rows_of = torch.arange(len(classes)).repeat_interleave(5)
same_noise = torch.randn(5, *dataset.shape, generator=generator).repeat(len(classes), 1, 1, 1)  # fmt: skip
how = {"steps": 16, "shown": (0, 1, 2, 4, 6, 8, 10, 12, 14, 16)}
trajectory_explorer(denoiser, decode, same_noise, rows_of, guidances=(1.0, 3.0), **how)  # fmt: skip

# %% [markdown]
# At $t=1$ the prediction is the same for all noises, up to what the network gets wrong: the mean of the class (with
# guidance 3 a point beyond it, away from the mean of all). The noise in a column is the same for all classes, so what the
# images of a column have in common is due to the noise.
#
# ```{admonition} In the paper
# :class: paper
#
# Fig. 6 of {cite:t}`skorokhodov2025improving` shows such trajectories of a DiT-XL with and without their regularization
# of the autoencoder. Without it, they say, high-frequency artifacts appear early; with it the trajectory is smoother and goes from
# coarse to fine. A network as small as this one cannot show that. The numbers of the paper's main tables come from 256 steps
# without guidance, its ablations from 80 or 128; nearly all its pictures have a scale of 3.
# ```
#
# ## Guidance
#
# Samples of a class should look like the class. In training a tenth of the labels were replaced by $\varnothing$, so the
# same network also knows the velocity without a class. **Classifier-free guidance** {cite}`ho2022classifier` starts at
# that one ($w = 0$), reaches the one with it at $w = 1$, and for $w > 1$ goes on along the same line:
#
# $$
# v_w(x, t, y) = v(x, t, \varnothing) + w\,\bigl(v(x, t, y) - v(x, t, \varnothing)\bigr) .
# $$ (eq-guidance)
#
# What does it mean? From $x_t = (1-t)x_0 + t\varepsilon$ follows $\varepsilon - x_0 = (\varepsilon - x_t)/(1-t)$, and the
# gradient of the log density of $x_t$ is $-\mathbb E[\varepsilon\mid x_t]/t$. Taking the mean given $x_t$,
#
# $$
# v(x,t) = -\frac{x + t\,\nabla_x \log p_t(x)}{1-t},
# $$ (eq-score)
#
# so the velocity is an affine function of the score, and a mixture of velocities whose weights sum to one is the same
# mixture of scores. By Bayes' rule
#
# $$
# \nabla_x \log p_t(x) + w\,\nabla_x \log \frac{p_t(x \mid y)}{p_t(x)}
# = \nabla_x \log p_t(x) + w\,\nabla_x \log p_t(y \mid x) .
# $$ (eq-guided-score)
#
# A scale $w>1$ follows a classifier that the network contains, more than a sample of the class would. What comes out is
# not $p(x)\,p(y\mid x)^w$, since powers and added noise do not commute; it is a heuristic that works. Each guided
# step takes two calls of the network. {cite:t}`kynkaanniemi2024applying` guide only in an interval of noise levels,
# which saves calls and, on ImageNet, improved FID.

# %%
arms = {
    "w = 0": {"guidance": 0.0},
    "w = 1": {"guidance": 1.0},
    "w = 2": {"guidance": 2.0},
    "w = 4": {"guidance": 4.0},
    "w = 4, 0.3 ≤ t ≤ 0.8": {"guidance": 4.0, "guidance_interval": (0.3, 0.8)},
}
guided = {name: draw(steps=16, **how) for name, how in arms.items()}


# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
def by_class(x, y, each=4):
    """A mosaic with one row per class; of few images in whatever order they come."""
    chosen = [torch.nonzero(y == k).flatten()[:each] for k in range(len(classes))]
    enough = all(len(row) == each for row in chosen)
    some = torch.cat(chosen) if enough else torch.arange(each * len(classes))
    return mosaic(decode(x[some]), each)


sampled_labels = torch.arange(n_samples) % len(classes)
scales = ("w = 0", "w = 1", "w = 2", "w = 4")
rows = [by_class(x, sampled_labels) for x in (gaussian, *map(guided.get, scales))]
figures.panels(
    [figures.picture(one) for one in (*rows, by_class(fresh, fresh_labels))],
    ["Gaussian", *scales, "true latents"],
    columns=3,
    height=640,
    alt="Six mosaics, one row for each class. Draws from the Gaussian have soft shapes in mixed colours, and so have samples "
    "without the class, w = 0. With growing scale each row comes closer to the colours of its photograph and its samples to each "
    "other; at w = 4 contrast is exaggerated. Decoded true latents have more definite shapes.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
features = offline.offline_features()
reference = samples.reference([decode(fresh)], features, progress=False)
PHOTOS = [offline.LABELS.index(name) for name in classes]


@torch.no_grad()
def judged(x, y) -> dict[str, float]:
    """Distance, share whose photograph the classifier names, spread within a class."""
    seen = features(decode(x))
    right = features.network.classes(seen)[:, PHOTOS].argmax(1) == y
    spread = torch.stack([seen[y == k].var(0).sum() for k in y.unique()])
    return {
        "Fréchet distance": samples.frechet_to(reference, [decode(x)], features),
        "named": right.float().mean().item(),
        "spread": spread.mean().sqrt().item(),
    }


# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
outcome = {name: judged(x, sampled_labels) for name, x in guided.items()}
outcome["Gaussian, no class"] = judged(gaussian, sampled_labels)
outcome["noise"] = judged(start, sampled_labels)
outcome["true latents"] = judged(z[:n_samples], labels[:n_samples])
for name, found in outcome.items():
    run.metrics |= {f"guidance {name}: {key}": value for key, value in found.items()}  # fmt: skip
results.show(outcome, {"Fréchet distance": ".2f", "named": ".0%", "spread": ".2f"})

# %% [markdown] slideshow={"slide_type": "slide"}
# How good are they? The Fréchet distance is taken over the small feature network that comes with this book. **It is not FID**, and
# compares with nothing outside this chapter. The reference are *reconstructions* of unseen crops, so that what is judged is the
# denoiser and not the decoder; the distance of true latents is what is left between two sets of this size. *Named* is the share
# of samples for which the classifier of the offline features, which was trained on these photographs, names the one asked for
# among the five (one in five by chance); *spread* is the standard deviation of the features within a class.
#
# Without a class the network (w = 0) and the Gaussian compare, as neither knows one: **the network loses**. The mean
# and the covariance matrix, which the Gaussian was handed, are worth more here than some hundred steps of training.
#
# Read the columns together. With a growing scale, up to 2, more samples are *named* as their class and their *spread* falls, in
# the end below that of true latents: samples become more typical than the class is. At w = 4 colours are visibly exaggerated.
#
# Five photographs, sixteen tokens, one seed and some hundred steps show how each part works. They do not show that a part is
# worth its price on ImageNet, for that see {cite:t}`peebles2023scalable`, and nothing here tests for copies of training crops.
#
# ## To take away
#
# - A DiT is a transformer on patches that is told time and class through its layer norms. Zero gates make every block the
#   identity at the start.
# - A training loss has two marks to compare with: the loss of predicting nothing, and that of the best affine guess. Only
#   below the second, on unseen data, has a network learned more than means and covariances.
# - Guidance trades spread for samples that look like their class.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} Parameters and cost ★
# :label: ex-attention-cost
#
# From {eq}`eq-dit-cost`, at how many tokens does attention cost as much as the linear maps, for DiT-S and DiT-XL? Which side of an
# image at f8 is that with patch 1? And which share of the parameters of DiT-XL/2 is in the modulation of {eq}`eq-adaln`, which of
# the computing?
# ```
#
# ````{solution} ex-attention-cost
# :class: dropdown
#
# $2L^2D = 12LD^2$ gives $L = 6D$: 2 304 tokens for S, an image of 384², and 6 912 for XL, one of 664². Clips of video pass this
# number soon, since time is not patched.
#
# ```python
# row, D, n = counted["DiT-XL/2"], 1152, 28
# print(f"{n * (6 * D**2 + 6 * D) / 1e6 / row[MILLIONS]:.0%} of the parameters")
# print(f"{n * 6 * D**2 / 1e9 / row[COUNT]:.2%} of the multiply-accumulates")
# ```
#
# A third of the parameters ($6D^2$ beside $12D^2$ in each block), and about two thousandths of the computing, because the
# condition is one vector and the tokens are many. Parameters are a poor measure of cost.
# ````
#
# ```{exercise} A transformer without positions ★★★
# :label: ex-permute
#
# Show that without rotations the trained network commutes with every permutation of positions, and that with
# its rotations it does not.
# ```
#
# ````{solution} ex-permute
# :class: dropdown
#
# ```python
# import copy
#
# order = torch.randperm(start[0, 0].numel())
# shuffle = lambda z: z.flatten(2)[..., order].unflatten(2, z.shape[2:])
# still = copy.deepcopy(denoiser)
# for block in still.blocks:  # called without the angles
#     attend = block.attention.forward
#     block.attention.forward = lambda x, rotation, attend=attend: attend(x)
#
# x, t4 = start[:4], torch.full((4,), 0.5)
# for name, network in (("rotations", denoiser), ("none", still)):
#     print(name, (shuffle(network(x, t4)) - network(shuffle(x), t4)).abs().max().item())
# ```
#
# Without rotations the difference is rounding: linear maps, norms and MLP treat tokens one by one, and attention is a sum
# over all of them. Such a network could not care about the shuffled latents of {numref}`chap-latent-diffusion`.
# ````
#
# ## What this chapter claims
#
# What the text says of this run, once more, as conditions. When one fails, somebody rewrites the sentence.

# %%
# "The first loss is that of predicting nothing", "zero everywhere but in the last linear map"
assert abs(first_loss.item() - 2) < 0.2
assert moved == ["out.weight", "out.bias"]
assert 1.25 < counted_price < 1.35  # "1.3"
assert " ".join(classes) == "astronaut chelsea flower motorcycle rocket"
# "the two agree to 0.02 · 10⁹"
published = dict(zip(SIZES, (6.06, 23.01, 80.71, 118.64), strict=True))  # Gflops
for name, gflops in published.items():
    assert abs(counted[f"DiT-{name}/2"][COUNT] - gflops) <= 0.025
w = {name: outcome[f"w = {name}"] for name in (0, 1, 2, 4)}
if size == "laptop":
    assert fresh_loss > floor  # "Over all times the network is above"
    gaps = torch.tensor(by_time) - torch.tensor(affine)
    assert times[gaps.argmax()] < 0.5  # "by the most towards the data"
    # "the network loses": without a class to a Gaussian; told the class it comes nearer
    assert (
        w[0]["Fréchet distance"] > outcome["Gaussian, no class"]["Fréchet distance"]
    )
    far = [w[scale]["Fréchet distance"] for scale in (0, 1, 2)]
    assert far == sorted(far, reverse=True)
    # "up to 2, more samples are named …, their spread falls, in the end below that of true latents"
    assert w[0]["named"] < w[1]["named"] < w[2]["named"]
    assert w[0]["spread"] > w[1]["spread"] > w[2]["spread"] > w[4]["spread"]
    assert w[4]["spread"] < outcome["true latents"]["spread"]

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
for name in SIZES:
    of = counted[f"DiT-{name}/2"]
    numbers = f"{of[MILLIONS]:6.1f} M parameters, {of[COUNT]:6.2f} · 10⁹"
    print(f"DiT-{name}/2: {numbers}, in blocks {of['in the blocks']:.1%}")
ratio = round(counted["DiT-XL/1"][COUNT] / counted["DiT-XL/2"][COUNT], 3)
print("patch 1 over patch 2, XL:            ", ratio)
print("output before training:              ", largest_output)
print("parameters with a gradient then:     ", moved)
print("products know differences only:      ", apart < 1e-10)
print("price of self-conditioning, counted: ", round(counted_price, 2))
print("affine predictor between 0 and 2:    ", 0 < floor < 2)
print("training has lowered the loss:       ", last_loss < 0.95 * every_loss[0])
nearer = w[1]["Fréchet distance"] < outcome["noise"]["Fréchet distance"]
print("samples nearer than noise:           ", nearer)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
