"""Files of any kind given as JSON: read, or called by their name in one line."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from vrp.data.json_input import read_json, read_records
from vrp.errors import InputError

ROWS = [{"question_id": 1, "answer": "Yes"}, {"question_id": 2, "answer": "No"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def zipped(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, LINES)
    return file.getvalue()


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("answers.jsonl")
        member.size = len(LINES)
        archive.addfile(member, io.BytesIO(LINES))
    return file.getvalue()


def table(write):
    file = io.BytesIO()
    write(pa.table({"question_id": [1], "answer": ["Yes"]}), file)
    return file.getvalue()


KINDS = {
    "an Excel workbook": zipped("[Content_Types].xml", "xl/workbook.xml"),
    "a zip archive; unpack it and give the file inside ('answers.jsonl')": zipped("answers.jsonl"),
    "a damaged zip archive": b"PK\x03\x04 and so on",
    "a PyTorch file": zipped("archive/data.pkl"),
    "a Parquet table; convert it to JSON lines (pandas: read_parquet": table(
        pa.parquet.write_table
    ),
    "an Arrow (Feather) table": table(pa.feather.write_feather),
    "a Python pickle": pickle.dumps(ROWS),
    "compressed with bzip2": bz2.compress(LINES),
    "compressed with xz": lzma.compress(LINES),
    "compressed with gzip twice": gzip.compress(gzip.compress(LINES)),
    "damaged gzip file": gzip.compress(LINES)[:-9],
    "a tar archive": gzip.compress(tarred()),
    "a PNG image": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "a table of tab-separated values (TSV)": b"index\tquestion\tprediction\n1\tIs it?\tYes\n",
    "a table of comma-separated values (CSV)": b'"question_id","answer"\n"1","Yes"\n',
    "HTML or XML": b"<!DOCTYPE html><html></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n",
    "expected JSON or JSON lines, found 'yes'": b"yes\nno\n",
    "not UTF-8 text": b'{"answer": "caf\xe9"}',
    "holds no records": b" \n",
    "key 'answer' occurs twice with different values": b'{"answer": "Yes", "answer": "No"}',
    "line 2, column 16: malformed JSON": LINES.splitlines()[0] + b'\n{"question_id":\n',
    "line 3, column 13: malformed JSON": b'{\n "results": [\n  {"answer" "Yes"}]}',
    "maximum recursion depth": b"[" * 100_000,
    "a JSON string, not an object": b'["Yes", "No"]',
    "a JSON null, not an object": b"null",
}


@pytest.mark.parametrize("words", KINDS)
def test_what_is_no_json_lines_is_called_by_its_name(tmp_path, words):
    path = tmp_path / "answers"
    path.write_bytes(KINDS[words])
    with pytest.raises(InputError) as caught:
        read_records(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        LINES,
        LINES.replace(b"\n", b"\r\n\r\n"),
        LINES.replace(b"\n", b"\r"),
        LINES.replace(b"\n", b" "),
        b"".join(json.dumps(row, indent=2).encode() for row in ROWS),
        json.dumps(ROWS).encode(),
        b"".join(json.dumps([row]).encode() + b"\n" for row in ROWS),
        LINES.decode().encode("utf-8-sig"),
        LINES.decode().encode("utf-16"),
        LINES.decode().encode("utf-16-be"),
        LINES.decode().encode("utf-32"),
        gzip.compress(LINES, mtime=0),
        gzip.compress(LINES.decode().encode("utf-16"), mtime=0),
    ],
)
def test_json_in_any_arrangement_and_encoding(tmp_path, content):
    path = tmp_path / "answers"
    path.write_bytes(content)
    assert [record.fields for record in read_records(path)] == ROWS


def test_nan_is_null(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"a": NaN, "b": -Infinity, "c": [NaN, 1]}')
    assert read_records(path)[0].fields == {"a": None, "b": None, "c": [None, 1]}
    assert read_json(path) == {"a": None, "b": None, "c": [None, 1]}


def test_one_key_twice_with_one_value(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"a": 1, "a": 1}')
    assert read_records(path)[0].fields == {"a": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LINES, "holds JSON lines, not one object"),
        (b"[1]", "holds a JSON array, not an object"),
        (b"question_id,answer\n1,yes\n", "a table of comma-separated values (CSV)"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6: malformed JSON"),
        (b"", "malformed JSON"),
        (gzip.compress(tarred(), mtime=0), "a tar archive"),
    ],
)
def test_what_is_not_one_object_is_called_by_its_name(tmp_path, content, words):
    path = tmp_path / "annotations.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(path)
    assert words in str(caught.value)
