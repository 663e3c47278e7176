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
# (chap-cutting)=
# # Cutting high frequencies
#
# **In short.** Cut half of the frequencies from a photograph, and you hardly see it; cut the same share from its latent, and
# the decoded picture is soft. Most of this contrast is the grid: at equal shares the photograph keeps detail $f$ times finer.
# Cut at the same frequencies of the scene, photograph and latent look nearly alike.
#
# ```{measured-runtime}
# ```

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
models: list[str] = [
    "kl-f4c16",
    "kl-f8c4",
    "kl-f8c16",
    "kl-f8c64",
]  # shipped names, diffusers folders or hub ids
n_images: int = 24
resolution: int = 128
block_size: int = 8
record_path: str = ""  # where the run record goes; nowhere when empty

# %% jupyter={"source_hidden": true} tags=["hide-input"]
import numpy as np
import torch

from diffusab_book import chapters, figures, results
from diffusab_book.explorers.spectra import cut_explorer, cut_ratio
from diffusab_core import autoencoders, data, metrics, spectrum
from diffusab_core.spectrum import bands

run = chapters.start(
    "05_cutting",
    globals(),
    data=f"{n_images} crops of {resolution}² from the held-out photographs (coffee, china)",
)
B = block_size
chop = spectrum.chop_high_frequencies
chop_scene = bands.keep_latent_frequencies

# %% jupyter={"source_hidden": true} tags=["hide-input"]
picture = data.photo("china")[:, 40:296, 140:396]  # (3, 256, 256), held out
first = autoencoders.load(models[0])
f = first.compression
shares = (1.0, 0.75, 0.5, 0.25, 0.1)
strips = {
    "same share": [chop(picture, 1 - s, B * f) for s in shares],
    "same scene": [chop_scene(picture, f, 1 - s, B) for s in shares],
}
with torch.no_grad():
    z = first.encode(picture[None]).mean
    decoded = [first.decode(chop(z, 1 - s, B))[0] for s in shares]
strips["latent"] = decoded
titles = [
    [
        f"{s:.0%}: {metrics.psnr(shown[None], picture[None]):.1f} dB"
        for s, shown in zip(shares, strip, strict=True)
    ]
    for strip in strips.values()
]
titles[0][0] = "uncut"

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
figures.image_grid(
    strips,
    titles,
    "Three rows of five pictures of a pavilion with 100 to 10 percent of the low frequencies kept. The photograph, above, grows "
    "only slightly softer. The same photograph cut at the frequencies of the scene that the latent keeps, in the middle, and the "
    "picture decoded from the cut latent, below, lose their detail together and much sooner.",
)

