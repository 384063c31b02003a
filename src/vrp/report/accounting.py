"""Tables of the models and items of the study, and of the numbers that rest on fewer items."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from vrp.data.item import EXISTENCE, YES_NO
from vrp.data.item_sampling import first_few
from vrp.estimates.predictors import predictor_label
from vrp.findings.evidence import ModelEvidence, ordered_tasks
from vrp.report.evidence import StudyEvidence
from vrp.report.numbers import NONE, thousands
from vrp.report.tabular import Cell, Table, name_cell, without_repeats
from vrp.tables.items import asked_items
from vrp.tables.notes import NO_REFERENCE


def splits_table(study: StudyEvidence) -> Table:
    """Items and images of every split, and how many answers are yes and no.

    A question that several splits have drawn is counted in each, and once in the last row.
    """
    order = {task: i for i, task in enumerate(ordered_tasks(study.items))}
    rows = [
        [name_cell(f"{row['dataset']}/{row['split']}"), Cell(row["task"]),
         Cell(thousands(row["n"])), Cell(thousands(row["images"])), *_labels(row)]
        for row in sorted(
            split_counts(study.items).iter_rows(named=True),
            key=lambda row: (order[row["task"]], row["dataset"], row["split"]),
        )
    ]  # fmt: skip
    images = thousands(study.items["group"].n_unique())
    asked = asked_items(study.items)
    n_asked, n_unjudged = len(asked), asked["reference"].null_count()
    rows.append([
        name_cell("all, each question once"), Cell(""), Cell(thousands(n_asked)), Cell(images),
        Cell(NONE), Cell(NONE), Cell(thousands(n_unjudged) if n_unjudged else NONE),
    ])  # fmt: skip
    columns = ["split", "task", "items", "images", "answer yes", "answer no", "no reference"]
    return Table(columns, rows, text_columns=(1,))


def _labels(row: Mapping[str, Any]) -> list[Cell]:
    labels = [Cell(NONE if row[label] is None else thousands(row[label])) for label in YES_NO]
    return [*labels, Cell(thousands(row["unjudged"]) if row["unjudged"] else NONE)]


def split_counts(items: pl.DataFrame) -> pl.DataFrame:
    """Dataset, split, task → `n`, `images`, `unjudged` (without a reference), and how many answers
    are `yes` and `no` (null where these are not the answers), ordered by name."""
    judged_as_yes_or_no = (pl.col("task") == EXISTENCE) & (pl.col("unjudged") < pl.col("n"))
    return (
        items.group_by("dataset", "split", "task")
        .agg(
            n=pl.len(),
            images=pl.col("group").n_unique(),
            unjudged=pl.col("reference").null_count(),
            **{label: (pl.col("reference") == label).sum() for label in YES_NO},
        )
        .with_columns(pl.when(judged_as_yes_or_no).then(pl.col(*YES_NO)))
        .sort("dataset", "split", "task")
    )


def sampling_table(study: StudyEvidence) -> Table:
    """Questions found, usable, dropped (with reasons) and taken, by split."""
    rows = []
    for row in study.sampling:
        kinds = ("missing", "unreadable", "elongated")
        lost = first_few([image for kind in kinds for image in row.get(kind, ())])
        dropped = [f"{reason}: {thousands(n)}" for reason, n in row.get("dropped", {}).items()]
        rows.append([
            name_cell(f"{row['dataset']}/{row['split']}"), Cell(thousands(row["found"])),
            Cell(thousands(row["usable"])), Cell(thousands(row["taken"])),
            Cell("; ".join(dropped) or "none", lost),
        ])  # fmt: skip
    columns = ["split", "questions found", "usable", "taken", "dropped, and why"]
    return Table(columns, rows, text_columns=(4,))


def models_table(models: Sequence[ModelEvidence]) -> Table:
    """Family, checkpoint, revision and settings of each model."""
    rows = [
        [
            name_cell(model.name),
            Cell(model.family or NONE),
            Cell(model.checkpoint or "not recorded"),
            Cell(model.origin.get("revision", "")[:16] or NONE, kind="code"),
            Cell(" ".join(
                value for key in ("dtype", "prompt", "image_policy")
                if (value := model.origin.get(key, ""))
            ) or NONE),
            Cell(_captured_words(model)),
            Cell("; ".join(json.loads(model.origin.get("notes", "[]"))) or NONE),
        ]
        for model in models
    ]  # fmt: skip
    columns = ["model", "family", "checkpoint", "revision or digest", "run with", "captured",
               "not as published"]  # fmt: skip
    return Table(columns, rows, text_columns=(1, 2, 3, 4, 5, 6))


def prompts_table(models: Sequence[ModelEvidence]) -> Table:
    """Prompt of the first item of each task, as the model saw it."""
    rows = []
    for model in models:
        for first in json.loads(model.origin.get("first_prompts", "[]")):
            rows.append([
                name_cell(model.name),
                Cell(first["task"]),
                Cell(first["prompt"].replace("\n", "↵"), kind="data"),
                Cell(_token_ids(first), kind="code"),
            ])  # fmt: skip
    columns = ["model", "task", "prompt of the first item", "its token ids"]
    return Table(columns, without_repeats(rows), text_columns=(1, 2, 3))


def _token_ids(first: Mapping[str, Any]) -> str:
    """Token ids with the image's as one, such as `1 3148 <image>×576 13`."""
    image = f"<image>×{first['n_image_tokens']}"
    ids = (image if i == first["image_token_id"] else str(i) for i in first["token_ids"])
    return " ".join(ids)


