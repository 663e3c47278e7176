"""Slides from the cells of a chapter that are tagged for them, as a page of reveal.js that needs no network.

A cell of a chapter is for slides when its metadata says ``slideshow={"slide_type": "slide"}``, or ``"subslide"`` for a
picture, a table or a derivation below the slide before it. A text cell gives one slide for each of its headings. A page
of the book is not a slide, so of the text only the skeleton is shown: formulas with the sentence that leads to them,
tables, the beginning of each point and of each paragraph that opens in bold. The whole text stands in the notes of the
speaker (key S), and with a picture what the chapter says below it. Nothing is worded anew. The title has no verdict
below it, so that a class can vote.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from pygments.formatters import HtmlFormatter

from kit.plain import Block, make_plain, split_blocks
from kit.sources import ROOT, Chapter, References, list_exercises

TEMPLATE = Path(__file__).parent / "slides_template"
IN_SHORT = "**In short.**"
TAKE_AWAY = "## To take away"
NO_CAPTION = {"admonition", "measured-runtime", "quiz", "exercise", "solution"}
PLOTLY = "application/vnd.plotly.v1+json"
KINDS = ("slide", "subslide")
LONGEST_CODE = 16  # lines that can be read on a slide
FORMULAS = 2  # on one slide
WHOLE = 45  # words of a paragraph that is short enough to be shown whole
WHOLE_POINT = 25  # and of a point of a list
CLAIM = 6  # words in bold from which on they are a sentence that stands for itself, and not a head
SHORT = 30  # words of a slide that is nearly empty
FULL = 90  # words of a slide that takes no more
ENDS = {
    "Quiz",
    "Exercises",
    "What this chapter claims",
    "Check yourself",
    "Further reading",
}  # no slide, what follows included

HEADING = re.compile(r"^#{1,3} (.+)$", re.MULTILINE)
SECTION = re.compile(r"^###? (.+)$", re.MULTILINE)
SENTENCE = re.compile(
    r"(?:(?<=[.?!:])|(?<=[.?!:]\*\*)|(?<=[.?!]\)))(?<!e\.g\.)(?<!i\.e\.)(?<!Eq\.)(?<!Eqs\.)(?<!Fig\.)(?<!Sec\.)(?<!al\.)\s+(?=[A-Z*`(\"$])"
)
POINT = re.compile(r"^(?:[-*]|\d+\.) ")
NOT_PLAIN = re.compile(r"^(?:\||[-*] |\d+\. |> |```)|\$\$", re.MULTILINE)  # tables, lists, code, formulas
HEAD = re.compile(r"\*\*(?:How|Why|What|Which|Whether|All|No)\b")  # what opens in bold like this is a head
BACKWARDS = re.compile(r"(?:It|Its|They|Their|Then|That|This|These|Those|So|Both|Neither|Nor|But|And)\b")

# What a page of slides loads, from the packages that carry it: file here -> (package, file inside it).
VENDORED = {
    "vendor/reveal/reveal.css": ("sphinx_revealjs", "_static/revealjs/dist/reveal.css"),
    "vendor/reveal/reveal.js": ("sphinx_revealjs", "_static/revealjs/dist/reveal.js"),
    "vendor/reveal/notes.js": ("sphinx_revealjs", "_static/revealjs/plugin/notes/notes.js"),
    "vendor/reveal/LICENSE": ("sphinx_revealjs", "_static/revealjs/LICENSE"),
    "vendor/plotly.min.js": ("plotly", "package_data/plotly.min.js"),
    "vendor/tex-svg.js": ("sphinx-mathjax-offline", "static/mathjax/tex-svg.js"),
}


def vendored_file(package: str, inside: str) -> Path:
    """Return a file of an installed package.

    Raises:
        FileNotFoundError: The package is not there, or no longer has the file.
    """
    spec = importlib.util.find_spec(package)
    folder = spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else None
    path = Path(folder or package) / inside
    if not path.is_file():
        raise FileNotFoundError(f"{inside} of the Python package {package!r} is missing: run `make env`")
    return path


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph. Formulas in it are left whole."""
    return [part.strip() for part in SENTENCE.split(text) if part.strip()]


