"""What a run prints at its end."""

import json

from vrp.report.in_short import report_in_short, unfinished_in_short


def test_a_finished_study_is_told_in_a_few_lines(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({"in_short": ["one", "two"]}))
    told = ["one", "two", f"Report: {tmp_path / 'report.html'}"]
    assert report_in_short(tmp_path) == told
    (tmp_path / "explorer.html").touch()
    assert report_in_short(tmp_path) == [*told, f"Every answer: {tmp_path / 'explorer.html'}"]


def test_without_a_readable_report_nothing_is_told(tmp_path):
    assert report_in_short(tmp_path) == []
    for content in ("{", "{}", "[]"):
        (tmp_path / "summary.json").write_text(content)
        assert report_in_short(tmp_path) == []


def test_a_failed_run_says_how_to_see_what_is_finished(tmp_path):
    study = tmp_path / "my study"
    (study / "llava").mkdir(parents=True)
    assert unfinished_in_short(study) == []
    (study / "llava" / "signals.parquet").touch()
    assert unfinished_in_short(study) == [f"For a report of what is finished: vrp report '{study}'"]
