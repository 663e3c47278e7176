"""The rooms of the core: a room imports only rooms with a smaller number, nothing in circles, and little by itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import diffusab_core

CORE = Path(diffusab_core.__file__).parent
ROOMS = (
    "files", "spectrum", "flow", "denoisers", "training", "data", "autoencoders", "latents", "metrics", "methods",
    "experiments",
)  # fmt: skip
#: What only some of the later rooms, or a person's tools, need: nobody waits for it who only wants a spectrum.
HEAVY = ("plotly", "typer", "diffusers", "datasets", "pandas")


@cache
def modules() -> dict[str, Path]:
    """Every module of the core by its name."""
    return {
        ".".join(("diffusab_core", *path.relative_to(CORE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in sorted(CORE.rglob("*.py"))
        if path.name != "__main__.py"
    }


def imported(tree: ast.AST, where: str, is_package: bool) -> set[str]:
    """Names that a module imports, wherever in it; relative ones made absolute. Of ``from a import b``, a and a.b."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = where.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, *([base] if base else [])])
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


@cache
def graph() -> dict[str, set[str]]:
    """Module to the modules of the core and of the book that it imports; functions' imports count, too."""
    found = {}
    for name, path in modules().items():
        names = imported(ast.parse(path.read_text(encoding="utf-8")), name, path.name == "__init__.py")
        # `from diffusab_core.room import word`: the module if there is one of that name, else the room.
        known = {n for n in names if n in modules() or n.split(".")[0] == "diffusab_book"}
        found[name] = known - {name}
    return found


def room_of(module: str) -> str | None:
    """The room of a module; ``None`` for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def edges_up(found: dict[str, set[str]]) -> list[str]:
    """Imports of a room with a larger number, and of what is no room."""
    return [
        f"{module} imports {other}"
        for module, others in found.items()
        for other in others
        if room_of(module) is not None and room_of(other) not in (None, room_of(module))
        if room_of(other) not in ROOMS[: ROOMS.index(room_of(module))]
    ]


def cycle_in(found: dict[str, set[str]]) -> list[str]:
    """A cycle of imports between modules, if there is one; a room's face may import what is behind it."""
    faces = {name for name, path in modules().items() if path.name == "__init__.py"}
    inside = {name: others - faces for name, others in found.items() if name not in faces}
    try:
        TopologicalSorter(inside).prepare()
    except CycleError as error:
        return error.args[1]
    return []


# ---------------------------------------------------------------------------------------------------------------------


def test_every_module_is_in_a_room():
    assert {room_of(name) for name in modules()} - {None} == set(ROOMS)


def test_a_room_imports_only_rooms_with_a_smaller_number():
    assert edges_up({k: v for k, v in graph().items() if not any(o.startswith("diffusab_book") for o in v)}) == []


def test_the_core_never_imports_the_book():
    assert [f"{k} imports {o}" for k, v in graph().items() for o in v if o.startswith("diffusab_book")] == []


def test_no_imports_go_in_a_circle():
    assert cycle_in(graph()) == []


def test_a_breach_would_be_found():
    here = modules() | {}
    assert set(here) > {"diffusab_core.files", "diffusab_core.flow.path", "diffusab_core.training.loop"}
    assert "diffusab_core.files" in graph()["diffusab_core.training.loop"]
    assert "diffusab_core.training.order" in graph()["diffusab_core.training.batches"]
    up = {"diffusab_core.flow.path": {"diffusab_core.training.loop"}, "diffusab_core.files": {"diffusab_core.shelf"}}
    assert edges_up(up) == [
        "diffusab_core.flow.path imports diffusab_core.training.loop",
        "diffusab_core.files imports diffusab_core.shelf",
    ]
    circle = {
        "diffusab_core.flow.path": {"diffusab_core.flow.ddpm"},
        "diffusab_core.flow.ddpm": {"diffusab_core.flow.path"},
    }
    assert set(cycle_in(circle)) == set(circle)
    code = "from . import a\nfrom ..room.b import c\ndef f():\n    import diffusab_core.x"
    assert imported(ast.parse(code), "diffusab_core.here.there", False) == {
        "diffusab_core.here", "diffusab_core.here.a", "diffusab_core.room.b", "diffusab_core.room.b.c",
        "diffusab_core.x",
    }  # fmt: skip


@pytest.mark.parametrize("room", ["", "spectrum", "flow", "denoisers", "training", "data"])
def test_the_first_rooms_load_little(room):
    name = f"diffusab_core.{room}".rstrip(".")
    code = f"import sys, {name}; print(*[word for word in {HEAVY} if word in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CORE.parent)
    assert found.stdout.split() == []
