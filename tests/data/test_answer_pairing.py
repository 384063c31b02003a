"""Rows of answer files are never paired with the wrong question: right, or refused."""

import json
import random

import pytest
from pope_answers import (
    ASKED,
    ID_NAMES,
    IMAGES,
    LABEL_NAMES,
    OBJECTS,
    QUESTION_NAMES,
    SAID,
    lines,
    put,
)

from vrp.data import score_file
from vrp.data.score_file import score_files
from vrp.errors import InputError

SHUFFLED = [7, 2, 11, 0, 9, 4, 1, 10, 3, 8, 5, 6]


class Scorer:
    """Scores rows in a folder of its own, and keeps which text was given to which question."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.files = {
            split: lines(folder / f"coco_pope_{split}.json", rows) for split, rows in ASKED.items()
        }
        self.texts = []
        read = score_file.read_answers

        def recorded(*arguments, **options):
            given = read(*arguments, **options)
            self.texts += given[0]
            return given

        monkeypatch.setattr(score_file, "read_answers", recorded)

    def paired(self, rows, *splits, prompts=(), **options):
        """The texts in the order of the splits' questions."""
        self.texts = []
        answers = lines(self.folder / "answers.jsonl", rows)
        questions = [*(self.files[split] for split in splits or ["adversarial"]), *prompts]
        self.scores = score_files(questions, [answers], **options)
        return self.texts

    def refusal(self, rows, *splits, **options):
        """The message of the refusal."""
        with pytest.raises(InputError) as caught:
            self.paired(rows, *splits, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def scorer(tmp_path, monkeypatch):
    return Scorer(tmp_path, monkeypatch)


def answered(order=range(12), split="adversarial", **fields):
    """Rows with id and answer; fields: name → the question's field that is repeated."""
    return [
        {"question_id": ASKED[split][i]["question_id"], "answer": SAID[split][i]}
        | {name: ASKED[split][i][field] for name, field in fields.items()}
        for i in order
    ]


@pytest.mark.parametrize("name", QUESTION_NAMES)
@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "<image>\n{}\nAnswer the question using a single word or phrase.",
        "USER: {} ASSISTANT:",
    ],
)
def test_a_prompt_of_another_split_is_refused_under_any_name(scorer, name, form):
    def rows(split):
        return [
            put(row, name, form.format(asked["text"]))
            for row, asked in zip(answered(), ASKED[split], strict=True)
        ]

    assert scorer.paired(rows("adversarial"), answer_key="answer") == SAID["adversarial"]
    message = scorer.refusal(rows("popular"), answer_key="answer")
    assert f"line 2: key '{name}' is" in message
    assert "Is there a leash in the image?" in message


def test_chats_and_argument_lists_are_prompts_too(scorer):
    def rows(split, make):
        return [row | make(q["text"]) for row, q in zip(answered(), ASKED[split], strict=True)]

    for make in (
        lambda text: {"messages": [{"role": "system", "content": "Be brief."},
                                   {"role": "user", "content": f"<image>\n{text}"}]},
        lambda text: {"arguments": [[f"{text}\nAnswer yes or no.", {"temperature": 0}]]},
        lambda text: {"doc": {"meta": [{"ask": text.upper()}]}},
    ):  # fmt: skip
        assert scorer.paired(rows("adversarial", make)) == SAID["adversarial"]
        assert "line 2" in scorer.refusal(rows("popular", make))


def test_rows_of_pope_itself_with_answers(scorer):
    rows = [q | {"answer": a} for q, a in zip(ASKED["popular"], SAID["popular"], strict=True)]
    assert scorer.paired(rows, "popular") == SAID["popular"]
    for options in ({}, {"answer_key": "answer"}):
        assert "line 2: key 'text' is" in scorer.refusal(rows, "adversarial", **options)


@pytest.mark.parametrize("wrong", range(12))
@pytest.mark.parametrize("name", ["prompt", "zzz"])
def test_one_wrong_row_is_enough(scorer, wrong, name):
    rows = answered()
    rows[wrong][name] = ASKED["adversarial"][(wrong + 1) % 12]["text"]
    assert f"line {wrong + 1}: key '{name}'" in scorer.refusal(rows)
    rows = answered(**{name: "text"})
    rows[wrong][name] = "Is there a unicorn in the image?"
    assert f"line {wrong + 1}: key '{name}'" in scorer.refusal(rows)


