"""Figures that are drawn while a notebook runs: one output each, which executing keeps in its last state."""

import jupytext
import nbformat
import papermill
import pytest
import torch

from diffusab_book import live

NOTEBOOK = """# %%
import torch
from diffusab_book import live
losses = live.Curves({"loss": "loss", "absent": "absent"}, "The loss against the step, which falls.", every=0)
spectra = live.Spectra("profile", "Profiles of latents by zigzag rank, falling.", {"real": [1.0, 0.5]}, every=0)
pictures = live.Pictures("samples", "Two images of one colour each, side by side.", every=0)
watch = live.together(losses, spectra, pictures)

# %%
for step in range(1, 31):
    watch(step, {"loss": 1 / step, "name": "words"})
    if step % 10 == 0:
        watch(step, {"profile": [1.0, 0.1 * step], "samples": torch.full((2, 3, 4, 4), step / 30)})

# %%
for figure in (losses, spectra, pictures):
    figure.finish()
print(losses.figure.drawings, spectra.figure.drawings, pictures.figure.drawings)
"""


def test_an_executed_notebook_keeps_the_last_drawing_of_each(tmp_path):
    source, out = tmp_path / "source.ipynb", tmp_path / "out.ipynb"
    nbformat.write(jupytext.reads(NOTEBOOK, "py:percent"), source)
    papermill.execute_notebook(source, out, progress_bar=False, kernel_name="python3", language="python")
    cells = nbformat.read(out, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    shown = [output for cell in code for output in cell.outputs if output.output_type == "display_data"]
    assert len(shown) == 3  # though drawn many times
    assert code[-1].outputs[0].text == "31 4 4\n"
    losses, spectra, pictures = (output.data["application/vnd.plotly.v1+json"] for output in shown)
    assert [trace["name"] for trace in losses["data"]] == ["loss"]
    assert (losses["data"][0]["x"][-1], losses["data"][0]["y"][-1]) == (30, 0.03333)
    assert [trace["name"] for trace in spectra["data"]] == ["step 10", "step 20", "step 30", "real"]
    assert pictures["data"][0]["source"].startswith("data:image/webp")
    assert out.stat().st_size < 60_000


def test_outside_a_notebook_nothing_is_shown(capsys):
    losses = live.Curves({"loss": "loss"}, "The loss against the step, which falls.", every=0)
    losses(1, {"loss": 1.0})
    losses.finish()
    assert (losses.figure.drawings, capsys.readouterr().out) == (0, "")


def test_drawings_are_some_time_apart_and_few_points_are_drawn(monkeypatch):
    drawn = []
    monkeypatch.setattr(live, "_in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda content, **how: drawn.append((content, how)))
    now = 0.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    losses = live.Curves({"loss": "loss"}, "The loss against the step, which falls.", every=2.0)
    for step in range(1, 1001):
        losses(step, {"loss": 1.0})
        now += 0.01  # ten seconds in all
    assert losses.figure.drawings == 5
    losses.finish({"step": [float(s) for s in range(-9, 1)], "loss": [3.0] * 10})  # of an earlier attempt
    assert [how["update"] for _, how in drawn] == [False] + [True] * 6
    assert len({how["display_id"] for _, how in drawn}) == 1
    x = drawn[-1][0]["application/vnd.plotly.v1+json"]["data"][0]["x"]
    assert (x[0], x[-1]) == (-9, 1000)
    assert len(x) <= 401


@pytest.mark.parametrize("keep", [1, 3])
def test_of_many_profiles_the_first_and_the_last_are_drawn(keep):
    spectra = live.Spectra("profile", "Profiles of latents by zigzag rank, falling.", keep=keep)
    for step in range(0, 110, 10):
        spectra(step, {"profile": torch.tensor([1.0, 0.5]).tolist()})
    names = [trace.name for trace in spectra._draw().data]
    assert names == (["step 0", "step 50", "step 100"] if keep == 3 else ["step 0"])
