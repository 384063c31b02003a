"""The decision: the cheapest signal that tells about as much as the best one."""

import math

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
FAR = number(0.80, 0.76, 0.84)
"""Within the best one's interval, and not shown to be within 0.05 of it."""
CHANCE = ReportedEstimate(0.51, 0.48, 0.54, 0.8, 0.001, 0.001, n=400, n_groups=200)
FEW = ReportedEstimate(math.nan, note="too few right or wrong answers", n=40, n_groups=20)
OPEN = ReportedEstimate(0.53, 0.42, 0.64, 0.8, 0.8, 0.8, n=400, n_groups=200)


def model(aurocs, *, within=None, shares=(), k=10, beyond=None):
    """A model with an AUROC of each predictor, the same in its one stratum and within each answer.

    Each tells more than question and answer; how far one falls short of the best follows from the
    values, within ± 0.02.
    """
    metrics = {}
    for name, found in aurocs.items():
        metrics[name, "auroc", "within_strata", -1] = found
        metrics[name, "auroc", "existence", -1] = found
        held = (within or {}).get(name, found)
        metrics[name, "auroc", "within_answers", -1] = held
    for name, metric, share in shares:
        metrics[name, metric, "pooled", -1] = number(share, share - 0.02, share + 0.02)
    metrics["model", "accuracy", "pooled", -1] = number(0.72, 0.70, 0.74)
    return ModelEvidence(
        name="m", metrics=metrics, k=k, answer_tokens=1.25, tasks=("existence",),
        beyond_baselines={
            (name, baseline): beyond or number(0.1, 0.06, 0.14)
            for name in aurocs
            for baseline in ("question_only", "answer_only")
        },
        short_of=lambda best, others: {
            name: number(gap := aurocs[name].value - aurocs[best].value, gap - 0.02, gap + 0.02)
            for name in others
        },
    )  # fmt: skip


SHARES = (
    ("token_confidence", "accuracy_at_80", 0.81),
    ("token_confidence", "accuracy_at_50", 0.9),
)


def test_a_free_signal_about_as_good_as_the_best_one_is_preferred():
    found = decide(
        model({"self_consistency": BEST, "token_confidence": NEAR}, shares=SHARES), {}
    ).recommended
    assert found is not None
    assert (found.predictor, found.best) == ("token_confidence", "self_consistency")
    assert found.cost == "nothing: it is read with the answer"


def test_the_best_one_is_the_best_of_those_that_survive_their_guards():
    """One of a higher AUROC knows the answer alone: nothing is compared with it."""
    aurocs = {"image_gain": number(0.95, 0.93, 0.97), "self_consistency": BEST,
              "token_confidence": NEAR}  # fmt: skip
    found = decide(model(aurocs, within={"image_gain": CHANCE}), {}).recommended
    assert found is not None
    assert (found.predictor, found.best) == ("token_confidence", "self_consistency")


def test_one_that_may_tell_less_than_the_margin_below_it_is_not():
    found = decide(model({"self_consistency": BEST, "token_confidence": FAR}), {}).recommended
    assert found is not None
    assert found.predictor == "self_consistency"
    assert found.cost == "10 sampled answers"
    assert found.forwards == (1.0, 12.5)


@pytest.mark.parametrize(
    ("aurocs", "within", "why"),
    [
        ({"self_consistency": CHANCE}, {}, "none, no signal tells right from wrong"),
        ({"self_consistency": OPEN}, {}, "undecided, no signal was shown to tell right"),
        # It knows the form of the answer, and nothing within one answer.
        ({"self_consistency": BEST}, {"self_consistency": CHANCE}, "none, no signal tells"),
        # It says the opposite of what it claims.
        ({"self_consistency": number(0.2, 0.16, 0.24)}, {}, "none, no signal tells"),
        # It needs the label.
        ({"truth_margin_last": BEST}, {}, "not judged, no signal or probe was run"),
        (
            {"self_consistency": FEW},
            {},
            "undecided, under 10 images with right or with wrong answers",
        ),
        ({}, {}, "not judged, no signal or probe was run"),
    ],
)
def test_what_does_not_tell_is_not_recommended(aurocs, within, why):
    decision = decide(model(aurocs, within=within), {})
    assert decision.recommended is None
    assert why in decision_lines("s", [decision])[1]
    cells = [row[1] for row in decision_table([decision], {}).rows]
    assert any(why in cell.text for cell in cells)
    assert all(cell.kind == "muted" for cell in cells[1:-2])


