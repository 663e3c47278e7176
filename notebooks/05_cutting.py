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
# (chap-cutting)=
# # Cutting high frequencies
#
# A spectrum says how much energy a latent has at each frequency. It does not say whether the decoder *uses* that energy. A
# diffusion model generates the highest frequencies last and worst, so the question matters: if the decoder leans on them,
# small errors there become visible errors in the picture. The experiment of this chapter is the most direct one there is.
# Set the high frequencies to zero and look.
#
# ```{measured-runtime}
# ```
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

# %% tags=["hide-input"]
import plotly.graph_objects as go
import torch
from IPython.display import Markdown
from plotly.subplots import make_subplots

from diffusab_core import autoencoders, data, metrics, spectrum
from diffusab_book import figures
from diffusab_book.explorers import spectra as explore
from diffusab_core.experiments import records

run = records.start(
    "05_cutting",
    parameters={
        "models": models,
        "n_images": n_images,
        "resolution": resolution,
        "block_size": block_size,
    },
    seed=seed,
    size=size,
    data=f"{n_images} crops of {resolution}² from the held-out photographs (coffee, china)",
)
B = block_size

# %% [markdown]
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
# frequencies $f$ times higher. This is the comparison that the paper makes; {ref}`chap-chopping` adds the one at equal
# frequencies of the scene, and it changes how the pictures below have to be read.
#
# The picture that is compared with the original is $\tilde x$ for the image and $\mathrm{Dec}(\tilde z)$ for the latent.

# %% tags=["hide-input"]
picture = data.photo("coffee")[
    :, 80:336, 176:432
]  # (3, 256, 256), never trained on
first = autoencoders.load(models[0])
with torch.no_grad():
    z = first.encode(picture[None]).mean

shares = (1.0, 0.75, 0.5, 0.25, 0.1)
mosaic = make_subplots(
    2,
    len(shares),
    horizontal_spacing=0.01,
    vertical_spacing=0.09,
    subplot_titles=[" "] * 2 * len(shares),
)
titles = []
for row, which in enumerate(("photograph", "latent"), start=1):
    for column, share in enumerate(shares, start=1):
        if which == "photograph":
            shown = spectrum.chop_high_frequencies(
                picture, 1 - share, B * first.compression
            )
        else:
            with torch.no_grad():
                shown = first.decode(
                    spectrum.chop_high_frequencies(z, 1 - share, B)
                )[0]
        small = torch.nn.functional.interpolate(
            shown[None], size=(160, 160), mode="bilinear", antialias=True
        )[0]
        mosaic.add_trace(figures.image_trace(small, quality=75), row, column)
        db = metrics.psnr(shown[None], picture[None]).item()
        titles.append(
            f"{share:.0%}"
            + ("" if share == 1 and which == "photograph" else f"<br>{db:.1f} dB")
        )
for row in (1, 2):
    figures.hide_image_axes(mosaic, range(1, len(shares) + 1), row=row)
for annotation, title in zip(mosaic.layout.annotations, titles, strict=True):
    annotation.update(text=title, font_size=12)
mosaic.update_layout(height=400, margin={"l": 4, "r": 4, "t": 40, "b": 4})
figures.described(
    mosaic,
    "Two rows of five pictures of a cup with 100 to 10 percent of the low "
    "frequencies kept. The photograph, above, grows slightly softer; the picture "
    "decoded from the cut latent, below, loses its structure much sooner.",
)

# %% [markdown]
# Above, the photograph; below, the picture decoded from its latent, with the same share of low frequencies kept.
#
# ```{admonition} In the paper
# :class: paper
#
# Fig. 5 of {cite:t}`skorokhodov2025improving` has these two rows for FluxAE and finds the same contrast: RGB is hardly
# degraded where reconstructions from cut latents fall apart early. Its third row is an autoencoder fine-tuned so
# that the cut does less harm; {ref}`chap-chopping` has it.
# ```
#
# ## Move the cut yourself

# %%
explore.cut_explorer(picture[:, 32:224, 32:224], first, B, orders=spectrum.ORDERS)

