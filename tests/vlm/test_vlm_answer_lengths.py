"""Every item is answered up to the limit of its own task, whoever shares its batch."""

import numpy as np
import pytest

from vrp.errors import InputError
from vrp.vlm.answer_distribution import sample_answers
from vrp.vlm.decode import CaptureSpec, ItemCapture, prepare, run_batch

FULL = CaptureSpec.full(("prompt_end", "answer_end"))
LIMITS = {"existence": 1, "counting": 2, "open": 4}
SAMPLING = {"k": 6, "temperature": 0.9, "top_p": 0.95, "seed": 11, "floor": 0.02}


@pytest.fixture
def asked(items):
    """Eight items of three tasks."""
    tasks = list(LIMITS)
    return [item._replace(task=tasks[place % 3]) for place, item in enumerate(items)]


def assert_equal(one: ItemCapture, other: ItemCapture) -> None:
    for field, a, b in zip(one._fields, one, other, strict=True):
        if isinstance(a, np.ndarray | float):
            np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4, err_msg=field)
        elif isinstance(a, dict):
            for key in a:
                np.testing.assert_allclose(a[key], b[key], atol=2e-5, err_msg=field)
        else:
            assert a == b, field


@pytest.mark.slow
@pytest.mark.parametrize("spec", [FULL, CaptureSpec(attention=True)], ids=["full", "rows"])
def test_a_mixed_batch_equals_separate_runs(vlm, asked, spec):
    mixed = run_batch(vlm, asked, spec, max_new_tokens=LIMITS)
    assert {len(capture.token_ids) for capture in mixed} >= {1, 2, 4}
    for item, capture in zip(asked, mixed, strict=True):
        [alone] = run_batch(vlm, [item], spec, max_new_tokens=LIMITS[item.task])
        assert_equal(capture, alone)


def test_a_shorter_limit_cuts_the_answer_and_says_so(vlm, asked):
    long = run_batch(vlm, asked, max_new_tokens=4)
    assert all(len(capture.token_ids) == 4 for capture in long)  # none ends by itself
    short = run_batch(vlm, asked, max_new_tokens=LIMITS)
    for item, whole, cut in zip(asked, long, short, strict=True):
        assert cut.token_ids == whole.token_ids[: LIMITS[item.task]]
        assert (cut.finished, cut.flags) == (False, ("truncated",))


def test_samples_and_distribution_of_a_mixed_batch(vlm, asked):
    mixed = sample_answers(vlm, asked, max_new_tokens=LIMITS, **SAMPLING)
    for item, found in zip(asked, mixed, strict=True):
        limit = LIMITS[item.task]
        assert max(map(len, found.token_ids)) == limit
        [alone] = sample_answers(vlm, [item], max_new_tokens=limit, **SAMPLING)
        assert found[:3] == alone[:3]
        assert found.distribution.probabilities == pytest.approx(
            alone.distribution.probabilities, abs=1e-6
        )
        total = sum(found.distribution.probabilities) + found.distribution.unresolved
        assert total == pytest.approx(1, abs=1e-12)


def test_what_is_long_enough_is_decoded_no_further(vlm, asked, monkeypatch):
    rows = []
    forward = vlm.model.forward

    def counting(*args, input_ids, **kwargs):
        rows.append(tuple(input_ids.shape))
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(vlm.model, "forward", counting)
    run_batch(vlm, asked, max_new_tokens=LIMITS)  # 3 existence, 3 counting, 2 open
    assert [shape for shape in rows if shape[1] == 1] == [(5, 1), (2, 1), (2, 1)]


def test_each_prompt_has_to_leave_room_for_its_own_answer(vlm, asked):
    item = asked[0]  # existence
    [n] = prepare(vlm, [item]).prompt_lengths
    room = {"existence": vlm.max_positions - n, "open": vlm.max_positions}
    prepare(vlm, [item], max_new_tokens=room)
    with pytest.raises(InputError, match=f"{item.item_id}.*context"):
        prepare(vlm, [item._replace(task="open")], max_new_tokens=room)


def test_limits_that_cannot_be_are_refused(vlm, asked):
    with pytest.raises(InputError, match=r"'item-0': its task 'existence'.*counting, open"):
        run_batch(vlm, asked, max_new_tokens={"open": 4, "counting": 2})
    with pytest.raises(InputError, match="max_new_tokens is 0"):
        run_batch(vlm, asked, max_new_tokens={**LIMITS, "open": 0})
    for limits in ({**LIMITS, "open": 0}, {}):
        with pytest.raises(InputError, match="max_new_tokens"):
            sample_answers(vlm, asked, max_new_tokens=limits, **SAMPLING)
