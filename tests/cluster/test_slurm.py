"""Sweeps on a real Slurm: what fails, is preempted, is cancelled, and what is killed in the middle.

The order counts: each test goes on where the one before left the store, so that the cluster and the runs are shared.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from slurm_cluster import Cluster, wait_until

from diffusab_core.experiments import records

#: Says in GATE when it starts and each step it does, and waits where it is told until somebody opens the gate.
TINY = """# %% [markdown]
# # A tiny run

# %% tags=["parameters"]
size: str = "laptop"
seed: int = 0
steps: int = 4
what: str = "quick"
source: str = ""
device: str = "auto"
workers: int = 0
folder: str = ""

# %%
import os, time
from pathlib import Path
from diffusab_book import chapters, runs
run = chapters.start("tiny", globals(), data="none")
here = runs.place(source, run.folder)
gate = Path(os.environ["GATE"])
job = os.environ.get("SLURM_ARRAY_JOB_ID", "") + "_" + os.environ.get("SLURM_ARRAY_TASK_ID", "")
def say(file, *words):
    with open(gate / file, "a") as out:
        print(what, *words, round(time.time(), 1), file=out)
say("executions", job if len(job) > 1 else os.environ.get("SLURM_JOB_ID", "here"))

# %%
checkpoint = run.folder / "step"
done = int(checkpoint.read_text()) if checkpoint.exists() else 0
value = seed + 0.25 * done
for step in range(done, steps):
    if what == "fails" and step == 2 and not (gate / "mended").exists():
        raise ValueError(f"no step {step} for seed {seed}")
    while what in ("preempted", "cancelled") and step == 2 and not (gate / f"open-{what}").exists():
        time.sleep(0.1)
    time.sleep(0.5)
    value += 0.25
    say("steps", step)
    checkpoint.write_text(str(step + 1))

# %%
run.metrics["value"] = value
run.notes = f"after {source}" if source else ""
chapters.finish(run)
"""

SWEEP = """
title: Six small runs
source: made up for this test
notebook: tiny
metric: value
better: lower
margin: 0.05
control: quick
size: smoke
seeds: [3]
arms:
  quick: {what: quick}
  slow: {what: slow, steps: 6}
  fails: {what: fails}
  preempted: {what: preempted}
  cancelled: {what: cancelled}
  after: {what: after, source: {sweep: tiny, arm: quick}}
"""
ARMS = ["quick", "slow", "fails", "preempted", "cancelled", "after"]


class Bench:
    """A folder with the notebook and the sweep, and what has happened in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.gate = folder, folder / "gate"
        self.gate.mkdir()
        presets = folder / "notebooks" / "presets" / "runs" / "tiny"
        presets.mkdir(parents=True)
        (folder / "notebooks" / "runs").mkdir()
        (folder / "notebooks" / "runs" / "tiny.py").write_text(TINY)
        (presets / "smoke.yaml").write_text("size: smoke\n")
        (presets / "laptop.yaml").write_text("size: laptop\n")
        (folder / "tiny.yaml").write_text(SWEEP)
        self.environment = environment | {"GATE": str(self.gate), "DIFFUSAB_NOTEBOOKS": str(folder / "notebooks")}
        self.drivers: list[subprocess.Popen] = []
        self.marks: list[tuple[str, float]] = []

    def sweep(self, *words: str) -> subprocess.Popen:
        """Start a driver; what it says is in ``self.said()``."""
        self.log = self.folder / f"call-{len(self.drivers) + 1}.log"
        command = [sys.executable, "-m", "diffusab_book", "sweep", "tiny.yaml", *words]
        with self.log.open("wb") as log:
            driver = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.drivers.append(driver)
        return driver

    def end(self, driver: subprocess.Popen, seconds: float) -> int:
        """The driver's exit status."""
        wait_until(lambda: driver.poll() is not None, seconds, self.story)
        return driver.returncode

    def story(self) -> str:
        """What the driver and its Snakemake said, for a failed test's message."""
        logs = [self.log, *self.folder.glob("*/.sweeps/*/snakemake.log")]
        return "\n".join(f"--- {log.name}\n{log.read_text()[-4000:]}" for log in logs)

    def close(self) -> None:
        for driver in self.drivers:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()

    def said(self) -> str:
        return self.log.read_text()

    def lines(self, file: str) -> list[list[str]]:
        path = self.gate / file
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def executions(self) -> dict[str, int]:
        """How often each run has started."""
        names = [words[0] for words in self.lines("executions")]
        return {name: names.count(name) for name in sorted(set(names))}

    def mark(self, what: str) -> None:
        """Remember when something was done to the runs."""
        self.marks.append((what, time.time()))

    def steps(self, what: str) -> list[str]:
        return [words[1] for words in self.lines("steps") if words[0] == what]

    def wait_for(self, what: str, times: int = 1, seconds: float = 150) -> str:
        """Wait until a run has started so often; the number of its Slurm job."""
        found = lambda: [words for words in self.lines("executions") if words[0] == what][times - 1 :]  # noqa: E731
        return wait_until(found, seconds, lambda: f"start {times} of {what}\n{self.story()}")[0][1]

    def record(self, path: Path, cluster: Cluster) -> None:
        """Write what Slurm's accounting says of each job, and when each step was done, for chapter 21's picture."""
        runs = {words[1]: words[0] for words in self.lines("executions")}
        rows = cluster.call("sacct", "-D", "-X", "-n", "-P", "--format=JobID,State,Start,End").splitlines()
        jobs = [row.split("|") for row in rows if row.split("|")[0] in runs]
        seconds = lambda text: datetime.fromisoformat(text).timestamp()  # noqa: E731
        zero = min(seconds(start) for *_, start, _ in jobs)
        bars = [
            {"run": runs[job], "job": job, "state": state.split()[0], "start_s": seconds(start) - zero,
             "end_s": seconds(end) - zero}
            for job, state, start, end in jobs
        ]  # fmt: skip
        steps = [
            {"run": run, "step": int(step), "at_s": round(float(at) - zero, 1)} for run, step, at in self.lines("steps")
        ]
        marks = [{"what": what, "at_s": round(at - zero, 1)} for what, at in self.marks]
        version = cluster.call("sinfo", "--version").strip()
        story = {"slurm": version, "jobs": bars, "steps": steps, "marks": marks}
        path.write_text(json.dumps(story, indent=1) + "\n")

    def found(self, root: str) -> dict[str, records.RunRecord]:
        paths = (self.folder / root / "tiny").glob("*/record.json")
        return {record.parameters["what"]: record for record in map(records.read, paths)}


