"""What Slurm's answers mean, without a Slurm; tests/cluster has a real one."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as plugin

from diffusab_book.sweeps import slurm


class Executor(plugin.Executor):
    """With nothing behind it but what it reports."""

    def __init__(self, folder):
        self.reported = []
        self.slurm_logdir, self.run_uuid, self.max_array_size, self._failed_nodes = folder, "name_1", 2, set()
        settings = SimpleNamespace(requeue=True, no_requeue=False, qos=None, reservation=None)
        self.workflow = SimpleNamespace(executor_settings=settings, workdir_init=folder)
        self.logger = logging.getLogger("executor")

    def get_account_arg(self, job):
        yield ""

    def get_partition_arg(self, job):
        return ""

    def format_job_exec(self, job):
        return f"echo {job.name}"

    def _report_job_submission_threadsafe(self, job_info):
        self.reported.append((job_info.job.name, job_info.external_jobid))

    def _report_job_error_threadsafe(self, job_info, msg):
        self.reported.append((job_info.job.name, msg))


@pytest.fixture
def mended(monkeypatch):
    """The executor's module, mended for one test."""
    for name in ("query_job_status", "query_job_status_sacct"):
        monkeypatch.setattr(plugin, name, getattr(plugin, name))
    for name in ("report_job_error", "run_array_jobs"):
        monkeypatch.setattr(plugin.Executor, name, getattr(plugin.Executor, name))
    monkeypatch.setattr(plugin.Executor, "next_seconds_between_status_checks", None, raising=False)
    slurm.mend(plugin)
    return plugin


def read_states(module, tmp_path, text: str) -> dict[str, str]:
    (tmp_path / "answer").write_text(text)
    question = module.query_job_status(f"cat {tmp_path / 'answer'}", logging.getLogger("states"))
    with ThreadPoolExecutor(1) as thread:  # the browser's tests leave a loop that runs in this one
        return thread.submit(asyncio.run, question).result()[0]


def test_states_have_one_word_and_tasks_their_own(mended, tmp_path):
    text = "3_1|CANCELLED by 1000\n3_2|COMPLETED\n4|RUNNING\n"
    assert read_states(mended, tmp_path, text) == {"3_1": "CANCELLED", "3_2": "COMPLETED", "4": "RUNNING"}
    asked = mended.query_job_status_sacct("name")
    assert "--format=JobID,State" in asked


@pytest.mark.parametrize("queued", [True, False])
def test_a_preempted_job_is_waited_for_while_it_is_in_the_queue(mended, tmp_path, monkeypatch, queued):
    monkeypatch.setattr(slurm, "PATIENCE_S", -1.0)
    monkeypatch.setattr(slurm, "_is_queued", lambda number: queued)
    assert read_states(mended, tmp_path, "7|PREEMPTED\n") == {"7": "PREEMPTED" if queued else "ERROR"}


def test_a_task_of_an_array_runs_its_own_command(mended, tmp_path, monkeypatch):
    """As sh reads the script that sbatch gets; an array has as many tasks as Slurm allows."""
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nSLURM_ARRAY_TASK_ID=2 sh >> {tmp_path}/out\necho 12\n'
    )
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    jobs = [SimpleNamespace(name=name, resources={}, threads=1, is_group=lambda: False) for name in "abc"]
    executor = Executor(tmp_path)
    executor.run_array_jobs(jobs)
    assert executor.reported == [("a", "12_1"), ("b", "12_2"), ("c", "12_1")]
    assert (tmp_path / "out").read_text() == "b\n"
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert "--array=1-2 " in first
    assert "--array=1-1 " in second
    assert "--requeue" in first
    sbatch.write_text("#!/bin/sh\necho no such partition >&2\nexit 1\n")
    executor.run_array_jobs(jobs[:1])
    assert executor.reported[-1] == ("a", "sbatch: no such partition")


@pytest.mark.parametrize(
    ("state", "how", "said"),
    [
        ("CANCELLED", "cancelled", "7_1"),
        ("FAILED", "failed", "ValueError: no"),
        ("OUT_OF_MEMORY", "failed", "--mem"),
        ("TIMEOUT", "cut off", "timeout"),
        ("NODE_FAIL", "cut off", "node fail"),
        ("NOT SUBMITTED", "not submitted", "no such partition"),
    ],
)
def test_how_a_run_ended(state, how, said):
    found = slurm.in_words({"state": state, "job": "7_1", "log": "x", "said": "no such partition"}, "ValueError: no")
    assert found[0] == how
    assert said in found[1]


def test_without_slurm_one_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(slurm.SlurmError, match="sbatch"):
        slurm.choose_status_command()


def test_jobs_of_a_sweep_in_another_store_have_another_name(tmp_path):
    names = {slurm.name_jobs("se_table_01", tmp_path / place) for place in ("a", "b")}
    assert len(names) == 2
    assert all(name.replace("-", "").isalnum() and len(name) <= 50 for name in names)
