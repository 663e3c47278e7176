"""The driver: a sweep that is killed, has a failure, goes on, and does nothing when all is done."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_sweeps import write_notebooks, write_sweep
from typer.testing import CliRunner

from diffusab_book import chapters
from diffusab_book.cli import app
from diffusab_book.sweeps import driver, files, status
from diffusab_book.sweeps.driver import Launch, megabytes, minutes
from diffusab_book.sweeps.plan import plan
from diffusab_core.experiments import records
from diffusab_core.files import SettingsError

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Four runs: the driver is killed in the first; then one fails, which another needs; then that is mended."""
    folder = tmp_path_factory.mktemp("story")
    notebooks = write_notebooks(folder / "notebooks")
    mended = folder / "mended"
    write_sweep(folder / "first.yaml", seeds=[0], arms={"plain": {"pause_s": 2.0, "steps": 9}})
    path = write_sweep(
        folder / "one.yaml", seeds=[0],
        arms={"plain": {"source": {"sweep": "first", "arm": "plain"}}, "bad": {"needs": str(mended), "steps": 8},
              "needy": {"source": {"sweep": "one", "arm": "bad"}}},
    )  # fmt: skip
    sweep = plan(files.read(path, folder), None, folder / "runs", notebooks=notebooks)
    environment = os.environ | {"DIFFUSAB_NOTEBOOKS": str(notebooks), "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-m", "diffusab_book", "sweep", str(path), "--jobs", "1", "--results", "results"]
    options = {"cwd": folder, "env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}

    def executions():
        return {job.names[0][:2]: len((job.folder / "executions").read_text())
                for job in sweep.jobs.values() if (job.folder / "executions").is_file()}  # fmt: skip

    killed = subprocess.Popen(words, **options)
    deadline = time.monotonic() + 60
    while not executions():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    killed.kill()
    killed.communicate()
    found = SimpleNamespace(folder=folder, plan=sweep, killed=executions())
    found.second = subprocess.run(words, timeout=100, **options)
    found.after_second, found.states = executions(), [state.kind for state in status.look(sweep)]
    mended.touch()
    found.third = subprocess.run(words, timeout=100, **options)
    found.after_third = executions()
    log = status.work_folder(folder / "runs", "one", "laptop") / "snakemake.log"
    size, start = log.stat().st_size, time.perf_counter()
    found.fourth = subprocess.run(words, timeout=100, **options)
    found.fourth_s, found.snakemake_again = time.perf_counter() - start, log.stat().st_size > size
    found.after_fourth = executions()
    return found


def test_a_killed_driver_runs_nothing_twice(story):
    assert story.killed == {("first", "plain"): 1}
    assert story.after_second[("first", "plain")] == 1
    assert story.after_fourth == {
        ("first", "plain"): 1, ("one", "plain"): 1, ("one", "bad"): 2, ("one", "needy"): 1,
    }  # fmt: skip


def test_a_record_that_came_in_between_stays(tmp_path, small, monkeypatch):
    """Whoever made it: Snakemake removes what its rules write before it starts them."""
    made = plan(files.read(small), None, "runs", seeds=[0], arms=["plain"])
    (job,) = made.own.values()
    monkeypatch.setattr(driver, "_start", lambda *args: (finish(job), start(*args))[1])
    driver.run(made, Launch(), say=lambda _: None)
    assert records.read(job.record).metrics == {"score": -1.0}
    assert not (job.folder / "executions").exists()


def test_a_failure_stops_only_what_needs_it(story):
    assert story.second.returncode == 1
    assert story.states == ["done", "done", "failed", "waiting"]
    said = story.second.stdout
    log = status.log_of(story.plan, story.plan.own["bad", 0])
    assert f"failed: bad-seed0: ValueError: there is no {story.folder / 'mended'}" in said
    assert str(log) in said
    assert "ValueError" in log.read_text()
    assert "not started: needy-seed0: bad-seed0 is missing" in said
    assert "2 of 4 runs are missing" in said


def test_the_next_call_makes_what_is_missing_and_the_one_after_that_nothing(story):
    assert (story.third.returncode, story.fourth.returncode) == (0, 0), story.third.stdout
    assert story.after_third == story.after_fourth
    assert story.fourth.stdout.strip() == "one: 4 runs, all done"
    assert not story.snakemake_again
    assert story.fourth_s < 5


def test_records_are_copied_as_they_come(story):
    folder = story.folder / "results" / "one"
    assert {path.name for path in folder.iterdir()} == {f"{arm}-seed0.json" for arm in ("plain", "bad", "needy")}
    for (arm, seed), job in story.plan.own.items():
        copied = folder / f"{arm}-seed{seed}.json"
        assert copied.read_bytes() == job.record.read_bytes()
        assert records.read(copied).identity == job.spec.identity
    needy = records.read(folder / "needy-seed0.json")
    assert needy.parameters["source"] == story.plan.own["bad", 0].spec.reference  # and no path


def test_nothing_of_the_driver_is_left_running(story):
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(story.folder).encode() not in process.read_bytes(), process
        except OSError:
            continue


def test_interrupting_it_stops_its_runs(tmp_path):
    notebooks = write_notebooks(tmp_path / "notebooks")
    path = write_sweep(tmp_path / "one.yaml", seeds=[0], arms={"plain": {"pause_s": 300.0}})
    made = plan(files.read(path, tmp_path), None, tmp_path / "runs", notebooks=notebooks)
    environment = os.environ | {"DIFFUSAB_NOTEBOOKS": str(notebooks), "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-m", "diffusab_book", "sweep", str(path), "--results", "results"],
        cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    job = made.own["plain", 0]
    deadline = time.monotonic() + 60
    while not (job.folder / "executions").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert status.state_of(made, job).kind == "running"
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert status.state_of(made, job).kind == "cut off"


# ---------------------------------------------------------------------------------------------------------------------
# Pieces

start = driver._start


def finish(job):
    """A record of the run, that nothing but this test makes."""
    run = records.start(
        "tiny", parameters={}, seed=0, size="laptop", data="none", run_identity=job.spec.identity
    )  # fmt: skip
    run.metrics["score"] = -1.0
    run.finish().write(job.record)


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSAB_NOTEBOOKS", str(write_notebooks(tmp_path / "notebooks")))
    monkeypatch.chdir(tmp_path)
    return write_sweep(tmp_path / "one.yaml")


@pytest.mark.parametrize(
    ("text", "found"),
    [("90", 90), ("2:30", 3), ("1:00:00", 60), ("1-0", 1440), ("2-3:30", 3090), ("1-02:03:04", 1564), (None, None)],
)
def test_times_are_slurms(text, found):
    assert minutes(text) == found


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "0", "x-3", "-5"])
def test_a_time_that_is_none(text):
    with pytest.raises(SettingsError, match=f"time is {text!r}"):
        minutes(text)


