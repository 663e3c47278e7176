r"""What a warm-up on low-passed images shows a denoiser, by frequency, and what the switch away from it costs.

By zigzag rank k of the latents' DCT, all latents normalised by the statistics of the whole images': the variance of
whole and of low-passed images' latents, their ratio, and the distance of the two distributions. For linear denoisers
the loss right after the switch is known, :func:`~diffusab_core.flow.gaussian.mismatch_loss`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core.flow.gaussian import mismatch_loss as mismatch_loss
from diffusab_core.metrics.probes import Exposure
from diffusab_core.metrics.probes import exposure as exposure
from diffusab_core.spectrum.bands import ranked as ranked
from diffusab_core.spectrum.bands import second_moments as second_moments
from diffusab_core.spectrum.radial import radial_split


def warmup_explorer(
    image: Tensor, found: Mapping[str, Mapping[float, Exposure]], start: float = 0.2, mark: int | None = None
) -> Explorer:
    r"""What a warm-up at each cutoff shows: the low-passed image, the energy of its latents, their distance by rank.

    Args:
        image: ``(3, H, W)`` in [-1, 1], of which the low-passed form is shown.
        found: By autoencoder, by cutoff in cycles per pixel, the same cutoffs for all.
        start: The cutoff shown first.
        mark: Rank from which on ranks count as high, drawn as a line; by default half of them.

    Raises:
        ValueError: No autoencoder, or cutoffs that differ between them.
    """
    cutoffs = [tuple(by_radius) for by_radius in found.values()]
    if not cutoffs or any(c != cutoffs[0] for c in cutoffs):
        raise ValueError(f"every autoencoder needs the same cutoffs, got {cutoffs}")
    first = next(iter(next(iter(found.values())).values()))
    k = len(first.energy)
    half = k // 2 if mark is None else mark
    top = max(e.ratio.max().item() for by_radius in found.values() for e in by_radius.values())

    @cache
    def picture(radius: float) -> go.Image:
        return figures.image_trace(radial_split(image, radius)[0], quality=80)

    def draw(r0: float) -> go.Figure:
        high = {name: by_radius[r0].warm[half:].sum() / by_radius[r0].energy[half:].sum()
                for name, by_radius in found.items()}  # fmt: skip
        said = ", ".join(f"{name} × {value:.2f}" for name, value in high.items())
        fig = make_subplots(
            2, 2, specs=[[{}, {}], [{"colspan": 2}, None]], column_widths=[0.36, 0.64], vertical_spacing=0.2,
            horizontal_spacing=0.14, row_heights=[0.55, 0.45],
            subplot_titles=[f"r₀ = {r0:g}", "energy, low-passed / whole",
                            f"distance over energy<br>energy, upper half: {said}"],
        )  # fmt: skip
        fig.add_trace(picture(r0), row=1, col=1)
        figures.hide_image_axes(fig, [1])
        for i, (name, by_radius) in enumerate(found.items()):
            shown = by_radius[r0]
            style = {"color": figures.PALETTE[i], "dash": figures.DASHES[i], "width": 2}
            for values, row, column in ((shown.ratio, 1, 2), (shown.distance, 2, 1)):
                line = go.Scatter(
                    y=[float(f"{v:.4g}") for v in values.tolist()], name=name, legendgroup=name, mode="lines",
                    line=style, showlegend=row == 1, hovertemplate="rank %{x}: %{y:.3g}<extra>" + name + "</extra>",
                )  # fmt: skip
                fig.add_trace(line, row, column)
        for row, column in ((1, 2), (2, 1)):
            fig.add_vline(x=half - 0.5, line={"color": figures.GREY, "dash": "dot", "width": 1}, row=row, col=column)
            fig.update_xaxes(title="zigzag rank", title_standoff=4, row=row, col=column)
        fig.add_hline(y=1, line={"color": figures.GREY, "width": 1}, row=1, col=2)
        fig.update_yaxes(range=[0, max(1.1, 1.05 * top)], row=1, col=2)
        fig.update_yaxes(range=[-0.02, 1.02], row=2, col=1)
        fig.update_layout(height=560, margin={"t": 84, "l": 44, "r": 12}, legend={"y": 1.06, "x": 0})
        fig.update_annotations(font_size=13)
        return figures.described(
            fig,
            "Explorer over the cutoff: a low-passed photograph, and by zigzag rank the energy of low-passed images' "
            "latents over that of whole ones and the distance of the two distributions, for each autoencoder. The last "
            "title gives the ratio of the energies of the upper half of the ranks.",
        )

    return Explorer(draw, [Control("r0", "cutoff r₀, cycles per pixel", cutoffs[0], start, "slider",
                                   lambda r: f"{r:.3g}" if r < math.inf else "none")])  # fmt: skip
