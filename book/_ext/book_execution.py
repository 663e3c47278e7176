"""Execute the chapters beside each other, into the cache from which Sphinx then takes them.

    python book/_ext/book_execution.py [--workers N]

Sphinx executes a notebook when it reads it, one after the other, and a chapter computes with one thread: all cores but
one would idle. A chapter that fails is shown with its traceback; what the others computed is kept.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import book_notebooks
import yaml
from book_fingerprint import execution_fingerprint
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 2 * 2**30  # bytes that one chapter may take, with what its kernel holds


def cache_folder(root: Path, build: Path) -> Path:
    """Return where outputs are kept, apart by all that they depend on but the chapter; see ``book_fingerprint``."""
    return build / ".jupyter_cache" / execution_fingerprint(root)


def chapters(root: Path) -> list[Path]:
    """Return the notebooks that the table of contents names, in its order."""
    parts = yaml.safe_load((root / "book" / "_toc.yml").read_text(encoding="utf8"))["parts"]
    pages = [root / f"{entry['file']}.py" for part in parts for entry in part["chapters"]]
    return [page for page in pages if page.is_file()]


def default_workers() -> int:
    """Return one worker for each core, fewer where memory is short."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else MEMORY
    return max(1, min(os.cpu_count() or 1, memory // MEMORY))


def is_cached(cache: JupyterCacheAbstract, notebook: NotebookNode) -> bool:
    """Tell whether a notebook with the same code has been executed."""
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True


def execute(page: Path, timeout: int) -> ExecutionResult:
    """Execute one notebook in its folder; an exception in a cell is in the result, not raised."""
    notebook = book_notebooks.read_notebook(page.read_text(encoding="utf8"))
    return single_nb_execution(notebook, cwd=str(page.parent), timeout=timeout, allow_errors=False)


def execute_all(root: Path, cache_at: Path, workers: int, say: Callable[[str], None]) -> list[Path]:
    """Execute every chapter whose outputs are not in the cache, and return those that failed.

    Args:
        root: The repository.
        cache_at: The folder of the cache.
        workers: How many run at once.
        say: Told a line when a chapter is done.
    """
    timeout = yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))["execute"]["timeout"]
    cache = get_cache(str(cache_at))
    read = {page: book_notebooks.read_notebook(page.read_text(encoding="utf8")) for page in chapters(root)}
    missing = [page for page, notebook in read.items() if not is_cached(cache, notebook)]
    if not missing:
        return []
    say(f"Executing {len(missing)} of {len(read)} chapters, {min(workers, len(missing))} at once ...")
    failed = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:  # a kernel's client has threads
        running = {pool.submit(execute, page, timeout): page for page in missing}
        for count, done in enumerate(as_completed(running), 1):
            page, result = running[done], done.result()
            if result.err is not None:
                failed.append(page)
                say(f"{page.name} failed:\n{result.exc_string}")
                continue
            seconds = {"execution_seconds": result.time}
            cache.cache_notebook_bundle(
                CacheBundleIn(result.nb, str(page), data=seconds), check_validity=False, overwrite=True
            )
            say(f"[{count}/{len(missing)}] {page.name}: {result.time:.0f} s")
    return failed


def main() -> int:
    """Run the command line; the exit status is 1 when a chapter failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    help_ = "chapters at once (default: %(default)s)"
    parser.add_argument("--workers", type=int, default=default_workers(), help=help_)
    workers = parser.parse_args().workers
    if workers < 1:
        parser.error(f"--workers has to be at least 1, not {workers}")
    failed = execute_all(ROOT, cache_folder(ROOT, ROOT / "_build"), workers, lambda line: print(line, flush=True))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
