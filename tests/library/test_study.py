"""A finished study's folder as an object."""

import polars as pl
import pytest

import vrp
from vrp.report.decision import decide, read_values
from vrp.report.evidence import gather_evidence
from vrp.study.study_folder import open_study_folder
from vrp.tables.parquet_files import read_table
from vrp.tables.signals import signal_table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(small_results):
    return vrp.Study(small_results)


def test_tables_are_lazy_and_those_of_the_readers(study, small_results):
    table = study.table("signals", "llava")
    assert isinstance(table, pl.LazyFrame)
    stored = read_table(small_results / "llava" / "signals.parquet", signal_table())
    assert table.collect().sort("item_id").equals(stored)
    assert study.table("signals").collect()["model"].unique().to_list() == ["llava"]
    assert study.table("items").collect().height == len(study.items) == 240
    assert {"items", "answers", "hidden", "signals", "metrics", "probes"} <= set(study.table_names)


def test_a_damaged_table_is_refused(small_results, tmp_path):
    import shutil

    folder = shutil.copytree(small_results, tmp_path / "small")
    path = folder / "llava" / "neurons.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(vrp.InputError, match=r"neurons\.parquet"):
        vrp.Study(folder).table("neurons", "llava")


def test_estimates_hold_signals_and_probes(study):
    found = study.auroc("llava")
    assert {"token_confidence", "linear_best"} <= set(found["predictor"])
    values = found["value"].drop_nulls().to_list()
    assert values == sorted(values, reverse=True)
    row = study.estimates.filter(
        predictor="token_confidence", scope="within_strata", metric="auroc"
    ).row(0, named=True)
    assert row["value"] == found.filter(predictor="token_confidence")["value"][0]


def test_best_signal_is_the_reports_decision(study, small_results):
    results = open_study_folder(small_results)
    evidence = gather_evidence(
        results, study="small", data_manifest=small_results / "data.json",
        sampling=small_results / "sampling.json",
    )  # fmt: skip
    decision = decide(evidence.models[0], read_values(results.models[0]))
    assert study.best_signal("llava") == decision.recommended


def test_figures_are_drawn(study):
    assert "auroc_by_signal" in study.figure_names
    figure = study.plot("auroc_by_signal")
    assert figure.axes


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.table("signls"), "did you mean 'signals'"),
        (lambda s: s.table("signals", "lava"), "did you mean 'llava'"),
        (lambda s: s.plot("auroc"), "unknown figure 'auroc'"),
        (lambda s: s.best_signal("x"), "unknown model 'x'"),
        (lambda s: s.item("x"), "has no item 'x'"),
        (lambda s: vrp.Study(s.folder.parent), r"config\.yaml"),
    ],
)
def test_names_that_are_not_there_are_refused(study, ask, message):
    with pytest.raises(vrp.InputError, match=message):
        ask(study)
