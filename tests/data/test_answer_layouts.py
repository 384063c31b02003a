"""Answer files in the layouts that evaluation kits write, about the official POPE questions.

What is expected is computed here, by POPE's own rule written out once more.
"""

import gzip
import json

import pytest
from real_data import REAL_DATA, needs_real_data

from vrp.cli import main
from vrp.data.score_file import score_files
from vrp.data.score_report import pairing_note
from vrp.errors import InputError

SPLITS = ("random", "popular", "adversarial")
SAID = ("Yes", "No", "Yes, there is.", "No, there is not.", "yes", "There is a dog. No", "not", "")
SUFFIX = "\nAnswer the question using a single word or phrase."


def said(question):
    """What the model answers: the same to the same question about the same image."""
    return SAID[sum(map(ord, question["image"] + question["text"])) % len(SAID)]


def official_accuracy(pairs):
    """POPE's evaluate.py, by hand: the share of (answer, label) pairs that agree."""
    right = 0
    for text, label in pairs:
        words = text.split(".")[0].replace(",", "").split(" ")
        parsed = "no" if "No" in words or "not" in words or "no" in words else "yes"
        right += parsed == label
    return right / len(pairs)


def pope_files():
    return {split: REAL_DATA / "pope" / f"coco_pope_{split}.json" for split in SPLITS}


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_json(path, value, **options):
    path.write_text(json.dumps(value, **options), encoding="utf-8")
    return path


def scored(questions, answers, **options):
    """Split → accuracy under the official rule, and what the pairing rests on."""
    scores = score_files(questions, answers, **options)
    accuracy = {s.split: s.accuracy for s in scores.pope if s.parser == "official"}
    return accuracy, scores.pairing


@pytest.fixture(scope="module")
def asked():
    return {split: read_lines(path) for split, path in pope_files().items()}


@pytest.fixture(scope="module")
def expected(asked):
    right = {
        split: official_accuracy([(said(q), q["label"]) for q in rows])
        for split, rows in asked.items()
    }
    return right | {"all": sum(right.values()) / 3}  # three files of one size


def llava(question, place):
    return {
        "question_id": question["question_id"], "prompt": question["text"] + SUFFIX,
        "text": said(question), "answer_id": f"x{place * 7919 % 997}z", "model_id": "llava",
        "metadata": {},
    }  # fmt: skip


def vcd(question, place):
    return {
        "question_id": question["question_id"],
        "prompt": question["text"] + " Please answer this question with one word.",
        "text": said(question), "model_id": "llava", "image": question["image"], "metadata": {},
    }  # fmt: skip


def lmms_eval(question, place):
    doc = {
        "id": str(place), "question_id": str(question["question_id"]),
        "question": question["text"], "answer": question["label"],
        "image_source": question["image"].removesuffix(".jpg"),
    }  # fmt: skip
    measured = {"question_id": doc["question_id"], "score": 1.0, "prediction": "yes",
                "ground_truth": question["label"]}  # fmt: skip
    return {
        "doc_id": place, "doc": doc, "target": question["label"],
        "arguments": [[question["text"] + SUFFIX, {"max_new_tokens": 128, "temperature": 0}]],
        "resps": [[said(question)]], "filtered_resps": [said(question)], "doc_hash": f"{place:x}",
        "pope_accuracy": measured, "pope_f1_score": measured,
    }  # fmt: skip


def vlmevalkit(question, place):
    return {
        "index": question["question_id"], "question": question["text"],
        "answer": question["label"].capitalize(), "image_path": f"images/{question['image']}",
        "prediction": said(question),
    }  # fmt: skip


def openai_batch(question, place):
    message = {"role": "assistant", "content": said(question)}
    body = {"id": f"chatcmpl-{place}", "choices": [{"index": 0, "message": message}]}
    return {
        "custom_id": str(question["question_id"]),
        "response": {"status_code": 200, "body": body},
    }


def spreadsheet(question, place):
    return {"question_id": float(question["question_id"]), "answer": said(question),
            "prompt": float("nan"), "category": float("nan")}  # fmt: skip


KITS = [llava, vcd, lmms_eval, vlmevalkit, openai_batch, spreadsheet]


