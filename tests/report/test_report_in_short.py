"""What a run prints at its end."""

import json

from vrp.report.in_short import report_in_short


def test_a_finished_study_is_told_in_a_few_lines(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({"in_short": ["one", "two"]}))
    assert report_in_short(tmp_path) == ["one", "two", f"Report: {tmp_path / 'report.html'}"]


def test_without_a_readable_report_nothing_is_told(tmp_path):
    assert report_in_short(tmp_path) == []
    for content in ("{", "{}", "[]"):
        (tmp_path / "summary.json").write_text(content)
        assert report_in_short(tmp_path) == []
