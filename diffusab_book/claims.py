r"""What the papers claim and what the records say of it: ``book/claims.yaml`` and the table that the book makes of it.

A claim is one sentence in our words with the quantity that decides it: a metric of recorded runs, of one arm against
another, and what is expected of it. Its status is computed from ``book/results`` each time it is shown, never written
down. There are five kinds of quantity, the first four over seeds:

``difference``
    the metric of ``arm`` minus that of ``control``, paired by seed; of several arms, their mean;
``order``
    arms in a row along which the metric rises or falls: the change along the row by least squares, seed by seed. A
    single step that goes the other way contradicts it;
``value``
    the metric of ``arm`` minus a number, ``than``;
``interaction``
    the effect of ``arm`` against ``control`` minus that of ``beside.arm`` against ``beside.control``;
``exact``
    what needs no run, one of :data:`EXACT`, minus a number, ``than``.

Effects are shares of the mean of the control (of a row's first arm, of the number), or differences in a ``unit``.
They are expected to be ``higher`` or ``lower`` than zero, the ``same`` within the margin, or ``not higher`` or ``not
lower`` than the margin.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from diffusab_book import chapters, results
from diffusab_book.sweeps import files as sweeps
from diffusab_core import autoencoders
from diffusab_core.experiments.records import SIZES, RunRecord, Size
from diffusab_core.files import DiffusabError
from diffusab_core.methods import cost

CLAIMS = results.RESULTS.parent / "claims.yaml"

#: The statuses in the order of the page.
REPRODUCED, REVERSED, NO_EFFECT = "reproduced", "reversed", "no effect"
UNDECIDED, NOT_RUN, NOT_IMPLEMENTED = "undecided", "not yet run", "not implemented"
STATUSES = (REPRODUCED, REVERSED, NO_EFFECT, UNDECIDED, NOT_RUN, NOT_IMPLEMENTED)

SIGN = {"higher": 1, "lower": -1, "same": 0}
BOUND = {"not higher": 1, "not lower": -1}
Expected = Literal["higher", "lower", "same", "not higher", "not lower"]


class ClaimError(DiffusabError, ValueError):
    """A file of claims that cannot be used; the message names the claim and the value."""


# ---------------------------------------------------------------------------------------------------------------------
# What of a record decides

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


# ---------------------------------------------------------------------------------------------------------------------
# The kinds


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Quantity(_Checked):
    metric: str
    expect: Expected
    margin: Annotated[float, Field(gt=0)]  #: Smaller effects than this count as none
    unit: str = ""  #: Of differences; empty: they are shares of the control's mean

    @property
    def arms(self) -> list[str]:
        raise NotImplementedError

    @property
    def relative(self) -> bool:
        return not self.unit

    def effects(self, by_arm: pd.DataFrame) -> pd.Series:
        """The effect by seed, of a frame with seeds as rows and arms as columns."""
        raise NotImplementedError

    def contradicted(self, by_arm: pd.DataFrame) -> bool:
        """Whether a part of the quantity goes against what the whole shows."""
        return False

    def judge(self, effect: results.Paired) -> results.Verdict:
        """What an effect says of what is expected."""
        if self.expect in BOUND:
            return results.judge_bound(effect, BOUND[self.expect], self.margin)
        return results.judge(effect, SIGN[self.expect], self.margin)


class Difference(_Quantity):
    arm: str | tuple[str, ...]
    control: str | tuple[str, ...]

    @property
    def arms(self) -> list[str]:
        return [*_several(self.arm), *_several(self.control)]

    def effects(self, by_arm: pd.DataFrame) -> pd.Series:
        ours, theirs = (by_arm[_several(arms)].mean(axis=1) for arms in (self.arm, self.control))
        return (ours - theirs) / (theirs.mean() if self.relative else 1)

    def __str__(self) -> str:
        return " − ".join(
            f"mean of {', '.join(arms)}" if len(arms := _several(side)) > 1 else arms[0]
            for side in (self.arm, self.control)
        )


class Order(_Quantity):
    row: Annotated[list[str], Field(min_length=3)]

    @property
    def arms(self) -> list[str]:
        return self.row

    def effects(self, by_arm: pd.DataFrame) -> pd.Series:
        values = by_arm[self.row]
        place = np.arange(len(self.row)) - (len(self.row) - 1) / 2
        change = (values * place).sum(axis=1) / (place**2).sum() * (len(self.row) - 1)
        return change / (by_arm[self.row[0]].mean() if self.relative else 1)

    def contradicted(self, by_arm: pd.DataFrame) -> bool:
        steps = [
            results.summarize(_against(by_arm, after, before, self.relative))
            for before, after in zip(self.row, self.row[1:], strict=False)
        ]
        against = BOUND[self.expect] if self.expect in BOUND else -SIGN[self.expect]
        return any(step.sign == against and not step.within(self.margin) for step in steps)

    def __str__(self) -> str:
        return " → ".join(self.row)


class Value(_Quantity):
    arm: str
    than: float

    @property
    def arms(self) -> list[str]:
        return [self.arm]

    def effects(self, by_arm: pd.DataFrame) -> pd.Series:
        return (by_arm[self.arm] - self.than) / (abs(self.than) if self.relative else 1)

    def __str__(self) -> str:
        return f"{self.arm} − {self.than:g}"


class Exact(_Quantity):
    than: float

    @property
    def arms(self) -> list[str]:
        return []

    def count(self) -> results.Paired:
        """The difference itself, without an interval to speak of."""
        try:
            found = EXACT[self.metric]()
        except KeyError:
            raise ClaimError(f"nothing is counted as {self.metric!r}; there are {', '.join(EXACT)}") from None
        difference = (found - self.than) / (abs(self.than) if self.relative else 1)
        return results.Paired((difference,), difference, difference, difference)

    def __str__(self) -> str:
        return f"{self.metric} − {self.than:g}"


class Pair(_Checked):
    arm: str
    control: str


class Interaction(_Quantity):
    arm: str
    control: str
    beside: Pair

    @property
    def arms(self) -> list[str]:
        return [self.arm, self.control, self.beside.arm, self.beside.control]

    def effects(self, by_arm: pd.DataFrame) -> pd.Series:
        return _against(by_arm, self.arm, self.control, self.relative) - _against(
            by_arm, self.beside.arm, self.beside.control, self.relative
        )

    def __str__(self) -> str:
        return f"({self.arm} − {self.control}) − ({self.beside.arm} − {self.beside.control})"


def _several(arms: str | tuple[str, ...]) -> list[str]:
    return [arms] if isinstance(arms, str) else list(arms)


def _against(by_arm: pd.DataFrame, arm: str, control: str, relative: bool) -> pd.Series:
    return (by_arm[arm] - by_arm[control]) / (by_arm[control].mean() if relative else 1)


# ---------------------------------------------------------------------------------------------------------------------
# The file


class Paper(_Checked):
    name: str  #: As the page calls it
    link: str = ""  #: Key of the bibliography, without one for our own


KINDS = ("difference", "order", "value", "interaction", "exact")


class Claim(_Checked):
    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    source: str
    place: str  #: Table, figure or section
    says: str
    printed: str = ""  #: The paper's numbers
    chapter: str = ""  #: The chapter's file without its number and ending
    sweep: str = ""
    size: Size = "laptop"  #: The smallest that means something
    difference: Difference | None = None
    order: Order | None = None
    value: Value | None = None
    interaction: Interaction | None = None
    exact: Exact | None = None
    not_implemented: str = ""  #: Why there is nothing to run

    @property
    def quantity(self) -> _Quantity | None:
        return self.difference or self.order or self.value or self.interaction or self.exact

    @model_validator(mode="after")
    def _whole(self) -> Claim:
        kinds = [kind for kind in KINDS if getattr(self, kind)]
        if self.not_implemented:
            if kinds or self.sweep:
                raise ValueError("a claim that is not implemented has neither a sweep nor a quantity")
        elif len(kinds) != 1 or not self.chapter or bool(self.sweep) != (self.exact is None):
            raise ValueError(f"wants a chapter, one of {', '.join(KINDS)}, and a sweep unless it is exact")
        return self

    def arm(self, written: str) -> tuple[str, str]:
        """Sweep and arm of an arm as it is written: ``plain``, or ``denoisers/plain`` of another sweep."""
        sweep, _, arm = written.rpartition("/")
        return sweep or self.sweep, arm

    @property
    def commands(self) -> list[str]:
        """What makes the records that decide the claim."""
        names = dict.fromkeys(self.arm(written)[0] for written in self.quantity.arms)
        where = {"gpu": "--on local --jobs 1", "paper": "--on slurm --gpus 8"}.get(self.size, "--on local")
        return [f"diffusab sweep sweeps/{name}.yaml --size {self.size} {where}" for name in names]


@dataclass(frozen=True)
class Book:
    """A file of claims that has been read and checked."""

    sources: Mapping[str, Paper]
    claims: tuple[Claim, ...]


def read(path: Path = CLAIMS) -> Book:
    """The file of claims.

    Raises:
        ClaimError: The file is broken, two claims have one id, or one names a source, chapter, sweep or arm that there
            is not.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.keys() != {"sources", "claims"}:
        raise ClaimError(f"{path}: expected the keys sources and claims, got {content!r:.80}")
    sources = {key: _parse(Paper, path, f"source {key!r}", entry) for key, entry in content["sources"].items()}
    claims = tuple(
        _parse(Claim, path, f"claim {entry.get('id', i) if isinstance(entry, dict) else i!r}", entry)
        for i, entry in enumerate(content["claims"])
    )
    ids = [claim.id for claim in claims]
    if twice := [name for name in ids if ids.count(name) > 1]:
        raise ClaimError(f"{path}: two claims are called {twice[0]!r}")
    for claim in claims:
        if claim.source not in sources:
            raise ClaimError(f"{path}: claim {claim.id!r} has source {claim.source!r}; there are {', '.join(sources)}")
        try:
            if claim.chapter:
                find_chapter(claim.chapter)
            for written in claim.quantity.arms if claim.quantity else ():
                _check_arm(claim, written)
        except (FileNotFoundError, ValueError) as error:
            raise ClaimError(f"{path}: claim {claim.id!r}: {error}") from error
    return Book(sources, claims)


