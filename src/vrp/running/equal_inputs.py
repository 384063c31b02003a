"""Items that are the same input of a model: one is run, and all have its result.

Blank images of one size are the same image: of the demo's 3,090 items, 977 to 1,389 are run.
"""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from vrp.vlm.batching import GivenAnswer
    from vrp.vlm.decode import ItemCapture

MOST_ALIKE = 16
"""Items that one run serves at most: a batch's rows are held in memory."""


class SharedRun(NamedTuple):
    """What is run once for several items."""

    scored: "GivenAnswer"
    """What is scored under the prompt."""
    item_ids: tuple[str, ...]
    """The items that it serves, the one that is run first."""


def alike(
    inputs: Mapping[str, Hashable], given: "Mapping[str, GivenAnswer]", *, most: int = MOST_ALIKE
) -> dict[str, SharedRun]:
    """Return the items to run, each with the items that it serves.

    Items are alike where their input and the tokens of their given answer are equal. Which first
    tokens are scored may differ: those of all items are. The result depends on the set of items,
    never on their order.

    Args:
        inputs: item id → what the model is shown and asked.
        given: item id → the answer that is scored under the prompt.
        most: items that one run serves at most.
    """
    found: dict[Hashable, list[str]] = {}
    for item_id in sorted(inputs):
        found.setdefault((inputs[item_id], given[item_id].token_ids), []).append(item_id)
    parts = [
        tuple(same[start : start + most])
        for same in found.values()
        for start in range(0, len(same), most)
    ]
    return {ids[0]: SharedRun(_of_all([given[item_id] for item_id in ids]), ids) for ids in parts}


def _of_all(given: "list[GivenAnswer]") -> "GivenAnswer":
    first = {token for answer in given for token in answer.first_token_ids}
    return given[0]._replace(first_token_ids=tuple(sorted(first)))


def result_of(
    capture: "ItemCapture", scored: "GivenAnswer", item_id: str, own: "GivenAnswer"
) -> "ItemCapture":
    """Return the result of an item that another one was run for.

    Args:
        capture: of the item that was run.
        scored: what was scored of it.
        item_id: the item that it serves.
        own: its given answer.
    """
    if capture.given is None:
        raise ValueError("the run scored no given answer")
    places = np.searchsorted(scored.first_token_ids, own.first_token_ids)
    score = capture.given._replace(first=capture.given.first[places])
    return capture._replace(item_id=item_id, given=score)
