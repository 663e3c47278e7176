# ---
# jupyter:
#   book:
#     needs: [chap-se]
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
# (chap-video)=
# # Video
#
# **In short.** What moves turns detail into flicker: a wave of $\nu$ cycles per pixel that moves $u$ pixels a frame changes with
# $u\nu$ cycles a frame. So the leaves of our clips flicker less at half the sides, and hardly less at half the time. A causal
# autoencoder keeps a latent frame from knowing what comes later; in one of the three classes here its norms tell it all the same.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
n_clips: int = 24  # moving leaves that spectra are taken of
resolution: int = 64
frames: int = 17  # of a clip; 8k + 1 fits all autoencoders here
model: str = ""  # a video autoencoder of yours, folder or hub id, whose latents are drawn too
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import copy

import torch
from diffusers import AutoencoderKLLTXVideo, AutoencoderKLWan

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.motion import motion_explorer
from diffusab_core import autoencoders, data, spectrum
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.experiments.pretraining import Pretraining, build
from diffusab_core.methods import regularizers

run = chapters.start(
    "19_video",
    globals(),
    data=f"{n_clips} clips of moving leaves, {frames} frames of {resolution}²; a row of "
    "the photograph china, which is moved",
)
leaves = data.LeafClips(resolution, seed, frames=frames, labels=False)
x = data.stack(leaves, range(n_clips))  # (n, 3, frames, resolution, resolution)


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def moved(row: torch.Tensor, u: float, count: int = 96) -> torch.Tensor:
    """p(s - ut) for t = 0 … count - 1, (count, W); where the row ends it begins again."""
    nu = torch.fft.rfftfreq(len(row))
    turned = torch.arange(count)[:, None] * u * nu  # cycles
    waves = torch.fft.rfft(row) * torch.exp(-2j * torch.pi * turned)
    return torch.fft.irfft(waves, n=len(row))


def energies(seen: torch.Tensor) -> torch.Tensor:
    """(T, W) -> energies at ω from -1/2 up and ν from 0 to 1/2, of waves exp 2πi(νs - ωt)."""
    waves = torch.fft.rfft(seen - seen.mean(), dim=1)
    return torch.fft.fftshift(torch.fft.ifft(waves, dim=0), dim=0).abs().square()


# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
line = data.photo("china").mean(0)[200, 300:324]  # 24 pixels, grey
row = torch.cat([line, line.flip(0)])  # mirrored, so that its ends meet
speeds = (0, 0.5, 1, 2, 4)
motion_explorer(row, moved, energies, speeds, start=0.5)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Left, one row of a photograph that moves to the right, each frame below the one before. Right, where its energy lies, in decades.
# The slope of the line is the speed. Dotted: ±1/8 cycle a frame, which is all that every fourth frame can follow.*
#
# The larger gains of {cite:t}`skorokhodov2025improving` are on video. Their recipe is that of {numref}`chap-se`, and their spectra
# are taken frame by frame. This chapter looks at what is new when pictures move: what time adds to a spectrum, how a video
# autoencoder makes time shorter, what *causal* means in it and where that ends, and what scale equivariance in time would ask for.
# Nothing is trained here. What holds for every weight is shown with random ones.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - say at which frequency in time a moving wave appears, and when it is seen to go backwards;
# - give the shape of a clip's latent, and name the frames that each of its frames has seen;
# - test whether an autoencoder is causal, and find the layer by which it is not;
# - explain why half the sides calm a clip, while half the time hardly does and leaving out frames does not.
# ```

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Detail that moves, flickers
#
# Let a picture $p$ move with $u$ pixels a frame: $x(s, t) = p(s - ut)$, in one direction $s$ for short. Each of its waves is
# carried along,
#
# $$
# p(s) = \sum_\nu \hat p(\nu)\, e^{2\pi i \nu s}
# \quad\Longrightarrow\quad
# x(s, t) = \sum_\nu \hat p(\nu)\, e^{2\pi i (\nu s - \omega t)}, \qquad \omega = u\,\nu ,
# $$ (eq-video-motion)
#
# so that all energy of the clip lies on a line in the plane of $\nu$, cycles per pixel, and $\omega$, cycles per frame. Coarse
# shapes change slowly, fine detail fast: **the spectrum over time is the spectrum in space, read through the speed.** What stands
# still has no energy outside $\omega = 0$ however sharp it is.
#
# Frames are samples, so $\omega$ is only known up to whole cycles. Where $\lvert u\nu\rvert > 1/2$ the line is folded back, and a
# wave seems to go the other way, as wheels do in films. Nothing is lost by it, as in {numref}`chap-encoder-decoder`: the frames
# are what they are. But if you keep every fourth frame only, they fold at $1/8$.
#
# The dotted lines stand there. With a speed of half a pixel, detail below $\nu = 1/4$ stays between them; with four pixels,
# only what is longer than 32 pixels does.
#
# ## Clips
#
# A clip is $(3, T, H, W)$: $T$ frames. Here they are dead leaves that move, endless and reproducible as the still ones:
# each leaf drifts and turns at its own constant rate, and a leaf in front goes on hiding what lies behind. So a clip has many
# lines at once, one for each leaf and blurred where it turns, and something that no shifted picture has: borders at which things appear.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
shown = [0, 4, 8, 12, 16]
figures.image_grid(
    {leaves.class_names[i]: [x[i, :, t] for t in shown] for i in range(3)},
    [f"frame {t}" for t in shown],
    alt="Three clips of moving leaves, a row each: leaves of one shape drift, turn and "
    "hide one another from frame to frame.",
    size=128,
)

