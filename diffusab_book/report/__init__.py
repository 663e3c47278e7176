"""What ``diffusab profile`` and ``diffusab report`` measure, say and write: one measurement, one page."""

import lazy_loader

# Figures and statistics are loaded when something is measured, not for an option that is misspelt.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "measurement": ["measure"],
        "options": ["Options", "Plan", "ReportError"],
        "page": ["make", "write"],
    },
)
