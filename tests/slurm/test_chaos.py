"""Runs that are killed at a random moment and resumed end like an uninterrupted one.

VRP_CHAOS=25 pytest -m chaos -s     all of them; three by default
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from slurm_cluster import SlurmCluster, why_not
from study_copy import StudyCopy, small_disk, wait_gone
from study_tables import differences, study_tables

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.workflow]

STUDY = """
study: chaos
data:
  origin: scenes
  folder: data/chaos
  scenes: {namespace: chaos, n_pope_images: 8, n_vqa_images: 24}
sample:
  splits:
    - {dataset: pope, split: adversarial, task: existence, count: 12}
    - {dataset: vqa, split: counting, task: counting, count: 10}
    - {dataset: vqa, split: spatial, task: spatial, count: 10}
    - {dataset: vqa, split: open, task: open, count: 8}
models:
  llava: {family: llava, checkpoint: "zoo:llava", device: cpu}
extract: {shards: 1, batch_size: 4}
consistency: {k: 3, batch_size: 4}
metrics: {bootstrap: 100}
probes: {folds: 2, inner_folds: 2, penalties: [0.1], mlp: false, bootstrap: 100}
mask:
  items: 12
  batch_size: 4
  conditions:
    - {kind: top, share: 0.3}
    - {kind: random, share: 0.3}
ablate:
  items: 12
  batch_size: 4
  conditions:
    - {kind: top, count: 5}
    - {kind: random, count: 5, seeds: 1}
    - {kind: random, share: 0.5, seeds: 1}
