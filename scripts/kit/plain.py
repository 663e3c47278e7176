"""MyST Markdown as plain Markdown, which every notebook program and nbconvert show as it is meant.

References become text, directives become quotations with a bold head, equations keep their numbers by ``\\tag``,
solutions unfold, drawings of the book lie in the text itself. What only the built book can show (a measured runtime) is
left out.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from kit.sources import ROOT, References

TARGET = re.compile(r"^\([\w-]+\)=[ \t]*\n", re.MULTILINE)
FENCE = re.compile(r"^(`{3,}|:{3,})\{([\w:-]+)\}[ \t]*(.*?)[ \t]*\n(.*?)^\1[ \t]*(?:\n|\Z)", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"^:([\w-]+):[ \t]*(.*)\n", re.MULTILINE)
ROLE = re.compile(r"\{([\w:-]+)\}`([^`]+)`")
NUMBERED = re.compile(r"\$\$(?P<body>(?:(?!\$\$).)+?)\$\$[ \t]*\((?P<label>eq-[\w-]+)\)", re.DOTALL)
DRAWING = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?:\.\./)*(?P<path>book/drawings/[\w-]+\.svg)\)")
LEFT_OUT = {"measured-runtime", "quiz"}


@dataclass(frozen=True)
class Block:
    """A directive: ``kind`` such as ``admonition``, its argument, its options and the text in it."""

    kind: str
    argument: str
    options: dict[str, str]
    body: str


def parse_block(match: re.Match[str]) -> Block:
    """The directive that :data:`FENCE` has found."""
    _, kind, argument, text = match.groups()
    options = {}
    while option := OPTION.match(text):
        options[option[1]] = option[2].strip()
        text = text[option.end() :]
    return Block(kind, argument, options, text.strip("\n"))


def split_blocks(text: str, kinds: set[str]) -> list[str | Block]:
    """Cut a text at its directives of some kinds; texts between them that are empty are left out."""
    parts: list[str | Block] = []
    start = 0
    for match in FENCE.finditer(text):
        block = parse_block(match)
        if block.kind in kinds:
            parts += [text[start : match.start()], block]
            start = match.end()
    parts.append(text[start:])
    return [part for part in parts if isinstance(part, Block) or part.strip()]


def quote(text: str) -> str:
    """A text as a Markdown quotation."""
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def write_role(role: str, text: str, known: References) -> str:
    """A role as plain text.

    Raises:
        ValueError: A role, or a label, that nothing here knows.
    """
    try:
        if role == "numref":
            return f"Chapter {known.chapters[text].number}"
        if role == "eq":
            return f"({known.equations[text]})"
        if role == "ref":
            found = known.exercises.get(text)
            return f"Exercise {found.number}" if found else f"Chapter {known.chapters[text].number}"
        if role.startswith("cite"):
            works = [known.works[key.strip()] for key in text.split(",")]
            if role == "cite:t":
                return " and ".join(f"{authors} ({year})" for authors, year in works)
            return "(" + "; ".join(f"{authors}, {year}" for authors, year in works) + ")"
    except KeyError as error:
        raise ValueError(f"{{{role}}}`{text}` points at nothing: {error}") from error
    if role == "term":
        return text
    if role == "doc" and (named := re.fullmatch(r"(.+?)\s*<[^>]+>", text)):
        return f"*{named[1]}*"
    if role.startswith("py:"):
        return f"`{text.lstrip('~').rpartition('.')[2]}`"
    raise ValueError(f"the kit does not know the role {{{role}}}`{text}`")


def number_equations(text: str, known: References) -> str:
    r"""Labelled equations with ``\tag``. (A tag must stand outside of ``aligned`` and its like, at the end.)"""

    def tag(match: re.Match[str]) -> str:
        body = match["body"].strip("\n")
        return f"$${body.rstrip()} \\tag{{{known.equations[match['label']]}}}$$"

    return NUMBERED.sub(tag, text)


def embed_drawings(text: str) -> str:
    """Drawings of the book as data in the text, which is read where their files are not."""

    def embed(match: re.Match[str]) -> str:
        data = base64.b64encode((ROOT / match["path"]).read_bytes()).decode()
        return f"![{' '.join(match['alt'].split())}](data:image/svg+xml;base64,{data})"

    return DRAWING.sub(embed, text)


def write_block(match: re.Match[str], known: References) -> str:
    """A directive as a quotation with a bold head; one that only the built book can show is left out."""
    block = parse_block(match)
    if block.kind in LEFT_OUT:
        return ""
    if block.kind == "exercise":
        found = known.exercises[block.options["label"]]
        head = f"Exercise {found.number}. {block.argument}"
        return f"**{head}**\n\n{make_plain(block.body, known)}\n"
    if block.kind == "solution":
        head = f"Solution of Exercise {known.exercises[block.argument].number}"
        return f"<details><summary>{head}</summary>\n\n{make_plain(block.body, known)}\n\n</details>\n"
    if block.kind in {"admonition", "note", "warning", "tip"}:
        head = block.argument or block.kind.capitalize()
        return quote(f"**{head}**\n\n{make_plain(block.body, known)}") + "\n"
    raise ValueError(f"the kit does not know the directive {{{block.kind}}}")


def make_plain(text: str, known: References) -> str:
    """A text of the book as plain Markdown.

    Args:
        text: MyST Markdown, as the chapters are written in.
        known: What references point at.

    Raises:
        ValueError: A directive, a role or a label that nothing here knows.
    """
    text = FENCE.sub(lambda match: write_block(match, known), TARGET.sub("", text))
    text = ROLE.sub(lambda match: write_role(match[1], match[2], known), text)
    return embed_drawings(number_equations(text, known)).strip("\n")