# %% [markdown] slideshow={"slide_type": "slide"}
# *Share of low frequencies kept, and PSNR.* Above, the photograph with the same share kept as in its latent, whose decoded picture is below.
# In the middle stands the photograph again, with those frequencies of the *scene* that the cut leaves in the latent. The first and the last
# row are the comparison of the paper; the middle row says how to read it.
#
# A spectrum says how much energy a latent has at each frequency. It does not say whether the decoder *uses* that energy. If
# the decoder leans on high frequencies, errors that a diffusion model makes there become errors in the picture. The
# experiment of this chapter is the most direct one there is. Set the high frequencies to zero and look.
#
# How large are those errors? High frequencies are decided late ({numref}`chap-autoregression`). That they come out *worst* is
# often said, and our records of 600 steps go both ways. Of twelve runs with patches of one latent pixel (`sweeps/denoisers.yaml`),
# ten make samples whose energies are farther off in the lower half of the ranks than in the upper half, and in one the highest
# quarter is the worst. In all nine with patches of two (`sweeps/se_lengths.yaml`) the upper half is farther off;
# {numref}`chap-pays` follows these to 9 600 steps.
#
# ```{admonition} Learning goals
# :class: goals
#
# After this chapter you can
#
# - cut the same share of frequencies from an image and from its latent, say why their blocks differ in size, and why this is
#   not the same as cutting the same detail;
# - read a cut curve, and separate what the cut costs from what reconstruction costs anyway;
# - compare the zigzag order with a cut along each axis at equal numbers of kept coefficients;
# - say what the experiment shows about an autoencoder, and what it leaves open.
# ```
#
# ## The same cut in two places
#
# In the latent, the cut acts on blocks of $B\times B$: with the mask
#
# $$
# \mathbf M_{uv} = \begin{cases} 1 & \text{if } \operatorname{zigzag}(u,v) < B^2 - n_{\text{cut}},\\ 0 & \text{otherwise,}\end{cases}
# \qquad
# \tilde z = \mathcal D^{-1}\bigl(\mathcal D(z)\cdot \mathbf M\bigr),
# $$ (eq-mask)
#
# where $\mathcal D$ is the blockwise DCT (Eq. 5 of {cite:t}`skorokhodov2025improving`; the paper writes $N$ for
# $n_{\text{cut}}$). One latent position covers $f\times f$ pixels, so the block of the image that shows the same part of
# the scene has $fB\times fB$ pixels, and the same *share* of its coefficients is cut. Each signal then loses the same part of
# its own band. It is not the same detail of the scene: the image has $f$ times finer pixels, so what is left of it reaches to
# frequencies $f$ times higher. For the same frequencies of the scene you keep the same *number* of coefficients of a block,
# the same pairs $(u, v)$, which is a share $f^2$ times smaller. {numref}`chap-chopping` derives this and comes back to it.
#
# The picture that is compared with the original is $\tilde x$ for the image and $\mathrm{Dec}(\tilde z)$ for the latent.
#
# ```{admonition} In the paper
# :class: paper
#
# Fig. 5 of {cite:t}`skorokhodov2025improving` has the first and the last row of the picture above for FluxAE and finds the
# same contrast: RGB is hardly degraded where reconstructions from cut latents fall apart early. Its third row is an
# autoencoder fine-tuned so that the cut does less harm; {numref}`chap-chopping` has it. A row at equal frequencies of the
# scene is not in the paper.
# ```
#
# ## Move the cut yourself
#
# The slider chooses how much is kept, in the photograph and in its latent alike; the menu chooses in which order coefficients are cut.

# %% slideshow={"slide_type": "subslide"}
cut_explorer(picture[:, 32:224, 32:224], first, B, orders=spectrum.ORDERS)

# %% [markdown]
# ## Cut curves
#
# One picture is an anecdote. The curves below average the PSNR over held-out crops, for several small autoencoders that
# come with this book. Grey curves are photographs, cut in the two ways of the picture at the top. A latent's curve starts at its
# reconstruction quality, not at infinity, so what the *cut* costs is the distance it falls from there.

# %%
crops = data.Photos(resolution=resolution, split="test", seed=seed)
x = data.stack(crops, range(n_images))  # (n, 3, resolution, resolution)
grid = (1.0, 0.75, 0.5, 0.25, 0.1, 0.05)
curves, rgb_curves, scene_curves = {}, {}, {}
for name in models:
    autoencoder = autoencoders.load(name)
    f = autoencoder.compression
    curves[name] = {}
    # Both orders on the first only: the others are compared by zigzag.
    for order in spectrum.ORDERS if name == models[0] else ("zigzag",):
        ratios = [cut_ratio(share, order) for share in grid]
        measured = metrics.cut_curve(autoencoder, x, ratios, B, order)
        curves[name][order] = list(measured.latent)
        run.series[f"{name}_{order}_psnr_db"] = list(measured.latent)
        if order == "zigzag":  # the PSNR of the uncut image is infinite
            rgb_curves[f] = list(measured.rgb[1:])
    scene = [chop_scene(x, f, 1 - s, B) for s in grid]
    scene_curves[f] = [metrics.psnr(cut, x).item() for cut in scene]

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
kept = [100 * s for s in grid]
plain = {f"RGB, same share, f{f}": (kept[1:], c) for f, c in rgb_curves.items()}
same_scene = {f"RGB, same scene, f{f}": (kept, c) for f, c in scene_curves.items()}
styles = {}
for name, dash in zip(plain, ("solid", "longdash"), strict=False):
    styles[name] = {"color": figures.GREY, "dash": dash}
