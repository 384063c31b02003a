"""Scoring other people's answer files against the official POPE and VQA question files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vrp.data.json_input import Record, id_field, read_records
from vrp.data.pope import PopeRow, read_pope_rows
from vrp.data.scoring import PopeParser, VqaRule, normalise_vqa, parse_pope, vqa_accuracy
from vrp.data.vqa import VqaRow, read_vqa_rows, vqa_task
from vrp.errors import InputError

ANSWER_KEYS = ("answer", "text")
"""Under which an answer file may hold the free text: the first that is there."""


class PopeScore(NamedTuple):
    """POPE's measures of one answer file; yes is the positive class."""

    parser: PopeParser
    n: int
    """Questions; duplicates count, as in POPE's own evaluation."""
    accuracy: float
    """An unparsed answer is wrong."""
    precision: float | None
    """Right among those answered yes; None: none was."""
    recall: float | None
    """Answered yes among those labelled yes; None: none is."""
    f1: float | None
    """Harmonic mean of the two; None where either is."""
    yes_rate: float
    """Answered yes among all."""
    parse_rate: float
    """Parsed among all; 1 under the official rule, which parses everything."""


class VqaScore(NamedTuple):
    """VQA accuracy of one answer file, over all its questions or those of one task."""

    rule: VqaRule
    task: str
    """``all``, ``counting``, ``spatial`` or ``open``."""
    n: int
    """Questions."""
    accuracy: float
    """Mean VQA accuracy."""
    correct_rate: float
    """Questions with a VQA accuracy of at least the threshold."""
    parse_rate: float
    """Answers of which the normalisation leaves something."""


def score_answer_file(
    questions: Path,
    answers: Path,
    *,
    annotations: Path | None = None,
    threshold: float = 0.5,
) -> list[PopeScore] | list[VqaScore]:
    """Score an answer file (JSON or JSON lines: question_id and free text).

    Without ``annotations`` the questions are one POPE split and the result has one row for the
    strict and one for the official parser. With them the questions are VQA v2 and the result has
    one row for each rule of ``vqa_accuracy``, over all questions and for each task found.
    Answers without any question_id are taken in the questions' order, as POPE's own script does.
    Raises InputError naming file, line and key for malformed rows, and for questions without an
    answer, answers without a question, or two answers to one question.
    """
    if annotations is None:
        pope = read_pope_rows(questions)
        given = read_answers(answers, [row.question_id for row in pope])
        return [score_pope(pope, given, parser) for parser in ("strict", "official")]
    vqa = [row for row in read_vqa_rows(questions, annotations) if row.answers]
    given = read_answers(answers, [row.question_id for row in vqa])
    return [
        score_vqa(rows, given, rule, task=task, threshold=threshold)
        for rule in ("normalised", "official")
        for task, rows in _by_task(vqa).items()
    ]


def read_answers(path: Path, question_ids: Sequence[str]) -> dict[str, str]:
    """The free text that an answer file gives to each question: question_id → text.

    Raises InputError unless every question has exactly one answer, and every answer a question.
    """
    records = read_records(path)
    if not any("question_id" in record.fields for record in records):
        if len(records) != len(question_ids):
            raise InputError(
                f"{path}: {len(records)} answers without question_id for {len(question_ids)} "
                "questions; add a question_id to each"
            )
        return {
            question_id: _text(record)
            for question_id, record in zip(question_ids, records, strict=True)
        }
    known = set(question_ids)
    where_of: dict[str, str] = {}
    given: dict[str, str] = {}
    for record in records:
        question_id = id_field(record, "question_id")
        if question_id not in known:
            raise InputError(
                f"{record.where}: question_id {question_id} is not among the questions; "
                "give the question file that was answered"
            )
        if question_id in given:
            raise InputError(
                f"{record.where}: question_id {question_id} was answered before "
                f"({where_of[question_id]}); keep one answer"
            )
        given[question_id], where_of[question_id] = _text(record), record.where
    missing = [question_id for question_id in question_ids if question_id not in given]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} questions have no answer, the first is question_id "
            f"{missing[0]}; answer all of them or cut the question file"
        )
    return given


def score_pope(rows: Sequence[PopeRow], given: Mapping[str, str], parser: PopeParser) -> PopeScore:
    """POPE's measures under one parser. Raises InputError where there is no row."""
    if not rows:
        raise InputError("no POPE questions to score; check the question file")
    pairs = [(parse_pope(given[row.question_id], parser), row.label) for row in rows]
    said_yes = sum(parsed == "yes" for parsed, _ in pairs)
    labelled_yes = sum(label == "yes" for _, label in pairs)
    true_yes = sum(parsed == label == "yes" for parsed, label in pairs)
    # 2·precision·recall / (precision + recall), written with counts.
    both = said_yes > 0 and labelled_yes > 0
    return PopeScore(
        parser=parser,
        n=len(pairs),
        accuracy=sum(parsed == label for parsed, label in pairs) / len(pairs),
        precision=true_yes / said_yes if said_yes else None,
        recall=true_yes / labelled_yes if labelled_yes else None,
        f1=2 * true_yes / (said_yes + labelled_yes) if both else None,
        yes_rate=said_yes / len(pairs),
        parse_rate=sum(parsed is not None for parsed, _ in pairs) / len(pairs),
    )


def score_vqa(
    rows: Sequence[VqaRow],
    given: Mapping[str, str],
    rule: VqaRule,
    *,
    task: str = "all",
    threshold: float = 0.5,
) -> VqaScore:
    """VQA accuracy under one rule. Raises InputError where there is no row."""
    if not rows:
        raise InputError("no VQA questions to score; check the question file")
    scores = [vqa_accuracy(given[row.question_id], row.answers, rule=rule) for row in rows]
    parsed = [bool(normalise_vqa(given[row.question_id])) for row in rows]
    return VqaScore(
        rule=rule,
        task=task,
        n=len(rows),
        accuracy=sum(scores) / len(scores),
        correct_rate=sum(score >= threshold for score in scores) / len(scores),
        parse_rate=sum(parsed) / len(parsed),
    )


def _by_task(rows: Sequence[VqaRow]) -> dict[str, list[VqaRow]]:
    tasks: dict[str, list[VqaRow]] = {"all": list(rows)}
    for row in rows:
        try:
            task = vqa_task(row.question, row.answer_type)
        except LookupError:  # without its answer_type a question counts under "all" only
            continue
        if task is not None:
            tasks.setdefault(task, []).append(row)
    return tasks


def _text(record: Record) -> str:
    key = next((key for key in ANSWER_KEYS if key in record.fields), None)
    if key is None:
        known = ", ".join(sorted(record.fields)) or "nothing"
        raise InputError(
            f"{record.where}: no key '{ANSWER_KEYS[0]}' or '{ANSWER_KEYS[1]}' (found: {known})"
        )
    value = record.fields[key]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"{record.where}: key '{key}' is not text; give the answer as a string")
    return str(value)
