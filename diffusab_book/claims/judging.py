"""What the records say of each claim."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from diffusab_book import results
from diffusab_book.claims.file import Claim
from diffusab_book.claims.kinds import ClaimError
from diffusab_book.claims.quantities import DERIVED, EXACT, NOT_YET_RECORDED, names_in, read_metrics
from diffusab_core.experiments.records import SIZES, RunRecord

#: The statuses in the order of the page.
REPRODUCED, REVERSED, NO_EFFECT = "reproduced", "reversed", "no effect"
UNDECIDED, NOT_RUN, NOT_IMPLEMENTED = "undecided", "not yet run", "not implemented"
STATUSES = (REPRODUCED, REVERSED, NO_EFFECT, UNDECIDED, NOT_RUN, NOT_IMPLEMENTED)


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
