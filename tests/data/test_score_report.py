"""`vrp score`: the table it prints, the JSON it writes, and its one-line refusals."""

import json
from pathlib import Path

import pytest

from vrp.cli import main
from vrp.data.file_digest import file_sha256
from vrp.data.score_report import run
from vrp.errors import InputError


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pope_files(folder, split, labels, given):
    """A question file and an answer file of one split."""
    questions = lines(
        folder / f"coco_pope_{split}.json",
        [
            {"question_id": i, "image": "a.jpg", "text": f"Is there a {i}?", "label": label}
            for i, label in enumerate(labels, 1)
        ],
    )
    rows = [{"question_id": i, "response": text} for i, text in enumerate(given, 1)]
    return str(questions), str(lines(folder / f"answers_{split}.jsonl", rows))


@pytest.fixture
def pope(tmp_path):
    """Two splits: the command's options."""
    random = pope_files(tmp_path, "random", ["yes", "no"], ["Yes", "NO!"])
    popular = pope_files(tmp_path, "popular", ["yes", "no"], ["No.", "maybe"])
    return ["--questions", random[0], popular[0], "--answers", random[1], popular[1]]


def test_pope_splits_and_parsers_stand_side_by_side(pope, capsys):
    main(["score", *pope])
    table = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert table[0][:4] == ["POPE", "parser", "n", "accuracy"]
    # accuracy, precision, recall, F1, yes-rate, parse rate; "–": never said yes.
    assert table[1:7] == [
        ["random", "strict", "2", "100.00", "100.00", "100.00", "100.00", "50.00", "100.00"],
        ["random", "official", "2", "50.00", "50.00", "100.00", "66.67", "100.00", "100.00"],
        ["popular", "strict", "2", "0.00", "–", "0.00", "–", "0.00", "50.00"],
        ["popular", "official", "2", "0.00", "0.00", "0.00", "0.00", "50.00", "100.00"],
        ["all", "strict", "4", "50.00", "100.00", "50.00", "66.67", "25.00", "75.00"],
        ["all", "official", "4", "25.00", "33.33", "50.00", "40.00", "75.00", "100.00"],
    ]


def test_the_json_holds_full_precision_and_what_was_scored(tmp_path, pope):
    output = tmp_path / "out" / "scores.json"
    main(["score", *pope, "--output", str(output)])
    scores = json.loads(output.read_text())
    of_all = next(s for s in scores["pope"] if (s["split"], s["parser"]) == ("all", "official"))
    assert of_all["precision"] == 1 / 3
    assert scores["vqa"] == scores["vqa_yes_no"] == []
    assert scores["files"] == {path: file_sha256(tmp_path / path) for path in pope if "/" in path}


def test_vqa_needs_the_annotations(tmp_path, capsys):
    questions = tmp_path / "q.json"
    asked = [{"question_id": i, "image_id": 1, "question": "Is it?"} for i in (1, 2)]
    questions.write_text(json.dumps({"questions": asked}))
    annotations = tmp_path / "n.json"
    annotated = [{"question_id": i, "answer_type": "yes/no", "answers": ["yes"]} for i in (1, 2)]
    annotations.write_text(json.dumps({"annotations": annotated}))
    answers = tmp_path / "a.json"
    answers.write_text(json.dumps([{"question_id": i, "text": "Yes"} for i in (1, 2)]))
    command = ["score", "--questions", str(questions), "--answers", str(answers)]
    output = tmp_path / "scores.json"
    main([*command, "--annotations", str(annotations), "--output", str(output)])
    printed = capsys.readouterr().out
    assert "correct (≥ 0.5)" in printed
    assert "VQA, majority yes or no" in printed
    scores = json.loads(output.read_text())
    assert scores["vqa"][0] == {
        "part": "all", "rule": "normalised", "n": 2, "accuracy": 1.0, "correct_rate": 1.0,
        "parse_rate": 1.0,
    }  # fmt: skip
    assert scores["vqa_yes_no"][0]["f1"] == 1.0
    assert "holds VQA v2 questions; give their annotations" in one_line(capsys, command)


def one_line(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("vrp score: ")
    assert message.count("\n") == 1
    return message


def test_bad_input_is_one_line(tmp_path, pope, capsys):
    output = tmp_path / "scores.json"
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"question_id": 1, "answer": "caf\xe9"}\n')
    table = tmp_path / "table.csv"
    table.write_text("question_id,answer\n1,yes\n")
    cases = {
        "none.json: no such file; check the path given to --questions": [
            "--questions",
            "none.json",
            *pope[3:],
        ],
        "none.jsonl: no such file; check the path given to --answers": [
            *pope[:2],
            "--answers",
            "none.jsonl",
        ],
        "table.csv: expected JSON or JSON lines, found 'question_id,answer'": [
            *pope[:2],
            "--answers",
            str(table),
        ],
        "latin.jsonl, line 1: not UTF-8": [*pope[:2], "--answers", str(latin)],
        "2 answer files for 1 question files": [*pope[:2], *pope[3:]],
        "threshold 2.0": [*pope, "--threshold", "2"],
        "key 'said' is missing": [*pope, "--answer-key", "said"],
        "the same name": ["--questions", pope[1], pope[1], *pope[3:]],
    }
    for words, options in cases.items():
        assert words in one_line(capsys, ["score", *options, "--output", str(output)])
        assert not output.exists()


