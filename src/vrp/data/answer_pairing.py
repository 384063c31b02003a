"""Which row of an answer file answers which question: never by a guess.

Ids pair rows and questions; where the ids are others than the questions', image and question
together do; where rows name neither, their order does. What else a row repeats of its question is
compared by `vrp.data.row_contradictions`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from vrp.data.answer_fields import Scalar, as_id, is_of_the_model, looks_like_image
from vrp.data.answer_rows import AnswerTable, Column
from vrp.data.json_input import printable
from vrp.data.question_index import Asked, Questions
from vrp.data.split_names import named_splits
from vrp.errors import InputError

LINE_ORDER = "line order"
IMAGE_AND_QUESTION = "image and question"
_OF_THE_RUN = re.compile("answer|response|request|model|run|hash|uuid|session|job|chat|completion")
"""Ids that tell calls of a model apart, not questions."""


class Candidates(NamedTuple):
    """For each row the questions that it may answer, and what says so."""

    questions: list[list[int]]
    by: str
    """``line order``, ``image and question``, or the key that holds the ids."""


class ForeignIdError(InputError):
    """An id that is none of the questions'."""


class Pairing:
    """Finds the questions that the rows of an answer file may answer.

    Raises InputError where a row names a split that is not asked, unless rows of ``others`` belong
    there, too.
    """

    def __init__(self, table: AnswerTable, questions: Questions, *, others: bool = False) -> None:
        self._table, self._questions = table, questions
        self._splits = named_splits(table, questions.sources, others=others)

    def candidates(self) -> Candidates:
        """The questions that each row may answer: one, or the same one of several splits.

        Raises InputError where ids are not the questions', where rows do not say their split, and
        where only the order of lines is left but their number or numbering does not fit.
        """
        columns = [column for column in self._table.columns.values() if column.names("id")]
        # The id of the row itself stands before one of an object inside it.
        columns.sort(key=lambda column: column.path.count("."))
        try:
            if columns:
                return self._by_id(columns)
        except ForeignIdError:
            if not all(self.about):
                raise
        if all(self.about):
            return Candidates(self.about, IMAGE_AND_QUESTION)
        return self._by_number() or self._by_order()

    @cached_property
    def about(self) -> list[list[int]]:
        """For each row the questions with its image and text, one in a split; none where it repeats
        none, or several.
        """
        showing = self._image_columns()
        found = []
        for row in self._table.span:
            texts = self._asked_in(row)
            images = {as_id(column.values[row]) or "" for column in showing if row in column.values}
            about = [set(self._questions.about(image, texts)) for image in images] or [set()]
            # Two fields that name different images leave no question: the comparison reports it.
            ids = self._of_split(row, set.intersection(*about))
            one = len({self._questions.words[i] for i in ids}) == 1
            found.append(sorted(ids) if one else [])
        return found

    @cached_property
    def _asking(self) -> list[Column]:
        """Fields that repeat the question in some row, under any name that is not the answer's."""
        within = self._questions.known.within
        return [
            column
            for column in self._table.columns.values()
            if (column.names("question") or column.name == "text")
            or not is_of_the_model(column.name)
            if any(isinstance(v, str) and within(v) for v in column.values.values())
        ]

    def _asked_in(self, row: int) -> list[str]:
        values = (column.values.get(row) for column in self._asking)
        return [value for value in values if isinstance(value, str)]

    def _image_columns(self) -> list[Column]:
        """Fields that repeat an image in some row, under an image's name or by their content;
        without any, ids of which each is an image's, as LLaVA writes TextVQA's.
        """

        def known(value: Scalar) -> bool:
            return (as_id(value) or "") in self._questions.images

        columns = self._table.columns.values()
        return [
            column
            for column in columns
            if any(
                (column.names("image") or (isinstance(v, str) and looks_like_image(v))) and known(v)
                for v in column.values.values()
            )
        ] or [c for c in columns if c.names("id") and all(map(known, c.values.values()))]

    def _of_split(self, row: int, ids: Iterable[int]) -> list[int]:
        return [i for i in ids if self._questions.asked[i].split in self._splits[row]]

    def _by_id(self, columns: Sequence[Column]) -> Candidates:
        """The questions with each row's id. Raises ForeignIdError at the first id that is none."""
        found = []
        for row in self._table.span:
            column = next((column for column in columns if row in column.values), None)
            if column is None:
                raise InputError(
                    f"{self._table.where(row)}: key {columns[0].path!r} is missing or null; "
                    "expected the question's id, as in other rows"
                )
            value = column.values[row]
            ids = self._questions.with_id(value)
            if not ids:
                raise self._foreign(row, column.path, value)
            found.append(self._of_split(row, ids))
            if not found[-1]:
                raise InputError(
                    f"{self._table.where(row)}: {column.path} {printable(str(value))} is not among "
                    f"the questions of {' or '.join(sorted(self._splits[row]))}, the row's split; "
                    "give the question file that was answered"
                )
        self._refuse_other_numbering(columns[0], found)
        return Candidates([self._narrowed(*of_row) for of_row in enumerate(found)], columns[0].path)

    def _foreign(self, row: int, key: str, value: Scalar) -> ForeignIdError:
        known = as_id(value)
        if known is None:
            what = (
                f"key {key!r} is {printable(repr(value))}; expected an integer or a non-empty "
                "string"
            )
        elif known in self._questions.unanswerable:
            what = (
                f"{key} {printable(known)} is among the questions, but has no annotation; give the "
                "annotations of all that was answered, or cut the answers"
            )
        else:
            what = (
                f"{printable(key)} {printable(known)} is not among the questions; give the "
                "question file that was answered (where its ids are others than the labelled "
                "file's, give both)"
            )
        return ForeignIdError(f"{self._table.where(row)}: {what}")

    def _narrowed(self, row: int, ids: list[int]) -> list[int]:
        """Of questions that share an id, which every split's may, those that the row repeats."""
        words = self._questions.words
        asked = [self._questions.asked[i] for i in ids]
        several_splits = len({question.split for question in asked}) > 1
        one = len({(words[i], self._questions.asked[i].image) for i in ids}) == 1
        if not several_splits and one:
            return ids
        if about := set(self.about[row]) & set(ids):
            return sorted(about)
        within = [self._questions.known.within(text) for text in self._asked_in(row)]
        fitting = [i for i in ids if any(words[i] in found for found in within)]
        several = len({(words[i], self._questions.asked[i].image) for i in fitting}) > 1
        if several or not any(within):
            if several_splits:
                raise no_split(self._table.where(row), self._questions)
            raise InputError(
                f"{self._table.where(row)}: {asked[0].name} is that of several questions "
                f"of {asked[0].source}, and the row does not repeat which; give the prompt or the "
                "question in each row"
            )
        return fitting or ids[:1]  # the comparison says what the row asks instead

    def _by_number(self) -> Candidates | None:
        """By a field that may hold the ids, where all values are ids and no two are equal."""
        found = self._numberings()
        named = {c.path: ids for c, ids in found if c.names("number")}
        if len({str(ids) for ids in named.values()}) > 1:
            raise InputError(
                f"{self._table.path}: keys {' and '.join(map(repr, named))} both hold the "
                "questions' ids, and differ; rename the right one question_id"
            )
        for path, ids in named.items():
            return Candidates(ids, path)
        for column, ids in found:
            if ids != [[i] for i in range(len(ids))]:
                raise InputError(
                    f"{self._table.path}: key {column.path!r} holds the questions' ids in another "
                    "order than the lines; if it is the id, rename it question_id, else remove it"
                )
        return None

    def _numberings(self) -> list[tuple[Column, list[list[int]]]]:
        """Fields of which all values are ids of questions, each of another: with these by row."""
        found = []
        for column in self._table.columns.values():
            if len(column.values) == len(self._table.rows) and not column.names("image"):
                with_id = self._questions.with_id
                ids = [self._of_split(r, with_id(column.values[r])) for r in self._table.span]
                if all(len(one) == 1 for one in ids) and len({one[0] for one in ids}) == len(ids):
                    found.append((column, ids))
        return found

    def _refuse_other_numbering(self, key: Column, found: list[list[int]]) -> None:
        """Raise InputError where another field may hold the ids as well, and nothing decides."""
        for column, ids in self._numberings():
            if column.names("number") and ids != found and not all(self.about):
                row = next(row for row in self._table.span if ids[row] != found[row])
                asked = self._questions.asked
                raise InputError(
                    f"{self._table.where(row)}: key {key.path!r} names "
                    f"{asked[found[row][0]].name}, but {column.path!r} "
                    f"{asked[ids[row][0]].name}; remove the key that is not the id"
                )

    def _by_order(self) -> Candidates:
        """Rows in the order of the questions: of one file, or of the split that each row names."""
        self._refuse_shuffled()
        sources = self._questions.sources
        several = len(set(sources.values())) > 1 or any(len(s) < len(sources) for s in self._splits)
        asked: dict[str, list[int]] = defaultdict(list)
        answered: dict[str, list[int]] = defaultdict(list)
        for place, question in enumerate(self._questions.asked):
            asked[question.split if several else ""].append(place)
        for row, splits in enumerate(self._splits):
            if several and len(splits) > 1:
                raise no_split(self._table.where(row), self._questions)
            answered[min(splits) if several else ""].append(row)
        found: dict[int, int] = {}
        for split, places in asked.items():
            if len(answered[split]) != len(places):
                raise InputError(
                    f"{self._table.path}: {len(answered[split])} answers without question_id for "
                    f"{len(places)} questions; add a question_id to each"
                )
            found |= zip(answered[split], places, strict=True)
        return Candidates([[found[row]] for row in self._table.span], LINE_ORDER)

    def _refuse_shuffled(self) -> None:
        """Raise InputError where a field numbers or names the lines of a split in another order."""
        lines: dict[frozenset[str], list[int]] = defaultdict(list)
        for row, splits in enumerate(self._splits):
            lines[frozenset(splits)].append(row)
        for column in self._table.columns.values():
            for rows in lines.values():
                if all(row in column.values for row in rows):
                    values = [column.values[row] for row in rows]
                    _refuse_numbering(self._table.path, column, values)


