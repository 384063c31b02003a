"""What signals cost: forwards from the tables, milliseconds from the run's own benchmark files."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from vrp.estimates.predictors import predictor_label
from vrp.estimates.stage_forwards import (
    ANSWERING,
    Forwards,
    signal_stages,
    stage_forwards,
    stage_of,
)
from vrp.findings.evidence import ModelEvidence
from vrp.report.numbers import NONE, decimal
from vrp.report.tabular import Cell, Table, missing, name_cell
from vrp.signals.registry import SIGNALS
from vrp.study.graph import STAGE
from vrp.study.job_benchmarks import job_seconds

Benchmarks = Mapping[tuple[str, str], Sequence[Path]]
"""Model and stage → the benchmark files of its jobs that there are."""
_MOST_NAMES = 3
ItemTimes = Mapping[tuple[str, str], float]
"""Model and stage → milliseconds an item, of all its jobs together."""


def item_times(models: Sequence[ModelEvidence], benchmarks: Benchmarks) -> ItemTimes:
    """Milliseconds an item of every stage and model whose jobs were all timed.

    Args:
        models: what the tables say.
        benchmarks: files that Snakemake wrote; none of a job that was run by hand.

    Raises:
        InputError: a file is not a Snakemake benchmark file.
    """
    by_name = {model.name: model for model in models}
    found = {}
    for (name, stage), paths in benchmarks.items():
        model = by_name.get(name)
        if model is None or not paths or not len(model.answers):
            continue
        seconds = sum(list(job_seconds(path, on_gpu=model.on_gpu))[-1] for path in paths)
        found[name, stage] = 1000 * seconds / len(model.answers)
    return found


def costs_table(models: Sequence[ModelEvidence], times: ItemTimes) -> Table:
    """One row for each stage that signals are read from: its signals, forwards and time."""
    stages = [ANSWERING, *signal_stages(SIGNALS)]
    rows = [
        [
            name_cell(STAGE[stage].help),
            Cell(_read_from(stage)),
            *(cell for model in models for cell in _of_model(model, stage, times)),
        ]
        for stage in stages
        if any(_ran(model, stage) for model in models)
    ]
    return Table(
        ["what is run", "read from it", *(["prefills + steps", "ms an item"] * len(models))],
        rows,
        groups=(("", 2), *((model.name, 2) for model in models)),
        text_columns=(1,),
    )


def _read_from(stage: str) -> str:
    """The signals that need a stage's forwards, for a table: some labels and how many more."""
    labels = [
        predictor_label(name) for name, signal in SIGNALS.items()
        if signal.deployable and stage in {stage_of(need) for need in signal.needs}
    ]  # fmt: skip
    if len(labels) > _MOST_NAMES:
        labels = [*labels[: _MOST_NAMES - 1], f"{len(labels) - _MOST_NAMES + 1} more signals"]
    return ", ".join(labels)


def _ran(model: ModelEvidence, stage: str) -> bool:
    """Whether a model has something that only this stage gives."""
    return stage == ANSWERING or any(
        math.isfinite(model.signal_means.get(name, math.nan))
        for name, signal in SIGNALS.items()
        if stage in {stage_of(need) for need in signal.needs}
    )


def _of_model(model: ModelEvidence, stage: str, times: ItemTimes) -> tuple[Cell, Cell]:
    if not _ran(model, stage):
        return missing(), missing()
    forwards = stage_forwards(stage, answer_tokens=model.answer_tokens, k=model.k)
    time = times.get((model.name, stage))
    if time is None:
        return Cell(counted(forwards)), Cell(NONE, "not timed", "muted")
    answer = times.get((model.name, ANSWERING))
    beside = "" if stage == ANSWERING or not answer else f"{decimal(time / answer, 2)} answers"
    return Cell(counted(forwards)), Cell(decimal(time, 2), beside)


def counted(forwards: Forwards) -> str:
    """Prefills and decode steps, such as `1 + 12.3`."""
    steps = decimal(forwards.steps, 1) if forwards.steps else ""
    return " + ".join(filter(None, [decimal(forwards.prefills, 0), steps]))