def paragraphs(text: str) -> list[str]:
    """The parts of a text that empty lines separate; a formula or a piece of code is one part, empty lines and all."""
    parts: list[str] = []
    open_until = None  # what ends the formula or the code that is open
    for chunk in re.split(r"\n[ \t]*\n", text.strip("\n")):
        if open_until:
            parts[-1] += f"\n\n{chunk}"
            open_until = None if chunk.rstrip().endswith(open_until) or open_until in chunk else open_until
            continue
        parts.append(chunk)
        if chunk.lstrip().startswith("```") and chunk.count("```") == 1:
            open_until = "```"
        elif chunk.count("$$") % 2:
            open_until = "$$"
    return [part for part in parts if part.strip()]


def shorten_list(text: str) -> str:
    """A list with the beginning of each point."""
    points: list[str] = []
    for line in text.splitlines():
        if POINT.match(line) or not points:
            points.append(line)
        elif line.strip():
            points[-1] += f" {line.strip()}"
    return "\n".join(shorten_paragraph(point, WHOLE_POINT) for point in points)


def shorten_paragraph(text: str, whole: int = WHOLE) -> str:
    """A text whole where it has few words; else its first sentence, or its first two where the first is a bold head."""
    mark = POINT.match(text)
    head = mark[0] if mark else ""
    text = " ".join(text.removeprefix(head).split())
    if len(text.split()) <= whole:
        return head + text
    parts = sentences(text)
    bold = re.fullmatch(r"\*\*[^*]+\*\*", parts[0])
    if bold and (len(parts[0].split()) < CLAIM or HEAD.match(parts[0])):
        return head + " ".join([parts[0], beginning(parts[1:], 1)])
    return head + beginning(parts, 1)


def beginning(parts: list[str], count: int) -> str:
    """The first sentences, and no colon with nothing behind it."""
    while count > 1 and parts[:count][-1].endswith(":"):
        count -= 1
    while count < len(parts) and parts[count - 1].endswith(":"):
        count += 1
    return " ".join(parts[:count])


def lead_in(parts: list[str]) -> str:
    """The last sentence of a paragraph, with those before it that say what its *it* or its *then* is."""
    start = len(parts) - 1
    while start > 0 and BACKWARDS.match(parts[start]):
        start -= 1
    return " ".join(parts[start:])


def split_sections(text: str) -> list[tuple[str, str]]:
    """A text as ``(heading, what follows)``; the heading is ``""`` where the text does not begin with one."""
    marks = [*HEADING.finditer(text)]
    sections = [("", text[: marks[0].start()] if marks else text)]
    for mark, following in zip(marks, [*marks[1:], None], strict=False):
        sections.append((mark[0], text[mark.end() : following.start() if following else len(text)]))
    return [(head, body) for head, body in sections if head or body.strip()]


def condense(body: str) -> list[str]:
    """The skeleton of a section, as texts of one slide each (at least one, which may be empty)."""
    kept: list[list[str]] = [[]]
    formulas = 0
    parts = paragraphs(body)
    for before, part in zip(["", *parts], parts, strict=False):
        lead = sentences(" ".join(before.split()))
        plain_before = bool(lead) and not before.lstrip().startswith(("$$", "|", ">", "- ", "```"))
        if part.lstrip().startswith("$$"):
            if formulas == FORMULAS:
                kept.append([])
                formulas = 0
            if plain_before and not before.lstrip().startswith("**"):
                kept[-1].append(lead_in(lead))
            kept[-1].append(part)
            formulas += 1
        elif POINT.match(part):
            kept[-1].append(shorten_list(part))
        elif part.lstrip().startswith("|"):
            kept[-1].append(part)
        elif part.lstrip().startswith("**") and not part.startswith("**Measured here"):
            kept[-1].append(shorten_paragraph(part))
    if kept == [[]] and parts:
        first, code = next((p for p in zip(parts, [*parts[1:], ""], strict=True) if p[0][0] not in ">`*"), ("", ""))
        first = " ".join(first.split())
        kept = [[first if len(first.split()) <= WHOLE else beginning(sentences(first), 2)]]
        if first.endswith(":") and code.startswith("```") and code.count("\n") <= LONGEST_CODE:
            kept[0].append(code)
    return ["\n\n".join(texts) for texts in kept]


