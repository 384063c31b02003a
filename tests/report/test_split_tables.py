"""Tables by split, where several splits have drawn one question."""

from dataclasses import replace

import polars as pl
import pytest
from scipy.stats import beta, t

from vrp.config.margins import EquivalenceMargins
from vrp.findings.evidence import ModelEvidence
from vrp.report.accounting import splits_table
from vrp.report.answer_tables import split_rates_table
from vrp.report.evidence import StudyEvidence
from vrp.report.split_rates import split_rates

ROWS = (
    # id, dataset, split, task, image, question, reference
    ("pope/popular/1", "pope", "popular", "existence", "a", "dog?", "yes"),
    ("pope/popular/2", "pope", "popular", "existence", "a", "cat?", "no"),
    ("pope/random/1", "pope", "random", "existence", "a", "dog?", "yes"),
    ("pope/random/2", "pope", "random", "existence", "b", "car?", "no"),
    ("vqa/open/1", "vqa", "open", "open", "b", "what?", "red"),
)
ANSWERS = {
    "pope/popular/1": ("yes", True),
    "pope/popular/2": ("yes", False),
    "pope/random/2": (None, False),
    "vqa/open/1": ("red", True),
}


@pytest.fixture
def study():
    names = ("item_id", "dataset", "split", "task", "image", "question", "reference")
    items = pl.DataFrame(ROWS, schema=names, orient="row").with_columns(
        group=pl.col("image"), answers=pl.concat_list("reference")
    )
    answers = pl.DataFrame(
        [(key, *value) for key, value in ANSWERS.items()],
        schema=["item_id", "parsed", "correct"],
        orient="row",
    )
    model = ModelEvidence(name="m", tasks=("existence", "open"), answers=answers)
    return StudyEvidence("s", items, (model,), (), {}, EquivalenceMargins(), {}, ())


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_every_split_shows_its_yes_and_no_and_the_whole_counts_a_question_once(study):
    assert texts(splits_table(study)) == [
        ["pope/popular", "existence", "2", "1", "1", "1", "–"],
        ["pope/random", "existence", "2", "2", "1", "1", "–"],
        ["vqa/open", "open", "1", "1", "–", "–", "–"],
        ["all, each question once", "", "4", "2", "–", "–", "–"],
    ]


def test_a_shared_questions_one_answer_counts_in_each_split(study):
    assert [row[1:] for row in texts(split_rates_table(study))] == [
        ["pope/popular", "2", "50.0", "100.0", "100.0"],
        ["pope/random", "2", "50.0", "50.0", "50.0"],
    ]


def test_a_splits_interval_counts_images(study):
    """Six questions of each image are all right or all wrong: 20 images, not 120 questions."""
    rows = [
        (f"pope/{split}/{n}", "pope", split, "existence", str(n // 6), f"{n}?", "yes")
        for split in ("popular", "random")
        for n in range(120)
    ]
    items = pl.DataFrame(rows, schema=study.items.columns[:7], orient="row").with_columns(
        group=pl.col("image"), answers=pl.concat_list("reference")
    )
    answers = items.select("item_id", parsed=pl.lit("yes"), correct=pl.col("image") < "15")
    model = ModelEvidence(name="m", tasks=("existence",), answers=answers)
    rates = split_rates(replace(study, items=items, models=(model,)), model)["pope/popular"]
    right = int(answers["correct"][:120].sum())
    n = 19 * (t.ppf(0.975, 119) / t.ppf(0.975, 19)) ** 2
    assert rates["accuracy"].value == right / 120
    assert rates["accuracy"].low == pytest.approx(
        beta.ppf(0.025, right / 120 * n, n * (1 - right / 120) + 1)
    )


def test_one_split_a_task_needs_no_table(study):
    alone = study.items.filter(pl.col("split") != "random")
    assert (
        split_rates_table(
            study.__class__("s", alone, study.models, (), {}, EquivalenceMargins(), {}, ())
        ).rows
        == []
    )


def test_items_without_a_reference_are_counted_and_are_neither_yes_nor_no(study):
    unknown = study.items.with_columns(
        pl.when(pl.col("split") != "popular").then(pl.col("reference")).alias("reference")
    )
    table = splits_table(
        StudyEvidence("s", unknown, study.models, (), {}, EquivalenceMargins(), {}, ())
    )
    assert texts(table)[0] == ["pope/popular", "existence", "2", "1", "–", "–", "2"]
    assert texts(table)[1][-3:] == ["1", "1", "–"]
