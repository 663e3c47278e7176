"""Build the teaching kit into ``_build/kit`` and ``_build/diffusability-course.zip``; ``make kit`` calls this.

python scripts/build_kit.py                    everything
python scripts/build_kit.py --chapters 6 15    only these chapters
python scripts/build_kit.py --no-wheel         without the packages that the notebooks call
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "book" / "_ext")]

from kit import notebooks, pdf, sheets, slides  # noqa: E402
from kit.plain import make_plain  # noqa: E402
from kit.sources import Chapter, References, collect_references, read_chapters  # noqa: E402

BUILD = ROOT / "_build"
HTML = BUILD / "html"
EXECUTED = HTML / "_sources" / "notebooks"  # what readers download: executed, also where the cache had a chapter
ARCHIVE = "diffusability-course.zip"
FOR_AUTHORS = "## For those who write chapters"  # the last section of a page, about the sources
# What the wheel is built from, see setup.py and pyproject.toml.
WHEEL = ("diffusab_core", "diffusab_book", "notebooks", "sweeps", "book/results", "book/claims.yaml",
         "book/cluster_story.json", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")  # fmt: skip
EPOCH = (2026, 1, 1, 0, 0, 0)  # one date for all files, so that the same sources make the same archive


def write_notebooks(chapters: list[Chapter], known: References, out: Path) -> None:
    """Write each chapter for students and with solutions."""
    for folder, solved in (("students", False), ("solutions", True)):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for chapter in chapters:
            nbformat.write(notebooks.write_notebook(chapter, known, solved), out / folder / f"{chapter.name}.ipynb")


def write_instructor(chapters: list[Chapter], known: References, out: Path) -> None:
    """Write the pages of ``book/teaching`` in plain Markdown, and all quizzes with their answers to print.

    What the pages say to those who write chapters stays in the book.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in ["index", *(chapter.name for chapter in chapters)]:
        page = ROOT / "book" / "teaching" / f"{name}.md"
        if page.is_file():
            text = page.read_text(encoding="utf8").partition(FOR_AUTHORS)[0]
            (out / page.name).write_text(make_plain(text, known) + "\n", encoding="utf8")
    (out / "quizzes.html").write_text(sheets.write_quizzes(chapters, known, answers=True), encoding="utf8")


def write_slides(chapters: list[Chapter], known: References, out: Path, executed: Path) -> list[str]:
    """Write the slides of each chapter; returns the names of chapters that have no pictures and tables."""
    slides.write_shared(out)
    bare = []
    for chapter in chapters:
        outputs = slides.outputs_by_source(executed / f"{chapter.name}.ipynb")
        page = slides.render(slides.write_slides(chapter, known, outputs))
        (out / f"{chapter.name}.html").write_text(page, encoding="utf8")
        bare += [] if any(outputs.values()) else [chapter.name]
    return bare


def write_wheel(out: Path) -> None:
    """Build the packages' wheel in ``out``, from a copy: building leaves folders behind.

    Raises:
        RuntimeError: pip fails; the message ends with what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "source"
        copy.mkdir()
        for name in WHEEL:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
            else:
                shutil.copyfile(ROOT / name, copy / name)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            str(copy),
            "--no-deps",
            "--no-build-isolation",
            "-q",
            "-w",
            str(out),
        ]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the wheel could not be built:\n{done.stderr[-2000:]}")


def pack(folder: Path, archive: Path) -> None:
    """Put everything in ``folder`` into a zip, in a fixed order and with one date."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = f"diffusability-course/{path.relative_to(folder).as_posix()}"
            packed.writestr(zipfile.ZipInfo(name, EPOCH), path.read_bytes(), zipfile.ZIP_DEFLATED)


def build(
    out: Path,
    only: list[int] | None = None,
    wheel: bool = True,
    book: Path | None = None,
    executed: Path = EXECUTED,
) -> Path:
    """Build the kit in ``out / "kit"``.

    Args:
        out: Where to; an older kit there is replaced.
        only: Numbers of the chapters, all without.
        wheel: With the packages that the notebooks need.
        book: The built book to be printed; no PDF without it.
        executed: Folder of executed chapters, for the pictures on slides.

    Returns:
        The archive.

    Raises:
        ValueError: A number that no chapter has.
    """
    everything = read_chapters()
    known = collect_references(everything)
    if unknown := sorted(set(only or []) - {chapter.number for chapter in everything}):
        raise ValueError(f"no chapter {unknown[0]}; there are 1 to {everything[-1].number}")
    chapters = [chapter for chapter in everything if not only or chapter.number in only]
    kit = out / "kit"
    shutil.rmtree(kit, ignore_errors=True)
    kit.mkdir(parents=True)
    shutil.copyfile(ROOT / "scripts" / "kit" / "README.md", kit / "README.md")
    write_notebooks(chapters, known, kit)
    (kit / "students" / "quizzes.html").write_text(
        sheets.write_quizzes(chapters, known, answers=False), encoding="utf8"
    )
    write_instructor(chapters, known, kit / "instructor")
    if bare := write_slides(chapters, known, kit / "slides", executed):
        print(f"Slides without pictures, since `make book` has not executed them: {', '.join(bare)}", file=sys.stderr)
    if wheel:
        shutil.copyfile(ROOT / "constraints.txt", kit / "constraints.txt")
        write_wheel(kit / "package")
    if book is not None:
        pdf.print_book(book, ROOT / "book" / "_toc.yml", kit / "diffusability.pdf")
    pack(kit, out / ARCHIVE)
    return out / ARCHIVE


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--chapters", type=int, nargs="+", metavar="N", help="only these chapters")
    parser.add_argument("--out", type=Path, default=BUILD, help="folder to build in (default: _build)")
    parser.add_argument("--no-wheel", dest="wheel", action="store_false", help="leave out the packages")
    parser.add_argument("--no-pdf", dest="pdf", action="store_false", help="leave out the whole book as a PDF")
    options = parser.parse_args()
    book = HTML if options.pdf and (HTML / "index.html").is_file() else None
    if options.pdf and book is None:
        print("No PDF, since no book is built: run `make book` first.", file=sys.stderr)
    try:
        archive = build(options.out, options.chapters, options.wheel, book)
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"The course kit is in {archive} ({archive.stat().st_size / 1e6:.1f} MB).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