@needs_real_data
@pytest.mark.parametrize("kit", KITS)
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_file_for_each_split(tmp_path, asked, expected, kit, shuffled):
    answers = []
    for split, rows in asked.items():
        written = [kit(question, place) for place, question in enumerate(rows)]
        answers.append(write_lines(tmp_path / f"{split}.jsonl", written[:: -1 if shuffled else 1]))
    found, pairing = scored(list(pope_files().values()), answers)
    assert found == pytest.approx(expected, abs=1e-12)
    assert [basis.rows for basis in pairing] == [174] * 3


@needs_real_data
@pytest.mark.parametrize("kit", KITS)
def test_answers_to_one_split_under_anothers_name(tmp_path, asked, kit):
    """Refused where rows repeat their question; else the pairing says what would go unnoticed."""
    rows = [kit(question, place) for place, question in enumerate(asked["popular"])]
    answers = write_lines(tmp_path / "answers.jsonl", rows)
    questions = [pope_files()["adversarial"]]
    if kit in (openai_batch, spreadsheet):
        _, (basis,) = scored(questions, [answers])
        assert "answers to another split or data set would go unnoticed" in pairing_note(basis)
    else:
        with pytest.raises(
            InputError, match=r"answers\.jsonl, line \d+: key '.*' is .*, but quest"
        ):
            scored(questions, [answers])


@needs_real_data
@pytest.mark.parametrize("kit", KITS)
def test_one_file_of_which_each_row_names_its_split(tmp_path, asked, expected, kit):
    written = [
        kit(question, place) | {"category": split}
        for split, rows in asked.items()
        for place, question in enumerate(rows)
    ]
    answers = write_lines(tmp_path / "answers.jsonl", written[::-1])
    assert scored(list(pope_files().values()), [answers])[0] == pytest.approx(expected, abs=1e-12)


@needs_real_data
@pytest.mark.parametrize("kit", [vcd, lmms_eval, vlmevalkit])
def test_one_file_whose_rows_repeat_image_and_question(tmp_path, asked, expected, kit):
    written = [kit(q, place) for rows in asked.values() for place, q in enumerate(rows)]
    answers = write_lines(tmp_path / "answers.jsonl", written)
    assert scored(list(pope_files().values()), [answers])[0] == pytest.approx(expected, abs=1e-12)


@needs_real_data
def test_one_row_for_a_question_that_several_splits_ask(tmp_path, asked, expected):
    """VLMEvalKit asks each question once and lists the splits that ask it."""
    splits_of, question_of = {}, {}
    for split, rows in asked.items():
        for question in rows:
            key = question["image"], question["text"]
            splits_of.setdefault(key, []).append(split)
            question_of[key] = question
    rows = [
        vlmevalkit(question_of[key], place) | {"index": place, "category": ",".join(splits)}
        for place, (key, splits) in enumerate(splits_of.items())
    ]
    assert len(rows) == 297
    answers = write_json(tmp_path / "LLaVA_POPE.json", rows, indent=4)
    found, (basis,) = scored(list(pope_files().values()), [answers])
    assert found == pytest.approx(expected, abs=1e-12)
    assert basis.by == "image and question"


@needs_real_data
@pytest.mark.parametrize("first_id", [0, 10_000])
def test_labels_beside_a_question_file_without_any(tmp_path, asked, expected, first_id):
    """LLaVA numbers the questions of all splits anew; only its question file has the split."""
    prompts, written = [], []
    for split in reversed(SPLITS):
        for question in asked[split]:
            number = first_id + len(prompts)
            text = question["text"] + SUFFIX
            prompts.append({"question_id": number, "image": question["image"], "text": text,
                            "category": split})  # fmt: skip
            written.append(llava(question, number) | {"question_id": number})
    prompt_file = write_lines(tmp_path / "llava_pope_test.jsonl", prompts)
    answers = write_lines(tmp_path / "answers.jsonl", written[::-1])
    found, (basis,) = scored([*pope_files().values(), prompt_file], [answers])
    assert found == pytest.approx(expected, abs=1e-12)
    assert basis.prompts == ("llava_pope_test.jsonl",)


