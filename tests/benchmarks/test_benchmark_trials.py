"""The measurements' own arithmetic, and that those meant for a GPU run to their end without one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
MODELS = ("llava-1.5-7b", "paligemma-3b-mix-224", "qwen2-vl-7b-instruct")


def test_ratios_are_taken_round_by_round_and_judged_by_their_median() -> None:
    from judged import Goal, ratio_of

    times = {"a": [2.0, 9.0, 4.0], "b": [1.0, 2.0, 3.0], "c": [1.0, 1.0, 1.0]}
    ratio = ratio_of(times, "a", "b", "c")  # 1, 3, 1
    assert ratio == (1.0, 1.0, 3.0)
    assert ratio.judged(Goal(1.2))["met"]
    assert not ratio.judged(Goal(25.0, at_least=True))["met"]
    assert "met" not in ratio.judged(None)
    assert str(Goal(25.0, at_least=True)) == ">= 25.0"


def test_contestants_take_turns() -> None:
    from judged import in_rounds

    order: list[str] = []
    work: dict[str, Callable[[], object]] = {
        "a": lambda: order.append("a"),
        "b": lambda: order.append("b"),
    }
    times = in_rounds(work, 2)
    assert order == ["a", "b", "a", "b", "b", "a"]  # one round to warm up
    assert {name: len(spent) for name, spent in times.items()} == {"a": 2, "b": 2}


@pytest.mark.slow
def test_the_full_size_measurement_runs_on_small_sizes(tmp_path: Path) -> None:
    import full_size

    out = tmp_path / "trial.json"
    full_size.main(
        ["--tiny", "--device", "cpu", "--dtype", "float32", "--items", "3", "--batch-size", "2",
         "--usual-items", "1", "--rounds", "1", "--new-tokens", "2", "--out", str(out)]
    )  # fmt: skip
    found = json.loads(out.read_text())
    assert set(found["models"]) == set(MODELS)
    for model in found["models"].values():
        assert model["same_greedy_answers"] == model["items"] == 3
        assert set(model["ms_an_item"]) == {"limit", "capture", "consistency", "usual"}
        assert 0 < model["maps / capture"] < 1
        assert "met" not in model["ratios"]["capture / limit"]  # a trial meets no goal
    minutes = sum(model["study_minutes"] for model in found["models"].values())
    assert found["study"] == {"models": 3, "items_a_model": 3090, "minutes": minutes}


def test_the_whole_study_is_judged_at_full_size_only() -> None:
    import full_size

    models = {name: {"study_minutes": 4.0} for name in MODELS}
    assert full_size.study(models, full_size=True)["met"]
    models["llava-1.5-7b"]["study_minutes"] = 7.5
    assert not full_size.study(models, full_size=True)["met"]
    assert "met" not in full_size.study(models, full_size=False)
    assert "met" not in full_size.study({MODELS[0]: models[MODELS[0]]}, full_size=True)


def captured(**changes: Any) -> Any:
    from vrp.vlm.decode import ItemCapture

    rows = np.full((1, 2, 4), 0.25, dtype=np.float32)
    given: dict[str, Any] = {
        "item_id": "a", "answer": "yes", "token_ids": (7,), "token_logprobs": np.array([-0.5]),
        "finished": True, "flags": (), "first_token_entropy": 1.0, "decision_margin": 2.0,
        "close_choices": 0,
        "grid_h": 2, "grid_w": 2, "n_prompt_tokens": 9, "attention": rows.mean(1),
        "head_rows": rows, "hidden": {"prompt_end": np.array([[3.0, 4.0], [0.0, 2.0]])},
        "lens_decision_margin": np.array([1.0, 5.0]),
    }  # fmt: skip
    return ItemCapture(**{**given, **changes})


def test_differences_between_precisions_by_hand() -> None:
    from bf16 import differences

    moved = np.array([[[0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]]], dtype=np.float32)
    exact = [captured(), captured(decision_margin=3.0)]
    rounded = [
        captured(
            decision_margin=2.5, attention=moved.mean(1), head_rows=moved,
            hidden={"prompt_end": np.array([[3.0, 4.5], [0.0, 2.0]])},
            lens_decision_margin=np.array([1.0, 4.0]),
        ),
        captured(decision_margin=0.0, token_ids=(8,)),
    ]  # fmt: skip
    found = differences(exact, rounded)
    assert (found["items"], found["same_answers"], found["tied_answers"]) == (2, 0.5, 0.5)
    size = found["difference"]
    assert size["decision_margin"] == {"median": 1.75, "p95": pytest.approx(2.875), "most": 3.0}
    assert size["lens_decision_margin"]["most"] == 1.0
    assert size["hidden_relative"]["most"] == pytest.approx(0.1)  # 0.5 of a norm of 5
    # Of the first head half the mass lies elsewhere, so a quarter of the mean over the heads.
    assert size["head_map_total_variation"]["most"] == pytest.approx(0.5)
    assert size["map_total_variation"]["most"] == pytest.approx(0.25)
    assert size["head_spatial_entropy"]["most"] == pytest.approx(np.log(2))
    assert found["rank_correlation"]["decision_margin"] is None  # one item is left to compare


@pytest.mark.slow
def test_bfloat16_against_float32_runs_on_random_weights(tmp_path: Path) -> None:
    import bf16

    out = tmp_path / "trial.json"
    bf16.main(["--random", MODELS[2], "--tiny", "--items", "3", "--batch-size", "2",
               "--out", str(out)])  # fmt: skip
    found = json.loads(out.read_text())["models"][MODELS[2]]
    assert found["items"] == 3
    assert 0 < found["difference"]["hidden_relative"]["median"] < 0.02
