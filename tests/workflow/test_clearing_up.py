"""A run that succeeds removes the finished batches of whole shards, and no others."""

import pytest

from vrp.config.study import load_study
from vrp.study.graph import STAGE
from vrp.study.table_origins import expected_provenance
from vrp.tables.parquet_files import write_table
from vrp.tables.schema import column, integer, table

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def test_batches_of_a_whole_shard_go_and_others_stay(checkout):
    """The run makes another target: of these shards it only sees the files."""
    model = checkout.folder / "results" / "demo" / "llava"
    study = load_study(checkout.folder / "config" / "demo.yaml")
    made_by = expected_provenance(study, STAGE["extract"], "llava")
    a_table = table("toy", ("x",), column("x", integer, "a number"))
    tables = ("answers", "attention", "hidden", "lens")
    batches = {}
    for shard, written in (("000", tables), ("001", tables[:-1])):  # killed between two renames
        batches[shard] = model / "answers" / f".{shard}.batches"
        batches[shard].mkdir(parents=True)
        for name in written:
            path = model / name / f"{shard}.parquet"
            write_table(path, a_table, {"x": [1]}, provenance=made_by)
    result = checkout.run("--cores", "1", "results/demo/sampling.json")
    assert result.status == 0, result.output
    assert not batches["000"].exists()
    assert batches["001"].is_dir()
