"""The API reference lists every module of the package by itself, so a new module cannot be forgotten."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import ObjectEntry
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

BACK = re.compile(r'<a class="viewcode-back" href="[^"#]*#([^"]+)">\[docs\]</a>')
MARKER = re.compile(r"^% modules of (\w+)(?: (only|without) (.+))?$", re.MULTILINE)


def public_modules(package: Path) -> list[str]:
    """Return the dotted names of a package's modules, sorted; names with a leading underscore are private.

    A package inside it counts as the module that its ``__init__.py`` is.
    """
    names = []
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if parts[-1] == "__init__" and len(parts) > 2:
            parts = parts[:-1]
        if not any(part.startswith("_") for part in parts):
            names.append(".".join(parts))
    return sorted(names)


def module_section(name: str) -> str:
    """Return the MyST section that documents what one module offers, from the docstrings."""
    return f"### `{name.partition('.')[2]}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"


def home(name: str, member: object) -> str | None:
    """Return the module in which a function or class of a package is documented: the one that offers it to users.

    That is the module whose ``__all__`` lists it though it is defined elsewhere, else the defining one.
    """
    defined_in = getattr(member, "__module__", None)
    if not callable(member) or defined_in is None:
        return None
    package = defined_in.partition(".")[0]
    offered = [
        module_name
        for module_name, module in sorted(sys.modules.items())
        if module_name.startswith(f"{package}.")
        and isinstance(listed := getattr(module, "__all__", None), list | tuple)
        and name in listed
        and getattr(module, name, None) is member
    ]
    return next((module_name for module_name in offered if module_name != defined_in), defined_in)


def load_package(package: Path) -> None:
    """Import every public module, so that :func:`home` knows what each of them offers."""
    for name in public_modules(package):
        importlib.import_module(name)


def skip_member(app: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Leave out what would be documented twice, and class attributes whose value is a built-in type.

    For the latter autodoc would print that type's own documentation.
    """
    if what == "class" and isinstance(member, type) and member.__module__ == "builtins":
        return True
    if what == "module":
        place = home(name, member)
        if place is not None and place != app.env.temp_data.get("autodoc:module"):
            return True
    return None


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: Element) -> Element | None:
    """Lead a reference that names the defining module, or the offering one, to where the object is documented."""
    target = node.get("reftarget", "")
    module_name, _, name = target.rpartition(".")
    module = sys.modules.get(module_name)
    if node.get("refdomain") != "py" or module is None or not hasattr(module, name):
        return None
    place = home(name, getattr(module, name))
    entry = env.get_domain("py").objects.get(f"{place}.{name}")
    if entry is None:
        return None
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, f"{place}.{name}")


def documented(name: str, entries: Mapping[str, ObjectEntry]) -> str | None:
    """Return the name under which something is documented, given where it is defined; None where it is not.

    ``package.inner.Class.method`` may be documented as ``package.Class.method``.
    """
    if name in entries:
        return name
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:cut]))
        if module is None:
            continue
        place = home(parts[cut], getattr(module, parts[cut], None))
        found = ".".join([place or "", *parts[cut:]])
        return found if found in entries else None
    return None


def mend_source_links(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Element | None
) -> None:
    """Lead the *[docs]* links of a module's source to where things are documented; drop those of what is nowhere."""
    if not pagename.startswith("_modules/"):
        return
    entries = app.env.get_domain("py").objects

    def mend(match: re.Match) -> str:
        name = documented(match[1], entries)
        if name is None:
            return ""
        uri = app.builder.get_relative_uri(pagename, entries[name].docname)
        return f'<a class="viewcode-back" href="{uri}#{entries[name].node_id}">[docs]</a>'

    context["body"] = BACK.sub(mend, context["body"])


def expand(text: str, root: Path) -> str:
    """Replace each marker line by one section for each module that it asks for.

    The line names a package below ``root`` and ends there, or names modules by patterns:
    ``% modules of diffusab_book only explorers*``; or ``without`` instead of ``only``.
    """

    def sections(match: re.Match) -> str:
        patterns = (match[3] or "").split()
        names = [
            name
            for name in public_modules(root / match[1])
            if any(fnmatch(name.partition(".")[2], pattern) for pattern in patterns) == (match[2] == "only")
        ]
        return "\n".join(module_section(name) for name in names)

    return MARKER.sub(sections, text)
