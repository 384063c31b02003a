"""Readers on files made here: what is kept, what is dropped, what is refused and where."""

import json
import random

import pytest
from PIL import Image

from vrp.data.datasets.own import read_own
from vrp.data.datasets.pope import pope_rows, read_pope
from vrp.data.datasets.textvqa import read_textvqa
from vrp.data.datasets.vqa import read_vqa, vqa_task
from vrp.data.images import ImageIndex
from vrp.data.json_input import read_records
from vrp.data.question_files import UNASSIGNED
from vrp.data.scoring import score_answer
from vrp.errors import InputError


def read_pope_rows(path):
    return pope_rows(read_records(path))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(1, 4):
        Image.new("RGB", (4, 4), (i, i, i)).save(folder / f"COCO_val2014_{i:012d}.jpg")
    return ImageIndex(folder)


def _pope(i, image=1, text="Is there a dog in the image?", label="yes"):
    name = f"COCO_val2014_{image:012d}.jpg"
    return {"question_id": i, "image": name, "text": text, "label": label}


def _lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# POPE


def test_a_pope_split_keeps_its_own_questions_whatever_other_splits_ask(tmp_path, images):
    adversarial = _lines(
        tmp_path / "a.json",
        [_pope(1), _pope(2, text="Is there a cat?", label="no"), _pope(3, image=9)],
    )
    random_split = _lines(
        tmp_path / "r.json",
        [_pope(1), _pope(2, text="Is there a car?", label="no"), _pope(7)],
    )
    readings = read_pope({"random": random_split, "adversarial": adversarial}, images)
    first, second = readings["adversarial"], readings["random"]
    assert readings["random"] == read_pope({"random": random_split}, images)["random"]
    assert (first.found, len(first.questions), first.dropped) == (3, 2, {"image not found": 1})
    assert (first.missing, second.missing) == (("COCO_val2014_000000000009.jpg",), ())
    assert second.dropped == {"duplicate of (image, question)": 1}
    assert [q.item_id for q in second.questions] == ["pope/random/1", "pope/random/2"]
    kept = second.questions[1]
    assert (kept.task, kept.answers, kept.reference) == ("existence", ["no"], "no")
    assert kept.image == "COCO_val2014_000000000001.jpg"


def test_pope_array_blank_lines_and_byte_order_mark_are_tolerated(tmp_path):
    rows = [_pope(1), _pope("b", text="Is there a cat?", label="No ")]
    array = tmp_path / "array.json"
    array.write_text(json.dumps(rows), encoding="utf-8-sig")
    lines = tmp_path / "lines.json"
    lines.write_text("\n\n".join(json.dumps(row) for row in rows) + "\r\n", encoding="utf-8")
    expected = [("1", "yes"), ("b", "no")]
    for path in (array, lines):
        assert [(row.question_id, *row.answers) for row in read_pope_rows(path)] == expected


def test_pope_malformed_line_is_named(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(_pope(1)) + '\n{"question_id": 2,\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"bad\.json, line 2, column \d+: malformed JSON"):
        read_pope_rows(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "maybe"}, r"line 2: key 'label' is 'maybe'; expected yes or no"),
        ({"label": 1}, r"line 2: key 'label' is 1; expected a non-empty string"),
        ({"text": " "}, r"line 2: key 'text' is .* expected a non-empty string"),
        ({"question_id": None}, r"line 2: key 'question_id' is null"),
        ({"question_id": True}, r"line 2: key 'question_id' is true"),
        ({"question_id": 2.5}, r"line 2: key 'question_id' is 2\.5"),
        ({"text": "\ud800"}, r"line 2: key 'text' holds half a surrogate"),
    ],
)
def test_pope_bad_fields_are_named(tmp_path, change, message):
    path = _lines(tmp_path / "bad.json", [_pope(1), _pope(2) | change])
    with pytest.raises(InputError, match=message):
        read_pope_rows(path)


def test_pope_missing_key_and_non_object_lines_are_named(tmp_path):
    row = _pope(1)
    del row["label"]
    with pytest.raises(InputError, match=r"line 1: key 'label' is missing \(found: image, "):
        read_pope_rows(_lines(tmp_path / "a.json", [row]))
    with pytest.raises(InputError, match=r"line 1: a JSON number, not an object"):
        read_pope_rows(_lines(tmp_path / "b.json", [7]))
    with pytest.raises(InputError, match="holds no records"):
        read_pope_rows(_lines(tmp_path / "c.json", []))


