"""The findings as a page shows them: a bar of counts and a table to filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from diffusab_book.claims.file import Book, find_chapter
from diffusab_book.claims.judging import STATUSES, Finding


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
        return _render("counts.html", counts=counts, sources=sources, longest=longest, alt=alt)

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
        return _render("table.html", findings=self.findings, sources=sources, pages=pages, filters=filters)

    def __repr__(self) -> str:
        return "\n".join(f"{finding.status:>15}  {finding.claim.id}" for finding in self.findings)
