"""A signal and a figure of a user's own file show in tables, figures and report by themselves."""

import json
import runpy

import polars as pl
import pytest
from described_data import write_described_data
from page_text import text_of
from stage_jobs import run_job
from synthetic_study import CONDITION_SECTIONS, K, write_synthetic_study

from vrp.config.metrics import MetricsConfig
from vrp.config.report import ReportConfig
from vrp.errors import InputError
from vrp.plots import figures as known_figures
from vrp.plots.figures import figure_names, load_figures, register_figure
from vrp.signals.registry import SIGNALS
from vrp.stages import metrics
from vrp.tables.answers import ANSWERS
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.estimates import METRICS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.signals import signal_table

pytestmark = pytest.mark.slow

# The samples' own texts are stored, and no signal of the project reads them.
EXTENSION = """
from collections import Counter

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import entropy

from vrp.plots.figures import FigureSpec, register_figure
from vrp.signals.registry import Signal, register_signal
from vrp.tables.signals import signal_table


def sample_entropy(inputs):
    samples = inputs["consistency.normalised"]
    return np.array([entropy(list(Counter(answers).values())) for answers in samples])


register_signal(
    Signal(
        name="sample_entropy", label="entropy of the samples S_k", kind="behavioural",
        reliable_when="low", deployable=True, unit="nat",
        description="entropy of the distribution of K sampled answers",
        needs=("consistency.normalised",), compute=sample_entropy,
    )
)
ENTROPIES = signal_table().only("sample_entropy")


def draw(study):
    figure = Figure()
    figure.subplots().hist([model.table(ENTROPIES)["sample_entropy"] for model in study.models])
    figure.suptitle("How the samples spread")
    return figure


register_figure(
    FigureSpec(
        name="sample_spread", order=101, title="How the samples spread",
        caption="Entropy of the samples of every item.", tables=(ENTROPIES,), draw=draw,
    )
)
"""
LABEL = "entropy of the samples"


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """The extension's file, run once; what it registers is gone afterwards."""
    path = tmp_path_factory.mktemp("extension") / "my_study.py"
    path.write_text(EXTENSION)
    signals = dict(SIGNALS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_figures, "_REGISTERED", {})
        runpy.run_path(str(path))
        yield path
    SIGNALS.clear()
    SIGNALS.update(signals)


@pytest.fixture(scope="module")
def study(extended, tmp_path_factory):
    """A study whose samples agree where, and only where, the answer is right."""
    folder = tmp_path_factory.mktemp("study")
    study = write_synthetic_study(folder, models=("alpha",))
    [answers], [consistency] = study.tables["answers"], study.tables["consistency"]
    right = read_table(answers, ANSWERS)["correct"]
    samples = [["yes"] * K if correct else ["yes", "no"] * (K // 2) for correct in right]
    table = read_table(consistency, CONSISTENCY)
    table = table.with_columns(normalised=pl.Series(samples, dtype=pl.List(pl.String)))
    write_table(consistency, CONSISTENCY, table, provenance={"model": "alpha"})
    tables = (
        "answers", "attention", "lens", "consistency", "signals", "heads", "recipes", "metrics",
    )  # fmt: skip
    run_job(
        "metrics",
        {"items": study.items, **{name: study.tables[name] for name in tables}},
        seed=0,
        metrics=MetricsConfig(bootstrap=100, top_heads=(1, 5)),
        provenance={"model": "alpha"},
    )
    return study


@pytest.fixture(scope="module")
def drawn(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    some = [spec for spec in load_figures() if spec.name in ("sample_spread", "auroc_by_signal")]
    run_job(
        "figures",
        {
            "items": study.items,
            "effects": study.effects,
            **study.tables,
            "figures": [folder / f"{spec.name}.svg" for spec in some],
        },
        **CONDITION_SECTIONS,
    )
    return folder


def test_the_signal_is_a_column_and_is_judged(study):
    [signals], [estimates] = study.tables["signals"], study.tables["metrics"]
    entropies = (
        read_table(signals, signal_table())
        .group_by("correct")
        .agg(pl.col("sample_entropy").unique())
    )
    found = dict(entropies.iter_rows())
    assert found[True] == [0.0]
    assert found[False] == pytest.approx([0.693147])
    rows = read_table(estimates, METRICS).filter(predictor="sample_entropy", metric="auroc")
    assert set(rows["value"].fill_nan(None).drop_nulls()) == {1.0}
    assert {"within_strata", "macro", "pooled", "existence"} <= set(rows["scope"])


def test_figures_are_drawn_and_name_it(drawn):
    assert "sample_spread" in figure_names()
    assert "entropy of the samples" in (drawn / "auroc_by_signal.svg").read_text()
    assert "How the samples spread" in (drawn / "sample_spread.svg").read_text()


def test_the_report_shows_signal_cost_and_figure(study, drawn, tmp_path):
    run_job(
        "report",
        {
            **write_described_data(tmp_path, study.items),
            "items": study.items,
            "effects": study.effects,
            **study.tables,
            "figures": sorted(drawn.iterdir()),
            "summary": tmp_path / "s.json",
            "report": tmp_path / "r.html",
        },
        report=ReportConfig(overlays=0),
        **CONDITION_SECTIONS,
    )
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["models"]["alpha"]["auroc"]["sample_entropy"]["within_strata"]["value"] == 1.0
    page = (tmp_path / "r.html").read_text()
    words = text_of(page)
    costs = words[words.index("Cost of each signal") :]
    of_samples = [
        name for name, signal in SIGNALS.items()
        if signal.deployable and any(need.startswith("consistency") for need in signal.needs)
    ]  # fmt: skip
    assert "sample_entropy" in of_samples
    more = f"self-consistency S SC , expected S SC , exact, {len(of_samples) - 2} more signals"
    assert f"sample K answers per item from one prefill {more}" in costs
    assert f"{LABEL} <i>S</i><sub>k</sub>" in page
    assert "Entropy of the samples of every item." in words
    assert words.index("Figure 1. AUROC within strata") < words.index(
        "Figure 2. Entropy of the samples"
    )


def test_a_column_that_there_is_not_is_one_clear_line(extended, study, monkeypatch):
    wrong = SIGNALS["sample_entropy"]
    monkeypatch.setitem(
        SIGNALS, "sample_entropy", type(wrong)(**{**vars(wrong), "needs": ("consistency.normal",)})
    )
    with pytest.raises(
        InputError,
        match=r"signal 'sample_entropy': unknown column 'consistency.normal'; did you mean "
        r"'consistency.normalised'\?",
    ):
        metrics._schemas_to_read()


def test_a_name_that_is_taken_is_refused(extended):
    with pytest.raises(InputError, match="signal 'sample_entropy' exists already"):
        runpy.run_path(str(extended))
    for figure in load_figures():
        with pytest.raises(InputError, match=f"figure '{figure.name}' exists already"):
            register_figure(figure)