def no_split(where: str, questions: Questions) -> InputError:
    """What to say of a row of one file for several splits that names none of them."""
    return InputError(
        f"{where}: one answer file for {len(questions.sources)} splits, and no key 'split' or "
        f"'category' says which ({', '.join(questions.sources)}); add it or give a file for each"
    )


def _refuse_numbering(path: Path, column: Column, values: Sequence[Scalar]) -> None:
    """Raise InputError where a field numbers or names lines, and not in their order.

    ``values``: its values in the lines of one split.
    """
    n_distinct = len(set(values))
    named = column.names("number") and not _OF_THE_RUN.search(column.name)
    if named and len(values) <= 2 * n_distinct < 2 * len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise InputError(
            f"{path}: no question_id, and key {column.path!r} is {twice!r} in several rows; add a "
            "question_id to each row"
        )
    if n_distinct < len(values) or len(values) == 1:
        return
    numbers = _numbers(values)
    if numbers is None:
        if named:
            raise InputError(
                f"{path}: key {column.path!r} names the rows, but not by the questions' ids; add a "
                f"question_id to each, or remove {column.path!r} if the lines are in the "
                "questions' order"
            )
    elif numbers != sorted(numbers):
        in_sequence = max(numbers) - min(numbers) == len(numbers) - 1
        if in_sequence or named:
            raise InputError(
                f"{path}: no question_id, and key {column.path!r} numbers the lines in another "
                "order; add a question_id to each, or sort the lines as the questions are and "
                f"remove {column.path!r}"
            )


