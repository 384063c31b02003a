"""Cost of reading each signal in addition to the answer, measured by `benchmarks/extraction.py`."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from vrp.report.numbers import decimal
from vrp.report.tabular import Cell, Table, name_cell
from vrp.signals.registry import SIGNALS
from vrp.tables.consistency import EXACT_COLUMNS


class _Part(NamedTuple):
    """One thing that is read or run, and measured by itself."""

    label: str
    columns: tuple[str, ...] = ()
    """Columns of tables that it gives, as a signal names what it needs; a table's name stands for
    its columns that no other part gives."""
    also: str = ""
    """Other uses of it than signals."""


_PARTS: dict[str, _Part] = {
    "answers": _Part("the answer itself", ("answers",)),
    # Boxes are read from a file.
    "attention": _Part("attention rows", ("attention", "boxes"), "patch masking"),
    "heads": _Part(
        "attention rows of every head",
        ("attention.head_entropy", "attention.head_clusters"),
        "H_s and C_k of heads",
    ),
    "maps": _Part("H_s and C_k of all maps"),
    "lens": _Part("logit lens", ("lens",)),
    "contributions": _Part(
        "contributions",
        ("lens.attention_contribution", "lens.mlp_contribution", "attention.head_contribution"),
    ),
    "residual_update": _Part(
        "residual update and sinks", ("lens.residual_update", "attention.sinks")
    ),
    "hidden": _Part("hidden states before the answer", also="probes"),
    "answer_end": _Part("hidden states at the answer's end", also="probes there"),
    "k10": _Part("10 samples", ("consistency",)),
    "blind": _Part("run with a blank image", ("blind_scores",), "guard of the probes"),
    "p_true": _Part("the model's judgement of its answer", ("p_true",)),
    "exact": _Part("exact distribution", tuple(f"consistency.{name}" for name in EXACT_COLUMNS)),
}
_OWN_PREFILL = ("answers", "k10", "exact", "blind", "p_true")


def measured_costs() -> dict[str, Any]:
    """The measurement: hardware, settings, and family → part → milliseconds (median,
    least and most of the rounds) and forwards."""
    source = resources.files("vrp.report") / "signal_costs.json"
    found: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return found


def costs_table(costs: Mapping[str, Any]) -> Table:
    """One row for each thing that is read: what it gives, forwards, and time an item."""
    families = list(costs["families"])
    rows = []
    for part, what in _PARTS.items():
        measured = [costs["families"][family][part] for family in families]
        rows.append([
            name_cell(what.label),
            Cell(_signals(part)),
            Cell(_forwards(part, measured)),
            *(_time(part, costs["families"][family]) for family in families),
        ])  # fmt: skip
    columns = ["read", "for", "prefills and decode steps an item"]
    return Table([*columns, *(f"{name}, ms an item" for name in families)], rows, text_columns=(1,))


def costs_source(costs: Mapping[str, Any]) -> str:
    """Hardware and settings of the measurement, in one line."""
    hardware, settings = costs["hardware"], costs["settings"]
    return (
        f"Embedded models, batches of {settings['batch_size']}, {settings['threads']} threads of "
        f"{hardware['processor']}; the share is of one answer. Each part was measured by itself: "
        "parts share work and do not add up. Beside the median stand the least and the most of the "
        "rounds; no share is given where they reach zero. The study draws samples and exact "
        "distribution from one prefill. On other models and machines benchmarks/extraction.py "
        "measures the same."
    )


def part_of(column: str) -> str:
    """Name of the part that gives a column of a table, such as `lens.truth_margin`."""
    for wanted in (column, column.partition(".")[0]):
        for name, part in _PARTS.items():
            if wanted in part.columns:
                return name
    raise KeyError(column)


def _signals(part: str) -> str:
    """Labels of the signals that need a part, and its other uses."""
    labels = [s.label for s in SIGNALS.values() if part in map(part_of, s.needs)]
    if len(labels) > 3:
        labels = [*labels[:2], f"{len(labels) - 2} more signals"]
    return ", ".join([*labels, *filter(None, [_PARTS[part].also])])


def _forwards(part: str, costs: Sequence[Mapping[str, float]]) -> str:
    """Prefills and decode steps, from the least to the most of the models."""
    if part not in _OWN_PREFILL:
        return "none of its own"
    return " + ".join(_range([cost[kind] for cost in costs]) for kind in ("prefills", "steps"))


def _range(values: Sequence[float]) -> str:
    ends = [decimal(end, 2) for end in (min(values), max(values))]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _time(part: str, costs: Mapping[str, Mapping[str, float]]) -> Cell:
    """Milliseconds, their spread over the rounds, and the share of one answer's."""
    cost, answer = costs[part], costs["answers"]["ms_an_item"]
    spread = f"{decimal(cost['least'], 2)} to {decimal(cost['most'], 2)}"
    sure = cost["least"] > 0 and answer > 0
    share = f"; {decimal(100 * cost['ms_an_item'] / answer, 0)}%" if sure else ""
    return Cell(decimal(cost["ms_an_item"], 2), spread + share)