for name, dash in zip(same_scene, ("dot", "dashdot"), strict=False):
    styles[name] = {"color": figures.GREY, "dash": dash}
for i, name in enumerate(models):
    styles[name] = {"color": i, "dash": figures.DASHES[i], "mode": "lines+markers"}
decoded = {name: (kept, c["zigzag"]) for name, c in curves.items()}
plot = figures.lines(
    plain | same_scene | decoded,
    xlabel="low frequencies kept, % (zigzag)",
    ylabel="PSNR, dB",
    styles=styles,
    height=460,
    alt="PSNR against the share of low frequencies kept. The curves of photographs at equal shares start above 40 dB and "
    "fall gently; those of the autoencoders start at their reconstruction quality and fall with the first cut. The curves of "
    "photographs cut at the latent's frequencies of the scene lie a little above those of the autoencoders.",
)
plot.update_xaxes(autorange="reversed").update_layout(margin_t=100)

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
at_half, at_quarter = grid.index(0.5), grid.index(0.25)
costs = {}
for name in models:
    c, f = curves[name]["zigzag"], autoencoders.load(name).compression
    run.metrics |= {
        f"{name}_psnr_db_uncut": c[0],
        f"{name}_psnr_db_half": c[at_half],
        f"{name}_psnr_db_quarter": c[at_quarter],
    }
    costs[name] = {
        "uncut, dB": c[0],
        "half cut costs": c[0] - c[at_half],
        "three quarters cost": c[0] - c[at_quarter],
        "below RGB, same share": rgb_curves[f][at_half - 1] - c[at_half],
        "below RGB, same scene": scene_curves[f][at_half] - c[at_half],
    }
results.show(costs, ".1f", index="autoencoder")

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**: what the cut costs, in dB below the uncut reconstruction; then, with half cut, how far the decoded picture
# lies below the photograph that is cut in one or the other way. Means over held-out crops, one training run of each
# autoencoder.
#
# With half of the frequencies cut, the decoded pictures lie more than 10 dB below the photograph at the same share. From the
# photograph cut at the same frequencies of the scene they are three decibels away or less, and part of that is the error of
# the uncut reconstruction: these decoders lose about the detail that the cut frequencies stood for, and not much else.
#
# Comparing autoencoders needs care, too. One with few channels starts lower and has less to lose. What stays comparable is
# the *share of the error* that the cut adds: if $e_0$ is the mean squared error of the uncut reconstruction and $e$ that
# after the cut, then $e/e_0$ says how many times the error has grown. On the dB scale that is the difference the table
# shows: 3 dB is a factor of two, 10 dB a factor of ten.
#
# ## Zigzag, or axis by axis?
#
# The zigzag mask keeps a triangle of the block, the mask by axes a square, $u, v < B - n_{\text{cut}}$ ($n_{\text{cut}}$ is then counted
# along an axis). At the same number of kept coefficients the triangle reaches to finer horizontal and vertical detail, the square to finer
# diagonals.

# %% jupyter={"source_hidden": true} tags=["hide-input"] slideshow={"slide_type": "subslide"}
by_order = {}
for order in spectrum.ORDERS:
    ratios = [cut_ratio(s, order) for s in grid]
    counted = [100 * spectrum.kept_share(r, B, order) for r in ratios]
    by_order[f"{models[0]}, {order}"] = (counted, curves[models[0]][order])
