"""Answer files scored against counts worked by hand."""

import json

import pytest

from vrp.data.score_file import PopeScore, score_answer_file
from vrp.errors import InputError

LABELS = ["yes", "yes", "yes", "no", "no", "no"]
#          strict: yes, yes, unparsed, yes, no, no;  official: yes, yes, yes, yes, yes, no
GIVEN = ["Yes", "Yes, it is.", "A dog", "yes", "NO", "No."]


def _lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def pope(tmp_path):
    rows = [
        {"question_id": i, "image": "a.jpg", "text": f"Is there a {i}?", "label": label}
        for i, label in enumerate(LABELS)
    ]
    return _lines(tmp_path / "pope.json", rows)


def test_pope_measures_side_by_side(tmp_path, pope):
    answers = [{"question_id": i, "text": text} for i, text in enumerate(GIVEN)]
    strict, official = score_answer_file(pope, _lines(tmp_path / "a.jsonl", answers[::-1]))
    # Strict: right 1, 2, 5, 6 of 6; said yes 3, two of them right; three labelled yes.
    assert strict == PopeScore("strict", 6, 4 / 6, 2 / 3, 2 / 3, pytest.approx(2 / 3), 3 / 6, 5 / 6)
    # Official: right 1, 2, 3, 6; said yes 5, three right; F1 = 2·(3/5)·1/(3/5 + 1) = 3/4.
    assert official == PopeScore("official", 6, 4 / 6, 3 / 5, 1.0, pytest.approx(3 / 4), 5 / 6, 1.0)


def test_answers_without_ids_go_by_order_also_as_one_array(tmp_path, pope):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"answer": text} for text in GIVEN]))
    assert score_answer_file(pope, path)[0].accuracy == 4 / 6
    path.write_text(json.dumps([{"answer": text} for text in GIVEN[1:]]))
    with pytest.raises(InputError, match="5 answers without question_id for 6 questions"):
        score_answer_file(pope, path)


def test_nothing_answered_yes_has_no_precision(tmp_path, pope):
    path = _lines(tmp_path / "a.jsonl", [{"answer": "no"}] * 6)
    strict = score_answer_file(pope, path)[0]
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
        score_answer_file(pope, path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question_id": 0}, r"line 1: no key 'answer' or 'text' \(found: question_id\)"),
        ({"question_id": 0, "answer": None}, "line 1: key 'answer' is not text"),
    ],
)
def test_malformed_answers_are_named(tmp_path, pope, row, message):
    with pytest.raises(InputError, match=message):
        score_answer_file(pope, _lines(tmp_path / "a.jsonl", [row]))


def test_vqa_over_all_and_by_task_under_both_rules(tmp_path):
    rows = [
        ("How many dogs?", "number", ["two"] * 10, "Two"),  # official: raw letters differ → 0
        ("How many cats?", "number", ["2", "two", *["3"] * 8], "2"),  # two matches → 0.6
        ("What color?", "other", ["red"] * 10, "red"),
        ("Is it wet?", "yes/no", ["no"] * 10, "the"),
    ]
    questions = tmp_path / "questions.json"
    annotations = tmp_path / "annotations.json"
    answers = tmp_path / "answers.json"
    questions.write_text(
        json.dumps(
            {
                "questions": [
                    {"question_id": i, "image_id": 1, "question": text}
                    for i, (text, *_) in enumerate(rows)
                ]
            }
        )
    )
    annotations.write_text(
        json.dumps(
            {
                "annotations": [
                    {"question_id": i, "answer_type": kind, "answers": truths}
                    for i, (_, kind, truths, _) in enumerate(rows)
                ]
            }
        )
    )
    answers.write_text(
        json.dumps([{"question_id": i, "answer": row[3]} for i, row in enumerate(rows)])
    )
    scores = {
        (score.rule, score.task): score
        for score in score_answer_file(questions, answers, annotations=annotations)
    }
    assert set(scores) == {
        (rule, task) for rule in ("normalised", "official") for task in ("all", "counting", "open")
    }
    counting = scores["official", "counting"]
    assert (counting.n, counting.correct_rate) == (2, 0.5)
    assert counting.accuracy == pytest.approx(0.3)
    assert scores["normalised", "counting"].accuracy == pytest.approx(0.8)
    assert scores["normalised", "all"].accuracy == pytest.approx((1 + 0.6 + 1 + 0) / 4)
    assert scores["normalised", "all"].parse_rate == 0.75
    strict = score_answer_file(questions, answers, annotations=annotations, threshold=0.7)
    assert strict[0].correct_rate == 0.5
