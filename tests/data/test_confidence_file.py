import gzip
import json

import numpy as np
import pytest

from vrp.data.confidence_file import read_confidences
from vrp.errors import InputError

ROWS = [
    {
        "id": 1,
        "correct": True,
        "score": 0.9,
        "image": "a.jpg",
        "task": "counting",
        "answer": "Two ",
    },
    {"id": 2, "correct": 0, "score": 0.2, "image": "a.jpg", "task": "spatial", "answer": None},
    {"id": "x", "correct": None, "score": 0.4, "image": "b.jpg", "task": "spatial", "answer": 3},
]


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_json_lines(tmp_path):
    found = read_confidences(written(tmp_path / "rows.jsonl", ROWS))
    assert found.ids == ("1", "2")
    assert found.correct.tolist() == [True, False]
    assert {name: values.tolist() for name, values in found.scores.items()} == {"score": [0.9, 0.2]}
    assert found.groups == ("a.jpg", "a.jpg")
    assert found.strata == ("counting", "spatial")
    assert found.answers == ("two", "")
    assert found.n_unlabelled == 1
    assert found.columns == {
        "id": "id", "correct": "correct", "group": "image", "stratum": "task", "answer": "answer",
    }  # fmt: skip


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_and_json_say_the_same(tmp_path, delimiter):
    lines = ["id,correct,score,image,task,answer", "1,TRUE,0.9,a.jpg,counting,Two ",
             "2,0,.2,a.jpg,spatial,", "x,,0.4,b.jpg,spatial,3", ""]  # fmt: skip
    table = tmp_path / "rows.csv"
    table.write_text("\n".join(lines).replace(",", delimiter))
    found, expected = read_confidences(table), read_confidences(written(tmp_path / "r", ROWS))
    for one, other in zip(found[1:], expected[1:], strict=True):
        if isinstance(one, dict):
            assert list(one) == list(other)
        else:
            assert np.array_equal(one, other)
    assert found.scores["score"].tolist() == expected.scores["score"].tolist()


def test_several_scores_some_missing_some_reversed(tmp_path):
    rows = [
        {"id": 1, "correct": 1, "scores": {"token": 0.5, "entropy": 2}, "length": 7},
        {"id": 2, "correct": 0, "scores": {"token": float("nan")}, "length": 3},
        {"id": 3, "correct": 0, "scores": {"token": float("inf"), "entropy": None}, "length": 5},
    ]
    path = written(tmp_path / "rows.jsonl", rows)
    found = read_confidences(path, low_is_sure=["entropy"])
    assert found.scores["token"] == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)
    assert found.scores["entropy"] == pytest.approx([-2, np.nan, np.nan], nan_ok=True)
    assert found.groups == ("1", "2", "3")
    assert (found.strata, found.answers) == (None, None)
    chosen = read_confidences(path, scores=["length", "token"])
    assert list(chosen.scores) == ["length", "token"]
    assert chosen.scores["length"].tolist() == [7, 3, 5]


def test_columns_of_a_table_that_hold_several_scores(tmp_path):
    path = tmp_path / "rows.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("id,correct,scores.a,scores.b\n1,true,0.5,1\n2,false,nan,2\n")
    found = read_confidences(path)
    assert found.scores["a"] == pytest.approx([0.5, np.nan], nan_ok=True)
    assert found.scores["b"].tolist() == [1, 2]


def refused(tmp_path, rows, **options):
    with pytest.raises(InputError) as error:
        read_confidences(written(tmp_path / "rows.jsonl", rows), **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_what_is_wrong_is_named_with_its_line(tmp_path):
    good = {"id": 1, "correct": True, "score": 0.5}
    for bad, expected in (
        (good, "line 2: id '1' is already used"),
        ({"id": 2, "correct": "yes", "score": 0.5}, "line 2: 'correct' is 'yes'; expected true"),
        ({"id": 2, "correct": 0.5, "score": 0.5}, "line 2: 'correct' is 0.5; expected true"),
        ({"id": 2, "correct": 2, "score": 0.5}, "line 2: 'correct' is 2; expected true"),
        ({"id": 2, "correct": True, "score": "high"}, "line 2: 'score' is 'high'; expected a num"),
        ({"id": 2, "correct": True, "score": True}, "line 2: 'score' is True; expected a number"),
        (
            {"id": 2, "correct": 0, "score": -1e308},
            "line 2: 'score' is -1e+308; expected a number w",
        ),
        (
            {"id": 2, "correct": 0, "score": "1e101"},
            "line 2: 'score' is '1e101'; expected a number",
        ),
        ({"id": None, "correct": True, "score": 1}, "line 2: key 'id' is null"),
        ({"correct": True, "score": 1}, "line 2: key 'id' is missing"),
    ):
        assert expected in refused(tmp_path, [good, bad])


@pytest.mark.parametrize("lacking", [0, 1, 2])
@pytest.mark.parametrize("key", ["id", "correct", "image", "task", "answer"])
def test_a_column_that_one_row_lacks_is_refused_with_that_row(tmp_path, lacking, key):
    rows = [
        {"id": i, "correct": i > 0, "score": i, "image": "a", "task": "b", "answer": "yes"}
        for i in range(3)
    ]
    del rows[lacking][key]
    assert f"line {lacking + 1}: key '{key}' is missing" in refused(tmp_path, rows)


def test_columns_that_are_not_there_are_named_with_the_nearest(tmp_path):
    rows = [{"id": 1, "is_correct": True, "confidence": 0.5}]
    message = refused(tmp_path, rows)
    assert "did you mean 'is_correct'?" in message
    assert "name it with --correct" in message
    columns = {"correct": "is_correct"}
    assert "name the scores with --scores" in refused(tmp_path, rows, columns=columns)
    message = refused(tmp_path, rows, columns=columns, scores=["confidense"])
    assert "did you mean 'confidence'?" in message
    message = refused(tmp_path, rows, columns=columns | {"group": "imag"}, scores=["confidence"])
    assert "unknown column 'imag'" in message
    message = refused(
        tmp_path, rows, columns=columns, scores=["confidence"], low_is_sure=["confidenze"]
    )
    assert "unknown score 'confidenze'; did you mean 'confidence'?" in message


def test_nothing_to_judge(tmp_path):
    assert "no row says" in refused(tmp_path, [{"id": 1, "correct": None, "score": 1}])
    rows = [{"id": 1, "correct": True, "score": None}]
    assert "'score' has a finite number in no judged row" in refused(tmp_path, rows)
    with pytest.raises(InputError, match="no such file"):
        read_confidences(tmp_path / "none.jsonl")
    (tmp_path / "empty.csv").write_text("id,correct,score\n")
    with pytest.raises(InputError, match="holds no rows"):
        read_confidences(tmp_path / "empty.csv")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,correct,score\n1,true\n", "line 2: 2 values for 3 columns"),
        ("id,correct,correct\n1,true,0\n", "must name the columns, each once"),
        ('id,correct,score\n1,true,"0.5\n', "line 2: unexpected end of data"),
    ],
)
def test_tables_that_are_broken(tmp_path, text, expected):
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(InputError, match=expected):
        read_confidences(tmp_path / "rows.csv")


def test_other_files_are_named(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and so on")
    with pytest.raises(InputError, match="a Parquet table"):
        read_confidences(tmp_path / "rows.parquet")