def test_memory_is_slurms():
    assert [megabytes(text) for text in ("500", "500M", "2G", "1t", "1024K", "3GB")] == [500, 500, 2048, 2**20, 1, 3072]
    for text in ("much", "0", "1.5G"):
        with pytest.raises(SettingsError, match=text):
            megabytes(text)


@pytest.mark.parametrize(
    "options", [["--on", "moon"], ["--gpus", "2"], ["--jobs", "0"], ["--partition", "big"], ["--device", "gpu"]]
)
def test_options_that_do_not_fit_are_one_line(small, options):
    result = CliRunner().invoke(app, ["sweep", str(small), *options])
    assert result.exit_code == 1
    assert options[-1] in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_a_run_asks_of_slurm(small):
    asked = Launch("slurm", gpus=4, nodes=2, time="1-0", mem="2G", partition="big", account="us", qos="low", cpus=3)
    found = driver.resources(asked)
    assert found == {
        "slurm_partition": "big", "slurm_account": "us", "qos": "low", "runtime": 1440, "mem_mb": 2048,
        "cpus_per_task": 3, "gres": "gpu:4", "nodes": 2, "tasks": 2, "mpi": "srun", "tasks_per_gpu": 0,
        "slurm_extra": "--ntasks-per-node=1",
    }  # fmt: skip
    assert driver.resources(Launch()) == {}
    assert driver.resources(Launch("slurm")) == {"cpus_per_task": 1, "mem_mb": 0}


