"""The file of claims, read and checked."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from diffusab_book import chapters, results
from diffusab_book.claims.kinds import Checked, ClaimError, Difference, Exact, Interaction, Order, Quantity, Value
from diffusab_book.sweeps import files as sweeps
from diffusab_core.experiments.records import Size

CLAIMS = results.RESULTS.parent / "claims.yaml"


class Paper(Checked):
    name: str  #: As the page calls it
    link: str = ""  #: Key of the bibliography, without one for our own


KINDS = ("difference", "order", "value", "interaction", "exact")


class Claim(Checked):
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
    def quantity(self) -> Quantity | None:
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
