"""Score an answer file that anyone made: a table to read, and the same numbers as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

from vrp.data.answer_file import Basis
from vrp.data.answer_pairing import IMAGE_AND_QUESTION, LINE_ORDER
from vrp.data.images import file_sha256
from vrp.data.score_file import ALL, FileScores, score_files
from vrp.errors import InputError
from vrp.tables.files import write_text
from vrp.text_table import aligned

YES_NO_COLUMNS = ("parser", "n", "accuracy", "precision", "recall", "F1", "yes-rate", "parse rate")


def run(
    *,
    questions: Sequence[Path],
    answers: Sequence[Path],
    annotations: Path | None = None,
    answer_key: str | None = None,
    threshold: float = 0.5,
    output: Path | None = None,
) -> str:
    """Score answers to POPE, VQA v2, TextVQA or own questions; return the table.

    Args:
        questions: question files, as for `score_files`.
        answers: one answer file for each labelled question file, or one for all.
        annotations: the VQA v2 annotations.
        answer_key: key of the answer files that holds the text; None: found out.
        threshold: VQA accuracy from which an answer counts as correct.
        output: JSON file to write as well: the scores in full precision, and the SHA-256 of every
            file that they are of.

    Raises:
        InputError: a file is missing or malformed, or answers and questions do not fit.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold {threshold} must be above 0 and at most 1")
    given = {"questions": questions, "answers": answers, "annotations": [annotations]}
    for option, paths in given.items():
        for path in paths:
            if path is not None and not path.is_file():
                what = "a folder, not a file" if path.is_dir() else "no such file"
                raise InputError(f"{path}: {what}; check the path given to --{option}")
    scores = score_files(
        questions, answers, annotations=annotations, answer_key=answer_key, threshold=threshold
    )
    if output is not None:
        files = [*questions, *answers, *([annotations] if annotations else [])]
        document = {
            "pope": [score._asdict() for score in scores.pope],
            "vqa": [score._asdict() for score in scores.vqa],
            "vqa_yes_no": [score._asdict() for score in scores.yes_no],
            "own_yes_no": [score._asdict() for score in scores.own],
            "n_unscored": scores.n_unscored,
            "vqa_threshold": threshold,
            "pairing": [
                basis._asdict() | {"note": pairing_note(basis)} for basis in scores.pairing
            ],
            "files": {str(path): file_sha256(path) for path in files},
        }
        write_text(output, json.dumps(document, indent=1) + "\n")
    pairing = "\n".join(f"{basis.answers}: {pairing_note(basis)}" for basis in scores.pairing)
    unscored = f"{scores.n_unscored} questions have no answers to be scored against.\n"
    return "\n\n".join(
        [*_tables(scores, threshold), (unscored if scores.n_unscored else "") + pairing]
    )


def pairing_note(basis: Basis) -> str:
    """What the pairing of a file's rows with questions rests on, in one or two sentences."""
    if basis.by == LINE_ORDER:
        how = "paired by LINE ORDER, since no field holds the questions' ids"
    elif basis.by == IMAGE_AND_QUESTION:
        how = "paired by image and question"
    else:
        how = f"paired by key {basis.by!r}"
    if basis.prompts:
        how += f", through {' and '.join(basis.prompts)}"
    whole = [what for what, n in basis.compared.items() if n == basis.rows]
    parts = [
        f"{what} in {n} of {basis.rows}" for what, n in basis.compared.items() if 0 < n < basis.rows
    ]
    same = " and ".join([*whole, *parts])
    how += f"; what its rows repeat agrees: {same}." if same else "."
    if basis.copies_labels:
        how += " Every answer is its label: is this a model's?"
    if "question" in whole or basis.by == IMAGE_AND_QUESTION:
        return how
    unsaid = "No row" if not basis.compared["question"] else "Not every row"
    others = [] if "split" in whole else ["answers to another split or data set"]
    others += ["another order"] if basis.by == LINE_ORDER else []
    if others:
        how += f" {unsaid} repeats its question: {' or '.join(others)} would go unnoticed."
    return how


def _tables(scores: FileScores, threshold: float) -> list[str]:
    blocks, notes = [], []
    if scores.vqa:
        notes.append(
            "Rules: official compares raw text where all annotators agree, as the published code "
            "does with answers that a toolkit has normalised before; of raw answers it can be 12 "
            "points lower. normalised always normalises: compare it with what is published."
        )
        rows = [
            [s.part, s.rule, str(s.n)]
            + [_percent(v) for v in (s.accuracy, s.correct_rate, s.parse_rate)]
            for s in scores.vqa
        ]
        correct = f"correct (≥ {threshold:g})"
        head = ["VQA", "rule", "n", "accuracy", correct, "parse rate"]
        blocks.append(aligned([head, *rows], n_text=2))
    yes_no = {
        "POPE": scores.pope,
        "VQA, majority yes or no": scores.yes_no,
        "yes or no": scores.own,
    }
    for first, of_kind in yes_no.items():
        rows = [
            [s.split, s.parser, str(s.n)]
            + [
                _percent(v)
                for v in (s.accuracy, s.precision, s.recall, s.f1, s.yes_rate, s.parse_rate)
            ]
            for s in of_kind
        ]
        if rows:
            blocks.append(aligned([[first, *YES_NO_COLUMNS], *rows], n_text=2))
    if any(yes_no.values()):
        notes.append(
            "Parsers: strict wants exactly one of the words yes and no, in any case, and counts "
            "any other answer as wrong; official takes whatever is not no for yes."
        )
    if any(score.split == ALL for score in scores.pope):
        notes.append(
            "All: a question that several splits ask counts in each, as in published figures."
        )
    return [*blocks, "Percent. " + " ".join(notes)]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"
