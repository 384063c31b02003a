"""A cluster that hangs or lies: the run ends in bounded time, with a message that says why."""

import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
import yaml
from slurm_cluster import SlurmCluster
from study_copy import Ended, StudyCopy

pytestmark = [pytest.mark.slurm, pytest.mark.workflow, pytest.mark.slow]

# One job that waits until it is told to go on: two under `names=a,b`.
WORKFLOW = """
NAMES = config.get("names", "a").split(",")

rule all:
    default_target: True
    input:
        expand("out/{name}.txt", name=NAMES),

rule work:
    output:
        "out/{name}.txt",
    threads: 1
    resources:
        mem_mb=100,
        runtime=5,
        gpu=int(config.get("gpu", 0)),
    shell:
        "until [ -e go ]; do sleep 0.2; done; echo done > {output}"
"""
IMPATIENT = (
    "--profile", "slurm", "--snakefile", "waiting.smk", "--latency-wait", "5",
    "--vrp-slurm-init-seconds-before-status-checks", "1", "--vrp-slurm-blocked-minutes", "0.1",
    "--vrp-slurm-silence-minutes", "0.1", "--retries", "0",
)  # fmt: skip
BOUND = 120  # seconds, on a busy machine


@pytest.fixture
def waiting(project: StudyCopy, cluster: SlurmCluster) -> Iterator[StudyCopy]:
    """A copy with the small workflow, whose job waits for a file named go."""
    (project.folder / "waiting.smk").write_text(WORKFLOW)
    # The study is no part of this.
    profile = project.folder / "workflow" / "profiles" / "slurm" / "profile.yaml"
    keys = yaml.safe_load(profile.read_text())
    for key in ("configfile", "set-threads", "groups"):
        del keys[key]
    profile.write_text(yaml.safe_dump(keys))
    yield project
    cluster.clear()


def run(copy: StudyCopy, *arguments: str) -> Ended:
    return copy.run(*IMPATIENT, *arguments, timeout=BOUND)


def start(copy: StudyCopy, cluster: SlurmCluster, *arguments: str) -> tuple[subprocess.Popen, str]:
    """Start a run; return it and its job, when that runs."""
    process = copy.start(*IMPATIENT, *arguments)
    assert copy.wait_for(lambda: cluster.jobs("RUNNING"), 60, process), copy.log()
    return process, cluster.jobs("RUNNING")[0]


def go_on(copy: StudyCopy) -> None:
    (copy.folder / "go").touch()


def said(text: str) -> str:
    return " ".join(text.split())


def test_no_accounting_though_sacct_is_there(waiting: StudyCopy) -> None:
    go_on(waiting)
    ended = run(waiting)
    assert ended.status == 0, ended.output
    assert "tracked with squeue alone: sacct: Slurm accounting storage is disabled" in said(
        ended.output
    )


def test_a_drained_node(waiting: StudyCopy, cluster: SlurmCluster) -> None:
    cluster.command("scontrol", "update", f"nodename={cluster.host}", "state=drain", "reason=test")
    ended = run(waiting)
    assert ended.status != 0
    assert re.search(
        r"SLURM job \d+ has not been able to start for 6 s: the nodes are down, drained or "
        r"reserved .* It is cancelled; see `sinfo -R`",
        said(ended.output),
    )
    assert cluster.jobs() == []


def test_a_partition_that_is_down(waiting: StudyCopy, cluster: SlurmCluster) -> None:
    cluster.command("scontrol", "update", "partitionname=cpu", "state=down")
    try:
        ended = run(waiting, "--default-resources", "slurm_partition=cpu")
    finally:
        cluster.command("scontrol", "update", "partitionname=cpu", "state=up")
    assert ended.status != 0
    assert "the partition is down" in said(ended.output)
    assert "(PartitionDown)" in ended.output


def test_a_wrong_partition(waiting: StudyCopy) -> None:
    ended = run(waiting, "--default-resources", "slurm_partition=nowhere")
    assert ended.status != 0
    assert "invalid partition specified: nowhere" in ended.output


def test_more_than_any_node_has(waiting: StudyCopy) -> None:
    ended = run(waiting, "--config", "gpu=2")
    assert ended.status != 0
    assert "Requested node configuration is not available" in ended.output


def test_a_cancelled_job(waiting: StudyCopy, cluster: SlurmCluster) -> None:
    process, job = start(waiting, cluster)
    cluster.command("scancel", job)
    assert process.wait(BOUND) != 0
    assert f"SLURM job {job} ended as CANCELLED; somebody cancelled it." in waiting.log()


