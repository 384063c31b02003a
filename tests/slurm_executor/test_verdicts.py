"""States of jobs, as SLURM shows them, and what they come to."""

from typing import Any

import pytest

from snakemake_executor_plugin_vrp_slurm.verdicts import (
    JobState,
    Verdict,
    Verdicts,
    in_words,
    meaning_of,
)

BLOCKED, SETTLE = 600.0, 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def judge(clock: Clock) -> Any:
    verdicts = Verdicts(blocked_limit=BLOCKED, settle=SETTLE, clock=clock)

    def at(now: float, state: str | None, reason: str = "None", job: str = "7") -> Verdict:
        clock.now = now
        return verdicts.judge(job, None if state is None else JobState(state, reason))

    return at


@pytest.mark.parametrize(
    "state", ["RUNNING", "CONFIGURING", "SUSPENDED", "RESIZING", "STAGE_OUT", "REQUEUED"]
)
def test_what_runs_is_waited_for(judge, state):
    assert judge(0, state).outcome == "wait"
    assert judge(1e6, state).outcome == "wait"


@pytest.mark.parametrize(
    "reason",
    [
        "Priority", "Resources", "None", "Dependency", "BeginTime", "Licenses", "Reservation",
        "QOSMaxJobsPerUserLimit", "AssocGrpGRES", "QOSGrpCpuLimit", "AssocGrpCPURunMinutesLimit",
    ],
)  # fmt: skip
def test_a_queue_is_waited_for(judge, reason):
    assert judge(0, "PENDING", reason).outcome == "wait"
    assert judge(1e6, "PENDING", reason).outcome == "wait"


def test_completed(judge):
    assert judge(0, "COMPLETED").outcome == "done"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("FAILED", "ended as FAILED."),
        ("CANCELLED by 0", "ended as CANCELLED; somebody cancelled it."),
        ("CANCELLED+", "ended as CANCELLED"),
        ("OUT_OF_MEMORY", "more memory"),
        ("TIMEOUT", "more time"),
        ("DEADLINE", "DEADLINE"),
        ("BOOT_FAIL", "BOOT_FAIL"),
    ],
)
def test_what_failed(judge, state, words):
    verdict = judge(0, state)
    assert verdict.outcome == "failed"
    assert words in verdict.message
    assert "job 7" in verdict.message


def test_the_reason_of_a_failure_is_named(judge):
    assert "(BadConstraints)" in judge(0, "FAILED", "BadConstraints").message


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL"])
def test_what_slurm_may_requeue_gets_time_and_no_more(judge, state):
    assert judge(0, state).outcome == "wait"
    assert judge(SETTLE - 1, state).outcome == "wait"
    verdict = judge(SETTLE, state)
    assert verdict.outcome == "failed"
    assert state in verdict.message


def test_what_slurm_did_requeue_is_waited_for(judge):
    judge(0, "PREEMPTED")
    assert judge(SETTLE, "PENDING", "BeginTime").outcome == "wait"
    assert judge(10 * SETTLE, "PREEMPTED").outcome == "wait"  # another preemption


# As SLURM 22.05 prints them.
@pytest.mark.parametrize(
    "reason",
    [
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority "
        "partitions",
        "(Nodes required for job are DOWN, DRAINED or reserved)",
        "ReqNodeNotAvail, UnavailableNodes:node1",
        "PartitionDown",
        "PartitionTimeLimit",
        "JobHeldUser",
        "JobHeldAdmin",
        "BadConstraints",
        "InvalidQOS",
        "launch failed requeued held",
        "job requeued in held state",
        "user env retrieval failed requeued held",
        "AssocGrpCPUMinutesLimit",
        "AssocGrpBillingMinutes",
        "AssocMaxWallDurationPerJobLimit",
        "QOSMaxWallDurationPerJobLimit",
        "AssocMaxGRESPerJob",
        "QOSMaxGRESPerJob",
        "QOSMaxMemoryPerJob",
        "QOSMaxCpuPerJobLimit",
        "QOSMinGRES",
        "QOSGrpGRESMinutes",
        "ReservationDeleted",
        "BurstBufferStageInFailed",
        "MaxMemPerLimit",
        "DependencyNeverSatisfied",
    ],
)
def test_what_is_blocked_is_given_up_in_time(judge, reason):
    assert judge(0, "PENDING", reason).outcome == "wait"
    assert judge(BLOCKED - 1, "PENDING", reason).outcome == "wait"
    verdict = judge(BLOCKED, "PENDING", reason)
    assert verdict.outcome == "cancel"
    assert "10 min" in verdict.message
    assert reason in verdict.message


def test_a_block_that_ends_is_forgotten(judge):
    judge(0, "PENDING", "PartitionDown")
    judge(BLOCKED - 1, "PENDING", "Priority")
    assert judge(BLOCKED, "PENDING", "PartitionDown").outcome == "wait"


def test_one_block_may_follow_another_without_a_break(judge):
    judge(0, "PENDING", "ReqNodeNotAvail")
    assert judge(BLOCKED, "PENDING", "PartitionDown").outcome == "cancel"


def test_jobs_have_clocks_of_their_own(judge):
    judge(0, "PENDING", "PartitionDown", job="1")
    assert judge(BLOCKED, "PENDING", "PartitionDown", job="2").outcome == "wait"


@pytest.mark.parametrize(
    "state", ["COMPLETING", "STOPPED", "RESV_DEL_HOLD", "REQUEUE_HOLD", "SPECIAL_EXIT", "NEW_ONE"]
)
def test_a_state_that_never_ends(judge, state):
    assert judge(0, state).outcome == "wait"
    assert judge(BLOCKED - 1, state).outcome == "wait"
    verdict = judge(BLOCKED, state)
    assert verdict.outcome == "cancel"
    assert state in verdict.message


@pytest.mark.parametrize(
    "reason",
    [
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority "
        "partitions",
        "ReqNodeNotAvail, May be reserved for other job",
    ],
)
def test_nodes_that_are_only_busy_are_waited_for(clock, reason):
    verdicts = Verdicts(blocked_limit=BLOCKED, settle=SETTLE, clock=clock)
    seen = JobState("PENDING", reason, "main")
    for clock.now in (0, 10 * BLOCKED):
        assert verdicts.judge("7", seen, has_nodes=lambda: True).outcome == "wait"
    # The last of them goes out of service: the time counts from then.
    assert verdicts.judge("7", seen, has_nodes=lambda: False).outcome == "wait"
    clock.now += BLOCKED
    assert verdicts.judge("7", seen, has_nodes=lambda: False).outcome == "cancel"


def test_a_job_that_the_queue_forgot(judge):
    assert judge(0, None).outcome == "wait"
    assert judge(SETTLE, None).outcome == "gone"


def test_meanings():
    assert meaning_of("Priority") is None
    assert meaning_of("PartitionDown") == meaning_of("PartitionNodeLimit")


def test_in_words():
    assert in_words(6) == "6 s"
    assert in_words(1200) == "20 min"
