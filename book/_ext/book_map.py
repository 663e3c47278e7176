"""The map of the chapters: what each builds on, minutes to read and to run, from the chapters themselves.

A chapter's header may name the chapters that it builds on by their labels, ``book: {needs: [chap-dct]}`` under
``jupyter:``; where it does not, they are the earlier chapters that its text refers to. Minutes to read are the words of
its text over :data:`WORDS_PER_MINUTE`; code, formulas and solutions, which unfold on demand, are not counted. Times to
run are measured (``book_runtimes``). The directive ``{chapter-map}`` draws the map, ``{chapter-table}`` lists it.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import jupytext
from book_runtimes import runtime, seconds_in_words, table_row
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOGGER = logging.getLogger(__name__)
WORDS_PER_MINUTE = 200
BOX, GAP, ROW = (112, 58), 8, 104  # of the drawing: a chapter's box, what lies between two, from row to row; pixels
WAY = 10  # what a line takes that passes a row
Spot = int | tuple[int, int, int]  # a chapter, or the gap in a row for the line between two: (near, number, row)
UNREAD = (nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, nodes.comment, nodes.target)


@dataclass(frozen=True)
class Chapter:
    """What the map says of one chapter."""

    docname: str
    number: int
    title: str
    needs: tuple[int, ...]  # numbers of the chapters before it
    minutes: int  # to read
    seconds: float | None  # to run; None where it was not executed


def count_words(document: nodes.document) -> int:
    """Return how many words of a page are read from top to bottom."""

    def is_read(text: nodes.Text) -> bool:
        node = text.parent
        while node is not None:
            if isinstance(node, UNREAD) or "solution" in node.get("classes", ()):
                return False
            node = node.parent
        return True

    return sum(len(re.findall(r"\w[\w'’-]*", text.astext())) for text in document.findall(nodes.Text) if is_read(text))


def minutes_to_read(words: int) -> int:
    """Return whole minutes, at least one."""
    return max(1, math.ceil(words / WORDS_PER_MINUTE))


def named_needs(path: Path) -> list[str] | None:
    """Return the labels that a notebook's header says it builds on, or None where it says nothing."""
    header = jupytext.read(path).metadata.get("book") or {}
    return header.get("needs")


def reduce_needs(needs: Mapping[int, Iterable[int]]) -> dict[int, tuple[int, ...]]:
    """Leave out what another need already brings along: of 1, 2 and 3, where 3 needs 1, only 2 and 3 remain."""

    def all_before(number: int) -> set[int]:
        return {far for near in needs[number] for far in (near, *all_before(near))}

    return {
        number: tuple(sorted(set(direct) - {far for near in direct for far in all_before(near)}))
        for number, direct in needs.items()
    }


def depths(needs: Mapping[int, Iterable[int]]) -> dict[int, int]:
    """Return how many chapters lie, one after another, before each."""
    found: dict[int, int] = {}
    for number in sorted(needs):  # needs have smaller numbers
        found[number] = 1 + max((found[near] for near in needs[number]), default=-1)
    return found


def chains(needs: Mapping[int, tuple[int, ...]]) -> dict[tuple[int, int], list[Spot]]:
    """Return for each need ``(near, number)`` what its line passes: a chapter, a gap in each row between, a chapter."""
    depth = depths(needs)
    return {
        (near, number): [near, *((near, number, level) for level in range(depth[near] + 1, depth[number])), number]
        for number in sorted(needs)
        for near in needs[number]
    }


