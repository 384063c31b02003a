"""One shard of a stage that runs a model: batch after batch, then its tables all at once."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from vrp.progress import progress
from vrp.running.finished_batches import Batch, BatchTables, FinishedBatches
from vrp.tables.atomic_files import atomic_write
from vrp.tables.parquet_files import write_table
from vrp.tables.schema import TableSchema

BATCH_PLAN = "batch_plan"
"""Key of a shard's provenance: item ids of each batch, as JSON."""

KEEP_BATCHES = "VRP_KEEP_BATCHES"
"""Environment variable: 1 where finished batches are to outlive the writing of the tables."""


class Output(NamedTuple):
    """One table of a shard."""

    path: Path
    """The file."""
    schema: TableSchema
    """Its contract."""


def write_shard(
    outputs: Sequence[Output],
    plan: Sequence[Batch],
    compute: Callable[[Batch], Any],
    *,
    provenance: Mapping[str, str],
    description: str,
    tabulate: Callable[[Any], BatchTables] | None = None,
    answers: Callable[[Batch], int] = len,
    unit: str = "item",
) -> None:
    """Compute the batches of a shard that are not finished yet, then write its tables together.

    The plan is kept with the shard: in the metadata of its first table, as `batch_plan`.

    Args:
        outputs: what is written; a batch has one table for each, in this order.
        plan: item ids of each batch; those of an earlier run that finished some stay.
        compute: the tables of one batch, or what `tabulate` makes them of.
        provenance: written into the tables; finished batches of anything else do not count.
        description: names the run in the progress bar and in messages.
        tabulate: makes a batch's tables on a thread of its own while the next one is computed.
        answers: how many answers a batch takes, for the progress bar.
        unit: what the progress bar counts.

    Raises:
        InputError: a folder cannot be written, or the disk is full; finished batches are kept.
    """
    finished = FinishedBatches(outputs[0].path, plan, provenance, stage=description.strip())
    rows: list[BatchTables] = []
    with progress(sum(answers(batch) for batch in finished.plan), description, unit=unit) as bar:
        for batch, tables in zip(finished.plan, finished.complete(compute, tabulate), strict=True):
            rows.append(tables)
            bar.update(answers(batch))
    write_together(
        [
            (output, pa.concat_tables([tables[place] for tables in rows]) if rows else None)
            for place, output in enumerate(outputs)
        ],
        provenance=provenance,
        of_first={BATCH_PLAN: json.dumps([list(batch) for batch in finished.plan])},
    )
    # The workflow clears them away itself, when it has taken note of the tables: killed before
    # that, it deletes the tables and starts the job again.
    if os.environ.get(KEEP_BATCHES) != "1":
        finished.discard()


def write_together(
    tables: Sequence[tuple[Output, pa.Table | None]],
    *,
    provenance: Mapping[str, str],
    of_first: Mapping[str, str] | None = None,
) -> None:
    """Write several tables; none appears before all of them could be written.

    Args:
        tables: what to write; None: no rows.
        provenance: written into each.
        of_first: written into the first only.

    Raises:
        InputError: a folder cannot be written, or the disk is full.
    """
    with ExitStack() as stack:
        parts = [stack.enter_context(atomic_write(output.path)) for output, _ in tables]
        for part, (output, table) in zip(parts, tables, strict=True):
            filled = output.schema.columns.empty_table() if table is None else table
            rows = with_nulls(filled, output.schema)
            more = of_first if output is tables[0][0] else None
            write_table(part, output.schema, rows, provenance={**provenance, **(more or {})})


def with_nulls(table: pa.Table, schema: TableSchema) -> pa.Table:
    """Add the columns of what was not captured: null in every row."""
    for field in schema.columns:
        if field.nullable and field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table