SLURM = ["--on", "slurm", "--root", "store", "--poll", "3", "--jobs", "20"]
ASKED = {"partition": "low", "account": "research", "qos": "normal", "constraint": "small|big", "time": "0:09:30"}
ASKED |= {"mem": "400M", "gpus": "1"}


@pytest.fixture(scope="module")
def bench(cluster, tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("bench"), cluster.environment)
    yield made
    made.close()


def test_one_fails_one_is_preempted_one_is_cancelled(bench, cluster):
    driver = bench.sweep(*SLURM, *(word for name, value in ASKED.items() for word in (f"--{name}", value)))
    jobs = {what: bench.wait_for(what) for what in ("preempted", "cancelled", "fails")}
    about = cluster.call("scontrol", "show", "job", jobs["preempted"])
    for said in ("Partition=low", "Account=research", "QOS=normal", "Features=small|big", "TimeLimit=00:10:00"):
        assert said in about, about
    assert "Requeue=1" in about
    assert re.search(r"TRES=.*mem=400M.*gres/gpu=1", about), about
    assert all("_" in job for job in jobs.values()), "an array"
    wait_until(lambda: len(bench.steps("cancelled")) == 2, 30, bench.story)
    time.sleep(1)  # its second checkpoint is written, and it waits
    bench.mark("scancel")
    cluster.call("scancel", jobs["cancelled"])
    bench.wait_for("slow")
    # Until only one is left, which a job of the other partition then pushes out.
    wait_until(lambda: cluster.states()[jobs["fails"]] == "FAILED", 30, cluster.states)
    wait_until(lambda: {"quick", "slow", "after"} <= bench.found("store").keys(), 150, bench.story)
    wait_until(lambda: len(cluster.call("squeue", "-h", "-r").splitlines()) == 1, 30, "one job in the queue")
    bench.mark("job of higher priority")
    pushing = cluster.call(
        "sbatch", "--parsable", "-p", "high", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "true"
    )
    wait_until(lambda: cluster.states().get(pushing.strip()) == "COMPLETED", 60, "the job that pushes another out")
    cluster.start_now(jobs["preempted"])
    bench.wait_for("preempted", times=2)
    bench.mark("kill -9 slurmctld")
    cluster.kill("slurmctld")
    (bench.gate / "open-preempted").touch()
    wait_until(lambda: "3" in bench.steps("preempted"), 30, "the run goes on without slurmctld")
    cluster.start_controller()
    assert bench.end(driver, 150) == 1, bench.story()

    said = bench.said()
    assert re.search(r"failed: fails-seed3: .*no step 2 for seed 3", said), said
    assert re.search(r"cancelled: cancelled-seed3", said), said
    assert "failed: preempted" not in said
    for arm in ("fails", "cancelled"):
        log = re.search(rf"{arm}-seed3: .*log: (\S+?)\)", said)
        assert log, f"{arm}: where its log is; {said}"
        assert Path(bench.folder, log[1]).is_file()
    assert sorted(bench.found("store")) == ["after", "preempted", "quick", "slow"]
    assert bench.executions() == {"after": 1, "cancelled": 1, "fails": 1, "preempted": 2, "quick": 1, "slow": 1}
    assert bench.steps("preempted") == ["0", "1", "2", "3"], "the second job went on from the first one's checkpoint"