def place(needs: Mapping[int, tuple[int, ...]]) -> tuple[dict[Spot, tuple[float, float]], tuple[int, int]]:
    """Return the middle of each chapter's box and of each gap for a line, and the size of the drawing.

    Needs lie above, near one another.
    """
    depth = depths(needs)
    rows: list[list[Spot]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    above: dict[Spot, list[Spot]] = {number: [] for number in needs}
    for number in sorted(needs):
        rows[depth[number]].append(number)
    for chain in chains(needs).values():
        for before, after in pairwise(chain):
            above.setdefault(after, []).append(before)
        for gap in chain[1:-1]:
            rows[gap[2]].append(gap)

    def span(spot: Spot) -> int:
        return (BOX[0] if isinstance(spot, int) else WAY) + GAP

    width = max((sum(map(span, row)) for row in rows), default=0) + GAP
    spots: dict[Spot, tuple[float, float]] = {}
    for level, row in enumerate(rows):
        middle = {spot: fmean([spots[near][0] for near in above[spot]] or [0]) for spot in row}
        row.sort(key=lambda spot: (middle[spot], spot if isinstance(spot, int) else spot[1]))
        free, x = (width - sum(map(span, row))) / len(row), 0.0
        for spot in row:
            x += free + span(spot)
            spots[spot] = (x - (free + span(spot)) / 2, level * ROW + BOX[1] / 2 + 4)
    return spots, (width, (len(rows) - 1) * ROW + BOX[1] + 8)


def line_through(points: Sequence[tuple[float, float]]) -> str:
    """Return the path of a line from below the first point to above the last, straight down past those between."""
    half, path = BOX[1] / 2, ""
    for i, ((x0, y0), (x, y)) in enumerate(pairwise(points)):
        start, end = y0 + half, y - half
        path += f"{'M' if i == 0 else 'L'}{x0:.0f} {start:.0f}"
        path += f"C{x0:.0f} {start + 26:.0f} {x:.0f} {end - 26:.0f} {x:.0f} {end:.0f}"
    return path


def break_title(title: str, length: int = 17, most: int = 3) -> list[str]:
    """Return a title in lines about as long as a box is wide, and no more than fit into it."""
    lines = [""]
    for word in title.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > length:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1].rstrip(",:") + " …"]


def draw(chapters: Mapping[int, Chapter], links: Mapping[int, str]) -> str:
    """Return the map as SVG in a scrolling box; ``links`` are the addresses of the chapters."""
    needs = {number: chapter.needs for number, chapter in chapters.items()}
    spots, (width, height) = place(needs)
    half = BOX[1] / 2
    lines = [f'<path d="{line_through([spots[spot] for spot in chain])}"/>' for chain in chains(needs).values()]
    boxes = []
    for number, chapter in sorted(chapters.items()):
        x, y = spots[number]
        parts = break_title(f"{number}. {chapter.title}")
        text = "".join(
            f'<tspan x="{x:.0f}" dy="{0 if i == 0 else 15}">{html.escape(part)}</tspan>' for i, part in enumerate(parts)
        )
        top = y + 4 - 7.5 * (len(parts) - 1)
        boxes.append(
            f'<a href="{html.escape(links[number], quote=True)}"><title>{html.escape(chapter.title)}</title>'
            f'<rect x="{x - BOX[0] / 2:.0f}" y="{y - half:.0f}" width="{BOX[0]}" height="{BOX[1]}" rx="6"/>'
            f'<text x="{x:.0f}" y="{top:.0f}">{text}</text></a>'
        )
    return (
        '<div class="book-map" tabindex="0" role="group" aria-label="Map of the chapters; a table below says the same">'
        f'<svg viewBox="0 0 {width} {height}" width="{width}" xmlns="http://www.w3.org/2000/svg">'
        f"{''.join(lines)}{''.join(boxes)}</svg></div>"
    )


def read_chapters(env: BuildEnvironment) -> dict[int, Chapter]:
    """Return the numbered chapters that are notebooks, by number, once every page has been read."""
    numbers = {
        doc: sections[""][0] for doc, sections in env.toc_secnumbers.items() if doc in env.metadata and sections.get("")
    }
    labels = env.get_domain("std").labels
    wanted = {}
    for doc, number in numbers.items():
        names = env.metadata[doc].get("book_needs", ())
        unknown = [name for name in names if labels.get(name, ("",))[0] not in numbers]
        if unknown:
            LOGGER.warning("no chapter has the labels %s that it says it needs", unknown, location=doc)
        near = {numbers[labels[name][0]] for name in names if name not in unknown}
        wanted[number] = {n for n in near if n < number}
    needs = reduce_needs(wanted)
    return {
        number: Chapter(
            doc, number, env.titles[doc].astext(), needs[number],
            minutes_to_read(env.metadata[doc].get("book_words", 0)), runtime(env, doc),
        )
        for doc, number in sorted(numbers.items(), key=lambda item: item[1])
    }  # fmt: skip


def note_chapter(app: Sphinx, document: nodes.document) -> None:
    """Remember of a notebook that was read its words and what it builds on, and make room for the line that says so."""
    doc = app.env.docname
    path = Path(app.env.doc2path(doc))
    if path.suffix != ".py":
        return
    referred = [ref["reftarget"] for ref in document.findall(addnodes.pending_xref) if ref.get("reftype") == "numref"]
    named = named_needs(path)
    needs = [name for name in referred if name.startswith("chap-")] if named is None else named
    app.env.metadata[doc].update(book_words=count_words(document), book_needs=sorted(set(needs)))  # kept by page
    for line in list(document.findall(nodes.paragraph)):
        if "book-runtime" in line["classes"]:
            line.parent.insert(line.parent.index(line), NeedsNode())


