"""The tables of a finished study: how to read them all, and how to compare two runs."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from vrp.study.graph import MADE_BY
from vrp.tables.hidden import written_hidden_table
from vrp.tables.parquet_files import read_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.schema import TableSchema
from vrp.tables.seal import read_provenance


def _schema(place: str) -> TableSchema:
    """The schema that the graph names, such as `vrp.tables.items:ITEMS`."""
    module, name = place.split(":")
    found = getattr(importlib.import_module(module), name)
    return found if isinstance(found, TableSchema) else found()


SCHEMAS = {
    schema.name: schema
    for artifact in MADE_BY
    if artifact.schema and not artifact.schema.endswith(":hidden_table")  # as it was written
    for schema in [_schema(artifact.schema)]
}
TABLE_NAMES = {*SCHEMAS, "hidden"}

# Floats may differ by this much of their row's size, at least 1, between batch plans (fp32, CPU).
TOLERANCE = 1e-5
# A logit-lens value is a difference of two logits, each a sum over the width. With half of the
# residual stream silenced a model amplifies rounding: its margins in float32 were seen up to 5e-5
# away from those in float64, whatever the plan.
ROUNDING_OF = {"lens": 4e-5, "ablate": 1e-4, "trace": 1e-4, "predictions": 1e-4}
# Gradient descent through ReLU is not continuous in its inputs: where a unit's input passes zero,
# its gradient jumps, and Adam takes a whole step either way.
TRAINED_BY_STEPS = ("mlp", "attention_mlp")
TOLERANCE_OF_STEPS = 1e-3


def schema_of(path: Path) -> TableSchema:
    name = read_provenance(path)["table"]
    return written_hidden_table(path) if name == "hidden" else SCHEMAS[name]


def study_tables(results: Path) -> dict[str, tuple[TableSchema, pl.DataFrame]]:
    """Path of each table within the results folder (shards together) → schema and rows."""
    places: dict[str, list[Path]] = {}
    for path in sorted(results.rglob("*.parquet")):
        place = path.relative_to(results)
        sharded = place.stem.isdigit() or "_of_" in place.stem or "shard" in place.stem
        places.setdefault(str(place.parent if sharded else place), []).append(path)
    return {
        place: (schema_of(paths[0]), read_table(paths, schema_of(paths[0])))
        for place, paths in places.items()
    }


def _leaves(series: pl.Series) -> pl.Series:
    while isinstance(series.dtype, pl.List | pl.Array):
        series = series.explode()
    return series


def _row_sizes(column: pl.Series) -> np.ndarray:
    """For each leaf, the largest magnitude in its row, at least 1: rounding is that of the row."""
    rows = column.to_frame("row").with_row_index("at")
    while isinstance(rows["row"].dtype, pl.List | pl.Array):
        rows = rows.explode("row")
    largest = pl.col("row").fill_null(0).fill_nan(0).abs().max().over("at")
    return np.maximum(rows.select(largest).to_series().to_numpy(), 1.0)


def column_differences(ours: pl.Series, theirs: pl.Series, tolerance: float) -> str | None:
    a, b = _leaves(ours), _leaves(theirs)
    if len(a) != len(b):
        return f"{len(a)} values, {len(b)} values"
    if not a.dtype.is_float():
        unequal = int((~a.eq_missing(b)).sum())
        return f"{unequal} of {len(a)} differ" if unequal else None
    if (a.is_null() != b.is_null()).any():
        return "other values are missing"
    x, y = a.fill_null(0).to_numpy(), b.fill_null(0).to_numpy()
    close = np.isclose(x, y, rtol=tolerance, atol=0, equal_nan=True)
    close |= np.abs(x - y) <= tolerance * _row_sizes(theirs)
    worst = np.abs(x - y)[~close].max(initial=0)
    return None if close.all() else f"{(~close).sum()} of {len(x)} differ, by up to {worst:.2e}"


def differences(results: Path, others: Path, *, to_the_bit: bool = False) -> Iterator[str]:
    """One line for every column in which two runs of a study differ.

    Args:
        results: folder of one run.
        others: folder of the other one.
        to_the_bit: both had the same batch plan, and no float may differ at all.
    """
    ours, theirs = study_tables(results), study_tables(others)
    yield from (f"{place}: in one run only" for place in sorted(set(ours) ^ set(theirs)))
    for place in sorted(set(ours) & set(theirs)):
        (schema, a), (_, b) = ours[place], theirs[place]
        if a.height != b.height:
            yield f"{place}: {a.height} rows, {b.height} rows"
            continue
        for part, tolerance in _parts(schema.name, a):
            allowed = 0.0 if to_the_bit else tolerance
            for name in a.columns:
                found = column_differences(a[name].filter(part), b[name].filter(part), allowed)
                if found:
                    yield f"{place}: {name}: {found}"


def _parts(table: str, rows: pl.DataFrame) -> Iterator[tuple[pl.Series, float]]:
    """Which rows of a table are compared to which tolerance."""
    by_steps = pl.repeat(False, rows.height, eager=True)
    if table == PREDICTIONS.name:
        by_steps = rows["probe"].is_in(TRAINED_BY_STEPS)
    yield ~by_steps, ROUNDING_OF.get(table, TOLERANCE)
    yield by_steps, TOLERANCE_OF_STEPS
