"""A real Slurm on this machine's loopback, for tests: two nodes, two partitions, accounting; all below one folder.

It comes from Debian's packages, which are installed when they are missing and the caller is root. Nothing of the
system's own configuration is read or written: every daemon gets its paths and a free port from here, so that a Slurm
that the machine may have, and what an earlier test left behind, are not in the way.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path

PACKAGES = ["slurm-wlm", "slurmdbd", "munge", "mariadb-server"]
PROGRAMS = ["slurmctld", "slurmd", "slurmdbd", "sbatch", "sacct", "munged", "mariadbd", "mariadb-install-db"]
DATABASE_USER = "slurm"

SLURM_CONF = """
ClusterName=diffusab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=3
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SlurmdParameters=config_overrides
ReturnToService=2
GresTypes=gpu
JobRequeue=1
KillWait=5
MinJobAge=3600
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_1} CPUs={cpus} RealMemory=8000 Gres=gpu:2 Feature=small
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_2} CPUs={cpus} RealMemory=8000 Gres=gpu:2 Feature=big
PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1 MaxTime=60
PartitionName=high Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF MaxTime=60
"""

SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser={user}
StoragePass={password}
StorageLoc=slurm
"""


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


def install_packages(timeout: float = 180) -> str | None:
    """Install what is missing; returns None, or in one line why it could not be done."""
    if not missing_programs():
        return None
    if os.geteuid() != 0:
        return f"{missing_programs()[0]} is not installed, and installing it needs root"
    if shutil.which("apt-get") is None:
        return f"{missing_programs()[0]} is not installed, and this machine has no apt-get"
    policy = Path("/usr/sbin/policy-rc.d")  # its exit status 101 keeps packages from starting their daemons
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    wait = ["-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20"]
    install = ["apt-get", *wait, "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
    try:
        done = subprocess.run(install, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:  # no lists of packages yet, or old ones
            subprocess.run(["apt-get", *wait, "update", "-qq"], capture_output=True, timeout=timeout, check=False)
            done = subprocess.run(
                install, env=environment, capture_output=True, text=True, timeout=timeout, check=False
            )
    except subprocess.TimeoutExpired:
        return f"apt-get did not install Slurm within {timeout:.0f} s"
    finally:
        if ours:
            policy.unlink()
    if missing_programs():
        lines = done.stderr.strip().splitlines() or ["no message"]
        return f"apt-get could not install Slurm: {lines[-1]}"
    return None


def find_free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until(what, seconds: float, message, every: float = 0.2):
    """The first true value of ``what()``; if none comes in time an AssertionError with ``message``, or its result."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {message() if callable(message) else message}"
        time.sleep(every)


class Cluster:
    """``start()`` and ``stop()``; between them ``environment`` makes every Slurm command talk to this cluster."""

    def __init__(self, cpus: int = 4):
        # A short path: the name of a socket has at most 107 bytes, and pytest's folders are long.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.host = socket.gethostname().split(".")[0]
        self.cpus = cpus
        self.processes: dict[str, subprocess.Popen] = {}
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_", "SRUN_"))
        }
        self.environment |= {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
        }

    def launch(self, name: str, *command: str) -> None:
        with open(self.folder / f"{name}.out", "ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment, start_new_session=True
            )

    def call(self, *command: str, check: bool = True, timeout: float = 60) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, *command: str) -> str:
        """Like ``call``, but a failure (a daemon that is not up yet) is an empty answer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.call(*command, check=False, timeout=10)
        return ""

    def write_configuration(self) -> None:
        ctld, dbd, sql, one, two = find_free_ports(5)
        self.sql_port, self.password = sql, secrets.token_hex(8)
        words = {
            "folder": self.folder,
            "host": self.host,
            "cpus": self.cpus,
            "ctld_port": ctld,
            "dbd_port": dbd,
            "sql_port": sql,
            "port_1": one,
            "port_2": two,
            "user": DATABASE_USER,
            "password": self.password,
        }
        for name, text in {
            "slurm.conf": SLURM_CONF,
            "slurmdbd.conf": SLURMDBD_CONF,
            "gres.conf": "Name=gpu File={folder}/nvidia[0-1]\n",
            "cgroup.conf": "CgroupPlugin=cgroup/v1\n",
        }.items():
            path = self.folder / name
            path.write_text(text.format(**words))
            path.chmod(0o600 if name == "slurmdbd.conf" else 0o644)
        for number in range(2):  # a node counts its GPUs by their devices: here two that are /dev/null
            os.mknod(self.folder / f"nvidia{number}", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        for name in ("state", "spool-n1", "spool-n2", "bin"):
            (self.folder / name).mkdir()
        # Within a job Snakemake's executor takes SLURM_CONF out of the environment before it calls srun.
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)

    def start_munge(self) -> None:
        self.folder.chmod(0o755)
        paths = {
            "key-file": "munge.key",
            "pid-file": "munged.pid",
            "seed-file": "munged.seed",
            "log-file": "munged.log",
        }
        self.launch(
            "munged",
            *("munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket"),
            *(f"--{option}={self.folder / name}" for option, name in paths.items()),
        )
        wait_until((self.folder / "munge.socket").exists, 10, "munged's socket")

    def start_database(self) -> None:
        data, sock = self.folder / "sql", self.folder / "sql.socket"
        self.call(
            *("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db"),
            *("--skip-name-resolve", "--auth-root-authentication-method=normal", "--innodb-log-file-size=8M"),
        )
        self.launch(
            "mariadbd",
            *("mariadbd", "--no-defaults", f"--datadir={data}", "--user=root", f"--socket={sock}"),
            *(f"--port={self.sql_port}", "--bind-address=127.0.0.1", f"--pid-file={self.folder}/mariadbd.pid"),
            *("--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0"),
            *("--innodb-lock-wait-timeout=900", "--skip-name-resolve"),
        )
        client = ["mariadb", "--no-defaults", f"--socket={sock}", "-u", "root"]
        wait_until(lambda: self.ask(*client, "-N", "-e", "select 1").strip() == "1", 30, "the database")
        user = f"'{DATABASE_USER}'@'127.0.0.1'"
        orders = ["create database slurm", f"create user {user} identified by '{self.password}'"]
        self.call(*client, "-e", "; ".join([*orders, f"grant all on slurm.* to {user}"]))

    def start_controller(self) -> None:
        self.launch("slurmctld", "slurmctld", "-D")

    def start(self) -> None:
        self.write_configuration()
        self.start_munge()
        self.start_database()
        self.launch("slurmdbd", "slurmdbd", "-D")
        wait_until(lambda: "Adding" in self.ask("sacctmgr", "-i", "add", "cluster", "diffusab"), 30, "slurmdbd")
        self.call("sacctmgr", "-i", "add", "account", "research")
        self.call("sacctmgr", "-i", "add", "user", "root", "account=research")
        self.start_controller()
        for node in ("n1", "n2"):
            self.launch(f"slurmd-{node}", "slurmd", "-D", "-N", node)
        wait_until(lambda: self.ask("sinfo", "-h", "-N", "-p", "low", "-o", "%T").split() == ["idle"] * 2, 30, "idle")

    def kill(self, name: str) -> None:
        """kill -9, as a machine that goes down does."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End every job and daemon, and remove the folder."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            if "slurmctld" in self.processes:
                self.call("scancel", "--signal=KILL", "--full", "-u", "root", check=False, timeout=10)
                self.call("scancel", "-u", "root", check=False, timeout=10)
                wait_until(lambda: not self.ask("squeue", "-h").strip(), 10, "an empty queue")
        for name in ["slurmctld", "slurmd-n1", "slurmd-n2", "slurmdbd", "mariadbd", "munged"]:
            process = self.processes.pop(name, None)
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def logs(self, lines: int = 15) -> str:
        """The ends of the daemons' logs, for a failed test's message."""
        parts = []
        for path in sorted(self.folder.glob("*.out")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            parts.append("\n".join([f"--- {path.name}", *tail]))
        return "\n".join(parts)

    def start_now(self, job: str) -> None:
        """Start a requeued job, which Slurm otherwise holds for two minutes."""

        def runs() -> bool:
            state = self.ask("squeue", "-h", "-j", job, "-o", "%T").strip()
            if state == "PENDING":
                self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
            return state == "RUNNING"

        wait_until(runs, 60, f"job {job} runs again", every=1.0)

    def states(self) -> dict[str, str]:
        """State of every job that the accounting knows, by job number (array tasks as 12_1)."""
        text = self.call("sacct", "-X", "-n", "-P", "--format=JobID,State")
        pairs = (line.split("|") for line in text.splitlines())
        return {number: state.split()[0] for number, state in pairs}  # also of "CANCELLED by 0"
