"""The costs that reports show are the benchmark's, and cover every signal."""

from vrp.report.costs import _PARTS, costs_source, costs_table, measured_costs, part_of
from vrp.signals.registry import SIGNALS


def made_up(answer, other):
    def cost(spent, prefills=0.0, steps=0.0):
        spread = {"ms_an_item": spent, "least": spent - 0.5, "most": spent + 0.5}
        return {**spread, "prefills": prefills, "steps": steps}

    parts = {name: cost(other) for name in _PARTS}
    parts["answers"] = cost(answer, 1.0, 1.25)
    parts["lens"] = cost(0.25)
    return parts


def test_every_signal_rests_on_something_measured():
    for signal in SIGNALS.values():
        assert {part_of(need) for need in signal.needs} <= set(_PARTS), signal.name


def test_a_column_rests_on_the_narrowest_part_that_gives_it():
    assert part_of("consistency.normalised") == "k10"
    assert part_of("consistency.exact_probabilities") == "exact"
    assert part_of("lens.decision_margin") == "lens"
    assert part_of("lens.residual_update") == "residual_update"


def test_the_table_by_hand():
    costs = {"families": {"one": made_up(4.0, 1.0), "two": made_up(10.0, 1.0)}}
    table = costs_table(costs)
    assert all(len(row) == len(table.columns) for row in table.rows)
    answer, attention = table.rows[0], table.rows[1]
    assert [cell.text for cell in answer[2:]] == ["1.00 + 1.25", "4.00", "10.00"]
    assert [cell.detail for cell in attention[3:]] == [
        "0.50 to 1.50; 25%",
        "0.50 to 1.50; 10%",
    ]
    [lens] = [row for row in table.rows if row[0].text == "logit lens"]
    assert (lens[3].text, lens[3].detail) == ("0.25", "−0.25 to 0.75")
    assert attention[2].text == "none of its own"


def test_what_is_shipped_is_complete():
    costs = measured_costs()
    assert set(costs["families"]) == {"llava", "paligemma", "qwen2_vl"}
    for parts in costs["families"].values():
        assert set(parts) == set(_PARTS)
        for cost in parts.values():
            assert cost["least"] <= cost["ms_an_item"] <= cost["most"]
    assert costs["hardware"]["processor"] in costs_source(costs)
