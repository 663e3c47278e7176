"""A run notebook that does nothing in no time, and sweeps over it."""

from pathlib import Path

import yaml

NOTEBOOK = """# %% [markdown]
# # A tiny run

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
steps: int = 4
rate: float = 0.5
flag: bool = False
source: str = ""
pause_s: float = 0.0
needs: str = ""  # a file without which it fails
device: str = "cpu"
workers: int = 0
folder: str = ""

# %%
import time
from pathlib import Path
from diffusab_book import chapters, runs
run = chapters.start("tiny", globals(), data="none")
if source:
    runs.place(source, run.folder)
with open(Path(folder) / "executions", "a") as file:
    file.write("x")
time.sleep(pause_s)
if needs and not Path(needs).exists():
    raise ValueError(f"there is no {needs}")

# %%
run.metrics |= {"score": seed + 10 * rate, "steps_taken": steps}
chapters.finish(run)
"""

SWEEP = {
    "title": "A tiny sweep", "source": "nobody", "notebook": "tiny", "metric": "score", "better": "lower",
    "margin": 0.05, "control": "plain", "seeds": [0, 1], "arms": {"plain": {}, "more": {"rate": 1.5}},
}  # fmt: skip


def write_notebooks(folder: Path) -> Path:
    """The notebook ``tiny`` with presets of all sizes, as the book's folder has its own."""
    presets = folder / "presets" / "runs" / "tiny"
    presets.mkdir(parents=True)
    (folder / "runs").mkdir()
    (folder / "runs" / "tiny.py").write_text(NOTEBOOK)
    for size, values in {"smoke": {"steps": 1}, "laptop": {}, "gpu": {"steps": 40}, "paper": {"steps": 400}}.items():
        (presets / f"{size}.yaml").write_text(yaml.safe_dump(values))
    return folder


def write_sweep(path: Path, **changes) -> Path:
    """:data:`SWEEP` with changes; a key that is ``...`` is left out."""
    content = {key: value for key, value in (SWEEP | changes).items() if value is not ...}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
