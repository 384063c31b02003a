import itertools
import json
import math
import re

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm
from sklearn.metrics import roc_auc_score

from vrp.cli import main
from vrp.config.margins import EquivalenceMargins
from vrp.config.study import study_from_mapping
from vrp.errors import InputError
from vrp.planning.simulated_studies import (
    CORRELATION,
    SHARED_ANSWERS,
    Design,
    Pool,
    accuracy_by_answer,
    auroc_of_answers,
    correlation_of_answers,
    draw_groups,
    draw_intervention,
    draw_items,
    draw_scores,
    knowing_answers,
    telling,
)
from vrp.planning.simulation import (
    Truth,
    judged_effect,
    judged_signals,
    n_corrected,
    n_judged,
    resolution_note,
    resolvable_auroc,
    simulate,
)
from vrp.planning.simulation_text import as_text
from vrp.report import conclusions
from vrp.signals.registry import SIGNALS


def study(counts=(400, 300), **data):
    splits = [
        {"dataset": "pope", "split": "adversarial", "task": "existence", "count": counts[0]},
        {"dataset": "vqa", "split": "counting", "task": "counting", "count": counts[1]},
    ]
    return study_from_mapping({
        "study": "tiny",
        "models": {"m": {"family": "llava", "checkpoint": "zoo:llava"}},
        "data": data,
        "sample": {"splits": splits},
    })  # fmt: skip


STUDY = study()


def design(**given):
    return Design.of(STUDY, **{"wrong": (0.3,), "per_image": 1, **given})


def large(**given):
    return design(wrong=(0.2, 0.4), per_image=4, **given)._replace(counts=(80_000, 80_000))


def random():
    return np.random.default_rng(0)