@needs_real_data
@pytest.mark.parametrize("name", ["gqa_pope_seem", "aokvqa_pope_seem", "coco_pope"])
def test_files_of_other_image_sets(tmp_path, asked, expected, name):
    files, answers = [], []
    for split, rows in asked.items():
        files.append(write_lines(tmp_path / f"{name}_{split}.json", rows))
        answers.append(
            write_lines(tmp_path / f"{split}_answers.jsonl", map(llava, rows, range(999)))
        )
    assert scored(files, answers)[0] == pytest.approx(expected, abs=1e-12)


@needs_real_data
def test_the_containers(tmp_path, asked, expected):
    rows = [{"question_id": q["question_id"], "answer": said(q)} for q in asked["popular"]]
    by_id = {str(row["question_id"]): row["answer"] for row in rows}
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path = tmp_path / "answers.json"
    packed = gzip.compress(lines.encode())
    for content in (
        lines,
        lines.replace("\n", "\r\n"),
        lines.replace("\n", "\r"),
        "".join(json.dumps(row, indent=2) + "\n" for row in rows),
        json.dumps(rows),
        json.dumps(rows, indent=1),
        json.dumps({"model": "llava", "results": rows}),
        json.dumps({"output": "run 1", "text": "POPE", "results": rows}),
        json.dumps({"args": {"seed": 0}, "data": {"answers": rows}}, indent=1),
        json.dumps({"samples": {"pope_pop": rows}, "results": {"pope_pop": {"accuracy": 0.8}}}),
        json.dumps({"popular": rows}),
        json.dumps(by_id, indent=1),
        json.dumps({"popular": by_id}),
        json.dumps({"config": {"temperature": "0"}, "answers": by_id}),
        json.dumps({key: [text] for key, text in by_id.items()}),
        json.dumps({key: {"answer": text, "n_tokens": 2} for key, text in by_id.items()}),
        json.dumps({key: [row[key] for row in rows] for key in rows[0]}),
        json.dumps({key: {str(i): row[key] for i, row in enumerate(rows)} for key in rows[0]}),
        json.dumps({str(i): row for i, row in enumerate(rows)}),
        lines.encode("utf-8-sig"),
        lines.encode("utf-16"),
        lines.encode("utf-32"),
        packed,
    ):  # fmt: skip
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        found, _ = scored([pope_files()["popular"]], [path])
        assert found["popular"] == pytest.approx(expected["popular"], abs=1e-12), content[:80]


@needs_real_data
def test_the_groups_of_one_object_are_its_splits(tmp_path, asked, expected):
    rows = {
        split: [{"question_id": q["question_id"], "response": said(q)} for q in of_split]
        for split, of_split in asked.items()
    }
    maps = {
        split: {str(row["question_id"]): row["response"] for row in of_split}
        for split, of_split in rows.items()
    }
    tasks = {f"pope_{split[:3]}": of_split for split, of_split in rows.items()}
    for value in (rows, maps, {"samples": tasks | {"pope_random": tasks.pop("pope_ran")}}):
        answers = write_json(tmp_path / "answers.json", value)
        found = scored(list(pope_files().values()), [answers])[0]
        assert found == pytest.approx(expected, abs=1e-12)


@needs_real_data
def test_one_question_file_for_all_splits(tmp_path, asked, expected):
    rows = [
        question | {"category": split, "question_id": 1000 * place + question["question_id"]}
        for place, (split, of_split) in enumerate(asked.items())
        for question in of_split
    ]
    questions = write_json(tmp_path / "pope_all.json", {"questions": rows})
    answers = write_lines(tmp_path / "answers.jsonl", map(llava, rows, range(9999)))
    assert scored([questions], [answers])[0] == pytest.approx(expected, abs=1e-12)


@needs_real_data
def test_own_questions(tmp_path, asked, capsys):
    rows = [
        {"image": q["image"], "question": q["text"], "answers": [q["label"]]}
        for q in asked["popular"]
    ]
    rows.append({"image": "b.jpg", "question": "What colour is it?", "answers": ["red", "Red!"]})
    questions = write_lines(tmp_path / "questions.jsonl", rows)
    written = [
        {"image": row["image"], "question": row["question"], "output": said(q)}
        for row, q in zip(rows, asked["popular"], strict=False)
    ]
    written.append({"image": "b.jpg", "question": "What colour is it?", "output": "red."})
    answers = write_lines(tmp_path / "answers.jsonl", written[::-1])
    scores = score_files([questions], [answers])
    right = official_accuracy([(said(q), q["label"]) for q in asked["popular"]])
    assert scores.own[1].accuracy == pytest.approx(right, abs=1e-12)
    assert [(s.rule, s.part, s.accuracy) for s in scores.vqa] == [
        ("normalised", "all", 1.0), ("normalised", "open", 1.0),
    ]  # fmt: skip
    output = tmp_path / "scores.json"
    main(
        ["score", "--questions", str(questions), "--answers", str(answers), "--output", str(output)]
    )
    assert "paired by image and question" in capsys.readouterr().out
    assert json.loads(output.read_text())["own_yes_no"][1]["n"] == 174


