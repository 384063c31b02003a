"""What a figure shows in words, by hand."""

import pytest

from vrp.errors import InputError
from vrp.report.figure_findings import finding


def words(tmp_path, text):
    path = tmp_path / "figure.csv"
    path.write_text(text)
    return finding(path)


def test_the_ends_of_each_model_with_what_they_are_of(tmp_path):
    """The kind is told by the name, and the name by the label, which is what people read."""
    found = words(
        tmp_path,
        "model,predictor,label,kind,value,low\n"
        "a,x,the first,one,0.5,0.4\na,y,the second,two,0.724,0.7\na,w,the third,two,0.6,0.5\n"
        "b,x,the first,one,0.61,0.6\nb,y,the second,two,,\n",
    )
    assert found == "a, 0.50 (the first) to 0.72 (the second); b, 0.61 (the first)"


def test_of_several_quantities_the_one_with_most_values_is_told(tmp_path):
    found = words(
        tmp_path,
        "model,quantity,layer,value\na,area,,0.06\na,share,0,0.2\na,share,1,0.3\n",
    )
    assert found == "share: a, 0.20 (layer 0) to 0.30 (layer 1)"
    found = words(tmp_path, "model,quantity,row,value\na,accuracy,x,0.2\na,parsed,x,1.0\n")
    assert found == "accuracy: a, 0.20"


def test_single_draws_are_not_the_effect(tmp_path):
    found = words(tmp_path, "model,mark,dose,value\na,effect,-0.5,1\na,draw,1,9\na,draw,2,8\n")
    assert found == "a, 1.00"


def test_all_equal_values_are_one(tmp_path):
    assert words(tmp_path, "layer,value\n0,1.0\n1,1.0\n") == "all, 1.00 (layer 0)"


def test_a_figure_without_the_column_is_not_told(tmp_path):
    assert words(tmp_path, "model,share\na,0.5\n") == ""


def test_a_figure_of_words_is_not_told_and_not_taken_as_empty(tmp_path):
    assert words(tmp_path, "model,value\na,yes\nb,\n") == ""


@pytest.mark.parametrize(
    "text", ["model,value\n", "model,share\n", "model,quantity,value\na,x,\n", "value\nnan\n"]
)
def test_a_figure_without_values_shows_nothing(tmp_path, text):
    assert words(tmp_path, text) is None


def test_what_is_no_csv_is_named(tmp_path):
    with pytest.raises(InputError, match=r"figure\.csv: is not a readable CSV"):
        finding(tmp_path / "figure.csv")
