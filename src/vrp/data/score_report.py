"""Score an answer file that anyone made: a table to read, and the same numbers as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

from vrp.data.datasets.pope import POPE_SPLITS
from vrp.data.images import file_sha256
from vrp.data.score_file import PopeScore, VqaScore, score_pope_files, score_vqa_file
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
    """Score answers to POPE, or to VQA v2 where there are annotations; return the table.

    Args:
        questions: POPE question files, one a split, or one VQA v2 question file.
        answers: one answer file for each, or one for all POPE splits.
        annotations: the VQA v2 annotations; None: the questions are POPE's.
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
                raise InputError(f"{path}: no such file; check the path given to --{option}")
    pope: list[PopeScore] = []
    vqa: list[VqaScore] = []
    if annotations is None:
        pope = score_pope_files(split_names(questions), answers, answer_key=answer_key)
    else:
        if len(questions) != 1 or len(answers) != 1:
            raise InputError("VQA takes one question file and one answer file; score others apart")
        vqa, pope = score_vqa_file(
            questions[0], annotations, answers[0], threshold=threshold, answer_key=answer_key
        )
    if output is not None:
        files = [*questions, *answers, *([annotations] if annotations else [])]
        scores = {
            "pope": [score._asdict() for score in pope] if annotations is None else [],
            "vqa": [score._asdict() for score in vqa],
            "vqa_yes_no": [score._asdict() for score in pope] if annotations else [],
            "vqa_threshold": threshold,
            "files": {str(path): file_sha256(path) for path in files},
        }
        write_text(output, json.dumps(scores, indent=1) + "\n")
    return "\n\n".join(_tables(pope, vqa, threshold))


def split_names(questions: Sequence[Path]) -> dict[str, Path]:
    """Split → file: the split that the file's name holds, or the whole name without its suffix.

    Raises InputError where two files would get one name.
    """
    known = [next((s for s in POPE_SPLITS if s in path.stem), path.stem) for path in questions]
    names = known if len(set(known)) == len(known) else [path.stem for path in questions]
    if len(set(names)) < len(names):
        raise InputError("two question files have the same name; give each split once")
    return dict(zip(names, questions, strict=True))


def _tables(pope: Sequence[PopeScore], vqa: Sequence[VqaScore], threshold: float) -> list[str]:
    blocks, notes = [], []
    if vqa:
        notes.append(
            "Rules: official compares raw text where all annotators agree, as the published code "
            "does; normalised never does."
        )
        rows = [
            [s.part, s.rule, str(s.n)]
            + [_percent(v) for v in (s.accuracy, s.correct_rate, s.parse_rate)]
            for s in vqa
        ]
        correct = f"correct (≥ {threshold:g})"
        head = ["VQA", "rule", "n", "accuracy", correct, "parse rate"]
        blocks.append(aligned([head, *rows], n_text=2))
    if pope:
        first = "VQA, majority yes or no" if vqa else "POPE"
        notes.append(
            "Parsers: strict wants exactly one of the words yes and no, in any case, and counts "
            "any other answer as wrong; official takes whatever is not no for yes."
        )
        rows = [
            [s.split, s.parser, str(s.n)]
            + [
                _percent(v)
                for v in (s.accuracy, s.precision, s.recall, s.f1, s.yes_rate, s.parse_rate)
            ]
            for s in pope
        ]
        blocks.append(aligned([[first, *YES_NO_COLUMNS], *rows], n_text=2))
    return [*blocks, "Percent. " + " ".join(notes)]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"
