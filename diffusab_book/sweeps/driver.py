"""Making the runs of a sweep that are missing: Snakemake in order, on this machine or through Slurm.

The driver writes what is missing into ``ROOT/.sweeps/NAME-SIZE/plan.json`` and starts Snakemake there. Each job is
``diffusab run``, which does a run once, goes on with one that was cut off, and waits for another process that has it.
So whatever is killed, and whenever, the same command goes on.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from diffusab_book import chapters, runs
from diffusab_book.sweeps import collect, slurm, status
from diffusab_book.sweeps.files import SweepError
from diffusab_book.sweeps.plan import Job, Plan, costs, value_of
from diffusab_core import files
from diffusab_core.files import DiffusabError, SettingsError, write_json

SNAKEFILE = Path(__file__).with_name("Snakefile")
POLL_S = 1.0  #: Seconds between two looks at what is finished
PATIENCE_S = 10.0  #: With a driver that has the sweep: the Snakemake of one that was killed ends within a second


class SweepFailed(DiffusabError, RuntimeError):
    """Runs that failed; each has been named before."""


@dataclass(frozen=True)
class Launch:
    """Where and how the runs of a sweep are made.

    Attributes:
        on: ``local``, this machine, or ``slurm``.
        jobs: Runs at the same time; on this machine each has one thread. [default: the cores of this machine, or 100
            jobs in the queue]
        retries: How often a run that failed is tried again.
        gpus: GPUs for each node of a run, on Slurm; with more than one torchrun trains.
        nodes: Nodes for each run, on Slurm; with more than one srun starts torchrun on each.
        cpus: CPU cores for each run, on Slurm.
        time: The longest that a run may take, on Slurm: minutes, or ``HH:MM:SS``, or ``D-HH:MM:SS``.
        mem: Memory for each node, on Slurm: MB, or as ``64G``.
        partition: Slurm's partition.
        account: Slurm's account.
        qos: Slurm's quality of service.
        constraint: Features that the nodes must have, on Slurm.
        device: Where runs compute: ``auto``, ``cuda``, ``mps`` or ``cpu``; the notebook's own choice when left out.
        workers: Processes that read images ahead, for each run; the notebook's own number when left out.
        poll: Seconds between two looks at Slurm's jobs.
    """

    on: Literal["local", "slurm"] = "local"
    jobs: int | None = None
    retries: int = 0
    gpus: int = 0
    nodes: int = 1
    cpus: int = 1
    time: str | None = None
    mem: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    device: str | None = None
    workers: int | None = None
    poll: int = 30

    def __post_init__(self) -> None:
        if self.on not in ("local", "slurm"):
            raise SettingsError(f"on is {self.on!r}; say local or slurm")
        for name, least in (
            ("jobs", 1),
            ("retries", 0),
            ("gpus", 0),
            ("nodes", 1),
            ("cpus", 1),
            ("workers", 0),
            ("poll", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise SettingsError(f"{name} is {value}; it must be at least {least}")
        # Which of them is there is for the machine to say that the runs are made on.
        if self.device is not None and not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise SettingsError(f"device is {self.device!r}; say auto, cuda, mps or cpu")
        if self.on == "local":
            default = Launch.__dataclass_fields__
            for name in ("gpus", "nodes", "cpus", "time", "mem", "partition", "account", "qos", "constraint"):
                if getattr(self, name) != default[name].default:
                    raise SettingsError(f"--{name} {getattr(self, name)} goes with --on slurm")
        minutes(self.time)
        megabytes(self.mem)


def minutes(text: str | None) -> int | None:
    """Slurm's way of writing a time, as minutes, rounded up; :class:`SettingsError` for what it cannot be."""
    if text is None:
        return None
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(p.isdigit() for p in parts) or (dash and not days.isdigit()) or len(parts) > 3:
        raise SettingsError(f"time is {text!r}; write minutes, HH:MM:SS or D-HH:MM:SS")
    numbers = [int(p) for p in parts]
    if dash:  # D-HH, D-HH:MM, D-HH:MM:SS
        h, m, s = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        h, m, s = numbers
    else:  # M, M:S
        h, (m, s) = 0, [*numbers, 0][:2]
    total = int(days or 0) * 1440 + h * 60 + m + (s > 0)
    if not total:
        raise SettingsError(f"time is {text!r}, which is no time at all")
    return total


