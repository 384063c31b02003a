"""Answer files of any keys, order, nesting and encoding: right, or refused in one line."""

import gzip
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pope_answers import ASKED, ID_NAMES, LABEL_NAMES, QUESTION_NAMES, lines, put

from vrp.data import score_file
from vrp.data.answer_fields import ANSWER_KEYS
from vrp.data.answer_file import Basis
from vrp.data.score_file import score_files
from vrp.errors import InputError

EXAMPLES = 20
SPLITS = tuple(ASKED)
IMAGE_NAMES = ("image", "image_id", "img", "doc.image_source", "media.file", "pic")
SPLIT_NAMES = ("category", "split", "doc.category", "task", "meta.kind")
ANSWER_NAMES = ("answer", "text", "response", "prediction", "output", "filtered_resps")
NAMES = {
    "id": st.sampled_from(ID_NAMES) | st.just("zzz_key"),
    "text": st.sampled_from(QUESTION_NAMES) | st.text("abcxyz_", min_size=1, max_size=6),
    "label": st.sampled_from(LABEL_NAMES),
    "image": st.sampled_from(IMAGE_NAMES),
    "split": st.sampled_from(SPLIT_NAMES),
}
FORMS = {
    "id": (int, str, float, "{}.0".format),
    "text": (str, str.upper, "<image>\n{}\nAnswer yes or no.".format, "USER: {} ASSISTANT:".format,
             lambda text: text.rstrip("?")),
    "label": (str, str.title, str.upper, lambda label: [label]),
    "image": (str, "/data/val2014/{}".format, "file:///x/{}".format, lambda image: [image]),
    "split": (str, str.upper, "coco_pope_{}.json".format, lambda split: [split]),
}  # fmt: skip
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32")


def as_list(rows):
    return json.dumps(rows, ensure_ascii=False)


def as_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_pretty_texts(rows):
    return "\n\n".join(json.dumps(row, indent=2) for row in rows)


def as_wrapped(rows):
    return json.dumps({"model": "llava", "config": {"seed": 1}, "results": rows}, indent=1)


def as_nested(rows):
    return json.dumps({"run": {"data": {"outputs": rows}}})


def as_numbered(rows):
    return json.dumps({str(i): row for i, row in enumerate(rows)})


CONTAINERS = (as_list, as_lines, as_pretty_texts, as_wrapped, as_nested, as_numbered)


@st.composite
def written_files(draw, fields=()):
    """Rows that answer questions and repeat some of their fields.

    Args:
        fields: what rows repeat in any case.

    Returns: the splits asked; rows with their question's place; the answer's key; field → (key,
    form).
    """
    splits = draw(st.sampled_from([SPLITS[:1], SPLITS[1:], SPLITS]))
    asked = [q | {"id": q["question_id"], "split": split} for split in splits for q in ASKED[split]]
    answer = draw(st.sampled_from(ANSWER_NAMES))
    repeated = {
        field: (draw(name), draw(st.sampled_from(FORMS[field])))
        for field, name in NAMES.items()
        if field in fields or draw(st.booleans())
    }
    assume(len({name for name, _ in repeated.values()} | {answer}) == len(repeated) + 1)
    words = st.sampled_from(["Yes", "No", "Yes, it is.", "no idea"])
    rows = []
    for place, question in enumerate(asked):
        row = {answer: f"{draw(words)} #{place}"}
        for field, (name, form) in repeated.items():
            put(row, name, form(question[field]))
        rows.append((place, row))
    if draw(st.booleans()):
        rows = draw(st.permutations(rows))
    return splits, rows, answer, repeated


@st.composite
def encoded(draw, rows):
    """Rows as the bytes of a file."""
    data = draw(st.sampled_from(CONTAINERS))(rows).encode(draw(st.sampled_from(ENCODINGS)))
    return gzip.compress(data) if draw(st.booleans()) else data


class Taken(NamedTuple):
    texts: list[str]
    basis: Basis


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    return {split: lines(folder / f"coco_pope_{split}.json", rows) for split, rows in ASKED.items()}


