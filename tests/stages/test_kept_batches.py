"""Under the workflow, finished batches outlive the tables until the workflow has noted those."""

from typing import Any

import pyarrow.parquet as pq
import pytest

from vrp.running.shard import KEEP_BATCHES
from vrp.vlm import answer_distribution


def test_a_shard_that_was_deleted_after_its_end_is_not_computed_again(
    small_study: Any, monkeypatch: pytest.MonkeyPatch
):
    study = small_study()
    monkeypatch.setenv(KEEP_BATCHES, "1")
    output = study.consistency(batch_size=3, name="kept")
    before = pq.read_table(output).to_pydict().__repr__()
    assert list(study.folder.rglob("*.batch"))

    output.unlink()  # as Snakemake does with the outputs of a job that ended badly
    monkeypatch.setattr(
        answer_distribution, "sample_answers", lambda *a, **k: pytest.fail("computed")
    )
    again = study.consistency(batch_size=3, name="kept")
    assert pq.read_table(again).to_pydict().__repr__() == before


def test_by_hand_nothing_is_left(small_study: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(KEEP_BATCHES, raising=False)
    study = small_study()
    study.consistency(batch_size=3, name="alone")
    assert list(study.folder.rglob(".*.batches")) == []
