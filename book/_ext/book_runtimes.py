"""Measured runtimes in pages: taken from this build's own executions, never typed by hand.

The directive ``{measured-runtime}`` states the runtime of the page that it stands in, as a line of its own. The role of
the same name states it inside a sentence: ``.`` is the page it stands in, ``notebooks/02_dct`` another one. The
directive ``{measured-runtimes}`` is the table of all executed pages. The role ``{build-machine}`` names the machine
that measured.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

LOGGER = logging.getLogger(__name__)


def seconds_in_words(seconds: float) -> str:
    """Return a duration for a sentence: ``0.8`` → ``under a second``, ``14.2`` → ``14 s``, ``95`` → ``1 min 35 s``."""
    if not seconds >= 0:
        return "an unknown time"
    if seconds < 1:
        return "under a second"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def usable_cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """Return the processor's name as the system tells it, without frequency and trademark signs."""
    cpuinfo = Path("/proc/cpuinfo")
    name = platform.processor() or platform.machine()
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2]
                break
    for noise in ("(R)", "(TM)", "(tm)", "CPU"):
        name = name.replace(noise, "")
    return " ".join(name.partition("@")[0].split()) or "unknown processor"


def machine_in_words() -> str:
    """Return a phrase such as ``2 CPU cores (AMD EPYC 7763), Linux, Python 3.11.9, torch 2.15.0``."""
    cores = usable_cores()
    plural = "core" if cores == 1 else "cores"
    return (
        f"{cores} CPU {plural} ({cpu_name()}), {platform.system()}, "
        f"Python {platform.python_version()}, torch {version('torch').partition('+')[0]}"
    )


def runtime(env: BuildEnvironment, docname: str) -> float | None:
    """Return the seconds that executing a page took, or None for a page that was not executed."""
    data = NbMetadataCollector.get_doc_data(env).get(docname, {}).get("exec_data") or {}
    return data.get("runtime")


class RuntimeNode(nodes.Inline, nodes.TextElement):
    """Stands for a page's runtime until every page has been executed."""


class RuntimeRole(SphinxRole):
    """``{measured-runtime}`docname```, or ``.`` for the page it stands in."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        docname = self.env.docname if self.text.strip() == "." else self.text.strip().lstrip("/")
        node = RuntimeNode("", docname=docname)
        self.set_source_info(node)
        return [node], []


class RuntimeDirective(SphinxDirective):
    """A line that says how long this page's code ran, and on what machine."""

    def run(self) -> list[nodes.Node]:
        node = RuntimeNode("", docname=self.env.docname)
        self.set_source_info(node)
        line = nodes.paragraph("", "", classes=["book-runtime"])
        line += [nodes.Text("This page ran in "), node, nodes.Text(f" on {machine_in_words()}.")]
        return [line]


class RuntimeTableNode(nodes.General, nodes.Element):
    """Stands for the table of all runtimes until every page has been executed."""


class RuntimeTableDirective(SphinxDirective):
    """A table of all executed pages with the seconds that they took and the day that they were executed."""

    def run(self) -> list[nodes.Node]:
        return [RuntimeTableNode()]


def table_row(cells: Sequence[nodes.Node]) -> nodes.row:
    """Return a row of a table, one cell for each node."""
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def runtime_table(env: BuildEnvironment) -> nodes.table:
    """Return the table: a link to each executed page, its runtime, and the date of the execution."""
    executed = {name: data["exec_data"] for name, data in NbMetadataCollector.get_doc_data(env).items()
                if (data.get("exec_data") or {}).get("runtime") is not None}  # fmt: skip
    body = nodes.tbody()
    for docname in sorted(executed):
        link = addnodes.pending_xref(
            "", nodes.inline(text=env.titles[docname].astext()), refdomain="std", reftype="doc",
            reftarget=f"/{docname}", refexplicit=True, refwarn=True,
        )  # fmt: skip
        day = datetime.fromtimestamp(executed[docname]["mtime"], tz=UTC).strftime("%Y-%m-%d")
        body += table_row([link, nodes.Text(f"{executed[docname]['runtime']:.1f} s"), nodes.Text(day)])
    head = nodes.thead("", table_row([nodes.Text(text) for text in ("Page", "Runtime", "Executed on")]))
    columns = [nodes.colspec(colwidth=width) for width in (60, 20, 20)]
    return nodes.table("", nodes.tgroup("", *columns, head, body, cols=3), classes=["colwidths-auto"])


class MachineRole(SphinxRole):
    """``{build-machine}`.```: the machine that executed the pages."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        return [nodes.Text(machine_in_words())], []


class InsertRuntimes(SphinxPostTransform):
    """Fill in the runtimes once every page has been executed."""

    default_priority = 8  # before references are resolved: the table holds some

    def run(self, **kwargs: object) -> None:
        for node in list(self.document.findall(RuntimeTableNode)):
            node.replace_self(runtime_table(self.env))
        for node in list(self.document.findall(RuntimeNode)):
            seconds = runtime(self.env, node["docname"])
            if seconds is None:
                LOGGER.warning("no page %r was executed, so it has no runtime", node["docname"], location=node)
                seconds = float("nan")
            node.replace_self(nodes.Text(seconds_in_words(seconds)))


def setup(app: Sphinx) -> None:
    """Register directive, roles and transform."""
    app.add_node(RuntimeNode)
    app.add_node(RuntimeTableNode)
    app.add_directive("measured-runtimes", RuntimeTableDirective)
    app.add_directive("measured-runtime", RuntimeDirective)
    app.add_role("measured-runtime", RuntimeRole())
    app.add_role("build-machine", MachineRole())
    app.add_post_transform(InsertRuntimes)
