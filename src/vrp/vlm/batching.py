"""Items as the model sees them, and the plan of batches: a pure function of items and config."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from PIL import Image

from vrp.data.item import ImageSize
from vrp.errors import InputError
from vrp.vlm.model import VLM

# Lengths within one bucket differ by less than this, so little of a batch is padding.
_BUCKET_WIDTH = 16
_TOKENISED_AT_ONCE = 1024  # items


AnswerLimit = int | Mapping[str, int]
"""Longest answer in tokens: one number for all items, or one for each task."""


class GivenAnswer(NamedTuple):
    """What was answered elsewhere, to be scored under this prompt."""

    token_ids: tuple[int, ...]
    """The answer, without end-of-sequence."""
    first_token_ids: tuple[int, ...]
    """Tokens whose probability of being the first is read."""


class VlmInput(NamedTuple):
    """One question about one image."""

    item_id: str
    """Names the item; sampling noise derives from it."""
    image: Image.Image
    """The image, already decoded."""
    question: str
    """The bare question; the family adds its prompt."""
    task: str = ""
    """What the question asks for; the longest answer may depend on it."""
    truth_token_ids: tuple[int, ...] = ()
    """First tokens of every surface form of the reference, for the truth margin only."""
    image_key: str = ""
    """Items of a batch with the same key share one encoding; empty: the image object counts."""
    given: GivenAnswer | None = None
    """An answer whose probability is read, beside the answer that the model gives."""


class PlanEntry(NamedTuple):
    """What the plan needs to know of an item."""

    item_id: str
    """Names the item."""
    n_tokens: int
    """Prompt length, image tokens included."""
    image_key: str = ""
    """Items with the same key are kept together, so that their image is encoded once."""


def plan_inputs(vlm: VLM, items: Iterable[tuple[str, str, ImageSize, str]]) -> list[PlanEntry]:
    """Return plan entries of (item_id, question, image size, image key), without any pixels.

    Raises:
        InputError: naming the first item whose image the model cannot be shown, or whose question
            holds a placeholder of another image.
    """
    rows = list(items)
    entries = []
    for start in range(0, len(rows), _TOKENISED_AT_ONCE):
        part = rows[start : start + _TOKENISED_AT_ONCE]
        ids = _prompts(vlm, [(item_id, question) for item_id, question, _, _ in part])
        for (item_id, _, size, key), prompt in zip(part, ids, strict=True):
            try:
                n_tokens = len(prompt) - 1 + vlm.grid(size).n_tokens
            except InputError as error:
                raise InputError(f"item {item_id!r}: {error}") from None
            entries.append(PlanEntry(item_id, n_tokens, key))
    return entries


def _prompts(vlm: VLM, asked: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Token ids of the prompts of (item_id, question); an InputError names the item."""
    try:
        return vlm.family.prompt_token_ids([question for _, question in asked])
    except InputError as refusal:
        for item_id, question in asked:
            try:
                vlm.prompt_token_ids(question)
            except InputError as error:
                raise InputError(f"item {item_id!r}: {error}") from refusal
        raise


def longest_answer(max_new_tokens: AnswerLimit, item_id: str, task: str) -> int:
    """Return the most tokens that an item's answer may have.

    Raises:
        InputError: limits are by task, and the item's is not among them.
    """
    if isinstance(max_new_tokens, int):
        return max_new_tokens
    try:
        return max_new_tokens[task]
    except KeyError:
        raise InputError(
            f"item {item_id!r}: its task {task!r} has no longest answer; there is one for "
            f"{', '.join(sorted(max_new_tokens)) or 'no task'}"
        ) from None


def require_context(vlm: VLM, item_id: str, n_prompt_tokens: int, max_new_tokens: int) -> None:
    """Refuse a prompt that, with its answer, is longer than the model's context.

    Raises:
        InputError: naming the item and both lengths.
    """
    if n_prompt_tokens + max_new_tokens > vlm.max_positions:
        raise InputError(
            f"item {item_id!r}: a prompt of {n_prompt_tokens} tokens and an answer of "
            f"{max_new_tokens} exceed the model's context of {vlm.max_positions}; "
            "shorten the question, the answer or the image"
        )


def require_planned_contexts(
    vlm: VLM,
    items: Iterable[tuple[str, str, ImageSize, str]],
    tasks: Mapping[str, str],
    max_new_tokens: AnswerLimit,
) -> list[PlanEntry]:
    """Return the plan entries of items that leave their answers room in the context.

    Args:
        vlm: the model.
        items: as `plan_inputs` takes them.
        tasks: item id → what its question asks for.
        max_new_tokens: longest answer, for all items or by task.

    Raises:
        InputError: naming the first item that does not, and both lengths.
    """
    entries = plan_inputs(vlm, items)
    for entry in entries:
        longest = longest_answer(max_new_tokens, entry.item_id, tasks[entry.item_id])
        require_context(vlm, entry.item_id, entry.n_tokens, longest)
    return entries


def plan_batches(entries: Sequence[PlanEntry], *, batch_size: int) -> list[tuple[str, ...]]:
    """Return batches of item ids: similar lengths together, questions of one image together.

    The result depends on the set of entries and the batch size, never on the entries' order.

    Args:
        entries: the items.
        batch_size: most items of a batch.

    Raises:
        InputError: an item that appears twice, or a batch size below one.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1")
    ids = [entry.item_id for entry in entries]
    if len(set(ids)) != len(ids):
        doubled = next(item for item in sorted(ids) if ids.count(item) > 1)
        raise InputError(f"item {doubled!r} is planned twice; item ids must be unique")
    longest_of_image: dict[str, int] = {}
    for entry in entries:
        key = _group_key(entry)
        longest_of_image[key] = max(longest_of_image.get(key, 0), entry.n_tokens)

    def order(entry: PlanEntry) -> tuple[int, str, str]:
        key = _group_key(entry)
        return longest_of_image[key] // _BUCKET_WIDTH, key, entry.item_id

    ordered = [entry.item_id for entry in sorted(entries, key=order)]
    starts = range(0, len(ordered), batch_size)
    return [tuple(ordered[start : start + batch_size]) for start in starts]


def _group_key(entry: PlanEntry) -> str:
    # The prefixes keep an image key from meeting an item id.
    return f"image:{entry.image_key}" if entry.image_key else f"item:{entry.item_id}"