def test_the_same_wrong_question_or_image_in_all_rows(scorer):
    wrong = {
        "prompt": "Is there a unicorn in the image?\nAnswer yes or no.",
        "zzz": "Is there a unicorn in the image?",
        "image": "COCO_val2014_000000000999.jpg",
        "question": "Is there a dog in the image?",
    }
    for name, value in wrong.items():
        assert f"key '{name}'" in scorer.refusal([row | {name: value} for row in answered()])


def test_a_longer_question_is_another_one(scorer):
    rows = answered(prompt="text")
    rows[3]["prompt"] = "Is there a bus in the image or in the mirror?"
    assert "line 4: key 'prompt'" in scorer.refusal(rows)
    rows[3]["prompt"] = "Is there a bus in the image? Is there a sofa in the image?"
    assert "line 4: key 'prompt'" in scorer.refusal(rows)


def test_the_object_of_another_question(scorer):
    rows = answered()
    for row, thing in zip(rows, OBJECTS["adversarial"] * 2, strict=True):
        row |= {"thing": thing, "question_type": "is there a" if thing == "dog" else "none of it"}
    assert scorer.paired(rows) == SAID["adversarial"]
    for row, thing in zip(rows, OBJECTS["popular"] * 2, strict=True):
        row["thing"] = thing
    assert "line 2: key 'thing' is 'person'" in scorer.refusal(rows)


def test_examples_before_the_question_are_part_of_the_prompt(scorer):
    rows = answered(prompt="text")
    for row in rows:
        row["prompt"] = f"Is there a cat in the image? Yes.\n{row['prompt']}"
    assert scorer.paired(rows) == SAID["adversarial"]
    rows[1]["prompt"], rows[3]["prompt"] = rows[3]["prompt"], rows[1]["prompt"]
    assert "line 2: key 'prompt'" in scorer.refusal(rows)


@pytest.mark.parametrize("name", LABEL_NAMES)
@pytest.mark.parametrize(
    "write",
    [
        str, str.title, lambda word: word[0], lambda word: int(word == "yes"),
        lambda word: word == "yes",
    ],
)  # fmt: skip
def test_another_label_is_refused_under_any_name(scorer, name, write):
    rows = [
        put(row, name, write(asked["label"]))
        for row, asked in zip(answered(), ASKED["adversarial"], strict=True)
    ]
    assert scorer.paired(rows) == SAID["adversarial"]
    put(rows[5], name, write("yes"))
    assert f"line 6: key '{name}' is" in scorer.refusal(rows)


def test_yes_and_no_under_an_unknown_name_are_labels_unless_they_are_the_answers(scorer):
    rows = answered(zzz="label")
    assert scorer.paired(rows) == SAID["adversarial"]
    rows[4]["zzz"] = "no"
    assert "line 5: key 'zzz' is 'no'" in scorer.refusal(rows)
    for row in rows:
        row["zzz"] = row["answer"].split()[0].lower()
    assert scorer.paired(rows) == SAID["adversarial"]


@pytest.mark.parametrize("yes_no", [("y", "n"), (1, 0), (True, False), ("1", "0")])
def test_coded_labels_under_an_unknown_name_are_compared(scorer, yes_no):
    def coded(words):
        return [yes_no[word != "yes"] for word in words]

    def rows(values):
        return [row | {"zzz": value} for row, value in zip(answered(), values, strict=True)]

    labels = [asked["label"] for asked in ASKED["adversarial"]]
    assert scorer.paired(rows(coded(labels))) == SAID["adversarial"]
    swapped = coded(labels)
    first, second = labels.index("yes"), labels.index("no")
    swapped[first], swapped[second] = swapped[second], swapped[first]
    assert "key 'zzz' is" in scorer.refusal(rows(swapped))


def test_a_flag_that_is_no_label_is_left_alone(scorer):
    labels = [asked["label"] for asked in ASKED["adversarial"]]
    taken = ["yes" if said.lower().startswith("yes") else "no" for said in SAID["adversarial"]]
    right = [int(a == b) for a, b in zip(taken, labels, strict=True)]
    rare = [1] + [0] * (len(labels) - 1)
    for flags in (right, rare, [int(word == "yes") for word in taken]):
        rows = [row | {"zzz": flag} for row, flag in zip(answered(), flags, strict=True)]
        assert scorer.paired(rows) == SAID["adversarial"]


def test_labels_are_no_answers_where_something_else_is(scorer):
    rows = [
        {"question_id": q["question_id"], "answer": q["label"], "my_reply": a}
        for q, a in zip(ASKED["adversarial"], SAID["adversarial"], strict=True)
    ]
    assert "'answer' and 'my_reply' may both hold the answer" in scorer.refusal(rows)
    assert scorer.paired(rows, answer_key="my_reply") == SAID["adversarial"]


