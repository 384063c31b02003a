"""A run that succeeds removes the finished batches of whole shards, and no others."""

import pytest

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def test_batches_of_a_whole_shard_go_and_others_stay(checkout):
    """The run makes another target: of these shards it only sees the files."""
    model = checkout.folder / "results" / "demo" / "llava"
    tables = ("answers", "attention", "hidden", "lens")
    batches = {}
    for shard, written in (("000", tables), ("001", tables[:-1])):  # killed between two renames
        batches[shard] = model / "answers" / f".{shard}.batches"
        batches[shard].mkdir(parents=True)
        for table in written:
            (model / table).mkdir(exist_ok=True)
            (model / table / f"{shard}.parquet").write_text("a table")
    result = checkout.run("--cores", "1", "results/demo/sampling.json")
    assert result.status == 0, result.output
    assert not batches["000"].exists()
    assert batches["001"].is_dir()
