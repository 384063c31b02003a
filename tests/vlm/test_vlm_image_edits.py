"""What hides, hides for good; what edits, edits what a hand-written hook would."""

import numpy as np
import pytest
import torch
from PIL import Image

from vrp.errors import InputError
from vrp.vlm.decode import CaptureSpec, prepare, run_batch
from vrp.vlm.image_edits import (
    AttentionMask,
    EmbeddingReplacement,
    blank_image,
    grey_patches,
    image_embedding_sum,
)
from vrp.vlm.mlp_units import measure_mlp_units
from vrp.vlm.residual_edits import HeadBypass, MlpBypass, NeuronEdit, Shift
from vrp.vlm.value_norms import value_norms

HIDDEN = CaptureSpec(hidden=("prompt_end", "answer_end"), attention=True)


def _keep(vlm, items, fill):
    return [np.full(vlm.grid(item.image.size).n_tokens, fill) for item in items]


def _with_other_images(items, draw_image):
    keys = sorted({item.image_key for item in items})
    return [
        item._replace(
            image=draw_image(900 + keys.index(item.image_key), item.image.size),
            image_key=f"other-{item.image_key}",
        )
        for item in items
    ]


def test_hiding_every_image_token_hides_the_image(vlm, items, draw_image):
    others = _with_other_images(items, draw_image)
    mask = AttentionMask(_keep(vlm, items, False))
    one = run_batch(vlm, items, HIDDEN, max_new_tokens=4, mask=mask)
    two = run_batch(vlm, others, HIDDEN, max_new_tokens=4, mask=mask)
    for a, b in zip(one, two, strict=True):
        assert a.token_ids == b.token_ids
        np.testing.assert_array_equal(a.token_logprobs, b.token_logprobs)
        for position in HIDDEN.hidden:  # answer_end is reached through decode steps
            np.testing.assert_array_equal(a.hidden[position], b.hidden[position])
        assert a.attention.max() == 0


def test_without_the_mask_those_images_matter(vlm, items, draw_image):
    one = run_batch(vlm, items, HIDDEN, max_new_tokens=2)
    two = run_batch(vlm, _with_other_images(items, draw_image), HIDDEN, max_new_tokens=2)
    for a, b in zip(one, two, strict=True):
        assert np.abs(a.hidden["prompt_end"][-1] - b.hidden["prompt_end"][-1]).max() > 1e-3


def test_keeping_every_token_changes_nothing(vlm, items):
    bare = run_batch(vlm, items, HIDDEN, max_new_tokens=3)
    kept = run_batch(
        vlm, items, HIDDEN, max_new_tokens=3, mask=AttentionMask(_keep(vlm, items, True))
    )
    for a, b in zip(bare, kept, strict=True):
        assert a.token_ids == b.token_ids
        np.testing.assert_allclose(a.hidden["prompt_end"], b.hidden["prompt_end"], atol=1e-5)


def test_partial_mask_equals_eager_attention_under_a_handmade_mask(vlm, reference, items):
    rng = np.random.default_rng(3)
    keep = [rng.random(m.size) < 0.6 for m in _keep(vlm, items, True)]
    found = run_batch(vlm, items, HIDDEN, max_new_tokens=2, mask=AttentionMask(keep))
    for item, visible, capture in zip(items, keep, found, strict=True):
        expected = _eager_hidden(vlm, reference, item, visible)
        np.testing.assert_allclose(capture.hidden["prompt_end"][:-1], expected[:-1], atol=1e-5)
        assert capture.attention[:, ~visible].max() == 0
        assert capture.attention[:, visible].min() > 0


STATES = CaptureSpec(hidden=("prompt_end", "answer_end"))
"""Reads nothing of image tokens, so that hidden ones are left out."""


def test_leaving_tokens_out_equals_eager_attention_under_a_handmade_mask(vlm, reference, items):
    rng = np.random.default_rng(3)
    keep = [rng.random(m.size) < 0.6 for m in _keep(vlm, items, True)]
    found = run_batch(vlm, items, STATES, max_new_tokens=2, mask=AttentionMask(keep))
    for item, visible, capture in zip(items, keep, found, strict=True):
        expected = _eager_hidden(vlm, reference, item, visible)
        np.testing.assert_allclose(capture.hidden["prompt_end"][:-1], expected[:-1], atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 0.95])
