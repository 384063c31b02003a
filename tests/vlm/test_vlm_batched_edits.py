"""Edits that start above a kept trunk give what a whole run gives, to the bit."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from vrp.errors import InputError
from vrp.vlm import batched_edits
from vrp.vlm.batched_edits import Trunk
from vrp.vlm.batching import VlmInput
from vrp.vlm.decode import prepare, run_batch
from vrp.vlm.model import VLM
from vrp.vlm.prefill import Decoder, PromptPart, cache_argument
from vrp.vlm.residual_edits import Edit, HeadBypass, MlpBypass, NeuronEdit, Shift

pytestmark = pytest.mark.slow

NEURONS = np.array([1, 7, 19])
EDITS: list[Edit] = [
    NeuronEdit(0, NEURONS, 5.0),
    NeuronEdit(1, NEURONS),
    NeuronEdit(2, NEURONS, np.array([1.0, -2.0, 3.0])),
    MlpBypass(0),
    MlpBypass(1),
    MlpBypass(2),
    HeadBypass(0, 1),
    HeadBypass(2, 3),
    NeuronEdit(1, NEURONS, np.array([1.0, -2.0, 3.0]), "mlp"),
    Shift(0, np.linspace(-2, 2, 32)),
    Shift(2, np.linspace(-2, 2, 32)),
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
    n_parts = 1 if prepared.shared is None else 2  # what items of an image share, and the rest
    assert computed == n_parts * list(range(2, vlm.n_layers))


@pytest.mark.parametrize("by_keyword", [False, True])
def test_kept_layers_rely_on_no_argument_name(
    vlm: VLM, items: Sequence[VlmInput], monkeypatch: pytest.MonkeyPatch, by_keyword: bool
):
    """transformers 5.24 calls `cache` what 5.23 called `past_key_values`."""
    prepared = prepare(vlm, items[:1])
    edit = NeuronEdit(1, NEURONS)
    trunk = Trunk(vlm, prepared, [edit])
    stream = torch.zeros(*prepared.input_ids.shape, vlm.d_model)
    cache, reference = DynamicCache(), Decoder(vlm, prepared)
    reference.prefill()
    monkeypatch.setattr(batched_edits, "running_part", lambda: PromptPart(prepared, 0))
    with trunk.under(edit):
        for layer in vlm.layers[:2]:
            if by_keyword:
                stream = layer(hidden_states=stream, mask=None, renamed=cache)
            else:
                stream = layer(stream, None, cache)
    for ours, whole in zip(cache.layers, reference.cache.layers, strict=False):
        assert torch.equal(ours.keys, whole.keys)
        assert torch.equal(ours.values, whole.values)
    assert len(cache.layers) == 2
    assert stream.any()


def test_the_caches_argument_is_found_by_its_type():
    class Renamed(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, kv: DynamicCache | None = None) -> None: ...

    class Without(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> None: ...

    assert cache_argument(Renamed) == "kv"
    with pytest.raises(InputError, match="Without takes no key-value cache"):
        cache_argument(Without)


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
    assert NeuronEdit(2, NEURONS, site="mlp").first_changed_layer == 2
    assert HeadBypass(2, 0).first_changed_layer == 2
    assert Shift(2, np.zeros(32)).first_changed_layer == 3