def megabytes(text: str | None) -> int | None:
    """Slurm's way of writing memory, as MB; :class:`SettingsError` for what it cannot be."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", text.upper())
    if not found or not int(found[1]):
        raise SettingsError(f"mem is {text!r}; write MB, or as 64G")
    return max(1, int(int(found[1]) * {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}[found[2]]))


# ---------------------------------------------------------------------------------------------------------------------
# The whole of it


def run(
    plan: Plan,
    launch: Launch,
    *,
    results: Path | None = None,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Make the runs of a plan that are missing, and copy each record as soon as it is there.

    Args:
        results: Folder for the records, see :func:`collect.copy`; ``None``: they stay in the store.
        force: Make the sweep's own runs again; those of other sweeps that they refer to stay.
        say: Takes a line of progress; on a terminal a live table stands in their place.

    Raises:
        SweepError: Another driver has this sweep; this is Windows, which has no groups of processes to start and end.
        SweepFailed: Runs failed, or could not start since what they refer to failed. The others are done.
    """
    own = {job.run for job in plan.own.values()}
    pending = [job for run, job in plan.jobs.items() if not job.done or (force and run in own)]
    if not pending:
        _copy(plan, results, None, say)
        say(f"{plan.sweep.name}: {len(plan.jobs)} runs, all done")
        return
    if sys.platform == "win32":
        raise SweepError(f"{plan.sweep.name}: sweeps need Linux or macOS; `diffusab run` makes one of its runs here")
    work = status.work_folder(plan.root, plan.sweep.name, plan.size)
    (work / "logs").mkdir(parents=True, exist_ok=True)
    with _alone(work / "lock", plan) as lock:
        if launch.on == "slurm":
            slurm.wait_for_earlier(slurm.name_jobs(plan.sweep.name, work), say)
            pending = [job for job in pending if not job.done or (force and job.run in own)]
        before = {job.run: _stamp(job) for job in pending}
        logged = {job.run: _size(status.log_of(plan, job)) for job in pending}
        (work / slurm.ENDED).unlink(missing_ok=True)
        say(f"{plan.sweep.name}: {len(plan.jobs) - len(pending)} of {len(plan.jobs)} runs done, {len(pending)} to make")
        to_make, code, anew = pending, 0, force
        while to_make:
            for job in to_make:
                status.log_of(plan, job).with_suffix(".status").unlink(missing_ok=True)
            steps = status.steps_of(pending)
            write_plan(plan, work, to_make, launch, anew)
            process = _start(work, launch, plan, lock)
            try:
                _watch(process, plan, to_make, before, results, say)
            except BaseException:
                _stop(process)
                raise
            code, to_make, anew = process.returncode, _cut_off(pending, steps, work), False
    _copy(plan, results, None, say)
    wrong = [job for job in pending if not job.done or (force and job.run in own and _stamp(job) == before[job.run])]
    if wrong:
        _report(plan, wrong, logged, work, code, say)
    say(f"{plan.sweep.name}: {len(plan.jobs)} runs, all done")


def _cut_off(pending: Sequence[Job], steps: dict[str, int | None], work: Path) -> list[Job]:
    """Runs to go on with in other jobs: those that Slurm cut off after they got further, and those that wait for them.

    One that got no further is not tried again: it may never do so in the time that its jobs have.
    """
    ended = slurm.read_ended(work)
    left = [job for job in pending if not job.done]
    now = status.steps_of(left)
    cut = {job.run for job in left if ended.get(job.run, {}).get("state") in slurm.CUT_OFF}
    further = {run for run in cut if (now[run] or 0) > (steps[run] or 0)}
    return [job for job in left if job.run in further or job.run not in ended] if further else []


