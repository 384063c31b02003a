"""Score an answer file that anyone made: a table to read, and the same numbers as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

from vrp.data.answer_file import Basis
from vrp.data.answer_pairing import IMAGE_AND_QUESTION, LINE_ORDER
from vrp.data.file_digest import file_sha256
from vrp.data.score_file import ALL, FileScores, PopeScore, VqaScore, score_files
from vrp.errors import InputError
from vrp.tables.atomic_files import write_text
from vrp.text_table import aligned

YES_NO_COLUMNS = ("parser", "n", "accuracy", "precision", "recall", "F1", "yes-rate", "parse rate")
_RULES = (
    "Rules: official compares raw text where all annotators agree, as the published code does with "
    "answers that a toolkit has normalised before; of raw answers it can be 12 points lower. "
    "normalised always normalises: compare it with what is published."
)
_PARSERS = (
    "Parsers: strict wants exactly one of the words yes and no, in any case, and counts any other "
    "answer as wrong; official takes whatever is not no for yes."
)
_ALL = "All: a question that several splits ask counts in each, as in published figures."


def run(
    *,
    questions: Sequence[Path],
    answers: Sequence[Path],
    annotations: Path | None = None,
    answer_key: str | None = None,
    threshold: float = 0.5,
    output: Path | None = None,
) -> str:
    """Score answers to POPE, VQA v2, TextVQA or own questions as `score_files`; return the table.

    Args:
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
    inputs = [path for paths in given.values() for path in paths if path is not None]
    if output is not None and any(output.exists() and output.samefile(path) for path in inputs):
        raise InputError(f"{output}: is one of the files to score; give another path to --output")
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
            "pairing": [b._asdict() | {"note": pairing_note(b)} for b in scores.pairing],
            "files": {str(path): file_sha256(path) for path in files},
        }
        write_text(output, json.dumps(document, indent=1) + "\n")
    last = [f"{basis.answers}: {pairing_note(basis)}" for basis in scores.pairing]
    if scores.n_unscored:
        last.insert(0, f"{scores.n_unscored} questions have no answers to be scored against.")
    return "\n\n".join([*_tables(scores, threshold), "\n".join(last)])


def pairing_note(basis: Basis) -> str:
    """What the pairing of a file's rows with questions rests on, in one or two sentences."""
    how = {
        LINE_ORDER: "paired by LINE ORDER, since no field holds the questions' ids",
        IMAGE_AND_QUESTION: "paired by image and question",
    }.get(basis.by, f"paired by key {basis.by!r}")
    if basis.prompts:
        how += f", through {' and '.join(basis.prompts)}"
    n_rows = basis.rows
    whole = [what for what, n in basis.compared.items() if n == n_rows]
    parts = [f"{what} in {n} of {n_rows}" for what, n in basis.compared.items() if 0 < n < n_rows]
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
    vqa = ("VQA", "rule", "n", "accuracy", f"correct (≥ {threshold:g})", "parse rate")
    blocks = [
        *_table(vqa, scores.vqa),
        *_table(("POPE", *YES_NO_COLUMNS), scores.pope),
        *_table(("VQA, majority yes or no", *YES_NO_COLUMNS), scores.yes_no),
        *_table(("yes or no", *YES_NO_COLUMNS), scores.own),
    ]
    notes = [_RULES] if scores.vqa else []
    notes += [_PARSERS] if scores.pope or scores.yes_no or scores.own else []
    notes += [_ALL] if any(score.split == ALL for score in scores.pope) else []
    return [*blocks, "Percent. " + " ".join(notes)]


def _table(head: Sequence[str], scores: Sequence[PopeScore] | Sequence[VqaScore]) -> list[str]:
    """A row for each score: whose, under which rule, of how many, and the measures in percent."""
    rows = [
        [*map(str, s[:3]), *("–" if part is None else f"{100 * part:.2f}" for part in s[3:])]
        for s in scores
    ]
    return [aligned([head, *rows], n_text=2)] if rows else []