def test_threshold_and_fifths_by_hand():
    """Of 100 answers with entropies 0 to 99, the sixty lowest are right."""
    entropy = np.arange(100.0)
    values = {
        "logit_entropy": pl.DataFrame(
            {
                "score": entropy,
                "correct": entropy < 60,
                "group": [f"{n // 2:02.0f}" for n in entropy],
                "task": np.where(entropy < 40, "existence", "counting"),
            }
        )
    }
    decision = decide(model({"logit_entropy": BEST}), values)
    found = decision.recommended
    assert found is not None
    assert not found.rises
    # Four fifths lie below the one, half below the other.
    assert found.thresholds == pytest.approx({80: 79.2, 50: 49.5})
    assert [bar.value for bar in found.fifths] == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert [(bar.n, bar.n_groups) for bar in found.fifths] == [(20, 10)] * 5
    rows = {row[0].text: row[1] for row in decision_table([decision], {}).rows}
    assert "threshold: at most 79.200 nat" in rows["accuracy of the 80% most confident"].detail
    # Entropies 40 to 49 are the counting questions among the lower half: 10 of 60, all right.
    assert rows["answered of each task, at 50%"].text == (
        "counting 17% (100% right), existence 100% (100% right)"
    )
    assert rows["answered of each task, at 80%"].text == (
        "counting 67% (50% right), existence 100% (100% right)"
    )
    assert rows["accuracy by confidence"].detail == "0% · 0% · 100% · 100% · 100%"


def test_a_task_of_which_no_question_passes_is_named():
    """Token confidence that knows the task: no counting question is among the upper half."""
    log_p = -np.arange(100.0) / 100
    task = np.where(log_p > -0.6, "existence", "counting")
    columns = {"score": log_p, "correct": log_p > -0.8, "group": [f"{p}" for p in log_p]}
    values = {"token_confidence": pl.DataFrame({**columns, "task": task})}
    decision = decide(model({"token_confidence": BEST}, shares=SHARES), values)
    line = decision_lines("s", [decision])[2]
    assert "among the 50%: 90.0% (threshold: at least −0.495 nat, probability 0.61; " in line
    assert "no counting question is among them)" in line
    assert "no existence" not in line
    rows = {row[0].text: row[1].text for row in decision_table([decision], {}).rows}
    assert rows["answered of each task, at 50%"] == "counting none, existence 83% (100% right)"


def test_fifths_part_equal_scores_at_random():
    """Of 500 equal scores the right answers come first: their order is not one of confidence."""
    n = 500
    values = pl.DataFrame(
        {
            "score": np.ones(n),
            "correct": np.arange(n) < 300,
            "group": [str(item) for item in range(n)],
            "task": ["existence"] * n,
        }
    )
    found = decide(model({"self_consistency": BEST}), {"self_consistency": values}).recommended
    assert found is not None
    assert [bar.value for bar in found.fifths] == pytest.approx([0.6] * 5, abs=0.13)


def test_what_tells_less_is_named():
    weak = number(0.6, 0.57, 0.63)
    aurocs = {"token_confidence": BEST, "spatial_entropy": CHANCE, "self_consistency": weak}
    decision = decide(model(aurocs, shares=SHARES), {})
    assert decision.weaker == (
        "attention maps, no better than chance (0.51)",
        "self-consistency, weak (0.60)",
    )
    lines = decision_lines("s", [decision])
    assert lines[1].startswith("m: 72.0% right. Signal to use: token confidence P_tok (AUROC 0.84)")
    assert lines[1].endswith("it costs nothing: it is read with the answer.")
    assert "Right among the 80% most confident: 81.0%; among the 50%: 90.0%." in lines[2]
    assert "Less useful: attention maps" in lines[2]


def test_the_cost_stands_beside_the_time_of_the_run():
    decision = decide(model({"self_consistency": BEST}), {})
    times = {("m", "extract"): 4.0, ("m", "consistency"): 9.5}
    [cost] = [row[1] for row in decision_table([decision], times).rows if row[0].text == "its cost"]
    assert cost.detail == "1 + 12.5 prefills and steps; 9.5 ms an item; the answer takes 4.0 ms"
    [cost] = [row[1] for row in decision_table([decision], {}).rows if row[0].text == "its cost"]
    assert cost.detail == "1 + 12.5 prefills and steps"


def test_answers_that_could_not_be_scored_are_said_so():
    decision = decide(ModelEvidence(name="m"), {})
    assert decision_lines("s", [decision])[1] == (
        "m: no answer could be scored, so no signal is judged."
    )


@pytest.mark.parametrize(
    ("of_attention", "within", "beyond", "words"),
    [
        (number(0.6, 0.57, 0.63), CHANCE, None, "fails the guard within one answer (0.60)"),
        (number(0.6, 0.57, 0.63), OPEN, None, "undecided by the guard within one answer (0.60)"),
        (
            number(0.6, 0.57, 0.63), number(0.6, 0.57, 0.63), number(0.0, -0.02, 0.02),
            "no better than question only and answer only (0.60)",
        ),
        (OPEN._replace(resolvable=0.08), OPEN, None, "undecided (0.53; detectable from 0.58)"),
    ],
)  # fmt: skip
def test_why_attention_tells_less_is_said(of_attention, within, beyond, words):
    found = decide(
        model({"spatial_entropy": of_attention}, within={"spatial_entropy": within}, beyond=beyond),
        {},
    )
    assert found.weaker == (f"attention maps, {words}",)