def test_leaving_tokens_out_equals_masking_them(vlm, items, share):
    """In decode steps too, whatever the lengths, and how many of each item are left."""
    rng = np.random.default_rng(7)
    keep = [rng.random(m.size) < share for m in _keep(vlm, items, True)]
    mask = AttentionMask(keep)
    whole = run_batch(vlm, items, HIDDEN, max_new_tokens=4, mask=mask)
    short = run_batch(vlm, items, STATES, max_new_tokens=4, mask=mask)
    for a, b in zip(whole, short, strict=True):
        assert a.token_ids == b.token_ids
        assert (a.grid_h, a.grid_w, a.n_prompt_tokens) == (b.grid_h, b.grid_w, b.n_prompt_tokens)
        np.testing.assert_allclose(a.token_logprobs, b.token_logprobs, atol=1e-5)
        for position in STATES.hidden:
            np.testing.assert_allclose(a.hidden[position], b.hidden[position], atol=1e-5)


def test_fewer_tokens_are_run_where_some_are_hidden(vlm, items, monkeypatch):
    shapes = []
    forward = vlm.model.forward

    def counting(*args, input_ids, **kwargs):
        shapes.append(tuple(input_ids.shape))
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(vlm.model, "forward", counting)
    prepared = prepare(vlm, items)
    keep = [np.arange(m.size) % 10 == 0 for m in _keep(vlm, items, True)]
    run_batch(vlm, prepared, max_new_tokens=1, mask=AttentionMask(keep))
    n_run = sum(rows * columns for rows, columns in shapes)
    n_left = max(int(mask.sum()) for mask in keep)
    n_text = max(n - m.size for n, m in zip(prepared.prompt_lengths, keep, strict=True))
    assert n_run <= len(items) * (n_left + n_text)
    if vlm.family.name != "paligemma":  # what comes before the image is run once
        before = min(prepared.input_ids[0].tolist().index(vlm.image_token_id), n_text)
        assert shapes[0][0] == 1
        assert n_run <= len(items) * (n_left + n_text - shapes[0][1]) + before


def test_an_empty_mask_changes_no_bit(vlm, items):
    bare = run_batch(vlm, items, STATES, max_new_tokens=3)
    kept = run_batch(
        vlm, items, STATES, max_new_tokens=3, mask=AttentionMask(_keep(vlm, items, True))
    )
    for a, b in zip(bare, kept, strict=True):
        assert a.token_ids == b.token_ids
        np.testing.assert_array_equal(a.token_logprobs, b.token_logprobs)
        for position in STATES.hidden:
            np.testing.assert_array_equal(a.hidden[position], b.hidden[position])


def _eager_hidden(vlm, reference, item, visible):
    """Residuals at prompt_end from eager attention with an additive 4-D mask."""
    made = reference.inputs(item)
    ids = made["input_ids"][0]
    n_tokens = len(ids)
    bidirectional = vlm.family.name == "paligemma"
    allowed = torch.ones(n_tokens, n_tokens).bool()
    allowed = allowed if bidirectional else allowed.tril()
    image = (ids == vlm.image_token_id).nonzero()[:, 0]
    allowed[:, image[torch.tensor(~visible)]] = False
    allowed |= torch.eye(n_tokens).bool()
    additive = torch.zeros(n_tokens, n_tokens).masked_fill(~allowed, -1e9)[None, None]
    made.pop("token_type_ids", None)
    if vlm.family.name == "qwen2_vl":
        made["position_ids"], _ = reference.model.model.get_rope_index(
            made["input_ids"],
            mm_token_type_ids=made["mm_token_type_ids"],
            image_grid_thw=made["image_grid_thw"],
        )
    made["attention_mask"] = additive
    with torch.inference_mode():
        states = reference.model(**made, output_hidden_states=True).hidden_states
    return torch.stack(states)[:, 0, -1].numpy()


def test_replacing_every_embedding_hides_the_image(vlm, items, draw_image):
    others = _with_other_images(items, draw_image)
    embedding = np.random.default_rng(0).normal(size=vlm.d_model)
    replace = EmbeddingReplacement(_keep(vlm, items, False), embedding)
    one = run_batch(vlm, items, HIDDEN, max_new_tokens=3, replace=replace)
    two = run_batch(vlm, others, HIDDEN, max_new_tokens=3, replace=replace)
    for a, b in zip(one, two, strict=True):
        assert a.token_ids == b.token_ids
        np.testing.assert_array_equal(a.hidden["prompt_end"], b.hidden["prompt_end"])


