import json
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vrp.cli import main
from vrp.config.study import study_from_mapping
from vrp.errors import InputError
from vrp.planning.simulation import Design, draw_items, draw_scores, resolvable_auroc, simulate

STUDY = study_from_mapping(
    {
        "study": "tiny",
        "models": {"m": {"family": "llava", "checkpoint": "zoo:llava"}},
        "sample": {
            "splits": [
                {"dataset": "pope", "split": "adversarial", "task": "existence", "count": 400},
                {"dataset": "vqa", "split": "counting", "task": "counting", "count": 300},
            ]
        },
    }
)


def design(wrong=(0.3,), per_image=1):
    return Design.of(STUDY, wrong, per_image=per_image)


def test_counts_are_the_configurations():
    found = design((0.1, 0.5))
    assert found.splits == ("pope/adversarial", "vqa/counting")
    assert (found.counts, found.wrong, found.n_masked) == ((400, 300), (0.1, 0.5), 700)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [((0.1, 0.2, 0.3), "3 shares for 2 splits"), ((0.0,), "between 0 and 1"), ((1.2,), "between")],
)
def test_shares_that_cannot_be_meant_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        design(wrong)


def test_drawn_items_and_scores_have_the_truth_that_was_asked_for():
    large = design((0.2, 0.4), per_image=4)._replace(counts=(80_000, 80_000))
    random = np.random.default_rng(0)
    items = draw_items(large, random)
    scores = draw_scores(items, 0.7, random)
    for split, wrong in enumerate(large.wrong):
        here = items.strata == split
        assert (~items.correct[here]).mean() == pytest.approx(wrong, abs=0.01)
        assert roc_auc_score(items.correct[here], scores[here]) == pytest.approx(0.7, abs=0.01)
    assert np.bincount(items.groups).max() == 4
    # Answers on one image hang together: more images are right throughout than by chance.
    rows = items.correct[items.strata == 0].reshape(-1, 4)
    assert rows.all(axis=1).mean() > 0.8**4 + 0.02


@pytest.mark.slow
def test_the_smallest_effect_is_found_in_four_of_five_studies():
    """What `resolvable_auroc` promises, by a simulation that knows nothing of it."""
    counts = design()
    distance = resolvable_auroc(counts, n_signals=5)
    found = simulate(counts, [0.5, 0.5 + distance], n_signals=5, n_studies=150)
    noise, smallest = found.truths
    # 5%, and what chance adds over 150 studies.
    assert noise.found <= 0.085
    assert noise.yes <= 0.085
    assert 0.7 <= smallest.found <= 0.9
    assert smallest.resolvable == pytest.approx(distance, rel=0.1)
    for truth in found.truths:
        assert 0.9 <= truth.coverage <= 1
        assert math.isclose(truth.yes + truth.no + truth.undecided, 1)


def test_the_same_command_prints_the_same_numbers(tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps(STUDY.model_dump(mode="json", exclude_unset=True)))
    command = ["simulate", "--config", str(config), "--auroc", "0.6", "--studies", "3",
               "--signals", "2", "--json"]  # fmt: skip
    printed = []
    for name in ("a.json", "b.json"):
        main([*command, str(tmp_path / name)])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "tiny: pope/adversarial 400 (30% wrong), vqa/counting 300 (30% wrong)" in printed[0]
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["truths"][0]["auroc"] == 0.6
    with pytest.raises(SystemExit):
        main([*command[:-1], "--auroc", "1.5"])
    assert "--auroc: must lie between 0 and 1" in capsys.readouterr().err
