"""What a run that succeeds clears away: finished batches that nobody needs any more, no others."""

from base64 import urlsafe_b64encode

import pytest

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

SHARD = "results/demo/llava/answers/000.parquet"
RUN = ("--cores", "1", "results/demo/sampling.json")


def batches_beside(checkout, *tables):
    """Finished batches of a shard of which these tables are there."""
    model = checkout.folder / "results" / "demo" / "llava"
    folder = model / "answers" / ".000.batches"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text("{}")
    for table in ("answers", "attention", "hidden", "lens"):
        path = model / table / "000.parquet"
        path.unlink(missing_ok=True)
        if table in tables:
            path.parent.mkdir(exist_ok=True)
            path.write_text("a table")
    return folder


def run(checkout):
    result = checkout.run(*RUN, "--forcerun", "sample")
    assert result.status == 0, result.output


def test_batches_of_a_whole_shard_go_and_others_stay(checkout):
    """Another target ran: what it did not look at is as it was before."""
    all_of_it = ("answers", "attention", "hidden", "lens")
    folder = batches_beside(checkout, "answers", "attention", "hidden")  # killed between renames
    run(checkout)
    assert (folder / "plan.json").is_file()

    folder = batches_beside(checkout, *all_of_it)
    marks = checkout.folder / ".snakemake" / "incomplete"
    marks.mkdir(exist_ok=True)
    mark = marks / urlsafe_b64encode(SHARD.encode()).decode()
    mark.touch()  # killed before Snakemake took note
    run(checkout)
    assert (folder / "plan.json").is_file()

    mark.unlink()
    alone = folder.parents[1] / "mask" / ".000.batches"  # the only table of its shard
    alone.mkdir(parents=True)
    alone.with_name("000.parquet").write_text("a table")
    run(checkout)
    assert not folder.exists()
    assert not alone.exists()