def test_pope_not_utf8_is_named_by_line(tmp_path):
    path = tmp_path / "latin.json"
    path.write_bytes(json.dumps(_pope(1)).encode() + b'\n{"text": "caf\xe9"}\n')
    with pytest.raises(InputError, match=r"latin\.json, line 2: not UTF-8"):
        read_pope_rows(path)


def test_pope_reused_question_id(tmp_path, images):
    other = _lines(tmp_path / "other.json", [_pope(1), _pope(1, text="Is there a cat?")])
    with pytest.raises(InputError, match=r"line 2: question_id 1 was used for another question"):
        read_pope_rows(other)
    same = _lines(tmp_path / "same.json", [_pope(1), _pope(1)])
    reading = read_pope({"random": same}, images)["random"]
    assert len(reading.questions) == 1
    assert reading.dropped == {"duplicate of (image, question)": 1}


def test_pope_contradicting_labels_are_refused(tmp_path, images):
    path = _lines(tmp_path / "two.json", [_pope(1, label="yes"), _pope(2, label="no")])
    with pytest.raises(InputError, match=r"line 2: labelled no, but yes at .*line 1"):
        read_pope({"random": path}, images)
    one, other = (
        _lines(tmp_path / "1.json", [_pope(1)]),
        _lines(tmp_path / "2.json", [_pope(1, label="no")]),
    )
    with pytest.raises(InputError, match=r"1\.json, line 1: labelled yes, but no at .*2\.json"):
        read_pope({"random": one, "popular": other}, images)


@pytest.mark.parametrize("key", ["category", "split"])
def test_pope_rows_of_another_split_than_the_files_are_refused(tmp_path, images, key):
    rows = [_pope(1) | {key: "popular"}, _pope(2, image=2) | {key: " Adversarial"}]
    path = _lines(tmp_path / "p.json", rows)
    with pytest.raises(InputError, match=r"p\.json, line 2: names the split adversarial, but the "):
        read_pope({"popular": path}, images)
    own = [_pope(1) | {key: "popular"}, _pope(2, image=2) | {key: "animal"}, _pope(3, image=3)]
    reading = read_pope({"popular": _lines(path, own)}, images)["popular"]
    assert len(reading.questions) == 3


def test_pope_escaping_image_is_refused(tmp_path, images):
    path = _lines(tmp_path / "out.json", [_pope(1) | {"image": "../../x.jpg"}])
    with pytest.raises(InputError, match="leaves the data root"):
        read_pope({"random": path}, images)


def test_pope_does_not_depend_on_the_order_of_lines(tmp_path, images):
    rows = [
        _pope(i, image=1 + i % 3, text=f"Is there a {i % 7}?", label="yes") for i in range(1, 60)
    ]
    ordered = read_pope({"random": _lines(tmp_path / "o.json", rows)}, images)
    random.Random(0).shuffle(rows)
    assert read_pope({"random": _lines(tmp_path / "s.json", rows)}, images) == ordered


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: cannot be read .*check the path"):
        read_pope_rows(tmp_path / "none.json")


# VQA


@pytest.mark.parametrize(
    ("question", "answer_type", "task"),
    [
        ("How many dogs are there?", "number", "counting"),
        ("how  many dogs?", "number", "counting"),
        ("How many dogs are under the table?", "number", "counting"),  # counting comes first
        ("How many dogs are under the table?", "other", "spatial"),
        ("How many dogs?", "other", "open"),
        ("How much is it?", "number", None),
        ("What number is on the bus?", "number", None),
        ("What is left of the cat?", "other", "spatial"),
        ("Is the cat in front of the dog?", "yes/no", "spatial"),
        ("What is NEXT TO it?", "other", "spatial"),
        ("What is on top of it?", "other", "spatial"),
        ("What is between them?", "other", "spatial"),
        ("Is this an underground train?", "yes/no", None),  # whole words only
        ("What did he leave behind?", "other", "open"),
        ("What color is the cat?", "other", "open"),
        ("Is it raining?", "yes/no", None),
        ("What is behind the cat?", None, "spatial"),  # decided without the type
    ],
)
def test_vqa_task_goes_to_the_first_that_fits(question, answer_type, task):
    assert vqa_task(question, answer_type) == task


@pytest.mark.parametrize("question", ["How many dogs?", "What color?", "How many are under it?"])
def test_vqa_task_needs_the_answer_type_where_it_decides(question):
    with pytest.raises(LookupError):
        vqa_task(question, None)


