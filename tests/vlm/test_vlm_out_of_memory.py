"""A batch that memory does not hold is run in parts, with the same results and nothing kept."""

import gc
import weakref

import numpy as np
import pytest
import torch

from vrp.errors import InputError
from vrp.vlm.answer_distribution import sample_answers
from vrp.vlm.decode import AttentionMask, CaptureSpec, prepare, run_batch
from vrp.vlm.out_of_memory import ItemTooLargeError, split_to_fit, unless_out_of_memory

FULL = CaptureSpec.full(("prompt_end", "answer_end"))
SAMPLING = {
    "k": 10, "temperature": 0.9, "top_p": 0.95, "seed": 3, "max_new_tokens": 3, "floor": 0.02,
}  # fmt: skip


@pytest.mark.slow
def test_halves_of_halves_in_the_order_of_the_items():
    ids = [f"i{n}" for n in range(7)]
    tried = []

    def run(rows):
        tried.append(ids[rows])
        if len(ids[rows]) > 2:
            raise torch.OutOfMemoryError
        return ids[rows]

    assert split_to_fit(ids, run) == ids
    assert tried == [ids, ids[:3], ids[:1], ids[1:3], ids[3:], ids[3:5], ids[5:]]


@pytest.mark.slow
def test_an_item_too_large_by_itself_is_one_line_with_a_remedy():
    def run(rows):
        if "big" in ids[rows]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return ids[rows]

    ids = ["a", "b", "big", "c"]
    with pytest.raises(InputError, match=r"item 'big' .* use a device with more memory") as caught:
        split_to_fit(ids, run)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_what_holds_more_than_the_item_splits_before_it_gives_up():
    """An inner run found one item too large while the outer one held the memory of four."""
    ids = ["a", "b", "c", "d"]

    def outer(rows):
        def inner(some):
            if len(ids[rows]) > 2:
                raise torch.OutOfMemoryError
            return ids[rows][some]

        return split_to_fit(ids[rows], inner)

    assert split_to_fit(ids, outer) == ids


@pytest.mark.slow
@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_other_words_for_it(message):
    def run():
        raise RuntimeError(message)

    assert unless_out_of_memory(run) is None


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), InputError("bad item")])
def test_other_errors_are_not_taken_for_it(error):
    def run(rows):
        raise error

    with pytest.raises(type(error), match=str(error)):
        split_to_fit(["a", "b"], run)


def test_nothing_of_the_failed_run_is_alive(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)  # by its references alone
    kept = []

    def run():
        held = torch.zeros(8)
        kept.append(weakref.ref(held))
        deeper(held)

    def deeper(tensor):
        raise torch.OutOfMemoryError

    assert unless_out_of_memory(run) is None
    assert [reference() for reference in kept] == [None]


@pytest.fixture
def small_memory(vlm, monkeypatch):
    """Called with a number of rows: forwards of more rows run out of memory from then on.

    Returns the rows of each forward that fitted; a second batch beside a first is refused.
    """
    monkeypatch.setattr(gc, "collect", lambda: 0)  # what holds a batch is to let go of it itself
    forward = vlm.model.forward
    batches: list[weakref.ref] = []
    sizes: list[int] = []

    def shrink(most):
        def small(*args, input_ids, **kwargs):
            if input_ids.shape[1] > 1:
                others = [b() for b in batches if b() is not None and b() is not input_ids]
                assert not others, "the batch that did not fit is still held"
                batches.append(weakref.ref(input_ids))
            if input_ids.shape[0] > most:
                raise torch.OutOfMemoryError("too much")
            sizes.append(input_ids.shape[0])
            return forward(*args, input_ids=input_ids, **kwargs)

        monkeypatch.setattr(vlm.model, "forward", small)
        return sizes

    return shrink


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 3])
def test_greedy_answers_and_captures(vlm, items, small_memory, most):
    whole = run_batch(vlm, items, FULL, max_new_tokens=4)
    sizes = small_memory(most)
    found = run_batch(vlm, items, FULL, max_new_tokens=4)
    assert max(sizes) == (1 if most == 1 else 2)  # of eight items
    for one, other in zip(whole, found, strict=True):
        assert (one.item_id, one.token_ids, one.flags) == (
            other.item_id, other.token_ids, other.flags,
        )  # fmt: skip
        np.testing.assert_allclose(one.head_rows, other.head_rows, atol=1e-5)
        np.testing.assert_allclose(one.residual_update, other.residual_update, rtol=1e-4)
        for position, hidden in one.hidden.items():
            np.testing.assert_allclose(hidden, other.hidden[position], atol=2e-5)


def test_what_is_hidden_is_split_with_its_items(vlm, items, small_memory):
    grids = prepare(vlm, items).grids
    keep = [np.arange(grid.n_tokens) % (2 + place) > 0 for place, grid in enumerate(grids)]
    whole = run_batch(vlm, items, max_new_tokens=4, mask=AttentionMask(keep))
    small_memory(3)
    found = run_batch(vlm, items, max_new_tokens=4, mask=AttentionMask(keep))
    for one, other in zip(whole, found, strict=True):
        assert one.token_ids == other.token_ids
        np.testing.assert_allclose(one.token_logprobs, other.token_logprobs, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 2, 5])
def test_samples_and_their_distribution(vlm, items, small_memory, most):
    """Fewer rows than one item's tree has: its answers are decoded in parts."""
    whole = sample_answers(vlm, items, **SAMPLING)
    n_prefixes = {len({tokens[:2] for tokens in item.token_ids}) for item in whole}
    assert max(n_prefixes) > 5
    sizes = small_memory(most)
    found = sample_answers(vlm, items, **SAMPLING)
    assert max(sizes) <= most
    for one, other in zip(whole, found, strict=True):
        assert one[:3] == other[:3]
        assert one.distribution.unresolved == pytest.approx(other.distribution.unresolved, abs=1e-6)
        first, second = (
            sorted(zip(*result.distribution[:2], strict=True)) for result in (one, other)
        )
        assert [answer for answer, _ in first] == [answer for answer, _ in second]
        assert [p for _, p in first] == pytest.approx([p for _, p in second], abs=1e-6)


def test_a_batch_that_was_prepared_before(vlm, items, small_memory):
    whole = run_batch(vlm, items, max_new_tokens=3), sample_answers(vlm, items, **SAMPLING)
    small_memory(8)  # enough for the prefill of all, but not for the tree
    prepared = prepare(vlm, items)
    assert [c.token_ids for c in run_batch(vlm, prepared, max_new_tokens=3)] == [
        c.token_ids for c in whole[0]
    ]
    del prepared
    found = sample_answers(vlm, prepare(vlm, items[:1]), **SAMPLING)
    assert found[0].token_ids == whole[1][0].token_ids


def test_one_item_that_does_not_fit_is_named(vlm, items, small_memory):
    small_memory(0)
    with pytest.raises(ItemTooLargeError, match="item-0"):
        run_batch(vlm, items, max_new_tokens=2)
    with pytest.raises(ItemTooLargeError, match="item-0"):
        sample_answers(vlm, items, **SAMPLING)
