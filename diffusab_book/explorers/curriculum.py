r"""What a curriculum in frequency feeds: latent energy by band under low-passed images, and an explorer over the steps.

A linear encoder, aliased or not, followed by subsampling makes of an image :math:`X` the latent

.. math:: \hat z(\nu) = \frac1{f^2} \sum_{a \in \{0, \dots, f-1\}^2}
          \hat h\Bigl(\frac{\nu + a}f\Bigr)\, \hat X\Bigl(\frac{\nu + a}f\Bigr) .

Different frequencies of stationary images are uncorrelated, so that energies add, and a low-pass can only take terms
away: no band gains. Whatever energy a band gains comes from what is not linear in an encoder, or from images that are
not stationary. :func:`~diffusab_core.metrics.probes.fed_energy` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product

import plotly.graph_objects as go
from torch import Tensor

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.latents.encoded import without_high_frequencies
from diffusab_core.methods.freqwarm import EVERYTHING, SCHEDULES, FreqWarm
from diffusab_core.metrics import psnr
from diffusab_core.metrics.probes import EDGES, fed_energy

STEPS = 600  # of the run, warm-up included
WARMUPS = {0.25: 150, 0.5: 300}  # steps by the share of the run
#: Steps of the slider: the first and the last, of each warm-up the middle, its last and the first after it.
SHOWN = (0, 75, 149, 150, 299, 300, 599)


def curriculum_explorer(
    image: Tensor, autoencoders: Mapping[str, Autoencoder], r0s: Sequence[float] = (0.1, 0.2, 0.4)
) -> Explorer:
    r"""The curriculum at a step: its cutoff, a photograph as the encoder sees it, and what becomes of its latent.

    Left :math:`r(k)` over the run with a mark at the step, in the middle the photograph cut at :math:`r(k)`, right the
    energy of the latent's bands, as the denoiser is fed them, over that for the whole photograph.

    Args:
        image: ``(3, H, W)`` in [-1, 1].
        autoencoders: By the name that the reader sees.
        r0s: Cutoffs at the start, in cycles per pixel.

    Raises:
        ValueError: No autoencoder, or as :func:`fed_energy`.
        LatentsError: A cutoff that :class:`~diffusab_core.methods.freqwarm.FreqWarm` refuses.
    """
    if not autoencoders:
        raise ValueError("the explorer needs at least one autoencoder")
    choices = list(product(r0s, WARMUPS, SCHEDULES))
    plans = {(r0, share, schedule): FreqWarm(WARMUPS[share], r0, schedule) for r0, share, schedule in choices}
    x = image[None]

    @cache
    def at(radius: float) -> tuple[go.Figure, str, dict[str, list[float]]]:
        """The photograph cut at a radius, its title, and the energies over the whole photograph's."""
        seen = without_high_frequencies(x, None if radius == math.inf else radius)
        ratios = {}
        for name, autoencoder in autoencoders.items():
            now, whole = fed_energy(autoencoder, x, [radius, math.inf], EDGES)
            ratios[name] = (now / whole).tolist()
        cut = f"photograph, {psnr(seen.clamp(-1, 1), x).item():.1f} dB" if radius < math.inf else "whole photograph"
        return figures.picture(seen[0], 70), cut, ratios

    # Ranges are fixed, so that nothing jumps; an encoder may answer a cut with more energy.
    highest = 1.05 * max(1.05, *(v for r0 in r0s for values in at(r0)[2].values() for v in values))
    along = sorted({*range(0, STEPS, 10), *SHOWN})
    bands = [f"{high:.2g}" for high in EDGES[1:]]

    @cache
    def cutoffs(plan: FreqWarm, step: int) -> go.Figure:
        # The cutoff is infinite after the warm-up; the corner of the spectrum stands for it.
        cut = {k: min(plan.cutoff(k), EVERYTHING) for k in along}
        looks = {"cutoff": {"dash": "solid", "line_shape": "hv", "hovertemplate": "step %{x}: r = %{y:.3f}"},
                 "now": {"mode": "markers", "color": figures.VERMILLION, "size": 11, "hoverinfo": "skip"}}  # fmt: skip
        fig = figures.lines({"cutoff": (along, list(cut.values())), "now": ([step], [cut[step]])}, styles=looks,
                            xlabel="step k", ylabel="cutoff r(k)")  # fmt: skip
        fig.update_xaxes(range=[-0.03 * STEPS, 1.03 * STEPS]).update_yaxes(range=[0, 0.75])
        return fig.update_layout(showlegend=False)

    @cache
    def energies(radius: float) -> go.Figure:
        found = {name: dict(zip(bands, values, strict=True)) for name, values in at(radius)[2].items()}
        fig = figures.bars(found, xlabel="band up to, per latent pixel", ylabel="over the whole image's")
        fig.update_yaxes(range=[0, highest], title_standoff=4).update_layout(showlegend=True)
        return figures.mark(fig, y=1)

    def draw(step: int, r0: float = r0s[0], share: float = 0.25, schedule: str = SCHEDULES[0]) -> go.Figure:
        plan = plans[r0, share, schedule]
        radius = plan.cutoff(step)
        picture, title, _ = at(radius)
        now = f"step {step}: " + ("whole images" if radius == math.inf else f"r = {radius:.3f}")
        return figures.panels(
            [cutoffs(plan, step), picture, energies(radius)], [now, title, "energy of the latent"],
            "Explorer over the steps of a run: the cutoff of the curriculum at the chosen step, a photograph with the "
            f"frequencies beyond it removed, and the energies of the latent's bands in {', '.join(autoencoders)} over "
            "those of the whole photograph's latent, which are one from the end of the warm-up on.",
            height=330, widths=[0.34, 0.3, 0.36],
        )  # fmt: skip

    return Explorer(
        draw,
        [
            Control("step", "step", SHOWN, SHOWN[1], "slider"),
            Control("r0", "r₀", tuple(r0s), 0.2 if 0.2 in r0s else r0s[0], "menu", lambda r: f"{r:g}"),
            Control("share", "warm-up", tuple(WARMUPS), 0.25, "menu", lambda s: f"{s:.0%}"),
            Control("schedule", "switch:", SCHEDULES, SCHEDULES[0], "menu"),
        ],
    )