# %% [markdown] slideshow={"slide_type": "slide"}
# Films of your own are taken by every command that takes images, as `--images films --frames 17` ({doc}`films and clips </book/own_data>`).
#
# ## A latent with time
#
# A video autoencoder makes time shorter by a factor $f_t$, as it makes sides shorter by $f$. Most keep the first frame alone, so
# that a single image is a clip of one frame, and pack the others:
#
# $$
# (3, T, H, W) \;\longrightarrow\; \Bigl(C,\; 1 + \frac{T - 1}{f_t},\; \frac Hf,\; \frac Wf\Bigr) .
# $$ (eq-video-shape)

# %%
published = {}
for name in ("FluxAE", "CogVideoX-AE", "LTX-AE", "Wan2.1-AE"):
    entry = (autoencoders.CATALOGUE | autoencoders.PUBLISHED)[name]
    with torch.device("meta"):  # the architecture, without any weights
        published[name] = Autoencoder(name, entry.build())
shapes = {
    name: found.latent_shape(256, 256, 17 if found.takes_clips else None)
    for name, found in published.items()
}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
rows = {}
for name, shape in shapes.items():
    pixels = 3 * 256**2 * (17 if len(shape) == 4 else 1)
    rows[name] = {"latent": " × ".join(map(str, shape))}
    rows[name]["frames in one"] = published[name].temporal_compression
    rows[name]["numbers, % of the clip's"] = (
        100 * torch.Size(shape).numel() / pixels
    )
results.show(rows, ".1f", index="of 17 frames of 256² (FluxAE: of one)")

# %% [markdown] slideshow={"slide_type": "slide"}
# The latents of video are smaller for what they hold. The first latent frame is the exception: it has as many numbers for one
# frame as the others have for four or eight. The paper sees in such irregular latents a reason why there is more to gain on video.
#
# ## Who has heard of whom
#
# The convolutions over time are **causal**: they are padded at the front only, so that what comes out at a time depends on that
# time and earlier ones. Then latent frame $\tau$ is a function of the frames up to the last that is packed into it,
#
# $$
# z_\tau = F_\tau\bigl(x_0, \dots, x_{f_t\tau}\bigr), \qquad z_0 = F_0(x_0) .
# $$ (eq-video-causal)
#
# The second half is what lets one model take images and clips. Is it so? Change one frame, mirror it say, and see which latent
# frames notice. Where this is zero for *random* weights it is zero by construction; how large it is elsewhere is a matter of
# training and says nothing here. Three classes of `diffusers` {cite}`yang2024cogvideox,hacohen2024ltx,wan2025wan`, made small, and a
# fourth network that is CogVideoX with the same weights, but with norms that look at one frame at a time:

