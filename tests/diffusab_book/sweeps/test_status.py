"""What ``diffusab status`` says of a store, and what ``diffusab collect`` makes of it."""

import fcntl
import json
import sys
import time

import nbformat
import pandas as pd
import pytest
from tiny_sweeps import write_notebooks, write_sweep
from typer.testing import CliRunner

from diffusab_book import locks
from diffusab_book.cli import app
from diffusab_book.sweeps import collect, driver, files, status
from diffusab_book.sweeps.plan import plan
from diffusab_core.experiments import records
from diffusab_core.files import lock


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A plan of four runs in an empty store."""
    monkeypatch.setenv("DIFFUSAB_NOTEBOOKS", str(write_notebooks(tmp_path / "notebooks")))
    monkeypatch.chdir(tmp_path)
    path = write_sweep(tmp_path / "one.yaml")
    return plan(files.read(path), None, tmp_path / "runs")


def finish(job, score):
    """The record that the run would leave."""
    run = records.start(
        "tiny", parameters={"steps": 4, "rate": job.spec.parameters.get("rate", 0.5), "lengths": [1, 2], "extra": None},
        seed=job.spec.seed, size="laptop", data="none", run_identity=job.spec.identity,
    )  # fmt: skip
    run.metrics["score"] = score
    run.finish().write(job.record)


def fail(job, kind, said):
    """The notebook that papermill leaves."""
    output = nbformat.v4.new_output("error", ename=kind, evalue=said, traceback=[])
    cell = nbformat.v4.new_code_cell("1", outputs=[output])
    job.folder.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), job.folder / "tiny.ipynb")
    (job.folder / "run.json").write_text("{}")


def kinds(made):
    return {label(made, s): s.kind for s in status.look(made)}


def label(made, state):
    return made.label(state.job)


def test_states(made):
    jobs = list(made.own.values())
    assert set(kinds(made).values()) == {"waiting"}
    finish(jobs[0], 1.0)
    fail(jobs[1], "ValueError", "no\nmore")
    fail(jobs[2], "KeyboardInterrupt", "")
    assert list(kinds(made).values()) == ["done", "failed", "cut off", "waiting"]
    assert status.look(made)[1].said == "ValueError: no"
    assert status.count(status.look(made)) == "1 done, 1 failed, 1 cut off, 1 waiting"


def test_a_run_runs_while_its_lock_is_held(made):
    job = made.own["plain", 0]
    fail(job, "ValueError", "the last time")
    with (job.folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert status.state_of(made, job).kind == "running"
    assert status.state_of(made, job).kind == "failed"


def test_where_the_system_has_no_such_locks(made, monkeypatch):
    """As on Windows: a run can be made and asked for, and a sweep says in a line that it cannot be started."""
    job = made.own["plain", 0]
    fail(job, "ValueError", "the last time")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with (job.folder / ".lock").open("w") as handle, locks.alone(job.folder / ".lock", wait=False, who="it"):
        lock(handle.fileno(), wait=False)
        assert status.state_of(made, job).kind == "failed"
    monkeypatch.setattr(driver.sys, "platform", "win32")
    with pytest.raises(files.SweepError, match="sweeps need Linux or macOS"):
        driver.run(made, driver.Launch(), say=lambda _: None)


def test_looking_is_nobodys_obstacle(tmp_path):
    """Two people who look at once do not take each other for a run."""
    path = tmp_path / ".lock"
    with path.open("w") as one, path.open() as two:
        lock(one.fileno(), wait=False, shared=True)
        lock(two.fileno(), wait=False, shared=True)
        with pytest.raises(BlockingIOError):
            lock(one.fileno(), wait=False)


def test_progress_is_what_training_has_noted(made, monkeypatch):
    """40 steps in 12 seconds, and 150 of 200 are left."""
    job = plan(files.read(write_sweep(made.sweep.path, parameters={"steps": 200})), None, made.root).own["plain", 0]
    clock = iter([0.0, 2.0, 2.1, 12.0])
    monkeypatch.setattr(records.time, "monotonic", lambda: next(clock))
    with records.logs(job.folder / "inside") as log:
        for step in (10, 30, 31, 50):
            log(step, {"loss": 1.0})
    monkeypatch.undo()
    step, left_s = status._progress(job)
    assert step == 50
    assert left_s == pytest.approx(150 * 12 / 40, abs=2)


def test_a_folder_that_goes_while_it_is_looked_at_stops_nothing(made, monkeypatch):
    fail(made.own["plain", 0], "KeyboardInterrupt", "")
    monkeypatch.setattr(status.Path, "glob", lambda folder, pattern: iter([folder / "gone" / "progress.json"]))
    assert next(state.kind for state in status.look(made)) == "cut off"


def test_a_killed_runs_log_says_why_it_has_no_record(made):
    job = made.own["plain", 0]
    log = status.log_of(made, job)
    log.parent.mkdir(parents=True)
    log.write_text("tiny: 0%\ndiffusab: \x1b[31mthe kernel died\n\n")
    for code, kind in ((1, "failed"), (137, "failed"), (143, "waiting"), (130, "waiting")):
        log.with_suffix(".status").write_text(f"{code}\n")
        assert status.state_of(made, job).kind == kind
    log.with_suffix(".status").write_text("1\n")
    assert status.state_of(made, job).said == "diffusab: the kernel died"


def test_a_damaged_record_is_not_done(made):
    job = made.own["plain", 0]
    finish(job, 1.0)
    job.record.write_text(job.record.read_text()[:100])
    assert status.state_of(made, job).kind == "waiting"
    assert not collect.copy(made, made.root / "results").new


@pytest.mark.parametrize(("seconds", "said"), [(None, ""), (0, "0 s"), (99, "99 s"), (600, "10 min"), (7200, "2.0 h")])
def test_times_in_words(seconds, said):
    assert status.in_words(seconds) == said


def test_the_command_shows_every_run(made):
    finish(made.own["more", 1], 1.0)
    fail(made.own["plain", 0], "ValueError", "a [bracket] is no markup")
    result = CliRunner().invoke(app, ["status", str(made.sweep.path), "--once"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.stderr
    assert "1 done, 1 failed, 2 waiting" in result.stdout
    assert "a [bracket] is no markup" in result.stdout
    for job in made.own.values():
        assert job.spec.identity in result.stdout
    assert CliRunner().invoke(app, ["status", "--once"]).exit_code == 1  # no sweep was started here
    work = status.work_folder(made.root, "one", "laptop")
    work.mkdir(parents=True)
    driver.write_plan(made, work, list(made.jobs.values()), driver.Launch(), force=False)
    result = CliRunner().invoke(app, ["status", "--once"], env={"COLUMNS": "200"})
    assert "1 done, 1 failed, 2 waiting" in result.stdout


def test_a_sweep_whose_file_is_gone_or_broken_hides_no_other(made, tmp_path):
    for name in ("one", "gone", "broken"):
        other = plan(files.read(write_sweep(tmp_path / f"{name}.yaml")), None, made.root)
        work = status.work_folder(made.root, name, "laptop")
        work.mkdir(parents=True)
        driver.write_plan(other, work, list(other.jobs.values()), driver.Launch(), force=False)
    (tmp_path / "gone.yaml").unlink()
    (tmp_path / "broken.yaml").write_text("title: alone\n")
    result = CliRunner().invoke(app, ["status", "--once"])
    assert (result.exit_code, result.stdout.count("4 waiting")) == (0, 1)
    broken, gone = result.stderr.splitlines()
    assert f"{tmp_path / 'gone.yaml'} is no longer there" in gone
    assert "broken.yaml: 'source' is missing" in broken
    (tmp_path / "one.yaml").unlink()
    assert CliRunner().invoke(app, ["status", "--once"]).exit_code == 1


# ---------------------------------------------------------------------------------------------------------------------
# Collecting


def test_records_are_copied_once_and_never_over_another_runs(made, tmp_path):
    results = tmp_path / "results"
    for (arm, seed), job in made.own.items():
        finish(job, seed + (arm == "more"))
    other = results / "one" / "more-seed1.json"
    other.parent.mkdir(parents=True)
    other.write_bytes(made.own["plain", 0].record.read_bytes())
    copied = collect.copy(made, results)
    assert sorted(path.name for path in copied.new) == ["more-seed0.json", "plain-seed0.json", "plain-seed1.json"]
    assert copied.kept == (other,)
    assert other.read_bytes() == made.own["plain", 0].record.read_bytes()
    assert collect.copy(made, results).new == ()
    assert collect.copy(made, results, replace=True).new == (other,)
    assert other.read_bytes() == made.own["more", 1].record.read_bytes()
    time.sleep(0.01)
    finish(made.own["more", 0], 5.0)  # made again
    assert [path.name for path in collect.copy(made, results).new] == ["more-seed0.json"]


def test_samples_go_with_a_record_if_they_are_small(made, tmp_path):
    for arm, size in (("plain", collect.MAX_SAMPLES), ("more", collect.MAX_SAMPLES + 1)):
        finish(made.own[arm, 0], 1.0)
        (made.own[arm, 0].folder / "samples.webp").write_bytes(bytes(size))
    collect.copy(made, tmp_path / "results")
    assert [path.name for path in (tmp_path / "results" / "one").glob("*.webp")] == ["plain-seed0.webp"]


def test_samples_of_an_older_record_do_not_stay(made, tmp_path):
    job, folder = made.own["plain", 0], tmp_path / "results" / "one"
    finish(job, 1.0)
    (job.folder / "samples.webp").write_bytes(b"first")
    collect.copy(made, tmp_path / "results")
    finish(job, 2.0)  # made again, and its grid is too large
    (job.folder / "samples.webp").write_bytes(bytes(collect.MAX_SAMPLES + 1))
    collect.copy(made, tmp_path / "results")
    assert [path.name for path in folder.iterdir()] == ["plain-seed0.json"]


def test_other_sizes_have_a_folder_of_their_own(made, tmp_path):
    gpu = plan(made.sweep, "gpu", made.root)
    assert collect.place_of(made, tmp_path) == tmp_path / "one"
    assert collect.place_of(gpu, tmp_path) == tmp_path / "one-gpu"


def test_collect_writes_one_table_and_one_figure(made, tmp_path):
    for (arm, seed), job in made.own.items():
        finish(job, 10 + seed + (arm == "more") * (1 + seed))
    words = ["collect", str(made.sweep.path), "--results", "results", "--out", "out"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    table = pd.read_parquet(tmp_path / "out" / "one.parquet")
    assert table.set_index(["arm", "seed"]).score.to_dict() == {
        ("plain", 0): 10.0, ("plain", 1): 11.0, ("more", 0): 11.0, ("more", 1): 13.0,
    }  # fmt: skip
    assert table.lengths.map(json.loads).tolist() == [[1, 2]] * 4
    assert pd.read_csv(tmp_path / "out" / "one.csv").score.tolist() == table.score.tolist()
    page = (tmp_path / "out" / "one.html").read_text()
    assert "A tiny sweep" in page
    assert "plotly" in page
    assert (tmp_path / "results" / "one" / "more-seed1.json").is_file()
    paired = collect.differences(made, collect.frame(made))
    assert list(paired) == ["more"]
    assert paired["more"].mean == pytest.approx(1.5 / 10.5)


def test_without_the_metric_or_a_record_collecting_is_one_line(made, tmp_path):
    words = ["collect", str(made.sweep.path), "--results", "results"]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    finish(made.own["plain", 0], 1.0)
    write_sweep(made.sweep.path, metric="gap")
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "'gap'" in result.stderr
    assert "score" in result.stderr
    assert (tmp_path / "results" / "one" / "plain-seed0.json").is_file(), "the record is copied all the same"