def _vqa_files(tmp_path, rows, *, answer_types=True):
    questions = [
        {"question_id": i, "image_id": image, "question": text} for i, image, text, *_ in rows
    ]
    annotations = [
        {"question_id": i, "answers": [{"answer": a, "answer_id": n} for n, a in enumerate(given)]}
        | ({"answer_type": kind} if answer_types else {})
        for i, _, _, kind, given in rows
    ]
    paths = tmp_path / "questions.json", tmp_path / "annotations.json"
    document = {"data_subtype": "val2014", "questions": questions}
    paths[0].write_text(json.dumps(document), encoding="utf-8")
    paths[1].write_text(json.dumps({"annotations": annotations}), encoding="utf-8")
    return paths


VQA_ROWS = [
    (10, 1, "How many dogs?", "number", ["2", "two", "3"]),
    (11, 1, "What is under the dog?", "other", ["the mat", "Mat", "rug"]),
    (12, 2, "What color is it?", "other", ["red"] * 10),
    (13, 2, "Is it wet?", "yes/no", ["no"] * 10),
    (14, 9, "What color is it?", "other", ["red"] * 10),
    (15, 2, "What  color is it?", "other", ["blue"] * 9),
    (16, 3, "What is it?", "other", []),
]


def test_vqa_questions_go_to_their_tasks_and_every_row_is_accounted_for(tmp_path, images):
    readings = read_vqa(*_vqa_files(tmp_path, VQA_ROWS), images)
    counting, spatial, opened = (readings[task] for task in ("counting", "spatial", "open"))
    assert counting.questions[0].answers == ["2", "two", "3"]
    assert counting.questions[0].reference == "2"
    assert counting.questions[0].image == "COCO_val2014_000000000001.jpg"
    assert spatial.questions[0].reference == "mat"
    assert [question.item_id for question in opened.questions] == ["vqa/open/12"]
    assert opened.dropped == {"image not found": 1, "duplicate of (image, question)": 1}
    assert opened.missing == ("image_id 9",)
    assert readings[UNASSIGNED].dropped == {"fits no task": 2}
    assert sum(reading.found for reading in readings.values()) == len(VQA_ROWS)
    for reading in readings.values():
        assert reading.found == len(reading.questions) + sum(reading.dropped.values())


def test_vqa_without_answer_types(tmp_path, images):
    spatial_only = _vqa_files(tmp_path, VQA_ROWS[1:2], answer_types=False)
    assert len(read_vqa(*spatial_only, images)["spatial"].questions) == 1
    files = _vqa_files(tmp_path, VQA_ROWS[:3], answer_types=False)
    with pytest.raises(InputError, match="question_id 10 has no 'answer_type'"):
        read_vqa(*files, images)


def test_vqa_question_without_annotation_is_dropped_and_foreign_files_refused(tmp_path, images):
    questions, annotations = _vqa_files(tmp_path, VQA_ROWS[:3])
    document = json.loads(annotations.read_text())
    only_last = {"annotations": document["annotations"][2:]}
    annotations.write_text(json.dumps(only_last))
    readings = read_vqa(questions, annotations, images)
    assert readings[UNASSIGNED].found == 2
    document["annotations"][0]["question_id"] = 99
    annotations.write_text(json.dumps({"annotations": document["annotations"][:1]}))
    with pytest.raises(InputError, match="annotates none of the questions"):
        read_vqa(questions, annotations, images)


def test_vqa_reused_ids_are_refused(tmp_path, images):
    doubled = [VQA_ROWS[0], VQA_ROWS[0]]
    questions, annotations = _vqa_files(tmp_path, doubled)
    with pytest.raises(InputError, match="annotations row 2: question_id 10 is annotated twice"):
        read_vqa(questions, annotations, images)
    single = json.loads(annotations.read_text())["annotations"][:1]
    annotations.write_text(json.dumps({"annotations": single}))
    with pytest.raises(InputError, match="questions row 2: question_id 10 was used before"):
        read_vqa(questions, annotations, images)


def test_vqa_annotations_of_other_images_are_refused(tmp_path, images):
    questions, annotations = _vqa_files(tmp_path, VQA_ROWS[:2])
    document = json.loads(annotations.read_text())
    for same in (1, "1", 1.0, "COCO_val2014_000000000001.jpg", None):
        document["annotations"][0]["image_id"] = same
        annotations.write_text(json.dumps(document))
        assert len(read_vqa(questions, annotations, images)["counting"].questions) == 1
    document["annotations"][1]["image_id"] = 2
    annotations.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"annotations row 2: key 'image_id' is 2, but 1 at .* r"):
        read_vqa(questions, annotations, images)


