"""The API reference lists every module of the package by itself, so a new module cannot be forgotten."""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

MARKER = "% modules of diffusab_core"


def public_modules(package: Path) -> list[str]:
    """Return the dotted names of a package's modules, sorted; names with a leading underscore are private."""
    names = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if path.stem != "__init__" and not any(part.startswith("_") for part in parts):
            names.append(".".join(parts))
    return names


def module_section(name: str) -> str:
    """Return the MyST section that documents what one module defines; what it re-exports stands where it is defined."""
    options = "   :members:\n   :ignore-module-all:\n"
    return f"## `{name.partition('.')[2]}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n{options}```\n"


def skip_member(app: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Leave out what would be documented twice or is not ours.

    Names that a module passes on from another one (through ``__all__``) are documented where they are defined. A class
    attribute whose value is a built-in type would come with that type's own documentation.
    """
    if what == "class" and isinstance(member, type) and member.__module__ == "builtins":
        return True
    if what == "module" and callable(member):
        here, home = app.env.temp_data.get("autodoc:module"), getattr(member, "__module__", None)
        return True if here and home and home != here else None
    return None


def expand(text: str, package: Path) -> str:
    """Replace the marker line by one section for each module."""
    return text.replace(MARKER, "\n".join(module_section(name) for name in public_modules(package)))
