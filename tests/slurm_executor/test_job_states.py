"""States of jobs, as SLURM shows them, and what is decided for each."""

from typing import Any

import pytest

from snakemake_executor_plugin_vrp_slurm.job_states import (
    Decision,
    JobState,
    StatePolicy,
    blocking_reason,
    format_duration,
)

BLOCKED, GRACE = 600.0, 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def decide(clock: Clock) -> Any:
    policy = StatePolicy(blocked_limit=BLOCKED, grace=GRACE, clock=clock)

    def at(now: float, state: str | None, reason: str = "None", job: str = "7") -> Decision:
        clock.now = now
        return policy.decide(job, None if state is None else JobState(state, reason))

    return at


@pytest.mark.parametrize(
    "state", ["RUNNING", "CONFIGURING", "SUSPENDED", "RESIZING", "STAGE_OUT", "REQUEUED"]
)
def test_what_runs_is_waited_for(decide, state):
    assert decide(0, state).outcome == "wait"
    assert decide(1e6, state).outcome == "wait"


@pytest.mark.parametrize(
    "reason",
    [
        "Priority", "Resources", "None", "Dependency", "BeginTime", "Licenses", "Reservation",
        "QOSMaxJobsPerUserLimit", "AssocGrpGRES", "QOSGrpCpuLimit", "AssocGrpCPURunMinutesLimit",
    ],
)  # fmt: skip
def test_a_queue_is_waited_for(decide, reason):
    assert decide(0, "PENDING", reason).outcome == "wait"
    assert decide(1e6, "PENDING", reason).outcome == "wait"


def test_completed(decide):
    assert decide(0, "COMPLETED").outcome == "done"


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
def test_what_failed(decide, state, words):
    decision = decide(0, state)
    assert decision.outcome == "failed"
    assert words in decision.message
    assert "job 7" in decision.message


def test_the_reason_of_a_failure_is_named(decide):
    assert "(BadConstraints)" in decide(0, "FAILED", "BadConstraints").message


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL"])
def test_what_slurm_may_requeue_gets_time_and_no_more(decide, state):
    assert decide(0, state).outcome == "wait"
    assert decide(GRACE - 1, state).outcome == "wait"
    decision = decide(GRACE, state)
    assert decision.outcome == "failed"
    assert state in decision.message


def test_what_slurm_did_requeue_is_waited_for(decide):
    decide(0, "PREEMPTED")
    assert decide(GRACE, "PENDING", "BeginTime").outcome == "wait"
    assert decide(10 * GRACE, "PREEMPTED").outcome == "wait"  # another preemption


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
def test_what_is_blocked_is_given_up_in_time(decide, reason):
    assert decide(0, "PENDING", reason).outcome == "wait"
    assert decide(BLOCKED - 1, "PENDING", reason).outcome == "wait"
    decision = decide(BLOCKED, "PENDING", reason)
    assert decision.outcome == "cancel"
    assert "10 min" in decision.message
    assert reason in decision.message


def test_a_block_that_ends_is_forgotten(decide):
    decide(0, "PENDING", "PartitionDown")
    decide(BLOCKED - 1, "PENDING", "Priority")
    assert decide(BLOCKED, "PENDING", "PartitionDown").outcome == "wait"


def test_one_block_may_follow_another_without_a_break(decide):
    decide(0, "PENDING", "ReqNodeNotAvail")
    assert decide(BLOCKED, "PENDING", "PartitionDown").outcome == "cancel"


def test_jobs_have_clocks_of_their_own(decide):
    decide(0, "PENDING", "PartitionDown", job="1")
    assert decide(BLOCKED, "PENDING", "PartitionDown", job="2").outcome == "wait"


@pytest.mark.parametrize(
    "state", ["COMPLETING", "STOPPED", "RESV_DEL_HOLD", "REQUEUE_HOLD", "SPECIAL_EXIT", "NEW_ONE"]
)
def test_a_state_that_never_ends(decide, state):
    assert decide(0, state).outcome == "wait"
    assert decide(BLOCKED - 1, state).outcome == "wait"
    decision = decide(BLOCKED, state)
    assert decision.outcome == "cancel"
    assert state in decision.message


@pytest.mark.parametrize(
    "reason",
    [
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority "
        "partitions",
        "ReqNodeNotAvail, May be reserved for other job",
    ],
)
def test_nodes_that_are_only_busy_are_waited_for(clock, reason):
    policy = StatePolicy(blocked_limit=BLOCKED, grace=GRACE, clock=clock)
    seen = JobState("PENDING", reason, "main")
    for clock.now in (0, 10 * BLOCKED):
        assert policy.decide("7", seen, has_nodes=lambda: True).outcome == "wait"
    # The last of them goes out of service: the time counts from then.
    assert policy.decide("7", seen, has_nodes=lambda: False).outcome == "wait"
    clock.now += BLOCKED
    assert policy.decide("7", seen, has_nodes=lambda: False).outcome == "cancel"


def test_a_job_that_the_queue_forgot(decide):
    assert decide(0, None).outcome == "wait"
    assert decide(GRACE, None).outcome == "gone"


def test_reasons_of_one_kind_have_one_explanation():
    assert blocking_reason("Priority") is None
    assert blocking_reason("PartitionDown") == blocking_reason("PartitionNodeLimit")


def test_format_duration():
    assert format_duration(6) == "6 s"
    assert format_duration(1200) == "20 min"
