"""A file of this repository that a page, a card, a docstring or a comment names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("benchmarks", "book", "diffusab_book", "diffusab_core", "notebooks", "scripts", "sweeps", "tests")
NAMED = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]+\.(?:css|j2|js|json|md|png|py|sh|svg|toml|ya?ml)\b")
#: Words that stand for a name, and a file that a command writes.
STANDS_FOR, WRITTEN = re.compile(r"NAME|SIZE|NN_name"), {"benchmarks/results-gpu.json"}
#: Tests name files that they make up.
SOURCES = [
    path
    for path in (*ROOT.glob("*"), *(path for name in FOLDERS if name != "tests" for path in (ROOT / name).rglob("*")))
    if path.is_file()
    if path.suffix in (".j2", ".md", ".py", ".toml", ".yaml", ".yml") or path.name == "Makefile"
    if not {"results", "_build"} & set(path.relative_to(ROOT).parts[:-1])
]


def missing_in(text: str) -> set[str]:
    """Files that a text names and that are not there."""
    names = {name for name in NAMED.findall(text) if not STANDS_FOR.search(name)} - WRITTEN
    return {name for name in names if not (ROOT / name).exists()}


def test_every_file_that_is_named_is_there():
    found = {str(path.relative_to(ROOT)): missing_in(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {where: names for where, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "place", ["README.md", "diffusab_core/metrics/hed.md", "diffusab_core/autoencoders/weights/kl-f4c16/README.md"]
)
def test_it_is_looked_for_in_pages_and_cards(place):
    assert NAMED.search((ROOT / place).read_text(encoding="utf-8"))
    assert ROOT / place in SOURCES


def test_a_name_of_nothing_would_be_found():
    assert missing_in("Script: `scripts/train_shipped.py --name X`, not sweeps/NAME.yaml") == {
        "scripts/train_shipped.py"
    }