@pytest.mark.parametrize("place", [0, 1])
def test_vqa_keys_that_are_there_twice_are_refused(tmp_path, images, place):
    files = _vqa_files(tmp_path, VQA_ROWS[:2])
    text = files[place].read_text()
    key = '"question_id": 11'
    files[place].write_text(text.replace(key, f"{key}, {key}"))
    assert len(read_vqa(*files, images)["spatial"].questions) == 1
    files[place].write_text(
        text.replace('"question_id": 11', '"question_id": 11, "question_id": 7')
    )
    with pytest.raises(InputError, match="'question_id' occurs twice with different values, 11 an"):
        read_vqa(*files, images)
    files[place].write_text(text)
    twice = files[1].read_text().replace('"answer": "two"', '"answer": "two", "answer": "2"')
    files[1].write_text(twice)
    with pytest.raises(InputError, match="'answer' occurs twice"):
        read_vqa(*files, images)


def test_vqa_wrong_files_are_named(tmp_path, images):
    questions, annotations = _vqa_files(tmp_path, VQA_ROWS[:1])
    with pytest.raises(InputError, match=r"annotations\.json: key 'questions' must be a list"):
        read_vqa(annotations, questions, images)
    annotations.write_text("[]")
    with pytest.raises(InputError, match="holds a JSON array, not an object"):
        read_vqa(questions, annotations, images)
    annotations.write_text('{"annotations": [\n{"question_id": 1,,}]}')
    with pytest.raises(InputError, match=r"annotations\.json, line 2, column \d+: malformed"):
        read_vqa(questions, annotations, images)
    annotations.write_text('{"annotations": [{"question_id": 10, "answers": [3]}]}')
    with pytest.raises(InputError, match=r"annotations row 1: key 'answers' is 3; expected"):
        read_vqa(questions, annotations, images)


def test_nine_annotators_are_read(tmp_path, images):
    files = _vqa_files(tmp_path, [(1, 1, "What is it?", "other", ["cat"] * 9)])
    assert len(read_vqa(*files, images)["open"].questions[0].answers) == 9


# TextVQA

CAMERA = "003a8ae2ef43b901"
DAKOTA = ["nous les gosses", "dakota", "clos culombu", "dakota digital", "dakota", "dakota",
          "dakota digital", "dakota digital", "Dakota", "dakota"]  # fmt: skip


@pytest.fixture
def pictures(tmp_path):
    """A folder as TextVQA's archive unpacks to."""
    folder = tmp_path / "data" / "train_images"
    folder.mkdir(parents=True)
    for name in (CAMERA, "0000599864fd15b3"):
        Image.new("RGB", (4, 4)).save(folder / f"{name}.jpg")
    return ImageIndex(tmp_path / "data", "train_images")


def _textvqa(i=34602, image=CAMERA, **change):
    """A row with all that the published files hold, but for the urls."""
    return {
        "question": "what is the brand of this camera?",
        "image_id": image,
        "image_classes": ["Cassette deck", "Printer"],
        "flickr_original_url": "https://example.org/o.jpg",
        "flickr_300k_url": "https://example.org/z.jpg",
        "image_width": 1024,
        "image_height": 664,
        "answers": DAKOTA,
        "question_tokens": ["what", "is", "the", "brand", "of", "this", "camera"],
        "question_id": i,
        "set_name": "val",
    } | change


def _textvqa_file(tmp_path, rows):
    header = {"dataset_type": "val", "dataset_name": "textvqa", "dataset_version": "0.5.1"}
    path = tmp_path / "TextVQA_0.5.1_val.json"
    path.write_text(json.dumps({**header, "data": rows}), encoding="utf-8")
    return path


def test_textvqa(tmp_path, pictures):
    rows = [
        _textvqa(),
        _textvqa(34603, "0000599864fd15b3", question="what  does it say?"),
        _textvqa(34604),  # the first one's image and question
        _textvqa(34605, "00685bc495504d61"),
        _textvqa(34606, question="and this?", answers=[]),
    ]
    reading = read_textvqa(_textvqa_file(tmp_path, rows), pictures, split="val")
    first, second = reading.questions
    assert first.item_id == "textvqa/val/34602"
    assert (first.dataset, first.split, first.task) == ("textvqa", "val", "text")
    assert (first.answers, first.reference) == (DAKOTA, "dakota")
    assert first.image == f"train_images/{CAMERA}.jpg"
    assert second.question == "what does it say?"
    assert reading.found == 5
    assert reading.dropped == {
        "duplicate of (image, question)": 1, "image not found": 1, "no answers": 1,
    }  # fmt: skip
    assert reading.missing == ("image_id 00685bc495504d61",)


