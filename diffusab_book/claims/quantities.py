"""What of a record decides a claim: its own metrics, those computed from it, and counts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
import pandas as pd
import torch

from diffusab_book import results
from diffusab_core import autoencoders
from diffusab_core.experiments.records import RunRecord
from diffusab_core.methods import cost

#: Metrics that are computed from a record, beside those that stand in it.
DERIVED: dict[str, Callable[[RunRecord], float]] = {
    # Latents against pictures of the same size, and posterior samples against means.
    "hf_energy_over_rgb": lambda r: r.metrics["hf_energy_ratio_mean"] / r.metrics["hf_energy_ratio_rgb"],
    "hf_energy_sample_over_mean": lambda r: r.metrics["hf_energy_ratio_sample"] / r.metrics["hf_energy_ratio_mean"],
    # What fine-tuning did to one autoencoder.
    "psnr_change_db": lambda r: r.metrics["after_psnr_db"] - r.metrics["before_psnr_db"],
    "hf_energy_ratio_change": lambda r: r.metrics["after_hf_energy_ratio"] / r.metrics["before_hf_energy_ratio"],
    "se_loss_at_end": lambda r: fmean(r.series["se"][-10:]),
    "penalty_by_scale": lambda r: _kept(r, upper=False) / _kept(r, upper=True),
    # At 45% cut: how much better the photograph stands it than the latent, and how far a decoder carries the cut.
    "rgb_lead_when_cut_db": lambda r: _cut(r, "cut_rgb_psnr_db") - _cut(r, "cut_psnr_db"),
    "decoder_gain_when_cut": lambda r: _cut(r, "picture_mse") / _cut(r, "latent_mse"),
    # A denoiser's samples: above their own decoded latents, at the best shift tried, energy at the upper half of ranks.
    "above_decoded_latents": lambda r: r.metrics["frechet_offline"] - r.metrics["decoded_latents_frechet"],
    "frechet_at_best_shift": lambda r: min(r.series.get("shift_frechet") or r.series["shift_frechet_offline"]),
    # The paper's distance of images, the FID, or of clips, the FVD: effects of it are shares.
    "frechet_of_the_paper": lambda r: r.metrics["frechet_i3d" if "frechet_i3d" in r.metrics else "frechet_inception"],
    "hf_generated_miss": lambda r: abs(_upper(r.series["generated_energy"]) / _upper(r.series["real_energy"]) - 1),
}  # fmt: skip

#: What is counted where the page is made, without a run.
EXACT: dict[str, Callable[[], float]] = {
    "multiply_accumulates_of_flux": lambda: _cost_of_flux().total,
    "overhead_of_se_on_flux": lambda: _cost_of_flux().mean_overhead,
    "cost_of_r1_over_se_on_flux": lambda: _r1_over_se_on_flux(),
}

#: What the run notebooks record and older records do not hold, for claims that are not yet run.
NOT_YET_RECORDED = {
    "frechet_inception", "best_gap_clip_offline", "frechet_i3d", "decoded_frechet_lite0p64", "diverged",
    "stake_edge", "stake_without_db", "image_edge", "rgb_energy_share", "high_band_ratio",
    "trajectory_state_hf", "trajectory_time",
}  # fmt: skip


def _flux() -> autoencoders.Autoencoder:
    with torch.device("meta"):
        return autoencoders.Autoencoder("FluxAE", autoencoders.CATALOGUE["FluxAE"].build())


@functools.cache
def _cost_of_flux() -> cost.Cost:
    """Of one picture of 256 x 256, on the meta device."""
    return cost.reconstruction_cost(_flux(), 256)


@functools.cache
def _r1_over_se_on_flux() -> float:
    """What each adds to a training step, forward and backward, for one picture of 256 x 256."""
    flux = _flux()
    se = cost.reconstruction_cost(flux, 256, backward=True).regularizer.values()
    return cost.gain_cost(flux, 256) / (sum(se) / len(se))


def _at(record: RunRecord, name: str, place: str, where: float) -> float:
    """The entry of a series where another one has this value; series that lack the first places end alike."""
    places, values = record.series[place], record.series[name]
    at = [i for i, value in enumerate(places) if np.isclose(value, where)]
    return values[at[0] + len(values) - len(places)]


def _cut(record: RunRecord, name: str) -> float:
    """The entry of a series at 45% cut."""
    return _at(record, name, "cut_ratio", 0.45)


def _upper(energy: Sequence[float]) -> float:
    return sum(energy[len(energy) // 2 :])


def _kept(record: RunRecord, upper: bool) -> float:
    """Log of what fine-tuning left of a latent's energy, in all or at the upper half of ranks."""

    def energy(when: str) -> float:
        moments = [record.metrics[f"{when}_latent_{moment}"] for moment in ("mean", "std")]
        ranks = record.series[f"{when}_energy"]  # relative to the lowest
        return sum(m**2 for m in moments) * (_upper(ranks) / sum(ranks) if upper else 1)

    return float(np.log(energy("after") / energy("before")))


def read_metric(record: RunRecord, name: str) -> float:
    """A metric of one record: its own, one of :data:`DERIVED`, or ``SERIES at PLACE=VALUE``.

    Raises:
        KeyError: The record has none such.
    """
    if name in record.metrics:
        return record.metrics[name]
    if name in DERIVED:
        return DERIVED[name](record)
    series, _, where = name.partition(" at ")
    place, _, value = where.partition("=")
    if not value or series not in record.series or place not in record.series:
        raise KeyError(name)
    try:
        return _at(record, series, place, float(value))
    except IndexError:
        raise KeyError(name) from None


def read_metrics(runs: pd.DataFrame, name: str) -> list[float]:
    """A metric of each run as :func:`read_metric`, or ``SERIES at chosen PLACE``.

    The second is read where the arm's other seeds are lowest, see :func:`~diffusab_book.results.choose_places`.

    Raises:
        KeyError: A record has none such.
    """
    series, chosen, place = name.partition(" at chosen ")
    if not chosen:
        return [read_metric(record, name) for record in runs.record]
    if not all({series, place} <= record.series.keys() for record in runs.record):
        raise KeyError(name)
    return results.choose_places(runs, series, place)[f"chosen_{series}"].tolist()


def names_in(name: str) -> set[str]:
    """The names of metrics and series that a metric is read from."""
    series, _, where = name.partition(" at ")
    return {series, where.removeprefix("chosen ").partition("=")[0]} - {""}
