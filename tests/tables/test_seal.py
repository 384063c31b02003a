"""A table that was changed after it was written is refused, wherever the change is."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vrp.errors import InputError
from vrp.tables.parquet_files import read_batches, read_table, write_table
from vrp.tables.schema import TableSchema, column, numbers, text
from vrp.tables.seal import read_provenance, read_seal

TABLE = TableSchema(
    name="toy",
    key=("item_id",),
    columns=pa.schema([column("item_id", text, "item"), column("row", numbers, "a row")]),
)
ROWS = {"item_id": [f"{i:03d}" for i in range(40)], "row": [[i / 7, i / 3] for i in range(40)]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "toy.parquet"
    write_table(path, TABLE, ROWS, provenance={"study": "s"})
    return path


@pytest.mark.slow
def test_a_flipped_bit_anywhere_is_refused(path):
    written = path.read_bytes()
    random.seed(0)
    for place in range(len(written)):
        changed = bytearray(written)
        changed[place] ^= 1 << random.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r"toy\.parquet: (is|has)"):
            read_table(path, TABLE)


@pytest.mark.parametrize("n_bytes", [0, 3, 8, 100, -1, -9, -400])
def test_a_truncated_file_is_refused(path, n_bytes):
    path.write_bytes(path.read_bytes()[:n_bytes])
    for read in (read_provenance, lambda one: read_table(one, TABLE)):
        with pytest.raises(InputError, match="not a whole Parquet file"):
            read(path)


def test_pieces_and_single_columns_are_checked_too(path):
    written = bytearray(path.read_bytes())
    written[40] ^= 1
    path.write_bytes(written)
    with pytest.raises(InputError, match="its rows are not those that were written"):
        list(read_batches(path, TABLE, columns=["row"], n_rows=7))
    assert read_provenance(path)["study"] == "s"  # the footer is as it was


def test_damage_after_the_first_reading_is_refused(path):
    read_table(path, TABLE)
    written = path.read_bytes()
    path.write_bytes(written[:40] + bytes([written[40] ^ 1]) + written[41:])
    with pytest.raises(InputError, match="damaged"):
        read_table(path, TABLE)


@pytest.mark.parametrize("keep_seal", [True, False])
def test_a_table_written_by_another_program_is_refused(path, keep_seal):
    stated = pq.read_metadata(path).metadata
    table = pq.read_table(path).replace_schema_metadata(
        {b"vrp.table": b"toy", b"vrp.study": b"t"} | (stated if keep_seal else {})
    )
    pq.write_table(table, path)
    with pytest.raises(InputError, match=r"toy\.parquet: (is damaged|has no seal)"):
        read_table(path, TABLE)


def test_equal_rows_have_equal_digests_whatever_made_them(path, tmp_path):
    other = tmp_path / "other.parquet"
    write_table(other, TABLE, ROWS, provenance={"study": "t"})
    assert read_seal(other).rows == read_seal(path).rows
    assert read_seal(other).seal != read_seal(path).seal
    write_table(other, TABLE, {**ROWS, "row": ROWS["row"][::-1]}, provenance={"study": "s"})
    assert read_seal(other).rows != read_seal(path).rows


def test_other_programs_can_verify_the_pages(path):
    table = pq.read_table(path, page_checksum_verification=True)
    assert table.column("row").to_pylist()[1] == pytest.approx([1 / 7, 1 / 3])
    changed = bytearray(path.read_bytes())
    changed[60] ^= 1
    path.write_bytes(changed)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)
