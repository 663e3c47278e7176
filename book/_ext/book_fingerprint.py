"""One hash of everything that an executed chapter's outputs depend on besides the chapter itself.

jupyter-cache compares the code cells of a notebook only. A number in a published page also changes when the package,
a shipped model, a recorded result or the environment changes, so the cache's folder is named after this hash.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from pathlib import Path

# What a chapter can read, relative to the repository's root.
EXECUTION_INPUTS = (
    "diffusab_core/**/*",
    "diffusab_book/**/*",
    "book/results/**/*",  # records, and grids of samples
    "book/claims.yaml",
    "book/cluster_story.json",
    "sweeps/*.yaml",
    "notebooks/presets/**/*",
    "constraints.txt",
    "pyproject.toml",
)
# What else the pages are made of.
PAGE_INPUTS = (
    "_config.yml",
    "CITATION.cff",
    "LICENSE",
    "book/**/*",
    "notebooks/*.py",
    "scripts/build_book.py",
    "scripts/kit/*.py",  # writes the text of notebooks that are handed out
)
# Never a source: bytecode, and what an editor or an operating system leaves behind.
SKIPPED_PARTS = {"__pycache__", ".ipynb_checkpoints", "vendor", ".DS_Store"}


def files(root: Path, patterns: Iterable[str]) -> list[Path]:
    """Return the files below ``root`` that match any of the patterns, sorted, each once."""
    found = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not SKIPPED_PARTS & set(path.relative_to(root).parts))


def digest(root: Path, patterns: Iterable[str], *extra: str) -> str:
    """Return 16 hexadecimal digits over names and contents of the matching files, and over ``extra``."""
    sha = hashlib.sha256("\0".join(extra).encode())
    for path in files(root, patterns):
        sha.update(path.relative_to(root).as_posix().encode())
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()[:16]


def execution_fingerprint(root: Path) -> str:
    """Return the hash that names the execution cache: package, models, records, environment and machine type.

    The machine is in it because a chapter's measured runtime is cached with its outputs.
    """
    return digest(root, EXECUTION_INPUTS, platform.python_version(), platform.platform(), platform.machine())


def book_fingerprint(root: Path) -> str:
    """Return the hash of everything the built book depends on; a build that carries it is up to date."""
    return digest(root, (*EXECUTION_INPUTS, *PAGE_INPUTS), platform.python_version())
