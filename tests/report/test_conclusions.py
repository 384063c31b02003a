"""The four sentences, whichever way the numbers fall."""

import math

import pytest
from planted_study import CONDITIONS

from vrp.config.margins import EquivalenceMargins
from vrp.report.conclusions import (
    conclude_attention,
    conclude_generation,
    conclude_hidden_states,
    conclude_interventions,
    four_conclusions,
)
from vrp.report.evidence import ModelEvidence
from vrp.report.guards import Outcome, guards
from vrp.report.numbers import Effect, ReportedEstimate
from vrp.report.sentences import Verdict

# Estimates of each kind, around a null of 0.5 or 0: what is told apart is p, not the value.
ABOVE = ReportedEstimate(
    0.70, 0.66, 0.74, p_adjusted=0.001, p_equivalence=0.999, n=900, n_groups=300
)
BELOW = ReportedEstimate(0.30, 0.26, 0.34, p_adjusted=0.001, p_equivalence=0.999)
CHANCE = ReportedEstimate(0.51, 0.49, 0.53, p_adjusted=1.0, p_equivalence=0.001)
TINY = ReportedEstimate(0.52, 0.505, 0.535, p_adjusted=0.01, p_equivalence=0.001)
OPEN = ReportedEstimate(0.56, 0.45, 0.67, p_adjusted=0.6, p_equivalence=0.6)
UNDEFINED = ReportedEstimate(math.nan, note="one class only")


def evidence(name="m", *, metrics=None, probes=None, effects=None, **more):
    """A model with AUROC (macro) by predictor, and effects of `all` items by condition."""
    return ModelEvidence(
        name=name,
        metrics={_key(key): number for key, number in (metrics or {}).items()},
        probes={_key(key): number for key, number in (probes or {}).items()},
        effects={
            (kind, condition, "all"): Effect(number, 0.7, 0.6, 0.1, math.nan, (number.value,))
            for (kind, condition), number in (effects or {}).items()
        },
        tasks=("existence",),
        conditions=CONDITIONS,
        **more,
    )


def _key(key):
    if isinstance(key, str):
        return key, "auroc", "macro", -1
    return key if len(key) == 4 else (*key, -1)


ATTENTION_CASES = [
    ({"spatial_entropy": ABOVE, "image_mass": CHANCE}, Verdict.YES, "Yes"),
    ({"spatial_entropy": CHANCE, "image_mass": CHANCE}, Verdict.NO, "No"),
    ({"spatial_entropy": TINY, "image_mass": CHANCE}, Verdict.NO, "No"),
    ({"spatial_entropy": OPEN, "image_mass": CHANCE}, Verdict.UNDECIDED, "Undecided"),
    ({"spatial_entropy": UNDEFINED}, Verdict.NOT_RUN, "Not run"),
    ({}, Verdict.NOT_RUN, "Not run"),
]


@pytest.mark.parametrize(("metrics", "verdict", "lead"), ATTENTION_CASES)
def test_attention_verdicts(metrics, verdict, lead):
    answer = conclude_attention([evidence(metrics=metrics)])
    assert answer.verdicts == {"m": verdict}
    assert answer.lead == lead
    assert answer.sentence.startswith(f"{lead}: ")
    assert answer.sentence.endswith(".")


def test_attention_names_the_strongest_with_its_interval():
    answer = conclude_attention(
        [evidence(metrics={"spatial_entropy": ABOVE, "image_mass": CHANCE})]
    )
    assert "does tell right from wrong in m (spatial entropy H_s, AUROC 0.70 [0.66, 0.74])" in (
        answer.body
    )
    none = conclude_attention([evidence(metrics={"spatial_entropy": CHANCE, "image_mass": CHANCE})])
    assert "strongest of 2" in none.body
    assert "equivalent to chance" in none.body


def test_a_signal_that_tells_the_wrong_way_round_is_a_yes_that_says_so():
    answer = conclude_attention([evidence(metrics={"spatial_entropy": BELOW})])
    assert answer.verdicts["m"] is Verdict.YES
    assert "against the expected direction" in answer.body


