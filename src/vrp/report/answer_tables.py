"""Tables of the models' answers, which make an artefact of scoring or prompting visible."""

from typing import Any

import polars as pl

from vrp.data.item import EXISTENCE
from vrp.data.scoring import VqaRule, vqa_accuracy
from vrp.findings.evidence import ModelEvidence
from vrp.report.evidence import StudyEvidence
from vrp.report.numbers import NONE, decimal, thousands
from vrp.report.split_rates import split_rates
from vrp.report.tabular import Cell, Table, estimate_cell, name_cell, without_repeats

UNPARSED = "(unparsed)"
_MAX_FREQUENT = 6


def rates_table(models: tuple[ModelEvidence, ...]) -> Table:
    """Accuracy, parse rate and yes-rate, by task, one row for each model and task."""
    rows = []
    for model in models:
        for scope in (*model.tasks, "pooled"):
            numbers = [
                model.metric("model", metric, scope)
                for metric in ("accuracy", "parse_rate", "yes_rate", "accuracy_official")
            ]
            majority = model.metric("majority_answer", "accuracy", scope)
            n = max(number.n for number in numbers if number) if any(numbers) else 0
            cells = [
                estimate_cell(number, 1, scale=100) if number else Cell(NONE, kind="muted")
                for number in (*numbers, majority)
            ]
            name = "all items" if scope == "pooled" else scope
            rows.append([name_cell(model.name), Cell(name), Cell(thousands(n)), *cells])
    columns = [
        "model", "task", "items", "accuracy, %", "parsed, %", "“yes”, %",
        "accuracy, POPE's official parser, %", "accuracy of the majority sample, %",
    ]  # fmt: skip
    return Table(columns, without_repeats(rows), text_columns=(1,))


def split_rates_table(study: StudyEvidence) -> Table:
    """Accuracy, parse rate and yes-rate, by split, where a task has several splits."""
    rows = [
        [
            name_cell(model.name), Cell(split), Cell(thousands(rates["parse_rate"].n)),
            *[
                estimate_cell(rates[name], 1, scale=100) if name in rates else Cell(NONE)
                for name in ("accuracy", "parse_rate", "yes_rate")
            ],
        ]
        for model in study.models
        for split, rates in split_rates(study, model).items()
    ]  # fmt: skip
    columns = ["model", "split", "items", "accuracy, %", "parsed, %", "“yes”, %"]
    return Table(columns, without_repeats(rows), text_columns=(1,))


def vqa_rules_table(models: tuple[ModelEvidence, ...]) -> Table:
    """Mean VQA accuracy under both rules, one row for each model and task that it scores."""
    rows = []
    for model in models:
        scored = [task for task in model.tasks if task != EXISTENCE]
        judged = model.answers.filter(pl.col("answers").list.len() > 0)
        parts = {task: judged.filter(task=task) for task in scored}
        if len(scored) > 1:
            parts["all of them"] = judged.filter(pl.col("task") != EXISTENCE)
        for name, answers in parts.items():
            if not len(answers):
                continue
            normalised, official = (
                _vqa_accuracies(answers, rule) for rule in ("normalised", "official")
            )
            n = len(answers)
            differ = sum(a != b for a, b in zip(normalised, official, strict=True))
            rows.append([
                name_cell(model.name), Cell(name), Cell(thousands(n)),
                Cell(decimal(100 * sum(normalised) / n, 1)),
                Cell(decimal(100 * sum(official) / n, 1)),
                Cell(thousands(differ)),
            ])  # fmt: skip
    columns = [
        "model", "task", "items", "VQA accuracy, normalised, %", "VQA accuracy, official, %",
        "answers scored differently",
    ]  # fmt: skip
    return Table(columns, without_repeats(rows), text_columns=(1,))


def _vqa_accuracies(answers: pl.DataFrame, rule: VqaRule) -> list[float]:
    return [
        vqa_accuracy(answer, truths, rule=rule)
        for answer, truths in answers.select("answer", "answers").iter_rows()
    ]


def answers_table(model: ModelEvidence) -> Table:
    """The most frequent answers of each task: how often given, how often due, how often right."""
    rows = []
    for task in model.tasks:
        asked = model.answers.filter(task=task)
        if not len(asked):
            continue
        judged = asked.drop_nulls("reference")
        given = asked.with_columns(pl.col("parsed").fill_null(UNPARSED))
        counts = (
            given.group_by("parsed")
            .agg(n=pl.len(), right=pl.col("correct").mean())
            .sort(["n", "parsed"], descending=[True, False])
        )
        for row in counts.head(_MAX_FREQUENT).iter_rows(named=True):
            due = int((judged["reference"] == row["parsed"]).sum())
            rows.append([
                name_cell(task),
                Cell(row["parsed"] or "(empty)", kind="data"),
                _share(row["n"], len(asked)),
                Cell(NONE)
                if row["parsed"] == UNPARSED or judged.is_empty()
                else _share(due, len(judged)),
                _percent(row["right"]),
            ])  # fmt: skip
        rest = counts.slice(_MAX_FREQUENT)
        if len(rest):
            n = int(rest["n"].sum())
            others = given.join(rest, on="parsed", how="semi")["correct"]
            rows.append([
                name_cell(task), Cell(f"{len(rest)} other answers", kind="muted"),
                _share(n, len(asked)), Cell(NONE), _percent(others.mean()),
            ])  # fmt: skip
    columns = ["task", "answer", "given, %", "is the reference, %", "right where given, %"]
    return Table(columns, without_repeats(rows), caption=model.name, text_columns=(1,))


def _percent(share: Any) -> Cell:
    """A share in percent; none where no answer is right or wrong."""
    return Cell(NONE) if share is None else Cell(decimal(100 * share, 1))


def _share(n: int, total: int) -> Cell:
    return Cell(decimal(100 * n / total, 1), f"({thousands(n)})")
