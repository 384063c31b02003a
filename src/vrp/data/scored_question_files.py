"""Question files that answers are scored against, told apart by what they hold."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from vrp.data.answer_fields import canonical, names
from vrp.data.answer_file import Prompts
from vrp.data.answer_pairing import Pairing
from vrp.data.answer_rows import as_table, read_rows
from vrp.data.datasets.own import own_question, refuse_forgotten_answers
from vrp.data.datasets.pope import (
    POPE_SPLITS,
    SPLIT_KEYS,
    named_split,
    of_other_split,
    pope_rows,
)
from vrp.data.datasets.textvqa import read_textvqa_rows
from vrp.data.datasets.vqa import read_vqa_rows, vqa_task
from vrp.data.item import EXISTENCE
from vrp.data.json_input import Record, id_field, read_values, text_field
from vrp.data.question_files import AnnotatedQuestion
from vrp.data.question_index import Asked, Questions
from vrp.data.split_names import bare_name, fitting_splits
from vrp.errors import InputError

_DOCUMENTS = {"questions": "image_id", "data": "image_id", "annotations": "answers"}
"""Key of the list that an official file holds → a key of its rows."""


class QuestionFiles(NamedTuple):
    """All question files of one call."""

    asked: list[list[Asked]]
    """The questions of each file with labels or annotators' answers."""
    is_pope: bool = False
    unanswerable: frozenset[str] = frozenset()
    """Ids of questions without an annotation."""
    prompts: Mapping[Path, list[Record]] = MappingProxyType({})
    """Files without labels: the questions as they were put to a model."""


def read_question_files(questions: Sequence[Path], annotations: Path | None) -> QuestionFiles:
    """Read question files of any kind that can be scored, and files without labels beside them.

    ``annotations``: VQA v2's, or the TextVQA file that answers the questions. Raises InputError as
    the readers of these files, where no file has labels, and of kinds that do not go together.
    """
    if len(set(questions)) < len(questions):
        raise InputError("two question files have the same name; give each split once")
    labelled: dict[Path, QuestionFiles] = {}
    prompts: dict[Path, list[Record]] = {}
    own: dict[Path, list[Record]] = {}
    pope: dict[Path, list[Record]] = {}
    for path in questions:
        key = _document_key(path)
        if key == "questions":
            if annotations is None:
                raise InputError(
                    f"{path}: holds VQA v2 questions; give their annotations (--annotations)"
                )
            labelled[path] = _annotated(path, read_vqa_rows(path, annotations), by_task=True)
        elif key == "data":
            labelled[path] = _annotated(path, read_textvqa_rows(path), by_task=False)
        else:
            rows = read_rows(path)
            kind = prompts if _has_no_labels(rows) else own if _is_own(rows) else pope
            kind[path] = rows
    if annotations is not None and not labelled:
        if _document_key(annotations) != "data":
            raise InputError(
                f"{questions[0]}: annotations go with VQA v2's questions "
                "(v2_OpenEnded_…_questions.json); give that file, or no annotations"
            )
        published = read_textvqa_rows(annotations)
        labelled[annotations] = _annotated(annotations, published, by_task=False)
    labelled |= {path: _own(path, rows) for path, rows in own.items()}
    labelled |= {path: _pope(pope) for path in list(pope)[:1]}
    if not labelled:
        raise InputError(
            f"{questions[0]}: questions without labels; give the labelled question files, too"
        )
    if len(labelled) > 1:
        raise InputError(
            "VQA, TextVQA and own questions are scored one file at a time; score others apart"
        )
    ((path, files),) = labelled.items()
    if not any(asked.is_scored for of_file in files.asked for asked in of_file):
        raise InputError(f"{path}: none of its questions has answers to score against")
    return files._replace(prompts=prompts)


def prompts_of(files: QuestionFiles, questions: Questions) -> Prompts | None:
    """Questions as they were put to a model, joined to labelled ones; None: there are none."""
    asked: list[Asked] = []
    joined: list[list[int]] = []
    for path, records in files.prompts.items():
        of_file = fitting_splits(path.name, questions.sources)
        about = Pairing(as_table(path, records), questions, others=True).about
        for record, ids in zip(records, about, strict=True):
            labelled = [i for i in ids if questions.asked[i].split in of_file]
            if labelled or len(files.prompts) == 1:  # else it is another split's file
                joined.append(labelled)
                asked.append(_prompt(record, path))
    return Prompts(Questions(asked), joined) if asked else None