def test_vlmevalkits_answer_is_the_label(scorer):
    rows = [
        {"index": q["question_id"], "answer": q["label"].title(), "prediction": a}
        for q, a in zip(ASKED["adversarial"], SAID["adversarial"], strict=True)
    ]
    assert scorer.paired(rows[::-1]) == SAID["adversarial"]
    rows[0]["answer"] = "No"
    assert "line 1: key 'answer' is 'No'" in scorer.refusal(rows)


@pytest.mark.parametrize("name", ["image", "img", "image_path", "file_name", "media.pic", "images"])
@pytest.mark.parametrize(
    "form", ["{}", "/data/coco/val2014/{}", "C:\\coco\\{}", "https://x.org/{}?a=1"]
)
def test_another_image_is_refused_under_any_name(scorer, name, form):
    def rows(images):
        return [
            put(row, name, form.format(image))
            for row, image in zip(answered(), images, strict=True)
        ]

    shown = [q["image"] for q in ASKED["adversarial"]]
    assert scorer.paired(rows(shown)) == SAID["adversarial"]
    for wrong in (IMAGES[1], "COCO_val2014_000000000999.jpg"):
        assert f"line 1: key '{name}'" in scorer.refusal(rows([wrong, *shown[1:]]))


def test_an_image_id_is_an_image(scorer):
    rows = answered()
    for row, asked in zip(rows, ASKED["adversarial"], strict=True):
        row["image_id"] = int(asked["image"][-16:-4])
    assert scorer.paired(rows) == SAID["adversarial"]
    rows[2]["image_id"] = 117
    assert "line 3: key 'image_id' is 117" in scorer.refusal(rows)


@pytest.mark.parametrize("name", ID_NAMES)
@pytest.mark.parametrize(
    "write", [int, str, float, "{}.0".format, "pope/coco_pope_adversarial/{}".format]
)
def test_shuffled_lines_go_by_the_id_under_any_name(scorer, name, write):
    if callable(write) and "pope/" in str(write(1)):
        write = "pope/adversarial/{}".format  # an item's id in this study
    rows = [put({"answer": SAID["adversarial"][i]}, name, write(i + 1)) for i in SHUFFLED]
    assert scorer.paired(rows) == SAID["adversarial"]
    assert scorer.scores.pairing[0].by == name


def test_paths_are_no_items_of_this_study(scorer):
    rows = [{"question_id": f"val/2014/{i + 1}", "answer": "yes"} for i in range(12)]
    assert "question_id val/2014/1 is not among the questions" in scorer.refusal(rows)


@pytest.mark.parametrize("name", ["id", "index", "foo", "rank"])
def test_other_numbers_are_no_ids(scorer, name):
    """Numbers from 0 in the order of lines leave the order; in another they are refused."""
    in_order = [{"answer": text, name: i} for i, text in enumerate(SAID["adversarial"])]
    assert scorer.paired(in_order) == SAID["adversarial"]
    assert scorer.scores.pairing[0].by == "line order"
    assert f"key '{name}' numbers the lines" in scorer.refusal([in_order[i] for i in SHUFFLED])
    named = [row | {name: f"pope_{row[name]}"} for row in in_order]
    if name in ("id", "index"):
        assert f"key '{name}' numbers the lines" in scorer.refusal([named[i] for i in SHUFFLED])


def test_ids_under_an_unknown_name_in_another_order_are_refused(scorer):
    rows = [{"answer": SAID["adversarial"][i], "rank": i + 1} for i in SHUFFLED]
    assert "key 'rank' holds the questions' ids in another order" in scorer.refusal(rows)


def test_two_ids_that_differ_are_refused(scorer):
    for one, two in (("question_id", "id"), ("index", "id"), ("question_id", "qid")):
        rows = [
            {one: place + 1, two: i + 1, "answer": SAID["adversarial"][i]}
            for place, i in enumerate(SHUFFLED)
        ]
        message = scorer.refusal(rows)
        assert repr(one) in message or repr(two) in message
    nested = [row | {"doc": {"question_id": 1}} for row in answered()]
    assert "line 2: key 'doc.question_id' is 1" in scorer.refusal(nested)
    assert "line 3: key 'question_id' is missing" in scorer.refusal(
        [*answered()[:2], {"answer": "yes"}, *answered()[3:]]
    )


