"""Build the executed book into ``_build/html``; ``make book`` calls this.

    python scripts/build_book.py             build (chapters that did not change come from the execution cache)
    python scripts/build_book.py --if-stale  build only when a source is newer than the built book

Every page is written anew on each build, so a warning cannot hide in a page that was left alone; any warning is an
error. Executed outputs are reused only while the chapter, the package, its models and the environment are unchanged.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from book_fingerprint import book_fingerprint  # noqa: E402

from diffusab_book import locks  # noqa: E402
from diffusab_book.chapters import KEEP_MEMORY  # noqa: E402

BUILD = ROOT / "_build"
HTML = BUILD / "html"
STAMP = BUILD / "book.json"  # what the finished build was made of


def is_current() -> bool:
    """Tell whether ``_build/html`` holds a finished build of the present sources."""
    try:
        made_of = json.loads(STAMP.read_text(encoding="utf8"))["fingerprint"]
    except (OSError, ValueError):  # none, or one that a full disk has cut off
        return False
    return (HTML / "index.html").is_file() and made_of == book_fingerprint(ROOT)


def environment() -> dict[str, str]:
    """Return the environment for building: published figures, one thread, this interpreter's programs first."""
    return {
        **os.environ,
        **KEEP_MEMORY,
        "DIFFUSAB_PUBLISH": "1",
        "PLOTLY_RENDERER": "plotly_mimetype",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",  # a page must not depend on what a hub holds today
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "JUPYTER_PREFER_ENV_PATH": "1",  # a user may have another kernel of the same name
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
    }


def build() -> int:
    """Build the book and return the exit status; a failed build leaves no stamp."""
    fingerprint = book_fingerprint(ROOT)
    STAMP.unlink(missing_ok=True)
    for stale in (HTML, BUILD / ".doctrees"):
        shutil.rmtree(stale, ignore_errors=True)
    start = time.monotonic()
    execute = [sys.executable, "book/_ext/book_execution.py"]
    write = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "--config", "_config.yml"]
    write += ["--toc", "book/_toc.yml", "--path-output", ".", "-W", "-n", "--keep-going"]
    for command in (execute, write):
        status = subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode
        if status != 0:
            break
    if status == 0:
        record = {"fingerprint": fingerprint, "seconds": round(time.monotonic() - start, 1)}
        STAMP.write_text(json.dumps(record) + "\n", encoding="utf8")
        print(f"\nThe book is in {HTML / 'index.html'} ({record['seconds']:.0f} s): open it in a browser.")
    return status


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--if-stale", action="store_true", help="do nothing when the built book is up to date")
    if_stale = parser.parse_args().if_stale
    with locks.alone(BUILD / ".lock", wait=True, who="the build of this book"):  # two would remove each other's pages
        if if_stale and is_current():
            print(f"The book in {HTML} is up to date.")
            return 0
        return build()


if __name__ == "__main__":
    sys.exit(main())
