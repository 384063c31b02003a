"""`<model>/signals.parquet`: every signal beside correctness.

A signal is null in every row where what it is computed from was not captured, NaN where it is
missing for the item alone.
"""

import polars as pl
import pyarrow as pa

from vrp.signals.registry import SIGNALS, Signal
from vrp.tables.schema import TableSchema, column, flag, number, optional, table, text


def _signal_column(signal: Signal) -> pa.Field:
    way = {"high": "; high is reliable", "low": "; low is reliable"}.get(
        signal.reliable_when or "", ""
    )
    kind = "" if signal.deployable else "; diagnostic: needs annotations"
    return optional(signal.name, number, signal.description + way + kind, unit=signal.unit)


def signal_table() -> TableSchema:
    """The schema, with a column for every signal that there is: extensions register more."""
    return table(
        "signals",
        ("item_id",),
        column("item_id", text, "item"),
        column("group", text, "image"),
        column("task", text, "task"),
        column("form", text, "form of the reference: yes/no, number or other; empty: not known"),
        column("answer", text, "normalised greedy answer"),
        optional("correct", flag, "whether the greedy answer is correct; null: not known"),
        *[_signal_column(signal) for signal in SIGNALS.values()],
    )


def strata_of(signals: pl.DataFrame) -> pl.Series:
    """Stratum of each row of the table: task and answer form."""
    return signals["task"] + ": " + signals["form"]