def vqa_accuracy_by_hand(given, truths):
    """The VQA v2 rule for answers of one plain word: mean over annotators of min(1, others / 3)."""
    others = [truths[:i] + truths[i + 1 :] for i in range(len(truths))]
    return sum(min(1, rest.count(given) / 3) for rest in others) / len(truths)


@needs_real_data
@pytest.mark.parametrize("kit", [llava, vcd, lmms_eval, vlmevalkit, openai_batch])
def test_vqa_v2(tmp_path, kit):
    questions, annotations = (
        REAL_DATA / "vqa_v2" / f"{n}.json" for n in ("questions", "annotations")
    )
    asked = json.loads(questions.read_text())["questions"]
    truths = [
        [answer["answer"] for answer in row["answers"]]
        for row in json.loads(annotations.read_text())["annotations"]
    ]
    rows, wanted = [], 0
    for question, of_row, text in zip(asked, truths, ["mesh", "pitcher", "apple"], strict=True):
        image = f"COCO_train2014_{question['image_id']:012}.jpg"
        fields = {"image": image, "text": question["question"], "label": of_row[0]}
        written = json.dumps(kit(question | fields, 0)).replace(
            json.dumps(said(fields)), f'"{text}"'
        )
        rows.append(json.loads(written))
        wanted += vqa_accuracy_by_hand(text, of_row) / 3
    answers = write_lines(tmp_path / "answers.jsonl", rows[::-1])
    scores = score_files([questions], [answers], annotations=annotations)
    assert scores.vqa[0].accuracy == pytest.approx(wanted, abs=1e-12)


def textvqa(folder):
    """Two images, three questions, ten annotators each; worth 1, 0.6 and 0 (see below)."""
    rows = [
        {"question_id": 34602, "image_id": "003a8ae2ef43b901", "question": "what brand is this?",
         "answers": ["dakota"] * 10},
        {"question_id": 34603, "image_id": "003a8ae2ef43b901", "question": "what brand is it now?",
         "answers": ["canon", "Canon", *["nikon"] * 8]},
        {"question_id": 34604, "image_id": "0054c91397f2fe05", "question": "what brand is this?",
         "answers": ["sony"] * 10},
    ]  # fmt: skip
    path = folder / "TextVQA_0.5.1_val.json"
    path.write_text(json.dumps({"dataset_name": "textvqa", "data": rows}))
    return path, rows


def test_textvqa_by_question_id_and_by_image(tmp_path):
    questions, rows = textvqa(tmp_path)
    texts = ["Dakota.", "canon", "kodak"]
    by_id = [
        {"question_id": r["question_id"], "answer": t} for r, t in zip(rows, texts, strict=True)
    ]
    # LLaVA writes the image's id under question_id, and OCR tokens behind the question.
    by_image = [
        {"question_id": row["image_id"], "text": text, "model_id": "m",
         "prompt": f"{row['question']}\nReference OCR token: WHAT, IS, THIS{SUFFIX}"}
        for row, text in zip(rows, texts, strict=True)
    ]  # fmt: skip
    for written in (by_id, by_image):
        answers = write_lines(tmp_path / "answers.jsonl", written[::-1])
        for files in ({"questions": [questions]}, {"questions": [questions], "answer_key": None}):
            scores = score_files(answers=[answers], **files)
        # Two of ten say canon: those two see one other (1/3), eight see two (2/3).
        wanted = (1 + (2 * 1 / 3 + 8 * 2 / 3) / 10 + 0) / 3
        assert scores.vqa[0].accuracy == pytest.approx(wanted, abs=1e-12)
        assert scores.vqa[0].n == 3
