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
from plotly.subplots import make_subplots

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core.flow.gaussian import least_loss, mean_least_loss, sampled_energy, tilted
from diffusab_core.spectrum.bands import radii

__all__ = ["TILTS", "loss_explorer", "radii", "sampled_energy", "tilted"]

TILTS = tuple(i / 8 for i in range(-8, 9))
_TIMES = tuple(i / 50 for i in range(51))


def loss_explorer(
    spectra: Mapping[str, Sequence[float]],
    block_size: int = 8,
    tilts: tuple[float, ...] = TILTS,
    start: float = 0.5,
) -> Explorer:
    r"""A spectrum bent by a gain which the decoder undoes: the same pictures, and another loss.

    Top left the spectrum as it is and bent, top right the least loss of each coefficient, below the mean over them at
    each time; dotted always without the gain. Losses are per number of the latent; averages are over
    logit-normal times of location 0 and scale 1.

    Args:
        spectra: Energies in zigzag order by name, each brought to unit variance; the first is shown first.
        block_size: B.
        tilts: Exponents :math:`\gamma` of the gain, in the order of the slider.
        start: The one shown first.

    Raises:
        ValueError: No spectrum, or one of another length.
    """
    if not spectra:
        raise ValueError("the explorer needs at least one spectrum")
    plain = {
        name: tilted(torch.as_tensor(values, dtype=torch.float64), 0.0, block_size) for name, values in spectra.items()
    }
    extremes = [tilted(e, tilt, block_size) for e in plain.values() for tilt in (tilts[0], 0.0, tilts[-1])]
    low, high = min(e.min().item() for e in extremes), max(e.max().item() for e in extremes)
    by_rank = max(mean_least_loss(torch.tensor([high], dtype=torch.float64)).item(), 1.0)

    def draw(tilt: float, spectrum: str = next(iter(plain))) -> go.Figure:
        old, new = plain[spectrum], tilted(plain[spectrum], tilt, block_size)
        losses = {"without gain": mean_least_loss(old), "with gain": mean_least_loss(new)}
        before, after = (value.mean().item() for value in losses.values())
        top = "variance", "least loss"
        fig = make_subplots(
            2, 2, specs=[[{}, {}], [{"colspan": 2}, None]], vertical_spacing=0.2, horizontal_spacing=0.15,
            subplot_titles=[*top, f"mean {after:.3f}; {before:.3f} without the gain"],
        )  # fmt: skip
        times = torch.tensor(_TIMES, dtype=torch.float64)
        styles = ({"color": figures.GREY, "dash": "dot"}, {"color": figures.VERMILLION, "width": 2.5})
        for i, (name, energy) in enumerate({"without gain": old, "with gain": new}.items()):
            over_time = least_loss(energy, times).mean(1)
            for x, values, row, column in (
                (None, energy, 1, 1), (None, losses[name], 1, 2), (list(_TIMES), over_time, 2, 1),
            ):  # fmt: skip
                line = go.Scatter(
                    x=x, y=[float(f"{v:.4g}") for v in values.tolist()], name=name, legendgroup=name, mode="lines",
                    line=styles[i], showlegend=(row, column) == (1, 1),
                )  # fmt: skip
                fig.add_trace(line, row, column)
        fig.update_xaxes(title="zigzag rank", title_standoff=4, row=1)
        fig.update_xaxes(title="time t (0 is data, 1 is noise)", title_standoff=4, row=2, col=1)
        fig.update_yaxes(
            type="log", dtick=1, exponentformat="power", range=[math.log10(low / 1.5), math.log10(high * 1.5)],
            row=1, col=1,
        )  # fmt: skip
        fig.update_yaxes(range=[0, 1.05 * by_rank], row=1, col=2)
        fig.update_yaxes(title="loss per number", range=[0, 2.1], row=2, col=1)
        fig.update_layout(height=560, margin={"t": 84, "l": 56, "r": 12}, legend={"y": 1.045, "x": 0})
        fig.update_annotations(font_size=13)
        return figures.described(
            fig,
            "Explorer: a spectrum of unit variance before and after a gain by frequency, what each coefficient "
            "contributes to the least loss, and the least loss at each time. A steeper spectrum has a smaller loss, a "
            "flatter one a larger loss, although the decoder undoes the gain and the pictures are the same.",
        )

    controls = [Control("tilt", "exponent γ of the gain", tilts, start, "slider", lambda g: f"{g:+.3g}" if g else "0")]
    if len(plain) > 1:
        names = tuple(plain)
        controls.append(Control("spectrum", "spectrum:", names, names[0], "menu"))
    return Explorer(draw, controls)