def _parse(kind: type[BaseModel], path: Path, what: str, entry: Any) -> Any:
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ClaimError(
            f"{path}: {what}: {f'{where}: ' if where else ''}{first['msg']}, got {first['input']!r:.80}"
        ) from error


def find_chapter(name: str) -> Path:
    """A chapter from its file's name without the number, which changes when a chapter is put before it.

    Raises:
        FileNotFoundError: There is none.
    """
    found = sorted(chapters.NOTEBOOKS.glob(f"[0-9][0-9]_{name}.py"))
    if not found:
        there = sorted(path.stem[3:] for path in chapters.NOTEBOOKS.glob("[0-9][0-9]_*.py"))
        raise FileNotFoundError(f"no chapter {name!r}; there are {', '.join(there)}")
    return found[0]


@functools.cache
def _sweep_arms(sweep: str, size: str) -> list[str]:
    return list(sweeps.read(sweep).arms(size))


def _check_arm(claim: Claim, written: str) -> None:
    sweep, arm = claim.arm(written)
    there = _sweep_arms(sweep, claim.size)
    if arm not in there:
        raise ValueError(f"sweep {sweep!r} has no arm {arm!r} at size {claim.size}; there are {', '.join(there)}")


# ---------------------------------------------------------------------------------------------------------------------
# What the records say