def test_counts_are_the_configurations():
    found = design(wrong=(0.1, 0.5), answers=(2, 5))
    assert found.splits == ("pope/adversarial", "vqa/counting")
    assert (found.counts, found.wrong, found.answers) == ((400, 300), (0.1, 0.5), (2, 5))
    assert found.n_intervened == 700


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"wrong": (0.1, 0.2, 0.3)}, "--wrong: 3 values for 2 splits"),
        ({"wrong": (0.0,)}, "between 0 and 1"),
        ({"wrong": (1.2,)}, "between"),
        ({"answers": (2, 2, 2)}, "--answers: 3 values for 2 splits"),
        ({"answers": (0,)}, "--answers must be at least 1"),
        ({"answer_odds": 0.0}, "--answer-odds above 0"),
        ({"per_image": 0}, "--questions-per-image: at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        design(**given)


def test_splits_share_images_as_the_data_do():
    scenes = Design.of(study(scenes={"n_pope_images": 100, "n_vqa_images": 200}))
    assert scenes.pools == (Pool("val2014", 100), Pool("val2014", 200))
    groups = draw_groups(scenes, random())
    of_pope, of_vqa = np.split(groups, [400])
    assert groups.max() + 1 == 200
    assert set(of_pope) < set(of_vqa)  # the drawn scenes' first images are POPE's
    assert set(np.bincount(of_pope)) == {0, 4} or set(np.bincount(of_pope)) == {4}
    assert set(np.bincount(of_vqa)) == {1, 2}
    official = Design.of(study(origin="official"))
    assert official.pools == (Pool("val2014", 500), Pool("val2014", 40_504))
    groups = draw_groups(official, random())
    shared = set(groups[:400]) & set(groups[400:])
    assert len(shared) < 20  # of 300 questions on 40,504 images few are on one of POPE's 400
    assert np.bincount(groups[400:]).max() == 1


def test_a_number_of_questions_an_image_takes_the_place_of_the_data():
    groups = draw_groups(design(per_image=4), random())
    assert set(np.bincount(groups)) == {4}
    assert len(set(groups[:400]) & set(groups[400:])) > 50  # of whatever split
    assert np.bincount(draw_groups(design(per_image=1), random())).max() == 1


def test_drawn_items_have_the_accuracies_that_were_asked_for():
    drawn = large(answers=(2, 3), answer_odds=4.0)
    items = draw_items(drawn, random())
    for split, wrong in enumerate(drawn.wrong):
        here = items.strata == split
        assert (~items.correct[here]).mean() == pytest.approx(wrong, abs=0.01)
        right = accuracy_by_answer(drawn, split)
        assert right.mean() == pytest.approx(1 - wrong)
        odds = right / (1 - right)
        assert odds[-1] / odds[0] == pytest.approx(4.0)
        for answer, accuracy in enumerate(right):
            of_answer = here & (items.answers == answer)
            assert of_answer.sum() / here.sum() == pytest.approx(1 / right.size, abs=0.01)
            assert items.correct[of_answer].mean() == pytest.approx(accuracy, abs=0.01)
    # Answers on one image hang together: more images are right throughout than by chance.
    order = np.argsort(items.groups, kind="stable")
    rows = items.correct[order].reshape(-1, 4)
    assert rows.all(axis=1).mean() > 0.7**4 + 0.02


def test_a_telling_score_has_its_auroc_within_strata_and_within_answers():
    items = draw_items(large(), random())
    noise = draw_scores(items, 1, np.random.default_rng(1), correlation=0.0)[0]
    scores = telling(noise, items.correct, 0.7)
    for strata in (items.strata, items.answer_strata):
        for stratum in np.unique(strata):
            here = strata == stratum
            assert roc_auc_score(items.correct[here], scores[here]) == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("answers", [2, 3])
def test_a_score_that_knows_the_answer_alone_is_noise_within_one_answer(answers):
    drawn = large(answers=(answers,), answer_odds=4.0)
    items = draw_items(drawn, random())
    noise = draw_scores(items, 1, np.random.default_rng(1), correlation=0.0)[0]
    scores = knowing_answers(noise, items.answers)
    weights, found = [], []
    for split in (0, 1):
        right = items.correct[items.strata == split]
        weights.append(right.sum() * (~right).sum() / (right.size + 1))
        found.append(roc_auc_score(right, scores[items.strata == split]))
    assert auroc_of_answers(drawn) == pytest.approx(np.average(found, weights=weights), abs=0.01)
    assert auroc_of_answers(drawn) > 0.6
    for stratum in np.unique(items.answer_strata):
        here = items.answer_strata == stratum
        assert roc_auc_score(items.correct[here], scores[here]) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("correlation", [0.0, CORRELATION, 0.8])
def test_signals_are_correlated_as_asked_for(correlation):
    items = draw_items(large(), random())
    scores = draw_scores(items, 4, random(), correlation=correlation)
    pairs = np.corrcoef(scores)[np.triu_indices(4, 1)]
    assert pairs == pytest.approx([correlation] * 6, abs=0.015)
    assert scores.std(axis=1) == pytest.approx([1.0] * 4, abs=0.01)
    # The questions of one image: 60% of a score is the image's.
    order = np.argsort(items.groups, kind="stable")
    within = np.corrcoef(scores[0][order].reshape(-1, 4).T)[np.triu_indices(4, 1)]
    assert within.mean() == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("wrong", [0.03, 0.3])
def test_correlation_of_answers_is_that_of_two_thresholded_normals(wrong):
    at = norm.ppf(wrong)
    covariance = [[1, SHARED_ANSWERS], [SHARED_ANSWERS, 1]]
    both = multivariate_normal(cov=covariance).cdf([at, at])
    expected = (both - wrong**2) / (wrong * (1 - wrong))
    assert correlation_of_answers(wrong) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("effect", [0.0, -4.0, 10.0])
def test_interventions_change_what_was_asked_for(effect):
    drawn = draw_intervention(
        large()._replace(n_intervened=100_000), random(), changed=0.1, effect=effect
    )
    assert drawn.before.size == 100_000
    assert (drawn.before != drawn.after).mean() == pytest.approx(0.1, abs=0.005)
    change = drawn.after.astype(int) - drawn.before
    assert 100 * change.mean() == pytest.approx(effect, abs=0.5)


def test_as_many_signals_as_the_reports_verdict_on_attention(monkeypatch):
    judged = conclusions._attention_predictors()
    assert n_judged() == len(judged)
    assert n_corrected(n_judged()) == len(SIGNALS)
    signal = SIGNALS["spatial_entropy"]
    monkeypatch.setitem(SIGNALS, "of_an_extension", signal)
    assert n_judged() == len(judged) + 1


def shares(truth, n_studies, counts=(300, 300), n_signals=4, **given):
    """Verdicts of the first signal's claims, as shares."""
    drawn = design(**given)._replace(counts=counts)
    found = simulate(
        drawn, [truth.auroc], n_signals=n_signals, n_studies=n_studies, changed=(),
        correlation=truth.correlation,
    ).truths  # fmt: skip
    return {(one.truth.auroc, one.truth.correlation): one for one in found}


def test_noise_is_no_finding_and_a_strong_signal_always_is_one():
    found = shares(Truth(0.8, 0.3), 60)
    for correlation in (0.3, 0.0):
        noise = found[0.5, correlation]
        assert noise.yes <= 0.05 + 2.33 * math.sqrt(0.05 * 0.95 / 60)
        assert noise.coverage >= 0.95 - 2.33 * math.sqrt(0.05 * 0.95 / 60)
    strong = found[0.8, 0.3]
    assert (strong.yes, strong.found) == (1.0, 1.0)
    assert strong.coverage >= 0.95 - 2.33 * math.sqrt(0.05 * 0.95 / 60)


def test_independent_noise_is_called_no_less_often_than_correlated_noise():
    found = shares(Truth(0.8, 0.9), 40, counts=(700, 700), n_signals=8)
    assert found[0.5, 0.9].no > found[0.5, 0.0].no + 0.05


def test_knowing_the_answer_alone_passes_the_test_and_not_the_guard():
    drawn = design(answer_odds=6.0)._replace(counts=(1500, 1500))
    truth = Truth(auroc_of_answers(drawn), answer_alone=True)
    assert truth.auroc > 0.6
    for number in range(5):
        claim = judged_signals(
            drawn, truth, 2, 2, EquivalenceMargins(), np.random.default_rng(number)
        )["signal 1"]
        assert claim.number.p_adjusted < 0.001
        assert [guard.name for guard in claim.guards] == ["within one answer"]
        assert claim.survives != "holds"
    found = simulate(drawn, [], n_signals=2, n_studies=20, changed=())
    (alone,) = (one for one in found.truths if one.truth.answer_alone)
    assert (alone.found, alone.yes) == (1.0, 0.0)


def test_more_tests_make_a_signal_harder_to_find():
    """The same study, its signal corrected for as many tests as there are in the table."""
    p = [
        judged_signals(
            design(), Truth(0.62), 2, n_tests, EquivalenceMargins(), np.random.default_rng(3)
        )["signal 1"].number.p_adjusted
        for n_tests in (2, 36)
    ]
    assert p[1] == pytest.approx(18 * p[0])


def test_effects_are_found_and_none_is_no_finding():
    drawn = design(per_image=2)._replace(counts=(700, 300), n_intervened=1000)
    found = simulate(
        drawn, [], n_signals=1, n_studies=80, changed=(0.05, 0.2), effects=(5.0, -10.0)
    ).effects
    rows = {(one.changed, one.effect): one for one in found}
    assert set(rows) == {(0.05, 0.0), (0.05, 5.0), (0.2, 0.0), (0.2, 5.0), (0.2, -10.0)}
    error = 2.33 * math.sqrt(0.05 * 0.95 / 80)
    for (_, effect), row in rows.items():
        assert row.coverage >= 0.95 - error
        assert row.found + row.none + row.undecided == pytest.approx(1)
        if effect == 0:
            assert row.found <= 0.05 + error
    assert rows[0.05, 5.0].found == rows[0.2, -10.0].found == 1.0
    assert rows[0.05, 0.0].none > 0.5
    # n e² = q² (c + e): of c changes that cancel and of the effect's own, all vary.
    one = (norm.ppf(0.975) + norm.ppf(0.8)) ** 2 / 1000
    for changed in (0.05, 0.2):
        theory = 100 * (one + math.sqrt(one**2 + 4 * one * changed)) / 2
        assert rows[changed, 0.0].resolvable == pytest.approx(theory, rel=0.2)


def test_an_effect_is_judged_by_the_effects_stages_own_numbers():
    drawn = draw_intervention(design(), random(), changed=0.2, effect=5.0)
    number = judged_effect(drawn, EquivalenceMargins())
    change = 100 * (drawn.after.astype(float) - drawn.before)
    assert number.value == pytest.approx(change.mean())
    assert number.se == pytest.approx(change.std(ddof=1) / math.sqrt(change.size))
    assert (number.n, number.n_groups) == (700, 700)


@pytest.mark.slow
@pytest.mark.parametrize("per_image", [1, 5])
def test_the_smallest_effect_is_found_in_four_of_five_studies(per_image):
    """What `resolvable_auroc` promises, by a simulation that knows nothing of it."""
    counts = design(per_image=per_image)
    distance = resolvable_auroc(counts, n_tests=n_corrected(5))
    found = simulate(counts, [0.5 + distance], n_signals=5, n_studies=150, changed=())
    noise, _, smallest = found.truths[:3]
    # 5%, and what chance adds over 150 studies.
    assert noise.found <= 0.085
    assert noise.yes <= 0.085
    assert 0.7 <= smallest.found <= 0.9
    assert smallest.resolvable == pytest.approx(distance, rel=0.1)
    for truth in found.truths:
        assert 0.9 <= truth.coverage <= 1
        assert math.isclose(truth.yes + truth.no + truth.undecided, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_signals": 0}, "--signals and --studies"),
        ({"correlation": 1.0}, "--correlation"),
        ({"changed": (1.5,)}, "--changed"),
        ({"aurocs": [1.5]}, "--auroc"),
    ],
)
def test_truths_that_cannot_be_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        simulate(design(), **{"aurocs": [], **given})


