"""What a run that succeeded removes: finished batches and half-written files of killed jobs."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from vrp.study.status import is_marked_incomplete


def remove_finished_batches(results: Path, runs: Iterable[Sequence[str]]) -> None:
    """Remove finished batches of shards whose tables all exist and are recorded by Snakemake.

    What Snakemake has marked as incomplete, it deletes and makes again.

    Args:
        results: the study's folder.
        runs: names of the tables that one job writes together, for each kind of job that runs a
            model; the batches are kept next to the first.
    """
    tables_of = {Path(tables[0]): tables for tables in runs}
    for folder in results.rglob(".*.batches"):
        model, *place = folder.parent.relative_to(results).parts
        shard = folder.name[1:].removesuffix(".batches")
        tables = [
            results / model / table / f"{shard}.parquet"
            for table in tables_of.get(Path(*place), ())
        ]
        if tables and all(_is_recorded(table) for table in tables):
            shutil.rmtree(folder, ignore_errors=True)


def _is_recorded(table: Path) -> bool:
    return table.is_file() and not is_marked_incomplete(table, Path())


def remove_partial_files(results: Path) -> None:
    """Remove what killed jobs left half-written."""
    if folders := {part.parent for part in results.rglob(".*.part")}:
        from vrp.tables.files import remove_abandoned_parts  # seconds to import, rarely needed

        for folder in folders:
            remove_abandoned_parts(folder)
