"""Knockouts and patches at the last token, against whole forwards under eager attention."""

from collections.abc import Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from vrp.errors import InputError
from vrp.vlm.batching import VlmInput
from vrp.vlm.image_edits import blank_image
from vrp.vlm.model import VLM
from vrp.vlm.prefill import prepare
from vrp.vlm.tracing import Knockout, LastToken, Patch

CLOSE = 1e-4
EDITS = [Knockout(0, 0, "image"), Knockout(1, 2, "image"), Knockout(0, 2, "text")]


def blank(items: Sequence[VlmInput]) -> list[VlmInput]:
    return [
        item._replace(image=blank_image(item.image.size), image_key=f"blank {item.image.size}")
        for item in items
    ]


def eager_logits(reference, item, hook_up=lambda model, made: []):
    """Logits of the first answer token by one whole forward, with hooks that a function adds."""
    made = reference.inputs(item)
    handles = hook_up(reference.model, made)
    try:
        with torch.inference_mode():
            return reference.model(**made).logits[0, -1].float().numpy()
    finally:
        for handle in handles:
            handle.remove()


def blocked(vlm, edit):
    """Hooks that block columns of the last query's row of the additive mask, in some layers."""

    def hook_up(model, made):
        ids = made["input_ids"][0]
        is_image = ids == vlm.image_token_id
        columns = is_image.clone()
        if edit.tokens == "text":
            columns = torch.arange(len(ids)) > is_image.nonzero().max()
            columns[-1] = False
            columns &= ids != vlm.tokenizer.bos_token_id

        def block(module, args, kwargs):
            n = len(ids)
            mask = kwargs.get("attention_mask")
            if mask is None:
                mask = torch.zeros(1, 1, n, n).masked_fill(~torch.ones(n, n).tril().bool(), -1e9)
            mask = mask.clone()
            if mask.dtype == torch.bool:
                mask[..., -1, columns] = False
            else:
                mask[..., -1, columns] = -1e9
            return args, {**kwargs, "attention_mask": mask}

        layers = vlm.family.layers(model)[edit.first_layer : edit.last_layer + 1]
        return [
            layer.self_attn.register_forward_pre_hook(block, with_kwargs=True) for layer in layers
        ]

    return hook_up


@pytest.mark.parametrize("edit", EDITS)
def test_a_knockout_equals_a_whole_forward_under_a_mask(vlm: VLM, reference, items, edit):
    found = LastToken(vlm, prepare(vlm, items), EDITS).under(edit).numpy()
    for row, item in zip(found, items, strict=True):
        expected = eager_logits(reference, item, blocked(vlm, edit))
        np.testing.assert_allclose(row, expected, atol=CLOSE)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_patch_equals_a_whole_forward_with_a_hook(vlm: VLM, reference, items, layer):
    edits = [Patch(n, torch.empty(0)) for n in range(3)]
    clean = LastToken(vlm, prepare(vlm, items), edits)
    state = clean.states[:, layer + 1]
    found = LastToken(vlm, prepare(vlm, blank(items)), edits).under(Patch(layer, state)).numpy()
    for row, (own, item) in enumerate(zip(state, blank(items), strict=True)):

        def hook_up(model, made, own=own):
            def put_in(module, args, output):
                patched = output.clone()
                patched[:, -1] = own
                return patched

            return [vlm.family.layers(model)[layer].register_forward_hook(put_in)]

        np.testing.assert_allclose(found[row], eager_logits(reference, item, hook_up), atol=CLOSE)


def test_without_an_edit_logits_and_states_are_the_prefills(vlm: VLM, reference, items):
    found = LastToken(vlm, prepare(vlm, items))
    for row, item in enumerate(items):
        np.testing.assert_allclose(found.logits[row], eager_logits(reference, item), atol=CLOSE)
    assert found.states.shape == (len(items), vlm.n_layers + 1, vlm.d_model)


def test_a_patch_with_its_own_state_changes_no_bit(vlm: VLM, items):
    edits = [Patch(n, torch.empty(0)) for n in range(vlm.n_layers)]
    run = LastToken(vlm, prepare(vlm, items), edits)
    for layer in range(vlm.n_layers):
        assert torch.equal(run.under(Patch(layer, run.states[:, layer + 1])), run.logits)


@contextmanager
def attention_only_at(vlm: VLM, layer: int):
    """Within the block, no other layer's attention writes anything."""
    kept = {}
    for index, module in enumerate(vlm.layers):
        if index != layer:
            weight = vlm.family.attention_output(module).weight
            kept[index] = weight.detach().clone()
            weight.data.zero_()
    try:
        yield
    finally:
        for index, weight in kept.items():
            vlm.family.attention_output(vlm.layers[index]).weight.data.copy_(weight)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_layer_at_which_the_picture_enters_is_found(vlm: VLM, items, layer):
    """Planted: attention writes at one layer alone, so that the picture can only enter there."""
    edits = [Knockout(n, n, "image") for n in range(vlm.n_layers + 1)]
    with attention_only_at(vlm, layer):
        clean = LastToken(vlm, prepare(vlm, items), edits)
        without = LastToken(vlm, prepare(vlm, blank(items)), edits)
        matters = (clean.logits - without.logits).abs().max()
        assert matters > 1e-3
        for n in range(vlm.n_layers):
            changed = (clean.under(Knockout(n, n, "image")) - clean.logits).abs().max()
            assert (changed > 1e-3 * matters) == (n == layer), n
            restored = without.under(Patch(n, clean.states[:, n + 1]))
            expected = clean.logits if n >= layer else without.logits
            torch.testing.assert_close(restored, expected, atol=1e-5, rtol=0)


def test_layers_that_the_model_has_not_are_refused(vlm: VLM, items):
    run = LastToken(vlm, prepare(vlm, items[:1]))
    for edit in (Knockout(1, 3, "image"), Knockout(-1, 0, "text"), Patch(3, run.states[:, 0])):
        with pytest.raises(InputError, match=r"are not among 0…2"):
            run.under(edit)


def test_a_condition_costs_one_token_in_a_causal_model(vlm: VLM, items, monkeypatch):
    run = LastToken(vlm, prepare(vlm, items), EDITS)
    shapes = []
    forward = vlm.model.forward

    def counting(*args, input_ids, **kwargs):
        shapes.append(tuple(input_ids.shape))
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(vlm.model, "forward", counting)
    run.under(EDITS[0])
    expected = 1 if vlm.family.is_causal else run.prepared.input_ids.shape[1]
    assert shapes == [(len(items), expected)]