def test_a_run_that_trains_in_one_process_takes_one_gpu_of_one_node(small, tmp_path, monkeypatch):
    made = plan(files.read(small), None, "store dir")
    jobs, asked = list(made.jobs.values()), Launch("slurm", gpus=4, nodes=2)
    (alone,) = driver.write_plan(made, tmp_path, jobs, asked, force=False)["resources"]
    assert alone == {"cpus_per_task": 1, "mem_mb": 0, "gres": "gpu:1"}
    assert "--nproc" not in driver.command(made, jobs[0], asked, force=False)
    monkeypatch.setitem(driver.runs.TRAINERS, jobs[0].spec.notebook, "module:name")
    (many,) = driver.write_plan(made, tmp_path, jobs, asked, force=False)["resources"]
    assert (many["gres"], many["nodes"]) == ("gpu:4", 2)
    assert "--nproc 4" in driver.command(made, jobs[0], asked, force=False)


def test_a_run_that_slurm_cut_off_goes_on_if_it_got_further(small, tmp_path):
    made = plan(files.read(small), None, tmp_path / "store")
    first, second, third = list(made.jobs.values())[:3]

    def tell(step: int) -> None:
        logs = first.folder / "training" / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        (logs / "progress.json").write_text(json.dumps({"step": step, "first": 0, "seconds": 1.0}))

    def end(job, state: str) -> str:
        return json.dumps({"run": job.run, "state": state, "job": "1", "log": "", "said": ""}) + "\n"

    tell(2)
    steps = status.steps_of([first, second, third])
    (tmp_path / driver.slurm.ENDED).write_text(end(first, "TIMEOUT") + end(second, "FAILED"))
    assert driver._cut_off([first, second, third], steps, tmp_path) == []
    tell(5)
    assert driver._cut_off([first, second, third], steps, tmp_path) == [first, third], "the third waited for another"
    (tmp_path / driver.slurm.ENDED).write_text(end(first, "CANCELLED"))
    assert driver._cut_off([first, second, third], steps, tmp_path) == []


def test_each_run_is_one_diffusab_run(small):
    made = plan(files.read(small), None, "store dir")
    job = made.own["more", 1]
    command = driver.command(made, job, Launch(workers=2, device="cpu"), force=False)
    words = shlex.split(command[command.index("(") + 1 : command.index(") >>")])[4:]  # cd HERE && exec
    there = ["--root", str(Path("store dir").absolute()), "-p", "device", "cpu", "-p", "workers", "2"]
    assert words == [sys.executable, "-m", "diffusab_book", "run", *job.spec.arguments(), *there]
    result = CliRunner().invoke(app, [*words[3:], "--dry-run"])
    assert result.stdout.startswith(job.spec.identity)


def test_a_run_that_is_made_again_begins_anew_once(small, monkeypatch):
    """What is tried again, or comes back into Slurm's queue, goes on with what the first try has done."""
    made = plan(files.read(small), None, "store dir")
    job, work = made.own["more", 1], status.work_folder(made.root, made.sweep.name, made.size)
    python = Path("python")
    python.write_text('#!/bin/sh\necho "$@"\nexit 3\n')
    python.chmod(0o755)
    monkeypatch.setattr(driver.sys, "executable", str(python.absolute()))
    for _ in range(2):
        told = driver.write_plan(made, work, [job], Launch(), force=True)
        (work / "logs").mkdir(exist_ok=True)
        for again in (False, True):
            words = ["bash", "-euo", "pipefail", "-c", told["jobs"][0]["command"]]
            assert subprocess.run(words, check=False).returncode == 3
            last = status.log_of(made, job).read_text().splitlines()[-1]
            assert last.startswith("-m diffusab_book run tiny")
            assert last.endswith("--force") is not again


