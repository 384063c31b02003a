"""A monitor reads a model's own generate: the study's numbers, no forward more, every row."""

import numpy as np
import pytest
import torch
from transformers import pipeline

from vrp.monitor.card import Threshold
from vrp.monitor.monitor import accepts

pytestmark = pytest.mark.slow


def answers_of(study, asked):
    ids = [item["item_id"] for item in asked]
    table = study.table("answers", "llava").collect()
    rows = {row["item_id"]: row for row in table.iter_rows(named=True)}
    return [rows[item_id] for item_id in ids]


def batch(asked):
    return [item["image"] for item in asked], [item["question"] for item in asked]


def test_answers_and_token_confidence_are_the_studys(monitor, study, loaded, asked):
    with monitor.watch(loaded.model) as seen:
        loaded.model.generate(**monitor.inputs(loaded.processor, *batch(asked)))
    assert len(seen) == len(asked)
    for answer, row in zip(seen, answers_of(study, asked), strict=True):
        assert answer.answer == row["answer"]
        assert answer.token_logprobs == pytest.approx(row["token_logprobs"], abs=1e-5)
        confidence = np.exp(np.mean(row["token_logprobs"]))
        assert answer.score == pytest.approx(np.log(confidence / (1 - confidence)), abs=1e-3)
        assert answer.probability == pytest.approx(
            float(monitor.calibrator.probability([answer.score])[0])
        )


def test_fused_scores_are_those_that_it_was_fitted_to(fused, study, loaded, asked):
    signals = study.table("signals", "llava").collect()
    probe = fused.predictor.probe
    hidden = study.table("hidden", "llava").filter(position="prompt_end").collect()
    with fused.watch(loaded.model, alpha=0.4) as seen:
        loaded.model.generate(**fused.inputs(loaded.processor, *batch(asked)))
    for answer, item in zip(seen, asked, strict=True):
        row = signals.filter(item_id=item["item_id"])
        state = hidden.filter(item_id=item["item_id"])[f"layer_{probe.layer:02d}"][0].to_numpy()
        values = {
            name: row[name].to_numpy() for name in fused.predictor.features if name != "probe"
        }
        values["probe"] = probe.log_odds(state[None])
        assert answer.score == pytest.approx(float(fused.predictor.score(values)[0]), abs=1e-3)


def test_a_question_alone_is_a_row_of_a_batch(monitor, loaded, asked):
    with monitor.watch(loaded.model) as seen:
        loaded.model.generate(**monitor.inputs(loaded.processor, *batch(asked[:3])))
        for item in asked[:3]:
            given = monitor.inputs(loaded.processor, item["image"], item["question"])
            loaded.model.generate(**given)
    assert [one.answer for one in seen][:3] == [one.answer for one in seen][3:]
    assert [one.score for one in seen][:3] == pytest.approx(
        [one.score for one in seen][3:], abs=1e-3
    )
    assert {one.decision for one in seen} <= {"accept", "ask"}


def test_nothing_is_run_more_and_nothing_stays_attached(monitor, loaded, asked):
    calls = []
    handle = loaded.model.register_forward_hook(lambda *_: calls.append(1))
    with monitor.watch(loaded.model):
        given = monitor.inputs(loaded.processor, *batch(asked))
        watched = loaded.model.generate(**given)
    n_watched = len(calls)
    plain = loaded.model.generate(**given)
    handle.remove()
    assert len(calls) == 2 * n_watched
    assert torch.equal(watched, plain)
    assert "generate" not in vars(loaded.model)
    assert not loaded.model._forward_hooks


def test_it_works_inside_a_pipeline(monitor, study, loaded, asked, monkeypatch):
    monkeypatch.setattr(loaded.model.generation_config, "do_sample", True)  # as of Qwen2-VL
    ask = pipeline("image-text-to-text", model=loaded.model, processor=loaded.processor)
    square = [item for item in asked if item["question"]][:4]
    with monitor.watch(loaded.model, loaded.processor) as seen:
        for item in square:
            text = monitor.prompt(item["question"])
            options = monitor.generate_options()
            ask(images=str(item["image"]), text=text, generate_kwargs=options)
    assert [one.answer for one in seen] == [row["answer"] for row in answers_of(study, square)]
    expected = [row["token_logprobs"] for row in answers_of(study, square)]
    for one, logprobs in zip(seen, expected, strict=True):
        assert one.token_logprobs == pytest.approx(logprobs, abs=1e-4)


def test_an_answer_without_a_score_is_never_accepted():
    threshold = Threshold(
        alpha=0.1, delta=0.1, threshold=0.5, probability=0.7, coverage=0.4, n=100, n_items=100,
        test="binomial", n_accepted=40, n_wrong=1, risk=0.025, bound=0.09, reason="",
    )  # fmt: skip
    scores = np.array([0.4, 0.5, np.nan, 2.0])
    assert accepts(scores, threshold).tolist() == [False, True, False, True]
    nothing = threshold.model_copy(update={"threshold": None})
    assert not accepts(scores, nothing).any()
