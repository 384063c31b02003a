"""Means by layer of right and of wrong answers, within strata."""

import numpy as np
import polars as pl
import pytest

from vrp.plots.layer_values import right_and_wrong


def rows(n_of):
    """Items of strata: name → (right, wrong)."""
    found = [
        {"answered_right": right, "stratum": name}
        for name, counts in n_of.items()
        for right, count in zip((True, False), counts, strict=True)
        for _ in range(count)
    ]
    frame = pl.DataFrame(found)
    return frame.with_columns(group=pl.Series([f"image {i}" for i in range(len(frame))]))


def test_a_quantity_of_the_kind_of_question_does_not_part_the_curves():
    """Yes/no questions are answered right more often, and have the larger value."""
    frame = rows({"a: yes/no": (90, 10), "a: other": (20, 80), "a: number": (30, 0)})
    kinds = {"a: yes/no": 1.0, "a: other": 0.0, "a: number": 5.0}
    values = frame["stratum"].replace_strict(kinds).to_numpy()[:, None] * np.ones((1, 3))
    marks = list(right_and_wrong("m", "q", values, frame))
    assert len(marks) == 6
    # Van Elteren's weights: 90 · 10 / 101 and 20 · 80 / 101.
    expected = 900 / (900 + 1600)
    assert [mark["value"] for mark in marks] == pytest.approx([expected] * 6)
    assert {mark["answers"]: mark["n"] for mark in marks} == {"right": 110, "wrong": 90}


def test_without_wrong_answers_all_right_ones_are_shown():
    frame = rows({"a": (10, 0), "b": (20, 0)})
    marks = list(right_and_wrong("m", "q", np.arange(30.0)[:, None], frame))
    assert [(mark["answers"], mark["value"], mark["n"]) for mark in marks] == [("right", 14.5, 30)]