def test_textvqa_is_scored_as_vqa_is(tmp_path, pictures):
    path = _textvqa_file(tmp_path, [_textvqa()])
    question = read_textvqa(path, pictures, split="val").questions[0]
    # Annotators that wrote dakota: five; each of them sees four others, everyone else five.
    assert score_answer(question, "Dakota.").score == 1.0
    # Dakota digital: three; each of them sees two others (2/3), the other seven see three.
    digital = score_answer(question, "dakota digital")
    assert digital.score == pytest.approx((3 * 2 / 3 + 7) / 10, abs=1e-15)
    # One annotator: nobody but the other nine sees a match.
    assert score_answer(question, "clos culombu").score == pytest.approx(0.3, abs=1e-15)
    assert not score_answer(question, "clos culombu").correct
    assert score_answer(question, "kodak").score == 0.0


def test_textvqa_without_answers_holds_nothing_to_ask(tmp_path, pictures):
    row = _textvqa(set_name="test")
    del row["answers"]
    reading = read_textvqa(_textvqa_file(tmp_path, [row]), pictures, split="test")
    assert (reading.questions, reading.dropped) == ((), {"no answers": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": DAKOTA[:9]}, "data row 2: key 'answers' holds 9 answers; TextVQA has 10"),
        ({"answers": "dakota"}, "data row 2: key 'answers' is \"dakota\"; expected a list"),
        ({"answers": [*DAKOTA[:9], 7]}, "data row 2: key 'answers' is 7; expected a list of str"),
        ({"answers": None}, "data row 2: key 'answers' is null"),
        ({"answers": ...}, r"data row 2: key 'answers' is missing \(found: flickr_300k_url"),
        ({"question": 5}, "data row 2: key 'question' is 5; expected a non-empty string"),
        ({"image_id": None}, "data row 2: key 'image_id' is null"),
        ({"question_id": 1.5}, r"data row 2: key 'question_id' is 1\.5"),
        ({"question_id": 34602}, "data row 2: question_id 34602 was used before .*data row 1"),
    ],
)
def test_textvqa_bad_rows_are_named(tmp_path, pictures, change, message):
    row = {key: value for key, value in (_textvqa(34603) | change).items() if value is not ...}
    with pytest.raises(InputError, match=message) as caught:
        read_textvqa(_textvqa_file(tmp_path, [_textvqa(), row]), pictures, split="val")
    assert "\n" not in str(caught.value)


def test_textvqa_wrong_files_are_named(tmp_path, pictures):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"questions": [_textvqa()]}))
    with pytest.raises(InputError, match=r"other\.json: key 'data' must be a list"):
        read_textvqa(path, pictures, split="val")
    path.write_bytes(b'{"data": [\n{"question": "caf\xe9"}]}')
    with pytest.raises(InputError, match=r"other\.json, line 2: not UTF-8"):
        read_textvqa(path, pictures, split="val")


def test_a_textvqa_id_that_is_a_path_finds_nothing(tmp_path, pictures):
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.jpg")
    rows = [_textvqa(image="../../secret"), _textvqa(2, "../data/train_images/" + CAMERA)]
    reading = read_textvqa(_textvqa_file(tmp_path, rows), pictures, split="val")
    assert (reading.questions, reading.dropped) == ((), {"image not found": 2})


# Own data


def _own(**fields):
    return {
        "image": "COCO_val2014_000000000001.jpg",
        "question": "What?",
        "answers": ["x"],
    } | fields


def test_own_data_defaults(tmp_path, images):
    rows = [
        _own(question="Is it?", answers="Yes"),
        _own(answers=["red", "Red", "blue"], group="tray 7", question_id="q7"),
        _own(question="How many?", answers=["3"], task="counting"),
        _own(image="absent.jpg"),
    ]
    reading = read_own(_lines(tmp_path / "own.jsonl", rows), images, split="shop")
    first, second, third = reading.questions
    assert (first.task, first.answers, first.reference) == ("existence", ["Yes"], "yes")
    assert (second.item_id, second.group, second.reference) == ("own/shop/q7", "tray 7", "red")
    assert (third.task, third.group) == ("counting", None)
    assert (reading.dropped, reading.missing) == ({"image not found": 1}, ("absent.jpg",))
    rows.reverse()
    again = read_own(_lines(tmp_path / "reversed.jsonl", rows), images, split="shop")
    ids = {question.item_id for question in reading.questions}
    assert {question.item_id for question in again.questions} == ids