def _stamp(job: Job) -> int:
    try:
        return job.record.stat().st_mtime_ns
    except OSError:
        return 0


def _report(
    plan: Plan, wrong: Sequence[Job], logged: dict[str, int], work: Path, code: int, say: Callable[[str], None]
) -> None:
    """Name what failed and where its log is, then what did not start and why."""
    ended = slurm.read_ended(work)
    tried = [job for job in wrong if job.run in ended or _size(status.log_of(plan, job)) > logged[job.run]]
    for job in tried:
        how, said, log = "failed", status.error_of(plan, job), status.log_of(plan, job)
        if job.run in ended:
            how, said = slurm.in_words(ended[job.run], said)
            log = log if _size(log) > logged[job.run] else ended[job.run]["log"]
        say(f"{how}: {plan.label(job)}: {said or 'cancelled, interrupted or killed'} (log: {log})")
    for job in wrong:
        if job not in tried:
            needs = [plan.label(needed) for needed in plan.needs(job) if not needed.done]
            why = f"{needs[0]} is missing" if needs else f"cancelled, or Snakemake ended; see {work / 'snakemake.log'}"
            say(f"not started: {plan.label(job)}: {why}")
    if not tried:
        end = [line for line in status.tail(work / "snakemake.log").splitlines() if line.strip()][-3:]
        raise SweepFailed(f"Snakemake ended with status {code} before a run began: {' '.join(end)}")
    missing = f"{len(wrong)} of {len(plan.jobs)} runs are missing"
    raise SweepFailed(f"{plan.sweep.name}: {missing}; what is done stays, the same command goes on")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _copy(plan: Plan, results: Path | None, jobs: Sequence[Job] | None, say: Callable[[str], None]) -> None:
    if results is not None:
        for path in collect.copy(plan, results, jobs).kept:
            say(f"{path} holds the record of another run and was left alone; diffusab collect --replace renews it")


