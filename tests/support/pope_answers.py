"""Two splits as POPE's, the answers of a model, and the keys under which files repeat a question.

The splits ask the same yes-questions about the same images under the same ids.
"""

import json
import random

IMAGES = ("COCO_val2014_000000000042.jpg", "COCO_val2014_000000000117.jpg")
OBJECTS = {
    "adversarial": ("dog", "leash", "car", "bus", "cat", "sofa"),
    "popular": ("dog", "person", "car", "table", "cat", "chair"),
}
ASKED = {
    split: [
        {
            "question_id": place + 1,
            "image": IMAGES[place // 6],
            "text": f"Is there a {things[place % 6]} in the image?",
            "label": ("yes", "no")[place % 2],
        }
        for place in range(12)
    ]
    for split, things in OBJECTS.items()
}
SAID = {
    split: [f"{random.Random(f'{split}{i}').choice(('Yes', 'No'))} {split} {i}" for i in range(12)]
    for split in ASKED
}
"""Answers that are all different, so that a wrong pairing shows."""

QUESTION_NAMES = [
    "question", "prompt", "query", "input", "instruction", "q", "asked", "user_prompt", "text",
    "doc.question", "metadata.prompt", "Question", "sentence", "raw_output", "model_input",
    "question_clean", "generate_input", "normalized_text", "arguments.gen_args_0.arg_0",
]  # fmt: skip
LABEL_NAMES = [
    "label", "target", "gt", "ground_truth", "gt_ans", "gold", "truth", "reference", "doc.answer",
    "GT", "expected_answer", "correct_answer", "y_true", "expected_output", "gold_response",
    "label_norm",
]  # fmt: skip
ID_NAMES = [
    "question_id", "questionId", "question-id", "Question ID", "qid", "id", "idx", "index",
    "doc_id", "uid", "custom_id", "sample_id", "nr", "number", "meta.id", "doc.question_id",
    "pope_id",
]  # fmt: skip


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def put(row, path, value):
    """A row with a value under a path of keys."""
    *outer, last = path.split(".")
    place = row
    for key in outer:
        place = place.setdefault(key, {})
    place[last] = value
    return row