def test_what_image_and_question_confirm_needs_no_other_id(scorer):
    rows = answered(SHUFFLED, image="image", question="text")
    for place, row in enumerate(rows):
        row["index"] = place + 1
    assert scorer.paired(rows) == SAID["adversarial"]
    for row in rows:
        del row["question_id"]
    assert scorer.paired(rows) == SAID["adversarial"]
    assert scorer.scores.pairing[0].by == "image and question"
    rows[0]["question"] = "Is there a unicorn in the image?"
    scorer.refusal(rows)


def test_questions_alone_confirm_the_order_of_lines(scorer):
    rows = [
        {"question": ASKED["adversarial"][i]["text"], "answer": SAID["adversarial"][i]}
        for i in range(12)
    ]
    assert scorer.paired(rows) == SAID["adversarial"]
    basis = scorer.scores.pairing[0]
    assert (basis.by, basis.compared["question"]) == ("line order", 12)
    assert "line 1: key 'question'" in scorer.refusal([rows[i] for i in SHUFFLED])


SPLIT_NAMES = [
    "category",
    "split",
    "subset",
    "task",
    "doc.category",
    "type",
    "dataset",
    "meta.kind",
]


@pytest.mark.parametrize("name", SPLIT_NAMES)
@pytest.mark.parametrize("form", ["{}", "coco_pope_{}.json", "/data/coco/coco_pope_{}.json"])
def test_rows_name_their_split(scorer, name, form):
    rows = {
        split: [put(row, name, form.format(split)) for row in answered(split=split)]
        for split in ASKED
    }
    both = rows["popular"] + rows["adversarial"]
    random.Random(0).shuffle(both)
    assert scorer.paired(both, *ASKED) == SAID["adversarial"] + SAID["popular"]
    message = scorer.refusal(rows["popular"], "adversarial")
    assert f"line 1: key '{name}'" in message
    assert "adversarial" in message


def test_abbreviated_splits_and_lists_of_splits(scorer):
    rows = [row | {"task": "pope_pop"} for row in answered(split="popular")]
    rows += [row | {"task": "pope_adv"} for row in answered(split="adversarial")]
    assert scorer.paired(rows, "popular", "adversarial") == SAID["popular"] + SAID["adversarial"]
    listed = [row | {"category": "popular,adversarial"} for row in answered()]
    assert scorer.paired(listed) == SAID["adversarial"]


def test_names_of_models_and_runs(scorer):
    for name, value in (("run", "llava-pope-popular"), ("model_id", "llava_pope_popular_seed1")):
        rows = [row | {name: value} for row in answered()]
        assert f"key '{name}' is '{value}'" in scorer.refusal(rows)
    robust = [row | {"model_id": "llava-popular-words-tuned"} for row in answered()]
    assert scorer.paired(robust) == SAID["adversarial"]


def test_the_image_set_that_a_row_names(scorer):
    rows = answered()
    for said in ("coco", "gqa"):
        named = [row | {"dataset": said} for row in rows]
        if said == "coco":
            assert scorer.paired(named) == SAID["adversarial"]
        else:
            assert "key 'dataset' is 'gqa'" in scorer.refusal(named)


def test_ids_that_occur_in_one_question_file_name_the_split(scorer):
    own_ids = [q | {"question_id": 20_000_000 + q["question_id"]} for q in ASKED["popular"]]
    lines(scorer.files["popular"], own_ids)
    rows = [{"question_id": 20_000_001 + i, "text": a} for i, a in enumerate(SAID["popular"])]
    rows += [{"question_id": 1 + i, "text": a} for i, a in enumerate(SAID["adversarial"])]
    assert scorer.paired(rows, *ASKED) == SAID["adversarial"] + SAID["popular"]


def test_ids_of_several_splits_need_more(scorer):
    both = answered(split="popular") + answered(split="adversarial")
    assert "no key 'split' or 'category' says which" in scorer.refusal(both, *ASKED)
    no_ids = [{"answer": row["answer"]} for row in both]
    assert "no key 'split' or 'category' says which" in scorer.refusal(no_ids, *ASKED)
    # The yes-questions are the same ones, and were answered differently: which is whose?
    asked = answered(split="popular", prompt="text") + answered(split="adversarial", prompt="text")
    assert "no key 'split' or 'category' says which" in scorer.refusal(asked, *ASKED)
    same = [row | {"answer": f"Yes {row['prompt']}!"} for row in asked]
    assert scorer.paired(same, *ASKED) == [
        f"Yes {q['text']}!" for split in ASKED for q in ASKED[split]
    ]


