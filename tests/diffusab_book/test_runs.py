"""Full runs: done once, resumed, locked, and what stays when one fails."""

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from diffusab_book import chapters, locks, runs
from diffusab_book.chapters import ChapterFailed, ParameterError
from diffusab_book.cli import app
from diffusab_book.locks import LockError
from diffusab_book.runs import RunError, RunSpec
from diffusab_core.experiments import records, trial

#: Counts its executions, and stops or fails where it is told. Its checkpoint is a file.
TINY = """# %% [markdown]
# # A tiny run

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
steps: int = 4
rate: float = 0.5  # a comment
source: str = ""
wait_s: float = 0.0
fail: bool = False
device: str = "auto"
workers: int = 0
folder: str = ""

# %%
import time
from pathlib import Path
from diffusab_book import chapters, locks, runs
run = chapters.start("tiny", globals(), data="none")
here = Path(runs.place(source, run.folder)) if source else run.folder
with (run.folder / "executions").open("a") as file:
    file.write("x")

# %%
checkpoint = run.folder / "step"
done = int(checkpoint.read_text()) if checkpoint.exists() else 0
for step in range(done, steps):
    print("step", step)
    time.sleep(wait_s)
    if fail and step == 2:
        raise ValueError(f"no step {step}")
    checkpoint.write_text(str(step + 1))

# %%
run.metrics["product"] = steps * rate
run.metrics["began_at"] = done
run.notes = str(here.name)
chapters.finish(run)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder of notebooks with one, as the environment names it; the working directory is its parent."""
    notebooks = tmp_path / "notebooks"
    presets = notebooks / "presets" / "runs" / "tiny"
    presets.mkdir(parents=True)
    (notebooks / "runs").mkdir()
    (notebooks / "runs" / "tiny.py").write_text(TINY)
    (presets / "smoke.yaml").write_text("size: smoke\nsteps: 3\n")
    (presets / "laptop.yaml").write_text("size: laptop\n")
    monkeypatch.setenv("DIFFUSAB_NOTEBOOKS", str(notebooks))
    monkeypatch.chdir(tmp_path)
    return notebooks


def diffusab(*words: str) -> list[str]:
    return [sys.executable, "-m", "diffusab_book", "run", "tiny", *words]


def pretend_to_finish(spec: RunSpec) -> None:
    """Leave what a finished run leaves, without running it."""
    start = {"parameters": dict(spec.parameters), "seed": spec.seed, "size": spec.size, "data": "none"}
    record = records.start(spec.notebook, run_identity=spec.identity, **start).finish()
    record.write(spec.folder() / "record.json")


def executions(spec: RunSpec) -> int:
    return len((spec.folder() / "executions").read_text())


# ---------------------------------------------------------------------------------------------------------------------
# What a run is


def test_identity_is_what_differs_from_the_defaults(folder):
    plain = RunSpec.resolve("tiny")
    assert plain.parameters == {}
    assert plain.identity == runs.chapters.digest_json(["tiny", {}, 0, "laptop"])[:12]
    same = RunSpec.resolve("tiny", parameters={"steps": 4, "rate": 0.5}, seed=0)
    assert same.identity == plain.identity
    one, other = (RunSpec.resolve("tiny", parameters={"rate": value}) for value in (2, 2.0))
    assert one.identity == other.identity, "an int serves as a float, and is the same float"
    different = [
        RunSpec.resolve("tiny", parameters={"steps": 5}),
        RunSpec.resolve("tiny", seed=1),
        RunSpec.resolve("tiny", "smoke"),
        RunSpec.resolve("tiny", "smoke", parameters={"steps": 4}),
        one,
    ]
    assert len({spec.identity for spec in [plain, *different]}) == len(different) + 1
    # A new parameter whose default is the old behaviour is another text of the notebook, and the same run.
    text = TINY.replace("fail: bool", "added: int = 7\nfail: bool").replace(
        'device: str = "auto"', 'device: str = "cpu"'
    )
    (folder / "runs" / "tiny.py").write_text(text)
    assert RunSpec.resolve("tiny", "smoke").identity == different[2].identity
    assert RunSpec.resolve("tiny", "smoke", parameters={"added": 8}).identity != different[2].identity


@pytest.mark.parametrize(
    ("size", "values", "named"),
    [
        ("laptop", {"stepz": 3}, "'stepz'"),
        ("laptop", {"steps": "3"}, "'3'"),
        ("laptop", {"rate": "1e-4"}, r"1\.0e-4"),
        ("laptop", {"rate": float("nan")}, "nan"),
        ("laptop", {"device": "cpu"}, "'cpu'"),
        ("laptop", {"size": "smoke"}, "'smoke'"),
        ("huge", {}, "'huge'"),
        ("gpu", {}, "'gpu'"),
    ],
)
def test_a_run_is_checked_before_it_is_one(folder, size, values, named):
    with pytest.raises(ParameterError, match=named):
        RunSpec.resolve("tiny", size, parameters=values)
    with pytest.raises(FileNotFoundError, match=r"'tinny'.*tiny"):
        RunSpec.resolve("tinny")


