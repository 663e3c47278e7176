"""What pyproject.toml cannot say: notebooks, presets, sweeps, claims and records lie inside the package in a wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = {
    "notebooks": ("*.py", "*.yaml"),
    "sweeps": ("*.yaml",),
    "book/results": ("*.json", "*.webp"),
    "book": ("claims.yaml", "cluster_story.json"),  # which chapters read, too
}


class BuildWithBook(build_py):
    """``diffusab run`` then works wherever the wheel is installed; see diffusab_book/places.py."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for folder, patterns in SHIPPED.items():
            files = [file for pattern in patterns for file in sorted((ROOT / folder).rglob(pattern))]
            if not files:
                raise FileNotFoundError(f"{ROOT / folder} holds none of {', '.join(patterns)}; a checkout has them")
            for file in files:
                copy = Path(self.build_lib) / "diffusab_book" / "shipped" / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)


setup(cmdclass={"build_py": BuildWithBook})
