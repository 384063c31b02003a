"""Which row of an answer file answers which question: never by a guess.

Ids pair rows and questions; where the ids are others than the questions', image and question
together do; where rows name neither, their order does. What else a row repeats of its question is
compared by `vrp.data.answer_checks`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from vrp.data.answer_fields import (
    Scalar,
    as_id,
    is_of_the_model,
    looks_like_image,
    names_id,
    names_image,
    names_number,
    names_question,
)
from vrp.data.answer_rows import AnswerTable, Column
from vrp.data.asked_questions import Asked, Questions
from vrp.data.json_input import printable
from vrp.data.split_names import named_splits
from vrp.errors import InputError

LINE_ORDER = "line order"
IMAGE_AND_QUESTION = "image and question"


class Candidates(NamedTuple):
    """For each row the questions that it may answer, and what says so."""

    questions: list[list[int]]
    by: str
    """``line order``, ``image and question``, or the key that holds the ids."""


def candidates(table: AnswerTable, questions: Questions) -> Candidates:
    """The questions that each row may answer: one, or the same one of several splits.

    Raises InputError where ids are not the questions', where rows do not say their split, and
    where only the order of lines is left but their number or numbering does not fit.
    """
    splits = named_splits(table, questions.sources)
    strong = _id_columns(table, questions)
    foreign = None
    if strong:
        found, foreign = _by_id(table, questions, strong, splits)
        if foreign is None:
            _refuse_other_numbering(table, questions, splits, strong[0], found)
            if any(len(ids) > 1 for ids in found):
                columns = question_columns(table, questions)
                about = list(_about(table, questions, splits))
                found = [
                    _narrowed(table, row, questions, columns, found[row], about[row])
                    for row in table.span
                ]
            return Candidates(found, strong[0].path)
    by_content = _by_content(table, questions, splits)
    if by_content is not None:
        return Candidates(by_content, IMAGE_AND_QUESTION)
    if foreign is not None:
        raise foreign
    return _by_number(table, questions, splits) or _by_order(table, questions, splits)


def question_columns(table: AnswerTable, questions: Questions) -> list[Column]:
    """Fields that repeat the question in some row, under any name that is not the answer's."""
    return [
        column
        for column in table.columns.values()
        if (
            names_question(column.name) or column.name == "text" or not is_of_the_model(column.name)
        )
        and any(isinstance(v, str) and questions.known.within(v) for v in column.values.values())
    ]


def image_columns(table: AnswerTable, questions: Questions) -> list[Column]:
    """Fields that repeat an image in some row, under an image's name or by their content; without
    any, ids of which each is an image's, as LLaVA writes TextVQA's.
    """

    def shows(column: Column, value: Scalar) -> bool:
        named = names_image(column.name) or (isinstance(value, str) and looks_like_image(value))
        return named and (as_id(value) or "") in questions.images

    columns = table.columns.values()
    return [
        column
        for column in columns
        if any(shows(column, value) for value in column.values.values())
    ] or [
        column
        for column in columns
        if names_id(column.name)
        and all((as_id(value) or "") in questions.images for value in column.values.values())
    ]


def _id_columns(table: AnswerTable, questions: Questions) -> list[Column]:
    columns = (column for column in table.columns.values() if names_id(column.name))
    return sorted(columns, key=lambda column: column.path.count("."))


def _by_id(
    table: AnswerTable, questions: Questions, columns: Sequence[Column], splits: Sequence[set[str]]
) -> tuple[list[list[int]], InputError | None]:
    """The questions with each row's id, and what is wrong with the first id that is none."""
    found = []
    for row in table.span:
        column = next((column for column in columns if row in column.values), None)
        if column is None:
            raise InputError(
                f"{table.where(row)}: key {columns[0].path!r} is missing or null; expected the "
                "question's id, as in other rows"
            )
        value = column.values[row]
        ids = questions.with_id(value)
        if not ids:
            return [], _foreign(table.where(row), column.path, value, questions)
        of_split = [i for i in ids if questions.asked[i].split in splits[row]]
        if not of_split:
            raise InputError(
                f"{table.where(row)}: {column.path} {printable(str(value))} is not among the "
                f"questions of {' or '.join(sorted(splits[row]))}, the row's split; give the "
                "question file that was answered"
            )
        found.append(of_split)
    return found, None


