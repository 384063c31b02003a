"""The prompts of one image share a prefill up to the image's last token; nothing else changes."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from vrp.vlm.batched_edits import Trunk
from vrp.vlm.batching import GivenAnswer, VlmInput
from vrp.vlm.decode import CaptureSpec, prepare, run_batch, sample_answers
from vrp.vlm.model import VLM
from vrp.vlm.residual_edits import Edit, HeadBypass, MlpBypass, NeuronEdit, Shift

# Of a row's size: the largest magnitude in it, at least 1, as logits have.
CLOSE = 1e-5


@pytest.fixture
def apart(vlm, monkeypatch):
    """Makes each item run its whole prompt."""
    return lambda: monkeypatch.setattr(vlm.family, "shares_prefixes", lambda model: False)


def n_prompt_tokens_run(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows × columns of each forward of more than one column, as they come."""
    found: list[int] = []
    forward = vlm.model.forward

    def counting(*args, input_ids, **kwargs):
        if input_ids.shape[1] > 1:
            found.append(input_ids.numel())
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(vlm.model, "forward", counting)
    return found


def assert_close(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_close(ours[key], theirs[key])
    elif isinstance(ours, tuple) and hasattr(ours, "_fields"):
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other)
    elif isinstance(ours, float | np.ndarray):
        size = np.abs(np.nan_to_num(theirs)).max(initial=1e-30)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=CLOSE * max(size, 1.0))
    else:
        assert ours == theirs


def test_prefixes_are_found(vlm: VLM, items: Sequence[VlmInput]):
    prepared = prepare(vlm, items)
    if vlm.family.name == "paligemma":  # image tokens see the question
        assert prepared.shared is None
        return
    shared = prepared.shared
    keys = [item.image_key for item in items]
    assert [keys[i] for i in shared.items] == list(dict.fromkeys(keys))
    assert [keys[shared.items[place]] for place in shared.prefix_of] == keys
    is_image = prepared.input_ids == vlm.image_token_id
    assert not is_image[:, shared.n_columns :].any()
    # The prefix ends with the image, whatever its size.
    assert is_image[:, shared.n_columns - 1].all()
    for row, item in enumerate(items):
        own = prepared.input_ids[row][prepared.attention_mask[row].bool()].tolist()
        alone = prepare(vlm, [item])
        assert own == alone.input_ids[0].tolist()
        kept = prepared.positions.prompt[..., row, prepared.attention_mask[row].bool()]
        assert torch.equal(kept, alone.positions.prompt[..., 0, :])


def test_an_image_of_its_own_shares_nothing(vlm: VLM, items: Sequence[VlmInput]):
    one_each = list({item.image_key: item for item in items}.values())
    assert prepare(vlm, one_each).shared is None


def test_all_that_is_read_is_the_same(vlm: VLM, items: Sequence[VlmInput], apart):
    spec = CaptureSpec.full()
    ours = run_batch(vlm, items, spec, max_new_tokens=4)
    apart()
    assert prepare(vlm, items).shared is None
    for one, other in zip(ours, run_batch(vlm, items, spec, max_new_tokens=4), strict=True):
        assert_close(one._asdict(), other._asdict())


def test_samples_and_distributions_are_the_same(vlm: VLM, items: Sequence[VlmInput], apart):
    settings = {
        "k": 5, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 3, "seed": 1, "floor": 0.05,
    }  # fmt: skip
    ours = sample_answers(vlm, items, **settings)
    apart()
    for one, other in zip(ours, sample_answers(vlm, items, **settings), strict=True):
        assert one.token_ids == other.token_ids
        assert one.distribution.answers == other.distribution.answers
        np.testing.assert_allclose(
            one.distribution.probabilities, other.distribution.probabilities, atol=CLOSE
        )


def test_given_answers_are_scored_the_same(vlm: VLM, items: Sequence[VlmInput], apart):
    asked = [item._replace(given=GivenAnswer((7, 9, 11), (3, 4, 5))) for item in items]
    ours = run_batch(vlm, asked, max_new_tokens=2)
    apart()
    for one, other in zip(ours, run_batch(vlm, asked, max_new_tokens=2), strict=True):
        assert_close(one.given, other.given)


EDITS = [
    NeuronEdit(0, np.array([1, 5])), MlpBypass(1), MlpBypass(0), HeadBypass(1, 0),
    NeuronEdit(1, np.array([1, 5]), site="mlp"), Shift(0, np.linspace(-2, 2, 32)),
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_edits_start_above_a_shared_trunk(vlm: VLM, items: Sequence[VlmInput], apart, edit: Edit):
    prepared = prepare(vlm, items)
    trunk = Trunk(vlm, prepared, [edit])
    with trunk.under(edit):
        ours = run_batch(vlm, prepared, max_new_tokens=3, edits=[edit])
    apart()
    for one, other in zip(ours, run_batch(vlm, items, max_new_tokens=3, edits=[edit]), strict=True):
        assert one.token_ids == other.token_ids
        np.testing.assert_allclose(one.token_logprobs, other.token_logprobs, atol=CLOSE)


def test_an_image_is_run_once(vlm: VLM, items: Sequence[VlmInput], monkeypatch):
    """Eighteen questions on one image, as POPE asks, cost little more than one."""
    if vlm.family.name == "paligemma":
        pytest.skip("image tokens see the question")
    first = items[0]
    asked = [
        first._replace(item_id=f"q{i}", question=f"Is there a {'xyz'[i % 3]}{i} here?")
        for i in range(18)
    ]
    run = n_prompt_tokens_run(vlm, monkeypatch)
    run_batch(vlm, asked, max_new_tokens=1)
    prepared = prepare(vlm, asked)
    n_columns, (n_rows, n_all) = prepared.shared.n_columns, prepared.input_ids.shape
    assert run == [n_columns, n_rows * (n_all - n_columns)]


def test_items_of_one_image_with_different_tokens_hidden_share_nothing(
    vlm: VLM, items: Sequence[VlmInput], apart
):
    from vrp.vlm.image_edits import AttentionMask, EmbeddingReplacement

    random = np.random.default_rng(4)
    keep = [random.random(vlm.grid(item.image.size).n_tokens) < 0.7 for item in items]
    mask = AttentionMask(keep)
    replace = EmbeddingReplacement(keep, random.normal(size=vlm.d_model))
    ours = [
        run_batch(vlm, items, max_new_tokens=3, mask=mask),
        run_batch(vlm, items, max_new_tokens=3, replace=replace),
    ]
    apart()
    theirs = [
        run_batch(vlm, items, max_new_tokens=3, mask=mask),
        run_batch(vlm, items, max_new_tokens=3, replace=replace),
    ]
    for ours_of, theirs_of in zip(ours, theirs, strict=True):
        for one, other in zip(ours_of, theirs_of, strict=True):
            assert one.token_ids == other.token_ids
            np.testing.assert_allclose(one.token_logprobs, other.token_logprobs, atol=CLOSE)
