"""Answer files scored against counts worked by hand."""

import json

import pytest

from vrp.data.score_file import PopeScore, score_files
from vrp.errors import InputError

LABELS = ["yes", "yes", "yes", "no", "no", "no"]
#          strict: yes, yes, unparsed, yes, no, no;  official: yes, yes, yes, yes, yes, no
GIVEN = ["Yes", "Yes, it is.", "A dog", "yes", "NO", "No."]


def score_pope_files(questions, answers, answer_key=None):
    return score_files(list(questions.values()), answers, answer_key=answer_key).pope


def score_vqa_file(questions, annotations, answers, **options):
    return score_files([questions], [answers], annotations=annotations, **options)


def _lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _questions(path, labels):
    rows = [
        {"question_id": i, "image": "a.jpg", "text": f"Is there a {i}?", "label": label}
        for i, label in enumerate(labels)
    ]
    return _lines(path, rows)


@pytest.fixture
def pope(tmp_path):
    return {"random": _questions(tmp_path / "random.json", LABELS)}


def test_pope_measures_side_by_side(tmp_path, pope):
    answers = [{"question_id": i, "text": text} for i, text in enumerate(GIVEN)]
    strict, official = score_pope_files(pope, [_lines(tmp_path / "a.jsonl", answers[::-1])])
    # Strict: right 1, 2, 5, 6 of 6; said yes 3, two of them right; three labelled yes.
    assert strict == PopeScore(
        split="random", parser="strict", n=6, accuracy=4 / 6, precision=2 / 3, recall=2 / 3,
        f1=pytest.approx(2 / 3), yes_rate=3 / 6, parse_rate=5 / 6,
    )  # fmt: skip
    # Official: right 1, 2, 3, 6; said yes 5, three right; F1 = 2·(3/5)·1/(3/5 + 1) = 3/4.
    assert official == PopeScore(
        split="random", parser="official", n=6, accuracy=4 / 6, precision=3 / 5, recall=1.0,
        f1=pytest.approx(3 / 4), yes_rate=5 / 6, parse_rate=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("codes", ["10", "yn", "YN", "tf", ["true", "false"], ["1.0", "0.0"], "11"])
def test_codes_in_place_of_words_are_refused(tmp_path, pope, codes):
    rows = [{"question_id": i, "text": codes[i % 2]} for i in range(len(LABELS))]
    with pytest.raises(InputError, match="throughout, which says neither yes nor no"):
        score_pope_files(pope, [_lines(tmp_path / "a.jsonl", rows)])
    rows[3]["text"] = "No"
    assert len(score_pope_files(pope, [_lines(tmp_path / "a.jsonl", rows)])) == 2


def test_splits_are_scored_apart_and_together(tmp_path):
    files = {
        "random": _questions(tmp_path / "random.json", ["yes", "no"]),
        "popular": _questions(tmp_path / "popular.json", ["yes", "no", "no", "yes"]),
    }
    answers = [
        _lines(tmp_path / "r.jsonl", [{"question_id": i, "answer": "yes"} for i in range(2)]),
        _lines(tmp_path / "p.jsonl", [{"question_id": i, "answer": "no"} for i in range(4)]),
    ]
    scores = {(s.split, s.parser): s for s in score_pope_files(files, answers)}
    assert set(scores) == {
        (split, parser)
        for split in ("random", "popular", "all")
        for parser in ("strict", "official")
    }
    # Together: 1 of 2 and 2 of 4 right; yes said twice, once rightly; three are labelled yes.
    both = scores["all", "strict"]
    assert (both.n, both.accuracy, both.precision, both.recall) == (6, 0.5, 0.5, 1 / 3)
    assert both.f1 == pytest.approx(2 * 0.5 * (1 / 3) / (0.5 + 1 / 3))
    assert scores["random", "strict"].yes_rate == 1.0

    rows = [{"category": "random", "question_id": i, "answer": "yes"} for i in range(2)]
    rows += [{"category": "popular", "question_id": i, "answer": "no"} for i in range(4)]
    one_file = _lines(tmp_path / "one.jsonl", rows[::-1])
    assert {(s.split, s.parser): s for s in score_pope_files(files, [one_file])} == scores


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question_id": 0, "answer": "no"}], "line 1: one answer file for 2 splits, and no key"),
        (
            [{"category": "rndom", "question_id": 0, "answer": "no"}],
            r"line 1: one answer file for 2 splits, and no key .* says which \(random, popular\)",
        ),
        (
            [{"split": "random", "question_id": 0, "answer": "no"}],
            "1 questions have no answer, the first is question_id 0 of popular",
        ),
    ],
)
def test_one_file_must_say_which_split(tmp_path, rows, message):
    files = {name: _questions(tmp_path / f"{name}.json", ["yes"]) for name in ("random", "popular")}
    with pytest.raises(InputError, match=message):
        score_pope_files(files, [_lines(tmp_path / "a.jsonl", rows)])


