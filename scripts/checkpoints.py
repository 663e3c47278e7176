"""What the checkpoint cells of the built book print: kept in tests/checkpoints.json, replayed by nbval.

python scripts/checkpoints.py                    after `make book`: renew tests/checkpoints.json from the built pages
python scripts/checkpoints.py --replay 02        run chapter 2 here and compare its checkpoint with the kept one
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from book_execution import cache_folder  # noqa: E402

from diffusab_book import chapters  # noqa: E402

KEPT = ROOT / "tests" / "checkpoints.json"
EXECUTED = ROOT / "_build" / "jupyter_execute" / "notebooks"


def of_the_book() -> dict[str, list[str]]:
    """The lines of every chapter's checkpoint in the built book, by chapter.

    Raises:
        FileNotFoundError: The book has not been built.
    """
    if not EXECUTED.is_dir():
        raise FileNotFoundError(f"{EXECUTED} is missing: build the book first (make book)")
    return {
        path.stem: chapters.printed(_executed(EXECUTED / f"{path.stem}.ipynb"))
        for path in sorted(chapters.NOTEBOOKS.glob("[0-9][0-9]_*.py"))
    }


def _executed(path: Path) -> nbformat.NotebookNode:
    """An executed chapter. A build that takes it from the execution cache writes it here without outputs."""
    from jupyter_cache import get_cache

    notebook = nbformat.read(path, as_version=4)
    if any(cell.get("outputs") for cell in notebook.cells):
        return notebook
    return get_cache(cache_folder(ROOT, EXECUTED.parents[1])).merge_match_into_notebook(notebook)[1]


def replay(chapter: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a chapter with nbval, which compares its checkpoint with the kept one."""
    path = chapters.find(chapter)
    notebook = folder / f"{path.stem}.ipynb"
    nbformat.write(chapters.replayable(path, json.loads(KEPT.read_text(encoding="utf8"))[path.stem]), notebook)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q", "--color=no"]
    command += ["-p", "no:cacheprovider", "-c", "/dev/null", f"--rootdir={folder}", str(notebook)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replay", metavar="CHAPTER", help="number or name of the chapter to run and compare")
    chapter = parser.parse_args().replay
    if chapter is None:
        KEPT.write_text(json.dumps(of_the_book(), indent=1, ensure_ascii=False) + "\n", encoding="utf8")
        print(f"wrote {KEPT}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        done = replay(chapter, Path(folder))
    print(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
