"""Every function of the package that a stage runs is part of its digest, or declared not to count.

The study config/ci.yaml runs with a `vrp` that writes down what runs (tests/support/traced_vrp.py).
"""

from pathlib import Path

import pytest
from study_copy import StudyCopy

from vrp.config.study import load_study
from vrp.source.content import whole_content_of
from vrp.source.definitions import Definition
from vrp.study import digests
from vrp.study.layout import StudyLayout

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

CONFIG = Path("config", "ci.yaml")
TRACED = Path(__file__).parents[1] / "support" / "traced_vrp.py"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(stage, model) → definitions that its jobs ran."""
    folder = tmp_path_factory.mktemp("traced")
    (folder / "ran").mkdir()
    copy = StudyCopy(folder / "study", program=TRACED)
    ended = copy.run(
        "--cores", "2", "--configfile", str(CONFIG), timeout=3000, VRP_TRACE=str(folder / "ran")
    )
    assert ended.status == 0, ended.output
    files = (folder / "ran").iterdir()
    return {tuple(path.name.split(" ")): set(path.read_text().splitlines()) for path in files}


def test_every_stage_ran(ran):
    study = load_study(Path(__file__).parents[2] / CONFIG)
    jobs = {(job.stage, job.model) for job in StudyLayout(study).jobs()}
    assert {(stage, *model) for stage, *model in ran} == {
        (stage, model) if model else (stage,) for stage, model in jobs
    }
    assert all(names for names in ran.values())


def named_in_messages(definitions: list[Definition]) -> set[str]:
    """Definitions that texts which do not count name, such as arguments of exceptions."""
    return {target.id for one in definitions for target in whole_content_of(one).targets}


def test_what_a_stage_runs_is_part_of_its_digest(ran):
    study = load_study(Path(__file__).parents[2] / CONFIG)
    escaped = {}
    for (stage, *model), names in ran.items():
        reached = digests.reach_stage(stage, digests.chosen_by(study, stage, *model)).definitions
        missing = names - reached.keys()
        escaped[stage, *model] = missing - named_in_messages(list(reached.values()))
    assert {job: names for job, names in escaped.items() if names} == {}
