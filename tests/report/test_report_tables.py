"""Order and names of conditions; runs of rows named once."""

import math

from planted_study import CONDITIONS

from vrp.estimates.reported import Effect, ReportedEstimate
from vrp.estimates.verdicts import Outcome
from vrp.findings.evidence import ModelEvidence
from vrp.report.evidence_tables import effects_table, guards_table, rivals_table
from vrp.report.page_templates import symbols
from vrp.report.tabular import Cell, whisker_cell, without_repeats


def model(*conditions):
    effect = Effect(ReportedEstimate(-1.0, -2.0, 0.0, n=10), 0.7, 0.6, 0.1, math.nan, (-1.0,))
    effects = {(*name, "all"): effect for name in conditions}
    return ModelEvidence("m", effects=effects, conditions=CONDITIONS)


def test_each_condition_stands_beside_its_control():
    names = [
        ("ablate", "top_5"), ("mask", "top_90"), ("mask", "no_image"), ("mask", "random_90"),
        ("mask", "random_30"), ("mask", "top_30 - random_30"), ("mask", "bottom_30"),
        ("mask", "top_30"), ("ablate", "matched_5"), ("mask", "top_90 - random_90"),
    ]  # fmt: skip
    shown = [row[0].detail for row in effects_table(model(*names)).rows]
    assert shown == [
        "top_30", "random_30", "top_30 - random_30", "bottom_30", "no_image",
        "top_90", "random_90", "top_90 - random_90", "top_5", "matched_5",
    ]  # fmt: skip


def test_the_main_condition_is_one_that_was_run():
    assert model(("mask", "top_10"), ("mask", "top_30")).main_condition("mask").name == "top_30"
    assert model(("mask", "top_10")).main_condition("mask") is None
    assert model(("mask", "top_30")).main_condition("ablate") is None


def test_an_unsettled_difference_says_what_could_have_been_found():
    open_one = ReportedEstimate(0.01, -0.06, 0.08, 0.5, se=0.035, resolvable=0.0982)
    found = ReportedEstimate(0.2, 0.15, 0.25, 0.001, se=0.02, resolvable=0.06)
    contrasts = {"question_only": open_one, "margin_only": found}
    models = [ModelEvidence("m", contrasts=contrasts)]
    rows = rivals_table(models).rows
    assert [row[2].detail for row in rows] == ["detectable from 0.098", ""]
    of_guard = {row[0].text: row[2] for row in guards_table(models).rows}["question only"]
    assert (of_guard.text, of_guard.detail) == (Outcome.UNSETTLED, "detectable from 0.098")


def test_runs_of_rows_are_named_once():
    rows = [[Cell(name), Cell("1")] for name in ("a", "a", "b", "a")]
    assert [row[0].text for row in without_repeats(rows)] == ["a", "", "b", "a"]


def test_whisker_positions():
    drawn = whisker_cell(ReportedEstimate(0.6, 0.55, 1.2), low=0.5, high=1.0, null=0.5).whisker
    assert drawn[:4] == (10.0, 20.0, 100.0, 0.0)
    assert drawn.clear
    assert not whisker_cell(ReportedEstimate(0.6, 0.4, 0.8), low=0, high=1, null=0.5).whisker.clear
    assert whisker_cell(ReportedEstimate(math.nan), low=0, high=1, null=0.5).whisker is None


def test_symbols_are_set_after_escaping():
    assert symbols("R(H_s) & <b>C_k</b>") == (
        "R(<i>H</i><sub>s</sub>) &amp; &lt;b&gt;<i>C</i><sub>k</sub>&lt;/b&gt;"
    )
    assert symbols("THC_k") == "THC_k"
