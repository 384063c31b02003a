"""A killed shard continues where it stopped, and its tables are those of an uninterrupted run."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from vrp.stages import blind, consistency, extract
from vrp.tables.answers import ANSWERS
from vrp.tables.parquet_files import read_table
from vrp.tables.seal import read_provenance
from vrp.vlm import answer_distribution, decode

pytestmark = pytest.mark.slow

STAGES = {"extract": extract, "blind": blind, "consistency": consistency}


def tables(outputs: Any) -> dict[str, Any]:
    paths = outputs if isinstance(outputs, dict) else {"consistency": outputs}
    return {name: pq.read_table(path).to_pydict().__repr__() for name, path in paths.items()}


def side_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.batch"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_shard_continues(stage: str, small_study: Any, monkeypatch: pytest.MonkeyPatch):
    study = small_study()
    run = getattr(study, stage)
    uninterrupted = tables(run(batch_size=3, name="uninterrupted"))

    module, name = (
        (answer_distribution, "sample_answers") if stage == "consistency" else (decode, "run_batch")
    )
    original, calls = getattr(module, name), []

    def counted(*arguments: Any, **options: Any) -> Any:
        if len(calls) == 2 and not killed:
            killed.append(True)
            raise KeyboardInterrupt
        calls.append(True)
        return original(*arguments, **options)

    killed: list[bool] = []
    monkeypatch.setattr(module, name, counted)
    with pytest.raises(KeyboardInterrupt):
        run(batch_size=3, name="killed")
    left = side_files(study.folder)
    assert len(left) == 2
    assert not list((study.folder / "killed").rglob("*.parquet"))

    resumed = run(batch_size=3, name="killed")
    n_batches = -(-study.n_items // 3)
    assert len(calls) <= n_batches + 1  # the batch that was lost is not among the finished two
    assert tables(resumed) == uninterrupted
    assert side_files(study.folder) == []


def test_with_another_batch_size_finished_batches_stay(
    small_study: Any, monkeypatch: pytest.MonkeyPatch
):
    study = small_study()
    original, calls = answer_distribution.sample_answers, []

    def killed_at_third(*arguments: Any, **options: Any) -> Any:
        calls.append(len(arguments[1]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(answer_distribution, "sample_answers", killed_at_third)
    with pytest.raises(KeyboardInterrupt):
        study.consistency(batch_size=2, name="killed")
    study.consistency(batch_size=4, name="killed")
    assert sum(calls[3:]) == study.n_items - 4  # two batches of two were finished
    assert side_files(study.folder) == []


def test_the_plan_is_kept_with_the_shard(small_study: Any):
    outputs = small_study().extract(batch_size=3)
    plan = json.loads(read_provenance(outputs["answers"])["batch_plan"])
    ids = read_table(outputs["answers"], ANSWERS)["item_id"].to_list()
    assert sorted(item for batch in plan for item in batch) == ids
    assert max(map(len, plan)) == 3
    assert "batch_plan" not in read_provenance(outputs["hidden"])