def test_own_lines_without_a_task_have_the_one_that_is_given(tmp_path, images):
    rows = [
        _own(question="a?"),
        _own(question="b?", task="counting"),
        _own(question="c?", answers="no"),
    ]
    path = _lines(tmp_path / "own.jsonl", rows)

    def tasks(**given):
        reading = read_own(path, images, split="s", **given)
        assert reading.found == 3
        return [question.task for question in reading.questions]

    assert tasks() == ["open", "counting", "existence"]
    assert tasks(task="spatial") == ["spatial", "counting", "spatial"]
    # Only yes and no can be existence.
    assert tasks(task="existence") == ["open", "counting", "existence"]


def test_own_lines_without_answers_are_asked_and_not_judged(tmp_path, images):
    rows = [_own(question="a?"), _own(question="b?", task="existence"), _own(question="c?")]
    for row in rows:
        del row["answers"]
    rows[2]["answers"] = None
    path = _lines(tmp_path / "own.jsonl", rows)
    questions = read_own(path, images, split="s", task="counting").questions
    assert [q.task for q in questions] == ["counting", "existence", "counting"]
    assert {(q.reference, tuple(q.answers)) for q in questions} == {(None, ())}
    alone = read_own(path, images, split="s", task="existence").questions
    assert {q.task for q in alone} == {"existence"}
    assert next(q.task for q in read_own(path, images, split="s").questions) == "open"


def test_own_lines_that_are_known_not_to_have_answers_stand_beside_others(tmp_path, images):
    rows = [_own(question="a?", answers="yes"), _own(question="b?", answers=None)]
    path = _lines(tmp_path / "own.jsonl", rows)
    assert [q.reference for q in read_own(path, images, split="s").questions] == ["yes", None]


@pytest.mark.parametrize("answer", ["Yes", "yes.", "YES!", " yes ", "Yes,", "No.", "NO"])
def test_variants_of_yes_and_no_are_existence(tmp_path, images, answer):
    path = _lines(tmp_path / "own.jsonl", [_own(answers=[answer])])
    [question] = read_own(path, images, split="s").questions
    assert question.task == "existence"
    assert question.reference == answer.strip(" .!,").lower()


@pytest.mark.parametrize("answer", ["yes it is", "not", "yes and no", "nope"])
def test_longer_answers_are_no_variants_of_yes_and_no(tmp_path, images, answer):
    path = _lines(tmp_path / "own.jsonl", [_own(answers=[answer])])
    assert read_own(path, images, split="s").questions[0].task == "open"


def _unanswered(**fields):
    return {key: value for key, value in _own(**fields).items() if key != "answers"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [_own(), _unanswered(question="b?"), _unanswered(question="c?")],
            r"line 2: key 'answers' is missing \(so in 2 lines\), unlike at .*line 1; add it, or",
        ),
        ([_own(anwsers=["x"])], r"line 1: unknown key 'anwsers'"),
        ([_own(answers=[])], r"line 1: key 'answers' needs at least one"),
        ([_own(answers=["x", ""])], r"line 1: key 'answers' needs at least one"),
        ([_own(answers=[1])], r"line 1: key 'answers' is 1; expected a list of strings"),
        ([_own(task="existence")], r"line 1: task existence needs yes or no"),
        ([_own(), _own(task="count")], r"line 2: key 'task' is 'count'; expected one of exist"),
        ([_own(question="<image>\nWhat?")], r"line 1: key 'question' holds '<image>'; remove it"),
        ([_own(question="<|image_pad|> What?")], r"line 1: key 'question' holds '<\|image_pad"),
        ([_own(), _own()], r"line 2: same image and question as .*line 1"),
        (
            [_own(question_id=1), _own(question="b", question_id="1")],
            r"line 2: question_id 1 was used before .*line 1",
        ),
        ([_own(image="../up.jpg")], "leaves the data root"),
    ],
)
def test_own_data_refusals(tmp_path, images, rows, message):
    with pytest.raises(InputError, match=message):
        read_own(_lines(tmp_path / "own.jsonl", rows), images, split="s")
