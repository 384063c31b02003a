"""VQA accuracy under both rules, worked by hand."""

import polars as pl

from vrp.findings.evidence import ModelEvidence
from vrp.report.answer_tables import vqa_rules_table


def evidence(rows, *tasks):
    columns = ("task", "answer", "answers")
    return ModelEvidence(
        name="m",
        tasks=tasks,
        answers=pl.DataFrame([dict(zip(columns, row, strict=True)) for row in rows]),
    )


def test_both_rules_stand_side_by_side():
    model = evidence(
        [
            ("existence", "Yes", ["yes"]),
            # All agree: the official rule compares raw text, and "Two" is not "two".
            ("counting", "Two", ["two"] * 10),
            # Two matches of ten: 2 · 1/3 and 8 · 2/3 over 10 = 0.6 under both.
            ("counting", "2", ["2", "two", *["3"] * 8]),
            ("open", "red", ["red"] * 10),
            # One annotator: right, and 0 of 3 others.
            ("open", "red", ["red"]),
        ],
        "existence",
        "counting",
        "open",
    )
    table = vqa_rules_table((model,))
    assert [[cell.text for cell in row[1:]] for row in table.rows] == [
        ["counting", "2", "80.0", "30.0", "1"],
        ["open", "2", "100.0", "50.0", "1"],
        ["all of them", "4", "90.0", "40.0", "2"],
    ]
    assert "normalised" in table.columns[3]
    assert "official" in table.columns[4]


def test_yes_no_questions_alone_have_no_such_table():
    assert vqa_rules_table((evidence([("existence", "Yes", ["yes"])], "existence"),)).rows == []
