"""From the numbers of a diffusability report to plain sentences, each with the numbers behind it.

A sentence says what was measured on these images and not what it is good for. The words that judge (*hardly*,
*strongly*) follow fixed thresholds, which are this module's constants; they are conventions of this report, chosen once
and the same for every model, and not taken from a paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from diffusab_book.report.diagnosis_types import (
    Cut,
    Cutoff,
    Dependence,
    Diagnosis,
    GratingResponse,
    Noise,
    Reconstruction,
    ScaleEquivariance,
)
from diffusab_book.report.report_page import percent, readings
from diffusab_book.report.report_types import Profile

#: A PSNR lower by less than this is called small; 1 dB is an error power of 26% more.
SMALL_DB = 1.0
#: A PSNR lower by at least this is called large; 6 dB is an error power four times as large.
LARGE_DB = 6.0
#: Reconstructions with a lower PSNR (root mean square error of 18% of the range) say little about the images.
POOR_DB = 15.0
#: The cut ratio, of those measured, that the cut is told at.
TOLD_CUT = 0.75
#: A posterior with less noise than this share of a sample's variance is called practically deterministic.
LITTLE_NOISE = 0.01
#: One with at least this share is called noisy.
MUCH_NOISE = 0.1
#: Dec(S z) and S Dec(z) this close (root mean square difference 3% of the range) are called nearly the same.
EQUIVARIANT_DB = 30.0
#: This far apart or farther (10% of the range) they are called far from the same.
FAR_DB = 20.0
#: A latent band's amplitude that changes by less than this share is called about the same.
SAME_AMPLITUDE = 0.05
#: FreqWarm's cutoff of the images, cycles per RGB pixel, which the amplitude is told at.
TOLD_CUTOFF = 0.2
#: Latent bands that begin at this frequency or above, cycles per latent pixel, are its fine ones.
FINE_BAND = 0.25
#: A decoded grating whose error is below this share of the grating is called mostly recovered.
RECOVERED = 0.5
#: One whose error is at least this is called lost: 1 is as bad as leaving it out.
LOST = 0.9


@dataclass(frozen=True)
class Finding:
    """One topic (a key of :data:`TOPICS`) and what was found."""

    topic: str
    text: str


#: What the topics are called.
TOPICS = {
    "spectrum": "Spectrum",
    "cut": "Cutting",
    "noise": "Noise",
    "scale": "Scale equivariance",
    "dependence": "Decoder",
    "gratings": "Encoder and aliasing",
    "cutoff": "Low-passed images",
    "reconstruction": "Reconstruction",
}


def findings(model: Diagnosis, rgb: Profile, block_size: int) -> list[Finding]:
    """What a model's numbers say, by topic; what was not measured says so.

    Args:
        model: What was measured.
        rgb: The spectrum of RGB at the size of the latents.
        block_size: Of the DCT.
    """
    said = {
        "reconstruction": of_reconstruction(model.reconstruction),
        "spectrum": readings(model.profile, rgb, block_size)[0],
        "cut": of_cut(model.cut) if model.cut else None,
        "noise": of_noise(model.noise),
        "scale": of_scale(model.scale) if model.scale else None,
        "dependence": of_dependence(model.dependence) if model.dependence else None,
        "gratings": of_gratings(model.gratings) if model.gratings else None,
        "cutoff": of_cutoff(model.cutoff) if model.cutoff else None,
    }
    found = []
    for topic, text in said.items():
        if text is None:
            text = f"Not measured: {model.not_measured.get(topic, 'no reason was recorded')}."
        found.append(Finding(topic, text))
    return found


def tiny(share: float) -> str:
    """A share for a reader; what is below a thousandth of a percent is said to be."""
    return "less than 0.001%" if 0 < share < 1e-5 else percent(share)


def thresholds() -> list[str]:
    """The thresholds behind the words, for the page."""
    return [
        "High-frequency share: above 0.8 of white noise's it is close to white noise; above 1.25 times RGB's flatter "
        "than images; from 0.8 times on about as images; below steeper.",
        f"PSNR lost: below {SMALL_DB:g} dB little, from {LARGE_DB:g} dB on (four times the error power) much. Against "
        f"RGB's cut: within {SMALL_DB:g} dB about the same.",
        f"PSNR of reconstructions: below {POOR_DB:g} dB the model is said not to reconstruct these images.",
        f"Noise share: below {LITTLE_NOISE:.0%} practically deterministic, from {MUCH_NOISE:.0%} on noisy.",
        f"PSNR between Dec(S z) and S Dec(z): from {EQUIVARIANT_DB:g} dB on (3% of the range, root mean square) nearly "
        f"scale equivariant, up to {FAR_DB:g} dB (10%) far from it.",
        f"Error of decoded gratings: below {RECOVERED:g} mostly recovered, from {LOST:g} on not recovered.",
        f"Amplitude of fine bands: within {SAME_AMPLITUDE:.0%} about the same.",
    ]


def db(value: float | None) -> str:
    """A PSNR for a reader; ``None`` is that of two identical images."""
    return "∞ dB" if value is None else f"{value:.1f} dB"


def _lower(value: float | None, reference: float | None) -> float:
    """By how many dB a PSNR lies below another, ``None`` being infinite; 0 if both are."""
    if value is None:
        return 0.0
    return math.inf if reference is None else reference - value


def both_errors(a: float | None, b: float | None) -> float | None:
    """PSNR where two errors of these PSNRs simply add, as unrelated errors do; ``None`` is no error."""
    power = sum(10 ** (-value / 10) for value in (a, b) if value is not None)
    return -10 * math.log10(power) if power else None


def of_reconstruction(quality: Reconstruction) -> str:
    """PSNR, SSIM and LPIPS, and whether there is a reconstruction to speak of."""
    spread = "" if quality.psnr_spread_db is None else f" (± {quality.psnr_spread_db:.1f} dB over images)"
    said = f"Decoded posterior means have a PSNR of {db(quality.psnr_db)}{spread}"
    if quality.ssim is not None:
        said += f" and an SSIM of {quality.ssim:.3f}"
    lpips = "LPIPS was not measured." if quality.lpips is None else f"LPIPS (AlexNet) is {quality.lpips:.3f}."
    said = f"{said} on {quality.images:,} images. {lpips}"
    if _lower(quality.psnr_db, POOR_DB) > 0:
        said += " The model does not reconstruct these images: what is said of cuts, scale and decoder means little."
    return said


def of_cut(cut: Cut) -> str:
    """The loss at :data:`TOLD_CUT`, and whether it is more than RGB's own loss explains."""
    i = nearest(cut.ratios, TOLD_CUT)
    whole, left, rgb = cut.latent_db[0], cut.latent_db[i], cut.rgb_db[i]
    lost = _lower(left, whole)
    word = "costs little" if lost < SMALL_DB else "costs fidelity" if lost < LARGE_DB else "costs much"
    expected = both_errors(whole, rgb)
    more = _lower(left, expected)
    if more >= SMALL_DB:
        than = f"lower than the {db(expected)} that the same cut of RGB ({db(rgb)}) would explain"
    elif more > -SMALL_DB:
        than = f"about the {db(expected)} that the same cut of RGB ({db(rgb)}) would explain"
    else:
        than = f"higher than the {db(expected)} that the same cut of RGB ({db(rgb)}) would explain"
    return (
        f"Cutting the finest {cut.ratios[i]:.0%} of the latent's frequencies {word}: PSNR goes from {db(whole)} to "
        f"{db(left)} on {cut.images} images, {than}."
    )


