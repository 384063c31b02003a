"""What a run that succeeded removes: finished batches and half-written files of killed jobs."""

import shutil
from pathlib import Path, PurePath

from vrp.study.graph import STAGES
from vrp.study.snakemake_records import is_marked_incomplete
from vrp.tables.atomic_files import remove_abandoned_parts


def remove_finished_batches(results: Path) -> None:
    """Remove finished batches of shards whose tables all exist and are recorded by Snakemake.

    What Snakemake has marked as incomplete, it deletes and makes again.

    Args:
        results: the study's folder.
    """
    # The batches of a shard are kept next to the first of its tables.
    written = {
        PurePath(stage.writes[0].path).parts[1:-1]: stage.writes
        for stage in STAGES
        if stage.per == "shard"
    }
    for folder in results.rglob(".*.batches"):
        model, *place = folder.parent.relative_to(results).parts
        shard = folder.name[1:].removesuffix(".batches")
        tables = [
            results / table.path.replace("{model}", model).replace("{shard}", shard)
            for table in written.get(tuple(place), ())
        ]
        if tables and all(_is_recorded(table) for table in tables):
            shutil.rmtree(folder, ignore_errors=True)


def _is_recorded(table: Path) -> bool:
    return table.is_file() and not is_marked_incomplete(table, Path())


def remove_partial_files(results: Path) -> None:
    """Remove what killed jobs left half-written."""
    if folders := {part.parent for part in results.rglob(".*.part")}:
        for folder in folders:
            remove_abandoned_parts(folder)
