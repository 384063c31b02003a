"""How estimates are judged and printed."""

import json
import math

import pytest

from vrp.estimates.reported import ReportedEstimate, plain
from vrp.estimates.verdicts import Standing, size_of, standing
from vrp.report.numbers import decimal, listed, p_value, percent, points, with_interval
from vrp.stats.auroc import CONSTANT


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (None, Standing.MISSING),
        (ReportedEstimate(math.nan), Standing.MISSING),
        (ReportedEstimate(0.7, 0.6, 0.8, 0.01, 0.9), Standing.ABOVE),
        (ReportedEstimate(0.3, 0.2, 0.4, 0.01, 0.9), Standing.BELOW),
        (ReportedEstimate(0.7, 0.4, 0.9, 0.20, 0.9), Standing.UNSETTLED),
        (ReportedEstimate(0.7, 0.5, 0.9, 0.01, 0.9), Standing.UNSETTLED),
        (ReportedEstimate(0.7, 0.4, 0.9), Standing.UNSETTLED),
        (ReportedEstimate(0.52, 0.51, 0.53, 0.01, 0.03, 0.03), Standing.EQUIVALENT),
        (ReportedEstimate(0.52, 0.51, 0.53, 0.01, 0.03, 0.09), Standing.ABOVE),
        (
            ReportedEstimate(0.5, p_equivalence_adjusted=0.01, note=CONSTANT),
            Standing.CONSTANT,
        ),
        (
            ReportedEstimate(0.5, p_equivalence_adjusted=0.2, note=CONSTANT),
            Standing.UNSETTLED,
        ),
        (ReportedEstimate(math.nan, note="too few wrong answers: 3"), Standing.TOO_FEW),
    ],
)
def test_standing(number, expected):
    assert standing(number, null=0.5) is expected


def test_all_of_several_being_equivalent_needs_no_correction():
    number = ReportedEstimate(0.52, 0.49, 0.55, 0.2, 0.03, 0.09)
    assert standing(number, null=0.5) is Standing.UNSETTLED
    assert standing(number, null=0.5, conjoined=True) is Standing.EQUIVALENT


def test_sizes_have_the_words_of_their_numbers():
    aurocs = (0.5, 0.549, 0.55, 0.649, 0.65, 0.799, 0.8, 1.0, 0.3)
    words = "negligible negligible weak weak moderate moderate strong strong moderate"
    assert [size_of(value) for value in aurocs] == words.split()


def test_printing():
    assert decimal(-0.004) == "0.00"
    assert decimal(-1.25, 1) in ("−1.2", "−1.3")
    assert decimal(3, 1, signed=True) == "+3.0"
    assert decimal(0.0, 1, signed=True) == "0.0"
    assert decimal(math.nan) == "–"
    assert p_value(0.0004) == "<0.001"
    assert p_value(0.04) == "0.040"
    assert p_value(math.nan) == "–"
    assert with_interval(ReportedEstimate(0.5, 0.4, 0.6)) == "0.50 [0.40, 0.60]"
    assert with_interval(ReportedEstimate(0.5)) == "0.50"
    assert percent(ReportedEstimate(0.908, 0.884, 0.928)) == "90.8% [88.4, 92.8]"
    assert points(ReportedEstimate(-8.2, -9.9, -6.5)) == "−8.2 pp [−9.9, −6.5]"
    assert listed([]) == ""
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_plain_data_is_strict_json():
    found = plain({"a": (math.nan, math.inf, 0.123456789), "b": {"c": "text", "d": None}})
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "a": [None, None, 0.123457], "b": {"c": "text", "d": None},
    }  # fmt: skip
