r"""Waves of known frequency through autoencoders: one on a photograph, transfer curves, and what is recorded of pairs.

The pairs are encoders with strides and their twins that blur before each, see ``sweeps/blurred.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import pandas as pd
import plotly.graph_objects as go
import torch
from torch import Tensor

from diffusab_book import claims, figures, results
from diffusab_book.explorer import Control, Explorer
from diffusab_book.explorers import dial
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.metrics.aliasing import Transfer, folded_frequency, grating, low_passed
from diffusab_core.metrics.probes import decode, encode_mean

AMPLITUDE = 0.25  # of the wave, as the records have it


#: What :func:`read` reads at a frequency, or at a cutoff of the picture, of Nyquist's.
AT_NYQUIST = {
    "gain": "relative_gain at in_nyquist=1.5",
    "folded": "folded_share at in_nyquist=1.5",
    "error": "reconstruction_error at in_nyquist=1.5",
    "kept": "amplitude_0.25_0.5 at cutoff=0.0625",
}
_DISTANCES = {
    "decoded_latents_frechet": ("decoded latents to photographs", ".2f"),
    "frechet_offline": ("samples to photographs", ".2f"),
    "above": ("samples less decoded latents", ".2f"),
}
#: Columns of :func:`diffusab_book.results.table` for the pairs.
PAIRS = {
    "gain": ("relative gain at 1.5", ".2f"),
    "folded": ("folded share at 1.5", ".2f"),
    "error": ("error at 1.5", ".2f"),
    "psnr_db": ("PSNR, dB", ".2f"),
    "hf_energy_ratio": ("latent's HF energy ratio, 10⁻³", ".1f", 1000),
} | _DISTANCES


def read() -> pd.DataFrame:
    """The pairs as ``antialiasing.yaml`` recorded them, one row for each arm and seed.

    With :data:`AT_NYQUIST` as columns, and the distances of denoisers, of as many seeds, on the autoencoder of seed 0
    of the arm: of ``antialiasing-denoisers.yaml``, for the two with strides of ``freqwarm.yaml``.
    """
    runs = results.frame("antialiasing")
    runs = runs.assign(**{column: claims.read_metrics(runs, name) for column, name in AT_NYQUIST.items()})
    strided = results.rename(results.frame("freqwarm"), {"c4": "kl-f8c4", "c64": "kl-f8c64"})
    denoised = pd.concat([strided, results.frame("antialiasing-denoisers")])
    denoised["above"] = denoised.frechet_offline - denoised.decoded_latents_frechet
    return runs.merge(denoised[["arm", "seed", *_DISTANCES]], on=["arm", "seed"], validate="one_to_one")


def table(runs: pd.DataFrame, pairs: Mapping[str, str]) -> results.Table:
    """One column for each arm, one row for each of :data:`PAIRS`, as :func:`diffusab_book.results.table` writes them.

    Below each number of the second of a pair stands the difference to the first, paired by seed.
    """
    sides = [results.rename(runs, {arm: arm for arm in pair}) for pair in pairs.items()]
    return pd.concat([results.table(side, PAIRS, control=side.arm[0]).T for side in sides], axis=1).drop("runs")


def transfer_curves(transfers: Mapping[str, Transfer], places: Sequence[float]) -> go.Figure:
    """Gain over that of the first place, folded share and reconstruction error, against the frequency.

    Args:
        transfers: By name, at the places.
        places: Frequencies over the latent's Nyquist frequency. What is no number there, or nothing, is left out.
    """

    def panel(values: Mapping[str, Tensor], **options: bool) -> go.Figure:
        curves = {name: [v if v > 1e-4 else None for v in of.tolist()] for name, of in values.items()}
        fig = figures.lines(curves, x=places, mode="lines+markers", log_x=True, xlabel=_SHORT, **options)
        return figures.mark(fig, x=1).update_xaxes(**_TICKS)

    parts = [
        panel({name: of.gain / of.gain[0] for name, of in transfers.items()}, log_y=True),
        panel({name: of.folded_share for name, of in transfers.items()}),
        panel({name: of.reconstruction_error for name, of in transfers.items()}),
    ]
    return figures.panels(parts, ["gain, relative", "folded share", "reconstruction error"], _TRANSFER, height=440)


def waves_explorer(
    runs: pd.DataFrame,
    pairs: Mapping[str, str],
    autoencoder: Autoencoder,
    photograph: Tensor,
    start: float = 1.5,
    shown: int = 64,
) -> Explorer:
    r"""Slider over the frequency of a wave, in units of the latent's Nyquist frequency :math:`1/(2f)`.

    Above, about mid-grey and three times as strong, the middle of the wave :math:`g`, its samples at every f-th pixel,
    and what comes back of it, :math:`D(E(x + g)) - D(E(x))`, plainly and with the encoder behind an ideal low-pass at
    that Nyquist frequency. Below, the recorded error of it, with the frequency shown marked.

    Args:
        runs: From :func:`read`; the series ``in_nyquist`` are the stops.
        pairs: For each arm with strides its twin with blurs, drawn in one colour.
        autoencoder: Whose compression divides the sides of the photograph.
        photograph: ``(3, S, S)`` in [-1, 1]; a wave gets the nearest whole number of cycles over it.
        start: The stop shown first.
        shown: Side of the middle, a multiple of the compression.

    Raises:
        ValueError: An arm that is not there, or a photograph that the compression does not divide.
    """
    side, f = photograph.shape[-1], autoencoder.compression
    if photograph.shape[-2:] != (side, side) or side % f:
        raise ValueError(f"needs a square photograph of a multiple of {f} pixels, got {tuple(photograph.shape)}")
    curves, spread, looks = _recorded(runs, pairs)
    compared = {autoencoder.name: autoencoder, "behind a low-pass": low_passed(autoencoder)}
    x, middle = autoencoder.place(photograph[None]), slice((side - shown) // 2, (side + shown) // 2)

    @cache
    def row(place: float) -> tuple[list[go.Figure], list[str]]:
        cycles = max(1, round(place * side / (2 * f)))
        wave = AMPLITUDE * grating(side, side, 0, cycles / side).float()  # (S, S)
        held = dial.enlarge(wave[None, ::f, ::f], f)[0]
        signals, titles = [wave, held], ["the wave", f"every {f}th pixel,<br>ρ = "]
        titles[1] += f"{folded_frequency(cycles / side, f):.3g}"
        for name, one in compared.items():
            back = _hand_back(one, x, wave)
            error = ((back - wave).square().mean() / wave.square().mean()).sqrt().item()
            signals.append(back.mean(0))
            titles.append(f"{name},<br>error {error:.2f}")
        return [figures.picture(dial.enlarge(3 * signal[middle, middle], 3)) for signal in signals], titles

    def draw(place: float) -> go.Figure:
        pictures, titles = row(place)
        below = figures.lines(curves, band=spread, styles=looks, log_x=True, ylabel="error", xlabel=_AXIS)
        below = figures.mark(figures.mark(below, x=1), x=place)
        below.update_xaxes(**_TICKS).update_yaxes(range=[0, 1.05])
        return figures.panels([*pictures, below], [*titles, ""], _WAVES, height=460, wide=True, heights=(0.85, 1))

    stops = tuple(float(place) for place in curves[next(iter(curves))][0])
    return Explorer(draw, [Control("place", "ν over Nyquist", stops, start, "slider", lambda place: f"{place:g}")])


_AXIS = "frequency over the latent's Nyquist frequency"
_SHORT = "ν over the latent's Nyquist"
_TICKS = {"tickvals": [0.25, 0.5, 1, 2, 4], "dtick": None}
_TRANSFER = (
    "Three panels against the frequency of gratings in units of the latent's Nyquist frequency, which is dotted: gain, "
    "folded share of the response, and reconstruction error. Beyond it shipped encoders fold most and lose a part; "
    "behind a low-pass nothing folds and all is lost; unshuffled pixels fold all and lose nothing."
)
_WAVES = (
    "Explorer over the frequency of a wave: the wave, its samples held, what an autoencoder hands back of it, and the "
    "same behind a low-pass. Below, the recorded error for strided and blurred encoders: "
    "beyond the Nyquist frequency strided ones lose about half at first, blurred ones nearly all; far beyond it all "
    "lose all."
)


@torch.no_grad()
def _hand_back(autoencoder: Autoencoder, x: Tensor, wave: Tensor) -> Tensor:
    """What comes back of a wave ``(S, S)`` on a photograph ``(1, 3, S, S)``, as ``(3, S, S)`` on the CPU."""
    whole, plain = (decode(autoencoder, encode_mean(autoencoder, y)) for y in (x + wave.to(x), x))
    return (whole - plain)[0].cpu()


def _recorded(runs: pd.DataFrame, pairs: Mapping[str, str]) -> tuple[dict, dict, dict]:
    """Errors as means over seeds, their smallest and largest, and looks: a recipe has a colour, blurs are dashed."""
    curves, spread, looks = {}, {}, {}
    for color, pair in enumerate(pairs.items()):
        for arm, dash in zip(pair, figures.DASHES, strict=False):
            found = results.by_place(runs, "in_nyquist", "reconstruction_error", arm)
            mean = results.mean_series(runs, "reconstruction_error", arm)
            curves[arm] = ([float(place) for place in found], mean)
            spread[arm] = ([min(values) for values in found.values()], [max(values) for values in found.values()])
            looks[arm] = {"color": color, "dash": dash, "mode": "lines+markers"}
    return curves, spread, looks