def prompts_and_answers(first_id, *, category=True):
    """LLaVA's one question file for both splits, and answers under its ids."""
    prompts, rows = [], []
    for split in ("popular", "adversarial"):
        for asked, text in zip(ASKED[split], SAID[split], strict=True):
            prompt = {"question_id": first_id + len(prompts), "image": asked["image"],
                      "text": asked["text"] + "\nAnswer with one word."}  # fmt: skip
            rows.append(
                {"question_id": prompt["question_id"], "prompt": prompt["text"], "text": text}
            )
            prompts.append(prompt | ({"category": split} if category else {}))
    return prompts, rows


@pytest.mark.parametrize("first_id", [0, 1, 40, 110, 5000])
def test_a_file_of_prompts_carries_ids_to_labels(scorer, first_id):
    prompts, rows = prompts_and_answers(first_id)
    path = [lines(scorer.folder / "llava_pope_test.jsonl", prompts)]
    wanted = SAID["adversarial"] + SAID["popular"]
    assert scorer.paired(rows[::-1], *ASKED, prompts=path) == wanted
    bare = [{"question_id": row["question_id"], "text": row["text"]} for row in rows]
    assert scorer.paired(bare[::-1], *ASKED, prompts=path) == wanted
    assert scorer.paired([{"text": r["text"]} for r in rows], *ASKED, prompts=path) == wanted
    assert scorer.scores.pairing[0].by == "line order"
    # Ids of the labelled files, or of another run.
    moved = [row | {"question_id": first_id + (i + 1) % 24} for i, row in enumerate(rows)]
    assert "key 'prompt'" in scorer.refusal(moved, *ASKED, prompts=path)
    assert "not among the labelled questions" in scorer.refusal(rows, "popular", prompts=path)
    assert "not among the questions" in scorer.refusal(
        [row | {"question_id": -1} for row in bare], *ASKED, prompts=path
    )


def test_prompts_without_their_split(scorer):
    prompts, rows = prompts_and_answers(1, category=False)
    path = [lines(scorer.folder / "prompts.jsonl", prompts)]
    assert "says which" in scorer.refusal(rows, *ASKED, prompts=path)


def test_prompts_alone_have_no_labels(scorer):
    prompts, rows = prompts_and_answers(1)
    path = lines(scorer.folder / "prompts.jsonl", prompts)
    with pytest.raises(InputError, match="without labels; give the labelled question files, too"):
        score_files([path], [lines(scorer.folder / "a.jsonl", rows)])


def test_answer_files_named_after_another_split_are_refused(scorer):
    files = [lines(scorer.folder / f"{split}.jsonl", answered(split=split)) for split in ASKED]
    questions = list(scorer.files.values())
    assert len(score_files(questions, files).pope) == 6
    with pytest.raises(InputError, match=r"popular\.jsonl: by its name the answers to popular"):
        score_files(questions, files[::-1])


@pytest.mark.parametrize(
    "name",
    [
        "llava-v1.5-7b_popular.jsonl", "llava_1.5.popular.jsonl", "v1.pop.jsonl.gz",
        "answersPopular.jsonl", "PopularAnswers.jsonl", "popepopular2.jsonl", "POPEpopular.jsonl",
        "llavaPopePop.jsonl", "cocopopepopular.jsonl", "popeRandom.jsonl", "llava15poperandom.json",
    ],
)  # fmt: skip
def test_a_split_is_found_anywhere_in_the_name_of_an_answer_file(scorer, name):
    said = "random" if "andom" in name else "popular"
    answers = lines(scorer.folder / name, answered())
    for question_name in ("coco_pope_adversarial.json", "pope_v1.0_adversarial.json"):
        asked = lines(scorer.folder / question_name, ASKED["adversarial"])
        with pytest.raises(InputError, match=f"by its name the answers to {said}, but"):
            score_files([asked], [answers])
    as_said = lines(scorer.folder / f"pope_v1.0_{said}.json", ASKED["adversarial"])
    assert [score.split for score in score_files([as_said], [answers]).pope] == [said] * 2


@pytest.mark.parametrize(
    "name",
    [
        "coco.jsonl", "random_forest.jsonl", "RandomForest.v2.jsonl", "popularity.jsonl",
        "popcorn-v1.5.jsonl", "PopModel.jsonl", "advanced.jsonl", "AdvTraining.jsonl",
        "popeye.random.jsonl", "poped.jsonl", "answers.v1.adversarial.jsonl",
    ],
)  # fmt: skip
def test_names_that_say_no_other_split_are_left_alone(scorer, name):
    answers = lines(scorer.folder / name, answered())
    assert score_files([scorer.files["adversarial"]], [answers]).pope[0].n == 12


