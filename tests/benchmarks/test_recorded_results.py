"""What the documents say of recorded measurements is what the records say."""

import itertools
import json
import math
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


def by_chance(share, n):
    """What chance adds to a share of n studies, once in a hundred settings."""
    return 2.33 * math.sqrt(share * (1 - share) / n)


def with_estimates(*parts):
    """Rows of the parts with at least a hundred estimates, and how many say something new.

    The signals of a family share their study's answers.
    """
    found = recorded("inference")
    rows = [row for part in parts for row in found[part]]
    counts = [min(row["studies"], row.get("estimates", row["studies"])) for row in rows]
    return [(row, n) for row, n in zip(rows, counts, strict=True) if n >= 50]


def test_noise_is_found_in_no_more_than_five_studies_of_a_hundred():
    found = recorded("inference")
    for row, n in with_estimates("settings", "clustered"):
        if row["auroc"] == 0.5:
            assert row["rejected"] <= 0.05 + by_chance(0.05, n), row
    of_families = [row for row in found["clustered"] if "found_17" in row]
    assert {row["images"] for row in of_families} == {5, 10, 12, 20, 50}
    for row in of_families:
        assert max(row["found_13"], row["found_17"]) <= 0.05 + by_chance(0.05, row["studies"]), row
    # On five images nothing is estimated, so that nothing is claimed.
    assert {row["too_few"] for row in found["clustered"] if row["images"] == 5} == {1.0}
    for row in found["verdicts"]:
        assert row["yes"] <= 0.05 + by_chance(0.05, row["studies"]), row
    for row in found["interventions"]:
        if row["effect"] == 0:
            assert row["found"] <= 0.05 + by_chance(0.05, row["studies"]), row


def test_intervals_cover_the_truth_in_93_of_a_hundred_studies():
    """Where they cover more than 97%, the benchmark prints it."""
    under = set()
    parts = ("settings", "clustered", "over_tasks", "rare", "verdicts", "interventions")
    for row, n in with_estimates(*parts):
        if row["coverage"] < 0.93 - by_chance(0.93, n):
            under.add(tuple(row.items())[:5])
    assert not under


def test_nearly_constant_scores_are_not_shown_to_tell_nothing():
    for row, n in with_estimates("rare"):
        if row["auroc"] > 0.55:
            assert row["equivalent"] <= 0.05 + by_chance(0.05, n), row


def test_verdicts_are_recorded_at_the_papers_accuracies():
    rows = recorded("inference")["verdicts"]
    noise = {
        (row["accuracy"], row["signals"], row["correlation"])
        for row in rows
        if not row["answer_alone"]
    }
    assert noise == set(itertools.product((0.676, 0.786, 0.288), (13, 17), (0.0, 0.32)))


def test_the_monitor_did_what_its_document_says():
    found = recorded("monitor")
    assert found["overhead"]["same answers, token for token"]
    assert round(100 * found["overhead"]["added processor time"]["value"], 1) == 0.6
    fresh = found["fresh"]
    assert fresh["items"] >= 3000
    assert round(fresh["ece"]["value"], 3) == 0.029 <= 0.03
    at = fresh["alpha 0.1"]
    assert [round(100 * at[name], 1) for name in ("accepted", "risk", "oracle")] == [
        53.5,
        8.2,
        58.1,
    ]
    assert at["short of it"]["met"]
    again = found["resampled"]["alpha 0.1"]
    one = again["one question of each image"]
    assert [
        round(100 * share, 1)
        for share in (
            again["accepted, mean"], again["standard deviation"], again["oracle"], one["mean"],
            one["standard deviation"],
        )
    ] == [51.6, 2.5, 55.9, 48.8, 3.9]  # fmt: skip
    assert again["short of it"]["met"]
    assert round(100 * found["resampled"]["alpha 0.2"]["short of it"]["value"]) == 7
    shares = [one["violations"]["value"] for one in found["simulation"].values()]
    assert max(shares) <= 0.1
    assert (round(min(shares), 2), round(max(shares), 2)) == (0.05, 0.07)
    for one in found["shifted"].values():
        assert one["flagged"] == one["expected"]
    assert round(found["ten samples over one answer"]["median"], 1) == 3.9
    beside = found["study"]["alpha 0.1"]
    assert round(100 * beside["self_consistency"]) == 45
    assert round(100 * beside["token_confidence"]) == 53