def test_a_model_trained_on_attention_counts_as_attention():
    blind_signals = {"spatial_entropy": CHANCE}
    told = evidence(metrics=blind_signals, probes={"attention_trees": ABOVE})
    answer = conclude_attention([told])
    assert answer.verdicts["m"] is Verdict.YES
    assert "tree ensemble" in answer.body


def test_attention_without_significance_is_not_a_no():
    answer = conclude_attention([evidence(metrics={"spatial_entropy": OPEN})])
    assert "No" not in answer.lead
    assert "not all of them are shown to be equivalent" in answer.body


@pytest.mark.parametrize(
    ("entropy", "words"),
    [
        (ReportedEstimate(0.0, -0.03, 0.03, 1.0, 0.001), "both equivalent to uncorrelated"),
        (
            ReportedEstimate(0.3, 0.2, 0.4, 0.001, 0.99),
            "H_s or C_k correlates with correctness in m (R(H_s) 0.30 [0.20, 0.40]",
        ),
        (ReportedEstimate(0.05, -0.1, 0.2, 0.6, 0.4), "neither shown nor excluded"),
    ],
)
def test_the_papers_correlations_are_judged_within_task(entropy, words):
    clusters = ReportedEstimate(0.01, -0.02, 0.04, 1.0, 0.001)
    metrics = {
        "spatial_entropy": CHANCE,
        ("spatial_entropy", "r", "pooled_within"): entropy,
        ("cluster_count_dbscan", "r", "pooled_within"): clusters,
    }
    assert words in conclude_attention([evidence(metrics=metrics)]).body


@pytest.mark.parametrize(
    ("metrics", "verdict"),
    [
        ({"self_consistency": ABOVE, "token_confidence": OPEN}, Verdict.YES),
        ({"self_consistency": CHANCE, "token_confidence": CHANCE}, Verdict.NO),
        ({"self_consistency": CHANCE, "token_confidence": OPEN}, Verdict.UNDECIDED),
        ({}, Verdict.NOT_RUN),
    ],
)
def test_generation_verdicts(metrics, verdict):
    assert conclude_generation([evidence(metrics=metrics)]).verdicts == {"m": verdict}


def test_generation_states_precision_where_all_samples_agree():
    metrics = {
        "token_confidence": ABOVE,
        "self_consistency": OPEN,
        ("self_consistency", "precision_unanimous", "pooled"): ReportedEstimate(
            0.908, 0.884, 0.928
        ),
        ("model", "accuracy", "pooled"): ReportedEstimate(0.676, 0.66, 0.69),
    }
    body = conclude_generation([evidence(metrics=metrics, k=10)]).body
    assert "where all 10 sampled answers agree" in body
    assert "90.8% [88.4, 92.8] against 67.6% [66.0, 69.0] of all in m" in body
    assert "self-consistency S_SC AUROC 0.56" in body


HOLDING = {
    "linear_best": ABOVE,
    ("linear_best", "auroc", "answer_yes"): ABOVE,
    ("linear_best", "auroc", "answer_no"): ABOVE,
    "permuted_linear_best": CHANCE,
}
GAP = ReportedEstimate(0.10, 0.06, 0.14, p_adjusted=0.002)
CONTRASTS = dict.fromkeys(
    ("blind_linear_best", "question_only", "answer_only", "task_only", "token_confidence"), GAP
)


def probed(name="m", *, probes=HOLDING, contrasts=CONTRASTS, **more):
    return evidence(
        name, metrics={"token_confidence": CHANCE}, probes=probes, contrasts=contrasts,
        best_layers=(3, 4, 4), **more,
    )  # fmt: skip


def test_hidden_states_better_than_the_output_and_guarded():
    answer = conclude_hidden_states([probed()])
    assert answer.lead == "Yes, and better than the output, and it survives the guards"
    assert "AUROC 0.70 [0.66, 0.74], layers 3 and 4" in answer.body
    assert "+0.10 [0.06, 0.14] over token confidence P_tok" in answer.body
    assert "all guards hold in m (within answer yes, within answer no, blank image" in answer.body