def of_noise(noise: Noise) -> str:
    """How noisy posterior samples are, which channels are silent, and from which frequency on noise prevails."""
    if noise.deterministic:
        return "The encoder is deterministic: it gives a point and no distribution, so there is no KL and no noise."
    if noise.share < LITTLE_NOISE:
        word = "practically deterministic"
    elif noise.share < MUCH_NOISE:
        word = "somewhat noisy"
    else:
        word = "noisy"
    kl = "infinite" if noise.averaged_kl is None else f"{noise.averaged_kl:.3g} nats"
    said = (
        f"Posterior samples are {word}: noise is {tiny(noise.share)} of their variance, and the KL to the standard "
        f"normal, averaged over channels and positions, is {kl}."
    )
    channels = len(noise.by_channel)
    if noise.silent_channels:
        said += f" {noise.silent_channels} of {channels} channels are more noise than signal."
    first = next((k for k, share in enumerate(noise.by_frequency) if share > 0.5), None)
    if all(share > 0.5 for share in noise.by_frequency):
        said += " At every frequency a sample's coefficients are more noise than signal."
    elif first is not None:
        said += (
            f" From zigzag rank {first} of {len(noise.by_frequency) - 1} on, a sample's coefficients begin to be more "
            "noise than signal."
        )
    return said


