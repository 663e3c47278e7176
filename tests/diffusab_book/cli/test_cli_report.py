"""``diffusab report`` from the shell."""

import io
import json
import os
import re
from pathlib import Path

import pytest
import small_autoencoder
import torch
from PIL import Image
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_book.cli import report as cli_report
from diffusab_book.report import page, stages
from diffusab_core import data
from diffusab_core.experiments import records

STAGE = re.compile(r"\S.* \.\.\.( \d+ s)?")  # what a report is at, and how long it took
QUICK = ["--resolution", "32", "--samples", "3", "--batch-size", "4", "--device", "cpu"]
MODEL = """
from torch import nn


class Pool:
    def encode(self, x):
        return nn.functional.avg_pool2d(x, 4)

    def decode(self, z):
        return nn.functional.interpolate(z, scale_factor=4)


class NotANumber(Pool):
    def encode(self, x):
        return super().encode(x) / 0
"""


@pytest.fixture
def code(tmp_path):
    (tmp_path / "own.py").write_text(MODEL)
    return tmp_path / "own.py"


@pytest.fixture
def folder(tmp_path):
    return small_autoencoder.write(tmp_path / "mine")


@pytest.fixture
def photos(tmp_path):
    """Two usable images, and a file that is none."""
    for i in range(2):
        pixels = (data.rgb01(data.Photos(40, seed=5)[i]).permute(1, 2, 0) * 255).byte().numpy()
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"photo{i}.png")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def run(*words):
    return CliRunner().invoke(app, ["report", *map(str, words)])


def assert_fails(result, out, *said):
    """One line that says it, after those that say what was done, and nothing left behind."""
    assert result.exit_code == 1, result.output
    *stages, last = result.stderr.splitlines()
    assert last.startswith("diffusab: ")
    assert [line for line in stages if not STAGE.fullmatch(line)] == []
    for words in said:
        assert words in last
    assert result.stdout == ""
    assert not out.exists()


def test_command_writes_page_and_json_for_all_kinds_of_models(tmp_path, folder, code, photos):
    out = tmp_path / "deep" / "out"
    result = run(folder, "--model", f"{code}:Pool", "--images", photos, "--out", out, *QUICK)
    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    assert [line for line in lines if not STAGE.fullmatch(line) or line.endswith("...")] == []
    assert lines[0].startswith(f"opening {folder}, {code}:Pool ...")
    assert lines[2].startswith("encoding 2 images and decoding them ...")
    assert sum(line.startswith("mine: ") for line in lines) >= 5
    assert lines[-1].startswith("writing ...")
    assert sorted(os.listdir(out)) == ["report.html", "report.json"]
    for words in (
        "of up to 3 images 2 are there",
        "left out 1, all",
        "own:Pool: The encoder is deterministic",
        "\nnext: mine: Find out why these images are not reconstructed",
        f"\n    diffusab report {folder} --images photos --resolution 32 --out report-known\n",
    ):
        assert words in result.stdout
    found = json.loads((out / "report.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert [model["profile"]["name"] for model in found["models"]] == ["mine", "own:Pool"]
    assert found["images"]["used"] == ["photo0.png", "photo1.png"]
    record = records.RunRecord.model_validate(found["record"])
    assert record.parameters["models"] == [str(folder), f"{code}:Pool"]
    assert record.parameters["resolution"] == 32
    text = (out / "report.html").read_text()
    for name in ("mine", "own:Pool", "notes.txt"):
        assert name in text


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, code, folder):
    out = tmp_path / "out"
    (tmp_path / "weights.bin").touch()
    for words, said in [
        ([], "nothing to report on: name a MODEL"),
        (["kl-none"], "no autoencoder 'kl-none'"),
        ([tmp_path / "weights.bin"], "is a pickle"),
        (["--model", f"{code}:Nothing"], "has no function 'Nothing'"),
        (["--model", f"{code}:NotANumber"], "own:NotANumber: NaN or Inf in the latents of coffee, crop 0"),
        ([folder, "--resolution", "36"], "must be a multiple of 32"),
        ([folder, "--samples", "0"], "--samples must be at least 1, got 0"),
        ([folder, "--dtype", "int8"], "--dtype 'int8' is unknown"),
        ([folder, "--device", "tpu"], "'tpu' is unknown"),
        ([folder, "--images", tmp_path / "nowhere"], "nowhere"),
    ]:
        assert_fails(run(*QUICK, *words, "--out", out), out, said)


def test_out_that_cannot_be_written_is_known_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "measure", lambda *_, **__: pytest.fail("measured for nothing"))
    (tmp_path / "file").touch()
    result = run("kl-f4c16", "--out", tmp_path / "file", *QUICK)
    assert (result.exit_code, result.stderr) == (1, f"diffusab: cannot write into {tmp_path / 'file'}: File exists\n")
    (tmp_path / "taken" / "report.json").mkdir(parents=True)
    result = run("kl-f4c16", "--out", tmp_path / "taken", *QUICK)
    assert result.stderr == f"diffusab: cannot write {tmp_path / 'taken' / 'report.json'}: it is a folder\n"


def test_a_terminal_has_no_lines_of_stages(monkeypatch):
    """It has a progress bar; and without a standard error nothing is written anywhere."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    assert stages.choose_stage() is stages.silently
    monkeypatch.setattr("sys.stderr", None)
    assert stages.choose_stage() is stages.silently
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert stages.choose_stage() is stages.in_lines


def test_a_stage_that_fails_ends_its_line():
    out = io.StringIO()
    with stages.in_lines("reading", out):
        assert out.getvalue() == "reading ..."
    with pytest.raises(ValueError, match="broken"), stages.in_lines("writing", out):
        raise ValueError("broken")
    assert out.getvalue() == "reading ... 0 s\nwriting ...\n"


@pytest.mark.parametrize(("given", "used"), [(None, 1), ("2", 2)])
def test_threads_are_limited_unless_they_are_given(monkeypatch, tmp_path, given, used):
    found = []

    def look(*_, **__):
        found.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "measure", look)
    monkeypatch.setattr(cli_report, "count_threads", lambda: 1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        run("kl-f4c16", "--out", tmp_path / "out", *QUICK)
    finally:
        torch.set_num_threads(before)
    assert found == [used]


def test_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "measure", stop)
    result = run("kl-f4c16", "--out", tmp_path / "deep" / "out", *QUICK)
    assert (result.exit_code, result.stderr) == (130, "diffusab: interrupted; nothing was written\n")
    assert not Path(tmp_path / "deep").exists()
