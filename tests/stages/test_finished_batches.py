"""Finished batches survive a kill; damaged ones and those of other work are computed again."""

import pyarrow as pa
import pytest

from vrp.stages.finished_batches import FinishedBatches

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


def test_after_a_kill_only_the_rest_is_computed(tmp_path, capsys):
    undisturbed = complete(finished(tmp_path / "other"), Work())
    interrupted(tmp_path)
    work = Work()
    resumed = complete(finished(tmp_path), work)
    assert work.computed == [("d", "e")]
    for one, other in zip(undisturbed, resumed, strict=True):
        assert one.to_pydict().__repr__() == other.to_pydict().__repr__()
        assert one.schema == other.schema
    assert "2 of 3 batches were finished by an earlier run" in capsys.readouterr().err


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
        {"plan": [("a", "b", "c"), ("d", "e")]},
        {"plan": [("a", "b"), ("c",), ("e", "d")]},
    ],
)
def test_batches_of_other_work_are_not_taken_over(tmp_path, changed):
    interrupted(tmp_path)
    work = Work()
    complete(finished(tmp_path, **changed), work)
    assert work.computed == changed.get("plan", PLAN)


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