def test_files_must_pair_up(tmp_path, pope):
    path = _lines(tmp_path / "a.jsonl", [{"answer": "no"}] * 6)
    with pytest.raises(InputError, match="2 answer files for 1 question files"):
        score_pope_files(pope, [path, path])


def test_answers_without_ids_go_by_order_also_as_one_array(tmp_path, pope):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"answer": text} for text in GIVEN]))
    assert score_pope_files(pope, [path])[0].accuracy == 4 / 6
    path.write_text(json.dumps([{"answer": text} for text in GIVEN[1:]]))
    with pytest.raises(InputError, match="5 answers without question_id for 6 questions"):
        score_pope_files(pope, [path])


def test_nothing_answered_yes_has_no_precision(tmp_path, pope):
    path = _lines(tmp_path / "a.jsonl", [{"answer": "no"}] * 6)
    strict = score_pope_files(pope, [path])[0]
    assert (strict.precision, strict.recall, strict.f1, strict.accuracy) == (None, 0.0, None, 0.5)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 1, 2, 3, 4], "1 questions have no answer, the first is question_id 5"),
        ([0, 1, 2, 3, 4, 5, 6], "line 7: question_id 6 is not among the questions"),
        ([0, 1, 2, 3, 4, 5, 0], "line 7: question_id 0 was answered before .*line 1"),
    ],
)
def test_every_question_needs_exactly_one_answer(tmp_path, pope, ids, message):
    path = _lines(tmp_path / "a.jsonl", [{"question_id": i, "answer": "yes"} for i in ids])
    with pytest.raises(InputError, match=message):
        score_pope_files(pope, [path])


@pytest.mark.parametrize(
    "key", ["answer", "text", "response", "prediction", "pred", "output", "generated_text"]
)
def test_the_text_is_found_under_the_usual_keys(tmp_path, pope, key):
    rows = [{"question_id": str(i), key: text, "model_id": "m"} for i, text in enumerate(GIVEN)]
    assert score_pope_files(pope, [_lines(tmp_path / "a.jsonl", rows)])[0].accuracy == 4 / 6


def test_the_key_can_be_named_and_must_be_where_two_would_do(tmp_path, pope):
    rows = [
        {"question_id": i, "answer": "no", "response": text, "said": "no"}
        for i, text in enumerate(GIVEN)
    ]
    path = _lines(tmp_path / "a.jsonl", rows)
    with pytest.raises(InputError, match="line 1: keys 'answer' and 'response' may both hold"):
        score_pope_files(pope, [path])
    assert score_pope_files(pope, [path], answer_key="response")[0].accuracy == 4 / 6
    assert score_pope_files(pope, [path], answer_key="said")[0].accuracy == 0.5
    with pytest.raises(InputError, match="line 1: key 'sad' is missing"):
        score_pope_files(pope, [path], answer_key="sad")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question_id": 0}, r"line 1: none of the keys answer, .* \(found: question_id\)"),
        ({"question_id": 0, "answer": None}, "line 1: key 'answer' is not text"),
        ({"question_id": 0, "answer": [None]}, "line 1: key 'answer' is not text"),
        ({"question_id": 0, "answer": True}, "line 1: key 'answer' is not text"),
        ({"question_id": 0, "answer": float("nan")}, "line 1: key 'answer' is not text"),
        ({"question_id": 0, "answer": ["no", "no"]}, "key 'answer' holds several texts"),
    ],
)
def test_malformed_answers_are_named(tmp_path, pope, row, message):
    with pytest.raises(InputError, match=message):
        score_pope_files(pope, [_lines(tmp_path / "a.jsonl", [row])])


