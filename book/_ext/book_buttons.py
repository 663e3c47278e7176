"""Buttons in the header of every page: where the built notebook opens, citation and licence.

Repository, issue and download come from the theme; it reads their addresses in ``_config.yml``. What it lacks is here:
its launch buttons would lead to the ``.py`` sources, which Colab does not open, so ours lead to the *built* notebooks
on a branch of their own (``scripts/launch_branch.py``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import nbformat
from book_figures import PLOTLY_MIME
from docutils import nodes
from jupyter_cache import get_cache
from nbformat import NotebookNode
from sphinx.application import Sphinx

from diffusab_book.figures import shorten

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
from kit import plain, quizzes, sources

EXTRAS = "photos,tools,lab,features,sweeps"  # of pyproject.toml: what executing a chapter needs
FIRST_TITLE = "how easily a diffusion model learns a latent space"
ABOUT = "book/about"  # the page on citing and the licence


def repository_slug(url: str) -> str:
    """Return ``owner/name`` of a repository's address."""
    parts = urlsplit(url).path.strip("/").split("/")
    if len(parts) != 2 or not all(parts):
        raise ValueError(f"repository.url in _config.yml is {url!r}, not https://host/owner/name")
    return "/".join(parts)


def launch_buttons(url: str, launch: Mapping[str, str], docname: str) -> list[dict[str, str]]:
    """Return the theme's descriptions of the buttons that open a page's built notebook elsewhere.

    Args:
        url: Address of the repository.
        launch: ``book_launch`` of ``_config.yml``: ``branch``, and the addresses ``binder`` and ``colab``.
        docname: The page, e.g. ``notebooks/02_dct``.
    """
    slug, branch = repository_slug(url), quote(launch["branch"], safe="")
    places = {
        "Binder": ("svg", f"{launch['binder']}/{slug}/{branch}?urlpath=lab/tree/{docname}.ipynb"),
        "Colab": ("png", f"{launch['colab']}/{slug}/blob/{branch}/{docname}.ipynb"),
    }
    return [
        {
            "type": "link",
            "text": name,
            "tooltip": f"Open this chapter on {name}; needs the network",
            "icon": f"_static/images/logo_{name.lower()}.{kind}",
            "url": address,
        }
        for name, (kind, address) in places.items()
    ]


def install_cell(url: str) -> NotebookNode:
    """Return the first cell of a notebook that leaves the repository: it installs the package where it is missing."""
    lines = [
        "# Only where the book's package is missing, as on Colab: install it from the repository.",
        "import importlib.util",
        "",
        'if importlib.util.find_spec("diffusab_book") is None:',
        f'    %pip install -q "diffusab-core[{EXTRAS}] @ git+{url}"',
    ]
    return nbformat.v4.new_code_cell("\n".join(lines), id="install", metadata={"jupyter": {"source_hidden": True}})


@cache
def read_references() -> sources.References:
    """Return what the chapters refer to; read once for a build."""
    return sources.collect_references(sources.read_chapters())


def plain_text(text: str, chapter: str) -> str:
    """Return a text cell of a chapter in Markdown that any notebook program shows, the quiz with its answers."""
    known = read_references()
    parts = plain.split_blocks(text, {"quiz"})
    written = (
        plain.make_plain(part, known)
        if isinstance(part, str)
        else quizzes.write_quiz(known.quizzes[chapter], known, answers=True)
        for part in parts
    )
    return "\n\n".join(written)


def publish_notebook(notebook: NotebookNode, url: str, chapter: str = "") -> NotebookNode:
    """Return an executed notebook as it is handed out.

    Numbers in figures are shorter, text is plain Markdown, there are no widgets, and the first cell installs the
    package.

    Args:
        notebook: It stays as it is.
        url: Address of the repository.
        chapter: The name of its file, such as ``02_dct``.
    """
    handed = nbformat.from_dict(json.loads(json.dumps(notebook)))
    handed.metadata.pop("widgets", None)
    for cell in handed.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "markdown":
            cell.source = plain_text(cell.source, chapter)
        for output in cell.get("outputs", ()):
            if PLOTLY_MIME in output.get("data", {}):
                output.data[PLOTLY_MIME] = shorten(output.data[PLOTLY_MIME])
    handed.cells.insert(0, install_cell(url))
    handed.nbformat_minor = max(handed.nbformat_minor, 5)  # cells have names
    return handed


def read_executed(file: Path, cache: str) -> NotebookNode:
    """Return the notebook of a page with its outputs: what lies in ``file`` lacks them where the cache had them."""
    notebook = nbformat.read(file, as_version=4)
    if not cache or any(cell.get("outputs") for cell in notebook.cells):
        return notebook
    try:
        return get_cache(cache).merge_match_into_notebook(notebook)[1]
    except KeyError:  # nothing was executed
        return notebook


def add_notebook(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Put the executed notebook of a chapter beside its source, and let the theme's download button know it."""
    executed = Path(app.outdir).parent / "jupyter_execute" / f"{pagename}.ipynb"
    if doctree is None or not pagename.startswith("notebooks/") or not executed.is_file():
        return
    target = Path(app.outdir) / "_sources" / f"{pagename}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    url = app.config.html_theme_options["repository_url"]
    notebook = read_executed(executed, app.config.nb_execution_cache_path)
    nbformat.write(publish_notebook(notebook, url, Path(pagename).name), target)
    context["ipynb_source"] = f"{pagename}.ipynb"


def add_groups(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Append the launch buttons of chapters, and citation and licence on every page, to the theme's own.

    The first page's title, which would be the book's name twice, says what the book is.
    """
    if pagename == app.config.root_doc:
        context["docstitle"] = FIRST_TITLE
    buttons = context["header_buttons"]
    options = app.config.html_theme_options
    if pagename.startswith("notebooks/"):
        launch = launch_buttons(options["repository_url"], app.config.book_launch, pagename)
        group = {"tooltip": "Open this chapter elsewhere", "icon": "fas fa-rocket", "label": "launch-buttons"}
        buttons.insert(0, {"type": "group", "buttons": launch, **group})
    about = context["pathto"](ABOUT)
    links = [
        {"type": "link", "text": text, "tooltip": tooltip, "icon": icon, "url": f"{about}#{anchor}"}
        for text, tooltip, icon, anchor in (
            ("Cite", "How to cite this book", "fas fa-quote-right", "citing-the-book"),
            ("Licence", "What you may do with text and code", "fas fa-scale-balanced", "licence"),
        )
    ]
    group = {"tooltip": "Citation and licence", "icon": "fas fa-circle-info", "label": "about-buttons"}
    buttons.append({"type": "group", "buttons": links, **group})


def setup(app: Sphinx) -> None:
    """Register the setting and both steps, around the theme's own at priority 501."""
    app.add_config_value("book_launch", {}, "html")
    app.connect("html-page-context", add_notebook, priority=400)
    app.connect("html-page-context", add_groups, priority=600)