comparison = figures.lines(
    by_order,
    xlabel="coefficients kept, % (as counted)",
    ylabel="PSNR, dB",
    mode="lines+markers",
    alt="PSNR against the counted share of kept coefficients for the two orders of cutting, on the first autoencoder. The "
    "two curves nearly coincide.",
)
comparison.update_xaxes(autorange="reversed")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
exact = [s for s in grid if (round(s**0.5 * B) ** 2) / B**2 == s and 0 < s < 1]
at_equal = {}  # by axes a cut keeps a square number of coefficients: few shares are exact
for s in exact:
    both = {o: curves[models[0]][o][grid.index(s)] for o in spectrum.ORDERS}
    run.metrics |= {
        f"{models[0]}_{o}_psnr_db_keep_{s:g}": v for o, v in both.items()
    }
    at_equal[f"{s:.0%}"] = {
        "zigzag, dB": both["zigzag"],
        "by axes, dB": both["axes"],
    }
results.show(at_equal, ".2f", index="coefficients kept")

# %% [markdown] slideshow={"slide_type": "slide"}
# **Measured here**, on the first autoencoder, at equal numbers of kept coefficients: the order of cutting makes next to no
# difference.
#
# ```{admonition} In the paper
# :class: paper
#
# Table 6 compares the two orders not as a test but as a *training* regularization (chopping high frequencies, CHF), by the downstream
# distance FDD of a DiT-S/2 (lower is better; 992.0 without it):
#
# | cut, % | 90 | 70 | 30 | 10 |
# |---|---|---|---|---|
# | by axes | 912.4 | 915.6 | 929.7 | 916.5 |
# | by zigzag | 935.5 | 932.8 | 962.9 | 930.1 |
#
# By axes is better in every column. Its "90 %" is not the same number of coefficients in both: nine tenths cut from *each* axis of a block
# leave about a hundredth, nine tenths cut along the zigzag leave a tenth.
# ```
#
# ## What the experiment leaves open
#
# - Cutting is not what a diffusion model does. It makes errors of some size at all frequencies; it does not set any to
#   zero. The cut stands for one kind of error, and not for the worst kind: see {ref}`ex-noise-instead`.
# - PSNR weighs all frequencies of the *picture* by their energy, so it forgives a soft picture. A perceptual distance would
#   not; this book computes none where the weights of its network are not at hand.
# - A decoder that breaks on cut latents may simply never have seen such latents. It does not follow that the information was
#   only there. Fine-tuning with cut latents tests exactly this, in {numref}`chap-chopping`.
#
# ## To take away
#
# - Cut the same share of frequencies from picture and latent, and you do not cut the same detail: the picture's grid is $f$
#   times finer.
# - At the same frequencies of the scene, picture and latent look nearly alike. Add that row before you call a decoder
#   fragile.
# - Compare autoencoders by how many times the error grows, not by the decibels that are left.
# - A cut measures dependence. It does not say which errors a diffusion model makes.
#
# ## Quiz
#
# ```{quiz}
# Three questions, whose answers are checked on this page of the built book and in the notebooks of the course kit.
# ```
#
# ## Exercises
#
# ```{exercise} Cut the low frequencies instead ★
# :label: ex-lowcut
#
# Keep only the *upper* part of the ranks and decode. What do you see, and which autoencoder shows most?
# ```
#
# ````{solution} ex-lowcut
# :class: dropdown
#
# ```python
# autoencoder = autoencoders.load("kl-f4c16")
# with torch.no_grad():
#     z = autoencoder.encode(picture[None]).mean
#     high = z - spectrum.chop_high_frequencies(z, 0.5, 8)
#     pictures = [picture, autoencoder.decode(high)[0], autoencoder.decode(z - high)[0]]
# figures.images(pictures, ["original", "upper half only", "lower half only"], alt="Edges survive in the upper half.")
# ```
#
# Edges and texture without the colours of surfaces: the picture is recognisable from its high latent frequencies alone.
# ````
#
# ```{exercise} Small blocks, large blocks ★
# :label: ex-blocks
#
# Repeat a cut curve with blocks of 4 and of 16. Does the cost at equal shares depend on the block size, and why?
# ```
#
# ````{solution} ex-blocks
# :class: dropdown
#
# ```python
# for b in (4, 8, 16):
#     with torch.no_grad():
#         latents = first.encode(x).mean
#         cut = spectrum.chop_high_frequencies(latents, 0.5, b)
#         print(b, f"{metrics.psnr(first.decode(cut), x).item():.2f} dB")
# ```
#
# The cut frequency in cycles per latent pixel is the same for the same share, so the cost is similar. What differs are the
# block borders: smaller blocks have more of them, and a cut makes neighbouring blocks disagree there.
# ````
#
# ```{exercise} Noise instead of nothing ★★
# :label: ex-noise-instead
#
# Replace the coefficients that the mask removes by Gaussian noise of the same energy, rank by rank. Is that better or worse
# than zeros? Predict first.
# ```
#
# ````{solution} ex-noise-instead
# :class: dropdown
#
# ```python
# with torch.no_grad():
#     latents = first.encode(x).mean
# d = spectrum.block_dct(latents, 8)
# removed = ~spectrum.frequency_mask(8, 0.5)
# energy = d.square().mean((0, 2, 3), keepdim=True)  # per channel and coefficient
# noisy = torch.where(removed, torch.randn_like(d) * energy.sqrt(), d)
# with torch.no_grad():
#     print(f"{metrics.psnr(first.decode(spectrum.block_idct(noisy)), x).item():.2f} dB")
# ```
#
# Worse, here by about 0.7 dB: independent noise of the right energy doubles the squared error in the latent, $\mathbb E(n - d)^2 = 2\,\mathbb E
# d^2$, where zeros leave it at $\mathbb E d^2$. It keeps the profile as it was, though: a right-looking spectrum is not yet
# a right latent.
# ````
#
# ## What this chapter claims
#
# Each assertion guards the sentence above it. If one fails, the sentence has to be rewritten.


