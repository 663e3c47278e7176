"""The chapters in a real JupyterLab, driven in a real browser: run all cells, drag a slider, see the figure change."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "local-test"
# With something to drag; the build of the book has executed the others, too.
CHAPTERS = [
    path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py")) if "book.explorers" in path.read_text()
]

# How many outputs the cells have, and whether any is an error; the kernel is idle when no prompt shows a star.
STATE = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const cells = panel.content.widgets.filter(c => c.model.type === 'code');
  const outputs = cells.flatMap(c => c.model.outputs.toJSON());
  const error = outputs.find(o => o.output_type === 'error');
  return {
    executed: cells.filter(c => c.model.executionCount !== null || c.model.sharedModel.source.trim() === '').length,
    cells: cells.length,
    error: error ? error.ename + ': ' + error.evalue : null,
    kernel: panel.sessionContext.session?.kernel?.status ?? 'none',
  };
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab on a copy of the chapters at size smoke, so that a run leaves the tree as it was."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns("*.ipynb", ".*"))
    for chapter in sorted((home / "notebooks").glob("[0-9][0-9]_*.py")):
        use_smoke_size(chapter)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "DIFFUSAB_PUBLISH"}
    environment |= {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment |= {"HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--allow-root", "--LabApp.expose_app_in_browser=True"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home}"]
    log = (home / "lab.log").open("w")
    server = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/api?token={TOKEN}", timeout=5):
                break
            assert server.poll() is None, (home / "lab.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "JupyterLab did not answer within 90 s"
            time.sleep(0.3)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)
        log.close()


def use_smoke_size(chapter: Path) -> None:
    """Put the smoke preset's values into the chapter, after its parameters cell."""
    import jupytext
    import papermill

    from diffusab_book import chapters

    source = papermill.execute_notebook(
        jupytext.read(chapter), None, chapters.preset(ROOT / "notebooks" / chapter.name, "smoke"), prepare_only=True,
        kernel_name="python3", language="python", progress_bar=False,
    )  # fmt: skip
    del source.metadata["papermill"]  # which holds the whole notebook again
    jupytext.write(source, chapter, fmt="py:percent")


def wait_for(page, expression: str, seconds: float, what: str):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = page.evaluate(expression)
        if value:
            return value
        page.wait_for_timeout(250)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s; state: {json.dumps(page.evaluate(STATE))}")


# What the figure beside a slider shows: its curves, points, pictures and labels, without what follows the pointer.
DRAWN = """handle => {
  const plot = handle.closest('.jp-OutputArea-output').querySelector('.js-plotly-plot');
  if (!plot) return '';
  const copy = plot.cloneNode(true);
  copy.querySelectorAll('.hoverlayer, .modebar').forEach(e => e.remove());
  return [...copy.querySelectorAll('.main-svg')].map(svg => svg.innerHTML).join('');
}"""


@pytest.fixture
def kernels(lab):
    """Shuts down what a test has started: twenty kernels hold a gigabyte each."""
    yield
    headers = {"Authorization": f"token {TOKEN}"}
    with urllib.request.urlopen(urllib.request.Request(f"{lab}/api/sessions", headers=headers)) as answer:
        sessions = json.load(answer)
    for session in sessions:
        address = f"{lab}/api/sessions/{session['id']}"
        urllib.request.urlopen(urllib.request.Request(address, headers=headers, method="DELETE")).close()


@pytest.mark.lab
@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_runs_and_its_sliders_move_the_figure(lab, browser, chapter):
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.goto(f"{lab}/lab/tree/notebooks/{chapter.name}?token={TOKEN}&reset")
    ready = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
    wait_for(page, ready, 90, "the kernel's start")
    # Not awaited: the command resolves only when everything has run.
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    deadline = time.monotonic() + 180
    while True:
        state = page.evaluate(STATE)
        assert state["error"] is None, state["error"]
        if state["executed"] == state["cells"] and state["kernel"] == "idle":
            break
        assert time.monotonic() < deadline, f"not all cells ran: {state}"
        page.wait_for_timeout(500)

    handles = page.locator(".jp-OutputArea .noUi-handle")
    wait_for(page, "() => document.querySelectorAll('.jp-OutputArea .noUi-handle').length", 30, "a slider's appearance")
    for i in range(handles.count()):
        handle = handles.nth(i)
        handle.scroll_into_view_if_needed()
        element = handle.element_handle()
        page.wait_for_function(f"handle => ({DRAWN})(handle).length > 0", arg=element, timeout=30_000)
        page.wait_for_timeout(500)  # the first drawing settles
        before = element.evaluate(DRAWN)
        assert element.evaluate(DRAWN) == before, f"the figure of slider {i} changes by itself"
        box = handle.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 140, y, steps=4)
        page.mouse.up()
        deadline = time.monotonic() + 60
        while element.evaluate(DRAWN) == before:
            assert time.monotonic() < deadline, f"slider {i} was dragged and no figure changed"
            page.wait_for_timeout(100)
    page.close()