def test_a_split_in_the_name_of_a_question_file_with_dots_binds_its_rows(scorer):
    rows = [row | {"category": "adversarial"} for row in ASKED["adversarial"]]
    asked = lines(scorer.folder / "pope_v1.0_popular.json", rows)
    with pytest.raises(InputError, match="names the split adversarial, but the file's name pop"):
        score_files([asked], [lines(scorer.folder / "a.jsonl", answered())])


HARMLESS = {
    "model_id": lambda i: "llava",
    "answer_id": lambda i: f"aB{i * 7919 % 91}",
    "latency": lambda i: i * 0.1,
    "n_tokens": lambda i: (3, 1, 2)[i % 3],
    "prompt": lambda i: "Answer yes or no.",
    "system_prompt": lambda i: "You are a helpful assistant.",
    "logprobs": lambda i: [-0.1 * i] * 40,
    "confidence": lambda i: 1 / (i + 1),
    "correct": lambda i: bool(i % 2),
    "score": lambda i: i % 2,
    "pred_label": lambda i: i // 6,
    "image": lambda i: "<image>",
    "image_size": lambda i: [640, 480],
    "explanation": lambda i: f"I can see a dog and {i} cars. Is it a cat? Perhaps.",
    "timestamp": lambda i: 1_700_000_000 + i,
    "category": lambda i: "existence",
    "type": lambda i: "yes/no",
    "decoding": lambda i: "greedy",
    "metadata": lambda i: {},
    "question": lambda i: None,
    "label": lambda i: float("nan"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_other_fields_are_left_alone(scorer, name):
    rows = [row | {name: HARMLESS[name](i)} for i, row in enumerate(answered())]
    assert scorer.paired(rows) == SAID["adversarial"]


@pytest.mark.parametrize("name", ["answer", "response", "output", "prediction", "filtered_resps"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: [text],
        lambda text: [[text]],
        lambda text: {"text": text},
        lambda text: {"choices": [{"index": 0, "message": {"role": "a", "content": text}}]},
    ],
)
def test_texts_in_lists_of_one_and_in_chats(scorer, name, wrap):
    rows = [{"question_id": i + 1, name: wrap(text)} for i, text in enumerate(SAID["adversarial"])]
    assert scorer.paired(rows) == SAID["adversarial"]


def test_numbers_as_texts(scorer):
    rows = [{"question_id": float(i + 1), "answer": 2.0} for i in range(12)]
    assert scorer.paired(rows) == ["2"] * 12
    rows[3]["answer"] = float("nan")
    assert "line 4: key 'answer' is not text" in scorer.refusal(rows)
    rows[3] = {"question_id": float("nan"), "answer": 2}
    assert "line 4: key 'question_id' is missing or null" in scorer.refusal(rows)


def test_answers_under_a_key_that_the_user_names(scorer):
    rows = [{"question_id": i + 1, "answers": text} for i, text in enumerate(SAID["adversarial"])]
    assert "none of the keys" in scorer.refusal(rows)
    assert scorer.paired(rows, answer_key="answers") == SAID["adversarial"]
    deep = [{"question_id": r["question_id"], "out": {"said": [r["answers"]]}} for r in rows]
    for key in ("out.said", "out"):
        assert scorer.paired(deep, answer_key=key) == SAID["adversarial"]


def test_the_question_file_as_the_answers(scorer):
    message = scorer.refusal(ASKED["adversarial"])
    assert "line 1: key 'text' is the question's" in message


def test_own_images_of_one_name_are_told_by_their_folders(scorer):
    questions = lines(
        scorer.folder / "questions.jsonl",
        [
            {"image": f"{folder}/a.jpg", "question": "Is it red?", "answers": [label]}
            for folder, label in (("x", "yes"), ("y", "no"))
        ],
    )
    rows = [{"image": f"/data/{f}/a.jpg", "question": "Is it red?", "answer": f} for f in "yx"]
    answers = lines(scorer.folder / "own.jsonl", rows)
    score_files([questions], [answers])
    assert scorer.texts == ["x", "y"]


def test_lines_of_the_official_and_the_misprinted_question(scorer):
    rows = answered(prompt="text")
    for row in rows:
        row["prompt"] = row["prompt"].replace("image", "imange")
    assert scorer.paired(rows) == SAID["adversarial"]


@pytest.mark.parametrize(
    "ids", ["{}_adv", "sample_{:04}.txt", "{image}_{}", "{:x}-{image}", "7/{}"]
)
def test_rows_that_are_named_in_another_order_are_refused(scorer, ids):
    asked = ASKED["adversarial"]
    rows = [
        {"custom_id": ids.format(asked[i]["question_id"], image=asked[i]["image"]), "text": "Yes"}
        for i in SHUFFLED
    ]
    assert "custom_id" in scorer.refusal(rows)


def test_numbers_that_begin_anew_in_each_split_are_in_its_order(scorer):
    rows = [
        {"category": split, "idx": i, "text": SAID[split][i]}
        for i in range(12)
        for split in ("popular", "adversarial")
    ]
    assert scorer.paired(rows, "popular", "adversarial") == SAID["popular"] + SAID["adversarial"]
    shuffled = [rows[2 * i + k] for i in SHUFFLED for k in range(2)]
    assert "numbers the lines in another order" in scorer.refusal(
        shuffled, "popular", "adversarial"
    )


@pytest.mark.parametrize("name", ["image_idx", "coco_id", "picture_number", "key"])
def test_numbers_of_images_are_compared_under_any_name(scorer, name):
    rows = [{name: int(ASKED["adversarial"][i]["image"][-7:-4]), "text": "Yes"} for i in SHUFFLED]
    assert name in scorer.refusal(rows)


@pytest.mark.parametrize("before", ["", "USER: <image>\n", "You are helpful. Be short.\nQ: "])
@pytest.mark.parametrize("order", [SHUFFLED, [*range(6, 12), *range(6)]])
def test_transcripts_of_other_questions_are_refused(scorer, before, order):
    asked = ASKED["adversarial"]
    rows = [{"output": f"{before}{asked[i]['text']} ASSISTANT: Yes {i}"} for i in order]
    if order == SHUFFLED:
        assert "'output' is" in scorer.refusal(rows)
    own = [{"output": f"{before}{asked[i]['text']} ASSISTANT: Yes {i}"} for i in range(12)]
    assert scorer.paired(own) == [row["output"] for row in own]


def test_a_model_that_goes_on_to_ask_is_scored(scorer):
    asked = ASKED["popular"]
    rows = [
        {"question_id": i + 1, "output": f"No\nUSER: {asked[(i + 1) % 12]['text']}"}
        for i in range(12)
    ]
    said = scorer.paired(rows, "popular", answer_key="output")
    assert said == [row["output"] for row in rows]


@pytest.mark.parametrize("note", ["coco_pope_popular", "popular"])
def test_an_object_that_names_another_split_is_refused(scorer, note):
    rows = [{"question_id": i + 1, "text": "Yes"} for i in range(12)]
    for document in ({note: rows}, {"dataset": note, "results": rows}):
        path = scorer.folder / "answers.json"
        path.write_text(json.dumps(document))
        with pytest.raises(InputError, match="of the split adversarial"):
            score_files([scorer.files["adversarial"]], [path])
        scores = score_files([scorer.files["popular"]], [path])
        assert scores.pope[0].n == 12


def own_scores(folder, images, rows):
    """Accuracy of answers to one question about several images: a car is in the first only."""
    asked = [
        {"image": image, "question": "Is there a car?", "answers": ["no" if place else "yes"]}
        for place, image in enumerate(images)
    ]
    questions = lines(folder / "mine.jsonl", asked)
    written = [{"question": "Is there a car?"} | row for row in rows]
    return score_files([questions], [lines(folder / "answers.jsonl", written)]).own[0].accuracy


@pytest.mark.parametrize("said", [["yes", "no"], ["no", "yes"], ["yes", "yes"], ["yes"]])
@pytest.mark.parametrize("more", [{}, {"question_id": "x"}, {"index": 1}])
def test_a_file_name_of_two_images_is_refused(tmp_path, said, more):
    rows = [{"image": "0.png", "answer": answer} | more for answer in said]
    with pytest.raises(InputError) as error:
        own_scores(tmp_path, ["a/0.png", "b/0.png"], rows)
    message = str(error.value)
    assert "\n" not in message
    assert "line 1: the image may be 'a/0.png' (question_id " in message
    assert "or 'b/0.png' (question_id " in message
    assert "name each image with its folder" in message


@pytest.mark.parametrize("images", [["a/0.png", "b/0.png"], ["0.png", "a/0.png"]])
@pytest.mark.parametrize("root", ["", "/data/photos/"])
def test_images_of_one_file_name_are_told_apart_by_their_folders(tmp_path, images, root):
    rows = [
        {"image": root + images[0], "answer": "yes"},
        {"image": root + images[1], "answer": "no"},
    ]
    for order in (rows, rows[::-1]):
        assert own_scores(tmp_path, images, order) == 1


def test_one_id_of_questions_about_two_images_is_not_enough(tmp_path):
    asked = [
        {"image": f"{folder}/0.png", "question": "Is there a car?", "answers": [truth],
         "question_id": 7}
        for folder, truth in (("a", "yes"), ("b", "no"))
    ]  # fmt: skip
    questions = lines(tmp_path / "mine.jsonl", asked)
    rows = [{"question_id": 7, "answer": "no"}, {"question_id": 7, "answer": "yes"}]
    with pytest.raises(InputError, match="line 1: question_id 7 is that of several questions"):
        score_files([questions], [lines(tmp_path / "answers.jsonl", rows)])
    named = [
        row | {"image": image, "question": "Is there a car?"}
        for row, image in zip(rows, ["b/0.png", "a/0.png"], strict=True)
    ]
    scores = score_files([questions], [lines(tmp_path / "answers.jsonl", named)])
    assert scores.own[0].accuracy == 1


@pytest.mark.parametrize(
    "name",
    ["image", "filename", "file_name", "file", "path", "url", "meta", "meta.path", "doc.file.path"],
)
@pytest.mark.parametrize("form", ["{}", "/data/val2014/{}", "https://example.org/{}?size=1"])
def test_images_that_no_question_is_about_are_refused_under_any_usual_name(scorer, name, form):
    def rows(names):
        return [
            put(row, name, form.format(image)) for row, image in zip(answered(), names, strict=True)
        ]

    images = [question["image"] for question in ASKED["adversarial"]]
    assert scorer.paired(rows(images)) == SAID["adversarial"]
    others = [image.replace("_0000", "_0009") for image in images]
    assert f"line 1: key '{name}' is" in scorer.refusal(rows(others))


@pytest.mark.parametrize("name", ["mask_path", "heatmap_file", "output_path", "saved_to", "plot"])
def test_images_that_came_of_the_answer_are_left_alone(scorer, name):
    rows = [row | {name: f"out/{i}_mask.png"} for i, row in enumerate(answered())]
    assert scorer.paired(rows) == SAID["adversarial"]


@pytest.mark.parametrize("name", ["label", "gt_answer", "doc.answers"])
@pytest.mark.parametrize("form", ['["{}"]', "['{}']", '["{0}", "{0}"]', '{{"answer": "{}"}}'])
def test_labels_in_a_list_as_text_are_compared(scorer, name, form):
    def rows(labels):
        return [
            put(row, name, form.format(label))
            for row, label in zip(answered(), labels, strict=True)
        ]

    labels = [question["label"] for question in ASKED["adversarial"]]
    assert scorer.paired(rows(labels), answer_key="answer") == SAID["adversarial"]
    labels[3] = "yes"
    assert f"line 4: key '{name}' is" in scorer.refusal(rows(labels), answer_key="answer")


@pytest.mark.parametrize(
    ("value", "kind"),
    [(["Yes", "No"], "a list"), ({"text": "Yes"}, "an object"), ({"a": [{"text": "No"}]}, "")],
)
@pytest.mark.parametrize("key", ["answer", "modelOutput"])
def test_one_answer_in_another_layout_is_named_with_its_row(scorer, value, kind, key):
    rows = [{"question_id": row["question_id"], key: row["answer"]} for row in answered()]
    rows[4][key] = value
    assert f"line 5: key '{key}' " in (message := scorer.refusal(rows))
    assert kind in message


@pytest.mark.parametrize("form", ['["a bus", "{}"]', "[{{'answer': '{}'}}]", "{}"])
def test_open_answers_in_a_list_as_text_are_compared(tmp_path, form):
    asked = {"image": "a.png", "question": "What is it?", "answers": ["cat"], "question_id": 1}
    questions = lines(tmp_path / "mine.jsonl", [asked])
    row = {"question_id": 1, "answer": "A cat", "gt": form.format("Cat")}
    answers = lines(tmp_path / "a.jsonl", [row])
    assert score_files([questions], [answers]).vqa[0].n == 1
    lines(answers, [row | {"gt": form.format("dog")}])
    with pytest.raises(InputError, match=r"line 1: key 'gt' is .*dog.*, but question_id 1 of"):
        score_files([questions], [answers])
