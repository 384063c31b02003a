"""What the documents say of recorded measurements is what the records say."""

import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def recorded(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def test_the_plan_of_the_demo_study_came_near():
    """Calibrated on the ci study and 300 items: time within a factor of 1.5, disk within 10%."""
    demo = recorded("plan_accuracy")["demo"]
    planned, taken = demo["planned_seconds"], demo["taken_seconds"]
    assert max(planned / taken, taken / planned) <= 1.5
    assert abs(demo["planned_bytes"] / demo["taken_bytes"] - 1) <= 0.1


def test_an_explorer_of_the_papers_size_loads_small_files():
    found = recorded("explorer_size")
    assert (found["items"], found["models"], found["tokens"], found["layers"]) == (3090, 3, 576, 32)
    assert found["largest_bytes"] <= 4_000_000
    assert found["all_bytes"] <= 110_000_000


@pytest.mark.parametrize("family", ["llava", "paligemma", "qwen2_vl"])
def test_the_engine_met_its_goals_on_the_study_mix(family):
    found = recorded("extraction")["families"][family]
    ratios = found["study mix"]["ratios"]
    assert ratios["capture / limit"]["median"] <= 1.2
    assert ratios["K=10 / one answer"]["median"] <= 1.4
    assert ratios["exact / one answer"]["median"] <= 1.3
    assert ratios["usual / engine"]["median"] >= 10
    assert all(sizes["ratio"] <= 1.15 for sizes in found["memory"].values())
    for mix in ("one question an image", "study mix"):
        assert found[mix]["same_greedy_answers"] == found[mix]["items"]
