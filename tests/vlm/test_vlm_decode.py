"""One batched pass against transformers' eager attention, one item at a time."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from vrp.errors import InputError
from vrp.vlm.decode import CaptureSpec, ItemCapture, prepare, run_batch, sample_answers
from vrp.vlm.loading import load_vlm
from vrp.vlm.model import VLM

FULL = CaptureSpec.full(("prompt_end", "answer_end"))


@pytest.fixture
def captures(vlm, items) -> list[ItemCapture]:
    return run_batch(vlm, items, FULL, max_new_tokens=4)


@pytest.fixture
def forwards(reference, items, captures):
    return [reference.forward(i, c.token_ids) for i, c in zip(items, captures, strict=True)]


def test_batch_is_really_mixed(captures):
    assert len({c.n_prompt_tokens for c in captures}) > 3


def test_prompts_are_those_of_transformers_own_processor(vlm, reference, items):
    prepared = prepare(vlm, items)
    for row, item in enumerate(items):
        ids = prepared.input_ids[row][prepared.attention_mask[row].bool()]
        assert ids.tolist() == reference.inputs(item)["input_ids"][0].tolist()


def test_greedy_answers_are_those_of_generate(vlm, reference, items, captures):
    for item, capture in zip(items, captures, strict=True):
        assert list(capture.token_ids) == reference.generate(item, 4, vlm.eos_token_ids)


def test_choices_of_random_weights_are_not_close(captures):
    assert [capture.close_choices for capture in captures] == [0] * len(captures)


def test_attention_rows_equal_eager(captures, forwards):
    for capture, forward in zip(captures, forwards, strict=True):
        queries = forward.n_prompt - 1 + np.arange(len(capture.token_ids))
        maps = forward.attention[:, :, queries][..., forward.image_positions]
        np.testing.assert_allclose(capture.head_rows, maps.mean(2), atol=1e-5)
        np.testing.assert_allclose(capture.attention, maps.mean((1, 2)), atol=1e-5)
        assert capture.attention.shape[1] == capture.grid_h * capture.grid_w


@pytest.mark.parametrize("position", ["prompt_end", "answer_end"])
def test_hidden_states_equal_output_hidden_states(vlm, captures, forwards, position):
    for capture, forward in zip(captures, forwards, strict=True):
        n_answer = len(capture.token_ids) if position == "answer_end" else 0
        expected = forward.hidden[:, forward.n_prompt - 1 + n_answer]
        hidden = capture.hidden[position]
        np.testing.assert_allclose(hidden[:-1], expected[:-1], atol=1e-5)
        normed = vlm.final_norm(torch.tensor(hidden[-1])).detach().numpy()
        np.testing.assert_allclose(normed, expected[-1], atol=1e-5)


def test_confidence_comes_from_raw_logits(captures, forwards):
    for capture, forward in zip(captures, forwards, strict=True):
        logits = forward.logits[forward.n_prompt - 1 :].astype(np.float64)
        expected = [log_softmax(logits[i])[t] for i, t in enumerate(capture.token_ids)]
        np.testing.assert_allclose(capture.token_logprobs, expected, atol=1e-4)
        top = np.sort(logits[0])[::-1]
        assert capture.decision_margin == pytest.approx(top[0] - top[1], abs=1e-4)
        assert capture.first_token_entropy == pytest.approx(entropy(softmax(logits[0])), abs=1e-4)


def test_residual_update_is_the_mean_step_of_image_tokens(captures, forwards):
    for capture, forward in zip(captures, forwards, strict=True):
        stream = forward.hidden[:-1, forward.image_positions]  # the last entry is past the norm
        steps = np.linalg.norm(np.diff(stream, axis=0), axis=-1).mean(-1)
        np.testing.assert_allclose(capture.residual_update[:-1], steps, rtol=1e-4)


def _assert_equal(one: ItemCapture, other: ItemCapture, atol: float) -> None:
    for field, a, b in zip(one._fields, one, other, strict=True):
        if isinstance(a, np.ndarray | float):
            np.testing.assert_allclose(a, b, atol=atol, rtol=1e-4, err_msg=field)
        elif isinstance(a, dict):
            for key in a:
                np.testing.assert_allclose(a[key], b[key], atol=atol, err_msg=field)
        else:
            assert a == b, field


def test_batch_of_one_equals_batch_of_sixteen(vlm, many_items):
    together = run_batch(vlm, many_items, FULL, max_new_tokens=3)
    for item, capture in list(zip(many_items, together, strict=True))[::2]:
        [alone] = run_batch(vlm, [item], FULL, max_new_tokens=3)
        _assert_equal(capture, alone, 2e-5)


def test_same_batch_is_bit_identical(vlm, items, captures):
    for one, other in zip(captures, run_batch(vlm, items, FULL, max_new_tokens=4), strict=True):
        _assert_equal(one, other, 0)


def _ending_early(vlm: VLM, captures: list[ItemCapture]) -> VLM:
    """The model with such end tokens that answers end after 0, 1, 2 … tokens."""
    ends = {captures[0].token_ids[0], captures[1].token_ids[1], captures[2].token_ids[2]}
    return dataclasses.replace(vlm, eos_token_ids=tuple(sorted(ends)))


def test_answers_that_end_at_different_steps(vlm, items, captures, reference):
    ending = _ending_early(vlm, captures)
    found = run_batch(ending, items, FULL, max_new_tokens=4)
    assert found[0].token_ids == ()
    assert found[0].flags == ("no_answer_tokens",)
    assert found[0].finished
    assert found[0].answer == ""
    assert np.isnan(found[0].hidden["answer_end"]).all()
    assert len({len(c.token_ids) for c in found}) >= 3
    for item, capture in zip(items, found, strict=True):
        ids = reference.generate(item, 4, ending.eos_token_ids)
        assert list(capture.token_ids) == ids
        forward = reference.forward(item, tuple(ids))
        # A zero-token answer has the row of prompt_end alone.
        queries = forward.n_prompt - 1 + np.arange(max(1, len(ids)))
        maps = forward.attention[:, :, queries][..., forward.image_positions]
        np.testing.assert_allclose(capture.head_rows, maps.mean(2), atol=1e-5)
        if ids:
            np.testing.assert_allclose(
                capture.hidden["answer_end"][:-1],
                forward.hidden[:-1, forward.n_prompt - 1 + len(ids)],
                atol=1e-5,
            )


def test_end_right_after_the_last_token_is_not_truncation(vlm, items, captures):
    ending = dataclasses.replace(vlm, eos_token_ids=(captures[0].token_ids[1],))
    [capture] = run_batch(ending, items[:1], max_new_tokens=3)
    assert (len(capture.token_ids), capture.finished, capture.flags) == (1, True, ())
    [cut] = run_batch(vlm, items[:1], max_new_tokens=1)
    assert (len(cut.token_ids), cut.finished, cut.flags) == (1, False, ("truncated",))


def test_nothing_is_read_that_was_not_asked_for(vlm, items):
    [capture, *_] = run_batch(vlm, items, max_new_tokens=2)
    assert all(
        getattr(capture, name) is None
        for name in ("attention", "head_rows", "hidden", "residual_update", "pair")
    )


def test_answers_do_not_depend_on_what_is_read(vlm, items, captures):
    bare = run_batch(vlm, items, max_new_tokens=4)
    assert [c.token_ids for c in bare] == [c.token_ids for c in captures]


def test_images_with_one_key_are_encoded_once(vlm, items, monkeypatch):
    counted = []
    encode = vlm.family.encode_images
    monkeypatch.setattr(
        vlm.family, "encode_images", lambda model, images: counted.append(len(images)) or
        encode(model, images),
    )  # fmt: skip
    prepared = prepare(vlm, items)
    assert counted == [4]
    assert prepared.features[0] is prepared.features[1]


@pytest.mark.slow
def test_out_of_memory_splits_the_batch(vlm, items, captures, monkeypatch):
    forward = vlm.model.forward

    def small_memory(*args, input_ids, **kwargs):
        if input_ids.shape[0] > 3:
            raise torch.OutOfMemoryError("too much")
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(vlm.model, "forward", small_memory)
    found = run_batch(vlm, items, FULL, max_new_tokens=4)
    assert [c.item_id for c in found] == [c.item_id for c in captures]
    assert [c.token_ids for c in found] == [c.token_ids for c in captures]


def test_bfloat16_runs_and_stays_near(vlm, checkpoints, items, captures):
    name = vlm.family.name
    half = load_vlm(checkpoints[name], family=name, device="cpu", dtype="bfloat16")
    for exact, rough in zip(captures, run_batch(half, items, FULL, max_new_tokens=1), strict=True):
        a, b = exact.hidden["prompt_end"][-1], rough.hidden["prompt_end"][-1]
        assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(a)
        parts = rough.attention_contribution.sum() + rough.mlp_contribution.sum()
        total = rough.contribution_embed + parts
        assert total == pytest.approx(rough.decision_margin, abs=0.1)


def test_non_finite_logits_are_flagged(vlm, items, overwritten):
    with overwritten(vlm.lm_head.weight, float("nan")):
        [capture] = run_batch(vlm, items[:1], max_new_tokens=2)
    assert capture.flags == ("no_answer_tokens", "non_finite")


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"question": "What is <IMAGE>?"}, "placeholder"), ({"question": "x" * 600}, "context")],
)
def test_bad_items_are_refused(vlm, items, changes, named):
    image_token = vlm.tokenizer.convert_ids_to_tokens(vlm.image_token_id)
    question = changes["question"].replace("<IMAGE>", image_token)
    with pytest.raises(InputError, match=named):
        run_batch(vlm, [items[0]._replace(question=question)], max_new_tokens=2)


def test_unknown_position_is_refused(vlm, items):
    with pytest.raises(InputError, match="prompt_end"):
        run_batch(vlm, items, CaptureSpec(hidden=("image_end",)), max_new_tokens=2)


def test_tied_logits_pair_the_emitted_token_with_the_next_lower_id(vlm, items, overwritten):
    [first] = run_batch(vlm, items[:1], FULL, max_new_tokens=1)
    top = first.token_ids[0]
    weight = vlm.lm_head.weight.detach().clone()
    tied = [top - 2, top, top + 1, top + 3]
    weight[tied] = weight[top].clone()
    with overwritten(vlm.lm_head.weight, weight):
        [capture] = run_batch(vlm, items[:1], FULL, max_new_tokens=1)
    assert capture.token_ids == (top - 2,)
    assert capture.pair == (top - 2, top)
    assert capture.decision_margin == 0.0
    parts = capture.attention_contribution.sum() + capture.mlp_contribution.sum()
    assert capture.contribution_embed + parts == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("how", ["greedy", "sampled"])
def test_a_batch_prepared_for_shorter_answers_is_checked_again(vlm, items, how):
    prepared = prepare(vlm, items)
    longest = max(prepared.prompt_lengths)
    answers = {
        "greedy": lambda n: run_batch(vlm, prepared, max_new_tokens=n),
        "sampled": lambda n: sample_answers(
            vlm, prepared, k=1, temperature=1.0, top_p=1.0, max_new_tokens=n
        ),
    }[how]
    at_fault = items[prepared.prompt_lengths.index(longest)].item_id
    with pytest.raises(InputError, match=f"'{at_fault}'.*exceed the model's context of 512"):
        answers(vlm.max_positions - longest + 1)
