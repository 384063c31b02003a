"""The JSON files that a report reads: what the data are, and how they were sampled."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vrp.study.table_origins import rows_digest
from vrp.tables.sealed_json import write_sealed_json


def write_described_data(
    folder: Path,
    items: Path,
    *,
    data: Mapping[str, Any] | None = None,
    splits: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Path]:
    """Write a data manifest and a sampling report of these items; return them by their names."""
    paths = {"data": folder / "data.json", "sampling": folder / "sampling.json"}
    write_sealed_json(paths["data"], {"origin": "scenes", "files": {}} if data is None else data)
    write_sealed_json(paths["sampling"], {"items": rows_digest(items), "splits": list(splits)})
    return paths
