"""The four sentences, whichever way the numbers fall."""

import math
from dataclasses import replace

import numpy as np
import pytest
from planted_study import CONDITIONS

from vrp.config.margins import EquivalenceMargins
from vrp.config.study import study_from_mapping
from vrp.estimates.estimate_rows import permutation_rows
from vrp.estimates.reported import Effect, ReportedEstimate
from vrp.estimates.verdicts import Outcome, Verdict
from vrp.findings.evidence import ModelEvidence, TracedLayers
from vrp.findings.guards import guards
from vrp.interventions.conditions import conditions_by_name
from vrp.probing.baselines import n_permutations
from vrp.probing.folds import ProbeItems
from vrp.report.conclusions import (
    conclude_attention,
    conclude_generation,
    conclude_hidden_states,
    conclude_interventions,
    four_conclusions,
)
from vrp.stats.auroc import CONSTANT


def estimate(value, low, high, *, p=1.0, equivalence=1.0, **more):
    """An estimate whose tests came out like this; the corrected equivalence p as the other."""
    tests = {"p_equivalence": equivalence, "p_equivalence_adjusted": equivalence}
    given = {"p_adjusted": p, **tests}
    return ReportedEstimate(value, low, high, **{**given, "se": (high - low) / 4, **more})


# Estimates of each kind, around a null of 0.5 or 0: what is told apart is p, and the size.
ABOVE = estimate(0.70, 0.66, 0.74, p=0.001, n=900, n_groups=300)
BELOW = estimate(0.30, 0.26, 0.34, p=0.001)
CHANCE = estimate(0.51, 0.49, 0.53, equivalence=0.001)
TINY = estimate(0.52, 0.505, 0.535, p=0.01, equivalence=0.001)
SMALL = estimate(0.54, 0.51, 0.57, p=0.01, equivalence=0.2)
OPEN = estimate(0.56, 0.45, 0.67, p=0.6, equivalence=0.6, resolvable=0.17)
UNDEFINED = ReportedEstimate(math.nan, note="one class only")
FEW = ReportedEstimate(math.nan, note="left out of the average: a (too few wrong answers: 3)")
LEVEL = ReportedEstimate(0.5, p_equivalence=0.001, p_equivalence_adjusted=0.001, note=CONSTANT)
LEVEL_ON_FEW = LEVEL._replace(p_equivalence=0.2, p_equivalence_adjusted=0.2)
PERFECT = estimate(1.0, 0.96, 1.0, p=1e-9, equivalence=math.nan, se=math.nan)


# A predictor's AUROC minus that of a baseline, where it tells more, as much and less.
BEYOND = estimate(0.15, 0.11, 0.19, p=0.001)
AS_MUCH = estimate(-0.01, -0.04, 0.02)