def _numbers(values: Sequence[Scalar]) -> list[int] | None:
    """Numbers, perhaps within one text (``q_12.txt``); None: not all values are."""
    found = [re.fullmatch(r"(\D*)(\d{1,18})(\D*)", as_id(value) or "") for value in values]
    numbers = [match for match in found if match]
    alike = len(numbers) == len(found) and len({(match[1], match[3]) for match in numbers}) == 1
    return [int(match[2]) for match in numbers] if alike else None


def assign(
    table: AnswerTable, questions: Questions, found: Candidates, texts: Sequence[str]
) -> dict[int, int]:
    """Question → row. A row that may answer the same question of several splits answers each.

    Raises InputError where a question has two answers, or none, and where a row may be about
    several images of one split.
    """
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, of_row in enumerate(found.questions):
        groups[tuple(of_row)].append(row)
    row_of: dict[int, int] = {}
    for group, rows in groups.items():
        _refuse_several_images(table, questions, group, rows[0])
        one_for_each = len(rows) == len(group) > 1
        if one_for_each and len({questions.asked[i].split for i in group}) > 1:
            if len({texts[row] for row in rows}) > 1:
                raise no_split(table.where(rows[0]), questions)
        elif len(rows) > 1 and not one_for_each:
            raise _answered_twice(table, questions.asked[group[0]], rows[0], rows[1])
        for place, i in enumerate(group):
            row = rows[place] if one_for_each else rows[0]
            if i in row_of:
                raise _answered_twice(table, questions.asked[i], *sorted((row_of[i], row)))
            row_of[i] = row
    asked = enumerate(questions.asked)
    missing = [question for i, question in asked if question.is_scored and i not in row_of]
    if missing:
        raise InputError(
            f"{table.path}: {len(missing)} questions have no answer, the first is "
            f"{missing[0].name} of {missing[0].split}; answer all of them or cut the "
            "question file"
        )
    return row_of


def _refuse_several_images(
    table: AnswerTable, questions: Questions, group: Sequence[int], row: int
) -> None:
    """Raise InputError where a split asks the same of several images that a row may mean."""
    first_of: dict[str, Asked] = {}
    for asked in (questions.asked[i] for i in group):
        first = first_of.setdefault(asked.split, asked)
        if not questions.images.same(asked.image, first.image):
            raise InputError(
                f"{table.where(row)}: the image may be {printable(repr(first.image))} "
                f"({first.name}) or {printable(repr(asked.image))} ({asked.name}), of which "
                f"{asked.source} asks the same; name each image with its folder, or give the "
                "question_id"
            )


def _answered_twice(table: AnswerTable, asked: Asked, first: int, last: int) -> InputError:
    return InputError(
        f"{table.where(last)}: {asked.name} was answered before "
        f"({table.where(first)}); keep one answer"
    )