def test_rows_copied_from_the_question_file_do_not_have_the_question_scored(tmp_path, pope):
    asked = [json.loads(line) for line in pope["random"].read_text().splitlines()]
    rows = [row | {"model_reply": text} for row, text in zip(asked, GIVEN, strict=True)]
    path = _lines(tmp_path / "a.jsonl", rows)
    with pytest.raises(InputError, match=r"line 1: key 'text' is the question's .*--answer-key"):
        score_pope_files(pope, [path])
    assert score_pope_files(pope, [path], answer_key="model_reply")[0].accuracy == 4 / 6
    answered = [{"question_id": i, "text": text, "image": "a.jpg"} for i, text in enumerate(GIVEN)]
    path = _lines(tmp_path / "b.jsonl", answered)
    assert score_pope_files(pope, [path])[0].accuracy == 4 / 6


@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize(
    ("key", "right", "wrong", "message"),
    [
        ("question", "is there  a 1?\nAnswer yes or no.", "Is there a 2?", "'Is there a 1"),
        ("image", "val2014/a.png", "b.jpg", "'a.jpg'"),
    ],
)
def test_rows_that_repeat_another_question_than_their_ids_are_refused(
    tmp_path, pope, with_ids, key, right, wrong, message
):
    rows = [
        ({"question_id": i} if with_ids else {}) | {"answer": text} for i, text in enumerate(GIVEN)
    ]
    rows[1][key] = right
    assert score_pope_files(pope, [_lines(tmp_path / "a.jsonl", rows)])[0].accuracy == 4 / 6
    rows[1][key] = wrong
    with pytest.raises(InputError, match=f"line 2: key '{key}' is .*question_id 1 .*{message}"):
        score_pope_files(pope, [_lines(tmp_path / "a.jsonl", rows)])


def test_rows_of_another_split_are_refused(tmp_path, pope):
    rows = [{"question_id": i, "answer": text} for i, text in enumerate(GIVEN)]
    for said in ("random", "food"):
        path = _lines(tmp_path / "a.jsonl", [row | {"category": said} for row in rows])
        assert score_pope_files(pope, [path])[0].accuracy == 4 / 6
    path = _lines(tmp_path / "a.jsonl", [row | {"category": "popular"} for row in rows])
    with pytest.raises(InputError, match=r"line 1: key 'category' is 'popular', but .* random"):
        score_pope_files(pope, [path])


def test_of_many_keys_the_first_few_are_shown(tmp_path, pope):
    path = _lines(tmp_path / "a.jsonl", [{f"key{i:02}": i for i in range(30)}])
    with pytest.raises(InputError, match=r"with keys key00, .*key07 and 22 more; give") as caught:
        score_pope_files(pope, [path])
    assert "key08" not in str(caught.value)


def test_vqa_answers_are_compared_with_their_questions(tmp_path):
    questions, annotations, answers = vqa_files(tmp_path)
    rows = json.loads(answers.read_text())
    fitting = {"image": "COCO_val2014_000000000001.jpg", "question": "How many dogs?"}
    answers.write_text(json.dumps([rows[0] | fitting, *rows[1:]]))
    assert score_vqa_file(questions, annotations, answers).vqa[0].n == 5
    answers.write_text(json.dumps([rows[0] | {"image": "000000000002.jpg"}, *rows[1:]]))
    with pytest.raises(InputError, match=r"row 1: key 'image' is '000000000002\.jpg'"):
        score_vqa_file(questions, annotations, answers)


def test_answers_to_questions_without_annotation(tmp_path):
    questions, annotations, answers = vqa_files(tmp_path)
    annotated = json.loads(annotations.read_text())["annotations"]
    annotations.write_text(json.dumps({"annotations": annotated[:-1]}))
    with pytest.raises(InputError, match="question_id 4 is among the questions, but has no annota"):
        score_vqa_file(questions, annotations, answers)


