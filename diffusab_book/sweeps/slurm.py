"""The Slurm side of a sweep: Snakemake's executor for Slurm, mended, and the jobs that an earlier driver left.

As a module, ``python -m diffusab_book.sweeps.slurm ARGUMENTS`` is Snakemake's own command line, in which the executor
differs in what follows. Each was seen on a real Slurm (22.05) with version 2.8 of the executor; without them a sweep
ends too early, or never.

* A task of an array succeeds only when the first task's output is there: here a task runs its own command and no other.
* sacct is asked for the number that Slurm gives a task of an array later, not for ``12_3``, by which the executor knows
  it: all tasks then have the state of one.
* The state of a job that somebody cancelled is ``CANCELLED by 1000``, which counts as still running.
* A job that was preempted for good, where Slurm cancels and does not requeue, is waited for without end.
* Of long jobs the states are looked up every three minutes only: here always as often as ``--poll`` says.
* How jobs ended that did not end well is written down (:func:`read_ended`), so that the driver knows which run was
  cancelled, which failed by itself, and which was cut off and goes on in another job.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffusab_core.files import DiffusabError

ENDED = "ended.jsonl"
#: Jobs that ended so are not to blame themselves: the run goes on from its checkpoints in another job.
CUT_OFF = ("TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "PREEMPTED")

PATIENCE_S = 20.0  #: A job that Slurm requeues is in the queue again a few seconds after it was preempted.


class SlurmError(DiffusabError, RuntimeError):
    """There is no Slurm here, or it does not answer."""


# ---------------------------------------------------------------------------------------------------------------------
# Before the jobs


def name_jobs(sweep: str, work: Path) -> str:
    """What the names of a sweep's jobs begin with; a sweep of the same name in another store has other jobs."""
    place = hashlib.sha256(str(work.resolve()).encode()).hexdigest()[:8]
    return f"diffusab-{re.sub(r'[^A-Za-z0-9-]', '-', sweep)[:24]}-{place}"


def choose_status_command() -> str:
    """sacct where Slurm keeps accounts, else squeue.

    Raises:
        SlurmError: There is no Slurm on this machine, or it does not answer.
    """
    if shutil.which("sbatch") is None:
        raise SlurmError("--on slurm is for a machine that jobs are submitted from, and there is no sbatch here")
    if (
        shutil.which("sacct")
        and subprocess.run(["sacct", "-n", "-X"], capture_output=True, check=False).returncode == 0
    ):
        return "sacct"
    done = subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SlurmError(f"Slurm does not answer: {done.stderr.strip()}")
    return "squeue"


def list_jobs(name: str) -> list[str] | None:
    """Numbers of the user's jobs in the queue whose name begins so; ``None`` while Slurm does not answer."""
    done = subprocess.run(["squeue", "--me", "-h", "-r", "-o", "%i %j"], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    pairs = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip()]
    return [number for number, job in pairs if job.strip().startswith(f"{name}_")]


def wait_for_earlier(name: str, say: Callable[[str], None], poll_s: float = 5.0) -> None:
    """Wait for the jobs of a driver that was killed: they run on without it, and nothing is to run twice."""
    said = None
    while (jobs := list_jobs(name)) != []:
        if jobs is None:
            words = "Slurm does not answer; asking again"
        else:
            some = " ".join(jobs[:6]) + (" ..." if len(jobs) > 6 else "")
            words = f"waiting for {len(jobs)} jobs of an earlier call that are in Slurm's queue ({some})"
        if words != said:
            say(words)
        said = words
        time.sleep(poll_s)


# ---------------------------------------------------------------------------------------------------------------------
# After the jobs


def read_ended(work: Path) -> dict[str, dict[str, str]]:
    """How the jobs of runs ended that did not end well, by run: ``state``, ``job``, ``log``; of each run the last."""
    try:
        lines = (work / ENDED).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {found["run"]: found for found in map(json.loads, lines)}


def in_words(end: Mapping[str, str], said: str) -> tuple[str, str]:
    """How a run ended, and the rest of the sentence; ``said`` is what the run itself said last."""
    job = f"Slurm's job {end['job']}"
    state = end["state"]
    if state == "CANCELLED":
        return "cancelled", job
    if state == "NOT SUBMITTED":
        return "not submitted", end["said"] or "sbatch failed"
    if state == "OUT_OF_MEMORY":
        return "failed", f"out of memory, {job}; ask for more with --mem"
    if state in CUT_OFF:
        return "cut off", f"{state.lower().replace('_', ' ')}, {job}; the same command goes on with it"
    return "failed", said or f"{state.lower()}, {job}"


