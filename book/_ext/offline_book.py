"""The book's Sphinx extension: pages that ask the network for nothing, figures, runtimes, buttons, API reference.

- plotly.js comes out of the plotly wheel, MathJax out of the sphinx-mathjax-offline wheel; both are copied into the
  built book, never committed and never fetched.
- Scripts that a stock Jupyter Book would load from elsewhere are left out.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import book_address
import book_api
import book_buttons
import book_drawings
import book_figures
import book_map
import book_numbers
import book_picture
import book_quiz
import book_runtimes
from book_execution import cache_folder
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

# name in the built book -> (installed package, file inside it)
VENDORED = {
    "plotly.min.js": ("plotly", "package_data/plotly.min.js"),
    "tex-svg.js": ("sphinx-mathjax-offline", "static/mathjax/tex-svg.js"),
}
REMOTE = re.compile(r"^(?:https?:)?//")


def vendored_file(name: str) -> Path:
    """Return where a vendored script lies in the environment.

    Raises:
        ExtensionError: The package that carries it is not installed, or no longer carries it.
    """
    package, inside = VENDORED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ExtensionError(f"{name} comes from the Python package {package!r}, which is missing: run `make env`")
    path = Path(spec.submodule_search_locations[0]) / inside
    if not path.is_file():
        raise ExtensionError(f"the installed {package!r} has no {inside}: use the version that constraints.txt pins")
    return path


def name_cache(app: Sphinx, config: Config) -> None:
    """Take executed outputs from where ``book_execution`` puts them."""
    config.nb_execution_cache_path = str(cache_folder(Path(app.srcdir), Path(app.outdir).parent))


def prepare_output(app: Sphinx) -> None:
    """Copy the shared scripts into the built book, and write the page that leads to the first one.

    The stock redirect page names no icon, so browsers would ask for a file that is not there.
    """
    if app.builder.format != "html":
        return
    out = Path(app.outdir)
    (out / "_static" / "vendor").mkdir(parents=True, exist_ok=True)
    for name in VENDORED:
        shutil.copyfile(vendored_file(name), out / "_static" / "vendor" / name)
    first = f"{app.config.root_doc}.html"
    (out / "index.html").write_text(
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{app.config.html_title}</title>\n'
        f'<link rel="icon" href="_static/favicon.svg"><meta http-equiv="refresh" content="0; url={first}"></head>\n'
        f'<body><p>The book begins <a href="{first}">here</a>.</p></body></html>\n',
        encoding="utf8",
    )


def fill_api_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Write the sections of the API pages."""
    if docname in ("book/api", "book/api_methods", "book/api_shown"):
        root = Path(app.srcdir)
        for package in ("diffusab_core", "diffusab_book"):
            book_api.load_package(root / package)
        source[0] = book_api.expand(source[0], root)


def keep_local(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Leave out the scripts of a page that would be fetched from elsewhere, and the live-code ones that need them."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if not REMOTE.match(getattr(script, "filename", None) or "")
        and "thebe" not in (getattr(script, "filename", None) or "")
        and "THEBE" not in (getattr(script, "attributes", {}).get("body") or "")
    ]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    book_figures.install()
    book_runtimes.setup(app)
    book_quiz.setup(app)
    book_address.setup(app)
    book_buttons.setup(app)
    book_map.setup(app)
    book_numbers.setup(app)
    book_drawings.setup(app)
    book_picture.setup(app)
    app.add_css_file("book.css", priority=900)
    app.add_css_file("quiz.css", priority=900)
    for script in ("equations.js", "names.js"):
        app.add_js_file(script, loading_method="defer")
    app.add_js_file("figures-narrow.js", loading_method="defer")
    app.add_js_file("figures.js", loading_method="defer")
    app.connect("config-inited", name_cache)
    app.connect("builder-inited", prepare_output)
    app.connect("source-read", fill_api_page)
    app.connect("autodoc-skip-member", book_api.skip_member)
    app.connect("missing-reference", book_api.resolve)
    app.connect("html-page-context", keep_local, priority=1000)
    app.connect("html-page-context", book_api.mend_source_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