@pytest.mark.parametrize("values", [{}, {"steps": 4, "rate": 1e-5, "source": "a b'c", "fail": True}, {"steps": 3}])
def test_the_command_of_a_run_asks_for_it(folder, values):
    spec = RunSpec.resolve("tiny", "smoke", 5, values)
    name, *words = spec.arguments()
    told = CliRunner().invoke(app, ["run", name, *words, "--dry-run"])
    assert told.stdout.startswith(f"{spec.identity}: {spec.folder()}, not begun")


# ---------------------------------------------------------------------------------------------------------------------
# Done once


def test_a_run_is_done_once_and_read_back_at_once(folder):
    spec = RunSpec.resolve("tiny", "smoke", 3)
    record = runs.execute(spec, where={"device": "cpu"}, progress=False)
    assert (record.run_identity, record.identity, record.seed, record.size) == (
        spec.identity,
        spec.identity,
        3,
        "smoke",
    )
    assert record.parameters == {"steps": 3, "rate": 0.5, "source": "", "wait_s": 0.0, "fail": False}
    assert (record.metrics["product"], executions(spec)) == (1.5, 1)
    there = spec.folder()
    assert {"record.json", "run.json", "log.txt", "tiny.ipynb"} <= {f.name for f in there.iterdir()}
    assert RunSpec.read(there) == spec
    assert "step 2" in (there / "log.txt").read_text()
    notebook = nbformat.read(there / "tiny.ipynb", as_version=4)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")

    code = (
        "import sys; from diffusab_book import runs; print(runs.execute(runs.RunSpec.resolve('tiny', 'smoke', 3)).seed)"
    )
    code += "; print([m for m in ('torch', 'papermill', 'jupytext', 'diffusers') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split("\n")[:2] == ["3", "[]"]
    assert executions(spec) == 1

    again = runs.execute(spec, force=True, progress=False)
    assert executions(spec) == 1, "what was there is removed, its count, too"
    assert again.metrics["began_at"] == 0
    assert again.started > record.started