def test_only_the_named_embeddings_are_replaced(vlm, items):
    prepared = prepare(vlm, items)
    keep = _keep(vlm, items, True)
    keep[0][3] = False
    embedding = np.arange(vlm.d_model, dtype=float)
    features = EmbeddingReplacement(keep, embedding).features(prepared)
    changed = [(f != g).any(1) for f, g in zip(features, prepared.features, strict=True)]
    assert changed[0].nonzero()[:, 0].tolist() == [3]
    assert not any(c.any() for c in changed[1:])  # item 1 shares the image of item 0
    np.testing.assert_array_equal(features[0][3].numpy(), embedding.astype(np.float32))


def test_image_embedding_sum(vlm, items):
    prepared = prepare(vlm, items)
    total, count = image_embedding_sum(prepared)
    stacked = np.concatenate([f.numpy() for f in prepared.features]).astype(np.float64)
    assert count == len(stacked)
    np.testing.assert_allclose(total, stacked.sum(0))


def test_grey_patches_paint_hidden_boxes_and_nothing_else():
    image = Image.new("RGB", (4, 2), (10, 20, 30))
    boxes = np.array([[0, 0, 2, 1], [2, 0, 4, 1], [0, 1, 2, 2], [2, 1, 4, 2.0]])
    painted = np.array(grey_patches(image, boxes, np.array([True, False, True, True])))
    assert painted[0, 2:].tolist() == [[128, 128, 128]] * 2
    assert painted[0, :2].tolist() == painted[1, :2].tolist() == [[10, 20, 30]] * 2
    assert image.getpixel((3, 0)) == (10, 20, 30)
    outside = grey_patches(image, boxes - 100, np.zeros(4, dtype=bool))
    assert outside.tobytes() == image.tobytes()


def test_greying_every_patch_is_a_blank_image(vlm, items):
    item = items[0]
    boxes = vlm.patch_boxes(item.image.size)
    painted = grey_patches(item.image, boxes, np.zeros(len(boxes), dtype=bool))
    assert painted.tobytes() == blank_image(item.image.size).tobytes()


def assert_answers_under_hook(reference, hook, vlm, items, found):
    """The eager model with a hook on layer 1 gives the answers that were found."""
    handle = reference.model.model.language_model.layers[1].register_forward_hook(hook)
    try:
        for item, capture in zip(items, found, strict=True):
            assert list(capture.token_ids) == reference.generate(item, 3, vlm.eos_token_ids)
    finally:
        handle.remove()


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, 100.0, np.array([1.0, -2.0, 3.0])])
def test_neuron_edit_equals_a_handwritten_hook(vlm, reference, items, value):
    neurons = np.array([1, 7, 30])
    edits = [NeuronEdit(layer=1, neurons=neurons, value=value)]
    found = run_batch(vlm, items, HIDDEN, max_new_tokens=3, edits=edits)

    def hook(module, args, output):
        output[:, :, neurons] = torch.as_tensor(value, dtype=torch.float32)
        return output

    assert_answers_under_hook(reference, hook, vlm, items, found)
    for capture in found:  # what is read is the edited stream
        for position in HIDDEN.hidden:
            np.testing.assert_allclose(
                capture.hidden[position][2, neurons], np.broadcast_to(value, 3), rtol=1e-6
            )


def test_mlp_bypass_equals_a_zeroed_projection(vlm, reference, items, overwritten):
    found = run_batch(vlm, items, HIDDEN, max_new_tokens=3, edits=[MlpBypass(1)])
    weight = reference.model.model.language_model.layers[1].mlp.down_proj.weight
    with overwritten(weight, 0.0):
        for item, capture in zip(items, found, strict=True):
            assert list(capture.token_ids) == reference.generate(item, 3, vlm.eos_token_ids)


def test_a_bypassed_head_equals_zeroed_columns(vlm, reference, items, overwritten):
    found = run_batch(vlm, items, HIDDEN, max_new_tokens=3, edits=[HeadBypass(1, 2)])
    weight = reference.model.model.language_model.layers[1].self_attn.o_proj.weight
    width = weight.shape[1] // vlm.n_heads
    with overwritten(weight[:, 2 * width : 3 * width], 0.0):
        for item, capture in zip(items, found, strict=True):
            assert list(capture.token_ids) == reference.generate(item, 3, vlm.eos_token_ids)
    plain = run_batch(vlm, items, max_new_tokens=3)
    assert [one.decision_margin for one in plain] != [one.decision_margin for one in found]


def test_mlp_units_set_to_zero_equal_zeroed_columns(vlm, reference, items, overwritten):
    edit = NeuronEdit(1, np.arange(5, 25), site="mlp")
    found = run_batch(vlm, items, HIDDEN, max_new_tokens=3, edits=[edit])
    weight = reference.model.model.language_model.layers[1].mlp.down_proj.weight
    with overwritten(weight[:, 5:25], 0.0):
        for item, capture in zip(items, found, strict=True):
            assert list(capture.token_ids) == reference.generate(item, 3, vlm.eos_token_ids)