# %%
torch.manual_seed(seed)
narrow = {"latents_mean": [0.0] * 3, "latents_std": [1.0] * 3, "z_dim": 3}
narrow |= {"base_dim": 4, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1}
widths = {"block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
depths = {"layers_per_block": (1,) * 5, "decoder_layers_per_block": (1,) * 5}
ltx = AutoencoderKLLTXVideo(latent_channels=6, **widths, **depths)
small = Pretraining(family="cogvideox", frames=frames, channels=(8, 8, 16, 16),
                    images="leaves", held_out="leaves")  # fmt: skip
networks = {
    "Wan": Autoencoder("Wan", AutoencoderKLWan(**narrow).eval()),
    "LTX": Autoencoder("LTX", ltx.eval()),
    "CogVideoX": build(small, "CogVideoX"),
}
by_frame = copy.deepcopy(networks["CogVideoX"])
for layer in by_frame.module.modules():
    if isinstance(layer, torch.nn.GroupNorm):
        layer.forward = lambda z, norm=layer.forward: torch.stack(
            [norm(frame) for frame in z.unbind(2)], dim=2
        )
networks["CogVideoX, norms by frame"] = by_frame


# %%
@torch.no_grad()
def heard(network: Autoencoder, clip: torch.Tensor) -> torch.Tensor:
    """How much latent frame τ changes when frame k is mirrored, in its deviations: (T, T')."""
    z = network.encode(clip[None]).mean  # (1, C, T', h, w)
    changes = []
    for k in range(clip.shape[1]):
        other = clip.clone()
        other[:, k] = clip[:, k].flip(-1)
        change = network.encode(other[None]).mean - z
        changes.append(change.square().mean((0, 1, 3, 4)).sqrt() / z.std())
    return torch.stack(changes)


listening = {name: heard(network, x[0]) for name, network in networks.items()}

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
look = {"label": "decades", "limits": (-4.0, 0.0), "square": False, "height": 440}
grids = []
for found in listening.values():
    heads = (
        [f"z{tau}" for tau in range(found.shape[1])],
        [f"x{k}" for k in range(frames)],
    )
    decades = found.clamp(min=1e-4).log10()
    grids.append(figures.heatmap(decades, x=heads[0], y=heads[1], **look))
figures.panels(
    grids,
    [name.replace(", ", ",<br>") for name in listening],
    "Four grids, a row for each frame that is changed and a column for each latent frame. In Wan and LTX, and in "
    "CogVideoX with norms by frame, the changed cells make a staircase: no latent frame notices a later frame. In "
    "CogVideoX as it is they fill more: frames 0 to 8 reach all latent frames, frames 9 to 16 both of the last two.",
    share_y=True,
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Relative change of each latent frame when a frame of the clip is mirrored; random weights. Dark: less than 10⁻⁴.*
#
# Wan and LTX are causal to the last bit: the staircase of {eq}`eq-video-causal`. CogVideoX is not. Its convolutions are, but
# its group norms take mean and deviation over *all frames of a piece*, nine at first and then eight at a time, and so each frame
# hears of every other one of its piece. From one piece to the next nothing goes back. The last panel is the proof: with norms by
# frame the staircase is there. Wan and LTX normalise each position by itself.
#
# So there the first latent frame of a clip is not that of the same picture encoded alone; in the others it is, to rounding:

# %%
alone = {}
for name, network in networks.items():
    with torch.no_grad():
        z = network.encode(x[:1]).mean[:, :, 0]
        change = network.encode(x[:1, :, 0]).mean - z
    alone[name] = (change.square().mean().sqrt() / z.std()).item()
run.metrics |= {f"alone_{name}": value for name, value in alone.items()}
results.show({"change of z₀, in its deviations": alone}, ".2g")

# %% [markdown] slideshow={"slide_type": "slide"}
# With trained weights the size of this is another one, which we have not measured. That it is there follows from the class.
# It matters for joint training: the paper's batches are 32 clips and 64 images, the images as clips of one frame, and with such
# norms these are not the first frames of clips. (`diffusab finetune MODEL --still-batch 64` makes such batches.)
#
# ## Two spectra
#
# The spectrum of a clip is taken frame by frame, as in {numref}`chap-dct`. Beyond the paper, there is one over time: the DCT
# of each pixel's $T$ values, whose energies are shared out over the ranks from 1 on
# ({py:func}`~diffusab_core.spectrum.temporal_shares`). Rank $k$ is $k/2T$ cycles a frame. Now make a clip smaller by two, in one
# way or the other: its *sides*, bilinear with antialiasing as in {numref}`chap-se`; or its *time*, each second frame averaged with
# its neighbours. Of all, the first nine frames, so that ranks compare.

# %%
nine = (frames + 1) // 2
ways = {
    "as it is": x[:, :, :nine],
    "half the sides": regularizers.downsample(x[:, :, :nine], 2),
    "half the time": regularizers.halve_time(x),
    "every second frame": x[:, :, ::2],
}
if model:
    own = autoencoders.load(model)
    with torch.no_grad():
        ways[model] = torch.cat([own.encode(clip[None]).mean for clip in x])
    ways["frames at which its latents end"] = x[:, :, :: own.temporal_compression]
in_time = {way: spectrum.temporal_shares(clips) for way, clips in ways.items()}
fast = {way: s[len(s) // 2 :].sum().item() for way, s in in_time.items()}
fine = {}
for way, clips in ways.items():
    energy = spectrum.frequency_profile(clips, statistic="energy")
    fine[way] = spectrum.high_frequency_share(energy)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.lines(
    {way: (list(range(1, len(s) + 1)), s) for way, s in in_time.items()},
    log_y=True,
    mode="lines+markers",
    xlabel="rank k over time",
    ylabel="share of the energy that changes",
    alt="Shares of energy by rank over time, all falling. The curve of clips with half the sides falls most steeply; that "
    "of half the time lies close to that of clips as they are; every second frame without averaging lies highest.",
)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
run.metrics |= {f"time_hf_share_{way}": share for way, share in fast.items()}
shares = {
    "over time, upper half of the ranks": fast,
    "frame by frame, HF share": fine,
}
results.show(
    {way: {what: 100 * of[way] for what, of in shares.items()} for way in ways},
    ".1f",
    index="shares in %",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# - **Half the sides** takes away three quarters of what changes fast. No wave of {eq}`eq-video-motion` changes its $\omega$: pixels
#   are twice as large, so frequencies double, speeds halve, and $u\nu$ stays. But the finest waves are gone, and they were the fastest.
# - **Half the time** doubles every $\omega$, and damps it before: the average passes $\cos^2\pi\omega$ of a wave. Over time the
#   spectrum stays nearly where it was. In single frames the average takes about as much detail as half the sides does: it blurs
#   what moves.
# - **Every second frame**, without the average, leaves each frame as sharp as it was, and twice as much changes fast.
#
# All this is of leaves that drift. When the parameter `model` names a video autoencoder of yours, its latents stand beside it.

# %% [markdown] slideshow={"slide_type": "slide"}
# ## Scale equivariance in time
#
# Write $\mathcal T$ for halving the time of a clip or of its latent, first frame kept. The loss of {eq}`eq-se` has an obvious
# sibling,
#
# $$
# d\bigl(\mathcal T x, \mathrm{Dec}(\mathcal T z)\bigr) ,
# $$ (eq-video-temporal)
#
# and for a linear autoencoder with a gain $g(\omega)$ over time the derivation of {numref}`chap-se` can be read again with
# $\omega$ in place of $\nu$: the decoder divides by the gain of the frequency that it sees, $g(2\omega)$, and the loss is zero among
# power laws for a constant gain only. The latent would get the clip's spectrum over time. On spectra alone nothing speaks against
# it: leaves have nearly the same one at half the time.
#
# But **time is not alike at all its places**: $z_0$ holds one frame, the others $f_t$ each. **Little is left**: 17 frames are five
# latent frames for $f_t = 4$, and become three. And **halving is another thing to a clip**: half the sides is the same scene from
# farther away, at the same pace; half the time is a scene at twice the speed, blurred where it moves.
#
# ```{admonition} In the paper
# :class: paper
#
# Appendix E lists it among the failed experiments: tried briefly, it brought no better results, to the authors' surprise. They
# suppose that time is of another nature, since the eye notices fast changes more than slow ones. Weight, way of resizing and
# numbers are not given. What did succeed was scale equivariance in space: FVD falls by at least 44% against the same fine-tuning
# without it (Table 2).
# ```
#
# The table above adds one observation. Scale equivariance *in space* is not blind to time: the clips that it asks for, with half
# the sides, are calmer, since the detail that they lose was what changed fastest. Whether that has a part in the gain on video we do
# not know. The experiment of Appendix E can be run on any video autoencoder; as the paper does not say how, here $\mathcal T$ is the
# average above:
#
# ```bash
# diffusab finetune path/to/video-vae --images films --frames 17 --method temporal-se --out runs/temporal
# diffusab finetune path/to/video-vae --images films --frames 17 --method plain --out runs/control
# ```
#
# ## What this leaves open
#
# **Everything that needs weights:** this chapter trains no video autoencoder and no denoiser of video, and the released weights of
# the three classes were not at hand. **Real films:** leaves drift with constant speeds, cameras shake and people stop. **The eye:** no
# distance here weighs flicker as a viewer does. **Learning:** {numref}`chap-dial` gives latents of pictures other spectra and trains on
# them. Whether a spectrum over time makes a denoiser of video learn faster or slower is what such a training would show, and nobody has
# done it here; the sweeps `se_table_02` and `se_temporal` are there for it, and wait to be run.
#
# ## To take away
#
# - A wave that moves flickers: $\omega = u\nu$. Detail and speed together make a spectrum over time.
# - The first latent frame is alone and has most room; the others hold four or eight frames each.
# - Causal convolutions do not make a causal network: a norm over all frames of a piece hears the future. Change a frame and look.
# - Half the sides calm these clips, half the time hardly does. Of scale equivariance in time the paper reports a failure, without numbers.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} Shapes ★
# :label: ex-video-shapes
#
# What is the latent of 33 frames of 512² in each of the three classes, and how many numbers does a denoiser see? Which of them
# take 37 frames?
# ```
#
# ````{solution} ex-video-shapes
# :class: dropdown
#
# ```python
# for name in ("CogVideoX-AE", "LTX-AE", "Wan2.1-AE"):
#     shape = published[name].latent_shape(512, 512, 33)
#     print(name, shape, torch.Size(shape).numel(), "steps of", published[name].clip_step)
# ```
#
# $16 \times 9 \times 64 \times 64$ for CogVideoX and Wan, 589 824 numbers, and $128 \times 5 \times 16 \times 16$ for LTX,
# 163 840. 37 is $4 \cdot 9 + 1$, which fits Wan; LTX wants $8k + 1$. So does CogVideoX, though it has $f_t = 4$: it works in pieces
# of eight frames.
# ````
#
# ```{exercise} Backwards ★★
# :label: ex-video-backwards
#
# A wave of $\nu = 1/8$ moves six pixels a frame. Where is its energy in the plane, and which speed does one see? At which speeds
# does it stand still?
# ```
#
# ````{solution} ex-video-backwards
# :class: dropdown
#
# ```python
# wave = torch.cos(2 * torch.pi * torch.arange(48) / 8)
# energy = energies(moved(wave, 6))
# k = energy[:, 6].argmax().item()  # ν = 6/48
# print(k / 96 - 0.5)
# ```
#
# $u\nu = 3/4$, which is $-1/4$ up to whole cycles: two pixels a frame, backwards. It stands still where $u\nu$ is a whole number, at
# multiples of eight pixels, its own length.
# ````
#
# ```{exercise} An average for time ★★★
# :label: ex-video-average
#
# Show that $(1, 2, 1)/4$ passes $\cos^2 \pi\omega$ of a wave. What does it leave of one that folds exactly onto $\omega = 0$ when every
# second frame is kept? Is its output causal, and what follows for a causal decoder?
# ```
#
# ````{solution} ex-video-average
# :class: dropdown
#
# $\tfrac14 e^{-2\pi i\omega} + \tfrac12 + \tfrac14 e^{2\pi i\omega} = \tfrac12(1 + \cos 2\pi\omega) = \cos^2\pi\omega$. What folds onto
# zero has $\omega = 1/2$, where it is zero: a flicker from frame to frame is gone. It is not causal, since it looks one frame ahead,
# in the clip and in the latent alike. A halved latent frame so holds what the decoder has never been shown at that time.
# ````
#
# ## What this chapter claims
#
# What the text says of this run, once more as conditions. When one fails, the sentence that it is quoted from has to be rewritten.

# %%
# "all energy of the clip lies on a line", folded back
columns, stray = torch.arange(25), 0.0  # ν = column / 48; ω goes by 1/96
for u in speeds:
    plane = energies(moved(row, u)) / energies(moved(row, u)).sum()
    at = (2 * u * columns + 48).round().long() % 96
    stray = max(stray, 1 - plane[at, columns].sum().item())
assert stray < 1e-6
# "causal to the last bit": latent frame τ knows no frame after the last that it holds
for name in ("Wan", "LTX", "CogVideoX, norms by frame"):
    found, f_t = listening[name], networks[name].temporal_compression
    for tau in range(found.shape[1]):
        assert found[f_t * tau + 1 :, tau].eq(0).all()
        assert found[: f_t * tau + 1, tau].gt(0).all()
# "CogVideoX is not"; "From one piece to the next nothing goes back"
cog = listening["CogVideoX"]
assert cog[:9].gt(0).all()
assert cog[9:, 3:].gt(0).all()
assert cog[9:, :3].eq(0).all()
# "not that of the same picture encoded alone; in the others it is, to rounding"
assert alone["CogVideoX"] > 0.01
assert max(alone[n] for n in alone if n != "CogVideoX") < 1e-4

# %%
# "three quarters of what changes fast"; "stays nearly where it was"; "twice as much"
by = {way: share / fast["as it is"] for way, share in fast.items()}
assert 0.2 < by["half the sides"] < 0.3
assert 0.8 < by["half the time"] < 1.25
assert 1.7 < by["every second frame"] < 2.4
# "about as much detail as half the sides does"; "leaves each frame as sharp as it was"
assert 0.8 < fine["half the time"] / fine["half the sides"] < 1.25
assert abs(fine["every second frame"] / fine["as it is"] - 1) < 0.05
# "The first latent frame … has as many numbers for one frame as the others for four or eight"
compressions = {n: found.temporal_compression for n, found in published.items()}
assert compressions == {"FluxAE": 1, "CogVideoX-AE": 4, "LTX-AE": 8, "Wan2.1-AE": 4}
assert all(n.family.first_frame_alone for n in published.values() if n.takes_clips)

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
for name, shape in shapes.items():
    print(f"latent, {name + ':':28}", " × ".join(map(str, shape)))
notice = {name: bool(found[1:, 0].any()) for name, found in listening.items()}
print("all energy where ω = uν:            ", stray < 1e-6)
print("z₀ hears of later frames:           ", notice)
print("half the sides is calmer:           ", by["half the sides"] < 0.5)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
