"""Order and names of conditions; runs of rows named once."""

import math

import pytest

from vrp.report.evidence import ModelEvidence, family_of
from vrp.report.evidence_tables import condition_label, effects_table
from vrp.report.numbers import Effect, Number
from vrp.report.page import symbols
from vrp.report.tabular import Cell, whisker_cell, without_repeats


@pytest.mark.parametrize(
    ("kind", "condition", "words"),
    [
        ("mask", "top_30", "30% of patches, most attended"),
        ("mask", "random_12.5", "12.5% of patches, random"),
        ("mask", "bottom_30", "30% of patches, least attended"),
        ("mask", "no_image", "blank image"),
        ("mask", "top_30 - random_30", "30% of patches, most attended, minus random"),
        ("ablate", "top_5", "top 5 neurons"),
        ("ablate", "random_500", "500 random neurons"),
        ("ablate", "random_50pct", "50% of neurons, random"),
        ("ablate", "top_5_minus_100_depth25", "top 5 neurons, set to −100, at depth 25%"),
        ("ablate", "mlp_bypass", "MLP bypassed"),
        ("ablate", "something new", "something new"),
    ],
)
def test_conditions_in_words(kind, condition, words):
    assert condition_label(kind, condition) == words


def model(*conditions):
    effect = Effect(Number(-1.0, -2.0, 0.0, n=10), 0.7, 0.6, 0.1, math.nan, (-1.0,))
    return ModelEvidence("m", effects={(*name, "all"): effect for name in conditions})


def test_each_condition_stands_beside_its_control():
    names = [
        ("ablate", "top_5"), ("mask", "top_90"), ("mask", "no_image"), ("mask", "random_90"),
        ("mask", "random_30"), ("mask", "top_30 - random_30"), ("mask", "bottom_30"),
        ("mask", "top_30"), ("ablate", "random_5"), ("mask", "top_90 - random_90"),
    ]  # fmt: skip
    shown = [row[0].detail for row in effects_table(model(*names)).rows]
    assert shown == [
        "top_30", "random_30", "top_30 - random_30", "bottom_30", "no_image",
        "top_90", "random_90", "top_90 - random_90", "top_5", "random_5",
    ]  # fmt: skip


def test_the_main_condition():
    assert model(("mask", "top_10"), ("mask", "top_30")).top_condition("mask") == "top_30"
    assert model(("mask", "top_20"), ("mask", "top_10")).top_condition("mask") == "top_10"
    assert model(("ablate", "top_5_mean")).top_condition("ablate") is None


def test_family_is_recorded_or_read_from_the_name():
    assert family_of("x", {"family": "idefics"}) == "idefics"
    assert family_of("llava-13b", {}) == "llava"
    assert family_of("Qwen2-VL_7b", {}) == "qwen2_vl"
    assert family_of("paligemma.mix", {}) == "paligemma"
    assert family_of("other", {}) == ""


def test_runs_of_rows_are_named_once():
    rows = [[Cell(name), Cell("1")] for name in ("a", "a", "b", "a")]
    assert [row[0].text for row in without_repeats(rows)] == ["a", "", "b", "a"]


def test_whisker_positions():
    drawn = whisker_cell(Number(0.6, 0.55, 1.2), low=0.5, high=1.0, null=0.5).whisker
    assert drawn[:4] == (10.0, 20.0, 100.0, 0.0)
    assert drawn.clear
    assert not whisker_cell(Number(0.6, 0.4, 0.8), low=0, high=1, null=0.5).whisker.clear
    assert whisker_cell(Number(math.nan), low=0, high=1, null=0.5).whisker is None


def test_symbols_are_set_after_escaping():
    assert symbols("R(H_s) & <b>C_k</b>") == (
        "R(<i>H</i><sub>s</sub>) &amp; &lt;b&gt;<i>C</i><sub>k</sub>&lt;/b&gt;"
    )
    assert symbols("THC_k") == "THC_k"
