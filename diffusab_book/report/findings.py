"""From the numbers of a report to plain sentences: facts are read here, ``findings.toml`` holds what is said when."""

from __future__ import annotations

import functools
import math
import shlex
import string
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from diffusab_book.report.results import Model, Profile, Report
from diffusab_core.data.places import WORDS

TEXTS = tomllib.loads(Path(__file__).with_name("findings.toml").read_text())
LIMITS, TITLES = TEXTS["limits"], TEXTS["titles"]
VOID = TEXTS["void"]  # topics that say nothing of a model that does not reconstruct
TOLD_CUT, TOLD_CUTOFF = 0.75, 0.2  # which cut ratio, and which cutoff (cycles per RGB pixel), is told
FINE_BAND = 0.25  # latent bands that begin here or above, cycles per latent pixel, are its fine ones

# ---------------------------------------------------------------------------------------------------------------------
# Numbers for a reader


def db(value: float | None) -> str:
    """A PSNR; ``None`` is that of two identical images."""
    return "∞ dB" if value is None else f"{value:.1f} dB"


def percent(value: float) -> str:
    """A share between 0 and 1; what is below a thousandth of a percent is said to be."""
    if 0 < value < 1e-5:
        return "less than 0.001%"
    return f"{100 * value:.2g}%" if value < 0.1 else f"{100 * value:.0f}%"


def number(value: float) -> str:
    """A positive number: two digits, or whole from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


FORMS = {"db": db, "bare": lambda v: db(v).removesuffix(" dB"), "percent": percent, "number": number}


class _Words(string.Formatter):
    """``str.format`` with the forms above, ``{left:db}``, and a dash for what is missing."""

    def format_field(self, value: Any, spec: str) -> str:
        if spec in FORMS:
            return FORMS[spec](value)
        return "–" if value is None else format(value, spec)


def white_share(block_size: int) -> float:
    """The high-frequency share of white noise: all frequencies but D_00 hold the same energy."""
    return block_size**2 // 2 / (block_size**2 - 1)


def lost(value: float | None, reference: float | None) -> float:
    """By how many dB a PSNR lies below another, ``None`` being infinite; 0 if both are."""
    if value is None:
        return 0.0
    return math.inf if reference is None else reference - value


def both_errors(a: float | None, b: float | None) -> float | None:
    """PSNR where two errors of these PSNRs simply add, as unrelated errors do; ``None`` is no error."""
    power = sum(10 ** (-value / 10) for value in (a, b) if value is not None)
    return -10 * math.log10(power) if power else None


def nearest(values: Sequence[float], wanted: float) -> int:
    """Index of the value nearest to the one wanted; the first of several."""
    return min(range(len(values)), key=lambda k: abs(values[k] - wanted))


def finest(response: Mapping[str, Any], curve: str, share: float = 1.0) -> float | None:
    """Mean of a curve over the gratings of which this share of directions is beyond the latent's Nyquist frequency."""
    chosen = [v for v, s in zip(response[curve], response["beyond_nyquist"], strict=True) if s == share]
    there = [v for v in chosen if v is not None]
    return sum(there) / len(there) if there else None


def relative_amplitude(cutoff: Mapping[str, Any], bands: Sequence[int]) -> list[float]:
    """By radius, how large the amplitudes of some latent bands are against unfiltered images, mean over the bands."""
    rows, whole = cutoff["amplitude"], cutoff["amplitude"][-1]
    return [sum(row[b] / whole[b] if whole[b] else 0.0 for b in bands) / len(bands) for row in rows]


def fine_amplitude(cutoff: Mapping[str, Any]) -> list[float]:
    """The same of the latent's fine bands."""
    return relative_amplitude(cutoff, [band for band, edge in enumerate(cutoff["edges"][:-1]) if edge >= FINE_BAND])


# ---------------------------------------------------------------------------------------------------------------------
# Facts of each topic: the numbers that conditions and sentences use


