"""The five kinds of quantity: which arms each compares, what effect it has by seed, and what that says."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from diffusab_book import results
from diffusab_book.claims.quantities import EXACT
from diffusab_core.files import DiffusabError

SIGN = {"higher": 1, "lower": -1, "same": 0}
BOUND = {"not higher": 1, "not lower": -1}
Expected = Literal["higher", "lower", "same", "not higher", "not lower"]


class ClaimError(DiffusabError, ValueError):
    """A file of claims that cannot be used; the message names the claim and the value."""


class Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantity(Checked):
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


class Difference(Quantity):
    arm: str | tuple[str, ...]
    control: str | tuple[str, ...]

    @property
    def arms(self) -> list[str]:
        return [*_several(self.arm), *_several(self.control)]

    def effects(self, by_arm: pd.DataFrame) -> pd.Series:
        ours, theirs = (by_arm[_several(arms)].mean(axis=1) for arms in (self.arm, self.control))
        return (ours - theirs) / results.unit_of(theirs, self.relative)

    def __str__(self) -> str:
        return " − ".join(
            f"mean of {', '.join(arms)}" if len(arms := _several(side)) > 1 else arms[0]
            for side in (self.arm, self.control)
        )


class Order(Quantity):
    row: Annotated[list[str], Field(min_length=3)]

    @property
    def arms(self) -> list[str]:
        return self.row

    def effects(self, by_arm: pd.DataFrame) -> pd.Series:
        values = by_arm[self.row]
        place = np.arange(len(self.row)) - (len(self.row) - 1) / 2
        change = (values * place).sum(axis=1) / (place**2).sum() * (len(self.row) - 1)
        return change / results.unit_of(by_arm[self.row[0]], self.relative)

    def contradicted(self, by_arm: pd.DataFrame) -> bool:
        steps = [
            results.summarize(_against(by_arm, after, before, self.relative))
            for before, after in zip(self.row, self.row[1:], strict=False)
        ]
        return any(self.judge(step) == results.Verdict.REVERSED for step in steps)

    def __str__(self) -> str:
        return " → ".join(self.row)


class Value(Quantity):
    arm: str
    than: float

    @property
    def arms(self) -> list[str]:
        return [self.arm]

    def effects(self, by_arm: pd.DataFrame) -> pd.Series:
        return (by_arm[self.arm] - self.than) / (abs(self.than) if self.relative else 1)

    def __str__(self) -> str:
        return f"{self.arm} − {self.than:g}"


class Exact(Quantity):
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


class Pair(Checked):
    arm: str
    control: str


class Interaction(Quantity):
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
    return (by_arm[arm] - by_arm[control]) / results.unit_of(by_arm[control], relative)