def test_a_shift_equals_a_handwritten_hook(vlm, reference, items):
    """At the prompt's last token, and at each of the answer's."""
    vector = np.linspace(-3, 3, 32).astype(np.float32)
    found = run_batch(vlm, items, HIDDEN, max_new_tokens=3, edits=[Shift(1, vector)])

    def hook(module, args, output):
        output[:, -1] += torch.as_tensor(vector)
        return output

    assert_answers_under_hook(reference, hook, vlm, items, found)
    plain = run_batch(vlm, items, HIDDEN, max_new_tokens=3)
    for one, other in zip(plain, found, strict=True):
        moved = other.hidden["prompt_end"][2] - one.hidden["prompt_end"][2]
        np.testing.assert_allclose(moved, vector, atol=1e-5)


def test_edits_that_change_nothing_change_no_bit(vlm, items):
    prepared = prepare(vlm, items)
    plain = run_batch(vlm, prepared, max_new_tokens=3)
    nothing = np.empty(0, dtype=np.intp)
    for edit in (
        NeuronEdit(1, nothing), NeuronEdit(1, nothing, site="mlp"), Shift(1, np.zeros(32)),
    ):  # fmt: skip
        found = run_batch(vlm, prepared, max_new_tokens=3, edits=[edit])
        for one, other in zip(plain, found, strict=True):
            np.testing.assert_array_equal(one.token_logprobs, other.token_logprobs)


def test_mlp_units_are_measured_at_the_last_token(vlm, reference, items):
    fold_of = {item.item_id: i % 2 for i, item in enumerate(items)}
    units = measure_mlp_units(vlm, [items[:3], items[3:]], [0, 2], fold_of)[2][1]
    layer, seen = reference.model.model.language_model.layers[2], []
    handle = layer.mlp.down_proj.register_forward_pre_hook(
        lambda module, args: seen.append(args[0][0, -1].detach().double().numpy())
    )
    try:
        for item in items[::2]:  # those that are not in fold 1
            reference.generate(item, 1, vlm.eos_token_ids)
    finally:
        handle.remove()
    np.testing.assert_allclose(units.mean, np.mean(seen, axis=0), atol=1e-5)
    np.testing.assert_allclose(units.rms, np.sqrt(np.mean(np.square(seen), axis=0)), atol=1e-5)
    writes = layer.mlp.down_proj.weight.detach().double().numpy()
    direction = np.linspace(-1, 1, 32)
    by_hand = [abs(direction @ writes[:, n]) * units.rms[n] for n in range(writes.shape[1])]
    np.testing.assert_allclose(units.toward(direction), by_hand)
    np.testing.assert_allclose(units.size[4], np.linalg.norm(writes[:, 4]) * units.rms[4])


def test_value_norms_are_those_of_the_cache(vlm, reference, items):
    prepared = prepare(vlm, items)
    for item, found in zip(items, value_norms(vlm, prepared), strict=True):
        by_hand = np.linalg.norm(reference.image_values(item), axis=-1).mean(1)
        np.testing.assert_allclose(found, by_hand, rtol=1e-4)


def test_edits_leave_no_trace(vlm, items):
    before = run_batch(vlm, items, HIDDEN, max_new_tokens=2)
    run_batch(vlm, items, HIDDEN, max_new_tokens=2, edits=[MlpBypass(0)])
    after = run_batch(vlm, items, HIDDEN, max_new_tokens=2)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a.hidden["prompt_end"], b.hidden["prompt_end"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"mask": AttentionMask([np.ones(3, dtype=bool)])},
        {"mask": AttentionMask([np.ones(3, dtype=bool)] * 8)},
        {"edits": [MlpBypass(3)]},
        {"edits": [NeuronEdit(0, np.array([32]))]},
        {"edits": [NeuronEdit(0, np.array([10_000]), site="mlp")]},
        {"edits": [HeadBypass(0, 4)]},
        {"edits": [Shift(0, np.zeros(31))]},
        {"edits": [NeuronEdit(0, np.array([1, 2]), np.array([1.0, 2.0, 3.0]))]},
    ],
)
def test_interventions_that_do_not_fit_are_refused(vlm, items, arguments):
    with pytest.raises(InputError):
        run_batch(vlm, items, max_new_tokens=2, **arguments)