def text_slides(source: str, kind: str, known: References) -> list[NotebookNode]:
    """A text cell of a chapter as slides, each with the text that it was made from as the speaker's notes."""
    cells: list[NotebookNode] = []
    waiting = ""  # a heading that has nothing of its own below it: what comes next has its name

    def add(text: str, notes: str, first: str) -> None:
        cells.append(new_markdown_cell(text, metadata={"slideshow": {"slide_type": first}}))
        if notes.strip():
            cells.append(notes_of(notes.strip()))

    for part in split_blocks(source, {"admonition", "measured-runtime", "quiz", "exercise", "solution"}):
        if isinstance(part, Block):
            body = make_plain(part.body, known)
            if part.options.get("class") == "goals":
                add(f"## {part.argument}\n\n{body}", "", "slide")
            elif part.kind == "admonition":
                tables = [p for p in paragraphs(body) if p.lstrip().startswith("|")]
                shown = tables or [text for text in condense(body) if "**" in text]
                if shown:
                    text = "\n\n".join([waiting or f"## {part.argument}", *shown])
                    add(text, body, "slide" if waiting else "subslide")
                    waiting = ""
            continue
        for head, body in split_sections(make_plain(part, known)):
            if head.lstrip("# ") in ENDS:
                return cells
            deeper = "slide" if head.startswith("#") and not head.startswith("###") else "subslide"
            for i, text in enumerate([""] if head.startswith("# ") else condense(body)):  # no verdict below the title
                title = head.replace("### ", "## ") if i == 0 else ""
                if title and not text and not head.startswith("# "):
                    waiting = title
                elif head or text:
                    add(f"{title}\n\n{text}".strip(), body if i == 0 else "", deeper if i == 0 and head else "subslide")
                    waiting = ""
    if waiting:
        add(waiting, "", "slide")
    if cells and kind == "slide":
        cells[0].metadata.slideshow.slide_type = "slide"
    return cells


def is_heading(cell: NotebookNode) -> bool:
    """Whether a slide has a heading and nothing below it."""
    return cell.cell_type == "markdown" and cell.source.startswith("## ") and "\n" not in cell.source.strip()


def show_figure(figure: dict) -> str:
    """A Plotly figure as the element that ``figures.js`` draws into, the same as on the pages of the book."""
    import book_figures

    return book_figures.figure_html(figure)


def show_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs as HTML; what went to standard error, and what has no form on a page, is left out."""
    shown = []
    for output in outputs:
        data = output.get("data", {})
        if PLOTLY in data:
            figure = data[PLOTLY] if isinstance(data[PLOTLY], dict) else json.loads(data[PLOTLY])
            shown.append(nbformat.v4.new_output("display_data", {"text/html": show_figure(figure)}))
        elif "text/html" in data:
            shown.append(nbformat.v4.new_output("display_data", {"text/html": data["text/html"]}))
        elif output.output_type == "stream" and output.name == "stdout":
            shown.append(nbformat.v4.new_output("stream", name="stdout", text=output.text))
    return shown


def code_slide(cell: NotebookNode, outputs: list[NotebookNode]) -> list[NotebookNode]:
    """What goes below a heading: what a code cell shows, or its code where it draws nothing and is short enough."""
    shown = show_outputs(outputs)
    drawn = any("text/html" in output.get("data", {}) for output in shown)
    hidden = drawn or "hide-input" in cell.metadata.get("tags", []) or cell.source.count("\n") >= LONGEST_CODE
    if hidden and not shown:
        return []
    metadata = {"slideshow": {"slide_type": "-"}, "tags": ["hide-input"] if hidden else []}
    return [new_code_cell(cell.source, outputs=shown, metadata=metadata)]


def caption_below(cells: Sequence[NotebookNode], place: int, known: References) -> list[NotebookNode]:
    """What the chapter says below a picture, as notes: a paragraph; up to the next heading if that is on no slide."""
    cell = next((cell for cell in cells[place + 1 :] if cell.cell_type == "markdown"), None)
    first = (split_blocks(cell.source, NO_CAPTION) or [""])[0] if cell else ""
    if not isinstance(first, str):
        return []
    text = split_sections(make_plain(first, known) or " ")[:1]
    parts = paragraphs(text[0][1]) if text and not text[0][0] else []
    own_slide = cell.metadata.get("slideshow", {}).get("slide_type") in KINDS if cell else False
    return [notes_of("\n\n".join(parts[:1] if own_slide else parts))] if parts else []


def notes_of(text: str) -> NotebookNode:
    """A text as the speaker's notes."""
    return new_markdown_cell(text, metadata={"slideshow": {"slide_type": "notes"}})


