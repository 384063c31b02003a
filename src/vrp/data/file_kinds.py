"""What a file is that was given in place of JSON, and what to give instead."""

import io
import zipfile

_TABLE = (
    "convert it to JSON lines (pandas: {}(…).to_json('rows.jsonl', orient='records', lines=True))"
)
_EXCEL = _TABLE.format("read_excel")
_SIGNATURES = (
    (b"PAR1", "a Parquet table", _TABLE.format("read_parquet")),
    (b"ARROW1", "an Arrow (Feather) table", _TABLE.format("read_feather")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)", _EXCEL),
    (b"\x1f\x8b", "compressed with gzip twice", "unpack it once (gunzip)"),
    (b"BZh", "compressed with bzip2", "unpack it (bunzip2)"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it (unxz)"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it (unzstd)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it and give the file inside"),
    (b"Rar!", "a RAR archive", "unpack it and give the file inside"),
    (b"SQLite format 3\x00", "an SQLite database", _TABLE.format("read_sql")),
    (b"\x89HDF", "an HDF5 file", _TABLE.format("read_hdf")),
    (b"\x93NUMPY", "a NumPy array", "write JSON lines, one object an answer"),
    (b"%PDF", "a PDF document", "give the JSON file that it was made from"),
    (b"\x89PNG", "a PNG image", "give the JSON file with the answers"),
    (b"\xff\xd8\xff", "a JPEG image", "give the JSON file with the answers"),
    (b"\x80", "a Python pickle", "write it as JSON lines where it was made"),
)
_MEMBERS = (
    ("xl/workbook", "an Excel workbook (.xlsx)", _EXCEL),
    ("word/document", "a Word document", "give the JSON file with the answers"),
    ("content.xml", "an OpenDocument file", _EXCEL),
    (".npy", "a NumPy archive (.npz)", "write JSON lines, one object an answer"),
    ("data.pkl", "a PyTorch file", "write it as JSON lines where it was made"),
)


def binary_kind(data: bytes) -> str | None:
    """What a file without text is and what to give instead, in one phrase; None: not known."""
    if data.startswith(b"PK"):
        return _zip_kind(data)
    if data[257:262] == b"ustar":
        return "a tar archive; unpack it and give the file inside"
    for signature, kind, advice in _SIGNATURES:
        if data.startswith(signature):
            return f"{kind}; {advice}"
    return None


def _zip_kind(data: bytes) -> str:
    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a damaged zip archive; download or write it again"
    for part, kind, advice in _MEMBERS:
        if any(part in name for name in names):
            return f"{kind}; {advice}"
    inside = f" ({names[0]!r})" if names else ""
    return f"a zip archive; unpack it and give the file inside{inside}"


def text_kind(text: str) -> str | None:
    """What a text is that is not JSON and what to give instead; None: not known."""
    head = text.lstrip()[:2000]
    line = head.split("\n", 1)[0].rstrip("\r")
    if head.startswith("version https://git-lfs.github.com/spec"):
        return "a Git LFS pointer, not the file itself; fetch it (git lfs pull)"
    if head[:1] == "<":
        return "HTML or XML, not JSON; download the raw file"
    if "\t" in line and line[:1] not in '{["':
        return "a table of tab-separated values (TSV); " + _TABLE.format("read_table")
    n_commas = {len(row.split(",")) for row in head.split("\n")[:2] if row.strip()}
    if line[:1] not in "{[" and len(n_commas) == 1 and n_commas != {1}:
        return "a table of comma-separated values (CSV); " + _TABLE.format("read_csv")
    return None