@dataclass(frozen=True)
class Finding:
    """A claim with its status, and the runs and numbers that it rests on."""

    claim: Claim
    status: str
    effect: results.Paired | None = None
    smallest: float = np.nan  #: The smallest effect that these seeds could show
    seeds: tuple[int, ...] = ()
    size: str = ""
    device: str = ""
    marks: tuple[str, ...] = ()

    def write(self, value: float | results.Paired, sign: bool = True) -> str:
        """A number of the claim in its unit; an effect of more than 500% as a factor."""
        size = abs(value.mean if isinstance(value, results.Paired) else value)
        if isinstance(value, results.Paired) and self.claim.quantity.relative and size > 5:
            mean, low, high = (f"{1 + edge:.2g}".replace("-", "−") for edge in (value.mean, value.low, value.high))
            return f"{mean} [{low}, {high}] times" if len(value.values) > 1 else f"{mean} times"
        form = (".1%" if size < 1 else ".0%") if self.claim.quantity.relative else ".2f"
        if not isinstance(value, results.Paired):
            form = f"{'+' * sign}{form}"
        return f"{value:{form}} {self.claim.quantity.unit}".rstrip()

    @property
    def margin(self) -> str:
        """The claim's margin in its unit."""
        quantity = self.claim.quantity
        return f"{100 * quantity.margin:g}%" if quantity.relative else f"{quantity.margin:g} {quantity.unit}"


def judge(claims: Iterable[Claim], folder: Path = results.RESULTS) -> list[Finding]:
    """What the records in a folder, one folder for each sweep, say of each claim.

    Raises:
        ClaimError: Records of a claim's arms lack its metric, or no record of any sweep has it.
        RecordError: A record is broken.
    """

    @functools.cache
    def records(sweep: str) -> pd.DataFrame | None:
        try:
            return results.frame(folder / sweep)
        except FileNotFoundError:
            return None

    findings = [_judge(claim, records) for claim in claims]
    frames = [frame for path in folder.iterdir() if (frame := records(path.name)) is not None]
    known = {name for frame in frames for record in frame.record for name in (*record.metrics, *record.series)}
    known |= {*DERIVED, *EXACT, *NOT_YET_RECORDED}
    for finding in findings:
        quantity = finding.claim.quantity
        if quantity is not None and (unknown := sorted(names_in(quantity.metric) - known)):
            raise ClaimError(f"claim {finding.claim.id!r}: no record has a metric or series {unknown[0]!r}")
    return findings