def test_a_preempted_job_that_is_not_requeued(waiting: StudyCopy, cluster: SlurmCluster) -> None:
    process, job = start(waiting, cluster, "--retries", "1")
    cluster.command(
        "sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"
    )
    go_on(waiting)
    assert process.wait(BOUND) == 0, waiting.log()  # submitted again
    assert f"SLURM job {job} ended as PREEMPTED and was not put back" in said(waiting.log())


def test_a_controller_that_stops(waiting: StudyCopy, cluster: SlurmCluster) -> None:
    process, job = start(waiting, cluster)
    cluster.stop_daemon("slurmctld")
    try:
        assert process.wait(BOUND) != 0
    finally:
        cluster.start_daemon("slurmctld")
    assert "SLURM has not answered for 6 s" in said(waiting.log())
    assert f"Jobs {job} may still run" in said(waiting.log())
    cluster.wait_until_answers()
    waiting.run("--unlock", *IMPATIENT)
    go_on(waiting)
    assert run(waiting).status == 0


def test_no_controller_from_the_start(waiting: StudyCopy, cluster: SlurmCluster) -> None:
    cluster.stop_daemon("slurmctld")
    try:
        ended = run(waiting)
    finally:
        cluster.start_daemon("slurmctld")
        cluster.wait_until_answers()
    assert ended.status != 0
    assert "SLURM does not answer" in ended.output
    assert "Traceback" not in ended.output


def test_jobs_of_a_killed_run_are_ended_before_theirs_start(
    waiting: StudyCopy, cluster: SlurmCluster
) -> None:
    process, job = start(waiting, cluster)
    process.kill()
    process.wait()
    assert waiting.run("--unlock", *IMPATIENT).status == 0
    second = waiting.start(*IMPATIENT)
    assert waiting.wait_for(
        lambda: (found := cluster.jobs("RUNNING")) and job not in found, 60, second
    ), waiting.log()
    assert f"SLURM job {job} of an earlier run works on the same tables" in said(waiting.log())
    go_on(waiting)
    assert second.wait(BOUND) == 0


def test_an_interrupted_run_leaves_no_job(waiting: StudyCopy, cluster: SlurmCluster) -> None:
    process, _ = start(waiting, cluster)
    process.send_signal(signal.SIGINT)
    assert process.wait(BOUND) != 0
    end = time.monotonic() + 30
    while cluster.jobs() and time.monotonic() < end:
        time.sleep(0.2)
    assert cluster.jobs() == []


def test_the_site_file_is_honoured(waiting: StudyCopy, cluster: SlurmCluster) -> None:
    site = waiting.folder / "slurm" / "site.yaml"
    site.write_text("account: mine\ncpu_partition: cpu\ngpu_partition: gpu\ngpu_type: tiny\n")
    process, job = start(waiting, cluster)
    fields = cluster.job(job)
    assert (fields["Account"], fields["Partition"]) == ("mine", "cpu")
    assert "gpu" not in fields.get("TresPerJob", "")
    go_on(waiting)
    assert process.wait(BOUND) == 0
    (waiting.folder / "go").unlink()

    process, job = start(waiting, cluster, "--config", "names=b", "gpu=1")
    fields = cluster.job(job)
    assert (fields["Account"], fields["Partition"]) == ("mine", "gpu")
    assert fields["TresPerJob"].endswith("gpu:tiny:1")
    go_on(waiting)
    assert process.wait(BOUND) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu_partition: gpus", "gpu_partition: the cluster has no partition 'gpus'; it has cpu"),
        ("gpu_type: a100", "gpu_type: no GPU of type 'a100' in any partition; there is tiny"),
        ("acount: mine", "unknown key 'acount'; keys are account, cpu_account"),
    ],
)
def test_a_site_file_that_does_not_fit(waiting: StudyCopy, text: str, message: str) -> None:
    (waiting.folder / "slurm" / "site.yaml").write_text(text)
    ended = run(waiting)
    assert ended.status != 0
    assert message in said(ended.output)
    assert "Traceback" not in ended.output


def test_the_run_waits_its_turn_for_a_gpu(waiting: StudyCopy, cluster: SlurmCluster) -> None:
    process, _ = start(waiting, cluster, "--config", "names=a,b", "gpu=1")
    assert waiting.wait_for(lambda: cluster.jobs("PENDING"), 60, process)
    time.sleep(10)  # more than the limit for what is blocked: a queue is none
    assert process.poll() is None
    go_on(waiting)
    assert process.wait(BOUND) == 0


def test_resources_cap_the_gpus_of_a_run(waiting: StudyCopy, cluster: SlurmCluster) -> None:
    process, _ = start(waiting, cluster, "--config", "names=a,b", "gpu=1", "--resources", "gpu=1")
    time.sleep(5)
    assert len(cluster.jobs()) == 1
    go_on(waiting)
    assert process.wait(BOUND) == 0
