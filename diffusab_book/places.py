"""Where the notebooks, their presets, the sweeps and the recorded results lie: in a checkout, or inside the wheel."""

from __future__ import annotations

from pathlib import Path

_AROUND = Path(__file__).resolve().parents[1]

#: The checkout that this package is imported from; ``None`` where it was installed from a wheel.
CHECKOUT = _AROUND if (_AROUND / "pyproject.toml").is_file() and (_AROUND / "notebooks").is_dir() else None
#: Holds ``notebooks``, ``sweeps`` and ``book/results``; setup.py copies them here for a wheel.
HOME = CHECKOUT or Path(__file__).with_name("shipped")