effects: {sign_flips: 100}
"""
# On this machine everything; under SLURM, where a job takes longer to start, up to metrics, but
# for one of each kind.
REPORT, UP_TO_METRICS = "results/chaos/report.html", "results/chaos/llava/metrics.parquet"
# In a job of their own, and in those that light stages share.
LIGHT_STAGES = ("gather", "metrics", "probes", "effects", "figures", "report", "explorer")
LATE_STAGES = ("mask", "ablate")
MODEL_STAGES = ("extract", "blind", "consistency", *LATE_STAGES)
LOCAL = ("--cores", "2")
ON_SLURM = (
    "--profile", "slurm", "--vrp-slurm-init-seconds-before-status-checks", "2",
    "--latency-wait", "5",
    "--set-threads", *(f"{stage}=1" for stage in (*MODEL_STAGES, "metrics", "probes")),
    "--set-resources", *(f"{stage}:gpu=1" for stage in MODEL_STAGES),
)  # fmt: skip
KINDS = ("SIGKILL", "SIGTERM", "killed snakemake", "full disk", "requeue")
# What a run of three is made of.
FIRST = ("SIGKILL", "full disk", "requeue")
ATTEMPTS = 4


class Scenario(NamedTuple):
    """One disturbed run."""

    kind: str
    seed: int
    slurm: bool

    @property
    def target(self) -> str:
        """The file that the run is for."""
        return UP_TO_METRICS if self.slurm and self.seed != 1 else REPORT

    @property
    def strikes_light_stages(self) -> bool:
        """Whether a stage without a model is disturbed; else one with a model."""
        return self.kind != "full disk" and self.seed in (1, 3) and self.target == REPORT

    def __str__(self) -> str:
        return f"{self.kind}-{self.seed}-{'slurm' if self.slurm else 'local'}".replace(" ", "-")


class Moment(NamedTuple):
    """When a run is disturbed: so many seconds after a light stage or a batch has begun."""

    stage: str | None
    batch: int
    later: float

    def has_come(self, copy: StudyCopy) -> bool:
        if self.stage is None:
            return len(copy.events("batch")) > self.batch
        return any(event["stage"] == self.stage for event in copy.events("start"))

    def __str__(self) -> str:
        begun = f"batch {self.batch}" if self.stage is None else f"the first {self.stage}"
        return f"{self.later:.1f} s after {begun} had begun"


def all_scenarios() -> list[Scenario]:
    """Five of each kind, about half of them under SLURM: one of `FIRST` each, then by chance."""
    found = [
        Scenario(kind, seed, kind == "requeue" or seed % 5 < 2)
        for kind in KINDS
        for seed in range(5)
    ]
    random.Random(4).shuffle(found)
    # Light stages are struck in the longer run: to come to them takes minutes.
    short = [one for one in found if not one.strikes_light_stages]
    first = [next(one for one in short if one.kind == kind) for kind in FIRST]
    return first + [one for one in found if one not in first]


def scenarios() -> list[Scenario]:
    """As many of them as are asked for."""
    return all_scenarios()[: int(os.environ.get("VRP_CHAOS", "3"))]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> StudyCopy:
    """The same study without a disturbance, on this machine."""
    copy = new_copy(tmp_path_factory.mktemp("uninterrupted"), warm=True)
    ended = copy.run(REPORT, "--configfile", "config/chaos.yaml", *LOCAL)
    assert ended.status == 0, ended.output[-5000:]
    assert copy.computed_again() == 0
    assert not list((copy.folder / "results").rglob(".*.batches"))
    return copy


def new_copy(folder: Path, *, seconds_a_batch: float = 0, warm: bool = False) -> StudyCopy:
    copy = StudyCopy(folder, seconds_a_batch=seconds_a_batch, warm=warm)
    (folder / "config" / "chaos.yaml").write_text(STUDY)
    return copy


@pytest.mark.parametrize("scenario", scenarios(), ids=str)
def test_nothing_is_lost(
    scenario: Scenario,
    uninterrupted: StudyCopy,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if scenario.slurm and (scenario.kind == "requeue" or why_not() is None):
        cluster = request.getfixturevalue("cluster")
    else:
        cluster, scenario = None, scenario._replace(slurm=False)
    copy = new_copy(tmp_path, seconds_a_batch=0.3)
    arguments = [
        scenario.target,
        "--configfile",
        "config/chaos.yaml",
        *(ON_SLURM if cluster else LOCAL),
    ]
    chance = random.Random(f"{scenario.kind} {scenario.seed}")
    began = time.monotonic()

    with disk_of(scenario, copy, uninterrupted, chance) as enlarge:
        process = copy.start(*arguments)
        at = moment(scenario, uninterrupted, chance)
        what = disturb(scenario, copy, process, at, cluster)
        status = process.wait(600)
        if scenario.kind == "full disk":
            assert status != 0
            assert "No space left on device" in copy.log()
        enlarge()
        for _ in range(ATTEMPTS):
            if status == 0:
                break
            unlocked = copy.run("--unlock", *arguments[1:])
            assert unlocked.status == 0, unlocked.output[-3000:]
            status = copy.run(*arguments).status
        assert status == 0, copy.log()[-5000:]
        results = copy.folder / "results" / "chaos"
        check_tables(results, uninterrupted.folder / "results" / "chaos", scenario)
        assert not list(results.rglob(".*.batches"))

    again, cut_short = copy.computed_again(), copy.cut_short()
    with capsys.disabled():
        print(
            f"\n{scenario}: {what}; {cut_short} stages cut short, {again} batches computed again, "
            f"{time.monotonic() - began:.0f} s"
        )
    assert again <= cut_short


def check_tables(results: Path, expected: Path, scenario: Scenario) -> None:
    if scenario.target == UP_TO_METRICS:
        assert len(study_tables(results)) >= 7
        assert differing(results, expected) == []
    else:
        assert (results / "summary.json").read_text() == (expected / "summary.json").read_text()
        assert list(differences(results, expected, to_the_bit=True)) == []


def differing(results: Path, expected: Path) -> list[str]:
    """In what the tables of a part of the study differ from those of the whole."""
    not_made = study_tables(expected).keys() - study_tables(results).keys()
    allowed = {f"{place}: in one run only" for place in not_made}
    found = differences(results, expected, to_the_bit=True)
    return [line for line in found if line not in allowed]


def moment(scenario: Scenario, uninterrupted: StudyCopy, chance: random.Random) -> Moment:
    batches = [event["batch"] for event in uninterrupted.events("batch")]
    if scenario.target == UP_TO_METRICS:
        batches = [batch for batch in batches if not any(f"/{s}/" in batch for s in LATE_STAGES)]
    light = LIGHT_STAGES[1:] if scenario.slurm else LIGHT_STAGES  # there, lists are no jobs
    stage = chance.choice(light) if scenario.strikes_light_stages else None
    # Never so late that the run may be over.
    batch = min(chance.randrange(len(batches)), len(batches) - 4)
    return Moment(stage, batch, chance.uniform(0, 0.8))


def disk_of(
    scenario: Scenario, copy: StudyCopy, uninterrupted: StudyCopy, chance: random.Random
) -> "Disk":
    if scenario.kind != "full disk":
        return Disk(None, 0)
    if os.geteuid() != 0:
        pytest.skip("a small disk is mounted as root")
    files = (uninterrupted.folder / "results").rglob("*.parquet")
    size = sum(path.stat().st_size for path in files)
    return Disk(copy.folder / "results", int(chance.uniform(0.1, 0.8) * size))


class Disk:
    """The results folder's disk: a small one that can be enlarged, or the machine's own."""

    def __init__(self, folder: Path | None, size: int) -> None:
        self.size = size
        self._disk = small_disk(folder, max(size, 64 * 1024)) if folder else None

    def __enter__(self):  # type: ignore[no-untyped-def]
        if self._disk is None:
            return lambda: None
        resize = self._disk.__enter__()
        return lambda: resize(2**30)

    def __exit__(self, *error) -> None:  # type: ignore[no-untyped-def]
        if self._disk is not None:
            self._disk.__exit__(*error)


def disturb(
    scenario: Scenario,
    copy: StudyCopy,
    process: "subprocess.Popen[str]",
    moment: Moment,
    cluster: SlurmCluster | None,
) -> str:
    """Do it, at its moment; return what was done."""
    if scenario.kind == "full disk":
        return "the disk fills up"
    assert copy.wait_for(lambda: moment.has_come(copy), 600, process), copy.log()[-3000:]
    time.sleep(moment.later)
    if scenario.kind == "killed snakemake":
        process.kill()
        process.wait()
        if cluster is None:
            # Nobody is left to take their results: they end by themselves.
            left = [event["pid"] for event in copy.running()]
            assert wait_gone(left, 10) == []
        return f"snakemake killed {moment}"
    victim = wait_for_victim(copy, process, moment)
    if scenario.kind == "requeue":
        assert cluster is not None
        cluster.requeue(victim["environment"]["SLURM_JOB_ID"])
        return f"requeued in {victim['stage']}, {moment}"
    told = time.monotonic()
    if scenario.kind == "SIGTERM" and cluster is not None:
        # As at the end of the job's time: every process of it is told.
        cluster.terminate(victim["environment"]["SLURM_JOB_ID"])
    else:
        os.kill(victim["pid"], getattr(signal, scenario.kind))
    assert wait_gone([victim["pid"]], 30) == []
    seconds = time.monotonic() - told
    if scenario.kind == "SIGTERM":
        assert seconds < 5
    return f"{scenario.kind} in {victim['stage']}, {moment}, gone after {seconds:.2f} s"


def wait_for_victim(
    copy: StudyCopy, process: "subprocess.Popen[str]", moment: Moment
) -> dict[str, Any]:
    """A stage that lives: the one that is meant, or any that runs a model."""
    running = copy.running_models if moment.stage is None else copy.running
    assert copy.wait_for(running, 300, process), copy.log()[-3000:]
    found = running()
    return next((event for event in found if event["stage"] == moment.stage), found[0])


@pytest.mark.skipif(len(scenarios()) < 25, reason="takes minutes: part of all 25 (VRP_CHAOS=25)")
def test_a_job_at_the_end_of_its_time_goes_on_in_the_next(
    uninterrupted: StudyCopy,
    tmp_path: Path,
    cluster: SlurmCluster,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # SLURM ends a job of one minute after one to one and a half. Ten batches take longer, and
    # three tries are enough for them.
    copy = new_copy(tmp_path, seconds_a_batch=10)
    target = "results/chaos/llava/answers/000.parquet"
    ended = copy.run(target, "--configfile", "config/chaos.yaml", *ON_SLURM, "extract:runtime=1")
    assert ended.status == 0, ended.output[-5000:]
    assert "TIMEOUT" in ended.output
    again, cut_short = copy.computed_again(), copy.cut_short()
    with capsys.disabled():
        print(f"\nout of time: {cut_short} tries cut short, {again} batches computed again")
    assert again <= cut_short >= 1
    results, expected = (its.folder / "results" / "chaos" for its in (copy, uninterrupted))
    assert "llava/answers" in study_tables(results)
    assert differing(results, expected) == []


def test_the_scenarios_are_the_same_every_time() -> None:
    assert all_scenarios() == all_scenarios()
    assert len(set(all_scenarios())) == 5 * len(KINDS)
    assert [one.kind for one in all_scenarios()[:3]] == list(FIRST)


@pytest.fixture(autouse=True)
def _empty_queue(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster").clear()
