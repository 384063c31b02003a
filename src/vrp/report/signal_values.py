"""The values of every signal: all that a study without reference answers says about signals."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from vrp.report.numbers import NONE, decimal, thousands
from vrp.report.tabular import Cell, Table, name_cell
from vrp.signals.registry import SIGNALS, Signal
from vrp.study.results import ModelResults
from vrp.tables.signals import signal_table

_QUANTILES = (0.1, 0.5, 0.9)


def signal_values_table(models: Sequence[ModelResults]) -> Table:
    """Median of every signal, and its 10th to 90th percentile, a column each model.

    Args:
        models: the tables of each model.
    """
    tables = [model.table(signal_table()) for model in models]
    rows = []
    for signal in SIGNALS.values():
        cells = [_values_cell(table[signal.name]) for table in tables]
        if any(cell.text != NONE for cell in cells):
            rows.append([name_cell(signal.label, _in_words(signal)), *cells])
    return Table(["signal", *(model.name for model in models)], rows)


def _in_words(signal: Signal) -> str:
    expected = {
        "high": "expected to be higher in right answers",
        "low": "expected to be lower in right answers",
    }
    unit = "" if signal.unit == "1" else signal.unit
    return "; ".join(filter(None, (unit, expected.get(signal.reliable_when or ""))))


def _values_cell(column: pl.Series) -> Cell:
    values = column.cast(pl.Float64).drop_nulls().drop_nans()
    if values.is_empty():
        return Cell(NONE, kind="muted")
    low, median, high = np.quantile(values, _QUANTILES).tolist()
    title = f"{thousands(len(values))} items"
    return Cell(decimal(median), f"{decimal(low)} to {decimal(high)}", title=title)