def test_files_of_one_split_keep_their_whole_names(tmp_path, capsys):
    for name in ("aokvqa_pope_random", "coco_pope_random"):
        row = {"question_id": 1, "image": "a.jpg", "text": "Is it?", "label": "no"}
        lines(tmp_path / f"{name}.json", [row])
    answers = str(lines(tmp_path / "a.jsonl", [{"question_id": 1, "answer": "no"}]))
    files = [str(tmp_path / f"{name}_pope_random.json") for name in ("aokvqa", "coco")]
    main(["score", "--questions", *files, "--answers", answers, answers])
    printed = capsys.readouterr().out
    assert "aokvqa_pope_random" in printed
    assert "coco_pope_random" in printed


def test_the_help_says_what_an_answer_file_is(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["score", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "JSON or JSON lines with question_id and free text" in text


def test_the_output_says_what_the_pairing_rests_on(tmp_path, capsys):
    questions, answers = pope_files(tmp_path, "random", ["yes", "no"], ["Yes", "no, not"])
    rows = [json.loads(line) for line in Path(answers).read_text().splitlines()]
    order = [{"response": row["response"]} for row in rows]
    asked = [row | {"prompt": f"Is there a {row['question_id']}?"} for row in rows]
    named = [row | {"split": "random"} for row in rows]
    unnoticed = "answers to another split or data set"
    for written, says, silent in (
        (rows, ["by key 'question_id'.", f"No row repeats its question: {unnoticed}"], "order"),
        (order, ["by LINE ORDER", f"{unnoticed} or another order would go unnoticed"], "key"),
        (asked, ["by key 'question_id'; what its rows repeat agrees: question."], "unnoticed"),
        (asked[:1] + rows[1:], ["agrees: question in 1 of 2.", "Not every row repeats"], "order"),
        (named, ["agrees: split."], "unnoticed"),
    ):
        path = lines(tmp_path / "a.jsonl", written)
        output = tmp_path / "scores.json"
        main(["score", "--questions", questions, "--answers", str(path), "--output", str(output)])
        last = capsys.readouterr().out.splitlines()[-1]
        (pairing,) = json.loads(output.read_text())["pairing"]
        assert last == f"{path}: {pairing['note']}"
        for words in says:
            assert words in last
        assert silent not in last
        assert pairing["rows"] == 2
    assert pairing["by"] == "question_id"


def test_labels_named_as_answers(tmp_path, capsys):
    labels = ["yes", "no"] * 10
    questions, _ = pope_files(tmp_path, "random", labels, labels)
    rows = [
        {"question_id": i, "answer": label, "label": label, "prediction": "Yes"}
        for i, label in enumerate(labels, 1)
    ]
    answers = str(lines(tmp_path / "a.jsonl", rows))
    command = ["score", "--questions", questions, "--answers", answers]
    for key in ("answer", "label"):
        assert f"key '{key}' holds the labels" in one_line(capsys, [*command, "--answer-key", key])
    main(command)
    assert "50.00" in capsys.readouterr().out
    lines(
        tmp_path / "a.jsonl",
        [{"question_id": r["question_id"], "answer": r["answer"]} for r in rows],
    )
    main(command)
    assert "Every answer is its label: is this a model's?" in capsys.readouterr().out


def test_own_questions_of_which_some_have_no_answers(tmp_path, capsys):
    asked = [
        {"image": f"{i}.jpg", "question": "Is it open?", "answers": answers}
        for i, answers in enumerate(["Yes.", None, ["no"], None])
    ]
    questions = str(lines(tmp_path / "questions.jsonl", asked))
    given = [
        {"image": f"/shop/{i}.jpg", "question": "Is it open?", "answer": "Yes"} for i in range(4)
    ]
    for rows in (given[::-1], [given[0], given[2]]):
        answers = str(lines(tmp_path / "a.jsonl", rows))
        main(["score", "--questions", questions, "--answers", answers])
        table = capsys.readouterr().out.splitlines()
        assert table[1].split()[:4] == ["questions.jsonl", "strict", "2", "50.00"]
        assert "2 questions have no answers to be scored against." in table
    del asked[1]["answers"]
    lines(tmp_path / "questions.jsonl", asked)
    message = one_line(capsys, ["score", "--questions", questions, "--answers", answers])
    assert "line 2: key 'answers' is missing" in message


def test_the_scores_overwrite_no_file_that_they_are_of(tmp_path):
    row = {"question_id": 1, "image": "a.jpg", "text": "Is there a dog?", "label": "yes"}
    questions = tmp_path / "coco_pope_random.json"
    questions.write_text(json.dumps(row))
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"question_id": 1, "text": "Yes"}')
    for output in (questions, answers, tmp_path / "sub" / ".." / "answers.jsonl"):
        (tmp_path / "sub").mkdir(exist_ok=True)
        with pytest.raises(InputError, match="is one of the files to score"):
            run(questions=[questions], answers=[answers], output=output)
    assert answers.read_text().startswith("{")