def _foreign(where: str, key: str, value: Scalar, questions: Questions) -> InputError:
    known = as_id(value)
    if known is None:
        return InputError(
            f"{where}: key {key!r} is {printable(repr(value))}; expected an integer or a "
            "non-empty string"
        )
    shown = printable(known)
    if known in questions.unanswerable:
        return InputError(
            f"{where}: {key} {shown} is among the questions, but has no annotation; give the "
            "annotations of all that was answered, or cut the answers"
        )
    return InputError(
        f"{where}: {printable(key)} {shown} is not among the questions; give the question file "
        "that was answered (where its ids are others than the labelled file's, give both)"
    )


def _narrowed(
    table: AnswerTable,
    row: int,
    questions: Questions,
    columns: Sequence[Column],
    ids: list[int],
    about: list[int] | None,
) -> list[int]:
    """Of questions that share an id, which every split's may, those that the row repeats.

    Raises InputError where the row repeats no question, or several.
    """
    asked = [questions.asked[i] for i in ids]
    several_splits = len({question.split for question in asked}) > 1
    if not several_splits and len({questions.words[i] for i in ids}) == 1:
        return ids
    if about is not None and set(about) & set(ids):
        return [i for i in ids if i in about]
    within = [questions.known.within(text) for text in _strings(columns, row)]
    fitting = [i for i in ids if any(questions.words[i] in found for found in within)]
    several = len({(questions.words[i], questions.asked[i].image) for i in fitting}) > 1
    if several or not any(within):
        if several_splits:
            raise no_split(table.where(row), questions)
        raise InputError(
            f"{table.where(row)}: {asked[0].name} is that of several questions "
            f"of {asked[0].source}, and the row does not repeat which; give the prompt or the "
            "question in each row"
        )
    return fitting or ids[:1]  # the comparison says what the row asks instead


def no_split(where: str, questions: Questions) -> InputError:
    """What to say of a row of one file for several splits that names none of them."""
    return InputError(
        f"{where}: one answer file for {len(questions.sources)} splits, and no key 'split' or "
        f"'category' says which ({', '.join(questions.sources)}); add it or give a file for each"
    )


def _strings(columns: Iterable[Column], row: int) -> list[str]:
    return [value for column in columns if isinstance(value := column.values.get(row), str)]


def joined_by_content(table: AnswerTable, questions: Questions) -> list[list[int]]:
    """For each row the questions with its image and text, one in a split; other rows have none."""
    splits = named_splits(table, questions.sources, others=True)
    return [ids or [] for ids in _about(table, questions, splits)]


def _by_content(
    table: AnswerTable, questions: Questions, splits: Sequence[set[str]]
) -> list[list[int]] | None:
    """The questions whose image and text each row repeats; None: some row repeats none, or more."""
    found = [ids for ids in _about(table, questions, splits) if ids]
    return found if len(found) == len(table.rows) else None


def _about(
    table: AnswerTable, questions: Questions, splits: Sequence[set[str]]
) -> Iterator[list[int] | None]:
    asking, showing = question_columns(table, questions), image_columns(table, questions)
    for row in table.span:
        texts = _strings(asking, row)
        images = {as_id(column.values[row]) or "" for column in showing if row in column.values}
        about = [set(questions.about(image, texts)) for image in images] or [set()]
        ids = {i for i in set.intersection(*about) if questions.asked[i].split in splits[row]}
        yield sorted(ids) if len({questions.words[i] for i in ids}) == 1 else None


def _by_number(
    table: AnswerTable, questions: Questions, splits: Sequence[set[str]]
) -> Candidates | None:
    """By a field that may hold the ids, where all of its values are ids and no two are equal.

    Raises InputError where two such fields contradict each other, and where a field of another
    name puts the rows into another order than their lines.
    """
    found = _numberings(table, questions, splits)
    named = {path: ids for path, ids in found.items() if names_number(table.columns[path].name)}
    if len({str(ids) for ids in named.values()}) > 1:
        raise InputError(
            f"{table.path}: keys {' and '.join(map(repr, named))} both hold the questions' ids, "
            "and differ; rename the right one question_id"
        )
    if named:
        return Candidates(next(iter(named.values())), next(iter(named)))
    for path, ids in found.items():
        if ids != [[i] for i in range(len(ids))]:
            raise InputError(
                f"{table.path}: key {path!r} holds the questions' ids in another order than the "
                "lines; if it is the id, rename it question_id, else remove it"
            )
    return None


