"""Sampled self-consistency beside its exact expectation."""

import math

import polars as pl
import pytest
from scipy.stats import t

from vrp.estimates.reported import ReportedEstimate
from vrp.findings.evidence import ModelEvidence
from vrp.report.consistency_table import mean_difference, sampled_against_exact

CONSISTENCY = pl.DataFrame(
    {
        "self_consistency": [1.0, 0.6, 0.9, 0.5],
        "close_draws": [0, 2, 0, 1],
        "expected_consistency_low": [0.9, 0.6, 0.8, None],
        "expected_consistency_high": [1.0, 0.7, 0.8, None],
        "unresolved": [0.1, 0.1, 0.0, None],
        "group": ["a", "a", "b", "b"],
    }
)


def test_the_difference_by_hand():
    # Differences .05, −.05, .1 of images a, a, b, five times over: mean .5/15. Without an a the
    # mean is .5/13, without a b .4/14; of 5 images of 2 and 5 of 1, 625/85 are effective.
    found = mean_difference(
        pl.concat(CONSISTENCY.with_columns(pl.col("group") + str(copy)) for copy in range(5))
    )
    moved = 5 * (0.5 / 13 - 1 / 30) ** 2 + 5 * (0.4 / 14 - 1 / 30) ** 2
    half = t.ppf(0.975, 625 / 85 - 1) * math.sqrt(9 / 10 * moved)
    assert found.value == pytest.approx(1 / 30)
    assert found.high - found.value == pytest.approx(half)
    assert (found.n, found.n_groups) == (15, 10)
    # Of two images there is no interval.
    few = mean_difference(CONSISTENCY)
    assert (few.value, few.note) == (pytest.approx(1 / 30), "too few images: 2")
    assert math.isnan(few.low)


def test_one_row_a_model():
    aurocs = {
        ("self_consistency", "auroc", "within_strata", -1): ReportedEstimate(0.7),
        ("expected_self_consistency", "auroc", "within_strata", -1): ReportedEstimate(0.75),
    }
    models = [
        ModelEvidence("one", metrics=aurocs, consistency=CONSISTENCY),
        ModelEvidence("none"),
        ModelEvidence(
            "sampled only",
            consistency=CONSISTENCY.with_columns(
                pl.lit(None, dtype=pl.Float64).alias(name) for name in CONSISTENCY.columns[2:5]
            ),
        ),
    ]
    table = sampled_against_exact(models)
    texts = [[cell.text for cell in row] for row in table.rows]
    assert texts[0] == ["one", "4", "3", "0.750", "0.800", "+0.0333", "6.67", "0.700", "0.750"]
    assert texts[1][:5] == ["sampled only", "4", "3", "0.750", "not run"]
    assert len(texts) == 2
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_an_item_without_finite_logits_spoils_no_mean():
    broken = pl.DataFrame(
        {
            "self_consistency": [float("nan")],
            "close_draws": [0],
            "expected_consistency_low": [None],
            "expected_consistency_high": [None],
            "unresolved": [None],
            "group": ["c"],
        },
        schema=CONSISTENCY.schema,
    )
    whole = sampled_against_exact([ModelEvidence("m", consistency=CONSISTENCY)])
    spoilt = sampled_against_exact(
        [ModelEvidence("m", consistency=pl.concat([CONSISTENCY, broken]))]
    )
    assert whole.rows == spoilt.rows
    [nothing] = sampled_against_exact([ModelEvidence("m", consistency=broken)]).rows
    assert [cell.text for cell in nothing[:3]] == ["m", "0", "–"]
