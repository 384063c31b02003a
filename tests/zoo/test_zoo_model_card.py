import json
from dataclasses import asdict

import pytest

from vrp.zoo import ZOO_FAMILIES, zoo_checkpoint
from vrp.zoo.training import RECIPES


@pytest.mark.parametrize("family", ZOO_FAMILIES)
def test_shipped_recipe_is_the_one_in_the_code(family):
    made = json.loads((zoo_checkpoint(family) / "training.json").read_text())
    assert made["family"] == family
    assert made["recipe"] == asdict(RECIPES[family])


@pytest.mark.parametrize("family", ZOO_FAMILIES)
def test_shipped_card_states_the_shipped_figures(family):
    folder = zoo_checkpoint(family)
    card = (folder / "README.md").read_text()
    assert f"`vrp zoo train --family {family}`" in card
    for split, found in json.loads((folder / "training.json").read_text())["figures"].items():
        wrong = found.get("wrong", "–")
        yes = f"{100 * found['yes_rate']:.1f}" if "yes_rate" in found else "–"
        assert f"| {split} | {100 * found['accuracy']:.1f} | {wrong} | {yes} |" in card