def test_hidden_states_no_better_than_the_output():
    same = {**CONTRASTS, "token_confidence": ReportedEstimate(0.0, -0.03, 0.03)}
    answer = conclude_hidden_states([probed(contrasts=same)])
    assert answer.lead.startswith("Yes, but not shown to be better than the output")
    assert "reads no more than the best output signal" in answer.body
    worse = {
        **CONTRASTS,
        "token_confidence": ReportedEstimate(-0.1, -0.15, -0.06, p_adjusted=0.002),
    }
    assert "reads less than" in conclude_hidden_states([probed(contrasts=worse)]).body
    uncorrected = {
        **CONTRASTS,
        "token_confidence": ReportedEstimate(0.1, 0.01, 0.19, p_adjusted=0.2),
    }
    assert "not settled in m" in conclude_hidden_states([probed(contrasts=uncorrected)]).body
    wide = {**CONTRASTS, "token_confidence": ReportedEstimate(0.02, -0.1, 0.14)}
    assert "not settled in m" in conclude_hidden_states([probed(contrasts=wide)]).body


def test_a_probe_that_only_knows_the_answer_fails_its_guard():
    probes = {**HOLDING, ("linear_best", "auroc", "answer_yes"): ReportedEstimate(0.5, 0.46, 0.54)}
    model = probed(probes=probes)
    assert {g.name: g.outcome for g in guards(model)}["within answer yes"] == Outcome.FAILS
    answer = conclude_hidden_states([model])
    assert answer.lead.endswith("but not every guard holds")
    assert "failing: within answer yes" in answer.body


def test_guard_outcomes():
    blind = {**CONTRASTS, "blind_linear_best": ReportedEstimate(0.01, -0.02, 0.04)}
    wide = {**CONTRASTS, "blind_linear_best": ReportedEstimate(0.05, -0.05, 0.15)}
    for contrasts, outcome in (
        (CONTRASTS, Outcome.HOLDS),
        (blind, Outcome.FAILS),
        (wide, Outcome.UNSETTLED),
        ({}, Outcome.NOT_RUN),
    ):
        found = {g.name: g.outcome for g in guards(probed(contrasts=contrasts))}
        assert found["blank image"] == outcome
    leaking = probed(probes={**HOLDING, "permuted_linear_best": ReportedEstimate(0.6, 0.56, 0.64)})
    assert {g.name: g.outcome for g in guards(leaking)}["permuted labels"] == Outcome.FAILS


def test_what_counts_as_no_effect_is_the_studys_margin():
    """With ±0.02 a guard 0.04 wide fails no more, and the output is no equal of the probe."""
    contrasts = {
        "blind_linear_best": ReportedEstimate(0.01, -0.02, 0.04),
        "token_confidence": ReportedEstimate(0.0, -0.03, 0.03),
    }
    probes = {**HOLDING, "permuted_linear_best": ReportedEstimate(0.54, 0.51, 0.57)}
    outcomes, words = [], []
    for auroc in (0.05, 0.02):
        model = probed(probes=probes, contrasts=contrasts, margins=EquivalenceMargins(auroc=auroc))
        found = {guard.name: guard.outcome for guard in guards(model)}
        outcomes.append((found["blank image"], found["permuted labels"]))
        words.append(conclude_hidden_states([model]).body)
    assert outcomes == [(Outcome.FAILS, Outcome.UNSETTLED), (Outcome.UNSETTLED, Outcome.FAILS)]
    assert "reads no more than the best output signal in m" in words[0]
    assert "more than the best output signal is not settled in m" in words[1]


@pytest.mark.parametrize(
    ("number", "verdict", "lead"),
    [
        (CHANCE, Verdict.NO, "No"),
        (BELOW, Verdict.NO, "No"),
        (OPEN, Verdict.UNDECIDED, "Undecided"),
        (UNDEFINED, Verdict.NOT_RUN, "Not run"),
    ],
)
def test_hidden_states_otherwise(number, verdict, lead):
    answer = conclude_hidden_states([probed(probes={"linear_best": number})])
    assert answer.verdicts == {"m": verdict}
    assert answer.lead == lead
    assert "guard" not in answer.body