class MapNode(nodes.General, nodes.Element):
    """Stands for the drawing until every chapter has been read."""


class TableNode(nodes.General, nodes.Element):
    """Stands for the table until every chapter has been read."""


class NeedsNode(nodes.General, nodes.Element):
    """Stands for the line under a chapter's title until every chapter has been read."""


class MapDirective(SphinxDirective):
    """The map as a drawing."""

    def run(self) -> list[nodes.Node]:
        return [MapNode()]


class TableDirective(SphinxDirective):
    """The map as a table."""

    def run(self) -> list[nodes.Node]:
        return [TableNode()]


def link(chapter: Chapter, text: str) -> addnodes.pending_xref:
    """Return a link to a chapter."""
    return addnodes.pending_xref(
        "", nodes.inline(text=text), refdomain="std", reftype="doc", reftarget=f"/{chapter.docname}",
        refexplicit=True, refwarn=True,
    )  # fmt: skip


def link_needs(chapters: Mapping[int, Chapter], numbers: Iterable[int]) -> nodes.inline:
    """Return the numbers of chapters as links, with commas."""
    parts: list[nodes.Node] = []
    for number in numbers:
        parts += [nodes.Text(", ")] if parts else []
        parts.append(link(chapters[number], str(number)))
    return nodes.inline("", "", *parts)


def map_table(chapters: Mapping[int, Chapter]) -> nodes.table:
    """Return the table: title, what it builds on, minutes to read, time to run; and the sums."""
    body = nodes.tbody()
    for number, chapter in sorted(chapters.items()):
        ran = "not run" if chapter.seconds is None else seconds_in_words(chapter.seconds)
        cells = [link(chapter, chapter.title), link_needs(chapters, chapter.needs)]
        cells += [nodes.Text(text) for text in (f"{chapter.minutes} min", ran)]
        body += table_row([nodes.Text(str(number)), *cells])
    minutes = sum(chapter.minutes for chapter in chapters.values())
    seconds = sum(chapter.seconds or 0 for chapter in chapters.values())
    sums = ("", "all", "", f"{minutes // 60} h {minutes % 60} min", seconds_in_words(seconds))
    body += table_row([nodes.strong(text=text) for text in sums])
    head = nodes.thead("", table_row([nodes.Text(text) for text in ("", "Chapter", "Builds on", "To read", "To run")]))
    columns = [nodes.colspec(colwidth=width) for width in (6, 46, 16, 16, 16)]
    return nodes.table("", nodes.tgroup("", *columns, head, body, cols=5), classes=["colwidths-auto", "book-map-table"])


def needs_line(chapters: Mapping[int, Chapter], docname: str) -> nodes.paragraph:
    """Return the line under a chapter's title: minutes to read, and links to what it builds on."""
    chapter = next(chapter for chapter in chapters.values() if chapter.docname == docname)
    line = nodes.paragraph("", "", classes=["book-runtime", "book-needs"])
    line += nodes.Text(f"About {chapter.minutes} min to read. ")
    if chapter.needs:
        line += nodes.Text("Builds on Chapter " if len(chapter.needs) == 1 else "Builds on Chapters ")
        line += [link_needs(chapters, chapter.needs), nodes.Text(".")]
    else:
        line += nodes.Text("Builds on no other chapter.")
    return line


class InsertMap(SphinxPostTransform):
    """Fill in drawing, table and lines once every chapter has been read."""

    default_priority = 8  # before references are resolved: they hold some

    def run(self, **kwargs: object) -> None:
        waiting = [node for kind in (MapNode, TableNode, NeedsNode) for node in self.document.findall(kind)]
        chapters = read_chapters(self.env) if waiting else {}
        here = self.env.docname
        for node in waiting:
            if isinstance(node, TableNode):
                node.replace_self(map_table(chapters))
            elif isinstance(node, NeedsNode):
                node.replace_self(needs_line(chapters, here))
            else:
                builder = self.app.builder
                links = {n: builder.get_relative_uri(here, chapter.docname) for n, chapter in chapters.items()}
                node.replace_self(nodes.raw("", draw(chapters, links), format="html"))


def setup(app: Sphinx) -> None:
    """Register directives, the collector and the transform."""
    for node in (MapNode, TableNode, NeedsNode):
        app.add_node(node)
    app.add_directive("chapter-map", MapDirective)
    app.add_directive("chapter-table", TableDirective)
    app.connect("doctree-read", note_chapter, priority=900)
    app.add_post_transform(InsertMap)