def verdict(chapter: Chapter, known: References) -> str:
    """What a chapter says in short."""
    parts = (part for text in chapter.markdown() for part in text.split("\n\n") if part.startswith(IN_SHORT))
    return make_plain(next(parts).removeprefix(IN_SHORT).strip(), known)


def count_words(slide: list[NotebookNode]) -> int:
    """Words that a slide shows below its heading."""
    shown = [cell.source for cell in slide if cell.cell_type == "markdown" and not is_notes(cell)]
    return sum(len(re.sub(r"^#+ .+", "", text).split()) for text in shown)


def is_notes(cell: NotebookNode) -> bool:
    """Whether a cell is for the speaker."""
    return cell.metadata.slideshow.slide_type == "notes"


def take_in(slide: list[NotebookNode], following: list[NotebookNode]) -> bool:
    """Put what follows onto a slide, where it goes on with the same section and one of the two is nearly empty.

    A few words after a picture are about this picture, a few words below a new heading lead to the next one.
    """
    heading = re.match(r"##+ (.+)", slide[0].source)
    again = f"### {heading[1]}" if heading else ""
    if not heading or following[0].source.split("\n")[0] != again:
        return False
    rest = following[0].source.removeprefix(again).strip()
    drawn, drawn_next = (sum(cell.cell_type == "code" for cell in s) for s in (slide, following))
    plain = not NOT_PLAIN.search(rest)
    few, few_next = count_words(slide) <= SHORT, count_words(following) <= SHORT
    if drawn:
        about = few_next or (BACKWARDS.match(rest) and count_words(following) <= WHOLE)
        fits = drawn == 1 and not drawn_next and about and count_words(slide) == 0
    elif drawn_next:
        fits = few and slide[0].source.startswith("## ") and not rest and not NOT_PLAIN.search(slide[0].source)
    else:
        fits = count_words(slide) + count_words(following) <= FULL and (few or few_next)
    if not (fits and plain):
        return False
    text = [new_markdown_cell(rest, metadata={"slideshow": {"slide_type": "-"}})] if rest else []
    notes = dict.fromkeys(cell.source for cell in [*slide, *following] if is_notes(cell))
    said = [notes_of(text) for text in notes if not any(text in other for other in notes if other != text)]
    shown = [cell for cell in slide if not is_notes(cell)], [cell for cell in following[1:] if not is_notes(cell)]
    slide[:] = [*shown[0], *text, *shown[1], *said]
    return True


