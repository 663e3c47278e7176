"""Chapters as text: parameters are declared, checked and injected."""

import json
import logging
import re

import jupytext
import nbformat
import pytest
import yaml
from typer.testing import CliRunner

from diffusab_book import chapters
from diffusab_book.chapters import ParameterError
from diffusab_book.cli import app
from diffusab_book.runs import RunSpec
from diffusab_core.experiments import records

CHAPTERS = sorted(chapters.NOTEBOOKS.glob("[0-9][0-9]_*.py"))
RUNS = sorted((chapters.NOTEBOOKS / "runs").glob("*.py"))
TRAINING = ("finetune(", "train_denoiser(", "training.train(")  # what a chapter that trains calls

CHAPTER = """# %% [markdown]
# # A chapter

# %% tags=["parameters"]
size: str = "laptop"
steps: int = 10
rate: float = 0.5
ratios: list[float] = [0.1, 0.2]

# %%
print(steps * rate)

# %% tags=["checkpoint"]
print("doubled:", steps * 2)
"""


@pytest.fixture
def chapter(tmp_path):
    path = tmp_path / "07_demo.py"
    path.write_text(CHAPTER)
    presets = tmp_path / "presets" / "07_demo"
    presets.mkdir(parents=True)
    (presets / "smoke.yaml").write_text("size: smoke\nsteps: 2\n")
    return path


def test_chapters_are_found_by_number_and_name(chapter):
    for key in (7, "7", "07", "07_demo", "07_demo.py"):
        assert chapters.find(key, chapter.parent) == chapter
    with pytest.raises(FileNotFoundError, match="07_demo"):
        chapters.find(8, chapter.parent)


def test_parameters_are_read_with_types(chapter):
    declared = chapters.parameters(jupytext.read(chapter))
    assert {name: p.annotation for name, p in declared.items()} == {
        "size": "str", "steps": "int", "rate": "float", "ratios": "list[float]",
    }  # fmt: skip
    assert declared["steps"].default == 10


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 3}, "no parameter 'step'"),
        ({"steps": "3"}, "parameter 'steps' is '3'"),
        ({"steps": 2.5}, "is 2.5, which is no int"),
        ({"steps": True}, "no int"),
        ({"ratios": 0.1}, "ratios"),
        ({"size": 3}, "no str"),
    ],
)
def test_wrong_parameters_are_refused(chapter, values, message):
    with pytest.raises(ParameterError, match=message):
        chapters.check(jupytext.read(chapter), values)


def test_integers_serve_as_floats(chapter):
    assert chapters.check(jupytext.read(chapter), {"rate": 1, "ratios": [1, 0.5]}) == {"rate": 1, "ratios": [1, 0.5]}


def test_presets_are_checked(chapter):
    assert chapters.preset(chapter, "smoke") == {"size": "smoke", "steps": 2}
    with pytest.raises(ParameterError, match="'huge' is not one of"):
        chapters.preset(chapter, "huge")
    with pytest.raises(ParameterError, match="no size 'gpu'"):
        chapters.preset(chapter, "gpu")
    (chapter.parent / "presets" / "07_demo" / "gpu.yaml").write_text("stepz: 3\n")
    with pytest.raises(ParameterError, match="stepz"):
        chapters.preset(chapter, "gpu")


def test_a_chapter_without_parameters_cell_is_named(tmp_path):
    path = tmp_path / "01_none.py"
    path.write_text("# %%\nprint(1)\n")
    with pytest.raises(ParameterError, match="no cell tagged"):
        chapters.parameters(jupytext.read(path))
    path.write_text('# %% tags=["parameters"]\nsteps = 3\n')
    with pytest.raises(ParameterError, match="steps = 3"):
        chapters.parameters(jupytext.read(path))


def test_a_replay_holds_the_checkpoint_only(chapter):
    notebook = chapters.replayable(chapter, ["doubled: 20"])
    nbformat.validate(notebook)
    assert [[o.text for o in cell.outputs] for cell in notebook.cells] == [[], [], ["doubled: 20\n"]]
    assert chapters.printed(notebook) == ["doubled: 20"]
    notebook.cells[-1].outputs = []
    with pytest.raises(ParameterError, match="checkpoint"):
        chapters.printed(notebook)


