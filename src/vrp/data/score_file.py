"""Scoring other people's answer files against the official POPE and VQA question files."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vrp.data.answer_file import Basis, read_answers
from vrp.data.datasets.vqa import VQA_TASKS
from vrp.data.item import YES_NO
from vrp.data.question_index import Asked, Questions
from vrp.data.scored_question_files import QuestionFiles, prompts_of, read_question_files
from vrp.data.scoring import (
    PopeParser,
    VqaRule,
    majority_answer,
    normalise_vqa,
    parse_pope,
    vqa_accuracy,
)
from vrp.data.split_names import refuse_other_name
from vrp.errors import InputError

Answered = tuple[Asked, str]
"""A question and the text that answers it."""
_OTHERS_COUNTED = 3
_CODES = frozenset({"0", "1", "-1", "0.0", "1.0", "y", "n", "t", "f", "true", "false"})
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


class FileScores(NamedTuple):
    """Everything that is measured of answer files."""

    pope: list[PopeScore]
    """For each split, and for all together where there are several, one for each parser."""
    own: list[PopeScore]
    """One for each parser, over own questions that ask whether something is there."""
    vqa: list[VqaScore]
    """For all questions and each part of them, one for each rule."""
    yes_no: list[PopeScore]
    """One for each parser, over VQA questions whose majority answer is yes or no."""
    pairing: list[Basis]
    """For each answer file what pairs its rows with questions."""
    n_unscored: int
    """Questions of which it is not known what is right."""


def score_files(
    questions: Sequence[Path],
    answers: Sequence[Path],
    *,
    annotations: Path | None = None,
    answer_key: str | None = None,
    threshold: float = 0.5,
) -> FileScores:
    """Score answer files in any usual layout to POPE's questions, VQA v2's, TextVQA's or own ones.

    Args:
        questions: POPE question files, or one file of VQA v2, TextVQA or own questions; beside
            them files without labels, which hold the questions under the answers' ids.
        answers: one file for each labelled question file, in the same order, or one for all.
        annotations: of VQA v2.
        answer_key: where the text is; None: found out.
        threshold: VQA accuracy from which an answer counts as correct.

    Raises:
        InputError: a file is malformed or something else; questions without an answer, answers
            without a question, two answers to one question; rows that repeat another question,
            image, label, id or split than those of their question; a number of files that does
            not fit; nothing that says which row answers which question.
    """
    files = read_question_files(questions, annotations)
    texts, pairing = _all_answers(files, answers, answer_key)
    every = [asked for of_file in files.asked for asked in of_file]
    pairs = [pair for pair in zip(every, texts, strict=True) if pair[0].is_scored]
    annotated = [(asked, text) for asked, text in pairs if asked.label is None]
    yes_no = [
        (text, answer)
        for asked, text in annotated
        if (answer := majority_answer(asked.answers)) in YES_NO
    ]
    labelled: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for asked, text in pairs:
        if asked.label is not None:
            labelled[asked.split].append((text, asked.label))
    _refuse_codes(text for of_split in labelled.values() for text, _ in of_split)
    if len(labelled) > 1:
        labelled[ALL] = list(itertools.chain.from_iterable(labelled.values()))
    by_split = _both_parsers(labelled)
    return FileScores(
        pope=by_split if files.is_pope else [],
        own=[] if files.is_pope else by_split,
        vqa=score_vqa(annotated, threshold=threshold),
        yes_no=_both_parsers({YES_NO_PART: yes_no} if yes_no else {}),
        pairing=pairing,
        n_unscored=len(every) - len(pairs) + len(files.unanswerable),
    )


def _refuse_codes(answers: Iterable[str]) -> None:
    """Refuse answers to yes/no questions that are codes throughout: no parser knows what they say.

    Raises:
        InputError: naming the codes.
    """
    said = {text.strip().rstrip(".").lower() for text in answers}
    if said and said <= _CODES:
        codes = " and ".join(repr(code) for code in sorted(said))
        raise InputError(
            f"the answers to yes/no questions are {codes} throughout, which says neither yes nor "
            "no; give the model's own words, or write yes and no for them"
        )


def _all_answers(
    files: QuestionFiles, answers: Sequence[Path], answer_key: str | None
) -> tuple[list[str], list[Basis]]:
    """The text to each question of all files, in their order."""
    of_file = files.asked
    if len(answers) not in (1, len(of_file)):
        raise InputError(
            f"{len(answers)} answer files for {len(of_file)} question files; give one for each, in "
            "the same order, or one for all"
        )
    if len(answers) == 1:
        of_file = [[asked for of_one in of_file for asked in of_one]]
    texts: list[str] = []
    pairing = []
    for path, asked in zip(answers, of_file, strict=True):
        refuse_other_name(path, {one.split for one in asked}, alone=len(answers) == 1)
        others = [other for of_other in of_file if of_other is not asked for other in of_other]
        questions = Questions(asked, others=others, unanswerable=files.unanswerable)
        prompts = prompts_of(files, questions)
        of_questions, basis = read_answers(path, questions, answer_key, prompts=prompts)
        texts += of_questions
        pairing.append(basis)
    return texts, pairing


def score_pope(split: str, pairs: Sequence[tuple[str, str]], parser: PopeParser) -> PopeScore:
    """POPE's measures of (answer, label) pairs, at least one, under one parser."""
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


def score_vqa(pairs: Sequence[Answered], *, threshold: float = 0.5) -> list[VqaScore]:
    """VQA accuracy of answers to annotated questions, for each part and rule.

    The official rule, which counts three other annotators, is left out where a question has fewer.
    """
    if not pairs:
        return []
    enough = min(len(asked.answers) for asked, _ in pairs) > _OTHERS_COUNTED
    rules: tuple[VqaRule, ...] = ("normalised", "official") if enough else ("normalised",)
    scores = {
        rule: [vqa_accuracy(text, asked.answers, rule=rule) for asked, text in pairs]
        for rule in rules
    }
    parsed = [bool(normalise_vqa(text)) for _, text in pairs]
    return [
        VqaScore(
            part=part,
            rule=rule,
            n=len(places),
            accuracy=sum(scores[rule][i] for i in places) / len(places),
            correct_rate=sum(scores[rule][i] >= threshold for i in places) / len(places),
            parse_rate=sum(parsed[i] for i in places) / len(places),
        )
        for part, places in _parts(pairs).items()
        for rule in rules
    ]


def _parts(pairs: Sequence[Answered]) -> dict[str, list[int]]:
    """Places of all questions, of those of each answer type, of those of each task."""
    parts: dict[str, list[int]] = {ALL: list(range(len(pairs)))}
    for place, (asked, _) in enumerate(pairs):
        for part in asked.parts:
            parts.setdefault(part, []).append(place)
    tasks = [task for task in VQA_TASKS if task in parts]
    return {part: parts[part] for part in [*(p for p in parts if p not in tasks), *tasks]}


def _both_parsers(pairs: Mapping[str, Sequence[tuple[str, str]]]) -> list[PopeScore]:
    return [
        score_pope(split, of_split, parser)
        for split, of_split in pairs.items()
        for parser in ("strict", "official")
    ]
