r"""What a curriculum in frequency feeds: latent energy by band under low-passed images, and an explorer over the steps.

A linear encoder, aliased or not, followed by subsampling makes of an image :math:`X` the latent

.. math:: \hat z(\nu) = \frac1{f^2} \sum_{a \in \{0, \dots, f-1\}^2}
          \hat h\Bigl(\frac{\nu + a}f\Bigr)\, \hat X\Bigl(\frac{\nu + a}f\Bigr) .

Different frequencies of stationary images are uncorrelated, so that energies add, and a low-pass can only take terms
away: no band gains. Whatever energy a band gains comes from what is not linear in an encoder, or from images that are
not stationary. :func:`~diffusab_core.metrics.probes.fed_energy` measures it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.latents.encoded import without_high_frequencies
from diffusab_core.methods.freqwarm import EVERYTHING, SCHEDULES, FreqWarm
from diffusab_core.metrics import psnr
from diffusab_core.metrics.probes import EDGES, fed_energy

R0S = (0.1, 0.2, 0.4)
SHARES = (0.25, 0.5)


def shown_steps(steps: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Steps of the explorer: the first and the last, of each warm-up the middle, its last and the first after it."""
    found = {0, steps - 1}
    for switch in (round(share * steps) for share in shares):
        found |= {switch // 2, switch - 1, switch}
    return tuple(sorted(found))


def curriculum_explorer(
    image: Tensor,
    autoencoders: Mapping[str, Autoencoder],
    steps: int = 600,
    r0s: Sequence[float] = R0S,
    shares: Sequence[float] = SHARES,
    edges: Sequence[float] = EDGES,
    start: int | None = None,
) -> Explorer:
    r"""The curriculum at a step: its cutoff, a photograph as the encoder sees it, and what becomes of its latent.

    Left :math:`r(k)` over the run with a mark at the step, in the middle the photograph cut at :math:`r(k)`, right the
    energy of the latent's bands, as the denoiser is fed them, over that for the whole photograph.

    Args:
        image: ``(3, H, W)`` in [-1, 1].
        autoencoders: By the name that the reader sees.
        steps: Of the run, warm-up included.
        r0s: Cutoffs at the start, in cycles per pixel.
        shares: Of the steps that the warm-up takes.
        edges: Of the latent's bands, in cycles per pixel of the latent.
        start: The step shown first, one of :func:`shown_steps`; the second of them if ``None``.

    Raises:
        ValueError: No autoencoder, a run that is too short for its warm-up, or as :func:`fed_energy`.
        LatentsError: A cutoff that :class:`~diffusab_core.methods.freqwarm.FreqWarm` refuses.
    """
    if not autoencoders:
        raise ValueError("the explorer needs at least one autoencoder")
    if not all(1 <= round(share * steps) < steps for share in shares):
        raise ValueError(f"warm-ups must take from 1 to {steps - 1} of {steps} steps, got shares {tuple(shares)}")
    x, places = image[None], shown_steps(steps, shares)
    plans = {
        (r0, share, schedule): FreqWarm(round(share * steps), r0, schedule)
        for r0 in r0s
        for share in shares
        for schedule in SCHEDULES
    }

    @cache
    def at(radius: float) -> tuple[str, float, dict[str, list[float]]]:
        """The photograph cut at a radius as a data URI, its PSNR, and the energies over the whole photograph's."""
        seen = without_high_frequencies(x, None if radius == math.inf else radius)
        ratios = {}
        for name, autoencoder in autoencoders.items():
            now, whole = fed_energy(autoencoder, x, [radius, math.inf], edges)
            ratios[name] = [round(v, 3) for v in (now / whole).tolist()]
        db = math.inf if radius == math.inf else psnr(seen.clamp(-1, 1), x).item()
        return figures.image_trace(seen[0], quality=70).source, db, ratios

    # Ranges are fixed, so that nothing jumps; an encoder may answer a cut with more energy.
    highest = 1.05 * max(1.05, *(v for r0 in r0s for values in at(r0)[2].values() for v in values))
    frame = _frame(steps, tuple(autoencoders), edges, highest)
    along = sorted({*range(0, steps, max(1, steps // 60)), *places})

    def draw(step: int, r0: float = r0s[0], share: float = shares[0], schedule: str = SCHEDULES[0]) -> go.Figure:
        plan = plans[r0, share, schedule]
        radius = plan.cutoff(step)
        picture, db, energy = at(radius)
        whole = radius == math.inf
        data = copy.deepcopy(frame["data"])
        # The cutoff is infinite after the warm-up; the corner of the spectrum stands for it.
        data[0] |= {"x": along, "y": [round(min(plan.cutoff(k), EVERYTHING), 4) for k in along]}
        data[1] |= {"x": [step], "y": [round(min(radius, EVERYTHING), 4)]}
        data[2]["source"] = picture
        for bars, values in zip(data[3:], energy.values(), strict=True):
            bars["y"] = values
        layout = copy.deepcopy(frame["layout"])
        layout["annotations"][0]["text"] = f"step {step}: " + ("whole images" if whole else f"r = {radius:.3f}")
        layout["annotations"][1]["text"] = "whole photograph" if whole else f"photograph, {db:.1f} dB"
        return go.Figure(data=data, layout=layout)

    controls = [
        Control("step", "step", places, places[1] if start is None else start, "slider", str),
        Control("r0", "r₀", tuple(r0s), 0.2 if 0.2 in r0s else r0s[0], "menu", lambda r: f"{r:g}"),
        Control("share", "warm-up", tuple(shares), shares[0], "menu", lambda s: f"{s:.0%}"),
        Control("schedule", "switch:", SCHEDULES, SCHEDULES[0], "menu", str),
    ]
    return Explorer(draw, controls)


def _frame(steps: int, names: Sequence[str], edges: Sequence[float], highest: float) -> dict[str, Any]:
    """What all drawings of the explorer share, as plain values: a figure is built once, not for every step."""
    fig = make_subplots(
        1, 3, column_widths=[0.34, 0.3, 0.36], horizontal_spacing=0.1,
        subplot_titles=["cutoff", "photograph", "energy of the latent"],
    )  # fmt: skip
    curve = go.Scatter(mode="lines", line={"color": figures.BLUE, "shape": "hv"}, showlegend=False,
                       hovertemplate="step %{x}: r = %{y:.3f}<extra></extra>")  # fmt: skip
    mark = go.Scatter(mode="markers", marker={"color": figures.VERMILLION, "size": 11}, showlegend=False,
                      hoverinfo="skip")  # fmt: skip
    fig.add_trace(curve, 1, 1)
    fig.add_trace(mark, 1, 1)
    fig.add_trace(go.Image(hoverinfo="skip"), 1, 2)
    edge_names = [f"{high:.2g}" for high in edges[1:]]
    bands = [f"{low:g} to {high:.2g}" for low, high in pairwise(edges)]
    for i, name in enumerate(names):
        bars = go.Bar(
            x=edge_names, customdata=bands, name=name, marker_color=figures.PALETTE[i],
            marker_pattern_shape=("", "/", ".")[i % 3],
            hovertemplate="%{customdata}: %{y:.3f}<extra>" + name + "</extra>",
        )  # fmt: skip
        fig.add_trace(bars, 1, 3)
    fig.add_hline(y=1, line={"color": figures.GREY, "width": 1, "dash": "dot"}, row=1, col=3)
    fig.update_xaxes(title="step k", range=[-0.03 * steps, 1.03 * steps], row=1, col=1)
    fig.update_yaxes(title="cutoff r(k)", range=[0, 0.75], row=1, col=1)
    figures.hide_image_axes(fig, [2])
    fig.update_xaxes(title="band up to, per latent pixel", type="category", tickangle=0, row=1, col=3)
    fig.update_yaxes(title="over the whole image's", title_standoff=4, range=[0, highest], row=1, col=3)
    fig.update_layout(height=330, margin={"t": 84, "l": 52, "r": 8, "b": 48}, legend={"x": 0.66, "y": 1.13})
    fig.update_annotations(font_size=13)
    figures.described(
        fig,
        "Explorer over the steps of a run: the cutoff of the curriculum at the chosen step, a photograph with the "
        f"frequencies beyond it removed, and the energies of the latent's bands in {', '.join(names)} over those of "
        "the whole photograph's latent, which are one from the end of the warm-up on.",
    )
    return {"data": [trace.to_plotly_json() for trace in fig.data], "layout": fig.layout.to_plotly_json()}