def vqa_files(folder):
    """Questions, annotations and answers; the comments say what they are worth."""
    rows = [
        ("How many dogs?", "number", ["two"] * 10, "Two"),  # official: raw letters differ → 0
        ("How many cats?", "number", ["2", "two", *["3"] * 8], "2"),  # two matches → 0.6
        ("What color?", "other", ["red"] * 10, "red"),
        ("Is it wet?", "yes/no", ["no"] * 10, "the"),  # 0, normalised to nothing
        ("Is it under it?", "yes/no", ["yes"] * 6 + ["no"] * 4, "Yes!"),  # six of ten → 1
    ]
    questions, annotations, answers = (
        folder / f"{name}.json" for name in ("questions", "annotations", "answers")
    )
    asked = [
        {"question_id": i, "image_id": 1, "question": text} for i, (text, *_) in enumerate(rows)
    ]
    questions.write_text(json.dumps({"questions": asked}))
    annotated = [
        {"question_id": i, "answer_type": kind, "answers": truths}
        for i, (_, kind, truths, _) in enumerate(rows)
    ]
    annotations.write_text(json.dumps({"annotations": annotated}))
    given = [{"question_id": i, "answer": row[3]} for i, row in enumerate(rows)]
    answers.write_text(json.dumps(given))
    return questions, annotations, answers


def test_vqa_over_all_by_type_and_by_task_under_both_rules(tmp_path):
    files = vqa_files(tmp_path)
    found = score_vqa_file(*files)
    scores = {(score.rule, score.part): score for score in found.vqa}
    parts = ("all", "number", "other", "yes/no", "counting", "spatial", "open")
    assert set(scores) == {(rule, part) for rule in ("normalised", "official") for part in parts}
    counting = scores["official", "counting"]
    assert (counting.n, counting.correct_rate) == (2, 0.5)
    assert counting.accuracy == pytest.approx(0.3)
    assert scores["official", "number"]._replace(part="counting") == counting
    assert scores["normalised", "counting"].accuracy == pytest.approx(0.8)
    assert scores["normalised", "all"].accuracy == pytest.approx((1 + 0.6 + 1 + 0 + 1) / 5)
    assert scores["normalised", "all"].parse_rate == 0.8
    assert scores["normalised", "spatial"].n == 1
    strict = score_vqa_file(*files, threshold=0.7).vqa[0]
    assert strict.correct_rate == 3 / 5


def test_vqa_questions_with_yes_or_no_are_scored_as_pope_is(tmp_path):
    strict, official = score_vqa_file(*vqa_files(tmp_path)).yes_no
    # "the" is unparsed; POPE's own rule takes it for yes, and the label is no.
    assert (strict.split, strict.n, strict.accuracy, strict.parse_rate) == ("yes/no", 2, 0.5, 0.5)
    assert (strict.precision, strict.recall, strict.f1, strict.yes_rate) == (1.0, 1.0, 1.0, 0.5)
    assert (official.accuracy, official.precision, official.yes_rate) == (0.5, 0.5, 1.0)


def test_vqa_ids_images_and_answers_that_look_alike(tmp_path):
    """Image ids that are question ids, questions that contain answers or begin like others."""
    rows = [
        ("What is it?", 1, "a dog"),
        ("What is it for?", 2, "red"),
        ("Is it red or a dog?", 7, "red"),
        ("Is a dog red?", 4, "a dog"),
    ]
    questions, annotations = tmp_path / "q.json", tmp_path / "n.json"
    asked = [
        {"question_id": i, "image_id": image, "question": text}
        for i, (text, image, _) in enumerate(rows, 1)
    ]
    questions.write_text(json.dumps({"questions": asked}))
    annotated = [{"question_id": i, "answers": [row[2]] * 10} for i, row in enumerate(rows, 1)]
    annotations.write_text(json.dumps({"annotations": annotated}))
    given = [
        q | {"answer": row[2], "target": row[2], "prompt": q["question"]}
        for q, row in zip(asked, rows, strict=True)
    ]
    answers = _lines(tmp_path / "a.jsonl", given[::-1])
    assert score_vqa_file(questions, annotations, answers).vqa[0].accuracy == 1.0
    given[0]["prompt"] = given[1]["prompt"]
    with pytest.raises(InputError, match=r"key 'prompt' is 'What is it for\?', but question_id 1 "):
        score_vqa_file(questions, annotations, _lines(tmp_path / "a.jsonl", given))
    given[0] |= {"prompt": "What is it?", "target": "red"}
    with pytest.raises(InputError, match="key 'target' is 'red', but question_id 1 "):
        score_vqa_file(questions, annotations, _lines(tmp_path / "a.jsonl", given))
