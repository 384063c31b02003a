"""Exact sampling: stratified, seeded, spread over images, independent of the order of files."""

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

from vrp.data.images import ElongatedImageError, ImageFacts
from vrp.data.item import EXISTENCE, YES_NO, Item, Question, Reading
from vrp.data.scoring import VqaRule, reachable_vqa_accuracy
from vrp.errors import InputError

Stratum = tuple[str, str]
"""Task and reference answer."""

UNREADABLE = "unreadable image"
ELONGATED = "elongated image"
UNREACHABLE = "no answer could be right"
_MORE_REACHABLE = (
    "; more answers count under scoring.vqa_rule: normalised and a lower scoring.vqa_threshold"
)
_RARE: Stratum = ("", "rare answers")


class SampleRow(NamedTuple):
    """A row of the sampling report; ``found`` = ``usable`` + everything in ``dropped``."""

    dataset: str
    split: str
    found: int
    """Rows of the file that belong to the split."""
    usable: int
    """Rows that could have been taken."""
    dropped: dict[str, int]
    """Reason → rows dropped for it."""
    taken: int
    """Items of the study."""
    labels: dict[str, int]
    """Yes and no → items taken, where these are the answers; else empty."""
    not_judged: int
    """Items taken that have no reference: their answers are neither right nor wrong."""
    unreadable: tuple[str, ...]
    """Message for each image that was drawn and could not be decoded."""
    elongated: tuple[str, ...]
    """Message for each image that was drawn and that not every model could be shown."""
    missing: tuple[str, ...]
    """Images that are asked about and not there, as the question file names them."""


class Sample(NamedTuple):
    """A sampled split."""

    items: tuple[Item, ...]
    """Items of one image side by side, images in seeded order."""
    report: SampleRow


def rank(seed: int, name: str) -> bytes:
    """A place in a random order that depends on the seed and the name alone (SHA-256)."""
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()


def sample_split(
    reading: Reading, count: int | None, seed: int, *, inspect: Callable[[str], ImageFacts]
) -> Sample:
    """Take exactly ``count`` questions of a split (None: all usable) and make them items.

    Strata: a split of yes/no questions is taken half and half as far as there are enough of each;
    any other in proportion to its reference answers, those too rare for one place pooled. Within
    a stratum the images used least so far come first, then SHA-256(seed, item_id). An image that
    ``inspect`` (``ImageIndex.inspect``) refuses gives its place to the next in line. The result
    depends on the questions and the seed alone, not on their order.
    Raises InputError naming split, asked and found where there are too few.
    """
    if count is not None and count < 0:
        raise InputError(f"{reading.dataset} {reading.split}: count {count} is below 0")
    wanted = len(reading.questions) if count is None else count
    require_enough(reading, wanted)
    draw = _Draw(seed, inspect)
    strata = _strata(reading.questions, wanted)
    quotas = _quotas(strata, wanted, seed)
    # Small strata choose first: large ones find another image that is used as little.
    left = [
        question
        for key in sorted(strata, key=lambda key: (len(strata[key]), key))
        for question in draw.take(strata[key], quotas[key])
    ]
    draw.take(left, wanted - len(draw.taken))
    lost = _lost(reading, draw.refused)
    usable = len(reading.questions) - sum(lost.values())
    if count is not None:
        _refuse_shortage(reading, wanted, usable, draw.refused)
    labels = Counter(q.reference for q, _ in draw.taken if q.task == EXISTENCE)
    messages = {
        reason: tuple(str(e) for _, e in sorted(draw.refused.items()) if _reason(e) == reason)
        for reason in (UNREADABLE, ELONGATED)
    }
    report = SampleRow(
        dataset=reading.dataset,
        split=reading.split,
        found=reading.found,
        usable=usable,
        dropped=reading.dropped | lost,
        taken=len(draw.taken),
        labels={word: labels[word] for word in YES_NO} if set(YES_NO) & set(labels) else {},
        not_judged=sum(question.reference is None for question, _ in draw.taken),
        unreadable=messages[UNREADABLE],
        elongated=messages[ELONGATED],
        missing=reading.missing,
    )
    return Sample(tuple(draw.items()), report)


def drop_unreachable(reading: Reading, *, rule: VqaRule, threshold: float) -> Reading:
    """Leave out questions to which no answer could be right: none reaches ``threshold``."""
    reachable = (
        question
        for question in reading.questions
        if question.reference is None
        or question.task == EXISTENCE
        or reachable_vqa_accuracy(question.answers, rule) >= threshold
    )
    return reading.keep(reachable, UNREACHABLE)


def require_enough(reading: Reading, wanted: int) -> None:
    """Refuse a split with fewer questions than wanted, whatever its images turn out to be.

    Raises:
        InputError: naming split, asked, found and what was dropped.
    """
    _refuse_shortage(reading, wanted, len(reading.questions), {})


