"""`vrp monitor score` and `check`: files in, decisions and flags out."""

import csv
import json
import math

import numpy as np
import pytest
from scipy import stats

from vrp.cli import main
from vrp.errors import InputError
from vrp.monitor.checking import Check, Share, check, fresh_items
from vrp.monitor.checking import run as run_check
from vrp.monitor.scoring import read_questions
from vrp.stats.risk_control import excess_risk_p

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(monitor, tmp_path_factory):
    found = tmp_path_factory.mktemp("monitor") / "m"
    monitor.save(found)
    return found


@pytest.fixture(scope="module")
def images(study):
    return study.folder.parents[1] / "data" / "small"


@pytest.fixture(scope="module")
def questions(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("questions") / "q.jsonl"
    rows = study.items.gather_every(6).iter_rows(named=True)
    kept = ("image", "question", "answers", "task")
    lines = [json.dumps({key: row[key] for key in kept}) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def scored(folder, images, questions):
    path = folder.parent / "answers.csv"
    main(["monitor", "score", str(folder), "--input", str(questions), "--images", str(images),
          "--output", str(path), "--alpha", "0.4", "--batch-size", "7"])  # fmt: skip
    return path


def test_scored_answers_are_the_studys_in_the_order_of_the_questions(scored, study, questions):
    rows = list(csv.DictReader(scored.open()))
    answers = dict(
        study.table("answers", "llava").select("item_id", "answer").collect().iter_rows()
    )
    signals = study.table("signals", "llava").collect()
    asked = study.items.gather_every(6)
    assert [row["question"] for row in rows] == asked["question"].to_list()
    for row, item_id in zip(rows, asked["item_id"], strict=True):
        known = signals.filter(item_id=item_id)
        assert row["answer"] == answers[item_id]
        confidence = math.exp(known["token_confidence"][0])
        expected = math.log(confidence / (1 - confidence))
        assert float(row["score"]) == pytest.approx(expected, abs=1e-3)
        assert row["correct"] == str(known["correct"][0]).lower()
        assert row["decision"] in ("accept", "ask")


def test_csv_questions_are_those_of_json_lines(questions, images, tmp_path):
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    path = tmp_path / "q.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "question", "task"])
        writer.writeheader()
        writer.writerows({key: row[key] for key in writer.fieldnames} for row in rows)
    found, expected = read_questions(path, images), read_questions(questions, images)
    assert [one.question_id for one in found] == [one.question_id for one in expected]
    assert all(one.reference is None for one in found)


def test_items_like_those_of_the_calibration_raise_no_flag(
    folder, questions, images, scored, tmp_path, capsys
):
    written = tmp_path / "check.json"
    options = ["--alpha", "0.4", "--json", str(written)]
    main(["monitor", "check", str(folder), str(questions), "--images", str(images), *options])
    assert capsys.readouterr().out.endswith("no evidence against the guarantee\n")
    asked = json.loads(written.read_text())
    main(["monitor", "check", str(folder), str(scored), *options])
    read = json.loads(written.read_text())
    for name in ("n", "n_images", "accuracy", "coverage", "risk", "risk_p"):
        assert read[name] == pytest.approx(asked[name])
    assert read["drift"] == pytest.approx(asked["drift"], abs=0.02)  # scores are rounded


def test_another_distribution_of_scores_raises_the_flag(folder, scored, tmp_path, capsys):
    rows = list(csv.DictReader(scored.open()))
    lines = [
        json.dumps({"image": row["image"], "score": float(row["score"]) - 3, "correct": False})
        for row in rows
    ]
    path = tmp_path / "shifted.jsonl"
    path.write_text("\n".join(lines) + "\n")
    numbers = tmp_path / "check.json"
    with pytest.raises(SystemExit) as ended:
        main(["monitor", "check", str(folder), str(path), "--alpha", "0.4", "--json", str(numbers)])
    assert ended.value.code == 1
    assert "FLAG" in capsys.readouterr().out
    found = json.loads(numbers.read_text())
    assert found["drift_flag"]
    assert found["drift_p"] < 0.01


def fresh(n, risk, seed=0, shift=0.0):
    random = np.random.default_rng(seed)
    scores = random.normal(1.0 + shift, 1.5, n)
    names = [str(i) for i in range(n)]
    return fresh_items(scores, random.random(n) >= risk, names)


def test_risk_and_drift_are_tested_exactly(monitor):
    items = fresh(400, 0.3)
    found = check(monitor, items, alpha=0.2)
    accepted = items.scores >= monitor.card.threshold(0.2).threshold
    n_wrong = int((~items.correct[accepted]).sum())
    exact = stats.binomtest(n_wrong, int(accepted.sum()), 0.2, alternative="greater")
    assert found.risk_p == pytest.approx(exact.pvalue)
    assert found.risk.value == pytest.approx(n_wrong / accepted.sum())
    assert found.risk_flag == (exact.pvalue <= 0.05)
    ks = stats.ks_2samp(items.scores, monitor.scores)
    assert (found.drift, found.drift_p) == pytest.approx((ks.statistic, ks.pvalue))


def test_images_count_alike_and_all_their_questions_are_tested(monitor):
    """100 images with one question, 100 with seven, the answers to which are wrong."""
    at = monitor.card.threshold(0.4).threshold
    groups = np.concatenate([np.arange(100), np.repeat(np.arange(100, 200), 7)]).astype(str)
    scores = np.where(np.arange(800) % 10 == 0, at - 1, at + 1)
    found = check(monitor, fresh_items(scores, np.arange(800) < 100, groups), alpha=0.4)
    below = scores < at
    shares = [(~below[groups == one]).mean() for one in np.unique(groups)]
    assert found.coverage.value == pytest.approx(np.mean(shares))
    wrong = sum(
        share for share, one in zip(shares, np.unique(groups), strict=True) if int(one) > 99
    )
    assert found.risk.value == pytest.approx(wrong / sum(shares))
    assert found.risk_p == excess_risk_p(
        ~below, np.arange(800) < 100, groups, alpha=0.4, level=0.05
    )


def test_few_images_are_undecided(monitor):
    found = check(monitor, fresh(8, 0.0), alpha=0.2)
    assert math.isnan(found.drift_p)
    assert found.verdict == "undecided: 8 images are too few; give at least 20"
    assert json.loads(found.as_json())["drift_p"] is None


@pytest.mark.parametrize(
    ("risk_p", "drift_p", "words"),
    [
        (0.5, 0.5, "no evidence against"),
        (0.01, 0.5, "FLAG: more of the accepted answers are wrong"),
        (0.5, 0.001, "FLAG: the scores have drifted"),
        (
            0.01,
            0.001,
            "FLAG: more of the accepted answers are wrong than alpha allows, and the scores",
        ),
        (math.nan, math.nan, "no evidence against"),
    ],
)
def test_the_verdict_follows_the_tests(risk_p, drift_p, words):
    share = Share(0.5, 0.4, 0.6)
    found = Check(0.1, 100, 50, 0.8, share, 0.5, share, risk_p, 0.1, drift_p, 0.02)
    assert found.verdict.startswith(words)
    assert found.flagged == words.startswith("FLAG")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": "nowhere.png", "question": "Is it red?"}', r"nowhere\.png is not in"),
        ('{"image": "a.png"}', "question"),
        ('{"image": "a.png", "question": "x", "colour": 1}', "unknown key 'colour'"),
        ("", "holds no records"),
    ],
)
def test_questions_that_cannot_be_asked_are_named(images, tmp_path, text, message):
    path = tmp_path / "q.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_questions(path, images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,question\na.png,Are there cats, or dogs?\n", r"line 2: 3 values for 2 columns"),
        ("image,question,answers\na.png,Cats, or dogs?,no\n", r"line 2: 4 values for 3 columns"),
        ("image,question,\na.png,Cats, or dogs?\n", r"line 2: 'or dogs\?' is in column 3"),
        ("image,question,question\na.png,A?,B?\n", "each once, but 'question' is there twice"),
        ("image,question,answers\na.png,A?\n", r"line 2: 2 values for 3 columns"),
        ('image,question\na.png,"A?\n', r"line 2: unexpected end of data"),
        ("image,question,answers\na.png,A?,no\nb.png,B?,\n",
         r"line 3: the cell under 'answers' is empty \(so in 1 lines\), unlike at .*line 2; f"),
        ("image,question\n", "holds no question"),
    ],
)  # fmt: skip
def test_a_table_of_questions_that_is_broken_is_refused_with_its_line(
    images, tmp_path, text, message
):
    path = tmp_path / "q.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_questions(path, images)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_of_questions_as_programs_write_them(images, study, tmp_path, end):
    name = study.items["image"][0]
    lines = [",image,question,answers,,", f'0,{name},"Cats, or dogs?",no,,', "", ""]
    for delimiter in ",;\t":
        path = tmp_path / "q.csv"
        text = end.join(lines).replace(",", delimiter).replace(f"Cats{delimiter}", "Cats,")
        path.write_bytes(text.encode())
        (found,) = read_questions(path, images)
        assert (found.image, found.question, found.answers) == (name, "Cats, or dogs?", ["no"])


