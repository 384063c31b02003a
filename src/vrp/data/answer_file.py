"""Answer files that anyone made: the text that answers each question, and why it is that one."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vrp.data.answer_fields import ANSWER_KEYS, as_id, as_yes_no, canonical
from vrp.data.answer_pairing import IMAGE_AND_QUESTION, LINE_ORDER, Candidates, Pairing, assign
from vrp.data.answer_rows import AnswerTable, Column, as_table, read_rows
from vrp.data.json_input import Record, keys_shown, missing_key
from vrp.data.question_index import Asked, Questions, as_text
from vrp.data.row_contradictions import Comparison
from vrp.data.scoring import normalise_vqa, parse_pope_strict
from vrp.data.split_names import n_naming_split
from vrp.errors import InputError

_NOT_CHANCE = 20
"""Answers that are all right and nothing but yes or no are worth a word."""
_WITHIN_ANSWER = {"", "body", "choices", "message", "messages", "content", "value", *ANSWER_KEYS}
"""Levels between an answer's key and its text, as chat interfaces write them."""
_MAYBE_LABEL = "answer"
"""Label in some files, the model's text in others."""
_FILTERED, _UNFILTERED = "filtered_resps", "resps"
_BESIDE_LABEL = {key for key in ANSWER_KEYS if "pred" in key} | {
    "model_answer", "generated_text", _FILTERED, _UNFILTERED
}  # fmt: skip
"""Keys of layouts whose `answer` is the label."""


class Basis(NamedTuple):
    """What pairs the rows of an answer file with questions."""

    answers: str
    """The file."""
    key: str
    """Where the answers' text is."""
    by: str
    """``line order``, ``image and question``, or the key that holds the ids."""
    rows: int
    """Rows of the file."""
    compared: dict[str, int]
    """Question, image, label, split → rows that repeat it; each of them agrees."""
    prompts: tuple[str, ...] = ()
    """Names of the files with the questions under the answers' ids."""
    copies_labels: bool = False
    """Whether each answer is its label to the letter, as in a question file."""


class Prompts(NamedTuple):
    """Questions as they were put to a model, under ids of their own, joined to labelled ones."""

    questions: Questions
    """Without labels."""
    joined: list[list[int]]
    """Prompt → the labelled questions with its image and text, one in a split."""

    def labelled(self, table: AnswerTable, found: Candidates) -> Candidates:
        """The labelled questions of each row, from its prompts."""
        rows = []
        for row, prompts in enumerate(found.questions):
            rows.append(sorted({i for prompt in prompts for i in self.joined[prompt]}))
            if not rows[-1]:
                prompt = self.questions.asked[prompts[0]]
                raise InputError(
                    f"{table.where(row)}: answers {prompt.name} of "
                    f"{prompt.source}, whose image and text are not among the labelled questions; "
                    "give the labelled file of each split that was answered"
                )
        return Candidates(rows, found.by)


def read_answers(
    path: Path, questions: Questions, answer_key: str | None, *, prompts: Prompts | None = None
) -> tuple[list[str], Basis]:
    """Return the free text that a file gives to each question, and what that rests on.

    The texts are in the questions' order, empty where none is needed.

    Args:
        path: the answer file.
        questions: what was asked, with its labels.
        answer_key: where the text is (a key, or a path such as ``output.text``); None: found out.
        prompts: the questions as they were put to the model, under the answers' ids, where these
            are others than the questions'.

    Raises:
        InputError: what is malformed, missing, ambiguous or contradictory, in one line.
    """
    table = as_table(path, read_rows(path))
    named = prompts.questions if prompts else questions
    found = by_name = Pairing(table, named).candidates()
    if prompts:
        found = prompts.labelled(table, found)
    first = [questions.asked[of_row[0]] for of_row in found.questions]
    if answer_key is None:
        column = _found_column(table, questions, first)
    else:
        column = _named_column(table, answer_key, first)
    texts = [_text(record, row, column) for row, record in enumerate(table.rows)]
    compared = Comparison(
        table,
        questions,
        found.questions,
        texts,
        answer=column,
        ids=(named, by_name.questions),
        by_id=found.by not in (LINE_ORDER, IMAGE_AND_QUESTION),
    ).run()
    row_of = assign(table, questions, found, texts)
    basis = Basis(
        answers=str(path),
        key=column.path,
        by=found.by,
        rows=len(table.rows),
        compared=compared | {"split": n_naming_split(table, questions.sources)},
        prompts=tuple(dict.fromkeys(prompts.questions.sources.values())) if prompts else (),
        copies_labels=len(texts) >= _NOT_CHANCE and _holds_labels(column, first),
    )
    return [texts[row_of[i]] if i in row_of else "" for i in range(len(questions.asked))], basis


def _named_column(table: AnswerTable, key: str, asked: Sequence[Asked]) -> Column:
    """The field under a key or a path that the user names; not a copy of the labels, where the text
    is elsewhere.
    """
    below = [column for path, column in table.columns.items() if path.startswith(f"{key}.")]
    missing = Column(key, canonical(key))  # its first row says what is wrong
    column = table.columns.get(key) or _only(table, key, below or [missing])
    others = {canonical(key) for key in table.rows[0].fields} & _BESIDE_LABEL - {column.name}
    if (others or column.names("label")) and _holds_labels(column, asked):
        raise InputError(
            f"{table.path}: key {column.path!r} holds the labels, not answers; name the key with "
            "the model's text with --answer-key"
        )
    return column