def _prompt(record: Record, path: Path) -> Asked:
    split = next((str(record.fields[k]) for k in SPLIT_KEYS if record.fields.get(k)), "")
    return Asked(
        split=f"{path.name} {split}".strip(),
        question_id=id_field(record, _keys(record, "id")[0]),
        text=text_field(record, _keys(record, "question")[0]),
        source=path.name,
    )


def _keys(record: Record, what: str) -> list[str]:
    """Keys that name an id or a question."""
    also = "text" if what == "question" else None
    return [key for key in record.fields if key == also or names(what, canonical(key))]


def _has_no_labels(records: Sequence[Record]) -> bool:
    """Whether rows ask questions under ids, and none says what is right."""
    return all(
        all(record.fields.get(key) is None for key in ("label", "answers", "answer"))
        and _keys(record, "question")
        and _keys(record, "id")
        for record in records
    )


def _is_own(records: Sequence[Record]) -> bool:
    return all("label" not in r.fields and "question" in r.fields for r in records) and any(
        "answers" in r.fields for r in records
    )


def _document_key(path: Path) -> str | None:
    """The key of the list that an official file of one object holds; None: it is another file."""
    values = read_values(path)
    fields = values[0][1] if len(values) == 1 else None
    if not isinstance(fields, dict):
        return None
    for key, wanted in _DOCUMENTS.items():
        rows = fields.get(key)
        first = rows[0] if isinstance(rows, list) and rows else None
        if isinstance(first, dict) and wanted in first and "label" not in first:
            return key
    return None


def _pope(files: Mapping[Path, list[Record]]) -> QuestionFiles:
    stems = [bare_name(path) for path in files]
    known = [next((s for s in POPE_SPLITS if s in stem.lower()), stem) for stem in stems]
    # Of two files of one split, the whole names without suffixes.
    names = known if len(set(known)) == len(known) else stems
    if len(set(names)) < len(names):
        raise InputError("two question files have the same name; give each split once")
    found = []
    for name, path in zip(names, files, strict=True):
        asked = {
            row.where: Asked(
                split, row.question_id, row.question, row.image, row.answers[0], source=path.name
            )
            for split, records in _by_split(files[path], name, alone=len(files) == 1).items()
            for row in pope_rows(records)
        }
        # In the file's order, which answers without ids go by.
        found.append([asked[record.where] for record in files[path]])
    return QuestionFiles(found, is_pope=True)


def _by_split(records: Sequence[Record], name: str, *, alone: bool) -> dict[str, list[Record]]:
    """Split → its rows, which may name it; a file for one split may leave it to the file's name."""
    if name in POPE_SPLITS and (wrong := of_other_split(records, name)):
        raise InputError(
            f"{wrong[0]}: names the split {wrong[1]}, but the file's name {name}; rename the file, "
            "or correct its rows"
        )
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(named_split(record) or name, []).append(record)
    other = next((split for split in found if split != name), None)
    if len(found) == 1:
        return {other if alone and other else name: list(records)}
    return {split if alone else f"{name} {split}": rows for split, rows in found.items()}


def _annotated(path: Path, rows: Sequence[AnnotatedQuestion], *, by_task: bool) -> QuestionFiles:
    asked = [
        Asked(
            split=path.name,
            question_id=row.question_id,
            text=row.question,
            image=row.image,
            answers=row.answers,
            parts=_parts(row) if by_task else (),
            source=path.name,
        )
        for row in rows
        if row.answers
    ]
    without = frozenset(row.question_id for row in rows if not row.answers)
    return QuestionFiles([asked], unanswerable=without)


def _parts(row: AnnotatedQuestion) -> tuple[str, ...]:
    parts = [row.answer_type] if row.answer_type is not None else []
    # Without its answer_type a question may still be spatial, or else counts under "all" only.
    with contextlib.suppress(LookupError):
        task = vqa_task(row.question, row.answer_type)
        parts += [task] if task is not None else []
    return tuple(parts)


def _own(path: Path, records: Sequence[Record]) -> QuestionFiles:
    refuse_forgotten_answers(records)
    found = []
    for record in records:
        question = own_question(record, text_field(record, "image").strip(), split=path.name)
        yes_no = question.task == EXISTENCE and bool(question.answers)
        asked = Asked(
            split=path.name,
            question_id=question.question_id,
            text=question.question,
            image=question.image,
            label=question.reference if yes_no else None,
            answers=() if yes_no else question.answers,
            parts=(question.task,),
            source=path.name,
        )
        found.append(asked)
    return QuestionFiles([found])
