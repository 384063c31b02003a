"""The papers' numbers, and how ours are put beside them."""

from dataclasses import replace

from vrp.estimates.reported import ReportedEstimate
from vrp.findings.evidence import ModelEvidence
from vrp.findings.published_numbers import CHECKPOINTS, POOLED, PUBLISHED, published
from vrp.report.comparison_with_papers import (
    POOLED_QUANTITIES,
    QUANTITIES,
    compared_pooled,
    compared_with_published,
)


def test_every_published_number_has_a_row_and_every_row_a_number():
    rows = {row.key for row in QUANTITIES}
    assert rows == {number.row for number in PUBLISHED if number.family != POOLED}
    assert {row.key for row in POOLED_QUANTITIES} == {
        n.row for n in PUBLISHED if n.family == POOLED
    }
    assert {number.family for number in PUBLISHED} == {*CHECKPOINTS, POOLED}


def test_no_number_is_given_twice():
    names = [(number.row, number.family) for number in PUBLISHED]
    assert len(set(names)) == len(names)


def test_printed_text_is_the_value():
    for number in PUBLISHED:
        if number.row == "sparse_share":  # a range
            continue
        digits = number.text.replace("−", "-").replace("+", "").rstrip("%p ").removeprefix("about ")
        assert float(digits) == number.value, number


def test_known_numbers():
    assert published("auroc_probe", "qwen2_vl").value == 0.971
    assert published("auroc_probe", "qwen2_vl").detail == "layer 18"
    assert published("masking_top", "paligemma").value == -11.3
    assert published("masking_top", "qwen2_vl") is None
    assert published("r_self_consistency", POOLED).value == 0.429


def model(name, family):
    return ModelEvidence(
        name=name,
        family=family,
        metrics={("model", "accuracy", "pooled", -1): ReportedEstimate(0.62, 0.60, 0.64)},
        best_layers=(3, 3),
        probes={("linear_best", "auroc", "within_strata", -1): ReportedEstimate(0.81, 0.78, 0.84)},
    )


def test_ours_stand_beside_their_family():
    table = compared_with_published([model("big", "qwen2_vl"), model("other", "idefics")])
    assert table.columns == ["quantity", "published", "published", "big", "published", "other"]
    assert [width for _, width in table.groups] == [1, 1, 1, 2, 1]
    rows = {row[0].text: row for row in table.rows}
    accuracy = rows["accuracy, all items"]
    assert [cell.text for cell in accuracy[1:]] == ["67.6%", "78.6%", "62.0%", "28.8%", "62.0%"]
    probe = rows["AUROC: hidden-state probe, best layer"]
    assert (probe[3].text, probe[3].detail) == ("0.810", "[0.780, 0.840], layer 3")
    assert (probe[4].text, probe[4].detail) == ("0.971", "layer 18")


def test_textvqa_stands_beside_the_published_where_the_study_asks_it():
    asked = replace(
        model("big", "qwen2_vl"),
        metrics={("token_confidence", "auroc", "text", -1): ReportedEstimate(0.77, 0.7, 0.8)},
        probes={("linear_best", "auroc", "text", -1): ReportedEstimate(0.85, 0.8, 0.9)},
    )
    rows = {row[0].text: row for row in compared_with_published([asked]).rows}
    output, probe = (rows[f"AUROC on TextVQA: {name}"] for name in ("output", "probe"))
    assert [cell.text for cell in output[-2:]] == ["0.770", "0.774"]
    assert [cell.text for cell in probe[-2:]] == ["0.850", "0.852"]
    assert rows["AUROC on all of VQA v2: probe"][-2].text == "not run"


def test_what_a_study_does_not_fill_is_printed_not_run():
    table = compared_with_published([model("big", "llava")])
    for row in table.rows:
        assert row[1].text  # nothing is left blank
        if "VQA" in row[0].text:
            assert row[1].text == "not run"
    pooled = compared_pooled([model("big", "llava")])
    assert [row[1].text for row in pooled.rows] == ["not run"] * 4