def _found_column(table: AnswerTable, questions: Questions, asked: Sequence[Asked]) -> Column:
    """The one field that may hold the text; ``asked``: what each row answers."""
    found = _answer_columns(table)
    asking = {
        c.path: key for key, cs in found.items() for c in cs if _holds_questions(c, questions)
    }
    found = {key: columns for key, columns in found.items() if key not in asking.values()}
    if _FILTERED in found:
        found.pop(_UNFILTERED, None)
    maybe = found.get(_MAYBE_LABEL, [])
    is_label = len(maybe) == 1 and _holds_labels(maybe[0], asked)
    if len(found) > 1 and (found.keys() & _BESIDE_LABEL or is_label):
        found.pop(_MAYBE_LABEL, None)
    elif is_label:  # is the text under a key that is not known?
        found |= {c.path: [c] for c in table.columns.values() if _holds_other_verdicts(c, asked)}
    if len(found) > 1:
        keys = " and ".join(repr(columns[0].path) for columns in found.values())
        raise InputError(
            f"{table.where(0)}: keys {keys} may both hold the answer; name the right one with "
            "--answer-key"
        )
    for key, columns in found.items():
        return _only(table, key, columns)
    raise _no_answer(table.rows[0], next(iter(asking), None))


def _only(table: AnswerTable, key: str, columns: Sequence[Column]) -> Column:
    if len(columns) > 1:
        _refuse_other_layout(table, columns)
        paths = ", ".join(repr(column.path) for column in columns[:4])
        raise InputError(
            f"{table.path}: key {key!r} holds several texts ({paths}); name one with --answer-key"
        )
    return columns[0]


def _refuse_other_layout(table: AnswerTable, columns: Sequence[Column]) -> None:
    """Raise InputError naming the first row whose text is in a list or an object, unlike most."""
    main = max(columns, key=lambda column: len(column.values))
    others = [column for column in columns if column is not main]
    if any(column.values.keys() & main.values.keys() for column in others):
        return
    if 2 * len(main.values) > len(table.rows):
        row = min(row for column in others for row in column.values)
        key = main.path.partition(".")[0]
        kinds: dict[type, str] = {list: "a list", dict: "an object"}
        kind = kinds.get(type(table.rows[row].fields.get(key)), "something else")
        raise InputError(
            f"{table.where(row)}: key {key!r} holds {kind}, unlike most rows; give the answer as "
            "one string"
        )


def _answer_columns(table: AnswerTable) -> dict[str, list[Column]]:
    """Fields under an answer's key, and those in it that hold a text: key → fields."""
    found: dict[str, list[Column]] = {}
    for column in table.columns.values():
        key, *inner = map(canonical, column.path.split("."))
        verdicts = all(isinstance(value, bool) for value in column.values.values())
        if key in ANSWER_KEYS and _WITHIN_ANSWER.issuperset(inner) and not verdicts:
            found.setdefault(key, []).append(column)
    return found


def _holds_questions(column: Column, questions: Questions) -> bool:
    """Whether a field is a copy of the questions, these or others."""
    texts = [value for value in column.values.values() if isinstance(value, str)]
    if any(as_text(text).words in questions.known for text in texts):
        return True
    return 2 * sum(text.rstrip().endswith("?") for text in texts) > len(column.values)


def _holds_labels(column: Column, asked: Sequence[Asked]) -> bool:
    """Whether a field is a copy of the labels, which are not all the same."""
    if len(column.values) != len(asked) or len({(q.label, q.truths) for q in asked}) < 2:
        return False
    return all(
        as_yes_no(column.values[row], coded=False) == question.label
        if question.label
        else normalise_vqa(str(column.values[row])) in question.truths
        for row, question in enumerate(asked)
    )


def _holds_other_verdicts(column: Column, asked: Sequence[Asked]) -> bool:
    """Whether a field holds a yes or a no in most rows, and not the label's in all."""
    said = {
        row: parse_pope_strict(value)
        for row, value in column.values.items()
        if isinstance(value, str) and asked[row].label is not None
    }
    agree = [word == asked[row].label for row, word in said.items() if word is not None]
    return 2 * len(agree) > len(asked) and not all(agree)


def _no_answer(record: Record, asking: str | None) -> InputError:
    empty = next((key for key in record.fields if canonical(key) in ANSWER_KEYS), None)
    if asking is None and empty is not None:
        return _not_text(record, empty)
    what = f"none of the keys {', '.join(ANSWER_KEYS[:8])}"
    what = what if asking is None else f"key {asking!r} is the question's"
    advice = "name the key that holds the answer with --answer-key"
    return InputError(f"{record.where}: {what} (found: {keys_shown(record)}); {advice}")


def _text(record: Record, row: int, column: Column) -> str:
    value = column.values.get(row)
    if value is None and column.path.partition(".")[0] not in record.fields:
        raise missing_key(record, column.path, "to hold the answer")
    if value is None or isinstance(value, bool):
        raise _not_text(record, column.path)
    return (as_id(value) or str(value)) if isinstance(value, float) else str(value)


def _not_text(record: Record, key: str) -> InputError:
    return InputError(f"{record.where}: key {key!r} is not text; give the answer as a string")
