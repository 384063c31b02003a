"""A real SLURM on this machine: munged, slurmctld and slurmd, with a GPU that is only scheduled.

Its state lies in a folder of its own. Only the two configuration files are where SLURM wants
them, since jobs read them there; what stood there before is put back at the end.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

CONFIGURATION = Path("/etc/slurm")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
N_CPUS = 8
MEMORY = 64_000  # MB; as with the processors, what is said and not what is there

SLURM_CONF = """\
ClusterName=vrp
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=5,bf_interval=5
ReturnToService=2
KillWait=5
MessageTimeout=5
MinJobAge=300
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:tiny:1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=cpu Nodes={host} MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
"""


def why_not() -> str | None:
    """Return the reason for which no SLURM can be started here, None where it can."""
    if os.geteuid() != 0:
        return "a SLURM for tests is started as root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"SLURM is not installed (no {', '.join(missing)}): apt-get install slurm-wlm munge"
    return None


def is_in_use() -> bool:
    """Whether a controller answers: its configuration is nothing to touch."""
    if not (CONFIGURATION / "slurm.conf").exists():
        return False
    try:
        ping = subprocess.run(
            ["scontrol", "ping"], capture_output=True, text=True, timeout=30, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return " is UP" in ping.stdout


class SlurmCluster:
    """The running daemons; one node, one GPU, partitions main (default), cpu, gpu and urgent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._commands = {
            "munged": [
                "munged", "--foreground", "--force",
                f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket",
                f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log",
                f"--seed-file={folder}/munged.seed",
            ],
            "slurmctld": ["slurmctld", "-D", "-i"],
            "slurmd": ["slurmd", "-D", "-N", self.host],
        }  # fmt: skip

    def start(self) -> None:
        """Start the daemons and wait until the node takes jobs."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for name in self._commands:
            self.start_daemon(name)
        self._wait_until_idle()

    def start_daemon(self, name: str) -> None:
        """Start one of munged, slurmctld and slurmd."""
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                self._commands[name], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        if name == "munged":
            self._until(lambda: (self.folder / "munge.socket").exists(), "munged's socket", 20)

    def stop_daemon(self, name: str) -> None:
        """Stop one of them, by its process."""
        process = self._daemons.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """Cancel all jobs and stop every daemon that runs."""
        if "slurmctld" in self._daemons:
            self.clear()
        for name in reversed(list(self._daemons)):
            self.stop_daemon(name)

    def command(self, *arguments: str) -> str:
        """Run a SLURM command; return what it printed."""
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self, *states: str) -> list[str]:
        """Ids of the jobs in these states; without any, of those pending or running."""
        wanted = ",".join(states) or "PENDING,RUNNING,COMPLETING"
        return self.command("squeue", "--noheader", "--format=%i", f"--states={wanted}").split()

    def job(self, identifier: str) -> dict[str, str]:
        """Fields of a job as the controller knows it."""
        text = self.command("scontrol", "--oneliner", "show", "job", identifier)
        return dict(field.split("=", 1) for field in text.split() if "=" in field)

    def requeue(self, identifier: str) -> None:
        """Put a running job back into the queue, without the two minutes that SLURM waits then."""
        self.command("scontrol", "requeue", identifier)
        self._until(lambda: self.job(identifier)["JobState"] == "PENDING", "requeued job", 60)
        self.command("scontrol", "update", f"jobid={identifier}", "starttime=now")

    def terminate(self, identifier: str) -> None:
        """Send SIGTERM to all of a job: its script and the processes that it started."""
        self.command("scancel", "--signal=TERM", "--full", identifier)

    def clear(self) -> None:
        """Cancel every job, wait until none is left and let the node take jobs again."""
        if jobs := self.jobs():
            subprocess.run(["scancel", *jobs], capture_output=True, timeout=60, check=False)
            self._until(lambda: not self.jobs(), "an empty queue", 60)
        if "drain" in self._node_state():
            self.command("scontrol", "update", f"nodename={self.host}", "state=resume")

    def wait_until_answers(self) -> None:
        """Wait until a controller that was started again knows its node."""
        self._wait_until_idle("idle", "mixed", "allocated")

    def _node_state(self) -> str:
        return self.command("sinfo", "--noheader", "--format=%T", "--partition=main").strip()

    def _wait_until_idle(self, *states: str) -> None:
        def idle() -> bool:
            done = subprocess.run(
                ["sinfo", "--noheader", "--format=%T"],
                capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
            return any(state in done.stdout.split() for state in states or ("idle",))

        self._until(idle, "an idle node", 60)

    def _until(self, met, what: str, seconds: float) -> None:  # type: ignore[no-untyped-def]
        end = time.monotonic() + seconds
        while not met():
            if time.monotonic() > end:
                logs = [
                    f"{path.name}:\n{path.read_text(errors='replace')[-1500:]}"
                    for path in sorted(self.folder.glob("*.log"))
                ]
                raise TimeoutError(f"no {what} after {seconds:.0f} s\n" + "\n".join(logs))
            time.sleep(0.2)


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """A cluster for the time of the block; the machine's own configuration is put back."""
    cluster = SlurmCluster(folder)
    text = SLURM_CONF.format(
        folder=folder, host=cluster.host, cpus=N_CPUS, memory=MEMORY,
        controller_port=_free_port(), node_port=_free_port(),
    )  # fmt: skip
    gres = f"NodeName={cluster.host} Name=gpu Type=tiny File=/dev/zero\n"
    if "ClusterName=vrp\n" in _text_of(CONFIGURATION / "slurm.conf"):
        # Left by tests that were killed. No controller answers, which every Snakemake that starts
        # would wait for: its plugin for SLURM asks for the configuration.
        for name in ("slurm.conf", "gres.conf"):
            (CONFIGURATION / name).unlink(missing_ok=True)
    with (
        _replaced(CONFIGURATION / "slurm.conf", text),
        _replaced(CONFIGURATION / "gres.conf", gres),
    ):
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def _text_of(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


@contextlib.contextmanager
def _replaced(path: Path, text: str) -> Iterator[None]:
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    try:
        yield
    finally:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
