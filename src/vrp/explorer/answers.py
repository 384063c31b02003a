"""A model's answers with their signals, scores and rules: what a list of answers needs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.data.scoring import normalise_answer
from vrp.estimates.predictors import predictor_label
from vrp.explorer.chunks import Chunk
from vrp.explorer.rules import RULES, AnswerFacts
from vrp.interventions.masking import MaskCondition
from vrp.probing.labels import PROBE_LABELS
from vrp.signals.registry import SIGNALS
from vrp.study.results import ModelResults
from vrp.tables.answers import ANSWERS
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.parquet_files import read_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table
from vrp.tables.trace import TRACE

BLIND_ANSWERS = "blind/answers"
"""Greedy answers to a blank image, among the files of a model."""
INTERVENTIONS = (MASK, ABLATE, TRACE)
"""Tables whose questions are a sample of the study's."""
_ANSWER_COLUMNS = ("answer", "parsed", "score", "correct", "note")


@dataclass(frozen=True)
class ModelAnswers:
    """One model's answers, a row an item in the explorer's order; null where there is no row."""

    name: str
    """The model."""
    rows: pl.DataFrame
    """Columns of the answers table, `blind_answer`, `same_blind`, and every signal that was read
    and every probe's score under `signal <name>` and `probe <name>`; `layer <probe>` and
    `fold <probe>` beside it. `asked <table>`: whether the question is in a table of
    interventions, for each such table that there is."""
    rules: dict[str, NDArray[np.uint8]]
    """Rule → (n,) sum of 1 (its first condition is met) and 2 (its second); 4: not known."""

    @property
    def signals(self) -> list[str]:
        """Names of the signals, in the registry's order."""
        return self._named("signal ")

    @property
    def probes(self) -> list[str]:
        """Names of the probes, known ones first."""
        found = self._named("probe ")
        return [name for name in PROBE_LABELS if name in found] + sorted(
            set(found) - set(PROBE_LABELS), key=predictor_label
        )

    def _named(self, prefix: str) -> list[str]:
        return [name.removeprefix(prefix) for name in self.rows.columns if name.startswith(prefix)]


def read_answers(model: ModelResults, items: pl.DataFrame, masking: MaskCondition) -> ModelAnswers:
    """Gather the answers of a model, whichever of its tables there are.

    Args:
        model: its tables.
        items: all items in the explorer's order (`vrp.explorer.items.ordered_items`).
        masking: the condition that one of the rules is about.

    Raises:
        InputError: a table is broken.
    """
    rows = items.select("item_id", "task", "form")
    rows = rows.join(
        model.table(ANSWERS.only(*_ANSWER_COLUMNS)), on="item_id", how="left", maintain_order="left"
    )
    if model.files.get(BLIND_ANSWERS):
        blind = read_table(list(model.files[BLIND_ANSWERS]), ANSWERS, columns=["answer"])
        rows = _joined(rows, blind.rename({"answer": "blind_answer"}))
        pairs = rows.select("task", "answer", "blind_answer").iter_rows()
        rows = rows.with_columns(
            same_blind=pl.Series([_same(*pair) for pair in pairs], dtype=pl.Boolean)
        )
    if model.paths(signal_table()):
        rows = _joined(rows, _signal_columns(model.table(signal_table())))
    if model.paths(PREDICTIONS):
        rows = _joined(rows, _probe_columns(model.table(PREDICTIONS)))
    rows = _with_asked(rows, model)
    facts = AnswerFacts(rows, _changed(model, rows["item_id"], masking))
    return ModelAnswers(model.name, rows, {rule.name: rule.flags(facts) for rule in RULES})


def _joined(rows: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    return rows.join(more, on="item_id", how="left", maintain_order="left")


def _same(task: str, answer: str | None, blind: str | None) -> bool | None:
    if answer is None or blind is None:
        return None
    return normalise_answer(task, answer) == normalise_answer(task, blind)


def _signal_columns(signals: pl.DataFrame) -> pl.DataFrame:
    """Signals that were read, of any item."""
    read = [name for name in SIGNALS if signals[name].null_count() < len(signals)]
    return signals.select("item_id", *(pl.col(name).alias(f"signal {name}") for name in read))


def _probe_columns(predictions: pl.DataFrame) -> pl.DataFrame:
    wide = predictions.select("item_id").unique(maintain_order=True)
    for column, prefix in (("score", "probe"), ("layer", "layer"), ("fold", "fold")):
        by_probe = predictions.pivot("probe", index="item_id", values=column)
        names = {name: f"{prefix} {name}" for name in by_probe.columns if name != "item_id"}
        wide = _joined(wide, by_probe.rename(names))
    return wide


def _with_asked(rows: pl.DataFrame, model: ModelResults) -> pl.DataFrame:
    """Add which questions were asked under interventions."""
    for table in INTERVENTIONS:
        if model.paths(table):
            found = model.table(table.only())["item_id"].unique()
            asked = pl.col("item_id").is_in(found.implode()).alias(f"asked {table.name}")
            rows = rows.with_columns(asked)
    return rows


def _changed(
    model: ModelResults, item_ids: pl.Series, masking: MaskCondition
) -> NDArray[np.float64]:
    """(n,) 1 where the masking changes the answer, 0 where it does not; NaN: not asked."""
    if not model.paths(MASK):
        return np.full(len(item_ids), np.nan)
    rows = model.table(MASK).filter(pl.col("condition") == masking.name)
    found = dict(rows.select("item_id", pl.col("changed").cast(pl.Float64)).iter_rows())
    return np.array([found.get(item_id, np.nan) for item_id in item_ids])


def answers_chunk(answers: ModelAnswers, start: int, end: int) -> Chunk:
    """Return the answers to items `start` … `end` − 1."""
    rows, chunk = answers.rows[start:end], Chunk()
    for name in ("answer", "parsed", "note", "blind_answer"):
        if name in rows.columns:
            chunk.add_words(name, rows[name].to_list())
    for name in ("correct", "same_blind"):
        if name in rows.columns:
            chunk.add_integers(name, _numbers(rows[name]))
    chunk.add_numbers("score", _numbers(rows["score"]))
    for name in answers.signals:
        chunk.add_numbers(f"signal {name}", _numbers(rows[f"signal {name}"]))
    for name in answers.probes:
        chunk.add_numbers(f"probe {name}", _numbers(rows[f"probe {name}"]))
        chunk.add_integers(f"layer {name}", _numbers(rows[f"layer {name}"]))
        chunk.add_integers(f"fold {name}", _numbers(rows[f"fold {name}"]))
    for table in INTERVENTIONS:
        if f"asked {table.name}" in rows.columns:
            asked = rows[f"asked {table.name}"].to_numpy().astype(np.uint8)
            chunk.add_bytes(f"asked {table.name}", asked.tobytes())
    for name, flags in answers.rules.items():
        chunk.add_bytes(f"rule {name}", flags[start:end].tobytes())
    return chunk


def _numbers(column: pl.Series) -> NDArray[Any]:
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()