def _spectrum(model: Model, rgb: Profile, block_size: int) -> dict[str, Any]:
    own = model.profile
    mean, median = (own.profiles[key][-1] or 0.0 for key in ("mean_ratio", "median_ratio"))
    return {
        "shape": " × ".join(map(str, own.shape)), "compression": own.compression, "weights": model.weights,
        "share": own.high_frequency_share, "image": rgb.high_frequency_share, "white": white_share(block_size),
        "ratio": own.high_frequency_energy_ratio, "rgb_ratio": rgb.high_frequency_energy_ratio,
        "times": mean / median if median else 0.0, "excluded": own.excluded_blocks, "blocks": own.blocks,
    }  # fmt: skip


def _reconstruction(found: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a model reconstructs at all: not ``poor`` by the limit, nor worse than each image's own mean colour."""
    psnr, flat = found["psnr_db"], found["flat_db"]
    below = psnr is not None and (flat is None or psnr < flat)
    return {**found, "below_flat": below, "poor": below or (psnr is not None and psnr < LIMITS["poor_db"])}


def _cut(cut: Mapping[str, Any]) -> dict[str, Any]:
    i = nearest(cut["ratios"], TOLD_CUT)
    whole, left, rgb = cut["latent"][0], cut["latent"][i], cut["rgb"][i]
    expected = both_errors(whole, rgb)
    return {
        "ratio": cut["ratios"][i], "whole": whole, "left": left, "rgb": rgb, "expected": expected,
        "lost": lost(left, whole), "more": lost(left, expected), "images": cut["images"],
    }  # fmt: skip


def _noise(noise: Mapping[str, Any]) -> dict[str, Any]:
    drowned = [rank for rank, share in enumerate(noise["by_frequency"]) if share > 0.5]
    ranks = len(noise["by_frequency"])
    own = {"channels": len(noise["by_channel"]), "first": min(drowned, default=ranks), "last": ranks - 1}
    return {**noise, **own, "everywhere": len(drowned) == ranks}


def _scale(scale: Mapping[str, Any]) -> dict[str, Any]:
    keys = {"factor": "scales", "image": "to_image_db", "apart": "to_reconstruction_db", "ceiling": "ceiling_db"}
    ends = {f"{last}{word}": scale[key][i] for word, key in keys.items() for last, i in (("", 0), ("last_", -1))}
    return {**ends, "factors": len(scale["scales"])}


def _dependence(needs: Mapping[str, Any]) -> dict[str, Any]:
    edges, whole, without = needs["edges"], needs["psnr_whole"], needs["psnr_without"]
    i = min(range(len(without)), key=lambda band: math.inf if without[band] is None else without[band])
    worst = {"worst": lost(without[i], whole), "left": without[i], "a": edges[i], "b": edges[i + 1]}
    return {**needs, "lost": lost(needs["low_db"], whole), **worst}


def _stake(stake: Mapping[str, Any]) -> dict[str, Any]:
    ranks = [f"rank {a}" if a == b else f"ranks {a} to {b}" for a, b in stake["bands"]]
    worst = max(range(len(ranks)), key=stake["permuted"].__getitem__)
    fine = {"fine": ranks[-1], "permuted_fine": stake["permuted"][-1], "zeroed_fine": stake["zeroed"][-1]}
    return {**stake, **fine, "worst": ranks[worst], "permuted_worst": stake["permuted"][worst]}


def _gratings(response: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "any": 1.0 in response["beyond_nyquist"], "nyquist": response["latent_nyquist"],
        "error": finest(response, "reconstruction_error"), "coarse": finest(response, "reconstruction_error", 0.0),
        "folded_share": finest(response, "folded_share"), "spread_share": finest(response, "spread_share"),
    }  # fmt: skip


def _cutoff(cutoff: Mapping[str, Any]) -> dict[str, Any]:
    radii, amplitude = cutoff["radii"], fine_amplitude(cutoff)
    i, most = nearest(radii, TOLD_CUTOFF), max(range(len(radii)), key=amplitude.__getitem__)
    told = {"radius": radii[i], "times": amplitude[i], "band": FINE_BAND}
    return {**told, "largest": amplitude[most], "at": radii[most], "inside": most != len(radii) - 1}


def _diffusability(score: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of the score, and what is known of it, each by a name of its own."""
    told = {key: score[key] for key in ("place", "low", "high", "spaces", "steps", "denoiser", "latent_side", "crops")}
    for key, names in {"rho": "rho rho_low rho_high", "held_out": "held held_low held_high",
                       "published": "published published_held"}.items():  # fmt: skip
        told |= dict(zip(names.split(), score[key], strict=True))
    looks_at = score["looks_at"][0] if len(score["looks_at"]) == 1 else "several"
    values = list(score["values"].values())
    return told | {"looks_at": looks_at, "parts": len(values), "title": score["titles"][0], "value": values[0],
                   "second": score["titles"][-1], "second_value": values[-1]}  # fmt: skip


#: Topics of which nothing is said where they are not asked for.
OPTIONAL = ("diffusability",)
FACTS: Mapping[str, Callable[..., Mapping[str, Any]]] = {
    "reconstruction": _reconstruction, "spectrum": _spectrum, "cut": _cut, "noise": _noise, "scale": _scale,
    "dependence": _dependence, "stake": _stake, "gratings": _gratings, "cutoff": _cutoff,
    "diffusability": _diffusability,
}  # fmt: skip


def read_facts(report: Report, model: Model) -> dict[str, Any]:
    """The facts of every topic that was measured, and whether the model is ``poor``: it does not reconstruct."""
    found = {topic: FACTS[topic](part) for topic, part in model.parts.items()}
    if "reconstruction" in found and "lpips" in model.not_measured:
        found["reconstruction"] |= {"why_no_lpips": model.not_measured["lpips"]}
    poor = "reconstruction" in found and found["reconstruction"]["poor"]
    return {"poor": poor, "spectrum": _spectrum(model, report.rgb_like(model), report.options.block_size)} | found


# ---------------------------------------------------------------------------------------------------------------------
# Words


def choose(choice: Mapping[str, str] | str, facts: Mapping[str, Any]) -> str:
    """The first text whose condition holds, its numbers filled in."""
    facts = {**LIMITS, **facts}
    choice = {"else": choice} if isinstance(choice, str) else choice
    holds = (text for condition, text in choice.items() if condition == "else" or _compile(condition)(facts))
    return _Words().vformat(next(holds, ""), (), facts)


@functools.cache
def _compile(condition: str) -> Callable[[Mapping[str, Any]], Any]:
    return Environment(undefined=StrictUndefined).compile_expression(condition, undefined_to_none=False)


def say(topic: str, facts: Mapping[str, Any]) -> str:
    """The sentences of a topic."""
    return " ".join(filter(None, (choose(choice, facts) for choice in TEXTS[topic])))


def findings(report: Report, model: Model) -> dict[str, str]:
    """What a model's numbers say, by topic, without what is void; what was not measured says so."""
    facts = read_facts(report, model)
    why = model.not_measured
    return {
        topic: say(topic, facts[topic]) if topic in facts else f"Not measured: {why.get(topic, 'no reason is known')}."
        for topic in (TITLES if report.plan else ("spectrum",))
        if (topic not in OPTIONAL or topic in facts or topic in why)
        and not (facts["poor"] and topic in VOID and topic in facts)
    }


def tell_scores(report: Report) -> list[list[str]]:
    """Rows of the table of scores, none without a score: place, interval, and rank correlations with theirs."""
    rows = []
    for model in report.models:
        if score := model.parts.get("diffusability"):
            worth = ["{:+.2f} ({:+.2f} to {:+.2f})".format(*score[key]) for key in ("rho", "held_out")]
            rows.append([model.name, *(percent(score[key]) for key in ("place", "low", "high")), *worth])
        elif "diffusability" in model.not_measured:
            rows.append([model.name, *["–"] * 5])
    return rows


def headline(report: Report, model: Model) -> str:
    """What is said of a model first, in two or three sentences."""
    return say("headline", read_facts(report, model))


def find_poor(report: Report) -> list[str]:
    """Names of the models that do not reconstruct."""
    return [model.name for model in report.models if read_facts(report, model)["poor"]]


def warn_of_means(report: Report) -> str:
    """What is to be said beside the statistic ``mean_ratio``, nothing where it does not mislead."""
    facts = [_spectrum(model, report.rgb_like(model), report.options.block_size) for model in report.models]
    said = [choose(TEXTS["page"]["means"], {**f, "name": m.name}) for f, m in zip(facts, report.models, strict=True)]
    return " ".join(filter(None, said))


def write_option(name: str, value: Any) -> str:
    """A setting as an option of a command, ``--image-key '*.jpg'``, with a space in front."""
    flag = f" --{name.replace('_', '-')}"
    if isinstance(value, bool):
        return flag if value else ""
    return f"{flag} {shlex.quote(str(value))}"


def next_steps(report: Report) -> list[dict[str, Any]]:
    """What to do next: of each step its ``text``, its ``commands``, and the names of the ``models`` it is for."""
    options, steps = report.options, []
    height, width = options.sides
    asked = {"images": shlex.quote(options.images or "photos"), "side": min(height, width)}
    asked |= {"resolution": height if height == width else f"{height}x{width}", "alone": len(report.models) == 1}
    asked["chosen"] = "".join(write_option(name, value) for name, value in options.choices.items())
    asked["known"] = "leaves" if options.frames or options.images in (None, "photos") else "photos"
    asked["known"] += f" --frames {options.frames}" if options.frames else ""
    asked["endless"] = options.images in (None, *WORDS)
    asked["on_cpu"] = report.record.device.startswith("cpu")
    asked["small"] = " --steps 100 --batch-size 4" if asked["on_cpu"] else ""
    facts = [
        {**read_facts(report, m), **asked, "kind": m.profile.kind, "source": shlex.quote(m.profile.source),
         "other": "kl-f4c4" if m.profile.source == "kl-f4c16" else "kl-f4c16"}
        for m in report.models
    ]  # fmt: skip
    for step in TEXTS["next"]:
        chosen = [i for i, known in enumerate(facts) if _compile(step["when"])({**LIMITS, **known})]
        if chosen:
            commands = [choose(command, facts[chosen[0]]) for command in step.get("commands", ())]
            names = [report.models[i].name for i in chosen]
            text = choose(step["text"], facts[chosen[0]])
            steps.append({"text": text, "commands": commands, "models": names})
    return steps


def compare(report: Report) -> tuple[list[list[str]], list[str]]:
    """Models side by side: rows of a table, a dash without the part, and in sentences which of several lies where.

    A model is named only if the next one's number differs in the digits that are shown. A PSNR of ``None`` is infinite.
    """
    facts = [read_facts(report, model) for model in report.models]
    rows = []
    for topic, what, cell in TEXTS["page"]["rows"]:
        first = next((f[topic] for f in facts if topic in f), None)
        if first is not None:
            rows.append([choose(what, first), *(choose(cell, f[topic]) if topic in f else "–" for f in facts)])
    said = []
    for what, topic, fact, form, which in TEXTS["page"]["compared"]:
        pairs = [(f[topic][fact], m.name) for f, m in zip(facts, report.models, strict=True) if topic in f]
        there = sorted(pairs, key=lambda pair: math.inf if pair[0] is None else pair[0], reverse=which == "most")
        shown = [(name, FORMS[form](value)) for value, name in there]
        if len(shown) > 1 and all(text != shown[0][1] for _, text in shown[1:]):
            rest = ", ".join(f"{name} {text}" for name, text in shown[1:])
            said.append(f"{what}: {shown[0][0]}, {shown[0][1]} ({rest}).")
    return rows, said