def test_a_run_that_is_cut_off_while_its_old_files_go_is_not_done(folder, monkeypatch):
    spec = RunSpec.resolve("tiny", "smoke")
    runs.execute(spec, progress=False)

    def stop(path, *args):
        raise KeyboardInterrupt

    for name in "0ab":  # whichever file comes first
        (spec.folder() / f"{name}_weights").mkdir()
    monkeypatch.setattr(runs.shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        runs.execute(spec, force=True, progress=False)
    assert runs.finished(spec.folder()) is None


def test_what_failed_is_kept_and_goes_on(folder):
    spec = RunSpec.resolve("tiny", parameters={"fail": True})
    told = subprocess.run(diffusab("-p", "fail", "true"), capture_output=True, text=True)
    assert told.returncode == 1
    line = told.stderr.strip().splitlines()[-1]
    assert all(word in line for word in ("ValueError", "no step 2", "tiny.ipynb"))
    assert "Traceback" not in told.stderr
    partial = nbformat.read(spec.folder() / "tiny.ipynb", as_version=4)
    assert any(o.output_type == "error" for cell in partial.cells for o in cell.get("outputs", []))
    assert runs.finished(spec.folder()) is None
    assert (spec.folder() / "step").read_text() == "2"
    # The cause is mended, the run is the same: it goes on, and the log holds both attempts.
    (folder / "runs" / "tiny.py").write_text(TINY.replace("if fail and step == 2", "if False"))
    assert runs.execute(spec, progress=False).metrics["began_at"] == 2
    log = (spec.folder() / "log.txt").read_text()
    assert log.count("===") == 4
    assert "no step 2" in log


def test_two_that_ask_for_the_same_run_do_it_once(folder):
    spec = RunSpec.resolve("tiny", "smoke")
    with locks.alone(spec.folder() / ".lock", wait=False, who="the test"):  # both begin while it is taken
        words = diffusab("--size", "smoke")
        both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [process.stderr.readline() for process in both]
    assert all(f"process {os.getpid()} on" in line for line in said), "the one that waits says for whom"
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert executions(spec) == 1


def test_killed_without_warning_it_goes_on(folder):
    spec = RunSpec.resolve("tiny", parameters={"wait_s": 0.5})
    process = subprocess.Popen(diffusab("-p", "wait_s", "0.5"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    step = spec.folder() / "step"
    deadline = time.monotonic() + 120
    while not step.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(LockError, match=f"process {process.pid} on"):
        runs.execute(spec, wait=False)
    process.send_signal(signal.SIGKILL)
    process.wait()
    partial = nbformat.read(spec.folder() / "tiny.ipynb", as_version=4)
    assert partial.cells[2].execution_count
    assert "step 0" in (spec.folder() / "log.txt").read_text()
    record = runs.execute(spec, progress=False)
    assert record.metrics["began_at"] >= 1
    assert executions(spec) == 2
    steps = [
        line.split()[-1] for line in (spec.folder() / "log.txt").read_text().splitlines() if "step" in line.split()
    ]
    assert steps[-1] == "3"
    assert len(steps) <= 5, f"at most the step in hand is done twice, not {steps}"


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_interrupted_it_says_so_in_one_line_and_ends_its_kernel(folder, sign, status):
    spec = RunSpec.resolve("tiny", parameters={"wait_s": 30.0})
    process = subprocess.Popen(
        diffusab("-p", "wait_s", "30"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job, as this test may be, ignores the interrupt, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = spec.folder() / "log.txt"
    deadline = time.monotonic() + 120
    while not (log.is_file() and "step 0" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(sign)
    _, told = process.communicate(timeout=60)
    assert process.returncode == status
    assert "interrupted" in told.strip().splitlines()[-1]
    os.close(locks.hold(spec.folder(), 5.0))  # no kernel is left


def test_a_full_disk_is_one_line_and_costs_nothing(folder):
    """A limit on the size of files stands for a full disk: writing the notebook fails from some size on."""
    text = TINY.replace('print("step", step)', 'print("step", step, "y" * 40000 if fail else "")')
    (folder / "runs" / "tiny.py").write_text(text.replace("if fail and step == 2", "if False"))
    spec = RunSpec.resolve("tiny", parameters={"fail": True, "steps": 9})

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

    words = diffusab("-p", "fail", "true", "-p", "steps", "9")
    told = subprocess.run(words, capture_output=True, text=True, preexec_fn=limit)
    assert told.returncode == 1
    assert re.search(r"File too large.*tiny\.ipynb", told.stderr.splitlines()[-1])
    assert "Traceback" not in told.stderr
    partial = nbformat.read(spec.folder() / "tiny.ipynb", as_version=4)
    assert len(partial.cells) >= 5
    assert runs.finished(spec.folder()) is None


# ---------------------------------------------------------------------------------------------------------------------
# Runs of runs


def test_a_reference_is_a_folder_of_the_same_store(folder):
    first = RunSpec.resolve("tiny", "smoke")
    second = RunSpec.resolve("tiny", "smoke", parameters={"source": first.reference})
    assert second.needs == (first.reference,)
    with pytest.raises(RunError, match=f"{first.identity} is not in"):
        runs.execute(second)
    first.folder().mkdir(parents=True)
    runs._begin(first, first.folder())
    with pytest.raises(RunError, match=r"diffusab run tiny --size smoke --seed 0$"):
        runs.execute(second)
    pretend_to_finish(first)
    record = runs.execute(second, progress=False)
    assert record.notes == first.identity
    assert record.parameters["source"] == first.reference, "no path"
    assert runs.place("kl-f4c16", second.folder()) == "kl-f4c16"
    assert Path(runs.place(first.reference, second.folder())) == first.folder().absolute()
    with pytest.raises(RunError, match="run:tiny/12"):
        runs.place("run:tiny/12", second.folder())


def test_what_is_not_this_runs_record_does_not_pass_for_it(folder):
    spec = RunSpec.resolve("tiny", "smoke")
    pretend_to_finish(spec)
    assert runs.execute(spec).run_identity == spec.identity
    file = spec.folder() / "record.json"
    for identity, error in (("0" * 12, RunError), (None, None)):
        records.read(file).model_copy(update={"run_identity": identity}).write(file)
        if error:
            with pytest.raises(error, match=identity):
                runs.execute(spec)
        else:
            assert runs.finished(spec.folder()) is None, "what a notebook calls may leave a record of its own"
    file.write_text(file.read_text()[:50])
    with pytest.raises(records.RecordError, match=r"record\.json"):
        runs.execute(spec)


def test_a_notebook_that_changes_its_parameters_is_refused(folder):
    (folder / "runs" / "tiny.py").write_text(TINY.replace("import time\n", "import time\nsteps += 1\n"))
    with pytest.raises(RunError, match="changes its parameters"):
        runs.execute(RunSpec.resolve("tiny", "smoke"), progress=False)
    assert runs.finished(RunSpec.resolve("tiny", "smoke").folder()) is None


def test_what_run_json_says_is_checked(folder, tmp_path):
    for text in ("{", "[]", "{}", json.dumps({"notebook": "tiny", "size": "smoke", "seed": 0})):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(RunError, match=r"run\.json"):
            RunSpec.read(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# The command


def test_the_command_line(folder):
    run = CliRunner().invoke
    assert "tiny: A tiny run" in run(app, ["run", "--list"]).stdout
    spec = RunSpec.resolve("tiny", "smoke", 2, {"rate": 1e-3})
    words = ["run", "tiny", "--size", "smoke", "--seed", "2", "-p", "rate", "1e-3", "-p", "device=cpu"]
    assert run(app, [*words, "--dry-run"]).stdout == f"{spec.identity}: {spec.folder()}, not begun\n"
    assert not spec.folder().exists()
    done = run(app, words)
    assert done.exit_code == 0, done.output
    assert spec.identity in done.stdout
    assert "--force" in run(app, words).stdout
    assert ", done" in run(app, [*words, "--dry-run"]).stdout
    (folder / "runs" / "tiny.py").write_text(TINY + "# more\n")
    assert "earlier text" in run(app, words).stdout
    for bad, named in [
        ([], "--list"), (["nothing"], "'nothing'"), (["tiny", "-p", "steps", "many"], "'many'"),
        (["tiny", "-p", "stepz", "4"], "'stepz'"), (["tiny", "--nproc", "2"], "tiny trains in one process"),
        (["tiny", "-p", "seed", "3", "--seed", "4"], "--seed is 4 and parameter 'seed' is 3"),
    ]:  # fmt: skip
        told = run(app, ["run", *bad])
        assert told.exit_code == 1
        assert named in told.stderr
        assert len(told.stderr.strip().splitlines()) == 1


def test_a_notebook_in_a_lab_keeps_nothing(folder, capsys):
    namespace = {name: p.default for name, p in chapters.parameters(folder / "runs" / "tiny.py").items()}
    run = chapters.start("tiny", namespace, data="none")
    (run.folder / "checkpoint").write_text("1")
    chapters.finish(run)
    assert f"Run {RunSpec.resolve('tiny').identity}: " in capsys.readouterr().out
    there = run.folder
    del run
    assert not there.exists()


def test_a_dead_kernel_is_said(folder):
    (folder / "runs" / "tiny.py").write_text(TINY.replace("if fail and", "import os; os._exit(9)\n    if fail and"))
    with pytest.raises(ChapterFailed, match=r"the kernel died.*tiny\.ipynb"):
        runs.execute(RunSpec.resolve("tiny", "smoke"), progress=False)


# ---------------------------------------------------------------------------------------------------------------------
# Several processes


def workers_of(folder: Path) -> list[int]:
    """The processes that torchrun started for a run: of its own command line, the module alone is theirs."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().decode().split("\0")
            if str(folder) in words and "torch.distributed.run" not in words:
                found.append(int(place.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_torchrun_trains_loses_a_process_goes_on_and_the_notebook_judges(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"steps": 24, "checkpoint_every": 8, "shifts": [1.0], "features": ["offline"]}
    spec = RunSpec.resolve("denoiser", "smoke", 1, values)
    words = [sys.executable, "-m", "diffusab_book", "run", *spec.arguments(), "-p", "device", "cpu", "--nproc", "2"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    checkpoints = spec.folder() / "denoiser" / "training" / "checkpoints"
    deadline = time.monotonic() + 240
    while not list(checkpoints.glob("step_*8")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    one, _ = workers_of(spec.folder().absolute())
    os.kill(one, signal.SIGKILL)
    told, _ = process.communicate(timeout=240)
    log = (spec.folder() / "log.txt").read_text()
    assert process.returncode == 0, told + log
    assert "exitcode: -9" in log, "torchrun saw the death"
    record = runs.finished(spec.folder())
    assert record.metrics["processes"] == 2
    assert "snapshot_step" not in record.series, "pictures along the training are one process's"
    # One process finds the same losses but for the order of sums: no step was lost, none done twice.
    settings = trial.Trial.pick({n: p.default for n, p in chapters.parameters(spec.path).items()} | spec.parameters)
    settings, cache = replace(settings, seed=1, snapshots=0), tmp_path / "runs" / "cache"
    alone = trial.run(settings, tmp_path / "alone", cache, size="smoke", progress=False)
    assert record.series["step"] == alone.series["step"]
    assert record.series["loss"] == pytest.approx(alone.series["loss"], rel=1e-4)
    assert record.metrics["gap_offline"] == pytest.approx(alone.metrics["gap_offline"], rel=1e-2)
    assert not workers_of(spec.folder().absolute())
