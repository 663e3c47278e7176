"""Chapters without their section of claims: its assertions guard the book's sentences, and no answer of a student.

Cells further down may take a name from the section. Of its code the statements that they need stay.
"""

from __future__ import annotations

import ast
import copy
import re
import symtable
from collections.abc import Iterator, Sequence

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

HEADING = "## What this chapter claims"
SECTION = re.compile(rf"^{HEADING}[ \t]*$.*?(?=^##? |\Z)", re.MULTILINE | re.DOTALL)
HEADINGS = re.compile(r"^##? .+", re.MULTILINE)


def names_made(code: ast.AST) -> set[str]:
    """Names that code gives a value at its top level: variables, functions, imports."""
    symbols = symtable.symtable(ast.unparse(code), "cell", "exec").get_symbols()
    return {s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace()}


def list_scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """A scope's own ones: functions and comprehensions, and those in them."""
    for child in table.get_children():
        yield child
        yield from list_scopes(child)


def names_read(code: ast.AST) -> set[str]:
    """Names whose value code takes, but for those that belong to its functions and comprehensions."""
    table = symtable.symtable(ast.unparse(code), "cell", "exec")
    read = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
    added = {code.target.id} if isinstance(code, ast.AugAssign) and isinstance(code.target, ast.Name) else set()
    return read | added | {s.get_name() for scope in list_scopes(table) for s in scope.get_symbols() if s.is_global()}


def names_needed(statements: Sequence[ast.stmt]) -> set[str]:
    """Names that statements take from elsewhere: no variables of their loops, and nothing that they make first."""
    needed: set[str] = set()
    for statement in reversed(statements):
        head, inner = statement, set()
        if isinstance(statement, (ast.For, ast.While, ast.If, ast.With)):
            head = copy.copy(statement)
            head.body, head.orelse = [ast.Pass()], []
            inner = names_needed(statement.body) | names_needed(getattr(statement, "orelse", []))
        needed = (needed - names_made(statement)) | names_read(head) | (inner - names_made(head))
    return needed


def keep_needed(section: str, rest: str) -> str:
    """The statements of a section's code that the code after it takes a name from, and those that these need.

    No assertion is among them, and comments between statements go.
    """
    wanted, kept = names_needed(ast.parse(rest).body), []
    for statement in reversed(ast.parse(section).body):
        if not isinstance(statement, ast.Assert) and names_made(statement) & wanted:
            kept.append(ast.get_source_segment(section, statement) or "")
            wanted |= names_read(statement)
    return "\n".join(reversed(kept))


def leave_out_claims(cells: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The cells of a chapter without the section; what others need of it stands at the head of the next code."""
    kept: list[NotebookNode] = []
    section: list[str] = []
    inside, after = False, None
    for cell in cells:
        if cell.cell_type == "markdown":
            source = f"{HEADING}\n{cell.source}" if inside else cell.source
            inside = HEADINGS.findall(source)[-1:] == [HEADING]
            if text := SECTION.sub("", source).strip():
                kept.append(new_markdown_cell(text, metadata=cell.metadata))
        elif inside:
            section.append(cell.source)
        else:
            after = len(kept) if section and after is None else after
            kept.append(new_code_cell(cell.source, metadata=cell.metadata))
    if after is not None:
        rest = "\n".join(cell.source for cell in kept[after:] if cell.cell_type == "code")
        if needed := keep_needed("\n".join(section), rest):
            kept[after].source = f"{needed}\n\n{kept[after].source}"
    return kept