def _captured_words(model: ModelEvidence) -> str:
    """Names of the quantities that were captured, as text."""
    if model.captured is None:
        return NONE
    return model.captured.replace(",", ", ").replace("_", " ") or "answers, hidden states"


def dropped_table(models: Sequence[ModelEvidence]) -> Table:
    """Numbers that rest on fewer items than the study has, with the reason."""
    rows = []
    for model in models:
        found: dict[tuple[int, str], list[str]] = {}
        notes = model.answers.filter(pl.col("note").is_not_null())
        for (note,), frame in sorted(notes.partition_by("note", as_dict=True).items()):
            found[len(frame), f"{note} (answer kept and scored)"] = ["answers"]
        if n_unjudged := model.answers["correct"].null_count():
            reason = f"{NO_REFERENCE}: answers, signals and scores only"
            found[n_unjudged, reason] = ["all that is about right and wrong"]
        for estimates in (model.metrics, model.probes):
            for (predictor, metric, scope, layer), number in estimates.items():
                if not number.n_dropped or layer >= 0 or number.note == NO_REFERENCE:
                    continue  # items without a reference are told above, once
                # The other metrics and scopes of a predictor lack the same items.
                what = _DESCRIPTIVE.get((predictor, metric))
                if (metric, scope) == ("auroc", "pooled"):
                    what = predictor_label(predictor)
                if what:
                    why = number.n_dropped, number.note or "value missing"
                    found.setdefault(why, []).append(what)
        rows += [
            [name_cell(model.name), Cell(", ".join(whats)), Cell(thousands(n)), Cell(why)]
            for (n, why), whats in found.items()
        ]
    columns = ["model", "numbers", "items left out", "why"]
    return Table(columns, without_repeats(rows), text_columns=(1, 3))


_DESCRIPTIVE = {
    ("mlp", "growth_share"): "MLPs’ share of the margin’s growth",
    ("attention", "growth_share"): "attention’s share of the margin’s growth",
    ("truth_margin", "peak"): "peak of the truth margin",
    ("top_heads", "r2_top_1"): "R² of the heads’ attention",
}


def provenance_table(study: StudyEvidence, own: Mapping[str, str]) -> Table:
    """Digests of config and code that made every table."""
    rows = [
        [
            name_cell(origin.get("stage", "")),
            Cell(origin.get("model", "") or "all"),
            Cell(origin.get("config", "") or NONE, kind="code"),
            Cell(origin.get("code", "") or NONE, kind="code"),
        ]
        for origin in sorted((*study.origins, own), key=lambda origin: origin.get("stage", ""))
    ]
    columns = ["stage", "model", "config digest", "code digest"]
    return Table(columns, without_repeats(rows), text_columns=(1, 2, 3))


def versions(study: StudyEvidence, own: Mapping[str, str]) -> dict[str, list[str]]:
    """Distribution → versions that made the tables; more than one is worth seeing."""
    found: dict[str, set[str]] = {}
    for origin in (*study.origins, own):
        for name, version in json.loads(origin.get("versions", "{}")).items():
            found.setdefault(name, set()).add(version)
    return {name: sorted(found[name]) for name in sorted(found)}
