"""How the book reads a chapter: what a run may change is folded on the page, so that the first picture comes first."""

from __future__ import annotations

import jupytext
from nbformat import NotebookNode

PROMPT = "Parameters of this page"


def read_notebook(text: str) -> NotebookNode:
    """Return a percent notebook whose parameters cell is folded on the page; in JupyterLab it stays open."""
    notebook = jupytext.reads(text, fmt="py:percent")
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
            cell.metadata["mystnb"] = {"code_prompt_show": PROMPT, "code_prompt_hide": PROMPT}
    return notebook
