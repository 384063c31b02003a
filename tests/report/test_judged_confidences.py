"""`vrp judge` from the file to the text, the page and its tables."""

import json
import re

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import auc, roc_auc_score

from vrp.cli import main


def rows(n=600, seed=0, *, share_right=0.75):
    """Answers on a third as many images; `p` is calibrated, `noise` and `entropy` tell nothing."""
    random = np.random.default_rng(seed)
    p = np.clip(share_right + 0.25 * random.uniform(-1, 1, n), 0, 1)
    return [
        {
            "id": f"q{i}", "image": f"image {i // 3}.jpg", "task": ["counting", "yes/no"][i % 2],
            "answer": str(random.choice(["yes", "no"])), "correct": bool(random.random() < p[i]),
            "scores": {"p": round(float(p[i]), 3), "noise": float(random.random()),
                       "entropy": float(random.exponential())},
        }
        for i in range(n)
    ]  # fmt: skip


def written(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def judge(capsys, *words):
    main(["judge", *map(str, words)])
    return capsys.readouterr().out


def test_the_answer_comes_first_and_fits_a_screen(tmp_path, capsys):
    path = written(tmp_path / "rows.jsonl", rows(3000))
    text = judge(capsys, path, "--low-is-sure", "entropy", "--output", tmp_path / "out")
    lines = text.splitlines()
    assert len(lines) <= 15
    assert lines[0].startswith(f"{path}: 3,000 answers on 1,000 images in 2 strata, ")
    assert lines[1].startswith("p tells right answers from wrong ones: AUROC 0.")
    assert lines[2].startswith("Accept answers if p is at least ")
    assert lines[-1] == f"Written: {tmp_path / 'out' / 'report.html'}"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "report.html", "judge.json", "estimates.csv", "thresholds.csv", "comparisons.csv",
        "roc.csv", "risk_coverage.csv", "reliability.csv",
        "ranking.svg", "ranking.pdf", "reliability.svg", "reliability.pdf",
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files about 3,000 answers."""
    place = tmp_path_factory.mktemp("judged")
    path = written(place / "rows.jsonl", rows(3000))
    main(["judge", str(path), "--low-is-sure", "entropy", "--output", str(place / "out")])
    return place / "out"


def test_every_number_of_the_page_is_in_the_files(folder):
    page = (folder / "report.html").read_text()
    document = json.loads((folder / "judge.json").read_text())
    estimates = pl.read_csv(folder / "estimates.csv")
    for score in document["scores"]:
        (row,) = estimates.filter(
            predictor=score["name"], scope="within_strata", metric="auroc"
        ).iter_rows(named=True)
        assert row["value"] == pytest.approx(score["auroc"]["value"], rel=1e-5)
        shown = f"{row['value']:.3f}<small>[{row['low']:.3f}, {row['high']:.3f}]</small>"
        assert shown in re.sub(r"\s*<small>", "<small>", page)
        assert f"{score['aurc']:.3f}" in page
        assert f"{score['ece_calibrated']:.3f}" in page
        for share in (50, 80, 90):
            assert f"{100 * score[f'accuracy_at_{share}']['value']:.1f}%" in page
    for row in pl.read_csv(folder / "thresholds.csv").iter_rows(named=True):
        if row["threshold"] is not None:
            assert f"{row['accept']} {row['threshold']:.4g}" in page
            assert f"{row['n_wrong']:,} of {row['n_accepted']:,}" in page
    for pair in pl.read_csv(folder / "comparisons.csv").iter_rows(named=True):
        assert f"{pair['value']:+.3f}".replace("-", "−") in page


def test_the_figures_numbers_are_those_of_the_tables(folder):
    document = json.loads((folder / "judge.json").read_text())
    records = rows(3000)
    for score in document["scores"]:
        curve = pl.read_csv(folder / "roc.csv").filter(score=score["name"])
        area = auc(curve["false_positive_rate"], curve["true_positive_rate"])
        assert area == pytest.approx(score["auroc"]["value"], abs=2e-3)
        sign = -1 if score["low_is_sure"] else 1
        correct = [record["correct"] for record in records]
        values = [sign * record["scores"][score["name"]] for record in records]
        (pooled,) = pl.read_csv(folder / "estimates.csv").filter(
            predictor=score["name"], scope="pooled", metric="auroc"
        )["value"]
        assert pooled == pytest.approx(roc_auc_score(correct, values), abs=1e-12)


def test_thresholds_of_reversed_scores_are_on_the_files_own_scale(tmp_path, capsys):
    records = rows(3000)
    for record in records:
        record["scores"] = {"risk": 1 - record["scores"]["p"]}
    path = written(tmp_path / "rows.jsonl", records)
    text = judge(capsys, path, "--low-is-sure", "risk", "--alpha", "0.2", "--output", tmp_path)
    assert re.search(r"Accept answers if risk is at most 0\.\d+ for at most 20% wrong", text)
    (row,) = pl.read_csv(tmp_path / "thresholds.csv").iter_rows(named=True)
    assert (row["accept"], 0 < row["threshold"] < 1) == ("at most", True)


def test_a_score_that_is_turned_round_is_said_to_be(tmp_path, capsys):
    records = [record | {"scores": None, "score": -record["scores"]["p"]} for record in rows(3000)]
    text = judge(capsys, written(tmp_path / "rows.jsonl", records))
    assert "reverse it with --low-is-sure score" in text


def test_the_same_file_gives_the_same_bytes(tmp_path, capsys, folder):
    path = written(folder.parent / "rows.jsonl", rows(3000))
    judge(capsys, path, "--low-is-sure", "entropy", "--output", tmp_path)
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_says_what_can_be_said(tmp_path, capsys, right):
    records = [record | {"correct": right} for record in rows(300)]
    text = judge(capsys, written(tmp_path / "rows.jsonl", records), "--output", tmp_path)
    missing = "wrong" if right else "right"
    assert f"is unknown: too few {missing} answers: 0" in text
    assert ("100.0% [" if right else "0.0% [") in text.splitlines()[0]
    assert (tmp_path / "report.html").is_file()


def test_one_score_without_images_strata_and_answers(tmp_path, capsys):
    records = [
        {"id": i, "correct": record["correct"], "score": record["scores"]["p"]}
        for i, record in enumerate(rows(400))
    ]
    text = judge(capsys, written(tmp_path / "rows.jsonl", records), "--output", tmp_path)
    assert "No column identifies the images" in text
    page = (tmp_path / "report.html").read_text()
    for said in ("The file has one score.", "has no strata", "The file has no answers"):
        assert said in page


def test_names_from_the_file_are_shown_letter_by_letter(tmp_path, capsys):
    name = "<b>$p_$&" + "x" * 60
    records = [record | {"scores": {name: record["scores"]["p"]}} for record in rows(400)]
    records[0]["task"] = "<script>"
    judge(capsys, written(tmp_path / "rows.jsonl", records), "--output", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<b>$p" not in page
    assert page.count("<script>") == 1
    assert "$p_$" in (tmp_path / "ranking.svg").read_text()


def test_many_scores_leave_the_answer_on_one_screen(tmp_path, capsys):
    random = np.random.default_rng(1)
    records = rows(400)
    for record in records:
        record["scores"] |= {f"score {i}": float(random.random()) for i in range(12)}
    text = judge(capsys, written(tmp_path / "r.jsonl", records), "--output", tmp_path / "out")
    assert len(text.splitlines()) <= 15
    assert "10 more scores are in the files." in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--group", "imag"], "did you mean 'image'?"),
        (["--scores", "nois"], "did you mean 'noise'?"),
        (["--alpha", "1.5"], "alpha 1.5 is out of range"),
        (["--delta", "0.7"], "delta 0.7 is out of range"),
        (["--stratum", "id"], "600 strata in column 'id'"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(tmp_path, capsys, words, expected):
    path = written(tmp_path / "rows.jsonl", rows())
    with pytest.raises(SystemExit) as stopped:
        main(["judge", str(path), *words])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("vrp judge: ")
    assert message.count("\n") == 1
    assert expected in message


@pytest.mark.parametrize("n", [1, 9])
def test_nine_images_are_too_few(tmp_path, capsys, n):
    path = written(tmp_path / "rows.jsonl", rows(3 * n))
    with pytest.raises(SystemExit):
        main(["judge", str(path)])
    assert f"on {n} images; intervals and tests count images" in capsys.readouterr().err


@pytest.mark.parametrize("n_images", [1, 4])
def test_a_score_on_few_images_is_named_and_the_others_are_judged(tmp_path, capsys, n_images):
    records = rows(90)
    for number, record in enumerate(records):
        record["scores"] = {"p": record["scores"]["p"]}
        if number < 3 * n_images:
            record["scores"]["rare"] = number
    path = written(tmp_path / "rows.jsonl", records)
    text = judge(capsys, path, "--output", tmp_path / "out")
    said = f"Not judged, since fewer than 5 images have a number: rare ({n_images})."
    assert said in text
    assert said in (tmp_path / "out" / "report.html").read_text()
    content = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert content["not_judged"] == [{"name": "rare", "n_images": n_images}]
    alone = [record | {"scores": {"p": record["scores"]["p"]}} for record in records]
    assert judge(capsys, written(path, alone)) == "".join(
        line + "\n" for line in text.splitlines() if line != said and "Written" not in line
    )
    records[0]["scores"]["p"] = None
    written(path, records)
    with pytest.raises(SystemExit):
        judge(capsys, path, "--scores", "rare")
    assert f"on {n_images} images have a finite rare; a score n" in capsys.readouterr().err


@pytest.mark.parametrize("scale", [1e-320, 1e97])
def test_the_size_of_the_scores_is_no_matter(tmp_path, capsys, scale):
    records = rows(90)
    scaled = [
        record | {"scores": None, "score": scale * round(1000 * record["scores"]["p"])}
        for record in records
    ]
    plain = [
        record | {"scores": None, "score": round(1000 * record["scores"]["p"])}
        for record in records
    ]
    first = judge(capsys, written(tmp_path / "rows.jsonl", scaled)).splitlines()[1]
    assert first == judge(capsys, written(tmp_path / "rows.jsonl", plain)).splitlines()[1]
