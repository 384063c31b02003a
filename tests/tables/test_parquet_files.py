import errno
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vrp.errors import InputError
from vrp.tables.atomic_files import atomic_write, remove_abandoned_parts
from vrp.tables.parquet_files import read_batches, read_table, write_table
from vrp.tables.schema import TableSchema, column, integer, numbers, text
from vrp.tables.seal import read_provenance

TABLE = TableSchema(
    name="toy",
    key=("item_id",),
    columns=pa.schema(
        [
            column("item_id", text, "item"),
            column("n", integer, "a count"),
            column("row", numbers, "a row", unit="nats", shape="n"),
            column("note", text, "why", nullable=True),
        ]
    ),
)
ROWS = {"item_id": ["b", "a"], "n": [2, 1], "row": [[1.0], []], "note": [None, "x"]}


def test_rows_come_back_in_the_order_of_the_key(tmp_path):
    path = tmp_path / "deep" / "toy.parquet"
    write_table(path, TABLE, ROWS, provenance={"study": "s"})
    frame = read_table(path, TABLE)
    assert frame["item_id"].to_list() == ["a", "b"]
    assert frame["row"].to_list() == [[], [1.0]]
    assert read_provenance(path) == {"study": "s", "table": "toy"}


def test_units_and_shapes_are_in_the_file(tmp_path):
    path = tmp_path / "toy.parquet"
    write_table(path, TABLE, ROWS, provenance={})
    metadata = pq.read_schema(path).field("row").metadata
    assert metadata[b"unit"] == b"nats"
    assert metadata[b"shape"] == b"n"


def test_polars_and_arrow_are_taken_too(tmp_path):
    frame = pl.DataFrame(ROWS)
    for i, given in enumerate((frame, frame.to_arrow())):
        write_table(tmp_path / f"{i}.parquet", TABLE, given, provenance={})
    first, second = (read_table(tmp_path / f"{i}.parquet", TABLE) for i in range(2))
    assert first.equals(second)


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ({**ROWS, "item_id": ["a", "a"]}, "not unique"),
        ({**ROWS, "n": [None, 1]}, "nulls"),
        ({**ROWS, "more": [1, 2]}, "unknown columns"),
        ({key: ROWS[key] for key in ("item_id", "n", "row")}, "missing columns"),
    ],
)
def test_a_broken_table_is_never_written(tmp_path, rows, word):
    with pytest.raises(ValueError, match=word):
        write_table(tmp_path / "toy.parquet", TABLE, rows, provenance={})
    assert list(tmp_path.iterdir()) == []


def test_shards_are_read_as_one_and_overlap_is_refused(tmp_path):
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    write_table(paths[0], TABLE, ROWS, provenance={})
    write_table(paths[1], TABLE, {**ROWS, "item_id": ["c", "d"]}, provenance={})
    assert read_table(paths, TABLE, columns=["n"])["item_id"].to_list() == ["a", "b", "c", "d"]
    with pytest.raises(InputError, match="more than once"):
        read_table([paths[0], paths[0]], TABLE)


def test_a_truncated_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "toy.parquet"
    with pytest.raises(InputError, match="no such file"):
        read_table(path, TABLE)
    write_table(path, TABLE, ROWS, provenance={})
    other = TableSchema(name="other", key=("item_id",), columns=TABLE.columns)
    with pytest.raises(InputError, match="not 'other'"):
        read_table(path, other)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="whole Parquet"):
        read_table(path, TABLE)


def test_a_changed_column_is_refused(tmp_path):
    path = tmp_path / "toy.parquet"
    write_table(path, TABLE, ROWS, provenance={})
    fields = [column("item_id", text, "item"), column("n", text, "now text")]
    changed = TableSchema(name="toy", key=("item_id",), columns=pa.schema(fields))
    with pytest.raises(InputError, match="'n' is of type int32"):
        read_table(path, changed)


def test_a_failing_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with atomic_write(path) as part:
            part.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


