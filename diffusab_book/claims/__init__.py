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

from diffusab_book.claims.file import CLAIMS, Book, Claim, Paper, find_chapter, read
from diffusab_book.claims.judging import STATUSES, Finding, judge
from diffusab_book.claims.kinds import ClaimError
from diffusab_book.claims.page import Counts, Page
from diffusab_book.claims.quantities import DERIVED, EXACT, NOT_YET_RECORDED, read_metric, read_metrics

__all__ = [
    "CLAIMS", "DERIVED", "EXACT", "NOT_YET_RECORDED", "STATUSES", "Book", "Claim", "ClaimError", "Counts", "Finding",
    "Page", "Paper", "find_chapter", "judge", "read", "read_metric", "read_metrics",
]  # fmt: skip
