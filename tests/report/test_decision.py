"""The decision: the cheapest signal that tells about as much as the best one."""

import numpy as np
import polars as pl
import pytest

from vrp.estimates.reported import ReportedEstimate
from vrp.findings.evidence import ModelEvidence
from vrp.report.decision import decide, decision_lines, decision_table


def number(value, low, high, p=0.001, n=400):
    return ReportedEstimate(value, low, high, p, 1.0, 1.0, n=n, n_groups=200)


BEST = number(0.84, 0.80, 0.88)
NEAR = number(0.81, 0.77, 0.85)
FAR = number(0.70, 0.66, 0.74)
CHANCE = ReportedEstimate(0.51, 0.48, 0.54, 0.8, 0.001, 0.001, n=400, n_groups=200)
OPEN = ReportedEstimate(0.53, 0.42, 0.64, 0.8, 0.8, 0.8, n=400, n_groups=200)


def model(aurocs, *, within=None, shares=(), k=10):
    """A model with an AUROC of each predictor, and the same within each emitted answer."""
    metrics = {}
    for name, found in aurocs.items():
        metrics[name, "auroc", "within_strata", -1] = found
        held = (within or {}).get(name, found)
        metrics[name, "auroc", "within_answers", -1] = held
    for name, metric, share in shares:
        metrics[name, metric, "pooled", -1] = number(share, share - 0.02, share + 0.02)
    metrics["model", "accuracy", "pooled", -1] = number(0.72, 0.70, 0.74)
    return ModelEvidence(name="m", metrics=metrics, k=k)


SHARES = (
    ("token_confidence", "accuracy_at_80", 0.81),
    ("token_confidence", "accuracy_at_50", 0.9),
)


def test_a_free_signal_within_the_best_one_s_interval_is_preferred():
    found = decide(
        model({"self_consistency": BEST, "token_confidence": NEAR}, shares=SHARES), {}
    ).recommended
    assert found is not None
    assert (found.predictor, found.best) == ("token_confidence", "self_consistency")
    assert found.cost == "nothing: it is read with the answer"


def test_what_lies_below_the_best_one_s_interval_is_not():
    found = decide(model({"self_consistency": BEST, "token_confidence": FAR}), {}).recommended
    assert found is not None
    assert (found.predictor, found.cost) == ("self_consistency", "10 sampled answers")


@pytest.mark.parametrize(
    ("aurocs", "within"),
    [
        ({"self_consistency": CHANCE}, {}),
        ({"self_consistency": OPEN}, {}),
        # It knows the form of the answer, and nothing within one answer.
        ({"self_consistency": BEST}, {"self_consistency": CHANCE}),
        # It says the opposite of what it claims.
        ({"self_consistency": number(0.2, 0.16, 0.24)}, {}),
        # It needs the label.
        ({"truth_margin": BEST}, {}),
    ],
)
def test_what_does_not_tell_is_not_recommended(aurocs, within):
    decision = decide(model(aurocs, within=within), {})
    assert decision.recommended is None
    assert "nothing tells right from wrong" in " ".join(decision_lines("s", [decision]))
    cells = [row[1].text for row in decision_table([decision]).rows]
    assert "nothing that was judged" in cells


def test_threshold_and_fifths_by_hand():
    """Of 100 answers with entropies 0 to 99, the sixty lowest are right."""
    entropy = np.arange(100.0)
    values = {"logit_entropy": pl.DataFrame({"score": entropy, "correct": entropy < 60})}
    decision = decide(model({"logit_entropy": BEST}), values)
    found = decision.recommended
    assert found is not None
    assert not found.rises
    assert found.threshold == pytest.approx(79.2)  # four fifths lie below it
    assert [bar.value for bar in found.fifths] == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert [bar.n for bar in found.fifths] == [20] * 5
    row = next(r for r in decision_table([decision]).rows if r[0].text == "answer where it is")
    assert row[1].text == "at most 79.200"


def test_what_tells_less_is_named():
    weak = number(0.6, 0.57, 0.63)
    aurocs = {"token_confidence": BEST, "spatial_entropy": CHANCE, "self_consistency": weak}
    decision = decide(model(aurocs, shares=SHARES), {})
    assert decision.weaker == (
        "attention maps: no better than chance, or not beyond a guard (0.51)",
        "self-consistency: weak (0.60)",
    )
    lines = decision_lines("s", [decision])
    assert lines[1].startswith("m: 72.0% right. Rank its answers by token confidence")
    assert "The surest 80%: 81.0% right; 50%: 90.0%." in lines[2]
