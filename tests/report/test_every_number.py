"""Every estimate on the page, in the summary and beside the figures is one that the tables give.

An estimate is a value with its interval, so that none is met by chance.
"""

import json
import math
import re

import numpy as np
import polars as pl
import pytest
from page_text import text_of
from study_tables import study_tables
from written_report import write_synthetic_report

from vrp.estimates.reported import ReportedEstimate, plain
from vrp.findings.contrasts import beyond_output, probe_contrasts
from vrp.findings.published_numbers import PUBLISHED
from vrp.plots.figures import figure_names
from vrp.report.consistency_table import mean_difference
from vrp.report.numbers import decimal
from vrp.report.pooled import pooled_over_models
from vrp.stats.clusters import numbered
from vrp.stats.proportion import clustered_share
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table

pytestmark = pytest.mark.slow

MODELS = ("alpha", "beta")

# Figures that show items, or curves over them, rather than rows of a table of estimates; what
# they show is checked figure by figure in tests/plots.
OF_ITEMS = {
    "attention_on_object", "calibration", "contributions", "dose_curve",
    "entropy_by_layer", "head_map", "interaction_forest", "lens_margins", "residual_update",
    "risk_coverage", "roc", "sampled_and_exact", "self_consistency", "signal_densities",
    "sparse_neurons",
}  # fmt: skip
# Columns of tables that hold an estimate: its value and the ends of its interval.
COLUMNS = (
    ("value", "low", "high"), ("effect", "low", "high"), ("share", "low", "high"),
    ("auroc", "low", "high"), ("margin", "margin_low", "margin_high"),
    ("to_blank", "to_blank_low", "to_blank_high"),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers") / "study"
    write_synthetic_report(folder, models=MODELS, figures=figure_names())
    return folder


@pytest.fixture(scope="module")
def estimates(folder):
    """(value, low, high) of every row of every table of estimates, and of what the report works
    out from tables of items by one call of a function that has tests of its own."""
    found = set()
    for _, frame in study_tables(folder).values():
        for columns in COLUMNS:
            if set(columns) <= set(frame.columns):
                found |= set(frame.select(columns).drop_nulls().iter_rows())
    found |= {(one.value, one.low, one.high) for one in _worked_out(folder)}
    return {row for row in found if all(math.isfinite(number) for number in row)}


def _worked_out(folder):
    items = read_table(folder / "items.parquet", ITEMS).select("item_id", "group")
    signals = {}
    for model in MODELS:
        signals[model] = read_table(folder / model / "signals.parquet", signal_table())
        predictions = read_table(folder / model / "predictions.parquet", PREDICTIONS)
        yield from probe_contrasts(signals[model], predictions).values()
        yield beyond_output(signals[model], predictions, margin=0.05)
        consistency = read_table(folder / model / "consistency.parquet", CONSISTENCY)
        yield mean_difference(consistency.join(items, on="item_id"))
        low, high = (consistency[f"expected_consistency_{end}"].mean() for end in ("low", "high"))
        yield ReportedEstimate((low + high) / 2, low, high)
    yield from pooled_over_models(signals).values()


ESTIMATE = re.compile(r"([+−]?\d+(?:\.\d+)?)(?: ?%| pp)? \[(−?\d+(?:\.\d+)?), (−?\d+(?:\.\d+)?)\]")


def printed(estimates):
    """How an estimate may stand on the page: as it is or in percent, with one to four decimals,
    bounds with one more than the value where they are close."""
    return {
        tuple(decimal(scale * number, n) for number, n in zip(row, digits, strict=True))
        for row in estimates
        for scale in (1, 100)
        for digits in ((1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4), (3, 4, 4))
    }


def test_the_page(folder, estimates):
    words = text_of((folder / "report.html").read_text(encoding="utf-8"))
    shown = {tuple(part.lstrip("+") for part in found) for found in ESTIMATE.findall(words)}
    published = {
        (one.text.rstrip("%"), *one.detail.strip("[]").split(", "))
        for one in PUBLISHED
        if one.detail.startswith("[")
    }
    assert len(shown) > 300
    assert sorted(shown - printed(estimates) - published) == []


def walked(value, path=""):
    """Every estimate of plain data, with where it is."""
    if isinstance(value, dict):
        if {"value", "low", "high"} <= set(value):
            yield path, value
        for key, inner in value.items():
            yield from walked(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from walked(inner, f"{path}/{index}")


def test_the_summary(folder, estimates):
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    known = {tuple(plain(number) for number in row) for row in estimates}
    ends = ("value", "low", "high")
    found = {path: tuple(one[end] for end in ends) for path, one in walked(summary)}
    whole = {path: row for path, row in found.items() if None not in row and "fifths" not in path}
    assert len(whole) > 300
    assert [path for path, row in whole.items() if row not in known] == []


@pytest.mark.parametrize("model", MODELS)
def test_accuracy_by_confidence(folder, model):
    """Every fifth is a share of its items, clustered by image, and all items are in one."""
    decision = json.loads((folder / "summary.json").read_text())["decisions"][model]
    table = read_table(folder / model / "signals.parquet", signal_table())
    predictions = read_table(folder / model / "predictions.parquet", PREDICTIONS)
    if decision["signal"] in table.columns:
        scores = table.select("correct", "group", score=decision["signal"])
    else:
        of_probe = predictions.filter(probe=decision["signal"]).join(table, on="item_id")
        scores = of_probe.select("correct", "group", "score")
    scores = scores.drop_nulls().drop_nans().sort("score", maintain_order=True)
    sign = 1 if decision["larger_is_surer"] else -1
    ranked = scores[::sign]
    fifths = [ranked[part] for part in np.array_split(np.arange(len(ranked)), 5)]
    assert [one["n"] for one in decision["fifths"]] == [len(part) for part in fifths]
    for one, part in zip(decision["fifths"], fifths, strict=True):
        codes, n_images = numbered(part["group"].to_numpy())
        share = clustered_share(part["correct"].to_numpy(), codes, n_images=n_images)
        assert one["n_groups"] == n_images
        assert (one["value"], one["low"], one["high"]) == pytest.approx(
            (share.value, share.low, share.high), abs=1e-5
        )
    reached = sign * scores["score"].to_numpy() >= sign * decision["threshold_for_80"] - 1e-4
    assert reached.mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("name", sorted(set(figure_names()) - OF_ITEMS))
def test_the_numbers_beside_a_figure(folder, estimates, name):
    path = folder / "figures" / f"{name}.csv"
    if not path.exists():
        pytest.skip("no numbers beside it")
    rows = pl.read_csv(path, infer_schema_length=None).drop_nulls(["value", "low", "high"])
    shown = {_digits(row, 1) for row in rows.select("value", "low", "high").iter_rows()}
    known = {_digits(row, scale) for row in estimates for scale in (1, 100)}
    known.add(_digits((0.0, 0.0, 0.0), 1))  # what is not moved has not changed, by definition
    assert shown
    assert sorted(shown - known) == []


def _digits(row, scale):
    return tuple(f"{scale * number + 0.0:.9g}" for number in row)  # no negative zero
