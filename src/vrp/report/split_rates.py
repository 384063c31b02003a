"""Accuracy, parse rate and yes-rate of single splits, such as POPE's three."""

import polars as pl

from vrp.data.item import EXISTENCE
from vrp.estimates.reported import ReportedEstimate
from vrp.findings.evidence import ModelEvidence
from vrp.report.evidence import StudyEvidence
from vrp.stats.clusters import numbered
from vrp.stats.proportion import clustered_share
from vrp.tables.items import asked_as

Rates = dict[str, ReportedEstimate]
"""`accuracy`, `parse_rate` and, of existence questions, `yes_rate`."""


def split_rates(study: StudyEvidence, model: ModelEvidence) -> dict[str, Rates]:
    """Return the rates of every split of a task that has several; intervals are clustered by
    image, as those of tasks.

    The one answer to a question that several splits have drawn counts in each of them.

    Returns:
        dataset/split → rates, ordered by name.
    """
    splits = study.items.select("dataset", "split", "task").unique()
    several = [task for task, n in splits["task"].value_counts().iter_rows() if n > 1]
    answered = (
        study.items.filter(pl.col("task").is_in(several))
        .join(asked_as(study.items), on="item_id")
        .select("asked", "task", "group", split=pl.concat_str("dataset", "split", separator="/"))
        .join(
            model.answers.select("item_id", "parsed", "correct"),
            left_on="asked", right_on="item_id",
        )
        .sort("split", "asked")
    )  # fmt: skip
    parts = answered.partition_by("split", as_dict=True, maintain_order=True)
    return {str(name): _rates(part) for (name,), part in parts.items()}


def _rates(answered: pl.DataFrame) -> Rates:
    judged = answered.drop_nulls("correct")
    rates = {"parse_rate": _rate(answered, answered["parsed"].is_not_null())}
    if len(judged):
        rates["accuracy"] = _rate(judged, judged["correct"])
    existence = answered.filter(task=EXISTENCE)
    if len(existence):
        rates["yes_rate"] = _rate(existence, (existence["parsed"] == "yes").fill_null(False))
    return rates


def _rate(answered: pl.DataFrame, hits: pl.Series) -> ReportedEstimate:
    codes, n_images = numbered(answered["group"].to_numpy())
    share = clustered_share(hits.to_numpy(), codes, n_images=n_images)
    return ReportedEstimate.from_estimate(share)
