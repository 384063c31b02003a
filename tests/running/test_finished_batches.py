"""Finished batches survive a kill; damaged ones and those of other work are computed again."""

import threading

import pyarrow as pa
import pytest

from vrp.running.finished_batches import FinishedBatches

PLAN = [("a", "b"), ("c",), ("d", "e")]
MADE_BY = {"model": "m", "code": "1"}


class Work:
    """Two tables a batch; counts what it computes, and stops as a kill would."""

    def __init__(self, stop_at=None):
        self.computed = []
        self.stop_at = stop_at

    def __call__(self, batch):
        if batch == self.stop_at:
            raise KeyboardInterrupt
        self.computed.append(batch)
        ids = pa.array(batch)
        numbers = pa.array([[float(ord(i)), float("nan")] for i in batch], pa.list_(pa.float32()))
        return pa.table({"id": ids}), pa.table({"id": ids, "numbers": numbers})


def finished(tmp_path, plan=PLAN, made_by=MADE_BY):
    return FinishedBatches(tmp_path / "answers" / "000.parquet", plan, made_by, stage="extract m")


def complete(batches, work):
    return [pa.concat_tables(t) for t in zip(*batches.complete(work), strict=True)]


def interrupted(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        complete(finished(tmp_path), Work(stop_at=("d", "e")))


def test_after_a_kill_only_the_rest_is_computed(tmp_path, caplog):
    caplog.set_level("INFO", logger="vrp")
    uninterrupted = complete(finished(tmp_path / "other"), Work())
    interrupted(tmp_path)
    work = Work()
    resumed = complete(finished(tmp_path), work)
    assert work.computed == [("d", "e")]
    for one, other in zip(uninterrupted, resumed, strict=True):
        assert one.to_pydict().__repr__() == other.to_pydict().__repr__()
        assert one.schema == other.schema
    assert "2 of 3 batches were finished by an earlier run" in caplog.text


@pytest.mark.parametrize(
    ("other", "rest"),
    [
        ([("a",), ("b",), ("c",), ("d",), ("e",)], [("d",), ("e",)]),
        ([("a", "c", "d"), ("b", "e")], [("d",), ("e",)]),
        ([("d", "e", "a", "b", "c")], [("d", "e")]),
    ],
)
def test_with_another_batch_size_the_finished_ones_stay(tmp_path, other, rest):
    interrupted(tmp_path)
    work = Work()
    tables = complete(finished(tmp_path, other), work)
    assert work.computed == rest
    assert [t["id"].to_pylist() for t in tables] == [["a", "b", "c", "d", "e"]] * 2
    again = Work()
    complete(finished(tmp_path, PLAN), again)
    assert again.computed == []


def test_tables_are_made_beside_the_next_batch(tmp_path):
    """Each batch but the last waits for its successor to begin: one after the other would hang."""
    begun = {batch: threading.Event() for batch in PLAN}
    work = Work()

    def compute(batch):
        begun[batch].set()
        return batch

    def tabulate(batch):
        after = PLAN.index(batch) + 1
        assert after == len(PLAN) or begun[PLAN[after]].wait(timeout=20)
        return work(batch)

    tables = [
        pa.concat_tables(t)
        for t in zip(*finished(tmp_path).complete(compute, tabulate), strict=True)
    ]
    assert work.computed == PLAN
    expected = complete(finished(tmp_path / "other"), Work())
    assert [t["id"].to_pylist() for t in tables] == [t["id"].to_pylist() for t in expected]


def test_a_kill_while_computing_keeps_what_was_made_beside_it(tmp_path):
    def compute(batch):
        if batch == PLAN[2]:
            raise KeyboardInterrupt
        return batch

    with pytest.raises(KeyboardInterrupt):
        list(finished(tmp_path).complete(compute, Work()))
    rest = Work()
    complete(finished(tmp_path), rest)
    assert rest.computed == [PLAN[2]]


def test_an_error_beside_is_raised_and_nothing_is_skipped(tmp_path):
    def tabulate(batch):
        if batch == PLAN[1]:
            raise RuntimeError("no table")
        return Work()(batch)

    with pytest.raises(RuntimeError, match="no table"):
        list(finished(tmp_path).complete(lambda batch: batch, tabulate))
    rest = Work()
    list(finished(tmp_path).complete(lambda batch: batch, rest))
    assert rest.computed == PLAN[1:]


def test_found_and_computed_batches_come_in_order(tmp_path):
    interrupted(tmp_path)
    batches = finished(tmp_path)
    batches._path(0).write_bytes(b"damaged")
    found = [t[0]["id"].to_pylist() for t in batches.complete(lambda batch: batch, Work())]
    assert found == [list(batch) for batch in PLAN]


def test_discarded_leaves_nothing(tmp_path):
    batches = finished(tmp_path)
    complete(batches, Work())
    assert list((tmp_path / "answers").iterdir()) == [batches.folder]
    batches.discard()
    assert list((tmp_path / "answers").iterdir()) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"made_by": {**MADE_BY, "code": "2"}},
        {"made_by": {**MADE_BY, "model": "n"}},
        {"plan": [("a", "b"), ("c",), ("d", "f")]},
    ],
)
def test_batches_of_other_work_are_not_taken_over(tmp_path, changed):
    interrupted(tmp_path)
    work = Work()
    complete(finished(tmp_path, **changed), work)
    assert work.computed == changed.get("plan", PLAN)


def test_what_an_outlived_job_still_writes_is_not_taken_over(tmp_path):
    """Old and new take turns: each batch says of which work it is, whoever wrote the plan."""
    old_work, new_work = Work(), Work(stop_at=PLAN[2])
    outlived = finished(tmp_path, made_by={**MADE_BY, "code": "0"})
    old = outlived.complete(old_work)
    next(old)
    new = finished(tmp_path).complete(new_work)  # throws away what the old one has written
    next(new)
    next(old)  # beside the new plan …
    with pytest.raises(KeyboardInterrupt):
        list(new)
    outlived._save(0, Work()(PLAN[0]))  # … over a new batch …
    next(old)  # … and where there is no new one

    rest = Work()
    complete(finished(tmp_path), rest)
    assert old_work.computed == PLAN
    assert rest.computed == [PLAN[0], PLAN[2]]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone"])
def test_damaged_batches_are_computed_again(tmp_path, damage):
    interrupted(tmp_path)
    path = sorted(finished(tmp_path).folder.glob("*.batch"))[0]
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {
                "cut": content[:-7],
                "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
                "empty": b"",
            }[damage]
        )
    work = Work()
    complete(finished(tmp_path), work)
    assert work.computed == [("a", "b"), ("d", "e")]