def test_the_driver_is_killed_and_the_same_command_goes_on(bench, cluster):
    (bench.gate / "mended").touch()
    bench.mark("called again")
    driver = bench.sweep(*SLURM)
    job = bench.wait_for("cancelled", times=2)
    wait_until(lambda: "fails" in bench.found("store"), 120, "the run that is mended")
    bench.mark("kill -9 driver")
    os.killpg(driver.pid, signal.SIGKILL)  # with the Snakemake that it started, as when the machine goes down
    driver.wait()
    again = bench.sweep(*SLURM)
    wait_until(lambda: "an earlier call" in bench.said(), 30, bench.story)
    assert cluster.states()[job] == "RUNNING"
    (bench.gate / "open-cancelled").touch()
    assert bench.end(again, 150) == 0, bench.story()
    assert sorted(bench.found("store")) == sorted(ARMS)
    assert bench.executions() == {"after": 1, "cancelled": 2, "fails": 2, "preempted": 2, "quick": 1, "slow": 1}
    begun = time.monotonic()
    assert bench.end(bench.sweep(*SLURM), 30) == 0, bench.said()
    assert time.monotonic() - begun < 5
    assert not cluster.call("squeue", "-h").strip()
    assert bench.steps("cancelled") == ["0", "1", "2", "3"]
    if path := os.environ.get("DIFFUSAB_SLURM_RECORD"):
        bench.record(Path(path), cluster)


def test_records_are_those_of_this_machine(bench):
    """Up to when, where and how long."""
    before = bench.executions()
    assert bench.end(bench.sweep("--on", "local", "--root", "here", "--jobs", "2"), 240) == 0, bench.story()
    assert bench.executions() == {name: count + 1 for name, count in before.items()}
    left_out = {"started", "wall_time_s", "device"}
    there, here = (
        {arm: record.model_dump(exclude=left_out) for arm, record in bench.found(root).items()}
        for root in ("store", "here")
    )
    assert there == here
    assert len(here) == len(ARMS)


STEPS = 120
TWO_NODES = f"""
title: A denoiser trained on two nodes
source: made up for this test
notebook: denoiser
metric: best_gap_offline
better: lower
margin: 0.05
control: plain
size: smoke
seeds: [0]
arms:
  plain: {{}}
sizes:
  smoke: {{parameters: {{steps: {STEPS}, checkpoint_every: 20, shifts: [1.0], snapshots: 1}}}}
"""


def test_torchrun_on_two_nodes_goes_on_after_a_requeue(cluster, tmp_path):
    """With the numbers of a training that nobody interrupted, by as many processes on this machine."""
    (tmp_path / "two.yaml").write_text(TWO_NODES)
    log, command = tmp_path / "log", [sys.executable, "-m", "diffusab_book"]

    def kept() -> list[int]:
        """The steps of the checkpoints that are there."""
        found = tmp_path.glob("store/denoiser/*/**/step_*")
        return [int(path.name.removeprefix("step_")) for path in found if path.suffix != ".tmp"]

    def story() -> str:
        logs = [log, *tmp_path.glob("store/**/*.log"), *tmp_path.glob("store/*/*/log.txt")]
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in logs)

    with log.open("wb") as out:
        driver = subprocess.Popen(
            [*command, "sweep", "two.yaml", *SLURM, "--nodes", "2", "--time", "10"],
            cwd=tmp_path, env=cluster.environment, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(kept, 150, story)
        job, nodes = cluster.call("squeue", "-h", "-o", "%i %D").split()
        assert nodes == "2"
        cluster.call("scontrol", "requeue", job)
        begun = max(kept())
        cluster.start_now(job)
        wait_until(lambda: driver.poll() is not None, 240, story)
        assert driver.returncode == 0, story()
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
    (there,) = tmp_path.glob("store/denoiser/*/record.json")
    assert 0 < begun < STEPS, "it was requeued in the middle"
    said = (there.parent / "log.txt").read_text(errors="replace")  # two nodes write into it
    assert said.count("=== process") == 2
    words = shlex.split(re.search(r"diffusab (run .*)", said)[1])
    words += ["--root", "here", "--nproc", "2"]
    subprocess.run([*command, *words], cwd=tmp_path, env=cluster.environment, check=True, timeout=300)
    here = tmp_path / "here" / "denoiser" / there.parent.name / "record.json"
    left_out = {"started", "wall_time_s", "device"}
    one, other = (records.read(path).model_dump(exclude=left_out) for path in (there, here))
    for record in (one, other):
        record["metrics"] = {n: v for n, v in record["metrics"].items() if not n.endswith("_s")}
    assert one == other
