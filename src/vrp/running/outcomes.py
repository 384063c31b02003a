"""What an intervention did to an answer, compared with the baseline answer."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrp.config.sample import ScoringConfig
from vrp.data.item import Item
from vrp.data.scoring import normalise_answer
from vrp.errors import InputError
from vrp.running.captured_rows import scored
from vrp.tables.answers import ANSWERS
from vrp.tables.parquet_files import read_table

if TYPE_CHECKING:
    from vrp.vlm.decode import ItemCapture


def read_baseline_answers(paths: Sequence[Path], item_ids: Collection[str]) -> dict[str, str]:
    """Return the greedy answer of each item without any intervention.

    Raises:
        InputError: a table is missing or malformed, or an item has no answer.
    """
    table = read_table(paths, ANSWERS, columns=["answer"])
    answers = dict(table.select("item_id", "answer").iter_rows())
    for item_id in item_ids:
        if item_id not in answers:
            raise InputError(
                f"{paths[0]}: has no answer to item {item_id!r}; give all answers shards of this "
                "study, or rerun `vrp extract`"
            )
    return answers


def outcome(
    item: Item, capture: "ItemCapture", baseline: Mapping[str, str], scoring: ScoringConfig
) -> dict[str, Any]:
    """Return the columns that the mask and ablate tables share.

    Args:
        item: the item.
        capture: its answer under the intervention.
        baseline: greedy answers without any, by item id.
        scoring: when an answer is correct.
    """
    score = scored(item, capture.answer, scoring)
    before = normalise_answer(item.task, baseline[item.item_id])
    return {
        "item_id": item.item_id,
        "answer": capture.answer,
        "parsed": score.parsed,
        "score": score.score,
        "correct": score.correct,
        "changed": normalise_answer(item.task, capture.answer) != before,
        "decision_margin": capture.decision_margin,
    }
