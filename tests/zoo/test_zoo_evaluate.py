import json

import pytest

from vrp.data.scenes.draw import scene_seed
from vrp.errors import InputError
from vrp.zoo import zoo_checkpoint
from vrp.zoo.evaluate import (
    HELD_OUT_NAMESPACE,
    HeldOutQuestion,
    _accuracy,
    _table,
    build_test_set,
    evaluate,
)
from vrp.zoo.training import RECIPES, TRAINING_NAMESPACE


@pytest.fixture(scope="module")
def test_set():
    return build_test_set(60)


def test_splits_have_the_size_asked_for(test_set):
    assert {split: len(asked) for split, asked in test_set.splits.items()} == dict.fromkeys(
        ("random", "popular", "adversarial", "counting", "spatial", "open"), 60
    )


def test_existence_labels_are_true_and_balanced(test_set):
    for split in ("random", "popular", "adversarial"):
        asked = test_set.splits[split]
        assert sum(q.answer == "yes" for q in asked) == 30
        for q in asked:
            noun = q.text.removeprefix("Is there a").removeprefix("n").split()[0]
            present = {o.category for o in test_set.scenes[q.scene].objects}
            assert (noun in present) == (q.answer == "yes")


def test_counting_answers_are_true(test_set):
    for q in test_set.splits["counting"]:
        noun = q.text.split()[2]
        objects = test_set.scenes[q.scene].objects
        assert q.answer == str(sum(noun in (o.category, f"{o.category}s") for o in objects))


def test_adversarial_absents_are_other_than_random_ones(test_set):
    texts = {s: [q.text for q in test_set.splits[s]] for s in ("random", "adversarial")}
    assert texts["random"][0::2] == texts["adversarial"][0::2]
    assert texts["random"][1::2] != texts["adversarial"][1::2]


def test_seeds_of_training_measurement_and_studies_are_disjoint():
    longest = max(
        r.n_vision_scenes + r.n_language_scenes + r.n_validation for r in RECIPES.values()
    )
    seeds = {
        name: {scene_seed(name, i) for i in range(longest)}
        for name in (TRAINING_NAMESPACE, HELD_OUT_NAMESPACE, "demo", "ci")
    }
    union = set().union(*seeds.values())
    assert len(union) == sum(len(s) for s in seeds.values())


def test_accuracy_ignores_case_only():
    asked = [HeldOutQuestion(0, "", answer) for answer in ("yes", "no", "red", "3")]
    assert _accuracy(["Yes", "no", "Blue", ""], asked) == 0.5


def test_table_has_a_column_per_family():
    figures = {"llava": {"random": {"accuracy": 0.875}}, "qwen2_vl": {"random": {"accuracy": 0.9}}}
    assert _table(figures).splitlines()[1].split() == ["random", "87.5", "90.0"]


def test_unknown_family_is_refused():
    with pytest.raises(InputError, match="unknown family 'blip'"):
        evaluate(["blip"])
    with pytest.raises(InputError, match="zoo:llava"):
        zoo_checkpoint("blip")


@pytest.mark.slow
def test_figures_are_written(tmp_path):
    table = evaluate(["llava"], output=tmp_path / "figures.json", n_questions=12)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["llava"]["adversarial"]["n"] == 12
    assert "blank" in table
