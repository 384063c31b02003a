"""Confidences of others: our numbers against scikit-learn's and against written-out definitions."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from vrp.data.confidence_file import ConfidenceFile
from vrp.errors import InputError
from vrp.estimates.judged_confidences import judge_confidences
from vrp.estimates.verdicts import Outcome, Verdict
from vrp.report.judged_confidences import verdict_sentence
from vrp.stats.risk_control import control_risk


def confidences(correct, scores, *, groups=None, strata=None, answers=None):
    n = len(correct)
    return ConfidenceFile(
        Path("rows.jsonl"), tuple(f"{i:05d}" for i in range(n)), np.asarray(correct, bool),
        {name: np.asarray(values, float) for name, values in scores.items()},
        tuple(groups) if groups is not None else tuple(f"{i:05d}" for i in range(n)),
        tuple(strata) if strata is not None else None,
        tuple(answers) if answers is not None else None,
        {"id": "id", "correct": "correct", "group": "image", "stratum": "task"}, 0,
    )  # fmt: skip


def judged(*args, alphas=(0.1, 0.2), **kwargs):
    return judge_confidences(confidences(*args, **kwargs), alphas=alphas, delta=0.1)


def planted(n=2000, seed=0):
    """Right in 10 to 100% of cases, as the probability says, and ties in the scores."""
    random = np.random.default_rng(seed)
    probability = np.round(0.1 + 0.9 * random.random(n), 2)
    return random.random(n) < probability, probability


def values_of(found, name, metric):
    rows = found.rows
    return {
        scope: value
        for predictor, scope, m, value in zip(
            rows["predictor"], rows["scope"], rows["metric"], rows["value"], strict=True
        )
        if (predictor, m) == (name, metric)
    }


def test_auroc_is_scikit_learns_and_counted_over_pairs():
    correct, probability = planted(600)
    found = judged(correct, {"p": probability}).scores[0]
    assert found.auroc.value == pytest.approx(roc_auc_score(correct, probability), abs=1e-12)
    right, wrong = probability[correct][:, None], probability[~correct][None]
    pairs = (right > wrong).mean() + (right == wrong).mean() / 2
    assert found.auroc.value == pytest.approx(pairs, abs=1e-12)
    assert found.judgement.verdict is Verdict.YES


def test_values_that_nearly_tie_are_not_merged():
    """Probabilities near 1 differ in their last digits, and scikit-learn sees it."""
    random = np.random.default_rng(0)
    correct = random.random(400) < 0.5
    score = 1 - 1e-7 * (1 + random.random(400) - 0.5 * correct)
    found = judged(correct, {"p": score}).scores[0]
    assert found.auroc.value == pytest.approx(roc_auc_score(correct, score), abs=1e-12)


def test_aurc_is_the_mean_risk_over_all_orders_of_ties():
    correct, probability = planted(400)
    found = judged(correct, {"p": probability}).scores[0]
    random, areas = np.random.default_rng(1), []
    for _ in range(2000):
        order = np.lexsort((random.random(400), -probability))
        wrong = np.cumsum(~correct[order])
        areas.append(np.mean(wrong / np.arange(1, 401)))
    error = np.std(areas) / np.sqrt(len(areas))
    assert found.curve.aurc == pytest.approx(np.mean(areas), abs=4 * error)


def test_aurc_without_ties_by_definition():
    random = np.random.default_rng(2)
    correct, score = random.random(500) < 0.7, random.permutation(500) / 500
    risks = [np.mean(~correct[score >= threshold]) for threshold in score]
    assert judged(correct, {"p": score}).scores[0].curve.aurc == pytest.approx(np.mean(risks))


def test_ece_is_scikit_learns():
    random = np.random.default_rng(3)
    score = random.random(1500)
    correct = random.random(1500) < score**2
    found = judged(correct, {"p": score}).scores[0].calibration
    accuracy, confidence = calibration_curve(correct, score, n_bins=10)
    shares = np.histogram(score, np.linspace(0, 1, 11))[0] / 1500
    assert found.ece == pytest.approx(np.sum(shares * np.abs(accuracy - confidence)))


def test_what_is_no_probability_has_no_ece_until_it_is_calibrated():
    correct, probability = planted()
    found = judged(correct, {"logit": np.log(probability) * 10}).scores[0]
    assert found.calibration is None
    assert found.calibrated.ece < 0.05


def test_auroc_within_strata_is_the_weighted_mean_and_a_form_alone_gains_nothing():
    random = np.random.default_rng(4)
    strata = np.repeat(["easy", "hard"], 1000)
    correct = random.random(2000) < np.where(strata == "easy", 0.9, 0.3)
    knows_the_stratum = (strata == "easy") + 1e-3 * random.random(2000)
    found = judged(correct, {"s": knows_the_stratum}, strata=strata)
    aurocs = values_of(found, "s", "auroc")
    weights = {}
    for name in ("easy", "hard"):
        here = correct[strata == name]
        n_right, n_wrong = here.sum(), (~here).sum()
        weights[name] = n_right * n_wrong / (n_right + n_wrong + 1)
        expected = roc_auc_score(here, knows_the_stratum[strata == name])
        assert aurocs[name] == pytest.approx(expected)
    mean = sum(weights[name] * aurocs[name] for name in weights) / sum(weights.values())
    assert aurocs["within_strata"] == pytest.approx(mean)
    assert aurocs["pooled"] > 0.75
    assert found.scores[0].judgement.verdict is Verdict.NO


def test_a_score_that_knows_the_answer_alone_fails_the_guards():
    random = np.random.default_rng(5)
    answers = random.choice(["yes", "no"], 3000)
    correct = random.random(3000) < np.where(answers == "yes", 0.9, 0.5)
    score = (answers == "yes") + 0.1 * random.random(3000)
    found = judged(correct, {"s": score}, answers=answers).scores[0]
    assert found.auroc.value > 0.65
    assert {guard.name: guard.outcome for guard in found.judgement.claim.guards} == {
        "within one answer": Outcome.FAILS, "answer only": Outcome.FAILS,
    }  # fmt: skip
    assert found.judgement.verdict is Verdict.NO


def test_a_score_that_the_answer_alone_equals_is_not_refuted():
    """AUROC 0.66, within each answer as well: that the answer tells as much does not undo it."""
    random = np.random.default_rng(6)
    answers = random.choice(["yes", "no"], 3000)
    correct = random.random(3000) < np.where(answers == "yes", 0.9, 0.6)
    score = random.normal(size=3000) + 0.55 * correct
    found = judged(correct, {"s": score}, answers=answers)
    [one] = found.scores
    assert {guard.name: guard.outcome for guard in one.judgement.claim.guards} == {
        "within one answer": Outcome.HOLDS, "answer only": Outcome.FAILS,
    }  # fmt: skip
    assert one.judgement.verdict is Verdict.UNDECIDED
    sentence = verdict_sentence(found, one)
    assert "is undecided (AUROC 0.6" in sentence
    assert sentence.endswith("; it does not pass the guard answer only.")


def test_a_score_that_reads_more_than_the_answer_holds():
    correct, probability = planted(3000)
    answers = np.random.default_rng(6).choice(["yes", "no"], 3000)
    found = judged(correct, {"p": probability}, answers=answers).scores[0]
    assert {guard.outcome for guard in found.judgement.claim.guards} == {Outcome.HOLDS}


def test_answers_that_are_all_different_leave_the_guard_within_answers_out():
    correct, probability = planted(1000)
    found = judged(correct, {"p": probability}, answers=map(str, range(1000))).scores[0]
    assert [guard.name for guard in found.judgement.claim.guards] == ["answer only"]
    assert found.judgement.verdict is Verdict.YES


def test_pairs_are_compared_on_the_items_that_both_have():
    correct, probability = planted()
    random = np.random.default_rng(7)
    noise, half = random.random(2000), probability.copy()
    half[::2] = np.nan
    found = judged(correct, {"p": probability, "noise": noise, "half": half})
    pairs = {(one.first, one.second): one for one in found.comparisons}
    assert set(pairs) == {("p", "noise"), ("p", "half"), ("noise", "half")}
    gap = pairs["p", "noise"]
    expected = roc_auc_score(correct, probability) - roc_auc_score(correct, noise)
    assert gap.gap.value == pytest.approx(expected)
    assert gap.gap.low > 0
    assert pairs["p", "half"].gap.n == 1000
    assert pairs["p", "half"].gap.value == pytest.approx(0)
    assert found.best.name == "p"


def test_thresholds_take_all_items_of_an_image():
    correct, probability = planted(3000)
    groups = np.repeat(np.arange(1000).astype(str), 3)
    found = judged(correct, {"p": probability}, groups=groups, alphas=(0.2,))
    (control,) = found.scores[0].thresholds
    assert (control.n, control.n_items, control.test) == (1000, 3000, "betting")
    assert control == control_risk(probability, correct, groups, alpha=0.2, delta=0.1)


def test_thresholds_hold_for_all_scores_together():
    """The best of several scores is shown first: it has no guarantee of its own (Bonferroni)."""
    correct, probability = planted(2000)
    noise = np.random.default_rng(4).random((4, 2000))
    scores = {"p": probability, **{f"noise {i}": values for i, values in enumerate(noise)}}
    found = judged(correct, scores, alphas=(0.2,))
    for score in found.scores:
        (control,) = score.thresholds
        file = found.items.file
        assert control == control_risk(
            scores[score.name], correct, file.groups, alpha=0.2, delta=0.1 / 5
        )


def test_rare_low_scores_on_few_wrong_answers_are_not_called_uninformative():
    """Of ten wrong answers none is low: a third of them might be, which would tell."""
    correct = np.arange(300) >= 10
    rare = np.where(np.arange(300) % 50 == 49, 0.2, 0.9)
    constant = np.full(300, 0.9)
    for score in judged(correct, {"rare": rare, "constant": constant}).scores:
        assert score.judgement.verdict is Verdict.UNDECIDED, score.name
    sentence = verdict_sentence(found := judged(correct, {"c": constant}), found.best)
    assert sentence == (
        "Whether c tells right answers from wrong ones is undecided (AUROC 0.50); the signal has "
        "one value only, on too few answers to show that it tells nothing."
    )
    correct = np.arange(3000) >= 300
    found = judged(correct, {"c": np.full(3000, 0.9)})
    assert found.best.judgement.verdict is Verdict.NO
    assert verdict_sentence(found, found.best) == (
        "c does not tell right answers from wrong ones (AUROC 0.50; the signal has one value only)."
    )


def test_scores_that_part_all_but_a_few_are_not_called_equivalent():
    """Their difference is known no better than its interval says."""
    random = np.random.default_rng(2)
    correct = np.arange(100) >= 10
    apart = random.random(100) + 2 * correct
    nearly = apart.copy()
    nearly[0] = 2.2
    (pair,) = judged(correct, {"a": apart, "b": nearly}).comparisons
    assert pair.gap.low < -0.05 < 0.05 < pair.gap.high
    assert pair.gap.p_equivalence > 0.05


def test_rows_in_another_order_give_the_same_numbers():
    correct, probability = planted(1200)
    groups = np.repeat(np.arange(400).astype(str), 3)
    file = confidences(correct, {"p": probability}, groups=groups, answers=["yes", "no"] * 600)
    order = np.random.default_rng(8).permutation(1200)
    other = file._replace(
        ids=tuple(np.array(file.ids)[order]), correct=correct[order],
        scores={"p": probability[order]}, groups=tuple(groups[order]),
        answers=tuple(np.array(file.answers)[order]),
    )  # fmt: skip
    first, second = (judge_confidences(one, alphas=(0.1,), delta=0.1) for one in (file, other))
    assert second.rows["value"] == pytest.approx(first.rows["value"], nan_ok=True, abs=1e-12)
    assert second.scores[0].thresholds == first.scores[0].thresholds
    assert second.scores[0].calibrated.ece == pytest.approx(first.scores[0].calibrated.ece)
    assert second.scores[0].calibrator.calibrator.slope == pytest.approx(
        first.scores[0].calibrator.calibrator.slope
    )


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_still_has_accuracy_and_thresholds(right):
    found = judged(np.full(300, right), {"p": np.random.default_rng(9).random(300)})
    (score,) = found.scores
    assert score.judgement.verdict is Verdict.TOO_FEW
    assert found.accuracy.value == right
    assert found.accuracy.low < found.accuracy.high
    assert (score.thresholds[0].accepted is not None) == right
    assert score.calibration is not None


def test_too_few_images_and_too_many_strata():
    with pytest.raises(InputError, match="on 9 images; intervals and tests"):
        judged(np.arange(9) % 2, {"p": np.arange(9)})
    with pytest.raises(InputError, match="500 strata in column 'task'"):
        judged(np.arange(500) % 2, {"p": np.arange(500)}, strata=map(str, range(500)))
