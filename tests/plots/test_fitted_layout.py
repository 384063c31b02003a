"""Texts of panels are broken where a reader would break them."""

import pytest

from vrp.plots.fitted_layout import break_lines


def broken(text, width):
    """Lines, where each sign is one wide."""
    return break_lines(text, width, len, at_commas=True).split("\n")


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("short", 10, ["short"]),
        ("20% wrong; 300 items, 90 images", 20, ["20% wrong", "300 items, 90 images"]),
        ("20% wrong; 300 items, 90 images", 12, ["20% wrong", "300 items,", "90 images"]),
        ("AUROC 0.50 [0.48, 0.52]", 14, ["AUROC 0.50", "[0.48, 0.52]"]),
        ("one two three", 7, ["one two", "three"]),
        ("gamma-3b-mix-224", 10, ["gamma-3b-", "mix-224"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        (r"drop of $\Delta H_\mathrm{s} / x$", 12, ["drop of", r"$\Delta H_\mathrm{s} / x$"]),
        ("two\nlines here", 6, ["two", "lines", "here"]),
        ("", 5, [""]),
    ],
)  # fmt: skip
def test_lines_end_where_a_reader_would_end_them(text, width, lines):
    assert broken(text, width) == lines


def test_names_of_rows_are_broken_at_blanks_alone():
    assert break_lines("margin, its peak", 12, len) == "margin, its\npeak"
    assert break_lines("margin, its peak", 12, len, at_commas=True) == "margin,\nits peak"