# %%
# "ten make samples whose energies are farther off in the lower half of the ranks than in the upper half, and in one
#  the highest quarter is the worst"
def energies_off(runs):
    return [
        np.abs(np.divide(r.series["generated_energy"], r.series["real_energy"]) - 1)
        for r in runs.record
    ]


off = energies_off(results.frame("denoisers"))
assert len(off) == 12
assert sum(e[:32].mean() > e[32:].mean() for e in off) == 10
assert sum(e.reshape(4, 16).mean(1).argmax() == 3 for e in off) == 1
# "In all nine with patches of two … the upper half is farther off"
coarse = energies_off(results.frame("se_lengths").query("steps == 600"))
assert [e[32:].mean() > e[:32].mean() for e in coarse] == 9 * [True]
# "the decoded pictures lie more than 10 dB below the photograph at the same share"
assert all(row["below RGB, same share"] > 10 for row in costs.values())
# "From the photograph cut at the same frequencies of the scene they are three decibels away or less"
assert all(abs(row["below RGB, same scene"]) < 3 for row in costs.values())
# "the order of cutting makes next to no difference"
assert all(abs(v["zigzag, dB"] - v["by axes, dB"]) < 0.3 for v in at_equal.values())

# %% [markdown]
# ## Check yourself

# %% tags=["checkpoint"]
counts = [
    int(spectrum.frequency_mask(8, r, o).sum())
    for o in spectrum.ORDERS
    for r in (0.25, 0.5, 0.9)
]
uncut = torch.allclose(spectrum.chop_high_frequencies(z, 0, B), z, atol=1e-4)
rgb_quarter = [values[at_quarter - 1] for values in rgb_curves.values()]
zigzag = [c["zigzag"] for c in curves.values()]
print("kept of 64, zigzag then axes:       ", counts)
print("half of each axis keeps:            ", spectrum.kept_share(0.5, 8, "axes"))
print("an uncut latent is untouched:       ", bool(uncut))
print("RGB keeps over 25 dB with a quarter:", all(db > 25 for db in rgb_quarter))
deeper = all(c[at_quarter] < c[at_half] for c in zigzag)
print("three quarters cost more than half: ", deeper)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chapters.finish(run)