# ---------------------------------------------------------------------------------------------------------------------
# The executor


def mend(plugin: Any) -> None:
    """Mend the executor's module, as this module's docstring says."""
    executor = plugin.Executor
    since: dict[str, float] = {}  # when a job was first seen as preempted
    ask, ask_sacct, report = plugin.query_job_status, plugin.query_job_status_sacct, executor.report_job_error

    async def read_states(command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await ask(command, logger)
        for number, state in (states or {}).items():
            states[number] = state.partition(" ")[0]
            if states[number] != "PREEMPTED":
                since.pop(number, None)
            elif time.monotonic() - since.setdefault(number, time.monotonic()) > PATIENCE_S and not _is_queued(number):
                states[number] = "ERROR"
        return states, seconds

    def report_and_write(self: Any, job_info: Any, msg: str | None = None, **more: Any) -> None:
        number = job_info.external_jobid or ""
        found = re.search(r"SLURM status is: '(\w+)'", msg or "")
        state = "PREEMPTED" if number in since else found[1] if found else "NOT SUBMITTED"
        log = (job_info.aux or {}).get("slurm_logfile", "")
        said = " ".join((msg or "").split())[:300] if state == "NOT SUBMITTED" else ""
        line = {"run": job_info.job.wildcards.run, "state": state, "job": number, "log": str(log), "said": said}
        with open(ENDED, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        report(self, job_info, msg=msg, **more)

    def run_array_jobs(self: Any, jobs: list[Any]) -> None:
        size = self.max_array_size
        for start in range(0, len(jobs), size):
            _submit_array(plugin, self, jobs[start : start + size])

    plugin.query_job_status = read_states
    plugin.query_job_status_sacct = lambda name: ask_sacct(name).replace("JobIdRaw", "JobID")
    executor.report_job_error = report_and_write
    executor.next_seconds_between_status_checks = property(
        lambda self: self.workflow.executor_settings.init_seconds_before_status_checks, lambda self, seconds: None
    )
    executor.run_array_jobs = run_array_jobs


def _is_queued(number: str) -> bool:
    """Whether a job is in the queue; also when Slurm does not answer."""
    done = subprocess.run(["squeue", "-h", "-j", number], capture_output=True, text=True, check=False)
    return bool(done.stdout.strip()) or (done.returncode != 0 and "Invalid job id" not in done.stderr)


def _submit_array(plugin: Any, executor: Any, jobs: list[Any]) -> None:
    """Submit jobs that ask for the same as one array, whose script has a command for each task."""
    logs = executor.slurm_logdir
    logs.mkdir(parents=True, exist_ok=True)
    asked = {
        "run_uuid": executor.run_uuid, "slurm_logfile": logs / "%A_%a.log", "comment_str": f"rule_{jobs[0].name}",
        "account": next(executor.get_account_arg(jobs[0])), "partition": executor.get_partition_arg(jobs[0]),
        "workdir": executor.workflow.workdir_init,
    }  # fmt: skip
    settings = executor.workflow.executor_settings
    words = plugin.get_submit_command(jobs[0], asked, settings=settings, failed_nodes=executor._failed_nodes)
    words += f"{plugin.set_gres_string(jobs[0])} --array=1-{len(jobs)} /dev/stdin"
    cases = [f"{i}) {executor.format_job_exec(job)} ;;" for i, job in enumerate(jobs, start=1)]
    script = "\n".join(["#!/bin/sh", 'case "$SLURM_ARRAY_TASK_ID" in', *cases, "esac", ""])
    done = subprocess.run(words, shell=True, input=script, capture_output=True, text=True, check=False)
    number = done.stdout.strip().partition(";")[0]
    if done.returncode or not number.isdigit():
        for job in jobs:
            executor._report_job_error_threadsafe(plugin.SubmittedJobInfo(job), f"sbatch: {done.stderr.strip()}")
        return
    executor.logger.info(f"Submitted {len(jobs)} runs as Slurm's array {number}.")
    for i, job in enumerate(jobs, start=1):
        task = plugin.SubmittedJobInfo(
            job, external_jobid=f"{number}_{i}", aux={"slurm_logfile": logs / f"{number}_{i}.log"}
        )
        executor._report_job_submission_threadsafe(task)


if __name__ == "__main__":
    import snakemake_executor_plugin_slurm
    from snakemake.cli import main

    mend(snakemake_executor_plugin_slurm)
    main(sys.argv[1:])
