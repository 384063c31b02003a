"""What fields of other people's rows are taken for, and which questions a text contains."""

import pytest

from vrp.data.answer_fields import as_id, as_yes_no, canonical
from vrp.data.question_index import KnownImages, KnownQuestions, as_text

QUESTIONS = ["What is it?", "What is it for?", "Why is it so very red?", "Why?", "图中有狗吗？"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What is it?", [0]),
        ("<image>\nWHAT  is it\nAnswer with one word.", [0]),
        ("What is it for? Answer.", [1]),
        ("What is it made of?", []),
        ("What is item 5?", []),
        ("Tell me why", [3]),
        ("Why is it so very red? Why?", [2, 3]),
        ("Why is it so very", [3]),
        ("请看图。图中有狗吗？请用一个词回答。", [4]),
        ("", []),
    ],
)
def test_questions_within_a_text(text, found):
    known = KnownQuestions(QUESTIONS)
    assert known.within(text) == {as_text(QUESTIONS[i]).words for i in found}


@pytest.mark.parametrize(
    ("name", "image", "same"),
    [
        ("COCO_val2014_000000000042.jpg", "42", True),
        ("42.0", "42", False),
        ("/x/val2014/COCO_val2014_000000000042.png?size=1", "COCO_val2014_000000000042.jpg", True),
        ("C:\\x\\a.JPG", "pictures/a.jpg", True),
        ("b.jpg", "a.jpg", False),
        ("x/c.jpg", "x/c.jpg", True),
        ("/data/x/c.jpg", "x/c.jpg", True),
        ("y/c.jpg", "x/c.jpg", False),
        ("00012", "12", True),
    ],
)
def test_names_of_one_image(name, image, same):
    known = KnownImages(["COCO_val2014_000000000042.jpg", "x/c.jpg", "y/c.jpg", "a.jpg", "12"])
    assert known.same(name, image) is same


def test_ids_labels_and_keys():
    values = (2.0, "2 ", 2, 2.5, True, " ", 1e300)
    assert [as_id(value) for value in values][:6] == ["2", "2", "2", None, None, None]
    said = [as_yes_no(value, coded=True) for value in ("Yes.", "NO", 1, 0, True, "1", "no dog", 2)]
    assert said == ["yes", "no", "yes", "no", "yes", "yes", None, None]
    assert [as_yes_no(value, coded=False) for value in ("y", "N", "yn", "1")] == [
        "yes",
        "no",
        None,
        None,
    ]
    assert as_yes_no(1, coded=False) is None
    assert as_yes_no("No, there is none.", coded=False) == "no"
    assert canonical("doc.questionID") == canonical("doc.0.question-id") == "doc_question_id"
