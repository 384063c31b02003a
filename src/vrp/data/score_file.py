"""Scoring other people's answer files against the official POPE and VQA question files."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vrp.data.annotated_questions import AnnotatedQuestion
from vrp.data.answer_file import Asked, given_answers, records_of_splits
from vrp.data.datasets.pope import PopeRow, read_pope_rows
from vrp.data.datasets.vqa import VQA_TASKS, read_vqa_rows, vqa_task
from vrp.data.item import YES_NO
from vrp.data.json_input import read_json, read_records
from vrp.data.scoring import (
    PopeParser,
    VqaRule,
    majority_answer,
    normalise_vqa,
    parse_pope,
    vqa_accuracy,
)
from vrp.errors import InputError

ALL = "all"
"""The split or part that holds every question."""
YES_NO_PART = "yes/no"
"""VQA's answer type of questions that yes and no answer."""


class PopeScore(NamedTuple):
    """Yes/no measures of one answer file under one parser; yes is the positive class."""

    split: str
    """Random, popular, adversarial …; ``all`` where there are several; VQA: ``yes/no``."""
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
    """Harmonic mean of the two (0 where no yes is right); None where either is."""
    yes_rate: float
    """Answered yes among all."""
    parse_rate: float
    """Parsed among all; 1 under the official rule, which parses everything."""


class VqaScore(NamedTuple):
    """VQA accuracy of one answer file, over all its questions or a part of them."""

    part: str
    """``all``; an answer type (``yes/no``, ``number``, ``other``); or a task of the study
    (``counting``, ``spatial``, ``open``)."""
    rule: VqaRule
    n: int
    """Questions."""
    accuracy: float
    """Mean VQA accuracy."""
    correct_rate: float
    """Questions with a VQA accuracy of at least the threshold."""
    parse_rate: float
    """Answers of which the normalisation leaves something."""


class VqaFileScores(NamedTuple):
    """Everything that is measured of one VQA answer file."""

    accuracy: list[VqaScore]
    """One for each part and rule."""
    yes_no: list[PopeScore]
    """One for each parser, over questions whose majority answer is yes or no; empty: none is."""


def score_pope_files(
    questions: Mapping[str, Path], answers: Sequence[Path], *, answer_key: str | None = None
) -> list[PopeScore]:
    """Score answer files (JSON or JSON lines: question_id and free text) to POPE's questions.

    Args:
        questions: split → official POPE file.
        answers: one file for each split, in the same order; or one file whose rows name their
            split under `split` or `category`, since question ids start anew in every split.
        answer_key: where the text is; None: the one of `ANSWER_KEYS` of `answer_file` found.

    Returns:
        For each split, and for all of them together where there are several, one score under the
        strict parser and one under the official one.

    Raises:
        InputError: malformed rows, questions without an answer, answers without a question, two
            answers to one question, rows that repeat another question, image or split than the
            one of their id, or a number of files that does not fit. Answers without any
            question_id are taken in the questions' order, as POPE's own script does.
    """
    rows = {split: _pope_rows(path) for split, path in questions.items()}
    records = records_of_splits(list(rows), answers)
    given = {
        split: given_answers(
            answers[min(place, len(answers) - 1)],
            records[split],
            [Asked(row.question_id, row.text, row.image) for row in of_split],
            answer_key,
        )
        for place, (split, of_split) in enumerate(rows.items())
    }
    pairs = {
        split: [(given[split][row.question_id], row.label) for row in of_split]
        for split, of_split in rows.items()
    }
    if len(pairs) > 1:
        pairs[ALL] = [pair for of_split in pairs.values() for pair in of_split]
    return _both_parsers(pairs)