def _numberings(
    table: AnswerTable, questions: Questions, splits: Sequence[set[str]]
) -> dict[str, list[list[int]]]:
    """Fields of which all values are ids of questions, each of another: path → by row."""
    found: dict[str, list[list[int]]] = {}
    for column in table.columns.values():
        if len(column.values) != len(table.rows) or names_image(column.name):
            continue
        ids = [
            [
                i
                for i in questions.with_id(column.values[row])
                if questions.asked[i].split in splits[row]
            ]
            for row in table.span
        ]
        if all(len(of_row) == 1 for of_row in ids) and len({i for (i,) in ids}) == len(ids):
            found[column.path] = ids
    return found


def _refuse_other_numbering(
    table: AnswerTable,
    questions: Questions,
    splits: Sequence[set[str]],
    key: Column,
    found: list[list[int]],
) -> None:
    """Raise InputError where another field may hold the ids as well, and nothing decides."""
    for path, ids in _numberings(table, questions, splits).items():
        other = names_number(table.columns[path].name) and ids != found
        if other and _by_content(table, questions, splits) is None:
            row = next(row for row in table.span if ids[row] != found[row])
            raise InputError(
                f"{table.where(row)}: key {key.path!r} names "
                f"{questions.asked[found[row][0]].name}, but {path!r} "
                f"{questions.asked[ids[row][0]].name}; remove the key that is not the id"
            )


def _by_order(table: AnswerTable, questions: Questions, splits: Sequence[set[str]]) -> Candidates:
    """Rows in the order of the questions: of one file, or of the split that each row names."""
    _refuse_shuffled(table)
    asked: dict[str, list[int]] = defaultdict(list)
    answered: dict[str, list[int]] = defaultdict(list)
    unnamed = all(len(names) == len(questions.sources) for names in splits)
    one_file = unnamed and len(set(questions.sources.values())) == 1
    for place, question in enumerate(questions.asked):
        asked["" if one_file else question.split].append(place)
    for row, names in enumerate(splits):
        if len(names) > 1 and not one_file:
            raise no_split(table.where(row), questions)
        answered["" if one_file else min(names)].append(row)
    found: list[list[int]] = [[] for _ in table.rows]
    for split, places in asked.items():
        if len(answered[split]) != len(places):
            raise InputError(
                f"{table.path}: {len(answered[split])} answers without question_id for "
                f"{len(places)} questions; add a question_id to each"
            )
        for row, place in zip(answered[split], places, strict=True):
            found[row] = [place]
    return Candidates(found, LINE_ORDER)


def _refuse_shuffled(table: AnswerTable) -> None:
    """Raise InputError where a field numbers the lines, and not in their order."""
    for column in table.columns.values():
        values = list(column.values.values())
        n_distinct = len(set(values))
        named = names_number(column.name) and not names_image(column.name)
        if named and len(values) // 2 < n_distinct < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise InputError(
                f"{table.path}: no question_id, and key {column.path!r} is {twice!r} in several "
                "rows; add a question_id to each row"
            )
        numbers = _numbers(column, len(table.rows))
        if numbers is None or len(set(numbers)) < len(numbers) or numbers == sorted(numbers):
            continue
        in_sequence = max(numbers) - min(numbers) == len(numbers) - 1
        if in_sequence or names_number(column.name):
            raise InputError(
                f"{table.path}: no question_id, and key {column.path!r} numbers the lines in "
                "another order; add a question_id to each, or sort the lines as the questions are "
                f"and remove {column.path!r}"
            )


def _numbers(column: Column, n_rows: int) -> list[int] | None:
    """The numbers of a field, perhaps behind one text (``q_12``); None: not all rows have one."""
    found = [re.fullmatch(r"(\D*)(\d{1,18})", as_id(v) or "") for v in column.values.values()]
    if len(found) != n_rows or len({match[1] if match else None for match in found}) != 1:
        return None
    return [int(match[2]) for match in found if match]


def assign(
    table: AnswerTable, questions: Questions, found: Candidates, texts: Sequence[str]
) -> dict[int, int]:
    """Question → row. A row that may answer the same question of several splits answers each.

    Raises InputError where a question has two answers, or none.
    """
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, of_row in enumerate(found.questions):
        groups[tuple(of_row)].append(row)
    row_of: dict[int, int] = {}
    for group, rows in groups.items():
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


def _answered_twice(table: AnswerTable, asked: Asked, first: int, last: int) -> InputError:
    return InputError(
        f"{table.where(last)}: {asked.name} was answered before "
        f"({table.where(first)}); keep one answer"
    )