def _judge(claim: Claim, records: Callable[[str], pd.DataFrame | None]) -> Finding:
    if claim.not_implemented:
        return Finding(claim, NOT_IMPLEMENTED)
    quantity = claim.quantity
    if claim.exact:
        effect = claim.exact.count()
        return Finding(claim, str(quantity.judge(effect)), effect)
    runs = _runs(claim, records)
    if runs is None:
        return Finding(claim, NOT_RUN)
    size = runs["size"].iloc[0]
    try:
        numbers = read_metrics(runs, quantity.metric)
    except KeyError as error:
        raise ClaimError(f"claim {claim.id!r}: records of {claim.sweep!r} have no metric {error}") from error
    by_arm = runs.assign(number=numbers).pivot(index="seed", columns="arm", values="number")
    if by_arm.isna().any(axis=None):  # nothing to choose a place by: a single seed
        return Finding(claim, UNDECIDED, seeds=tuple(by_arm.index), size=size)
    effect = results.summarize(quantity.effects(by_arm))
    verdict = quantity.judge(effect)
    return Finding(
        claim, REVERSED if quantity.contradicted(by_arm) else str(verdict), effect, results.smallest_effect(effect),
        tuple(by_arm.index), size, "; ".join(dict.fromkeys(runs.device)), _marks(runs.record),
    )  # fmt: skip


def _runs(claim: Claim, records: Callable[[str], pd.DataFrame | None]) -> pd.DataFrame | None:
    """The runs of the claim's arms with common seeds, at the largest size where all arms have some."""
    arms = []
    for written in dict.fromkeys(claim.quantity.arms):
        sweep, arm = claim.arm(written)
        found = records(sweep)
        if found is None:
            return None
        arms.append(found[found.arm == arm].assign(arm=written))
    for size in SIZES[: SIZES.index(claim.size) - 1 if SIZES.index(claim.size) else None : -1]:
        here = [of_arm[of_arm["size"] == size] for of_arm in arms]
        seeds = set.intersection(*(set(of_arm.seed) for of_arm in here))
        if seeds:
            runs = pd.concat(here, ignore_index=True)
            return runs[runs.seed.isin(seeds)]
    return None


def _marks(records: Iterable[RunRecord]) -> tuple[str, ...]:
    """What a reader has to know of the code behind the records."""
    records = list(records)
    older = any(record.upgraded_from is not None for record in records)
    dirty = any((record.git_revision or "-dirty").endswith("-dirty") for record in records)
    return ("older code",) * older + ("uncommitted changes",) * dirty


# ---------------------------------------------------------------------------------------------------------------------
# The page


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(template).render(values)


@dataclass(frozen=True)
class Counts:
    """Numbers of claims by status, as a bar for each source; ``by_status`` has them by status and source."""

    findings: Sequence[Finding]
    book: Book

    @property
    def by_status(self) -> dict[str, dict[str, int]]:
        return {
            status: {
                source.name: sum(f.status == status and f.claim.source == key for f in self.findings)
                for key, source in self.book.sources.items()
            }
            for status in STATUSES
        }

    def _repr_html_(self) -> str:
        counts, sources = self.by_status, [source.name for source in self.book.sources.values()]
        total = {source: sum(of[source] for of in counts.values()) for source in sources}
        alt = "; ".join(
            f"{source}: " + ", ".join(f"{of[source]} {status}" for status, of in counts.items() if of[source])
            for source in sources
        )
        longest = max(1, *total.values())
        return _render("claims_counts.html", counts=counts, sources=sources, longest=longest, alt=alt)

    def __repr__(self) -> str:
        return ", ".join(f"{sum(of.values())} {status}" for status, of in self.by_status.items())


@dataclass(frozen=True)
class Page:
    """The findings as a table that a page can filter by source, status and chapter."""

    findings: Sequence[Finding]
    book: Book

    def _repr_html_(self) -> str:
        names = {finding.claim.chapter for finding in self.findings if finding.claim.chapter}
        found = sorted((find_chapter(name).stem, name) for name in names)
        pages = {name: {"stem": stem, "name": f"Chapter {int(stem[:2])}"} for stem, name in found}
        filters = {
            "source": {key: source.name for key, source in self.book.sources.items()},
            "status": {status: status for status in STATUSES},
            "chapter": {name: page["name"] for name, page in pages.items()},
        }
        sources = self.book.sources
        return _render("claims.html", findings=self.findings, sources=sources, pages=pages, filters=filters)

    def __repr__(self) -> str:
        return "\n".join(f"{finding.status:>15}  {finding.claim.id}" for finding in self.findings)
