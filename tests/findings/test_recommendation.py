"""What a predictor costs beyond the answer."""

import math
from dataclasses import replace

import pytest

from vrp.estimates.reported import ReportedEstimate
from vrp.findings.evidence import ModelEvidence
from vrp.findings.recommendation import choose, cost_of

JUDGED = ReportedEstimate(0.7, 0.66, 0.74, 0.001, 1.0, 1.0, n=400, n_groups=200)
NOT_CAPTURED = ReportedEstimate(math.nan, note="not captured")


BEYOND = ReportedEstimate(0.1, 0.06, 0.14, 0.001, 1.0, 1.0, n=400, n_groups=200)
NEARLY = ReportedEstimate(-0.02, -0.04, 0.0, 0.2, 1.0, 1.0, n=400, n_groups=200)
SCOPES = ("within_strata", "within_answers", "existence")


def model(*names, k=10, **more):
    """Signals that tell more than question and answer, in one stratum and within each answer."""
    found = dict.fromkeys(names, JUDGED) | more
    return ModelEvidence(
        name="m", k=k, tasks=("existence",),
        metrics={
            (name, "auroc", scope, -1): number
            for name, number in found.items()
            for scope in SCOPES
        },
        beyond_baselines={
            (name, baseline): BEYOND
            for name in (*found, "mlp")
            for baseline in ("question_only", "answer_only")
        },
        short_of=lambda _, others: dict.fromkeys(others, NEARLY),
    )  # fmt: skip


SIGNALS = ("token_confidence", "decision_margin", "self_consistency", "image_gain", "p_true")


@pytest.mark.parametrize(
    ("predictor", "forwards", "fitted", "words"),
    [
        ("token_confidence", 0, False, "nothing: it is read with the answer"),
        ("spatial_entropy", 0, False, "nothing: it is read with the answer"),
        ("linear_best", 0, True, "nothing at run time; it is fitted to labelled answers"),
        ("image_gain", 1, False, "one more prefill"),
        ("p_true", 1, False, "one more prefill"),
        ("self_consistency", 10, False, "10 sampled answers"),
        ("output_fusion", 10, True, "10 sampled answers"),
        ("fusion", 12, True, "10 sampled answers and 2 more prefills"),
    ],
)
def test_cost_counts_the_runs_that_a_predictor_needs(predictor, forwards, fitted, words):
    assert cost_of(model(*SIGNALS), predictor) == (forwards, fitted, words)


def test_a_fusion_costs_what_was_captured_for_it():
    found = model("token_confidence", self_consistency=NOT_CAPTURED, p_true=NOT_CAPTURED)
    assert cost_of(found, "fusion").forwards == 0
    assert cost_of(model("token_confidence", "image_gain"), "fusion").forwards == 1


def test_samples_of_unknown_number_cost_more_than_anything():
    cost = cost_of(model("self_consistency", k=0), "self_consistency")
    assert cost.forwards == math.inf
    assert cost.words == "several sampled answers"


def test_of_two_that_cost_no_run_the_one_that_needs_no_labels_is_chosen():
    better = JUDGED._replace(value=0.72)
    probes = {("mlp", "auroc", scope, -1): better for scope in SCOPES}
    found = choose(replace(model("token_confidence", "self_consistency"), probes=probes))
    assert found is not None
    assert (found.predictor, found.best) == ("token_confidence", "mlp")
    assert (found.auroc, found.best_auroc) == (JUDGED, better)


def test_nothing_is_chosen_where_nothing_was_judged():
    assert choose(model()) is None
