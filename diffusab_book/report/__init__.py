"""What ``diffusab profile`` and ``diffusab report`` measure, say and write: one measurement, one page."""

from diffusab_book.report.measurement import measure
from diffusab_book.report.options import Options, Plan, ReportError
from diffusab_book.report.page import make, write

__all__ = ["Options", "Plan", "ReportError", "make", "measure", "write"]
