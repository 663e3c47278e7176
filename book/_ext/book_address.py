"""What pages say about where the book lies and how to cite it, from the one place where each is written down.

The directive ``{install-lines}`` shows how to get a clone that runs; the address is ``repository.url`` of
``_config.yml``. The directive ``{citation}`` shows ``CITATION.cff`` as BibTeX.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective


def block(text: str, language: str) -> nodes.literal_block:
    """Return a block of code that can be copied."""
    return nodes.literal_block(text, text, language=language)


def install_lines(url: str, then: str = "") -> str:
    """Return the shell lines from nothing to an environment in which the commands run, and maybe one command more."""
    folder = url.rstrip("/").rpartition("/")[2]
    return "\n".join(filter(None, [f"git clone {url}", f"cd {folder}", "make env", then]))


def bibtex(citation: Mapping[str, Any], url: str) -> str:
    """Return the BibTeX entry of a parsed ``CITATION.cff``."""
    authors = " and ".join(
        f"{{{author['name']}}}" if "name" in author else f"{author['family-names']}, {author['given-names']}"
        for author in citation["authors"]
    )
    year = str(citation["date-released"])[:4]
    fields = {
        "title": f"{{{citation['title']}}}",
        "author": authors,
        "year": year,
        "version": citation["version"],
        "license": citation["license"],
        "url": url,
    }
    lines = [f"  {key:<7} = {{{value}}}," for key, value in fields.items()]
    return "\n".join([f"@software{{diffusability{year},", *lines, "}"])


class InstallLines(SphinxDirective):
    """How to get a clone that runs; an argument is a last line."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        url = self.config.html_theme_options["repository_url"]
        return [block(install_lines(url, *self.arguments), "bash")]


class Citation(SphinxDirective):
    """``CITATION.cff`` as BibTeX."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / "CITATION.cff"
        self.env.note_dependency(str(path))
        citation = yaml.safe_load(path.read_text(encoding="utf8"))
        return [block(bibtex(citation, self.config.html_theme_options["repository_url"]), "bibtex")]


def name_card(app: Sphinx, config: Config) -> None:
    """Tell the cards for social networks where the book is published: the address that ``html.baseurl`` has."""
    config.ogp_site_url = config.html_baseurl


def setup(app: Sphinx) -> None:
    """Register both directives."""
    app.add_directive("install-lines", InstallLines)
    app.add_directive("citation", Citation)
    app.connect("config-inited", name_card)
