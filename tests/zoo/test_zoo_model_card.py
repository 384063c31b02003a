import json
import shutil
from dataclasses import asdict

import pytest

from vrp.zoo import ZOO_FAMILIES, zoo_checkpoint
from vrp.zoo.model_card import write_model_card
from vrp.zoo.training import RECIPES

FIGURES = {
    "adversarial": {"n": 1000, "accuracy": 0.8721, "wrong": 128, "yes_rate": 0.5},
    "blank": {"n": 1000, "accuracy": 0.5, "yes_rate": 0.25},
}


@pytest.mark.parametrize("family", ZOO_FAMILIES)
def test_card_states_figures_and_recipe(family, tmp_path):
    for name in ("config.json", "training.json"):
        shutil.copy(zoo_checkpoint(family) / name, tmp_path / name)
    write_model_card(tmp_path, FIGURES)
    card = (tmp_path / "README.md").read_text()
    assert "| adversarial | 87.2 | 128 | 50.0 |" in card
    assert "| blank | 50.0 | – | 25.0 |" in card
    assert f"`vrp zoo train --family {family}`" in card
    assert ("prefix-LM mask" in card) == (family == "paligemma")
    assert json.loads((tmp_path / "training.json").read_text())["figures"] == FIGURES


@pytest.mark.parametrize("family", ZOO_FAMILIES)
def test_shipped_recipe_is_the_one_in_the_code(family):
    made = json.loads((zoo_checkpoint(family) / "training.json").read_text())
    assert made["family"] == family
    assert made["recipe"] == asdict(RECIPES[family])


@pytest.mark.parametrize("family", ZOO_FAMILIES)
def test_shipped_card_states_the_shipped_figures(family, tmp_path):
    folder = zoo_checkpoint(family)
    for name in ("config.json", "training.json"):
        shutil.copy(folder / name, tmp_path / name)
    write_model_card(tmp_path, json.loads((folder / "training.json").read_text())["figures"])
    assert (tmp_path / "README.md").read_text() == (folder / "README.md").read_text()
