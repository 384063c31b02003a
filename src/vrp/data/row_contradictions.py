"""Whatever a row repeats of the question that it is paired with is compared, under any name."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NoReturn

from vrp.data.answer_fields import (
    as_answers,
    as_id,
    as_yes_no,
    is_of_the_model,
    looks_like_image,
    may_be_truth,
    may_place_image,
)
from vrp.data.answer_rows import AnswerTable, Column
from vrp.data.item import YES_NO
from vrp.data.json_input import printable
from vrp.data.question_index import Questions, Words, as_text
from vrp.data.scoring import normalise_vqa, parse_pope_strict
from vrp.errors import InputError

_FEW_WORDS = 3
"""Shorter questions may be part of any sentence."""
_SHORT = 40
_ENOUGH = 10
"""In fewer rows, as many 1 as labels of yes may be chance."""
_IMAGE_NAME = re.compile(r"(?!<|data:).{1,300}$", re.DOTALL)
_SHARE = 4
"""A field of which more than one value in so many holds its question is there to hold it. (Half of
a POPE split's questions are those of the other splits.)"""

_SENTENCES = re.compile(r".*[.!?:>\n]\s*", re.DOTALL)
_ROLES = frozenset({
    "user", "human", "question", "q", "image", "prompt", "instruction", "system", "input", "query",
    "request", "img", "s", "inst",
})  # fmt: skip
"""Words that may stand before a question."""

Verdicts = dict[int, bool | None]
"""Row → whether it repeats what its question has; None: it repeats nothing that is known."""


class Comparison:
    """Compares the fields of paired rows with their questions.

    Args:
        table, questions: rows of an answer file, and what was asked.
        paired: row → the question that it answers, and its namesakes in other splits.
        answers, answer: row → the text that is scored; the field that holds it.
        ids: the questions that rows may name by an id, and row → those.
        by_id: whether rows do name them by an id.
    """

    def __init__(
        self,
        table: AnswerTable,
        questions: Questions,
        paired: Sequence[Sequence[int]],
        answers: Sequence[str],
        *,
        answer: Column,
        ids: tuple[Questions, Sequence[Sequence[int]]],
        by_id: bool,
    ) -> None:
        self._table, self._known, self._images = table, questions.known, questions.images
        self._asked = [questions.asked[of_row[0]] for of_row in paired]
        self._words = [questions.words[of_row[0]] for of_row in paired]
        self._answers, self._answer, self._ids, self._by_id = answers, answer, ids, by_id
        self.compared: dict[str, set[int]] = {"question": set(), "image": set(), "label": set()}

    def run(self) -> dict[str, int]:
        """Return what was compared → in how many rows.

        Raises InputError naming the row and both values where a row contradicts its question.
        """
        for column in self._table.columns.values():
            self._compare_ids(column)
            if column.path == self._answer.path:
                self._compare_echoes(column)
                continue
            if column.names("label"):
                self._compare_labels(column)
            self._compare_images(column)
            if is_of_the_model(column.name) and column.name not in ("answer", "text"):
                self._compare_echoes(column)
                if may_be_truth(column.name):
                    self._compare_yes_no(column, is_label=True)
            else:
                self._compare_questions(column)
                self._compare_parts(column)
                self._compare_yes_no(column)
        return {what: len(rows) for what, rows in self.compared.items()}

    def _compare_ids(self, column: Column) -> None:
        """A field of ids, and one that is the question's id in most rows, is it in all."""
        questions, paired = self._ids
        same = {
            row: bool(set(questions.with_id(value)) & set(paired[row]))
            for row, value in column.values.items()
        }
        sure = self._by_id and column.names("id")
        other = column.path == self._answer.path or column.names("image") or column.names("label")
        if sure or (not other and 2 * sum(same.values()) > len(same)):
            for row, fits in same.items():
                if not fits:
                    self._refuse(row, column, questions.asked[paired[row][0]].question_id)

    def _compare_labels(self, column: Column) -> None:
        for row, value in column.values.items():
            asked = self._asked[row]
            answers = as_answers(value)
            if asked.label is not None:
                said = {as_yes_no(answer, coded=True) for answer in answers}
                if len(said) == 1 and None not in said:
                    self._require_agreement(
                        "label", row, column, asked.label, same=said == {asked.label}
                    )
            elif asked.truths and answers:
                given = {normalise_vqa(as_id(answer) or str(answer)) for answer in answers}
                self._require_agreement(
                    "label", row, column, " or ".join(sorted(asked.truths)),
                    same=bool(given & asked.truths),
                )  # fmt: skip

    def _compare_yes_no(self, column: Column, *, is_label: bool = False) -> None:
        """A field of yes and no holds the labels, or else what the answers were taken for.

        One of 1 and 0 may hold anything: it is taken for the labels where it has as many 1 as they
        have yes, and tells neither what the answers were taken for nor whether they are right.
        """
        said = {row: as_yes_no(value, coded=False) for row, value in column.values.items()}
        if coded := None in said.values():
            if not is_label and (column.names("id") or column.names("number")):
                return
            said = {row: as_yes_no(value, coded=True) for row, value in column.values.items()}
        labels = {row: self._asked[row].label for row in said}
        if None in said.values() or None in labels.values() or len(set(said.values())) < 2:
            return
        if is_label or self._may_hold_labels(said, labels, coded=coded):
            for row, label in labels.items():
                self._require_agreement("label", row, column, str(label), same=said[row] == label)

    def _may_hold_labels(
        self, said: Mapping[int, str | None], labels: Mapping[int, str | None], *, coded: bool
    ) -> bool:
        taken = {row: parse_pope_strict(self._answers[row]) for row in said}
        if taken == said or not coded:
            return taken != said
        right = {row: "yes" if taken[row] == label else "no" for row, label in labels.items()}
        n_yes = [Counter(words.values())["yes"] for words in (said, labels)]
        return len(said) >= _ENOUGH and said != right and n_yes[0] == n_yes[1]

    def _compare_images(self, column: Column) -> None:
        known = sum((as_id(value) or "") in self._images for value in column.values.values())
        # Numbers of images, under whatever name: ids of questions are hardly ever among them.
        named = column.names("image") or (2 * known > len(column.values) and not column.names("id"))
        looks = False
        verdicts: Verdicts = {}
        for row, value in column.values.items():
            name = (as_id(value) or "") if named else value
            image = self._asked[row].image
            if not isinstance(name, str) or not image or not _IMAGE_NAME.match(name):
                continue
            looks = looks or looks_like_image(name)
            if named or looks_like_image(name):
                same = self._images.same(name, image)
                verdicts[row] = same or (False if name in self._images else None)
        named = named or True in verdicts.values() or may_place_image(column.name)
        self._settle("image", column, verdicts, named=named, may_be_setting=not looks)

    def _compare_questions(self, column: Column) -> None:
        texts = {r: v for r, v in column.values.items() if isinstance(v, str) and self._words[r]}
        found = {row: self._known.within(text) for row, text in texts.items()}
        # What stands in every row, such as an example before the question, is part of the prompt.
        of_prompt = (
            frozenset.intersection(*found.values())
            if len({self._words[row] for row in texts}) > 1
            else frozenset()
        )
        verdicts: Verdicts = {}
        for row, within in found.items():
            own = self._words[row]
            others = any(len(words) >= _FEW_WORDS for words in within - of_prompt - {own})
            verdicts[row] = False if others else own in within or None
        like = all(self._known.is_like(text) for text in texts.values())
        named = (
            like
            or column.names("question")
            or any(as_text(text).words in self._known for text in texts.values())
            or _SHARE * sum(verdict is True for verdict in verdicts.values()) > len(verdicts)
        )
        self._settle("question", column, verdicts, named=named, may_be_setting=not like)

    def _compare_parts(self, column: Column) -> None:
        """A field that names the object that POPE asks for in many rows does so in all.

        (What is within other questions may be their answer.)
        """
        inside = {
            row: _within(as_text(text).words, self._words[row])
            for row, text in column.values.items()
            if isinstance(text, str) and len(text) <= _SHORT and self._asked[row].label
        }
        several = len({column.values[row] for row in inside}) > 2
        if several and _SHARE * sum(inside.values()) > len(inside):
            for row in (row for row, same in inside.items() if not same):
                self._refuse(row, column, self._asked[row].text)

    def _compare_echoes(self, column: Column) -> None:
        """Where what a model said opens with what it was asked, that is its question.

        It may go on to ask others, behind its answer.
        """
        texts = {row: v for row, v in column.values.items() if isinstance(v, str)}
        same = {row: self._words[row] in self._known.within(text) for row, text in texts.items()}
        opening = _shared_start(list(texts.values()))
        asked = {
            row: same[row] or self._known.opens(text[opening:], but=_ROLES)
            for row, text in texts.items()
        }
        if _SHARE * sum(asked.values()) > len(asked):
            for row, agrees in same.items():
                self._require_agreement("question", row, column, self._asked[row].text, same=agrees)

    def _settle(
        self, what: str, column: Column, verdicts: Verdicts, *, named: bool, may_be_setting: bool
    ) -> None:
        """Take fields that fit, refuse those that name another question or image (False), and, of
        a field that is there to name it, those that name none that is known (None).

        The same words in all rows may be an instruction or a setting.
        """
        same_everywhere = len(verdicts) > 1 and len({column.values[row] for row in verdicts}) == 1
        if may_be_setting and same_everywhere and set(verdicts.values()) == {None}:
            return
        for row, verdict in verdicts.items():
            if verdict is not None or named:
                asked = self._asked[row]
                has = asked.text if what == "question" else asked.image
                self._require_agreement(what, row, column, has, same=bool(verdict))

    def _require_agreement(
        self, what: str, row: int, column: Column, has: str, *, same: bool
    ) -> None:
        if not same:
            self._refuse(row, column, has)
        self.compared[what].add(row)

    def _refuse(self, row: int, column: Column, has: str) -> NoReturn:
        asked = self._asked[row]
        raise InputError(
            f"{self._table.where(row)}: key {column.path!r} is "
            f"{printable(repr(column.values[row]))}, but {asked.name} of "
            f"{asked.split or 'the questions'} has {printable(repr(has))}; give the question file "
            "that was answered, or remove the key if it is about something else"
        )


def _shared_start(texts: Sequence[str]) -> int:
    """Length of the whole sentences and lines that open all texts, such as a system prompt."""
    if len(set(texts)) < 2:
        return 0
    first, last = min(texts), max(texts)  # what these two share, all share
    pairs = enumerate(zip(first, last, strict=False))
    n_same = next((place for place, (a, b) in pairs if a != b), len(first))
    ended = _SENTENCES.match(first[:n_same])
    # All answers may be the same, too.
    is_answer = as_text(first[:n_same]).words[:1] in {(word,) for word in YES_NO}
    return ended.end() if ended and not is_answer else 0


def _within(part: Words, words: Words) -> bool:
    """Whether words stand within a question, and do not just open it, as its type does."""
    starts = range(1, len(words) - len(part) + 1)
    return bool(part) and any(words[start : start + len(part)] == part for start in starts)
