"""Progress of long work in a log."""

import io

import pytest

import vrp.progress
from vrp.progress import progress, progress_over


@pytest.fixture
def log(monkeypatch, capsys):
    """Reads a log in which each step of the work is late enough for a line."""
    monkeypatch.setattr(vrp.progress, "_LOG_INTERVAL", 0.0)
    return lambda: capsys.readouterr().err


def test_a_log_has_a_whole_line_for_each_report(log):
    with progress(4, "extract one", unit="item") as bar:
        for _ in range(4):
            bar.update()
    assert [line.split(" [")[0] for line in log().split("\n")] == [
        "extract one: 0% 0/4", "extract one: 25% 1/4", "extract one: 50% 2/4",
        "extract one: 75% 3/4", "extract one: 100% 4/4", "",
    ]  # fmt: skip


def test_nested_work_moves_no_cursor(log):
    for _ in progress_over([1, 2], "outer", unit="part"):
        assert list(progress_over(["a", "b", "c"], "inner", unit="layer")) == ["a", "b", "c"]
    said = log()
    assert "\x1b" not in said
    assert said.count("inner: 100% 3/3") == 2
    assert said.count("outer: 100% 2/2") == 1


def test_short_work_says_nothing_in_a_log(capsys):
    with progress(3, "short", unit="item") as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


def test_a_terminal_is_redrawn(monkeypatch):
    file = io.StringIO()
    file.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", file)
    with progress(3, "short", unit="item") as bar:
        bar.update(3)
    assert "\rshort: 100%|" in file.getvalue()
