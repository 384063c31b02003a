"""The papers' claims: the verdict in each way that the numbers can fall."""

import math

import pytest

from vrp.estimates.reported import Effect, ReportedEstimate
from vrp.findings.claims import CLAIMS, Replication, replication
from vrp.findings.evidence import ModelEvidence
from vrp.report.claims import claims_table

CLAIM = {claim.key: claim for claim in CLAIMS}


def number(value, low, high, *, p=0.001, equivalent=1.0):
    return ReportedEstimate(
        value, low, high, p, equivalent, equivalent, resolvable=0.07, n=900, n_groups=400
    )


STRONG = number(0.80, 0.77, 0.83)
SLIGHT = number(0.53, 0.51, 0.55)
CHANCE = number(0.51, 0.49, 0.53, p=0.4, equivalent=0.001)
OPEN = number(0.55, 0.47, 0.63, p=0.4, equivalent=0.3)
REVERSED = number(0.30, 0.26, 0.34)
TOO_FEW = ReportedEstimate(math.nan, note="too few wrong answers: 3")
COSTS = number(-8.0, -10.0, -6.0)
NOTHING = number(0.1, -0.5, 0.7, p=0.9, equivalent=0.001)


def model(*, checkpoint="llava-hf/llava-1.5-7b-hf", family="llava", auroc=None, effect=None):
    metrics = {
        (name, "auroc", "within_strata", -1): auroc
        for name in ("spatial_entropy", "self_consistency")
        if auroc is not None
    }
    effects = {}
    if effect is not None:
        effects["ablate", "top_5", "all"] = Effect(effect, 0.7, 0.6, 0.1, math.nan, ())
        effects["ablate", "mlp_bypass", "all"] = Effect(effect, 0.7, 0.6, 0.1, math.nan, ())
    return ModelEvidence(
        "m", family=family, origin={"checkpoint": checkpoint}, metrics=metrics, effects=effects
    )


@pytest.mark.parametrize(
    ("auroc", "none_claimed", "one_claimed"),
    [
        (STRONG, Replication.NOT_REPRODUCED, Replication.REPRODUCED),
        (SLIGHT, Replication.NOT_REPRODUCED, Replication.UNDECIDED),
        (CHANCE, Replication.REPRODUCED, Replication.NOT_REPRODUCED),
        (OPEN, Replication.UNDECIDED, Replication.UNDECIDED),
        (REVERSED, Replication.NOT_REPRODUCED, Replication.NOT_REPRODUCED),
        (TOO_FEW, Replication.UNDECIDED, Replication.UNDECIDED),
        (None, Replication.NOT_RUN, Replication.NOT_RUN),
    ],
)
def test_claims_about_signals(auroc, none_claimed, one_claimed):
    found = model(auroc=auroc)
    assert replication(CLAIM["auroc_attention"], found) is none_claimed
    assert replication(CLAIM["auroc_self_consistency"], found) is one_claimed


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [(COSTS, Replication.REPRODUCED), (NOTHING, Replication.NOT_REPRODUCED)],
)
def test_claims_about_effects(effect, verdict):
    assert replication(CLAIM["ablation_top_5"], model(effect=effect)) is verdict


def test_an_embedded_model_tests_no_claim():
    embedded = model(checkpoint="zoo:llava", auroc=STRONG, effect=COSTS)
    assert {replication(claim, embedded) for claim in CLAIMS} == {Replication.NOT_TESTABLE}
    other = model(family="gemma3", auroc=STRONG)
    assert replication(CLAIM["auroc_probe"], other) is Replication.NOT_TESTABLE
    assert claims_table([other]).rows == []


def test_the_table_shows_both_numbers_and_where_to_read_on():
    rows = claims_table([model(auroc=STRONG)]).rows
    row = next(row for row in rows if row[0].text == "self-consistency tells right from wrong")
    assert [cell.text for cell in row] == [
        "self-consistency tells right from wrong", "m", "0.78", "0.80", "reproduced", "more"
    ]  # fmt: skip
    assert row[5].link == "#signals"
