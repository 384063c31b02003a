"""Edits that start above a kept trunk give what a whole run gives, to the bit."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from vrp.vlm.batching import VlmInput
from vrp.vlm.decode import prepare, run_batch
from vrp.vlm.edits import Edit, MlpBypass, NeuronEdit
from vrp.vlm.loading import VLM
from vrp.vlm.trunk import Trunk

NEURONS = np.array([1, 7, 19])
EDITS: list[Edit] = [
    NeuronEdit(0, NEURONS, 5.0),
    NeuronEdit(1, NEURONS),
    NeuronEdit(2, NEURONS, np.array([1.0, -2.0, 3.0])),
    MlpBypass(0),
    MlpBypass(1),
    MlpBypass(2),
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{type(edit).__name__}-{edit.layer}")
def test_answers_equal_those_of_a_whole_run(vlm: VLM, items: Sequence[VlmInput], edit: Edit):
    prepared = prepare(vlm, items)
    whole = run_batch(vlm, prepared, max_new_tokens=4, edits=[edit])
    trunk = Trunk(vlm, prepared, EDITS)
    with trunk.under(edit):
        resumed = run_batch(vlm, prepared, max_new_tokens=4, edits=[edit])
    for one, other in zip(whole, resumed, strict=True):
        assert one.token_ids == other.token_ids
        assert one.decision_margin == other.decision_margin
        assert np.array_equal(one.token_logprobs, other.token_logprobs)


def test_the_edits_do_something_and_leave_nothing_behind(vlm: VLM, items: Sequence[VlmInput]):
    prepared = prepare(vlm, items)
    before = run_batch(vlm, prepared, max_new_tokens=4)
    trunk = Trunk(vlm, prepared, EDITS)
    modules = list(vlm.layers)
    with trunk.under(EDITS[1]):
        edited = run_batch(vlm, prepared, max_new_tokens=4, edits=[EDITS[1]])
    assert list(vlm.layers) == modules
    after = run_batch(vlm, prepared, max_new_tokens=4)
    assert [item.token_ids for item in before] == [item.token_ids for item in after]
    assert [i.decision_margin for i in before] != [i.decision_margin for i in edited]


def test_layers_under_the_edit_are_not_computed_again(vlm: VLM, items: Sequence[VlmInput]):
    prepared = prepare(vlm, items)
    edit = NeuronEdit(1, NEURONS)
    trunk = Trunk(vlm, prepared, [edit])
    computed: list[int] = []
    handles = [
        layer.mlp.register_forward_hook(lambda *_, index=index: computed.append(index))
        for index, layer in enumerate(vlm.layers)
    ]
    try:
        with trunk.under(edit):
            run_batch(vlm, prepared, max_new_tokens=1, edits=[edit])
    finally:
        for handle in handles:
            handle.remove()
    assert computed == list(range(2, vlm.n_layers))


def test_a_batch_that_is_split_runs_whole(vlm: VLM, items: Sequence[VlmInput]):
    """As happens where memory does not suffice: the parts are other batches than the kept one."""
    edit = NeuronEdit(1, NEURONS)
    trunk = Trunk(vlm, prepare(vlm, items), [edit])
    half = list(items[:3])
    whole = run_batch(vlm, half, max_new_tokens=3, edits=[edit])
    with trunk.under(edit):
        resumed = run_batch(vlm, half, max_new_tokens=3, edits=[edit])
    assert [item.token_ids for item in whole] == [item.token_ids for item in resumed]


def test_the_modules_return_after_an_error(vlm: VLM, items: Sequence[VlmInput]):
    edit = MlpBypass(2)
    trunk = Trunk(vlm, prepare(vlm, items), [edit])
    modules = list(vlm.layers)
    with pytest.raises(torch.OutOfMemoryError), trunk.under(edit):
        raise torch.OutOfMemoryError
    assert list(vlm.layers) == modules


def test_where_edits_start():
    assert NeuronEdit(2, NEURONS).first_changed_layer == 3
    assert MlpBypass(2).first_changed_layer == 2