def unite_groups(items: Sequence[Item]) -> list[Item]:
    """Give one group to all items that share an image *or* a named group, over all splits.

    The group's name is the smallest image digest in it: for an image that nothing else ties to
    another, its own.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for item in items:
        parent[root(f"named {item.group}")] = root(f"image {item.image_sha256}")
    smallest: dict[str, str] = {}
    for item in items:
        top = root(f"image {item.image_sha256}")
        smallest[top] = min(smallest.get(top, item.image_sha256), item.image_sha256)
    return [replace(item, group=smallest[root(f"image {item.image_sha256}")]) for item in items]


class _Draw:
    """Questions taken so far, how often each image was used, and which images were refused."""

    def __init__(self, seed: int, inspect: Callable[[str], ImageFacts]) -> None:
        self.taken: list[tuple[Question, ImageFacts]] = []
        self.refused: dict[str, InputError] = {}
        self._seed = seed
        self._inspect = inspect
        self._uses: Counter[str] = Counter()

    def take(self, questions: Sequence[Question], count: int) -> Sequence[Question]:
        """Take up to ``count``, least used images first; return the questions not taken."""
        if count == 0:  # ranking what is left over would double the work
            return questions
        heap = [
            (self._uses[question.image], rank(self._seed, question.item_id), i, question)
            for i, question in enumerate(questions)
        ]
        heapq.heapify(heap)
        goal = len(self.taken) + count
        while heap and len(self.taken) < goal:
            uses, place, i, question = heapq.heappop(heap)
            # Its image was used since it was put there: it waits behind those used less.
            if uses != self._uses[question.image]:
                heapq.heappush(heap, (self._uses[question.image], place, i, question))
            elif (facts := self._look(question.image)) is not None:
                self._uses[question.image] += 1
                self.taken.append((question, facts))
        return [question for *_, question in heap]

    def items(self) -> list[Item]:
        """The items taken: images in seeded order, an image's items side by side."""
        return sorted(
            (_item(question, facts) for question, facts in self.taken),
            key=lambda item: (rank(self._seed, item.image), rank(self._seed, item.item_id)),
        )

    def _look(self, image: str) -> ImageFacts | None:
        if image in self.refused:
            return None
        try:
            return self._inspect(image)
        except InputError as error:
            self.refused[image] = error
            return None


def _item(question: Question, facts: ImageFacts) -> Item:
    group = facts.sha256 if question.group is None else question.group
    known = {field.name: getattr(question, field.name) for field in fields(question)}
    sampled = {"item_id": question.item_id, "image_sha256": facts.sha256, "group": group}
    return Item(**(known | sampled))


def _strata(questions: Sequence[Question], wanted: int) -> dict[Stratum, list[Question]]:
    strata: dict[Stratum, list[Question]] = defaultdict(list)
    for question in questions:
        strata[question.task, question.reference or ""].append(question)
    if all(task == EXISTENCE for task, _ in strata):
        return dict(strata)
    rare = [key for key, rows in strata.items() if wanted * len(rows) < len(questions)]
    pooled = [question for key in rare for question in strata.pop(key)]
    return dict(strata) | ({_RARE: pooled} if pooled else {})


def _quotas(
    strata: Mapping[Stratum, Sequence[Question]], wanted: int, seed: int
) -> dict[Stratum, int]:
    sizes = {key: len(rows) for key, rows in strata.items()}
    tie_break = {key: rank(seed, f"stratum {key[0]} {key[1]}") for key in sizes}
    yes_no = all(task == EXISTENCE for task, _ in sizes)
    return (_equal_quotas if yes_no else _proportional_quotas)(sizes, wanted, tie_break)


def _equal_quotas(
    sizes: Mapping[Stratum, int], wanted: int, tie_break: Mapping[Stratum, bytes]
) -> dict[Stratum, int]:
    """Equal shares, each at most what there is; what a small stratum lacks goes to the others."""
    quotas = {}
    for done, key in enumerate(sorted(sizes, key=lambda key: (sizes[key], tie_break[key]))):
        quotas[key] = min(sizes[key], wanted // (len(sizes) - done))
        wanted -= quotas[key]
    return quotas


def _proportional_quotas(
    sizes: Mapping[Stratum, int], wanted: int, tie_break: Mapping[Stratum, bytes]
) -> dict[Stratum, int]:
    """Shares in proportion to size, rounded by largest remainder."""
    total = sum(sizes.values())
    if total == 0:
        return {}
    quotas = {key: wanted * size // total for key, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda key: (-(wanted * sizes[key] % total), tie_break[key]))
    for key in by_remainder[: wanted - sum(quotas.values())]:
        quotas[key] += 1
    return quotas


def _reason(error: InputError) -> str:
    return ELONGATED if isinstance(error, ElongatedImageError) else UNREADABLE


def _lost(reading: Reading, refused: Mapping[str, InputError]) -> dict[str, int]:
    """Reason → questions whose image was refused for it."""
    found = [refused[q.image] for q in reading.questions if q.image in refused]
    return dict(sorted(Counter(map(_reason, found)).items()))


def first_few(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return "; ".join(names[:3]) + more


def _refuse_shortage(
    reading: Reading, wanted: int, usable: int, refused: Mapping[str, InputError]
) -> None:
    if wanted <= usable:
        return
    dropped = reading.dropped | _lost(reading, refused)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
    images = (*reading.missing, *(str(refused[image]) for image in sorted(refused)))
    raise InputError(
        f"{reading.dataset} {reading.split}: asked for {wanted} items, found {reading.found}, "
        f"usable {usable}"
        + (f" (dropped: {reasons})" if reasons else "")
        + "; "
        + (f"lower the count to {usable} or add data" if usable else "add data")
        + (_MORE_REACHABLE if UNREACHABLE in dropped else "")
        + (f"; images to fix: {first_few(images)}" if images else "")
    )