WRITER = """
import os, sys
from pathlib import Path
from vrp.tables.atomic_files import atomic_write
with atomic_write(Path(sys.argv[1])) as outer, atomic_write(outer) as part:
    part.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def start_writer(path):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdout.readline() == "writing\n"
    return writer


@pytest.mark.slow
def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path):
    path = tmp_path / "toy.parquet"
    killed, alive = start_writer(path), start_writer(path)
    elsewhere = start_writer(tmp_path / "other.parquet")
    try:
        for writer in (killed, elsewhere):
            writer.kill()
            writer.wait()
        assert len(list(tmp_path.glob("*.part"))) == 6
        (tmp_path / ".toy.parquet.mine.part").touch()  # no name that is given here
        write_table(path, TABLE, ROWS, provenance={})
        left = {entry.name.split(".parquet")[0].strip(".") for entry in tmp_path.glob("*.part")}
        # The other writer's two, another file's two, and the stranger.
        assert len(list(tmp_path.glob("*.part"))) == 5
        assert left == {"toy", "other"}
        assert any(f".{alive.pid}@" in entry.name for entry in tmp_path.glob("*.part"))
        remove_abandoned_parts(tmp_path)
        assert len(list(tmp_path.glob("*.part"))) == 3
        # The one that was alive ends well: nothing was taken from it.
        alive.communicate("", timeout=60)
        assert alive.returncode == 0
        assert path.read_text() == "half"
    finally:
        for writer in (killed, alive, elsewhere):
            writer.kill()
            writer.communicate()


@pytest.mark.parametrize(("hours", "left"), [(5, 1), (7, 0)])
def test_another_machines_part_is_abandoned_after_hours_without_a_write(tmp_path, hours, left):
    part = tmp_path / ".toy.parquet.1@0123456789ab.abcd_1z8.part"
    part.touch()
    moment = time.time() - 3600 * hours
    os.utime(part, (moment, moment))
    write_table(tmp_path / "toy.parquet", TABLE, ROWS, provenance={})
    assert len(list(tmp_path.glob("*.part"))) == left


def test_the_content_is_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    path = tmp_path / "toy.parquet"
    written = []

    def fsync(descriptor):
        assert not path.exists()
        written.append(pl.read_parquet(Path(f"/proc/self/fd/{descriptor}").readlink()).height)

    monkeypatch.setattr(os, "fsync", fsync)
    write_table(path, TABLE, ROWS, provenance={})
    assert written == [2]


@pytest.mark.parametrize(("fault", "refused"), [(errno.ENOSPC, True), (errno.EINVAL, False)])
def test_a_disk_that_is_found_full_at_last_is_no_file(tmp_path, monkeypatch, fault, refused):
    def fsync(descriptor):
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "toy.parquet"
    with pytest.raises(InputError, match="No space left") if refused else nullcontext():
        write_table(path, TABLE, ROWS, provenance={})
    assert [found.name for found in tmp_path.iterdir()] == ([] if refused else [path.name])


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_table(tmp_path / "file" / "toy.parquet", TABLE, ROWS, provenance={})


def test_pieces_hold_every_row_once_in_the_order_of_the_files(tmp_path):
    for shard, ids in enumerate((["d", "c", "a"], ["e", "b"])):
        rows = {
            "item_id": ids,
            "n": [1] * len(ids),
            "row": [[]] * len(ids),
            "note": [None] * len(ids),
        }
        write_table(tmp_path / f"{shard}.parquet", TABLE, rows, provenance={})
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    pieces = list(read_batches(paths, TABLE, columns=["n"], n_rows=2))
    assert [piece["item_id"].to_list() for piece in pieces] == [["a", "c"], ["d"], ["b", "e"]]
    assert pieces[0].columns == ["item_id", "n"]
    with pytest.raises(InputError, match="no such file"):
        list(read_batches(tmp_path / "2.parquet", TABLE, n_rows=2))