# %% [markdown]
# ## Cut curves
#
# One picture is an anecdote. The curves below average the PSNR over held-out crops, for several small autoencoders that
# come with this book. A latent's curve starts at its reconstruction quality, not at infinity, so what the *cut* costs is
# the distance it falls from there.

# %%
crops = data.Photos(resolution=resolution, split="test", seed=seed)
x = data.stack(crops, range(n_images))  # (n, 3, resolution, resolution)
grid = (1.0, 0.75, 0.5, 0.25, 0.1, 0.05)
curves, rgb_curves = {}, {}
for name in models:
    autoencoder = autoencoders.load(name)
    curves[name] = {}
    # Both orders on the first only: the others are compared by zigzag.
    for order in spectrum.ORDERS if name == models[0] else ("zigzag",):
        ratios = [explore.cut_ratio(share, order) for share in grid]
        measured = metrics.cut_curve(autoencoder, x, ratios, B, order)
        curves[name][order] = list(measured.latent)
        if (
            order == "zigzag"
        ):  # of the uncut image PSNR is infinite: from the first cut on
            rgb_curves[autoencoder.compression] = list(measured.rgb[1:])

# %% tags=["hide-input"]
plot = go.Figure()
for i, (f, values) in enumerate(rgb_curves.items()):
    style = {"color": figures.GREY, "dash": ("solid", "dot")[i % 2]}
    plot.add_trace(
        go.Scatter(
            x=[100 * s for s in grid if s < 1],
            y=values,
            name=f"RGB, blocks of {f * B}",
            line=style,
        )
    )
for i, (name, by_order) in enumerate(curves.items()):
    style = {
        "color": figures.PALETTE[i],
        "dash": figures.DASHES[i % len(figures.DASHES)],
    }
    plot.add_trace(
        go.Scatter(
            x=[100 * s for s in grid],
            y=by_order["zigzag"],
            name=name,
            line=style,
            mode="lines+markers",
        )
    )
plot.update_xaxes(
    title="low frequencies kept, % (zigzag)", autorange="reversed"
).update_yaxes(title="PSNR, dB")
plot.update_layout(height=420, margin_t=80)
figures.described(
    plot,
    "PSNR against the share of low frequencies kept. The curves of photographs "
    "start above 35 dB and fall gently; those of the autoencoders start at their "
    "reconstruction quality and fall with the first cut.",
)

# %% tags=["hide-input"]
at_half, at_quarter = grid.index(0.5), grid.index(0.25)
rows = []
for name, by_order in curves.items():
    c = by_order["zigzag"]
    run.metrics |= {
        f"{name}_psnr_db_uncut": c[0],
        f"{name}_psnr_db_half": c[at_half],
        f"{name}_psnr_db_quarter": c[at_quarter],
    }
    rows.append(
        f"| {name} | {c[0]:.1f} | {c[0] - c[at_half]:.1f} | {c[0] - c[at_quarter]:.1f} |"
    )
    run.series |= {
        f"{name}_{order}_psnr_db": values for order, values in by_order.items()
    }
Markdown(
    f"**Measured here.** What the cut costs, in dB below the uncut reconstruction; mean over {n_images} held-out crops, one "
    "training run of each autoencoder:\n\n| autoencoder | uncut, dB | half cut | "
    "three quarters cut |\n|---|---|---|---|\n" + "\n".join(rows)
)

# %% [markdown]
# A fair reading needs care. An autoencoder with few channels starts lower and has less to lose. What stays comparable is
# the *share of the error* that the cut adds: if $e_0$ is the mean squared error of the uncut reconstruction and $e$ that
# after the cut, then $e/e_0$ says how many times the error has grown. On the dB scale that is the difference the table
# shows: 3 dB is a factor of two, 10 dB a factor of ten.
#
# ## Zigzag, or axis by axis?
#
# The zigzag mask keeps a triangle of the block, the mask by axes a square, $u, v < B - n_{\text{cut}}$. At the same number of
# kept coefficients the triangle reaches to finer horizontal and vertical detail, the square to finer diagonals.