def of_scale(scale: ScaleEquivariance) -> str:
    """How far decoding and downsampling are from exchanging places, at the first factor."""
    s, apart = scale.scales[0], scale.to_reconstruction_db[0]
    if apart is None or apart >= EQUIVARIANT_DB:
        word = "nearly scale equivariant"
    elif apart > FAR_DB:
        word = "scale equivariant to a degree"
    else:
        word = "far from scale equivariant"
    said = "; ".join(
        f"at ×{s} {db(image)} to the small image where the whole latent allows {db(most)}"
        for s, image, most in zip(scale.scales, scale.to_image_db, scale.ceiling_db, strict=True)
    )
    return (
        f"The decoder is {word}: a latent downsampled by {s} decodes to what is {db(apart)} from the downsampled "
        f"reconstruction. Against images: {said}."
    )


def of_dependence(needs: Dependence) -> str:
    """What the low part alone gives, and which band costs most."""
    lost = _lower(needs.low_db, needs.whole_db)
    word = "hardly needs" if lost < SMALL_DB else "needs" if lost < LARGE_DB else "strongly needs"
    bands = [
        (_lower(value, needs.whole_db), a, b)
        for value, a, b in zip(needs.without_db, needs.edges, needs.edges[1:], strict=False)
    ]
    worst, a, b = max(bands)
    costs = (
        f"The band whose removal costs most is {a:g} to {b:.3g} ({worst:.1f} dB, {needs.images} images)."
        if worst >= 0.05
        else f"No band's removal costs as much as 0.1 dB ({needs.images} images)."
    )
    return (
        f"The decoder {word} latent frequencies beyond {needs.split_radius:g} cycles per latent pixel: from the rest "
        f"alone PSNR is {db(needs.low_db)}, from the whole latent {db(needs.whole_db)}, from those frequencies alone "
        f"{db(needs.high_db)}. {costs}"
    )


def of_gratings(response: GratingResponse) -> str:
    """What becomes of gratings that every axis of the latent is too coarse for, beside those it can represent."""
    beyond = _beyond(response)
    within = [i for i, share in enumerate(response.beyond_nyquist) if share == 0]
    if not beyond:
        return "No grating was beyond the latent's Nyquist frequency, so nothing is known of folding."
    error = finest(response, "reconstruction_error")
    folded, spread = _mean(response.folded_share, beyond), _mean(response.spread_share, beyond)
    if error is None:
        return "The encoder does not respond to gratings beyond the latent's Nyquist frequency."
    if error < RECOVERED:
        word = "mostly recovered"
    elif error < LOST:
        word = "partly recovered"
    else:
        word = "not recovered"
    said = (
        f"Gratings beyond the latent's Nyquist frequency ({response.latent_nyquist:.4g} cycles per RGB pixel) are "
        f"{word} by the decoder: the error is {error:.2f} of the grating (1: as bad as leaving it out)"
    )
    coarse = _mean(response.reconstruction_error, within)
    said += f", for coarser gratings {coarse:.2f}." if coarse is not None else "."
    if folded is None or spread is None:
        return f"{said} The latent hardly responds to them."
    return (
        f"{said} Of the latent's response to them {percent(folded)} lies at the frequency that folding predicts and "
        f"{percent(spread)} elsewhere."
    )


