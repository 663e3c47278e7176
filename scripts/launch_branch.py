"""Make the folder that Binder and Colab open: the built notebooks, and what an environment for them needs.

    python scripts/launch_branch.py           after `make book`: writes _build/launch

The pages' launch buttons lead to a branch that holds this folder and nothing else (``book_launch`` in ``_config.yml``);
``.github/workflows/pages.yml`` pushes it. Notebooks keep their outputs, so they can be read before they are run.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from book_buttons import EXTRAS  # noqa: E402

README = """# Built notebooks

Executed chapters of the book at {url}. This branch is written by a machine on every build and has no history: change
the sources there.
"""


def requirements(url: str, branch: str, makefile: str) -> str:
    """Return Binder's ``requirements.txt``: the repository's package, and torch without CUDA, of no use there."""
    index = re.search(r"^TORCH_CPU_INDEX := (\S+)$", makefile, re.MULTILINE)[1]
    return f"--extra-index-url {index}\ndiffusab-core[{EXTRAS}] @ git+{url}@{branch}\n"


def write_launch(built: Path, out: Path) -> list[Path]:
    """Write the folder and return the notebooks in it.

    Args:
        built: ``_sources/notebooks`` of the built book.
        out: The folder, written anew.

    Raises:
        FileNotFoundError: The book has not been built.
    """
    notebooks = sorted(built.glob("*.ipynb"))
    if not notebooks:
        raise FileNotFoundError(f"{built} holds no notebooks: run `make book` first")
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf8"))["repository"]
    shutil.rmtree(out, ignore_errors=True)
    (out / "notebooks").mkdir(parents=True)
    copies = [Path(shutil.copy(path, out / "notebooks")) for path in notebooks]
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    text = requirements(repository["url"], repository["branch"], makefile)
    (out / "requirements.txt").write_text(text, encoding="utf8")
    (out / "runtime.txt").write_text("python-3.12\n", encoding="utf8")
    (out / "README.md").write_text(README.format(**repository), encoding="utf8")
    return copies


if __name__ == "__main__":
    done = write_launch(ROOT / "_build" / "html" / "_sources" / "notebooks", ROOT / "_build" / "launch")
    print(f"{len(done)} notebooks in {done[0].parent.parent}")
