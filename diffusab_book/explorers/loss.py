r"""What a flow loss says of a spectrum: an explorer of the least loss of Gaussian data.

For a Gaussian coefficient of variance :math:`\lambda` and :math:`x_t = (1-t)\,x + t\,\varepsilon`, velocity and state
are jointly Gaussian, and what remains of :math:`\varepsilon - x` once :math:`x_t` is known has the variance

.. math:: \ell_t(\lambda) = \frac{\lambda}{(1-t)^2 \lambda + t^2} .

No linear predictor is better, whatever the distribution with that variance; for the Gaussian no predictor at all is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import torch

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core.flow.gaussian import least_loss, mean_least_loss, tilted

TILTS = tuple(i / 8 for i in range(-8, 9))  # exponents of the gain


def loss_explorer(spectra: Mapping[str, Sequence[float]], block_size: int = 8) -> Explorer:
    r"""A spectrum bent by a gain which the decoder undoes: the same pictures, and another loss.

    Top left the spectrum as it is and bent, top right the least loss of each coefficient, below the mean over them at
    each time; dotted always without the gain. Losses are per number of the latent; averages are over
    logit-normal times of location 0 and scale 1.

    Args:
        spectra: Energies in zigzag order by name, each brought to unit variance; the first is shown first.
        block_size: B.

    Raises:
        ValueError: No spectrum, or one of another length.
    """
    if not spectra:
        raise ValueError("the explorer needs at least one spectrum")
    plain = {name: tilted(torch.as_tensor(e, dtype=torch.float64), 0.0, block_size) for name, e in spectra.items()}
    extremes = [tilted(e, tilt, block_size) for e in plain.values() for tilt in (TILTS[0], 0.0, TILTS[-1])]
    low, high = min(e.min().item() for e in extremes), max(e.max().item() for e in extremes)
    by_rank = max(mean_least_loss(torch.tensor([high], dtype=torch.float64)).item(), 1.0)
    ranges = [math.log10(low / 1.5), math.log10(high * 1.5)], [0, 1.05 * by_rank], [0, 2.1]
    looks = {"without gain": {"color": figures.GREY, "dash": "dot"},
             "with gain": {"color": figures.VERMILLION, "width": 2.5, "dash": "solid"}}  # fmt: skip
    times = torch.linspace(0, 1, 51, dtype=torch.float64)

    def draw(tilt: float, spectrum: str = next(iter(plain))) -> go.Figure:
        old, new = plain[spectrum], tilted(plain[spectrum], tilt, block_size)
        energies = {"without gain": old, "with gain": new}
        losses = {name: mean_least_loss(energy) for name, energy in energies.items()}
        over_time = {name: least_loss(energy, times).mean(1) for name, energy in energies.items()}
        before, after = (value.mean().item() for value in losses.values())
        parts = [
            figures.lines(energies, xlabel="zigzag rank", log_y=True, styles=looks),
            figures.lines(losses, xlabel="zigzag rank", styles=looks),
            figures.lines(over_time, x=times, xlabel="time t (0 is data, 1 is noise)", ylabel="loss per number",
                          styles=looks),
        ]  # fmt: skip
        for part, limits in zip(parts, ranges, strict=True):
            part.update_yaxes(range=limits)
        return figures.panels(
            parts, ["variance", "least loss", f"mean {after:.3f}; {before:.3f} without the gain"],
            "Explorer: a spectrum of unit variance before and after a gain by frequency, what each coefficient "
            "contributes to the least loss, and the least loss at each time. A steeper spectrum has a smaller loss, a "
            "flatter one a larger loss, although the decoder undoes the gain and the pictures are the same.",
            height=560, wide=True,
        )  # fmt: skip

    names = tuple(plain)
    return Explorer(
        draw,
        [
            Control("tilt", "exponent κ of the gain", TILTS, 0.5, "slider", lambda g: f"{g:+.3g}" if g else "0"),
            Control("spectrum", "spectrum:", names, names[0], "menu"),
        ],
    )
