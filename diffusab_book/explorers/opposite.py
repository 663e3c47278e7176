r"""What a warm-up on low-passed images shows a denoiser, by frequency.

By zigzag rank k of the latents' DCT, all latents normalised by the statistics of the whole images': the variance of
whole and of low-passed images' latents, their ratio, and the distance of the two distributions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import plotly.graph_objects as go
from torch import Tensor

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core.metrics.probes import Exposure
from diffusab_core.spectrum.radial import radial_split


def warmup_explorer(
    image: Tensor, found: Mapping[str, Mapping[float, Exposure]], start: float = 0.2, mark: int = 32
) -> Explorer:
    r"""What a warm-up at each cutoff shows: the low-passed image, the energy of its latents, their distance by rank.

    Args:
        image: ``(3, H, W)`` in [-1, 1], of which the low-passed form is shown.
        found: By autoencoder, by cutoff in cycles per pixel, the same cutoffs for all.
        start: The cutoff shown first.
        mark: Rank from which on ranks count as high, drawn as a line.

    Raises:
        ValueError: No autoencoder, or cutoffs that differ between them.
    """
    cutoffs = [tuple(by_radius) for by_radius in found.values()]
    if not cutoffs or any(c != cutoffs[0] for c in cutoffs):
        raise ValueError(f"every autoencoder needs the same cutoffs, got {cutoffs}")
    top = max(e.ratio.max().item() for by_radius in found.values() for e in by_radius.values())

    def draw(r0: float) -> go.Figure:
        shown = {name: by_radius[r0] for name, by_radius in found.items()}
        high = (f"{name} × {e.warm[mark:].sum() / e.energy[mark:].sum():.2f}" for name, e in shown.items())
        ratio, distance = (
            figures.mark(
                figures.lines({name: getattr(e, of) for name, e in shown.items()}, xlabel="zigzag rank"), x=mark - 0.5
            )
            for of in ("ratio", "distance")
        )
        figures.mark(ratio, y=1).update_yaxes(range=[0, max(1.1, 1.05 * top)])
        return figures.panels(
            [figures.picture(radial_split(image, r0)[0]), ratio, distance.update_yaxes(range=[-0.02, 1.02])],
            [f"r₀ = {r0:g}", "energy, low-passed / whole",
             f"distance over energy<br>energy, upper half: {', '.join(high)}"],
            "Explorer over the cutoff: a low-passed photograph, and by zigzag rank the energy of low-passed images' "
            "latents over that of whole ones and the distance of the two distributions, for each autoencoder. The last "
            "title gives the ratio of the energies of the upper half of the ranks.",
            height=560, wide=True, widths=[0.36, 0.64], heights=[0.55, 0.45],
        )  # fmt: skip

    return Explorer(draw, [Control("r0", "cutoff r₀, cycles per pixel", cutoffs[0], start, "slider",
                                   lambda r: f"{r:.3g}" if r < math.inf else "none")])  # fmt: skip
