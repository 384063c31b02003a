"""The batch plan: limits kept, order of no account, images together."""

import random

import pytest

from vrp.errors import InputError
from vrp.vlm import batching
from vrp.vlm.batching import PlanEntry, plan_batches, plan_inputs
from vrp.vlm.decode import prepare


def _entries(n_items: int = 97) -> list[PlanEntry]:
    rng = random.Random(4)
    lengths = [rng.randrange(20, 120) for _ in range(n_items)]
    return [PlanEntry(f"q{i:03d}", length, f"img{i // 5}") for i, length in enumerate(lengths)]


def test_every_item_once_and_no_batch_too_large():
    entries = _entries()
    batches = plan_batches(entries, batch_size=8)
    assert sorted(i for batch in batches for i in batch) == sorted(e.item_id for e in entries)
    assert max(map(len, batches)) == 8
    assert len(batches) == 13  # 97 items, 8 a batch


def test_order_of_the_items_does_not_matter():
    entries = _entries()
    shuffled = random.Random(9).sample(entries, len(entries))
    assert plan_batches(entries, batch_size=8) == plan_batches(shuffled, batch_size=8)


def test_items_of_one_image_stay_together():
    entries = _entries(100)
    image = {e.item_id: e.image_key for e in entries}
    batches = plan_batches(entries, batch_size=20)
    encodings = sum(len({image[i] for i in batch}) for batch in batches)
    assert encodings == 20


def test_lengths_are_bucketed():
    entries = [PlanEntry(f"a{i}", 30 if i % 2 else 200) for i in range(16)]
    batches = plan_batches(entries, batch_size=8)
    assert [{int(i[1:]) % 2 for i in batch} for batch in batches] == [{1}, {0}]


def test_bad_plans_are_refused():
    entries = _entries(3)
    with pytest.raises(InputError, match="q001"):
        plan_batches([*entries, entries[1]], batch_size=2)
    with pytest.raises(InputError, match="batch_size"):
        plan_batches(entries, batch_size=0)
    assert plan_batches([], batch_size=2) == []


def test_planned_lengths_are_the_prepared_ones(vlm, items, monkeypatch):
    monkeypatch.setattr(batching, "_TOKENISED_AT_ONCE", 3)
    rows = [(i.item_id, i.question, i.image.size, i.image_key) for i in items]
    planned = plan_inputs(vlm, rows)
    assert [entry.n_tokens for entry in planned] == list(prepare(vlm, items).prompt_lengths)
    assert [entry.item_id for entry in planned] == [item.item_id for item in items]


def test_an_item_whose_question_holds_a_placeholder_is_named(vlm, items):
    mark = vlm.tokenizer.convert_ids_to_tokens(vlm.image_token_id)
    rows = [(item.item_id, item.question, item.image.size, "") for item in items]
    rows[1] = (rows[1][0], f"What is {mark}?", *rows[1][2:])
    with pytest.raises(InputError, match=f"^item '{rows[1][0]}': .* holds 2 image placeholders"):
        plan_inputs(vlm, rows)