GOOD = {"question_id": "1", "image": "a.png", "score": 1.0, "correct": True}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, {"question_id": "2", "score": 1, "correct": True}], "line 2: names no image, unl"),
        ([{"score": 1, "correct": True}, GOOD], "line 1: names no image, unlike"),
        ([GOOD, GOOD | {"image": None, "question_id": 2}], "line 2: names no image, unlike"),
        ([GOOD, GOOD | {"image": "b.png"}], "line 2: id '1' is already used"),
        ([GOOD, {"image": "a.png", "correct": True}], "line 2: key 'score' is missing"),
        ([{"image": "a.png", "correct": True}, GOOD], "line 1: key 'score' is missing"),
    ],
)
def test_rows_to_check_that_lack_what_others_have_are_named(
    folder, tmp_path, rows, message, capsys
):
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SystemExit):
        main(["monitor", "check", str(folder), str(path)])
    assert message in capsys.readouterr().err


def test_a_group_stands_for_the_image_where_a_row_names_one(folder, tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("image,group,score,correct\na.png,g,1,true\nb.png,g,,true\nc.png,,nan,false\n")
    assert run_check(folder, path, alpha=0.4).n_images == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"score": 1.0}, "correct is None; give true or false"),
        ({"score": "high", "correct": True}, "score is 'high'; give a number"),
    ],
)
def test_scores_that_cannot_be_checked_are_named(folder, tmp_path, row, message, capsys):
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(SystemExit):
        main(["monitor", "check", str(folder), str(path)])
    assert message in capsys.readouterr().err


def test_questions_without_answers_cannot_be_checked(folder, images, tmp_path, capsys, study):
    row = study.items.row(0, named=True)
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"image": row["image"], "question": row["question"]}))
    with pytest.raises(SystemExit):
        main(["monitor", "check", str(folder), str(path), "--images", str(images)])
    assert "has no answers; give them" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["monitor", "check", str(folder), str(path)])
    assert "give --images" in capsys.readouterr().err


def test_fit_is_a_command(small_results, tmp_path, capsys):
    main(["monitor", "fit", str(small_results), "--model", "llava", "--output", str(tmp_path / "m"),
          "--alpha", "0.2", "--predictor", "token_confidence"])  # fmt: skip
    out = capsys.readouterr().out
    assert out.startswith("zoo:llava: token_confidence; chosen by the user")
    assert "alpha 0.2: accept" in out
    assert {path.name for path in (tmp_path / "m").iterdir()} == {
        "card.json", "monitor.safetensors", "README.md"
    }  # fmt: skip
