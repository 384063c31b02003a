"""A claim has one number: in the tables, the figures, the sentences, the page and the summary."""

import re

import polars as pl
import pytest
from described_data import write_described_data
from matplotlib.colors import to_hex
from synthetic_study import write_synthetic_study

from vrp.estimates.predictors import predictor_label
from vrp.plots.condition_style import CONDITION_COLOURS
from vrp.plots.figures import load_figures
from vrp.plots.style import house_style
from vrp.report.conclusions import four_conclusions
from vrp.report.evidence import gather_evidence
from vrp.report.evidence_tables import (
    differences_table,
    effects_table,
    glance_table,
    object_table,
    probes_table,
    signals_table,
    trace_table,
)
from vrp.report.numbers import decimal, percent, with_interval
from vrp.report.summary import study_summary
from vrp.signals.registry import ON_OBJECT
from vrp.tables.effects import EFFECTS
from vrp.tables.estimates import METRICS, OBJECT_AREA, OBJECT_EXCESS, PROBES, WITHIN_STRATA
from vrp.tables.trace import TRACE_EFFECTS

pytestmark = pytest.mark.slow

PREDICTORS = ("spatial_entropy", "self_consistency", "token_confidence", "linear_best")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    files = write_synthetic_study(folder / "tables", models=("alpha", "beta"))
    described = write_described_data(folder, files.items)
    return files.results(), described