def fill(cells: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The same with fewer slides that are nearly empty."""
    found: list[list[NotebookNode]] = []
    for cell in cells:
        if cell.metadata.slideshow.slide_type in KINDS or not found:
            found.append([])
        found[-1].append(cell)
    kept: list[list[NotebookNode]] = []
    for slide in found:
        if not kept or not take_in(kept[-1], slide):
            kept.append(slide)
    return [cell for slide in kept for cell in slide]


def outputs_by_source(executed: Path) -> Mapping[str, list[NotebookNode]]:
    """Outputs of an executed notebook by the source of their cell; none without a notebook."""
    if not executed.is_file():
        return {}
    cells = nbformat.read(executed, as_version=4).cells
    return {cell.source.strip(): cell.outputs for cell in cells if cell.cell_type == "code"}


def write_slides(
    chapter: Chapter, known: References, outputs: Mapping[str, list[NotebookNode]] | None = None
) -> NotebookNode:
    """The slides of a chapter as a notebook.

    Args:
        chapter: The chapter.
        known: What references point at.
        outputs: Pictures and tables, from :func:`outputs_by_source`; without them only text, formulas and short code.
    """
    outputs = outputs or {}
    cells: list[NotebookNode] = []
    title = chapter.title  # of the section that a slide without a heading belongs to
    for place, cell in enumerate(chapter.notebook.cells):
        kind = cell.metadata.get("slideshow", {}).get("slide_type")
        if kind not in KINDS:
            passed = SECTION.findall(cell.source) if cell.cell_type == "markdown" else []
            title = passed[-1] if passed else title
            continue
        if cell.cell_type == "markdown":
            for made in text_slides(cell.source, kind, known):
                if made.metadata.slideshow.slide_type in KINDS:
                    heading = re.match(r"##? (.+)", made.source)
                    title = heading[1] if heading else title
                    made.source = made.source if heading else f"### {title}\n\n{made.source}"
                cells.append(made)
        elif made := code_slide(cell, outputs.get(cell.source.strip(), [])):
            if not cells or not is_heading(cells[-1]):
                cells.append(new_markdown_cell(f"### {title}", metadata={"slideshow": {"slide_type": kind}}))
            cells += [*made, *caption_below(chapter.notebook.cells, place, known)]
    kinds = [*(cell.metadata.slideshow.slide_type for cell in cells[1:]), ""]
    cells = [cell for cell, below in zip(cells, kinds, strict=True) if not is_heading(cell) or below in ("-", "notes")]
    cells = fill(cells)
    if not any(cell.source.startswith(TAKE_AWAY) for cell in cells):
        text = f"{TAKE_AWAY}\n\n{verdict(chapter, known)}"
        cells.append(new_markdown_cell(text, metadata={"slideshow": {"slide_type": "slide"}}))
    if exercises := list_exercises(chapter):
        lines = [f"- **{e.number}** {e.title} {'★' * e.stars}" for e in exercises]
        text = "\n".join(["## Exercises", "", *lines])
        cells.append(new_markdown_cell(text, metadata={"slideshow": {"slide_type": "slide"}}))
    cells[0].metadata.slideshow.slide_type = "slide"
    cells[0].source = f"Chapter {chapter.number}\n\n{cells[0].source}"
    for i, cell in enumerate(cells):
        cell["id"] = f"slide-{i:03d}"
    return new_notebook(cells=cells, metadata={"title": f"Chapter {chapter.number}. {chapter.title}"})


def render(notebook: NotebookNode) -> str:
    """A notebook of slides as a page."""
    exporter = SlidesExporter(template_name="slides_template", extra_template_basedirs=[str(TEMPLATE.parent)])
    page, _ = exporter.from_notebook_node(notebook)
    return page


def write_shared(out: Path) -> None:
    """Write what all pages of slides share: scripts and the style sheet."""
    for name, (package, inside) in VENDORED.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(vendored_file(package, inside), out / name)
    for name in ("figures.js", "figures-narrow.js"):
        shutil.copyfile(ROOT / "book" / "_static" / name, out / name)
    shutil.copyfile(TEMPLATE / "slides.js", out / "slides.js")
    colours = HtmlFormatter(style="friendly").get_style_defs(".highlight")
    (out / "slides.css").write_text(f"{(TEMPLATE / 'slides.css').read_text('utf8')}\n{colours}\n", encoding="utf8")