def test_the_same_command_prints_the_same_numbers(tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps(STUDY.model_dump(mode="json", exclude_unset=True)))
    command = ["simulate", "--config", str(config), "--auroc", "0.6", "--studies", "3",
               "--signals", "2", "--answers", "2", "3", "--json"]  # fmt: skip
    printed = []
    for name in ("a.json", "b.json"):
        main([*command, str(tmp_path / name)])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0].startswith('2 noise signals: "no" in ')  # the answers come first
    assert "vqa/counting 300 (30% wrong, 3 answers); 700 questions on" in printed[0]
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    content = json.loads((tmp_path / "a.json").read_text())
    assert 400 < content["n_images"] < 600  # POPE's 400, and some of the others
    assert f"on {content['n_images']} images" in printed[0]
    noise = content["truths"][:2]
    assert [one["truth"]["correlation"] for one in noise] == [CORRELATION, 0.0]
    for one, how in zip(noise, (f"correlated {CORRELATION}", "independent"), strict=True):
        assert f"({how}" in printed[0]
        assert f"noise, {how}" in printed[0]
        assert f'"no" in {100 * one["no"]:.1f}% of studies' in printed[0]
    assert content["truths"][2]["truth"]["auroc"] == 0.6
    assert content["design"]["pools"][0] == {"folder": "val2014", "n_images": 400}
    changed_by_effect = itertools.product((0.05, 0.2), (0.0, 2.0, 5.0))
    assert [(one["changed"], one["effect"]) for one in content["effects"]] == [*changed_by_effect]
    with pytest.raises(SystemExit):
        main([*command[:-1], "--auroc", "1.5"])
    assert "--auroc: must be between 0 and 1" in capsys.readouterr().err


