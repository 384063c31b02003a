"""The engine on the trained models, against eager attention with full maps, mixed batches."""

import numpy as np
import pytest
import torch

from vrp.data.scenes.draw import Purpose, draw_scene, scene_rng, scene_seed
from vrp.data.scenes.questions import counting_questions, existence_question, spatial_questions
from vrp.vlm.batching import VlmInput
from vrp.vlm.decode import CaptureSpec, run_batch
from vrp.vlm.loading import load_vlm
from vrp.vlm.prefill import Decoder, prepare
from vrp.vlm.residual import ResidualTap, attached
from vrp.zoo import ZOO_FAMILIES, zoo_checkpoint
from vrp.zoo.evaluate import load_model
from vrp.zoo.processors import study_prompt

pytestmark = pytest.mark.slow

MAX_NEW_TOKENS = 5
FULL = CaptureSpec.full(("prompt_end", "answer_end"))


@pytest.fixture(scope="module")
def asked():
    """32 questions of several lengths about scenes of two aspect ratios."""
    items = []
    for index in range(8):
        scene = draw_scene(scene_seed("engine-test", index))
        rng = scene_rng(scene.seed, Purpose.QUESTIONS)
        texts = [existence_question("chair"), counting_questions(scene, rng)[0].text]
        texts += [question.text for question in spatial_questions(scene, rng)[:1]]
        texts.append("Please describe in one word what stands beside the largest thing here.")
        items += [VlmInput(f"{index}-{n}", scene.image, t) for n, t in enumerate(texts)]
    assert len(items) == 32
    return items


@pytest.fixture(scope="module", params=ZOO_FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def vlm(family):
    return load_vlm(zoo_checkpoint(family), family=family, device="cpu")


@pytest.fixture(scope="module")
def found(vlm, asked):
    spec = CaptureSpec.full(hidden=("prompt_end",))
    return run_batch(vlm, asked, spec, max_new_tokens=MAX_NEW_TOKENS)


@pytest.fixture(scope="module")
def expected(family, asked):
    """transformers' own `generate` on one left-padded batch, everything put out."""
    _, model, processor = load_model(family, zoo_checkpoint(family))
    model.set_attn_implementation("eager")
    processor.tokenizer.padding_side = "left"
    inputs = processor(
        images=[[item.image] for item in asked],
        text=[study_prompt(family, item.question) for item in asked],
        return_tensors="pt",
        padding=True,
    )
    inputs.pop("labels", None)
    with torch.no_grad():
        made = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            return_dict_in_generate=True,
            output_attentions=True,
            output_hidden_states=True,
            output_logits=True,
        )
    lengths = inputs["attention_mask"].sum(-1)
    assert lengths.unique().numel() >= 3
    return model, inputs, made


def answer_of(vlm, expected, row):
    _, inputs, made = expected
    tokens = made.sequences[row, inputs["input_ids"].shape[1] :].tolist()
    ends = [i for i, token in enumerate(tokens) if token in vlm.eos_token_ids]
    return tokens[: ends[0]] if ends else tokens


def test_greedy_answers_and_logits(vlm, found, expected):
    made = expected[2]
    for row, item in enumerate(found):
        answer = answer_of(vlm, expected, row)
        assert list(item.token_ids) == answer
        for step, token in enumerate(answer):
            log_p = made.logits[step][row].double().log_softmax(-1)[token]
            assert item.token_logprobs[step] == pytest.approx(float(log_p), abs=1e-4)
        top = made.logits[0][row].topk(2).values
        assert item.decision_margin == pytest.approx(float(top[0] - top[1]), abs=1e-4)


@torch.inference_mode()
def test_logits_of_the_whole_vocabulary(vlm, asked, expected):
    _, inputs, made = expected
    answers = made.sequences[:, inputs["input_ids"].shape[1] :]
    decoder = Decoder(vlm, prepare(vlm, asked, max_new_tokens=MAX_NEW_TOKENS))
    logits = [decoder.prefill()]
    logits += [decoder.step(tokens) for tokens in answers.T[:-1]]
    lengths = [len(answer_of(vlm, expected, row)) for row in range(len(asked))]
    for step, (ours, theirs) in enumerate(zip(logits, made.logits, strict=True)):
        # What generate puts after an answer's end is padding; its end itself is still predicted.
        going_on = [row for row, length in enumerate(lengths) if step <= length]
        np.testing.assert_allclose(ours[going_on], theirs[going_on], atol=1e-4, rtol=0)