@pytest.fixture(scope="module")
def evidence(results):
    study, described = results
    return gather_evidence(
        study, study="synthetic",
        data_manifest=described["data"], sampling=described["sampling"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def summary(evidence):
    conclusions = four_conclusions(evidence.models, evidence.between_models)
    return study_summary(evidence, [], conclusions, {}, provenance={})


@pytest.fixture(scope="module")
def drawn(results):
    """Name → the figure, laid out."""
    specs = {spec.name: spec for spec in load_figures()}
    figures = {}
    with house_style():
        for name in ("attention_on_object", "auroc_by_signal", "masking", "trace_by_layer"):
            figures[name] = specs[name].draw(results[0])
            figures[name].draw_without_rendering()
    return figures


def in_row(table, label):
    """All cells of the rows of a table that bear a name."""
    return [
        cell.text for row in table.rows if row[0].text == label for cell in row
    ] + [cell.detail for row in table.rows if row[0].text == label for cell in row]  # fmt: skip


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("place", [0, 1])
def test_an_auroc_is_one_number(results, evidence, summary, drawn, predictor, place):
    model = evidence.models[place]
    tables = results[0].models[place]
    rows = [
        row
        for schema in (METRICS, PROBES)
        for row in tables.table(schema)
        .filter(predictor=predictor, scope=WITHIN_STRATA, metric="auroc", layer=-1)
        .iter_rows(named=True)
    ]
    (row,) = rows
    number = model.auroc(predictor)
    assert (number.value, number.low, number.high) == (row["value"], row["low"], row["high"])
    stated = summary["models"][model.name]["auroc"][predictor][WITHIN_STRATA]
    assert stated["value"] == pytest.approx(row["value"], rel=1e-5)
    assert stated["low"] == pytest.approx(row["low"], rel=1e-5)
    label = predictor_label(predictor)
    by_model = signals_table if predictor != "linear_best" else probes_table
    assert decimal(row["value"], 3) in in_row(by_model(model), label)
    glance = [cells for cells in glance_table(evidence.models).rows if cells[1].text == model.name]
    assert decimal(row["value"], 3) in {cells[2].text for cells in glance}
    ax = drawn["auroc_by_signal"].axes[place]
    dots = {x for line in ax.lines if line.get_marker() == "o" for x in line.get_xdata()}
    assert row["value"] in dots


def test_the_sentences_quote_the_tables(evidence):
    """Every AUROC and effect of the four sentences is one that the tables hold, as printed."""
    known = set()
    for model in evidence.models:
        numbers = [
            number
            for (_, metric, scope, layer), number in {**model.metrics, **model.probes}.items()
            if metric == "auroc" and scope == WITHIN_STRATA and layer < 0
        ]
        known |= {with_interval(number) for number in numbers if number.defined}
        known.add(with_interval(model.beyond_output, signed=True))
        excess = model.metric(ON_OBJECT, OBJECT_EXCESS, "pooled")
        known.add(with_interval(excess, 1, scale=100, signed=True, unit=" pp"))
        known |= {
            with_interval(effect.effect, 1, signed=True, unit=" pp")
            for effect in model.effects.values()
        }
    quoted = [
        text
        for conclusion in four_conclusions(evidence.models)
        for text in re.findall(
            r"AUROC (\d\.\d\d \[[^]]*\])|([+−]?\d+\.\d pp \[[^]]*\])", conclusion.body
        )
    ]
    assert len(quoted) >= 8
    for pair in quoted:
        assert "".join(pair) in known


@pytest.mark.parametrize("place", [0, 1])
def test_an_effect_is_one_number(evidence, summary, drawn, place):
    model = evidence.models[place]
    gap = model.specificity("mask")
    stated = summary["models"][model.name]["interventions"]["mask"]["specificity"]
    assert stated["value"] == pytest.approx(gap.effect.value, rel=1e-5)
    printed = decimal(gap.effect.value, 1, signed=True) + " pp"
    cells = [cell.text for row in effects_table(model).rows for cell in row]
    assert printed in cells
    assert printed in [cell.text for row in glance_table(evidence.models).rows for cell in row]
    ax = drawn["masking"].axes[place]
    dots = [
        line.get_xdata()[0]
        for line in ax.lines
        if line.get_marker() == "o" and len(line.get_xdata()) == 1
    ]
    assert gap.effect.value in dots
    colours = {to_hex(line.get_color()).upper() for line in ax.lines}
    assert CONDITION_COLOURS["top"].upper() in colours


@pytest.mark.parametrize("place", [0, 1])
def test_attention_on_the_object_is_one_number(results, evidence, summary, drawn, place):
    model = evidence.models[place]
    rows = results[0].models[place].table(METRICS).filter(predictor=ON_OBJECT, scope="pooled")
    area = rows.filter(metric=OBJECT_AREA)["value"].item()
    excess = rows.filter(metric=OBJECT_EXCESS, layer=-1)["value"].item()
    stated = summary["models"][model.name][ON_OBJECT]
    assert stated[OBJECT_EXCESS]["value"] == pytest.approx(excess, rel=1e-5)
    assert stated[OBJECT_AREA]["value"] == pytest.approx(area, rel=1e-5)
    cells = in_row(object_table(evidence.models), model.name)
    assert decimal(100 * excess, 1, signed=True) + " pp" in cells
    assert decimal(100 * area, 1) + "%" in cells
    curve, line = drawn["attention_on_object"].axes[place].lines
    by_layer = rows.filter(metric=OBJECT_EXCESS).filter(pl.col("layer") >= 0).sort("layer")
    assert curve.get_ydata() == pytest.approx(by_layer["value"].to_numpy() + area)
    assert list(line.get_ydata()) == [area, area]
    # All layers weigh the same.
    assert by_layer["value"].mean() == pytest.approx(excess)


KINDS_DRAWN = (("knockout_image", 0, 0), ("knockout_text", 0, 1), ("patch", 1, 0))


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(("kind", "panel", "curve"), KINDS_DRAWN)
def test_a_traced_share_is_one_number(results, evidence, summary, drawn, place, kind, panel, curve):
    model = evidence.models[place]
    rows = results[0].table(TRACE_EFFECTS).filter(model=model.name, kind=kind).sort("layer")
    assert len(rows) == 6
    stated = summary["models"][model.name]["traces"][kind]
    assert [one["layer"] for one in stated] == rows["layer"].to_list()
    for one, row in zip(stated, rows.iter_rows(named=True), strict=True):
        for end, column in (("value", "share"), ("low", "low"), ("high", "high")):
            assert one["share"][end] == pytest.approx(row[column], rel=1e-5, nan_ok=True)
        cells = in_row(trace_table(model), str(row["layer"]))
        assert decimal(100 * row["share"], 1) + "%" in cells
        assert f"{row['n']:,}" in cells
        assert f"{row['n_groups']:,}" in cells
    panels = drawn["trace_by_layer"].axes
    lines = [line for line in panels[2 * panel + place].lines if len(line.get_xdata()) == 6]
    assert lines[curve].get_ydata() == pytest.approx(rows["share"].to_numpy())


def test_the_tracing_s_sentence_quotes_its_table(evidence):
    body = four_conclusions(evidence.models)[3].body
    for model in evidence.models:
        clause = body[body.index("shares of this contribution") :]
        clause = clause[clause.index(f"in {model.name}, ") :].split(";")[0]
        known = {
            percent(found.share): found for traces in model.traces.values() for found in traces
        }
        quoted = re.findall(r"\d+\.\d% \[[^]]*\]", clause)
        assert len(quoted) == 3
        for text in quoted:
            assert text in known
            assert str(known[text].first) in clause


def test_a_difference_between_models_is_one_number(results, evidence, summary):
    table = results[0].table(EFFECTS).filter(model="alpha - beta")
    # `random_10` is a share of the tokens of one intervention, and neurons of the other.
    rows = {(row["intervention"], row["condition"]): row for row in table.iter_rows(named=True)}
    stated = summary["differences_between_models"]
    assert {(one["intervention"], one["condition"]) for one in stated} == set(rows)
    for one in stated:
        row = rows[one["intervention"], one["condition"]]
        assert one["models"] == ["alpha", "beta"]
        for end, column in (("value", "effect"), ("low", "low"), ("high", "high")):
            assert one["difference"][end] == pytest.approx(row[column], rel=1e-5, nan_ok=True)
    of_name = {condition: row for (_, condition), row in rows.items()}
    shown = differences_table(evidence).rows
    assert len(shown) >= 4
    for cells in shown:
        row = of_name[cells[0].detail]
        assert cells[2].text == decimal(row["effect"], 1, signed=True) + " pp"
        assert cells[5].text == f"{row['n']:,}"
        assert cells[6].text == f"{row['n_groups']:,}"