def paired(files, splits, data, prompts=(), **options):
    """The text given to each question, and what it rests on; None: refused in one line."""
    found = []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        read = score_file.read_answers

        def recorded(*arguments, **more):
            given_to_each = read(*arguments, **more)
            found.append(given_to_each)
            return given_to_each

        patch.setattr(score_file, "read_answers", recorded)
        path = Path(folder) / "answers.json"
        path.write_bytes(data)
        try:
            score_files([*(files[split] for split in splits), *prompts], [path], **options)
        except InputError as error:
            message = str(error)
            if "\n" not in message:
                return None
            raise
    return Taken(*found[0])


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), written=written_files())
def test_a_file_is_paired_rightly_or_refused(files, data, written):
    splits, rows, answer, repeated = written
    content = data.draw(encoded([row for _, row in rows]))
    taken = paired(files, splits, content)
    if taken is None:
        return
    in_order = [place for place, _ in rows] == list(range(len(rows)))
    if taken.basis.by == "line order" and not in_order:
        assert not {"id", "text"} & repeated.keys()  # nothing tells, and the basis says so
    else:
        assert taken.texts == [row[answer] for _, row in sorted(rows, key=lambda row: row[0])]


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), written=written_files(fields=("id", "text")))
def test_files_in_order_with_ids_and_questions_are_taken(files, data, written):
    """Unless a key is one that several meanings fit."""
    splits, rows, answer, repeated = written
    assume(len(splits) == 1 or "split" in repeated)
    assume(not answer.startswith(("answer", "text")) or "label" not in repeated)
    assume(repeated["text"][0] not in ANSWER_KEYS and repeated["id"][0] != "zzz_key")
    assert paired(files, splits, data.draw(encoded([row for _, row in rows]))) is not None


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), written=written_files(fields=("id", "text")))
def test_answers_to_one_split_are_refused_as_anothers(files, data, written):
    splits, rows, _, _ = written
    assume(len(splits) == 1)
    other = [split for split in SPLITS if split not in splits]
    assert paired(files, other, data.draw(encoded([row for _, row in rows]))) is None


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), field=st.sampled_from(["id", "text", "image", "label"]))
def test_one_contradiction_is_refused(files, data, field):
    splits, rows, _, repeated = data.draw(written_files(fields=("id", "text", field)))
    asked = [q | {"id": q["question_id"]} for split in splits for q in ASKED[split]]
    place, row = data.draw(st.sampled_from(rows))
    other = data.draw(st.sampled_from(asked))
    assume(other[field] != asked[place][field])
    name, form = repeated[field]
    put(row, name, form(other[field]))
    assert paired(files, splits, data.draw(encoded([row for _, row in rows]))) is None


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    data=st.data(),
    splits=st.sampled_from([SPLITS[:1], SPLITS]),
    first_id=st.sampled_from([0, 1, 7, 40, 110, 20_000_001]),
    restart=st.booleans(),
    fields=st.sets(st.sampled_from(["question_id", "prompt", "image", "label", "category"])),
    with_split=st.booleans(),
)
def test_answers_under_the_ids_of_a_prompt_file(
    files, data, splits, first_id, restart, fields, with_split
):
    """LLaVA's layout: paired rightly or refused, whatever the ids and whatever rows repeat."""
    prompts, rows = [], []
    for split in data.draw(st.permutations(splits)):
        for place, i in enumerate(data.draw(st.permutations(range(12)))):
            number = first_id + (place if restart else len(prompts))
            suffix = data.draw(st.sampled_from(["", "\nAnswer with one word."]))
            asked = ASKED[split][i]
            prompt = {
                "question_id": number,
                "image": asked["image"],
                "text": asked["text"] + suffix,
            }
            prompts.append(prompt | ({"category": split} if with_split else {}))
            whole = prompt | {"prompt": prompt["text"], "label": asked["label"], "category": split}
            answer = f"{data.draw(st.sampled_from(['Yes', 'No']))} {split} {i}"
            rows.append({"text": answer} | {key: whole[key] for key in sorted(fields)})
    shuffled = data.draw(st.booleans())
    if shuffled:
        rows = data.draw(st.permutations(rows))
    with tempfile.TemporaryDirectory() as folder:
        path = lines(Path(folder) / "llava_pope_test.jsonl", prompts)
        taken = paired(files, splits, as_lines(rows).encode(), prompts=[path])
    if taken is None:
        assert shuffled or restart or not with_split or "question_id" not in fields
    elif taken.basis.by == "line order":
        assert not shuffled or "prompt" not in fields
    else:
        found = [text.split(" ", 1)[1] for text in taken.texts]
        assert found == [f"{split} {i}" for split in splits for i in range(12)]


KEYS = st.sampled_from([*ID_NAMES, *QUESTION_NAMES, *LABEL_NAMES, *IMAGE_NAMES, *SPLIT_NAMES,
                        *ANSWER_KEYS, "results", "data", "columns", "doc"])  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 14) | st.floats() | st.text(max_size=8)
    | st.sampled_from([q[key] for rows in ASKED.values() for q in rows for key in q])
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=EXAMPLES * 2, deadline=None)
@given(value=JSON, answer_key=st.none() | KEYS, as_rows=st.booleans())
def test_any_json_is_scored_or_refused_in_one_line(files, value, answer_key, as_rows):
    content = json.dumps([value] * 12 if as_rows else value).encode()
    paired(files, SPLITS[:1], content, answer_key=answer_key)


@settings(max_examples=EXAMPLES * 2, deadline=None)
@given(data=st.data(), written=written_files())
def test_damaged_files_are_scored_or_refused_in_one_line(files, data, written):
    splits, rows, _, _ = written
    content = bytearray(data.draw(encoded([row for _, row in rows])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        assume(content)
    paired(files, splits, bytes(content))


QUESTION_KEYS = st.sampled_from(
    ["question_id", "image", "image_id", "text", "question", "label", "answers", "answer_type",
     "category", "task", "group", "questions", "annotations", "data", "set_name"]
)  # fmt: skip
QUESTION_ROWS = st.lists(
    st.dictionaries(QUESTION_KEYS, SCALARS | st.lists(SCALARS, max_size=3), max_size=6), max_size=4
)


@settings(max_examples=EXAMPLES * 2, deadline=None)
@given(
    rows=QUESTION_ROWS,
    key=st.none() | QUESTION_KEYS,
    annotations=st.none() | QUESTION_ROWS,
    beside=st.booleans(),
)
def test_any_question_files_are_read_or_refused_in_one_line(files, rows, key, annotations, beside):
    with tempfile.TemporaryDirectory() as folder:
        questions, answers = Path(folder) / "questions.json", Path(folder) / "answers.jsonl"
        questions.write_text(json.dumps(rows if key is None else {key: rows}))
        lines(answers, [{"question_id": i, "answer": "yes"} for i in range(1, 13)])
        notes = None
        if annotations is not None:
            notes = Path(folder) / "annotations.json"
            notes.write_text(json.dumps({"annotations": annotations}))
        given_files = [questions, *([files[SPLITS[0]]] if beside else [])]
        try:
            score_files(given_files, [answers], annotations=notes)
        except InputError as error:
            if "\n" in str(error):
                raise