COSTS = ReportedEstimate(-5.0, -7.0, -3.0, p_adjusted=0.001, p_equivalence=0.99)
SPARES = ReportedEstimate(0.1, -0.8, 0.9, p_adjusted=0.9, p_equivalence=0.001)
WIDE = ReportedEstimate(-1.5, -5.0, 2.0, p_adjusted=0.4, p_equivalence=0.4)
REVERSED = ReportedEstimate(5.0, 3.0, 7.0, p_adjusted=0.001, p_equivalence=0.99)


def intervened(patches, neurons, name="m"):
    effects = {}
    if patches is not None:
        effects |= {("mask", "top_30"): COSTS, ("mask", "random_30"): SPARES,
                    ("mask", "top_30 - random_30"): patches}  # fmt: skip
    if neurons is not None:
        effects |= {("ablate", "top_5"): COSTS, ("ablate", "random_5"): SPARES,
                    ("ablate", "top_5 - random_5"): neurons}  # fmt: skip
    return evidence(name, effects=effects)


@pytest.mark.parametrize(
    ("patches", "neurons", "lead", "verdict"),
    [
        (COSTS, COSTS, "Yes, for attended patches and few neurons alike", Verdict.YES),
        (COSTS, SPARES, "Yes for the attended patches, no for few neurons", Verdict.YES),
        (SPARES, COSTS, "No for the attended patches, yes for few neurons", Verdict.YES),
        (SPARES, SPARES, "No, for attended patches and few neurons alike", Verdict.NO),
        (REVERSED, WIDE, "No for the attended patches, undecided for few neurons",
         Verdict.UNDECIDED),
        (WIDE, None, "Undecided for the attended patches, not run for few neurons",
         Verdict.UNDECIDED),
        (None, None, "Not run, for attended patches and few neurons alike", Verdict.NOT_RUN),
    ],
)  # fmt: skip
def test_causal_verdicts(patches, neurons, lead, verdict):
    answer = conclude_interventions([intervened(patches, neurons)])
    assert answer.lead == lead
    assert answer.verdicts == {"m": verdict}


def test_causal_states_top_random_and_difference():
    body = conclude_interventions([intervened(COSTS, None)]).body
    assert (
        "(30% of patches: −5.0 pp [−7.0, −3.0], random +0.1 pp, difference −5.0 pp [−7.0, −3.0])"
        in body
    )


def test_models_that_disagree_are_named_apart():
    models = [
        evidence("one", metrics={"spatial_entropy": ABOVE}),
        evidence("two", metrics={"spatial_entropy": CHANCE}),
        evidence("three", metrics={"spatial_entropy": OPEN}),
    ]
    answer = conclude_attention(models)
    assert answer.lead == "It depends on the model"
    assert [str(v) for v in answer.verdicts.values()] == ["yes", "no", "undecided"]
    yes, no, undecided = answer.body.split("; ")
    assert "in one (" in yes
    assert "in two (" in no
    assert "not settled in three (" in undecided


def test_models_that_agree_are_counted():
    models = [evidence(name, metrics={"spatial_entropy": CHANCE}) for name in ("a", "b", "c")]
    assert "in all three models: a (" in conclude_attention(models).body
    assert "in both models: a (" in conclude_attention(models[:2]).body


def test_a_model_without_numbers_leaves_the_others_their_answer():
    models = [evidence("one", metrics={"self_consistency": ABOVE}), evidence("two")]
    answer = conclude_generation(models)
    assert answer.lead == "Yes"
    assert "not judged in two" in answer.body


def test_four_sentences_even_of_nothing():
    for models in ([], [evidence()]):
        answers = four_conclusions(models)
        assert len(answers) == 4
        for answer in answers:
            assert answer.sentence.strip().endswith(".")
            assert answer.sentence.count(". ") == 0


def test_permuted_labels_at_chance_needs_equivalence():
    wide = ReportedEstimate(0.52, 0.40, 0.64, p_adjusted=1.0, p_equivalence=0.3)
    probes = {**HOLDING, "permuted_linear_best": wide}
    outcome = {guard.name: guard.outcome for guard in guards(probed(probes=probes))}
    assert outcome["permuted labels"] == "unsettled"