def test_attention_rows(vlm, found, expected):
    _, inputs, made = expected
    image = inputs["input_ids"] == vlm.image_token_id
    for row, item in enumerate(found):
        columns = image[row].nonzero()[:, 0]
        steps = range(len(answer_of(vlm, expected, row)))
        rows = [
            torch.stack([layer[row, :, -1, columns] for layer in made.attentions[step]])
            for step in steps
        ]
        heads = torch.stack(rows).mean(0).numpy()
        np.testing.assert_allclose(item.head_rows, heads, atol=1e-5)
        np.testing.assert_allclose(item.attention, heads.mean(1), atol=1e-5)


def test_hidden_states(vlm, found, expected):
    """Each neuron to 1e-5 of the largest of its own item and layer: float32 counts relatively."""
    states = expected[2].hidden_states[0]
    for row, item in enumerate(found):
        ours = torch.tensor(item.hidden["prompt_end"])
        # The last entry of transformers' list has gone through the final norm.
        ours[-1] = vlm.final_norm(ours[-1])
        theirs = torch.stack([layer[row, -1] for layer in states])
        scale = theirs.abs().amax(-1, keepdim=True)
        assert float(((ours - theirs).abs() / scale).max()) <= 1e-5


@torch.inference_mode()
def test_heads_mlps_and_embedding_sum_to_the_residual(vlm, asked):
    tap = ResidualTap(n_layers=vlm.n_layers, hidden=True, components=True)
    with attached(vlm, tap):
        decoder = Decoder(vlm, prepare(vlm, asked))
        if decoder.shared is not None:
            decoder.prefill_prefixes()
            tap.clear()
        decoder.prefill()
    total = tap.residuals[0].double()
    for index, layer in enumerate(vlm.layers):
        weight = vlm.family.attention_output(layer).weight.double()
        heads = tap.joined_heads[index].double().unflatten(-1, (vlm.n_heads, -1))
        written = torch.einsum("bhd,ohd->bho", heads, weight.unflatten(-1, (vlm.n_heads, -1)))
        assert written.shape[1] == vlm.n_heads
        total = total + written.sum(1) + tap.mlp_outputs[index].double()
    final = tap.residuals[-1].double()
    error = (total - final).norm(dim=-1) / final.norm(dim=-1)
    assert float(error.max()) < 1e-4


def test_heads_as_stored_with_mlps_and_embedding_sum_to_the_logit_difference(found, expected):
    logits = expected[2].logits[0]
    for row, item in enumerate(found):
        top, runner_up = item.pair
        assert logits[row].topk(2).indices.tolist() == [top, runner_up]
        parts = [item.contribution_embed, *item.head_contribution.ravel(), *item.mlp_contribution]
        assert item.head_contribution.shape == (len(item.mlp_contribution), len(item.head_rows[0]))
        difference = float(logits[row, top] - logits[row, runner_up])
        magnitude = float(np.abs(parts).sum())
        assert sum(parts) == pytest.approx(difference, abs=1e-5 * magnitude)
        # Nothing cancels so that a part could be left out unseen.
        assert np.abs(item.head_contribution).sum() > 1e-2 * magnitude


@pytest.fixture(scope="module")
def reordered(vlm, asked):
    """All captures from one batch of all items, in an order of chance."""
    order = np.random.default_rng(0).permutation(len(asked))
    captures = run_batch(vlm, [asked[i] for i in order], FULL, max_new_tokens=MAX_NEW_TOKENS)
    return sorted(captures, key=lambda capture: [item.item_id for item in asked].index(
        capture.item_id
    ))  # fmt: skip


def assert_same(one, other):
    """Equal but for floats, which agree to 1e-5 of the largest of their kind in the item."""
    for field, a, b in zip(one._fields, one, other, strict=True):
        if isinstance(a, dict):
            assert list(a) == list(b)
            a, b = np.stack([*a.values()]), np.stack([*b.values()])
        if isinstance(a, float | np.ndarray):
            finite = np.abs(a)[np.isfinite(a)]
            scale = max(1.0, float(finite.max(initial=0)))
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * scale, err_msg=field)
        else:
            assert a == b, field


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_batches_and_their_order_change_nothing(vlm, asked, reordered, batch_size):
    again = []
    for start in range(0, len(asked), batch_size):
        batch = asked[start : start + batch_size]
        again += run_batch(vlm, batch, FULL, max_new_tokens=MAX_NEW_TOKENS)
    for one, other in zip(reordered, again, strict=True):
        assert_same(one, other)