@contextlib.contextmanager
def _alone(file: Path, plan: Plan) -> Iterator[int]:
    """One driver for a sweep and size; Snakemake inherits the lock, so that it holds while either lives."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                files.lock(handle, wait=False)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = file.read_text(encoding="utf-8").strip()
                    raise SweepError(f"{plan.sweep.name} at size {plan.size} is being run by {holder}") from None
                time.sleep(0.2)
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield handle
    finally:
        os.close(handle)


# ---------------------------------------------------------------------------------------------------------------------
# Snakemake


def write_plan(plan: Plan, work: Path, pending: Sequence[Job], launch: Launch, force: bool) -> dict[str, Any]:
    """What the Snakefile reads, ``plan.json``. The longest runs come first: a lack of time costs the cheap ones."""
    own = {job.run for job in plan.own.values()}
    pending = sorted(pending, key=lambda job: -(value_of(job.spec, "steps") or 0))
    groups: dict[Any, list[Job]] = {}
    for job in pending:
        groups.setdefault(_share(launch, job) if launch.on == "slurm" else job.run, []).append(job)
    told = {
        "sweep": str(plan.sweep.path.absolute()),
        "jobs": [
            {
                "run": job.run,
                "needs": [needed.run for needed in plan.needs(job)],
                "command": command(plan, job, launch, force and job.run in own),
            }
            for job in pending
        ],
        "groups": [[job.run for job in group] for group in groups.values()],
        "threads": 1,
        "resources": [resources(_share(launch, group[0])) for group in groups.values()],
    }
    for name in ("done", "begun"):
        shutil.rmtree(work / name, ignore_errors=True)
    write_json(work / "plan.json", told, alone=True)
    return told


def _share(launch: Launch, job: Job) -> Launch:
    """What one run asks for: one that trains in a single process takes one node, and one GPU at most."""
    return launch if job.spec.notebook in runs.TRAINERS else replace(launch, nodes=1, gpus=min(launch.gpus, 1))


def command(plan: Plan, job: Job, launch: Launch, force: bool) -> str:
    """The shell command of one run. What it prints goes to the end of its log, its exit status beside that."""
    words = [sys.executable, "-m", "diffusab_book", "run", *job.spec.arguments(), "--root", str(plan.root.absolute())]
    launch, declared = _share(launch, job), chapters.parameters(job.spec.path)
    for name in ("device", "workers"):
        if name in declared and getattr(launch, name) is not None:
            words += ["-p", name, str(getattr(launch, name))]
    words += ["--nproc", str(max(1, launch.gpus))] if launch.gpus > 1 or launch.nodes > 1 else []
    if launch.nodes > 1:  # the executor takes this variable out of a job's environment
        words = ["env", f"SLURM_JOB_NUM_NODES={launch.nodes}", *words]
    log = status.log_of(plan, job)
    ended = shlex.quote(str(log.with_suffix(".status")))
    work = status.work_folder(plan.root, plan.sweep.name, plan.size)
    flag, begun = work / "done" / job.run, work / "begun" / job.run
    asked = shlex.join(words)
    if force:  # once: what is tried again, or comes back into Slurm's queue, goes on
        folder, file = shlex.quote(str(begun.parent)), shlex.quote(str(begun))
        asked += f" $(test -e {file} || {{ mkdir -p {folder}; touch {file}; echo --force; }})"
    return (
        f"rm -f {ended}; (cd {shlex.quote(str(Path.cwd()))} && exec {asked}) "
        f">> {shlex.quote(str(log))} 2>&1 "
        f"|| {{ status=$?; echo $status > {ended}; exit $status; }}; "
        f"mkdir -p {shlex.quote(str(flag.parent))} && touch {shlex.quote(str(flag))}"
    )


def resources(launch: Launch) -> dict[str, Any]:
    """What each run asks of Slurm, in the words of Snakemake's plugin."""
    if launch.on == "local":
        return {}
    asked = {
        "slurm_partition": launch.partition, "slurm_account": launch.account, "qos": launch.qos,
        "constraint": launch.constraint, "runtime": minutes(launch.time), "cpus_per_task": launch.cpus,
        "mem_mb": megabytes(launch.mem) or 0,  # left out, Snakemake would ask for 1 GB
    }  # fmt: skip
    if launch.gpus:
        asked["gres"] = f"gpu:{launch.gpus}"
    if launch.nodes > 1:  # one task on each node, which diffusab run itself starts: "mpi" keeps the executor from it
        asked |= {"nodes": launch.nodes, "tasks": launch.nodes, "mpi": "srun", "slurm_extra": "--ntasks-per-node=1"}
        asked |= {"tasks_per_gpu": 0} if launch.gpus else {}
    return {name: value for name, value in asked.items() if value is not None}


def arguments(launch: Launch, plan: Plan, work: Path) -> list[str]:
    """Snakemake's command line. Its own lock is off: the driver has one that a killed process does not leave."""
    module = "snakemake" if launch.on == "local" else "diffusab_book.sweeps.slurm"
    words = [sys.executable, "-m", module, "--snakefile", str(SNAKEFILE), "--nolock", "--keep-going"]
    words += ["--rerun-incomplete", "--rerun-triggers", "mtime", "input", "--scheduler", "greedy", "--nocolor"]
    # On the command line: written into a rule, every retry is retried.
    words += ["--retries", str(launch.retries), "--latency-wait", "5" if launch.on == "local" else "60"]
    if launch.on == "local":
        return [*words, "--cores", str(launch.jobs or files.count_cores())]
    words += ["--executor", "slurm", "--jobs", str(launch.jobs or 100), "--slurm-array-jobs", "all", "--slurm-requeue"]
    words += ["--slurm-jobname-prefix", slurm.name_jobs(plan.sweep.name, work)]
    words += ["--slurm-logdir", str(work / "logs" / "slurm"), "--slurm-keep-successful-logs"]
    words += ["--slurm-status-command", slurm.choose_status_command()]
    words += ["--slurm-init-seconds-before-status-checks", str(launch.poll)]
    return [*words, "--seconds-between-status-checks", str(launch.poll)]