def test_values_from_a_shell_take_the_declared_type(chapter):
    declared = chapters.parameters(jupytext.read(chapter))
    typed = {"size": "7", "steps": "7", "rate": "0.25", "ratios": "[0.5, 1]"}
    values = {name: chapters.parse(declared, name, text) for name, text in typed.items()}
    assert values == {"size": "7", "steps": 7, "rate": 0.25, "ratios": [0.5, 1.0]}
    with pytest.raises(ParameterError, match="seven"):
        chapters.parse(declared, "steps", "seven")
    with pytest.raises(ParameterError, match="no parameter 'stepz'"):
        chapters.parse(declared, "stepz", "7")


# ---------------------------------------------------------------------------------------------------------------------
# Running from a shell

RECORDED = """# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
steps: int = 10
record_path: str = ""

# %%
from diffusab_book import chapters
run = chapters.start("07_demo", globals(), data="none")

# %%
run.metrics["inverse"] = 1 / steps

# %%
chapters.finish(run)
"""


@pytest.fixture
def shell(chapter, monkeypatch, tmp_path):
    """The command line over a folder with one small chapter."""
    chapter.write_text(RECORDED)
    monkeypatch.setenv("DIFFUSAB_NOTEBOOKS", str(chapter.parent))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["run", "07", "--size", "smoke", *arguments])


def test_run_keeps_notebook_and_record(shell, tmp_path):
    done = shell("-p", "steps", "4", "--seed", "3")
    assert done.exit_code == 0, done.output
    [folder] = (tmp_path / "runs" / "07_demo").iterdir()
    record = records.read(folder / "record.json")
    assert (record.metrics["inverse"], record.seed, record.size) == (0.25, 3, "smoke")
    assert (record.identity, record.parameters) == (folder.name, {"steps": 4})
    executed = nbformat.read(folder / "07_demo.ipynb", as_version=4)
    assert all(cell.execution_count for cell in executed.cells)
    assert "widgets" not in executed.metadata


def test_the_kernel_is_this_environments_whatever_a_user_has_installed(shell, tmp_path, monkeypatch):
    for place in ("JUPYTER_DATA_DIR", "JUPYTER_PATH"):
        (tmp_path / place / "kernels" / "python3").mkdir(parents=True)
        other = {"argv": ["/another/python", "-f", "{connection_file}"], "display_name": "Mine", "language": "python"}
        (tmp_path / place / "kernels" / "python3" / "kernel.json").write_text(json.dumps(other))
        monkeypatch.setenv(place, str(tmp_path / place))
    done = shell()
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("bad", "named"),
    [("-p stepz 4", "'stepz'"), ("-p steps=many", "'many'"), ("--size huge", "'huge'"), ("--size gpu", "'gpu'")],
)
def test_run_refuses_before_it_starts(shell, tmp_path, bad, named):
    done = shell(*bad.split())
    assert done.exit_code == 1
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------------------------------------------------------------
# The book's own chapters


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_every_chapter_has_its_sizes(path):
    declared = chapters.parameters(jupytext.read(path))
    assert {"size", "seed", "record_path"} <= declared.keys()
    assert chapters.preset(path, "smoke")["size"] == "smoke"
    laptop = chapters.preset(path, "laptop")
    # What a reader gets by opening the notebook is what the book publishes.
    assert {name: declared[name].default for name in laptop} == laptop
    for file in (path.parent / "presets" / path.stem).glob("*.yaml"):
        assert yaml.safe_load(file.read_text())["size"] == file.stem
        chapters.preset(path, file.stem)