def score_vqa_file(
    questions: Path,
    annotations: Path,
    answers: Path,
    *,
    threshold: float = 0.5,
    answer_key: str | None = None,
) -> VqaFileScores:
    """Score an answer file (JSON or JSON lines: question_id and free text) to VQA v2 questions.

    Args:
        questions: official VQA v2 questions.
        annotations: and their annotations; questions without any are left out.
        answers: the answer file.
        threshold: VQA accuracy from which an answer counts as correct.
        answer_key: where the text is; None: the one of `ANSWER_KEYS` of `answer_file` found.

    Raises:
        InputError: as ``score_pope_files``.
    """
    every = read_vqa_rows(questions, annotations)
    rows = [row for row in every if row.answers]
    given = given_answers(
        answers,
        read_records(answers),
        [Asked(row.question_id, row.question, row.image_id) for row in rows],
        answer_key,
        unannotated={row.question_id for row in every if not row.answers},
    )
    yes_no = [
        (given[row.question_id], label)
        for row in rows
        if (label := majority_answer(row.answers)) in YES_NO
    ]
    return VqaFileScores(
        accuracy=[
            score_vqa(part, of_part, given, rule, threshold=threshold)
            for part, of_part in _parts(rows).items()
            for rule in ("normalised", "official")
        ],
        yes_no=_both_parsers({YES_NO_PART: yes_no} if yes_no else {}),
    )


def score_pope(split: str, pairs: Sequence[tuple[str, str]], parser: PopeParser) -> PopeScore:
    """POPE's measures of (answer, label) pairs under one parser.

    Raises InputError where there is no pair.
    """
    if not pairs:
        raise InputError("no POPE questions to score; check the question file")
    parsed = [(parse_pope(answer, parser), label) for answer, label in pairs]
    said_yes = sum(answer == "yes" for answer, _ in parsed)
    labelled_yes = sum(label == "yes" for _, label in parsed)
    true_yes = sum(answer == label == "yes" for answer, label in parsed)
    # 2·precision·recall / (precision + recall), written with counts.
    both = said_yes > 0 and labelled_yes > 0
    return PopeScore(
        split=split,
        parser=parser,
        n=len(parsed),
        accuracy=sum(answer == label for answer, label in parsed) / len(parsed),
        precision=true_yes / said_yes if said_yes else None,
        recall=true_yes / labelled_yes if labelled_yes else None,
        f1=2 * true_yes / (said_yes + labelled_yes) if both else None,
        yes_rate=said_yes / len(parsed),
        parse_rate=sum(answer is not None for answer, _ in parsed) / len(parsed),
    )


def score_vqa(
    part: str,
    rows: Sequence[AnnotatedQuestion],
    given: Mapping[str, str],
    rule: VqaRule,
    *,
    threshold: float = 0.5,
) -> VqaScore:
    """VQA accuracy under one rule. Raises InputError where there is no row."""
    if not rows:
        raise InputError("no VQA questions to score; check the question file")
    scores = [vqa_accuracy(given[row.question_id], row.answers, rule=rule) for row in rows]
    parsed = [bool(normalise_vqa(given[row.question_id])) for row in rows]
    return VqaScore(
        part=part,
        rule=rule,
        n=len(rows),
        accuracy=sum(scores) / len(scores),
        correct_rate=sum(score >= threshold for score in scores) / len(scores),
        parse_rate=sum(parsed) / len(parsed),
    )


def _pope_rows(path: Path) -> list[PopeRow]:
    """The questions, or a word on what else the file is."""
    try:
        return read_pope_rows(path)
    except InputError:
        if not _holds_vqa_questions(path):
            raise
    raise InputError(f"{path}: holds VQA v2 questions; give their annotations (--annotations)")


def _holds_vqa_questions(path: Path) -> bool:
    try:
        return "questions" in read_json(path)
    except InputError:
        return False


def _both_parsers(pairs: Mapping[str, Sequence[tuple[str, str]]]) -> list[PopeScore]:
    return [
        score_pope(split, of_split, parser)
        for split, of_split in pairs.items()
        for parser in ("strict", "official")
    ]


def _parts(rows: Sequence[AnnotatedQuestion]) -> dict[str, list[AnnotatedQuestion]]:
    """All questions, those of each answer type, those of each task of the study."""
    parts: dict[str, list[AnnotatedQuestion]] = {ALL: list(rows)}
    tasks: dict[str | None, list[AnnotatedQuestion]] = {task: [] for task in VQA_TASKS}
    for row in rows:
        if row.answer_type is not None:
            parts.setdefault(row.answer_type, []).append(row)
        # Without its answer_type a question may still be spatial, or else counts under "all" only.
        with contextlib.suppress(LookupError):
            tasks.setdefault(vqa_task(row.question, row.answer_type), []).append(row)
    return parts | {task: tasks[task] for task in VQA_TASKS if tasks[task]}