def _start(work: Path, launch: Launch, plan: Plan, lock: int) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if launch.on == "local":
        environment |= {"OMP_NUM_THREADS": "1"}
    words = arguments(launch, plan, work)
    with (work / "snakemake.log").open("ab") as log:
        return subprocess.Popen(
            words, cwd=work, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env=environment, pass_fds=(lock,), start_new_session=True, preexec_fn=_die_with_driver,
        )  # fmt: skip


def _die_with_driver() -> None:
    """In the child: ask Linux to end Snakemake with its driver. Runs that it started go on, and are waited for."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it, and so would all its children
    if sys.platform == "linux":
        import ctypes

        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(process: subprocess.Popen) -> None:
    """End Snakemake and the runs that it started here; what it sent to Slurm it cancels."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# ---------------------------------------------------------------------------------------------------------------------
# Watching


def _watch(
    process: subprocess.Popen,
    plan: Plan,
    pending: Sequence[Job],
    before: dict[str, int],
    results: Path | None,
    say: Callable[[str], None],
) -> None:
    """Until Snakemake ends: copy each record as it comes, and say or show how far the runs are."""
    left, failed = {job.run: job for job in pending}, set()
    with _shown(plan) as show:
        while True:
            ended = process.poll() is not None
            for run, job in list(left.items()):
                if _stamp(job) != before[run] and job.done:
                    del left[run]
                    _copy(plan, results, [job], lambda _: None)
                    say(f"done: {plan.label(job)} ({len(pending) - len(left)} of {len(pending)})")
                # Above 128 it was stopped from outside; Slurm may have it back in its queue.
                elif run not in failed and 0 < status.exit_status(status.log_of(plan, job)) < 128:
                    failed.add(run)
                    say(f"failed: {plan.label(job)}: {status.error_of(plan, job)}")
            show()
            if ended:
                return
            time.sleep(POLL_S)


@contextlib.contextmanager
def _shown(plan: Plan) -> Iterator[Callable[[], None]]:
    """A live table of what is running and what failed, on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return

    def now() -> Any:
        return status.table(plan, status.look(plan), ("running", "failed"))

    with Live(now(), console=console, refresh_per_second=2, transient=True) as live:
        yield lambda: live.update(now())


@contextlib.contextmanager
def ending_as_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP end the driver as Ctrl-C does, also in a shell's background: it ends what it started."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------------------------------------------------------------
# What would be done


def dry_run(plan: Plan, launch: Launch, results: Path | None, force: bool, say: Callable[[str], None]) -> None:
    """Say which runs there are, which are done, and what the others will cost, as far as it was measured."""
    own = {job.run for job in plan.own.values()}
    measured = costs(plan, [] if results is None else [results])
    width = max(len(plan.label(job)) for job in plan.jobs.values())
    hours, megabytes_, unmeasured, missing = 0.0, 0.0, 0, 0
    asked: dict[str, dict[str, Any]] = {}  # of Slurm, by notebook
    for run, job in plan.jobs.items():
        to_do, cost = not job.done or (force and run in own), measured[run]
        what = "done" if not to_do else status.in_words(cost.seconds) or "not measured"
        say(f"{plan.label(job):{width}}  {job.spec.notebook}/{job.spec.identity}  {what}")
        if to_do:
            missing += 1
            unmeasured += cost.seconds is None
            hours += (cost.seconds or 0) / 3600
            megabytes_ += cost.megabytes or 0
            asked[job.spec.notebook] = resources(_share(launch, job))
    time_ = "not measured" if missing and unmeasured == missing else f"{hours:.1f} h of computing"
    time_ += f" and {unmeasured} runs not measured" if 0 < unmeasured < missing else ""
    disk = f"{megabytes_:.0f} MB" if megabytes_ else "not measured"
    say(f"{len(plan.jobs)} runs, {len(plan.jobs) - missing} done, {missing} to make: {time_}; disk: {disk}")
    for notebook, of_run in asked.items() if launch.on == "slurm" else ():
        say(f"each run of {notebook} asks Slurm for {', '.join(f'{k}={v}' for k, v in of_run.items())}")
