"""Tasks by the sense of a question, against labels given by hand."""

from collections import Counter
from pathlib import Path

import pytest

from vrp.data.datasets.vqa import vqa_task

LABELLED = [
    line.split("\t")
    for line in Path(__file__).with_name("labelled_questions.tsv").read_text().splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize(("label", "answer_type", "question"), LABELLED)
def test_a_question_gets_the_task_that_a_reader_gives_it(label, answer_type, question):
    assert (vqa_task(question, answer_type) or "none") == label


def test_the_list_covers_every_task():
    counts = Counter(label for label, *_ in LABELLED)
    assert len(LABELLED) >= 120
    assert min(counts.values()) >= 20
    assert set(counts) == {"counting", "spatial", "open", "none"}