def _beyond(response: GratingResponse) -> list[int]:
    """Gratings of which every direction is beyond the latent's Nyquist frequency."""
    return [i for i, share in enumerate(response.beyond_nyquist) if share == 1]


def finest(response: GratingResponse | None, attribute: str) -> float | None:
    """Mean of one of its curves over the gratings beyond the latent's Nyquist frequency, where there is one."""
    return None if response is None else _mean(getattr(response, attribute), _beyond(response))


def nearest(values: Sequence[float], wanted: float) -> int:
    """Index of the value nearest to the one wanted; the first of several."""
    return min(range(len(values)), key=lambda k: abs(values[k] - wanted))


def _mean(values: Sequence[float | None], chosen: Sequence[int]) -> float | None:
    there = [values[i] for i in chosen if values[i] is not None]
    return sum(there) / len(there) if there else None


def fine_amplitude(cutoff: Cutoff) -> tuple[float, ...]:
    """By radius, how large the amplitudes of the fine latent bands are against unfiltered images, mean over bands."""
    fine = [i for i, edge in enumerate(cutoff.edges[:-1]) if edge >= FINE_BAND]
    bands = [cutoff.relative(i) for i in fine]
    return tuple(sum(row) / len(fine) for row in zip(*bands, strict=True))


def of_cutoff(cutoff: Cutoff) -> str:
    """Whether low-passing the images raises or lowers the latent's fine bands (FreqWarm's Finding 3)."""
    i = nearest(cutoff.radii, TOLD_CUTOFF)
    amplitude = fine_amplitude(cutoff)
    change = amplitude[i] - 1
    if abs(change) < SAME_AMPLITUDE:
        word = "leaves the amplitude of the latent's fine bands about the same"
    else:
        word = f"{'raises' if change > 0 else 'lowers'} the amplitude of the latent's fine bands"
    most = max(range(len(amplitude)), key=lambda k: amplitude[k])
    said = (
        f"Removing image frequencies beyond {cutoff.radii[i]:g} cycles per RGB pixel {word} ({FINE_BAND:g} cycles per "
        f"latent pixel and finer): {amplitude[i]:.2f} times that of unfiltered images."
    )
    if most != len(amplitude) - 1 and amplitude[most] >= 1 + SAME_AMPLITUDE:
        said += f" It is largest, {amplitude[most]:.2f} times, at a cutoff of {cutoff.radii[most]:g}."
    return said


# ---------------------------------------------------------------------------------------------------------------------
# Several models


def compared(models: Sequence[Diagnosis]) -> list[str]:
    """Which of several models lies where, in the numbers that compare; empty for a single one.

    A model is named only if the value of the next one differs in the digits that are shown.
    """
    if len(models) < 2:
        return []
    said = [
        _best(models, "steepest spectrum (lowest high-frequency share)",
              [m.profile.high_frequency_share for m in models], percent, min),
        _best(models, "highest PSNR of reconstructions", [m.reconstruction.psnr_db for m in models], db, max),
        _best(models, "closest to scale equivariance (PSNR between Dec(S z) and S Dec(z), first factor)",
              [m.scale.to_reconstruction_db[0] if m.scale else None for m in models], db, max),
        _best(models, "highest PSNR from the latent's low part alone",
              [m.dependence.low_db if m.dependence else None for m in models], db, max),
    ]  # fmt: skip
    return [sentence for sentence in said if sentence]


def _best(
    models: Sequence[Diagnosis],
    what: str,
    values: Sequence[float | None],
    shown: Callable[[float], str],
    choose: Callable[[list[tuple[float, str]]], tuple[float, str]],
) -> str | None:
    there = [(value, model.name) for value, model in zip(values, models, strict=True) if value is not None]
    if len(there) < 2:
        return None
    best = choose(there)
    others = [pair for pair in there if pair is not best]
    if any(shown(value) == shown(best[0]) for value, _ in others):
        return None
    rest = ", ".join(f"{name} {shown(value)}" for value, name in others)
    return f"{what[0].upper()}{what[1:]}: {best[1]}, {shown(best[0])} ({rest})."