def test_the_text_carries_the_numbers():
    drawn = design()
    found = simulate(drawn, [0.8], n_signals=1, n_studies=3, changed=(0.2,), effects=(5.0,))
    printed = as_text(drawn, found)
    for one in (*found.truths, *found.effects):
        assert f"{100 * one.undecided:.1f}%" in printed
        assert f"{100 * one.coverage:.1f}%" in printed
    assert f"5 pp is found in {100 * found.effects[1].found:.1f}%" in printed


def test_the_plan_names_no_effect_that_cannot_be():
    for counts in ((3, 3), (1, 1)):
        few = resolution_note(study(counts=counts))
        assert "these counts can show no AUROC, even of 1 (" in few
        assert "and no effect on accuracy where 20% of the answers change" in few
        assert "nan" not in few
    auroc, effect = r"an AUROC 0\.\d{3} away from 0\.5 ", r"an effect on accuracy of \d+\.\d pp"
    assert re.search(f"{auroc}.*{effect}", resolution_note(STUDY))


def test_the_simulation_names_no_effect_that_cannot_be():
    few = Design.of(study(counts=(6, 6)))
    text = as_text(few, simulate(few, (0.7,), n_studies=3, n_signals=2))
    assert not re.search(r"± (0\.[5-9]|[1-9]|nan)|nan pp|[1-9]\d\d\.\d pp", text)