def evidence(name="m", *, metrics=None, probes=None, effects=None, beyond=BEYOND, **more):
    """A model with AUROC (within strata) by predictor, and effects of `all` items by condition.

    There is one stratum, and each predictor tells more than question and answer, by `beyond`.
    """
    found = [{_key(key): one for key, one in (part or {}).items()} for part in (metrics, probes)]
    for part in found:
        for key, number in list(part.items()):
            if key[1:] == ("auroc", "within_strata", -1):
                part.setdefault((key[0], "auroc", "existence", -1), number)
    baselines = {
        (key[0], baseline): beyond
        for part in found
        for key in part
        for baseline in ("question_only", "answer_only")
    }
    return ModelEvidence(
        name=name,
        metrics=found[0],
        probes=found[1],
        beyond_baselines=baselines,
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
        return key, "auroc", "within_strata", -1
    return key if len(key) == 4 else (*key, -1)


def told(number, within=ABOVE, name="spatial_entropy"):
    """A signal and its AUROC within each emitted answer."""
    return {name: number, (name, "auroc", "within_answers"): within}


ATTENTION_CASES = [
    ({**told(ABOVE), "image_mass": CHANCE}, Verdict.YES, "Yes"),
    ({**told(PERFECT), "image_mass": CHANCE}, Verdict.YES, "Yes"),
    # What fails its guard says something else; what might fail it is undecided.
    ({**told(ABOVE, CHANCE), "image_mass": CHANCE}, Verdict.NO, "No"),
    # … but another that is unsettled may tell all the same.
    ({**told(ABOVE, CHANCE), "image_mass": OPEN}, Verdict.UNDECIDED, "Undecided for m"),
    # Within one answer a size that nobody would notice is none, or may be more.
    ({**told(ABOVE, estimate(0.53, 0.51, 0.54)), "image_mass": CHANCE}, Verdict.NO, "No"),
    (
        {**told(ABOVE, estimate(0.54, 0.51, 0.57)), "image_mass": CHANCE},
        Verdict.UNDECIDED,
        "Undecided for m",
    ),
    ({**told(ABOVE, OPEN), "image_mass": CHANCE}, Verdict.UNDECIDED, "Undecided for m"),
    ({"spatial_entropy": ABOVE}, Verdict.UNDECIDED, "Undecided for m"),
    # One that survives decides, whatever the others do.
    ({**told(ABOVE, CHANCE), **told(ABOVE, name="image_mass")}, Verdict.YES, "Yes"),
    ({"spatial_entropy": CHANCE, "image_mass": CHANCE}, Verdict.NO, "No"),
    ({"spatial_entropy": TINY, "image_mass": CHANCE}, Verdict.NO, "No"),
    # A difference that no user would notice is no yes.
    ({**told(SMALL), "image_mass": CHANCE}, Verdict.UNDECIDED, "Undecided for m"),
    ({"spatial_entropy": OPEN, "image_mass": CHANCE}, Verdict.UNDECIDED, "Undecided for m"),
    # A constant signal among others makes nothing undecided.
    ({"spatial_entropy": CHANCE, "image_mass": LEVEL}, Verdict.NO, "No"),
    ({"image_mass": LEVEL}, Verdict.NO, "No"),
    # … but on ten wrong answers it does not show that it is one.
    (
        {"spatial_entropy": CHANCE, "image_mass": LEVEL_ON_FEW},
        Verdict.UNDECIDED,
        "Undecided for m",
    ),
    ({"spatial_entropy": FEW}, Verdict.TOO_FEW, "Too few wrong or right answers"),
    ({"spatial_entropy": UNDEFINED}, Verdict.NOT_RUN, "Not run"),
    ({}, Verdict.NOT_RUN, "Not run"),
]


@pytest.mark.parametrize(("metrics", "verdict", "lead"), ATTENTION_CASES)
def test_attention_verdicts(metrics, verdict, lead):
    answer = conclude_attention([evidence(metrics=metrics)])
    assert answer.verdicts == {"m": verdict}
    assert answer.lead == lead.removesuffix(" for m")
    assert answer.sentence.startswith(f"{answer.lead}: ")
    assert answer.sentence.endswith(".")


@pytest.mark.parametrize(
    ("beyond", "verdict"),
    [
        (BEYOND, Verdict.YES),
        # It tells no more than they do, and perhaps something else.
        (AS_MUCH, Verdict.UNDECIDED),
        (estimate(0.04, -0.03, 0.11), Verdict.UNDECIDED),
    ],
)
def test_a_signal_must_tell_more_than_question_and_answer(beyond, verdict):
    metrics = {**told(ABOVE), "image_mass": CHANCE}
    assert conclude_attention([evidence(metrics=metrics, beyond=beyond)]).verdicts["m"] == verdict


def test_a_signal_whose_baselines_were_not_fitted_is_not_settled():
    model = replace(evidence(metrics=told(ABOVE)), beyond_baselines={})
    answer = conclude_attention([model])
    assert answer.verdicts["m"] == Verdict.UNDECIDED
    assert "not tested: question only and answer only" in answer.body


def test_a_stratum_that_points_the_other_way_is_named():
    metrics = {
        **told(ABOVE),
        ("spatial_entropy", "auroc", "counting"): BELOW,
        ("spatial_entropy", "auroc", "spatial: yes/no"): ABOVE,
        ("spatial_entropy", "auroc", "spatial"): BELOW,  # mixed: no stratum
        "image_mass": CHANCE,
    }
    model = replace(evidence(metrics=metrics), tasks=("existence", "counting", "spatial"))
    answer = conclude_attention([model])
    assert answer.verdicts["m"] == Verdict.NO
    assert "failed: all strata" in answer.body
    guard = next(g for g in answer.guards["m"] if g.name == "all strata")
    assert guard.number == BELOW
    assert guard.where == "counting"
    # Below 0.5 by its interval, and not beside all other signals: it may point the other way.
    metrics["spatial_entropy", "auroc", "counting"] = BELOW._replace(p_adjusted=0.2)
    model = replace(evidence(metrics=metrics), tasks=("existence", "counting", "spatial"))
    assert conclude_attention([model]).verdicts["m"] == Verdict.UNDECIDED
    # One whose interval holds 0.5 is not against it.
    metrics["spatial_entropy", "auroc", "counting"] = estimate(0.4, 0.25, 0.55)
    model = replace(evidence(metrics=metrics), tasks=("existence", "counting", "spatial"))
    assert conclude_attention([model]).verdicts["m"] == Verdict.YES


def test_attention_names_the_strongest_with_size_interval_and_guard():
    answer = conclude_attention([evidence(metrics={**told(ABOVE), "image_mass": CHANCE})])
    assert (
        "does tell right from wrong in m (spatial entropy H_s, moderate, AUROC 0.70 [0.66, 0.74]; "
        "guards passed: within one answer, all strata, question only and answer only)"
    ) in answer.body
    none = conclude_attention([evidence(metrics={"spatial_entropy": CHANCE, "image_mass": CHANCE})])
    assert "strongest of 2: spatial entropy H_s, negligible" in none.body


def test_a_failing_guard_is_named():
    answer = conclude_attention([evidence(metrics=told(ABOVE, CHANCE))])
    assert "failed: within one answer" in answer.body


def test_an_unsettled_guard_says_what_it_could_have_found():
    metrics = {**told(ABOVE._replace(resolvable=0.06), OPEN), "image_mass": CHANCE}
    unsure = estimate(0.04, -0.03, 0.11, resolvable=0.1)
    body = conclude_attention([evidence(metrics=metrics, beyond=unsure)]).body
    assert (
        "undecided: within one answer (smallest detectable AUROC 0.67), question only (smallest "
        "detectable +0.10) and answer only (smallest detectable +0.10))"
    ) in body
    assert "AUROC 0.56 or more" not in body  # it found 0.70


def test_a_signal_that_tells_the_wrong_way_round_is_a_yes_that_says_so():
    answer = conclude_attention([evidence(metrics=told(BELOW, BELOW))])
    assert answer.verdicts["m"] is Verdict.YES
    assert "against the expected direction" in answer.body
    turned = conclude_attention([evidence(metrics=told(BELOW, ABOVE))])
    assert turned.verdicts["m"] is Verdict.NO


def by_form(name, over_all, *of_forms):
    """AUROC over a task, and within its two forms."""
    scopes = ("spatial", "spatial: other", "spatial: yes/no")
    numbers = (over_all, *of_forms)
    return {(name, "auroc", scope): one for scope, one in zip(scopes, numbers, strict=True)}


def of_forms(metrics):
    return replace(evidence(metrics=metrics), tasks=("existence", "spatial"))


WIDE_CHANCE = estimate(0.54, 0.38, 0.70)


def test_what_knows_the_form_of_the_question_is_named():
    """0.82 over a task that mixes forms, nothing within one form."""
    known = by_form("image_mass", estimate(0.82, 0.76, 0.87, p=0.001), WIDE_CHANCE, CHANCE)
    answer = conclude_attention([of_forms({"image_mass": CHANCE, **known})])
    assert answer.verdicts == {"m": Verdict.NO}
    assert (
        "the form of the question, rather than correctness, explains the AUROC of image mass in m "
        "(0.82 [0.76, 0.87] over all questions of spatial, 0.54 [0.38, 0.70] among other and 0.51 "
        "[0.49, 0.53] among yes/no)"
    ) in answer.body
    low = by_form("spatial_entropy", estimate(0.1, 0.06, 0.14, p=0.001), CHANCE, CHANCE)
    metrics = {"image_mass": CHANCE, "spatial_entropy": CHANCE, **known, **low}
    answer = conclude_attention([of_forms(metrics)])
    assert "AUROC of spatial entropy H_s and one more in m (0.10 [0.06" in answer.body


@pytest.mark.parametrize(
    "metrics",
    [
        # The mean over tasks weighs a small task of one form as much as the others.
        {("image_mass", "auroc", "macro"): estimate(0.62, 0.58, 0.66, p=0.001)},
        # Within one form it may tell as much as over the task.
        by_form("image_mass", estimate(0.62, 0.56, 0.67, p=0.001), WIDE_CHANCE, CHANCE),
        # Within one form it tells, too.
        by_form("image_mass", estimate(0.95, 0.93, 0.97, p=0.001), ABOVE, CHANCE),
        # It is not known what it tells within the forms.
        by_form("image_mass", ABOVE, FEW, FEW),
    ],
)
def test_the_form_explains_only_what_is_not_there_within_the_forms(metrics):
    body = conclude_attention([of_forms({"image_mass": CHANCE, **metrics})]).body
    assert "form of the question" not in body


def test_only_the_signals_that_have_an_estimate_are_counted():
    body = conclude_attention([evidence(metrics={"spatial_entropy": CHANCE, "image_mass": FEW})])
    assert "strongest of" not in body.body
    metrics = {"spatial_entropy": CHANCE, "image_mass": CHANCE, "attention_max": FEW}
    assert "strongest of 2" in conclude_attention([evidence(metrics=metrics)]).body


def test_a_model_trained_on_attention_counts_as_attention():
    trained = evidence(
        metrics={"spatial_entropy": CHANCE}, probes=told(ABOVE, name="attention_trees")
    )
    answer = conclude_attention([trained])
    assert answer.verdicts["m"] is Verdict.YES
    assert "tree ensemble" in answer.body


def test_what_is_undecided_says_what_could_have_been_resolved():
    answer = conclude_attention([evidence(metrics={"spatial_entropy": OPEN})])
    assert "No" not in answer.lead
    assert "smallest detectable AUROC 0.67" in answer.body


@pytest.mark.parametrize(
    ("entropy", "words"),
    [
        (estimate(0.0, -0.03, 0.03, equivalence=0.001), "equivalent to zero"),
        (
            estimate(0.3, 0.2, 0.4, p=0.001),
            "H_s or C_k correlates with correctness in m (R(H_s) 0.30 [0.20, 0.40]",
        ),
        (estimate(0.05, -0.1, 0.2, p=0.6, equivalence=0.4), "neither shown nor excluded"),
    ],
)
def test_the_papers_correlations_are_judged_within_strata(entropy, words):
    clusters = estimate(0.01, -0.02, 0.04, equivalence=0.001)
    metrics = {
        "spatial_entropy": CHANCE,
        ("spatial_entropy", "r", "within_strata"): entropy,
        ("cluster_count_dbscan", "r", "within_strata"): clusters,
    }
    assert words in conclude_attention([evidence(metrics=metrics)]).body


@pytest.mark.parametrize(
    ("metrics", "verdict"),
    [
        ({**told(ABOVE, name="self_consistency"), "token_confidence": OPEN}, Verdict.YES),
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
    assert "if all 10 sampled answers agree" in body
    assert "90.8% [88.4, 92.8] against 67.6% [66.0, 69.0] overall in m" in body
    assert "self-consistency S_SC, weak, AUROC 0.56" in body


def permuted(areas, observed=0.7):
    """What the estimates table says of probes fitted to permuted labels."""
    return {
        (row["predictor"], row["metric"], row["scope"], -1): ReportedEstimate.from_row(
            {**row, "p_adjusted": math.nan, "p_equivalence_adjusted": math.nan,
             "resolvable": math.nan}
        )
        for row in permutation_rows("permuted_linear_best", areas, observed, n=900, n_groups=300)
    }  # fmt: skip


HOLDING = {
    **told(ABOVE, name="linear_best"),
    **permuted([0.49, 0.51, 0.50, 0.52] * 5),
}
GAP = ReportedEstimate(0.10, 0.06, 0.14, p_adjusted=0.002)
CONTRASTS = dict.fromkeys(
    ("blind_linear_best", "question_only", "answer_only", "task_only", "token_confidence"), GAP
)


GAIN = estimate(0.10, 0.06, 0.14, p=0.002)


def probed(name="m", *, probes=HOLDING, contrasts=CONTRASTS, gain=GAIN, **more):
    return evidence(
        name, metrics={"token_confidence": CHANCE}, probes=probes, contrasts=contrasts,
        beyond_output=gain, best_layers=(3, 4, 4), **more,
    )  # fmt: skip


def test_hidden_states_beyond_the_output_and_guarded():
    answer = conclude_hidden_states([probed()])
    assert answer.lead == "Yes, and better than the output signals alone"
    assert "0.70 [0.66, 0.74]; guards passed: within one answer, all strata, blank" in answer.body
    assert "; layers 3 and 4)" in answer.body
    assert "it improves on the output signals in m (AUROC +0.10 [0.06, 0.14])" in answer.body


@pytest.mark.parametrize(
    ("gain", "remark", "words"),
    [
        (
            estimate(0.0, -0.03, 0.03, equivalence=0.01),
            "at most negligibly",
            "improves on the output signals at most negligibly in m (AUROC 0.00 [−0.03, 0.03], "
            "within ±0.05)",
        ),
        (
            estimate(-0.1, -0.15, -0.06, p=0.002),
            "at most negligibly",
            "adding it makes the output signals worse in m",
        ),
        (
            estimate(0.02, -0.1, 0.14, p=0.7, resolvable=0.17),
            "not shown to be",
            "undecided in m (AUROC +0.02 [−0.10, 0.14]; smallest detectable gain 0.17)",
        ),
    ],
)
def test_hidden_states_not_shown_to_be_beyond_the_output(gain, remark, words):
    answer = conclude_hidden_states([probed(gain=gain)])
    assert answer.lead == f"Yes, but {remark} better than the output signals alone"
    assert words in answer.body


def test_hidden_states_without_a_comparison():
    answer = conclude_hidden_states([probed(gain=None)])
    assert answer.lead == "Yes"
    assert "not compared with the output signals in m" in answer.body


def test_a_probe_that_only_knows_the_answer_fails_its_guard():
    within = estimate(0.5, 0.46, 0.54)
    model = probed(probes={**HOLDING, **told(ABOVE, within, name="linear_best")})
    assert {g.name: g.outcome for g in guards(model)}["within one answer"] == Outcome.FAILS
    answer = conclude_hidden_states([model])
    assert answer.verdicts == {"m": Verdict.NO}
    assert "failed: within one answer" in answer.body


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


PERMUTED_CASES = {
    "at chance": ([0.49, 0.51, 0.50, 0.52] * 5, 0.7, Outcome.HOLDS),
    "a leak": ([0.52, 0.54, 0.53, 0.55] * 5, 0.7, Outcome.FAILS),
    "a probe of nothing": ([0.49, 0.51, 0.50, 0.52] * 5, 0.51, Outcome.UNSETTLED),
    "too few for a rank": ([0.49, 0.51, 0.50, 0.52], 0.7, Outcome.UNSETTLED),
    "one only": ([0.5], 0.7, Outcome.NOT_RUN),
    "wide": ([0.3, 0.7] * 10, 0.9, Outcome.UNSETTLED),
}


@pytest.mark.parametrize("case", PERMUTED_CASES)
def test_the_permutation_guard_judges_mean_and_rank(case):
    areas, observed, outcome = PERMUTED_CASES[case]
    probes = {**told(ABOVE, name="linear_best"), **permuted(areas, observed)}
    found = {guard.name: guard.outcome for guard in guards(probed(probes=probes))}
    assert found["permuted labels"] == outcome


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "share_wrong", "least"), [(3090, 0.2, 19), (1000, 0.2, 50), (500, 0.3, 80)]
)
def test_the_permutation_guard_lets_leak_free_studies_pass_and_finds_a_leak(n, share_wrong, least):
    """Few items take more permutations, whose AUROCs scatter more, half again as Mann–Whitney's."""
    random = np.random.default_rng(0)
    n_wrong = round(n * share_wrong)
    numbers = np.arange(n)
    count = n_permutations(ProbeItems.of(numbers, numbers >= n_wrong, numbers, numbers))
    assert least < count <= 100
    scatter = 1.5 * math.sqrt((n + 1) / (12 * n_wrong * (n - n_wrong)))
    outcomes = {0.0: [], 0.03: []}
    for leak, found in outcomes.items():
        for _ in range(300):
            probes = {
                **told(ABOVE, name="linear_best"),
                **permuted(random.normal(0.5 + leak, scatter, size=count)),
            }
            (guard,) = [g for g in guards(probed(probes=probes)) if g.name == "permuted labels"]
            found.append(guard.outcome)
    assert outcomes[0.0].count(Outcome.HOLDS) >= 0.95 * 300
    assert outcomes[0.03].count(Outcome.FAILS) >= 0.99 * 300


def test_what_counts_as_no_effect_is_the_studys_margin():
    """With ±0.02 a guard 0.04 wide fails no more."""
    contrasts = {"blind_linear_best": ReportedEstimate(0.01, -0.02, 0.04)}
    outcomes = []
    for auroc in (0.05, 0.02):
        model = probed(contrasts=contrasts, margins=EquivalenceMargins(auroc=auroc))
        found = {guard.name: guard.outcome for guard in guards(model)}
        outcomes.append(found["blank image"])
    assert outcomes == [Outcome.FAILS, Outcome.UNSETTLED]


@pytest.mark.parametrize(
    ("number", "verdict", "lead"),
    [
        (CHANCE, Verdict.NO, "No"),
        (OPEN, Verdict.UNDECIDED, "Undecided"),
        (FEW, Verdict.TOO_FEW, "Too few wrong or right answers"),
        (UNDEFINED, Verdict.NOT_RUN, "Not run"),
    ],
)
def test_hidden_states_otherwise(number, verdict, lead):
    answer = conclude_hidden_states([probed(probes={"linear_best": number})])
    assert answer.verdicts == {"m": verdict}
    assert answer.lead == lead
    assert "within one answer" not in answer.body


COSTS = estimate(-5.0, -7.0, -3.0, p=0.001)
SPARES = estimate(0.1, -0.8, 0.9, p=0.9, equivalence=0.001)
WIDE = estimate(-1.5, -5.0, 2.0, p=0.4, equivalence=0.4, resolvable=4.2)
REVERSED = estimate(5.0, 3.0, 7.0, p=0.001)


def intervened(patches, neurons, name="m"):
    effects = {}
    if patches is not None:
        effects |= {("mask", "top_30"): COSTS, ("mask", "random_30"): SPARES,
                    ("mask", "top_30 - random_30"): patches}  # fmt: skip
    if neurons is not None:
        effects |= {("ablate", "top_5"): COSTS, ("ablate", "matched_5"): SPARES,
                    ("ablate", "top_5 - matched_5"): neurons}  # fmt: skip
    return evidence(name, effects=effects)


@pytest.mark.parametrize(
    ("patches", "neurons", "lead", "verdict"),
    [
        (COSTS, COSTS, "Yes, for both attended patches and few neurons", Verdict.YES),
        (COSTS, SPARES, "Attended patches: yes; few neurons: no", Verdict.YES),
        (SPARES, COSTS, "Attended patches: no; few neurons: yes", Verdict.YES),
        (SPARES, SPARES, "No, for both attended patches and few neurons", Verdict.NO),
        (REVERSED, WIDE, "Attended patches: no; few neurons: undecided",
         Verdict.UNDECIDED),
        (WIDE, None, "Attended patches: undecided; few neurons: not run",
         Verdict.UNDECIDED),
        (None, None, "Not run, for both attended patches and few neurons", Verdict.NOT_RUN),
    ],
)  # fmt: skip
def test_causal_verdicts(patches, neurons, lead, verdict):
    answer = conclude_interventions([intervened(patches, neurons)])
    assert answer.lead == lead
    assert answer.verdicts == {"m": verdict}
    words = answer.reasons["m"]
    of_patches, of_neurons = (part.partition(": ")[2] for part in words.split("; "))
    same = of_patches == of_neurons
    assert lead.lower().startswith(of_patches) if same else words == lead[:1].lower() + lead[1:]


def test_causal_states_top_random_and_difference():
    body = conclude_interventions([intervened(COSTS, None)]).body
    assert (
        "(30% of patches: −5.0 pp [−7.0, −3.0], random +0.1 pp, difference −5.0 pp [−7.0, −3.0])"
        in body
    )


def test_a_small_difference_within_the_margin_is_no_more_than_negligible():
    slight = estimate(-1.2, -1.9, -0.5, p=0.001, equivalence=0.01)
    body = conclude_interventions([intervened(slight, None)]).body
    assert "costs at most negligibly more than hiding as many random ones" in body
    assert "difference −1.2 pp [−1.9, −0.5], within ±2.0 pp" in body


def test_an_undecided_effect_says_what_could_have_been_resolved():
    body = conclude_interventions([intervened(WIDE, None)]).body
    assert "smallest detectable effect 4.2 pp" in body


def test_it_depends_on_the_model_needs_an_interaction():
    """Yes and undecided: only where the estimates differ does it depend on the model."""
    close = estimate(0.66, 0.45, 0.87, p=0.1, equivalence=0.9)
    models = [
        evidence("one", metrics=told(ABOVE)),
        evidence("two", metrics={"spatial_entropy": close}),
    ]
    assert conclude_attention(models).lead == "Yes for one; undecided for two"


def test_it_depends_on_the_model_only_where_one_signal_differs():
    """Different signals decide for two models, and each tells as much in both."""
    strong = estimate(0.80, 0.78, 0.82, p=0.001)
    models = [
        evidence("one", metrics={**told(strong, strong), "image_mass": SMALL}),
        evidence("two", metrics={"spatial_entropy": strong, "image_mass": SMALL}),
    ]
    assert conclude_attention(models).lead == "Yes for one; undecided for two"


def test_it_depends_on_the_model_only_where_one_is_a_yes():
    """One signal tells more for a than for b; for a it tells no more than the answer alone."""
    one = evidence("a", metrics={**told(ABOVE), "image_mass": CHANCE}, beyond=AS_MUCH)
    other = evidence("b", metrics={"spatial_entropy": CHANCE, "image_mass": CHANCE})
    assert conclude_attention([one, other]).lead == "No for b; undecided for a"


def test_models_that_disagree_are_named_apart():
    models = [
        evidence("one", metrics=told(ABOVE)),
        evidence("two", metrics={"spatial_entropy": CHANCE}),
        evidence("three", metrics={"spatial_entropy": OPEN}),
    ]
    answer = conclude_attention(models)
    assert answer.lead == "It depends on the model"
    assert [str(v) for v in answer.verdicts.values()] == ["yes", "no", "undecided"]
    for words in ("right from wrong in one (", "in two (", "undecided in three ("):
        assert words in answer.body


def test_models_that_agree_are_counted():
    models = [evidence(name, metrics={"spatial_entropy": CHANCE}) for name in ("a", "b", "c")]
    assert "in all three models: a (" in conclude_attention(models).body
    assert "in both models: a (" in conclude_attention(models[:2]).body


def test_a_model_without_numbers_leaves_the_others_their_answer():
    models = [evidence("one", metrics=told(ABOVE, name="self_consistency")), evidence("two")]
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


def traced(*shares, width=0.02):
    return [
        TracedLayers(layer, layer, ReportedEstimate(share, share - width, share + width), 1.0)
        for layer, share in enumerate(shares)
    ]


def test_the_layers_of_the_picture_are_named():
    last = TracedLayers(3, 3, ReportedEstimate(1.0), 1.0)  # restores all, without an interval
    model = evidence(
        traces={
            "knockout_image": traced(1.0, 0.995, 1.0, 1.0),
            "knockout_text": traced(1.0, 0.9, 0.1, 0.95),
            "patch": [*traced(0.0, 0.1, 0.9), last],
        }
    )
    body = conclude_interventions([model]).body
    assert (
        "the image adds to the margin of the answer's first token, compared with a blank image; "
        "shares of this contribution: in m, 10.0% [8.0, 12.0] is left without the last token's "
        "attention to the question in layer 2, the last token's attention to the image is not "
        "shown to be needed in any single window of layers and the last token's state after layer "
        "2 restores 90.0% [88.0, 92.0]"
    ) in body


def test_a_needed_window_is_named_though_another_may_leave_less():
    wide = TracedLayers(0, 0, ReportedEstimate(0.5, -0.1, 1.1), 1.0)
    sure = TracedLayers(1, 1, ReportedEstimate(0.8, 0.75, 0.85), 1.0)
    body = conclude_interventions([evidence(traces={"knockout_text": [wide, sure]})]).body
    said = (
        "80.0% [75.0, 85.0] is left without the last token's attention to the question in layer 1"
    )
    assert said in body


def test_the_window_of_thirty_that_looks_needed_by_chance_is_not_named():
    """One of many windows leaves less than all by its own interval and not after correction."""
    windows = [*traced(*[1.0] * 30), *traced(0.979)]
    body = conclude_interventions([evidence(traces={"knockout_image": windows})]).body
    assert "attention to the image is not shown to be needed in any single window of layers" in body
    assert (
        "is left"
        in conclude_interventions([evidence(traces={"knockout_image": windows[-1:]})]).body
    )


def test_a_state_is_not_said_to_restore_the_image_on_too_few_images():
    few = [
        TracedLayers(layer, layer, ReportedEstimate(0.93, note="too few images: 4"), 1.0)
        for layer in range(4)
    ]
    assert "restores" not in conclude_interventions([evidence(traces={"patch": few})]).body


def test_what_only_the_last_layer_restores_is_not_said():
    model = evidence(traces={"patch": traced(0.0, 0.1, 0.5, 1.0)})
    assert "restores" not in conclude_interventions([model]).body
    assert "image adds" not in conclude_interventions([evidence()]).body


WITH_STEERING = conditions_by_name(
    study_from_mapping(
        {
            "study": "s",
            "models": {"m": {"family": "llava", "checkpoint": "x"}},
            "mask": {"conditions": [{"kind": "object"}, {"kind": "random_object"}]},
            "ablate": {
                "conditions": [
                    {"kind": "steer", "doses": [-3, 3]},
                    {"kind": "steer_random", "doses": [-3, 3], "seeds": 5},
                ]
            },
        }
    )
)


def steered(back, forth, hidden=COSTS):
    """Effects of steering by −3 and by +3: its own, and beyond random directions."""
    effects = {("mask", "object"): COSTS, ("mask", "object - random_object"): hidden}
    for dose, (own, gap) in (("-3", back), ("3", forth)):
        effects |= {
            ("ablate", f"steer_{dose}"): own,
            ("ablate", f"steer_{dose} - steer_random_{dose}"): gap,
        }
    return replace(evidence(effects=effects), conditions=WITH_STEERING)


@pytest.mark.parametrize(
    ("back", "forth", "words"),
    [
        ((COSTS, COSTS), (SPARES, SPARES),
         "more than moving it along a random direction, in m (by −3 SD: −5.0 pp [−7.0, "
         "−3.0], −5.0 pp [−7.0, −3.0] beyond random, by +3 SD: +0.1 pp [−0.8, 0.9], "),
        ((SPARES, SPARES), (SPARES, WIDE), "the model does not use the probe’s direction"),
        # It does nothing, and random directions harm: the difference is theirs.
        ((SPARES, REVERSED), (SPARES, REVERSED), "the model does not use the probe’s direction"),
        # It harms as random directions do: nothing is known of the direction.
        ((COSTS, SPARES), (COSTS, SPARES), "whether the model uses the probe’s direction is"),
        ((WIDE, WIDE), (SPARES, SPARES), "whether the model uses the probe’s direction is"),
    ],
)  # fmt: skip
def test_steering_says_whether_the_direction_is_used(back, forth, words):
    body = conclude_interventions([steered(back, forth)]).body
    assert words in body
    assert (
        "hiding the object that the question asks for costs more than hiding as many random patches"
        in body
    )
    assert "steer" not in conclude_interventions([evidence()]).body


def test_an_object_that_may_be_hidden_says_so():
    body = conclude_interventions([steered((WIDE, WIDE), (WIDE, WIDE), hidden=SPARES)]).body
    assert (
        "hiding the object that the question asks for costs as much as hiding as many random"
        in body
    )


def test_unsettled_effects_say_what_the_study_could_find():
    """Of the object and of steering, as of the main conditions: the largest of those unsettled."""
    wider = estimate(-1.5, -8.0, 5.0, p=0.4, equivalence=0.4, resolvable=8.4)
    body = conclude_interventions([steered((WIDE, SPARES), (wider, COSTS), hidden=WIDE)]).body
    assert "(difference −1.5 pp [−5.0, 2.0]; smallest detectable effect 4.2 pp" in body
    assert "−3.0] beyond random; smallest detectable effect 8.4 pp" in body
    settled = conclude_interventions([steered((COSTS, COSTS), (COSTS, COSTS))]).body
    assert "beyond random; smallest detectable effect" not in settled


def test_it_depends_on_the_model_where_the_paired_difference_shows_it():
    """The same items were masked for both models: their difference is tested item by item."""
    slight = estimate(-0.5, -2.6, 1.6, p=0.9, equivalence=0.4)
    models = [intervened(COSTS, None, "one"), intervened(slight, None, "two")]
    for difference, lead in (
        (COSTS, "Attended patches: it depends on the model"),
        (WIDE, "Attended patches: yes for one"),
    ):
        between = {
            ("one - two", "mask", "top_30 - random_30"):
            Effect(difference, 0.7, 0.6, 0.1, math.nan, ())
        }  # fmt: skip
        assert conclude_interventions(models, between).lead.startswith(lead)


def test_the_brief_answer_is_one_short_sentence_with_the_strongest_number():
    models = [
        evidence("one", metrics=told(ABOVE)),
        evidence("two", metrics={"spatial_entropy": CHANCE}),
        evidence("three", metrics={"spatial_entropy": OPEN}),
    ]
    brief = conclude_attention(models).brief
    assert brief == (
        "It depends on the model. Strongest: spatial entropy H_s in one, AUROC 0.70 (moderate)."
    )
    assert conclude_interventions([intervened(COSTS, None)]).brief == (
        "Attended patches: yes; few neurons: not run. Largest: hiding the most attended image "
        "tokens in m, −5.0 pp beyond random."
    )
    for answer in four_conclusions([*models, evidence()]):
        assert len(answer.brief.split()) <= 30
        assert sum(character.isdigit() for character in answer.brief) <= 8


def test_the_brief_answer_names_a_model_whose_least_attended_tokens_matter():
    effects = {
        ("mask", "bottom_30"): COSTS,
        ("mask", "bottom_30 - random_30"): COSTS,
        ("mask", "random_30"): SPARES,
        ("mask", "top_30"): COSTS,
        ("mask", "top_30 - random_30"): WIDE,
    }
    brief = conclude_interventions([evidence("m", effects=effects)]).brief
    assert brief.endswith(" In m the least attended ones matter: −5.0 pp beyond random.")


def test_guards_stand_beside_the_estimate_that_decides():
    answer = conclude_attention([evidence("one", metrics=told(ABOVE)), evidence("two")])
    assert [(g.name, g.outcome) for g in answer.guards["one"]] == [
        (name, Outcome.HOLDS)
        for name in ("within one answer", "all strata", "question only", "answer only")
    ]
    assert answer.reasons["one"] == "spatial entropy H_s, AUROC 0.70"
    assert "two" not in answer.guards


def test_what_does_not_differ_from_chance_has_a_reason_and_no_guards():
    models = [evidence("no", metrics={"spatial_entropy": CHANCE}),
              evidence("open", metrics={"spatial_entropy": OPEN})]  # fmt: skip
    answer = conclude_attention(models)
    assert not answer.guards
    assert answer.reasons["no"].startswith(
        "no better than chance; the strongest is spatial entropy H_s"
    )
    assert answer.reasons["open"].startswith(
        "too little data; the strongest is spatial entropy H_s"
    )
