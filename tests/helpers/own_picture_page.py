"""The page "Your own picture" without the rest of the book: its text as plain HTML, scripts and styles as published."""

import shutil
import sys
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "book" / "_static"
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import book_picture  # noqa: E402


def write(folder: Path) -> Path:
    """Write the page and all that it loads into a folder, and return the page."""
    shutil.copytree(STATIC / "picture", folder / "picture")
    shutil.copyfile(STATIC / "book.css", folder / "book.css")
    book_picture.write_material(folder)
    body = MarkdownIt("commonmark").render((ROOT / "book" / "own_picture.md").read_text(encoding="utf8"))
    styles = "".join(f'<link rel="stylesheet" href="{name}">' for name in ("book.css", book_picture.STYLE))
    scripts = "".join(f'<script defer src="{name}"></script>' for name in book_picture.SCRIPTS)
    page = folder / "page.html"
    page.write_text(
        '<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Your own picture</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f'{styles}{scripts}</head><body style="background: var(--book-paper); color: var(--book-ink)">'
        f'<main class="bd-article" style="max-width: 760px; margin: auto">{body}</main></body></html>',
        encoding="utf8",
    )
    return page
