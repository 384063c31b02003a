"""Tables of comma-separated values that others wrote: every fault named by file and line."""

import csv
import io
from pathlib import Path

from vrp.data.json_input import Record, printable
from vrp.errors import InputError

_DELIMITERS = ",;\t"


def table_records(text: str, path: Path) -> list[Record]:
    """The rows of a table whose first line names its columns; an empty cell is None.

    Commas, semicolons or tabs separate the cells, and lines may end as on any system. A first
    column without a name, which numbers the rows, and empty columns without one are left out.

    Args:
        text: of the file.
        path: the file, for messages.

    Raises:
        InputError: naming the line where names or cells are too many or too few.
    """
    lines = io.StringIO(text, newline=None)  # turns all line ends into \n
    head = next((line for line in lines if line.strip()), "")
    lines.seek(0)
    delimiter = max(_DELIMITERS, key=head.count)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        rows = (values for values in reader if values)
        names = [name.strip() for name in next(rows, [])]
        _refuse_repeated(names, path)
        return [
            _record(names, values, f"{path}, line {reader.line_num}", delimiter) for values in rows
        ]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}; fix the table") from error


def _refuse_repeated(names: list[str], path: Path) -> None:
    for name in filter(None, names):
        if names.count(name) > 1:
            raise InputError(
                f"{path}: the first line must name the columns, each once, but "
                f"{printable(name)!r} is there twice; rename or remove one"
            )


def _record(names: list[str], values: list[str], where: str, delimiter: str) -> Record:
    advice = f"quote values that hold {delimiter!r}"
    if len(values) != len(names):
        raise InputError(f"{where}: {len(values)} values for {len(names)} columns; {advice}")
    cells = [value.strip() or None for value in values]
    for place, (name, cell) in enumerate(zip(names, cells, strict=True)):
        if place and not name and cell:
            raise InputError(
                f"{where}: {printable(cell)!r} is in column {place + 1}, which the first line "
                f"does not name; name it there, or {advice}"
            )
    return Record(where, {n: cell for n, cell in zip(names, cells, strict=True) if n})