# %%
comparison = go.Figure()
for i, order in enumerate(spectrum.ORDERS):
    kept = [
        spectrum.kept_share(explore.cut_ratio(s, order), B, order) for s in grid
    ]
    style = {"color": figures.PALETTE[i], "dash": figures.DASHES[i]}
    comparison.add_trace(
        go.Scatter(x=[100 * k for k in kept], y=curves[models[0]][order], name=f"{models[0]}, {order}", line=style,
                   mode="lines+markers")
    )  # fmt: skip
comparison.update_xaxes(
    title="coefficients kept, % (as counted)", autorange="reversed"
).update_yaxes(title="PSNR, dB")
comparison.update_layout(height=360)
figures.described(
    comparison,
    "PSNR against the counted share of kept coefficients for the two orders of "
    "cutting, on the first autoencoder.",
)

# %% tags=["hide-input"]
exact = [s for s in grid if (round(s**0.5 * B) ** 2) / B**2 == s and 0 < s < 1]
text = []
for s in exact:
    both = {
        order: curves[models[0]][order][grid.index(s)] for order in spectrum.ORDERS
    }
    run.metrics |= {
        f"{models[0]}_{order}_psnr_db_keep_{s:g}": db for order, db in both.items()
    }
    text.append(
        f"at {s:.0%} kept, {both['zigzag']:.2f} dB by zigzag and {both['axes']:.2f} dB by axes"
    )
Markdown(
    f"**Measured here** ({models[0]}, equal numbers of kept coefficients): "
    + "; ".join(text)
    + "."
)

# %% [markdown]
# ```{admonition} In the paper
# :class: paper
#
# Table 6 compares the two orders not as a test but as a *training* regularization (chopping high frequencies, CHF), by the
# downstream distance FDD of a DiT-S/2. By axes, cutting 90 / 70 / 30 / 10 % gives 912.4 / 915.6 / 929.7 / 916.5; by zigzag
# 935.5 / 932.8 / 962.9 / 930.1; without it 992.0. By axes is better in every row. Its "90 %" is not the same number of
# coefficients in both: nine tenths cut from *each* axis of a block leave about a hundredth, nine tenths cut along the
# zigzag leave a tenth.
# ```
#
# ## What the experiment leaves open
#
# - Cutting is not what a diffusion model does. It makes errors of some size at high frequencies; it does not set them to
#   zero. The cut stands for one kind of error, and not for the worst kind: see {ref}`ex-noise-instead`.
# - PSNR weighs all frequencies of the *picture* by their energy, so it forgives a soft picture. A perceptual distance would
#   not; this book computes none where its network's weights cannot be had offline.
# - A decoder that breaks on cut latents may simply never have seen such latents. It does not follow that the information was
#   only there. Fine-tuning with cut latents tests exactly this, in {ref}`chap-chopping`.
#
# ## Exercises
#
# ```{exercise} Cut the low frequencies instead
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
# ```{exercise} Small blocks, large blocks
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
# ```{exercise} Noise instead of nothing
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
# ## Check yourself

# %% tags=["checkpoint"]
counts = [
    int(spectrum.frequency_mask(8, r, o).sum())
    for o in spectrum.ORDERS
    for r in (0.25, 0.5, 0.9)
]
print("kept of 64, zigzag then axes:       ", counts)
print("half of each axis keeps:            ", spectrum.kept_share(0.5, 8, "axes"))
print(
    "an uncut latent is untouched:       ",
    bool(torch.allclose(spectrum.chop_high_frequencies(z, 0, B), z, atol=1e-4)),
)
print(
    "RGB keeps over 25 dB with a quarter:",
    all(
        values[[s for s in grid if s < 1].index(0.25)] > 25
        for values in rgb_curves.values()
    ),
)
print(
    "three quarters cost more than half: ",
    all(c["zigzag"][at_quarter] < c["zigzag"][at_half] for c in curves.values()),
)

# %% tags=["hide-input"]
record = run.finish()
if record_path:
    record.write(record_path)
Markdown(
    f"Run `{record.identity}`: size `{record.size}`, seed {record.seed}, {record.device}, torch {record.versions['torch']}, "
    f"{record.wall_time_s:.0f} s."
)
