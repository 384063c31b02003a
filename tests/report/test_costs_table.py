"""The costs that reports show are the benchmark's, and cover every signal."""

from vrp.report.costs import _PARTS, costs_source, costs_table, measured_costs
from vrp.signals.registry import SIGNALS


def made_up(answer, other):
    parts = {name: {"ms_an_item": other, "prefills": 0, "steps": 0} for name in _PARTS}
    parts["answers"] = {"ms_an_item": answer, "prefills": 1.0, "steps": 1.25}
    return parts


def test_every_signal_rests_on_something_measured():
    measured = {name for part in _PARTS.values() for name in part.inputs}
    for signal in SIGNALS:
        assert set(signal.needs) & measured, signal.name


def test_the_table_by_hand():
    costs = {"families": {"one": made_up(4.0, 1.0), "two": made_up(10.0, 1.0)}}
    table = costs_table(costs)
    assert all(len(row) == len(table.columns) for row in table.rows)
    answer, attention = table.rows[0], table.rows[1]
    assert [cell.text for cell in answer[2:]] == ["1.00 + 1.25", "4.00", "10.00"]
    assert [cell.detail for cell in attention[3:]] == ["25%", "10%"]
    assert attention[2].text == "none of its own"


def test_what_is_shipped_is_complete():
    costs = measured_costs()
    assert set(costs["families"]) == {"llava", "paligemma", "qwen2_vl"}
    for parts in costs["families"].values():
        assert set(parts) == set(_PARTS)
        assert all(cost["ms_an_item"] >= 0 for cost in parts.values())
    assert costs["hardware"]["processor"] in costs_source(costs)