def test_longer_runs_come_first(small):
    write_sweep(small, arms={"plain": {}, "long": {"steps": 50}, "more": {"rate": 1.5}}, seeds=[0])
    made = plan(files.read(small), None, "runs")
    told = driver.write_plan(made, small.parent, list(made.jobs.values()), Launch(), force=False)
    assert told == json.loads((small.parent / "plan.json").read_text())
    assert [job["run"] for job in told["jobs"]] == [made.own[arm, 0].run for arm in ("long", "plain", "more")]
    assert told["groups"] == [[job["run"]] for job in told["jobs"]]
    told = driver.write_plan(made, small.parent, list(made.jobs.values()), Launch("slurm"), force=False)
    assert len(told["groups"]) == 1


def test_a_dry_run_lists_runs_and_says_what_was_not_measured(small):
    result = CliRunner().invoke(app, ["sweep", str(small), "--dry-run", "--results", "results"])
    assert result.exit_code == 0, result.stderr
    made = plan(files.read(small), None, "runs")
    for (arm, seed), job in made.own.items():
        assert f"{arm}-seed{seed}" in result.stdout
        assert job.spec.identity in result.stdout
    assert "4 runs, 0 done, 4 to make: not measured; disk: not measured" in result.stdout
    record = {"experiment": "tiny", "size": "laptop", "wall_time_s": 1800.0, "parameters": {"steps": 4}}
    Path("results").mkdir()
    Path("results/x.json").write_text(json.dumps(record))
    result = CliRunner().invoke(app, ["sweep", str(small), "--dry-run", "--results", "results"])
    assert "4 to make: 2.0 h of computing; disk: not measured" in result.stdout
    assert not Path("runs").exists()


def test_a_dry_run_says_what_runs_ask_of_slurm(small):
    words = ["sweep", str(small), "--dry-run", "--results", "results", "--on", "slurm", "--gpus", "4", "--nodes", "2"]
    result = CliRunner().invoke(app, words)
    assert result.stdout.splitlines()[-1] == "each run of tiny asks Slurm for cpus_per_task=1, mem_mb=0, gres=gpu:1"


def test_only_one_driver_has_a_sweep(small, monkeypatch):
    made = plan(files.read(small), None, "runs")
    lock = status.work_folder(made.root, "one", "laptop") / "lock"
    lock.parent.mkdir(parents=True)
    monkeypatch.setattr(driver, "PATIENCE_S", 0.1)
    with driver._alone(lock, made), pytest.raises(files.SweepError, match=f"process {os.getpid()}"):
        driver.run(made, Launch(), say=lambda _: None)


def test_snakemake_that_cannot_start_is_one_line(small, monkeypatch):
    made = plan(files.read(small), None, "runs")
    monkeypatch.setattr(driver, "SNAKEFILE", Path("nowhere/Snakefile"))
    with pytest.raises(driver.SweepFailed, match="before a run began"):
        driver.run(made, Launch(), say=lambda _: None)


def test_a_sweep_that_is_done_needs_no_torch():
    heavy = "{'torch', 'pandas', 'plotly', 'papermill', 'jupytext'}"
    code = f"import sys, diffusab_book.cli.sweeps; print(sorted({heavy} & {{*sys.modules}}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_snakefile_is_part_of_the_package():
    assert driver.SNAKEFILE.is_file()
    assert driver.SNAKEFILE.parent == Path(chapters.__file__).parent / "sweeps"