@pytest.mark.parametrize(
    "path", [p for p in CHAPTERS if any(call in p.read_text() for call in TRAINING)], ids=lambda p: p.stem
)
def test_chapters_that_train_have_larger_sizes(path):
    small = chapters.preset(path, "laptop")
    for size in ("gpu", "paper"):
        large = chapters.preset(path, size)
        assert large["device"] == "auto"
        steps = {name for name in large if name.endswith("steps")}
        assert steps
        assert all(large[name] > small[name] for name in steps), "a larger size trains longer"


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.stem)
def test_every_full_run_has_every_size(path):
    declared = chapters.parameters(path)
    assert [declared[name].default for name in ("device", "workers", "folder")] == ["auto", 0, ""]
    assert declared == chapters.parameters(jupytext.read(path)), "read without jupytext it is the same"
    for size in records.SIZES:
        values = chapters.preset(path, size)
        assert values.pop("size") == size
        assert not values.keys() & {"workers", "folder"}, "a size says what, not where"
        RunSpec.resolve(path.stem, size)
    files = {file.stem for file in chapters.preset_file(path, "smoke").parent.iterdir()}
    assert files == set(records.SIZES)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_chapters_carry_a_kernel_and_no_tool_versions(path):
    assert "jupytext_version" not in path.read_text()
    assert jupytext.read(path).metadata.kernelspec.name == "python3"


def test_a_chapter_records_the_parameters_it_runs_with(chapter, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(chapters, "find", lambda name: {"07_demo": chapter}[name])
    path = tmp_path / "record.json"
    namespace = {"size": "smoke", "steps": 2, "rate": 1, "ratios": [0.3], "seed": 5, "record_path": str(path), "x": 1}
    chapter.write_text(CHAPTER.replace("steps: int", 'seed: int = 0\nrecord_path: str = ""\nsteps: int'))
    run = chapters.start("07_demo", namespace, data="none")
    run.metrics["found"] = 1.5
    chapters.finish(run)
    record = records.read(path)
    assert record.parameters == {"steps": 2, "rate": 1, "ratios": [0.3]}
    assert (record.experiment, record.seed, record.size, record.data) == ("07_demo", 5, "smoke", "none")
    assert record.metrics == {"found": 1.5}
    printed = capsys.readouterr().out
    assert record.identity in printed
    assert printed.count("\n") == 1
    with pytest.raises(ParameterError, match="'steps' is 'two'"):
        chapters.start("07_demo", {**namespace, "steps": "two"}, data="none")


def test_a_chapter_without_a_path_writes_nothing(chapter, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(chapters, "find", lambda name: chapter)
    chapter.write_text(CHAPTER.replace("steps: int", 'seed: int = 0\nrecord_path: str = ""\nsteps: int'))
    before = set(tmp_path.rglob("*"))
    namespace = {"size": "smoke", "steps": 2, "rate": 1.0, "ratios": [], "seed": 0, "record_path": ""}
    chapters.finish(chapters.start("07_demo", namespace, data="none"))
    assert set(tmp_path.rglob("*")) == before
    assert "smoke" in capsys.readouterr().out


def test_a_progress_bar_is_kept_as_its_last_line():
    def printed(text, name="stderr"):
        return {"output_type": "stream", "name": name, "text": text}

    bar = [
        printed("\r  0%|"),
        printed(["\r 50%|", "\r"]),
        printed("\r100%|"),
        printed("\n"),
        printed("done\n", "stdout"),
    ]
    figure = {"output_type": "display_data", "data": {"text/plain": "a figure"}, "metadata": {}}
    joined = chapters._join_streams([printed("before\n"), *bar, figure, printed("x\ny", "stdout")])
    assert joined == [printed("before\n100%|\n"), printed("done\n", "stdout"), figure, printed("x\ny", "stdout")]
    assert chapters._join_streams(joined) == joined


def test_a_log_has_a_progress_bar_now_and_then(tmp_path):
    from papermill.log import logger

    with chapters._logging_to(tmp_path / "log.txt"):
        for i in range(500):
            logger.warning(f"\r {i}/500 ===")
        logger.info("a line\nand another")
        record = logging.LogRecord("", logging.INFO, "", 0, "\r 499/500", (), None)
        record.created += 31
        logger.handle(record)
    text = (tmp_path / "log.txt").read_text()
    times = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
    assert re.sub(times, "", text) == "0/500 ===\na line\nand another\n499/500\n"
    assert len(re.findall(times, text)) == 3
